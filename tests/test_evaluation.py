"""Measures against scikit-learn and examples worked by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from roadrisk.learning.evaluation import (
    auprc,
    auroc,
    auroc_fold_mean,
    brier,
    ece,
    hit_rate,
    measures,
    pai,
    pei,
    probability,
)


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
    first = measures(label, score, fold, has_image, events, area)
    second = measures(label[order], score[order], fold[order], has_image[order], events[order], area[order])
    assert first == pytest.approx(second)


def test_measures_are_plain_json_even_where_not_defined() -> None:
    found = measures(np.zeros(3), np.zeros(3), np.zeros(3, int), np.ones(3, bool), np.zeros(3), np.ones(3))
    assert found["n"] == found["n_with_image"] == 3
    assert found["auroc"] is found["pei_5"] is None
    json.dumps(found, allow_nan=False)


def test_probability_is_the_sigmoid() -> None:
    logit = np.linspace(-30, 30, 61)
    np.testing.assert_allclose(probability(logit), 1 / (1 + np.exp(-logit)), rtol=1e-12)
    with np.errstate(over="raise", invalid="raise"):
        assert probability(np.array([-1e4, 1e4])).tolist() == [0, 1]
