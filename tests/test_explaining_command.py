"""`roadrisk explain`: what it says, the page it writes, and what it refuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from roadrisk.dataset import Dataset
from roadrisk.errors import DatasetError, LayerError, ModelError, UsageError
from roadrisk.explaining import explain
from roadrisk.learning.architecture import network_of
from roadrisk.learning.explaining.explanation import NOT_CAUSES, Explanation
from roadrisk.learning.explaining.heat import Heat
from roadrisk.learning.explaining.reasons import Part
from roadrisk.learning.model import Model, read_model, write_model
from roadrisk.learning.settings import TrainSettings
from roadrisk.reporting.explained import blended, explained_page
from roadrisk.scoring import score
from roadrisk.training import train

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def model(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for an epoch; tests only read it."""
    out = tmp_path_factory.mktemp("trained") / "model"
    train(dataset.path, out, TrainSettings(encoder="basic", epochs=1, batch_size=64, folds=3, quick=True))
    return out


def own_rows(known: Model) -> pd.DataFrame:
    """What its folds say of training tiles that they did not see, by key."""
    table = known.out_of_fold
    return table[(table["split"] == known.split) & (table["model"] == known.name)].set_index("key")


@pytest.fixture(scope="module")
def tile_id(dataset: Dataset, model: Path) -> str:
    """Of a training tile."""
    return str(read_model(model).out_of_fold["key"].iloc[40])


@pytest.fixture(scope="module")
def explained(dataset: Dataset, model: Path, tile_id: str) -> Explanation:
    return explain(dataset.path, model, tile_id)


def test_what_is_explained_is_the_score_of_the_layer(
    dataset: Dataset, model: Path, explained: Explanation, tmp_path: Path
) -> None:
    score(dataset.path, model, [tmp_path / "risk.csv"])
    layer = pd.read_csv(tmp_path / "risk.csv").set_index("tile_id").loc[explained.tile]
    assert explained.said["risk"] == pytest.approx(layer["risk"], rel=1e-5)
    assert bool(explained.said["label"]) == (str(layer["label"]) in ("True", "1", "1.0", "true"))
    own = own_rows(read_model(model)).loc[explained.tile, "output"]
    of = explained.sum
    assert of.score == pytest.approx(own, abs=1e-4)
    assert of.base + of.picture + of.facts == pytest.approx(own, abs=1e-4)
    assert sum(part.amount for part in explained.parts) == pytest.approx(of.picture + of.facts, abs=1e-9)


def test_the_lines_tell_score_reasons_like_tiles_and_that_they_are_no_causes(explained: Explanation) -> None:
    lines = explained.lines()
    assert lines[0].startswith(f"{explained.tile} of {explained.region}: risk ")
    assert lines[1] == "A training tile: this is the word of the fold that did not see it."
    assert "an association, not a cause" in lines[2]
    assert (
        "What moved the score against a typical tile without a picture (log-odds; +0.69 doubles the odds):"
        in lines
    )
    assert any(line.startswith("They add up: base ") and "= " in line for line in lines)
    assert lines[-1] == NOT_CAUSES
    assert len([line for line in lines if ": distance " in line]) == 5


def test_programs_are_told_the_same(explained: Explanation) -> None:
    told = json.loads(json.dumps(explained.as_json(), allow_nan=False))
    amounts = [part["amount"] for part in told["parts"]]
    assert told["base"] + sum(amounts) == pytest.approx(told["explained"]["score"], abs=1e-9)
    assert told["parts"][0]["of"] == "aerial"
    assert len({part["of"] for part in told["parts"]}) == len(amounts)
    assert len(told["like"]) == 5


def test_like_tiles_are_training_tiles_with_what_the_model_knows_of_them(
    model: Path, explained: Explanation
) -> None:
    known = read_model(model)
    own = own_rows(known)
    apart = [one.distance for one in explained.like]
    assert apart == sorted(apart)
    for one in explained.like:
        assert one.key != explained.tile
        assert one.observed.split(" ")[0] == known.architecture.task.classes[int(own.loc[one.key, "label"])]
        assert one.observed.endswith(f"({own.loc[one.key, 'events']:g})")
        assert 0 < one.said < 1
    assert explained.like_told.startswith("The 5 training tiles with the most similar facts, of ")


def test_a_dataset_given_twice_is_compared_once(
    dataset: Dataset, model: Path, tile_id: str, explained: Explanation
) -> None:
    again = explain(dataset.path, model, tile_id, training=[dataset.path])
    assert again.like == explained.like
    assert again.like_told == explained.like_told


