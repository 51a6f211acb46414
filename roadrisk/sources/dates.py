"""Dates and times as people write them.

`01/02/2024` is read both ways at once; the dates of the whole file that make sense one way only then
decide for all, unless the order is declared. Times are local and stay so: an offset written beside a
time is not applied unless a time zone is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from roadrisk.errors import SourceError
from roadrisk.sources.date_forms import UNREADABLE, IntArray, written_dates, written_times
from roadrisk.sources.rows import written_texts

TimeArray = NDArray[np.datetime64]
DateOrder = Literal["month first", "day first"]

_UNITS = {1: "seconds", 1000: "milliseconds"}
_NEVER = np.datetime64("NaT", "s")
_EARLIEST, _AFTER_LATEST = np.datetime64("1900-01-01", "s"), np.datetime64("2101-01-01", "s")
_IMPLAUSIBLE = "dates before 1900 or after 2100 are unreadable"


@dataclass(frozen=True)
class ReadDates:
    """Dates of a chunk, read both ways.

    Parameters
    ----------
    month_first, day_first : (N,) seconds; NaT where that order makes no date.
    blank : (N,) bool, nothing was written.
    with_clock : (N,) bool, the time of day was written too.
    with_zone : (N,) bool, an offset was written too.
    notes : what was understood, for people; the same words for all chunks of which they are true.
    numbers : (N,) bool, a number of seconds or milliseconds since 1970; empty where there can be none.
    """

    month_first: TimeArray
    day_first: TimeArray
    blank: NDArray[np.bool_]
    with_clock: NDArray[np.bool_]
    with_zone: NDArray[np.bool_]
    notes: tuple[str, ...] = ()
    numbers: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(N,) bool, a date in one order at least."""
        return ~(np.isnat(self.month_first) & np.isnat(self.day_first))


@dataclass(frozen=True)
class OrderEvidence:
    """What a chunk's dates say about their order.

    Parameters
    ----------
    month_first, day_first : dates that make sense in that order only, with an example.
    either : dates that make different sense in both.
    numbers, written : instants written as a number, and dates written as such, with an example.
    """

    month_first: int
    day_first: int
    either: int
    month_first_example: str
    day_first_example: str
    numbers: int = 0
    written: int = 0
    number_example: str = ""
    written_example: str = ""


def read_dates(
    values: pd.Series, timezone: str | None = None, date_order: DateOrder | None = None
) -> ReadDates:
    """Dates of a column, whether text, typed or numbers of seconds or milliseconds since 1970.

    A date before 1900 or after 2100 is a slip or a filler, such as 9999-12-31: it is unreadable.

    Parameters
    ----------
    timezone : IANA name; instants (numbers, and times with an offset) become local times there. Without
        it an offset is not applied, and numbers are UTC.
    date_order : dates such as 13/02/2024 that contradict it are unreadable.

    Raises
    ------
    SourceError : no such time zone.

    Examples
    --------
    >>> read = read_dates(pd.Series(["01/02/2024 12:08 AM", "4 March 2024", None, "soon"]))
    >>> read.month_first.astype(str).tolist()
    ['2024-01-02T00:08:00', '2024-03-04T00:00:00', 'NaT', 'NaT']
    >>> read.day_first.astype(str).tolist()[0], read.blank.tolist(), read.readable.tolist()
    ('2024-02-01T00:08:00', [False, False, True, False], [True, True, False, False])
    """
    zone = None if timezone is None else _zone(timezone)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return _typed_dates(values, zone)
    texts = written_texts(values)
    written = written_dates(texts)
    instants, numbers = written.has_zone | (written.per_second > 0), written.per_second > 0
    # UNREADABLE is how numpy stores NaT
    moments = [m.view("datetime64[s]") for m in (written.month_first, written.day_first)]
    first, last = (_local(_plausible(m), written.offset, instants, zone) for m in moments)
    if date_order is not None:
        first = last = first if date_order == "month first" else last
    units = [f"numbers of {said} since 1970" for n, said in _UNITS.items() if (written.per_second == n).any()]
    return ReadDates(
        first,
        last,
        np.asarray(texts.is_null()),
        written.has_clock & ~np.isnat(first) | written.has_clock & ~np.isnat(last),
        written.has_zone,
        (*units, *_zone_notes(bool(written.has_zone.any()), bool(numbers.any()), zone), *_noted(moments)),
        numbers,
    )


