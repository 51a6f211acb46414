"""What is judged together is what each measure, interval, difference and curve says alone."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from test_predictions import TASKS, judged

from roadrisk.learning.judging.ceiling import Ceiling
from roadrisk.learning.judging.curves import curves_of
from roadrisk.learning.judging.differences import PICTURE_PAIRS, paired_differences
from roadrisk.learning.judging.intervals import measure_intervals
from roadrisk.learning.judging.judged import judged as judged_of
from roadrisk.learning.judging.measures import brier, measures_of
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold
from roadrisk.learning.tasks import Task

NAMES = ("fused", "image", "facts", "base_rate", "road_length", "boosting")
SEED = 3


def told(
    task: Task, names: tuple[str, ...] = NAMES, places: bool = True, seed: int = 0
) -> tuple[Outcomes, OutOfFold]:
    """160 tiles in 40 blocks and 4 folds, in the order of keys, of which the models know something."""
    outcomes, _ = judged(task, 160, seed, places)
    outcomes = outcomes.taken(np.argsort(outcomes.key))
    chance, block = np.random.default_rng(seed), np.arange(160) % 40
    outputs = {
        name: chance.normal(size=(160, task.outputs)) + 0.5 * np.log1p(outcomes.label)[:, None]
        for name in names
    }
    outcomes = replace(outcomes, block=block if places else None, has_image=np.ones(160, bool))
    return outcomes, OutOfFold(block % 4, outputs)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}{task.outputs}")
def test_each_part_is_what_it_is_alone(task: Task) -> None:
    spatial, random = told(task), told(task, seed=1)
    later = told(task, ("fused", "fused_with_past", "past_counts", "road_length"), seed=2)
    later = later[0], replace(later[1], fold=np.zeros(160, np.int64))
    ceilings = {"spatial": Ceiling(0.95, 0.94)} if task.kind == "class" else {}
    metrics, evaluation = judged_of(
        {"spatial": spatial, "random": random, "temporal": later}, ceilings, "fused", SEED
    )
    for split, (outcomes, found) in (("spatial", spatial), ("random", random), ("temporal", later)):
        assert list(metrics[split]) == list(found.outputs)
        for name, said in found.outputs.items():
            alone = measures_of(outcomes, said, found.fold)
            assert {key: metrics[split][name][key] for key in alone} == alone
            more = set(metrics[split][name]) - set(alone)
            calibrated = {"brier_calibrated", "ece_calibrated"}
            limits = {"ceiling_auroc", "ceiling_auroc_fold_mean"} if split in ceilings else set()
            # one fold is no calibration that did not see it
            assert more == (calibrated if task.kind == "class" and split != "temporal" else set()) | limits
        assert evaluation.intervals[split] == measure_intervals(outcomes, found, SEED)
        assert all(
            low <= metrics[split][name][metric] <= high
            for name, ends in evaluation.intervals[split].items()
            for metric, (low, high) in ends.items()
        )
    own = [("fused", name) for name in ("image", "facts", "road_length", "boosting")]
    pairs = tuple(dict.fromkeys([*PICTURE_PAIRS, *own]))
    past = tuple(("fused_with_past", name) for name in ("fused", "past_counts", "road_length"))
    assert evaluation.differences == (
        *paired_differences(*spatial, pairs, "spatial", SEED),
        *paired_differences(*later, past, "temporal", SEED),
    )
    assert set(evaluation.curves) == {"spatial", "temporal"}
    for split, (outcomes, found) in (("spatial", spatial), ("temporal", later)):
        assert evaluation.curves[split] == {
            name: curves_of(outcomes, said, seed=SEED)
            for name, said in found.outputs.items()
            if name != "base_rate"
        }
    assert evaluation.picture


def test_the_ceiling_stands_beside_every_model_and_ends_the_way_from_road_length() -> None:
    metrics, evaluation = judged_of({"spatial": told(Task())}, {"spatial": Ceiling(0.95, 0.94)}, "fused", 0)
    of = metrics["spatial"]
    assert {(one["ceiling_auroc"], one["ceiling_auroc_fold_mean"]) for one in of.values()} == {(0.95, 0.94)}
    road, fused = (of[name]["auroc_fold_mean"] for name in ("road_length", "fused"))
    assert evaluation.road_to_ceiling["spatial"]["fused"] == pytest.approx((fused - road) / (0.94 - road))


def test_tiles_without_places_are_judged_in_full_on_random_folds() -> None:
    """They have no others; beside spatial folds random ones are only a score."""
    alone = told(Task(), places=False)
    evaluation = judged_of({"random": alone}, {}, "fused", 0).evaluation
    assert set(evaluation.curves["random"]) == set(NAMES) - {"base_rate"}
    assert {(one.split, one.low) for one in evaluation.differences} == {("random", None)}
    assert evaluation.picture == (
        "Whether the picture helps cannot be said: the tiles have no place, so there are no blocks to draw."
    )
    assert evaluation.intervals == {"random": {}}


def test_the_picture_is_judged_on_the_first_split_alone() -> None:
    helped, hurt = told(Task()), told(Task())
    for (outcomes, found), sign in ((helped, 1), (hurt, -1)):
        found.outputs["fused"][:] = found.outputs["facts"] + sign * 2 * outcomes.label[:, None]
    assert (helped[0].high == 1).sum() >= 40
    more = [replace(one[0], high=np.ones(160)) for one in (helped, hurt)]
    splits = {"spatial": (more[0], helped[1]), "metro": (more[1], hurt[1])}
    assert judged_of(splits, {}, "fused", 0).evaluation.picture.startswith("The picture helps: ")
    turned = dict(reversed(splits.items()))
    assert judged_of(turned, {}, "fused", 0).evaluation.picture.startswith("The picture hurts: ")


def test_calibrated_probabilities_are_of_folds_that_the_calibration_did_not_see() -> None:
    outcomes, found = told(Task())
    of = judged_of({"spatial": (outcomes, found)}, {}, "fused", 0).metrics["spatial"]["fused"]
    label, logit, chance = outcomes.label, found.outputs["fused"], np.empty(160)
    for k in range(4):
        seen = found.fold != k
        n1, n0 = label[seen].sum(), (1 - label[seen]).sum()
        # Platt's targets as weights of both classes
        high, low = (n1 + 1) / (n1 + 2), 1 / (n0 + 2)
        target = np.where(label[seen] == 1, high, low)
        x = np.concatenate([logit[seen], logit[seen]])
        y, weight = np.repeat([1, 0], seen.sum()), np.concatenate([target, 1 - target])
        theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, weight)
        chance[~seen] = theirs.predict_proba(logit[~seen])[:, 1]
    assert of["brier_calibrated"] == pytest.approx(brier(label, chance), rel=1e-6)
    assert of["brier_calibrated"] != pytest.approx(of["brier"], rel=0.01)


def test_a_calibration_that_would_learn_from_one_class_is_none() -> None:
    outcomes, found = told(Task())
    one_sided = replace(outcomes, label=np.where(found.fold == 0, outcomes.label, 0.0))
    of = judged_of({"metro": (one_sided, found)}, {}, "fused", 0).metrics["metro"]["fused"]
    assert "brier_calibrated" not in of
    assert of["auroc"] is not None


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}{task.outputs}")
def test_no_order_of_rows_or_models_changes_a_number(task: Task) -> None:
    outcomes, found = told(task)
    order = np.random.default_rng(1).permutation(160)
    outputs = {name: found.outputs[name][order] for name in reversed(found.outputs)}
    before = judged_of({"spatial": (outcomes, found)}, {}, "fused", SEED)
    after = judged_of(
        {"spatial": (outcomes.taken(order), OutOfFold(found.fold[order], outputs))}, {}, "fused", SEED
    )
    one, other = (asdict(of.evaluation) for of in (before, after))
    for of in (one, other):
        of["differences"] = sorted(of["differences"], key=lambda of: (of["a"], of["b"], of["tiles"]))
    assert one == other
    assert before.metrics == after.metrics


def test_residuals_of_counts_are_looked_at_along_what_is_named() -> None:
    outcomes, found = told(TASKS[2])
    flow = np.random.default_rng(2).uniform(0, 9000, 160)
    order = np.random.default_rng(1).permutation(160)
    turned = outcomes.taken(order), found.taken(order)
    curves = judged_of({"spatial": turned}, {}, "fused", SEED, {"aadt": flow[order]}).evaluation.curves
    [cure] = [one for one in curves["spatial"]["fused"].cure if one.by == "aadt"]
    assert cure == curves_of(outcomes, found.outputs["fused"], {"aadt": flow}).cure[-1]
