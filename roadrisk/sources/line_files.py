"""The lines of files that touch a grid, and why the others do not come along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from roadrisk.errors import SourceError
from roadrisk.geometry.lines import ground_lengths, vertices
from roadrisk.geometry.near import Near, box_around, near_grid
from roadrisk.grid import Bbox, FloatArray, Grid
from roadrisk.source_settings import LineSource
from roadrisk.sources.account import Account
from roadrisk.sources.attributes import LANES, ONEWAY, SPEED
from roadrisk.sources.names import ROAD_CLASS, found_column, given_column
from roadrisk.sources.parts import Part, lost_reasons
from roadrisk.sources.rows import checked_keep, left_out_rows, met_values
from roadrisk.sources.shapes import checked_lines, geometry_crs
from roadrisk.sources.tables import Chunk, Table, tables_at

IDS = {"u": ("u",), "v": ("v",), "way": ("osmid", "osm_id", "way_id", "osm_way_id")}
_USUAL = {"road_class": ROAD_CLASS, "lanes": LANES, "speed": SPEED, "oneway": ONEWAY}


@dataclass(frozen=True)
class LineFile:
    """A file of lines beside a grid.

    Parameters
    ----------
    columns : what we call a column -> what the file calls it.
    """

    table: Table
    source: LineSource
    columns: Mapping[str, str]
    near: Near


def line_files(source: LineSource, grid: Grid) -> tuple[LineFile, ...]:
    """The files of a source of lines.

    Raises
    ------
    SourceError : no such file, no lines, no CRS, or a column that is not there.
    """
    return tuple(_line_file(table, source, grid) for table in tables_at(source, osm_layer="lines"))


def _line_file(table: Table, source: LineSource, grid: Grid) -> LineFile:
    checked_keep(table, source.keep)
    near = near_grid(geometry_crs(table, "lines"), grid)
    return LineFile(table, source, _line_columns(table, source), near)


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
        met: dict[str, set[str]] = {}
        for chunk in file.table.read([*file.columns.values(), *file.source.keep]):
            met = met_values(chunk[0], file.source.keep, met)
            yield _part(chunk, file, first_row, met)
            first_row += len(chunk[0])


def _part(chunk: Chunk, file: LineFile, first_row: int, met: dict[str, set[str]]) -> Part:
    attributes, every = chunk[0].reset_index(drop=True), np.asarray(chunk[1])
    left_out = left_out_rows(attributes, file.source.keep)
    asked = np.flatnonzero(left_out == "")
    named = pd.DataFrame({what: attributes[c] for what, c in file.columns.items()}, attributes.index)
    frame = named.iloc[asked]
    # a loop drawn as a point is a street where the user's own column of lengths has its length
    loops = file.source.length_column is not None and sound_metres(frame["length"]).notna().to_numpy()
    lines = checked_lines(every[asked], file.near, loops)
    inside = np.flatnonzero(lines.inside)
    kept = frame.iloc[inside].assign(source_row=first_row + asked[inside]).reset_index(drop=True)
    kept["geometry"] = lines.geometry[inside]
    kept["ground_m"] = _ground_m(lines.drawn[inside], file.near.crs)
    return Part(
        rows=len(attributes),
        kept=kept,
        rejected=Counter(lines.reason[lines.reason != ""].tolist()),
        left_out=Counter(left_out[left_out != ""].tolist()),
        outside=int((lines.reason == "").sum()) - len(inside),
        bounds=lines.bounds,
        met=met,
    )


def _ground_m(geometry: NDArray[np.object_], crs: CRS) -> FloatArray:
    """(N,) ground metres of lines or multi-lines."""
    lines, line = shapely.get_parts(geometry, return_index=True)
    metres = ground_lengths(crs, *vertices(lines))
    return np.bincount(line, metres, minlength=len(geometry)).astype(np.float64)


def check_overlap(account: Account, parts: Sequence[Part], file: LineFile) -> None:
    """Nothing, if some line touches the grid.

    Raises
    ------
    SourceError : none does; says where they are.
    """
    if account.used:
        return
    where = file.source.where
    if not account.outside:
        lost = lost_reasons(account) or "it has no rows"
        raise SourceError(f"{where} holds no lines: {lost}; give a file of centre-lines")
    there = box_around(np.array([p.bounds for p in parts]))
    advice = _crs_advice(there, file) or "check --bbox"
    raise SourceError(
        f"{where}: none of its lines is in the grid: they are in {_said(there)}, the grid in "
        f"{_said(file.near.box)} (left bottom right top in the CRS of the lines); {advice}"
    )


def _crs_advice(there: Bbox, file: LineFile) -> str | None:
    """What to do where numbers and CRS contradict each other; none where they do not."""
    west, south, east, north = there
    degrees = west >= -360 and east <= 360 and south >= -90 and north <= 90
    name = ":".join(file.near.crs.to_authority() or (file.near.crs.name,))
    if degrees and not file.near.crs.is_geographic:
        return f"the file says {name}, but these are degrees: write it again as EPSG:4326"
    if file.near.crs.is_geographic and not degrees:
        return f"the file says {name}, but these are no degrees: write it again with the CRS they are in"
    return None


def _said(box: Bbox) -> str:
    return " ".join(f"{v:.6g}" for v in box)


def sound_metres(values: pd.Series) -> pd.Series:
    """(N,) declared lengths; NaN where none is, or none that a line could have."""
    metres = pd.to_numeric(values, errors="coerce").astype("float64")
    return metres.where(np.isfinite(metres) & (metres > 0))
