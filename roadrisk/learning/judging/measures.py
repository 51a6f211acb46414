"""How good predictions are. Pure numpy.

No measure depends on the order of rows: ties are split evenly everywhere.
"""

from __future__ import annotations

import math

import numpy as np

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.tasks import Task, prediction, probabilities

AREA_PERCENTS = (1, 5, 10, 20)
CALIBRATION_BINS = 15


def auroc(label: FloatArray, score: FloatArray) -> float:
    """Chance that a positive scores above a negative, ties half; NaN without both classes.

    >>> auroc(np.array([0, 1, 1]), np.array([0.2, 0.2, 0.9]))
    0.75
    """
    positives = label == 1
    n_positive, n_negative = int(positives.sum()), int((~positives).sum())
    if n_positive == 0 or n_negative == 0:
        return math.nan
    ranks = _mid_ranks(score)
    wins = ranks[positives].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * n_negative))


def auroc_fold_mean(label: FloatArray, score: FloatArray, fold: IntArray) -> float:
    """AUROC within each fold, weighted by its pairs of a positive and a negative.

    Scores of several models are not on one scale, so pooling them is biased: this compares only tiles that
    the same model scored.
    """
    total, pairs = 0.0, 0
    for k in np.unique(fold):
        inside = fold == k
        n_positive = int((label[inside] == 1).sum())
        here = n_positive * (int(inside.sum()) - n_positive)
        if here:
            total += here * auroc(label[inside], score[inside])
            pairs += here
    return total / pairs if pairs else math.nan


def auprc(label: FloatArray, score: FloatArray) -> float:
    """Average precision: the mean of precision over steps of recall; NaN without positives."""
    hits, tiles = sums_of_ties(score, label, np.ones(len(score)))
    if hits.sum() == 0:
        return math.nan
    precision = np.cumsum(hits) / np.cumsum(tiles)
    return float((precision * hits).sum() / hits.sum())


def brier(label: FloatArray, chance: FloatArray) -> float:
    """Mean squared distance of probability and outcome."""
    return float(np.mean((chance - label) ** 2))


