"""Vector tiles as Mapbox's reference of the format decodes them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from pmtiles.reader import MmapSource, all_tiles
from scored_examples import scored_at, scored_grid

from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.maps.formats.pmtiles import write_pmtiles
from roadrisk.maps.places import GivenShapes
from roadrisk.maps.vector_tiles.world import tile_box

mapbox_vector_tile = pytest.importorskip(
    "mapbox_vector_tile",
    reason="mapbox-vector-tile 2 is not installed; make test-readers installs it",
    exc_type=ImportError,
)


def decoded(path: Path) -> dict[tuple[int, int, int], dict]:
    """The layer of each tile, y down."""
    with path.open("rb") as file:
        return {
            at: mapbox_vector_tile.decode(gzip.decompress(tile), default_options={"y_coord_down": True})[
                "risk"
            ]
            for at, tile in all_tiles(MmapSource(file))
        }


def test_every_tile_is_version_2_with_the_values_of_the_layer(tmp_path: Path) -> None:
    layer = scored_grid(grid_of_cell(LngLatBbox(-71.15, 42.34, -71.10, 42.37), 250))
    write_pmtiles(layer, tmp_path / "a.pmtiles")
    found = decoded(tmp_path / "a.pmtiles")
    highest = max(z for z, _, _ in found)
    centres = np.stack(layer.placed().centres(), axis=1)
    seen = set()
    for (z, x, y), tile in found.items():
        assert (tile["version"], tile["extent"], tile["type"]) == (2, 4096, "FeatureCollection")
        west, south, east, north = tile_box(z, x, y, buffer=0).lnglat()
        for feature in tile["features"]:
            row, told = feature["id"], feature["properties"]
            known = {name: value for name, value in layer.table.loc[row].items() if not pd.isna(value)}
            assert told["class"] == ("band" in known) * (1 + _class(known)) - 1
            if z < highest:
                assert {k: v for k, v in told.items() if k not in ("class", "tiles")}.items() <= known.items()
                continue
            assert {k: v for k, v in told.items() if k != "class"} == known
            seen.add(row)
            lng, lat = centres[row]
            at = 4096 * (lng - west) / (east - west), 4096 * (north - lat) / (north - south)
            shape = shapely.geometry.shape(feature["geometry"])
            assert shape.centroid.distance(shapely.Point(at)) < 1
    assert seen == set(range(len(layer)))


def _class(known: dict) -> int:
    return ["top 5 %", "next 10 %", "next 20 %", "next 25 %", "lowest 40 %"].index(
        known.get("band", "top 5 %")
    )


def test_points_lines_and_polygons_come_back_by_their_kinds(tmp_path: Path) -> None:
    shapes = [
        shapely.Point(0.5, 0.5),
        shapely.MultiPoint([(0.1, 0.1), (0.2, 0.3)]),
        shapely.LineString([(0.1, 0.1), (0.4, 0.5)]),
        shapely.MultiLineString([[(0.6, 0.6), (0.7, 0.7)], [(0.6, 0.7), (0.7, 0.6)]]),
        shapely.box(0.1, 0.6, 0.3, 0.8).difference(shapely.box(0.15, 0.65, 0.2, 0.7)),
    ]
    layer = scored_at(GivenShapes(np.array(shapes), "EPSG:4326"), np.array(list("abcde")))
    write_pmtiles(layer, tmp_path / "a.pmtiles", zooms=(5, 8))
    tile = decoded(tmp_path / "a.pmtiles")[8, 128, 127]
    kinds = {f["properties"]["tile_id"]: f["geometry"]["type"] for f in tile["features"]}
    assert kinds == {
        "a": "Point",
        "b": "MultiPoint",
        "c": "LineString",
        "d": "MultiLineString",
        "e": "Polygon",
    }
    (holed,) = (f["geometry"]["coordinates"] for f in tile["features"] if f["properties"]["tile_id"] == "e")
    assert [len(ring) for ring in holed] == [5, 5]
