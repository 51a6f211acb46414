"""Lines measured on the ground, and cut by the grid: every metre lands in exactly one tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from roadrisk.geometry.ground import ground_steps
from roadrisk.grid import FloatArray, Grid, IntArray

_AT_ONCE = 500_000  # steps whose temporaries are held in memory


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
class _Segments:
    """Straight parts of lines, in the order of the lines and along them, and the grid's lines they cross.

    Parameters
    ----------
    line : (S,) which line.
    start, end : (S, 2) x, y in the grid's CRS.
    first, crossings : (2, S) of the lines between columns, and between rows, the first and how many.
    """

    line: IntArray
    start: FloatArray
    end: FloatArray
    first: IntArray
    crossings: IntArray

    def at(self, some: slice) -> _Segments:
        return _Segments(
            self.line[some], self.start[some], self.end[some], self.first[:, some], self.crossings[:, some]
        )


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
    >>> from roadrisk.grid import LngLatBbox
    >>> from roadrisk.gridding import grid_of_cell
    >>> grid = grid_of_cell(LngLatBbox(-71.2, 42.3, -71.1, 42.4), 1000)
    >>> left, bottom, right, top = grid.bounds
    >>> line = np.array([[left - 500, top - 10], [left + 1500, top - 10]])
    >>> pieces = split_lines(grid, line, np.array([0, 2]))
    >>> pieces.col.tolist(), pieces.share.round(3).tolist()
    ([-1, 0, 1], [0.25, 0.5, 0.25])
    """
    segments = _segments(grid, coordinates, offsets)
    parts = [_pieces(grid, segments.at(some), *parted) for some, parted in _batches(segments)]
    line, row, col, metres = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    total = np.bincount(line, metres)[line]
    # too short to be measured: its pieces are alike
    unmeasured = total == 0
    if unmeasured.any():
        metres[unmeasured] = 1.0
        total = np.bincount(line, metres)[line]
    share = metres / total
    chosen = share > 0
    return LinePieces(line[chosen], row[chosen], col[chosen], share[chosen])


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


def _segments(grid: Grid, coordinates: FloatArray, offsets: IntArray) -> _Segments:
    vertex = segment_starts(offsets)
    line = np.searchsorted(offsets, vertex, side="right") - 1
    start, end = coordinates[vertex], coordinates[vertex + 1]
    first, crossings = _crossings(grid, _in_tiles(grid, start), _in_tiles(grid, end))
    return _Segments(line, start, end, first, crossings)


def _in_tiles(grid: Grid, xy: FloatArray) -> FloatArray:
    """(2, N) columns and rows from the window's north-west corner."""
    left, _, _, top = grid.bounds
    return np.stack([(xy[:, 0] - left) / grid.cell, (top - xy[:, 1]) / grid.cell])


