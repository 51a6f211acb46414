"""Cutting: sheets become the parts of a mosaic, each resampled once onto the grid, in parallel."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from roadrisk.errors import DatasetError
from roadrisk.files import remove_temporaries, sha256_of, whole_file
from roadrisk.grid import FloatArray, Grid, Part
from roadrisk.mosaic import (
    Picture,
    Written,
    coverage_of,
    geotiff,
    part_path,
    parts_path,
    read_part,
    write_picture,
)
from roadrisk.overview import overview_pixels, shrunken, write_overview, write_vrt
from roadrisk.progress import Progress, silent
from roadrisk.sources.imagery import Sheet, Sheets
from roadrisk.warping import cut_part, middle_tiles, part_px, part_transform, shared_px, sheets_by_part

SAMPLED_SHEETS = 3
DISK_MARGIN = 1.25
START_S = 3.0  # until the first worker process cuts
FURTHER_WORKER = 0.7  # what each after the first adds: they share the memory's bandwidth


class CutView(NamedTuple):
    """What cutting a view gave.

    Parameters
    ----------
    parts : a row a part: row, col, rows, cols, state, coverage, bytes, sha256.
    coverage : (rows, cols) share of each tile that has a picture.
    """

    parts: pd.DataFrame
    coverage: FloatArray


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


@dataclass(frozen=True)
class PartJob:
    """All that a worker needs to make one part."""

    dataset_dir: Path
    view: str
    grid: Grid
    part: Part
    tile_size: int
    plan_hash: str
    sheets: tuple[Sheet, ...]

    @property
    def path(self) -> Path:
        """The part's file."""
        return self.dataset_dir / part_path(self.view, self.part)


@dataclass(frozen=True)
class PartDone:
    """A part, finished.

    Parameters
    ----------
    coverage : (rows, cols) of its tiles.
    written : None when there was no picture.
    overview : its piece of the picture of the whole.
    """

    part: Part
    coverage: FloatArray
    written: Written | None
    overview: Picture | None


def cut_view(
    dataset_dir: Path,
    view: str,
    sheets: Sheets,
    grid: Grid,
    tile_size: int,
    plan_hash: str,
    workers: int,
    progress: Progress = silent,
) -> CutView:
    """Cut the sheets into the parts of a view and write them, their table, an overview and a VRT.

    Parts of the same plan that are there already are kept. At most `workers` parts are in memory.

    Parameters
    ----------
    dataset_dir : folder of the dataset, which must be there.
    plan_hash : goes into every part; only parts that carry it are kept.

    Raises
    ------
    SourceError : a sheet cannot be read; finished parts stay.
    DatasetError : the disk is too small, or a worker died.
    """
    jobs = [
        PartJob(dataset_dir, view, grid, part, tile_size, plan_hash, tuple(over))
        for part, over in sheets_by_part(sheets, grid, tile_size).items()
    ]
    _check_disk(dataset_dir, [job for job in jobs if not job.path.is_file()])
    views = dataset_dir / "views"
    try:
        (views / view).mkdir(parents=True, exist_ok=True)
        remove_temporaries(views)
        with closing(_finished(jobs, workers)) as finished:
            written, coverage, whole = _gathered(finished, jobs, grid, tile_size, progress)
        write_overview(dataset_dir, view, whole, grid, plan_hash)
        write_vrt(dataset_dir, view, sorted(written), grid, tile_size)
        table = _parts_table(grid.parts(tile_size), written, coverage)
        with whole_file(dataset_dir / parts_path(view)) as temporary:
            table.to_parquet(temporary, index=False, compression="zstd")
    except OSError as error:
        raise DatasetError(
            f"cannot write {error.filename or views} ({error.strerror or error}); mend that and run the same "
            "command again: finished parts are kept"
        ) from error
    except BaseException:
        remove_temporaries(views)
        raise
    return CutView(table, coverage)


def estimate(sheets: Sheets, grid: Grid, tile_size: int, workers: int) -> Estimate:
    """What cutting will take, from cutting the part with most picture for real into a temporary folder."""
    by_part = sheets_by_part(sheets, grid, tile_size)
    work = {part: sum(shared_px(s, grid, part, tile_size) for s in over) for part, over in by_part.items()}
    known = {part: min(px, part_px(part, tile_size)) for part, px in work.items()}
    part = max(work, key=work.__getitem__)
    with tempfile.TemporaryDirectory(prefix="roadrisk-") as folder:
        job = PartJob(Path(folder), "estimate", grid, part, tile_size, "", tuple(by_part[part]))
        job.path.parent.mkdir(parents=True)
        # the first part a process cuts also pays for setting up GDAL and PROJ
        cut_part(job.sheets, grid, Part(part.row, part.col, 1, 1), tile_size)
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


