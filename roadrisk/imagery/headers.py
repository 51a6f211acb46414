"""Headers: what opening a sheet tells of it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from roadrisk.errors import SourceError
from roadrisk.grid import Bbox, FloatArray, Grid, LngLatBbox, transformer
from roadrisk.imagery.given import Given
from roadrisk.imagery.names import public_name
from roadrisk.imagery.remote import opened
from roadrisk.imagery.sheets import Bands, Sheet

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
# what GDAL calls the palette of a mask of one bit
BLACK_AND_WHITE = {0: (0, 0, 0, 255), 1: (255, 255, 255, 255)}
STRETCHED = ("uint16", "int16", "uint32", "int32", "float32", "float64")
LATTICE = 21
# files and names by which GDAL's own drivers ask a server
SERVICE = re.compile(
    r"\s*(?:<(?:GDAL_WMS|GDAL_WMTS|WCS_GDAL|WMS_Capabilities|WMT_MS_Capabilities|Capabilities)\b"
    r"|(?:WMS|WMTS|WCS|EEDA|EEDAI|PLMosaic|DAAS|STACIT|STACTA):)",
    re.IGNORECASE,
)
HEAD_BYTES = 1000
# a projected edge bows between lattice points by far less than this share of the sheet
BOW = 0.002


class Header(NamedTuple):
    """What opening a sheet tells of it.

    Parameters
    ----------
    crs : as WKT.
    to_crs : (px, py) -> (x, y) in `crs`.
    files : names of GDAL's of everything it consists of, itself too: a world file, a mask, what lies below a
        VRT.
    """

    path: str
    crs: str
    to_crs: Affine
    width: int
    height: int
    dtype: str
    bands: Bands
    files: tuple[str, ...]


def header_of(path: str, chosen: tuple[int, ...] | None, leave_out: str) -> Header:
    """What a sheet's file says of it.

    Parameters
    ----------
    chosen : the bands that are its picture; else what the file says of its bands.
    leave_out : for the message: how the file is left out when it is no picture.

    Raises
    ------
    SourceError : not a raster, a server, no CRS, no position, or bands that make no picture.
    """
    name = public_name(path)
    if _is_service(path):
        raise SourceError(
            f"{name} describes a server, which is asked in our own manners alone; give the address of its "
            "tiles: https://HOST/{z}/{x}/{y}.png"
        )
    try:
        with opened(path) as source:
            if source.crs is None:
                raise SourceError(
                    f"{name} has no CRS; write it into the file: gdal_edit.py -a_srs EPSG:26986 {name}"
                )
            if source.transform.is_identity or not _is_place(source.transform):
                raise SourceError(
                    f"{name} has no position; write it into the file: "
                    f"gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM {name}"
                )
            bands = _bands(source, name, chosen)
            return Header(
                path,
                source.crs.to_wkt(),
                source.transform,
                source.width,
                source.height,
                source.dtypes[bands.colours[0] - 1],
                bands,
                tuple(source.files),
            )
    except RasterioError as error:
        detail = public_name(str(error).splitlines()[0])
        raise SourceError(f"{name} is not a raster that GDAL opens; {leave_out} ({detail})") from None


def sheet_of(header: Header, given: Given, grid: Grid) -> Sheet:
    """A sheet as the grid sees it.

    Raises
    ------
    SourceError : nothing leads from its CRS to the grid's.
    """
    try:
        bounds, lnglat, pixel = _seen(header, grid)
    except ProjError as error:
        detail = str(error).splitlines()[0]
        raise SourceError(
            f"{public_name(header.path)} has a CRS from which nothing leads to the region's; write the right "
            f"one into the file: gdal_edit.py -a_srs EPSG:26986 {public_name(header.path)} ({detail})"
        ) from None
    return Sheet(
        path=header.path,
        crs=header.crs,
        to_crs=header.to_crs,
        width=header.width,
        height=header.height,
        dtype=header.dtype,
        bounds=bounds,
        lnglat=lnglat,
        pixel=pixel,
        bands=header.bands,
        identity=given.identity or {"path": header.path},
        taken=given.taken,
    )


def _seen(header: Header, grid: Grid) -> tuple[Bbox, LngLatBbox, float]:
    """A sheet's boxes in the grid's CRS and in degrees, and the side of its pixel where it meets the grid."""
    px, py = np.meshgrid(np.linspace(0, header.width, LATTICE), np.linspace(0, header.height, LATTICE))
    x, y = _moved(header.to_crs, px.ravel(), py.ravel())
    bounds = _box(*transformer(header.crs, grid.crs).transform(x, y))
    lnglat = LngLatBbox(*_box(*transformer(header.crs, "EPSG:4326").transform(x, y)))
    shared = meeting(bounds, grid.bounds)
    if shared is None:
        return bounds, lnglat, math.nan
    return bounds, lnglat, _pixel_side(header, transformer(grid.crs, header.crs), shared)


def meeting(a: Bbox, b: Bbox) -> Bbox | None:
    """What two boxes share, or None.

    >>> meeting(Bbox(0, 0, 2, 2), Bbox(1, 1, 3, 3))
    Bbox(left=1, bottom=1, right=2, top=2)
    """
    shared = Bbox(max(a.left, b.left), max(a.bottom, b.bottom), min(a.right, b.right), min(a.top, b.top))
    return shared if shared.left < shared.right and shared.bottom < shared.top else None


def _is_service(path: str) -> bool:
    """Whether a name, or the file that it names, is for one of GDAL's drivers that ask servers."""
    file = Path(path)
    try:
        with file.open("rb") as opened_file:
            head = opened_file.read(HEAD_BYTES).decode("latin-1")
    except OSError:
        head = path
    return SERVICE.match(re.sub(r"^\s*<\?xml.*?\?>", "", head)) is not None


