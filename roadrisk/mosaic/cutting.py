"""Cutting: pictures become the parts of a mosaic, painted and written in parallel."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.errors import DatasetError, SourceError
from roadrisk.files import remove_temporaries, sha256_of, whole_file
from roadrisk.grid import FloatArray, Grid, Part
from roadrisk.imagery.sheets import Sheet, Sheets
from roadrisk.mosaic.context import ContextPainter
from roadrisk.mosaic.overview import overview_pixels, shrunken, write_overview, write_vrt
from roadrisk.mosaic.parts import (
    Compression,
    Written,
    coverage_of,
    geotiff,
    part_path,
    parts_path,
    read_painted,
    write_painted,
)
from roadrisk.mosaic.picture import DateArray, Mask, Painted, Painter, Picture, Spent, summed
from roadrisk.mosaic.warping import (
    SheetPainter,
    middle_tiles,
    part_px,
    part_transform,
    shared_px,
    sheets_by_part,
    tiles_under,
)
from roadrisk.progress import Progress, silent

Days = NDArray[np.datetime64]

MOST_FAILED = 0.05
SAMPLED_SHEETS = 3
DISK_MARGIN = 1.25
START_S = 3.0  # until the first worker process cuts
FURTHER_WORKER = 0.7  # what each after the first adds: they share the memory's bandwidth


class CutView(NamedTuple):
    """What cutting a view gave.

    Parameters
    ----------
    parts : a row a part: row, col, rows, cols, state, coverage, failed_tiles, bytes, sha256.
    coverage : (rows, cols) share of each tile that has a picture; NaN where it could not be read.
    first, last : (rows, cols) days of what each tile shows; NaT where not known.
    failed : (rows, cols) whether a sheet over the tile could not be read.
    reasons : why, once a sheet.
    spent : seconds of all processes.
    """

    parts: pd.DataFrame
    coverage: FloatArray
    first: Days
    last: Days
    failed: Mask
    reasons: tuple[str, ...]
    spent: Spent


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
    compress: Compression
    painter: Painter

    @property
    def path(self) -> Path:
        """The part's file."""
        return self.dataset_dir / part_path(self.view, self.part)


@dataclass(frozen=True)
class PartDone:
    """A part, finished.

    Parameters
    ----------
    coverage : (rows, cols) of its tiles; NaN where one failed.
    written : None when there was no picture.
    overview : its piece of the picture of the whole; None when there was no picture.
    """

    part: Part
    coverage: FloatArray
    first: DateArray
    last: DateArray
    failed: Mask
    reasons: tuple[str, ...]
    written: Written | None
    overview: Picture | None
    spent: Spent


def cut_view(
    dataset_dir: Path,
    view: str,
    sheets: Sheets,
    grid: Grid,
    tile_size: int,
    plan_hash: str,
    workers: int,
    compress: Compression = "zstd",
    progress: Progress = silent,
) -> CutView:
    """Cut the sheets into the parts of a view and write them, their table, an overview and a VRT.

    Parts of the same plan that are there already are kept, unless a tile of theirs failed. At most
    `workers` parts are in memory. Where a sheet cannot be read the tiles that need it fail, and the rest
    goes on.

    Parameters
    ----------
    dataset_dir : folder of the dataset, which must be there.
    plan_hash : goes into every part; only parts that carry it are kept.

    Raises
    ------
    SourceError : more than 5 % of the tiles under a sheet failed; finished parts stay.
    DatasetError : the disk is too small, or a worker died.
    """
    by_part = sheets_by_part(sheets, grid, tile_size)
    jobs = [
        PartJob(
            dataset_dir,
            view,
            grid,
            part,
            tile_size,
            plan_hash,
            compress,
            SheetPainter(tuple(over), grid, tile_size),
        )
        for part, over in by_part.items()
    ]
    missing = {job.part: by_part[job.part] for job in jobs if not job.path.is_file()}
    _check_disk(dataset_dir, missing, grid, tile_size, compress)
    under = np.zeros(grid.shape, bool)
    for sheet in sheets:
        row, col, rows, cols = tiles_under(sheet, grid)
        under[row : row + rows, col : col + cols] = True
    return _cut(jobs, dataset_dir, view, grid, tile_size, plan_hash, int(under.sum()), workers, progress)


