"""Vector tiles as GDAL reads them: every feature where it lies, nothing lost, the riskiest at every zoom."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from scored_examples import GRID, HOSTILE, scored_at, scored_grid

from roadrisk.errors import LayerError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.maps.layer import Layer
from roadrisk.maps.legend import Legend, Shade
from roadrisk.maps.places import GivenShapes, GridTiles, given_points
from roadrisk.maps.vector_tiles import VectorTiles, vector_tiles
from roadrisk.maps.vector_tiles.shapes import MOST_FEATURES

BOX = LngLatBbox(-71.15, 42.34, -71.10, 42.37)
GRIDS = {
    "utm": GRID,
    "xyz": grid_of_zoom(BOX, 16),
    "lnglat": Grid("cell", "EPSG:4326", 0.0, 0.0, 0.004, -17790, -10593, 9, 16),
    "antimeridian": replace(
        grid_of_cell(LngLatBbox(179.9, 51.0, 179.99, 51.05), 1000, "EPSG:32660"), cols=12
    ),
    "state plane": grid_of_cell(BOX, 400, "EPSG:26986"),
}
TILES = {name: vector_tiles(scored_grid(grid)) for name, grid in GRIDS.items()}
CLASSES = ("top 5 %", "next 10 %", "next 20 %", "next 25 %", "lowest 40 %")
TO_MERCATOR = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform
WORLD_M = 2 * 20037508.342789244


def units(tile: bytes, folder: Path) -> geopandas.GeoDataFrame:
    """A tile's features in its own units, y down as they are stored."""
    path = folder / "tile.mvt"
    path.write_bytes(tile)
    found = pyogrio.read_dataframe(path, CLIP="NO")
    found.geometry = shapely.transform(found.geometry.to_numpy(), lambda at: at * [1, -1] + [0, 4096])
    return found


def everything(tiles: VectorTiles, z: int, folder: Path) -> pd.DataFrame:
    """The features of all tiles of a zoom, without their shapes."""
    every = [units(tiles.tile(z, x, y), folder).drop(columns="geometry") for x, y in tiles.addresses(z)]
    return pd.concat(every).drop_duplicates()


def in_units(shapes: np.ndarray, z: int, x: int, y: int) -> np.ndarray:
    """Shapes in WGS84 in the units of a tile: the definition, point by point."""

    def moved(at: np.ndarray) -> np.ndarray:
        east, north = TO_MERCATOR(*at.T)
        u, v = east / WORLD_M + 0.5, 0.5 - north / WORLD_M
        return np.stack([(u * 2**z - x) * 4096, (v * 2**z - y) * 4096], axis=1)

    return shapely.transform(shapes, moved)


@pytest.mark.parametrize("name", GRIDS)
def test_every_row_is_at_the_highest_zoom_and_no_address_is_empty(name: str, tmp_path: Path) -> None:
    tiles, layer = TILES[name], scored_grid(GRIDS[name])
    assert tiles.zooms[0] == 0
    found = everything(tiles, tiles.zooms[1], tmp_path)
    assert sorted(found["mvt_id"]) == list(range(len(layer)))
    bands = [CLASSES[i] if i >= 0 else None for i in found.sort_values("mvt_id")["class"]]
    assert bands == [None if pd.isna(band) else band for band in layer.table["band"]]
    for z in range(tiles.zooms[1] + 1):
        held = set(tiles.addresses(z))
        assert held
        around = {(x + i, y + j) for x, y in held for i in (-1, 0, 1) for j in (-1, 0, 1)}
        assert {at for at in around if tiles.tile(z, *at)} == held


