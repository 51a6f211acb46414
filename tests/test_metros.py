"""Several metros in one model, and one that no model saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError, UsageError
from roadrisk.features.labels import top_fifth_threshold
from roadrisk.gathering import gathered
from roadrisk.inputs import tiles_at
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.metros import FAR_APART, joined, over_windows
from roadrisk.region import read_region
from roadrisk.scoring import score
from roadrisk.tiling import tile
from roadrisk.training import train
from tests.metro_examples import APART, changed, column, metro_dataset, without

FACTS = TrainSettings(encoder="basic", inputs="facts", epochs=2, folds=2, quick=True)
PAST = ["2023-01-01", "2024-01-01"]


@pytest.fixture(scope="module")
def metros(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Three metros that lie apart; tests only read them."""
    folder = tmp_path_factory.mktemp("metros")
    return {name: metro_dataset(folder, name, seed) for name, seed in (("a", 1), ("b", 2), ("d", 3))}


@pytest.fixture(scope="module")
def seen(metros: dict[str, Dataset]) -> list[Path]:
    return [metros["a"].path, metros["b"].path]


def learned_of(*paths: Path, settings: TrainSettings = FACTS, **given: Any) -> Any:
    return gathered([tiles_at(path, ("aerial",)) for path in paths], resolved(settings), **given)


def refusal(*paths: Path, settings: TrainSettings = FACTS, **given: Any) -> str:
    """The one line that says why."""
    with pytest.raises((ModelError, UsageError)) as caught:
        learned_of(*paths, settings=settings, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- columns -------------------------------------------------------------------------------------------


def test_neither_the_order_of_metros_nor_a_holdout_changes_a_bit(
    metros: dict[str, Dataset], seen: list[Path], tmp_path: Path
) -> None:
    settings = replace(FACTS, inputs="both", epochs=1)
    train(seen, tmp_path / "m", settings)
    train(seen[::-1], tmp_path / "m2", settings, holdout=metros["d"].path)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("m", "m2")]
    assert weights[0] == weights[1]
    told = [json.loads((tmp_path / name / "model.json").read_text()) for name in ("m", "m2")]
    assert told[0]["preparation"] == told[1]["preparation"]
    assert [sorted(one["metrics"]) for one in told] == [["random", "spatial"], ["metro", "random", "spatial"]]
    assert told[0]["provenance"]["datasets"] == told[1]["provenance"]["datasets"]
    for name in ("m", "m2"):
        score(metros["d"].path, tmp_path / name, [tmp_path / f"{name}.csv"])
    risk = [pd.read_csv(tmp_path / f"{name}.csv")["risk"] for name in ("m", "m2")]
    assert risk[0].tolist() == risk[1].tolist()
    folds = pd.read_parquet(tmp_path / "m2/folds.parquet")
    assert not set(folds["key"]) & set(metros["d"].tiles()["tile_id"])
    assert set(folds["dataset"]) == {metros["a"].plan, metros["b"].plan}


