"""The classes that a column holds, and their order of risk."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.columns import MOST_CLASSES
from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray

SAY_WHICH = (
    "say which is high risk with --positive VALUE, or their order from the least risk to the most with "
    "--classes A,B,C"
)


def are_classes(held: pd.Series) -> bool:
    """Whether a column is classes as it stands: booleans, text or a few whole numbers.

    >>> are_classes(pd.Series([0, 3, 7])), are_classes(pd.Series([0.5, 3]))
    (True, False)
    """
    if pd.api.types.is_bool_dtype(held) or not pd.api.types.is_numeric_dtype(held):
        return True
    found = held.dropna().unique()
    return len(found) <= MOST_CLASSES and all(float(one).is_integer() for one in found)


def class_index(held: pd.Series, classes: Sequence[str]) -> FloatArray:
    """(N,) place of each value among the classes, by their names; NaN for a missing value or another.

    >>> class_index(pd.Series([2.0, 1.0, None]), ("1", "2")).tolist()
    [1.0, 0.0, nan]
    """
    index = np.full(len(held), np.nan)
    codes, found = pd.factorize(held)  # -1 for a missing value
    for code, value in enumerate(found):
        for i, one in enumerate(classes):
            if _is_named(value, one):
                index[codes == code] = i
    return index


def high_class(column: str, found: Sequence[Any], positive: str | None) -> Any:
    """The value that is high risk: the one asked for, the true one, or the higher of two numbers.

    Raises
    ------
    ModelError : the value asked for is none, or it is not plain which.
    """
    if positive is not None:
        for value in found:
            if _is_named(value, positive):
                return value
        raise ModelError(f"--positive {positive} is no value of {column}; it holds {_listed(found)}")
    if all(isinstance(value, bool) for value in found):
        return True
    if set(found) <= {0, 1}:
        return 1
    if all(isinstance(value, Real) for value in found):
        return max(found)
    raise ModelError(f"column {column} has the classes {_listed(found)}; {SAY_WHICH}")


def ordered_classes(column: str, found: Sequence[Any], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the classes from the least risk to the most: as asked for, or as numbers are ordered.

    Parameters
    ----------
    found : values of the labelled tiles.

    Raises
    ------
    ModelError : text without an order, or names that are not just the values found.

    Examples
    --------
    >>> ordered_classes("severity", [10, 0, 2], None)
    ('0', '2', '10')
    """
    if classes is None:
        if not all(isinstance(value, Real) for value in found):
            raise ModelError(f"column {column} has the classes {_listed(found)}; {SAY_WHICH}")
        return tuple(str(int(value)) for value in sorted(found))
    if len(set(classes)) < max(len(classes), 2):
        raise ModelError("--classes needs two names or more, each once")
    unnamed = [value for value in found if not any(_is_named(value, one) for one in classes)]
    if unnamed:
        raise ModelError(f"column {column} also holds {_listed(unnamed)}; name every class with --classes")
    absent = [one for one in classes if not any(_is_named(value, one) for value in found)]
    if absent:
        raise ModelError(
            f"no labelled tile has {', '.join(absent)} in {column}, which holds {_listed(found)}; "
            "leave it out of --classes"
        )
    return tuple(classes)


def _is_named(value: Any, name: str) -> bool:
    if isinstance(value, Real) and not isinstance(value, bool):
        return bool(value == pd.to_numeric(name, errors="coerce"))
    return str(value) == name


def _listed(found: Sequence[Any]) -> str:
    shown = ", ".join(sorted(str(value) for value in found)[:MOST_CLASSES])
    return shown + (", ..." if len(found) > MOST_CLASSES else "")
