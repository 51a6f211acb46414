"""Polygons split by the grid: exact areas by scan conversion, without a spatial index.

An edge of a ring, going down by `dy` inside a row of tiles, puts `dy` times a tile's width between itself
and the right end of the row: all of it into tiles farther right, a part of it into its own. Summed over
the edges of a ring that is what the ring covers of each tile, as font rasterisers with exact coverage
have it (R. Levien, font-rs, 2016). Only tiles on a boundary are computed; those between are runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, Grid, IntArray

_AT_ONCE = 500_000  # vertices whose temporaries are held in memory
# Heights are rounded to 2^-44 of a tile, far below what coordinates can tell: then their sums are exact,
# a tile inside a polygon has exactly its whole area, one outside exactly none.
_HEIGHT = 2.0**44


@dataclass(frozen=True)
class AreaPieces:
    """Pieces of polygons, each inside one tile, in (polygon, row, col) order.

    Parameters
    ----------
    polygon : (P,) which polygon.
    row, col : (P,) which tile.
    area : (P,) CRS units squared, above 0.
    """

    polygon: IntArray
    row: IntArray
    col: IntArray
    area: FloatArray


@dataclass(frozen=True)
class _Edges:
    """Edges of rings, in tiles from the window's north-west corner; `sign` counts shells up, holes down."""

    polygon: IntArray
    u0: FloatArray
    v0: FloatArray
    u1: FloatArray
    v1: FloatArray
    sign: FloatArray

    def at(self, index: NDArray[Any]) -> _Edges:
        return _Edges(*(a[index] for a in self.__dict__.values()))


def split_polygons(grid: Grid, geometry: NDArray[Any]) -> AreaPieces:
    """Polygons cut at the grid's lines; what lies outside the grid is not among the pieces.

    A piece narrower than coordinates are exact is rounding noise and is dropped: below 4 units in the last
    place of the grid's largest coordinate, times the side of a tile or of a square as large as the polygon.

    Parameters
    ----------
    geometry : (N,) valid polygons or multi-polygons in the grid's CRS; null and empty ones have no pieces.

    Examples
    --------
    >>> from roadrisk.grid import LngLatBbox
    >>> from roadrisk.gridding import grid_of_cell
    >>> grid = grid_of_cell(LngLatBbox(-71.2, 42.3, -71.1, 42.4), 1000)
    >>> left, bottom, right, top = grid.bounds
    >>> pieces = split_polygons(grid, np.array([shapely.box(left - 9, top - 500, left + 1200, top + 9)]))
    >>> pieces.col.tolist(), pieces.area.round(6).tolist()
    ([0, 1], [500000.0, 100000.0])
    """
    geometry = np.asarray(geometry, dtype=object)
    parts = [_pieces(grid, _edges(grid, geometry[some], first)) for first, some in _batches(geometry)]
    polygon, row, col, share = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    side = np.sqrt(np.bincount(polygon, share, minlength=len(geometry))).clip(max=1.0)
    noise = 4 * np.spacing(np.abs(grid.bounds).max()) / grid.cell
    kept = share > noise * side[polygon]
    return AreaPieces(polygon[kept], row[kept], col[kept], share[kept] * grid.cell**2)


def covered_shares(grid: Grid, pieces: AreaPieces) -> FloatArray:
    """(size,) area of the pieces in each tile over the tile's own; above 1 where polygons overlap."""
    sums = np.bincount(pieces.row * grid.cols + pieces.col, pieces.area, minlength=grid.size)
    return np.asarray(sums / grid.cell**2, dtype=np.float64)


def share_inside(grid: Grid, polygons: NDArray[Any]) -> FloatArray:
    """(size,) exact share of each tile inside any of the polygons; where several overlap it counts once.

    Parameters
    ----------
    polygons : (N,) valid, in the grid's CRS.
    """
    union = np.array([shapely.union_all(polygons)], dtype=object)
    return np.minimum(covered_shares(grid, split_polygons(grid, union)), 1.0)


def _batches(geometry: NDArray[Any]) -> Iterator[tuple[int, slice]]:
    """First polygon and slice of runs of polygons with some `_AT_ONCE` vertices; at least one run."""
    batch = np.cumsum(shapely.get_num_coordinates(geometry)) // _AT_ONCE
    starts = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], len(geometry)], strict=True):
        yield start, slice(start, end)


