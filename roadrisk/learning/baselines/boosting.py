"""Gradient boosting on facts, by scikit-learn's histogram trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


# half the rate with twice the trees, other penalties and 255 bins judge no better and take much longer
RATE, L2, BINS = 0.2, 10.0, 64
LEAVES, TREES = (4, 8, 16), (12, 25, 50, 100)
GROWTHS = tuple(Growth(RATE, leaves, L2, trees) for leaves in LEAVES for trees in TREES)


def boosted_outputs(
    task: Task,
    train: Examples,
    unseen: Examples,
    growths: Sequence[Growth],
    more: tuple[FloatArray, FloatArray] | None = None,
) -> list[FloatArray]:
    """(n, K) outputs of the unseen tiles for each growth.

    Numbers enter as densities, missing ones as missing; texts as categories. Trees that differ
    in their number alone are grown once.

    Parameters
    ----------
    more : (N, P) and (n, P) further numbers of the training and the unseen tiles, NaN where missing.
    """
    codes = learned_codes(train)
    numbers, asked_numbers = more or (np.empty((len(tiles), 0)) for tiles in (train, unseen))
    seen = np.hstack([densities(train), numbers, codes(train)])
    asked = np.hstack([densities(unseen), asked_numbers, codes(unseen)])
    categorical = np.arange(seen.shape[1]) >= seen.shape[1] - len(train.text_columns)
    told = ~np.isnan(seen).all(axis=0)  # a column of nothing has no bins
    seen, asked, categorical = seen[:, told], asked[:, told], categorical[told]
    for column in np.flatnonzero(~categorical):
        bins = _learned_bins(seen[:, column])
        seen[:, column], asked[:, column] = bins(seen[:, column]), bins(asked[:, column])
    said: dict[Growth, FloatArray] = {}
    for _, group in groupby(sorted(growths), key=lambda growth: growth[:3]):
        wanted = {growth.trees: growth for growth in group}
        trees = _trees(task, wanted[max(wanted)], categorical)
        grown = _grown(task, trees, train, seen, unseen, asked)
        said |= {wanted[n]: outputs for n, outputs in grown if n in wanted}
    return [said[growth] for growth in growths]


def _learned_bins(train: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """How numbers become the bins that trees would put them into, NaN where missing.

    Scikit-learn's own way to find bins takes several times as long as the trees where tiles have weights.
    """
    known = train[~np.isnan(train)]
    if len(np.unique(known)) <= BINS:
        return lambda values: values
    shares = np.arange(1, BINS) / BINS
    edges = np.unique(np.quantile(known, shares, method="averaged_inverted_cdf"))
    return lambda values: np.where(np.isnan(values), np.nan, np.searchsorted(edges, values))


def _trees(task: Task, growth: Growth, categorical: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    options = {
        "learning_rate": growth.rate,
        "max_leaf_nodes": growth.leaves,
        "l2_regularization": growth.l2,
        "max_iter": growth.trees,
        "max_bins": BINS,
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
