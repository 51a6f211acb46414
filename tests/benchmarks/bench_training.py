"""Training, evaluation and scoring with a frozen ResNet34, cold: pictures are looked at, nothing is kept yet.

Each works on a made-up metro of over 2,000 tiles of 256 px, with as many threads as its rival (`OMP_NUM_THREADS`;
one unless it is set). The first version's way would take hours, so some of its batches are timed, half of them
before and half after ours: what it takes a tile is the same in every epoch, and times the tiles of all its epochs
is what it would take. A run for each; core-seconds stand beside the clock, for machines that others use too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from imagery_examples import Effort, effort_of, said
from safetensors.torch import save_file
from training_rivals import (
    BATCH,
    EPOCHS,
    SIDE_PX,
    FirstVersion,
    LabelledTiles,
    in_a_fresh_process,
    learned_from,
    our_evaluation,
    our_fit,
    our_settings,
)

from roadrisk.comparing import folds_of
from roadrisk.dataset import read_dataset
from roadrisk.gathering import Gathered, gathered
from roadrisk.inputs import cache_of, tiles_at
from roadrisk.learning.facts.preparation import learned_preparation
from roadrisk.nets.encoders import encoder_body
from roadrisk.nets.inference import evaluation_form
from roadrisk.region import read_region
from roadrisk.scoring import ScoreSettings, score
from roadrisk.sources.demo import made_up_metro
from roadrisk.tiling import tile

SIDE_TILES = 48
SAMPLED = 8 * BATCH  # tiles of the rival that are timed, before ours and again after
GROUP = f"a frozen ResNet34, {SIDE_TILES**2:,} tiles of 256 px, from nothing"

pytestmark = pytest.mark.benchmark(group=GROUP)


class Material(NamedTuple):
    """A dataset, weights for its encoder, and the same tiles as the first version reads them."""

    dataset: Path
    weights: Path
    learned: Gathered
    files: LabelledTiles


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("training")
    metro = made_up_metro(folder / "metro", seed=0, rows=SIDE_TILES, cols=SIDE_TILES)
    dataset, weights = folder / "dataset", folder / "resnet34.safetensors"
    tile(replace(read_region(metro.region), tile_size=256, drop_uncovered=True), dataset)
    torch.manual_seed(0)
    save_file(encoder_body("resnet34").state_dict(), weights)
    learned = gathered([tiles_at(dataset, ("aerial",))], our_settings(weights))
    assert len(learned.examples) >= 2000
    return Material(dataset, weights, learned, as_files(dataset, learned, folder / "png", weights))


def as_files(dataset: Path, learned: Gathered, folder: Path, weights: Path) -> LabelledTiles:
    """The same tiles, a PNG file each."""
    folder.mkdir()
    examples, reader = learned.examples, read_dataset(dataset).reader("aerial")
    frame = learned.tiles.frame.iloc[learned.known]
    paths = []
    for row, col in zip(frame["row"], frame["col"], strict=True):
        paths.append(folder / f"{row}_{col}.png")
        cv2.imwrite(str(paths[-1]), reader.read(row, col)[::-1].transpose(1, 2, 0))
    numbers, _ = learned_preparation(examples, our_settings(weights)).prepared(examples)
    return LabelledTiles(paths, torch.from_numpy(numbers), torch.from_numpy(examples.label).float())


def first_version(material: Material) -> Callable[[], Effort]:
    """What some batches of the first version's loop take."""
    network = FirstVersion(material.weights, material.files.numbers.shape[1])
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad])
    rows = np.random.default_rng(0).permutation(len(material.files.paths))[:SAMPLED]
    learned_from(material.files, network, optimiser, rows[:BATCH])
    return lambda: effort_of(lambda: learned_from(material.files, network, optimiser, rows))


def raced(
    benchmark: Any, capsys: Any, rival: Callable[[], Effort], tiles: int, ours: Callable[[], int]
) -> None:
    """Time ours once, and the rival on a sample before and after; `tiles` is how many it would look at."""
    sampled, own = [rival()], list[Effort]()
    benchmark.pedantic(lambda: own.append(effort_of(ours)), rounds=1)
    sampled.append(rival())
    seconds = sum(effort.seconds for effort in sampled) / (2 * SAMPLED)
    core_seconds = sum(effort.seconds * effort.cores for effort in sampled) / (2 * SAMPLED)
    said(
        benchmark,
        capsys,
        threads=torch.get_num_threads(),
        tiles_that_the_first_version_looks_at=tiles,
        seconds_a_tile_of_the_first_version=seconds,
        its_hours=seconds * tiles / 3600,
        our_seconds=own[0].seconds,
        times_as_fast=seconds * tiles / own[0].seconds,
        times_as_fast_in_core_seconds=core_seconds * tiles / (own[0].seconds * own[0].cores),
    )


def test_fit(benchmark: Any, capsys: Any, material: Material) -> None:
    """One fit of 30 epochs on all tiles: the first version looks at each 30 times."""
    shutil.rmtree(cache_of(material.dataset), ignore_errors=True)
    tiles = EPOCHS * len(material.learned.examples)
    raced(
        benchmark,
        capsys,
        first_version(material),
        tiles,
        lambda: in_a_fresh_process(our_fit, material.dataset, material.weights),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model") / "model"


def test_evaluation(benchmark: Any, capsys: Any, material: Material, model: Path) -> None:
    """5 spatial and 5 random folds of 30 epochs: the first version looks at a fold's training tiles 30 times, and
    at its test tiles once."""
    shutil.rmtree(cache_of(material.dataset), ignore_errors=True)
    folds = folds_of(material.learned, our_settings(material.weights)).values()
    tiles = sum(
        EPOCHS * len(split.train_rows(k)) + len(split.test_rows(k))
        for split in folds
        for k in range(split.count)
    )
    raced(
        benchmark,
        capsys,
        first_version(material),
        tiles,
        lambda: in_a_fresh_process(our_evaluation, material.dataset, material.weights, model),
    )


def test_score(benchmark: Any, capsys: Any, material: Material, model: Path, tmp_path: Path) -> None:
    """From the dataset to a layer, beside the same network on pictures that are tensors already."""
    if not model.is_dir():
        pytest.skip("there is no model without test_evaluation")
    shutil.rmtree(cache_of(material.dataset), ignore_errors=True)
    form = evaluation_form(encoder_body("resnet34").eval())
    random = torch.Generator().manual_seed(0)
    pictures = torch.randn(BATCH, 3, SIDE_PX, SIDE_PX, generator=random).to(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(SAMPLED // BATCH):
                form(pictures)

    forward()
    bare, own = [effort_of(forward)], list[Effort]()
    out = tmp_path / "risk.geojson"
    benchmark.pedantic(
        lambda: own.append(
            effort_of(lambda: score(material.dataset, model, [out], ScoreSettings(device="cpu")))
        ),
        rounds=1,
    )
    bare.append(effort_of(forward))
    tiles = int(material.learned.tiles.scored.sum())
    seconds = sum(effort.seconds for effort in bare) / (2 * SAMPLED)
    core_seconds = sum(effort.seconds * effort.cores for effort in bare) / (2 * SAMPLED)
    said(
        benchmark,
        capsys,
        threads=torch.get_num_threads(),
        tiles=tiles,
        tiles_a_second=tiles / own[0].seconds,
        pictures_a_second_bare=1 / seconds,
        share_of_the_bare_rate=seconds * tiles / own[0].seconds,
        share_in_core_seconds=core_seconds * tiles / (own[0].seconds * own[0].cores),
    )
