"""`info` of a road model, of a dataset with drawn views, and what other commands say of a road model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from road_report_examples import metrics_of
from typer.testing import CliRunner

from roadrisk.cli import app, main
from roadrisk.errors import DatasetError, ModelError
from roadrisk.information import info
from roadrisk.learning.model import read_model
from roadrisk.nets.segmentation import RoadNN
from roadrisk.roads.judging.measures import units_table
from roadrisk.roads.model import RoadArchitecture, RoadModel, write_road_model

FORMATS = Path(__file__).parent / "formats"
WHENCE = {"identity": "0123456789abcdef" * 4, "source": "pairs", "told": ["60 pairs", "masks above 127"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole road model that learned nothing."""
    torch.manual_seed(0)
    metrics = metrics_of({"model": 0.6, "colour": 0.3})
    metrics["model"]["apls"] = {"value": None, "low": None, "high": None, "folds": [None]}
    model = RoadModel(
        architecture=RoadArchitecture("unet", "resnet18", 3, 2),
        mean=(100.0, 101.0, 102.0),
        std=(40.0, 41.0, 42.0),
        level=117,
        metres_per_pixel=0.9771,
        stretch=((1.0, 1000.0), (2.0, 900.0), (3.0, 800.0)),
        state={
            name: value.contiguous() for name, value in RoadNN("unet", "resnet18", 3, 2).state_dict().items()
        },
        metrics=metrics,
        provenance={
            **WHENCE,
            "rule": "5 folds of pictures",
            "judged_on": "5 folds, each on what it did not see",
            "holdout": {"west": metrics_of({"model": 0.5}, intervals=False)},
            "settings": {"decoder": "unet", "view": "aerial", "widths_m": {}, "seed": 0},
            "versions": {"roadrisk": "0.7.0"},
        },
        units=units_table([]),
    )
    out = tmp_path_factory.mktemp("models") / "roads"
    write_road_model(model, out, "<p>page</p>")
    return out


def _copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "m"))


def test_a_road_model_says_what_it_is_and_how_good(folder: Path) -> None:
    lines = info(folder).lines()
    size = sum(
        (folder / name).stat().st_size for name in ("roads.json", "roads.safetensors", "units.parquet")
    )
    assert lines[:13] == [
        f"road model: whole, 3 files as they were written, {size / 1e6:,.1f} MB",
        "unet on resnet18, pictures of 3 bands, 2 x 2 pixels seen as one",
        "learned from pairs (0123456789abcdef)",
        "pixels of 0.977 m",
        "road is from level 117 of 255 on",
        "pictures are stretched to 8 bit: 1 to 1000, 2 to 900, 3 to 800",
        "60 pairs",
        "masks above 127",
        "5 folds of pictures",
        "settings: decoder unet, seed 0, view aerial",
        "made by roadrisk 0.7.0",
        f"report: {folder / 'report.html'}",
        "",
    ]
    assert lines[13] == "5 folds, each on what it did not see"
    assert lines[14].split("  ")[1] == "method"
    own, colour = (next(line for line in lines[14:] if name in line) for name in ("the network", "a colour"))
    assert own.split("  ")[2:] != colour.split("  ")[2:]
    assert "0.600 (0.569 to 0.629)" in own
    assert own.endswith(" -")
    assert "west, never learned from" in lines
    assert "0.500" in lines[-1]
    assert "(" not in lines[-1]


def test_programs_get_the_same(folder: Path) -> None:
    told: dict[str, Any] = json.loads(CliRunner().invoke(app, ["info", str(folder), "--json"]).stdout)
    assert told["kind"] == "road model"
    assert told["whole"] is True
    kept = json.loads((folder / "roads.json").read_text())
    assert {
        name: told[name] for name in ("architecture", "level", "metres_per_pixel", "metrics", "provenance")
    } == {name: kept[name] for name in ("architecture", "level", "metres_per_pixel", "metrics", "provenance")}


def test_a_road_model_that_is_not_whole(folder: Path, tmp_path: Path) -> None:
    copy = _copy(folder, tmp_path)
    (copy / "units.parquet").unlink()
    with pytest.raises(ModelError, match=r"units\.parquet is missing or not the file that was written"):
        info(copy)
    other = _copy(folder, tmp_path / "b")
    manifest = json.loads((other / "roads.json").read_text())
    del manifest["provenance"]["identity"]
    (other / "roads.json").write_text(json.dumps(manifest))
    with pytest.raises(
        ModelError, match=r"^\S+roads\.json is damaged \(KeyError: 'identity'\); train the model again$"
    ):
        info(other)


def test_a_model_of_risk_is_asked_for_by_name(folder: Path) -> None:
    said = (
        f"{folder} is a road model, which draws roads and scores no risk; use it with "
        "`roadrisk roads apply --model`, or give the folder that roadrisk train wrote"
    )
    with pytest.raises(ModelError) as caught:
        read_model(folder)
    assert str(caught.value) == said


@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_commands_of_risk_say_what_a_road_model_is_for(
    folder: Path,
    tmp_path: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset, out = str(FORMATS / "dataset-3"), str(tmp_path / "a.gpkg")
    words = {
        "score": [dataset, "--model", str(folder), "-o", out],
        "evaluate": [str(folder), dataset, "-o", str(tmp_path / "r.html")],
    }
    monkeypatch.setattr("sys.argv", ["roadrisk", command, *words[command]])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "is a road model, which draws roads and scores no risk" in capsys.readouterr().err.replace(
        "\n", " "
    )


def test_a_dataset_says_which_model_drew_a_view(tmp_path: Path) -> None:
    dataset = Path(shutil.copytree(FORMATS / "dataset-3", tmp_path / "d"))
    manifest = json.loads((dataset / "dataset.json").read_text())
    assert "drawn" not in info(dataset).lines()
    notes = {"model": "f" * 64, "model_source": "pairs", "view": "aerial", "level": 117, "columns": []}
    manifest["drawn"] = {
        "roads": {**notes, "specks_m2": 0.0, "gaps_m": 0.0},
        "roads_probability": {**notes, "specks_m2": 40.0, "gaps_m": 2.5},
    }
    (dataset / "dataset.json").write_text(json.dumps(manifest))
    found = info(dataset)
    drawn = "drawn on aerial by the road model ffffffffffffffff, learned from pairs; road from level 117 of 255 on"
    assert f"roads: {drawn}, not cleaned" in found.lines()
    assert f"roads_probability: {drawn}, without pieces below 40 m2, gaps closed up to 2.5 m" in found.lines()
    assert found.as_json()["drawn"] == manifest["drawn"]
    del manifest["drawn"]["roads"]["level"]
    (dataset / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match=r"is damaged \(KeyError: 'level'\); tile again"):
        info(dataset)
