"""Which shapes of a file are near a grid: a box around it in the file's CRS, and the way from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from roadrisk.grid import Bbox, FloatArray, Grid

NOWHERE = Bbox(np.inf, np.inf, -np.inf, -np.inf)


@dataclass(frozen=True)
class Near:
    """A grid seen from another CRS.

    Parameters
    ----------
    box : in `crs`, around the grid and a tile more: its edges are not straight there.
    """

    grid: Grid
    crs: CRS
    to_grid: Transformer
    box: Bbox

    def meets(self, bounds: FloatArray) -> NDArray[np.bool_]:
        """(N,) whether boxes overlap that around the grid.

        Parameters
        ----------
        bounds : (N, 4) left, bottom, right, top in `crs`; of nothing NaN, which meets nothing.
        """
        box = self.box
        with np.errstate(invalid="ignore"):
            from_left, from_right = bounds[:, 0] <= box.right, bounds[:, 2] >= box.left
            # a box across the antimeridian ends left of where it starts
            across = from_left | from_right if box.left > box.right else from_left & from_right
            return np.asarray(across & (bounds[:, 1] <= box.top) & (bounds[:, 3] >= box.bottom))

    def in_grid(self, geometry: NDArray[Any]) -> NDArray[Any]:
        """(N,) shapes brought from `crs` into the grid's; infinite where there is no way."""
        return np.asarray(shapely.transform(geometry, self.to_grid.transform, interleaved=False))


def near_grid(crs: CRS, grid: Grid) -> Near:
    """The grid as shapes in a CRS are held against it."""
    to_grid = Transformer.from_crs(crs, grid.crs, always_xy=True)
    left, bottom, right, top = grid.bounds
    wide = left - grid.cell, bottom - grid.cell, right + grid.cell, top + grid.cell
    return Near(
        grid, crs, to_grid, Bbox(*to_grid.transform_bounds(*wide, densify_pts=51, direction="INVERSE"))
    )


def box_around(bounds: FloatArray) -> Bbox:
    """The box around (N, 4) boxes; of none the one that is around nothing."""
    if not len(bounds):
        return NOWHERE
    return Bbox(*bounds[:, :2].min(axis=0).tolist(), *bounds[:, 2:].max(axis=0).tolist())
