"""Encoders by name: their layers are their library's, and what does not learn stays bit for bit."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, batch_norm, conv2d
from torchvision.models import resnet18, resnet34, resnet50

from roadrisk.errors import UsageError
from roadrisk.learning.pictures.sources import PicturePreparation, picture_preparation, resized
from roadrisk.nets.encoders import (
    bare_body,
    encoder_body,
    encoder_of,
    features_of,
    frozen_encoder,
    last_stage,
    learning_parameters,
    tuned_encoder,
)
from roadrisk.nets.image import BasicCNN, FeatureHead, FrozenEncoder, PretrainedCNN, TunedEncoder

AERIAL = "aerial-resnet18"
TORCHVISION = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
TIMM = [
    "timm:test_resnet",
    "timm:test_vit",
    "timm:test_convnext",
    "timm:test_efficientnet",
    "timm:mobilenetv3_small_050",
    "timm:resnet18.a1_in1k",
    "timm:levit_128s",
]


def count(network: nn.Module, learning: bool = False) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not learning)


@cache
def made_up_weights(name: str) -> dict[str, Tensor]:
    """Weights of a body, its batch-norm statistics and all, as no first draw has them."""
    drawn, state = torch.Generator().manual_seed(0), {}
    for value, like in bare_body(name).state_dict().items():
        if not like.is_floating_point():
            state[value] = torch.tensor(7)
        elif like.ndim > 1:
            state[value] = torch.randn(like.shape, generator=drawn).div_(like[0].numel() ** 0.5)
        else:
            state[value] = torch.rand(like.shape, generator=drawn).add_(0.1)
    return state


def trained(network: nn.Module, size_px: int, steps: int = 2) -> None:
    """A few steps on noise, in training mode."""
    network.train()
    optimiser = torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=1e-2)
    for step in range(steps):
        optimiser.zero_grad()
        network(
            torch.rand(3, 3, size_px, size_px, generator=torch.Generator().manual_seed(step))
        ).sum().backward()
        optimiser.step()


def test_parameter_counts_are_exact() -> None:
    assert count(BasicCNN(size=196, dropout=0.3)) == 1_024_604
    frozen = PretrainedCNN(frozen_encoder("resnet34", made_up_weights("resnet34")), dropout=0.3)
    assert (count(frozen), count(frozen, learning=True)) == (21_317_504, 32_832)
    assert count(FeatureHead(512, dropout=0.3)) == 32_832
    bodies = {name: count(bare_body(name)) for name in (*TORCHVISION, "aerial-resnet18")}
    # torchvision's published counts less 1,000 classes; a 3x3 first convolution has 40 weights less each filter and band
    assert bodies == {
        "resnet18": 11_689_512 - 513_000,
        "resnet34": 21_797_672 - 513_000,
        "resnet50": 25_557_032 - 2_049_000,
        "aerial-resnet18": 11_689_512 - 513_000 - 64 * 3 * 40,
    }


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_body_is_torchvisions(name: str) -> None:
    with torch.device("meta"):
        whole = TORCHVISION[name](weights=None)
    classifier = {"fc.weight": torch.zeros(1000, features_of(name)), "fc.bias": torch.zeros(1000)}
    whole.load_state_dict(made_up_weights(name) | classifier, assign=True)
    pictures = torch.rand(2, 3, 64, 64)
    features = frozen_encoder(name, whole.state_dict())(pictures)
    whole.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(features, whole.eval()(pictures), rtol=0, atol=1e-6)
    assert features.shape == (2, features_of(name))


@pytest.mark.parametrize("name", TIMM)
def test_a_body_is_timms_and_so_is_what_it_expects(name: str) -> None:
    whole = timm.create_model(name.removeprefix("timm:"), pretrained=False, num_classes=0).eval()
    state = made_up_weights(name)
    whole.load_state_dict(state)
    expects = resolve_data_config({}, model=whole)
    sight = encoder_of(name).sight
    assert ((3, sight.size_px, sight.size_px), sight.mean, sight.std) == (
        expects["input_size"],
        expects["mean"],
        expects["std"],
    )
    pictures = torch.rand(2, 3, sight.size_px, sight.size_px)
    features = frozen_encoder(name, state)(pictures)
    assert features.shape == (2, features_of(name))
    with torch.no_grad():
        torch.testing.assert_close(features, whole(pictures), rtol=0, atol=1e-6)


def aerial_features(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The layers of geoembed's ResNet18, written down once more: its last map (B, 512, H / 8, W / 8)."""

    def normalised(x: Tensor, name: str) -> Tensor:
        values = (state[f"{name}.{value}"] for value in ("running_mean", "running_var", "weight", "bias"))
        return batch_norm(x, *values, eps=1e-5)

    x = normalised(conv2d(x, state["conv1.weight"], padding=1), "bn1").relu()
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            inner = normalised(
                conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"
            )
            inner = normalised(conv2d(inner.relu(), state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                short = conv2d(x, state[f"{name}.downsample.0.weight"], stride=2)
                x = normalised(short, f"{name}.downsample.1")
            x = (x + inner).relu()
    return x


def test_the_aerial_body_has_geoembeds_layers() -> None:
    state, pictures = made_up_weights("aerial-resnet18"), torch.rand(2, 3, 64, 64)
    features = frozen_encoder("aerial-resnet18", state)(pictures)
    wanted = adaptive_avg_pool2d(aerial_features(state, pictures), 1).flatten(1)
    torch.testing.assert_close(features, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [AERIAL, "timm:test_efficientnet"])
def test_a_frozen_encoder_is_bit_identical_after_training(name: str) -> None:
    state = made_up_weights(name)
    network = PretrainedCNN(frozen_encoder(name, state), dropout=0.5)
    head = network.head.fc.weight.clone()
    trained(network, 64)
    after = network.encoder.body.state_dict()
    assert any("running_mean" in n for n in state), "batch-norm statistics are among them"
    assert after.keys() == state.keys()
    assert all(torch.equal(after[n], state[n]) for n in state)
    assert not torch.equal(network.head.fc.weight, head)
    assert not any(module.training for module in network.encoder.modules())
    assert network.head.training


@pytest.mark.parametrize(
    ("name", "behind"),
    [
        ("resnet18", "layer4."),
        ("aerial-resnet18", "layer4."),
        ("timm:test_resnet", "layer4."),
        ("timm:test_vit", r"blocks\.5\.|norm\."),
        ("timm:test_convnext", r"stages\.3\.|head\.norm\."),
        ("timm:test_efficientnet", r"blocks\.4\.|conv_head\.|bn2\."),
        ("timm:densenet121", r"features\.denseblock4\.|features\.norm5\."),
    ],
)
def test_the_last_stage_alone_learns(name: str, behind: str) -> None:
    """Of the rest neither parameters nor statistics move; of the stage both do."""
    state = made_up_weights(name)
    network = PretrainedCNN(tuned_encoder(name, "last", state), dropout=0.5)
    learning = [n for n, p in network.encoder.body.named_parameters() if p.requires_grad]
    assert learning == [n for n, _ in network.encoder.body.named_parameters() if re.match(behind, n)]
    trained(network, encoder_of(name).sight.size_px if "vit" in name else 64, steps=1)
    after = network.encoder.body.state_dict()
    moved = {n for n in state if not torch.equal(after[n], state[n])}
    stage = {n for n in state if re.match(behind, n)}
    # keys of an attention know no shift: some of the stage may have no gradient
    assert moved <= stage
    assert len(moved) > 0.8 * len(stage)
    assert {n for n in stage if "running_" in n} <= moved


def test_in_last_the_rest_is_in_evaluation_mode_and_switches_with_the_network() -> None:
    encoder = tuned_encoder("timm:test_vit", "last", made_up_weights("timm:test_vit"))
    encoder.train()
    training = {n for n, module in encoder.body.named_modules() if module.training}
    assert training
    assert all(n == "norm" or n.startswith("blocks.5") for n in training)
    assert encoder.training
    assert not any(module.training for module in encoder.eval().modules())
    whole = tuned_encoder("resnet18", "all")
    assert all(module.training for module in whole.train().modules())
    assert not any(module.training for module in whole.eval().modules())


@pytest.mark.parametrize("name", ["resnet18", "timm:test_resnet"])
def test_all_learns_and_the_weights_it_starts_from_stay(name: str) -> None:
    state = made_up_weights(name)
    before = {n: v.clone() for n, v in state.items()}
    network = PretrainedCNN(tuned_encoder(name, "all", state), dropout=0.0)
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 64)
    trained(network, 64, steps=1)
    after = network.encoder.body.state_dict()
    assert not any(torch.equal(after[n], state[n]) for n in state)
    assert all(torch.equal(before[n], state[n]) for n in state)


def test_a_tuned_encoder_that_does_not_learn_yet_is_the_frozen_one() -> None:
    state, pictures = made_up_weights("resnet18"), torch.rand(2, 3, 64, 64)
    frozen = frozen_encoder("resnet18", state)(pictures)
    for tune in ("last", "all"):
        tuned = tuned_encoder("resnet18", tune, state).eval()  # type: ignore[arg-type]
        assert torch.equal(tuned(pictures), frozen)


def test_a_tuned_encoder_overfits_one_batch() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = tuned_encoder("timm:test_resnet", "all")
        network = nn.Sequential(PretrainedCNN(encoder, dropout=0.0), nn.Linear(64, 1))
        pictures, label = torch.rand(8, 3, 64, 64), torch.arange(8.0)[:, None] % 2
    encoder_parameters, rest = learning_parameters(network)
    optimiser = torch.optim.Adam([{"params": encoder_parameters, "lr": 1e-3}, {"params": rest, "lr": 1e-2}])
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(network(pictures), label)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02


def test_the_learning_parameters_of_encoders_stand_apart() -> None:
    image = PretrainedCNN(tuned_encoder("resnet18", "last"), dropout=0.3)
    network = nn.ModuleList([image, image, BasicCNN(size=32, dropout=0.3)])
    encoder, rest = learning_parameters(network)
    assert sum(p.numel() for p in encoder) == 8_393_728, "layer4 once, though two views share it"
    assert sum(p.numel() for p in rest) == 32_832 + count(network[2])
    assert all(p.requires_grad for p in encoder + rest)
    frozen = PretrainedCNN(frozen_encoder("resnet18", made_up_weights("resnet18")), dropout=0.3)
    assert learning_parameters(frozen).encoder == []
    assert len(learning_parameters(frozen).rest) == 2


@pytest.mark.parametrize("name", [AERIAL, "timm:test_resnet"])
def test_weights_that_follow_leave_the_generator_alone_and_first_ones_follow_the_seed(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        before = torch.random.get_rng_state()
        encoder_body(name, made_up_weights(name))
        bare_body(name)
        assert torch.equal(torch.random.get_rng_state(), before)
        first = encoder_body(name).state_dict()
        torch.manual_seed(3)
        second = encoder_body(name).state_dict()
    assert all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet19", "--encoder timm:resnet19: timm has no such network; near it is resnet18, "),
        ("timm:resnet18.a1", "--encoder timm:resnet18.a1: timm has no such network; near it is resnet18.a"),
        ("timm:zzz", "--encoder timm:zzz: timm has no such network; timm.list_models() tells those it has"),
        ("timm:hf-hub:someone/network", "--encoder timm:hf-hub:someone/network: timm has no such network; "),
        ("timm:local-dir:/tmp", "--encoder timm:local-dir:/tmp: timm has no such network; "),
        (
            "timm:vit_base_patch16_sapiens2",
            "--encoder timm:vit_base_patch16_sapiens2 takes pictures of 768 x 1024 pixels in 3 bands; "
            "choose one that takes square RGB pictures",
        ),
    ],
)
def test_names_that_are_none_are_said(name: str, said: str) -> None:
    for asks in (encoder_of, lambda name: picture_preparation(name, 256)):
        with pytest.raises(UsageError) as caught:
            asks(name)
        assert str(caught.value).startswith(said)
        assert "\n" not in str(caught.value)


