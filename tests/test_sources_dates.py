from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.errors import SourceError
from roadrisk.sources import date_forms
from roadrisk.sources.dates import (
    are_hours,
    bare_times,
    is_month_first,
    order_evidence,
    read_dates,
    seconds_of_day,
)
from roadrisk.sources.rows import blank_rows

NAT = np.datetime64("NaT", "s")
YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:[T,\s]+(.+))?|(\d{4})(\d\d)(\d\d)", re.ASCII)
YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})(?:[T,\s]+(.+))?", re.ASCII)
CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*(?:([ap])\.?m\.?)?\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)


def moment(year: int, month: int, day: int, clock: str | None) -> np.datetime64:
    """One date by Python's own calendar; NaT for none."""
    hour = minute = second = 0
    if clock is not None:
        match = CLOCK.fullmatch(clock)
        if match is None:
            return NAT
        hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
        if match[4]:
            if not 1 <= hour <= 12:
                return NAT
            hour = hour % 12 + 12 * (match[4] in "pP")
    try:
        known = np.datetime64(datetime(year, month, day, hour, minute, second), "s")
    except ValueError:
        return NAT
    return known if 1900 <= year <= 2100 else NAT


def both_orders(text: str) -> tuple[np.datetime64, np.datetime64]:
    """One text, by regular expressions: month first and day first."""
    if match := YEAR_FIRST.fullmatch(text):
        y, a, b, clock = match[1] or match[6], match[3] or match[7], match[4] or match[8], match[5]
        only = moment(int(y), int(a), int(b), clock)
        return only, only
    if match := YEAR_LAST.fullmatch(text):
        year = int(match[4])
        if len(match[4]) == 2:
            year += 1900 if year >= 69 else 2000
        a, b = int(match[1]), int(match[3])
        return moment(year, a, b, match[5]), moment(year, b, a, match[5])
    return NAT, NAT


digits = st.integers(0, 61).map(str) | st.integers(0, 61).map(lambda n: f"{n:02}")
years = st.integers(1850, 2150).map(lambda n: f"{n:04}") | st.integers(0, 99).map(lambda n: f"{n:02}")
separators = st.sampled_from(["-", "/", ".", ""])
clocks = st.builds(
    lambda h, m, s, fraction, half, zone: f"{h}:{m}{s}{fraction if s else ''}{half}{zone}",
    digits,
    digits,
    st.just("") | digits.map(lambda d: f":{d}"),
    st.sampled_from(["", ".5", ",123"]),
    st.sampled_from(["", " AM", "pm", " p.m.", "  A.M"]),
    st.sampled_from(["", "Z", " UTC", "+01:00", " -0500", "+1"]),
)
dates = st.builds(
    lambda y, a, b, s, t, last, gap, clock: (
        (f"{a}{s}{b}{t}{y}" if last else f"{y}{s}{a}{t}{b}") + gap + clock
    ),
    years,
    digits,
    digits,
    separators,
    separators,
    st.booleans(),
    st.sampled_from(["", "T", " ", ", ", "  "]),
    st.just("") | clocks,
)
noise = st.text(st.sampled_from("0123456789-/:. TAPMZ,é"), max_size=12)


@given(st.lists(dates | noise, min_size=1, max_size=30))
def test_bulk_reading_is_reading_one_by_one(texts: list[str]) -> None:
    texts = [text.strip() for text in texts]
    # instants and compact times are no business of the reference
    texts = [t if not re.fullmatch(r"\d{9,}\.?\d*\S*|\d{8}[T\s:]?.+", t) else "2024-01-02" for t in texts]
    # nor are hours without minutes
    texts = [t for t in texts if not re.search(r"(^|[T,\s:])\d\d?\s*[ap]\.?m", t, re.I) or ":" in t]
    read = read_dates(pd.Series([*texts, "2024-01-01"], dtype=object))
    expected = [both_orders(text) for text in texts]
    np.testing.assert_array_equal(read.month_first[:-1], np.array([e[0] for e in expected], "datetime64[s]"))
    np.testing.assert_array_equal(read.day_first[:-1], np.array([e[1] for e in expected], "datetime64[s]"))


