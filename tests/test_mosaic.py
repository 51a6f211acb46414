"""Parts on disk and reading tiles from them."""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from mosaics import SMALL, TILE, holed, write_mosaic

import roadrisk.grid
from roadrisk.errors import DatasetError
from roadrisk.grid import Part
from roadrisk.mosaic import reader as reading
from roadrisk.mosaic.blocks import PartFile
from roadrisk.mosaic.parts import (
    Compression,
    coverage_of,
    geotiff,
    known_of,
    part_of,
    read_painted,
    write_painted,
)
from roadrisk.mosaic.picture import Painted, Picture, Spent, undated
from roadrisk.mosaic.reader import MosaicReader

PLACE = SMALL.picture_transform(TILE)
PART = Part(0, 0, *SMALL.shape)
FILE = "views/aerial/r00000c00000.tif"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 2 x 2 tiles, so that a small grid has several."""
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", 2 * TILE)


def a_painted_part() -> Painted:
    """A part of which much is known and something was lost."""
    rng = np.random.default_rng(0)
    picture = holed()
    failed = rng.random(SMALL.shape) < 0.2
    first = rng.choice(["", "2018-05-01", "2021-12-31"], SMALL.shape)
    last = np.where(first == "", "", "2022-01-01")
    reasons = ('/data/naïve "a" & <b>.tif is damaged at pixel 3, 4 (IReadBlock failed\n)', "b.tif is damaged")
    return Painted(picture, first, last, failed, reasons, Spent(1.0, 2.0, 3.0))


def write(path: Path, painted: Painted, compress: Compression = "zstd", plan: str = "plan") -> Any:
    return write_painted(path, painted, PLACE, SMALL.crs, TILE, plan, compress)


# --- parts


@given(side=st.sampled_from([64, 96, 256, 1024]), row=st.integers(0, 5), col=st.integers(0, 4))
def test_the_part_of_a_tile_is_the_one_that_holds_it(side: int, row: int, col: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roadrisk.grid, "PART_SIDE_PX", 2 * side)
        holding = [
            part
            for part in SMALL.parts(side)
            if part.row <= row < part.row + part.rows and part.col <= col < part.col + part.cols
        ]
        assert [part_of(SMALL, side, row, col)] == holding


def test_coverage_is_the_share_of_known_pixels() -> None:
    valid = np.zeros((2 * TILE, 3 * TILE), bool)
    valid[:TILE, :TILE] = True
    valid[TILE : TILE + 16, TILE : TILE + 32] = True
    assert coverage_of(valid, TILE).tolist() == [[1, 0, 0], [0, 16 * 32 / TILE**2, 0]]


@pytest.mark.parametrize(("compress", "photometric"), [("zstd", None), ("jpeg", "ycbcr")])
def test_a_part_is_a_raster_whose_block_is_a_tile(
    tmp_path: Path, compress: Compression, photometric: str | None
) -> None:
    picture = holed()
    body = geotiff(picture, PLACE, SMALL.crs, TILE, "plan", compress)
    (tmp_path / "a.tif").write_bytes(body)
    with rasterio.open(tmp_path / "a.tif") as source:
        assert source.block_shapes == [(TILE, TILE)] * 3
        assert source.profile["compress"] == compress
        assert source.profile["interleave"] == "pixel"
        assert source.profile.get("photometric") == photometric
        assert source.tags()["ROADRISK_PLAN"] == "plan"
        assert source.crs.to_string() == SMALL.crs
        assert source.transform == PLACE
        assert np.array_equal(source.read_masks(1) > 0, picture.valid)
        if compress == "zstd":
            assert np.array_equal(source.read(), picture.pixels)


def test_a_painted_part_comes_back(tmp_path: Path) -> None:
    painted = a_painted_part()
    written = write(tmp_path / "a.tif", painted)
    body = (tmp_path / "a.tif").read_bytes()
    assert written == (len(body), hashlib.sha256(body).hexdigest())
    kept = read_painted(tmp_path / "a.tif", PART, TILE, "plan")
    assert kept is not None
    assert np.array_equal(kept.picture.pixels, painted.picture.pixels)
    assert np.array_equal(kept.picture.valid, painted.picture.valid)
    assert np.array_equal(kept.first, painted.first)
    assert np.array_equal(kept.last, painted.last)
    assert np.array_equal(kept.failed, painted.failed)
    assert kept.reasons == painted.reasons
    assert kept.spent == (0, 0, 0)
    write(tmp_path / "b.tif", kept)
    assert (tmp_path / "b.tif").read_bytes() == body


def test_a_part_of_jpeg_comes_back_as_it_is_read(tmp_path: Path) -> None:
    painted = a_painted_part()
    smooth = replace(painted, picture=Picture(painted.picture.pixels // 8 + 90, painted.picture.valid))
    write(tmp_path / "a.tif", smooth, "jpeg")
    write(tmp_path / "b.tif", smooth, "jpeg")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    kept = read_painted(tmp_path / "a.tif", PART, TILE, "plan")
    assert kept is not None
    assert np.array_equal(kept.picture.valid, painted.picture.valid)
    assert np.array_equal(kept.first, painted.first)
    file = PartFile(tmp_path / "a.tif")
    for row, col in np.ndindex(SMALL.shape):
        there = np.s_[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        assert np.array_equal(kept.picture.pixels[:, *there], file.pixels(row, col).transpose(2, 0, 1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: f.unlink(),
        lambda f: f.write_bytes(b"II*\0"),
        lambda f: f.write_bytes(f.read_bytes()[:-20_000]),
        lambda f: blank(f, 20_000, 60_000),
        lambda f: retag(f, ROADRISK_PLAN="another"),
        lambda f: f.write_bytes(geotiff(holed(), PLACE, SMALL.crs, TILE, "plan")),
        lambda f: f.write_bytes(geotiff(holed(), PLACE, SMALL.crs, 32, "plan")),
        lambda f: retag(f, ROADRISK_TILES="[]"),
        lambda f: retag(f, ROADRISK_TILES='{"reasons":[],"tiles":[]}'),
        lambda f: retag(f, ROADRISK_TILES='{"reasons":[],"tiles":[["","",false,29]]}'),
        lambda f: retag(f, ROADRISK_TILES='{"reasons":[],"tiles":[["","",false,-1],["","",false,31]]}'),
        lambda f: retag(f, ROADRISK_TILES='{"reasons":[],"tiles":[["","",false,1e9]]}'),
        lambda f: retag(f, ROADRISK_TILES='{"reasons":[],"tiles":[["",[],false,30]]}'),
        lambda f: retag(f, ROADRISK_TILES='{"reasons":3,"tiles":[["","",false,30]]}'),
        lambda f: retag(f, ROADRISK_TILES="[" * 100_000),
    ],
)
def test_what_is_not_a_whole_part_of_the_plan_is_none(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    path = tmp_path / "a.tif"
    write(path, a_painted_part())
    assert read_painted(path, PART, TILE, "plan") is not None
    spoil(path)
    assert read_painted(path, PART, TILE, "plan") is None


def test_what_a_part_says_of_its_tiles_is_short(tmp_path: Path) -> None:
    part = Part(0, 0, 64, 64)
    picture = Picture(np.ones((3, 4096, 4096), np.uint8), np.ones((4096, 4096), bool))
    first = undated(part)
    first[:, 30:] = "2021-07-01"
    failed = np.zeros(first.shape, bool)
    write(tmp_path / "a.tif", Painted(picture, first, first, failed, (), Spent(0, 0, 0)))
    file = PartFile(tmp_path / "a.tif")
    assert len(file.notes["ROADRISK_TILES"]) < 64 * 2 * 40
    assert np.array_equal(known_of(file, part).first, first)
    retag(tmp_path / "a.tif", ROADRISK_TILES="{}")
    with pytest.raises(DatasetError) as caught:
        known_of(PartFile(tmp_path / "a.tif"), part)
    assert str(caught.value) == (
        f"{tmp_path}/a.tif does not say what is known of its tiles; copy the dataset again or tile again"
    )


# --- reading


@pytest.mark.parametrize("compress", ["zstd", "jpeg"])
def test_tiles_in_any_order(tmp_path: Path, small_parts: None, compress: Compression) -> None:
    picture = holed()
    written = write_mosaic(tmp_path, SMALL, TILE, picture, compress=compress)
    assert len(written) == len(SMALL.parts(TILE)) - 1
    reader = MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan")
    for tile in np.random.default_rng(0).permutation(SMALL.size):
        row, col = divmod(int(tile), SMALL.cols)
        there = np.s_[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        pixels, valid = reader.read(row, col), reader.valid(row, col)
        assert pixels.shape == (3, TILE, TILE)
        assert pixels.dtype == np.uint8
        assert np.array_equal(valid, picture.valid[there])
        assert not pixels[:, ~valid].any()
        if compress == "zstd":
            assert np.array_equal(pixels, picture.pixels[:, *there])


def test_a_reader_is_pickled_and_closed_and_goes_on(tmp_path: Path, small_parts: None) -> None:
    write_mosaic(tmp_path, SMALL, TILE, holed())
    reader = MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan")
    wanted = reader.read(1, 2)
    again = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(again.read(1, 2), wanted)
    reader.close()
    reader.close()
    assert np.array_equal(reader.read(1, 2), wanted)
    for row, col in [(6, 0), (0, 5), (-1, 0), (0, -1)]:
        for of in (reader.read, reader.valid):
            with pytest.raises(DatasetError, match=f"no tile at row {row}, column {col}: the grid has 6 x 5"):
                of(row, col)


def read_all(reader: MosaicReader, wanted: Picture, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(600):
        row, col = (int(rng.integers(size)) for size in SMALL.shape)
        there = np.s_[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        assert np.array_equal(reader.read(row, col), wanted.pixels[:, *there])


def test_two_processes_go_on_with_one_reader_after_a_fork(
    tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "OPEN_PARTS", 3)
    picture = holed()
    write_mosaic(tmp_path, SMALL, TILE, picture)
    reader = MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan")
    read_all(reader, picture, 0)
    child = multiprocessing.get_context("fork").Process(target=read_all, args=(reader, picture, 1))
    child.start()
    read_all(reader, picture, 2)
    child.join()
    assert child.exitcode == 0


def test_few_parts_are_open_at_a_time(
    tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "OPEN_PARTS", 3)
    write_mosaic(tmp_path, SMALL, TILE, holed())
    reader = MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan")

    def opened() -> set[str]:
        links = (link.resolve() for link in Path("/proc/self/fd").iterdir())
        return {link.name for link in links if link.is_relative_to(tmp_path)}

    for row, col in np.ndindex(SMALL.shape):
        reader.read(row, col)
        assert len(opened()) <= 3
    reader.read(0, 0)
    reader.read(0, 2)
    reader.read(0, 0)
    reader.read(2, 0)
    reader.read(2, 2)
    assert opened() == {"r00000c00000.tif", "r00002c00000.tif", "r00002c00002.tif"}
    reader.close()
    assert opened() == set()


def test_what_is_known_of_the_tiles_of_a_part(tmp_path: Path, small_parts: None) -> None:
    first = np.array([[f"20{r:02d}-01-{c + 1:02d}" for c in range(5)] for r in range(6)])
    write_mosaic(tmp_path, SMALL, TILE, holed(), dates=(first, first))
    reader = MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan")
    known = reader.known(Part(2, 2, 2, 2))
    assert known is not None
    assert np.array_equal(known.last, first[2:4, 2:4])
    assert reader.known(Part(4, 4, 2, 1)) is None


def blank(file: Path, start: int, end: int) -> None:
    body = bytearray(file.read_bytes())
    body[start:end] = bytes(end - start)
    file.write_bytes(body)


def retag(file: Path, **tags: str) -> None:
    with rasterio.open(file, "r+") as target:
        target.update_tags(**tags)


def remade(file: Path, rows: int = SMALL.rows, **options: Any) -> None:
    """The part in another layout."""
    with rasterio.open(file) as source:
        pixels, tags = source.read()[:, : rows * TILE], source.tags()
        profile = source.profile | {"height": rows * TILE} | options
    with rasterio.open(file, "w", **profile) as target:
        target.update_tags(**tags)
        target.write(pixels)


MEND = "copy the dataset again or tile again"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: f.unlink(), f"is missing or damaged; {MEND}"),
        (lambda f: f.write_bytes(b""), f"is missing or damaged; {MEND}"),
        (lambda f: f.write_bytes(f.read_bytes()[:300]), f"is missing or damaged; {MEND}"),
        (lambda f: blank(f, 2000, 60_000), f"is (missing or )?damaged; {MEND}"),
        (lambda f: retag(f, ROADRISK_PLAN="another"), f"is not of this dataset: its plan differs; {MEND}"),
        (lambda f: remade(f, rows=5), f"is not of this dataset: it has 320 x 320 px; {MEND}"),
        (
            lambda f: remade(f, compress="deflate"),
            f"is not of this dataset: it is not a masked 8-bit RGB picture; {MEND}",
        ),
        (
            lambda f: f.write_bytes(geotiff(holed(), PLACE, SMALL.crs, 32, "plan")),
            rf"is not of this dataset: its blocks are \(32, 32\), not one tile; {MEND}",
        ),
    ],
)
def test_the_reader_refuses(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    write_mosaic(tmp_path, SMALL, TILE, holed())
    spoil(tmp_path / FILE)
    with pytest.raises(DatasetError) as caught:
        MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan").read(0, 0)
    assert re.fullmatch(f"{re.escape(str(tmp_path / FILE))} {said}", str(caught.value))


def test_the_reader_without_a_view(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan")
    assert str(caught.value) == (
        f"no {tmp_path}/views/aerial.parts.parquet: the view was not cut; tile again with --imagery"
    )
