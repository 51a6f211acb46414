"""The context of a tile: the tiles around it, from a mosaic of its own.

Every tile is one smaller block of that mosaic, averaged from the aligned picture, so a neighbourhood is whole
blocks. Read from overviews of the parts instead, pixels at the edge of a part would be others.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roadrisk.grid import Grid, Part
from roadrisk.mosaic.overview import shrunken
from roadrisk.mosaic.parts import Known, part_of
from roadrisk.mosaic.picture import DateArray, Painted, Picture, Spent, undated
from roadrisk.mosaic.reader import MosaicReader


def context_block(tile_size: int, neighbourhood: int) -> int:
    """Pixels along the side of a tile in the context of N x N tiles: a multiple of 16, as TIFF wants.

    >>> context_block(256, 3), context_block(256, 5), context_block(80, 5)
    (96, 64, 16)
    """
    return -(-tile_size // (16 * neighbourhood)) * 16


@dataclass(frozen=True)
class ContextPainter:
    """Paints the parts of a context from a view that is whole.

    What could not be read when that view was cut is told there; here it is only without a picture.

    Parameters
    ----------
    view : the one to shrink.
    tile_size, plan_hash : of that view.
    block : pixels along the side of a tile in the context.
    """

    dataset_dir: Path
    view: str
    grid: Grid
    tile_size: int
    plan_hash: str
    block: int

    def painted(self, part: Part) -> Painted:
        """The picture of a part of `grid.parts(block)`; dates are those of the tiles themselves.

        Raises
        ------
        DatasetError : a part of the view is missing or damaged.
        """
        began, decode, side = time.perf_counter(), 0.0, self.block
        shape = part.rows * side, part.cols * side
        picture = Picture(np.zeros((3, *shape), np.uint8), np.zeros(shape, bool))
        with closing(
            MosaicReader(self.dataset_dir, self.view, self.grid, self.tile_size, self.plan_hash)
        ) as reader:
            first, last = self._dates(reader, part)
            for row, col in np.ndindex(part.rows, part.cols):
                start = time.perf_counter()
                at = part.row + row, part.col + col
                tile = Picture(reader.read(*at), reader.valid(*at))
                decode += time.perf_counter() - start
                small = shrunken(tile, self.tile_size, side)
                there = np.s_[row * side : (row + 1) * side, col * side : (col + 1) * side]
                picture.pixels[:, *there], picture.valid[there] = small.pixels, small.valid
        spent = Spent(decode, time.perf_counter() - began - decode, 0.0)
        return Painted(picture, first, last, np.zeros((part.rows, part.cols), bool), (), spent)

    def _dates(self, reader: MosaicReader, part: Part) -> tuple[DateArray, DateArray]:
        first, last = undated(part), undated(part)
        known: dict[Part, Known | None] = {}
        for row, col in np.ndindex(part.rows, part.cols):
            below = part_of(self.grid, self.tile_size, part.row + row, part.col + col)
            if below not in known:
                known[below] = reader.known(below)
            dates = known[below]
            if dates is not None:
                place = part.row + row - below.row, part.col + col - below.col
                first[row, col], last[row, col] = dates.first[place], dates.last[place]
        return first, last