def cut_context(
    dataset_dir: Path,
    view: str,
    of: str,
    coverage: FloatArray,
    grid: Grid,
    tile_size: int,
    block: int,
    plan_hash: str,
    workers: int,
    compress: Compression = "zstd",
    progress: Progress = silent,
) -> CutView:
    """Cut a view of small pictures from one that is cut: `block` pixels of each tile, area-averaged.

    Parameters
    ----------
    of : the view that is shrunken, `tile_size` pixels a tile.
    coverage : (rows, cols) of that view.

    Raises
    ------
    DatasetError : a part cannot be read or written, or a worker died.
    """
    painter = ContextPainter(dataset_dir, of, grid, tile_size, plan_hash, block)
    jobs = [
        PartJob(dataset_dir, view, grid, part, block, plan_hash, compress, painter)
        for part in grid.parts(block)
        if (coverage[part.row : part.row + part.rows, part.col : part.col + part.cols] > 0).any()
    ]
    return _cut(jobs, dataset_dir, view, grid, block, plan_hash, grid.size, workers, progress)


def _cut(
    jobs: Sequence[PartJob],
    dataset_dir: Path,
    view: str,
    grid: Grid,
    tile_size: int,
    plan_hash: str,
    tiles: int,
    workers: int,
    progress: Progress,
) -> CutView:
    """Do the jobs and write the view's table, overview and VRT.

    Parameters
    ----------
    tiles : of which at most 5 % may fail.
    """
    views = dataset_dir / "views"
    gathered = _Gathered.of(grid, overview_pixels(grid, tile_size))
    try:
        (views / view).mkdir(parents=True, exist_ok=True)
        remove_temporaries(views)
        with closing(_finished(jobs, workers)) as finished:
            for number, done in enumerate(finished, start=1):
                gathered.add(done)
                _check_failures(gathered, view, tiles)
                progress(f"cut {view}", number, len(jobs))
        write_overview(dataset_dir, view, gathered.whole, grid, plan_hash)
        write_vrt(dataset_dir, view, sorted(gathered.written), grid, tile_size)
        table = _parts_table(grid.parts(tile_size), gathered)
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
    return CutView(
        table,
        gathered.coverage,
        gathered.first,
        gathered.last,
        gathered.failed,
        tuple(gathered.reasons),
        gathered.spent,
    )


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
        job = PartJob(Path(folder), "estimate", grid, part, tile_size, "", compress, painter)
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


def part_done(job: PartJob) -> PartDone:
    """Make a part, or take the one that an earlier run of the plan finished."""
    part, size = job.part, job.tile_size
    painted = read_painted(job.path, part, size, job.plan_hash)
    # what could not be read may be readable by now
    if painted is not None and not painted.failed.any():
        written: Written | None = Written(job.path.stat().st_size, sha256_of(job.path))
        spent = painted.spent
    else:
        painted = job.painter.painted(part)
        written, spent = _written(job, painted)
        if written and job.compress == "jpeg":
            # JPEG changes pixels: the overview is of those that a resumed run reads
            kept = read_painted(job.path, part, size, job.plan_hash)
            if kept is None:
                raise DatasetError(f"{job.path} cannot be read back; run the same command again")
            painted = kept
    coverage = coverage_of(painted.picture.valid, size)
    coverage[painted.failed] = np.nan
    return PartDone(
        part=part,
        coverage=coverage,
        first=painted.first,
        last=painted.last,
        failed=painted.failed,
        reasons=painted.reasons,
        written=written,
        overview=shrunken(painted.picture, size, overview_pixels(job.grid, size)) if written else None,
        spent=spent,
    )


def _written(job: PartJob, painted: Painted) -> tuple[Written | None, Spent]:
    """The part's file, where it has a picture, and the seconds with those of writing."""
    if not painted.picture.valid.any():
        job.path.unlink(missing_ok=True)
        return None, painted.spent
    began = time.perf_counter()
    written = write_painted(
        job.path,
        painted,
        part_transform(job.grid, job.part, job.tile_size),
        job.grid.crs,
        job.tile_size,
        job.plan_hash,
        job.compress,
    )
    return written, painted.spent._replace(write=time.perf_counter() - began)