def test_facts_that_differ_are_left_out_and_told(
    metros: dict[str, Dataset], tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        without("road_sinuosity")(manifest)
        column(manifest, "road_straight_m")["unit"] = "ft"
        column(manifest, "road_dead_ends")["combine"] = "mean"

    other = changed(metros["b"], tmp_path / "b", change)
    args = ("--encoder", "basic", "--inputs", "facts", "--epochs", 1, "--folds", 2, "--quick")
    run = roadrisk("train", metros["a"].path, other, *args, "-o", tmp_path / "m")
    assert run.code == 0, run.err
    facts = json.loads((tmp_path / "m/model.json").read_text())["provenance"]["facts"]
    assert "road_m" in facts
    assert not {"road_sinuosity", "road_straight_m", "road_dead_ends"} & set(facts)
    assert "left out: road_sinuosity: not in b" in run.err
    assert "left out: road_straight_m: in b it is in ft, not m as in a" in run.err
    assert "left out: road_dead_ends: in b it is a mean, not a sum as in a" in run.err
    said = refusal(metros["a"].path, other, settings=replace(FACTS, features=("road_m", "road_sinuosity")))
    assert said == (
        "road_sinuosity, a fact that is asked for, is not one column of all metros: not in b; "
        "tile all alike, or leave one out"
    )
    learned_of(metros["a"].path, other, settings=replace(FACTS, exclude=("road_sinuosity",)))


def test_a_road_class_that_one_metro_lacks_is_none_there(metros: dict[str, Dataset], tmp_path: Path) -> None:
    other = changed(metros["b"], tmp_path / "b", without("road_m_primary"))
    learned = learned_of(metros["a"].path, other)
    names = [c.name for c in learned.examples.columns]
    values = learned.examples.facts[:, names.index("road_m_primary")]
    there = learned.tiles.source[learned.known] == metros["a"].plan
    assert values[there].any()
    assert (values[~there] == 0).all()
    # what only some sources know of roads is unknown, not none
    lacking = changed(metros["b"], tmp_path / "c", without("road_m_oneway"))
    assert learned_of(metros["a"].path, lacking).left_out["road_m_oneway"] == "not in b"


def test_sums_over_windows_of_other_lengths_are_as_of_one_length(
    metros: dict[str, Dataset], tmp_path: Path
) -> None:
    def dated(start: str) -> Callable[[dict[str, Any]], None]:
        return lambda manifest: column(manifest, "road_m").update(window=[start, "2024-01-01"])

    year = changed(metros["a"], tmp_path / "a", dated("2023-01-01"))
    longer = changed(metros["b"], tmp_path / "b", dated("2022-12-01"))
    half = changed(metros["b"], tmp_path / "half", dated("2023-07-01"))
    tiles, left_out = joined([tiles_at(year, ()), tiles_at(longer, ())])
    assert "road_m" not in left_out
    days = {metros["a"].plan: 365, metros["b"].plan: 396}
    first = metros["a"].plan
    for name, path in (("a", year), ("b", longer)):
        raw = tiles_at(path, ()).frame["road_m"].to_numpy(dtype=float)
        here = tiles.frame["road_m"][tiles.source == metros[name].plan].to_numpy(dtype=float)
        np.testing.assert_allclose(here, raw * days[first] / days[metros[name].plan], rtol=1e-12)
    _, left_out = joined([tiles_at(year, ()), tiles_at(half, ())])
    assert left_out["road_m"] == "in b it spans 184 days, not 365 as in a"


def test_a_score_takes_a_sum_as_of_the_models_window(metros: dict[str, Dataset], tmp_path: Path) -> None:
    def dated(manifest: dict[str, Any]) -> None:
        column(manifest, "road_m")["window"] = PAST

    def longer(manifest: dict[str, Any]) -> None:
        column(manifest, "road_m")["window"] = ["2022-12-01", "2024-01-01"]

    year, other = changed(metros["a"], tmp_path / "a", dated), changed(metros["a"], tmp_path / "b", longer)
    rows = pd.read_parquet(other / "tiles.parquet")
    rows["road_m"] *= 396 / 365
    rows.to_parquet(other / "tiles.parquet")
    train(year, tmp_path / "m", replace(FACTS, features=("road_m", "road_dead_ends")))
    for name, path in (("year", year), ("longer", other)):
        score(path, tmp_path / "m", [tmp_path / f"{name}.csv"])
    risk = [pd.read_csv(tmp_path / f"{name}.csv")["risk"] for name in ("year", "longer")]
    np.testing.assert_allclose(risk[0], risk[1], atol=1e-6)


def test_a_fact_of_any_metro_that_knows_what_is_learned_there_is_refused(
    metros: dict[str, Dataset], seen: list[Path], tmp_path: Path
) -> None:
    def late(manifest: dict[str, Any]) -> None:
        column(manifest, "road_m")["window"] = ["2024-01-01", "2025-01-01"]

    def early(manifest: dict[str, Any]) -> None:
        column(manifest, "road_m")["window"] = ["2022-12-31", "2024-01-01"]

    good, bad = changed(metros["a"], tmp_path / "a", early), changed(metros["b"], tmp_path / "b", late)
    assert f"{bad}: a fact must tell of days before the label window" in refusal(good, bad)
    unseen = changed(metros["d"], tmp_path / "d", late)
    assert f"{unseen}: a fact must tell" in refusal(good, beside=tiles_at(unseen, ()))


# --- places --------------------------------------------------------------------------------------------


def test_a_dataset_twice_is_refused(metros: dict[str, Dataset], tmp_path: Path) -> None:
    path = metros["a"].path
    assert refusal(path, path) == f"{path} is given twice; name each dataset once"
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    assert f"is given as {path}, too" in refusal(path, copy) or f"is given as {copy}, too" in refusal(
        path, copy
    )


@pytest.mark.parametrize("cell", [64.0, 70.0])
def test_a_place_in_two_metros_is_refused_whatever_the_grid(
    metros: dict[str, Dataset], tmp_path: Path, cell: float
) -> None:
    region = read_region(metros["a"].path.with_name("a_sources") / "region.toml")
    west, south, east, north = region.bbox
    part = replace(region, bbox=(west, south, east, (south + north) / 2), cell=cell)
    other = tile(part, tmp_path / "part", workers=1).dataset
    said = refusal(metros["a"].path, other.path)
    assert "tiles are in two metros, " in said
    assert said.endswith("give metros that do not overlap")
    said = holdout_refusal([metros["a"].path, metros["b"].path], other.path, tmp_path)
    assert "tiles are in two metros, " in said


def test_metros_of_one_grid_keep_their_places_and_others_lie_far_apart(
    metros: dict[str, Dataset], tmp_path: Path
) -> None:
    tiles, _ = joined([tiles_at(metros[name].path, ()) for name in ("a", "b")])
    assert tiles.lattice is not None
    row = tiles.lattice[0]
    middle = {name: row[tiles.source == metros[name].plan].mean() for name in ("a", "b")}
    assert middle["a"] - middle["b"] == APART
    other = metro_dataset(tmp_path, "e", 5, cell=70.0)
    tiles, _ = joined([tiles_at(metros["a"].path, ()), tiles_at(other.path, ())])
    assert tiles.lattice is not None
    apart = [tiles.lattice[0][tiles.source == d.plan].mean() for d in (metros["a"], other)]
    assert abs(apart[0] - apart[1]) > FAR_APART / 2


def test_tiles_of_another_kind_are_refused(metros: dict[str, Dataset], tmp_path: Path) -> None:
    wide = metro_dataset(tmp_path, "wide", 5, cell=96.0)
    both = replace(FACTS, inputs="both")
    for paths in ((metros["a"].path, wide.path), (wide.path, metros["a"].path)):
        said = refusal(*paths, settings=both)
        assert "has other tiles than" in said
        assert "m wide, not" in said
        assert "a pixel is" in said
    bare = metro_dataset(tmp_path, "bare", 6, imagery=())
    said = refusal(metros["a"].path, bare.path, settings=both)
    assert said.startswith(f"{bare.path} has other tiles than {metros['a'].path}: no view aerial")
    # pictures that nobody looks at may be absent
    assert len(learned_of(metros["a"].path, bare.path).examples) > 200
    stretched = [
        changed(
            metros[name], tmp_path / name, lambda m, top=top: m["views"][0].update(stretch=[[0, top]] * 3)
        )
        for name, top in (("a", 800), ("b", 900))
    ]
    assert "its pictures are stretched from more than 8 bit" in refusal(
        metros["a"].path, stretched[1], settings=both
    )
    said = refusal(*stretched, settings=both)
    assert "its pictures are stretched otherwise (tile with --stretch-of " in said


def test_three_metros_are_all_alike_not_only_like_the_first(
    tmp_path: Path, metros: dict[str, Dataset]
) -> None:
    paths = [
        metro_dataset(tmp_path, f"c{cell:g}", seed, cell=cell).path for seed, cell in ((5, 76.0), (6, 54.0))
    ]
    for one in paths:
        learned_of(metros["a"].path, one)
    assert "m wide, not" in refusal(metros["a"].path, *paths)


# --- the label -----------------------------------------------------------------------------------------


def test_the_label_of_several_metros_is_one_threshold_over_all_tiles(
    metros: dict[str, Dataset], seen: list[Path], tmp_path: Path
) -> None:
    frames = [metros[name].tiles() for name in ("a", "b")]
    both = pd.concat(frames)
    t = top_fifth_threshold(both["crashes_label"].to_numpy(dtype=float), both["eligible"].to_numpy(bool)).t
    own = [metros[name].manifest["label"]["t"] for name in ("a", "b")]
    assert len(set(own)) == 2, "the metros must differ for this test to tell anything"
    learned = learned_of(*seen)
    assert learned.label.threshold == t
    measure = learned.tiles.frame["crashes_label"].to_numpy(dtype=float)[learned.known]
    assert learned.examples.label.tolist() == (measure >= t).astype(float).tolist()
    old = pd.concat([frame.loc[frame["eligible"], ["tile_id", "label"]] for frame in frames]).set_index(
        "tile_id"
    )
    kept = old["label"].reindex(learned.tiles.frame["tile_id"].iloc[learned.known]).to_numpy(dtype=float)
    assert (kept != learned.examples.label).any()
    [told] = [line for line in learned.label.told if "one threshold" in line]
    assert told.startswith(f"one threshold of crashes_label for all metros; high risk: {t:g} or more")
    assert f"alone from {own[0]:g}" in told
    trained = train(seen, tmp_path / "m", FACTS)
    assert told in trained.lines()
    assert json.loads((tmp_path / "m/model.json").read_text())["provenance"]["label"]["threshold"] == t


def test_a_count_of_several_metros_is_the_measure_of_their_label(seen: list[Path]) -> None:
    learned = learned_of(*seen, settings=replace(FACTS, task="count"))
    assert learned.label.column == "crashes_label"
    assert learned.examples.label.max() > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m.update(label=None),
            "the metros' labels are made in different ways (a from crashes_label, ",
        ),
        (
            lambda m: m["label"].update(measure="road_m"),
            "the metros' labels are made in different ways (",
        ),
        (
            lambda m: m["plan"]["settings"]["label"].update(share=0.1),
            "the metros call different shares of tiles high risk (0.1 and 0.2)",
        ),
        (without("label"), "label, what is learned, is not one column of all metros: not in b"),
        (
            lambda m: column(m, "crashes_label").update(window=["2024-07-01", "2025-01-01"]),
            "crashes_label, what is learned, is not one column of all metros: in ",
        ),
        (
            lambda m: column(m, "crashes_label").update(unit="deaths"),
            "crashes_label, what is learned, is not one column of all metros: in ",
        ),
    ],
)
def test_labels_that_are_not_one_are_refused(
    metros: dict[str, Dataset], tmp_path: Path, change: Any, message: str
) -> None:
    other = changed(metros["b"], tmp_path / "b", change)
    said = refusal(metros["a"].path, other)
    if "(a from" in message:
        assert "a from crashes_label" in said
    else:
        assert message in said


