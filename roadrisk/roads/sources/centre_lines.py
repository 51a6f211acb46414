"""Where roads are by the centre-lines of a dataset, drawn as wide as their roads."""

from __future__ import annotations

from dataclasses import dataclass

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
from roadrisk.mosaic.picture import Mask
from roadrisk.roads.scenes import Truth, Window, within
from roadrisk.roads.sources.mosaics import tiles_of

LINES = "lines/roads.parquet"
_COLUMNS = ("road_class", "lanes", "geometry")
# a strip this wide has the centre of a pixel in every row or column that it crosses: lines hold together
_LEAST_PX = 1.0


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
        size = self.tile_px
        for row, col in tiles_of(window, size, self.known.shape):
            known[within(Window(row * size, col * size, size, size), window)] = self.known[row, col]
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
