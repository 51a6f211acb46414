"""Drawing a plane part by part, beside one window over all of it."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_planes import ArrayPlane, Near, model_of, near_model, network_of, one_window, plane_of
from torch import nn

import roadrisk.roads.drawing.lattice
from roadrisk.errors import DatasetError, ModelError
from roadrisk.nets.road_inference import drawing_form
from roadrisk.nets.segmentation import RoadNN
from roadrisk.roads.drawing import artist
from roadrisk.roads.drawing.artist import Artist, draw_levels, draw_picture
from roadrisk.roads.drawing.drawn import Drawn, levels_of
from roadrisk.roads.drawing.lattice import Lattice, Place
from roadrisk.roads.drawing.levels import LevelsReader
from roadrisk.roads.scenes import Window

CPU = torch.device("cpu")
PART_PX = 256  # of two cores of 128 px a side; windows of up to 256 px


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(roadrisk.roads.drawing.lattice, "CORE_STRIDES", 4)
    Near.shown.clear()
    yield
    Near.wait_s = 0.0


def reader_of(folder: Path, plane: ArrayPlane, part_px: int = PART_PX, shrink: int = 1) -> LevelsReader:
    return LevelsReader(folder, Lattice(plane.height, plane.width, part_px, shrink), "plan")


def drawn(plane: ArrayPlane, reader: LevelsReader, model: Any) -> None:
    draw_levels(plane, Artist(model, CPU), reader)


def whole(reader: LevelsReader) -> Drawn:
    return reader.read(Window(0, 0, reader.lattice.height, reader.lattice.width))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("part_px", "shrink", "height", "width"),
    [(256, 1, 600, 500), (240, 1, 500, 490), (320, 2, 650, 700), (256, 1, 260, 30), (256, 1, 256, 768)],
)
def test_parts_say_what_one_window_says(
    tmp_path: Path, part_px: int, shrink: int, height: int, width: int
) -> None:
    # a network that sees less around a pixel than the margin: there is nothing to blend away
    plane, model = plane_of(height, width), near_model(shrink)
    reader = reader_of(tmp_path, plane, part_px, shrink)
    drawn(plane, reader, model)
    got, wanted = whole(reader), one_window(model.network(), plane, 32 * shrink)
    assert np.array_equal(got.valid, plane.picture.valid)
    # two roundings of a level, one of them of four shares
    assert np.abs(got.level - wanted * 255).max() <= 0.51
    assert not got.level[~got.valid].any()
    assert got.level.std() > 20


def test_the_parts_do_not_matter(tmp_path: Path) -> None:
    plane = plane_of(520, 520)
    said = []
    for part_px in (128, 256, 512):
        reader = reader_of(tmp_path / str(part_px), plane, part_px)
        drawn(plane, reader, near_model())
        said.append(whole(reader).level.astype(int))
    for other in said[1:]:
        # shares that another file adds are rounded once more
        assert np.abs(said[0] - other).max() <= 1
        assert (said[0] != other).mean() < 0.01


def test_no_step_is_seen_where_windows_end(tmp_path: Path) -> None:
    # sees 126 px up and to the left: of two windows that meet one sees less
    see = nn.ZeroPad2d((126, 0, 126, 0)), nn.AvgPool2d((127, 1), 1), nn.AvgPool2d((1, 127), 1)
    far = network_of(nn.Sequential(*see, nn.Conv2d(3, 1, 1)), 1)
    far.body[3].weight.data[:], far.body[3].bias.data[:] = 0.3, -1.5
    plane = plane_of(512, 640, hole=False)
    plane.picture.pixels[:] = np.minimum(plane.picture.pixels, 150) + 50
    reader = reader_of(tmp_path, plane)
    drawn(plane, reader, model_of(far))
    wrong = whole(reader).level - one_window(far, plane, 32) * 255
    assert np.abs(wrong).max() > 5
    for axis in (0, 1):
        profile = wrong.mean(axis=1 - axis)
        # blended over 64 px what differs changes by a share of itself from pixel to pixel
        assert np.abs(np.diff(profile)).max() < np.abs(profile).max() / 16 + 0.1


def test_each_window_is_drawn_once_and_one_without_a_picture_not_at_all(tmp_path: Path) -> None:
    plane = plane_of(512, 768, hole=False)
    plane.picture.valid[:256, 256:512] = False
    plane.picture.pixels[:, :256, 256:512] = 0
    plane.picture.valid[:320, 192:576] = False  # all that the windows of four cores see
    reader = reader_of(tmp_path, plane)
    drawn(plane, reader, near_model())
    lattice = reader.lattice
    windows = [lattice.window(core) for part in lattice.parts() for core in lattice.cores(part)]
    assert sorted(plane.reads) == sorted(windows)
    some = [w for w in windows if plane.read(w).valid.any()]
    assert len(windows) - len(some) == 4
    assert sorted(Near.shown) == sorted((1, 3, w.height, w.width) for w in some)
    assert len(list(tmp_path.iterdir())) == 6
    Near.shown.clear()
    drawn(plane, reader, near_model())
    assert Near.shown == []


def test_a_plane_without_a_picture_says_nothing(tmp_path: Path) -> None:
    plane = plane_of(300, 300)
    plane.picture.valid[:] = False
    reader = reader_of(tmp_path, plane)
    drawn(plane, reader, near_model())
    assert not Near.shown
    assert not whole(reader).valid.any()


def test_any_window_is_read_of_the_same_pixels(tmp_path: Path) -> None:
    plane = plane_of(500, 400)
    reader = pickle.loads(pickle.dumps(reader_of(tmp_path, plane)))
    drawn(plane, reader, near_model())
    every = whole(reader)
    around = Drawn(np.pad(every.level, 600), np.pad(every.valid, 600))
    rng = np.random.default_rng(0)
    for _ in range(30):
        y, x = rng.integers(-300, 600, 2)
        height, width = rng.integers(1, 300, 2)
        there = np.s_[600 + y : 600 + y + height, 600 + x : 600 + x + width]
        got = reader.read(Window(int(y), int(x), int(height), int(width)))
        assert np.array_equal(got.level, around.level[there])
        assert np.array_equal(got.valid, around.valid[there])


def test_a_picture_is_drawn_in_memory() -> None:
    plane, model = plane_of(300, 210), near_model(2)
    got, wanted = draw_picture(plane, Artist(model, CPU)), one_window(model.network(), plane, 64)
    assert np.array_equal(got.valid, plane.picture.valid)
    assert np.abs(got.level - wanted * 255).max() <= 0.51


def test_a_picture_smaller_than_any_window_is_drawn() -> None:
    torch.manual_seed(0)
    for decoder in ("unet", "pan"):
        small, network = plane_of(40, 50), RoadNN(decoder, "resnet18", 3, 1).eval()
        wanted = one_window(network, small, 128)
        assert np.abs(draw_picture(small, Artist(model_of(network), CPU)).level - wanted * 255).max() <= 0.51


KILLED = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import torch
from drawn_planes import Near, near_model, plane_of
import roadrisk.roads.drawing.lattice
from roadrisk.roads.drawing.artist import Artist, draw_levels
from roadrisk.roads.drawing.lattice import Lattice
from roadrisk.roads.drawing.levels import LevelsReader
roadrisk.roads.drawing.lattice.CORE_STRIDES = 4
Near.wait_s = 0.2
plane = plane_of(600, 500)
reader = LevelsReader(Path(sys.argv[1]), Lattice(600, 500, {PART_PX}, 1), "plan")
draw_levels(plane, Artist(near_model(), torch.device("cpu")), reader)
"""


