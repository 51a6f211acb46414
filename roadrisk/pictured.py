"""The pictures of a dataset's or a table's tiles, by the tiles' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray

from roadrisk.dataset import Dataset
from roadrisk.grid import IntArray
from roadrisk.imagery.picture_files import file_inside, picture_of
from roadrisk.maps.pictures import Overview, TilePictures
from roadrisk.mosaic.overview import overview_path
from roadrisk.mosaic.reader import MosaicReader

if TYPE_CHECKING:  # its module loads what models learn with, which pictures do not need
    from roadrisk.inputs import Tiles

NAMELESS = "picture"  # the one view of a table


@dataclass(frozen=True, eq=False)
class DatasetPictures:
    """Pictures of a dataset's tiles; not for several threads at once.

    Parameters
    ----------
    views : those that are shown.
    readers : one for each.
    names : of N tiles.
    rows, cols : (N,) where each lies.
    """

    dataset: Dataset
    views: tuple[str, ...]
    readers: Mapping[str, MosaicReader]
    names: pd.Series[str]
    rows: IntArray
    cols: IntArray

    def overview(self) -> Overview | None:
        """Of the first view."""
        with rasterio.open(self.dataset.path / overview_path(self.views[0])) as source:
            pixels = np.concatenate([source.read(), source.dataset_mask()[None]])
        return Overview(pixels, self.dataset.grid.bounds, self.dataset.grid.crs)

    def picture(self, tile_id: str, view: str) -> NDArray[np.uint8] | None:
        """(4, H, W) red, green, blue and opacity of a tile; None where it has none."""
        # looked for one by one: a table of a million names would take more memory than all the rest
        found = np.flatnonzero((self.names == tile_id).to_numpy(dtype=bool))
        if not len(found) or view not in self.readers:
            return None
        row, col = int(self.rows[found[0]]), int(self.cols[found[0]])
        seen = self.readers[view].valid(row, col)
        if not seen.any():
            return None
        return np.concatenate([self.readers[view].read(row, col), np.uint8(255) * seen[None]])


@dataclass(frozen=True, eq=False)
class TablePictures:
    """Pictures that a table names, inside its folder.

    Parameters
    ----------
    paths : by `tile_id`, relative to `folder`.
    """

    folder: Path
    paths: Mapping[str, str]
    views: tuple[str, ...] = (NAMELESS,)

    def overview(self) -> Overview | None:
        """Nothing: a table's pictures lie apart."""
        return None

    def picture(self, tile_id: str, view: str) -> NDArray[np.uint8] | None:
        """(4, H, W) red, green, blue and opacity of a tile; None where it has none."""
        if tile_id not in self.paths or view not in self.views:
            return None
        pixels = picture_of(file_inside(self.folder, self.paths[tile_id]))
        return np.concatenate([pixels, np.full((1, *pixels.shape[1:]), 255, np.uint8)])


def pictures_of(tiles: Tiles) -> TilePictures | None:
    """The pictures of tiles that are from one dataset or one table; None where there are none.

    Of a dataset the views that were asked for come first, then its others, masks among them.
    """
    if tiles.dataset is not None:
        asked = [view.name for view in tiles.views]
        return dataset_pictures(tiles.dataset, asked)
    if tiles.metros or not tiles.has_image.any():
        return None
    named = tiles.frame["image_path"].notna()
    ids, paths = tiles.frame["tile_id"][named], tiles.frame["image_path"][named]
    return TablePictures(tiles.path.parent, dict(zip(ids, paths.astype(str), strict=True)))


def dataset_pictures(dataset: Dataset, first: Sequence[str] = ()) -> TilePictures | None:
    """The pictures of all views of a dataset, those named `first` before the others."""
    views = tuple(dict.fromkeys([*first, *(view.name for view in dataset.views)]))
    if not views:
        return None
    frame = replace(dataset, columns=()).tiles()
    readers = {view: dataset.reader(view) for view in views}
    return DatasetPictures(
        dataset, views, readers, frame["tile_id"], frame["row"].to_numpy(), frame["col"].to_numpy()
    )
