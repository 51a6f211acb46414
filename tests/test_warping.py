"""Warping: a part's pixels against GDAL's warp of the whole region, and what a part is made of."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import mercantile
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds
from sheets import RGBA, found, scene, sheet, warped_whole

import roadrisk.mosaic.warping as warping
from roadrisk.grid import Grid, LngLatBbox, Part
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.imagery.reading import OpenSheet
from roadrisk.imagery.sheets import Dates, Sheet
from roadrisk.mosaic.picture import Painted, Painter
from roadrisk.mosaic.warping import SheetPainter, sheets_by_part

TILE = 64
# 6 x 5 tiles of 64 m, so a pixel of the grid is a metre
SMALL = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 6, 5)
CORNER = SMALL.bounds.left, SMALL.bounds.top


def at(dx: float, dy: float, pixel: float = 1.0, angle: float = 0.0) -> Affine:
    """A sheet's place, its north-west corner (dx, dy) metres east and south of the grid's."""
    cos, sin = pixel * np.cos(np.radians(angle)), pixel * np.sin(np.radians(angle))
    return Affine(cos, sin, CORNER[0] + dx, sin, -cos, CORNER[1] - dy)


def painted(
    paths: Sequence[Path], grid: Grid = SMALL, part: Part | None = None, tile_size: int = TILE
) -> Painted:
    painter = SheetPainter(found(paths, grid, tile_size).found, grid, tile_size)
    return painter.painted(part or Part(0, 0, *grid.shape))


def tile_of(pixels: Any, row: int, col: int, tile_size: int = TILE) -> Any:
    return pixels[..., row * tile_size : (row + 1) * tile_size, col * tile_size : (col + 1) * tile_size]


def agree(got: Painted, wanted: tuple[Any, Any], mean: float = 1.0) -> None:
    """Mean absolute difference under a grey level; what is known differs along its edges only."""
    pixels, valid = got.picture.pixels, got.picture.valid
    both = valid & wanted[1]
    assert both.any()
    assert np.abs(pixels[:, both].astype(int) - wanted[0][:, both]).mean() < mean
    known, near = wanted[1].astype(np.uint8), np.ones((5, 5), np.uint8)
    assert not (valid & ~cv2.dilate(known, near).astype(bool)).any()
    assert not (~valid & cv2.erode(known, near, borderValue=0).astype(bool)).any()
    assert not pixels[:, ~valid].any()
    assert not got.failed.any()


# --- pixels


@pytest.mark.parametrize(
    ("pixel", "resampling"),
    [(1.7, Resampling.cubic), (1.0, Resampling.cubic), (0.8, Resampling.average), (0.31, Resampling.average)],
)
@pytest.mark.parametrize("angle", [0.0, 7.0])
@pytest.mark.parametrize("crs", ["EPSG:32619", "EPSG:32618"])
def test_pixels_are_those_of_a_warp_of_the_whole_region(
    tmp_path: Path, pixel: float, resampling: Resampling, angle: float, crs: str
) -> None:
    # 6 degrees west of its zone the same ground lies elsewhere
    place = at(40.3, 30.4, pixel, angle)
    if crs != SMALL.crs:
        x, y = rasterio.warp.transform(SMALL.crs, crs, [place.c], [place.f])
        place = Affine(place.a, place.b, x[0], place.d, place.e, y[0])
    size = round(300 / pixel)
    path = sheet(tmp_path / "a.tif", scene(size, size), place, crs)
    # hard edges everywhere; where a sheet is turned GDAL averages over a box around the turned pixel
    mean = 0.2 if resampling == Resampling.cubic else 1.6
    agree(painted([path]), warped_whole([path], SMALL, TILE, resampling), mean)


@pytest.mark.parametrize(("pixel", "mean"), [(0.8, 0.5), (0.6, 0.5), (0.31, 0.4), (0.15, 0.4)])
def test_a_turned_sheet_is_averaged_by_area(tmp_path: Path, pixel: float, mean: float) -> None:
    place, size = at(40.3, 30.4, pixel, 30), round(300 / pixel)
    pixels = scene(size, size)
    got = painted([sheet(tmp_path / "a.tif", pixels, place)], part=Part(1, 2, 1, 1)).picture
    # by area: many points in every pixel, each in the sheet's pixel where it lies
    samples = 24
    steps = (np.arange(TILE * samples) + 0.5) / samples
    x, y = np.meshgrid(CORNER[0] + 2 * TILE + steps, CORNER[1] - TILE - steps)
    inverse = ~place
    cols = np.floor(inverse.a * x + inverse.b * y + inverse.c).astype(int)
    rows = np.floor(inverse.d * x + inverse.e * y + inverse.f).astype(int)
    exact = pixels[:, rows, cols].reshape(3, TILE, samples, TILE, samples).mean(axis=(2, 4))
    assert got.valid.all()
    assert np.abs(got.pixels - exact).mean() < mean


def middle_of(path: Path, share: float, pixel_m: float, tile_size: int) -> Grid:
    """A grid over the middle of a sheet."""
    with rasterio.open(path) as source:
        west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    x, y, dx, dy = (west + east) / 2, (south + north) / 2, (east - west) / 2, (north - south) / 2
    box = LngLatBbox(x - share * dx, y - share * dy, x + share * dx, y + share * dy)
    return grid_of_cell(box, pixel_m * tile_size)


@pytest.mark.parametrize(
    ("pixel", "tile_size"),
    [
        *[(0.5, 256), (0.8, 256), (1.0, 256), (1.02, 256), (1.2, 256), (1.5, 128), (1.9, 256), (2.5, 128)],
        *[(3.3, 96), (3.9, 64), (4.1, 64), (5.0, 64), (7.7, 64), (17.3, 64), (3.3, 512)],
    ],
)
def test_a_sheet_of_boston_at_every_scale(shared_data: Path, pixel: float, tile_size: int) -> None:
    path = shared_data / "boston/imagery/11128870.tif"  # full of picture
    grid = middle_of(path, 0.35, pixel, tile_size)
    resampling = Resampling.cubic if pixel <= 1 else Resampling.average
    got = painted([path], grid, tile_size=tile_size)
    agree(got, warped_whole([path], grid, tile_size, resampling), 0.1 if pixel <= 1 else 1.0)


@pytest.mark.parametrize("name", ["128_none_z2", "256_lzw_z3", "512_deflate_z2"])
@pytest.mark.parametrize("pixel", [0.3, 0.7, 1.0, 2.1, 5.0])
def test_sheets_of_naip_at_every_scale(shared_data: Path, name: str, pixel: float) -> None:
    path = shared_data / f"tiles/naip_cog/usda_naip_{name}.tif"
    grid = middle_of(path, 1.2, pixel, TILE)
    got = painted([path], grid)
    agree(got, by_overview(path, grid, TILE), 1.0)


def by_overview(path: Path, grid: Grid, tile_size: int) -> tuple[Any, Any]:
    """A warp of the whole region from the overview that GDAL's `-ovr AUTO` takes."""
    scale = grid.cell / tile_size / found([path], grid, tile_size).found[0].pixel
    with rasterio.open(path) as source:
        ratios = source.overviews(1)
    level = max((n for n, ratio in enumerate(ratios) if ratio <= scale), default=None)
    options = {} if level is None else {"overview_level": level}
    ratio = 1 if level is None else ratios[level]
    shape = grid.rows * tile_size, grid.cols * tile_size
    warped = np.zeros((4, *shape), np.uint8)
    with rasterio.open(path, **options) as source:
        reproject(
            rasterio.band(source, [1, 2, 3]),
            warped,
            src_alpha=4,
            dst_alpha=4,
            dst_transform=grid.picture_transform(tile_size),
            dst_crs=grid.crs,
            resampling=Resampling.cubic if scale / ratio < 1.01 else Resampling.average,
            warp_mem_limit=1000,
        )
    return warped[:3], warped[3] >= 128


