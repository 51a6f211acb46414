"""Resampling: a tile's pixels from a window of a sheet, by OpenCV over a coarse lattice of exact places."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from affine import Affine
from numpy.typing import NDArray

from roadrisk.grid import Bbox, FloatArray, transformer
from roadrisk.imagery.reading import Mask, PixelBox, Weighed

# between the places of a lattice the sheet is at most this far from where it should be [sheet pixels]
TOLERANCE_PX = 1 / 8
# a tile that lies this close to the sheet's own pixels is a copy: OpenCV counts in 1/32
COPY_PX = 1 / 64
COARSEST = 5
# a sheet whose pixel is hardly smaller than wanted: a metre of one zone is 0.999 to 1.001 of another's
SAME_PIXEL = 1.01
# what a kernel reaches beyond a point, and what rounding adds [sheet pixels]
REACH = 3
# rows of a tile at a time, so that the places of their samples stay in the processor's cache
ROWS = 64
OUTSIDE = -1e5
# across and down a pixel, where it is asked which part of it is known: Hammersley's, even along either side
POINTS = (
    (np.arange(16) + 0.5) / 16,
    (np.array([0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15]) + 0.5) / 16,
)


class Kernel(NamedTuple):
    """How pixels of a sheet become one.

    Parameters
    ----------
    samples : a side of each pixel; 1 for cubic convolution, which needs no more.
    spread : of the samples, where 1 is evenly over the pixel.
    """

    samples: int
    spread: float


def kernel_of(scale: float, factor: int = 1) -> Kernel:
    """The kernel for pixels `scale` times as wide as those read, each the mean of `factor` a side.

    Cubic convolution up to about the same size, else the area's mean: linear samples, spread so that
    their variance is that of the mean by area. In pixels of the file, a mean over `s` pixels weighed by
    the share that lies inside has the variance (s^2 + 1) / 12, linear interpolation 2 / 12, and k samples
    over s have (s^2 - s^2 / k^2) / 12.

    >>> kernel_of(0.5)
    Kernel(samples=1, spread=1.0)
    >>> kernel_of(2.0)
    Kernel(samples=2, spread=1.0)
    """
    if scale < SAME_PIXEL:
        return Kernel(1, 1.0)
    # as many as measuring asked for: 0.3 to 0.8 grey levels from the mean by area
    samples = max(2, math.ceil(0.9 * scale))
    # the mean over `factor` has made (factor^2 - 1) / 12 of it already
    variance = scale**2 + 2 / factor**2 - 3
    return Kernel(samples, math.sqrt(max(0.0, variance) / (scale**2 * (1 - 1 / samples**2))))


def lattice_of(tile: Bbox, tile_size: int, grid_crs: str, sheet_crs: str, to_pixels: Affine) -> FloatArray:
    """Where a tile lies on a sheet: (2, N, N) places [sheet pixels] of N by N points from edge to edge.

    Between the points places are interpolated bilinearly. There are as many points as that needs to be
    within an eighth of a pixel, up to one a pixel; a point that cannot be projected is not finite.

    Examples
    --------
    A kilometre at 42 degrees north on a sheet with pixels of 1 cm: the interpolated middles of the
    lattice's cells against the true ones.

    >>> tile, cm = Bbox(-7906000, 5211000, -7905000, 5212000), Affine.scale(100, -100)
    >>> lattice = lattice_of(tile, 256, "EPSG:3857", "EPSG:32619", cm)
    >>> lattice.shape
    (2, 9, 9)
    >>> exact = places(tile, 17, "EPSG:3857", "EPSG:32619", cm)[:, 1::2, 1::2]
    >>> bool(abs(_middles(lattice) - exact).max() < TOLERANCE_PX)
    True
    """
    points = COARSEST
    while True:
        lattice = places(tile, points, grid_crs, sheet_crs, to_pixels)
        if points > tile_size or _bend(lattice) <= TOLERANCE_PX:
            return lattice
        points = min(2 * points - 1, tile_size + 1)


def places(tile: Bbox, points: int, grid_crs: str, sheet_crs: str, to_pixels: Affine) -> FloatArray:
    """(2, N, N) exact places [sheet pixels] of evenly spaced points of a tile, from edge to edge."""
    even = np.arange(points) / (points - 1)
    x = np.tile(tile.left + even * (tile.right - tile.left), points)
    y = np.repeat(tile.top + even * (tile.bottom - tile.top), points)
    x, y = transformer(grid_crs, sheet_crs).transform(x, y)
    a, b, c, d, e, f = to_pixels[:6]
    with np.errstate(invalid="ignore"):  # what cannot be projected is infinite
        return np.array([a * x + b * y + c, d * x + e * y + f]).reshape(2, points, points)


def window_of(
    lattice: FloatArray, tile_size: int, kernel: Kernel, width: int, height: int
) -> PixelBox | None:
    """The pixels of a sheet of `width` by `height` that a tile needs; None when it lies beside the sheet."""
    shift = _shift(lattice, tile_size) if kernel.samples == 1 else None
    if shift is not None:
        x, y = shift
        return _within(PixelBox(x, y, x + tile_size, y + tile_size), width, height)
    known = np.isfinite(lattice).all(axis=0)
    if not known.any():
        return None
    low, high = lattice[:, known].min(axis=1), lattice[:, known].max(axis=1)
    (x0, y0), (x1, y1) = np.floor(low) - REACH, np.ceil(high) + REACH
    return _within(PixelBox(int(x0), int(y0), int(x1), int(y1)), width, height)


def _within(box: PixelBox, width: int, height: int) -> PixelBox | None:
    x0, y0, x1, y1 = max(0, box.x0), max(0, box.y0), min(width, box.x1), min(height, box.y1)
    return PixelBox(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def resampled(window: Weighed, box: PixelBox, lattice: FloatArray, tile_size: int, kernel: Kernel) -> Weighed:
    """(tile_size, tile_size, 4) a tile: red, green, blue, and how much of the pixel is known, up to 255.

    Colours are means over what is known. Where the sheet's pixels are the tile's, they are copied.

    Parameters
    ----------
    window : the sheet's pixels in `box`; beyond them nothing is known.
    lattice : where the tile lies, in the sheet's pixels.
    """
    lattice = lattice - np.array([box.x0, box.y0])[:, None, None]
    shift = _shift(lattice, tile_size) if kernel.samples == 1 else None
    if shift is not None:
        return _copied(window, *shift, tile_size)
    whole = _lies_inside(lattice, *window.shape[:2]) and cv2.extractChannel(window, 3).min() == 255
    unknown = _beyond(lattice)
    # OpenCV counts from the middle of the first pixel
    lattice = np.where(np.isfinite(lattice), lattice - 0.5, 0.0).astype(np.float32)
    weights, samples = _hats(tile_size, lattice.shape[1], kernel), kernel.samples
    u, v = (axis @ weights.T for axis in lattice)
    source = window.astype(np.float32) if whole and samples == 1 else window
    tile = np.empty((tile_size, tile_size, 4), np.uint8)
    for top in range(0, tile_size, ROWS):
        rows = weights[top * samples : (top + ROWS) * samples]
        x, y = rows @ u, rows @ v
        if unknown is not None:
            some = np.repeat(np.repeat(unknown[top : top + ROWS], samples, axis=0), samples, axis=1)
            x[some] = y[some] = OUTSIDE
        if not whole:
            tile[top : top + ROWS] = _weighed(window, x, y, samples)
        elif samples == 1:
            tile[top : top + ROWS] = _cubic(source, x, y, cv2.CV_8U)
        else:
            tile[top : top + ROWS] = _mean(source, x, y, samples)
    return tile


def points_known(
    window: Weighed, box: PixelBox, lattice: FloatArray, tile_size: int, at: NDArray[np.intp]
) -> NDArray[np.uint16]:
    """(n,) for some pixels of a tile which of 16 points lie where the sheet is known, a bit a point.

    Parameters
    ----------
    window, box, lattice : of `resampled`.
    at : (n,) which pixels, counted along the rows.
    """
    row, col = np.divmod(at, tile_size)
    across, down = POINTS
    step = (lattice.shape[1] - 1) / tile_size
    v, u = (row[:, None] + down) * step, (col[:, None] + across) * step
    i, j = v.astype(int), u.astype(int)
    dv, du = v - i, u - j
    upper = lattice[:, i, j] * (1 - du) + lattice[:, i, j + 1] * du
    lower = lattice[:, i + 1, j] * (1 - du) + lattice[:, i + 1, j + 1] * du
    places = np.floor(upper * (1 - dv) + lower * dv) - np.array([box.x0, box.y0])[:, None, None]
    height, width = window.shape[:2]
    inside = (places >= 0).all(axis=0) & (places[0] < width) & (places[1] < height)
    x, y = np.where(inside, places, 0).astype(int)
    known = inside & (window[y, x, 3] >= 128)
    return np.asarray(np.packbits(known, axis=1).view(np.uint16)[:, 0])


def _lies_inside(lattice: FloatArray, height: int, width: int) -> bool:
    """Whether no kernel reaches beyond a window."""
    low, high = lattice.min(axis=(1, 2)), lattice.max(axis=(1, 2))
    return bool((low >= REACH - 1).all() and high[0] <= width + 1 - REACH and high[1] <= height + 1 - REACH)


def _bend(lattice: FloatArray) -> float:
    """How far points of a lattice lie from where every other point of it says; NaN when one is unknown."""
    coarse = lattice[:, ::2, ::2]
    with np.errstate(invalid="ignore"):
        across = (coarse[:, :, :-1] + coarse[:, :, 1:]) / 2 - lattice[:, ::2, 1::2]
        down = (coarse[:, :-1] + coarse[:, 1:]) / 2 - lattice[:, 1::2, ::2]
        middle = _middles(coarse) - lattice[:, 1::2, 1::2]
        return max(float(np.abs(off).max()) for off in (middle, across, down))


def _middles(lattice: FloatArray) -> FloatArray:
    rows = lattice[:, :-1] + lattice[:, 1:]
    return (rows[:, :, :-1] + rows[:, :, 1:]) / 4


def _beyond(lattice: FloatArray) -> Mask | None:
    """(H, W) pixels of a tile of which a corner cannot be projected; None when all can."""
    unknown = np.asarray(~np.isfinite(lattice).all(axis=0))
    if not unknown.any():
        return None
    return np.asarray(unknown[:-1, :-1] | unknown[:-1, 1:] | unknown[1:, :-1] | unknown[1:, 1:])


@lru_cache(maxsize=16)
def _hats(tile_size: int, points: int, kernel: Kernel) -> NDArray[np.float32]:
    """(samples, points) the share of each lattice point in the place of each sample along a side."""
    samples, spread = kernel
    offsets = (np.arange(samples) + 0.5) / samples - 0.5
    at = (np.arange(tile_size)[:, None] + 0.5 + spread * offsets).ravel() * ((points - 1) / tile_size)
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(points))), np.float32)


def _shift(lattice: FloatArray, tile_size: int) -> tuple[int, int] | None:
    """(x, y) of the sheet's pixel that is the tile's first, when the rest follow; else None."""
    corner = lattice[:, 0, 0]
    if not (np.abs(corner - np.rint(corner)) <= COPY_PX).all():
        return None
    x, y = (round(float(at)) for at in corner)
    even = np.linspace(0, tile_size, lattice.shape[1])
    off = max(np.abs(lattice[0] - (x + even)).max(), np.abs(lattice[1] - (y + even[:, None])).max())
    return (x, y) if off <= COPY_PX else None


def _copied(window: Weighed, x: int, y: int, tile_size: int) -> Weighed:
    tile = np.zeros((tile_size, tile_size, 4), np.uint8)
    height, width = window.shape[:2]
    top, left, bottom, right = max(0, y), max(0, x), min(height, y + tile_size), min(width, x + tile_size)
    if top < bottom and left < right:
        tile[top - y : bottom - y, left - x : right - x] = window[top:bottom, left:right]
    return tile


def _weighed(window: Weighed, x: NDArray[np.float32], y: NDArray[np.float32], samples: int) -> Weighed:
    """Pixels by cubic convolution (1 sample) or as means, divided by how much of them is known."""
    height, width = window.shape[:2]
    left, top = max(0, int(x.min()) - REACH), max(0, int(y.min()) - REACH)
    right, bottom = min(width, int(x.max()) + 1 + REACH), min(height, int(y.max()) + 1 + REACH)
    if left >= right or top >= bottom:
        return np.zeros((x.shape[0] // samples, x.shape[1] // samples, 4), np.uint8)
    source = window[top:bottom, left:right].astype(np.float32)
    x -= left
    y -= top
    tile = _cubic(source, x, y, cv2.CV_32F) if samples == 1 else _mean(source, x, y, samples)
    *colours, weight = cv2.split(tile)
    # beside a hole the lobes of the cubic kernel make the weight more than 255
    known = np.maximum(weight, 1)
    planes = [cv2.divide(colour, known, scale=255, dtype=cv2.CV_8U) for colour in colours]
    # rounded up: what sheets know together is never less than what one would in their place
    planes.append(cv2.addWeighted(weight, 1, weight, 0, 0.499, dtype=cv2.CV_8U))
    return np.asarray(cv2.merge(planes), np.uint8)


def _cubic(source: NDArray[Any], x: NDArray[np.float32], y: NDArray[np.float32], depth: int) -> NDArray[Any]:
    """Keys' cubic convolution with a = -1/2, as GDAL has it.

    The kernel is linear in a. OpenCV has a = -3/4; a = 0 is linear interpolation at places pulled
    to the pixels by a smooth step: K(-1/2) = 2/3 K(-3/4) + 1/3 K(0). (Keys 1981, IEEE TASSP 29(6).)
    """
    sharp = cv2.remap(source, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    smooth = cv2.remap(source, _stepped(x), _stepped(y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(cv2.addWeighted(sharp, 2 / 3, smooth, 1 / 3, 0, dtype=depth))


def _stepped(x: NDArray[np.float32]) -> NDArray[np.float32]:
    whole = np.floor(x)
    part = x - whole
    return np.asarray(whole + part * part * (3 - 2 * part), np.float32)


def _mean(source: NDArray[Any], x: NDArray[np.float32], y: NDArray[np.float32], samples: int) -> NDArray[Any]:
    """Means of `samples` by `samples` linear samples."""
    fine = cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    size = x.shape[1] // samples, x.shape[0] // samples
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA))
