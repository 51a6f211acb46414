"""Layers through Arrow: any shapes and values, in order, the same bytes, with their words, or an error."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pyogrio
import pyogrio.raw
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scored_examples import ABOUT, FACTS, GRID, scored_at, scored_grid

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.geometry.columns import boxes_as_wkb
from roadrisk.maps.arrow import record_batches, schema_of
from roadrisk.maps.fields import field_aliases, field_description
from roadrisk.maps.formats.flatgeobuf import write_flatgeobuf
from roadrisk.maps.formats.geopackage import write_geopackage
from roadrisk.maps.formats.geoparquet import write_geoparquet
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GivenShapes, GridTiles, Moved, given_points
from roadrisk.maps.shape_types import shapes_of
from roadrisk.maps.styles.qml import qml
from roadrisk.maps.styles.sld import sld

POINT, OTHER = shapely.Point(3, 4), shapely.Point(5, 6)
LINE, BENT = shapely.LineString([(0, 0), (1, 2)]), shapely.LineString([(0, 1), (5, 5), (6, 1)])
SQUARE, AWAY = shapely.box(0, 0, 1, 1), shapely.box(7, 7, 9, 9)
HOLED = shapely.Polygon([(0, 0), (9, 0), (9, 9)], holes=[[(5, 1), (6, 1), (6, 2)]])

# shapes, the types that are written, GDAL's name of the layer's
KINDS = {
    "points": ([POINT, OTHER], ("Point",), "Point"),
    "lines": ([LINE, BENT], ("LineString",), "LineString"),
    "polygons": ([SQUARE, HOLED], ("Polygon",), "Polygon"),
    "lines and many": (
        [LINE, shapely.MultiLineString([BENT, LINE])],
        ("MultiLineString",),
        "MultiLineString",
    ),
    "polygons and many": ([HOLED, shapely.MultiPolygon([AWAY, SQUARE])], ("MultiPolygon",), "MultiPolygon"),
    "points and many": ([OTHER, shapely.MultiPoint([POINT, OTHER])], ("MultiPoint",), "MultiPoint"),
    "all": ([POINT, LINE, SQUARE], ("LineString", "Point", "Polygon"), "Unknown"),
    "none": ([None, None], (), "Unknown"),
    "some": ([None, SQUARE, None], ("Polygon",), "Polygon"),
    "no rows": ([], (), "Unknown"),
    "empty": ([shapely.Polygon(), SQUARE], ("Polygon",), "Polygon"),
}
NOT_EVERYWHERE = {"none": "2 of 2", "some": "2 of 3", "empty": "1 of 2"}
FORMS: dict[str, Callable[[Layer, Path], None]] = {
    "gpkg": write_geopackage,
    "fgb": write_flatgeobuf,
    "parquet": write_geoparquet,
}


def placed(shapes: list) -> Layer:
    places = GivenShapes(np.array(shapes, dtype=object), "EPSG:32619")
    return scored_at(places, np.array([f"t{i}" for i in range(len(shapes))], dtype=object))


def written(layer: Layer, folder: Path, form: str) -> Path:
    path = folder / f"a.{form}"
    path.unlink(missing_ok=True)
    FORMS[form](layer, path)
    return path


def read(path: Path) -> geopandas.GeoDataFrame:
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path).drop(columns="bbox", errors="ignore")
    return geopandas.read_file(path, layer="risk")


def single(shape: shapely.Geometry | None) -> shapely.Geometry | None:
    """What a collection of one holds; None for a shape without any place."""
    if shape is None or shape.is_empty:
        return None
    return shape.geoms[0] if hasattr(shape, "geoms") and len(shape.geoms) == 1 else shape


@pytest.mark.parametrize(
    ("form", "kind"),
    [(form, kind) for form in FORMS for kind in KINDS if form != "fgb" or kind not in NOT_EVERYWHERE],
)
def test_shapes_of_every_kind_come_back(tmp_path: Path, form: str, kind: str) -> None:
    shapes, types, declared = KINDS[kind]
    layer = placed(shapes)
    path = written(layer, tmp_path, form)
    found = read(path)
    assert found.crs == "EPSG:32619"
    # an index puts features in its own order
    rows = found.set_index("tile_id").loc[layer.table["tile_id"]] if len(shapes) else found
    for here, there in zip(rows.geometry, shapes, strict=True):
        assert single(here) == single(there)
    if form == "parquet":
        geo = json.loads(pyarrow.parquet.read_schema(path).metadata[b"geo"])["columns"]["geometry"]
        assert tuple(geo["geometry_types"]) == types
        bounds = geopandas.GeoSeries(shapes).total_bounds
        assert geo.get("bbox", [np.nan] * 4) == pytest.approx(bounds.tolist(), nan_ok=True)
        boxes = pyarrow.parquet.read_table(path)["bbox"].to_pylist()
        there = [None if single(shape) is None else shape.bounds for shape in shapes]
        assert [box and tuple(box.values()) for box in boxes] == there
    else:
        info = pyogrio.read_info(path, layer="risk", force_feature_count=True)
        assert (info["geometry_type"], info["features"]) == (declared, len(shapes))
        kinds = {shape.geom_type for shape in rows.geometry if shape is not None}
        assert kinds <= set(types)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_form_with_an_index_answers_for_a_box(tmp_path: Path) -> None:
    layer = scored_grid()
    left, bottom, right, top = GRID.tile_bounds(2, 3)
    box = (left + 1, bottom + 1, right - 1, top - 1)
    for form in ("gpkg", "fgb"):
        path = written(layer, tmp_path, form)
        assert pyogrio.read_info(path, layer="risk")["capabilities"]["fast_spatial_filter"]
        assert read_within(path, box) == [GRID.tile_id(2, 3)]


@pytest.mark.parametrize("kind", NOT_EVERYWHERE)
def test_flatgeobuf_refuses_what_its_readers_break_on(tmp_path: Path, kind: str) -> None:
    message = f"^{NOT_EVERYWHERE[kind]} features lie nowhere, which FlatGeobuf cannot hold; write .gpkg$"
    with pytest.raises(LayerError, match=message):
        written(placed(KINDS[kind][0]), tmp_path, "fgb")
    assert list(tmp_path.iterdir()) == []


def read_within(path: Path, box: tuple[float, ...]) -> list[str]:
    return geopandas.read_file(path, layer="risk", bbox=box)["tile_id"].tolist()


@pytest.mark.parametrize("form", ["gpkg", "parquet"])
def test_rows_stay_in_the_order_of_the_layer_over_many_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    whole = scored_grid().taken(np.random.default_rng(0).permutation(GRID.size))
    parts = Layer.parts
    monkeypatch.setattr(Layer, "parts", lambda layer: parts(layer, 7))
    path = written(whole, tmp_path, form)
    found = read(path)
    pd.testing.assert_series_equal(found["tile_id"], whole.table["tile_id"], check_dtype=False)
    np.testing.assert_array_equal(found["risk"], whole.table["risk"])
    assert shapely.equals_exact(found.geometry.to_numpy(), whole.placed().shapes(GRID.crs), tolerance=0).all()
    if form == "parquet":
        groups = pyarrow.parquet.ParquetFile(path).metadata.num_row_groups
        assert groups == -(-GRID.size // 7)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_layer_is_the_same_bytes(tmp_path: Path, form: str) -> None:
    first = hashlib.sha256(written(scored_grid(), tmp_path, form).read_bytes()).hexdigest()
    time.sleep(0.02)  # the clock is in no file, at the milliseconds that GeoPackage knows
    assert hashlib.sha256(written(scored_grid(), tmp_path, form).read_bytes()).hexdigest() == first


@pytest.mark.parametrize("form", FORMS)
def test_a_name_without_its_suffix_is_written_as_well(tmp_path: Path, form: str) -> None:
    FORMS[form](scored_grid(), tmp_path / "layer")
    written(scored_grid(), tmp_path, form)
    assert (tmp_path / "layer").read_bytes() == (tmp_path / f"a.{form}").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_words_are_in_the_file(tmp_path: Path, form: str) -> None:
    layer = scored_grid()
    path = written(layer, tmp_path, form)
    if form == "parquet":
        told = json.loads(pyarrow.parquet.read_schema(path).metadata[b"roadrisk"])
        fields = {f.name: f.metadata for f in pyarrow.parquet.read_schema(path) if f.metadata}
    else:
        metadata = pyogrio.read_info(path, layer="risk")["layer_metadata"]
        told = json.loads(metadata["ROADRISK"])
        assert metadata["TITLE"] == ABOUT.title
        assert metadata["DESCRIPTION"] == ABOUT.risk_meaning
        assert metadata["LICENCE"] == ABOUT.licence
        assert metadata["ATTRIBUTION"] == ABOUT.attribution
        assert metadata["MODEL"] == ABOUT.model
        schema = pyogrio.raw.read_arrow(path, layer="risk")[1].schema
        fields = {f.name: f.metadata for f in schema}
    assert told == json.loads(json.dumps(layer.as_json()))
    aliases = field_aliases(layer.columns)
    for column in layer.columns:
        if form == "parquet":
            assert fields[column.name] == {
                b"alias": aliases[column.name].encode(),
                b"unit": column.unit.encode(),
                b"description": field_description(column).encode(),
            }
            continue
        assert fields[column.name][b"GDAL:OGR:comment"].decode() == field_description(column)
        alias = fields[column.name].get(b"GDAL:OGR:alternative_name", column.name.encode()).decode()
        # GDAL gives none where it is the field's own name but for capitals
        assert alias.lower() == aliases[column.name].lower()


def test_a_geopackage_says_which_version_it_is_and_is_whole(tmp_path: Path) -> None:
    with closing(sqlite3.connect(written(scored_grid(), tmp_path, "gpkg"))) as database:
        assert database.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"GPKG"),)
        assert database.execute("PRAGMA user_version").fetchone() == (10300,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        dates = database.execute("SELECT last_change FROM gpkg_contents").fetchall()
        assert set(dates) == {("1970-01-01T00:00:00.000Z",)}


def test_the_style_lies_in_the_geopackage_under_the_names_that_qgis_asks_for(tmp_path: Path) -> None:
    layer = scored_grid()
    path = written(layer, tmp_path, "gpkg")
    with closing(sqlite3.connect(path)) as database:
        assert database.execute(
            "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column, useAsDefault, styleQML, "
            "styleSLD FROM layer_styles"
        ).fetchall() == [("", "", "risk", "geom", 1, qml(layer), sld(layer))]
        # the table of features stays the first: readers that are not told which take it
        assert database.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall() == [
            ("risk", "features"),
            ("layer_styles", "attributes"),
        ]
    assert pyogrio.list_layers(path)[0].tolist() == ["risk", "Polygon"]


@pytest.mark.parametrize(("kind", "styles"), [("all", 0), ("none", 0), ("no rows", 0), ("lines and many", 1)])
def test_shapes_that_one_style_cannot_draw_have_none(tmp_path: Path, kind: str, styles: int) -> None:
    with closing(sqlite3.connect(written(placed(KINDS[kind][0]), tmp_path, "gpkg"))) as database:
        found = database.execute("SELECT name FROM sqlite_master WHERE name = 'layer_styles'").fetchall()
        assert len(found) == styles


def test_squares_in_another_crs_keep_their_true_outlines(tmp_path: Path) -> None:
    layer = scored_grid()
    moved = replace(layer, places=Moved(layer.placed(), "EPSG:4326"))
    for form in FORMS:
        found = read(written(moved, tmp_path, form)).set_index("tile_id")
        assert found.crs == "EPSG:4326"
        there = GRID.cells(*GRID.every_tile(), "EPSG:4326")
        here = found.loc[layer.table["tile_id"]].geometry.to_numpy()
        assert shapely.equals_exact(here, there, tolerance=0).all()


def values_of(dtype: str, meaning: object) -> Layer:
    column = Column("x", "object", "", "info", "none", "Anything.")
    layer = scored_grid().taken(np.arange(3))
    return replace(layer, table=pd.DataFrame({"x": pd.Series(meaning, dtype=dtype)}), columns=(column,))


@pytest.mark.parametrize(
    ("dtype", "given", "arrow", "held"),
    [
        ("float64", [0.0, np.nan, -1.5], pa.float64(), [0.0, None, -1.5]),
        ("float32", [0.5, np.nan, 2], pa.float64(), [0.5, None, 2.0]),
        ("Float64", [0.5, None, 2], pa.float64(), [0.5, None, 2.0]),
        ("int64", [0, 2**53 + 1, -1], pa.int64(), [0, 2**53 + 1, -1]),
        ("Int64", [0, None, -1], pa.int64(), [0, None, -1]),
        ("uint8", [0, 255, 1], pa.int64(), [0, 255, 1]),
        ("bool", [True, False, True], pa.bool_(), [True, False, True]),
        ("boolean", [True, None, False], pa.bool_(), [True, None, False]),
        ("object", [True, None, False], pa.bool_(), [True, None, False]),
        ("object", [1, None, 0], pa.int64(), [1, None, 0]),
        ("object", ["a", None, ""], pa.string(), ["a", None, ""]),
        ("object", [None, np.nan, None], pa.string(), [None, None, None]),
        ("str", ["a", None, "é\u2028"], pa.string(), ["a", None, "é\u2028"]),
        ("category", ["b", None, "b"], pa.string(), ["b", None, "b"]),
    ],
)
def test_values_keep_their_kind_and_what_is_unknown(
    tmp_path: Path, dtype: str, given: list, arrow: pa.DataType, held: list
) -> None:
    layer = values_of(dtype, given)
    assert schema_of(layer).field("x").type == arrow
    assert record_batches(layer, shapes_of(layer)).read_all()["x"].to_pylist() == held
    for form in ("gpkg", "parquet"):
        path = written(layer, tmp_path, form)
        if form == "parquet":
            found = pyarrow.parquet.read_table(path)
        else:
            found = pyogrio.raw.read_arrow(path, layer="risk")[1]
        assert found["x"].to_pylist() == held


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("dtype", "given", "message"),
    [
        (
            "object",
            ["a", 1, None],
            r"^x holds more than one kind of value; make them all numbers, true or .*$",
        ),
        ("datetime64[ns]", [0, 1, 2], r"^x holds timestamp\[ns\] values; a layer takes numbers, true or .*$"),
        (
            "object",
            [b"a", None, None],
            r"^x holds binary values; a layer takes numbers, true or false, and text$",
        ),
    ],
)
def test_values_that_no_layer_can_hold_are_refused(
    tmp_path: Path, form: str, dtype: str, given: list, message: str
) -> None:
    with pytest.raises(LayerError, match=message):
        written(values_of(dtype, given), tmp_path, form)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (4, 5), elements=st.floats(-1e7, 1e7)))
def test_boxes_are_those_of_shapely(edges: np.ndarray) -> None:
    there = shapely.box(*edges, ccw=True)
    assert boxes_as_wkb(*edges).to_pylist() == shapely.to_wkb(there).tolist()


def test_squares_are_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(*_: object) -> None:
        raise AssertionError("shapes were made")

    monkeypatch.setattr(GridTiles, "shapes", seen)
    layer = scored_grid()
    assert shapes_of(layer) == shapes_of(replace(layer, places=Moved(layer.placed(), "EPSG:4326")))
    assert record_batches(layer, shapes_of(layer)).read_all().num_rows == GRID.size


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stopped", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=type)
def test_what_breaks_on_the_way_is_told_and_leaves_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, stopped: BaseException
) -> None:
    def broken(layer: Layer, *_: object) -> Iterator[Layer]:
        yield layer.taken(np.arange(3))
        raise stopped

    layer = scored_grid()
    monkeypatch.setattr(Layer, "parts", broken)
    with pytest.raises(type(stopped)) as told:
        FORMS[form](layer, tmp_path / "a")
    assert told.value is stopped
    (tmp_path / "a").unlink(missing_ok=True)  # as write_layers does
    assert list(tmp_path.iterdir()) == []


def test_heights_are_left_out(tmp_path: Path) -> None:
    layer = placed([shapely.Point(1, 2, 3), shapely.Point(4, 5)])
    for form in FORMS:
        found = read(written(layer, tmp_path, form)).geometry
        assert not shapely.has_z(found.to_numpy()).any()


def test_a_point_without_coordinates_is_unknown(tmp_path: Path) -> None:
    layer = scored_at(given_points([1.0, np.nan], [2.0, 2.0]), np.array(["a", "b"]))
    for form in ("gpkg", "parquet"):
        found = read(written(layer, tmp_path, form))
        assert [shape is None for shape in found.geometry] == [False, True]
    assert FACTS[0].name in found
