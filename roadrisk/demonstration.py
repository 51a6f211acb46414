"""`demo`: a made-up metro, the whole way."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from roadrisk.errors import DatasetError
from roadrisk.files import write_json
from roadrisk.learning.settings import TrainSettings
from roadrisk.progress import Progress, silent
from roadrisk.region import read_region
from roadrisk.scoring import Scoring, score
from roadrisk.sources.demo import made_up_metro
from roadrisk.tiling import Tiled, tile
from roadrisk.training import Trained, train

ROWS, COLS = 36, 36
SETTINGS = TrainSettings(encoder="basic", epochs=40, quick=True)
MARK = "demo.json"
OURS = ("metro", "dataset", "dataset.cache", "model")
LAYERS = ("risk.geojson", "risk.gpkg", "risk.html")


@dataclass(frozen=True)
class Demo:
    """What `demo` made."""

    folder: Path
    tiled: Tiled
    trained: Trained
    scored: Scoring

    @property
    def paths(self) -> list[Path]:
        """Everything worth opening, the map page last."""
        return [self.folder / "dataset", self.folder / "model", *(self.folder / name for name in LAYERS)]

    def lines(self) -> list[str]:
        """For people: what each step said, and where the map is."""
        page = self.folder / LAYERS[-1]
        return [
            *self.tiled.lines(),
            *self.trained.lines(),
            *self.scored.lines(),
            f"the map: {page.resolve().as_uri()}",
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "paths": [str(path) for path in self.paths],
            "metrics": self.trained.as_json()["metrics"],
        }


def demo(out: Path, seed: int = 0, overwrite: bool = False, progress: Progress = silent) -> Demo:
    """Make up a metro in `out`, then tile it, train on it and score it.

    Raises
    ------
    DatasetError : the folder holds something that is not a demo, or a demo and `overwrite` is not asked.
    """
    _cleared(out, overwrite)
    metro = made_up_metro(out / "metro", seed, ROWS, COLS)
    tiled = tile(read_region(metro.region), out / "dataset", progress=progress)
    trained = train(out / "dataset", out / "model", replace(SETTINGS, seed=seed), progress=progress)
    scored = score(out / "dataset", out / "model", [out / name for name in LAYERS], progress=progress)
    return Demo(out, tiled, trained, scored)


def _cleared(out: Path, overwrite: bool) -> None:
    """A folder for the demo, without an earlier one; a mark in it says that it is ours."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not _is_ours(out):
            raise DatasetError(f"{out} is there and is not a demo; choose another -o")
        if not overwrite:
            raise DatasetError(f"{out} holds a demo; give --overwrite to make it anew, or another -o")
        for name in OURS:
            shutil.rmtree(out / name, ignore_errors=True)
        for name in LAYERS:
            (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARK, {"made_by": "roadrisk demo"})


def _is_ours(out: Path) -> bool:
    try:
        mark = json.loads((out / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(mark == {"made_by": "roadrisk demo"})
