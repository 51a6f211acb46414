"""Rows of an array that are made once and kept in a file.

The file is sparse and read through a memory map, so that memory stays flat and only rows that were asked
for take room on the disk. A second file marks the rows that are there; a mark is written after its row, so
that a run that was killed leaves nothing half-made behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.errors import DatasetError
from roadrisk.grid import IntArray
from roadrisk.progress import Progress, silent

ROWS_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Kept:
    """`count` rows of `shape`, made by `rows_of` when first asked for.

    Parameters
    ----------
    path : of the array; its marks stand beside it as `.done`.
    rows_of : (n,) indices -> (n, *shape), for at most 32 rows at once.
    stage : what making them is called where progress is shown.
    """

    path: Path
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows_of: Callable[[IntArray], NDArray[Any]]
    stage: str

    def __len__(self) -> int:
        return self.count

    def rows(self, indices: IntArray) -> NDArray[Any]:
        """(n, *shape) of these rows, those missing made first.

        Raises
        ------
        DatasetError : the disk is full or the folder cannot be written.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if not len(indices):
            return np.empty((0, *self.shape), self.dtype)
        self.fill(indices)
        values = np.memmap(self.path, self.dtype, "r", shape=(self.count, *self.shape))
        return np.asarray(values[indices])

    def fill(self, indices: IntArray, progress: Progress = silent) -> None:
        """Make those of these rows that are missing."""
        try:
            self._make_room()
            done = np.memmap(self._marks, np.uint8, "r", shape=(self.count,))
            missing = np.unique(indices[done[indices] == 0])
            for first in range(0, len(missing), ROWS_AT_ONCE):
                chunk = missing[first : first + ROWS_AT_ONCE]
                self._write(chunk, self.rows_of(chunk))
                progress(self.stage, first + len(chunk), len(missing))
        except OSError as error:
            raise DatasetError(
                f"{self.path.parent}: cannot keep prepared pictures there ({error.strerror or error}); "
                "make room or permit writing"
            ) from None

    @property
    def _marks(self) -> Path:
        return self.path.with_suffix(".done")

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def _make_room(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for path, size in ((self.path, self.count * self._row_bytes), (self._marks, self.count)):
            if not path.exists() or path.stat().st_size != size:
                self._marks.unlink(missing_ok=True)
                with path.open("wb") as file:
                    file.truncate(size)

    def _write(self, indices: IntArray, values: NDArray[Any]) -> None:
        # written, not mapped: a full disk is then an error instead of a signal that ends the process
        values = np.ascontiguousarray(values, self.dtype)
        with self.path.open("r+b", buffering=0) as array, self._marks.open("r+b", buffering=0) as marks:
            for index, value in zip(indices.tolist(), values, strict=True):
                _write_all(array.fileno(), value.tobytes(), index * self._row_bytes)
            for index in indices.tolist():
                _write_all(marks.fileno(), b"\x01", index)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
