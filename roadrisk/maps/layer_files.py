"""What a map file says of itself, read without its features."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pyogrio
import pyogrio.raw
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.errors import RasterioError

from roadrisk.errors import LayerError
from roadrisk.maps.layer_file import LayerFile, check_kind, fields_told, words_in
from roadrisk.maps.page_files import page_file
from roadrisk.maps.tiled_files import pmtiles_file, raster_file

LAYER_SUFFIXES = (
    ".geojson",
    ".geojsonl",
    ".gpkg",
    ".fgb",
    ".parquet",
    ".pmtiles",
    ".tif",
    ".csv",
    ".html",
)
UNREADABLE = (
    DataSourceError,
    DataLayerError,
    RasterioError,
    OSError,
    ValueError,
    RecursionError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    zlib.error,
    pa.ArrowException,
)


def read_layer(path: Path) -> LayerFile:
    """What `path` says of itself, by its suffix.

    Raises
    ------
    LayerError : it cannot be read as what its suffix says.
    """
    if not path.is_file():
        raise LayerError(f"{path} is no file but a pipe or a device; write what it gives to a file")
    readers = {
        ".parquet": _parquet,
        ".csv": _csv,
        ".html": page_file,
        ".gpkg": _by_gdal,
        ".fgb": _by_gdal,
        ".pmtiles": pmtiles_file,
        ".tif": raster_file,
    }
    try:
        return readers.get(path.suffix.lower(), _geojson)(path)
    except UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LayerError(f"{path} cannot be read as a layer ({reason}); make it again") from None


def _geojson(path: Path) -> LayerFile:
    check_kind(path)
    # our own files have everything but the features in their first line
    with path.open(encoding="utf-8") as file:
        first = file.readline().rstrip()
    about = {}
    if first.endswith('"features": ['):
        about = words_in(json.loads(first + "]}").get("roadrisk"))
    return _by_gdal(path, about)


def _by_gdal(path: Path, about: dict[str, Any] | None = None) -> LayerFile:
    check_kind(path)
    # the first of several, as of roads, whose lines come first
    layer = str(pyogrio.list_layers(path)[0, 0])
    info = pyogrio.read_info(path, layer=layer, force_feature_count=True)
    if about is None:
        metadata = info.get("layer_metadata") or {}
        about = words_in(json.loads(metadata["ROADRISK"])) if "ROADRISK" in metadata else {}
    dtypes = dict(zip(info["fields"].tolist(), info["dtypes"], strict=True))
    return LayerFile(
        path=path,
        features=int(info["features"]),
        geometry=info["geometry_type"] or "",
        crs=info["crs"] or "",
        fields=fields_told(dtypes, about, _words(path, layer)),
        about=about,
    )


def _words(path: Path, layer: str) -> dict[str, dict[str, Any]]:
    """Alias and description of each field, as GDAL knows them."""
    with pyogrio.raw.open_arrow(path, layer=layer) as (_, stream):
        schema = pa.RecordBatchReader.from_stream(stream).schema
    metadata = {field.name: field.metadata or {} for field in schema}
    return {
        name: {
            "alias": told.get(b"GDAL:OGR:alternative_name", b"").decode(),
            "description": told.get(b"GDAL:OGR:comment", b"").decode(),
        }
        for name, told in metadata.items()
    }


def _parquet(path: Path) -> LayerFile:
    file = pyarrow.parquet.ParquetFile(path)
    schema = file.schema_arrow
    metadata = schema.metadata or {}
    about = words_in(json.loads(metadata[b"roadrisk"])) if b"roadrisk" in metadata else {}
    geo = json.loads(metadata[b"geo"]) if b"geo" in metadata else None
    place = geo["columns"][geo["primary_column"]] if geo else {}
    covering = place.get("covering", {}).get("bbox", {}).get("xmin", [None])[0]
    unsaid = {geo["primary_column"], covering} if geo else set()
    words = {f.name: {k.decode(): v.decode() for k, v in (f.metadata or {}).items()} for f in schema}
    return LayerFile(
        path=path,
        features=file.metadata.num_rows,
        geometry=", ".join(place.get("geometry_types", [])),
        crs=_authority(place.get("crs", "OGC:CRS84")) if geo else "",
        fields=fields_told({f.name: str(f.type) for f in schema if f.name not in unsaid}, about, words),
        about=about,
    )


def _csv(path: Path) -> LayerFile:
    first = pd.read_csv(path, nrows=1000)
    features = sum(len(chunk) for chunk in pd.read_csv(path, usecols=[0], chunksize=1_000_000))
    placed = {"lon", "lat"} <= set(first.columns)
    return LayerFile(
        path=path,
        features=features,
        geometry="Point" if placed else "",
        crs="EPSG:4326" if placed else "",
        fields=fields_told({str(name): str(dtype) for name, dtype in first.dtypes.items()}, {}, {}),
    )


def _authority(crs: Any) -> str:
    """A CRS by its authority's code, where it has one."""
    if crs is None:
        return ""
    try:
        known = CRS.from_user_input(crs)
    except CRSError:
        return ""
    authority = known.to_authority()
    return ":".join(authority) if authority else str(known.name)
