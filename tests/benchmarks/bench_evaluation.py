"""The core of an evaluation, from features that are kept: what each part of it takes on 3,000 made-up tiles.

Facts and features are planted: risk is in two of forty facts, in a product of two others, and along one
direction of the features, of which a tile in ten has none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from imagery_examples import Effort, effort_of, said
from numpy.typing import NDArray

from roadrisk.assessing import Assessment, assessed
from roadrisk.columns import Column
from roadrisk.comparing import compared, contestants
from roadrisk.gathering import Gathered, gathered
from roadrisk.grid import IntArray
from roadrisk.inputs import tiles_at
from roadrisk.learning.baselines.judged import Baselines, KnownAmounts, baselines_out_of_fold
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds, random_folds, spatial_folds
from roadrisk.learning.judging.measures import auroc
from roadrisk.learning.labels.label import high_risk
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.pictures.sources import CachedPictures, PicturePreparation
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import Task
from roadrisk.learning.validation import Training

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
    return MadeUp(examples, KnownAmounts(road_m, events, threshold, aadt, features.astype(np.float32)), folds)


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


@dataclass(frozen=True)
class NoisePictures:
    """Small pictures, another for each tile."""

    count: int
    identity: str = "noise"
    size_px: int = 8

    @property
    def keys(self) -> IntArray:
        return np.arange(self.count)

    def __len__(self) -> int:
        return self.count

    def prepared(self, indices: IntArray) -> NDArray[np.uint8]:
        seeds = [np.random.default_rng(int(i)) for i in indices]
        return np.stack([seed.integers(0, 256, (3, 8, 8), dtype=np.uint8) for seed in seeds])


def gathered_from(tiles: MadeUp, table: Path, settings: TrainSettings) -> Gathered:
    """The same tiles as `train` gathers them, from a table without pictures, to which these are given."""
    examples = tiles.examples
    assert examples.row is not None
    assert examples.col is not None
    frame = pd.DataFrame(examples.facts, columns=[column.name for column in examples.columns])
    frame["id"], frame["image_path"], frame["events"] = examples.key, None, tiles.known.events
    frame["lon"] = -71.0 + examples.col * 0.003
    frame["lat"] = 42.0 - examples.row * 0.00225
    frame.to_parquet(table)
    learned = gathered([tiles_at(table, ("aerial",))], replace(settings, inputs="facts"))
    pictured = replace(
        learned.examples,
        views=("",),
        pictures=((CachedPictures(NoisePictures(len(examples)), table.parent),),),
        picture=examples.picture[learned.known],
    )
    label = replace(learned.label, unit="events")  # a table does not say that it counts
    return replace(learned, examples=pictured, label=label, pictures=(PicturePreparation(8),))


@pytest.mark.benchmark(group="the whole core from kept features, 3,000 tiles, 5 + 5 folds, 1,000 draws")
def test_core(benchmark: Any, capsys: Any, tmp_path: Path) -> None:
    tiles = made_up(CLASS)
    settings = resolved(
        TrainSettings(label="events", at_least=tiles.known.threshold, encoder="aerial-resnet18", folds=FOLDS)
    )
    learned = gathered_from(tiles, tmp_path / "tiles.parquet", settings)
    rivals = contestants(settings, learned)
    features = torch.from_numpy(np.nan_to_num(tiles.known.features)).float()
    feed = ImageFeed(lambda indices, turns: features[indices], lambda indices, progress: None)
    feeds: dict[bool, list[ImageFeed | None]] = {True: [feed], False: []}
    training = Training(settings, fabric_of(settings), learned.block, learned.buffer)
    found: list[Assessment] = []

    def core() -> None:
        comparison = compared(learned, rivals, feeds, training)
        found.append(assessed(learned, rivals, comparison, feeds, training))

    own: list[Effort] = []
    benchmark.pedantic(lambda: own.append(effort_of(core)), rounds=1)
    outputs = found[0].metrics["spatial"]
    scores = {f"spatial_auroc_{name}": round(of["auroc"], 3) for name, of in outputs.items()}
    said(benchmark, capsys, seconds=own[0].seconds, cores=own[0].cores, **scores)
