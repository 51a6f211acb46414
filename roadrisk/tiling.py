"""`tile`: a region and its sources become a dataset."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk import __version__
from roadrisk.columns import Column
from roadrisk.cutting import Estimate, cut_view, estimate
from roadrisk.dataset import (
    Dataset,
    View,
    forgotten_after_error,
    read_dataset,
    write_manifest,
    write_table,
    write_tiles,
    writing,
)
from roadrisk.errors import RegionError
from roadrisk.features.events import Window, check_label_window, chosen_windows, event_columns
from roadrisk.features.labels import Threshold, class_label, eligible_tiles, top_fifth_threshold
from roadrisk.features.roads import road_columns, share_far_from_lines, tiles_without
from roadrisk.files import digest_of, identity_of
from roadrisk.grid import FloatArray, Grid, LngLatBbox, Part, tiles_in
from roadrisk.mosaic import part_path, parts_path
from roadrisk.overview import overview_path, vrt_files
from roadrisk.progress import Progress, silent
from roadrisk.region import Region
from roadrisk.source_settings import EventSource, ImagerySource, LineSource
from roadrisk.sources.account import Account
from roadrisk.sources.events import Events, read_events
from roadrisk.sources.imagery import Sheets, found_sheets
from roadrisk.sources.lines import Lines, joined_lines, read_lines

VIEW = "aerial"
FAR_M = 50.0
Facts = list[tuple[Column, NDArray[Any]]]


@dataclass(frozen=True)
class TilePlan:
    """What `tile` would do: `--dry-run`."""

    grid: Grid
    bbox: LngLatBbox
    estimate: Estimate | None

    def lines(self) -> list[str]:
        """For people."""
        said = [grid_line(self.grid, self.bbox)]
        if self.estimate is None:
            return [*said, "no imagery given: nothing to cut"]
        e = self.estimate
        return [
            *said,
            f"{e.parts:,} parts, {e.parts_with_picture:,} with picture; about {e.bytes / 1e6:,.0f} MB "
            f"and {e.minutes:.1f} minutes; nothing was written",
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"grid": self.grid.as_json(), "estimate": asdict(self.estimate) if self.estimate else None}


@dataclass(frozen=True)
class Tiled:
    """What `tile` did."""

    dataset: Dataset

    def lines(self, verbose: bool = False) -> list[str]:
        """For people: the grid, the account of every source, the label."""
        manifest = self.dataset.manifest
        said = list(manifest["summary"])
        if verbose:
            said += [f"{s['name']}: {line}" for s in manifest["sources"] for line in s["understood"]]
        return said

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"dataset": str(self.dataset.path), **self.dataset.manifest}


def tile_plan(region: Region, workers: int | None = None) -> TilePlan:
    """What tiling `region` would take, from cutting one part for real into a temporary folder.

    Raises
    ------
    RoadriskError : as `tile`, for whatever is wrong with the sources.
    """
    records = read_records(region)
    _label_facts(region, _record_facts(records), records.grid)
    sheets, grid = records.sheets, records.grid
    known = estimate(sheets, grid, region.tile_size, _workers(workers)) if sheets else None
    return TilePlan(grid, LngLatBbox(*region.bbox or ()), known)


def tile(
    region: Region,
    out: Path,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> Tiled:
    """Cut `region` into tiles, join each to its picture, roads and crashes, and write the dataset.

    Every source is opened and checked before the first byte is written. The same call after an
    interruption goes on where it stopped.

    Parameters
    ----------
    out : folder of the dataset.
    workers : processes that cut pictures; else one a core.

    Raises
    ------
    RoadriskError : one line that says what is wrong, where, and what to do.
    """
    region = replace(region, name=region.name or out.name)
    records = read_records(region)
    if not (region.imagery or region.roads or region.crashes):
        raise RegionError("nothing to join to the tiles; give --imagery, --roads or --crashes")
    known = _record_facts(records)
    _label_facts(region, known, records.grid)
    plan = plan_of(region, records)
    with writing(out, plan, overwrite):
        files: list[str] = []
        views: list[View] = []
        facts: Facts = []
        if records.sheets:
            parts, coverage = cut_view(
                out,
                VIEW,
                records.sheets,
                records.grid,
                region.tile_size,
                plan["hash"],
                _workers(workers),
                progress,
            )
            files += _view_files(parts, records.grid, region.tile_size)
            views.append(_view(region, parts))
            facts += _picture_facts(coverage, region)
        facts += known
        with forgotten_after_error(out):
            threshold, labelled = _label_facts(region, facts, records.grid)
        facts += labelled
        files += _write_records(out, records)
        write_tiles(out, _frame(records.grid, facts), records.grid)
        manifest = {
            "name": region.name,
            "plan": plan,
            "grid": records.grid.as_json(),
            "views": [asdict(view) for view in views],
            "columns": [column.as_json() for column, _ in facts],
            "windows": records.windows_as_json(),
            "label": _cut(threshold, labelled),
            "sources": _sources_as_json(records),
            "rights": [asdict(rights) for rights in records.rights],
            "summary": _summary(region, records, facts, threshold),
            "files": sorted([*files, "tiles.parquet"]),
            "versions": _versions(),
        }
        write_manifest(out, manifest)
    return Tiled(read_dataset(out))


@dataclass(frozen=True)
class Rights:
    """Whose a source is and on what terms it may be used; None where the user did not say."""

    source: str
    licence: str | None
    attribution: str | None


@dataclass(frozen=True)
class Records:
    """A region's sources, opened, checked and read.

    Parameters
    ----------
    lines : centre-lines by source.
    roads : those of all sources, each street once.
    """

    grid: Grid
    sheets: Sheets | None
    lines: tuple[Lines, ...]
    roads: Lines | None
    events: tuple[Events, ...]
    label_window: Window | None
    feature_window: Window | None
    sources: tuple[LineSource | EventSource, ...]
    rights: tuple[Rights, ...]

    @property
    def tables(self) -> list[Lines | Events]:
        """Every source that has rows."""
        return [*self.lines, *self.events]

    def windows_as_json(self) -> dict[str, list[str]]:
        """The windows that are known, as ISO dates."""
        windows = {"label": self.label_window, "feature": self.feature_window}
        return {name: [day.isoformat() for day in w] for name, w in windows.items() if w is not None}


def read_records(region: Region) -> Records:
    """Open, check and read every source of a region; nothing is written.

    Raises
    ------
    RoadriskError : a source that cannot be used, or nothing to join.
    """
    grid = region.grid()
    region.checked_names()
    sheets = found_sheets([source.path for source in region.imagery], grid) if region.imagery else None
    sources = region.event_sources()
    events = tuple(read_events(source, grid) for source in sources)
    label, feature = region.label_window, region.feature_window
    if events:
        first, last = min(e.first for e in events), max(e.last for e in events)
        label, feature = chosen_windows(label, feature, first, last)
    lines = tuple(read_lines(source, grid) for source in region.line_sources())
    roads, lines = joined_lines(lines) if lines else (None, ())
    tables: list[LineSource | EventSource] = [*region.line_sources(), *sources]
    every: list[ImagerySource | LineSource | EventSource] = [*region.imagery, *tables]
    return Records(
        grid=grid,
        sheets=sheets,
        lines=lines,
        roads=roads,
        events=events,
        label_window=label,
        feature_window=feature,
        rights=tuple(Rights(Path(s.path).name, s.licence, s.attribution) for s in every),
        sources=tuple(tables),
    )


def plan_of(region: Region, records: Records) -> dict[str, Any]:
    """What decides a dataset's bytes: grid, settings and the identity of each source, with their digest."""
    plan = {
        "grid": records.grid.as_json(),
        "views": [VIEW] if records.sheets else [],
        "settings": {
            "name": region.name,
            "tile_size": region.tile_size,
            "min_coverage": region.min_coverage,
            "drop_uncovered": region.drop_uncovered,
            "label": asdict(region.label),
            "windows": records.windows_as_json(),
        },
        "sources": {
            VIEW: records.sheets.identities() if records.sheets else [],
            **_source_plans(records),
        },
    }
    return {**plan, "hash": digest_of(plan)}


