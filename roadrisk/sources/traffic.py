"""Volumes of traffic (AADT, vehicles a day) on lines or at points."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from roadrisk.errors import SourceError
from roadrisk.geometry.lines import ground_lengths, vertices
from roadrisk.geometry.near import box_around, near_grid
from roadrisk.grid import Grid
from roadrisk.source_settings import TrafficSource
from roadrisk.sources.account import Account
from roadrisk.sources.lines import LISTED_AGAIN
from roadrisk.sources.names import ROAD_CLASS, found_column, listed
from roadrisk.sources.parts import Part, account_of, met_of
from roadrisk.sources.places import Places, has_lines, line_places, point_places
from roadrisk.sources.positions import PositionEvidence, check_positions, lnglat_bounds, position_columns
from roadrisk.sources.rows import check_kept, checked_keep, left_out_rows, met_values
from roadrisk.sources.shapes import geometry_crs
from roadrisk.sources.streets import drawn
from roadrisk.sources.tables import Chunk, Table, as_text, tables_at
from roadrisk.sources.volumes import NO_COUNT, VolumeColumns, newest_volumes, volume_columns, volumes_of


@dataclass(frozen=True)
class Traffic:
    """Volumes that lie in a grid, and what became of the rows they came from.

    Parameters
    ----------
    name : prefix of their columns.
    table : a row a line or a point, in the grid's CRS: `source_row` (0 is the first row; the parts of a
        multi-line share it), `aadt` (vehicles a day of the newest year that counts), `aadt_year` (NaN where
        it is not known), `road_class` (text or null), `length_m` (ground metres of the whole line; NaN of
        a point), `aadt_<year>` for each of `years`, geometry.
    on_lines : whether the geometry is lines.
    years : that have a column each; empty unless the source asks for each year.
    before : volumes of this year and later do not count as known.
    understood : how the file was read, one line a thing, for people.
    """

    name: str
    table: geopandas.GeoDataFrame
    account: Account
    on_lines: bool
    years: tuple[int, ...]
    before: date | None
    understood: tuple[str, ...]

    @property
    def undated(self) -> bool:
        """Whether some volume is of no known year, so that nobody knows what dates the columns tell of."""
        return bool((self.table["aadt"].notna() & self.table["aadt_year"].isna()).any())


@dataclass(frozen=True)
class _Wanted:
    """Which rows are worth keeping."""

    source: TrafficSource
    on_lines: bool
    before: date | None

    @property
    def before_year(self) -> int | None:
        return None if self.before is None else self.before.year

    @property
    def imputed(self) -> bool:
        """Whether lines without a volume are to get one."""
        return self.on_lines and self.source.impute is not None

    @property
    def only_newest(self) -> bool:
        """Whether a row whose volumes all come too late is of no use."""
        return not (self.imputed or self.source.each_year)

    def is_volume(self, reason: NDArray[np.object_]) -> NDArray[np.bool_]:
        """(N,) whether a row with this reason to have no volume is kept."""
        return np.asarray((reason == "") | ((reason == NO_COUNT) & self.imputed))


@dataclass(frozen=True)
class _Reading:
    """How one table is read."""

    table: Table
    volume: VolumeColumns
    road_class: str | None
    attributes: tuple[str, ...]
    understood: tuple[str, ...]
    places: Callable[[Chunk], Places]


@dataclass(frozen=True)
class _Part(Part):
    """What one chunk comes to, and what its entries look like."""

    late: int
    evidence: PositionEvidence | None
    counted: int
    not_numbers: int
    not_positive: int
    too_large: int
    example: str


def read_traffic(source: TrafficSource, grid: Grid, before: date | None) -> Traffic:
    """The volumes of a source that lie in the grid: points inside it, lines that touch it.

    Of many years the newest before that of `before` stands. Rows are rejected for their place first, then
    for their volume. Of lines drawn alike, in either direction, the newest and then the largest volume
    stands, and of each year the largest, so that no order of rows decides.

    Parameters
    ----------
    before : when the label window starts; every year counts without it.

    Raises
    ------
    SourceError : no such file, columns that cannot be found, no volume that can be used, more rows
        rejected than `max_rejected`, or all outside the grid.
    """
    tables = tables_at(source, osm_layer="lines")
    on_lines = source.x is None and source.y is None and any(has_lines(table) for table in tables)
    readings = [_reading(table, source, grid, on_lines) for table in tables]
    parts = list(_parts(readings, _Wanted(source, on_lines, before)))
    if not sum(p.rows for p in parts):
        raise SourceError(f"{source.where} has columns but no rows; export it again")
    check_kept(source.keep, met_of(parts, source.keep), source.where)
    check_positions([p.evidence for p in parts if p.evidence is not None], source)
    _check_counted(source, parts, readings[0].volume)
    kept = pd.concat([p.kept for p in parts], ignore_index=True)
    once = _each_once(kept) if on_lines else kept
    account = account_of(source.name or "traffic", parts, {LISTED_AGAIN: len(kept) - len(once)})
    _check_rejected(source, account)
    _check_used(source, account, parts, grid)
    _check_known(source, once, before)
    return Traffic(
        name=account.source,
        table=_frame(once, grid, on_lines),
        account=account,
        on_lines=on_lines,
        years=tuple(sorted({y for r in readings for y in r.volume.years})) if source.each_year else (),
        before=before,
        understood=(*(said for r in readings for said in r.understood), *_said_of_rows(parts, once)),
    )


def _reading(table: Table, source: TrafficSource, grid: Grid, on_lines: bool) -> _Reading:
    checked_keep(table, source.keep)
    volume = volume_columns(table, source)
    file = f"{table.path.name}: {table.understood}"
    if not on_lines:
        position = position_columns(table, source)
        said = (file, position.understood, volume.understood)
        return _Reading(
            table, volume, None, position.attributes, said, lambda chunk: point_places(chunk, position, grid)
        )
    near = near_grid(geometry_crs(table, "lines"), grid)
    road_class = found_column(table.columns, ROAD_CLASS)
    attributes = () if road_class is None else (road_class,)
    said = (file, "volumes on lines", volume.understood)
    return _Reading(table, volume, road_class, attributes, said, lambda chunk: line_places(chunk, near))


def _parts(readings: Sequence[_Reading], wanted: _Wanted) -> Iterator[_Part]:
    first_row = 0
    for reading in readings:
        met: dict[str, set[str]] = {}
        for chunk in reading.table.read([*reading.volume.columns, *wanted.source.keep, *reading.attributes]):
            met = met_values(chunk[0], wanted.source.keep, met)
            yield _part(chunk, reading, wanted, first_row, met)
            first_row += len(chunk[0])


def _part(
    chunk: Chunk, reading: _Reading, wanted: _Wanted, first_row: int, met: dict[str, set[str]]
) -> _Part:
    frame = chunk[0]
    left_out = left_out_rows(frame, wanted.source.keep)
    asked = left_out == ""
    places, found = reading.places(chunk), volumes_of(frame, reading.volume)
    reason = np.where(asked, places.reason, "")
    uncounted = asked & (reason == "") & ~wanted.is_volume(found.reason)
    # an inventory of lines lists those nobody counted too; a point is there for its count
    blank = uncounted & (found.reason == NO_COUNT) & wanted.on_lines
    left_out[blank] = NO_COUNT
    asked &= ~blank
    reason[uncounted & ~blank] = found.reason[uncounted & ~blank]
    sound = asked & (reason == "")
    inside = sound & ~pd.isna(places.geometry)
    outside = int(sound.sum() - inside.sum())
    aadt, year = newest_volumes(found.aadt, reading.volume.years, wanted.before_year)
    late = inside & np.isnan(aadt) & wanted.only_newest
    left_out[late] = f"no count before {wanted.before_year}"
    inside &= ~late
    kept = {
        "source_row": first_row + np.flatnonzero(inside),
        "aadt": aadt[inside],
        "aadt_year": year[inside],
        "road_class": _classes(frame, reading.road_class)[inside],
        "geometry": places.geometry[inside],
    }
    if wanted.source.each_year:
        kept |= {f"aadt_{y}": found.aadt[inside, i] for i, y in enumerate(reading.volume.years)}
    return _Part(
        rows=len(frame),
        kept=pd.DataFrame(kept),
        rejected=Counter(reason[reason != ""].tolist()),
        left_out=Counter(left_out[left_out != ""].tolist()),
        outside=outside,
        bounds=places.bounds,
        met=met,
        late=int(late.sum()),
        evidence=places.evidence,
        counted=int((found.reason == "").sum()),
        not_numbers=found.not_numbers,
        not_positive=found.not_positive,
        too_large=found.too_large,
        example=found.example,
    )


def _classes(frame: pd.DataFrame, column: str | None) -> NDArray[np.object_]:
    return np.full(len(frame), None, dtype=object) if column is None else as_text(frame[column])


def _each_once(kept: pd.DataFrame) -> pd.DataFrame:
    """Of lines drawn alike the row with the newest, then the largest volume, and of each year the largest."""
    years = [c for c in kept.columns if c[-4:].isdigit()]
    ranks = ["aadt_year", "aadt", *years, "road_class"]
    ranked = kept.assign(drawn=drawn(kept["geometry"].to_numpy())).sort_values(ranks, ascending=False)
    if years:
        ranked[years] = ranked.groupby("drawn")[years].transform("max")
    return ranked.drop_duplicates("drawn").drop(columns="drawn").sort_index()


def _frame(once: pd.DataFrame, grid: Grid, on_lines: bool) -> geopandas.GeoDataFrame:
    """The rows that stand, multi-lines in their parts, with ground lengths."""
    shapes, row = shapely.get_parts(once["geometry"].to_numpy(), return_index=True)
    table = once.drop(columns="geometry").iloc[row].reset_index(drop=True)
    table["length_m"] = np.nan
    if on_lines:
        table["length_m"] = ground_lengths(grid.crs, *vertices(shapes))
    frame = geopandas.GeoDataFrame(table.astype({"road_class": "string"}), geometry=shapes, crs=grid.crs)
    return frame[frame["length_m"] > 0].reset_index(drop=True) if on_lines else frame


def _check_counted(source: TrafficSource, parts: Sequence[_Part], volume: VolumeColumns) -> None:
    """Refuse columns in which no row has a volume: they are the wrong ones."""
    if any(p.counted for p in parts):
        return
    example = next((p.example for p in parts if p.example), None)
    said = "every entry is blank, zero or less" if example is None else f"such as {example[:60]!r}"
    raise SourceError(
        f"{source.where}: none of its {sum(p.rows for p in parts):,} rows has a volume in "
        f"{listed(volume.columns)}, {said}; name the column of volumes with `aadt` in the region file"
    )


def _check_rejected(source: TrafficSource, account: Account) -> None:
    share = account.rejected_rows / account.read
    if share <= source.max_rejected:
        return
    allowed = min(1.0, math.ceil(share * 100) / 100)
    raise SourceError(
        f"{source.where}: {account.rejected_rows:,} of {account.read:,} rows ({100 * share:.1f} %) cannot be "
        f"used, more than the {100 * source.max_rejected:g} % allowed: {account.reasons}; mend them, or "
        f"allow it with max_rejected = {allowed:g} for this source in the region file"
    )


def _check_used(source: TrafficSource, account: Account, parts: Sequence[_Part], grid: Grid) -> None:
    """Refuse a source of which no row is in the grid, unless all of them tell of years too late."""
    if account.used or any(p.late for p in parts):
        return
    if not account.outside:
        raise SourceError(f"{source.where}: no row can be used ({account}); check `keep` in the region file")
    there = box_around(np.array([p.bounds for p in parts]))
    raise SourceError(
        f"{source.where}: all {account.outside:,} counts lie outside the grid: they are in "
        f"{_degrees(there)}, the grid in {_degrees(lnglat_bounds(grid))} (W S E N); "
        "check --bbox and the CRS of the counts"
    )


def _check_known(source: TrafficSource, once: pd.DataFrame, before: date | None) -> None:
    """Refuse a source all of whose volumes are too late to be known when the label window starts."""
    if before is None or source.each_year or once["aadt"].notna().any():
        return
    raise SourceError(
        f"{source.where}: no count in the grid is of a year before {before.year}, when the label window "
        "starts, so none may be a feature; give older counts or a later label window"
    )


def _degrees(bounds: Sequence[float]) -> str:
    return " ".join(f"{v:.2f}" for v in bounds)


def _said_of_rows(parts: Sequence[_Part], once: pd.DataFrame) -> Iterator[str]:
    bad = [sum(getattr(p, what) for p in parts) for what in ("not_positive", "not_numbers", "too_large")]
    if any(bad):
        above = f", {bad[2]:,} above 1,000,000 a day" if bad[2] else ""
        yield f"counts taken for missing: {bad[0]:,} of zero or less, {bad[1]:,} not numbers{above}"
    year = once["aadt_year"].dropna()
    if len(year):
        yield (
            f"the newest volumes are of {year.min():.0f} to {year.max():.0f}, half of them of "
            f"{year.median():.0f} or later"
        )
