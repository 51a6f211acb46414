"""Facts of the tiles around a tile, as further columns.

A lattice with few gaps becomes a raster that one-dimensional filters run over; of any other the tiles of a
window are found by their order, without a raster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.ndimage import correlate1d, maximum_filter1d

from roadrisk.columns import Column
from roadrisk.errors import SourceError, UsageError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.facts.scaling import density_of
from roadrisk.learning.settings import TrainSettings

DENSE = 8  # cells of a raster a tile, up to which a raster is faster


def reach_tiles(settings: TrainSettings) -> int:
    """Tiles that the facts of a tile reach beyond it, on each side.

    >>> reach_tiles(TrainSettings(neighbourhood=(3, 7))), reach_tiles(TrainSettings())
    (3, 0)
    """
    return max(settings.neighbourhood, default=1) // 2


def weight_names(columns: Sequence[Column]) -> tuple[str, ...]:
    """The columns by which others are weighted, and the sums of ratios: what `with_neighbourhoods` needs."""
    return tuple(sorted({name for column in columns for name in column.by}))


def neighbour_names(column: str, sides: Sequence[int]) -> tuple[str, ...]:
    """Names of the further columns that tell of a column around a tile.

    >>> neighbour_names("road_m", (3, 7))
    ('road_m_3x3', 'road_m_7x7')
    """
    return tuple(f"{column}_{side}x{side}" for side in dict.fromkeys(sides))


def with_neighbourhoods(
    values: FloatArray,
    columns: tuple[Column, ...],
    row: IntArray,
    col: IntArray,
    area_km2: FloatArray,
    sides: Sequence[int],
    weights: Mapping[str, FloatArray],
) -> tuple[FloatArray, tuple[Column, ...]]:
    """(N, F + further) values and their columns: those given, then of each the facts around a tile.

    The further column `<name>_3x3` tells of the 3 x 3 tiles with the tile in their middle, of those that are
    there and where the fact is known: of a sum its density (per km2, and per year of its window), of a mean
    the mean by its weight or else by area, of a ratio that of the sums, of flags the share of the area, of
    `min` and `max` these, of values that combine in no known way their mean by area. A `mode` has none. What
    is known of no tile, or has no weight there, is NaN.

    Parameters
    ----------
    values : (N, F) of `columns`, NaN where missing.
    row, col : (N,) place on one lattice. Metros on several are asked about one by one.
    area_km2 : (N,) ground area [km2].
    sides : odd numbers of tiles.
    weights : (N,) of each name of `weight_names`, NaN where missing.

    Raises
    ------
    SourceError : a weight is not there.
    UsageError : a further column would have the name of another.

    Examples
    --------
    >>> roads = Column("road_m", "float64", "m", "feature", "sum", "Centre-line length.")
    >>> row, col, km2 = np.array([0, 0, 0]), np.array([0, 1, 9]), np.full(3, 0.5)
    >>> road_m = np.array([[100.0], [300.0], [50.0]])
    >>> values, columns = with_neighbourhoods(road_m, (roads,), row, col, km2, [3], {})
    >>> columns[1].name, columns[1].unit, values[:, 1].tolist()
    ('road_m_3x3', 'm/km2', [400.0, 400.0, 100.0])
    """
    sides = list(dict.fromkeys(sides))
    kept = [index for index, column in enumerate(columns) if column.combine != "mode"]
    further = (*columns, *(_column(columns[index], side) for side in sides for index in kept))
    _check_names(further)
    out = np.empty((len(values), len(further)))
    out[:, : len(columns)] = values
    place = len(columns)
    for side in sides:
        windows = _windows(row, col, side // 2)
        for index in kept:
            out[:, place] = _around(columns[index], values[:, index], area_km2, windows, weights)
            place += 1
    return out, further


class Windows(Protocol):
    """The tiles around each tile of a lattice."""

    def sums(self, values: FloatArray) -> FloatArray:
        """(N,) sum over each tile's window of (N,) finite values."""

    def highest(self, values: FloatArray) -> FloatArray:
        """(N,) largest in each tile's window of (N,) values, none of them NaN."""


@dataclass(frozen=True, eq=False)
class RasterWindows:
    """Windows on a raster.

    Parameters
    ----------
    cells : the places that hold a tile.
    at : (cells,) of each in a raster.
    shape : of the raster.
    reach : cells that a window reaches beyond its middle.
    """

    cells: Cells
    at: IntArray
    shape: tuple[int, int]
    reach: int

    def sums(self, values: FloatArray) -> FloatArray:
        """As `Windows.sums`; always added in the same order, and never by differences, which lose digits."""
        raster = np.zeros(self.shape)
        raster.ravel()[self.at] = self.cells.joined(values, np.add)
        ones = np.ones(2 * self.reach + 1)
        for axis in (0, 1):
            raster = correlate1d(raster, ones, axis=axis, mode="constant")
        return np.asarray(raster.ravel()[self.at][self.cells.of_tile])

    def highest(self, values: FloatArray) -> FloatArray:
        """As `Windows.highest`."""
        raster = np.full(self.shape, -np.inf)
        raster.ravel()[self.at] = self.cells.joined(values, np.maximum)
        for axis in (0, 1):
            raster = maximum_filter1d(raster, 2 * self.reach + 1, axis=axis, mode="constant", cval=-np.inf)
        return np.asarray(raster.ravel()[self.at][self.cells.of_tile])


