"""Models of drawn weights, and tiles that they look at, for the tests of explanations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from learning_examples import TILE_PX, Painted

from roadrisk.columns import Column
from roadrisk.learning.architecture import Architecture, ViewInput, network_of
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts.preparation import learned_preparation
from roadrisk.learning.model import Model
from roadrisk.learning.pictures.feeds import ImageFeed, scoring_feed
from roadrisk.learning.pictures.sources import CachedPictures, MosaicPictures, PicturePreparation
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.tasks import Target, Task
from roadrisk.learning.validation import FoldModel

CPU = torch.device("cpu")
TILES, SIDE, FOLDS = 24, 6, 3
COLUMNS = (
    Column("road_m", "float64", "m", "feature", "sum", "Centre-line length."),
    Column("speed", "float64", "km/h", "feature", "mean", "Speed limit.", by=("road_m",)),
    Column("road_m_3x3", "float64", "m/km2", "feature", "mean", "Its density around."),
)
SURFACE = Column("surface", "object", "", "feature", "mode", "Surface.")
LABEL = {"column": "label", "measure": None, "meaning": "High where it is risky.", "unit": "events"}
TASKS = {
    "class": Task(),
    "three": Task(classes=("low", "middle", "high")),
    "count": Task("count", "negative-binomial", (), "travel"),
    "value": Task("value", "mse", ()),
}


def tiles(views: int = 1) -> Examples:
    """Every fourth tile without a picture, every sixth without facts, some without speed or surface."""
    chance, n = np.random.default_rng(4), TILES
    row, col = np.divmod(np.arange(n), SIDE)
    facts = np.stack([chance.gamma(2, 500, n), chance.normal(50, 10, n), chance.gamma(2, 300, n)], axis=1)
    facts[::5, 1] = np.nan
    texts = np.array([["gravel", "paved", "dirt", None][k % 4] for k in range(n)], object)[:, None]
    facts[::6], texts[::6] = np.nan, None
    picture, pictures = np.full((n, views), -1), []
    for view in range(views):
        seen = np.flatnonzero((np.arange(n) + view) % 4 > 0)
        picture[seen, view] = np.arange(len(seen))
        painted = Painted(chance.random((SIDE, SIDE)) < 0.5)
        made = MosaicPictures(painted, row[seen], col[seen], TILE_PX, f"painted {view}")
        pictures.append((CachedPictures(made, Path()),))
    return Examples(
        key=np.array([f"tile {k}" for k in range(n)], object),
        label=(np.arange(n) % 2).astype(float),
        facts=facts,
        columns=COLUMNS,
        texts=texts,
        text_columns=(SURFACE,),
        area_km2=np.full(n, 0.0625),
        views=tuple(f"view{k}" for k in range(views)),
        pictures=tuple(pictures),
        picture=picture,
        row=row,
        col=col,
        exposure=1 + np.arange(n) / 10,
    )


def model_of(
    examples: Examples, task: str = "class", facts: str | None = "dense", seed: int = 0, **given: object
) -> Model:
    """A model of three folds with drawn weights; the first nine tiles are training tiles, three a fold."""
    asked = {
        "views": tuple(ViewInput(view, TILE_PX) for view in examples.views),
        "encoder": "basic",
        "tune": "all",
        "own_encoders": False,
        "facts": facts,
        "facts_width": 16,
        "fusion": "mlp",
        "task": TASKS[task],
        "dropout": 0.3,
        "modality_dropout": 0.0,
        "augment": False,
        **given,
    }
    architecture = Architecture(**asked)  # type: ignore[arg-type]
    kinds = {"dense": "one-hot", "embedding": "embedding", None: "one-hot"}
    settings = TrainSettings(
        encoder="basic",
        facts_network=facts or "dense",
        categories=kinds[facts],  # type: ignore[arg-type]
    )
    folds = []
    for k in range(FOLDS):
        preparation = learned_preparation(examples.taken(np.arange(k, TILES)), settings)
        network = network_of(architecture, preparation.shape, seed=10 * seed + k)
        folds.append(
            FoldModel(preparation, Target(0.5 + k, 2.0 if task == "value" else 1.0), network.state_dict())
        )
    keys = examples.key[:9].astype(str)
    table = pd.DataFrame({"split": "spatial", "model": "fused", "key": keys, "fold": np.arange(9) // 3})
    name = {"both": "fused", "image": "image", "facts": "facts"}[architecture.inputs]
    return Model(
        architecture,
        tuple(PicturePreparation(TILE_PX) for _ in architecture.views),
        (*COLUMNS[:2], SURFACE),
        (3,),
        "spatial",
        tuple(folds),
        None,
        {},
        {"label": LABEL},
        table.assign(model=name),
    )


def feeds_of(model: Model, examples: Examples) -> list[ImageFeed | None]:
    """Of pictures as they are."""
    shape = model.architecture
    return [
        scoring_feed(pictures, preparation, shape.encoder, None, shape.augment, CPU)
        for pictures, preparation in zip(examples.pictures, model.pictures, strict=False)
    ]


def with_states(model: Model, change: object) -> Model:
    """The model with the weights of each fold changed in place by `change(network)`."""
    folds = []
    for fold in model.fold_models:
        network = network_of(model.architecture, fold.preparation.shape)
        network.load_state_dict(fold.state)
        with torch.no_grad():
            change(network)  # type: ignore[operator]
        folds.append(replace(fold, state=network.state_dict()))
    return replace(model, fold_models=tuple(folds))
