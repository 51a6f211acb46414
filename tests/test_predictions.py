"""What is stored of each tile and model is what was judged, and damage is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from roadrisk.errors import ModelError
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import (
    OF_TILES,
    OutOfFold,
    check_out_of_fold,
    outcomes_of,
    predictions_table,
)
from roadrisk.learning.tasks import Task

TASKS = (
    Task(),
    Task("class", "cross-entropy", ("low", "medium", "high")),
    Task("count", "negative-binomial", ()),
    Task("value", "mse", ()),
)


def judged(task: Task, n: int = 30, seed: int = 0, places: bool = True) -> tuple[Outcomes, OutOfFold]:
    """Tiles in no order, with two models."""
    chance = np.random.default_rng(seed)
    high = (chance.random(n) < 0.3).astype(float)
    outcomes = Outcomes(
        task=task,
        key=np.array([f"t{i:03d}" for i in chance.permutation(n)], object),
        dataset=np.full(n, "boston", object),
        label=high * (len(task.classes) - 1) if task.kind == "class" else chance.poisson(2, n).astype(float),
        high=high,
        events=chance.poisson(2, n).astype(float),
        threshold=None,
        area_km2=chance.uniform(0.1, 1, n),
        road_m=np.where(chance.random(n) < 0.2, np.nan, chance.uniform(0, 900, n)),
        has_image=chance.random(n) < 0.5,
        covered=chance.random(n) < 0.5,
        row=chance.integers(-9, 9, n) if places else None,
        col=chance.integers(-9, 9, n) if places else None,
        block=chance.integers(0, 7, n) if places else None,
    )
    outputs = {name: chance.normal(size=(n, task.outputs)) for name in ("fused", "boosting")}
    return outcomes, OutOfFold(chance.integers(0, 3, n), outputs)


def assert_same(one: Outcomes, other: Outcomes) -> None:
    for name, value in vars(one).items():
        again = vars(other)[name]
        if isinstance(value, np.ndarray):
            assert value.dtype == again.dtype, name
            assert pd.Series(value).equals(pd.Series(again)), name
        else:
            assert value == again, name


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}{task.outputs}")
def test_what_was_judged_comes_back_from_disk_bit_for_bit(task: Task, tmp_path: Path) -> None:
    spatial, later = judged(task), judged(task, 17, 1, places=False)
    predictions_table({"spatial": spatial, "temporal": later}).to_parquet(tmp_path / "t.parquet", index=False)
    table = pd.read_parquet(tmp_path / "t.parquet")
    check_out_of_fold(table, "spatial", "fused", 3, "folds.parquet")
    for split, (outcomes, found) in (("spatial", spatial), ("temporal", later)):
        order = np.argsort(outcomes.key)
        read, again = outcomes_of(table, split, task, None)
        assert_same(read, outcomes.taken(order))
        assert np.array_equal(again.fold, found.fold[order])
        assert list(again.outputs) == ["fused", "boosting"]
        for name, outputs in found.outputs.items():
            assert np.array_equal(again.outputs[name], outputs[order])


def test_no_order_of_rows_changes_the_table() -> None:
    outcomes, found = judged(Task())
    order = np.random.default_rng(5).permutation(len(outcomes))
    turned = OutOfFold(found.fold[order], {name: said[order] for name, said in found.outputs.items()})
    first = predictions_table({"spatial": (outcomes, found)})
    assert first.equals(predictions_table({"spatial": (outcomes.taken(order), turned)}))


def test_older_tables_are_read_and_say_nothing_of_tiles() -> None:
    outcomes, found = judged(TASKS[1])
    old = predictions_table({"spatial": (outcomes, found)}).drop(columns=list(OF_TILES))
    check_out_of_fold(old, "spatial", "fused", 3, "folds.parquet")
    with pytest.raises(ModelError, match=r"^the model's predictions lack high, .*, block, as older versions"):
        outcomes_of(old, "spatial", outcomes.task, None)


def test_models_that_judge_different_tiles_are_refused() -> None:
    outcomes, found = judged(Task())
    table = predictions_table({"spatial": (outcomes, found)})
    with pytest.raises(ModelError, match=r"^boosting of split spatial judges other tiles than fused; train"):
        outcomes_of(table.iloc[:-1], "spatial", Task(), None)
    renamed = table.copy()
    renamed.loc[renamed.index[-1], "key"] = "t999"  # as many tiles, and the folds alike
    with pytest.raises(ModelError, match=r"^boosting of split spatial judges other tiles than fused; train"):
        outcomes_of(renamed, "spatial", Task(), None)
    with pytest.raises(ModelError, match=r"no split random; train it again$"):
        outcomes_of(table, "random", Task(), None)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("high", 2.0, "high in F is not true or false"),
        ("covered", "yes", "covered in F is not true or false"),
        ("events", np.inf, "events in F is not finite numbers"),
        ("road_m", np.inf, "road_m in F is not finite numbers"),
        ("area_km2", np.nan, "a value is missing"),
        ("row", 0.5, "row in F is not whole numbers of all tiles or of none"),
        ("block", pd.NA, "block in F is not whole numbers of all tiles or of none"),
    ],
)
def test_damaged_columns_are_refused(column: str, value: object, message: str) -> None:
    table = predictions_table({"spatial": judged(Task())})
    if column in ("high", "covered", "row"):
        table[column] = value
    else:
        table.loc[3, column] = value
    with pytest.raises(ValueError, match=message):
        check_out_of_fold(table, "spatial", "fused", 3, "F")


def test_a_table_that_knows_half_of_a_tile_is_refused() -> None:
    table = predictions_table({"spatial": judged(Task())}).drop(columns=["events", "block"])
    with pytest.raises(ValueError, match=r"^F lacks events, block$"):
        check_out_of_fold(table, "spatial", "fused", 3, "F")


def test_tiles_without_a_known_road_or_place_are_no_damage() -> None:
    outcomes, found = judged(Task(), places=False)
    unknown = replace(outcomes, road_m=np.full(len(outcomes), np.nan))
    check_out_of_fold(predictions_table({"random": (unknown, found)}), "random", "fused", 3, "F")
