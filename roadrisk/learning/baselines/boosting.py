"""Gradient boosting on facts, by scikit-learn's histogram trees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from roadrisk.grid import FloatArray
from roadrisk.learning.baselines.densities import densities, learned_codes
from roadrisk.learning.baselines.regression import logits_of
from roadrisk.learning.examples import Examples
from roadrisk.learning.tasks import Task


class Growth(NamedTuple):
    """How trees are grown.

    Parameters
    ----------
    rate : share of a tree's word that is added.
    leaves : of a tree, at most.
    l2 : penalty on a leaf's word.
    trees : number of them (of each class, where there are more than two).
    """

    rate: float
    leaves: int
    l2: float
    trees: int

    def __str__(self) -> str:
        return f"{self.trees} trees of {self.leaves} leaves, rate {self.rate:g}, l2 {self.l2:g}"


RATE, LEAVES, L2, TREES = 0.1, (4, 12), (1.0, 100.0), (25, 50, 100, 200)
GROWTHS = tuple(Growth(RATE, leaves, l2, trees) for leaves in LEAVES for l2 in L2 for trees in TREES)


def boosted_outputs(
    task: Task, train: Examples, unseen: Examples, growths: Sequence[Growth]
) -> list[FloatArray]:
    """(n, K) outputs of the unseen tiles for each growth.

    Numbers enter as densities, missing ones as missing; texts as categories. Trees that differ
    in their number alone are grown once.
    """
    codes = learned_codes(train)
    seen = np.hstack([densities(train), codes(train)])
    asked = np.hstack([densities(unseen), codes(unseen)])
    categorical = np.arange(seen.shape[1]) >= len(train.columns)
    told = ~np.isnan(seen).all(axis=0)  # a column of nothing has no bins
    seen, asked, categorical = seen[:, told], asked[:, told], categorical[told]
    said: dict[Growth, FloatArray] = {}
    for (rate, leaves, l2), group in groupby(sorted(growths), key=lambda growth: growth[:3]):
        wanted = {growth.trees: growth for growth in group}
        trees = _trees(task, rate, leaves, l2, max(wanted), categorical)
        grown = _grown(task, trees, train, seen, unseen, asked)
        said |= {wanted[n]: outputs for n, outputs in grown if n in wanted}
    return [said[growth] for growth in growths]


def _trees(task: Task, rate: float, leaves: int, l2: float, trees: int, categorical: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    options = {
        "learning_rate": rate,
        "max_leaf_nodes": leaves,
        "l2_regularization": l2,
        "max_iter": trees,
        "categorical_features": categorical,
        "early_stopping": False,  # by chance rows, which neighbours would flatter
        "random_state": 0,
    }
    if task.kind == "class":
        return HistGradientBoostingClassifier(**options)
    loss = "poisson" if task.kind == "count" else "squared_error"
    return HistGradientBoostingRegressor(loss=loss, **options)


def _grown(
    task: Task, trees: Any, train: Examples, seen: FloatArray, unseen: Examples, asked: FloatArray
) -> Iterator[tuple[int, FloatArray]]:
    """Numbers of trees and what so many say."""
    if task.kind == "class":
        trees.fit(seen, train.label)
        for n, decision in enumerate(trees.staged_decision_function(asked), start=1):
            yield n, logits_of(task, decision, trees.classes_, len(train))
    elif task.kind == "count":
        trees.fit(seen, train.label / train.exposure, sample_weight=train.exposure)
        for n, rate in enumerate(trees.staged_predict(asked), start=1):
            yield n, np.log(rate * unseen.exposure)[:, None]
    else:
        trees.fit(seen, train.label)
        for n, value in enumerate(trees.staged_predict(asked), start=1):
            yield n, value[:, None]
