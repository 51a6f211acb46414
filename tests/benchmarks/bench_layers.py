"""A million tiles as every map file, beside the rivals: `make bench` prints the ratios and the peaks.

The rivals get a finished GeoDataFrame, while ours make their shapes in the time that is measured.
ROADRISK_BENCH_SIDE=316 makes a tenth of the tiles. Vector tiles have their rival in bench_vector_tiles.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import pytest
from bench_memory import measured
from million import million

from roadrisk.maps.layer import Layer
from roadrisk.maps.layers import FORMS

SIDE = int(os.environ.get("ROADRISK_BENCH_SIDE", "1000"))
GROUP = f"{SIDE * SIDE:,} tiles as "
MOST_MB = 600
# a page shows fewer, and a style has no tiles
SUFFIXES = [suffix for suffix in FORMS if suffix not in (".html", ".qml", ".sld")]

WRITE = f"""
sys.path.insert(0, {str(Path(__file__).parent)!r})
from million import million
from roadrisk.maps.layers import write_layers

layer = million(int(sys.argv[1]))
before = peak_mb()
write_layers(layer, [Path(sys.argv[2])])
print(json.dumps({{"MB at the peak": peak_mb(), "MB of them before": before}}))
"""


def _with_middles(frame: geopandas.GeoDataFrame) -> Any:
    middles = frame.geometry.centroid.to_crs("EPSG:4326")
    return frame.drop(columns="geometry").assign(lon=middles.x.round(7), lat=middles.y.round(7))


Rival = Callable[[geopandas.GeoDataFrame, Path], None]
RIVALS: dict[str, Rival] = {
    ".geojson": lambda frame, out: frame.to_file(out, driver="GeoJSON", RFC7946="YES"),
    ".geojsonl": lambda frame, out: frame.to_file(out, driver="GeoJSONSeq"),
    ".gpkg": lambda frame, out: frame.to_file(out, driver="GPKG"),
    ".fgb": lambda frame, out: frame.to_file(out, driver="FlatGeobuf"),
    ".parquet": lambda frame, out: frame.to_parquet(
        out, compression="zstd", schema_version="1.1.0", write_covering_bbox=True
    ),
    ".csv": lambda frame, out: _with_middles(frame).to_csv(out, index=False),
}
BY_ARROW: dict[str, Rival] = {
    ".gpkg": lambda frame, out: frame.to_file(out, driver="GPKG", use_arrow=True),
    ".fgb": lambda frame, out: frame.to_file(out, driver="FlatGeobuf", use_arrow=True),
}


@pytest.fixture(scope="module")
def layer() -> Layer:
    return million(SIDE)


@pytest.fixture(scope="module")
def frame(layer: Layer) -> geopandas.GeoDataFrame:
    places = layer.placed()
    return geopandas.GeoDataFrame(layer.table, geometry=places.shapes(places.crs), crs=places.crs)


def timed(benchmark: Any, suffix: str, folder: Path, write: Callable[[Path], object]) -> None:
    benchmark.group = GROUP + suffix
    out = folder / f"a{suffix}"

    def made() -> None:
        out.unlink(missing_ok=True)
        write(out)

    benchmark.pedantic(made, rounds=2)
    benchmark.extra_info["megabytes"] = out.stat().st_size / 1e6


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_layer_roadrisk(benchmark: Any, tmp_path: Path, layer: Layer, suffix: str) -> None:
    timed(benchmark, suffix, tmp_path, lambda out: FORMS[suffix].write(layer, out))


@pytest.mark.parametrize("suffix", RIVALS)
def test_layer_geopandas(benchmark: Any, tmp_path: Path, frame: geopandas.GeoDataFrame, suffix: str) -> None:
    timed(benchmark, suffix, tmp_path, lambda out: RIVALS[suffix](frame, out))


@pytest.mark.parametrize("suffix", BY_ARROW)
def test_layer_geopandas_by_arrow(
    benchmark: Any, tmp_path: Path, frame: geopandas.GeoDataFrame, suffix: str
) -> None:
    timed(benchmark, suffix, tmp_path, lambda out: BY_ARROW[suffix](frame, out))


@pytest.mark.benchmark(group=f"memory: {GROUP}map files")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_peak(benchmark: Any, capsys: Any, tmp_path: Path, suffix: str) -> None:
    found = measured(benchmark, capsys, WRITE, SIDE, tmp_path / f"a{suffix}")
    assert found["MB at the peak"] < MOST_MB
