"""The mosaic for people: the picture of the whole and the VRT, by GDAL."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from mosaics import SMALL, TILE, holed, write_mosaic
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window
from sheets import scene

import roadrisk.grid
import roadrisk.mosaic.overview
from roadrisk.grid import Grid, Part
from roadrisk.mosaic.overview import overview_pixels, shrunken, vrt_files, write_overview, write_vrt
from roadrisk.mosaic.parts import Compression, part_path, write_picture
from roadrisk.mosaic.picture import Picture


def test_overview_is_the_mean_of_what_is_known() -> None:
    known = np.zeros((128, 192), bool)
    known[:, :100] = True
    picture = Picture(scene(128, 192) * known, known)
    small = shrunken(picture, TILE, 16)
    assert small.pixels.shape == (3, 32, 48)
    assert np.array_equal(small.valid, known.reshape(32, 4, 48, 4).mean(axis=(1, 3)) >= 0.5)
    blocks = picture.pixels[:, :, :100].reshape(3, 32, 4, 25, 4).mean(axis=(2, 4))
    assert np.abs(small.pixels[:, :, :25] - blocks).max() <= 0.51
    assert not small.pixels[:, :, 25:].any()
    assert shrunken(picture, TILE, TILE) is picture


@pytest.mark.parametrize(
    ("rows", "cols", "size", "pixels"),
    [
        (1, 1, 64, 64),
        (16, 9, 256, 256),
        (17, 1, 256, 128),
        (64, 64, 80, 64),
        (42, 2, 96, 64),
        (5000, 2, 256, 1),
    ],
)
def test_overview_pixels(rows: int, cols: int, size: int, pixels: int) -> None:
    assert overview_pixels(Grid("cell", "EPSG:32619", 0, 0, 64.0, 0, 0, rows, cols), size) == pixels


@pytest.mark.parametrize(
    ("view", "block", "compress"),
    [("aerial", 64, "zstd"), ("context", 96, "zstd"), ("fall_2021", 80, "jpeg")],
)
def test_nested_vrts_show_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str, block: int, compress: Compression
) -> None:
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", block)
    monkeypatch.setattr(roadrisk.mosaic.overview, "SOURCES_PER_FILE", 2)
    monkeypatch.setattr(roadrisk.mosaic.overview, "NEST", 2)
    picture = holed(SMALL, block)
    parts = write_mosaic(tmp_path, SMALL, block, picture, view, compress)
    write_overview(tmp_path, view, shrunken(picture, block, 32), SMALL, "plan")
    write_vrt(tmp_path, view, parts, SMALL, block)
    assert len(parts) < len(SMALL.parts(block))
    files = vrt_files(view, parts, SMALL, block)
    assert len(files) > 3
    assert files[-1] == f"views/{view}.vrt"
    assert sorted(files) == sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*.vrt"))
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    with rasterio.open(moved / f"views/{view}.vrt") as source:
        assert source.crs.to_string() == SMALL.crs
        assert source.transform == SMALL.picture_transform(block)
        valid, pixels = source.read_masks(1) > 0, source.read()
        assert np.array_equal(valid, picture.valid)
        if compress == "zstd":
            assert np.array_equal(pixels, picture.pixels)
        window = Window(70, 100, 133, 90)
        assert np.array_equal(source.read(window=window), pixels[:, 100:190, 70:203])


def test_the_vrt_is_a_raster_as_a_gis_wants_it(tmp_path: Path) -> None:
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 70, 9)
    picture = holed(grid)
    parts = write_mosaic(tmp_path, grid, TILE, picture)
    small = shrunken(picture, TILE, overview_pixels(grid, TILE))
    write_overview(tmp_path, "aerial", small, grid, "plan")
    write_vrt(tmp_path, "aerial", parts, grid, TILE)
    with rasterio.open(tmp_path / "views/aerial.overview.tif") as source:
        assert source.shape == (70 * 32, 9 * 32)
        assert np.array_equal(source.read(), small.pixels)
    with rasterio.open(tmp_path / "views/aerial.vrt") as source:
        assert source.crs.to_epsg() == 32619
        assert source.bounds == grid.bounds
        assert source.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert source.mask_flag_enums == ([MaskFlags.per_dataset],) * 3
        assert [source.overviews(band) for band in (1, 2, 3)] == [[2]] * 3
        assert np.array_equal(source.read(out_shape=small.pixels.shape), small.pixels)
        assert np.array_equal(source.read_masks(1, out_shape=small.valid.shape) > 0, small.valid)


def four_thousand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Grid, list[Part], Picture]:
    """A mosaic of 4,030 parts of one tile, all the same file, and the picture of the whole."""
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", TILE)
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 65, 62)
    (folder / "views/aerial").mkdir(parents=True)
    tile = Picture(scene(TILE, TILE), np.ones((TILE, TILE), bool))
    write_picture(folder / "tile.tif", tile, grid.picture_transform(TILE), grid.crs, TILE, "plan")
    parts = grid.parts(TILE)
    for part in parts:
        os.link(folder / "tile.tif", folder / part_path("aerial", part))
    pixels = overview_pixels(grid, TILE)
    whole = Picture(scene(65 * pixels, 62 * pixels, 1), np.ones((65 * pixels, 62 * pixels), bool))
    write_overview(folder, "aerial", whole, grid, "plan")
    write_vrt(folder, "aerial", parts, grid, TILE)
    return grid, parts, whole


def drawn(folder: Path) -> np.ndarray:
    """The full view on a screen, opened as a GIS opens it."""
    with rasterio.open(folder / "views/aerial.vrt") as source:
        return np.concatenate(
            [source.read(out_shape=(3, 1000, 954)), source.read_masks(1, out_shape=(1, 1000, 954))[None]]
        )


def test_the_full_view_of_four_thousand_parts_in_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, parts, whole = four_thousand(tmp_path, monkeypatch)
    assert len(parts) == 4030
    began = time.perf_counter()
    view = drawn(tmp_path)
    assert time.perf_counter() - began < 1
    with rasterio.open(tmp_path / "views/aerial.overview.tif") as source:
        assert np.array_equal(view[:3], source.read(out_shape=view[:3].shape))
        assert np.array_equal(source.read(), whole.pixels)
    assert (view[3] == 255).all()


def test_the_full_view_opens_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    four_thousand(tmp_path, monkeypatch)
    before = drawn(tmp_path)
    shutil.rmtree(tmp_path / "views/aerial")
    assert np.array_equal(drawn(tmp_path), before)
    with (
        rasterio.open(tmp_path / "views/aerial.vrt") as source,
        pytest.raises(rasterio.errors.RasterioIOError),
    ):
        source.read(window=Window(0, 0, 10, 10))


def test_a_file_shows_at_most_a_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, parts, _ = four_thousand(tmp_path, monkeypatch)
    files = vrt_files("aerial", parts, grid, TILE)
    shown = {file: (tmp_path / file).read_text().count("<SimpleSource>") for file in files}
    assert max(shown.values()) <= 4 * 1000
    nested = [count for file, count in shown.items() if "nested" in file]
    assert len(nested) == 6
    assert sum(nested) == 4 * len(parts)
    outer = files[-1]
    with rasterio.open(tmp_path / outer) as source, rasterio.open(tmp_path / "tile.tif") as tile:
        for row, col in [(0, 0), (30, 31), (31, 30), (64, 61)]:
            window = Window(col * TILE, row * TILE, TILE, TILE)
            assert np.array_equal(source.read(window=window), tile.read())