def ece(label: FloatArray, chance: FloatArray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: mean distance of probability and outcome in bins of equal count."""
    made = bins_of_equal_count(label, chance, bins)
    return sum(n * abs(predicted - observed) for n, predicted, observed in made) / len(label)


def bins_of_equal_count(
    observed: FloatArray, predicted: FloatArray, bins: int
) -> list[tuple[int, float, float]]:
    """Of each bin, lowest first: its tiles, their mean prediction and what was observed on average.

    Tiles that tie share what was observed of them, wherever a bin ends. No bin is empty.
    """
    order = np.argsort(predicted, kind="stable")
    _, group, tiles = np.unique(predicted[order], return_inverse=True, return_counts=True)
    evened = (np.bincount(group, weights=observed[order]) / tiles)[group]
    parts = np.array_split(np.arange(len(order)), min(bins, len(order)))
    return [(len(part), float(predicted[order][part].mean()), float(evened[part].mean())) for part in parts]


def hit_rate(events: FloatArray, score: FloatArray, area: FloatArray, percent: float) -> float:
    """Share of events in the riskiest `percent` of the area; NaN without events.

    Parameters
    ----------
    events : (N,) in each tile.
    area : (N,) of each tile; or road length, for the rate by that.

    Examples
    --------
    >>> hit_rate(np.array([3.0, 1.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.1, 0.1]), np.ones(4), 50)
    0.8333333333333334
    """
    if events.sum() <= 0 or area.sum() <= 0:
        return math.nan
    in_group, area_group = sums_of_ties(score, events, area)
    covered = np.concatenate([[0.0], np.cumsum(area_group)]) / area.sum()
    found = np.concatenate([[0.0], np.cumsum(in_group)]) / events.sum()
    return float(np.interp(percent / 100, covered, found))


def pai(events: FloatArray, score: FloatArray, area: FloatArray, percent: float) -> float:
    """Prediction accuracy index: (n / N) / (a / A), how much denser events are where risk is said to be."""
    return hit_rate(events, score, area, percent) / (percent / 100)


def pei(events: FloatArray, score: FloatArray, area: FloatArray, percent: float) -> float:
    """Prediction efficiency index: PAI as a share of that of the best possible ranking."""
    density = events / np.where(area > 0, area, np.nan)
    best = hit_rate(events, np.nan_to_num(density, nan=np.inf), area, percent)
    return hit_rate(events, score, area, percent) / best


def ndcg(events: FloatArray, score: FloatArray) -> float:
    """Normalised discounted cumulative gain (Jarvelin and Kekalainen 2002); NaN without events.

    The gain of a tile is its events, and the discount of place i from 1 is log2(i + 1). Tiles that tie share
    the discounts of their places.

    >>> round(ndcg(np.array([0.0, 3.0, 1.0]), np.array([0.9, 0.5, 0.1])), 3)
    0.659
    """
    if events.sum() <= 0:
        return math.nan
    discount = 1 / np.log2(np.arange(len(events)) + 2.0)
    gains, tiles = sums_of_ties(score, events, np.ones(len(score)))
    last = np.cumsum(tiles).astype(np.int64)
    of_groups = np.diff(np.cumsum(discount)[last - 1], prepend=0.0)
    best = np.sort(events)[::-1] @ discount
    return float((gains / tiles) @ of_groups / best)


def log_loss(index: FloatArray, chances: FloatArray) -> float:
    """Mean -log probability of the class observed.

    Parameters
    ----------
    index : (N,) of the class observed.
    chances : (N, K); 0 counts as the smallest number above it.
    """
    seen = chances[np.arange(len(index)), index.astype(np.int64)]
    return float(np.mean(-np.log(np.maximum(seen, np.finfo(np.float64).tiny))))


def ranking(task: Task, label: FloatArray, outputs: FloatArray) -> float:
    """How well tiles are ranked: AUROC of the riskiest class, of values and counts the correlation of ranks.

    Parameters
    ----------
    outputs : (N, K) as `tasks.said` gives them.
    """
    order = ranked_by(task, outputs)
    if task.kind == "class":
        return auroc(np.asarray(label == len(task.classes) - 1, np.float64), order)
    return spearman(label, order)


def ranked_by(task: Task, outputs: FloatArray) -> FloatArray:
    """(N,) by which tiles are ranked, higher is riskier; of two classes the logit, since probabilities tie.

    Parameters
    ----------
    outputs : (N, K) as `tasks.said` gives them.
    """
    return outputs[:, 0] if task.outputs == 1 else prediction(task, outputs)


def spearman(observed: FloatArray, predicted: FloatArray) -> float:
    """Correlation of ranks; NaN where either is constant.

    >>> spearman(np.array([1.0, 2, 9]), np.array([0.1, 0.2, 0.3]))
    1.0
    """
    first, second = (_mid_ranks(values) for values in (observed, predicted))
    first, second = first - first.mean(), second - second.mean()
    spread = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / spread if spread else math.nan


def deviance(count: FloatArray, expected: FloatArray) -> float:
    """Mean Poisson deviance: twice the log-likelihood that perfect expectations would add to these.

    Of models that do or do not know a dispersion alike, so that they can be compared.

    >>> deviance(np.array([0.0, 4.0]), np.array([1.0, 4.0]))
    1.0
    """
    return float(np.mean(each_deviance(count, expected)))


def each_deviance(count: FloatArray, expected: FloatArray) -> FloatArray:
    """(N,) Poisson deviance of each tile; infinite where there are events and none can be."""
    with np.errstate(divide="ignore", invalid="ignore"):
        gained = np.where(count > 0, count * np.log(count / expected), 0.0)
    return np.asarray(2 * (gained - (count - expected)))


def sums_of_ties(score: FloatArray, first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sums of two amounts over tiles of equal score, highest score first."""
    _, group = np.unique(-score, return_inverse=True)
    sums = [np.bincount(group, weights=amount).astype(np.float64) for amount in (first, second)]
    return sums[0], sums[1]


def measures_of(outcomes: Outcomes, outputs: FloatArray, fold: IntArray) -> dict[str, float | int | None]:
    """Every measure of out-of-fold predictions, as `model.json` names them; None where not defined.

    Those that end in `_road` count metres of road in place of area; tiles whose road is unknown are left out
    of these. Of a value without events, nothing is said of events.

    Parameters
    ----------
    outputs : (N, K) out of fold, as `tasks.said` gives them.
    fold : (N,) that predicted each tile.
    """
    of, task = outcomes, outcomes.task
    if task.kind == "class":
        found = _class_measures(task, of.label, outputs, fold)
    elif task.kind == "count":
        found = _count_measures(of.label, prediction(task, outputs))
    else:
        found = _value_measures(of.label, outputs[:, 0])
    if task.kind != "value" or of.events.any():
        order, rows = ranked_by(task, outputs), np.flatnonzero(np.isfinite(of.road_m))
        found |= _hot_spots(of.events, order, of.area_km2, "") | {"ndcg": ndcg(of.events, order)}
        found |= _hot_spots(of.events[rows], order[rows], of.road_m[rows], "_road")
    counts = {"n": len(of), "n_with_image": int(of.has_image.sum())}
    return counts | {name: value if math.isfinite(value) else None for name, value in found.items()}


def _hot_spots(events: FloatArray, order: FloatArray, area: FloatArray, end: str) -> dict[str, float]:
    """Of the riskiest few per cent of area or road."""
    found = {}
    for percent in AREA_PERCENTS:
        for name, measure in (("hit_rate", hit_rate), ("pai", pai), ("pei", pei)):
            found[f"{name}_{percent}{end}"] = measure(events, order, area, percent)
    return found


def _class_measures(task: Task, label: FloatArray, outputs: FloatArray, fold: IntArray) -> dict[str, float]:
    """Of the riskiest class against the rest, and of more than two classes of all of them."""
    chances = probabilities(task, outputs)
    riskiest = np.asarray(label == len(task.classes) - 1, np.float64)
    order = ranked_by(task, outputs)
    of_all = {}
    if task.outputs > 1:
        of_all = {
            "accuracy": float(np.mean(chances.argmax(axis=1) == label)),
            "log_loss": log_loss(label, chances),
        }
    return of_all | {
        "auroc": auroc(riskiest, order),
        "auroc_fold_mean": auroc_fold_mean(riskiest, order, fold),
        "auprc": auprc(riskiest, order),
        "brier": brier(riskiest, chances[:, -1]),
        "ece": ece(riskiest, chances[:, -1]),
    }


def _count_measures(count: FloatArray, expected: FloatArray) -> dict[str, float]:
    return {
        "deviance": deviance(count, expected),
        "mae": float(np.mean(np.abs(expected - count))),
        "spearman": spearman(count, expected),
    }


def _value_measures(value: FloatArray, predicted: FloatArray) -> dict[str, float]:
    apart, spread = (predicted - value) ** 2, (value - value.mean()) ** 2
    return {
        "mae": float(np.mean(np.abs(predicted - value))),
        "rmse": math.sqrt(float(np.mean(apart))),
        "r2": 1 - float(apart.sum()) / float(spread.sum()) if spread.any() else math.nan,
        "spearman": spearman(value, predicted),
    }


def _mid_ranks(values: FloatArray) -> FloatArray:
    """(N,) ranks from 1, equal values sharing the middle of theirs."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[group], np.float64)
