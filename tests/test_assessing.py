"""What `train` finds out about a model is the same on disk, on the console and in the report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
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
from roadrisk.comparing import Comparison, Contestant, folds_of
from roadrisk.dataset import Dataset
from roadrisk.errors import UsageError
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
from roadrisk.region import read_region
from roadrisk.scoring import score
from roadrisk.sources.demo import Metro
from roadrisk.tiling import tile
from roadrisk.training import Trained, train
from tests.metro_examples import metro_dataset

SETTINGS = TrainSettings(encoder="basic", epochs=1, batch_size=64, folds=2, block_m=192)
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
    assert (of["folds"]["folds"], of["folds"]["block_m"]) == (2, pytest.approx(192, rel=1e-3))
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
    splits = {
        name: outcomes_of(model.out_of_fold, name, task, threshold)
        for name in ("spatial", "random", "temporal")
    }
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
            shown = {f"{of[metric]:.3f}" for metric in ("auroc", "auroc_fold_mean", "auprc", "brier")}
            assert {*shown, f"{low}-{high}"} <= set(row.split())
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
                beside = f"{told['metrics']['random'][name]['auroc_fold_mean']:.3f}"
                assert beside in [cell.split()[0] for cell in row if cell.strip()]
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page)))
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


def test_no_order_of_rows_or_columns_changes_what_is_found(tmp_path: Path) -> None:
    table = small_table(side=10)
    shuffled = table.sample(frac=1, random_state=1)[table.columns[::-1]]
    found = []
    for name, rows in (("one", table), ("other", shuffled)):
        folder = tmp_path / name
        folder.mkdir()
        train(written_table(rows, folder / "t.csv"), folder / "m", quick(quick=False, epochs=2))
        manifest = json.loads((folder / "m/model.json").read_text())
        manifest["evaluation"]["differences"].sort(
            key=lambda of: [of[key] for key in ("split", "a", "b", "tiles")]
        )
        for place in manifest["evaluation"]["places"]:
            place["facts"].sort()
        for group in manifest["evaluation"]["importance"]:
            group["columns"].sort()
        manifest["evaluation"]["importance"].sort(key=lambda of: of["group"])
        found.append(manifest)
    one, other = found
    assert one["metrics"] == other["metrics"]
    assert one["calibration"] == other["calibration"]
    for name in one["evaluation"]:
        assert one["evaluation"][name] == other["evaluation"][name], name


# what is held out


def smooth_table(folder: Path) -> Path:
    """1,296 places whose risk lies in hills that no fact tells of, besides a fact that does tell."""
    chance = np.random.default_rng(0)
    row, col = np.divmod(np.arange(36 * 36), 36)
    hills = np.sin(row / 3) + np.sin(col / 3 + 1)
    road_m, speed = chance.gamma(2, 500, len(row)), chance.normal(50, 10, len(row))
    table = pd.DataFrame({"id": [f"{r}-{c}" for r, c in zip(row, col, strict=True)], "image_path": None})
    risk = hills + road_m / 1000 + chance.normal(0, 0.3, len(row))
    table = table.assign(lon=-93.7 + 0.01 * col, lat=41.7 - 0.0075 * row, road_m=road_m, speed=speed)
    table["high"] = np.where(risk > np.quantile(risk, 0.7), "yes", "no")
    return written_table(table, folder / "t.csv")


def test_blocks_follow_the_dataset_and_the_label_alone(tmp_path: Path) -> None:
    """Not what a model is given or how it learns, so that all models are held out from the same places."""
    path = smooth_table(tmp_path)
    settings = TrainSettings(label="high", positive="yes", inputs="facts", encoder="basic")

    def held_out(**given: Any) -> tuple[Any, ...]:
        learned = gathered([tiles_at(path, ("aerial",))], resolved(replace(settings, **given)))
        assert learned.holding_out is not None
        plan, block = learned.holding_out.plan, learned.outcomes.block
        assert block is not None
        return plan.block, plan.blocks, plan.rule, block.tolist(), learned.holding_out.correlogram

    first = held_out()
    assert first[0] > 4
    assert "the range of what facts do not explain" in first[2]
    for given in (
        {"features": ("speed",)},
        {"exclude": ("road_m",)},
        {"encoder": "resnet18", "epochs": 3, "dropout": 0.1, "fusion": "mlp"},
        {"seed": 7},
        {"impute": "mode", "scaling": {"default": "log"}},
    ):
        assert held_out(**given) == first, given


# several metros


@pytest.fixture(scope="module")
def metros(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """Two that lie apart."""
    folder = tmp_path_factory.mktemp("metros")
    return [metro_dataset(folder, name, seed) for name, seed in (("a", 1), ("b", 2))]


FACTS = replace(SETTINGS, inputs="facts")


def with_tiles(dataset: Dataset, out: Path, change: Callable[[pd.DataFrame], None]) -> Path:
    """A copy of a dataset with other values."""
    import shutil

    import geopandas

    shutil.copytree(dataset.path, out)
    rows = geopandas.read_parquet(out / "tiles.parquet")
    change(rows)
    rows.to_parquet(out / "tiles.parquet")
    return out


def test_each_metro_is_judged_by_models_of_the_others(metros: list[Dataset], tmp_path: Path) -> None:
    model = train([one.path for one in metros], tmp_path / "m", FACTS).model
    table = model.out_of_fold
    of_metro = table[table["split"] == "metro"]
    assert set(of_metro["model"]) == set(model.metrics["metro"]) == set(model.metrics["spatial"])
    for _, rows in of_metro.groupby("model"):
        assert rows.groupby("dataset")["fold"].nunique().tolist() == [1, 1]
        assert rows["fold"].nunique() == 2
        assert set(rows["dataset"]) == {one.plan for one in metros}
    assert "metro" in model.evaluation.intervals
    assert "metro" in model.evaluation.curves
    assert any(one.split == "metro" for one in model.evaluation.differences)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda rows: rows.__setitem__("crashes_label", 0.0 * rows["crashes_label"]), "the labels that fold"),
        (
            lambda rows: [rows.__setitem__(n, 0.0) for n in rows if n.startswith("road_")],
            "no fact differs between training tiles",
        ),
    ],
    ids=["one class", "nothing to learn from"],
)
def test_a_metro_that_teaches_nothing_ends_no_training(
    metros: list[Dataset], tmp_path: Path, change: Any, why: str
) -> None:
    odd = with_tiles(metros[1], tmp_path / "odd", change)
    trained = train([metros[0].path, odd], tmp_path / "m", FACTS)
    said = [
        line
        for line in trained.lines()
        if line.startswith("metro: no metro is judged by models of the others: ")
    ]
    assert len(said) == 1
    assert why in said[0]
    assert "metro" not in trained.model.metrics
    assert {"spatial", "random"} <= set(trained.model.metrics)
    assert "metro" not in set(read_model(trained.path).out_of_fold["split"])


def test_neighbours_of_a_tested_metro_are_not_learned_from(
    metro: Metro, dataset: Dataset, tmp_path: Path
) -> None:
    """Two metros of one grid that touch: where they do, a buffer is left."""
    region, grid = read_region(metro.region), dataset.grid
    (west, east), _ = grid.centres(np.array([8, 8]), np.array([7, 8]), "EPSG:4326")
    middle, box = (west + east) / 2, region.bbox
    assert box is not None
    inset = (east - west) / 6  # the grid's north is not quite that of longitudes
    halves = {
        "west": (box[0], box[1], middle - inset, box[3]),
        "east": (middle + inset, box[1], box[2], box[3]),
    }
    paths = [
        tile(replace(region, name=name, bbox=half), tmp_path / name, workers=1).dataset.path
        for name, half in halves.items()
    ]
    learned = gathered([tiles_at(path, ("aerial",)) for path in paths], resolved(FACTS))
    folds = folds_of(learned, resolved(FACTS))["metro"]
    col = learned.examples.col
    assert col is not None
    for k in range(2):
        test, train_rows = col[folds.test_rows(k)], col[folds.train_rows(k)]
        assert min(abs(int(a) - int(b)) for a in set(test) for b in set(train_rows)) == 2
    assert len(folds.test_rows(0)) + len(folds.test_rows(1)) == len(col)


# --inputs auto


def planted(folder: Path, name: str, bright: float) -> Path:
    """Places without coordinates whose risk follows a fact and, as far as asked, how bright they are."""
    table = small_table().drop(columns=["lon", "lat", "surface", "level", "events", "cost"])
    lit = table["image_path"].fillna("").str.startswith("pictures/bright").to_numpy()
    risk = 3 * table["road_m"].fillna(table["road_m"].median()) / 1000 + bright * lit
    table["high"] = np.where(risk > risk.quantile(0.6), "yes", "no")
    return written_table(table, folder / f"{name}.csv")


AUTOMATIC = quick(
    quick=False, inputs="auto", exclude=(), epochs=12, batch_size=16, learning_rate=3e-3, dropout=0.2, folds=3
)


@pytest.mark.slow
@pytest.mark.parametrize(("bright", "kept", "inputs"), [(0.0, "facts", "facts"), (3.0, "fused", "both")])
def test_the_simplest_that_is_as_good_is_kept(tmp_path: Path, bright: float, kept: str, inputs: str) -> None:
    data = planted(tmp_path, "t", bright)
    trained = train(data, tmp_path / "m", AUTOMATIC)
    model = read_model(trained.path)
    assert (model.name, model.architecture.inputs) == (kept, inputs)
    assert bool(model.architecture.views) == bool(model.pictures) == (kept == "fused")
    assert len(model.columns) == 3
    assert f"--inputs auto: {model.evaluation.chosen}" in trained.lines()
    assert re.search(rf"(is|of) {kept}: the one-standard-error rule", model.evaluation.chosen)
    assert set(model.metrics["random"]) >= {"auto", "fused", "image", "facts"}
    # what is kept is what scores: its own folds tell the training tiles
    score(data, trained.path, [tmp_path / "r.csv"])
    own = model.out_of_fold[model.out_of_fold["model"] == kept].set_index("key")["output"]
    own.index = own.index.str.partition("|").get_level_values(0)
    scored = pd.read_csv(tmp_path / "r.csv").set_index("tile_id")
    assert len(scored) == (144 if kept == "fused" else 131)  # all but those of which no fact is known
    order = scored["rank"].sort_values().index
    assert own.loc[order].is_monotonic_decreasing
    # each fold's tiles are told by one of the three
    table = model.out_of_fold.pivot_table(index=["fold", "key"], columns="model", values="output")
    for _, fold in table.groupby("fold"):
        assert any(fold["auto"].equals(fold[name].rename("auto")) for name in ("fused", "image", "facts"))


def test_auto_needs_what_it_compares(tmp_path: Path, roadrisk: Roadrisk) -> None:
    with pytest.raises(UsageError) as caught:
        train(tmp_path, tmp_path / "m", replace(AUTOMATIC, quick=True))
    why = "--inputs auto compares models, --quick leaves them out; give one of them"
    assert str(caught.value) == why
    run = roadrisk("train", tmp_path, "-o", tmp_path / "m", "--inputs", "auto", "--quick")
    assert run.code == 2
    assert run.err.strip() == f"roadrisk: {why}"


def rivals_told(
    losses: dict[str, list[list[float]]],
) -> tuple[list[Contestant], Comparison, Any, OutOfFold]:
    """Three rivals on 12 tiles, three folds; in fold k each lost so much on the four tiles of fold k + 1."""
    outcomes, _ = judged_tiles(Task(), 12)
    outcomes = replace(outcomes.taken(np.argsort(outcomes.key)), block=None)
    fold = np.repeat([0, 1, 2], 4)
    found = OutOfFold(fold, {name: np.full((12, 1), float(n)) for n, name in enumerate(losses)})
    rivals = [cast(Contestant, SimpleNamespace(name=name)) for name in losses]
    watched = {
        name: tuple(Watched(outcomes.key[fold == (k + 1) % 3], np.array(of)) for k, of in enumerate(each))
        for name, each in losses.items()
    }
    networks = {name: _network(of) for name, of in watched.items()}
    comparison = Comparison({"spatial": found}, {}, {"spatial": networks}, (), ())
    return rivals, comparison, outcomes, found


def _network(watched: Any) -> Any:
    from roadrisk.learning.validation import CrossValidation

    return CrossValidation(np.empty(0), np.empty(0, np.int64), (), watched)


LOSSES = {
    "fused": [[1.0, 1.1, 0.9, 1.0], [0.1, 0.2, 0.1, 0.2], [1.0, 1.2, 1.0, 1.1]],
    "image": [[0.2, 0.1, 0.2, 0.2], [2.0, 2.0, 2.1, 2.0], [3.0, 3.1, 3.0, 3.0]],
    "facts": [[1.0, 1.1, 0.9, 1.2], [1.1, 1.0, 1.2, 1.0], [1.0, 1.1, 1.1, 1.1]],
}


def test_auto_is_each_folds_own_choice() -> None:
    """What is said of a fold's tiles is by the model that this fold's own watched tiles chose."""
    rivals, comparison, outcomes, found = rivals_told(LOSSES)
    made = _with_chosen(outcomes, found, rivals, comparison, "spatial")
    assert next(iter(made.outputs)) == AUTO
    # image for fold 0, fused for fold 1, facts (simplest of equals) for fold 2
    assert made.outputs[AUTO][:, 0].tolist() == [1.0] * 4 + [0.0] * 4 + [2.0] * 4
    assert {name: made.outputs[name] for name in LOSSES} == found.outputs


def test_all_folds_together_choose_what_is_kept() -> None:
    rivals, comparison, outcomes, _ = rivals_told(LOSSES)
    kept, why = _simplest(rivals, comparison.networks["spatial"], outcomes)
    assert kept.name == "fused"
    assert why.startswith("mean inner-fold loss 1.067 facts, 1.742 image, 0.742 fused; ")


def test_without_watched_tiles_the_one_that_was_asked_for_is_kept() -> None:
    rivals, comparison, outcomes, _ = rivals_told(LOSSES)
    networks = {
        name: replace(of, watched=(of.watched[0], None, of.watched[2]))
        for name, of in comparison.networks["spatial"].items()
    }
    kept, why = _simplest(rivals, networks, outcomes)
    assert kept.name == "fused"
    assert why == "too few tiles to watch some of them, so fused is kept"
