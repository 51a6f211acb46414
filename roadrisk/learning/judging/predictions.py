"""What compared models say of the tiles that they did not see, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.tasks import Task, prediction

TEXT, NUMBERS = ("split", "model", "dataset", "key"), ("label", "output", "prediction")


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


def out_of_fold_table(
    key: NDArray[Any],
    dataset: NDArray[Any],
    label: FloatArray,
    task: Task,
    splits: Mapping[Any, OutOfFold],
) -> pd.DataFrame:
    """A row for each split, model and training tile, in the order of splits, models and keys.

    Its columns: `split, model, dataset, key, fold, label`; `output`, the logit of the riskiest class, the
    value or the log of the expected count; `prediction`, what that means; and for more than two classes
    the logit of each, `output_0` and on.

    Parameters
    ----------
    key : (N,) a tile's id, after its source where ids are only that source's own.
    dataset : (N,) identity of the dataset that each tile is from.
    """
    order = np.argsort(key, kind="stable")
    tables = []
    for split, of_split in splits.items():
        for model, outputs in of_split.outputs.items():
            ordered = outputs[order]
            table = pd.DataFrame(
                {
                    "split": split,
                    "model": model,
                    "dataset": dataset[order].astype(str),
                    "key": key[order].astype(str),
                    "fold": of_split.fold[order],
                    "label": label[order],
                    "output": ordered[:, -1],
                    "prediction": prediction(task, ordered),
                }
            )
            if task.outputs > 1:
                table = table.assign(**{f"output_{k}": ordered[:, k] for k in range(task.outputs)})
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def check_out_of_fold(table: pd.DataFrame, split: str, model: str, folds: int, where: str) -> None:
    """Refuse a table that would score a training tile by the wrong fold, or by none.

    Parameters
    ----------
    split, model : those whose `folds` models are there.

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
    if not pd.api.types.is_integer_dtype(table["fold"]) or table.isna().to_numpy().any():
        raise ValueError(f"fold in {where} is not whole numbers, or a value is missing")
    own = table.loc[(table["split"] == split) & (table["model"] == model), "fold"]
    if own.empty or table["fold"].min() < 0 or own.max() >= folds:
        raise ValueError(f"{where} names folds that the model does not have")
    if table.duplicated(["split", "model", "key"]).any():
        raise ValueError(f"{where} has a tile twice")
