"""Cutting: pictures become the parts of a mosaic, painted and written in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.errors import DatasetError, SourceError
from roadrisk.files import remove_temporaries, whole_file
from roadrisk.grid import FloatArray, Grid, Part
from roadrisk.imagery.sheets import Sheets
from roadrisk.mosaic.estimating import check_disk
from roadrisk.mosaic.jobs import PartDone, PartJob, Target, part_done
from roadrisk.mosaic.overview import overview_pixels, write_overview, write_vrt
from roadrisk.mosaic.parts import Written, parts_path
from roadrisk.mosaic.picture import Mask, Painter, Picture, Spent, summed
from roadrisk.mosaic.processes import finished
from roadrisk.mosaic.warping import SheetPainter, sheets_by_part, tiles_under
from roadrisk.progress import Progress, silent

Days = NDArray[np.datetime64]

MOST_FAILED = 0.05


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


def cut_view(target: Target, sheets: Sheets, workers: int, progress: Progress = silent) -> CutView:
    """Cut the sheets into the parts of a view and write them, their table, an overview and a VRT.

    Parts of the same plan that are there already are kept, unless a tile of theirs failed. At most
    `workers` parts are in memory. Where a sheet cannot be read the tiles that need it fail, and the rest
    goes on.

    Raises
    ------
    SourceError : more than 5 % of the tiles under a sheet failed; finished parts stay.
    DatasetError : the disk is too small, or a worker died.
    """
    grid, tile_size = target.grid, target.tile_size
    by_part = sheets_by_part(sheets, grid, tile_size)
    jobs = [
        PartJob(target, part, SheetPainter(tuple(over), grid, tile_size)) for part, over in by_part.items()
    ]
    check_disk(target, {job.part: by_part[job.part] for job in jobs if not job.path.is_file()})
    under = np.zeros(grid.shape, bool)
    for sheet in sheets:
        row, col, rows, cols = tiles_under(sheet, grid)
        under[row : row + rows, col : col + cols] = True
    return _cut(target, jobs, int(under.sum()), workers, progress)


def cut_from_view(
    target: Target, painter: Painter, coverage: FloatArray, workers: int, progress: Progress = silent
) -> CutView:
    """Cut a view whose pictures are made from those of one that is cut.

    Parameters
    ----------
    painter : makes them.
    coverage : (rows, cols) of the view they are made from.

    Raises
    ------
    DatasetError : a part cannot be read or written, or a worker died.
    """
    grid = target.grid
    jobs = [
        PartJob(target, part, painter)
        for part in grid.parts(target.tile_size)
        if (coverage[part.row : part.row + part.rows, part.col : part.col + part.cols] > 0).any()
    ]
    return _cut(target, jobs, grid.size, workers, progress)


def _cut(target: Target, jobs: Sequence[PartJob], tiles: int, workers: int, progress: Progress) -> CutView:
    """Do the jobs and write the view's table, overview and VRT.

    Parameters
    ----------
    tiles : of which at most 5 % may fail.
    """
    dataset_dir, view, grid, tile_size = target.dataset_dir, target.view, target.grid, target.tile_size
    views = dataset_dir / "views"
    gathered = _Gathered.of(grid, overview_pixels(grid, tile_size))
    try:
        (views / view).mkdir(parents=True, exist_ok=True)
        remove_temporaries(views)
        with closing(finished(part_done, jobs, workers)) as parts:
            for number, done in enumerate(parts, start=1):
                gathered.add(done)
                _check_failures(gathered, view, tiles)
                progress(f"cut {view}", number, len(jobs))
        write_overview(dataset_dir, view, gathered.whole, grid, target.plan_hash)
        write_vrt(dataset_dir, view, sorted(gathered.written), grid, tile_size)
        table = _parts_table(grid.parts(tile_size), gathered)
        with whole_file(dataset_dir / parts_path(view)) as temporary:
            table.to_parquet(temporary, index=False, compression="zstd")
    except OSError as error:
        remove_temporaries(views)
        raise DatasetError(
            f"cannot write {error.filename or views} ({error.strerror or error.__cause__ or error}); mend "
            "that and run the same command again: finished parts are kept"
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
        _once_a_sheet(gathered.reasons),
        gathered.spent,
    )


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
        first, *others = _once_a_sheet(gathered.reasons)
        more = f", and {len(others):,} other sheets" if others else ""
        raise SourceError(
            f"{failed:,} of {tiles:,} tiles of the view {view} could not be read, more than "
            f"{MOST_FAILED:.0%}: {first}{more}; replace it or leave it out of --imagery"
        )


def _once_a_sheet(reasons: Iterable[str]) -> tuple[str, ...]:
    """One reason for each sheet, the same whatever part came first.

    >>> _once_a_sheet(["b.tif is damaged at 9, 9", "a.tif is gone", "b.tif is damaged at 1, 1"])
    ('a.tif is gone', 'b.tif is damaged at 1, 1')
    """
    by_sheet: dict[str, str] = {}
    for reason in sorted(reasons):
        by_sheet.setdefault(reason.split(" is damaged at ")[0], reason)
    return tuple(by_sheet.values())


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
