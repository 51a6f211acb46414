"""A layer as a page asks for it: one row, the riskiest, where something is, a vector tile."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from roadrisk.grid import FloatArray, IntArray
from roadrisk.maps.layer import Layer
from roadrisk.maps.page import layer_config, listed_field, name_field, rows_in_order
from roadrisk.maps.page.described import class_codes
from roadrisk.maps.places import WGS84, GridTiles, Places
from roadrisk.maps.served.pictures import ServedPictures
from roadrisk.maps.vector_tiles import VectorTiles, vector_tiles

DECIMALS = 7  # a centimetre
_RANK = re.compile(r"\d{1,3}(,\d{3})+|\d{1,12}", re.ASCII)
_NUMBER = r"([+-]?\d{1,3}(?:\.\d{1,15})?)°?"
_POINT = re.compile(rf"{_NUMBER}\s*[,;\s]\s*{_NUMBER}", re.ASCII)


@dataclass(frozen=True, eq=False)
class ServedLayer:
    """A layer with all that its answers need.

    Parameters
    ----------
    order : its ranked rows, the one that matters most first.
    classes : (N,) place of each feature's class in the legend; -1 without one.
    config : what the page is told before it asks.
    pictures : of its tiles; None without any.
    """

    layer: Layer
    tiles: VectorTiles
    order: IntArray
    classes: NDArray[np.int64]
    config: dict[str, Any]
    pictures: ServedPictures | None

    def row(self, i: int) -> dict[str, Any]:
        """Values in the order of the config's fields, null where unknown; middle and outline in WGS 84."""
        place = self.layer.placed().taken(np.array([i]))
        lng, lat = (float(at[0]) for at in place.centres())
        shape = place.shapes(WGS84)[0]
        return {
            "values": [plain(self.layer.table[column.name].array[i]) for column in self.layer.columns],
            "centre": None if np.isnan(lng) else [round(lng, DECIMALS), round(lat, DECIMALS)],
            "geometry": None if shape is None else geojson(shape),
            "pictures": self.pictures.views_of(self.named(i)) if self.pictures else [],
        }

    def top(self, first: int, many: int) -> list[dict[str, Any]]:
        """The ranked rows [first, first + many)."""
        table, listed = self.layer.table, listed_field(self.layer)
        rows = self.order[first : first + many].tolist()
        return [
            {
                "row": row,
                "tile_id": self.named(row),
                "rank": plain(table["rank"].array[row]) if "rank" in table else first + place + 1,
                "value": plain(table[listed].array[row]),
                "class": int(self.classes[row]),
            }
            for place, row in enumerate(rows)
        ]

    def find(self, text: str) -> dict[str, Any]:
        """The feature of that name, else of that rank, else what lies at those coordinates."""
        wanted = text.strip()
        named = np.flatnonzero((self._names == wanted).to_numpy(dtype=bool, na_value=False))
        if len(named):
            return {"row": int(named[0])}
        rank = int(wanted.replace(",", "")) if _RANK.fullmatch(wanted) else 0
        ranked = self.top(rank - 1, 1) if rank else []
        if ranked and ranked[0]["rank"] == rank:  # ties share the smallest
            return {"row": ranked[0]["row"]}
        for lng, lat in points_in(wanted):
            west, south, east, north = self.config["bounds"]
            if west <= lng <= east and south <= lat <= north:
                return {"point": [lng, lat], "row": self._at(lng, lat)}
        return {"row": None}

    def named(self, i: int) -> str:
        """The name of a feature; empty where it has none."""
        name = plain(self._names.array[i])
        return "" if name is None else str(name)

    @cached_property
    def _names(self) -> Any:
        return self.layer.table[name_field(self.layer)].astype("str")

    @cached_property
    def _edges(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        return edges_of(self.layer)

    def _at(self, lng: float, lat: float) -> int | None:
        """The first feature at a point; None where there is none."""
        places = self.layer.placed()
        x, y = Transformer.from_crs(WGS84, places.crs, always_xy=True).transform(lng, lat)
        left, bottom, right, top = self._edges
        near = np.flatnonzero((left <= x) & (x <= right) & (bottom <= y) & (y <= top))
        there = near[shapely.intersects_xy(places.taken(near).shapes(places.crs), x, y)]
        return int(there[0]) if len(there) else None


def served_layer(layer: Layer, pictures: ServedPictures | None = None) -> ServedLayer:
    """A layer made ready to be asked."""
    tiles = vector_tiles(layer)
    return ServedLayer(
        layer, tiles, rows_in_order(layer), class_codes(layer), layer_config(layer, tiles), pictures
    )


def plain(value: Any) -> Any:
    """A value of a table as JSON has it; None where unknown.

    >>> plain(np.float64("nan")), plain(np.int64(3)), plain(np.bool_(True)), plain("a")
    (None, 3, True, 'a')
    """
    known = value.item() if isinstance(value, np.generic) else value
    if isinstance(known, str | bool | int):
        return known
    return known if isinstance(known, float) and np.isfinite(known) else None


def geojson(shape: Any) -> Any:
    """A shape in WGS 84 as a GeoJSON geometry with at most 7 decimals."""
    rounded = shapely.transform(shape, lambda vertices: np.round(vertices, DECIMALS))
    return json.loads(shapely.to_geojson(rounded))


def points_in(text: str) -> Iterator[tuple[float, float]]:
    """Longitude and latitude that a text may mean, the first as `lon, lat`, then as `lat, lon`.

    >>> list(points_in("-71.1, 42.3")), list(points_in("Main Street 3"))
    ([(-71.1, 42.3), (42.3, -71.1)], [])
    """
    found = _POINT.fullmatch(text)
    if found:
        first, second = float(found[1]), float(found[2])
        yield first, second
        yield second, first


def edges_of(layer: Layer) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(N,) left, bottom, right and top in the CRS of the layer's places; NaN without a place."""
    places: Places = layer.placed()
    if isinstance(places, GridTiles):
        return places.grid.edges(places.rows, places.cols)
    left, bottom, right, top = shapely.bounds(places.shapes(places.crs)).T
    return left, bottom, right, top