def _source_plans(records: Records) -> dict[str, Any]:
    """Each source with its identity and how it is read, which decides what is read."""
    return {
        str(source.name): {**asdict(source), "identity": identity_of(Path(source.path), hashed=True)}
        for source in records.sources
    }


def grid_line(grid: Grid, bbox: LngLatBbox) -> str:
    """A grid in one line: its tiles, their size, and how many lie in the box."""
    return (
        f"{grid.rows:,} x {grid.cols:,} = {grid.size:,} tiles of {grid.cell_m:,.4g} m ({grid.crs}); "
        f"{tiles_in(grid, bbox):,} have their centre in the box"
    )


def _workers(asked: int | None) -> int:
    return asked or len(os.sched_getaffinity(0))


def _view(region: Region, parts: pd.DataFrame) -> View:
    written = parts[parts["state"] == "written"]
    digest = digest_of(written[["row", "col", "sha256"]].to_numpy().tolist())
    return View(VIEW, region.tile_size, region.min_coverage, digest)


def _view_files(parts: pd.DataFrame, grid: Grid, tile_size: int) -> list[str]:
    """Names, in the dataset, of everything a view consists of."""
    places = parts.loc[parts["state"] == "written", list(Part._fields)].to_numpy().tolist()
    written = [Part(*place) for place in places]
    return [
        *(part_path(VIEW, part) for part in written),
        *vrt_files(VIEW, written, grid, tile_size),
        overview_path(VIEW),
        parts_path(VIEW),
    ]


