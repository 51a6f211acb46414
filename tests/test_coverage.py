from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from roadrisk.errors import SourceError
from roadrisk.geometry.closing import closed_share, marked, raster_of
from roadrisk.geometry.polygons import share_inside
from roadrisk.grid import FloatArray, Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.source_settings import Coverage, EventSource, LineSource, TableSource
from roadrisk.sources.coverage import COVERED, read_coverage, read_outline

BOX = LngLatBbox(-71.25, 42.25, -71.1, 42.35)
GRID = grid_of_cell(BOX, 250)
LEFT, BOTTOM, RIGHT, TOP = GRID.bounds
X, Y = (LEFT + RIGHT) / 2, (BOTTOM + TOP) / 2


def streets(region: Any, step: float, grid: Grid = GRID) -> list[Any]:
    """Streets every `step` metres, both ways, as far as they lie in a region."""
    left, bottom, right, top = region.bounds
    ways = [shapely.LineString([(x, bottom), (x, top)]) for x in np.arange(left, right + 1, step)]
    ways += [shapely.LineString([(left, y), (right, y)]) for y in np.arange(bottom, top + 1, step)]
    cut = shapely.get_parts(shapely.intersection(ways, region))
    return [one for one in cut if one.length > 0]


def share_of(geometry: list[Any], reach_m: float = 500, group: list[int] | None = None) -> FloatArray:
    raster = raster_of(GRID, reach_m)
    groups = np.zeros(len(geometry), dtype=np.int64) if group is None else np.array(group)
    return closed_share(raster, marked(raster, np.array(geometry, dtype=object), groups))


def inside(region: Any, margin: float = 0) -> Any:
    """(size,) whether tiles lie in a region, `margin` metres from its border."""
    return shapely.contains(region.buffer(-margin), GRID.cells(*GRID.every_tile()))


def outside(region: Any, margin: float = 0) -> Any:
    return shapely.disjoint(region.buffer(margin), GRID.cells(*GRID.every_tile()))


def test_streets_speak_for_the_blocks_between_them() -> None:
    for region in (shapely.box(X - 2000, Y - 1500, X + 2000, Y + 1500), shapely.Point(X, Y).buffer(2500)):
        share = share_of(streets(region, 400))
        assert (share[inside(region, 100)] == 1).all()
        assert (share[outside(region, 100)] == 0).all()
        covered = (share >= COVERED).sum() * 0.25**2
        np.testing.assert_allclose(covered, region.area / 1e6, rtol=0.1)


def test_closing_is_that_of_a_buffer_and_back() -> None:
    fine = grid_of_cell(LngLatBbox(-71.19, 42.29, -71.16, 42.31), 50)
    left, bottom, right, top = fine.bounds
    angle = np.linspace(0, 2 * np.pi, 9)[:-1]
    spokes = np.stack([np.sin(angle), np.cos(angle)], axis=-1)[:, None] * [[250], [1000]]
    star = shapely.linestrings(np.add(spokes, ((left + right) / 2, (bottom + top) / 2)))
    raster = raster_of(fine, 400)
    share = closed_share(raster, marked(raster, star, np.zeros(len(star), dtype=np.int64)))
    closed = shapely.union_all(star).buffer(400, quad_segs=64).buffer(-400, quad_segs=64)
    cells = fine.cells(*fine.every_tile())
    assert (share[shapely.contains(closed.buffer(-20), cells)] == 1).all()
    assert (share[shapely.disjoint(closed.buffer(20), cells)] == 0).all()
    assert 0.05 < share.mean() < 0.9


def test_points_speak_like_streets() -> None:
    region = shapely.box(X - 2000, Y - 1500, X + 2000, Y + 1500)
    xs, ys = np.meshgrid(np.arange(X - 2000, X + 2001, 200), np.arange(Y - 1500, Y + 1501, 200))
    points = [
        *shapely.points(xs.ravel()[:9], ys.ravel()[:9]),
        shapely.MultiPoint(np.stack([xs, ys], -1).reshape(-1, 2)),
    ]
    share = share_of(points)
    assert (share[inside(region, 100)] == 1).all()
    assert (share[outside(region, 100)] == 0).all()


