"""The network that draws roads: any decoder and encoder by name, and clear words where that cannot be."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from torch.nn import functional

from roadrisk.errors import ModelError, UsageError
from roadrisk.nets.segmentation import RoadNN, check_learns

DECODERS = (
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "pan",
    "deeplabv3",
    "deeplabv3plus",
    "upernet",
    "segformer",
)


def drawn(network: RoadNN, bands: int = 3, side: int = 128) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval()(torch.rand(1, bands, side, 2 * side))


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_draws_each_pixel(decoder: str) -> None:
    assert drawn(RoadNN(decoder, "resnet18", 3, 1)).shape == (1, 1, 128, 256)


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [
        ("dpt", "tu-convnext_atto"),
        ("unet", "tu-resnet10t.c3_in1k"),
        ("segformer", "mit_b0"),
        ("unet", "timm-tf_efficientnet_lite0"),
        ("fpn", "mobileone_s0"),
    ],
)
def test_other_encoders_by_name_and_without_chatter(decoder: str, encoder: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        network = RoadNN(decoder, encoder, 4, 2)
    assert drawn(network, bands=4).shape == (1, 1, 128, 256)
    with torch.device("meta"):
        planned = RoadNN(decoder, encoder, 4, 2)
    shapes = [{n: v.shape for n, v in of.state_dict().items()} for of in (network, planned)]
    assert shapes[0] == shapes[1]


def test_shrinking_is_the_mean_before_and_straight_lines_after() -> None:
    network = RoadNN("unet", "resnet18", 3, 2).eval()
    picture = torch.rand(1, 3, 128, 64)
    with torch.inference_mode():
        mean = picture.unflatten(3, (32, 2)).unflatten(2, (64, 2)).mean((3, 5))
        small = network.body(mean)
        expected = functional.interpolate(small, size=(128, 64), mode="bilinear")
        assert torch.allclose(network(picture), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("decoder", "encoder", "said"),
    [
        (
            "unet",
            "resnet19",
            "--encoder resnet19: segmentation-models-pytorch has no such network; "
            "near it is resnet18, resnet152, resnet101",
        ),
        (
            "unet",
            "tu-resnet18q",
            "--encoder tu-resnet18q: timm has no such network; near it is tu-resnet18, ",
        ),
        ("unet", "tu-hf-hub:a/b", "--encoder tu-hf-hub:a/b: timm has no such network; resnet18, mit_b0 and "),
        ("upnet", "resnet18", "--decoder upnet is none; use one of unet, "),
        (
            "unetplusplus",
            "mit_b0",
            "--decoder unetplusplus and --encoder mit_b0 do not fit (UnetPlusPlus is not support "
            "encoder_name=mit_b0); choose another",
        ),
        ("deeplabv3", "densenet121", "--decoder deeplabv3 and --encoder densenet121 do not fit ("),
        ("dpt", "resnet18", "--decoder dpt and --encoder resnet18 do not fit ("),
        ("unet", "tu-resnet18.none", "--decoder unet and --encoder tu-resnet18.none do not fit (Invalid "),
    ],
)
def test_names_that_are_none_or_do_not_fit(decoder: str, encoder: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        RoadNN(decoder, encoder, 3, 2)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18", "timm-tf_efficientnet_lite0"])
def test_weights_that_cannot_be_had_are_an_error_and_never_chance(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as error:
        RoadNN("unet", encoder, 3, 2, "imagenet")
    said = str(error.value)
    assert said.startswith(f"the imagenet weights of {encoder} cannot be had (")
    assert said.endswith(
        f"; use --weights none, or let a machine with a network fetch them and copy its {tmp_path}"
    )
    assert "\n" not in said
    assert constants.HF_HUB_OFFLINE is True
    assert capsys.readouterr() == ("", "")


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="the imagenet weights of resnet18 cannot be had"):
        RoadNN("unet", "resnet18", 3, 2, "imagenet")
    assert constants.HF_HUB_OFFLINE is False


def test_encoders_without_such_weights_say_so() -> None:
    with pytest.raises(ModelError, match=r"^there are no imagenet weights of dpn68b; use --weights none$"):
        RoadNN("unet", "dpn68b", 3, 2, "imagenet")


def test_without_the_library_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(UsageError, match=r"not installed; pip install 'roadrisk\[roads\]'$"):
        RoadNN("unet", "resnet18", 3, 2)


@pytest.mark.parametrize(
    ("decoder", "encoder", "batch", "reason"),
    [
        ("pan", "resnet18", 2, "Given input size: (1x1x1)"),
        ("deeplabv3", "resnet18", 1, "Expected more than 1 value per channel when training"),
        ("unet", "tu-swin_tiny_patch4_window7_224", 2, "Input height (64) doesn't match model (224)"),
    ],
)
def test_what_cannot_learn_from_such_crops_says_so(
    decoder: str, encoder: str, batch: int, reason: str
) -> None:
    network = RoadNN(decoder, encoder, 3, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UsageError) as error:
        check_learns(network, 3, 64, batch)
    start = f"the network cannot learn from crops of 64 x 64 px, {batch} at once ({reason}"
    assert str(error.value).startswith(start)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_one_size_only_is_found_even_where_crops_have_it() -> None:
    network = RoadNN("unet", "tu-swin_tiny_patch4_window7_224", 3, 1)
    with pytest.raises(UsageError, match=r"Input height \(448\) doesn't match model \(224\)"):
        check_learns(network, 3, 224, 2)
