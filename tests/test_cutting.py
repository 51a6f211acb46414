"""Cutting: its pixels against a warp of the whole region, its files, and what interrupts it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from sheets import RGBA, found, scene, sheet, warped_whole

import roadrisk.grid
import roadrisk.mosaic.overview
from roadrisk.errors import DatasetError, SourceError
from roadrisk.grid import Grid, LngLatBbox, Part
from roadrisk.gridding import grid_of_cell
from roadrisk.mosaic.cutting import CutView, cut_view
from roadrisk.mosaic.estimating import disk_needed, estimate
from roadrisk.mosaic.jobs import Target
from roadrisk.mosaic.reader import MosaicReader
from roadrisk.mosaic.warping import cut_part

TILE = 64
# 6 x 5 tiles of 64 m, so a pixel of the grid is a metre
SMALL = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 6, 5)
CORNER = SMALL.bounds.left, SMALL.bounds.top


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 2 x 2 tiles, so that a small grid has several."""
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", 2 * TILE)


def at(dx: float, dy: float, pixel: float = 1.0, angle: float = 0.0) -> Affine:
    """A sheet's place, its north-west corner (dx, dy) metres east and south of the grid's."""
    cos, sin = pixel * np.cos(np.radians(angle)), pixel * np.sin(np.radians(angle))
    return Affine(cos, sin, CORNER[0] + dx, sin, -cos, CORNER[1] - dy)


def cut(
    folder: Path, paths: list[Path], grid: Grid = SMALL, tile_size: int = TILE, workers: int = 1
) -> CutView:
    sheets = found(paths, grid, tile_size)
    folder.mkdir(exist_ok=True)
    return cut_view(Target(folder, "aerial", grid, tile_size, "plan"), sheets, workers)


def mosaic(folder: Path, grid: Grid = SMALL, tile_size: int = TILE) -> tuple[Any, Any]:
    """The whole region, read tile by tile."""
    reader = MosaicReader(folder, "aerial", grid, tile_size, "plan")
    pixels = np.zeros((3, grid.rows * tile_size, grid.cols * tile_size), np.uint8)
    valid = np.zeros(pixels.shape[1:], bool)
    for row, col in np.ndindex(grid.shape):
        there = np.s_[row * tile_size : (row + 1) * tile_size, col * tile_size : (col + 1) * tile_size]
        pixels[:, *there], valid[there] = reader.read(row, col), reader.valid(row, col)
    return pixels, valid


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def agree(got: tuple[Any, Any], wanted: tuple[Any, Any]) -> None:
    """Mean absolute difference under a grey level; what is known differs along its edges only."""
    both = got[1] & wanted[1]
    assert both.any()
    assert np.abs(got[0][:, both].astype(int) - wanted[0][:, both]).mean() < 1
    known, near = wanted[1].astype(np.uint8), np.ones((5, 5), np.uint8)
    assert not (got[1] & ~cv2.dilate(known, near).astype(bool)).any()
    assert not (~got[1] & cv2.erode(known, near, borderValue=0).astype(bool)).any()
    assert not got[0][:, ~got[1]].any()


# --- pixels


@pytest.mark.parametrize(
    ("pixel", "resampling", "crs"),
    [
        (1.7, Resampling.cubic, "EPSG:32619"),
        (1.7, Resampling.cubic, "EPSG:32618"),
        (0.31, Resampling.average, "EPSG:32619"),
    ],
)
def test_pixels_are_those_of_a_warp_of_the_whole_region(
    tmp_path: Path, small_parts: None, pixel: float, resampling: Resampling, crs: str
) -> None:
    # 6 degrees west of its zone the same ground lies elsewhere; place the sheet over the middle
    place = at(40.3, 30.4, pixel)
    if crs != SMALL.crs:
        x, y = rasterio.warp.transform(SMALL.crs, crs, [place.c], [place.f])
        place = Affine(place.a, place.b, x[0], place.d, place.e, y[0])
    size = round(300 / pixel)
    path = sheet(tmp_path / "a.tif", scene(size, size), place, crs)
    cut(tmp_path, [path])
    agree(mosaic(tmp_path), warped_whole([path], SMALL, TILE, resampling))


