"""What goes wrong while tiling, and what the same command makes of it afterwards.

Commands run as they do in a shell: a process, and a group, of their own. They are forked from a server that
has imported everything, so that a moment of a run is one of its work.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
from affine import Affine
from sheets import scene, sheet
from tile_server import Reply, TileServer, made_up, serving

import roadrisk.grid
from roadrisk.dataset import read_dataset
from roadrisk.errors import SourceError
from roadrisk.progress import Progress
from roadrisk.region import Region, read_region, region_of
from roadrisk.sources.demo import Metro
from roadrisk.tiling import tile

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["roadrisk.cli", "roadrisk.tiling", "roadrisk.sources.demo", "pytest"])
MOMENTS = 20
LONGEST_S = 60.0
# 4 x 4 tiles of 64 px, so that a small metro has several parts
SMALL_PART_PX = 256


class Ended(NamedTuple):
    """How a command ended: its exit code, or minus the signal, and what it said."""

    code: int
    said: str


class Command:
    """`roadrisk` with these arguments, begun.

    Parameters
    ----------
    part_px : side of a part; only for one worker, as others do not hear of it.
    file_bytes : that no file may exceed, as a disk that is full.
    """

    def __init__(
        self,
        said: Path,
        *argv: object,
        cache: Path | None = None,
        part_px: int = 0,
        file_bytes: int = 0,
    ) -> None:
        self.said = said
        self.began, begins = FORKS.Pipe(duplex=False)
        arguments = [str(arg) for arg in argv]
        self.process = FORKS.Process(
            target=_commanded, args=(begins, str(said), arguments, cache, part_px, file_bytes)
        )
        self.process.start()
        begins.close()
        assert self.began.poll(LONGEST_S)
        self.began.recv()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def signal(self, number: signal.Signals, group: bool = True) -> None:
        """Tell the command, and with `group` its workers too; nothing where it is done."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def ended(self) -> Ended:
        self.process.join(LONGEST_S)
        if self.process.exitcode is None:
            self.signal(signal.SIGKILL)
            pytest.fail(f"it does not end: {self.said.read_text()}")
        return Ended(self.process.exitcode, self.said.read_text())


def _commanded(
    begins: Any, said: str, argv: list[str], cache: Path | None, part_px: int, file_bytes: int
) -> None:
    os.setsid()
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(2, 1)
    if cache:
        os.environ.update(XDG_CACHE_HOME=str(cache), NO_PROXY="127.0.0.1", ROADRISK_CONTACT="a@example.org")
    if part_px:
        roadrisk.grid.PART_SIDE_PX = part_px
    sys.argv = ["roadrisk", *argv]
    if file_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    begins.send(None)
    from roadrisk.cli import main

    main()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def alive(group: int) -> list[int]:
    """Processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def until(there: Callable[[], Any], command: Command) -> None:
    """Wait for something that a command brings about."""
    end = time.monotonic() + LONGEST_S
    while not there():
        assert command.process.is_alive(), command.said.read_text()
        assert time.monotonic() < end
        time.sleep(0.005)


def until_none_is_alive(command: Command) -> None:
    """Wait for the workers of a command that has ended: they end by themselves."""
    end = time.monotonic() + LONGEST_S
    while alive(command.pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def killed(begin: Callable[[], Command], seconds: float, group: bool = True) -> Command:
    """Kill -9 a command after so many seconds; sooner where it is done by then."""
    for _ in range(20):
        command = begin()
        time.sleep(seconds)
        command.signal(signal.SIGKILL, group)
        if command.ended().code == -signal.SIGKILL:
            return command
        seconds *= 0.8
    raise AssertionError("it is always done before it can be killed")


# --- kill -9


class Undisturbed(NamedTuple):
    """A command that nothing went wrong with."""

    argv: tuple[object, ...]
    files: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def several_views(metro: Metro, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The region of the made-up metro with a second view, of 16 bit, and a context."""
    folder = tmp_path_factory.mktemp("several") / "deep"
    folder.mkdir()
    for path in sorted(metro.imagery.glob("*.tif")):
        with rasterio.open(path) as source:
            profile = {**source.profile, "dtype": "uint16", "count": 3}
            with rasterio.open(folder / path.name, "w", **profile) as target:
                target.write(source.read([1, 2, 3]).astype(np.uint16) * 40)
    text = metro.region.read_text().replace('path = "', f'path = "{metro.region.parent}/')
    deep = f'[[imagery]]\npath = "{folder}"\nview = "deep"\n'
    region = folder.with_name("region.toml")
    region.write_text("context = 3\n" + text + deep)
    return region


