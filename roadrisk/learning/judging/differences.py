"""How much better one model is than another on the same tiles, and whether the picture helps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.evaluation import Difference, Where
from roadrisk.learning.judging.intervals import FEWEST_BLOCKS, bootstrapped, middle
from roadrisk.learning.judging.measures import each_deviance, ranked_by
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold
from roadrisk.learning.judging.weighted import WeightedMeasure, auroc_within, mean_of, weighted_rmse
from roadrisk.learning.settings import TaskKind
from roadrisk.learning.tasks import Task, prediction

# each with the picture and without it; the claim rests on the first, one network with one side more
CLAIM = ("fused", "facts")
PICTURE_PAIRS = (CLAIM, ("boosting_with_image", "boosting"))
FEWEST_PICTURED = 50  # positives with a picture

# of classes within folds: scores of several fold models are not on one scale
METRICS: dict[TaskKind, str] = {"class": "auroc_fold_mean", "count": "deviance", "value": "rmse"}
WORDS = {"auroc_fold_mean": "AUROC", "deviance": "deviance", "rmse": "RMSE"}
LESS_IS_BETTER = ("deviance", "rmse")


def paired_differences(
    outcomes: Outcomes, found: OutOfFold, pairs: Sequence[tuple[str, str]], split: str, seed: int
) -> tuple[Difference, ...]:
    """The score of `a` less that of `b` for each pair (a, b), on all tiles and on those that facts cover.

    The score is the AUROC within folds of classes, where more is better, the Poisson deviance of counts and
    the root mean squared error of values, where less is better: a negative difference of these speaks for
    `a`.

    Parameters
    ----------
    pairs : those of which a model is missing are left out, and those whose difference is not finite.
    """
    asked = [(a, b) for a, b in pairs if a in found.outputs and b in found.outputs]
    everywhere, covered = np.arange(len(outcomes)), np.flatnonzero(outcomes.covered)
    on_all = _differences(outcomes, found, asked, split, "all", everywhere, seed)
    on_covered = _differences(outcomes, found, asked, split, "covered", covered, seed)
    return tuple(of[pair] for pair in asked for of in (on_all, on_covered) if pair in of)


def picture_claim(differences: Sequence[Difference], outcomes: Outcomes) -> str:
    """One sentence: whether the picture helps and by how much, or why that cannot be said.

    Parameters
    ----------
    differences : of `PICTURE_PAIRS`, of one split.
    outcomes : that they were judged on.
    """
    of_claim = {one.tiles: one for one in differences if (one.a, one.b) == CLAIM}
    if "all" not in of_claim:
        return (
            f"Whether the picture helps cannot be said: it takes a network with it ({CLAIM[0]}) and one "
            f"without it ({CLAIM[1]}) on the same folds, which --inputs both trains."
        )
    refused = _too_little(outcomes)
    if refused:
        return f"Whether the picture helps cannot be said: {refused}."
    first = of_claim["all"]
    if first.low is None or first.high is None:
        return (
            "Whether the picture helps cannot be said: the difference is not defined on most draws of blocks."
        )
    verdict = _verdict(first.metric, first.low, first.high)
    on_all = f"{_pair(first)} {_told(first)} on all {first.n:,} eligible tiles"
    covered, where = of_claim.get("covered"), ""
    if covered:
        on_covered = f"{_told(covered)} on the {covered.n:,} that every source of facts covers"
        where = ", all covered by every source of facts" if covered.n == first.n else f", {on_covered}"
    others = [
        f"; {_pair(one)} {_told(one)}"
        for one in differences
        if one.tiles == "all" and (one.a, one.b) in PICTURE_PAIRS[1:]
    ]
    return f"{verdict}: {on_all}{where}{''.join(others)}."


def _differences(
    outcomes: Outcomes,
    found: OutOfFold,
    pairs: Sequence[tuple[str, str]],
    split: str,
    tiles: Where,
    rows: IntArray,
    seed: int,
) -> dict[tuple[str, str], Difference]:
    """By pair, on these rows, where finite; each model is scored once on each draw."""
    if len(rows) == 0:
        return {}
    task, of = outcomes.task, outcomes.taken(rows)
    observed, measure = _observed(of), _measure(task, found.fold[rows])
    names = dict.fromkeys(name for pair in pairs for name in pair)
    scores = {name: _said(task, found.outputs[name][rows]) for name in names}
    once = np.ones((1, len(of)))
    value = {name: float(measure(observed, score, once)[0]) for name, score in scores.items()}
    blocks = 0 if of.block is None else len(np.unique(of.block))
    draws = {}
    if of.block is not None and blocks >= FEWEST_BLOCKS:
        draws = bootstrapped(measure, observed, scores, of.block, seed)
    made = {}
    for a, b in pairs:
        if math.isfinite(value[a] - value[b]):
            low, high = (middle(draws[a] - draws[b]) if draws else None) or (None, None)
            made[a, b] = Difference(
                split=split,
                metric=METRICS[task.kind],
                a=a,
                b=b,
                tiles=tiles,
                value=value[a] - value[b],
                low=low,
                high=high,
                n=len(of),
                positives=int((of.high == 1).sum()),
                blocks=blocks,
            )
    return made


def _measure(task: Task, fold: IntArray) -> WeightedMeasure:
    """The one that differences are of."""
    if task.kind == "class":
        return auroc_within(fold)
    return mean_of(each_deviance) if task.kind == "count" else weighted_rmse


def _observed(outcomes: Outcomes) -> FloatArray:
    riskiest = len(outcomes.task.classes) - 1
    if outcomes.task.kind == "class":
        return np.asarray(outcomes.label == riskiest, np.float64)
    return outcomes.label


def _said(task: Task, outputs: FloatArray) -> FloatArray:
    return ranked_by(task, outputs) if task.kind == "class" else prediction(task, outputs)


def _too_little(outcomes: Outcomes) -> str:
    """Why there are too few pictures to tell; empty where there are enough."""
    if outcomes.block is None:
        return "the tiles have no place, so there are no blocks to draw"
    pictured = outcomes.has_image & (outcomes.high == 1)
    blocks = len(np.unique(outcomes.block[pictured]))
    if pictured.sum() >= FEWEST_PICTURED and blocks >= FEWEST_BLOCKS:
        return ""
    return (
        f"{pictured.sum():,} tiles of high risk have a picture, in {blocks:,} blocks, where "
        f"{FEWEST_PICTURED} in {FEWEST_BLOCKS} are needed"
    )


def _verdict(metric: str, low: float, high: float) -> str:
    worse, better = (high, -low) if metric in LESS_IS_BETTER else (-low, high)
    if worse < 0:
        return "The picture helps"
    return "The picture hurts" if better < 0 else "With the picture and without it no difference can be told"


def _pair(one: Difference) -> str:
    return f"{one.a} less {one.b}"


def _told(one: Difference) -> str:
    """As `+0.021 AUROC (95 % 0.008 to 0.034)`."""
    between = (
        "no interval" if one.low is None or one.high is None else f"95 % {one.low:.3f} to {one.high:.3f}"
    )
    return f"{one.value:+.3f} {WORDS[one.metric]} ({between})"
