"""A band of a raster: opened, checked, and laid beside the tiles of a grid."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from roadrisk.errors import SourceError
from roadrisk.geometry.ground import ground_distances
from roadrisk.grid import FloatArray, Grid
from roadrisk.source_settings import RasterSource

_WIDTH_AT_ONCE = 1024
# running sums keep 16 digits, so a value this large would blur the pixels beside it
_LARGEST = 1e12


@dataclass(frozen=True)
class RasterBand:
    """A band of an open raster, and the way to it from the grid.

    Parameters
    ----------
    to_crs : from the grid's CRS; none where the raster has the same.
    pieces : straight pieces that the edge of a tile needs to follow its true course.
    middle_lng : of the grid, by whole turns beside the raster; None unless the raster is in degrees.
    """

    opened: Any
    source: RasterSource
    crs: CRS
    grid: Grid
    to_crs: Transformer | None
    pieces: int
    middle_lng: float | None

    @property
    def where(self) -> str:
        """The band in a message."""
        return f"{self.source.path}: band {self.source.band}"

    @property
    def unit(self) -> str:
        """Of the values, as the user says, else the file."""
        return self.source.unit or self.opened.units[self.source.band - 1] or ""

    @property
    def scaled(self) -> tuple[float, float]:
        """Scale and offset: value = stored * scale + offset."""
        number = self.source.band - 1
        return float(self.opened.scales[number]), float(self.opened.offsets[number])

    @property
    def missing(self) -> str:
        """How the file says what is missing, for people."""
        flags = self.opened.mask_flag_enums[self.source.band - 1]
        if MaskFlags.nodata in flags:
            return f"{self.opened.nodatavals[self.source.band - 1]:g} is missing"
        return "nothing is missing" if MaskFlags.all_valid in flags else "missing where its mask says so"

    def stored(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(H, W) values as the file has them, and whether each is valid.

        Raises
        ------
        SourceError : the file is damaged.
        """
        try:
            stored = self.opened.read(self.source.band, window=window)
            valid = self.opened.read_masks(self.source.band, window=window) > 0
        except RasterioError as error:
            raise SourceError(f"{self.source.path} is damaged: {_one_line(error)}; get it again") from None
        return stored, valid & np.isfinite(stored) if stored.dtype.kind == "f" else valid

    def values(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(H, W) values, 0 where missing, and whether each is valid.

        Raises
        ------
        SourceError : the file is damaged, or a value is so large that it must mean a missing one.
        """
        values, valid = self.stored(window)
        if not valid.all():
            values = np.where(valid, values, np.zeros(1, values.dtype))
        if values.dtype.itemsize >= 4 and max(values.max(), -float(values.min())) > _LARGEST:
            raise SourceError(
                f"{self.where} holds values beyond {_LARGEST:g}, which can only mean that none is known; "
                "say so in the file with gdal_edit.py -a_nodata VALUE"
            )
        scale, offset = self.scaled
        return (values if (scale, offset) == (1, 0) else (values * scale + offset) * valid), valid

    def to_pixels(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Columns and rows of pixels of points in the grid's CRS."""
        if self.to_crs is not None:
            x, y = self.to_crs.transform(x, y)
        if self.middle_lng is not None:
            # no jump of a whole turn inside the grid
            x = self.middle_lng + (x - self.middle_lng + 180) % 360 - 180
        col, row = ~self.opened.transform @ (np.asarray(x), np.asarray(y))
        return np.asarray(col), np.asarray(row)

    def pixel_sides_m(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """(H,) ground width and height of the pixels of each row, in the middle of the window."""
        row = window.row_off + 0.5 + np.arange(window.height)
        col = np.full(len(row), window.col_off + window.width / 2)

        def metres(dx: float, dy: float) -> FloatArray:
            ends = [self.opened.transform @ (col + s * dx, row + s * dy) for s in (-0.5, 0.5)]
            return ground_distances(self.crs, *(np.stack(end, axis=-1) for end in ends))

        return metres(1, 0), metres(0, 1)

    def windows(self, pixels: int) -> Iterator[Window]:
        """The part of the raster that the grid meets, in windows of about as many pixels as given.

        Raises
        ------
        SourceError : they do not meet.
        """
        left, top, right, bottom = _pixel_bounds(self)
        if left >= right or top >= bottom:
            raise _no_overlap(self)
        # windows of whole blocks, so that each block is unpacked once
        height, width = self.opened.block_shapes[self.source.band - 1]
        cols = width * max(1, _WIDTH_AT_ONCE // width)
        rows = max(1, pixels // cols)
        rows = rows // height * height or rows
        for r in range(top // rows * rows, bottom, rows):
            for c in range(left // cols * cols, right, cols):
                start_r, start_c = max(r, top), max(c, left)
                stop_r, stop_c = min(r + rows, bottom), min(c + cols, right)
                yield Window(start_c, start_r, stop_c - start_c, stop_r - start_r)

    def tiles(self, window: Window) -> tuple[range, range]:
        """Rows and cols of the tiles that a window meets, and some around."""
        rows, cols = self.grid.shape
        px, py = _outline(
            window.col_off, window.row_off, window.col_off + window.width, window.row_off + window.height
        )
        x, y = self.opened.transform @ (px, py)
        if self.to_crs is not None:
            x, y = self.to_crs.transform(x, y, direction="INVERSE")
        col, row = ~self.grid.transform @ (np.asarray(x), np.asarray(y))
        if not (np.isfinite(col).all() and np.isfinite(row).all()):
            return range(rows), range(cols)
        left, top, right, bottom = _wide(col, row)
        return (
            range(max(0, math.floor(top)), min(rows, math.ceil(bottom))),
            range(max(0, math.floor(left)), min(cols, math.ceil(right))),
        )


@contextmanager
def opened_band(source: RasterSource, grid: Grid) -> Iterator[RasterBand]:
    """The band of a raster that a source names.

    Raises
    ------
    SourceError : not one raster, no CRS, none that the grid's can be brought to, or no such band.
    """
    if any(c in source.path for c in "*?") and not Path(source.path).exists():
        raise SourceError(
            f"{source.path} is a pattern, and a raster is one file; join them with "
            f"gdalbuildvrt {source.name or 'all'}.vrt FILES and give that"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            opened = rasterio.open(source.path)
    except RasterioError as error:
        raise SourceError(f"{source.path} is not a raster that GDAL opens: {_one_line(error)}") from None
    with opened:
        _check(opened, source)
        yield _band(opened, source, grid)


def _check(opened: Any, source: RasterSource) -> None:
    if opened.subdatasets and not opened.count:
        raise SourceError(
            f"{source.path} holds several rasters; give one as path, such as {opened.subdatasets[0]}"
        )
    if source.band > opened.count:
        raise SourceError(f"{source.path} has no band {source.band}; its bands are 1 to {opened.count}")
    if np.dtype(opened.dtypes[source.band - 1]).kind == "c":
        raise SourceError(f"{source.path}: band {source.band} holds complex numbers; give a real one")
    if opened.crs is None:
        raise SourceError(f"{source.path} has no CRS; give it one with gdal_edit.py -a_srs EPSG:CODE")


def _band(opened: Any, source: RasterSource, grid: Grid) -> RasterBand:
    left, bottom, right, top = grid.bounds
    middle = np.array([grid.rows // 2]), np.array([grid.cols // 2])
    try:
        crs, grid_crs = CRS.from_wkt(opened.crs.to_wkt()), CRS.from_user_input(grid.crs)
        same = crs == grid_crs or (crs.to_authority() or "") == grid_crs.to_authority()
        to_crs = None if same else Transformer.from_crs(grid_crs, crs, always_xy=True)
        cell = grid.cells(*middle, None if to_crs is None else crs.to_wkt())
    except (CRSError, ProjError):
        raise SourceError(
            f"{source.path}: no way from {grid.crs} to its CRS, {opened.crs.to_string()[:80]}; "
            "warp it with gdalwarp -t_srs"
        ) from None
    lng = None
    if to_crs is not None and crs.is_geographic:
        lng = float(to_crs.transform((left + right) / 2, (bottom + top) / 2)[0])
        lng += 360 * round(((opened.bounds.left + opened.bounds.right) / 2 - lng) / 360)
    return RasterBand(
        opened, source, crs, grid, to_crs, (int(shapely.get_num_coordinates(cell)[0]) - 1) // 4, lng
    )


def _pixel_bounds(band: RasterBand) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels that the grid meets; empty where it meets none."""
    box = _wide(*band.to_pixels(*_outline(*band.grid.bounds)))
    if not all(map(math.isfinite, box)):
        raise _no_overlap(band)
    return (
        max(0, math.floor(box[0])),
        max(0, math.floor(box[1])),
        min(band.opened.width, math.ceil(box[2])),
        min(band.opened.height, math.ceil(box[3])),
    )


def _outline(left: float, bottom: float, right: float, top: float) -> tuple[FloatArray, FloatArray]:
    """Points around a box: its edges may bow in another CRS."""
    t = np.linspace(0, 1, 52)
    x, y, ones = left + (right - left) * t, bottom + (top - bottom) * t, np.ones(len(t))
    return (
        np.concatenate([x, x, left * ones, right * ones]),
        np.concatenate([bottom * ones, top * ones, y, y]),
    )


def _wide(x: FloatArray, y: FloatArray) -> tuple[float, float, float, float]:
    """Left, top, right, bottom around points, with a margin for what bows between them."""
    left, right, top, bottom = (float(v) for v in (x.min(), x.max(), y.min(), y.max()))
    more_x, more_y = 1 + (right - left) / 100, 1 + (bottom - top) / 100
    return left - more_x, top - more_y, right + more_x, bottom + more_y


def _no_overlap(band: RasterBand) -> SourceError:
    x, y = _outline(*band.grid.bounds)
    if band.to_crs is not None:
        x, y = band.to_crs.transform(x, y)
    there = " ".join(f"{v:.6g}" for v in band.opened.bounds)
    here = " ".join(f"{v:.6g}" for v in (np.min(x), np.min(y), np.max(x), np.max(y)))
    return SourceError(
        f"{band.source.path} does not meet the grid: it is in {there}, the grid in {here} "
        "(left bottom right top in the CRS of the raster); check --bbox"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
