from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from roadrisk.features.roads import Pieces, road_columns, share_far_from_lines, split_lines, tiles_without
from roadrisk.grid import Bbox, FloatArray, Grid, LngLatBbox, grid_of_cell, grid_of_shape, grid_of_zoom
from roadrisk.region import LineSource
from roadrisk.sources.account import Account
from roadrisk.sources.ground import ground_distances
from roadrisk.sources.lines import Lines, read_lines

BOX = LngLatBbox(-71.2, 42.3, -71.15, 42.33)
GRIDS = [grid_of_cell(BOX, 500), grid_of_zoom(BOX, 15), grid_of_shape(BOX, 5, 7)]
GEOD = Geod(ellps="WGS84")


def ground_m(grid: Grid, line: Any) -> float:
    to_lnglat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    return float(GEOD.geometry_length(shapely.transform(line, to_lnglat.transform, interleaved=False)))


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


# vertices in cells from the window's north-west corner: on grid lines, on corners, between, outside. By
# 64ths, since a line nearly along a grid line would make the oracle's hair count for metres
sixty_fourth = st.one_of(st.integers(-3 * 64, 10 * 64).map(lambda n: n / 64), st.integers(-3, 10).map(float))
anywhere = st.one_of(st.floats(-3, 10), st.integers(-3, 10).map(float))


def lines_of(coordinate: Any) -> Any:
    line = st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=5)
    return st.lists(line, min_size=1, max_size=5)


lines = lines_of(sixty_fourth)


def placed(grid: Grid, some: list[list[tuple[float, float]]]) -> list[shapely.LineString]:
    left, _, _, top = grid.bounds
    shapes = [
        shapely.LineString([(left + u * grid.cell, top - v * grid.cell) for u, v in one]) for one in some
    ]
    return [shape for shape in shapes if shape.length > grid.cell * 1e-3]


def pieces_of(grid: Grid, shapes: list[shapely.LineString]) -> Pieces:
    coordinates, owner = shapely.get_coordinates(shapes, return_index=True)
    return split_lines(grid, coordinates, np.searchsorted(owner, np.arange(len(shapes) + 1)))


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
    np.testing.assert_allclose(np.bincount(pieces.line, pieces.share), 1.0, rtol=1e-12)
    assert (pieces.share >= 0).all()


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


def made_up(grid: Grid, shapes: list[Any], road_class: list[Any], length_m: list[float]) -> Lines:
    table = geopandas.GeoDataFrame(
        {
            "source_row": range(len(shapes)),
            "road_class": pd.array(road_class, dtype="string"),
            "length_m": length_m,
        },
        geometry=shapes,
        crs=grid.crs,
    )
    return Lines("roads", table, Account("roads", len(shapes), len(shapes), {}, 0), ())


def test_declared_metres_are_shared_by_geometry() -> None:
    grid = GRIDS[0]
    shapes = placed(grid, [[(0.5, 0.5), (2.5, 0.5)], [(-1, 1.5), (1, 1.5)], [(4.5, 4.5), (4.5, 4.6)]])
    lines = made_up(grid, shapes, ["primary", "Local Road", None], [2000.0, 300.0, 70.0])
    columns = {
        column.name: (column, values.reshape(grid.shape)) for column, values in road_columns(lines, grid)
    }
    assert list(columns) == ["road_m", "road_m_local_road", "road_m_primary"]
    np.testing.assert_allclose(columns["road_m_primary"][1][0, :3], [500, 1000, 500], rtol=1e-3)
    np.testing.assert_allclose(columns["road_m_local_road"][1][1, :2], [150, 0], rtol=1e-3)
    total = columns["road_m"][1]
    np.testing.assert_allclose(total.sum(), 2000 + 150 + 70, rtol=1e-3)
    assert total[4, 4] == pytest.approx(70)
    assert {(c.unit, c.role, c.combine, c.source) for c, _ in columns.values()} == {
        ("m", "feature", "sum", "roads")
    }
    assert tiles_without(total) == 1 - 5 / grid.size


def test_points_far_from_lines() -> None:
    for grid in GRIDS[:2]:
        shapes = placed(grid, [[(1.0, 1.0), (3.0, 1.0)]])
        lines = made_up(grid, shapes, ["primary"], [1.0])
        left, _, _, top = grid.bounds
        ground = grid.cell / grid.cell_m  # CRS units a ground metre
        x = np.full(4, left + 2 * grid.cell)
        y = top - grid.cell + np.array([0.0, 49.0, 51.0, -500.0]) * ground
        assert share_far_from_lines(x, y, lines, grid, 50.0) == 0.5
        assert np.isnan(share_far_from_lines(x[:0], y[:0], lines, grid, 50.0))


def test_boston_metres_add_up(shared_data: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-71.12, 42.34, -71.05, 42.39), 250)
    lines = read_lines(LineSource(str(shared_data / "boston/roads.gpkg")), grid)
    columns = road_columns(lines, grid)
    clipped = shapely.length(shapely.intersection(lines.table.geometry.to_numpy(), shapely.box(*grid.bounds)))
    share = clipped / shapely.length(lines.table.geometry.to_numpy())
    expected = lines.table["length_m"].to_numpy() * share
    np.testing.assert_allclose(columns[0][1].sum(), expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(sum(v for _, v in columns[1:]), columns[0][1], rtol=1e-9, atol=1e-9)
    for column, values in columns[1:]:
        of_class = (lines.table["road_class"] == column.name.removeprefix("road_m_")).to_numpy()
        np.testing.assert_allclose(values.sum(), expected[of_class].sum(), rtol=1e-6)
