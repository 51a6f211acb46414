"""What several test files use."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

# two test processes with two threads each on two cores would mostly wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from roadrisk.dataset import Dataset
from roadrisk.region import read_region
from roadrisk.sources.demo import Metro, made_up_metro
from roadrisk.tiling import tile

# only QGIS's own Python imports it
collect_ignore = ["readers/inside_qgis"]

# a suite started in the background ignores Ctrl-C, and so would the processes whose Ctrl-C is tested
signal.signal(signal.SIGINT, signal.default_int_handler)

# benchmarks are run by `make bench`, which installs what they need
collect_ignore_glob = [] if find_spec("pytest_benchmark") else ["benchmarks/*"]

# machines are shared: how long an example takes is no promise of ours
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; tests that need it are skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is absent: {folder}")
    return folder


@pytest.fixture(scope="session")
def metro(tmp_path_factory: pytest.TempPathFactory) -> Metro:
    """A made-up metro of 16 x 16 tiles."""
    return made_up_metro(tmp_path_factory.mktemp("made_up") / "metro", seed=7, rows=16, cols=16)


@pytest.fixture(scope="session")
def dataset(metro: Metro) -> Dataset:
    """The dataset of `metro`; tests only read it."""
    return tile(read_region(metro.region), metro.region.parent.with_name("dataset"), workers=1).dataset


class Run(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def roadrisk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """The command line, in this process: `roadrisk("tile", ...)`."""
    from roadrisk.cli import main

    def run(*args: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["roadrisk", *(str(a) for a in args)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            # after Ctrl-C a command ignores another, and so would the processes that later tests start
            signal.signal(signal.SIGINT, signal.default_int_handler)
        said = capsys.readouterr()
        return Run(code, said.out, said.err)

    return run
