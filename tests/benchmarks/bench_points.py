"""Ten million points into 100,000 tiles, beside geopandas and DuckDB spatial: `make bench` prints the ratios."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from roadrisk.features.counting import count_events
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell

POINTS = 10_000_000
GROUP = "10 million points into 100,000 tiles"


@pytest.fixture(scope="module")
def grid() -> Grid:
    """99,540 tiles."""
    return grid_of_cell(LngLatBbox(-93.9, 41.4, -93.3, 41.85), 160)


@pytest.fixture(scope="module")
def points(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(N,) x and y, all inside."""
    rng = np.random.default_rng(0)
    left, bottom, right, top = grid.bounds
    return rng.uniform(left, right, POINTS), rng.uniform(bottom, top, POINTS)


@pytest.mark.benchmark(group=GROUP)
def test_points_roadrisk(benchmark: Callable[..., Any], grid: Grid, points: Any) -> None:
    assert benchmark(count_events, grid, *points).sum() == POINTS


@pytest.mark.benchmark(group=GROUP)
def test_points_roadrisk_weighted(benchmark: Callable[..., Any], grid: Grid, points: Any) -> None:
    weight = np.full(POINTS, 2.0)
    assert benchmark(count_events, grid, *points, weight).sum() == 2 * POINTS


@pytest.mark.benchmark(group=GROUP)
def test_points_located_roadrisk(benchmark: Callable[..., Any], grid: Grid, points: Any) -> None:
    """The row and col of every point, where a sum is not enough."""
    rows, _ = benchmark(grid.locate, *points)
    assert (rows >= 0).all()


@pytest.mark.benchmark(group=GROUP)
def test_points_geopandas_sjoin(benchmark: Any, grid: Grid, points: Any) -> None:
    cells = geopandas.GeoDataFrame(geometry=grid.cells(*grid.every_tile()), crs=grid.crs)
    located = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(*points), crs=grid.crs)
    joined = benchmark.pedantic(lambda: geopandas.sjoin(located, cells, predicate="within"), rounds=1)
    counts = np.bincount(joined["index_right"], minlength=grid.size).reshape(grid.shape)
    np.testing.assert_array_equal(counts, count_events(grid, *points))


@pytest.mark.benchmark(group=GROUP)
def test_points_duckdb_spatial(benchmark: Any, grid: Grid, points: Any) -> None:
    """Its own join of two tables that it holds already, on every core: no more than the join is timed."""
    connection = duckdb_with_spatial()
    loaded = pd.DataFrame({"x": points[0], "y": points[1]})
    cells = pd.DataFrame(
        {"tile": np.arange(grid.size), "wkb": shapely.to_wkb(grid.cells(*grid.every_tile()))}
    )
    for name, frame in (("loaded", loaded), ("cells", cells)):
        connection.register(name, frame)
    connection.execute("CREATE TABLE points AS SELECT ST_Point(x, y) AS geom FROM loaded")
    connection.execute("CREATE TABLE tiles AS SELECT tile, ST_GeomFromWKB(wkb) AS geom FROM cells")
    query = """
        SELECT tile, count(*) AS events
        FROM points JOIN tiles ON ST_Within(points.geom, tiles.geom) GROUP BY tile
    """
    found = benchmark.pedantic(lambda: connection.execute(query).fetchnumpy(), rounds=1)
    counts = np.zeros(grid.size)
    counts[found["tile"]] = found["events"]
    np.testing.assert_array_equal(counts.reshape(grid.shape), count_events(grid, *points))


def duckdb_with_spatial() -> Any:
    """A connection with the spatial extension from its PyPI package: nothing is downloaded.

    Skips where it is not there: an absent rival is not one that was beaten.
    """
    duckdb = pytest.importorskip(
        "duckdb", reason="DuckDB spatial is absent: pip install 'roadrisk[bench-duckdb]'"
    )
    package = pytest.importorskip(
        "duckdb_extension_spatial",
        reason="DuckDB spatial is absent: pip install 'roadrisk[bench-duckdb]'",
    )
    folder = Path(package.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    try:
        connection.load_extension(str(folder / "spatial.duckdb_extension"))
    except duckdb.Error as error:
        pytest.skip(f"DuckDB spatial is absent: {str(error).splitlines()[0]}")
    return connection