def test_another_share_asked_of_all_is_that_of_all(metros: dict[str, Dataset], tmp_path: Path) -> None:
    def tenth(manifest: dict[str, Any]) -> None:
        manifest["plan"]["settings"]["label"]["share"] = 0.1

    paths = [changed(metros[name], tmp_path / name, tenth) for name in ("a", "b")]
    assert 0.05 < learned_of(*paths).high.mean() < 0.15


def test_a_table_among_several_is_refused(metros: dict[str, Dataset], tmp_path: Path) -> None:
    pd.DataFrame({"id": ["x"], "image_path": [None], "label": [1]}).to_csv(tmp_path / "t.csv", index=False)
    assert "t.csv is a table; several metros in one model are datasets" in refusal(
        metros["a"].path, tmp_path / "t.csv"
    )


# --- a metro never seen --------------------------------------------------------------------------------


def holdout_refusal(seen: list[Path], unseen: Path, folder: Path, settings: TrainSettings = FACTS) -> str:
    with pytest.raises((ModelError, UsageError)) as caught:
        train(seen, folder / "refused", settings, holdout=unseen)
    assert "\n" not in str(caught.value)
    assert not (folder / "refused").exists()
    assert not (folder / "refused.training").exists(), "training began before the holdout was checked"
    return str(caught.value)


