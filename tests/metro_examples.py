"""Made-up metros that lie apart, and copies of them that differ in what their manifest says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roadrisk.dataset import Dataset, read_dataset
from roadrisk.region import read_region
from roadrisk.sources import demo
from roadrisk.tiling import tile

APART = 500  # squares from one metro to the next


def metro_dataset(folder: Path, name: str, seed: int, side: int = 12, **changes: Any) -> Dataset:
    """A metro of so many rows and columns, as far north as its seed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "MIDDLE_SQUARE_Y", demo.MIDDLE_SQUARE_Y + APART * seed)
        made = demo.made_up_metro(folder / f"{name}_sources", seed, side, side)
    return tile(replace(read_region(made.region), name=name, **changes), folder / name, workers=1).dataset


def changed(dataset: Dataset, out: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a dataset with another manifest."""
    shutil.copytree(dataset.path, out)
    manifest = json.loads((out / "dataset.json").read_text())
    change(manifest)
    (out / "dataset.json").write_text(json.dumps(manifest))
    read_dataset(out)
    return out


def column(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """What a manifest says of a column."""
    return next(one for one in manifest["columns"] if one["name"] == name)


def without(name: str) -> Callable[[dict[str, Any]], None]:
    """A change that takes a column away."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["columns"].remove(column(manifest, name))

    return change
