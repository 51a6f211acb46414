"""Training: the same seed, no order, frozen is frozen, and weights that are had for certain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_examples import COLUMNS, CPU, folds_of, made_up, run
from safetensors.torch import save_file
from torchvision.models import resnet34
from torchvision.transforms.functional import normalize

from roadrisk.errors import ModelError, UsageError
from roadrisk.learning.architecture import Architecture, network_of
from roadrisk.learning.evaluation import auroc
from roadrisk.learning.fit import NetworkInputs, fit, logits
from roadrisk.learning.folds import random_folds
from roadrisk.learning.frozen import device_of, frozen_features, scoring_feed
from roadrisk.learning.pictures import PicturePreparation
from roadrisk.learning.settings import TrainSettings, resolved, settings_from
from roadrisk.learning.validation import Clock, FoldModel, cross_validated
from roadrisk.learning.weights import State, encoder_weights, imagenet_weights, weights_from, weights_identity
from roadrisk.nets.image import IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture(scope="module")
def encoder() -> State:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return {n: v for n, v in resnet34(weights=None).state_dict().items() if not n.startswith("fc.")}


def same_state(first: FoldModel, second: FoldModel) -> bool:
    return first.preparation == second.preparation and all(
        torch.equal(first.state[name], second.state[name]) for name in first.state | second.state
    )


def test_learns_from_picture_and_facts_together(tmp_path: Path) -> None:
    examples = made_up()
    label, seen = examples.label, examples.has_image
    score = {
        inputs: run(examples, tmp_path, inputs=inputs, epochs=30, dropout=0.0).validation.logit
        for inputs in ("both", "image", "facts")
    }
    skill = {inputs: auroc(label[seen], logit[seen]) for inputs, logit in score.items()}
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
    assert np.array_equal(first.logit, second.logit)
    assert all(same_state(a, b) for a, b in zip(first.models, second.models, strict=True))
    assert not any(same_state(a, b) for a, b in zip(first.models, other.models, strict=True))
    assert not same_state(first.models[0], first.models[1])


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
    assert np.array_equal(first.logit[rows], second.logit)
    assert np.array_equal(first.fold[rows], second.fold)
    assert all(same_state(a, b) for a, b in zip(first.models, second.models, strict=True))


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
    assert first.models[0].preparation == second.models[0].preparation
    assert same_state(first.models[0], second.models[0])
    assert not same_state(first.models[1], second.models[1])


def test_columns_that_do_not_vary_are_left_out_and_said(tmp_path: Path) -> None:
    for model in run(made_up(), tmp_path, epochs=1).validation.models:
        assert [fact.column for fact in model.preparation.facts] == ["road_m", "speed"]
        assert model.preparation.dropped == (("flat", "the same in every training tile"),)


def test_progress_says_minutes_after_the_first_epoch(tmp_path: Path) -> None:
    examples, told = made_up(), []
    first = run(examples, tmp_path, epochs=2)

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        told.append((stage, done, total, note))

    clock = Clock("train, spatial folds", progress, later=6)
    cross_validated(examples, folds_of(examples), first.settings, first.architecture, first.feed, CPU, clock)
    assert [entry[:3] for entry in told] == [("train, spatial folds", n, 6) for n in range(1, 7)]
    assert all(entry[3].endswith(" min left") for entry in told)

    told.clear()
    Clock("x", progress, later=10).told(5, 10, seconds=60)
    assert told == [("x", 5, 10, "3.0 min left")]


def test_a_branch_without_anything_to_learn_from_is_refused(tmp_path: Path) -> None:
    examples = made_up()
    with pytest.raises(ModelError, match=r"^no training tile has a picture; use --inputs facts"):
        run(replace(examples, picture=np.full(len(examples), -1)), tmp_path)
    with pytest.raises(ModelError, match=r"^no fact differs between training tiles; use --inputs image"):
        run(replace(examples, facts=np.ones_like(examples.facts)), tmp_path)
    run(replace(examples, picture=np.full(len(examples), -1)), tmp_path, inputs="facts", epochs=1)


def test_a_loss_that_is_not_finite_is_an_error_and_the_mode_stays() -> None:
    network = network_of(Architecture("basic", "facts", 32, 0.3), 2, seed=0).eval()
    inputs = NetworkInputs(np.full((8, 2), np.inf, np.float32), np.full(8, -1), None)
    settings = resolved(TrainSettings(encoder="basic", epochs=2))
    with pytest.raises(ModelError, match=r"^training went astray: the loss is nan in epoch 1; use a smaller"):
        fit(network, inputs, np.arange(8) % 2.0, settings, 0, CPU)
    assert not network.training


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_mode_and_drops_nothing(training: bool) -> None:
    network = network_of(Architecture("basic", "facts", 32, 0.9), 2, seed=0).train(training)
    inputs = NetworkInputs(
        np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32), np.full(600, -1), None
    )
    first = logits(network, inputs, CPU)
    assert np.array_equal(first, logits(network, inputs, CPU))
    assert network.training is training


def test_frozen_features_are_made_once_and_shared(tmp_path: Path, encoder: State) -> None:
    pictures = made_up(pictures_px=32).pictures
    assert pictures is not None
    preparation = PicturePreparation(32, IMAGENET_MEAN, IMAGENET_STD)
    first = frozen_features(pictures, preparation, encoder, tmp_path, CPU)
    rows = first.rows(np.array([3, 0]))
    assert rows.shape == (2, 512)

    again = replace(frozen_features(pictures, preparation, encoder, tmp_path, CPU), rows_of=_fails)
    assert np.array_equal(again.rows(np.array([0, 3])), rows[::-1])
    scoring = scoring_feed(pictures, preparation, encoder, tmp_path, CPU)
    assert np.array_equal(scoring.tensors(np.array([3, 0])).numpy(), rows)

    moved = encoder | {"bn1.running_mean": encoder["bn1.running_mean"] + 1}
    assert frozen_features(pictures, preparation, moved, tmp_path, CPU).path != first.path
    plain = PicturePreparation(32)
    assert frozen_features(pictures, plain, encoder, tmp_path, CPU).path != first.path


def test_a_picture_has_the_same_features_in_any_company(tmp_path: Path, encoder: State) -> None:
    pictures = made_up(pictures_px=32).pictures
    assert pictures is not None
    preparation = PicturePreparation(32, IMAGENET_MEAN, IMAGENET_STD)
    alone = frozen_features(pictures, preparation, encoder, tmp_path / "alone", CPU)
    crowd = frozen_features(pictures, preparation, encoder, tmp_path / "crowd", CPU)
    assert np.array_equal(alone.rows(np.array([5])), crowd.rows(np.arange(40))[[5]])


def test_features_are_those_of_torchvision(tmp_path: Path, encoder: State) -> None:
    pictures = made_up(pictures_px=64).pictures
    assert pictures is not None
    preparation = PicturePreparation(64, IMAGENET_MEAN, IMAGENET_STD)
    body = resnet34(weights=None)
    body.fc = torch.nn.Identity()
    body.load_state_dict(encoder)
    indices = np.arange(4)
    pixels = torch.from_numpy(pictures.prepared(indices)) / 255
    with torch.no_grad():
        wanted = body.eval()(normalize(pixels, list(IMAGENET_MEAN), list(IMAGENET_STD))).numpy()
    features = frozen_features(pictures, preparation, encoder, tmp_path, CPU).rows(indices)
    np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-4)


def test_a_frozen_encoder_trains_a_head_and_stays_as_it_was(tmp_path: Path, encoder: State) -> None:
    before = weights_identity(encoder)
    examples = made_up()
    few = examples.taken(np.flatnonzero(examples.has_image)[:12])
    few = replace(few, label=np.arange(12) % 2.0)
    folds = random_folds(few.key, few.label, 2, 0)
    validation = run(few, tmp_path, encoder, folds, epochs=2).validation
    assert weights_identity(encoder) == before
    assert set(validation.models[0].state) >= {"image.fc.weight", "tabular.fc1.weight", "fusion.weight"}
    assert not any("running_mean" in name for name in validation.models[0].state)


def test_weights_files_are_strict(tmp_path: Path, encoder: State) -> None:
    whole = encoder | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(whole, tmp_path / "w.pth")
    save_file({name: value.contiguous() for name, value in whole.items()}, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        assert weights_identity(weights_from(tmp_path / name)) == weights_identity(encoder)
    settings = resolved(TrainSettings(weights=str(tmp_path / "w.pth")))
    assert weights_identity(encoder_weights(settings) or {}) == weights_identity(encoder)

    # one value stands for all of a tensor: a file of these is small
    small = {name: value.new_zeros(()).expand(value.shape) for name, value in encoder.items()}
    cases: list[tuple[State, str]] = [
        (
            {n: v for n, v in small.items() if not n.startswith("layer4")},
            "it lacks layer4.0.conv1.weight, ",
        ),
        (small | {"short.0.weight": torch.zeros(1)}, "it has besides short.0.weight"),
        (small | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, "it has in another shape conv1.weight"),
    ]
    for state, said in cases:
        torch.save(state, tmp_path / "bad.pth")
        with pytest.raises(ModelError, match="is not a ResNet34: " + said):
            weights_from(tmp_path / "bad.pth")
    torch.save(small | {"bn1.bias": torch.full((64,), torch.nan)}, tmp_path / "nan.pth")
    with pytest.raises(ModelError, match=r"not finite in bn1.bias"):
        weights_from(tmp_path / "nan.pth")
    with pytest.raises(ModelError, match="no such file"):
        weights_from(tmp_path / "none.pth")


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_a_weights_file_runs_nothing(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    (tmp_path / "noise.safetensors").write_bytes(b"noise of more than eight bytes")
    (tmp_path / "empty.pth").touch()
    for name in ("trap.pth", "noise.pth", "noise.safetensors", "empty.pth"):
        with pytest.raises(ModelError, match=f"{name} cannot be read as weights; "):
            weights_from(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="is not a state dict of tensors"):
        weights_from(tmp_path / "list.pth")


def test_imagenet_weights_that_cannot_be_had_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # a closed port stands for the missing network, so that nothing is fetched where there is one
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    folder = tmp_path / "hub" / "checkpoints"
    with pytest.raises(ModelError) as caught:
        imagenet_weights()
    said = str(caught.value)
    assert said.startswith("ImageNet weights are not here and cannot be fetched (")
    assert f"put resnet34-b627a593.pth into {folder}, or use --weights PATH or --encoder basic" in said
    assert "https://download.pytorch.org/models/resnet34-b627a593.pth" in said
    assert "\n" not in said
    assert not list(folder.glob("*")), "nothing half-fetched is left"

    (folder / "resnet34-b627a593.pth").write_bytes(b"not the weights")
    with pytest.raises(ModelError, match="is not the file it should be; delete it"):
        imagenet_weights()


def test_settings_follow_the_encoder_and_refuse_contradictions() -> None:
    basic, pretrained = resolved(TrainSettings(encoder="basic")), resolved(TrainSettings())
    assert (basic.weights, basic.learning_rate, basic.betas) == ("none", 2e-4, (0.5, 0.999))
    assert (pretrained.encoder, pretrained.weights) == ("resnet34", "imagenet")
    assert resolved(basic) == basic
    with pytest.raises(
        UsageError, match=r"^--weights none with --encoder resnet34 would freeze random weights; "
    ):
        resolved(TrainSettings(weights="none"))
    with pytest.raises(UsageError, match=r"^--encoder basic learns from nothing"):
        resolved(TrainSettings(encoder="basic", weights="imagenet"))
    assert resolved(TrainSettings(inputs="facts", weights="none")).weights == "none"


def test_settings_from_names() -> None:
    assert settings_from({"epochs": 3, "features": ["a", "b"]}).features == ("a", "b")
    with pytest.raises(
        UsageError, match=r"^settings: folds: input should be greater than or equal to 2, not 1$"
    ):
        settings_from({"folds": 1})
    with pytest.raises(
        UsageError, match=r"^settings: encoder: input should be 'basic' or 'resnet34', not 'vgg'$"
    ):
        settings_from({"encoder": "vgg"})
    with pytest.raises(
        UsageError, match=r"^settings: unknown key 'learnrate'; did you mean learning_rate\?$"
    ):
        settings_from({"learnrate": 1})


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_said() -> None:
    assert device_of("auto").type == "cpu"
    with pytest.raises(UsageError, match=r"^--device cuda: torch finds no GPU here"):
        device_of("cuda")


def _fails(indices: np.ndarray) -> np.ndarray:
    raise AssertionError(f"{indices} were kept")
