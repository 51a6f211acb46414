"""Layers read back: the same as was written, and one line for everything that is no layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_examples import ABOUT, GRID, HOSTILE, scored_at, scored_grid

from roadrisk.errors import LayerError
from roadrisk.geometry.columns import boxes_as_wkb
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.maps.bands import RISK_LEGEND
from roadrisk.maps.lattices import tiles_of_squares
from roadrisk.maps.layer import Layer
from roadrisk.maps.layers import write_layers
from roadrisk.maps.legend import Legend, Shade
from roadrisk.maps.places import GivenShapes, GridTiles
from roadrisk.maps.reading import layer_at

OURS = [".parquet", ".gpkg", ".fgb", ".geojson"]
BOX = LngLatBbox(-71.15, 42.34, -71.10, 42.37)
LINES = GivenShapes(
    np.array([shapely.LineString([(-71.1, 42.3), (-71.2, 42.4), (-71.2, 42.5)]), None]), "EPSG:4326"
)


def _same(found: Layer, written: Layer) -> None:
    pd.testing.assert_frame_equal(found.table.astype({"rank": "Int64"}), written.table)
    assert found.columns == written.columns
    assert found.about == written.about
    assert found.legend == written.legend
    assert (found.name, found.ranked) == (written.name, written.ranked)


@pytest.mark.parametrize("suffix", OURS)
@pytest.mark.parametrize("grid", [GRID, grid_of_zoom(BOX, 14)], ids=["utm", "xyz"])
def test_a_layer_is_read_back_as_it_was_written(tmp_path: Path, suffix: str, grid: Any) -> None:
    every = scored_grid(grid, about=replace(ABOUT, title=HOSTILE))
    written = replace(every.taken(np.arange(len(every) // 2)), name="top_40")
    assert written.ranked == every.table["rank"].notna().sum() > written.table["rank"].notna().sum()
    write_layers(written, [tmp_path / f"a{suffix}"])
    found = layer_at(tmp_path / f"a{suffix}")
    if suffix == ".fgb":  # in the order of its index
        found = found.taken(
            found.table.reset_index().set_index("tile_id")["index"][written.table["tile_id"]].to_numpy()
        )
    _same(found, written)
    there = found.placed()
    if suffix == ".geojson":
        assert there.crs == "EPSG:4326"
        moved = shapely.get_coordinates(there.shapes("EPSG:4326")) - shapely.get_coordinates(
            shapely.transform(
                shapely.orient_polygons(written.placed().shapes("EPSG:4326")), lambda at: at.round(7)
            )
        )
        assert np.abs(moved).max() < 1e-7
    else:
        assert isinstance(there, GridTiles)
        assert there.crs == grid.crs
        exact = written.placed().shapes(grid.crs)
        assert shapely.equals_exact(there.shapes(grid.crs), exact, tolerance=0).all()


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg", ".geojson"])
def test_lines_rows_without_a_place_and_another_legend_are_read_back(tmp_path: Path, suffix: str) -> None:
    made = scored_at(LINES, np.array(["a", "b"]))
    shades = (Shade("yes", "#aa0000"), Shade("no & never", "#00aa00"))
    table = made.table.assign(fits=pd.Series(["yes", None], dtype="str"))
    columns = (*made.columns, replace(made.columns[-1], name="fits"))
    written = replace(
        made, table=table, columns=columns, legend=Legend("Fits", "fits", shades, "not looked at")
    )
    write_layers(written, [tmp_path / f"a{suffix}"])
    found = layer_at(tmp_path / f"a{suffix}")
    _same(found, written)
    line, nowhere = found.placed().shapes("EPSG:4326")
    assert nowhere is None
    assert shapely.equals_exact(line, LINES.geometry[0], tolerance=1e-9)


def test_lines_of_features_are_read_with_fields_that_nobody_described(tmp_path: Path) -> None:
    written = scored_grid()
    write_layers(written, [tmp_path / "a.geojsonl"])
    found = layer_at(tmp_path / "a.geojsonl")
    assert found.table["tile_id"].tolist() == written.table["tile_id"].tolist()
    assert found.table["rank"].tolist() == written.table["rank"].tolist()
    assert found.about.licence == "as of the file"


def _rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Other words in a GeoParquet layer."""
    table = pq.read_table(path)
    told = json.loads(table.schema.metadata[b"roadrisk"])
    change(told)
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, b"roadrisk": json.dumps(told)}), path
    )


def test_a_layer_older_than_legends_has_the_bands(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_layers(scored_grid(), [path])
    _rewritten(path, lambda told: told.pop("legend"))
    assert layer_at(path).legend == RISK_LEGEND


@pytest.mark.parametrize("name", ["../../a", "", "a b", "a\n", 7, None])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: object) -> None:
    path = tmp_path / "a.parquet"
    write_layers(scored_grid(), [path])
    _rewritten(path, lambda told: told.update(name=name))
    assert _message(path).startswith("cannot be read as a layer (")


