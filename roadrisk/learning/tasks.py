"""What is learned of a tile: a class, a value or a count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor

from roadrisk.grid import FloatArray
from roadrisk.learning.settings import LOSSES, Loss, TaskKind
from roadrisk.nets.losses import (
    FOCUS,
    LOG_K_MOST,
    huber,
    many_class_loss,
    negative_binomial_loss,
    poisson_loss,
    squared_loss,
    two_class_loss,
)

# strict, since they are read from files
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Weight = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]


@dataclass(frozen=True)
class Task:
    """What a network says of a tile, and by what loss it learns to.

    Parameters
    ----------
    classes : from the least risk to the most; two or more of a `class`, none of the others.
    exposure : the column that expected events are proportional to; empty for none.

    Raises
    ------
    ValueError : a loss of another task, or classes that do not fit.
    """

    kind: TaskKind = "class"
    loss: Loss = "cross-entropy"
    classes: tuple[str, ...] = ("low", "high")
    exposure: str = ""

    def __post_init__(self) -> None:
        if self.loss not in LOSSES[self.kind]:
            raise ValueError(f"{self.loss} is no loss of {self.kind}")
        fits = len(self.classes) >= 2 if self.kind == "class" else not self.classes
        if not fits:
            raise ValueError(f"a {self.kind} with {len(self.classes)} classes")

    @property
    def outputs(self) -> int:
        """Length K of what a network says: one logit of two classes, a logit for each of more, a value, or
        the log of the expected count.
        """
        return len(self.classes) if len(self.classes) > 2 else 1

    @property
    def dispersed(self) -> bool:
        """Whether a network learns one log-dispersion besides, which is then the last of K + 1 outputs."""
        return self.loss == "negative-binomial"


@dataclass(frozen=True)
class Target:
    """What is learned of the labels themselves, on training tiles, before a network sees them.

    Parameters
    ----------
    mean, std : of values, which a network says in these units; of counts, the log of events per exposure,
        to which a network adds, and 1.
    class_weights : of the loss, by class; empty where all weigh the same.
    """

    mean: Number = 0.0
    std: Positive = 1.0
    class_weights: tuple[Weight, ...] = ()


def learned_target(task: Task, label: FloatArray, exposure: FloatArray | None = None) -> Target:
    """The target of training labels.

    Parameters
    ----------
    label : (N,) index of the class, value or count, all known.
    exposure : (N,) above 0; 1 each without it.

    Examples
    --------
    >>> weighted = Task(loss="weighted")
    >>> learned_target(weighted, np.array([0.0, 0, 0, 1])).class_weights  # n / (K n_k): 1 on average
    (0.6666666666666666, 2.0)
    """
    if task.kind == "class":
        if task.loss != "weighted":
            return Target()
        tiles = np.bincount(label.astype(np.int64), minlength=len(task.classes))
        # a class that no training tile has weighs as if one had
        shares = len(label) / (len(task.classes) * np.maximum(tiles, 1))
        return Target(class_weights=tuple(shares.tolist()))
    # fsum: the order of tiles must not show in the last bit
    if task.kind == "count":
        events = math.fsum(label.tolist())
        per = float(len(label)) if exposure is None else math.fsum(exposure.tolist())
        return Target(
            mean=math.log(max(events, 0.5) / per)
        )  # without any event, as if there were half of one
    mean = math.fsum(label.tolist()) / len(label)
    variance = math.fsum(((label - mean) ** 2).tolist()) / len(label)
    return Target(mean=mean, std=math.sqrt(variance) or 1.0)


def losses(task: Task, target: Target, raw: Tensor, label: Tensor, exposure: Tensor) -> Tensor:
    """What each of B tiles costs.

    Parameters
    ----------
    raw : (B, K), or (B, K + 1) of a dispersed task, as the network says it.
    label : (B,) index of the class, value or count.
    exposure : (B,) above 0; only counts know it.

    Returns
    -------
    (B,), differentiable; float32 for classes, else float64.

    Examples
    --------
    >>> one = torch.ones(1)
    >>> losses(Task(), Target(), torch.zeros(1, 1), one, one)
    tensor([0.6931])
    """
    if task.kind == "class":
        weights = torch.tensor(target.class_weights, device=raw.device) if target.class_weights else None
        focus = FOCUS if task.loss == "focal" else 0.0
        if task.outputs == 1:
            return two_class_loss(raw[:, 0], label, weights, focus)
        return many_class_loss(raw, label, weights, focus)
    said_so = raw.double()
    if task.kind == "value":
        standard = (label.double() - target.mean) / target.std
        return (huber if task.loss == "huber" else squared_loss)(said_so[:, 0], standard)
    log_mean = said_so[:, 0] + target.mean + exposure.double().log()
    if task.loss == "poisson":
        return poisson_loss(log_mean, label)
    return negative_binomial_loss(log_mean, said_so[:, -1], label)


def said(task: Task, target: Target, raw: ArrayLike, exposure: FloatArray) -> FloatArray:
    """What a network's outputs say in the label's own terms.

    Parameters
    ----------
    raw : (N, K), or (N, K + 1) of a dispersed task.
    exposure : (N,), 0 or more; NaN where unknown. Only counts know it.

    Returns
    -------
    (N, K) float64: logits of classes, the value, or the log of the expected count, exposure included, which
    is -inf without any exposure.
    """
    outputs = np.asarray(raw, np.float64)[:, : task.outputs]  # (N, K)
    if task.kind == "value":
        return outputs * target.std + target.mean
    if task.kind == "count":
        with np.errstate(divide="ignore"):
            return np.asarray(outputs + target.mean + np.log(exposure)[:, np.newaxis])
    return outputs


def dispersion(task: Task, raw: ArrayLike) -> FloatArray:
    """(N,) the k of Var = mu + k mu^2 that a network learned; 0, as of a Poisson, where the task learns none.

    Parameters
    ----------
    raw : (N, K) or, of a dispersed task, (N, K + 1), as the network says it.

    Examples
    --------
    >>> dispersion(Task("count", "negative-binomial", ()), [[0.3, 0.0], [0.7, 0.0]]).tolist()
    [1.0, 1.0]
    """
    outputs = np.asarray(raw, np.float64)
    if not task.dispersed:
        return np.zeros(len(outputs))
    return np.asarray(np.exp(outputs[:, -1].clip(-LOG_K_MOST, LOG_K_MOST)))


def probability(logit: FloatArray) -> FloatArray:
    """The sigmoid, without overflow.

    >>> probability(np.array([-1000.0, 0.0])).tolist()
    [0.0, 0.5]
    """
    logit = np.asarray(logit, np.float64)
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1.0, small) / (1.0 + small)


def probabilities(task: Task, outputs: FloatArray) -> FloatArray:
    """(N, classes) probability of each class.

    Parameters
    ----------
    outputs : (N, K) logits.

    Examples
    --------
    >>> probabilities(Task(), np.array([[0.0]])).tolist()
    [[0.5, 0.5]]
    """
    if task.outputs == 1:
        return np.hstack([probability(-outputs), probability(outputs)])
    parts = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(parts / parts.sum(axis=1, keepdims=True))


def prediction(task: Task, outputs: FloatArray) -> FloatArray:
    """One number a tile: the probability of the riskiest class, the value, or the expected count.

    Parameters
    ----------
    outputs : (N, K) as `said`.

    Returns
    -------
    (N,) higher is riskier.
    """
    if task.kind == "class":
        return np.asarray(probabilities(task, outputs)[:, -1])
    return np.asarray(np.exp(outputs[:, 0]) if task.kind == "count" else outputs[:, 0])
