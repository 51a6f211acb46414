"""What a model learns of the made-up metro, on seeds that were never used while it was tuned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from roadrisk.demonstration import COLS, ROWS, SETTINGS
from roadrisk.grid import FloatArray
from roadrisk.inputs import tiles_at
from roadrisk.learning.architecture import architecture_of
from roadrisk.learning.evaluation import measures
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts import chosen_facts
from roadrisk.learning.folds import Folds, spatial_folds
from roadrisk.learning.frozen import training_feed
from roadrisk.learning.label import label_of
from roadrisk.learning.pictures import picture_preparation
from roadrisk.learning.settings import Inputs, TrainSettings, resolved
from roadrisk.learning.validation import cross_validated
from roadrisk.region import read_region
from roadrisk.sources.demo import made_up_metro
from roadrisk.tiling import tile
from roadrisk.training import examples_of

TEST_SEEDS = (101, 102, 103)
pytestmark = pytest.mark.slow


@dataclass(frozen=True, eq=False)
class Ground:
    """A tiled metro, its folds and its truth."""

    examples: Examples
    folds: Folds
    settings: TrainSettings
    tile_px: int
    cache: Path
    expected: FloatArray
    causes: FloatArray


@pytest.fixture(scope="module", params=TEST_SEEDS)
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp(f"metro{request.param}")
    metro = made_up_metro(folder / "metro", request.param, ROWS, COLS)
    tile(read_region(metro.region), folder / "dataset")
    tiles = tiles_at(folder / "dataset")
    assert tiles.dataset is not None
    settings = resolved(SETTINGS)
    cut = tiles.dataset.manifest["label"]
    label = label_of(tiles.frame, tiles.columns, tiles.eligible, None, None, str(tiles.path), cut)
    columns, _ = chosen_facts(tiles.columns, settings, label)
    known = np.flatnonzero(np.isfinite(label.values))
    examples = examples_of(tiles, columns, label, picture_preparation("basic", tiles.tile_px)).taken(known)
    truth = pd.read_parquet(metro.truth).set_index("tile_id").loc[tiles.frame["tile_id"].iloc[known]]
    assert examples.row is not None
    assert examples.col is not None
    folds = spatial_folds(examples.row, examples.col, examples.label, settings.folds, settings.seed)
    causes = np.stack([truth["worn"], np.log(truth["entering_aadt"])], axis=1)
    return Ground(
        examples, folds, settings, tiles.tile_px, tiles.cache, truth["expected_crashes"].to_numpy(), causes
    )


def out_of_fold(ground: Ground, inputs: Inputs, examples: Examples) -> FloatArray:
    settings = replace(ground.settings, inputs=inputs)
    preparation = picture_preparation("basic", ground.tile_px)
    device = torch.device("cpu")
    images = None
    if inputs != "facts":
        assert examples.pictures is not None
        images = training_feed(examples.pictures, preparation, None, ground.cache, device)
    architecture = architecture_of(settings, preparation.size_px if images else 0)
    return cross_validated(examples, ground.folds, settings, architecture, images, device).logit


def auroc(ground: Ground, score: FloatArray) -> float:
    e = ground.examples
    found = measures(e.label, score, ground.folds.fold, e.has_image, e.label, e.area_km2)
    return float(found["auroc_fold_mean"])


def out_of_fold_given_the_causes(ground: Ground) -> FloatArray:
    score = np.empty(len(ground.examples))
    for k in range(ground.folds.count):
        train, test = ground.folds.train_rows(k), ground.folds.test_rows(k)
        scaler = StandardScaler().fit(ground.causes[train])
        model = LogisticRegression(C=100.0).fit(
            scaler.transform(ground.causes[train]), ground.examples.label[train]
        )
        score[test] = model.decision_function(scaler.transform(ground.causes[test]))
    return score


def spearman(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(pd.Series(a).rank(), pd.Series(b).rank())[0, 1])


def with_pictures_shuffled(examples: Examples) -> Examples:
    picture = examples.picture.copy()
    pictured = np.flatnonzero(examples.has_image)
    picture[pictured] = np.random.default_rng(0).permutation(picture[pictured])
    return replace(examples, picture=picture)


def test_the_model_finds_both_causes(ground: Ground) -> None:
    """Joined it beats either side, needs the right pictures, and ranks as the truth does."""
    fused = out_of_fold(ground, "both", ground.examples)
    scores = {
        "fused": fused,
        "image": out_of_fold(ground, "image", ground.examples),
        "facts": out_of_fold(ground, "facts", ground.examples),
        "shuffled": out_of_fold(ground, "both", with_pictures_shuffled(ground.examples)),
        "causes": out_of_fold_given_the_causes(ground),
    }
    aurocs = {name: auroc(ground, score) for name, score in scores.items()}
    ranks = {name: spearman(score, ground.expected) for name, score in scores.items()}
    print({name: (round(aurocs[name], 3), round(ranks[name], 3)) for name in scores})
    assert aurocs["fused"] >= aurocs["image"] + 0.03
    assert aurocs["fused"] >= aurocs["facts"] + 0.03
    assert abs(aurocs["shuffled"] - aurocs["facts"]) <= 0.02
    assert ranks["fused"] >= 0.6
    assert ranks["fused"] >= 0.85 * ranks["causes"]
