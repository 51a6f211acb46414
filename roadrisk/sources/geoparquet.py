"""Where the geometry of a file is, and in which CRS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from roadrisk.errors import SourceError
from roadrisk.sources.file_kinds import one_line


def geoparquet_geometry(schema: pa.Schema, path: Path) -> tuple[str | None, CRS | None]:
    """The column of geometry and its CRS; none of a file that has none.

    Raises
    ------
    SourceError : the metadata of GeoParquet are wrong, or the geometry is not WKB.
    """
    try:
        geo = json.loads((schema.metadata or {}).get(b"geo", b"null"))
        if geo is None:
            return None, None
        geometry = str(geo["primary_column"])
        column = geo["columns"][geometry]
        encoding, crs = column["encoding"], _geoparquet_crs(column)
        stored = schema.field(geometry).type
    except (ValueError, LookupError, TypeError, RecursionError, CRSError) as error:
        said = f"{type(error).__name__} {one_line(error)}"
        raise SourceError(
            f"{path}: its metadata `geo` is not as GeoParquet asks ({said}); write it again as GeoParquet"
        ) from None
    if encoding != "WKB" or not (pa.types.is_binary(stored) or pa.types.is_large_binary(stored)):
        raise SourceError(f"{path}: its geometry is not WKB; write it again as GeoParquet with WKB geometry")
    return geometry, crs


def _geoparquet_crs(column: dict[str, Any]) -> CRS | None:
    """GeoParquet: no `crs` means longitude and latitude, a null one unknown."""
    if "crs" not in column:
        return CRS.from_user_input("OGC:CRS84")
    return _of_the_earth(CRS.from_user_input(column["crs"])) if column["crs"] else None


def crs_of_text(text: str | None) -> CRS | None:
    """The CRS of a file as GDAL writes it; none where it has none of the earth."""
    if not text:
        return None
    try:
        return _of_the_earth(CRS.from_user_input(text))
    except CRSError:
        return None


def _of_the_earth(crs: CRS) -> CRS | None:
    """The CRS, if it has places on the earth: not that of a drawing, of heights or of the moon."""
    return crs if is_of_the_earth(crs) else None


def is_of_the_earth(crs: CRS) -> bool:
    """Whether a CRS has longitude and latitude, or can be brought to them.

    >>> is_of_the_earth(CRS.from_epsg(26986)), is_of_the_earth(CRS.from_user_input('LOCAL_CS["drawing"]'))
    (True, False)
    """
    if not (crs.is_geographic or crs.is_projected):
        return False
    try:
        Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except ProjError:
        return False
    return True
