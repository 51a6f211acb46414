"""Pictures in files, read by window: PNG, JPEG, TIFF and the like, of any size."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import windows
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from roadrisk.errors import SourceError
from roadrisk.mosaic.picture import Mask, Picture
from roadrisk.roads.scenes import Truth, Window, within

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".jp2")
# what holds its own pixels: any other may name files of this computer
_DRIVERS = ["GTiff", "PNG", "JPEG", "WEBP", "BMP", "JP2OpenJPEG"]
_LOSSY = {"JPEG", "WEBP", "JP2OpenJPEG"}
_LOSSY_TIFF = {"jpeg", "webp", "lerc"}
_OPAQUE = 128


@dataclass(frozen=True, eq=False)
class PictureFile:
    """What the head of a picture's file says of it.

    Parameters
    ----------
    colours : numbers of its bands, from 1, without alpha.
    shades : (256, 4) red, green, blue and opacity of each value of a palette; None without one.
    nodata : the value that stands for nothing; None where none does.
    whole : whether nothing can be unknown in it.
    lossy : whether pixels may not be those that were saved.
    metres_per_pixel : ground side of a pixel [m]; None where it has no place.
    """

    path: Path
    height: int
    width: int
    colours: tuple[int, ...]
    shades: NDArray[np.uint8] | None
    nodata: float | None
    whole: bool
    lossy: bool
    metres_per_pixel: float | None

    @property
    def bands(self) -> int:
        """Of its picture: 1 or 3."""
        return len(self.colours) if self.shades is None else 1 if _is_grey(self.shades) else 3

    @property
    def said(self) -> str:
        """Its size, for people."""
        return f"{self.width} x {self.height} px"


def picture_file(path: Path) -> PictureFile:
    """What the head of a picture's file says.

    Raises
    ------
    SourceError : no picture, not of 8 bit, or of other bands than grey or red, green, blue.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise SourceError(f"{str(path)!r} has a name that is no text; rename it") from None
    with opened(path) as source:
        interp = source.colorinterp
        kinds = {kind for kind in source.dtypes if kind != "uint8"}
        if kinds:
            raise SourceError(
                f"{path} has {min(kinds)} pixels; scale them to 8 bit (gdal_translate -ot Byte -scale)"
            )
        colours = tuple(n for n, kind in enumerate(interp, 1) if kind != ColorInterp.alpha)
        if len(colours) not in (1, 3):
            raise SourceError(
                f"{path} has {len(colours)} bands without alpha; give pictures of one band or of three "
                "(gdal_translate -b 1 -b 2 -b 3)"
            )
        flags = set(source.mask_flag_enums[0])
        shades = _shades(source) if interp[0] == ColorInterp.palette else None
        return PictureFile(
            path,
            source.height,
            source.width,
            colours,
            shades,
            source.nodata if MaskFlags.nodata in flags else None,
            MaskFlags.all_valid in flags and (shades is None or bool((shades[:, 3] >= _OPAQUE).all())),
            source.driver in _LOSSY or str(source.profile.get("compress")).lower() in _LOSSY_TIFF,
            _metres_per_pixel(source),
        )


