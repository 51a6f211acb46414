"""Drawing roads end to end, from the mosaic to the view and its columns, beside the bare forward of the network.

A U-Net of a ResNet18 that sees 2 x 2 px as one, over 2 x 2 parts of tiles of 256 px. The bare forward is timed on
some windows, half of them before and half after ours: `share_of_the_bare_rate` is by the pixels of the windows
drawn, `share_by_ground` by the pixels of the mosaic, so that it pays for the overlap too. The rivals are the
network in the form that we draw with, and as it is. `OMP_NUM_THREADS` sets the threads of all (one unless it is
set); core-seconds stand beside the clock, for machines that others use too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from bench_memory import measured, ran
from imagery_examples import Effort, effort_of, said
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from drawn_planes import model_of
from mosaics import write_mosaic
from sheets import scene

from roadrisk.dataset import Dataset, View
from roadrisk.grid import Grid
from roadrisk.mosaic.cutting import cut_from_view
from roadrisk.mosaic.jobs import Target
from roadrisk.mosaic.picture import Picture
from roadrisk.nets.road_inference import drawing_form
from roadrisk.nets.segmentation import RoadNN
from roadrisk.roads.drawing.artist import Artist, draw_levels
from roadrisk.roads.drawing.lattice import Lattice
from roadrisk.roads.drawing.levels import LevelsReader
from roadrisk.roads.drawing.painting import Below, RoadPainter
from roadrisk.roads.lines.seen import FactsJob, facts_done, seen_facts
from roadrisk.roads.sources.mosaics import mosaic_of

TILE, SIDE_TILES, PART_PX, SHRINK = 256, 32, 4096, 2
GRID = Grid("cell", "EPSG:32619", 0.0, 0.0, 256.0, 1000, -18000, SIDE_TILES, SIDE_TILES)
BARE_PX, BARE = 2048, 2  # windows of the bare forward, and how many before ours and again after

GROUP = f"roads drawn, {SIDE_TILES**2:,} tiles of {TILE} px, CPU"


@pytest.fixture(scope="module")
def network() -> RoadNN:
    torch.manual_seed(0)
    return RoadNN("unet", "resnet18", 3, SHRINK).eval()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("roads")
    side = SIDE_TILES * TILE
    known = np.ones((side, side), bool)
    write_mosaic(folder, GRID, TILE, Picture(scene(side, side), known))
    across = np.arange(side) % 100 < 10  # streets of 10 m every 100 m
    streets = np.broadcast_to((across[:, None] | across) * np.uint8(255), (3, side, side))
    write_mosaic(folder, GRID, TILE, Picture(streets, known), "streets")
    return Dataset(folder, GRID, (View("aerial", TILE, 0.9, ""),), (), "plan", {})


def applied(dataset: Dataset, network: RoadNN) -> None:
    """Levels of the whole mosaic, the view made from them, and what it shows of roads."""
    plane, folder = mosaic_of(dataset, "aerial"), dataset.path / "views/roads.levels"
    lattice = Lattice(plane.height, plane.width, PART_PX, SHRINK)
    levels = LevelsReader(folder, lattice, "plan")
    draw_levels(plane, Artist(model_of(network), torch.device("cpu")), levels)
    painter = RoadPainter(levels, Below(dataset.path, "aerial", GRID, TILE, "plan"), 128, speck_px=30)
    cut_from_view(Target(dataset.path, "roads", GRID, TILE, "roads"), painter, np.ones(GRID.shape), workers=1)
    # random weights draw noise: what a mask shows is measured on streets
    jobs = [FactsJob(dataset.path, "streets", GRID, TILE, "plan", part, 1.0) for part in GRID.parts(TILE)]
    seen_facts(GRID, map(facts_done, jobs), 0.9)


def bare_of(network: nn.Module) -> Callable[[], Effort]:
    """What the network takes for some windows without margins, which are tensors already."""
    pictures = torch.randn(1, 3, BARE_PX, BARE_PX, generator=torch.Generator().manual_seed(0))

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(BARE):
                network(pictures).sigmoid()

    forward()
    return lambda: effort_of(forward)


@pytest.mark.benchmark(group=GROUP)
def test_applying(benchmark: Any, capsys: Any, dataset: Dataset, network: RoadNN) -> None:
    rivals = {"form": bare_of(drawing_form(network)), "plain": bare_of(network)}
    bare = {name: [rival()] for name, rival in rivals.items()}
    own = list[Effort]()
    benchmark.pedantic(lambda: own.append(effort_of(lambda: applied(dataset, network))), rounds=1)
    for name, rival in rivals.items():
        bare[name].append(rival())
    lattice = Lattice(SIDE_TILES * TILE, SIDE_TILES * TILE, PART_PX, SHRINK)
    windows = [lattice.window(core) for part in lattice.parts() for core in lattice.cores(part)]
    drawn_px = sum(window.height * window.width for window in windows)
    ground_px, bare_px = lattice.height * lattice.width, 2 * BARE * BARE_PX**2
    facts = SimpleNamespace(threads=torch.get_num_threads(), pixels_drawn_a_pixel=drawn_px / ground_px)
    for name, efforts in bare.items():
        seconds = sum(effort.seconds for effort in efforts) / bare_px
        core_s = sum(effort.seconds * effort.cores for effort in efforts) / bare_px
        clock, cores = seconds / own[0].seconds, core_s / (own[0].seconds * own[0].cores)
        setattr(facts, f"share_of_the_bare_rate_{name}", clock * drawn_px)
        setattr(facts, f"in_core_seconds_{name}", cores * drawn_px)
        setattr(facts, f"share_by_ground_{name}", clock * ground_px)
        setattr(facts, f"by_ground_in_core_seconds_{name}", cores * ground_px)
    said(benchmark, capsys, **vars(facts))


MEMORY = f"""
sys.path[:0] = {[str(folder) for folder in (Path(__file__).parent, Path(__file__).parents[1])]!r}
import torch
from drawn_planes import model_of
from roadrisk.grid import Grid, Part
from roadrisk.mosaic.picture import Picture
from roadrisk.nets.segmentation import RoadNN
from roadrisk.roads.drawing.artist import Artist, draw_levels
from roadrisk.roads.drawing.lattice import Lattice, Place
from roadrisk.roads.drawing.levels import LevelsReader

