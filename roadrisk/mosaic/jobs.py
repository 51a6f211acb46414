"""Jobs: one part is made and written, in whatever process; imports little, since every worker pays for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roadrisk.errors import DatasetError
from roadrisk.files import sha256_of
from roadrisk.grid import FloatArray, Grid, Part
from roadrisk.mosaic.overview import overview_pixels, shrunken
from roadrisk.mosaic.parts import Compression, Written, coverage_of, part_path, read_painted, write_painted
from roadrisk.mosaic.picture import DateArray, Mask, Painted, Painter, Picture, Spent
from roadrisk.mosaic.warping import part_transform


@dataclass(frozen=True)
class Target:
    """Where the parts of a view go, and how they are kept.

    Parameters
    ----------
    dataset_dir : folder of the dataset, which must be there.
    tile_size : pixels along a side of a tile in this view.
    plan_hash : goes into every part; only parts that carry it are kept.
    """

    dataset_dir: Path
    view: str
    grid: Grid
    tile_size: int
    plan_hash: str
    compress: Compression = "zstd"


@dataclass(frozen=True)
class PartJob:
    """All that a worker needs to make one part."""

    target: Target
    part: Part
    painter: Painter

    @property
    def path(self) -> Path:
        """The part's file."""
        return self.target.dataset_dir / part_path(self.target.view, self.part)


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


def part_done(job: PartJob) -> PartDone:
    """Make a part, or take the one that an earlier run of the plan finished."""
    part, target = job.part, job.target
    size = target.tile_size
    painted = read_painted(job.path, part, size, target.plan_hash)
    # what could not be read may be readable by now
    if painted is not None and not painted.failed.any():
        written: Written | None = Written(job.path.stat().st_size, sha256_of(job.path))
        spent = painted.spent
    else:
        painted = job.painter.painted(part)
        written, spent = _written(job, painted)
        if written and target.compress == "jpeg":
            # JPEG changes pixels: the overview is of those that a resumed run reads
            kept = read_painted(job.path, part, size, target.plan_hash)
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
        overview=shrunken(painted.picture, size, overview_pixels(target.grid, size)) if written else None,
        spent=spent,
    )


def _written(job: PartJob, painted: Painted) -> tuple[Written | None, Spent]:
    """The part's file, where it has a picture, and the seconds with those of writing."""
    if not painted.picture.valid.any():
        job.path.unlink(missing_ok=True)
        return None, painted.spent
    began, target = time.perf_counter(), job.target
    written = write_painted(
        job.path,
        painted,
        part_transform(target.grid, job.part, target.tile_size),
        target.grid.crs,
        target.tile_size,
        target.plan_hash,
        target.compress,
    )
    return written, painted.spent._replace(write=time.perf_counter() - began)