@pytest.mark.parametrize(("width", "closed"), [(600, True), (900, True), (1200, False), (2000, False)])
def test_gaps_up_to_two_reaches_are_closed(width: float, closed: bool) -> None:
    region = shapely.box(X - 3000, Y - 3000, X + 3000, Y + 3000)
    hole = shapely.Point(X, Y).buffer(width / 2)
    share = share_of(streets(region.difference(hole), 100))
    in_hole = shapely.intersects(shapely.Point(X, Y), GRID.cells(*GRID.every_tile()))
    assert (share[in_hole] == (1 if closed else 0)).all()
    assert (share[inside(region, 100) & outside(hole, 100)] == 1).all()


def test_a_reach_is_in_ground_metres() -> None:
    grid = grid_of_zoom(BOX, 17)  # a metre of EPSG:3857 is 0.74 of the ground's here
    to_grid = Transformer.from_crs("EPSG:32619", grid.crs, always_xy=True)
    raster = raster_of(grid, 500)
    ends = [[(X - 1000, Y - d), (X + 1000, Y - d)] for d in (0, 900, 2000)]
    lines = shapely.transform(shapely.linestrings(ends), to_grid.transform, interleaved=False)
    share = closed_share(raster, marked(raster, lines, np.zeros(3, dtype=np.int64))).reshape(grid.shape)
    assert share[grid.locate(*to_grid.transform([X], [Y - 450]))] == 1
    assert share[grid.locate(*to_grid.transform([X], [Y - 1450]))] == 0


def test_a_town_between_others_is_not_swallowed() -> None:
    # 800 m wide: streets on either side of it would close over it
    west, east = (
        shapely.box(X - 3000, Y - 2000, X - 400, Y + 2000),
        shapely.box(X + 400, Y - 2000, X + 3000, Y + 2000),
    )
    one, other = streets(west, 200), streets(east, 200)
    between = inside(shapely.box(X - 400, Y - 2000, X + 400, Y + 2000), 100)
    group = [0] * len(one) + [1] * len(other)
    assert (share_of([*one, *other])[between] == 1).all()
    assert (share_of([*one, *other], group=group)[between] == 0).all()
    np.testing.assert_array_equal(
        share_of([*one, *other], group=group), np.maximum(share_of(one), share_of(other))
    )


def test_what_lies_beyond_the_grid_speaks_too() -> None:
    region = shapely.box(LEFT - 3000, Y - 1500, LEFT + 300, Y + 1500)
    beyond = [one for one in streets(region, 400) if one.bounds[2] < LEFT + 1]
    share = share_of([*beyond, shapely.LineString([(LEFT + 700, Y - 1500), (LEFT + 700, Y + 1500)])])
    assert (share[inside(shapely.box(LEFT, Y - 1250, LEFT + 700, Y + 1250))] == 1).all()


def test_bands_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points = shapely.points(rng.uniform(LEFT, RIGHT, 400), rng.uniform(BOTTOM, TOP, 400))
    group = rng.integers(0, 3, 400).tolist()
    whole = share_of(points, 300, group)
    assert 0 < whole.mean() < 1
    monkeypatch.setattr("roadrisk.geometry.closing._AT_ONCE", 1)
    raster = raster_of(GRID, 300)
    assert raster.halo * 2 < GRID.rows * raster.per_tile / 2, "else there is but one band"
    np.testing.assert_array_equal(share_of(points, 300, group), whole)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30), st.randoms())
def test_closing_holds_its_marks_and_order_changes_nothing(places: list[Any], random: Any) -> None:
    corners = np.array(places) * (RIGHT - LEFT, BOTTOM - TOP) * 0.999 + (LEFT, TOP)
    points = list(shapely.points(corners))
    share = share_of(points)
    rows, cols = GRID.locate(*corners.T)
    assert (share.reshape(GRID.shape)[rows, cols] > 0).all()
    assert ((share >= 0) & (share <= 1)).all()
    np.testing.assert_array_equal(share_of(random.sample(points, len(points))), share)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([120, 500, 2000]))