def test_xyz_tiles_on_their_own_zoom_are_copied(tmp_path: Path) -> None:
    tile = mercantile.Tile(39686, 48486, 17)
    bounds = mercantile.xy_bounds(tile)
    side = (bounds.right - bounds.left) / 256
    place = Affine(side, 0, bounds.left - 100 * side, 0, -side, bounds.top + 30 * side)
    pixels, known = scene(600, 700), np.ones((600, 700), bool)
    known[40:200, 150:222] = False
    path = sheet(tmp_path / "a.tif", pixels, place, "EPSG:3857", mask=known)
    lng, lat = mercantile.ul(tile)
    grid = grid_of_zoom(LngLatBbox(lng + 1e-4, lat - 1e-3, lng + 4e-3, lat - 1e-4), 17)
    assert (grid.x0, grid.y0) == (tile.x, tile.y)
    got = painted([path], grid, tile_size=256).picture
    height, width = min(570, 256 * grid.rows), min(600, 256 * grid.cols)
    here = np.s_[30 : 30 + height, 100 : 100 + width]
    assert np.array_equal(got.valid[:height, :width], known[here])
    assert np.array_equal(got.pixels[:, :height, :width], (pixels * known)[:, *here])
    assert not got.valid[height:].any()
    assert not got.valid[:, width:].any()


