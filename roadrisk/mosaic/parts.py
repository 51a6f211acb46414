"""The mosaic: one raster on disk as parts whose internal block is one tile.

A tile's file and block are arithmetic on (row, col), so reading one is one block read (`reader`). For people
a VRT shows the parts as one raster (`overview`).
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from affine import Affine
from rasterio import Env
from rasterio.io import MemoryFile
from rasterio.windows import Window

from roadrisk.errors import DatasetError
from roadrisk.files import whole_file
from roadrisk.grid import FloatArray, Grid, Part, tiles_per_part
from roadrisk.mosaic.blocks import MEND, PartFile
from roadrisk.mosaic.picture import DateArray, Mask, Painted, Picture, Spent

PLAN_TAG = "ROADRISK_PLAN"
TILES_TAG = "ROADRISK_TILES"
# bytes, not megabytes: GDAL's own unit below 100,000 is not that of rasterio.Env
GDAL_CACHE_BYTES = 256 << 20

Compression = Literal["zstd", "jpeg"]
# ZSTD: level 3 takes 2.2 times as long for 1 to 4 per cent fewer bytes, and none of them is quicker to read;
# without the predictor orthophotos are 11 to 33 per cent larger
COMPRESSIONS: dict[Compression, dict[str, Any]] = {
    "zstd": {"compress": "zstd", "zstd_level": 1, "predictor": 2, "photometric": "RGB"},
    "jpeg": {"compress": "jpeg", "jpeg_quality": 90, "photometric": "YCBCR"},
}


class Written(NamedTuple):
    """A file as it lies on disk."""

    bytes: int
    sha256: str


class Known(NamedTuple):
    """What is known of the tiles of a part besides their picture: see `Painted`."""

    first: DateArray
    last: DateArray
    failed: Mask
    reasons: tuple[str, ...]


def part_path(view: str, part: Part) -> str:
    """A part's file, from the dataset's folder.

    >>> part_path("aerial", Part(16, 32, 16, 16))
    'views/aerial/r00016c00032.tif'
    """
    return f"views/{view}/{part.name}.tif"


def parts_path(view: str) -> str:
    """A view's table of parts, from the dataset's folder."""
    return f"views/{view}.parts.parquet"


def part_of(grid: Grid, tile_size: int, row: int, col: int) -> Part:
    """The part that holds a tile."""
    side = tiles_per_part(tile_size)
    first_row, first_col = row // side * side, col // side * side
    return Part(first_row, first_col, min(side, grid.rows - first_row), min(side, grid.cols - first_col))


def coverage_of(valid: Mask, tile_size: int) -> FloatArray:
    """(rows, cols) share of each tile's pixels that are known."""
    rows, cols = valid.shape[0] // tile_size, valid.shape[1] // tile_size
    known = valid.reshape(rows, tile_size, cols, tile_size).sum(axis=(1, 3), dtype=np.int64)
    return np.asarray(known / tile_size**2, dtype=np.float64)


def geotiff(
    picture: Picture,
    transform: Affine,
    crs: str,
    block: int,
    plan_hash: str,
    compress: Compression = "zstd",
    notes: str = "",
) -> bytes:
    """A masked GeoTIFF with `block` pixels along the side of a block: equal pictures are equal bytes.

    Parameters
    ----------
    notes : of its tiles, as `notes_of` has them.
    """
    # made in memory: GDAL's writes to a full disk fail late and in silence, Python's do not
    height, width = picture.valid.shape
    with (
        Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES, GDAL_TIFF_INTERNAL_MASK=True),
        MemoryFile(ext=".tif") as memory,
    ):
        with memory.open(
            driver="GTiff",
            width=width,
            height=height,
            count=3,
            dtype="uint8",
            crs=crs,
            transform=transform,
            interleave="pixel",
            tiled=True,
            blockxsize=block,
            blockysize=block,
            sparse_ok=True,
            **COMPRESSIONS[compress],
        ) as target:
            target.update_tags(**{PLAN_TAG: plan_hash} | ({TILES_TAG: notes} if notes else {}))
            # blocks that are never written take neither time nor bytes
            there = _blocks_around(picture.valid, block)
            window = Window.from_slices(*there)
            target.write(picture.pixels[:, *there], window=window)
            target.write_mask(picture.valid[there], window=window)
        return bytes(memory.getbuffer())