def test_clusters_change_nothing(seed: int, reach_m: float) -> None:
    rng = np.random.default_rng(seed)
    near = rng.integers(1, 4) * reach_m  # about as far apart as a closing reaches
    x, y = rng.uniform(X - near, X + near, 12), rng.uniform(Y - near, Y + near, 12)
    points = shapely.points([*x, *rng.uniform(LEFT, RIGHT, 4)], [*y, *rng.uniform(BOTTOM, TOP, 4)])
    raster, group = raster_of(GRID, reach_m), rng.integers(0, 3, 16)
    marks = marked(raster, points, group)
    row, col = np.divmod(marks % (raster.height * raster.width), raster.width)
    whole = np.zeros((raster.height, raster.width), dtype=bool)
    for each in np.unique(marks // (raster.height * raster.width)):
        pad = raster.halo
        here = marks // (raster.height * raster.width) == each
        far = np.ones((raster.height + 2 * pad, raster.width + 2 * pad), dtype=np.uint8)
        far[row[here] + pad, col[here] + pad] = 0
        reached = (distance(far) <= raster.reach).astype(np.uint8)
        whole |= (distance(reached) > raster.reach)[pad:-pad, pad:-pad]
    inside = whole[raster.halo : -raster.halo, raster.halo : -raster.halo]
    tiles = inside.reshape(GRID.rows, raster.per_tile, GRID.cols, raster.per_tile)
    np.testing.assert_array_equal(closed_share(raster, marks), tiles.mean(axis=(1, 3)).ravel())


def distance(far: Any) -> Any:
    return cv2.distanceTransform(far, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def test_scattered_values_cost_what_they_mark() -> None:
    wide = grid_of_cell(LngLatBbox(-72.2, 41.8, -70.9, 42.9), 1000)
    left, bottom, right, top = wide.bounds
    rng = np.random.default_rng(0)
    points = shapely.points(rng.uniform(left, right, 20_000), rng.uniform(bottom, top, 20_000))
    raster = raster_of(wide, 500)
    marks = marked(raster, points, np.arange(20_000) // 2)  # 60 s where each value has the grid to itself
    share = closed_share(raster, marks)
    assert share.sum() * raster.per_tile**2 == pytest.approx(20_000, rel=0.05)


def test_vertices_that_are_nowhere_are_nowhere() -> None:
    some = [shapely.LineString([(X, Y), (np.inf, Y)]), shapely.Point(1e12, -1e12), shapely.Point()]
    assert (share_of(some) > 0).sum() == 1
    assert (share_of([]) == 0).all()


corner = st.integers(-8, 64).map(lambda n: n / 2)


@settings(max_examples=60)
@given(st.lists(st.tuples(corner, corner, st.floats(0.1, 20)), min_size=1, max_size=5))
def test_polygons_count_exactly_and_once(circles: list[Any]) -> None:
    centres = [(LEFT + u * GRID.cell, TOP - v * GRID.cell) for u, v, _ in circles]
    polygons = shapely.buffer(shapely.points(centres), np.array([r for *_, r in circles]) * GRID.cell)
    share = share_inside(GRID, polygons)
    cells = GRID.cells(*GRID.every_tile())
    expected = shapely.area(shapely.intersection(shapely.union_all(polygons), cells)) / GRID.cell**2
    np.testing.assert_allclose(share, expected, atol=1e-9)
    assert share.max(initial=0) <= 1


# reading


def written(path: Path, geometry: list[Any], crs: str | None = GRID.crs, **columns: list[Any]) -> str:
    geopandas.GeoDataFrame({**columns, "n": range(len(geometry))}, geometry=geometry, crs=crs).to_file(path)
    return str(path)


def towns(folder: Path) -> tuple[str, list[Any], list[Any]]:
    here = streets(shapely.box(X - 3000, Y - 2000, X - 400, Y + 2000), 200)
    there = streets(shapely.box(X + 400, Y - 2000, X + 3000, Y + 2000), 200)
    names = ["Newton"] * len(here) + ["Boston "] * len(there)
    return written(folder / "roads.gpkg", [*here, *there], town=names), here, there


def test_values_of_a_column_speak_each_for_itself(tmp_path: Path) -> None:
    path, here, there = towns(tmp_path)
    source = LineSource(path)
    both = read_coverage(Coverage(column="town"), source, GRID)
    np.testing.assert_array_equal(both.share, np.maximum(share_of(here), share_of(there)))
    assert both.understood == (
        f"coverage from {len(here) + len(there)} rows: what lies between them, gaps up to 1000 m closed, for "
        "each of 2 values of 'town' by itself",
    )
    named = read_coverage(Coverage(column="town", values=("Boston", "Newton")), source, GRID)
    np.testing.assert_array_equal(named.share, both.share)
    one = read_coverage(Coverage(column="town", values=("Boston",)), source, GRID)
    np.testing.assert_array_equal(one.share, share_of(there))
    all_of_it = read_coverage(Coverage(reach_m=450), source, GRID)
    np.testing.assert_array_equal(all_of_it.share, share_of([*here, *there], 450))
    kept = read_coverage(Coverage(), LineSource(path, keep={"town": ("Newton",)}), GRID)
    np.testing.assert_array_equal(kept.share, share_of(here))


def test_rows_of_a_table_of_points_speak(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(X - 1000, X + 1000, 500), rng.uniform(Y - 1000, Y + 1000, 500)
    to_lnglat = Transformer.from_crs(GRID.crs, "EPSG:4326", always_xy=True)
    rows = [f"{lat:.9f},{lng:.9f}" for lng, lat in zip(*to_lnglat.transform(x, y), strict=True)]
    named = tmp_path / "crashes.csv"
    named.write_text("\n".join(["lat,lon", *rows, ","]) + "\n")
    expected = share_of(list(shapely.points(x, y)))
    read = read_coverage(Coverage(), EventSource(str(named), undated=True), GRID)
    np.testing.assert_allclose(read.share, expected, atol=1 / 8)
    assert read.understood == (
        "coverage from 501 rows; 1 have no place: what lies between them, gaps up to 1000 m closed",
    )
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(rows) + "\n")
    source = EventSource(str(bare), columns=("a", "b"), x="b", y="a", undated=True)
    np.testing.assert_array_equal(read_coverage(Coverage(), source, GRID).share, read.share)
    elsewhere = read_coverage(Coverage(path=str(named)), LineSource("none.gpkg"), GRID)
    np.testing.assert_array_equal(elsewhere.share, read.share)


def test_polygons_of_a_file_of_their_own(tmp_path: Path) -> None:
    shapes = [shapely.Point(X + d, Y).buffer(900) for d in (0, 500, 9000)]
    path = written(tmp_path / "towns.gpkg", [*shapes, None], town=["a", "b", "c", "a"])
    source = TableSource("none.csv")
    read = read_coverage(Coverage(path=path, column="town", values=("a", "b")), source, GRID)
    np.testing.assert_allclose(read.share, share_inside(GRID, np.array(shapes[:2])), atol=1e-12)
    assert read.understood == ("coverage from 3 rows; 1 have no place: what lies inside their polygons",)
    outline = read_outline(path, GRID)
    np.testing.assert_allclose(outline.share, share_inside(GRID, np.array(shapes)), atol=1e-12)


WORLD = [(-180, -90, 180, 90), (-180, -85, 180, 89), (-170, -60, 170, 80), (-100, 0, -20, 60)]


@pytest.mark.parametrize("box", WORLD)
@pytest.mark.parametrize("grid", [GRID, grid_of_zoom(BOX, 14)])
def test_a_box_around_the_world_covers_the_grid(tmp_path: Path, box: Any, grid: Grid) -> None:
    path = written(tmp_path / "world.geojson", [shapely.box(*box)], "EPSG:4326", town=["a"])
    np.testing.assert_array_equal(read_coverage(Coverage(path=path), LineSource("none"), grid).share, 1)
    np.testing.assert_array_equal(read_outline(path, grid).share, 1)
    # a parallel through the grid stays where it is, however long
    half = (box[0], (BOX.south + BOX.north) / 2, box[2], box[3])
    path = written(tmp_path / "half.geojson", [shapely.box(*half)], "EPSG:4326", town=["a"])
    share = read_outline(path, grid).share
    _, lat = grid.centres(*grid.every_tile(), "EPSG:4326")
    margin = 0.6 * grid.cell_m / 111_000 + 2e-4
    assert (share[lat > half[1] + margin] == 1).all()
    assert (share[lat < half[1] - margin] == 0).all()


def message(coverage: Coverage, source: TableSource) -> str:
    with pytest.raises(SourceError) as error:
        read_coverage(coverage, source, GRID)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_errors_say_what_where_and_what_to_do(tmp_path: Path) -> None:
    path, *_ = towns(tmp_path)
    source = LineSource(path)
    assert message(Coverage(column="town", values=("Newton", "bosten")), source) == (
        f"{path}: no row has town = 'bosten' (coverage values); did you mean 'Boston'?"
    )
    assert message(Coverage(column="town", values=(7,)), source) == (
        f"{path}: no row has town = 7 (coverage values); its values: 'Boston', 'Newton'"
    )
    assert message(Coverage(column="city"), source).startswith(
        f"{path} has no column 'city' (coverage column)"
    )
    assert message(Coverage(path=str(tmp_path / "x.gpkg")), source) == f"no such file: {tmp_path / 'x.gpkg'}"
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    assert message(Coverage(), LineSource(str(table))) == (
        f"{table} has neither geometry nor coordinates; name a file that says what is covered with "
        "`coverage.path` in the region file"
    )
    mixed = written(tmp_path / "mixed.gpkg", [shapely.Point(X, Y), shapely.Point(X, Y).buffer(9)])
    assert message(Coverage(), LineSource(mixed)) == (
        f"{mixed}: its coverage mixes polygons with lines or points; keep one kind"
    )
    nothing = written(tmp_path / "nothing.gpkg", [None, None])
    assert message(Coverage(), LineSource(nothing)) == (
        f"{nothing}: none of 2 rows has a place, so nothing is covered; give others"
    )
    bare = written(tmp_path / "bare.gpkg", [shapely.Point(X, Y)], None)
    assert (
        message(Coverage(), LineSource(bare))
        == f"{bare} has no CRS; write it again with one, as in EPSG:4326"
    )
    for reach_m in (1e308, 1e6):
        assert message(Coverage(reach_m=reach_m), source) == (
            f"{path}: coverage reach_m = {reach_m:g} is longer than the grid from corner to corner, "
            "17,523 m; give how far a line or a point speaks for its surroundings"
        )
    with pytest.raises(SourceError, match="lines or points; give the outline as polygons"):
        read_outline(path, GRID)


def test_brookline_has_no_roads_in_a_file_of_the_cities_around_it(shared_data: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 250)
    source = LineSource(str(shared_data / "boston/roads.gpkg"))
    share = read_coverage(Coverage(column="city"), source, grid).share.reshape(grid.shape)
    brookline, harbour = (-71.13, 42.33), (-70.97, 42.33)
    common, franklin_park, cambridge, newton = (
        (-71.066, 42.355),
        (-71.09, 42.302),
        (-71.11, 42.375),
        (-71.2, 42.33),
    )
    for place in (common, franklin_park, cambridge, newton):
        assert share[grid.locate_lnglat(*np.array([place]).T)] == 1, place
    for place in (brookline, harbour):
        assert share[grid.locate_lnglat(*np.array([place]).T)] == 0, place
    assert 0.3 < (share >= COVERED).mean() < 0.45
