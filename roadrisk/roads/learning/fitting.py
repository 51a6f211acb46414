"""The loop that a network learns roads in, whole, and what a network draws of single units."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from roadrisk.errors import ModelError
from roadrisk.grid import IntArray
from roadrisk.learning.architecture import seeded
from roadrisk.learning.loop.checkpoints import Checkpoints, Saving, plan_of
from roadrisk.learning.loop.fit import in_mode, nothing, repeatable
from roadrisk.learning.loop.learner import Epoch, new_learner
from roadrisk.learning.loop.memory import is_out_of_memory
from roadrisk.learning.pictures.weights import State
from roadrisk.learning.settings import TrainSettings
from roadrisk.mosaic.picture import Mask
from roadrisk.nets.road_losses import cldice_loss, cldice_sums, dice_loss, dice_sums
from roadrisk.nets.segmentation import check_learns
from roadrisk.roads.drawing.drawn import LEVELS, Drawn, levels_of
from roadrisk.roads.drawing.lattice import SMALLEST_STRIDES, STRIDE_PX
from roadrisk.roads.judging.measures import best_level, histogram, iou_at
from roadrisk.roads.learning.crops import Batch, batches, cutting_of, drawn_crops
from roadrisk.roads.normal import Normal
from roadrisk.roads.scenes import RoadExamples, Window, within
from roadrisk.roads.settings import RoadSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WATCHED_UNITS = 256
SLOWER = "use a smaller learning_rate in --settings"


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a training ends with.

    Parameters
    ----------
    state : weights of the epoch with the lowest loss on what was watched.
    level : with these the level from which on road has the highest IoU there.
    epochs : each that was done.
    """

    state: State
    level: int
    epochs: tuple[Epoch, ...]


def fitted(
    network: nn.Module,
    examples: RoadExamples,
    learned: IntArray,
    watched: IntArray,
    normal: Normal,
    settings: RoadSettings,
    seed: int,
    fabric: Fabric,
    checkpoints: Checkpoints | None = None,
    after_epoch: Callable[[Epoch], None] = nothing,
) -> Fitted:
    """A network taught to draw roads, in place.

    Parameters
    ----------
    network : (B, bands, H, W) -> logits (B, 1, H, W).
    learned, watched : units; of others nothing is learned. Training stops when the loss on those watched has
        not fallen for `settings.patience` epochs.
    normal : of the pixels of `learned`.
    seed : of crops, their changes and dropout; the same gives the same weights.
    checkpoints : where training goes on, to the weights it would have had without a break.
    after_epoch : is told of each epoch, first of those that a checkpoint brought; its score is the best IoU.

    Raises
    ------
    UsageError : the network cannot learn from crops of this size.
    ModelError : a loss is not finite, a batch does not fit into memory, or a checkpoint is damaged or of
        another training.
    """
    check_learns(network, examples.bands, settings.crop_px * settings.shrink, settings.batch_size)
    saving = saving_of(checkpoints, fabric, network, examples, (learned, watched), normal, settings, seed)
    network.to(memory_format=torch.channels_last)
    cutting = cutting_of(examples, learned, normal, settings)
    steps = len(drawn_crops(examples, learned, settings, seed, 1)) // settings.batch_size
    learner = new_learner(network, loop_settings(settings), steps, fabric)
    saving.bring(learner)
    for epoch in learner.epochs:
        after_epoch(epoch)
    while not learner.done:
        started, number = time.monotonic(), len(learner.epochs) + 1
        crops = drawn_crops(examples, learned, settings, seed, number)
        losses = torch.empty(steps, dtype=torch.float64, device=fabric.device)
        dropout = int(np.random.default_rng([seed, number, 1]).integers(2**63))
        with (
            seeded(dropout),
            in_mode(network, training=True),
            repeatable(),
            closing(batches(cutting, crops, settings.batch_size)) as ready,
        ):
            for step, batch in enumerate(ready):
                learner.optimiser.zero_grad()
                losses[step] = gradients(network, batch, settings, fabric)
                learner.step()
        check_finite(losses, number)
        seen = watched_once(learner.judged, examples, watched, normal, settings, fabric.device)
        seconds = time.monotonic() - started
        learner.add(Epoch(number, learner.of, float(losses.mean()), seen.loss, seen.iou, seconds))
        saving.keep(learner)
        after_epoch(learner.epochs[-1])
    state = learner.weights()
    network.load_state_dict(state)
    seen = watched_once(network, examples, watched, normal, settings, fabric.device)
    return Fitted(state, best_level(seen.histogram), tuple(learner.epochs))


