"""Ways to read single tiles of a mosaic of parts, each called in a worker process, which imports this file.

Every reader gives the sum of one pixel of each tile, so that all can be seen to read the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import rasterio
from rasterio.windows import Window

from roadrisk.grid import Grid
from roadrisk.mosaic.overview import vrt_path
from roadrisk.mosaic.parts import part_of, part_path
from roadrisk.mosaic.reader import MosaicReader

TILE_PX = 256
AT = TILE_PX // 2
Tiles = Sequence[tuple[int, int]]


class Mosaic(NamedTuple):
    """A view `aerial` on disk.

    Parameters
    ----------
    drawn : the tiles that differ, PNG files named by row and column; the parts repeat them.
    """

    folder: Path
    grid: Grid
    plan: str
    drawn: tuple[int, int]


def by_roadrisk(mosaic: Mosaic, tiles: Tiles) -> int:
    reader = MosaicReader(mosaic.folder, "aerial", mosaic.grid, TILE_PX, mosaic.plan)
    seen = sum(int(reader.read(row, col)[:, AT, AT].sum()) for row, col in tiles)
    reader.close()
    return seen


def by_rasterio(mosaic: Mosaic, tiles: Tiles) -> int:
    """Each tile's part opened for it alone."""
    seen = 0
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        for row, col in tiles:
            part = part_of(mosaic.grid, TILE_PX, row, col)
            with rasterio.open(mosaic.folder / part_path("aerial", part)) as file:
                seen += int(file.read(window=_window(row - part.row, col - part.col))[:, AT, AT].sum())
    return seen


def by_vrt(mosaic: Mosaic, tiles: Tiles) -> int:
    with rasterio.Env(GDAL_CACHEMAX=256 << 20), rasterio.open(mosaic.folder / vrt_path("aerial")) as file:
        return sum(int(file.read(window=_window(row, col))[:, AT, AT].sum()) for row, col in tiles)


def by_opencv(mosaic: Mosaic, tiles: Tiles) -> int:
    """A PNG file a tile."""
    return sum(int(cv2.imread(str(png(mosaic, row, col)))[AT, AT].sum()) for row, col in tiles)


def png(mosaic: Mosaic, row: int, col: int) -> Path:
    rows, cols = mosaic.drawn
    return mosaic.folder / "png" / f"{row % rows}_{col % cols}.png"


def decoded(mosaic: Mosaic, tiles: Tiles) -> int:
    """The tiles' blocks decompressed and summed up, from memory: no reader is quicker."""
    blocks, (rows, cols) = _blocks(mosaic), mosaic.drawn
    seen = 0
    for row, col in tiles:
        body = pa.decompress(blocks[row % rows, col % cols], 3 * TILE_PX**2, "zstd")
        differences = np.frombuffer(body, np.uint8).reshape(TILE_PX, TILE_PX, 3)
        sums = cv2.integral(differences).astype(np.uint8)
        seen += int((sums[1:] - sums[:-1])[AT, AT + 1].sum())
    return seen


@cache
def _blocks(mosaic: Mosaic) -> dict[tuple[int, int], bytes]:
    """The compressed bytes of each tile that differs."""
    found = {}
    for row in range(mosaic.drawn[0]):
        for col in range(mosaic.drawn[1]):
            part = part_of(mosaic.grid, TILE_PX, row, col)
            path = mosaic.folder / part_path("aerial", part)
            place = f"{col - part.col}_{row - part.row}"
            with rasterio.open(path) as file, path.open("rb") as body:
                offset, size = (
                    int(file.get_tag_item(f"BLOCK_{what}_{place}", "TIFF", bidx=1))
                    for what in ("OFFSET", "SIZE")
                )
                body.seek(offset)
                found[row, col] = body.read(size)
    return found


def _window(row: int, col: int) -> Window:
    return Window(col * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX)
