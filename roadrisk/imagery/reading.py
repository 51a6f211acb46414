"""Reading: a window of a sheet's pixels, as colours and where they are known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from roadrisk.imagery.remote import REMOTE_OPTIONS, opened
from roadrisk.imagery.sheets import Sheet

# (H, W, 4) red, green, blue, and 255 where known; the colours are 0 where it is 0, and weighed by it between
Weighed = NDArray[np.uint8]
Mask = NDArray[np.bool_]

CACHE_BYTES = 256 << 20
# of a sheet that is shrunk while it is read: pixels at a time
SHRUNK_PX = 8_000_000
# a pixel that is this much too coarse is still as fine as wanted: a sheet's pixel is not the same all over it
AS_FINE = 1.02
ALPHA_WHITE = {"uint16": 65535, "int16": 32767}


class PixelBox(NamedTuple):
    """Pixels [x0, x1) by [y0, y1)."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> int:
        """Pixels in it."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


@dataclass(frozen=True)
class OpenSheet:
    """A sheet open at the size at which it is wanted: whole, an overview, or either shrunk.

    Parameters
    ----------
    factor : pixels a side of the file (or overview) that make one here, by their mean.
    x_scale, y_scale : pixels of the whole sheet that make one here.
    width, height : pixels.
    shades : (N, 4) the colour and opacity of each value; None when a value is its own shade.
    """

    sheet: Sheet
    source: Any
    factor: int
    x_scale: float
    y_scale: float
    width: int
    height: int
    shades: NDArray[np.uint8] | None

    @property
    def scale(self) -> float:
        """Pixels a side of the whole sheet that make one here."""
        return math.sqrt(self.x_scale * self.y_scale)

    def read(self, box: PixelBox) -> Weighed:
        """The pixels of a box that lies inside.

        Raises
        ------
        RasterioError : a block of the file cannot be read.
        """
        if self.factor == 1:
            return self._as_filed(box)
        f, side = self.factor, max(1, math.isqrt(SHRUNK_PX) // self.factor)
        shrunk = np.empty((box.y1 - box.y0, box.x1 - box.x0, 4), np.uint8)
        across = max(side, SHRUNK_PX // (f * f * len(shrunk)))
        for y in range(box.y0, box.y1, side):
            for x in range(box.x0, box.x1, across):
                some = PixelBox(x, y, min(x + across, box.x1), min(y + side, box.y1))
                there = np.s_[y - box.y0 : some.y1 - box.y0, x - box.x0 : some.x1 - box.x0]
                shrunk[there] = self._shrunk(some)
        return shrunk

    def _shrunk(self, box: PixelBox) -> Weighed:
        f = self.factor
        within = PixelBox(
            box.x0 * f, box.y0 * f, min(box.x1 * f, self.source.width), min(box.y1 * f, self.source.height)
        )
        filed = self._as_filed(within)
        # the sheet may end within the last pixel: what is beyond it is not known
        below, right = box.y1 * f - within.y1, box.x1 * f - within.x1
        if below or right:
            filed = np.pad(filed, ((0, below), (0, right), (0, 0)))
        size = box.x1 - box.x0, box.y1 - box.y0
        return np.asarray(cv2.resize(filed, size, interpolation=cv2.INTER_AREA), np.uint8)

    def _as_filed(self, box: PixelBox) -> Weighed:
        bands, window = self.sheet.bands, Window(box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0)
        wanted = [*bands.colours, bands.alpha] if bands.alpha else list(bands.colours)
        values = self.source.read(wanted, window=window)
        filed = values[: len(bands.colours)]
        known = self._known(filed, window)
        if bands.alpha:
            known &= values[-1] > ALPHA_WHITE.get(self.source.dtypes[bands.alpha - 1], 255) // 2
        colours = self._colours(filed, known)
        weight = known.view(np.uint8) * np.uint8(255)
        if not known.all():
            colours = [np.asarray(cv2.copyTo(colour, weight), np.uint8) for colour in colours]
        return np.asarray(cv2.merge([*colours, weight]), np.uint8)

    def _known(self, filed: NDArray[Any], window: Window) -> Mask:
        """Where the file says there is a picture, alpha and palette apart."""
        first = self.sheet.bands.colours[0]
        flags = self.source.mask_flag_enums[first - 1]
        if MaskFlags.nodata in flags:
            known = np.zeros(filed.shape[1:], bool)
            for band, values in zip(self.sheet.bands.colours, filed, strict=True):
                known |= _differs(values, self.source.nodatavals[band - 1])
        elif MaskFlags.alpha in flags or MaskFlags.all_valid in flags:
            known = np.ones(filed.shape[1:], bool)
        else:
            known = self.source.read_masks(first, window=window) >= 128
        if filed.dtype.kind == "f":
            known &= np.isfinite(filed).all(axis=0)
        return known

    def _colours(self, filed: NDArray[Any], known: Mask) -> list[NDArray[np.uint8]]:
        """Three times (H, W); a palette's transparent entries are taken from `known`."""
        if self.sheet.bands.palette and self.shades is not None:
            known &= (self.shades[:, 3] >= 128)[filed[0]]
            return [self.shades[:, colour][filed[0]] for colour in range(3)]
        if self.sheet.stretch is not None:
            # 8 bit before it is resampled: what people see, and a quarter of the memory
            three = filed if len(filed) == 3 else [filed[0]] * 3
            return [_stretched(band, *ends) for band, ends in zip(three, self.sheet.stretch, strict=True)]
        shown = filed if self.shades is None else self.shades[:, 0][filed]
        return [*shown] if len(shown) == 3 else [shown[0]] * 3


