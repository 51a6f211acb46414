"""Labels made elsewhere: a table of tiles, polygons or points with the column that is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from roadrisk.columns import MOST_CLASSES
from roadrisk.errors import SourceError
from roadrisk.geometry.near import near_grid
from roadrisk.geometry.polygons import split_polygons
from roadrisk.grid import FloatArray, Grid, IntArray
from roadrisk.source_settings import LabelSettings, PointTable
from roadrisk.sources.account import Account
from roadrisk.sources.coverage import COVERED
from roadrisk.sources.names import found_column, given_column
from roadrisk.sources.parts import lost_reasons
from roadrisk.sources.positions import check_positions, checked_positions, position_columns
from roadrisk.sources.shapes import POINTS, POLYGONS, checked_polygons, geometry_crs
from roadrisk.sources.tables import Table, as_text, table_at

SOURCE = "label"
NO_TILE = "no tile_id"
NO_VALUE = "no value"
NOT_A_NUMBER = "not a number"
LISTED_AGAIN = "listed again"
LITTLE = "in tiles covered less than half"

_ALIKE = 9  # digits of a share of a tile beyond which two are as large


@dataclass(frozen=True, eq=False)
class LabelFile:
    """Labels of every tile, and what became of the rows they came from.

    Parameters
    ----------
    values : (size,) float64 with NaN, or bools or text with None, where unknown.
    column : of the file.
    dtype : `float64`, `bool` or `object` for text.
    understood : how the file was read, one line a thing, for people.
    """

    values: NDArray[Any]
    column: str
    dtype: str
    understood: tuple[str, ...]
    account: Account


@dataclass(frozen=True)
class _Values:
    """(N,) numbers, or codes of `classes` (in the order of their text); and why a row has none."""

    dtype: str
    numbers: FloatArray
    classes: list[Any]
    reason: NDArray[np.object_]


@dataclass(frozen=True)
class _Places:
    """Where rows lie.

    Parameters
    ----------
    raw : (N,) their values as the file has them.
    reason : (N,) why a row lies nowhere; empty where it does.
    row, tile, weight : (P,) which row has how much of which tile: areas of polygons, 1 for points.
    said : how they were found, for people.
    mean, most : how several in a tile make its number or its class, for people.
    """

    raw: pd.Series
    reason: NDArray[np.object_]
    row: IntArray
    tile: IntArray
    weight: FloatArray
    said: str
    mean: str
    most: str


def read_label_file(settings: LabelSettings, grid: Grid) -> LabelFile:
    """The labels of a file, a value a tile; tiles of which it says nothing are missing.

    A table with a column `tile_id` is taken as it stands. Of polygons and points, numbers become their
    mean (of polygons weighted by area), and classes the one that has the most of the tile; where two have
    as much, the first by its text. Polygons label the tiles of which they cover at least half. Booleans,
    text and at most ten whole numbers are classes.

    Parameters
    ----------
    settings : with `path` and `column`.

    Raises
    ------
    SourceError : no such file or column, no tiles, polygons or points, a tile with two values, or no row
        that can be used.
    """
    path, column = str(settings.path), str(settings.column)
    table = table_at(path, settings.layer)
    given_column(table.columns, column, "column", path)
    tile_id = found_column(table.columns, ("tileid",))
    if tile_id is not None:
        places = _of_tiles(table, column, tile_id, grid)
    elif settings.x is None and settings.y is None and table.has_geometry and _are_polygons(table):
        places = _of_polygons(table, column, grid)
    else:
        places = _of_points(table, column, settings, grid)
    values = _values(places.raw)
    reason = np.where(places.reason == "", values.reason, places.reason)
    sound = reason[places.row] == ""
    row, tile, weight = places.row[sound], places.tile[sound], places.weight[sound]
    left_out = {}
    if tile_id is not None:
        once = _each_once(row, tile, values, grid, path)
        left_out[LISTED_AGAIN] = len(row) - len(once)
        row, tile, weight = row[once], tile[once], weight[once]
    enough = np.round(np.bincount(tile, weight, minlength=grid.size), _ALIKE) >= COVERED
    touched = len(np.unique(tile[~enough[tile]]))
    used = len(np.unique(row[enough[tile]]))
    left_out[LITTLE] = len(np.unique(row)) - used
    row, tile, weight = (of[enough[tile]] for of in (row, tile, weight))
    account = _account(reason, used, left_out)
    _check_used(account, path, column, grid)
    labels, how = _by_tile(values, places, row, tile, weight, grid)
    if touched:
        how += f"; tiles covered less than half, which get none: {touched:,}"
    understood = (f"{table.path.name}: {table.understood}", f"{column!r} by {places.said}; {how}")
    return LabelFile(labels, column, values.dtype, understood, account)


def _of_tiles(table: Table, column: str, tile_id: str, grid: Grid) -> _Places:
    known = pd.Index(grid.tile_ids(*grid.every_tile()))
    raw, tiles, blanks = [], [], []
    for frame, _ in table.read([column, tile_id]):
        ids = pd.Series(as_text(frame[tile_id]), dtype="string").str.strip()
        blanks.append((ids.isna() | (ids == "")).to_numpy(dtype=bool))
        tiles.append(known.get_indexer(pd.Index(ids.astype(object))))
        raw.append(frame[column])
    tile, blank = np.concatenate(tiles).astype(np.int64), np.concatenate(blanks)
    row = np.flatnonzero(tile >= 0)
    reason = np.where(blank, NO_TILE, "").astype(object)
    return _Places(_joined(raw), reason, row, tile[row], np.ones(len(row)), repr(tile_id), "", "")


def _of_polygons(table: Table, column: str, grid: Grid) -> _Places:
    near = near_grid(geometry_crs(table, "polygons"), grid)
    raw, reasons, rows, tiles, areas = [], [], [], [], []
    first_row = 0
    for frame, wkb in table.read([column]):
        polygons = checked_polygons(wkb, near)
        inside = np.flatnonzero(polygons.inside)
        pieces = split_polygons(grid, polygons.geometry[inside])
        rows.append(first_row + inside[pieces.polygon])
        tiles.append(pieces.row * grid.cols + pieces.col)
        areas.append(pieces.area / grid.cell**2)
        reasons.append(polygons.reason)
        raw.append(frame[column])
        first_row += len(frame)
    row, tile, weight, reason = (np.concatenate(arrays) for arrays in (rows, tiles, areas, reasons))
    mean = "numbers, of several polygons in a tile their mean by area"
    return _Places(
        _joined(raw), reason, row, tile, weight, "polygons", mean, "the one that covers most of a tile"
    )


def _of_points(table: Table, column: str, settings: LabelSettings, grid: Grid) -> _Places:
    source = PointTable(
        str(settings.path), layer=settings.layer, x=settings.x, y=settings.y, crs=settings.crs
    )
    columns = position_columns(table, source)
    raw, reasons, tiles, evidence = [], [], [], []
    for chunk in table.read([column, *columns.attributes]):
        where = checked_positions(columns, chunk, grid)
        rows, cols = grid.locate(where.x, where.y)
        tiles.append(np.where((rows >= 0) & (where.reason == ""), rows * grid.cols + cols, -1))
        reasons.append(where.reason)
        evidence.append(where.evidence)
        raw.append(chunk[0][column])
    check_positions(evidence, source)
    tile = np.concatenate(tiles)
    row = np.flatnonzero(tile >= 0)
    mean, most = "numbers, of several points in a tile their mean", "the commonest in a tile"
    return _Places(
        _joined(raw),
        np.concatenate(reasons),
        row,
        tile[row],
        np.ones(len(row)),
        columns.understood,
        mean,
        most,
    )


def _joined(parts: list[pd.Series]) -> pd.Series:
    # a chunk without a value has a type of its own
    return pd.concat(parts, ignore_index=True).convert_dtypes()


def _are_polygons(table: Table) -> bool:
    """Whether there are more polygons than points among the first shapes of a file."""
    for _, wkb in table.read([]):
        kinds = shapely.get_type_id(shapely.from_wkb(wkb, on_invalid="ignore"))
        polygons, points = (int(np.isin(kinds, of).sum()) for of in (POLYGONS, POINTS))
        if polygons or points:
            return polygons > points
        if (kinds >= 0).any():
            break
    raise SourceError(f"{table.path} holds no polygons and no points; give labels as these, or by tile_id")


def _values(raw: pd.Series) -> _Values:
    if pd.api.types.is_bool_dtype(raw.dtype):
        return _classes(raw.astype(object).where(raw.notna(), None).to_numpy(dtype=object), "bool")
    if pd.api.types.is_numeric_dtype(raw.dtype):
        return _numbers(raw.to_numpy(dtype=np.float64, na_value=np.nan), raw.isna().to_numpy(dtype=bool))
    text = pd.Series(as_text(raw), dtype="string").str.strip()
    text = text.mask((text == "").fillna(True))
    given = text.notna()
    lower = text.str.lower()
    if given.any() and lower[given].isin(["true", "false"]).all():
        flags = (lower == "true").astype(object).where(given, None)
        return _classes(flags.to_numpy(dtype=object), "bool")
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    # a few words among numbers, such as n/a, do not make classes of them
    if 2 * np.isfinite(numbers).sum() > given.sum():
        return _numbers(numbers, ~given.to_numpy(dtype=bool))
    return _classes(text.astype(object).where(given, None).to_numpy(dtype=object), "object")


def _numbers(numbers: FloatArray, blank: NDArray[np.bool_]) -> _Values:
    reason = np.where(np.isfinite(numbers), "", NOT_A_NUMBER).astype(object)
    reason[blank] = NO_VALUE
    distinct = np.unique(numbers[reason == ""])
    if len(distinct) > MOST_CLASSES or (distinct % 1 != 0).any():
        return _Values("float64", numbers, [], reason)
    classes = sorted(distinct.tolist(), key=lambda value: f"{value:g}")
    codes = pd.Index(classes).get_indexer(numbers).astype(np.float64)
    return _Values("float64", codes, classes, reason)


def _classes(values: NDArray[np.object_], dtype: str) -> _Values:
    known = pd.notna(values)
    classes = sorted(set(values[known].tolist()), key=str)
    codes = pd.Index(classes, dtype=object).get_indexer(values).astype(np.float64)
    return _Values(dtype, codes, classes, np.where(known, "", NO_VALUE).astype(object))


def _each_once(row: IntArray, tile: IntArray, values: _Values, grid: Grid, path: str) -> IntArray:
    """Index of the first of the rows of each tile.

    Raises
    ------
    SourceError : a tile has two values.
    """
    order = np.lexsort((values.numbers[row], tile))
    tiles, numbers = tile[order], values.numbers[row[order]]
    again = tiles[1:] == tiles[:-1]
    differ = np.flatnonzero(again & (numbers[1:] != numbers[:-1]))
    if len(differ):
        first = int(differ[0])
        named = grid.tile_id(*divmod(int(tiles[first]), grid.cols))
        said = " and ".join(_said(values, number) for number in numbers[first : first + 2])
        raise SourceError(f"{path} names tile {named} twice with different values, {said}; keep one")
    return order[np.concatenate([[True], ~again])] if len(order) else order


def _said(values: _Values, number: float) -> str:
    value = values.classes[int(number)] if values.classes else number
    return f"{value:g}" if isinstance(value, float) else str(value)[:60]


def _account(reason: NDArray[np.object_], used: int, left_out: dict[str, int]) -> Account:
    rejected = {str(why): int((reason == why).sum()) for why in set(reason.tolist()) - {""}}
    outside = len(reason) - used - sum(rejected.values()) - sum(left_out.values())
    return Account(SOURCE, len(reason), used, dict(sorted(rejected.items())), outside, left_out)


def _check_used(account: Account, path: str, column: str, grid: Grid) -> None:
    if account.used:
        return
    if not account.outside:
        reasons = lost_reasons(account) or "it has no rows"
        check = f"check `column` ({column!r})" if LITTLE not in account.left_out else "take smaller tiles"
        raise SourceError(f"{path}: no row has a label: {reasons}; {check}")
    raise SourceError(
        f"{path}: all {account.outside:,} sound rows are outside the grid, whose first tile is "
        f"{grid.tile_id(0, 0)}; check --bbox, and that the labels were made for this grid or CRS"
    )


def _by_tile(
    values: _Values, places: _Places, row: IntArray, tile: IntArray, weight: FloatArray, grid: Grid
) -> tuple[NDArray[Any], str]:
    """(size,) labels, and how they came about in words."""
    # the same sums whatever the order of the rows
    order = np.lexsort((weight, values.numbers[row], tile))
    tile, weight, number = tile[order], weight[order], values.numbers[row[order]]
    if not values.classes:
        total = np.bincount(tile, weight, minlength=grid.size)
        labels = np.full(grid.size, np.nan)
        np.divide(np.bincount(tile, weight * number, minlength=grid.size), total, out=labels, where=total > 0)
        return labels, places.mean or "numbers"
    labels, ties = _heaviest(tile, number.astype(np.int64), weight, values.classes, grid.size)
    if values.dtype == "float64":
        labels = labels.astype(np.float64)
    said = [f"{len(values.classes)} classes", *filter(None, [places.most])]
    if ties:
        said.append(f"the first by its text where two have as much (tiles: {ties:,})")
    return labels, ", ".join(said)


def _heaviest(
    tile: IntArray, code: IntArray, weight: FloatArray, classes: list[Any], size: int
) -> tuple[NDArray[np.object_], int]:
    """(size,) the class that has the most of each tile, None without any; and in how many tiles two have."""
    key, at = np.unique(tile * len(classes) + code, return_inverse=True)
    total = np.round(np.bincount(at, weight), _ALIKE)
    of, codes = np.divmod(key, len(classes))
    order = np.lexsort((codes, -total, of))
    of, codes, total = of[order], codes[order], total[order]
    again = of[1:] == of[:-1]
    first = np.flatnonzero(np.concatenate([[True], ~again]))
    tied = np.isin(np.flatnonzero(again & (total[1:] == total[:-1])), first)
    labels = np.full(size, None, dtype=object)
    labels[of[first]] = np.array([*classes, None], dtype=object)[codes[first]]
    return labels, int(tied.sum())
