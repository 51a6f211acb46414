"""What compared models say of the tiles that they did not see, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.tasks import Task, prediction

TEXT, NUMBERS = ("split", "model", "dataset", "key"), ("label", "output", "prediction")
# of each tile, besides; tables of formats before 5 have none of these
FLAGS, AMOUNTS, PLACES = ("high", "has_image", "covered"), ("events", "area_km2"), ("row", "col", "block")
OF_TILES = ("high", "events", "area_km2", "road_m", "has_image", "covered", *PLACES)


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What the models of a split say of N tiles.

    Parameters
    ----------
    fold : (N,) in which each tile was tested.
    outputs : by model's name, (N, K) as the task says them.
    """

    fold: IntArray
    outputs: Mapping[str, FloatArray]

    def taken(self, rows: IntArray) -> OutOfFold:
        """These rows in this order."""
        return OutOfFold(self.fold[rows], {name: said[rows] for name, said in self.outputs.items()})


def predictions_table(splits: Mapping[str, tuple[Outcomes, OutOfFold]]) -> pd.DataFrame:
    """A row for each split, model and judged tile, in the order of splits, models and keys.

    Its columns: `split, model, dataset, key, fold, label`; `output`, the logit of the riskiest class, the
    value or the log of the expected count; `prediction`, what that means; for more than two classes the
    logit of each, `output_0` and on; and of the tile `high`, `events`, `area_km2` [km2], `road_m` [m, NaN
    where unknown], `has_image`, `covered`, and `row`, `col` and `block`, whole numbers that are missing
    where tiles have no place.

    Parameters
    ----------
    splits : each has tiles of its own, since a later period may know others.
    """
    tables = []
    for split, (outcomes, found) in splits.items():
        order = np.argsort(outcomes.key, kind="stable")
        ordered = outcomes.taken(order)
        for model, outputs in found.outputs.items():
            said = _said(ordered.task, outputs[order])
            table = pd.DataFrame({"split": split, "model": model, **_identity(ordered, found.fold[order])})
            tables.append(table.assign(**said, **_of_tiles(ordered)))
    return pd.concat(tables, ignore_index=True)


def outcomes_of(
    table: pd.DataFrame, split: str, task: Task, threshold: float | None
) -> tuple[Outcomes, OutOfFold]:
    """What was judged in a split and what was said of it, in the order of keys: the inverse of the table.

    Parameters
    ----------
    table : as `predictions_table` makes it.
    threshold : as of `Outcomes`.

    Raises
    ------
    ModelError : the table is of an older format, has no such split, or its models judge different tiles.
    """
    lacking = [name for name in OF_TILES if name not in table]
    if lacking:
        raise ModelError(
            f"the model's predictions lack {', '.join(lacking)}, as older versions wrote them; train it again"
        )
    parts = {str(name): part for name, part in table[table["split"] == split].groupby("model", sort=False)}
    if not parts:
        raise ModelError(f"the model's predictions have no split {split}; train it again")
    names = ["output"] if task.outputs == 1 else [f"output_{k}" for k in range(task.outputs)]
    parts = {model: part.sort_values("key", kind="stable") for model, part in parts.items()}
    first = next(iter(parts.values()))
    for model, part in parts.items():
        if not np.array_equal(part["key"], first["key"]) or not np.array_equal(part["fold"], first["fold"]):
            raise ModelError(
                f"{model} of split {split} judges other tiles than {next(iter(parts))}; train it again"
            )
    outputs = {model: part[names].to_numpy(np.float64) for model, part in parts.items()}
    return _outcomes(first, task, threshold), OutOfFold(first["fold"].to_numpy(np.int64), outputs)


