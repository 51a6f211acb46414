"""Contributions add up to the score, and each is what its definition says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from explaining_examples import (
    COLUMNS,
    CPU,
    SURFACE,
    TILES,
    feeds_of,
    model_of,
    tiles,
    with_states,
)
from learning_examples import made_up, run

from roadrisk.errors import ModelError
from roadrisk.learning.examples import Examples
from roadrisk.learning.explaining.columns import known_by, owners
from roadrisk.learning.explaining.contributions import (
    LEAST_LOST,
    POINTS_FIRST,
    SHARE_LOST,
    Contributions,
    contributions,
)
from roadrisk.learning.explaining.integrating import integrated
from roadrisk.learning.explaining.nearest import distances
from roadrisk.learning.explaining.reasons import explained_score, reasons_fields, sentences
from roadrisk.learning.model import Model, Scores, fold_network, fold_outputs, scores
from roadrisk.learning.validation import network_inputs

EXAMPLES = tiles()


def explained(model: Model, examples: Examples = EXAMPLES) -> Contributions:
    return contributions(model, examples, feeds_of(model, examples), CPU)


def scored(model: Model, examples: Examples = EXAMPLES) -> Scores:
    outputs = fold_outputs(model.architecture, model.fold_models, examples, feeds_of(model, examples), CPU)
    return scores(model, examples, outputs)


def one_fold(model: Model) -> Model:
    """Of which no tile is a training tile."""
    return replace(model, fold_models=model.fold_models[:1], out_of_fold=model.out_of_fold.iloc[:0])


@pytest.mark.parametrize(
    ("task", "facts", "fusion"),
    [
        ("class", "dense", "concat"),
        ("class", "embedding", "attention"),
        ("three", "dense", "gate"),
        ("three", "embedding", "mlp"),
        ("count", "dense", "mlp"),
        ("count", "embedding", "gate"),
        ("value", "dense", "attention"),
        ("value", "embedding", "concat"),
    ],
)
def test_base_and_contributions_are_the_score_of_the_layer(task: str, facts: str, fusion: str) -> None:
    model = model_of(EXAMPLES, task, facts, fusion=fusion)
    found = explained(model)
    total = found.base + found.views.sum(axis=1) + found.facts.sum(axis=1)
    assert np.abs(total - found.score).max() < 1e-9
    assert np.abs(total - explained_score(model.architecture.task, scored(model))).max() < 1e-4
    assert found.complete
    assert (found.lost <= np.maximum(SHARE_LOST * np.abs(found.all_facts), LEAST_LOST)).all()
    assert np.abs(found.facts).max() > 1e-3


@pytest.mark.parametrize("inputs", ["image", "facts"])
def test_a_model_of_one_side_is_explained_by_that_side(inputs: str) -> None:
    examples = (
        EXAMPLES
        if inputs == "image"
        else replace(EXAMPLES, views=(), pictures=(), picture=EXAMPLES.picture[:, :0])
    )
    model = model_of(examples, facts=None if inputs == "image" else "dense")
    found = explained(model, examples)
    assert found.facts.shape[1] == (0 if inputs == "image" else 3)
    assert found.views.shape[1] == (1 if inputs == "image" else 0)
    assert (
        np.abs(found.base + found.picture + found.all_facts - scored(model, examples).outputs[:, 0]).max()
        < 1e-5
    )


def test_turned_pictures_and_several_views_add_up() -> None:
    examples = tiles(views=3)
    model = model_of(examples, "three", augment=True, fusion="attention")
    found = explained(model, examples)
    total = found.base + found.views.sum(axis=1) + found.facts.sum(axis=1)
    assert np.abs(total - explained_score(model.architecture.task, scored(model, examples))).max() < 1e-4
    seen = examples.picture >= 0
    assert (found.views[~seen] == 0).all()
    assert (np.abs(found.views[seen]) > 0).all()


@pytest.mark.parametrize("fusion", ["mlp", "gate"])
def test_sides_are_shapley_values_of_the_network_itself(fusion: str) -> None:
    """The four scores by hand: with and without the picture, with the tile's facts and typical ones."""
    model = one_fold(model_of(EXAMPLES, fusion=fusion))
    network = fold_network(model.architecture, model.fold_models[0])
    examples = EXAMPLES.taken(np.flatnonzero(EXAMPLES.has_image & EXAMPLES.has_facts))
    rows = np.arange(len(examples))
    inputs = network_inputs(
        examples, model.fold_models[0].preparation, model.architecture, feeds_of(model, examples)
    )
    batch = inputs.batch(rows, np.zeros_like(rows), CPU)
    typical = torch.zeros_like(batch.numbers)
    typical[:, -3:] = 1 / 3  # of the three surfaces

    def said(shown: bool, numbers: torch.Tensor) -> np.ndarray:
        seen = (
            batch
            if shown
            else batch._replace(
                has_image=torch.zeros_like(batch.has_image), pictures=(batch.pictures[0][:0],)
            )
        )
        with torch.no_grad():
            return network(seen._replace(numbers=numbers)).double().numpy()[:, 0]

    here, bare = said(True, batch.numbers), said(False, batch.numbers)
    seen, nothing = said(True, typical), said(False, typical)
    found = explained(model, examples)
    assert found.base == pytest.approx(nothing, abs=1e-5)
    assert found.picture == pytest.approx((here - bare) / 2 + (seen - nothing) / 2, abs=1e-5)
    assert found.all_facts == pytest.approx((here - seen) / 2 + (bare - nothing) / 2, abs=1e-5)