@pytest.fixture(scope="module")
def undisturbed(several_views: Path) -> Undisturbed:
    argv = ("tile", several_views, "--workers", 1, "--quiet", "-o")
    out = several_views.with_name("whole")
    began = time.monotonic()
    command = Command(several_views.with_name("said"), *argv, out, part_px=SMALL_PART_PX)
    began = time.monotonic()
    assert command.ended() == (0, f"{out}\n")
    seconds = time.monotonic() - began
    assert len(read_dataset(out).views) == 3
    files = files_of(out)
    assert len([name for name in files if name.startswith("views/") and name.endswith(".tif")]) > 30
    return Undisturbed(argv, files, seconds)


def again(undisturbed: Undisturbed, out: Path, **how: Any) -> Ended:
    """Run the command to its end."""
    return Command(out.with_name("said"), *undisturbed.argv, out, part_px=SMALL_PART_PX, **how).ended()


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_a_random_moment_and_run_again(
    undisturbed: Undisturbed, tmp_path: Path, moment: int
) -> None:
    share = (moment + np.random.default_rng(moment).random()) / MOMENTS
    out = tmp_path / "whole"

    def begin() -> Command:
        shutil.rmtree(out, ignore_errors=True)
        return Command(tmp_path / "said", *undisturbed.argv, out, part_px=SMALL_PART_PX)

    killed(begin, share * undisturbed.seconds)
    assert not (out / "dataset.json").exists()
    assert again(undisturbed, out) == (0, f"{out}\n")
    assert files_of(out) == undisturbed.files


# --- a tile server


def slowly(z: int, x: int, y: int) -> Reply:
    time.sleep(0.01)
    return made_up()(z, x, y)


def served_region(folder: Path, server: TileServer) -> Path:
    """A region whose picture is 110 tiles of a server."""
    region = folder / "region.toml"
    region.write_text(
        'name = "served"\nbbox = [-71.07, 42.34, -71.05, 42.36]\nzoom = 17\ntile_size = 64\n'
        f'[[imagery]]\npath = "{server.template}"\nzoom = 17\nrate_per_s = 1000\n'
    )
    return region


def test_killed_again_and_again_while_tiles_are_fetched(tmp_path: Path) -> None:
    with serving(slowly) as server:
        argv = ("tile", served_region(tmp_path, server), "--workers", 1, "--quiet", "-o")
        whole = tmp_path / "a" / "d"
        assert Command(tmp_path / "said", *argv, whole, cache=tmp_path / "a" / "cache").ended().code == 0
        wanted = dict(server.asked)
        assert set(wanted.values()) == {1}
        server.asked.clear()
        out, kills = tmp_path / "b" / "d", 6
        for kill in range(kills):
            command = Command(tmp_path / "said", *argv, out, cache=tmp_path / "b" / "cache")
            until(lambda kill=kill: len(server.asked) > (kill + 0.5) * len(wanted) / kills, command)
            command.signal(signal.SIGKILL)
            assert command.ended().code == -signal.SIGKILL
            assert len(server.asked) < len(wanted)
        assert Command(tmp_path / "said", *argv, out, cache=tmp_path / "b" / "cache").ended().code == 0
    assert set(server.asked) == set(wanted)
    # one a connection was on its way
    assert sum(server.asked.values()) <= len(wanted) + 4 * kills
    assert files_of(out) == files_of(whole)


def test_two_runs_share_what_they_fetch(tmp_path: Path) -> None:
    with serving(slowly) as server:
        argv = ("tile", served_region(tmp_path, server), "--workers", 1, "--quiet", "-o")
        outs = [tmp_path / name / "d" for name in "ab"]
        commands = [
            Command(tmp_path / f"said{out.parent.name}", *argv, out, cache=tmp_path / "cache") for out in outs
        ]
        ended = [command.ended() for command in commands]
    assert ended == [(0, f"{out}\n") for out in outs]
    assert set(server.asked.values()) == {1}
    assert files_of(outs[0]) == files_of(outs[1])


# --- a full disk


@pytest.fixture(scope="module")
def pictures(several_views: Path) -> Undisturbed:
    """Of pictures and roads alone: crashes are kept aside first, on another disk."""
    text = several_views.read_text()
    start = text.index("[[crashes]]")
    region = several_views.with_name("pictures.toml")
    region.write_text(text[:start].replace("label_window", "# ") + text[text.index("[[imagery]]", start) :])
    argv = ("tile", region, "--workers", 1, "--quiet", "-o")
    out = several_views.with_name("pictures")
    assert Command(out.with_name("said"), *argv, out, part_px=SMALL_PART_PX).ended() == (0, f"{out}\n")
    return Undisturbed(argv, files_of(out), 0.0)


