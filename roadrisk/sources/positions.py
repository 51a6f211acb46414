"""Where the points of a table are: found, checked, and brought into the grid's CRS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray, Grid
from roadrisk.source_settings import EventSource
from roadrisk.sources.names import EAST, LATITUDE, LONGITUDE, NORTH, found_column, given_column, listed
from roadrisk.sources.tables import Chunk, Table

NO_COORDINATES = "no coordinates"
NOT_A_NUMBER = "not a number"
NOT_A_POINT = "not a point"
ZERO_ZERO = "zero-zero"
OUTSIDE_THE_WORLD = "outside the world"
SWAPPED = "swapped"

_NEAR_DEG = 5.0  # a region's neighbourhood, when asking whether x and y were taken for each other

Raw = tuple[FloatArray, FloatArray, NDArray[np.object_]]


@dataclass(frozen=True)
class PositionColumns:
    """How a table says where its points are.

    Parameters
    ----------
    crs : of the coordinates.
    attributes : columns to read besides the geometry.
    understood : what was found, for people.
    raw : chunk -> (N,) x, (N,) y as written and (N,) the reason a row has none, empty where it has.
    """

    crs: CRS
    attributes: tuple[str, ...]
    understood: str
    raw: Callable[[Chunk], Raw]


@dataclass(frozen=True)
class Positions:
    """Checked points of a chunk.

    Parameters
    ----------
    raw_x, raw_y : (N,) as written.
    x, y : (N,) in the grid's CRS.
    lng, lat : (N,) degrees.
    reason : (N,) why a row has no usable point; empty where it has.
    """

    raw_x: FloatArray
    raw_y: FloatArray
    x: FloatArray
    y: FloatArray
    lng: FloatArray
    lat: FloatArray
    reason: NDArray[np.object_]


def position_columns(table: Table, source: EventSource) -> PositionColumns:
    """The geometry or the two columns that hold a table's points.

    Raises
    ------
    SourceError : there are none (names the columns there are), or a CRS is missing or unknown.
    """
    if table.has_geometry and source.x is None and source.y is None:
        if table.crs is None:
            raise SourceError(
                f"{source.path} has points but no CRS; write it again with one, as in EPSG:4326"
            )
        return PositionColumns(
            table.crs, (), f"points of its geometry in {_named(table.crs)}", _raw_of_points
        )
    crs = _crs(source)
    x, y = _column_pair(table, source, projected=not crs.is_geographic)

    def raw(chunk: Chunk) -> Raw:
        return _raw_of_columns(chunk[0][x], chunk[0][y])

    return PositionColumns(crs, (x, y), f"points from {x!r} and {y!r} in {_named(crs)}", raw)


def checked_positions(columns: PositionColumns, chunk: Chunk, grid: Grid) -> Positions:
    """The points of a chunk, each usable or with the reason why not."""
    x, y, reason = columns.raw(chunk)
    reason = reason.copy()
    sound = reason == ""
    reason[sound & (x == 0) & (y == 0)] = ZERO_ZERO
    lng, lat = _transformed(columns.crs, "EPSG:4326", x, y)
    if columns.crs.is_geographic:
        reason[(reason == "") & _looks_swapped(x, y, grid)] = SWAPPED
    with np.errstate(invalid="ignore"):
        in_world = np.isfinite(lng) & np.isfinite(lat) & (np.abs(lng) <= 180) & (np.abs(lat) <= 90)
    reason[(reason == "") & ~in_world] = OUTSIDE_THE_WORLD
    grid_x, grid_y = _transformed(columns.crs, grid.crs, x, y)
    return Positions(x, y, grid_x, grid_y, lng, lat, reason)


def lnglat_bounds(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east, north of a grid's rectangle in degrees."""
    transformer = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    west, south, east, north = transformer.transform_bounds(*grid.bounds, densify_pts=21)
    return float(west), float(south), float(east), float(north)


def _crs(source: EventSource) -> CRS:
    try:
        return CRS.from_user_input(source.crs)
    except CRSError:
        raise SourceError(
            f"{source.path}: crs {source.crs!r} is not a CRS that PROJ knows; write it as EPSG:26986"
        ) from None


def _named(crs: CRS) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.name)


def _column_pair(table: Table, source: EventSource, projected: bool) -> tuple[str, str]:
    if (source.x is None) != (source.y is None):
        raise SourceError(f"{source.path}: x and y go together; name both in the region file or neither")
    if source.x is not None and source.y is not None:
        return (
            given_column(table.columns, source.x, "x", source.path),
            given_column(table.columns, source.y, "y", source.path),
        )
    usual = [(LONGITUDE, LATITUDE), (EAST, NORTH)]
    for xs, ys in reversed(usual) if projected else usual:
        x, y = found_column(table.columns, xs), found_column(table.columns, ys)
        if x is not None and y is not None:
            return x, y
    raise SourceError(
        f"{source.path} has no columns that look like coordinates; name them with `x` and `y` in the region "
        f"file; its columns: {listed(table.columns)}"
    )


def _raw_of_columns(x: pd.Series, y: pd.Series) -> Raw:
    xs, x_blank = _numbers(x)
    ys, y_blank = _numbers(y)
    reason = np.full(len(xs), "", dtype=object)
    reason[~(np.isfinite(xs) & np.isfinite(ys))] = NOT_A_NUMBER
    reason[x_blank | y_blank] = NO_COORDINATES
    return xs, ys, reason


def _numbers(values: pd.Series) -> tuple[FloatArray, NDArray[np.bool_]]:
    if pd.api.types.is_numeric_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers, np.isnan(numbers)
    text = values.astype("string").str.strip()
    blank = (text.isna() | (text == "")).to_numpy(dtype=bool, na_value=True)
    return pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan), blank


def _raw_of_points(chunk: Chunk) -> Raw:
    wkb: Any = chunk[1]
    given = pd.notna(wkb)
    geometry = shapely.from_wkb(wkb, on_invalid="ignore")
    # exporters write single points as multipoints
    single = (shapely.get_type_id(geometry) == 4) & (shapely.get_num_geometries(geometry) == 1)
    geometry[single] = shapely.get_geometry(geometry[single], 0)
    is_point = shapely.get_type_id(geometry) == 0
    x = np.where(is_point, shapely.get_x(geometry), np.nan)
    y = np.where(is_point, shapely.get_y(geometry), np.nan)
    reason = np.full(len(x), "", dtype=object)
    reason[~is_point] = NOT_A_POINT
    reason[~given | (is_point & ~(np.isfinite(x) & np.isfinite(y)))] = NO_COORDINATES
    return x, y, reason


def _looks_swapped(x: FloatArray, y: FloatArray, grid: Grid) -> NDArray[np.bool_]:
    west, south, east, north = lnglat_bounds(grid)

    def near(lng: FloatArray, lat: FloatArray) -> NDArray[np.bool_]:
        beside = (lng > west - _NEAR_DEG) & (lng < east + _NEAR_DEG)
        return np.asarray(beside & (lat > south - _NEAR_DEG) & (lat < north + _NEAR_DEG))

    return near(y, x) & ~near(x, y)


def _transformed(source: CRS, target: str, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    if source == CRS.from_user_input(target):
        return x, y
    lng, lat = Transformer.from_crs(source, target, always_xy=True).transform(x, y)
    return np.asarray(lng), np.asarray(lat)
