"""Polygons with facts, such as census tracts: read, checked, repaired and brought into the grid's CRS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from roadrisk.errors import SourceError
from roadrisk.grid import Bbox, FloatArray, Grid
from roadrisk.source_settings import AreaSource
from roadrisk.sources.account import Account
from roadrisk.sources.names import given_column, listed
from roadrisk.sources.rows import checked_keep, left_out_rows
from roadrisk.sources.tables import Chunk, Table, tables_at

NO_GEOMETRY = "no geometry"
EMPTY = "empty geometry"
NOT_A_POLYGON = "not a polygon"
NOT_A_NUMBER = "not a number"
NO_AREA = "no area"


@dataclass(frozen=True)
class Polygons:
    """Polygons that reach into a grid, and what became of the rows they came from.

    Parameters
    ----------
    name : of the source.
    table : a row a polygon or multi-polygon, whole, in the grid's CRS: `source_row` (0 is the first row of
        the first file), the columns asked for (float64, NaN where missing), geometry.
    understood : how the files were read, one line a thing, for people.
    """

    name: str
    table: geopandas.GeoDataFrame
    account: Account
    understood: tuple[str, ...]


@dataclass(frozen=True)
class CheckedPolygons:
    """The polygons of some rows.

    Parameters
    ----------
    geometry : (N,) valid polygons in the grid's CRS, as far as rows have one near the grid.
    reason : (N,) why a row has no polygon; empty where it has.
    inside : (N,) whether a sound polygon shares area with the grid.
    repaired : (N,) whether it crossed itself.
    bounds : of all sound ones in their own CRS.
    """

    geometry: NDArray[Any]
    reason: NDArray[np.object_]
    inside: NDArray[np.bool_]
    repaired: NDArray[np.bool_]
    bounds: Bbox


@dataclass(frozen=True)
class _Part:
    rows: int
    table: pd.DataFrame
    rejected: Counter[str]
    left_out: Counter[str]
    repaired: int
    bounds: Bbox


def read_polygons(source: AreaSource, grid: Grid) -> Polygons:
    """The polygons of a source that reach into the grid, each whole.

    Polygons that cross themselves become what their outer rings enclose, once, less the holes. Their
    vertices are brought into the grid's CRS and edges drawn straight there, as GIS do: an edge of 10 km
    strays by some 2 m from one straight in degrees, and neighbours stay neighbours.

    Raises
    ------
    SourceError : no such file, no polygons, no CRS, a column that is not there, no column asked for, or
        no polygon in the grid.
    """
    parts: list[_Part] = []
    said: list[str] = []
    for table in tables_at(source):
        crs = polygon_crs(table)
        _check_columns(table, source)
        checked_keep(table, source.keep)
        parts += _parts(table, crs, source, grid, sum(p.rows for p in parts))
        said.append(f"{table.path.name}: {table.understood}")
    account = _account(source, parts)
    _check_inside(account, parts, source.where)
    kept = pd.concat([p.table for p in parts], ignore_index=True)
    return Polygons(
        name=account.source,
        table=geopandas.GeoDataFrame(kept, geometry="geometry", crs=grid.crs),
        account=account,
        understood=(*said, *_understood(source, parts, kept)),
    )


def polygon_crs(table: Table) -> CRS:
    """The CRS of a table's geometry.

    Raises
    ------
    SourceError : there is no geometry, or no CRS.
    """
    if not table.has_geometry:
        raise SourceError(
            f"{table.path} is a table without polygons; give a file of polygons, such as a .gpkg"
        )
    if table.crs is None:
        raise SourceError(f"{table.path} has no CRS; write it again with one, as in EPSG:4326")
    return table.crs


def checked_polygons(wkb: Any, crs: CRS, grid: Grid) -> CheckedPolygons:
    """Polygons of WKB, each usable or with the reason why not.

    Parameters
    ----------
    wkb : (N,) bytes or null, coordinates in `crs`.
    """
    given = pd.notna(wkb)
    geometry: Any = shapely.force_2d(shapely.from_wkb(wkb, on_invalid="ignore"))
    reason = np.full(len(geometry), "", dtype=object)
    reason[~given] = NO_GEOMETRY
    is_polygon, empty = np.isin(shapely.get_type_id(geometry), (3, 6)), shapely.is_empty(geometry)
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
    near = np.flatnonzero(sound & _overlaps(bounds, _box(grid, crs)))
    to_grid = Transformer.from_crs(crs, grid.crs, always_xy=True)
    geometry[near] = shapely.transform(geometry[near], to_grid.transform, interleaved=False)
    # a vertex beyond the reach of the grid's CRS has no place in it
    reason[near[~_finite(geometry[near])]] = NOT_A_NUMBER
    near = near[reason[near] == ""]
    geometry[near] = _mended(geometry[near])
    inside = np.zeros(len(geometry), dtype=bool)
    window = shapely.box(*grid.bounds)
    shapely.prepare(window)
    inside[near] = shapely.intersects(window, geometry[near]) & ~shapely.touches(window, geometry[near])
    return CheckedPolygons(geometry, reason, inside, repaired & sound, joined_bounds(bounds[sound]))


def joined_bounds(bounds: FloatArray) -> Bbox:
    """The box around (N, 4) boxes; of none the one that is around nothing."""
    if not len(bounds):
        return Bbox(np.inf, np.inf, -np.inf, -np.inf)
    return Bbox(*bounds[:, :2].min(axis=0).tolist(), *bounds[:, 2:].max(axis=0).tolist())


def _finite(geometry: Any) -> NDArray[np.bool_]:
    finite = np.isfinite(shapely.get_coordinates(geometry)).all(axis=1)
    of = shapely.get_coordinates(geometry, return_index=True)[1]
    return np.asarray(np.bincount(of[~finite], minlength=len(geometry)) == 0)


def _mended(geometry: Any) -> Any:
    """Polygons valid again where rounding in another CRS made a hair cross."""
    broken = ~shapely.is_valid(geometry)
    geometry[broken] = shapely.make_valid(geometry[broken], method="structure", keep_collapsed=False)
    return geometry


def _box(grid: Grid, crs: CRS) -> Bbox:
    """The grid and a tile around it in another CRS, where its edges are not straight."""
    left, bottom, right, top = grid.bounds
    wide = left - grid.cell, bottom - grid.cell, right + grid.cell, top + grid.cell
    return Bbox(*Transformer.from_crs(grid.crs, crs, always_xy=True).transform_bounds(*wide, densify_pts=51))


def _overlaps(bounds: FloatArray, box: Bbox) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        beside = (bounds[:, 0] <= box.right), (bounds[:, 2] >= box.left)
        # a box across the antimeridian ends left of where it starts
        across = beside[0] | beside[1] if box.left > box.right else beside[0] & beside[1]
        return np.asarray(across & (bounds[:, 1] <= box.top) & (bounds[:, 3] >= box.bottom))


def _check_columns(table: Table, source: AreaSource) -> None:
    where = str(table.path)
    for key, names in (("sums", source.sums), ("means", source.means)):
        for name in names:
            given_column(table.columns, name, key, where)
    twice = [name for name in source.sums if name in source.means]
    if twice:
        raise SourceError(f"{where}: {twice[0]!r} is both in sums and in means; leave it in one")
    if not source.sums and not source.means:
        raise SourceError(
            f"{where}: say which columns are totals (`sums`, such as people) and which are levels (`means`, "
            f"such as income) in the region file; its columns of numbers: {listed(_numeric(table)) or 'none'}"
        )


def _numeric(table: Table) -> list[str]:
    """Columns that begin with numbers."""
    frame = next(iter(table.read(table.columns)), (pd.DataFrame(columns=table.columns), None))[0]
    return [c for c in table.columns if np.isfinite(_numbers(frame[c])).any()]


def _numbers(values: pd.Series) -> FloatArray:
    """(N,) the numbers of a column; NaN where there is none or an infinite one."""
    if not pd.api.types.is_numeric_dtype(values.dtype):
        values = pd.to_numeric(values.astype("string").str.strip(), errors="coerce")
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _parts(table: Table, crs: CRS, source: AreaSource, grid: Grid, first_row: int) -> Iterator[_Part]:
    for chunk in table.read([*source.sums, *source.means, *source.keep]):
        yield _part(chunk, crs, source, grid, first_row)
        first_row += len(chunk[0])


def _part(chunk: Chunk, crs: CRS, source: AreaSource, grid: Grid, first_row: int) -> _Part:
    frame, wkb = chunk
    checked = checked_polygons(wkb, crs, grid)
    left_out = left_out_rows(frame, source.keep)
    asked = left_out == ""
    sound = asked & (checked.reason == "")
    used = np.flatnonzero(sound & checked.inside)
    return _Part(
        rows=len(frame),
        table=pd.DataFrame(
            {
                "source_row": first_row + used,
                **{c: _numbers(frame[c])[used] for c in (*source.sums, *source.means)},
                "geometry": checked.geometry[used],
            }
        ),
        rejected=Counter(checked.reason[asked & ~sound].tolist()),
        left_out=Counter(left_out[~asked].tolist()),
        repaired=int(checked.repaired[used].sum()),
        bounds=checked.bounds,
    )


def _account(source: AreaSource, parts: Sequence[_Part]) -> Account:
    rejected: Counter[str] = sum((p.rejected for p in parts), Counter())
    left_out: Counter[str] = sum((p.left_out for p in parts), Counter())
    read, used = sum(p.rows for p in parts), sum(len(p.table) for p in parts)
    return Account(
        source=source.name or "areas",
        read=read,
        used=used,
        rejected=dict(rejected),
        outside=read - used - rejected.total() - left_out.total(),
        left_out=dict(left_out),
    )


def _check_inside(account: Account, parts: Sequence[_Part], where: str) -> None:
    if account.used:
        return
    if not account.outside:
        reasons = f"{account}" if account.read else "it has no rows"
        raise SourceError(f"{where} holds no polygons that can be used: {reasons}")
    there = joined_bounds(np.array([p.bounds for p in parts if np.isfinite(p.bounds.left)]))
    raise SourceError(
        f"{where}: none of its polygons is in the grid: they are in {' '.join(f'{v:.6g}' for v in there)} "
        "(left bottom right top in their CRS); check --bbox"
    )


def _understood(source: AreaSource, parts: Sequence[_Part], table: pd.DataFrame) -> Iterator[str]:
    repaired = sum(p.repaired for p in parts)
    if repaired:
        yield f"{repaired:,} polygons cross themselves; repaired to what their outer rings enclose"
    for name in (*source.sums, *source.means):
        values = table[name]
        if values.isna().all():
            raise SourceError(f"{source.where}: {name!r} holds no number in the grid; name another column")
        if values.isna().any():
            yield f"{name!r}: {int(values.isna().sum()):,} of {len(values):,} polygons have no number"
        if (values < 0).any():
            yield f"{name!r}: {int((values < 0).sum()):,} polygons are below 0, the least {values.min():.9g}"