@pytest.mark.parametrize("name", ["utm", "xyz", "lnglat", "state plane"])
def test_cells_are_where_they_are_to_a_unit_and_neighbours_share_vertices(name: str, tmp_path: Path) -> None:
    grid, tiles = GRIDS[name], TILES[name]
    z = tiles.zooms[1]
    true = grid.cells(*grid.every_tile(), "EPSG:4326")
    for x, y in tiles.addresses(z):
        found = units(tiles.tile(z, x, y), tmp_path)
        rings = found.geometry.to_numpy()
        assert shapely.hausdorff_distance(rings, in_units(true[found["mvt_id"]], z, x, y)).max() < 1
        # right-handed where y runs down, as 4.3.3.3 of the specification asks of an outer ring
        assert shapely.is_ccw(shapely.get_exterior_ring(rings)).all()
        assert min(np.sqrt(shapely.area(rings))) > 120
        # a gap or an overlap between neighbours would change the area of their union
        assert shapely.area(shapely.union_all(rings)) == shapely.area(rings).sum()
        assert len(shapely.get_rings(shapely.union_all(rings))) == 1
        corners = {tuple(at) for at in shapely.get_coordinates(rings)}
        rows, cols = np.divmod(found["mvt_id"].to_numpy(), grid.cols)
        lattice = {(r + i, c + j) for r, c in zip(rows, cols, strict=True) for i in (0, 1) for j in (0, 1)}
        assert len(corners) == len(lattice)


@pytest.mark.parametrize("name", ["utm", "xyz", "lnglat", "state plane"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(-71.149, -71.101), st.floats(42.341, 42.369))
def test_the_tile_at_a_point_holds_the_cell_of_the_point(
    name: str, tmp_path: Path, lng: float, lat: float
) -> None:
    grid, tiles = GRIDS[name], TILES[name]
    z = tiles.zooms[1]
    row, col = grid.locate_lnglat([lng], [lat])
    point = in_units(shapely.points([[lng, lat]]), z, 0, 0)[0]
    x, y = int(point.x // 4096), int(point.y // 4096)
    found = units(tiles.tile(z, x, y), tmp_path)
    at = shapely.Point(point.x - x * 4096, point.y - y * 4096)
    holding = found[shapely.dwithin(found.geometry.to_numpy(), at, 1.0)]
    assert row[0] * grid.cols + col[0] in set(holding["mvt_id"])
    surely = holding[shapely.distance(shapely.get_exterior_ring(holding.geometry.to_numpy()), at) > 1.0]
    assert set(surely["mvt_id"]) <= {row[0] * grid.cols + col[0]}


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), keep=st.sampled_from([0.02, 0.4, 1.0]))
def test_no_zoom_hides_a_risky_tile_or_loses_count(tmp_path: Path, seed: int, keep: float) -> None:
    chance = np.random.default_rng(seed)
    grid = grid_of_cell(BOX, 100)
    order = chance.permutation(grid.size)[: max(1, int(keep * grid.size))]  # any rows in any order
    layer = scored_grid(grid).taken(order)
    tiles = vector_tiles(layer, ["rank", "tile_id"])
    risky = np.flatnonzero(layer.table["band"] == "top 5 %")
    points = shapely.points(np.stack(layer.placed().centres(), axis=1))
    for z in range(6, tiles.zooms[1] + 1):
        stood_for, shown = 0, set()
        for x, y in tiles.addresses(z):
            found = units(tiles.tile(z, x, y), tmp_path)
            at = in_units(points[risky], z, x, y)
            inside = shapely.intersects_xy(shapely.box(0, 0, 4096, 4096), shapely.get_coordinates(at))
            tree = shapely.STRtree(found.geometry.to_numpy())
            which, holder = tree.query(at[inside], "intersects")
            assert set(which) == set(range(inside.sum()))
            best = pd.Series(found["class"].to_numpy()[holder]).groupby(which).min()
            assert (best == 0).all()
            new = ~found["mvt_id"].isin(shown)
            stood_for += found["tiles"][new].sum() if "tiles" in found else new.sum()
            shown |= set(found["mvt_id"])
            names = layer.table["tile_id"].to_numpy()[found["mvt_id"]]
            assert found["tile_id"].tolist() == names.tolist()
        assert stood_for == len(layer)


