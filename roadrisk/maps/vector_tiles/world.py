"""The world as a unit square in Web Mercator, x from west to east, y from north to south."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from roadrisk.grid import FloatArray, LngLatBbox, transformer
from roadrisk.gridding import MERCATOR_HALF_M

EXTENT = 4096  # units along a side of a tile
BUFFER = 64  # units beyond it whose features a tile holds too: what is drawn around a place crosses its edge
WEB_MERCATOR = "EPSG:3857"


class WorldBox(NamedTuple):
    """A box of the unit square."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: WorldBox) -> bool:
        """Whether both share more than an edge or a corner."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: WorldBox) -> WorldBox:
        """What both share."""
        return WorldBox(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def lnglat(self) -> LngLatBbox:
        """In degrees.

        >>> WorldBox(0.25, 0.0, 0.5, 0.5).lnglat()
        LngLatBbox(west=-90.0, south=0.0, east=0.0, north=85.0511287798066)
        """
        south, north = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * np.array([self.bottom, self.top])))))
        return LngLatBbox(self.left * 360 - 180, float(south), self.right * 360 - 180, float(north))


def world_xy(x: ArrayLike, y: ArrayLike, crs: str) -> tuple[FloatArray, FloatArray]:
    """Points in `crs` as points of the unit square; beyond its north and south edge, on that edge."""
    if crs != WEB_MERCATOR:
        x, y = transformer(crs, WEB_MERCATOR).transform(x, y)
    side = 2 * MERCATOR_HALF_M
    return np.asarray(x) / side + 0.5, np.clip(0.5 - np.asarray(y) / side, 0.0, 1.0)


def crs_xy(x: FloatArray, y: FloatArray, crs: str) -> tuple[FloatArray, FloatArray]:
    """Points of the unit square in `crs`."""
    side = 2 * MERCATOR_HALF_M
    east, north = (x - 0.5) * side, (0.5 - y) * side
    if crs == WEB_MERCATOR:
        return east, north
    return transformer(WEB_MERCATOR, crs).transform(east, north)  # type: ignore[no-any-return]


def tile_box(z: int, x: int, y: int, buffer: int = BUFFER) -> WorldBox:
    """What a tile holds, with `buffer` units around it."""
    side, beyond = 2.0**-z, buffer / EXTENT
    return WorldBox(
        (x - beyond) * side, (y - beyond) * side, (x + 1 + beyond) * side, (y + 1 + beyond) * side
    )


def extent(x: FloatArray, y: FloatArray) -> WorldBox:
    """The smallest box around points, of which there are some."""
    return WorldBox(float(x.min()), float(y.min()), float(x.max()), float(y.max()))
