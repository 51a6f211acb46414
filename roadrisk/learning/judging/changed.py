"""What a change does to a model's word: its score, the difference, and how far the order of tiles stays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.fairness import flagged_shares
from roadrisk.learning.judging.intervals import interval
from roadrisk.learning.judging.measures import auroc_fold_mean, hit_rate, spearman
from roadrisk.learning.judging.weighted import WeightedMeasure, auroc_within

TOP_PERCENT = 5


@dataclass(frozen=True)
class Trial:
    """One choice made otherwise.

    Parameters
    ----------
    model : that learned anew: the one that is asked about, or `boosting` on the facts.
    n : tiles judged.
    auroc : within folds, of the tiles of high risk, or of the top fifth of values or counts; None where the
        choice could not be made.
    low, high : ends of its 95 % interval by draws of blocks; None below 20 blocks.
    difference : of the AUROC from that without the change, on the same folds and draws; None where tiles
        are others.
    spearman, top_kept : correlation of ranks with those without the change, and share of its riskiest 5 %
        that stay so, on tiles that both judge.
    note : what was changed in detail, or why it could not be.
    """

    name: str
    model: str
    n: int = 0
    auroc: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    spearman: float | None = None
    top_kept: float | None = None
    note: str = ""

    def __str__(self) -> str:
        if self.auroc is None:
            return f"{self.name}: not tried: {self.note}"
        said = f"{self.name} ({self.model}): AUROC {_told(self.auroc, self.low, self.high, '.3f')}"
        if self.difference is not None:
            change = _told(self.difference, self.difference_low, self.difference_high, "+.3f")
            said += f", a difference of {change}"
        if self.spearman is not None and self.top_kept is not None:
            kept = f"{100 * self.top_kept:.0f} % of the top {TOP_PERCENT} % stay"
            said += f"; ranks correlate by {self.spearman:.2f}, {kept}"
        return said + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True, eq=False)
class Said:
    """What a model says of N tiles that it did not see.

    Parameters
    ----------
    order : (N,) higher is riskier.
    high : (N,) 1 for tiles of high risk, or of the top fifth; else 0.
    fold : (N,) whose model said it.
    block : (N,) number of each tile's block; None where tiles have no place.
    """

    order: FloatArray
    high: FloatArray
    fold: IntArray
    block: IntArray | None


class Stability(TypedDict):
    """How far the order of tiles stays, as a `Trial` has it."""

    spearman: float | None
    top_kept: float | None


def trial(change: str, model: str, now: Said, seed: int, was: Said | None = None) -> Trial:
    """What came of a change, beside what was without it.

    Parameters
    ----------
    was : of the same tiles and folds; None where there is nothing to compare with.
    """
    measure = _of_pairs(auroc_within(now.fold))
    pairs = np.column_stack([now.high, now.order])
    value = _known(auroc_fold_mean(now.high, now.order, now.fold))
    sure = interval(measure, now.high, pairs, now.block, seed) if now.block is not None else None
    found = Trial(change, model, len(pairs), value, *((sure.low, sure.high) if sure else (None, None)))
    if was is None:
        return found
    before = np.column_stack([was.high, was.order])
    apart = None
    if now.block is not None:
        apart = interval(measure, now.high, pairs, now.block, seed, less=before)
    return replace(
        found,
        difference=None if value is None else value - auroc_fold_mean(was.high, was.order, was.fold),
        difference_low=apart.low if apart else None,
        difference_high=apart.high if apart else None,
        **stability(was.order, now.order),
    )


def stability(before: FloatArray, after: FloatArray) -> Stability:
    """How far the order of N tiles stays.

    Examples
    --------
    >>> stability(np.arange(40.0), np.arange(40.0) ** 2)
    {'spearman': 1.0, 'top_kept': 1.0}
    """
    top = flagged_shares(before, TOP_PERCENT / 100)
    kept = hit_rate(top, after, np.ones(len(after)), TOP_PERCENT)
    return {"spearman": _known(spearman(before, after)), "top_kept": _known(kept)}


def _of_pairs(measure: WeightedMeasure) -> WeightedMeasure:
    """A measure of (N, 2) label and score, since a change may change the label, too."""
    return lambda label, pairs, weights: measure(pairs[:, 0], pairs[:, 1], weights)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _told(value: float, low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None:
        return f"{value:{form}}"
    return f"{value:{form}} ({low:{form}} to {high:{form}})"