def test_without_training_tiles_here_it_says_so(
    dataset: Dataset, model: Path, tile_id: str, tmp_path: Path
) -> None:
    known = read_model(model)
    moved = known.out_of_fold.assign(key="elsewhere " + known.out_of_fold["key"])
    write_model(replace(known, out_of_fold=moved), tmp_path / "elsewhere")
    told = explain(dataset.path, tmp_path / "elsewhere", tile_id)
    assert told.like == ()
    assert told.voice == "Not a training tile: this is the mean of all 3 folds."
    trained = len(own_rows(known))
    assert told.like_told == (
        f"None of the model's {trained:,} training tiles is here to be compared: give the datasets that it "
        "was trained on (what it learned from) with --training"
    )


def test_the_page_holds_all_and_runs_nothing(
    dataset: Dataset, model: Path, tile_id: str, tmp_path: Path
) -> None:
    pytest.importorskip("captum", reason="captum is not installed; make test-readers installs it")
    told = explain(dataset.path, model, tile_id, tmp_path / "why.html")
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert [heat.view for heat in told.heats] == ["aerial"]
    assert page.count("<svg") == 3  # the picture, the heat map over it, the contributions
    assert page.count('<image x="0"') == 2
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert NOT_CAUSES in page
    assert all(one.tile_id in page for one in told.like)
    again = explain(dataset.path, model, tile_id, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "why.html").read_bytes()
    assert again.as_json() == told.as_json()


def test_text_from_data_is_letters_on_the_page(explained: Explanation) -> None:
    hostile = replace(
        explained,
        region=HOSTILE,
        parts=(Part(HOSTILE, HOSTILE, 0.5),),
        columns=(HOSTILE,),
        like=tuple(replace(one, tile_id=HOSTILE, observed=HOSTILE) for one in explained.like),
        heats=(Heat(HOSTILE, np.eye(8), HOSTILE),),
    )
    page = explained_page(hostile, {HOSTILE: np.zeros((3, 8, 8), np.uint8)}, {})
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5


def test_where_nothing_is_warm_the_grey_picture_is_blue_and_where_it_is_warmest_yellow() -> None:
    mixed = blended(np.full((3, 2, 2), 100, np.uint8), np.array([[0.0, 1.0], [0.0, 1.0]]))
    red, blue = mixed[:, :, 0].astype(int), mixed[:, :, 2].astype(int)
    assert (blue[:, 0] > red[:, 0]).all()
    assert (red[:, 1] > blue[:, 1]).all()


def test_a_tile_that_is_not_there_is_one_line_with_the_nearest_names(
    dataset: Dataset, model: Path, tile_id: str
) -> None:
    with pytest.raises(DatasetError) as error:
        explain(dataset.path, model, f"{tile_id}7")
    start = f"{dataset.path} has no tile '{tile_id}7' among its 256; the nearest names are "
    assert str(error.value).startswith(start)
    near = str(error.value).removeprefix(start).split(", ")
    assert len(near) == 3
    assert tile_id in near


@pytest.mark.parametrize(
    ("out", "words", "kind"),
    [
        ("why.pdf", "{out} is no page; explain writes .html", UsageError),
        (
            "no/why.html",
            "{folder} is not a folder, so why.html cannot be written there; make it first",
            LayerError,
        ),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, out: str, words: str, kind: type[Exception]
) -> None:
    path = tmp_path / out
    with pytest.raises(kind) as error:
        explain(tmp_path / "no-data", tmp_path / "no-model", "x", path)
    assert str(error.value) == words.format(out=path, folder=path.parent)


def test_a_tile_without_what_the_model_looks_at_is_one_line(
    dataset: Dataset, model: Path, tmp_path: Path
) -> None:
    known = read_model(model)
    architecture = replace(known.architecture, facts=None)
    folds = tuple(
        replace(fold, state={name: value.contiguous() for name, value in network.state_dict().items()})
        for fold in known.fold_models
        for network in [network_of(architecture, fold.preparation.shape)]
    )
    table = known.out_of_fold[known.out_of_fold["model"] == "fused"].assign(model="image")
    write_model(
        replace(known, architecture=architecture, fold_models=folds, out_of_fold=table), tmp_path / "m"
    )
    tiles = dataset.tiles()
    bare = str(tiles["tile_id"][tiles["coverage_aerial"] == 0].iloc[0])
    with pytest.raises(ModelError) as error:
        explain(dataset.path, tmp_path / "m", bare)
    assert str(error.value) == (
        f"tile {bare} of {dataset.path} has no picture for {tmp_path / 'm'} to look at: there is no score to explain"
    )


def test_without_captum_one_line_says_how_to_get_it(
    dataset: Dataset, model: Path, tile_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    assert explain(dataset.path, model, tile_id).parts
    with pytest.raises(UsageError, match=r"^a heat map needs captum: pip install 'roadrisk\[explain\]'$"):
        explain(dataset.path, model, tile_id, tmp_path / "why.html")
    assert not (tmp_path / "why.html").exists()
