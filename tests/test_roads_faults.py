"""`roads train` and `roads apply` given what they cannot use: one line, the right exit code, nothing left."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_roads_model import made

from roadrisk.dataset import Dataset
from roadrisk.roads.model import write_road_model

Run = Callable[..., Any]
SIDE_PX = 64
TINY = "epochs = 1\ncrop_px = 64\nshrink = 1\nbatch_size = 4\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A road model of random weights, for three bands."""
    out = tmp_path_factory.mktemp("road") / "model"
    write_road_model(made(), out, "<html></html>")
    return out


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four pictures with a mask each."""
    folder = tmp_path / "pairs"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    chance = np.random.default_rng(0)
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    mask[20:26] = 255
    for name in "abcd":
        colours = chance.integers(60, 140, (SIDE_PX, SIDE_PX, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), colours)
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (
            ("--encoder", "resnet19"),
            2,
            "--encoder resnet19: segmentation-models-pytorch has no such network; "
            "near it is resnet18, resnet152, resnet101",
        ),
        (
            ("--encoder", "tu-hf-hub:someone/something"),
            2,
            "--encoder tu-hf-hub:someone/something: timm has no such network; "
            "resnet18, mit_b0 and tu-convnext_atto are some",
        ),
        (
            ("--mask-above", 255),
            2,
            "settings: mask_above: input should be less than or equal to 254, not 255",
        ),
        (("--block", "nan"), 2, "settings: block_m: input should be a finite number, not nan"),
        (("--width", "primary"), 2, "--width primary is not CLASS=METRES, as in residential=7"),
    ],
)
def test_flags_that_are_refused_leave_nothing(
    roadrisk: Run, pairs: Path, settings: Path, flags: tuple[object, ...], code: int, said: str
) -> None:
    out = pairs.with_name("model")
    run = roadrisk("roads", "train", pairs, "-o", out, "--settings", settings, "--quick", *flags)
    assert (run.code, run.out, run.err) == (code, "", f"roadrisk: {said}\n")
    assert not list(pairs.parent.glob("model*"))


def test_more_folds_than_pictures(roadrisk: Run, pairs: Path, settings: Path) -> None:
    run = roadrisk(
        "roads", "train", pairs, "-o", pairs.with_name("m"), "--settings", settings, "--folds", 100
    )
    assert (run.code, run.err) == (
        1,
        "roadrisk: 4 pictures are too few for 100 folds; use fewer --folds, --quick or more of them\n",
    )
    assert not list(pairs.parent.glob("m*"))


def test_the_same_pictures_are_no_holdout(roadrisk: Run, pairs: Path, settings: Path) -> None:
    out = pairs.with_name("m")
    run = roadrisk("roads", "train", pairs, "-o", out, "--settings", settings, "--holdout", pairs)
    assert (run.code, run.err) == (
        1,
        "roadrisk: --holdout pairs: 4 of its 4 units are learned from, too; give another place\n",
    )
    assert not list(pairs.parent.glob("m*"))


def test_a_picture_of_one_band_is_none_for_a_model_of_three(roadrisk: Run, pairs: Path, model: Path) -> None:
    picture, out = pairs / "images" / "b.png", pairs.with_name("drawn")
    cv2.imwrite(str(picture), np.zeros((SIDE_PX, SIDE_PX), np.uint8))
    run = roadrisk("roads", "apply", pairs / "images", "--model", model, "-o", out)
    assert (run.code, run.err) == (
        1,
        f"roadrisk: the model learned from other pictures than {picture}: they have 1 band, not 3; give "
        "pictures like those, or train a model on these\n",
    )
    assert not out.exists()


def test_masks_lie_in_a_folder_of_their_own(roadrisk: Run, pairs: Path, model: Path) -> None:
    images, link = pairs / "images", pairs.with_name("link")
    link.symlink_to(images)
    before = {file.name: file.read_bytes() for file in images.iterdir()}
    for out in (images, link):
        run = roadrisk("roads", "apply", images, "--model", model, "-o", out, "--overwrite")
        assert (run.code, run.err) == (
            2,
            f"roadrisk: -o {out} is the folder of the pictures; give another for the masks\n",
        )
    assert {file.name: file.read_bytes() for file in images.iterdir()} == before


def test_a_mask_replaces_a_link_and_not_what_it_leads_to(roadrisk: Run, pairs: Path, model: Path) -> None:
    out, outside = pairs.with_name("drawn"), pairs.with_name("outside.png")
    outside.write_bytes(b"mine")
    out.mkdir()
    for name in ("a.png", ".tmp-b.png"):
        (out / name).symlink_to(outside)
    run = roadrisk("roads", "apply", pairs / "images", "--model", model, "-o", out, "--overwrite", "--json")
    assert run.code == 0
    assert json.loads(run.out)["paths"] == [str(out / f"{name}.png") for name in "abcd"]
    assert outside.read_bytes() == b"mine"
    assert not (out / "a.png").is_symlink()


def test_names_may_be_any(roadrisk: Run, pairs: Path, model: Path) -> None:
    names = ["-rf", "..", "<script>x<b>", "a\nb", "a%s", "q?x=1", "ü漢", "x:y"]
    picture, out = (pairs / "images" / "a.png").read_bytes(), pairs.with_name("drawn")
    for name in names:
        (pairs / "images" / f"{name}.png").write_bytes(picture)
    run = roadrisk("roads", "apply", pairs / "images", "--model", model, "-o", out, "--quiet")
    assert (run.code, run.err) == (0, "")
    wanted = {f"{name}.png" for name in (*names, *"abcd")}
    assert {file.name for file in out.iterdir()} == {*wanted, "drawn.json"}


def test_a_road_model_scores_no_risk(roadrisk: Run, tmp_path: Path, model: Path) -> None:
    run = roadrisk("score", tmp_path / "dataset", "--model", model, "-o", tmp_path / "scores")
    assert (run.code, run.err) == (
        1,
        f"roadrisk: {model} is a road model, which draws roads and scores no risk; use it with "
        "`roadrisk roads apply --model`, or give the folder that roadrisk train wrote\n",
    )


def test_a_holdout_that_shares_pictures_is_refused(roadrisk: Run, pairs: Path, settings: Path) -> None:
    subset = pairs.with_name("subset")
    shutil.copytree(pairs, subset)
    for kind in ("images", "masks"):
        (subset / kind / "d.png").unlink()
        (subset / kind / "c.png").rename(subset / kind / "renamed.png")
    # another picture, another mask: what is left of the four is the same
    changed = cv2.imread(str(subset / "images/a.png"))
    cv2.imwrite(str(subset / "images/a.png"), changed[::-1])
    out = pairs.with_name("m")
    # of noise alone, no two pictures of the folder are alike
    run = roadrisk("roads", "train", pairs, "-o", out, "--settings", settings, "--holdout", subset)
    assert (run.code, run.err) == (
        1,
        "roadrisk: --holdout subset: 2 of its 3 units are learned from, too; give another place\n",
    )
    assert not list(pairs.parent.glob("m*"))


def test_a_picture_too_large_to_be_drawn_whole(
    roadrisk: Run, pairs: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadrisk.roads.drawing.drawn_masks.MOST_PX", SIDE_PX**2 - 1)
    out = pairs.with_name("drawn")
    run = roadrisk("roads", "apply", pairs / "images", "--model", model, "-o", out)
    assert (run.code, run.err) == (
        1,
        f"roadrisk: {pairs / 'images' / 'a.png'} has 64 x 64 px, more than 0 million pixels; tile it into a "
        "dataset, which is drawn part by part\n",
    )
    assert not out.exists()


def test_a_name_that_is_no_text(roadrisk: Run, pairs: Path, model: Path) -> None:
    picture = (pairs / "images" / "a.png").read_bytes()
    Path(os.fsdecode(os.fsencode(pairs / "images") + b"/bad\xff.png")).write_bytes(picture)
    run = roadrisk("roads", "apply", pairs / "images", "--model", model, "-o", pairs.with_name("drawn"))
    assert run.code == 1
    assert run.err.startswith("roadrisk: ")
    assert run.err.endswith("has a name that is no text; rename it\n")


def test_views_that_lead_elsewhere_are_not_written_to(
    roadrisk: Run, dataset: Dataset, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset.path, tmp_path / "d")
    manifest = json.loads((model / "roads.json").read_text())
    fitting = tmp_path / "fitting"
    shutil.copytree(model, fitting)
    manifest |= {"metres_per_pixel": None, "stretch": None}
    (fitting / "roads.json").write_text(json.dumps(manifest))
    (tmp_path / "outside").mkdir()
    for name in ("roads", "roads.levels"):
        link = tmp_path / "d/views" / name
        link.symlink_to(tmp_path / "outside")
        run = roadrisk("roads", "apply", tmp_path / "d", "--model", fitting, "--quiet")
        assert (run.code, run.err) == (
            1,
            f"roadrisk: {link} is a link, and what it points to is not ours; remove it\n",
        )
        link.unlink()
    assert not list((tmp_path / "outside").iterdir())


def test_seeds_that_no_generator_takes(roadrisk: Run, pairs: Path, settings: Path) -> None:
    out = pairs.with_name("m")
    run = roadrisk("roads", "train", pairs, "-o", out, "--settings", settings, "--seed", 10**20)
    assert run.code == 2
    assert run.err.startswith("roadrisk: settings: seed: ")
    assert not list(pairs.parent.glob("m*"))
