"""`roadrisk train` as processes of its own: killed and gone on with, interrupted, and two at once."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import Run
from safetensors.torch import load_file
from small_tables import flags, small_table, without_bars, written_table

Roadrisk = Callable[..., Run]
# two folds of two splits; slow enough to be met in the middle
ASKED = {"inputs": "facts", "epochs": 12}
MORE = "learning_rate = 0.003\nbatch_size = 4\npatience = 12\ndropout = 0.2\n"


class Trained(NamedTuple):
    """A finished training."""

    table: Path
    settings: Path
    model: Path


def command(table: Path, out: Path, settings: Path, *more: str) -> list[str]:
    asked = [*flags(**ASKED), "--settings", str(settings), *more]
    return [sys.executable, "-m", "roadrisk", "train", str(table), "-o", str(out), *asked]


def ran(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("undisturbed")
    table, settings = written_table(small_table(), folder / "t.csv"), folder / "s.toml"
    settings.write_text(MORE)
    done = ran(command(table, folder / "m", settings))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'm'}\n"
    assert not (folder / "m.training").exists()
    return Trained(table, settings, folder / "m")


def stopped(
    undisturbed: Trained, out: Path, after: int, how: signal.Signals, *more: str
) -> subprocess.Popen[str]:
    """A training that was sent a signal once it had kept something of so many fits."""
    started = subprocess.Popen(
        command(undisturbed.table, out, undisturbed.settings, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    kept = out.with_name(out.name + ".training")
    until = time.monotonic() + 120
    while len(list(kept.glob("[!.]*.checkpoint"))) < after and started.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.001)
    started.send_signal(how)
    return started


def same_model(first: Path, second: Path) -> bool:
    return all(
        (first / name).read_bytes() == (second / name).read_bytes()
        for name in ("model.safetensors", "folds.parquet", "model.json")
    )


@pytest.mark.parametrize("after", [1, 4])
def test_killed_and_gone_on_with_it_is_the_same_model(
    undisturbed: Trained, tmp_path: Path, after: int, roadrisk: Roadrisk
) -> None:
    out = tmp_path / "m"
    killed = stopped(undisturbed, out, after, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL, "it was over before"
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m.training"]
    run = roadrisk(*command(undisturbed.table, out, undisturbed.settings, "--resume")[3:])
    assert (run.code, run.out) == (0, f"{out}\n"), run.err
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert same_model(out, undisturbed.model)


@pytest.fixture(scope="module")
def killed(undisturbed: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model of a training would be that was killed."""
    out = tmp_path_factory.mktemp("killed") / "m"
    stopped(undisturbed, out, 2, signal.SIGKILL).communicate()
    return out


def test_an_unfinished_training_is_not_begun_anew(
    undisturbed: Trained, killed: Path, roadrisk: Roadrisk
) -> None:
    before = {path.name: path.read_bytes() for path in killed.with_name("m.training").iterdir()}
    run = roadrisk(*command(undisturbed.table, killed, undisturbed.settings)[3:])
    assert (run.code, run.out) == (1, "")
    assert run.err == (
        f"roadrisk: {killed}.training holds an unfinished training; go on with it by --resume, or remove it\n"
    )
    assert {path.name: path.read_bytes() for path in killed.with_name("m.training").iterdir()} == before


def test_another_training_is_not_gone_on_with(undisturbed: Trained, killed: Path, roadrisk: Roadrisk) -> None:
    for other in (["--seed", "1"], ["--fusion", "gate"], ["--epochs", "13"]):
        run = roadrisk(*command(undisturbed.table, killed, undisturbed.settings, "--resume", *other)[3:])
        assert (run.code, run.out) == (1, "")
        assert without_bars(run.err) == [
            f"roadrisk: {killed}.training/spatial-facts-0.checkpoint is of another training (other data, "
            "settings or seed); go on with those it began with, or remove it to start this part anew"
        ]
        assert not killed.exists()


def test_a_checkpoint_that_was_cut_is_one_line(
    undisturbed: Trained, killed: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    out = tmp_path / "m"
    shutil.copytree(f"{killed}.training", tmp_path / "m.training")
    first = tmp_path / "m.training/spatial-facts-0.checkpoint"
    first.write_bytes(first.read_bytes()[:-1])
    run = roadrisk(*command(undisturbed.table, out, undisturbed.settings, "--resume")[3:])
    assert (run.code, run.out) == (1, "")
    assert without_bars(run.err) == [
        f"roadrisk: {first}: the checkpoint is damaged; remove it to start this part anew"
    ]
    first.unlink()
    run = roadrisk(*command(undisturbed.table, out, undisturbed.settings, "--resume")[3:])
    assert run.code == 0, run.err
    assert same_model(out, undisturbed.model)


def test_ctrl_c_is_one_line_that_says_how_to_go_on(undisturbed: Trained, tmp_path: Path) -> None:
    out = tmp_path / "m"
    # enough folds that it is at work when the signal comes, however busy the machine is
    interrupted = stopped(undisturbed, out, 1, signal.SIGINT, "--folds", "12")
    printed, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert printed == ""
    assert without_bars(said) == [
        "roadrisk: stopped; `tile`, `tune` and `roads apply` run again and `train --resume` go on where they "
        "stopped, other commands start over"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["m.training"]
    assert (tmp_path / "m.training/spatial-facts-0.checkpoint").exists()


def test_two_processes_write_and_print_once_what_one_does(
    undisturbed: Trained, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    settings = tmp_path / "s.toml"
    settings.write_text(MORE.replace("dropout = 0.2", "dropout = 0.0"))
    shutil.copy(undisturbed.table, tmp_path / "t.csv")
    shutil.copytree(undisturbed.table.parent / "pictures", tmp_path / "pictures")
    alone = roadrisk(*command(tmp_path / "t.csv", tmp_path / "alone", settings, "--epochs", "3")[3:])
    assert alone.code == 0, alone.err
    two = command(tmp_path / "t.csv", tmp_path / "two", settings, "--epochs", "3", "--devices", "2")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    both = ran([sys.executable, *torchrun, *two[1:]])
    assert both.returncode == 0, both.stderr
    assert both.stdout == f"{tmp_path / 'two'}\n"

    def summary(text: str) -> list[str]:
        return [line for line in without_bars(text) if not line.startswith("trained in ")]

    assert summary(both.stderr) == summary(alone.err)
    assert {path.name for path in tmp_path.iterdir()} == {"s.toml", "t.csv", "pictures", "alone", "two"}
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "two"))
    assert set(first) == set(second)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-5)
    metrics = [json.loads((tmp_path / n / "model.json").read_text())["metrics"] for n in ("alone", "two")]
    for split in ("spatial", "random"):
        found = [one[split]["facts"]["brier"] for one in metrics]
        assert found[0] == pytest.approx(found[1], abs=1e-4)
