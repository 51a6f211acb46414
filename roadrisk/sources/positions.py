"""Where the points of a table are: found, checked, and brought into the grid's CRS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray, Grid
from roadrisk.source_settings import PointTable
from roadrisk.sources.geoparquet import is_of_the_earth
from roadrisk.sources.names import EAST, LATITUDE, LONGITUDE, NORTH, found_column, given_column, listed
from roadrisk.sources.rows import written_texts
from roadrisk.sources.tables import Chunk, Table

NO_COORDINATES = "no coordinates"
NO_GEOMETRY = "no geometry"
NOT_A_NUMBER = "not a number"
NOT_A_POINT = "not a point"
ZERO_ZERO = "zero-zero"
OUTSIDE_THE_WORLD = "outside the world"
SWAPPED = "swapped"

_NEAR_DEG = 5.0  # a region's neighbourhood, when asking whether x and y were taken for each other
_LARGE = 1000.0  # no degrees; metres and feet of projected CRSs are larger
_CLEAR_SHARE = 0.01
_DECIMAL_COMMA = r"^([+-]?\d+),(\d+)$"
_SHAPES = {1: "lines", 2: "lines", 3: "polygons", 4: "groups of points", 5: "lines", 6: "polygons"}

Raw = tuple[FloatArray, FloatArray, NDArray[np.object_]]


@dataclass(frozen=True)
class PositionColumns:
    """How a table says where its points are.

    Parameters
    ----------
    where : the file, for a message.
    crs : of the coordinates.
    attributes : columns to read besides the geometry; none where the geometry tells.
    understood : what was found, for people.
    raw : chunk -> (N,) x, (N,) y as written and (N,) the reason a row has none, empty where it has.
    """

    where: str
    crs: CRS
    attributes: tuple[str, ...]
    understood: str
    raw: Callable[[Chunk], Raw]


@dataclass(frozen=True)
class PositionEvidence:
    """What a chunk's coordinates say about their CRS.

    Parameters
    ----------
    columns : that they come from.
    rows : of the chunk.
    degrees, large : rows that may be degrees, and rows that are metres or feet, with the first of each.
    not_points : rows whose geometry is something else, with a word for it.
    """

    columns: PositionColumns
    rows: int
    degrees: int
    large: int
    not_points: int
    degrees_example: str
    large_example: str
    shape: str


@dataclass(frozen=True)
class Positions:
    """Checked points of a chunk.

    Parameters
    ----------
    raw_x, raw_y : (N,) as written.
    x, y : (N,) in the grid's CRS; infinite without a usable point or far from the grid.
    lng, lat : (N,) degrees.
    reason : (N,) why a row has no usable point; empty where it has.
    evidence : for `check_positions`.
    """

    raw_x: FloatArray
    raw_y: FloatArray
    x: FloatArray
    y: FloatArray
    lng: FloatArray
    lat: FloatArray
    reason: NDArray[np.object_]
    evidence: PositionEvidence


def position_columns(table: Table, source: PointTable) -> PositionColumns:
    """The geometry or the two columns that hold a table's points.

    Raises
    ------
    SourceError : there are none (names the columns there are), or a CRS is missing or unknown.
    """
    where = str(table.path)
    if table.has_geometry and source.x is None and source.y is None:
        if table.crs is None:
            raise SourceError(f"{where} has points but no CRS; write it again with one, as in EPSG:4326")
        understood = f"points of its geometry in {_named(table.crs)}"
        return PositionColumns(where, table.crs, (), understood, _raw_of_points)
    crs = _crs(source, where)
    x, y = _column_pair(table, source, projected=not crs.is_geographic)
    understood = f"points from {x!r} and {y!r} in {_named(crs)}"
    may_have_commas = table.delimiter not in (None, ",")
    if may_have_commas and _has_decimal_commas(table, x, y):
        understood += ", with decimal commas"

    def raw(chunk: Chunk) -> Raw:
        return _raw_of_columns(chunk[0][x], chunk[0][y], may_have_commas)

    return PositionColumns(where, crs, (x, y), understood, raw)


def checked_positions(columns: PositionColumns, chunk: Chunk, grid: Grid) -> Positions:
    """The points of a chunk, each usable or with the reason why not."""
    x, y, reason = columns.raw(chunk)
    reason = reason.copy()
    sound = reason == ""
    reason[sound & (x == 0) & (y == 0)] = ZERO_ZERO
    lng, lat = _transformed(columns.crs, "EPSG:4326", x, y)
    bounds = lnglat_bounds(grid)
    if columns.crs.is_geographic:
        reason[(reason == "") & _looks_swapped(x, y, bounds)] = SWAPPED
    with np.errstate(invalid="ignore"):
        in_world = np.isfinite(lng) & np.isfinite(lat) & (np.abs(lng) <= 180) & (np.abs(lat) <= 90)
    reason[(reason == "") & ~in_world] = OUTSIDE_THE_WORLD
    evidence = _evidence(columns, x, y, reason, chunk)
    # most points of a state are far from a metro: to bring them into its CRS would take most of the time
    near = np.flatnonzero((reason == "") & _may_be_inside(lng, lat, bounds))
    grid_x, grid_y = np.full(len(x), np.inf), np.full(len(x), np.inf)
    grid_x[near], grid_y[near] = _transformed(columns.crs, grid.crs, x[near], y[near])
    return Positions(x, y, grid_x, grid_y, lng, lat, reason, evidence)


def check_positions(evidence: Sequence[PositionEvidence], source: PointTable) -> None:
    """Nothing, if the coordinates of a whole source fit their CRS.

    To be asked before rejected rows and rows outside are judged, as it knows better what is wrong.

    Raises
    ------
    SourceError : degrees in a projected CRS, metres or feet in a geographic one, both in one file, or shapes
        that are not points; with an example and what to do.
    """
    for where in dict.fromkeys(e.columns.where for e in evidence):
        _check_file([e for e in evidence if e.columns.where == where], source)


def _check_file(evidence: Sequence[PositionEvidence], source: PointTable) -> None:
    columns = evidence[0].columns
    rows, shapes = sum(e.rows for e in evidence), sum(e.not_points for e in evidence)
    if shapes * 2 > rows:
        shape = next(e.shape for e in evidence if e.shape)
        raise SourceError(f"{columns.where} holds {shape}, not points; give a file of points")
    degrees, large = sum(e.degrees for e in evidence), sum(e.large for e in evidence)
    strange, usual = (large, degrees) if columns.crs.is_geographic else (degrees, large)
    if strange <= _CLEAR_SHARE * (strange + usual) or (strange == 1 and usual):
        return
    examples = {
        "degrees": next((e.degrees_example for e in evidence if e.degrees), ""),
        "metres or feet": next((e.large_example for e in evidence if e.large), ""),
    }
    if usual > _CLEAR_SHARE * (strange + usual):
        raise SourceError(
            f"{columns.where} mixes coordinates: {degrees:,} rows are degrees, such as "
            f"{examples['degrees']}, {large:,} metres or feet, such as {examples['metres or feet']}; write "
            "all in one CRS"
        )
    found, other = (
        ("metres or feet", "degrees") if columns.crs.is_geographic else ("degrees", "metres or feet")
    )
    named = _named(columns.crs)
    fix = "write the file again with the CRS its geometry is in"
    if columns.attributes and found == "degrees":
        fix = f"crs = {source.crs!r} in the region file is wrong: leave it out, or give crs = 'EPSG:4326'"
    elif columns.attributes:
        fix = "name their CRS with `crs` in the region file, as in crs = 'EPSG:26986'"
    raise SourceError(
        f"{columns.where}: x and y are {found}, such as {examples[found]}, but {named} is in {other}; {fix}"
    )


def lnglat_bounds(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east, north of a grid's rectangle in degrees."""
    transformer = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    west, south, east, north = transformer.transform_bounds(*grid.bounds, densify_pts=21)
    return float(west), float(south), float(east), float(north)