def test_what_is_learned_in_some_metros_holds_in_one_never_seen(
    metros: dict[str, Dataset], seen: list[Path], tmp_path: Path
) -> None:
    """Crashes follow traffic in all of them, and road classes tell of traffic."""
    settings = replace(FACTS, quick=False, epochs=60, learning_rate=3e-3, batch_size=16)
    trained = train(seen, tmp_path / "m", settings, holdout=metros["d"].path)
    metrics = trained.model.metrics
    assert set(metrics["metro"]) == {
        "facts",
        "boosting",
        "logistic",
        "road_length",
        "spf_length",
        "stack",
        "base_rate",
    }
    assert set(metrics["metro"]) == set(metrics["spatial"])
    found = metrics["metro"]
    assert found["facts"]["auroc"] > 0.65
    assert found["logistic"]["auroc"] > 0.7
    assert found["boosting"]["auroc"] > 0.7
    assert found["base_rate"]["auroc"] == 0.5
    assert {one["n"] for one in found.values()} == {int(metros["d"].tiles()["eligible"].sum())}
    assert any(line.lstrip().startswith("metro ") for line in trained.lines())


def test_the_measures_of_a_holdout_are_those_of_its_scores(
    metros: dict[str, Dataset], seen: list[Path], tmp_path: Path
) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    settings = replace(FACTS, inputs="both", epochs=1, quick=True)
    found = train(seen, tmp_path / "m", settings, holdout=metros["d"].path).model
    score(metros["d"].path, tmp_path / "m", [tmp_path / "d.csv"])
    risk = -pd.read_csv(tmp_path / "d.csv").set_index("tile_id")["rank"]
    tiles = metros["d"].tiles().set_index("tile_id")
    tiles = tiles[tiles["eligible"]]
    t = found.provenance["label"]["threshold"]
    assert t != metros["d"].manifest["label"]["t"]
    high = tiles["crashes_label"] >= t
    expected = roc_auc_score(high, risk.reindex(tiles.index))
    assert found.metrics["metro"]["fused"]["auroc"] == pytest.approx(expected, abs=2e-3)
    expected = average_precision_score(high, risk.reindex(tiles.index))
    assert found.metrics["metro"]["fused"]["auprc"] == pytest.approx(expected, abs=5e-3)
    assert found.metrics["metro"]["fused"]["n_with_image"] > 100
    assert found.provenance["holdout"] == {"name": "d", "identity": metros["d"].plan}


