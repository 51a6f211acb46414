"""Warping: the sheets over a part become its picture, resampled once onto the grid."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
from affine import Affine
from rasterio.errors import RasterioError

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray, Grid, Part, tiles_per_part
from roadrisk.imagery.headers import meeting
from roadrisk.imagery.names import public_name
from roadrisk.imagery.reading import OpenSheet, PixelBox, Weighed, open_sheet, reading_environment
from roadrisk.imagery.sheets import Sheet
from roadrisk.mosaic.canvas import Canvas, Damage
from roadrisk.mosaic.picture import Painted, Picture
from roadrisk.mosaic.resampling import Kernel, kernel_of, lattice_of, points_known, resampled, window_of

# of a sheet, at a time: with its colours apart and together some 70 MB
READ_PX = 8_000_000
# pixels a side of a sheet that make one: of more, means are read, which differ more from those by area
LEAST_MOST = 4.0
# of a pixel: what a whole sheet must cover to be looked at
LEAST_SHARE = 1 / 16


@dataclass(frozen=True)
class SheetPainter:
    """Paints parts from sheets, bottom to top; a `Painter`.

    A sheet is averaged by area when its pixel is smaller than the grid's, else interpolated by cubic
    convolution. A pixel is known where at least half of it is: in one sheet, or in those that abut there
    together.
    """

    sheets: tuple[Sheet, ...]
    grid: Grid
    tile_size: int

    def painted(self, part: Part) -> Painted:
        """The picture of a part.

        The pixels of a tile depend neither on its part nor on its neighbours. A tile that needs what cannot
        be read of a sheet has no picture; the others have theirs.
        """
        return _canvas_of(self, part).painted()


def cut_part(sheets: Iterable[Sheet], grid: Grid, part: Part, tile_size: int) -> Picture:
    """The picture of a part.

    Raises
    ------
    SourceError : a sheet cannot be read.
    """
    canvas = _canvas_of(SheetPainter(tuple(sheets), grid, tile_size), part)
    for damage in canvas.damages.values():
        raise SourceError(
            f"{damage.path} is damaged; replace it or leave it out of --imagery ({damage.detail})"
        )
    return canvas.painted().picture


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


class _Site(NamedTuple):
    """A tile on a sheet: its places, and the sheet's pixels that it needs."""

    tile: tuple[int, int]
    lattice: FloatArray
    box: PixelBox


def _canvas_of(painter: SheetPainter, part: Part) -> Canvas:
    began = time.perf_counter()
    cv2.setNumThreads(1)  # one process a core
    canvas = Canvas(part, painter.tile_size)
    with reading_environment():
        for sheet in reversed(painter.sheets):
            row, col, rows, cols = tiles_under(sheet, painter.grid, part)
            under = [
                [(r, c) for c in range(col - part.col, col - part.col + cols)]
                for r in range(row - part.row, row - part.row + rows)
            ]
            wanted = [[t for t in line if not (canvas.full[t] or canvas.failed[t])] for line in under]
            if any(wanted):
                _paint(sheet, [line for line in wanted if line], painter.grid, canvas)
    canvas.finish()
    canvas.warp_s = time.perf_counter() - began - canvas.decode_s
    return canvas


def _paint(sheet: Sheet, lines: Sequence[Sequence[tuple[int, int]]], grid: Grid, canvas: Canvas) -> None:
    """Paint a sheet under lines of tiles."""
    scale = grid.cell / canvas.tile_size / sheet.pixel
    if sheet.width * sheet.height < LEAST_SHARE * scale**2:
        return
    with ExitStack() as stack:
        began = time.perf_counter()
        try:
            # the box around a tile that lies askew is up to twice as large as it
            most = max(LEAST_MOST, math.sqrt(READ_PX / 2) / canvas.tile_size)
            opened = stack.enter_context(open_sheet(sheet, scale, most))
        except RasterioError as error:
            for tile in (tile for line in lines for tile in line):
                canvas.fail(tile, Damage(public_name(sheet.path), None, _detail(error)))
            return
        finally:
            canvas.decode_s += time.perf_counter() - began
        kernel = kernel_of(scale / opened.scale, opened.factor)
        for line in lines:
            for sites in _together(_sites(line, grid, canvas, opened, kernel)):
                for site, window in _windows(sites, opened, canvas):
                    if cv2.extractChannel(window, 3).any():
                        piece = resampled(window, site.box, site.lattice, canvas.tile_size, kernel)
                        place = window, site.box, site.lattice, canvas.tile_size
                        canvas.add(site.tile, piece, sheet, partial(points_known, *place))


def _sites(
    tiles: Sequence[tuple[int, int]], grid: Grid, canvas: Canvas, opened: OpenSheet, kernel: Kernel
) -> list[_Site]:
    to_pixels = Affine.scale(1 / opened.x_scale, 1 / opened.y_scale) @ ~opened.sheet.to_crs
    sites = []
    for row, col in tiles:
        bounds = grid.tile_bounds(canvas.part.row + row, canvas.part.col + col)
        lattice = lattice_of(bounds, canvas.tile_size, grid.crs, opened.sheet.crs, to_pixels)
        box = window_of(lattice, canvas.tile_size, kernel, opened.width, opened.height)
        if box is not None:
            sites.append(_Site((row, col), lattice, box))
    return sites


def _together(sites: Sequence[_Site]) -> Iterator[Sequence[_Site]]:
    """Sites whose pixels are read in one go: when that is neither too many nor mostly others."""
    if not sites:
        return
    needed = sum(site.box.size for site in sites)
    if len(sites) == 1 or _around(sites).size <= min(READ_PX, 2 * needed):
        yield sites
        return
    half = len(sites) // 2
    yield from _together(sites[:half])
    yield from _together(sites[half:])


def _windows(sites: Sequence[_Site], opened: OpenSheet, canvas: Canvas) -> Iterator[tuple[_Site, Weighed]]:
    """The pixels that each site needs; a site for which they cannot be read fails."""
    box = _around(sites)
    began = time.perf_counter()
    try:
        strip = opened.read(box)
    except RasterioError as error:
        strip = None
        detail = _detail(error)
    canvas.decode_s += time.perf_counter() - began
    if strip is not None:
        for site in sites:
            x0, y0, x1, y1 = site.box
            yield site, strip[y0 - box.y0 : y1 - box.y0, x0 - box.x0 : x1 - box.x0]
    elif len(sites) > 1:
        for site in sites:
            yield from _windows([site], opened, canvas)
    else:
        pixel = round(box.x0 * opened.x_scale), round(box.y0 * opened.y_scale)
        canvas.fail(sites[0].tile, Damage(public_name(opened.sheet.path), pixel, detail))


def _around(sites: Sequence[_Site]) -> PixelBox:
    x0, y0, x1, y1 = zip(*(site.box for site in sites), strict=True)
    return PixelBox(min(x0), min(y0), max(x1), max(y1))


def _detail(error: RasterioError) -> str:
    return public_name(str(error.__cause__ or error).splitlines()[0])