def _check_disk(
    dataset_dir: Path,
    by_part: Mapping[Part, Sequence[Sheet]],
    grid: Grid,
    tile_size: int,
    compress: Compression,
) -> None:
    """Nothing, if the disk has room for the parts."""
    px = sum(
        min(part_px(part, tile_size), sum(shared_px(sheet, grid, part, tile_size) for sheet in over))
        for part, over in by_part.items()
    )
    sheets = list({sheet.path: sheet for over in by_part.values() for sheet in over}.values())
    needed = disk_needed(sheets, grid, tile_size, px, compress)
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


@dataclass
class _Gathered:
    """What the parts have come to so far."""

    coverage: FloatArray
    first: Days
    last: Days
    failed: Mask
    whole: Picture
    pixels: int
    written: dict[Part, Written] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)
    spent: Spent = field(default_factory=lambda: Spent(0.0, 0.0, 0.0))

    @classmethod
    def of(cls, grid: Grid, pixels: int) -> _Gathered:
        """Nothing yet; the picture of the whole has `pixels` a tile."""
        shape = grid.rows * pixels, grid.cols * pixels
        return cls(
            coverage=np.zeros(grid.shape),
            first=np.full(grid.shape, "NaT", "datetime64[D]"),
            last=np.full(grid.shape, "NaT", "datetime64[D]"),
            failed=np.zeros(grid.shape, bool),
            whole=Picture(np.zeros((3, *shape), np.uint8), np.zeros(shape, bool)),
            pixels=pixels,
        )

    def add(self, done: PartDone) -> None:
        """One more part."""
        row, col, rows, cols = done.part
        there = slice(row, row + rows), slice(col, col + cols)
        self.coverage[there], self.failed[there] = done.coverage, done.failed
        self.first[there], self.last[there] = done.first, done.last
        self.reasons |= dict.fromkeys(done.reasons)
        self.spent = summed((self.spent, done.spent))
        if done.written and done.overview:
            self.written[done.part] = done.written
            n = self.pixels
            pixels = slice(row * n, (row + rows) * n), slice(col * n, (col + cols) * n)
            self.whole.pixels[:, *pixels] = done.overview.pixels
            self.whole.valid[pixels] = done.overview.valid


def _check_failures(gathered: _Gathered, view: str, tiles: int) -> None:
    """Nothing, as long as few tiles have failed."""
    failed = int(gathered.failed.sum())
    if failed > MOST_FAILED * tiles:
        first, *others = gathered.reasons
        more = f", and {len(others):,} other sheets" if others else ""
        raise SourceError(
            f"{failed:,} of {tiles:,} tiles of the view {view} could not be read, more than "
            f"{MOST_FAILED:.0%}: {first}{more}; replace it or leave it out of --imagery"
        )


def _parts_table(parts: Sequence[Part], gathered: _Gathered) -> pd.DataFrame:
    nothing = Written(0, "")
    written = gathered.written
    tiles = [(slice(p.row, p.row + p.rows), slice(p.col, p.col + p.cols)) for p in parts]
    failed = [int(gathered.failed[there].sum()) for there in tiles]
    return pd.DataFrame(
        {
            **{name: [getattr(part, name) for part in parts] for name in Part._fields},
            "state": [
                "written" if part in written else "failed" if count else "empty"
                for part, count in zip(parts, failed, strict=True)
            ],
            "coverage": [float(np.nan_to_num(gathered.coverage[there]).mean()) for there in tiles],
            "failed_tiles": failed,
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
            pending.add(_submitted(pool, job))
            if len(pending) >= 2 * workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise DatasetError(
            "a process that cut pictures died, as when memory runs out; run the same again with --workers "
            f"{max(1, workers // 2)}: finished parts are kept; in a script, call it under "
            "`if __name__ == '__main__':`"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, job: PartJob) -> Future[PartDone]:
    """The part to come. A worker that is started for it leaves Ctrl-C to the parent from its first moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(part_done, job)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """End when the parent ends: a killed run must not go on writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)
