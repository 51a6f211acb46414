"""Layers that readers are given: tiles, places of which some are unknown, roads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from scored_examples import GRID, scored_at, scored_grid

from roadrisk.maps.formats.flatgeobuf import write_flatgeobuf
from roadrisk.maps.formats.geopackage import write_geopackage
from roadrisk.maps.formats.geoparquet import write_geoparquet
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GivenShapes, given_points

FORMS = {"gpkg": write_geopackage, "fgb": write_flatgeobuf, "parquet": write_geoparquet}


def layers() -> dict[str, Layer]:
    """By what they are of."""
    left, bottom, _, _ = GRID.bounds
    roads = [shapely.LineString([(left, bottom + i), (left + 100, bottom + i)]) for i in range(5)]
    both = [*roads, shapely.MultiLineString(roads[:2])]
    lng, lat = np.linspace(-71.15, -71.10, 12), np.linspace(42.34, 42.37, 12)
    unknown = np.where(np.arange(12) == 4, np.nan, lng)
    return {
        "tiles": scored_grid(),
        "points": scored_at(given_points(lng, lat), _names(12)),
        "some points": scored_at(given_points(unknown, lat), _names(12)),
        "roads": scored_at(GivenShapes(np.array(both, dtype=object), GRID.crs), _names(6)),
        "nothing": scored_grid().taken(np.arange(0)),
    }


def cases(*forms: str) -> list[tuple[str, str]]:
    """Each layer in each form that can hold it."""
    return [(f, kind) for f in forms for kind in layers() if (f, kind) != ("fgb", "some points")]


def written(layer: Layer, folder: Path, form: str) -> Path:
    """The layer in a form of GIS."""
    path = folder / f"map.{form}"
    FORMS[form](layer, path)
    return path


def _names(count: int) -> np.ndarray:
    return np.array([f"n{i}" for i in range(count)], dtype=object)
