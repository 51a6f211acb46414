"""Empirical Bayes: worked examples, exact posteriors, intervals that cover, and rankings that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gamma, nbinom, poisson

from roadrisk.learning.judging.dispersion import Dispersion, fitted_dispersion
from roadrisk.learning.judging.empirical_bayes import (
    adjusted,
    belief,
    consistency,
    count_interval,
    gamma_interval,
    lasting_share,
    passing_k,
)
from roadrisk.learning.judging.measures import deviance

N = 4000


def planted(
    k: float, seed: int = 0, n: int = N, passing: float = 0.0, periods: int = 2
) -> tuple[np.ndarray, ...]:
    """(n,) what a model expects, what is true, and counts of each period."""
    chance = np.random.default_rng(seed)
    mean = chance.gamma(1.5, 2.0, n) + 0.05
    true = mean * chance.gamma(1 / k, k, n)
    weather = [chance.gamma(1 / passing, passing, n) if passing else 1.0 for _ in range(periods)]
    return mean, true, *(chance.poisson(true * one).astype(float) for one in weather)


def covered(bounds: tuple[np.ndarray, np.ndarray], value: np.ndarray) -> float:
    return float(((value >= bounds[0]) & (value <= bounds[1])).mean())


def test_hauers_road_of_one_year() -> None:
    # Hauer et al. 2002, TRR 1784: 1.8 km, 12 accidents, 4.34 expected, 2.05 a km; 8.48 +- 2.14
    k = Dispersion("k/length", 1 / 2.05).of([4.34], np.array([1800.0]))
    found = adjusted(np.array([12.0]), np.array([4.34]), k)
    np.testing.assert_allclose(found.weight, 0.46, atol=0.001)
    np.testing.assert_allclose(found.expected, 8.48, atol=0.01)
    np.testing.assert_allclose(found.excess, 4.14, atol=0.01)
    known = belief(np.array([12.0]), np.array([4.34]), k)
    np.testing.assert_allclose(np.sqrt(known.expected * known.scale), 2.14, atol=0.01)


def test_hauers_road_of_three_years() -> None:
    # the same road with 12, 7 and 8 accidents: 7.97 +- 1.44 a year
    known = belief(np.array([27.0]), np.array([4.34]), 1 / (2.05 * 1.8), periods=3)
    np.testing.assert_allclose(known.expected, 7.97, atol=0.01)
    np.testing.assert_allclose(np.sqrt(known.expected * known.scale), 1.44, atol=0.01)
    found = adjusted(np.array([27.0]), np.array([4.34]), 1 / (2.05 * 1.8), periods=3)
    np.testing.assert_allclose(found.expected, 3 * known.expected)
    np.testing.assert_allclose(found.excess, found.expected - 3 * 4.34)


@given(
    count=st.integers(0, 500),
    mean=st.floats(0.001, 200),
    k=st.floats(0.001, 20),
    periods=st.floats(0.2, 10),
)
def test_it_is_the_gamma_posterior(count: int, mean: float, k: float, periods: float) -> None:
    one = np.array([float(count)]), np.array([mean]), k, periods
    exact = gamma(1 / k + count, scale=periods / (1 / (k * mean) + periods))  # over all periods
    np.testing.assert_allclose(adjusted(*one).expected, exact.mean(), rtol=1e-9)
    np.testing.assert_allclose(adjusted(*one).weight, 1 / (1 + k * mean * periods))
    low, high = gamma_interval(*one, level=0.8)
    np.testing.assert_allclose([low[0], high[0]], exact.ppf([0.1, 0.9]), rtol=1e-6, atol=1e-12)
    assert low <= adjusted(*one).expected * (1 + 1e-9) or k > 1


def test_the_expected_lies_between_model_and_count() -> None:
    mean, _, count, _ = planted(0.6)
    found = adjusted(count, mean, 0.6)
    assert (found.expected >= np.minimum(count, mean) - 1e-12).all()
    assert (found.expected <= np.maximum(count, mean) + 1e-12).all()
    assert (adjusted(count, mean, 0.0).expected == mean).all()
    np.testing.assert_allclose(adjusted(count, mean, 1e9).expected, count, atol=1e-6)
    assert ((found.excess > 0) == (count > mean)).all()


def test_without_a_count_it_is_what_the_model_says() -> None:
    mean = np.array([0.0, 0.5, 8.0])
    bounds = gamma_interval(np.full(3, np.nan), mean, 0.4)
    np.testing.assert_allclose(bounds.low[1:], gamma(2.5, scale=0.4 * mean[1:]).ppf(0.05))
    np.testing.assert_allclose(bounds.high[1:], gamma(2.5, scale=0.4 * mean[1:]).ppf(0.95))
    assert bounds.low[0] == bounds.high[0] == 0
    assert adjusted(np.full(3, np.nan), mean, 0.4).expected.tolist() == mean.tolist()


def test_without_dispersion_the_expected_is_certain() -> None:
    mean = np.array([0.0, 3.0])
    bounds = gamma_interval(np.array([0.0, 9.0]), mean, 0.0)
    assert bounds.low.tolist() == bounds.high.tolist() == mean.tolist()
    drawn = count_interval(mean, 0.0, np.array([0.0, 9.0]))
    assert drawn.low.tolist() == poisson.ppf(0.05, mean).tolist()
    assert drawn.high.tolist() == poisson.ppf(0.95, mean).tolist()


def test_where_k_is_unknown_nothing_is_said() -> None:
    k, mean = np.array([np.nan, 0.5]), np.array([2.0, 2.0])
    for count in (np.array([1.0, 1.0]), np.array([np.nan, np.nan])):
        for bounds in (gamma_interval(count, mean, k), count_interval(mean, k, count)):
            assert np.isnan(bounds.low).tolist() == np.isnan(bounds.high).tolist() == [True, False]
        assert np.isnan(adjusted(count, mean, k).expected).tolist() == [True, False]


@pytest.mark.parametrize("periods", [1, 3])
def test_the_next_count_is_negative_binomial(periods: int) -> None:
    count, mean, k = np.array([7.0]), np.array([2.0]), 0.5
    low, high = count_interval(mean, k, count, periods)
    rate = 1 / (k * 2.0) + periods
    exact = nbinom(1 / k + 7, rate / (1 + rate))
    assert [low[0], high[0]] == exact.ppf([0.05, 0.95]).tolist()
    prior = count_interval(mean, k)
    assert [prior.low[0], prior.high[0]] == nbinom(2, 1 / (1 + k * 2.0)).ppf([0.05, 0.95]).tolist()


@pytest.mark.parametrize("k", [0.2, 0.6, 2.0])
def test_intervals_cover_what_is_true(k: float) -> None:
    mean, true, count, later = planted(k)
    found = fitted_dispersion(count, mean).of(mean)
    assert covered(gamma_interval(count, mean, found), true) == pytest.approx(0.9, abs=0.02)
    assert covered(gamma_interval(np.full(N, np.nan), mean, found), true) == pytest.approx(0.9, abs=0.02)
    assert covered(gamma_interval(count, mean, found, level=0.5), true) == pytest.approx(0.5, abs=0.03)
    # counts are whole: no less than nine of ten, and not all
    for bounds in (count_interval(mean, found, count), count_interval(mean, found)):
        assert 0.89 < covered(bounds, later) < 0.98


def test_several_periods_tell_more_of_all_of_them() -> None:
    mean, true, *counts = planted(0.6, periods=4)
    total = np.sum(counts, axis=0)
    bounds = gamma_interval(total, mean, 0.6, periods=4)
    assert covered(bounds, 4 * true) == pytest.approx(0.9, abs=0.02)
    once = gamma_interval(counts[0], mean, 0.6)
    assert np.median((bounds.high - bounds.low) / 4) < 0.65 * np.median(once.high - once.low)
    later = np.random.default_rng(9).poisson(true)
    assert 0.89 < covered(count_interval(mean, 0.6, total, periods=4), later) < 0.98


def test_empirical_bayes_beats_its_parts_on_the_next_period() -> None:
    mean, _, count, later = planted(0.6)
    k = fitted_dispersion(count, mean).of(mean)
    found = deviance(later, adjusted(count, mean, k).expected)
    assert found < 0.8 * deviance(later, mean)
    assert found < 0.8 * deviance(later, np.maximum(count, 0.1))


@pytest.mark.parametrize(("stays", "passes"), [(0.5, 0.0), (0.4, 0.1), (0.2, 0.2), (0.0001, 0.5)])
@pytest.mark.parametrize("periods", [1, 3])
def test_what_stays_from_period_to_period_is_told_from_what_passes(
    stays: float, passes: float, periods: int
) -> None:
    mean, _, count, *past = planted(stays, n=20_000, passing=passes, periods=1 + periods)
    k = (1 + stays) * (1 + passes) - 1
    reported = np.random.default_rng(1).binomial(np.sum(past, axis=0).astype(int), 0.7).astype(float)
    share = lasting_share(count, mean, k, reported, periods)
    assert share == pytest.approx(stays / k, abs=0.09)


def test_where_nothing_passes_nearly_all_of_k_stays() -> None:
    for seed in range(3):
        mean, _, count, past = planted(0.5, seed, n=20_000)
        assert lasting_share(count, mean, 0.5, past) > 0.93


def test_of_what_passes_the_next_period_knows_nothing() -> None:
    mean, true, count, past, later = planted(0.3, n=20_000, passing=0.3, periods=3)
    k = fitted_dispersion(count, mean).of(mean)
    share = lasting_share(count, mean, k, past)
    found = covered(gamma_interval(count, mean, k, lasting=share), true)
    assert found == pytest.approx(0.9, abs=0.03)
    assert covered(gamma_interval(count, mean, k), true) < found - 0.03  # as if all of it stayed
    assert 0.89 < covered(count_interval(mean, k, count, lasting=share), later) < 0.98
    told, all_of_it = (deviance(later, adjusted(count, mean, k, lasting=s).expected) for s in (share, 1.0))
    assert told < all_of_it
    assert (adjusted(count, mean, k, lasting=0.0).expected == mean).all()


@pytest.mark.parametrize("lasting", [0.0, 0.3, 1.0])
def test_where_nothing_was_counted_all_of_k_is_in_the_next_count(lasting: float) -> None:
    mean = np.array([0.2, 3.0, 400.0])
    bounds = count_interval(mean, 0.7, lasting=lasting)
    assert bounds.low.tolist() == nbinom(1 / 0.7, 1 / (1 + 0.7 * mean)).ppf(0.05).tolist()
    assert bounds.high.tolist() == nbinom(1 / 0.7, 1 / (1 + 0.7 * mean)).ppf(0.95).tolist()


def test_all_of_k_stays_where_nothing_tells() -> None:
    nothing, some = np.zeros(3), np.ones(3)
    assert lasting_share(nothing, some, 0.5, some) == 1.0
    assert lasting_share(some, some, 0.5, nothing) == 1.0
    assert lasting_share(some, some, 0.0, some) == 1.0
    assert lasting_share(some, some, 0.5, np.full(3, np.nan)) == 1.0


def test_the_share_knows_no_order_of_rows() -> None:
    mean, _, count, past = planted(0.4, n=300, passing=0.2)
    rows = np.random.default_rng(0).permutation(300)
    assert lasting_share(count, mean, 0.6, past) == lasting_share(count[rows], mean[rows], 0.6, past[rows])


@given(k=st.floats(0.0, 50), share=st.floats(0, 1))
def test_what_stays_and_what_passes_make_all(k: float, share: float) -> None:
    np.testing.assert_allclose((1 + share * k) * (1 + passing_k(k, share)), 1 + k)


def test_consistency_of_a_worked_example() -> None:
    # tiles a to e; the two hottest first are a and b, later a and c
    first = np.array([9.0, 7.0, 5.0, 2.0, 1.0])
    later = np.array([8.0, 3.0, 6.0, 4.0, 0.0])
    found = consistency("empirical_bayes", first, later, np.array([10.0, 4.0, 6.0, 1.0, 0.0]), percent=40)
    assert (found.model, found.top_percent, found.tiles) == ("empirical_bayes", 40, 2)
    assert found.events_later == 14.0
    assert found.same_places == 1
    assert found.rank_change == 1.0  # a stays first, b falls from second to fourth


def test_tiles_that_tie_at_the_edge_share_it() -> None:
    first, later = np.array([5.0, 1.0, 1.0, 1.0]), np.array([5.0, 4.0, 3.0, 2.0])
    found = consistency("past_counts", first, later, np.array([8.0, 6.0, 3.0, 0.0]), percent=50)
    assert found.events_later == pytest.approx(8 + (6 + 3 + 0) / 3)
    assert found.same_places == 1  # the first, and a third of the second
    assert found.rank_change == pytest.approx((0 + (1 + 0 + 1) / 3) / 2)  # ties share rank 3
    rows = np.array([2, 0, 3, 1])
    again = consistency("past_counts", first[rows], later[rows], np.array([3.0, 8.0, 0.0, 6.0]), percent=50)
    assert again == found


def test_perfect_agreement_and_the_least_of_places() -> None:
    score = np.arange(50.0)
    found = consistency("facts", score, 2 * score, score, percent=1)
    assert (found.tiles, found.events_later, found.same_places, found.rank_change) == (1, 49.0, 1, 0.0)
