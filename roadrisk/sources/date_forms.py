"""Millions of written dates at once.

Whether a text is a date, and where in it the year stands, depends only on its *form*: the text with
every digit written as 0. A column has few forms, so each is understood once, by regular expressions;
the digits of all rows are then taken from those places by array arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
ByteMatrix = NDArray[np.uint8]

UNREADABLE = np.iinfo(np.int64).min

_LONGEST = 64  # bytes; no date is longer
_BLOCK_ROWS = 1 << 16  # arrays of a block stay in the cache
_SAMPLE_ROWS = 1 << 12  # whether texts repeat
_MONTHS = b"jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH = (
    rb"(?P<word>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    rb"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY = rb"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_ZONE = rb"(?P<zone>Z|UTC|GMT|(?P<sign>[+-])(?P<zh>\d\d)(?::?(?P<zm>\d\d))?)"
_CLOCK = (
    rb"(?P<h>\d\d?)(?::(?P<mi>\d\d)(?::(?P<s>\d\d)(?:[.,]\d+)?)?(?:\s*(?P<half>[ap])\.?m\.?)?|"
    rb"\s*(?P<bare_half>[ap])\.?m\.?)"
    rb"(?:\s*" + _ZONE + rb")?"
)
_AFTER = rb"(?:(?:[T,\s]+|:)" + _CLOCK + rb")?"
_DATES = (
    rb"(?P<y>\d{4})(?P<sep>[-/.])(?P<a>\d\d?)(?P=sep)(?P<b>\d\d?)" + _AFTER,
    rb"(?P<y>\d{4})(?P<a>\d\d)(?P<b>\d\d)" + _AFTER,
    rb"(?P<y>\d{4})(?P<a>\d\d)(?P<b>\d\d)[T\s]?(?P<h>\d\d)(?P<mi>\d\d)(?P<s>\d\d)?(?:\.\d+)?" + _ZONE + rb"?",
    rb"(?P<last>\d\d?)(?P<sep>[-/.])(?P<b>\d\d?)(?P=sep)(?P<y>\d{4}|\d\d)" + _AFTER,
    _WEEKDAY + rb"(?P<b>\d\d?)(?P<sep>[-/.\s]*)" + _MONTH + rb"[-/.,\s]*(?P<y>\d{4}|\d\d)" + _AFTER,
    _WEEKDAY + _MONTH + rb"[-/.\s]*(?P<b>\d\d?)(?:,\s*|[-/.\s]+)(?P<y>\d{4}|\d\d)" + _AFTER,
    rb"(?P<y>\d{4})(?P<sep>[-/.\s]*)" + _MONTH + rb"[-/.\s]*(?P<b>\d\d?)" + _AFTER,
)
_FORMS = [re.compile(form, re.IGNORECASE) for form in _DATES]
_TIME = re.compile(_CLOCK, re.IGNORECASE)
_INSTANT = re.compile(rb"(?P<number>\d{9,10}|\d{12,13})(?:\.\d*)?")
_BARE_TIME = re.compile(rb"(?P<number>\d{1,4})")
_FIELDS = ("y", "a", "b", "h", "mi", "s", "zh", "zm", "number")
_WIDTHS = (4, 2, 2, 2, 2, 2, 2, 2, 13)
_SECONDS = (10**8, 4 * 10**9)
_MILLISECONDS = (10**11, 4 * 10**12)


@dataclass(frozen=True)
class Form:
    """Where the parts of a date stand in texts of one form.

    Parameters
    ----------
    spans : (9, 2) first byte and length of year, month or day, day or month, hour, minute, second, hours
        and minutes of the offset, and a number of seconds; length 0 where there is none.
    month : written as a word, 1 to 12; else 0.
    both_orders : whether day and month may stand the other way round.
    is_date, is_number : written as a date, as a bare number, or as what may be either.
    half : 0 without, 1 for a.m., 2 for p.m.
    has_clock, has_zone : whether a time of day and an offset are written.
    sign : of the offset.
    """

    spans: tuple[tuple[int, int], ...]
    month: int
    both_orders: bool
    is_date: bool
    is_number: bool
    half: int
    has_clock: bool
    has_zone: bool
    sign: int


@dataclass(frozen=True)
class Written:
    """What texts say, both ways.

    Parameters
    ----------
    month_first, day_first : (N,) seconds since 1970 as written; `UNREADABLE` where that order is no date.
    clock : (N,) seconds since midnight of texts that are a time alone or have one; `UNREADABLE` else.
    has_clock, has_zone : (N,) bool.
    offset : (N,) seconds of the offset from UTC; 0 without.
    per_second : (N,) of an instant written as a number: 1 if it is seconds since 1970, 1000 if
        milliseconds; 0 of anything else.
    number : (N,) bare number; `UNREADABLE` else.
    """

    month_first: IntArray
    day_first: IntArray
    clock: IntArray
    has_clock: NDArray[np.bool_]
    has_zone: NDArray[np.bool_]
    offset: IntArray
    per_second: IntArray
    number: IntArray


def written_dates(texts: pa.LargeStringArray) -> Written:
    """What each text says as a date; nulls are unreadable."""
    return _each_once(texts, _date_form)


def written_times(texts: pa.LargeStringArray) -> Written:
    """What each text says as a time of day; a date before it does not count."""
    return _each_once(texts, _time_form)


def _each_once(texts: pa.LargeStringArray, form_of: Callable[[bytes], Form | None]) -> Written:
    sample = texts.slice(0, _SAMPLE_ROWS)
    if pc.count_distinct(sample).as_py() * 2 > len(sample):
        return _read(texts, form_of)
    coded = texts.dictionary_encode()
    codes = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False)
    unique = pa.concat_arrays([coded.dictionary, pa.nulls(1, pa.large_string())])
    read = _read(unique, form_of)
    return Written(*(getattr(read, f.name)[codes] for f in fields(Written)))


def _read(texts: pa.LargeStringArray, form_of: Callable[[bytes], Form | None]) -> Written:
    blocks = [_written(block, lengths, form_of) for block, lengths in _blocks(texts)]
    return Written(*(np.concatenate([getattr(b, f.name) for b in blocks]) for f in fields(Written)))


def _blocks(texts: pa.LargeStringArray) -> Iterator[tuple[ByteMatrix, IntArray]]:
    """(n, width) bytes, zero behind the end, and (n,) lengths of the texts, a block at a time."""
    for start in range(0, max(1, len(texts)), _BLOCK_ROWS):
        block = texts.slice(start, _BLOCK_ROWS)
        n = len(block)
        _, ends, data = block.buffers()
        offsets = (
            np.frombuffer(ends, dtype=np.int64)[block.offset : block.offset + n + 1]
            if n
            else np.zeros(1, int)
        )
        lengths = np.diff(offsets)
        lengths[np.asarray(block.is_null()) | (lengths > _LONGEST)] = 0
        width = 8 * max(1, -(-int(lengths.max(initial=0)) // 8))
        letters = (
            np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
        )
        places = np.minimum(offsets[:-1, None] + np.arange(width), len(letters) - 1)
        yield np.where(np.arange(width) < lengths[:, None], letters[places], np.uint8(0)), lengths


def _written(matrix: ByteMatrix, lengths: IntArray, form_of: Callable[[bytes], Form | None]) -> Written:
    codes, forms = _forms(matrix, lengths, form_of)
    spans = np.array([form.spans for form in forms], dtype=np.int64).reshape(-1, len(_FIELDS), 2)[codes]
    year, a, b, hour, minute, second, zone_hours, zone_minutes, number = (
        _digits(matrix, spans[:, i, 0], spans[:, i, 1], width) for i, width in enumerate(_WIDTHS)
    )

    def of_form(name: str) -> IntArray:
        return np.array([getattr(form, name) for form in forms], dtype=np.int64)[codes]

    is_date, has_clock, has_zone = (of_form(name) == 1 for name in ("is_date", "has_clock", "has_zone"))
    year = np.where(spans[:, 0, 1] == 2, year + np.where(year >= 69, 1900, 2000), year)  # as POSIX
    clock = np.where(has_clock, _clock(hour, minute, second, of_form("half")), 0)
    word = of_form("month")
    month_first = _moments(year, np.where(word > 0, word, a), b, clock)
    swapped = _moments(year, b, a, clock)
    day_first = np.where(of_form("both_orders") == 1, swapped, month_first)
    month_first[~is_date], day_first[~is_date] = UNREADABLE, UNREADABLE
    number = np.where(of_form("is_number") == 1, number, UNREADABLE)
    # 202401311530 is rather a date than an instant of 1976
    per_second = np.where(
        (month_first != UNREADABLE) & (year >= 1900) & (year < 2100), 0, _per_second(number)
    )
    instant = np.where(per_second > 0, number // np.maximum(per_second, 1), UNREADABLE)
    return Written(
        month_first=np.where(per_second > 0, instant, month_first),
        day_first=np.where(per_second > 0, instant, day_first),
        clock=np.where(has_clock, clock, UNREADABLE),
        has_clock=has_clock | (per_second > 0),
        has_zone=has_zone,
        offset=of_form("sign") * (zone_hours * 3600 + zone_minutes * 60),
        per_second=per_second,
        number=number,
    )


def _forms(
    matrix: ByteMatrix, lengths: IntArray, form_of: Callable[[bytes], Form | None]
) -> tuple[IntArray, list[Form]]:
    """(n,) number of each text's form, and the forms."""
    is_digit = (matrix >= ord("0")) & (matrix <= ord("9"))
    drawn = np.where(is_digit, np.uint8(ord("0")), matrix)
    words = np.ascontiguousarray(drawn).view(np.uint64)
    codes = np.zeros(len(matrix), dtype=np.int64)
    for column in words.T:
        more, unique = pd.factorize(column)
        codes = pd.factorize(codes * len(unique) + more)[0]
    first = np.zeros(codes.max(initial=-1) + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return codes, [form_of(drawn[i, : lengths[i]].tobytes()) or _NO_FORM for i in first]


def _digits(matrix: ByteMatrix, start: IntArray, length: IntArray, width: int) -> IntArray:
    """(n,) the whole numbers that stand at these places."""
    value = np.zeros(len(matrix), dtype=np.int64)
    here = np.arange(len(matrix)) * matrix.shape[1] + start
    flat = matrix.ravel()
    for j in range(min(width, int(length.max(initial=0)))):
        used = j < length
        value = np.where(used, value * 10 + flat[np.where(used, here + j, 0)] - ord("0"), value)
    return value


def _clock(hour: IntArray, minute: IntArray, second: IntArray, half: IntArray) -> IntArray:
    """(n,) seconds since midnight; `UNREADABLE` for what no clock shows."""
    shown = np.where(half > 0, (hour >= 1) & (hour <= 12), hour <= 23) & (minute <= 59) & (second <= 59)
    hour = np.where(half > 0, hour % 12 + 12 * (half == 2), hour)
    return np.where(shown, hour * 3600 + minute * 60 + second, UNREADABLE)


def _moments(year: IntArray, month: IntArray, day: IntArray, clock: IntArray) -> IntArray:
    """(n,) seconds since 1970; `UNREADABLE` where there is no such day or time."""
    sound = (year >= 1) & (month >= 1) & (month <= 12) & (clock != UNREADABLE)
    months = np.where(sound, (year - 1970) * 12 + month - 1, 0)
    start, end = (
        m.view("datetime64[M]").astype("datetime64[D]").view(np.int64) for m in (months, months + 1)
    )
    sound &= (day >= 1) & (day <= end - start)
    return np.where(sound, (start + day - 1) * 86400 + np.where(sound, clock, 0), UNREADABLE)


def _per_second(number: IntArray) -> IntArray:
    """(n,) 1 where a number may be seconds since 1970, 1000 where milliseconds, else 0: 1973 to 2096."""
    seconds = (number >= _SECONDS[0]) & (number <= _SECONDS[1])
    milliseconds = (number >= _MILLISECONDS[0]) & (number <= _MILLISECONDS[1])
    return np.where(seconds, 1, np.where(milliseconds, 1000, 0))


@lru_cache(maxsize=1 << 14)
def _date_form(text: bytes) -> Form | None:
    number = _INSTANT.fullmatch(text)
    match = next((m for m in (form.fullmatch(text) for form in _FORMS) if m), None)
    return _form(match, number) if match or number else None


@lru_cache(maxsize=1 << 14)
def _time_form(text: bytes) -> Form | None:
    clock, number = _TIME.fullmatch(text), _BARE_TIME.fullmatch(text)
    if clock or number:
        return _form(clock, number)
    dated = _date_form(text)
    return dated if dated is not None and dated.has_clock else None


def _form(match: re.Match[bytes] | None, number: re.Match[bytes] | None) -> Form:
    found = {} if match is None else {k: match.span(k) for k, v in match.groupdict().items() if v is not None}
    if number is not None:
        found["number"] = number.span("number")
    both = "last" in found
    found["a"] = found["last"] if both else found.get("a", (0, 0))

    def part(name: str) -> bytes:
        return match.group(name).lower() if match is not None and name in found else b""

    half = part("half") or part("bare_half")
    return Form(
        spans=tuple((found[f][0], found[f][1] - found[f][0]) if f in found else (0, 0) for f in _FIELDS),
        month=_MONTHS.index(part("word")[:3]) + 1 if "word" in found else 0,
        both_orders=both,
        is_date="y" in found,
        is_number=number is not None,
        half={b"": 0, b"a": 1, b"p": 2}[half],
        has_clock="h" in found,
        has_zone="zone" in found,
        sign={b"": 0, b"+": 1, b"-": -1}[part("sign")],
    )


_NO_FORM = Form(((0, 0),) * len(_FIELDS), 0, False, False, False, 0, False, False, 0)
