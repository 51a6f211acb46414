"""The model on disk: written whole, read back the same, refused when it is not what was written."""

import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from learning_examples import COLUMNS, CPU, Run, made_up, run
from safetensors.torch import load_file

from roadrisk.errors import ModelError
from roadrisk.files import sha256_of
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import random_folds
from roadrisk.learning.judging.calibration import Calibration, fitted_calibration
from roadrisk.learning.judging.dispersion import Dispersion
from roadrisk.learning.judging.evaluation import (
    Consistency,
    Cure,
    Curves,
    Difference,
    Evaluation,
    Finding,
    FoldsTold,
    Importance,
    NextPeriod,
    Place,
    Reliability,
)
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OF_TILES, OutOfFold, predictions_table
from roadrisk.learning.model import FORMAT, Model, fold_outputs, read_model, scores, write_model
from roadrisk.learning.pictures.feeds import ImageFeed, scoring_feed
from roadrisk.learning.pictures.sources import CachedPictures
from roadrisk.learning.tasks import Task, probability
from roadrisk.learning.validation import CrossValidation

EXAMPLES = made_up()

POINTS = ((0.0, 0.0), (0.5, 0.75), (1.0, 1.0))
EVALUATION = Evaluation(
    intervals={"spatial": {"fused": {"auroc": (0.6, 0.8)}}},
    differences=(
        Difference("spatial", "auroc", "fused", "facts", "covered", 0.02, 0.01, 0.03, 144, 40, 36),
        Difference("random", "auroc", "fused", "facts", "all", 0.02, None, None, 144, 40, 9),
    ),
    picture="The picture adds 0.020.",
    chosen="facts",
    curves={
        "spatial": {
            "fused": Curves(
                roc=POINTS,
                reliability=(Reliability(12, 0.25, 0.5, 0.125, 0.75), Reliability(12, 0.5, 0.5)),
                cure=(Cure("road_m", POINTS, POINTS, 0.25),),
            )
        }
    },
    road_to_ceiling={"spatial": {"fused": 0.5}},
    folds=FoldsTold("rule", 1000.0, 250.0, 3, 36, 20, 0.75, 900.0, POINTS, 144, POINTS, POINTS),
    importance=(Importance("roads", "auroc", 0.1, 0.05, 0.15, ("road_m", "speed")),),
    findings=(Finding("duplicates", False, "none"),),
    next_period=NextPeriod(
        ("2023-01-01", "2024-01-01"),
        ("2024-01-01", "2025-01-01"),
        None,
        ("2015-01-01", "2024-01-01"),
        144,
        300.0,
        (Consistency("fused", 5, 7, 40.0, 3, 12.5),),
    ),
    places=(Place("riskiest", "26919/250/1/1", -71.1, None, 0.9, 1.0, (("road_m", "900 m"),)),),
)