def linear(network: torch.nn.Module) -> None:
    """Every unit is always on, so that facts count linearly."""
    for layer in (network.facts.fc1, network.facts.fc2):
        layer.weight.mul_(0.05)
        layer.bias.fill_(10.0)


def slopes_of(model: Model) -> np.ndarray:
    """(D,) of a linear model of facts, by its weights."""
    network = fold_network(model.architecture, model.fold_models[0])
    facts = network.facts
    last = network.fusion.linear.weight[:, -facts.out :]
    return (last @ facts.fc3.weight @ facts.fc2.weight @ facts.fc1.weight).detach().double().numpy()[0]


def test_of_a_linear_network_a_fact_adds_weight_times_distance_from_typical() -> None:
    model = with_states(one_fold(model_of(EXAMPLES, fusion="concat")), linear)
    found, slopes = explained(model), slopes_of(model)
    preparation = model.fold_models[0].preparation
    numbers, _ = preparation.prepared(EXAMPLES)
    typical = np.zeros(numbers.shape[1])
    typical[-3:] = 1 / 3
    each = slopes * (numbers - typical) * EXAMPLES.has_facts[:, None]
    # road_m, road_m_3x3, speed, whether speed is missing, and three surfaces
    assert [fact.column for fact in preparation.facts] == ["road_m", "road_m_3x3", "speed"]
    assert [fact.flagged for fact in preparation.facts] == [False, False, True]
    road, speed = each[:, [0, 1]].sum(axis=1), each[:, [2, 3]].sum(axis=1)
    surface = each[:, 4:].sum(axis=1)
    assert [column.name for column in found.columns] == ["road_m", "speed", "surface"]
    assert found.facts == pytest.approx(np.stack([road, speed, surface], axis=1), abs=1e-6)
    assert found.lost.max() < 1e-9


def test_a_fact_that_the_network_does_not_look_at_adds_nothing() -> None:
    def blind(network: torch.nn.Module) -> None:
        network.facts.fc1.weight[:, [2, 3]] = 0  # speed and its flag

    found = explained(with_states(model_of(EXAMPLES), blind))
    assert (found.facts[:, 1] == 0).all()
    assert (np.abs(found.facts[EXAMPLES.has_facts, 0]) > 1e-6).all()


def test_facts_that_count_alike_add_alike() -> None:
    facts = EXAMPLES.facts.copy()
    facts[:, 2] = facts[:, 1]
    examples = replace(EXAMPLES, facts=facts)

    def alike(network: torch.nn.Module) -> None:
        # of road_m, road_m_3x3, speed, and the flags of the last two
        weights = network.facts.fc1.weight
        weights[:, 0], weights[:, 1], weights[:, 3] = 0, weights[:, 2], weights[:, 4]

    found = explained(with_states(model_of(examples), alike), examples)
    assert found.facts[:, 0] == pytest.approx(found.facts[:, 1], abs=1e-6)
    assert np.abs(found.facts[:, 0]).max() > 1e-3


