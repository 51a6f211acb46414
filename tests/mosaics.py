"""Mosaics on disk from a picture of the whole region, without cutting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from affine import Affine
from numpy.typing import NDArray
from sheets import scene

from roadrisk.grid import Grid, Part
from roadrisk.mosaic.blocks import PartFile
from roadrisk.mosaic.parts import Compression, geotiff, part_path, parts_path, write_painted
from roadrisk.mosaic.picture import DateArray, Painted, Picture, Spent

TILE = 64
# 6 x 5 tiles of 64 m, so a pixel of the grid is a metre
SMALL = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 6, 5)


def grid_of(rows: int, cols: int) -> Grid:
    """A grid where a pixel of a tile of 64 is a metre."""
    return Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, rows, cols)


def part_file(
    path: Path, picture: Picture, block: int, compress: Compression = "zstd", notes: str = ""
) -> PartFile:
    """A part on disk, opened."""
    path.write_bytes(
        geotiff(picture, SMALL.picture_transform(TILE), "EPSG:32619", block, "plan", compress, notes)
    )
    return PartFile(path)


def holed(grid: Grid = SMALL, block: int = TILE, seed: int = 0) -> Picture:
    """A picture of the grid that is not known in a ragged hole, in a corner of four tiles and in a few pixels."""
    height, width = grid.rows * block, grid.cols * block
    rng = np.random.default_rng(seed)
    valid = rng.random((height, width)) > 0.001
    valid[height // 3 : height // 2, width // 4 : width // 4 + 3 * block // 2] = False
    valid[-2 * block :, -2 * block :] = False
    return Picture(scene(height, width, seed) * valid, valid)


def painted(picture: Picture, first: DateArray, last: DateArray, failed: NDArray[np.bool_]) -> Painted:
    return Painted(picture, first, last, failed, (), Spent(0.0, 0.0, 0.0))


def write_mosaic(
    folder: Path,
    grid: Grid,
    block: int,
    whole: Picture,
    view: str = "aerial",
    compress: Compression = "zstd",
    dates: tuple[DateArray, DateArray] | None = None,
) -> list[Part]:
    """Write the parts that have a picture, and their table; returns the written ones.

    Parameters
    ----------
    dates : (rows, cols) first and last of each tile of the grid.
    """
    (folder / "views" / view).mkdir(parents=True, exist_ok=True)
    first, last = dates or (np.full(grid.shape, ""), np.full(grid.shape, ""))
    written = []
    for part in grid.parts(block):
        tiles = np.s_[part.row : part.row + part.rows, part.col : part.col + part.cols]
        there = tuple(slice(s.start * block, s.stop * block) for s in tiles)
        picture = Picture(whole.pixels[:, *there], whole.valid[there])
        if picture.valid.any():
            failed = np.zeros((part.rows, part.cols), bool)
            place = grid.picture_transform(block) @ Affine.translation(part.col * block, part.row * block)
            known = painted(picture, first[tiles], last[tiles], failed)
            write_painted(folder / part_path(view, part), known, place, grid.crs, block, "plan", compress)
            written.append(part)
    write_table(folder, grid, block, written, view)
    return written


def write_table(folder: Path, grid: Grid, block: int, written: list[Part], view: str = "aerial") -> None:
    """The table of parts, as far as readers look at it."""
    table = pd.DataFrame(grid.parts(block), columns=list(Part._fields))
    table["state"] = ["written" if part in written else "empty" for part in grid.parts(block)]
    table.to_parquet(folder / parts_path(view))
