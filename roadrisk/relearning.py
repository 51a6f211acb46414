"""What learns anew when something is changed: the model itself, or boosting on the facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from roadrisk.gathering import Gathered
from roadrisk.grid import FloatArray
from roadrisk.learning.architecture import ViewInput, architecture_of
from roadrisk.learning.baselines.boosting import GROWTHS, boosted_outputs
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.pictures.feeds import training_feed
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.validation import Training, cross_validated

GROWTH = GROWTHS[len(GROWTHS) // 2]

# tiles, settings, folds, a name for progress -> (N, K) out of fold
Learner = Callable[[Gathered, TrainSettings, Folds, str], FloatArray]


def network_learner(training: Training) -> Learner:
    """Networks as they are trained, with what all fits of `training` share."""

    def outputs(learned: Gathered, settings: TrainSettings, folds: Folds, name: str) -> FloatArray:
        examples = learned.examples
        views = zip(examples.views, learned.pictures, strict=True)
        inputs = tuple(ViewInput(view, picture.size_px) for view, picture in views)
        architecture = architecture_of(settings, learned.label.task, inputs)
        feeds = [
            training_feed(
                pictures,
                preparation,
                settings.encoder,
                training.encoder if architecture.frozen else None,
                settings.augment,
                training.fabric.device,
            )
            if pictures
            else None
            for pictures, preparation in zip(examples.pictures, learned.pictures, strict=True)
        ]
        own = replace(
            training,
            settings=settings,
            block=learned.block,
            buffer=learned.buffer,
            checkpoints=None,
            logs=None,
        )
        return cross_validated(examples, folds, architecture, feeds, own, name).outputs

    return outputs


def boosted(learned: Gathered, settings: TrainSettings, folds: Folds, name: str) -> FloatArray:
    """Boosting on the facts, all trees grown alike: a `Learner` that takes a second."""
    order = np.argsort(learned.examples.key, kind="stable")
    examples, ordered = learned.examples.taken(order), folds.taken(order)
    task = learned.label.task
    outputs = np.empty((len(examples), task.outputs))
    for k in range(folds.count):
        train, test = ordered.train_rows(k), ordered.test_rows(k)
        [outputs[order[test]]] = boosted_outputs(task, examples.taken(train), examples.taken(test), [GROWTH])
    return outputs


def without_columns(examples: Examples, names: set[str]) -> Examples:
    """Tiles without some of their facts."""
    numbers = [place for place, column in enumerate(examples.columns) if column.name not in names]
    texts = [place for place, column in enumerate(examples.text_columns) if column.name not in names]
    return replace(
        examples,
        facts=examples.facts[:, numbers],
        columns=tuple(examples.columns[place] for place in numbers),
        texts=examples.texts[:, texts],
        text_columns=tuple(examples.text_columns[place] for place in texts),
    )
