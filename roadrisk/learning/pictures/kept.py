"""Rows that are made once and kept in a file, found again by their keys.

The file is records of one size: key, checksum, row. Records are only ever added, whole, so that whoever has
mapped the file into memory goes on with what was there, and any number of processes may add and read at the
same time. A record that is cut short or does not have its checksum counts as missing and is made again.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.errors import DatasetError
from roadrisk.grid import IntArray

ROWS_AT_ONCE = 32
ABSENT = -1
# a dataset may come from a stranger: neither write through a link, nor wait for ever at a pipe
OWN_FILE = os.O_NOFOLLOW | os.O_NONBLOCK


class Kept:
    """M rows of `shape`, as far as the file has them.

    Parameters
    ----------
    path : of the file, which need not be there yet.
    keys : (M,) of each row, the same where rows are the same. The file may hold others besides.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     kept = Kept(Path(folder) / "squares", np.array([5, 6, 7]), (1,), np.dtype(np.float32))
    ...     kept.add(np.array([0, 2]), np.array([[25.0], [49.0]]))
    ...     kept.missing(np.array([0, 1, 2])).tolist(), kept.rows(np.array([2, 0])).tolist()
    ([1], [[49.0], [25.0]])
    """

    def __init__(self, path: Path, keys: IntArray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path = path
        self.record = np.dtype([("key", "<i8"), ("checksum", "<u4"), ("row", dtype, shape)])
        self._keys, self._first, self._which = np.unique(
            np.asarray(keys, np.int64), return_index=True, return_inverse=True
        )
        self._forget()

    def __len__(self) -> int:
        return len(self._which)

    def missing(self, indices: IntArray) -> IntArray:
        """(m,) those of these rows that the file lacks, in order; of several with one key the first of all.

        Raises
        ------
        DatasetError : the file cannot be read.
        """
        return np.sort(self._first[self._lacking(np.unique(self._which[indices]))])

    def rows(self, indices: IntArray) -> NDArray[Any]:
        """(n, *shape) of these rows.

        Raises
        ------
        DatasetError : the file cannot be read.
        ValueError : some of them are missing.
        """
        indices = np.asarray(indices, np.int64)
        if len(self.missing(indices)):
            raise ValueError(f"rows that were never made are asked of {self.path.name}")
        return np.asarray(self._records["row"][self._slot[self._which[indices]]])

    def add(self, indices: IntArray, rows: NDArray[Any]) -> None:
        """Keep these rows, but for those that the file has by now.

        Raises
        ------
        DatasetError : the disk is full or the folder cannot be written.
        """
        which, first = np.unique(self._which[indices], return_index=True)
        with self._told(), self._alone() as descriptor:
            lacking = np.isin(which, self._lacking(which))
            records = np.zeros(int(lacking.sum()), self.record)
            records["key"] = self._keys[which[lacking]]
            records["row"] = rows[first[lacking]]
            records["checksum"] = [_checksum(record) for record in records]
            # written, not mapped: a full disk is then an error instead of a signal that ends the process
            _write_all(descriptor, records.tobytes(), self._whole_records(descriptor) * self.record.itemsize)
        self._lacking(which)

    def _lacking(self, which: IntArray) -> IntArray:
        """Those of these keys, by their number, that the file has no whole record of."""
        which = which[self._slot[which] == ABSENT]
        if len(which):
            with self._told():
                self._look()
            for number in which[self._seen[which] != ABSENT].tolist():
                if self._is_whole(self._seen[number]):
                    self._slot[number] = self._seen[number]
        return np.asarray(which[self._slot[which] == ABSENT])

    def _forget(self) -> None:
        self._file: tuple[int, int] | None = None
        self._records = np.zeros(0, self.record)
        self._seen = np.full(len(self._keys), ABSENT)  # the last record of each key
        self._slot = np.full(len(self._keys), ABSENT)  # the same where it is known to be whole

    def _look(self) -> None:
        """See which records were added since."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | OWN_FILE)
        except FileNotFoundError:
            return self._forget()
        with os.fdopen(descriptor, "rb") as file:
            stat = os.fstat(descriptor)
            before, count = len(self._records), self._whole_records(descriptor)
            if self._file != (stat.st_dev, stat.st_ino) or count < before:
                self._forget()
                self._file, before = (stat.st_dev, stat.st_ino), 0
            if count > before:
                self._records = np.memmap(file, self.record, "r", shape=(count,))
                self._find(before)
        return None

    def _find(self, first: int) -> None:
        """Know where the rows of our keys are among the records from `first` on."""
        keys = np.asarray(self._records["key"][first:])
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        ours = self._keys[place] == keys
        self._seen[place[ours]] = first + np.flatnonzero(ours)  # of several the last

    def _is_whole(self, slot: int) -> bool:
        return bool(self._records["checksum"][slot] == _checksum(self._records[slot]))

    def _whole_records(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size // self.record.itemsize

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """The file, open for writing and locked against other writers."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | OWN_FILE, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DatasetError(
                f"{self.path.parent}: cannot keep prepared pictures there ({error.strerror or error}); "
                "make room or permit writing"
            ) from None


def chunks_to_make(
    kept: Sequence[Kept], indices: IntArray, size: int = ROWS_AT_ONCE
) -> Iterator[tuple[IntArray, int, int]]:
    """Those of these rows that some of the files lack, at most `size` at once.

    Chunks come in an order of chance, and rows that another process has made by then are left out: processes
    that need the same rows share the work.

    Parameters
    ----------
    kept : files of the same rows, one or more.

    Yields
    ------
    A chunk, how many rows will be done with it, and how many there are to do.
    """
    asked = _lacked_by_any(kept, indices)
    done = 0
    for first in np.random.default_rng().permutation(np.arange(0, len(asked), size)).tolist():
        chunk = asked[first : first + size]
        done += len(chunk)
        lacking = _lacked_by_any(kept, chunk)
        if len(lacking):
            yield lacking, done, len(asked)


def _lacked_by_any(kept: Sequence[Kept], indices: IntArray) -> IntArray:
    return np.unique(np.concatenate([one.missing(indices) for one in kept]))


def _checksum(record: np.void) -> int:
    return zlib.crc32(record["row"].tobytes(), zlib.crc32(record["key"].tobytes()))


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
