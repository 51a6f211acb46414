"""Negative binomial regression of counts (NB2): Var = mu + k mu^2, and a log-linear mean.

Cameron and Trivedi 2013, Regression Analysis of Count Data, section 3.3. Coefficients by Newton's method, in
turn with k by its profile likelihood: for a given k the loss is convex, and the two hardly depend on each
other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roadrisk.grid import FloatArray
from roadrisk.learning.judging.dispersion import likeliest_k

ROUNDS, STEPS, HALVINGS = 30, 100, 30
TOLERANCE, K_TOLERANCE = 1e-8, 1e-5
RIDGE = 1e-12  # of the trace, so that equations can be solved


@dataclass(frozen=True, eq=False)
class NegativeBinomial:
    """What a regression has learned.

    Parameters
    ----------
    coefficients : (D,).
    k : of the variance; 0 is a Poisson.
    """

    intercept: float
    coefficients: FloatArray
    k: float

    def log_mean(self, x: FloatArray, offset: FloatArray | float = 0.0) -> FloatArray:
        """(n,) log of the expected counts.

        Parameters
        ----------
        x : (n, D) as it was fitted to.
        offset : (n,) log of the exposure.
        """
        return np.asarray(self.intercept + x @ self.coefficients + offset, np.float64)


def fitted(x: FloatArray, count: FloatArray, offset: FloatArray, penalty: float) -> NegativeBinomial:
    """The regression under which counts are likeliest.

    Parameters
    ----------
    x : (N, D) standardised, so that the penalty is as hard on each.
    count : (N,) whole numbers. Without any event, the mean is as if there were half of one.
    offset : (N,) log of the exposure, finite.
    penalty : on half the sum of squared coefficients, against the sum of -log-likelihoods of tiles.

    Examples
    --------
    >>> chance = np.random.default_rng(0)
    >>> x = chance.normal(size=(20_000, 1))
    >>> mean = np.exp(0.5 + 0.8 * x[:, 0])
    >>> count = chance.poisson(mean * chance.gamma(2.0, 0.5, 20_000)).astype(float)
    >>> found = fitted(x, count, np.zeros(20_000), penalty=0.0)
    >>> round(found.intercept, 1), found.coefficients.round(1).tolist(), round(found.k, 1)
    (0.5, [0.8], 0.5)
    """
    per = float(np.exp(offset).sum())
    if not count.any():
        return NegativeBinomial(float(np.log(0.5 / per)), np.zeros(x.shape[1]), 0.0)
    design = np.hstack([np.ones((len(x), 1)), x])  # (N, 1 + D)
    penalties = np.concatenate([[0.0], np.full(x.shape[1], penalty)])  # (1 + D,)
    beta = np.zeros(design.shape[1])
    beta[0] = np.log(count.sum() / per)
    k = 0.0
    for _ in range(ROUNDS):
        beta = _likeliest(design, count, offset, penalties, k, beta)
        before, k = k, likeliest_k(count, np.exp(design @ beta + offset))
        if abs(k - before) <= K_TOLERANCE * before:
            break
    return NegativeBinomial(float(beta[0]), beta[1:], k)


def _likeliest(
    design: FloatArray,
    count: FloatArray,
    offset: FloatArray,
    penalties: FloatArray,
    k: float,
    beta: FloatArray,
) -> FloatArray:
    """(1 + D,) coefficients under which counts are likeliest for this k, by Newton steps that only go down.

    Where no tile of a kind has an event, its coefficient has no end; it stops where that no longer matters.
    """

    def loss(beta: FloatArray) -> float:
        log_mean = design @ beta + offset
        with np.errstate(over="ignore", invalid="ignore"):  # too long a step is halved
            mean = np.exp(log_mean)
            lost = (count + 1 / k) * np.log1p(k * mean) if k else mean
            return float((lost - count * log_mean).sum() + (penalties * beta**2).sum() / 2)

    reached = loss(beta)
    for _ in range(STEPS):
        mean = np.exp(design @ beta + offset)
        slope = design.T @ ((mean - count) / (1 + k * mean)) + penalties * beta
        curve = mean * (1 + k * count) / (1 + k * mean) ** 2
        hessian = (design * curve[:, None]).T @ design + np.diag(penalties)  # (1 + D, 1 + D)
        hessian[np.diag_indices_from(hessian)] += RIDGE * np.trace(hessian)  # columns may repeat
        step = np.linalg.solve(hessian, slope)
        if float(slope @ step) <= TOLERANCE:
            break
        shorter = (beta - step * 0.5**halving for halving in range(HALVINGS))
        tried = next((one for one in shorter if loss(one) <= reached), None)
        if tried is None:
            break
        beta, reached = tried, loss(tried)
    return beta
