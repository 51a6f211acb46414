from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.errors import SourceError, UsageError
from roadrisk.features import events as events_module
from roadrisk.features.counting import count_events
from roadrisk.features.events import (
    check_label_window,
    chosen_windows,
    default_windows,
    event_columns,
    in_window,
)
from roadrisk.grid import LngLatBbox, grid_of_cell
from roadrisk.source_settings import EventSource
from roadrisk.sources.account import Account
from roadrisk.sources.events import Events, read_events

GRID = grid_of_cell(LngLatBbox(-71.2, 42.3, -71.0, 42.4), 1000)
LEFT, BOTTOM, RIGHT, TOP = GRID.bounds
Y2023, Y2024, Y2025 = (date(y, 1, 1) for y in (2023, 2024, 2025))

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


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y, weight = rng.uniform(LEFT, RIGHT, 1000), rng.uniform(BOTTOM, TOP, 1000), rng.uniform(0, 5, 1000)
    whole = count_events(GRID, x, y, weight)
    monkeypatch.setattr(events_module, "_AT_ONCE", 7)
    np.testing.assert_allclose(count_events(GRID, x, y, weight), whole, rtol=1e-12)


def test_a_point_on_an_edge_belongs_right_and_below() -> None:
    counts = count_events(GRID, np.array([LEFT + 2000]), np.array([TOP - 3000]))
    assert counts[3, 2] == counts.sum() == 1


def test_points_that_are_not_finite() -> None:
    with pytest.raises(SourceError, match="event 1 has a coordinate"):
        count_events(GRID, np.array([LEFT, np.nan]), np.array([TOP, TOP]))


def made_up(times: list[str]) -> Events:
    table = pd.DataFrame(
        {
            "x": LEFT + 500.0,
            "y": TOP - 500.0,
            "row": 0,
            "col": 0,
            "time": np.array(times, dtype="datetime64[s]"),
            "severity": None,
            "weight": 1.0,
            "source_row": range(len(times)),
        }
    )
    account = Account("crashes", len(times), len(times), {}, 0)
    moments = sorted(datetime.fromisoformat(t).date() for t in times)
    return Events("crashes", table, table.iloc[:0], account, (), moments[0], moments[-1])


def test_windows_are_half_open_local_days() -> None:
    events = made_up(
        ["2022-12-31T23:59:59", "2023-01-01", "2023-12-31T23:59:59", "2024-01-01", "2024-12-31T23:59:59"]
    )
    (label, labels), (past, counts) = event_columns(events, GRID, (Y2024, Y2025), (Y2023, Y2024))
    assert (labels.sum(), counts.sum(), labels.shape) == (2, 2, (GRID.size,))
    assert (label.name, label.role, label.combine, label.window) == (
        "crashes_label",
        "label",
        "sum",
        ("2024-01-01", "2025-01-01"),
    )
    assert (past.name, past.role, past.unit, past.source) == ("crashes_past", "feature", "events", "crashes")
    assert [c.name for c, _ in event_columns(events, GRID, (Y2024, Y2025), None)] == ["crashes_label"]


@given(st.lists(st.datetimes(datetime(2022, 1, 1), datetime(2026, 1, 1)), min_size=1))
def test_adjoining_windows_share_nothing(moments: list[datetime]) -> None:
    times = pd.Series(np.array(moments, dtype="datetime64[s]"))
    early, late = in_window(times, (date(2022, 1, 1), Y2024)), in_window(times, (Y2024, date(2026, 1, 2)))
    assert (early ^ late).all()


def test_an_empty_label_window_is_an_error() -> None:
    with pytest.raises(
        SourceError, match="no event in the grid falls in the label window 2024-01-01 to 2025-01-01"
    ):
        check_label_window([made_up(["2020-05-05"]), made_up(["2021-05-05"])], (Y2024, Y2025))
    check_label_window([made_up(["2020-05-05"]), made_up(["2024-05-05"])], (Y2024, Y2025))


def test_one_source_without_an_event_in_the_label_window_counts_zero() -> None:
    (_, counts), _ = event_columns(made_up(["2020-05-05"]), GRID, (Y2024, Y2025), (Y2023, Y2024))
    assert counts.shape == (GRID.size,)
    assert not counts.any()


def test_the_label_window_of_one_source_is_refused_in_its_name() -> None:
    with pytest.raises(SourceError) as raised:
        check_label_window([made_up(["2020-05-05", "2021-05-05"])], (Y2024, Y2025))
    assert str(raised.value) == (
        "crashes: no event in the grid falls in the label window 2024-01-01 to 2025-01-01; the file is "
        "dated 2020-05-05 to 2021-05-05: give another --label-window"
    )


def test_default_windows() -> None:
    assert default_windows(date(2015, 1, 1), date(2024, 12, 31)) == (
        (Y2024, Y2025),
        (date(2015, 1, 1), Y2024),
    )
    # the last year is not over: the one before is the label; what is before the first full year counts too
    label, feature = default_windows(date(2010, 6, 1), date(2016, 6, 30))
    assert label == (date(2015, 1, 1), date(2016, 1, 1))
    assert feature == (date(2010, 6, 1), date(2015, 1, 1))
    # days without a crash at New Year
    assert default_windows(date(2023, 1, 4), date(2024, 12, 28)) == ((Y2024, Y2025), (Y2023, Y2024))


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2024, 1, 1), date(2024, 12, 31)),
        (date(2023, 3, 1), date(2024, 12, 31)),
        (Y2023, date(2024, 11, 30)),
    ],
)
def test_no_default_with_less_than_two_full_years(first: date, last: date) -> None:
    with pytest.raises(UsageError, match=f"dated {first} to {last}.*--label-window.*--feature-window"):
        default_windows(first, last)


def test_chosen_windows() -> None:
    first, last = date(2015, 1, 1), date(2024, 12, 31)
    assert chosen_windows((Y2024, Y2025), None, Y2024, last) == ((Y2024, Y2025), None)
    assert chosen_windows(None, None, first, last) == default_windows(first, last)
    assert chosen_windows(None, (Y2023, Y2024), first, last) == ((Y2024, Y2025), (Y2023, Y2024))
    with pytest.raises(UsageError, match="--feature-window ends 2024-01-02, after --label-window starts"):
        chosen_windows((Y2024, Y2025), (Y2023, date(2024, 1, 2)), first, last)


def test_boston_sum_is_the_crashes_inside(shared_data: Path) -> None:
    path = shared_data / "boston/crashes/massdot_2024_mapc.csv"
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 250)
    events = read_events(EventSource(str(path)), grid)
    ((_, counts),) = event_columns(events, grid, (Y2024, Y2025), None)
    raw = pd.read_csv(path)
    located = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(raw["lng"], raw["lat"]), crs=4326)
    rows, cols = grid.every_tile()
    cells = geopandas.GeoDataFrame({"tile": range(grid.size)}, geometry=grid.cells(rows, cols), crs=grid.crs)
    joined = located.to_crs(grid.crs).sjoin(cells, predicate="within")
    expected = np.bincount(joined["tile"], minlength=grid.size)
    assert counts.sum() == len(joined)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(count_events(grid, events.table["x"], events.table["y"]).ravel(), counts)
