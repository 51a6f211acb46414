"""A search for settings: what it tries, what it keeps, and how it goes on."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError, UsageError
from roadrisk.learning.settings import TrainSettings
from roadrisk.schema import settings_of
from roadrisk.searching import search_space
from roadrisk.training import train
from roadrisk.tuning import Ground, score_of, tune
from tests.metro_examples import metro_dataset

START = TrainSettings(encoder="basic", inputs="facts", epochs=2, folds=2, batch_size=64)
LOOKS = replace(START, inputs="both", epochs=1, block_m=512)
SEARCH = """
import sys
from pathlib import Path
from roadrisk.learning.settings import TrainSettings
from roadrisk.tuning import tune
start = TrainSettings(encoder="basic", inputs="facts", epochs=2, folds=2, batch_size=64)
tune(Path(sys.argv[1]), Path(sys.argv[2]), start, trials=10_000)
"""


@pytest.fixture(scope="module")
def metro(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A metro with two views; tests only read it."""
    return metro_dataset(tmp_path_factory.mktemp("tuned"), "a", 1, 20, context=3)


def kept(out: Path) -> list[dict[str, Any]]:
    """The trials beside a file of settings."""
    lines = out.with_name(f"{out.name}.trials").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def refusal(run: Callable[[], object]) -> str:
    with pytest.raises((ModelError, UsageError)) as caught:
        run()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def searched(metro: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of twelve trials on the facts, more than are drawn by chance alone; tests only read them."""
    out = tmp_path_factory.mktemp("searched") / "tuned.toml"
    tune(metro.path, out, START, trials=12)
    return out


def test_the_first_trial_is_what_was_started_from_and_the_best_is_no_worse(
    metro: Dataset, searched: Path, tmp_path: Path
) -> None:
    trials = kept(searched)
    assert len(trials) == 12
    assert trials[0]["params"] == {
        "learning_rate": 2e-4,
        "weight_decay": 0.0,
        "dropout": 0.5,
        "facts_width": 0,
    }
    ground = Ground((metro.path,), replace(START, quick=True), START.views, lambda *_: None)
    assert trials[0]["value"] == score_of(ground, ground.start, ground.inner)
    found = tune(metro.path, searched, START, trials=12)
    best = max(trials, key=lambda one: one["value"])
    assert found.inner == (trials[0]["value"], best["value"])
    assert found.inner[1] >= found.inner[0]
    assert found.trials == 12
    assert found.measure == "auroc_fold_mean"
    settings = settings_of(TrainSettings, {}, searched)
    for name in ("learning_rate", "weight_decay", "dropout"):
        assert getattr(settings, name) == best["params"][name]
    assert (settings.encoder, settings.inputs, settings.epochs, settings.folds) == ("basic", "facts", 2, 2)
    assert not settings.quick
    # what is found scores as was said, once more
    assert score_of(ground, replace(settings, quick=True), ground.inner) == best["value"]


def test_the_settings_found_are_what_train_takes(
    metro: Dataset, searched: Path, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    run = roadrisk("train", metro.path, "--settings", searched, "--quick", "-o", tmp_path / "m")
    assert run.code == 0, run.err
    told = json.loads((tmp_path / "m/model.json").read_text())["provenance"]["settings"]
    for name, value in tomllib.loads(searched.read_text()).items():
        assert told[name] == value


def test_the_same_seed_tries_the_same_and_another_seed_others(
    metro: Dataset, searched: Path, tmp_path: Path
) -> None:
    tune(metro.path, tmp_path / "same.toml", START, trials=12)
    assert kept(tmp_path / "same.toml") == kept(searched)
    assert (tmp_path / "same.toml").read_bytes() == searched.read_bytes()
    tune(metro.path, tmp_path / "other.toml", replace(START, seed=1), trials=2)
    assert kept(tmp_path / "other.toml")[1]["params"] != kept(searched)[1]["params"]
    # choices after the first are drawn, not listed
    assert len({json.dumps(one["params"]) for one in kept(searched)}) == 12


def test_a_search_that_is_killed_goes_on_as_if_it_had_not_been(metro: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "tuned.toml"
    beside = out.with_name("tuned.toml.trials")
    process = subprocess.Popen([sys.executable, "-c", SEARCH, str(metro.path), str(out)])
    try:
        while not beside.exists() or beside.read_bytes().count(b"\n") < 4:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = kept(out)
    assert len(done) >= 3
    assert settings_of(TrainSettings, {}, out), "the best so far is there"
    # the line that was being written
    with beside.open("ab") as file:
        file.write(b'{"number": 99, "par')
    trials = len(done) + 2
    found = tune(metro.path, out, START, trials=trials)
    assert found.trials == trials
    assert kept(out)[: len(done)] == done
    whole = tmp_path / "whole.toml"
    tune(metro.path, whole, START, trials=trials)
    assert kept(out) == kept(whole)
    assert out.read_bytes() == whole.read_bytes()


def test_what_was_asked_for_before_is_not_tried_again(metro: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "tuned.toml"
    tune(metro.path, out, START, trials=2)
    before = out.with_name("tuned.toml.trials").read_bytes()
    tune(metro.path, out, START, trials=1)
    assert out.with_name("tuned.toml.trials").read_bytes() == before
    tune(metro.path, out, START, trials=3)
    assert out.with_name("tuned.toml.trials").read_bytes().startswith(before)
    assert len(kept(out)) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace(b"learning_rate", b"learning_hate"),
        lambda text: text.replace(b'"number": 1', b'"number": 7'),
        lambda text: text.replace(b'"dropout": 0.5', b'"dropout": "much"'),
        lambda text: text.replace(b'"dropout": 0.5', b'"dropout": 7.0'),
        lambda text: text.replace(b'"failed": ""', b'"failed": "why"'),
        lambda text: text.replace(b'"value": ', b'"value": [], "was": '),
        lambda text: text[100:],
        lambda text: b"PK\x03\x04\n\xff\xfe\n",
        lambda text: b"[]\n" + text,
        lambda text: b"[" * 100_000 + b"\n",
        lambda text: text.replace(b'"kind": "roadrisk trials", ', b""),
    ],
)
def test_damaged_trials_are_one_line(metro: Dataset, searched: Path, tmp_path: Path, damage: Any) -> None:
    out = tmp_path / "tuned.toml"
    beside = out.with_name("tuned.toml.trials")
    text = searched.with_name("tuned.toml.trials").read_bytes()
    assert damage(text) != text
    beside.write_bytes(damage(text))
    said = refusal(lambda: tune(metro.path, out, START, trials=12))
    assert said == f"{beside} is damaged, or holds no trials; remove it to start over"
    assert not out.exists()


@pytest.mark.parametrize(
    "other",
    [replace(START, epochs=3), replace(START, seed=1), replace(START, features=("road_m", "road_dead_ends"))],
)
def test_another_plan_is_refused(
    metro: Dataset, searched: Path, tmp_path: Path, other: TrainSettings
) -> None:
    before = searched.read_bytes()
    said = refusal(lambda: tune(metro.path, searched, other, trials=1))
    assert said == (
        f"{searched}.trials holds a search over other data, settings or choices; choose another -o, "
        "or remove it"
    )
    assert "over other data" in refusal(
        lambda: tune(metro.path, searched, START, trials=1, search=["dropout"])
    )
    assert searched.read_bytes() == before


def test_other_data_is_another_plan(metro: Dataset, searched: Path, tmp_path: Path) -> None:
    other = metro_dataset(tmp_path, "b", 3)
    assert "over other data" in refusal(lambda: tune(other.path, searched, START, trials=1))
    assert "over other data" in refusal(lambda: tune([metro.path, other.path], searched, START, trials=1))
    found = tune([metro.path, other.path], tmp_path / "t.toml", START, trials=2)
    assert found.trials == 2


def test_a_file_that_is_no_searchs_is_left_alone(metro: Dataset, tmp_path: Path) -> None:
    mine = tmp_path / "settings.toml"
    mine.write_text("epochs = 7\n")
    said = refusal(lambda: tune(metro.path, mine, START, trials=1))
    assert said == f"{mine} exists and is of no search that could go on; choose another -o, or remove it"
    assert mine.read_text() == "epochs = 7\n"
    assert [file.name for file in tmp_path.iterdir()] == ["settings.toml"]


def test_two_searches_do_not_write_one_file(metro: Dataset, tmp_path: Path) -> None:
    beside = tmp_path / "t.toml.trials"
    with beside.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = refusal(lambda: tune(metro.path, tmp_path / "t.toml", START, trials=1))
    assert said == f"{beside} is being written by another search; wait for it, or choose another -o"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(metro: Dataset, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be written" in refusal(lambda: tune(metro.path, tmp_path / "t.toml", START, trials=1))


def test_without_optuna_one_line_says_what_to_install(
    metro: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roadrisk: Callable[..., Any]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    run = roadrisk("tune", metro.path, "-o", tmp_path / "t.toml")
    assert run.code == 2
    assert run.err.strip() == "roadrisk: tune needs the package optuna: pip install 'roadrisk[tune]'"


def test_a_command_says_what_was_found_and_what_it_is_worth(
    metro: Dataset, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    (tmp_path / "start.toml").write_text(
        'encoder = "basic"\ninputs = "facts"\nepochs = 2\nfolds = 2\nlearning_rate = 0.05\n'
    )
    args = ("--trials", 2, "--search", "dropout", "--settings", tmp_path / "start.toml")
    run = roadrisk("tune", metro.path, *args, "-o", tmp_path / "new/t.toml")
    assert run.code == 0, run.err
    assert run.out.strip() == str(tmp_path / "new/t.toml")
    assert "2 trials judged" in run.err
    assert "auroc_fold_mean in inner folds: " in run.err
    assert "on tiles that the search never saw: " in run.err
    assert [list(one["params"]) for one in kept(tmp_path / "new/t.toml")] == [["dropout"]] * 2
    assert settings_of(TrainSettings, {}, tmp_path / "new/t.toml").learning_rate == 0.05
    run = roadrisk("tune", metro.path, *args, "-o", tmp_path / "new/t.toml", "--json")
    assert json.loads(run.out)["trials"] == 2


# --- what is searched over -----------------------------------------------------------------------------


def test_what_is_started_from_is_always_a_choice() -> None:
    start = replace(
        LOOKS,
        learning_rate=0.5,
        weight_decay=0.03,
        dropout=0.9,
        facts_network="embedding",
        facts_width=48,
        encoder="timm:resnet10t",
        views=("roads", "aerial"),
    )
    space: Any = search_space(start, ("roads", "aerial", "context"), None)
    assert (space["learning_rate"].low, space["learning_rate"].high) == (1e-4, 0.5)
    assert space["dropout"].high == 0.9
    assert 0.03 in space["weight_decay"].choices
    assert 48 in space["facts_width"].choices
    assert "timm:resnet10t" in space["encoder"].choices
    assert set(space["views"].choices) == {
        "roads",
        "aerial",
        "context",
        "roads,aerial",
        "roads,context",
        "aerial,context",
        "roads,aerial,context",
    }
    assert set(space["fusion"].choices) == {"concat", "mlp", "gate", "attention"}


@pytest.mark.parametrize(
    ("inputs", "absent"), [("facts", {"fusion", "encoder", "views"}), ("image", {"fusion", "facts_width"})]
)
def test_a_side_that_is_not_there_has_no_choices(inputs: Any, absent: set[str]) -> None:
    every = set(search_space(LOOKS, ("aerial", "roads"), None))
    start = replace(LOOKS, inputs=inputs)
    assert every - set(search_space(start, ("aerial", "roads"), None)) == absent


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            ["epochs"],
            "--search epochs: there is no choice of it here; name some of learning_rate, weight_decay, dropout",
        ),
        (["views"], "--search views: there is no choice of it here"),
        (["fusion=gate"], "--search fusion=gate: only encoder takes candidates"),
        (["encoder=basic+resnet35"], "--encoder resnet35 is none of basic, resnet18,"),
    ],
)
def test_what_cannot_be_searched_over_is_one_line(search: list[str], message: str) -> None:
    said = refusal(lambda: search_space(LOOKS, ("aerial",), search))
    assert said.startswith(message)


def test_the_encoders_to_try_can_be_named() -> None:
    space: Any = search_space(LOOKS, ("aerial",), ["encoder=resnet50+timm:resnet10t", "dropout"])
    assert set(space) == {"encoder", "dropout"}
    assert space["encoder"].choices == ("resnet50", "timm:resnet10t", "basic")


def test_views_and_fusions_are_tried_on_the_same_tiles(metro: Dataset, tmp_path: Path) -> None:
    """A view that reaches further needs a wider buffer: all trials have it."""
    out = tmp_path / "t.toml"
    found = tune(metro.path, out, LOOKS, trials=3, search=["views", "fusion"])
    assert found.trials == 3
    assert not found.failed
    tried = {one["params"]["views"] for one in kept(out)}
    assert tried <= {"aerial", "context", "aerial,context"}
    assert len(tried) > 1, "choose another seed"
    settings = settings_of(TrainSettings, {}, out)
    assert ",".join(settings.views) in tried
    ground = Ground((metro.path,), replace(LOOKS, quick=True), ("aerial", "context"), lambda *_: None)
    assert ground.known.buffer == 3
    rows, folds = ground.inner
    examples = ground.known.examples
    assert examples.row is not None
    assert examples.col is not None
    test = ground.first.test_rows(0)
    assert not set(rows) & set(test)
    apart = np.maximum(
        abs(examples.row[rows][:, None] - examples.row[test]),
        abs(examples.col[rows][:, None] - examples.col[test]),
    )
    assert apart.min() > ground.known.buffer
    assert len(folds.fold) == len(rows)
    assert set(ground.untouched[1].test_rows(0)) == set(test)


def test_pictures_are_prepared_as_each_encoder_expects(metro: Dataset) -> None:
    ground = Ground((metro.path,), replace(LOOKS, quick=True), ("aerial",), lambda *_: None)
    other = replace(LOOKS, encoder="resnet18")
    assert ground.gathered(LOOKS).pictures != ground.gathered(other).pictures
    assert ground.gathered(LOOKS) is ground.gathered(replace(LOOKS, dropout=0.1))


def test_trials_that_fail_are_counted_and_told_why(
    metro: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    out = tmp_path / "t.toml"
    found = tune(metro.path, out, LOOKS, trials=4, search=["encoder=resnet50"])
    encoders = [one["params"]["encoder"] for one in kept(out)]
    assert encoders.count("resnet50") in (1, 2, 3), "choose another seed"
    assert found.trials == encoders.count("basic")
    [(why, count)] = found.failed.items()
    assert count == encoders.count("resnet50")
    assert "put resnet50-0676ba61.pth into" in why
    assert f"{count} failed: {why}" in found.lines()
    assert settings_of(TrainSettings, {}, out).encoder == "basic"
    # and are not tried again
    assert tune(metro.path, out, LOOKS, trials=4, search=["encoder=resnet50"]).failed == found.failed
    # what is started from must do
    said = refusal(
        lambda: tune(metro.path, tmp_path / "u.toml", replace(LOOKS, encoder="resnet50"), trials=2)
    )
    assert "put resnet50-0676ba61.pth into" in said
    assert not (tmp_path / "u.toml").exists()


@pytest.mark.parametrize(("task", "measure"), [("count", "deviance"), ("value", "rmse")])
def test_less_of_an_error_is_better(metro: Dataset, tmp_path: Path, task: Any, measure: str) -> None:
    out = tmp_path / "t.toml"
    start = replace(START, task=task, label="crashes_label", features=("road_m_primary", "road_m_secondary"))
    found = tune(metro.path, out, start, trials=3)
    assert found.measure == measure
    assert found.inner[1] == min(one["value"] for one in kept(out))


def test_a_search_finds_what_is_plainly_better(metro: Dataset, tmp_path: Path) -> None:
    """A rate at which nothing is learned is left behind."""
    start = replace(START, learning_rate=1e-7, epochs=20, batch_size=16)
    found = tune(metro.path, tmp_path / "t.toml", start, trials=4, search=["learning_rate"])
    assert found.found["learning_rate"] > 1e-5
    assert found.inner[1] > found.inner[0]
    train(
        metro.path, tmp_path / "m", replace(settings_of(TrainSettings, {}, tmp_path / "t.toml"), quick=True)
    )
