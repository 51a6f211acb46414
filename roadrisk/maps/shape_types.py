"""What the shapes of a layer are: points, lines, areas, or several of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely

from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GridTiles, Moved, Places

Kind = Literal["Point", "LineString", "Polygon"]

# by shapely's type id; a ring is written as the line that it is
TYPES = ("Point", "LineString", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon")
ANY = "GeometryCollection"
KINDS: tuple[Kind, ...] = ("Polygon", "LineString", "Point")  # those that fill a map below those that do not
MIXED = "Mixed"


@dataclass(frozen=True)
class Shapes:
    """What the shapes of a layer are.

    Parameters
    ----------
    types : GeoJSON's names of those that are written, sorted. A layer that has both `Polygon` and
        `MultiPolygon` is written with the second alone, as GIS ask; so for lines and points.
    nowhere : number of features without a shape, or with an empty one.
    """

    types: tuple[str, ...]
    nowhere: int

    @property
    def type(self) -> str:
        """The one type, or `Unknown`, as GDAL calls a layer of several or none."""
        return self.types[0] if len(self.types) == 1 else "Unknown"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is drawn: areas, lines, points, in the order in which they are painted."""
        found = {kind.removeprefix("Multi") for kind in self.types}
        return tuple(kind for kind in KINDS if kind in found)

    @property
    def kind(self) -> str:
        """The one kind, `Mixed` where there are several or something else; empty where nothing lies."""
        return self.kinds[0] if self.drawn_alike else MIXED if self.types else ""

    @property
    def drawn_alike(self) -> bool:
        """Whether they are all points, all lines or all areas, as one style can draw."""
        return len(self.kinds) == 1 and ANY not in self.types


def shapes_of(layer: Layer) -> Shapes:
    """What the shapes of `layer` are; a layer of tiles need not be looked through."""
    places = _unmoved(layer.placed())
    if isinstance(places, GridTiles):
        return Shapes(("Polygon",), nowhere=0)
    found: set[str] = set()
    nowhere = 0
    for part in layer.parts():
        places = _unmoved(part.placed())
        shapes = places.shapes(places.crs)
        here = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
        nowhere += int((~here).sum())
        found.update(type_name(kind) for kind in np.unique(shapely.get_type_id(shapes[here])))
    mixed = {single for single in found if f"Multi{single}" in found}
    return Shapes(tuple(sorted(found - mixed)), nowhere)


def type_name(kind: int) -> str:
    """GeoJSON's name of shapely's type id."""
    return TYPES[kind] if 0 <= kind < len(TYPES) else ANY


def _unmoved(places: Places) -> Places:
    """The places where shapes cost least: their types are the same in every CRS."""
    while isinstance(places, Moved):
        places = places.places
    return places
