"""The core of an evaluation, from features that are kept: what each part of it takes on 3,000 made-up tiles.

Facts and features are planted: risk is in two of forty facts, in a product of two others, and along one
direction of the features, of which a tile in ten has none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from imagery_examples import Effort, effort_of, said

from roadrisk.columns import Column
from roadrisk.learning.baselines.judged import Baselines, KnownAmounts, baselines_out_of_fold
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds, random_folds, spatial_folds
from roadrisk.learning.judging.measures import auroc
from roadrisk.learning.labels.label import high_risk
from roadrisk.learning.tasks import Task

ROWS, COLS, FACTS, FEATURES, FOLDS = 50, 60, 40, 512, 5
BLOCK, BUFFER, CELL_KM = 4, 1, 0.25
CLASS, COUNT = Task(), Task("count", "negative-binomial", ())


class MadeUp(NamedTuple):
    """Tiles, what is known of them besides, and their folds by split."""

    examples: Examples
    known: KnownAmounts
    folds: dict[str, Folds]


def made_up(task: Task, seed: int = 0) -> MadeUp:
    """Tiles whose risk is in facts and pictures."""
    chance = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(ROWS * COLS), COLS)
    n = len(row)
    road_m, aadt = chance.gamma(2.0, 600.0, n), np.exp(chance.normal(8.5, 0.8, n))
    facts = np.column_stack([road_m, aadt, chance.normal(50.0, 10.0, (n, FACTS - 2))])
    facts[chance.random((n, FACTS)) < 0.05] = np.nan
    scene = chance.normal(size=(n, 24))  # what features see: few things, each in many of them
    features = scene @ chance.normal(size=(24, FEATURES)) + chance.normal(size=(n, FEATURES))
    features[chance.random(n) < 0.1] = np.nan
    speed = np.nan_to_num((facts[:, 2:4] - 50.0) / 10.0)
    risk = np.log(road_m / 1200.0) + 0.6 * (np.log(aadt) - 8.5) + 0.5 * speed.prod(axis=1) + 0.7 * scene[:, 0]
    events = chance.poisson(np.exp(risk) * chance.gamma(2.0, 0.5, n)).astype(float)
    threshold = float(np.quantile(events, 0.8)) + 1.0
    label = events if task.kind == "count" else (events >= threshold).astype(float)
    columns = tuple(
        Column("road_m", "float64", "m", "feature", "sum", "Centre-line length.")
        if j == 0
        else Column(f"fact_{j:02}", "float64", "", "feature", "mean", "A fact.", by=("road_m",))
        for j in range(FACTS)
    )
    key = np.array([f"26919/250/{c}/{r}" for r, c in zip(row, col, strict=True)], dtype=object)
    texts = np.empty((n, 0), object)
    picture = np.where(np.isfinite(features[:, :1]), np.arange(n)[:, None], -1)
    area = np.full(n, CELL_KM**2)
    examples = Examples(
        key, label, facts, columns, texts, (), area, ("aerial",), ((),), picture, row, col, np.ones(n)
    )
    high = high_risk(task, label)
    folds = {
        "spatial": spatial_folds(row, col, high, FOLDS, seed, BLOCK, BUFFER),
        "random": random_folds(key, high, FOLDS, seed),
    }
    return MadeUp(
        examples, KnownAmounts(road_m, events, threshold, aadt, road_m, features.astype(np.float32)), folds
    )


@pytest.mark.benchmark(group="all baselines, 3,000 tiles of 40 facts and 512 features, 5 + 5 folds")
@pytest.mark.parametrize("task", [CLASS, COUNT], ids=lambda task: task.kind)
def test_all_baselines(benchmark: Any, capsys: Any, task: Task) -> None:
    tiles = made_up(task)
    found: dict[str, Baselines] = {}

    def all_baselines() -> None:
        for split, folds in tiles.folds.items():
            found[split] = baselines_out_of_fold(tiles.examples, folds, task, 0, tiles.known, BLOCK)

    own: list[Effort] = []
    benchmark.pedantic(lambda: own.append(effort_of(all_baselines)), rounds=1)
    high = high_risk(task, tiles.examples.label)
    scores = {
        f"{split}_auroc_{name}": round(auroc(high, outputs[:, 0]), 3)
        for split, baselines in found.items()
        for name, outputs in baselines.outputs.items()
    }
    said(benchmark, capsys, seconds=own[0].seconds, cores=own[0].cores, **scores)
