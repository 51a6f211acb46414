"""`info` says what is there, in a terminal and in a pipe, and one line where it is not whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from pmtiles.tile import Compression, TileType
from pmtiles.writer import Writer
from scored_examples import ABOUT, GRID, HOSTILE, scored_grid

from roadrisk.dataset import read_dataset
from roadrisk.errors import RoadriskError
from roadrisk.files import sha256_of
from roadrisk.information import info
from roadrisk.maps.layers import write_layers

FORMATS = Path(__file__).parent / "formats"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole dataset of 8 x 8 tiles."""
    return Path(shutil.copytree(FORMATS / "dataset-1", tmp_path / "d"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A whole model."""
    return Path(shutil.copytree(FORMATS / "model-1", tmp_path / "m"))


def _rewritten(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def _refused(path: Path) -> str:
    with pytest.raises(RoadriskError) as caught:
        info(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _row(lines: list[str], title: str, name: str) -> str:
    """The row of that name in the table of that title."""
    return next(line for line in lines[lines.index(title) :] if line.strip().split("  ")[0] == name)


def test_a_dataset_says_what_it_is(folder: Path) -> None:
    lines = info(folder).lines()
    manifest = read_dataset(folder).manifest
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    assert lines[:4] == [
        f"dataset format fixture: whole, format 1 (this roadrisk writes 4), 9 files, {size:,.1f} MB",
        "8 x 8 = 64 tiles of 64.03 m (EPSG:32615)",
        "label window: 2024-01-01 to before 2025-01-01",
        "label: crashes_label; high risk: 15 or more, 20.6 % of eligible tiles "
        "(one event less: 27.0 %, one more: 15.9 %)",
    ]
    assert _row(lines, "views", "aerial").split() == ["aerial", "64", "1", "1", "zstd", "90%", "1", "0", "0"]
    assert _row(lines, "rows of each source", "crashes").split()[:6] == [
        "crashes",
        "1,232",
        "1,208",
        "6",
        "0",
        "18",
    ]
    assert "rejected: no coordinates 18" in _row(lines, "rows of each source", "crashes")
    assert _row(lines, "rights", "roads.gpkg").split() == ["roads.gpkg", *["not", "stated"] * 2]
    for source in manifest["sources"]:
        for line in source["understood"]:
            assert not any(line in said for said in lines)
            assert f"  {source['name']}: {line}" in info(folder).lines(verbose=True)


def test_what_was_said_of_a_source_is_said_again_when_asked(folder: Path) -> None:
    _rewritten(
        folder / "dataset.json", lambda m: m["sources"][1].update(said=["roads: 2% of tiles have none"])
    )
    assert "  roads: 2% of tiles have none" in info(folder).lines(verbose=True)
    assert "  roads: 2% of tiles have none" not in info(folder).lines()


def test_the_columns_table_agrees_with_the_tiles(folder: Path) -> None:
    tiles = read_dataset(folder).tiles()
    told = {column["name"]: column for column in info(folder).as_json()["columns"]}
    assert list(told) == list(tiles.columns[3:])
    for name, column in told.items():
        values = tiles[name].astype(float)
        assert column["missing"] == pytest.approx(values.isna().mean())
        found = [column[key] for key in ("min", "median", "max")]
        assert found == pytest.approx([values.min(), values.median(), values.max()])
    row = _row(info(folder).lines(), "columns", "crashes_label")
    assert row.split()[:10] == [
        "crashes_label",
        "events",
        "label",
        "sum",
        "2024",
        "crashes",
        "0.0%",
        "0",
        "7",
        "45",
    ]
    assert row.endswith("Events of crashes in the tile from 2024-01-01 to before 2025-01-01.")


def test_a_column_nobody_knows_and_one_that_is_withheld(folder: Path) -> None:
    tiles = geopandas.read_parquet(folder / "tiles.parquet").assign(road_m_primary=np.nan)
    tiles.to_parquet(folder / "tiles.parquet")
    reason = "a measure of enforcement as well as behaviour"

    def change(manifest: dict[str, Any]) -> None:
        manifest["columns"][3] |= {"withheld": reason, "combine": "mean", "by": ["road_m"]}

    _rewritten(folder / "dataset.json", change)
    lines = info(folder).lines()
    assert " 100.0%  " in _row(lines, "columns", "road_m_primary")
    residential = _row(lines, "columns", "road_m_residential")
    assert residential.endswith(f" (mean by road_m) Withheld from models: {reason}.")
    unknown = info(folder).as_json()["columns"][2]
    assert (unknown["missing"], unknown["min"], unknown["median"]) == (1.0, None, None)
    json.dumps(info(folder).as_json(), allow_nan=False)


def test_labels_that_were_not_cut_here(folder: Path) -> None:
    _rewritten(folder / "dataset.json", lambda manifest: manifest.update(label=None))
    assert (
        "label: High risk: crashes_label is at least 15. Missing where the tile is not eligible."
        in info(folder).lines()
    )
    _rewritten(folder / "dataset.json", lambda manifest: manifest["columns"].pop())
    assert "no label; say what is learned: train --label COLUMN" in info(folder).lines()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_terminal_cuts_nothing_off(folder: Path, model: Path, width: int) -> None:
    for path in (folder, model):
        wide, narrow = info(path).lines(), info(path).lines(width=width)
        tables = [line for line in narrow if line.startswith("  ")]
        assert all(len(line) <= width for line in tables)
        assert set(" ".join(wide).split()) == set(" ".join(narrow).split())


def test_a_dataset_that_is_not_whole(folder: Path, tmp_path: Path) -> None:
    (folder / "run.json").write_text("{}")
    assert (
        "run.json is there too: a run is under way, or ended just after it had finished the dataset"
        in info(folder).lines()
    )
    (folder / "dataset.json").rename(tmp_path / "kept")
    assert _refused(folder) == (
        f"{folder} is unfinished; run the same `roadrisk tile` again, it goes on where it stopped"
    )
    (tmp_path / "kept").rename(folder / "dataset.json")
    tiles = geopandas.read_parquet(folder / "tiles.parquet")
    tiles[:-1].to_parquet(folder / "tiles.parquet")
    assert _refused(folder) == (
        f"{folder / 'tiles.parquet'} is damaged (63 rows for 64 tiles); copy the dataset again or tile again"
    )
    (folder / "tiles.parquet").write_bytes(b"PAR1 and no more")
    assert f"{folder / 'tiles.parquet'} is damaged (" in _refused(folder)
    (folder / "tiles.parquet").unlink()
    assert "lacks tiles.parquet, which its dataset.json names" in _refused(folder)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("sources", [{"account": {"source": "x"}, "understood": []}], "TypeError"),
        ("sources", [{"name": "x", "account": None, "understood": []}], "TypeError"),
        ("label", {"measure": "x"}, "TypeError"),
        ("label", {"t": 1}, "KeyError: 'measure'"),
        ("windows", {"label": "2024"}, "ValueError"),
        ("rights", [{}], "KeyError: 'source'"),
    ],
)
def test_a_manifest_that_is_damaged(folder: Path, key: str, value: object, reason: str) -> None:
    _rewritten(folder / "dataset.json", lambda manifest: manifest.update({key: value}))
    said = _refused(folder)
    assert said.startswith(f"{folder / 'dataset.json'} is damaged ({reason}")
    assert said.endswith("; tile again")


def test_an_account_that_does_not_add_up_is_damage(folder: Path) -> None:
    _rewritten(folder / "dataset.json", lambda m: m["sources"][2]["account"].update(read=99))
    assert "is damaged (RoadriskError: crashes: 99 rows read are not 1208 used" in _refused(folder)


def test_a_model_says_how_good_it_is_and_whence_it_came(model: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["provenance"]["left_out"] = {"flat": "the same everywhere", "road_m": "asked otherwise"}
        manifest["provenance"]["asked_for"] = {"road_m_primary": "asked for: a measure of enforcement"}

    _rewritten(model / "model.json", change)
    lines = info(model).lines()
    size = sum(f.stat().st_size for f in model.iterdir()) / 1e6
    assert lines[:2] == [
        f"model: whole, 3 files as they were written, {size:,.1f} MB",
        "inputs both: basic (learns: all) on aerial of 64 px; 2 fold models, spatial folds",
    ]
    assert "learned from 63 tiles, 13 of them high risk, 59 with picture" in lines
    metrics = json.loads((model / "model.json").read_text())["metrics"]["spatial"]["fused"]
    row = next(line for line in lines if line.split()[:2] == ["spatial", "fused"]).split()
    assert row[2:] == [
        "63",
        *(
            f"{metrics[name]:.3f}"
            for name in ("auroc", "auroc_fold_mean", "auprc", "brier", "ece", "hit_rate_10")
        ),
    ]
    assert _row(lines, "facts", "flat").endswith("left out: the same everywhere")
    assert _row(lines, "facts", "road_m").endswith("left out: asked otherwise")
    assert _row(lines, "facts", "road_m_primary").endswith("used, asked for: a measure of enforcement")
    assert _row(lines, "facts", "road_m_tertiary").endswith("used")
    assert info(model).as_json()["metrics"]["spatial"]["fused"] == metrics


def test_a_model_that_is_not_whole(model: Path) -> None:
    _rewritten(model / "model.json", lambda manifest: manifest["provenance"].update(left_out=["x"]))
    assert _refused(model) == (
        f"{model} is not a whole roadrisk model (provenance.left_out: Input should be a valid dictionary); "
        "train it again"
    )
    (model / "folds.parquet").unlink()
    assert "folds.parquet is missing or not the file that was written" in _refused(model)


def test_every_layer_says_what_it_carries(tmp_path: Path) -> None:
    scored = scored_grid()
    bare = (".csv", ".geojsonl")
    outs = [tmp_path / f"a{suffix}" for suffix in (".geojson", ".gpkg", ".fgb", ".parquet", ".html", *bare)]
    write_layers(scored, outs)
    for out in outs:
        found = info(out)
        lines, values = found.lines(), found.as_json()
        crs = "EPSG:32619" if out.suffix in (".gpkg", ".fgb", ".parquet") else "EPSG:4326"
        shape = "Point" if out.suffix == ".csv" else "Polygon"
        title = "" if out.suffix in bare else f": {ABOUT.title}"
        assert lines[0] == f"layer{title}: {GRID.size} features, {shape}, {crs}", out
        own = [f["name"] for f in values["fields"] if f["name"] not in ("lon", "lat")]
        assert own == [column.name for column in scored.columns]
        if out.suffix in bare:
            assert lines[1] == "it carries no licence, attribution, model or windows of roadrisk"
            continue
        assert lines[1:5] == [
            f"model: {ABOUT.model}",
            f"licence: {ABOUT.licence}",
            f"attribution: {ABOUT.attribution}",
            "label window: 2024-01-01 to before 2025-01-01",
        ], out
        road = _row(lines, "fields", "road_m")
        assert " m " in road
        assert "length of roads" in road
        assert "Road (m)" in road


def test_a_raster_and_an_archive_of_tiles_say_what_they_carry(tmp_path: Path) -> None:
    scored = scored_grid()
    write_layers(scored, [tmp_path / "a.tif", tmp_path / "a.pmtiles"])
    known = int(scored.table["risk"].notna().sum())
    raster = info(tmp_path / "a.tif").lines()
    assert raster[0] == f"layer: {ABOUT.title}: {known} features, Raster, EPSG:32619"
    assert "percentile of risk" in _row(raster, "fields", "band 1")
    archive = info(tmp_path / "a.pmtiles").lines()
    assert archive[0].startswith(f"layer: {ABOUT.title}: ")
    assert archive[0].endswith("EPSG:3857")
    assert "length of roads" in _row(archive, "fields", "road_m")
    for lines in (raster, archive):
        assert lines[1:5] == [
            f"model: {ABOUT.model}",
            f"licence: {ABOUT.licence}",
            f"attribution: {ABOUT.attribution}",
            "label window: 2024-01-01 to before 2025-01-01",
        ]


def test_an_archive_of_others_says_how_many_it_holds_where_it_knows(tmp_path: Path) -> None:
    layer = {"id": "roads", "fields": {"lanes": "Number"}}
    counted = {"layers": [{"layer": "roads", "count": 3, "geometry": "LineString"}]}
    for told, first in (
        ({"vector_layers": [layer]}, "layer: features, without geometry, EPSG:3857"),
        ({"vector_layers": [layer], "tilestats": counted}, "layer: 3 features, LineString, EPSG:3857"),
    ):
        with (tmp_path / "b.pmtiles").open("wb") as file:
            writer = Writer(file)
            writer.write_tile(0, b"")
            writer.finalize({"tile_type": TileType.MVT, "tile_compression": Compression.GZIP}, told)
        assert info(tmp_path / "b.pmtiles").lines()[0] == first
        assert [f["name"] for f in info(tmp_path / "b.pmtiles").as_json()["fields"]] == ["lanes"]


def test_a_page_of_the_first_releases_is_still_read(tmp_path: Path) -> None:
    field = {"name": "risk", "unit": "", "meaning": "Chance of it."}
    data = json.dumps({"fields": [field], "shapes": [None, [[0, 0]]]})
    (tmp_path / "a.html").write_text(
        "<h1>Boston</h1><dl><dt>Model</dt><dd>0123</dd><dt>Sources</dt><dd>OSM</dd><dt>Licence</dt><dd>ODbL</dd>"
        "<dt>Dates of label</dt><dd>2024-01-01 up to, not including, 2025-01-01</dd></dl>"
        f'<script type="application/json" id="data">{data}</script>'
    )
    lines = info(tmp_path / "a.html").lines()
    assert lines[:5] == [
        "layer: Boston: 2 features, Polygon, EPSG:4326",
        "model: 0123",
        "licence: ODbL",
        "attribution: OSM",
        "label window: 2024-01-01 to before 2025-01-01",
    ]
    assert "Chance of it." in _row(lines, "fields", "risk")


def test_layers_of_others_are_layers_too(tmp_path: Path) -> None:
    points = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=shapely.points([0, 1], [2, 3]), crs="EPSG:2249")
    for suffix in (".gpkg", ".fgb", ".parquet", ".geojson", ".geojsonl"):
        out = tmp_path / f"b{suffix}"
        if suffix == ".parquet":
            points.to_parquet(out)
        else:
            (points.to_crs(4326) if "geojson" in suffix else points).to_file(out)
        crs = "EPSG:4326" if "geojson" in suffix else "EPSG:2249"
        assert info(out).lines()[:2] == [
            f"layer: 2 features, Point, {crs}",
            "it carries no licence, attribution, model or windows of roadrisk",
        ]
        assert [field["name"] for field in info(out).as_json()["fields"]] == ["n"]


def test_words_in_a_layer_neither_run_nor_steer(tmp_path: Path) -> None:
    about = type(ABOUT)(**{**ABOUT.as_json(), "title": f"\x1b[31m{HOSTILE}", "licence": "a\nb"})
    for suffix in (".geojson", ".gpkg", ".fgb", ".parquet", ".pmtiles", ".tif", ".html"):
        out = tmp_path / f"a{suffix}"
        write_layers(scored_grid(about=about), [out])
        assert all(line.isprintable() for line in info(out).lines())
        assert "licence: a b" in info(out).lines()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.geojson",
            '{"type": "FeatureCollection", "roadrisk": {"title": 1, "licence": "", "attribution": "", '
            '"model": "", "windows": {}}, "features": [\n]}',
        ),
        ("a.geojson", '{"type": "FeatureCollection", "roadrisk": [], "features": [\n]}'),
        ("a.geojson", "no JSON"),
        ("a.gpkg", "no database"),
        ("a.parquet", "no parquet"),
        ("a.fgb", "no FlatGeobuf"),
        ("a.geojsonl", "no JSON"),
        ("a.pmtiles", "no archive"),
        ("a.pmtiles", "PMTiles\x02" + "\0" * 200),
        ("a.pmtiles", "PMTiles\x03" + "\0" * 200),
        ("a.tif", "no raster"),
        ("a.html", "<p>Another page</p>"),
        ("a.html", '<script id="data">{"shapes": 3}</script>'),
        ("a.html", '<script id="data">{"layers": []}</script>'),
        ("a.html", '<script id="data">{"layers": [{"about": null}]}</script>'),
        ("a.csv", ""),
    ],
)
def test_a_layer_that_is_damaged(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert _refused(tmp_path / name).startswith(f"{tmp_path / name} cannot be read as a layer (")


def test_a_table_says_what_it_lacks(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((32, 32, 3), np.uint8))
    frame = pd.DataFrame({"id": ["a", "b"], "image_path": ["p.png", None], "road_m": [1.0, None]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    lines = info(tmp_path / "t.csv").lines()
    assert lines[:6] == [
        "table t.csv: 2 rows, 1 with picture (32 px)",
        "columns that may be facts: road_m",
        "it lacks windows, units and coverage of its columns",
        "it lacks lon and lat: folds are random, and .csv is the only layer",
        "it lacks pictures of 1 rows",
        "it lacks a column label: say what is learned with train --label COLUMN",
    ]
    assert _row(lines, "columns", "road_m").split()[3:7] == ["50.0%", "1", "1", "1"]
    whole = frame.assign(image_path="p.png", lon=[-71.0, -71.1], lat=[42.0, 42.1], label=[0, 1])
    whole.drop(columns="id").assign(tile_id=["a", "b"]).to_parquet(tmp_path / "t.parquet")
    assert info(tmp_path / "t.parquet").as_json()["lacks"] == ["windows, units and coverage of its columns"]
    unnamed = whole.assign(image_path=["p.png", "q.png"]).drop(columns="id")
    cv2.imwrite(str(tmp_path / "q.png"), np.zeros((32, 32, 3), np.uint8))
    unnamed.to_csv(tmp_path / "u.csv", index=False)
    assert info(tmp_path / "u.csv").as_json()["lacks"][1:] == ["tile_id: rows are known by their pictures"]
    frame.assign(id="a").to_csv(tmp_path / "twice.csv", index=False)
    assert "names a tile twice: a" in _refused(tmp_path / "twice.csv")


def test_anything_else_gets_one_line(tmp_path: Path) -> None:
    crashes = tmp_path / "crashes.csv"
    crashes.write_text("lon,lat,date\n-71,42,2024-01-01\n")
    assert _refused(crashes) == (
        f"{crashes} is a table without image_path and no layer of roadrisk; "
        "it may be a source of `roadrisk tile`"
    )
    assert _refused(tmp_path) == (
        f"{tmp_path} is neither a dataset nor a model: it holds no dataset.json, no model.json and no roads.json"
    )
    assert _refused(tmp_path / "none") == (
        f"{tmp_path / 'none'} does not exist; give a dataset, a model, a layer or a table"
    )
    (tmp_path / "region.toml").write_text("")
    assert _refused(tmp_path / "region.toml") == (
        f"{tmp_path / 'region.toml'} is neither a dataset, a model, a layer "
        "(.geojson .geojsonl .gpkg .fgb .parquet .pmtiles .tif .csv .html) nor a table with image_path"
    )
    assert "cannot be read: File name too long" in _refused(tmp_path / ("x" * 300))


def test_info_changes_nothing(folder: Path, model: Path, tmp_path: Path) -> None:
    write_layers(scored_grid(), [tmp_path / "a.gpkg", tmp_path / "a.geojson"])
    before = {f: sha256_of(f) for f in sorted(tmp_path.rglob("*")) if f.is_file()}
    for path in (folder, model, tmp_path / "a.gpkg", tmp_path / "a.geojson"):
        info(path)
    assert {f: sha256_of(f) for f in sorted(tmp_path.rglob("*")) if f.is_file()} == before
