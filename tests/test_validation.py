"""Cross-validation: the same seed, no order, frozen is frozen, and nothing learned from test tiles."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_examples import COLUMNS, folds_of, made_up, run
from torchvision.models import resnet34

from roadrisk.errors import ModelError
from roadrisk.learning.architecture import ViewInput, architecture_of
from roadrisk.learning.folds import random_folds
from roadrisk.learning.judging.measures import auroc
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.pictures.weights import State, weights_identity
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import Task
from roadrisk.learning.validation import FoldModel, Training, _watched


@pytest.fixture(scope="module")
def encoder() -> State:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return {n: v for n, v in resnet34(weights=None).state_dict().items() if not n.startswith("fc.")}


def same_model(first: FoldModel, second: FoldModel) -> bool:
    return first.preparation == second.preparation and all(
        torch.equal(first.state[name], second.state[name]) for name in first.state | second.state
    )


def test_learns_from_picture_and_facts_together(tmp_path: Path) -> None:
    examples = made_up()
    label, seen = examples.label, examples.has_image
    score = {
        inputs: run(examples, tmp_path, inputs=inputs, epochs=30, patience=30, dropout=0.0).validation.outputs
        for inputs in ("both", "image", "facts")
    }
    skill = {inputs: auroc(label[seen], outputs[seen, 0]) for inputs, outputs in score.items()}
    assert skill["both"] > max(skill["image"], skill["facts"]) + 0.03
    assert min(skill.values()) > 0.6


def test_same_seed_same_weights_and_other_seed_others(tmp_path: Path) -> None:
    examples = made_up()
    outside = torch.random.get_rng_state()
    first = run(examples, tmp_path / "a").validation
    assert torch.equal(torch.random.get_rng_state(), outside), "the global generator is as it was"
    torch.manual_seed(99)
    second = run(examples, tmp_path / "b").validation
    other = run(examples, tmp_path / "a", seed=1).validation
    assert np.array_equal(first.outputs, second.outputs)
    assert all(same_model(a, b) for a, b in zip(first.models, second.models, strict=True))
    assert not any(same_model(a, b) for a, b in zip(first.models, other.models, strict=True))
    assert not same_model(first.models[0], first.models[1])


def test_no_order_of_rows_or_columns_changes_a_score(tmp_path: Path) -> None:
    examples = made_up()
    chance = np.random.default_rng(5)
    rows, columns = chance.permutation(len(examples)), [2, 0, 1]
    turned = replace(
        examples.taken(rows),
        facts=examples.facts[rows][:, columns],
        columns=tuple(COLUMNS[index] for index in columns),
    )
    first = run(examples, tmp_path).validation
    second = run(turned, tmp_path).validation
    assert np.array_equal(first.outputs[rows], second.outputs)
    assert np.array_equal(first.fold[rows], second.fold)
    assert all(same_model(a, b) for a, b in zip(first.models, second.models, strict=True))


def test_test_tiles_and_their_neighbours_teach_nothing(tmp_path: Path) -> None:
    """Whatever stands in rows that a fold may not learn from, its model is the same to the bit."""
    examples = made_up()
    folds = folds_of(examples)
    outside = np.setdiff1d(np.arange(len(examples)), folds.train_rows(0))
    assert len(outside) > len(folds.test_rows(0))
    facts, label = examples.facts.copy(), examples.label.copy()
    facts[outside, :2] *= 1000
    label[outside] = 1 - label[outside]
    changed = replace(examples, facts=facts, label=label)
    first = run(examples, tmp_path, folds=folds).validation
    second = run(changed, tmp_path, folds=folds).validation
    assert same_model(first.models[0], second.models[0])
    assert not same_model(first.models[1], second.models[1])


def test_columns_that_do_not_vary_are_left_out_and_said(tmp_path: Path) -> None:
    for model in run(made_up(), tmp_path, epochs=1).validation.models:
        assert [fact.column for fact in model.preparation.facts] == ["road_m", "speed"]
        assert model.preparation.dropped == (("flat", "the same in every training tile"),)


def test_a_branch_without_anything_to_learn_from_is_refused(tmp_path: Path) -> None:
    examples = made_up()
    unseen = replace(examples, picture=np.full((len(examples), 1), -1))
    with pytest.raises(ModelError, match=r"^no training tile has a picture.*; use --inputs facts"):
        run(unseen, tmp_path)
    with pytest.raises(ModelError, match=r"^no fact differs between training tiles; use --inputs image"):
        run(replace(examples, facts=np.ones_like(examples.facts)), tmp_path)
    run(unseen, tmp_path, inputs="facts", epochs=1)


def test_a_frozen_encoder_trains_a_head_and_stays_as_it_was(tmp_path: Path, encoder: State) -> None:
    before = weights_identity(encoder)
    examples = made_up()
    few = examples.taken(np.flatnonzero(examples.has_image)[:12])
    few = replace(few, label=np.arange(12) % 2.0)
    folds = random_folds(few.key, few.label, 2, 0)
    validation = run(few, tmp_path, encoder, folds, epochs=2).validation
    assert weights_identity(encoder) == before
    assert {"image.0.fc.weight", "facts.fc1.weight", "fusion.linear.weight"} <= set(
        validation.models[0].state
    )
    assert not any("running_mean" in name for name in validation.models[0].state)


def test_the_watched_part_is_like_the_others() -> None:
    """The block with most high risk is dealt first; alone it would be a part that is like no other."""
    row, col = np.divmod(np.arange(400), 20)
    label = ((row % 4 == 0) & (col % 4 == 0)).astype(float)  # one in each block of 4 x 4
    label[(row < 4) & (col < 3)] = 1.0
    examples = replace(made_up().taken(np.zeros(400, np.int64)), key=np.arange(400).astype(str), label=label)
    examples = replace(examples, row=row, col=col)
    settings = resolved(TrainSettings(encoder="basic"))
    training = Training(settings, fabric_of(settings), block=4, buffer=0)
    architecture = architecture_of(settings, Task(), (ViewInput("aerial", 32),))
    learned, watched = _watched(examples, architecture, training, 0, [])
    assert watched is not None
    assert abs(watched.label.mean() - label.mean()) < 0.05  # with the rich block it is 0.15
    assert learned.label[(learned.row < 4) & (learned.col < 4)].sum() == 12  # the rich block is learned from
    assert not set(learned.key) & set(watched.key)
