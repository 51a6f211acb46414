"""`roadrisk view` of a large layer beside one GeoJSON of it: `make bench` prints seconds.

The promise is the first tile of a million within 300 ms of being asked for. `ROADRISK_VIEW_SIDE` tiles along a
side of the square region, 1,000 for the million.
"""

from __future__ import annotations

import http.client
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mercantile
import pytest
from million import million

from roadrisk.map_site import site_at
from roadrisk.maps.formats.geojson import write_geojson
from roadrisk.maps.layers import write_layers
from roadrisk.maps.reading import layer_at
from roadrisk.maps.served.answers import Site
from roadrisk.maps.served.server import MapServer

SIDE = int(os.environ.get("ROADRISK_VIEW_SIDE", "300"))
GROUP = f"view: {SIDE * SIDE:,} tiles"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("layer") / "risk.parquet"
    write_layers(million(SIDE), [made])
    return made


@pytest.fixture(scope="module")
def site(path: Path) -> Site:
    return site_at([path], None, print)


@pytest.fixture
def server(site: Site) -> Iterator[MapServer]:
    with MapServer(0) as listening:
        threading.Thread(target=listening.serve, args=(site,), daemon=True).start()
        yield listening
        listening.shutdown()


@pytest.mark.benchmark(group=GROUP)
def test_start(benchmark: Any, path: Path) -> None:
    """From the file to answers."""
    benchmark.pedantic(site_at, args=([path], None, print), rounds=3)
    benchmark.extra_info["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("zoom", ["all of it", "middle", "last"])
def test_a_tile(benchmark: Any, server: MapServer, site: Site, zoom: str) -> None:
    """A tile by HTTP, packed; the one over the middle of the region."""
    layer = site.layers[0]
    west, south, east, north = layer.config["bounds"]
    first, last = layer.tiles.zooms
    whole = next(
        z for z in range(last, first - 1, -1) if len(list(mercantile.tiles(west, south, east, north, z))) < 5
    )
    z = {"all of it": whole, "middle": (whole + last + 1) // 2, "last": last}[zoom]
    tile = mercantile.tile((west + east) / 2, (south + north) / 2, z)

    def asked() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", f"/layers/0/{z}/{tile.x}/{tile.y}.mvt", headers={"Accept-Encoding": "gzip"})
        return len(connection.getresponse().read())

    benchmark.extra_info["bytes"] = benchmark.pedantic(asked, rounds=5)
    assert benchmark.extra_info["bytes"]


@pytest.mark.benchmark(group=GROUP)
def test_one_geojson_instead(benchmark: Any, path: Path, tmp_path: Path) -> None:
    """What a page without tiles would wait for, before it parses it."""
    layer = layer_at(path)
    benchmark.pedantic(write_geojson, args=(layer, tmp_path / "a.geojson"), rounds=1)
    benchmark.extra_info["bytes"] = (tmp_path / "a.geojson").stat().st_size
