"""`evaluate` says again what `train` said, and how good a model is where it never was or later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError, RoadriskError, UsageError
from roadrisk.evaluating import Evaluated, evaluate
from roadrisk.learning.model import read_model
from roadrisk.learning.settings import TrainSettings
from roadrisk.scoring import score
from roadrisk.training import Trained, train
from tests.metro_examples import changed, column, metro_dataset

FORMATS = Path(__file__).parent / "formats"
FACTS = TrainSettings(encoder="basic", inputs="facts", epochs=5, folds=2, block_m=192)
LATER = ["2025-01-01", "2026-01-01"]
Roadrisk = Callable[..., Any]


@pytest.fixture(scope="module")
def metros(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Three that lie apart; tests only read them."""
    folder = tmp_path_factory.mktemp("metros")
    return {name: metro_dataset(folder, name, seed) for name, seed in (("a", 1), ("b", 2), ("d", 3))}


@pytest.fixture(scope="module")
def trained(metros: dict[str, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model of the metro a; tests only read it."""
    return train(metros["a"].path, tmp_path_factory.mktemp("evaluated") / "m", FACTS)


def with_tiles(dataset: Dataset, out: Path, change: Callable[[pd.DataFrame], object]) -> Path:
    """A copy of a dataset with other values."""
    shutil.copytree(dataset.path, out)
    rows = geopandas.read_parquet(out / "tiles.parquet")
    change(rows)
    rows.to_parquet(out / "tiles.parquet")
    return out


def with_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The dataset there with another manifest, and so another identity."""
    manifest = json.loads((path / "dataset.json").read_text())
    manifest["plan"]["hash"] = f"{path.name:0<64}"
    change(manifest)
    (path / "dataset.json").write_text(json.dumps(manifest))
    return path


def later_window(manifest: dict[str, Any]) -> None:
    column(manifest, "crashes_label")["window"] = LATER


def refusal(*args: Any, **given: Any) -> str:
    """The one line that says why."""
    with pytest.raises(RoadriskError) as caught:
        evaluate(*args, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def eligible(dataset: Dataset, threshold: float) -> pd.DataFrame:
    """Its eligible tiles with `high`."""
    tiles = dataset.tiles().set_index("tile_id")
    tiles = tiles[tiles["eligible"]]
    return tiles.assign(high=tiles["crashes_label"] >= threshold)


# as it was trained


def test_without_data_it_says_what_training_said(trained: Trained, roadrisk: Roadrisk) -> None:
    found = evaluate(trained.path)
    for verbose in (False, True):
        first, again = trained.lines(verbose), found.lines(verbose)
        start = first.index("how good it is on tiles it did not see")
        assert again[0] == first[0]
        assert again[1:] == first[start:-1]  # the last says how long training took
    run = roadrisk("evaluate", trained.path)
    assert (run.code, run.out) == (0, "")
    assert run.err.splitlines() == found.lines()
    told = json.loads(roadrisk("evaluate", trained.path, "--json").out)
    manifest = json.loads((trained.path / "model.json").read_text())
    assert told["metrics"] == manifest["metrics"]
    assert told["evaluation"] == manifest["evaluation"]


def test_its_report_is_that_of_training(trained: Trained, metros: dict[str, Dataset], tmp_path: Path) -> None:
    """But for the order of settings, which files keep by name."""
    evaluate(trained.path, [metros["a"].path], tmp_path / "r.html")
    first, again = (file.read_text() for file in (trained.path / "report.html", tmp_path / "r.html"))
    settings = '<section id="origin"'
    assert settings in first
    assert again.partition(settings)[0] == first.partition(settings)[0]
    assert sorted(again.split("<")) == sorted(first.split("<"))


def test_what_it_was_trained_on_is_said_and_not_judged_anew(
    trained: Trained, metros: dict[str, Dataset]
) -> None:
    path = metros["a"].path
    found = evaluate(trained.path, [path])
    assert found.told == (f"{path} is what the model was trained on: how it scores out of fold stands below",)
    assert found.model.metrics == trained.model.metrics
    moved = path.with_name("moved")
    shutil.copytree(path, moved)
    assert evaluate(trained.path, [moved]).model.metrics == trained.model.metrics


# metros never seen


@pytest.fixture(scope="module")
def elsewhere(trained: Trained, metros: dict[str, Dataset]) -> Evaluated:
    return evaluate(trained.path, [metros["b"].path])


def test_a_new_metro_is_judged_by_its_scores(
    trained: Trained, metros: dict[str, Dataset], elsewhere: Evaluated, tmp_path: Path
) -> None:
    score(metros["b"].path, trained.path, [tmp_path / "b.csv"])
    risk = -pd.read_csv(tmp_path / "b.csv").set_index("tile_id")["rank"]
    tiles = eligible(metros["b"], trained.model.provenance["label"]["threshold"])
    found = elsewhere.model.metrics["metro"]
    assert set(found) == {"facts", "base_rate", "road_length"}
    assert {of["n"] for of in found.values()} == {len(tiles)}
    ranked = risk.reindex(tiles.index)
    assert found["facts"]["auroc"] == pytest.approx(roc_auc_score(tiles["high"], ranked), abs=2e-3)
    assert found["facts"]["auprc"] == pytest.approx(average_precision_score(tiles["high"], ranked), abs=5e-3)
    assert found["base_rate"]["auroc"] == 0.5
    low, high = elsewhere.model.evaluation.intervals["metro"]["facts"]["auroc"]
    assert low < found["facts"]["auroc"] < high
    assert ("metro", "facts", "road_length") in {
        (one.split, one.a, one.b) for one in elsewhere.model.evaluation.differences
    }
    assert set(elsewhere.model.evaluation.curves["metro"]) == {"facts", "road_length"}


def test_the_ceiling_of_a_new_metro_is_that_of_its_own_counts(
    trained: Trained, metros: dict[str, Dataset], elsewhere: Evaluated
) -> None:
    """Counts that scatter about nothing but length of road leave little else to be known."""
    [ceiling] = {of["ceiling_auroc"] for of in elsewhere.model.metrics["metro"].values()}
    tiles = eligible(metros["b"], trained.model.provenance["label"]["threshold"])
    counts = tiles["crashes_label"].to_numpy(float)
    # who knew each tile's own count as its mean would draw these labels
    chance = np.random.default_rng(0)
    threshold = trained.model.provenance["label"]["threshold"]
    drawn = [roc_auc_score(chance.poisson(counts) >= threshold, counts) for _ in range(50)]
    assert max(of["auroc"] for of in elsewhere.model.metrics["metro"].values()) < ceiling < 1
    assert ceiling < np.mean(drawn) + 0.02
    told = next(line for line in elsewhere.lines() if "ceiling" in line and line.lstrip().startswith("metro"))
    assert f"{ceiling:.3f}" in told
    assert set(elsewhere.model.evaluation.road_to_ceiling["metro"]) >= {"facts"}


def test_its_baselines_learned_where_the_model_did(
    trained: Trained, metros: dict[str, Dataset], elsewhere: Evaluated
) -> None:
    threshold = trained.model.provenance["label"]["threshold"]
    learned, unseen = (eligible(metros[name], threshold) for name in ("a", "b"))
    share = learned["high"].mean()
    found = elsewhere.model.metrics["metro"]
    assert found["base_rate"]["brier"] == pytest.approx(np.mean((share - unseen["high"]) ** 2))
    # metres a square kilometre, of tiles that are equally large
    x, asked = (np.log1p(of["road_m"].to_numpy() / 0.064**2)[:, None] for of in (learned, unseen))
    middle, spread = x.mean(), x.std()
    theirs = LogisticRegression().fit((x - middle) / spread, learned["high"])
    expected = roc_auc_score(unseen["high"], theirs.decision_function((asked - middle) / spread))
    assert found["road_length"]["auroc"] == pytest.approx(expected, abs=2e-3)


def test_what_was_known_stays(trained: Trained, elsewhere: Evaluated, metros: dict[str, Dataset]) -> None:
    kept = {split: of for split, of in elsewhere.model.metrics.items() if split != "metro"}
    assert kept == trained.model.metrics
    before, after = trained.model.evaluation, elsewhere.model.evaluation
    for name in ("picture", "folds", "importance", "findings", "next_period", "places"):
        assert getattr(after, name) == getattr(before, name), name
    n = elsewhere.model.metrics["metro"]["facts"]["n"]
    assert elsewhere.told == (f"{metros['b'].path}: {n} tiles that the model did not learn from",)
    assert read_model(trained.path).metrics == trained.model.metrics, "the model itself was changed"


def test_several_metros_stand_under_their_names(
    trained: Trained, metros: dict[str, Dataset], elsewhere: Evaluated, roadrisk: Roadrisk, tmp_path: Path
) -> None:
    report = tmp_path / "r.html"
    paths = [metros[name].path for name in "abd"]
    run = roadrisk("evaluate", trained.path, *paths, "-o", report)
    assert (run.code, run.out.strip()) == (0, str(report))
    assert f"{paths[0]} is what the model was trained on: " in run.err
    found = evaluate(trained.path, paths)
    assert set(found.model.metrics) == {*trained.model.metrics, "metro b", "metro d"}
    assert found.model.metrics["metro b"] == elsewhere.model.metrics["metro"]
    lines = [line.split() for line in run.err.splitlines()]
    for name in "bd":
        of = found.model.metrics[f"metro {name}"]["facts"]
        [row] = [line for line in lines if line[:3] == ["metro", name, "facts"]]
        assert f"{of['auroc']:.3f}" in row
        assert f"A metro never seen: {name}" in report.read_text()
        assert f"{of['auroc']:.3f}" in report.read_text()


def test_metros_of_one_name_stand_under_their_paths(
    trained: Trained, metros: dict[str, Dataset], tmp_path: Path
) -> None:
    namesake = changed(metros["d"], tmp_path / "d", lambda manifest: manifest.update(name="b"))
    found = evaluate(trained.path, [metros["b"].path, namesake]).model.metrics
    assert set(found) == {*trained.model.metrics, f"metro {metros['b'].path}", f"metro {namesake}"}


def test_a_dataset_twice_is_refused(trained: Trained, metros: dict[str, Dataset], tmp_path: Path) -> None:
    again = tmp_path / "b"
    shutil.copytree(metros["b"].path, again)
    said = refusal(trained.path, [metros["b"].path, metros["d"].path, again])
    assert said == f"{again} is {metros['b'].path} again; leave one out"


# the same tiles


def test_the_same_tiles_with_a_later_window_are_the_next_period(
    trained: Trained, metros: dict[str, Dataset], tmp_path: Path
) -> None:
    later = with_manifest(
        with_tiles(
            metros["a"],
            tmp_path / "later",
            lambda rows: rows.update({"crashes_label": rows["crashes_label"].to_numpy()[::-1]}),
        ),
        later_window,
    )
    model = evaluate(trained.path, [later], tmp_path / "r.html")
    found, of = model.model.metrics, model.model.metrics["temporal"]
    assert set(found) == {"spatial", "random", "temporal"}
    assert found["spatial"] == trained.model.metrics["spatial"]
    assert set(of) == {"facts", "base_rate", "road_length"}
    tiles = eligible(metros["a"], trained.model.provenance["label"]["threshold"])
    assert of["facts"]["n"] == len(tiles)
    assert model.told == (
        f"{later}: {len(tiles)} tiles that the model learned from, in a later period: "
        "2025-01-01 to before 2026-01-01",
    )
    about = model.model.evaluation.next_period
    assert about is not None
    assert (about.fitted, about.judged) == (("2024-01-01", "2025-01-01"), tuple(LATER))
    assert (about.past_judged, about.tiles, about.consistency) == (None, len(tiles), ())
    text = (tmp_path / "r.html").read_text()
    assert "Fitted on events of 2024" in text
    assert "judged on those of 2025" in text
    assert not any(
        one.split == "temporal" and one.b == "boosting" for one in model.model.evaluation.differences
    )
    assert "temporal" not in set(model.model.out_of_fold["split"])


def test_new_tiles_beside_a_later_period_are_counted(
    trained: Trained, metros: dict[str, Dataset], tmp_path: Path
) -> None:
    later = with_manifest(with_tiles(metros["a"], tmp_path / "later", in_rows(2)), later_window)
    found = evaluate(trained.path, [later])
    rows = metros["a"].tiles()
    new = int((rows["eligible"] & (rows["row"] < 2)).sum())
    [said] = found.told
    assert said.endswith(f"2025-01-01 to before 2026-01-01; {new} others are left out")
    assert found.model.metrics["temporal"]["facts"]["n"] == trained.model.provenance["tiles"] - new


def in_rows(count: int) -> Callable[[pd.DataFrame], object]:
    """A change that gives the tiles of so many rows ids that no model knows."""

    def change(rows: pd.DataFrame) -> None:
        north = rows["row"] < count
        rows.loc[north, "tile_id"] = "new/" + rows.loc[north, "tile_id"]

    return change


def test_the_same_tiles_and_window_are_refused(
    trained: Trained, metros: dict[str, Dataset], tmp_path: Path, roadrisk: Roadrisk
) -> None:
    same = with_manifest(with_tiles(metros["a"], tmp_path / "same", lambda rows: None), lambda manifest: None)
    why = (
        f"{same} has only tiles that the model learned from or beside them, and no label of after 2025-01-01; "
        "evaluate it on another metro or on a later label window"
    )
    assert refusal(trained.path, [same]) == why
    run = roadrisk("evaluate", trained.path, same)
    assert (run.code, run.err.strip()) == (1, f"roadrisk: {why}")
    earlier = with_manifest(
        with_tiles(metros["a"], tmp_path / "earlier", lambda rows: None),
        lambda manifest: column(manifest, "crashes_label").update(window=["2023-01-01", "2024-01-01"]),
    )
    assert refusal(trained.path, [earlier]) == why.replace(str(same), str(earlier))


def test_tiles_that_are_known_in_part_are_left_out_and_counted(
    trained: Trained, metros: dict[str, Dataset], tmp_path: Path
) -> None:
    """Of the rows of a, the 7 northern ones are new, of which the first lies beside what was learned from."""
    north = with_manifest(with_tiles(metros["a"], tmp_path / "north", in_rows(7)), lambda manifest: None)
    found = evaluate(trained.path, [north])
    rows = geopandas.read_parquet(north / "tiles.parquet").set_index("tile_id")
    rows = rows[rows["eligible"]]
    judged = rows[rows["row"] < 6]
    assert found.told == (
        f"{north}: {len(judged)} tiles that the model did not learn from; {len(rows) - len(judged)} that it "
        "learned from or that lie beside them are left out",
    )
    of = found.model.metrics["metro"]["facts"]
    score(north, trained.path, [tmp_path / "n.csv"])
    risk = -pd.read_csv(tmp_path / "n.csv").set_index("tile_id")["rank"]
    high = judged["crashes_label"] >= trained.model.provenance["label"]["threshold"]
    assert of["n"] == len(judged)
    assert of["auroc"] == pytest.approx(roc_auc_score(high, risk.reindex(judged.index)), abs=1e-2)


# what cannot be judged


def test_what_cannot_be_judged_is_one_line(
    trained: Trained, metros: dict[str, Dataset], tmp_path: Path
) -> None:
    calm = with_tiles(
        metros["b"], tmp_path / "calm", lambda rows: rows.update({"crashes_label": 0 * rows["crashes_label"]})
    )
    tiles = int(metros["b"].tiles()["eligible"].sum())
    threshold = trained.model.provenance["label"]["threshold"]
    assert refusal(trained.path, [calm]) == (
        f"{calm}: all {tiles} tiles that can be judged are below {threshold:g} crashes_label, so there is "
        "nothing to tell apart; give a metro or a window with both kinds"
    )
    blind = changed(
        metros["b"],
        tmp_path / "blind",
        lambda manifest: manifest["columns"].remove(column(manifest, "crashes_label")),
    )
    assert refusal(trained.path, [blind]) == (
        f"{blind}: no tile is eligible and has crashes_label, which the model learned; tile it with the same "
        "sources"
    )
    with pytest.raises(ModelError, match="was trained on other tiles than"):
        evaluate(trained.path, [metro_dataset(tmp_path, "wide", 5, cell=96.0).path])


def test_a_report_that_cannot_be_written_is_refused_before_any_work(trained: Trained, tmp_path: Path) -> None:
    assert refusal(trained.path, [], tmp_path / "r.pdf") == (
        f"-o {tmp_path / 'r.pdf'}: the report is an .html file"
    )
    assert refusal(trained.path, [], tmp_path / "no/r.html") == (
        f"-o {tmp_path / 'no/r.html'}: there is no folder {tmp_path / 'no'}"
    )


def test_robustness_asks_for_what_it_learned_from(trained: Trained, metros: dict[str, Dataset]) -> None:
    why = "--robustness trains anew: give the DATASET that the model was trained on, too"
    with pytest.raises(UsageError, match=why):
        evaluate(trained.path, [metros["b"].path], robustness=True)


# counts and values


@pytest.mark.parametrize("task", ["count", "value"])
def test_counts_and_values_are_judged_elsewhere(
    task: Any, metros: dict[str, Dataset], tmp_path: Path
) -> None:
    settings = replace(FACTS, task=task, label="crashes_label", epochs=1, quick=True)
    train(metros["a"].path, tmp_path / "m", settings)
    found = evaluate(tmp_path / "m", [metros["b"].path], tmp_path / "r.html").model
    of = found.metrics["metro"]["facts"]
    score(metros["b"].path, tmp_path / "m", [tmp_path / "b.csv"])
    scored = pd.read_csv(tmp_path / "b.csv").set_index("tile_id")
    tiles = metros["b"].tiles().set_index("tile_id")
    tiles = tiles[tiles["eligible"]]
    said = scored.reindex(tiles.index)["expected" if task == "count" else "predicted"]
    assert of["mae"] == pytest.approx((said - tiles["crashes_label"]).abs().mean(), rel=1e-4)
    learned = metros["a"].tiles()
    mean = learned.loc[learned["eligible"], "crashes_label"].mean()
    base = found.metrics["metro"]["base_rate"]
    assert base["mae"] == pytest.approx((mean - tiles["crashes_label"]).abs().mean(), rel=1e-6)


# older models


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_models_of_every_format_are_evaluated(
    number: int, metros: dict[str, Dataset], tmp_path: Path
) -> None:
    path = FORMATS / f"model-{number}"
    found = evaluate(path, report=tmp_path / "r.html")
    metrics = json.loads((path / "model.json").read_text())["metrics"]
    assert found.model.metrics == metrics
    rows = [line.split() for line in found.lines()]
    for split in ("spatial", "random"):
        [row] = [row for row in rows if row[:2] == [split, "fused"]]
        assert f"{metrics[split]['fused']['auroc']:.3f}" in row
    assert (tmp_path / "r.html").stat().st_size > 10_000
    # 64 m tiles of the same sources, elsewhere
    there = evaluate(path, [metros["b"].path])
    of = there.model.metrics["metro"]
    assert set(of) == ({"fused", "base_rate", "road_length"} if number > 4 else {"fused"})
    assert of["fused"]["n"] == int(metros["b"].tiles()["eligible"].sum())


@pytest.mark.parametrize("number", [3, 4])
def test_older_models_know_a_later_window_too(number: int, tmp_path: Path) -> None:
    model, later = tmp_path / "model", tmp_path / "later"
    shutil.copytree(FORMATS / f"model-{number}", model)
    manifest = json.loads((model / "model.json").read_text())
    manifest["provenance"]["datasets"][0]["identity"] = "of the earlier window"
    (model / "model.json").write_text(json.dumps(manifest))
    shutil.copytree(FORMATS / "dataset-3", later)
    assert "has only tiles that the model learned from" in refusal(model, [later])
    told = json.loads((later / "dataset.json").read_text())
    later_window(told)
    (later / "dataset.json").write_text(json.dumps(told))
    found = evaluate(model, [later])
    assert found.model.metrics["temporal"]["fused"]["n"] == 63
    assert "in a later period: 2025-01-01 to before 2026-01-01" in found.told[0]
