"""How certain a score is, and the difference of two: a bootstrap of spatial blocks.

Neighbouring tiles tell nearly the same, so whole blocks are drawn, with replacement, not tiles; two models
are judged on the same draws, so that what makes a draw easy for both cancels in their difference (a paired
bootstrap). Percentiles of the draws make the interval: Efron and Tibshirani 1993, An Introduction to the
Bootstrap, chapters 8 and 13. What is drawn is places; the models stay as they were trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.measures import each_deviance, ranked_by
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold
from roadrisk.learning.judging.weighted import (
    WeightedMeasure,
    auroc_within,
    hit_rate_within,
    mean_of,
    weighted_auprc,
    weighted_auroc,
    weighted_rmse,
    weighted_spearman,
)
from roadrisk.learning.tasks import prediction

FEWEST_BLOCKS = 20
DEFINED_SHARE = 0.9
LEVEL = 0.95
TILES_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A score, and where it lies with the certainty that was asked for.

    >>> print(Interval(0.8, 0.75, 0.84))
    0.800 (0.750 to 0.840)
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class Measured(NamedTuple):
    """A measure, what it compares, and whether that is the order of tiles or what is predicted of them.

    Parameters
    ----------
    observed : (N,).
    by_order : logits order classes, since probabilities near 1 may tie.
    """

    measure: WeightedMeasure
    observed: FloatArray
    by_order: bool


def interval(
    measure: WeightedMeasure,
    observed: FloatArray,
    score: FloatArray,
    block: IntArray,
    seed: int,
    samples: int = 1000,
    level: float = LEVEL,
    less: FloatArray | None = None,
) -> Interval | None:
    """The interval of one model's score, or of how far it is above another's.

    Parameters
    ----------
    observed, score : (N,).
    block : (N,) number of each tile's block.
    samples : draws of blocks.
    level : chance that an interval made this way holds the truth.
    less : (N,) of another model, whose score on the same draws is taken off.

    Returns
    -------
    None with fewer than 20 blocks, and where the measure is not defined on most draws.
    """
    if len(np.unique(block)) < FEWEST_BLOCKS:
        return None
    scores = {"it": score} | ({} if less is None else {"less": less})
    once = np.ones((1, len(block)))
    values = {name: float(measure(observed, of, once)[0]) for name, of in scores.items()}
    draws = bootstrapped(measure, observed, scores, block, seed, samples)
    value = values["it"] - values.get("less", 0.0)
    ends = middle(draws["it"] - draws.get("less", np.zeros(samples)), level)
    return Interval(value, *ends) if ends and math.isfinite(value) else None


def bootstrapped(
    measure: WeightedMeasure,
    observed: FloatArray,
    scores: Mapping[str, FloatArray],
    block: IntArray,
    seed: int,
    samples: int = 1000,
) -> dict[str, FloatArray]:
    """By model, (samples,) its score on each draw of blocks: the same draws for all.

    Parameters
    ----------
    observed : (N,).
    scores : by model, (N,).
    block : (N,) number of each tile's block.
    """
    values: dict[str, list[FloatArray]] = {name: [] for name in scores}
    for weights in _drawn(block, seed, samples):
        for name, score in scores.items():
            values[name].append(measure(observed, score, weights))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def middle(draws: FloatArray, level: float = LEVEL) -> tuple[float, float] | None:
    """The ends between which `level` of the draws lie; None where too many are not defined.

    >>> middle(np.arange(101.0), 0.5)
    (25.0, 75.0)
    """
    defined = draws[np.isfinite(draws)]
    if len(defined) < DEFINED_SHARE * len(draws):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def measure_intervals(
    outcomes: Outcomes, found: OutOfFold, seed: int, samples: int = 1000
) -> dict[str, dict[str, tuple[float, float]]]:
    """By model and metric, the ends of the 95 % interval, all on the same draws of blocks.

    Parameters
    ----------
    samples : draws of blocks.

    Returns
    -------
    Nothing with fewer than 20 blocks or where tiles have no place; and nothing of a metric that is not
    defined on most draws.
    """
    block = outcomes.block
    if block is None or len(np.unique(block)) < FEWEST_BLOCKS:
        return {}
    task = outcomes.task
    order = {name: ranked_by(task, said) for name, said in found.outputs.items()}
    predicted = {name: prediction(task, said) for name, said in found.outputs.items()}
    intervals: dict[str, dict[str, tuple[float, float]]] = {model: {} for model in found.outputs}
    for metric, (measure, observed, by_order) in _measured(outcomes, found.fold).items():
        scores = order if by_order else predicted
        for model, draws in bootstrapped(measure, observed, scores, block, seed, samples).items():
            ends = middle(draws)
            if ends:
                intervals[model][metric] = ends
    return intervals


def block_of(row: IntArray, col: IntArray, side: int) -> IntArray:
    """(N,) number of the square block, `side` tiles wide, in which each tile lies.

    Parameters
    ----------
    row, col : (N,) absolute place on the lattice.

    Examples
    --------
    >>> block_of(np.array([0, 3, 4, -1]), np.array([0, 3, 0, 0]), 4).tolist()
    [1, 1, 2, 0]
    """
    blocks = np.stack([row // side, col // side], axis=1)
    _, block = np.unique(blocks, axis=0, return_inverse=True)
    return np.asarray(block.reshape(-1), np.int64)


def _measured(outcomes: Outcomes, fold: IntArray) -> Mapping[str, Measured]:
    """The metrics that get an interval."""
    label, task = outcomes.label, outcomes.task
    if task.kind == "class":
        riskiest = np.asarray(label == len(task.classes) - 1, np.float64)
        kinds = {
            "auroc": Measured(weighted_auroc, riskiest, True),
            "auroc_fold_mean": Measured(auroc_within(fold), riskiest, True),
            "auprc": Measured(weighted_auprc, riskiest, True),
            "brier": Measured(mean_of(_squared), riskiest, False),
        }
    else:
        apart = {
            "mae": Measured(mean_of(_apart), label, False),
            "spearman": Measured(weighted_spearman, label, False),
        }
        own = {
            "count": {"deviance": Measured(mean_of(each_deviance), label, False)},
            "value": {"rmse": Measured(weighted_rmse, label, False)},
        }
        kinds = {**own[task.kind], **apart}
    if task.kind != "value" or outcomes.events.any():
        kinds["hit_rate_10"] = Measured(hit_rate_within(outcomes.area_km2, 10), outcomes.events, True)
    return kinds


def _squared(observed: FloatArray, said: FloatArray) -> FloatArray:
    return np.asarray((said - observed) ** 2)


def _apart(observed: FloatArray, said: FloatArray) -> FloatArray:
    return np.abs(said - observed)


def _drawn(block: IntArray, seed: int, samples: int) -> Iterator[FloatArray]:
    """(s, N) how often each tile is drawn with its block, some draws at a time."""
    names, block = np.unique(block, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), samples)
    at_once = max(1, TILES_AT_ONCE // len(block))
    for first in range(0, samples, at_once):
        yield drawn[first : first + at_once, block.reshape(-1)].astype(np.float64)
