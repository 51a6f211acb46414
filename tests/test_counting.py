"""Points counted by tile: the same tile as `locate` and as the formula says, edges and corners included."""

from __future__ import annotations

import math
from dataclasses import replace

import mercantile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.errors import SourceError
from roadrisk.features.counting import count_events
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_shape, grid_of_zoom

DES_MOINES = LngLatBbox(-93.7, 41.5, -93.5, 41.7)
WORLD = LngLatBbox(-180, -85, 180, 85)
NOT_FINITE = [math.nan, math.inf, -math.inf]

grids = st.one_of(
    st.builds(lambda z: grid_of_zoom(DES_MOINES, z), st.integers(8, 22)),
    st.builds(lambda z: grid_of_zoom(WORLD, z), st.integers(0, 3)),
    st.builds(lambda c: grid_of_cell(DES_MOINES, c), st.floats(200, 3000)),
    st.builds(lambda r, c: grid_of_shape(DES_MOINES, r, c), st.integers(1, 9), st.integers(1, 9)),
).map(lambda g: replace(g, rows=min(g.rows, 30), cols=min(g.cols, 30)))


@st.composite
def points_on_grids(draw: st.DrawFn) -> tuple[Grid, np.ndarray, np.ndarray]:
    """A grid and points: anywhere, on its lines, a bit away from them, outside, beyond the world."""
    grid = draw(grids)
    lattice = st.floats(-2, 32) | st.integers(-2, 32)
    nudges = st.sampled_from([0.0, 1e-15, -1e-15, 9e-10, -9e-10, 2e-9, -2e-9]).map(lambda f: 1.0 + f)
    axis = st.tuples(lattice, nudges)
    some = draw(st.lists(st.tuples(axis, axis), max_size=30))
    x = [(grid.origin_x + (grid.x0 + i) * grid.cell) * nudge for (i, nudge), _ in some]
    y = [(grid.origin_y - (grid.y0 + j) * grid.cell) * nudge for _, (j, nudge) in some]
    return grid, np.array(x), np.array(y)


def tile_by_formula(grid: Grid, x: float, y: float) -> tuple[int, int]:
    """One point at a time, in Python's own numbers."""
    index = []
    for t in ((grid.origin_y - y) / grid.cell, (x - grid.origin_x) / grid.cell):
        if grid.zoom is None:
            index.append(math.floor(t + 1e-9))
        else:
            world = 2**grid.zoom
            index.append(min(math.floor(max(t, 0.0) + 1e-14 * world), world - 1))
    row, col = index[0] - grid.y0, index[1] - grid.x0
    return (row, col) if 0 <= row < grid.rows and 0 <= col < grid.cols else (-1, -1)


@given(points_on_grids())
def test_locate_is_the_formula(given_points: tuple[Grid, np.ndarray, np.ndarray]) -> None:
    grid, x, y = given_points
    rows, cols = grid.locate(x, y)
    expected = [tile_by_formula(grid, *point) for point in zip(x.tolist(), y.tolist(), strict=True)]
    assert list(zip(rows.tolist(), cols.tolist(), strict=True)) == expected


@given(points_on_grids())
def test_counts_are_those_of_locate(given_points: tuple[Grid, np.ndarray, np.ndarray]) -> None:
    grid, x, y = given_points
    rows, cols = grid.locate(x, y)
    inside = rows >= 0
    expected = np.bincount(rows[inside] * grid.cols + cols[inside], minlength=grid.size)
    counts = count_events(grid, x, y)
    assert counts.shape == grid.shape
    assert counts.ravel().tolist() == expected.tolist()
    weight = np.arange(len(x), dtype=float)
    summed = np.bincount(rows[inside] * grid.cols + cols[inside], weight[inside], grid.size)
    assert count_events(grid, x, y, weight).ravel().tolist() == summed.tolist()


