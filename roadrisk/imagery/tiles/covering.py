"""Covering: which tiles of a server a grid needs, and of which zoom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray, Grid, IntArray, transformer

WORLD_M = 2 * math.pi * 6378137.0
# GDAL opens no finer MBTiles, and no raster of 2**31 pixels
FINEST = {256: 22, 512: 21}
# what resampling may reach beyond a grid's edge, and what two ways of projecting it may differ by
MARGIN_PX = 8
# pieces of the outline, in tiles of the server
PIECE = 0.25


@dataclass(frozen=True, eq=False)
class TileRows:
    """Tiles of one zoom: in row `y0 + i` those of x in [first[i], end[i]).

    Parameters
    ----------
    y0 : northernmost row, counted from the north.
    first, end : (rows,).
    """

    zoom: int
    y0: int
    first: IntArray
    end: IntArray

    @property
    def count(self) -> int:
        """Number of tiles."""
        return int((self.end - self.first).sum())

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Westernmost x, northernmost y, and the cols and rows around all of them."""
        x0 = int(self.first.min())
        return x0, self.y0, int(self.end.max()) - x0, len(self.first)


def zoom_for(grid: Grid, tile_size: int, tile_px: int, least: int, most: int) -> int:
    """The least zoom from `least` to `most` whose pixels are as fine as the grid's; `most` when none is.

    Parameters
    ----------
    tile_size, tile_px : pixels along a side of a tile of the grid and of the server.

    >>> from roadrisk.gridding import grid_of_zoom, LngLatBbox
    >>> grid = grid_of_zoom(LngLatBbox(-93.7, 41.5, -93.6, 41.6), 16)
    >>> zoom_for(grid, 256, 256, 0, 22), zoom_for(grid, 256, 512, 0, 21), zoom_for(grid, 256, 256, 0, 12)
    (16, 15, 12)
    """
    pixel_m = _mercator_pixel(grid, tile_size)
    fine = (z for z in range(least, most) if WORLD_M / (tile_px << z) <= pixel_m * (1 + 1e-9))
    return next(fine, most)


def tiles_over(grid: Grid, tile_size: int, zoom: int, tile_px: int) -> TileRows:
    """The tiles that a grid needs, with those that resampling at its edge can reach.

    On a grid of XYZ tiles whose pixels are no finer than the server's nothing outside is needed, and nothing
    outside is taken.

    Raises
    ------
    SourceError : the grid crosses the 180th meridian or lies where Web Mercator has no tiles.
    """
    if grid.zoom is None:
        return _rows_around(*_outline(grid, tile_size, zoom), MARGIN_PX / tile_px, zoom)
    scale = 2.0 ** (zoom - grid.zoom)
    margin = 0.0 if tile_px * scale >= tile_size else MARGIN_PX / tile_px
    # exact: powers of two times integers
    left, top = grid.x0 * scale - margin, grid.y0 * scale - margin
    right, bottom = (grid.x0 + grid.cols) * scale + margin, (grid.y0 + grid.rows) * scale + margin
    x0, y0 = max(math.floor(left), 0), max(math.floor(top), 0)
    x1, y1 = min(math.ceil(right), 2**zoom), min(math.ceil(bottom), 2**zoom)
    return TileRows(zoom, y0, np.full(y1 - y0, x0, np.int64), np.full(y1 - y0, x1, np.int64))


def _mercator_pixel(grid: Grid, tile_size: int) -> float:
    """Side of the grid's pixel in metres of EPSG:3857, at its centre."""
    if grid.crs == "EPSG:3857":
        return grid.cell / tile_size
    from pyproj import Proj

    middle = np.array([grid.rows // 2]), np.array([grid.cols // 2])
    lng, lat = grid.centres(*middle, "EPSG:4326")
    scale = Proj("EPSG:3857").get_factors(lng, lat).areal_scale
    return float(grid.cell_m / tile_size * math.sqrt(np.asarray(scale)[0]))


def _outline(grid: Grid, tile_size: int, zoom: int) -> tuple[FloatArray, FloatArray]:
    """(N,) u and v along the grid's edge and a margin, in tiles from the north-west corner of the world."""
    u, v = _ring(grid, tile_size, zoom, pieces=20)
    longest = max(np.abs(np.diff(u)).max(), np.abs(np.diff(v)).max())
    if not math.isfinite(longest) or v.max() <= 0 or v.min() >= 2**zoom:
        raise SourceError("the region lies where Web Mercator has no tiles; use imagery in files")
    if np.ptp(u) > 2**zoom / 2:
        raise SourceError("the region crosses the 180th meridian, where tiles begin; cut it there into two")
    return _ring(grid, tile_size, zoom, pieces=math.ceil(20 * max(1.0, longest / PIECE)))


def _ring(grid: Grid, tile_size: int, zoom: int, pieces: int) -> tuple[FloatArray, FloatArray]:
    margin = MARGIN_PX * grid.cell / tile_size
    left, bottom, right, top = grid.bounds
    t = np.arange(pieces) / pieces
    one, nil = np.ones(pieces), np.zeros(pieces)
    across, down = np.concatenate([t, one, 1 - t, nil, [0.0]]), np.concatenate([nil, t, one, 1 - t, [0.0]])
    x, y = transformer(grid.crs, "EPSG:3857").transform(
        left - margin + across * (right - left + 2 * margin),
        top + margin - down * (top - bottom + 2 * margin),
    )
    return (x / WORLD_M + 0.5) * 2**zoom, (0.5 - y / WORLD_M) * 2**zoom


def _rows_around(u: FloatArray, v: FloatArray, margin: float, zoom: int) -> TileRows:
    """What a closed line encloses: in each row the extremes lie on the line itself."""
    lowest, highest = np.minimum(u[:-1], u[1:]) - margin, np.maximum(u[:-1], u[1:]) + margin
    top = np.floor(np.minimum(v[:-1], v[1:]) - margin).astype(np.int64)
    bottom = np.floor(np.maximum(v[:-1], v[1:]) + margin).astype(np.int64)
    y0, rows = int(top.min()), int(bottom.max() - top.min()) + 1
    first, end = np.full(rows, 2**zoom, np.int64), np.zeros(rows, np.int64)
    for below in range(int((bottom - top).max()) + 1):
        here = top + below <= bottom
        row = (top + below - y0)[here]
        np.minimum.at(first, row, np.floor(lowest[here]).astype(np.int64))
        np.maximum.at(end, row, np.floor(highest[here]).astype(np.int64) + 1)
    inside = slice(max(-y0, 0), min(2**zoom - y0, rows))
    return TileRows(zoom, max(y0, 0), np.maximum(first[inside], 0), np.minimum(end[inside], 2**zoom))
