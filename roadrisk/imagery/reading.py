"""Reading: a window of a sheet's pixels, as colours and where they are known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from roadrisk.imagery.remote import opened, opening_environment, remote_options
from roadrisk.imagery.sheets import Bands, Sheet

# (H, W, 4) red, green, blue, and 255 where known; the colours are 0 where it is 0, and weighed by it between
Weighed = NDArray[np.uint8]
Mask = NDArray[np.bool_]

CACHE_BYTES = 256 << 20
# of a sheet that is shrunk while it is read: pixels at a time
SHRUNK_PX = 8_000_000
# a pixel that is this much too coarse is still as fine as wanted: a sheet's pixel is not the same all over it
AS_FINE = 1.02
OPAQUE = {"uint16": 65535, "int16": 32767}
# what stands in the place of a mask
MASKLESS = {MaskFlags.nodata, MaskFlags.alpha, MaskFlags.all_valid}


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
        window = Window(box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0)
        filed = self.source.read(list(self.sheet.bands.colours), window=window)
        known = seen(self.source, self.sheet.bands, filed, window=window)
        colours = self._colours(filed, known)
        weight = known.view(np.uint8) * np.uint8(255)
        if not known.all():
            colours = [np.asarray(cv2.copyTo(colour, weight), np.uint8) for colour in colours]
        return np.asarray(cv2.merge([*colours, weight]), np.uint8)

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


def seen(source: Any, bands: Bands, filed: NDArray[Any], **where: Any) -> Mask:
    """(H, W) where a sheet has a picture, its palette apart.

    Parameters
    ----------
    filed : (C, H, W) its colours.
    where : how they were read: the window, and the size it is read at.
    """
    first = bands.colours[0]
    flags = set(source.mask_flag_enums[first - 1])
    if MaskFlags.nodata in flags:
        known = np.zeros(filed.shape[1:], bool)
        for band, values in zip(bands.colours, filed, strict=True):
            known |= _differs(values, source.nodatavals[band - 1])
    elif flags & MASKLESS:
        known = np.ones(filed.shape[1:], bool)
    else:
        known = source.read_masks(first, **where) >= 128
    if bands.alpha:
        # by itself: it may be of another type than the colours
        known &= source.read(bands.alpha, **where) > opaque(source, bands.alpha) // 2
    if filed.dtype.kind == "f":
        known &= np.isfinite(filed).all(axis=0)
    return known


def opaque(source: Any, alpha: int) -> int:
    """The value of an alpha band that hides all below it, as GDAL's warp has it: 255 for floats too."""
    bits = source.tags(alpha, ns="IMAGE_STRUCTURE").get("NBITS")
    return 2 ** int(bits) - 1 if bits else OPAQUE.get(source.dtypes[alpha - 1], 255)


@contextmanager
def reading_environment() -> Iterator[None]:
    """GDAL's settings for reading sheets."""
    with rasterio.Env(**{**remote_options(), "GDAL_CACHEMAX": CACHE_BYTES}):
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
    with _at_level(sheet, scale) as (source, negative):
        x_scale, y_scale = sheet.width / source.width, sheet.height / source.height
        factor = max(1, math.ceil(scale / math.sqrt(x_scale * y_scale) / most))
        if negative and sheet.stretch is not None:
            sheet = replace(sheet, stretch=tuple((white, black) for black, white in sheet.stretch))
        yield OpenSheet(
            sheet=sheet,
            source=source,
            factor=factor,
            x_scale=x_scale * factor,
            y_scale=y_scale * factor,
            width=-(-source.width // factor),
            height=-(-source.height // factor),
            shades=_shades(source, sheet, negative),
        )


@contextmanager
def _at_level(sheet: Sheet, scale: float) -> Iterator[tuple[Any, bool]]:
    """A sheet at the level that is as fine as wanted, and whether its 0 is white."""
    with opened(sheet.path) as whole:
        negative = whole.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        ratios = whole.overviews(sheet.bands.colours[0])
        fine = {ratio: level for level, ratio in enumerate(ratios) if ratio <= scale * AS_FINE}
        if fine:
            fine = {ratio: fine[ratio] for ratio in fine.keys() & _masked_ratios(whole, sheet)}
        if not fine:
            yield whole, negative
            return
        with opened(sheet.path, overview_level=fine[max(fine)]) as overview:
            # nodata that was said after they were made is not known to overviews, nor kept out of their means
            alike = str(overview.nodatavals) == str(whole.nodatavals)
            yield overview if alike else whole, negative


def _masked_ratios(whole: Any, sheet: Sheet) -> list[int]:
    """Of the overviews those that have the sheet's mask, where it has one.

    GDAL says of all that they have it, and gives 255 everywhere where they do not: when the mask was
    written after them, or they lie beside the file and their masks do not. The mask as a picture of its
    own says which it has, those of 128 pixels a side or more.
    """
    band = sheet.bands.colours[0]
    if MASKLESS.intersection(whole.mask_flag_enums[band - 1]):
        return list(whole.overviews(band))
    place = ",".join(map(str, sheet.to_crs.to_gdal()))
    mask = (
        f'<VRTDataset rasterXSize="{sheet.width}" rasterYSize="{sheet.height}">'
        f"<GeoTransform>{place}</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{escape(sheet.path)}</SourceFilename><SourceBand>mask,{band}</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with opening_environment(sheet.path), DatasetReader(mask, driver="VRT") as picture:
        return list(picture.overviews(1))


def _shades(source: Any, sheet: Sheet, negative: bool) -> NDArray[np.uint8] | None:
    bands = sheet.bands
    if bands.palette:
        shades = np.zeros((np.iinfo(sheet.dtype).max + 1, 4), np.uint8)
        for value, colour in source.colormap(bands.colours[0]).items():
            shades[value] = colour
        return shades
    if sheet.stretch is not None or (bands.white == 255 and not negative):
        return None
    grey = np.rint(np.minimum(np.arange(256) * (255 / bands.white), 255)).astype(np.uint8)
    if negative:
        grey = 255 - grey
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