def _crossings(grid: Grid, start: FloatArray, end: FloatArray) -> tuple[IntArray, IntArray]:
    """(2, S) of the lines between columns, and between rows, the first that segments cross and how many.

    Parameters
    ----------
    start, end : (2, S) columns and rows from the window's north-west corner.
    """
    low, high = np.minimum(start, end), np.maximum(start, end)
    last = np.array([[grid.cols], [grid.rows]])
    near = ((high >= 0) & (low <= last)).all(axis=0)
    # of one that leaves the window only the part beside it, give or take a tile, in the other direction
    leaving = np.flatnonzero(near & ((low < -1) | (high > last + 1)).any(axis=0))
    a, b = start[:, leaving], end[:, leaving]
    sides = np.stack([np.full_like(last, -1), last + 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.clip((sides - a) / (b - a), 0.0, 1.0)
    places = a + t[:, ::-1] * (b - a)
    low[:, leaving] = np.maximum(low[:, leaving], places.min(axis=0) - 1)
    high[:, leaving] = np.minimum(high[:, leaving], places.max(axis=0) + 1)
    first = np.clip(np.floor(low) + 1, 0, last + 1).astype(np.int64)
    return first, near * np.clip(np.ceil(high) - first, 0, last + 1 - first).astype(np.int64)


def _batches(segments: _Segments) -> Iterator[tuple[slice, tuple[bool, bool]]]:
    """Runs of segments with some `_AT_ONCE` steps, at least one, and whether lines go on before and after."""
    batch = np.cumsum(segments.crossings.sum(axis=0) + 1) // _AT_ONCE
    bounds = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(batch)]
    parted = [False, *(bool(segments.line[b - 1] == segments.line[b]) for b in bounds[1:-1]), False]
    for (start, end), goes_on in zip(pairwise(bounds), pairwise(parted), strict=True):
        yield slice(start, end), goes_on


def _pieces(
    grid: Grid, segments: _Segments, before: bool, after: bool
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """(P,) line, row, col, and metres; 1 for a line in one tile, which is one piece whatever it measures.

    Parameters
    ----------
    before, after : whether the first and the last line have segments beyond these.
    """
    steps = _steps(grid, segments)
    middle = (steps.points[steps.node] + steps.points[steps.node + 1]) / 2
    row, col = grid.locate(middle[:, 0], middle[:, 1])
    first = np.flatnonzero(np.diff(steps.line, prepend=-1))
    length = np.diff(first, append=len(steps.line))
    elsewhere = (row != np.repeat(row[first], length)) | (col != np.repeat(col[first], length))
    if len(elsewhere):
        elsewhere[0] |= before
        elsewhere[-1] |= after
    cut = np.repeat(np.logical_or.reduceat(elsewhere, first), length) if len(first) else elsewhere
    metres = np.ones(len(cut))
    metres[cut] = _metres(grid, steps, cut)
    chosen = cut.copy()
    chosen[first] = True
    return steps.line[chosen], row[chosen], col[chosen], metres[chosen]


def _metres(grid: Grid, steps: _Steps, cut: NDArray[np.bool_]) -> FloatArray:
    """Ground metres of the steps that are asked for."""
    node = steps.node[cut]
    used = np.zeros(len(steps.points), dtype=bool)
    used[node] = used[node + 1] = True
    place = np.cumsum(used) - 1
    return ground_steps(grid.crs, steps.points[used], place[node], place[node + 1])


def _steps(grid: Grid, segments: _Segments) -> _Steps:
    """Segments cut at the grid's lines."""
    segment, t = _cuts(grid, segments)
    start, end = segments.start, segments.end
    # the nodes of a segment: its start, its crossings, its end
    nodes = np.bincount(segment, minlength=len(start)) + 2
    last = np.cumsum(nodes) - 1
    begin = last - nodes + 1
    points = np.empty((2 * len(start) + len(segment), 2))
    points[begin], points[last] = start, end
    cut = start[segment] + t[:, None] * (end - start)[segment]
    points[2 * segment + 1 + np.arange(len(segment))] = cut
    goes_on = np.ones(len(points), dtype=bool)
    goes_on[last] = False
    return _Steps(points, np.flatnonzero(goes_on), np.repeat(segments.line, nodes - 1))


def _cuts(grid: Grid, segments: _Segments) -> tuple[IntArray, FloatArray]:
    """Where segments cross the grid's lines: (C,) segment, ascending, and (C,) place along it in (0, 1)."""
    cut = np.flatnonzero(segments.crossings.any(axis=0))
    start, end = _in_tiles(grid, segments.start[cut]), _in_tiles(grid, segments.end[cut])
    each, places = [], []
    for axis in (0, 1):
        first, count = segments.first[axis, cut], segments.crossings[axis, cut]
        one = np.repeat(np.arange(len(cut)), count)
        # place within each segment's run of crossings
        run = np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count)
        each.append(cut[one])
        places.append((first[one] + run - start[axis, one]) / (end[axis] - start[axis])[one])
    segment, t = np.concatenate(each), np.concatenate(places)
    # a crossing that rounding puts on an end is no cut: the end is there already
    between = (t > 0) & (t < 1)
    segment, t = segment[between], t[between]
    order = np.argsort(segment, kind="stable")  # fast: two ascending runs
    segment, t = segment[order], t[order]
    again = segment[1:] == segment[:-1]
    several = np.flatnonzero(np.append(again, False) | np.append(False, again))
    t[several] = t[several][np.lexsort((t[several], segment[several]))]
    return segment, t
