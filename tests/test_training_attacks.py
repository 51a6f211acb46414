"""Training by those who mean harm, and by those who do not look: leaks, links, and two runs at once."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from lessons import CLASS, lesson_of, network_for
from safetensors.torch import load_file, save_file
from small_tables import quick, small_table, written_table

from roadrisk.columns import Column
from roadrisk.errors import DatasetError, ModelError, UsageError
from roadrisk.files import locked, sha256_of
from roadrisk.learning.facts.choosing import chosen_facts
from roadrisk.learning.judging.measured import metrics_table
from roadrisk.learning.labels.label import Label
from roadrisk.learning.loop.checkpoints import SUFFIX, Checkpoints
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.loop.fit import fit
from roadrisk.learning.loop.unfinished import PLAN, unfinished
from roadrisk.learning.model import read_model
from roadrisk.learning.pictures.kept import Kept
from roadrisk.learning.pictures.sources import picture_preparation
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import learned_target
from roadrisk.model_information import told_of_model
from roadrisk.terminal import report
from roadrisk.training import train

BEFORE, DURING = ("2021-01-01", "2024-01-01"), ("2024-01-01", "2025-01-01")
FABRIC = fabric_of(TrainSettings())


def _column(name: str, role: str, source: str, window: tuple[str, str] | None) -> Column:
    return Column(name, "float64", "events", cast(Any, role), "sum", "Told.", source, window)


COLUMNS = (
    _column("road_m", "feature", "roads", None),
    _column("crashes_label", "label", "crashes", DURING),
    _column("crashes_label_weighted", "label", "crashes", DURING),
    _column("crashes_2023_2024", "feature", "crashes", ("2023-01-01", "2025-01-01")),
    _column("crashes_past", "feature", "crashes", BEFORE),
    _column("vkm_day", "exposure", "traffic", DURING),
)
COUNTED = Label(np.zeros(2), np.zeros(2), "crashes_label", "crashes_label", None, None, "Events.")


@pytest.mark.parametrize("name", ["crashes_label", "crashes_label_weighted", "crashes_2023_2024"])
def test_what_is_learned_cannot_come_in_as_exposure(name: str) -> None:
    settings = TrainSettings(task="count", exposure=name, features=("road_m",))
    with pytest.raises(UsageError) as refused:
        chosen_facts(COLUMNS, settings, COUNTED)
    assert str(refused.value) == (
        f"--exposure {name} would know what is to be learned; name an amount of travel or road"
    )


@pytest.mark.parametrize("name", ["road_m", "vkm_day", "crashes_past"])
def test_other_amounts_are_exposures(name: str) -> None:
    settings = TrainSettings(task="count", exposure=name, features=("road_m",))
    assert [c.name for c in chosen_facts(COLUMNS, settings, COUNTED).numbers] == ["road_m"]


def kept_at(path: Path) -> Kept:
    return Kept(path, np.array([5, 6]), (2,), np.dtype(np.float32))


def test_kept_rows_are_never_written_through_a_link(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"precious")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/pictures").symlink_to(mine)
    kept = kept_at(tmp_path / "cache/pictures")
    with pytest.raises(DatasetError, match="cannot keep prepared pictures there"):
        kept.add(np.array([0]), np.ones((1, 2)))
    assert mine.read_bytes() == b"precious"


def test_a_pipe_in_place_of_kept_rows_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pictures")
    kept = kept_at(tmp_path / "pictures")
    with pytest.raises(DatasetError, match="cannot keep prepared pictures there"):
        kept.add(kept.missing(np.array([0, 1])), np.ones((2, 2)))


def test_two_trainings_into_the_same_model_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "m.training"
    with unfinished(tmp_path / "m", False, "plan", FABRIC):
        assert folder.is_dir()
        for resume in (False, True):
            with (
                pytest.raises(DatasetError) as refused,
                unfinished(tmp_path / "m", resume, "plan", FABRIC),
            ):
                pytest.fail("both would write the same checkpoints")
            assert str(refused.value) == (
                f"{folder} is being written by another run; wait for it or use another folder"
            )
    assert not folder.exists()
    folder.mkdir()
    with locked(folder), pytest.raises(DatasetError), unfinished(tmp_path / "m", True, "plan", FABRIC):
        pytest.fail("another run holds it")


def test_what_failed_before_anything_was_kept_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError), unfinished(tmp_path / "m", False, "plan", FABRIC):
        raise ModelError("too few tiles")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", ["full", "interrupted", "kept"])
def test_what_can_go_on_does_so_with_the_same_tiles_and_weights_only(tmp_path: Path, stop: str) -> None:
    out, folder = tmp_path / "m", tmp_path / "m.training"

    def stopped() -> None:
        with unfinished(out, False, "one", FABRIC) as checkpoints:
            if stop == "full":
                raise ModelError("no room; make room, then --resume") from OSError()
            if stop == "interrupted":
                raise KeyboardInterrupt
            (checkpoints / f"a{SUFFIX}").write_bytes(b"")
            raise ModelError("astray")

    with pytest.raises((ModelError, KeyboardInterrupt)):
        stopped()
    with (
        pytest.raises(ModelError, match="holds an unfinished training"),
        unfinished(out, False, "one", FABRIC),
    ):
        pytest.fail("it would begin anew")
    with pytest.raises(ModelError) as refused, unfinished(out, True, "two", FABRIC):
        pytest.fail("half of it would have learned from other pictures")
    assert str(refused.value) == (
        f"{folder} is of other tiles or weights; go on with those it began with, or remove it"
    )
    assert (folder / PLAN).read_text() == "one"
    with unfinished(out, True, "one", FABRIC):
        pass
    assert not folder.exists()


def signed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a checkpoint and make its digest right again, as one who means harm would."""
    kept = torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)
    change(kept["state"])
    written = io.BytesIO()
    torch.save(kept, written)
    path.write_bytes(hashlib.sha256(written.getvalue()).digest() + written.getvalue())


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("best"),
        lambda state: state.pop("epochs"),
        lambda state: state.update(epochs=[(1, 2)]),
        lambda state: state.update(epochs=7),
        lambda state: state.update(best={"fusion.linear.weight": torch.zeros(3)}),
        lambda state: state.update(best=[1]),
        lambda state: state.update(network={}, best={}),
        lambda state: state.update(optimiser={"state": {}}, best=7),
    ],
)
def test_a_checkpoint_that_was_tampered_with_is_one_clear_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], done: bool
) -> None:
    settings = resolved(TrainSettings(encoder="basic", epochs=2, average=0.5, patience=9))
    lesson, checkpoints = lesson_of(32), Checkpoints(tmp_path, "a")
    target = learned_target(CLASS, lesson.label, lesson.exposure)

    def go(after: Callable[[Any], None] = lambda epoch: None) -> None:
        fit(network_for(), lesson, lesson_of(16, 1), CLASS, target, settings, 0, FABRIC, checkpoints, after)

    def stop(epoch: Any) -> None:
        raise KeyboardInterrupt

    if done:
        go()
    else:
        with pytest.raises(KeyboardInterrupt):
            go(stop)
    signed(checkpoints.path, change)
    with pytest.raises(ModelError) as refused:
        go()
    assert str(refused.value) == (
        f"{checkpoints.path}: the checkpoint is damaged; remove it to start this part anew"
    )


