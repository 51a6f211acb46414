"""`tile`: a region and its sources become a dataset."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
import pandas as pd

from roadrisk import __version__
from roadrisk.dataset import (
    Dataset,
    TileValues,
    check_unfinished,
    forgotten_after_error,
    read_dataset,
    write_batches,
    write_manifest,
    write_table,
    write_tiles,
    writing,
)
from roadrisk.errors import DatasetError, RegionError
from roadrisk.files import digest_of, identity_of
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import tiles_in
from roadrisk.imagery.sheets import Sheets
from roadrisk.joining import (
    Facts,
    Joined,
    Records,
    read_records,
    rights_of,
    source_plans,
)
from roadrisk.labelling import LABEL, Labelled, labelled
from roadrisk.mosaic.picture import Spent
from roadrisk.plain_text import account_table
from roadrisk.progress import Progress, silent
from roadrisk.region import Region
from roadrisk.sources.coverage import COVERED
from roadrisk.sources.labels import LabelFile, read_label_file
from roadrisk.viewing import (
    ViewsPlan,
    cut_views,
    pictured_later,
    sheet_account,
    sheets_of,
    view_plans,
    views_plan,
)


@dataclass(frozen=True)
class TilePlan:
    """What `tile` would do: `--dry-run`."""

    grid: Grid
    bbox: LngLatBbox
    views: ViewsPlan

    def lines(self) -> list[str]:
        """For people."""
        return [grid_line(self.grid, self.bbox), *self.views.lines(), "no dataset was written"]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"grid": self.grid.as_json(), **asdict(self.views)}


@dataclass(frozen=True)
class Tiled:
    """What `tile` did.

    Parameters
    ----------
    spent : seconds of all processes that cut pictures.
    """

    dataset: Dataset
    spent: Spent

    def lines(self, verbose: bool = False) -> list[str]:
        """For people: the grid, the account of every source and how it was understood, the label.

        Parameters
        ----------
        verbose : also every column.
        """
        said = list(self.dataset.manifest["summary"])
        if verbose:
            said += [f"{column.name}: {column.meaning}" for column in self.dataset.columns]
            if sum(self.spent):
                shares = ", ".join(f"{n} {t / sum(self.spent):.0%}" for n, t in self.spent._asdict().items())
                said.append(f"cutting the pictures took {sum(self.spent):.1f} core-seconds: {shares}")
        return said

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"dataset": str(self.dataset.path), **self.dataset.manifest}


def tile_plan(region: Region, workers: int | None = None, progress: Progress = silent) -> TilePlan:
    """What tiling `region` would take, from cutting one part for real into a temporary folder.

    Raises
    ------
    RoadriskError : as `tile`, for whatever is wrong with the sources.
    """
    grid = region.grid()
    with _scratch() as scratch:
        records = read_records(region, grid, scratch)
        labelled(region, records.facts, records, _label_file(region, grid))
    views = views_plan(region, grid, _workers(workers), progress)
    return TilePlan(grid, LngLatBbox(*region.bbox or ()), views)


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
    check_unfinished(out, overwrite)
    grid = region.grid()
    if not (region.imagery or region.table_sources()):
        raise RegionError("nothing to join to the tiles; give --imagery, --roads or --crashes")
    with _scratch() as scratch:
        records = read_records(region, grid, scratch)
        label_file = _label_file(region, grid)
        labelled(region, records.facts, records, label_file)
        sheets = sheets_of(region, grid, progress)
        plan = plan_of(region, records, sheets)
        with writing(out, plan, overwrite):
            spent = _write_dataset(
                region, out, records, sheets, label_file, plan, _workers(workers), progress
            )
    return Tiled(read_dataset(out), spent)


def plan_of(region: Region, records: Records, sheets: dict[str, Sheets]) -> dict[str, Any]:
    """What decides a dataset's bytes: grid, settings and the identity of each source, with their digest."""
    plan = {
        "grid": records.grid.as_json(),
        "views": view_plans(sheets),
        "settings": {
            "tile_size": region.tile_size,
            "compress": region.compress,
            "context": region.context,
            "min_coverage": region.min_coverage,
            "drop_uncovered": region.drop_uncovered,
            "label": asdict(region.label),
            "windows": records.windows.as_json(),
        },
        "sources": source_plans(region),
        "files": [
            identity_of(Path(path), hashed=True)
            for path in (region.area, region.label.path)
            if path is not None
        ],
    }
    return {**plan, "hash": digest_of(plan)}


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for the rows of sources that are read, until the dataset is written.

    Raises
    ------
    DatasetError : its disk is full.
    """
    try:
        with TemporaryDirectory(prefix="roadrisk-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DatasetError(
            f"no room for the rows of sources in {gettempdir()} ({os.strerror(error.errno)}); make room, or "
            "set TMPDIR to another folder"
        ) from error


def _label_file(region: Region, grid: Grid) -> LabelFile | None:
    return read_label_file(region.label, grid) if region.label.path is not None else None


def _write_dataset(
    region: Region,
    out: Path,
    records: Records,
    sheets: dict[str, Sheets],
    label_file: LabelFile | None,
    plan: dict[str, Any],
    workers: int,
    progress: Progress,
) -> Spent:
    """Cut the pictures, then write tiles, records and, last, the manifest; where the cutting's time went."""
    grid = records.grid
    viewed = cut_views(region, out, sheets, grid, plan["hash"], workers, progress)
    facts: Facts = [*viewed.facts, *records.facts]
    with forgotten_after_error(out):
        label = labelled(region, facts, records, label_file)
    facts += label.facts
    files = [*viewed.files, *_write_records(out, records)]
    write_tiles(out, _values(facts), grid)
    pictures = [
        Joined(view, sheet_account(view, some), some.understood, said=viewed.said[view])
        for view, some in sheets.items()
    ]
    labels = [Joined(LABEL, label_file.account, label_file.understood)] if label_file else []
    joined = [*pictures, *records.joined, *labels]
    label_window = records.windows.label
    warnings = pictured_later(viewed.facts, label_window[0].isoformat()) if label_window else []
    manifest = {
        "name": region.name,
        "plan": plan,
        "grid": grid.as_json(),
        "views": [asdict(view) for view in viewed.views],
        "columns": [column.as_json() for column, _ in facts],
        "windows": records.windows.as_json(),
        "label": label.as_json(),
        "sources": [j.as_json() for j in joined],
        "rights": [
            asdict(rights)
            for rights in (*(r for some in sheets.values() for r in some.rights), *rights_of(region))
        ],
        "summary": [*_summary(region, records, joined, facts, label), *warnings],
        "warnings": warnings,
        "files": sorted([*files, "tiles.parquet"]),
        "versions": _versions(),
    }
    write_manifest(out, manifest)
    return viewed.spent


def grid_line(grid: Grid, bbox: LngLatBbox) -> str:
    """A grid in one line: its tiles, their size, and how many lie in the box."""
    return (
        f"{grid.rows:,} x {grid.cols:,} = {grid.size:,} tiles of {grid.cell_m:,.4g} m ({grid.crs}); "
        f"{tiles_in(grid, bbox):,} have their centre in the box"
    )


def _workers(asked: int | None) -> int:
    return asked or len(os.sched_getaffinity(0))


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