@contextmanager
def reading_environment() -> Iterator[None]:
    """GDAL's settings for reading sheets."""
    with rasterio.Env(**{**REMOTE_OPTIONS, "GDAL_CACHEMAX": CACHE_BYTES}):
        yield


@contextmanager
def open_sheet(sheet: Sheet, scale: float, most: float) -> Iterator[OpenSheet]:
    """Open a sheet for pictures whose pixel is `scale` of the sheet's pixels a side.

    The coarsest overview is taken that is still as fine as that, as by GDAL's `-ovr AUTO`; what is left
    is shrunk while it is read until at most `most` pixels a side make one.

    Raises
    ------
    RasterioError : GDAL cannot open it.
    """
    with _at_level(sheet, scale) as source:
        x_scale, y_scale = sheet.width / source.width, sheet.height / source.height
        factor = max(1, math.ceil(scale / math.sqrt(x_scale * y_scale) / most))
        yield OpenSheet(
            sheet=sheet,
            source=source,
            factor=factor,
            x_scale=x_scale * factor,
            y_scale=y_scale * factor,
            width=-(-source.width // factor),
            height=-(-source.height // factor),
            shades=_shades(source, sheet),
        )


@contextmanager
def _at_level(sheet: Sheet, scale: float) -> Iterator[Any]:
    with opened(sheet.path) as whole:
        band = sheet.bands.colours[0]
        ratios = whole.overviews(band)
        fine = [level for level, ratio in enumerate(ratios) if ratio <= scale * AS_FINE]
        level = max(fine, key=ratios.__getitem__, default=None)
        if level is None or _mask_lies_beside(whole, band):
            yield whole
            return
        with opened(sheet.path, overview_level=level) as overview:
            yield overview


def _mask_lies_beside(source: Any, band: int) -> bool:
    """Whether overviews have no mask: GDAL 3.10 says that they have it and gives 255 everywhere."""
    if source.mask_flag_enums[band - 1] != [MaskFlags.per_dataset]:
        return False
    return any(file.lower().endswith(".msk") for file in source.files)


def _shades(source: Any, sheet: Sheet) -> NDArray[np.uint8] | None:
    bands = sheet.bands
    if bands.palette:
        shades = np.zeros((np.iinfo(sheet.dtype).max + 1, 4), np.uint8)
        for value, colour in source.colormap(bands.colours[0]).items():
            shades[value] = colour
        return shades
    if sheet.stretch is not None or bands.white == 255:
        return None
    grey = np.rint(np.minimum(np.arange(256) * (255 / bands.white), 255)).astype(np.uint8)
    return np.stack([grey, grey, grey, np.full(256, 255, np.uint8)], axis=1)


def _differs(values: NDArray[Any], nodata: float | None) -> Mask:
    if nodata is None:
        return np.ones(values.shape, bool)
    if math.isnan(nodata):
        return np.asarray(~np.isnan(values))
    whole = values.dtype.kind in "iu" and nodata.is_integer()
    return np.asarray(values != (int(nodata) if whole else nodata))


def _stretched(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    # 24 bits of a number are enough for 16, not for 32
    exact = values.astype(np.result_type(values, np.float32))
    shades = np.rint(np.clip((exact - black) * (255 / (white - black)), 0, 255))
    # what is not known has a shade too
    return np.asarray(np.nan_to_num(shades), np.uint8)
