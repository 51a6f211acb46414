"""Lines measured on the ground, and cut by the grid: every metre lands in exactly one tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from roadrisk.geometry.ground import ground_steps
from roadrisk.grid import FloatArray, Grid, IntArray


@dataclass(frozen=True)
class LinePieces:
    """Pieces of lines, each inside one tile.

    Parameters
    ----------
    line : (P,) which line.
    row, col : (P,) which tile; -1 outside the grid.
    share : (P,) of the line's ground length; the shares of a line sum to 1.
    """

    line: IntArray
    row: IntArray
    col: IntArray
    share: FloatArray


@dataclass(frozen=True)
class Spread:
    """Lines spread over the tiles of a grid by ground length.

    Parameters
    ----------
    line, tile, share : (P,) which line has how much of its length in which tile, `row * cols + col`.
    """

    grid: Grid
    line: IntArray
    tile: IntArray
    share: FloatArray

    def sums(self, per_line: FloatArray) -> FloatArray:
        """(size,) what lines have, shared out to the tiles."""
        sums = np.bincount(self.tile, self.share * per_line[self.line], minlength=self.grid.size)
        return sums.astype(np.float64)


@dataclass(frozen=True)
class _Steps:
    """The points where lines bend or are cut, and the steps between them: `node[i]` to `node[i] + 1`."""

    points: FloatArray
    node: IntArray
    line: IntArray


def vertices(lines: NDArray[Any]) -> tuple[FloatArray, IntArray]:
    """(N, 2) x, y of all vertices of lines, and (L + 1,) offsets: line i has [offsets[i], offsets[i + 1]).

    >>> vertices(np.array([shapely.LineString([(0, 0), (1, 2)]), shapely.LineString([(3, 4), (5, 6)])]))[1]
    array([0, 2, 4])
    """
    coordinates, owner = shapely.get_coordinates(lines, return_index=True)
    return coordinates, np.searchsorted(owner, np.arange(len(lines) + 1))


def split_lines(grid: Grid, coordinates: FloatArray, offsets: IntArray) -> LinePieces:
    """Lines cut at the grid's lines.

    A piece that runs along a grid line belongs to the tile right of or below it, as a point does. A line
    without extent is one piece, in the tile of its point.

    Parameters
    ----------
    coordinates, offsets : `vertices` in the grid's CRS.

    Examples
    --------
    >>> from roadrisk.grid import LngLatBbox, grid_of_cell
    >>> grid = grid_of_cell(LngLatBbox(-71.2, 42.3, -71.1, 42.4), 1000)
    >>> left, bottom, right, top = grid.bounds
    >>> line = np.array([[left - 500, top - 10], [left + 1500, top - 10]])
    >>> pieces = split_lines(grid, line, np.array([0, 2]))
    >>> pieces.col.tolist(), pieces.share.round(3).tolist()
    ([-1, 0, 1], [0.25, 0.5, 0.25])
    """
    steps = _steps(grid, coordinates, offsets)
    middle = (steps.points[steps.node] + steps.points[steps.node + 1]) / 2
    row, col = grid.locate(middle[:, 0], middle[:, 1])
    first = np.flatnonzero(np.diff(steps.line, prepend=-1))
    length = np.diff(first, append=len(steps.line))
    elsewhere = (row != np.repeat(row[first], length)) | (col != np.repeat(col[first], length))
    cut = np.repeat(np.logical_or.reduceat(elsewhere, first), length) if len(first) else elsewhere
    # most lines lie in one tile: they are one piece, and what they measure is no matter
    share = _shares(grid, steps, cut)
    chosen = cut & (share > 0)
    chosen[first[~cut[first]]] = True
    return LinePieces(steps.line[chosen], row[chosen], col[chosen], share[chosen])


def spread_lines(grid: Grid, coordinates: FloatArray, offsets: IntArray) -> Spread:
    """Lines spread over the tiles; what lies outside the grid is left out.

    Parameters
    ----------
    coordinates, offsets : `vertices` in the grid's CRS.
    """
    pieces = split_lines(grid, coordinates, offsets)
    inside = pieces.row >= 0
    tile = pieces.row[inside] * grid.cols + pieces.col[inside]
    return Spread(grid, pieces.line[inside], tile, pieces.share[inside])


def ground_lengths(crs: CRS | str, coordinates: FloatArray, offsets: IntArray) -> FloatArray:
    """(L,) geodesic metres of lines.

    Parameters
    ----------
    coordinates, offsets : `vertices` in `crs`.
    """
    first = segment_starts(offsets)
    line = np.searchsorted(offsets, first, side="right") - 1
    metres = ground_steps(crs, coordinates, first, first + 1)
    return np.bincount(line, metres, minlength=len(offsets) - 1).astype(np.float64)


def segment_starts(offsets: IntArray) -> IntArray:
    """(S,) index of the first vertex of each segment of lines.

    >>> segment_starts(np.array([0, 3, 5])).tolist()
    [0, 1, 3]
    """
    is_start = np.ones(int(offsets[-1]), dtype=bool)
    is_start[offsets[1:] - 1] = False
    return np.flatnonzero(is_start)


def _shares(grid: Grid, steps: _Steps, cut: NDArray[np.bool_]) -> FloatArray:
    """(S,) share of its line that each step has; 1 where the line is not cut."""
    share = np.ones(len(cut))
    node, line = steps.node[cut], steps.line[cut]
    used = np.zeros(len(steps.points), dtype=bool)
    used[node] = used[node + 1] = True
    place = np.cumsum(used) - 1
    metres = ground_steps(grid.crs, steps.points[used], place[node], place[node + 1])
    total = np.bincount(line, metres)
    share[cut] = metres / total[line]
    return share


def _steps(grid: Grid, coordinates: FloatArray, offsets: IntArray) -> _Steps:
    """Segments cut at the grid's lines, in the order of the lines and along them."""
    first = segment_starts(offsets)
    start, end = coordinates[first], coordinates[first + 1]
    segment, t = _cuts(grid, start, end)
    # the nodes of a segment: its start, its crossings, its end
    nodes = np.bincount(segment, minlength=len(first)) + 2
    last = np.cumsum(nodes) - 1
    begin = last - nodes + 1
    points = np.empty((2 * len(first) + len(segment), 2))
    points[begin], points[last] = start, end
    cut = start[segment] + t[:, None] * (end - start)[segment]
    points[2 * segment + 1 + np.arange(len(segment))] = cut
    goes_on = np.ones(len(points), dtype=bool)
    goes_on[last] = False
    node = np.flatnonzero(goes_on)
    line = np.repeat(np.searchsorted(offsets, first, side="right") - 1, last - begin)
    return _Steps(points, node, line)


