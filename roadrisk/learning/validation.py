"""Cross-validation: every tile is judged by a model that did not see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.architecture import Architecture, network_of
from roadrisk.learning.batches import Lesson, NetworkInputs
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts.preparation import Preparation, learned_preparation
from roadrisk.learning.folds import Folds, inner_folds
from roadrisk.learning.labels.label import high_risk
from roadrisk.learning.loop.checkpoints import Checkpoints
from roadrisk.learning.loop.fit import fit, raw_outputs
from roadrisk.learning.loop.learner import Epoch
from roadrisk.learning.loop.logs import epoch_log
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.pictures.weights import State
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.tasks import Target, learned_target, losses, said
from roadrisk.progress import Progress, silent

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WATCHED_PART = 5  # one in so many of a fold's training blocks is watched to know when to stop


@dataclass(frozen=True, eq=False)
class FoldModel:
    """What one fold learned: how facts are prepared, the label's scale, and weights."""

    preparation: Preparation
    target: Target
    state: State


@dataclass(frozen=True, eq=False)
class Watched:
    """What a model loses on the training tiles that only told it when to stop.

    Parameters
    ----------
    key : (n,) of the tiles.
    loss : (n,) of each.
    """

    key: NDArray[Any]
    loss: FloatArray


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """The models of all folds and what each says of the tiles it did not see.

    Parameters
    ----------
    outputs : (N, K) out of fold, as the task says them.
    fold : (N,) whose model said it.
    models : one a fold.
    watched : one a fold; None where there were too few tiles to watch some.
    told : what whoever reads the scores should know of how they came about.
    """

    outputs: FloatArray
    fold: IntArray
    models: tuple[FoldModel, ...]
    watched: tuple[Watched | None, ...]
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Training:
    """What all fits of a training share.

    Parameters
    ----------
    settings : resolved.
    fabric : device, precision and processes.
    block, buffer : of spatial folds [tiles].
    encoder : first weights of a tuned encoder; None where the network has none.
    checkpoints : folder of what is kept to go on after an interruption; None for none.
    logs : folder of a log of each fit, where settings ask for one.
    progress : is told of pictures, and of epochs with loss, score and minutes left.
    """

    settings: TrainSettings
    fabric: Fabric
    block: int
    buffer: int
    encoder: State | None = None
    checkpoints: Path | None = None
    logs: Path | None = None
    progress: Progress = silent


def cross_validated(
    examples: Examples,
    folds: Folds,
    architecture: Architecture,
    images: Sequence[ImageFeed | None],
    training: Training,
    name: str = "train",
) -> CrossValidation:
    """A model for each fold, and its word on the tiles that it did not see.

    Parameters
    ----------
    examples : all with a label; taken in the order of their keys, so that no order of rows matters.
    folds : of the same rows.
    images : feeds of the views of `examples`; None for one that no tile has.
    name : of this cross-validation, for progress, checkpoints and logs.

    Raises
    ------
    ModelError : no fact tells anything, no tile has a picture where one is needed, or the loss is not
        finite.
    """
    order = np.argsort(examples.key, kind="stable")
    ordered, ordered_folds = examples.taken(order), folds.taken(order)
    for view, feed in enumerate(images):
        if feed is not None and architecture.views:
            seen = ordered.picture[:, view]
            with training.fabric.rank_zero_first():
                feed.ready(seen[seen >= 0], training.progress)
    outputs = np.full((len(examples), architecture.task.outputs), np.nan)
    models, watched, told = [], [], []
    clock = _Clock(name, folds.count, training)
    for k in range(folds.count):
        train, test = ordered.taken(ordered_folds.train_rows(k)), ordered_folds.test_rows(k)
        learned = fold_model(train, architecture, images, training, f"{name}-{k}", k, clock.of(k))
        outputs[order[test]] = words_of(
            learned.model, architecture, ordered.taken(test), images, training.fabric.device
        )
        models.append(learned.model)
        watched.append(learned.watched)
        told += learned.told
    return CrossValidation(outputs, folds.fold, tuple(models), tuple(watched), tuple(dict.fromkeys(told)))


def words_of(
    model: FoldModel,
    architecture: Architecture,
    examples: Examples,
    images: Sequence[ImageFeed | None],
    device: torch.device,
) -> FloatArray:
    """(N, K) what one model says of tiles, as the task says it.

    Parameters
    ----------
    images : feeds of the views, ready for these tiles.
    """
    raw = _raw(model, architecture, examples, images, device)
    return said(architecture.task, model.target, raw, examples.exposure)


def _raw(
    model: FoldModel,
    architecture: Architecture,
    examples: Examples,
    images: Sequence[ImageFeed | None],
    device: torch.device,
) -> FloatArray:
    network = network_of(architecture, model.preparation.shape)
    network.load_state_dict(model.state)
    inputs = network_inputs(examples, model.preparation, architecture, images)
    return raw_outputs(network, inputs, device, architecture.augment)


class Learned(NamedTuple):
    """A model, what it loses on the tiles that it watched, and what is to be said of it."""

    model: FoldModel
    watched: Watched | None
    told: list[str]


