"""Tiles put together to larger ones, from a finished dataset by integer arithmetic."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError
from roadrisk.features.ratios import ratio
from roadrisk.files import digest_of
from roadrisk.grid import FloatArray, IntArray
from roadrisk.imagery.picture_files import Pixels
from roadrisk.inputs import Tiles, TileView, cache_of
from roadrisk.learning.facts.choosing import TEXT_DTYPES
from roadrisk.learning.labels.label import DEFAULT
from roadrisk.learning.pictures.sources import CachedPictures, MosaicPictures, TileReader, resized
from roadrisk.mosaic.reader import MosaicReader


@dataclass(frozen=True, eq=False)
class Coarser:
    """Cells made of N tiles.

    Parameters
    ----------
    tiles : the M cells, without the label that the tiles' own measure was cut into.
    cell : (N,) row in `tiles` of the cell that each tile lies in.
    left_out : columns of text whose values make none of their union.
    """

    tiles: Tiles
    cell: IntArray
    left_out: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class CoarserReader:
    """Pictures of cells `factor` tiles wide, averaged to as many pixels as the picture of a tile has.

    Parameters
    ----------
    tiles : reads single tiles.
    shape : rows and columns of the tiles' grid; beyond it there is no picture.
    tile_px : side of a tile.
    neighbourhood : cells along a side of what the picture of a cell shows.
    """

    tiles: TileReader
    shape: tuple[int, int]
    tile_px: int
    factor: int
    neighbourhood: int

    def __copy__(self) -> CoarserReader:
        # threads each need their own open parts
        return replace(self, tiles=copy.copy(self.tiles))

    def read(self, row: int, col: int) -> Pixels:
        """(3, H, H) of the cell whose north-west tile is given."""
        before = self.neighbourhood // 2 * self.factor
        side = self.neighbourhood * self.factor
        picture = np.zeros((3, side * self.tile_px, side * self.tile_px), np.uint8)
        for down in range(side):
            for right in range(side):
                r, c = row - before + down, col - before + right
                if 0 <= r < self.shape[0] and 0 <= c < self.shape[1]:
                    y, x = down * self.tile_px, right * self.tile_px
                    picture[:, y : y + self.tile_px, x : x + self.tile_px] = self.tiles.read(r, c)
        return resized(picture, self.neighbourhood * self.tile_px)


def coarser(tiles: Tiles, measure: str, factor: int = 2, shift: int = 0) -> Coarser:
    """Cells of `factor` x `factor` tiles on the same lattice, facts put together as their columns say.

    A fact of a cell is made of the tiles where it is known; it is missing where it is known in none. A cell
    is eligible if one of its tiles is and `measure` is known in half of it at least. It has a picture if all
    of its tiles have one.

    Parameters
    ----------
    tiles : of one dataset, or of several.
    measure : the column that is learned, or that classes are cut from.
    shift : tiles by which the cells lie farther north and west.

    Raises
    ------
    ModelError : tiles of a table, which do not say how wide they are.
    """
    metros = tiles.metros or (tiles,)
    if tiles.lattice is None or any(metro.dataset is None for metro in metros):
        raise ModelError(f"{tiles.path} is a table, whose rows cannot be put together to larger tiles")
    row, col, step_m = tiles.lattice
    # cells of one dataset stand together, as their pictures do
    metro = np.concatenate([np.full(len(m), n) for n, m in enumerate(metros)])
    places = np.stack([metro, (row + shift) // factor, (col + shift) // factor], axis=1)
    cells, cell = np.unique(places, axis=0, return_inverse=True)
    cell = np.asarray(cell.reshape(-1), np.int64)
    union = _Union(cell, len(cells), np.argsort(tiles.keys, kind="stable"))
    columns, frame, left_out = _facts(tiles, union)
    known = union.sums(np.isfinite(_numbers(tiles.frame[measure])).astype(np.float64))
    names = np.array([f"{factor}x{factor}/{shift}/{r}/{c}" for _, r, c in cells.tolist()], object)
    made = replace(
        tiles,
        identity=digest_of([tiles.identity, factor, shift]),
        frame=frame.assign(tile_id=names),
        columns=columns,
        keys=names,
        eligible=union.highest(tiles.eligible.astype(np.float64)) * known >= factor**2 / 2,
        scored=union.highest(tiles.scored.astype(np.float64)) > 0,
        area_km2=union.sums(tiles.area_km2),
        places=None,
        lattice=(cells[:, 1], cells[:, 2], step_m * factor),
        views=tuple(_view(tiles, index, union, cells, factor, shift) for index in range(len(tiles.views))),
        source=np.array([metros[n].identity for n in cells[:, 0].tolist()], object),
        cell_m=None if tiles.cell_m is None else tiles.cell_m * factor,
        dataset=None,
        metros=(),
    )
    return Coarser(made, cell, left_out)


@dataclass(frozen=True, eq=False)
class _Union:
    """How values of N tiles become values of M cells.

    Parameters
    ----------
    cell : (N,) of each tile.
    order : (N,) of the rows, that sums are made in.
    """

    cell: IntArray
    count: int
    order: IntArray

    def sums(self, values: FloatArray) -> FloatArray:
        """(M,) sums of what is known; 0 where nothing is."""
        known = np.nan_to_num(values)[self.order]
        sums = np.bincount(self.cell[self.order], weights=known, minlength=self.count)
        return np.asarray(sums, np.float64)

    def highest(self, values: FloatArray) -> FloatArray:
        """(M,) NaN where nothing is known."""
        out = np.full(self.count, np.nan)
        np.fmax.at(out, self.cell, values)
        return out

    def texts(self, values: NDArray[Any], combine: str, area_km2: FloatArray) -> NDArray[np.object_]:
        """(M,) least, greatest or most widespread text; None where none is known."""
        known = pd.DataFrame({"cell": self.cell, "text": values, "km2": area_km2}).iloc[self.order]
        known = known[known["text"].notna()]
        if combine == "mode":
            spread = known.groupby(["cell", "text"])["km2"].sum().reset_index()
            spread = spread.sort_values(["cell", "km2", "text"], ascending=[True, False, True])
            found = spread.drop_duplicates("cell").set_index("cell")["text"]
        else:
            found = known.groupby("cell")["text"].agg(combine)
        out = np.full(self.count, None, object)
        out[found.index] = found.to_numpy(object)
        return out


def _facts(tiles: Tiles, union: _Union) -> tuple[tuple[Column, ...], pd.DataFrame, tuple[str, ...]]:
    columns, left_out = [], []
    values: dict[str, NDArray[Any]] = {}
    for column in tiles.columns:
        if column.name == DEFAULT or (column.role == "info" and column.combine == "none"):
            continue
        if column.dtype in TEXT_DTYPES:
            if column.combine not in ("min", "max", "mode"):
                left_out.append(column.name)
                continue
            held = tiles.frame[column.name].to_numpy(object)
            values[column.name] = union.texts(held, column.combine, tiles.area_km2)
        else:
            values[column.name] = _number(column, tiles, union)
            column = replace(column, dtype="float64")
        columns.append(column)
    return tuple(columns), pd.DataFrame(values), tuple(left_out)


def _number(column: Column, tiles: Tiles, union: _Union) -> FloatArray:
    """(M,) one fact of the cells."""
    held = _numbers(tiles.frame[column.name])
    known = np.isfinite(held)
    if column.combine in ("max", "any"):
        return union.highest(held)
    if column.combine == "min":
        return -union.highest(-held)
    if column.combine == "sum":
        return np.where(union.sums(known.astype(np.float64)) > 0, union.sums(held), np.nan)
    if column.combine == "ratio":
        above, below = (_weight(column, name, tiles) for name in column.by)
        return ratio(union.sums(np.where(known, above, 0.0)), union.sums(np.where(known, below, 0.0)))
    # what combines in no known way is of each tile as its area, as in neighbourhoods
    weight = _weight(column, column.by[0], tiles) if column.by else tiles.area_km2
    weight = np.where(known, weight, 0.0)
    return ratio(union.sums(held * np.nan_to_num(weight)), union.sums(weight))


def _weight(column: Column, name: str, tiles: Tiles) -> FloatArray:
    if name not in tiles.frame:
        raise ModelError(
            f"{column.name} of larger tiles is worked out from {name}, which the data lacks; leave it out "
            f"with --exclude {column.name}"
        )
    return _numbers(tiles.frame[name])


def _numbers(held: pd.Series) -> FloatArray:
    return np.asarray(held.to_numpy(dtype=np.float64, na_value=np.nan))


def _view(tiles: Tiles, index: int, union: _Union, cells: IntArray, factor: int, shift: int) -> TileView:
    view = tiles.views[index]
    has_image = union.sums(view.has_image.astype(np.float64)) == factor**2

    def pictures_of(size_px: int) -> tuple[CachedPictures, ...]:
        made = []
        for number, metro in enumerate(tiles.metros or (tiles,)):
            shown = has_image & (cells[:, 0] == number)
            if metro.dataset is not None and shown.any():
                first_row, first_col = _origin(tiles, metro)
                row = cells[shown, 1] * factor - shift - first_row
                col = cells[shown, 2] * factor - shift - first_col
                of = _pictures_of(metro.dataset, view.name, factor)
                made.append(CachedPictures(of(row, col, size_px), cache_of(metro.path)))
        return tuple(made)

    metres = view.metres_per_pixel
    return replace(
        view,
        has_image=has_image,
        metres_per_pixel=None if metres is None else metres * factor,
        pictures_of=pictures_of,
    )


def _origin(tiles: Tiles, metro: Tiles) -> tuple[int, int]:
    """Place on the lattice of a dataset's first row and column."""
    if tiles.lattice is None:
        raise ValueError("tiles without places have no origin")
    first = int(np.argmax(tiles.source == metro.identity))
    row, col, _ = tiles.lattice
    own = metro.frame.iloc[0]
    return int(row[first]) - int(own["row"]), int(col[first]) - int(own["col"])


def _pictures_of(
    dataset: Dataset, name: str, factor: int
) -> Callable[[IntArray, IntArray, int], MosaicPictures]:
    """What makes pictures of cells from the rows and columns of their north-west tiles."""
    view = dataset.view(name)
    single = MosaicReader(dataset.path, name, dataset.grid, view.tile_size, dataset.plan)
    reader = CoarserReader(single, dataset.grid.shape, view.tile_size, factor, view.neighbourhood)
    identity = digest_of([view.digest, factor, view.neighbourhood])
    return lambda row, col, size_px: MosaicPictures(reader, row, col, size_px, identity)
