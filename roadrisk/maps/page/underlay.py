"""The picture of the region that lies under the tiles, in the map's projection and a number of bytes."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.warp import Resampling, calculate_default_transform, reproject

from roadrisk.errors import LayerError
from roadrisk.maps.pictures import Overview
from roadrisk.maps.places import WGS84

PICTURE_LIMIT_PX = 4096
SMALLEST_PICTURE_PX = 64
QUALITIES = (85, 70, 55, 40)
MERCATOR = "EPSG:3857"


@dataclass(frozen=True)
class Picture:
    """An overview as the page draws it: (H, W, 4) red, green, blue, opacity in Web Mercator."""

    pixels: NDArray[np.uint8]
    corners: list[tuple[float, float]]  # lon, lat of the top left, top right, bottom right, bottom left


def mercator_picture(overview: Overview, limit_px: int = PICTURE_LIMIT_PX) -> Picture:
    """The overview moved to EPSG:3857, its longer side at most `limit_px`; clear where it had nothing."""
    bands, height, width = overview.pixels.shape
    opaque = np.full((4 - bands, height, width), 255, dtype=np.uint8)
    source = np.concatenate([overview.pixels, opaque])  # (4, H, W)
    left, bottom, right, top = overview.bounds
    start = Affine((right - left) / width, 0, left, 0, (bottom - top) / height, top)
    transform, cols, rows = calculate_default_transform(
        overview.crs, MERCATOR, width, height, *overview.bounds
    )
    shrink = max(1.0, max(cols, rows) / limit_px)
    transform = transform @ Affine.scale(shrink)
    cols, rows = math.ceil(cols / shrink - 1e-9), math.ceil(rows / shrink - 1e-9)
    moved = np.zeros((4, rows, cols), dtype=np.uint8)
    with rasterio.Env(GDAL_NUM_THREADS="2"):
        reproject(
            source,
            moved,
            src_transform=start,
            src_crs=overview.crs,
            dst_transform=transform,
            dst_crs=MERCATOR,
            src_alpha=4,
            dst_alpha=4,
            resampling=Resampling.average if shrink > 1 else Resampling.bilinear,
        )
    x, y = transform @ (np.array([0, cols, cols, 0]), np.array([0, 0, rows, rows]))
    lng, lat = Transformer.from_crs(MERCATOR, WGS84, always_xy=True).transform(x, y)
    corners = [(float(a), float(b)) for a, b in zip(lng.round(9), lat.round(9), strict=True)]
    return Picture(np.ascontiguousarray(moved.transpose(1, 2, 0)), corners)


def picture_url(picture: Picture, limit_bytes: int) -> str:
    """The picture as a `data:` address of at most `limit_bytes`, as good as fits.

    Raises
    ------
    LayerError : not even a picture of 64 px fits.
    """
    for pixels in _shrinking(picture.pixels):
        for quality in QUALITIES:
            url = "data:image/webp;base64," + webp(pixels, quality)
            if len(url) <= limit_bytes:
                return url
    raise LayerError(
        "the tiles of the page leave no room for a picture of the region; "
        "write .gpkg and open it by `roadrisk view`"
    )


def webp(pixels: NDArray[np.uint8], quality: int) -> str:
    """(H, W, 4) red, green, blue, opacity as base64 of a WebP picture."""
    _, encoded = cv2.imencode(
        ".webp", cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, quality]
    )
    return base64.b64encode(encoded.tobytes()).decode()


def _shrinking(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    while True:
        yield pixels
        height, width = (max(1, round(side * 0.7)) for side in pixels.shape[:2])
        if max(height, width) < SMALLEST_PICTURE_PX:
            return
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
