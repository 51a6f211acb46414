"""Covering: which zoom a grid asks for, and which tiles."""

from __future__ import annotations

import mercantile
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, LngLatBbox, transformer
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.imagery.tiles.covering import FINEST, WORLD_M, tiles_over, zoom_for

BOX = LngLatBbox(-71.06, 42.35, -71.05, 42.36)


def tiles_of(grid: Grid) -> set[tuple[int, int, int]]:
    return {(grid.zoom_level, grid.x0 + c, grid.y0 + r) for r in range(grid.rows) for c in range(grid.cols)}


@given(
    west=st.floats(-170, 169),
    south=st.floats(-75, 74),
    zoom=st.integers(5, 16),
    tile_size=st.sampled_from([64, 256, 512]),
    tile_px=st.sampled_from([256, 512]),
)
def test_an_xyz_grid_never_needs_a_row_or_a_column_too_many(
    west: float, south: float, zoom: int, tile_size: int, tile_px: int
) -> None:
    side = 1500 / 2**zoom
    grid = grid_of_zoom(LngLatBbox(west, south, min(west + side, 180), min(south + side, 80)), zoom)
    served = zoom_for(grid, tile_size, tile_px, 0, FINEST[tile_px])
    assert tile_px * 2**served >= tile_size * 2**zoom > tile_px * 2 ** (served - 1)
    rows = tiles_over(grid, tile_size, served, tile_px)
    needed = {
        tuple(mercantile.parent(x, y, zoom, zoom=served))[:2] if served < zoom else (x, y)
        for _, x, y in tiles_of(grid)
    }
    if served > zoom:
        needed = {(t.x, t.y) for x, y in needed for t in mercantile.children(x, y, zoom, zoom=served)}
    asked = {(x, rows.y0 + i) for i in range(len(rows.first)) for x in range(rows.first[i], rows.end[i])}
    assert asked == needed
    assert rows.count == len(asked)


@settings(max_examples=60)
@given(
    west=st.floats(-170, 169),
    south=st.floats(-75, 74),
    cell=st.floats(20, 2000),
    size=st.integers(1, 40),
    zoom=st.integers(8, 20),
    crs=st.sampled_from([None, "EPSG:3857", "EPSG:6933"]),
)
def test_every_pixel_of_any_grid_lies_in_a_fetched_tile(
    west: float, south: float, cell: float, size: int, zoom: int, crs: str | None
) -> None:
    degrees = cell * size / 111_000
    box = LngLatBbox(west, south, west + degrees, south + degrees)
    grid = grid_of_cell(box, cell, crs=crs)
    rows = tiles_over(grid, 256, zoom, 256)
    rng = np.random.default_rng(size)
    size_px = 256 * np.array([grid.cols, grid.rows])
    # what resampling reaches beyond the edge is needed too
    inside = rng.integers(-4, size_px + 4, (2000, 2)) + 0.5
    edge = inside[:500].copy()
    edge[::2, 0], edge[1::2, 1] = -3.5, size_px[1] + 3.5
    px = np.concatenate([inside, edge])
    transform = grid.picture_transform(256)
    x, y = transformer(grid.crs, "EPSG:3857").transform(
        transform.a * px[:, 0] + transform.c, transform.e * px[:, 1] + transform.f
    )
    u = np.floor((x / WORLD_M + 0.5) * 2**zoom).astype(int)
    v = np.floor((0.5 - y / WORLD_M) * 2**zoom).astype(int) - rows.y0
    assert ((v >= 0) & (v < len(rows.first))).all()
    assert ((rows.first[v] <= u) & (u < rows.end[v])).all()


def test_tiles_that_do_not_meet_the_grid_are_not_fetched() -> None:
    grid = grid_of_cell(LngLatBbox(-71.3, 42.2, -70.9, 42.5), 250)
    rows = tiles_over(grid, 256, 15, 256)
    outline = grid.cells(np.array([0]), np.array([0]))[0]
    west, south, east, north = grid.bounds
    ring = shapely.segmentize(shapely.box(west, south, east, north), 100)
    outline = shapely.transform(
        ring, lambda xy: np.column_stack(transformer(grid.crs, "EPSG:3857").transform(*xy.T))
    )
    side = WORLD_M / 2**15
    meeting, asked = 0, 0
    for i, (first, end) in enumerate(zip(rows.first, rows.end, strict=True)):
        x = np.arange(first - 2, end + 2)
        left, top = x * side - WORLD_M / 2, WORLD_M / 2 - (rows.y0 + i) * side
        near = shapely.intersects(shapely.box(left, top - side, left + side, top), outline.buffer(25))
        assert ((first <= x) & (x < end))[near].all()
        meeting += int(near.sum())
        asked += end - first
    assert meeting <= asked <= meeting * 1.02


@pytest.mark.parametrize(
    ("cell", "tile_size", "zoom"),
    [(256 * 1.0, 256, 17), (256 * 0.6, 256, 18), (256 * 0.8, 256, 18), (256 * 0.9, 256, 17)],
)
def test_the_zoom_is_as_fine_as_the_ground_pixel(cell: float, tile_size: int, zoom: int) -> None:
    # zoom 17 has 1.1943 m at the equator, 0.8824 m at 42.36 degrees north
    grid = grid_of_cell(BOX, cell)
    assert zoom_for(grid, tile_size, 256, 0, 22) == zoom


def test_a_grid_beyond_web_mercator_or_across_the_date_line_is_an_error() -> None:
    polar = grid_of_cell(LngLatBbox(10, 87, 10.01, 87.01), 250, crs="EPSG:3995")
    with pytest.raises(
        SourceError, match=r"^the region lies where Web Mercator has no tiles; use imagery in files$"
    ):
        tiles_over(polar, 256, 12, 256)
    across = Grid("cell", "EPSG:32601", 0.0, 0.0, 250.0, 0, -20_000, 40, 1400)
    with pytest.raises(SourceError, match=r"^the region crosses the 180th meridian"):
        tiles_over(across, 256, 12, 256)


def test_millions_of_tiles_are_counted_in_rows() -> None:
    grid = grid_of_cell(LngLatBbox(-74, 41, -70, 44), 250)
    assert tiles_over(grid, 256, 18, 256).count > 5_000_000
