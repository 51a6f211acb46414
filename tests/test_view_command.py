"""`roadrisk view` as a process: what it says, and how it ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from served_examples import scored_file

from roadrisk.dataset import Dataset

VIEW = "import sys, pathlib; from roadrisk.serving import view; view([pathlib.Path(sys.argv[1])], open_browser=False)"
# the command, and a finder of modules that stays in one for as long as a signal takes to come
STARTING = """
import sys, time
from roadrisk.cli import main
path, met = sys.argv[1:]
class Slow:
    def find_spec(self, name, *_):
        if name == met:
            print("loading", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
sys.argv = ["roadrisk", "view", path, "--no-open"]
main()
"""


@pytest.fixture(scope="module")
def layer_path(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_file(dataset, tmp_path_factory.mktemp("layers"))


def _started(path: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", VIEW, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_ctrl_c_ends_it_well(layer_path: Path) -> None:
    process, address = _started(layer_path)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    connection = http.client.HTTPConnection(address[7:-1], timeout=60)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err == "roadrisk: stopped; the page shows nothing more\n"


@pytest.mark.parametrize("met", ["numpy", "pyproj", "roadrisk.maps.reading"])
def test_ctrl_c_ends_it_well_while_it_starts(layer_path: Path, met: str) -> None:
    """A signal while a module of its own loads; the module says when."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTING, str(layer_path), met],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err == "roadrisk: stopped; the page shows nothing more\n"


def test_no_browser_is_told_with_the_address(layer_path: Path) -> None:
    quiet = {**os.environ, "BROWSER": "no-such-browser-at-all", "PATH": "/nowhere", "DISPLAY": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", VIEW.replace(", open_browser=False", ""), str(layer_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    address = process.stdout.readline().strip()
    assert process.stderr.readline() == f"roadrisk: no browser could be opened; open {address} yourself\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_pictures_are_shown_without_what_models_learn_with() -> None:
    asked = "import sys, roadrisk.map_site, roadrisk.pictured; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
