"""How good drawn roads are: counts of pixels, plain and relaxed, and what they make with intervals.

Relaxed counts are those of Mnih 2013, Machine Learning for Aerial Image Labeling (thesis, Toronto): a drawn
pixel is right where a true one lies near, a true one is found where a drawn one does. Near is 3 m. Where
there is no true road there is no score; beside units with roads the false ones of a unit without still count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.intervals import FEWEST_BLOCKS, middle
from roadrisk.mosaic.picture import Mask
from roadrisk.roads.drawing.drawn import LEVELS, Levels
from roadrisk.roads.scenes import Truth

NEAR_M = 3.0
NEAR_WITHOUT_SCALE_PX = 3.0
SAMPLES = 1000
METRICS = (
    "iou",
    "precision",
    "recall",
    "f1",
    "relaxed_precision",
    "relaxed_recall",
    "relaxed_f1",
    "apls",
)
Score = dict[str, float | list[float | None] | None]


def histogram(level: Levels, truth: Truth, valid: Mask) -> IntArray:
    """(2, 256) known pixels by truth (not road, road) and level.

    Parameters
    ----------
    level, valid : (H, W).
    """
    counted = truth.known & valid
    joint = level[counted] + np.where(truth.road[counted], np.uint16(LEVELS), np.uint16(0))
    return np.bincount(joint, minlength=2 * LEVELS).reshape(2, LEVELS).astype(np.int64)


def iou_at(histogram: IntArray, level: int) -> float | None:
    """Intersection over union of true road and all from a level on; None without any true road.

    Parameters
    ----------
    histogram : (2, 256).
    """
    value = float(_iou_by_level(histogram)[level])
    return None if np.isnan(value) else value


def best_level(histogram: IntArray) -> int:
    """The level in 1 to 255 from which on road has the highest IoU.

    Parameters
    ----------
    histogram : (2, 256).

    Returns
    -------
    The middle of the longest run of equally good ones; without any true road all are equally good.

    Examples
    --------
    >>> counts = np.zeros((2, 256), np.int64)
    >>> counts[0, 10], counts[1, 30] = 5, 5
    >>> best_level(counts)  # from 11 to 30
    20
    """
    iou = np.nan_to_num(_iou_by_level(histogram)[1:])
    best = np.concatenate([[False], iou == iou.max(), [False]])
    starts, ends = np.flatnonzero(np.diff(best.astype(np.int8)) == 1), np.flatnonzero(best[:-1] & ~best[1:])
    longest = int(np.argmax(ends - starts))
    return int(starts[longest] + 1 + ends[longest]) // 2


def _iou_by_level(histogram: IntArray) -> FloatArray:
    """(256,) of all from a level on; not a number without true road."""
    false, true = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]
    road = histogram[1].sum()
    return true / (road + false) if road else np.full(LEVELS, np.nan)


def near_px(metres_per_pixel: float | None) -> float:
    """How many pixels are near: 3 m, or 3 pixels where nothing says how long a pixel is.

    >>> near_px(0.5), near_px(None)
    (6.0, 3.0)
    """
    return NEAR_WITHOUT_SCALE_PX if metres_per_pixel is None else NEAR_M / metres_per_pixel


@dataclass(frozen=True)
class UnitCounts:
    """Known pixels of a unit.

    Parameters
    ----------
    road, drawn, both : of true road, of drawn road, and of those that are both.
    drawn_near : drawn ones with true road near.
    road_near : true ones with drawn road near.
    """

    known: int
    road: int
    drawn: int
    both: int
    drawn_near: int
    road_near: int


COUNTS = tuple(field.name for field in fields(UnitCounts))


def unit_counts(
    drawn: Mask, truth: Truth, valid: Mask, core: tuple[slice, slice], near_px: float
) -> UnitCounts:
    """What was drawn beside what is there; pixels around the core only help those in it.

    Parameters
    ----------
    drawn, valid : (H, W); what is not valid or not known neither counts nor helps.
    core : rows and columns of the unit itself.
    near_px : distance of pixel centres up to which a road is near.
    """
    counted = truth.known & valid
    road, said = truth.road & counted, drawn & counted
    near_road, near_said = _near(road, near_px)[core], _near(said, near_px)[core]
    road, said = road[core], said[core]
    return UnitCounts(
        known=int(counted[core].sum()),
        road=int(road.sum()),
        drawn=int(said.sum()),
        both=int((road & said).sum()),
        drawn_near=int((said & near_road).sum()),
        road_near=int((road & near_said).sum()),
    )


def _near(mask: Mask, near_px: float) -> Mask:
    """(H, W) whether a pixel of the mask is at most so far away."""
    if not mask.any():
        return np.zeros_like(mask)
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # 32 bit, of square roots of integers: the limit lies between two of them
    return away < math.sqrt(math.floor(near_px**2 + 1e-9) + 0.5)


@dataclass(frozen=True)
class UnitJudged:
    """What a method drew of a unit that it did not learn from.

    Parameters
    ----------
    key : the unit's.
    block : its place, of which whole ones are drawn for intervals.
    apls : how well what was drawn connects; None where the truth has no path.
    line_px : length of the true lines, the weight of `apls`.
    """

    method: str
    key: str
    fold: int
    block: int
    counts: UnitCounts
    apls: float | None
    line_px: float


def units_table(units: Iterable[UnitJudged]) -> pd.DataFrame:
    """A row a method and unit, in the order of their names: what scores are made of."""
    rows = [
        {
            "method": unit.method,
            "key": unit.key,
            "fold": unit.fold,
            "block": unit.block,
            **asdict(unit.counts),
            "apls": np.nan if unit.apls is None else unit.apls,
            "line_px": unit.line_px,
        }
        for unit in units
    ]
    columns = ["method", "key", "fold", "block", *COUNTS, "apls", "line_px"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["method", "key"], kind="stable", ignore_index=True)


def scores(units: pd.DataFrame, seed: int) -> dict[str, dict[str, Score]]:
    """By method and metric: `value`, `low`, `high` (95 %) and `folds`, those of each fold.

    Parameters
    ----------
    units : as `units_table` makes it, in any order of rows.

    Returns
    -------
    Values are of all units pooled: sums of pixels, and the mean of `apls` weighted by `line_px`. None is
    what is not defined, as without any true road, and both ends with fewer than 20 blocks.
    """
    return {
        method: {metric: _score(values) for metric, values in each.items()}
        for method, each in _resampled(units, seed).items()
    }


def differences(units: pd.DataFrame, a: str, b: str, metric: str, seed: int) -> Score:
    """By how much a method is above another, as `scores` tells it, both on the same draws of blocks.

    Parameters
    ----------
    units : as `units_table` makes it, in any order of rows.
    a, b : methods.
    metric : of `METRICS`.
    """
    of = _resampled(units, seed)
    first, second = of[a][metric], of[b][metric]
    return _score(
        Resampled(first.whole - second.whole, first.folds - second.folds, first.draws - second.draws)
    )


class Resampled(NamedTuple):
    """A metric of all units, of each fold and of each draw of blocks; not a number where not defined.

    Parameters
    ----------
    whole : (1,).
    folds : (F,).
    draws : (samples,); none with fewer than 20 blocks.
    """

    whole: FloatArray
    folds: FloatArray
    draws: FloatArray


def _resampled(units: pd.DataFrame, seed: int) -> dict[str, dict[str, Resampled]]:
    """By method and metric, all on the same draws."""
    ordered = units.sort_values(["method", "key"], kind="stable")
    folds, blocks = np.unique(ordered["fold"]), np.unique(ordered["block"])
    drawn = _block_draws(len(blocks), seed)
    ends = [1, 1 + len(folds)]
    found = {}
    for method, rows in ordered.groupby("method", sort=True):
        of_blocks = _sums(rows, "block", blocks)
        whole = of_blocks.sum(axis=0, keepdims=True)
        sums = np.concatenate([whole, _sums(rows, "fold", folds), drawn @ of_blocks])
        each = _metrics(sums).items()
        found[str(method)] = {metric: Resampled(*np.split(values, ends)) for metric, values in each}
    return found


def _block_draws(blocks: int, seed: int) -> FloatArray:
    """(samples, blocks) how often each is drawn; no samples where there are too few."""
    samples = SAMPLES if blocks >= FEWEST_BLOCKS else 0
    drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / max(blocks, 1)), samples)
    return drawn.astype(np.float64)


def _sums(units: pd.DataFrame, by: str, groups: NDArray[Any]) -> FloatArray:
    """(groups, columns) of the counts, of lines that have an `apls`, and of these times it."""
    apls = units["apls"].to_numpy(np.float64)
    line = np.where(np.isnan(apls), 0.0, units["line_px"].to_numpy(np.float64))
    of_unit = np.column_stack([units[list(COUNTS)].to_numpy(np.float64), line, line * np.nan_to_num(apls)])
    sums = np.zeros((len(groups), of_unit.shape[1]))
    np.add.at(sums, np.searchsorted(groups, units[by]), of_unit)
    return sums


def _metrics(sums: FloatArray) -> dict[str, FloatArray]:
    """By metric, (K,) of K sums."""
    _, road, drawn, both, drawn_near, road_near, line, connected = sums.T
    drawn = np.where(road > 0, drawn, 0)  # nothing is said of where there is no road at all
    found = {
        "iou": _share(both, road + drawn - both),
        "precision": _share(both, drawn),
        "recall": _share(both, road),
        "f1": _share(2 * both, road + drawn),
        "relaxed_precision": _share(drawn_near, drawn),
        "relaxed_recall": _share(road_near, road),
    }
    # of shares of different wholes; 0 where nothing right is drawn
    right, seen = np.nan_to_num(found["relaxed_precision"]), found["relaxed_recall"]
    f1 = np.nan_to_num(_share(2 * right * seen, right + seen))
    found["relaxed_f1"] = np.where(road > 0, f1, np.nan)
    return {**found, "apls": _share(connected, line)}


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Not a number where the whole is nothing."""
    shares = np.full(len(whole), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _score(of: Resampled) -> Score:
    low, high = (middle(of.draws) if len(of.draws) else None) or (None, None)
    value = _known(of.whole[0])
    if value is None:
        low, high = None, None
    return {"value": value, "low": low, "high": high, "folds": [_known(one) for one in of.folds]}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
