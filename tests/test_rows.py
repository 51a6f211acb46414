from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.errors import SourceError
from roadrisk.source_settings import Value
from roadrisk.sources import rows
from roadrisk.sources.rows import check_kept, has_value, left_out_rows, met_values


def kept(column: pd.Series, *values: Value) -> list[bool]:
    return [bool(kept) for kept in has_value(column, values)]


LONG = 250250001001000


@pytest.mark.parametrize("dtype", ["str", "Int64", "int64"])
@pytest.mark.parametrize("wanted", [LONG, str(LONG)])
def test_long_codes_are_told_from_their_neighbours(dtype: str, wanted: Value) -> None:
    column = pd.Series([LONG, LONG + 1, LONG - 1]).astype(dtype)
    assert kept(column, wanted) == [True, False, False]


@pytest.mark.parametrize(
    ("text", "wanted", "is_kept"),
    [
        ("007", "7", False),
        ("007", "007", True),
        ("007", 7, True),
        (" 7 ", "7", True),
        ("7", " 7", True),
        ("7.0", 7, True),
        ("7.0", "7", False),
        ("+7", 7, True),
        ("-7", 7, False),
        (".5", 0.5, True),
        ("0.50", 0.5, True),
        ("0.1", 0.1, True),
        ("0.1000000000000000055", 0.1, False),
        ("1_0", 10, False),
        ("1_0", "10", False),
        ("1e1", 10, False),
        ("nan", float("nan"), False),
        ("inf", float("inf"), False),
        ("nan", "nan", True),
        ("٧", 7, False),
        ("1" * 5000, int("1" * 4000), False),
        ("Car", "car", False),
        ("true", True, True),
        ("True", True, True),
        ("FALSE", False, True),
        ("1", True, False),
        ("true", "true", True),
        ("True", "true", False),
        ("", "", True),
    ],
)
def test_one_text_and_one_wanted_value(text: str, wanted: Value, is_kept: bool) -> None:
    assert kept(pd.Series([text, None]), wanted) == [is_kept, False]


def test_typed_columns() -> None:
    numbers = [2.0, 2.5, np.nan, 1e18, np.inf]
    assert kept(pd.Series(numbers), 2) == [True, False, False, False, False]
    assert kept(pd.Series(numbers), "2", 2.5, 10**18) == [True, True, False, True, False]
    assert kept(pd.Series([2, None, 3], dtype="Int64"), "2") == [True, False, False]
    for flags in (pd.Series([True, False]), pd.Series([True, False], dtype="boolean")):
        assert kept(flags, True) == [True, False]
        assert kept(flags, False) == [False, True]


numbers = st.integers(-(10**18), 10**18) | st.integers(-20, 20)


@given(st.lists(numbers, min_size=1, max_size=20), numbers, st.booleans())
def test_numbers_are_compared_as_numbers(written: list[int], wanted: int, typed: bool) -> None:
    column = pd.Series(written, dtype="Int64") if typed else pd.Series([f"{n:+04}" for n in written])
    assert kept(column, wanted, 5.0) == [Decimal(n) in (Decimal(wanted), 5) for n in written]


def refusal(keep: rows.Keep, *chunks: pd.DataFrame) -> str:
    met: dict[str, set[str]] = {}
    for chunk in chunks:
        met = met_values(chunk, keep, met)
    with pytest.raises(SourceError) as raised:
        check_kept(keep, met, "a.csv")
    return str(raised.value)


def test_a_value_that_no_row_has() -> None:
    chunks = [pd.DataFrame({"kind": ["car", None], "code": ["007", "12"]}), pd.DataFrame({"kind": ["bike"]})]
    kinds = [chunk[["kind"]] for chunk in chunks]
    assert refusal({"kind": ("Car",)}, *kinds) == (
        "a.csv: no row has kind = 'Car' (keep); did you mean 'car'?"
    )
    assert refusal({"kind": ("car", "ped")}, *kinds) == (
        "a.csv: no row has kind = 'ped' (keep); its values: 'bike', 'car'"
    )
    assert refusal({"code": ("7",)}, chunks[0]) == "a.csv: no row has code = '7' (keep); did you mean '007'?"
    assert (
        refusal({"code": (13,)}, chunks[0]) == "a.csv: no row has code = 13 (keep); its values: '007', '12'"
    )
    assert refusal({"kind": ("car",)}, kinds[0].iloc[1:]) == (
        "a.csv: no row has kind = 'car' (keep); the column is blank"
    )


def test_values_far_down_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_MOST_MET", 3)
    keep = {"n": ("999", 7)}
    met: dict[str, set[str]] = {}
    for start in range(0, 1000, 100):
        met = met_values(pd.DataFrame({"n": [f"{n:03}" for n in range(start, start + 100)]}), keep, met)
    assert met == {"n": {"000", "001", "002", "007", "999"}}
    check_kept(keep, met, "a.csv")
    # where all were met, nothing more is asked of a chunk
    assert met_values(pd.DataFrame(), keep, met) == met


@given(st.lists(st.sampled_from(["a", "A", " a", "1", "01", "1.0", None]), max_size=9))
def test_what_is_met_is_what_is_kept(texts: list[str | None]) -> None:
    keep: rows.Keep = {"c": ("a", 1)}
    frame = pd.DataFrame({"c": pd.Series(texts, dtype="str")})
    missing = [v for v in keep["c"] if not has_value(frame["c"], (v,)).any()]
    met = met_values(frame, keep, {})
    if missing:
        with pytest.raises(SourceError, match=f"no row has c = {missing[0]!r}"):
            check_kept(keep, met, "a.csv")
    else:
        check_kept(keep, met, "a.csv")


def test_why_a_row_is_left_out() -> None:
    frame = pd.DataFrame({"a": ["1", "2", None], "b": ["x", "x", "x"]})
    assert left_out_rows(frame, {"a": (1, "2"), "b": ("y",)}).tolist() == ["not b y", "not b y", "not a 1, 2"]