def whole_files(out: Path, undisturbed: Undisturbed) -> set[str]:
    """Names of what a run has left, each as it will be; nothing half-written."""
    left = files_of(out)
    assert not left or left.pop("run.json")
    assert left.items() <= undisturbed.files.items()
    return set(left)


@pytest.mark.parametrize(
    ("full_at", "finished"),
    [("aerial", set()), ("aerial.overview.tif", {"aerial"}), ("deep.overview.tif", {"aerial", "deep"})],
)
def test_a_disk_that_is_full_at_a_part_or_an_overview(
    pictures: Undisturbed, tmp_path: Path, full_at: str, finished: set[str]
) -> None:
    sizes = {name: len(body) for name, body in pictures.files.items() if name.startswith("views/")}
    most = max(size for name, size in sizes.items() if name.startswith(f"views/{full_at}"[: len(name)]))
    if full_at == "aerial":
        most = max(size for name, size in sizes.items() if name.startswith("views/aerial/"))
    out = tmp_path / "pictures"
    assert again(pictures, out, file_bytes=most - 1) == (
        1,
        f"roadrisk: cannot write {out}/views (File too large); mend that and run the same command again: "
        "finished parts are kept\n",
    )
    parts = {name for name in whole_files(out, pictures) if name.split("/")[-1].startswith("r0")}
    for view in finished:
        assert {name for name in sizes if name.startswith(f"views/{view}/")} <= parts
    assert again(pictures, out) == (0, f"{out}\n")
    assert files_of(out) == pictures.files


def test_two_workers_on_a_full_disk(wide: Undisturbed, tmp_path: Path) -> None:
    out = tmp_path / "whole"
    parts = {name: body for name, body in wide.files.items() if name.startswith("views/aerial/")}
    most = max(len(body) for body in parts.values())
    ended = Command(tmp_path / "said", *wide.argv, out, file_bytes=most - 1).ended()
    assert ended.code == 1
    assert ended.said.splitlines()[-1] == (
        f"roadrisk: cannot write {out}/views (File too large); mend that and run the same command again: "
        "finished parts are kept"
    )
    assert whole_files(out, wide) < set(parts)
    assert by_one_worker(wide, out).code == 0
    assert files_of(out) == wide.files


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of its own, where this user may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_grows_by_and_by(pictures: Undisturbed, tmp_path: Path) -> None:
    kilobytes = 2500
    said = set()
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        out = disk / "pictures"
        while True:
            command = Command(tmp_path / "said", *pictures.argv, out, part_px=SMALL_PART_PX)
            ended = command.ended()
            if ended.code == 0:
                break
            assert ended.code == 1
            assert ended.said.count("\n") == 1
            said.add(" ".join(ended.said.split()[1:3]))
            whole_files(out, pictures)
            kilobytes += 600
            assert kilobytes < 20_000
            grow = ["mount", "-o", f"remount,size={kilobytes}k", str(disk)]
            subprocess.run(grow, check=True, capture_output=True)
        assert files_of(out) == pictures.files
    assert said == {"cannot write", "the picture"}


def test_no_room_for_rows(undisturbed: Undisturbed, tmp_path: Path) -> None:
    out = tmp_path / "whole"
    assert again(undisturbed, out, file_bytes=10_000) == (
        1,
        f"roadrisk: no room for the rows of sources in {tempfile.gettempdir()} (File too large); make room, or set "
        "TMPDIR to another folder\n",
    )
    assert not out.exists()


