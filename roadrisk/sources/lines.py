"""Road centre-lines: each street once, with its class and its length on the ground."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from roadrisk.errors import SourceError
from roadrisk.grid import Bbox, FloatArray, Grid
from roadrisk.source_settings import LineSource
from roadrisk.sources.account import Account
from roadrisk.sources.classes import MAX_CLASSES, is_osm, road_classes
from roadrisk.sources.ground import ground_lengths
from roadrisk.sources.names import ROAD_CLASS, found_column, given_column, listed
from roadrisk.sources.tables import Chunk, Table, as_text, table_at

NO_GEOMETRY = "no geometry"
NOT_A_LINE = "not a line"
ZERO_LENGTH = "zero length"
NOT_A_NUMBER = "not a number"
LISTED_AGAIN = "listed again (other direction or a copy)"

_PLAUSIBLE = (0.5, 2.0)  # declared metres over geometric ones, all lines together
_IDS = (("u",), ("v",), ("osmid", "osm_id", "way_id", "osm_way_id"))


@dataclass(frozen=True)
class Lines:
    """Centre-lines that touch a grid, and what became of the rows they came from.

    Parameters
    ----------
    name : of the source.
    table : a row a line, in the grid's CRS: `source_row` (0 is the first row; the parts of a multi-line
        share it), `road_class` (text or null), `length_m` (ground metres of the whole line, inside the
        grid and out), geometry.
    understood : how the file was read, one line a thing, for people.
    """

    name: str
    table: geopandas.GeoDataFrame
    account: Account
    understood: tuple[str, ...]


@dataclass(frozen=True)
class _LineColumns:
    road_class: str | None
    length: str | None
    length_given: bool
    ids: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return [*self.ids, *(c for c in (self.road_class, self.length) if c)]


@dataclass(frozen=True)
class _Near:
    """A grid, and the box around it in the CRS of the lines."""

    grid: Grid
    crs: CRS
    to_grid: Transformer
    box: Bbox


@dataclass(frozen=True)
class _Part:
    rows: int
    kept: pd.DataFrame
    rejected: dict[str, int]
    outside: int
    bounds: Bbox


def read_lines(source: LineSource, grid: Grid) -> Lines:
    """The centre-lines of a source that touch the grid, each street once.

    A street listed in both directions is one street: unordered (u, v, osm id), or, without these
    columns, the same geometry in either direction. Of its rows the longest stands, so that the order
    of rows decides nothing.

    Raises
    ------
    SourceError : no such file, no lines, no CRS, a column that is not there, or a declared length that
        contradicts the geometry.
    """
    table = table_at(source.path, source.layer)
    crs = _checked_crs(table, source)
    columns = _line_columns(table, source)
    near = _near(grid, crs)
    parts = list(_parts(table, columns, near))
    rejected: Counter[str] = Counter()
    for part in parts:
        rejected.update(part.rejected)
    _check_overlap(parts, rejected, near, source)
    lines, length_said = _with_lengths(pd.concat([p.kept for p in parts], ignore_index=True), columns, source)
    lines, class_said, not_roads = _with_classes(lines, columns, source)
    once = _each_once(lines, columns)
    rejected.update(not_roads)
    rejected[LISTED_AGAIN] = lines["source_row"].nunique() - once["source_row"].nunique()
    frame = once[["source_row", "road_class", "length_m"]].reset_index(drop=True)
    account = Account(
        source=source.name or "roads",
        read=sum(p.rows for p in parts),
        used=once["source_row"].nunique(),
        rejected=dict(rejected),
        outside=sum(p.outside for p in parts),
    )
    if not account.used:
        raise SourceError(
            f"{source.path}: no line can be used: {account.reasons}; give centre-lines of roads"
        )
    return Lines(
        name=account.source,
        table=geopandas.GeoDataFrame(frame, geometry=once["geometry"].to_numpy(), crs=grid.crs),
        account=account,
        understood=(
            f"{table.path.name}: {table.understood}",
            class_said,
            length_said,
            _identity_said(columns),
        ),
    )


def joined_lines(sources: Sequence[Lines]) -> tuple[Lines, tuple[Lines, ...]]:
    """The centre-lines of several sources as one network, and the sources with their accounts mended.

    A line drawn as one of an earlier source is drawn, to a decimetre and in either direction, is the same
    street and counts once: extracts of neighbouring counties share the streets on their border.
    """
    mended, seen = [], pd.Index([], dtype=object)
    for lines in sources:
        # pointwise: otherwise all lines below a decimetre would become one empty line
        rounded = shapely.set_precision(lines.table.geometry.to_numpy(), 0.1, mode="pointwise")
        drawn = pd.Index(_drawn(rounded))
        new = ~drawn.isin(seen)
        table = lines.table[new]
        used = int(table["source_row"].nunique())
        again = lines.account.used - used
        rejected = {**lines.account.rejected}
        rejected[LISTED_AGAIN] = rejected.get(LISTED_AGAIN, 0) + again
        account = replace(lines.account, used=used, rejected=rejected)
        mended.append(replace(lines, table=table, account=account))
        seen = seen.union(drawn[new], sort=False)
    joined = pd.concat([lines.table for lines in mended], ignore_index=True)
    return replace(mended[0], name="roads", table=joined), tuple(mended)


def _checked_crs(table: Table, source: LineSource) -> CRS:
    if not table.has_geometry:
        raise SourceError(
            f"{source.path} is a table without lines; give a file of centre-lines, such as a .gpkg"
        )
    if table.crs is None:
        raise SourceError(f"{source.path} has no CRS; write it again with one, as in EPSG:4326")
    return table.crs


def _check_overlap(
    parts: Sequence[_Part], rejected: Mapping[str, int], near: _Near, source: LineSource
) -> None:
    if any(len(p.kept) for p in parts):
        return
    if not any(p.outside for p in parts):
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in rejected.items() if n) or "it has no rows"
        raise SourceError(f"{source.path} holds no lines: {reasons}; give a file of centre-lines")
    there = _bounds(np.array([p.bounds for p in parts]))
    raise SourceError(
        f"{source.path}: none of its lines is in the grid: they are in {_said(there)}, the grid in "
        f"{_said(near.box)} (left bottom right top in the CRS of the lines); check --bbox"
    )


def _said(box: Bbox) -> str:
    return " ".join(f"{v:.6g}" for v in box)


def _line_columns(table: Table, source: LineSource) -> _LineColumns:
    names = table.columns
    road_class = found_column(names, ROAD_CLASS)
    if source.class_column is not None:
        road_class = given_column(names, source.class_column, "class_column", source.path)
    length = next((c for c in names if c.lower() in ("length", "length_m")), None)
    if source.length_column is not None:
        length = given_column(names, source.length_column, "length_column", source.path)
    lower = {c.lower(): c for c in reversed(names)}
    ids = [next((lower[n] for n in usual if n in lower), None) for usual in _IDS]
    found = tuple(c for c in ids if c is not None)
    return _LineColumns(
        road_class, length, source.length_column is not None, found if len(found) == len(_IDS) else ()
    )


def _parts(table: Table, columns: _LineColumns, near: _Near) -> Iterator[_Part]:
    first_row = 0
    for chunk in table.read(columns.names):
        yield _part(chunk, columns, near, first_row)
        first_row += len(chunk[0])


def _near(grid: Grid, crs: CRS) -> _Near:
    to_grid = Transformer.from_crs(crs, grid.crs, always_xy=True)
    # a little wider than the grid: its edges are not straight in another CRS
    left, bottom, right, top = grid.bounds
    wide = Bbox(left - grid.cell, bottom - grid.cell, right + grid.cell, top + grid.cell)
    return _Near(
        grid, crs, to_grid, Bbox(*to_grid.transform_bounds(*wide, densify_pts=51, direction="INVERSE"))
    )


def _part(chunk: Chunk, columns: _LineColumns, near: _Near, first_row: int) -> _Part:
    frame, wkb = chunk
    given = pd.notna(wkb)
    geometry: Any = shapely.force_2d(shapely.from_wkb(wkb, on_invalid="ignore"))
    is_line = np.isin(shapely.get_type_id(geometry), (1, 5))
    empty = is_line & shapely.is_empty(geometry)
    # planar length in any CRS is zero just where the ground length is
    planar = shapely.length(geometry)
    zero, finite = is_line & ~empty & (planar == 0), np.isfinite(planar)
    sound = is_line & ~empty & ~zero & finite
    bounds = shapely.bounds(geometry)
    index = np.flatnonzero(sound & _overlap(bounds, near.box))
    in_grid = shapely.transform(geometry[index], near.to_grid.transform, interleaved=False)
    touching = shapely.intersects(shapely.box(*near.grid.bounds), in_grid)
    # a vertex beyond the reach of the grid's CRS has no place in it
    reached = np.isfinite(shapely.length(in_grid))
    kept_index = index[touching & reached]
    kept = frame.iloc[kept_index].assign(source_row=first_row + kept_index).reset_index(drop=True)
    kept["geometry"] = in_grid[touching & reached]
    kept["ground_m"] = _ground_m(geometry[kept_index], near.crs)
    rejected = {
        NO_GEOMETRY: int((~given | empty).sum()),
        NOT_A_LINE: int((given & ~is_line).sum()),
        ZERO_LENGTH: int(zero.sum()),
        NOT_A_NUMBER: int((is_line & ~empty & ~finite).sum() + (~reached).sum()),
    }
    outside = sound.copy()
    outside[index[touching | ~reached]] = False
    return _Part(len(frame), kept, rejected, int(outside.sum()), _bounds(bounds[sound]))


def _overlap(bounds: FloatArray, box: Bbox) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        from_left, from_right = bounds[:, 0] <= box.right, bounds[:, 2] >= box.left
        # a box across the antimeridian ends left of where it starts
        across = from_left | from_right if box.left > box.right else from_left & from_right
        return np.asarray(across & (bounds[:, 1] <= box.top) & (bounds[:, 3] >= box.bottom))


def _bounds(bounds: FloatArray) -> Bbox:
    if not len(bounds):
        return Bbox(math.inf, math.inf, -math.inf, -math.inf)
    return Bbox(*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0))


def _ground_m(geometry: NDArray[np.object_], crs: CRS) -> FloatArray:
    """(N,) ground metres of lines or multi-lines."""
    lines, line = shapely.get_parts(geometry, return_index=True)
    coordinates, owner = shapely.get_coordinates(lines, return_index=True)
    offsets = np.searchsorted(owner, np.arange(len(lines) + 1))
    return np.bincount(line, ground_lengths(crs, coordinates, offsets), minlength=len(geometry)).astype(
        np.float64
    )


def _with_lengths(lines: pd.DataFrame, columns: _LineColumns, source: LineSource) -> tuple[pd.DataFrame, str]:
    """Lines with `length_m`: declared where that is sound, else of the geometry; and which, in words."""
    ground = lines["ground_m"]
    if columns.length is None:
        return lines.assign(length_m=ground), "length from the geometry"
    declared = pd.to_numeric(lines[columns.length], errors="coerce").astype("float64")
    known = np.isfinite(declared) & (declared > 0)
    if not known.any():
        return lines.assign(length_m=ground), f"length from the geometry: {columns.length!r} holds none"
    ratio = declared[known].sum() / ground[known].sum()
    said = f"{columns.length!r} is {ratio:.3g} times as long as the geometry"
    if not _PLAUSIBLE[0] <= ratio <= _PLAUSIBLE[1]:
        if columns.length_given:
            raise SourceError(
                f"{source.path}: {said}, so not the metres of the lines; leave length_column out"
            )
        return lines.assign(length_m=ground), f"length from the geometry: {said}, so not taken for metres"
    missing = f"; {int((~known).sum()):,} lines without one from the geometry" if not known.all() else ""
    return lines.assign(length_m=declared.where(known, ground)), f"length from {said}{missing}"


def _with_classes(
    lines: pd.DataFrame, columns: _LineColumns, source: LineSource
) -> tuple[pd.DataFrame, str, dict[str, int]]:
    """Lines with `road_class`, without those not for cars; what was understood; rows left out by reason."""
    if columns.road_class is None:
        lines = lines.assign(road_class=pd.array([None] * len(lines), dtype="string"))
        return lines, "no column of road class", {}
    values = pd.Series(as_text(lines[columns.road_class]), index=lines.index, dtype="string")
    if not is_osm(values):
        if values.nunique() > MAX_CLASSES:
            raise SourceError(
                f"{source.path}: {columns.road_class!r} has {values.nunique():,} values, too many for road "
                "classes; name the right column with class_column in the region file"
            )
        return lines.assign(road_class=values), f"class from {columns.road_class!r}, all kept", {}
    classes = road_classes(values)
    road = classes.notna()
    left_out = Counter(values[~road].fillna("none"))
    names = sorted(left_out, key=lambda name: (-left_out[name], name))
    printable = ["".join(c for c in name[:40] if c.isprintable()) for name in names[:4]]
    shown = ", ".join([*printable, *(["..."] if len(names) > 4 else [])])
    said = f"class from {columns.road_class!r}, as OpenStreetMap has it"
    several = int(values[road].str.startswith("[").sum())
    if several:
        said += f"; {several:,} lines with several take the highest"
    reasons = {f"not a road for cars ({shown})": int((~road).sum())} if not road.all() else {}
    return lines.assign(road_class=classes)[road], said, reasons


def _each_once(lines: pd.DataFrame, columns: _LineColumns) -> pd.DataFrame:
    """The longest row of each street, multi-lines exploded into their parts."""
    drawn = _drawn(lines["geometry"].to_numpy())
    ranked = lines.assign(street=_streets(lines, columns, drawn), drawn=drawn).sort_values(
        ["length_m", "road_class", "drawn"], ascending=[False, True, True]
    )
    return _exploded(lines.loc[ranked.drop_duplicates("street").index].sort_index())


def _drawn(geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """(N,) the same bytes for lines that differ in their direction alone."""
    return np.asarray(shapely.to_wkb(shapely.normalize(geometry), byte_order=0), dtype=object)


def _streets(lines: pd.DataFrame, columns: _LineColumns, drawn: NDArray[np.object_]) -> NDArray[np.object_]:
    """(N,) the same value for rows of the same street."""
    if not columns.ids:
        return drawn
    u, v, way = (as_text(lines[c]) for c in columns.ids)
    return np.array(
        [
            d if None in key else (min(key[:2]), max(key[:2]), key[2])
            for d, key in zip(drawn, zip(u, v, way, strict=True), strict=True)
        ]
        + [None],  # keeps numpy from making the tuples an axis
        dtype=object,
    )[:-1]


def _exploded(lines: pd.DataFrame) -> pd.DataFrame:
    parts, line = shapely.get_parts(lines["geometry"].to_numpy(), return_index=True)
    if len(parts) == len(lines):
        return lines.assign(geometry=parts)
    exploded = lines.iloc[line].assign(geometry=parts)
    planar = shapely.length(parts)
    # a multi-line is short beside the change of scale across its CRS, so planar shares are ground shares
    share = planar / np.bincount(line, planar)[line]
    exploded["length_m"] *= share
    longer_than_zero: pd.DataFrame = exploded.loc[share > 0]
    return longer_than_zero


def _identity_said(columns: _LineColumns) -> str:
    if columns.ids:
        return f"a street is one unordered {listed(columns.ids)}"
    return "a street is one geometry, in either direction"
