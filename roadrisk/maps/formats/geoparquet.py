"""GeoParquet 1.1 with a bbox covering."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import geopandas
import pyarrow
import pyarrow.parquet

from roadrisk.columns import Column
from roadrisk.maps.fields import field_aliases, field_description
from roadrisk.maps.layer import Layer


def write_geoparquet(layer: Layer, path: Path) -> None:
    places = layer.placed()
    frame = geopandas.GeoDataFrame(layer.table, geometry=places.shapes(places.crs), crs=places.crs)
    frame.to_parquet(path, index=False, write_covering_bbox=True, schema_version="1.1.0")
    # geopandas has no place for metadata of one's own, so the file is opened and written once more
    table = pyarrow.parquet.read_table(path)
    told = {**table.schema.metadata, b"roadrisk": json.dumps(layer.as_json(), ensure_ascii=False).encode()}
    schema = _described(table.schema, layer.columns).with_metadata(told)
    pyarrow.parquet.write_table(table.cast(schema), path, compression="zstd")


def _described(schema: pyarrow.Schema, columns: Sequence[Column]) -> pyarrow.Schema:
    """The schema with alias, unit and description in each field's metadata."""
    aliases = field_aliases(columns)
    for column in columns:
        place = schema.get_field_index(column.name)
        told = {"alias": aliases[column.name], "unit": column.unit, "description": field_description(column)}
        schema = schema.set(place, schema.field(place).with_metadata(told))
    return schema
