"""Curves agree with the measures, with scikit-learn and scipy, and with examples worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_curve
from test_predictions import TASKS, judged

from roadrisk.learning.judging.curves import curves_of
from roadrisk.learning.judging.evaluation import Curves
from roadrisk.learning.judging.measures import ece, hit_rate, measures_of
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.tasks import Task, prediction

COUNT = TASKS[2]


def told(task: Task, n: int, seed: int = 0, digits: int = 1) -> tuple[Outcomes, np.ndarray, np.ndarray]:
    """Tiles of which the model knows something, many of them tied; and their folds."""
    outcomes, found = judged(task, n, seed)
    chance = np.random.default_rng(seed)
    label = outcomes.label
    outputs = (chance.normal(size=(n, task.outputs)) + 0.5 * np.log1p(label)[:, None]).round(digits)
    return outcomes, outputs, found.fold


def area_under(points: tuple[tuple[float, float], ...]) -> float:
    x, y = np.array(points).T
    return float(np.trapezoid(y, x))


def in_six_digits(x: np.ndarray, y: np.ndarray) -> set[tuple[float, float]]:
    return {(float(f"{at:.6g}"), float(f"{value:.6g}")) for at, value in zip(x, y, strict=True)}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(5, 150), digits=st.integers(0, 3))
def test_roc_and_precision_recall_are_scikit_learns(seed: int, n: int, digits: int) -> None:
    outcomes, outputs, fold = told(Task(), n, seed, digits)
    outcomes = replace(
        outcomes, label=np.where(np.arange(n) == 0, 1.0, np.where(np.arange(n) == 1, 0, outcomes.label))
    )
    curves, of = curves_of(outcomes, outputs), measures_of(outcomes, outputs, fold)
    assert area_under(curves.roc) == pytest.approx(of["auroc"], rel=1e-5)
    fpr, tpr, _ = roc_curve(outcomes.label, outputs[:, 0], drop_intermediate=False)
    assert set(curves.roc) <= in_six_digits(fpr, tpr)
    assert (curves.roc[0], curves.roc[-1]) == ((0, 0), (1, 1))
    recall, precision = np.array(curves.precision_recall).T
    assert (recall[0], precision[0]) == (0, precision[1])
    assert float(np.diff(recall) @ precision[1:]) == pytest.approx(of["auprc"], rel=1e-5)
    their_precision, their_recall, _ = precision_recall_curve(outcomes.label, outputs[:, 0])
    assert set(curves.precision_recall[1:]) <= in_six_digits(their_recall, their_precision)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}{task.outputs}")
def test_many_tiles_make_at_most_200_points_and_lose_nothing_to_see(task: Task) -> None:
    outcomes, outputs, fold = told(task, 5000, digits=9)
    curves, of = curves_of(outcomes, outputs), measures_of(outcomes, outputs, fold)
    lines = [curves.roc, curves.precision_recall, curves.lift, curves.hit_rate, curves.hit_rate_road]
    lines += [points for cure in curves.cure for points in (cure.points, cure.bound)]
    assert max(len(points) for points in lines) <= 200
    for points in lines:
        x = [at for at, _ in points]
        assert x == sorted(x)
    for percent in (1, 5, 10, 20):
        for name, rates in (("", curves.hit_rate), ("_road", curves.hit_rate_road)):
            assert dict(rates)[percent / 100] == pytest.approx(of[f"hit_rate_{percent}{name}"], rel=1e-5)
    if task.kind == "class":
        assert area_under(curves.roc) == pytest.approx(of["auroc"], abs=5e-4)
        recall, precision = np.array(curves.precision_recall).T
        assert float(np.diff(recall) @ precision[1:]) == pytest.approx(of["auprc"], abs=5e-3)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}{task.outputs}")
def test_no_order_of_rows_changes_a_curve(task: Task) -> None:
    outcomes, outputs, _ = told(task, 80)
    order = np.random.default_rng(0).permutation(80)
    first, again = curves_of(outcomes, outputs), curves_of(outcomes.taken(order), outputs[order])
    for name in ("roc", "precision_recall", "lift", "hit_rate", "hit_rate_road"):
        np.testing.assert_allclose(getattr(first, name), getattr(again, name), atol=1e-12)
    for one, other in zip(first.cure, again.cure, strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=1e-9)
    for bin_, other_bin in zip(first.reliability, again.reliability, strict=True):
        assert vars(bin_) == pytest.approx(vars(other_bin))


def test_what_a_task_lacks_is_empty() -> None:
    outcomes, outputs, _ = told(TASKS[3], 40)
    assert curves_of(replace(outcomes, events=np.zeros(40)), outputs) == Curves()
    assert curves_of(outcomes, outputs).hit_rate
    outcomes, outputs, _ = told(Task(), 40)
    none = np.zeros(40)
    curves = curves_of(replace(outcomes, label=none, events=none, road_m=np.full(40, np.nan)), outputs)
    assert (curves.roc, curves.precision_recall, curves.lift, curves.hit_rate, curves.hit_rate_road) == (
        (),
    ) * 5
    assert curves.reliability[0].observed == 0
    counted, outputs, _ = told(COUNT, 40)
    cures = curves_of(replace(counted, road_m=np.full(40, np.nan)), outputs).cure
    assert [one.by for one in cures] == ["expected"]


@pytest.mark.parametrize("n", [7, 400])
def test_reliability_is_what_the_calibration_error_is_made_of(n: int) -> None:
    outcomes, outputs, _ = told(Task(), n)
    bins = curves_of(outcomes, outputs).reliability
    assert [one.n for one in bins] == ([1] * 7 if n == 7 else [27] * 10 + [26] * 5)
    off = sum(one.n * abs(one.predicted - one.observed) for one in bins) / n
    assert off == pytest.approx(ece(outcomes.label, prediction(Task(), outputs)))
    assert sum(one.n * one.observed for one in bins) == pytest.approx(outcomes.label.sum())
    assert all(one.low is one.high is None for one in bins), "there are 7 blocks"


def test_ends_of_bins_are_those_of_draws_of_blocks() -> None:
    outcomes, outputs, _ = told(Task(), 600)
    block = np.arange(600) % 40
    # all tiles of a block turn out alike: tiles tell much less than as many independent ones
    alike = replace(outcomes, block=block, label=(np.random.default_rng(1).random(40) < 0.3)[block] * 1.0)
    apart = replace(alike, block=np.arange(600))
    whole, single = (curves_of(of, outputs, seed=3).reliability for of in (alike, apart))
    spread = [np.mean([one.high - one.low for one in bins]) for bins in (whole, single)]
    assert spread[0] != pytest.approx(spread[1], rel=0.01)
    for one in whole:
        assert 0 <= one.low <= one.observed <= one.high <= 1
    level = curves_of(alike, np.zeros((600, 1)), seed=3).reliability
    means = alike.label.reshape(15, 40)[0][np.random.default_rng(0).integers(0, 40, (20_000, 40))].mean(
        axis=1
    )
    for one in level:  # all tie, so that each bin is like all tiles
        assert (one.low, one.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.03)
    few = curves_of(replace(alike, block=block % 19), outputs).reliability
    assert all(one.low is one.high is None for one in few)


def test_predicted_and_observed_counts_by_decile() -> None:
    outcomes, _, _ = told(COUNT, 100)
    expected = np.arange(1, 101.0)
    outcomes = replace(outcomes, label=2 * expected)
    order = np.random.default_rng(0).permutation(100)
    bins = curves_of(outcomes.taken(order), np.log(expected[order])[:, None]).reliability
    assert [one.n for one in bins] == [10] * 10
    assert [one.predicted for one in bins] == pytest.approx([5.5 + 10 * k for k in range(10)])
    assert [one.observed for one in bins] == pytest.approx([11 + 20 * k for k in range(10)])
    assert bins[0].low is bins[0].high is None


def test_lift_and_hit_rates_by_hand() -> None:
    outcomes, _, _ = told(Task(), 4)
    outcomes = replace(
        outcomes,
        events=np.array([5.0, 3, 2, 0]),
        area_km2=np.array([1.0, 1, 2, 4]),
        road_m=np.array([10.0, 10, np.nan, 0]),
    )
    curves = curves_of(outcomes, np.array([[0.9], [0.2], [0.7], [0.1]]))
    lift, area, road = (dict(points) for points in (curves.lift, curves.hit_rate, curves.hit_rate_road))
    assert [lift[share] for share in (0.25, 0.5, 1.0)] == pytest.approx([2.0, 1.4, 1.0])
    assert 0.0 not in lift
    assert [area[share] for share in (0.0, 0.0625, 0.25, 1.0)] == pytest.approx([0, 0.25, 0.6, 1])
    assert [road[share] for share in (0.25, 0.5, 1.0)] == pytest.approx([5 / 16, 5 / 8, 1])


def test_cumulative_residuals_by_hand() -> None:
    outcomes, _, _ = told(COUNT, 4)
    expected = np.array([1.0, 2, 2, 4])
    # residuals 1, -2, 2, 3; the middle two tie
    outcomes = replace(outcomes, label=np.array([2.0, 0, 4, 7]), road_m=np.array([50.0, 30, np.nan, 30]))
    flow = np.array([4.0, 3, 2, 1])
    by = {one.by: one for one in curves_of(outcomes, np.log(expected)[:, None], {"aadt": flow}).cure}
    assert list(by) == ["expected", "road_m", "aadt"]
    at, walk = np.array(by["expected"].points).T
    np.testing.assert_allclose(at, [1, 2, 4])
    np.testing.assert_allclose(walk, [1, 1, 4])
    # squares 1, 9, 18 of 18
    reach = [2 * np.sqrt(1 * (1 - 1 / 18)), 2 * np.sqrt(9 * (1 - 9 / 18)), 0]
    np.testing.assert_allclose(np.array(by["expected"].bound)[:, 1], reach, rtol=1e-5)
    assert by["expected"].outside == 1 / 4
    np.testing.assert_allclose(by["road_m"].points, [(30, 1), (50, 2)])
    assert [point[1] for point in by["aadt"].points] == pytest.approx([3, 5, 3, 4])


def test_right_expectations_stay_within_their_bounds_and_wrong_ones_do_not() -> None:
    chance = np.random.default_rng(0)
    outcomes, _, _ = told(COUNT, 2000)
    road = chance.uniform(0, 1000, 2000)
    expected = 0.2 + 4 * (road / 1000) ** 2
    outcomes = replace(outcomes, label=chance.poisson(expected).astype(float), road_m=road)
    right = curves_of(outcomes, np.log(expected)[:, None]).cure[1]
    line = np.full(2000, outcomes.label.mean()) * road / road.mean()
    wrong = curves_of(outcomes, np.log(line)[:, None]).cure[1]
    assert right.by == wrong.by == "road_m"
    assert right.outside < 0.1
    assert wrong.outside > 0.5


def test_a_walk_that_ends_at_zero_ends_inside() -> None:
    outcomes, _, _ = told(COUNT, 300)
    flat = np.full((300, 1), np.log(outcomes.label.mean()))
    cure = curves_of(outcomes, flat, {"by": np.arange(300.0)}).cure[-1]
    assert cure.bound[-1][1] == 0
    assert cure.points[-1][1] == pytest.approx(0, abs=1e-9)
    assert round(cure.outside * 300) == sum(
        abs(y) > limit + 1e-9 for (_, y), (_, limit) in zip(*every_point(outcomes, flat), strict=True)
    )


def every_point(outcomes: Outcomes, outputs: np.ndarray) -> tuple[list, list]:
    residual = outcomes.label - np.exp(outputs[:, 0])
    s = np.cumsum(residual**2)
    reach = 2 * np.sqrt(np.maximum(s * (1 - s / s[-1]), 0))
    at = np.arange(300)
    return list(zip(at, np.cumsum(residual), strict=True)), list(zip(at, reach, strict=True))


def test_hit_rate_of_the_curve_is_the_metric_between_the_marks_too() -> None:
    outcomes, outputs, _ = told(Task(), 60)
    for share, found in curves_of(outcomes, outputs).hit_rate:
        expected = hit_rate(outcomes.events, outputs[:, 0], outcomes.area_km2, 100 * share)
        assert found == pytest.approx(expected, rel=1e-5)
