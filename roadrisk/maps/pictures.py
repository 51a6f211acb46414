"""The pictures that a page, a sheet or a view shows of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import Bbox


@dataclass(frozen=True, eq=False)
class Overview:
    """A picture of the whole region.

    Parameters
    ----------
    pixels : (3, H, W) red, green, blue or (4, H, W) with opacity; uint8.
    bounds : outer edges, in `crs`.
    """

    pixels: NDArray[np.uint8]
    bounds: Bbox
    crs: str


class TilePictures(Protocol):
    """Pictures of tiles by the tiles' names; not for several threads at once."""

    @property
    def views(self) -> tuple[str, ...]:
        """Their names; the first is the picture itself, the others say more, as a mask does."""
        ...

    def overview(self) -> Overview | None:
        """The picture of the region; None where nothing has one."""
        ...

    def picture(self, tile_id: str, view: str) -> NDArray[np.uint8] | None:
        """(4, H, W) red, green, blue and opacity of a tile; None where it has none."""
        ...
