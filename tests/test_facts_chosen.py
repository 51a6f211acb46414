"""Which columns become facts, which are left out and why, and which would tell the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roadrisk.columns import Column, Role
from roadrisk.errors import UsageError
from roadrisk.learning.facts.choosing import asked_for, chosen_facts, table_column
from roadrisk.learning.labels.label import Label
from roadrisk.learning.settings import TrainSettings

BEFORE = ("2021-01-01", "2024-01-01")
DURING = ("2024-01-01", "2025-01-01")
ENFORCEMENT = "a measure of enforcement as well as behaviour"


def _column(
    name: str,
    role: Role = "feature",
    source: str | None = None,
    window: tuple[str, str] | None = None,
    withheld: str = "",
) -> Column:
    return Column(name, "float64", "events", role, "sum", "Told.", source, window, withheld=withheld)


ROAD = _column("road_m", source="roads")
CRASHES = _column("crashes_label", "label", "crashes", DURING)
PAST = _column("crashes_past", "feature", "crashes", BEFORE)
CITATIONS = _column("citations_past", "feature", "citations", BEFORE, ENFORCEMENT)
TRAVEL = _column("vehicle_km", "exposure", "traffic", BEFORE)
CUT = Column("label", "boolean", "", "label", "none", "High.", "crashes_label", DURING)
NOTE = Column("note", "object", "", "info", "none", "Text.", withheld="nearly every tile has its own.")
SURFACE = Column("surface", "object", "", "feature", "none", "Text.")
COLUMNS = (ROAD, CRASHES, PAST, CITATIONS, TRAVEL, CUT, NOTE)


def _label(column: str = "label", measure: str | None = "crashes_label") -> Label:
    return Label(np.zeros(2), np.zeros(2), column, measure, 1.0 if measure else None, None, "High risk.")


def _names(columns: tuple[Column, ...], label: Label | None = None, **settings: object) -> list[str]:
    chosen = chosen_facts(columns, TrainSettings(**settings), label or _label())  # type: ignore[arg-type]
    return [column.name for column in (*chosen.numbers, *chosen.texts)]


def test_what_a_model_gets_unless_something_is_asked_for() -> None:
    numbers, texts, left_out = chosen_facts((*COLUMNS, SURFACE), TrainSettings(), _label())
    assert numbers == (ROAD,)
    assert texts == (SURFACE,)
    assert left_out == {
        "crashes_past": "made from the label's own source; ask for it with --features",
        "citations_past": f"{ENFORCEMENT}; ask for it with --features",
        "vehicle_km": "an exposure, not a fact about the place; ask for it with --features",
        "note": "nearly every tile has its own",
    }
    assert asked_for((*numbers, *texts), COLUMNS, _label()) == {}


def test_what_is_asked_for_is_used_and_its_reason_kept() -> None:
    names = ("road_m", "crashes_past", "citations_past", "vehicle_km")
    numbers, texts, left_out = chosen_facts(COLUMNS, TrainSettings(features=names), _label())
    assert numbers == (ROAD, PAST, CITATIONS, TRAVEL)
    assert texts == ()
    assert left_out == {}
    assert asked_for(numbers, COLUMNS, _label()) == {
        "crashes_past": "asked for: made from the label's own source",
        "citations_past": f"asked for: {ENFORCEMENT}",
        "vehicle_km": "asked for: an exposure, not a fact about the place",
    }


def test_excluded_columns_are_neither_used_nor_left_out() -> None:
    excluded = TrainSettings(exclude=("road_m", "citations_past", "surface"))
    numbers, texts, left_out = chosen_facts((*COLUMNS, SURFACE), excluded, _label())
    assert (numbers, texts) == ((), ())
    assert set(left_out) == {"crashes_past", "vehicle_km", "note"}


@pytest.mark.parametrize("name", ["label", "crashes_label"])
def test_what_is_to_be_learned_is_no_fact(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        _names(COLUMNS, features=(name,))
    assert str(caught.value) == f"--features {name} is what is to be learned; leave it out"


@pytest.mark.parametrize(
    ("leak", "asked"),
    [
        (_column("arrests", "feature", "arrests", ("2023-07-01", "2024-07-01")), None),
        (_column("arrests", "feature", "arrests", ("2023-07-01", "2024-07-01")), ("arrests",)),
        (_column("arrests", "feature", "arrests", ("2024-03-01", "2024-04-01")), None),
        (_column("arrests", "feature", "arrests", ("2026-01-01", "2027-01-01")), None),
        (_column("arrests", "feature", "arrests", ("2020-01-01", "2024-01-02")), None),
        (_column("arrests", "feature", "arrests", DURING, ENFORCEMENT), ("arrests",)),
        (_column("arrests", "exposure", "arrests", DURING), ("arrests",)),
        (_column("arrests", "info", "arrests", DURING), ("arrests",)),
        (_column("arrests", "feature", "crashes", DURING), ("road_m", "arrests")),
    ],
)
def test_a_fact_that_reaches_into_the_label_window_is_refused(
    leak: Column, asked: tuple[str, ...] | None
) -> None:
    with pytest.raises(UsageError) as caught:
        _names((*COLUMNS, leak), features=asked)
    assert leak.window
    assert str(caught.value) == (
        "a fact must tell of days before the label window, which is 2024-01-01 to before 2025-01-01 (label): "
        f"arrests ({leak.window[0]} to before {leak.window[1]}) would know what is to be learned; "
        "give --exclude arrests, or tile again with windows that end by 2024-01-01"
    )
    assert "arrests" not in _names((*COLUMNS, leak), features=asked, exclude=("arrests",))


def test_every_leak_is_named() -> None:
    leaks = (_column("b", window=DURING), _column("a", window=("2025-01-01", "2026-01-01")))
    with pytest.raises(UsageError, match=r": b \(2024-01-01 .*\), a \(2025-01-01 .*; give --exclude b,a, or"):
        _names((*COLUMNS, *leaks))


@pytest.mark.parametrize(
    "leak",
    [
        _column("arrests", "exposure", "arrests", DURING),
        _column("arrests", "feature", "arrests", DURING, ENFORCEMENT),
        _column("arrests", "feature", "crashes", DURING),
        _column("arrests", "label", "arrests", DURING),
    ],
)
def test_a_late_column_that_is_no_fact_is_no_leak(leak: Column) -> None:
    assert _names((*COLUMNS, leak)) == ["road_m"]


def test_the_window_is_followed_through_the_measure() -> None:
    leak = _column("arrests", "feature", "arrests", DURING)
    undated_cut = replace(CUT, window=None)
    with pytest.raises(UsageError, match=r"2025-01-01 \(crashes_label\): arrests"):
        _names((ROAD, CRASHES, undated_cut, leak))
    rate = replace(CRASHES, name="rate", source="crashes_label", window=None)
    with pytest.raises(UsageError, match=r"2025-01-01 \(crashes_label\): arrests"):
        _names((ROAD, CRASHES, rate, leak), _label("rate", "rate"))


def test_the_earliest_day_behind_the_label_counts() -> None:
    early = replace(CRASHES, window=("2023-01-01", "2025-01-01"))
    leak = _column("arrests", "feature", "arrests", ("2023-01-01", "2024-01-01"))
    with pytest.raises(UsageError, match=r"end by 2023-01-01$"):
        _names((ROAD, early, CUT, leak))


def test_days_up_to_the_label_and_columns_without_days_pass() -> None:
    columns = (*COLUMNS, _column("arrests", "feature", "arrests", BEFORE), _column("slope", source="dem"))
    assert _names(columns) == ["road_m", "arrests", "slope"]


def test_without_a_dated_label_nothing_is_late() -> None:
    columns = (
        _column("arrests", "feature", "arrests", DURING),
        Column("high", "bool", "", "label", "none", ""),
    )
    assert _names(columns, _label("high", None)) == ["arrests"]


def test_a_model_of_pictures_has_no_facts_to_refuse() -> None:
    leak = _column("arrests", "feature", "arrests", DURING)
    assert _names((*COLUMNS, leak), inputs="image") == []
    assert chosen_facts((*COLUMNS, SURFACE), TrainSettings(inputs="image"), _label())[:2] == ((), ())


def test_texts_are_asked_for_by_name_like_numbers() -> None:
    numbers, texts, left_out = chosen_facts(
        (*COLUMNS, SURFACE), TrainSettings(features=("road_m", "note")), _label()
    )
    assert (numbers, texts, left_out) == ((ROAD,), (NOTE,), {})


def test_a_text_that_reaches_into_the_label_window_is_refused() -> None:
    with pytest.raises(UsageError, match=r"surface \(2024-01-01 to before 2025-01-01\) would know"):
        _names((*COLUMNS, replace(SURFACE, window=DURING)))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["paved", "gravel", None, "paved", "gravel"], "object"),
        (["9", 20, 9.0, "20", None, "9"], "object"),
        (pd.Categorical(["a", "b", "a", "b"]), "object"),
        (["US 20", "I-90"] * 9, "object"),
        (["2021", "02139"] * 9, "object"),
        ([1, 2], "int64"),
        ([1.5, None], "float64"),
        ([True, None, False], "boolean"),
        ([None, None], "float64"),
    ],
)
def test_numbers_and_texts_of_a_table_may_be_facts(values: object, dtype: str) -> None:
    assert table_column("a", pd.Series(values)) == Column(  # type: ignore[call-overload]
        "a", dtype, "", "feature", "none", "Column a of the table."
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([f"id {k}" for k in range(50)], "nearly every tile has a text of its own"),
        ([f"t{k % 65}" for k in range(500)], "65 different texts, more than 64"),
        (["2021-03-04", "2021-03-05"] * 9, "dates; only numbers and texts are facts"),
        (["3/14/2021 12:01 PM", "4/14/2021 1:00 AM", None] * 9, "dates; only numbers and texts are facts"),
        ([*(["2021-03-04"] * 18), "soon", "soon"], "dates; only numbers and texts are facts"),
        (pd.to_datetime(["2021-03-04"] * 3), "dates; only numbers and texts are facts"),
        ([[1], [2], [1]], "neither numbers nor texts"),
        (["", ""], "no value in any training tile"),
        (["yes", None, "yes"], "the same in every training tile"),
    ],
)
def test_other_columns_of_a_table_are_no_facts_and_it_is_said(values: object, reason: str) -> None:
    column = table_column("a", pd.Series(values))  # type: ignore[call-overload]
    assert (column.role, column.dtype, column.withheld) == ("info", "object", reason)
    assert chosen_facts((ROAD, column), TrainSettings(), _label()).left_out == {"a": reason}
