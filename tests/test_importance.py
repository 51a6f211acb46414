"""Permutation importance: nothing where a group has no influence, all where it has all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learning_examples import CPU, made_up, run

from roadrisk.columns import Column
from roadrisk.learning.baselines.boosting import Growth, boosted_outputs
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds, spatial_folds
from roadrisk.learning.judging.evaluation import Importance
from roadrisk.learning.judging.importance import FoldWord, groups_of, importances, network_words
from roadrisk.learning.judging.measures import auroc_fold_mean, deviance
from roadrisk.learning.tasks import Task

SIDE, N = 20, 400
COLUMNS = (
    Column("a_sum", "float64", "", "feature", "none", "", "alpha"),
    Column("b_sum", "float64", "", "feature", "none", "", "beta"),
    Column("a_copy", "float64", "", "feature", "none", "", "alpha"),
    Column("own", "float64", "", "feature", "none", ""),
)
USE = Column("use", "object", "", "feature", "mode", "", "beta")
CLASS, COUNT, VALUE = Task(), Task("count", "poisson", ()), Task("value", "mse", ())


def tiles(task: Task, seed: int = 0) -> Examples:
    """The label follows `a_sum` alone, which `a_copy` tells as well."""
    chance = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(N), SIDE)
    facts = chance.normal(size=(N, 4))
    facts[:, 2] = facts[:, 0]
    label = {
        "class": (facts[:, 0] > 0.8).astype(float),
        "count": chance.poisson(np.exp(facts[:, 0])).astype(float),
        "value": 10 * facts[:, 0],
    }[task.kind]
    return Examples(
        key=np.array([f"t{n:03d}" for n in range(N)], object),
        label=label,
        facts=facts,
        columns=COLUMNS,
        texts=chance.choice(np.array(["a", "b", None], object), (N, 1)),
        text_columns=(USE,),
        area_km2=np.ones(N),
        views=("aerial", "context"),
        pictures=((), ()),
        picture=np.stack([np.arange(N), chance.permutation(N)], axis=1),
        row=row,
        col=col,
        exposure=np.ones(N),
    )


def folds_of(examples: Examples) -> Folds:
    assert examples.row is not None
    assert examples.col is not None
    high = (examples.facts[:, 0] > 0.8).astype(float)
    return spatial_folds(examples.row, examples.col, high, 4, 0)


def asked(task: Task, word: FoldWord, seed: int = 0, repeats: int = 5) -> dict[str, Importance]:
    examples = tiles(task)
    folds = folds_of(examples)
    return {one.group: one for one in importances([word] * 4, examples, folds, task, seed, repeats)}


def by_column(index: int, scale: float = 1.0) -> FoldWord:
    return lambda examples: scale * examples.facts[:, index : index + 1]


def test_groups_are_sources_then_views() -> None:
    groups = groups_of(tiles(CLASS))
    assert [(group.name, group.columns) for group in groups] == [
        ("alpha", ("a_copy", "a_sum")),
        ("beta", ("b_sum", "use")),
        ("own", ("own",)),
        ("aerial", ()),
        ("context", ()),
    ]
    assert [(group.numbers, group.texts, group.views) for group in groups[1:4]] == [
        ((1,), (0,), ()),
        ((3,), (), ()),
        ((), (), (0,)),
    ]


@pytest.mark.parametrize("task", [CLASS, COUNT, VALUE])
def test_what_is_not_asked_is_worth_nothing(task: Task) -> None:
    found = asked(task, by_column(0, 10.0 if task is VALUE else 1.0))
    assert found["alpha"].loss > 0.1
    for name in ("beta", "own", "aerial", "context"):
        assert (found[name].loss, found[name].low, found[name].high) == (0, 0, 0)


def test_the_group_that_carries_all_has_the_whole_drop() -> None:
    examples = tiles(CLASS)
    folds = folds_of(examples)
    whole = auroc_fold_mean(examples.label, examples.facts[:, 0], folds.fold)
    found = asked(CLASS, by_column(0), repeats=40)["alpha"]
    assert whole == 1
    assert found.metric == "auroc_fold_mean"
    assert found.loss == pytest.approx(whole - 0.5, abs=0.02)
    assert found.low < found.loss < found.high


def test_columns_of_a_group_change_places_together() -> None:
    # a difference of two columns that are alike stays nothing wherever both go
    found = asked(CLASS, lambda e: e.facts[:, :1] - e.facts[:, 2:3] + 0.1 * e.facts[:, 1:2])
    assert found["alpha"].loss == 0
    assert found["beta"].loss != 0


def test_numbers_and_texts_of_a_group_change_places_together() -> None:
    examples = tiles(CLASS)
    texts = np.where(examples.facts[:, 1] > 0, "high", "low").astype(object)[:, None]
    examples = replace(examples, texts=texts)

    def word(asked: Examples) -> np.ndarray:
        torn = (asked.texts[:, 0] == "high") != (asked.facts[:, 1] > 0)
        return (asked.facts[:, 0] - 9.0 * torn)[:, None]

    found = {one.group: one.loss for one in importances([word] * 4, examples, folds_of(examples), CLASS, 0)}
    assert found["beta"] == 0


def test_losses_are_in_the_tasks_own_measure() -> None:
    counted = asked(COUNT, by_column(0))["alpha"]
    examples = tiles(COUNT)
    chance = np.random.default_rng(0)
    expected = [np.exp(chance.permutation(examples.facts[:, 0])) for _ in range(200)]
    rise = np.mean([deviance(examples.label, one) for one in expected]) - deviance(
        examples.label, np.exp(examples.facts[:, 0])
    )
    assert counted.metric == "deviance"
    assert counted.loss == pytest.approx(rise, rel=0.2)
    value = asked(VALUE, by_column(0, 10.0), repeats=40)["alpha"]
    # of two independent draws of one distribution
    spread = 10 * tiles(VALUE).facts[:, 0].std() * np.sqrt(2)
    assert (value.metric, value.loss) == ("rmse", pytest.approx(spread, rel=0.05))


def test_views_are_groups() -> None:
    brightness = np.random.default_rng(3).normal(size=N)
    found = asked(VALUE, lambda e: e.facts[:, :1] + brightness[e.picture[:, 1:2]])
    assert found["aerial"].loss == 0
    assert found["context"].high != found["context"].low


def test_tiles_keep_to_their_fold() -> None:
    examples = tiles(CLASS)
    folds = folds_of(examples)
    inside = [examples.taken(folds.test_rows(k)) for k in range(4)]

    def word_of(k: int) -> FoldWord:
        def word(asked: Examples) -> np.ndarray:
            # each shuffle holds every value once
            for value, own in ((asked.facts, inside[k].facts), (asked.picture, inside[k].picture)):
                shuffles = value.reshape(-1, *own.shape)
                np.testing.assert_array_equal(
                    np.sort(shuffles, axis=1), np.broadcast_to(np.sort(own, axis=0), shuffles.shape)
                )
            return asked.facts[:, :1]

        return word

    assert importances([word_of(k) for k in range(4)], examples, folds, CLASS, 0)


def test_the_seed_and_no_order_changes_the_losses() -> None:
    examples = tiles(CLASS)
    word = by_column(0)
    first = importances([word] * 4, examples, folds_of(examples), CLASS, 0)
    again = importances([word] * 4, examples, folds_of(examples), CLASS, 0)
    assert first == again
    assert importances([word] * 4, examples, folds_of(examples), CLASS, 1) != first
    order = np.random.default_rng(1).permutation(N)
    other = importances([word] * 4, examples.taken(order), folds_of(examples).taken(order), CLASS, 0)
    assert other == first
    # without the last source the others are shuffled as before
    fewer = replace(examples, views=(), pictures=(), picture=examples.picture[:, :0])
    assert importances([word] * 4, fewer, folds_of(examples), CLASS, 0) == first[:3]


def test_boosting_draws_on_what_the_label_follows() -> None:
    examples = tiles(CLASS)
    folds = folds_of(examples)

    def word_of(k: int) -> FoldWord:
        train = examples.taken(folds.train_rows(k))
        return lambda asked: boosted_outputs(CLASS, train, asked, [Growth(0.3, 4, 1.0, 10)])[0]

    found = {one.group: one for one in importances([word_of(k) for k in range(4)], examples, folds, CLASS, 0)}
    assert found["alpha"].loss > 0.4
    assert abs(found["own"].loss) < 0.05


@pytest.mark.slow
def test_networks_draw_on_picture_and_road(tmp_path: Path) -> None:
    examples = made_up()
    found = run(examples, tmp_path, epochs=30)
    words = network_words(found.validation.models, found.architecture, found.feeds, CPU)
    folds = Folds(found.validation.fold, 3)
    # what the words say of the tiles as they are is what the cross-validation said
    for k in range(3):
        test = folds.test_rows(k)
        said = words[k](examples.taken(test))
        np.testing.assert_allclose(said, found.validation.outputs[test], atol=1e-5)
    loss = {one.group: one.loss for one in importances(words, examples, folds, CLASS, 0)}
    assert set(loss) == {"aerial", "road_m", "speed", "flat"}
    assert loss["flat"] == 0
    assert min(loss["aerial"], loss["road_m"]) > max(0.02, loss["speed"])
