from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from line_examples import GEOD, GRIDS, anywhere, ground_m, lines, lines_of, placed

from roadrisk.geometry.ground import ground_distances
from roadrisk.geometry.lines import LinePieces, split_lines, vertices
from roadrisk.grid import Bbox, FloatArray, Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_shape, grid_of_zoom

NORTH = LngLatBbox(24.0, 84.9, 24.4, 84.95)
# sides that are no whole number of anything, so that grid lines come out a hair beside themselves
UNEVEN = [
    *GRIDS,
    grid_of_cell(LngLatBbox(-71.2, 42.3, -71.18, 42.31), 37.3),
    grid_of_zoom(NORTH, 14),
    grid_of_shape(NORTH, 7, 9),
]


def clipped_m(grid: Grid, shapes: list[Any], boxes: Any) -> FloatArray:
    """Ground metres that shapely cuts out by each box; by segment, for it draws a line run twice once."""
    ends = [np.stack([c[:-1], c[1:]], axis=1) for c in map(shapely.get_coordinates, shapes)]
    segments = shapely.linestrings(np.concatenate(ends))
    cut = shapely.intersection(segments[:, None], np.asarray(boxes)[None, :])
    lengthy = shapely.length(cut) > 0
    start, end = shapely.get_coordinates(cut[lengthy]).reshape(-1, 2, 2).transpose(1, 0, 2)
    metres = np.zeros(cut.shape)
    metres[lengthy] = ground_distances(grid.crs, start, end)
    return metres.sum(axis=0)


def pieces_of(grid: Grid, shapes: list[shapely.LineString]) -> LinePieces:
    return split_lines(grid, *vertices(np.array(shapes)))


def metres(grid: Grid, shapes: list[shapely.LineString]) -> tuple[FloatArray, float]:
    """(rows, cols) ground metres, and the metres outside."""
    pieces = pieces_of(grid, shapes)
    each = np.array([ground_m(grid, s) for s in shapes])[pieces.line] * pieces.share
    inside = pieces.row >= 0
    tile = pieces.row[inside] * grid.cols + pieces.col[inside]
    return np.bincount(tile, each[inside], minlength=grid.size).reshape(grid.shape), float(
        each[~inside].sum()
    )


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(GRIDS), lines_of(anywhere))
def test_shares_of_any_line_sum_to_one(grid: Grid, some: list[Any]) -> None:
    shapes = placed(grid, some)
    if not shapes:
        return
    pieces = pieces_of(grid, shapes)
    np.testing.assert_allclose(np.bincount(pieces.line, pieces.share, len(shapes)), 1, rtol=1e-12)
    assert (pieces.share > 0).all()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(GRIDS), lines)
def test_metres_are_conserved(grid: Grid, some: list[Any]) -> None:
    shapes = placed(grid, some)
    if not shapes:
        return
    inside, outside = metres(grid, shapes)
    total = sum(ground_m(grid, s) for s in shapes)
    np.testing.assert_allclose(inside.sum() + outside, total, rtol=1e-9)
    expected = clipped_m(grid, shapes, [hair_off(grid.bounds, grid)])[0]
    np.testing.assert_allclose(inside.sum(), expected, rtol=1e-6, atol=grid.cell * 1e-5)


@pytest.mark.parametrize("distance_m", [0.0, 0.01, 1.0, 300.0, 4_999.0, 5_001.0, 3e6])
def test_ground_distances_are_geodesics(distance_m: float) -> None:
    rng = np.random.default_rng(0)
    lng, lat, azimuth = (rng.uniform(-w, w, 1000) for w in (180, 89.99, 180))
    lng_end, lat_end, _ = GEOD.fwd(lng, lat, azimuth, np.full(1000, distance_m))
    start, end = np.column_stack([lng, lat]), np.column_stack([lng_end, lat_end])
    np.testing.assert_allclose(ground_distances("EPSG:4326", start, end), distance_m, rtol=1e-9, atol=1e-8)


def hair_off(box: Bbox, grid: Grid) -> Any:
    """A box a hair up and left: a line along an edge belongs right of and below it."""
    hair = grid.cell * 2e-9
    return shapely.box(box.left - hair, box.bottom + hair, box.right - hair, box.top + hair)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(GRIDS), lines)