@pytest.mark.parametrize("bands", [1, 3])
def test_a_sheet_on_the_grid_s_own_pixels_is_copied(tmp_path: Path, bands: int) -> None:
    pixels = scene(200, 150, bands=bands)
    got = painted([sheet(tmp_path / "a.tif", pixels, at(70, 10))]).picture
    assert np.array_equal(got.pixels[:, 10:210, 70:220], np.broadcast_to(pixels, (3, 200, 150)))
    assert got.valid.sum() == 200 * 150


def test_xyz_tiles_across_the_border_of_two_zones(tmp_path: Path) -> None:
    # 72 degrees west parts zone 18 from zone 19
    grid = grid_of_zoom(LngLatBbox(-72.004, 42.299, -71.996, 42.303), 17)
    paths = []
    for name, zone, lng in (("a", 32618, -72.0085), ("b", 32619, -72.0015)):
        x, y = rasterio.warp.transform("EPSG:4326", f"EPSG:{zone}", [lng], [42.305])
        place = Affine(0.8, 0, x[0], 0, -0.8, y[0])
        paths.append(sheet(tmp_path / f"{name}.tif", scene(1300, 900), place, f"EPSG:{zone}"))
    together = painted(paths, grid, tile_size=128)
    for path in paths:
        agree(painted([path], grid, tile_size=128), warped_whole([path], grid, 128, Resampling.average))
    agree(together, warped_whole(paths, grid, 128, Resampling.average))
    assert together.picture.valid.all()


def test_a_grid_across_the_border_of_its_own_zone(tmp_path: Path) -> None:
    # the grid's zone is 19, the sheet's 18, and the tiles lie on either side of 72 degrees west
    grid = grid_of_cell(LngLatBbox(-72.01, 42.30, -71.99, 42.31), 128, "EPSG:32619")
    x, y = rasterio.warp.transform("EPSG:4326", "EPSG:32618", [-72.006], [42.308])
    path = sheet(tmp_path / "a.tif", scene(700, 900), Affine(1.3, 0, x[0], 0, -1.3, y[0]), "EPSG:32618")
    agree(painted([path], grid, tile_size=128), warped_whole([path], grid, 128, Resampling.cubic))


