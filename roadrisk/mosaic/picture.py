"""A picture of a part, and what is known of each of its tiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import Part

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
# ISO dates; empty where nothing says
DateArray = NDArray[np.str_]


@dataclass(frozen=True)
class Picture:
    """Pixels and where they are known.

    Parameters
    ----------
    pixels : (3, H, W) red, green, blue; 0 where not `valid`.
    valid : (H, W).
    """

    pixels: Pixels
    valid: Mask


class Spent(NamedTuple):
    """Where the time of making a part went [s]."""

    decode: float
    warp: float
    write: float


def summed(times: Iterable[Spent]) -> Spent:
    """The seconds of several parts together.

    >>> summed([Spent(1.0, 2.0, 0.5), Spent(1.0, 0.0, 0.5)])
    Spent(decode=2.0, warp=2.0, write=1.0)
    """
    return Spent(*(float(sum(every)) for every in zip(Spent(0.0, 0.0, 0.0), *times, strict=True)))


@dataclass(frozen=True)
class Painted:
    """The picture of a part.

    Parameters
    ----------
    first, last : (rows, cols) dates of what each tile shows; empty without a picture, and where a part of it
        has no date.
    failed : (rows, cols) whether a sheet over the tile could not be read; such a tile has no picture.
    reasons : why, once a sheet.
    """

    picture: Picture
    first: DateArray
    last: DateArray
    failed: Mask
    reasons: tuple[str, ...]
    spent: Spent


class Painter(Protocol):
    """Makes the picture of a part; goes to worker processes, so it may be pickled."""

    def painted(self, part: Part) -> Painted: ...


def undated(part: Part) -> DateArray:
    """(rows, cols) dates of which none is known."""
    return np.full((part.rows, part.cols), "", dtype="U10")