def test_north_is_up_and_west_is_left(tmp_path: Path, small_parts: None) -> None:
    picture = np.full((3, TILE * 6, TILE * 5), 10, np.uint8)
    picture[0, TILE * 3 : TILE * 4, TILE * 2 : TILE * 3] = np.add.outer(2 * np.arange(TILE), np.arange(TILE))
    cut(tmp_path, [sheet(tmp_path / "a.tif", picture, at(0, 0))])
    reader = MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan")
    assert np.array_equal(reader.read(3, 2)[0], np.add.outer(2 * np.arange(TILE), np.arange(TILE)))
    assert (reader.read(2, 2) == 10).all()
    assert (reader.read(3, 3) == 10).all()


def test_the_last_in_name_order_is_seen(tmp_path: Path) -> None:
    low = sheet(tmp_path / "a.tif", np.full((3, 200, 200), 50, np.uint8), at(0, 0))
    high = sheet(tmp_path / "b.tif", np.full((3, 200, 200), 90, np.uint8), at(100, 100))
    cut(tmp_path, [high, low])
    pixels, valid = mosaic(tmp_path)
    assert (pixels[:, :100, :100] == 50).all()
    assert (pixels[:, 100:200, 100:200] == 90).all()
    assert not valid[:100, 200:].any()


@pytest.mark.parametrize(
    ("how", "bands"), [("mask", 1), ("mask", 3), ("nodata", 1), ("nodata", 3), ("alpha", 3)]
)
def test_masks_are_respected(tmp_path: Path, how: str, bands: int) -> None:
    known = np.zeros((320, 320), bool)
    known[64:150, 64:200] = True
    pixels = scene(320, 320, bands=bands)
    options: dict[str, Any] = {}
    if how == "mask":
        options["mask"] = known
    elif how == "nodata":
        pixels[:, ~known] = 0
        pixels[0, 100, 100] = 0  # one band alone does not make a hole
        options["nodata"] = 0
    else:
        pixels = np.concatenate([pixels, np.where(known, 255, 0).astype(np.uint8)[None]])
        options["colours"] = RGBA
    if how == "nodata" and bands == 1:
        known[100, 100] = False
    cut(tmp_path, [sheet(tmp_path / "a.tif", pixels, at(0, 0), **options)])
    got, valid = mosaic(tmp_path)
    assert np.array_equal(valid[:320, :320], known)
    assert np.array_equal(got[:, :320, :320] if bands == 3 else got[:1, :320, :320], pixels[:bands] * known)


def test_grey_with_alpha(tmp_path: Path) -> None:
    known = np.zeros((100, 100), np.uint8)
    known[:50] = 255
    grey = scene(100, 100, bands=1)
    path = sheet(
        tmp_path / "a.tif",
        np.concatenate([grey, known[None]]),
        at(0, 0),
        colours=(rasterio.enums.ColorInterp.gray, RGBA[3]),
    )
    cut(tmp_path, [path])
    pixels, valid = mosaic(tmp_path)
    assert valid.sum() == 5000
    assert np.array_equal(pixels[:, :50, :100], np.repeat(grey[:, :50], 3, axis=0))


def test_one_band_is_repeated_and_near_infrared_left_out(tmp_path: Path) -> None:
    grey, four = scene(64, 64, bands=1), scene(64, 64, bands=4)
    colours = (*RGBA[:3], rasterio.enums.ColorInterp.undefined)
    cut(
        tmp_path,
        [
            sheet(tmp_path / "a.tif", grey, at(0, 0)),
            sheet(tmp_path / "b.tif", four, at(64, 0), colours=colours),
        ],
    )
    pixels, _ = mosaic(tmp_path)
    assert np.array_equal(pixels[:, :64, :64], np.repeat(grey, 3, axis=0))
    assert np.array_equal(pixels[:, :64, 64:128], four[:3])


