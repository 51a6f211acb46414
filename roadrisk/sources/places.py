"""Where the rows of a table are, be they points or lines: checked, and brought into the grid's CRS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from roadrisk.geometry.near import NOWHERE, Near
from roadrisk.grid import Bbox, Grid
from roadrisk.sources.positions import PositionColumns, PositionEvidence, checked_positions
from roadrisk.sources.shapes import LINES, checked_lines
from roadrisk.sources.tables import Chunk, Table


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


def has_lines(table: Table) -> bool:
    """Whether any row is a line; all rows are asked, so that their order decides nothing."""
    if not table.has_geometry:
        return False
    return any(
        bool(np.isin(shapely.get_type_id(shapely.from_wkb(wkb, on_invalid="ignore")), LINES).any())
        for _, wkb in table.read([])
    )


def point_places(chunk: Chunk, columns: PositionColumns, grid: Grid) -> Places:
    """The points of a chunk; those outside the grid have no geometry."""
    where = checked_positions(columns, chunk, grid)
    sound = where.reason == ""
    inside = sound & (grid.locate(where.x, where.y)[0] >= 0)
    geometry = np.full(len(sound), None, dtype=object)
    geometry[inside] = shapely.points(where.x[inside], where.y[inside])
    lng, lat = where.lng[sound], where.lat[sound]
    bounds = Bbox(lng.min(), lat.min(), lng.max(), lat.max()) if sound.any() else NOWHERE
    return Places(geometry, where.reason, bounds, where.evidence)


def line_places(chunk: Chunk, near: Near) -> Places:
    """The lines of a chunk, whole; those that do not touch the grid have no geometry."""
    lines = checked_lines(chunk[1], near)
    bounds = lines.bounds
    if bounds != NOWHERE:
        bounds = Bbox(*Transformer.from_crs(near.crs, "EPSG:4326", always_xy=True).transform_bounds(*bounds))
    return Places(lines.geometry, lines.reason, bounds, None)
