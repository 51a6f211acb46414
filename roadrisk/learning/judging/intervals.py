"""How certain a score is, and the difference of two: a bootstrap of spatial blocks.

Neighbouring tiles tell nearly the same, so whole blocks are drawn, with replacement, not tiles; two models
are judged on the same draws, so that what makes a draw easy for both cancels in their difference (a paired
bootstrap). Percentiles of the draws make the interval: Efron and Tibshirani 1993, An Introduction to the
Bootstrap, chapters 8 and 13. What is drawn is places; the models stay as they were trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from roadrisk.grid import FloatArray, IntArray

FEWEST_BLOCKS = 20
DEFINED_SHARE = 0.9
TILES_AT_ONCE = 1_000_000

# label (N,), score (N,), weights (S, N) -> (S,)
WeightedMeasure = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


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


def interval(
    measure: WeightedMeasure,
    label: FloatArray,
    score: FloatArray,
    block: IntArray,
    seed: int,
    samples: int = 1000,
    level: float = 0.95,
) -> Interval | None:
    """The interval of one model's score.

    Parameters
    ----------
    label, score : (N,).
    block : (N,) number of each tile's block.
    samples : draws of blocks.
    level : chance that an interval made this way holds the truth.

    Returns
    -------
    None with fewer than 20 blocks, and where the measure is not defined on most draws.
    """
    return _interval(lambda weights: measure(label, score, weights), block, seed, samples, level)


def difference_interval(
    measure: WeightedMeasure,
    label: FloatArray,
    a: FloatArray,
    b: FloatArray,
    block: IntArray,
    seed: int,
    samples: int = 1000,
    level: float = 0.95,
) -> Interval | None:
    """The interval of the score of `a` less that of `b`, both on the same draws.

    Parameters
    ----------
    label, a, b : (N,); the scores of two models.
    block, samples, level : as of `interval`.

    Returns
    -------
    As of `interval`.
    """
    return _interval(
        lambda weights: measure(label, a, weights) - measure(label, b, weights), block, seed, samples, level
    )


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


def weighted_auroc(label: FloatArray, score: FloatArray, weights: FloatArray) -> FloatArray:
    """(S,) AUROC of tiles that count as often as their weights say, ties half; NaN without both classes.

    Parameters
    ----------
    label : (N,) 0 or 1.
    score : (N,) finite.
    weights : (S, N).

    Examples
    --------
    >>> label, score = np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.2, 0.9])
    >>> weighted_auroc(label, score, np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])).tolist()
    [0.75, 0.5, nan]
    """
    wins, pairs = _wins_of_pairs(label, score, weights)
    return np.asarray(np.divide(wins, pairs, out=np.full(len(weights), math.nan), where=pairs > 0))


def auroc_within(fold: IntArray) -> WeightedMeasure:
    """The AUROC of pairs of tiles of the same fold: `auroc_fold_mean`, of tiles with weights.

    Parameters
    ----------
    fold : (N,) whose model scored each tile.
    """

    def measure(label: FloatArray, score: FloatArray, weights: FloatArray) -> FloatArray:
        inside = [fold == k for k in np.unique(fold)]
        found = [_wins_of_pairs(label[rows], score[rows], weights[:, rows]) for rows in inside]
        wins, pairs = np.sum(found, axis=0)
        return np.asarray(np.divide(wins, pairs, out=np.full(len(weights), math.nan), where=pairs > 0))

    return measure


def _wins_of_pairs(
    label: FloatArray, score: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(S,) pairs of a positive and a negative in which the positive scores higher, ties half; (S,) pairs."""
    order = np.argsort(score, kind="stable")
    first_of_ties = np.flatnonzero(np.diff(score[order], prepend=-math.inf) > 0)
    weights, high = weights[:, order], label[order] == 1
    positives = np.add.reduceat(weights * high, first_of_ties, axis=1)
    negatives = np.add.reduceat(weights * ~high, first_of_ties, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return (positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1)


def _interval(
    found: Callable[[FloatArray], FloatArray], block: IntArray, seed: int, samples: int, level: float
) -> Interval | None:
    """Of what is found for weights (S, N)."""
    names, block = np.unique(block, return_inverse=True)
    block = block.reshape(-1)
    if len(names) < FEWEST_BLOCKS:
        return None
    # how often each block is drawn
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), samples)
    at_once = max(1, TILES_AT_ONCE // len(block))
    starts = range(0, samples, at_once)
    values = np.concatenate([found(drawn[i : i + at_once, block].astype(np.float64)) for i in starts])
    defined = values[np.isfinite(values)]
    value = float(found(np.ones((1, len(block))))[0])
    if not math.isfinite(value) or len(defined) < DEFINED_SHARE * samples:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
