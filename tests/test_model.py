"""The model on disk: written whole, read back the same, refused when it is not what was written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_examples import COLUMNS, CPU, Run, made_up, run
from safetensors.torch import load_file

from roadrisk.errors import ModelError
from roadrisk.files import sha256_of
from roadrisk.learning import model as model_module
from roadrisk.learning.evaluation import probability
from roadrisk.learning.folds import random_folds
from roadrisk.learning.frozen import scoring_feed
from roadrisk.learning.model import (
    Model,
    fold_logits,
    out_of_fold_table,
    read_model,
    scores,
    write_model,
)

EXAMPLES = made_up()

PROVENANCE = {
    "seed": 0,
    "cell_m": 250.0,
    "metres_per_pixel": None,
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
    return Model(
        trained.architecture,
        trained.preparation,
        COLUMNS,
        "spatial",
        trained.validation.models,
        None,
        {"spatial": {"fused": {"n": 144, "auroc": 0.7}}},
        PROVENANCE,
        out_of_fold_table(EXAMPLES, {"spatial": trained.validation, "random": random}, "boston"),
    )


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
    for name in ("architecture", "picture", "columns", "split", "encoder", "metrics", "provenance"):
        assert getattr(read, name) == getattr(model, name), name
    assert [fold.preparation for fold in read.fold_models] == [fold.preparation for fold in model.fold_models]
    assert read.out_of_fold.equals(model.out_of_fold)
    before = fold_logits(model, EXAMPLES, trained.feed, CPU)
    assert np.array_equal(fold_logits(read, EXAMPLES, trained.feed, CPU), before)
    assert "fold0.image.conv1.weight" in load_file(written / "model.safetensors")
    manifest = json.loads((written / "model.json").read_text())
    assert manifest["format"] == 1
    assert manifest["sha256"]["model.safetensors"] == sha256_of(written / "model.safetensors")


def test_the_same_model_is_the_same_bytes(model: Model, written: Path, tmp_path: Path) -> None:
    write_model(model, tmp_path / "again")
    for path in written.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_training_tile_is_scored_by_the_fold_that_did_not_see_it(model: Model, trained: Run) -> None:
    logit = fold_logits(model, EXAMPLES, trained.feed, CPU)
    assert logit.shape == (3, len(EXAMPLES))
    own = logit[trained.validation.fold, np.arange(len(EXAMPLES))]
    np.testing.assert_allclose(own, trained.validation.logit, atol=1e-5)

    turned = np.random.default_rng(0).permutation(len(EXAMPLES))
    seen = scores(model, EXAMPLES.taken(turned), logit[:, turned])
    assert seen.out_of_fold.all()
    assert np.array_equal(seen.logit, trained.validation.logit[turned])
    assert np.array_equal(seen.probability, probability(seen.logit))

    others = replace(EXAMPLES, key=np.array([f"other/{key}" for key in EXAMPLES.key], dtype=object))
    elsewhere = scores(model, others, logit)
    assert not elsewhere.out_of_fold.any()
    np.testing.assert_allclose(elsewhere.probability, probability(logit.mean(axis=0)))


def test_no_order_of_rows_or_columns_changes_a_score(model: Model, trained: Run) -> None:
    turned = np.random.default_rng(1).permutation(len(EXAMPLES))
    columns = [1, 2, 0]
    other = replace(
        EXAMPLES.taken(turned),
        facts=EXAMPLES.facts[turned][:, columns],
        columns=tuple(COLUMNS[index] for index in columns),
    )
    np.testing.assert_allclose(
        fold_logits(model, other, trained.feed, CPU),
        fold_logits(model, EXAMPLES, trained.feed, CPU)[:, turned],
        atol=1e-5,
    )


def test_scoring_without_keeping_pictures_is_the_same(model: Model, trained: Run, tmp_path: Path) -> None:
    assert EXAMPLES.pictures is not None
    assert model.picture is not None
    feed = scoring_feed(EXAMPLES.pictures, model.picture, None, tmp_path / "cache", CPU)
    assert np.array_equal(
        fold_logits(model, EXAMPLES, feed, CPU), fold_logits(model, EXAMPLES, trained.feed, CPU)
    )
    assert not (tmp_path / "cache").exists()


def test_tiles_without_picture_are_scored_from_facts(model: Model) -> None:
    blind = replace(EXAMPLES, picture=np.full(len(EXAMPLES), -1))
    assert np.isfinite(fold_logits(model, blind, None, CPU)).all()


def test_tiles_without_facts_are_scored_from_pictures(model: Model, trained: Run) -> None:
    empty = replace(EXAMPLES, facts=np.full_like(EXAMPLES.facts, np.nan))
    assert not empty.has_facts.any()
    assert np.isfinite(fold_logits(model, empty, trained.feed, CPU)).all()


def test_a_frozen_encoder_is_written_once(model: Model, tmp_path: Path) -> None:
    from torchvision.models import resnet34

    encoder = {n: v for n, v in resnet34(weights=None).state_dict().items() if not n.startswith("fc.")}
    write_model(replace(model, encoder=encoder), tmp_path / "model")
    names = list(load_file(tmp_path / "model" / "model.safetensors"))
    assert sum(name.startswith("encoder.") for name in names) == len(encoder)
    read = read_model(tmp_path / "model").encoder
    assert read is not None
    assert all(torch.equal(read[name], encoder[name]) for name in encoder)


def test_out_of_fold_table_is_in_the_order_of_keys(model: Model) -> None:
    table = model.out_of_fold
    assert list(table.columns) == ["split", "dataset", "key", "fold", "label", "logit", "probability"]
    assert table.groupby("split").size().to_dict() == {"random": 144, "spatial": 144}
    assert table[table["split"] == "spatial"]["key"].is_monotonic_increasing


def test_an_existing_output_is_refused_and_untouched(model: Model, written: Path) -> None:
    before = {path.name: path.read_bytes() for path in written.iterdir()}
    with pytest.raises(ModelError, match=r"model exists; choose another -o, or remove it$"):
        write_model(model, written)
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before


@pytest.mark.parametrize("broken", ["save_file", "write_json", "_synced"])
def test_nothing_half_written_is_left(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def full(*_args: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_module, broken, full)
    with pytest.raises(
        ModelError, match=r"^cannot write .*No space left on device\); free space or choose another"
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
        ({"format": 2}, "has model format 2, this version reads up to 1; upgrade roadrisk"),
        ({"format": "1"}, "has model format 1"),
        ({"sha256": {"../x": "0"}}, "names no checksums"),
        (
            {"architecture": {"encoder": "basic", "inputs": "both", "size_px": 48, "dropout": 0.3}},
            "not a whole",
        ),
        (
            {"architecture": {"encoder": "basic", "inputs": "both", "size_px": 10**6, "dropout": 0}},
            "not a whole",
        ),
        (
            {"architecture": {"encoder": "resnet34", "inputs": "both", "size_px": 224, "dropout": 0}},
            "not a whole",
        ),
        ({"columns": [{"name": "x"}]}, "not a whole roadrisk model"),
        ({"preparation": []}, "not a whole roadrisk model"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(written: Path, change: dict[str, object], said: str) -> None:
    manifest = json.loads((written / "model.json").read_text())
    (written / "model.json").write_text(json.dumps(manifest | change))
    refused(written, said)
