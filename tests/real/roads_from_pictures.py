"""Roads from pictures: pairs of EPFL, and Boston's sheets, where what is learned west is judged east.

`ROADRISK_DATA=path/to/data make roads` prints Markdown: what `roads train` says, with its minutes. Of Boston the
masks are a view, only pixels with a picture count, and the line between is at easting 215,000 m (EPSG:26986).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rasterio
from pyproj import Transformer

from roadrisk import roads
from roadrisk.region import read_region
from roadrisk.roads.judging.judged import METHODS
from roadrisk.roads.settings import RoadSettings
from roadrisk.roads.training import MEASURES
from roadrisk.tiling import tile

CRS = "EPSG:26986"
EASTING_M = 215_000
CELL_M = 256  # a pixel of 1 m, as the sheets have
STREETS = RoadSettings(mask="streets", epochs=15, precision="bf16")  # half the time where a CPU has it


def side(data: Path, west: bool, folder: Path) -> Path:
    """The dataset of the sheets with a mask on one side of the line."""
    name = "west" if west else "east"
    sheets = []
    for picture in sorted((data / "boston/imagery").glob("*.tif")):
        with rasterio.open(picture) as source:
            left, right = source.bounds.left, source.bounds.right
        mask = data / "boston/masks" / picture.name
        if mask.is_file() and (right <= EASTING_M if west else left >= EASTING_M):
            sheets.append((picture, mask))
    region = folder / f"{name}.toml"
    region.write_text(_region(name, sheets))
    tile(read_region(region), folder / name)
    return folder / name


def _region(name: str, sheets: list[tuple[Path, Path]]) -> str:
    boxes = []
    for picture, _ in sheets:
        with rasterio.open(picture) as source:
            boxes.append(source.bounds)
    box = (
        min(b.left for b in boxes),
        min(b.bottom for b in boxes),
        max(b.right for b in boxes),
        max(b.top for b in boxes),
    )
    bbox = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform_bounds(*box)
    lines = [f'name = "{name}"', f"bbox = {list(bbox)}", f"cell = {CELL_M}", f'crs = "{CRS}"']
    for picture, mask in sheets:
        lines += ["[[imagery]]", f'path = "{picture}"']
        lines += ["[[imagery]]", f'path = "{mask}"', 'view = "streets"']
    return "\n".join(lines) + "\n"


def table(title: str, metrics: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print every method with its measures and their intervals."""
    print(f"\n| {title} | {' | '.join(measure.replace('_', ' ') for measure in MEASURES)} |")
    print("|---" * (len(MEASURES) + 1) + "|")
    for method, name in METHODS.items():
        print(f"| {name} | {' | '.join(_told(metrics[method][measure]) for measure in MEASURES)} |")


def _told(score: dict[str, Any]) -> str:
    if score["value"] is None:
        return "-"
    return f"{score['value']:.3f}" + (
        "" if score["low"] is None else f" ({score['low']:.3f} to {score['high']:.3f})"
    )


def main() -> None:
    """Train on pairs, then on the west, and judge the east."""
    data = Path(os.environ.get("ROADRISK_DATA", ""))
    if not (data / "road_pairs").is_dir():
        sys.exit("ROADRISK_DATA must name the folder that holds road_pairs/ and boston/")
    with TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        pairs = roads.train(data / "road_pairs", folder / "pairs")
        table("pairs, 5 folds", pairs.model.metrics)
        print(f"\n{(time.monotonic() - started) / 60:.1f} minutes")
        west, east = side(data, True, folder), side(data, False, folder)
        started = time.monotonic()
        boston = roads.train(west, folder / "boston", STREETS, holdout=east)
        table("Boston's west, 5 folds of blocks", boston.model.metrics)
        table("Boston's east, from the west", boston.model.provenance["holdout"]["east"])
        print(f"\n{(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
