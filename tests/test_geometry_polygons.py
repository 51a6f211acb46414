from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from roadrisk.geometry.polygons import covered_shares, split_polygons
from roadrisk.grid import FloatArray, Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_shape, grid_of_zoom

BOX = LngLatBbox(-71.2, 42.3, -71.15, 42.33)
GRIDS = [
    grid_of_cell(BOX, 500),
    grid_of_zoom(BOX, 15),
    grid_of_shape(BOX, 5, 7),
    # sides that are no whole number of anything, so that grid lines come out a hair beside themselves
    grid_of_cell(LngLatBbox(-71.2, 42.3, -71.196, 42.303), 37.3),
    grid_of_shape(LngLatBbox(24.0, 84.9, 24.4, 84.95), 7, 9),
]

# in cells from the window's north-west corner: on grid lines, on corners, between, far outside
coordinate = st.one_of(
    st.floats(-3, 12), st.integers(-3, 12).map(float), st.integers(-192, 768).map(lambda n: n / 64)
)
ring = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=8)


@st.composite
def polygons(draw: Any) -> Any:
    """Valid polygons or multi-polygons in cells, with holes, slivers and some bigger than any grid."""
    shape, hole, island = (shapely.make_valid(shapely.Polygon(draw(ring)), method="structure") for _ in "abc")
    if draw(st.booleans()):
        shape = shapely.union(shape, shapely.box(-30, -30, 40, draw(coordinate)))
    if draw(st.booleans()):
        shape = shapely.difference(shape, hole)
    if draw(st.booleans()):
        shape = shapely.union(shape, island)
    return shapely.make_valid(shape, method="structure", keep_collapsed=False)


def placed(grid: Grid, shapes: list[Any]) -> Any:
    left, _, _, top = grid.bounds
    moved = shapely.transform(
        np.array(shapes, dtype=object), lambda uv: (left, top) + uv * (grid.cell, -grid.cell)
    )
    # rounding a coordinate of a sliver may cross its edges
    return moved[(np.isin(shapely.get_type_id(moved), (3, 6))) & shapely.is_valid(moved)]


def areas(grid: Grid, geometry: Any) -> FloatArray:
    """(polygons, size) areas of the pieces."""
    pieces = split_polygons(grid, geometry)
    tile = pieces.row * grid.cols + pieces.col
    sums = np.zeros((len(geometry), grid.size))
    np.add.at(sums, (pieces.polygon, tile), pieces.area)
    assert np.count_nonzero(sums) == len(pieces.area), "a piece comes once"
    return sums


@settings(max_examples=100)
@given(st.sampled_from(GRIDS), st.lists(polygons(), max_size=4))
def test_tiles_hold_what_shapely_cuts_out(grid: Grid, shapes: list[Any]) -> None:
    geometry = placed(grid, shapes)
    cells = grid.cells(*grid.every_tile())
    expected = shapely.area(shapely.intersection(geometry[:, None], cells[None, :]))
    np.testing.assert_allclose(areas(grid, geometry), expected, rtol=1e-9, atol=1e-9 * grid.cell**2)


@settings(max_examples=100)
@given(st.sampled_from(GRIDS), st.lists(polygons(), max_size=4))
def test_area_in_the_grid_is_conserved(grid: Grid, shapes: list[Any]) -> None:
    geometry = placed(grid, shapes)
    expected = shapely.area(shapely.intersection(geometry, shapely.box(*grid.bounds)))
    # coordinates are exact to some 1e-9 m, so a sliver's area is to that times its length
    np.testing.assert_allclose(
        areas(grid, geometry).sum(axis=1), expected, rtol=1e-9, atol=1e-9 * 40 * grid.cell
    )