FORMS = [
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%m/%d/%Y %I:%M:%S %p",
    "%d-%b-%Y %H:%M:%S",
    "%d %B %Y, %I:%M:%S %p",
    "%b %d, %Y %I:%M:%S%p",
    "%A, %B %d, %Y %H:%M:%S",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%d%b%Y:%H:%M:%S",
    "%Y%m%d%H%M%S",
    "%Y%m%dT%H%M%S",
]


@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31)), min_size=1, max_size=20))
def test_written_dates_are_read_back(moments: list[datetime]) -> None:
    texts = [m.strftime(form) for m in moments for form in FORMS]
    expected = np.array([m.replace(microsecond=0) for m in moments for _ in FORMS], dtype="datetime64[s]")
    read = read_dates(pd.Series(texts))
    np.testing.assert_array_equal(read.month_first, expected)
    assert read.with_clock.all()
    assert not read.blank.any()


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_neither_blocks_nor_repeats_change_anything(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pd.Series(
        [*(f"{d}/{m}/2024 {d % 24}:0{m % 10}" for d in range(1, 29) for m in range(1, 13)), None, "x" * 99]
    )
    whole = read_dates(texts)
    assert whole.readable.tolist()[-3:] == [True, False, False]
    monkeypatch.setattr(date_forms, "_BLOCK_ROWS", rows)
    for some in (texts, pd.concat([texts] * 3, ignore_index=True)):
        read = read_dates(some)
        for start in range(0, len(some), len(texts)):
            part = slice(start, start + len(texts))
            np.testing.assert_array_equal(read.month_first[part], whole.month_first)
            np.testing.assert_array_equal(read.day_first[part], whole.day_first)
            np.testing.assert_array_equal(read.with_clock[part], whole.with_clock)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4-Jan-2024", "2024-01-04T00:00:00"),
        ("4-Jan-24", "2024-01-04T00:00:00"),
        ("Jan 4, 2024 3:05 PM", "2024-01-04T15:05:00"),
        ("4 January 2024", "2024-01-04T00:00:00"),
        ("1/2/68", "2068-01-02T00:00:00"),
        ("1/2/69", "1969-01-02T00:00:00"),
        ("sept. 4 2024", "2024-09-04T00:00:00"),
        ("04JAN2024", "2024-01-04T00:00:00"),
        ("2024-Jan-04", "2024-01-04T00:00:00"),
        ("1/2/2024 3 PM", "2024-01-02T15:00:00"),
        ("1/2/2024 12:08:00\u202fAM", "2024-01-02T00:08:00"),
        ("20240131", "2024-01-31T00:00:00"),
        ("202401311530", "2024-01-31T15:30:00"),
        ("20240131 1530", "2024-01-31T15:30:00"),
        ("2024-01-31 15:30:00+00", "2024-01-31T15:30:00"),
        ("1706715000", "2024-01-31T15:30:00"),
        ("1706715000123", "2024-01-31T15:30:00"),
        ("1706715000.5", "2024-01-31T15:30:00"),
        ("Jan 2024", "NaT"),
        ("30-Feb-2024", "NaT"),
        ("4-Jam-2024", "NaT"),
        ("202401", "NaT"),
        ("45292", "NaT"),
        ("45292.5", "NaT"),
        ("99999999999", "NaT"),
        ("4000000001", "NaT"),
        ("0000-01-01", "NaT"),
        ("1900-01-01", "1900-01-01T00:00:00"),
        ("12/31/2100 23:59:59", "2100-12-31T23:59:59"),
        ("1899-12-31 23:59:59", "NaT"),
        ("1 Jan 2101", "NaT"),
    ],
)
def test_forms_of_dates(text: str, expected: str) -> None:
    read = read_dates(pd.Series([text]))
    assert str(read.month_first[0]) == expected
    assert not read.blank[0]


