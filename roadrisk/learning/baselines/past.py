"""Baselines that know a place's own past: its last count, a kernel density of its events, Empirical Bayes.

They answer the second question, the same place in the next period. Each learns from one window of time what
past events say of it, and says the same of the next. Rows are in the order of their keys, since solvers
depend on it in the last digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray
from roadrisk.learning.baselines.boosting import GROWTHS, boosted_outputs
from roadrisk.learning.baselines.regression import PENALTIES, base_rate, linear_outputs, regressed_outputs
from roadrisk.learning.baselines.tuning import Sample, Tuned, chosen, inner_of, total_loss
from roadrisk.learning.examples import Examples
from roadrisk.learning.judging.dispersion import fitted_dispersion
from roadrisk.learning.judging.empirical_bayes import LEAST_K, adjusted
from roadrisk.learning.tasks import Task

COUNTS = Task("count", "negative-binomial", ())
LEAST_SHARE = 1e-3  # of the mean count, that any tile is expected to have
MOST_LOGIT = 745.0  # beyond it a probability is no number of its own

REGRESSION = Tuned(
    "logistic",
    lambda task, train, unseen, choices: regressed_outputs(task, train.examples, unseen.examples, choices),
    PENALTIES,
    "a penalty",
)
BOOSTING = Tuned(
    "boosting",
    lambda task, train, unseen, choices: boosted_outputs(task, train.examples, unseen.examples, choices),
    GROWTHS,
    "trees",
)


class Inner(NamedTuple):
    """How tiles are held out inside the fitted window: seed, side of a block and buffer [tiles]."""

    seed: int
    block: int
    buffer: int


@dataclass(frozen=True, eq=False)
class Prior:
    """What N tiles are expected to have in one period by their facts alone, and how far they differ from it.

    Parameters
    ----------
    mean : (N,) events, by models that did not see the tile.
    k : (N,) of the variance mu + k mu^2.
    told : where they come from.
    """

    mean: FloatArray
    k: FloatArray
    told: str

    def posterior(self, count: FloatArray, periods: float) -> Prior:
        """The same once events of some periods are known: mean and k of each tile's gamma.

        Parameters
        ----------
        count : (N,) over all periods.
        """
        expected = adjusted(count, self.mean, self.k, periods).expected / periods
        fixed = self.k <= LEAST_K
        shape = 1 / np.where(fixed, 1.0, self.k) + count
        return replace(self, mean=expected, k=np.where(fixed, self.k, 1 / shape))


def amount_outputs(
    task: Task, train: Examples, amount: FloatArray, unseen: Examples, asked: FloatArray
) -> FloatArray:
    """(n, K) of the unseen tiles from one amount alone, by a regression on log(1 + amount).

    Parameters
    ----------
    amount, asked : (N,) of the training and (n,) of the unseen tiles, 0 or more.
    """
    logs = np.log1p(amount)
    if logs.max() == logs.min():
        return base_rate(task, train.label, train.exposure, unseen.exposure)
    mean, std = np.sort(logs).mean(), np.sort(logs).std()
    x, other = ((np.log1p(one) - mean)[:, None] / std for one in (amount, asked))
    with threadpool_limits(limits=1):
        return linear_outputs(task, x, train.label, train.exposure, other, unseen.exposure, PENALTIES[0])


def density_outputs(
    task: Task,
    train: Examples,
    densities: Sequence[FloatArray],
    unseen: Examples,
    asked: Sequence[FloatArray],
) -> tuple[FloatArray, int]:
    """(n, K) of the unseen tiles from one of several densities, and which of them: that of the least loss.

    Parameters
    ----------
    densities, asked : (N,) of past events, of each bandwidth; before the fitted and before the judged window.
    """
    losses = [
        total_loss(task, amount_outputs(task, train, density, train, density), train.label)
        for density in densities
    ]
    best = int(np.argmin(losses))
    return amount_outputs(task, train, densities[best], unseen, asked[best]), best


def tuned_outputs(
    tuned: Tuned, task: Task, train: Examples, unseen: Examples, inner: Inner
) -> tuple[FloatArray, str]:
    """(n, K) of the unseen tiles by a learner tuned in spatial folds of the training ones, and its choice."""
    samples = [Sample(tiles, np.empty((len(tiles), 0))) for tiles in (train, unseen)]
    with threadpool_limits(limits=1):
        choice = chosen(tuned, samples[0], task, inner_of(train, task, *inner))
        [said] = tuned.learner(task, samples[0], samples[1], [choice.choice])
    penalty = "a penalty of " if tuned is REGRESSION else ""
    words = f"{choice.choice:g}" if tuned is REGRESSION else f"{choice.choice}"
    return said, f"{penalty}{words}{choice.note}"


def prior(examples: Examples, road_m: FloatArray, inner: Inner) -> Prior | None:
    """What facts say of counts: a negative binomial regression, each tile by one that did not see it.

    A tile unlike all that it learned from may be told any number: none is above the highest count of all, or
    below a thousandth of their mean.

    Parameters
    ----------
    examples : with counts as labels.
    road_m : (N,) metres of road, NaN where unknown, which k may go by.

    Returns
    -------
    None where there are too few tiles to hold some out.
    """
    folds = inner_of(examples, COUNTS, *inner)
    if folds is None:
        return None
    sample = Sample(examples, np.empty((len(examples), 0)))
    with threadpool_limits(limits=1):
        choice = chosen(REGRESSION, sample, COUNTS, folds)
    count = examples.label
    per = examples.exposure / np.sort(examples.exposure).mean()
    lowest, highest = LEAST_SHARE * per * np.sort(count).mean(), count.max()
    said = np.clip(choice.out_of_fold, np.log(lowest), np.log(np.maximum(lowest, highest)))
    mean = np.exp(said)
    dispersion = fitted_dispersion(count, mean, road_m)
    told = (
        f"a negative binomial regression on facts, penalty {choice.choice:g}, in {folds.count} spatial folds "
        f"of the fitted window; {dispersion.form} is {dispersion.k:.3g}"
    )
    return Prior(mean, dispersion.of(mean, road_m), told)


def count_outputs(task: Task, known: Prior, threshold: float | None) -> FloatArray:
    """(N, 1) what gamma posteriors say of the next period.

    Of a class the logit of P(count >= threshold), by the negative binomial that a gamma of Poissons is; of
    counts the log of the expected one; else the expected count.

    Raises
    ------
    ModelError : a class that is not cut from counts.
    """
    if task.kind != "class":
        return np.asarray(np.log(known.mean) if task.kind == "count" else known.mean)[:, None]
    if threshold is None:
        raise ModelError("a class that is not cut from counts has no Empirical Bayes estimate")
    from scipy.stats import nbinom, poisson

    below = np.ceil(threshold) - 1
    fixed = known.k <= LEAST_K
    shape = 1 / np.where(fixed, 1.0, known.k)
    share = 1 / (1 + known.mean / shape)
    with np.errstate(divide="ignore"):
        reached = np.where(fixed, poisson.logsf(below, known.mean), nbinom.logsf(below, shape, share))
        missed = np.where(fixed, poisson.logcdf(below, known.mean), nbinom.logcdf(below, shape, share))
    return np.asarray(np.clip(reached - missed, -MOST_LOGIT, MOST_LOGIT))[:, None]
