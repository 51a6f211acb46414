"""What is learned: a column of the tiles as classes, values or counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.features.labels import class_label, rounded, top_fifth_threshold
from roadrisk.grid import FloatArray
from roadrisk.learning.labels.amounts import EVENTS, check_whole, exposure_of, numbers_of
from roadrisk.learning.labels.classes import are_classes, class_index, high_class, ordered_classes
from roadrisk.learning.settings import LOSSES, TrainSettings
from roadrisk.learning.tasks import Task

DEFAULT = "label"
TWO_CLASSES = Task()


@dataclass(frozen=True, eq=False)
class Label:
    """What is learned of N tiles.

    Parameters
    ----------
    values : (N,) index of the class, value or count; NaN where unknown.
    events : (N,) the measure behind it, or 1 in tiles of the riskiest class where there is none; 0 everywhere
        for a value that counts nothing.
    column : its name.
    measure : the column it was cut from or, of a value or count, is; None for a column of classes.
    threshold : of the measure, cut in two classes; None where nothing was cut.
    positive : the class that is high risk, where the others are one; None for a measure or several classes.
    meaning : one sentence for the reader of a layer.
    unit, window : of the measure, as far as its column says.
    told : lines on what was left out.
    """

    values: FloatArray
    events: FloatArray
    column: str
    measure: str | None
    threshold: float | None
    positive: str | None
    meaning: str
    task: Task = TWO_CLASSES
    unit: str = ""
    window: tuple[str, str] | None = None
    told: tuple[str, ...] = ()

    @property
    def high(self) -> FloatArray:
        """(N,) 1 or 0 as `high_risk` has it; 0 where unknown."""
        known = np.isfinite(self.values)
        high = np.zeros(len(self.values))
        high[known] = high_risk(self.task, self.values[known])
        return high

    def as_json(self) -> dict[str, Any]:
        """What a model keeps of it."""
        return {
            "column": self.column,
            "measure": self.measure,
            "threshold": self.threshold,
            "positive": self.positive,
            "meaning": self.meaning,
            "unit": self.unit,
            "window": list(self.window) if self.window else None,
        }


def label_of(
    frame: pd.DataFrame,
    columns: tuple[Column, ...],
    eligible: NDArray[np.bool_],
    settings: TrainSettings,
    where: str,
    cut: Mapping[str, Any] | None = None,
) -> Label:
    """The label in a table's column: classes, the top fifth of a measure, values or counts.

    Parameters
    ----------
    eligible : (N,) bool; other tiles have no label.
    cut : how a dataset's own `label` was cut: `measure` and threshold `t`. Of such a dataset, that measure is
        the value or count where no other column is named.

    Raises
    ------
    ModelError : no such column, classes of which none is plainly the riskiest, no number where one is needed,
        or nothing that differs between tiles.
    """
    column = settings.label or DEFAULT
    if (
        settings.label is None
        and cut is not None
        and (settings.task != "class" or settings.at_least is not None)
    ):
        column = cut["measure"]
    if column not in frame:
        hint = ", ".join(str(c) for c in frame.columns if c not in ("tile_id", "row", "col"))
        raise ModelError(f"{where} has no column {column!r} to learn; name one with --label: {hint}")
    known = {c.name: c for c in columns}
    described = known.get(column, Column(column, "", "", "label", "none", ""))
    if settings.task != "class":
        label = _number_label(frame, described, columns, eligible, settings, where)
    else:
        label = _class_label(frame, described, eligible, settings, where)
        if cut is not None and column == DEFAULT and label.positive == str(True):
            label = _of_dataset(label, frame, known.get(cut["measure"]), cut)
    _check_differs(label, where)
    return label


def high_risk(task: Task, values: FloatArray) -> FloatArray:
    """What folds are evened by: 1 for the riskiest class or about the top fifth of values or counts, else 0.

    Parameters
    ----------
    values : (N,) known ones. Ties are kept whole; where all are the same, none is high.

    Examples
    --------
    >>> high_risk(Task("count", "poisson", ()), np.array([0.0, 0, 0, 0, 0, 0, 1, 1, 7])).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    """
    if task.kind == "class":
        return np.asarray(values == len(task.classes) - 1, np.float64)
    different, tiles = np.unique(values, return_counts=True)
    if len(different) < 2:
        return np.zeros(len(values))
    share = np.cumsum(tiles[::-1])[::-1] / len(values)
    best = 1 + int(np.argmin(np.abs(share[1:] - 0.2)))  # the lowest value is never high
    return np.asarray(values >= different[best], np.float64)


def observed(
    frame: pd.DataFrame, eligible: NDArray[np.bool_], origin: Mapping[str, Any], task: Task
) -> FloatArray:
    """A label as a model knows it, in the tiles of another table.

    Parameters
    ----------
    eligible : (N,) bool; of other tiles nothing was observed.
    origin : what `Label.as_json` gave.

    Returns
    -------
    (N,) index of the class, value or count; NaN where unknown, everywhere without the column.
    """
    name = origin["measure"] or origin["column"]
    values = np.full(len(frame), np.nan)
    if name not in frame:
        return values
    if origin["measure"] is not None:
        measure = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        cut = origin["threshold"]
        values = measure if cut is None else np.where(np.isnan(measure), np.nan, rounded(measure) >= cut)
    else:
        held = frame[name].convert_dtypes()
        if origin["positive"] is not None:
            high = class_index(held, (origin["positive"],)) == 0
            values = np.where(held.isna(), np.nan, high)
        else:
            values = class_index(held, task.classes)
    return np.where(eligible & np.isfinite(values), values, np.nan)


def events_of(frame: pd.DataFrame, origin: Mapping[str, Any], task: Task, values: FloatArray) -> FloatArray:
    """(N,) the measure behind a label as a model knows it; without one, 1 in tiles of the riskiest class.

    Parameters
    ----------
    values : (N,) as `observed`.
    """
    measure = origin["measure"]
    if task.kind == "class" and (measure is None or measure not in frame):
        return np.asarray(values == len(task.classes) - 1, np.float64)
    if task.kind == "value" and origin.get("unit") != EVENTS:
        return np.zeros(len(frame))
    return np.asarray(np.nan_to_num(frame[measure].to_numpy(dtype=float, na_value=np.nan)))


def _class_label(
    frame: pd.DataFrame, column: Column, eligible: NDArray[np.bool_], settings: TrainSettings, where: str
) -> Label:
    held, name, loss = frame[column.name].convert_dtypes(), column.name, settings.loss or LOSSES["class"][0]
    if settings.at_least is not None:
        return _from_threshold(frame, column, eligible, Task("class", loss), settings.at_least, where)
    named = settings.positive is not None or settings.classes is not None
    if not named and (column.unit == EVENTS or not are_classes(held)):
        return _top_fifth(frame, column, eligible, Task("class", loss))
    found = held[eligible].dropna().unique().tolist()
    if len(found) == 1:
        raise ModelError(
            f"{where}: labels of one class only: every labelled tile has {found[0]} in {name}; "
            "name another --label, or add tiles of another class"
        )
    if settings.classes is None and (settings.positive is not None or len(found) <= 2):
        high = high_class(name, held.dropna().unique().tolist() if named else found, settings.positive)
        flags = np.where(held.isna() | ~eligible, np.nan, held.eq(high).fillna(False))
        meaning = f"{name} is {high}."
        return Label(flags, np.nan_to_num(flags), name, None, None, str(high), meaning, Task("class", loss))
    classes = ordered_classes(name, found, settings.classes)
    index = np.where(eligible, class_index(held, classes), np.nan)
    tiles = [f"{one} {int((index == i).sum()):,}" for i, one in enumerate(classes)]
    meaning = f"{name}, from the least risk to the most: {', '.join(classes)}."
    riskiest = np.asarray(index == len(classes) - 1, np.float64)
    told = (f"tiles of each class: {', '.join(tiles)}",)
    positive = classes[-1] if len(classes) == 2 else None
    return Label(
        index, riskiest, name, None, None, positive, meaning, Task("class", loss, classes), told=told
    )


def _of_dataset(label: Label, frame: pd.DataFrame, column: Column | None, cut: Mapping[str, Any]) -> Label:
    """A dataset's own label with the measure that it was cut from."""
    return replace(
        label,
        events=frame[cut["measure"]].to_numpy(dtype=float, na_value=np.nan),
        measure=cut["measure"],
        threshold=cut["t"],
        positive=None,
        meaning=f"High risk: {cut['measure']} is at least {cut['t']:g}.",
        unit=column.unit if column else "",
        window=column.window if column else None,
    )