def test_what_is_missing_is_drawn_again_and_nothing_else(tmp_path: Path) -> None:
    plane = plane_of(600, 500)
    reader = reader_of(tmp_path, plane)
    drawn(plane, reader, near_model())
    before = files(tmp_path)
    for gone in (Place(0, 1), Place(2, 0)):
        reader.path(gone).unlink()
    (tmp_path / ".tmp-r00000c00001.levels").write_bytes(b"half of it")
    Near.shown.clear()
    drawn(plane, reader, near_model())
    assert len(Near.shown) == len(reader.lattice.cores(Place(0, 1)) + reader.lattice.cores(Place(2, 0)))
    assert files(tmp_path) == before


@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    plane = plane_of(600, 500)
    drawn(plane, reader_of(tmp_path / "whole", plane), near_model())
    stopped = tmp_path / "stopped"
    run = subprocess.Popen([sys.executable, "-c", KILLED, str(stopped)])
    while not list(stopped.glob("r*.levels")) and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    before = {path.name: path.stat().st_mtime_ns for path in stopped.glob("r*.levels")}
    assert 0 < len(before) < 6
    drawn(plane, reader_of(stopped, plane), near_model())
    assert files(stopped) == files(tmp_path / "whole")
    assert all((stopped / name).stat().st_mtime_ns == at for name, at in before.items())


