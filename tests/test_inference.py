"""A network made fast for evaluation says what the network itself says."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34, resnet50

from roadrisk.nets import inference
from roadrisk.nets.encoders import encoder_body
from roadrisk.nets.inference import PackedConv2d, evaluation_form, has_packed_convolutions

WITHIN = 1e-4  # of the largest activation


def strange(body: nn.Module) -> nn.Module:
    """Batch norms far from the identity, as after training."""
    random = torch.Generator().manual_seed(0)
    for norm in body.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            drawn = torch.rand(4, norm.num_features, generator=random)
            norm.running_mean, norm.running_var = drawn[0] - 0.5, 0.3 + 2 * drawn[1]
            if norm.affine:
                norm.weight.data, norm.bias.data = 0.5 + drawn[2], drawn[3] - 0.5
    return body.eval()


def pictures(count: int, side: int = 64) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def apart(body: nn.Module, *given: Tensor) -> float:
    """Largest difference of its evaluation form, over the largest activation."""
    form, off = evaluation_form(body), []
    for each in given:
        said = body(each)
        off.append(float((form(each) - said).abs().max() / said.abs().max()))
    return max(off)


def kinds(network: nn.Module) -> set[type[nn.Module]]:
    return {type(module) for module in network.modules()}


def headless(make: Callable[..., nn.Module]) -> nn.Module:
    body = make(weights=None)
    body.fc = nn.Identity()
    return body


class Odd(nn.Module):
    """What must not be joined beside what may."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.watched = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pooled, self.again, self.shared, self.free = (nn.Conv2d(8, 8, 1) for _ in range(4))
        self.same = nn.Conv2d(8, 8, 3, padding="same")
        self.round = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
        self.norm = nn.ModuleList([nn.BatchNorm2d(8) for _ in range(8)])
        self.plain_norm = nn.BatchNorm2d(8, affine=False)
        self.own_norm = nn.BatchNorm2d(8, track_running_stats=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm[0](self.stem(x))  # (B, 8, H, W)
        one = x.mean((2, 3), keepdim=True)  # (B, 8, 1, 1)
        # sums that stretch what is convolved, and what is added
        wide = self.relu(self.norm[1](self.pooled(one)) + x)  # (B, 8, H, W)
        narrow = (self.norm[2](self.same(x)) + one).relu()  # (B, 8, H, W)
        x = self.plain_norm(self.round(wide)) + narrow
        # outputs that are looked at again, after a sum, a norm, a ReLU
        y = self.watched(x)
        summed, normed = y + x, self.norm[3](y)
        again = self.norm[4](self.again(summed))
        rectified = torch.relu(again) + self.norm[5](again)
        # one convolution before two norms, and a norm of the batch's own statistics
        shared = self.norm[6](self.shared(rectified)) + self.norm[7](self.shared(normed))
        free = self.own_norm(self.free(shared))
        return torch.cat([shared, shared.relu_(), free], 1).flatten(1)  # (B, 24 H W)


BODIES: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: headless(resnet18),
    "resnet34": lambda: headless(resnet34),
    "resnet50": lambda: headless(resnet50),
    "aerial-resnet18": lambda: encoder_body("aerial-resnet18"),
    "efficientnet_lite0": lambda: timm.create_model("efficientnet_lite0", num_classes=0),
    "convnext_atto": lambda: timm.create_model("convnext_atto", num_classes=0),
    "vit_tiny": lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64),
    "seresnet18": lambda: timm.create_model("seresnet18", num_classes=0),
    "densenet121": lambda: timm.create_model("densenet121", num_classes=0),
    "mobilevit": lambda: timm.create_model("mobilevit_xxs", num_classes=0),
    "odd": Odd,
}


@pytest.mark.parametrize("name", BODIES)
def test_the_same_is_said_of_any_number_of_pictures(name: str) -> None:
    torch.manual_seed(0)
    body = strange(BODIES[name]())
    pixelwise = pictures(3).to(memory_format=torch.channels_last)
    # small pictures for the aerial one, which never halves them before its second stage
    side = 32 if name == "aerial-resnet18" else 64
    assert apart(body, *(pictures(count, side) for count in (1, 7, 32)), pixelwise) < WITHIN


@pytest.mark.parametrize("name", ["resnet34", "efficientnet_lite0", "vit_tiny", "mobilevit"])
def test_the_body_is_left_as_it_is(name: str) -> None:
    body = strange(BODIES[name]()).train()
    before = copy.deepcopy(body.state_dict())
    form = evaluation_form(body)
    with torch.no_grad():
        form(pictures(2))
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())
    assert all(value.stride() == before[key].stride() for key, value in body.state_dict().items())
    assert body.training
    assert all(module.training for module in body.modules())
    assert all(parameter.requires_grad for parameter in body.parameters())
    kept = {value.data_ptr() for value in body.parameters()}
    assert not kept & {value.data_ptr() for value in form.parameters()}


def test_a_body_in_training_is_taken_in_evaluation() -> None:
    body = strange(headless(resnet18))
    given = pictures(4)
    with torch.inference_mode():
        said = body(given)
        heard = evaluation_form(body.train())(given)
    torch.testing.assert_close(heard, said, rtol=WITHIN, atol=WITHIN)


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "resnet50", "aerial-resnet18", "efficientnet_lite0"]
)
def test_nothing_of_the_common_bodies_is_left_to_fold(name: str) -> None:
    form = evaluation_form(strange(BODIES[name]()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in form.modules())
    # the sums and ReLUs of residual blocks too
    assert kinds(form) & {nn.Conv2d, nn.ReLU} == set()
    assert PackedConv2d in kinds(form)


def test_torch_has_the_kernels_that_are_called() -> None:
    """They are no promise of torch: where a new torch fails here, `PackedConv2d` has to follow it."""
    assert has_packed_convolutions()


def test_without_the_kernels_norms_are_folded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_KERNELS", ("_convolution_pointwise", "gone"))
    body = strange(headless(resnet34))
    assert apart(body, pictures(7)) < WITHIN
    form = evaluation_form(body)
    assert PackedConv2d not in kinds(form)
    assert nn.BatchNorm2d not in kinds(form)
    weights = [value for value in form.parameters() if value.dim() == 4]
    assert weights
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in weights)


def test_other_numbers_are_not_packed() -> None:
    """The kernels are asked for 32 bit alone."""
    body = strange(headless(resnet18)).to(torch.float64)
    given = pictures(2).to(torch.float64)
    assert apart(body, given) < WITHIN
    assert PackedConv2d not in kinds(evaluation_form(body))


def test_pictures_of_another_size_follow() -> None:
    form = evaluation_form(body := strange(headless(resnet18)))
    with torch.inference_mode():
        for side in (64, 96, 33):
            torch.testing.assert_close(
                form(pictures(2, side)), body(pictures(2, side)), rtol=WITHIN, atol=WITHIN
            )


def test_what_is_said_of_a_picture_does_not_depend_on_the_call() -> None:
    form, given = evaluation_form(strange(headless(resnet18))), pictures(32)
    with torch.inference_mode():
        assert torch.equal(form(given), form(given))


def test_no_gradients_are_kept() -> None:
    form = evaluation_form(strange(headless(resnet18)))
    assert not form(pictures(1)).requires_grad


def test_a_norm_of_an_unknown_kind_is_called_as_it_is() -> None:
    class Doubled(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    body = strange(nn.Sequential(nn.Conv2d(3, 8, 3), Doubled(8), nn.ReLU(), nn.Flatten()))
    assert apart(body, pictures(2)) < WITHIN
    assert Doubled in kinds(evaluation_form(body))
