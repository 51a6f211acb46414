"""PMTiles of layers as GDAL and the reader of the pmtiles package find them."""

from __future__ import annotations

import gzip
import html
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from pmtiles.reader import MmapSource, Reader, all_tiles
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from scored_examples import ABOUT, FACTS, GRID, HOSTILE, scored_at, scored_grid

from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.maps.formats.pmtiles import write_pmtiles
from roadrisk.maps.layer import Layer
from roadrisk.maps.layer_files import read_layer
from roadrisk.maps.places import GivenShapes, GridTiles, given_points
from roadrisk.maps.vector_tiles import vector_tiles


def written(layer: Layer, folder: Path, **options: Any) -> Path:
    """The layer as an archive."""
    path = folder / "a.pmtiles"
    write_pmtiles(layer, path, **options)
    return path


def archived(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[tuple[int, int, int], bytes]]:
    """Header, metadata and tiles of an archive."""
    with path.open("rb") as file:
        source = MmapSource(file)
        reader = Reader(source)
        return reader.header(), reader.metadata(), dict(all_tiles(source))


def at_zoom(path: Path, z: int) -> pd.DataFrame:
    """The features of a zoom as GDAL reads them."""
    return pyogrio.read_dataframe(path, ZOOM_LEVEL=str(z), CLIP="NO")


def test_gdal_finds_every_tile_with_all_its_fields(tmp_path: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-71.15, 42.34, -71.10, 42.37), 250)
    layer = scored_grid(grid)
    found = pyogrio.read_dataframe(written(layer, tmp_path), CLIP="NO").drop_duplicates("mvt_id")
    assert pyogrio.list_layers(tmp_path / "a.pmtiles").tolist() == [["risk", "MultiPolygon"]]
    assert sorted(found["mvt_id"]) == list(range(len(layer)))
    table = layer.table.loc[found["mvt_id"]]
    for name in table:
        here, there = found[name].astype(object).to_numpy(), table[name].astype(object).to_numpy()
        known = ~pd.isna(there)
        assert (~pd.isna(here) | (here == 0))[known].all()
        if found[name].dtype != bool:  # pyogrio reads a truth that is missing as false
            assert (pd.isna(here) == ~known).all(), name
        assert (here[known] == there[known]).all(), name
    centres = shapely.points(np.stack(layer.placed().centres(), axis=1))
    lnglat = found.to_crs("EPSG:4326").geometry.to_numpy()
    assert shapely.intersects(lnglat, centres[found["mvt_id"]]).all()


def test_header_directory_and_metadata_are_those_of_the_layer(tmp_path: Path) -> None:
    layer = scored_grid()
    tiles = vector_tiles(layer, zooms=(0, 14))
    header, metadata, content = archived(written(layer, tmp_path, zooms=(0, 14)))
    assert (header["min_zoom"], header["max_zoom"]) == tiles.zooms
    assert (header["tile_type"], header["tile_compression"]) == (TileType.MVT, Compression.GZIP)
    edges = [header[f"{end}_{axis}_e7"] / 1e7 for end in ("min", "max") for axis in ("lon", "lat")]
    np.testing.assert_allclose(edges, tiles.bounds, atol=2e-7)
    assert edges[0] <= tiles.bounds.west < header["center_lon_e7"] / 1e7 < tiles.bounds.east <= edges[2]
    assert header["clustered"]
    assert header["addressed_tiles_count"] == len(content)
    assert set(content) == {(z, *at) for z in range(tiles.zooms[1] + 1) for at in tiles.addresses(z)}
    assert [zxy_to_tileid(*at) for at in content] == sorted(zxy_to_tileid(*at) for at in content)
    assert metadata["name"] == ABOUT.title
    assert metadata["tilestats"] == {
        "layerCount": 1,
        "layers": [{"layer": "risk", "count": len(layer), "geometry": "Polygon"}],
    }
    assert metadata["description"] == ABOUT.risk_meaning
    assert metadata["attribution"] == ABOUT.attribution
    (told,) = metadata["vector_layers"]
    assert (told["id"], told["minzoom"], told["maxzoom"]) == ("risk", *tiles.zooms)
    assert list(told["fields"]) == ["class", "tiles", *layer.table]
    assert [told["fields"][name] for name in ("class", "risk", "band", "has_image", "rank")] == [
        "Number",
        "Number",
        "String",
        "Boolean",
        "Number",
    ]
    assert metadata["roadrisk"] == json.loads(json.dumps(layer.as_json()))