def _crs(source: PointTable, where: str) -> CRS:
    try:
        crs = CRS.from_user_input(source.crs)
    except CRSError:
        raise SourceError(
            f"{where}: crs {source.crs!r} is not a CRS that PROJ knows; write it as EPSG:26986"
        ) from None
    if not is_of_the_earth(crs):
        raise SourceError(
            f"{where}: crs {source.crs!r} has no longitude and latitude of the earth, it is of the kind "
            f"{crs.type_name!r}; name that of x and y, as in EPSG:26986"
        )
    return crs


def _named(crs: CRS) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.name)


def _column_pair(table: Table, source: PointTable, projected: bool) -> tuple[str, str]:
    where = str(table.path)
    if (source.x is None) != (source.y is None):
        raise SourceError(f"{where}: x and y go together; name both in the region file or neither")
    if source.x is not None and source.y is not None:
        return (
            given_column(table.columns, source.x, "x", where),
            given_column(table.columns, source.y, "y", where),
        )
    usual = [(LONGITUDE, LATITUDE), (EAST, NORTH)]
    for xs, ys in reversed(usual) if projected else usual:
        x, y = found_column(table.columns, xs), found_column(table.columns, ys)
        if x is not None and y is not None:
            return x, y
    raise SourceError(
        f"{where} has no columns that look like coordinates; name them with `x` and `y` in the region "
        f"file; its columns: {listed(table.columns)}"
    )


def _has_decimal_commas(table: Table, x: str, y: str) -> bool:
    first = next(table.read((x, y)), None)
    if first is None:
        return False
    texts = [written_texts(first[0][name]) for name in (x, y)]
    return any(pc.any(pc.match_substring_regex(t, _DECIMAL_COMMA)).as_py() for t in texts)


