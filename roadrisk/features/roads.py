"""Metres of road in each tile: lines are cut at grid lines, and every metre lands in exactly one tile."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.grid import FloatArray, Grid, IntArray
from roadrisk.sources.ground import ground_distances, segment_starts
from roadrisk.sources.lines import Lines


@dataclass(frozen=True)
class Pieces:
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


def split_lines(grid: Grid, coordinates: FloatArray, offsets: IntArray) -> Pieces:
    """Lines cut at the grid's lines.

    A piece that runs along a grid line belongs to the tile right of or below it, as a point does.

    Parameters
    ----------
    coordinates : (N, 2) x, y of all vertices in the grid's CRS.
    offsets : (L + 1,) line i has the vertices [offsets[i], offsets[i + 1]); none has zero length.

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
    first = segment_starts(offsets)
    line = np.searchsorted(offsets, first, side="right") - 1
    start, step = coordinates[first], coordinates[first + 1] - coordinates[first]
    segment, t0, t1 = _cuts(grid, start, step)
    a, b, middle = (start[segment] + t[:, None] * step[segment] for t in (t0, t1, (t0 + t1) / 2))
    row, col = grid.locate(middle[:, 0], middle[:, 1])
    metres = ground_distances(grid.crs, a, b)
    line = line[segment]
    total = np.bincount(line, metres, minlength=len(offsets) - 1)
    return Pieces(line, row, col, metres / total[line])


def road_columns(lines: Lines, grid: Grid) -> list[tuple[Column, FloatArray]]:
    """`road_m` and `road_m_<class>`, each with its (rows * cols,) ground metres in (row, col) order."""
    table = lines.table
    coordinates, owner = shapely.get_coordinates(table.geometry.to_numpy(), return_index=True)
    pieces = split_lines(grid, coordinates, np.searchsorted(owner, np.arange(len(table) + 1)))
    metres = pieces.share * table["length_m"].to_numpy()[pieces.line]
    inside = pieces.row >= 0
    tile = pieces.row[inside] * grid.cols + pieces.col[inside]
    line, metres = pieces.line[inside], metres[inside]
    columns = [(_column("road_m", "all roads", lines.name), _sums(grid, tile, metres))]
    words = np.array([_word(c) for c in table["road_class"]], dtype=object)[line]
    for word in sorted(set(words) - {None}):
        of_class = words == word
        sums = _sums(grid, tile[of_class], metres[of_class])
        columns.append((_column(f"road_m_{word}", f"roads of class {word}", lines.name), sums))
    return columns


def share_far_from_lines(x: FloatArray, y: FloatArray, lines: Lines, grid: Grid, distance_m: float) -> float:
    """Share of points more than `distance_m` ground metres from every line; NaN without points.

    Parameters
    ----------
    x, y : (N,) in the grid's CRS.
    """
    if not len(x):
        return float("nan")
    reach = distance_m * grid.cell / grid.cell_m
    tree = shapely.STRtree(lines.table.geometry.to_numpy())
    near, _ = tree.query(shapely.points(x, y), predicate="dwithin", distance=reach)
    return 1.0 - len(np.unique(near)) / len(x)


def _sums(grid: Grid, tile: IntArray, metres: FloatArray) -> FloatArray:
    return np.bincount(tile, metres, minlength=grid.size).astype(np.float64)


def _column(name: str, what: str, source: str) -> Column:
    return Column(name, "float64", "m", "feature", "sum", f"Ground length of {what} in the tile.", source)


def _word(road_class: Any) -> str | None:
    """A road class as the end of a column name; none for null.

    >>> _word("Principal Arterial - Other")
    'principal_arterial_other'
    """
    return re.sub(r"\W+", "_", road_class).strip("_").lower() if isinstance(road_class, str) else None


def _cuts(grid: Grid, start: FloatArray, step: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Segments cut at the grid's lines: (P,) segment, and where each piece starts and ends, 0 to 1."""
    left, _, _, top = grid.bounds
    u = _crossings((start[:, 0] - left) / grid.cell, step[:, 0] / grid.cell, grid.cols)
    v = _crossings((top - start[:, 1]) / grid.cell, -step[:, 1] / grid.cell, grid.rows)
    every = np.arange(len(start))
    segment = np.concatenate([every, every, u[0], v[0]])
    t = np.concatenate([np.zeros(len(start)), np.ones(len(start)), u[1], v[1]])
    order = np.lexsort((t, segment))
    segment, t = segment[order], t[order]
    piece = np.flatnonzero((segment[1:] == segment[:-1]) & (t[1:] > t[:-1]))
    return segment[piece], t[piece], t[piece + 1]


def _crossings(start: FloatArray, step: FloatArray, last: int) -> tuple[IntArray, FloatArray]:
    """Where segments cross the whole numbers 0 to `last`: (C,) segment, (C,) place along it in (0, 1)."""
    end = start + step
    low, high = np.minimum(start, end), np.maximum(start, end)
    first = np.clip(np.floor(low) + 1, 0, last + 1).astype(np.int64)
    count = np.clip(np.ceil(high) - first, 0, last + 1 - first).astype(np.int64)
    segment = np.repeat(np.arange(len(start)), count)
    # position within each segment's run of crossings
    run = np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)
    t = (first[segment] + run - start[segment]) / step[segment]
    return segment, np.clip(t, 0.0, 1.0)


def tiles_without(values: NDArray[Any]) -> float:
    """Share of tiles with none of a source.

    >>> tiles_without(np.array([0.0, 2.0, 0.0, 1.0]))
    0.5
    """
    return float((np.asarray(values) == 0).mean())
