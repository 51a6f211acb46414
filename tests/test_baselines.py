"""Baselines: a planted relation is found, no test row teaches its own answer, no order changes a score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from roadrisk.columns import Column
from roadrisk.learning.baselines import judged as baselines
from roadrisk.learning.baselines.boosting import GROWTHS, Growth, boosted_outputs
from roadrisk.learning.baselines.densities import densities
from roadrisk.learning.baselines.judged import (
    Baselines,
    KnownAmounts,
    baselines_out_of_fold,
    number_out_of_fold,
)
from roadrisk.learning.baselines.negative_binomial import fitted
from roadrisk.learning.baselines.pictured import principal_parts
from roadrisk.learning.baselines.regression import regressed_outputs
from roadrisk.learning.baselines.spf import SpfFacts, spf_out_of_fold
from roadrisk.learning.baselines.tuning import Sample, Tuned, chosen, total_loss
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds, random_folds, spatial_folds
from roadrisk.learning.judging.measures import auroc
from roadrisk.learning.labels.label import high_risk
from roadrisk.learning.tasks import Task
from roadrisk.progress import silent

SIDE, BLOCK = 20, 2
ROAD = Column("road_m", "float64", "m", "feature", "sum", "Centre-line length.")
SPEED = Column("speed", "float64", "km/h", "feature", "mean", "Speed limit.", by=("road_m",))
EMPTY = Column("empty", "float64", "", "feature", "none", "Nothing.")
FLAT = Column("flat", "float64", "", "feature", "none", "The same everywhere.")
USE = Column("use", "object", "", "feature", "mode", "Land use.")
FEW = tuple(Growth(0.3, leaves, 1.0, trees) for leaves in (3, 6) for trees in (5, 15))
NAMES = ("base_rate", "road_length", "logistic", "boosting", "boosting_with_image", "stack")
CLASS, VALUE = Task(), Task("value", "mse", ())
COUNT = Task("count", "poisson", (), "vkm")
THREE = Task("class", "cross-entropy", ("low", "middle", "high"))


@pytest.fixture(autouse=True, scope="module")
def _few_trees() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "GROWTHS", FEW)
        yield


def made_up(task: Task, seed: int = 0) -> Examples:
    """Tiles that are risky by road, by missing speed and by land use."""
    chance = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(SIDE * SIDE), SIDE)
    n = len(row)
    road_m = chance.gamma(2, 500, n)
    speed = chance.normal(50, 10, n)
    speed[chance.random(n) < 0.3] = np.nan
    use = chance.choice(np.array(["field", "harbour", "shops", None], object), n, p=[0.4, 0.2, 0.3, 0.1])
    risk = np.log(road_m / 1000) + 1.5 * (use == "shops") + 1.0 * np.isnan(speed) - 0.5
    exposure = np.ones(n)
    if task.kind == "count":
        exposure = chance.gamma(2, 2, n)
        label = chance.poisson(exposure * np.exp(risk)).astype(float)
    elif task.kind == "value":
        label = 100 + 10 * risk + chance.normal(0, 1, n)
    elif len(task.classes) == 3:
        label = np.digitize(risk + chance.logistic(0, 0.5, n), [-0.5, 0.7]).astype(float)
    else:
        label = (risk + chance.logistic(0, 0.5, n) > 0).astype(float)
    facts = np.stack([road_m, speed, np.full(n, np.nan), np.ones(n)], axis=1)
    key = np.array([f"26919/250/{c}/{r}" for r, c in zip(row, col, strict=True)], dtype=object)
    picture = np.full((n, 0), -1)
    columns = (ROAD, SPEED, EMPTY, FLAT)
    area = np.full(n, 0.0625)
    return Examples(
        key, label, facts, columns, use[:, None], (USE,), area, (), (), picture, row + 500, col - 3, exposure
    )


def folds_of(examples: Examples, task: Task, count: int = 3) -> Folds:
    assert examples.row is not None
    assert examples.col is not None
    high = high_risk(task, examples.label)
    return spatial_folds(examples.row, examples.col, high, count, 0, BLOCK, 1)


def run(examples: Examples, task: Task, folds: Folds | None = None, **given: Any) -> Baselines:
    folds = folds or folds_of(examples, task)
    road_m = [examples.facts[:, j] for j, column in enumerate(examples.columns) if column == ROAD]
    asked: dict[str, Any] = {"road_m": road_m[0] if road_m else None, "features": features_of(examples)}
    progress = given.pop("progress", silent)
    known = KnownAmounts(**asked | given)
    return baselines_out_of_fold(examples, folds, task, 0, known, BLOCK, progress)


def features_of(examples: Examples) -> np.ndarray:
    """What a picture shows of the speed, of which a fact in three is missing; of every fifth tile none."""
    speed = next(
        (examples.facts[:, j] for j, column in enumerate(examples.columns) if column == SPEED),
        np.zeros(len(examples)),
    )
    place = np.array([int(key.split("/")[3]) * SIDE + int(key.split("/")[2]) for key in examples.key])
    noise = np.random.default_rng(9).normal(size=(SIDE * SIDE, 8))[place]
    features = np.column_stack([np.isnan(speed) + 0.3 * noise[:, 0], noise])
    features[place % 5 == 0] = np.nan
    return features


@pytest.fixture(scope="module")
def of_classes(_few_trees: None) -> Baselines:
    return run(made_up(CLASS), CLASS)


def test_a_planted_relation_of_classes_is_found(of_classes: Baselines) -> None:
    label = made_up(CLASS).label
    found = {name: auroc(label, said[:, 0]) for name, said in of_classes.outputs.items()}
    assert tuple(found) == NAMES
    assert abs(found["base_rate"] - 0.5) < 0.1
    assert found["road_length"] > 0.65
    assert found["logistic"] > found["road_length"] + 0.1
    assert found["boosting"] > found["road_length"] + 0.05
    for name, said in of_classes.outputs.items():
        assert said.shape == (len(label), 1), name
        # logits: they are right on the whole
        assert np.mean(1 / (1 + np.exp(-said))) == pytest.approx(label.mean(), abs=0.04), name


def test_more_classes_have_a_logit_each() -> None:
    examples = made_up(THREE)
    baselines = run(examples, THREE)
    found = baselines.outputs
    assert "stack" not in found
    assert (
        "stack is not there: it joins what is said in one number, and 3 classes have as many"
        in baselines.told
    )
    own = examples.label.astype(int)
    share = {}
    for name, said in found.items():
        assert said.shape == (len(examples), 3)
        chance = np.exp(said - np.logaddexp.reduce(said, axis=1, keepdims=True))
        share[name] = -np.log(chance[np.arange(len(own)), own]).mean()
        assert chance.mean(axis=0) == pytest.approx(np.bincount(own) / len(own), abs=0.05), name
    assert share["logistic"] < share["road_length"] < share["base_rate"]
    assert share["boosting"] < share["base_rate"]


def test_a_class_that_no_training_tile_has_is_very_unlikely() -> None:
    examples = made_up(THREE)
    folds = folds_of(examples, THREE)
    label = examples.label.copy()
    label[(label == 1) & (folds.fold != 0)] = 0.0  # the middle is in the first fold alone
    found = run(replace(examples, label=label), THREE, folds)
    for name, said in found.outputs.items():
        assert np.isfinite(said).all(), name
        first = said[folds.fold == 0]
        chance = np.exp(first[:, 1] - np.logaddexp.reduce(first, axis=1))
        assert (chance < 0.01).all(), name


def test_counts_are_rates_of_exposure() -> None:
    examples = made_up(COUNT)
    baselines = run(examples, COUNT)
    found = baselines.outputs
    assert "stack is not there: there are too few training tiles for inner folds" in baselines.told
    assert tuple(found) == (
        "base_rate",
        "road_length",
        "regression",
        "spf_length",
        "boosting",
        "boosting_with_image",
    )
    loss = {}
    for name, said in found.items():
        expected = np.exp(said[:, 0])
        assert expected.sum() == pytest.approx(examples.label.sum(), rel=0.1), name
        loss[name] = (expected - examples.label * said[:, 0]).mean()
    assert loss["regression"] < loss["road_length"] < loss["base_rate"]
    assert loss["boosting"] < loss["road_length"]
    more = np.where(np.arange(len(examples)) % 2, 3.0, 1.0)
    folds = folds_of(examples, COUNT)
    test, train = folds.test_rows(0), folds.train_rows(0)
    longer = examples.exposure.copy()
    longer[test] *= more[test]
    for learner, choice in ((regressed_outputs, 10.0), (boosted_outputs, GROWTHS[0])):
        asked: Any = [choice]
        before, after = (
            learner(COUNT, examples.taken(train), replace(examples, exposure=e).taken(test), asked)[0][:, 0]
            for e in (examples.exposure, longer)
        )
        np.testing.assert_allclose(after - before, np.log(more[test]), atol=1e-9)


def test_values_are_in_their_unit() -> None:
    examples = made_up(VALUE)
    error = {
        name: np.abs(said[:, 0] - examples.label).mean()
        for name, said in run(examples, VALUE).outputs.items()
    }
    assert error["regression"] < error["road_length"] < error["base_rate"]
    assert error["boosting"] < error["road_length"]
    assert error["regression"] < 3.0


@pytest.mark.parametrize("task", [CLASS, COUNT, VALUE])
def test_labels_of_a_test_fold_change_nothing_of_what_is_said_of_it(task: Task) -> None:
    examples = made_up(task)
    folds = folds_of(examples, task)
    held = np.flatnonzero(folds.fold == 1)
    label = examples.label.copy()
    label[held] = np.roll(label[held], 7)
    before, after = run(examples, task, folds), run(replace(examples, label=label), task, folds)
    changed = 0
    for name, said in before.outputs.items():
        np.testing.assert_array_equal(said[held], after.outputs[name][held], err_msg=name)
        changed += (said[folds.fold != 1] != after.outputs[name][folds.fold != 1]).any()
    assert changed >= 3  # other folds learn from these


def test_facts_of_test_rows_and_of_the_buffer_teach_nothing() -> None:
    examples = made_up(CLASS)
    folds = folds_of(examples, CLASS)
    train, test = folds.train_rows(0), folds.test_rows(0)
    aside = np.setdiff1d(np.arange(len(examples)), np.concatenate([train, test]))
    assert len(aside)
    other = examples.facts.copy()
    other[aside] *= 1000.0
    other[test[1:]] *= 1000.0
    texts = examples.texts.copy()
    texts[test[1:]] = "moon"
    before = run(examples, CLASS, folds).outputs
    after = run(replace(examples, facts=other, texts=texts), CLASS, folds, road_m=other[:, 0]).outputs
    for name in NAMES:
        assert before[name][test[0]] == after[name][test[0]], name


def test_a_fact_that_tells_test_labels_alone_is_not_believed(of_classes: Baselines) -> None:
    examples = made_up(CLASS)
    folds = folds_of(examples, CLASS)
    chance = np.random.default_rng(5).random(len(examples))
    leak = np.where(folds.fold == 0, examples.label, chance)  # noise where the first fold learns
    columns = (*examples.columns, replace(FLAT, name="leak"))
    planted = replace(examples, facts=np.column_stack([examples.facts, leak]), columns=columns)
    found, test = run(planted, CLASS, folds).outputs, folds.test_rows(0)
    for name in ("logistic", "boosting"):
        honest = auroc(examples.label[test], of_classes.outputs[name][test, 0])
        assert auroc(examples.label[test], found[name][test, 0]) < honest + 0.05, name


def shuffled(examples: Examples, seed: int) -> tuple[Examples, np.ndarray]:
    chance = np.random.default_rng(seed)
    rows, columns = chance.permutation(len(examples)), chance.permutation(len(examples.columns))
    moved = examples.taken(rows)
    return replace(
        moved, facts=moved.facts[:, columns], columns=tuple(moved.columns[j] for j in columns)
    ), rows


@pytest.mark.parametrize("task", [CLASS, COUNT, VALUE])
def test_no_order_of_rows_or_columns_changes_a_score(task: Task) -> None:
    examples = made_up(task)
    folds = folds_of(examples, task)
    moved, rows = shuffled(examples, 3)
    np.testing.assert_array_equal(densities(moved), densities(examples)[rows])
    before, after = run(examples, task, folds), run(moved, task, folds.taken(rows))
    assert after.told == before.told
    for name, said in before.outputs.items():
        np.testing.assert_array_equal(after.outputs[name], said[rows], err_msg=name)
    number = number_out_of_fold(examples.facts[:, 0], examples, folds, task)
    np.testing.assert_array_equal(
        number_out_of_fold(examples.facts[rows, 0], moved, folds.taken(rows), task), number[rows]
    )


def test_order_of_text_columns_changes_nothing(of_classes: Baselines) -> None:
    examples = made_up(CLASS)
    other = replace(USE, name="a")
    both = replace(
        examples, texts=np.hstack([examples.texts, examples.texts[::-1]]), text_columns=(USE, other)
    )
    turned = replace(both, texts=both.texts[:, ::-1], text_columns=(other, USE))
    before, after = run(both, CLASS).outputs, run(turned, CLASS).outputs
    for name in NAMES:
        np.testing.assert_array_equal(before[name], after[name])
    assert (before["logistic"] != of_classes.outputs["logistic"]).any()


def test_the_same_seed_gives_the_same_on_any_number_of_threads(of_classes: Baselines) -> None:
    with threadpool_limits(limits=2):
        again = run(made_up(CLASS), CLASS)
    for name, said in of_classes.outputs.items():
        np.testing.assert_array_equal(said, again.outputs[name])


def test_grids_and_choices_are_told(of_classes: Baselines) -> None:
    told = of_classes.told
    grown = "12, 25, 50 or 100 trees of 4, 8 or 16 leaves, rate 0.2, l2 10"
    assert told[:5] == (
        "spf_length is not there: the classes are not cut from counts of events",
        "logistic: by least loss in 3 inner folds, of a penalty of 1, 10, 100 or 1000",
        f"boosting: by least loss in 3 inner folds, of {grown}",
        f"boosting_with_image: by least loss in 3 inner folds, of {grown}, on the facts and 32 principal "
        "components of frozen features",
        "stack: logistic, boosting and a linear probe on frozen features (a penalty of 100, 1000, 10000 or "
        "100000), joined by a regression without negative weights on what each says out of the inner folds; "
        "the first two alone where a tile has no picture",
    )
    names = ("logistic", "boosting", "boosting_with_image", "stack")
    assert [line.split(":")[0] for line in told[5:]] == [
        f"{name}, fold {k}" for k in (1, 2, 3) for name in names
    ]
    assert all("(loss 0." in line for line in told[5:])
    assert all("without a picture" in line for line in told[5:] if line.startswith("stack"))


def test_the_choice_is_that_of_least_loss_on_inner_folds_and_its_outputs_are_kept() -> None:
    examples = made_up(CLASS)
    inner = folds_of(examples, CLASS)
    losses, kept = [], []
    for growth in FEW:
        outputs = np.empty((len(examples), 1))
        for k in range(inner.count):
            test = inner.test_rows(k)
            train = examples.taken(inner.train_rows(k))
            [outputs[test]] = boosted_outputs(CLASS, train, examples.taken(test), [growth])
        chance = 1 / (1 + np.exp(-outputs[:, 0]))
        losses.append(-np.log(np.where(examples.label == 1, chance, 1 - chance)).sum())
        kept.append(outputs)

    def learner(task: Task, train: Sample, unseen: Sample, growths: Any) -> list[np.ndarray]:
        return boosted_outputs(task, train.examples, unseen.examples, growths)

    sample = Sample(examples, np.empty((len(examples), 0)))
    found = chosen(Tuned("boosting", learner, FEW, ""), sample, CLASS, inner)
    best = int(np.argmin(losses))
    assert found.choice == FEW[best]
    assert found.note == f" (loss {min(losses) / len(examples):.4f})"
    np.testing.assert_array_equal(found.out_of_fold, kept[best][:, 0])


def test_losses_are_those_of_the_task() -> None:
    said, label = np.array([[0.3], [-1.2], [2.0]]), np.array([1.0, 0.0, 3.0])
    assert total_loss(VALUE, said, label) == pytest.approx(0.7**2 + 1.2**2 + 1.0)
    assert total_loss(COUNT, said, label) == pytest.approx((np.exp(said[:, 0]) - label * said[:, 0]).sum())
    chance = 1 / (1 + np.exp(-said[:2, 0]))
    assert total_loss(CLASS, said[:2], label[:2]) == pytest.approx(-np.log(chance[0]) - np.log(1 - chance[1]))
    assert total_loss(THREE, np.zeros((2, 3)), np.array([0.0, 2.0])) == pytest.approx(2 * np.log(3))


def test_too_few_tiles_to_choose_are_said() -> None:
    examples = made_up(CLASS).taken(np.arange(24))
    label = np.zeros(24)
    label[[3, 20]] = 1.0
    few = replace(examples, label=label)
    folds = random_folds(few.key, label, 2, 0)
    found = run(few, CLASS, folds)
    assert sum("too few training tiles to choose" in line for line in found.told) == 6
    assert "stack is not there: there are too few training tiles for inner folds" in found.told
    assert "stack" not in found.outputs
    assert all(np.isfinite(said).all() for said in found.outputs.values())


def test_tiles_without_places_have_random_inner_folds() -> None:
    examples = replace(made_up(CLASS), row=None, col=None)
    found = run(examples, CLASS, random_folds(examples.key, examples.label, 3, 0))
    assert auroc(examples.label, found.outputs["logistic"][:, 0]) > 0.7


@pytest.mark.parametrize("road_m", [None, np.full(SIDE * SIDE, np.nan), np.full(SIDE * SIDE, 7.0)])
def test_without_lengths_of_road_there_is_no_such_baseline(road_m: np.ndarray | None) -> None:
    examples = replace(made_up(CLASS), facts=np.empty((SIDE * SIDE, 0)), columns=())
    found = run(
        replace(examples, texts=np.empty((SIDE * SIDE, 0), object), text_columns=()), CLASS, road_m=road_m
    )
    assert list(found.outputs) == ["base_rate"]
    assert found.told == (
        "road_length is not there: no lengths of road are known that differ",
        found.told[1],
        "logistic, boosting, boosting_with_image and stack are not there: there are no facts",
    )
    assert found.told[1].startswith("spf")


def test_road_length_ranks_tiles_of_a_fold_by_their_road() -> None:
    examples = made_up(CLASS)
    road_m = examples.facts[:, 0].copy()
    road_m[::9] = np.nan
    folds = folds_of(examples, CLASS)
    said = run(examples, CLASS, folds, road_m=road_m).outputs["road_length"][:, 0]
    assert np.isfinite(said).all()
    for k in range(folds.count):
        known = (folds.fold == k) & ~np.isnan(road_m)
        np.testing.assert_array_equal(np.argsort(said[known]), np.argsort(road_m[known]))


def test_regressions_are_scikit_learns_on_logarithms_of_densities() -> None:
    for task in (CLASS, VALUE):
        examples = replace(made_up(task), texts=np.empty((SIDE * SIDE, 0), object), text_columns=())
        train, test = np.arange(300), np.arange(300, 400)
        x = np.log1p(examples.facts[:, [0, 1]] / np.stack([examples.area_km2, np.ones(400)], axis=1))
        x = (x - np.nanmean(x[train], axis=0)) / np.nanstd(x[train], axis=0)
        x = np.column_stack([np.nan_to_num(x), np.isnan(examples.facts[:, 1])])
        y = examples.label
        [ours] = regressed_outputs(task, examples.taken(train), examples.taken(test), [10.0])
        if task.kind == "class":
            theirs = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(x[train], y[train])
            expected = theirs.decision_function(x[test])
        else:
            expected = Ridge(alpha=10.0).fit(x[train], y[train]).predict(x[test])
        np.testing.assert_allclose(ours[:, 0], expected, atol=2e-4)


def test_a_regression_of_counts_allows_more_variance_than_a_poisson() -> None:
    examples = replace(made_up(COUNT), texts=np.empty((SIDE * SIDE, 0), object), text_columns=())
    unlucky = np.random.default_rng(2).gamma(0.5, 2.0, len(examples))
    examples = replace(examples, label=np.floor(examples.label * unlucky))
    train, test = examples.taken(np.arange(300)), examples.taken(np.arange(300, 400))
    [ours] = regressed_outputs(COUNT, train, test, [10.0])
    x = np.log1p(examples.facts[:, [0, 1]] / np.stack([examples.area_km2, np.ones(400)], axis=1))
    x = (x - np.nanmean(x[:300], axis=0)) / np.nanstd(x[:300], axis=0)
    x = np.column_stack([np.nan_to_num(x), np.isnan(examples.facts[:, 1])])
    found = fitted(x[:300], train.label, np.log(train.exposure), 10.0)
    assert found.k > 0.3
    np.testing.assert_allclose(ours[:, 0], found.log_mean(x[300:], np.log(test.exposure)), atol=1e-9)


def test_bins_are_scikit_learns() -> None:
    examples = replace(made_up(CLASS), texts=np.empty((SIDE * SIDE, 0), object), text_columns=())
    growth = Growth(0.2, 6, 10.0, 20)
    train, test = examples.taken(np.arange(300)), examples.taken(np.arange(300, 400))
    [ours] = boosted_outputs(CLASS, train, test, [growth])
    theirs = HistGradientBoostingClassifier(
        learning_rate=0.2,
        max_leaf_nodes=6,
        l2_regularization=10.0,
        max_iter=20,
        max_bins=64,
        early_stopping=False,
    )
    x = densities(train)
    told = ~np.isnan(x).all(axis=0)
    with threadpool_limits(limits=1):
        theirs.fit(x[:, told], train.label)
        np.testing.assert_array_equal(ours[:, 0], theirs.decision_function(densities(test)[:, told]))


def test_trees_grown_together_are_those_grown_alone() -> None:
    examples = made_up(CLASS)
    train, test = examples.taken(np.arange(300)), examples.taken(np.arange(300, 400))
    growths = [Growth(0.1, 4, 1.0, 30), Growth(0.1, 4, 1.0, 5), Growth(0.3, 3, 1.0, 5)]
    together = boosted_outputs(CLASS, train, test, growths)
    for growth, said in zip(growths, together, strict=True):
        np.testing.assert_array_equal(boosted_outputs(CLASS, train, test, [growth])[0], said)


def test_texts_not_met_and_rare_ones_are_as_missing() -> None:
    examples = made_up(CLASS)
    train, test = examples.taken(np.arange(300)), examples.taken(np.arange(300, 400))
    moon, gone = test.texts.copy(), test.texts.copy()
    moon[:], gone[:] = "moon", None
    for learner, choice in ((regressed_outputs, 10.0), (boosted_outputs, GROWTHS[0])):
        asked: Any = [choice]
        [unseen] = learner(CLASS, train, replace(test, texts=moon), asked)
        [missing] = learner(CLASS, train, replace(test, texts=gone), asked)
        [as_is] = learner(CLASS, train, test, asked)
        np.testing.assert_array_equal(unseen, missing)
        assert (as_is != missing).any()
    streets = np.array([f"street {n % 250}" for n in range(300)], object)[:, None]
    [many] = boosted_outputs(CLASS, replace(train, texts=streets), test, GROWTHS[:1])
    assert np.isfinite(many).all()


def test_progress_is_told() -> None:
    steps: list[tuple[str, int, int, str]] = []
    run(made_up(CLASS), CLASS, progress=lambda *step: steps.append(step))
    assert [step[1] for step in steps] == list(range(1, 13))
    assert {(step[0], step[2]) for step in steps} == {("baselines", 12)}


def test_an_spf_takes_volumes_that_cover_enough_of_the_road() -> None:
    examples = made_up(COUNT)
    road_m = examples.facts[:, 0]
    aadt = np.random.default_rng(4).lognormal(8, 1, len(examples))
    folds = folds_of(examples, COUNT)
    known = KnownAmounts(road_m, aadt=aadt)
    bare = replace(
        examples,
        facts=np.empty((len(examples), 0)),
        columns=(),
        texts=np.empty((len(examples), 0), object),
        text_columns=(),
    )
    enough = baselines_out_of_fold(bare, folds, COUNT, 0, known, BLOCK)
    little = baselines_out_of_fold(bare, folds, COUNT, 0, replace(known, aadt=None), BLOCK)
    assert tuple(enough.outputs) == ("base_rate", "road_length", "spf")
    assert tuple(little.outputs) == ("base_rate", "road_length", "spf_length")
    direct = spf_out_of_fold(examples, folds, COUNT, examples.label, None, SpfFacts(road_m, aadt))
    np.testing.assert_array_equal(enough.outputs["spf"], direct.outputs)


def test_without_features_no_baseline_looks_at_pictures() -> None:
    examples = made_up(CLASS)
    for features in (None, np.full((len(examples), 5), np.nan)):
        found = run(examples, CLASS, features=features)
        assert tuple(found.outputs) == ("base_rate", "road_length", "logistic", "boosting", "stack")
        assert "boosting_with_image is not there: there are no frozen features of pictures" in found.told
        assert sum("there are no frozen features for a probe" in line for line in found.told) == 1


def test_features_of_test_rows_teach_nothing_and_tiles_without_a_picture_are_said_by_facts(
    of_classes: Baselines,
) -> None:
    examples = made_up(CLASS)
    folds, features = folds_of(examples, CLASS), features_of(examples)
    seen = np.isfinite(features).all(axis=1)
    test = folds.test_rows(0)
    other = features.copy()
    other[test] *= -50.0
    kept = test[~seen[test]]
    assert len(kept)
    after = run(examples, CLASS, folds, features=other).outputs
    for name, before in of_classes.outputs.items():
        np.testing.assert_array_equal(after[name][kept], before[kept], err_msg=name)
    shown, name = test[seen[test]], "boosting_with_image"
    assert (after[name][shown] != of_classes.outputs[name][shown]).any()


def test_principal_components_are_those_of_training_tiles_with_a_picture() -> None:
    chance = np.random.default_rng(0)
    features = chance.normal(size=(300, 3)) @ chance.normal(size=(3, 50)) + 0.01 * chance.normal(
        size=(300, 50)
    )
    features[:, 7] = 4.0  # tells nothing
    features[::6] = np.nan
    train, unseen = features[:200], features[200:]
    found = principal_parts(train)(unseen)
    assert found.shape == (100, 32)
    known = np.isfinite(unseen).all(axis=1)
    assert np.isnan(found[~known]).all()
    rows = train[np.isfinite(train).all(axis=1)]
    varied = np.arange(50) != 7
    mean, std = rows[:, varied].mean(axis=0), rows[:, varied].std(axis=0)
    full = PCA(3, svd_solver="full").fit((rows[:, varied] - mean) / std)
    expected = full.transform((unseen[known][:, varied] - mean) / std)
    np.testing.assert_allclose(np.abs(found[known][:, :3]), np.abs(expected), atol=1e-3)
    assert principal_parts(train[:1])(unseen).shape == (100, 0)
    assert principal_parts(np.empty((5, 0)))(np.empty((4, 0))).shape == (4, 0)