def test_a_network_that_does_not_number_its_stages_says_so() -> None:
    said = r"^--tune last: timm:x does not say what its last stage is; use --tune all or --tune none$"
    silent = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    with pytest.raises(UsageError, match=said):
        last_stage("timm:x", silent)
    silent.group_matcher = lambda coarse: {"stem": "^0"}  # type: ignore[assignment]
    with pytest.raises(UsageError, match=said):
        last_stage("timm:x", silent)
    for name in ("timm:rdnet_tiny", "timm:pit_ti_224"):
        with pytest.raises(UsageError, match=said.replace("timm:x", name)):
            last_stage(name, bare_body(name))


def test_pictures_are_prepared_as_each_encoder_expects() -> None:
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for name in TORCHVISION:
        assert picture_preparation(name, 256) == PicturePreparation(224, *imagenet)
        assert picture_preparation(name, 64).size_px == 224, (
            "small pictures are enlarged to what the weights know"
        )
    half = (0.5, 0.5, 0.5)
    assert picture_preparation("aerial-resnet18", 256) == PicturePreparation(128, half, half)
    assert picture_preparation("timm:test_vit", 256) == PicturePreparation(160, half, half)
    assert [picture_preparation("basic", tile_px) for tile_px in (256, 196, 64)] == [
        PicturePreparation(196),
        PicturePreparation(196),
        PicturePreparation(64),
    ]