def disk_needed(sheets: Sequence[Sheet], grid: Grid, tile_size: int, picture_px: float) -> int:
    """Bytes that parts with `picture_px` pixels of these sheets take, from cutting a few tiles of some."""
    size = known = 0
    for sheet in sheets[:: max(1, math.ceil(len(sheets) / SAMPLED_SHEETS))]:
        part = middle_tiles(sheet, grid)
        picture = cut_part([sheet], grid, part, tile_size)
        size += len(geotiff(picture, grid.picture_transform(tile_size), grid.crs, tile_size, ""))
        known += int(picture.valid.sum())
    bytes_a_pixel = size / known if known else 3.0
    return math.ceil(picture_px * bytes_a_pixel * DISK_MARGIN)


def part_done(job: PartJob) -> PartDone:
    """Make a part, or take the one that an earlier run of the plan finished."""
    part, size = job.part, job.tile_size
    picture = read_part(job.path, part, size, job.plan_hash)
    if picture is not None:
        written = Written(job.path.stat().st_size, sha256_of(job.path))
    else:
        picture = cut_part(job.sheets, job.grid, part, size)
        if not picture.valid.any():
            return PartDone(part, np.zeros((part.rows, part.cols)), None, None)
        written = write_picture(
            job.path, picture, part_transform(job.grid, part, size), job.grid.crs, size, job.plan_hash
        )
    small = shrunken(picture, size, overview_pixels(job.grid, size))
    return PartDone(part, coverage_of(picture.valid, size), written, small)


def _check_disk(dataset_dir: Path, jobs: Sequence[PartJob]) -> None:
    if not jobs:
        return
    grid, size = jobs[0].grid, jobs[0].tile_size
    px = sum(
        min(part_px(job.part, size), sum(shared_px(s, grid, job.part, size) for s in job.sheets))
        for job in jobs
    )
    sheets = list({sheet.path: sheet for job in jobs for sheet in job.sheets}.values())
    needed = disk_needed(sheets, grid, size, px)
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


def _gathered(
    finished: Iterable[PartDone], jobs: Sequence[PartJob], grid: Grid, tile_size: int, progress: Progress
) -> tuple[dict[Part, Written], FloatArray, Picture]:
    """Written parts, (rows, cols) coverage and the picture of the whole."""
    pixels = overview_pixels(grid, tile_size)
    shape = grid.rows * pixels, grid.cols * pixels
    whole = Picture(np.zeros((3, *shape), np.uint8), np.zeros(shape, bool))
    coverage = np.zeros(grid.shape)
    written: dict[Part, Written] = {}
    for number, done in enumerate(finished, start=1):
        row, col, rows, cols = done.part
        coverage[row : row + rows, col : col + cols] = done.coverage
        if done.written and done.overview:
            written[done.part] = done.written
            there = slice(row * pixels, (row + rows) * pixels), slice(col * pixels, (col + cols) * pixels)
            whole.pixels[:, *there] = done.overview.pixels
            whole.valid[there] = done.overview.valid
        progress(f"cut {jobs[0].view}", number, len(jobs))
    return written, coverage, whole


def _parts_table(parts: Sequence[Part], written: dict[Part, Written], coverage: FloatArray) -> pd.DataFrame:
    nothing = Written(0, "")
    return pd.DataFrame(
        {
            **{name: [getattr(part, name) for part in parts] for name in Part._fields},
            "state": ["written" if part in written else "empty" for part in parts],
            "coverage": [
                float(coverage[p.row : p.row + p.rows, p.col : p.col + p.cols].mean()) for p in parts
            ],
            "bytes": [written.get(part, nothing).bytes for part in parts],
            "sha256": [written.get(part, nothing).sha256 for part in parts],
        }
    )


def _finished(jobs: Sequence[PartJob], workers: int) -> Generator[PartDone, None, None]:
    """The parts as they are done, in any order; after an error the rest is called off."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from map(part_done, jobs)
        return
    # spawn: GDAL does not survive a fork
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin_worker)
    pending: set[Future[PartDone]] = set()
    try:
        for job in jobs:
            pending.add(pool.submit(part_done, job))
            if len(pending) >= 2 * workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise DatasetError(
            "a process that cut pictures died, as when memory runs out; run the same again with "
            f"{max(1, workers // 2)} workers: finished parts are kept; in a script, call it under "
            "`if __name__ == '__main__':`"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it ends: a killed run must not go on writing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)
