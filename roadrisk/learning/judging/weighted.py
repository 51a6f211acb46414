"""Measures of tiles that count as often as their weights say, for many weightings at once.

With whole weights each equals the measure of the same name in `measures` on rows repeated that often, so that
a bootstrap need not copy rows: a draw of blocks is a weight for every tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from roadrisk.grid import FloatArray, IntArray

# observed (N,), said (N,), weights (S, N) -> (S,)
WeightedMeasure = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


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
    return _ratio(*_wins_of_pairs(label, score, weights))


def auroc_within(fold: IntArray) -> WeightedMeasure:
    """The AUROC of pairs of tiles of the same fold: `auroc_fold_mean`, of tiles with weights.

    Parameters
    ----------
    fold : (N,) whose model scored each tile.
    """
    inside = [np.flatnonzero(fold == k) for k in np.unique(fold)]

    def measure(label: FloatArray, score: FloatArray, weights: FloatArray) -> FloatArray:
        found = [_wins_of_pairs(label[rows], score[rows], weights[:, rows]) for rows in inside]
        wins, pairs = np.sum(found, axis=0)
        return _ratio(wins, pairs)

    return measure


def weighted_auprc(label: FloatArray, score: FloatArray, weights: FloatArray) -> FloatArray:
    """(S,) average precision; NaN without positives.

    Parameters
    ----------
    label, score, weights : as of `weighted_auroc`.
    """
    hits, tiles = _riskiest_first(score, weights, label, np.ones(len(score)))
    # tiles that are not drawn come before the first that is: no precision, and no hit to weigh it by
    precision = _ratio(np.cumsum(hits, axis=1), np.cumsum(tiles, axis=1), 0.0)
    return _ratio((precision * hits).sum(axis=1), hits.sum(axis=1))


def hit_rate_within(area: FloatArray, percent: float) -> WeightedMeasure:
    """The share of events in the riskiest `percent` of the area; NaN without events or area.

    Parameters
    ----------
    area : (N,) of each tile; or road length, for the rate by that.
    """

    def measure(events: FloatArray, score: FloatArray, weights: FloatArray) -> FloatArray:
        amounts = _riskiest_first(score, weights, events, area)
        found, covered = (np.pad(np.cumsum(amount, axis=1), ((0, 0), (1, 0))) for amount in amounts)
        wanted = covered[:, -1] * percent / 100
        # the tiles that the limit cuts: those after the last whole ones
        last = np.minimum((covered <= wanted[:, None]).sum(axis=1), covered.shape[1] - 1)
        draw = np.arange(len(weights))
        part = _ratio(wanted - covered[draw, last - 1], covered[draw, last] - covered[draw, last - 1])
        inside = found[draw, last - 1] + part * (found[draw, last] - found[draw, last - 1])
        return _ratio(inside, found[:, -1])

    return measure


def weighted_spearman(observed: FloatArray, said: FloatArray, weights: FloatArray) -> FloatArray:
    """(S,) correlation of ranks, ties sharing the middle of theirs; NaN where either is constant.

    Parameters
    ----------
    observed, said : (N,) finite.
    weights : (S, N).
    """
    first, second = (_centred_ranks(values, weights) for values in (observed, said))
    weighted = weights * first
    spread = (weighted * first).sum(axis=1) * (weights * second**2).sum(axis=1)
    return _ratio((weighted * second).sum(axis=1), np.sqrt(spread))


def mean_of(loss: Callable[[FloatArray, FloatArray], FloatArray]) -> WeightedMeasure:
    """The mean over tiles of what each costs, (N,) of observed and said.

    >>> squared = mean_of(lambda observed, said: (observed - said) ** 2)
    >>> squared(np.zeros(2), np.array([1.0, 2.0]), np.array([[1.0, 1.0], [0.0, 1.0]])).tolist()
    [2.5, 4.0]
    """

    def measure(observed: FloatArray, said: FloatArray, weights: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):  # what costs infinitely is not defined, drawn or not
            costs = weights @ loss(observed, said)
        return _ratio(costs, weights.sum(axis=1))

    return measure


def weighted_rmse(value: FloatArray, predicted: FloatArray, weights: FloatArray) -> FloatArray:
    """(S,) root of the mean squared error.

    Parameters
    ----------
    value, predicted : (N,).
    weights : (S, N).
    """
    return np.sqrt(mean_of(lambda observed, said: (said - observed) ** 2)(value, predicted, weights))


def _ratio(part: FloatArray, whole: FloatArray, otherwise: float = math.nan) -> FloatArray:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, otherwise), where=whole > 0))


def _riskiest_first(
    score: FloatArray, weights: FloatArray, first: FloatArray, second: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(S, G) weighted sums of two amounts over G groups of equal score, highest score first."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=math.inf) != 0)
    drawn = weights[:, order]
    sums = [_in_groups(drawn * amount[order], starts) for amount in (first, second)]
    return sums[0], sums[1]


def _in_groups(values: FloatArray, starts: IntArray) -> FloatArray:
    """(S, G) sums of runs of columns."""
    return values if len(starts) == values.shape[1] else np.add.reduceat(values, starts, axis=1)


def _wins_of_pairs(
    label: FloatArray, score: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(S,) pairs of a positive and a negative in which the positive scores higher, ties half; (S,) pairs."""
    positives, negatives = _riskiest_first(score, weights, label, 1 - label)
    above = np.cumsum(positives, axis=1) - positives / 2
    return (negatives * above).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1)


def _centred_ranks(values: FloatArray, weights: FloatArray) -> FloatArray:
    """(S, N) ranks of tiles less their weighted mean."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1) != 0)
    tiles = _in_groups(weights[:, order], starts)
    ranks = np.cumsum(tiles, axis=1) - tiles / 2
    return np.asarray(ranks[:, group] - weights.sum(axis=1, keepdims=True) / 2)
