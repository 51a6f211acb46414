"""Accepted rows of a source on disk, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

KeyArray = NDArray[np.uint64]
UNORDERED = ("id_key",)  # keys that no order of dates changes
_AT_ONCE = 1 << 20  # keys compared in memory at once
_BATCH_ROWS = 1 << 17


@dataclass(frozen=True, eq=False)
class Stored:
    """Rows of one file.

    Parameters
    ----------
    path : Parquet with the rows as accepted.
    kept : (N,) bool, the rows that still count.
    finished : stored columns -> the columns that are asked for.
    order : end of the names of the keys that hold, where several were stored.
    """

    path: Path
    kept: NDArray[np.bool_]
    finished: Callable[[pd.DataFrame], pd.DataFrame]
    order: str = ""

    def batches(self) -> Iterator[pd.DataFrame]:
        """Rows that count, a batch at a time; the index is the place among every row."""
        first = 0
        if not len(self.kept):
            return
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                frame = batch.to_pandas()
                frame.index = pd.RangeIndex(first, first + len(frame))
                first += len(frame)
                yield self.finished(frame[self.kept[frame.index]])

    def keys(self, column: str) -> Iterator[tuple[NDArray[np.int64], KeyArray, KeyArray]]:
        """(place, key, content) of the rows that count and have a key, a batch at a time."""
        first = 0
        if not len(self.kept):
            return
        names = [column if column in UNORDERED else column + self.order, f"content{self.order}"]
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                key, content = (batch.column(name).to_numpy() for name in names)
                place = np.arange(first, first + len(key))
                first += len(key)
                known = self.kept[place] & (key != 0)
                yield place[known], key[known], content[known]

    def without(self, gone: NDArray[np.bool_]) -> Stored:
        """The same rows, those at the places of `gone` no longer counting."""
        return replace(self, kept=self.kept & ~gone)


@dataclass(frozen=True, eq=False)
class Written(Stored):
    """Rows that a dataset keeps, a batch at a time as they were written.

    Sums of weights over other batches would differ in the last bit.
    """

    def batches(self) -> Iterator[pd.DataFrame]:
        """Rows that count, a batch at a time; the index is the place among every row."""
        first = 0
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                frame = file.read_row_group(group).to_pandas()
                frame.index = pd.RangeIndex(first, first + len(frame))
                first += len(frame)
                yield self.finished(frame[self.kept[frame.index]])


class Writer:
    """Chunks of rows become one Parquet file; nothing is written where there are none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._file: Any = None

    def add(self, frame: pd.DataFrame) -> None:
        """Append rows with the same columns as those before."""
        table = pa.Table.from_pandas(frame, preserve_index=False)
        if self._file is None:
            self._file = pq.ParquetWriter(self.path, table.schema, compression="zstd")
        self._file.write_table(table.cast(self._file.schema))
        self.rows += len(frame)

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()


def keys_of(*columns: Any) -> KeyArray:
    """(N,) one number for the values of a row; the same for the same values, 0 for none of them.

    >>> keys = keys_of(np.array(["a", "b", "a"], dtype=object), np.array([1.0, 2.0, 1.0]))
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    key = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        values = np.asarray(column)
        hashed = pd.util.hash_array(values, categorize=values.dtype == object)
        key = key * np.uint64(0x9E3779B97F4A7C15) + hashed
    return np.maximum(key, np.uint64(1))


def repeats(stores: Sequence[Stored], columns: Sequence[str]) -> list[NDArray[np.bool_]]:
    """(N,) bool for each store: rows that repeat another by any of several keys.

    Of rows with the same key the one with the smallest content stays, whatever their order.
    """
    return _any([_repeats(stores, column) for column in columns])


def also_in(
    stores: Sequence[Stored], others: Sequence[Stored], columns: Sequence[str]
) -> list[NDArray[np.bool_]]:
    """(N,) bool for each store: rows of which one of several keys is that of a row of the others."""
    return _any([_also_in(stores, others, column) for column in columns])


def _any(masks: list[list[NDArray[np.bool_]]]) -> list[NDArray[np.bool_]]:
    return [np.any(several, axis=0) for several in zip(*masks, strict=True)]


def _repeats(stores: Sequence[Stored], column: str) -> list[NDArray[np.bool_]]:
    gone = [np.zeros(len(store.kept), dtype=bool) for store in stores]
    parts = _parts(stores)
    for part in range(parts):
        found = [
            (i, *keys) for i, store in enumerate(stores) for keys in _keys_of_part(store, column, part, parts)
        ]
        if not found:
            continue
        which = np.concatenate([np.full(len(place), i) for i, place, _, _ in found])
        place, key, content = (np.concatenate([f[j] for f in found]) for j in (1, 2, 3))
        order = np.lexsort((content, key))
        again = order[1:][key[order[1:]] == key[order[:-1]]]
        for i, mask in enumerate(gone):
            mask[place[again[which[again] == i]]] = True
    return gone


def _also_in(stores: Sequence[Stored], others: Sequence[Stored], column: str) -> list[NDArray[np.bool_]]:
    gone = [np.zeros(len(store.kept), dtype=bool) for store in stores]
    parts = _parts([*stores, *others])
    for part in range(parts):
        known = [keys[1] for store in others for keys in _keys_of_part(store, column, part, parts)]
        there = np.unique(np.concatenate(known)) if known else np.empty(0, dtype=np.uint64)
        for store, mask in zip(stores, gone, strict=True):
            for place, key, _ in _keys_of_part(store, column, part, parts):
                mask[place[np.isin(key, there)]] = True
    return gone


def _parts(stores: Sequence[Stored]) -> int:
    return max(1, sum(len(store.kept) for store in stores) // _AT_ONCE)


def _keys_of_part(
    store: Stored, column: str, part: int, parts: int
) -> Iterator[tuple[NDArray[np.int64], KeyArray, KeyArray]]:
    for place, key, content in store.keys(column):
        mine = key % np.uint64(parts) == part
        yield place[mine], key[mine], content[mine]
