"""The page of 100,000 tiles opened in Chromium, beside a page that holds them as one GeoJSON.

From navigation to the first idle map with its tiles drawn; `make bench` prints seconds. ROADRISK_BENCH_SIDE
sets another number of tiles a side than 316.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pandas as pd
import pytest
from million import million

from roadrisk.columns import Column
from roadrisk.maps.bands import BANDS
from roadrisk.maps.formats.geojson import write_geojson
from roadrisk.maps.layer import Layer
from roadrisk.maps.page import page
from roadrisk.maps.page.document import maplibre_file
from roadrisk.maps.pictures import Overview

SIDE = int(os.environ.get("ROADRISK_BENCH_SIDE", "316"))
FACTS = tuple(Column(f"fact_{i}", "float64", "m", "feature", "sum", "A made-up fact.") for i in range(5))
READY = "document.documentElement?.dataset.ready === '1'"
GEOJSON_PAGE = """<!doctype html><style>%s #map { position: absolute; inset: 0; }</style><div id="map"></div>
<script type="application/json" id="data">%s</script><script>%s</script><script>
const data = JSON.parse(document.getElementById("data").textContent);
const map = new maplibregl.Map({ container: "map", bounds: %s, style: { version: 8, sources: {}, layers: [] } });
map.on("load", () => {
  map.addSource("tiles", { type: "geojson", data });
  map.addLayer({ id: "tiles", type: "fill", source: "tiles", paint: { "fill-color": %s, "fill-opacity": 0.7 } });
  map.once("idle", () => { document.documentElement.dataset.ready = "1"; });
});
</script>"""

pytestmark = pytest.mark.skipif(chromium.EXECUTABLE is None, reason="Chromium is absent")


class Noise:
    """Pictures that do not compress."""

    views = ("aerial", "roads")

    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    def overview(self) -> Overview:
        grid = self.layer.placed().grid  # type: ignore[attr-defined]
        pixels = np.random.default_rng(3).integers(0, 255, (3, 2048, 2048), dtype=np.uint8)
        return Overview(pixels, grid.bounds, grid.crs)

    def picture(self, tile_id: str, view: str) -> np.ndarray:
        rough = np.random.default_rng(len(tile_id)).integers(0, 255, (4, 256, 256), dtype=np.uint8)
        rough[3] = 255
        return rough


@pytest.fixture(scope="module")
def layer() -> Layer:
    plain = million(SIDE)
    chance = np.random.default_rng(4)
    table = plain.table.assign(**{c.name: pd.Series(chance.gamma(2, 100, len(plain))) for c in FACTS})
    full = replace(plain, table=table, columns=(*plain.columns, *FACTS))
    return replace(full, pictures=Noise(full))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def _opened(benchmark: Any, tab: chromium.Tab, path: Path) -> None:
    benchmark.extra_info["megabytes"] = path.stat().st_size / 1e6
    benchmark.pedantic(
        tab.open, (path, READY), setup=lambda: tab.call("Page.navigate", url="about:blank") and None, rounds=3
    )


@pytest.mark.benchmark(group=f"page: {SIDE * SIDE:,} tiles to the first idle")
def test_our_page(benchmark: Any, tab: chromium.Tab, layer: Layer, tmp_path: Path) -> None:
    path = tmp_path / "risk.html"
    path.write_text(page([layer]))
    _opened(benchmark, tab, path)


@pytest.mark.benchmark(group=f"page: {SIDE * SIDE:,} tiles to the first idle")
def test_one_geojson(benchmark: Any, tab: chromium.Tab, layer: Layer, tmp_path: Path) -> None:
    write_geojson(layer, tmp_path / "risk.geojson")
    lng, lat = layer.placed().centres()
    bounds = [[float(lng.min()), float(lat.min())], [float(lng.max()), float(lat.max())]]
    colour = [
        "match",
        ["get", "band"],
        *(part for band in BANDS for part in (band.name, band.colour)),
        "#7b8590",
    ]
    path = tmp_path / "geojson.html"
    text = (tmp_path / "risk.geojson").read_text()
    path.write_text(
        GEOJSON_PAGE
        % (
            maplibre_file("maplibre-gl.css"),
            text,
            maplibre_file("maplibre-gl.js"),
            json.dumps(bounds),
            json.dumps(colour),
        )
    )
    _opened(benchmark, tab, path)
