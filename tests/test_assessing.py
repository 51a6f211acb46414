"""What `train` finds out about a model is the same on disk, on the console and in the report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from small_tables import quick, small_table, written_table
from test_predictions import judged as judged_tiles

from roadrisk.assessing import AUTO, _simplest, _with_chosen
from roadrisk.comparing import Comparison, Contestant
from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError, UsageError
from roadrisk.gathering import gathered
from roadrisk.inputs import tiles_at
from roadrisk.learning.judging.calibration import fitted_calibration, logit_of_riskiest
from roadrisk.learning.judging.ceiling import Ceiling
from roadrisk.learning.judging.judged import judged
from roadrisk.learning.judging.predictions import OutOfFold, outcomes_of
from roadrisk.learning.model import read_model
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import Task
from roadrisk.learning.validation import Watched
from roadrisk.scoring import score
from roadrisk.training import Trained, train
from tests.metro_examples import metro_dataset

SETTINGS = TrainSettings(encoder="basic", epochs=1, batch_size=64, folds=3, block_m=192)
Roadrisk = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All that is compared, on a made-up metro; tests only read it."""
    return train(dataset.path, tmp_path_factory.mktemp("assessed") / "m", SETTINGS)


@pytest.fixture(scope="module")
def told(trained: Trained) -> dict[str, Any]:
    """Its `model.json`."""
    return dict(json.loads((trained.path / "model.json").read_text()))


class Cells(HTMLParser):
    """The cells of a page's tables, a list a row, by section."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self._section, self._inside = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = str(dict(attrs)["id"])
        if tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self.rows[self._section][-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[self._section][-1][-1] += f" {data.strip()}"


# one evaluation, three places


def test_all_that_is_promised_is_there(told: dict[str, Any]) -> None:
    of = told["evaluation"]
    assert set(told["metrics"]) == set(of["intervals"]) == {"spatial", "random", "temporal"}
    for split, models in told["metrics"].items():
        assert {"fused", "image", "facts", "road_length", "logistic", "boosting"} <= set(models)
        assert {one["n"] for one in models.values()} == {told["provenance"]["tiles"]}
        for name, one in models.items():
            low, high = of["intervals"][split][name]["auroc"]
            assert low <= one["auroc"] <= high
            assert 0.5 < one["ceiling_auroc"] <= 1
            assert ("brier_calibrated" in one) == (split != "temporal")
    assert set(of["curves"]) == {"spatial", "temporal"}
    assert all(curves["roc"] and curves["reliability"] for curves in of["curves"]["spatial"].values())
    apart = {(one["split"], one["a"], one["b"], one["tiles"]) for one in of["differences"]}
    assert ("spatial", "fused", "facts", "all") in apart
    assert ("temporal", "fused", "empirical_bayes", "all") in apart
    assert not [one for one in apart if one[0] == "random"]
    assert of["picture"].startswith("Whether the picture helps cannot be said: ")
    assert (of["folds"]["folds"], of["folds"]["block_m"]) == (3, pytest.approx(192, rel=1e-3))
    assert {one["group"] for one in of["importance"]} == {"aerial", "roads"}
    assert {"feature windows", "duplicates", "shuffled labels"} <= {one["check"] for one in of["findings"]}
    assert [one["list"] for one in of["places"]] == ["riskiest"] * 10 + ["underrated"] * 10
    assert of["next_period"]["judged"] == ["2024-01-01", "2025-01-01"]
    assert told["calibration"] is not None
    assert of["chosen"] == ""


def test_the_table_of_predictions_alone_gives_the_same_numbers(trained: Trained) -> None:
    """Measures, intervals, differences, curves, the picture's sentence and the calibration."""
    model = read_model(trained.path)
    task, threshold = model.architecture.task, model.provenance["label"]["threshold"]
    splits = {name: outcomes_of(model.out_of_fold, name, task, threshold) for name in model.metrics}
    assert list(splits) == ["random", "spatial", "temporal"]
    splits = {name: splits[name] for name in ("spatial", "random", "temporal")}
    ceilings = {
        split: Ceiling(of["ceiling_auroc"], of["ceiling_auroc_fold_mean"])
        for split, of in ((split, model.metrics[split]["fused"]) for split in splits)
    }
    metrics, evaluation = judged(splits, ceilings, "fused", SETTINGS.seed)
    assert metrics == model.metrics
    for name in ("intervals", "differences", "picture", "curves", "road_to_ceiling"):
        assert getattr(evaluation, name) == getattr(model.evaluation, name), name
    logit = {split: logit_of_riskiest(task, found.outputs["fused"]) for split, (_, found) in splits.items()}
    outcomes = splits["spatial"][0]
    assert (
        fitted_calibration(outcomes.high, logit["spatial"], outcomes.block, SETTINGS.seed, logit["random"])
        == model.calibration
    )


