"""Facts around a tile: those of a slow loop, on any lattice, and the same whatever the order of rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadrisk.columns import Column
from roadrisk.errors import SourceError, UsageError
from roadrisk.learning.facts import neighbourhood
from roadrisk.learning.facts.neighbourhood import (
    RasterWindows,
    RunWindows,
    _windows,
    neighbour_names,
    reach_tiles,
    weight_names,
    with_neighbourhoods,
)
from roadrisk.learning.settings import TrainSettings

YEARS = ("2020-01-01", "2022-01-01")
COLUMNS = (
    Column("road_m", "float64", "m", "feature", "sum", "Roads.", "roads"),
    Column("crashes_past", "int64", "events", "feature", "sum", "Crashes.", "crashes", YEARS, withheld="no."),
    Column("speed", "float64", "km/h", "feature", "mean", "Speed.", "roads", by=("road_m",)),
    Column("slope", "float64", "deg", "feature", "mean", "Slope."),
    Column("oneway", "float64", "share", "feature", "ratio", "Oneway.", by=("oneway_m", "known_m")),
    Column("school", "bool", "", "feature", "any", "A school."),
    Column("lowest", "float64", "m", "feature", "min", "Lowest."),
    Column("highest", "float64", "m", "feature", "max", "Highest."),
    Column("zone", "int64", "", "feature", "mode", "Zone."),
    Column("given", "float64", "", "feature", "none", "Given."),
)
NAMES = [column.name for column in COLUMNS]


def slow(name: str, tiles: list[dict[str, float]], area: list[float]) -> float:
    """What a fact is around a tile, of the tiles there."""
    total = weight = 0.0
    known = [tile[name] for tile in tiles if not math.isnan(tile[name])]
    if name in ("lowest", "highest"):
        return {"lowest": min, "highest": max}[name](known, default=math.nan)
    for tile, km2 in zip(tiles, area, strict=True):
        value, years = tile[name], 731 / 365.25 if name == "crashes_past" else 1.0
        if name in ("road_m", "crashes_past"):
            above, below = value / years, km2
        elif name == "oneway":
            above, below = tile["oneway_m"] + 0 * value, tile["known_m"]
        else:
            below = tile["road_m"] if name == "speed" else km2
            above = value * below
        if not math.isnan(above + below):
            total, weight = total + above, weight + below
    return total / weight if weight > 0 else math.nan


@st.composite
def lattices(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Places of several metros with gaps, far apart, some of them several times."""
    last = draw(st.sampled_from([1, 9]))
    metros = draw(
        st.lists(st.tuples(st.integers(-(2**20), 2**20), st.integers(0, 2**20)), min_size=1, max_size=3)
    )
    places = draw(
        st.lists(
            st.tuples(st.integers(0, len(metros) - 1), st.integers(0, last), st.integers(0, last)),
            min_size=1,
            max_size=40,
            unique=last == 9 and draw(st.booleans()),
        )
    )
    row, col = np.array([(metros[m][0] + r, metros[m][1] + c) for m, r, c in places]).T
    return row, col


