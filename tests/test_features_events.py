from __future__ import annotations

from datetime import date
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
from event_examples import GRID, dated, events_at, read_events
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from roadrisk.columns import Column
from roadrisk.errors import SourceError
from roadrisk.features.counting import count_events
from roadrisk.features.events import event_columns, smoothed
from roadrisk.features.windows import Windows
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import EventSource
from roadrisk.sources.events import Events, weighted

LEFT, BOTTOM, RIGHT, TOP = GRID.bounds
Y2023, Y2024, Y2025 = (date(y, 1, 1) for y in (2023, 2024, 2025))
BOTH = Windows((Y2024, Y2025), (Y2023, Y2024))
SOURCE = EventSource("crashes.csv")

# corners and edges as well as anywhere, outside included
xs = st.one_of(
    st.floats(LEFT - 3000, RIGHT + 3000), st.integers(-1, GRID.cols + 1).map(lambda i: LEFT + 1000.0 * i)
)
ys = st.one_of(
    st.floats(BOTTOM - 3000, TOP + 3000), st.integers(-1, GRID.rows + 1).map(lambda i: TOP - 1000.0 * i)
)
points = st.lists(st.tuples(xs, ys, st.floats(0, 100)), max_size=40)


@given(points)
def test_counts_are_conserved(some: list[tuple[float, float, float]]) -> None:
    x, y, weight = np.array(some, dtype=float).reshape(-1, 3).T
    inside = (x >= LEFT) & (x < RIGHT) & (y <= TOP) & (y > BOTTOM)
    # the grid's own epsilon, 1e-9 of a cell, lies between the two sides of an edge
    clear = np.abs((x - LEFT) / 1000 - np.round((x - LEFT) / 1000)) > 1e-8
    clear &= np.abs((TOP - y) / 1000 - np.round((TOP - y) / 1000)) > 1e-8
    exact = ((x - LEFT) % 1000 == 0) | clear
    exact &= ((TOP - y) % 1000 == 0) | clear
    x, y, weight, inside = x[exact], y[exact], weight[exact], inside[exact]
    assert count_events(GRID, x, y).sum() == inside.sum()
    np.testing.assert_allclose(count_events(GRID, x, y, weight).sum(), weight[inside].sum(), atol=1e-9)


@given(points, st.integers(1, 7))
def test_coarser_tiles_hold_the_same_events(some: list[tuple[float, float, float]], factor: int) -> None:
    x, y, weight = np.array(some, dtype=float).reshape(-1, 3).T
    inside = GRID.locate(x, y)[0] >= 0
    x, y, weight = x[inside], y[inside], weight[inside]
    fine, coarse = count_events(GRID, x, y, weight), count_events(GRID.coarser(factor), x, y, weight)
    rows, cols = GRID.parents(*GRID.every_tile(), factor)
    summed = np.zeros(coarse.shape)
    np.add.at(summed, (rows, cols), fine.ravel())
    np.testing.assert_allclose(summed, coarse, atol=1e-9)


def test_a_point_on_an_edge_belongs_right_and_below() -> None:
    counts = count_events(GRID, np.array([LEFT + 2000]), np.array([TOP - 3000]))
    assert counts[3, 2] == counts.sum() == 1


def test_points_that_are_not_finite() -> None:
    with pytest.raises(SourceError, match="event 1 has a coordinate"):
        count_events(GRID, np.array([LEFT, np.nan]), np.array([TOP, TOP]))


def test_windows_are_half_open_local_days() -> None:
    events = dated(
        ["2022-12-31T23:59:59", "2023-01-01", "2023-12-31T23:59:59", "2024-01-01", "2024-12-31T23:59:59"]
    )
    (label, labels), (past, counts) = event_columns(events, GRID, BOTH, SOURCE)
    assert (labels.sum(), counts.sum(), labels.shape) == (2, 2, (GRID.size,))
    assert (label.name, label.role, label.combine, label.window) == (
        "crashes_label",
        "label",
        "sum",
        ("2024-01-01", "2025-01-01"),
    )
    assert (past.name, past.role, past.unit, past.source) == ("crashes_past", "feature", "events", "crashes")
    assert [c.name for c, _ in event_columns(events, GRID, Windows((Y2024, Y2025)), SOURCE)] == [
        "crashes_label"
    ]


def test_one_source_without_an_event_in_the_label_window_counts_zero() -> None:
    (_, counts), _ = event_columns(dated(["2020-05-05", "2026-01-01"]), GRID, BOTH, SOURCE)
    assert counts.shape == (GRID.size,)
    assert not counts.any()