def _raw_of_columns(x: pd.Series, y: pd.Series, may_have_commas: bool) -> Raw:
    xs, x_blank = _numbers(x, may_have_commas)
    ys, y_blank = _numbers(y, may_have_commas)
    reason = np.full(len(xs), "", dtype=object)
    reason[~(np.isfinite(xs) & np.isfinite(ys))] = NOT_A_NUMBER
    reason[x_blank | y_blank] = NO_COORDINATES
    return xs, ys, reason


def _numbers(values: pd.Series, may_have_commas: bool) -> tuple[FloatArray, NDArray[np.bool_]]:
    if pd.api.types.is_numeric_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers, np.isnan(numbers)
    texts = written_texts(values)
    blank = np.asarray(texts.is_null())
    if may_have_commas:
        texts = pc.replace_substring_regex(texts, _DECIMAL_COMMA, r"\1.\2")
    try:
        return texts.cast(pa.float64()).to_numpy(zero_copy_only=False), blank
    except pa.ArrowInvalid:  # some are no numbers
        coerced = pd.to_numeric(pd.Series(texts.to_pandas(), dtype=object), errors="coerce")
        return coerced.to_numpy(dtype=np.float64, na_value=np.nan), blank


def _raw_of_points(chunk: Chunk) -> Raw:
    wkb: Any = chunk[1]
    geometry = shapely.from_wkb(wkb, on_invalid="ignore")
    # exporters write single points as multipoints
    single = (shapely.get_type_id(geometry) == 4) & (shapely.get_num_geometries(geometry) == 1)
    geometry[single] = shapely.get_geometry(geometry[single], 0)
    is_point = shapely.get_type_id(geometry) == 0
    empty = pd.isna(wkb) | shapely.is_empty(geometry)
    x, y = np.full(len(geometry), np.nan), np.full(len(geometry), np.nan)
    told = is_point & ~empty
    x[told], y[told] = shapely.get_x(geometry[told]), shapely.get_y(geometry[told])
    reason = np.full(len(x), "", dtype=object)
    reason[told & ~(np.isfinite(x) & np.isfinite(y))] = NOT_A_NUMBER
    reason[~is_point] = NOT_A_POINT
    reason[empty] = NO_GEOMETRY
    return x, y, reason


def _evidence(
    columns: PositionColumns, x: FloatArray, y: FloatArray, reason: NDArray[np.object_], chunk: Chunk
) -> PositionEvidence:
    across, up = np.abs(x), np.abs(y)
    with np.errstate(invalid="ignore"):
        # swapped ones are degrees as well
        degrees = (np.maximum(across, up) <= 180) & (np.minimum(across, up) <= 90) & (reason != ZERO_ZERO)
        large = (across > _LARGE) & (up > _LARGE) & np.isfinite(across) & np.isfinite(up)
    not_points = reason == NOT_A_POINT

    def example(mask: NDArray[np.bool_]) -> str:
        i = int(mask.argmax())
        return f"{x[i]:.12g} {y[i]:.12g}" if mask.any() else ""

    shape = ""
    if not_points.any() and chunk[1] is not None:
        odd: Any = chunk[1][int(not_points.argmax())]
        shape = _SHAPES.get(int(shapely.get_type_id(shapely.from_wkb(odd, on_invalid="ignore"))), "shapes")
    return PositionEvidence(
        columns,
        len(x),
        int(degrees.sum()),
        int(large.sum()),
        int(not_points.sum()),
        example(degrees),
        example(large),
        shape,
    )


def _looks_swapped(
    x: FloatArray, y: FloatArray, bounds: tuple[float, float, float, float]
) -> NDArray[np.bool_]:
    return _within(y, x, bounds, _NEAR_DEG) & ~_within(x, y, bounds, _NEAR_DEG)


def _may_be_inside(
    lng: FloatArray, lat: FloatArray, bounds: tuple[float, float, float, float]
) -> NDArray[np.bool_]:
    """(N,) bool; a margin allows for edges that are not straight in degrees."""
    west, south, east, north = bounds
    if west > east:  # across the antimeridian
        return np.ones(len(lng), dtype=bool)
    return _within(lng, lat, bounds, 1e-3 + 0.1 * max(east - west, north - south))


def _within(
    lng: FloatArray, lat: FloatArray, bounds: tuple[float, float, float, float], margin: float
) -> NDArray[np.bool_]:
    west, south, east, north = bounds
    with np.errstate(invalid="ignore"):
        beside = (lng > west - margin) & (lng < east + margin)
        return np.asarray(beside & (lat > south - margin) & (lat < north + margin))


def _transformed(source: CRS, target: str, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    if source == CRS.from_user_input(target):
        return x, y
    lng, lat = Transformer.from_crs(source, target, always_xy=True).transform(x, y)
    return np.asarray(lng), np.asarray(lat)