def test_a_sheet_in_degrees_under_tiles_of_half_a_continent(tmp_path: Path) -> None:
    # a straight line of the tile is none of the sheet: the lattice must be fine
    grid = grid_of_zoom(LngLatBbox(-120, 10, 60, 80), 2)
    smooth = cv2.resize(np.moveaxis(scene(60, 120), 0, -1), (2400, 1200), interpolation=cv2.INTER_CUBIC)
    place = Affine(0.15, 0, -180, 0, -0.15, 90)
    path = sheet(tmp_path / "a.tif", np.ascontiguousarray(np.moveaxis(smooth, -1, 0)), place, "EPSG:4326")
    got = painted([path], grid, tile_size=256)
    agree(got, warped_whole([path], grid, 256, Resampling.average), 2.0)


def test_where_the_grid_leaves_the_earth_there_is_no_picture(tmp_path: Path) -> None:
    # as a satellite sees it: beyond the limb nothing can be projected
    seen = "+proj=geos +h=35785831 +lon_0=0 +datum=WGS84 +type=crs"
    grid = Grid("cell", seen, 0.0, 0.0, 1_000_000.0, -6, -6, 12, 12)
    path = sheet(
        tmp_path / "a.tif",
        np.full((3, 360, 720), 80, np.uint8),
        Affine(0.5, 0, -180, 0, -0.5, 90),
        "EPSG:4326",
    )
    got = painted([path], grid).picture
    y, x = (np.mgrid[: 12 * TILE, : 12 * TILE] - 6 * TILE + 0.5) / TILE
    radius = np.hypot(x / 5.4345, y / 5.4152)
    assert got.valid[radius < 0.98].all()
    assert not got.valid[radius > 1.01].any()
    assert (got.pixels[:, got.valid] == 80).all()


def test_north_is_up_and_west_is_left(tmp_path: Path) -> None:
    picture = np.full((3, TILE * 6, TILE * 5), 10, np.uint8)
    picture[0, TILE * 3 : TILE * 4, TILE * 2 : TILE * 3] = np.add.outer(2 * np.arange(TILE), np.arange(TILE))
    got = painted([sheet(tmp_path / "a.tif", picture, at(0, 0))]).picture.pixels
    assert np.array_equal(tile_of(got, 3, 2)[0], np.add.outer(2 * np.arange(TILE), np.arange(TILE)))
    assert (tile_of(got, 2, 2) == 10).all()


# --- parts


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    part=st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 6), st.integers(1, 5)),
    pixel=st.sampled_from([0.07, 0.4, 1.0, 1.5]),
    angle=st.floats(-180, 180),
    at_once=st.sampled_from([1, 30_000, 8_000_000]),
)
def test_a_tile_is_the_same_whatever_the_part_and_what_is_read_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: tuple[int, int, int, int],
    pixel: float,
    angle: float,
    at_once: int,
) -> None:
    known = np.ones((200, 200), bool)
    known[50:90, 20:130] = False
    paths = [
        sheet(tmp_path / "a.tif", scene(200, 200), at(150, 150, pixel, angle), mask=known),
        sheet(tmp_path / "b.tif", scene(100, 100), at(100, 120, 1.1, 3)),
    ]
    whole = painted(paths)
    row, col, rows, cols = part
    part = Part(row, col, min(rows, 6 - row), min(cols, 5 - col))
    # the limit on one tile alone follows from the same number: it is no part of the promise
    most = np.sqrt(warping.READ_PX / 2) / TILE
    monkeypatch.setattr(warping, "READ_PX", at_once)
    monkeypatch.setattr(warping, "LEAST_MOST", most)
    some = painted(paths, part=part)
    monkeypatch.undo()
    there = np.s_[row * TILE : (row + part.rows) * TILE, col * TILE : (col + part.cols) * TILE]
    assert np.array_equal(some.picture.pixels, whole.picture.pixels[:, *there])
    assert np.array_equal(some.picture.valid, whole.picture.valid[there])


