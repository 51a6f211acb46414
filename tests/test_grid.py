"""The grid: arithmetic that agrees with mercantile and pyproj, edges and corners included."""

from __future__ import annotations

import math
from dataclasses import replace

import mercantile
import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from roadrisk.errors import GridError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import (
    checked_bbox,
    checked_tile_size,
    grid_of_cell,
    grid_of_shape,
    grid_of_zoom,
    tiles_in,
)

DES_MOINES = LngLatBbox(-93.7, 41.5, -93.5, 41.7)
zooms = st.integers(0, 22)
longitudes = st.floats(-180, 180, exclude_max=True)
latitudes = st.floats(-85, 85)


@st.composite
def xyz_tiles(draw: st.DrawFn) -> mercantile.Tile:
    z = draw(zooms)
    return mercantile.Tile(draw(st.integers(0, 2**z - 1)), draw(st.integers(0, 2**z - 1)), z)


def grid_around(tile: mercantile.Tile, reach: int = 3) -> Grid:
    """A window of XYZ tiles with `tile` inside."""
    world = 2**tile.z
    x0, y0 = max(0, tile.x - reach), max(0, tile.y - reach)
    lattice = grid_of_zoom(LngLatBbox(-1e-6, -1e-6, 1e-6, 1e-6), tile.z)
    return replace(
        lattice,
        x0=x0,
        y0=y0,
        rows=min(world, tile.y + reach + 1) - y0,
        cols=min(world, tile.x + reach + 1) - x0,
    )


@given(xyz_tiles())
def test_xyz_bounds_are_mercantiles(tile: mercantile.Tile) -> None:
    grid = grid_around(tile)
    ours, theirs = grid.tile_bounds(tile.y - grid.y0, tile.x - grid.x0), mercantile.xy_bounds(tile)
    assert (ours.left, ours.top) == (theirs.left, theirs.top)
    # mercantile adds a tile to its left edge, so its shared edges differ in the last bit; ours do not
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)


@given(xyz_tiles(), st.floats(0, 1), st.floats(0, 1))
def test_a_point_is_in_the_tile_that_mercantile_says(tile: mercantile.Tile, fx: float, fy: float) -> None:
    west, south, east, north = mercantile.bounds(tile)
    lng, lat = west + fx * (east - west), south + fy * (north - south)
    assume(abs(lat) < 85.0511)
    expected = mercantile.tile(lng, lat, tile.z)
    # a hair west of longitude 180 mercantile names a tile east of the world
    expected = expected._replace(x=min(expected.x, 2**tile.z - 1), y=min(expected.y, 2**tile.z - 1))
    grid = grid_around(expected)
    row, col = grid.locate_lnglat([lng], [lat])
    assert grid.tile_id(row[0], col[0]) == f"{expected.z}/{expected.x}/{expected.y}"


@given(xyz_tiles())
def test_all_four_corners_and_the_edges_go_where_mercantile_puts_them(tile: mercantile.Tile) -> None:
    grid = grid_around(tile)
    west, south, east, north = mercantile.bounds(tile)
    points = [(x, y) for x in (west, (west + east) / 2, east) for y in (south, (south + north) / 2, north)]
    for lng, lat in points:
        expected = mercantile.tile(lng, lat, tile.z)
        row, col = grid.locate_lnglat([lng], [lat])
        x, y = mercantile.xy(lng, lat)
        row_xy, col_xy = grid.locate([x], [y])
        for r, c in ((row[0], col[0]), (row_xy[0], col_xy[0])):
            assert (grid.x0 + c, grid.y0 + r) == (expected.x, expected.y)


