"""A small made-up region to learn: bright pictures and long roads are risky."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from roadrisk.columns import Column
from roadrisk.learning.architecture import Architecture, ViewInput, architecture_of
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds, spatial_folds
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.pictures.feeds import ImageFeed, training_feed
from roadrisk.learning.pictures.sources import (
    CachedPictures,
    MosaicPictures,
    PicturePreparation,
    picture_preparation,
)
from roadrisk.learning.pictures.weights import State
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import Task
from roadrisk.learning.validation import CrossValidation, Training, cross_validated

SIDE, TILE_PX = 12, 32
COLUMNS = (
    Column("road_m", "float64", "m", "feature", "sum", "Centre-line length."),
    Column("speed", "float64", "km/h", "feature", "mean", "Speed limit.", by=("road_m",)),
    Column("flat", "float64", "", "feature", "none", "The same everywhere."),
)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Painted:
    """Tiles of noise, brighter where the tile is risky to look at."""

    brightness: np.ndarray

    def read(self, row: int, col: int) -> np.ndarray:
        noise = np.random.default_rng([row, col]).integers(0, 60, (3, TILE_PX, TILE_PX))
        return (noise + 150 * self.brightness[row, col]).astype(np.uint8)


def made_up(seed: int = 0, pictures_px: int = TILE_PX) -> Examples:
    chance = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(SIDE * SIDE), SIDE)
    bright = chance.random((SIDE, SIDE)) < 0.5
    road_m = chance.gamma(2, 500, SIDE * SIDE)
    label = (bright[row, col] & (road_m > np.median(road_m))).astype(float)
    facts = np.stack([road_m, chance.normal(50, 10, len(row)), np.ones(len(row))], axis=1)
    facts[chance.random(len(row)) < 0.1, 1] = np.nan
    has_image = chance.random(len(row)) < 0.8
    seen = np.flatnonzero(has_image)
    picture = np.full((len(row), 1), -1)
    picture[seen, 0] = np.arange(len(seen))
    pictures = MosaicPictures(Painted(bright), row[seen], col[seen], pictures_px, f"made up {seed}")
    key = np.array([f"26919/250/{c}/{r}" for r, c in zip(row, col, strict=True)], dtype=object)
    return Examples(
        key=key,
        label=label,
        facts=facts,
        columns=COLUMNS,
        texts=np.empty((len(row), 0), object),
        text_columns=(),
        area_km2=np.full(len(row), 0.0625),
        views=("aerial",),
        pictures=((CachedPictures(pictures, Path()),),),
        picture=picture,
        row=row + 1000,
        col=col - 7,
        exposure=np.ones(len(row)),
    )


def folds_of(examples: Examples, seed: int = 0) -> Folds:
    assert examples.row is not None
    assert examples.col is not None
    return spatial_folds(examples.row, examples.col, examples.label, 3, seed, block=2, buffer=1)


@dataclass(frozen=True)
class Run:
    settings: TrainSettings
    architecture: Architecture
    preparation: PicturePreparation
    feeds: list[ImageFeed | None]
    validation: CrossValidation


def run(
    examples: Examples, cache: Path, encoder: State | None = None, folds: Folds | None = None, **given: object
) -> Run:
    """A whole cross-validation on the made-up region; with frozen weights it is of a resnet34."""
    kind = "basic" if encoder is None else "resnet34"
    asked: dict[str, object] = {"encoder": kind, "epochs": 4, "folds": 3, "learning_rate": 2e-3, **given}
    settings = resolved(TrainSettings(**asked))  # type: ignore[arg-type]
    pictures = [CachedPictures(one.pictures, cache) for one in examples.pictures[0]]
    size_px = pictures[0].pictures.size_px
    preparation = replace(picture_preparation(settings.encoder, TILE_PX), size_px=size_px)
    architecture = architecture_of(settings, Task(), (ViewInput("aerial", size_px),))
    feed = training_feed(pictures, preparation, settings.encoder, encoder, settings.augment, CPU)
    folds = folds or folds_of(examples)
    training = Training(settings, fabric_of(settings), block=2, buffer=1)
    validation = cross_validated(examples, folds, architecture, [feed], training)
    return Run(settings, architecture, preparation, [feed], validation)
