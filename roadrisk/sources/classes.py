"""Road classes as OpenStreetMap has them."""

from __future__ import annotations

import re

import pandas as pd

# the highest first; what DESIGN calls the default classes
ROADS_FOR_CARS = (
    "motorway",
    "trunk",
    "primary",
    "secondary",
    "tertiary",
    "unclassified",
    "residential",
    "living_street",
    "motorway_link",
    "trunk_link",
    "primary_link",
    "secondary_link",
    "tertiary_link",
    "road",  # of a class that nobody has found out yet
)
_NOT_FOR_CARS = (
    *("bridleway", "bus_guideway", "bus_stop", "busway", "construction", "corridor", "crossing", "cycleway"),
    *("disused", "elevator", "escape", "footway", "path", "pedestrian", "platform", "proposed", "raceway"),
    *("rest_area", "service", "services", "steps", "track", "unsurfaced", "via_ferrata"),
)
_OSM = frozenset(ROADS_FOR_CARS + _NOT_FOR_CARS)
_RANK = {name: rank for rank, name in enumerate(ROADS_FOR_CARS)}
MAX_CLASSES = 50


def is_osm(values: pd.Series) -> bool:
    """Whether most of the values are `highway` values of OpenStreetMap, alone or in lists.

    >>> is_osm(pd.Series(["residential", "['primary', 'trunk']", None])), is_osm(pd.Series(["1", "7"]))
    (True, False)
    """
    counts = values.value_counts()
    known = sum(n for value, n in counts.items() if _OSM.intersection(_words(str(value))))
    return bool(known * 2 > counts.sum())


def road_classes(values: pd.Series) -> pd.Series:
    """(N,) class of each line, the highest where a list is given; null for what is not a road for cars.

    >>> road_classes(pd.Series(["residential", "['unsurfaced', 'tertiary']", "footway", None])).tolist()
    ['residential', 'tertiary', <NA>, <NA>]
    """
    highest = {}
    for value in values.dropna().unique():
        roads = [word for word in _words(str(value)) if word in _RANK]
        highest[value] = min(roads, key=_RANK.__getitem__) if roads else None
    return values.map(highest).astype("string")


def _words(value: str) -> list[str]:
    return re.findall(r"[a-z_]+", value.lower())
