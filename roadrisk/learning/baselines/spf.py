"""Safety performance functions: expected events from traffic and length of road alone.

With volumes mu = length * exp(b0 + b1 ln AADT), by negative binomial regression with length as offset
(FHWA-HRT-17-070). Where volumes are of less than `LEAST_COVERED` of the road, mu = exp(b0) * length^b1, which
is called `spf_length`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.baselines.negative_binomial import fitted
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.empirical_bayes import LEAST_K
from roadrisk.learning.tasks import Task

LEAST_COVERED = 0.8
VOLUME = "vehicles/day"
MOST_LOG = 30.0  # of an expected count; beyond, its chances are no numbers


@dataclass(frozen=True, eq=False)
class SpfFacts:
    """What a safety performance function knows of N tiles.

    Parameters
    ----------
    road_m : (N,) metres of road, NaN where unknown.
    aadt : (N,) vehicles a day, NaN where unknown; None where volumes cover too little of the road.
    """

    road_m: FloatArray
    aadt: FloatArray | None = None

    @property
    def name(self) -> str:
        """`spf`, or without volumes `spf_length`."""
        return "spf_length" if self.aadt is None else "spf"

    def taken(self, rows: IntArray) -> SpfFacts:
        """These rows in this order."""
        return SpfFacts(self.road_m[rows], None if self.aadt is None else self.aadt[rows])


class SpfOutputs(NamedTuple):
    """What a safety performance function says of tiles that it did not see.

    Parameters
    ----------
    name : `spf` or `spf_length`.
    outputs : (N, K); None where it cannot be there.
    told : what it was made of, or why it is not there.
    """

    name: str
    outputs: FloatArray | None
    told: tuple[str, ...]


def spf_facts(frame: pd.DataFrame, columns: Sequence[Column]) -> tuple[SpfFacts | None, str]:
    """Lengths and volumes of tiles, and a line that says what they are.

    Parameters
    ----------
    frame : N tiles that are judged, with `road_m` and, of a source of traffic, `<source>_aadt` and
        `<source>_m`, the metres that have a volume.
    columns : of the frame. Volumes of after the label window are no features.

    Returns
    -------
    Of several sources of traffic that which covers most; None without `road_m`.
    """
    if "road_m" not in frame:
        return None, "no length of road is known"
    road_m = _numbers(frame, "road_m")
    found = []
    for column in sorted(columns, key=lambda column: column.name):
        if column.unit == VOLUME and column.role == "feature" and len(column.by) == 1:
            weight = column.by[0]
            if column.name in frame and weight in frame:
                found.append((covered_share(road_m, _numbers(frame, weight)), column.name))
    if not found:
        return SpfFacts(road_m), "no volume of traffic is known"
    share, name = max(found, key=lambda one: one[0])
    told = f"{name} covers {100 * share:.1f} % of road metres"
    if share < LEAST_COVERED:
        return SpfFacts(road_m), f"{told}, less than {100 * LEAST_COVERED:.0f} %"
    return SpfFacts(road_m, _numbers(frame, name)), told


def covered_share(road_m: FloatArray, aadt_m: FloatArray) -> float:
    """Share of road metres that have a volume; a tile has at most all of its road covered.

    >>> covered_share(np.array([100.0, 100.0]), np.array([150.0, 60.0]))
    0.8
    """
    road_m = np.nan_to_num(road_m)
    total = np.sort(road_m).sum()
    return float(np.sort(np.minimum(np.nan_to_num(aadt_m), road_m)).sum() / total) if total > 0 else 0.0


def spf_out_of_fold(
    examples: Examples,
    folds: Folds,
    task: Task,
    events: FloatArray,
    threshold: float | None,
    facts: SpfFacts | None,
) -> SpfOutputs:
    """A safety performance function on the same folds as all else, each tile said by one that did not see it.

    Parameters
    ----------
    examples : all with a label; of a count it is what is learned.
    folds : of the same rows.
    events : (N,) of the label window, which a class is cut from.
    threshold : events from which a tile is of the second class; None where it is not cut from counts.
    facts : of the same rows; None where no length of road is known.
    """
    name = "spf_length" if facts is None else facts.name
    count = examples.label if task.kind == "count" else events
    why = _impossible(task, examples.label, count, threshold, facts)
    if facts is None or why:
        return SpfOutputs(name, None, (f"{name} is not there: {why}",))
    order = np.argsort(examples.key, kind="stable")
    facts, count, dealt = facts.taken(order), count[order], folds.taken(order)
    said = np.empty((len(count), 1))
    with threadpool_limits(limits=1):
        for k in range(dealt.count):
            train, test = dealt.train_rows(k), dealt.test_rows(k)
            # what row `order[i]` holds stands at i
            said[order[test]] = spf_outputs(
                task, facts.taken(train), count[train], facts.taken(test), threshold
            )
    return SpfOutputs(name, said, (_told(facts),))


def spf_outputs(
    task: Task,
    train: SpfFacts,
    count: FloatArray,
    unseen: SpfFacts,
    threshold: float | None = None,
) -> FloatArray:
    """(n, 1) of the unseen tiles: the log of expected counts, or the logit of P(count >= threshold).

    Tiles without a volume are said by their length, and those without a length are given the base rate.

    Parameters
    ----------
    count : (N,) events of the training tiles.
    threshold : from which a tile is of the second class; only of a class.
    """
    said = np.full(len(unseen.road_m), _base_rate(task, count, threshold))
    for design in (_by_length, _by_volume):
        x, offset = design(train)
        rows = np.flatnonzero(np.isfinite(x + offset))
        if not len(rows):
            continue
        found = fitted(x[rows, None], count[rows], offset[rows], 0.0)
        # a power of what is twice as much as any training tile has, or half as little, is not believed
        within = float(x[rows].min()) - math.log(2), float(x[rows].max()) + math.log(2)
        x, offset = design(unseen)
        asked = np.flatnonzero(np.isfinite(x + offset))
        log_mean = found.log_mean(x[asked, None].clip(*within), offset[asked])
        said[asked] = log_mean if task.kind == "count" else _logit(log_mean, found.k, threshold)
    return said[:, None]


def _by_length(facts: SpfFacts) -> tuple[FloatArray, FloatArray]:
    """(N,) fact and (N,) offset of mu = exp(b0) * length^b1; NaN where unknown."""
    return _log(facts.road_m), np.zeros(len(facts.road_m))


def _by_volume(facts: SpfFacts) -> tuple[FloatArray, FloatArray]:
    """(N,) fact and (N,) offset of mu = length * exp(b0 + b1 ln AADT); NaN where unknown."""
    aadt = np.full(len(facts.road_m), np.nan) if facts.aadt is None else facts.aadt
    return _log(aadt), _log(facts.road_m)


def _log(amount: FloatArray) -> FloatArray:
    """Less than one metre, or one vehicle a day, counts as one."""
    return np.asarray(np.log(np.maximum(amount, 1.0)))


def _logit(log_mean: FloatArray, k: float, threshold: float | None) -> FloatArray:
    """(n,) logit of P(count >= threshold)."""
    from scipy.stats import nbinom, poisson

    if threshold is None:
        raise ModelError("a class that is not cut from counts has no safety performance function")
    mean = np.exp(np.clip(log_mean, -MOST_LOG, MOST_LOG))
    most = math.ceil(threshold) - 1  # of the first class
    counts = nbinom(1 / k, 1 / (1 + k * mean)) if k > LEAST_K else poisson(mean)
    least = np.finfo(np.float64).tiny
    return np.asarray(
        np.log(np.maximum(counts.sf(most), least)) - np.log(np.maximum(counts.cdf(most), least))
    )


def _base_rate(task: Task, count: FloatArray, threshold: float | None) -> float:
    if task.kind == "count" or threshold is None:
        return math.log(max(float(np.sort(count).sum()), 0.5) / len(count))
    high = min(max(float((count >= threshold).sum()), 0.5), len(count) - 0.5)
    return math.log(high / (len(count) - high))


def _impossible(
    task: Task, label: FloatArray, count: FloatArray, threshold: float | None, facts: SpfFacts | None
) -> str:
    """Why there is none; empty where there can be one."""
    if task.kind == "value":
        return "values are no counts"
    if task.outputs > 1:
        return f"it tells two classes apart, not {len(task.classes)}"
    if (count % 1 != 0).any():
        return "the events are weighted, and it is of counts"
    if task.kind == "class" and (threshold is None or ((count >= threshold) != (label == 1)).any()):
        return "the classes are not cut from counts of events"
    if facts is None or not np.isfinite(facts.road_m).any():
        return "no length of road is known"
    return ""


def _told(facts: SpfFacts) -> str:
    def tiles(rows: NDArray[np.bool_]) -> str:
        return f"{int(rows.sum()):,} of {len(rows):,} tiles"

    lengths = np.isfinite(facts.road_m)
    if facts.aadt is None:
        told = "spf_length: a negative binomial of length of road alone"
    else:
        told = "spf: a negative binomial of traffic, in proportion to length of road"
        unknown = lengths & ~np.isfinite(facts.aadt)
        if unknown.any():
            told += f"; {tiles(unknown)} have no volume and are said by their length"
    if not lengths.all():
        told += f"; {tiles(~lengths)} have no known length and are given the base rate"
    return told


def _numbers(frame: pd.DataFrame, name: str) -> FloatArray:
    return np.asarray(frame[name].to_numpy(dtype=np.float64, na_value=np.nan))
