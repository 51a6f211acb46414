"""Trainings that several processes do together, as `torchrun` starts them, and one process alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lessons import COUNT, EVERYTHING, lesson_of, network_for, trained, without_pictures
from lightning_fabric import Fabric

from roadrisk.errors import ModelError
from roadrisk.learning.architecture import seeded
from roadrisk.learning.batches import Lesson
from roadrisk.learning.loop.checkpoints import Checkpoints
from roadrisk.learning.loop.fit import drawn
from roadrisk.learning.loop.learner import Epoch
from roadrisk.learning.pictures.weights import State
from roadrisk.nets.batch import Batch

TILES, BATCH = 41, 8  # the last batch has one tile, so the second of two processes has none of it
ALL_EQUAL = {name: value for name, value in EVERYTHING.items() if name != "dropout"}


def pictures_of_one_share() -> Lesson:
    """Only the first of two processes meets pictures in the first epoch."""
    lesson = lesson_of(TILES, pictured=1.0)
    order = drawn(TILES, False, 0, 1).order
    second = np.concatenate([order[first : first + BATCH][1::2] for first in range(0, TILES, BATCH)])
    picture = lesson.inputs.picture.copy()
    picture[second] = -1
    return replace(lesson, inputs=replace(lesson.inputs, picture=picture))


class Small(torch.nn.Module):
    """Runs out of memory with more than so many tiles."""

    def __init__(self, tiles: int) -> None:
        super().__init__()
        self.inner, self.tiles = network_for(), tiles

    def forward(self, batch: Batch) -> torch.Tensor:
        if len(batch.has_facts) > self.tiles:
            torch.empty(1 << 60)
        return self.inner(batch)


class Convolved(torch.nn.Module):
    """Has weights whose layout in memory is not their shape."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network_for()
        with seeded(3):
            self.conv = torch.nn.Conv2d(3, 1, 2).to(memory_format=torch.channels_last)
        assert not self.conv.weight.is_contiguous()

    def forward(self, batch: Batch) -> torch.Tensor:
        corners = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        maps = batch.numbers[:, :, None, None] * corners  # (B, 3, 2, 2)
        return self.inner(batch) + self.conv(maps).flatten(1)


class Normalised(torch.nn.Module):
    """Has running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = torch.nn.BatchNorm1d(3), network_for()

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.inner(batch._replace(numbers=self.norm(batch.numbers)))


class StoppedError(Exception):
    """Stands for a kill."""


def stop_after(last: int) -> Callable[[Epoch], None]:
    def after_epoch(epoch: Epoch) -> None:
        if epoch.number == last:
            raise StoppedError

    return after_epoch


def gone_on(fabric: Fabric, folder: Path) -> State:
    given = {"fabric": fabric, "epochs": 4, "batch_size": BATCH, "checkpoints": Checkpoints(folder, "x")}
    try:
        trained(lesson_of(TILES), lesson_of(9, 1), after_epoch=stop_after(2), **EVERYTHING, **given)
    except StoppedError:
        return trained(lesson_of(TILES), lesson_of(9, 1), **EVERYTHING, **given)
    raise AssertionError("it was not stopped")


def astray(fabric: Fabric) -> str:
    lesson = lesson_of(TILES)
    lesson.inputs.numbers[17] = np.inf
    try:
        trained(lesson, fabric=fabric, batch_size=BATCH)
    except ModelError as error:
        return str(error)
    raise AssertionError("an infinite fact was learned from")


def results(fabric: Fabric, folder: Path) -> dict[str, Any]:
    """What each training ends with."""
    given: dict[str, Any] = {"fabric": fabric, "batch_size": BATCH}
    rank = fabric.global_rank
    return {
        "plain": trained(lesson_of(TILES), **given),
        "everything": trained(lesson_of(TILES), lesson_of(9, 1), **given, **ALL_EQUAL),
        "a share without pictures": trained(pictures_of_one_share(), **given),
        "no picture": trained(without_pictures(lesson_of(TILES)), **given, weight_decay=0.1),
        "counts": trained(lesson_of(TILES, kind="count"), task=COUNT, **given),
        "odd batches": trained(lesson_of(TILES), fabric=fabric, batch_size=7),
        "channels last": trained(lesson_of(TILES), network=Convolved(), **given),
        "little memory": trained(lesson_of(TILES), network=Small(1 if rank else 4), **given),
        "dropout": trained(lesson_of(TILES), dropout=0.5, **given),
        "statistics": trained(lesson_of(TILES - 1), network=Normalised(), **given),
        "averaged statistics": trained(lesson_of(TILES - 1), network=Normalised(), average=0.9, **given),
        "undisturbed": trained(
            lesson_of(TILES), lesson_of(9, 1), fabric=fabric, epochs=4, batch_size=BATCH, **EVERYTHING
        ),
        "gone on": gone_on(fabric, folder),
        "astray": astray(fabric),
    }


if __name__ == "__main__":
    from lessons import cpu_fabric

    whole = cpu_fabric(devices=2)
    out = Path(sys.argv[1])
    torch.save(results(whole, out / "checkpoints"), out / f"{whole.global_rank}.pt")