def test_tiles_hold_what_shapely_cuts_out(grid: Grid, some: list[Any]) -> None:
    shapes = placed(grid, some)
    if not shapes:
        return
    inside, _ = metres(grid, shapes)
    rows, cols = grid.every_tile()
    boxes = [
        hair_off(grid.tile_bounds(r, c), grid) for r, c in zip(rows.tolist(), cols.tolist(), strict=True)
    ]
    expected = clipped_m(grid, shapes, boxes)
    np.testing.assert_allclose(inside.ravel(), expected, rtol=2e-6, atol=grid.cell * 1e-5)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GRIDS), lines, st.randoms())
def test_direction_and_order_change_nothing(grid: Grid, some: list[Any], random: Any) -> None:
    shapes = placed(grid, some)
    if not shapes:
        return
    other = [s.reverse() if random.random() < 0.5 else s for s in random.sample(shapes, len(shapes))]
    np.testing.assert_allclose(metres(grid, other)[0], metres(grid, shapes)[0], rtol=1e-9, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GRIDS), lines, st.sampled_from([2, 4]))
def test_coarser_tiles_hold_the_same_metres(grid: Grid, some: list[Any], factor: int) -> None:
    shapes = placed(grid, some)
    if not shapes:
        return
    # the coarser window is wider, so only what lies inside the finer one can be compared
    left, bottom, right, top = grid.bounds
    clipped = [shapely.intersection(s, shapely.box(left + 1, bottom + 1, right - 1, top - 1)) for s in shapes]
    whole = [p for s in clipped for p in shapely.get_parts(s) if p.geom_type == "LineString" and p.length > 1]
    if not whole:
        return
    fine, coarse = metres(grid, whole)[0], metres(grid.coarser(factor), whole)[0]
    rows, cols = grid.parents(*grid.every_tile(), factor)
    summed = np.zeros_like(coarse)
    np.add.at(summed, (rows, cols), fine.ravel())
    np.testing.assert_allclose(summed, coarse, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(fine.sum(), coarse.sum(), rtol=1e-6)


def test_a_line_along_a_grid_line_belongs_right_and_below() -> None:
    grid = GRIDS[0]
    down, _ = metres(grid, placed(grid, [[(2, 1), (2, 3)]]))
    assert np.flatnonzero(down.sum(axis=0)).tolist() == [2]
    along, _ = metres(grid, placed(grid, [[(1, 3), (3, 3)]]))
    assert np.flatnonzero(along.sum(axis=1)).tolist() == [3]
    _, outside = metres(grid, placed(grid, [[(1, grid.rows), (3, grid.rows)]]))
    assert outside == pytest.approx(1000, rel=1e-3)


def test_a_line_without_extent_is_one_piece() -> None:
    left, _, _, top = GRIDS[0].bounds
    points = [shapely.LineString([xy, xy, xy]) for xy in ((left + 1, top - 1), (left - 1, top))]
    pieces = pieces_of(GRIDS[0], points)
    assert (pieces.row.tolist(), pieces.share.tolist()) == ([0, -1], [1, 1])


def on_corners(grid: Grid, seed: int, reach: int) -> tuple[list[shapely.LineString], FloatArray]:
    """Lines of two to six vertices on crossings of grid lines, as far as `reach` beyond; and their metres."""
    rng = np.random.default_rng(seed)
    left, bottom, right, top = grid.bounds
    # as the grid itself has its lines, and a little beside them as those who draw them have
    xs = [left + np.arange(-reach, grid.cols + reach) * grid.cell, np.linspace(left, right, grid.cols + 1)]
    ys = [top - np.arange(-reach, grid.rows + reach) * grid.cell, np.linspace(bottom, top, grid.rows + 1)]
    made = []
    for _ in range(150):
        n, which = rng.integers(2, 7), rng.integers(2)
        xy = np.column_stack([rng.choice(xs[which], n), rng.choice(ys[which], n)])
        xy[0] += (np.ptp(xy, axis=0) == 0).all() * grid.cell
        made.append(shapely.LineString(xy))
    return made, np.array([ground_m(grid, line) for line in made])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(UNEVEN), st.integers(0, 2**32 - 1), st.integers(-1, 3))
