"""Picture files that a table names: only files inside its folder, only formats that hold pixels."""

from __future__ import annotations

import warnings
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from roadrisk.errors import SourceError

Pixels = NDArray[np.uint8]

# GDAL drivers of formats that hold pixels and nothing else, by how their files start; left to choose, GDAL
# would open a VRT, which can name any file or address
PICTURE_DRIVERS = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "GTiff"),
    (b"MM\0*", "GTiff"),
    (b"II+\0", "GTiff"),
    (b"BM", "BMP"),
    (b"RIFF", "WEBP"),
    (b"\0\0\0\x0cjP  ", "JP2OpenJPEG"),
)


def file_inside(folder: Path, relative: str) -> Path:
    """The file that a table names, if it is inside the table's folder.

    Raises
    ------
    SourceError : an absolute path, an address, a way out of the folder (by `..` or a link), or no file.

    Examples
    --------
    >>> file_inside(Path("tables"), "../secret.png")
    Traceback (most recent call last):
    ...
    roadrisk.errors.SourceError: image_path '../secret.png' leads out of its folder; name files inside it
    """
    said = f"image_path {relative!r}"
    parts = PurePosixPath(relative.replace("\\", "/"))
    if "://" in relative or parts.is_absolute() or _is_drive(parts):
        raise SourceError(f"{said} is not relative; name files inside the table's folder")
    path = (folder / parts).resolve()
    if ".." in parts.parts or not path.is_relative_to(folder.resolve()):
        raise SourceError(f"{said} leads out of its folder; name files inside it")
    if not path.is_file():
        raise SourceError(f"{said}: no such file in {folder}")
    return path


def picture_of(path: Path) -> Pixels:
    """(3, H, W) of an 8-bit picture file; one band is repeated, a fourth (alpha) is left out.

    Raises
    ------
    SourceError : not a picture, not whole, or not 8 bit.
    """
    with path.open("rb") as file:
        start = file.read(16)
    driver = next((name for signature, name in PICTURE_DRIVERS if start.startswith(signature)), None)
    if driver is None:
        raise SourceError(f"{path.name} is not a whole picture; PNG, JPEG, TIFF, WebP, BMP and JP2 are read")
    try:
        with (
            warnings.catch_warnings(),
            # files that are cut off are otherwise filled up in silence
            rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING=True, GDAL_PNG_WHOLE_IMAGE_OPTIM=False),
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver) as picture:
                return _rgb(picture, path)
    except RasterioError:
        raise SourceError(f"{path.name} is not a whole picture; save or fetch it again") from None


def _is_drive(path: PurePosixPath) -> bool:
    return len(path.parts) > 0 and len(path.parts[0]) == 2 and path.parts[0].endswith(":")


def _rgb(file: Any, path: Path) -> Pixels:
    if file.dtypes[0] != "uint8":
        raise SourceError(
            f"{path.name} has {file.dtypes[0]} pixels; scale them to 8 bit (gdal_translate -ot Byte -scale)"
        )
    if file.count >= 3:
        return np.asarray(file.read([1, 2, 3]), np.uint8)
    band = file.read(1)
    try:
        colours = file.colormap(1)
    except ValueError:  # rasterio's word for no palette
        return np.repeat(band[None], 3, axis=0)
    palette = np.zeros((256, 3), np.uint8)
    for index, colour in colours.items():
        palette[index] = colour[:3]
    return np.asarray(palette[band].transpose(2, 0, 1))
