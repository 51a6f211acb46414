"""Dispersion of counts: the k of Var = mu + k mu^2 (a negative binomial), by likelihood.

Of means that did not see the counts: those that a model was fitted to lie too near to them, and k is then
far too small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray

DispersionForm = Literal["k", "k/length", "k/mu"]

METRES_A_KM = 1000.0
SHORTEST_M = 1.0
# of k itself; a count that varies less is a Poisson's, and none known varies more
LEAST_K, MOST_K = 1e-6, 1e4


@dataclass(frozen=True)
class Dispersion:
    """How k differs from tile to tile.

    Parameters
    ----------
    form : the same everywhere; inverse to the length of road, as in FHWA-HRT-17-070; or inverse to the mean,
        so that the variance is proportional to it.
    k : of any tile; of a tile with 1 km of road; or of one where one event is expected. 0 is a Poisson.
    lasting : share of k that stays with a place from one period to the next, as
        `empirical_bayes.lasting_share` finds it from two; 1 where one alone is known.
    """

    form: DispersionForm = "k"
    k: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)] = 0.0
    lasting: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)] = 1.0

    def of(self, mean: ArrayLike, length_m: FloatArray | None = None) -> FloatArray:
        """(N,) k of each tile.

        Parameters
        ----------
        mean : (N,) expected events; where there are none, k is 0.
        length_m : (N,) metres of road, which `k/length` needs: where they are unknown, k is NaN; less than
            a metre counts as one.

        Raises
        ------
        ModelError : `k/length` without lengths.

        Examples
        --------
        >>> Dispersion("k/length", 0.5).of([3.0, 3.0], np.array([1000.0, 250.0])).tolist()
        [0.5, 2.0]
        >>> Dispersion("k/mu", 0.5).of([1.0, 4.0]).tolist()
        [0.5, 0.125]
        """
        mean = np.asarray(mean, np.float64)
        return np.where(mean > 0, self.k * _unit(self.form, mean, length_m), 0.0)


def fitted_dispersion(count: FloatArray, mean: FloatArray, length_m: FloatArray | None = None) -> Dispersion:
    """The form of k, and k, under which counts are likeliest.

    Parameters
    ----------
    count : (N,) whole numbers.
    mean : (N,) expected by a model that did not see these counts.
    length_m : (N,) metres of road; `k/length` is compared only where all are known and above 0.

    Returns
    -------
    The simplest of equal ones; k = 0 where counts vary no more than a Poisson's.

    Raises
    ------
    ModelError : a mean that is not finite, or 0 where something happened.

    Examples
    --------
    >>> chance = np.random.default_rng(0)
    >>> mean = chance.gamma(2.0, 2.0, 20_000)
    >>> count = chance.poisson(mean * chance.gamma(1 / 0.6, 0.6, len(mean))).astype(float)
    >>> found = fitted_dispersion(count, mean)
    >>> found.form, round(found.k, 1)
    ('k', 0.6)
    """
    _check(count, mean)
    forms: list[DispersionForm] = ["k", "k/mu"]
    if length_m is not None and bool((length_m > 0).all()):
        forms.insert(1, "k/length")
    best, best_likelihood = Dispersion(), -math.inf
    for form in forms:
        unit = np.where(mean > 0, _unit(form, mean, length_m), 0.0)
        found = Dispersion(form, likeliest_k(count, mean, unit))
        likelihood = log_likelihood(count, mean, found.of(mean, length_m))
        if likelihood > best_likelihood:
            best, best_likelihood = found, likelihood
    return best


def likeliest_k(count: FloatArray, mean: FloatArray, unit: ArrayLike = 1.0) -> float:
    """The k above or at 0 under which counts are likeliest, where k times `unit` is a tile's own.

    0 where nothing happened: nothing is known then of how it varies.
    """
    from scipy.optimize import minimize_scalar

    rows = np.lexsort((np.broadcast_to(unit, mean.shape), mean, count))  # sums the same in any order of rows
    count, mean, unit = count[rows], mean[rows], np.broadcast_to(unit, mean.shape)[rows]
    # the slope of the likelihood at k = 0
    if not count.any() or float((unit * ((count - mean) ** 2 - count)).sum()) <= 0:
        return 0.0
    middle = math.log(float(np.median(unit[unit > 0])))

    def unlikelihood(log_k: float) -> float:
        return -log_likelihood(count, mean, np.exp(log_k) * unit)

    bounds = (math.log(LEAST_K) - middle, math.log(MOST_K) - middle)
    found = minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))


def log_likelihood(count: FloatArray, mean: FloatArray, k: ArrayLike) -> float:
    """Sum over tiles of the log-likelihood of a negative binomial, of a Poisson where k is 0.

    Parameters
    ----------
    k : (N,) or one for all.

    Examples
    --------
    >>> log_likelihood(np.array([0.0]), np.array([2.0]), 0.0)
    -2.0
    >>> log_likelihood(np.array([0.0]), np.array([2.0]), 0.5)  # (1 + k mu) ** (-1 / k)
    -1.3862943611198906
    """
    from scipy.special import gammaln, xlogy

    k = np.broadcast_to(np.asarray(k, np.float64), mean.shape)
    spread = k > LEAST_K * 1e-3
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = np.where(spread, 1 / k, 1.0)
        said = np.where(spread, -shape * np.log1p(k * mean), -mean) + xlogy(count, mean) - gammaln(count + 1)
    some = spread & (count > 0)
    y, r = count[some], shape[some]
    said[some] += gammaln(y + r) - gammaln(r) - y * np.log(r + mean[some])
    return float(said.sum())


def _unit(form: DispersionForm, mean: FloatArray, length_m: FloatArray | None) -> FloatArray:
    """(N,) what k is multiplied by."""
    if form == "k":
        return np.ones(len(mean))
    if form == "k/mu":
        with np.errstate(divide="ignore"):
            return 1 / mean
    if length_m is None:
        raise ModelError("the dispersion is k/length, and no length of road is known; give roads")
    return METRES_A_KM / np.maximum(np.asarray(length_m, np.float64), SHORTEST_M)


def _check(count: FloatArray, mean: FloatArray) -> None:
    odd = ~np.isfinite(mean) | (mean < 0) | ((mean == 0) & (count > 0))
    if odd.any():
        first = int(np.flatnonzero(odd)[0])
        raise ModelError(
            f"{int(odd.sum()):,} of {len(mean):,} expected counts cannot be, such as {mean[first]:g} where "
            f"{count[first]:g} happened; no dispersion fits them, leave these tiles out"
        )
