"""Where a source knows something, read from polygons, lines or points."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from roadrisk.errors import SourceError
from roadrisk.geometry.closing import Raster, closed_share, marked, raster_of
from roadrisk.geometry.near import Near, near_grid
from roadrisk.geometry.polygons import share_inside
from roadrisk.grid import FloatArray, Grid, IntArray
from roadrisk.source_settings import Coverage, PointTable, TableSource, Value
from roadrisk.sources.names import given_column, listed
from roadrisk.sources.positions import PositionColumns, checked_positions, position_columns
from roadrisk.sources.rows import Keep, checked_keep, has_value, left_out_rows
from roadrisk.sources.shapes import LINES, POINTS, POLYGONS, checked_polygons, geometry_crs
from roadrisk.sources.tables import Chunk, Table, as_text, tables_at

# A tile of which less than half is known says more about what is not known: its zero would be a guess.
COVERED = 0.5


@dataclass(frozen=True)
class CoveredShare:
    """What a source covers.

    Parameters
    ----------
    share : (size,) share of each tile that is covered, in (row, col) order.
    understood : how it was found, one line a thing, for people.
    """

    share: FloatArray
    understood: tuple[str, ...]


@dataclass(frozen=True)
class _Shapes:
    """What the rows of a chunk speak for: polygons, or sub-cells of lines and points.

    Parameters
    ----------
    spoken : rows with one of the values.
    placed : of these, rows with a geometry that can be used, in the grid or not.
    """

    spoken: int
    placed: int
    polygons: NDArray[Any]
    marks: IntArray
    has_marks: bool


def read_coverage(coverage: Coverage, source: TableSource, grid: Grid) -> CoveredShare:
    """The share of each tile that a source covers.

    Polygons cover what is inside any of them, exactly. Lines and points cover what lies between them: gaps
    up to twice `reach_m` wide are closed, separately for each value of the column. The source's own rows
    are those that its `keep` asks for.

    Raises
    ------
    SourceError : no such file, column or value; no geometry; polygons among lines and points; or a reach
        longer than the grid.
    """
    rows = source if coverage.path is None else PointTable(coverage.path, layer=coverage.layer)
    _check_reach(coverage, rows.where, grid)
    raster, groups = raster_of(grid, coverage.reach_m), dict[str, int]()
    shapes = [s for table in tables_at(rows) for s in _shapes(table, rows, coverage, raster, groups)]
    _check_values(coverage, groups, rows.where)
    return _covered(shapes, raster, coverage, len(groups), rows.where)


def read_outline(path: str, grid: Grid) -> CoveredShare:
    """The share of each tile inside the polygons of a file, such as a region's outline.

    Raises
    ------
    SourceError : no such file, or something other than polygons in it.
    """
    outline, rows = Coverage(path=path), PointTable(path)
    raster = raster_of(grid, outline.reach_m)
    shapes: list[_Shapes] = []
    for table in tables_at(rows):
        geometry_crs(table, "polygons")
        shapes += _shapes(table, rows, outline, raster, {})
    if any(s.has_marks for s in shapes):
        raise SourceError(f"{path} holds lines or points; give the outline as polygons")
    return _covered(shapes, raster, outline, 0, path)


def _shapes(
    table: Table, source: TableSource, coverage: Coverage, raster: Raster, groups: dict[str, int]
) -> Iterator[_Shapes]:
    """Chunks of a table; `groups` learns the values of the column that were met."""
    keep: Keep = source.keep
    checked_keep(table, keep)
    column = coverage.column
    if column is not None:
        given_column(table.columns, column, "coverage column", str(table.path))
    places = _places(table, source, raster.grid)
    named = places.attributes if isinstance(places, PositionColumns) else ()
    names = [*keep, *([column] if column else []), *named]
    for frame, wkb in table.read(names):
        spoken = left_out_rows(frame, keep) == ""
        group = np.zeros(len(frame), dtype=np.int64)
        if column is not None:
            group = _groups(frame[column], groups)
            spoken &= has_value(frame[column], coverage.values) if coverage.values else True
        rows = np.flatnonzero(spoken)
        chunk = frame.iloc[rows], None if wkb is None else wkb[rows]
        if isinstance(places, PositionColumns):
            yield _points(places, chunk, group[rows], raster)
        else:
            yield _geometry(places, chunk[1], group[rows], raster)


def _places(table: Table, source: TableSource, grid: Grid) -> PositionColumns | Near:
    """The columns of x and y, or the way of a table's geometry to the grid."""
    if isinstance(source, PointTable) and (source.x is not None or not table.has_geometry):
        return position_columns(table, source)
    if not table.has_geometry:
        raise SourceError(
            f"{table.path} has neither geometry nor coordinates; name a file that says what is covered with "
            "`coverage.path` in the region file"
        )
    return near_grid(geometry_crs(table, "polygons"), grid)


