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
from line_examples import BOX, GRIDS, ground_m, lines_of, placed
from pyproj import Transformer

from roadrisk.features.roads import road_columns, share_far_from_lines, tiles_without
from roadrisk.grid import FloatArray, Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.region import LineSource
from roadrisk.sources.account import Account
from roadrisk.sources.lines import Lines, read_lines


def made_up(
    grid: Grid, shapes: list[Any], road_class: list[Any], length_m: list[float], **columns: Any
) -> Lines:
    unknown = [None] * len(shapes)
    table = geopandas.GeoDataFrame(
        {
            "source_row": range(len(shapes)),
            "road_class": pd.array(road_class, dtype="string"),
            "length_m": length_m,
            "lanes": np.asarray(columns.get("lanes", unknown), dtype=float),
            "speed_kmh": np.asarray(columns.get("speed_kmh", unknown), dtype=float),
            "oneway": pd.array(columns.get("oneway", unknown), dtype="boolean"),
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
    # straight lines of unknown lanes, speed and way tell of nothing else but their declared length
    assert list(columns) == [
        "road_m",
        "road_m_local_road",
        "road_m_primary",
        "road_straight_m",
        "road_sinuosity",
    ]
    np.testing.assert_allclose(columns["road_m_primary"][1][0, :3], [500, 1000, 500], rtol=1e-3)
    np.testing.assert_allclose(columns["road_m_local_road"][1][1, :2], [150, 0], rtol=1e-3)
    total = columns["road_m"][1]
    np.testing.assert_allclose(total.sum(), 2000 + 150 + 70, rtol=1e-3)
    assert total[4, 4] == pytest.approx(70)
    described = {(c.unit, c.role, c.combine, c.source) for c, _ in list(columns.values())[:4]}
    assert described == {("m", "feature", "sum", "roads")}
    column, sinuosity = columns["road_sinuosity"]
    assert (column.combine, column.by) == ("ratio", ("road_m", "road_straight_m"))
    np.testing.assert_allclose(sinuosity[0, :3], 2000 / 1000, rtol=1e-3)
    assert np.isnan(sinuosity[4, 0])
    assert tiles_without(total) == 1 - 5 / grid.size


def values_of(lines: Lines, grid: Grid) -> dict[str, FloatArray]:
    return {column.name: values.reshape(grid.shape) for column, values in road_columns(lines, grid)}


def test_metres_by_lanes_speed_and_way() -> None:
    grid = GRIDS[0]
    shapes = placed(grid, [[(0.1, 0.1 + i / 10), (0.9, 0.1 + i / 10)] for i in range(7)])
    lines = made_up(
        grid,
        shapes,
        [None] * 7,
        [100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0],
        lanes=[1, 2, 2.5, 4, 6, None, 1.4],
        speed_kmh=[30, 30.1, 50, 90, 130, None, 70],
        oneway=[True, False, True, None, False, None, None],
    )
    found = {name: values[0, 0] for name, values in values_of(lines, grid).items()}
    by_name = {c.name: c for c, _ in road_columns(lines, grid)}
    metres = {name: round(value, 6) for name, value in found.items() if name.startswith("road_m")}
    assert metres == {
        "road_m": 12700,
        "road_m_lanes_1": 6500,
        "road_m_lanes_2": 200,
        "road_m_lanes_3": 400,
        "road_m_lanes_4plus": 2400,
        "road_m_lanes_known": 9500,
        "road_m_speed_to_30": 100,
        "road_m_speed_31_50": 600,
        "road_m_speed_51_70": 6400,
        "road_m_speed_71_90": 800,
        "road_m_speed_over_90": 1600,
        "road_m_speed_known": 9500,
        "road_m_oneway": 500,
    }
    lanes = (100 + 400 + 1000 + 3200 + 9600 + 6400 * 1.4) / 9500
    assert found["road_lanes"] == pytest.approx(lanes)
    assert (by_name["road_lanes"].combine, by_name["road_lanes"].by) == ("mean", ("road_m_lanes_known",))
    speed = (3000 + 6020 + 20000 + 72000 + 208000 + 448000) / 9500
    assert found["road_speed_kmh"] == pytest.approx(speed)
    assert found["road_oneway_share"] == pytest.approx(500 / 12700)
    share = by_name["road_oneway_share"]
    assert (share.combine, share.by) == ("ratio", ("road_m_oneway", "road_m"))
    # no road: no metres, and nothing to take a mean of
    assert values_of(lines, grid)["road_m_oneway"][3, 3] == 0
    assert np.isnan([values_of(lines, grid)[name][3, 3] for name in ("road_lanes", "road_speed_kmh")]).all()
    names = [c.name for c, _ in road_columns(lines, grid)]
    assert len(names) == len(set(names))


def test_classes_named_as_our_columns_are_kept_apart() -> None:
    grid = GRIDS[0]
    shapes = placed(grid, [[(0.1, 0.1), (0.9, 0.1)], [(0.1, 0.2), (0.9, 0.2)]])
    lines = made_up(grid, shapes, ["oneway", "Lanes 2"], [1.0, 2.0], lanes=[2, 2], oneway=[True, True])
    names = [c.name for c, _ in road_columns(lines, grid)]
    assert {"road_m_class_oneway", "road_m_class_lanes_2"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("grid", GRIDS)
def test_lines_turn_where_they_bend(grid: Grid) -> None:
    # a right angle in one tile, two of 45 degrees in another, a vertex said twice, a straight line
    bent = [(0.5, 0.5), (0.5, 0.2), (0.5, 0.2), (0.8, 0.2)]
    bevelled = [(1.2, 1.8), (1.2, 1.5), (1.5, 1.2), (1.8, 1.2)]
    straight = [(2.1, 2.5), (2.5, 2.5), (2.9, 2.5)]
    shapes = placed(grid, [bent, bevelled, straight])
    length_m = [ground_m(grid, shape) for shape in shapes]
    values = values_of(made_up(grid, shapes, [None] * 3, length_m), grid)
    turned = np.zeros(grid.shape)
    turned[0, 0] = turned[1, 1] = 90
    np.testing.assert_allclose(values["road_turn_deg"], turned, atol=1e-5)
    np.testing.assert_allclose(values["road_curvature"][0, 0], 90 / length_m[0])
    assert values["road_curvature"][2, 2] == pytest.approx(0, abs=1e-6)
    assert np.isnan(values["road_curvature"][3, 3])
    assert values["road_sinuosity"][0, 0] == pytest.approx(2**0.5, rel=1e-4)


def test_loops_drawn_as_a_point_count_in_its_tile() -> None:
    grid = GRIDS[0]
    left, _, _, top = grid.bounds
    point, corner, beside = (
        shapely.LineString([xy, xy, xy])
        for xy in ((left + 1.5 * grid.cell, top - 100), (left + grid.cell, top - grid.cell), (left - 1, top))
    )
    lines = made_up(grid, [point, corner, beside], ["primary"] * 3, [150.0, 40.0, 7.0])
    metres = values_of(lines, grid)["road_m"]
    assert (metres[0, 1], metres[1, 1], metres.sum()) == (150, 40, 190)


@settings(max_examples=40)
@given(lines_of(st.floats(0.5, 3.5)), st.randoms())
def test_no_total_depends_on_the_grid_or_the_order(some: list[Any], random: Any) -> None:
    # all lines lie inside every grid, so each total is that of the lines
    shapes = placed(GRIDS[0], some)
    if not shapes:
        return
    n = len(shapes)
    length_m = [random.uniform(1, 5000) for _ in shapes]
    lanes, oneway = (
        [random.choice([1, 2, None]) for _ in shapes],
        [random.choice([True, None]) for _ in shapes],
    )
    order = random.sample(range(n), n)
    metres = ["road_m", "road_m_lanes_2", "road_m_lanes_known", "road_m_oneway"]

    def totals(grid: Grid, order: list[int]) -> list[float]:
        to_grid = Transformer.from_crs(GRIDS[0].crs, grid.crs, always_xy=True)
        drawn = [shapely.transform(shapes[i], to_grid.transform, interleaved=False) for i in order]
        drawn = [line.reverse() if i % 2 else line for i, line in zip(order, drawn, strict=True)]
        picked = [[values[i] for i in order] for values in (length_m, lanes, oneway)]
        lines = made_up(grid, drawn, [None] * n, picked[0], lanes=picked[1], oneway=picked[2])
        values = values_of(lines, grid)
        return [values[name].sum() if name in values else 0.0 for name in metres]

    expected = [
        sum(length_m),
        sum(m for m, k in zip(length_m, lanes, strict=True) if k == 2),
        sum(m for m, k in zip(length_m, lanes, strict=True) if k),
        sum(m for m, k in zip(length_m, oneway, strict=True) if k),
    ]
    wide = LngLatBbox(BOX.west - 0.05, BOX.south - 0.05, BOX.east + 0.05, BOX.north + 0.05)
    for grid in (
        GRIDS[0],
        GRIDS[0].coarser(2),
        grid_of_zoom(wide, 16),
        grid_of_cell(wide, 130, "EPSG:26986"),
    ):
        np.testing.assert_allclose(totals(grid, order), expected, rtol=1e-9, atol=1e-9)


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
    of_classes = columns[1 : [c.name for c, _ in columns].index("road_m_lanes_1")]
    np.testing.assert_allclose(sum(v for _, v in of_classes), columns[0][1], rtol=1e-9, atol=1e-9)
    for column, values in of_classes:
        of_class = (lines.table["road_class"] == column.name.removeprefix("road_m_")).to_numpy()
        np.testing.assert_allclose(values.sum(), expected[of_class].sum(), rtol=1e-6)
