"""A small table of places as a user has it, with small pictures, whose truth is planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from roadrisk.learning.model import Model, read_model, write_model
from roadrisk.learning.settings import TrainSettings
from roadrisk.nets.encoders import encoder_body

SIDE, PICTURE_PX = 12, 32
STEP_DEG = 0.01
SURFACES = ("paved", "gravel", "dirt")
LABELS = ("high", "level", "events", "cost")
TINY = "timm:test_resnet"  # of timm's networks for tests: 373 thousand parameters
QUICK: dict[str, Any] = {
    "label": "high",
    "positive": "yes",
    "exclude": LABELS[1:],
    "encoder": "basic",
    "epochs": 1,
    "folds": 2,
    "quick": True,
}


def small_table(seed: int = 0, side: int = SIDE) -> pd.DataFrame:
    """Places 0.01 degrees apart: long roads, dirt and bright pictures are risky.

    Labels: `high` (yes or no), `level` (low, mid, high), `events`, in proportion to `traffic`, and `cost`.
    A tenth of the rows has no picture, about another tenth knows no fact.
    """
    chance = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(side * side), side)
    count = len(row)
    road_m, surface = chance.gamma(2, 500, count), chance.choice(SURFACES, count)
    bright, traffic = chance.random(count) < 0.5, chance.gamma(3, 10, count)
    risk = road_m / 1000 + 1.5 * (surface == "dirt") + 1.5 * bright
    blind = chance.permutation(count)[: count // 10]
    dumb = np.setdiff1d(chance.permutation(count)[: count // 10], blind)
    table = pd.DataFrame(
        {
            "id": [f"p{r:02}{c:02}" for r, c in zip(row, col, strict=True)],
            "image_path": [f"pictures/{'bright' if b else 'dark'}{i}.png" for i, b in enumerate(bright)],
            "lon": -93.7 + STEP_DEG * col,
            "lat": 41.7 - STEP_DEG * row,
            "road_m": road_m,
            "speed": chance.normal(50, 10, count).round(),
            "surface": surface,
            "traffic": traffic,
            "high": np.where(risk > np.quantile(risk, 0.7), "yes", "no"),
            "level": np.array(["low", "mid", "high"])[np.digitize(risk, np.quantile(risk, [0.4, 0.75]))],
            "events": chance.poisson(traffic / 30 * risk),
            "cost": 100 * risk,
        }
    )
    table.loc[blind, "image_path"] = None
    table.loc[dumb, ["road_m", "speed", "surface", "traffic"]] = None
    return table


def written_table(table: pd.DataFrame, path: Path, turn: int = 0, mirror: bool = False) -> Path:
    """The table as a CSV file, and beside it the pictures that it names and that are not there.

    Parameters
    ----------
    turn, mirror : quarter turns of the pictures, and whether they are mirrored then.
    """
    (path.parent / "pictures").mkdir(exist_ok=True)
    for name in table["image_path"].dropna():
        file = path.parent / name
        if not file.exists():
            digits = int("".join(c for c in file.stem if c.isdigit()))
            noise = np.random.default_rng(digits).integers(0, 60, (PICTURE_PX, PICTURE_PX, 3))
            pixels = np.rot90(noise + 150 * file.stem.startswith("bright"), turn)
            pixels = pixels[:, ::-1] if mirror else pixels
            cv2.imwrite(str(file), np.ascontiguousarray(pixels, np.uint8))
    table.to_csv(path, index=False, float_format="%.17g")
    return path


def quick(**given: object) -> TrainSettings:
    """Settings for the label `high` of the table, and otherwise those given."""
    return TrainSettings(**{**QUICK, **given})  # type: ignore[arg-type]


def flags(**given: object) -> list[str]:
    """The same on the command line; None leaves one out."""
    asked = {**QUICK, **given}
    asked = {name: value for name, value in asked.items() if value is not None and value is not False}
    words = []
    for name, value in asked.items():
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return words


def tiny_weights(path: Path) -> Path:
    """Weights of `TINY` as a file that --weights takes."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        save_file(encoder_body(TINY).state_dict(), path)
    return path


def without_bars(said: str) -> list[str]:
    """Lines of what a command said on stderr, but for progress bars, wide or narrow."""
    return [
        line for line in said.splitlines() if line.strip() and "━" not in line and " min left" not in line
    ]


def calibrated(model: Model) -> pd.Series:
    """By key, what layers say of training tiles: the model's own out-of-fold word, calibrated."""
    table = model.out_of_fold
    own = table[(table["split"] == model.split) & (table["model"] == model.name)].set_index("key")
    assert model.calibration is not None
    return pd.Series(model.calibration.probability(own["output"].to_numpy()), own.index)


def uncalibrated(model: Path, out: Path) -> Path:
    """A model whose risk is its own probability, since few tiles make a level calibration."""
    write_model(replace(read_model(model), calibration=None), out)
    return out
