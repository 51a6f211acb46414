"""A million tiles as text: GeoJSON, its lines, and CSV, each beside what GeoPandas and pandas take for it.

Each in a process of its own, whose peak of memory is said; ROADRISK_BENCH_SIDE=100 makes them 10,000 tiles.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SIDE = int(os.environ.get("ROADRISK_BENCH_SIDE", "1000"))
SCRIPT = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from million import million

how, out, layer = sys.argv[2], Path(sys.argv[3]), million(int(sys.argv[4]))
if how == "geojson":
    from roadrisk.maps.formats.geojson import write_geojson as write
elif how == "geojsonl":
    from roadrisk.maps.formats.geojson import write_geojsonl as write
elif how == "csv":
    from roadrisk.maps.formats.csv_table import write_csv as write
elif how == "pandas":
    def write(layer, path):
        lng, lat = layer.placed().centres()
        layer.table.assign(lon=lng.round(7), lat=lat.round(7)).to_csv(path, index=False)
else:
    import geopandas
    def write(layer, path):
        shapes = layer.placed().shapes("EPSG:4326")
        frame = geopandas.GeoDataFrame(layer.table, geometry=shapes, crs="EPSG:4326")
        frame.to_file(path, driver=how, engine="pyogrio")
start = time.perf_counter()
write(layer, out)
seconds = time.perf_counter() - start
peak = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
print(json.dumps({"s": seconds, "peak MB": int(peak.split()[1]) / 1024, "file MB": out.stat().st_size / 1e6}))
"""


@pytest.mark.benchmark(group="a million tiles as text")
@pytest.mark.parametrize(
    ("ours", "theirs"), [("geojson", "GeoJSON"), ("geojsonl", "GeoJSONSeq"), ("csv", "pandas")]
)
def test_rows_from_arrays_beside_rows_by_the_rival(
    benchmark: Any, capsys: Any, tmp_path: Path, ours: str, theirs: str
) -> None:
    found = benchmark.pedantic(_written, (ours, tmp_path), rounds=1)
    rival = _written(theirs, tmp_path)
    benchmark.extra_info.update(found, rival=rival, times=rival["s"] / found["s"])
    with capsys.disabled():
        for name, said in ((ours, found), (theirs, rival)):
            print(f"\n  {name}: {', '.join(f'{what} {value:,.1f}' for what, value in said.items())}", end="")
        print(f"\n  {rival['s'] / found['s']:.1f} times as fast")


def _written(how: str, folder: Path) -> dict[str, float]:
    """Seconds of writing, peak of the process's memory and size of the file."""
    out = folder / f"layer.{how.lower()}"
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), how, str(out), str(SIDE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out.unlink()
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]
