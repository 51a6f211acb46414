"""The words of the command line: what it promises before any work is done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COMMANDS = ["tile", "train", "score", "demo"]


def started(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "roadrisk", *args], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which the command is started in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom roadrisk.cli import main\nsys.argv = ['roadrisk', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'torchvision', 'rasterio', 'geopandas', 'pandas', 'pyogrio', 'sklearn', 'cv2'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    for args in (["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)):
        run = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
        assert run.returncode == 0, f"{args} imported {run.stderr}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_stands_in_the_readme(command: str) -> None:
    run = started(command, "--help")
    assert run.returncode == 0
    assert f"roadrisk {command} [OPTIONS]" in run.stdout
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert f"roadrisk {command}" in readme


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (
            ["tile", "--imagery", "a.tif", "b.tif", "c.tif", "-o", "x"],
            2,
            "roadrisk: b.tif is not a region file (.toml); if the shell expanded a pattern, quote the pattern: "
            "--imagery '*.tif'",
        ),
        (
            ["tile", "--bbox", "1", "2", "3", "x", "--zoom", "3"],
            2,
            "roadrisk: --bbox 1 2 3 x is not 4 numbers",
        ),
        (["tile", "--bbox=1,2,3", "--zoom", "3"], 2, "roadrisk: --bbox takes 4 numbers; 3 given"),
        (
            ["tile", "--bbox", "1", "2", "3", "--zoom", "3"],
            2,
            "roadrisk: --bbox takes 4 numbers; 3 given",
        ),
        (["tile", "--shape", "4by4"], 2, "roadrisk: --shape 4by4 is not ROWSxCOLS, as in 4x4"),
        (
            ["tile", "--label-window", "2024", "2025"],
            2,
            "roadrisk: --label-window 2024 2025 is not two dates, as in 2024-01-01 2025-01-01",
        ),
        (["tile", "nowhere.toml", "-o", "x"], 1, "roadrisk: no such region file: nowhere.toml"),
        (["tile", "--bbox", "0", "0", "1", "1", "-o", "x"], 1, None),
        (
            ["tile", "--bbox", "0", "0", "1", "1", "--zoom", "10", "-o", "x"],
            1,
            "roadrisk: nothing to join to the tiles; give --imagery, --roads or --crashes",
        ),
        (
            ["tile", "--bbox", "-93.5", "41.5", "-93.7", "41.7", "--zoom", "14", "-o", "x"],
            1,
            "roadrisk: --bbox -93.5 41.5 -93.7 41.7 has west right of east; the order is W S E N",
        ),
    ],
)
def test_wrong_words_get_one_line(
    here: Path, roadrisk: Callable[..., Any], args: list[str], code: int, message: str | None
) -> None:
    run = roadrisk(*args)
    assert run.code == code
    said = run.err.strip()
    assert "\n" not in said
    if message is not None:
        assert said == message
    assert list(here.iterdir()) == []


def test_fewer_workers_than_one_is_wrong_usage(tmp_path: Path) -> None:
    run = started(
        "tile", "--bbox", "0", "0", "1", "1", "--zoom", "10", "--workers", "-3", "-o", "x", cwd=tmp_path
    )
    assert run.returncode == 2
    assert "--workers" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_box_may_be_written_both_ways(here: Path, roadrisk: Callable[..., Any]) -> None:
    rest = ("--zoom", "14", "--dry-run")
    words = roadrisk("tile", "--bbox", "-93.7", "41.5", "-93.5", "41.7", *rest)
    commas = roadrisk("tile", "--bbox=-93.7,41.5,-93.5,41.7", *rest)
    one = roadrisk("tile", "--bbox", "-93.7,41.5,-93.5,41.7", *rest)
    assert words.code == 0, words.err
    assert words.err == commas.err == one.err
    assert "13 x 10 = 130 tiles" in words.err
