"""The lines and polygons of a file: each usable beside a grid, or with the reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from roadrisk.errors import SourceError
from roadrisk.geometry.near import Near, box_around, planar_areas
from roadrisk.grid import Bbox, FloatArray, Grid
from roadrisk.sources.tables import Table

# as shapely numbers the kinds, single and multi
POINTS, LINES, POLYGONS = (0, 4), (1, 5), (3, 6)

NO_GEOMETRY = "no geometry"
EMPTY = "empty geometry"
NOT_A_LINE = "not a line"
NOT_A_POLYGON = "not a polygon"
NOT_A_NUMBER = "not a number"
ZERO_LENGTH = "zero length"
NO_AREA = "no area"


@dataclass(frozen=True)
class CheckedLines:
    """The lines of some rows.

    Parameters
    ----------
    drawn : (N,) as the file has them, flat.
    geometry : (N,) in the grid's CRS, whole, of those that touch the grid; null of the others.
    reason : (N,) why a row has no line; empty where it has.
    inside : (N,) whether a sound line touches the grid.
    bounds : of all sound ones in their own CRS.
    """

    drawn: NDArray[np.object_]
    geometry: NDArray[np.object_]
    reason: NDArray[np.object_]
    inside: NDArray[np.bool_]
    bounds: Bbox


@dataclass(frozen=True)
class CheckedPolygons:
    """The polygons of some rows.

    Parameters
    ----------
    geometry : (N,) valid polygons in the grid's CRS, as far as rows have one near the grid; of those that
        reach far beyond it the part near the grid.
    area : (N,) of the whole polygon, in units of the grid's CRS squared; NaN without `geometry`.
    reason : (N,) why a row has no polygon; empty where it has.
    inside : (N,) whether a sound polygon shares area with the grid.
    repaired : (N,) whether it crossed itself.
    bounds : of all sound ones in their own CRS.
    """

    geometry: NDArray[Any]
    area: FloatArray
    reason: NDArray[np.object_]
    inside: NDArray[np.bool_]
    repaired: NDArray[np.bool_]
    bounds: Bbox


def geometry_crs(table: Table, kind: Literal["lines", "polygons"]) -> CRS:
    """The CRS of a table's geometry.

    Parameters
    ----------
    kind : what is looked for.

    Raises
    ------
    SourceError : there is no geometry, or no CRS.
    """
    if not table.has_geometry:
        raise SourceError(f"{table.path} is a table without {kind}; give a file of {kind}, such as a .gpkg")
    if table.crs is None:
        raise SourceError(f"{table.path} has no CRS; write it again with one, as in EPSG:4326")
    return table.crs


def checked_lines(wkb: Any, near: Near, extentless: NDArray[np.bool_] | bool = False) -> CheckedLines:
    """Lines of WKB, each usable or with the reason why not.

    Parameters
    ----------
    wkb : (N,) bytes or null, coordinates in the CRS of `near`.
    extentless : (N,) whether a line without extent counts, as a loop drawn as its one node does.
    """
    drawn = _flat(wkb)
    is_line = np.isin(shapely.get_type_id(drawn), LINES)
    # planar length in any CRS is zero just where the ground length is
    planar = shapely.length(drawn)
    reason = np.full(len(drawn), "", dtype=object)
    reason[(planar == 0) & np.logical_not(extentless)] = ZERO_LENGTH
    reason[~np.isfinite(planar)] = NOT_A_NUMBER
    reason[~is_line] = NOT_A_LINE
    reason[pd.isna(wkb) | (is_line & shapely.is_empty(drawn))] = NO_GEOMETRY
    sound, bounds = reason == "", shapely.bounds(drawn)
    index = np.flatnonzero(sound & near.meets(bounds))
    in_grid = near.in_grid(drawn[index])
    # a vertex beyond the reach of the grid's CRS has no place in it
    reached = np.isfinite(shapely.length(in_grid))
    reason[index[~reached]] = NOT_A_NUMBER
    touching = reached & _touching(in_grid, near.grid)
    geometry, inside = np.full(len(drawn), None, dtype=object), np.zeros(len(drawn), dtype=bool)
    geometry[index[touching]], inside[index[touching]] = in_grid[touching], True
    return CheckedLines(drawn, geometry, reason, inside, box_around(bounds[sound]))


def checked_polygons(wkb: Any, near: Near) -> CheckedPolygons:
    """Polygons of WKB, each usable or with the reason why not.

    Parameters
    ----------
    wkb : (N,) bytes or null, coordinates in the CRS of `near`.
    """
    given = pd.notna(wkb)
    geometry = _flat(wkb)
    reason = np.full(len(geometry), "", dtype=object)
    reason[~given] = NO_GEOMETRY
    is_polygon, empty = np.isin(shapely.get_type_id(geometry), POLYGONS), shapely.is_empty(geometry)
    reason[given & ~is_polygon] = NOT_A_POLYGON
    reason[given & is_polygon & empty] = EMPTY
    reason[given & is_polygon & ~empty & ~_finite(geometry)] = NOT_A_NUMBER
    sound = reason == ""
    repaired = sound & ~shapely.is_valid(geometry)
    geometry[repaired] = shapely.make_valid(geometry[repaired], method="structure", keep_collapsed=False)
    flat = sound & (shapely.area(geometry) == 0)
    reason[flat] = NO_AREA
    sound &= ~flat
    bounds = shapely.bounds(geometry)
    index = np.flatnonzero(sound & near.meets(bounds))
    whole, geometry[index] = geometry[index], near.cut_back(geometry[index])
    area = np.full(len(geometry), np.nan)
    area[index] = _times_larger(whole, geometry[index], near.crs)
    geometry[index] = near.in_grid(geometry[index])
    # a vertex beyond the reach of the grid's CRS has no place in it
    reason[index[~_finite(geometry[index])]] = NOT_A_NUMBER
    index = index[reason[index] == ""]
    geometry[index] = _mended(geometry[index])
    area[index] *= shapely.area(geometry[index])
    inside = np.zeros(len(geometry), dtype=bool)
    window = shapely.box(*near.grid.bounds)
    shapely.prepare(window)
    inside[index] = shapely.intersects(window, geometry[index]) & ~shapely.touches(window, geometry[index])
    return CheckedPolygons(geometry, area, reason, inside, repaired & sound, box_around(bounds[sound]))


def _flat(wkb: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return shapely.force_2d(shapely.from_wkb(wkb, on_invalid="ignore"))


def _touching(lines: NDArray[np.object_], grid: Grid) -> NDArray[np.bool_]:
    touching = shapely.intersects(shapely.box(*grid.bounds), lines)
    points = np.flatnonzero(shapely.length(lines) == 0)
    if len(points):
        # what has no extent is not a valid line
        x, y = shapely.bounds(lines[points])[:, :2].T
        touching[points] = grid.locate(x, y)[0] >= 0
    return np.asarray(touching)


def _finite(geometry: Any) -> NDArray[np.bool_]:
    finite = np.isfinite(shapely.get_coordinates(geometry)).all(axis=1)
    of = shapely.get_coordinates(geometry, return_index=True)[1]
    return np.asarray(np.bincount(of[~finite], minlength=len(geometry)) == 0)


def _times_larger(whole: Any, cut: Any, crs: CRS) -> FloatArray:
    """(N,) how many times the area of what was left of polygons they had; 1 of those not cut."""
    times = np.ones(len(whole))
    shorter = np.flatnonzero(~shapely.equals_identical(whole, cut))
    left = planar_areas(crs, cut[shorter])
    times[shorter] = np.divide(planar_areas(crs, whole[shorter]), left, out=times[shorter], where=left > 0)
    return times


def _mended(geometry: Any) -> Any:
    """Polygons valid again where rounding in another CRS made a hair cross."""
    broken = ~shapely.is_valid(geometry)
    geometry[broken] = shapely.make_valid(geometry[broken], method="structure", keep_collapsed=False)
    return geometry