def check_out_of_fold(
    table: pd.DataFrame, split: str, model: str, folds: int, where: str, classes: int = 0
) -> None:
    """Refuse a table that would score a training tile by the wrong fold, or by none.

    Parameters
    ----------
    split, model : those whose `folds` models are there.
    classes : that labels count from 0; 0 where labels are no classes.

    Raises
    ------
    ValueError : what is wrong in `where`.
    """
    lacking = [name for name in (*TEXT, "fold", *NUMBERS) if name not in table]
    if lacking:
        raise ValueError(f"{where} lacks {', '.join(lacking)}")
    for name in TEXT:
        if not pd.api.types.is_string_dtype(table[name]):
            raise ValueError(f"{name} in {where} is not text")
    for name in NUMBERS:
        if not pd.api.types.is_float_dtype(table[name]) or not np.isfinite(table[name].to_numpy(float)).all():
            raise ValueError(f"{name} in {where} is not finite numbers")
    known = table.drop(columns=[*PLACES, "road_m"], errors="ignore")
    if not pd.api.types.is_integer_dtype(table["fold"]) or known.isna().to_numpy().any():
        raise ValueError(f"fold in {where} is not whole numbers, or a value is missing")
    own = table.loc[(table["split"] == split) & (table["model"] == model), "fold"]
    if own.empty or table["fold"].min() < 0 or own.max() >= folds:
        raise ValueError(f"{where} names folds that the model does not have")
    kinds = table["label"].unique()
    if classes and (len(kinds) < 2 or not np.isin(kinds, np.arange(classes)).all()):
        raise ValueError(f"label in {where} is not of the {classes} classes of the model")
    if table.duplicated(["split", "model", "key"]).any():
        raise ValueError(f"{where} has a tile twice")
    if any(name in table for name in OF_TILES):
        _check_of_tiles(table, where)


def _check_of_tiles(table: pd.DataFrame, where: str) -> None:
    """What is known of each tile is of its kind, and no split knows the places of only some."""
    lacking = [name for name in OF_TILES if name not in table]
    if lacking:
        raise ValueError(f"{where} lacks {', '.join(lacking)}")
    for name in FLAGS:
        if not pd.api.types.is_bool_dtype(table[name]):
            raise ValueError(f"{name} in {where} is not true or false")
    for name in (*AMOUNTS, "road_m"):
        values = table[name]
        if not pd.api.types.is_float_dtype(values) or np.isinf(values.to_numpy(float)).any():
            raise ValueError(f"{name} in {where} is not finite numbers")
    for name in PLACES:
        known = table[name].notna().groupby(table["split"])
        if not pd.api.types.is_integer_dtype(table[name]) or (known.any() != known.all()).any():
            raise ValueError(f"{name} in {where} is not whole numbers of all tiles or of none")


def _said(task: Task, outputs: FloatArray) -> dict[str, FloatArray]:
    """What a model says of N tiles, (N, K), as columns."""
    more = {f"output_{k}": outputs[:, k] for k in range(task.outputs)} if task.outputs > 1 else {}
    return {"output": outputs[:, -1], "prediction": prediction(task, outputs), **more}


def _identity(outcomes: Outcomes, fold: IntArray) -> dict[str, Any]:
    return {
        "dataset": outcomes.dataset.astype(str),
        "key": outcomes.key.astype(str),
        "fold": fold,
        "label": outcomes.label,
    }


def _of_tiles(outcomes: Outcomes) -> dict[str, Any]:
    places = {
        name: pd.array([pd.NA] * len(outcomes) if place is None else place, dtype="Int64")
        for name, place in zip(PLACES, (outcomes.row, outcomes.col, outcomes.block), strict=True)
    }
    return {
        "high": outcomes.high == 1,
        "events": outcomes.events,
        "area_km2": outcomes.area_km2,
        "road_m": outcomes.road_m,
        "has_image": outcomes.has_image,
        "covered": outcomes.covered,
        **places,
    }


def _outcomes(part: pd.DataFrame, task: Task, threshold: float | None) -> Outcomes:
    """Of one model's rows."""
    numbers = {name: part[name].to_numpy(np.float64) for name in ("label", "high", *AMOUNTS, "road_m")}
    flags = {name: part[name].to_numpy(np.bool_) for name in ("has_image", "covered")}
    text = {name: part[name].to_numpy(object) for name in ("key", "dataset")}
    row, col, block = (None if part[name].isna().any() else part[name].to_numpy(np.int64) for name in PLACES)
    return Outcomes(task=task, threshold=threshold, row=row, col=col, block=block, **numbers, **flags, **text)