def test_a_training_tile_is_explained_by_the_fold_that_did_not_see_it_and_others_by_the_mean_of_all() -> None:
    model = model_of(EXAMPLES)
    found = explained(model)
    single = [
        explained(replace(model, fold_models=(fold,), out_of_fold=model.out_of_fold.iloc[:0]))
        for fold in model.fold_models
    ]
    for k in range(3):
        assert found.facts[3 * k : 3 * k + 3] == pytest.approx(single[k].facts[3 * k : 3 * k + 3], abs=1e-9)
    for of in ("facts", "views", "base", "score"):
        mean = np.mean([getattr(one, of) for one in single], axis=0)
        # integrals of other points: what they lose differs
        assert getattr(found, of)[9:] == pytest.approx(mean[9:], abs=2e-3 if of == "facts" else 1e-9)
    assert not np.allclose(single[0].score, single[1].score, atol=1e-3)


def test_what_a_tile_does_not_have_adds_nothing() -> None:
    found = explained(model_of(EXAMPLES))
    assert (found.picture[~EXAMPLES.has_image] == 0).all()
    assert (found.picture[EXAMPLES.has_image] != 0).all()
    assert (found.facts[~EXAMPLES.has_facts] == 0).all()
    assert (found.all_facts[EXAMPLES.has_facts] != 0).all()
    assert len(np.unique(found.base[9:][EXAMPLES.has_facts[9:]].round(12))) == 1  # all against one tile


def test_a_count_is_held_against_a_tile_of_the_same_exposure() -> None:
    found = explained(model_of(EXAMPLES, "count"))
    rows = [row for row in range(9, TILES) if EXAMPLES.has_facts[row]]
    for one, other in pairwise(rows):
        apart = np.log(EXAMPLES.exposure[other] / EXAMPLES.exposure[one])
        assert found.base[other] - found.base[one] == pytest.approx(apart, abs=1e-9)


def test_values_are_in_their_own_units() -> None:
    small, model = model_of(EXAMPLES, "value"), model_of(EXAMPLES, "value")
    large = replace(
        model,
        fold_models=tuple(
            replace(fold, target=replace(fold.target, std=10 * fold.target.std)) for fold in model.fold_models
        ),
    )
    assert explained(large).facts == pytest.approx(10 * explained(small).facts, rel=0.02, abs=2e-2)
    assert explained(large).picture == pytest.approx(10 * explained(small).picture, abs=1e-9)


def test_no_order_or_company_of_tiles_changes_a_contribution() -> None:
    model, order = model_of(EXAMPLES), np.random.default_rng(0).permutation(TILES)
    found, turned = explained(model), explained(model, EXAMPLES.taken(order))
    assert turned.facts == pytest.approx(found.facts[order], abs=1e-6)
    assert turned.views == pytest.approx(found.views[order], abs=1e-5)
    alone = explained(model, EXAMPLES.taken(np.array([5])))
    assert alone.facts[0] == pytest.approx(found.facts[5], abs=1e-6)
    assert (explained(model).facts == found.facts).all()


def test_inputs_belong_to_the_column_that_people_know() -> None:
    dense, embedding = (model_of(EXAMPLES, facts=kind) for kind in ("dense", "embedding"))
    of = known_by((*COLUMNS[:2], SURFACE), (3,))
    names = ["road_m", "speed", "surface"]
    found = []
    for model in (dense, embedding):
        network = fold_network(model.architecture, model.fold_models[0])
        found.append(owners(network.facts, model.fold_models[0].preparation, of, names).tolist())
    assert found[0] == [0, 0, 1, 1, 2, 2, 2]  # road_m, road_m_3x3, speed, speed is missing, three surfaces
    assert found[1] == [0, 0, 1, 1, 2, 2]  # the last two are one embedding