def test_a_block_shows_its_riskiest_tile_and_absent_ones_only_among_themselves(tmp_path: Path) -> None:
    grid = grid_of_cell(BOX, 100)
    places = GridTiles(grid, np.array([0, 0, 1, 1]) + grid.y0 % 2, np.array([0, 1, 0, 1]) + grid.x0 % 2)
    layer = scored_at(places, np.array(["a", "b", "c", "d"]))
    for ranks, shown in (
        ([3, 1, None, 2], (1, 0)),
        ([None, None, None, 1], (3, 0)),
        ([1, 1, 1, 1], (0, 0)),
        ([None] * 4, (0, -1)),
    ):
        band = ["top 5 %" if rank == 1 else None if rank is None else "lowest 40 %" for rank in ranks]
        table = layer.table.assign(rank=pd.array(ranks, dtype="Int64"), band=pd.Series(band, dtype="str"))
        tiles = vector_tiles(replace(layer, table=table), ["rank"])
        z = tiles.zooms[1] - 3  # 100 m are 16 to 32 units there, so two by two are one
        found = everything(tiles, z, tmp_path)
        assert list(zip(found["mvt_id"], found["class"], strict=True)) == [shown]
        assert found["tiles"].tolist() == [4]


def test_without_ranks_the_class_decides(tmp_path: Path) -> None:
    grid = grid_of_cell(BOX, 100)
    places = GridTiles(grid, np.array([0, 0, 1, 1]) + grid.y0 % 2, np.array([0, 1, 0, 1]) + grid.x0 % 2)
    layer = scored_at(places, np.array(["a", "b", "c", "d"]))
    table = layer.table.drop(columns="rank").assign(change=pd.Series(["less", None, "more", "more"]))
    legend = Legend("Change", "change", (Shade("more", "#aa0000"), Shade("less", "#0000aa")))
    tiles = vector_tiles(replace(layer, table=table, legend=legend))
    (x, y), *_ = tiles.addresses(0)
    found = units(tiles.tile(0, x, y), tmp_path)
    assert (found["mvt_id"].tolist(), found["class"].tolist()) == ([2], [0])
    assert list(found.columns) == ["mvt_id", "class", "geometry"]
    unknown = replace(layer, table=table.assign(change="sideways"), legend=legend)
    with pytest.raises(
        LayerError, match=r"^change holds 'sideways', which the legend lacks; use more, less$"
    ):
        vector_tiles(unknown)


def test_properties_keep_their_types_and_null_is_left_out(tmp_path: Path) -> None:
    layer = scored_grid()
    fields = ["rank", "risk", "has_image", "town", "label", "road_m"]
    tiles = vector_tiles(layer, fields)
    z = tiles.zooms[1]
    (x, y), *_ = tiles.addresses(z)
    found = units(tiles.tile(z, x, y), tmp_path).set_index("mvt_id")
    assert len(found) == len(layer)
    for name in fields:
        here, there = found[name].astype(object), layer.table[name].loc[found.index].astype(object)
        assert here.isna().tolist() == there.isna().tolist(), name
        known = there.notna()
        assert here[known].tolist() == there[known].tolist(), name
    assert HOSTILE in found["town"].iloc[0]
    info = pyogrio.read_info(tmp_path / "tile.mvt")
    types = dict(zip(info["fields"], info["dtypes"], strict=True))
    assert (types["rank"], types["risk"], types["has_image"], types["town"]) == (
        "int32",
        "float64",
        "bool",
        "object",
    )
    with pytest.raises(LayerError, match=r"^the layer has no speed; it has tile_id, risk, rank,"):
        vector_tiles(layer, ["speed"])


def test_a_field_called_class_keeps_its_own_values(tmp_path: Path) -> None:
    layer = scored_grid()
    table = layer.table.assign(**{"class": "primary", "tiles": 0.5})
    tiles = vector_tiles(replace(layer, table=table), ["class", "tiles"])
    found = units(tiles.tile(0, *next(tiles.addresses(0))), tmp_path)
    assert (found["class"].tolist(), found["tiles"].tolist()) == (["primary"], [0.5])


