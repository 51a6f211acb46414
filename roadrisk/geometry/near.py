"""Which shapes of a file are near a grid: a box around it in the file's CRS, and the way from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from roadrisk.grid import Bbox, FloatArray, Grid

_FAR_M, _FAR_DEG = 500_000.0, 5.0  # a country's parts are nearer, and lie whole in any projection
_STEPS = 50
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

    def cut_back(self, polygons: NDArray[Any]) -> NDArray[Any]:
        """(N,) valid polygons of `crs`, those that reach far beyond the grid cut back to its neighbourhood.

        Far away a projection ends or folds, and a long edge, straight there, would pass elsewhere: so the
        edges of what is cut are followed in small steps.
        """
        box, far = self.box, _far(self.crs)
        across = box.left > box.right  # from the east end of the world to the west one
        aside = far if across else max(far, box.right - box.left)
        above = max(far, box.top - box.bottom)
        left, right = box.left - aside, box.right + aside
        bottom, top = box.bottom - above, box.top + above
        spans = [(left, 360.0), (-360.0, right)] if across else [(left, right)]
        window = shapely.union_all([shapely.box(a, bottom, b, top) for a, b in spans])
        shapely.prepare(window)
        beyond = np.flatnonzero(~shapely.covers(window, polygons))
        cut = polygons.copy()
        # what is left of an edge that only touches is no polygon
        pieces = shapely.buffer(shapely.intersection(polygons[beyond], window), 0)
        cut[beyond] = shapely.segmentize(pieces, far / _STEPS)
        return cut

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


def planar_areas(crs: CRS, polygons: NDArray[Any]) -> FloatArray:
    """(N,) areas by which parts of one polygon compare, whatever its size: those on a sphere, or planar.

    >>> halves = shapely.box([0, 0], [0, 30], [360, 360], [30, 90])
    >>> planar_areas(CRS("EPSG:4326"), halves).round(6).tolist()
    [10313.240312, 10313.240312]
    """
    if not crs.is_geographic:
        return np.asarray(shapely.area(polygons))

    def cylindrical(lng_lat: FloatArray) -> FloatArray:
        # Lambert's cylindrical projection keeps areas
        return np.column_stack([lng_lat[:, 0], np.degrees(np.sin(np.radians(lng_lat[:, 1])))])

    return np.asarray(shapely.area(shapely.transform(polygons, cylindrical)))


def box_around(bounds: FloatArray) -> Bbox:
    """The box around (N, 4) boxes; of none the one that is around nothing."""
    if not len(bounds):
        return NOWHERE
    return Bbox(*bounds[:, :2].min(axis=0).tolist(), *bounds[:, 2:].max(axis=0).tolist())


def _far(crs: CRS) -> float:
    """A distance in units of a CRS beyond which a polygon does not come along whole."""
    if crs.is_geographic:
        return _FAR_DEG
    return _FAR_M / float(crs.axis_info[0].unit_conversion_factor) if crs.axis_info else _FAR_M
