"""Whole numbers in the bytes of protocol buffers: base 128, the lowest seven bits first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import IntArray

Bytes = NDArray[np.uint8]


def varint_sizes(numbers: NDArray[Any]) -> IntArray:
    """(n,) bytes that each of (n,) numbers in [0, 2^63) takes."""
    sizes = np.ones(len(numbers), dtype=np.int64)
    most = int(numbers.max(initial=0))
    for bits in range(7, most.bit_length(), 7):
        sizes += numbers >= (1 << bits)
    return sizes


def varints(numbers: NDArray[Any]) -> Bytes:
    """The bytes of (n,) numbers in [0, 2^63), one after another.

    >>> varints(np.array([1, 300])).tolist()  # 300 is the example of the protocol buffers' documentation
    [1, 172, 2]
    """
    sizes = varint_sizes(numbers)
    ends = np.cumsum(sizes)
    made = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    at, rest = ends - sizes, numbers
    while len(rest):
        longer = rest > 0x7F
        made[at] = (rest & 0x7F) | (longer.view(np.uint8) << 7)
        at, rest = at[longer] + 1, rest[longer] >> 7
    return made


def zigzag(numbers: NDArray[Any]) -> NDArray[Any]:
    """Signed numbers as unsigned ones, small where they were near zero.

    >>> zigzag(np.array([0, -1, 1, -2])).tolist()
    [0, 1, 2, 3]
    """
    return (numbers << 1) ^ (numbers >> 63)


def runs(starts: IntArray, lengths: IntArray) -> IntArray:
    """Places that follow each start, as many as its length, one run after another.

    >>> runs(np.array([5, 0]), np.array([3, 2])).tolist()
    [5, 6, 7, 0, 1]
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def message(field: int, content: bytes) -> bytes:
    """A field of a protocol buffer that is bytes, text or another message."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """One number; an array of one takes twenty times as long."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])
