"""The lines of files that touch a grid, and why the others do not come along."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from roadrisk.errors import SourceError
from roadrisk.grid import Bbox, FloatArray, Grid
from roadrisk.source_settings import LineSource
from roadrisk.sources.attributes import LANES, ONEWAY, SPEED
from roadrisk.sources.ground import ground_lengths
from roadrisk.sources.names import ROAD_CLASS, found_column, given_column
from roadrisk.sources.rows import checked_keep, left_out_rows
from roadrisk.sources.tables import Chunk, Table, tables_at

NO_GEOMETRY = "no geometry"
NOT_A_LINE = "not a line"
ZERO_LENGTH = "zero length"
NOT_A_NUMBER = "not a number"

IDS = {"u": ("u",), "v": ("v",), "way": ("osmid", "osm_id", "way_id", "osm_way_id")}
_USUAL = {"road_class": ROAD_CLASS, "lanes": LANES, "speed": SPEED, "oneway": ONEWAY}


@dataclass(frozen=True)
class LineFile:
    """A file of lines beside a grid.

    Parameters
    ----------
    columns : what we call a column -> what the file calls it.
    box : around the grid, in the file's CRS.
    """

    table: Table
    source: LineSource
    columns: Mapping[str, str]
    grid: Grid
    crs: CRS
    to_grid: Transformer
    box: Bbox


@dataclass(frozen=True)
class Part:
    """What a chunk of a file came to.

    Parameters
    ----------
    rows : that the chunk holds.
    kept : lines that touch the grid: `source_row`, what the file's columns hold under our names,
        `ground_m`, and `geometry` in the grid's CRS.
    rejected, left_out : rows by reason.
    outside : sound lines that do not touch the grid.
    bounds : of all sound lines, in the CRS of the file.
    """

    rows: int
    kept: pd.DataFrame
    rejected: dict[str, int]
    left_out: dict[str, int]
    outside: int
    bounds: Bbox


def line_files(source: LineSource, grid: Grid) -> tuple[LineFile, ...]:
    """The files of a source of lines.

    Raises
    ------
    SourceError : no such file, no lines, no CRS, or a column that is not there.
    """
    return tuple(_line_file(table, source, grid) for table in tables_at(source, osm_layer="lines"))


def _line_file(table: Table, source: LineSource, grid: Grid) -> LineFile:
    checked_keep(table, source.keep)
    crs = _checked_crs(table)
    to_grid = Transformer.from_crs(crs, grid.crs, always_xy=True)
    # a little wider than the grid: its edges are not straight in another CRS
    left, bottom, right, top = grid.bounds
    wide = Bbox(left - grid.cell, bottom - grid.cell, right + grid.cell, top + grid.cell)
    box = Bbox(*to_grid.transform_bounds(*wide, densify_pts=51, direction="INVERSE"))
    return LineFile(table, source, _line_columns(table, source), grid, crs, to_grid, box)


def _checked_crs(table: Table) -> CRS:
    if not table.has_geometry:
        raise SourceError(
            f"{table.path} is a table without lines; give a file of centre-lines, such as a .gpkg"
        )
    if table.crs is None:
        raise SourceError(f"{table.path} has no CRS; write it again with one, as in EPSG:4326")
    return table.crs


def _line_columns(table: Table, source: LineSource) -> dict[str, str]:
    """What we call a column -> what the file calls it."""
    names = table.columns
    found = {what: found_column(names, usual) for what, usual in _USUAL.items()}
    found["length"] = next((c for c in names if c.lower() in ("length", "length_m")), None)
    given = {what: getattr(source, _key(what)) for what in found}
    where = str(table.path)
    for what, name in given.items():
        if name is not None:
            found[what] = given_column(names, name, _key(what), where)
    lower = {c.lower(): c for c in reversed(names)}
    ids = {what: next((lower[n] for n in usual if n in lower), None) for what, usual in IDS.items()}
    return {what: c for what, c in {**found, **(ids if all(ids.values()) else {})}.items() if c is not None}


def _key(what: str) -> str:
    return "class_column" if what == "road_class" else f"{what}_column"


def parts_near(files: Sequence[LineFile]) -> Iterator[Part]:
    """The files a chunk at a time; rows are counted through all of them."""
    first_row = 0
    for file in files:
        for chunk in file.table.read([*file.columns.values(), *file.source.keep]):
            yield _part(chunk, file, first_row)
            first_row += len(chunk[0])


def _part(chunk: Chunk, file: LineFile, first_row: int) -> Part:
    attributes, every = chunk[0].reset_index(drop=True), np.asarray(chunk[1])
    reasons = left_out_rows(attributes, file.source.keep)
    asked = np.flatnonzero(reasons == "")
    named = pd.DataFrame({what: attributes[c] for what, c in file.columns.items()}, attributes.index)
    frame, wkb = named.iloc[asked], every[asked]
    with np.errstate(invalid="ignore"):
        geometry: Any = shapely.force_2d(shapely.from_wkb(wkb, on_invalid="ignore"))
    given, is_line = pd.notna(wkb), np.isin(shapely.get_type_id(geometry), (1, 5))
    empty = is_line & shapely.is_empty(geometry)
    # planar length in any CRS is zero just where the ground length is
    planar = shapely.length(geometry)
    finite = np.isfinite(planar)
    zero = is_line & ~empty & (planar == 0) & ~_declared(frame, file.source)
    sound = is_line & ~empty & ~zero & finite
    bounds = shapely.bounds(geometry)
    index = np.flatnonzero(sound & _overlap(bounds, file.box))
    in_grid = shapely.transform(geometry[index], file.to_grid.transform, interleaved=False)
    touching = _touching(in_grid, file.grid)
    # a vertex beyond the reach of the grid's CRS has no place in it
    reached = np.isfinite(shapely.length(in_grid))
    kept_index = index[touching & reached]
    kept = frame.iloc[kept_index].assign(source_row=first_row + asked[kept_index]).reset_index(drop=True)
    kept["geometry"] = in_grid[touching & reached]
    kept["ground_m"] = _ground_m(geometry[kept_index], file.crs)
    rejected = {
        NO_GEOMETRY: int((~given | empty).sum()),
        NOT_A_LINE: int((given & ~is_line).sum()),
        ZERO_LENGTH: int(zero.sum()),
        NOT_A_NUMBER: int((is_line & ~empty & ~finite).sum() + (~reached).sum()),
    }
    outside = sound.copy()
    outside[index[touching | ~reached]] = False
    left_out = dict(Counter(reasons[reasons != ""].tolist()))
    return Part(len(reasons), kept, rejected, left_out, int(outside.sum()), _bounds(bounds[sound]))


def _declared(frame: pd.DataFrame, source: LineSource) -> NDArray[np.bool_]:
    """(N,) whether the user's own column of lengths has one: then a loop drawn as a point is a street."""
    if source.length_column is None:
        return np.zeros(len(frame), dtype=bool)
    return np.asarray(sound_metres(frame["length"]).notna())