def _top_fifth(frame: pd.DataFrame, column: Column, eligible: NDArray[np.bool_], task: Task) -> Label:
    name = column.name
    measure = frame[name].to_numpy(dtype=float, na_value=np.nan)
    eligible = eligible & ~np.isnan(measure)
    threshold = top_fifth_threshold(measure, eligible)
    flags = class_label(measure, eligible, threshold).to_numpy(dtype=float, na_value=np.nan)
    meaning = f"High risk: {name} is at least {threshold.t:g}."
    return Label(
        flags,
        np.nan_to_num(measure),
        name,
        name,
        threshold.t,
        None,
        meaning,
        task,
        column.unit,
        column.window,
    )


def _from_threshold(
    frame: pd.DataFrame,
    column: Column,
    eligible: NDArray[np.bool_],
    task: Task,
    threshold: float,
    where: str,
) -> Label:
    """High risk from a threshold that was asked for."""
    name = column.name
    measure = np.where(eligible, numbers_of(frame, name, where, "with --label, or use --positive"), np.nan)
    flags = np.where(np.isnan(measure), np.nan, measure >= threshold)
    meaning = f"High risk: {name} is at least {threshold:g}."
    events = np.nan_to_num(measure) if column.unit == EVENTS else np.nan_to_num(flags)
    return Label(flags, events, name, name, threshold, None, meaning, task, column.unit, column.window)


