"""Negative binomial regression and dispersion: as other libraries find them, and where there is little to find."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.stats import nbinom, poisson
from sklearn.linear_model import PoissonRegressor

from roadrisk.errors import ModelError
from roadrisk.learning.baselines.negative_binomial import NegativeBinomial, fitted
from roadrisk.learning.judging.dispersion import (
    Dispersion,
    fitted_dispersion,
    likeliest_k,
    log_likelihood,
)

N, D = 800, 4


def planted(k: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, D) facts, (N,) counts and (N,) log exposure."""
    chance = np.random.default_rng(seed)
    x, offset = chance.normal(size=(N, D)), np.log(chance.gamma(2.0, 1.0, N))
    mean = np.exp(0.5 + x @ np.array([0.6, -0.4, 0.2, 0.0]) + offset)
    return x, chance.poisson(mean * chance.gamma(1 / k, k, N)).astype(float), offset


def narrow(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts that vary less than a Poisson's."""
    x, _, offset = planted(1.0, seed)
    mean = np.exp(0.5 + 0.5 * x[:, 0] + offset)
    return x, np.round(mean), offset


def test_it_agrees_with_statsmodels() -> None:
    statsmodels = pytest.importorskip("statsmodels.api")
    x, count, offset = planted(0.7)
    theirs = statsmodels.NegativeBinomial(count, statsmodels.add_constant(x), offset=offset)
    theirs = theirs.fit(disp=0, method="bfgs", maxiter=1000, gtol=1e-8)
    ours = fitted(x, count, offset, penalty=0.0)
    np.testing.assert_allclose([ours.intercept, *ours.coefficients, ours.k], theirs.params, atol=1e-5)
    ours_likelihood = log_likelihood(count, np.exp(ours.log_mean(x, offset)), ours.k)
    assert ours_likelihood == pytest.approx(theirs.llf, abs=1e-6)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 100.0])
def test_without_dispersion_it_is_a_poisson_regression(penalty: float) -> None:
    x, count, offset = narrow()
    exposure = np.exp(offset)
    # its loss is a mean over exposure
    theirs = PoissonRegressor(alpha=penalty / exposure.sum(), solver="newton-cholesky", tol=1e-10)
    theirs.fit(x, count / exposure, sample_weight=exposure)
    ours = fitted(x, count, offset, penalty)
    assert ours.k == 0.0
    np.testing.assert_allclose(
        [ours.intercept, *ours.coefficients], [theirs.intercept_, *theirs.coef_], atol=1e-6
    )


@pytest.mark.parametrize("k", [0.01, 0.5, 3.0])
def test_little_dispersion_is_near_a_poisson_and_none_far(k: float) -> None:
    x, count, offset = planted(k)
    found = fitted(x, count, offset, 0.0)
    assert found.k == pytest.approx(k, rel=0.15, abs=0.02)


@pytest.mark.parametrize("penalty", [0.0, 30.0])
def test_no_step_makes_the_counts_likelier(penalty: float) -> None:
    x, count, offset = planted(0.7)
    found = fitted(x, count, offset, penalty)

    def loss(intercept: float, coefficients: np.ndarray, k: float) -> float:
        mean = np.exp(intercept + x @ coefficients + offset)
        told = nbinom.logpmf(count, 1 / k, 1 / (1 + k * mean)).sum()
        return float(-told + penalty * (coefficients**2).sum() / 2)

    least = loss(found.intercept, found.coefficients, found.k)
    for step in (-0.01, 0.01):
        assert loss(found.intercept + step, found.coefficients, found.k) > least
        for j in range(D):
            moved = found.coefficients + step * (np.arange(D) == j)
            assert loss(found.intercept, moved, found.k) > least
    # k is that of these means without the penalty, which does not know it
    assert loss(found.intercept, found.coefficients, found.k * 1.02) > least
    assert loss(found.intercept, found.coefficients, found.k / 1.02) > least


def test_without_facts_the_mean_is_that_of_all() -> None:
    _, count, _ = planted(0.7)
    found = fitted(np.empty((N, 0)), count, np.zeros(N), 1.0)
    assert np.exp(found.intercept) == pytest.approx(count.mean())
    assert found.k > 0.5


def test_counts_of_nothing_are_as_if_half_an_event() -> None:
    found = fitted(np.eye(3), np.zeros(3), np.log([1.0, 2.0, 2.0]), 1.0)
    assert np.exp(found.log_mean(np.eye(3), np.log([1.0, 2.0, 2.0]))).sum() == pytest.approx(0.5)
    assert found.k == 0.0


def test_a_kind_of_tile_without_events_has_a_small_mean_not_an_endless_one() -> None:
    there = (np.arange(N) % 2.0)[:, None]
    count = np.where(there[:, 0] == 1, planted(1.0)[1], 0.0)
    mean = np.exp(fitted(there, count, np.zeros(N), 0.0).log_mean(np.array([[0.0], [1.0]])))
    assert 0 < mean[0] < 1e-6
    assert mean[1] == pytest.approx(count[there[:, 0] == 1].mean(), rel=1e-4)
    held = np.exp(fitted(there, count, np.zeros(N), 1.0).log_mean(np.array([[0.0], [1.0]])))
    assert 1e-4 < held[0] < 0.1


def test_facts_that_repeat_share_their_coefficient() -> None:
    x, count, offset = planted(0.7)
    once, twice = (fitted(one, count, offset, 0.0) for one in (x, np.hstack([x, x])))
    np.testing.assert_allclose(twice.log_mean(np.hstack([x, x])), once.log_mean(x), atol=1e-6)