class Endless:
    bands = 3
    height = width = int(sys.argv[2]) * {PART_PX}
    def read(self, window):
        rows, cols = np.arange(window.height) + window.y, np.arange(window.width) + window.x
        pixels = (rows[:, None] * 7 ^ cols * 13).astype(np.uint8)
        inside = (rows[:, None] < self.height) & (cols < self.width)
        return Picture(np.stack([pixels] * 3) * inside, inside)
    def close(self):
        pass

plane = Endless()
levels = LevelsReader(Path(sys.argv[1]), Lattice(plane.height, plane.width, {PART_PX}, 4), "plan")
draw_levels(plane, Artist(model_of(RoadNN("unet", "resnet18", 3, 4).eval()), torch.device("cpu")), levels)
print(json.dumps({{"MB at the peak": peak_mb(), "parts": len(list(levels.lattice.parts()))}}))
"""


@pytest.mark.benchmark(group="memory: roads drawn on 25 parts")
def test_25_parts_beside_9(benchmark: Any, capsys: Any, tmp_path: Path) -> None:
    # of 9 parts the one in the middle has windows of full size
    less = ran(MEMORY, tmp_path / "small", 3)
    found = measured(benchmark, capsys, MEMORY, tmp_path / "large", 5)
    with capsys.disabled():
        print(f"  of 9 parts: {less['MB at the peak']:,.0f} MB")
    assert found["MB at the peak"] < 1.1 * less["MB at the peak"]
