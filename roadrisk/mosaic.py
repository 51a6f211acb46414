"""The mosaic: one raster on disk as parts whose internal block is one tile.

A tile's file and block are arithmetic on (row, col), so reading one is one block read. For people a VRT
shows the parts as one raster (`overview`).
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from roadrisk.errors import DatasetError
from roadrisk.files import whole_file
from roadrisk.grid import FloatArray, Grid, Part, tiles_per_part

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

PLAN_TAG = "ROADRISK_PLAN"
OPEN_PARTS = 64
# bytes, not megabytes: GDAL's own unit below 100,000 is not that of rasterio.Env
GDAL_CACHE_BYTES = 256 << 20
ZSTD_LEVEL = 3

MEND = "copy the dataset again or tile again"


@dataclass(frozen=True)
class Picture:
    """Pixels and where they are known.

    Parameters
    ----------
    pixels : (3, H, W) red, green, blue; 0 where not `valid`.
    valid : (H, W).
    """

    pixels: Pixels
    valid: Mask


class Written(NamedTuple):
    """A file as it lies on disk."""

    bytes: int
    sha256: str


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


def write_picture(
    path: Path, picture: Picture, transform: Affine, crs: str, block: int, plan_hash: str
) -> Written:
    """Write `geotiff` whole."""
    body = geotiff(picture, transform, crs, block, plan_hash)
    with whole_file(path) as temporary:
        temporary.write_bytes(body)
    return Written(len(body), hashlib.sha256(body).hexdigest())


def read_part(path: Path, part: Part, tile_size: int, plan_hash: str) -> Picture | None:
    """A finished part of the plan, or None where there is none: absent, of another plan, or damaged."""
    if not path.is_file():
        return None
    try:
        with rasterio.open(path) as source:
            if _misfit(source, part, tile_size, plan_hash):
                return None
            return Picture(source.read(), source.read_masks(1) > 0)
    except RasterioError:
        return None


class MosaicReader:
    """Pictures of single tiles: each is one block read from its part, never through the VRT.

    It may be pickled and used after a fork: each process opens the parts anew.

    Parameters
    ----------
    dataset_dir : folder of the dataset.
    plan_hash : of the plan the parts must be of.

    Raises
    ------
    DatasetError : no table of parts, a part is missing, of another plan, or cut otherwise.
    """

    def __init__(self, dataset_dir: Path, view: str, grid: Grid, tile_size: int, plan_hash: str) -> None:
        self._made_of = (dataset_dir, view, grid, tile_size, plan_hash)
        self._folder, self._view, self._grid = Path(dataset_dir), view, grid
        self._tile_size, self._plan_hash = tile_size, plan_hash
        self._written = _written_parts(self._folder / parts_path(view))
        self._open: OrderedDict[Part, Any] = OrderedDict()
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return MosaicReader, self._made_of

    def read(self, row: int, col: int) -> Pixels:
        """(3, tile_size, tile_size) of a tile, zeros where there is no picture."""
        source, window = self._block(row, col)
        if source is None:
            return np.zeros((3, self._tile_size, self._tile_size), np.uint8)
        with _naming(source):
            return np.asarray(source.read(window=window), dtype=np.uint8)

    def valid(self, row: int, col: int) -> Mask:
        """(tile_size, tile_size) whether there is a picture."""
        source, window = self._block(row, col)
        if source is None:
            return np.zeros((self._tile_size, self._tile_size), bool)
        with _naming(source):
            return np.asarray(source.read_masks(1, window=window) > 0)

    def close(self) -> None:
        """Close the open parts; a later read opens them again."""
        if self._process == os.getpid():
            for source in self._open.values():
                source.close()
        self._open.clear()

    def _part(self, row: int, col: int) -> Part:
        return part_of(self._grid, self._tile_size, row, col)

    def _block(self, row: int, col: int) -> tuple[Any, Window]:
        if not (0 <= row < self._grid.rows and 0 <= col < self._grid.cols):
            raise DatasetError(
                f"no tile at row {row}, column {col}: the grid has {self._grid.rows} x {self._grid.cols}"
            )
        part = self._part(row, col)
        size = self._tile_size
        window = Window((col - part.col) * size, (row - part.row) * size, size, size)
        return (self._source(part) if (part.row, part.col) in self._written else None), window

    def _source(self, part: Part) -> Any:
        if self._process != os.getpid():
            # a handle shared with the parent would share its position in the file
            self._open, self._process = OrderedDict(), os.getpid()
        if part in self._open:
            self._open.move_to_end(part)
            return self._open[part]
        self._open[part] = source = self._opened(part)
        if len(self._open) > OPEN_PARTS:
            self._open.popitem(last=False)[1].close()
        return source

    def _opened(self, part: Part) -> Any:
        path = self._folder / part_path(self._view, part)
        # the environment keeps GDAL from printing what the error says
        with rasterio.Env():
            try:
                source = rasterio.open(path)
                misfit = _misfit(source, part, self._tile_size, self._plan_hash)
            except RasterioError:
                raise DatasetError(f"{path} is missing or damaged; {MEND}") from None
            if misfit:
                source.close()
                raise DatasetError(f"{path} is not of this dataset: {misfit}; {MEND}")
        return source


@contextmanager
def _naming(source: Any) -> Iterator[None]:
    try:
        yield
    except RasterioError:
        raise DatasetError(f"{source.name} is damaged; {MEND}") from None


def geotiff(picture: Picture, transform: Affine, crs: str, block: int, plan_hash: str) -> bytes:
    """A masked GeoTIFF with `block` pixels along the side of a block: equal pictures are equal bytes."""
    # made in memory: GDAL's writes to a full disk fail late and in silence, Python's do not
    height, width = picture.valid.shape
    with (
        rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES, GDAL_TIFF_INTERNAL_MASK=True),
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
            photometric="RGB",
            interleave="pixel",
            tiled=True,
            blockxsize=block,
            blockysize=block,
            compress="zstd",
            zstd_level=ZSTD_LEVEL,
            predictor=2,
            sparse_ok=True,
            bigtiff="if_safer",
        ) as target:
            target.update_tags(**{PLAN_TAG: plan_hash})
            target.write(picture.pixels)
            target.write_mask(picture.valid)
        return bytes(memory.getbuffer())


def _misfit(source: Any, part: Part, tile_size: int, plan_hash: str) -> str:
    """In what an open file is not the part it should be; empty when it is."""
    if source.tags().get(PLAN_TAG) != plan_hash:
        return "its plan differs"
    if (source.height, source.width) != (part.rows * tile_size, part.cols * tile_size):
        return f"it has {source.height} x {source.width} px"
    if (
        source.count != 3
        or source.dtypes[0] != "uint8"
        or MaskFlags.per_dataset not in source.mask_flag_enums[0]
    ):
        return "it is not a masked 8-bit RGB picture"
    if source.block_shapes[0] != (tile_size, tile_size):
        return f"its blocks are {source.block_shapes[0]}, not one tile"
    return ""


def _written_parts(path: Path) -> frozenset[tuple[int, int]]:
    if not path.is_file():
        raise DatasetError(f"no {path}: the view was not cut; tile again with --imagery")
    table = pd.read_parquet(path, columns=["row", "col", "state"])
    table = table.loc[table["state"] == "written"]
    return frozenset(zip(table["row"].tolist(), table["col"].tolist(), strict=True))
