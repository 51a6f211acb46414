"""What `train` compares, on the same folds: picture and facts together, each alone, and baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from roadrisk.elsewhere import METRO
from roadrisk.errors import ModelError
from roadrisk.gathering import Gathered
from roadrisk.grid import FloatArray
from roadrisk.learning.architecture import Architecture, ViewInput, architecture_of
from roadrisk.learning.baselines.judged import NOTHING_KNOWN, KnownAmounts, baselines_out_of_fold
from roadrisk.learning.baselines.regression import PENALTIES, regressed_outputs
from roadrisk.learning.baselines.spf import SpfFacts, spf_facts
from roadrisk.learning.blocks import FOLDS
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds, random_folds
from roadrisk.learning.judging.predictions import OutOfFold
from roadrisk.learning.model import MODEL_NAMES
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import Task
from roadrisk.learning.validation import CrossValidation, Training, cross_validated
from roadrisk.progress import Progress, silent


@dataclass(frozen=True)
class Contestant:
    """A network that is trained and judged on the same folds as others.

    Parameters
    ----------
    name : as in `metrics`.
    """

    name: str
    architecture: Architecture
    settings: TrainSettings


@dataclass(frozen=True, eq=False)
class Comparison:
    """What all that was compared says of the tiles that it did not see.

    Parameters
    ----------
    splits : what the networks and baselines of each split say.
    folds : of each split.
    networks : by split and name, of every network that was trained.
    notes : what happened on the way that whoever reads the scores should know.
    choices : what baselines chose from what.
    """

    splits: dict[str, OutOfFold]
    folds: dict[str, Folds]
    networks: dict[str, dict[str, CrossValidation]]
    notes: tuple[str, ...]
    choices: tuple[str, ...]


def contestants(settings: TrainSettings, gathered: Gathered) -> tuple[Contestant, ...]:
    """The network that is asked for, first, and those that it is compared with.

    Parameters
    ----------
    settings : resolved.
    """
    asked = [replace(settings, inputs=settings.sees)]
    if not settings.quick and settings.sees == "both":
        asked += [replace(settings, inputs="image"), replace(settings, inputs="facts")]
    made = [Contestant(MODEL_NAMES[s.sees], _architecture(s, gathered), s) for s in asked]
    pretrained = settings.encoder != "basic" and settings.weights != "none"
    if not settings.quick and settings.sees != "facts" and settings.tune != "none" and pretrained:
        frozen = resolved(replace(settings, tune="none", epochs=None, learning_rate=None))
        made.append(Contestant(f"{made[0].name}_frozen", _architecture(frozen, gathered), frozen))
    return tuple(made)


def compared(
    gathered: Gathered,
    rivals: Sequence[Contestant],
    feeds: Mapping[bool, Sequence[ImageFeed | None]],
    training: Training,
) -> Comparison:
    """Every contestant and baseline on the same folds.

    Parameters
    ----------
    rivals : the first is asked for.
    feeds : of the views, of pictures (False) and of a frozen encoder's features (True).
    training : of the first.

    Raises
    ------
    ModelError : too few tiles, positives or blocks, nothing to learn from, or a loss that is not finite.
    """
    settings = training.settings
    splits: dict[str, OutOfFold] = {}
    networks: dict[str, dict[str, CrossValidation]] = {}
    notes: dict[str, list[str]] = {}
    choices: list[str] = []
    every = folds_of(gathered, settings)
    known = NOTHING_KNOWN
    if not settings.quick:
        spf, told = spf_facts(gathered.tiles.frame.iloc[gathered.known], gathered.tiles.columns)
        choices.append(told)
        known = known_amounts(gathered, spf, feeds[True])
    for split, folds in every.items():
        try:
            found = _of_split(split, folds, gathered, rivals, feeds, training, known)
        except ModelError as error:
            if split != METRO:
                raise
            # what is told by some metros together need not be told by each of them
            notes.setdefault(
                f"no metro is judged by models of the others: {str(error).partition('; ')[0]}", []
            ).append(split)
            continue
        networks[split], splits[split] = found.networks, OutOfFold(folds.fold, found.outputs)
        for name, network in found.networks.items():
            for note in network.told:
                notes.setdefault(note, []).append(f"{split} {name}")
        choices += [f"{split} {line}" for line in found.told]
    said = tuple(f"{', '.join(names)}: {note}" for note, names in notes.items())
    folds_judged = {split: every[split] for split in splits}
    return Comparison(splits, folds_judged, networks, said, tuple(dict.fromkeys(choices)))


class _SplitFound(NamedTuple):
    """The networks of a split, what they and the baselines say, and what baselines chose from what."""

    networks: dict[str, CrossValidation]
    outputs: dict[str, FloatArray]
    told: tuple[str, ...]


def _of_split(
    split: str,
    folds: Folds,
    gathered: Gathered,
    rivals: Sequence[Contestant],
    feeds: Mapping[bool, Sequence[ImageFeed | None]],
    training: Training,
    known: KnownAmounts,
) -> _SplitFound:
    examples, settings = gathered.examples, training.settings
    for k in range(folds.count):
        if len(np.unique(examples.label[folds.train_rows(k)])) < 2:
            raise ModelError(f"the labels that fold {k + 1} of {folds.count} learns from are all the same")
    networks = {
        rival.name: cross_validated(
            examples,
            folds,
            rival.architecture,
            feeds[rival.architecture.frozen],
            replace(training, settings=rival.settings),
            f"{split} {rival.name}",
        )
        for rival in rivals
    }
    outputs = {name: found.outputs for name, found in networks.items()}
    if settings.quick:
        return _SplitFound(networks, outputs, ())
    baselines = baselines_out_of_fold(
        examples,
        folds,
        rivals[0].architecture.task,
        settings.seed,
        known,
        gathered.block,
        training.progress,
    )
    return _SplitFound(networks, outputs | baselines.outputs, baselines.told)


def known_amounts(
    gathered: Gathered,
    spf: SpfFacts | None,
    features: Sequence[ImageFeed | None],
    progress: Progress = silent,
) -> KnownAmounts:
    """What baselines are told besides the facts.

    Parameters
    ----------
    spf : of the same rows; None where no length of road is known.
    features : feeds of a frozen encoder's features of the views; empty where there is none.
    """
    outcomes = gathered.outcomes
    return KnownAmounts(
        road_m=gathered.road_m,
        events=outcomes.events if outcomes.threshold or outcomes.task.kind == "count" else None,
        threshold=outcomes.threshold,
        aadt=spf.aadt if spf else None,
        features=frozen_features(gathered.examples, features, progress),
    )


def expected_events(gathered: Gathered, folds: Folds) -> FloatArray:
    """(N,) events expected by a negative binomial regression on the facts that did not see the tile's fold.

    Without facts, by one that knows nothing but the mean.
    """
    task = Task("count", "negative-binomial", ())
    order = np.argsort(gathered.examples.key, kind="stable")
    examples = replace(gathered.examples, label=gathered.events, exposure=np.ones(len(order))).taken(order)
    folds, mean = folds.taken(order), np.empty(len(order))
    for k in range(folds.count):
        train, test = folds.train_rows(k), folds.test_rows(k)
        [said] = regressed_outputs(task, examples.taken(train), examples.taken(test), [PENALTIES[1]])
        mean[order[test]] = np.exp(said[:, 0])
    return mean


def frozen_features(
    examples: Examples, feeds: Sequence[ImageFeed | None], progress: Progress = silent
) -> FloatArray | None:
    """(N, D) what a frozen encoder makes of the views, side by side; NaN where a tile has no picture.

    Parameters
    ----------
    feeds : of the features of each view; none where no encoder is frozen.
    """
    found = []
    for view, feed in enumerate(feeds):
        indices = examples.picture[:, view]
        there = np.flatnonzero(indices >= 0)
        if feed is None or not len(there):
            continue
        feed.ready(indices[there], progress)
        seen = feed.tensors(indices[there], np.zeros(len(there), np.int64)).double().cpu().numpy()
        features = np.full((len(examples), seen.shape[1]), np.nan)
        features[there] = seen
        found.append(features)
    return np.hstack(found) if found else None


def folds_of(gathered: Gathered, settings: TrainSettings) -> dict[str, Folds]:
    """Spatial folds, random ones and, of several metros, one a metro; of a table without places random alone.

    Raises
    ------
    ModelError : some rows lie nowhere, or there are too few tiles or positives.
    """
    examples, tiles = gathered.examples, gathered.tiles
    by_chance = random_folds(examples.key, gathered.high, settings.folds or FOLDS, settings.seed)
    if gathered.holding_out is None:
        if tiles.places is not None:
            raise ModelError(
                f"some rows of {tiles.path} lie nowhere, so there can be no spatial folds; give "
                "every row its place, or leave lon and lat out"
            )
        return {"random": by_chance}
    found: dict[str, Folds] = {"spatial": gathered.holding_out.plan.folds, "random": by_chance}
    if len(tiles.metros) > 1 and not settings.quick:
        _, metro = np.unique(tiles.source[gathered.known], return_inverse=True)
        plan = gathered.holding_out.plan
        # metros of one grid may be neighbours
        found[METRO] = replace(plan.folds, fold=np.asarray(metro, np.int64), count=int(metro.max()) + 1)
    return found


def _architecture(settings: TrainSettings, gathered: Gathered) -> Architecture:
    views = tuple(
        ViewInput(view, picture.size_px)
        for view, picture in zip(gathered.examples.views, gathered.pictures, strict=True)
    )
    return architecture_of(settings, gathered.label.task, views)