@dataclass(eq=False)
class FilePlane:
    """A picture in a file; a copy, as of `copy.copy` or pickle, opens the file for itself.

    Parameters
    ----------
    keep : decode it once and keep it, rather than read each window from the file.
    zero_is_known : whether 0 is a value where the file says that it stands for nothing.
    """

    file: PictureFile
    keep: bool = False
    zero_is_known: bool = False
    _kept: Picture | None = field(default=None, init=False, repr=False)
    _source: Any = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}

    @property
    def height(self) -> int:
        return self.file.height

    @property
    def width(self) -> int:
        return self.file.width

    @property
    def bands(self) -> int:
        return self.file.bands

    def read(self, window: Window) -> Picture:
        """Pixels (bands, height, width) and where they are known; beyond the picture nothing is.

        Raises
        ------
        SourceError : the file is gone or not whole.
        """
        shape = window.height, window.width
        picture = Picture(np.zeros((self.bands, *shape), np.uint8), np.zeros(shape, bool))
        all_of_it = Window(0, 0, self.height, self.width)
        there, (rows, cols) = within(all_of_it, window), within(window, all_of_it)
        some = Window(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        if not some.height or not some.width:
            return picture
        if self.keep:
            whole = self._whole()
            read = Picture(whole.pixels[:, rows, cols], whole.valid[rows, cols])
        else:
            read = self._read(some)
        picture.pixels[:, *there], picture.valid[there] = read.pixels, read.valid
        return picture

    def close(self) -> None:
        """Let go of the file; a later read opens it again."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _whole(self) -> Picture:
        if self._kept is None:
            self._kept = self._read(Window(0, 0, self.height, self.width))
            self.close()
        return self._kept

    def _read(self, window: Window) -> Picture:
        there = windows.Window(window.x, window.y, window.width, window.height)
        with _settings(self.file.path):
            if self._source is None:
                self._source = _open(self.file.path)
            filed = self._source.read(list(self.file.colours), window=there)
            valid = self._valid(there, filed.shape[1:])
        if self.file.shades is not None:
            shown = self.file.shades[filed[0]]
            filed = shown[..., : self.bands].transpose(2, 0, 1)
            valid &= shown[..., 3] >= _OPAQUE
        return Picture(np.ascontiguousarray(filed) * valid, valid)

    def _valid(self, there: windows.Window, shape: tuple[int, int]) -> Mask:
        if self.file.whole or (self.zero_is_known and self.file.nodata == 0):
            return np.ones(shape, bool)
        return np.asarray(self._source.dataset_mask(window=there) >= _OPAQUE)


@dataclass(frozen=True, eq=False)
class FileTruths:
    """Where a mask in a file shows road; a copy opens the file for itself, as one of its plane does.

    Parameters
    ----------
    above : a pixel is road above this value.
    """

    plane: FilePlane
    above: int

    def __copy__(self) -> FileTruths:
        return FileTruths(copy(self.plane), self.above)

    def read(self, window: Window) -> Truth:
        """Where there is road; beyond the mask nothing is known."""
        mask = self.plane.read(window)
        return Truth(mask.pixels.max(axis=0) > self.above, mask.valid)

    def close(self) -> None:
        """Let go of the file; a later read opens it again."""
        self.plane.close()


def _is_grey(shades: NDArray[np.uint8]) -> bool:
    return bool((shades[:, :3] == shades[:, :1]).all())


def _shades(source: Any) -> NDArray[np.uint8]:
    shades = np.zeros((256, 4), np.uint8)
    for value, shade in source.colormap(1).items():
        shades[value] = shade
    return shades


def _metres_per_pixel(source: Any) -> float | None:
    """Ground side of a pixel in the middle of a picture [m]."""
    from pyproj import CRS, Geod, Proj, Transformer

    if source.crs is None or source.transform.is_identity:
        return None
    crs, to_crs = CRS.from_wkt(source.crs.to_wkt()), source.transform
    x, y = to_crs @ (source.width / 2, source.height / 2)
    if crs.is_geographic:
        _, _, across = Geod(ellps="WGS84").inv(x, y, x + to_crs.a, y + to_crs.d)
        _, _, down = Geod(ellps="WGS84").inv(x, y, x + to_crs.b, y + to_crs.e)
        return math.sqrt(across * down)
    if not crs.is_projected:
        return None
    lng, lat = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
    unit_m = crs.axis_info[0].unit_conversion_factor
    # as tiles have it: metres of Web Mercator are too long
    ground = abs(to_crs.determinant) * unit_m**2 / Proj(crs).get_factors(lng, lat).areal_scale
    return math.sqrt(ground) if math.isfinite(ground) and ground > 0 else None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A picture's file as rasterio has it, whose errors become one line.

    Raises
    ------
    SourceError : no picture, or one that is cut off.
    """
    with _settings(path), _open(path) as source:
        yield source


def _open(path: Path) -> Any:
    # rasterio.open takes no list of drivers
    return DatasetReader(str(path), driver=_DRIVERS)


@contextmanager
def _settings(path: Path) -> Iterator[None]:
    """GDAL's settings, and its errors as one line."""
    try:
        with (
            warnings.catch_warnings(),
            # files that are cut off are otherwise filled up in silence
            rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING=True, GDAL_PNG_WHOLE_IMAGE_OPTIM=False),
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except RasterioError:
        raise SourceError(f"{path} is not a whole picture; save or fetch it again") from None