PROVENANCE = {
    "seed": 0,
    "cell_m": 250.0,
    "metres_per_pixel": {"aerial": 1.0},
    "windows": {"label": ["2024-01-01", "2025-01-01"]},
    "label": {
        "column": "label",
        "measure": "crashes",
        "threshold": 3.0,
        "positive": None,
        "meaning": "Three.",
    },
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(EXAMPLES, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Model:
    by_chance = random_folds(EXAMPLES.key, EXAMPLES.label, 3, 0)
    random = run(EXAMPLES, tmp_path_factory.mktemp("cache"), folds=by_chance, epochs=1).validation
    logit = trained.validation.outputs[:, 0]
    blocks = np.arange(len(EXAMPLES)) // 6
    return Model(
        architecture=trained.architecture,
        pictures=(trained.preparation,),
        columns=COLUMNS,
        neighbourhood=(),
        split="spatial",
        fold_models=trained.validation.models,
        encoder=None,
        metrics={"spatial": {"fused": {"n": 144, "auroc": 0.7}}},
        provenance=PROVENANCE,
        out_of_fold=table_of({"spatial": trained.validation, "random": random}),
        calibration=fitted_calibration(EXAMPLES.label, logit, blocks, 0, random.outputs[:, 0]),
        evaluation=EVALUATION,
    )


def table_of(validations: dict[str, CrossValidation], name: str = "fused") -> pd.DataFrame:
    """As formats before 5 had it."""
    n = len(EXAMPLES)
    outcomes = Outcomes(
        task=Task(),
        key=EXAMPLES.key,
        dataset=np.full(n, "boston", object),
        label=EXAMPLES.label,
        high=EXAMPLES.label,
        events=EXAMPLES.label,
        threshold=None,
        area_km2=EXAMPLES.area_km2,
        road_m=np.full(n, np.nan),
        has_image=EXAMPLES.has_image,
        covered=np.ones(n, bool),
        row=None,
        col=None,
        block=None,
    )
    splits = {split: OutOfFold(one.fold, {name: one.outputs}) for split, one in validations.items()}
    table = predictions_table({split: (outcomes, found) for split, found in splits.items()})
    return table.drop(columns=list(OF_TILES))


def said_by(model: Model, examples: Examples, feeds: list[ImageFeed | None]) -> np.ndarray:
    """(folds, N) logits."""
    return fold_outputs(model.architecture, model.fold_models, examples, feeds, CPU)[:, :, 0]


@pytest.fixture
def written(model: Model, tmp_path: Path) -> Path:
    write_model(model, tmp_path / "model")
    return tmp_path / "model"


def test_what_is_read_is_what_was_written(model: Model, written: Path, trained: Run) -> None:
    assert sorted(path.name for path in written.iterdir()) == [
        "folds.parquet",
        "model.json",
        "model.safetensors",
    ]
    read = read_model(written)
    for name in (
        "architecture",
        "pictures",
        "neighbourhood",
        "columns",
        "split",
        "encoder",
        "metrics",
        "provenance",
        "calibration",
        "dispersion",
        "evaluation",
    ):
        assert getattr(read, name) == getattr(model, name), name
    assert [fold.preparation for fold in read.fold_models] == [fold.preparation for fold in model.fold_models]
    assert read.out_of_fold.equals(model.out_of_fold)
    assert read.calibration is not None
    assert read.calibration.spread
    before = said_by(model, EXAMPLES, trained.feeds)
    assert np.array_equal(said_by(read, EXAMPLES, trained.feeds), before)
    assert "fold0.image.0.conv1.weight" in load_file(written / "model.safetensors")
    manifest = json.loads((written / "model.json").read_text())
    assert manifest["format"] == FORMAT
    assert manifest["sha256"]["model.safetensors"] == sha256_of(written / "model.safetensors")


def test_the_same_model_is_the_same_bytes(model: Model, written: Path, tmp_path: Path) -> None:
    write_model(model, tmp_path / "again")
    for path in written.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_report_goes_with_the_model_and_may_go_missing(model: Model, tmp_path: Path) -> None:
    write_model(model, tmp_path / "model", "<!doctype html><p>Größe\n")
    report = tmp_path / "model" / "report.html"
    assert report.read_text(encoding="utf-8") == "<!doctype html><p>Größe\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    read_model(tmp_path / "model")
    report.write_text("opened and saved by a colleague")
    read_model(tmp_path / "model")
    report.unlink()
    read_model(tmp_path / "model")


def test_a_report_that_cannot_be_written_leaves_nothing(model: Model, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, hard))
    try:
        with pytest.raises(ModelError, match=r"^cannot write .*/model \(file too large\)"):
            write_model(model, tmp_path / "model", "<p>" * 5_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_training_tile_is_scored_by_the_fold_that_did_not_see_it(model: Model, trained: Run) -> None:
    logit = said_by(model, EXAMPLES, trained.feeds)
    assert logit.shape == (3, len(EXAMPLES))
    own = logit[trained.validation.fold, np.arange(len(EXAMPLES))]
    np.testing.assert_allclose(own, trained.validation.outputs[:, 0], atol=1e-5)

    turned = np.random.default_rng(0).permutation(len(EXAMPLES))
    seen = scores(model, EXAMPLES.taken(turned), logit[:, turned, None])
    assert seen.out_of_fold.all()
    assert np.allclose(seen.outputs[:, 0], trained.validation.outputs[turned, 0], atol=1e-5)
    assert np.array_equal(seen.prediction, probability(seen.outputs[:, 0]))

    others = replace(EXAMPLES, key=np.array([f"other/{key}" for key in EXAMPLES.key], dtype=object))
    elsewhere = scores(model, others, logit[:, :, None])
    assert not elsewhere.out_of_fold.any()
    np.testing.assert_allclose(elsewhere.prediction, probability(logit.mean(axis=0)))


def test_no_order_of_rows_or_columns_changes_a_score(model: Model, trained: Run) -> None:
    turned = np.random.default_rng(1).permutation(len(EXAMPLES))
    columns = [1, 2, 0]
    other = replace(
        EXAMPLES.taken(turned),
        facts=EXAMPLES.facts[turned][:, columns],
        columns=tuple(COLUMNS[index] for index in columns),
    )
    np.testing.assert_allclose(
        said_by(model, other, trained.feeds),
        said_by(model, EXAMPLES, trained.feeds)[:, turned],
        atol=1e-5,
    )


def test_scoring_without_keeping_pictures_is_the_same(model: Model, trained: Run, tmp_path: Path) -> None:
    pictures = [CachedPictures(EXAMPLES.pictures[0][0].pictures, tmp_path / "cache")]
    feed = scoring_feed(pictures, model.pictures[0], "basic", None, False, CPU)
    assert np.array_equal(said_by(model, EXAMPLES, [feed]), said_by(model, EXAMPLES, trained.feeds))
    assert not (tmp_path / "cache").exists()


def test_tiles_without_picture_are_scored_from_facts(model: Model) -> None:
    blind = replace(EXAMPLES, picture=np.full((len(EXAMPLES), 1), -1))
    assert np.isfinite(said_by(model, blind, [None])).all()


def test_tiles_without_facts_are_scored_from_pictures(model: Model, trained: Run) -> None:
    empty = replace(EXAMPLES, facts=np.full_like(EXAMPLES.facts, np.nan))
    assert not empty.has_facts.any()
    assert np.isfinite(said_by(model, empty, trained.feeds)).all()


def test_a_frozen_encoder_is_written_once(model: Model, tmp_path: Path) -> None:
    from torchvision.models import resnet34

    encoder = {n: v for n, v in resnet34(weights=None).state_dict().items() if not n.startswith("fc.")}
    write_model(replace(model, encoder=encoder), tmp_path / "model")
    names = list(load_file(tmp_path / "model" / "model.safetensors"))
    assert sum(name.startswith("encoder.") for name in names) == len(encoder)
    read = read_model(tmp_path / "model").encoder
    assert read is not None
    assert all(torch.equal(read[name], encoder[name]) for name in encoder)


def test_predictions_are_in_the_order_of_keys(model: Model) -> None:
    table = model.out_of_fold
    assert list(table.columns) == [
        "split",
        "model",
        "dataset",
        "key",
        "fold",
        "label",
        "output",
        "prediction",
    ]
    assert table.groupby("split").size().to_dict() == {"random": 144, "spatial": 144}
    assert table[table["split"] == "spatial"]["key"].is_monotonic_increasing


def test_an_existing_output_is_refused_and_untouched(model: Model, written: Path) -> None:
    before = {path.name: path.read_bytes() for path in written.iterdir()}
    with pytest.raises(ModelError, match=r"model exists; choose another -o, or remove it$"):
        write_model(model, written)
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before


@pytest.mark.parametrize(
    "broken",
    ["roadrisk.learning.model.save", "roadrisk.learning.model.write_json", "os.fsync", "pathlib.Path.rename"],
)
def test_nothing_half_written_is_left(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def full(*_args: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, full)
    with pytest.raises(
        ModelError, match=r"model \(no space left on device\); free space or choose another -o$"
    ):
        write_model(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def refused(path: Path, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)


def test_what_was_changed_or_is_foreign_is_refused(written: Path, tmp_path: Path) -> None:
    refused(tmp_path / "none", "no such model folder")
    refused(tmp_path, "is not a roadrisk model: it has no model.json")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(written, tmp_path / name))

    flipped = copy("flipped")
    weights = bytearray((flipped / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (flipped / "model.safetensors").write_bytes(weights)
    refused(flipped, "model.safetensors is missing or not the file that was written; train the model again")
    lost = copy("lost")
    (lost / "folds.parquet").unlink()
    refused(lost, "folds.parquet is missing")
    cut = copy("cut")
    (cut / "model.json").write_text((written / "model.json").read_text()[:100])
    refused(cut, "cannot be read as JSON")
    foreign = copy("foreign")
    (foreign / "model.json").write_text('{"format": 1}')
    refused(foreign, "is not a roadrisk model's")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"format": FORMAT + 1},
            f"has model format {FORMAT + 1}, this version reads up to {FORMAT}; upgrade roadrisk",
        ),
        ({"format": "1\n2"}, "names no model format"),
        ({"format": True}, "names no model format"),
        ({"sha256": ["folds.parquet", "model.safetensors"]}, "names no checksums"),
        ({"sha256": {"folds.parquet": ["0"], "model.safetensors": None}}, "not the file that was written"),
        ({"sha256": {"../x": "0"}}, "names no checksums"),
        ({"columns": [{"name": "x"}]}, "not a whole roadrisk model"),
        ({"preparation": []}, "not a whole roadrisk model"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(written: Path, change: dict[str, object], said: str) -> None:
    manifest = json.loads((written / "model.json").read_text())
    (written / "model.json").write_text(json.dumps(manifest | change))
    refused(written, said)


@pytest.mark.parametrize("inputs", ["facts", "image", "both"])
def test_a_model_of_any_inputs_is_read_back_and_scores(
    model: Model, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, inputs: str
) -> None:
    one = run(EXAMPLES, tmp_path_factory.mktemp("cache"), inputs=inputs, epochs=1)
    without = inputs == "facts"
    name = {"both": "fused"}.get(inputs, inputs)
    made = replace(
        model,
        architecture=one.architecture,
        pictures=() if without else (one.preparation,),
        fold_models=one.validation.models,
        out_of_fold=table_of({"spatial": one.validation}, name),
    )
    write_model(made, tmp_path / "model")
    seen = np.arange(len(EXAMPLES)) if without else np.flatnonzero(EXAMPLES.has_image)
    examples = EXAMPLES.taken(seen)
    read = read_model(tmp_path / "model")
    feeds = [] if without else one.feeds
    said = scores(read, examples, said_by(read, examples, feeds)[:, :, None])
    assert said.out_of_fold.all()
    np.testing.assert_allclose(said.outputs[:, 0], one.validation.outputs[seen, 0], atol=1e-5)


def test_a_colleague_can_read_what_was_written(model: Model, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_model(model, tmp_path / "model")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {0o640}


def test_a_disk_that_takes_no_more_leaves_nothing(model: Model, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ModelError, match=r"^cannot write .*/model \(file too large\); free space"):
            write_model(model, tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"^cannot write .*/file/model \("):
        write_model(model, tmp_path / "file" / "model")


def test_a_score_that_is_not_finite_is_refused(model: Model) -> None:
    logit = np.zeros((3, len(EXAMPLES), 1))
    logit[:, [4, 9], 0] = np.nan, np.inf
    with pytest.raises(ModelError, match=r"^the model has no finite prediction for 2 of 144 tiles; "):
        scores(model, EXAMPLES, logit)


LABEL: dict[str, object] = PROVENANCE["label"]  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "provenance"),
        ({"label": None}, "provenance.label"),
        ({"label": {name: LABEL[name] for name in LABEL if name != "meaning"}}, "provenance.label.meaning"),
        ({"label": LABEL | {"measure": ["x"]}}, "provenance.label.measure"),
        ({"label": LABEL | {"threshold": "3"}}, "provenance.label.threshold"),
        ({"label": LABEL | {"threshold": float("nan")}}, "provenance.label.threshold"),
        ({"label": LABEL | {"threshold": None}}, "a measure, a threshold or a class"),
        ({"label": LABEL | {"measure": None, "threshold": None}}, "a measure, a threshold or a class"),
        ({"label": LABEL | {"positive": 1}}, "provenance.label.positive"),
        ({"windows": [["2024-01-01", "2025-01-01"]]}, "provenance.windows"),
        ({"windows": {"label": ["2024-01-01"]}}, "provenance.windows.label"),
        ({"windows": {"label": [0, 86400]}}, "provenance.windows.label"),
        ({"windows": {"label": ["2024-01-01", "<script>"]}}, "provenance.windows.label"),
        ({"cell_m": "250"}, "provenance.cell_m"),
        ({"cell_m": float("inf")}, "provenance.cell_m"),
        ({"cell_m": 0}, "provenance.cell_m"),
        ({"metres_per_pixel": [1]}, "provenance.metres_per_pixel"),
    ],
)
def test_a_provenance_that_scoring_cannot_read_is_refused(
    written: Path, change: dict[str, object] | None, said: str
) -> None:
    manifest = json.loads((written / "model.json").read_text())
    manifest["provenance"] = None if change is None else manifest["provenance"] | change
    (written / "model.json").write_text(json.dumps(manifest))
    refused(written, said)


@pytest.mark.parametrize("key", ["label", "windows", "cell_m", "metres_per_pixel"])
def test_a_provenance_that_lacks_something_is_refused(written: Path, key: str) -> None:
    manifest = json.loads((written / "model.json").read_text())
    del manifest["provenance"][key]
    (written / "model.json").write_text(json.dumps(manifest))
    refused(written, f"provenance.{key}: Field required")


@pytest.mark.parametrize("depth", [900, 100_000])
def test_deep_nesting_is_refused(written: Path, depth: int) -> None:
    manifest = json.loads((written / "model.json").read_text())
    text = json.dumps(manifest | {"provenance": "HERE"}).replace('"HERE"', "[" * depth + "]" * depth)
    (written / "model.json").write_text(text)
    refused(written, r"cannot be read as JSON|provenance")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("columns", 0, "window"), ["soon", "later"]),
        (("columns", 0, "window"), ["2024-01-01"]),
        (("columns", 0, "role"), "none such"),
        (("columns",), {"name": 1}),
        (("preparation", 0, "facts", 0, "std"), 0.0),
        (("preparation", 0, "facts", 0, "std"), -1.0),
        (("preparation", 0, "facts", 0, "std"), float("nan")),
        (("preparation", 0, "facts", 0, "mean"), float("inf")),
        (("preparation", 0, "facts", 0, "fill"), "a lot"),
        (("preparation", 0, "facts", 0, "years"), 0),
        (("preparation",), 5),
        (("pictures",), []),
        (("pictures", 0, "std"), [1, 0, 1]),
        (("pictures", 0, "size_px"), 64),
        (("architecture", "views", 0, "size_px"), 0),
        (("architecture", "views", 0, "size_px"), 10**6),
        (("architecture", "views"), []),
        (("architecture", "encoder"), "resnet34"),
        (("architecture", "encoder"), "timm:no_such_network"),
        (("architecture", "tune"), "none"),
        (("architecture", "fusion"), "mlp"),
        (("architecture", "facts"), "embedding"),
        (("architecture", "facts"), None),
        (("architecture", "task", "classes"), ["low"]),
        (("architecture", "task", "classes"), ["low", "middle", "high"]),
        (("architecture", "task", "kind"), "count"),
        (("architecture", "own_encoders"), "perhaps"),
        (("target", 0, "std"), 0.0),
        (("target",), []),
        (("neighbourhood",), [1]),
        (("metrics",), []),
        (("split",), ["spatial"]),
        (("calibration",), {}),
        (("calibration",), "platt"),
        (("calibration", "knots"), []),
        (("calibration", "knots", 0, 1), 99.0),
        (("calibration", "knots", 0, 1), float("nan")),
        (("calibration", "knots", 0, 0), 1e300),
        (("calibration", "knots", 0, 0), "-1"),
        (("calibration", "spread", 0, 1), 13.0),
        (("calibration", "spread", 0), [0.0, 1.0]),
        (("calibration", "logit_sd"), float("inf")),
        (("dispersion",), {"form": "k", "k": 0.5}),
        (("evaluation",), None),
        (("evaluation", "picture"), 5),
        (("evaluation", "differences", 0, "value"), float("nan")),
        (("evaluation", "differences", 0, "tiles"), "some"),
        (("evaluation", "intervals", "spatial", "fused", "auroc"), [0.5]),
        (("evaluation", "curves", "spatial", "fused", "roc", 0), [0.5, "<script>"]),
        (("evaluation", "folds", "rule"), ["a"]),
        (("evaluation", "places", 0, "list"), "worst"),
    ],
)
def test_a_manifest_with_one_wrong_value_is_refused(
    written: Path, place: tuple[str | int, ...], value: object
) -> None:
    manifest = json.loads((written / "model.json").read_text())
    *above, last = place
    inner = manifest
    for step in above:
        inner = inner[step]
    inner[last] = value
    (written / "model.json").write_text(json.dumps(manifest))
    refused(written, r"is not a whole roadrisk model \(.+\); train it again$")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"calibration": {"method": "platt"}}, r"\(calibration.knots: Field required\)"),
        (
            {"calibration": {"method": "platt", "knots": [[0, 1], [1, 0]], "tiles": 9, "positives": 1}},
            r"\(calibration: Value error, the knots of a calibration must rise\)",
        ),
        ({"dispersion": {"form": "k", "k": -1.0}}, r"\(dispersion.k: Input should be greater than or equal"),
        ({"dispersion": {"form": "k", "k": 1.0}}, r"\(Value error, a model of a class has no dispersion\)"),
    ],
)
def test_a_damaged_calibration_or_dispersion_says_where(
    written: Path, change: dict[str, object], said: str
) -> None:
    manifest = json.loads((written / "model.json").read_text())
    (written / "model.json").write_text(json.dumps(manifest | change))
    refused(written, f"is not a whole roadrisk model {said}.*; train it again$")


