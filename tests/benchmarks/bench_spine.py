"""What the spine is fast at, each beside its rival in one group: `make bench` prints the ratios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from roadrisk.geometry.lines import split_lines
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell

LINES = 50_000


@pytest.fixture(scope="module")
def grid() -> Grid:
    """About 100,000 tiles."""
    return grid_of_cell(LngLatBbox(-93.9, 41.4, -93.3, 41.85), 160)


@pytest.fixture(scope="module")
def lines(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(2 N, 2) coordinates and offsets of straight streets of about 150 m."""
    rng = np.random.default_rng(1)
    left, bottom, right, top = grid.bounds
    start = np.column_stack([rng.uniform(left, right, LINES), rng.uniform(bottom, top, LINES)])
    coordinates = np.stack([start, start + rng.normal(0, 110, start.shape)], axis=1).reshape(-1, 2)
    return coordinates, np.arange(0, 2 * LINES + 1, 2)


@pytest.mark.benchmark(group="50,000 streets split at grid lines")
def test_lines_roadrisk(benchmark: Callable[..., Any], grid: Grid, lines: Any) -> None:
    pieces = benchmark(split_lines, grid, *lines)
    np.testing.assert_allclose(np.bincount(pieces.line, pieces.share), 1)


@pytest.mark.benchmark(group="50,000 streets split at grid lines")
def test_lines_geopandas_overlay(benchmark: Any, grid: Grid, lines: Any) -> None:
    coordinates, _ = lines
    cells = geopandas.GeoDataFrame(geometry=grid.cells(*grid.every_tile()), crs=grid.crs)
    streets = geopandas.GeoDataFrame(
        geometry=shapely.linestrings(coordinates.reshape(-1, 2, 2)), crs=grid.crs
    )
    benchmark.pedantic(lambda: geopandas.overlay(streets, cells, keep_geom_type=True), rounds=1)
