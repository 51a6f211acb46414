"""The folder of a training that is not done: held for one run, and of one lot of tiles and weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from roadrisk.errors import ModelError, RoadriskError
from roadrisk.files import locked

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PLAN = "plan"


@contextmanager
def unfinished(out: Path, resume: bool, plan: str, fabric: Fabric) -> Iterator[Path]:
    """The folder that keeps how far a training is, beside the model it will make; gone when that is written.

    It is held for this run while it lasts. What fails before anything is kept leaves no folder.

    Parameters
    ----------
    plan : identity of the tiles and of the encoder's first weights; settings are a checkpoint's own.

    Raises
    ------
    ModelError : an unfinished training is there and is not to be gone on with, or is not there and is; it is
        of other tiles or weights; or the folder cannot be made.
    DatasetError : another run trains into it.
    """
    folder = out.with_name(out.name + ".training")
    if resume and not folder.exists():
        raise ModelError(f"--resume: there is no unfinished training at {folder}; leave it out")
    there = folder.exists()
    fabric.barrier()  # all processes have looked before the first makes it
    with _held(folder, new=not there) if fabric.is_global_zero else nullcontext():
        if there and not resume:
            raise ModelError(
                f"{folder} holds an unfinished training; go on with it by --resume, or remove it"
            )
        if fabric.is_global_zero:
            _check_plan(folder, plan)
        yield folder


@contextmanager
def _held(folder: Path, new: bool) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make {folder} ({error.strerror}); choose another -o") from None
    with locked(folder):
        try:
            yield
        except RoadriskError as error:
            kept = {path.name for path in folder.iterdir()} - {PLAN}
            # a checkpoint that found no room tells to make some and go on
            if new and not kept and not isinstance(error.__cause__, OSError):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _check_plan(folder: Path, plan: str) -> None:
    """Go on with the same tiles and weights only: a checkpoint does not know the pictures."""
    file = folder / PLAN
    try:
        if not file.exists():
            file.write_text(plan)
        elif file.read_text() != plan:
            raise ModelError(
                f"{folder} is of other tiles or weights; go on with those it began with, or remove it"
            )
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} cannot be read or written ({error}); choose another -o") from None
