"""Squares of a grid told from their outlines alone, so that a million of them need no million shapes."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from roadrisk.geometry.columns import boxes_as_wkb
from roadrisk.grid import FloatArray, Grid
from roadrisk.gridding import MERCATOR_HALF_M
from roadrisk.maps.places import GridTiles

MERCATOR = "EPSG:3857"
BOX_BYTES = 93
_BOX = np.dtype([("head", "V13"), ("points", "<f8", (5, 2))])


def tiles_of_squares(outlines: pa.ChunkedArray, crs: str) -> GridTiles | None:
    """Tiles of a grid of square cells or of XYZ tiles that have exactly these outlines; None where none have.

    Parameters
    ----------
    outlines : (N,) WKB.
    crs : as `EPSG:32619`.
    """
    edges = _edges_of_boxes(outlines)
    if edges is None:
        return None
    left, _, right, top = edges
    cell, origin = _lattice(float(right[0] - left[0]), crs)
    if not (math.isfinite(cell) and cell > 0):
        return None
    with np.errstate(all="ignore"):
        x, y = np.rint((left + origin) / cell), np.rint((origin - top) / cell)
    if not (np.abs(x) < 2**31).all() or not (np.abs(y) < 2**31).all():
        return None
    cols, rows = x.astype(np.int64), y.astype(np.int64)
    x0, y0 = int(cols.min()), int(rows.min())
    grid = Grid(
        scheme="zoom" if origin else "cell",
        crs=crs,
        origin_x=-origin,
        origin_y=origin,
        cell=cell,
        x0=x0,
        y0=y0,
        rows=int(rows.max()) - y0 + 1,
        cols=int(cols.max()) - x0 + 1,
        zoom=round(math.log2(2 * MERCATOR_HALF_M / cell)) if origin else None,
    )
    made = grid.edges(rows - y0, cols - x0)
    same = all(np.array_equal(known, there) for known, there in zip(edges, made, strict=True))
    return GridTiles(grid, rows - y0, cols - x0) if same else None


def _lattice(side: float, crs: str) -> tuple[float, float]:
    """Side of a cell and the distance of the lattice's corner from the CRS origin: XYZ tiles have one."""
    if crs == MERCATOR and side > 0:
        zoom = math.log2(2 * MERCATOR_HALF_M / side)
        if abs(zoom - round(zoom)) < 1e-6:
            return 2 * MERCATOR_HALF_M / 2 ** round(zoom), MERCATOR_HALF_M
    return side, 0.0


def _edges_of_boxes(
    outlines: pa.ChunkedArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray] | None:
    """(N,) left, bottom, right and top; None where an outline is no box as this project writes them."""
    if outlines.null_count or not len(outlines):
        return None
    parts = [_points(chunk) for chunk in outlines.chunks if len(chunk)]
    if any(part is None for part in parts):
        return None
    points = np.concatenate([part for part in parts if part is not None])  # (N, 5, 2)
    right, bottom = points[:, 0].T
    left, top = points[:, 2].T
    return left, bottom, right, top


def _points(chunk: pa.Array) -> NDArray[np.float64] | None:
    """(n, 5, 2) the vertices of boxes that are stored as `boxes_as_wkb` does; None of anything else."""
    stored = chunk.cast(pa.large_binary())
    offsets = np.frombuffer(stored.buffers()[1], np.int64)[stored.offset : stored.offset + len(stored) + 1]
    if (np.diff(offsets) != BOX_BYTES).any():
        return None
    boxes = np.frombuffer(stored.buffers()[2], _BOX, len(stored), int(offsets[0]))
    points = boxes["points"]
    right, bottom = points[:, 0].T
    left, top = points[:, 2].T
    same = boxes_as_wkb(left, bottom, right, top)
    return points if same.cast(pa.large_binary()).equals(stored) else None
