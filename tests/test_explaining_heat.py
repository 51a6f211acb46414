"""Grad-CAM finds what was planted, and says where it cannot look."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from explaining_examples import CPU, feeds_of, model_of, tiles
from learning_examples import TILE_PX

from roadrisk.learning.architecture import network_of, seeded
from roadrisk.learning.examples import Examples
from roadrisk.learning.explaining.heat import HEAT_WORDS, NO_MAPS, Heat, heat_maps, last_maps
from roadrisk.learning.model import Model, fold_network
from roadrisk.learning.pictures.feeds import scoring_feed
from roadrisk.learning.pictures.sources import CachedPictures, MosaicPictures, PicturePreparation
from roadrisk.learning.validation import FoldModel
from roadrisk.nets.encoders import encoder_body
from roadrisk.nets.fusion import MultiModalNN

pytest.importorskip("captum", reason="captum is not installed; make test-readers installs it")

CORNER = TILE_PX // 3


@dataclass(frozen=True)
class Cornered:
    """Grey noise; risky tiles have a bright square in the top right corner."""

    risky: np.ndarray

    def read(self, row: int, col: int) -> np.ndarray:
        pixels = np.random.default_rng([row, col]).integers(60, 100, (3, TILE_PX, TILE_PX))
        if self.risky[row]:
            pixels[:, :CORNER, -CORNER:] = 250
        return pixels.astype(np.uint8)


def cornered() -> Examples:
    examples = tiles()
    n = len(examples)
    pictures = MosaicPictures(Cornered(np.arange(n) % 2 == 1), np.arange(n), np.zeros(n, int), TILE_PX, "c")
    return replace(examples, picture=np.arange(n)[:, None], pictures=((CachedPictures(pictures, Path()),),))


def taught(model: Model, examples: Examples) -> Model:
    """The first fold of a model of pictures, trained to tell risky tiles; no tile is a training tile."""
    with seeded(0):
        network = network_of(model.architecture, model.fold_models[0].preparation.shape, seed=3)
        seen = feeds_of(model, examples)[0].tensors(examples.picture[:, 0], np.zeros(len(examples), int))
        label = torch.from_numpy(examples.label)
        optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(60):
            optimiser.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                said_by(network, seen)[:, 0].double(), label
            )
            loss.backward()
            optimiser.step()
    assert loss.item() < 0.05
    fold = FoldModel(model.fold_models[0].preparation, model.fold_models[0].target, network.state_dict())
    return replace(model, fold_models=(fold,), out_of_fold=model.out_of_fold.iloc[:0])


def said_by(network: MultiModalNN, pictures: torch.Tensor) -> torch.Tensor:
    from roadrisk.nets.batch import Batch

    n = len(pictures)
    there = torch.ones(n, 1, dtype=torch.bool)
    none = torch.zeros(n, 0)
    return network.eval()(Batch(none, none.long(), ~there[:, 0], (pictures,), there))


def looked_at(model: Model, examples: Examples, row: int) -> tuple[Heat, ...]:
    example = examples.taken(np.array([row]))
    return heat_maps(model, example, feeds_of(model, example), CPU)


@pytest.mark.parametrize("augment", [False, True])
def test_the_heat_lies_on_the_square_that_was_planted(augment: bool) -> None:
    examples = cornered()
    model = taught(model_of(examples, facts=None, augment=augment), examples)
    (heat,) = looked_at(model, examples, 3)
    assert heat.view == "view0"
    assert heat.told == HEAT_WORDS
    assert heat.warmth.shape == (TILE_PX, TILE_PX)
    assert heat.warmth.max() == 1
    assert heat.warmth.min() >= 0
    half = TILE_PX // 2
    quarter = heat.warmth[:half, half:].sum() / heat.warmth.sum()
    assert quarter > 0.75, quarter  # of a quarter of the picture


def test_of_an_encoder_that_averages_its_maps_it_is_captums_grad_cam() -> None:
    from captum.attr import LayerAttribution, LayerGradCam

    examples = cornered()
    model = model_of(examples, facts=None, encoder="aerial-resnet18")
    model = replace(model, fold_models=model.fold_models[:1], out_of_fold=model.out_of_fold.iloc[:0])
    network = fold_network(model.architecture, model.fold_models[0])
    picture = feeds_of(model, examples)[0].tensors(np.array([5]), np.array([0]))
    cam = LayerGradCam(
        lambda pictures: said_by(network, pictures)[:, 0], network.image[0].encoder.body.layer4
    )
    coarse = cam.attribute(picture, relu_attributions=False)
    fine = LayerAttribution.interpolate(coarse, (TILE_PX, TILE_PX), "bilinear")[0, 0].clamp(min=0)
    (heat,) = looked_at(model, examples, 5)
    assert heat.warmth.max() == 1
    assert heat.warmth == pytest.approx((fine / fine.max()).detach().numpy(), abs=1e-3)


def test_a_frozen_encoder_is_looked_through(tmp_path: Path) -> None:
    examples = tiles(views=2)
    pictures = tuple(
        (CachedPictures(one.pictures, tmp_path),) for ((one,),) in zip(examples.pictures, strict=True)
    )
    examples = replace(examples, pictures=pictures)
    with seeded(0):
        state = encoder_body("aerial-resnet18").state_dict()
    model = replace(
        model_of(examples, encoder="aerial-resnet18", tune="none", own_encoders=True), encoder=state
    )
    example = examples.taken(np.array([2]))
    feeds = [
        scoring_feed(one, PicturePreparation(TILE_PX), "aerial-resnet18", state, False, CPU)
        for one in example.pictures
    ]
    heats = heat_maps(model, example, feeds, CPU)
    assert [heat.view for heat in heats] == ["view0", "view1"]
    for heat in heats:
        assert heat.warmth.shape == (TILE_PX, TILE_PX)
        assert 0 <= heat.warmth.min() <= heat.warmth.max() <= 1


def test_a_view_without_a_picture_has_no_heat_map() -> None:
    examples = tiles(views=2)
    assert [heat.view for heat in looked_at(model_of(examples), examples, 3)] == ["view0"]
    assert looked_at(model_of(tiles()), tiles(), 0) == ()


@pytest.mark.parametrize(
    ("encoder", "shape"), [("resnet18", (512, 2, 2)), ("timm:mobilenetv3_small_050", (288, 2, 2))]
)
def test_the_last_maps_of_convolutional_encoders(encoder: str, shape: tuple[int, ...]) -> None:
    body = encoder_body(encoder).eval()
    made = []
    last_maps(body, torch.zeros(1, 3, 64, 64)).register_forward_hook(
        lambda _, __, out: made.append(out.shape[1:])
    )
    body(torch.zeros(1, 3, 64, 64))
    assert made == [shape]


@pytest.mark.parametrize(
    ("encoder", "size_px"), [("timm:vit_tiny_patch16_224", 224), ("timm:swin_tiny_patch4_window7_224", 224)]
)
def test_transformers_have_none(encoder: str, size_px: int) -> None:
    assert last_maps(encoder_body(encoder).eval(), torch.zeros(1, 3, size_px, size_px)) is None
    assert "no heat map" in NO_MAPS.format(encoder=encoder)