def _cuts(grid: Grid, start: FloatArray, end: FloatArray) -> tuple[IntArray, FloatArray]:
    """Where segments cross the grid's lines: (C,) segment, in order, and (C,) place along it in [0, 1]."""
    left, bottom, right, top = grid.bounds
    beside = (np.maximum(start, end) < (left, bottom)) | (np.minimum(start, end) > (right, top))
    near = np.flatnonzero(~(beside[:, 0] | beside[:, 1]))
    x0, y0, x1, y1 = *start[near].T, *end[near].T
    u = _crossings((x0 - left) / grid.cell, (x1 - left) / grid.cell, grid.cols)
    v = _crossings((top - y0) / grid.cell, (top - y1) / grid.cell, grid.rows)
    segment, t = (np.concatenate(both) for both in zip(u, v, strict=True))
    # fast, for u and v are in the order of the segments; crossings nearer than rounding may change places
    order = np.argsort(segment + t, kind="stable")
    return near[segment[order]], t[order]


def _crossings(start: FloatArray, end: FloatArray, last: int) -> tuple[IntArray, FloatArray]:
    """Where segments cross the whole numbers 0 to `last`: (C,) segment, (C,) place along it in (0, 1)."""
    low, high = np.minimum(start, end), np.maximum(start, end)
    first = np.clip(np.floor(low) + 1, 0, last + 1).astype(np.int64)
    count = np.clip(np.ceil(high) - first, 0, last + 1 - first).astype(np.int64)
    segment = np.repeat(np.arange(len(start)), count)
    # position within each segment's run of crossings
    run = np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)
    t = (first[segment] + run - start[segment]) / (end - start)[segment]
    return segment, np.clip(t, 0.0, 1.0)
