"""Estimates: what cutting will take, from cutting a little for real."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from roadrisk.errors import DatasetError
from roadrisk.grid import Grid, Part
from roadrisk.imagery.sheets import Sheet, Sheets
from roadrisk.mosaic.jobs import PartJob, Target, part_done
from roadrisk.mosaic.parts import Compression, geotiff
from roadrisk.mosaic.warping import SheetPainter, middle_tiles, part_px, shared_px, sheets_by_part

SAMPLED_SHEETS = 3
DISK_MARGIN = 1.25
START_S = 3.0  # until the first worker process cuts
FURTHER_WORKER = 0.7  # what each after the first adds: they share the memory's bandwidth


@dataclass(frozen=True)
class Estimate:
    """What cutting a view will take.

    Parameters
    ----------
    bytes : of the parts.
    """

    tiles: int
    parts: int
    parts_with_picture: int
    bytes: int
    minutes: float


def estimate(
    sheets: Sheets, grid: Grid, tile_size: int, workers: int, compress: Compression = "zstd"
) -> Estimate:
    """What cutting will take, from cutting the part with most picture for real into a temporary folder."""
    by_part = sheets_by_part(sheets, grid, tile_size)
    work = {part: sum(shared_px(s, grid, part, tile_size) for s in over) for part, over in by_part.items()}
    known = {part: min(px, part_px(part, tile_size)) for part, px in work.items()}
    part = max(work, key=work.__getitem__)
    with tempfile.TemporaryDirectory(prefix="roadrisk-") as folder:
        painter = SheetPainter(tuple(by_part[part]), grid, tile_size)
        target = Target(Path(folder), "estimate", grid, tile_size, "", compress)
        job = PartJob(target, part, painter)
        job.path.parent.mkdir(parents=True)
        # the first part a process cuts also pays for setting up GDAL and PROJ
        painter.painted(Part(part.row, part.col, 1, 1))
        began = time.perf_counter()
        done = part_done(job)
        seconds = time.perf_counter() - began
    size = done.written.bytes if done.written else 0
    further = min(workers, len(work)) - 1
    seconds *= sum(work.values()) / work[part] / (1 + FURTHER_WORKER * further)
    return Estimate(
        tiles=grid.size,
        parts=len(grid.parts(tile_size)),
        parts_with_picture=len(by_part),
        bytes=round(size * sum(known.values()) / known[part]),
        minutes=(seconds + START_S * (further > 0)) / 60,
    )


def disk_needed(
    sheets: Sequence[Sheet], grid: Grid, tile_size: int, picture_px: float, compress: Compression = "zstd"
) -> int:
    """Bytes that parts with `picture_px` pixels of these sheets take, from cutting a few tiles of some."""
    size = known = 0
    for sheet in sheets[:: max(1, math.ceil(len(sheets) / SAMPLED_SHEETS))]:
        part = middle_tiles(sheet, grid)
        picture = SheetPainter((sheet,), grid, tile_size).painted(part).picture
        size += len(geotiff(picture, grid.picture_transform(tile_size), grid.crs, tile_size, "", compress))
        known += int(picture.valid.sum())
    bytes_a_pixel = size / known if known else 3.0
    return math.ceil(picture_px * bytes_a_pixel * DISK_MARGIN)


def check_disk(target: Target, by_part: Mapping[Part, Sequence[Sheet]]) -> None:
    """Nothing, if the disk has room for the parts.

    Raises
    ------
    DatasetError : it has not.
    """
    dataset_dir, grid, tile_size = target.dataset_dir, target.grid, target.tile_size
    px = sum(
        min(part_px(part, tile_size), sum(shared_px(sheet, grid, part, tile_size) for sheet in over))
        for part, over in by_part.items()
    )
    sheets = list({sheet.path: sheet for over in by_part.values() for sheet in over}.values())
    needed = disk_needed(sheets, grid, tile_size, px, target.compress)
    free = shutil.disk_usage(dataset_dir).free
    if needed > free:
        raise DatasetError(
            f"the picture needs about {_size(needed)} and {dataset_dir} has {_size(free)} free; "
            "free space or use another folder"
        )


def _size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
