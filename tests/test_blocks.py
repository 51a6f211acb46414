"""Blocks of a part against rasterio and Pillow, and of parts that are damaged or made to do harm."""

from __future__ import annotations

import gc
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosaics import grid_of, holed, part_file
from numpy.typing import NDArray
from PIL import Image
from sheets import scene

from roadrisk.errors import DatasetError
from roadrisk.mosaic import blocks
from roadrisk.mosaic.blocks import PartFile
from roadrisk.mosaic.picture import Picture


def whole(file: PartFile) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(3, H, W) and (H, W) from blocks."""
    rows, cols = (px // side for px, side in zip(file.shape, file.block, strict=True))
    pixels = np.block([[file.pixels(r, c).transpose(2, 0, 1) for c in range(cols)] for r in range(rows)])
    valid = np.block([[file.valid(r, c) for c in range(cols)] for r in range(rows)])
    return np.asarray(pixels), np.asarray(valid)


@pytest.mark.parametrize(
    ("block", "rows", "cols"), [(64, 3, 4), (80, 1, 3), (96, 5, 2), (256, 3, 3), (1024, 1, 2)]
)
def test_blocks_are_those_that_rasterio_reads(tmp_path: Path, block: int, rows: int, cols: int) -> None:
    picture = holed(grid_of(rows, cols), block)
    file = part_file(tmp_path / "a.tif", picture, block)
    pixels, valid = whole(file)
    with rasterio.open(tmp_path / "a.tif") as source:
        assert source.block_shapes[0] == file.block == (block, block)
        assert np.array_equal(pixels, source.read())
        assert np.array_equal(valid, source.read_masks(1) > 0)
    assert np.array_equal(pixels, picture.pixels)
    assert np.array_equal(valid, picture.valid)
    assert file.shape == picture.valid.shape
    assert file.is_masked_rgb
    assert file.pixels(0, 0).flags.writeable


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**9),
    known=st.sampled_from([0.0, 0.001, 0.5, 1.0]),
    levels=st.sampled_from([1, 2, 256]),
)
def test_any_picture_comes_back(tmp_path: Path, seed: int, known: float, levels: int) -> None:
    rng = np.random.default_rng(seed)
    valid = rng.random((128, 192)) < known
    pixels = (rng.integers(0, levels, (3, 128, 192)) * (255 // max(1, levels - 1)) % 256).astype(np.uint8)
    got = whole(part_file(tmp_path / "a.tif", Picture(pixels * valid, valid), 64))
    assert np.array_equal(got[0], pixels * valid)
    assert np.array_equal(got[1], valid)


def test_blocks_without_a_picture_are_not_written_and_read_as_zeros(tmp_path: Path) -> None:
    valid = np.zeros((192, 192), bool)
    valid[:64, :64] = True
    for compress in ("zstd", "jpeg"):
        file = part_file(tmp_path / "a.tif", Picture(scene(192, 192) * valid, valid), 64, compress)
        assert (file._picture.array(blocks.OFFSETS) > 0).sum() == 1
        assert not file.pixels(1, 2).any()
        assert not file.valid(1, 2).any()
        assert file.pixels(1, 2).shape == (64, 64, 3)


@pytest.mark.parametrize("block", [64, 256])
def test_jpeg_is_that_of_its_library_and_nothing_bleeds(tmp_path: Path, block: int) -> None:
    known = np.random.default_rng(0).random((2 * block, 3 * block)) > 0.01
    known[block // 2 : 3 * block // 2, 30:] = False
    picture = Picture(scene(2 * block, 3 * block) * known, known)
    pixels, valid = whole(part_file(tmp_path / "a.tif", picture, block, "jpeg"))
    assert np.array_equal(valid, picture.valid)
    assert not pixels[:, ~valid].any()
    # Pillow decodes by libjpeg-turbo as OpenCV does; rasterio's wheel by IJG's, which smooths colours otherwise
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(pixels, np.moveaxis(np.asarray(image), -1, 0) * valid)


def test_jpeg_of_real_pixels(tmp_path: Path, shared_data: Path) -> None:
    with rasterio.open(shared_data / "boston/imagery/21328975.tif") as source:
        picture = Picture(source.read()[:, :1280, :1280], np.ones((1280, 1280), bool))
    lossless = part_file(tmp_path / "a.tif", picture, 256)
    assert np.array_equal(whole(lossless)[0], picture.pixels)
    lossy = part_file(tmp_path / "b.tif", picture, 256, "jpeg")
    pixels = whole(lossy)[0].astype(int)
    assert np.abs(pixels - picture.pixels).mean() < 6
    with rasterio.open(tmp_path / "b.tif") as source:
        assert np.abs(pixels - source.read()).mean() < 1
    assert (tmp_path / "b.tif").stat().st_size < 0.3 * (tmp_path / "a.tif").stat().st_size


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Cn"])))
def test_notes_are_those_that_rasterio_reads(tmp_path: Path, text: str) -> None:
    notes = f"{{{text}}}"  # GDAL drops spaces before the first letter
    picture = Picture(np.ones((3, 64, 64), np.uint8), np.ones((64, 64), bool))
    file = part_file(tmp_path / "a.tif", picture, 64, notes=notes)
    with rasterio.open(tmp_path / "a.tif") as source:
        assert file.notes["ROADRISK_TILES"] == source.tags()["ROADRISK_TILES"] == notes
        assert file.notes["ROADRISK_PLAN"] == "plan"


def test_notes_open_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    file = part_file(tmp_path / "a.tif", holed(grid_of(3, 3)), 64, notes="x" * 200)
    body = (tmp_path / "a.tif").read_bytes()
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]><Item name="ROADRISK_TILES">&x;'.encode()
    at = body.index(b"<GDALMetadata>")
    end = body.index(b"</Item>\n</GDALMetadata>")
    (tmp_path / "a.tif").write_bytes(body[:at] + entity.ljust(end - at) + body[end:])
    assert file.notes["ROADRISK_TILES"] == "x" * 200
    assert PartFile(tmp_path / "a.tif").notes["ROADRISK_TILES"].strip() == "&x;"


# --- handles


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_file_is_closed_when_nobody_holds_it(tmp_path: Path) -> None:
    part_file(tmp_path / "a.tif", holed(grid_of(3, 3)), 64)
    gc.collect()
    before = open_files()
    files = [PartFile(tmp_path / "a.tif") for _ in range(20)]
    assert open_files() == before + 20
    files[0].close()
    files[0].close()
    del files
    gc.collect()
    assert open_files() == before
    (tmp_path / "a.tif").write_bytes(b"II*\0\0\0\0\x7f")
    with pytest.raises(DatasetError):
        PartFile(tmp_path / "a.tif")
    gc.collect()
    assert open_files() == before


def read_often(file: PartFile, wanted: NDArray[np.uint8]) -> None:
    for _ in range(300):
        for row, col in np.ndindex(2, 2):
            there = np.s_[row * 64 : (row + 1) * 64, col * 64 : (col + 1) * 64]
            assert np.array_equal(file.pixels(row, col).transpose(2, 0, 1), wanted[:, *there])


def test_parent_and_child_read_through_one_handle(tmp_path: Path) -> None:
    picture = holed(grid_of(3, 3))
    file = part_file(tmp_path / "a.tif", picture, 64)
    child = multiprocessing.get_context("fork").Process(target=read_often, args=(file, picture.pixels))
    child.start()
    read_often(file, picture.pixels)
    child.join()
    assert child.exitcode == 0
