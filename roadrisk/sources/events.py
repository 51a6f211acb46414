"""Dated points with severity, as tables of any usual format have them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray, Grid
from roadrisk.source_settings import EventSource
from roadrisk.sources import positions
from roadrisk.sources.account import Account
from roadrisk.sources.dates import OrderEvidence, is_month_first, order_evidence, read_dates, seconds_of_day
from roadrisk.sources.names import SEVERITY, TIME, date_column, found_column, given_column, listed
from roadrisk.sources.positions import (
    PositionColumns,
    checked_positions,
    lnglat_bounds,
    position_columns,
)
from roadrisk.sources.tables import Chunk, Table, as_text, table_at

NO_DATE = "no date"
UNREADABLE_DATE = "unreadable date"

_NEARLY_ALL = 0.99
_CLEARLY_HERE = 10  # events; a state's file may well have less than 1 % of its rows in one town


@dataclass(frozen=True)
class Events:
    """Dated points that lie in a grid, and what became of the rows they came from.

    Parameters
    ----------
    name : prefix of their columns.
    table : a row an event: `x`, `y` in the grid's CRS, `row`, `col`, `time` (local, seconds), `severity`
        (text or null), `weight`, `source_row` (0 is the first row of data).
    rejected : `source_row`, `reason`, `x`, `y` as the source wrote them.
    understood : how the file was read, one line a thing, for people.
    first, last : dates of the whole file, rows outside the grid included.
    """

    name: str
    table: pd.DataFrame
    rejected: pd.DataFrame
    account: Account
    understood: tuple[str, ...]
    first: date
    last: date


@dataclass(frozen=True)
class _EventColumns:
    position: PositionColumns
    date: str
    time: str | None
    severity: str | None

    @property
    def names(self) -> list[str]:
        return [*self.position.attributes, *(c for c in (self.date, self.time, self.severity) if c)]


@dataclass(frozen=True)
class _Part:
    """What one chunk comes to: times still in both orders, months first and days first."""

    rows: int
    kept: pd.DataFrame
    rejected: pd.DataFrame
    dated: int
    clocked: int
    zoned: int
    outside: int
    outside_bounds: tuple[float, float, float, float]
    evidence: OrderEvidence
    span_month_first: tuple[np.datetime64, np.datetime64]
    span_day_first: tuple[np.datetime64, np.datetime64]
    unreadable_example: str


def read_events(source: EventSource, grid: Grid) -> Events:
    """The events of a source that lie in the grid.

    Rows are rejected for their position first, then for their date; those outside the grid are counted.

    Raises
    ------
    SourceError : no such file, columns that cannot be found, dates that cannot be read or contradict each
        other, more rows rejected than `max_rejected`, or nearly all outside the grid.
    """
    table = table_at(source.path)
    columns = _event_columns(table, source)
    parts = list(_parts(table, columns, grid))
    if not parts or not sum(p.rows for p in parts):
        raise SourceError(f"{source.path} has columns but no rows; export it again")
    _check_dates(source, columns, parts)
    account = _account(source, parts)
    _check_rejected(source, account, columns.position)
    _check_outside(source, account, parts, grid)
    month_first, order = is_month_first([p.evidence for p in parts], source.path)
    kept = pd.concat([p.kept for p in parts], ignore_index=True)
    kept["time"] = kept["month_first"] if month_first else kept["day_first"]
    kept["weight"] = 1.0
    spans = [p.span_month_first if month_first else p.span_day_first for p in parts]
    moments = np.array(spans).astype("datetime64[D]")
    return Events(
        name=account.source,
        table=kept[["x", "y", "row", "col", "time", "severity", "weight", "source_row"]],
        rejected=pd.concat([p.rejected for p in parts], ignore_index=True),
        account=account,
        understood=_understood(table, columns, parts, order),
        first=np.nanmin(moments).astype(date),
        last=np.nanmax(moments).astype(date),
    )


def _event_columns(table: Table, source: EventSource) -> _EventColumns:
    position = position_columns(table, source)
    names = table.columns
    if source.date is not None:
        day: str | None = given_column(names, source.date, "date", source.path)
    else:
        day = date_column(names)
    if day is None:
        raise SourceError(
            f"{source.path} has no column that looks like a date; name it with `date` in the region file; "
            f"its columns: {listed(names)}"
        )
    time, severity = found_column(names, TIME), found_column(names, SEVERITY)
    if source.time is not None:
        time = given_column(names, source.time, "time", source.path)
    if source.severity is not None:
        severity = given_column(names, source.severity, "severity", source.path)
    return _EventColumns(position, day, time, severity)


def _parts(table: Table, columns: _EventColumns, grid: Grid) -> Iterator[_Part]:
    first_row = 0
    for chunk in table.read(columns.names):
        yield _part(chunk, columns, grid, first_row)
        first_row += len(chunk[0])


def _part(chunk: Chunk, columns: _EventColumns, grid: Grid, first_row: int) -> _Part:
    frame = chunk[0]
    where = checked_positions(columns.position, chunk, grid)
    dates = read_dates(frame[columns.date])
    reason = where.reason.copy()
    reason[(reason == "") & dates.blank] = NO_DATE
    reason[(reason == "") & ~dates.readable] = UNREADABLE_DATE
    rows, cols = grid.locate(where.x, where.y)
    sound = reason == ""
    outside, inside = sound & (rows < 0), sound & (rows >= 0)
    of_day, clocked = _time_of_day(frame, columns, dates.with_clock)
    source_row = np.arange(first_row, first_row + len(frame))
    unreadable = ~dates.blank & ~dates.readable
    severity = (
        as_text(frame[columns.severity]) if columns.severity else np.full(len(frame), None, dtype=object)
    )
    kept = pd.DataFrame(
        {
            "x": where.x[inside],
            "y": where.y[inside],
            "row": rows[inside],
            "col": cols[inside],
            "month_first": (dates.month_first + of_day)[inside],
            "day_first": (dates.day_first + of_day)[inside],
            "severity": pd.array(severity[inside], dtype="string"),
            "source_row": source_row[inside],
        }
    )
    rejected = pd.DataFrame(
        {
            "source_row": source_row[~sound],
            "reason": pd.array(reason[~sound], dtype="string"),
            "x": where.raw_x[~sound],
            "y": where.raw_y[~sound],
        }
    )
    return _Part(
        rows=len(frame),
        kept=kept,
        rejected=rejected,
        dated=int(dates.readable.sum()),
        clocked=int((clocked & inside).sum()),
        zoned=int(dates.with_zone.sum()),
        outside=int(outside.sum()),
        outside_bounds=_bounds(where.lng[outside], where.lat[outside]),
        evidence=order_evidence(dates, frame[columns.date]),
        span_month_first=_span(dates.month_first),
        span_day_first=_span(dates.day_first),
        unreadable_example=str(frame[columns.date].iloc[int(unreadable.argmax())])
        if unreadable.any()
        else "",
    )


def _time_of_day(
    frame: pd.DataFrame, columns: _EventColumns, with_clock: NDArray[np.bool_]
) -> tuple[NDArray[np.timedelta64], NDArray[np.bool_]]:
    """(N,) what a time column adds to a date that carries no time, and (N,) whether the time is known."""
    if columns.time is None:
        return np.zeros(len(frame), dtype="timedelta64[s]"), with_clock
    seconds = seconds_of_day(frame[columns.time])
    used = ~with_clock & ~np.isnan(seconds)
    return np.where(used, seconds, 0).astype("timedelta64[s]"), with_clock | used


def _bounds(lng: FloatArray, lat: FloatArray) -> tuple[float, float, float, float]:
    if not len(lng):
        return math.inf, math.inf, -math.inf, -math.inf
    return float(lng.min()), float(lat.min()), float(lng.max()), float(lat.max())


def _span(times: NDArray[np.datetime64]) -> tuple[np.datetime64, np.datetime64]:
    known = times[~np.isnat(times)]
    nothing = np.datetime64("NaT", "s")
    return (known.min(), known.max()) if len(known) else (nothing, nothing)


def _account(source: EventSource, parts: Sequence[_Part]) -> Account:
    reasons: Counter[str] = Counter()
    for part in parts:
        reasons.update(Counter(part.rejected["reason"].tolist()))
    return Account(
        source=source.name or "crashes",
        read=sum(p.rows for p in parts),
        used=sum(len(p.kept) for p in parts),
        rejected=dict(reasons),
        outside=sum(p.outside for p in parts),
    )


def _check_dates(source: EventSource, columns: _EventColumns, parts: Sequence[_Part]) -> None:
    """Refuse a column most of whose entries are no dates: it is the wrong column or an unknown format."""
    read, dated = sum(p.rows for p in parts), sum(p.dated for p in parts)
    if dated * 2 > read:
        return
    example = next((p.unreadable_example for p in parts if p.unreadable_example), None)
    if example is None and dated:
        return
    said = f"such as {example[:60]!r}" if example is not None else "all of it is blank"
    raise SourceError(
        f"{source.path}: {read - dated:,} of {read:,} dates in {columns.date!r} cannot be read, {said}; "
        "write them as 2024-12-31 or 12/31/2024, or name another column with `date` in the region file"
    )


def _check_rejected(source: EventSource, account: Account, position: PositionColumns) -> None:
    share = account.rejected_rows / account.read
    if share <= source.max_rejected:
        return
    commonest = max(account.rejected, key=lambda reason: account.rejected[reason])
    if commonest == positions.SWAPPED:
        x, y = position.attributes if position.attributes else ("x", "y")
        fix = f"latitude and longitude look swapped: give x = {y!r} and y = {x!r} in the region file"
    elif commonest == positions.OUTSIDE_THE_WORLD:
        fix = "name the CRS of the coordinates with `crs` in the region file, as in crs = 'EPSG:26986'"
    else:
        allowed = min(1.0, math.ceil(share * 100) / 100)
        fix = f"mend them, or allow it with max_rejected = {allowed:g} for this source in the region file"
    raise SourceError(
        f"{source.path}: {account.rejected_rows:,} of {account.read:,} rows ({100 * share:.1f} %) cannot be "
        f"used, more than the {100 * source.max_rejected:g} % allowed: {account.reasons}; {fix}"
    )


def _check_outside(source: EventSource, account: Account, parts: Sequence[_Part], grid: Grid) -> None:
    sound = account.used + account.outside
    if not account.outside or account.outside < _NEARLY_ALL * sound or account.used >= _CLEARLY_HERE:
        return
    bounds = np.array([p.outside_bounds for p in parts])
    there = (*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0))
    raise SourceError(
        f"{source.path}: {account.outside:,} of {sound:,} points lie outside the grid: they are in "
        f"{_degrees(there)}, the grid in {_degrees(lnglat_bounds(grid))} (W S E N); "
        "check --bbox and the CRS of the points"
    )


def _degrees(bounds: Sequence[float]) -> str:
    return " ".join(f"{v:.2f}" for v in bounds)


def _understood(table: Table, columns: _EventColumns, parts: Sequence[_Part], order: str) -> tuple[str, ...]:
    used, clocked = sum(len(p.kept) for p in parts), sum(p.clocked for p in parts)
    zoned = sum(p.zoned for p in parts)
    dated = f"{columns.date!r} and {columns.time!r}" if columns.time else repr(columns.date)
    lines = [
        f"{table.path.name}: {table.understood}",
        columns.position.understood,
        f"dates from {dated}, {order}; local times",
    ]
    if zoned:
        lines.append(f"{zoned:,} times have an offset from UTC beside them; it is not applied")
    if clocked < used:
        lines.append(f"{used - clocked:,} events have no time of day")
    lines.append(f"severity from {columns.severity!r}" if columns.severity else "no column of severity")
    return tuple(lines)