def _number_label(
    frame: pd.DataFrame,
    column: Column,
    columns: tuple[Column, ...],
    eligible: NDArray[np.bool_],
    settings: TrainSettings,
    where: str,
) -> Label:
    name, kind = column.name, settings.task
    task = Task(kind, settings.loss or LOSSES[kind][0], (), settings.exposure or "")
    values = numbers_of(frame, name, where, "with --label, or use --task class")
    values = np.where(eligible, values, np.nan)
    told: tuple[str, ...] = ()
    meaning = f"{name}."
    if kind == "count":
        check_whole(values, name, columns, where)
        values, told = _exposed(values, exposure_of(frame, task, where), task, name)
        meaning = f"Events counted in {name}{f', in proportion to {task.exposure}' if task.exposure else ''}."
    counted = kind == "count" or column.unit == EVENTS
    events = np.nan_to_num(values) if counted else np.zeros(len(values))
    return Label(values, events, name, name, None, None, meaning, task, column.unit, column.window, told)


def _exposed(
    values: FloatArray, exposure: FloatArray, task: Task, name: str
) -> tuple[FloatArray, tuple[str, ...]]:
    """Counts where there is exposure, and lines on those where there is none."""
    lost = np.isfinite(values) & ~(exposure > 0)
    eventful = lost & (values > 0)
    told = []
    if eventful.any():
        told.append(
            f"{int(eventful.sum()):,} tiles with {int(values[eventful].sum()):,} events of {name} have no "
            f"{task.exposure}: they are left out"
        )
    if (lost & ~eventful).any():
        told.append(
            f"{int((lost & ~eventful).sum()):,} tiles without events of {name} have no {task.exposure}: "
            "they are left out"
        )
    return np.where(lost, np.nan, values), tuple(told)


def _check_differs(label: Label, where: str) -> None:
    known = label.values[np.isfinite(label.values)]
    if not len(known):
        raise ModelError(
            f"{where}: no tile has a label: none is eligible and has a {label.column}; name another --label"
        )
    if (known != known[0]).any():
        return
    if label.task.kind == "class":
        which = label.task.classes[int(known[0])]
        raise ModelError(
            f"{where}: labels of one class only: all {len(known):,} labelled tiles are {which} by "
            f"{label.column}; name another --label, or add tiles of another class"
        )
    raise ModelError(
        f"{where}: all {len(known):,} labelled tiles have {known[0]:g} in {label.column}, so nothing can be "
        "learned; name another --label"
    )
