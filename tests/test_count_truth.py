"""Counts in made-up metros, whose truth is known: 20 of them.

Crashes there have a cause that lasts and stands in no table (worn markings), and one that passes with the year.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from roadrisk.dataset import Dataset
from roadrisk.grid import FloatArray
from roadrisk.learning.baselines.negative_binomial import fitted
from roadrisk.learning.folds import spatial_folds
from roadrisk.learning.judging.dispersion import fitted_dispersion
from roadrisk.learning.judging.empirical_bayes import (
    Bounds,
    adjusted,
    count_interval,
    gamma_interval,
    lasting_share,
)
from roadrisk.learning.judging.measures import deviance
from roadrisk.sources.demo import crash_table
from roadrisk.sources.demo_city import (
    DISPERSION,
    HIGHWAY,
    SQUARE_M,
    CityPlan,
    city_plan,
    expected_crashes,
)

SIDE, FOLDS, LEVEL, WITHIN = 28, 5, 0.9, 0.05
SEEDS = range(20)
PICTURE_NOISE = 0.35  # how well a picture tells worn markings: nine of ten
NOTHING = 0.05  # a count of nothing as an expected count, which a deviance needs
KINDS = ("facts", "facts and picture")


@dataclass(frozen=True, eq=False)
class Judged:
    """One metro, judged out of fold: what is true and what is said of N tiles.

    Parameters
    ----------
    true : crashes a year in the long run, as in `truth.parquet`.
    of_year : expected in the year counted.
    mean, k : out of fold.
    lasting : share of k, from the year before.
    """

    true: FloatArray
    of_year: FloatArray
    count: FloatArray
    later: FloatArray
    mean: FloatArray
    k: FloatArray
    lasting: float


def facts_of(plan: CityPlan) -> FloatArray:
    """(N, classes) metres of street by class, as `tile` measures them."""
    rows, cols = plan.shape
    north = plan.street_y[:, None] - np.arange(rows)[:, None] * SQUARE_M + np.zeros((1, cols))
    west = plan.street_x[None] - np.arange(cols)[None] * SQUARE_M + np.zeros((rows, 1))
    metres = np.zeros((rows, cols, len(HIGHWAY)))
    for classes, length in (
        (plan.class_x[:-1], north),
        (plan.class_x[1:], SQUARE_M - north),
        (plan.class_y[:, :-1], west),
        (plan.class_y[:, 1:], SQUARE_M - west),
    ):
        metres += (classes[..., None] == np.arange(len(HIGHWAY))) * length[..., None]
    return metres.reshape(rows * cols, -1)


def year_of(true: FloatArray, chance: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """What is expected in a year, and its counts: `drawn_crashes`, in its two steps."""
    expected = true * chance.gamma(1 / DISPERSION, DISPERSION, true.shape)
    return expected, chance.poisson(expected).astype(float)


@cache
def judged(kind: str, seed: int) -> Judged:
    plan = city_plan(seed, SIDE, SIDE)
    chance = np.random.default_rng([seed, 9])
    metres = facts_of(plan)
    eligible = metres.sum(axis=1) > 0
    true = expected_crashes(plan).ravel()[eligible]
    x = np.log1p(metres[eligible])
    if kind == "facts and picture":
        worn = plan.worn.ravel()[eligible]
        x = np.column_stack([x, worn + chance.normal(0, PICTURE_NOISE, len(worn))])
    _, past = year_of(true, chance)
    of_year, count = year_of(true, chance)
    _, later = year_of(true, chance)
    row, col = np.divmod(np.flatnonzero(eligible), SIDE)
    high = (count > np.quantile(count, 0.8, method="lower")).astype(float)
    folds = spatial_folds(row, col, high, FOLDS, seed)
    mean = np.empty(len(true))
    for fold in range(FOLDS):
        train, test = folds.train_rows(fold), folds.test_rows(fold)
        scaled = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
        found = fitted(scaled[train], count[train], np.zeros(len(train)), 1.0)
        mean[test] = np.exp(found.log_mean(scaled[test]))
    k = fitted_dispersion(count, mean, metres[eligible].sum(axis=1)).of(mean, metres[eligible].sum(axis=1))
    return Judged(true, of_year, count, later, mean, k, lasting_share(count, mean, k, past))


def covered(bounds: Bounds, value: FloatArray) -> float:
    return float(((value >= bounds.low) & (value <= bounds.high)).mean())


def mae(said: FloatArray, true: FloatArray) -> float:
    return float(np.abs(said - true).mean())


def test_the_facts_are_those_of_a_dataset(dataset: Dataset) -> None:
    frame = pd.read_parquet(dataset.path / "tiles.parquet")
    theirs = np.column_stack([frame[f"road_m_{name}"].fillna(0.0) for name in HIGHWAY])
    np.testing.assert_allclose(facts_of(city_plan(7, 16, 16)), theirs, atol=0.1)
    plan = city_plan(7, 16, 16)
    found = crash_table(plan).dropna(subset=["lon"])
    assert len(found) / 2 == pytest.approx(expected_crashes(plan).sum(), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_of_the_expected_count_cover_the_truth(kind: str) -> None:
    shares = []
    for seed in SEEDS:
        one = judged(kind, seed)
        shares.append(
            (
                covered(
                    gamma_interval(one.count, one.mean, one.k, level=LEVEL, lasting=one.lasting), one.true
                ),
                covered(gamma_interval(one.count, one.mean, one.k, level=LEVEL), one.of_year),
                covered(gamma_interval(one.count, one.mean, one.k, level=LEVEL), one.true),
                covered(
                    count_interval(one.mean, one.k, one.count, level=LEVEL, lasting=one.lasting), one.later
                ),
                covered(count_interval(one.mean, one.k, level=LEVEL), one.later),
            )
        )
    long_run, of_year, all_stays, later, never_counted = np.mean(shares, axis=0)
    print(kind, "mean, least and most:", *(f(shares, axis=0).round(3) for f in (np.mean, np.min, np.max)))
    assert long_run == pytest.approx(LEVEL, abs=WITHIN)
    assert of_year == pytest.approx(LEVEL, abs=WITHIN)
    # one year's count says less of the long run than of that year
    assert all_stays < long_run
    # counts are whole, so that no less than nine of ten are covered
    assert LEVEL - 0.01 < later < LEVEL + WITHIN
    assert LEVEL - 0.01 < never_counted < LEVEL + WITHIN + 0.01


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_empirical_bayes_beats_counts_and_means_on_the_next_window(kind: str) -> None:
    losses, errors = [], []
    for seed in SEEDS:
        one = judged(kind, seed)
        said = (
            adjusted(one.count, one.mean, one.k, lasting=one.lasting).expected,
            adjusted(one.count, one.mean, one.k).expected,
            one.mean,
            np.maximum(one.count, NOTHING),
        )
        losses.append([deviance(one.later, expected) for expected in said])
        errors.append([mae(expected, one.true) for expected in said])
    for what, scores in (("deviance", np.array(losses)), ("mae of the truth", np.array(errors))):
        print(kind, what, "of EB, EB of one year alone, mean, count:", scores.mean(axis=0).round(3))
        two_years, one_year, mean, count = scores.T
        assert (two_years < np.minimum(mean, count)).all()
        assert (one_year < np.minimum(mean, count)).all()
        assert two_years.mean() < one_year.mean()


@pytest.mark.slow
def test_means_that_saw_the_counts_make_k_far_too_small() -> None:
    for seed in SEEDS[:4]:
        one, plan = judged("facts", seed), city_plan(seed, SIDE, SIDE)
        metres = facts_of(plan)
        row, col = np.divmod(np.arange(SIDE * SIDE), SIDE)
        x = np.column_stack([metres, row, col])[metres.sum(axis=1) > 0]
        # trees tell every tile by its place
        trees = HistGradientBoostingRegressor(loss="poisson", max_iter=300, min_samples_leaf=5)
        seen = trees.fit(x, one.count).predict(x)
        k = fitted_dispersion(one.count, seen).of(seen)
        assert one.k.mean() > 0.4
        assert k.mean() < 0.05
        assert covered(gamma_interval(one.count, seen, k), one.true) < 0.5
        in_sample = adjusted(one.count, seen, k).expected
        honest = adjusted(one.count, one.mean, one.k).expected
        assert mae(in_sample, one.true) > 1.05 * mae(honest, one.true)