def test_same_layer_same_bytes_and_outside_is_nothing() -> None:
    tiles, again = (vector_tiles(scored_grid(), ["risk", "town"]) for _ in range(2))
    z = tiles.zooms[1]
    for x, y in tiles.addresses(z):
        assert tiles.tile(z, x, y) == again.tile(z, x, y) != b""
        assert tiles.tile(z, x, y, ()) == vector_tiles(scored_grid()).tile(z, x, y)
    for address in ((z + 1, 2 * x, 2 * y), (z, -1, y), (z, x, 1 << z), (z, x + 5, y), (-1, 0, 0)):
        assert tiles.tile(*address) == b""


def test_bounds_are_around_the_features() -> None:
    for name in ("utm", "xyz", "lnglat", "state plane"):
        grid = GRIDS[name]
        true = shapely.total_bounds(grid.cells(*grid.every_tile(), "EPSG:4326"))
        np.testing.assert_allclose(TILES[name].bounds, true, atol=1e-6)
    across = TILES["antimeridian"].bounds
    assert across.west < 180 < across.east < 180.2


# given shapes


def given_layer(shapes: list[Any], ranks: list[int | None] | None = None) -> Layer:
    """Shapes in WGS84 with ranks."""
    made = scored_at(
        GivenShapes(np.array(shapes, dtype=object), "EPSG:4326"),
        np.array([f"s{i}" for i in range(len(shapes))]),
    )
    if ranks is None:
        return made
    band = ["top 5 %" if rank == 1 else None if rank is None else "lowest 40 %" for rank in ranks]
    table = made.table.assign(rank=pd.array(ranks, dtype="Int64"), band=pd.Series(band, dtype="str"))
    return replace(made, table=table)


SQUARE = shapely.Polygon(
    [(0, 0), (0, 9), (9, 9), (9, 0)], holes=[[(1, 1), (2, 1), (2, 2), (1, 2)], [(4, 4), (4, 8), (8, 8)]]
)
SHAPES = [
    shapely.Point(3.3, 4.4),
    shapely.MultiPoint([(5, 5), (-7, 3), (2, 1)]),
    shapely.LineString([(0, 0), (1, 1), (2, 0), (3, 5)]),
    shapely.MultiLineString([[(0, 0), (1, 1)], [(5, 5), (6, 7), (7, 5)]]),
    SQUARE,
    shapely.MultiPolygon([shapely.box(20, 20, 24, 24), shapely.box(30, 20, 33, 26)]),
]


def test_points_lines_and_polygons_are_where_they_are_to_a_unit(tmp_path: Path) -> None:
    tiles = vector_tiles(given_layer(SHAPES), zooms=(0, 5))
    for z in range(6):
        seen: set[int] = set()
        for x, y in tiles.addresses(z):
            found = units(tiles.tile(z, x, y), tmp_path)
            true = shapely.intersection(
                in_units(np.array(SHAPES), z, x, y), shapely.box(-64, -64, 4160, 4160)
            )[found["mvt_id"]]
            assert shapely.hausdorff_distance(found.geometry.to_numpy(), true).max() < 1.5
            assert shapely.is_valid(found.geometry.to_numpy()).all()
            kinds = shapely.get_dimensions(found.geometry.to_numpy())
            assert kinds.tolist() == shapely.get_dimensions(true).tolist()
            polygons = shapely.get_parts(found.geometry.to_numpy()[kinds == 2])
            assert all(ring.is_ccw for ring in shapely.get_exterior_ring(polygons))
            seen |= set(found["mvt_id"])
        assert seen == set(range(len(SHAPES)))


