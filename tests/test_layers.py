"""Layers: each form as its standard asks, the same values in all, whole or not there."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet
import pyogrio
import pyogrio.raw
import pytest
import rasterio
import shapely
from pyproj import Transformer
from scipy import stats
from scored_examples import ABOUT, FACTS, GRID, Pictured, fields, scored_at, scored_grid
from task_examples import COUNT, ORIGIN, SAID, THREE, VALUE, predicted_at, scored_by

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.files import TEMPORARY
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_zoom
from roadrisk.learning.judging.calibration import Calibration, fitted_calibration, logit_of_riskiest
from roadrisk.learning.judging.predicted import Predicted, chance_of_any, observed_field, predicted_fields
from roadrisk.learning.tasks import Task
from roadrisk.maps import layers
from roadrisk.maps.fields import field_aliases, field_description
from roadrisk.maps.formats import geopackage
from roadrisk.maps.layer_files import read_layer
from roadrisk.maps.layers import FORMS, write_layers
from roadrisk.maps.places import GivenShapes, given_points
from roadrisk.maps.scored import scored_tiles

FIELDLESS = (".tif", ".qml", ".sld")
WORDLESS = (".csv", ".geojsonl")
FIELDS = ["tile_id", "risk", "rank", "percentile", "band", "has_image", "has_facts", "label", "in_training"]


def _geojson(path: Path) -> dict:
    def refused(token: str) -> None:
        raise ValueError(f"{token} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refused)


def _same_values(found: pd.DataFrame, scored: pd.DataFrame) -> None:
    for name in scored:
        here, there = found[name].astype(object), scored[name].astype(object)
        assert here.isna().tolist() == there.isna().tolist(), name
        known = there.notna().to_numpy()
        if name in ("risk", "percentile", "road_m"):
            np.testing.assert_allclose(here[known].astype(float), there[known].astype(float), rtol=1e-15)
        else:
            assert [v == w for v, w in zip(here[known], there[known], strict=True)] == [True] * known.sum(), (
                name
            )


@pytest.mark.parametrize(
    "grid", [GRID, grid_of_zoom(LngLatBbox(-71.15, 42.34, -71.10, 42.37), 14)], ids=["utm", "xyz"]
)
def test_geojson_is_rfc_7946(tmp_path: Path, grid: object) -> None:
    scored = scored_grid(grid)
    write_layers(scored, [tmp_path / "a.geojson"])
    text = (tmp_path / "a.geojson").read_text(encoding="utf-8")
    found = _geojson(tmp_path / "a.geojson")
    assert found["type"] == "FeatureCollection"
    assert "crs" not in found  # RFC 7946, 4
    assert len(found["features"]) == grid.size
    rows, cols = grid.every_tile()
    corners = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    for feature, row, col in zip(found["features"], rows, cols, strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]  # 3.1.6
        assert shapely.LinearRing(ring).is_ccw  # 3.1.6
        left, bottom, right, top = grid.tile_bounds(int(row), int(col))
        for x, y in ((left, bottom), (right, bottom), (right, top), (left, top)):
            away = np.abs(np.array(ring) - corners.transform(x, y)).max(axis=1).min()
            assert away < 1e-7  # 4
    numbers = [
        number
        for line in text.splitlines()
        if '"geometry"' in line
        for number in line.split('"coordinates":')[1]
        .strip("[]},")
        .replace("[", "")
        .replace("]", "")
        .split(",")
    ]
    assert max(len(n.partition(".")[2]) for n in numbers) == 7


def test_geojson_carries_fields_and_words(tmp_path: Path) -> None:
    scored = scored_grid()
    write_layers(scored, [tmp_path / "a.geojson"])
    found = _geojson(tmp_path / "a.geojson")
    properties = pd.DataFrame([f["properties"] for f in found["features"]])
    assert properties.columns.tolist() == [*FIELDS, "road_m", "town"]
    _same_values(properties, scored.table)
    assert found["attribution"] == ABOUT.attribution
    assert found["licence"] == ABOUT.licence
    assert found["roadrisk"]["model"] == ABOUT.model
    assert found["roadrisk"]["windows"] == {"label": ["2024-01-01", "2025-01-01"]}
    assert found["roadrisk"]["columns"][-1]["meaning"] == "name of the town"
    assert len(geopandas.read_file(tmp_path / "a.geojson")) == GRID.size


def test_geojson_turns_given_rings_right_handed_and_keeps_holes(tmp_path: Path) -> None:
    clockwise = shapely.Polygon([(0, 0), (0, 9), (9, 9), (9, 0)], holes=[[(1, 1), (2, 1), (2, 2), (1, 2)]])
    places = GivenShapes(np.array([clockwise, None]), "EPSG:4326")
    write_layers(scored_at(places, np.array(["a", "b"])), [tmp_path / "a.geojson"])
    there, nowhere = (f["geometry"] for f in _geojson(tmp_path / "a.geojson")["features"])
    outer, hole = there["coordinates"]
    assert shapely.LinearRing(outer).is_ccw
    assert not shapely.LinearRing(hole).is_ccw
    assert nowhere is None


def test_geopackage_keeps_exact_squares_in_the_grids_crs(tmp_path: Path) -> None:
    scored = scored_grid()
    write_layers(scored, [tmp_path / "a.gpkg"])
    found = geopandas.read_file(tmp_path / "a.gpkg")
    assert found.crs == GRID.crs
    squares = GRID.cells(*GRID.every_tile())
    assert shapely.equals_exact(found.geometry.to_numpy(), squares, tolerance=0).all()
    _same_values(found, scored.table)
    info = pyogrio.read_info(tmp_path / "a.gpkg")
    assert info["geometry_type"] == "Polygon"
    assert info["layer_metadata"]["ATTRIBUTION"] == ABOUT.attribution
    assert info["layer_metadata"]["LICENCE"] == ABOUT.licence
    assert json.loads(info["layer_metadata"]["ROADRISK"])["model"] == ABOUT.model


# what GDAL calls a field: nothing where it is its own name but for capitals
TOLD = {
    "tile_id": ("Tile ID", "Name of the tile, the same for everybody."),
    "percentile": (
        "Percentile (%)",
        "Scored tiles with this risk or less; 100 is the riskiest. Unit: %.",
    ),
    "road_m": ("Road (m)", "length of roads. Unit: m."),
    "town": (None, "name of the town."),
}


def test_gdal_reads_alias_and_description_of_the_fields_of_a_geopackage(tmp_path: Path) -> None:
    write_layers(scored_grid(), [tmp_path / "a.gpkg"])
    _, table = pyogrio.raw.read_arrow(tmp_path / "a.gpkg")
    for name, (alias, description) in TOLD.items():
        told = table.schema.field(name).metadata
        found = told.get(b"GDAL:OGR:alternative_name")
        assert (found.decode() if found else None) == alias
        assert told[b"GDAL:OGR:comment"].decode() == description
    with closing(sqlite3.connect(tmp_path / "a.gpkg")) as database:
        described = database.execute("SELECT column_name FROM gpkg_data_columns").fetchall()
        assert {name for (name,) in described} == {*FIELDS, "road_m", "town"}
        # Geopackage 1.2, table 32 asks for both rows
        assert database.execute(
            "SELECT table_name, column_name, definition, scope FROM gpkg_extensions "
            "WHERE extension_name = 'gpkg_schema' ORDER BY 1"
        ).fetchall() == [
            (name, None, "http://www.geopackage.org/spec121/#extension_schema", "read-write")
            for name in ("gpkg_data_column_constraints", "gpkg_data_columns")
        ]
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_geopackage_that_cannot_be_finished_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geopackage, "CHANGED", None)  # the table of contents refuses it
    with pytest.raises(LayerError, match=r"a\.gpkg: cannot be written: NOT NULL constraint failed"):
        write_layers(scored_grid(), [tmp_path / "a.csv", tmp_path / "a.gpkg"])
    assert list(tmp_path.iterdir()) == []


def test_parquet_and_geojson_carry_alias_unit_and_description(tmp_path: Path) -> None:
    write_layers(scored_grid(), [tmp_path / "a.parquet", tmp_path / "a.geojson"])
    schema = pyarrow.parquet.read_schema(tmp_path / "a.parquet")
    assert schema.field("road_m").metadata == {
        b"alias": b"Road (m)",
        b"unit": b"m",
        b"description": b"length of roads. Unit: m.",
    }
    columns = {c["name"]: c for c in _geojson(tmp_path / "a.geojson")["roadrisk"]["columns"]}
    assert columns["road_m"]["alias"] == "Road (m)"
    assert {c["name"] for c in json.loads(schema.metadata[b"roadrisk"])["columns"]} == set(columns)


def test_aliases_tell_windows_apart_and_are_never_the_same() -> None:
    road, town = FACTS
    past = replace(
        road, name="crashes_past", unit="events", source="crashes", window=("2015-01-01", "2024-01-01")
    )
    last = replace(past, name="crashes_label", window=("2024-01-01", "2025-01-01"))
    twins = [replace(town, name=name) for name in ("a_b", "a__b")]
    assert list(field_aliases([past, last, *twins]).values()) == [
        "Crashes 2015-2023 (events)",
        "Crashes 2024 (events)",
        "A b [a_b]",
        "A b [a__b]",
    ]


def test_a_description_says_what_a_reader_must_know() -> None:
    column = replace(
        FACTS[0],
        source="citations",
        window=("2015-01-01", "2024-01-01"),
        withheld="a measure of enforcement as well as behaviour",
    )
    assert field_description(column) == (
        "length of roads. Unit: m. From 2015-01-01 to before 2024-01-01. Source: citations. "
        "Models use it only when asked to: a measure of enforcement as well as behaviour."
    )


def test_parquet_is_geoparquet_1_1_with_covering(tmp_path: Path) -> None:
    scored = scored_grid()
    write_layers(scored, [tmp_path / "a.parquet"])
    metadata = pyarrow.parquet.read_schema(tmp_path / "a.parquet").metadata
    geo = json.loads(metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    told = json.loads(metadata[b"roadrisk"])
    assert (told["licence"], told["attribution"], told["model"]) == (
        ABOUT.licence,
        ABOUT.attribution,
        ABOUT.model,
    )
    found = geopandas.read_parquet(tmp_path / "a.parquet")
    assert found.crs == GRID.crs
    assert shapely.equals_exact(found.geometry.to_numpy(), GRID.cells(*GRID.every_tile()), tolerance=0).all()
    _same_values(found, scored.table)
    row = geopandas.read_parquet(tmp_path / "a.parquet", bbox=tuple(GRID.tile_bounds(2, 3)))
    assert GRID.tile_id(2, 3) in set(row["tile_id"])
    assert len(row) <= 9


def test_csv_comes_back_as_it_went(tmp_path: Path) -> None:
    scored = scored_grid()
    write_layers(scored, [tmp_path / "a.csv"])
    found = pd.read_csv(tmp_path / "a.csv")
    assert found.columns.tolist()[:2] == ["lon", "lat"]
    _same_values(found, scored.table)
    lng, lat = GRID.centres(*GRID.every_tile(), "EPSG:4326")
    np.testing.assert_allclose(found["lon"], lng, atol=1e-7)
    np.testing.assert_allclose(found["lat"], lat, atol=1e-7)


def test_points_of_a_table_are_written_as_points(tmp_path: Path) -> None:
    places = given_points([-71.1, np.nan, -71.2], [42.3, 42.3, 42.4])
    scored = scored_at(places, np.array(["a", "b", "c"]))
    # FlatGeobuf holds no feature without a place
    able = [suffix for suffix, form in FORMS.items() if form.needs != "grid" and suffix != ".fgb"]
    write_layers(scored, [tmp_path / f"a{suffix}" for suffix in able])
    for suffix in (".geojson", ".gpkg", ".parquet"):
        read = geopandas.read_parquet if suffix == ".parquet" else geopandas.read_file
        shapes = read(tmp_path / f"a{suffix}").geometry
        assert shapes[0].equals(shapely.Point(-71.1, 42.3))
        assert shapes[1] is None
    assert pd.read_csv(tmp_path / "a.csv")["lon"].isna().tolist() == [False, True, False]


def test_tiles_without_a_place_go_to_csv_only(tmp_path: Path) -> None:
    scored = scored_at(None, np.array(["a", "b"]))
    write_layers(scored, [tmp_path / "a.csv"])
    assert pd.read_csv(tmp_path / "a.csv").columns.tolist() == [*FIELDS, "road_m", "town"]
    with pytest.raises(
        LayerError, match=r"a\.gpkg needs to know where tiles are.*lon and lat.*or write \.csv"
    ):
        write_layers(scored, [tmp_path / "b.csv", tmp_path / "a.gpkg"])
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["good.csv", "a.shp"],
            r"a\.shp has no known suffix; use one of \.geojson \.geojsonl \.gpkg \.fgb \.parquet \.pmtiles \.tif "
            r"\.csv \.html \.qml \.sld$",
        ),
        (
            ["good.csv", "nowhere/a.csv"],
            r"nowhere is not a folder, so a\.csv cannot be written there; make it first$",
        ),
        (["good.csv", "folder.csv"], r"folder\.csv is a folder; give the name of a file$"),
        (["good.csv", "good.csv"], r"good\.csv is asked for twice"),
        (["good.csv", "/proc/a.csv"], r"/proc cannot be written to: .*; use another folder$"),
    ],
)
def test_paths_are_checked_before_anything_is_written(tmp_path: Path, names: list[str], message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(LayerError, match=message):
        write_layers(scored_grid(), [tmp_path / name for name in names])
    assert [p.name for p in tmp_path.iterdir()] == ["folder.csv"]


@pytest.mark.parametrize("fails_at", range(len(FORMS)))
def test_all_layers_are_replaced_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    outs = [tmp_path / f"a{suffix}" for suffix in FORMS]
    for out in outs:
        out.write_text("old")
    form = FORMS[outs[fails_at].suffix]

    def full(layer: object, path: Path) -> None:
        form.write(layer, path)
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setitem(layers.FORMS, outs[fails_at].suffix, replace(form, write=full))
    with pytest.raises(LayerError, match=r"cannot be written: .*No space left on device.*; free space"):
        write_layers(scored_grid(pictures=Pictured()), outs)
    assert [out.read_text() for out in outs] == ["old"] * len(outs)
    assert sorted(tmp_path.iterdir()) == sorted(outs)


def test_layers_appear_under_their_names_only_when_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[tuple[str, int]] = []
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        assert Path(source).parent == Path(target).parent
        replaced.append((Path(source).name, len(list(tmp_path.glob(f"{TEMPORARY}*")))))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    outs = [tmp_path / f"a{suffix}" for suffix in FORMS]
    assert write_layers(scored_grid(pictures=Pictured()), outs) == outs
    # all temporaries stand before the first takes its name
    assert [left for _, left in replaced] == [*range(len(FORMS), 0, -1)]
    assert {name for name, _ in replaced} == {f"{TEMPORARY}{out.name}" for out in outs}
    assert sorted(tmp_path.iterdir()) == sorted(outs)


def test_facts_that_no_layer_can_hold_are_refused() -> None:
    names = np.array(["a", "b", "c"])
    good = fields(names)
    (road, metres), town = good[-2:]
    with pytest.raises(LayerError, match="scores and facts differ in rows"):
        scored_tiles([*good[:-1], (town[0], town[1][:2])], None, ABOUT)
    with pytest.raises(LayerError, match="road_m holds infinite values"):
        scored_tiles([*good[:-2], (road, pd.Series([1, np.inf, 2]))], None, ABOUT)
    for taken in ("risk", "rank", "label"):
        with pytest.raises(
            LayerError, match=f"facts are called {taken}, as fields of a score are; rename them"
        ):
            scored_tiles([*good, (replace(road, name=taken), metres)], None, ABOUT)
    with pytest.raises(LayerError, match="scores lack has_image"):
        scored_tiles([field for field in good if field[0].name != "has_image"], None, ABOUT)


@pytest.mark.parametrize("task", SAID, ids=lambda task: task.kind + str(task.outputs))
def test_every_layer_says_what_the_task_does(tmp_path: Path, task: Task) -> None:
    scored, predicted, observed = scored_by(task)
    outs = [tmp_path / f"a{suffix}" for suffix in FORMS if suffix not in FIELDLESS]
    write_layers(scored, outs)
    for out in outs:
        found = {field.name: field for field in read_layer(out).fields}
        assert set(SAID[task]) <= set(found), out
        if out.suffix in WORDLESS:
            continue
        for name, words in SAID[task].items():
            assert words in found[name].description, out
        assert "from 0 to 1" in found["risk"].description
    table = geopandas.read_file(tmp_path / "a.gpkg")
    assert table["risk"].dropna().between(0, 1).all()
    assert table["risk"].isna().tolist() == [False, False, True] + [False] * (GRID.size - 3)
    if task.kind == "class":
        classes = [False, True] if task.outputs == 1 else task.classes
        label = [None if np.isnan(index) else classes[int(index)] for index in observed]
        assert table["label"].astype(object).where(table["label"].notna(), None).tolist() == label
    else:
        np.testing.assert_array_equal(table["observed"], observed)
        name = "expected" if task.kind == "count" else "predicted"
        np.testing.assert_allclose(table[name], predicted.order)
    if task is THREE:
        chances = table[["probability_low", "probability_fairly_high", "probability_high"]].to_numpy()
        np.testing.assert_allclose(np.delete(chances, 2, 0).sum(axis=1), 1)
        np.testing.assert_allclose(table["risk"], chances[:, 2])
        likeliest = [None if np.isnan(row).any() else task.classes[row.argmax()] for row in chances]
        assert table["class"].astype(object).where(table["class"].notna(), None).tolist() == likeliest


def test_the_label_of_two_classes_stays_boolean_and_in_its_place() -> None:
    scored = scored_by(Task())[0]
    assert scored.table["label"].dtype == "boolean"
    assert scored.table.columns.tolist()[:5] == FIELDS[:5]
    assert scored.columns[1].meaning == (
        "The model's probability of high risk, from 0 to 1, not calibrated; empty where not scored."
    )


def test_a_count_of_k_that_differs_is_ranked_by_what_is_expected() -> None:
    scored, predicted, _ = scored_by(COUNT)
    table = scored.table.dropna(subset="rank").sort_values("rank")
    assert table["expected"].is_monotonic_decreasing
    assert not table["risk"].is_monotonic_decreasing  # more spread, so less often any
    assert table["percentile"].is_monotonic_decreasing
    assert table["band"].iloc[0] == "top 5 %"
    assert scored.table["rank"].isna().tolist() == np.isnan(predicted.order).tolist()


def test_the_risk_of_a_count_is_its_chance_of_any_event() -> None:
    mean, k = np.array([1e-9, 0.3, 4.0, 200.0]), np.array([0.5, 3.0, 0.01, 1e-6])
    outputs = np.log(mean)[:, None]
    found = Predicted(COUNT, outputs, k, np.empty(0)).risk
    np.testing.assert_allclose(found, stats.nbinom.sf(0, 1 / k, 1 / (1 + k * mean)), rtol=1e-6)
    poisson = Task("count", "poisson", ())
    np.testing.assert_allclose(
        Predicted(poisson, outputs, None, np.empty(0)).risk, stats.poisson.sf(0, mean), rtol=1e-12
    )
    assert Predicted(poisson, np.array([[-np.inf]]), None, np.empty(0)).risk.tolist() == [0]


def calibration_for(logit: np.ndarray, tiles: int) -> Calibration:
    """Of tiles with logits such as these, which say twice too much."""
    chance = np.random.default_rng(4)
    of = np.resize(logit, tiles)
    label = (chance.random(tiles) < 1 / (1 + np.exp(-of / 2))).astype(float)
    return fitted_calibration(label, of, np.arange(tiles) // 10, 0, of + chance.normal(0, 0.3, tiles))


def said_by(predicted: Predicted) -> tuple[pd.DataFrame, dict[str, str]]:
    """The values and the meanings of the fields that a layer carries."""
    fields = predicted_fields(predicted, ORIGIN)
    values = pd.DataFrame({column.name: values for column, values in fields})
    return values, {column.name: column.meaning for column, _ in fields}


@pytest.mark.parametrize(("tiles", "how"), [(800, "Platt"), (8000, "isotonic regression")])
def test_a_calibrated_risk_has_its_model_spread_and_says_so(tiles: int, how: str) -> None:
    outputs = np.linspace(-4, 4, 101)[:, None]
    calibration = calibration_for(outputs[:, 0], tiles)
    outputs[7] = np.nan
    predicted = Predicted(Task(), outputs, None, np.empty(0), calibration)
    values, meanings = said_by(predicted)
    assert list(values) == ["risk", "risk_low", "risk_high"]
    np.testing.assert_array_equal(values["risk"], calibration.probability(outputs[:, 0]))
    assert meanings["risk"] == (
        "The model's probability of high risk, from 0 to 1, calibrated on tiles that its models did not see "
        f"({how}); empty where not scored."
    )
    for name in ("risk_low", "risk_high"):
        assert "model spread, not an interval that holds the truth 9 times in 10; empty" in meanings[name]
        assert values[name].isna().tolist() == [row == 7 for row in range(101)]
    known = values.dropna()
    assert (known["risk_low"] < known["risk"]).all()
    assert (known["risk"] < known["risk_high"]).all()
    # ranks go by what the model says: an isotonic calibration ties what it does not
    assert len(np.unique(known["risk"])) < len(known) or how == "Platt"
    assert len(np.unique(predicted.order[np.isfinite(predicted.order)])) == len(known)


def test_a_calibration_without_spread_says_none() -> None:
    plain = replace(calibration_for(np.linspace(-4, 4, 50), 800), spread=())
    values, _ = said_by(Predicted(Task(), np.zeros((3, 1)), None, np.empty(0), plain))
    assert list(values) == ["risk"]


def test_of_several_classes_the_riskiest_is_calibrated_and_the_rest_share_the_rest() -> None:
    predicted, _ = predicted_at(THREE, 200)
    plain, _ = said_by(predicted)
    calibration = calibration_for(np.linspace(-4, 4, 99), 800)
    values, meanings = said_by(replace(predicted, calibration=calibration))
    names = ["probability_low", "probability_fairly_high", "probability_high"]
    assert list(values) == ["risk", "risk_low", "risk_high", "class", *names]
    risk = calibration.probability(logit_of_riskiest(THREE, predicted.outputs))
    np.testing.assert_array_equal(values["risk"], risk)
    np.testing.assert_array_equal(values["probability_high"], risk)
    known = values.dropna()
    np.testing.assert_allclose(known[names].sum(axis=1), 1)
    before = plain.dropna()
    np.testing.assert_allclose(
        known["probability_low"] / known["probability_fairly_high"],
        before["probability_low"] / before["probability_fairly_high"],
    )
    likeliest = np.array(THREE.classes, object)[known[names].to_numpy().argmax(axis=1)]
    assert known["class"].tolist() == likeliest.tolist()
    assert "not calibrated" in meanings["probability_low"]
    assert "calibrated on tiles that its models did not see (Platt)" in meanings["probability_high"]
    # a class that is certain leaves nothing to share, and yet no division by it
    sure = np.array([[-900.0, -901.0, 0.0]])
    far, _ = said_by(Predicted(THREE, sure, None, np.empty(0), calibration))
    assert np.isfinite(far[names].to_numpy()).all()


def counted(mean: np.ndarray, k: float, observed: np.ndarray, lasting: float = 1.0) -> pd.DataFrame:
    spread = np.full(len(mean), k)
    return said_by(Predicted(COUNT, np.log(mean)[:, None], spread, np.empty(0), None, observed, lasting))[0]


def test_a_count_is_worth_what_the_dispersion_says() -> None:
    chance = np.random.default_rng(0)
    mean = chance.gamma(2, 2, 300)
    observed = chance.poisson(mean).astype(float)
    observed[::7] = np.nan
    values = counted(mean, 0.6, observed)
    ends = ["risk", "risk_low", "risk_high", "expected", "expected_low", "expected_high"]
    own = ["eb", "eb_low", "eb_high", "excess"]
    assert list(values) == [*ends, *own, "next_low", "next_high"]
    np.testing.assert_allclose(values["risk"], stats.nbinom.sf(0, 1 / 0.6, 1 / (1 + 0.6 * mean)))
    np.testing.assert_allclose(values["expected"], mean)
    prior = stats.gamma(1 / 0.6, scale=0.6 * mean)
    np.testing.assert_allclose(values["expected_low"], prior.ppf(0.05))
    np.testing.assert_allclose(values["expected_high"], prior.ppf(0.95))
    np.testing.assert_allclose(values["risk_low"], stats.poisson.sf(0, values["expected_low"]))
    np.testing.assert_allclose(values["risk_high"], stats.poisson.sf(0, values["expected_high"]))
    known = np.isfinite(observed)
    assert all(values[name].notna().tolist() == known.tolist() for name in own)
    seen = values[known]
    weight = 1 / (1 + 0.6 * mean[known])
    np.testing.assert_allclose(seen["eb"], weight * mean[known] + (1 - weight) * observed[known])
    np.testing.assert_allclose(seen["excess"], seen["eb"] - seen["expected"])
    low, high = np.minimum(observed, mean)[known], np.maximum(observed, mean)[known]
    assert ((low <= seen["eb"] + 1e-12) & (seen["eb"] <= high + 1e-12)).all()
    posterior = stats.gamma(1 / 0.6 + observed[known], scale=1 / (1 / (0.6 * mean[known]) + 1))
    np.testing.assert_allclose(seen["eb_low"], posterior.ppf(0.05))
    np.testing.assert_allclose(seen["eb_high"], posterior.ppf(0.95))
    blind = values[~known]
    np.testing.assert_array_equal(
        blind["next_high"], stats.nbinom.ppf(0.95, 1 / 0.6, 1 / (1 + 0.6 * mean[~known]))
    )


def test_counts_that_vary_as_a_poisson_add_nothing() -> None:
    mean, observed = np.array([0.5, 4.0]), np.array([9.0, np.nan])
    values = counted(mean, 0.0, observed)
    np.testing.assert_allclose(values["risk"], -np.expm1(-mean))
    for name in ("expected_low", "expected_high"):
        np.testing.assert_allclose(values[name], mean)
    np.testing.assert_allclose(values["eb"], [0.5, np.nan])
    np.testing.assert_allclose(values["excess"], [0.0, np.nan])
    np.testing.assert_array_equal(values["next_high"], stats.poisson.ppf(0.95, mean))


def test_what_does_not_last_is_not_believed_of_a_place() -> None:
    mean, observed = np.array([4.0]), np.array([12.0])
    whole, half = (counted(mean, 0.6, observed, lasting).iloc[0] for lasting in (1.0, 0.5))
    assert half["risk"] == whole["risk"]  # of one window, whatever made it so
    assert 4 < half["eb"] < whole["eb"]
    assert whole["expected_low"] < half["expected_low"]
    assert half["risk_low"] == pytest.approx(
        chance_of_any(np.array([half["expected_low"]]), (1 - 0.5) * 0.6 / (1 + 0.5 * 0.6))[0]
    )


def test_a_count_of_unknown_dispersion_has_no_risk() -> None:
    said = Predicted(
        COUNT, np.zeros((2, 1)), np.array([0.5, np.nan]), np.empty(0), None, np.array([1.0, 1.0])
    )
    values, _ = said_by(said)
    assert values["expected"].tolist() == [1, 1]
    assert values.drop(columns="expected").isna().all(axis=1).tolist() == [False, True]


def test_the_fields_of_a_count_with_a_known_dispersion_are_in_every_layer(tmp_path: Path) -> None:
    scored = scored_by(COUNT, known=True)[0]
    outs = [tmp_path / f"a{suffix}" for suffix in FORMS if suffix not in FIELDLESS]
    write_layers(scored, outs)
    for out in outs:
        found = {field.name: field for field in read_layer(out).fields}
        assert {"eb", "excess", "next_low", "expected_high", "risk_low", "observed"} <= set(found), out
        if out.suffix not in WORDLESS:
            assert "Empirical Bayes" in found["eb"].description


def test_the_risk_of_a_value_is_its_place_among_the_training_tiles() -> None:
    outputs = np.array([[-9.0], [2.0], [2.5], [99.0], [np.nan]])
    found = Predicted(VALUE, outputs, None, np.array([3.0, 2.0, 2.0, 1.0])).risk
    np.testing.assert_array_equal(found, [0, 0.25, 0.75, 1, np.nan])


def test_classes_whose_names_make_no_columns_are_numbered() -> None:
    task = Task("class", "cross-entropy", ("+", "++", "a"))
    names = [column.name for column, _ in predicted_fields(predicted_at(task, 4)[0], ORIGIN)]
    assert names == ["risk", "class", "probability_0", "probability_1", "probability_2"]


def test_a_model_without_unit_and_window_still_says_what_was_observed() -> None:
    old = {name: ORIGIN[name] for name in ("column", "measure", "threshold", "positive", "meaning")}
    column, values = observed_field(VALUE, old, np.array([2.0, np.nan]))
    assert (column.name, column.unit, column.window) == ("observed", "", None)
    assert values.isna().tolist() == [False, True]


def test_some_of_a_layer_keep_their_standing_and_tell_of_how_many(tmp_path: Path) -> None:
    every = scored_grid()
    scored = int(every.table["risk"].notna().sum())
    some = every.taken(np.arange(0, len(every), 3))
    for column in ("rank", "percentile", "band"):
        pd.testing.assert_series_equal(
            some.table[column], every.table[column].iloc[::3].reset_index(drop=True)
        )
    assert some.table["risk"].notna().sum() < some.ranked == every.ranked == scored
    write_layers(some, [tmp_path / "a.geojson", tmp_path / "a.tif"])
    told = _geojson(tmp_path / "a.geojson")["roadrisk"]
    assert (told["name"], told["ranked"]) == ("risk", scored)
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert json.loads(raster.tags()["ROADRISK"])["ranked"] == scored
        lowest = json.loads(raster.tags()["RISK_AT_PERCENT"])
    # of the tiles that are here, at the per cent that they have among all
    percent = np.ceil(some.table["percentile"])
    assert lowest == {f"{at:.0f}": risk for at, risk in some.table["risk"].groupby(percent).min().items()}


def test_aliases_keep_the_words_that_units_are_made_of() -> None:
    said = {
        "road_junctions_3": ("junctions", "Road junctions 3"),
        "road_dead_ends": ("dead ends", "Road (dead ends)"),
        "road_oneway_share": ("share", "Road oneway (share)"),
        "road_m_primary": ("m", "Road primary (m)"),
        "m": ("m", "M (m)"),
        "eb_low": ("events", "EB low (events)"),
    }
    columns = [Column(name, "float64", unit, "info", "none", "") for name, (unit, _) in said.items()]
    assert field_aliases(columns) == {name: alias for name, (_, alias) in said.items()}
