"""Baselines: what is simple and well known, on the same folds as a network.

Each is learned from a fold's training rows alone and says the fold's test rows in the task's own output:
logits, values or the log of expected counts, as a network does. Whatever is chosen (how strong a penalty, how
many leaves) is chosen in spatial folds inside the training rows.

Rows are taken in the order of their keys and columns in that of their names, since trees and solvers depend
on either in the last digits; and by one thread, since some thousand rows gain little from more, and lose much
where another program keeps them waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray
from roadrisk.learning.baselines.boosting import GROWTHS, L2, LEAVES, RATE, TREES, boosted_outputs
from roadrisk.learning.baselines.regression import PENALTIES, base_rate, number_outputs, regressed_outputs
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import BLOCK_TILES, Folds, inner_folds
from roadrisk.learning.tasks import Task
from roadrisk.progress import Progress, silent

INNER_FOLDS = 3
HIGH_SHARE = 0.2

# training rows, rows to say, choices -> (n, K) of those rows for each choice
Learner = Callable[[Task, Examples, Examples, Sequence[Any]], list[FloatArray]]


@dataclass(frozen=True, eq=False)
class Baselines:
    """What baselines say of N tiles that they did not see.

    Parameters
    ----------
    outputs : by name, (N, K) each.
    told : how each came about: what was chosen from what, and which are not there.
    """

    outputs: dict[str, FloatArray]
    told: tuple[str, ...]


class _Tuned(NamedTuple):
    """A learner, and what it can choose from; the middle stands where nothing can be compared."""

    name: str
    learner: Learner
    choices: tuple[Any, ...]
    grid: str


def baselines_out_of_fold(
    examples: Examples,
    folds: Folds,
    task: Task,
    seed: int,
    road_m: FloatArray | None = None,
    block: int = BLOCK_TILES,
    progress: Progress = silent,
) -> Baselines:
    """`base_rate`, `road_length`, `logistic` (`regression` of other tasks) and `boosting`.

    `base_rate` knows the training labels alone; `road_length` one number; `logistic` is a logistic regression
    on the logarithms of the facts, of counts a Poisson and of values a ridge regression; `boosting` is
    scikit-learn's histogram gradient boosting.

    Parameters
    ----------
    examples : all with a label.
    folds : of the same rows.
    road_m : (N,) metres of road, NaN where unknown; None where no road is known.
    block : side of the blocks of inner folds [tiles].
    """
    order = np.argsort(examples.key, kind="stable")
    examples, folds = examples.taken(order), folds.taken(order)
    back = np.argsort(order)
    outputs: dict[str, FloatArray] = {"base_rate": _base_rates(examples, folds, task)}
    told: list[str] = []
    with threadpool_limits(limits=1):
        if road_m is None or len(np.unique(road_m[np.isfinite(road_m)])) < 2:
            told.append("road_length is not there: no lengths of road are known that differ")
        else:
            outputs["road_length"] = _of_number(road_m[order], examples, folds, task)
        if examples.columns or examples.text_columns:
            found, notes = _tuned_out_of_fold(_tuned(task), examples, folds, task, seed, block, progress)
            outputs |= found
            told += notes
        else:
            told.append(f"{_tuned(task)[0].name} and boosting are not there: there are no facts")
    return Baselines({name: said[back] for name, said in outputs.items()}, tuple(told))


def number_out_of_fold(amount: FloatArray, examples: Examples, folds: Folds, task: Task) -> FloatArray:
    """(N, K) said from one amount alone: a regression on the logarithm of its density.

    Parameters
    ----------
    amount : (N,) of each tile, such as metres of road; NaN where unknown.
    examples : all with a label.
    """
    order = np.argsort(examples.key, kind="stable")
    said = np.empty((len(examples), task.outputs))
    with threadpool_limits(limits=1):
        said[order] = _of_number(amount[order], examples.taken(order), folds.taken(order), task)
    return said


def _tuned(task: Task) -> tuple[_Tuned, ...]:
    linear = "logistic" if task.kind == "class" else "regression"
    leaves, l2, trees = (_or(values) for values in (LEAVES, L2, TREES))
    grown = f"{trees} trees of {leaves} leaves, rate {RATE:g}, l2 {l2}"
    return (
        _Tuned(linear, regressed_outputs, PENALTIES, f"a penalty of {_or(PENALTIES)}"),
        _Tuned("boosting", boosted_outputs, GROWTHS, grown),
    )


def _or(values: Sequence[float]) -> str:
    *others, last = (f"{value:g}" for value in values)
    return f"{', '.join(others)} or {last}"


def _base_rates(examples: Examples, folds: Folds, task: Task) -> FloatArray:
    said = np.empty((len(examples), task.outputs))
    for k in range(folds.count):
        train, test = folds.train_rows(k), folds.test_rows(k)
        exposure = examples.exposure
        said[test] = base_rate(task, examples.label[train], exposure[train], exposure[test])
    return said


def _of_number(amount: FloatArray, examples: Examples, folds: Folds, task: Task) -> FloatArray:
    said = np.empty((len(examples), task.outputs))
    for k in range(folds.count):
        train, test = folds.train_rows(k), folds.test_rows(k)
        amounts = amount[train], amount[test]
        said[test] = number_outputs(task, examples.taken(train), examples.taken(test), amounts)
    return said


def _tuned_out_of_fold(
    tuned: Sequence[_Tuned],
    examples: Examples,
    folds: Folds,
    task: Task,
    seed: int,
    block: int,
    progress: Progress,
) -> tuple[dict[str, FloatArray], list[str]]:
    outputs = {one.name: np.empty((len(examples), task.outputs)) for one in tuned}
    told = [f"{one.name}: by least loss in {INNER_FOLDS} inner folds, of {one.grid}" for one in tuned]
    for k in range(folds.count):
        train, test = examples.taken(folds.train_rows(k)), folds.test_rows(k)
        inner = _inner(train, task, seed, block, folds.buffer)
        for step, (name, learner, choices, _) in enumerate(tuned):
            choice, note = _chosen(learner, choices, train, task, inner)
            [outputs[name][test]] = learner(task, train, examples.taken(test), [choice])
            told.append(f"{name}, fold {k + 1}: {choice}{note}")
            progress("baselines", k * len(tuned) + step + 1, folds.count * len(tuned), name)
    return outputs, told


def _inner(train: Examples, task: Task, seed: int, block: int, buffer: int) -> Folds | None:
    """Folds inside the training rows; None where these are too few."""
    high = _high(task, train.label)
    try:
        return inner_folds(train.key, train.row, train.col, high, INNER_FOLDS, seed, block, buffer)
    except ModelError:
        return None


def _chosen(
    learner: Learner, choices: Sequence[Any], train: Examples, task: Task, inner: Folds | None
) -> tuple[Any, str]:
    """The choice of the least loss on inner folds, and what is to be said of it."""
    if inner is None:
        return choices[len(choices) // 2], " (too few training tiles to choose)"
    loss = np.zeros(len(choices))
    for k in range(inner.count):
        judged = train.taken(inner.test_rows(k))
        said = learner(task, train.taken(inner.train_rows(k)), judged, choices)
        loss += [_loss(task, outputs, judged.label) for outputs in said]
    return choices[int(np.argmin(loss))], f" (loss {loss.min() / len(train):.4f})"


def _loss(task: Task, outputs: FloatArray, label: FloatArray) -> float:
    """Sum over tiles of the log loss, the squared error or the Poisson loss of (n, K) outputs."""
    said = outputs[:, 0]
    if task.kind == "value":
        return float(((said - label) ** 2).sum())
    if task.kind == "count":
        return float((np.exp(said) - label * said).sum())
    if task.outputs == 1:
        return float(np.logaddexp(0.0, np.where(label == 1, -said, said)).sum())
    own = outputs[np.arange(len(label)), label.astype(np.int64)]
    return float((np.logaddexp.reduce(outputs, axis=1) - own).sum())


def _high(task: Task, label: FloatArray) -> FloatArray:
    """(N,) 1 for the riskiest class, or the top fifth; else 0."""
    if task.kind == "class":
        return np.asarray(label == len(task.classes) - 1, np.float64)
    return np.asarray(label > np.quantile(label, 1 - HIGH_SHARE, method="lower"), np.float64)
