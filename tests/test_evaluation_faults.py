"""Bad input of `evaluate` and of what `train` judges: one line, its exit code, nothing written, nothing run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from period_examples import place, tiled
from scored_examples import HOSTILE
from small_tables import flags, small_table, without_bars, written_table

from roadrisk.dataset import Dataset
from roadrisk.files import sha256_of
from roadrisk.learning.settings import TrainSettings
from roadrisk.training import train

Roadrisk = Callable[..., Any]
Change = Callable[[dict[str, Any]], object]
WINDOW, LATER = ("2023-01-01", "2024-01-01"), ("2024-01-01", "2025-01-01")
SETTINGS = TrainSettings(inputs="facts", epochs=1)
ON_FACTS = ("--inputs", "facts", "--epochs", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place, the same later, and a model of it whose report and both questions are there."""
    folder = tmp_path_factory.mktemp("made")
    region = place(folder / "sources")
    tiled(region, folder / "place", label_window=WINDOW)
    tiled(region, folder / "later", label_window=LATER)
    train(folder / "place", folder / "m", SETTINGS)
    return folder


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A place with a few crashes a year, each in a tile of its own."""
    folder = tmp_path_factory.mktemp("quiet")
    return tiled(place(folder / "sources", mean=0.004, hidden=0.0), folder / "d", label_window=LATER)


def refused(run: Any, code: int, line: str, folder: Path) -> None:
    """One line, its exit code, nothing on stdout, and nothing left in the folder."""
    assert without_bars(run.err) == [f"roadrisk: {line}"]
    assert (run.code, run.out) == (code, "")
    assert not list(folder.iterdir())


def changed(made: Path, out: Path, change: Change) -> Path:
    """A copy of the model with another manifest."""
    shutil.copytree(made / "m", out)
    manifest = json.loads((out / "model.json").read_text())
    change(manifest)
    (out / "model.json").write_text(json.dumps(manifest))
    return out


# what is judged


def test_too_few_places_of_high_risk_say_how_many_are_needed(
    quiet: Dataset, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    run = roadrisk("train", quiet.path, *ON_FACTS, "-o", tmp_path / "m")
    refused(
        run,
        1,
        "no folds hold out whole places: fold 1 of 3 learns from no tile of high risk: 3 of 42 blocks of 4 x 4 "
        "tiles hold one, 3 are needed, farther apart than the buffer of 1, with blocks of 4 x 4 tiles (2,000 m), "
        "four of the widest view; use a larger region or views that reach less far, or say --folds and --block",
        tmp_path,
    )


def test_weights_of_nothing_are_refused(tmp_path: Path, roadrisk: Roadrisk) -> None:
    region = place(tmp_path / "sources")
    (tmp_path / "region.toml").write_text(
        f"bbox = {list(region.bbox or ())}\ncell = 500\ncrs = '{region.crs}'\n"
        f"label_window = {list(LATER)}\n[[roads]]\npath = 'sources/roads.gpkg'\n[[crashes]]\n"
        "path = 'sources/crashes.csv'\nx = 'x'\ny = 'y'\ncrs = 'EPSG:26919'\nseverity = 'severity'\n"
        "weights = { K = 0, A = 0, B = 0, C = 0, O = 0 }\n"
    )
    run = roadrisk("tile", tmp_path / "region.toml", "-o", tmp_path / "d")
    assert run.code == 1
    assert without_bars(run.err)[-1].endswith(
        "all weights are 0, so no event would weigh anything; give one above 0, or leave weights out"
    )


@pytest.mark.parametrize("inputs", ["auto", "both", "image"])
def test_a_side_that_is_not_there_is_named(
    made: Path, tmp_path: Path, roadrisk: Roadrisk, inputs: str
) -> None:
    run = roadrisk("train", made / "place", "--inputs", inputs, "--encoder", "basic", "-o", tmp_path / "m")
    line = "no labelled tile has a picture; use --inputs facts, or tile with --imagery"
    refused(run, 1, line, tmp_path)


# what evaluate is given


def test_folders_that_are_no_model(made: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    for path, why in (
        (tmp_path / "no", "no such model folder;"),
        (made / "place", "is not a roadrisk model: it has no model.json;"),
    ):
        run = roadrisk("evaluate", path)
        (said,) = without_bars(run.err)
        assert (run.code, why in said) == (1, True), said
        assert said.endswith("give the folder that roadrisk train wrote")


def test_tiles_that_the_model_does_not_fit(
    made: Path, quiet: Dataset, dataset: Dataset, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    table = written_table(small_table(), made / "table.csv")
    out = tmp_path / "r.html"
    for data, said in (
        (dataset.path, "tiles are 64.03 m wide, not 500"),
        (table, "no column road_m_primary; no column road_m_residential; road_m is in no unit, not m"),
        (made / "sources" / "roads.gpkg", "is neither a dataset folder nor a .csv or .parquet table"),
        (made / "m", "is no dataset: it holds no dataset.json"),
        (tmp_path / "no", "no such dataset or table"),
        (
            quiet.path,
            "all 529 tiles that can be judged are below 4 crashes_label, so there is nothing to tell apart; "
            "give a metro or a window with both kinds",
        ),
    ):
        run = roadrisk("evaluate", made / "m", data, "-o", out)
        (line,) = without_bars(run.err)
        assert (run.code, run.out) == (1, "")
        assert said in line
        assert not list(tmp_path.iterdir())


def test_reports_that_cannot_be_written_are_refused_before_the_work(
    made: Path, tmp_path: Path, roadrisk: Roadrisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder.html"
    folder.mkdir()
    for out, line in (
        (tmp_path / "r.pdf", "-o {out}: the report is an .html file"),
        (tmp_path / "no" / "r.html", "-o {out}: there is no folder {out.parent}"),
        (folder, "-o {out} is a folder; give the name of an .html file"),
    ):
        run = roadrisk("evaluate", made / "m", "-o", out)
        assert (run.code, without_bars(run.err)) == (2, [f"roadrisk: {line.format(out=out)}"])
    # the only folder that not even root may write to
    run = roadrisk("evaluate", made / "m", made / "later", "-o", "/proc/r.html")
    assert run.code == 1
    (said,) = without_bars(run.err)
    assert said.startswith("roadrisk: -o /proc/r.html cannot be written (")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_devices_that_nobody_knows(made: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    run = roadrisk("evaluate", made / "m", made / "later", "--device", "tpu")
    refused(run, 2, "--device tpu is not known; use auto, cpu or cuda", tmp_path)


def test_robustness_needs_what_the_model_was_trained_on(
    made: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    for data in ((), (made / "later",)):
        run = roadrisk("evaluate", made / "m", *data, "--robustness")
        line = "--robustness trains anew: give the DATASET that the model was trained on, too"
        refused(run, 2, line, tmp_path)


# models from somewhere else


def set_to(*path: Any) -> Change:
    """A change that puts the last of these where the others lead."""
    *steps, last, value = path

    def change(manifest: dict[str, Any]) -> None:
        for step in steps:
            manifest = manifest[step]
        manifest[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (set_to("calibration", "platt"), "calibration: "),
        (set_to("calibration", "knots", [[float("nan"), 0.5], [1, 0.7]]), "calibration.knots.0.0: "),
        (set_to("calibration", "knots", []), "calibration: "),
        (set_to("dispersion", {"k": 1.0, "form": "k"}), "a model of a class has no dispersion"),
        (set_to("evaluation", []), "evaluation: "),
        (set_to("evaluation", "findings", HOSTILE), "evaluation.findings: "),
        (set_to("evaluation", "intervals", {"spatial": {"facts": {"auroc": [float("nan"), 1]}}}),
         "evaluation.intervals.spatial.facts.auroc.0: "),
        (set_to("evaluation", "folds", "block_m", 1e308), "evaluation.folds.block_m: "),
        (set_to("metrics", "spatial", "facts", "auroc", HOSTILE), "metrics.spatial.facts.auroc."),
        (set_to("metrics", "spatial", "facts", "auroc", [1, 2]), "metrics.spatial.facts.auroc."),
        (set_to("metrics", "spatial", "facts", "auroc", float("nan")), "metrics.spatial.facts.auroc."),
        (set_to("metrics", "spatial", "facts", "auroc", True), "metrics.spatial.facts.auroc."),
        (set_to("provenance", "datasets", HOSTILE), "provenance.datasets: "),
        (set_to("provenance", "settings", HOSTILE), "provenance.settings: "),
        (set_to("provenance", "settings", "seed", "x"), "provenance.settings.seed: "),
        (set_to("provenance", "notes", 3), "provenance.notes: "),
        (set_to("provenance", "left_out", [HOSTILE]), "provenance.left_out: "),
        (set_to("provenance", "asked_for", 7), "provenance.asked_for: "),
        (set_to("provenance", "tiles", HOSTILE), "provenance.tiles: "),
        (set_to("provenance", "block_tiles", "x"), "provenance.block_tiles: "),
        (set_to("provenance", "buffer_tiles", -7), "provenance.buffer_tiles: "),
    ],
)  # fmt: skip
def test_manifests_with_values_of_another_kind_are_refused(
    made: Path, tmp_path: Path, roadrisk: Roadrisk, change: Change, where: str
) -> None:
    damaged, out = changed(made, tmp_path / "m", change), tmp_path / "out"
    out.mkdir()
    for command in ("evaluate", damaged, "-o", out / "r.html"), ("info", damaged):
        run = roadrisk(*command)
        (said,) = without_bars(run.err)
        assert (run.code, run.out) == (1, "")
        assert said.startswith(f"roadrisk: {damaged} is not a whole roadrisk model ("), said
        assert where in said
        assert not list(out.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["metrics"]["spatial"].pop("facts"),
        set_to("metrics", {}),
        set_to("metrics", "random", {}),
        set_to("evaluation", {}),
        set_to("calibration", None),
        lambda m: m["provenance"].pop("datasets"),
        lambda m: m["provenance"].pop("settings"),
    ],
)
def test_what_a_manifest_does_not_know_is_left_out(
    made: Path, tmp_path: Path, roadrisk: Roadrisk, change: Change
) -> None:
    bare, out = changed(made, tmp_path / "m", change), tmp_path / "r.html"
    run = roadrisk("evaluate", bare, "-o", out)
    assert run.code == 0, run.err
    assert run.out.split() == [str(out)]


def hostile(manifest: dict[str, Any]) -> None:
    """Markup wherever a manifest holds words."""
    about, evaluation = manifest["provenance"], manifest["evaluation"]
    manifest["metrics"][HOSTILE] = {HOSTILE: {HOSTILE: 0.5}}
    about["datasets"][0]["name"] = about["label"]["meaning"] = HOSTILE
    about["notes"] = about["choices"] = about["warnings"] = about["facts"] = [HOSTILE]
    about["left_out"] = about["asked_for"] = {HOSTILE: HOSTILE}
    evaluation["findings"] = [{"check": HOSTILE, "leak": True, "text": f"{HOSTILE}\n\x1b[31m"}]
    evaluation["picture"] = evaluation["chosen"] = evaluation["folds"]["rule"] = HOSTILE
    evaluation["places"][0] |= {"key": HOSTILE, "facts": [[HOSTILE, HOSTILE]]}
    manifest["columns"][0]["meaning"] = HOSTILE


def test_markup_in_a_manifest_is_letters(made: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    model, out = changed(made, tmp_path / "m", hostile), tmp_path / "r.html"
    run = roadrisk("evaluate", model, "-v", "-o", out)
    assert run.code == 0, run.err
    assert "\x1b" not in run.err
    assert f"LEAK? {HOSTILE}" in run.err
    html = out.read_text()
    assert HOSTILE not in html
    assert html.count("&lt;/script&gt;") >= 15
    assert roadrisk("info", "-v", model).code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *((lambda t, name=name: t.drop(columns=name), f"folds.parquet lacks {name}")
          for name in ("split", "key", "fold", "label", "high", "events", "road_m", "covered", "block")),
        (lambda t: t.assign(label=5.0), "label in folds.parquet is not of the 2 classes of the model"),
        (lambda t: t.assign(label=1.0), "label in folds.parquet is not of the 2 classes of the model"),
        (lambda t: t.assign(events="x"), "events in folds.parquet is not finite numbers"),
        (lambda t: t.assign(high="x"), "high in folds.parquet is not true or false"),
        (lambda t: t.assign(block="x"), "block in folds.parquet is not whole numbers of all tiles or of none"),
        (lambda t: t.iloc[:0], "folds.parquet names folds that the model does not have"),
    ],
)  # fmt: skip
def test_predictions_with_columns_of_another_kind_are_refused(
    made: Path, tmp_path: Path, roadrisk: Roadrisk, change: Any, said: str
) -> None:
    """Also where the checksum was made to fit."""
    model = tmp_path / "m"
    shutil.copytree(made / "m", model)
    change(pd.read_parquet(model / "folds.parquet")).to_parquet(model / "folds.parquet", index=False)
    manifest = json.loads((model / "model.json").read_text())
    manifest["sha256"]["folds.parquet"] = sha256_of(model / "folds.parquet")
    (model / "model.json").write_text(json.dumps(manifest))
    run = roadrisk("evaluate", model, made / "later")
    line = f"roadrisk: {model} is not a whole roadrisk model ({said}); train it again"
    assert (run.code, without_bars(run.err)) == (1, [line])


# planted leaks: each is named where nobody can miss it

SIDE = 20
TABLE_FLAGS = flags(
    inputs="facts", encoder=None, quick=False, folds=None, exclude=("level", "events", "cost")
)


def leaks_of(run: Any, out: Path, name: str) -> str:
    """The one leak that is told, on the console, in the model and first in the report."""
    assert run.code == 0, run.err
    (said,) = (line for line in run.err.splitlines() if line.startswith("LEAK? "))
    assert name in said
    findings = json.loads((out / "model.json").read_text())["evaluation"]["findings"]
    (text,) = (found["text"] for found in findings if found["leak"])
    assert said.endswith(text)
    html = (out / "report.html").read_text()
    assert html.index("Do not quote these scores: 1 check found a leak") < html.index('id="new-place"')
    return said


def around(label: np.ndarray) -> np.ndarray:
    """Mean of the 3 x 3 tiles around each of a square of them."""
    padded = np.pad(label.reshape(SIDE, SIDE), 1, mode="edge")
    return sum(padded[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)).ravel() / 9


@pytest.mark.slow
def test_a_count_of_the_label_window_is_named(tmp_path: Path, roadrisk: Roadrisk) -> None:
    rows = small_table(side=SIDE)
    table = written_table(rows.assign(tows=rows["events"]), tmp_path / "t.csv")
    run = roadrisk(
        "train", table, "--label", "events", "--task", "count", "--exclude", "level,high,cost",
        *ON_FACTS, "-o", tmp_path / "m",
    )  # fmt: skip
    assert "find out what it counts, or --exclude tows" in leaks_of(
        run, tmp_path / "m", "suspicious facts: tows"
    )


@pytest.mark.slow
def test_labels_of_neighbours_are_named(tmp_path: Path, roadrisk: Roadrisk) -> None:
    rows = small_table(side=SIDE)
    smooth = around((rows["high"] == "yes").to_numpy(float))
    table = written_table(rows.assign(near=smooth), tmp_path / "t.csv")
    run = roadrisk("train", table, *TABLE_FLAGS, "-o", tmp_path / "m")
    assert "--exclude near" in leaks_of(run, tmp_path / "m", "labels of neighbours: near")


@pytest.mark.slow
def test_a_tile_that_is_there_twice_is_named(tmp_path: Path, roadrisk: Roadrisk) -> None:
    rows = small_table(side=SIDE)
    rows.loc[SIDE * SIDE - 1, "image_path"] = rows.loc[0, "image_path"]
    table = written_table(rows, tmp_path / "t.csv")
    shown = flags(quick=False, folds=None, exclude=("level", "events", "cost"))
    run = roadrisk("train", table, *shown, "-o", tmp_path / "m")
    said = leaks_of(run, tmp_path / "m", "duplicates: 2 tested tiles have the very picture")
    assert "keep one of each" in said