def test_shapes_without_a_place_are_in_no_tile_and_all_others_at_the_highest_zoom(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    lng, lat = chance.uniform(-71.2, -71.1, 300), chance.uniform(42.3, 42.4, 300)
    lng[::7] = np.nan
    layer = scored_at(given_points(lng, lat), np.arange(300).astype(str))
    tiles = vector_tiles(layer)
    found = everything(tiles, tiles.zooms[1], tmp_path)
    assert sorted(found["mvt_id"]) == np.flatnonzero(~np.isnan(lng)).tolist()
    bounds = tiles.bounds
    assert (bounds.west, bounds.north) == pytest.approx((np.nanmin(lng), lat[~np.isnan(lng)].max()), abs=1e-9)


@pytest.mark.parametrize("kind", ["points", "lines", "polygons"])
def test_what_is_smaller_than_a_mark_is_marked_by_the_riskiest(kind: str, tmp_path: Path) -> None:
    at = np.random.default_rng(5).uniform(0.01, 0.02, (400, 2))
    shapes: Any = shapely.points(at)
    if kind != "points":
        ends = np.stack([at, at + 1e-4], axis=1)
        shapes = shapely.linestrings(ends) if kind == "lines" else shapely.box(*at.T, *(at + 1e-4).T)
    layer = given_layer(list(shapes), [*range(400, 1, -1), 1])
    tiles = vector_tiles(layer, ["rank"])
    for z in range(tiles.zooms[1]):
        stood, shown = 0, Counter()
        for x, y in tiles.addresses(z):
            found = units(tiles.tile(z, x, y), tmp_path)
            assert shapely.is_valid(found.geometry.to_numpy()).all()
            assert found["rank"].is_monotonic_decreasing  # the riskiest is drawn last, so on top
            shown.update(found["mvt_id"])
            stood += (found["tiles"] if "tiles" in found else pd.Series(1, found.index)).sum()
        assert 399 in shown
        assert stood >= 400
    (tile,) = tiles.addresses(0)
    lowest = units(tiles.tile(0, *tile), tmp_path)
    assert (lowest["mvt_id"].tolist(), lowest["tiles"].tolist()) == ([399], [400])


def test_a_full_tile_keeps_the_riskiest_lines(tmp_path: Path) -> None:
    n = MOST_FEATURES + 500
    left, top = np.divmod(np.arange(n), 143)
    ends = np.stack([np.stack([left, top], 1), np.stack([left + 0.9, top], 1)], axis=1) * 0.002
    order = np.random.default_rng(1).permutation(n)
    tiles = vector_tiles(given_layer(list(shapely.linestrings(ends)), (order + 1).tolist()))
    found = units(tiles.tile(9, 256, 255), tmp_path)
    assert len(found) == MOST_FEATURES
    assert sorted(order[found["mvt_id"]]) == list(range(MOST_FEATURES))


def test_broken_mixed_and_empty_shapes_are_drawn_as_far_as_they_can(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    mixed = shapely.GeometryCollection([shapely.Point(9, 9), shapely.LineString([(1, 1), (2, 2)])])
    touching = shapely.box(-10, -10, -90 / 64, 10)
    shapes = [bow_tie, mixed, shapely.Polygon(), None, touching, shapely.Point(0, 90)]
    tiles = vector_tiles(given_layer(shapes), zooms=(0, 2))
    found = everything(tiles, 2, tmp_path)
    assert set(found["mvt_id"]) == {0, 1, 4, 5}
    drawn = units(tiles.tile(2, 2, 1), tmp_path).set_index("mvt_id").geometry
    assert drawn[0].is_valid
    assert drawn[1].geom_type == "LineString"
    assert 4 not in drawn  # only its edge touches the tile's buffer


@pytest.mark.parametrize("places", [given_points([], []), given_points([np.nan], [1.0])])
def test_a_layer_without_places_holds_nothing(places: GivenShapes) -> None:
    tiles = vector_tiles(scored_at(places, np.array(["a"] * len(places.geometry))), ["risk"])
    assert tiles.bounds is None
    assert list(tiles.addresses(3)) == []
    assert tiles.tile(0, 0, 0) == b""


def test_tiles_without_a_place_are_refused() -> None:
    with pytest.raises(LayerError, match=r"^nothing says where the tiles are;"):
        vector_tiles(scored_at(None, np.array(["a"])))