@pytest.mark.parametrize("part", ["calibration", "dispersion", "evaluation"])
def test_a_manifest_that_lacks_what_its_format_has_is_refused(written: Path, part: str) -> None:
    manifest = json.loads((written / "model.json").read_text())
    del manifest[part]
    (written / "model.json").write_text(json.dumps(manifest))
    refused(written, rf"\({part}: Field required\); train it again$")


def test_a_dispersion_is_read_back(model: Model, tmp_path: Path) -> None:
    counted = replace(
        model,
        architecture=replace(model.architecture, task=Task("count", "poisson", ())),
        provenance={**PROVENANCE, "label": {**PROVENANCE["label"], "threshold": None}},  # type: ignore[dict-item]
        calibration=None,
        dispersion=Dispersion("k/length", 0.625),
    )
    write_model(counted, tmp_path / "model")
    assert read_model(tmp_path / "model").dispersion == Dispersion("k/length", 0.625)
    one = Calibration("platt", ((0.0, 0.0),), 9, 1)
    write_model(replace(counted, calibration=one), tmp_path / "both")
    refused(tmp_path / "both", "a model of a count has no calibration")


def signed(path: Path) -> None:
    """Make the checksum of the folds right again, as one who means harm would."""
    manifest = json.loads((path / "model.json").read_text())
    manifest["sha256"]["folds.parquet"] = sha256_of(path / "folds.parquet")
    (path / "model.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        {"fold": "a"},
        {"fold": 3},
        {"fold": -1},
        {"fold": 0.5},
        {"fold": None},
        {"key": "the same"},
        {"key": 1},
        {"split": "random"},
        {"dataset": 2},
        {"label": "high"},
        {"model": "another"},
        {"output": np.nan},
        {"prediction": "0.5"},
    ],
)
def test_folds_that_do_not_fit_are_refused(written: Path, change: dict[str, object]) -> None:
    table = pd.read_parquet(written / "folds.parquet").assign(**change)
    table.to_parquet(written / "folds.parquet", index=False)
    signed(written)
    refused(written, r"is not a whole roadrisk model \(.*folds.parquet.*\); train it again$")


@pytest.mark.parametrize(
    "column", ["split", "model", "dataset", "key", "fold", "label", "output", "prediction"]
)
def test_folds_that_lack_a_column_are_refused(written: Path, column: str) -> None:
    table = pd.read_parquet(written / "folds.parquet").drop(columns=column)
    table.to_parquet(written / "folds.parquet", index=False)
    signed(written)
    refused(written, f"folds.parquet lacks {column}")


@pytest.mark.parametrize("cut", [0, 100, 2000])
def test_folds_that_are_not_parquet_are_refused(written: Path, cut: int) -> None:
    whole = (written / "folds.parquet").read_bytes()
    (written / "folds.parquet").write_bytes(whole[:cut] + b"\0" * 40 + whole[-8:] * (cut > 0))
    signed(written)
    refused(written, "is not a whole roadrisk model")