@pytest.mark.parametrize("dtype", ["int64", "float64", "Int64", "str"])
def test_numbers_of_any_type(dtype: str) -> None:
    read = read_dates(pd.Series([1706715000, 1706715060]).astype(dtype))
    assert read.month_first.astype(str).tolist() == ["2024-01-31T15:30:00", "2024-01-31T15:31:00"]
    assert read.with_clock.all()
    assert read.notes[0] == "numbers of seconds since 1970"
    assert "UTC" in read.notes[1]
    days = read_dates(pd.Series([20240131, 20240201]).astype(dtype))
    assert days.month_first.astype(str).tolist() == ["2024-01-31T00:00:00", "2024-02-01T00:00:00"]
    assert not days.notes
    assert not days.with_clock.any()


def test_numbers_with_holes() -> None:
    read = read_dates(pd.Series([1706715000000.0, np.nan]))
    assert read.month_first.astype(str).tolist() == ["2024-01-31T15:30:00", "NaT"]
    assert read.blank.tolist() == [False, True]
    assert read.notes[0] == "numbers of milliseconds since 1970"


@given(st.datetimes(datetime(1974, 1, 1), datetime(2060, 1, 1), timezones=st.just(ZoneInfo("UTC"))))
def test_instants_become_local(instant: datetime) -> None:
    instant = instant.replace(microsecond=0)
    local = np.datetime64(instant.astimezone(ZoneInfo("America/New_York")).replace(tzinfo=None), "s")
    seconds = int(instant.timestamp())
    ahead = (instant + timedelta(hours=5, minutes=30)).strftime("%Y-%m-%d %H:%M:%S") + "+05:30"
    behind = (instant - timedelta(hours=5)).strftime("%m/%d/%Y %I:%M:%S %p") + " -0500"
    texts = [str(seconds), str(seconds * 1000), ahead, behind, instant.strftime("%Y-%m-%dT%H:%M:%SZ")]
    read = read_dates(pd.Series(texts), "America/New_York")
    assert (read.month_first == local).all()
    assert read.notes[-1] == "instants as local times in America/New_York"
    typed = pd.Series(pd.DatetimeIndex([instant]).tz_convert("Asia/Tokyo"))
    assert read_dates(typed, "America/New_York").month_first[0] == local


def test_summer_time() -> None:
    texts = ["2024-03-10T06:59:59Z", "2024-03-10T07:00:00Z", "2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z"]
    read = read_dates(pd.Series(texts), "America/New_York")
    assert [str(t)[11:] for t in read.month_first] == ["01:59:59", "03:00:00", "01:30:00", "01:30:00"]


def test_local_times_stay_local() -> None:
    texts = pd.Series(["2024-07-01 12:00", "07/01/2024", "2024-07-01 12:00+00:00"])
    named = read_dates(texts, "America/New_York")
    assert named.month_first.astype(str).tolist() == [
        "2024-07-01T12:00:00",
        "2024-07-01T00:00:00",
        "2024-07-01T08:00:00",
    ]
    plain = read_dates(texts)
    assert str(plain.month_first[2]) == "2024-07-01T12:00:00"
    assert plain.with_zone.tolist() == [False, False, True]
    assert "offsets from UTC beside times are not applied" in plain.notes[0]


