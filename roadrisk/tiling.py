"""`tile`: a region and its sources become a dataset."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from roadrisk import __version__
from roadrisk.columns import Column
from roadrisk.cutting import Estimate, cut_view, estimate
from roadrisk.dataset import (
    Dataset,
    TileValues,
    View,
    forgotten_after_error,
    read_dataset,
    write_batches,
    write_manifest,
    write_table,
    write_tiles,
    writing,
)
from roadrisk.errors import RegionError
from roadrisk.files import digest_of, identity_of
from roadrisk.grid import FloatArray, Grid, LngLatBbox, Part
from roadrisk.gridding import tiles_in
from roadrisk.joining import (
    Facts,
    Joined,
    Records,
    read_records,
    rights_of,
    source_plans,
)
from roadrisk.labelling import LABEL, Labelled, labelled
from roadrisk.mosaic import part_path, parts_path
from roadrisk.overview import overview_path, vrt_files
from roadrisk.plain_text import account_table
from roadrisk.progress import Progress, silent
from roadrisk.region import Region
from roadrisk.sources.account import Account
from roadrisk.sources.coverage import COVERED
from roadrisk.sources.imagery import Sheets, found_sheets
from roadrisk.sources.labels import LabelFile, read_label_file

VIEW = "aerial"


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
        """For people: the grid, the account of every source and how it was understood, the label.

        Parameters
        ----------
        verbose : also every column.
        """
        said = list(self.dataset.manifest["summary"])
        if verbose:
            said += [f"{column.name}: {column.meaning}" for column in self.dataset.columns]
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
    grid, sheets = _grid_and_sheets(region)
    with TemporaryDirectory() as scratch:
        records = read_records(region, grid, Path(scratch))
        labelled(region, records.facts, records, _label_file(region, grid))
    known = estimate(sheets, grid, region.tile_size, _workers(workers)) if sheets else None
    return TilePlan(grid, LngLatBbox(*region.bbox or ()), known)


def tile(
    region: Region,
    out: Path,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> Tiled:
    """Cut `region` into tiles, join each to its picture and facts, and write the dataset.

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
    grid, sheets = _grid_and_sheets(region)
    if not (region.imagery or region.table_sources()):
        raise RegionError("nothing to join to the tiles; give --imagery, --roads or --crashes")
    with TemporaryDirectory() as scratch:
        records = read_records(region, grid, Path(scratch))
        label_file = _label_file(region, grid)
        labelled(region, records.facts, records, label_file)
        plan = plan_of(region, records, sheets)
        with writing(out, plan, overwrite):
            _write_dataset(region, out, records, sheets, label_file, plan, _workers(workers), progress)
    return Tiled(read_dataset(out))


def plan_of(region: Region, records: Records, sheets: Sheets | None) -> dict[str, Any]:
    """What decides a dataset's bytes: grid, settings and the identity of each source, with their digest."""
    plan = {
        "grid": records.grid.as_json(),
        "views": [VIEW] if sheets else [],
        "settings": {
            "name": region.name,
            "tile_size": region.tile_size,
            "min_coverage": region.min_coverage,
            "drop_uncovered": region.drop_uncovered,
            "label": asdict(region.label),
            "windows": records.windows.as_json(),
        },
        "sources": {VIEW: sheets.identities() if sheets else [], **source_plans(region)},
        "files": [
            identity_of(Path(path), hashed=True)
            for path in (region.area, region.label.path)
            if path is not None
        ],
    }
    return {**plan, "hash": digest_of(plan)}


def _label_file(region: Region, grid: Grid) -> LabelFile | None:
    return read_label_file(region.label, grid) if region.label.path is not None else None


def _grid_and_sheets(region: Region) -> tuple[Grid, Sheets | None]:
    grid = region.grid()
    return grid, found_sheets([s.path for s in region.imagery], grid) if region.imagery else None


