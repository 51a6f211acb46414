"""What a model learns: classes, values and counts out of a table's column, and the same of other tables."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.columns import Column
from roadrisk.errors import ModelError, SourceError
from roadrisk.learning.labels.amounts import exposure_of
from roadrisk.learning.labels.label import Label, events_of, high_risk, label_of, observed
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.tasks import Task

WINDOW = ("2024-01-01", "2025-01-01")
CRASHES = Column("crashes_label", "float64", "events", "label", "sum", "Crashes.", "crashes", WINDOW)
CUT = {"measure": "crashes_label", "t": 3.0}
COUNT = Task("count", "poisson", ())


def labelled(
    values: Any,
    name: str = "kind",
    eligible: list[bool] | None = None,
    columns: tuple[Column, ...] = (),
    cut: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    **settings: Any,
) -> Label:
    frame = pd.DataFrame({name: values, **(more or {})})
    asked = TrainSettings(**({"label": name} if cut is None else {}), **settings)
    may = np.ones(len(frame), bool) if eligible is None else np.array(eligible)
    return label_of(frame, columns, may, asked, "metro", cut)


def same(found: Any, wanted: list[Any]) -> bool:
    return np.array_equal(np.asarray(found, float), np.array(wanted, float), equal_nan=True)


@pytest.mark.parametrize(
    ("values", "settings", "positive"),
    [
        ([True, False, None, True], {}, "True"),
        ([1, 0, None, 1], {}, "1"),
        ([2, 1, None, 2], {}, "2"),
        (["bad", "good", None, "bad"], {"positive": "bad"}, "bad"),
        ([7, 3, None, 7], {"positive": "7"}, "7"),
        ([7.5, 3, None, 7.5], {"positive": "7.5"}, "7.5"),
        ([3, 7.5, None, 3], {"positive": "3"}, "3.0"),
    ],
)
def test_two_classes(values: list[Any], settings: dict[str, Any], positive: str) -> None:
    label = labelled(values, **settings)
    assert same(label.values, [1, 0, np.nan, 1])
    assert same(label.events, [1, 0, 0, 1])
    assert same(label.high, [1, 0, 0, 1])
    assert (label.task, label.positive, label.threshold) == (Task(), positive, None)
    assert label.meaning == f"kind is {positive}."


def test_the_others_are_one_class_where_one_is_positive() -> None:
    label = labelled(["low", "high", "medium", "low"], positive="high", loss="focal")
    assert same(label.values, [0, 1, 0, 0])
    assert label.task == Task("class", "focal")


def test_text_of_several_classes_is_ordered_as_said() -> None:
    values = ["medium", "low", None, "high", "low"]
    label = labelled(values, classes=("low", "medium", "high"))
    assert same(label.values, [1, 0, np.nan, 2, 0])
    assert same(label.high, [0, 0, 0, 1, 0])
    assert same(label.events, [0, 0, 0, 1, 0])
    assert label.task == Task("class", "cross-entropy", ("low", "medium", "high"))
    assert label.told == ("tiles of each class: low 2, medium 1, high 1",)
    assert label.meaning == "kind, from the least risk to the most: low, medium, high."
    other_way = labelled(values, classes=("high", "medium", "low"), loss="weighted")
    assert same(other_way.values, [1, 2, np.nan, 0, 2])
    assert other_way.task.loss == "weighted"
    two = labelled(["no", "yes", "no"], classes=("no", "yes"))
    assert same(two.values, [0, 1, 0])
    assert two.task == Task("class", "cross-entropy", ("no", "yes"))
    assert two.positive == "yes"
    assert label.positive is None


@pytest.mark.parametrize("dtype", ["int64", "float64", "Int64", "object"])
def test_numbers_are_ordered_as_numbers(dtype: str) -> None:
    values = pd.Series([10, 2, 2, 0, 100], dtype=dtype)
    label = labelled(values)
    assert label.task.classes == ("0", "2", "10", "100")
    assert same(label.values, [2, 1, 1, 0, 3])
    assert labelled(values, classes=("100", "10", "2", "0")).values.tolist() == [1, 2, 2, 3, 0]


def test_classes_of_tiles_that_are_not_eligible_are_none() -> None:
    label = labelled([0, 1, 2, 1], eligible=[True, True, False, True])
    assert same(label.values, [0, 1, np.nan, 1])
    assert label.task == Task()


def test_many_numbers_or_events_are_cut_at_the_top_fifth() -> None:
    many = labelled([*range(20)])
    assert many.values.sum() == 4
    assert (many.measure, many.threshold, many.task) == ("kind", 16, Task())
    few = labelled([0, 0, 0, 0, 5], "crashes_label", columns=(CRASHES,))
    assert same(few.values, [0, 0, 0, 0, 1])
    assert (few.threshold, few.unit, few.window) == (5, "events", WINDOW)
    assert same(few.events, [0, 0, 0, 0, 5])


def test_a_datasets_own_label_knows_its_measure() -> None:
    counts = [0.0, 3, 4, np.nan]
    label = labelled(
        pd.array([False, True, True, None], dtype="boolean"),
        "label",
        columns=(CRASHES,),
        cut=CUT,
        more={"crashes_label": counts},
    )
    assert same(label.values, [0, 1, 1, np.nan])
    assert same(label.events, counts)
    assert (label.measure, label.threshold, label.positive) == ("crashes_label", 3, None)
    assert (label.unit, label.window) == ("events", WINDOW)
    assert label.meaning == "High risk: crashes_label is at least 3."


def test_the_low_class_of_a_dataset_is_not_told_as_its_high_one() -> None:
    own = pd.array([False, True, True], dtype="boolean")
    label = labelled(own, "label", cut=CUT, more={"crashes_label": [0.0, 3, 4]}, positive="False")
    assert same(label.values, [1, 0, 0])
    assert (label.measure, label.threshold, label.meaning) == (None, None, "label is False.")


def test_a_threshold_that_was_asked_for_cuts_the_measure() -> None:
    label = labelled([0, 1, 2, None, 9], "crashes_label", columns=(CRASHES,), at_least=1.0)
    assert same(label.values, [0, 1, 1, np.nan, 1])
    assert (label.measure, label.threshold, label.unit) == ("crashes_label", 1.0, "events")
    own = labelled(
        pd.array([False, True], dtype="boolean"),
        "label",
        columns=(CRASHES,),
        cut=CUT,
        more={"crashes_label": [0.0, 5]},
        at_least=2.0,
    )
    assert (own.column, own.values.tolist()) == ("crashes_label", [0, 1])


@pytest.mark.parametrize(
    ("settings", "events"),
    [
        ({"at_least": 3.0}, [0, 3, 4, 0]),
        ({"task": "count"}, [0, 3, 4, 0]),
        ({"task": "value"}, [0, 3, 4, 0]),
        ({"classes": ("0", "3", "4")}, [0, 0, 1, 0]),
        ({"positive": "3"}, [0, 1, 0, 0]),
    ],
)
def test_events_elsewhere_are_those_that_were_learned(settings: dict[str, Any], events: list[int]) -> None:
    values = [0, 3, 4, None]
    label = labelled(values, "crashes_label", columns=(CRASHES,), **settings)
    frame = pd.DataFrame({"crashes_label": values})
    there = observed(frame, np.ones(4, bool), label.as_json(), label.task)
    assert same(label.events, events)
    assert same(events_of(frame, label.as_json(), label.task, there), events)


@pytest.mark.parametrize("task", ["count", "value"])
def test_the_values_of_a_dataset_are_the_measure_behind_its_label(task: Any) -> None:
    counts = [0.0, 3, 4, np.nan, 9]
    label = labelled(
        pd.array([False, True, True, None, True], dtype="boolean"),
        "label",
        eligible=[True] * 4 + [False],
        columns=(CRASHES,),
        cut=CUT,
        more={"crashes_label": counts},
        task=task,
    )
    assert same(label.values, [0, 3, 4, np.nan, np.nan])
    assert same(label.events, [0, 3, 4, 0, 0])
    assert (label.column, label.measure, label.threshold) == ("crashes_label", "crashes_label", None)
    assert label.task.kind == task
    assert label.task.loss == {"count": "negative-binomial", "value": "mse"}[task]


def test_a_value_that_counts_nothing_has_no_events() -> None:
    label = labelled([-3.5, 2.0, 9.0], task="value", loss="huber")
    assert same(label.values, [-3.5, 2, 9])
    assert same(label.events, [0, 0, 0])
    assert label.task == Task("value", "huber", ())


def test_events_without_exposure_are_left_out_and_said() -> None:
    label = labelled(
        [4, 5, 0, 0, 7, 1],
        "crashes_label",
        eligible=[True] * 5 + [False],
        more={"vkm_day": [2.0, 0, 3, None, None, 0]},
        task="count",
        exposure="vkm_day",
    )
    assert same(label.values, [4, np.nan, 0, np.nan, np.nan, np.nan])
    assert label.task == Task("count", "negative-binomial", (), "vkm_day")
    assert label.told == (
        "2 tiles with 12 events of crashes_label have no vkm_day: they are left out",
        "1 tiles without events of crashes_label have no vkm_day: they are left out",
    )
    assert label.meaning == "Events counted in crashes_label, in proportion to vkm_day."
    kept = int(np.nansum(label.values))
    assert kept + 12 == 4 + 5 + 7


def test_exposure_is_one_where_none_is_asked_for_and_unknown_where_unknown() -> None:
    frame = pd.DataFrame({"vkm_day": [2.0, None, 0], "minus": [1, 2, -1], "text": ["a", "1", "2"]})
    assert exposure_of(frame, COUNT, "metro").tolist() == [1, 1, 1]
    assert same(exposure_of(frame, Task("count", "poisson", (), "vkm_day"), "metro"), [2, np.nan, 0])
    for name, message in {
        "minus": "metro: 1 tiles have a negative minus, such as -1; name another --exposure",
        "text": "metro: column 'text' is not made of numbers, it holds 'a'; "
        "name a column of numbers for another --exposure",
        "aadt": "metro has no column 'aadt', which expected counts are proportional to",
    }.items():
        with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
            exposure_of(frame, Task("count", "poisson", (), name), "metro")


SAY_WHICH = (
    "say which is high risk with --positive VALUE, or their order from the least risk to the most with "
    "--classes A,B,C"
)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (["b", "a", "c"], {}, f"column kind has the classes a, b, c; {SAY_WHICH}"),
        (["b", "a"], {}, f"column kind has the classes a, b; {SAY_WHICH}"),
        (["b", "a"], {"positive": "d"}, "--positive d is no value of kind; it holds a, b"),
        (
            ["b", "a", "c"],
            {"classes": ("a", "b")},
            "column kind also holds c; name every class with --classes",
        ),
        (
            ["b", "a"],
            {"classes": ("a", "b", "c")},
            "no labelled tile has c in kind, which holds a, b; leave it out of --classes",
        ),
        (["b", "a"], {"classes": ("a", "a")}, "--classes needs two names or more, each once"),
        (
            ["b", "b", None],
            {},
            "metro: labels of one class only: every labelled tile has b in kind; "
            "name another --label, or add tiles of another class",
        ),
        (
            [False, False],
            {},
            "metro: labels of one class only: every labelled tile has False in kind; "
            "name another --label, or add tiles of another class",
        ),
        (
            [None, None],
            {},
            "metro: no tile has a label: none is eligible and has a kind; name another --label",
        ),
        (
            ["3", "many"],
            {"task": "count"},
            "metro: column 'kind' is not made of numbers, it holds 'many'; "
            "name a column of numbers with --label, or use --task class",
        ),
        (
            [True, False],
            {"task": "value"},
            "metro: column 'kind' is not made of numbers, it holds 'True'; "
            "name a column of numbers with --label, or use --task class",
        ),
        (
            [1.0, np.inf],
            {"task": "value"},
            "metro: column 'kind' is infinite in 1 rows; leave them empty",
        ),
        (
            [1.5, 2],
            {"task": "count"},
            "metro: counts are whole numbers from 0, and column 'kind' holds 1.5; "
            "name a column of counts with --label such as crashes_label, or use --task value",
        ),
        (
            [1, -2],
            {"task": "count"},
            "metro: counts are whole numbers from 0, and column 'kind' holds -2; "
            "name a column of counts with --label such as crashes_label, or use --task value",
        ),
        (
            [0, 0, None],
            {"task": "count"},
            "metro: all 2 labelled tiles have 0 in kind, so nothing can be learned; name another --label",
        ),
        (
            [2.5, 2.5],
            {"task": "value"},
            "metro: all 2 labelled tiles have 2.5 in kind, so nothing can be learned; name another --label",
        ),
    ],
)
def test_what_cannot_be_learned_is_one_clear_line(
    values: list[Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        labelled(values, columns=(CRASHES,), **settings)


def test_a_positive_class_that_no_eligible_tile_has_is_one_class_only() -> None:
    with pytest.raises(ModelError, match="labels of one class only: all 2 labelled tiles are low by kind"):
        labelled(["a", "b", "c"], eligible=[True, True, False], positive="c")


def test_a_measure_of_one_class_and_a_missing_column_are_named() -> None:
    with pytest.raises(SourceError, match="labels of one class only"):
        labelled([0, 0, 0], "crashes_label", columns=(CRASHES,))
    with pytest.raises(ModelError, match="metro has no column 'kin' to learn; name one with --label: kind"):
        label_of(pd.DataFrame({"kind": [1]}), (), np.ones(1, bool), TrainSettings(label="kin"), "metro")


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ([True, False, None, True, False], {}),
        ([2, 1, None, 2, 1], {}),
        ([3, 1, None, 2, 1], {}),
        (["b", "a", None, "c", "c"], {"positive": "c"}),
        (["b", "a", None, "c", "c"], {"classes": ("c", "b", "a")}),
        (["b", "a", None, "b", "b"], {"classes": ("b", "a")}),
        ([0, 4, None, 9, 0], {"task": "count"}),
        ([0, -4.5, None, 9, 0], {"task": "value"}),
        ([*range(20)], {}),
    ],
)
def test_a_label_is_observed_elsewhere_as_it_was_learned(values: list[Any], settings: dict[str, Any]) -> None:
    eligible = [True] * (len(values) - 1) + [False]
    label = labelled(values, eligible=eligible, **settings)
    origin = json.loads(json.dumps(label.as_json(), allow_nan=False))
    frame = pd.DataFrame({"kind": values})
    assert same(observed(frame, np.array(eligible), origin, label.task), label.values.tolist())
    assert np.isnan(observed(frame[[]], np.array(eligible), origin, label.task)).all()
    # fewer rows may give another dtype, and the same classes
    few = frame.iloc[:2].astype(object)
    assert same(observed(few, np.ones(2, bool), origin, label.task), label.values[:2].tolist())


def test_old_models_know_their_label_elsewhere() -> None:
    frame = pd.DataFrame({"crashes_label": [0, 3, None, 9.0], "kind": ["a", None, "b", "b"]})
    cut = {"column": "label", "measure": "crashes_label", "threshold": 3.0, "positive": None, "meaning": ""}
    assert same(observed(frame, np.ones(4, bool), cut, Task()), [0, 1, np.nan, 1])
    named = {"column": "kind", "measure": None, "threshold": None, "positive": "b", "meaning": ""}
    assert same(observed(frame, np.array([True] * 3 + [False]), named, Task()), [0, np.nan, 1, np.nan])


@given(st.lists(st.integers(0, 6), min_size=5, max_size=60))
def test_about_a_fifth_is_high_for_dealing_folds(counts: list[int]) -> None:
    values = np.array(counts, float)
    high = high_risk(COUNT, values)
    assert same(high_risk(COUNT, values[::-1]), high[::-1].tolist())
    if len(set(counts)) == 1:
        assert not high.any()
        return
    assert 0 < high.sum() < len(counts)
    assert values[high == 1].min() > values[high == 0].max()  # ties are whole
    share = high.mean()
    assert all(
        abs((values >= t).mean() - 0.2) >= abs(share - 0.2) - 1e-12 for t in set(counts) - {min(counts)}
    )
    assert same(high_risk(Task("value", "mse", ()), values - 50), high.tolist())


def test_the_riskiest_class_is_high_for_dealing_folds() -> None:
    three = Task("class", "focal", ("a", "b", "c"))
    assert high_risk(three, np.array([0.0, 2, 1, 2])).tolist() == [0, 1, 0, 1]
    assert high_risk(Task(), np.array([0.0, 1])).tolist() == [0, 1]
