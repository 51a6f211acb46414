"""A road model on disk: whole or not there, read as data, and refused with a reason where it is not whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from roadrisk.errors import ModelError
from roadrisk.files import sha256_of
from roadrisk.learning.architecture import seeded
from roadrisk.nets.segmentation import RoadNN
from roadrisk.roads.judging.measures import UnitCounts, UnitJudged, scores, units_table
from roadrisk.roads.model import FORMAT, RoadArchitecture, RoadModel, read_road_model, write_road_model

Change = Callable[[dict[str, Any]], None]


def made() -> RoadModel:
    """A model of random weights that was judged on two units."""
    shape = RoadArchitecture("unet", "resnet18", 3, 2)
    with seeded(3):
        network = RoadNN(shape.decoder, shape.encoder, shape.bands, shape.shrink)
    counts = UnitCounts(known=100, road=20, drawn=25, both=15, drawn_near=20, road_near=18)
    units = units_table(UnitJudged("model", key, 0, 0, counts, 0.5, 12.0) for key in ("a", "b"))
    return RoadModel(
        architecture=shape,
        mean=(100.0, 110.0, 120.0),
        std=(40.0, 41.0, 42.0),
        level=131,
        metres_per_pixel=0.5,
        stretch=((0.0, 1000.0), (0.0, 1100.0), (0.0, 1200.0)),
        state={name: value.contiguous() for name, value in network.state_dict().items()},
        metrics=scores(units, 0),
        provenance={"source": "here", "identity": "i", "settings": {"view": "aerial"}, "told": ["a line"]},
        units=units,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("road") / "model"
    write_road_model(made(), out, "<html></html>")
    return out


def test_what_is_written_is_read(written: Path) -> None:
    model, again = made(), read_road_model(written)
    for name in (
        "architecture",
        "mean",
        "std",
        "level",
        "metres_per_pixel",
        "stretch",
        "metrics",
        "provenance",
    ):
        assert getattr(again, name) == getattr(model, name)
    pd.testing.assert_frame_equal(again.units, model.units)
    picture = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        assert torch.equal(model.network()(picture), again.network()(picture))
    assert again.view == "aerial"


def test_equal_models_are_equal_bytes(written: Path, tmp_path: Path) -> None:
    write_road_model(made(), tmp_path / "m", "<html></html>")
    for file in written.iterdir():
        assert (tmp_path / "m" / file.name).read_bytes() == file.read_bytes()


def test_what_is_there_is_left_alone(written: Path) -> None:
    with pytest.raises(ModelError) as refused:
        write_road_model(made(), written, "")
    assert str(refused.value) == f"{written} exists; choose another -o, or remove it"


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as raised:
        read_road_model(folder)
    return str(raised.value)


def changed(written: Path, folder: Path, change: Change) -> Path:
    shutil.copytree(written, folder)
    manifest = json.loads((folder / "roads.json").read_text())
    change(manifest)
    (folder / "roads.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(level=0), "level: Input should be greater than or equal to 1"),
        (lambda m: m.update(level=True), "level: Input should be a valid integer"),
        (lambda m: m.update(std=[1.0, 0.0, 1.0]), "std.1: Input should be greater than or equal to 0.001"),
        (
            lambda m: m.update(mean=[1.0]),
            "Value error, mean and std are not of as many bands as the network has",
        ),
        (
            lambda m: m["architecture"].update(bands=10**9),
            "architecture.bands: Input should be less than or equal to 16",
        ),
        (
            lambda m: m["architecture"].update(shrink=64),
            "architecture.shrink: Input should be less than or equal to 8",
        ),
        (lambda m: m["provenance"].pop("settings"), "provenance.settings: Field required"),
        (lambda m: m.pop("metrics"), "metrics: Field required"),
    ],
)
def test_a_manifest_that_says_nonsense_is_refused(
    written: Path, tmp_path: Path, change: Change, said: str
) -> None:
    folder = changed(written, tmp_path / "m", change)
    assert refused(folder) == f"{folder} is not a whole road model ({said}); train it again"


def test_a_newer_format_and_another_kind_are_refused(written: Path, tmp_path: Path) -> None:
    newer = changed(written, tmp_path / "newer", lambda m: m.update(format=FORMAT + 1))
    assert refused(newer) == (
        f"{newer} has road model format {FORMAT + 1}, this version reads up to {FORMAT}; upgrade roadrisk"
    )
    other = changed(written, tmp_path / "other", lambda m: m.update(kind="something"))
    assert refused(other) == (
        f"{other / 'roads.json'} is not a road model's; give the folder that `roadrisk roads train` wrote"
    )
    (other / "roads.json").write_text("{")
    assert refused(other) == f"{other / 'roads.json'} cannot be read as JSON; train the model again"
    assert refused(tmp_path / "nothing") == (
        f"{tmp_path / 'nothing'} is no road model: there is no such folder; give the folder that "
        "`roadrisk roads train` wrote"
    )


def test_weights_that_are_not_those_are_refused(written: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(written, damaged)
    body = bytearray((damaged / "roads.safetensors").read_bytes())
    body[-1] ^= 1
    (damaged / "roads.safetensors").write_bytes(body)
    file = damaged / "roads.safetensors"
    assert refused(damaged) == f"{file} is missing or not the file that was written; train the model again"

    def swapped(folder: Path, state: dict[str, torch.Tensor]) -> Path:
        shutil.copytree(written, folder)
        save_file(state, folder / "roads.safetensors", metadata={"format": "pt"})
        manifest = json.loads((folder / "roads.json").read_text())
        manifest["sha256"]["roads.safetensors"] = sha256_of(folder / "roads.safetensors")
        (folder / "roads.json").write_text(json.dumps(manifest))
        return folder

    state = load_file(written / "roads.safetensors")
    name = sorted(state)[0]
    lacking = swapped(tmp_path / "lacking", {n: v for n, v in state.items() if n != name})
    assert refused(lacking) == (
        f"{lacking} is not a whole road model ({name} is missing or not of the network that roads.json names); "
        "train it again"
    )
    wild = swapped(tmp_path / "wild", {**state, name: torch.full_like(state[name], float("nan"))})
    assert refused(wild) == (
        f"{wild} is not a whole road model (roads.safetensors holds numbers that are not finite); train it again"
    )
