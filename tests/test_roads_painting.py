"""The parts of the views that are made of what a network said."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from drawn_planes import ArrayPlane, near_model
from mosaics import SMALL, holed, painted, write_mosaic
from numpy.typing import NDArray

import roadrisk.grid
import roadrisk.roads.drawing.lattice
from roadrisk.grid import Grid
from roadrisk.mosaic.cutting import cut_from_view
from roadrisk.mosaic.jobs import Target
from roadrisk.mosaic.parts import part_path, write_painted
from roadrisk.mosaic.picture import Painter, Picture
from roadrisk.mosaic.reader import MosaicReader
from roadrisk.roads.drawing.artist import Artist, draw_levels
from roadrisk.roads.drawing.cleaning import cleaned
from roadrisk.roads.drawing.drawn import Drawn
from roadrisk.roads.drawing.lattice import Lattice
from roadrisk.roads.drawing.levels import LevelsReader
from roadrisk.roads.drawing.painting import Below, LevelPainter, RoadPainter
from roadrisk.roads.scenes import Window

GRIDS = {80: replace(SMALL, rows=7, cols=5), 256: replace(SMALL, rows=3, cols=4)}


class Made(NamedTuple):
    folder: Path
    levels: LevelsReader
    below: Below
    picture: Picture
    dates: tuple[NDArray[np.str_], NDArray[np.str_]]
    drawn: Drawn


@pytest.fixture(params=[80, 256])
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Made:
    """A mosaic of several parts, one of them without a picture, and what a network says of it."""
    size: int = request.param
    grid, side = GRIDS[size], {80: 240, 256: 512}[size]
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", side)
    monkeypatch.setattr(roadrisk.roads.drawing.lattice, "CORE_STRIDES", 4)
    picture = holed(grid, size)
    picture.valid[-side // 2 :, : side + 20] = False
    picture.pixels[:, ~picture.valid] = 0
    first = np.array([[f"20{r:02d}-01-0{c + 1}" for c in range(grid.cols)] for r in range(grid.rows)])
    last = np.char.replace(first, "-01-", "-02-")
    write_mosaic(tmp_path, grid, size, picture, dates=(first, last))
    plane = ArrayPlane(picture)
    levels = LevelsReader(
        tmp_path / "views/roads.levels", Lattice(plane.height, plane.width, side, 1), "plan"
    )
    draw_levels(plane, Artist(near_model(), torch.device("cpu")), levels)
    below = Below(tmp_path, "aerial", grid, size, "plan")
    drawn = levels.read(Window(0, 0, plane.height, plane.width))
    return Made(tmp_path, levels, below, picture, (first, last), drawn)


def cut(made: Made, painter: Painter, view: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The whole of a view that is cut, read back."""
    grid, size = made.below.grid, made.below.tile_size
    target = Target(made.folder, view, grid, size, "roads plan")
    shares = made.picture.valid.reshape(grid.rows, size, grid.cols, size).mean(axis=(1, 3))
    done = cut_from_view(target, painter, shares, workers=1)
    assert np.allclose(done.coverage, shares)
    there = shares > 0
    for days, dates in zip((done.first, done.last), made.dates, strict=True):
        assert np.array_equal(days[there].astype(str), dates[there])
    return read(made.folder, view, grid, size)


def read(folder: Path, view: str, grid: Grid, size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    reader = MosaicReader(folder, view, grid, size, "roads plan")
    places = [[(row, col) for col in range(grid.cols)] for row in range(grid.rows)]
    pixels = np.block([[reader.read(*at) for at in line] for line in places])
    return pixels, np.block([[reader.valid(*at) for at in line] for line in places])


def test_roads_are_white_where_the_level_is_reached(made: Made) -> None:
    pixels, valid = cut(made, pickle.loads(pickle.dumps(RoadPainter(made.levels, made.below, 140))), "roads")
    assert np.array_equal(valid, made.picture.valid)
    wanted = (made.drawn.level >= 140) & valid
    assert 0.05 < wanted.mean() < 0.95
    assert np.array_equal(pixels, np.stack([wanted * np.uint8(255)] * 3))


def test_cleaned_roads_are_those_of_the_whole_mosaic(made: Made) -> None:
    pixels, _ = cut(made, RoadPainter(made.levels, made.below, 140, speck_px=30, gap_px=2), "roads")
    rough = (made.drawn.level >= 140) & made.picture.valid
    wanted = cleaned(rough, made.picture.valid, 30, 2)
    assert not np.array_equal(wanted, rough)
    assert np.array_equal(pixels[0] > 0, wanted)


def test_a_view_of_how_likely_holds_the_levels(made: Made) -> None:
    pixels, valid = cut(made, pickle.loads(pickle.dumps(LevelPainter(made.levels, made.below))), "likely")
    assert np.array_equal(valid, made.picture.valid)
    assert np.array_equal(pixels, np.stack([made.drawn.level] * 3))


def test_a_tile_that_failed_below_fails_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roadrisk.roads.drawing.lattice, "CORE_STRIDES", 4)
    grid, size = replace(SMALL, rows=2, cols=2), 64
    picture = Picture(np.full((3, 128, 128), 9, np.uint8), np.ones((128, 128), bool))
    picture.valid[:64, :64] = False
    picture.pixels[:, :64, :64] = 0
    write_mosaic(tmp_path, grid, size, picture)
    (part,) = grid.parts(size)
    failed = np.array([[True, False], [False, False]])
    known = replace(
        painted(picture, np.full((2, 2), ""), np.full((2, 2), ""), failed), reasons=("a.tif is damaged",)
    )
    place = grid.picture_transform(size)
    write_painted(tmp_path / part_path("aerial", part), known, place, grid.crs, size, "plan", "zstd")
    levels = LevelsReader(tmp_path / "levels", Lattice(128, 128, 4096, 1), "plan")
    draw_levels(ArrayPlane(picture), Artist(near_model(), torch.device("cpu")), levels)
    below = Below(tmp_path, "aerial", grid, size, "plan")
    for painter in (RoadPainter(levels, below, 128), LevelPainter(levels, below)):
        done = painter.painted(part)
        assert np.array_equal(done.failed, failed)
        assert done.reasons == ("a.tif is damaged",)
        assert np.array_equal(done.picture.valid, picture.valid)


def test_workers_that_paint_do_not_wait_for_torch() -> None:
    code = "import sys, roadrisk.roads.drawing.painting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