def _touching(lines: NDArray[np.object_], grid: Grid) -> NDArray[np.bool_]:
    touching = shapely.intersects(shapely.box(*grid.bounds), lines)
    points = np.flatnonzero(shapely.length(lines) == 0)
    if len(points):
        # what has no extent is not a valid line
        x, y = shapely.bounds(lines[points])[:, :2].T
        touching[points] = grid.locate(x, y)[0] >= 0
    return np.asarray(touching)


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


def check_overlap(parts: Sequence[Part], lost: Mapping[str, int], file: LineFile) -> None:
    """Nothing, if some line touches the grid.

    Parameters
    ----------
    lost : rows by the reason they are rejected or left out.

    Raises
    ------
    SourceError : none does; says where they are.
    """
    if any(len(p.kept) for p in parts):
        return
    where = file.source.where
    if not any(p.outside for p in parts):
        raise SourceError(
            f"{where} holds no lines: {counted(lost) or 'it has no rows'}; give a file of centre-lines"
        )
    there = _bounds(np.array([p.bounds for p in parts]))
    advice = _crs_advice(there, file) or "check --bbox"
    raise SourceError(
        f"{where}: none of its lines is in the grid: they are in {_said(there)}, the grid in "
        f"{_said(file.box)} (left bottom right top in the CRS of the lines); {advice}"
    )


def _crs_advice(there: Bbox, file: LineFile) -> str | None:
    """What to do where numbers and CRS contradict each other; none where they do not."""
    west, south, east, north = there
    degrees = west >= -360 and east <= 360 and south >= -90 and north <= 90
    name = ":".join(file.crs.to_authority() or (file.crs.name,))
    if degrees and not file.crs.is_geographic:
        return f"the file says {name}, but these are degrees: write it again as EPSG:4326"
    if file.crs.is_geographic and not degrees:
        return f"the file says {name}, but these are no degrees: write it again with the CRS they are in"
    return None


def _said(box: Bbox) -> str:
    return " ".join(f"{v:.6g}" for v in box)


def sound_metres(values: pd.Series) -> pd.Series:
    """(N,) declared lengths; NaN where none is, or none that a line could have."""
    metres = pd.to_numeric(values, errors="coerce").astype("float64")
    return metres.where(np.isfinite(metres) & (metres > 0))


def counted(reasons: Mapping[str, int]) -> str:
    """`reason n` of each, for a message."""
    return ", ".join(f"{reason} {n:,}" for reason, n in reasons.items() if n)
