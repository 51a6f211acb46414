"""Roads coloured by the risk of their tiles, beside geopandas' overlay of lines and tiles.

`ROADS` sets how many lines there are (100,000 unless it is set), of two vertices and some 150 m, on tiles of 250 m.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

sys.path.insert(0, str(Path(__file__).parents[1]))
from scored_examples import scored_grid

from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.maps.layer import Layer
from roadrisk.maps.road_risk import RoadLines, road_layer, road_lengths

ROADS = int(os.environ.get("ROADS", "100000"))
GRID = grid_of_cell(LngLatBbox(-71.3, 42.2, -70.9, 42.5), 250)
GROUP = f"{ROADS:,} roads coloured by the risk of {GRID.size:,} tiles"


@pytest.fixture(scope="module")
def tiles() -> Layer:
    return scored_grid(GRID)


@pytest.fixture(scope="module")
def roads() -> RoadLines:
    chance = np.random.default_rng(0)
    left, bottom, right, top = GRID.bounds
    start = chance.uniform((left, bottom), (right, top), (ROADS, 2))
    geometry = shapely.linestrings(np.stack([start, start + chance.normal(0, 100, (ROADS, 2))], axis=1))
    ids = np.arange(ROADS).astype(str).astype(object)
    return RoadLines(ids, geometry, road_lengths(geometry, GRID.crs))


@pytest.mark.benchmark(group=GROUP)
def test_road_layer(benchmark: Any, roads: RoadLines, tiles: Layer, kept: SimpleNamespace) -> None:
    made = benchmark.pedantic(road_layer, (roads, tiles), rounds=3)
    kept.risk = made.table.set_index("road_id")["risk"]


@pytest.mark.benchmark(group=GROUP)
def test_overlay(benchmark: Any, roads: RoadLines, tiles: Layer, kept: SimpleNamespace) -> None:
    def overlaid() -> pd.Series:
        lines = geopandas.GeoDataFrame({"road_id": roads.ids}, geometry=roads.geometry, crs=GRID.crs)
        squares = tiles.placed().shapes(GRID.crs)
        cells = geopandas.GeoDataFrame({"risk": tiles.table["risk"]}, geometry=squares, crs=GRID.crs)
        pieces = lines.overlay(cells[cells["risk"].notna()], how="intersection")
        metres = pieces.geometry.length
        by_road = (pieces["risk"] * metres).groupby(pieces["road_id"]).sum()
        return by_road / metres.groupby(pieces["road_id"]).sum()

    risk = benchmark.pedantic(overlaid, rounds=1)
    ours = kept.risk.dropna()
    np.testing.assert_allclose(ours, risk.reindex(ours.index), rtol=1e-4)


@pytest.fixture(scope="module")
def kept() -> SimpleNamespace:
    return SimpleNamespace()
