"""FlatGeobuf: one file that a GIS reads a part of, over the network as well."""

from __future__ import annotations

from pathlib import Path

from roadrisk.errors import LayerError
from roadrisk.maps.formats.through_gdal import written_by_gdal
from roadrisk.maps.layer import Layer
from roadrisk.maps.shape_types import shapes_of


def write_flatgeobuf(layer: Layer, path: Path) -> None:
    """Features in the order of the spatial index, along a Hilbert curve, which readers of a part need.

    Raises
    ------
    LayerError : a feature lies nowhere. The index has no room for it, and without an index GDAL writes what
        its own Arrow reader, DuckDB among its users, breaks on (3.12).
    """
    shapes = shapes_of(layer)
    if shapes.nowhere:
        few = f"{shapes.nowhere:,} of {len(layer):,} features"
        raise LayerError(f"{few} lie nowhere, which FlatGeobuf cannot hold; write .gpkg")
    options = {"TITLE": layer.about.title, "DESCRIPTION": layer.about.risk_meaning, "SPATIAL_INDEX": "YES"}
    with written_by_gdal(layer, path, "FlatGeobuf", ".fgb", shapes, layer_options=options):
        pass
