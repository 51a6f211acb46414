"""What a model draws on: how much worse it is where a group of what it sees is shuffled among tiles.

Permutation importance (Breiman 2001, Machine Learning 45; Fisher, Rudin and Dominici 2019, JMLR 20), by
groups: columns of one source tell nearly the same, so one of them shuffled alone would be made up for by the
others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.architecture import Architecture, network_of
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.evaluation import Importance
from roadrisk.learning.judging.measures import auroc_fold_mean, deviance
from roadrisk.learning.loop.fit import raw_outputs
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.tasks import Task, prediction, said
from roadrisk.learning.validation import FoldModel, network_inputs

REPEATS = 5

# (n,) tiles -> (n, K) as `tasks.said` gives
FoldWord = Callable[[Examples], FloatArray]


@dataclass(frozen=True)
class Group:
    """What is shuffled together.

    Parameters
    ----------
    name : a source of facts, or a view.
    numbers, texts, views : places among those of the examples.
    columns : names of the facts.
    """

    name: str
    numbers: tuple[int, ...]
    texts: tuple[int, ...]
    views: tuple[int, ...]
    columns: tuple[str, ...]


def groups_of(examples: Examples) -> tuple[Group, ...]:
    """Facts by their source, by name, then views; facts of a table, which has no sources, one by one."""
    by_source: dict[str, list[tuple[str, int, bool]]] = {}
    for is_text, columns in ((False, examples.columns), (True, examples.text_columns)):
        for place, column in enumerate(columns):
            by_source.setdefault(column.source or column.name, []).append((column.name, place, is_text))
    facts = [
        Group(
            source,
            tuple(place for _, place, is_text in held if not is_text),
            tuple(place for _, place, is_text in held if is_text),
            (),
            tuple(sorted(name for name, _, _ in held)),
        )
        for source, held in sorted(by_source.items())
    ]
    views = [Group(name or "picture", (), (), (v,), ()) for v, name in enumerate(examples.views)]
    return (*facts, *views)


def importances(
    fold_words: Sequence[FoldWord],
    examples: Examples,
    folds: Folds,
    task: Task,
    seed: int,
    repeats: int = REPEATS,
) -> tuple[Importance, ...]:
    """How much each group of facts and each view is worth to a model, on tiles that it did not see.

    A group changes places among the test tiles of a fold, its columns together. The loss is the drop of
    AUROC within folds for classes, the rise of the mean Poisson deviance for counts, of the root mean squared
    error for values. What a group tells and another tells, too, is worth nothing here.

    Parameters
    ----------
    fold_words : of each fold, what its model says of any tiles.
    examples : with labels, all of them.
    folds : of the same rows.
    repeats : shuffles of each group.
    """
    order = np.argsort(examples.key, kind="stable")
    examples, folds = examples.taken(order), folds.taken(order)
    metric = {"class": "auroc_fold_mean", "count": "deviance", "value": "rmse"}[task.kind]
    outputs = np.empty((len(examples), task.outputs))
    for k, word in enumerate(fold_words):
        test = folds.test_rows(k)
        outputs[test] = word(examples.taken(test))
    score = _score(task, examples.label, outputs, folds.fold)
    found = []
    for group in groups_of(examples):
        shuffled = _shuffled_outputs(fold_words, examples, folds, group, task, seed, repeats)
        losses = [_score(task, examples.label, one, folds.fold) - score for one in shuffled]
        losses = [-loss for loss in losses] if task.kind == "class" else losses
        if all(math.isfinite(loss) for loss in losses):
            mean = math.fsum(losses) / repeats
            found.append(Importance(group.name, metric, mean, min(losses), max(losses), group.columns))
    return tuple(found)


def network_words(
    models: Sequence[FoldModel],
    architecture: Architecture,
    images: Sequence[ImageFeed | None],
    device: torch.device,
) -> tuple[FoldWord, ...]:
    """What the networks of a cross-validation say, one a fold.

    Parameters
    ----------
    images : feeds of the views of the examples that they will be asked about.
    device : that they run on.
    """

    def word(model: FoldModel) -> FoldWord:
        network = network_of(architecture, model.preparation.shape)
        network.load_state_dict(model.state)

        def outputs(examples: Examples) -> FloatArray:
            inputs = network_inputs(examples, model.preparation, architecture, images)
            raw = raw_outputs(network, inputs, device, architecture.augment)
            return said(architecture.task, model.target, raw, examples.exposure)

        return outputs

    return tuple(word(model) for model in models)


def _shuffled_outputs(
    fold_words: Sequence[FoldWord],
    examples: Examples,
    folds: Folds,
    group: Group,
    task: Task,
    seed: int,
    repeats: int,
) -> FloatArray:
    """(repeats, N, K) out of fold, of tiles that have each other's values of a group."""
    outputs = np.empty((repeats, len(examples), task.outputs))
    for k, word in enumerate(fold_words):
        test = folds.test_rows(k)
        chance = np.random.default_rng([seed, k])
        drawn = np.concatenate([chance.permutation(len(test)) for _ in range(repeats)])
        asked = _with_values_of(examples.taken(np.tile(test, repeats)), group, examples.taken(test), drawn)
        # all shuffles at once, since whoever learns anew for each question then learns once
        outputs[:, test] = word(asked).reshape(repeats, len(test), task.outputs)
    return outputs


def _with_values_of(tiles: Examples, group: Group, others: Examples, drawn: IntArray) -> Examples:
    """Tiles with a group's values of drawn others."""
    facts, texts, picture = tiles.facts.copy(), tiles.texts.copy(), tiles.picture.copy()
    facts[:, group.numbers] = others.facts[drawn][:, group.numbers]
    texts[:, group.texts] = others.texts[drawn][:, group.texts]
    picture[:, group.views] = others.picture[drawn][:, group.views]
    return replace(tiles, facts=facts, texts=texts, picture=picture)


def _score(task: Task, label: FloatArray, outputs: FloatArray, fold: IntArray) -> float:
    predicted = prediction(task, outputs)
    if task.kind == "count":
        return deviance(label, predicted)
    if task.kind == "value":
        return math.sqrt(float(np.mean((predicted - label) ** 2)))
    order = outputs[:, 0] if task.outputs == 1 else predicted
    return auroc_fold_mean(np.asarray(label == len(task.classes) - 1, np.float64), order, fold)