def test_a_layer_older_than_names_is_called_risk(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_layers(replace(scored_grid(), name="roads"), [path])
    _rewritten(path, lambda told: [told.pop(word) for word in ("name", "ranked")])
    found = layer_at(path)
    assert (found.name, found.ranked) == ("risk", None)


def test_a_field_that_was_added_later_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_layers(scored_grid(), [path])
    _rewritten(path, lambda told: told["columns"].pop())
    column = layer_at(path).columns[-1]
    assert (column.name, column.dtype, column.meaning) == ("town", "object", "")


def test_any_file_with_a_risk_is_ranked_anew(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {
            "risk": [0.1, None, 0.9],
            "rank": [7, 8, 9],
            "day": pd.to_datetime(["2024-01-01"] * 3),
            "lanes": [1, 2, 3],
        },
        geometry=shapely.points([(0, 0), (1, 1), (2, 2)]),
        crs="EPSG:4326",
    )
    frame.to_file(tmp_path / "towns.gpkg")
    found = layer_at(tmp_path / "towns.gpkg")
    assert found.table["tile_id"].tolist() == ["0", "1", "2"]
    assert found.table["rank"].tolist() == [2, pd.NA, 1]
    assert found.table["day"].str.startswith("2024-01-01").all()
    assert found.table["lanes"].tolist() == [1, 2, 3]
    assert found.about.title == "towns"
    assert {found.about.licence, found.about.attribution, found.about.model} == {"as of the file"}
    assert list(found.table) == [column.name for column in found.columns]


BOXES = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 5), st.integers(1, 5))


@settings(max_examples=30)
@given(BOXES, st.sampled_from([64.0, 250.0, 12.5]), st.booleans(), st.randoms())
def test_squares_of_a_grid_are_known_by_their_outlines(
    where: tuple[int, int, int, int], cell: float, xyz: bool, chance: Any
) -> None:
    x, y, rows, cols = where
    whole = grid_of_zoom(BOX, 16) if xyz else grid_of_cell(BOX, 250)
    grid = replace(whole, cell=whole.cell if xyz else cell, x0=x, y0=y, rows=rows, cols=cols)
    order = list(range(grid.size))
    chance.shuffle(order)
    at = GridTiles(grid, *grid.every_tile()).taken(np.array(order))
    stored = pa.chunked_array([boxes_as_wkb(*grid.edges(at.rows, at.cols))])
    found = tiles_of_squares(stored, grid.crs)
    assert found is not None
    for one, other in zip(
        found.grid.edges(found.rows, found.cols), grid.edges(at.rows, at.cols), strict=True
    ):
        assert np.array_equal(one, other)


def _moved(points: Any) -> Any:
    points[1, 0] += 1e-6
    return points


@pytest.mark.parametrize(
    "shapes",
    [
        [shapely.box(0, 0, 2, 2, ccw=True), shapely.box(1, 0, 3, 2, ccw=True)],
        [shapely.box(0, 0, 2, 2, ccw=True), shapely.box(2, 0, 4, 3, ccw=True)],
        [shapely.box(0, 0, 2, 2, ccw=False)],
        [shapely.transform(shapely.box(0, 0, 2, 2, ccw=True), _moved)],
        [shapely.box(0, 0, 2, 2, ccw=True), None],
        [shapely.box(0, 0, 2, 2, ccw=True), shapely.Point(0, 0)],
        [shapely.box(0, 0, 0, 0, ccw=True)],
        [shapely.box(0, 0, 1e-300, 1e-300, ccw=True), shapely.box(1e300, 0, 1e301, 9, ccw=True)],
        [],
    ],
    ids=["off", "taller", "clockwise", "bent", "none", "point", "flat", "huge", "nothing"],
)
def test_other_shapes_are_no_squares(shapes: list[Any]) -> None:
    stored = pa.chunked_array([pa.array(shapely.to_wkb(np.array(shapes, dtype=object)), pa.binary())])
    assert tiles_of_squares(stored, "EPSG:32619") is None


# ---- what is no layer


