"""The ceiling: how well the true expected counts themselves would tell tiles apart.

Whether a tile has an event in one year is near to a coin toss where few are expected, so that no model
reaches an AUROC of 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.empirical_bayes import LEAST_K, belief, passing_k
from roadrisk.learning.judging.measures import auroc, auroc_fold_mean


class Ceiling(NamedTuple):
    """The ceiling of two measures: of all pairs of tiles, and of pairs of tiles of one fold."""

    auroc: float
    auroc_fold_mean: float


def ceiling_auroc(
    count: FloatArray,
    mean: FloatArray,
    k: ArrayLike,
    threshold: float,
    seed: int,
    draws: int = 200,
    lasting: float = 1.0,
    fold: IntArray | None = None,
) -> float:
    """AUROC of the true expected counts on labels drawn from them, as far as counts tell what is true.

    Each draw takes a tile's expected count from its gamma posterior, and then a count. The posterior's mean
    in place of that draw would make too low a ceiling: means are more alike than what they are means of.

    Parameters
    ----------
    count : (N,) of one period, the same that labels are cut from.
    mean, k : (N,), and (N,) or one for all, both by a model that did not see the counts; known.
    threshold : the label is whether a count is at least this.
    lasting : share of k that stays from period to period; of the rest nobody can know before.
    fold : (N,) of pairs of tiles of one fold alone, as `auroc_fold_mean` counts them; None of all pairs.

    Returns
    -------
    The mean over draws; NaN where in each all of the tiles reach the threshold, or none.

    Examples
    --------
    >>> mean = np.repeat([0.5, 2.0], 500)
    >>> count = np.random.default_rng(0).poisson(mean).astype(float)
    >>> round(ceiling_auroc(count, mean, k=0.0, threshold=1, seed=0), 2)
    0.75
    """
    k = np.broadcast_to(np.asarray(k, np.float64), mean.shape)
    one = np.zeros(len(count), np.int64) if fold is None else fold
    rows = np.lexsort((one, k, mean, count))  # draws the same in any order of rows
    count, mean, k, one = count[rows], mean[rows], k[rows], one[rows]
    known = belief(count, mean, k, lasting=lasting)
    passing = passing_k(k, lasting)
    chance = np.random.default_rng([seed, 2])
    found = []
    for _ in range(draws):
        true = known.drawn(chance)
        drawn = chance.poisson(true * _frailty(passing, chance))
        label = np.asarray(drawn >= threshold, np.float64)
        found.append(auroc(label, true) if fold is None else auroc_fold_mean(label, true, one))
    defined = [one for one in found if math.isfinite(one)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _frailty(k: FloatArray, chance: np.random.Generator) -> FloatArray:
    """(N,) what one period makes of expected counts: gammas with mean 1 and variance k."""
    some = k > LEAST_K
    shape = 1 / np.where(some, k, 1.0)
    return np.where(some, chance.gamma(shape) / shape, 1.0)