def _picture_facts(coverage: FloatArray, region: Region) -> Facts:
    share = coverage.ravel()
    meaning = f"Share of the tile that the {VIEW} picture covers."
    facts: Facts = [(Column(f"coverage_{VIEW}", "float64", "share", "info", "mean", meaning, VIEW), share)]
    if region.drop_uncovered:
        meaning = (
            f"Less than {region.min_coverage:g} of the tile has a picture: neither trained on nor scored."
        )
        facts.append(
            (Column("dropped", "bool", "", "info", "none", meaning, VIEW), share < region.min_coverage)
        )
    return facts


def _record_facts(records: Records) -> Facts:
    facts: Facts = []
    if records.roads:
        facts += road_columns(records.roads, records.grid)
    if records.label_window and records.events:
        check_label_window(records.events, records.label_window)
        for events in records.events:
            facts += event_columns(events, records.grid, records.label_window, records.feature_window)
    return facts


def _label_facts(region: Region, facts: Facts, grid: Grid) -> tuple[Threshold | None, Facts]:
    """Which tiles a model is judged on, and which of them are high risk."""
    values = {column.name: array for column, array in facts}
    roads = [array for column, array in facts if column.name == "road_m"]
    eligible = eligible_tiles(roads, grid.size) & ~values.get("dropped", np.zeros(grid.size, bool))
    meaning = "Whether a model is trained and judged on the tile: it has road and has not been dropped."
    made: Facts = [(Column("eligible", "bool", "", "info", "none", meaning), eligible)]
    measures = [column.name for column, _ in facts if column.role == "label"]
    name = region.label.column or (measures[0] if len(measures) == 1 else None)
    if name is None:
        return None, made
    if name not in values:
        raise RegionError(f"[label] column {name!r} is not there; columns: {', '.join(values)}")
    threshold = top_fifth_threshold(values[name], eligible, region.label.share)
    label = class_label(values[name], eligible, threshold)
    window = next(column.window for column, _ in facts if column.name == name)
    meaning = f"High risk: {name} is at least {threshold.t:g}. Missing where the tile is not eligible."
    made.append((Column("label", "boolean", "", "label", "none", meaning, name, window), label.to_numpy()))
    return threshold, made


def _cut(threshold: Threshold | None, labelled: Facts) -> dict[str, Any] | None:
    """How the label was cut, for models that take it to other windows and metros."""
    if threshold is None:
        return None
    return {"measure": labelled[-1][0].source, **threshold.as_json()}


