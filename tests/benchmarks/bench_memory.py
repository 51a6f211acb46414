"""What a run holds in memory at its peak, each in a process of its own: `make bench` prints the peaks.

A time stands beside each rival's as in the other benchmarks; the peaks are printed, and bounded here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

FLAT_MB = 50  # what an allocator may hold more of after twice the chunks; twice the rows are 190 MB more

# of this process alone: getrusage's ru_maxrss is inherited from the parent that forked it
PREAMBLE = """
import json, sys
from pathlib import Path
import numpy as np

def status_mb(field):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(field))
    return int(line.split()[1]) / 1024

def held_mb(): return status_mb("VmRSS")
def peak_mb(): return status_mb("VmHWM")
"""


def ran(script: str, *arguments: object) -> dict[str, float]:
    """What `script` prints as JSON, run in a fresh process."""
    command = [sys.executable, "-c", PREAMBLE + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def measured(benchmark: Any, capsys: Any, script: str, *arguments: object) -> dict[str, float]:
    """The same, timed once; what it found is said and kept beside the time."""
    found = benchmark.pedantic(ran, (script, *arguments), rounds=1)
    benchmark.extra_info.update(found)
    with capsys.disabled():
        print(f"\n  {benchmark.name}: {', '.join(f'{name} {value:,.0f}' for name, value in found.items())}")
    return found  # type: ignore[no-any-return]


COUNT = """
from roadrisk.features.counting import count_events
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell

grid = grid_of_cell(LngLatBbox(-93.9, 41.4, -93.3, 41.85), 160)
rng = np.random.default_rng(0)
left, bottom, right, top = grid.bounds
x, y = rng.uniform(left, right, 10_000_000), rng.uniform(bottom, top, 10_000_000)
before = held_mb()
assert count_events(grid, x, y).sum() == 10_000_000
print(json.dumps({"MB above the input": peak_mb() - before}))
"""


@pytest.mark.benchmark(group="memory: 10 million points into 100,000 tiles")
def test_counting_stays_near_its_input(benchmark: Any, capsys: Any) -> None:
    assert measured(benchmark, capsys, COUNT)["MB above the input"] < 300


TILES = """
from roadrisk.grid import Grid

grid = Grid("cell", "EPSG:32615", 0.0, 0.0, 100.0, 4_000, -45_000, 1000, 1000)
rng = np.random.default_rng(0)
columns = {f"column_{i}": rng.uniform(size=grid.size) for i in range(50)}
folder = Path(sys.argv[1])
"""
TILES_ROADRISK = (
    TILES
    + """
from roadrisk.dataset import write_tiles

write_tiles(folder, columns, grid)
print(json.dumps({"MB at the peak": peak_mb()}))
"""
)
TILES_GEOPANDAS = (
    TILES
    + """
import geopandas

rows, cols = grid.every_tile()
known = {"tile_id": grid.tile_ids(rows, cols), "row": rows, "col": cols, **columns}
geopandas.GeoDataFrame(known, geometry=grid.cells(rows, cols), crs=grid.crs).to_parquet(
    folder / "tiles.parquet", compression="zstd", schema_version="1.1.0", write_covering_bbox=True
)
print(json.dumps({"MB at the peak": peak_mb()}))
"""
)


@pytest.mark.benchmark(group="memory: a million tiles with 50 columns as GeoParquet")
def test_tiles_roadrisk(benchmark: Any, capsys: Any, tmp_path: Path) -> None:
    assert measured(benchmark, capsys, TILES_ROADRISK, tmp_path)["MB at the peak"] < 1500


@pytest.mark.benchmark(group="memory: a million tiles with 50 columns as GeoParquet")
def test_tiles_geopandas(benchmark: Any, capsys: Any, tmp_path: Path) -> None:
    measured(benchmark, capsys, TILES_GEOPANDAS, tmp_path)


SOURCES = """
import geopandas, pandas as pd, shapely
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell

folder = Path(sys.argv[1])
grid = grid_of_cell(LngLatBbox(-94.0, 41.2, -92.8, 42.1), 100)
rng = np.random.default_rng(0)
left, bottom, right, top = grid.bounds
n, classes = 300_000, "motorway trunk primary secondary tertiary unclassified residential living_street".split()
start = np.column_stack([rng.uniform(left, right, n), rng.uniform(bottom, top, n)])
streets = shapely.linestrings(np.stack([start, start + rng.normal(0, 110, start.shape)], axis=1))
facts = {"highway": rng.choice([*classes, "trunk_link", "primary_link", "secondary_link"], n)}
facts |= {"lanes": rng.choice([1, 2, 3, 4], n), "oneway": rng.choice([True, False], n)}
facts["maxspeed"] = rng.choice(["10 mph", "25 mph", "40 mph", "55 mph", "65 mph"], n)
geopandas.GeoDataFrame(facts, geometry=streets, crs=grid.crs).to_file(folder / "roads.gpkg")
n = 500_000
crashes = {"x": rng.uniform(left, right, n), "y": rng.uniform(bottom, top, n)}
crashes["date"] = (np.datetime64("2020-01-01") + rng.integers(0, 365 * 5, n)).astype(str)
crashes |= {"severity": rng.choice(list("KABCO"), n), "kind": rng.choice(["car", "walk", "bike", "bus"], n)}
pd.DataFrame(crashes).to_parquet(folder / "crashes.parquet")
print("{}")
"""
REGION = """
from datetime import date
from roadrisk.region import Region
from roadrisk.source_settings import EventSource, LineSource
from roadrisk.tiling import tile

