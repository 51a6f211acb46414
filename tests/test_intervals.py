"""Bootstrap of spatial blocks: exact where it can be, and honest about how certain a score is."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from test_predictions import TASKS, judged

from roadrisk.learning.judging.intervals import Interval, block_of, interval, measure_intervals
from roadrisk.learning.judging.measures import (
    auprc,
    auroc,
    auroc_fold_mean,
    deviance,
    each_deviance,
    hit_rate,
    measures_of,
    spearman,
)
from roadrisk.learning.judging.predictions import OutOfFold
from roadrisk.learning.judging.weighted import (
    WeightedMeasure,
    auroc_within,
    hit_rate_within,
    mean_of,
    weighted_auprc,
    weighted_auroc,
    weighted_rmse,
    weighted_spearman,
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


def of_rows(measure: Callable[..., float], *fixed: float) -> Callable[..., float]:
    return lambda observed, said, other: measure(observed, said, *fixed)


# each weighted measure, and the same of rows as they come: (observed, said, a third amount a tile)
TWINS: dict[str, tuple[Callable[[np.ndarray], WeightedMeasure], Callable[..., float], str]] = {
    "auroc": (lambda _: weighted_auroc, of_rows(auroc), "high"),
    "fold": (auroc_within, auroc_fold_mean, "high"),
    "auprc": (lambda _: weighted_auprc, of_rows(auprc), "high"),
    "hit": (lambda a: hit_rate_within(a, 30), lambda o, s, a: hit_rate(o, s, a, 30), "count"),
    "spearman": (lambda _: weighted_spearman, of_rows(spearman), "count"),
    "deviance": (lambda _: mean_of(each_deviance), of_rows(deviance), "count"),
    "rmse": (lambda _: weighted_rmse, lambda o, s, a: float(np.sqrt(np.mean((o - s) ** 2))), "count"),
}


@pytest.mark.parametrize("name", TWINS)
@settings(deadline=None)
@given(st.data())
def test_weights_count_tiles_as_often_as_they_say(name: str, data: st.DataObject) -> None:
    weighted, plain, kind = TWINS[name]
    n = data.draw(st.integers(2, 30))

    def drawn(least: int, most: int) -> np.ndarray:
        return np.array(data.draw(st.lists(st.integers(least, most), min_size=n, max_size=n)))

    observed = drawn(0, 1 if kind == "high" else 4).astype(float)
    said, other, times = drawn(1, 4).astype(float), drawn(0, 3), drawn(0, 3)
    times[data.draw(st.integers(0, n - 1))] = 1  # nothing at all is no sample
    rows = np.repeat(np.arange(n), times)
    # a second weighting must not disturb the first
    found = weighted(other)(observed, said, np.stack([times, np.ones(n)]).astype(float))
    expected = plain(observed[rows], said[rows], other[rows])
    assert found[0] == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert found[1] == pytest.approx(plain(observed, said, other), abs=1e-9, nan_ok=True)


def test_weighted_average_precision_is_scikit_learns() -> None:
    label, score, _, _ = tiles(0)
    weights = np.random.default_rng(1).random((3, len(label)))
    theirs = [average_precision_score(label, np.round(score, 1), sample_weight=w) for w in weights]
    np.testing.assert_allclose(weighted_auprc(label, np.round(score, 1), weights), theirs, atol=1e-12)


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
    found = interval(weighted_auroc, label, a, block, seed, samples, less=b)
    assert found is not None
    assert found.value == pytest.approx(auroc(label, a) - auroc(label, b))
    assert [found.low, found.high] == pytest.approx(np.quantile(naive, [0.025, 0.975]).tolist())


def test_a_model_does_not_differ_from_itself() -> None:
    label, a, _, block = tiles(3)
    assert interval(weighted_auroc, label, a, block, 0, 100, less=2 * a + 1) == Interval(0.0, 0.0, 0.0)


def test_rows_in_another_order_have_the_same_interval() -> None:
    label, a, b, block = tiles(4)
    order = np.random.default_rng(0).permutation(len(label))
    before = interval(weighted_auroc, label, a, block, 0, 100, less=b)
    after = interval(weighted_auroc, label[order], a[order], block[order], 0, 100, less=b[order])
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


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}{task.outputs}")
def test_every_interval_is_of_the_measure_and_of_the_same_draws(task: object) -> None:
    outcomes, found = judged(task, 400)
    outcomes = replace(outcomes, block=np.arange(400) // 10)
    found = OutOfFold(found.fold, found.outputs | {"again": found.outputs["fused"]})
    intervals = measure_intervals(outcomes, found, 3, 60)
    assert list(intervals) == ["fused", "boosting", "again"]
    assert intervals["again"] == intervals["fused"] != intervals["boosting"]
    drawn = np.random.default_rng(3).multinomial(40, np.full(40, 1 / 40), 60)
    values = []
    for times in drawn:
        rows = np.repeat(np.arange(400), times[outcomes.block])
        values.append(measures_of(outcomes.taken(rows), found.outputs["fused"][rows], found.fold[rows]))
    wanted = {
        "class": {"auroc", "auroc_fold_mean", "auprc", "brier", "hit_rate_10"},
        "count": {"deviance", "mae", "spearman", "hit_rate_10"},
        "value": {"rmse", "mae", "spearman", "hit_rate_10"},
    }
    assert set(intervals["fused"]) == wanted[task.kind]
    for metric, ends in intervals["fused"].items():
        expected = np.quantile([of[metric] for of in values], [0.025, 0.975])
        assert ends == pytest.approx(expected.tolist()), metric


def test_no_order_of_rows_changes_the_intervals_of_models() -> None:
    outcomes, found = judged(TASKS[2], 300)
    outcomes = replace(outcomes, block=np.arange(300) % 25)
    order = np.random.default_rng(1).permutation(300)
    turned = OutOfFold(found.fold[order], {name: said[order] for name, said in found.outputs.items()})
    before = measure_intervals(outcomes, found, 0, 40)
    after = measure_intervals(outcomes.taken(order), turned, 0, 40)
    for model, of in before.items():
        for metric, ends in of.items():
            assert after[model][metric] == pytest.approx(ends, rel=1e-12)


def test_no_interval_of_a_model_where_there_are_few_blocks_or_none() -> None:
    outcomes, found = judged(TASKS[0], 190)
    assert measure_intervals(replace(outcomes, block=np.arange(190) // 10), found, 0, 40) == {}
    assert measure_intervals(replace(outcomes, block=None), found, 0, 40) == {}
    assert measure_intervals(replace(outcomes, block=np.arange(190) % 20), found, 0, 40)


def test_a_measure_that_most_draws_lack_has_no_interval() -> None:
    outcomes, found = judged(TASKS[0], 400)
    rare = np.zeros(400)
    rare[7] = 1.0
    rare_ones = replace(outcomes, label=rare, high=rare, events=rare, block=np.arange(400) // 10)
    assert list(measure_intervals(rare_ones, found, 0, 100)["fused"]) == ["brier"]


@pytest.mark.filterwarnings("error")
def test_events_where_none_can_be_leave_the_deviance_without_an_interval() -> None:
    outcomes, found = judged(TASKS[2], 400)
    said = found.outputs["fused"].copy()
    said[np.flatnonzero(outcomes.label > 0)[0]] = -np.inf
    blocks = replace(outcomes, block=np.arange(400) // 10)
    intervals = measure_intervals(blocks, OutOfFold(found.fold, {"fused": said}), 0, 50)
    assert set(intervals["fused"]) == {"mae", "spearman", "hit_rate_10"}


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
        two = interval(weighted_auroc, label, a, block, seed, 150, less=b)
        tile = np.arange(len(label))
        of_tiles = interval(weighted_auroc, label, a, tile, seed, 150, less=b)
        assert one is not None
        assert two is not None
        assert of_tiles is not None
        truths = ((one, a_alone), (two, difference), (of_tiles, difference))
        held += [found.low <= truth <= found.high for found, truth in truths]
    share = held / simulations
    assert (share[:2] >= 0.90).all(), share
    assert (share[:2] <= 0.98).all(), share
    assert share[2] < 0.91  # tiles drawn one by one are too sure of themselves
