"""Chunks of a table as events: each row accepted, rejected with its reason, left out or outside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray, Grid
from roadrisk.source_settings import EventSource
from roadrisk.sources.dates import (
    BareTimes,
    OrderEvidence,
    ReadDates,
    bare_times,
    order_evidence,
    read_dates,
    seconds_of_day,
)
from roadrisk.sources.names import EVENT_ID, SEVERITY, TIME, date_column, found_column, given_column, listed
from roadrisk.sources.positions import (
    PositionColumns,
    PositionEvidence,
    Positions,
    checked_positions,
    position_columns,
)
from roadrisk.sources.rows import blank_rows, left_out_rows, met_values
from roadrisk.sources.stored import keys_of
from roadrisk.sources.tables import Chunk, Table, as_text

NO_DATE = "no date"
UNREADABLE_DATE = "unreadable date"
FIELDS = ("x", "y", "row", "col", "time", "severity", "source_file", "source_row")

_NEVER = np.datetime64("NaT", "s")
_SHOWN = 12  # severities
NEAR_M = 1.0  # the same place, written to other decimals or brought from another CRS
NO_KEY = np.uint64(0)
ORDERS = ("month_first", "day_first")
PLACE_KEYS = tuple(f"place_{i}_" for i in range(4))


@dataclass(frozen=True)
class EventColumns:
    """Where a table says what of its events.

    Parameters
    ----------
    date, time, severity, id : columns; None where the table has none.
    by : columns of kinds.
    keep : columns that say which rows are asked for.
    month_first : how dates that make sense both ways are read; known when the whole file is.
    hours : whether bare numbers in a column of times are hours; known when the whole file is.
    """

    position: PositionColumns
    date: str | None
    time: str | None
    severity: str | None
    id: str | None
    by: tuple[str, ...]
    keep: tuple[str, ...]
    month_first: bool = True
    hours: bool = False

    @property
    def order(self) -> str:
        """Which reading of dates holds."""
        return ORDERS[0] if self.month_first else ORDERS[1]

    @property
    def by_names(self) -> list[str]:
        """The columns of kinds as events have them."""
        return [f"by_{name}" for name in self.by]

    @property
    def names(self) -> list[str]:
        """Attributes to read."""
        single = (self.date, self.time, self.severity, self.id)
        return [*self.position.attributes, *(c for c in single if c), *self.by, *self.keep]

    def spans(self, parts: Sequence[Part]) -> list[np.datetime64]:
        """First and last date of each part."""
        return [day for p in parts for day in (p.span_month_first if self.month_first else p.span_day_first)]

    def said(self, parts: Sequence[Part], order: str) -> list[str]:
        """How the columns were understood, for people."""
        accepted, clocked = sum(p.accepted for p in parts), sum(p.clocked for p in parts)
        lines = [self.position.understood]
        if self.date is not None:
            dated = f"{self.date!r} and {self.time!r}" if self.time else repr(self.date)
            notes = dict.fromkeys(note for p in parts for note in p.notes)
            lines.append(f"dates from {dated}, {', '.join([order, *notes])}; local times")
            unread = sum(p.unreadable_times for p in parts)
            if unread:
                example = next(p.unreadable_time for p in parts if p.unreadable_times)
                lines.append(
                    f"{unread:,} times of day cannot be read, such as {example!r}: taken as midnight"
                )
            if clocked < accepted:
                lines.append(f"{accepted - clocked:,} events have no time of day")
        if self.severity is not None:
            counts = sum((p.severities for p in parts), Counter[str]())
            shown = ", ".join(f"{text or 'blank'} {n:,}" for text, n in counts.most_common(_SHOWN))
            more = f" and {len(counts) - _SHOWN:,} more" if len(counts) > _SHOWN else ""
            lines.append(f"severity from {self.severity!r}: {shown}{more}")
        return lines


@dataclass(frozen=True)
class Part:
    """What one chunk comes to.

    Parameters
    ----------
    rows, asked : all, and those that `keep` asks for.
    accepted, outside : rows.
    rejected : `source_file`, `source_row`, `reason`, `x`, `y`.
    rejected_asked, left_out : rows by reason.
    dated : rows with a date that can be read.
    clocked : accepted rows with a time of day.
    severities : of accepted rows, "" for none.
    kinds : column -> the values of accepted rows, "" for none.
    met : column of `keep` -> its values so far.
    """

    rows: int
    asked: int
    accepted: int
    outside: int
    rejected: pd.DataFrame
    rejected_asked: Counter[str]
    left_out: Counter[str]
    dated: int
    clocked: int
    unreadable_times: int
    unreadable_time: str
    bare_times: BareTimes
    notes: tuple[str, ...]
    outside_bounds: tuple[float, float, float, float]
    position: PositionEvidence
    evidence: OrderEvidence
    span_month_first: tuple[np.datetime64, np.datetime64]
    span_day_first: tuple[np.datetime64, np.datetime64]
    unreadable_example: str
    severities: Counter[str]
    kinds: dict[str, set[str]]
    met: dict[str, set[str]] = field(default_factory=dict)


def event_columns_of(table: Table, source: EventSource) -> EventColumns:
    """The columns of a table's events: as the source names them, else by their usual names.

    Raises
    ------
    SourceError : a column that is not there, or no date and not declared undated.
    """
    where, names = str(table.path), table.columns

    def column(key: str, usual: str | None) -> str | None:
        name = getattr(source, key)
        return usual if name is None else given_column(names, name, key, where)

    day = None if source.undated else column("date", date_column(names))
    if day is None and not source.undated:
        raise SourceError(
            f"{where} has no column that looks like a date; name it with `date` in the region file, or say "
            f"undated = true; its columns: {listed(names)}"
        )
    return EventColumns(
        position=position_columns(table, source),
        date=day,
        time=None if source.undated else column("time", found_column(names, TIME)),
        severity=column("severity", found_column(names, SEVERITY)),
        id=column("id", found_column(names, EVENT_ID)),
        by=tuple(given_column(names, name, "by", where) for name in source.by),
        keep=tuple(given_column(names, name, "keep", where) for name in source.keep),
    )


def parts_of(
    table: Table, columns: EventColumns, source: EventSource, grid: Grid
) -> Iterator[tuple[Part, pd.DataFrame]]:
    """Each chunk's account and its accepted rows."""
    first_row = 0
    met: dict[str, set[str]] = {}
    for chunk in table.read(columns.names):
        met = met_values(chunk[0], source.keep, met)
        part, accepted = _part(chunk, columns, source, grid, first_row, table.name)
        yield replace(part, met=met), accepted
        first_row += len(chunk[0])


