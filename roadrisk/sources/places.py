"""Where the rows of a table are, be they points or lines: checked, and brought into the grid's CRS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from roadrisk.grid import Bbox, FloatArray, Grid
from roadrisk.sources.line_files import NO_GEOMETRY, NOT_A_LINE, NOT_A_NUMBER, ZERO_LENGTH
from roadrisk.sources.positions import PositionColumns, PositionEvidence, checked_positions
from roadrisk.sources.tables import Chunk, Table

_LINES = (1, 5)
_NOWHERE = Bbox(np.inf, np.inf, -np.inf, -np.inf)


@dataclass(frozen=True)
class Places:
    """Where the rows of a chunk are.

    Parameters
    ----------
    geometry : (N,) in the grid's CRS; null of rows outside the grid and of those with a reason.
    reason : (N,) why a row has no usable place; empty where it has.
    bounds : of the usable places, degrees.
    evidence : of the CRS of points.
    """

    geometry: NDArray[np.object_]
    reason: NDArray[np.object_]
    bounds: Bbox
    evidence: PositionEvidence | None


@dataclass(frozen=True)
class Near:
    """A grid, the CRS of lines, and, in that, a box around the grid."""

    grid: Grid
    crs: CRS
    to_grid: Transformer
    box: Bbox


def has_lines(table: Table) -> bool:
    """Whether any row is a line; all rows are asked, so that their order decides nothing."""
    if not table.has_geometry:
        return False
    return any(
        bool(np.isin(shapely.get_type_id(shapely.from_wkb(wkb, on_invalid="ignore")), _LINES).any())
        for _, wkb in table.read([])
    )


def near_grid(crs: CRS, grid: Grid) -> Near:
    """What reading lines needs to know of a grid."""
    to_grid = Transformer.from_crs(crs, grid.crs, always_xy=True)
    # a little wider than the grid: its edges are not straight in another CRS
    left, bottom, right, top = grid.bounds
    wide = left - grid.cell, bottom - grid.cell, right + grid.cell, top + grid.cell
    return Near(
        grid, crs, to_grid, Bbox(*to_grid.transform_bounds(*wide, densify_pts=51, direction="INVERSE"))
    )


def point_places(chunk: Chunk, columns: PositionColumns, grid: Grid) -> Places:
    """The points of a chunk; those outside the grid have no geometry."""
    where = checked_positions(columns, chunk, grid)
    sound = where.reason == ""
    inside = sound & (grid.locate(where.x, where.y)[0] >= 0)
    geometry = np.full(len(sound), None, dtype=object)
    geometry[inside] = shapely.points(where.x[inside], where.y[inside])
    lng, lat = where.lng[sound], where.lat[sound]
    bounds = Bbox(lng.min(), lat.min(), lng.max(), lat.max()) if sound.any() else _NOWHERE
    return Places(geometry, where.reason, bounds, where.evidence)


def line_places(chunk: Chunk, near: Near) -> Places:
    """The lines of a chunk, whole; those that do not touch the grid have no geometry."""
    wkb: Any = chunk[1]
    shapes = shapely.force_2d(shapely.from_wkb(wkb, on_invalid="ignore"))
    reason = np.full(len(shapes), "", dtype=object)
    planar = shapely.length(shapes)
    reason[~np.isfinite(planar)] = NOT_A_NUMBER
    reason[planar == 0] = ZERO_LENGTH
    reason[~np.isin(shapely.get_type_id(shapes), _LINES)] = NOT_A_LINE
    reason[pd.isna(wkb) | shapely.is_empty(shapes)] = NO_GEOMETRY
    bounds = shapely.bounds(shapes)
    index = np.flatnonzero((reason == "") & _overlap(bounds, near.box))
    in_grid = shapely.transform(shapes[index], near.to_grid.transform, interleaved=False)
    # a line with a vertex beyond the reach of the grid's CRS has no length in it
    reached = np.isfinite(shapely.length(in_grid))
    reason[index[~reached]] = NOT_A_NUMBER
    touching = reached & shapely.intersects(shapely.box(*near.grid.bounds), in_grid)
    geometry = np.full(len(shapes), None, dtype=object)
    geometry[index[touching]] = in_grid[touching]
    return Places(geometry, reason, _lnglat_bounds(bounds[reason == ""], near.crs), None)


def _overlap(bounds: FloatArray, box: Bbox) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        from_left, from_right = bounds[:, 0] <= box.right, bounds[:, 2] >= box.left
        # a box across the antimeridian ends left of where it starts
        across = from_left | from_right if box.left > box.right else from_left & from_right
        return np.asarray(across & (bounds[:, 1] <= box.top) & (bounds[:, 3] >= box.bottom))


def _lnglat_bounds(bounds: FloatArray, crs: CRS) -> Bbox:
    if not len(bounds):
        return _NOWHERE
    box = (*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0))
    return Bbox(*Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform_bounds(*box))
