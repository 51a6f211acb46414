"""Tuning: what a learner chooses, by spatial folds inside the rows that it may learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds, inner_folds
from roadrisk.learning.labels.label import high_risk
from roadrisk.learning.tasks import Task

INNER_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Sample:
    """N tiles to learn from or to say, in the order of their keys.

    Parameters
    ----------
    features : (N, D) of a frozen encoder, NaN in rows of tiles without a picture; D is 0 without an encoder.
    """

    examples: Examples
    features: FloatArray

    def __len__(self) -> int:
        return len(self.examples)

    def taken(self, rows: IntArray) -> Sample:
        """These rows in this order."""
        return Sample(self.examples.taken(rows), self.features[rows])


# training tiles, unseen ones, choices -> (n, K) of the unseen for each choice
Learner = Callable[[Task, Sample, Sample, Sequence[Any]], list[FloatArray]]


@dataclass(frozen=True)
class Tuned:
    """A learner, and what it can choose from.

    Parameters
    ----------
    choices : the middle one stands where nothing can be compared.
    grid : the choices in words.
    """

    name: str
    learner: Learner
    choices: tuple[Any, ...]
    grid: str


@dataclass(frozen=True, eq=False)
class Chosen:
    """What was chosen for one fold.

    Parameters
    ----------
    note : what is to be said of the choice.
    inner : (N, K) of the training tiles under that choice, each by a model of the inner folds that did not
        see it; None without inner folds.
    """

    choice: Any
    note: str
    inner: FloatArray | None

    @property
    def out_of_fold(self) -> FloatArray:
        """(N,) the first of K outputs of the training tiles.

        Raises
        ------
        ValueError : there were no inner folds.
        """
        if self.inner is None:
            raise ValueError("nothing is said out of fold without inner folds")
        return np.asarray(self.inner[:, 0])


def inner_of(train: Examples, task: Task, seed: int, block: int, buffer: int) -> Folds | None:
    """Folds inside the training rows; None where these are too few."""
    high = high_risk(task, train.label)
    try:
        return inner_folds(train.key, train.row, train.col, high, INNER_FOLDS, seed, block, buffer)
    except ModelError:
        return None


def chosen(tuned: Tuned, train: Sample, task: Task, inner: Folds | None) -> Chosen:
    """The choice of the least loss on inner folds; the first of those that are alike."""
    choices = tuned.choices
    if inner is None:
        return Chosen(choices[len(choices) // 2], " (too few training tiles to choose)", None)
    outputs = np.empty((len(choices), len(train), task.outputs))
    for k in range(inner.count):
        judged = inner.test_rows(k)
        outputs[:, judged] = tuned.learner(
            task, train.taken(inner.train_rows(k)), train.taken(judged), choices
        )
    loss = [total_loss(task, said, train.examples.label) for said in outputs]
    best = int(np.argmin(loss))
    return Chosen(choices[best], f" (loss {loss[best] / len(train):.4f})", outputs[best])


def or_words(values: Sequence[float]) -> str:
    """The values in words.

    >>> or_words((1.0, 10.0, 0.5))
    '1, 10 or 0.5'
    """
    *others, last = (f"{value:g}" for value in values)
    return f"{', '.join(others)} or {last}"


def total_loss(task: Task, outputs: FloatArray, label: FloatArray) -> float:
    """Sum over tiles of the log loss, the squared error or the Poisson loss of (n, K) outputs.

    Examples
    --------
    >>> round(total_loss(Task(), np.zeros((2, 1)), np.array([0.0, 1.0])), 4)  # two throws of a coin
    1.3863
    """
    said = outputs[:, 0]
    if task.kind == "value":
        return float(((said - label) ** 2).sum())
    if task.kind == "count":
        return float((np.exp(said) - label * said).sum())
    if task.outputs == 1:
        return float(np.logaddexp(0.0, np.where(label == 1, -said, said)).sum())
    own = outputs[np.arange(len(label)), label.astype(np.int64)]
    return float((np.logaddexp.reduce(outputs, axis=1) - own).sum())
