"""Pictures of a dataset's tiles, for any number of threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.grid import IntArray
from roadrisk.mosaic.reader import MosaicReader

QUALITY = 90


@dataclass(frozen=True, eq=False)
class ServedPictures:
    """Pictures by the tiles' names.

    Parameters
    ----------
    readers : of each view; the first is the picture itself, the others say more, as a mask does.
    names : of N tiles.
    rows, cols : (N,) where each lies in the mosaic.
    """

    readers: Mapping[str, MosaicReader]
    names: pd.Series[str]
    rows: IntArray
    cols: IntArray
    _one_at_a_time: Lock = field(default_factory=Lock)

    @property
    def views(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.readers)

    def views_of(self, name: str) -> list[str]:
        """The views that show something of a tile."""
        place = self._place(name)
        if place is None:
            return []
        with self._one_at_a_time:
            return [view for view, reader in self.readers.items() if reader.valid(*place).any()]

    def webp(self, name: str, view: str) -> bytes | None:
        """A tile's picture as WebP, clear where there is nothing; None where it has none."""
        place = self._place(name)
        if place is None or view not in self.readers:
            return None
        reader = self.readers[view]
        with self._one_at_a_time:
            seen = reader.valid(*place)  # (H, W)
            if not seen.any():
                return None
            pixels = reader.read(*place)  # (3, H, W)
        return webp(np.concatenate([pixels, np.uint8(255) * seen[None]]))

    def _place(self, name: str) -> tuple[int, int] | None:
        found = np.flatnonzero((self.names == name).to_numpy(dtype=bool))
        return (int(self.rows[found[0]]), int(self.cols[found[0]])) if len(found) else None


def webp(pixels: NDArray[np.uint8]) -> bytes:
    """(4, H, W) red, green, blue and opacity as WebP."""
    turned = np.ascontiguousarray(pixels[[2, 1, 0, 3]].transpose(1, 2, 0))  # (H, W, 4), blue first
    _, encoded = cv2.imencode(".webp", turned, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return encoded.tobytes()
