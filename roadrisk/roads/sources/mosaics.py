"""The pictures of a view as one mosaic, read by window."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from roadrisk.mosaic.picture import Mask, Picture
from roadrisk.mosaic.reader import MosaicReader
from roadrisk.roads.scenes import Truth, Window, within

if TYPE_CHECKING:
    from roadrisk.dataset import Dataset

_KEPT_BYTES = 64 << 20


class MosaicPlane:
    """The pictures of a view as one, by window over its tiles; a copy opens parts for itself.

    Parameters
    ----------
    reader : of single tiles.
    shape : (rows, cols) of the grid.
    tile_size : pixels along a side of a tile.
    """

    bands = 3

    def __init__(self, reader: MosaicReader, shape: tuple[int, int], tile_size: int) -> None:
        self._reader, self._shape, self._size = reader, shape, tile_size
        self._tiles: OrderedDict[tuple[int, int], Picture] = OrderedDict()
        self._most = max(4, _KEPT_BYTES // (4 * tile_size**2))

    def __reduce__(self) -> tuple[Any, ...]:
        return MosaicPlane, (copy(self._reader), self._shape, self._size)

    @property
    def height(self) -> int:
        return self._shape[0] * self._size

    @property
    def width(self) -> int:
        return self._shape[1] * self._size

    def read(self, window: Window) -> Picture:
        """Pixels (3, height, width) and where they are known; beyond the grid nothing is.

        Raises
        ------
        DatasetError : a part is missing or damaged.
        """
        shape, size = (window.height, window.width), self._size
        picture = Picture(np.zeros((3, *shape), np.uint8), np.zeros(shape, bool))
        for row, col in tiles_of(window, size, self._shape):
            tile, place = self._tile(row, col), Window(row * size, col * size, size, size)
            there, here = within(place, window), within(window, place)
            picture.pixels[:, *there], picture.valid[there] = tile.pixels[:, *here], tile.valid[here]
        return picture

    def valid(self, row: int, col: int) -> Mask:
        """(size, size) whether there is a picture in a tile."""
        return self._reader.valid(row, col)

    def close(self) -> None:
        """Let go of open parts; a later read opens them again."""
        self._reader.close()

    def _tile(self, row: int, col: int) -> Picture:
        at = row, col
        if at in self._tiles:
            self._tiles.move_to_end(at)
        else:
            self._tiles[at] = Picture(self._reader.read(row, col), self._reader.valid(row, col))
            if len(self._tiles) > self._most:
                self._tiles.popitem(last=False)
        return self._tiles[at]


@dataclass(frozen=True, eq=False)
class MaskTruths:
    """Where a view shows roads: where any of its bands is above a value.

    Parameters
    ----------
    above : a pixel is road above this value: what was drawn on another grid has greys at its edges.
    """

    plane: MosaicPlane
    above: int

    def __copy__(self) -> MaskTruths:
        return MaskTruths(copy(self.plane), self.above)

    def read(self, window: Window) -> Truth:
        """Where there is road, known where the view has a picture."""
        mask = self.plane.read(window)
        return Truth(mask.pixels.max(axis=0) > self.above, mask.valid)

    def close(self) -> None:
        """Let go of open parts; a later read opens them again."""
        self.plane.close()


def mosaic_of(dataset: Dataset, view: str) -> MosaicPlane:
    """The mosaic of a view of a dataset.

    Raises
    ------
    DatasetError : there is no such view, or it was not cut.
    """
    of = dataset.view(view)
    # of a neighbourhood too the blocks themselves: they are tiles, only smaller
    reader = MosaicReader(dataset.path, view, dataset.grid, of.tile_size, of.plan or dataset.plan)
    return MosaicPlane(reader, dataset.grid.shape, of.tile_size)


def tiles_of(window: Window, size: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """(row, col) of the tiles of a grid under a window."""
    spans = [
        range(max(first // size, 0), min(-(-(first + length) // size), count))
        for first, length, count in zip(window[:2], window[2:], shape, strict=True)
    ]
    return [(row, col) for row in spans[0] for col in spans[1]]
