"""A dataset as one scene: its mosaic, and where its roads are."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize

from roadrisk.dataset import Dataset
from roadrisk.errors import DatasetError
from roadrisk.grid import FloatArray
from roadrisk.mosaic.picture import Mask, Picture
from roadrisk.mosaic.reader import MosaicReader
from roadrisk.roads.scenes import Truth, Window

LINES = "lines/roads.parquet"
_COLUMNS = ("road_class", "lanes", "geometry")
_KEPT_BYTES = 64 << 20
# a strip this wide has the centre of a pixel in every row or column that it crosses: lines hold together
_LEAST_PX = 1.0


class MosaicPlane:
    """The pictures of a view as one, by window over its tiles; a copy opens parts for itself.

    Raises
    ------
    DatasetError : the dataset has no such view, or a part is missing or damaged.
    """

    bands = 3

    def __init__(self, dataset: Dataset, view: str) -> None:
        self._made_of = (dataset, view)
        self._size = dataset.view(view).tile_size
        plan = dataset.view(view).plan or dataset.plan
        # of a neighbourhood too the blocks themselves: they are tiles, only smaller
        self._reader = MosaicReader(dataset.path, view, dataset.grid, self._size, plan)
        self._shape = dataset.grid.shape
        self._tiles: OrderedDict[tuple[int, int], Picture] = OrderedDict()
        self._most = max(4, _KEPT_BYTES // (4 * self._size**2))

    def __reduce__(self) -> tuple[Any, ...]:
        return MosaicPlane, self._made_of

    @property
    def height(self) -> int:
        return self._shape[0] * self._size

    @property
    def width(self) -> int:
        return self._shape[1] * self._size

    def read(self, window: Window) -> Picture:
        """Pixels (3, height, width) and where they are known; beyond the grid nothing is."""
        shape, size = (window.height, window.width), self._size
        picture = Picture(np.zeros((3, *shape), np.uint8), np.zeros(shape, bool))
        for row, col in _tiles_of(window, size, self._shape):
            tile = self._tile(row, col)
            there, here = _overlap(window, row * size, col * size, size)
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


@dataclass(frozen=True, eq=False)
class LineTruths:
    """Centre-lines drawn as wide as their roads; it reads no file, and threads may share it.

    A pixel is road where its centre is, so a road is drawn as wide as it is, on average.

    Parameters
    ----------
    tree : of the lines [px from the top left of the mosaic].
    half_px : (N,) half of their widths.
    known : (rows, cols) of the grid: whether the roads of a tile are known.
    tile_px : pixels along a side of a tile.
    """

    tree: shapely.STRtree
    half_px: FloatArray
    known: Mask
    tile_px: int

    def read(self, window: Window) -> Truth:
        """Where there is road, drawn and known in tiles whose roads are known."""
        y, x, height, width = window
        known, road = self._known(window), np.zeros((height, width), np.uint8)
        reach = self.half_px.max(initial=0.0)
        box = shapely.box(x - reach, y - reach, x + width + reach, y + height + reach)
        near = self.tree.query(box, predicate="intersects") if known.any() else ()
        if len(near):
            roads = shapely.buffer(self.tree.geometries[near], self.half_px[near], quad_segs=3)
            rasterize(roads.tolist(), out=road, transform=Affine.translation(x, y))
        return Truth(road.view(bool) & known, known)

    def close(self) -> None:
        """Nothing: no file is open."""

    def _known(self, window: Window) -> Mask:
        known = np.zeros((window.height, window.width), bool)
        for row, col in _tiles_of(window, self.tile_px, self.known.shape):
            there, _ = _overlap(window, row * self.tile_px, col * self.tile_px, self.tile_px)
            known[there] = self.known[row, col]
        return known


def centre_lines(dataset: Dataset) -> pa.Table:
    """The centre-lines of a dataset as on disk: `road_class`, `lanes` where known, and `geometry` as WKB.

    Raises
    ------
    DatasetError : it has none, or they are damaged.
    """
    if LINES not in dataset.manifest["files"]:
        raise DatasetError(
            f"{dataset.path} has no centre-lines to draw roads from; tile it with --roads SRC, or name a "
            "view that shows where roads are with --mask"
        )
    file = dataset.path / LINES
    try:
        with pq.ParquetFile(file) as lines:
            # the first format knows no lanes
            table = lines.read([name for name in _COLUMNS if name in lines.schema_arrow.names])
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{file} is damaged ({reason}); copy the dataset again or tile again") from None
    return table


def line_truths(
    dataset: Dataset, view: str, geometry: NDArray[np.object_], width_m: FloatArray, known: Mask
) -> LineTruths:
    """Centre-lines as where the roads of a view are.

    Parameters
    ----------
    geometry : (N,) in the grid's CRS.
    width_m : (N,) ground metres; what is narrower than a pixel is drawn as wide as one.
    known : (rows, cols) of the grid.
    """
    size = dataset.view(view).tile_size
    to_px = ~dataset.grid.picture_transform(size)
    drawn = shapely.transform(geometry, lambda at: np.column_stack(to_px @ (at[:, 0], at[:, 1])))
    width_px = width_m / dataset.metres_per_pixel(view)
    return LineTruths(shapely.STRtree(drawn), np.maximum(width_px, _LEAST_PX) / 2, known, size)


def _tiles_of(window: Window, size: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """(row, col) of the tiles of a grid under a window."""
    spans = [
        range(max(first // size, 0), min(-(-(first + length) // size), count))
        for first, length, count in zip(window[:2], window[2:], shape, strict=True)
    ]
    return [(row, col) for row in spans[0] for col in spans[1]]


def _overlap(window: Window, y: int, x: int, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a tile that begins at (y, x) is in a window, and where the window is in the tile."""
    there, here = [], []
    for first, length, start in zip(window[:2], window[2:], (y, x), strict=True):
        low, high = max(first, start), min(first + length, start + size)
        there.append(slice(low - first, high - first))
        here.append(slice(low - start, high - start))
    return (there[0], there[1]), (here[0], here[1])
