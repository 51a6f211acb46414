"""The text forms of a layer: RFC 7946 in every shape, lines that stand alone, text that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from scored_examples import ABOUT, GRID, scored_at, scored_grid

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.maps.formats import geojson
from roadrisk.maps.formats.csv_table import write_csv
from roadrisk.maps.formats.geojson import geojson_geometries, geometry_texts, write_geojson, write_geojsonl
from roadrisk.maps.formats.texts import csv_texts, json_texts, number_texts
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GivenShapes, GridTiles

SQUARE = [(0, 0), (9, 0), (9, 9), (0, 9), (0, 0)]
HOLE = [(1, 1), (2, 1), (2, 2), (1, 2), (1, 1)]
FAR = [(20, 20), (21, 20), (21, 21), (20, 20)]
SHAPES = {
    "Point": shapely.Point(-71.123456789, 42),
    "LineString": shapely.LineString([(0, 0), (1, 0.00000004), (2, 2)]),
    "Polygon": shapely.Polygon(SQUARE[::-1], [HOLE]),
    "MultiPoint": shapely.MultiPoint([(0, 0), (1, 1)]),
    "MultiLineString": shapely.MultiLineString([[(0, 0), (1, 1)], [(5, 5), (6, 6), (7, 5)]]),
    "MultiPolygon": shapely.MultiPolygon([(SQUARE, [HOLE[::-1]]), (FAR[::-1], [])]),
    "GeometryCollection": shapely.GeometryCollection([shapely.Point(1, 2), shapely.Polygon(SQUARE[::-1])]),
}


def refused(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


def strict(text: str | bytes) -> dict:
    return json.loads(text, parse_constant=refused)


def small(table: pd.DataFrame, shapes: list | None = None) -> Layer:
    """A layer of a table, its shapes in degrees."""
    columns = tuple(Column(str(name), "object", "", "info", "none", "") for name in table)
    places = None if shapes is None else GivenShapes(np.array(shapes, dtype=object), "EPSG:4326")
    return Layer(table, columns, places, ABOUT)


def written(layer: Layer, folder: Path, writer: object = write_geojson) -> str:
    writer(layer, folder / "layer")
    return (folder / "layer").read_bytes().decode()


@pytest.mark.parametrize("kind", SHAPES)
def test_every_kind_of_shape_is_what_geos_says_with_right_hand_rings(kind: str) -> None:
    shape = SHAPES[kind]
    texts = list(geojson_geometries(np.array([None, shape, shape, None])))
    assert texts[0] == texts[3] == "null"
    assert texts[1] == texts[2]
    found = strict(texts[1])
    assert found["type"] == kind
    rounded = shapely.transform(shape, lambda v: np.round(v, 7))
    assert found == json.loads(shapely.to_geojson(shapely.orient_polygons(rounded)))
    assert shapely.equals_exact(shapely.from_geojson(texts[1]), shapely.orient_polygons(rounded))


def test_kinds_may_be_mixed_and_shapes_without_vertices_lie_nowhere() -> None:
    mixed = [*SHAPES.values(), None, shapely.Point(), shapely.Polygon(), *list(SHAPES.values())[::-1]]
    types = [strict(text) and strict(text)["type"] for text in geojson_geometries(np.array(mixed))]
    assert types == [*SHAPES, None, None, None, *list(SHAPES)[::-1]]


def test_height_is_left_out() -> None:
    (text,) = geojson_geometries(np.array([shapely.Point(1, 2, 3)]))
    assert strict(text)["coordinates"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        (
            shapely.LineString([(179, 0), (-179, 2)]),
            {"type": "MultiLineString", "coordinates": [[[179, 0], [180, 1]], [[-180, 1], [-179, 2]]]},
        ),
        (shapely.Point(181, 5), {"type": "Point", "coordinates": [-179, 5]}),
        (shapely.box(181, 0, 182, 1), shapely.box(-179, 0, -178, 1)),
        (
            shapely.box(179, 0, 182, 1),
            shapely.MultiPolygon([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -178, 1)]),
        ),
    ],
)
def test_what_crosses_the_antimeridian_is_cut_there(shape: object, found: object) -> None:
    (text,) = geojson_geometries(np.array([shape]))
    if isinstance(found, dict):
        assert strict(text) == found
    else:
        made = shapely.from_geojson(text)
        assert made.geom_type == found.geom_type
        assert made.normalize().equals_exact(found.normalize())


@pytest.mark.parametrize(
    ("west", "cell_m", "straight"), [(179.8, 5_000, False), (179.99, 100, True)], ids=["bent", "straight"]
)
def test_tiles_of_a_grid_are_cut_at_the_antimeridian_and_lose_nothing(
    tmp_path: Path, west: float, cell_m: float, straight: bool
) -> None:
    # Fiji's grid, whose coordinates run on across the antimeridian
    grid = grid_of_cell(LngLatBbox(west, -17.0, 180.0, -16.99), cell_m, "EPSG:3460")
    grid = replace(grid, cols=grid.cols + 5)
    layer = scored_grid(grid)
    shapes = np.array([shapely.from_geojson(text) for text in _geometries(written(layer, tmp_path))])
    assert "MultiPolygon" in {shape.geom_type for shape in shapes}
    parts = shapely.bounds(shapely.get_parts(shapes))
    assert (parts[:, 2] - parts[:, 0] < 0.1).all()
    assert (np.abs(parts[:, [0, 2]]) <= 180).all()
    outlines = layer.placed().shapes("EPSG:4326")
    assert (shapely.get_num_coordinates(outlines) == 5).all() == straight
    whole = shapely.transform(outlines, lambda v: np.stack([v[:, 0] % 360, v[:, 1]], 1))
    np.testing.assert_allclose(shapely.area(shapes), shapely.area(whole), rtol=5e-4)


def _geometries(text: str) -> list[str]:
    return [json.dumps(feature["geometry"]) for feature in strict(text)["features"]]


@pytest.mark.parametrize(
    "grid",
    [
        GRID,
        grid_of_cell(LngLatBbox(-71.15, 42.34, -71.10, 42.37), 50),
        grid_of_zoom(LngLatBbox(-71.15, 42.34, -71.10, 42.37), 16),
        grid_of_cell(LngLatBbox(-74.0, 41.0, -71.0, 43.0), 50_000),  # with bent edges
    ],
    ids=["utm", "small", "xyz", "bent"],
)
def test_tiles_written_by_their_corners_are_the_outlines_of_the_grid(grid: object) -> None:
    rows, cols = grid.every_tile()
    order = np.random.default_rng(0).permutation(grid.size)[: grid.size // 2 + 1]
    tiles = GridTiles(grid, rows[order], cols[order])
    shapes = tiles.shapes("EPSG:4326")
    assert geojson._geometries(tiles).to_pylist() == geometry_texts(shapes).to_pylist()


def test_a_place_without_longitude_is_refused() -> None:
    with pytest.raises(LayerError) as said:
        list(geojson_geometries(np.array([shapely.Point(np.inf, 1)])))
    assert str(said.value) == (
        "a feature lies where there is no longitude and latitude; check the CRS of its source"
    )


@given(st.lists(st.floats(allow_infinity=False) | st.integers(-(10**11), 10**11).map(float)))
def test_numbers_come_back_to_the_last_bit_and_stay_fractions(values: list[float]) -> None:
    for text, value in zip(number_texts(np.array(values, dtype=float)).to_pylist(), values, strict=True):
        if np.isnan(value):
            assert text is None
        else:
            found = json.loads(text)
            assert isinstance(found, float)  # a reader that guesses types must not take it for an integer
            assert found == value
            assert np.signbit(found) == np.signbit(value)


@example([chr(code) for code in range(128)])
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_text_comes_back_as_it_was(values: list[str | None]) -> None:
    texts = json_texts(pd.Series(values, dtype=object)).to_pylist()
    assert [None if text is None else strict(text) for text in texts] == values


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, None, 2**53 + 1], dtype="Int64"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series([True, None, False], dtype=object),
        pd.Series(["a", None, "b"], dtype="category"),
        pd.Series(["a", None, "b"], dtype="str"),
        pd.Series([0.1, np.nan, 2], dtype="float32"),
        pd.Series([None, None, None], dtype=object),
        pd.Series([1, None, "a"], dtype=object),
        pd.Series([True, 1, "a"], dtype=object),
    ],
    ids=lambda values: f"{values.dtype} {values.iloc[0]}",
)
def test_every_kind_of_column_comes_back(values: pd.Series) -> None:
    known = values.notna().to_numpy()
    expected = [value if here else None for value, here in zip(values.tolist(), known, strict=True)]
    found = [None if text is None else strict(text) for text in json_texts(values).to_pylist()]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]
    plain = csv_texts(values).to_pylist()
    assert [text is not None for text in plain] == known.tolist()
    assert [text for text in plain if text] == [str(value) for value in expected if value is not None]


def test_dates_are_written_as_text() -> None:
    days = pd.Series(pd.to_datetime(["2024-01-31", None])).dt.date
    assert json_texts(days).to_pylist() == ['"2024-01-31"', None]


def test_infinite_values_are_refused() -> None:
    for texts in (json_texts, csv_texts):
        with pytest.raises(LayerError) as said:
            texts(pd.Series([1.0, np.inf, np.nan], name="road_m"))
        assert str(said.value) == "road_m holds infinite values, which no layer can; leave them empty"


def test_parts_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = scored_grid()
    whole = written(layer, tmp_path)
    lines, table = written(layer, tmp_path, write_geojsonl), written(layer, tmp_path, write_csv)
    monkeypatch.setattr(geojson, "FEATURES_AT_ONCE", 5)
    parts = Layer.parts
    monkeypatch.setattr(Layer, "parts", lambda layer, many=5: parts(layer, min(many, 5)))
    assert written(layer, tmp_path) == whole
    assert written(layer, tmp_path, write_geojsonl) == lines
    assert written(layer, tmp_path, write_csv) == table
    strict(whole)


def test_no_feature_is_still_a_collection(tmp_path: Path) -> None:
    nothing = scored_grid().taken(np.arange(0))
    assert strict(written(nothing, tmp_path))["features"] == []
    assert written(nothing, tmp_path, write_geojsonl) == ""
    assert written(nothing, tmp_path, write_csv).count("\n") == 1


def test_a_line_of_geojsonl_is_the_feature_of_geojson(tmp_path: Path) -> None:
    layer = scored_grid()
    text = written(layer, tmp_path, write_geojsonl)
    assert text.endswith("}\n")
    assert text.count("\n") == len(layer)
    lines = [strict(line) for line in text.split("\n")[:-1]]
    assert lines == strict(written(layer, tmp_path))["features"]


def test_the_head_is_one_line_that_ends_where_features_begin(tmp_path: Path) -> None:
    first, *features, last, empty = written(scored_grid(), tmp_path).split("\n")
    assert first.endswith('"features": [')
    assert strict(first + "]}")["roadrisk"]["legend"]["field"] == "band"
    assert len(features) == GRID.size
    assert (last, empty) == ("]}", "")


def test_names_of_fields_are_text_too(tmp_path: Path) -> None:
    layer = small(pd.DataFrame({'a "b"\n': [1], "=c": [2]}), [shapely.Point(0, 0)])
    (feature,) = strict(written(layer, tmp_path))["features"]
    assert feature["properties"] == {'a "b"\n': 1, "=c": 2}
    with_names = written(layer, tmp_path, write_csv)
    assert next(csv.reader(io.StringIO(with_names, newline=""))) == ["lon", "lat", 'a "b"\n', "'=c"]


def test_csv_is_the_table_with_middles(tmp_path: Path) -> None:
    layer = scored_grid()
    written(layer, tmp_path, write_csv)
    found = pd.read_csv(tmp_path / "layer")
    lng, lat = layer.placed().centres()
    expected = layer.table.assign(lon=lng.round(7), lat=lat.round(7))
    expected = expected[["lon", "lat", *layer.table.columns]]
    expected.to_csv(tmp_path / "pandas.csv", index=False, lineterminator="\n")
    pd.testing.assert_frame_equal(found, pd.read_csv(tmp_path / "pandas.csv"), check_exact=True)


RUNS = [
    "=1+1",
    "+A1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\rx",
    " =HYPERLINK(1)",
    "=1+\n2",
    "＝1+1",
    "－A1",
]
STAYS = ["a=b", "-1", "+1.5e-3", ".5", "-", "", "Town", "32619/500/-654/9384", "'x", "1-2", "r00c00"]


def test_no_text_of_a_csv_runs_and_all_other_text_stays(tmp_path: Path) -> None:
    many = [*RUNS, *STAYS, 'a,"b"', "a;=b", "two\nlines"]
    layer = small(pd.DataFrame({"n": range(len(many)), "place": many}))
    rows = list(csv.reader(io.StringIO(written(layer, tmp_path, write_csv), newline="")))[1:]
    assert [row[1] for row in rows] == [*("'" + text for text in RUNS), *many[len(RUNS) :]]
    # a spreadsheet that parts fields at semicolons or tabs must not find a new one
    assert '"a;=b"' in written(layer, tmp_path, write_csv)


def test_numbers_of_a_csv_are_never_touched(tmp_path: Path) -> None:
    layer = small(pd.DataFrame({"excess": [-1.5, 2.0, np.nan], "rank": [1, 2, 3]}))
    assert written(layer, tmp_path, write_csv) == "excess,rank\n-1.5,1\n2.0,2\n,3\n"


def test_the_same_layer_is_the_same_bytes(tmp_path: Path) -> None:
    for writer in (write_geojson, write_geojsonl, write_csv):
        assert written(scored_grid(), tmp_path, writer) == written(scored_grid(), tmp_path, writer)


def test_rows_keep_their_order(tmp_path: Path) -> None:
    layer = scored_grid()
    turned = layer.taken(np.arange(len(layer))[::-1])
    names = [feature["properties"]["tile_id"] for feature in strict(written(turned, tmp_path))["features"]]
    assert names == layer.table["tile_id"].tolist()[::-1]


def test_a_layer_that_lies_nowhere_is_refused(tmp_path: Path) -> None:
    layer = scored_at(None, np.array(["a"]))
    for writer in (write_geojson, write_geojsonl):
        with pytest.raises(LayerError, match="nothing says where the tiles are"):
            writer(layer, tmp_path / "layer")
    assert "lon" not in written(replace(layer), tmp_path, write_csv)