def finished_rows(columns: EventColumns, file: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Stored rows -> the fields of events, once the order of dates is known."""

    def finished(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.assign(time=frame[columns.order], source_file=file)
        return frame[[*FIELDS, *columns.by_names]]

    return finished


def _part(
    chunk: Chunk, columns: EventColumns, source: EventSource, grid: Grid, first_row: int, file: str
) -> tuple[Part, pd.DataFrame]:
    frame = chunk[0]
    where = checked_positions(columns.position, chunk, grid)
    dates = _dates(frame, columns, source)
    reason = where.reason.copy()
    if columns.date is not None:
        reason[(reason == "") & dates.blank] = NO_DATE
        reason[(reason == "") & ~dates.readable] = UNREADABLE_DATE
    unasked = left_out_rows(frame, source.keep)
    rows, cols = grid.locate(where.x, where.y)
    wanted = (reason == "") & (unasked == "")
    inside, outside = wanted & (rows >= 0), wanted & (rows < 0)
    accepted, clocked, unread = _accepted(frame, columns, dates, where, inside, rows, cols, first_row)
    bad = reason != ""
    rejected = pd.DataFrame(
        {
            "source_file": pd.array([file] * int(bad.sum()), dtype="string"),
            "source_row": np.flatnonzero(bad) + first_row,
            "reason": pd.array(reason[bad], dtype="string"),
            "x": where.raw_x[bad],
            "y": where.raw_y[bad],
        }
    )
    part = Part(
        rows=len(frame),
        asked=int((unasked == "").sum()),
        accepted=len(accepted),
        outside=int(outside.sum()),
        rejected=rejected,
        rejected_asked=Counter(reason[bad & (unasked == "")].tolist()),
        left_out=Counter(unasked[~bad & (unasked != "")].tolist()),
        dated=int(dates.readable.sum()),
        clocked=int((clocked & inside).sum()),
        unreadable_times=int((unread & inside).sum()),
        unreadable_time=_example(frame, columns.time, unread & inside),
        bare_times=bare_times(frame[columns.time]) if columns.time else BareTimes(0, 0),
        notes=dates.notes,
        outside_bounds=_bounds(where.lng[outside], where.lat[outside]),
        position=where.evidence,
        evidence=order_evidence(dates, frame[columns.date] if columns.date else pd.Series(dtype=object)),
        span_month_first=_span(dates.month_first[wanted]),
        span_day_first=_span(dates.day_first[wanted]),
        unreadable_example=_example(frame, columns.date, ~dates.blank & ~dates.readable),
        severities=Counter(accepted["severity"].fillna("").tolist()),
        kinds={name: set(accepted[f"by_{name}"].fillna("").unique()) for name in columns.by},
    )
    return part, accepted


def _accepted(
    frame: pd.DataFrame,
    columns: EventColumns,
    dates: ReadDates,
    where: Positions,
    inside: NDArray[np.bool_],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    first_row: int,
) -> tuple[pd.DataFrame, NDArray[np.bool_], NDArray[np.bool_]]:
    """Accepted rows; and (N,) of all rows, whether the time of day is known, and whether it is unreadable."""
    of_day, clocked, unread = _time_of_day(frame, columns, dates.with_clock)

    def text(column: str | None) -> Any:
        values = as_text(frame.loc[inside, column]) if column else np.full(int(inside.sum()), None)
        return pd.array(values, dtype="string")

    accepted = pd.DataFrame(
        {
            "x": where.x[inside],
            "y": where.y[inside],
            "row": rows[inside],
            "col": cols[inside],
            "month_first": (dates.month_first + of_day)[inside],
            "day_first": (dates.day_first + of_day)[inside],
            "severity": text(columns.severity),
            "source_row": np.flatnonzero(inside) + first_row,
            **{f"by_{name}": text(name) for name in columns.by},
        }
    )
    return accepted.assign(**_keys(accepted, text(columns.id), columns)), clocked, unread


def _keys(accepted: pd.DataFrame, ids: Any, columns: EventColumns) -> dict[str, Any]:
    """What rows are compared by: id, place and minute, and content, for either order of dates.

    Places within a metre fall into the same square of at least one of four lattices.
    """
    keys: dict[str, Any] = {"id_key": np.where(ids.isna(), NO_KEY, keys_of(ids.fillna("").astype(object)))}
    x, y = (accepted[axis].to_numpy() / (2 * NEAR_M) for axis in ("x", "y"))
    lattices = [(np.floor(x + i / 2), np.floor(y + j / 2)) for i in (0, 1) for j in (0, 1)]
    kinds = [accepted[name].fillna("").astype(object) for name in ("severity", *columns.by_names)]
    for order in ORDERS:
        moments = accepted[order].to_numpy()
        known = ~np.isnat(moments)
        minutes = moments.astype("datetime64[m]").astype(np.int64)
        seconds = moments.astype(np.int64)
        for name, lattice in zip(PLACE_KEYS, lattices, strict=True):
            keys[name + order] = np.where(known, keys_of(*lattice, minutes), NO_KEY)
        keys[f"content{order}"] = keys_of(accepted["x"].to_numpy(), accepted["y"].to_numpy(), seconds, *kinds)
    return keys


def _dates(frame: pd.DataFrame, columns: EventColumns, source: EventSource) -> ReadDates:
    if columns.date is not None:
        return read_dates(frame[columns.date], source.timezone, source.date_order)
    n = len(frame)
    never, no = np.full(n, _NEVER), np.zeros(n, dtype=bool)
    return ReadDates(never, never, ~no, no, no)


def _time_of_day(
    frame: pd.DataFrame, columns: EventColumns, with_clock: NDArray[np.bool_]
) -> tuple[NDArray[np.timedelta64], NDArray[np.bool_], NDArray[np.bool_]]:
    """(N,) what a time column adds to a bare date; whether the time is known; whether it is unreadable."""
    if columns.time is None:
        n = len(frame)
        return np.zeros(n, dtype="timedelta64[s]"), with_clock, np.zeros(n, dtype=bool)
    seconds = seconds_of_day(frame[columns.time], columns.hours)
    used = ~with_clock & ~np.isnan(seconds)
    unread = ~with_clock & np.isnan(seconds) & ~blank_rows(frame[columns.time])
    return np.where(used, seconds, 0).astype("timedelta64[s]"), with_clock | used, unread


def _example(frame: pd.DataFrame, column: str | None, mask: NDArray[np.bool_]) -> str:
    return str(frame[column].iloc[int(mask.argmax())]) if column is not None and mask.any() else ""


def _bounds(lng: FloatArray, lat: FloatArray) -> tuple[float, float, float, float]:
    if not len(lng):
        return math.inf, math.inf, -math.inf, -math.inf
    return float(lng.min()), float(lat.min()), float(lng.max()), float(lat.max())


def _span(times: NDArray[np.datetime64]) -> tuple[np.datetime64, np.datetime64]:
    known = times[~np.isnat(times)]
    return (known.min(), known.max()) if len(known) else (_NEVER, _NEVER)
