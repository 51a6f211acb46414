"""Directories: where each tile of a PMTiles archive lies. Pure: bytes in, places out.

An archive comes from anywhere: what it unpacks to is bounded, and a place outside it is an error.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from pmtiles.tile import Compression

from roadrisk.grid import IntArray

UNPACKED_BYTES = 32 << 20
# of a directory, from which arrays of forty times as much are made; writers stay far below
DIRECTORY_BYTES = 4 << 20
# as many tiles as zoom 30 has; a place in a file of an exabyte
_MOST = 1 << 61
_LONGEST_VARINT = 9


class Damaged(Exception):  # noqa: N818
    """Why bytes are no archive."""


@dataclass(frozen=True, eq=False)
class Directory:
    """Entries in the order of their tile ids.

    Parameters
    ----------
    ids : (N,) of the first tile of each entry.
    runs : (N,) tiles that share a picture; 0 where the entry is a directory below this one.
    offsets, lengths : (N,) [bytes] within the section of pictures or of directories.
    """

    ids: IntArray
    runs: IntArray
    offsets: IntArray
    lengths: IntArray

    def entries_of(self, tiles: IntArray) -> IntArray:
        """(M,) the entry that each tile is found by, -1 where there is none."""
        entry = np.searchsorted(self.ids, tiles, side="right") - 1
        run = np.where(entry >= 0, self.runs[entry], 1)
        found = (entry >= 0) & ((run == 0) | (tiles - self.ids[entry] < run))
        return np.where(found, entry, -1)


def directory_of(packed: bytes, compression: Compression) -> Directory:
    """A directory from its bytes.

    Raises
    ------
    Damaged : cut off, far too long, or numbers that no archive has.
    """
    numbers = _varints(unpacked(packed, compression, DIRECTORY_BYTES))
    count = int(numbers[0]) if len(numbers) else 0
    if count == 0 or len(numbers) != 1 + 4 * count:
        raise Damaged("a directory of the wrong length")
    steps, runs, lengths, places = numbers[1:].reshape(4, count)
    ids = np.cumsum(steps)
    if steps.sum(dtype=np.float64) > _MOST or lengths.sum(dtype=np.float64) > _MOST:
        raise Damaged("a directory with numbers out of bounds")
    if (steps[1:] == 0).any() or lengths.min() == 0 or places[0] == 0:
        raise Damaged("a directory whose entries are out of order or empty")
    # 0 is "right after the entry before"
    anchor = np.maximum.accumulate(np.where(places > 0, np.arange(count), 0))
    ends = np.cumsum(lengths)
    offsets = places[anchor] - 1 + (ends - lengths) - (ends - lengths)[anchor]
    return Directory(ids, runs, offsets, lengths)


def unpacked(packed: bytes, compression: Compression, most: int = UNPACKED_BYTES) -> bytes:
    """What compressed bytes hold.

    Parameters
    ----------
    most : of the bytes that they may hold.

    Raises
    ------
    Damaged : not of that compression, cut off, or more than `most`.
    """
    if compression in (Compression.NONE, Compression.UNKNOWN):
        if len(packed) > most:
            raise Damaged(f"a part of more than {most:,} bytes")
        return packed
    if compression is not Compression.GZIP:
        raise Damaged(f"compressed by {compression.name.lower()}, of which only gzip is read")
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        held = unpacking.decompress(packed, most)
    except zlib.error:
        raise Damaged("damaged gzip") from None
    if not unpacking.eof:
        raise Damaged(f"gzip that is cut off or holds more than {most:,} bytes")
    return held


def _varints(raw: bytes) -> IntArray:
    """(N,) little-endian base-128 numbers, https://protobuf.dev/programming-guides/encoding/#varints.

    >>> _varints(bytes([1, 0xAC, 0x02, 0])).tolist()
    [1, 300, 0]
    """
    octets = np.frombuffer(raw, np.uint8)
    last = np.flatnonzero(octets < 128)
    if not len(octets) or not len(last) or last[-1] != len(octets) - 1:
        raise Damaged("a directory that is cut off")
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() >= _LONGEST_VARINT:
        raise Damaged("a directory with numbers out of bounds")
    place = np.arange(len(octets)) - np.repeat(first, last - first + 1)
    return np.asarray(np.add.reduceat((octets & 127).astype(np.int64) << (7 * place), first), np.int64)
