"""Sheets: which pictures there are, where each lies on the grid, and how to read it."""

from __future__ import annotations

import glob
import math
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from roadrisk.errors import SourceError
from roadrisk.files import identity_of
from roadrisk.grid import Bbox, FloatArray, Grid, LngLatBbox

# what goes beside a picture
SIDECARS = {".xml", ".ovr", ".msk", ".prj", ".wld", ".idx", ".md5", ".txt", ".csv", ".json", ".html", ".pdf"}
SIDECARS |= {".tfw", ".tifw", ".tiffw", ".j2w", ".jp2w", ".jgw", ".jpgw", ".pgw", ".pngw"}
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
# what GDAL calls the palette of a mask of one bit
BLACK_AND_WHITE = {0: (0, 0, 0, 255), 1: (255, 255, 255, 255)}
OPENED_AT_ONCE = 8
LATTICE = 21
# a projected edge bows between lattice points by far less than this share of the sheet
BOW = 0.002


class Bands(NamedTuple):
    """Which bands of a sheet are its picture.

    Parameters
    ----------
    colours : three, or one grey.
    alpha : 0 when there is none.
    white : the value that is white: 255, or 1 in a mask of one bit.
    """

    colours: tuple[int, ...]
    alpha: int
    white: int


@dataclass(frozen=True)
class Sheet:
    """One picture, as the grid sees it.

    Parameters
    ----------
    path : what GDAL opens.
    bounds : a box around it in the grid's CRS, never too small.
    lnglat : its box in degrees.
    pixel : side of its pixel in the grid's CRS, where it meets the grid.
    identity : path, bytes and mtime; the path alone when it is no local file.
    """

    path: str
    bounds: Bbox
    lnglat: LngLatBbox
    pixel: float
    bands: Bands
    identity: dict[str, Any]


@dataclass(frozen=True)
class Sheets:
    """The sheets that meet a grid, in name order: where two overlap, the later one is seen.

    Parameters
    ----------
    outside : number of sheets found that lie outside the grid.
    """

    found: tuple[Sheet, ...]
    outside: int

    def __iter__(self) -> Iterator[Sheet]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def identities(self) -> list[dict[str, Any]]:
        """What makes them the same sheets, in order."""
        return [sheet.identity for sheet in self.found]

    @property
    def understood(self) -> tuple[str, ...]:
        """How the source was read, a line a fact."""
        kinds = [f"{len(sheet.bands.colours)}-band" for sheet in self.found]
        counts = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in sorted(set(kinds)))
        pixels = sorted(sheet.pixel for sheet in self.found)
        said = [
            f"{len(self):,} sheets ({counts}); {self.outside:,} more lie outside the grid",
            f"pixels of {pixels[0]:.4g} to {pixels[-1]:.4g} in the grid's unit",
        ]
        if len(self) > 1:
            said.append("sheets carry no date: where they overlap, the last in name order is seen")
        return tuple(said)