def facts_of(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    chance = np.random.default_rng(seed)
    values = chance.gamma(2, 10, (n, len(COLUMNS))) - 5
    values[:, :3] = np.maximum(values[:, :3], 0)
    values[:, 5] = values[:, 5] > 0
    values[chance.random(values.shape) < 0.3] = np.nan
    weights = {name: np.maximum(chance.normal(1, 2, n), 0) for name in ("oneway_m", "known_m")}
    weights["known_m"][chance.random(n) < 0.2] = np.nan
    weights["road_m"] = values[:, 0]
    return values, chance.uniform(0.05, 0.3, n), weights


@settings(max_examples=80, deadline=None)
@given(places=lattices(), seed=st.integers(0, 1000), side=st.sampled_from([3, 5, 7]), dense=st.booleans())
def test_it_is_what_a_slow_loop_finds(
    places: tuple[np.ndarray, np.ndarray], seed: int, side: int, dense: bool
) -> None:
    row, col = places
    values, area, weights = facts_of(seed, len(row))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbourhood, "DENSE", 10**9 if dense else 0)
        assert isinstance(_windows(row, col, side // 2), RasterWindows if dense else RunWindows)
        out, columns = with_neighbourhoods(values, COLUMNS, row, col, area, [side], weights)
    np.testing.assert_array_equal(out[:, : len(COLUMNS)], values)
    kept = [name for name in NAMES if name != "zone"]
    assert [column.name for column in columns] == [*NAMES, *(f"{name}_{side}x{side}" for name in kept)]
    tiles = [
        {**dict(zip(NAMES, tile, strict=True)), **{name: w[k] for name, w in weights.items()}}
        for k, tile in enumerate(values.tolist())
    ]
    for place, name in enumerate(kept, start=len(COLUMNS)):
        wanted = []
        for r, c in zip(row, col, strict=True):
            near = np.flatnonzero(np.maximum(abs(row - r), abs(col - c)) <= side // 2)
            wanted.append(slow(name, [tiles[k] for k in near], area[near].tolist()))
        np.testing.assert_allclose(out[:, place], wanted, rtol=1e-12, atol=1e-12, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(places=lattices(), seed=st.integers(0, 1000), dense=st.booleans())
def test_no_order_of_rows_or_columns_changes_a_bit(
    places: tuple[np.ndarray, np.ndarray], seed: int, dense: bool
) -> None:
    row, col = places
    values, area, weights = facts_of(seed, len(row))
    turned = np.random.default_rng(seed).permutation(len(row))
    columns = np.random.default_rng(seed).permutation(len(COLUMNS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbourhood, "DENSE", 10**9 if dense else 0)
        one, names = with_neighbourhoods(values, COLUMNS, row, col, area, (3, 7), weights)
        other, other_names = with_neighbourhoods(
            values[turned][:, columns],
            tuple(COLUMNS[k] for k in columns),
            row[turned],
            col[turned],
            area[turned],
            (3, 7),
            {name: weight[turned] for name, weight in weights.items()},
        )
    place = [other_names.index(column) for column in names]
    np.testing.assert_array_equal(other[:, place], one[turned])


def test_what_is_known_of_the_columns() -> None:
    values, area, weights = facts_of(0, 4)
    place = np.arange(4)
    _, columns = with_neighbourhoods(values, COLUMNS, place, place, area, (3, 7, 3), weights)
    told = {column.name: column for column in columns}
    assert len(told) == len(columns) == 10 + 2 * 9
    where = "in the 3 x 3 tiles around the tile, where known."
    assert told["crashes_past_3x3"] == replace(
        COLUMNS[1],
        name="crashes_past_3x3",
        dtype="float64",
        unit="events/km2/year",
        combine="mean",
        meaning=f"Crashes: its density {where}",
    )
    assert told["road_m_3x3"].unit == "m/km2"
    assert told["speed_7x7"] == replace(
        COLUMNS[2],
        name="speed_7x7",
        meaning="Speed: its mean in the 7 x 7 tiles around the tile, where known.",
        by=(),
    )
    assert (told["school_3x3"].unit, told["school_3x3"].combine) == ("share", "mean")
    assert (told["lowest_3x3"].combine, told["highest_3x3"].combine) == ("min", "max")
    assert neighbour_names("speed", (3, 7)) == ("speed_3x3", "speed_7x7")
    assert set(told) >= set(neighbour_names("speed", (3, 7)))
    assert weight_names(COLUMNS) == ("known_m", "oneway_m", "road_m")


@pytest.mark.parametrize("side", [3, 7, 31])
def test_nothing_from_beyond_the_reach_comes_in(side: int) -> None:
    reach = reach_tiles(TrainSettings(neighbourhood=(3, side)))
    assert reach == side // 2
    row, col = np.divmod(np.arange(70 * 70), 70)
    road_m = np.zeros(70 * 70)
    road_m[35 * 70 + 35] = 1e9
    out, _ = with_neighbourhoods(road_m[:, None], COLUMNS[:1], row, col, np.ones(70 * 70), [side], {})
    touched = out[:, 1] != 0
    assert np.array_equal(touched, np.maximum(abs(row - 35), abs(col - 35)) <= reach)
    assert touched.sum() == side**2


def test_a_lattice_as_wide_as_the_world_needs_no_raster() -> None:
    # along two diagonals, so that no row and no column is empty
    line = np.arange(200_000)
    row, col = np.concatenate([line, line]), np.concatenate([line, line[::-1]])
    assert isinstance(_windows(row, col, 1), RunWindows)
    out, _ = with_neighbourhoods(np.ones((len(row), 1)), COLUMNS[3:4], row, col, np.ones(len(row)), [3], {})
    np.testing.assert_array_equal(out, 1.0)


def test_metros_far_apart_are_still_a_small_raster() -> None:
    row, col = np.divmod(np.arange(2500), 50)
    rows, cols = np.concatenate([row, row + 2**30]), np.concatenate([col, col + 12345])
    windows = _windows(rows, cols, 3)
    assert isinstance(windows, RasterWindows)
    assert windows.shape == (50 + 4 - 1 + 50, 50 + 4 - 1 + 50)


def test_a_weight_that_is_not_there_is_named() -> None:
    values, area, weights = facts_of(0, 4)
    place = np.arange(4)
    del weights["known_m"]
    with pytest.raises(SourceError) as caught:
        with_neighbourhoods(values, COLUMNS, place, place, area, (3,), weights)
    assert str(caught.value) == (
        "oneway around a tile is worked out from known_m, which the data lacks; add the same sources, or "
        "leave it out with --exclude oneway"
    )


def test_a_name_that_is_taken_is_said() -> None:
    columns = (COLUMNS[3], replace(COLUMNS[3], name="slope_3x3"))
    with pytest.raises(UsageError) as caught:
        with_neighbourhoods(
            np.zeros((1, 2)), columns, np.zeros(1, int), np.zeros(1, int), np.ones(1), [3], {}
        )
    assert str(caught.value) == (
        "--neighbourhood makes a column slope_3x3, which there is already; rename that one"
    )
