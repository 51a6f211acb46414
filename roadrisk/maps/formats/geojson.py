"""GeoJSON (RFC 7946)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from roadrisk.maps.layer import Layer
from roadrisk.maps.places import WGS84

DECIMALS = 7  # RFC 7946 calls more than about 6 no gain; 7 is a centimetre


def write_geojson(layer: Layer, path: Path) -> None:
    """RFC 7946 by hand: GDAL can add foreign members such as `attribution` only since 3.11."""
    head = {
        "type": "FeatureCollection",
        "name": layer.name,
        "description": layer.about.risk_meaning,
        **{name: layer.about.as_json()[name] for name in ("title", "licence", "attribution")},
        "roadrisk": layer.as_json(),
    }
    geometries = geojson_geometries(layer.placed().shapes(WGS84))
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(head, ensure_ascii=False, allow_nan=False)[:-1] + ', "features": [\n')
        for i, (values, geometry) in enumerate(zip(_records(layer.table), geometries, strict=True)):
            properties = json.dumps(values, ensure_ascii=False, allow_nan=False)
            file.write(",\n" if i else "")
            file.write(f'{{"type": "Feature", "properties": {properties}, "geometry": {geometry}}}')
        file.write("\n]}\n")


def geojson_geometries(shapes: NDArray[Any]) -> Iterator[str]:
    """(N,) shapes in WGS84 as RFC 7946 text: at most 7 decimals, right-hand rings, `null` for None.

    >>> list(geojson_geometries(np.array([shapely.Point(-71.123456789, 42.0), None])))
    ['{"type":"Point","coordinates":[-71.1234568,42.0]}', 'null']
    """
    rounded = shapely.transform(shapes, lambda vertices: np.round(vertices, DECIMALS))
    for text in shapely.to_geojson(shapely.orient_polygons(rounded)):
        yield text or "null"


def _records(table: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """Each row as plain JSON values, null where unknown."""
    columns = [table[name].astype(object).where(table[name].notna(), None).tolist() for name in table]
    return (dict(zip(table.columns, row, strict=True)) for row in zip(*columns, strict=True))