def test_a_large_count_among_small_ones_is_borne() -> None:
    x, count, offset = planted(0.7)
    count[0] = 1e6
    found = fitted(x, count, offset, 1.0)
    assert np.isfinite(found.log_mean(x, offset)).all()
    assert found.k > 2


def test_a_tile_without_exposure_expects_nothing() -> None:
    found = NegativeBinomial(0.3, np.array([0.1]), 0.5)
    assert found.log_mean(np.array([[2.0]]), np.array([-np.inf])).tolist() == [-np.inf]


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_the_order_of_columns_and_rows_changes_nothing_that_matters(seed: int) -> None:
    x, count, offset = (values[:200] for values in planted(0.7, seed))
    chance = np.random.default_rng(seed)
    rows, columns = chance.permutation(200), chance.permutation(D)
    first = fitted(x, count, offset, 1.0)
    second = fitted(x[rows][:, columns], count[rows], offset[rows], 1.0)
    np.testing.assert_allclose(first.coefficients[columns], second.coefficients, atol=1e-5)
    assert first.k == pytest.approx(second.k, rel=1e-3)


def test_likelihoods_are_those_of_scipy() -> None:
    count, mean = np.array([0.0, 1.0, 3.0, 40.0]), np.array([0.2, 0.0001, 5.0, 30.0])
    for k in (1e-6, 1e-3, 0.5, 20.0):
        theirs = nbinom.logpmf(count, 1 / k, 1 / (1 + k * mean)).sum()
        assert log_likelihood(count, mean, k) == pytest.approx(theirs, rel=1e-6)
    assert log_likelihood(count, mean, 0.0) == pytest.approx(poisson.logpmf(count, mean).sum())
    mixed = np.array([0.0, 0.5, 0.0, 2.0])
    each = [log_likelihood(count[i : i + 1], mean[i : i + 1], mixed[i : i + 1]) for i in range(4)]
    assert log_likelihood(count, mean, mixed) == pytest.approx(sum(each))


@pytest.mark.parametrize(("form", "k"), [("k", 0.6), ("k/length", 0.3), ("k/mu", 1.5)])
def test_the_form_of_dispersion_is_found(form: str, k: float) -> None:
    chance = np.random.default_rng(3)
    length_m = chance.uniform(50.0, 3000.0, 6000)
    mean = length_m / 1000 * np.exp(chance.normal(0.5, 0.7, 6000))
    planted_k = Dispersion(form, k).of(mean, length_m)  # type: ignore[arg-type]
    count = chance.poisson(mean * chance.gamma(1 / planted_k, planted_k)).astype(float)
    found = fitted_dispersion(count, mean, length_m)
    assert found.form == form
    assert found.k == pytest.approx(k, rel=0.1)
    assert found.lasting == 1.0


def test_dispersion_is_zero_where_counts_vary_less_than_a_poisson() -> None:
    _, count, _ = narrow()
    assert fitted_dispersion(count, np.full(N, count.mean()), np.full(N, 100.0)).k > 0
    assert fitted_dispersion(count, np.maximum(count, 0.1)) == Dispersion("k", 0.0)
    assert fitted_dispersion(np.zeros(5), np.full(5, 0.3)) == Dispersion("k", 0.0)


def test_lengths_are_compared_only_where_all_are_known() -> None:
    chance = np.random.default_rng(3)
    length_m = chance.uniform(50.0, 3000.0, 3000)
    mean = np.full(3000, 4.0)
    k = Dispersion("k/length", 0.5).of(mean, length_m)
    count = chance.poisson(mean * chance.gamma(1 / k, k)).astype(float)
    assert fitted_dispersion(count, mean, length_m).form == "k/length"
    for odd in (np.nan, 0.0):
        length_m[7] = odd
        assert fitted_dispersion(count, mean, length_m).form == "k"


def test_dispersion_knows_no_order_of_rows() -> None:
    x, count, offset = planted(0.7)
    mean = np.exp(0.5 + x[:, 0] * 0.5 + offset)
    rows = np.random.default_rng(1).permutation(N)
    assert fitted_dispersion(count, mean, mean) == fitted_dispersion(count[rows], mean[rows], mean[rows])
    assert likeliest_k(count, mean) == likeliest_k(count[rows], mean[rows])


def test_k_of_each_tile() -> None:
    mean, length_m = np.array([2.0, 0.0, 2.0, 2.0]), np.array([500.0, 500.0, 0.0, np.nan])
    assert Dispersion("k", 0.5).of(mean).tolist() == [0.5, 0.0, 0.5, 0.5]
    assert Dispersion("k/mu", 0.5).of(mean).tolist() == [0.25, 0.0, 0.25, 0.25]
    np.testing.assert_array_equal(Dispersion("k/length", 0.5).of(mean, length_m), [1.0, 0.0, 500.0, np.nan])


def test_what_cannot_be_expected_is_refused() -> None:
    with pytest.raises(ModelError) as error:
        fitted_dispersion(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    assert str(error.value) == (
        "1 of 2 expected counts cannot be, such as 0 where 2 happened; no dispersion fits them, leave these "
        "tiles out"
    )
    with pytest.raises(ModelError, match="no length of road is known"):
        Dispersion("k/length", 1.0).of([1.0])


def test_dispersion_is_read_strictly() -> None:
    adapter = TypeAdapter(Dispersion)
    known = Dispersion("k/mu", 0.25, 0.75)
    assert adapter.validate_json(adapter.dump_json(known)) == known
    for odd in ({"k": -1.0}, {"k": "1"}, {"form": "k2"}, {"lasting": 1.5}, {"k": None}):
        with pytest.raises(ValidationError):
            adapter.validate_json(json.dumps({"form": "k", "k": 1.0, **odd}))
    with pytest.raises(ValidationError):
        adapter.validate_json('{"k": Infinity}')