def test_no_room_for_tiles_of_a_server(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with serving(made_up()) as server:
        argv = ("tile", served_region(tmp_path, server), "--workers", 1, "--quiet", "-o", tmp_path / "d")
        ended = Command(tmp_path / "said", *argv, cache=cache, file_bytes=150_000).ended()
        assert ended.code == 1
        assert ended.said.startswith(f"roadrisk: the cache {cache}/roadrisk/tiles/127.0.0.1_")
        assert ended.said.endswith(
            "; make room, or set XDG_CACHE_HOME to another folder, and run the same command again\n"
        )
        assert ended.said.count("\n") == 1
        assert not (tmp_path / "d").exists()
        asked = server.asked.total()
        assert asked > 20
        assert Command(tmp_path / "said", *argv, cache=cache).ended().code == 0
        # what was kept is not asked for again
        assert server.asked.total() <= len(server.asked) + 4


# --- two runs


def test_two_runs_into_one_folder(undisturbed: Undisturbed, tmp_path: Path) -> None:
    out = tmp_path / "whole"
    first = Command(tmp_path / "first", *undisturbed.argv, out, part_px=SMALL_PART_PX)
    until(lambda: list(out.rglob("r0*.tif")), first)
    first.signal(signal.SIGSTOP)
    before = files_of(out)
    assert again(undisturbed, out) == (
        1,
        f"roadrisk: {out} is being written by another run; wait for it or use another folder\n",
    )
    assert files_of(out) == before
    first.signal(signal.SIGCONT)
    assert first.ended() == (0, f"{out}\n")
    assert files_of(out) == undisturbed.files


# --- sheets that do not stay


@pytest.fixture
def moved(metro: Metro, tmp_path: Path) -> Region:
    """The made-up metro with sheets that may be spoilt; it is tiled by one process, in several parts."""
    shutil.copytree(metro.imagery, tmp_path / "sheets")
    imagery = region_of({"imagery": [{"path": str(tmp_path / "sheets")}]}).imagery
    return replace(read_region(metro.region), imagery=imagery)


def after(stage: str, number: int, act: Callable[[], Any]) -> Progress:
    """Do something when a stage has come so far."""

    def heard(at: str, done: int, total: int, note: str = "") -> None:
        if (at, done) == (stage, number):
            act()

    return heard


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", SMALL_PART_PX)


def test_a_file_beside_a_sheet_that_changes_while_it_is_cut(
    moved: Region, tmp_path: Path, small_parts: None
) -> None:
    changing = tmp_path / "sheets" / "south_east.tif"
    beside = changing.with_name(f"{changing.name}.aux.xml")
    beside.write_text("<PAMDataset></PAMDataset>")

    def changed() -> None:
        beside.write_text("<PAMDataset> </PAMDataset>")

    with pytest.raises(SourceError, match=f"^{changing} changed while it was cut, "):
        tile(moved, tmp_path / "d", workers=1, progress=after("cut aerial", 3, changed))


@pytest.mark.parametrize("when", [("open aerial", 4), ("cut aerial", 3)])
def test_a_sheet_that_changes_while_it_is_cut(
    moved: Region, tmp_path: Path, small_parts: None, when: tuple[str, int]
) -> None:
    changing = tmp_path / "sheets" / "south_east.tif"

    def changed() -> None:
        with rasterio.open(changing) as source:
            profile, pixels, mask = source.profile, source.read(), source.read_masks(1)
        with rasterio.open(tmp_path / "new.tif", "w", **profile) as target:
            target.write(255 - pixels)
            target.write_mask(mask)
        (tmp_path / "new.tif").replace(changing)

    with pytest.raises(SourceError) as caught:
        tile(moved, tmp_path / "d", workers=1, progress=after(*when, changed))
    assert str(caught.value) == (
        f"{changing} changed while it was cut, and what was cut is removed; run the same command again when nobody "
        "writes it"
    )
    assert files_of(tmp_path / "d") == {}
    tile(moved, tmp_path / "d", workers=1)
    tile(moved, tmp_path / "other" / "d", workers=1)
    assert files_of(tmp_path / "d") == files_of(tmp_path / "other" / "d")


@pytest.mark.parametrize("when", [("open aerial", 4), ("cut aerial", 1)])
def test_a_sheet_that_disappears(
    moved: Region, tmp_path: Path, small_parts: None, when: tuple[str, int]
) -> None:
    gone = tmp_path / "sheets" / "south_east.tif"
    body = gone.stat(), gone.read_bytes()
    with pytest.raises(SourceError) as caught:
        tile(moved, tmp_path / "d", workers=1, progress=after(*when, gone.unlink))
    assert str(caught.value) == (
        f"24 of 256 tiles of the view aerial could not be read, more than 5%: {gone} cannot be opened ({gone}: No such "
        "file or directory); replace it or leave it out of --imagery"
    )
    gone.write_bytes(body[1])
    os.utime(gone, ns=(body[0].st_atime_ns, body[0].st_mtime_ns))
    tile(moved, tmp_path / "d", workers=1)
    tile(moved, tmp_path / "other" / "d", workers=1)
    assert files_of(tmp_path / "d") == files_of(tmp_path / "other" / "d")


# --- workers


CORNER = 320_000.0, 4_672_000.0


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A region of six parts for two workers, most of it without a picture."""
    folder = tmp_path_factory.mktemp("wide")
    for n in range(6):
        place = Affine(1, 0, CORNER[0] + 4096 * (n % 3) + 300, 0, -1, CORNER[1] - 4096 * (n // 3) - 300)
        sheet(folder / "sheets" / f"s{n}.tif", scene(800, 800, n), place, "EPSG:32619")
    (folder / "region.toml").write_text(
        'name = "wide"\nbbox = [-71.19, 42.11, -71.05, 42.18]\ncell = 64\ncrs = "EPSG:32619"\n'
        'tile_size = 64\ncontext = 3\n[[imagery]]\npath = "sheets"\n'
    )
    argv = ("tile", folder / "region.toml", "--workers", 2, "-o")
    out = folder / "whole"
    command = Command(folder / "said", *argv, out)
    began = time.monotonic()
    assert command.ended().code == 0
    seconds = time.monotonic() - began
    files = files_of(out)
    assert len([name for name in files if name.startswith("views/aerial/r0")]) == 6
    return Undisturbed(argv, files, seconds)


def by_one_worker(wide: Undisturbed, out: Path) -> Ended:
    """Run the command to its end with one worker: the bytes are the same, and it is begun sooner."""
    return Command(out.with_name("said"), *(1 if arg == 2 else arg for arg in wide.argv), out).ended()


def workers_of(command: Command) -> list[int]:
    return [pid for pid in alive(command.pid) if pid != command.pid]


def disturbed(
    begin: Callable[[], Command], there: Callable[[Command], Any], act: Callable[[Command], Any]
) -> Command:
    """A command to which something is done as soon as something is there, and before it ends well."""
    for _ in range(10):
        command = begin()
        until(lambda command=command: there(command), command)
        act(command)
        if command.ended().code != 0:
            return command
    raise AssertionError("it is always done too soon")


@pytest.mark.parametrize(("when", "times"), [("start", 1), ("start", 2), ("cut", 1)])
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    wide: Undisturbed, tmp_path: Path, when: str, times: int
) -> None:
    out = tmp_path / "whole"

    def begin() -> Command:
        shutil.rmtree(out, ignore_errors=True)
        return Command(tmp_path / "said", *wide.argv, out)

    def there(command: Command) -> Any:
        return len(workers_of(command)) == 2 if when == "start" else list(out.rglob("r0*.tif"))

    def interrupt(command: Command) -> None:
        for _ in range(times):
            command.signal(signal.SIGINT)
            time.sleep(0.15)

    command = disturbed(begin, there, interrupt)
    code, said = command.ended()
    if times == 1:
        assert code == 130
        assert [line for line in said.splitlines() if line.strip() and " aerial " not in line] == [
            "roadrisk: stopped; `tile`, `tune` and `roads apply` run again and `train --resume` go on where they "
            "stopped, other commands start over"
        ]
    until_none_is_alive(command)
    assert bool(whole_files(out, wide)) or when == "start"
    assert by_one_worker(wide, out).code == 0
    assert files_of(out) == wide.files


def test_a_worker_that_is_killed(wide: Undisturbed, tmp_path: Path) -> None:
    out = tmp_path / "whole"

    def begin() -> Command:
        shutil.rmtree(out, ignore_errors=True)
        return Command(tmp_path / "said", *wide.argv, out)

    def kill(command: Command) -> None:
        for pid in workers_of(command)[:1]:
            os.kill(pid, signal.SIGKILL)

    command = disturbed(begin, lambda _: list(out.rglob("r0*.tif")), kill)
    assert command.ended().code == 1
    assert command.ended().said.splitlines()[-1] == (
        "roadrisk: a process that cut pictures died, as when memory runs out; run the same again with --workers 1: "
        "finished parts are kept; in a script, call it under `if __name__ == '__main__':`"
    )
    until_none_is_alive(command)
    kept = {name: (out / name).stat().st_mtime_ns for name in whole_files(out, wide)}
    assert kept
    assert by_one_worker(wide, out).code == 0
    assert files_of(out) == wide.files
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_two_workers_killed_at_a_random_moment_and_run_again(
    wide: Undisturbed, tmp_path: Path, moment: int
) -> None:
    share = (moment + np.random.default_rng(moment).random()) / MOMENTS
    out = tmp_path / "whole"

    def begin() -> Command:
        shutil.rmtree(out, ignore_errors=True)
        return Command(tmp_path / "said", *wide.argv, out)

    # every other time the command alone: its workers end by themselves
    command = killed(begin, share * wide.seconds, group=moment % 2 == 0)
    until_none_is_alive(command)
    assert not (out / "dataset.json").exists()
    assert Command(tmp_path / "said", *wide.argv, out).ended().code == 0
    assert files_of(out) == wide.files
