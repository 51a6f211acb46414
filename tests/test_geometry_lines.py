from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from line_examples import GEOD, GRIDS, anywhere, ground_m, lines, lines_of, placed

from roadrisk.geometry.ground import ground_distances
from roadrisk.geometry.lines import LinePieces, split_lines, vertices
from roadrisk.grid import Bbox, FloatArray, Grid


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