def test_integrated_gradients_are_those_of_captum() -> None:
    attr = pytest.importorskip("captum.attr", reason="captum is not installed; make test-readers installs it")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
    start, end = torch.zeros(7, 5).double(), torch.randn(7, 5).double()
    ours = integrated(lambda x: network(x[0])[..., 0], (start,), (end,), points=POINTS_FIRST)[0]
    theirs = attr.IntegratedGradients(lambda x: network(x)[:, 0]).attribute(end, start, n_steps=POINTS_FIRST)
    assert ours.detach().numpy() == pytest.approx(
        theirs.detach().numpy(), abs=1e-8
    )  # captum's weights are float32


def test_a_trained_network_is_explained_whole(tmp_path: object) -> None:
    examples = made_up()
    trained = run(examples, tmp_path, epochs=2)  # type: ignore[arg-type]
    model = replace(
        model_of(tiles()),
        architecture=trained.architecture,
        columns=examples.columns,
        neighbourhood=(),
        fold_models=trained.validation.models,
        pictures=(trained.preparation,),
    )
    found = explained(model, examples)
    assert found.complete
    assert found.base + found.picture + found.all_facts == pytest.approx(
        scored(model, examples).outputs[:, 0], abs=1e-4
    )


def test_reasons_are_columns_that_add_up_with_a_sentence() -> None:
    examples = tiles(views=2)
    model = model_of(examples)
    fields = reasons_fields(model, examples, feeds_of(model, examples), scored(model, examples), CPU)
    values = {column.name: series for column, series in fields}
    assert list(values) == [
        "reason_picture",
        "reason_picture_view0",
        "reason_picture_view1",
        "reason_facts",
        "why",
        "reason_road_m",
        "reason_speed",
        "reason_surface",
    ]
    assert {column.unit for column, _ in fields} == {"log-odds", ""}
    views = values["reason_picture_view0"] + values["reason_picture_view1"]
    assert values["reason_picture"].to_numpy() == pytest.approx(views.to_numpy())
    facts = values["reason_road_m"] + values["reason_speed"] + values["reason_surface"]
    assert values["reason_facts"].to_numpy() == pytest.approx(facts.to_numpy())
    assert all(len(series) == TILES for series in values.values())


def test_the_sentence_names_the_three_largest_and_what_they_are_held_against() -> None:
    model = model_of(EXAMPLES)
    rows = np.array([1, 5, 6])
    examples = EXAMPLES.taken(rows)
    examples.facts[:, 0] = [3400.4, 10, np.nan]
    made = Contributions(
        np.zeros(3),
        np.zeros(3),
        np.array([[0.31], [0.004], [-1.0]]),
        np.array([[0.82, -0.12, 0.01], [-0.001, 0.2, -0.3], [0.0, 0, 0]]),
        (*COLUMNS[:2], SURFACE),
        np.zeros(3),
    )
    speed = f"{examples.facts[0, 1]:.3g}"
    assert sentences(model, examples, made) == [
        f"Road of 3,400 m +0.82, picture +0.31, Speed of {speed} km/h -0.12 "
        "(log-odds against a typical tile without a picture)",
        "Surface of paved -0.30, Speed of unknown +0.20 (log-odds against a typical tile without a picture)",
        "picture -1.00 (log-odds against a tile of which nothing is known)",
    ]


def test_contributions_that_are_not_the_score_are_refused() -> None:
    model = model_of(EXAMPLES)
    said = scored(model)
    wrong = replace(said, outputs=said.outputs + np.where(np.arange(TILES) == 3, 0.5, 0.0)[:, None])
    with pytest.raises(
        ModelError, match=r"^contributions to tile tile 3 add up to .*, its score is .*; train the"
    ):
        reasons_fields(model, EXAMPLES, feeds_of(model, EXAMPLES), wrong, CPU)


def test_distance_is_the_root_mean_square_of_prepared_facts() -> None:
    model = model_of(EXAMPLES, facts="embedding")
    preparation = model.fold_models[0].preparation
    one, others = EXAMPLES.taken(np.array([1])), EXAMPLES.taken(np.array([1, 2]))
    numbers, codes = preparation.prepared(others)
    assert codes[0] != codes[1]
    by_hand = np.sqrt((((numbers[1] - numbers[0]) ** 2).sum() + 2) / 5)
    assert distances(preparation, one, others).tolist() == pytest.approx([0, by_hand], rel=1e-5)