def _message(path: Path) -> str:
    with pytest.raises(LayerError) as caught:
        layer_at(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path} ")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.csv", "holds no outlines"),
        ("a.html", "is a page already: open it in a browser"),
        ("a.pmtiles", "holds simplified outlines and few fields"),
        ("a.tif", "is a raster, which QGIS shows"),
        ("a.shp", "is no map file that is read back"),
    ],
)
def test_other_forms_are_refused(tmp_path: Path, name: str, said: str) -> None:
    assert _message(tmp_path / name) == (
        f"{said}; layers are read from .parquet .gpkg .fgb .geojson .geojsonl"
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert _message(tmp_path / "a.gpkg") == "is not there; give a map file, as `roadrisk score` writes them"


@pytest.mark.parametrize("suffix", [*OURS, ".geojsonl"])
@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 200, b"fgb\x03fgb\x00" + b"\xff" * 80, b"[" * 9000])
def test_damaged_files_are_told_in_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert _message(path)


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg", ".fgb"])
def test_a_file_cut_short_is_told_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_layers(scored_grid(), [path])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert _message(path)


def test_a_table_without_outlines(tmp_path: Path) -> None:
    pd.DataFrame({"risk": [1.0]}).to_parquet(tmp_path / "a.parquet")
    assert _message(tmp_path / "a.parquet") == "holds no outlines: it is a table; give a GeoParquet file"


def _frame(**fields: Any) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(fields, geometry=shapely.points([(0, 0), (1, 1)]), crs="EPSG:4326")


def test_files_of_somebody_else_that_cannot_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    _frame(name=["a", "b"]).to_parquet(path)
    no_risk = (
        "was not written by roadrisk and has no field `risk` that is a number; "
        "give a layer that `roadrisk score` wrote, or call its risk so"
    )
    assert _message(path) == no_risk
    _frame(risk=["high", "low"]).to_parquet(path)
    assert _message(path) == no_risk
    _frame(risk=[1.0, np.inf]).to_parquet(path)
    assert _message(path) == "holds infinite values in 'risk'; leave them empty"
    _frame(risk=[1.0, 2.0]).set_crs(None, allow_override=True).to_parquet(path)
    assert _message(path) == "does not say in which CRS its outlines are; write it with one"
    _frame(risk=[1.0, 2.0]).set_geometry([None, None], crs="EPSG:4326").to_parquet(path)
    assert _message(path) == "has no feature with an outline; give a file whose features have places"
    both = shapely.GeometryCollection([shapely.Point(0, 0), shapely.box(0, 0, 1, 1)])
    _frame(risk=[1.0, 2.0]).set_geometry([both, None], crs="EPSG:4326").to_parquet(path)
    assert _message(path).startswith("holds shapes other than Point, ")


def test_words_of_a_file_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"

    def after(change: Callable[[dict[str, Any]], Any]) -> str:
        write_layers(scored_grid(), [path])
        _rewritten(path, change)
        return _message(path)

    assert after(lambda told: told["legend"].update(shades=[])) == (
        "holds 'lowest 40 %' in 'band', which its legend does not name; make it again"
    )
    assert after(lambda told: told["legend"].update(field="band_of")) == (
        "has no field 'band_of', which its legend is about; make it again"
    )
    twice = "has a legend that names a class twice; make it again"
    assert after(lambda told: told["legend"]["shades"].append(told["legend"]["shades"][0])) == twice
    for colour in ("red", "#fff", "url(x)", "#7a0b2e;}", "#7a0b2e\n", 7):
        said = after(lambda told, colour=colour: told["legend"]["shades"][0].update(colour=colour))
        assert said.startswith("cannot be read as a layer (")
    said = after(lambda told: told["columns"][0].update(window=["2024-01-01", HOSTILE]))
    assert said.startswith("cannot be read as a layer (Invalid isoformat string")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from _leaves(below, (*path, key))


JUNK: list[Any] = [None, 7, 1e300, True, HOSTILE, [], [[]], {}, {"a": HOSTILE}]


def test_no_junk_in_the_words_is_more_than_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    written = scored_grid()
    write_layers(written.taken(np.arange(8)), [path])
    table = pq.read_table(path)
    metadata = table.schema.metadata
    told = json.loads(metadata[b"roadrisk"])
    places = list(_leaves(told))
    chance = np.random.default_rng(0)
    said: list[str] = []
    for _ in range(200):
        changed = json.loads(metadata[b"roadrisk"])
        *above, last = places[chance.integers(1, len(places))]
        at = changed
        for key in above:
            at = at[key]
        at[last] = JUNK[chance.integers(len(JUNK))]
        pq.write_table(table.replace_schema_metadata({**metadata, b"roadrisk": json.dumps(changed)}), path)
        try:
            found = layer_at(path)
        except LayerError as error:
            said.append(str(error))
        else:
            assert all(shade.colour[0] == "#" and len(shade.colour) == 7 for shade in found.legend.shades)
            assert all(isinstance(word, str) for word in (found.about.title, found.about.licence))
            assert all(isinstance(c.meaning, str) and isinstance(c.unit, str) for c in found.columns)
    assert len(said) > 90
    assert not any("\n" in line for line in said)
