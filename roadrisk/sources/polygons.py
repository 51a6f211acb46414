"""Polygons with facts, such as census tracts: read, checked, repaired and brought into the grid's CRS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import geopandas
import numpy as np
import pandas as pd

from roadrisk.errors import SourceError
from roadrisk.geometry.near import Near, box_around, near_grid
from roadrisk.grid import FloatArray, Grid
from roadrisk.source_settings import AreaSource
from roadrisk.sources.account import Account
from roadrisk.sources.names import given_column, listed
from roadrisk.sources.parts import Part, account_of, met_of
from roadrisk.sources.rows import check_kept, checked_keep, left_out_rows, met_values
from roadrisk.sources.shapes import checked_polygons, geometry_crs
from roadrisk.sources.tables import Chunk, Table, tables_at


@dataclass(frozen=True)
class Polygons:
    """Polygons that reach into a grid, and what became of the rows they came from.

    Parameters
    ----------
    name : of the source.
    table : a row a polygon or multi-polygon, whole, in the grid's CRS: `source_row` (0 is the first row of
        the first file), the columns asked for (float64, NaN where missing), geometry. Of a polygon that
        reaches hundreds of kilometres beyond the grid it is the part near it.
    area : (N,) of the whole polygons, in units of the grid's CRS squared.
    understood : how the files were read, one line a thing, for people.
    """

    name: str
    table: geopandas.GeoDataFrame
    area: FloatArray
    account: Account
    understood: tuple[str, ...]


@dataclass(frozen=True)
class _Part(Part):
    area: FloatArray
    repaired: int


def read_polygons(source: AreaSource, grid: Grid) -> Polygons:
    """The polygons of a source that reach into the grid, each whole, but for parts far away.

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
    for table in tables_at(source, osm_layer="multipolygons"):
        near = near_grid(geometry_crs(table, "polygons"), grid)
        _check_columns(table, source)
        checked_keep(table, source.keep)
        parts += _parts(table, near, source, sum(p.rows for p in parts))
        said.append(f"{table.path.name}: {table.understood}")
    check_kept(source.keep, met_of(parts, source.keep), source.where)
    account = account_of(source.name or "areas", parts)
    _check_inside(account, parts, source.where)
    kept = pd.concat([p.kept for p in parts], ignore_index=True)
    return Polygons(
        name=account.source,
        table=geopandas.GeoDataFrame(kept, geometry="geometry", crs=grid.crs),
        area=np.concatenate([p.area for p in parts]),
        account=account,
        understood=(*said, *_understood(source, parts, kept)),
    )


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


def _parts(table: Table, near: Near, source: AreaSource, first_row: int) -> Iterator[_Part]:
    met: dict[str, set[str]] = {}
    for chunk in table.read([*source.sums, *source.means, *source.keep]):
        met = met_values(chunk[0], source.keep, met)
        yield _part(chunk, near, source, first_row, met)
        first_row += len(chunk[0])


def _part(chunk: Chunk, near: Near, source: AreaSource, first_row: int, met: dict[str, set[str]]) -> _Part:
    frame, wkb = chunk
    checked = checked_polygons(wkb, near)
    left_out = left_out_rows(frame, source.keep)
    asked = left_out == ""
    sound = asked & (checked.reason == "")
    used = np.flatnonzero(sound & checked.inside)
    return _Part(
        rows=len(frame),
        kept=pd.DataFrame(
            {
                "source_row": first_row + used,
                **{c: _numbers(frame[c])[used] for c in (*source.sums, *source.means)},
                "geometry": checked.geometry[used],
            }
        ),
        rejected=Counter(checked.reason[asked & ~sound].tolist()),
        left_out=Counter(left_out[~asked].tolist()),
        outside=int(sound.sum()) - len(used),
        bounds=checked.bounds,
        met=met,
        area=checked.area[used],
        repaired=int(checked.repaired[used].sum()),
    )


def _check_inside(account: Account, parts: Sequence[_Part], where: str) -> None:
    if account.used:
        return
    if not account.outside:
        reasons = f"{account}" if account.read else "it has no rows"
        raise SourceError(f"{where} holds no polygons that can be used: {reasons}")
    there = box_around(np.array([p.bounds for p in parts]))
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
