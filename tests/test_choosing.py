"""The simplest model within one standard error of the best, and the way to the ceiling."""

import numpy as np
import pytest

from roadrisk.errors import ModelError
from roadrisk.learning.judging.choosing import road_to_ceiling, simplest


def losses(gap: float, noise: float = 0.5, n: int = 400, seed: int = 0) -> dict[str, np.ndarray]:
    """`fused` is better than `facts` by `gap` exactly on average, give or take `noise` a tile."""
    chance = np.random.default_rng(seed)
    fused, apart = chance.gamma(2, 0.3, n), chance.normal(0, noise, n)
    return {"fused": fused, "facts": fused + gap + apart - apart.mean(), "image": fused + 1.0}


def test_within_one_standard_error_the_simplest_is_kept() -> None:
    error = 0.5 / np.sqrt(400)
    assert simplest(losses(0.9 * error), None).name == "facts"
    assert simplest(losses(1.2 * error), None).name == "fused"
    assert simplest(losses(-0.1), None).name == "facts"  # it is the best


def test_the_standard_error_is_that_of_the_paired_difference() -> None:
    same = losses(0.01, noise=0.0)
    # the losses themselves are as uncertain as ever, but every single tile is worse
    assert simplest(same, None).name == "fused"
    by_hand = losses(0.02, noise=0.3)
    apart = by_hand["facts"] - by_hand["fused"]
    error = apart.std(ddof=1) / np.sqrt(400)
    assert f"({error:.3f}, over 400 tiles)" in simplest(losses(0.9 * error, noise=0.3), None).told


def test_neighbours_that_err_alike_make_the_error_larger() -> None:
    chance = np.random.default_rng(1)
    block = np.repeat(np.arange(25), 16)
    apart = chance.normal(0, 0.5, 25)[block]
    apart += 0.06 - apart.mean()
    by_block = {"facts": 1 + apart, "fused": np.ones(400)}
    assert simplest(by_block, None).name == "fused"
    assert simplest(by_block, block).name == "facts"
    # blocks of equal size: the error of the mean of 25 block means
    error = apart[::16].std(ddof=1) / 5
    assert f"({error:.3f}, over 25 blocks)" in simplest(by_block, block).told
    assert "over 400 tiles" in simplest(by_block, np.zeros(400, int)).told


def test_blocks_weigh_as_many_tiles_as_they_hold() -> None:
    block = np.array([0, 0, 0, 1, 2])
    apart = np.array([1.0, -2.0, 0.5, 1.0, 0.0])
    found = simplest({"facts": apart, "fused": np.zeros(5)}, block)
    # mean 0.1; the sums of blocks are off by -0.8, 0.9 and -0.1
    error = np.sqrt(3 / 2 * (0.8**2 + 0.9**2 + 0.1**2)) / 5
    assert found.name == "facts"
    assert f"({error:.3f}, over 3 blocks)" in found.told


def test_the_order_given_is_that_of_simplicity() -> None:
    tie = {"fused": np.ones(9), "image": np.ones(9), "facts": np.ones(9)}
    assert simplest(tie, None).name == "facts"
    assert simplest(tie, None, ("image", "facts", "fused")).name == "image"
    assert simplest({"image": np.ones(9), "fused": np.ones(9)}, None).name == "image"


def test_no_order_of_rows_changes_the_choice() -> None:
    of, block = losses(0.02), np.random.default_rng(0).integers(0, 30, 400)
    order = np.random.default_rng(2).permutation(400)
    turned = {name: loss[order] for name, loss in reversed(of.items())}
    assert simplest(of, block) == simplest(turned, block[order])


def test_what_is_said_names_the_rule_and_every_loss() -> None:
    found = simplest({"facts": np.array([1.0, 2, 3]), "fused": np.array([0.0, 1, 2])}, None)
    assert (found.name, found.told) == (
        "fused",
        "mean inner-fold loss 2.000 facts, 1.000 fused; none simpler is within one standard error (over 3 tiles) of fused: "
        "the one-standard-error rule of Breiman et al. 1984, on paired differences",
    )


def test_a_loss_that_is_not_finite_is_never_the_best() -> None:
    broken = {"facts": np.array([np.inf, 0.0, 0.0]), "fused": np.ones(3)}
    assert simplest(broken, None).name == "fused"
    with pytest.raises(ModelError, match=r"^no model has a finite loss in the inner folds; look for extreme"):
        simplest({"facts": np.array([np.nan])}, None)


def scored(auroc: float | None, ceiling: float | None) -> dict[str, float | None]:
    return {"auroc_fold_mean": auroc, "ceiling_auroc_fold_mean": ceiling}


def test_the_way_from_road_length_to_the_ceiling() -> None:
    metrics = {
        "spatial": {
            "road_length": scored(0.7, 0.9),
            # models of several folds on several scales, which pooling them shows and pairs within do not
            "fused": scored(0.85, 0.9) | {"auroc": 0.6, "ceiling_auroc": 0.99},
            "base_rate": scored(0.5, 0.9),
            "image": scored(None, 0.9),
            "facts": scored(0.8, None),
        },
        "random": {"fused": scored(0.9, 0.95)},
        "metro": {"road_length": scored(0.9, None), "fused": scored(0.8, 0.9)},
    }
    found = road_to_ceiling(metrics)
    assert found == {"spatial": {"fused": pytest.approx(0.75), "base_rate": pytest.approx(-1.0)}}