def test_a_mask_of_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    bits = (scene(320, 320, bands=1) > 128).astype(np.uint8)
    cut(tmp_path, [sheet(tmp_path / "a.tif", bits, at(0, 0), nbits=1)])
    assert np.array_equal(mosaic(tmp_path)[0][:, :320, :320], np.repeat(bits * 255, 3, axis=0))
    # and is averaged as shades, not rounded to black or white first
    finer = sheet(tmp_path / "b.tif", bits, at(0, 0, 0.25), nbits=1)
    shades = cut_part(found([finer], SMALL, TILE), SMALL, Part(0, 0, 1, 1), TILE).pixels[0]
    wanted = 255 * bits[0, :256, :256].reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.abs(shades - wanted).max() <= 1


def test_real_sheets_against_a_warp_of_the_whole_region(tmp_path: Path, shared_data: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-71.345, 42.325, -71.325, 42.335), 250)
    path = shared_data / "boston/imagery/21328975.tif"
    cut(tmp_path, [path], grid, 256)
    agree(mosaic(tmp_path, grid, 256), warped_whole([path], grid, 256, Resampling.cubic))


# --- files


def test_a_part_is_a_raster_whose_block_is_a_tile(tmp_path: Path, small_parts: None) -> None:
    path = sheet(tmp_path / "a.tif", scene(100, 100), at(20, 20))
    view = cut(tmp_path, [path])
    parts, coverage = view.parts, view.coverage
    facts = ["state", "coverage", "failed_tiles", "bytes", "sha256"]
    assert list(parts.columns) == ["row", "col", "rows", "cols", *facts]
    assert len(parts) == len(SMALL.parts(TILE))
    written = parts.loc[parts["state"] == "written"]
    assert [(p.row, p.col) for p in written.itertuples()] == [(0, 0)]
    file = tmp_path / "views/aerial/r00000c00000.tif"
    assert written["sha256"].item() == hashlib.sha256(file.read_bytes()).hexdigest()
    assert written["bytes"].item() == file.stat().st_size
    assert written["coverage"].item() == pytest.approx(100 * 100 / 128**2)
    assert coverage[0, 0] == pytest.approx(44 * 44 / 64**2)
    with rasterio.open(file) as source:
        assert source.block_shapes == [(TILE, TILE)] * 3
        assert source.profile["compress"] == "zstd"
        assert source.profile["interleave"] == "pixel"
        assert source.tags()["ROADRISK_PLAN"] == "plan"
        assert source.crs.to_string() == SMALL.crs
        assert source.transform.almost_equals(SMALL.picture_transform(TILE))
    assert sorted(f.name for f in (tmp_path / "views").rglob("*") if f.is_file()) == [
        "aerial.overview.tif",
        "aerial.parts.parquet",
        "aerial.vrt",
        "r00000c00000.tif",
    ]


def blank(file: Path, start: int, end: int) -> None:
    body = bytearray(file.read_bytes())
    body[start:end] = bytes(end - start)
    file.write_bytes(body)


def retag(file: Path, plan: str) -> None:
    with rasterio.open(file, "r+") as target:
        target.update_tags(ROADRISK_PLAN=plan)


# --- interruptions


def several(tmp_path: Path) -> list[Path]:
    return [
        sheet(tmp_path / f"s{n}.tif", scene(150, 150, n), at(100 * n - 30, 120 * n - 40)) for n in range(4)
    ]


def test_the_same_bytes_every_time_and_kept_parts_are_not_redone(tmp_path: Path, small_parts: None) -> None:
    paths = several(tmp_path / "sheets")
    first = cut(tmp_path / "a", paths)
    cut(tmp_path / "b", paths)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    kept = {f: f.stat().st_mtime_ns for f in (tmp_path / "a/views/aerial").iterdir()}
    second = cut(tmp_path / "a", paths)
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "a/views/aerial").iterdir()} == kept
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    pd.testing.assert_frame_equal(first.parts, second.parts)
    assert np.array_equal(first.coverage, second.coverage)


