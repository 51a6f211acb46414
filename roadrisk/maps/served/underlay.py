"""The mosaic of a view as raster tiles of Web Mercator, made when somebody asks for one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import mercantile
import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from roadrisk.grid import Bbox
from roadrisk.maps.served.pictures import webp

TILE_PX = 256
MERCATOR = "EPSG:3857"
MOST_PIXELS = 16  # of the mosaic along a pixel of a tile: more are taken from the small picture of the whole


@dataclass(frozen=True, eq=False)
class Underlay:
    """A mosaic and the small picture of it; both open.

    Parameters
    ----------
    pixel : side of a pixel of the mosaic [Web Mercator units].
    bounds : of the mosaic in Web Mercator.
    """

    mosaic: Any
    whole: Any
    pixel: float
    bounds: Bbox
    _one_at_a_time: Lock = field(default_factory=Lock)

    def tile(self, z: int, x: int, y: int) -> bytes:
        """WebP of 256 px, clear where the mosaic has nothing; empty where it has nothing at all.

        At most 4,096 x 4,096 pixels are read: from the mosaic, or from the small picture of the whole, its
        one overview. In a region of more than 65,000 pixels a side some zooms lie between the two: there
        the small picture is enlarged and looks soft.
        """
        left, bottom, right, top = mercantile.xy_bounds(x, y, z)
        if (
            right <= self.bounds.left
            or left >= self.bounds.right
            or top <= self.bounds.bottom
            or bottom >= self.bounds.top
        ):
            return b""
        pixel = (right - left) / TILE_PX
        near = pixel <= MOST_PIXELS * self.pixel
        with (
            self._one_at_a_time,
            WarpedVRT(
                self.mosaic if near else self.whole,
                crs=MERCATOR,
                transform=Affine(pixel, 0, left, 0, -pixel, top),
                width=TILE_PX,
                height=TILE_PX,
                resampling=Resampling.bilinear,
                add_alpha=True,
            ) as moved,
        ):
            pixels = moved.read()  # (4, 256, 256)
        return webp(pixels) if pixels[3].any() else b""


def underlay_of(mosaic: Path, whole: Path) -> Underlay:
    """A view as raster tiles.

    Parameters
    ----------
    mosaic : one raster over all parts of a view.
    whole : the small picture of it.

    Raises
    ------
    RasterioIOError : one of them is damaged.
    """
    large, small = rasterio.open(mosaic), rasterio.open(whole)
    bounds = Bbox(*transform_bounds(large.crs, MERCATOR, *large.bounds))
    side = np.sqrt((bounds.right - bounds.left) * (bounds.top - bounds.bottom) / (large.width * large.height))
    return Underlay(large, small, float(side), bounds)