@dataclass(frozen=True, eq=False)
class RunWindows:
    """Windows of scattered tiles: those of a window that are in one row stand together in their order.

    Parameters
    ----------
    cells : the places that hold a tile, by row, then column.
    runs : (rows of a window, cells, 2) first cell of each run and that after its last.
    """

    cells: Cells
    runs: IntArray

    def sums(self, values: FloatArray) -> FloatArray:
        """As `Windows.sums`."""
        return self._reduced(values, np.add, 0.0)

    def highest(self, values: FloatArray) -> FloatArray:
        """As `Windows.highest`."""
        return self._reduced(values, np.maximum, -np.inf)

    def _reduced(self, values: FloatArray, joined: np.ufunc, nothing: float) -> FloatArray:
        cells = np.append(self.cells.joined(values, joined), nothing)  # a run may end behind the last
        out = np.full(len(cells) - 1, nothing)
        for run in self.runs:
            of_run = joined.reduceat(cells, run.ravel())[::2]
            out = joined(out, np.where(run[:, 0] < run[:, 1], of_run, nothing))
        return np.asarray(out[self.cells.of_tile])


@dataclass(frozen=True, eq=False)
class Cells:
    """The places of a lattice that hold a tile, or several.

    Parameters
    ----------
    row, col : (cells,) by row, then column.
    of_tile : (N,) the cell of each tile.
    """

    row: IntArray
    col: IntArray
    of_tile: IntArray

    def joined(self, values: FloatArray, ufunc: np.ufunc) -> FloatArray:
        """(cells,) those of the tiles of each, in an order that is not that of the rows."""
        if len(values) == len(self.row):
            out = np.empty(len(values))
            out[self.of_tile] = values
            return out
        order = np.lexsort((values, self.of_tile))
        first = np.searchsorted(self.of_tile[order], np.arange(len(self.row)))
        return np.asarray(ufunc.reduceat(values[order], first))


def _windows(row: IntArray, col: IntArray, reach: int) -> Windows:
    """The windows of tiles on a lattice."""
    row, col = _closer(row, reach), _closer(col, reach)
    height, width = (int(line.max(initial=0)) + 1 for line in (row, col))
    key, of_tile = np.unique(row * width + col, return_inverse=True)
    cells = Cells(key // width, key % width, of_tile)
    if height * width <= DENSE * len(row):
        return RasterWindows(cells, key, (height, width), reach)
    # lines apart by more than a window, so that no run goes on in the next row
    wide = width + 2 * reach + 1
    place = cells.row * wide + cells.col
    first = np.arange(-reach, reach + 1)[:, None] * wide + place  # (side, cells)
    return RunWindows(
        cells, np.stack([place.searchsorted(first - reach), place.searchsorted(first + reach + 1)], axis=-1)
    )


def _closer(lines: IntArray, reach: int) -> IntArray:
    """(N,) numbers of rows or columns from 0, with gaps wider than a window's reach made as wide as it.

    >>> _closer(np.array([7, 8, 1_000_000]), 2)
    array([0, 1, 4])
    """
    there, of_tile = np.unique(lines, return_inverse=True)
    steps = np.minimum(np.diff(there, prepend=there[:1]), reach + 1)
    return np.asarray(np.cumsum(steps)[of_tile], np.int64)


def _around(
    column: Column,
    values: FloatArray,
    area_km2: FloatArray,
    windows: Windows,
    weights: Mapping[str, FloatArray],
) -> FloatArray:
    """(N,) the fact around each tile."""
    if column.combine in ("min", "max"):
        sign = 1.0 if column.combine == "max" else -1.0
        highest = windows.highest(np.where(np.isnan(values), -np.inf, sign * values))
        return np.where(np.isneginf(highest), np.nan, sign * highest)
    above, below = _parts(column, values, area_km2, weights)
    known = ~(np.isnan(above) | np.isnan(below))
    above = windows.sums(np.where(known, above, 0.0))
    below = windows.sums(np.where(known, below, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _parts(
    column: Column, values: FloatArray, area_km2: FloatArray, weights: Mapping[str, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """(N,) what is added up of each tile, and what it is divided by."""
    lacking = [name for name in column.by if name not in weights]
    if lacking:
        raise SourceError(
            f"{column.name} around a tile is worked out from {lacking[0]}, which the data lacks; add the "
            f"same sources, or leave it out with --exclude {column.name}"
        )
    if column.combine == "sum":
        return density_of(column, values, area_km2) * area_km2, area_km2
    if column.combine == "ratio":
        above, below = column.by
        return np.where(np.isnan(values), np.nan, weights[above]), weights[below]
    weight = weights[column.by[0]] if column.by else area_km2
    return values * weight, weight


def _column(column: Column, side: int) -> Column:
    """What is known of the fact around a tile."""
    year = "/year" if column.window else ""
    where = f"in the {side} x {side} tiles around the tile, where known"
    what, unit = {
        "sum": (f"its density {where}", f"{column.unit}/km2{year}"),
        "any": (f"the share of the area {where}", "share"),
        "min": (f"the least {where}", column.unit),
        "max": (f"the most {where}", column.unit),
    }.get(column.combine, (f"its mean {where}", column.unit))
    return replace(
        column,
        name=neighbour_names(column.name, (side,))[0],
        dtype="float64",
        unit=unit,
        combine=column.combine if column.combine in ("min", "max") else "mean",
        meaning=f"{column.meaning.rstrip('.')}: {what}.",
        by=(),
    )


def _check_names(columns: tuple[Column, ...]) -> None:
    names = [column.name for column in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--neighbourhood makes a column {twice}, which there is already; rename that one")
