"""Measures against scikit-learn and examples worked by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from roadrisk.learning.judging.measures import (
    auprc,
    auroc,
    auroc_fold_mean,
    brier,
    deviance,
    ece,
    hit_rate,
    log_loss,
    measures,
    pai,
    pei,
    spearman,
)
from roadrisk.learning.tasks import Task, probabilities, probability

THREE = Task("class", "cross-entropy", ("low", "medium", "high"))
COUNT = Task("count", "poisson", ())
VALUE = Task("value", "mse", ())


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
        first = measures(task, wanted, outputs, fold, has_image, events, area)
        again = (wanted[order], outputs[order], fold[order], has_image[order], events[order], area[order])
        assert first == pytest.approx(measures(task, *again))


def test_measures_are_plain_json_even_where_not_defined() -> None:
    for task in (Task(), THREE, COUNT, VALUE):
        outputs, none = np.zeros((3, task.outputs)), np.zeros(3)
        found = measures(task, none, outputs, np.zeros(3, int), np.ones(3, bool), none, np.ones(3))
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
    found = measures(THREE, label, outputs, fold, np.ones(150, bool), events, area)
    chances = probabilities(THREE, outputs)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(label, outputs.argmax(axis=1)))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(label, chances, labels=[0, 1, 2]))
    assert found["auroc"] == pytest.approx(roc_auc_score(label == 2, chances[:, 2]))
    assert found["hit_rate_10"] == hit_rate(events, chances[:, 2], area, 10)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_counts_agree_with_scikit_learn_and_scipy(seed: int) -> None:
    chance = np.random.default_rng(seed)
    expected = chance.lognormal(0, 1, 150).round(1) + 0.1
    count = chance.poisson(expected).astype(float)
    fold, area = np.zeros(150, int), np.ones(150)
    found = measures(COUNT, count, np.log(expected)[:, None], fold, np.ones(150, bool), count, area)
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
    found = measures(VALUE, value, predicted[:, None], *sides, np.zeros(150), np.ones(150))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(value, predicted))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(value, predicted))
    assert found["r2"] == pytest.approx(metrics.r2_score(value, predicted))
    assert found["spearman"] == pytest.approx(stats.spearmanr(value, predicted).statistic)
    assert "hit_rate_5" not in found
    eventful = measures(VALUE, value, predicted[:, None], *sides, value.clip(0), np.ones(150))
    assert eventful["hit_rate_5"] == pytest.approx(hit_rate(value.clip(0), predicted, np.ones(150), 5))


def test_what_was_called_impossible_costs_much_and_not_everything() -> None:
    assert 700 < log_loss(np.array([0.0]), np.array([[0.0, 1.0]])) < 750
    assert math.isnan(spearman(np.ones(3), np.arange(3.0)))