def _groups(column: pd.Series, groups: dict[str, int]) -> IntArray:
    """(N,) number of each row's value; null is a value of its own."""
    codes, unique = pd.factorize(as_text(column))
    known = [groups.setdefault(str(v).strip(), len(groups)) for v in unique]
    missing = groups.setdefault("", len(groups)) if (codes < 0).any() else -1
    return np.array([*known, missing], dtype=np.int64)[codes]


def _points(position: PositionColumns, chunk: Chunk, group: IntArray, raster: Raster) -> _Shapes:
    where = checked_positions(position, chunk, raster.grid)
    sound = where.reason == ""
    points = shapely.points(where.x[sound], where.y[sound])
    marks = marked(raster, points, group[sound])
    return _Shapes(len(group), int(sound.sum()), np.array([], dtype=object), marks, bool(sound.any()))


def _geometry(near: Near, wkb: Any, group: IntArray, raster: Raster) -> _Shapes:
    geometry: Any = shapely.force_2d(shapely.from_wkb(wkb, on_invalid="ignore"))
    kind = shapely.get_type_id(geometry)
    checked = checked_polygons(np.asarray(wkb)[np.isin(kind, POLYGONS)], near)
    drawn = np.isin(kind, (*POINTS, *LINES)) & ~shapely.is_empty(geometry)
    lines = near.in_grid(geometry[drawn])
    return _Shapes(
        spoken=len(group),
        placed=int(drawn.sum() + (checked.reason == "").sum()),
        polygons=checked.geometry[checked.inside],
        marks=marked(raster, lines, group[drawn]),
        has_marks=bool(drawn.any()),
    )


def _check_reach(coverage: Coverage, where: str, grid: Grid) -> None:
    # gaps wider than the grid are not gaps in it, and the work grows with the square of the reach
    most = max(math.hypot(*grid.shape) * grid.cell_m, Coverage().reach_m)
    if coverage.reach_m > most:
        raise SourceError(
            f"{where}: coverage reach_m = {coverage.reach_m:g} is longer than the grid from corner to "
            f"corner, {most:,.0f} m; give how far a line or a point speaks for its surroundings"
        )


def _check_values(coverage: Coverage, groups: Mapping[str, int], where: str) -> None:
    met = pd.Series(sorted(groups), dtype=object)
    for value in coverage.values:
        if has_value(met, (value,)).any():
            continue
        raise SourceError(
            f"{where}: no row has {coverage.column} = {value!r} (coverage values); "
            f"{_hint(value, met.tolist())}"
        )


def _hint(value: Value, met: Sequence[str]) -> str:
    folded = {name.lower(): name for name in met}
    near = difflib.get_close_matches(str(value).strip().lower(), folded, n=1)
    return f"did you mean {folded[near[0]]!r}?" if near else f"its values: {listed(met)}"


def _covered(
    shapes: Sequence[_Shapes], raster: Raster, coverage: Coverage, groups: int, where: str
) -> CoveredShare:
    spoken, placed = sum(s.spoken for s in shapes), sum(s.placed for s in shapes)
    if not placed:
        raise SourceError(f"{where}: none of {spoken:,} rows has a place, so nothing is covered; give others")
    polygons = np.concatenate([s.polygons for s in shapes])
    if not any(s.has_marks for s in shapes):
        share, how = share_inside(raster.grid, polygons), "inside their polygons"
    elif len(polygons):
        raise SourceError(f"{where}: its coverage mixes polygons with lines or points; keep one kind")
    else:
        share = closed_share(raster, np.unique(np.concatenate([s.marks for s in shapes])))
        how = f"between them, gaps up to {2 * coverage.reach_m:g} m closed"
        if coverage.column is not None:
            how += f", for each of {len(coverage.values) or groups:,} values of {coverage.column!r} by itself"
    nowhere = f"; {spoken - placed:,} have no place" if spoken > placed else ""
    return CoveredShare(share, (f"coverage from {spoken:,} rows{nowhere}: what lies {how}",))
