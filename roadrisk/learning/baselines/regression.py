"""Regressions on logarithms of facts: of classes logistic, of counts negative binomial, of values ridge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from roadrisk.grid import FloatArray
from roadrisk.learning.baselines.densities import densities, learned_codes
from roadrisk.learning.baselines.negative_binomial import fitted
from roadrisk.learning.examples import Examples
from roadrisk.learning.tasks import Task

# of squared coefficients of standardised facts, against a sum of losses over tiles
PENALTIES = (1.0, 10.0, 100.0, 1000.0)

NEWTON: dict[str, Any] = {"solver": "newton-cholesky", "tol": 1e-8, "max_iter": 100}

Design = Callable[[FloatArray], FloatArray]


def regressed_outputs(
    task: Task, train: Examples, unseen: Examples, penalties: Sequence[float]
) -> list[FloatArray]:
    """(n, K) outputs of the unseen tiles for each penalty.

    Numbers enter as sign(x) log(1 + |x|), standardised, with a flag where missing; texts as one-hot columns.
    """
    codes = learned_codes(train)
    numbers, values = densities(train), codes(train)
    design = _learned_design(numbers)
    kinds = [np.unique(column[~np.isnan(column)]) for column in values.T]
    seen = np.hstack([design(numbers), _one_hot(values, kinds)])
    asked = np.hstack([design(densities(unseen)), _one_hot(codes(unseen), kinds)])
    if task.kind == "count":
        offset, asked_offset = np.log(train.exposure), np.log(unseen.exposure)
        found = (fitted(seen, train.label, offset, penalty) for penalty in penalties)
        return [one.log_mean(asked, asked_offset)[:, None] for one in found]
    return [
        linear_outputs(task, seen, train.label, train.exposure, asked, unseen.exposure, penalty)
        for penalty in penalties
    ]


def number_outputs(
    task: Task, train: Examples, unseen: Examples, amounts: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """(n, K) outputs of the unseen tiles from one amount of each tile alone, as a density.

    Parameters
    ----------
    amounts : (N,) of the training tiles and (n,) of the unseen; NaN where unknown.
    """
    seen, asked = ((a / e.area_km2)[:, None] for a, e in zip(amounts, (train, unseen), strict=True))
    design = _learned_design(seen)
    return linear_outputs(
        task, design(seen), train.label, train.exposure, design(asked), unseen.exposure, PENALTIES[0]
    )


def base_rate(task: Task, label: FloatArray, exposure: FloatArray, unseen: FloatArray) -> FloatArray:
    """(n, K) the same for all tiles: the classes' shares, the mean value, or events per exposure.

    Parameters
    ----------
    label, exposure : (N,) of the training tiles.
    unseen : (n,) exposure of the others.
    """
    if task.kind == "value":
        return np.full((len(unseen), 1), np.sort(label).mean())
    if task.kind == "count":
        return np.asarray(np.log(label.sum() / np.sort(exposure).sum()) + np.log(unseen)[:, None])
    tiles = np.bincount(label.astype(np.int64), minlength=len(task.classes))
    # a class that no training tile has is rarer than one of them
    logs = np.log(np.maximum(tiles, 0.5) / len(label))
    said = logs if task.outputs > 1 else logs[1:] - logs[:1]
    return np.tile(said, (len(unseen), 1))


def linear_outputs(
    task: Task,
    x: FloatArray,
    label: FloatArray,
    exposure: FloatArray,
    unseen: FloatArray,
    unseen_exposure: FloatArray,
    penalty: float,
    solver: Mapping[str, Any] = NEWTON,
) -> FloatArray:
    """(n, K) outputs of a logistic, Poisson or ridge regression with a penalty on squared coefficients.

    Parameters
    ----------
    x, unseen : (N, D) and (n, D) standardised.
    solver : options of scikit-learn's logistic and Poisson regression.
    """
    from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

    if x.shape[1] == 0:
        return base_rate(task, label, exposure, unseen_exposure)
    if task.kind == "value":
        ridge = Ridge(alpha=penalty, solver="cholesky").fit(x, label)
        return np.asarray(ridge.predict(unseen), np.float64)[:, None]
    if task.kind == "count":
        # its loss is a mean over exposure
        poisson = PoissonRegressor(alpha=penalty / exposure.sum(), **solver)
        poisson.fit(x, label / exposure, sample_weight=exposure)
        rate = unseen @ poisson.coef_ + poisson.intercept_
        return np.asarray(rate + np.log(unseen_exposure), np.float64)[:, None]
    logistic = LogisticRegression(C=1 / penalty, **solver).fit(x, label)
    return class_outputs(task, logistic, unseen, len(label))


def class_outputs(task: Task, classifier: Any, unseen: FloatArray, tiles: int) -> FloatArray:
    """(n, K) logits of a fitted classifier of scikit-learn, of classes that it did not meet too."""
    return logits_of(task, classifier.decision_function(unseen), classifier.classes_, tiles)


def logits_of(task: Task, decision: FloatArray, classes: FloatArray, tiles: int) -> FloatArray:
    """(n, K) logits from scikit-learn's decision values of the classes that it met.

    Parameters
    ----------
    decision : (n,) or (n, 1) of two classes, else (n, classes met).
    classes : indices of those met.
    tiles : learned from; a class not met is as likely as half a tile of them.
    """
    decision = np.asarray(decision, np.float64).reshape(len(decision), -1)
    if task.outputs == 1:
        return decision
    if decision.shape[1] == 1:
        decision = np.hstack([np.zeros_like(decision), decision])
    logs = decision - np.logaddexp.reduce(decision, axis=1, keepdims=True)
    said = np.full((len(decision), task.outputs), np.log(0.5 / tiles))
    said[:, classes.astype(np.int64)] = logs
    return said


def _learned_design(train: FloatArray) -> Design:
    """What makes columns of a regression from (N, F) densities, as training rows teach it."""
    logs = _log(train)
    known = np.isfinite(logs)
    kept = [j for j in range(logs.shape[1]) if len(np.unique(logs[known[:, j], j])) > 1]
    mean = np.array([logs[known[:, j], j].mean() for j in kept])
    std = np.array([logs[known[:, j], j].std() for j in kept])
    partly = [j for j in range(logs.shape[1]) if 0 < known[:, j].sum() < len(known)]
    # facts of one source are missing together: one flag for all of them
    flags = sorted({known[:, j].tobytes(): j for j in reversed(partly)}.values())

    # beyond what training tiles have, a line of logarithms soon says more events than there are people
    low = np.array([logs[known[:, j], j].min() for j in kept])
    high = np.array([logs[known[:, j], j].max() for j in kept])

    def design(values: FloatArray) -> FloatArray:
        scaled = (_log(values)[:, kept].clip(low, high) - mean) / std
        return np.hstack([np.nan_to_num(scaled), np.isnan(values[:, flags]).astype(np.float64)])

    return design


def _log(values: FloatArray) -> FloatArray:
    return np.sign(values) * np.log1p(np.abs(values))


def _one_hot(codes: FloatArray, kinds: Sequence[FloatArray]) -> FloatArray:
    columns = [codes[:, j : j + 1] == kind for j, kind in enumerate(kinds)]
    return np.hstack([np.empty((len(codes), 0)), *columns])
