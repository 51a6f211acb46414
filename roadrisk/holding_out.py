"""A metro that models never learned from, judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.comparing import Comparison, Contestant
from roadrisk.elsewhere import METRO, outcomes_elsewhere, with_scores
from roadrisk.errors import ModelError
from roadrisk.gathering import Gathered
from roadrisk.grid import FloatArray
from roadrisk.inputs import Tiles, tiles_at
from roadrisk.learning.baselines.judged import KnownAmounts, baselines_out_of_fold
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold
from roadrisk.learning.labels.amounts import exposure_of
from roadrisk.learning.labels.label import observed
from roadrisk.learning.matching import column_differences, tile_differences
from roadrisk.learning.model import Model, fold_outputs
from roadrisk.learning.pictures.weights import State
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.validation import Training
from roadrisk.metros import FAR_APART, check_apart, kind_of, with_absent_classes
from roadrisk.scorable import called_as, feeds_of, scored_examples


def metro_to_judge(metro: Path, learned: Sequence[Tiles], settings: TrainSettings) -> Tiles:
    """The tiles of a metro that is judged, never learned from.

    Parameters
    ----------
    learned : of each metro that is learned from.

    Raises
    ------
    ModelError : the metro, or a part of it, is learned from, or its tiles are of another kind.
    """
    tiles = tiles_at(metro, settings.views)
    if len(learned[0].views) == 1:
        tiles = called_as(tiles, [learned[0].views[0].name])
    if settings.sees == "facts":
        # pictures that nobody looks at may differ
        tiles, learned = replace(tiles, views=()), [replace(one, views=()) for one in learned]
    for one in learned:
        if one.identity == tiles.identity:
            raise ModelError(
                f"--holdout {metro} is learned from, too; name another metro, or leave it out there"
            )
        wrong = tile_differences(kind_of(tiles), kind_of(one), str(one.path))
        if wrong:
            raise ModelError(
                f"--holdout {metro} has other tiles than {one.path}: {'; '.join(wrong)}; tile both alike"
            )
        check_apart(tiles, one)
    return tiles


def check_judgeable(tiles: Tiles, learned: Gathered) -> None:
    """Nothing, if what is learned is known in a metro that is judged, as it is where it is learned.

    Raises
    ------
    ModelError : it is not there, of another unit or window, or unknown in every tile.
    """
    label = learned.label
    name = label.measure or label.column
    differs = column_differences(kind_of(tiles), kind_of(learned.tiles), {name})
    if differs and name in learned.tiles.frame:
        raise ModelError(
            f"--holdout {tiles.path} cannot be judged by {name}, which is learned: {differs[name]}; tile it "
            "with the same sources and windows as long"
        )
    observable = observed(tiles.frame, tiles.eligible, label.as_json(), label.task)
    exposure = exposure_of(tiles.frame, label.task, str(tiles.path))
    if not (np.isfinite(observable) & (exposure > 0)).any():
        raise ModelError(
            f"--holdout {tiles.path}: no tile is eligible and has {name}, which is learned; tile it with the "
            "same sources"
        )


def held_out(
    model: Model,
    learned: Gathered,
    rivals: Sequence[Contestant],
    comparison: Comparison,
    tiles: Tiles,
    encoder: State | None,
    training: Training,
) -> Model:
    """The model with `metrics.metro`: how good it, and what it is compared with, is on a metro never seen.

    Networks say the mean of their fold models, as they do of any new tile; baselines learn from all tiles
    of the other metros. What is high risk there is as in the others: of a measure, by the same threshold.

    Parameters
    ----------
    tiles : of `metro_to_judge`.
    encoder : weights that a frozen encoder has.

    Raises
    ------
    ModelError : a fact that the model learned from is not there.
    """
    tiles = with_absent_classes(tiles, model.columns)
    origin, task = model.provenance["label"], model.architecture.task
    label = observed(tiles.frame, tiles.eligible, origin, task)
    examples = replace(scored_examples(model, tiles), label=label)
    rows = np.flatnonzero(np.isfinite(label) & (examples.exposure > 0))
    examples = examples.taken(rows)
    provenance = {**model.provenance, "holdout": {"name": tiles.name, "identity": tiles.identity}}
    model = replace(model, provenance=provenance)
    outcomes = outcomes_elsewhere(model, tiles, rows, examples)
    outputs = _said_by_networks(model, rivals, comparison, examples, encoder, training)
    if not training.settings.quick:
        outputs |= _said_by_baselines(learned, examples, outcomes, training)
    return with_scores(model, {METRO: (outcomes, OutOfFold(np.zeros(len(rows), np.int64), outputs))})


def _said_by_networks(
    model: Model,
    rivals: Sequence[Contestant],
    comparison: Comparison,
    examples: Examples,
    encoder: State | None,
    training: Training,
) -> dict[str, FloatArray]:
    outputs = {}
    for rival in rivals:
        shape = rival.architecture
        own = replace(model, architecture=shape, encoder=encoder if shape.frozen else None)
        feeds = feeds_of(own, examples, training.fabric.device, training.progress) if shape.views else []
        models = comparison.networks[model.split][rival.name].models
        said = fold_outputs(shape, models, examples, feeds, training.fabric.device, training.progress)
        outputs[rival.name] = said.mean(axis=0)[:, : shape.task.outputs]
    return outputs


def _said_by_baselines(
    learned: Gathered, examples: Examples, outcomes: Outcomes, training: Training
) -> dict[str, FloatArray]:
    """What baselines that learned from all tiles of the other metros say."""
    both = _one_after_the_other(learned.examples, examples)
    # one fold: the new metro is tested, all others are learned from
    fold = np.repeat([1, 0], [len(learned.examples), len(examples)])
    folds = Folds(fold, 1, both.row, both.col, learned.buffer if both.row is not None else 0)
    own, task = learned.outcomes, outcomes.task
    counted = own.threshold is not None or task.kind == "count"
    known = KnownAmounts(
        road_m=None if learned.road_m is None else np.concatenate([learned.road_m, outcomes.road_m]),
        events=np.concatenate([own.events, outcomes.events]) if counted else None,
        threshold=own.threshold,
    )
    said = baselines_out_of_fold(
        both, folds, task, training.settings.seed, known, learned.block, training.progress
    )
    return {name: outputs[len(learned.examples) :] for name, outputs in said.outputs.items()}


def _one_after_the_other(first: Examples, second: Examples) -> Examples:
    """Two sets of tiles without pictures, with the columns that both have."""
    columns, facts = _shared(first.columns, first.facts, second.columns, second.facts)
    text_columns, texts = _shared(first.text_columns, first.texts, second.text_columns, second.texts)
    row = col = None
    if first.row is not None and first.col is not None and second.row is not None and second.col is not None:
        row = np.concatenate([first.row, second.row + first.row.max() + FAR_APART])
        col = np.concatenate([first.col, second.col])
    count = len(first) + len(second)
    return replace(
        first,
        key=np.concatenate([first.key, second.key]),
        label=np.concatenate([first.label, second.label]),
        facts=facts,
        columns=columns,
        texts=texts,
        text_columns=text_columns,
        area_km2=np.concatenate([first.area_km2, second.area_km2]),
        views=(),
        pictures=(),
        picture=np.empty((count, 0), np.int64),
        row=row,
        col=col,
        exposure=np.concatenate([first.exposure, second.exposure]),
    )


def _shared(
    first: tuple[Column, ...], values: NDArray[Any], second: tuple[Column, ...], others: NDArray[Any]
) -> tuple[tuple[Column, ...], NDArray[Any]]:
    place = {column.name: index for index, column in enumerate(second)}
    kept = [index for index, column in enumerate(first) if column.name in place]
    there = [place[first[index].name] for index in kept]
    return tuple(first[index] for index in kept), np.concatenate([values[:, kept], others[:, there]])
