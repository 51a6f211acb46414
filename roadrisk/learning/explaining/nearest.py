"""Training tiles that a tile is like, by its facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.examples import Examples
from roadrisk.learning.explaining.explanation import Like
from roadrisk.learning.explaining.voices import own_fold
from roadrisk.learning.facts.preparation import Preparation
from roadrisk.learning.judging.calibration import logit_of_riskiest
from roadrisk.learning.model import Model

NEIGHBOURS = 5
# squared distance of two different texts, as if each were 0/1 numbers
DIFFERENT = 2.0


def distances(preparation: Preparation, tile: Examples, others: Examples) -> FloatArray:
    """(N,) how unlike N tiles are to one: the root mean square of differences of its prepared facts.

    Numbers are in standard deviations of the training tiles, as scaled.

    Parameters
    ----------
    tile : one, of which some fact is known.
    others : N.
    """
    numbers, codes = preparation.prepared(others)
    own_numbers, own_codes = preparation.prepared(tile)
    apart = ((numbers.astype(np.float64) - own_numbers) ** 2).sum(axis=1)
    apart += DIFFERENT * (codes != own_codes).sum(axis=1)
    return np.asarray(np.sqrt(apart / max(1, numbers.shape[1] + codes.shape[1])))


def nearest(apart: FloatArray, key: NDArray[Any], count: int) -> IntArray:
    """Rows of the `count` nearest, the nearest first; ties go by key.

    >>> nearest(np.array([2.0, 0.5, 0.5]), np.array(["a", "c", "b"]), 2).tolist()
    [2, 1]
    """
    return np.asarray(np.lexsort((key.astype(str), apart))[:count])


def alike(
    model: Model, places: Sequence[tuple[Examples, Sequence[str]]], example: Examples
) -> tuple[tuple[Like, ...], str]:
    """Training tiles with the most similar facts, the nearest first, and how many were compared.

    Parameters
    ----------
    places : tiles among which those of training are looked for, and their names.
    example : one tile, which is not compared with itself.
    """
    table = model.out_of_fold
    own = table[(table["split"] == model.split) & (table["model"] == model.name)].set_index("key")
    if model.architecture.facts is None:
        return (), "The model looks at no facts, by which training tiles could be alike."
    if not example.has_facts[0]:
        return (), "Nothing is known of the tile by which training tiles could be like it."
    fold = int(own_fold(model, example.key.tolist())[0])
    preparation = model.fold_models[max(fold, 0)].preparation
    found: dict[str, tuple[float, str]] = {}
    for examples, names in places:
        rows = _compared(examples, own.index, example)
        apart = distances(preparation, example, examples.taken(rows))
        for row, distance in zip(rows.tolist(), apart.tolist(), strict=True):
            found.setdefault(str(examples.key[row]), (distance, names[row]))
    keys = np.array(list(found), dtype=object)
    order = nearest(np.array([distance for distance, _ in found.values()]), keys, NEIGHBOURS)
    like = tuple(_like_tile(model, own.loc[key], key, *found[key]) for key in keys[order])
    return like, _compared_words(len(like), len(found), len(own), model)


def _compared(examples: Examples, trained: pd.Index, example: Examples) -> IntArray:
    keys = examples.key.astype(str)
    there = np.isin(keys, trained.to_numpy(dtype=str)) & (keys != str(example.key[0]))
    return np.flatnonzero(there & examples.has_facts)


def _compared_words(shown: int, compared: int, trained: int, model: Model) -> str:
    if not compared:
        names = ", ".join(str(name) for name in model.provenance.get("regions", [])) or "what it learned from"
        return (
            f"None of the model's {trained:,} training tiles is here to be compared: give the datasets that "
            f"it was trained on ({names}) with --training"
        )
    return (
        f"The {shown} training tiles with the most similar facts, of {compared:,} here "
        f"(the model has {trained:,}); what folds say that did not see them:"
    )


def _like_tile(model: Model, row: pd.Series, key: str, distance: float, name: str) -> Like:
    task = model.architecture.task
    said = float(row["prediction"])
    if model.calibration is not None:
        names = ["output"] if task.outputs == 1 else [f"output_{k}" for k in range(task.outputs)]
        logit = logit_of_riskiest(task, row[names].to_numpy(dtype=float)[None])
        said = float(model.calibration.probability(logit)[0])
    if task.kind == "class":
        seen = task.classes[int(row["label"])]
        counted = model.provenance["label"]["measure"] is not None
        return Like(key, name, distance, said, f"{seen} ({float(row['events']):,.6g})" if counted else seen)
    unit = str(model.provenance["label"].get("unit") or "")
    return Like(key, name, distance, said, f"{float(row['label']):,.6g} {unit}".rstrip())
