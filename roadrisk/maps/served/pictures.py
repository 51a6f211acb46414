"""Pictures of tiles for any number of threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.maps.pictures import TilePictures

QUALITY = 90


@dataclass(frozen=True, eq=False)
class ServedPictures:
    """Pictures by the tiles' names, read by one thread at a time."""

    pictures: TilePictures
    _one_at_a_time: Lock = field(default_factory=Lock)

    @property
    def views(self) -> tuple[str, ...]:
        """Their names."""
        return self.pictures.views

    def views_of(self, name: str) -> list[str]:
        """The views that show something of a tile."""
        return [view for view in self.views if self._picture(name, view) is not None]

    def webp(self, name: str, view: str) -> bytes | None:
        """A tile's picture as WebP, clear where there is nothing; None where it has none."""
        pixels = self._picture(name, view)
        return None if pixels is None else webp(pixels)

    def _picture(self, name: str, view: str) -> NDArray[np.uint8] | None:
        with self._one_at_a_time:
            return self.pictures.picture(name, view)


def webp(pixels: NDArray[np.uint8]) -> bytes:
    """(4, H, W) red, green, blue and opacity as WebP."""
    turned = np.ascontiguousarray(pixels[[2, 1, 0, 3]].transpose(1, 2, 0))  # (H, W, 4), blue first
    _, encoded = cv2.imencode(".webp", turned, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return encoded.tobytes()
