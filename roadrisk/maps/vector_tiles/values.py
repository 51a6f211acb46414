"""The properties of a tile's features: one table of values that all of them point to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from roadrisk.grid import IntArray
from roadrisk.maps.vector_tiles.varints import runs, varint_sizes, varints, zigzag

# of a layer's field `values`, and of the fields of a value, in the specification's vector_tile.proto
VALUES_TAG = 4 << 3 | 2
STRING_TAG, DOUBLE_TAG, SINT_TAG, BOOL_TAG = 1 << 3 | 2, 3 << 3 | 1, 6 << 3, 7 << 3
BOTH_TRUTHS = bytes([VALUES_TAG, 2, BOOL_TAG, 0, VALUES_TAG, 2, BOOL_TAG, 1])


@dataclass(frozen=True, eq=False)
class Tags:
    """A property of n features.

    Parameters
    ----------
    messages : of the k values that differ, as a tile's table holds them.
    count : k.
    index : (n,) place of each feature's value among them; -1 without one.
    """

    messages: bytes
    count: int
    index: IntArray


def field_values(column: pd.Series[Any]) -> pa.Array:
    """(N,) truths, whole numbers, numbers or texts; whatever else a column holds is its text."""
    try:
        values = pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        known = column.notna()
        values = pa.array([str(v) if k else None for v, k in zip(column, known, strict=True)], pa.string())
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    kind = values.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return values
    if pa.types.is_floating(kind):
        return values.cast(pa.float64())
    return values.cast(pa.large_string())


def tags(values: pa.Array) -> Tags:
    """The property that (n,) values are."""
    if pa.types.is_boolean(values.type):
        index = values.cast(pa.int8()).fill_null(-1).to_numpy(zero_copy_only=False)
        return Tags(BOTH_TRUTHS, 2, index.astype(np.int64))
    coded = values.dictionary_encode()
    index = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    different = coded.dictionary
    return Tags(_messages(different), len(different), index)


def value_table(properties: Mapping[str, Tags]) -> tuple[bytes, IntArray, IntArray]:
    """The table, the (t,) indices of key and value of all features, and the (n,) number of them."""
    before = np.cumsum([0] + [each.count for each in properties.values()])
    index = np.stack([each.index for each in properties.values()], axis=1)  # (n, P)
    pairs = np.empty((*index.shape, 2), dtype=np.int64)
    pairs[..., 0] = np.arange(index.shape[1])
    pairs[..., 1] = index + before[:-1]
    known = index >= 0
    chosen = pairs.reshape(-1) if known.all() else pairs[known].reshape(-1)
    return b"".join(each.messages for each in properties.values()), chosen, 2 * known.sum(axis=1)


def _messages(values: pa.Array) -> bytes:
    kind = values.type
    if pa.types.is_floating(kind):
        made = np.empty((len(values), 11), dtype=np.uint8)
        made[:, :3] = VALUES_TAG, 9, DOUBLE_TAG
        made[:, 3:] = values.to_numpy(zero_copy_only=False).astype("<f8").view(np.uint8).reshape(-1, 8)
        return made.tobytes()
    if pa.types.is_large_string(kind):
        return _texts(values)
    numbers = zigzag(values.to_numpy(zero_copy_only=False).astype(np.int64))
    made = np.empty((len(numbers), 4), dtype=np.int64)
    made[:, 0], made[:, 1] = VALUES_TAG, 1 + varint_sizes(numbers)
    made[:, 2], made[:, 3] = SINT_TAG, numbers
    return varints(made.reshape(-1)).tobytes()


def _texts(values: pa.Array) -> bytes:
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(ends)
    heads = np.empty((len(values), 4), dtype=np.int64)
    heads[:, 0], heads[:, 2], heads[:, 3] = VALUES_TAG, STRING_TAG, lengths
    heads[:, 1] = 1 + varint_sizes(lengths) + lengths
    head_lengths = varint_sizes(heads.reshape(-1)).reshape(-1, 4).sum(axis=1)
    after_heads = np.cumsum(head_lengths + lengths) - lengths
    made = np.empty(int((head_lengths + lengths).sum()), dtype=np.uint8)
    made[runs(after_heads - head_lengths, head_lengths)] = varints(heads.reshape(-1))
    if data is not None:
        made[runs(after_heads, lengths)] = np.frombuffer(data, dtype=np.uint8)[ends[0] : ends[-1]]
    return made.tobytes()