def test_a_painter_may_be_sent_to_another_process(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif", scene(100, 100), at(20, 20))
    painter: Painter = SheetPainter(found([path], SMALL, TILE).found, SMALL, TILE)
    again = pickle.loads(pickle.dumps(painter))
    part = Part(0, 0, 2, 2)
    assert np.array_equal(again.painted(part).picture.pixels, painter.painted(part).picture.pixels)


def test_little_is_read_at_once_however_fine_the_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"tiled": True, "sparse_ok": True, "compress": "deflate", "count": 3}
    shape = {"width": 20_000, "height": 20_000, "dtype": "uint8"}
    for pixel, angle in ((0.003, 0.0), (0.03, 45.0), (0.05, 45.0)):
        place = at(1, 1, pixel, angle)
        with rasterio.open(path, "w", driver="GTiff", crs=SMALL.crs, transform=place, **shape, **options):
            pass
        sizes = []
        filed = OpenSheet._as_filed

        def counted(self: OpenSheet, box: Any, filed: Any = filed, sizes: list[int] = sizes) -> Any:
            sizes.append(box.size)
            return filed(self, box)

        with monkeypatch.context() as patch:
            patch.setattr(OpenSheet, "_as_filed", counted)
            assert painted([path], part=Part(0, 0, 1, 5)).picture.valid.any()
        assert sum(sizes) > warping.READ_PX
        assert max(sizes) <= warping.READ_PX


def test_each_pixel_of_a_sheet_is_read_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sheet(tmp_path / "a.tif", scene(600, 500), at(0, 0, 0.6, 0))
    sizes = []
    filed = OpenSheet._as_filed
    monkeypatch.setattr(
        OpenSheet, "_as_filed", lambda self, box: (sizes.append(box.size), filed(self, box))[1]
    )
    painted([path])
    assert sum(sizes) < 1.09 * 600 * 500


# --- sheets over sheets