def test_low_zooms_carry_the_standing_of_the_riskiest_only(tmp_path: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-71.15, 42.34, -71.10, 42.37), 100)
    layer = scored_grid(grid)
    path = written(layer, tmp_path)
    highest = vector_tiles(layer).zooms[1]
    for z in range(5, highest):
        found = at_zoom(path, z).drop_duplicates("mvt_id")
        assert found[[column.name for column in FACTS]].isna().all(axis=None)
        assert found[["tile_id", "risk", "rank", "percentile", "band"]].notna().any().all()
        assert found["rank"].min() == 1
        if z <= highest - 3:
            assert found["tiles"].sum() == len(layer)


def test_attribution_is_text_where_viewers_take_it_for_html(tmp_path: Path) -> None:
    about = replace(ABOUT, attribution=HOSTILE, title=HOSTILE)
    _, metadata, _ = archived(written(scored_grid(about=about), tmp_path))
    assert metadata["attribution"] == html.escape(HOSTILE)
    assert "<" not in metadata["attribution"]
    assert (metadata["name"], metadata["roadrisk"]["attribution"]) == (HOSTILE, HOSTILE)


def test_an_archive_names_its_layer_as_the_layer_is_called(tmp_path: Path) -> None:
    path = written(replace(scored_grid(), name="by_road"), tmp_path)
    assert pyogrio.list_layers(path)[:, 0].tolist() == ["by_road"]


def test_zooms_can_be_chosen(tmp_path: Path) -> None:
    header, _, content = archived(written(scored_grid(), tmp_path, zooms=(10, 13)))
    assert (header["min_zoom"], header["max_zoom"]) == (10, 13)
    assert {z for z, _, _ in content} == {10, 11, 12, 13}
    assert header["center_zoom"] == 12


@pytest.mark.parametrize(
    "places",
    [
        GivenShapes(np.array([shapely.Point(1, 2), None]), "EPSG:4326"),
        GivenShapes(np.array([shapely.LineString([(1, 2), (1.1, 2)]), None]), "EPSG:4326"),
        GridTiles(GRID, np.array([3]), np.array([4])),
    ],
    ids=["point", "line", "one tile"],
)
def test_few_features_make_an_archive(places: Any, tmp_path: Path) -> None:
    layer = scored_at(places, np.array(["a", "b"][: len(places.shapes("EPSG:4326"))]))
    path = written(layer, tmp_path)
    assert pyogrio.read_dataframe(path)["tile_id"].unique().tolist() == ["a"]


@pytest.mark.parametrize("empty", ["no rows", "no places"])
def test_an_empty_layer_is_an_archive_of_nothing(empty: str, tmp_path: Path) -> None:
    layer = scored_grid().taken(np.arange(0))
    if empty == "no places":
        layer = scored_at(given_points([np.nan], [np.nan]), np.array(["a"]))
    header, metadata, content = archived(written(layer, tmp_path))
    assert [gzip.decompress(tile) for tile in content.values()] == [b""]
    assert metadata["vector_layers"][0]["id"] == "risk"
    assert header["max_lon_e7"] > header["min_lon_e7"]


def test_same_layer_same_bytes_and_nothing_beside_it(tmp_path: Path) -> None:
    first = written(scored_grid(), tmp_path).read_bytes()
    assert written(scored_grid(), tmp_path).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["a.pmtiles"]


def test_the_header_of_a_grid_across_the_antimeridian_stays_in_the_world(tmp_path: Path) -> None:
    grid = replace(grid_of_cell(LngLatBbox(179.9, 51.0, 179.99, 51.05), 1000, "EPSG:32660"), cols=12)
    header, _, content = archived(written(scored_grid(grid), tmp_path))
    assert header["max_lon_e7"] == 180 * 10_000_000
    assert {x == 0 for z, x, _ in content if z == header["max_zoom"]} == {True, False}


def test_the_count_is_that_of_the_layer_whatever_tiles_hold(tmp_path: Path) -> None:
    line = shapely.LineString([(-71.1, 42.3), (-71.0, 42.4)])
    shapes = {
        "Point": np.array([shapely.Point(-71.1, 42.3), None]),
        "LineString": np.array([line, shapely.MultiLineString([line])]),
        "Mixed": np.array([line, shapely.Point(-71.1, 42.3)]),
    }
    for kind, geometry in shapes.items():
        layer = scored_at(GivenShapes(geometry, "EPSG:4326"), np.array(["a", "b"]))
        found = read_layer(written(layer, tmp_path))
        assert (found.features, found.geometry) == (2, kind)
    empty = scored_grid().taken(np.array([], dtype=int))
    assert read_layer(written(empty, tmp_path)).features == 0
