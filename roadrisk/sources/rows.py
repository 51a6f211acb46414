"""Which rows of a table are asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.source_settings import Value
from roadrisk.sources.names import given_column
from roadrisk.sources.tables import Table, as_text

Keep = Mapping[str, tuple[Value, ...]]


def checked_keep(table: Table, keep: Keep) -> None:
    """Nothing, if the table has every column that `keep` asks about.

    Raises
    ------
    SourceError : it has not; names the nearest.
    """
    for column in keep:
        given_column(table.columns, column, "keep", str(table.path))


def left_out_rows(frame: pd.DataFrame, keep: Keep) -> NDArray[np.object_]:
    """(N,) why a row is not asked for, `not source MDOT`; empty where it is.

    Values are compared as text, numbers by their value.

    >>> left_out_rows(pd.DataFrame({"source": ["MDOT", "BVZ", None]}), {"source": ("MDOT",)}).tolist()
    ['', 'not source MDOT', 'not source MDOT']
    """
    reason = np.full(len(frame), "", dtype=object)
    for column, values in keep.items():
        kept = has_value(frame[column], values)
        said = ", ".join(str(v) for v in values[:3]) + (", ..." if len(values) > 3 else "")
        reason[(reason == "") & ~kept] = f"not {column} {said}"
    return reason


def has_value(column: pd.Series, values: tuple[Value, ...]) -> NDArray[np.bool_]:
    """(N,) whether a column has one of the values.

    >>> has_value(pd.Series(["1", "2.0", " x ", None]), (1, 2, "x")).tolist()
    [True, True, True, False]
    """
    wanted = {_plain(v) for v in values}
    codes, unique = pd.factorize(as_text(column))
    known = np.array([*(_plain(v) in wanted for v in unique), False], dtype=bool)
    return np.asarray(known[codes])


def _plain(value: Value) -> str:
    text = str(value).strip()
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text.lower() if isinstance(value, bool) else text
