"""Pixels of more than 8 bit: how they become 8 bit, measured once over the region.

The stretch is recorded with the dataset and the model, so that the next metro is stretched the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from roadrisk.errors import SourceError
from roadrisk.grid import Bbox, Grid, transformer
from roadrisk.imagery.headers import meeting
from roadrisk.imagery.names import public_name
from roadrisk.imagery.reading import opaque, seen
from roadrisk.imagery.remote import opened, remote_options
from roadrisk.imagery.sheets import Sheet, Sheets, Stretch

# the darkest and the brightest hundredths are cut off, as QGIS does
CUT_PERCENT = (2.0, 98.0)
SAMPLED_SHEETS = 64
SAMPLED_SIDE_PX = 256


def stretched(sheets: Sheets, grid: Grid, known: Stretch | None) -> Sheets:
    """The same sheets with the stretch that makes them 8 bit; none where they are 8 bit already.

    Parameters
    ----------
    known : of a model or another region; else measured over the pixels inside the grid.

    Raises
    ------
    SourceError : nothing to measure, a sheet cannot be read, or a stretch is given for pictures of 8 bit.
    """
    if sheets.found[0].dtype == "uint8":
        if known is not None:
            raise SourceError(
                f"{public_name(sheets.found[0].path)} is 8 bit, and the stretch is of pictures of more; "
                "leave out --stretch-of"
            )
        return sheets
    stretch = known or measured_stretch(sheets.found, grid)
    return replace(sheets, found=tuple(replace(sheet, stretch=stretch) for sheet in sheets))


def measured_stretch(sheets: Sequence[Sheet], grid: Grid) -> Stretch:
    """For each of three colours the values below and above which 2 % of the pixels in the grid lie.

    At most 64 sheets are looked at, evenly spread, at most 256 x 256 pixels of each.
    """
    step = -(-len(sheets) // SAMPLED_SHEETS)
    samples: list[NDArray[np.float64]] = []
    unread: list[SourceError] = []
    with rasterio.Env(**remote_options()):
        for sheet in sheets[::step]:
            try:
                samples.append(_sample(sheet, grid))
            except RasterioError as error:
                # the tiles that need what is damaged will fail, and are told then
                unread.append(_unread(sheet, error))
    if unread and not samples:
        raise unread[0]
    values = np.concatenate(samples, axis=1)
    if not values.shape[1]:
        raise SourceError(
            f"{public_name(sheets[0].path)} and the others have no pixel inside the grid to measure a "
            "stretch from; check --bbox, or give --stretch-of"
        )
    low, high = np.percentile(values, CUT_PERCENT, axis=1)
    # one value everywhere is shown as black, not divided by nothing
    high = np.where(high > low, high, low + 1)
    return tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))


def _sample(sheet: Sheet, grid: Grid) -> NDArray[np.float64]:
    """(3, n) values of a sheet where it is seen and meets the grid; of an overview, where it has one."""
    with opened(sheet.path) as source:
        window = _window_inside(sheet, grid)
        shape = tuple(max(1, min(SAMPLED_SIDE_PX, int(side))) for side in (window.height, window.width))
        where: dict[str, Any] = {"window": window, "out_shape": shape, "resampling": Resampling.nearest}
        colours = source.read(list(sheet.bands.colours), **_of_bands(where, len(sheet.bands.colours)))
        valid = seen(source, sheet.bands, colours, **where)
        if sheet.bands.alpha and not valid.any():
            _check_alpha(source, sheet, where)
    values = colours[:, valid].astype(np.float64)
    return np.broadcast_to(values, (3, values.shape[1])) if len(values) == 1 else values


def _unread(sheet: Sheet, error: RasterioError) -> SourceError:
    detail = str(error.__cause__ or error).splitlines()[0]
    return SourceError(
        f"{public_name(sheet.path)} cannot be read for its stretch; replace it or leave it "
        f"out of --imagery ({detail})"
    )


def _check_alpha(source: Any, sheet: Sheet, where: dict[str, Any]) -> None:
    """Nothing, unless an alpha band that hides all has been written for another kind of pixel."""
    alpha, full = sheet.bands.alpha, opaque(source, sheet.bands.alpha)
    most = source.read(alpha, **where).max()
    if most in {1, 255} - {full}:
        name = public_name(sheet.path)
        raise SourceError(
            f"{name} has an alpha band of at most {most:g}, and in its pixels of "
            f"{source.dtypes[alpha - 1]} {full} is opaque; write it anew: "
            f"gdal_translate -scale_{alpha} 0 {most:g} 0 {full} {name} opaque.tif"
        )


def _of_bands(where: dict[str, Any], bands: int) -> dict[str, Any]:
    return {**where, "out_shape": (bands, *where["out_shape"])}


def _window_inside(sheet: Sheet, grid: Grid) -> Window:
    """The part of a sheet, in its pixels, around what it shares with the grid."""
    shared = meeting(sheet.bounds, grid.bounds) or sheet.bounds
    box = Bbox(*transformer(grid.crs, sheet.crs).transform_bounds(*shared, densify_pts=21))
    corners = np.array([~sheet.to_crs @ (x, y) for x in (box.left, box.right) for y in (box.bottom, box.top)])
    low = np.clip(np.floor(corners.min(axis=0)), 0, (sheet.width - 1, sheet.height - 1))
    high = np.clip(np.ceil(corners.max(axis=0)), low + 1, (sheet.width, sheet.height))
    return Window(*low, *(high - low))
