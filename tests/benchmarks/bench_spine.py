"""What the spine is fast at, each beside its rival in one group: `make bench` prints the ratios."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from roadrisk.cutting import cut_view
from roadrisk.geometry.lines import split_lines
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.mosaic import MosaicReader
from roadrisk.sources.demo import Metro, made_up_metro
from roadrisk.sources.imagery import found_sheets

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


@pytest.fixture(scope="module")
def metro() -> Any:
    """A made-up metro of 48 x 48 tiles."""
    with tempfile.TemporaryDirectory() as folder:
        yield made_up_metro(Path(folder) / "metro", seed=0, rows=48, cols=48)


@pytest.fixture(scope="module")
def cut(metro: Metro) -> Any:
    """Its mosaic at 256 px a tile."""
    grid = grid_of_cell(metro.bbox, 256.0)
    with tempfile.TemporaryDirectory() as folder:
        cut_view(
            Path(folder), "aerial", found_sheets([f"{metro.imagery}/*.tif"], grid), grid, 256, "bench", 1
        )
        yield grid, Path(folder)


@pytest.mark.benchmark(group="the region's picture, warped, compressed and written, one process")
def test_cut_roadrisk(benchmark: Any, metro: Metro, tmp_path: Path) -> None:
    grid = grid_of_cell(metro.bbox, 256.0, "EPSG:3857")
    sheets = found_sheets([f"{metro.imagery}/*.tif"], grid)
    runs = iter(range(100))

    def once() -> None:
        out = tmp_path / str(next(runs))
        out.mkdir()
        cut_view(out, "aerial", sheets, grid, 256, "bench", 1)

    benchmark.pedantic(once, rounds=3)


@pytest.mark.benchmark(group="the region's picture, warped, compressed and written, one process")
def test_cut_warped_vrt_by_tile_to_png(benchmark: Any, metro: Metro, tmp_path: Path) -> None:
    grid = grid_of_cell(metro.bbox, 256.0, "EPSG:3857")

    def once() -> None:
        for sheet in sorted(metro.imagery.glob("*.tif")):
            with (
                rasterio.open(sheet) as source,
                WarpedVRT(
                    source,
                    crs=grid.crs,
                    transform=grid.picture_transform(256),
                    width=grid.cols * 256,
                    height=grid.rows * 256,
                    resampling=Resampling.cubic,
                    add_alpha=True,
                ) as warped,
            ):
                for row in range(grid.rows):
                    for col in range(grid.cols):
                        window = rasterio.windows.Window(col * 256, row * 256, 256, 256)
                        picture = warped.read(window=window)
                        if picture[3].any():
                            cv2.imwrite(
                                str(tmp_path / f"{row}_{col}.png"), picture[[2, 1, 0]].transpose(1, 2, 0)
                            )

    benchmark.pedantic(once, rounds=3)


@pytest.mark.benchmark(group="144 tiles of 256 px in random order")
def test_read_roadrisk(benchmark: Callable[..., Any], cut: Any) -> None:
    grid, folder = cut
    order = np.random.default_rng(0).permutation(grid.size)

    def once() -> None:
        # opened and closed each time: GDAL's cache of blocks goes with the handle
        reader = MosaicReader(folder, "aerial", grid, 256, "bench")
        for i in order.tolist():
            reader.read(*divmod(i, grid.cols))
        reader.close()

    benchmark(once)


@pytest.mark.benchmark(group="144 tiles of 256 px in random order")
def test_read_png_by_opencv(benchmark: Callable[..., Any], cut: Any, tmp_path: Path) -> None:
    grid, folder = cut
    reader = MosaicReader(folder, "aerial", grid, 256, "bench")
    for i in range(grid.size):
        picture = reader.read(*divmod(i, grid.cols))
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture[::-1].transpose(1, 2, 0))
    order = np.random.default_rng(0).permutation(grid.size)
    benchmark(lambda: sum(int(cv2.imread(str(tmp_path / f"{i}.png"))[0, 0, 0]) for i in order))