def test_the_number_to_quote_stands_first_whatever_the_order_in_the_file() -> None:
    of = {"n": 1, "auroc": 0.5}
    kept = {
        "metro": {"fused": of},
        "random": {"fused": of},
        "spatial": dict.fromkeys(("base_rate", "boosting", "facts", "fused", "image", "other"), of),
    }
    names = [row[:2] for row in metrics_table(kept).rows]
    assert names == [
        *(("spatial", name) for name in ("fused", "image", "facts", "base_rate", "boosting", "other")),
        ("random", "fused"),
        ("metro", "fused"),
    ]


def test_names_of_columns_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report(["facts: a\x1b[2J"], quiet=False)
    assert capsys.readouterr().err == "facts: a [2J\n"


def test_nothing_is_called_high_risk_where_events_are_counted(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    (tmp_path / "p.png").write_bytes(b"")
    km = chance.random(80)
    pd.DataFrame(
        {
            "tile_id": [f"t{n}" for n in range(80)],
            "image_path": "",
            "crashes": chance.poisson(3 * km),
            "km": km,
            "a": chance.normal(size=80),
        }
    ).to_csv(tmp_path / "t.csv", index=False)
    settings = TrainSettings(label="crashes", task="count", inputs="facts", folds=2, epochs=1, quick=True)
    trained = train(tmp_path / "t.csv", tmp_path / "m", settings)
    said = [line for line in (*trained.lines(), *told_of_model(trained.path)[0]) if isinstance(line, str)]
    assert said.count("learned from 80 tiles, 0 with picture") == 2
    with pytest.raises(UsageError, match="--exposure crashes would know"):
        train(tmp_path / "t.csv", tmp_path / "n", replace(settings, exposure="crashes"))
    assert not (tmp_path / "n.training").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of facts alone; tests only read it."""
    folder = tmp_path_factory.mktemp("trained")
    table = written_table(small_table(), folder / "table.csv")
    return train(table, folder / "model", quick(inputs="facts")).path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.update(besides=torch.zeros(9)), "model.safetensors holds besides besides"),
        (lambda t: t.update({"fold9.x": torch.zeros(9)}), "model.safetensors holds fold9.x besides"),
        (lambda t: t.update({"fold0.x": torch.zeros(9)}), "x is missing or not of the network"),
        (lambda t: t.pop("fold1.facts.fc1.weight"), "facts.fc1.weight is missing or not of the network"),
        (
            lambda t: t.update({"fold1.facts.fc1.bias": t["fold1.facts.fc1.bias"].double()}),
            "facts.fc1.bias is missing or not of the network",
        ),
        (
            lambda t: t.update({"fold1.facts.fc1.bias": t["fold1.facts.fc1.bias"][:-1].clone()}),
            "facts.fc1.bias is missing or not of the network",
        ),
    ],
)
def test_weights_that_are_not_just_those_of_the_network_are_refused(
    model: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    shutil.copytree(model, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model/model.safetensors")
    resigned(tmp_path / "model")
    with pytest.raises(ModelError, match=rf"is not a whole roadrisk model \({said}.*\); train it again$"):
        read_model(tmp_path / "model")


def test_a_giant_that_a_model_names_is_refused_before_it_is_made(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    view = {"view": "", "size_px": 224}
    eye = {"size_px": 224, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}

    def named(manifest: dict[str, Any]) -> None:
        manifest["architecture"] |= {"views": [view], "encoder": "timm:vit_giant_patch14_224", "tune": "all"}
        manifest["pictures"] = [{**asdict(picture_preparation("resnet18", 224)), **eye}]

    resigned(tmp_path / "model", named)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="is missing or not of the network"):
        read_model(tmp_path / "model")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB; it has 4 GB


def resigned(path: Path, change: Callable[[dict[str, Any]], None] = lambda manifest: None) -> None:
    """Change a manifest and make its checksum of the weights right again."""
    manifest = json.loads((path / "model.json").read_text())
    change(manifest)
    manifest["sha256"]["model.safetensors"] = sha256_of(path / "model.safetensors")
    (path / "model.json").write_text(json.dumps(manifest))
