"""A layer as a page asks for it: one row, the riskiest, where something is, a vector tile."""

from __future__ import annotations

import json
import math
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
from roadrisk.maps.page.finding import reach_m
from roadrisk.maps.places import WGS84, GridTiles, Places
from roadrisk.maps.served.pictures import ServedPictures
from roadrisk.maps.vector_tiles import VectorTiles, vector_tiles

DECIMALS = 7  # a centimetre
DEGREE_M = 111_320.0  # of latitude
AREA = 2  # dimensions
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
    classes: NDArray[np.int16]
    config: dict[str, Any]
    pictures: ServedPictures | None

    def row(self, i: int) -> dict[str, Any]:
        """Values in the order of the config's fields, null where unknown; middle and outline in WGS 84.

        `place` counts the ranked rows before it; null where it has no rank.
        """
        place = self.layer.placed().taken(np.array([i]))
        lng, lat = (float(at[0]) for at in place.centres())
        shape = place.shapes(WGS84)[0]
        stands = int(self._stands[i])
        return {
            "place": None if stands < 0 else stands,
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
                "rank": int(self._ranks[first + place]),
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
        place = int(np.searchsorted(self._ranks, rank))
        if place < len(self._ranks) and self._ranks[place] == rank:  # ties share the smallest
            return {"row": int(self.order[place])}
        for lng, lat in points_in(wanted):
            west, south, east, north = self.config["bounds"]
            wide, high = self._reach(lat)
            if west - wide <= lng <= east + wide and south - high <= lat <= north + high:
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
    def _ranks(self) -> IntArray:
        """(R,) ranks of `order`; from 1 without gaps where the layer has none."""
        if "rank" not in self.layer.table:
            return np.arange(1, len(self.order) + 1)
        return self.layer.table["rank"].iloc[self.order].to_numpy(dtype=np.int64)

    @cached_property
    def _stands(self) -> IntArray:
        """(N,) place of each row in `order`; -1 outside it."""
        stands = np.full(len(self.layer), -1, dtype=np.int64)
        stands[self.order] = np.arange(len(self.order))
        return stands

    def _reach(self, lat: float) -> tuple[float, float]:
        """How near a place a feature must lie [deg of longitude, deg of latitude]."""
        high = self.config["reach_m"] / DEGREE_M
        return high / max(math.cos(math.radians(lat)), 0.01), high

    @cached_property
    def _edges(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        return edges_of(self.layer)

    def _at(self, lng: float, lat: float) -> int | None:
        """The feature at a point; else the nearest line or point within reach; None where there is none."""
        places = self.layer.placed()
        wide, high = self._reach(lat)
        box = (lng - wide, lat - high, lng + wide, lat + high)
        west, south, east, north = Transformer.from_crs(WGS84, places.crs, always_xy=True).transform_bounds(
            *box
        )
        left, bottom, right, top = self._edges
        near = np.flatnonzero((left <= east) & (west <= right) & (bottom <= north) & (south <= top))
        if not len(near):
            return None
        scale = DEGREE_M * np.array([math.cos(math.radians(lat)), 1.0])
        shapes = shapely.transform(places.taken(near).shapes(WGS84), lambda at: (at - [lng, lat]) * scale)
        away = shapely.distance(shapes, shapely.Point(0, 0))  # [m]
        reach = np.where(shapely.get_dimensions(shapes) == AREA, 0.0, self.config["reach_m"])
        away = np.where(away <= reach, away, np.inf)
        return int(near[away.argmin()]) if np.isfinite(away).any() else None


def served_layer(layer: Layer, pictures: ServedPictures | None = None) -> ServedLayer:
    """A layer made ready to be asked."""
    tiles = vector_tiles(layer)
    config = layer_config(layer, tiles)
    config["reach_m"] = reach_m(config["geometry"])
    return ServedLayer(layer, tiles, rows_in_order(layer), tiles.classes, config, pictures)


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