def test_the_console_says_what_is_stored(trained: Trained, told: dict[str, Any]) -> None:
    lines = trained.lines()
    said = {"spatial": "spatial", "random": "random", "temporal": "next period"}
    for split, models in told["metrics"].items():
        for name, of in models.items():
            [row] = [line for line in lines if re.match(rf"\s+{said[split]} +{name} ", line)]
            low, high = (
                f"{end:.3f}".removeprefix("0")
                for end in told["evaluation"]["intervals"][split][name]["auroc"]
            )
            assert f"{of['auroc']:.3f}  {low}-{high}".split() == row.split()[-8 + (split == "temporal") :][
                :2
            ] or (f"{of['auroc']:.3f}" in row.split() and f"{low}-{high}" in row.split())
            assert f"{of['auprc']:.3f}" in row.split()
            assert f"{of['brier']:.3f}" in row.split()
    assert told["evaluation"]["picture"] in lines
    assert f"folds: {told['evaluation']['folds']['rule']}" in lines
    for of in told["evaluation"]["findings"]:
        line = f"{of['check']}: {of['text']}"
        assert (f"LEAK? {line}" in lines) == of["leak"]
        assert of["leak"] or line in trained.lines(verbose=True)


def test_the_report_says_what_is_stored(trained: Trained, told: dict[str, Any]) -> None:
    page = (trained.path / "report.html").read_text()
    rows = Cells(page).rows
    for split, section in (("spatial", "new-place"), ("temporal", "next-period")):
        for name, of in told["metrics"][split].items():
            [row] = [row for row in rows[section] if row[0].split()[-1] == name]
            low, high = told["evaluation"]["intervals"][split][name]["auroc"]
            assert f" {of['auroc']:.3f} {low:.3f} to {high:.3f}".split() in [cell.split() for cell in row]
            if split == "spatial":
                assert any(
                    cell.split()[:1] == [f"{told['metrics']['random'][name]['auroc']:.3f}"] for cell in row
                )
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    assert told["evaluation"]["picture"] in text
    assert told["evaluation"]["folds"]["rule"] in text
    for one in told["evaluation"]["places"]:
        assert one["key"].split()[-1] in text
    assert len(page) < 5e6


def test_model_json_stays_small(trained: Trained) -> None:
    """Curves in six digits, a point a line."""
    text = (trained.path / "model.json").read_text()
    points = json.loads(text)["evaluation"]["curves"]["spatial"]["fused"]["hit_rate"]
    assert len(points) > 100
    assert all(value == float(f"{value:.6g}") for point in points for value in point)
    assert f"[{points[7][0]}, {points[7][1]}]" in text
    curves = json.loads(text)["evaluation"]["curves"]
    drawn = sum(len(models) for models in curves.values())
    assert len(text) < 400_000 + drawn * 25_000


def test_places_are_the_ends_of_the_own_predictions(trained: Trained, dataset: Dataset) -> None:
    model = read_model(trained.path)
    table = model.out_of_fold
    own = table[(table["split"] == "spatial") & (table["model"] == "fused")].set_index("key")
    places = model.evaluation.places
    riskiest = [one.key for one in places if one.list == "riskiest"]
    assert riskiest == own.sort_values("output", ascending=False).index[:10].tolist()
    underrated = [one.key for one in places if one.list == "underrated"]
    assert underrated == own[own["high"]].sort_values("output").index[:10].tolist()
    for one in places:
        assert one.observed == own.loc[one.key, "events"]
    assert model.calibration is not None
    chances = model.calibration.probability(own.loc[[one.key for one in places], "output"].to_numpy())
    assert [one.predicted for one in places] == pytest.approx(chances.tolist())
    tiles = dataset.tiles().set_index("tile_id")
    for one in places:
        at = tiles.loc[one.key]
        lon, lat = dataset.grid.centres(np.array([at["row"]]), np.array([at["col"]]), "EPSG:4326")
        assert (one.lon, one.lat) == (pytest.approx(lon[0]), pytest.approx(lat[0]))
        assert dict(one.facts)["road_m"].replace(",", "").startswith(f"{at['road_m']:.0f}"[:2])
