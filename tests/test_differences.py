"""Differences of two models on the same tiles, and the one sentence on the picture."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import mean_poisson_deviance, roc_auc_score, root_mean_squared_error
from test_predictions import TASKS, judged

from roadrisk.learning.judging.differences import PICTURE_PAIRS, paired_differences, picture_claim
from roadrisk.learning.judging.evaluation import Difference
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold
from roadrisk.learning.tasks import Task


def planted(gain: float, n: int = 800, seed: int = 0, blocks: int = 50) -> tuple[Outcomes, OutOfFold]:
    """Two classes; `fused` knows of what `facts` knows, and of `gain` times what no fact tells."""
    outcomes, _ = judged(Task(), n, seed)
    chance = np.random.default_rng(seed)
    known, unknown, noise = chance.normal(size=(3, n))
    high = (known + unknown + chance.normal(size=n) > 1).astype(float)
    block = np.arange(n) % blocks
    outcomes = replace(outcomes, label=high, high=high, block=block, has_image=np.ones(n, bool))
    said = {"facts": known + 0.1 * noise, "fused": known + gain * unknown, "boosting": known}
    outputs = {name: values[:, None] for name, values in said.items()}
    return outcomes, OutOfFold(np.zeros(n, int), outputs)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}{task.outputs}")
def test_the_difference_is_that_of_the_measures_on_all_tiles_and_on_the_covered(task: Task) -> None:
    outcomes, found = judged(task, 300)
    outcomes = replace(outcomes, block=np.arange(300) // 10)
    both = paired_differences(outcomes, found, [("fused", "boosting"), ("fused", "none")], "spatial", 0)
    assert [one.tiles for one in both] == ["all", "covered"]
    for one, rows in zip(both, (np.arange(300), np.flatnonzero(outcomes.covered)), strict=True):
        label, fold = outcomes.label[rows], found.fold[rows]
        a, b = (found.outputs[name][rows] for name in ("fused", "boosting"))

        def score(outputs: np.ndarray, label: np.ndarray = label, fold: np.ndarray = fold) -> float:
            if task.kind == "value":
                return root_mean_squared_error(label, outputs[:, 0])
            if task.kind == "count":
                return mean_poisson_deviance(label, np.exp(outputs[:, 0]))
            chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
            order = outputs[:, 0] if task.outputs == 1 else chances[:, -1]
            riskiest = label == len(task.classes) - 1
            inside = [fold == k for k in range(3)]
            pairs = [riskiest[of].sum() * (~riskiest[of]).sum() for of in inside]
            return float(np.average([roc_auc_score(riskiest[of], order[of]) for of in inside], weights=pairs))

        assert one.value == pytest.approx(score(a) - score(b))
        assert one.low <= one.value <= one.high
        assert (one.split, one.a, one.b) == ("spatial", "fused", "boosting")
        assert one.metric == {"class": "auroc_fold_mean", "count": "deviance", "value": "rmse"}[task.kind]
        assert (one.n, one.positives) == (len(rows), outcomes.high[rows].sum())
        assert one.blocks == len(np.unique(outcomes.block[rows]))


def test_fold_models_on_other_scales_are_no_difference() -> None:
    """Each fold's model of `fused` adds a number of its own, which orders no two tiles of one fold."""
    outcomes, found = planted(0.7)
    fold = np.arange(len(outcomes)) % 5
    shifted = {**found.outputs, "fused": found.outputs["fused"] + 3.0 * fold[:, None]}
    [before] = paired_differences(
        outcomes, OutOfFold(fold, found.outputs), [("fused", "facts")], "spatial", 0
    )[:1]
    [after] = paired_differences(outcomes, OutOfFold(fold, shifted), [("fused", "facts")], "spatial", 0)[:1]
    assert after == before


def test_a_stack_is_no_word_on_the_picture() -> None:
    """It holds a regression besides, and where nothing is frozen no picture at all."""
    assert not any("stack" in pair for pair in PICTURE_PAIRS)


def test_too_few_blocks_or_no_places_leave_the_difference_without_an_interval() -> None:
    outcomes, found = planted(1)
    for block, count in ((None, 0), (np.arange(800) % 19, 19)):
        made = paired_differences(replace(outcomes, block=block), found, PICTURE_PAIRS, "spatial", 0)
        assert [(one.low, one.high, one.blocks) for one in made] == [(None, None, count)] * 2
        assert made[0].value > 0


def test_what_is_not_defined_is_left_out() -> None:
    outcomes, found = planted(1)
    none = replace(outcomes, covered=np.zeros(800, bool))
    assert [one.tiles for one in paired_differences(none, found, PICTURE_PAIRS, "spatial", 0)] == ["all"]
    one_class = replace(outcomes, label=np.zeros(800))
    assert paired_differences(one_class, found, PICTURE_PAIRS, "spatial", 0) == ()


