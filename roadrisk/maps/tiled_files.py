"""What a tile archive or a raster says of itself, read without its tiles."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import rasterio
from pmtiles.tile import (
    Compression,
    MagicNumberNotFound,
    SpecVersionUnsupported,
    TileType,
    deserialize_header,
)

from roadrisk.maps.layer_file import LayerFile, fields_told, words_in

HEADER_BYTES = 127
MOST_BYTES = 1 << 24  # of metadata, packed or not: more than the words of a layer take


def pmtiles_file(path: Path) -> LayerFile:
    """The first layer of an archive of vector tiles.

    A feature is in more tiles than one, so that only the archive's metadata can say how many there are.
    """
    told = _metadata(path)
    about = words_in(told.get("roadrisk"))
    layer = (told.get("vector_layers") or [{}])[0]
    named = {some["layer"]: some for some in told.get("tilestats", {}).get("layers", [])}
    counted: dict[str, Any] = named.get(layer.get("id"), {})
    types = {str(name): str(kind).lower() for name, kind in layer.get("fields", {}).items()}
    return LayerFile(
        path=path,
        features=int(counted["count"]) if "count" in counted else None,
        geometry=str(counted.get("geometry", "")),
        crs="EPSG:3857",
        fields=fields_told(types, about, {}),
        about=about,
    )


def _metadata(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        try:
            header = deserialize_header(file.read(HEADER_BYTES))
        except (MagicNumberNotFound, SpecVersionUnsupported) as error:
            raise ValueError("no PMTiles archive of version 3") from error
        if header["tile_type"] != TileType.MVT:
            raise ValueError("its tiles are pictures")
        file.seek(header["metadata_offset"])
        packed = io.BytesIO(file.read(min(header["metadata_length"], MOST_BYTES)))
    plain = header["internal_compression"] == Compression.NONE
    found = (packed if plain else gzip.GzipFile(fileobj=packed)).read(MOST_BYTES)
    return dict(json.loads(found))


def raster_file(path: Path) -> LayerFile:
    """A raster of risk; its features are the pixels that are not nodata.

    Raises
    ------
    ValueError : it is any other raster.
    """
    with rasterio.open(path, driver="GTiff") as raster:
        tags = raster.tags()
        if "ROADRISK" not in tags:
            raise ValueError("no raster of roadrisk: it does not say what its pixels are")
        about = words_in(json.loads(tags["ROADRISK"]))
        blocks = (raster.read_masks(1, window=window) for _, window in raster.block_windows(1))
        description = {"description": raster.descriptions[0], "unit": raster.units[0]}
        return LayerFile(
            path=path,
            features=sum(int((block > 0).sum()) for block in blocks),
            geometry="Raster",
            crs=str(raster.crs or ""),
            fields=fields_told({"band 1": raster.dtypes[0]}, about, {"band 1": description}),
            about=about,
        )