folder = Path(sys.argv[1])
crashes = EventSource(
    str(folder / "crashes.parquet"), x="x", y="y", crs="EPSG:32615", weights="usdot-2022", by=("kind",),
    kernels_m=(500, 1000), nearest=True,
)
region = Region(
    bbox=(-94.0, 41.2, -92.8, 42.1), cell=100, crashes=(crashes,),
    roads=(LineSource(str(folder / "roads.gpkg"), coverage="complete"),),
    label_window=(date(2024, 1, 1), date(2025, 1, 1)), feature_window=(date(2020, 1, 1), date(2024, 1, 1)),
    windows={"y2023": (date(2023, 1, 1), date(2024, 1, 1))},
)
dataset = tile(region, folder / "dataset").dataset
found = {"tiles": dataset.grid.size, "columns": len(dataset.columns), "MB at the peak": peak_mb()}
print(json.dumps(found))
"""


@pytest.mark.benchmark(group="memory: `tile` without pictures, a million tiles with 50 columns")
def test_a_million_tiles(benchmark: Any, capsys: Any, tmp_path: Path) -> None:
    ran(SOURCES, tmp_path)
    found = measured(benchmark, capsys, REGION, tmp_path)
    assert found["tiles"] >= 1_000_000
    assert found["columns"] >= 50
    assert found["MB at the peak"] < 1500


def crash_file(path: Path, rows: int) -> Path:
    """A file in the shape of Massachusetts' crashes of 2024, about 75 bytes a row, no two rows alike."""
    rng = np.random.default_rng(0)
    header = "source,id,muni,date,time,severity,police,pedestrian,cyclist,lat,lng,rpa,interstate"
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb") as file:
        file.write(f"{header}\n".encode())
        for first in range(0, rows, 250_000):
            n = min(250_000, rows - first)
            days = np.datetime64("2024-01-01") + rng.integers(0, 366, n)
            month, day = (
                np.strings.slice(days.astype("U10"), start, stop) for start, stop in ((5, 7), (8, 10))
            )
            hour, minute = (
                rng.integers(1, 13, n).astype(str),
                np.strings.zfill(rng.integers(0, 60, n).astype(str), 2),
            )
            columns = [
                np.full(n, "MDOT"),
                np.arange(5_000_000 + first, 5_000_000 + first + n),
                rng.choice(["Boston", "Cambridge", "Lynn", "Reading"], n),
                month + "/" + day + "/2024",
                hour + ":" + minute + rng.choice([" AM", " PM"], n),
                rng.choice(["", "2", "1"], n, p=[0.7, 0.29, 0.01]),
                rng.choice(["Local", "State"], n),
                rng.choice(["", "1"], n, p=[0.97, 0.03]),
                rng.choice(["", "1"], n, p=[0.98, 0.02]),
                rng.uniform(42.0, 42.7, n).round(6),
                rng.uniform(-71.6, -70.6, n).round(6),
                np.full(n, "MAPC"),
                rng.choice(["", "1"], n, p=[0.9, 0.1]),
            ]
            table = pa.table({name: pa.array(c) for name, c in zip(header.split(","), columns, strict=True)})
            pyarrow.csv.write_csv(table, file, options)
    return path


EVENTS_ROADRISK = """
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import EventSource
from roadrisk.sources.events import read_events

grid = grid_of_cell(LngLatBbox(-71.2, 42.2, -70.9, 42.5), 250)
events = read_events(EventSource(path=sys.argv[1], name="crashes"), grid, Path(sys.argv[2]))
print(json.dumps({"MB at the peak": peak_mb(), "rows": events.account.read, "used": events.account.used}))
"""
EVENTS_PANDAS = """
import pandas as pd

rows = len(pd.read_csv(sys.argv[1], usecols=["lng", "lat", "date", "time", "severity"]))
print(json.dumps({"MB at the peak": peak_mb(), "rows": rows}))
"""
GROUP = "memory: 5 million crashes of a CSV file"
# half of it is still more than the CSV reader reads ahead, about 160 MB: less would fit into that whole
ROWS = 5_000_000


@pytest.mark.benchmark(group=GROUP)
def test_events_roadrisk(benchmark: Any, capsys: Any, tmp_path: Path) -> None:
    whole, half = crash_file(tmp_path / "whole.csv", ROWS), crash_file(tmp_path / "half.csv", ROWS // 2)
    found, less = (
        measured(benchmark, capsys, EVENTS_ROADRISK, whole, tmp_path),
        ran(EVENTS_ROADRISK, half, tmp_path),
    )
    assert (found["rows"], less["rows"]) == (ROWS, ROWS // 2)
    with capsys.disabled():
        print(f"  of half the rows: MB at the peak {less['MB at the peak']:,.0f}")
    assert found["MB at the peak"] < less["MB at the peak"] + FLAT_MB


@pytest.mark.benchmark(group=GROUP)
def test_events_pandas_at_once(benchmark: Any, capsys: Any, tmp_path: Path) -> None:
    whole = crash_file(tmp_path / "whole.csv", ROWS)
    assert measured(benchmark, capsys, EVENTS_PANDAS, whole)["rows"] == ROWS
