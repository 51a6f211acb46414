"""What printed sheets draw: pictures of a place with their scale, and where it lies among the others."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, transformer
from roadrisk.maps.pictures import Overview
from roadrisk.maps.places import WGS84, GridTiles, Places

REGION_SIDE_PX = 480
MARGIN = 0.06  # of the longer side of a map without a picture
QUALITY = 88
MASK_VALUES = (0, 255)


@dataclass(frozen=True)
class ScaleBar:
    """A round length and the share of a picture's width that it takes."""

    words: str
    share: float


@dataclass(frozen=True)
class RegionMap:
    """The places of a layer on a drawing `width` by `height` large, y down.

    Parameters
    ----------
    url : of the picture behind them; empty without one.
    dots : x and y of each place that lies somewhere.
    marks : the same for all places; None where one lies nowhere.
    """

    width: float
    height: float
    url: str
    dots: tuple[tuple[float, float], ...]
    marks: tuple[tuple[float, float] | None, ...]


def picture_url(pixels: NDArray[np.uint8]) -> str:
    """(4, H, W) red, green, blue and opacity as a `data:` address of a WebP; of a mask without any loss."""
    mask = bool(np.isin(pixels, MASK_VALUES).all())
    # OpenCV takes a quality above 100 for a file without loss
    settings = [cv2.IMWRITE_WEBP_QUALITY, 101 if mask else QUALITY]
    image = cv2.cvtColor(np.ascontiguousarray(pixels.transpose(1, 2, 0)), cv2.COLOR_RGBA2BGRA)  # (H, W, 4)
    _, encoded = cv2.imencode(".webp", image, settings)
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()


def sides_m(places: Places | None, count: int) -> list[float | None]:
    """Ground side of each of N places [m]; None where they are no squares of a grid."""
    if not isinstance(places, GridTiles):
        return [None] * count
    return [float(side) for side in np.sqrt(places.grid.area_km2(places.rows, places.cols)) * 1000]


def scale_bar(side_m: float) -> ScaleBar:
    """The longest round length of at most 45 % of a picture that is `side_m` wide.

    >>> scale_bar(250.0), scale_bar(4_000.0).words
    (ScaleBar(words='100 m', share=0.4), '1 km')
    """
    most = 0.45 * side_m
    ten = 10.0 ** math.floor(math.log10(most))
    length_m = max(step * ten for step in (1, 2, 5) if step * ten <= most)
    words = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    return ScaleBar(words, length_m / side_m)


def region_map(places: Places, overview: Overview | None) -> RegionMap | None:
    """Where places lie, on the picture of the region where there is one.

    Returns
    -------
    None where nothing would be seen: fewer than two places and no picture.
    """
    lng, lat = places.centres()
    if overview is None:
        return _plain_map(lng, lat)
    x, y = transformer(WGS84, overview.crs).transform(lng, lat)
    left, bottom, right, top = overview.bounds
    _, height, width = overview.pixels.shape
    shrink = min(1.0, REGION_SIDE_PX / max(height, width))
    wide, high = max(1, round(width * shrink)), max(1, round(height * shrink))
    dots = np.stack([(x - left) / (right - left) * wide, (top - y) / (top - bottom) * high], axis=-1)
    opaque = np.full((4 - len(overview.pixels), height, width), 255, np.uint8)
    pixels = np.concatenate([overview.pixels, opaque]).transpose(1, 2, 0)  # (H, W, 4)
    small = cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_AREA)
    url = picture_url(np.asarray(small, dtype=np.uint8).transpose(2, 0, 1))
    return _drawn(dots, wide, high, url)


def _plain_map(lng: FloatArray, lat: FloatArray) -> RegionMap | None:
    """On nothing, a degree of longitude as long as it is in the middle."""
    known = np.isfinite(lng) & np.isfinite(lat)
    if known.sum() < 2:
        return None
    x, y = lng * math.cos(math.radians(float(lat[known].mean()))), -lat
    side = max(float(np.ptp(x[known])), float(np.ptp(y[known]))) or 1.0
    scale = REGION_SIDE_PX * (1 - 2 * MARGIN) / side
    edge = REGION_SIDE_PX * MARGIN
    dots = np.stack([(x - x[known].min()) * scale + edge, (y - y[known].min()) * scale + edge], axis=-1)
    width, height = dots[known].max(axis=0) + edge
    return _drawn(dots, float(width), float(height), "")


def _drawn(dots: FloatArray, width: float, height: float, url: str) -> RegionMap:
    """(N, 2) places in tenths of a step of the drawing."""
    marks = tuple(
        (round(x, 1), round(y, 1)) if math.isfinite(x) and math.isfinite(y) else None
        for x, y in dots.tolist()
    )
    known = tuple(mark for mark in marks if mark is not None)
    return RegionMap(round(width, 1), round(height, 1), url, known, marks)