def named(events: Events, windows: Windows = BOTH, **settings: Any) -> dict[str, tuple[Column, np.ndarray]]:
    """The columns of events by name."""
    columns = event_columns(events, GRID, windows, EventSource("crashes.csv", **settings))
    return {column.name: (column, values) for column, values in columns}


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)), min_size=1, max_size=30),
    st.sampled_from(["EPSG:4326", "EPSG:26986", "EPSG:3857", "EPSG:5070"]),
    st.randoms(use_true_random=False),
)
def test_no_total_depends_on_the_crs_or_the_order_of_a_file(
    some: list[tuple[float, float]], crs: str, random: Any
) -> None:
    x, y = LEFT + np.array(some)[:, 0] * (RIGHT - LEFT), BOTTOM + np.array(some)[:, 1] * (TOP - BOTTOM)
    # a point within a millimetre of an edge may end on its other side
    clear = np.all([np.abs((v / 1000) - np.round(v / 1000)) > 1e-6 for v in (x - LEFT, TOP - y)], axis=0)
    x, y = np.append(x[clear], LEFT + 500), np.append(y[clear], TOP - 500)
    there = Transformer.from_crs(GRID.crs, crs, always_xy=True).transform(x, y)
    order = random.sample(range(len(x)), len(x))
    path = Path(mkdtemp()) / "events.parquet"
    pd.DataFrame({"x": there[0][order], "y": there[1][order], "date": "2023-05-05"}).to_parquet(path)
    events = read_events(EventSource(str(path), x="x", y="y", crs=crs), GRID)
    ((_, counts),) = event_columns(events, GRID, Windows(None, (date(2023, 5, 5), date(2023, 5, 6))), SOURCE)
    np.testing.assert_array_equal(counts, count_events(GRID, x, y).ravel())


def test_weights_are_summed_beside_the_counts() -> None:
    events = events_at(
        [LEFT + 1, LEFT + 2, LEFT + 1001],
        TOP - 1,
        ["2023-01-01", "2023-05-05", "2024-01-01"],
        {"severity": ["K", None, "1"]},
        severities={"": "O", "1": "C"},
        weights={"K": 100.0, "O": 1.0, "C": 20.5},
    )
    columns = named(events)
    assert list(columns) == [
        "crashes_label",
        "crashes_label_weighted",
        "crashes_past",
        "crashes_past_weighted",
    ]
    assert columns["crashes_past"][1][0] == 2
    assert columns["crashes_past_weighted"][1][0] == 101
    assert columns["crashes_label_weighted"][1][1] == columns["crashes_label_weighted"][1].sum() == 20.5
    assert columns["crashes_label_weighted"][0].role == "label"


def test_kinds_are_counted_apart() -> None:
    events = events_at(
        LEFT + np.arange(4.0),
        TOP - 1,
        "2023-05-05",
        {"pedestrian": ["1", None, "0", "1"], "light": ["Dark - lit", "Daylight", None, "Daylight"]},
        by=("pedestrian", "light"),
    )
    columns = named(events, Windows(None, (Y2023, Y2024)))
    assert {name: values.sum() for name, (_, values) in columns.items()} == {
        "crashes_past": 4,
        "crashes_past_pedestrian": 2,
        "crashes_past_light_dark_lit": 1,
        "crashes_past_light_daylight": 2,
    }


def test_spellings_of_a_kind_are_one_column() -> None:
    events = events_at(
        LEFT + np.arange(5.0), TOP - 1, columns={"mode": ["Ped", "ped", "p-ed", "---", "P_ED"]}, by=("mode",)
    )
    columns = named(events, Windows(None, (Y2023, Y2024)))
    assert {name: values.sum() for name, (_, values) in columns.items()} == {
        "crashes_past": 5,
        "crashes_past_mode_ped": 2,
        "crashes_past_mode_p_ed": 2,
        "crashes_past_mode_other": 1,
    }


def test_what_is_shared_by_killed_and_serious_is_not_learned_from_the_label(tmp_path: Path) -> None:
    """Another severity in the label window leaves past weights as they are."""
    sums = []
    for last in ("K", "A"):
        times = ["2023-01-01", "2023-06-01", "2024-05-05"]
        events = events_at([LEFT + 1] * 3, TOP - 1, times, {"severity": ["K", "A", last]})
        source = EventSource("crashes.csv", weights="usdot-2022-ka")
        sums.append(named(weighted(events, source, Y2024))["crashes_past_weighted"][1][0])
    assert sums[0] == sums[1] > 1000


def test_too_many_kinds_are_refused() -> None:
    with pytest.raises(
        SourceError, match=r"'street' has 21 values, more than the 20 .* fewer kinds with `by`"
    ):
        events_at(
            LEFT + np.arange(21.0), TOP - 1, columns={"street": [f"s{i}" for i in range(21)]}, by=("street",)
        )


def test_further_windows_are_columns_of_their_own() -> None:
    events = dated(["2021-07-01", "2022-07-01", "2022-08-01", "2023-07-01"])
    windows = Windows((Y2024, Y2025), (date(2021, 1, 1), Y2024), {"y2022": (date(2022, 1, 1), Y2023)})
    columns = named(events, windows)
    assert columns["crashes_y2022"][1][0] == 2
    assert (columns["crashes_y2022"][0].role, columns["crashes_y2022"][0].window) == (
        "feature",
        ("2022-01-01", "2023-01-01"),
    )
    assert columns["crashes_past"][1][0] == 4


