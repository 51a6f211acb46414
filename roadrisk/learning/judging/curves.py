"""What a model's predictions look like: the curves of the report, few points each, ties split evenly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.evaluation import Cure, Curves, Points, Reliability
from roadrisk.learning.judging.intervals import FEWEST_BLOCKS, bootstrapped, middle
from roadrisk.learning.judging.measures import CALIBRATION_BINS, bins_of_equal_count, ranked_by, sums_of_ties
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.tasks import prediction

POINTS = 200
DECILES = 10
# of area, road or tiles, riskiest first: fine where people look, and each percentage of the hit rates
SHARES = np.concatenate([np.arange(80) / 400, np.arange(20, 101) / 100])


def curves_of(
    outcomes: Outcomes,
    outputs: FloatArray,
    amounts: Mapping[str, FloatArray] | None = None,
    seed: int = 0,
) -> Curves:
    """The curves that a task has: of classes those of the riskiest, of counts residuals, of events hit rates.

    Parameters
    ----------
    outputs : (N, K) out of fold, as `tasks.said` gives them.
    amounts : by name, (N,) what residuals of counts are cumulated along, besides what is expected and metres
        of road; NaN where unknown.
    seed : of the draws of blocks.
    """
    of, task = outcomes, outcomes.task
    order, said = ranked_by(task, outputs), prediction(task, outputs)
    roc: Points = ()
    precision_recall: Points = ()
    reliability: tuple[Reliability, ...] = ()
    cure: tuple[Cure, ...] = ()
    if task.kind == "class":
        riskiest = np.asarray(of.label == len(task.classes) - 1, np.float64)
        roc, precision_recall = _roc(riskiest, order), _precision_recall(riskiest, order)
        reliability = _reliability(riskiest, said, CALIBRATION_BINS, of.block, seed)
    elif task.kind == "count":
        reliability = _reliability(of.label, said, DECILES, of.block, seed)
        along = {"expected": said, "road_m": of.road_m, **(amounts or {})}
        made = [_cure(name, amount, of.label - said) for name, amount in along.items()]
        cure = tuple(one for one in made if one is not None)
    eventful = task.kind != "value" or bool(of.events.any())
    known = np.flatnonzero(np.isfinite(of.road_m))
    return Curves(
        roc=roc,
        precision_recall=precision_recall,
        reliability=reliability,
        lift=_lift(of.events, order) if eventful else (),
        hit_rate=_hit_rates(of.events, order, of.area_km2) if eventful else (),
        hit_rate_road=_hit_rates(of.events[known], order[known], of.road_m[known]) if eventful else (),
        cure=cure,
    )


def _roc(label: FloatArray, score: FloatArray) -> Points:
    """Empty without both classes."""
    hits, tiles = sums_of_ties(score, label, np.ones(len(label)))
    positives, negatives = hits.sum(), (tiles - hits).sum()
    if positives == 0 or negatives == 0:
        return ()
    along = np.concatenate([[0.0], np.cumsum(tiles - hits)]) / negatives
    up = np.concatenate([[0.0], np.cumsum(hits)]) / positives
    # on a straight line the points between say nothing
    turns = np.diff(along[:-1]) * np.diff(up[1:]) != np.diff(along[1:]) * np.diff(up[:-1])
    kept = np.flatnonzero(np.concatenate([[True], turns, [True]]))
    return _points(along[kept], up[kept])


def _precision_recall(label: FloatArray, score: FloatArray) -> Points:
    """Where recall grows; it begins at the first precision. Empty without positives."""
    hits, tiles = sums_of_ties(score, label, np.ones(len(label)))
    if hits.sum() == 0:
        return ()
    grows = hits > 0
    precision = (np.cumsum(hits) / np.cumsum(tiles))[grows]
    recall = (np.cumsum(hits) / hits.sum())[grows]
    return _points(np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision]))


def _reliability(
    observed: FloatArray, said: FloatArray, bins: int, block: IntArray | None, seed: int
) -> tuple[Reliability, ...]:
    """Bins of equal count, lowest first, with intervals by draws of blocks where there are enough of them."""
    made = bins_of_equal_count(observed, said, bins)
    ends: list[tuple[float, float] | None] = [None] * len(made)
    if block is not None and len(np.unique(block)) >= FEWEST_BLOCKS:
        shares = _shares_of_bins(said, [n for n, _, _ in made])
        draws = bootstrapped(_observed_in_bins, observed, {"bins": shares}, block, seed)["bins"]
        ends = [middle(of_bin) for of_bin in draws.T]
    return tuple(
        Reliability(n, predicted, seen, *(between or (None, None)))
        for (n, predicted, seen), between in zip(made, ends, strict=True)
    )


def _shares_of_bins(said: FloatArray, tiles: Sequence[int]) -> FloatArray:
    """(N, B) share of each tile in each bin of so many tiles, lowest first; tiles that tie share alike."""
    _, group, size = np.unique(said, return_inverse=True, return_counts=True)
    last = np.cumsum(size)
    ends = np.cumsum(tiles)
    inside = np.minimum(last[:, None], ends) - np.maximum((last - size)[:, None], ends - tiles)  # (G, B)
    return np.asarray((np.maximum(inside, 0) / size[:, None])[group.reshape(-1)])


def _observed_in_bins(observed: FloatArray, shares: FloatArray, weights: FloatArray) -> FloatArray:
    """(S, B) mean of what was observed in each bin."""
    seen, tiles = weights @ (shares * observed[:, None]), weights @ shares
    return np.asarray(np.divide(seen, tiles, out=np.full(tiles.shape, math.nan), where=tiles > 0))


def _hit_rates(events: FloatArray, score: FloatArray, area: FloatArray) -> Points:
    """Empty without events or area."""
    found, covered = sums_of_ties(score, events, area)
    if events.sum() <= 0 or area.sum() <= 0:
        return ()
    x = np.concatenate([[0.0], np.cumsum(covered)]) / area.sum()
    y = np.concatenate([[0.0], np.cumsum(found)]) / events.sum()
    return _points(SHARES, np.interp(SHARES, x, y))


def _lift(events: FloatArray, score: FloatArray) -> Points:
    found = np.array(_hit_rates(events, score, np.ones(len(score)))[1:]).reshape(-1, 2)
    return _points(found[:, 0], found[:, 1] / found[:, 0])


def _cure(by: str, amount: FloatArray, residual: FloatArray) -> Cure | None:
    """Cumulative residuals within two standard deviations of a random walk that ends where it began.

    Hauer and Bamfo 1997, Two tools for finding what function links the dependent variable to the explanatory
    variables: var(i) = s(i) (1 - s(i) / s(N)), where s sums squared residuals. None where the amount is
    nowhere known or nothing is left over.
    """
    known = np.flatnonzero(np.isfinite(amount))
    squares, cumulated = sums_of_ties(-amount[known], residual[known] ** 2, residual[known])
    s, walk = np.cumsum(squares), np.cumsum(cumulated)
    if len(known) == 0 or s[-1] == 0:
        return None
    reach = 2 * np.sqrt(np.maximum(s * (1 - s / s[-1]), 0))
    at, tiles = np.unique(amount[known], return_counts=True)
    # a walk that ends at 0 does so up to rounding
    beyond = np.abs(walk) > reach + 1e-9 * math.sqrt(s[-1])
    share = float(tiles[beyond].sum() / len(known))
    return Cure(by, _points(at, walk), _points(at, reach), share)


def _points(x: FloatArray, y: FloatArray) -> Points:
    """At most 200, the first and the last among them, in six digits, which no plot shows."""
    kept: IntArray = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).round().astype(np.int64))
    return tuple(
        (float(f"{at:.6g}"), float(f"{value:.6g}"))
        for at, value in zip(x[kept].tolist(), y[kept].tolist(), strict=True)
    )
