"""A raster by tile, beside exactextract: `make bench` prints the ratio.

A rival that is not installed is skipped by name: absent, never passed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import RasterSource
from roadrisk.sources.rasters import raster_columns

GROUP = "the mean of a 30 m raster in 13,872 tiles"


@pytest.fixture(scope="module")
def grid() -> Grid:
    return grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 250)


@pytest.fixture(scope="module")
def raster(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the grid's CRS, its pixels out of step with the tiles."""
    path = tmp_path_factory.mktemp("raster") / "elevation.tif"
    left, bottom, right, top = grid.bounds
    rows, cols = int((top - bottom) / 30) + 4, int((right - left) / 30) + 4
    values = np.random.default_rng(0).uniform(0, 200, (rows, cols)).astype("float32")
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": rows, "width": cols}
    transform = from_origin(left - 37, top + 41, 30, 30)
    with rasterio.open(path, "w", crs=grid.crs, transform=transform, **profile) as file:
        file.write(values, 1)
    return path


@pytest.mark.benchmark(group=GROUP)
def test_raster_roadrisk(benchmark: Callable[..., Any], grid: Grid, raster: Path) -> None:
    made = benchmark(raster_columns, RasterSource(str(raster), name="elevation"), grid)
    assert np.isfinite(made.facts[0][1]).all()


@pytest.mark.benchmark(group=GROUP)
def test_raster_exactextract(benchmark: Any, grid: Grid, raster: Path) -> None:
    exactextract = pytest.importorskip("exactextract")
    cells = geopandas.GeoDataFrame(geometry=grid.cells(*grid.every_tile()), crs=grid.crs)
    run = lambda: exactextract.exact_extract(str(raster), cells, "mean", output="pandas")  # noqa: E731
    rival = benchmark.pedantic(run, rounds=2)["mean"].to_numpy()
    ours = raster_columns(RasterSource(str(raster), name="elevation"), grid).facts[0][1]
    np.testing.assert_allclose(ours, rival, rtol=1e-5)