def test_nothing_of_a_holdouts_values_reaches_the_others(
    metros: dict[str, Dataset], seen: list[Path], tmp_path: Path
) -> None:
    """Other facts and another label in the metro never seen: the same model, and what is said of it."""
    odd = tmp_path / "odd"
    shutil.copytree(metros["d"].path, odd)
    rows = pd.read_parquet(odd / "tiles.parquet")
    rows["road_m_primary"] *= 1000
    rows["crashes_label"] = rows["crashes_label"].to_numpy()[::-1]
    rows.to_parquet(odd / "tiles.parquet")
    models = [
        train(seen, tmp_path / name, FACTS, holdout=path).model
        for name, path in (("m", metros["d"].path), ("m2", odd))
    ]
    one, other = ({k: v for k, v in model.metrics.items() if k != "metro"} for model in models)
    assert one == other
    assert models[0].metrics["metro"] != models[1].metrics["metro"]
    assert (tmp_path / "m/model.safetensors").read_bytes() == (tmp_path / "m2/model.safetensors").read_bytes()


def test_a_holdout_that_is_learned_from_is_refused(
    metros: dict[str, Dataset], seen: list[Path], tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    run = roadrisk("train", *seen, "-o", tmp_path / "m", "--encoder", "basic", "--holdout", metros["b"].path)
    assert run.code == 1
    assert run.err.strip() == (
        f"roadrisk: --holdout {metros['b'].path} is learned from, too; name another metro, "
        "or leave it out there"
    )


def test_a_holdout_that_cannot_be_judged_is_refused_before_any_training(
    metros: dict[str, Dataset], seen: list[Path], tmp_path: Path
) -> None:
    wide = metro_dataset(tmp_path, "wide", 5, cell=96.0)
    said = holdout_refusal(seen, wide.path, tmp_path)
    assert said.startswith(f"--holdout {wide.path} has other tiles than ")
    assert "m wide, not" in said
    unknown = changed(metros["d"], tmp_path / "d", without("crashes_label"))
    assert "no column crashes_label" in holdout_refusal(seen, unknown, tmp_path)
    short = changed(
        metros["d"],
        tmp_path / "short",
        lambda m: column(m, "crashes_label").update(window=["2024-07-01", "2025-01-01"]),
    )
    said = holdout_refusal(seen, short, tmp_path)
    assert said.startswith(f"--holdout {short} cannot be judged by crashes_label, which is learned: ")
    assert "spans 184 days, not 366" in said


def test_facts_that_a_holdout_lacks_are_left_out_and_told(
    metros: dict[str, Dataset], seen: list[Path], tmp_path: Path
) -> None:
    lacking = changed(metros["d"], tmp_path / "d", without("road_sinuosity"))
    for paths in (seen, seen[:1]):
        name = f"m{len(paths)}"
        trained = train(paths, tmp_path / name, FACTS, holdout=lacking)
        assert "road_sinuosity" not in trained.model.provenance["facts"]
        assert f"left out: road_sinuosity: not in --holdout {lacking}" in trained.lines()
        assert "facts" in trained.model.metrics["metro"]


def test_over_windows_leaves_values_of_equal_windows_as_they_are(metros: dict[str, Dataset]) -> None:
    tiles = tiles_at(metros["a"].path, ())
    assert over_windows(tiles, tiles.columns) is tiles
