"""Calibration: what a logit means as a chance, learned on tiles that the models did not see.

Platt's sigmoid with his own targets (Platt 1999, Probabilistic outputs for support vector machines, section
2.2), or from 1,000 positives an isotonic regression (Zadrozny and Elkan 2002). Either is a curve from logit
to logit that never falls, so it never reorders tiles; an isotonic one may tie them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import expit, logit, logsumexp, ndtri

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.intervals import FEWEST_BLOCKS
from roadrisk.learning.tasks import Task

ISOTONIC_FROM = 1000  # positives
LOGIT_MOST = float(logit(1 - 1e-6))  # nobody is surer, and layers hold float32
DRAWS, NOISES, STEPS = 200, 19, 101
ENDS = (0.05, 0.95)
NEWTON_STEPS, SETTLED = 50, 1e-12
LEVEL = 1e-9  # change of a logit that is none
# new tiles are like those of training within these: their spread, as ratio, and their mean, in standard
# deviations; fewer tiles than these tell nothing
SD_RATIOS, MEAN_SHIFT, FEWEST_COMPARED = (0.67, 1.5), 0.5, 30

# strict, since they are read from files
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Method = Literal["platt", "isotonic"]
Knots = tuple[tuple[float, float], ...]  # (logit, calibrated logit)


@dataclass(frozen=True)
class Calibration:
    """What a class model's logit of the riskiest class against all others means as a chance.

    Parameters
    ----------
    knots : (logit, calibrated logit), straight between them and level beyond.
    tiles, positives : that it was learned from.
    logit_sd : standard deviation of one fold model's logit about that of others like it; None where it
        cannot be seen.
    spread : (logit, low, high): the 5 % and 95 % quantiles of the calibrated logit over draws of blocks and
        of fold models; empty where they cannot be seen.

    Raises
    ------
    ValueError : there are no knots, or they fall.

    Examples
    --------
    >>> calibration = Calibration("platt", ((-2.0, -1.0), (2.0, 1.0)), tiles=100, positives=20)
    >>> calibration.probability(np.array([-9.0, 0.0, 1.0])).round(3).tolist()
    [0.269, 0.5, 0.622]
    """

    method: Method
    knots: tuple[tuple[Number, Number], ...]
    tiles: int
    positives: int
    logit_sd: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)] | None = None
    spread: tuple[tuple[Number, Number, Number], ...] = ()

    def __post_init__(self) -> None:
        if not self.knots:
            raise ValueError("a calibration without knots")
        for rows in (self.knots, self.spread):
            for before, after in pairwise(rows):
                if after[0] <= before[0] or any(b < a for a, b in zip(before[1:], after[1:], strict=True)):
                    raise ValueError("the knots of a calibration must rise")
        said = [one for row in (*self.knots, *self.spread) for one in row[1:]]
        if max(map(abs, said)) > LOGIT_MOST or any(low > high for _, low, high in self.spread):
            raise ValueError("a calibration must stay inside (0, 1), its low ends below its high ends")

    @property
    def level(self) -> bool:
        """Whether all tiles have the same chance: out of fold the model told nothing, or the opposite."""
        return self.knots[0][1] == self.knots[-1][1]

    def probability(self, of: FloatArray) -> FloatArray:
        """(N,) chances for (N,) logits: strictly inside (0, 1), in the order of the logits; NaN stays."""
        x, y = np.array(self.knots).T
        return np.asarray(expit(np.interp(of, x, y)))

    def model_spread(self, of: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """(N,) low and (N,) high ends of the chances for (N,) logits, around `probability`.

        The middle 90 % of what other draws of blocks and other fold models would have said: model spread,
        not an interval that holds the truth 9 times in 10. None where that cannot be seen.
        """
        if not self.spread:
            return None
        x, low, high = np.array(self.spread).T
        said = self.probability(of)
        ends = expit(np.interp(of, x, low)), expit(np.interp(of, x, high))
        return np.minimum(ends[0], said), np.maximum(ends[1], said)


def logit_of_riskiest(task: Task, outputs: FloatArray) -> FloatArray:
    """(N,) logit of the riskiest class against all others together.

    Parameters
    ----------
    outputs : (N, K) of a class task, as `tasks.said` gives them.

    Examples
    --------
    >>> three = Task(classes=("low", "middle", "high"))
    >>> logit_of_riskiest(three, np.array([[0.0, 0.0, math.log(2)]])).tolist()  # 2 of 4
    [0.0]
    """
    if task.outputs == 1:
        return outputs[:, 0]
    return np.asarray(outputs[:, -1] - logsumexp(outputs[:, :-1], axis=1))


def fitted_calibration(
    label: FloatArray,
    of: FloatArray,
    block: IntArray | None = None,
    seed: int = 0,
    other: FloatArray | None = None,
) -> Calibration:
    """The calibration of a model's out-of-fold logits.

    The spread of the model comes from two sources. Blocks are drawn 200 times, and each draw fits its own
    curve. And a tile's logit would have been another from another fold model: how far, tell two models that
    both did not see the tile, one of spatial and one of random folds, whose difference has twice the
    variance of either. (It holds also that random folds know the neighbours: the spread is rather too wide
    than too narrow.)

    Parameters
    ----------
    label : (N,) 1 where a tile is of the riskiest class, else 0.
    of : (N,) the logit of the riskiest class, from folds that did not see the tile.
    block : (N,) number of the block that each tile is in; None where tiles have no place.
    other : (N,) the logits of random folds, where `of` is of spatial ones.

    Returns
    -------
    Without spread where blocks are fewer than 20, or blocks or `other` are not there.

    Examples
    --------
    >>> chance = np.random.default_rng(0)
    >>> of = chance.normal(size=2000)
    >>> label = (chance.random(2000) < expit(of / 2 - 1)).astype(float)
    >>> fitted_calibration(label, of).probability(np.array([0.0])).round(1)  # expit(-1) is 0.27
    array([0.3])
    """
    # in an order of its own, so that the order of rows does not show in the last bit
    order = np.lexsort((*(() if block is None else (block,)), label, of))
    label, of = label[order], of[order]
    method = _method(label)
    knots = _knots(method, label, of, np.ones(len(of)))
    logit_sd, spread = None, tuple[tuple[float, float, float], ...]()
    if other is not None:
        # sorted: the order of tiles that have the same logit and label is not known
        logit_sd = float(np.std(np.sort(of - other[order])) / math.sqrt(2))
    if block is not None and logit_sd is not None:
        spread = _spread(method, label, of, block[order], logit_sd, knots, seed)
    return Calibration(method, knots, len(label), int(label.sum()), logit_sd, spread)


def leave_one_fold_out(label: FloatArray, of: FloatArray, fold: IntArray) -> FloatArray:
    """(N,) chances, those of each fold by a calibration of the same method that did not see that fold.

    Parameters
    ----------
    label : (N,) 1 where a tile is of the riskiest class, else 0.
    of : (N,) its logit, out of fold.
    fold : (N,) in which each tile was tested; two or more.
    """
    method, chances = _method(label), np.empty(len(of))
    for k in np.unique(fold):
        inside, outside = fold == k, np.flatnonzero(fold != k)
        seen = outside[np.lexsort((label[outside], of[outside]))]
        knots = _knots(method, label[seen], of[seen], np.ones(len(seen)))
        chances[inside] = expit(np.interp(of[inside], *np.array(knots).T))
    return chances


def spread_difference(trained: FloatArray, new: FloatArray) -> str:
    """One line where the logits of new tiles are spread otherwise than those of training tiles; else empty.

    It says their means and standard deviations.

    Parameters
    ----------
    trained : (N,) out of fold.
    new : (M,) of tiles that no model learned from, each the mean of all fold models.

    Examples
    --------
    >>> trained, new = np.tile([0.0, 2.0], 20), np.tile([2.0, 4.0], 20)
    >>> spread_difference(trained, trained + 0.4), spread_difference(trained, new).partition(":")[0]
    ('', 'logits of 40 new tiles are 3.00 +- 1.00; those of 40 training tiles, out of fold, are 1.00 +- 1.00')
    """
    if min(len(trained), len(new)) < FEWEST_COMPARED:
        return ""
    mean, sd, new_mean, new_sd = (float(f(of)) for of in (trained, new) for f in (np.mean, np.std))
    if SD_RATIOS[0] * sd <= new_sd <= SD_RATIOS[1] * sd and abs(new_mean - mean) <= MEAN_SHIFT * sd:
        return ""
    return (
        f"logits of {len(new):,} new tiles are {new_mean:.2f} +- {new_sd:.2f}; those of {len(trained):,} "
        f"training tiles, out of fold, are {mean:.2f} +- {sd:.2f}: "
        "the calibration was learned on other tiles, so doubt the risk of new ones, not their order"
    )


def _method(label: FloatArray) -> Method:
    return "isotonic" if label.sum() >= ISOTONIC_FROM else "platt"


def _knots(method: Method, label: FloatArray, of: FloatArray, weight: FloatArray) -> Knots:
    """Of (N,) tiles that count as often as their weights say, in the order of their logits."""
    positives = float((weight * label).sum())
    # Platt's targets: as if there were a tile more of either class, so that nobody is ever sure
    low, high = 1 / (weight.sum() - positives + 2), (positives + 1) / (positives + 2)
    if method == "platt":
        slope, intercept = _platt(np.where(label == 1, high, low), of, weight)
        ends = np.array([-LOGIT_MOST, LOGIT_MOST])
        if slope * np.abs(of).max() < LEVEL:
            return ((0.0, min(max(intercept, -LOGIT_MOST), LOGIT_MOST)),)
        x, y = (ends - intercept) / slope, ends
    else:
        from sklearn.isotonic import IsotonicRegression

        fit = IsotonicRegression(y_min=low, y_max=high).fit(of, label, sample_weight=weight)
        x, y = fit.X_thresholds_, logit(fit.y_thresholds_).clip(-LOGIT_MOST, LOGIT_MOST)
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


def _platt(target: FloatArray, of: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Slope, at least 0, and intercept of the likeliest sigmoid, by Newton's method.

    With steps halved as Lin, Lin and Weng 2007 do. Sums by numpy's own addition, since BLAS adds in an order
    that depends on the number of threads.
    """
    total = weight.sum()
    centre = float((weight * of).sum() / total)
    scale = float(np.sqrt((weight * (of - centre) ** 2).sum() / total))
    level = float(logit((weight * target).sum() / total))
    if scale == 0:
        return 0.0, level
    x = (of - centre) / scale

    def loss(slope: float, intercept: float) -> float:
        said = slope * x + intercept
        return float((weight * (np.logaddexp(0, said) - target * said)).sum())

    slope, intercept = 0.0, level
    lost = loss(slope, intercept)
    for _ in range(NEWTON_STEPS):
        said = expit(slope * x + intercept)
        error, curve = weight * (said - target), weight * said * (1 - said)
        g, h = float((error * x).sum()), float(error.sum())
        a, b, c = float((curve * x * x).sum()), float((curve * x).sum()), float(curve.sum())
        determinant = a * c - b * b
        if determinant <= 0:
            break
        steps = (c * g - b * h) / determinant, (a * h - b * g) / determinant
        gain = g * steps[0] + h * steps[1]
        size = 1.0
        while (now := loss(slope - size * steps[0], intercept - size * steps[1])) > lost and size > SETTLED:
            size /= 2
        if now <= lost:
            slope, intercept, lost = slope - size * steps[0], intercept - size * steps[1], now
        if gain <= SETTLED * total or now > lost:
            break
    if slope <= 0:  # worse than chance: no order is better than a turned one
        return 0.0, level
    return slope / scale, intercept - slope * centre / scale


