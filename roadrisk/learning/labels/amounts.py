"""Columns of numbers: values, counts, and what counts are proportional to."""

from __future__ import annotations

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray
from roadrisk.learning.tasks import Task

EVENTS = "events"


def numbers_of(frame: pd.DataFrame, name: str, where: str, instead: str) -> FloatArray:
    """A column as numbers.

    Parameters
    ----------
    instead : what to do, after 'name a column of numbers'.

    Returns
    -------
    (N,) float64, NaN where nothing is known.

    Raises
    ------
    ModelError : text, booleans or infinite numbers.
    """
    held = frame[name].convert_dtypes()
    if pd.api.types.is_bool_dtype(held) or not pd.api.types.is_numeric_dtype(held):
        raise ModelError(
            f"{where}: column {name!r} is not made of numbers, it holds {_unlike_a_number(held)!r}; "
            f"name a column of numbers {instead}"
        )
    values = held.to_numpy(dtype=np.float64, na_value=np.nan)
    endless = int(np.isinf(values).sum())
    if endless:
        raise ModelError(f"{where}: column {name!r} is infinite in {endless:,} rows; leave them empty")
    return np.asarray(values)


def check_whole(values: FloatArray, name: str, columns: tuple[Column, ...], where: str) -> None:
    """Nothing, if (N,) values can be counts.

    Raises
    ------
    ModelError : a known one is not a whole number from 0.
    """
    known = values[np.isfinite(values)]
    wrong = known[(known < 0) | (known % 1 != 0)]
    if len(wrong):
        counts = [c.name for c in columns if c.unit == EVENTS and c.name != name]
        hint = f" such as {', '.join(counts)}" if counts else ""
        raise ModelError(
            f"{where}: counts are whole numbers from 0, and column {name!r} holds {wrong[0]:g}; "
            f"name a column of counts with --label{hint}, or use --task value"
        )


def exposure_of(frame: pd.DataFrame, task: Task, where: str) -> FloatArray:
    """(N,) what expected counts are proportional to: 1 each without an exposure, NaN where it is unknown.

    Raises
    ------
    ModelError : no such column, or it holds what is no amount.
    """
    if not task.exposure:
        return np.ones(len(frame))
    if task.exposure not in frame:
        raise ModelError(
            f"{where} has no column {task.exposure!r}, which expected counts are proportional to"
        )
    values = numbers_of(frame, task.exposure, where, "for another --exposure")
    negative = values[values < 0]
    if len(negative):
        raise ModelError(
            f"{where}: {len(negative):,} tiles have a negative {task.exposure}, such as {negative.min():g}; "
            "name another --exposure"
        )
    return values


def _unlike_a_number(held: pd.Series) -> str:
    """A value to show: text that is no number, where there is some."""
    text = held.dropna().astype(str)
    odd = text[np.isnan(pd.to_numeric(text, errors="coerce").to_numpy(dtype=float))]
    return str((odd if len(odd) else text).iloc[0]) if len(text) else ""
