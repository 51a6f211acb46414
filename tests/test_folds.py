"""Folds: what is held out, what is kept apart, and that no order of rows matters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadrisk.errors import ModelError
from roadrisk.learning.folds import Folds, random_folds, spatial_folds


def region(seed: int, side: int = 20, share: float = 0.7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scattered tiles of a square region with an absolute origin, and labels."""
    chance = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(side * side), side)
    there = chance.random(side * side) < share
    row, col = row[there] + 17_003, col[there] - 1_001
    return row, col, (chance.random(len(row)) < 0.25).astype(float)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 5), block=st.integers(1, 4), buffer=st.integers(0, 3))
def test_buffer_by_brute_force(seed: int, count: int, block: int, buffer: int) -> None:
    row, col, label = region(seed)
    try:
        folds = spatial_folds(row, col, label, count, seed, block, buffer)
    except ModelError:
        return  # so wide a buffer around such small blocks may leave nothing to learn from
    for k in range(count):
        test, train = folds.test_rows(k), folds.train_rows(k)
        apart = np.maximum(np.abs(row[:, None] - row[test]), np.abs(col[:, None] - col[test])).min(
            axis=1
        )  # (N,) Chebyshev distance to the nearest test tile
        assert np.array_equal(train, np.flatnonzero(apart > buffer))
    assert sorted(np.concatenate([folds.test_rows(k) for k in range(count)])) == list(range(len(row)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), order=st.randoms(use_true_random=False))
def test_no_order_of_rows_matters(seed: int, order: object) -> None:
    row, col, label = region(seed)
    shuffled = np.arange(len(row))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    key = np.array([f"{r}/{c}" for r, c in zip(row, col, strict=True)], dtype=object)
    spatial = spatial_folds(row, col, label, 4, seed)
    again = spatial_folds(row[shuffled], col[shuffled], label[shuffled], 4, seed)
    assert np.array_equal(spatial.fold[shuffled], again.fold)
    by_chance = random_folds(key, label, 4, seed)
    again = random_folds(key[shuffled], label[shuffled], 4, seed)
    assert np.array_equal(by_chance.fold[shuffled], again.fold)


def test_blocks_stay_whole_and_absolute() -> None:
    row, col, label = region(3)
    folds = spatial_folds(row, col, label, 5, 0, block=4)
    for block in {(r // 4, c // 4) for r, c in zip(row.tolist(), col.tolist(), strict=True)}:
        inside = (row // 4 == block[0]) & (col // 4 == block[1])
        assert len(set(folds.fold[inside].tolist())) == 1


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_balanced(seed: int) -> None:
    row, col, label = region(seed, side=40)
    for folds in (spatial_folds(row, col, label, 5, seed), random_folds(np.arange(len(row)), label, 5, seed)):
        rows = np.bincount(folds.fold)
        positives = np.bincount(folds.fold, weights=label)
        assert rows.max() / rows.min() < 1.15
        assert positives.max() / positives.min() < 1.15


def test_the_seed_deals_blocks_anew() -> None:
    row, col, label = region(0, side=40)
    first, same, other = (spatial_folds(row, col, label, 5, seed).fold for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert (first != other).mean() > 0.3
    key = np.arange(len(row))
    assert (random_folds(key, label, 5, 0).fold != random_folds(key, label, 5, 1).fold).mean() > 0.3


def test_random_folds_learn_from_everything_else() -> None:
    folds = random_folds(np.arange(20), np.arange(20) % 2.0, 4, 0)
    assert all(len(folds.train_rows(k)) == 15 and len(folds.test_rows(k)) == 5 for k in range(4))


def test_taken_follows_the_rows() -> None:
    row, col, label = region(1)
    folds = spatial_folds(row, col, label, 3, 0)
    rows = np.arange(len(row))[::-1]
    turned = folds.taken(rows)
    assert isinstance(turned, Folds)
    assert np.array_equal(rows[turned.train_rows(1)][::-1], folds.train_rows(1))


def test_errors_say_how_many_are_needed() -> None:
    line = np.arange(40)
    label = (line < 10).astype(float)
    with pytest.raises(ModelError, match=r"^3 labelled tiles are fewer than 5 folds; "):
        spatial_folds(line[:3], line[:3], label[:3], 5, 0)
    with pytest.raises(ModelError, match=r"^all 10 labels are positive: there is nothing to learn; "):
        random_folds(line[:10], label[:10], 5, 0)
    with pytest.raises(ModelError, match=r"^2 positive of 32 tiles are too few: each of 5 folds needs one"):
        random_folds(line[8:], label[8:], 5, 0)
    with pytest.raises(ModelError, match=r"^1 of 40 tiles have no label"):
        random_folds(line, np.where(line == 0, np.nan, label), 5, 0)
    with pytest.raises(ModelError) as caught:  # one block holds everything
        spatial_folds(line // 10, line % 10, label, 2, 0, block=10)
    assert str(caught.value) == (
        "fold 1 of 2 learns from no tile of high risk: 1 of 1 blocks of 10 x 10 tiles hold one, 2 are needed, "
        "farther apart than the buffer of 1; use a smaller --block or fewer --folds, or a larger region"
    )
    row, col = np.divmod(np.arange(54), 18)
    with pytest.raises(ModelError) as caught:  # blocks as small as a view
        spatial_folds(row, col, (col < 9).astype(float), 2, 0, block=9, buffer=4)
    assert str(caught.value) == (
        "fold 1 of 2 tests no tile of low risk: 1 of 2 blocks of 9 x 9 tiles hold one, 2 are needed, "
        "farther apart than the buffer of 4; use fewer --folds, or a larger region"
    )


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 9),
    spare=st.integers(0, 7),
    others=st.integers(0, 40),
    heavy=st.integers(1, 400),
)
def test_five_blocks_with_positives_a_fold_wherever_there_are_so_many(
    seed: int, count: int, spare: int, others: int, heavy: int
) -> None:
    """One block may hold nearly all positives: it does not stand for the four others of its fold."""
    chance = np.random.default_rng(seed)
    positives = np.zeros(5 * count + spare + others, np.int64)
    positives[: 5 * count + spare] = chance.integers(1, 4, 5 * count + spare)
    positives[0] = heavy
    block = np.repeat(np.arange(len(positives)), positives + chance.integers(1, 30, len(positives)))
    first = np.flatnonzero(np.diff(block, prepend=-1))
    within = np.arange(len(block)) - first[block]
    label = (within < positives[block]).astype(float)
    row, col = block * 30 + within // 30, within % 30  # blocks 30 tiles wide, below each other
    folds = spatial_folds(row, col, label, count, seed, block=30, buffer=0)
    with_positives = [
        len(np.unique(block[folds.test_rows(k)][label[folds.test_rows(k)] == 1])) for k in range(count)
    ]
    assert min(with_positives) >= 5


@pytest.mark.parametrize("count", [4, 6, 7])
def test_as_many_folds_as_blocks_with_positives_hold_one_each(count: int) -> None:
    row, col = np.divmod(np.arange(24 * 24), 24)  # 36 blocks
    label = ((row % 4 == 0) & (col % 4 == 0) & (row * 6 + col < 4 * count)).astype(float)
    assert label.sum() == count
    folds = spatial_folds(row, col, label, count, 0)
    assert np.bincount(folds.fold, weights=label).tolist() == [1] * count
    tiles = np.bincount(folds.fold)
    assert tiles.max() - tiles.min() <= 16  # the other blocks are shared out