@settings(max_examples=50)
@given(st.sampled_from(GRIDS), st.lists(polygons(), max_size=4), st.randoms())
def test_order_direction_and_first_vertex_change_nothing(grid: Grid, shapes: list[Any], random: Any) -> None:
    geometry = placed(grid, shapes)
    order = random.sample(range(len(geometry)), len(geometry))
    other = shapely.reverse(shapely.normalize(geometry[order]))
    np.testing.assert_allclose(
        areas(grid, other), areas(grid, geometry)[order], rtol=1e-9, atol=1e-9 * grid.cell
    )


@settings(max_examples=50)
@given(st.sampled_from(GRIDS), st.lists(polygons(), max_size=3), st.sampled_from([2, 4]))
def test_coarser_tiles_hold_the_same_area(grid: Grid, shapes: list[Any], factor: int) -> None:
    # the coarser window is wider, so only what lies inside the finer one can be compared
    geometry = shapely.intersection(placed(grid, shapes), shapely.box(*grid.bounds))
    coarse = grid.coarser(factor)
    rows, cols = grid.parents(*grid.every_tile(), factor)
    fine = areas(grid, geometry)
    joined = np.array([np.bincount(rows * coarse.cols + cols, one, minlength=coarse.size) for one in fine])
    np.testing.assert_allclose(
        areas(coarse, geometry), joined.reshape(len(geometry), coarse.size), atol=1e-8 * grid.cell, rtol=1e-9
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_a_tile_is_itself_and_no_neighbour(grid: Grid) -> None:
    cells = grid.cells(*grid.every_tile())
    pieces = split_polygons(grid, cells)
    assert pieces.polygon.tolist() == list(range(grid.size))
    assert (pieces.row * grid.cols + pieces.col).tolist() == list(range(grid.size))
    np.testing.assert_allclose(pieces.area, grid.cell**2, rtol=1e-10)


def test_tiles_wholly_inside_have_exactly_their_area() -> None:
    grid = GRIDS[0]
    left, bottom, right, top = grid.bounds
    circle = shapely.Point((left + right) / 2, (bottom + top) / 2).buffer((right - left) / 2, quad_segs=100)
    inside = shapely.contains_properly(circle, grid.cells(*grid.every_tile()))
    assert inside.any()
    shares = covered_shares(grid, split_polygons(grid, np.array([circle])))
    assert set(shares[inside]) == {1.0}
    assert (shares <= 1).all()


def test_nothing_makes_no_pieces() -> None:
    for geometry in ([], [None], [shapely.Polygon()], [shapely.box(0, 0, 1, 1)]):
        assert len(split_polygons(GRIDS[0], np.array(geometry, dtype=object)).area) == 0


def test_batches_of_polygons_are_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = GRIDS[0]
    left, bottom, right, top = grid.bounds
    rng = np.random.default_rng(0)
    centres = shapely.points(rng.uniform(left, right, 50), rng.uniform(bottom, top, 50))
    circles = shapely.buffer(centres, rng.uniform(10, 2000, 50))
    whole = areas(grid, circles)
    monkeypatch.setattr("roadrisk.geometry.polygons._AT_ONCE", 40)
    np.testing.assert_array_equal(areas(grid, circles), whole)


def test_tracts_of_boston_agree_with_shapely(shared_data: Path) -> None:
    tracts = geopandas.read_file(shared_data / "boston/areas/boston_census_tracts.geojson")
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 500)
    geometry = tracts.to_crs(grid.crs).geometry.to_numpy()
    cells = grid.cells(*grid.every_tile())
    polygon, tile = shapely.STRtree(cells).query(geometry, predicate="intersects")
    expected = shapely.area(shapely.intersection(geometry[polygon], cells[tile]))
    order = np.lexsort((tile, polygon))
    order = order[expected[order] > 1e-6]
    pieces = split_polygons(grid, geometry)
    np.testing.assert_array_equal(pieces.polygon, polygon[order])
    np.testing.assert_array_equal(pieces.row * grid.cols + pieces.col, tile[order])
    np.testing.assert_allclose(pieces.area, expected[order], rtol=1e-9, atol=1e-5)
