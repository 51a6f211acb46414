"""Whether tiles are of the kind that a model knows, and which columns metros share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.columns import Column
from roadrisk.learning.matching import (
    Kind,
    column_differences,
    shared_columns,
    tile_differences,
    years_ratio,
)

ROADS = Column("road_m", "float64", "m", "feature", "sum", "Centre-line length.")
PAST = Column(
    "tickets_past", "int64", "events", "feature", "sum", "Tickets.", window=("2023-01-01", "2024-01-01")
)
LANES = Column("lanes", "float64", "", "feature", "mean", "Lanes.", by=("road_m",))
SURFACE = Column("surface", "object", "", "feature", "mode", "Surface.")
EVERY = (ROADS, PAST, LANES, SURFACE)
KIND = Kind(EVERY, 250.0, {"aerial": 1.0}, {}, ("aerial",))


def test_what_is_alike_is_shared_as_the_first_tells_it() -> None:
    other = tuple(replace(column, meaning="As told elsewhere.") for column in EVERY[::-1])
    assert shared_columns([("a", EVERY), ("b", other)]) == (EVERY, {})


@pytest.mark.parametrize(
    ("column", "change", "reason"),
    [
        (ROADS, {"unit": "ft"}, "in b it is in ft, not m as in a"),
        (LANES, {"unit": "lanes"}, "in b it is in lanes, not no unit as in a"),
        (PAST, {"window": ("2023-07-01", "2024-01-01")}, "in b it spans 184 days, not 365 as in a"),
        (PAST, {"window": None}, "in b it is undated, not of a window as in a"),
        (ROADS, {"window": ("2023-01-01", "2024-01-01")}, "in b it is of a window, not undated as in a"),
        (ROADS, {"combine": "mean"}, "in b it is a mean, not a sum as in a"),
        (ROADS, {"role": "info"}, "in b it is of role info, not feature as in a"),
        (LANES, {"dtype": "object"}, "in b it holds text, not numbers as in a"),
        (SURFACE, {"dtype": "float64"}, "in b it holds numbers, not text as in a"),
    ],
)
def test_what_differs_is_left_out_and_explained(column: Column, change: dict[str, Any], reason: str) -> None:
    kept = tuple(one for one in EVERY if one is not column)
    other = (*kept, replace(column, **change))
    assert shared_columns([("a", EVERY), ("b", other)]) == (kept, {column.name: reason})
    assert shared_columns([("a", EVERY), ("c", EVERY), ("b", other)])[1] == {column.name: reason}


def test_what_is_missing_somewhere_is_left_out_by_the_names_of_where() -> None:
    shared, left_out = shared_columns([("a", (ROADS, LANES)), ("b", (ROADS, PAST)), ("c", (ROADS,))])
    assert shared == (ROADS,)
    assert left_out == {"lanes": "not in b, c", "tickets_past": "not in a, c"}


def test_a_window_a_fifth_longer_is_near_enough_either_way() -> None:
    longer = replace(PAST, window=("2022-11-01", "2024-01-01"))
    for pair in ((PAST, longer), (longer, PAST)):
        assert shared_columns([("a", (pair[0],)), ("b", (pair[1],))])[1] == {}
    assert years_ratio(longer, PAST) == 365 / 426
    assert years_ratio(replace(longer, combine="mean"), PAST) == 1.0
    assert years_ratio(ROADS, ROADS) == 1.0


def test_what_is_withheld_in_one_metro_is_withheld_in_all() -> None:
    held = replace(LANES, withheld="Measured from the mask.")
    for metros in ([("a", (LANES,)), ("b", (held,))], [("a", (held,)), ("b", (LANES,))]):
        assert shared_columns(metros)[0][0].withheld == "Measured from the mask."


@given(st.lists(st.lists(st.sampled_from(EVERY), unique=True), min_size=2, max_size=4), st.randoms())
def test_the_order_of_metros_and_columns_changes_not_what_is_shared(
    metros: list[list[Column]], random: Any
) -> None:
    named = [(f"m{i}", tuple(columns)) for i, columns in enumerate(metros)]
    shared, left_out = shared_columns(named)
    mixed = [(name, tuple(random.sample(columns, len(columns)))) for name, columns in named]
    random.shuffle(mixed)
    again, why = shared_columns(mixed)
    assert set(again) == set(shared) == set(EVERY).intersection(*metros)
    assert set(why) == set(left_out) == {column.name for column in set().union(*metros) - set(shared)}


@pytest.mark.parametrize(
    ("here", "wrong"),
    [
        (KIND, []),
        (replace(KIND, cell_m=300.0), []),
        (replace(KIND, cell_m=301.0), ["tiles are 301 m wide, not 250"]),
        (replace(KIND, cell_m=None), []),
        (replace(KIND, metres_per_pixel={"aerial": 0.79}), ["a pixel is 0.79 m, not 1"]),
        (replace(KIND, metres_per_pixel={}), []),
        (replace(KIND, views=()), ["no view aerial"]),
        (
            replace(KIND, stretches={"aerial": ((0.0, 9.0),)}),
            ["its pictures are stretched from more than 8 bit, the model's were of 8 bit"],
        ),
    ],
)
def test_tiles_of_another_kind_are_named(here: Kind, wrong: list[str]) -> None:
    assert tile_differences(here, KIND, "x") == wrong


def test_each_view_is_matched_by_its_name() -> None:
    there = replace(
        KIND,
        metres_per_pixel={"aerial": 1.0, "context": 3.0},
        stretches={"aerial": ((0.0, 9.0),)},
        views=("aerial", "context"),
    )
    assert tile_differences(there, there, "x") == []
    here = replace(there, metres_per_pixel={"aerial": 1.0, "context": 1.0}, stretches={})
    assert tile_differences(here, there, "boston") == [
        "its pictures are stretched otherwise (tile with --stretch-of boston)",
        "a pixel of context is 1 m, not 3",
    ]


def test_columns_that_a_model_learned_from_are_named_with_what_differs() -> None:
    here = replace(KIND, columns=(replace(ROADS, unit="ft"), LANES))
    used = {"road_m", "lanes", "tickets_past"}
    assert column_differences(here, KIND, used) == {
        "tickets_past": "no column tickets_past",
        "road_m": "road_m is in ft, not m",
    }
    assert column_differences(here, KIND, {"lanes"}) == {}
