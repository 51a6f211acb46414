"""Reading a mosaic: a tile is one block of its part, its neighbourhood as many blocks as it has tiles."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from roadrisk.errors import DatasetError
from roadrisk.grid import Grid, Part
from roadrisk.mosaic.blocks import PartFile
from roadrisk.mosaic.parts import Known, known_of, opened_part, part_of, part_path, parts_path
from roadrisk.mosaic.picture import Mask, Pixels

OPEN_PARTS = 64


class MosaicReader:
    """Pictures of single tiles, each read from its part, never through the VRT.

    It may be pickled, and used after a fork; threads each need their own.

    Parameters
    ----------
    dataset_dir : folder of the dataset.
    tile_size : pixels along the side of a block.
    plan_hash : of the plan the parts must be of.
    neighbourhood : N (odd): a picture is that of N x N tiles with the asked one in the middle.

    Raises
    ------
    DatasetError : no table of parts, a part is missing, of another plan, or cut otherwise.
    """

    def __init__(
        self,
        dataset_dir: Path,
        view: str,
        grid: Grid,
        tile_size: int,
        plan_hash: str,
        neighbourhood: int = 1,
    ) -> None:
        self._made_of = (dataset_dir, view, grid, tile_size, plan_hash, neighbourhood)
        self._folder, self._view, self._grid = Path(dataset_dir), view, grid
        self._block, self._plan_hash = tile_size, plan_hash
        self._reach, self._side = neighbourhood // 2, neighbourhood * tile_size
        self._written = _written_parts(self._folder / parts_path(view))
        self._open: OrderedDict[Part, PartFile] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return MosaicReader, self._made_of

    def read(self, row: int, col: int) -> Pixels:
        """(3, N * tile_size, N * tile_size) of a tile, zeros where there is no picture."""
        nothing = np.zeros((self._side, self._side, 3), np.uint8)
        return self._joined(row, col, PartFile.pixels, nothing).transpose(2, 0, 1)

    def valid(self, row: int, col: int) -> Mask:
        """(N * tile_size, N * tile_size) whether there is a picture."""
        return self._joined(row, col, PartFile.valid, np.zeros((self._side, self._side), bool))

    def known(self, part: Part) -> Known | None:
        """What is known of the tiles of a part besides their picture; None where it has none."""
        file = self._file(part)
        return None if file is None else known_of(file, part)

    def close(self) -> None:
        """Close the open parts; a later read opens them again."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _joined(
        self, row: int, col: int, of: Callable[[PartFile, int, int], NDArray[Any]], picture: NDArray[Any]
    ) -> NDArray[Any]:
        """`picture` with the blocks of a neighbourhood put into it."""
        if not (0 <= row < self._grid.rows and 0 <= col < self._grid.cols):
            raise DatasetError(
                f"no tile at row {row}, column {col}: the grid has {self._grid.rows} x {self._grid.cols}"
            )
        for r, c in [(row, col), *self._grid.neighbours(row, col, self._reach)]:
            part = part_of(self._grid, self._block, r, c)
            file = self._file(part)
            if file is None:
                continue
            block = of(file, r - part.row, c - part.col)
            if not self._reach:
                return block
            y, x = ((at + self._reach) * self._block for at in (r - row, c - col))
            picture[y : y + self._block, x : x + self._block] = block
        return picture

    def _file(self, part: Part) -> PartFile | None:
        if (part.row, part.col) not in self._written:
            return None
        if part in self._open:
            self._open.move_to_end(part)
            return self._open[part]
        path = self._folder / part_path(self._view, part)
        self._open[part] = file = opened_part(path, part, self._block, self._plan_hash)
        if len(self._open) > OPEN_PARTS:
            self._open.popitem(last=False)[1].close()
        return file


def _written_parts(path: Path) -> frozenset[tuple[int, int]]:
    if not path.is_file():
        raise DatasetError(f"no {path}: the view was not cut; tile again with --imagery")
    table = pq.read_table(path, columns=["row", "col", "state"]).to_pydict()
    places = zip(table["row"], table["col"], table["state"], strict=True)
    return frozenset((row, col) for row, col, state in places if state == "written")
