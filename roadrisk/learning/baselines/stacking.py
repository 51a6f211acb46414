"""Stacking: what models say out of fold, joined by a regression whose weights are not negative.

Breiman 1996, Stacked regressions: with weights that cannot be negative, models that say nearly the same are
not played off against each other, and one that adds nothing gets none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from roadrisk.grid import FloatArray
from roadrisk.learning.baselines.pictured import PROBE_PENALTIES, can_be_probed, has_features, probed_outputs
from roadrisk.learning.baselines.tuning import Sample, Tuned, chosen, or_words
from roadrisk.learning.folds import Folds
from roadrisk.learning.tasks import Task, probability

PENALTY = 1.0  # of squared weights, as least of a regression: labels that can be told apart have no end else

PROBE = Tuned("probe", probed_outputs, PROBE_PENALTIES, f"a penalty of {or_words(PROBE_PENALTIES)}")


class Member(NamedTuple):
    """What a model says, whose word is joined with others'.

    Parameters
    ----------
    inner : (N,) of the training tiles, each by a model of the inner folds that did not see it.
    unseen : (n,) of the unseen tiles, by a model of all training tiles.
    """

    inner: FloatArray
    unseen: FloatArray


@dataclass(frozen=True)
class Join:
    """How models are joined: a sum of what they say.

    Parameters
    ----------
    names : of M models.
    weights : M, none below 0.
    intercept : added to the sum.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float

    def __str__(self) -> str:
        return " + ".join(f"{w:.2f} {name}" for w, name in zip(self.weights, self.names, strict=True))

    def of(self, said: dict[str, FloatArray], offset: FloatArray | float = 0.0) -> FloatArray:
        """(n,) joined outputs.

        Parameters
        ----------
        said : (n,) outputs by name.
        offset : (n,) log of the exposure of counts, which every model's output holds; 0 for others.

        Examples
        --------
        >>> Join(("a", "b"), (0.5, 1.0), 1.0).of({"a": np.array([2.0]), "b": np.array([4.0])}).tolist()
        [6.0]
        """
        parts = (w * (said[name] - offset) for w, name in zip(self.weights, self.names, strict=True))
        return np.asarray(sum(parts, start=self.intercept + offset))


def told_of_stack(regression: str, pictured: bool) -> str:
    """What a stack is made of."""
    told = "by a regression without negative weights on what each says out of the inner folds"
    if not pictured:
        return f"stack: {regression} and boosting, joined {told}; there are no frozen features for a probe"
    return (
        f"stack: {regression}, boosting and a linear probe on frozen features ({PROBE.grid}), joined {told}; "
        "the first two alone where a tile has no picture"
    )


def unstackable(task: Task, inner: Sequence[Folds | None]) -> str:
    """Why nothing can be joined; empty where it can.

    Parameters
    ----------
    inner : folds inside the training rows of each fold.
    """
    if task.outputs > 1:
        return f"it joins what is said in one number, and {len(task.classes)} classes have as many"
    if any(folds is None for folds in inner):
        return "there are too few training tiles for inner folds"
    return ""


def stacked(
    task: Task, train: Sample, unseen: Sample, inner: Folds, members: dict[str, Member]
) -> tuple[FloatArray, str]:
    """(n,) joined outputs of the unseen tiles, and how they are joined.

    A tile without a picture is said by the members alone, in a join of their own: a probe that knows nothing
    of it would only draw it towards the middle.

    Parameters
    ----------
    members : by name, what knows every tile.
    """
    count = task.kind == "count"
    offset, asked_offset = (
        np.log(sample.examples.exposure) if count else np.zeros(len(sample)) for sample in (train, unseen)
    )
    said, asked = ({name: member[part] for name, member in members.items()} for part in (0, 1))
    label = train.examples.label
    join = learned_join(task, said, label, offset)
    outputs, note = join.of(asked, asked_offset), str(join)
    seen, shown = (np.flatnonzero(has_features(sample.features)) for sample in (train, unseen))
    if not len(shown):
        return outputs, note
    pictured, folds = train.taken(seen), inner.taken(seen)
    if not can_be_probed(pictured, folds):
        return outputs, f"{note}; too few training tiles have a picture for a probe"
    choice = chosen(PROBE, pictured, task, folds)
    [probe] = probed_outputs(task, pictured, unseen.taken(shown), [choice.choice])
    said, asked = (
        {name: outputs[rows] for name, outputs in of.items()} for of, rows in ((said, seen), (asked, shown))
    )
    said["probe"], asked["probe"] = choice.out_of_fold, probe[:, 0]
    with_probe = learned_join(task, said, label[seen], offset[seen])
    outputs[shown] = with_probe.of(asked, asked_offset[shown])
    probed_by = f"probe with a penalty of {choice.choice:g}{choice.note}"
    return outputs, f"{with_probe}, {probed_by}; without a picture {note}"


def learned_join(
    task: Task, said: dict[str, FloatArray], label: FloatArray, offset: FloatArray | float = 0.0
) -> Join:
    """The join under which labels are likeliest.

    Logits are joined by a logistic regression, log means of counts by a Poisson regression, values by least
    squares. The intercept is free.

    Parameters
    ----------
    said : (N,) outputs by name, of tiles that the models did not see.
    label : (N,) 0 or 1, counts or values.
    offset : (N,) log of the exposure of counts, which every model's output holds; 0 for others.
    """
    from scipy.optimize import minimize
    from sklearn.linear_model import LinearRegression

    names = tuple(said)
    x = np.stack([said[name] - offset for name in names], axis=1)  # (N, M)
    if task.kind == "value":
        line = LinearRegression(positive=True).fit(x, label)
        return Join(names, tuple(line.coef_.tolist()), float(line.intercept_))
    mean = x.mean(axis=0)
    design = np.hstack([np.ones((len(x), 1)), x - mean])  # (N, 1 + M)

    def loss(beta: FloatArray) -> tuple[float, FloatArray]:
        log_mean = design @ beta + offset
        if task.kind == "count":
            expected = np.exp(log_mean)
            lost = expected - label * log_mean
        else:
            expected = probability(log_mean)
            lost = np.logaddexp(0.0, log_mean) - label * log_mean
        slope = design.T @ (expected - label)
        slope[1:] += PENALTY * beta[1:]
        return float(lost.sum() + PENALTY * (beta[1:] ** 2).sum() / 2), slope

    models = len(names)
    start = np.concatenate([[_first(task, label, offset)], np.full(models, 1 / models)])
    bounds = [(None, None)] + [(0.0, None)] * models
    options = {"ftol": 1e-12, "gtol": 1e-6, "maxiter": 1000}
    beta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return Join(names, tuple(beta[1:].tolist()), float(beta[0] - beta[1:] @ mean))


def _first(task: Task, label: FloatArray, offset: FloatArray | float) -> float:
    """The intercept to start from: of the base rate."""
    if task.kind == "count":
        per = float(np.exp(np.broadcast_to(offset, label.shape)).sum())
        return float(np.log(max(label.sum(), 0.5) / per))
    positives = min(max(float(label.sum()), 0.5), len(label) - 0.5)
    return float(np.log(positives / (len(label) - positives)))
