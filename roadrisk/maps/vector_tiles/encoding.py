"""Mapbox Vector Tile 2.1 from arrays: https://github.com/mapbox/vector-tile-spec/tree/master/2.1.

All that a feature says is whole numbers, down to the tags and lengths of its message. So the features of a
tile are one array of numbers, made at once, and turned into bytes at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import IntArray
from roadrisk.maps.vector_tiles.values import Tags, value_table
from roadrisk.maps.vector_tiles.varints import message, runs, varint_sizes, varints
from roadrisk.maps.vector_tiles.world import EXTENT

POINT, LINE, POLYGON = 1, 2, 3
# numbers of the fields in the specification's vector_tile.proto
LAYER, NAME, FEATURE, KEY, EXTENT_FIELD, VERSION = 3, 1, 2, 3, 5, 15
ID_TAG, TAGS_TAG, TYPE_TAG, GEOMETRY_TAG, FEATURE_TAG = (
    1 << 3,
    2 << 3 | 2,
    3 << 3,
    4 << 3 | 2,
    FEATURE << 3 | 2,
)


@dataclass(frozen=True, eq=False)
class Drawn:
    """What n features look like in a tile.

    Parameters
    ----------
    rows : (n,) of the layer.
    kinds : (n,) POINT, LINE or POLYGON.
    commands : (m,) the specification's command and parameter integers of all features.
    lengths : (n,) how many of them each has.
    stands_for : (n,) features of the layer that each is drawn for.
    """

    rows: IntArray
    kinds: NDArray[np.uint8]
    commands: NDArray[np.uint32]
    lengths: IntArray
    stands_for: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def and_then(self, others: Sequence[Drawn]) -> Drawn:
        """These and others after them."""
        if not others:
            return self
        every = [[getattr(each, part.name) for each in (self, *others)] for part in fields(self)]
        return Drawn(*(np.concatenate(parts) for parts in every))


def mvt(name: str, drawn: Drawn, properties: Mapping[str, Tags]) -> bytes:
    """A tile with one layer; feature ids are rows.

    Parameters
    ----------
    properties : of the n features, by their keys.
    """
    table, tags, tag_lengths = value_table(properties)
    keys = b"".join(message(KEY, key.encode()) for key in properties)
    features = _features(drawn, tags, tag_lengths)
    ends = varints(np.array([EXTENT_FIELD << 3, EXTENT, VERSION << 3, 2])).tobytes()
    return message(LAYER, message(NAME, name.encode()) + features + keys + table + ends)


def _features(drawn: Drawn, tags: IntArray, tag_lengths: IntArray) -> bytes:
    """The messages of n features, from their (t,) key and value indices."""
    tag_bytes = _sums(varint_sizes(tags), tag_lengths)
    command_bytes = _sums(varint_sizes(drawn.commands), drawn.lengths)
    n = len(drawn)
    head = np.empty((n, 6), dtype=np.int64)
    head[:, 0], head[:, 2], head[:, 3] = FEATURE_TAG, ID_TAG, drawn.rows
    head[:, 4], head[:, 5] = TAGS_TAG, tag_bytes
    middle = np.empty((n, 4), dtype=np.int64)
    middle[:, 0], middle[:, 1] = TYPE_TAG, drawn.kinds
    middle[:, 2], middle[:, 3] = GEOMETRY_TAG, command_bytes
    head[:, 1] = 5 + varint_sizes(drawn.rows) + varint_sizes(tag_bytes) + varint_sizes(command_bytes)
    head[:, 1] += tag_bytes + command_bytes
    return varints(_interleaved(head, tags, tag_lengths, middle, drawn.commands, drawn.lengths)).tobytes()


def _interleaved(
    head: IntArray,
    tags: IntArray,
    tag_lengths: IntArray,
    middle: IntArray,
    commands: NDArray[np.uint32],
    lengths: IntArray,
) -> IntArray:
    """The four parts of each feature, one feature after another."""
    ends = np.cumsum(head.shape[1] + tag_lengths + middle.shape[1] + lengths)
    made = np.empty(int(ends[-1]), dtype=np.int64)
    after_tags = ends - lengths - middle.shape[1]
    made[(after_tags - tag_lengths - head.shape[1])[:, None] + np.arange(head.shape[1])] = head
    made[runs(after_tags - tag_lengths, tag_lengths)] = tags
    made[after_tags[:, None] + np.arange(middle.shape[1])] = middle
    made[runs(ends - lengths, lengths)] = commands
    return made


def _sums(values: IntArray, lengths: IntArray) -> IntArray:
    """(n,) sums of consecutive runs of values."""
    total = np.concatenate([[0], np.cumsum(values)])
    ends = np.cumsum(lengths)
    return np.asarray(total[ends] - total[ends - lengths])
