"""Points in time with severity, as tables of any usual format have them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import word
from roadrisk.errors import SourceError
from roadrisk.grid import Grid
from roadrisk.source_settings import EventSource
from roadrisk.sources import positions
from roadrisk.sources.account import Account
from roadrisk.sources.dates import are_hours, is_month_first
from roadrisk.sources.event_rows import (
    FIELDS,
    PLACE_KEYS,
    EventColumns,
    Part,
    event_columns_of,
    finished_rows,
    parts_of,
)
from roadrisk.sources.positions import check_positions, lnglat_bounds
from roadrisk.sources.rows import check_kept, checked_keep
from roadrisk.sources.severity import severity_weights
from roadrisk.sources.stored import Stored, Writer, also_in, repeats
from roadrisk.sources.tables import Table, tables_at

OUTSIDE_COVERAGE = "outside the coverage"
MOST_KINDS = 20

_NEARLY_ALL = 0.99
_CLEARLY_HERE = 10  # events; a state's file may well have less than 1 % of its rows in one town
_FLAGS = frozenset({"1", "true", "yes", "y", "t", "x"})
_NO_FLAGS = frozenset({"", "0", "false", "no", "n", "f"})


@dataclass(frozen=True, eq=False)
class Events:
    """Points that lie in a grid, and what became of the rows they came from.

    Parameters
    ----------
    name : prefix of their columns.
    stores : the events, one for each file, on disk.
    rejected : `source_file`, `source_row`, `reason`, `x`, `y` as the source wrote them.
    understood : how the files were read, one line a thing, for people.
    first, last : dates of the whole source, rows outside the grid included; None without dates.
    period : dates [from, to) that events without dates tell of, where the user said so.
    severities : of all events, "" for none.
    weights : severity -> weight, where they have weights.
    ids_named : whether the user named the column of ids.
    kinds : column -> the words of its values, each counted in a column of its own; "" for yes and no.
    """

    name: str
    stores: tuple[Stored, ...]
    rejected: pd.DataFrame
    account: Account
    understood: tuple[str, ...]
    first: date | None
    last: date | None
    period: tuple[date, date] | None
    severities: Counter[str]
    weights: dict[str, float] | None
    ids_named: bool
    kinds: dict[str, tuple[str, ...]]

    def batches(self) -> Iterator[pd.DataFrame]:
        """The events a batch at a time: `x`, `y` in the grid's CRS, `row`, `col`, `time` (local, seconds,
        NaT without), `severity` (text or null), `weight`, `by_<column>` of `kinds` (text or null),
        `source_file`, `source_row` (0 is the first row of data).
        """
        for store in self.stores:
            for batch in store.batches():
                weight = 1.0 if self.weights is None else batch["severity"].fillna("").map(self.weights)
                yield batch.assign(weight=weight)

    @property
    def table(self) -> pd.DataFrame:
        """All events in memory."""
        batches = list(self.batches())
        return pd.concat(batches, ignore_index=True) if batches else pd.DataFrame(columns=list(FIELDS))


@dataclass(frozen=True)
class _File:
    """What one file comes to."""

    table: Table
    columns: EventColumns
    stored: Stored
    parts: list[Part]
    order: str


def read_events(source: EventSource, grid: Grid, folder: Path) -> Events:
    """The events of a source that lie in the grid.

    Rows are rejected for their position first, then for their date; sound rows are left out when `keep`
    does not ask for them, and those outside the grid are counted. Memory does not grow with the rows.

    Parameters
    ----------
    folder : scratch space, to stand as long as the events are used.

    Raises
    ------
    SourceError : no such file, columns that cannot be found, dates that cannot be read or contradict each
        other, more rows rejected than `max_rejected`, nearly all outside the grid, or severities without
        weight.
    """
    files = [
        _read_file(table, source, grid, folder, i)
        for i, table in enumerate(tables_at(source, osm_layer="points"))
    ]
    parts = [part for file in files for part in file.parts]
    if not sum(p.rows for p in parts):
        raise SourceError(f"{source.where} has columns but no rows; export it again")
    met = {column: set().union(*(p.met[column] for p in parts)) for column in source.keep}
    check_kept(source.keep, met, source.where)
    check_positions([p.position for p in parts], source)
    account = _account(source, parts)
    _check_rejected(source, account, files)
    _check_outside(source, account, parts, grid)
    moments = np.array([span for f in files for span in f.columns.spans(f.parts)], dtype="datetime64[D]")
    dated = not np.isnat(moments).all()
    events = Events(
        name=account.source,
        stores=tuple(f.stored for f in files),
        rejected=pd.concat([p.rejected for p in parts], ignore_index=True),
        account=account,
        understood=_understood(files, source),
        first=np.nanmin(moments).astype(date) if dated else None,
        last=np.nanmax(moments).astype(date) if dated else None,
        period=source.period,
        severities=sum((p.severities for p in parts), Counter[str]()),
        weights=None,
        ids_named=source.id is not None,
        kinds=_kinds(source, parts),
    )
    return _without_repeats(events, source)


def without_others(events: Events, others: Sequence[Events]) -> Events:
    """Events less those that other sources have: the same id where both name theirs, else place and time.

    Numbers that merely look like ids may count from one in every file, so found ones decide nothing.
    """
    for other in others:
        by = "id" if events.ids_named and other.ids_named else "place and time"
        gone = also_in(events.stores, other.stores, _KEYS[by])
        events = _left_out(events, gone, f"in {other.name} already, by {by}")
    return events


def weighted(events: Events, source: EventSource, before: date | None) -> Events:
    """Events with the weights that a source asks for.

    Parameters
    ----------
    before : a preset that depends on how often severities occur sees events of earlier days only.

    Raises
    ------
    SourceError : severities without weight.
    """
    if source.weights is None:
        return events
    earlier = Counter[str]()
    for batch in events.batches():
        seen = batch if before is None else batch[batch["time"] < np.datetime64(before, "s")]
        earlier.update(seen["severity"].fillna("").tolist())
    weights = severity_weights(source, events.severities, earlier)
    shown = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    line = "weights " + ", ".join(f"{text or 'blank'} {weight:.4g}" for text, weight in shown)
    return replace(events, weights=weights, understood=(*events.understood, line))


def inside_coverage(events: Events, covered: NDArray[np.bool_]) -> Events:
    """Events in tiles that the source covers.

    Parameters
    ----------
    covered : (rows, cols) bool.
    """
    gone = []
    for store in events.stores:
        mask = np.zeros(len(store.kept), dtype=bool)
        for batch in store.batches():
            outside = ~covered[batch["row"], batch["col"]]
            mask[batch.index[outside]] = True
        gone.append(mask)
    return _left_out(events, gone, OUTSIDE_COVERAGE)


_KEYS = {"id": ("id_key",), "place and time": PLACE_KEYS}


def _read_file(table: Table, source: EventSource, grid: Grid, folder: Path, number: int) -> _File:
    where = str(table.path)
    columns = event_columns_of(table, source)
    checked_keep(table, source.keep)
    path = folder / f"{source.name}-{number}.parquet"
    parts, rows = _stored(table, columns, source, grid, path)
    if are_hours([p.bare_times for p in parts]):
        columns = replace(columns, hours=True)
        parts, rows = _stored(table, columns, source, grid, path)
    _check_dates(where, columns, parts)
    month_first, order = True, ""
    if columns.date is not None:
        month_first, order = is_month_first([p.evidence for p in parts], where, source.date_order)
    columns = replace(columns, month_first=month_first)
    finished = finished_rows(columns, table.name)
    stored = Stored(path, np.ones(rows, dtype=bool), finished, columns.order)
    return _File(table, columns, stored, parts, order)


def _stored(
    table: Table, columns: EventColumns, source: EventSource, grid: Grid, path: Path
) -> tuple[list[Part], int]:
    """Accepted rows on disk: the account of every chunk, and how many rows there are."""
    writer = Writer(path)
    parts = []
    for part, accepted in parts_of(table, columns, source, grid):
        parts.append(part)
        if len(accepted):
            writer.add(accepted)
    writer.close()
    return parts, writer.rows


def _has_ids(events: Events) -> bool:
    return any(True for store in events.stores for keys in store.keys("id_key") if len(keys[0]))


def _without_repeats(events: Events, source: EventSource) -> Events:
    """Repeated rows said, and left out where asked."""
    if source.drop_duplicates == "id" and not _has_ids(events):
        raise SourceError(f"{source.where}: drop_duplicates = 'id' needs a column of ids; name it with `id`")
    for said, keys in _KEYS.items():
        gone = repeats(events.stores, keys)
        number = sum(int(mask.sum()) for mask in gone)
        if source.drop_duplicates == said:
            events = _left_out(events, gone, f"repeats another by {said}")
        elif number:
            line = (
                f"{number:,} repeat another by {said} and count; drop_duplicates = {said!r} leaves them out"
            )
            events = replace(events, understood=(*events.understood, line))
    return events


def _left_out(events: Events, gone: Sequence[NDArray[np.bool_]], reason: str) -> Events:
    stores = tuple(store.without(mask) for store, mask in zip(events.stores, gone, strict=True))
    used = sum(int(store.kept.sum()) for store in stores)
    left_out = Counter(events.account.left_out)
    left_out[reason] += events.account.used - used
    account = replace(events.account, used=used, left_out=dict(left_out))
    return replace(events, stores=stores, account=account)


def _account(source: EventSource, parts: Sequence[Part]) -> Account:
    rejected, left_out = Counter[str](), Counter[str]()
    for part in parts:
        rejected.update(Counter(part.rejected["reason"].tolist()))
        left_out.update(part.left_out)
    return Account(
        source=source.name or "crashes",
        read=sum(p.rows for p in parts),
        used=sum(p.accepted for p in parts),
        rejected=dict(rejected),
        outside=sum(p.outside for p in parts),
        left_out=dict(left_out),
    )


def _kinds(source: EventSource, parts: Sequence[Part]) -> dict[str, tuple[str, ...]]:
    """The words of the values of each column of `by`, or "" where they say yes and no."""
    kinds: dict[str, tuple[str, ...]] = {}
    for column in source.by:
        values = {value for part in parts for value in part.kinds[column]}
        if {value.lower() for value in values} <= _FLAGS | _NO_FLAGS:
            kinds[column] = ("",)
            continue
        words = sorted({_kind(value) for value in values if value})
        if len(words) > MOST_KINDS:
            raise SourceError(
                f"{source.where}: {column!r} has {len(words):,} values, more than the {MOST_KINDS} that can "
                "be columns of their own; name a column of fewer kinds with `by`"
            )
        kinds[column] = tuple(words)
    return kinds


def is_kind(values: pd.Series, kind: str) -> NDArray[np.bool_]:
    """(N,) whether a column of `Events.kinds` has that word; of yes and no, whether it says yes."""
    codes, unique = pd.factorize(values.fillna("").to_numpy(dtype=object))
    said = [value.lower() in _FLAGS if not kind else bool(value) and _kind(value) == kind for value in unique]
    return np.asarray(np.array(said, dtype=bool)[codes])


def _kind(value: str) -> str:
    return word(value) or "other"


def _check_dates(where: str, columns: EventColumns, parts: Sequence[Part]) -> None:
    """Refuse a column most of whose entries are no dates: it is the wrong column or an unknown format."""
    read, dated = sum(p.rows for p in parts), sum(p.dated for p in parts)
    if columns.date is None or dated * 2 > read or not read:
        return
    example = next((p.unreadable_example for p in parts if p.unreadable_example), None)
    if example is None and dated:
        return
    said = f"such as {example[:60]!r}" if example is not None else "all of it is blank"
    raise SourceError(
        f"{where}: {read - dated:,} of {read:,} dates in {columns.date!r} cannot be read, {said}; "
        "write them as 2024-12-31 or 12/31/2024, or name another column with `date` in the region file"
    )


def _check_rejected(source: EventSource, account: Account, files: Sequence[_File]) -> None:
    """Refuse a source of whose rows that are asked for too many cannot be used."""
    asked = sum(p.asked for f in files for p in f.parts)
    rejected = Counter[str]()
    for file in files:
        for part in file.parts:
            rejected.update(part.rejected_asked)
    share = sum(rejected.values()) / asked if asked else 0.0
    if share <= source.max_rejected:
        return
    commonest = max(rejected, key=lambda reason: rejected[reason])
    if commonest == positions.SWAPPED:
        x, y = files[0].columns.position.attributes or ("x", "y")
        fix = f"latitude and longitude look swapped: give x = {y!r} and y = {x!r} in the region file"
    elif commonest == positions.OUTSIDE_THE_WORLD:
        fix = "name the CRS of the coordinates with `crs` in the region file, as in crs = 'EPSG:26986'"
    else:
        allowed = min(1.0, math.ceil(share * 100) / 100)
        fix = f"mend them, or allow it with max_rejected = {allowed:g} for this source in the region file"
    raise SourceError(
        f"{source.where}: {sum(rejected.values()):,} of {asked:,} rows ({100 * share:.1f} %) cannot be "
        f"used, more than the {100 * source.max_rejected:g} % allowed: {account.reasons}; {fix}"
    )


def _check_outside(source: EventSource, account: Account, parts: Sequence[Part], grid: Grid) -> None:
    sound = account.used + account.outside
    if not account.outside or account.outside < _NEARLY_ALL * sound or account.used >= _CLEARLY_HERE:
        return
    bounds = np.array([p.outside_bounds for p in parts])
    there = (*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0))
    raise SourceError(
        f"{source.where}: {account.outside:,} of {sound:,} points lie outside the grid: they are in "
        f"{_degrees(there)}, the grid in {_degrees(lnglat_bounds(grid))} (W S E N); "
        "check --bbox and the CRS of the points"
    )


def _degrees(bounds: Sequence[float]) -> str:
    return " ".join(f"{v:.2f}" for v in bounds)


def _understood(files: Sequence[_File], source: EventSource) -> tuple[str, ...]:
    lines = []
    for file in files:
        lines.append(f"{file.table.name}: {file.table.understood}")
        lines += [line for line in file.columns.said(file.parts, file.order) if line not in lines]
    if source.period is not None:
        lines.append(f"no dates; it tells of {source.period[0]} to before {source.period[1]}, as declared")
    return tuple(lines)