def fold_model(
    train: Examples,
    architecture: Architecture,
    images: Sequence[ImageFeed | None],
    training: Training,
    name: str,
    k: int,
    after_epoch: Callable[[Epoch], None],
) -> Learned:
    """What is learned from training tiles, some blocks of which only tell when to stop.

    Parameters
    ----------
    train : in the order of their keys.
    images : feeds of the views, ready for these tiles.
    k : number of the fold, which the seed follows.

    Raises
    ------
    ModelError : as of `cross_validated`.
    """
    settings, notes = training.settings, list[str]()
    preparation = learned_preparation(train, settings)
    _check_inputs(train, preparation, architecture)
    seed = fold_seed(settings.seed, k)
    learned, watched = _watched(train, architecture, training, seed, notes)
    target = learned_target(architecture.task, learned.label, learned.exposure)
    network = network_of(architecture, preparation.shape, seed, training.encoder)
    name = name.replace(" ", "-")
    checkpoints = Checkpoints(training.checkpoints, name) if training.checkpoints else None
    with epoch_log(settings.log if training.logs else None, training.logs or Path(), name) as logged:

        def told(epoch: Epoch) -> None:
            logged(epoch)
            after_epoch(epoch)

        state = fit(
            network,
            lesson_of(learned, preparation, architecture, images),
            lesson_of(watched, preparation, architecture, images) if watched is not None else None,
            architecture.task,
            target,
            settings,
            seed,
            training.fabric,
            checkpoints,
            told,
            notes.append,
        )
    model = FoldModel(preparation, target, state)
    if watched is None:
        return Learned(model, None, notes)
    raw = torch.as_tensor(_raw(model, architecture, watched, images, training.fabric.device))
    label, exposure = (torch.as_tensor(values) for values in (watched.label, watched.exposure))
    loss = losses(architecture.task, target, raw, label, exposure).double().numpy()
    return Learned(model, Watched(watched.key, loss), notes)


def _watched(
    train: Examples, architecture: Architecture, training: Training, seed: int, notes: list[str]
) -> tuple[Examples, Examples | None]:
    """Training tiles to learn from, and those of other blocks that tell when to stop."""
    high = high_risk(architecture.task, train.label)
    try:
        inner = inner_folds(
            train.key, train.row, train.col, high, WATCHED_PART, seed, training.block, training.buffer
        )
    except ModelError:
        notes.append(
            f"too few blocks or tiles of each kind to watch some of them; all "
            f"{training.settings.epochs} epochs were run"
        )
        return train, None
    # the fullest block is dealt first, and alone it would make a fold that is like no other
    shares = [high[inner.test_rows(k)].mean() for k in range(inner.count)]
    most_alike = int(np.argmin(np.abs(np.array(shares) - high.mean())))
    return train.taken(inner.train_rows(most_alike)), train.taken(inner.test_rows(most_alike))


class _Clock:
    """Tells epochs done, loss, score and minutes left of a cross-validation."""

    def __init__(self, name: str, folds: int, training: Training) -> None:
        self.name, self.folds, self.training = name, folds, training
        self.spent = [0.0] * folds

    def of(self, k: int) -> Callable[[Epoch], None]:
        """What is told of each epoch of fold k."""
        most = self.training.settings.epochs or 1

        def told(epoch: Epoch) -> None:
            self.spent[k] += epoch.seconds
            # at most: folds stop early
            left = epoch.seconds * (most - epoch.number) + sum(self.spent[: k + 1]) / (k + 1) * (
                self.folds - k - 1
            )
            note = f"loss {epoch.loss:.3f}"
            if epoch.watched_loss is not None:
                note = f"loss {epoch.watched_loss:.3f}, score {epoch.watched_score:.3f}"
            self.training.progress(
                self.name, k * most + epoch.number, self.folds * most, f"{note}, {left / 60:.1f} min left"
            )

        return told


def _none_there(indices: IntArray, turns: IntArray) -> Tensor:
    """The pictures of a view that has none."""
    return torch.empty(0)


def lesson_of(
    examples: Examples,
    preparation: Preparation,
    architecture: Architecture,
    images: Sequence[ImageFeed | None],
) -> Lesson:
    """Labelled tiles as the loop takes them."""
    inputs = network_inputs(examples, preparation, architecture, images)
    return Lesson(inputs, examples.key, examples.label, examples.exposure)


def network_inputs(
    examples: Examples,
    preparation: Preparation,
    architecture: Architecture,
    images: Sequence[ImageFeed | None],
) -> NetworkInputs:
    """What a fold's network is given of these tiles.

    Parameters
    ----------
    images : feeds by index of `examples.picture`; None for a view that no tile has.

    Raises
    ------
    ModelError : a column that was learned from is not there.
    """
    n = len(examples)
    numbers, codes, has_facts = np.empty((n, 0), np.float32), np.empty((n, 0), np.int64), np.zeros(n, bool)
    if architecture.facts is not None:
        numbers, codes = preparation.prepared(examples)
        has_facts = examples.has_facts if architecture.facts_can_be_absent else np.ones(n, bool)
    views = len(architecture.views)
    return NetworkInputs(
        numbers,
        codes,
        has_facts,
        examples.picture[:, :views],
        tuple(feed.tensors if feed else _none_there for feed in images[:views]),
    )


def _check_inputs(train: Examples, preparation: Preparation, architecture: Architecture) -> None:
    """A branch that learned from nothing would score other tiles by its first, random weights."""
    for view, name in enumerate(v.view for v in architecture.views):
        if not (train.picture[:, view] >= 0).any():
            raise ModelError(
                f"no training tile has a picture{f' of {name}' if name else ''}; use --inputs facts, "
                "other --views, or tile with --imagery"
            )
    if architecture.facts is not None and preparation.shape == (0, ()):
        raise ModelError(
            "no fact differs between training tiles; use --inputs image, or add sources of facts"
        )


def fold_seed(seed: int, k: int) -> int:
    """The seed of fold k: folds share none, nor do neighbouring seeds.

    >>> fold_seed(0, 1) != fold_seed(1, 0)
    True
    """
    return int(np.random.SeedSequence([seed, k]).generate_state(1)[0])