def _is_place(transform: Affine) -> bool:
    """Whether pixels have an area."""
    area = abs(transform.determinant)
    return all(map(math.isfinite, transform)) and 0 < area < math.inf


def _bands(source: Any, name: str, chosen: tuple[int, ...] | None) -> Bands:
    kinds = source.colorinterp
    alpha = kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else 0
    if chosen is not None and max(chosen) > source.count:
        raise SourceError(f"{name} has {source.count} bands, and `bands` names {max(chosen)}; name others")
    colours = chosen or _colours(source, name, alpha)
    dtypes = {source.dtypes[band - 1] for band in colours}
    if len(dtypes) > 1 or not dtypes <= {"uint8", *STRETCHED}:
        raise SourceError(
            f"{name} has pixels of type {' and '.join(sorted(dtypes))}; a picture has one of uint8, "
            f"{', '.join(STRETCHED)}: gdal_translate -ot Float32 {name} float.tif"
        )
    # of three bands one may have a palette, which is not theirs; GDAL knows some of other types than an index
    palette = (
        chosen is None
        and len(colours) == 1
        and kinds[colours[0] - 1] == ColorInterp.palette
        and dtypes <= {"uint8", "uint16"}
        and source.colormap(colours[0]) != BLACK_AND_WHITE
    )
    if dtypes != {"uint8"}:
        return Bands(colours, alpha, white=0, palette=palette)
    bits = int(source.tags(colours[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
    return Bands(colours, alpha, white=2**bits - 1, palette=palette)


def _colours(source: Any, name: str, alpha: int) -> tuple[int, ...]:
    kinds = source.colorinterp
    colours = tuple(band for band in source.indexes if band != alpha)
    if len(colours) not in (1, 3, 4):
        raise SourceError(
            f"{name} has {len(colours)} colour bands, a picture has 1, 3 or 4; name three of them in a "
            "region file: bands = [4, 3, 2]"
        )
    if len(colours) == 1:
        return colours
    named = all(kind in kinds for kind in RGB)
    return tuple(kinds.index(kind) + 1 for kind in RGB) if named else colours[:3]


def _box(x: FloatArray, y: FloatArray) -> Bbox:
    """A box around the points that can be projected; not finite when none can."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return Bbox(math.inf, math.inf, -math.inf, -math.inf)
    x, y = x[known], y[known]
    dx, dy = float(np.ptp(x)) * BOW, float(np.ptp(y)) * BOW
    return Bbox(float(x.min()) - dx, float(y.min()) - dy, float(x.max()) + dx, float(y.max()) + dy)


def _pixel_side(header: Header, to_sheet: Transformer, shared: Bbox) -> float:
    """Side of a sheet's pixel in the grid's unit: from the area a unit square has in the sheet."""
    x, y = (shared.left + shared.right) / 2, (shared.bottom + shared.top) / 2
    to_pixels = ~header.to_crs
    corners = to_sheet.transform(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    px, py = _moved(to_pixels, *corners)
    area = (px[1] - px[0]) * (py[2] - py[0]) - (px[2] - px[0]) * (py[1] - py[0])
    if not 0 < abs(area) < math.inf:
        raise ProjError("the region's middle has no place in it")
    return float(1 / math.sqrt(abs(area)))


def _moved(transform: Affine, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f