@pytest.mark.parametrize("timezone", [None, "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("unit", [None, "s", "ms", "us"])
@pytest.mark.parametrize("zoned", [False, True])
def test_dates_that_cannot_be(timezone: str | None, unit: str | None, zoned: bool) -> None:
    texts = ["0001-01-01T00:00:00", "9999-12-31T23:59:59", "2101-01-02T12:00:00", "2024-07-01T12:00:00", None]
    values = pd.Series(texts, dtype="str") + ("Z" if zoned else "")
    if unit is not None:
        moments = np.array([t or "NaT" for t in texts], dtype=f"datetime64[{unit}]")
        values = pd.Series(moments).dt.tz_localize("UTC" if zoned else None)
    read = read_dates(values, timezone)
    assert read.readable.tolist() == [False, False, False, True, False]
    assert read.blank.tolist() == [False, False, False, False, True]
    hours = {None: "12", "America/New_York": "08", "Asia/Tokyo": "21"}[timezone if zoned else None]
    assert str(read.month_first[3]) == f"2024-07-01T{hours}:00:00"
    assert read.notes[-1] == "dates before 1900 or after 2100 are unreadable"
    assert "dates before" not in " ".join(read_dates(values.iloc[3:], timezone).notes)


@pytest.mark.parametrize("name", ["America/Bostn", "", "../etc/passwd", "America", "/etc/localtime"])
def test_no_such_time_zone(name: str) -> None:
    with pytest.raises(
        SourceError, match="is not the name of a time zone; write it as America/New_York"
    ) as raised:
        read_dates(pd.Series(["2024-01-01"]), name)
    assert "\n" not in str(raised.value)


def test_a_declared_order() -> None:
    texts = pd.Series(["01/02/2024", "13/02/2024", "02/13/2024", "2024-02-13"])
    day = read_dates(texts, date_order="day first")
    assert [str(t)[:10] for t in day.month_first] == ["2024-02-01", "2024-02-13", "NaT", "2024-02-13"]
    assert is_month_first([order_evidence(day, texts)], "f", "day first") == (False, "day first, as declared")
    month = read_dates(texts, date_order="month first")
    assert month.readable.tolist() == [True, False, True, True]
    assert is_month_first([order_evidence(month, texts)], "f", "month first")[0]
    both = read_dates(texts)
    with pytest.raises(
        SourceError, match=r"'02/13/2024' has the month first \(1 such\), '13/02/2024' the day"
    ):
        is_month_first([order_evidence(both, texts)], "f")


def test_numbers_and_dates_in_one_column() -> None:
    texts = [pd.Series(["1706715000"]), pd.Series(["2024-01-02", None]), pd.Series(["2024-01-02"])]
    evidence = [order_evidence(read_dates(t), t) for t in texts]
    for some in (evidence, evidence[::-1]):
        with pytest.raises(SourceError) as raised:
            is_month_first(some, "f.csv")
        assert str(raised.value) == (
            "f.csv: dates contradict each other: '1706715000' is a number of seconds or milliseconds since 1970 "
            "(1 such), '2024-01-02' a date (2 such); write all one way, best as 2024-12-31"
        )
    assert is_month_first(evidence[:1], "f.csv") == (True, "instants")


@pytest.mark.parametrize("word", ["", "  ", "-", "NaN", "null", "None", "#N/A"])
def test_words_for_nothing_are_blank(word: str) -> None:
    values = pd.Series([word, "2024-01-01", "soon", None], dtype=object)
    assert read_dates(values).blank.tolist() == [True, False, False, True]
    assert blank_rows(values).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["8", "830", "0830", "1530", "2359"], [480, 30600, 30600, 55800, 86340]),
        (["8", "14", "23", "24"], [28800, 50400, 82800, None]),
        (["2400", "1260", "99", "99999", "-5"], [None] * 5),
        (["12:08:00 AM", "3 PM", "0:05", "15:30:00.123"], [480, 54000, 300, 55800]),
        (["1899-12-30 15:30:00", "1/1/1900 3:05 PM", "2024-01-01"], [55800, 54300, None]),
        (["25:00", "13:00 PM", "noon", None], [None] * 4),
    ],
)
def test_times_of_day(texts: list[str | None], expected: list[int | None]) -> None:
    read = [None if np.isnan(s) else int(s) for s in seconds_of_day(pd.Series(texts))]
    assert read == expected


def test_times_that_are_typed() -> None:
    assert seconds_of_day(pd.Series([8.0, 830.0, np.nan])).tolist()[:2] == [480, 30600]
    moments = pd.Series(pd.to_datetime(["1899-12-30 15:30", None]))
    assert seconds_of_day(moments)[0] == 55800
    clock = pd.Series([pd.Timestamp("2024-01-01 08:30").time()], dtype=object)
    assert seconds_of_day(clock).tolist() == [30600]


def test_hours_or_minutes_is_decided_by_all_chunks() -> None:
    first, second = pd.Series(["8", "14"]), pd.Series(["830", "9:15"])
    assert are_hours([bare_times(first)])
    for order in ([first, second], [second, first]):
        assert not are_hours([bare_times(values) for values in order])
    assert not are_hours([bare_times(pd.Series(["8:30", None]))])
    assert seconds_of_day(first, hours=False).tolist() == [480, 840]
    assert seconds_of_day(first, hours=True).tolist() == [28800, 50400]
    assert seconds_of_day(second, hours=True).tolist() == [30600, 33300]
