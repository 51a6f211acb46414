"""Cross-validation: every tile is judged by a model that did not see it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.architecture import Architecture, network_of
from roadrisk.learning.examples import Examples
from roadrisk.learning.fit import NetworkInputs, fit, logits
from roadrisk.learning.folds import Folds
from roadrisk.learning.frozen import ImageFeed, ImageTensors
from roadrisk.learning.preparation import Preparation, learned_preparation
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.weights import State
from roadrisk.progress import Progress, silent

TEXT, NUMBERS = ("split", "dataset", "key"), ("label", "logit", "probability")


@dataclass(frozen=True, eq=False)
class FoldModel:
    """What one fold learned: how facts are prepared, and weights."""

    preparation: Preparation
    state: State


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """The models of all folds and what each says of the tiles it did not see.

    Parameters
    ----------
    logit : (N,) out of fold.
    fold : (N,) whose model said it.
    models : one a fold.
    """

    logit: FloatArray
    fold: IntArray
    models: tuple[FoldModel, ...]


@dataclass(frozen=True)
class Clock:
    """Tells the minutes left of several cross-validations from the epochs done so far.

    Parameters
    ----------
    stage : name under which progress is told.
    later : epochs that come after this cross-validation.
    """

    stage: str
    progress: Progress = silent
    later: int = 0

    def told(self, done: int, of: int, seconds: float) -> None:
        """Say how far it is."""
        minutes = seconds / done * (of - done + self.later) / 60
        self.progress(self.stage, done, of, f"{minutes:.1f} min left")


def cross_validated(
    examples: Examples,
    folds: Folds,
    settings: TrainSettings,
    architecture: Architecture,
    images: ImageFeed | None,
    device: torch.device,
    clock: Clock | None = None,
) -> CrossValidation:
    """A model for each fold, and its word on the tiles that it did not see.

    Parameters
    ----------
    examples : all with a label; taken in the order of their keys, so that no order of rows matters.
    folds : of the same rows.
    settings : resolved.
    images : feeds the image branch; None where there is none or no tile has a picture.

    Raises
    ------
    ModelError : no fact tells anything, no tile has a picture where one is needed, or the loss is not
        finite.
    """
    clock = clock or Clock("train")
    order = np.argsort(examples.key, kind="stable")
    ordered, ordered_folds = examples.taken(order), folds.taken(order)
    if images is not None and architecture.inputs != "facts":
        images.ready(ordered.picture[ordered.has_image], clock.progress)
    tensors = images.tensors if images else None
    started, epochs = time.monotonic(), folds.count * (settings.epochs or 0)
    logit, models = np.empty(len(examples)), []
    for k in range(folds.count):

        def after_epoch(epoch: int, _loss: float, before: int = k * (settings.epochs or 0)) -> None:
            clock.told(before + epoch, epochs, time.monotonic() - started)

        train, test = ordered.taken(ordered_folds.train_rows(k)), ordered_folds.test_rows(k)
        preparation = learned_preparation(train.facts, train.columns, train.area_km2)
        _check_inputs(train, preparation, architecture, images)
        seed = fold_seed(settings.seed, k)
        network = network_of(architecture, len(preparation.facts), seed)
        inputs = network_inputs(train, preparation, architecture, tensors)
        state = fit(network, inputs, train.label, settings, seed, device, after_epoch)
        unseen = network_inputs(ordered.taken(test), preparation, architecture, tensors)
        logit[order[test]] = logits(network, unseen, device)
        models.append(FoldModel(preparation, state))
    return CrossValidation(logit, folds.fold, tuple(models))


def network_inputs(
    examples: Examples, preparation: Preparation, architecture: Architecture, images: ImageTensors | None
) -> NetworkInputs:
    """What a fold's network is given of these tiles.

    Parameters
    ----------
    images : tensors of pictures by their index in `examples.picture`; None where no tile has one.

    Raises
    ------
    ModelError : a column that was learned from is not there.
    """
    uses_facts, uses_images = architecture.inputs != "image", architecture.inputs != "facts"
    facts = preparation.prepared(examples.facts, examples.columns, examples.area_km2) if uses_facts else None
    return NetworkInputs(facts, examples.picture, images if uses_images else None)


def check_out_of_fold(table: pd.DataFrame, split: str, folds: int, where: str) -> None:
    """Refuse a table that would score a training tile by the wrong fold, or by none.

    Parameters
    ----------
    split : the one whose `folds` models are there.

    Raises
    ------
    ValueError : what is wrong in `where`.
    """
    lacking = [name for name in (*TEXT, "fold", *NUMBERS) if name not in table]
    if lacking:
        raise ValueError(f"{where} lacks {', '.join(lacking)}")
    for name in TEXT:
        if not pd.api.types.is_string_dtype(table[name]):
            raise ValueError(f"{name} in {where} is not text")
    for name in NUMBERS:
        if not pd.api.types.is_float_dtype(table[name]) or not np.isfinite(table[name].to_numpy(float)).all():
            raise ValueError(f"{name} in {where} is not finite numbers")
    if not pd.api.types.is_integer_dtype(table["fold"]) or table.isna().to_numpy().any():
        raise ValueError(f"fold in {where} is not whole numbers, or a value is missing")
    own = table.loc[table["split"] == split, "fold"]
    if own.empty or table["fold"].min() < 0 or own.max() >= folds:
        raise ValueError(f"{where} names folds that the model does not have")
    if table.duplicated(["split", "key"]).any():
        raise ValueError(f"{where} has a tile twice")


def _check_inputs(
    train: Examples, preparation: Preparation, architecture: Architecture, images: ImageFeed | None
) -> None:
    """A branch that learned from nothing would score other tiles by its first, random weights."""
    if architecture.inputs != "facts" and (images is None or not train.has_image.any()):
        raise ModelError("no training tile has a picture; use --inputs facts, or tile with --imagery")
    if architecture.inputs != "image" and not preparation.facts:
        raise ModelError(
            "no fact differs between training tiles; use --inputs image, or add sources of facts"
        )


def fold_seed(seed: int, k: int) -> int:
    """The seed of fold k: folds share none, nor do neighbouring seeds.

    >>> fold_seed(0, 1) != fold_seed(1, 0)
    True
    """
    return int(np.random.SeedSequence([seed, k]).generate_state(1)[0])
