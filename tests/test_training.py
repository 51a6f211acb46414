"""`train` and `score` keep what the README says of models, on a small table and a made-up metro."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_tables import (
    LABELS,
    SURFACES,
    TINY,
    calibrated,
    flags,
    quick,
    small_table,
    tiny_weights,
    uncalibrated,
    without_bars,
    written_table,
)

from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError
from roadrisk.learning.model import read_model
from roadrisk.learning.pictures import feeds
from roadrisk.learning.settings import TrainSettings
from roadrisk.region import read_region
from roadrisk.scoring import score
from roadrisk.sources.demo import made_up_metro
from roadrisk.tiling import tile
from roadrisk.training import Trained, train

BASELINES = {"boosting", "logistic", "stack", "road_length", "base_rate"}
Roadrisk = Callable[..., Any]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_table(small_table(), tmp_path_factory.mktemp("small") / "table.csv")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A made-up metro of 20 x 20 tiles with the views `aerial` and `context`."""
    folder = tmp_path_factory.mktemp("wide")
    region = read_region(made_up_metro(folder / "metro", seed=3, rows=20, cols=20).region)
    return tile(replace(region, context=3), folder / "dataset", workers=1).dataset


@pytest.fixture(scope="module")
def compared(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model with all that it is compared with."""
    return train(table, tmp_path_factory.mktemp("compared") / "m", quick(quick=False))


def risks(data: Path, model: Path, out: Path) -> pd.DataFrame:
    score(data, model, [out])
    return pd.read_csv(out).set_index("tile_id")


# what is compared


def test_all_models_are_judged_on_both_splits(compared: Trained) -> None:
    metrics = json.loads((compared.path / "model.json").read_text())["metrics"]
    assert {split: set(models) for split, models in metrics.items()} == {
        split: {"fused", "image", "facts"} | BASELINES for split in ("spatial", "random")
    }
    assert all(found["n"] == 144 for models in metrics.values() for found in models.values())


def test_quick_judges_the_one_model_only(table: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    run = roadrisk("train", table, "-o", tmp_path / "m", *flags(), "--json")
    assert run.code == 0, run.err
    said = json.loads(run.out)
    assert {split: set(models) for split, models in said["metrics"].items()} == {
        "spatial": {"fused"},
        "random": {"fused"},
    }
    assert said["model"] == str(tmp_path / "m")


@pytest.mark.parametrize(
    ("encoder", "tune"), [("aerial-resnet18", "last"), (TINY, "last"), (TINY, "all"), (TINY, "none")]
)
def test_a_tuned_encoder_is_compared_with_the_frozen_one(
    encoder: str, tune: str, tiny: Path, tmp_path: Path
) -> None:
    rows = small_table(side=6 if encoder == TINY else 5).drop(columns=["lon", "lat"])
    if encoder != TINY:
        # each fact is shuffled to see what it is worth, and each time the pictures are looked at
        rows = rows.drop(columns=["speed", "traffic"])
        rows.loc[rows.index % 6 > 0, "image_path"] = None
    data = written_table(rows, tmp_path / "t.csv")
    given = {"weights": str(tiny)} if encoder == TINY else {}
    trained = train(data, tmp_path / "m", quick(encoder=encoder, tune=tune, quick=False, **given))
    tuned = {"fused_frozen"} if tune != "none" else set()
    tuned.add("boosting_with_image")  # the frozen encoder's features are there
    assert set(trained.model.metrics["random"]) == {"fused", "image", "facts"} | BASELINES | tuned
    learned = {name.split(".")[2] for name in trained.model.fold_models[0].state if "image.0." in name}
    assert ("encoder" in learned) == (tune != "none")
    assert (trained.model.encoder is None) == (tune != "none")
    if tune != "none":
        # both are of the same encoder, and tuning did something
        folds = trained.model.out_of_fold
        said = {
            name: folds[folds["model"] == name]["output"].to_numpy() for name in ("fused", "fused_frozen")
        }
        assert not np.allclose(said["fused"], said["fused_frozen"], atol=1e-3)


def test_an_encoder_that_was_random_has_no_frozen_rival(tmp_path: Path) -> None:
    rows = small_table(side=6).drop(columns=["lon", "lat"])
    data = written_table(rows, tmp_path / "t.csv")
    asked = quick(encoder=TINY, tune="all", weights="none", quick=False, inputs="image")
    assert set(train(data, tmp_path / "m", asked).model.metrics["random"]) == {
        "image",
        "road_length",
        "base_rate",
    }


# networks


@pytest.mark.parametrize("fusion", ["concat", "mlp", "gate", "attention"])
@pytest.mark.parametrize("views", [("aerial",), ("aerial", "context"), ("context", "aerial")])
def test_every_fusion_of_every_number_of_views(
    wide: Dataset, tmp_path: Path, fusion: str, views: tuple[str, ...]
) -> None:
    own = views[0] == "context"
    asked = TrainSettings(
        encoder="basic",
        epochs=1,
        folds=2,
        block_m=512,
        quick=True,
        fusion=fusion,  # type: ignore[arg-type]
        views=views,
        own_encoders=own,
    )
    trained = train(wide.path, tmp_path / "m", asked)
    # as wide as the widest view: no picture of a tested tile shows what one of a training tile shows
    assert trained.model.provenance["buffer_tiles"] == (3 if "context" in views else 1)
    encoders = {n.split(".")[1] for n in trained.model.fold_models[0].state if n.startswith("image.")}
    assert len(encoders) == (len(views) if own else 1)
    assert read_model(tmp_path / "m").architecture == trained.model.architecture
    risk = risks(wide.path, tmp_path / "m", tmp_path / "r.csv")
    kept = calibrated(trained.model)
    ours = risk[risk["in_training"]]["risk"]
    assert len(ours) == len(kept)
    np.testing.assert_allclose(ours, kept.reindex(ours.index), atol=1e-6)
    assert {f"has_{view}" for view in views if len(views) > 1} == {
        name for name in risk.columns if name in ("has_aerial", "has_context")
    }


def test_a_dataset_that_lacks_a_view_is_refused(
    wide: Dataset, dataset: Dataset, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    two = ("--views", "aerial,context", "--encoder", "basic", "--epochs", 1, "--folds", 2, "--quick")
    run = roadrisk("train", wide.path, "-o", tmp_path / "m", *two, "--block", 512)
    assert run.code == 0, run.err
    run = roadrisk("score", dataset.path, "--model", tmp_path / "m", "-o", tmp_path / "r.csv")
    assert (run.code, run.out) == (1, "")
    assert run.err == (
        f"roadrisk: {tmp_path / 'm'} was trained on other tiles than {dataset.path} has: no view context; "
        "tile the region as the model's was, or train a model on it\n"
    )
    assert not (tmp_path / "r.csv").exists()
    run = roadrisk("train", dataset.path, "-o", tmp_path / "m2", *two)
    assert run.code == 1
    assert "context" in run.err
    assert not (tmp_path / "m2").exists()


def test_frozen_features_are_made_once(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written_table(small_table(), tmp_path / "t.csv")
    looked: list[int] = []
    kept = feeds.FrozenFeatures._keep

    def counted(self: Any, chunk: Any, features: Any) -> None:
        looked.append(len(chunk))
        kept(self, chunk, features)

    monkeypatch.setattr(feeds.FrozenFeatures, "_keep", counted)
    asked = quick(encoder=TINY, weights=str(tiny))
    train(data, tmp_path / "first", asked)
    pictures = pd.read_csv(data)["image_path"].notna().sum()
    assert sum(looked) == pictures, "once for two folds of two splits"
    train(data, tmp_path / "again", replace(asked, folds=3, fusion="gate", seed=4))
    score(data, tmp_path / "again", [tmp_path / "r.csv"])
    assert sum(looked) == pictures, "and never again"
    files = list((tmp_path / "t.csv.cache").iterdir())
    assert len(files) == 1
    score(data, tmp_path / "first", [tmp_path / "r2.csv"])
    assert list((tmp_path / "t.csv.cache").iterdir()) == files


def test_a_frozen_encoder_is_written_as_it_was(table: Path, tiny: Path, tmp_path: Path) -> None:
    train(table, tmp_path / "m", quick(encoder=TINY, weights=str(tiny), learning_rate=0.1, epochs=2))
    given, written = load_file(tiny), load_file(tmp_path / "m/model.safetensors")
    frozen = {n.removeprefix("encoder."): v for n, v in written.items() if n.startswith("encoder.")}
    assert set(frozen) == {n for n in given if not n.endswith("num_batches_tracked")} or set(frozen) == set(
        given
    )
    assert all(torch.equal(frozen[name], given[name]) for name in frozen)
    assert any("running_mean" in name for name in frozen)


@pytest.mark.parametrize("encoder", ["basic", TINY])
def test_turned_pictures_score_the_same_after_augmenting(encoder: str, tiny: Path, tmp_path: Path) -> None:
    rows = small_table(side=6)
    data = written_table(rows, tmp_path / "t.csv")
    given = {"weights": str(tiny)} if encoder == TINY else {}
    for name, augment in (("m", True), ("plain", False)):
        train(data, tmp_path / f"{name}.trained", quick(encoder=encoder, augment=augment, **given))
        uncalibrated(tmp_path / f"{name}.trained", tmp_path / name)
    # as new tiles, since a turned picture is another file
    new = rows.assign(id=[f"new{i}" for i in range(len(rows))])
    found = {}
    for turn, mirror in ((0, False), (1, False), (2, True)):
        folder = tmp_path / f"turned{turn}{mirror}"
        folder.mkdir()
        turned = written_table(new, folder / "t.csv", turn, mirror)
        for name in ("m", "plain"):
            found[name, turn] = risks(turned, tmp_path / name, folder / f"{name}.csv")["risk"]
    for turn in (1, 2):
        np.testing.assert_allclose(found["m", turn], found["m", 0], rtol=0, atol=1e-5)
        assert not np.allclose(found["plain", turn], found["plain", 0], rtol=0, atol=1e-5)
    assert found["m", 0].nunique() > 10


# facts


def test_texts_of_a_table_are_categories_and_unseen_ones_are_told(
    table: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    rows = pd.read_csv(table)
    run = roadrisk("train", table, "-o", tmp_path / "m", *flags(inputs="facts", epochs=2))
    assert run.code == 0, run.err
    assert "facts: road_m, speed, traffic, surface" in without_bars(run.err)
    for fold in read_model(tmp_path / "m").fold_models:
        (category,) = fold.preparation.categories
        assert (category.column, category.texts) == ("surface", tuple(sorted(SURFACES)))
    new = rows.assign(id=[f"new{i}" for i in range(len(rows))])
    written_table(new, table.parent / "known.csv")
    new.loc[:6, "surface"] = "cobbles"
    written_table(new, table.parent / "new.csv")
    run = roadrisk("score", table.parent / "new.csv", "--model", tmp_path / "m", "-o", tmp_path / "r.csv")
    assert run.code == 0, run.err
    assert (
        "surface: 7 tiles have a value that the model never met; they count as unknown there"
        in without_bars(run.err)
    )
    run = roadrisk("score", table.parent / "known.csv", "--model", tmp_path / "m", "-o", tmp_path / "k.csv")
    assert "never met" not in run.err
    # an unseen value is an unknown one, where another fact is known
    written_table(new.assign(surface=new["surface"].replace("cobbles", None)), table.parent / "none.csv")
    none = risks(table.parent / "none.csv", tmp_path / "m", tmp_path / "n.csv")["risk"]
    unseen = pd.read_csv(tmp_path / "r.csv").set_index("tile_id")["risk"]
    assert len(none) > 100
    np.testing.assert_allclose(none, unseen[none.index], rtol=0, atol=1e-7)
    known = pd.read_csv(tmp_path / "k.csv").set_index("tile_id")["risk"]
    # where a text was known before, and nowhere else
    known, unseen = known.align(unseen, join="inner")
    changed = known.index.isin(new["id"][:7])
    assert ((known - unseen).abs() > 1e-5)[changed].all()
    np.testing.assert_allclose(known[~changed], unseen[~changed], rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["one-hot", "embedding"])
def test_texts_teach_the_network(tmp_path: Path, kind: str) -> None:
    """Dirt is risky and nothing else is."""
    rows = small_table()
    rows["surface"] = rows["surface"].fillna("paved")
    rows["high"] = np.where(rows["surface"] == "dirt", "yes", "no")
    data = written_table(rows, tmp_path / "t.csv")
    asked = quick(
        inputs="facts", features=("surface", "speed"), exclude=(), epochs=40, learning_rate=0.01,
        facts_network="embedding", categories=kind,
    )  # fmt: skip
    assert train(data, tmp_path / "m", asked).model.metrics["spatial"]["facts"]["auroc"] > 0.95


def test_neighbours_facts_widen_the_buffer_and_score(
    dataset: Dataset, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    some = ("--encoder", "basic", "--inputs", "facts", "--epochs", 1, "--folds", 2, "--quick")
    for name, sides, buffer in (("one", (), 1), ("seven", ("--neighbourhood", "3,7"), 3)):
        run = roadrisk("train", dataset.path, "-o", tmp_path / name, *some, *sides, "--block", 512, "--json")
        assert run.code == 0, run.err
        about = json.loads(run.out)["provenance"]
        assert about["buffer_tiles"] == buffer
        assert ({"road_m_3x3", "road_m_7x7"} <= set(about["facts"])) == bool(sides)
        run = roadrisk("score", dataset.path, "--model", tmp_path / name, "-o", tmp_path / f"{name}.csv")
        assert run.code == 0, run.err
    layers = {name: pd.read_csv(tmp_path / f"{name}.csv") for name in ("one", "seven")}
    assert list(layers["one"].columns) == list(layers["seven"].columns)
    kept = calibrated(read_model(tmp_path / "seven"))
    ours = layers["seven"].query("in_training").set_index("tile_id")["risk"]
    np.testing.assert_allclose(ours, kept.reindex(ours.index), atol=1e-6)


def test_rows_that_lie_nowhere_have_no_neighbours(table: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    bare = written_table(pd.read_csv(table).drop(columns=["lon", "lat"]), table.parent / "bare.csv")
    run = roadrisk("train", bare, "-o", tmp_path / "m", *flags(inputs="facts", neighbourhood=3))
    assert (run.code, run.out) == (2, "")
    assert run.err == (
        f"roadrisk: {bare} does not say where its rows lie, so they have no neighbours; "
        "leave out --neighbourhood, or give lon and lat\n"
    )
    assert not list(tmp_path.iterdir())


def test_missing_sides_are_trained_scored_and_marked(compared: Trained, table: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(table).set_index("id")
    blind, dumb = (
        rows["image_path"].isna(),
        rows[["road_m", "speed", "surface", "traffic"]].isna().all(axis=1),
    )
    assert blind.sum() == 14
    assert dumb.sum() > 9
    risk = risks(table, compared.path, tmp_path / "r.csv")
    assert (~risk["has_image"]).to_dict() == blind.to_dict()
    assert (~risk["has_facts"]).to_dict() == dumb.to_dict()
    assert risk["in_training"].all()
    assert compared.model.provenance["tiles_with_image"] == (~blind).sum()


def test_a_tile_without_facts_is_scored_by_its_picture_alone(
    compared: Trained, table: Path, tmp_path: Path
) -> None:
    """Medians of other rows stand for a missing fact, not for a missing side."""
    plain = uncalibrated(compared.path, tmp_path / "plain")
    model = read_model(plain)
    folds = tuple(
        replace(
            fold,
            preparation=replace(
                fold.preparation, facts=tuple(replace(f, fill=f.fill + 1000) for f in fold.preparation.facts)
            ),
        )
        for fold in model.fold_models
    )
    from roadrisk.learning.model import write_model

    write_model(replace(model, fold_models=folds), tmp_path / "filled")
    before, after = (
        risks(table, path, tmp_path / f"{path.name}.csv") for path in (plain, tmp_path / "filled")
    )
    dumb = ~before["has_facts"]
    pd.testing.assert_series_equal(before["risk"][dumb], after["risk"][dumb], check_exact=True)
    # and one fact alone is a side: there the others' stand-ins count
    rows = pd.read_csv(table)
    rows.loc[5, ["speed", "surface", "traffic"]] = None
    one = written_table(rows, table.parent / "one.csv")
    assert pd.notna(rows.loc[5, "road_m"])
    before, after = (risks(one, path, tmp_path / "o.csv") for path in (plain, tmp_path / "filled"))
    name = rows.loc[5, "id"]
    assert before.loc[name, "has_facts"]
    assert before.loc[name, "risk"] != after.loc[name, "risk"]


# tasks


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"label": "events", "task": "count", "exposure": "traffic"}, {"expected", "observed"}),
        ({"label": "events", "task": "count", "loss": "poisson"}, {"expected", "observed"}),
        ({"label": "cost", "task": "value"}, {"predicted", "observed"}),
        ({"label": "cost", "task": "value", "loss": "huber"}, {"predicted", "observed"}),
        (
            {"label": "level", "classes": ("low", "mid", "high")},
            {"class", "probability_low", "probability_mid", "probability_high", "label"},
        ),
        ({"label": "events", "at_least": 1}, {"label"}),
        ({"label": "high", "positive": "yes", "loss": "focal"}, {"label"}),
    ],
)
def test_layers_carry_what_a_task_says(
    table: Path, tmp_path: Path, roadrisk: Roadrisk, given: dict[str, Any], fields: set[str]
) -> None:
    others = tuple(name for name in LABELS if name != given["label"])
    asked = {"positive": None, "inputs": "facts", "epochs": 2, "exclude": others, **given}
    run = roadrisk("train", table, "-o", tmp_path / "m", *flags(**asked))
    assert run.code == 0, run.err
    run = roadrisk("score", table, "--model", tmp_path / "m", "-o", tmp_path / "r.csv")
    assert run.code == 0, run.err
    risk, rows = pd.read_csv(tmp_path / "r.csv"), pd.read_csv(table)
    of_tasks = {"expected", "predicted", "observed", "class", "label"}
    assert fields == {n for n in risk.columns if n in of_tasks or n.startswith("probability_")}
    assert risk["risk"].between(0, 1).all()
    rows = rows.set_index("id").reindex(risk["tile_id"]).reset_index()
    if "expected" in fields:
        pd.testing.assert_series_equal(risk["observed"], rows["events"].astype(float), check_names=False)
        assert risk.sort_values("rank")["expected"].is_monotonic_decreasing
    if "exposure" in given:
        assert risk["expected"].corr(rows["traffic"], method="spearman") > 0.5
    if "predicted" in fields:
        np.testing.assert_allclose(risk["observed"], rows["cost"])
        assert risk.sort_values("rank")["predicted"].is_monotonic_decreasing
        assert risk["predicted"].between(rows["cost"].min() / 2, rows["cost"].max() * 2).all()
    if "class" in fields:
        names = ["low", "mid", "high"]
        chances = risk[[f"probability_{name}" for name in names]]
        np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(risk["risk"], risk["probability_high"])
        assert risk["label"].tolist() == rows["level"].tolist()
        assert risk["class"].tolist() == [names[k] for k in chances.to_numpy().argmax(axis=1)]
    if "at_least" in given:
        assert risk["label"].tolist() == (rows["events"] >= 1).tolist()


def test_counts_without_exposure_are_not_learned_from_nor_expected(
    table: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    rows = pd.read_csv(table)
    lost = rows["traffic"].isna()
    run = roadrisk(
        "train", table, "-o", tmp_path / "m",
        *flags(label="events", positive=None, exclude=("high", "level", "cost"), inputs="facts", task="count",
               exposure="traffic"),
    )  # fmt: skip
    assert run.code == 0, run.err
    eventful = rows[lost]["events"]
    assert (
        f"{(eventful > 0).sum()} tiles with {eventful.sum()} events of events have no traffic: they are left out"
        in without_bars(run.err)
    )
    assert set(risks(table, tmp_path / "m", tmp_path / "r.csv").index) == set(rows["id"][~lost])


# no order matters


def test_no_order_of_rows_or_columns_changes_any_score(
    compared: Trained, table: Path, tmp_path: Path
) -> None:
    rows = pd.read_csv(table)
    shuffled = rows.sample(frac=1, random_state=1)[rows.columns[::-1]]
    mixed = written_table(shuffled, table.parent / "mixed.csv")
    again = train(mixed, tmp_path / "m", quick(quick=False))
    for split, models in compared.model.metrics.items():
        for name, found in models.items():
            assert again.model.metrics[split][name] == pytest.approx(found, rel=1e-12), (split, name)
    first, second = ((path / "model.safetensors").read_bytes() for path in (compared.path, tmp_path / "m"))
    assert first == second
    # of every compared model, to the bit; but for the digest of the table, which is another file
    said = [path / "folds.parquet" for path in (compared.path, tmp_path / "m")]
    tables = [pd.read_parquet(path).drop(columns="dataset") for path in said]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert set(tables[0]["model"]) == {"fused", "image", "facts"} | BASELINES
    straight = risks(table, compared.path, tmp_path / "a.csv")["risk"]
    other = risks(mixed, compared.path, tmp_path / "b.csv")["risk"]
    pd.testing.assert_series_equal(other.reindex(straight.index), straight, check_exact=True)


# logs and settings


def test_a_log_of_every_epoch(table: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    run = roadrisk("train", table, "-o", tmp_path / "m", *flags(inputs="facts", epochs=3, log="csv"))
    assert run.code == 0, run.err
    assert sorted(path.name for path in (tmp_path / "m.log").iterdir()) == [
        f"{split}-facts-{k}" for split in ("random", "spatial") for k in (0, 1)
    ]
    for path in (tmp_path / "m.log").glob("*/metrics.csv"):
        log = pd.read_csv(path)
        assert log["step"].tolist() == [1, 2, 3]
        assert log[["loss", "watched_loss"]].notna().all(axis=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m.log"]


def test_settings_of_a_file_and_flags_over_them(table: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    file = tmp_path / "s.toml"
    file.write_text('learning_rate = 0.02\nfusion = "gate"\nepochs = 3\nscaling = { sum = "log" }\n')
    asked = flags(inputs="facts", epochs=1)
    run = roadrisk("train", table, "-o", tmp_path / "m", *asked, "--settings", file, "--json")
    assert run.code == 0, run.err
    used = json.loads(run.out)["provenance"]["settings"]
    assert (used["learning_rate"], used["fusion"], used["epochs"]) == (0.02, "gate", 1)
    assert used["scaling"] == {"sum": "log"}


def test_a_training_that_was_refused_leaves_an_older_one(table: Path, tmp_path: Path) -> None:
    train(table, tmp_path / "m", quick(inputs="facts"))
    with pytest.raises(ModelError, match=f"^{tmp_path / 'm'} exists; choose another -o, or remove it$"):
        train(table, tmp_path / "m", quick(inputs="facts"))
    assert read_model(tmp_path / "m").metrics
