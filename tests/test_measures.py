"""Measures against scikit-learn and examples worked by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics
from sklearn.metrics import average_precision_score, brier_score_loss, ndcg_score, roc_auc_score
from test_predictions import TASKS, judged

from roadrisk.learning.judging.measured import BASELINES, NETWORKS, metrics_table
from roadrisk.learning.judging.measures import (
    auprc,
    auroc,
    auroc_fold_mean,
    brier,
    deviance,
    ece,
    hit_rate,
    log_loss,
    measures_of,
    ndcg,
    pai,
    pei,
    spearman,
)
from roadrisk.learning.tasks import Task, probabilities, probability

THREE = Task("class", "cross-entropy", ("low", "medium", "high"))
COUNT = Task("count", "poisson", ())
VALUE = Task("value", "mse", ())


def measured(
    task: Task,
    label: np.ndarray,
    outputs: np.ndarray,
    fold: np.ndarray,
    has_image: np.ndarray,
    events: np.ndarray,
    area_km2: np.ndarray,
) -> dict[str, float | int | None]:
    """The measures of tiles whose roads nobody knows."""
    outcomes, _ = judged(task, len(label))
    known = {"label": label, "has_image": has_image, "events": events, "area_km2": area_km2}
    outcomes = replace(outcomes, road_m=np.full(len(label), np.nan), **known)
    return measures_of(outcomes, outputs, fold)


def drawn(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities, many of them tied."""
    chance = np.random.default_rng(seed)
    score = np.round(chance.random(n), int(chance.integers(1, 4)))
    return (chance.random(n) < score).astype(float), score


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_agrees_with_scikit_learn(seed: int) -> None:
    label, score = drawn(seed)
    assert auroc(label, score) == pytest.approx(roc_auc_score(label, score))
    assert auprc(label, score) == pytest.approx(average_precision_score(label, score))
    assert brier(label, score) == pytest.approx(brier_score_loss(label, score))


def test_fold_mean_is_weighted_by_pairs() -> None:
    label = np.array([1.0, 0, 1, 1, 0, 0, 0, 0])
    score = np.array([0.9, 0.1, 0.2, 0.8, 0.5, 0.6, 0.3, 0.3])
    fold = np.array([0, 0, 1, 1, 1, 1, 2, 2])
    # fold 0: 1 pair, won. fold 1: 4 pairs, 2 won. fold 2 has no pair.
    assert auroc_fold_mean(label, score, fold) == pytest.approx((1 * 1 + 4 * 0.5) / 5)
    assert math.isnan(auroc_fold_mean(np.zeros(8), score, fold))


def test_fold_mean_does_not_see_a_shift_between_models() -> None:
    label, score = drawn(1)
    fold = np.arange(200) % 2
    shifted = score + 5 * fold
    assert auroc_fold_mean(label, shifted, fold) == pytest.approx(auroc_fold_mean(label, score, fold))
    assert auroc(label, shifted) < auroc(label, score)


def test_ece_by_hand() -> None:
    label = np.array([0.0, 1, 1, 1])
    chance = np.array([0.1, 0.3, 0.6, 0.8])
    # two bins: mean 0.2 against 0.5, mean 0.7 against 1.0
    assert ece(label, chance, bins=2) == pytest.approx(0.3)
    assert ece(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0


def test_hit_rate_pai_and_pei_by_hand() -> None:
    events = np.array([5.0, 3, 2, 0])
    score = np.array([0.9, 0.2, 0.7, 0.1])
    area = np.array([1.0, 1, 2, 4])
    assert hit_rate(events, score, area, 12.5) == pytest.approx(0.5)  # one of 8 km2, 5 of 10 events
    assert hit_rate(events, score, area, 25) == pytest.approx(0.6)  # and half of the third tile
    assert pai(events, score, area, 25) == pytest.approx(0.6 / 0.25)
    assert pei(events, score, area, 25) == pytest.approx(0.6 / 0.8)  # the best takes the first two tiles
    assert pei(events, events / area, area, 25) == pytest.approx(1)
    assert hit_rate(events, score, area, 100) == pytest.approx(1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100_000), digits=st.integers(0, 6))
def test_ndcg_is_scikit_learns_ties_and_all(seed: int, digits: int) -> None:
    chance = np.random.default_rng(seed)
    n = int(chance.integers(2, 60))
    events, score = chance.poisson(1, n).astype(float), chance.normal(size=n).round(digits)
    events[0] += 1
    assert ndcg(events, score) == pytest.approx(ndcg_score(events[None], score[None]))


def test_ndcg_by_hand() -> None:
    events = np.array([1.0, 3.0, 0.0])
    # 3 at the second place and 1 at the first, against 3 at the first and 1 at the second
    expected = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert ndcg(events, np.array([0.9, 0.5, 0.1])) == pytest.approx(expected)
    assert ndcg(events, events) == pytest.approx(1)
    assert math.isnan(ndcg(np.zeros(3), events))


