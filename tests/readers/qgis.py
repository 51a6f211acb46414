"""What QGIS sees of map files; a process of its own, since QGIS belongs to the system's Python."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

PYTHON = os.environ.get("ROADRISK_QGIS_PYTHON", "/usr/bin/python3")
SCRIPT = Path(__file__).parent / "inside_qgis" / "look.py"
ABSENT = "QGIS is not installed (Debian's python3-qgis, or ROADRISK_QGIS_PYTHON); make test-readers says how"


def qgis_looks(looks: Sequence[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """What QGIS sees, one process for all: `version`, `drivers` of its GDAL, and `looks` in order.

    A look has `path` and `provider` (`ogr`, `gdal` or `delimitedtext`), and may have `sld`, `at` and `png`;
    see the script. QGIS is started with `folder` as its home. The test is skipped where there is no QGIS.
    """
    settings = {
        **os.environ,
        "QT_QPA_PLATFORM": "offscreen",
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
    }
    try:
        there = subprocess.run([PYTHON, "-c", "import qgis.core"], env=settings, capture_output=True)
    except OSError:
        pytest.skip(ABSENT)
    if there.returncode:
        pytest.skip(ABSENT)
    done = subprocess.run(
        [PYTHON, SCRIPT], input=json.dumps(looks), env=settings, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
