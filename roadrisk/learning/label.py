"""What is learned: a column of the tiles as high risk or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import MOST_CLASSES, Column
from roadrisk.errors import ModelError
from roadrisk.features.labels import class_label, top_fifth_threshold
from roadrisk.grid import FloatArray

DEFAULT = "label"


@dataclass(frozen=True, eq=False)
class Label:
    """What is learned of N tiles.

    Parameters
    ----------
    values : (N,) 1 for high risk, 0 for not, NaN where unknown.
    events : (N,) the measure behind it; the label itself where there is none.
    column : its name.
    measure : the column it was cut from; None for a column of classes.
    threshold : of the measure; None for a column of classes.
    positive : the class that is high risk; None for a measure.
    meaning : one sentence for the reader of a layer.
    """

    values: FloatArray
    events: FloatArray
    column: str
    measure: str | None
    threshold: float | None
    positive: str | None
    meaning: str

    def as_json(self) -> dict[str, Any]:
        """What a model keeps of it."""
        return {
            "column": self.column,
            "measure": self.measure,
            "threshold": self.threshold,
            "positive": self.positive,
            "meaning": self.meaning,
        }


def label_of(
    frame: pd.DataFrame,
    columns: tuple[Column, ...],
    eligible: NDArray[np.bool_],
    name: str | None,
    positive: str | None,
    where: str,
    cut: dict[str, Any] | None = None,
) -> Label:
    """The label in a table's column: classes as they stand, or the top fifth of a measure.

    Parameters
    ----------
    eligible : (N,) bool; other tiles have no label.
    name : of the column; `label` without one.
    positive : the class that is high risk, where it is not plain.
    cut : how a dataset's own `label` was cut: `measure` and threshold `t`.

    Raises
    ------
    ModelError : no such column, or classes of which none is plainly the high one.
    """
    column = name or DEFAULT
    if column not in frame:
        hint = ", ".join(str(c) for c in frame.columns if c not in ("tile_id", "row", "col"))
        raise ModelError(f"{where} has no column {column!r} to learn; name one with --label: {hint}")
    known = {c.name: c for c in columns}
    values = frame[column].convert_dtypes()
    classes = sorted(values.dropna().unique().tolist(), key=str)
    counted = column in known and known[column].unit == "events"
    if positive is not None or (not counted and _are_classes(values, classes)):
        high = _high_class(column, classes, positive)
        flags = (values == high).to_numpy(dtype=float, na_value=np.nan)
        flags[values.isna().to_numpy() | ~eligible] = np.nan
        if column == DEFAULT and cut is not None:
            measure = frame[cut["measure"]].to_numpy(dtype=float, na_value=np.nan)
            meaning = f"High risk: {cut['measure']} is at least {cut['t']:g}."
            return Label(flags, measure, column, cut["measure"], cut["t"], None, meaning)
        return Label(flags, np.nan_to_num(flags), column, None, None, str(high), f"{column} is {high}.")
    return _top_fifth(frame, column, eligible & values.notna().to_numpy(), where)


def _top_fifth(frame: pd.DataFrame, column: str, eligible: NDArray[np.bool_], where: str) -> Label:
    if not pd.api.types.is_numeric_dtype(frame[column]):
        raise ModelError(f"{where}: column {column!r} has too many classes to learn; give --positive VALUE")
    measure = frame[column].to_numpy(dtype=float, na_value=np.nan)
    threshold = top_fifth_threshold(measure, eligible)
    flags = class_label(measure, eligible, threshold).to_numpy(dtype=float, na_value=np.nan)
    meaning = f"High risk: {column} is at least {threshold.t:g}."
    return Label(flags, np.nan_to_num(measure), column, column, threshold.t, None, meaning)


def _are_classes(values: pd.Series, classes: list[Any]) -> bool:
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return True
    return len(classes) <= MOST_CLASSES and all(float(c).is_integer() for c in classes)


def _high_class(column: str, classes: list[Any], positive: str | None) -> Any:
    if positive is not None:
        for value in classes:
            if str(value) == positive or (isinstance(value, float | int) and f"{value:g}" == positive):
                return value
        raise ModelError(f"--positive {positive} is no value of {column}; it holds {_listed(classes)}")
    if set(classes) <= {0, 1}:
        return True if classes and isinstance(classes[0], bool) else 1
    raise ModelError(
        f"column {column} has the classes {_listed(classes)}; say which is high risk with --positive VALUE"
    )


def _listed(classes: list[Any]) -> str:
    shown = ", ".join(str(c) for c in classes[:MOST_CLASSES])
    return shown + (", ..." if len(classes) > MOST_CLASSES else "")