def test_the_sight_of_resnets_is_that_of_their_weights() -> None:
    from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights

    for name, weights in zip(
        TORCHVISION, (ResNet18_Weights, ResNet34_Weights, ResNet50_Weights), strict=True
    ):
        expects = weights.IMAGENET1K_V1.transforms()
        assert encoder_of(name).sight == (expects.crop_size[0], tuple(expects.mean), tuple(expects.std))


def test_a_picture_is_averaged_along_axes_that_shrink_and_cubic_along_those_that_grow() -> None:
    stripes = np.zeros((3, 40, 256), np.uint8)
    stripes[:, :, ::2] = 200
    prepared = resized(stripes, 64)
    assert prepared.shape == (3, 64, 64)
    assert np.abs(prepared.astype(int) - 100).max() <= 1, "no stripes are left, though the height grows"
    colours = np.broadcast_to(np.uint8([10, 120, 250])[:, None, None], (3, 30, 50))
    for size_px in (16, 40, 224):
        assert (resized(colours, size_px) == colours[:, :1, :1]).all(), "red stays red"
    square = np.random.default_rng(0).integers(0, 255, (3, 8, 8)).astype(np.uint8)
    assert resized(square, 32).std() > 0.8 * square.std(), "cubic: not blurred away"


def test_the_aerial_encoder_is_geoembeds_own() -> None:
    """Its map, pooled and joined as geoembed does, is geoembed's vector; its pictures are prepared alike."""
    geoembed = pytest.importorskip("geoembed", exc_type=ImportError)
    from roadrisk.learning.pictures.weights import aerial_weights

    state = aerial_weights()
    encoder = frozen_encoder("aerial-resnet18", state)
    pixels = np.random.default_rng(0).integers(0, 255, (1, 3, 128, 128)).astype(np.uint8)
    pixels[0, :, 64:] = np.linspace(0, 255, 128).astype(np.uint8)
    preparation = picture_preparation("aerial-resnet18", 256)
    mean, std = (torch.tensor(b)[:, None, None] for b in (preparation.mean, preparation.std))
    pictures = (torch.from_numpy(pixels) / 255 - mean) / std
    theirs = np.stack([geoembed.load_and_preprocess(p, target_size=preparation.size_px) for p in pixels])
    np.testing.assert_allclose(pictures.numpy(), theirs, atol=1e-6)

    seen: list[Tensor] = []
    encoder.body.get_submodule("layer4").register_forward_hook(lambda _m, _i, output: seen.append(output))
    features = encoder(pictures)
    with np.load(Path(geoembed.__file__).parent / "weights" / "v3.npz", allow_pickle=False) as file:
        weight, bias = file["fc.weight"], file["fc.bias"]
    vector = adaptive_avg_pool2d(seen[0], 4).flatten(1).numpy() @ weight + bias
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    model = geoembed.Model.v3(device="cpu")
    np.testing.assert_allclose(vector, model.encode(list(pixels), num_workers=0), atol=1e-5)
    torch.testing.assert_close(features, seen[0].mean((2, 3)), rtol=1e-6, atol=1e-6)
    assert isinstance(encoder, FrozenEncoder)
    assert not isinstance(encoder, TunedEncoder)
