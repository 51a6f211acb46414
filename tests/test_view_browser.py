"""`roadrisk view` as people meet it: its page in a browser, fed by the server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import chromium
import numpy as np
import pytest
from scored_examples import ABOUT, HOSTILE, scored_at

from roadrisk.dataset import Dataset
from roadrisk.map_site import site_at
from roadrisk.maps.layers import write_layers
from roadrisk.maps.places import GridTiles
from roadrisk.maps.served.server import MapServer

pytestmark = pytest.mark.skipif(
    chromium.EXECUTABLE is None, reason="Chromium is absent: apt-get install chromium"
)

READY = "document.documentElement?.dataset.ready === '1'"
IDLE = "roadriskViews.every(view => view.map.loaded() && !view.map.isMoving())"
SELECTED = "document.querySelector('#selection:not([hidden]) .headline strong')?.textContent ?? ''"
PICTURE = "[...document.querySelectorAll('#selection img')].find(img => img.complete && img.naturalWidth)?.src ?? ''"


@pytest.fixture(scope="module")
def server(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MapServer]:
    """A scored layer with a hostile title and hostile towns, and what was observed, with pictures."""
    grid = dataset.grid
    rows, cols = grid.every_tile()
    layer = scored_at(GridTiles(grid, rows, cols), grid.tile_ids(rows, cols), replace(ABOUT, title=HOSTILE))
    path: Path = tmp_path_factory.mktemp("layers") / "risk.gpkg"
    write_layers(layer, [path])
    with MapServer(0) as listening:
        site = site_at([path, dataset.path], dataset.path, print)
        threading.Thread(target=listening.serve, args=(site,), daemon=True).start()
        yield listening
        listening.shutdown()


def test_a_click_shows_the_tile_its_facts_and_its_picture(
    server: MapServer, dataset: Dataset, tmp_path: Path
) -> None:
    grid = dataset.grid
    seen = dataset.reader("aerial")
    i = next(i for i in range(100, grid.size) if seen.valid(*divmod(i, grid.cols)).any())
    lng, lat = (
        float(at[0]) for at in grid.centres(*(np.array([at]) for at in divmod(i, grid.cols)), "EPSG:4326")
    )
    with chromium.tab(tmp_path) as tab:
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=1200, height=800, deviceScaleFactor=1, mobile=False
        )
        tab.call("Page.navigate", url=server.address)
        tab.wait(f"({READY}) && {IDLE}")
        drawn = tab.value(
            "roadriskViews[0].map.queryRenderedFeatures().filter(f => f.sourceLayer === 'features').length"
        )
        assert drawn > 50
        place = json.dumps([lng, lat])
        x, y = tab.value(
            f"(() => {{ const map = roadriskViews[0].map, box = map.getContainer().getBoundingClientRect(),"
            f" at = map.project({place}); return [at.x + box.x, at.y + box.y]; }})()"
        )
        tab.click(x, y)
        tab.wait(f"({SELECTED}) !== ''")
        assert tab.value(SELECTED) == grid.tile_id(*divmod(i, grid.cols))
        tab.wait(f"({PICTURE}) !== ''")
        assert f"/pictures/aerial/{i}?layer=0" in tab.value(PICTURE)
        assert f'Town "{i}", {HOSTILE}' in tab.value("document.body.textContent") or i % 8 == 1
        assert tab.value("document.querySelectorAll('img[src=\"x\"]').length") == 0
        assert tab.complaints() == []
        asked = [url for url in tab.requests() if not url.startswith(("data:", "blob:", "about:"))]
        assert any("/underlay/" in url for url in asked)
        assert all(url.startswith(server.address) for url in asked)
