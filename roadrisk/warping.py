"""Warping: the sheets over a part become its picture, resampled once onto the grid."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, Part, tiles_per_part
from roadrisk.mosaic import GDAL_CACHE_BYTES, Picture
from roadrisk.sources.imagery import Sheet, meeting

WARP_MB = 128
# a metre of one zone is 0.999 to 1.001 of another's: such a pixel is neither smaller nor larger
SAME_PIXEL = 0.99


def cut_part(sheets: Iterable[Sheet], grid: Grid, part: Part, tile_size: int) -> Picture:
    """The picture of a part: every sheet resampled once, later sheets over earlier ones.

    A sheet is averaged when its pixel is smaller than the grid's, else interpolated by cubic
    convolution. Its mask, alpha or nodata leave gaps; 0 there.

    Raises
    ------
    SourceError : a sheet cannot be read.
    """
    shape = part.rows * tile_size, part.cols * tile_size
    picture = Picture(np.zeros((3, *shape), np.uint8), np.zeros(shape, bool))
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES, GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
        for sheet in sheets:
            try:
                with rasterio.open(sheet.path) as source:
                    _paste(source, sheet, picture, grid, part, tile_size)
            except RasterioError as error:
                detail = str(error.__cause__ or error).splitlines()[0]
                raise SourceError(
                    f"{sheet.path} is damaged; replace it or leave it out of --imagery ({detail})"
                ) from error
    return picture


def sheets_by_part(sheets: Iterable[Sheet], grid: Grid, tile_size: int) -> dict[Part, list[Sheet]]:
    """The sheets over each part that has any, in their order; parts in (row, col) order."""
    side = tiles_per_part(tile_size)
    over: dict[tuple[int, int], list[Sheet]] = defaultdict(list)
    for sheet in sheets:
        row, col, rows, cols = tiles_under(sheet, grid)
        for r in range(row // side, (row + rows - 1) // side + 1):
            for c in range(col // side, (col + cols - 1) // side + 1):
                over[r * side, c * side].append(sheet)
    return {
        Part(row, col, min(side, grid.rows - row), min(side, grid.cols - col)): found
        for (row, col), found in sorted(over.items())
    }


def _paste(source: Any, sheet: Sheet, picture: Picture, grid: Grid, part: Part, tile_size: int) -> None:
    row, col, rows, cols = tiles_under(sheet, grid, part)
    if rows == 0:
        return
    pixel = grid.cell / tile_size
    colours = len(sheet.bands.colours)
    dtype = np.uint8 if sheet.bands.white == 255 else np.float32
    for c in range(col, col + cols):
        # a column of tiles at a time: GDAL approximates the projection along a row of the target, so
        # a tile's pixels depend neither on its part nor on its neighbours
        warped = np.zeros((colours + 1, rows * tile_size, tile_size), dtype)
        reproject(
            rasterio.band(source, sheet.bands.colours),
            warped,
            src_alpha=sheet.bands.alpha,
            dst_alpha=colours + 1,
            dst_transform=part_transform(grid, Part(row, c, rows, 1), tile_size),
            dst_crs=grid.crs,
            resampling=Resampling.average if sheet.pixel < SAME_PIXEL * pixel else Resampling.cubic,
            warp_mem_limit=WARP_MB,
            # GDAL would take the scale from the strip's outline, and blur where the sheet is turned
            XSCALE=sheet.pixel / pixel,
            YSCALE=sheet.pixel / pixel,
        )
        top, left = (row - part.row) * tile_size, (c - part.col) * tile_size
        there = slice(top, top + rows * tile_size), slice(left, left + tile_size)
        alpha, valid = warped[-1], picture.valid[there]
        # where sheets abut, a pixel may be less than half in each: the first then fills it
        seen = (alpha >= 128) | ((alpha > 0) & ~valid)
        shades = warped[:-1]
        if sheet.bands.white != 255:
            shades = np.rint(np.clip(shades * (255 / sheet.bands.white), 0, 255))
        np.copyto(picture.pixels[:, *there], shades, where=seen, casting="unsafe")
        valid |= seen


def tiles_under(sheet: Sheet, grid: Grid, within: Part | None = None) -> Part:
    """The tiles of `within` (else of the grid) that a sheet's box touches."""
    tiles = within or Part(0, 0, *grid.shape)
    left, _, _, top = grid.bounds
    box = sheet.bounds
    first_col = max(math.floor((box.left - left) / grid.cell), tiles.col)
    first_row = max(math.floor((top - box.top) / grid.cell), tiles.row)
    last_col = min(math.ceil((box.right - left) / grid.cell), tiles.col + tiles.cols)
    last_row = min(math.ceil((top - box.bottom) / grid.cell), tiles.row + tiles.rows)
    return Part(first_row, first_col, max(0, last_row - first_row), max(0, last_col - first_col))


def middle_tiles(sheet: Sheet, grid: Grid) -> Part:
    """Two by two tiles in the middle of what a sheet covers of the grid."""
    row, col, rows, cols = tiles_under(sheet, grid)
    return Part(row + max(0, rows // 2 - 1), col + max(0, cols // 2 - 1), min(rows, 2), min(cols, 2))


def part_transform(grid: Grid, part: Part, tile_size: int) -> Affine:
    left, _, _, top = grid.tile_bounds(part.row, part.col)
    pixel = grid.cell / tile_size
    return Affine(pixel, 0.0, left, 0.0, -pixel, top)


def part_px(part: Part, tile_size: int) -> float:
    return float(part.rows * part.cols * tile_size**2)


def shared_px(sheet: Sheet, grid: Grid, part: Part, tile_size: int) -> float:
    """Pixels of a part that lie in a sheet's box."""
    shared = meeting(sheet.bounds, grid.part_bounds(part))
    if shared is None:
        return 0.0
    return (shared.right - shared.left) * (shared.top - shared.bottom) / (grid.cell / tile_size) ** 2
