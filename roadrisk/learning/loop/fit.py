"""The training loop, whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.architecture import seeded
from roadrisk.learning.batches import TURNS, Lesson, NetworkInputs
from roadrisk.learning.judging.measures import ranking
from roadrisk.learning.loop.checkpoints import Checkpoints, saving_of
from roadrisk.learning.loop.devices import join_buffers, join_gradients, joined
from roadrisk.learning.loop.learner import Epoch, Learner, new_learner
from roadrisk.learning.loop.memory import as_memory_allows, parts
from roadrisk.learning.pictures.weights import State
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.tasks import Target, Task, losses, said

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SCORED_AT_ONCE = 256
TILES_NAMED = 3


def nothing(_: object) -> None:
    """Tell nobody."""


def fit(
    network: nn.Module,
    lesson: Lesson,
    watched: Lesson | None,
    task: Task,
    target: Target,
    settings: TrainSettings,
    seed: int,
    fabric: Fabric,
    checkpoints: Checkpoints | None = None,
    after_epoch: Callable[[Epoch], None] = nothing,
    told: Callable[[str], None] = nothing,
) -> State:
    """Weights after training: the best on `watched`, or the last without it.

    Parameters
    ----------
    network : `Batch` -> (B, K), or (B, K + 1) of a dispersed task; trained in place.
    watched : tiles that nothing is learned from. Training stops when their loss has not fallen for
        `settings.patience` epochs.
    settings : resolved.
    seed : of the order of batches, of turns and of dropout; the same gives the same weights.
    fabric : each of several processes is given the same network and lessons and takes its share of each
        batch. They end with the weights that one process would have, but for rounding and for dropout and
        batch norm, which see the share alone.
    checkpoints : where training goes on, to the weights it would have had without a break.
    after_epoch : is told of each epoch, first of those that a checkpoint brought.
    told : is told once where a batch does not fit into memory.

    Raises
    ------
    ModelError : a loss is not finite, one tile does not fit into memory, or a checkpoint is damaged or of
        another training.
    """
    saving = saving_of(checkpoints, fabric, network, (lesson, watched), settings, task, target, seed)
    learner = new_learner(network, settings, -(-len(lesson) // settings.batch_size), fabric)
    saving.bring(learner)
    for epoch in learner.epochs:
        after_epoch(epoch)
    cost, told = tile_costs(network, lesson, task, target, fabric), once(told)
    while not learner.done:
        started, number = time.monotonic(), len(learner.epochs) + 1
        order, turns, chance = drawn(len(lesson), settings.augment, seed, number, fabric.global_rank)
        costs = torch.zeros(len(lesson), dtype=torch.float64, device=fabric.device)  # (N,)
        with seeded(chance), in_mode(network, training=True), repeatable():
            for first in range(0, len(order), settings.batch_size):
                rows = order[first : first + settings.batch_size]
                mine = rows[fabric.global_rank :: fabric.world_size]
                costs[mine] = own_gradients(learner, cost, mine, turns, len(rows), fabric, told)
                join_gradients(network, fabric)
                if settings.clip_norm is not None:
                    fabric.clip_gradients(
                        network, learner.optimiser, max_norm=settings.clip_norm, error_if_nonfinite=False
                    )
                learner.step()
            for moved in dict.fromkeys((network, learner.judged)):
                join_buffers(moved, fabric)
        check_finite(joined(costs, fabric), order, settings.batch_size, number, lesson)
        loss = score = None
        if watched is not None:
            loss, score = judged(learner.judged, watched, task, target, fabric)
        seconds = time.monotonic() - started
        learner.add(Epoch(number, learner.of, float(costs.mean()), loss, score, seconds))
        saving.keep(learner)
        after_epoch(learner.epochs[-1])
    return learner.weights()


def raw_outputs(
    network: nn.Module, inputs: NetworkInputs, device: torch.device, augment: bool = False
) -> FloatArray:
    """What a network says of each tile, without dropout; its mode is left as it was.

    Parameters
    ----------
    augment : say the mean over the eight turns of the pictures.

    Returns
    -------
    (N, K), or (N, K + 1) of a dispersed task.
    """
    rows = np.arange(len(inputs))
    turns = range(TURNS) if augment else range(1)
    network.to(device)
    total = sum(outputs_of(network, inputs, rows, turn, device).double().cpu().numpy() for turn in turns)
    return np.asarray(total / len(turns))


def outputs_of(
    network: nn.Module, inputs: NetworkInputs, rows: IntArray, turn: int, device: torch.device
) -> Tensor:
    """(n, K[+1]) what the network says of these rows, all turned so."""

    def outputs(at_once: int) -> Tensor:
        return torch.cat(
            [
                network(inputs.batch(part, np.full(len(part), turn), device)).float()
                for part in parts(rows, at_once) or [rows]
            ]
        )

    with in_mode(network, training=False), torch.no_grad(), repeatable():
        return as_memory_allows(outputs, SCORED_AT_ONCE, nothing)[0]


class Draw(NamedTuple):
    """What chance decides of an epoch.

    Parameters
    ----------
    order : (N,) in which tiles are met.
    turns : (N,) of each tile's pictures.
    seed : of dropout.
    """

    order: IntArray
    turns: IntArray
    seed: int


def drawn(tiles: int, augment: bool, seed: int, epoch: int, process: int = 0) -> Draw:
    """What chance decides of an epoch, which follows from these numbers and from nothing before.

    Order and turns are the same in all processes, dropout is not.
    """
    chance = np.random.default_rng([seed, epoch])
    order = chance.permutation(tiles)
    turns = chance.integers(TURNS, size=tiles) if augment else np.zeros(tiles, np.int64)
    dropout = np.random.default_rng([seed, epoch, process + 1])
    return Draw(order, turns, int(dropout.integers(2**63)))


# rows (B,), turns (B,) -> what each costs (B,)
Cost = Callable[[IntArray, IntArray], Tensor]


def tile_costs(network: nn.Module, lesson: Lesson, task: Task, target: Target, fabric: Fabric) -> Cost:
    """What tiles of a lesson cost."""
    label, exposure = (torch.from_numpy(of).to(fabric.device) for of in (lesson.label, lesson.exposure))

    def cost(rows: IntArray, turns: IntArray) -> Tensor:
        batch = lesson.inputs.batch(rows, turns, fabric.device)
        with fabric.autocast():
            raw = network(batch)  # (B, K[+1])
        return losses(task, target, raw.float(), label[rows], exposure[rows])  # (B,)

    return cost


def own_gradients(
    learner: Learner,
    cost: Cost,
    rows: IntArray,
    turns: IntArray,
    tiles: int,
    fabric: Fabric,
    told: Callable[[str], None],
) -> Tensor:
    """Put the gradients of these rows into the network, in as many parts as memory asks for; (B,) costs.

    Parameters
    ----------
    tiles : in the batch, of which this process has `rows`.
    """

    def added(at_once: int) -> Tensor:
        learner.optimiser.zero_grad()
        costs = [torch.empty(0, dtype=torch.float64, device=fabric.device)]  # a share may be empty
        for part in parts(rows, at_once):
            some = cost(part, turns[part])  # (B,)
            fabric.backward(some.sum() / tiles)
            costs.append(some.detach().double())
        return torch.cat(costs)

    costs, learner.at_once = as_memory_allows(added, learner.at_once, told)
    return costs


def judged(
    network: nn.Module, lesson: Lesson, task: Task, target: Target, fabric: Fabric
) -> tuple[float, float]:
    """What tiles cost on average when nothing is dropped, and how well they are ranked.

    The same in all processes, who share the work.

    Raises
    ------
    ModelError : the loss is not finite.
    """
    rows = np.arange(len(lesson))[fabric.global_rank :: fabric.world_size]
    raw = torch.zeros(len(lesson), task.outputs + task.dispersed, dtype=torch.float64)  # (N, K[+1])
    with fabric.autocast():
        raw[rows] = outputs_of(network, lesson.inputs, rows, 0, fabric.device).cpu().double()
    raw = joined(raw.to(fabric.device), fabric).cpu()
    label, exposure = torch.from_numpy(lesson.label), torch.from_numpy(lesson.exposure)
    mean = float(losses(task, target, raw.float(), label, exposure).double().mean())
    if not np.isfinite(mean):
        raise ModelError(
            f"training went astray: the loss on validation tiles is {mean:g}; use a smaller learning_rate, "
            "or look for extreme values in the facts"
        )
    outputs = said(task, target, raw.numpy(), lesson.exposure)
    return mean, ranking(task, lesson.label, outputs)


def check_finite(costs: Tensor, order: IntArray, batch_size: int, epoch: int, lesson: Lesson) -> None:
    """Refuse an epoch in which a tile cost no finite number.

    Parameters
    ----------
    costs : (N,) of all tiles.
    order : (N,) in which they were met.
    """
    astray = ~np.isfinite(costs.cpu().numpy())
    if not astray.any():
        return
    batch = int(astray[order].argmax()) // batch_size
    rows = order[batch * batch_size : (batch + 1) * batch_size]
    rows = rows[astray[rows]]
    tiles = ", ".join(str(key) for key in lesson.key[rows[:TILES_NAMED]])
    more = f" and {len(rows) - TILES_NAMED} more" if len(rows) > TILES_NAMED else ""
    raise ModelError(
        f"training went astray: the loss is {float(costs[rows[0]]):g} in epoch {epoch}, batch {batch + 1} "
        f"(tiles {tiles}{more}); use a smaller learning_rate, or look for extreme values in their facts"
    )


def once(told: Callable[[str], None]) -> Callable[[str], None]:
    """Tell the same message once."""
    before: set[str] = set()

    def telling(message: str) -> None:
        if message not in before:
            before.add(message)
            told(message)

    return telling


@contextmanager
def in_mode(network: torch.nn.Module, training: bool) -> Iterator[None]:
    """The network in training or evaluation mode inside, and as it was outside."""
    before = network.training
    network.train(training)
    try:
        yield
    finally:
        network.train(before)


@contextmanager
def repeatable() -> Iterator[None]:
    """The same sums in the same order on a GPU inside; torch's own choice outside."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
