"""What a network that draws roads loses: over known pixels only, and for gaps in lines more than for area."""

import numpy as np
import pytest
import torch
from torch import Tensor

from roadrisk.nets.road_losses import cldice_loss, cldice_sums, dice_loss, dice_sums, soft_skeleton


def field(seed: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, roads and what is known of them, by chance."""
    chance = np.random.default_rng(seed)
    shape = (batch, 1, 24, 32)
    logits = torch.from_numpy(chance.normal(size=shape).astype(np.float32))
    road, known = (torch.from_numpy((chance.random(shape) < p).astype(np.float32)) for p in (0.3, 0.7))
    return logits, road, known


def logits_of(mask: Tensor) -> Tensor:
    return (mask - 0.5) * 20


def test_dice_is_what_the_formula_says() -> None:
    logits, road, known = field(0)
    p, t, k = (of.double().numpy().ravel() for of in (logits.sigmoid(), road, known))
    entropy = -(k * (t * np.log(p) + (1 - t) * np.log(1 - p))).sum() / k.sum()
    dice = (2 * (k * p * t).sum() + 1) / ((k * p).sum() + (k * t).sum() + 1)
    assert float(dice_loss(dice_sums(logits, road, known))) == pytest.approx(entropy + 1 - dice, abs=1e-5)


@pytest.mark.parametrize("kind", ["dice", "cldice"])
def test_what_is_not_known_is_not_learned(kind: str) -> None:
    def loss(logits: Tensor, road: Tensor) -> Tensor:
        if kind == "dice":
            return dice_loss(dice_sums(logits, road, known))
        return cldice_loss(cldice_sums(logits, road, known, 1))

    logits, road, known = field(1)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, road), logits)
    assert not gradient[known == 0].any()
    assert gradient[known == 1].count_nonzero() > 100
    other = torch.where(known == 0, 1 - road, road)
    assert torch.equal(loss(logits, other), loss(logits, road))


@pytest.mark.parametrize("kind", ["dice", "cldice"])
def test_sums_of_pictures_one_by_one_are_those_of_all_together(kind: str) -> None:
    logits, road, known = field(2, batch=3)
    sums = dice_sums if kind == "dice" else lambda *of: cldice_sums(*of, 2)
    together = sums(logits, road, known)
    singly = sum(sums(logits[[n]], road[[n]], known[[n]]) for n in range(3))
    assert torch.allclose(together, singly, rtol=1e-4)


@pytest.mark.parametrize("kind", ["dice", "cldice"])
def test_nothing_known_costs_nothing(kind: str) -> None:
    logits, road, known = field(3)
    nothing = torch.zeros_like(known)
    sums = dice_sums(logits, road, nothing) if kind == "dice" else cldice_sums(logits, road, nothing, 1)
    loss = dice_loss(sums) if kind == "dice" else cldice_loss(sums)
    assert float(loss) == pytest.approx(0)


def street(width: int = 5) -> Tensor:
    """A straight street across 32 x 64 pixels."""
    mask = torch.zeros(1, 1, 32, 64)
    mask[..., 14 : 14 + width, :] = 1
    return mask


def test_a_gap_costs_cldice_more_than_as_many_pixels_along_the_side() -> None:
    road = street()
    gap, fat = road.clone(), road.clone()
    gap[..., 30:36] = 0  # 5 x 6 pixels
    fat[..., 19, 10:40] = 1  # 30 pixels
    assert (gap != road).sum() == (fat != road).sum() == 30
    known = torch.ones_like(road)
    cost = {
        (name, kind): float(loss(sums(logits_of(mask), road, known)))
        for name, mask in (("gap", gap), ("fat", fat))
        for kind, loss, sums in (
            ("dice", dice_loss, dice_sums),
            ("cldice", cldice_loss, lambda *of: cldice_sums(*of, 1)),
        )
    }
    # of 64 pixels of line six are not found: sensitivity 58 / 64
    entropy = 10 * 30 / (32 * 64)
    assert cost["gap", "cldice"] - entropy == pytest.approx(1 - 2 * (59 / 65) / (1 + 59 / 65), abs=0.01)
    assert cost["fat", "cldice"] - entropy < 0.01
    assert cost["gap", "dice"] == pytest.approx(cost["fat", "dice"], abs=0.01)


@pytest.mark.parametrize("width", [1, 3, 9, 17])
def test_the_skeleton_of_a_street_is_its_middle(width: int) -> None:
    line = soft_skeleton(street(width))[0, 0]
    middle = torch.zeros(32, 64)
    middle[14 + width // 2] = 1
    # the ends of the picture, where a street stops, are thinned too
    assert torch.equal(line[:, width:-width], middle[:, width:-width])


def test_streets_wider_than_the_network_thins_have_no_skeleton() -> None:
    assert not soft_skeleton(street(9), iterations=3)[0, 0, :, 9:-9].any()


def test_a_skeleton_follows_what_the_network_sees() -> None:
    """At half the size a street of twice the width has the same line."""
    road, known = street(10), torch.ones(1, 1, 32, 64)
    sums = cldice_sums(logits_of(road), road, known, 2)
    assert float(sums[5]) == pytest.approx(float(soft_skeleton(street()[..., ::2])[0, 0].sum()), rel=0.1)
    assert float(cldice_loss(sums)) == pytest.approx(0, abs=1e-3)