def test_no_order_of_rows_changes_a_difference() -> None:
    outcomes, found = planted(0.3)
    order = np.random.default_rng(3).permutation(800)
    turned = OutOfFold(found.fold[order], {name: said[order] for name, said in found.outputs.items()})
    before = paired_differences(outcomes, found, PICTURE_PAIRS, "spatial", 0)
    assert paired_differences(outcomes.taken(order), turned, PICTURE_PAIRS, "spatial", 0) == before


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (0.7, "The picture helps"),
        (-0.7, "The picture hurts"),
        (0.0, "With the picture and without it no difference can be told: "),
    ],
)
def test_a_planted_picture_is_found(gain: float, verdict: str) -> None:
    outcomes, found = planted(gain)
    claim = picture_claim(paired_differences(outcomes, found, PICTURE_PAIRS, "spatial", 0), outcomes)
    assert claim.startswith(verdict), claim


def difference(value: float, low: float | None, high: float | None, **other: object) -> Difference:
    made = {"split": "spatial", "metric": "auroc_fold_mean", "a": "fused", "b": "facts", "tiles": "all"}
    return Difference(
        **made | {"n": 2935, "positives": 600, "blocks": 120} | other, value=value, low=low, high=high
    )


def test_the_sentence_word_by_word() -> None:
    outcomes, _ = planted(1)
    made = [
        difference(0.021, 0.008, 0.034),
        difference(0.01, -0.004, 0.02, tiles="covered", n=1200),
        difference(0.012, 0.001, 0.02, a="boosting_with_image", b="boosting"),
        difference(0.012, 0.001, 0.02, a="boosting_with_image", b="boosting", tiles="covered"),
        difference(0.5, 0.4, 0.6, b="road_length"),
    ]
    assert picture_claim(made, outcomes) == (
        "The picture helps: fused less facts +0.021 AUROC (95 % 0.008 to 0.034) on all 2,935 eligible tiles, "
        "+0.010 AUROC (95 % -0.004 to 0.020) on the 1,200 that every source of facts covers; "
        "boosting_with_image less boosting +0.012 AUROC (95 % 0.001 to 0.020)."
    )
    assert picture_claim([made[0], replace(made[1], n=2935)], outcomes) == (
        "The picture helps: fused less facts +0.021 AUROC (95 % 0.008 to 0.034) on all 2,935 eligible tiles, "
        "all covered by every source of facts."
    )


@pytest.mark.parametrize("metric", ["deviance", "rmse"])
def test_less_deviance_is_better(metric: str) -> None:
    outcomes, _ = planted(1)
    for ends, verdict in (((-0.3, -0.1), "helps:"), ((0.1, 0.3), "hurts:"), ((-0.1, 0.1), "no difference")):
        claim = picture_claim([difference(sum(ends) / 2, *ends, metric=metric)], outcomes)
        assert verdict in claim


def test_the_claim_is_refused_where_too_few_are_pictured() -> None:
    outcomes, found = planted(0.7)
    made = paired_differences(outcomes, found, PICTURE_PAIRS, "spatial", 0)
    high = np.flatnonzero(outcomes.high == 1)
    pictured = np.zeros(800, bool)
    pictured[high[:49]] = True
    few = replace(outcomes, has_image=pictured)
    blocks = len(np.unique(outcomes.block[high[:49]]))
    assert picture_claim(made, few) == (
        f"Whether the picture helps cannot be said: 49 tiles of high risk have a picture, in {blocks} blocks, "
        "where 50 in 20 are needed."
    )
    pictured[high[49]] = True
    assert picture_claim(made, few).startswith("The picture helps")
    narrow = replace(outcomes, has_image=outcomes.block < 19)
    positives = int((outcomes.high[outcomes.block < 19] == 1).sum())
    assert picture_claim(made, narrow) == (
        f"Whether the picture helps cannot be said: {positives} tiles of high risk have a picture, in 19 "
        "blocks, where 50 in 20 are needed."
    )
    assert picture_claim(made, replace(outcomes, block=None)) == (
        "Whether the picture helps cannot be said: the tiles have no place, so there are no blocks to draw."
    )


def test_without_the_two_networks_nothing_is_claimed() -> None:
    outcomes, _ = planted(1)
    assert picture_claim([difference(0.1, 0.05, 0.15, a="stack", b="boosting")], outcomes) == (
        "Whether the picture helps cannot be said: it takes a network with it (fused) and one "
        "without it (facts) on the same folds, which --inputs both trains."
    )
