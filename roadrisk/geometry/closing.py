"""What lies between lines or points: their morphological closing, as a share of each tile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, Grid, IntArray

_PER_TILE = 4, 64  # fewest and most sub-cells along a tile: shares to a sixteenth; finer than asked is waste
_PER_REACH = 8  # sub-cells in a reach: rounding to whole ones moves a border by an eighth of it at most
_AT_ONCE = 4_000_000  # sub-cells in memory


@dataclass(frozen=True)
class Raster:
    """Sub-cells of a grid's tiles, and some around it from which what is inside can be told.

    Parameters
    ----------
    per_tile : sub-cells along a tile.
    reach : in sub-cells.
    """

    grid: Grid
    per_tile: int
    reach: float

    @property
    def halo(self) -> int:
        """Sub-cells around the grid: a mark speaks for what lies up to two reaches off."""
        return math.ceil(2 * self.reach) + 2

    @property
    def height(self) -> int:
        """Sub-cells from top to bottom, halo included."""
        return self.grid.rows * self.per_tile + 2 * self.halo

    @property
    def width(self) -> int:
        """Sub-cells from left to right, halo included."""
        return self.grid.cols * self.per_tile + 2 * self.halo


def raster_of(grid: Grid, reach_m: float) -> Raster:
    """Sub-cells fine enough for a reach in ground metres.

    >>> from roadrisk.grid import LngLatBbox, grid_of_cell
    >>> raster_of(grid_of_cell(LngLatBbox(-71.2, 42.3, -71.1, 42.4), 1000), 500).per_tile
    16
    """
    fewest, most = _PER_TILE
    # a hair less, so that a ground metre a little longer than one of the grid makes no more of them
    per_tile = min(max(math.ceil(_PER_REACH * grid.cell_m / reach_m - 0.01), fewest), most)
    return Raster(grid, per_tile, reach_m / grid.cell_m * per_tile)


def marked(raster: Raster, geometry: NDArray[Any], group: IntArray) -> IntArray:
    """(M,) sub-cells that lines and points touch, in groups: ascending numbers that `closed_share` knows.

    Parameters
    ----------
    geometry : (N,) points or lines, single or multi, in the grid's CRS; vertices that are not finite lie
        nowhere.
    group : (N,) counted from 0.
    """
    parts, of = shapely.get_parts(geometry, return_index=True)
    xy, part = shapely.get_coordinates(parts, return_index=True)
    left, _, _, top = raster.grid.bounds
    place = np.column_stack([top - xy[:, 1], xy[:, 0] - left]) / raster.grid.cell * raster.per_tile
    place += raster.halo
    place, part = _densified(place, part, (raster.height, raster.width))
    row, col = np.floor(place).astype(np.int64).T
    return np.unique((group[of[part]] * raster.height + row) * raster.width + col)


def closed_share(raster: Raster, marks: IntArray) -> FloatArray:
    """(size,) share of each tile inside the morphological closing of any group of marks.

    A closing by a disc of the reach fills gaps up to twice as wide and adds nothing on the outside (Serra,
    1982). Each group is closed by itself, so that what lies between two of them is not taken for known.

    Parameters
    ----------
    marks : ascending, as `marked` numbers them.
    """
    grid, side = raster.grid, raster.per_tile
    share = np.zeros(grid.shape)
    groups = np.unique(marks // (raster.height * raster.width))
    for first, last in _bands(raster):
        inside = np.zeros(((last - first) * side, grid.cols * side), dtype=np.uint8)
        for group in groups.tolist():
            _close(raster, _of_band(raster, marks, group, first, last), inside, first)
        tiles = inside.reshape(last - first, side, grid.cols, side)
        share[first:last] = tiles.sum(axis=(1, 3), dtype=np.int64) / side**2
    return share.ravel()


def _densified(place: FloatArray, part: IntArray, shape: tuple[int, int]) -> tuple[FloatArray, IntArray]:
    """Vertices and, on segments, points every half sub-cell, as far as they lie in the raster."""
    start = np.flatnonzero(part[1:] == part[:-1])
    a, b = place[start], place[start + 1]
    with np.errstate(invalid="ignore"):
        near = ((np.maximum(a, b) >= 0) & (np.minimum(a, b) < shape)).all(axis=1)
    near &= np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    start, a, b = start[near], a[near], b[near]
    count = np.ceil(2 * np.abs(b - a).max(axis=1, initial=0)).astype(np.int64)
    index = np.repeat(np.arange(len(start)), count)
    t = (np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)) / count[index]
    between = a[index] + t[:, None] * (b - a)[index]
    every = np.concatenate([place, between])
    of = np.concatenate([part, part[start][index]])
    with np.errstate(invalid="ignore"):
        inside = ((every >= 0) & (every < shape)).all(axis=1)
    return every[inside], of[inside]


def _bands(raster: Raster) -> Iterator[tuple[int, int]]:
    """Rows [first, last) of tiles that are done at once; not so few that the halo costs more than they."""
    rows = max(_AT_ONCE // raster.width, 2 * raster.halo) // raster.per_tile + 1
    for first in range(0, raster.grid.rows, rows):
        yield first, min(first + rows, raster.grid.rows)


def _of_band(raster: Raster, marks: IntArray, group: int, first: int, last: int) -> NDArray[np.int64]:
    """(2, M) rows and cols of a group's marks that tell what is inside some rows of tiles."""
    # rows count from the halo's first, so those of the halo around the band start where the band does
    rows = first * raster.per_tile, last * raster.per_tile + 2 * raster.halo
    start, end = np.searchsorted(marks, [(group * raster.height + row) * raster.width for row in rows])
    row, col = np.divmod(marks[start:end] - group * raster.height * raster.width, raster.width)
    return np.stack([row, col])


def _close(raster: Raster, marks: IntArray, inside: NDArray[np.uint8], first: int) -> None:
    """Sets what lies in the closing of some marks in the sub-cells of the rows of tiles from `first`."""
    if not marks.size:
        return
    pad = math.ceil(raster.reach) + 2
    origin = marks.min(axis=1) - pad
    far = np.ones(marks.max(axis=1) - origin + 1 + pad, dtype=np.uint8)
    far[tuple(marks - origin[:, None])] = 0
    reached = (_distance(far) <= raster.reach).astype(np.uint8)
    closed = _distance(reached) > raster.reach
    row, col = origin - raster.halo - (first * raster.per_tile, 0)
    rows, cols = (
        (max(0, at), min(size, at + length))
        for at, size, length in zip((row, col), inside.shape, closed.shape, strict=True)
    )
    if rows[0] < rows[1] and cols[0] < cols[1]:
        inside[slice(*rows), slice(*cols)] |= closed[
            rows[0] - row : rows[1] - row, cols[0] - col : cols[1] - col
        ]


def _distance(far: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Sub-cells to the nearest that is 0, between centres."""
    return np.asarray(cv2.distanceTransform(far, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)