def loop_settings(settings: RoadSettings) -> TrainSettings:
    """The same settings as the loop of every training takes them, also for `fabric_of`."""
    shared = ("epochs", "patience", "learning_rate", "schedule", "weight_decay", "batch_size")
    where = ("precision", "seed", "device")
    return TrainSettings(**{name: getattr(settings, name) for name in (*shared, *where)})


def gradients(network: nn.Module, batch: Batch, settings: RoadSettings, fabric: Fabric) -> Tensor:
    """Put the gradients of a batch into the network; () what it costs.

    Raises
    ------
    ModelError : it does not fit into memory. It is not halved: batch norm would see another batch.
    """
    pictures, road, known = (of.to(fabric.device, non_blocking=True) for of in batch)
    try:
        with fabric.autocast():
            logits = network(pictures.contiguous(memory_format=torch.channels_last))  # (B, 1, H, W)
        loss = loss_of(sums_of(logits.float(), road, known, settings), settings)
        fabric.backward(loss)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"out of memory with {len(pictures)} crops of {pictures.shape[-1]} px at once; use a smaller "
            "--encoder, or a smaller batch_size or crop_px in --settings"
        ) from None
    return loss.detach().double()


def sums_of(logits: Tensor, road: Tensor, known: Tensor, settings: RoadSettings) -> Tensor:
    """What the loss that is asked for adds up; of several pictures it may be added."""
    if settings.loss == "cldice":
        return cldice_sums(logits, road, known, settings.shrink)
    return dice_sums(logits, road, known)


def loss_of(sums: Tensor, settings: RoadSettings) -> Tensor:
    """() the loss that is asked for."""
    return cldice_loss(sums) if settings.loss == "cldice" else dice_loss(sums)


class Watched(NamedTuple):
    """How well units are drawn that nothing is learned from.

    Parameters
    ----------
    iou : at the best level; None where they show no road.
    histogram : (2, 256) of pixels by truth and level.
    """

    loss: float
    iou: float | None
    histogram: IntArray


def watched_once(
    network: nn.Module,
    examples: RoadExamples,
    rows: IntArray,
    normal: Normal,
    settings: RoadSettings,
    device: torch.device,
) -> Watched:
    """How well these units are drawn, or so many of them spread evenly over the names.

    Raises
    ------
    ModelError : the loss is not finite.
    """
    rows = rows[np.argsort(examples.key[rows], kind="stable")]
    if len(rows) > WATCHED_UNITS:
        rows = rows[np.linspace(0, len(rows) - 1, WATCHED_UNITS).round().astype(np.int64)]
    sums, counts = torch.zeros((), dtype=torch.float64), np.zeros((2, LEVELS), np.int64)
    for row, logits, valid in _logits_of_units(network, examples, rows, normal, settings.shrink, 0, device):
        truth = examples.scenes[examples.scene[row]].truths.read(examples.window(row))
        known = truth.known & valid
        road, seen = (torch.from_numpy(of).float()[None, None] for of in (truth.road & known, known))
        sums = sums + sums_of(logits[None, None], road, seen, settings).double()
        counts += histogram(levels_of(logits.sigmoid().numpy()), truth, valid)
    loss = float(loss_of(sums, settings))
    if not np.isfinite(loss):
        raise ModelError(f"training went astray: the watched loss is {loss:g}; {SLOWER}")
    return Watched(loss, iou_at(counts, best_level(counts)), counts)


def check_finite(losses: Tensor, epoch: int) -> None:
    """Refuse an epoch in which a batch cost no finite number.

    Parameters
    ----------
    losses : (steps,).
    """
    astray = (~losses.isfinite()).nonzero()
    if len(astray):
        step = int(astray[0])
        raise ModelError(
            f"training went astray: the loss is {float(losses[step]):g} in epoch {epoch}, batch {step + 1}; "
            f"{SLOWER}"
        )


