"""Which rows of a table are asked for, and which say nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Set
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from roadrisk.errors import SourceError
from roadrisk.source_settings import Value
from roadrisk.sources.names import given_column, listed
from roadrisk.sources.tables import Table, as_text, texts_of
from roadrisk.sources.text_tables import NULL_WORDS

Keep = Mapping[str, tuple[Value, ...]]

_BLANK_WORDS = (*NULL_WORDS, "None", "none", "-", "--", ".", "NaT")
_BLANK_CHARACTERS = "[\u00a0\u2009\u202f]"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_MOST_MET = 10_000  # values of a column to choose a hint from


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

    A wanted text is that text, blanks around it aside: `"7"` is not `007`. A wanted number is any writing of
    just that number: 7 is `7`, `007` and `7.0`. `true` is `true` in any case.

    >>> has_value(pd.Series(["1", "2.0", " x ", None]), (1, 2, "x")).tolist()
    [True, True, True, False]
    >>> has_value(pd.Series(["007", "1_0", "7"]), ("7", 10)).tolist()
    [False, False, True]
    """
    codes, unique = pd.factorize(as_text(column))
    wanted = _wanted(values)
    known = np.array([*(_is_wanted(text, wanted) for text in unique), False], dtype=bool)
    return np.asarray(known[codes])


def met_values(frame: pd.DataFrame, keep: Keep, before: Mapping[str, Set[str]]) -> dict[str, set[str]]:
    """Column -> the values of the columns of `keep` met by now, for `check_kept`.

    All of those wanted and the first of the others; where all wanted ones were met before, no more is
    looked at.

    Parameters
    ----------
    before : what was met in the chunks before.

    Examples
    --------
    >>> keep = {"kind": ("car", "bike")}
    >>> met = met_values(pd.DataFrame({"kind": ["car", "ped", "car"]}), keep, {})
    >>> sorted(met["kind"])
    ['car', 'ped']
    """
    met = {column: set(before.get(column, ())) for column in keep}
    for column, values in keep.items():
        if not _unmet(values, met[column]):
            continue
        wanted = _wanted(values)
        for text in pd.unique(as_text(frame[column])):
            if text is not None and (len(met[column]) < _MOST_MET or _is_wanted(text, wanted)):
                met[column].add(text.strip())
    return met


def check_kept(keep: Keep, met: Mapping[str, Set[str]], where: str) -> None:
    """Nothing, if each value of `keep` occurs in some row of a source.

    Parameters
    ----------
    met : column -> its values, from `met_values` of every chunk of every file.

    Raises
    ------
    SourceError : one does not; names the nearest that does.
    """
    for column, values in keep.items():
        there = met.get(column, frozenset())
        for value in _unmet(values, there):
            raise SourceError(f"{where}: no row has {column} = {value!r} (keep); {near_value(value, there)}")


def near_value(value: Value, there: Set[str]) -> str:
    """What to write in the place of a value that no row has, for a message.

    >>> near_value("Car", {"car", "bike"}), near_value("7", {"007", "12"}), near_value("x", {"007", "12"})
    ("did you mean 'car'?", "did you mean '007'?", "its values: '007', '12'")
    """
    texts = sorted(there)
    wanted = str(value).strip()
    same_number = [text for text in texts if _NUMBER.fullmatch(wanted) and _number(text) == Decimal(wanted)]
    folded = {text.casefold(): text for text in reversed(texts)}
    near = difflib.get_close_matches(wanted.casefold(), folded, n=1)
    if same_number or near:
        return f"did you mean {same_number[0] if same_number else folded[near[0]]!r}?"
    return f"its values: {listed(texts)}" if texts else "the column is blank"


def _wanted(values: tuple[Value, ...]) -> frozenset[str | Decimal]:
    """Texts and numbers; what is yes or no in small letters behind a blank, where no text begins."""
    return frozenset(map(_key, values))


def _key(value: Value) -> str | Decimal:
    if isinstance(value, bool):
        return f" {str(value).lower()}"
    return value.strip() if isinstance(value, str) else Decimal(str(value))


def _is_wanted(text: str, wanted: Set[str | Decimal]) -> bool:
    text = text.strip()
    return text in wanted or f" {text.lower()}" in wanted or _number(text) in wanted


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _unmet(values: tuple[Value, ...], met: Set[str]) -> list[Value]:
    return [value for value in values if not any(_is_wanted(text, _wanted((value,))) for text in met)]


def written_texts(values: pd.Series) -> pa.LargeStringArray:
    """(N,) text without blanks around; null where nothing or a word for nothing is written.

    For dates, times and coordinates, where `-` and `None` mean nothing, as they do not for a severity.

    >>> written_texts(pd.Series([" 8:30 ", "-", None])).to_pylist()
    ['8:30', None, None]
    >>> written_texts(pd.Series([830.0, None])).to_pylist()
    ['830', None]
    """
    text = texts_of(values)
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
