"""A layer as a stream of Arrow batches: the one way into GeoPackage, FlatGeobuf and GeoParquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.geometry.columns import GEOMETRY, boxes_as_wkb
from roadrisk.maps.fields import field_aliases, field_description
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GridTiles, Places
from roadrisk.maps.shape_types import Shapes, type_name

_MULTI: dict[str, Callable[..., NDArray[Any]]] = {
    "Point": shapely.multipoints,
    "LineString": shapely.multilinestrings,
    "Polygon": shapely.multipolygons,
}


def schema_of(layer: Layer) -> pa.Schema:
    """The fields in the layer's order, then `geometry` as WKB.

    Numbers are `int64` or `double`, the rest is `bool` or `string`; all may be null. The metadata of a field
    are its alias, unit and description.

    Raises
    ------
    LayerError : a field holds values that are neither numbers, truths nor text.
    """
    aliases = field_aliases(layer.columns)
    fields = [
        pa.field(c.name, _arrow_type(c.name, layer.table[c.name]), metadata=_words(c, aliases[c.name]))
        for c in layer.columns
    ]
    return pa.schema([*fields, pa.field(GEOMETRY, pa.binary())])


def record_batch(part: Layer, schema: pa.Schema, shapes: Shapes) -> pa.RecordBatch:
    """The features of a part of a layer, by the schema and the shapes of the whole."""
    fields = [_values(part.table[field.name], field.type) for field in schema if field.name != GEOMETRY]
    return pa.record_batch([*fields, _wkb(part.placed(), shapes)], schema=schema)


def record_batches(layer: Layer, shapes: Shapes) -> pa.RecordBatchReader:
    """The features in order, a part at a time, in the CRS of their places.

    Raises
    ------
    LayerError : as `schema_of`, before the first batch.
    """
    schema = schema_of(layer)

    def batches() -> Iterator[pa.RecordBatch]:
        for part in layer.parts():
            yield record_batch(part, schema, shapes)

    return pa.RecordBatchReader.from_batches(schema, batches())


def edges_of(places: Places) -> NDArray[np.float64]:
    """(4, N) left, bottom, right and top of each feature in the CRS of the places; NaN where unknown."""
    if isinstance(places, GridTiles):
        return np.stack(places.grid.edges(places.rows, places.cols))
    return np.asarray(shapely.bounds(places.shapes(places.crs)).T)


def _words(column: Column, alias: str) -> dict[str, str]:
    return {"alias": alias, "unit": column.unit, "description": field_description(column)}


def _arrow_type(name: str, values: pd.Series[Any]) -> pa.DataType:
    found = pa.Schema.from_pandas(values.iloc[:0].to_frame(name), preserve_index=False).field(name).type
    if pa.types.is_null(found):  # objects, which say nothing of what they are
        found = _type_of_objects(values)
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_integer(found):
        return pa.int64()
    if pa.types.is_floating(found):
        return pa.float64()
    if pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_null(found):
        return pa.string()
    if not pa.types.is_boolean(found):
        raise LayerError(f"{name} holds {found} values; a layer takes numbers, true or false, and text")
    return found


def _type_of_objects(values: pd.Series[Any]) -> pa.DataType:
    try:
        return pa.array(values.to_numpy(), from_pandas=True).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise LayerError(
            f"{values.name} holds more than one kind of value; make them all numbers, true or false, or text"
        ) from None


def _values(values: pd.Series[Any], wanted: pa.DataType) -> pa.Array:
    made = pa.array(values, from_pandas=True)
    whole = made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
    return whole if whole.type == wanted else whole.cast(wanted)


def _wkb(places: Places, shapes: Shapes) -> pa.Array:
    if isinstance(places, GridTiles):
        return boxes_as_wkb(*places.grid.edges(places.rows, places.cols))
    found = places.shapes(places.crs)
    for single, multi in _MULTI.items():
        if f"Multi{single}" in shapes.types and single not in shapes.types:
            found = _promoted(found, single, multi)  # (N,)
    # a map is flat: heights would make another type of each
    return pa.array(shapely.to_wkb(found, output_dimension=2), pa.binary())


def _promoted(shapes: NDArray[Any], single: str, multi: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """The shapes, each of the type `single` as a collection of one."""
    few = np.flatnonzero([type_name(kind) == single for kind in shapely.get_type_id(shapes)])
    promoted = shapes.copy()
    promoted[few] = multi(shapes[few], indices=np.arange(len(few)))
    return promoted
