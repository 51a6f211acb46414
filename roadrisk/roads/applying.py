"""`roads apply`: a view of a dataset, or a folder of pictures, becomes roads."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roadrisk.dataset import MANIFEST, RUN, read_dataset
from roadrisk.errors import UsageError
from roadrisk.files import sha256_of
from roadrisk.learning.loop.devices import device_of
from roadrisk.progress import Progress, silent
from roadrisk.roads.drawing.drawn import Drew
from roadrisk.roads.drawing.drawn_masks import drawn_masks
from roadrisk.roads.drawing.drawn_view import Drawing, drawn_view
from roadrisk.roads.model import MANIFEST as MODEL
from roadrisk.roads.model import read_road_model
from roadrisk.roads.settings import Cleaning


@dataclass(frozen=True)
class Applied:
    """What `roads apply` did."""

    drew: Drew
    seconds: float

    @property
    def paths(self) -> list[Path]:
        """What was written."""
        return self.drew.paths

    def lines(self) -> list[str]:
        """For people."""
        return [*self.drew.said, f"drawn in {self.seconds / 60:.1f} minutes"]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**self.drew.result, "paths": [str(path) for path in self.paths]}


def apply(
    source: Path,
    model: Path,
    out: Path | None = None,
    view: str | None = None,
    probability: bool = False,
    cleaning: Cleaning | None = None,
    vectorize: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Applied:
    """Draw roads with a model that `roads train` made.

    A dataset gains the view `roads` (255 road, 0 elsewhere) and the columns of what is seen of roads; the
    same call after an interruption goes on where it stopped. Of a folder of pictures each gets a mask.

    Parameters
    ----------
    source : a dataset, or a folder of pictures.
    out : folder of the masks; of a folder of pictures only.
    view : of the dataset; else that which the model learned from.
    probability : also how likely road, from 0 to 255: the view `roads_probability`, or another picture each.
    vectorize : layer of centre-lines and polygons; of a dataset only.
    workers : processes that write and measure; else one a core.
    overwrite : replace what is there.

    Raises
    ------
    RoadriskError : one line that says what is wrong, where, and what to do.
    """
    started = time.monotonic()
    at, cleaning, workers = device_of(device), cleaning or Cleaning(), workers or len(os.sched_getaffinity(0))
    known = read_road_model(model)
    if (source / MANIFEST).is_file() or (source / RUN).is_file():
        if out is not None:
            raise UsageError(f"{source} is a dataset, which gains a view; leave out -o {out}")
        dataset = read_dataset(source)
        drawing = Drawing(dataset, known, sha256_of(model / MODEL), view, probability, cleaning)
        drew = drawn_view(drawing, vectorize, at, workers, overwrite, progress)
    else:
        if out is None:
            raise UsageError(f"{source} is no dataset; for the masks of a folder of pictures give -o DIR")
        if vectorize is not None:
            raise UsageError("--vectorize needs a dataset, whose pictures lie on the ground; leave it out")
        if view is not None:
            raise UsageError(f"{source} is no dataset and has no views; leave out --view {view}")
        drew = drawn_masks(
            source, known, sha256_of(model / MODEL), out, probability, cleaning, at, overwrite, progress
        )
    return Applied(drew, time.monotonic() - started)