@pytest.mark.parametrize("place", [0, 30, -3, None])
def test_a_damaged_file_is_one_line_and_is_drawn_anew(tmp_path: Path, place: int | None) -> None:
    plane = plane_of(300, 300)
    reader = reader_of(tmp_path, plane)
    drawn(plane, reader, near_model())
    before, path = files(tmp_path), reader.path(Place(0, 1))
    body = bytearray(path.read_bytes())
    if place is None:
        del body[-10:]
    else:
        body[place] ^= 1
    path.write_bytes(body)
    with pytest.raises(DatasetError) as told:
        whole(reader)
    assert str(told.value) == (
        f"{path} is damaged or of another run; run the same command again, it is drawn anew"
    )
    drawn(plane, reader, near_model())
    assert files(tmp_path) == before


def test_files_of_another_plan_or_another_part_are_drawn_anew(tmp_path: Path) -> None:
    plane = plane_of(300, 600, hole=False)
    reader = reader_of(tmp_path, plane)
    drawn(plane, reader, near_model())
    before = files(tmp_path)
    other = LevelsReader(tmp_path, reader.lattice, "another")
    assert not other.is_whole(Place(0, 0))
    reader.path(Place(0, 1)).write_bytes(reader.path(Place(0, 0)).read_bytes())
    assert [reader.is_whole(place) for place in (Place(0, 0), Place(0, 1))] == [True, False]
    drawn(plane, reader, near_model())
    assert files(tmp_path) == before
    reader.path(Place(0, 1)).unlink()
    with pytest.raises(
        DatasetError, match=r"r00000c00001\.levels cannot be read; run the same command again"
    ):
        whole(reader)


def test_less_memory_gives_the_same_with_fewer_windows_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, told = plane_of(512, 768), list[str]()
    monkeypatch.setitem(artist.WINDOWS_AT_ONCE, "cpu", 4)
    plenty, scarce = (reader_of(tmp_path / name, plane, 512) for name in ("plenty", "scarce"))
    drawn(plane, plenty, near_model())
    assert max(shape[0] for shape in Near.shown) == 4
    looked = Near.forward

    def short(self: Near, pictures: torch.Tensor) -> torch.Tensor:
        if len(pictures) > 1:
            raise torch.OutOfMemoryError("no more")
        return looked(self, pictures)

    monkeypatch.setattr(Near, "forward", short)
    draw_levels(plane, Artist(near_model(), CPU, told.append), scarce)
    assert set(told) == {
        "out of memory: fewer windows are drawn at a time from here on, which gives the same roads"
    }
    assert np.abs(whole(plenty).level.astype(int) - whole(scarce).level).max() <= 1

    def none(self: Near, pictures: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(Near, "forward", none)
    with pytest.raises(ModelError, match="out of memory with one tile at a time"):
        drawn(plane, reader_of(tmp_path / "none", plane), near_model())


def test_a_plane_that_cannot_be_read_ends_it_and_what_is_done_stays(tmp_path: Path) -> None:
    plane = plane_of(512, 512)
    reader = reader_of(tmp_path, plane)
    seen = plane.read

    def read(window: Window) -> Any:
        if window.y > 256:
            raise DatasetError("a part is damaged")
        return seen(window)

    plane.read = read  # type: ignore[method-assign]
    with pytest.raises(DatasetError, match="a part is damaged"):
        drawn(plane, reader, near_model())
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "r00000c00000.levels",
        "r00000c00001.levels",
    ]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    plane = plane_of(100, 100)
    with pytest.raises(
        DatasetError, match=r"cannot write .*file/levels \(Not a directory\); mend that and run"
    ):
        drawn(plane, reader_of(tmp_path / "file/levels", plane), near_model())


@pytest.mark.parametrize("decoder", ["unet", "fpn", "pspnet"])
def test_the_fast_form_is_the_same_function(decoder: str) -> None:
    torch.manual_seed(0)
    network = RoadNN(decoder, "resnet18", 3, 2)
    pictures = torch.randn(2, 3, 192, 128)
    with torch.no_grad():
        network.train()(pictures)
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    form: nn.Module = drawing_form(network)
    with torch.inference_mode():
        torch.testing.assert_close(form(pictures), network(pictures), rtol=1e-4, atol=1e-4)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_levels_are_of_all_steps() -> None:
    assert np.array_equal(levels_of(np.arange(256, dtype=np.float32) / 255), np.arange(256))
