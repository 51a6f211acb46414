"""Real sheets laid edge to edge, and what work on them takes."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import rasterio
from affine import Affine
from sheets import scene, sheet

from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_zoom
from roadrisk.imagery.finding import found_sheets
from roadrisk.mosaic.cutting import CutView, cut_view
from roadrisk.mosaic.jobs import Target
from roadrisk.source_settings import ImagerySource

BOSTON = Path(__file__).resolve().parents[3] / "shared" / "data" / "boston" / "imagery"
PIXELS = "real pixels" if BOSTON.is_dir() else "made-up pixels"
PLAN = "bench"
SYSTEM = "/usr/local/bin:/usr/bin:/bin"  # where commands are that are not the virtual environment's
CRS = "EPSG:26986"
SHEET_PX = 1500  # of 1 m
SHEETS = 6  # along a side
ZOOM = 17
TILES = 32  # along a side: 7.25 km, so all of them lie in the sheets
TILE_PX = 256


class Effort(NamedTuple):
    """What work took.

    Parameters
    ----------
    cores : processor seconds of this process and of those it waited for, by the seconds of the clock.
    """

    seconds: float
    cores: float


def effort_of(work: Callable[[], Any]) -> Effort:
    def processor_s() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used)

    began, before = time.perf_counter(), processor_s()
    work()
    seconds = time.perf_counter() - began
    return Effort(seconds, (processor_s() - before) / seconds)


def cut(folder: Path, pattern: str, grid: Grid) -> CutView:
    """The view `aerial` in a folder, by two workers."""
    sheets = found_sheets([ImagerySource(pattern)], grid, TILE_PX)
    return cut_view(Target(folder, "aerial", grid, TILE_PX, PLAN), sheets, 2)


def said(benchmark: Any, capsys: Any, **facts: float) -> None:
    """Print what a benchmark found, and keep it beside its time."""
    benchmark.extra_info.update(facts)
    with capsys.disabled():
        told = ", ".join(f"{name.replace('_', ' ')} {value:,.3g}" for name, value in facts.items())
        print(f"\n  {benchmark.name}: {told}")


def pictures(folder: Path) -> list[Path]:
    """Boston's sheets that are picture everywhere, or one made up into `folder` where they are absent."""
    if not BOSTON.is_dir():
        options = {"compress": "jpeg", "photometric": "ycbcr", "tiled": True, "interleave": "pixel"}
        return [sheet(folder / "made_up.tif", scene(SHEET_PX, SHEET_PX), crs=CRS, **options)]

    def is_whole(path: Path) -> bool:
        with rasterio.open(path) as source:
            return bool(source.read_masks(1).all())

    return [path for path in sorted(BOSTON.glob("*.tif")) if is_whole(path)]


def side_by_side(pictures: Sequence[Path], folder: Path) -> list[Path]:
    """Copies of the pictures side by side in a square, their compressed bytes as they were."""
    folder.mkdir(parents=True)
    paths = []
    for i in range(SHEETS**2):
        row, col = divmod(i, SHEETS)
        path = folder / f"r{row}c{col}.tif"
        shutil.copyfile(pictures[i * 5 % len(pictures)], path)
        path.chmod(0o644)
        with rasterio.open(path, "r+") as target:
            target.transform = Affine(1, 0, 230_000 + col * SHEET_PX, 0, -1, 905_000 - row * SHEET_PX)
        paths.append(path)
    return paths


def tiles_inside() -> Grid:
    """The 1,024 tiles of the middle of the sheets."""
    from pyproj import Transformer

    middle = SHEETS * SHEET_PX / 2
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    lng, lat = to_degrees.transform(230_000 + middle, 905_000 - middle)
    one = grid_of_zoom(LngLatBbox(lng, lat, lng + 1e-6, lat + 1e-6), ZOOM)
    return replace(one, x0=one.x0 - TILES // 2, y0=one.y0 - TILES // 2, rows=TILES, cols=TILES)


def xyz(grid: Grid, row: int, col: int) -> tuple[int, int, int]:
    """z, x, y of a tile."""
    z, x, y = (int(part) for part in grid.tile_id(row, col).split("/"))
    return z, x, y


def ran_outside(*command: object, limit_s: float | None = None) -> bool:
    """Run a command-line tool of the system, not of the virtual environment; whether it ended in time."""
    clean = {"PATH": SYSTEM, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [str(word) for word in command],
        env=clean,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return False
    assert process.returncode == 0, said
    return True
