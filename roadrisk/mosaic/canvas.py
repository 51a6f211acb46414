"""A canvas: a part in the making, painted from the top sheet down, and what is known of its tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import Part
from roadrisk.imagery.reading import Weighed
from roadrisk.imagery.sheets import Sheet
from roadrisk.mosaic.picture import Painted, Picture, Spent, undated

# of 255: half a pixel, less what rounding may take
HALF = 125
HALF_POINTS = 8
# which points of some pixels of a tile a sheet knows, a bit a point
PointsKnown = Callable[[NDArray[np.intp]], NDArray[np.uint16]]


class Damage(NamedTuple):
    """What cannot be read of a sheet: from which pixel on, None when it is all of it."""

    path: str
    pixel: tuple[int, int] | None
    detail: str

    @property
    def said(self) -> str:
        if self.pixel is None:
            return f"{self.path} cannot be opened ({self.detail})"
        return f"{self.path} is damaged at pixel {self.pixel[0]}, {self.pixel[1]} ({self.detail})"


class Scrap(NamedTuple):
    """Pixels of a tile of which a sheet knows less than half: where in the tile, what, and which points."""

    sheet: Sheet
    at: NDArray[np.intp]
    pixels: NDArray[np.uint8]
    points: NDArray[np.uint16]


@dataclass
class Canvas:
    """A part in the making, painted from the top sheet down; tiles are counted from its first.

    Parameters
    ----------
    pixels : (H, W, 3), as OpenCV has them.
    full : tiles that need no older sheet.
    """

    part: Part
    tile_size: int
    damages: dict[str, Damage] = field(default_factory=dict)
    decode_s: float = 0.0
    warp_s: float = 0.0

    def __post_init__(self) -> None:
        rows, cols, size = self.part.rows, self.part.cols, self.tile_size
        self.pixels = np.zeros((rows * size, cols * size, 3), np.uint8)
        self.valid = np.zeros((rows * size, cols * size), bool)
        self.full, self.failed = np.zeros((rows, cols), bool), np.zeros((rows, cols), bool)
        self.first, self.last = undated(self.part), undated(self.part)
        self.shown: dict[tuple[int, int], list[Sheet]] = defaultdict(list)
        self.scraps: dict[tuple[int, int], list[Scrap]] = defaultdict(list)

    def there(self, tile: tuple[int, int]) -> tuple[slice, slice]:
        """Where a tile's pixels are."""
        (row, col), size = tile, self.tile_size
        return slice(row * size, (row + 1) * size), slice(col * size, (col + 1) * size)

    def add(self, tile: tuple[int, int], piece: Weighed, sheet: Sheet, points: PointsKnown) -> None:
        """Put a sheet's piece of a tile under what is there."""
        pixels, valid = self.pixels[self.there(tile)], self.valid[self.there(tile)]
        weight, colours = cv2.extractChannel(piece, 3), cv2.cvtColor(piece, cv2.COLOR_RGBA2RGB)
        seen = weight >= HALF
        if tile in self.shown:
            seen &= ~valid
        if seen.all():
            pixels[...] = colours
        elif seen.any():
            cv2.copyTo(colours, seen.view(np.uint8), pixels)
        scraps = np.flatnonzero((weight > 0) & (weight < HALF) & ~valid)
        if scraps.size:
            known = Scrap(sheet, scraps, piece.reshape(-1, 4)[scraps], points(scraps))
            self.scraps[tile].append(known)
        if seen.any():
            valid |= seen
            self.shown[tile].append(sheet)
            self.full[tile] = valid.all()

    def fail(self, tile: tuple[int, int], damage: Damage) -> None:
        """Leave a tile without a picture."""
        self.damages.setdefault(damage.path, damage)
        self.failed[tile] = True
        self.scraps.pop(tile, None)
        self.shown.pop(tile, None)
        there = self.there(tile)
        self.pixels[there], self.valid[there] = 0, False

    def finish(self) -> None:
        """Fill what sheets know together, and date the tiles."""
        for tile in self.scraps:
            if not self.full[tile]:
                self._fill(tile)
        for tile, sheets in self.shown.items():
            taken = [sheet.taken for sheet in sheets if sheet.taken]
            if len(taken) == len(sheets):
                self.first[tile] = min(first for first, _ in taken)
                self.last[tile] = max(last for _, last in taken)

    def painted(self) -> Painted:
        """What came of it, finished."""
        return Painted(
            picture=Picture(np.moveaxis(self.pixels, -1, 0), self.valid),
            first=self.first,
            last=self.last,
            failed=self.failed,
            reasons=tuple(damage.said for damage in self.damages.values()),
            spent=Spent(self.decode_s, self.warp_s, 0.0),
        )

    def _fill(self, tile: tuple[int, int]) -> None:
        pixels, valid = self.pixels[self.there(tile)], self.valid[self.there(tile)]
        known, most = np.zeros(valid.size, np.uint16), np.zeros(valid.size, np.uint8)
        # two sheets that know the same part of a pixel do not know more of it together
        together = np.zeros(valid.size, np.uint16)
        colours, owner = np.zeros((valid.size, 3), np.uint8), np.zeros(valid.size, np.uint16)
        for number, (_, at, scrap, points) in enumerate(self.scraps[tile]):
            known[at] += scrap[:, 3]
            together[at] |= points
            more = scrap[:, 3] > most[at]
            best = at[more]
            most[best], colours[best], owner[best] = scrap[more, 3], scrap[more, :3], number
        half = (known >= HALF) & (np.bitwise_count(together) >= HALF_POINTS)
        filled = half.reshape(valid.shape) & ~valid
        pixels[filled] = colours[filled.ravel()]
        valid |= filled
        for number in np.unique(owner[filled.ravel()]):
            self.shown[tile].append(self.scraps[tile][number].sheet)
