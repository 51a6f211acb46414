"""The range of what facts do not explain: against all orders, planted ranges, and what must not matter."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_examples import made_up
from scipy.ndimage import uniform_filter
from scipy.stats import norm

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.learning import correlogram
from roadrisk.learning.correlogram import residual_range, unexplained
from roadrisk.learning.examples import Examples

SIDE = 48


def square(side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    row, col = np.divmod(np.arange(side * side), side)
    return row, col


def field(width: int, seed: int, side: int = SIDE) -> np.ndarray:
    """Gaussian means over squares of white noise: not alike at all from `width` tiles on, along an axis."""
    chance = np.random.default_rng(seed)
    means = uniform_filter(chance.normal(size=(side, side)), width, mode="wrap")
    return np.asarray((means / means.std() + chance.normal(size=(side, side))).ravel())


def test_the_limit_is_that_of_all_orders() -> None:
    """Mean and variance of I over all 720 orders of six values, by counting."""
    values = np.array([3.0, -1.0, 0.5, 7.0, -2.0, 0.0])
    values -= values.mean()
    pairs = correlogram._Pairs(np.array([0, 0, 1, 2, 3]), np.array([1, 2, 3, 4, 5]), np.ones(5))
    weights = np.zeros((6, 6))
    weights[pairs.first, pairs.second] = weights[pairs.second, pairs.first] = 1

    def moran(z: np.ndarray) -> float:
        return float(len(z) / weights.sum() * (z @ weights @ z) / (z @ z))

    assert correlogram._moran(values, pairs) == pytest.approx(moran(values))
    all_orders = [moran(values[list(order)]) for order in permutations(range(6))]
    limit = np.mean(all_orders) + norm.ppf(0.95) * np.std(all_orders)
    assert correlogram._chance_limit(values, pairs) == pytest.approx(limit)


def test_points_are_morans_i_of_each_class() -> None:
    row, col = square(15)
    values = np.random.default_rng(0).gamma(1.0, size=len(row))
    found = residual_range(row, col, values, cell_m=10.0)
    apart = np.hypot(row[:, None] - row, col[:, None] - col)
    z = values - values.mean()
    near = 0.0
    for distance_m, said in found.points:
        # classes are whole steps wide; the first that is wide enough for 5 pairs a tile
        far = next(
            f
            for f in np.arange(near + 1.5 if near == 0 else near + 1, 99)
            if _pairs(apart, near, f) >= 5 * 225
        )
        inside = (apart > near) & (apart <= far)
        assert said == pytest.approx(len(z) / inside.sum() * (z @ inside @ z) / (z @ z))
        assert distance_m == pytest.approx(10 * apart[inside].mean())
        near = far
    assert found.sampled == 225


def _pairs(apart: np.ndarray, near: float, far: float) -> float:
    return float(((apart > near) & (apart <= far)).sum()) / 2


@pytest.mark.parametrize("width", [3, 6, 9])
def test_a_planted_range_is_found(width: int) -> None:
    row, col = square()
    found = [residual_range(row, col, field(width, seed), 100.0, seed).range_m / 100 for seed in range(7)]
    assert width - 1 <= np.median(found) <= 1.5 * width


def test_of_white_noise_one_in_twenty_has_a_range() -> None:
    row, col = square(20)
    chance = np.random.default_rng(0)
    found = np.array(
        [residual_range(row, col, 1.0 * (chance.random(400) < 0.2), 1.0).range_m for _ in range(300)]
    )
    assert 0.02 < (found > 0).mean() < 0.09
    assert found.max() < 6


def test_the_subsample_is_of_two_thousand_tiles() -> None:
    row, col = square()
    values = field(5, 0)
    first, again, other = (residual_range(row, col, values, 100.0, seed) for seed in (1, 1, 2))
    assert first.sampled == 2000
    assert first == again
    assert first.points != other.points


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1000))
def test_no_order_of_rows_matters(seed: int) -> None:
    row, col = square()
    values = field(4, seed)
    shuffled = np.random.default_rng(seed).permutation(len(row))
    assert residual_range(row, col, values, 250.0) == residual_range(
        row[shuffled], col[shuffled], values[shuffled], 250.0
    )
    assert residual_range(row - 17, col + 4001, values, 250.0) == residual_range(row, col, values, 250.0)


def test_metros_are_not_pairs() -> None:
    row, col = square(20)
    values = field(4, 0, 20)
    two = residual_range(np.r_[row, row + 2**30], np.r_[col, col], np.r_[values, values], 1.0)
    one = residual_range(row, col, values, 1.0)
    assert two.sampled == 800
    assert max(distance for distance, _ in two.points) < 20
    assert two.points[0] == pytest.approx(one.points[0])


def test_nothing_left_to_be_alike_has_no_range() -> None:
    row, col = square(8)
    assert residual_range(row, col, np.full(64, 0.3), 250.0) == correlogram.Correlogram(0.0, (), 64)
    far = residual_range(np.arange(30) * 1000, np.zeros(30, np.int64), np.arange(30.0), 250.0)
    assert (far.range_m, far.points) == (0.0, ())
    assert residual_range(row[:2], col[:2], np.arange(2.0), 250.0).range_m == 0


def region(seed: int, side: int = 40) -> tuple[Examples, np.ndarray]:
    """Tiles whose risk follows one smooth fact, which they know, and one that is the same everywhere."""
    row, col = square(side)
    chance = np.random.default_rng(seed)
    # means of noise, without more of it
    smooth = uniform_filter(chance.normal(size=(side, side)), 7, mode="wrap").ravel()
    smooth /= smooth.std()
    high = (chance.random(len(row)) < 1 / (1 + np.exp(1.5 - 2 * smooth))).astype(float)
    columns = (
        Column("speed", "float64", "km/h", "feature", "mean", "Speed limit.", by=("road_m",)),
        Column("other", "float64", "", "feature", "none", "Chance."),
    )
    made = made_up()
    rows = np.zeros(len(row), np.int64)
    facts = np.stack([np.exp(smooth), chance.normal(size=len(row))], axis=1)
    return (
        replace(
            made.taken(rows),
            key=np.array([f"{r}/{c}" for r, c in zip(row, col, strict=True)], dtype=object),
            facts=facts,
            columns=columns,
            label=np.full(len(row), np.nan),
            row=row,
            col=col,
        ),
        high,
    )


def test_only_what_facts_do_not_explain_makes_blocks_wide() -> None:
    row, col = square(40)
    known, unknown = [], []
    for seed in range(6):
        examples, high = region(seed)
        known.append(residual_range(row, col, unexplained(examples, high), 1.0).range_m)
        without = replace(examples, facts=examples.facts[:, 1:], columns=examples.columns[1:])
        unknown.append(residual_range(row, col, unexplained(without, high), 1.0).range_m)
    assert np.median(known) == 0
    assert np.median(unknown) >= 5


def test_residuals_are_of_tiles_that_the_regression_did_not_see() -> None:
    examples, high = region(0)
    residual = unexplained(examples, high)
    assert ((residual > 0) == (high == 1)).all()
    assert abs(residual.mean()) < 0.02
    assert residual.var() < 0.8 * high.var()
    # a fact that is chance alone, a column for each tile, explains nothing of other tiles
    chance = np.random.default_rng(0).normal(size=(len(examples), 400))
    columns = tuple(Column(f"c{i}", "float64", "", "feature", "none", "Chance.") for i in range(400))
    unseen = unexplained(replace(examples, facts=chance, columns=columns), high)
    assert unseen.var() > high.var()


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_no_order_of_rows_or_columns_matters_to_residuals(seed: int) -> None:
    examples, high = region(0, 15)
    chance = np.random.default_rng(seed)
    rows, columns = chance.permutation(len(examples)), chance.permutation(2)
    turned = replace(
        examples, facts=examples.facts[:, columns], columns=tuple(examples.columns[i] for i in columns)
    ).taken(rows)
    assert np.array_equal(unexplained(turned, high[rows]), unexplained(examples, high)[rows])


def test_without_facts_the_residual_is_the_label_less_its_share() -> None:
    examples, high = region(0, 15)
    none = replace(examples, facts=np.empty((225, 0)), columns=())
    residual = unexplained(none, high)
    assert len(np.unique(residual.round(12))) <= 4  # two labels, two halves
    assert residual == pytest.approx(high - high.mean(), abs=0.02)


def test_one_tile_of_high_risk_is_too_few() -> None:
    examples, _ = region(0, 15)
    with pytest.raises(ModelError, match=r"^1 positive of 225 tiles are too few: each of 2 folds needs one"):
        unexplained(examples, np.eye(225)[3])
