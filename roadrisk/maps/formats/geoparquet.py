"""GeoParquet 1.1 with a bbox covering."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from roadrisk.geometry.columns import COVERING, COVERING_TYPE, bounds_of, covering, geo_key
from roadrisk.maps.arrow import edges_of, record_batch, schema_of
from roadrisk.maps.layer import Layer
from roadrisk.maps.shape_types import shapes_of


def write_geoparquet(layer: Layer, path: Path) -> None:
    """A row group for each part of the layer, so that a reader of a small box reads few of them."""
    shapes, fields = shapes_of(layer), schema_of(layer)
    told = {
        "geo": json.dumps(geo_key(layer.placed().crs, shapes.types, _bounds(layer))),
        "roadrisk": json.dumps(layer.as_json(), ensure_ascii=False),
    }
    schema = fields.append(pa.field(COVERING, COVERING_TYPE)).with_metadata(told)
    with pyarrow.parquet.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=_repeating(fields)
    ) as writer:
        for part in layer.parts():
            batch = record_batch(part, fields, shapes)
            edges = edges_of(part.placed())  # (4, N)
            writer.write_batch(pa.record_batch([*batch.columns, covering(edges)], schema=schema))


def _bounds(layer: Layer) -> list[float] | None:
    """Around all features; None where none lies anywhere."""
    found = [bounds_of(edges_of(part.placed())) for part in layer.parts()]
    known = [around for around in found if around is not None]
    return bounds_of(np.transpose(known)) if known else None


def _repeating(fields: pa.Schema) -> list[str]:
    """Fields that a dictionary makes smaller; one of measures, which hardly repeat, costs time and bytes."""
    return [field.name for field in fields if pa.types.is_string(field.type) and field.name != "tile_id"]
