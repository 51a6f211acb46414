"""Errors by income and by minority share."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.columns import Column
from roadrisk.learning.judging.fairness import Quintile, flagged_shares, quintiles, social_amounts


def area(name: str, combine: str, source: str = "tracts") -> Column:
    return Column(name, "float64", "", "feature", combine, "", source)  # type: ignore[arg-type]


def test_fifths_by_hand() -> None:
    income = np.array([10.0, 20, 30, 40, 50, 60, 70, 80, 90, 100, np.nan])
    observed = np.array([1.0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1])
    predicted = np.array([0.9, 0.8, 0.1, 0.2, 0.1, 0.3, 0.4, 0.1, 0.1, 0.1, 0.7])
    found = quintiles("income", income, observed, predicted, None, 0)
    assert [(one.number, one.low, one.high, one.n) for one in found] == [
        (1, 10, 20, 2),
        (2, 30, 40, 2),
        (3, 50, 60, 2),
        (4, 70, 80, 2),
        (5, 90, 100, 2),
    ]
    assert [one.ratio for one in found] == pytest.approx([2 / 1.7, 0, 1 / 0.4, 0, 1 / 0.2])
    # the riskiest fifth of eleven tiles is 2.2 of them: 0.9, 0.8 and a fifth of 0.7, whose income is unknown
    assert [one.flagged for one in found] == pytest.approx([1, 0, 0, 0, 0])
    assert str(found[0]) == (
        "income, fifth 1 (10 to 20, 2 tiles): observed / predicted 1.18, 100.0 % flagged"
    )


def test_a_fifth_where_nothing_was_predicted_has_no_ratio() -> None:
    one = quintiles("income", np.arange(10.0), np.ones(10), np.zeros(10), None, 0)[0]
    assert one.ratio is None
    assert "observed / predicted not known" in str(one)


@given(st.lists(st.integers(0, 4), min_size=5, max_size=60))
def test_flagged_are_a_fifth_and_the_riskiest(risk: list[int]) -> None:
    predicted = np.array(risk, float)
    shares = flagged_shares(predicted)
    assert shares.sum() == pytest.approx(len(risk) / 5)
    assert ((shares >= 0) & (shares <= 1)).all()
    for higher in np.unique(predicted):
        assert len(np.unique(shares[predicted == higher])) == 1
        if (shares[predicted == higher] < 1).any():
            assert not shares[predicted < higher].any()


def test_every_tile_with_an_amount_is_in_one_fifth() -> None:
    chance = np.random.default_rng(0)
    amount = np.round(chance.gamma(2, 1, 500), 1)  # many are the same
    amount[:50] = np.nan
    found = quintiles("income", amount, np.ones(500), chance.random(500), None, 0)
    assert sum(one.n for one in found) == 450
    assert all(before.high < after.low for before, after in itertools.pairwise(found))


def planted(bias: float, seed: int = 0) -> tuple[Quintile, ...]:
    """40 blocks of 25 tiles, the poor two fifths of which are riskier than is said by a factor."""
    chance = np.random.default_rng(seed)
    block = np.repeat(np.arange(40), 25)
    income = chance.permutation(np.arange(1000.0))
    risk = chance.uniform(0.1, 0.4, 1000)
    truth = np.where(income < 400, risk * bias, risk)
    return quintiles("income", income, (chance.random(1000) < truth).astype(float), risk, block, seed)


def test_a_planted_bias_is_seen_and_none_is_not() -> None:
    biased = planted(2.0)
    assert [one.ratio_low is not None and one.ratio_low > 1.2 for one in biased] == [True, True] + [False] * 3
    inside = [
        one.ratio_low <= 1 <= one.ratio_high
        for seed in range(20)
        for one in planted(1.0, seed)
        if one.ratio_low is not None and one.ratio_high is not None
    ]
    assert len(inside) == 100
    assert 0.88 <= np.mean(inside) <= 1


def test_no_interval_below_20_blocks() -> None:
    chance = np.random.default_rng(0)
    found = quintiles("income", chance.random(100), np.ones(100), np.ones(100), np.arange(100) % 19, 0)
    assert [(one.ratio, one.ratio_low, one.ratio_high) for one in found] == [(1.0, None, None)] * 5


def test_rows_in_another_order_have_the_same_fifths() -> None:
    chance = np.random.default_rng(0)
    amount, observed, predicted = chance.random((3, 200))
    block, order = np.arange(200) % 30, chance.permutation(200)
    before = quintiles("income", amount, observed, predicted, block, 0)
    after = quintiles("income", amount[order], observed[order], predicted[order], block[order], 0)
    assert [one.ratio for one in after] == [one.ratio for one in before]
    assert [one.flagged for one in after] == [one.flagged for one in before]
    assert [one.ratio_low for one in after] == pytest.approx([one.ratio_low for one in before])


def test_income_and_minorities_are_found_by_name() -> None:
    columns = [
        area("tracts_population2012", "sum"),
        area("tracts_nonwhite2012", "sum"),
        area("tracts_white2012", "sum"),
        area("other_population", "sum", "other"),
        area("tracts_income2012", "mean"),
        area("tracts_income2012_km2", "sum"),
    ]
    frame = pd.DataFrame({c.name: [1.0, 1.0, 1.0] for c in columns}).assign(
        tracts_population2012=[100.0, 0.0, np.nan],
        tracts_white2012=[75.0, 0.0, 1.0],
        tracts_income2012=[40_000.0, 0.0, np.nan],
    )
    found, said = social_amounts(frame, columns)
    np.testing.assert_array_equal(found["income"], [40_000, np.nan, np.nan])
    np.testing.assert_array_equal(found["minority share"], [0.25, np.nan, np.nan])
    assert said == (
        "income is tracts_income2012",
        "minority share is 1 - tracts_white2012 / tracts_population2012",
    )


def test_what_is_not_there_is_said() -> None:
    columns = [area("tracts_white", "sum"), area("other_population", "sum", "other")]
    found, said = social_amounts(pd.DataFrame({c.name: [1.0] for c in columns}), columns)
    assert found == {}
    assert said == (
        "no facts of areas hold a mean income, so errors by income are not known",
        "no facts of areas hold sums of white people and of all, so errors by minority share are not known",
    )
