"""The ceiling: what the truth itself would score, found from counts, means and k alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from roadrisk.learning.judging.ceiling import ceiling_auroc
from roadrisk.learning.judging.dispersion import fitted_dispersion
from roadrisk.learning.judging.empirical_bayes import adjusted
from roadrisk.learning.judging.measures import auroc

N = 3000
# how unlike each other the means are, k, the level, and the threshold
CITIES = [(1.2, 0.6, 0.8, 1), (1.2, 0.6, 0.8, 3), (0.3, 0.6, 1.5, 1), (0.8, 1.0, 0.15, 1), (0.5, 2.0, 1.0, 2)]


def city(spread: float, k: float, level: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) what a model says, a fifth off as models are; what is true; counts."""
    chance = np.random.default_rng(seed)
    mean = level * np.exp(chance.normal(0, spread, N))
    true = mean * chance.gamma(1 / k, k, N)
    return mean * np.exp(chance.normal(0, 0.2, N)), true, chance.poisson(true).astype(float)


def oracle_auroc(true: np.ndarray, threshold: float) -> float:
    """What the truth scores on counts of years to come."""
    chance = np.random.default_rng(99)
    return float(np.mean([roc_auc_score(chance.poisson(true) >= threshold, true) for _ in range(50)]))


@pytest.mark.parametrize(("spread", "k", "level", "threshold"), CITIES)
def test_it_is_what_the_truth_scores(spread: float, k: float, level: float, threshold: int) -> None:
    found, oracle = [], []
    for seed in range(3):
        mean, true, count = city(spread, k, level, seed)
        found.append(ceiling_auroc(count, mean, fitted_dispersion(count, mean).of(mean), threshold, seed, 50))
        oracle.append(oracle_auroc(true, threshold))
    assert np.mean(found) == pytest.approx(np.mean(oracle), abs=0.015)


@pytest.mark.parametrize(("spread", "k", "level", "threshold"), CITIES)
def test_means_of_posteriors_would_make_too_low_a_ceiling(
    spread: float, k: float, level: float, threshold: int
) -> None:
    mean, true, count = city(spread, k, level)
    best = adjusted(count, mean, fitted_dispersion(count, mean).of(mean)).expected
    assert oracle_auroc(best, threshold) < oracle_auroc(true, threshold) - 0.005


def test_no_model_is_above_it() -> None:
    mean, true, count = city(1.2, 0.6, 0.8)
    ceiling = ceiling_auroc(count, mean, 0.6, 1, 0)
    assert auroc((count >= 1).astype(float), mean) < ceiling
    assert auroc((np.random.default_rng(5).poisson(true) >= 1).astype(float), mean) < ceiling < 1


def test_of_what_passes_with_the_period_nobody_knows_before() -> None:
    chance = np.random.default_rng(0)
    mean = np.exp(chance.normal(0, 0.5, N))
    true = mean * chance.gamma(5.0, 0.2, N)  # k of 0.2 stays, and 0.5 passes
    k = 1.2 * 1.5 - 1
    years = [chance.poisson(true * chance.gamma(2.0, 0.5, N)) for _ in range(30)]
    oracle = np.mean([roc_auc_score(year >= 2, true) for year in years])
    count = years[0].astype(float)
    assert ceiling_auroc(count, mean, k, 2, 0, 50, lasting=0.2 / k) == pytest.approx(oracle, abs=0.015)
    assert ceiling_auroc(count, mean, k, 2, 0, 50) > oracle + 0.05


def test_without_dispersion_it_is_that_of_the_means() -> None:
    mean = np.repeat([0.5, 2.0, 4.0], 1000)
    count = np.random.default_rng(0).poisson(mean).astype(float)
    chances = np.repeat(1 - np.exp(-np.array([0.5, 2.0, 4.0])), 1000)
    first, second = np.meshgrid(np.arange(3), np.arange(3), indexing="ij")
    some, none = chances[::1000][first], 1 - chances[::1000][second]
    exact = ((first > second) + 0.5 * (first == second)) * some * none
    assert ceiling_auroc(count, mean, 0.0, 1, 0) == pytest.approx(
        exact.sum() / (some * none).sum(), abs=0.005
    )


def test_the_same_seed_is_the_same_and_the_order_of_rows_is_nothing() -> None:
    mean, _, count = city(0.8, 0.6, 1.0)
    rows = np.random.default_rng(3).permutation(N)
    k = 0.5 / mean
    first = ceiling_auroc(count, mean, k, 1, 7, 5)
    assert first == ceiling_auroc(count[rows], mean[rows], k[rows], 1, 7, 5)
    assert first != ceiling_auroc(count, mean, k, 1, 8, 5)


def test_within_folds_it_is_of_pairs_of_one_fold() -> None:
    """Two metros, one with ten times the crashes: to tell them apart is easy, and worth nothing within one."""
    mean, _, count = city(0.4, 0.6, 1.0)
    fold = np.repeat([0, 1], N // 2)
    mean, count = np.where(fold == 1, 10 * mean, mean), np.where(fold == 1, 10 * count, count)
    of_all, within = (ceiling_auroc(count, mean, 0.6, 3, 0, 20, fold=of) for of in (None, fold))
    alone = ceiling_auroc(count, mean, 0.6, 3, 0, 20, fold=np.zeros(N, np.int64))
    assert alone == of_all > within + 0.01
    rows = np.random.default_rng(3).permutation(N)
    assert ceiling_auroc(count[rows], mean[rows], 0.6, 3, 0, 20, fold=fold[rows]) == within


def test_without_two_classes_there_is_none() -> None:
    assert math.isnan(ceiling_auroc(np.zeros(5), np.zeros(5), 0.5, 1, 0, 5))
    assert math.isnan(ceiling_auroc(np.full(5, 9.0), np.full(5, 9.0), 0.0, 0, 0, 5))