def _spread(
    method: Method,
    label: FloatArray,
    of: FloatArray,
    block: IntArray,
    logit_sd: float,
    knots: Knots,
    seed: int,
) -> tuple[tuple[float, float, float], ...]:
    """(logit, low, high) at steps over twice the span of the logits, and at the ends of the calibration."""
    names, block = np.unique(block, return_inverse=True)
    if len(names) < FEWEST_BLOCKS:
        return ()
    chance = np.random.default_rng([seed, 2])
    often = chance.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)  # (draws, blocks)
    half = (of[-1] - of[0]) / 2
    steps = np.linspace(of[0] - half, of[-1] + half, STEPS)
    x = np.unique([*steps, knots[0][0], knots[-1][0]])  # (S,)
    # the noise of a fold model in equal shares of its normal distribution
    noise = logit_sd * ndtri((np.arange(NOISES) + 0.5) / NOISES)
    moved = x[:, None] + noise  # (S, noises)
    said = np.empty((len(x), DRAWS, NOISES))
    for draw, times in enumerate(often):
        weight = times[block].astype(np.float64)
        drawn = np.flatnonzero(weight)
        said[:, draw] = np.interp(moved, *np.array(_knots(method, label[drawn], of[drawn], weight[drawn])).T)
    low, high = np.quantile(said.reshape(len(x), -1), ENDS, axis=1)
    return tuple(zip(x.tolist(), low.tolist(), high.tolist(), strict=True))
