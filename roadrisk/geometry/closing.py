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
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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


@dataclass(frozen=True)
class _Clusters:
    """Marks in clusters that do not know of each other.

    Parameters
    ----------
    row, col : (M,) sub-cells, one cluster after the other, in each from top to bottom.
    starts : (C + 1,) where clusters start.
    lone : (2, L) rows and cols of those alone.
    """

    row: IntArray
    col: IntArray
    starts: IntArray
    lone: IntArray

    def of_band(self, raster: Raster, first: int, last: int) -> Iterator[tuple[IntArray, IntArray]]:
        """Rows and cols of the marks of each cluster that tell what is inside some rows of tiles."""
        # rows count from the halo's first, so those of the halo around the band start where the band does
        top, bottom = first * raster.per_tile, last * raster.per_tile + 2 * raster.halo
        begin, end = self.starts[:-1], self.starts[1:]
        met = np.flatnonzero((self.row[begin] < bottom) & (self.row[end - 1] >= top))
        for a, b in zip(begin[met].tolist(), end[met].tolist(), strict=True):
            start, stop = a + np.searchsorted(self.row[a:b], (top, bottom))
            if start < stop:
                yield self.row[start:stop], self.col[start:stop]


def raster_of(grid: Grid, reach_m: float) -> Raster:
    """Sub-cells fine enough for a reach in ground metres.

    >>> from roadrisk.grid import LngLatBbox
    >>> from roadrisk.gridding import grid_of_cell
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
    1982). Each group is closed by itself, so that what lies between two of them is not taken for known; and
    in a group each cluster of marks that no disc can touch together with others, which is the same.

    Parameters
    ----------
    marks : ascending, as `marked` numbers them.
    """
    grid, side = raster.grid, raster.per_tile
    share = np.zeros(grid.shape)
    clusters = _clusters(raster, marks)
    for first, last in _bands(raster):
        inside = np.zeros(((last - first) * side, grid.cols * side), dtype=np.uint8)
        for row, col in clusters.of_band(raster, first, last):
            _close(raster, row, col, inside, first)
        _mark(raster, clusters.lone, inside, first)
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


def _clusters(raster: Raster, marks: IntArray) -> _Clusters:
    """Marks of a group so near each other that one disc may touch them: no others close a gap together."""
    line, col = np.divmod(marks, raster.width)
    group, row = np.divmod(line, raster.height)
    wide = math.ceil(2 * raster.reach) + 1
    # a frame of one keeps neighbours in the row above from those at its other end, and from other groups
    down, across = raster.height // wide + 2, raster.width // wide + 2
    cell, at = np.unique((group * down + row // wide) * across + col // wide, return_inverse=True)
    pairs = []
    for step in (1, across - 1, across, across + 1):
        place = np.minimum(np.searchsorted(cell, cell + step), len(cell) - 1)
        near = np.flatnonzero(cell[place] == cell + step)
        pairs.append((near, place[near]))
    a, b = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    links = coo_array((np.ones(len(a)), (a, b)), shape=(len(cell), len(cell)))
    cluster = connected_components(links, directed=False)[1][at]
    order = np.argsort(cluster, kind="stable")
    size = np.bincount(cluster)
    several = size[cluster[order]] > 1
    lone = np.stack([row, col])[:, order[~several]]
    kept = order[several]
    starts = np.concatenate([[0], np.cumsum(size[size > 1])])
    return _Clusters(row[kept], col[kept], starts, lone)


def _close(raster: Raster, row: IntArray, col: IntArray, inside: NDArray[np.uint8], first: int) -> None:
    """Sets what lies in the closing of some marks in the sub-cells of the rows of tiles from `first`."""
    marks = np.stack([row, col])
    pad = math.ceil(raster.reach) + 2
    origin = marks.min(axis=1) - pad
    far = np.ones(marks.max(axis=1) - origin + 1 + pad, dtype=np.uint8)
    far[tuple(marks - origin[:, None])] = 0
    reached = (_distance(far) <= raster.reach).astype(np.uint8)
    closed = _distance(reached) > raster.reach
    top, left = (origin - raster.halo - (first * raster.per_tile, 0)).tolist()
    rows, cols = (
        (max(0, at), min(size, at + length))
        for at, size, length in zip((top, left), inside.shape, closed.shape, strict=True)
    )
    if rows[0] < rows[1] and cols[0] < cols[1]:
        inside[slice(*rows), slice(*cols)] |= closed[
            rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left
        ]


def _mark(raster: Raster, lone: IntArray, inside: NDArray[np.uint8], first: int) -> None:
    """Sets single marks, whose closing is they themselves."""
    row, col = lone - raster.halo - np.array([[first * raster.per_tile], [0]])
    here = (row >= 0) & (row < inside.shape[0]) & (col >= 0) & (col < inside.shape[1])
    inside[row[here], col[here]] = 1


def _distance(far: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Sub-cells to the nearest that is 0, between centres."""
    return np.asarray(cv2.distanceTransform(far, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)
