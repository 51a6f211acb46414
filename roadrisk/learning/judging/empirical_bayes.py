"""Empirical Bayes: what a place's own count adds to what is expected of places like it.

The expected count of a tile is uncertain as a gamma with mean mu and variance k mu^2, which makes counts
negative binomial; a tile's own count then makes it another gamma (Hauer 2002; HSM part C). Both mu and k must
come from models that did not see the count: else k is far too small, and the count is hardly believed.

One period's counts cannot tell what of k belongs to a place and what to that period. Empirical Bayes takes
all of it for the place; where an earlier period was counted too, `lasting_share` says how much is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roadrisk.grid import FloatArray
from roadrisk.learning.judging.dispersion import log_likelihood
from roadrisk.learning.judging.evaluation import Consistency

BoolArray = NDArray[np.bool_]

LEVEL = 0.9
LEAST_K = 1e-9  # below it counts are a Poisson's


class Bounds(NamedTuple):
    """(N,) ends of the interval of each tile."""

    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, eq=False)
class EbEstimate:
    """What N tiles are expected to have, their own counts known.

    Parameters
    ----------
    weight : (N,) of the model, from 0 to 1; the count has the rest.
    expected : (N,) over all the periods that were counted.
    excess : (N,) `expected` less what the model expects: above 0 where a place is worse than its like.
    """

    weight: FloatArray
    expected: FloatArray
    excess: FloatArray


@dataclass(frozen=True, eq=False)
class Belief:
    """How many events N tiles have in a period in the long run, as far as that is known: a gamma each.

    Parameters
    ----------
    weight : (N,) of the model; 1 where nothing was counted.
    expected : (N,) mean of the gamma.
    scale : (N,) its variance by its mean; 0 is a certainty.
    """

    weight: FloatArray
    expected: FloatArray
    scale: FloatArray

    @property
    def sure(self) -> BoolArray:
        """(N,) whether the gamma is as narrow as a point."""
        return np.asarray(self.scale <= LEAST_K * self.expected)

    @property
    def shape(self) -> FloatArray:
        """(N,) of the gamma; 1 where it is a point."""
        return np.where(self.sure, 1.0, self.expected) / np.where(self.sure, 1.0, self.scale)

    def quantile(self, share: float) -> FloatArray:
        """(N,) what the expected count is below with this probability."""
        from scipy.special import gammaincinv

        return np.where(self.sure, self.expected, gammaincinv(self.shape, share) * self.scale)

    def drawn(self, chance: np.random.Generator) -> FloatArray:
        """(N,) expected counts, as they might be."""
        return np.where(self.sure, self.expected, chance.gamma(self.shape) * self.scale)


def belief(
    count: FloatArray, mean: FloatArray, k: ArrayLike, periods: float = 1.0, lasting: float = 1.0
) -> Belief:
    """What a model and a tile's own count say together of its expected count in one period.

    With all of k lasting it is the gamma posterior exactly. Else some of what makes a tile unlike its mean
    is of one period alone, as the weather, and its count tells less of the next: credibility by the variance
    between tiles against that within them (Buehlmann and Straub 1970), and the gamma with that mean and
    variance.

    Parameters
    ----------
    count : (N,) over all periods; NaN where nothing was counted, which leaves what the model says.
    mean : (N,) expected in one period.
    k : (N,) or one for all, of counts of one period; NaN where it is unknown, and so is the rest.
    periods : counted.
    lasting : share of k that stays from period to period, as `lasting_share` finds it.
    """
    k = np.broadcast_to(np.asarray(k, np.float64), mean.shape)
    total, lasts = mean * periods, lasting * k
    trust = lasts * total / (1 + (lasts + (k - lasts) / periods) * total)
    weight = np.where(np.isnan(count), np.where(np.isnan(k), np.nan, 1.0), 1 - trust)
    expected = (weight * total + (1 - weight) * np.nan_to_num(count)) / periods
    return Belief(weight, expected, lasts * mean * weight)


def lasting_share(
    count: FloatArray, mean: FloatArray, k: ArrayLike, past: FloatArray, periods: float = 1.0
) -> float:
    """The share of k that stays, under which these counts are likeliest, those of before being known.

    Parameters
    ----------
    count : (N,) of one period.
    mean : (N,) expected in it by a model that saw neither these counts nor those before.
    k : (N,) or one for all, of these counts.
    past : (N,) of the `periods` before; NaN where unknown. That there were more or fewer events everywhere
        makes no difference.

    Returns
    -------
    From 0 to 1, of planted shares found within 0.1; 1, as Empirical Bayes takes it, where no count or no k
    tells.

    Examples
    --------
    >>> chance = np.random.default_rng(0)
    >>> mean = chance.gamma(4.0, 1.0, 20_000)
    >>> past = chance.poisson(mean * chance.gamma(2.0, 0.5, len(mean))) + 0.0
    >>> count = chance.poisson(mean * chance.gamma(2.0, 0.5, len(mean))) + 0.0  # another year, other luck
    >>> round(lasting_share(count, mean, 0.5, past), 1)
    0.0
    """
    from scipy.optimize import minimize_scalar

    each = np.broadcast_to(np.asarray(k, np.float64), mean.shape)
    rows = np.lexsort((past, each, mean, count))  # sums the same in any order of rows
    rows = rows[np.isfinite(past[rows]) & np.isfinite(each[rows]) & (mean[rows] > 0)]
    count, mean, each, past = count[rows], mean[rows], each[rows], past[rows]
    if not count.any() or not past.any() or not each.any():
        return 1.0
    growth = float(count.sum() * periods / past.sum())

    def unlikelihood(lasting: float) -> float:
        known = belief(past, mean / growth, each, periods, lasting)
        return -log_likelihood(count, known.expected * growth, _next_k(known, each, lasting))

    found = minimize_scalar(unlikelihood, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-6})
    return min((0.0, 1.0, float(found.x)), key=unlikelihood)


def passing_k(k: ArrayLike, lasting: float) -> FloatArray:
    """(N,) the k of one period alone: 1 + k is the product of 1 + what stays and 1 + this.

    >>> passing_k([0.8], lasting=0.625).round(3).tolist()
    [0.2]
    """
    k = np.asarray(k, np.float64)
    return np.asarray((1 - lasting) * k / (1 + lasting * k))


def adjusted(
    count: FloatArray, mean: FloatArray, k: ArrayLike, periods: float = 1.0, lasting: float = 1.0
) -> EbEstimate:
    """The Empirical Bayes estimate: w = 1 / (1 + k sum(mu)), N = w sum(mu) + (1 - w) count (Hauer 2002).

    Parameters
    ----------
    count : (N,) over all periods.
    mean : (N,) expected in one period.
    k : (N,) or one for all; 0 believes the model alone.
    periods : counted.
    lasting : share of k that stays from period to period; below 1 counts are believed less.

    Examples
    --------
    A road of 1.8 km, where 4.34 were expected and 12 counted, k = 1 / 2.05 by km (Hauer et al. 2002,
    Estimating Safety by the Empirical Bayes Method: A Tutorial, TRR 1784):

    >>> found = adjusted(np.array([12.0]), np.array([4.34]), k=1 / (2.05 * 1.8))
    >>> found.weight.round(2).tolist(), found.expected.round(2).tolist(), found.excess.round(2).tolist()
    ([0.46], [8.48], [4.14])
    """
    known = belief(count, mean, k, periods, lasting)
    expected = known.expected * periods
    return EbEstimate(known.weight, expected, expected - mean * periods)


def gamma_interval(
    count: FloatArray,
    mean: FloatArray,
    k: ArrayLike,
    periods: float = 1.0,
    level: float = LEVEL,
    lasting: float = 1.0,
) -> Bounds:
    """Where the expected count of each tile lies: of its gamma, as its own count leaves it.

    Parameters
    ----------
    count : (N,) over all periods; NaN where nothing was counted, which leaves what the model says.
    mean : (N,) expected in one period.
    k : (N,) or one for all; NaN where it is unknown, and so are the bounds.
    periods : counted, and told of.
    lasting : share of k that stays from period to period; what is told of is the long run. With 1, it is
        the expected count of the periods counted, whatever made it so.

    Examples
    --------
    >>> known = gamma_interval(np.array([0.0, np.nan]), np.array([5.0, 5.0]), k=0.5)
    >>> known.low.round(2).tolist(), known.high.round(2).tolist()
    ([0.25, 0.89], [3.39, 11.86])
    """
    known = belief(count, mean, k, periods, lasting)
    return Bounds(*(known.quantile(tail) * periods for tail in _tails(level)))


def count_interval(
    mean: FloatArray,
    k: ArrayLike,
    count: FloatArray | None = None,
    periods: float = 1.0,
    level: float = LEVEL,
    lasting: float = 1.0,
) -> Bounds:
    """Where the next period's count lies: quantiles of a negative binomial, of a Poisson where k is 0.

    Parameters
    ----------
    mean : (N,) expected in one period.
    k : (N,) or one for all; NaN where it is unknown, and so are the bounds.
    count : (N,) over the `periods` before; NaN, or None for all, where nothing was counted.
    lasting : share of k that stays from period to period.

    Returns
    -------
    Whole numbers; a count is below `low`, and above `high`, with a probability of at most (1 - level) / 2.

    Examples
    --------
    >>> found = count_interval(np.array([5.0, 5.0]), k=np.array([0.0, 0.5]))
    >>> found.low.tolist(), found.high.tolist()
    ([2.0, 0.0], [9.0, 13.0])
    """
    from scipy.stats import nbinom, poisson

    mean = np.asarray(mean, np.float64)
    known = belief(np.full(mean.shape, np.nan) if count is None else count, mean, k, periods, lasting)
    next_k = _next_k(known, k, lasting)
    sure = next_k <= LEAST_K
    shape = 1 / np.where(sure, 1.0, next_k)
    chance = 1 / (1 + np.where(sure, 1.0, next_k) * known.expected)
    return Bounds(
        *(
            np.where(sure, poisson.ppf(tail, known.expected), nbinom.ppf(tail, shape, chance))
            for tail in _tails(level)
        )
    )


def consistency(
    model: str, score_first: FloatArray, score_later: FloatArray, count_later: FloatArray, percent: int
) -> Consistency:
    """How well a way to rank tiles holds from one period to the next.

    The site consistency, method consistency and total rank differences tests of Cheng and Washington 2008
    (New criteria for evaluating methods of identifying hot spots, TRR 2083), which Guo, Wu and Lord 2020
    (Generalized criteria for evaluating hotspot identification methods, AAP 145) build on. The last is
    given as a mean, so that regions of any size compare.

    Parameters
    ----------
    score_first, score_later : (N,) by the same method from the first and from the second period.
    count_later : (N,) of the second period.
    percent : of tiles that are called hot, one at least. Tiles that tie at the edge are hot by equal shares.

    Examples
    --------
    >>> first, later = np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 2.0, 3.0, 1.0])
    >>> found = consistency("past_counts", first, later, np.array([5.0, 2.0, 3.0, 0.0]), percent=50)
    >>> found.events_later, found.same_places, found.rank_change
    (7.0, 1, 0.5)
    """
    tiles = len(score_first)
    hot = max(1, round(tiles * percent / 100))
    first, later = _ranks(score_first), _ranks(score_later)
    hot_first, hot_later = _hot(score_first, hot), _hot(score_later, hot)
    return Consistency(
        model=model,
        top_percent=percent,
        tiles=hot,
        events_later=math.fsum((hot_first * count_later).tolist()),
        same_places=round(math.fsum((hot_first * hot_later).tolist())),
        rank_change=math.fsum((hot_first * np.abs(first - later)).tolist()) / hot,
    )


def _next_k(known: Belief, k: ArrayLike, lasting: float) -> FloatArray:
    """(N,) k of the next period's count: what is not known of the long run, and what is of that period."""
    unknown = np.where(known.sure, 0.0, known.scale) / np.where(known.sure, 1.0, known.expected)
    return np.asarray(unknown + passing_k(k, lasting) * (1 + unknown))


def _tails(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


def _ranks(score: FloatArray) -> FloatArray:
    """(N,) 1 for the highest; equal ones share the middle of theirs."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-score), np.float64)


def _hot(score: FloatArray, hot: int) -> FloatArray:
    """(N,) share of each tile that is among the `hot` highest; those that tie at the edge have equal ones."""
    edge = np.sort(score)[-hot]
    above = score > edge
    at = score == edge
    return np.asarray(above + at * ((hot - above.sum()) / at.sum()), np.float64)
