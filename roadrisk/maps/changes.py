"""The change from one score to another, feature by feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.grid import FloatArray, IntArray
from roadrisk.maps.bands import ranked
from roadrisk.maps.layer import About, Layer
from roadrisk.maps.legend import Legend, Shade
from roadrisk.maps.matched import Matched, places_of

CLEARLY_HIGHER, HIGHER, SAME, LOWER, CLEARLY_LOWER = (
    "clearly higher",
    "higher",
    "about the same",
    "lower",
    "clearly lower",
)
LEAST_CHANGE = 0.01  # of a risk from 0 to 1
# ColorBrewer's PRGn: no kind of colour vision takes purple for green, and the middle is the lightest
CHANGE_LEGEND = Legend(
    "Change of risk",
    "change_class",
    (
        Shade(CLEARLY_HIGHER, "#762a83"),
        Shade(HIGHER, "#c2a5cf"),
        Shade(SAME, "#f7f7f7"),
        Shade(LOWER, "#a6dba0"),
        Shade(CLEARLY_LOWER, "#1b7837"),
    ),
    absent="not known in both",
)
MOVER = (
    "by MOVER (Zou and Donner 2008) from the ends in A and B, which takes A and B to err independently; "
    "scores that err together, as those of one model do, differ by less than it allows for"
)

Field = tuple[Column, "pd.Series[Any]"]


class Estimate(NamedTuple):
    """(N,) values with the ends of their intervals."""

    value: FloatArray
    low: FloatArray
    high: FloatArray


def mover(a: Estimate, b: Estimate) -> Estimate:
    """B less A with its interval from theirs.

    The method of variance estimates recovery: each distance from an estimate to an end of its interval stands
    for its spread on that side, so that lopsided intervals give a lopsided one. A and B are taken to be
    independent.

    Source: Zou, G. Y., Donner, A. (2008), Construction of confidence limits about effect measures: a general
    approach, Statistics in Medicine 27, 1693-1702.

    Examples
    --------
    >>> a, b = Estimate(*np.array([[1.0], [0.6], [2.0]])), Estimate(*np.array([[5.0], [4.7], [5.5]]))
    >>> [end.round(3).tolist() for end in mover(a, b)]
    [[4.0], [2.956], [4.64]]
    """
    change = b.value - a.value
    low = change - np.hypot(b.value - b.low, a.high - a.value)
    high = change + np.hypot(b.high - b.value, a.value - a.low)
    return Estimate(change, low, high)


def change_classes(change: Estimate, least: float = 0.0) -> NDArray[np.object_]:
    """(N,) in which direction, and whether the interval says so too; None where the change is not known.

    Parameters
    ----------
    change : NaN ends where there is no interval: nothing is clear then.
    least : a change that is not clear and smaller than this is none.

    Examples
    --------
    >>> ends = np.array([0.1, -0.1, np.nan, np.nan]), np.array([0.5, 0.5, np.nan, np.nan])
    >>> change_classes(Estimate(np.array([0.3, 0.3, -0.3, np.nan]), *ends)).tolist()
    ['clearly higher', 'higher', 'lower', None]
    """
    known = ~np.isnan(change.value)
    classes = np.full(len(known), None, dtype=object)
    classes[known & (change.value > 0)] = HIGHER
    classes[known & (change.value < 0)] = LOWER
    classes[known & ((np.abs(change.value) < least) | (change.value == 0))] = SAME
    classes[known & (change.low > 0)] = CLEARLY_HIGHER
    classes[known & (change.high < 0)] = CLEARLY_LOWER
    return classes


def change_layer(a: Layer, b: Layer, match: Matched) -> Layer:
    """B less A: of risk, and of what both expect, with what both observed; features of one alone stay, empty.

    Parameters
    ----------
    match : of `matched`.
    """
    fields = [
        (_column(a, match.key), match.ids),
        *_risk_fields(a, b, match),
        *(field for name in ("expected", "eb") for field in _count_fields(a, b, match, name)),
        *(field for name in ("observed", "label") for field in _beside(a, b, match, name)),
        *_training_field(a, b, match),
    ]
    return Layer(
        pd.DataFrame({column.name: values.array for column, values in fields}),
        tuple(column for column, _ in fields),
        places_of(a, b, match),
        _about(a.about, b.about),
        name="change",
        legend=CHANGE_LEGEND,
        ranked=sum(int(values.notna().sum()) for column, values in fields if column.name == "rank"),
    )


def _risk_fields(a: Layer, b: Layer, match: Matched) -> list[Field]:
    change, ends = _changes(a, b, match, "risk")
    classes = change_classes(change, LEAST_CHANGE)
    clear = (
        "clearly: the interval of the change excludes 0, which of 90 % up to one in ten unchanged features "
        "do by chance"
        if ends
        else "nothing is clear, since A or B has no interval"
    )
    words = f"Direction of the change of risk; about the same: by less than {LEAST_CHANGE:g}; {clear}."
    rank = "Place by change of risk; 1 has risen the most."
    return [
        (_number("change", "Risk of B less risk of A"), pd.Series(change.value)),
        *ends,
        (Column("change_class", "object", "", "info", "none", words), pd.Series(classes, dtype="str")),
        (Column("rank", "int64", "", "info", "none", rank), ranked(change.value).rank),
        *_beside(a, b, match, "risk"),
        *_beside(a, b, match, "rank"),
        *_rank_change(a, b, match),
        *_beside(a, b, match, "band"),
    ]


def _count_fields(a: Layer, b: Layer, match: Matched, name: str) -> list[Field]:
    """Of a count in both layers: the two, their change with its ends; of eb its class too."""
    if name not in a.table or name not in b.table:
        return []
    change, ends = _changes(a, b, match, name)
    unit = _column(b, name).unit
    fields = [
        *_beside(a, b, match, name),
        (_number(f"{name}_change", f"{name} of B less {name} of A", unit), pd.Series(change.value)),
        *ends,
    ]
    if name != "eb" or not ends:
        return fields
    words = (
        "Direction of the change of eb, which knows the counts of A and B; clearly: its interval excludes 0."
    )
    column = Column("eb_change_class", "object", "", "info", "none", words)
    return [*fields, (column, pd.Series(change_classes(change), dtype="str"))]


def _changes(a: Layer, b: Layer, match: Matched, name: str) -> tuple[Estimate, list[Field]]:
    """The change of a number, and the fields of its ends; none where A or B has no ends."""
    low, high = f"{name}_low", f"{name}_high"
    called = "change" if name == "risk" else f"{name}_change"
    here, there = _floats(a, name, match.a), _floats(b, name, match.b)
    if not all(end in layer.table for end in (low, high) for layer in (a, b)):
        unknown = np.full(len(here), np.nan)
        return Estimate(there - here, unknown, unknown), []
    change = mover(
        Estimate(here, _floats(a, low, match.a), _floats(a, high, match.a)),
        Estimate(there, _floats(b, low, match.b), _floats(b, high, match.b)),
    )
    unit = _column(b, name).unit
    return change, [
        (_end(a, b, side, f"{called}_{side}", name, unit), pd.Series(values))
        for side, values in (("low", change.low), ("high", change.high))
    ]


def _end(a: Layer, b: Layer, side: str, called: str, name: str, unit: str) -> Column:
    """An end of the interval of a change, with what the ends are that it is made of."""
    here, there = (_column(layer, f"{name}_{side}").meaning for layer in (a, b))
    of = f"In A and B: {here}" if here == there else f"In A: {here} In B: {there}"
    column = _number(called, f"{side.capitalize()} end of the change of {name} {MOVER}", unit)
    return replace(column, meaning=f"{column.meaning} {of}")


def _beside(a: Layer, b: Layer, match: Matched, name: str) -> list[Field]:
    """What A has and what B has, where both have it."""
    if name not in a.table or name not in b.table:
        return []
    sides = (("a", a, match.a), ("b", b, match.b))
    return [
        (
            replace(_column(layer, name), name=f"{name}_{side}", meaning=_of(layer, name, side.upper())),
            _values(layer, name, row),
        )
        for side, layer, row in sides
    ]


def _rank_change(a: Layer, b: Layer, match: Matched) -> list[Field]:
    if "rank" not in a.table or "rank" not in b.table:
        return []
    words = "Place in B less place in A, each among all of its layer; below 0 is nearer the riskiest."
    change = _values(b, "rank", match.b).astype("Int64") - _values(a, "rank", match.a).astype("Int64")
    return [(Column("rank_change", "int64", "", "info", "none", words), change)]


def _training_field(a: Layer, b: Layer, match: Matched) -> list[Field]:
    name = "in_training"
    if name not in a.table or name not in b.table:
        return []
    sides = ((a, match.a), (b, match.b))
    either = np.any([_values(layer, name, row).fillna(False).to_numpy(bool) for layer, row in sides], axis=0)
    words = "Whether models of A or of B learned from it; its score there comes from others."
    return [(Column(name, "bool", "", "info", "none", words), pd.Series(either))]


def _about(a: About, b: About) -> About:
    """The words about a change from those about its two scores."""

    def once(here: str, there: str, between: str) -> str:
        return here if here == there else f"{here}{between}{there}"

    windows: Mapping[str, tuple[str, str]] = a.windows
    if dict(a.windows) != dict(b.windows):
        sides = (("a", a.windows), ("b", b.windows))
        windows = {f"{name}_{side}": window for side, of in sides for name, window in of.items()}
    return About(
        title=f"{once(a.title, b.title, ' to ')}, change from A to B",
        risk_meaning=f"Risk of B less risk of A. {once(a.risk_meaning, b.risk_meaning, ' In B: ')}",
        label_meaning=once(a.label_meaning, b.label_meaning, " In B: "),
        licence=once(a.licence, b.licence, "; "),
        attribution=once(a.attribution, b.attribution, "; "),
        model=once(a.model, b.model, " to "),
        windows=windows,
        data=once(a.data, b.data, " to "),
    )


def _column(layer: Layer, name: str) -> Column:
    return next(column for column in layer.columns if column.name == name)


def _of(layer: Layer, name: str, side: str) -> str:
    return f"In {side}: {_column(layer, name).meaning}" if _column(layer, name).meaning else f"In {side}."


def _number(name: str, words: str, unit: str = "") -> Column:
    return Column(name, "float64", unit, "info", "none", f"{words}; empty where not known in both.")


def _floats(layer: Layer, name: str, row: IntArray) -> FloatArray:
    values = layer.table[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.append(values, np.nan)[row]


def _values(layer: Layer, name: str, row: IntArray) -> pd.Series[Any]:
    """(N,) values of a field at rows, null at -1."""
    values = layer.table[name]
    if pd.api.types.is_bool_dtype(values.dtype):
        values = values.astype("boolean")
    elif pd.api.types.is_integer_dtype(values.dtype):
        values = values.astype("Int64")
    return values.reindex(row).reset_index(drop=True)