def test_lines_between_corners_are_conserved(grid: Grid, seed: int, reach: int) -> None:
    shapes, each = on_corners(grid, seed, max(reach, 0))
    pieces = pieces_of(grid, shapes)
    np.testing.assert_allclose(np.bincount(pieces.line, pieces.share), 1, rtol=1e-12)
    assert (np.diff(pieces.line) >= 0).all()
    metres = each[pieces.line] * pieces.share
    clipped = clipped_m(grid, shapes, [hair_off(grid.bounds, grid)])[0]
    np.testing.assert_allclose(metres[pieces.row >= 0].sum(), clipped, rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(UNEVEN), st.integers(0, 2**32 - 1))
def test_no_line_knows_of_the_others(grid: Grid, seed: int) -> None:
    shapes, _ = on_corners(grid, seed, 1)
    together = pieces_of(grid, shapes)
    alone = [pieces_of(grid, [shape]) for shape in shapes]
    for name in ("row", "col", "share"):
        each = np.concatenate([getattr(pieces, name) for pieces in alone])
        np.testing.assert_array_equal(getattr(together, name), each)


@pytest.mark.parametrize("grid", UNEVEN)
def test_two_calls_give_the_same_bytes(grid: Grid) -> None:
    shapes, _ = on_corners(grid, 1, 2)
    first = pieces_of(grid, shapes)
    junk = [np.full(size, 1e9) for size in (10, 1_000, 100_000)]  # what memory may hold before
    del junk
    again = pieces_of(grid, shapes)
    for name in ("line", "row", "col", "share"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(GRIDS), lines_of(anywhere), st.integers(1, 40))
def test_batches_of_segments_are_one_run(grid: Grid, some: list[Any], at_once: int) -> None:
    shapes = placed(grid, some)
    if not shapes:
        return
    whole, outside = metres(grid, shapes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("roadrisk.geometry.lines._AT_ONCE", at_once)
        batched, also_outside = metres(grid, shapes)
    np.testing.assert_allclose(batched, whole, rtol=1e-12, atol=1e-9)
    assert also_outside == pytest.approx(outside, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GRIDS), st.integers(0, 2**32 - 1))
def test_lines_from_far_away_are_cut_where_they_pass(grid: Grid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, bottom, right, top = grid.bounds
    away = 100 * grid.cell
    xy = np.column_stack(
        [rng.uniform(left - away, right + away, 60), rng.uniform(bottom - away, top + away, 60)]
    )
    xy[::7] = rng.uniform((left, bottom), (right, top), (9, 2))
    shapes = [shapely.LineString(xy)]
    pieces, total = pieces_of(grid, shapes), ground_m(grid, shapes[0])
    clipped = clipped_m(grid, shapes, [hair_off(grid.bounds, grid)])[0]
    inside = pieces.share[pieces.row >= 0].sum() * total
    # ground metres of a part are not quite its planar share, over so many kilometres
    np.testing.assert_allclose(inside, clipped, rtol=1e-5, atol=1e-4)


def test_memory_does_not_grow_with_what_lies_beside_the_window() -> None:
    grid = grid_of_cell(LngLatBbox(-71.12, 42.33, -71.05, 42.38), 10)
    left, bottom, right, top = grid.bounds
    rng = np.random.default_rng(0)
    x, y = rng.uniform(left - 1e6, right + 1e6, 10_000), rng.uniform(bottom - 1e6, top + 1e6, 10_000)
    coordinates, offsets = vertices(np.array([shapely.LineString(np.column_stack([x, y]))]))
    tracemalloc.start()
    split_lines(grid, coordinates, offsets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # 635 MB where every line of the grid beside the window cuts


def test_a_line_too_short_to_be_measured_is_not_lost() -> None:
    grid = GRIDS[0]
    left, _, _, top = grid.bounds
    x = left + 2 * grid.cell - 1e-9 * grid.cell  # where the tile changes
    shapes = [shapely.LineString([(np.nextafter(x, -np.inf), top - 9), (np.nextafter(x, np.inf), top - 9)])]
    pieces = pieces_of(grid, shapes)
    assert pieces.share.sum() == 1
