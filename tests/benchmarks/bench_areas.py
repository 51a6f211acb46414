"""Census tracts onto 250 m cells, beside those who do it with a spatial index: `make bench` prints the ratios.

A rival that is not installed is skipped by name: absent, never passed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from roadrisk.geometry.polygons import split_polygons
from roadrisk.grid import FloatArray, Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import Coverage, LineSource
from roadrisk.sources.coverage import read_coverage

BOSTON = LngLatBbox(-71.35, 42.20, -70.95, 42.42)
GROUP = "people of 987 tracts onto 13,872 cells of 250 m"


@pytest.fixture(scope="module")
def grid() -> Grid:
    return grid_of_cell(BOSTON, 250)


@pytest.fixture(scope="module")
def tracts(shared_data: Path, grid: Grid) -> Any:
    return geopandas.read_file(shared_data / "boston/areas/boston_census_tracts.geojson").to_crs(grid.crs)


@pytest.fixture(scope="module")
def cells(grid: Grid) -> Any:
    return geopandas.GeoDataFrame(
        {"tile": np.arange(grid.size)}, geometry=grid.cells(*grid.every_tile()), crs=grid.crs
    )


def people(grid: Grid, tracts: Any) -> FloatArray:
    geometry = tracts.geometry.to_numpy()
    pieces = split_polygons(grid, geometry)
    share = pieces.area / shapely.area(geometry)[pieces.polygon]
    each = tracts["population2012"].to_numpy()[pieces.polygon] * share
    return np.bincount(pieces.row * grid.cols + pieces.col, each, minlength=grid.size)


@pytest.mark.benchmark(group=GROUP)
def test_tracts_roadrisk(benchmark: Callable[..., Any], grid: Grid, tracts: Any) -> None:
    assert benchmark(people, grid, tracts).sum() > 1e6


@pytest.mark.benchmark(group=GROUP)
def test_tracts_tobler(benchmark: Any, grid: Grid, tracts: Any, cells: Any) -> None:
    tobler = pytest.importorskip("tobler.area_weighted", exc_type=ImportError)
    shared = benchmark.pedantic(
        lambda: tobler.area_interpolate(
            tracts, cells, extensive_variables=["population2012"], allocate_total=False
        ),
        rounds=3,
    )
    np.testing.assert_allclose(shared["population2012"], people(grid, tracts), rtol=1e-6, atol=1e-9)


@pytest.mark.benchmark(group=GROUP)
def test_tracts_geopandas_overlay(benchmark: Any, grid: Grid, tracts: Any, cells: Any) -> None:
    whole = tracts.assign(density=tracts["population2012"] / tracts.area)

    def once() -> FloatArray:
        cut = geopandas.overlay(whole, cells, keep_geom_type=True)
        return np.bincount(cut["tile"], cut["density"] * cut.area, minlength=grid.size)

    shared = benchmark.pedantic(once, rounds=3)
    np.testing.assert_allclose(shared, people(grid, tracts), rtol=1e-6, atol=1e-9)


@pytest.mark.benchmark(group="987 tracts onto a million cells of 29 m")
def test_tracts_on_a_million_cells(benchmark: Callable[..., Any], tracts: Any) -> None:
    assert benchmark(people, grid_of_cell(BOSTON, 29), tracts).sum() > 1e6


@pytest.mark.benchmark(group="what the streets of 31 cities cover, read from the file")
def test_coverage_of_streets(benchmark: Callable[..., Any], grid: Grid, shared_data: Path) -> None:
    source = LineSource(str(shared_data / "boston/roads.gpkg"))
    covered = benchmark(read_coverage, Coverage(column="city"), source, grid)
    assert 0.3 < covered.share.mean() < 0.45