def test_by_road_in_place_of_area_and_only_where_it_is_known() -> None:
    outcomes, found = judged(Task(), 4)
    outcomes = replace(
        outcomes,
        events=np.array([5.0, 3, 2, 90]),
        road_m=np.array([100.0, 100, 600, np.nan]),
        area_km2=np.ones(4),
    )
    outputs = np.array([[0.9], [0.2], [0.7], [0.8]])
    of = measures_of(outcomes, outputs, found.fold)
    # without the last tile: 100 of 800 m hold 5 of 10 events, the next 600 m two
    assert of["hit_rate_10_road"] == pytest.approx(0.5 * 80 / 100)
    assert of["hit_rate_20_road"] == pytest.approx((5 + 2 * 60 / 600) / 10)
    assert of["pai_10_road"] == pytest.approx(4)
    # the best takes the second tile next: 60 m of its 100
    assert of["pei_20_road"] == pytest.approx((5 + 2 * 60 / 600) / (5 + 3 * 60 / 100))
    assert of["hit_rate_20"] == pytest.approx(5 * 0.8 / 100)


def test_without_any_known_road_nothing_is_said_of_it() -> None:
    for road in (np.nan, 0.0):
        outcomes, found = judged(Task(), 40)
        of = measures_of(replace(outcomes, road_m=np.full(40, road)), found.outputs["fused"], found.fold)
        assert {of[name] for name in of if name.endswith("_road")} == {None}
        assert len([name for name in of if name.endswith("_road")]) == 12
        assert of["pei_5"] is not None


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}{task.outputs}")
def test_no_order_of_rows_changes_what_is_known_of_roads(task: Task) -> None:
    outcomes, found = judged(task, 60)
    of = measures_of(outcomes, found.outputs["fused"], found.fold)
    order = np.random.default_rng(0).permutation(60)
    turned = measures_of(outcomes.taken(order), found.outputs["fused"][order], found.fold[order])
    assert turned == pytest.approx(of)


def test_a_value_without_events_has_no_hot_spots() -> None:
    outcomes, found = judged(TASKS[3])
    of = measures_of(replace(outcomes, events=np.zeros(30)), found.outputs["fused"], found.fold)
    assert set(of) == {"n", "n_with_image", "mae", "rmse", "r2", "spearman"}


def test_ties_are_split_evenly() -> None:
    assert hit_rate(np.array([4.0, 0, 0, 0]), np.zeros(4), np.ones(4), 25) == pytest.approx(0.25)
    assert pei(np.array([4.0, 0, 0, 0]), np.zeros(4), np.ones(4), 25) == pytest.approx(0.25)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_no_order_of_rows_changes_a_measure(seed: int) -> None:
    label, score = drawn(seed, 101)
    chance = np.random.default_rng(seed)
    fold, area = chance.integers(0, 3, 101), chance.uniform(0.1, 1, 101)
    events, has_image = label * chance.integers(1, 5, 101), chance.random(101) < 0.5
    order = chance.permutation(101)
    drawn_counts = label * chance.integers(0, 9, 101)
    for task, wanted, outputs in (
        (Task(), label, score[:, None]),
        (THREE, label + (score > 0.8), np.stack([score, 1 - score, score**2], 1)),
        (VALUE, drawn_counts, score[:, None]),
        (COUNT, drawn_counts, score[:, None]),
    ):
        first = measured(task, wanted, outputs, fold, has_image, events, area)
        again = (wanted[order], outputs[order], fold[order], has_image[order], events[order], area[order])
        assert first == pytest.approx(measured(task, *again))


def test_measures_are_plain_json_even_where_not_defined() -> None:
    for task in (Task(), THREE, COUNT, VALUE):
        outputs, none = np.zeros((3, task.outputs)), np.zeros(3)
        found = measured(task, none, outputs, np.zeros(3, int), np.ones(3, bool), none, np.ones(3))
        assert found["n"] == found["n_with_image"] == 3
        if task.kind == "class":
            assert found["auroc"] is found["pei_5"] is None
        else:
            assert found["spearman"] is found.get("pei_5") is None
        json.dumps(found, allow_nan=False)