@pytest.mark.parametrize("spoil", [lambda f: retag(f, "another"), lambda f: f.write_bytes(b"II*\0")])
def test_a_part_of_another_plan_or_damaged_is_cut_again(
    tmp_path: Path, small_parts: None, spoil: Callable[[Path], Any]
) -> None:
    paths = several(tmp_path / "sheets")
    cut(tmp_path / "a", paths)
    before = digests(tmp_path / "a")
    spoil(tmp_path / "a/views/aerial/r00000c00000.tif")
    cut(tmp_path / "a", paths)
    assert digests(tmp_path / "a") == before


def test_a_failure_at_any_rename_resumes_to_the_same_bytes(
    tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = several(tmp_path / "sheets")
    cut(tmp_path / "whole", paths)
    wanted = digests(tmp_path / "whole")
    replace, count = os.replace, 0
    for fatal in range(1, len(wanted) + 1):
        out = tmp_path / f"out{fatal}"
        count = 0

        def failing(source: Any, target: Any, fatal: int = fatal) -> None:
            nonlocal count
            count += 1
            if count == fatal:
                raise OSError(28, "No space left on device", str(target))
            replace(source, target)

        monkeypatch.setattr(os, "replace", failing)
        with pytest.raises(
            DatasetError, match=r"cannot write .*No space left on device\); mend that and run"
        ):
            cut(out, paths)
        monkeypatch.setattr(os, "replace", replace)
        there = digests(out)
        assert len(there) == fatal - 1
        assert there.items() <= wanted.items()
        cut(out, paths)
        assert digests(out) == wanted
    assert len(wanted) > 5


KILLED = """
import sys
from pathlib import Path
from roadrisk.mosaic.cutting import cut_view
from roadrisk.mosaic.jobs import Target
from roadrisk.grid import Grid
from roadrisk.imagery.finding import found_sheets
from roadrisk.source_settings import ImagerySource
grid = Grid(**eval(sys.argv[3]))
cut_view(Target(Path(sys.argv[2]), "aerial", grid, 64, "plan"), found_sheets([ImagerySource(sys.argv[1])], grid, 64), 2)
"""


def test_killed_in_the_middle_and_run_again(tmp_path: Path) -> None:
    # six parts, half as high as wide
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 32, 384)
    for n in range(6):
        sheet(tmp_path / f"sheets/s{n}.tif", scene(800, 800, n), at(4096 * n + 100, 100))
    sheets = [tmp_path / "sheets"]
    cut(tmp_path / "whole", sheets, grid)
    out = tmp_path / "out"
    argv = [sys.executable, "-c", KILLED, str(sheets[0]), str(out), repr(grid.as_json())]
    out.mkdir()
    process = subprocess.Popen(argv)
    while not list(out.rglob("r*.tif")):
        assert process.poll() is None
        time.sleep(0.01)
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [child for thread in threads for child in thread.read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(children) >= 2
    for child in children:
        while running(child):
            time.sleep(0.01)
    assert not (out / "views/aerial.parts.parquet").exists()
    kept = set(digests(out)) & set(digests(tmp_path / "whole"))
    assert kept
    cut(out, sheets, grid)
    assert digests(out) == digests(tmp_path / "whole")


def running(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_two_workers_write_what_one_does_and_go_on_when_a_damaged_sheet_is_mended(tmp_path: Path) -> None:
    # three parts of a few rows: a part's width is no setting, and workers hear of no other
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 8, 192)
    paths = [
        sheet(tmp_path / f"sheets/s{n}.tif", scene(300, 300, n), at(4096 * n + 100, 100), compress="deflate")
        for n in range(3)
    ]
    cut(tmp_path / "one", paths, grid, workers=1)
    cut(tmp_path / "two", paths, grid, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    body = paths[2].read_bytes()
    blank(paths[2], len(body) // 2, len(body))
    for workers in (1, 2):
        out = tmp_path / f"bad{workers}"
        with pytest.raises(
            SourceError, match=re.escape(f"more than 5%: {paths[2]} is damaged at pixel ")
        ) as e:
            cut(out, paths, grid, workers=workers)
        assert "\n" not in str(e.value)
        assert set(digests(out)) <= {f"views/aerial/r00000c{c:05d}.tif" for c in (0, 64, 128)}
    paths[2].write_bytes(body)
    for workers in (1, 2):
        # the part of which tiles failed is cut anew, the others are kept
        cut(tmp_path / f"bad{workers}", paths, grid)
        assert digests(tmp_path / f"bad{workers}") == digests(tmp_path / "one")


def test_half_written_files_of_a_killed_run_are_removed(tmp_path: Path, small_parts: None) -> None:
    left = tmp_path / "out/views/aerial/.tmp-r00000c00004.tif"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    cut(tmp_path / "out", several(tmp_path / "sheets"))
    assert not left.exists()


def test_a_disk_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 10_000))
    path = sheet(tmp_path / "a.tif", scene(300, 300), at(0, 0))
    with pytest.raises(DatasetError) as caught:
        cut(tmp_path / "out", [path])
    assert re.fullmatch(
        rf"the picture needs about \d+ kB and {tmp_path}/out has 10 kB free; free space or use another folder",
        str(caught.value),
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_resumed_run_needs_no_disk_for_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sheet(tmp_path / "a.tif", scene(300, 300), at(0, 0))
    cut(tmp_path / "out", [path])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    cut(tmp_path / "out", [path])


@pytest.mark.parametrize("noise", [True, False])
def test_estimates_are_within_a_factor_of_two(tmp_path: Path, noise: bool) -> None:
    pixels = scene(900, 900) if noise else np.full((3, 900, 900), 9, np.uint8)
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 64, 192)
    paths = [sheet(tmp_path / f"s{n}.tif", pixels, at(4096 * n + 1000 - 300 * n, 100)) for n in range(3)]
    sheets = found(paths, grid, TILE)
    known = estimate(sheets, grid, TILE, 1)
    assert (known.tiles, known.parts, known.parts_with_picture) == (64 * 192, 3, 3)
    assert known.minutes > 0
    assert not (tmp_path / "views").exists()
    parts = cut(tmp_path, paths, grid).parts
    assert 0.5 < known.bytes / parts["bytes"].sum() < 2
    assert parts["bytes"].sum() < disk_needed(sheets.found, grid, TILE, 3 * 900 * 900) * (1 if noise else 3)


def test_the_boston_pictures(tmp_path: Path, shared_data: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 250)
    view = cut(tmp_path, [shared_data / "boston/imagery"], grid, 64)
    assert view.coverage.shape == (102, 136)
    assert int((view.coverage >= 0.9).sum()) == 111
    assert len(view.parts) == 6


def test_a_damaged_sheet_is_told_once(tmp_path: Path) -> None:
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 128.0, 2500, -36500, 1, 128)
    left, _, _, top = grid.bounds
    path = sheet(
        tmp_path / "a.tif",
        scene(128, 128 * 128),
        Affine(1, 0, left, 0, -1, top),
        grid.crs,
        tiled=True,
        blockxsize=128,
        blockysize=128,
        interleave="pixel",
        compress="zstd",
    )
    whole = bytearray(path.read_bytes())
    with rasterio.open(path) as file:
        places = [int(file.get_tag_item(f"BLOCK_OFFSET_{x}_0", "TIFF", bidx=1)) for x in (5, 60)]
    for place in places:
        whole[place : place + 40] = b"\xff" * 40
    path.write_bytes(whole)
    cut = cut_view(Target(tmp_path, "aerial", grid, 128, "plan"), found([path], grid, 128), 1)
    assert cut.failed.sum() == 2
    assert len(cut.reasons) == 1
