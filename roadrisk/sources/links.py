"""Lines of the user's own with all that their file says of them, each row its own link."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, IntArray
from roadrisk.source_settings import LineSource
from roadrisk.sources.account import Account
from roadrisk.sources.classes import is_osm, road_classes
from roadrisk.sources.line_files import LineFile, check_overlap, line_files
from roadrisk.sources.parts import Part, account_of
from roadrisk.sources.shapes import checked_lines
from roadrisk.sources.tables import Table, as_text

NOT_FOR_CARS = "not a road for cars"
_BBOX = {"xmin", "ymin", "xmax", "ymax"}


@dataclass(frozen=True, eq=False)
class Links:
    """N lines that touch a grid, in the order of their rows, and what became of the others.

    Parameters
    ----------
    attributes : N rows with the fields of the file.
    geometry : (N,) lines, or multi-lines of several parts, whole, in the grid's CRS.
    source_row : (N,) 0 is the first row of the first file.
    left_out : fields that hold lists, records or bytes, which no map file can.
    """

    attributes: pd.DataFrame
    geometry: NDArray[np.object_]
    source_row: IntArray
    account: Account
    left_out: tuple[str, ...]


def read_links(source: LineSource, grid: Grid) -> Links:
    """The lines of a source that touch the grid, whole.

    A street that is listed twice stays twice: each row is a link of its own. Where a field holds classes of
    OpenStreetMap, lines that are not for cars are left out, as `read_lines` does.

    Raises
    ------
    SourceError : no such file, no lines, no CRS, or none in the grid.
    """
    files = line_files(source, grid)
    read = list(_chunks(files))
    parts = [part for part, _, _ in read]
    check_overlap(account_of("roads", parts), parts, files[0])
    attributes = pd.concat([part.kept for part in parts], ignore_index=True)
    classes = next((file.columns["road_class"] for file in files if "road_class" in file.columns), None)
    chosen = np.flatnonzero(_for_cars(attributes, classes))
    account = account_of("roads", parts, {NOT_FOR_CARS: len(attributes) - len(chosen)})
    if not len(chosen):
        raise SourceError(f"{source.where}: none of its lines is a road for cars; give centre-lines of roads")
    return Links(
        attributes=attributes.iloc[chosen].reset_index(drop=True),
        geometry=_unwrapped(np.concatenate([geometry for _, geometry, _ in read])[chosen]),
        source_row=np.concatenate([rows for _, _, rows in read])[chosen],
        account=account,
        left_out=tuple(dict.fromkeys(name for file in files for name in _fields(file.table)[1])),
    )


def _chunks(files: tuple[LineFile, ...]) -> Iterator[tuple[Part, NDArray[np.object_], IntArray]]:
    """The files a chunk at a time: what it came to, and the lines that touch the grid with their rows."""
    first_row = 0
    for file in files:
        for attributes, wkb in file.table.read(_fields(file.table)[0]):
            lines = checked_lines(np.asarray(wkb), file.near)
            inside = np.flatnonzero(lines.inside)
            part = Part(
                rows=len(lines.inside),
                kept=attributes.reset_index(drop=True).iloc[inside],
                rejected=Counter(lines.reason[lines.reason != ""].tolist()),
                left_out=Counter(),
                outside=int((lines.reason == "").sum()) - len(inside),
                bounds=lines.bounds,
                met={},
            )
            yield part, lines.geometry[inside], first_row + inside
            first_row += part.rows


def _unwrapped(lines: NDArray[np.object_]) -> NDArray[np.object_]:
    """Lines, those that a file keeps as a multi-line of one part as lines."""
    alone = shapely.get_num_geometries(lines) == 1
    return np.where(alone, shapely.get_geometry(lines, 0), lines)


def _fields(table: Table) -> tuple[list[str], list[str]]:
    """The fields that are read, and those that are left out; boxes around the lines are neither."""
    if table.understood != "GeoParquet":
        return list(table.columns), []
    kinds = {field.name: field.type for field in pq.read_schema(table.path)}
    boxes = {name for name, kind in kinds.items() if _is_box(kind)}
    left_out = [name for name in table.columns if name not in boxes and not _is_plain(kinds[name])]
    return [name for name in table.columns if name not in boxes and name not in left_out], left_out


def _is_box(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and {field.name for field in kind} >= _BBOX


def _is_plain(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    of_bytes = pa.types.is_binary(value) or pa.types.is_large_binary(value) or pa.types.is_binary_view(value)
    fixed = pa.types.is_fixed_size_binary(value)
    return not (of_bytes or fixed or pa.types.is_nested(value) or isinstance(value, pa.BaseExtensionType))


def _for_cars(attributes: pd.DataFrame, classes: str | None) -> NDArray[np.bool_]:
    """(N,) whether lines are roads for cars, as far as their classes are OpenStreetMap's."""
    every = np.ones(len(attributes), bool)
    if classes is None or classes not in attributes:
        return every
    values = pd.Series(as_text(attributes[classes]), dtype="string")
    return road_classes(values).notna().to_numpy() if is_osm(values) else every
