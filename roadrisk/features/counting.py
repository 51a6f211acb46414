"""Points counted by tile: arithmetic, no spatial index."""

from __future__ import annotations

import numpy as np

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray, Grid


def count_events(grid: Grid, x: FloatArray, y: FloatArray, weight: FloatArray | None = None) -> FloatArray:
    """Events in each tile.

    Parameters
    ----------
    x, y : (N,) coordinates in `grid.crs`; points outside the grid count nowhere.
    weight : (N,) one per event, e.g. EPDO; events count 1 without it.

    Returns
    -------
    (rows, cols) [events, extensive]. Points on a shared edge belong to the tile right of and below it,
    as XYZ tiles do.

    Raises
    ------
    SourceError : a coordinate is not finite.

    Examples
    --------
    >>> from roadrisk.grid import LngLatBbox
    >>> from roadrisk.gridding import grid_of_shape
    >>> grid = grid_of_shape(LngLatBbox(-93.7, 41.5, -93.5, 41.7), 2, 2)
    >>> left, bottom, right, top = grid.bounds
    >>> count_events(grid, np.array([left, left, right]), np.array([top, top, top])).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    weights = None if weight is None else np.asarray(weight, dtype=np.float64)
    framed = np.zeros((grid.rows + 2, grid.cols + 2))
    flat = framed.reshape(-1)
    for some, index in grid.framed_index(x, y):
        finite = np.isfinite(x[some]) & np.isfinite(y[some])
        if not finite.all():
            bad = some.start + int((~finite).argmax())
            raise SourceError(f"event {bad} has a coordinate that is not finite; leave it out")
        np.add.at(flat, index, 1.0 if weights is None else weights[some])
    return framed[1:-1, 1:-1].copy()