def test_probability_is_the_sigmoid() -> None:
    logit = np.linspace(-30, 30, 61)
    np.testing.assert_allclose(probability(logit), 1 / (1 + np.exp(-logit)), rtol=1e-12)
    with np.errstate(over="raise", invalid="raise"):
        assert probability(np.array([-1e4, 1e4])).tolist() == [0, 1]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_several_classes_agree_with_scikit_learn(seed: int) -> None:
    chance = np.random.default_rng(seed)
    outputs = chance.normal(size=(150, 3)).round(1)
    label = (outputs + chance.gumbel(size=(150, 3))).argmax(axis=1).astype(float)
    events, area, fold = (label == 2) * 2.0, chance.uniform(0.1, 1, 150), chance.integers(0, 3, 150)
    found = measured(THREE, label, outputs, fold, np.ones(150, bool), events, area)
    chances = probabilities(THREE, outputs)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(label, outputs.argmax(axis=1)))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(label, chances, labels=[0, 1, 2]))
    assert found["auroc"] == pytest.approx(roc_auc_score(label == 2, chances[:, 2]))
    assert found["auprc"] == pytest.approx(average_precision_score(label == 2, chances[:, 2]))
    assert found["brier"] == pytest.approx(brier_score_loss(label == 2, chances[:, 2]))
    assert found["hit_rate_10"] == hit_rate(events, chances[:, 2], area, 10)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_counts_agree_with_scikit_learn_and_scipy(seed: int) -> None:
    chance = np.random.default_rng(seed)
    expected = chance.lognormal(0, 1, 150).round(1) + 0.1
    count = chance.poisson(expected).astype(float)
    fold, area = np.zeros(150, int), np.ones(150)
    found = measured(COUNT, count, np.log(expected)[:, None], fold, np.ones(150, bool), count, area)
    assert found["deviance"] == pytest.approx(metrics.mean_poisson_deviance(count, expected))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(count, expected))
    assert found["spearman"] == pytest.approx(stats.spearmanr(count, expected).statistic)
    assert found["hit_rate_5"] == pytest.approx(hit_rate(count, expected, area, 5))


def test_events_where_none_can_be_are_no_finite_deviance() -> None:
    assert deviance(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0
    assert math.isinf(deviance(np.array([1.0]), np.array([0.0])))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_values_agree_with_scikit_learn(seed: int) -> None:
    chance = np.random.default_rng(seed)
    value = chance.normal(40, 9, 150).round()
    predicted = value + chance.normal(0, 5, 150)
    sides = (np.zeros(150, int), np.ones(150, bool))
    found = measured(VALUE, value, predicted[:, None], *sides, np.zeros(150), np.ones(150))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(value, predicted))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(value, predicted))
    assert found["r2"] == pytest.approx(metrics.r2_score(value, predicted))
    assert found["spearman"] == pytest.approx(stats.spearmanr(value, predicted).statistic)
    assert "hit_rate_5" not in found
    eventful = measured(VALUE, value, predicted[:, None], *sides, value.clip(0), np.ones(150))
    assert eventful["hit_rate_5"] == pytest.approx(hit_rate(value.clip(0), predicted, np.ones(150), 5))


def test_what_was_called_impossible_costs_much_and_not_everything() -> None:
    assert 700 < log_loss(np.array([0.0]), np.array([[0.0, 1.0]])) < 750
    assert math.isnan(spearman(np.ones(3), np.arange(3.0)))


def test_the_table_shows_intervals_and_ceilings_on_100_columns() -> None:
    outcomes, found = judged(Task(), 2000)
    of = measures_of(outcomes, found.outputs["fused"], found.fold) | {
        "ceiling_auroc": 0.912,
        "ceiling_auroc_fold_mean": 0.905,
    }
    # `logistic` is that of classes
    names = (*NETWORKS, *(name for name in BASELINES if not name.startswith("regression")))
    splits = {"temporal": names, "spatial": names, "random": ("fused",)}
    metrics = {split: dict.fromkeys(reversed(names), of) for split, names in splits.items()}
    intervals = {"spatial": {"fused": {"auroc": (0.8012, 0.9949), "brier": (0.1, 0.2)}}}
    table = metrics_table(metrics, intervals)
    assert max(len(line) for line in table.lines()) <= 100
    assert table.header[2:6] == ("tiles", "AUROC", "95 %", "in folds")
    assert table.rows[1][:5] == ("spatial", "fused", "2,000", f"{of['auroc']:.3f}", ".801-.995")
    assert table.rows[0][4] == ""
    order = [*names, "ceiling"]
    assert [row[:2] for row in table.rows] == [
        *(("spatial", name) for name in order),
        *(("random", name) for name in ("fused", "ceiling")),
        *(("next period", name) for name in order),
    ]
    assert table.rows[len(order) - 1] == ("spatial", "ceiling", "", "0.912", "", "0.905", *[""] * 4)
    assert metrics_table(metrics).header[2:5] == ("tiles", "AUROC", "in folds")


@pytest.mark.parametrize("task", TASKS[1:], ids=lambda task: f"{task.kind}{task.outputs}")
def test_the_table_of_every_task_is_narrow(task: Task) -> None:
    outcomes, found = judged(task, 2000)
    of = measures_of(outcomes, found.outputs["fused"], found.fold)
    first = {"class": "auroc", "count": "deviance", "value": "rmse"}[task.kind]
    split = "spatial" if task.kind == "class" else "temporal"
    table = metrics_table(
        {split: {"boosting_with_image": of}}, {split: {"boosting_with_image": {first: (0.5, 0.6)}}}
    )
    assert max(len(line) for line in table.lines()) <= 100
    assert table.rows[0][table.header.index("95 %")] == ".500-.600"
