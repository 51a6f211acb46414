"""What `score` is asked to show: facts, a box, roads, top places, reasons, another CRS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from conftest import Run

from roadrisk.dataset import Dataset
from roadrisk.errors import LayerError, UsageError
from roadrisk.learning.settings import TrainSettings
from roadrisk.maps.layer_files import read_layer
from roadrisk.scoring import ScoreSettings, score, top_paths
from roadrisk.training import train

Roadrisk = Callable[..., Run]


@pytest.fixture(scope="module")
def model(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A count model of the made-up metro, as good as an epoch makes it."""
    out = tmp_path_factory.mktemp("model") / "m"
    train(dataset.path, out, TrainSettings(encoder="basic", folds=2, epochs=1, task="count", quick=True))
    return out


@pytest.fixture(scope="module")
def plain(dataset: Dataset, model: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("plain") / "risk.csv"
    score(dataset.path, model, [out])
    return pd.read_csv(out).set_index("tile_id")


def shown(dataset: Dataset, model: Path, out: Path, settings: ScoreSettings) -> pd.DataFrame:
    score(dataset.path, model, [out], settings)
    return pd.read_csv(out).set_index("tile_id")


def test_facts_are_those_asked_for_and_the_scores_stay(
    dataset: Dataset, model: Path, plain: pd.DataFrame, tmp_path: Path
) -> None:
    learned = {column["name"] for column in json.loads((model / "model.json").read_text())["columns"]}
    assert learned <= set(plain)
    none = shown(dataset, model, tmp_path / "none.csv", ScoreSettings(facts=("none",)))
    measure = {json.loads((model / "model.json").read_text())["provenance"]["label"]["measure"]}
    assert not learned & set(none) - measure
    one = shown(dataset, model, tmp_path / "one.csv", ScoreSettings(facts=("eligible", "road_m")))
    assert set(one) - set(none) == {"eligible", "road_m"}
    every = shown(dataset, model, tmp_path / "all.csv", ScoreSettings(facts=("all",)))
    assert {column.name for column in dataset.columns} <= set(every)
    for other in (none, one, every):
        pd.testing.assert_series_equal(other["risk"], plain["risk"])


def test_a_fact_that_is_not_there_is_named_with_those_like_it(
    dataset: Dataset, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--facts road_n: .* has no such column; is it road_m") as told:
        score(dataset.path, model, [tmp_path / "r.csv"], ScoreSettings(facts=("road_n",)))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "r.csv").exists()


def test_a_box_keeps_its_tiles_with_the_ranks_they_have(
    dataset: Dataset, model: Path, plain: pd.DataFrame, tmp_path: Path
) -> None:
    west, south = plain["lon"].median(), plain["lat"].median()
    box = (west, south, 180.0, 90.0)
    found = shown(dataset, model, tmp_path / "part.csv", ScoreSettings(bbox=box))
    inside = plain[(plain["lon"] >= west) & (plain["lat"] >= south)]
    assert 0 < len(inside) < len(plain)
    pd.testing.assert_frame_equal(found, inside)


def test_a_box_without_a_tile_is_an_error_that_says_where_they_lie(
    dataset: Dataset, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        LayerError,
        match=r"no scored tile of .* has its middle in --bbox 0 0 1 1; the middles reach from W S to E N -?\d",
    ):
        score(dataset.path, model, [tmp_path / "r.csv"], ScoreSettings(bbox=(0, 0, 1, 1)))
    assert not list(tmp_path.iterdir())


def test_the_top_places_are_layers_of_their_own_and_sheets(
    dataset: Dataset, model: Path, plain: pd.DataFrame, tmp_path: Path
) -> None:
    outs = [tmp_path / "risk.gpkg", tmp_path / "risk.csv"]
    scored = score(dataset.path, model, outs, ScoreSettings(top=5))
    assert [path.name for path in scored.paths] == [
        "risk.gpkg",
        "risk.csv",
        "risk.top5.gpkg",
        "risk.top5.csv",
        "risk.top5.html",
    ]
    top = pd.read_csv(tmp_path / "risk.top5.csv").set_index("tile_id")
    expected = plain.sort_values("rank", kind="stable").head(5)
    pd.testing.assert_frame_equal(top, expected)
    assert geopandas.read_file(tmp_path / "risk.top5.gpkg", layer="top_5")["tile_id"].tolist() == [*top.index]
    html = (tmp_path / "risk.top5.html").read_text()
    places = [html.index(tile) for tile in top.index]
    assert places == sorted(places)


def test_sheets_take_the_name_of_a_page_where_one_is_asked_for() -> None:
    names = [path.name for path in top_paths([Path("a.html"), Path("b.tif")], 3)]
    assert names == ["a.top3.html", "b.top3.tif"]
    assert top_paths([Path("a.html")], 0) == []


def test_top_layers_are_written_with_the_others_or_not_at_all(
    dataset: Dataset, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "risk.top5.html").mkdir()
    with pytest.raises(LayerError, match=r"risk\.top5\.html is a folder; give the name of a file$"):
        score(dataset.path, model, [tmp_path / "risk.csv"], ScoreSettings(top=5))
    assert [path.name for path in tmp_path.iterdir()] == ["risk.top5.html"]


def test_a_top_raster_holds_the_percent_that_the_tiles_have_among_all(
    dataset: Dataset, model: Path, plain: pd.DataFrame, tmp_path: Path
) -> None:
    score(dataset.path, model, [tmp_path / "risk.tif"], ScoreSettings(top=5))
    with rasterio.open(tmp_path / "risk.tif") as whole, rasterio.open(tmp_path / "risk.top5.tif") as top:
        every, few = whole.read(1), top.read(1)
        left, upper = top.transform.c, top.transform.f
        row, col = (round(step) for step in whole.index(left, upper, op=lambda x: x))
    part = every[row : row + few.shape[0], col : col + few.shape[1]]
    assert (few > 0).sum() == len(plain[plain["rank"] <= 5])
    np.testing.assert_array_equal(few[few > 0], part[few > 0])


def test_layers_that_leave_the_crs_open_take_the_one_asked_for(
    dataset: Dataset, model: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / f"r{suffix}" for suffix in (".gpkg", ".fgb", ".parquet", ".geojson", ".csv")]
    score(dataset.path, model, outs, ScoreSettings(crs="EPSG:3857"))
    assert [read_layer(out).crs for out in outs] == [
        "EPSG:3857",
        "EPSG:3857",
        "EPSG:3857",
        "EPSG:4326",
        "EPSG:4326",
    ]
    assert geopandas.read_parquet(outs[2]).total_bounds == pytest.approx(
        geopandas.read_file(outs[3]).to_crs(3857).total_bounds, abs=0.02
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"crs": "EPSG:99999"}, r"--crs EPSG:99999 is no CRS; give one as EPSG:4326$"),
        (
            {"crs": "EPSG:3857"},
            r"--crs EPSG:3857: none of the layers leaves its CRS open; only \.gpkg \.fgb \.parquet do$",
        ),
        ({"by": "county"}, r"--by county: a layer is by tile or by road$"),
        ({"roads": Path("r.gpkg")}, r"--roads names what is coloured by risk; add --by road$"),
        ({"top": -1}, r"--top -1: give how many places, 1 or more$"),
    ],
)
def test_what_cannot_be_shown_is_said_before_anything_is_scored(
    dataset: Dataset, model: Path, tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    with pytest.raises((LayerError, UsageError), match=words):
        score(dataset.path, model, [tmp_path / "r.csv"], ScoreSettings(**settings))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_roads_are_no_raster(dataset: Dataset, model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        LayerError, match=r"r\.tif is a raster, which needs the tiles of a grid; write \.gpkg$"
    ):
        score(dataset.path, model, [tmp_path / "r.tif"], ScoreSettings(by="road"))


def test_roads_carry_the_risk_of_the_tiles_and_their_top_is_a_layer(
    dataset: Dataset, model: Path, plain: pd.DataFrame, tmp_path: Path
) -> None:
    score(dataset.path, model, [tmp_path / "roads.parquet"], ScoreSettings(by="road", top=3))
    roads = geopandas.read_parquet(tmp_path / "roads.parquet")
    assert set(roads.geom_type) <= {"LineString", "MultiLineString"}
    scored = roads[roads["risk"].notna()]
    assert len(scored)
    assert scored["risk"].between(plain["risk"].min(), plain["risk"].max()).all()
    top = geopandas.read_parquet(tmp_path / "roads.top3.parquet")
    assert top["rank"].tolist() == sorted(roads["rank"].dropna())[:3]


def test_reasons_stand_in_the_layer(
    roadrisk: Roadrisk, dataset: Dataset, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "risk.csv"
    said = roadrisk("score", dataset.path, "--model", model, "-o", out, "--reasons", "--quiet")
    assert said.code == 0, said.err
    table = pd.read_csv(out)
    facts = [
        name
        for name in table
        if name.startswith("reason_") and name not in ("reason_picture", "reason_facts")
    ]
    assert facts
    np.testing.assert_allclose(table[facts].sum(axis=1), table["reason_facts"], atol=1e-3)
    assert table["why"].notna().all()
