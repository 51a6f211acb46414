"""How far tiles are alike in what facts do not explain: residuals, their correlogram and its range.

Moran's I of pairs of tiles in classes of distance (Moran 1950; Cliff and Ord 1981, Spatial Processes, chapter
2; Sokal and Oden 1978, Biological Journal of the Linnean Society 10:199). A class is above what chance gives
where its I is so large that at most one in twenty orders of the residuals over the same places would have
given more: one-sided, by the mean and variance of I under randomisation. Classes are tested from the nearest
on, and only as long as each is above, so no correction is due for their number (a fixed sequence of tests:
Maurer, Hothorn and Lehmacher 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.baselines.regression import PENALTIES, regressed_outputs
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import random_folds
from roadrisk.learning.tasks import Task, probability

MOST_TILES = 2000
PAIRS = 5  # a tile in each class: of 2,000 tiles, an I of 0.02 is then more than chance
LEVEL = 0.05


@dataclass(frozen=True)
class Correlogram:
    """How alike tiles are by how far they are apart.

    Parameters
    ----------
    range_m : distance from which tiles are no more alike than chance makes them; 0 where none are.
    points : (mean distance [m], Moran's I) of the pairs of each class.
    sampled : tiles that it was made from.
    """

    range_m: float
    points: tuple[tuple[float, float], ...]
    sampled: int


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of N tiles, each once, the nearest first: indices of tiles, and how many steps lie between."""

    first: IntArray
    second: IntArray
    apart: FloatArray

    def between(self, low: float, high: float) -> _Pairs:
        """Those whose distance is in (low, high]."""
        kept = slice(*np.searchsorted(self.apart, [low, high], side="right"))
        return _Pairs(self.first[kept], self.second[kept], self.apart[kept])


def unexplained(examples: Examples, high: FloatArray) -> FloatArray:
    """What facts do not explain of which tiles are of high risk: what blocks are made wide enough for.

    A logistic regression on logarithms of facts, learned on a random half of the tiles and asked of the
    other. It knows nothing of a model's settings or seed, so that a dataset and a label have the same blocks
    for every model.

    Parameters
    ----------
    examples : N, with the facts of all columns that may be facts.
    high : (N,) 0 or 1.

    Returns
    -------
    (N,) high less its predicted probability.

    Raises
    ------
    ModelError : fewer than two tiles of high or of low risk.
    """
    order = np.argsort(examples.key, kind="stable")
    ordered = replace(examples.taken(order), label=high[order])
    halves = random_folds(ordered.key, ordered.label, 2, 0)
    residual = np.empty(len(ordered))
    with threadpool_limits(limits=1):
        for k in range(halves.count):
            train, test = ordered.taken(halves.train_rows(k)), ordered.taken(halves.test_rows(k))
            [logit] = regressed_outputs(Task(), train, test, PENALTIES[1:2])
            residual[order[halves.test_rows(k)]] = test.label - probability(logit[:, 0])
    return residual


def residual_range(
    row: IntArray, col: IntArray, residual: FloatArray, cell_m: float, seed: int = 0
) -> Correlogram:
    """The correlogram of a residual, on 2,000 tiles at most.

    Classes are one step of the lattice wide, or wider where too few pairs would be in one. They end at half
    the side of a square of so many tiles, beyond which only tiles of opposite edges have pairs. The range is
    the far end of the last class before the first that is not above chance.

    Parameters
    ----------
    row, col : (N,) place on the lattice.
    residual : (N,) finite.
    cell_m : ground side of a step.
    seed : of the subsample.

    Examples
    --------
    >>> row, col = np.divmod(np.arange(400), 20)
    >>> checks = (row // 5 + col // 5) % 2 - 0.5  # squares of 5 x 5 tiles
    >>> found = residual_range(row, col, checks, cell_m=100.0)
    >>> found.range_m, found.sampled
    (250.0, 400)
    """
    rows = _sampled(row, col, residual, seed)
    values = residual[rows] - residual[rows].mean()
    if not (np.abs(values) > 1e-12).any():  # nothing is left to be alike
        return Correlogram(0.0, (), len(rows))
    pairs = _pairs_of(row[rows], col[rows], math.sqrt(len(row)) / 2 + 1)
    points: list[tuple[float, float]] = []
    end, ended = 0.0, False
    for near, far in _classes(pairs.apart, PAIRS * len(rows)):
        inside = pairs.between(near, far)
        found = _moran(values, inside)
        points.append((float(inside.apart.mean()) * cell_m, found))
        ended = ended or found <= _chance_limit(values, inside)
        end = end if ended else far
    return Correlogram(end * cell_m, tuple(points), len(rows))


def _sampled(row: IntArray, col: IntArray, residual: FloatArray, seed: int) -> IntArray:
    """Rows of the subsample, in the order of their places, whatever the order of rows."""
    ordered = np.lexsort((residual, col, row))
    if len(ordered) <= MOST_TILES:
        return ordered
    return ordered[np.sort(np.random.default_rng(seed).choice(len(ordered), MOST_TILES, replace=False))]


def _pairs_of(row: IntArray, col: IntArray, reach: float) -> _Pairs:
    # from their corner, since lattices of several metros are billions of rows apart
    places = np.stack([row - row.min(), col - col.min()], axis=1).astype(np.float64)
    first, second = cKDTree(places).query_pairs(reach, output_type="ndarray").T
    apart = np.hypot(*(places[first] - places[second]).T)
    order = np.argsort(apart, kind="stable")
    return _Pairs(first[order], second[order], apart[order])


def _classes(apart: FloatArray, enough: int) -> list[tuple[float, float]]:
    """(near, far] ends of classes of distance with `enough` pairs each; the first has all up to diagonals."""
    if not len(apart):
        return []
    steps = np.ceil(np.maximum(apart - 0.5, 1.0)).astype(np.int64)  # 1: up to 1.5 steps
    pairs = np.bincount(steps)
    ends: list[tuple[float, float]] = []
    near, gathered = -1.0, 0
    for step in range(1, len(pairs)):
        gathered += int(pairs[step])
        if gathered >= enough or (step == len(pairs) - 1 and not ends):
            ends.append((near, step + 0.5))
            near, gathered = step + 0.5, 0
    return ends


def _moran(values: FloatArray, pairs: _Pairs) -> float:
    """Moran's I of centred values over pairs, each of weight 1."""
    products = float((values[pairs.first] * values[pairs.second]).sum())
    return len(values) / len(pairs.first) * products / float((values**2).sum())


def _chance_limit(values: FloatArray, pairs: _Pairs) -> float:
    """The I that one in twenty random orders of the values exceeds: Cliff and Ord 1981, chapter 2."""
    n, count = len(values), len(pairs.first)
    if n < 4:
        return math.inf
    degree = np.bincount(pairs.first, minlength=n) + np.bincount(pairs.second, minlength=n)
    s0, s1, s2 = 2.0 * count, 4.0 * count, 4.0 * float((degree.astype(np.float64) ** 2).sum())
    kurtosis = float((values**4).mean() / (values**2).mean() ** 2)
    expected = -1 / (n - 1)
    a = n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
    b = kurtosis * ((n**2 - n) * s1 - 2 * n * s2 + 6 * s0**2)
    variance = (a - b) / ((n - 1) * (n - 2) * (n - 3) * s0**2) - expected**2
    return expected + float(ndtri(1 - LEVEL)) * math.sqrt(max(variance, 0.0))