@pytest.mark.parametrize("grid", [grid_of_cell(DES_MOINES, 333.3), grid_of_zoom(DES_MOINES, 15)])
def test_more_points_than_one_step_holds(grid: Grid) -> None:
    rng = np.random.default_rng(0)
    left, bottom, right, top = grid.bounds
    # the window's points first, those around it after: steps with and without any outside
    x = np.concatenate(
        [rng.uniform(left, right, 150_000), rng.uniform(2 * left - right, 2 * right - left, 50_001)]
    )
    y = np.concatenate(
        [rng.uniform(bottom, top, 150_000), rng.uniform(2 * bottom - top, 2 * top - bottom, 50_001)]
    )
    rows, cols = grid.locate(x, y)
    some = np.concatenate(
        [np.arange(65_530, 65_545), np.arange(131_065, 131_080), rng.integers(0, len(x), 500)]
    )
    expected = [
        tile_by_formula(grid, *point) for point in zip(x[some].tolist(), y[some].tolist(), strict=True)
    ]
    assert list(zip(rows[some].tolist(), cols[some].tolist(), strict=True)) == expected
    counts = count_events(grid, x, y)
    assert 150_000 < counts.sum() == (rows >= 0).sum() < 200_001
    np.testing.assert_array_equal(
        counts[rows[:20], cols[:20]],
        [((rows == r) & (cols == c)).sum() for r, c in zip(rows[:20], cols[:20], strict=True)],
    )


@given(st.permutations(range(40)))
def test_order_changes_no_count(order: list[int]) -> None:
    grid = grid_of_shape(DES_MOINES, 3, 3)
    left, bottom, right, top = grid.bounds
    rng = np.random.default_rng(1)
    x, y = rng.uniform(left, right, 40), rng.uniform(bottom, top, 40)
    np.testing.assert_array_equal(count_events(grid, x[order], y[order]), count_events(grid, x, y))


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("at", [0, 70_000])
def test_the_first_event_that_is_not_finite_is_named(bad: float, at: int) -> None:
    grid = grid_of_shape(DES_MOINES, 3, 3)
    left, _, _, top = grid.bounds
    x, y = np.full(70_005, left), np.full(70_005, top)
    y[at], x[at + 1 :] = bad, bad
    with pytest.raises(SourceError) as caught:
        count_events(grid, x, y, np.zeros(70_005))
    assert str(caught.value) == f"event {at} has a coordinate that is not finite; leave it out"


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize(
    "grid", [grid_of_zoom(WORLD, 1), grid_of_cell(DES_MOINES, 250), grid_of_zoom(DES_MOINES, 12)]
)
def test_what_is_not_finite_has_no_tile_even_at_the_edge_of_the_world(grid: Grid, bad: float) -> None:
    x, y = grid.centres(np.array([0]), np.array([0]))
    for points in (([bad, x[0]], [y[0], y[0]]), ([x[0], x[0]], [bad, y[0]])):
        rows, cols = grid.locate(*points)
        assert (rows.tolist(), cols.tolist()) == ([-1, 0], [-1, 0])


def test_far_away_is_outside_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    grid = grid_of_cell(DES_MOINES, 0.25 * 250)
    assert count_events(grid, np.array([1e308, -1e308]), np.array([-1e308, 1e308])).sum() == 0
    tiny = Grid("cell", "EPSG:32615", 0.0, 0.0, 0.1, 0, 0, 3, 3)
    assert count_events(tiny, np.array([1.7e308, 0.05]), np.array([0.05, -0.05])).tolist()[0] == [1.0, 0, 0]
    assert not list(recwarn)


def test_beyond_the_world_is_the_tile_that_mercantile_says() -> None:
    grid = grid_of_zoom(WORLD, 3)
    x = np.array([-2.1e7, 2.1e7, 2.1e7, -2.1e7])
    y = np.array([2.1e7, -2.1e7, 0.0, 1.0])
    expected = [mercantile.tile(lng, lat, 3) for lng, lat in ((-181, 86), (181, -86), (181, 0), (-181, 1e-5))]
    rows, cols = grid.locate(x, y)
    assert [(t.x, t.y) for t in expected] == list(zip(cols.tolist(), rows.tolist(), strict=True))
    assert count_events(grid, x, y).sum() == 4


def test_no_points() -> None:
    grid = grid_of_shape(DES_MOINES, 2, 3)
    assert [a.shape for a in grid.locate([], [])] == [(0,), (0,)]
    assert count_events(grid, np.array([]), np.array([])).tolist() == [[0.0] * 3] * 2
