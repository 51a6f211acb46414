"""PMTiles version 3 with vector tiles: https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md."""

from __future__ import annotations

import gzip
import html
import math
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer

from roadrisk.grid import LngLatBbox
from roadrisk.maps.layer import Layer
from roadrisk.maps.scored import STANDING_COLUMNS, TILE_ID
from roadrisk.maps.shape_types import shapes_of
from roadrisk.maps.vector_tiles import VectorTiles, vector_tiles
from roadrisk.maps.vector_tiles.tiles import CLASS, STANDS_FOR

# what tiles carry below the highest zoom; the rest is read where a tile is large enough to be looked at
OVERVIEW_FIELDS = (TILE_ID.name, "risk", *(column.name for column in STANDING_COLUMNS))
TILES_AT_ONCE = 32
COMPRESSION = 5  # level 6 takes twice the time for a hundredth of the size
DEGREE = 10_000_000


def write_pmtiles(layer: Layer, path: Path, zooms: tuple[int, int] | None = None) -> None:
    """Vector tiles that need no server; low zooms keep the riskiest and their standing only.

    Parameters
    ----------
    zooms : the lowest and the highest; without them those of `vector_tiles`.
    """
    tiles = vector_tiles(layer, [column.name for column in layer.columns], name=layer.name, zooms=zooms)
    with path.open("wb") as file, tempfile.TemporaryFile(dir=path.parent) as kept_aside:
        writer: Any = Writer(file)  # type: ignore[no-untyped-call]
        writer.tile_f.close()
        writer.tile_f = kept_aside  # its own is in the system's temporary folder, which may be small
        for tile_id, content in _compressed(_in_order(tiles)):
            writer.write_tile(tile_id, content)
        if not writer.tile_entries:  # an archive of no tiles at all has no zooms either
            writer.write_tile(0, gzip.compress(b"", mtime=0))
        writer.finalize(_header(tiles), _metadata(layer, tiles))


def _in_order(tiles: VectorTiles) -> Iterator[tuple[int, bytes]]:
    """Number and content of the tiles that hold something, in the order that an archive is read best in."""
    lowest, highest = tiles.zooms
    at_overviews = [name for name in tiles.fields if name in OVERVIEW_FIELDS]
    addresses = list(tiles.addresses(lowest))
    for z in range(lowest, highest + 1):
        fields = None if z == highest else at_overviews
        held = []
        for tile_id, x, y in sorted((zxy_to_tileid(z, x, y), x, y) for x, y in addresses):
            content = tiles.tile(z, x, y, fields)
            if content:
                held.append((x, y))
                yield tile_id, content
        addresses = [(2 * x + right, 2 * y + down) for x, y in held for down in (0, 1) for right in (0, 1)]


def _compressed(contents: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The same, compressed by the processors that have nothing else to do."""
    waiting: deque[tuple[int, Future[bytes]]] = deque()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for tile_id, content in contents:
            waiting.append((tile_id, pool.submit(gzip.compress, content, COMPRESSION, mtime=0)))
            if len(waiting) == TILES_AT_ONCE:
                first, compressed = waiting.popleft()
                yield first, compressed.result()
        for last, compressed in waiting:
            yield last, compressed.result()


def _header(tiles: VectorTiles) -> dict[str, Any]:
    bounds = tiles.bounds or LngLatBbox(-180.0, -85.0, 180.0, 85.0)
    west, south, east, north = (
        max(-limit, min(limit, degrees)) for degrees, limit in zip(bounds, (180, 90, 180, 90), strict=True)
    )
    whole = math.floor(math.log2(360.0 / max(east - west, 1e-9)))
    return {
        "tile_type": TileType.MVT,
        "tile_compression": Compression.GZIP,
        "min_lon_e7": math.floor(west * DEGREE),
        "min_lat_e7": math.floor(south * DEGREE),
        "max_lon_e7": math.ceil(east * DEGREE),
        "max_lat_e7": math.ceil(north * DEGREE),
        "center_zoom": max(tiles.zooms[0], min(tiles.zooms[1], whole)),
    }


def _metadata(layer: Layer, tiles: VectorTiles) -> dict[str, Any]:
    lowest, highest = tiles.zooms
    kinds = {field: _kind(values) for field, values in tiles.fields.items()}
    return {
        "name": layer.about.title,
        "description": layer.about.risk_meaning,
        # the one word of a tile set that viewers take for HTML (TileJSON 3.0, 3.2)
        "attribution": html.escape(layer.about.attribution),
        "type": "overlay",
        "vector_layers": [
            {
                "id": layer.name,
                "description": layer.about.risk_meaning,
                "minzoom": lowest,
                "maxzoom": highest,
                "fields": {CLASS: "Number", STANDS_FOR: "Number", **kinds},
            }
        ],
        # as tippecanoe tells it: a feature is in many tiles, so nothing else says how many there are
        "tilestats": {
            "layerCount": 1,
            "layers": [{"layer": layer.name, "count": len(layer), "geometry": shapes_of(layer).kind}],
        },
        "roadrisk": layer.as_json(),
    }


def _kind(values: pa.Array) -> str:
    """What TileJSON calls the type of a field."""
    if pa.types.is_boolean(values.type):
        return "Boolean"
    return "String" if pa.types.is_large_string(values.type) else "Number"
