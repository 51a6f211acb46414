"""The whole chain on a made-up metro: tile, train, score; datasets and tables alike."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError, UsageError
from roadrisk.files import sha256_of
from roadrisk.inputs import tiles_at
from roadrisk.learning.model import read_model
from roadrisk.learning.settings import TrainSettings
from roadrisk.region import read_region
from roadrisk.scoring import score
from roadrisk.sources.demo import Metro
from roadrisk.tiling import tile
from roadrisk.training import train

QUICK = TrainSettings(encoder="basic", epochs=1, batch_size=64, folds=5, quick=True)


@pytest.fixture(scope="module")
def model(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for an epoch, with all that it is compared with; tests only read it."""
    out = tmp_path_factory.mktemp("trained") / "model"
    train(dataset.path, out, replace(QUICK, quick=False))
    return out


@pytest.fixture(scope="module")
def table(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset as a user's own table: a picture file a row, with facts, a label and a place."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "pictures").mkdir()
    tiles = dataset.tiles()
    tiles = tiles[tiles["eligible"] & (tiles["coverage_aerial"] == 1)].reset_index(drop=True)
    reader = dataset.reader("aerial")
    for r, c in zip(tiles["row"], tiles["col"], strict=True):
        cv2.imwrite(str(folder / f"pictures/{r}_{c}.png"), reader.read(r, c)[::-1].transpose(1, 2, 0))
    lon, lat = dataset.grid.centres(tiles["row"].to_numpy(), tiles["col"].to_numpy(), "EPSG:4326")
    pd.DataFrame(
        {
            "id": [f"t{i}" for i in range(len(tiles))],
            "image_path": [f"pictures/{r}_{c}.png" for r, c in zip(tiles["row"], tiles["col"], strict=True)],
            "lon": lon,
            "lat": lat,
            "road_m": tiles["road_m"],
            "primary_m": tiles["road_m_primary"],
            "note": "seen by eye",
            "high": np.where(tiles["label"].astype(bool), "yes", "no"),
        }
    ).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def test_a_model_says_how_good_it_is_and_whence_it_came(model: Path, dataset: Dataset) -> None:
    manifest = json.loads((model / "model.json").read_text())
    for split in ("spatial", "random"):
        found = manifest["metrics"][split]["fused"]
        assert found["n"] == dataset.tiles()["label"].notna().sum()
        assert 0 <= found["auroc"] <= 1
    about = manifest["provenance"]
    assert about["datasets"][0]["identity"] == dataset.plan
    assert about["label"] == {
        "column": "label",
        "measure": "crashes_label",
        "threshold": dataset.manifest["label"]["t"],
        "positive": None,
        "meaning": about["label"]["meaning"],
        "unit": "events",
        "window": ["2024-01-01", "2025-01-01"],
    }
    assert "crashes_label" not in about["facts"]
    assert about["cell_m"] == pytest.approx(64, rel=1e-3)


def test_metrics_are_those_of_the_out_of_fold_table(model: Path) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    table = pd.read_parquet(model / "folds.parquet")
    metrics = json.loads((model / "model.json").read_text())["metrics"]
    networks, first = {"fused", "image", "facts"}, {"boosting", "logistic", "road_length"}
    found = {split: set(models) for split, models in metrics.items()}
    # the sources tell of one window before the label's, so only Empirical Bayes knows the past
    assert found.pop("temporal") == networks | first | {"empirical_bayes"}
    assert found == {
        split: networks | first | {"base_rate", "spf_length", "stack"} for split in ("spatial", "random")
    }
    for (split, name), rows in table.groupby(["split", "model"]):
        found = metrics[str(split)][str(name)]
        assert found["auroc"] == pytest.approx(roc_auc_score(rows["label"], rows["output"]))
        assert found["auprc"] == pytest.approx(average_precision_score(rows["label"], rows["output"]))


def test_what_is_compared_is_judged_on_the_same_tiles_in_the_same_folds(model: Path) -> None:
    table = pd.read_parquet(model / "folds.parquet")
    for _, of_split in table.groupby("split"):
        folds = {name: rows.set_index("key")[["fold", "label"]] for name, rows in of_split.groupby("model")}
        assert len(folds) > 6
        assert all(one.equals(folds["fused"]) for one in folds.values())


def test_the_weights_are_five_fold_models_and_plain_tensors(model: Path) -> None:
    with safe_open(model / "model.safetensors", framework="pt") as weights:
        folds = {name.split(".")[0] for name in weights.keys()}  # noqa: SIM118
    assert folds == {f"fold{k}" for k in range(5)}
    assert sorted(f.name for f in model.iterdir()) == [
        "folds.parquet",
        "model.json",
        "model.safetensors",
        "report.html",
    ]


def test_a_training_tile_gets_the_word_of_the_fold_that_did_not_see_it(
    model: Path, dataset: Dataset, tmp_path: Path
) -> None:
    score(dataset.path, model, [tmp_path / "risk.csv"])
    risk = pd.read_csv(tmp_path / "risk.csv")
    folds = pd.read_parquet(model / "folds.parquet")
    folds = folds[(folds["split"] == "spatial") & (folds["model"] == "fused")]
    outputs = folds.set_index("key")["output"]
    calibration = read_model(model).calibration
    assert calibration is not None
    seen = pd.Series(calibration.probability(outputs.to_numpy()), outputs.index)
    assert risk["in_training"].sum() == len(seen)
    ours = risk[risk["in_training"]].set_index("tile_id")["risk"]
    np.testing.assert_allclose(ours, seen.reindex(ours.index), atol=1e-5)
    assert len(risk) == len(dataset.tiles())


def test_the_same_place_tiled_anew_is_still_scored_out_of_fold(
    model: Path, metro: Metro, dataset: Dataset, tmp_path: Path
) -> None:
    """Absolute ids: another box over the same tiles does not make them new."""
    region = replace(read_region(metro.region), min_coverage=0.8)
    again = tile(region, tmp_path / "again", workers=1).dataset
    assert again.plan != dataset.plan
    score(again.path, model, [tmp_path / "risk.csv"])
    risk = pd.read_csv(tmp_path / "risk.csv")
    folds = pd.read_parquet(model / "folds.parquet")
    assert risk["in_training"].sum() == folds["key"].nunique()


def test_same_seed_same_model(model: Path, dataset: Dataset, tmp_path: Path) -> None:
    """Whatever it is compared with."""
    train(dataset.path, tmp_path / "again", QUICK)
    assert (tmp_path / "again/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    first, again = (pd.read_parquet(path / "folds.parquet") for path in (model, tmp_path / "again"))
    same = first[(first["model"] == "fused") & (first["split"] != "temporal")]
    pd.testing.assert_frame_equal(same.reset_index(drop=True), again, check_exact=True)


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet", ".csv", ".html"])
def test_every_layer_carries_the_promised_fields(
    model: Path, dataset: Dataset, tmp_path: Path, suffix: str, roadrisk: Callable[..., Any]
) -> None:
    out = tmp_path / f"risk{suffix}"
    run = roadrisk("score", dataset.path, "--model", model, "-o", out)
    assert (run.code, run.out) == (0, f"{out}\n"), run.err
    promised = {
        "tile_id",
        "risk",
        "rank",
        "percentile",
        "band",
        "has_image",
        "has_facts",
        "label",
        "in_training",
    }
    if suffix == ".html":
        page = out.read_text()
        assert all(name in page for name in promised)
        return
    read = {".csv": pd.read_csv, ".parquet": geopandas.read_parquet}.get(suffix, geopandas.read_file)
    layer = read(out)
    assert promised | {"road_m", "crashes_label"} <= set(layer.columns)
    assert len(layer) == len(dataset.tiles())
    assert layer["risk"].between(0, 1).all()
    labels = dataset.tiles().set_index("tile_id")["label"]
    known = layer[layer["label"].notna()].set_index("tile_id")["label"]
    assert known.astype(bool).to_dict() == labels.dropna().astype(bool).to_dict()


def test_dropped_tiles_are_neither_trained_on_nor_scored(metro: Metro, tmp_path: Path) -> None:
    region = replace(read_region(metro.region), drop_uncovered=True)
    dataset = tile(region, tmp_path / "d", workers=1).dataset
    trained = train(dataset.path, tmp_path / "m", QUICK)
    kept = dataset.tiles().query("not dropped")
    assert trained.model.provenance["tiles"] == kept["label"].notna().sum()
    score(dataset.path, tmp_path / "m", [tmp_path / "r.csv"])
    assert set(pd.read_csv(tmp_path / "r.csv")["tile_id"]) == set(kept["tile_id"])


def test_a_table_takes_the_place_of_a_dataset(
    table: Path, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    model, risk = tmp_path / "m", tmp_path / "risk.geojson"
    args = ("--encoder", "basic", "--epochs", 1, "--quick", "--label", "high", "--positive", "yes")
    run = roadrisk("train", table, *args, "-o", model)
    assert run.code == 0, run.err
    assert "facts: primary_m, road_m" in run.err or "facts: road_m, primary_m" in run.err
    assert "left out: note: the same in every training tile" in run.err
    assert re.search(r"\n  spatial +fused ", run.err)
    run = roadrisk("score", table, "--model", model, "-o", risk, "-o", tmp_path / "risk.csv")
    assert run.code == 0, run.err
    layer, rows = geopandas.read_file(risk), pd.read_csv(table)
    assert layer["tile_id"].tolist() == rows["id"].tolist()
    np.testing.assert_allclose(layer.geometry.x, rows["lon"], atol=1e-7)
    assert (
        layer["label"].astype(str).str.lower().isin(["true", "1"]).tolist()
        == (rows["high"] == "yes").tolist()
    )


def test_a_table_without_places_has_random_folds_and_says_so(
    table: Path, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    rows = pd.read_csv(table).drop(columns=["lon", "lat", "note"])
    shutil.copytree(table.parent / "pictures", tmp_path / "pictures")
    rows.to_parquet(tmp_path / "t.parquet")
    args = ("--encoder", "basic", "--epochs", 1, "--quick", "--label", "high", "--positive", "yes")
    run = roadrisk("train", tmp_path / "t.parquet", *args, "-o", tmp_path / "m")
    assert run.code == 0, run.err
    assert "folds are random: the table does not say where its rows lie" in run.err
    assert list(json.loads((tmp_path / "m/model.json").read_text())["metrics"]) == ["random"]
    run = roadrisk("score", tmp_path / "t.parquet", "--model", tmp_path / "m", "-o", tmp_path / "r.gpkg")
    assert run.code == 1
    assert "give it lon and lat columns or geometry, or write .csv" in run.err
    assert not (tmp_path / "r.gpkg").exists()


def test_rows_and_columns_in_another_order_score_the_same(table: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, label="high", positive="yes")
    train(table, tmp_path / "m", settings)
    rows = pd.read_csv(table)
    shuffled = rows.sample(frac=1, random_state=1)[rows.columns[::-1]]
    shuffled.to_csv(table.parent / "shuffled.csv", index=False, float_format="%.17g")
    for name in ("table", "shuffled"):
        score(table.parent / f"{name}.csv", tmp_path / "m", [tmp_path / f"{name}.csv"])
    straight, mixed = (pd.read_csv(tmp_path / f"{n}.csv").set_index("tile_id") for n in ("table", "shuffled"))
    assert straight.index.tolist() != mixed.index.tolist()
    mixed = mixed.reindex(straight.index)
    # the same rows in another file are still the rows it was trained on
    assert straight["in_training"].all()
    assert mixed["in_training"].all()
    np.testing.assert_allclose(mixed["risk"], straight["risk"], atol=1e-6)
    # and training on the shuffled table makes the same model
    train(table.parent / "shuffled.csv", tmp_path / "m2", settings)
    assert (tmp_path / "m/model.safetensors").read_bytes() == (tmp_path / "m2/model.safetensors").read_bytes()


def test_no_training_row_is_within_the_buffer_of_a_test_row(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in what `fit` is given, whatever the folds say of themselves."""
    from roadrisk.learning import validation

    tiles = dataset.tiles().set_index("tile_id")
    seen: list[set[str]] = []
    learned = validation.learned_preparation
    taken = validation.Examples.taken

    def watched(self: Any, rows: Any) -> Any:
        part = taken(self, rows)
        seen.append(set(part.key))
        return part

    monkeypatch.setattr(validation.Examples, "taken", watched)
    train(dataset.path, tmp_path / "m", replace(QUICK, inputs="facts"))
    assert validation.learned_preparation is learned
    folds = pd.read_parquet(tmp_path / "m/folds.parquet")
    folds = folds[folds["split"] == "spatial"]
    for k in range(5):
        test = set(folds.loc[folds["fold"] == k, "key"])
        others = set(folds["key"]) - test
        trained_on = max((s for s in seen if s <= others), key=len)
        assert len(trained_on) > len(others) / 2
        here, there = tiles.loc[sorted(test), ["row", "col"]], tiles.loc[sorted(trained_on), ["row", "col"]]
        apart = np.abs(here.to_numpy()[:, None] - there.to_numpy()[None]).max(axis=2)
        assert apart.min() > 1


def test_facts_made_from_the_labels_own_source_are_left_out_unless_asked_for(
    metro: Metro, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    past = tile(replace(read_region(metro.region), label_window=None), tmp_path / "d", workers=1).dataset
    quick = ("--encoder", "basic", "--epochs", 1, "--inputs", "facts", "--quick")
    run = roadrisk("train", past.path, *quick, "-o", tmp_path / "m")
    assert "left out: crashes_past: made from the label's own source; ask for it with --features" in run.err
    assert "crashes_past" not in json.loads((tmp_path / "m/model.json").read_text())["provenance"]["facts"]
    run = roadrisk("train", past.path, *quick, "--features", "crashes_past,road_m", "-o", tmp_path / "m2")
    assert "facts: crashes_past, road_m" in run.err or "facts: road_m, crashes_past" in run.err
    # a window of another length is another fact
    other = replace(
        read_region(metro.region),
        label_window=(date(2024, 1, 1), date(2025, 1, 1)),
        feature_window=(date(2023, 7, 1), date(2024, 1, 1)),
    )
    shorter = tile(other, tmp_path / "shorter", workers=1).dataset
    run = roadrisk("score", shorter.path, "--model", tmp_path / "m2", "-o", tmp_path / "r.csv")
    assert run.code == 1
    assert "crashes_past spans 184 days, not 365" in run.err


def test_another_unit_is_refused(
    dataset: Dataset, model: Path, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    shutil.copytree(dataset.path, tmp_path / "d")
    manifest = json.loads((tmp_path / "d/dataset.json").read_text())
    next(c for c in manifest["columns"] if c["name"] == "road_m")["unit"] = "ft"
    (tmp_path / "d/dataset.json").write_text(json.dumps(manifest))
    run = roadrisk("score", tmp_path / "d", "--model", model, "-o", tmp_path / "r.csv")
    assert run.code == 1
    assert "road_m is in ft, not m" in run.err


def test_a_tile_with_less_picture_than_asked_counts_as_without_one(metro: Metro, tmp_path: Path) -> None:
    dataset = tile(replace(read_region(metro.region), cell=100.0), tmp_path / "d", workers=1).dataset
    coverage = dataset.tiles()["coverage_aerial"]
    assert ((coverage > 0) & (coverage < 0.9)).any()
    assert tiles_at(dataset.path, ["aerial"]).has_image.tolist() == (coverage >= 0.9).tolist()


@pytest.mark.parametrize("inputs", ["facts", "image"])
def test_a_model_of_one_side_scores(dataset: Dataset, tmp_path: Path, inputs: Any) -> None:
    train(dataset.path, tmp_path / "m", replace(QUICK, inputs=inputs))
    score(dataset.path, tmp_path / "m", [tmp_path / "r.csv"])
    risk = pd.read_csv(tmp_path / "r.csv")
    tiles = dataset.tiles()
    expected = len(tiles) if inputs == "facts" else (tiles["coverage_aerial"] >= 0.9).sum()
    assert len(risk) == expected


def test_a_road_class_that_does_not_occur_is_none(metro: Metro, model: Path, tmp_path: Path) -> None:
    """A model goes to a box where one of its classes has no street."""
    roads = geopandas.read_file(metro.roads)
    roads[roads["highway"] != "primary"].to_file(tmp_path / "roads.gpkg")
    region = read_region(metro.region)
    region = replace(region, roads=(replace(region.roads[0], path=str(tmp_path / "roads.gpkg")),))
    other = tile(region, tmp_path / "other", workers=1).dataset
    assert "road_m_primary" not in other.tiles()
    score(other.path, model, [tmp_path / "r.csv"])
    assert (pd.read_csv(tmp_path / "r.csv")["road_m_primary"] == 0).all()


def test_a_shape_grid_is_known_again_by_where_it_lies(metro: Metro, tmp_path: Path) -> None:
    region = replace(read_region(metro.region), cell=None, shape=(16, 16))
    first = tile(region, tmp_path / "a", workers=1).dataset
    train(first.path, tmp_path / "m", QUICK)
    again = tile(replace(region, name="renamed", min_coverage=0.8), tmp_path / "b", workers=1).dataset
    score(again.path, tmp_path / "m", [tmp_path / "r.csv"])
    assert pd.read_csv(tmp_path / "r.csv")["in_training"].sum() > 200
    west, south, east, north = metro.bbox
    elsewhere = replace(region, bbox=(west, south, (west + east) / 2, north), shape=(16, 8))
    moved = tile(elsewhere, tmp_path / "c", workers=1).dataset
    assert moved.tiles()["tile_id"].iloc[0] == first.tiles()["tile_id"].iloc[0]
    score(moved.path, tmp_path / "m", [tmp_path / "c.csv"])
    assert not pd.read_csv(tmp_path / "c.csv")["in_training"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(lon="west"), "rows have no usable lon, the first is row 0 with 'west'"),
        (lambda t: t.assign(lat=95.0), "rows have no usable lat, the first is row 0 with"),
        (lambda t: t.assign(lon=[0.0, *t["lon"][1:]], lat=[0.0, *t["lat"][1:]]), "1 rows lie at 0, 0"),
        (lambda t: t.assign(lon=[None, *t["lon"][1:]]), "some rows of"),
        (lambda t: t.rename(columns={"note": "road_m"}), "names the column 'road_m' twice; rename one"),
        (lambda t: t.drop(columns="image_path"), "has no column image_path"),
        (lambda t: t.assign(id="same"), "names a tile twice: same"),
    ],
)
def test_bad_tables_get_one_line(
    table: Path, tmp_path: Path, roadrisk: Callable[..., Any], change: Any, message: str
) -> None:
    change(pd.read_csv(table)).to_csv(table.parent / "bad.csv", index=False)
    args = ("--encoder", "basic", "--epochs", 1, "--quick", "--label", "high", "--positive", "yes")
    run = roadrisk("train", table.parent / "bad.csv", *args, "-o", tmp_path / "m")
    assert run.code == 1, run.err
    assert message in run.err
    assert run.err.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (
            ["--label", "crashes_labl"],
            1,
            "has no column 'crashes_labl' to learn; name one with --label",
        ),
        (["--features", "road"], 2, "no column 'road' for --features or --exclude; did you mean road_m?"),
        (
            ["--features", "crashes_label"],
            2,
            "--features crashes_label is what is to be learned; leave it out",
        ),
        (
            ["--encoder", "resnet34", "--weights", "none"],
            2,
            "--weights none with --encoder resnet34 would freeze",
        ),
        (["--encoder", "resnet35"], 2, "--encoder resnet35 is none of basic, resnet18,"),
        (["--folds", "400"], 1, "labelled tiles are fewer than 400 folds"),
        (["--inputs", "facts", "--exclude", "{all}"], 1, "there are no facts to learn from"),
    ],
)
def test_bad_training_input_is_one_line_and_nothing_is_written(
    dataset: Dataset,
    tmp_path: Path,
    roadrisk: Callable[..., Any],
    flags: list[str],
    code: int,
    message: str,
) -> None:
    every = ",".join(c.name for c in dataset.columns if c.role == "feature")
    flags = [f.replace("{all}", every) for f in flags]
    if "--encoder" not in flags:
        flags += ["--encoder", "basic"]
    run = roadrisk("train", dataset.path, "-o", tmp_path / "m", *flags)
    assert run.code == code, run.err
    assert message in run.err
    assert run.err.strip().count("\n") == 0
    assert not (tmp_path / "m").exists()


def test_imagenet_weights_without_a_network_say_which_file_to_put_where(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roadrisk: Callable[..., Any]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    run = roadrisk("train", dataset.path, "-o", tmp_path / "m")
    assert run.code == 1
    assert f"put resnet34-b627a593.pth into {tmp_path / 'torch/hub/checkpoints'}" in run.err
    assert not (tmp_path / "m").exists()


def test_an_output_that_exists_is_refused_before_any_work(dataset: Dataset, model: Path) -> None:
    before = (model / "model.json").read_bytes()
    with pytest.raises(ModelError) as caught:
        train(dataset.path, model, QUICK)
    assert str(caught.value) == f"{model} exists; choose another -o, or remove it"
    assert (model / "model.json").read_bytes() == before


def test_a_model_refuses_tiles_it_was_not_made_for(
    metro: Metro, model: Path, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    region = replace(read_region(metro.region), cell=128.0, roads=())
    other = tile(region, tmp_path / "other", workers=1).dataset
    run = roadrisk("score", other.path, "--model", model, "-o", tmp_path / "r.csv")
    assert run.code == 1
    for difference in (
        "no column road_m",
        "tiles are 128.1 m wide, not 64.03",
        "a pixel is 2 m, not 1",
    ):
        assert difference in run.err
    assert run.err.strip().count("\n") == 0
    assert not (tmp_path / "r.csv").exists()


def test_a_table_cannot_name_a_picture_outside_its_folder(table: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(table)
    rows["image_path"] = ["../../etc/passwd", *rows["image_path"][1:]]
    rows.to_csv(table.parent / "hostile.csv", index=False)
    with pytest.raises(Exception, match="leads out of its folder"):
        train(table.parent / "hostile.csv", tmp_path / "m", replace(QUICK, label="high", positive="yes"))


def test_settings_are_checked_before_work() -> None:
    with pytest.raises(UsageError):
        train(Path("nowhere"), Path("out"), TrainSettings(encoder="resnet34", weights="none"))


def damaged(model: Path, out: Path, damage: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a model whose `model.json` was changed."""
    shutil.copytree(model, out)
    manifest = json.loads((out / "model.json").read_text())
    damage(manifest)
    (out / "model.json").write_text(json.dumps(manifest))
    return out


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m["provenance"].pop("label"),
        lambda m: m["provenance"]["label"].update(threshold="many"),
        lambda m: m["provenance"].update(cell_m="wide"),
        lambda m: m["provenance"].update(windows={"label": ["x", "y"]}),
        lambda m: m["preparation"][0]["facts"][0].update(std=0.0),
        lambda m: m["preparation"][0]["facts"][0].update(mean=1e308, std=1e-308),
        lambda m: m.update(sha256=["a"]),
        lambda m: m.update(format=99),
        lambda m: m.update(format=True, kind="?"),
        lambda m: m["architecture"]["views"][0].update(size_px=100),
    ],
)
def test_a_damaged_model_is_one_line(
    model: Path, dataset: Dataset, tmp_path: Path, damage: Any, roadrisk: Callable[..., Any]
) -> None:
    run = roadrisk(
        "score", dataset.path, "--model", damaged(model, tmp_path / "m", damage), "-o", tmp_path / "r.csv"
    )
    assert run.code == 1, run.out
    assert run.err.strip().splitlines()[-1].startswith("roadrisk: ")
    assert "Traceback" not in run.err
    assert not (tmp_path / "r.csv").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.assign(fold=99),
        lambda t: t.assign(fold="one"),
        lambda t: pd.concat([t, t]),
        lambda t: t.drop(columns="key"),
    ],
)
def test_a_damaged_table_of_folds_is_one_line(model: Path, tmp_path: Path, damage: Any) -> None:
    shutil.copytree(model, tmp_path / "m")
    damage(pd.read_parquet(model / "folds.parquet")).to_parquet(tmp_path / "m/folds.parquet")
    manifest = json.loads((tmp_path / "m/model.json").read_text())
    manifest["sha256"]["folds.parquet"] = sha256_of(tmp_path / "m/folds.parquet")
    (tmp_path / "m/model.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="is not a whole roadrisk model") as caught:
        read_model(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_a_colleague_can_read_a_model(model: Path) -> None:
    assert {f.stat().st_mode & 0o044 for f in model.iterdir()} == {0o044}