def saving_of(
    checkpoints: Checkpoints | None,
    fabric: Fabric,
    network: nn.Module,
    examples: RoadExamples,
    parts: tuple[IntArray, IntArray],
    normal: Normal,
    settings: RoadSettings,
    seed: int,
) -> Saving:
    """How a training is kept whose network is as it was before the first step.

    Parameters
    ----------
    parts : units to learn from, and to watch.
    """
    if checkpoints is None:
        return Saving(None, "", fabric)
    names = [sorted(str(key) for key in examples.key[rows]) for rows in parts]
    plain = asdict(settings) | {"examples": examples.identity, "parts": names, "seed": seed}
    return Saving(checkpoints, plan_of(plain | {"normal": asdict(normal)}, network), fabric)


def levels_of_units(
    network: nn.Module,
    examples: RoadExamples,
    rows: IntArray,
    normal: Normal,
    shrink: int,
    device: torch.device,
    halo_px: int = 0,
) -> Iterator[tuple[int, Drawn]]:
    """What a network draws of units one after another, each seen with a margin of what lies around it.

    Parameters
    ----------
    halo_px : around a unit that is drawn besides.

    Yields
    ------
    The unit's row, and what is drawn of (unit height + 2 `halo_px`, unit width + 2 `halo_px`) pixels.
    """
    for row, logits, valid in _logits_of_units(network, examples, rows, normal, shrink, halo_px, device):
        yield row, Drawn(levels_of(logits.sigmoid().numpy()) * valid, valid)


def _logits_of_units(
    network: nn.Module,
    examples: RoadExamples,
    rows: IntArray,
    normal: Normal,
    shrink: int,
    halo_px: int,
    device: torch.device,
) -> Iterator[tuple[int, Tensor, Mask]]:
    """Of each unit with its halo the logits (H, W) and whether there is a picture."""
    network.to(device)
    for row in rows.tolist():
        plane, (y, x, height, width) = examples.scenes[examples.scene[row]].plane, examples.window(row)
        wanted = Window(y - halo_px, x - halo_px, height + 2 * halo_px, width + 2 * halo_px)
        window = seen_window(wanted, plane.height, plane.width, STRIDE_PX * shrink)
        picture = plane.read(window)
        given = torch.from_numpy(normal.of(picture))[None].to(device)  # (1, bands, h, w)
        with in_mode(network, training=False), torch.inference_mode(), repeatable():
            drawn = network(given.contiguous(memory_format=torch.channels_last))  # (1, 1, h, w)
        logits, valid = torch.zeros(wanted[2:]), np.zeros(wanted[2:], bool)
        there, here = within(wanted, window), within(window, wanted)
        logits[here], valid[here] = drawn[0, 0].float().cpu()[there], picture.valid[there]
        yield row, logits, valid


def seen_window(wanted: Window, height: int, width: int, stride_px: int) -> Window:
    """What a network is given to draw a window of a plane: a margin of one stride, where the plane has it.

    Parameters
    ----------
    height, width : of the plane.
    stride_px : windows begin and end at multiples of it.

    Examples
    --------
    >>> seen_window(Window(256, 0, 256, 256), 1024, 1024, 64)
    Window(y=192, x=0, height=384, width=320)
    >>> seen_window(Window(0, 0, 400, 100), 400, 100, 64)
    Window(y=0, x=0, height=448, width=256)
    """
    y, tall = _side(wanted.y, wanted.height, height, stride_px)
    x, wide = _side(wanted.x, wanted.width, width, stride_px)
    return Window(y, x, tall, wide)


def _side(start: int, length: int, plane: int, stride: int) -> tuple[int, int]:
    first = max(0, (start - stride) // stride)
    last = min(-(-(start + length + stride) // stride), -(-plane // stride))
    first = max(0, min(first, last - SMALLEST_STRIDES))
    return first * stride, max(last - first, SMALLEST_STRIDES) * stride
