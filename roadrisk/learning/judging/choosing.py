"""Which inputs a model keeps when it may choose, and how far along it is from road length to the ceiling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray

SIMPLEST_FIRST = ("facts", "image", "fused")
WITHIN_FOLDS = "auroc_fold_mean"
RULE = "the one-standard-error rule of Breiman et al. 1984, on paired differences"


@dataclass(frozen=True)
class Choice:
    """A model, and in one line how it was chosen.

    Parameters
    ----------
    name : of the model.
    """

    name: str
    told: str


def simplest(
    losses: Mapping[str, FloatArray], block: IntArray | None, order: Sequence[str] = SIMPLEST_FIRST
) -> Choice:
    """The simplest model whose mean loss is within one standard error of the best's.

    The rule is that of Breiman, Friedman, Olshen and Stone 1984, Classification and Regression Trees, 3.4.3.
    Theirs is the standard error of the best's loss; here all are judged on the same tiles, so it is that of
    the difference from the best, and over blocks where there are two or more, since neighbours err alike.

    Parameters
    ----------
    losses : by model, (N,) what each tile cost in inner folds, all on the same tiles; a model whose losses
        are not all finite is not chosen.
    block : (N,) number of each tile's block; None where tiles have no place.
    order : models, the simplest first.

    Raises
    ------
    ModelError : no model has a finite loss.

    Examples
    --------
    >>> found = simplest({"facts": np.array([1.0, 3, 2]), "fused": np.array([0.7, 3, 2])}, None)
    >>> print(found.name, found.told, sep=": ")
    facts: mean inner-fold loss 2.000 facts, 1.900 fused; simplest within one standard error (0.100, over \
3 tiles) of fused is facts: the one-standard-error rule of Breiman et al. 1984, on paired differences
    """
    names = [name for name in order if name in losses and np.isfinite(losses[name]).all()]
    if not names:
        raise ModelError(
            "no model has a finite loss in the inner folds; look for extreme values in the facts"
        )
    # sums in an order of their own, whatever the order of rows
    rows = np.lexsort([*(losses[name] for name in names), *([] if block is None else [block])])
    ordered = {name: losses[name][rows] for name in names}
    means = {name: math.fsum(loss.tolist()) / len(rows) for name, loss in ordered.items()}
    best = min(means, key=lambda name: means[name])
    known = None if block is None or len(np.unique(block)) < 2 else block[rows]
    over = f"{len(rows):,} tiles" if known is None else f"{len(np.unique(known)):,} blocks"
    for name in names:
        apart = ordered[name] - ordered[best]
        error = _standard_error(apart, known)
        if means[name] - means[best] <= error:
            break
    said = ", ".join(f"{mean:.3f} {name}" for name, mean in means.items())
    within = f"simplest within one standard error ({error:.3f}, over {over}) of {best}"
    kept = (
        f"{within} is {name}"
        if name != best
        else f"none simpler is within one standard error (over {over}) of {best}"
    )
    return Choice(name, f"mean inner-fold loss {said}; {kept}: {RULE}")


def road_to_ceiling(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """By split and model, the share of the way from the AUROC of road length alone to the ceiling.

    All three within folds, since scores of several fold models are not on one scale: a network would seem
    nearer to road length than it is. 0 is no better than to count metres of road, 1 is all that can be known;
    below 0 is worse than road.

    Parameters
    ----------
    metrics : `metrics[split][model][metric]`.

    Returns
    -------
    Nothing of a split without road length, and of models without a ceiling above it.

    Examples
    --------
    >>> fused = {"auroc_fold_mean": 0.875, "ceiling_auroc_fold_mean": 1.0}
    >>> road_to_ceiling({"spatial": {"road_length": {"auroc_fold_mean": 0.75}, "fused": fused}})
    {'spatial': {'fused': 0.5}}
    """
    shares: dict[str, dict[str, float]] = {}
    for split, models in metrics.items():
        road = models.get("road_length", {}).get(WITHIN_FOLDS)
        if road is None:
            continue
        ceilings = {
            name: (of.get(WITHIN_FOLDS), of.get(f"ceiling_{WITHIN_FOLDS}")) for name, of in models.items()
        }
        share = {
            name: (reached - road) / (ceiling - road)
            for name, (reached, ceiling) in ceilings.items()
            if name != "road_length" and reached is not None and ceiling is not None and ceiling > road
        }
        if share:
            shares[split] = share
    return shares


def _standard_error(apart: FloatArray, block: IntArray | None) -> float:
    """Of the mean; over blocks, that of a mean of clusters (Cochran 1977, Sampling Techniques, 9A).

    Parameters
    ----------
    apart : (N,).
    block : (N,); tiles are drawn one by one without it.
    """
    cluster = np.arange(len(apart)) if block is None else np.unique(block, return_inverse=True)[1].reshape(-1)
    off = np.bincount(cluster, weights=apart - apart.mean())
    count = len(off)
    return math.sqrt(count / (count - 1) * float((off**2).sum())) / len(apart) if count > 1 else 0.0