@given(longitudes, latitudes, st.floats(0.001, 20), st.floats(0.001, 10), zooms)
def test_a_box_has_the_tiles_that_mercantile_lists(
    lng: float, lat: float, w: float, h: float, zoom: int
) -> None:
    east, north = min(lng + w, 180.0), min(lat + h, 85.0)
    assume(east - lng > 1e-9 and north - lat > 1e-9)  # mercantile lists nothing below 1e-11 degrees
    span = 2**zoom / 360
    assume((east - lng) * span * (north - lat) * span < 2000)
    grid = grid_of_zoom(LngLatBbox(lng, lat, east, north), zoom)
    ids = {f"{t.z}/{t.x}/{t.y}" for t in mercantile.tiles(lng, lat, east, north, zoom)}
    assert set(grid.tile_ids(*grid.every_tile())) == ids


@given(
    st.integers(-20000, 20000),
    st.integers(-20000, 20000),
    st.sampled_from([10.0, 30.0, 100.0, 250.0, 0.1, 1 / 3, 333.3]),
)
def test_a_cells_corner_belongs_to_the_tile_right_of_and_below_it(e: int, n: int, cell: float) -> None:
    grid = Grid("cell", "EPSG:32615", 0.0, 0.0, cell, e - 2, -n - 2, 5, 5)
    row, col = grid.locate([e * cell], [n * cell])
    assert (grid.x0 + col[0], grid.y0 + row[0]) == (e, -n)


@given(st.floats(-179, 178), st.floats(-79, 78), st.sampled_from([100.0, 250.0, 1000.0]))
def test_two_boxes_agree_on_every_id_they_share(lng: float, lat: float, cell: float) -> None:
    big = grid_of_cell(LngLatBbox(lng, lat, lng + 0.2, lat + 0.2), cell)
    inner = LngLatBbox(lng + 0.05, lat + 0.05, lng + 0.1, lat + 0.1)
    small = grid_of_cell(inner, cell, big.crs)
    x = np.linspace(inner.west, inner.east, 7)
    y = np.linspace(inner.south, inner.north, 7)
    ids_big = big.tile_ids(*big.locate_lnglat(x, y))
    ids_small = small.tile_ids(*small.locate_lnglat(x, y))
    assert ids_big.tolist() == ids_small.tolist()


grids = st.one_of(
    st.builds(lambda z: grid_of_zoom(DES_MOINES, z), st.integers(8, 15)),
    st.builds(lambda c: grid_of_cell(DES_MOINES, c), st.floats(200, 3000)),
    st.builds(lambda r, c: grid_of_shape(DES_MOINES, r, c), st.integers(1, 9), st.integers(1, 9)),
)


@given(grids)
def test_the_window_covers_the_box(grid: Grid) -> None:
    lng = np.linspace(DES_MOINES.west, DES_MOINES.east, 50)
    lat = np.linspace(DES_MOINES.south, DES_MOINES.north, 50)
    edge = 1e-9 if grid.scheme == "shape" else 1e-10
    inside_lng = np.clip(lng, DES_MOINES.west + edge, DES_MOINES.east - edge)
    inside_lat = np.clip(lat, DES_MOINES.south + edge, DES_MOINES.north - edge)
    for x, y in (
        (inside_lng, np.full(50, inside_lat[0])),
        (inside_lng, np.full(50, inside_lat[-1])),
        (np.full(50, inside_lng[0]), inside_lat),
        (np.full(50, inside_lng[-1]), inside_lat),
    ):
        row, _ = grid.locate_lnglat(x, y)
        assert (row >= 0).all()


