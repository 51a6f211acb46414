"""Small lessons with a planted relation, and networks that can learn it; also run as a training by itself."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from roadrisk.learning.architecture import seeded
from roadrisk.learning.batches import Lesson, NetworkInputs
from roadrisk.learning.loop.checkpoints import Checkpoints
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.loop.fit import fit
from roadrisk.learning.loop.learner import Epoch
from roadrisk.learning.pictures.weights import State
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import Target, Task, learned_target
from roadrisk.nets.fusion import MultiModalNN
from roadrisk.nets.image import FeatureHead
from roadrisk.nets.tabular import TabularNN

FEATURES, FACTS = 8, 3
CPU = torch.device("cpu")
CLASS = Task()
VALUE = Task("value", "mse", ())
COUNT = Task("count", "negative-binomial", ())


def lesson_of(tiles: int, seed: int = 0, kind: str = "class", pictured: float = 0.75) -> Lesson:
    """Facts and features of pictures that say what is to be learned, one by one and together."""
    chance = np.random.default_rng([seed, 7])
    numbers = chance.normal(size=(tiles, FACTS)).astype(np.float32)
    features = torch.from_numpy(chance.normal(size=(tiles, FEATURES)).astype(np.float32))
    picture = np.where(chance.random(tiles) < pictured, np.arange(tiles), -1)
    signal = numbers[:, 0] + np.where(picture >= 0, features[:, 0].numpy(), 0)
    label = {
        "class": (signal > 0.5).astype(np.float64),
        "classes": np.digitize(signal, [-0.7, 0.7]).astype(np.float64),
        "value": 40 + 5.0 * signal,
        "count": chance.poisson(np.exp(0.8 * signal)).astype(np.float64),
    }[kind]

    def turned(indices: np.ndarray[Any, Any], turns: np.ndarray[Any, Any]) -> torch.Tensor:
        # a turn changes what no label depends on
        taken = features[torch.from_numpy(indices)].clone()
        taken[:, 1] += torch.from_numpy(turns)
        return taken

    inputs = NetworkInputs(
        numbers, np.zeros((tiles, 0), np.int64), np.ones(tiles, bool), picture[:, None], (turned,)
    )
    return Lesson(inputs, np.array([f"t{n:03d}" for n in range(tiles)]), label, np.ones(tiles))


def network_for(task: Task = CLASS, dropout: float = 0.0, seed: int = 0) -> MultiModalNN:
    with seeded(seed):
        return MultiModalNN(
            [FeatureHead(FEATURES, 16, dropout=dropout)],
            TabularNN(FACTS, dropout=dropout),
            "mlp",
            task.outputs,
            dispersed=task.dispersed,
            dropout=dropout,
            modality_dropout=dropout / 2,
        )


def settings_with(**given: Any) -> TrainSettings:
    return resolved(TrainSettings(**({"device": "cpu", "epochs": 3, "batch_size": 8} | given)))


def cpu_fabric(**given: Any) -> Fabric:
    return fabric_of(settings_with(**given))


def trained(
    lesson: Lesson,
    watched: Lesson | None = None,
    task: Task = CLASS,
    seed: int = 0,
    fabric: Fabric | None = None,
    network: torch.nn.Module | None = None,
    dropout: float = 0.0,
    **given: Any,
) -> State:
    """Weights after `fit`; what is given besides is a setting, or goes to `fit` by its name."""
    told = {name: given.pop(name) for name in ("checkpoints", "after_epoch", "told") if name in given}
    settings = settings_with(**given)
    return fit(
        network if network is not None else network_for(task, dropout),
        lesson,
        watched,
        task,
        learned_target(task, lesson.label) if task.kind != "class" else Target(),
        settings,
        seed,
        fabric or fabric_of(settings),
        **told,
    )


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def largest_difference(first: State, second: State) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


# everything that a training can carry from one epoch to the next
EVERYTHING = {
    "dropout": 0.4,
    "augment": True,
    "average": 0.9,
    "schedule": "one-cycle",
    "clip_norm": 1.0,
    "weight_decay": 0.01,
    "patience": 4,
}


def main(checkpoints: Path, out: Path, epochs: int, kill_after: int, precision: str) -> None:
    """Train with checkpoints and say each epoch; kill this process, for certain, after one of them."""

    def after_epoch(epoch: Epoch) -> None:
        print(epoch.number, flush=True)
        if epoch.number == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    state = trained(
        lesson_of(40),
        lesson_of(24, seed=1),
        checkpoints=Checkpoints(checkpoints, "fold-0"),
        after_epoch=after_epoch,
        epochs=epochs,
        precision=precision,
        **EVERYTHING,
    )
    torch.save(state, out)


def without_pictures(lesson: Lesson) -> Lesson:
    return replace(lesson, inputs=replace(lesson.inputs, picture=np.full_like(lesson.inputs.picture, -1)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