def _blocks_around(valid: Mask, block: int) -> tuple[slice, slice]:
    """The rows and columns of the blocks around all that is known; none where nothing is."""
    spans = []
    for axis in (1, 0):
        known = np.flatnonzero(valid.any(axis=axis))
        first, last = (int(known[0]) // block, int(known[-1]) // block + 1) if len(known) else (0, 0)
        spans.append(slice(first * block, min(last * block, valid.shape[1 - axis])))
    return spans[0], spans[1]


def write_picture(
    path: Path,
    picture: Picture,
    transform: Affine,
    crs: str,
    block: int,
    plan_hash: str,
    compress: Compression = "zstd",
    notes: str = "",
) -> Written:
    """Write `geotiff` whole."""
    body = geotiff(picture, transform, crs, block, plan_hash, compress, notes)
    with whole_file(path) as temporary:
        temporary.write_bytes(body)
    return Written(len(body), hashlib.sha256(body).hexdigest())


def write_painted(
    path: Path,
    painted: Painted,
    transform: Affine,
    crs: str,
    block: int,
    plan_hash: str,
    compress: Compression,
) -> Written:
    """Write a part whole, with what is known of its tiles.

    JPEG does not keep pixels as they are: `read_painted` gives those that anybody will see.
    """
    return write_picture(path, painted.picture, transform, crs, block, plan_hash, compress, notes_of(painted))


def read_painted(path: Path, part: Part, block: int, plan_hash: str) -> Painted | None:
    """A finished part of the plan, or None where there is none: absent, of another plan, or damaged."""
    if not path.is_file():
        return None
    try:
        with closing(opened_part(path, part, block, plan_hash)) as file:
            return Painted(_picture(file, part, block), *known_of(file, part), Spent(0.0, 0.0, 0.0))
    except DatasetError:
        return None


def _picture(file: PartFile, part: Part, block: int) -> Picture:
    pixels = np.empty((part.rows * block, part.cols * block, 3), np.uint8)
    valid = np.empty(pixels.shape[:2], bool)
    for row, col in np.ndindex(part.rows, part.cols):
        there = np.s_[row * block : (row + 1) * block, col * block : (col + 1) * block]
        pixels[there], valid[there] = file.pixels(row, col), file.valid(row, col)
    return Picture(pixels.transpose(2, 0, 1), valid)


def notes_of(painted: Painted) -> str:
    """What is known of a part's tiles, as JSON: a line of tiles that are alike is one entry.

    >>> from roadrisk.mosaic.picture import undated
    >>> part = Part(0, 0, 2, 2)
    >>> nothing = Picture(np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4), bool))
    >>> date, failed = undated(part), np.array([[False, False], [False, True]])
    >>> notes_of(Painted(nothing, date, date, failed, ("a.tif is damaged",), Spent(0, 0, 0)))
    '{"reasons":["a.tif is damaged"],"tiles":[["","",false,3],["","",true,1]]}'
    """
    tiles = zip(
        *(known.ravel().tolist() for known in (painted.first, painted.last, painted.failed)), strict=True
    )
    runs = [[*known, len(list(alike))] for known, alike in groupby(tiles)]
    return json.dumps({"reasons": painted.reasons, "tiles": runs}, separators=(",", ":"), sort_keys=True)


def known_of(file: PartFile, part: Part) -> Known:
    """What a part's file says of its tiles.

    Raises
    ------
    DatasetError : it does not say, or not of as many tiles.
    """
    try:
        notes = json.loads(file.notes[TILES_TAG])
        first, last, failed, count = zip(*notes["tiles"], strict=True)
        if sum(count) != part.rows * part.cols:
            raise ValueError("not as many tiles")
        shape = part.rows, part.cols
        return Known(
            np.repeat(np.array(first, "U10"), count).reshape(shape),
            np.repeat(np.array(last, "U10"), count).reshape(shape),
            np.repeat(np.array(failed, bool), count).reshape(shape),
            tuple(str(reason) for reason in notes["reasons"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        raise DatasetError(f"{file.path} does not say what is known of its tiles; {MEND}") from None


def opened_part(path: Path, part: Part, block: int, plan_hash: str) -> PartFile:
    """A part's file, found to be what it should be.

    Raises
    ------
    DatasetError : it is missing, damaged, of another plan, or cut otherwise.
    """
    file = PartFile(path)
    misfit = _misfit(file, part, block, plan_hash)
    if misfit:
        file.close()
        raise DatasetError(f"{path} is not of this dataset: {misfit}; {MEND}")
    return file


def _misfit(file: PartFile, part: Part, block: int, plan_hash: str) -> str:
    """In what an open file is not the part it should be; empty when it is."""
    if file.notes.get(PLAN_TAG) != plan_hash:
        return "its plan differs"
    if file.shape != (part.rows * block, part.cols * block):
        return f"it has {file.shape[0]} x {file.shape[1]} px"
    if not file.is_masked_rgb:
        return "it is not a masked 8-bit RGB picture"
    if file.block != (block, block):
        return f"its blocks are {file.block}, not one tile"
    return ""
