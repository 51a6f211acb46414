"""Stacking: weights are never negative, noise gets none, and what one part of the models lacks another brings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor

from roadrisk.columns import Column
from roadrisk.learning.baselines import judged
from roadrisk.learning.baselines.boosting import Growth
from roadrisk.learning.baselines.judged import Baselines, KnownAmounts, baselines_out_of_fold
from roadrisk.learning.baselines.stacking import Member, learned_join, stacked
from roadrisk.learning.baselines.tuning import Sample
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import spatial_folds
from roadrisk.learning.judging.measures import auroc
from roadrisk.learning.labels.label import high_risk
from roadrisk.learning.tasks import Task

CLASS, VALUE, COUNT = Task(), Task("value", "mse", ()), Task("count", "poisson", (), "vkm")
TASKS = (CLASS, VALUE, COUNT)
SIDE, BLOCK, FEATURES = 24, 4, 40
FEW = tuple(Growth(0.3, 4, 10.0, trees) for trees in (5, 15))


def labels(task: Task, risk: np.ndarray, exposure: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    if task.kind == "class":
        return (risk + chance.logistic(size=len(risk)) > 0).astype(float)
    if task.kind == "value":
        return risk + chance.normal(size=len(risk))
    return chance.poisson(exposure * np.exp(risk)).astype(float)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_planted_weights_are_found_and_noise_gets_none(task: Task) -> None:
    chance = np.random.default_rng(0)
    a, b, noise = chance.normal(0, 0.7, (3, 20_000))
    offset = np.log(chance.gamma(2, 1, 20_000)) if task.kind == "count" else np.zeros(20_000)
    label = labels(task, 0.8 * a + 0.3 * b + 0.2 - 0.2 * noise, np.exp(offset), chance)
    said = {"a": a + offset, "b": b + offset, "noise": noise + offset}
    join = learned_join(task, said, label, offset)
    assert join.weights[:2] == pytest.approx((0.8, 0.3), abs=0.06)
    assert join.weights[2] == 0.0
    assert join.intercept == pytest.approx(0.2, abs=0.06)
    expected = join.weights[0] * a + join.weights[1] * b + join.intercept + offset
    np.testing.assert_allclose(join.of(said, offset), expected, rtol=1e-12, atol=1e-12)
    assert str(join) == f"{join.weights[0]:.2f} a + {join.weights[1]:.2f} b + 0.00 noise"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_where_no_weight_would_be_negative_joins_are_scikit_learns_regressions(task: Task) -> None:
    chance = np.random.default_rng(1)
    x = chance.normal(0, 1, (500, 2))
    exposure = chance.gamma(2, 1, 500) if task.kind == "count" else np.ones(500)
    label = labels(task, x @ [0.6, 0.4] - 0.5, exposure, chance)
    offset = np.log(exposure)
    join = learned_join(task, {"a": x[:, 0] + offset, "b": x[:, 1] + offset}, label, offset)
    if task.kind == "class":
        theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, label)
    elif task.kind == "value":
        theirs = LinearRegression().fit(x, label)
    else:
        theirs = PoissonRegressor(alpha=1 / exposure.sum(), tol=1e-10, max_iter=1000)
        theirs.fit(x, label / exposure, sample_weight=exposure)
    np.testing.assert_allclose(join.weights, np.ravel(theirs.coef_), atol=1e-4)
    assert join.intercept == pytest.approx(float(np.ravel(theirs.intercept_)[0]), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(TASKS), st.integers(8, 60))
def test_weights_are_never_negative_and_finite(seed: int, task: Task, n: int) -> None:
    chance = np.random.default_rng(seed)
    said = {name: chance.normal(0, 3, n) for name in "abc"}
    label = labels(task, chance.normal(0, 1, n) - said["a"], np.ones(n), chance)
    join = learned_join(task, said, label)
    assert min(join.weights) >= 0.0
    assert np.isfinite([*join.weights, join.intercept]).all()


def test_labels_that_can_be_told_apart_have_an_end() -> None:
    logit = np.linspace(-2, 2, 40)
    join = learned_join(CLASS, {"a": logit}, (logit > 0).astype(float))
    assert 1.0 < join.weights[0] < 20.0


def made_up(task: Task, signal: float, seed: int = 0) -> tuple[Examples, KnownAmounts]:
    """Tiles whose risk is in one of three facts and, as far as `signal`, in a direction of the features."""
    chance = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(SIDE * SIDE), SIDE)
    n = len(row)
    facts = chance.normal(size=(n, 3))
    scene = chance.normal(size=(n, 4))
    shown = chance.normal(size=(4, FEATURES)) * [[3.0], [1.0], [1.0], [1.0]]
    features = scene @ shown + 0.3 * chance.normal(size=(n, FEATURES))
    features[chance.random(n) < 0.15] = np.nan
    exposure = chance.gamma(4, 0.5, n) if task.kind == "count" else np.ones(n)
    label = labels(task, facts[:, 0] + signal * scene[:, 0], exposure, chance)
    columns = tuple(Column(f"fact_{j}", "float64", "", "feature", "none", "A fact.") for j in range(3))
    key = np.array([f"26919/250/{c}/{r}" for r, c in zip(row, col, strict=True)], dtype=object)
    texts, area = np.empty((n, 0), object), np.full(n, 0.0625)
    picture = np.empty((n, 0), np.int64)
    examples = Examples(key, label, facts, columns, texts, (), area, (), (), picture, row, col, exposure)
    return examples, KnownAmounts(features=features)


def run(task: Task, examples: Examples, known: KnownAmounts) -> Baselines:
    assert examples.row is not None
    assert examples.col is not None
    folds = spatial_folds(examples.row, examples.col, high_risk(task, examples.label), 3, 0, BLOCK, 1)
    return baselines_out_of_fold(examples, folds, task, 0, known, BLOCK)


@pytest.fixture(autouse=True, scope="module")
def _few_trees() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judged, "GROWTHS", FEW)
        yield


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_what_pictures_show_and_facts_lack_is_found(task: Task) -> None:
    examples, known = made_up(task, signal=2.0)
    found = run(task, examples, known)
    high = high_risk(task, examples.label)
    rate = np.log(examples.exposure) if task.kind == "count" else 0.0
    score = {name: auroc(high, said[:, 0] - rate) for name, said in found.outputs.items()}
    assert score["boosting_with_image"] > score["boosting"] + 0.03
    assert score["stack"] > score["boosting"] + 0.05


def probe_weights(told: tuple[str, ...]) -> list[float]:
    lines = [line for line in told if line.startswith("stack, fold")]
    return [float(line.split(" probe")[0].split()[-1]) for line in lines]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_a_probe_of_noise_gets_next_to_nothing_and_harms_nothing(task: Task) -> None:
    found, without = [], []
    for seed in range(2):
        examples, known = made_up(task, signal=0.0, seed=seed)
        baselines = run(task, examples, known)
        found.append(baselines)
        rate = np.log(examples.exposure) if task.kind == "count" else 0.0
        high = high_risk(task, examples.label)
        stack, regression = (
            auroc(high, baselines.outputs[name][:, 0] - rate)
            for name in ("stack", "logistic" if task.kind == "class" else "regression")
        )
        without.append(stack - regression)
    assert min(without) > -0.03
    weights = [w for baselines in found for w in probe_weights(baselines.told)]
    assert np.median(weights) < 0.2
    assert min(weights) == 0.0


def test_tiles_without_a_picture_have_a_join_of_their_own() -> None:
    examples, known = made_up(CLASS, signal=1.0)
    assert known.features is not None
    train, test = np.arange(400), np.arange(400, 576)
    sample = Sample(examples, known.features)
    inner = spatial_folds(examples.row[train], examples.col[train], examples.label[train], 3, 0, BLOCK, 1)
    chance = np.random.default_rng(3)
    fact = examples.facts[:, 0]
    members = {
        "one": Member(fact[train] + 0.1 * chance.normal(size=400), fact[test]),
        "two": Member(chance.normal(size=400), chance.normal(size=176)),
    }
    said, note = stacked(CLASS, sample.taken(train), sample.taken(test), inner, members)
    inner_said = {name: member.inner for name, member in members.items()}
    join = learned_join(CLASS, inner_said, examples.label[train])
    alone = np.isnan(known.features[test]).any(axis=1)
    direct = join.of({name: member.unseen for name, member in members.items()})
    np.testing.assert_array_equal(said[alone], direct[alone])
    assert (said[~alone] != direct[~alone]).all()
    assert note.endswith(f"; without a picture {join}")


def test_too_few_pictures_for_a_probe_are_said() -> None:
    examples, known = made_up(CLASS, signal=1.0)
    assert known.features is not None
    features = known.features.copy()
    features[5:] = np.nan
    features[:5] = 1.0
    found = run(CLASS, examples, replace(known, features=features))
    assert any("; too few training tiles have a picture for a probe" in line for line in found.told)
    assert np.isfinite(found.outputs["stack"]).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_no_order_of_rows_changes_a_stack(task: Task) -> None:
    examples, known = made_up(task, signal=1.0)
    rows = np.random.default_rng(7).permutation(len(examples))
    before, after = run(task, examples, known), run(task, examples.taken(rows), known.taken(rows))
    assert after.told == before.told
    for name, said in before.outputs.items():
        np.testing.assert_array_equal(after.outputs[name], said[rows], err_msg=name)


def test_labels_of_a_test_fold_teach_its_stack_nothing() -> None:
    examples, known = made_up(CLASS, signal=1.0)
    folds = spatial_folds(examples.row, examples.col, examples.label, 3, 0, BLOCK, 1)
    held = folds.test_rows(1)
    label = examples.label.copy()
    label[held] = np.roll(label[held], 5)
    before = baselines_out_of_fold(examples, folds, CLASS, 0, known, BLOCK).outputs["stack"]
    other = replace(examples, label=label)
    after = baselines_out_of_fold(other, folds, CLASS, 0, known, BLOCK).outputs["stack"]
    np.testing.assert_array_equal(before[held], after[held])
    assert (before[folds.test_rows(0)] != after[folds.test_rows(0)]).any()