def test_a_source_has_no_column_of_a_window_that_it_tells_nothing_of() -> None:
    """A file of one year holds no zeros of another; one that begins late says when."""
    assert list(named(dated(["2024-01-01", "2024-12-31"]))) == ["crashes_label"]
    assert list(named(dated(["2025-01-01", "2025-12-31"]))) == []
    columns = named(dated(["2023-06-01", "2024-12-31"]))
    assert columns["crashes_past"][0].window == ("2023-06-01", "2024-01-01")
    # a year without a crash at New Year is a whole year
    assert named(dated(["2023-01-06", "2024-12-27"]))["crashes_past"][0].window == (
        "2023-01-01",
        "2024-01-01",
    )


def test_events_without_dates_are_one_count() -> None:
    events = events_at(
        [LEFT + 1, LEFT + 1], TOP - 1, undated=True, period=(date(2014, 1, 1), date(2017, 1, 1))
    )
    columns = named(events)
    assert list(columns) == ["crashes_count"]
    column, values = columns["crashes_count"]
    assert (values[0], values.sum(), column.role) == (2, 2, "feature")
    assert column.window == ("2014-01-01", "2017-01-01")


def test_a_kernel_is_a_gaussian_that_keeps_its_mass() -> None:
    """One event in the middle: the mass is 1, its spread the bandwidth and a cell's own."""
    counts = np.zeros(GRID.shape)
    middle = GRID.rows // 2, GRID.cols // 2
    counts[middle] = 3.0
    density = smoothed(GRID, counts, 700.0, np.ones(GRID.shape, bool))
    rows, cols = GRID.every_tile()
    mass = density * GRID.area_km2(rows, cols).reshape(GRID.shape)
    assert mass.sum() == pytest.approx(3, rel=2e-3)
    off_m = (np.arange(GRID.cols) - middle[1]) * GRID.cell_m
    # Sheppard: a cell's own spread is a twelfth of its square
    variance = (mass.sum(axis=0) * off_m**2).sum() / mass.sum()
    assert variance == pytest.approx(700.0**2 + GRID.cell_m**2 / 12, rel=0.02)
    assert density[middle] == density.max()


def test_a_kernel_makes_up_for_what_is_not_covered() -> None:
    """The same everywhere stays the same everywhere, at borders too, and is missing outside."""
    covered = np.zeros(GRID.shape, bool)
    covered[2:8, 3:12] = True
    rows, cols = GRID.every_tile()
    area = GRID.area_km2(rows, cols).reshape(GRID.shape)
    density = smoothed(GRID, np.full(GRID.shape, 5.0), 900.0, covered)
    assert np.isnan(density[~covered]).all()
    np.testing.assert_allclose(density[covered] * area[covered], 5.0, rtol=1e-9)


def test_a_kernel_narrower_than_half_a_tile_is_refused() -> None:
    with pytest.raises(SourceError, match=r"^kernels_m 1e\+20 is wider than the grid; give a smaller one$"):
        smoothed(GRID, np.zeros(GRID.shape), 1e20, np.ones(GRID.shape, bool))
    with pytest.raises(SourceError, match=r"^kernels_m 400 is less than half a tile of 1000 m and would"):
        smoothed(GRID, np.zeros(GRID.shape), 400.0, np.ones(GRID.shape, bool))


def test_kernels_see_past_events_only() -> None:
    events = events_at([LEFT + 500, LEFT + 5500], TOP - 500, ["2023-01-05", "2024-05-05"])
    columns = named(events, kernels_m=(800.0, 1500.0), nearest=True)
    for name in ("crashes_past_kernel_800m", "crashes_past_kernel_1500m"):
        column, values = columns[name]
        assert (int(values.argmax()), column.role, column.unit) == (0, "feature", "events/km2")
        assert column.window == ("2023-01-01", "2024-01-01")
    assert columns["crashes_past_kernel_1500m"][1][3] > columns["crashes_past_kernel_800m"][1][3]
    distance = columns["crashes_past_nearest_m"][1]
    # the scale of this zone is 0.9996 in its middle and 1.0009 here
    np.testing.assert_allclose(distance[:4], [0, 1000, 2000, 3000], rtol=2e-3, atol=1e-6)


def test_no_past_event_is_an_unknown_distance() -> None:
    assert np.isnan(
        named(dated(["2022-05-05", "2024-05-05"]), nearest=True)["crashes_past_nearest_m"][1]
    ).all()


def test_boston_sum_is_the_crashes_inside(shared_data: Path) -> None:
    path = shared_data / "boston/crashes/massdot_2024_mapc.csv"
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 250)
    events = read_events(EventSource(str(path)), grid)
    ((_, counts),) = event_columns(events, grid, Windows((Y2024, Y2025)), SOURCE)
    raw = pd.read_csv(path)
    located = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(raw["lng"], raw["lat"]), crs=4326)
    rows, cols = grid.every_tile()
    cells = geopandas.GeoDataFrame({"tile": range(grid.size)}, geometry=grid.cells(rows, cols), crs=grid.crs)
    joined = located.to_crs(grid.crs).sjoin(cells, predicate="within")
    expected = np.bincount(joined["tile"], minlength=grid.size)
    assert counts.sum() == len(joined)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(count_events(grid, events.table["x"], events.table["y"]).ravel(), counts)
