"""Bad input of `train` and `score`: one line, its exit code, and nothing written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_tables import LABELS, TINY, flags, quick, small_table, tiny_weights, without_bars, written_table

from roadrisk.training import train

Roadrisk = Callable[..., Any]
FACTS = ("road_m", "speed", "surface", "traffic")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_table(small_table(), tmp_path_factory.mktemp("small") / "table.csv")


@pytest.fixture(scope="module")
def model(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "m"
    train(table, out, quick())
    return out


def refused(run: Any, code: int, line: str, folder: Path, left: set[str] | None = None) -> None:
    """One line, its exit code, nothing on stdout, and nothing left in the folder but that."""
    assert without_bars(run.err) == [f"roadrisk: {line}"]
    assert (run.code, run.out) == (code, "")
    assert {path.name for path in folder.iterdir()} == (left or set())


# a loss that is not finite


def test_a_loss_that_is_not_finite_names_batch_and_tiles(
    table: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    settings, out = tmp_path / "s.toml", tmp_path / "out"
    settings.write_text("learning_rate = 1e30\nbatch_size = 16\npatience = 50\n")
    out.mkdir()
    run = roadrisk("train", table, "-o", out / "m", *flags(epochs=30, inputs="facts"), "--settings", settings)
    assert (run.code, run.out) == (1, "")
    (said,) = without_bars(run.err)
    named = re.fullmatch(
        r"roadrisk: training went astray: the loss is nan in epoch 1, batch 2 \(tiles (.+) and \d+ more\); "
        "use a smaller learning_rate, or look for extreme values in their facts",
        said,
    )
    assert named, said
    tiles = {tile.split("|")[0] for tile in named[1].split(", ")}
    assert len(tiles) == 3
    assert tiles < set(pd.read_csv(table)["id"])
    assert not list(out.iterdir())


def test_an_extreme_fact_is_named(table: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    rows = pd.read_csv(table)
    rows.loc[7, "road_m"] = 1e300
    bad = written_table(rows, table.parent / "extreme.csv")
    run = roadrisk("train", bad, "-o", tmp_path / "m", *flags(inputs="facts"))
    refused(
        run,
        1,
        "column 'road_m' holds values too extreme to standardise; mend them or leave it out with --exclude road_m",
        tmp_path,
    )


# labels


@pytest.mark.parametrize(
    ("change", "given", "line"),
    [
        (
            lambda t: t.assign(high="yes"),
            {},
            "{table}: labels of one class only: every labelled tile has yes in high; name another --label, or add "
            "tiles of another class",
        ),
        (
            lambda t: t.assign(high="no"),
            {},
            "{table}: labels of one class only: every labelled tile has no in high; name another --label, or add "
            "tiles of another class",
        ),
        (
            lambda t: t.assign(cost=[f"{v:.0f}" for v in t["cost"][:-1]] + ["dear"]),
            {"label": "cost", "positive": None, "task": "value", "exclude": ("high", "level", "events")},
            "{table}: column 'cost' is not made of numbers, it holds 'dear'; name a column of numbers with "
            "--label, or use --task class",
        ),
        (
            lambda t: t.assign(events=t["events"] + 0.5),
            {"label": "events", "positive": None, "task": "count", "exclude": ("high", "level", "cost")},
            "{table}: counts are whole numbers from 0, and column 'events' holds 0.5; name a column of counts "
            "with --label, or use --task value",
        ),
        (
            lambda t: t.assign(events=3),
            {"label": "events", "positive": None, "task": "count", "exclude": ("high", "level", "cost")},
            "{table}: all 144 labelled tiles have 3 in events, so nothing can be learned; name another --label",
        ),
        (
            lambda t: t.head(3),
            {},
            "1 negative of 3 tiles are too few: each of 2 folds needs one at least; use fewer --folds or more "
            "tiles",
        ),
        (
            lambda t: t.head(3),
            {"folds": 5},
            "3 labelled tiles are fewer than 5 folds; use fewer --folds or more tiles",
        ),
        (
            lambda t: t,
            {"label": "level", "positive": None, "exclude": ("high", "events", "cost")},
            "column level has the classes high, low, mid; say which is high risk with --positive VALUE, or "
            "their order from the least risk to the most with --classes A,B,C",
        ),
        (
            lambda t: t,
            {
                "label": "level", "positive": None, "classes": ("low", "high"),
                "exclude": ("high", "events", "cost"),
            },
            "column level also holds mid; name every class with --classes",
        ),
        (
            lambda t: t,
            {"label": "hihg"},
            "{table} has no column 'hihg' to learn; name one with --label: id, image_path, lon, lat, road_m, "
            "speed, surface, traffic, high, level, events, cost",
        ),
        (
            lambda t: t.assign(image_path=None),
            {},
            "no labelled tile has a picture; use --inputs facts, or tile with --imagery",
        ),
        (
            lambda t: t.drop(columns=list(FACTS)),
            {},
            "there are no facts to learn from; use --inputs image, or add sources of facts",
        ),
        (
            lambda t: t.assign(**dict.fromkeys(FACTS, 1)),
            {},
            "no fact differs between training tiles; use --inputs image, or add sources of facts",
        ),
    ],
)  # fmt: skip
def test_labels_and_facts_that_teach_nothing(
    table: Path, tmp_path: Path, roadrisk: Roadrisk, change: Any, given: dict[str, Any], line: str
) -> None:
    bad = written_table(change(pd.read_csv(table)), table.parent / "bad.csv")
    run = roadrisk("train", bad, "-o", tmp_path / "m", *flags(**given))
    refused(run, 1, line.format(table=bad), tmp_path)


def test_constant_and_empty_columns_are_dropped_and_said(
    table: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    rows = pd.read_csv(table).assign(flat=3.0, void=None, named="the same")
    odd = written_table(rows, table.parent / "odd.csv")
    run = roadrisk("train", odd, "-o", tmp_path / "m", *flags(inputs="facts"))
    assert run.code == 0, run.err
    said = without_bars(run.err)
    assert "facts: road_m, speed, traffic, surface" in said
    assert any(line.startswith("left out: ") and "flat" in line and "named" in line for line in said), said
    assert any(line.startswith("left out: ") and "void" in line for line in said), said
    left_out = json.loads((tmp_path / "m/model.json").read_text())["provenance"]["left_out"]
    assert left_out["flat"] == left_out["named"] == "the same in every training tile"
    assert left_out["void"] == "no value in any training tile"


# settings


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("fusoin = 'gate'", "{file}: unknown key 'fusoin'; did you mean fusion?"),
        (
            "epochs = 'many'",
            "{file}: epochs: input should be a valid integer, unable to parse string as an integer, not 'many'",
        ),
        ("folds = 1", "{file}: folds: input should be greater than or equal to 2, not 1"),
        ("epochs = ", "--settings {file} cannot be read as TOML (Invalid value (at end of document))"),
    ],
)
def test_settings_that_do_not_fit(
    table: Path, tmp_path: Path, roadrisk: Roadrisk, text: str, line: str
) -> None:
    file, out = tmp_path / "s.toml", tmp_path / "out"
    file.write_text(text)
    out.mkdir()
    run = roadrisk("train", table, "-o", out / "m", "--settings", file, "--quick")
    refused(run, 2, line.format(file=file), out)


def test_settings_that_are_not_there(table: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    run = roadrisk("train", table, "-o", tmp_path / "m", "--settings", tmp_path / "no.toml")
    refused(
        run,
        2,
        f"--settings {tmp_path / 'no.toml'} cannot be read as TOML (No such file or directory)",
        tmp_path,
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"loss": "huber"}, "--loss huber is not of --task class; use cross-entropy or weighted or focal"),
        ({"exposure": "traffic"}, "--exposure is an offset of --task count; leave it out"),
        ({"at_least": 1}, "--positive and --at-least say in different ways what is high risk; give one of them"),
        ({"neighbourhood": 4}, "--neighbourhood 4 has no tile in its middle; use an odd number"),
        ({"tune": "last"}, "--tune last with --encoder basic would freeze random weights; leave it out"),
        ({"devices": 2}, "--devices 2 --nodes 1 is 2 processes and there is 1; start them as torchrun "
         "--nproc-per-node 2 --nnodes 1 -m roadrisk train ..."),
    ],
)  # fmt: skip
def test_flags_that_contradict_each_other(
    table: Path, tmp_path: Path, roadrisk: Roadrisk, given: dict[str, Any], line: str
) -> None:
    run = roadrisk("train", table, "-o", tmp_path / "m", *flags(**given))
    refused(run, 2, line, tmp_path)


# weights


def test_weights_of_another_shape(table: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    weights, out = tiny_weights(tmp_path / "w.safetensors"), tmp_path / "out"
    out.mkdir()
    state = load_file(weights)
    state["bn1.weight"] = torch.zeros(3)
    save_file(state, weights)
    run = roadrisk("train", table, "-o", out / "m", *flags(encoder=TINY, weights=weights))
    refused(
        run,
        1,
        f"--weights {weights} is not a {TINY}: it has in another shape bn1.weight (3, not 32); give weights with "
        "timm's names",
        out,
    )


def test_weights_that_are_none(table: Path, tmp_path: Path, roadrisk: Roadrisk) -> None:
    weights, out = tmp_path / "w.safetensors", tmp_path / "out"
    weights.write_bytes(b"not weights")
    out.mkdir()
    run = roadrisk("train", table, "-o", out / "m", *flags(encoder=TINY, weights=weights))
    refused(
        run,
        1,
        f"--weights {weights} cannot be read as weights; save a state dict with torch.save or safetensors",
        out,
    )
    run = roadrisk("train", table, "-o", out / "m", *flags(encoder=TINY, weights=tmp_path / "no.pth"))
    refused(
        run,
        1,
        f"--weights {tmp_path / 'no.pth'}: no such file; give imagenet, or a .pth or .safetensors file",
        out,
    )


# trainings that were interrupted


def test_an_unfinished_training_is_gone_on_with_or_removed(
    table: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    (tmp_path / "m.training").mkdir()
    run = roadrisk("train", table, "-o", tmp_path / "m", *flags())
    refused(
        run,
        1,
        f"{tmp_path / 'm.training'} holds an unfinished training; go on with it by --resume, or remove it",
        tmp_path,
        {"m.training"},
    )
    run = roadrisk("train", table, "-o", tmp_path / "other", *flags(), "--resume")
    refused(
        run,
        1,
        f"--resume: there is no unfinished training at {tmp_path / 'other.training'}; leave it out",
        tmp_path,
        {"m.training"},
    )


# models that are damaged, foreign or of other tiles


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (
            lambda m: cut(m / "model.safetensors"),
            "{m}/model.safetensors is missing or not the file that was written; train the model again",
        ),
        (
            lambda m: flipped(m / "model.safetensors"),
            "{m}/model.safetensors is missing or not the file that was written; train the model again",
        ),
        (
            lambda m: flipped(m / "folds.parquet"),
            "{m}/folds.parquet is missing or not the file that was written; train the model again",
        ),
        (
            lambda m: (m / "folds.parquet").unlink(),
            "{m}/folds.parquet is missing or not the file that was written; train the model again",
        ),
        (
            lambda m: (m / "model.json").unlink(),
            "{m} is not a roadrisk model: it has no model.json; give the folder that roadrisk train wrote",
        ),
        (lambda m: cut(m / "model.json"), "{m}/model.json cannot be read as JSON; train the model again"),
        (
            lambda m: (m / "model.json").write_text('{"kind": "another"}'),
            "{m}/model.json is not a roadrisk model's; give the folder that roadrisk train wrote",
        ),
        (
            lambda m: shutil.rmtree(m),
            "{m}: no such model folder; give the folder that roadrisk train wrote",
        ),
    ],
)
def test_models_that_are_damaged_or_foreign(
    table: Path, model: Path, tmp_path: Path, roadrisk: Roadrisk, damage: Any, line: str
) -> None:
    copy, out = tmp_path / "m", tmp_path / "out"
    shutil.copytree(model, copy)
    out.mkdir()
    damage(copy)
    run = roadrisk("score", table, "--model", copy, "-o", out / "r.csv", "-o", out / "r.gpkg")
    refused(run, 1, line.format(m=copy), out)


def test_weights_of_another_network_are_refused(
    table: Path, model: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    """Also where the checksum was made to fit."""
    from roadrisk.files import sha256_of

    copy, out = tmp_path / "m", tmp_path / "out"
    shutil.copytree(model, copy)
    out.mkdir()
    state = load_file(copy / "model.safetensors")
    name = "fold0.fusion.linear.weight"
    state[name] = state[name][:, :-1].contiguous()
    save_file(state, copy / "model.safetensors")
    manifest = json.loads((copy / "model.json").read_text())
    manifest["sha256"]["model.safetensors"] = sha256_of(copy / "model.safetensors")
    (copy / "model.json").write_text(json.dumps(manifest))
    run = roadrisk("score", table, "--model", copy, "-o", out / "r.csv")
    refused(
        run,
        1,
        f"{copy} is not a whole roadrisk model (fusion.linear.weight is missing or not of the "
        "network that model.json names); "
        "train it again",
        out,
    )


def test_columns_that_a_table_lacks_are_named(
    table: Path, model: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    less = written_table(pd.read_csv(table).drop(columns=["speed", "surface"]), table.parent / "less.csv")
    run = roadrisk("score", less, "--model", model, "-o", tmp_path / "r.csv")
    refused(
        run,
        1,
        f"{model} was trained on other tiles than {less} has: no column speed; no column surface; "
        "tile the region as the model's was, or train a model on it",
        tmp_path,
    )


def test_a_value_of_another_kind_is_named(
    table: Path, model: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    rows = pd.read_csv(table).astype({"speed": object})
    rows.loc[2, "speed"] = "fast"
    other = written_table(rows, table.parent / "other.csv")
    run = roadrisk("score", other, "--model", model, "-o", tmp_path / "r.csv")
    assert (run.code, run.out) == (1, "")
    (line,) = without_bars(run.err)
    assert "speed" in line
    assert "fast" in line
    assert not list(tmp_path.iterdir())


def test_rows_without_any_side_are_not_scored(
    table: Path, model: Path, tmp_path: Path, roadrisk: Roadrisk
) -> None:
    rows = pd.read_csv(table).assign(image_path=None, **dict.fromkeys(FACTS, np.nan))
    bare = written_table(rows, table.parent / "bare.csv")
    run = roadrisk("score", bare, "--model", model, "-o", tmp_path / "r.csv")
    refused(run, 1, f"no tile of {bare} has what {model} looks at (both); nothing to score", tmp_path)


def test_the_list_of_labels_is_what_the_table_has() -> None:
    assert set(LABELS) < set(small_table().columns)
