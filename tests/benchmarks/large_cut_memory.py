"""What cutting holds in memory at its peak: the same for 100 km2 and for 10,000 km2.

Tiles of 250 m with 256 px. The sheets are VRTs that put a few pictures into many places. Both regions have
100 km2 that are picture everywhere; each further part of the large one has a sheet, which keeps it to 3 GB.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from bench_memory import measured, ran
from imagery_examples import PIXELS, SHEET_PX, pictures

LEFT, TOP = 330_000, 4_690_000
TILE_M = 250
DENSE_M = 10_000
PART_M = 4_000

CUT = f"""
sys.path[:0] = {[str(folder) for folder in (Path(__file__).parent, Path(__file__).parents[1])]!r}
import os, threading, time
from imagery_examples import cut
from roadrisk.grid import Grid

def family():
    # of every thread: it is not the first that starts the workers
    threads = Path("/proc/self/task").glob("*/children")
    return [os.getpid(), *(int(child) for thread in threads for child in thread.read_text().split())]

def watch():
    while True:
        for process in family():
            try:
                status = Path("/proc", str(process), "status").read_text()
            except OSError:
                continue  # it has ended
            peaks.update({{process: int(l.split()[1]) / 1024 for l in status.splitlines() if l.startswith("VmHWM")}})
        time.sleep(0.02)

peaks = {{}}
threading.Thread(target=watch, daemon=True).start()
sheets, out, side = sys.argv[1:]
done = cut(Path(out), sheets, Grid("cell", "EPSG:32619", 0.0, 0.0, {TILE_M}.0, {LEFT} // {TILE_M}, -{TOP} // {TILE_M}, int(side), int(side)))
print(json.dumps({{
    "MB at the peak": sum(peaks.values()), "MB of them in the parent": peaks[os.getpid()],
    "processes": len(peaks), "parts": int((done.parts["state"] == "written").sum()),
    "tiles with picture": int((done.coverage > 0).sum()), "MB on disk": done.parts["bytes"].sum() / 1e6,
}}))
"""


def places(side_m: int) -> Iterator[tuple[int, int]]:
    """(x, y) of the sheets of a region, metres east and south of its corner."""
    dense = range(0, DENSE_M, SHEET_PX)
    yield from product(dense, dense)
    for x, y in product(range(0, side_m, PART_M), repeat=2):
        if max(x, y) >= DENSE_M + PART_M / 2:
            yield x, y


def referenced(folder: Path, side_m: int) -> Path:
    """A folder of VRTs, each one of the pictures at a place."""
    sheets = folder / "sheets"
    sheets.mkdir()
    real = pictures(folder)
    for number, (x, y) in enumerate(places(side_m)):
        (sheets / f"{number:05d}.vrt").write_text(vrt(real[number % len(real)], LEFT + x, TOP - y))
    return sheets


def vrt(picture: Path, left: float, top: float) -> str:
    """A picture at another place."""
    size = f'rasterXSize="{SHEET_PX}" rasterYSize="{SHEET_PX}"'
    source = f'<SourceFilename relativeToVRT="0">{picture}</SourceFilename><SourceBand>'
    bands = [
        f'<VRTRasterBand dataType="Byte" band="{band}" blockXSize="256" blockYSize="256"><ColorInterp>{colour}</ColorInterp>'
        f"<SimpleSource>{source}{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band, colour in enumerate(("Red", "Green", "Blue"), start=1)
    ]
    place = f"<SRS>EPSG:26919</SRS><GeoTransform>{left}, 1, 0, {top}, 0, -1</GeoTransform>"
    return f"<VRTDataset {size}>{place}{''.join(bands)}</VRTDataset>"


@pytest.mark.benchmark(group=f"memory: 10,000 km2 cut by two workers, {PIXELS}")
def test_a_hundred_times_the_area(benchmark: Any, capsys: Any, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    less = ran(CUT, *cutting(small, DENSE_M))
    found = measured(benchmark, capsys, CUT, *cutting(large, 10 * DENSE_M))
    shutil.rmtree(large)
    with capsys.disabled():
        print(f"  of 100 km2: {', '.join(f'{name} {value:,.0f}' for name, value in less.items())}")
    assert found["MB at the peak"] < 1.1 * less["MB at the peak"]


def cutting(folder: Path, side_m: int) -> tuple[Path, Path, int]:
    """Sheets, an empty folder and the tiles along a side."""
    (folder / "out").mkdir(parents=True)
    return referenced(folder, side_m), folder / "out", side_m // TILE_M
