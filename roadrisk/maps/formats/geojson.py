"""GeoJSON (RFC 7946), whole or a feature a line.

Rows are formatted column by column, since a dictionary and a geometry a row take ten times as long.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray
from shapely import GeometryType

from roadrisk.errors import LayerError
from roadrisk.grid import FloatArray, transformer
from roadrisk.maps.formats.texts import joined, json_texts, number_texts, written
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import WGS84, GridTiles, Places

DECIMALS = 7  # RFC 7946 calls more than about 6 no gain; 7 is a centimetre
FEATURES_AT_ONCE = 1 << 14
NOWHERE = "a feature lies where there is no longitude and latitude; check the CRS of its source"
TYPES = {
    GeometryType.POINT: "Point",
    GeometryType.LINESTRING: "LineString",
    GeometryType.POLYGON: "Polygon",
    GeometryType.MULTIPOINT: "MultiPoint",
    GeometryType.MULTILINESTRING: "MultiLineString",
    GeometryType.MULTIPOLYGON: "MultiPolygon",
}


def write_geojson(layer: Layer, path: Path) -> None:
    """One FeatureCollection: its first line holds all words about it, then a feature a line.

    By hand: GDAL can add foreign members such as `attribution` only since 3.11.
    """
    about = layer.about.as_json()
    head = {
        "type": "FeatureCollection",
        "name": layer.name,
        "description": layer.about.risk_meaning,
        **{name: about[name] for name in ("title", "licence", "attribution")},
        "roadrisk": layer.as_json(),
    }
    with path.open("wb") as file:
        file.write(json.dumps(head, ensure_ascii=False, allow_nan=False)[:-1].encode())
        file.write(b', "features": [\n')
        before = 0
        for texts in _features(layer, before=",\n"):
            # all features but the first come after a comma
            file.write(written(texts)[0 if before else 2 :])
            before += len(texts)
        file.write(b"\n]}\n")


def write_geojsonl(layer: Layer, path: Path) -> None:
    """A Feature a line and nothing else, as GDAL's GeoJSONSeq and line-by-line tools read it.

    The form has no place for words about the whole: licence, attribution, model, windows and the meaning of
    fields are in the other forms only.
    """
    with path.open("wb") as file:
        for texts in _features(layer, after="\n"):
            file.write(written(texts))


def geojson_geometries(shapes: NDArray[Any]) -> Iterator[str]:
    """(N,) shapes in WGS84 as RFC 7946 text: at most 7 decimals, right-hand rings, `null` for None.

    A shape that crosses the antimeridian is cut there; an empty one is `null`.

    >>> list(geojson_geometries(np.array([shapely.Point(-71.123456789, 42.0), None])))
    ['{"type":"Point","coordinates":[-71.1234568,42.0]}', 'null']
    """
    for text in geometry_texts(shapes).to_pylist():
        yield text or "null"


def geometry_texts(shapes: NDArray[Any]) -> Any:
    """The same as an arrow array of texts, null for None and for empty shapes.

    Raises
    ------
    LayerError : a vertex is not finite.
    """
    shapes = cut_at_antimeridian(shapes)
    types = shapely.get_type_id(shapes)  # -1 for None
    types[shapely.is_empty(shapes)] = -1
    kinds = np.unique(types[types >= 0])
    if len(kinds) == 1 and (types >= 0).all():
        return _texts_of_one_type(shapes, GeometryType(kinds[0]))
    texts = pa.nulls(len(shapes), pa.string())
    for kind in kinds:
        of_kind = types == kind
        some = _texts_of_one_type(shapes[of_kind], GeometryType(kind))
        texts = pc.replace_with_mask(texts, pa.array(of_kind), some)
    return texts


def cut_at_antimeridian(shapes: NDArray[Any]) -> NDArray[Any]:
    """Shapes in WGS84; those that cross 180 degrees are cut there, as RFC 7946, 3.1.9 asks.

    A shape crosses it when it is wider than half the world, or reaches beyond 180 degrees.

    Raises
    ------
    LayerError : a vertex is infinitely far away.

    >>> tile = shapely.Polygon([(179.5, 0), (-179.5, 0), (-179.5, 1), (179.5, 1)])
    >>> [part.bounds for part in cut_at_antimeridian(np.array([tile]))[0].geoms]
    [(179.5, 0.0, 180.0, 1.0), (-180.0, 0.0, -179.5, 1.0)]
    """
    bounds = shapely.bounds(shapes)
    if np.isinf(bounds).any():
        raise LayerError(NOWHERE)
    west, _, east, _ = bounds.T
    crossing = np.flatnonzero((east - west > 180) | (east > 180) | (west < -180))
    if not len(crossing):
        return shapes
    cut = shapes.copy()
    cut[crossing] = [_cut(shape) for shape in shapes[crossing]]
    return cut


def _cut(shape: Any) -> Any:
    # counted from 0 to 360 degrees the shape is whole, and its two halves are left and right of 180
    whole = shapely.transform(shape, lambda vertices: np.stack([vertices[:, 0] % 360, vertices[:, 1]], 1))
    east, west = (shapely.intersection(whole, shapely.box(x, -90, x + 180, 90)) for x in (0, 180))
    moved = shapely.transform(west, lambda vertices: vertices - np.array([360.0, 0.0]))
    parts = shapely.get_parts([east, moved])
    parts = parts[~shapely.is_empty(parts) & (shapely.get_dimensions(parts) == shapely.get_dimensions(shape))]
    if len(parts) == 1:
        return parts[0]
    return (shapely.multipoints, shapely.multilinestrings, shapely.multipolygons)[
        shapely.get_dimensions(shape)
    ](parts)


def _texts_of_one_type(shapes: NDArray[Any], kind: GeometryType) -> Any:
    if kind not in TYPES:  # a collection, of which there are few
        rounded = shapely.transform(shapes, lambda vertices: np.round(vertices, DECIMALS))
        return pa.array(shapely.to_geojson(shapely.orient_polygons(rounded)), pa.string())
    _, vertices, offsets = shapely.to_ragged_array(shapely.orient_polygons(shapes), include_z=False)
    texts = _vertex_texts(*vertices.T)
    for ends in offsets:  # of lines or rings, of polygons, of several of them
        texts = joined("[", pc.binary_join(pa.ListArray.from_arrays(ends.astype(np.int32), texts), ","), "]")
    return joined(f'{{"type":"{TYPES[kind]}","coordinates":', texts, "}")


def _vertex_texts(lng: FloatArray, lat: FloatArray) -> Any:
    if not (np.isfinite(lng).all() and np.isfinite(lat).all()):
        raise LayerError(NOWHERE)
    x, y = (number_texts(np.round(degrees, DECIMALS)) for degrees in (lng, lat))
    return joined("[", x, ",", y, "]")


def _square_texts(tiles: GridTiles) -> Any:
    """Texts of tiles with straight edges; each corner is moved and written once for the tiles around it."""
    steps = np.array([(1, 0), (1, 1), (0, 1), (0, 0)])  # south-west first, counter-clockwise
    rows, cols = tiles.rows + steps[:, :1], tiles.cols + steps[:, 1:]  # (4, N)
    wide = tiles.grid.cols + 1
    corners = pa.array((rows * wide + cols).ravel()).dictionary_encode()
    left, _, _, top = tiles.grid.edges(*np.divmod(corners.dictionary.to_numpy(), wide))
    lng, lat = transformer(tiles.grid.crs, WGS84).transform(left, top)
    if np.abs(lng).max() > 179:  # where a tile may have to be cut
        return geometry_texts(tiles.shapes(WGS84))
    texts = _vertex_texts(lng, lat)
    south_west, *others = (
        texts.take(corners.indices.slice(corner * len(tiles.rows), len(tiles.rows))) for corner in range(4)
    )
    ring = [piece for corner in (*others, south_west) for piece in (",", corner)]
    return joined('{"type":"Polygon","coordinates":[[', south_west, *ring, "]]}")


def _geometries(places: Places) -> Any:
    if isinstance(places, GridTiles) and len(places.rows):
        first = places.grid.cells(places.rows[:1], places.cols[:1], WGS84)
        if shapely.get_num_coordinates(first[0]) == 5:  # all tiles of a grid have as many vertices
            return _square_texts(places)
    return geometry_texts(places.shapes(WGS84))


def _features(layer: Layer, before: str = "", after: str = "") -> Iterator[Any]:
    """Arrow arrays of Features in order, each with the same text before and after it."""
    for part in layer.parts(FEATURES_AT_ONCE):
        pieces: list[Any] = [before + '{"type": "Feature", "properties": {']
        for place, name in enumerate(part.table):
            pieces += [f"{', ' if place else ''}{json.dumps(name, ensure_ascii=False)}: "]
            pieces += [json_texts(part.table[name])]
        yield joined(*pieces, '}, "geometry": ', _geometries(part.placed()), "}" + after, unknown="null")