def _frame(grid: Grid, facts: Facts) -> pd.DataFrame:
    rows, cols = grid.every_tile()
    frame = {"tile_id": grid.tile_ids(rows, cols), "row": rows, "col": cols}
    values = {**frame, **{column.name: value for column, value in facts}}
    return pd.DataFrame(values).astype({column.name: column.dtype for column, _ in facts})


def _write_records(out: Path, records: Records) -> list[str]:
    """Keep events, lines and rejected rows in the dataset; the names of the files."""
    tables = {f"events/{e.name}.parquet": e.table for e in records.events}
    tables |= {f"rejected/{e.name}.parquet": e.rejected for e in records.events if len(e.rejected)}
    if records.roads:
        tables["lines/roads.parquet"] = records.roads.table
    for name, table in tables.items():
        write_table(out / name, table)
    return list(tables)


def _sources_as_json(records: Records) -> list[dict[str, Any]]:
    known: list[dict[str, Any]] = [
        {"name": r.name, "account": r.account.as_json(), "understood": list(r.understood)}
        for r in records.tables
    ]
    if records.sheets:
        known.insert(
            0,
            {
                "name": VIEW,
                "account": _sheet_account(records.sheets).as_json(),
                "understood": list(records.sheets.understood),
            },
        )
    return known


def _sheet_account(sheets: Sheets) -> Account:
    return Account(VIEW, len(sheets) + sheets.outside, len(sheets), {}, sheets.outside)


def _summary(region: Region, records: Records, facts: Facts, threshold: Threshold | None) -> list[str]:
    """What `tile` says when it is done, kept in the dataset."""
    values = {column.name: array for column, array in facts}
    said = [f"{region.name}: {grid_line(records.grid, LngLatBbox(*region.bbox or ()))}"]
    if records.sheets:
        covered = int((values[f"coverage_{VIEW}"] >= region.min_coverage).sum())
        dropped = "; the others are dropped" if region.drop_uncovered else ""
        said.append(
            f"{VIEW}: {len(records.sheets):,} sheets used, {records.sheets.outside:,} outside the grid; "
            f"{covered:,} tiles have at least {region.min_coverage:.0%} of a picture{dropped}"
        )
    said += [str(table.account) for table in records.tables]
    said += [_window_line(events, records, values) for events in records.events]
    if records.roads:
        said.append(
            f"roads: {tiles_without(values['road_m']):.0%} of tiles have none; no coverage is declared, so "
            "these count as having no road, and get no label"
        )
        said += [_far_from_roads(events, records.roads, records.grid) for events in records.events]
    said.append(f"{int(values['eligible'].sum()):,} tiles are eligible")
    measures = [column.name for column, _ in facts if column.role == "label" and column.name != "label"]
    unsaid = (
        f"no label; say what is learned: train --label {' or '.join(measures)}" if measures else "no label"
    )
    return [*said, str(threshold) if threshold else unsaid]


def _far_from_roads(events: Events, roads: Lines, grid: Grid) -> str:
    x, y = events.table["x"].to_numpy(), events.table["y"].to_numpy()
    share = share_far_from_lines(x, y, roads, grid, FAR_M)
    return f"{events.name}: {share:.0%} lie more than {FAR_M:g} m from any road"


def _window_line(events: Events, records: Records, values: dict[str, Any]) -> str:
    """How many events fall into each window, and which windows these are."""
    said = [
        f"{_sum(values, f'{events.name}_{column}'):,} in the {name} window {window[0]} to before {window[1]}"
        for name, column, window in (
            ("label", "label", records.label_window),
            ("feature", "past", records.feature_window),
        )
        if window is not None
    ]
    return f"{events.name}: {', '.join(said)}"


def _sum(values: dict[str, Any], name: str) -> int:
    return int(values[name].sum()) if name in values else 0


def _versions() -> dict[str, str]:
    import pyproj
    import rasterio

    return {"roadrisk": __version__, "gdal": rasterio.__gdal_version__, "proj": pyproj.proj_version_str}
