"""Which rows of a table are asked for, and which say nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from roadrisk.source_settings import Value
from roadrisk.sources.names import given_column
from roadrisk.sources.tables import Table, as_text
from roadrisk.sources.text_tables import NULL_WORDS

Keep = Mapping[str, tuple[Value, ...]]

_BLANK_WORDS = (*NULL_WORDS, "None", "none", "-", "--", ".", "NaT")
_BLANK_CHARACTERS = "[\u00a0\u2009\u202f]"
_WHOLE = 1e15  # floats above may have lost their last digits


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


def written_texts(values: pd.Series) -> pa.LargeStringArray:
    """(N,) text without blanks around; null where nothing or a word for nothing is written.

    For dates, times and coordinates, where `-` and `None` mean nothing, as they do not for a severity.

    >>> written_texts(pd.Series([" 8:30 ", "-", None])).to_pylist()
    ['8:30', None, None]
    >>> written_texts(pd.Series([830.0, None])).to_pylist()
    ['830', None]
    """
    text = _texts(values)
    if not pc.all(pc.string_is_ascii(text), min_count=0).as_py():
        text = pc.replace_substring_regex(text, _BLANK_CHARACTERS, " ")
    text = pc.utf8_trim_whitespace(text)
    nothing = pc.is_in(text, value_set=pa.array(_BLANK_WORDS, pa.large_string()))
    return pc.if_else(nothing, pa.scalar(None, pa.large_string()), text)


def blank_rows(values: pd.Series) -> NDArray[np.bool_]:
    """(N,) bool, nothing is written.

    >>> blank_rows(pd.Series(["8:30", " ", "#N/A", "soon"])).tolist()
    [False, True, True, False]
    """
    return np.asarray(written_texts(values).is_null())


def _texts(values: pd.Series) -> pa.LargeStringArray:
    if pd.api.types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        whole = np.isfinite(numbers) & (np.abs(numbers) < _WHOLE) & (numbers % 1 == 0)
        integers = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.large_string())
        fractions = pa.array(numbers, from_pandas=True).cast(pa.large_string())
        return pc.if_else(pa.array(whole), integers, fractions)
    text = pa.array(values.astype("string"), type=pa.large_string(), from_pandas=True)
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def _plain(value: Value) -> str:
    text = str(value).strip()
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text.lower() if isinstance(value, bool) else text