@given(grids, st.integers(0, 2**31))
def test_point_to_tile_agrees_with_its_polygon(grid: Grid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, bottom, right, top = grid.bounds
    x, y = rng.uniform(left, right, 20), rng.uniform(bottom, top, 20)
    rows, cols = grid.locate(x, y)
    assert shapely.contains_xy(grid.cells(rows, cols), x, y).all()


@given(grids, st.sampled_from([1, 2, 4]))
def test_coarser_tiles_hold_exactly_their_children(grid: Grid, factor: int) -> None:
    rows, cols = grid.every_tile()
    coarse = grid.coarser(factor)
    parent_rows, parent_cols = grid.parents(rows, cols, factor)
    x, y = grid.centres(rows, cols)
    assert [a.tolist() for a in coarse.locate(x, y)] == [parent_rows.tolist(), parent_cols.tolist()]
    counts = np.bincount(parent_rows * coarse.cols + parent_cols, minlength=coarse.size)
    assert counts.sum() == grid.size
    if grid.scheme == "zoom" and factor == 2:
        tile = mercantile.Tile(int(grid.x0), int(grid.y0), grid.zoom_level)
        parent = mercantile.parent(tile)
        assert coarse.tile_id(0, 0) == f"{parent.z}/{parent.x}/{parent.y}"


@given(grids)
def test_parts_hold_every_tile_once(grid: Grid) -> None:
    for tile_size in (64, 256, 1024):
        seen = np.zeros(grid.shape, dtype=int)
        for part in grid.parts(tile_size):
            assert max(part.rows, part.cols) <= 4096 // tile_size
            seen[part.row : part.row + part.rows, part.col : part.col + part.cols] += 1
        assert (seen == 1).all()


@given(grids)
def test_areas_are_ground_areas(grid: Grid) -> None:
    rows, cols = np.array([0, grid.rows - 1]), np.array([0, grid.cols - 1])
    geod = Geod(ellps="WGS84")
    true = [
        abs(geod.geometry_area_perimeter(shapely.segmentize(p, 0.001))[0]) / 1e6
        for p in grid.cells(rows, cols, "EPSG:4326")
    ]
    np.testing.assert_allclose(grid.area_km2(rows, cols), true, rtol=2e-3)


def test_neighbours_agree_with_mercantile() -> None:
    grid = grid_of_zoom(DES_MOINES, 14)
    tile = mercantile.Tile(grid.x0 + 4, grid.y0 + 5, 14)
    expected = {(t.y - grid.y0, t.x - grid.x0) for t in mercantile.neighbors(tile)}
    assert set(grid.neighbours(5, 4)) == expected
    assert len(grid.neighbours(0, 0, reach=2)) == 8


@pytest.mark.parametrize("cell", [250.0, 50_000.0])
def test_polygons_in_degrees_follow_the_true_edge(cell: float) -> None:
    grid = grid_of_cell(LngLatBbox(-96, 41, -91, 43), cell)
    rows, cols = np.array([0]), np.array([grid.cols - 1])
    polygon = grid.cells(rows, cols, "EPSG:4326")[0]
    assert polygon.exterior.is_ccw
    left, bottom, right, top = grid.tile_bounds(0, grid.cols - 1)
    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform
    t = np.linspace(0, 1, 1001)
    for x, y in ((left + t * (right - left), 0 * t + top), (0 * t + left, bottom + t * (top - bottom))):
        points = shapely.points(*to_degrees(x, y))
        assert shapely.distance(points, polygon.exterior).max() < 2e-7


def test_polygons_of_xyz_tiles_need_no_extra_corner() -> None:
    grid = grid_of_zoom(DES_MOINES, 12)
    polygon = grid.cells(np.array([0]), np.array([0]), "EPSG:4326")[0]
    tile = mercantile.Tile(grid.x0, grid.y0, 12)
    assert len(polygon.exterior.coords) == 5
    np.testing.assert_allclose(polygon.bounds, tuple(mercantile.bounds(tile)), atol=1e-9)


def test_utm_zone_of_the_boxs_centre() -> None:
    assert grid_of_cell(DES_MOINES, 250).crs == "EPSG:32615"
    assert grid_of_cell(LngLatBbox(151, -34, 151.2, -33.8), 250).crs == "EPSG:32756"
    assert grid_of_cell(DES_MOINES, 250).tile_id(0, 0).startswith("32615/250/")
    assert grid_of_shape(DES_MOINES, 4, 4).tile_id(3, 0) == "r03c00"


def test_tiles_in_counts_centres_inside_the_box() -> None:
    grid = grid_of_shape(LngLatBbox(0, 0, 1, 1), 4, 4, "EPSG:3857")
    assert tiles_in(grid, LngLatBbox(0, 0, 1, 1)) == 16
    assert tiles_in(grid, LngLatBbox(0, 0, 0.5, 0.5)) == 4


def test_points_outside_and_not_finite_have_no_tile() -> None:
    grid = grid_of_cell(DES_MOINES, 250)
    rows, cols = grid.locate([math.nan, math.inf, grid.bounds.right], [0, 0, grid.bounds.top])
    assert rows.tolist() == cols.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: checked_bbox([-93.5, 41.5, -93.7, 41.7]),
            "--bbox -93.5 41.5 -93.7 41.7 has west right of east; the order is W S E N",
        ),
        (
            lambda: checked_bbox([-93.7, 41.7, -93.5, 41.5]),
            "--bbox -93.7 41.7 -93.5 41.5 has south above north; the order is W S E N",
        ),
        (
            lambda: checked_bbox([41.5, -93.7, 41.7, -93.5]),
            "--bbox 41.5 -93.7 41.7 -93.5 is outside the world, -180 -90 180 90; "
            "latitude and longitude look swapped: the order is W S E N",
        ),
        (
            lambda: checked_bbox([-200, 0, 10, 10]),
            "--bbox -200 0 10 10 is outside the world, -180 -90 180 90",
        ),
        (
            lambda: checked_bbox([170, 0, -170, 10]),
            "--bbox 170 0 -170 10 crosses the antimeridian; cut it in two at longitude 180 and make a dataset of each",
        ),
        (
            lambda: checked_bbox([170, 0, 190, 10]),
            "--bbox 170 0 190 10 crosses the antimeridian; cut it in two at longitude 180 and make a dataset of each",
        ),
        (lambda: checked_bbox([1, 1, 1, 2]), "--bbox 1 1 1 2 is empty: it has no width or no height"),
        (lambda: checked_bbox([1, math.nan, 2, 2]), "--bbox 1 nan 2 2 has a number that is not finite"),
        (
            lambda: grid_of_zoom(LngLatBbox(0, 80, 1, 86), 10),
            "latitude 86 is beyond the Web Mercator limit of 85.0511; use --cell with a polar --crs",
        ),
        (
            lambda: grid_of_zoom(LngLatBbox(-10, -10, 10, 10), 20),
            "58,554 x 58,256 = 3,411,121,824 tiles; the most is 50,000,000: use a smaller box or larger tiles",
        ),
        (lambda: grid_of_zoom(DES_MOINES, 25), "zoom 25 is not between 0 and 24"),
        (
            lambda: checked_tile_size(200),
            "a tile size of 200 px is not a multiple of 16 from 64 to 1024; the nearest are 192 and 208",
        ),
        (
            lambda: checked_tile_size(2000),
            "a tile size of 2000 px is not a multiple of 16 from 64 to 1024; the nearest are 1008 and 1024",
        ),
        (
            lambda: grid_of_cell(DES_MOINES, 250, "EPSG:4326"),
            "--crs EPSG:4326 is not in metres; use a projected one such as the UTM zone (leave --crs out)",
        ),
        (
            lambda: grid_of_cell(DES_MOINES, 250, "EPSG:999999"),
            "--crs EPSG:999999 is not a CRS that PROJ knows; write it as EPSG:32615",
        ),
        (
            lambda: grid_of_cell(DES_MOINES, 0),
            "a cell of 0 metres makes no tiles; give --cell a length above 0",
        ),
        (
            lambda: grid_of_shape(DES_MOINES, 0, 4),
            "a shape of 0x4 makes no tiles; give --shape two numbers above 0, as in 4x4",
        ),
        (
            lambda: grid_of_zoom(DES_MOINES, 12).coarser(3),
            "zoom 12 has no parents 3 times as wide; use a power of two up to 4096",
        ),
    ],
)
def test_bad_grids_say_what_where_and_what_to_do(make: object, message: str) -> None:
    with pytest.raises(GridError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == message
