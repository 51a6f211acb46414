"""Every measure, interval, difference and curve of what models said of tiles that they did not see. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.calibration import leave_one_fold_out, logit_of_riskiest
from roadrisk.learning.judging.ceiling import Ceiling
from roadrisk.learning.judging.choosing import road_to_ceiling
from roadrisk.learning.judging.curves import curves_of
from roadrisk.learning.judging.differences import PICTURE_PAIRS, paired_differences, picture_claim
from roadrisk.learning.judging.evaluation import Evaluation
from roadrisk.learning.judging.intervals import measure_intervals
from roadrisk.learning.judging.measures import brier, ece, measures_of
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold

Metrics = dict[str, dict[str, dict[str, Any]]]

# a random fold's scores stand beside the spatial ones to show what neighbours flatter: no curves, no pairs,
# but of tiles without places, which have no other folds
ONLY_SCORES = ("random",)


class Judged(NamedTuple):
    """`metrics[split][model][metric]`, and what else was found."""

    metrics: Metrics
    evaluation: Evaluation


def judged(
    splits: Mapping[str, tuple[Outcomes, OutOfFold]],
    ceilings: Mapping[str, Ceiling],
    own: str,
    seed: int,
    along: Mapping[str, FloatArray] | None = None,
) -> Judged:
    """How good each model is on each split, how certain that is, and whether the picture helps.

    Parameters
    ----------
    splits : what was judged, and what was said of it; the first is the one that is quoted.
    ceilings : by split, the AUROCs that chance leaves to anybody, where they are known.
    own : name of the model that is kept, which the others are compared with.
    seed : of the draws of blocks.
    along : by name, (N,) of the rows of every split, what residuals of counts are cumulated along besides
        what is expected and metres of road; NaN where unknown.
    """
    metrics: Metrics = {}
    evaluation, first = Evaluation(), next(iter(splits))
    for split, (outcomes, found) in splits.items():
        # so that no order of rows shows in the last digit of a sum
        order = np.argsort(outcomes.key, kind="stable")
        outcomes, found = outcomes.taken(order), found.taken(order)
        amounts = {name: of[order] for name, of in (along or {}).items()}
        known = ceilings[split]._asdict() if split in ceilings else {}
        best = {f"ceiling_{metric}": value for metric, value in known.items()}
        metrics[split] = {
            name: measures_of(outcomes, said, found.fold) | _calibrated(outcomes, said, found.fold) | best
            for name, said in found.outputs.items()
        }
        evaluation.intervals[split] = measure_intervals(outcomes, found, seed)
        if split == first or split not in ONLY_SCORES:
            pairs = [*PICTURE_PAIRS, *_beside(own, tuple(found.outputs))]
            made = paired_differences(outcomes, found, tuple(dict.fromkeys(pairs)), split, seed)
            evaluation = replace(evaluation, differences=(*evaluation.differences, *made))
            evaluation.curves[split] = {
                name: curves_of(outcomes, said, amounts, seed)
                for name, said in found.outputs.items()
                if name != "base_rate"
            }
    of_first = [d for d in evaluation.differences if d.split == first and (d.a, d.b) in PICTURE_PAIRS]
    return Judged(
        metrics,
        replace(
            evaluation,
            picture=picture_claim(of_first, splits[first][0]),
            road_to_ceiling=road_to_ceiling(metrics),
        ),
    )


def _beside(own: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The kept model less each of the others, in the next period the one that knows the past as well."""
    known = f"{own}_with_past"
    kept = [name for name in (known, own) if name in names]
    return [(one, other) for one in kept[:1] for other in names if other not in (one, "base_rate")]


def _calibrated(outcomes: Outcomes, outputs: FloatArray, fold: IntArray) -> dict[str, float]:
    """Of a class, how true probabilities are after a calibration that did not see the fold."""
    task = outcomes.task
    if task.kind != "class" or len(np.unique(fold)) < 2:
        return {}
    riskiest = np.asarray(outcomes.label == len(task.classes) - 1, np.float64)
    if any(len(np.unique(riskiest[fold != k])) < 2 for k in np.unique(fold)):
        return {}
    chance = leave_one_fold_out(riskiest, logit_of_riskiest(task, outputs), fold)
    return {"brier_calibrated": brier(riskiest, chance), "ece_calibrated": ece(riskiest, chance)}