def pasted(singles: Sequence[Painted]) -> tuple[Any, Any]:
    """The later over the earlier."""
    pixels, valid = np.zeros_like(singles[0].picture.pixels), np.zeros_like(singles[0].picture.valid)
    for one in singles:
        seen = one.picture.valid
        pixels[:, seen] = one.picture.pixels[:, seen]
        valid |= seen
    return pixels, valid


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(
        st.tuples(
            st.floats(-50, 250), st.floats(-50, 300), st.sampled_from([0.6, 1.0, 1.4]), st.floats(-180, 180)
        ),
        min_size=2,
        max_size=4,
    )
)
def test_the_later_sheet_is_seen(tmp_path: Path, places: list[tuple[float, float, float, float]]) -> None:
    paths = []
    for number, place in enumerate(places):
        known = np.ones((180, 180), bool)
        known[40:80, 30:90] = False
        pixels = scene(180, 180, number)
        paths.append(sheet(tmp_path / f"{number}.tif", pixels, at(*place), mask=known))
    # one in the grid for sure
    paths.append(sheet(tmp_path / "z.tif", scene(30, 30), at(0, 0)))
    sheets = found(paths, SMALL, TILE).found
    part = Part(0, 0, *SMALL.shape)
    together = SheetPainter(sheets, SMALL, TILE).painted(part).picture
    pixels, valid = pasted([SheetPainter((one,), SMALL, TILE).painted(part) for one in sheets])
    assert not (valid & ~together.valid).any()
    assert np.array_equal(together.pixels[:, valid], pixels[:, valid])
    # pixels that are known by sheets together only are few, and along their edges
    edge = cv2.dilate(valid.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert not (together.valid & ~edge).any()


def test_a_full_tile_needs_no_older_sheet(tmp_path: Path) -> None:
    old = sheet(tmp_path / "a.tif", scene(400, 400), at(0, 0))
    new = sheet(tmp_path / "b.tif", scene(TILE * 6, TILE * 5, 1), at(0, 0))
    sheets = found([old, new], SMALL, TILE).found
    old.unlink()
    got = SheetPainter(sheets, SMALL, TILE).painted(Part(0, 0, 6, 5))
    assert not got.failed.any()
    assert got.picture.valid.all()


@pytest.mark.parametrize("pixel", [0.11, 0.3, 0.5, 1.0, 1.3, 4.0])
@pytest.mark.parametrize(("angle", "offset"), [(0.0, 0.0), (0.0, 0.5), (0.0, 0.37), (1.6, 0.5), (30.0, 0.0)])
def test_no_gap_where_four_sheets_abut(tmp_path: Path, pixel: float, angle: float, offset: float) -> None:
    size = 2 * round(75 / pixel)
    half = size // 2
    whole = np.full((3, size, size), 70, np.uint8)
    place = at(110 + offset, 40 + offset, pixel, angle)
    paths = [
        sheet(
            tmp_path / f"{x}{y}.tif", whole[:, :half, :half], place @ Affine.translation(x * half, y * half)
        )
        for x in (0, 1)
        for y in (0, 1)
    ]
    apart = painted(paths).picture
    once = painted([sheet(tmp_path / "whole.tif", whole, place)]).picture
    inside = cv2.erode(once.valid.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert not (inside & ~apart.valid).any()
    # along the outer edge a pixel of which half is known may fall to either side
    assert (once.valid & ~apart.valid).sum() <= 2
    assert (apart.valid & ~once.valid).sum() <= 0.01 * once.valid.sum()
    assert (apart.pixels[:, apart.valid] == 70).all()


@pytest.mark.parametrize("pixel", [0.3, 1.0, 1.5])
@pytest.mark.parametrize("how", ["mask", "alpha", "nodata"])
def test_a_hole_takes_nothing_from_its_colour(tmp_path: Path, pixel: float, how: str) -> None:
    size = round(300 / pixel)
    known = np.ones((size, size), bool)
    known[size // 4 : size // 2, size // 3 : size // 2] = False
    pixels = np.full((3, size, size), 90, np.uint8)
    pixels[:, ~known] = 255
    options: dict[str, Any] = {}
    if how == "mask":
        options["mask"] = known
    elif how == "nodata":
        options["nodata"] = 255
    else:
        pixels = np.concatenate([pixels, np.where(known, 255, 0).astype(np.uint8)[None]])
        options["colours"] = RGBA
    path = sheet(tmp_path / "a.tif", pixels, at(5.3, 8.6, pixel, 11.0), **options)
    got = painted([path])
    wanted = warped_whole([path], SMALL, TILE, Resampling.average if pixel < 1 else Resampling.cubic)
    if how != "nodata":
        agree(got, wanted)
    assert np.abs(got.picture.pixels[:, got.picture.valid].astype(int) - 90).max() <= 1
    assert not got.picture.valid[85:105, 140:155].any()


def test_a_pixel_is_known_when_half_of_it_is(tmp_path: Path) -> None:
    known = np.zeros((TILE * 4, TILE * 4), bool)
    known[:, ::4] = True  # a quarter of each pixel in the upper half, two quarters in the lower
    known[TILE * 2 :, 1::4] = True
    path = sheet(
        tmp_path / "a.tif", np.full((3, TILE * 4, TILE * 4), 9, np.uint8), at(0, 0, 0.25), mask=known
    )
    valid = painted([path], part=Part(0, 0, 1, 1)).picture.valid
    # the kernel of a pixel reaches a little into the next
    assert not valid[: TILE // 2 - 1].any()
    assert valid[TILE // 2 + 1 :].all()


# --- dates


@pytest.mark.parametrize(("pixel", "share"), [(0.1, 0.3), (1.0, 0.3), (0.1, 0.4)])
def test_what_two_sheets_know_of_a_pixel_both_is_known_once(
    tmp_path: Path, pixel: float, share: float
) -> None:
    """Two pictures of one place end in the same part of a pixel; one that goes on from there is another part."""
    width = round((20 + share) / pixel)
    across = Affine.scale((20 + share) / width / pixel, 1)
    for n in range(2):
        size = (3, round(64 / pixel), width)
        sheet(tmp_path / f"{n}.tif", np.full(size, 50 + n, np.uint8), at(0, 0, pixel) @ across, "EPSG:32619")
    once, twice = painted([tmp_path / "0.tif"]), painted([tmp_path / "0.tif", tmp_path / "1.tif"])
    assert np.array_equal(twice.picture.valid, once.picture.valid)
    beside = np.full((3, round(64 / pixel), round(0.4 / 0.1)), 90, np.uint8)
    sheet(tmp_path / "2.tif", beside, at(20 + share, 0, pixel) @ Affine.scale(0.1 / pixel, 1), "EPSG:32619")
    beyond = painted([tmp_path / f"{n}.tif" for n in range(3)]).picture.valid
    assert beyond[:64, 20].all()
    assert not once.picture.valid[:64, 20].any()
    assert not beyond[:, 21:].any()


@pytest.mark.parametrize("pixel", [1e-8, 0.001])
def test_a_sheet_of_less_than_a_sixteenth_of_a_pixel_is_not_looked_at(tmp_path: Path, pixel: float) -> None:
    speck = sheet(tmp_path / "a.tif", np.full((3, 100, 100), 9, np.uint8), at(30, 30, pixel), "EPSG:32619")
    assert not painted([speck]).picture.valid.any()


def dated(path: Path, taken: Dates | None) -> Sheet:
    return replace(found([path], SMALL, TILE).found[0], taken=taken)


def test_dates_of_what_a_tile_shows(tmp_path: Path) -> None:
    full = scene(TILE * 6, TILE * 5)
    bottom = dated(sheet(tmp_path / "a.tif", full, at(0, 0)), ("2019-05-01", "2019-06-01"))
    unknown = dated(sheet(tmp_path / "b.tif", full[:, :TILE, :30], at(TILE * 2, 0)), None)
    part_of = dated(sheet(tmp_path / "c.tif", full[:, :TILE, :10], at(0, 0)), ("2020-01-01", "2021-01-01"))
    over = dated(sheet(tmp_path / "d.tif", full[:, :TILE, :TILE], at(TILE, 0)), ("2022-02-02", "2022-02-02"))
    got = SheetPainter((bottom, unknown, part_of, over), SMALL, TILE).painted(Part(0, 0, 2, 3))
    assert got.first.tolist() == [["2019-05-01", "2022-02-02", ""], ["2019-05-01"] * 3]
    assert got.last.tolist() == [["2021-01-01", "2022-02-02", ""], ["2019-06-01"] * 3]


def test_dates_of_what_fills_a_pixel_between_sheets(tmp_path: Path) -> None:
    # 0.3, 0.45 and 0.25 of the first pixels of the second tile
    full = scene(TILE * 20, 64 * 20 + 15)
    west = dated(sheet(tmp_path / "a.tif", full[:, :, : 64 * 20 + 6], at(0, 0, 0.05)), ("2001-01-01",) * 2)
    strip = dated(sheet(tmp_path / "b.tif", full[:, :, :9], at(64.3, 0, 0.05)), ("2002-01-01",) * 2)
    east = dated(sheet(tmp_path / "c.tif", full, at(64.75, 0, 0.05)), ("2003-01-01",) * 2)
    got = SheetPainter((west, strip, east), SMALL, TILE).painted(Part(0, 0, 1, 2))
    assert got.picture.valid[:, : 2 * TILE].all()
    assert got.first.tolist() == [["2001-01-01", "2002-01-01"]]
    assert got.last.tolist() == [["2001-01-01", "2003-01-01"]]


def test_a_tile_without_a_picture_has_no_date(tmp_path: Path) -> None:
    one = dated(sheet(tmp_path / "a.tif", scene(30, 30), at(0, 0)), ("2019-05-01", "2019-06-01"))
    got = SheetPainter((one,), SMALL, TILE).painted(Part(0, 0, 1, 2))
    assert got.first.tolist() == [["2019-05-01", ""]]


# --- faults


@pytest.mark.parametrize("compress", ["deflate", "zstd"])
@pytest.mark.parametrize("pixel", [1.0, 0.21])
def test_a_corrupt_block_fails_the_tiles_that_need_it(tmp_path: Path, compress: str, pixel: float) -> None:
    size = round(TILE * 5 / pixel / 16) * 16
    place = at(0, 0, pixel)
    options: dict[str, Any] = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": compress}
    path = sheet(tmp_path / "a.tif", scene(size, size), place, **options)
    below = sheet(tmp_path / "0.tif", scene(TILE * 6, TILE * 5, 3), at(0, 0))
    wanted = painted([below, path])
    block = round(2.5 * TILE / pixel) // 64
    spoil_block(path, block, block)
    got = painted([below, path])
    # a tile needs three pixels around it, none where pixels are copied
    first, last = (block * 64 - 3) * pixel // TILE, ((block + 1) * 64 + 3) * pixel // TILE
    near = range(int(first), int(last) + 1) if pixel != 1 else [2]
    failed = {tuple(map(int, tile)) for tile in np.argwhere(got.failed)}
    assert failed == {(row, col) for row in near for col in near}
    assert len(got.reasons) == 1
    assert got.reasons[0].startswith(f"{path} is damaged at pixel ")
    assert "\n" not in got.reasons[0]
    for row, col in np.ndindex(6, 5):
        if got.failed[row, col]:
            assert not tile_of(got.picture.pixels, row, col).any()
            assert not tile_of(got.picture.valid, row, col).any()
            assert got.first[row, col] == ""
        else:
            assert np.array_equal(
                tile_of(got.picture.pixels, row, col), tile_of(wanted.picture.pixels, row, col)
            )


def spoil_block(path: Path, x: int, y: int) -> None:
    """Overwrite the bytes of one block of a tiled GeoTIFF."""
    with rasterio.open(path) as source:
        offset, length = (
            int(source.get_tag_item(f"BLOCK_{what}_{x}_{y}", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE")
        )
    with path.open("rb+") as file:
        file.seek(offset)
        file.write(b"\xa5" * length)


def test_a_sheet_that_is_gone_fails_the_tiles_that_it_touches(tmp_path: Path) -> None:
    below = sheet(tmp_path / "a.tif", scene(TILE * 6, TILE * 5), at(0, 0))
    gone = sheet(tmp_path / "b.tif", scene(TILE, TILE), at(TILE + 10, TILE + 10))
    over = sheet(tmp_path / "c.tif", scene(20, 20), at(TILE + 20, TILE + 20))
    sheets = found([below, gone, over], SMALL, TILE).found
    gone.unlink()
    got = SheetPainter(sheets, SMALL, TILE).painted(Part(0, 0, 6, 5))
    assert {tuple(map(int, tile)) for tile in np.argwhere(got.failed)} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert got.reasons == (f"{gone} cannot be opened ({gone}: No such file or directory)",)
    assert got.picture.valid.sum() == (30 - 4) * TILE**2
    assert not got.picture.pixels[:, ~got.picture.valid].any()


def test_time_is_told_apart(tmp_path: Path) -> None:
    got = painted([sheet(tmp_path / "a.tif", scene(300, 300), at(0, 0, 0.9))])
    assert got.spent.decode > 0
    assert got.spent.warp > 0
    assert got.spent.write == 0


def test_sheets_by_part_are_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roadrisk.grid.PART_SIDE_PX", 2 * TILE)
    paths = [
        sheet(tmp_path / "a.tif", scene(300, 100), at(10, 10)),
        sheet(tmp_path / "b.tif", scene(20, 20), at(150, 20)),
        sheet(tmp_path / "c.tif", scene(20, 20), at(20, 20)),
    ]
    parts = sheets_by_part(found(paths, SMALL, TILE), SMALL, TILE)
    names = {(p.row, p.col): [Path(s.path).stem for s in over] for p, over in parts.items()}
    assert names == {(0, 0): ["a", "c"], (0, 2): ["b"], (2, 0): ["a"], (4, 0): ["a"]}
    assert list(names) == sorted(names)
