"""The rule for blocks and folds: what is chosen, each step away from it, and when it is refused."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from roadrisk.errors import ModelError
from roadrisk.learning.blocks import (
    FoldPlan,
    distances_to_training,
    folds_told,
    map_distances,
    planned_folds,
)
from roadrisk.learning.correlogram import Correlogram
from roadrisk.learning.folds import Folds, spatial_folds
from roadrisk.learning.judging.evaluation import FoldsTold

CELL_M = 250.0


def region(rows: int, cols: int, every: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A rectangle from (0, 0), of whose tiles one in `every` is of high risk, in every row and column."""
    row, col = np.divmod(np.arange(rows * cols), cols)
    return row, col, ((row + col) % every == 0).astype(float)


def alike_to(tiles: float) -> Correlogram:
    return Correlogram(tiles * CELL_M, ((CELL_M, 0.2),), 2000)


def plan(
    tiles: tuple[np.ndarray, np.ndarray, np.ndarray],
    footprints: tuple[int, ...] = (1,),
    buffer: int = 1,
    correlogram: Correlogram | None = None,
    **asked: float | None,
) -> FoldPlan:
    return planned_folds(*tiles, CELL_M, footprints, buffer, correlogram, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("footprints", "reach", "block", "why"),
    [
        ((1,), None, 4, "four of the widest view"),
        ((), None, 4, "four of the widest view"),
        ((1,), 4.0, 4, "four of the widest view"),
        ((1,), 4.2, 5, "the range of what facts do not explain"),
        ((1,), 7.0, 7, "the range of what facts do not explain"),
        ((3, 1), 7.0, 12, "four of the widest view"),
        ((1, 3), 12.5, 13, "the range of what facts do not explain"),
    ],
)
def test_blocks_are_the_larger_of_four_views_and_the_range(
    footprints: tuple[int, ...], reach: float | None, block: int, why: str
) -> None:
    found = plan(region(100, 100), footprints, 1, alike_to(reach) if reach else None)
    assert (found.block, found.folds.count, found.told) == (block, 5, ())
    assert found.rule == (
        f"blocks of {block} x {block} tiles ({block * 250:,} m), {why}; 5 folds; buffer 1 tile (250 m)"
    )
    row, col, high = region(100, 100)
    blocks = {(r // block, c // block) for r, c in zip(row.tolist(), col.tolist(), strict=True)}
    assert found.blocks == found.blocks_with_positives == len(blocks)
    assert found.left_share >= 0.6
    assert np.array_equal(found.folds.fold, spatial_folds(row, col, high, 5, 0, block, 1).fold)


def test_without_the_range_where_it_leaves_too_few_blocks() -> None:
    found = plan(region(40, 40), correlogram=alike_to(10))  # 16 blocks
    assert (found.block, found.folds.count) == (4, 5)
    assert found.told == (
        "no 5 folds with blocks of 10 x 10 tiles (2,500 m), the range of what facts do not explain: "
        "there are 16 blocks, 20 are needed for intervals",
    )


def test_a_smaller_view_where_the_widest_leaves_too_few_blocks() -> None:
    found = plan(region(64, 64), (1, 3, 5), 2, alike_to(30))
    assert (found.block, found.buffer, found.folds.count) == (12, 2, 5)
    assert found.rule == (
        "blocks of 12 x 12 tiles (3,000 m), four of a smaller view, 3 tiles wide; 5 folds; "
        "buffer 2 tiles (500 m)"
    )
    assert found.told == (
        "no 5 folds with blocks of 30 x 30 tiles (7,500 m), the range of what facts do not explain: "
        "there are 9 blocks, 20 are needed for intervals",
        "no 5 folds with blocks of 20 x 20 tiles (5,000 m), four of the widest view: "
        "there are 16 blocks, 20 are needed for intervals",
    )


def test_the_range_is_kept_where_only_the_view_is_too_wide() -> None:
    found = plan(region(42, 42), (1, 3), 1, alike_to(7))
    assert (found.block, len(found.told)) == (7, 1)


def test_too_few_blocks_with_positives_are_said_with_their_number() -> None:
    row, col, _ = region(40, 40)
    corner = ((row < 20) & (col < 16)).astype(float)  # 20 of 100 blocks of 4
    found = plan((row, col, corner))
    assert found.told == (
        "no 5 folds with blocks of 4 x 4 tiles (1,000 m), four of the widest view: "
        "20 of 100 blocks hold a tile of high risk, 25 are needed",
    )
    assert found.folds.count == 20


def test_one_block_with_positives_a_fold() -> None:
    """The nearest to the rule where so few blocks hold any: their folds share the others."""
    row, col, _ = region(40, 40)
    high = np.isin(row * 40 + col, [0, 18, 36, 805, 820, 836, 1599]).astype(float)  # in seven blocks
    found = plan((row, col, high))
    assert (found.folds.count, found.blocks, found.blocks_with_positives, found.block) == (7, 100, 7, 4)
    assert found.rule == (
        "blocks of 4 x 4 tiles (1,000 m), four of the widest view; 7 folds, one for each block with a tile of "
        "high risk; buffer 1 tile (250 m)"
    )
    assert np.bincount(found.folds.fold, weights=high).tolist() == [1] * 7
    assert np.bincount(found.folds.fold).min() > 200
    assert found.left_share >= 0.6


def test_the_widest_blocks_that_do_hold_one_fold_each() -> None:
    found = plan(region(30, 30), (3,), 1)  # 9 blocks of 12 tiles
    assert (found.folds.count, found.block) == (9, 12)
    assert len(found.told) == 1


@pytest.mark.parametrize(
    ("tiles", "buffer", "said"),
    [
        (
            region(8, 4),
            1,
            "no folds hold out whole places: 2 of 2 blocks hold a tile of high risk, 3 are needed, with blocks "
            "of 4 x 4 tiles (1,000 m), four of the widest view; use a larger region or views that reach less "
            "far, or say --folds and --block",
        ),
        (
            region(12, 12),
            3,
            "no folds hold out whole places: the buffer of 3 tiles leaves 34 % of a fold's training tiles, 60 % "
            "are needed, with blocks of 4 x 4 tiles (1,000 m), four of the widest view; use a larger region or "
            "views that reach less far, or say --folds and --block",
        ),
    ],
)
def test_refusals_say_what_is_needed(
    tiles: tuple[np.ndarray, np.ndarray, np.ndarray], buffer: int, said: str
) -> None:
    with pytest.raises(ModelError) as caught:
        plan(tiles, (1,), buffer)
    assert str(caught.value) == said


def test_one_class_is_refused_before_anything_else() -> None:
    row, col, high = region(40, 40)
    with pytest.raises(ModelError, match=r"^all 1600 labels are negative: there is nothing to learn"):
        plan((row, col, np.zeros(1600)))
    with pytest.raises(ModelError, match=r"^all 1600 labels are positive: there is nothing to learn"):
        plan((row, col, np.ones(1600)))
    with pytest.raises(ModelError, match=r"^1 of 1600 tiles have no label"):
        plan((row, col, np.where(row + col == 0, np.nan, high)))


def test_what_is_asked_for_is_done_and_what_it_lacks_is_told() -> None:
    tiles = region(24, 24)
    block = plan(tiles, correlogram=alike_to(3), block_m=2000.0)
    assert (block.block, block.folds.count) == (8, 5)
    assert block.rule == "blocks of 8 x 8 tiles (2,000 m), as asked for; 5 folds; buffer 1 tile (250 m)"
    assert block.told == (
        "there are 9 blocks, 20 are needed for intervals",
        "9 of 9 blocks hold a tile of high risk, 25 are needed",
    )
    two = plan(tiles, count=2)
    assert (two.block, two.folds.count) == (4, 2)
    assert two.told == (
        f"the buffer of 1 tile leaves {100 * two.left_share:.0f} % of a fold's training tiles, 60 % are needed",
    )
    assert two.left_share < 0.6
    both = plan(region(100, 100), count=3, block_m=1500.0)
    assert (both.block, both.folds.count, both.told) == (6, 3, ())
    row, col, high = region(8, 8)
    small = plan((row, col, high), (3, 1), 1, alike_to(5), count=2)
    assert (small.block, small.folds.count, len(small.told)) == (4, 2, 5)
    assert small.told[2:] == (
        "there are 4 blocks, 20 are needed for intervals",
        "4 of 4 blocks hold a tile of high risk, 10 are needed",
        "the buffer of 1 tile leaves 56 % of a fold's training tiles, 60 % are needed",
    )


def test_folds_asked_for_that_cannot_be_are_refused_as_ever() -> None:
    with pytest.raises(ModelError, match=r"^fold 5 of 5 tests no tile of high risk: 4 of 4 blocks of 4 x 4 "):
        plan(region(8, 8), count=5)
    with pytest.raises(ModelError, match=r"^30 labelled tiles are fewer than 40 folds"):
        plan(region(5, 6), count=40)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    side=st.integers(10, 45),
    reach=st.floats(0, 12),
    context=st.sampled_from([(1,), (1, 3), (3,)]),
    share=st.floats(0.02, 0.5),
    order=st.randoms(use_true_random=False),
)
def test_every_plan_meets_its_needs_whatever_the_order_of_rows(
    seed: int, side: int, reach: float, context: tuple[int, ...], share: float, order: object
) -> None:
    chance = np.random.default_rng(seed)
    there = np.flatnonzero(chance.random(side * side) < 0.8)
    row, col = there // side - 1000, there % side + 777
    high = (chance.random(len(row)) < share).astype(float)
    try:
        found = plan((row, col, high), context, 1, alike_to(reach), seed=seed)
    except ModelError:
        return  # too small, or too few of high risk
    folds, block = found.folds, found.block
    blocks = np.stack([row // block, col // block], axis=1)
    for one in np.unique(blocks, axis=0):  # whole, and where they lie on the lattice
        assert len(np.unique(folds.fold[(blocks == one).all(axis=1)])) == 1
    left = []
    for k in range(folds.count):
        test, train = folds.test_rows(k), folds.train_rows(k)
        hot = len(np.unique(blocks[test][high[test] == 1], axis=0))
        assert hot == 1 if "one for each block" in found.rule else hot >= 5
        apart = np.maximum(np.abs(row[train, None] - row[test]), np.abs(col[train, None] - col[test]))
        assert apart.min() > found.buffer
        left.append(len(train) / (len(row) - len(test)))
    assert found.left_share == min(left) >= 0.6
    if found.folds.count == 5 and "one for each block" not in found.rule:
        assert found.blocks >= 20
    shuffled = np.arange(len(row))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    again = plan((row[shuffled], col[shuffled], high[shuffled]), context, 1, alike_to(reach), seed=seed)
    assert np.array_equal(again.folds.fold, folds.fold[shuffled])
    assert (again.rule, again.told) == (found.rule, found.told)


def test_distances_by_hand_and_by_brute_force() -> None:
    row, col = np.zeros(9, np.int64), np.arange(9)
    folds = Folds(np.array([0, 0, 0, 1, 1, 1, 1, 1, 1]), 2, row, col, buffer=1)
    # fold 0 tests 0, 1, 2 and learns from 4 to 8; fold 1 tests 3 to 8 and learns from 0 and 1
    apart = [4, 3, 2, 2, 3, 4, 5, 6, 7]
    assert distances_to_training(row, col, folds, 10.0) == tuple(
        (float(p), pytest.approx(10 * np.percentile(apart, p))) for p in (0, 25, 50, 75, 95, 100)
    )
    row, col, high = region(30, 30)
    found = plan((row, col, high)).folds
    nearest = np.empty(len(row))
    for k in range(5):
        test, train = found.test_rows(k), found.train_rows(k)
        nearest[test] = np.hypot(row[test, None] - row[train], col[test, None] - col[train]).min(axis=1)
    said = dict(distances_to_training(row, col, found, CELL_M))
    assert said[50.0] == pytest.approx(CELL_M * np.median(nearest))
    assert said[100.0] == pytest.approx(CELL_M * nearest.max())
    assert said[0.0] >= 2 * CELL_M  # beyond the buffer


def test_a_map_that_goes_farther_than_was_tested_shows() -> None:
    row, col, high = region(40, 40)
    found = plan((row, col, high))
    inside = map_distances(row, col, row, col, CELL_M)
    assert inside == tuple((float(p), 0.0) for p in (0, 25, 50, 75, 95, 100))
    far = map_distances(row + 200, col, row, col, CELL_M)
    assert far[0] == (0.0, 161 * CELL_M)
    assert far[-1][1] == CELL_M * 200
    assert far[0][1] > distances_to_training(row, col, found.folds, CELL_M)[-1][1]


def test_what_is_told_of_folds_can_be_kept() -> None:
    row, col, high = region(40, 40)
    correlogram = alike_to(10)
    found = plan((row, col, high), correlogram=correlogram)
    told = folds_told(found, correlogram, CELL_M, np.r_[row, 60], np.r_[col, 60])
    assert told.rule == f"{found.rule}; {found.told[0]}"
    assert (told.block_m, told.buffer_m, told.folds) == (1000.0, 250.0, 5)
    assert (told.blocks, told.blocks_with_positives, told.left_share) == (100, 100, found.left_share)
    assert (told.range_m, told.correlogram, told.sampled) == (2500.0, ((250.0, 0.2),), 2000)
    assert told.to_training == distances_to_training(row, col, found.folds, CELL_M)
    assert told.map_to_training[-1] == (100.0, pytest.approx(CELL_M * np.hypot(21, 21)))
    kept = TypeAdapter(FoldsTold).validate_python(json.loads(json.dumps(asdict(told))))
    assert kept == told
    without = folds_told(found, None, CELL_M, row, col)
    assert (without.range_m, without.correlogram, without.sampled) == (None, (), 0)
