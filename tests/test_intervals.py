"""Bootstrap of spatial blocks: exact where it can be, and honest about how certain a score is."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from roadrisk.learning.judging.measures import auroc, auroc_fold_mean
from roadrisk.learning.judging.intervals import (
    Interval,
    auroc_within,
    block_of,
    difference_interval,
    interval,
    weighted_auroc,
)


def tiles(
    seed: int, blocks: int = 40, side: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Label, two scores and block of tiles whose blocks differ in how risky and how readable they are."""
    chance = np.random.default_rng(seed)
    block = np.repeat(np.arange(blocks), side * side)
    easy = chance.normal(0, 1.2, (2, blocks))[:, block]  # a model is right or wrong by whole blocks
    risk = chance.normal(0, 1, blocks)[block] + chance.normal(0, 1, len(block))
    label = (risk + chance.normal(0, 1, len(block)) > 0.8).astype(float)
    first, second = risk + easy + chance.normal(0, 1, (2, len(block)))
    return label, first, second, block


@given(st.data())
def test_weights_count_tiles_as_often_as_they_say(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 30))
    label = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)))
    score = np.array(data.draw(st.lists(st.integers(-2, 2), min_size=n, max_size=n)), float)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    rows = np.repeat(np.arange(n), weights)
    expected = auroc(label[rows], score[rows])
    found = weighted_auroc(label, score, weights[None].astype(float))
    assert found[0] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_weighted_auroc_is_scikit_learns() -> None:
    label, score, _, _ = tiles(0)
    weights = np.random.default_rng(1).random((3, len(label)))
    ours = weighted_auroc(label, np.round(score, 1), weights)
    theirs = [roc_auc_score(label, np.round(score, 1), sample_weight=w) for w in weights]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_auroc_within_folds_is_their_mean_by_pairs() -> None:
    label, score, _, block = tiles(9)
    fold, rows = block % 5, np.random.default_rng(2).integers(0, len(label), len(label))
    weights = np.bincount(rows, minlength=len(label))[None].astype(float)
    [found] = auroc_within(fold)(label, score, weights)
    assert found == pytest.approx(auroc_fold_mean(label[rows], score[rows], fold[rows]))
    assert np.isnan(auroc_within(fold)(np.zeros_like(label), score, weights)[0])


def test_draws_are_of_whole_blocks_and_the_same_for_both_models() -> None:
    label, a, b, block = tiles(2)
    samples, seed = 50, 7
    drawn = np.random.default_rng(seed).multinomial(40, np.full(40, 1 / 40), samples)
    members = [np.flatnonzero(block == k) for k in range(40)]
    naive = []
    for times in drawn:
        rows = np.concatenate([members[k] for k in np.repeat(np.arange(40), times)])
        naive.append(auroc(label[rows], a[rows]) - auroc(label[rows], b[rows]))
    found = difference_interval(weighted_auroc, label, a, b, block, seed, samples)
    assert found is not None
    assert found.value == pytest.approx(auroc(label, a) - auroc(label, b))
    assert [found.low, found.high] == pytest.approx(np.quantile(naive, [0.025, 0.975]).tolist())


def test_a_model_does_not_differ_from_itself() -> None:
    label, a, _, block = tiles(3)
    assert difference_interval(weighted_auroc, label, a, 2 * a + 1, block, 0, 100) == Interval(0.0, 0.0, 0.0)


def test_rows_in_another_order_have_the_same_interval() -> None:
    label, a, b, block = tiles(4)
    order = np.random.default_rng(0).permutation(len(label))
    before = difference_interval(weighted_auroc, label, a, b, block, 0, 100)
    after = difference_interval(weighted_auroc, label[order], a[order], b[order], block[order], 0, 100)
    assert before is not None
    assert after is not None
    assert [after.value, after.low, after.high] == pytest.approx([before.value, before.low, before.high])


def test_names_of_blocks_do_not_matter() -> None:
    label, a, _, block = tiles(5)
    assert interval(weighted_auroc, label, a, block, 0, 50) == interval(
        weighted_auroc, label, a, 1_000_000_007 * block - 5, 0, 50
    )


def test_many_tiles_are_drawn_in_parts_with_the_same_result() -> None:
    label, a, _, block = tiles(6)
    many = np.tile(label, 400), np.tile(a, 400), np.tile(block, 400)
    tracemalloc.start()
    whole = interval(weighted_auroc, *many, 0, 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one = interval(weighted_auroc, label, a, block, 0, 40)
    assert whole is not None
    assert one is not None
    assert [whole.low, whole.high] == pytest.approx([one.low, one.high])
    assert peak < 40 * len(many[0]) * 8


def test_too_few_blocks_have_no_interval() -> None:
    label, a, _, block = tiles(7, blocks=20)
    assert interval(weighted_auroc, label, a, block, 0, 50) is not None
    inside = block < 19
    assert interval(weighted_auroc, label[inside], a[inside], block[inside], 0, 50) is None


def test_one_class_has_no_interval() -> None:
    label, a, _, block = tiles(8)
    assert interval(weighted_auroc, np.zeros_like(label), a, block, 0, 50) is None
    rare = np.zeros_like(label)
    rare[0] = 1.0  # two draws in three hold its block
    assert interval(weighted_auroc, rare, a, block, 0, 200) is None


def test_blocks_are_squares_of_the_lattice() -> None:
    row, col = np.divmod(np.arange(-50, 94), 12)
    block = block_of(row, col, 3)
    for k in np.unique(block):
        assert len(np.unique(row[block == k] // 3)) == 1
        assert len(np.unique(col[block == k] // 3)) == 1
    places = {(r // 3, c // 3) for r, c in zip(row.tolist(), col.tolist(), strict=True)}
    assert len(np.unique(block)) == len(places)


def test_nominal_intervals_hold_the_truth_as_often_as_they_say() -> None:
    truth_label, truth_a, truth_b, _ = tiles(10_000, blocks=20_000)
    a_alone = auroc(truth_label, truth_a)
    difference = a_alone - auroc(truth_label, truth_b)
    held = np.zeros(3)
    simulations = 200
    for seed in range(simulations):
        label, a, b, block = tiles(seed, blocks=60, side=4)
        one = interval(weighted_auroc, label, a, block, seed, 150)
        two = difference_interval(weighted_auroc, label, a, b, block, seed, 150)
        tile = np.arange(len(label))
        of_tiles = difference_interval(weighted_auroc, label, a, b, tile, seed, 150)
        assert one is not None
        assert two is not None
        assert of_tiles is not None
        truths = ((one, a_alone), (two, difference), (of_tiles, difference))
        held += [found.low <= truth <= found.high for found, truth in truths]
    share = held / simulations
    assert (share[:2] >= 0.90).all(), share
    assert (share[:2] <= 0.98).all(), share
    assert share[2] < 0.91  # tiles drawn one by one are too sure of themselves
