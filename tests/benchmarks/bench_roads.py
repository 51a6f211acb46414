"""The road edges of Boston onto 250 m cells, beside the rivals: `make bench` prints the ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from bench_points import duckdb_with_spatial

from roadrisk.features.network import junctions
from roadrisk.features.roads import road_columns
from roadrisk.geometry.lines import ground_lengths, split_lines
from roadrisk.grid import FloatArray, Grid, IntArray, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import LineSource
from roadrisk.sources.lines import read_lines

GROUP = "the road edges of Boston split at the lines of 250 m cells"


class Edges(NamedTuple):
    """All rows of the file with a length, in the grid's CRS, and the metres of them inside the grid."""

    grid: Grid
    table: geopandas.GeoDataFrame
    coordinates: FloatArray
    offsets: IntArray
    inside_m: float


@pytest.fixture(scope="module")
def edges(shared_data: Path) -> Edges:
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 250)
    table = geopandas.read_file(shared_data / "boston/roads.gpkg", columns=[]).to_crs(grid.crs)
    table = table[shapely.length(table.geometry.to_numpy()) > 0]
    coordinates, offsets = vertices(table.geometry.to_numpy())
    whole = shapely.intersection(table.geometry.to_numpy(), shapely.box(*grid.bounds))
    return Edges(grid, table, coordinates, offsets, ground_m(grid, whole))


def vertices(lines: Any) -> tuple[FloatArray, IntArray]:
    coordinates, owner = shapely.get_coordinates(lines, return_index=True)
    return coordinates, np.searchsorted(owner, np.arange(len(lines) + 1))


def ground_m(grid: Grid, lines: Any) -> float:
    parts = shapely.get_parts(np.asarray(lines))
    return float(ground_lengths(grid.crs, *vertices(parts[shapely.length(parts) > 0])).sum())


@pytest.mark.benchmark(group=GROUP)
def test_edges_roadrisk(benchmark: Any, edges: Edges) -> None:
    pieces = benchmark(split_lines, edges.grid, edges.coordinates, edges.offsets)
    np.testing.assert_allclose(np.bincount(pieces.line, pieces.share), 1, rtol=1e-12)
    metres = pieces.share * ground_lengths(edges.grid.crs, edges.coordinates, edges.offsets)[pieces.line]
    assert metres[pieces.row >= 0].sum() == pytest.approx(edges.inside_m, abs=1e-3)


@pytest.mark.benchmark(group=GROUP)
def test_edges_geopandas_overlay(benchmark: Any, edges: Edges) -> None:
    cells = geopandas.GeoDataFrame(geometry=edges.grid.cells(*edges.grid.every_tile()), crs=edges.grid.crs)
    pieces = benchmark.pedantic(lambda: geopandas.overlay(edges.table, cells, keep_geom_type=True), rounds=3)
    assert ground_m(edges.grid, pieces.geometry.to_numpy()) == pytest.approx(edges.inside_m, abs=1e-3)


@pytest.mark.benchmark(group=GROUP)
def test_edges_duckdb(benchmark: Any, edges: Edges) -> None:
    connection = duckdb_with_spatial()
    cells = edges.grid.cells(*edges.grid.every_tile())
    for name, shapes in (("edges", edges.table.geometry.to_numpy()), ("cells", cells)):
        frame = pd.DataFrame({"wkb": shapely.to_wkb(shapes)})
        connection.register(f"{name}_wkb", frame)
        connection.execute(f"CREATE TABLE {name} AS SELECT ST_GeomFromWKB(wkb) AS shape FROM {name}_wkb")
    query = """
        SELECT ST_AsWKB(ST_Intersection(edges.shape, cells.shape)) AS wkb
        FROM edges JOIN cells ON ST_Intersects(edges.shape, cells.shape)
    """
    found = benchmark.pedantic(lambda: connection.execute(query).fetchnumpy()["wkb"], rounds=3)
    pieces = shapely.from_wkb(np.array([bytes(wkb) for wkb in found], dtype=object))
    assert ground_m(edges.grid, pieces) == pytest.approx(edges.inside_m, abs=1e-3)


@pytest.mark.benchmark(group="the columns of Boston's roads, its edges read once")
def test_columns_roadrisk(benchmark: Any, edges: Edges, shared_data: Path) -> None:
    source = LineSource(str(shared_data / "boston/roads.gpkg"), length_column="length")
    lines = read_lines(source, edges.grid)
    assert benchmark(road_columns, lines, edges.grid)[0][1].sum() > 4e6


@pytest.mark.benchmark(group="the junctions of Boston's roads")
def test_junctions_roadrisk(benchmark: Any, edges: Edges, shared_data: Path) -> None:
    lines = read_lines(LineSource(str(shared_data / "boston/roads.gpkg")), edges.grid)
    assert len(benchmark(junctions, lines, edges.grid).x) > 10_000
