"""What a model learns of the made-up metro, on seeds that were never used while it was tuned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from roadrisk.comparing import contestants, folds_of
from roadrisk.demonstration import COLS, ROWS, SETTINGS
from roadrisk.gathering import Gathered, gathered
from roadrisk.grid import FloatArray
from roadrisk.inputs import tiles_at
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.measures import auroc_fold_mean
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.settings import Inputs, resolved
from roadrisk.learning.validation import Training, cross_validated
from roadrisk.region import read_region
from roadrisk.sources.demo import made_up_metro
from roadrisk.tiling import tile
from roadrisk.training import feeds_of

TEST_SEEDS = (101, 102, 103)
pytestmark = pytest.mark.slow


@dataclass(frozen=True, eq=False)
class Ground:
    """A tiled metro, its folds and its truth."""

    learned: Gathered
    folds: Folds
    expected: FloatArray
    causes: FloatArray

    @property
    def examples(self) -> Examples:
        return self.learned.examples


@pytest.fixture(scope="module", params=TEST_SEEDS)
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp(f"metro{request.param}")
    metro = made_up_metro(folder / "metro", request.param, ROWS, COLS)
    tile(read_region(metro.region), folder / "dataset")
    settings = resolved(SETTINGS)
    learned = gathered([tiles_at(folder / "dataset", ["aerial"])], settings)
    truth = pd.read_parquet(metro.truth).set_index("tile_id")
    truth = truth.loc[learned.tiles.frame["tile_id"].iloc[learned.known]]
    causes = np.stack([truth["worn"], np.log(truth["entering_aadt"])], axis=1)
    folds = folds_of(learned, settings)["spatial"]
    return Ground(learned, folds, truth["expected_crashes"].to_numpy(), causes)


def out_of_fold(ground: Ground, inputs: Inputs, examples: Examples) -> FloatArray:
    settings = resolved(replace(SETTINGS, inputs=inputs, quick=True))
    learned = replace(ground.learned, examples=examples)
    training = Training(settings, fabric_of(settings), learned.block, learned.buffer)
    rivals = contestants(settings, ground.learned)
    feeds = feeds_of(learned, rivals, None, training)[False]
    return cross_validated(examples, ground.folds, rivals[0].architecture, feeds, training).outputs[:, 0]


def auroc(ground: Ground, score: FloatArray) -> float:
    return auroc_fold_mean(ground.examples.label, score, ground.folds.fold)


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