def _edges(grid: Grid, geometry: NDArray[Any], first: int) -> _Edges:
    """The edges that reach into the window's rows."""
    parts, polygon = shapely.get_parts(geometry, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    left, _, _, top = grid.bounds
    u, v = (xy[:, 0] - left) / grid.cell, np.rint((top - xy[:, 1]) / grid.cell * _HEIGHT) / _HEIGHT
    at = np.flatnonzero(ring[1:] == ring[:-1])
    is_shell = np.ones(len(rings), dtype=bool)
    is_shell[1:] = part[1:] != part[:-1]
    # seen from a vertex of its own, so that a small ring far away keeps its digits
    start = np.searchsorted(ring, ring[at])
    du, dv = u[at] - u[start], v[at] - v[start]
    twice = np.bincount(ring[at], du * (v[at + 1] - v[at]) - dv * (u[at + 1] - u[at]), minlength=len(rings))
    # v grows down and area is counted to the right of an edge, so a shell must run against its area's sign
    sign = np.where(is_shell, -1.0, 1.0) * np.sign(twice)
    edges = _Edges(first + polygon[part[ring[at]]], u[at], v[at], u[at + 1], v[at + 1], sign[ring[at]])
    high, low = np.minimum(edges.v0, edges.v1), np.maximum(edges.v0, edges.v1)
    return edges.at(np.flatnonzero((low > high) & (low > 0) & (high < grid.rows)))


def _pieces(grid: Grid, edges: _Edges) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """(P,) polygon, row, col and share of the tile."""
    edge_row, edges = _cut_by_rows(edges, grid.rows)
    col, height, area, piece = _cut_by_columns(edges, grid.cols)
    width = grid.cols + 2  # with a column on either side for what lies left and right of the window
    key, at = np.unique((edges.polygon * grid.rows + edge_row)[piece] * width + col + 1, return_inverse=True)
    own, total = (np.bincount(at, a, minlength=len(key)) for a in (area, height))
    so_far = np.cumsum(total)
    # heights sum to nothing outside a polygon, exactly, and so to nothing at the end of a row
    index, step = _runs(np.where(so_far != 0, np.diff(key, append=key[-1:] + 1), 1))
    share = np.where(step == 0, (so_far - total + own)[index], so_far[index])
    band, col = np.divmod(key[index] + step, width)
    polygon, row = np.divmod(band, grid.rows)
    inside = (col >= 1) & (col <= grid.cols)
    return polygon[inside], row[inside], col[inside] - 1, share[inside]


def _cut_by_rows(edges: _Edges, rows: int) -> tuple[IntArray, _Edges]:
    """Edges cut at the lines between rows: (E,) row, and the pieces."""
    high, low = np.minimum(edges.v0, edges.v1), np.maximum(edges.v0, edges.v1)
    first = np.floor(high).clip(0).astype(np.int64)
    index, step = _runs(np.ceil(low).clip(max=rows).astype(np.int64) - first)
    row, whole = first[index] + step, edges.at(index)
    top, bottom = np.maximum(high[index], row), np.minimum(low[index], row + 1)
    down = whole.v1 > whole.v0
    v0, v1 = np.where(down, top, bottom), np.where(down, bottom, top)
    u0, u1 = (_along(v, whole.v0, whole.v1, whole.u0, whole.u1) for v in (v0, v1))
    return row, _Edges(whole.polygon, u0, v0, u1, v1, whole.sign)


def _cut_by_columns(edges: _Edges, cols: int) -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    """Edges inside a row cut at the lines between columns.

    (P,) col, -1 left of the window and `cols` right of it; (P,) signed height; (P,) signed area between
    the piece and the right edge of its tile; (P,) which edge.
    """
    left, right = np.minimum(edges.u0, edges.u1), np.maximum(edges.u0, edges.u1)
    first = np.floor(left).clip(-1, cols).astype(np.int64)
    last = (np.ceil(right).clip(0, cols + 1) - 1).astype(np.int64)
    index, step = _runs(np.maximum(last - first + 1, 1))
    col, whole = first[index] + step, edges.at(index)
    west = np.where(step == 0, left[index], col)
    east = np.where(col >= last[index], right[index], col + 1)
    v_west, v_east = (
        np.rint(_along(u, whole.u0, whole.u1, whole.v0, whole.v1) * _HEIGHT) / _HEIGHT for u in (west, east)
    )
    upright = whole.u0 == whole.u1
    rightwards = np.where(whole.u1 > whole.u0, 1.0, -1.0)
    height = whole.sign * np.where(upright, whole.v1 - whole.v0, rightwards * (v_east - v_west))
    return col, height, height * (col + 1 - (west + east) / 2), index


def _runs(count: IntArray) -> tuple[IntArray, IntArray]:
    """0 to len(count), each as often as it counts, and the place within each run."""
    index = np.repeat(np.arange(len(count)), count)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)


def _along(s: FloatArray, s0: FloatArray, s1: FloatArray, t0: FloatArray, t1: FloatArray) -> FloatArray:
    """The t at s on the edge from (s0, t0) to (s1, t1); its ends exactly."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = t0 + (s - s0) * ((t1 - t0) / (s1 - s0))
    t = np.clip(t, np.minimum(t0, t1), np.maximum(t0, t1))
    return np.asarray(np.where(s == s0, t0, np.where(s == s1, t1, t)))