def found_sheets(patterns: Sequence[str], grid: Grid) -> Sheets:
    """The sheets that meet `grid`, from files, folders, patterns and other names GDAL opens.

    Files that go beside a picture (`.aux.xml`, `.tfw`, `.ovr`, ...) are passed over in a folder or a
    pattern. Every sheet is opened once, for its header.

    Parameters
    ----------
    patterns : `naip/*.tif`, `naip/**/*.tif`, a folder, a file, or a GDAL name such as `/vsizip/...`.

    Raises
    ------
    SourceError : nothing found, not a raster, no CRS, not 8 bit, bands that make no picture, or all of
        it outside the grid.
    """
    paths = sorted({path for pattern in patterns for path in _expanded(pattern)})
    # one environment and one filter for all threads: both are set for the process
    with (
        warnings.catch_warnings(),
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"),
        ThreadPoolExecutor(OPENED_AT_ONCE) as pool,
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        headers = pool.map(partial(_header, named=frozenset(patterns)), paths)
        sheets = [_sheet(header, grid) for header in headers]
    inside = tuple(sheet for sheet in sheets if meeting(sheet.bounds, grid.bounds) is not None)
    if not inside:
        raise _no_overlap(sheets, grid)
    return Sheets(inside, len(sheets) - len(inside))


def meeting(a: Bbox, b: Bbox) -> Bbox | None:
    """What two boxes share, or None.

    >>> meeting(Bbox(0, 0, 2, 2), Bbox(1, 1, 3, 3))
    Bbox(left=1, bottom=1, right=2, top=2)
    """
    shared = Bbox(max(a.left, b.left), max(a.bottom, b.bottom), min(a.right, b.right), min(a.top, b.top))
    return shared if shared.left < shared.right and shared.bottom < shared.top else None


def _expanded(pattern: str) -> list[str]:
    path = Path(pattern)
    if path.is_file():
        return [pattern]
    if path.is_dir():
        return _in_folder(path)
    if pattern.startswith(("xyz:", "stac:")) or "{z}" in pattern:
        raise SourceError(
            f"{pattern} is a tile server or a catalogue, which this version does not read; "
            "download the pictures and give the folder"
        )
    if pattern.startswith("/vsi") or "://" in pattern:
        return [pattern]
    if not glob.has_magic(pattern):
        raise SourceError(f"no such imagery: {pattern}; give a file, a folder or a quoted pattern")
    matched = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    found = [str(match) for match in matched if match.is_file() and _is_picture(match)]
    if not found:
        raise SourceError(f"the pattern {pattern} matches no picture; check it, and quote it in the shell")
    return found


def _in_folder(folder: Path) -> list[str]:
    found = [str(file) for file in folder.iterdir() if file.is_file() and _is_picture(file)]
    if not found:
        raise SourceError(
            f"the folder {folder} holds no picture; for folders below it use '{folder}/**/*.tif'"
        )
    return found


def _is_picture(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix.lower() not in SIDECARS


class _Header(NamedTuple):
    """What opening a sheet tells of it."""

    path: str
    crs: str
    to_crs: Affine
    width: int
    height: int
    bands: Bands


def _header(path: str, named: frozenset[str]) -> _Header:
    try:
        with rasterio.open(path) as source:
            if source.crs is None:
                raise SourceError(
                    f"{path} has no CRS; write it into the file: gdal_edit.py -a_srs EPSG:26986 {path}"
                )
            if source.transform.is_identity:
                raise SourceError(
                    f"{path} has no position; write it into the file: "
                    f"gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM {path}"
                )
            bands = _bands(source, path)
            return _Header(path, source.crs.to_wkt(), source.transform, source.width, source.height, bands)
    except RasterioError as error:
        detail = str(error).splitlines()[0]
        # only what was named can be left out; what lies in a folder comes with it
        fix = (
            "leave it out of --imagery"
            if path in named
            else f"move it away, or use a pattern such as '{Path(path).parent}/*.tif'"
        )
        raise SourceError(f"{path} is not a raster that GDAL opens; {fix} ({detail})") from None


def _sheet(header: _Header, grid: Grid) -> Sheet:
    px, py = np.meshgrid(np.linspace(0, header.width, LATTICE), np.linspace(0, header.height, LATTICE))
    x, y = _moved(header.to_crs, px.ravel(), py.ravel())
    bounds = _box(*_transformer(header.crs, grid.crs).transform(x, y))
    lnglat = LngLatBbox(*_box(*_transformer(header.crs, "EPSG:4326").transform(x, y)))
    shared = meeting(bounds, grid.bounds)
    pixel = _pixel_side(header, _transformer(grid.crs, header.crs), shared) if shared else math.nan
    file = Path(header.path)
    identity = identity_of(file, hashed=False) if file.is_file() else {"path": header.path}
    return Sheet(header.path, bounds, lnglat, pixel, header.bands, identity)


def _bands(source: Any, path: str) -> Bands:
    kinds = source.colorinterp
    alpha = kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else 0
    colours = tuple(band for band in source.indexes if band != alpha)
    if ColorInterp.palette in kinds and source.colormap(1) != BLACK_AND_WHITE:
        raise SourceError(f"{path} has a palette; expand it: gdal_translate -expand rgb {path} rgb.tif")
    if len(colours) not in (1, 3, 4):
        raise SourceError(
            f"{path} has {len(colours)} colour bands, a picture has 1, 3 or 4; choose three: "
            f"gdal_translate -b 1 -b 2 -b 3 {path} rgb.tif"
        )
    if len(colours) > 1:
        named = all(kind in kinds for kind in RGB)
        colours = tuple(kinds.index(kind) + 1 for kind in RGB) if named else colours[:3]
    for band in colours:
        if source.dtypes[band - 1] != "uint8":
            raise SourceError(
                f"{path} is {source.dtypes[band - 1]}, only 8 bit is read; convert it: "
                f"gdal_translate -ot Byte -scale {path} 8bit.tif"
            )
    bits = int(source.tags(colours[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
    return Bands(colours, alpha, white=2**bits - 1)


def _box(x: FloatArray, y: FloatArray) -> Bbox:
    """A box around the points that can be projected; not finite when none can."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return Bbox(math.inf, math.inf, -math.inf, -math.inf)
    x, y = x[known], y[known]
    dx, dy = float(np.ptp(x)) * BOW, float(np.ptp(y)) * BOW
    return Bbox(float(x.min()) - dx, float(y.min()) - dy, float(x.max()) + dx, float(y.max()) + dy)


def _pixel_side(header: _Header, to_sheet: Transformer, shared: Bbox) -> float:
    """Side of a sheet's pixel in the grid's unit: from the area a unit square has in the sheet."""
    x, y = (shared.left + shared.right) / 2, (shared.bottom + shared.top) / 2
    to_pixels = ~header.to_crs
    corners = to_sheet.transform(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    px, py = _moved(to_pixels, *corners)
    area = (px[1] - px[0]) * (py[2] - py[0]) - (px[2] - px[0]) * (py[1] - py[0])
    return float(1 / math.sqrt(abs(area)))


def _moved(transform: Affine, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


def _no_overlap(sheets: list[Sheet], grid: Grid) -> SourceError:
    corners = np.array([sheet.lnglat for sheet in sheets])
    there = LngLatBbox(*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
    to_degrees = _transformer(grid.crs, "EPSG:4326")
    here = LngLatBbox(*to_degrees.transform_bounds(*grid.bounds, densify_pts=LATTICE))
    count = f"{len(sheets):,} sheets lie" if len(sheets) > 1 else f"{sheets[0].path} lies"
    return SourceError(
        f"{count} outside the region: imagery {_said(there)}, region {_said(here)} (W S E N); "
        "check --bbox and the imagery's CRS"
    )


def _said(box: LngLatBbox) -> str:
    return " ".join(f"{value:.4f}" for value in box)


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
