"""Tiles of a grid as squares of vector tiles; where they are small, the riskiest of a block stands for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, Grid, IntArray
from roadrisk.maps.places import GridTiles
from roadrisk.maps.vector_tiles.encoding import POLYGON, Drawn
from roadrisk.maps.vector_tiles.varints import zigzag
from roadrisk.maps.vector_tiles.world import BUFFER, EXTENT, WorldBox, crs_xy, extent, tile_box, world_xy

LEAST_UNITS = 32  # a tile is 512 css px wide, so this is 4 of them
EXACT_UNITS = 128  # at the highest zoom: a unit is then less than a hundredth of a cell
HIGHEST_ZOOM = 22
MOVE_TO_1, LINE_TO_3, CLOSE_PATH = 1 | 1 << 3, 2 | 3 << 3, 7 | 1 << 3
SAMPLES = 17  # points along a tile's side that tell which cells it holds


class Window(NamedTuple):
    """A rectangle of a lattice: x in [x0, x1), y in [y0, y1)."""

    x0: int
    x1: int
    y0: int
    y1: int


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of `factor` x `factor` cells of the lattice, by (y, x).

    Parameters
    ----------
    x, y : (n,) place in the lattice of blocks.
    rows : (n,) row in the layer of the riskiest tile in each.
    stands_for : (n,) tiles in each.
    lattice : the window that holds all.
    extent : of all; a grid across the antimeridian goes beyond the unit square.
    """

    grid: Grid
    factor: int
    x: IntArray
    y: IntArray
    rows: IntArray
    stands_for: IntArray
    lattice: Window
    extent: WorldBox

    def vertices(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """(h + 1, w + 1) x and y in the unit square of the corners of all blocks of a window."""
        x = np.arange(window.x0, window.x1 + 1) * self.factor
        y = np.arange(window.y0, window.y1 + 1) * self.factor
        return _vertices(self.grid, x, y)

    def window(self, box: WorldBox) -> Window:
        """Where the blocks lie that a box may hold."""
        across = np.linspace(box.left, box.right, SAMPLES)
        down = np.linspace(box.top, box.bottom, SAMPLES)
        east, south = np.meshgrid(across, down)
        x, y = crs_xy(east.ravel(), south.ravel(), self.grid.crs)
        side = self.grid.cell * self.factor
        u, v = (x - self.grid.origin_x) / side, (self.grid.origin_y - y) / side
        more_x, more_y = (1 + 0.01 * np.ptp(t) for t in (u, v))  # a side bends between its samples
        return Window(
            max(int(np.floor(u.min() - more_x)), self.lattice.x0),
            min(int(np.ceil(u.max() + more_x)), self.lattice.x1),
            max(int(np.floor(v.min() - more_y)), self.lattice.y0),
            min(int(np.ceil(v.max() + more_y)), self.lattice.y1),
        )

    def among(self, window: Window) -> IntArray:
        """(m,) which blocks lie in a window."""
        first, last = np.searchsorted(self.y, [window.y0, window.y1])
        x = self.x[first:last]
        return np.asarray(first + np.flatnonzero((x >= window.x0) & (x < window.x1)))


@dataclass(frozen=True, eq=False)
class CellTiles:
    """Tiles of a grid at every zoom.

    Parameters
    ----------
    levels : blocks of 1, 2, 4 ... cells.
    side : of a cell in the middle, in the unit square.
    zooms : the lowest and the highest.
    """

    levels: tuple[Blocks, ...]
    side: float
    zooms: tuple[int, int]

    @property
    def extent(self) -> WorldBox:
        """Of all tiles."""
        return self.levels[0].extent

    def level(self, z: int) -> Blocks:
        """The blocks that a zoom shows: single cells at the highest one."""
        units = self.side * 2.0**z * EXTENT
        doublings = 0 if z >= self.zooms[1] else max(0, int(np.ceil(np.log2(LEAST_UNITS / units) - 1e-6)))
        return self.levels[min(doublings, len(self.levels) - 1)]

    def meets(self, z: int, x: int, y: int) -> bool:
        """Whether a tile or its margin reaches into the part of the grid that has cells."""
        return tile_box(z, x, y).meets(self.level(z).extent)

    def drawn(self, z: int, x: int, y: int) -> Drawn | None:
        """What a tile holds; None without anything."""
        blocks, box = self.level(z), tile_box(z, x, y)
        if not box.meets(blocks.extent):
            return None
        window = blocks.window(box.within(blocks.extent))
        which = blocks.among(window)
        if len(which) == 0:
            return None
        column, row = blocks.x[which] - window.x0, blocks.y[which] - window.y0
        units = [
            np.rint((at * 2.0**z - tile) * EXTENT).astype(np.int64)
            for at, tile in zip(blocks.vertices(window), (x, y), strict=True)
        ]
        corners = np.stack([_corners(each, row, column) for each in units], axis=-1)  # (m, 4, 2)
        inside = (corners.max(axis=1) > -BUFFER) & (corners.min(axis=1) < EXTENT + BUFFER)
        kept = inside.all(axis=1)
        if not kept.any():
            return None
        which, corners = which[kept], corners[kept]
        return Drawn(
            rows=blocks.rows[which],
            kinds=np.full(len(which), POLYGON, dtype=np.uint8),
            commands=_rings(corners),
            lengths=np.full(len(which), 11, dtype=np.int64),
            stands_for=blocks.stands_for[which],
        )


def cell_tiles(places: GridTiles, standing: IntArray, zooms: tuple[int, int] | None) -> CellTiles:
    """Tiles of a grid, of which there are some, ready for every zoom.

    Parameters
    ----------
    standing : (N,) numbers that put the tiles in line, modulo N their rows; the lowest stands for others.
    zooms : the lowest and the highest; without them 0 and the one at which a unit is small beside a cell.
    """
    grid = places.grid
    x, y = grid.x0 + places.cols, grid.y0 + places.rows
    step, middle = np.arange(2), len(x) // 2
    side = float(np.sqrt(abs(_area(*_vertices(grid, x[middle] + step, y[middle] + step)))))
    if zooms is None:
        highest = int(np.ceil(np.log2(EXACT_UNITS / EXTENT / side) - 1e-6))
        zooms = 0, int(np.clip(highest, 0, HIGHEST_ZOOM))
    doublings = max(0, int(np.ceil(np.log2(LEAST_UNITS / (side * 2.0 ** zooms[0] * EXTENT)) - 1e-6)))
    return CellTiles(tuple(_levels(grid, x, y, standing, doublings)), side, zooms)


def _levels(grid: Grid, x: IntArray, y: IntArray, standing: IntArray, doublings: int) -> list[Blocks]:
    """Blocks of 1, 2, 4 ... 2^doublings cells."""
    order = _in_order(x, y)
    n = len(order)
    x, y, first, many = x[order], y[order], standing[order], np.ones(n, dtype=np.int64)
    levels = [_blocks(grid, 1, x, y, first % n, many)]
    for doubling in range(1, doublings + 1):
        order = _in_order(x >> 1, y >> 1)
        x, y = x[order] >> 1, y[order] >> 1
        starts = np.flatnonzero(np.concatenate([[True], (np.diff(x) != 0) | (np.diff(y) != 0)]))
        first = np.minimum.reduceat(first[order], starts)
        many = np.add.reduceat(many[order], starts)
        x, y = x[starts], y[starts]
        levels.append(_blocks(grid, 1 << doubling, x, y, first % n, many))
    return levels


def _in_order(x: IntArray, y: IntArray) -> IntArray:
    """(n,) order by (y, x); equal ones stay as they were."""
    return np.argsort((y - y.min()) * (np.ptp(x) + 1) + x - x.min(), kind="stable")


def _blocks(grid: Grid, factor: int, x: IntArray, y: IntArray, rows: IntArray, many: IntArray) -> Blocks:
    """Blocks with the box around them."""
    lattice = Window(int(x.min()), int(x.max()) + 1, int(y.min()), int(y.max()) + 1)
    t = np.linspace(0.0, 1.0, 4 * SAMPLES) * factor
    across = lattice.x0 * factor + t * (lattice.x1 - lattice.x0)
    down = lattice.y0 * factor + t * (lattice.y1 - lattice.y0)
    return Blocks(grid, factor, x, y, rows, many, lattice, extent(*_vertices(grid, across, down)))


def _vertices(grid: Grid, x: NDArray[Any], y: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """(h, w) x and y in the unit square of (w,) and (h,) places on the lattice of cells.

    A vertex is the same to the bit whatever else is asked for, so neighbours share it.
    """
    across, down = np.meshgrid(x * grid.cell + grid.origin_x, grid.origin_y - y * grid.cell)
    u, v = world_xy(across, down, grid.crs)
    return u - np.rint(u - _middle(grid)), v  # a grid across the antimeridian stays in one piece


@lru_cache(maxsize=64)
def _middle(grid: Grid) -> float:
    """Where the middle of a grid lies across the unit square."""
    left, bottom, right, top = grid.bounds
    return float(world_xy([(left + right) / 2], [(bottom + top) / 2], grid.crs)[0][0])


def _corners(at: IntArray, row: IntArray, column: IntArray) -> IntArray:
    """(m, 4) of each block's corners from (h + 1, w + 1) of a window's, around it from the north-west."""
    return np.stack(
        [at[row, column], at[row, column + 1], at[row + 1, column + 1], at[row + 1, column]], axis=1
    )


def _rings(corners: IntArray) -> NDArray[np.uint32]:
    """(11 m,) commands of (m, 4, 2) rings; the area is positive, as an outer ring's must be: y runs south."""
    steps = zigzag(np.diff(corners, axis=1, prepend=0))  # (m, 4, 2)
    made = np.empty((len(corners), 11), dtype=np.uint32)
    made[:, 0], made[:, 3], made[:, 10] = MOVE_TO_1, LINE_TO_3, CLOSE_PATH
    made[:, 1:3] = steps[:, 0]
    made[:, 4:10] = steps[:, 1:].reshape(-1, 6)
    return made.reshape(-1)


def _area(x: FloatArray, y: FloatArray) -> float:
    """Of one (2, 2) block."""
    return float((x[0, 1] - x[0, 0]) * (y[1, 0] - y[0, 0]) - (x[1, 0] - x[0, 0]) * (y[0, 1] - y[0, 0]))