def _write_dataset(
    region: Region,
    out: Path,
    records: Records,
    sheets: Sheets | None,
    label_file: LabelFile | None,
    plan: dict[str, Any],
    workers: int,
    progress: Progress,
) -> None:
    """Cut the pictures, then write tiles, records and, last, the manifest."""
    grid = records.grid
    files: list[str] = []
    views: list[View] = []
    facts: Facts = []
    if sheets:
        parts, coverage = cut_view(out, VIEW, sheets, grid, region.tile_size, plan["hash"], workers, progress)
        files += _view_files(parts, grid, region.tile_size)
        views.append(_view(region, parts))
        facts += _picture_facts(coverage, region)
    facts += records.facts
    with forgotten_after_error(out):
        label = labelled(region, facts, records, label_file)
    facts += label.facts
    files += _write_records(out, records)
    write_tiles(out, _values(facts), grid)
    pictures = [_joined_sheets(region, sheets, facts)] if sheets else []
    labels = [Joined(LABEL, label_file.account, label_file.understood)] if label_file else []
    joined = [*pictures, *records.joined, *labels]
    manifest = {
        "name": region.name,
        "plan": plan,
        "grid": grid.as_json(),
        "views": [asdict(view) for view in views],
        "columns": [column.as_json() for column, _ in facts],
        "windows": records.windows.as_json(),
        "label": label.as_json(),
        "sources": [j.as_json() for j in joined],
        "rights": [asdict(rights) for rights in rights_of(region)],
        "summary": _summary(region, records, joined, facts, label),
        "files": sorted([*files, "tiles.parquet"]),
        "versions": _versions(),
    }
    write_manifest(out, manifest)


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


def _values(facts: Facts) -> dict[str, TileValues]:
    """The columns as they are written, each of its own type."""
    return {
        column.name: pd.array(values, dtype="boolean")
        if column.dtype == "boolean"
        else np.asarray(values, dtype=column.dtype)
        for column, values in facts
    }


def _write_records(out: Path, records: Records) -> list[str]:
    """Keep events, lines and rejected rows in the dataset; the names of the files."""
    names = []
    for events in records.events:
        if events.account.used:
            names.append(f"events/{events.name}.parquet")
            write_batches(out / names[-1], events.batches())
        if len(events.rejected):
            names.append(f"rejected/{events.name}.parquet")
            write_table(out / names[-1], events.rejected)
    if records.roads:
        names.append("lines/roads.parquet")
        write_table(out / names[-1], records.roads.table)
    return names


def _joined_sheets(region: Region, sheets: Sheets, facts: Facts) -> Joined:
    coverage = next(values for column, values in facts if column.name == f"coverage_{VIEW}")
    covered = int((coverage >= region.min_coverage).sum())
    dropped = "; the others are dropped" if region.drop_uncovered else ""
    said = f"{VIEW}: {covered:,} tiles have at least {region.min_coverage:.0%} of a picture{dropped}"
    account = Account(VIEW, len(sheets) + sheets.outside, len(sheets), {}, sheets.outside)
    return Joined(VIEW, account, sheets.understood, said=(said,))


def _summary(
    region: Region, records: Records, joined: list[Joined], facts: Facts, label: Labelled
) -> list[str]:
    """What `tile` says when it is done, kept in the dataset."""
    values = {column.name: array for column, array in facts}
    said = [f"{region.name}: {grid_line(records.grid, LngLatBbox(*region.bbox or ()))}"]
    said += account_table([j.account for j in joined]).lines()
    said += [f"{j.name}: {'; '.join(j.understood)}" for j in joined]
    said += [line for j in joined for line in j.said]
    if "in_area" in values:
        inside = int((values["in_area"] >= COVERED).sum())
        said.append(
            f"in_area: {inside:,} of {records.grid.size:,} tiles lie at least half inside the outline; the "
            "others are tiled, learned from and scored all the same"
        )
    said.append(f"{int(values['eligible'].sum()):,} tiles are eligible")
    return [*said, *label.said]


def _versions() -> dict[str, str]:
    import pyproj
    import rasterio

    return {"roadrisk": __version__, "gdal": rasterio.__gdal_version__, "proj": pyproj.proj_version_str}
