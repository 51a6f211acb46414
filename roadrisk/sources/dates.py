"""Dates as people write them.

`01/02/2024` is read both ways at once; the dates of the whole file that make sense one way only then
decide for all. Times are local and stay so: an offset written beside a time is not applied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.errors import SourceError

TimeArray = NDArray[np.datetime64]

_CLOCK = (
    r"(?P<h>\d{1,2}):(?P<mi>\d{2})(?::(?P<s>\d{2})(?:[.,]\d+)?)?\s*(?:(?P<half>[AaPp])\.?[Mm]\.?)?"
    r"\s*(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?"
)
_YEAR_FIRST = re.compile(rf"(?P<y>\d{{4}})([-/.]?)(?P<a>\d{{1,2}})\2(?P<b>\d{{1,2}})(?:[T,\s]+{_CLOCK})?")
_YEAR_LAST = re.compile(
    rf"(?P<a>\d{{1,2}})([-/.])(?P<b>\d{{1,2}})\2(?P<y>\d{{4}}|\d{{2}})(?:[T,\s]+{_CLOCK})?"
)
_TIME = re.compile(_CLOCK)
_NAT = np.datetime64("NaT", "s")


@dataclass(frozen=True)
class ReadDates:
    """Dates of a chunk, read both ways.

    Parameters
    ----------
    month_first, day_first : (N,) seconds; NaT where that order makes no date.
    blank : (N,) bool, nothing was written.
    with_clock : (N,) bool, the time of day was written too.
    with_zone : (N,) bool, an offset was written, and is ignored.
    """

    month_first: TimeArray
    day_first: TimeArray
    blank: NDArray[np.bool_]
    with_clock: NDArray[np.bool_]
    with_zone: NDArray[np.bool_]

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
    """

    month_first: int
    day_first: int
    either: int
    month_first_example: str
    day_first_example: str


def read_dates(values: pd.Series) -> ReadDates:
    """Dates of a column, whether text or typed.

    Examples
    --------
    >>> read = read_dates(pd.Series(["01/02/2024 12:08 AM", "2024-03-04", None, "soon"]))
    >>> read.month_first.astype(str).tolist()
    ['2024-01-02T00:08:00', '2024-03-04T00:00:00', 'NaT', 'NaT']
    >>> read.day_first.astype(str).tolist()[0], read.blank.tolist(), read.readable.tolist()
    ('2024-02-01T00:08:00', [False, False, True, False], [True, True, False, False])
    """
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
        local = values.dt.tz_localize(None) if zoned else values
        seconds = local.to_numpy().astype("datetime64[s]")
        known = ~np.isnat(seconds)
        clock = known & (seconds != seconds.astype("datetime64[D]"))
        return ReadDates(seconds, seconds, ~known, clock, known & zoned)
    codes, unique = pd.factorize(_stripped(values))
    read = [_both_orders(text) for text in unique]
    # factorize gives nulls the code -1: the entry appended last
    columns = list(zip(*read, (_NAT, _NAT, False, False), strict=True))
    month_first, day_first = (np.array(c, dtype="datetime64[s]")[codes] for c in columns[:2])
    with_clock, with_zone = (np.array(c, dtype=bool)[codes] for c in columns[2:])
    return ReadDates(month_first, day_first, codes == -1, with_clock, with_zone)


def seconds_of_day(values: pd.Series) -> NDArray[np.float64]:
    """(N,) seconds since midnight of a column of times; NaN where none can be read.

    >>> seconds_of_day(pd.Series(["12:08 AM", "5:28 PM", "17:28:10", "?"])).tolist()
    [480.0, 62880.0, 62890.0, nan]
    """
    codes, unique = pd.factorize(_stripped(values))
    seconds = [_clock_seconds(match) if (match := _TIME.fullmatch(text)) else None for text in unique]
    return np.array([np.nan if s is None else float(s) for s in [*seconds, None]])[codes]


def order_evidence(read: ReadDates, values: pd.Series) -> OrderEvidence:
    """What these dates say about their order; `values` gives the examples."""
    month, day = ~np.isnat(read.month_first), ~np.isnat(read.day_first)
    month_only, day_only = month & ~day, day & ~month

    def example(mask: NDArray[np.bool_]) -> str:
        return str(values.iloc[int(mask.argmax())]) if mask.any() else ""

    return OrderEvidence(
        int(month_only.sum()),
        int(day_only.sum()),
        int((month & day & (read.month_first != read.day_first)).sum()),
        example(month_only),
        example(day_only),
    )


def is_month_first(evidence: Sequence[OrderEvidence], where: str) -> tuple[bool, str]:
    """Whether all dates have the month first, and what decided it, in words.

    Dates that all make sense either way are read month first, and the words say so.

    Raises
    ------
    SourceError : some dates make sense one way only, some the other way only.
    """
    month, day = sum(e.month_first for e in evidence), sum(e.day_first for e in evidence)
    if month and day:
        examples = [
            next(e.month_first_example for e in evidence if e.month_first),
            next(e.day_first_example for e in evidence if e.day_first),
        ]
        raise SourceError(
            f"{where}: dates contradict each other: {examples[0]!r} has the month first ({month:,} such), "
            f"{examples[1]!r} the day ({day:,} such); write all dates one way, best as 2024-12-31"
        )
    if month or day:
        return not day, f"{'day' if day else 'month'} first ({month + day:,} dates make sense only so)"
    if any(e.either for e in evidence):
        return True, "month first by custom: no date tells month from day; write 2024-12-31 to be sure"
    return True, "year first"


def _stripped(values: pd.Series) -> NDArray[np.object_]:
    text = values.astype("string").str.strip()
    return np.asarray(text.astype(object).where(text.notna() & (text != ""), None), dtype=object)


def _both_orders(text: str) -> tuple[np.datetime64, np.datetime64, bool, bool]:
    match = _YEAR_FIRST.fullmatch(text)
    swapped = match is None
    match = match or _YEAR_LAST.fullmatch(text)
    if match is None:
        return _NAT, _NAT, False, False
    seconds = _clock_seconds(match)
    if seconds is None:
        return _NAT, _NAT, False, False
    year, a, b = (int(match[name]) for name in ("y", "a", "b"))
    if len(match["y"]) == 2:  # POSIX: 69-99 are 1969-1999
        year += 1900 if year >= 69 else 2000
    month_first = _date(year, a, b, seconds)
    day_first = _date(year, b, a, seconds) if swapped else month_first
    return month_first, day_first, match["h"] is not None, match["zone"] is not None


def _clock_seconds(match: re.Match[str]) -> int | None:
    """Seconds since midnight; 0 without a time; none for a time that no clock shows."""
    if match["h"] is None:
        return 0
    hour, minute, second = int(match["h"]), int(match["mi"]), int(match["s"] or 0)
    if match["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match["half"] in "Pp" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return hour * 3600 + minute * 60 + second


def _date(year: int, month: int, day: int, seconds: int) -> np.datetime64:
    try:
        midnight = np.datetime64(datetime(year, month, day), "s")
    except ValueError:
        return _NAT
    return midnight + np.timedelta64(seconds, "s")