def seconds_of_day(values: pd.Series, hours: bool | None = None) -> NDArray[np.float64]:
    """(N,) seconds since midnight of a column of times; NaN where none can be read.

    Parameters
    ----------
    hours : whether numbers of one or two digits are hours; else they are minutes past midnight, as in
        0830, 830 and 8. Without it these values decide, by `are_hours`.

    Examples
    --------
    >>> seconds_of_day(pd.Series(["12:08 AM", "5:28 PM", "17:28:10", "?"])).tolist()
    [480.0, 62880.0, 62890.0, nan]
    >>> seconds_of_day(pd.Series(["8", "830", "1530"])).tolist(), seconds_of_day(pd.Series([8, 14])).tolist()
    ([480.0, 30600.0, 55800.0], [28800.0, 50400.0])
    """
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        moments = values.to_numpy(dtype="datetime64[s]", na_value=np.datetime64("NaT", "s"))
        return np.asarray((moments - moments.astype("datetime64[D]")) / np.timedelta64(1, "s"))
    texts = written_texts(values)
    written = written_times(texts)
    if hours is None:
        hours = are_hours([_bare_times(texts)])
    number, short = written.number, np.asarray(pc.binary_length(texts).fill_null(0)) <= 2
    hour = np.where(short, number if hours else 0, number // 100)
    minute = np.where(short, 0 if hours else number, number % 100)
    shown = (number != UNREADABLE) & (hour <= 23) & (minute <= 59)
    seconds = np.where(shown, hour * 3600 + minute * 60, written.clock)
    return np.where(seconds == UNREADABLE, np.nan, seconds)


@dataclass(frozen=True)
class BareTimes:
    """Times of a chunk that are written as bare numbers: of one or two digits, and of three or four."""

    short: int
    long: int


def bare_times(values: pd.Series) -> BareTimes:
    """What a chunk's bare numbers say about how times are written.

    >>> bare_times(pd.Series(["8", "830", "8:30"]))
    BareTimes(short=1, long=1)
    """
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return BareTimes(0, 0)
    return _bare_times(written_texts(values))


def are_hours(evidence: Sequence[BareTimes]) -> bool:
    """Whether bare numbers of one or two digits are hours: where none has three or four."""
    return any(e.short for e in evidence) and not any(e.long for e in evidence)


def order_evidence(read: ReadDates, values: pd.Series) -> OrderEvidence:
    """What these dates say about their order; `values` gives the examples."""
    month, day = ~np.isnat(read.month_first), ~np.isnat(read.day_first)
    month_only, day_only = month & ~day, day & ~month
    numbers = read.numbers if len(read.numbers) else np.zeros(len(month), dtype=bool)
    written = (month | day) & ~numbers

    def example(mask: NDArray[np.bool_]) -> str:
        return str(values.iloc[int(mask.argmax())]) if mask.any() else ""

    return OrderEvidence(
        int(month_only.sum()),
        int(day_only.sum()),
        int((month & day & (read.month_first != read.day_first)).sum()),
        example(month_only),
        example(day_only),
        int(numbers.sum()),
        int(written.sum()),
        example(numbers),
        example(written),
    )


def is_month_first(
    evidence: Sequence[OrderEvidence], where: str, declared: DateOrder | None = None
) -> tuple[bool, str]:
    """Whether all dates have the month first, and what decided it, in words.

    Dates that all make sense either way are read month first, and the words say so.

    Parameters
    ----------
    declared : the order, if the user said it.

    Raises
    ------
    SourceError : some dates make sense one way only, some the other way only, or some are instants
        written as numbers and some dates.
    """
    month, day = sum(e.month_first for e in evidence), sum(e.day_first for e in evidence)
    numbers, written = sum(e.numbers for e in evidence), sum(e.written for e in evidence)
    if numbers and written:
        raise SourceError(
            f"{where}: dates contradict each other: {_example(evidence, 'number')!r} is a number of seconds "
            f"or milliseconds since 1970 ({numbers:,} such), {_example(evidence, 'written')!r} a date "
            f"({written:,} such); write all one way, best as 2024-12-31"
        )
    if declared is not None:
        return declared == "month first", f"{declared}, as declared"
    if month and day:
        raise SourceError(
            f"{where}: dates contradict each other: {_example(evidence, 'month_first')!r} has the month "
            f"first ({month:,} such), {_example(evidence, 'day_first')!r} the day ({day:,} such); write all "
            "dates one way, best as 2024-12-31, or declare `date_order` and lose the others"
        )
    if month or day:
        return not day, f"{'day' if day else 'month'} first ({month + day:,} dates make sense only so)"
    if any(e.either for e in evidence):
        return True, "month first by custom: no date tells month from day; write 2024-12-31 to be sure"
    return True, "instants" if numbers else "year first"


def _example(evidence: Sequence[OrderEvidence], kind: str) -> str:
    examples = (getattr(e, f"{kind}_example") for e in evidence)
    return str(next(text for text in examples if text))


def _typed_dates(values: pd.Series, zone: ZoneInfo | None) -> ReadDates:
    zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
    written = values.to_numpy(dtype="datetime64[s]", na_value=_NEVER)  # in UTC, if zoned
    seconds = _plausible(written)
    if zoned:
        index = pd.DatetimeIndex(seconds, tz="UTC").tz_convert(zone or values.dt.tz)
        seconds = index.tz_localize(None).to_numpy().astype("datetime64[s]")
    blank = np.isnat(written)
    clock = ~np.isnat(seconds) & (seconds != seconds.astype("datetime64[D]"))
    notes = (*_zone_notes(zoned, False, zone), *_noted([written]))
    return ReadDates(seconds, seconds, blank, clock, ~blank & zoned, notes)


def _plausible(moments: TimeArray) -> TimeArray:
    """(N,) the same; NaT where no crash or citation can have been."""
    return np.where((moments >= _EARLIEST) & (moments < _AFTER_LATEST), moments, _NEVER)


def _noted(moments: Sequence[TimeArray]) -> tuple[str, ...]:
    lost = any((~np.isnat(m) & np.isnat(_plausible(m))).any() for m in moments)
    return (_IMPLAUSIBLE,) if lost else ()


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SourceError(
            f"timezone {name!r} is not the name of a time zone; write it as America/New_York in the region "
            "file"
        ) from None


def _zone_notes(zoned: bool, numbers: bool, zone: ZoneInfo | None) -> tuple[str, ...]:
    if zone is not None:
        return (f"instants as local times in {zone.key}",) if zoned or numbers else ()
    notes = ("numbers are UTC; name `timezone` to have local times",) if numbers else ()
    return (
        (*notes, "offsets from UTC beside times are not applied; name `timezone` if they are true")
        if zoned
        else notes
    )


def _local(
    seconds: TimeArray, offset: IntArray, instants: NDArray[np.bool_], zone: ZoneInfo | None
) -> TimeArray:
    """(N,) local times; NaT for what is unreadable."""
    if zone is not None and instants.any():
        utc = pd.DatetimeIndex(seconds[instants] - offset[instants].astype("timedelta64[s]"), tz="UTC")
        seconds[instants] = utc.tz_convert(zone).tz_localize(None).to_numpy().astype("datetime64[s]")
    return seconds


def _bare_times(texts: pa.LargeStringArray) -> BareTimes:
    short, long = (
        pc.sum(pc.match_substring_regex(texts, rf"^\d{{{digits}}}$")).as_py() or 0
        for digits in ("1,2", "3,4")
    )
    return BareTimes(int(short), int(long))
