"""Sheets: what is found, where it lies on the grid, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.enums import ColorInterp
from sheets import GRID, found, scene, sheet

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.imagery.sheets import Sheets

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
LEFT, _, _, TOP = GRID.bounds


def names(sheets: Sheets) -> list[str]:
    return [Path(s.path).name for s in sheets]


def message(patterns: list[str], grid: Grid = GRID) -> str:
    with pytest.raises(SourceError) as caught:
        found(patterns, grid)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_folders_and_patterns_in_name_order_and_each_once(tmp_path: Path) -> None:
    for name in ("b.tif", "a.tif", "c.tif", "below/d.tif"):
        sheet(tmp_path / name)
    assert names(found([str(tmp_path)], GRID)) == ["a.tif", "b.tif", "c.tif"]
    assert names(found([f"{tmp_path}/c.tif", f"{tmp_path}/[ab].tif"], GRID)) == [
        "a.tif",
        "b.tif",
        "c.tif",
    ]
    assert names(found([str(tmp_path), f"{tmp_path}/*.tif"], GRID)) == ["a.tif", "b.tif", "c.tif"]
    assert names(found([f"{tmp_path}/**/*.tif"], GRID)) == [
        "a.tif",
        "b.tif",
        "below/d.tif"[6:],
        "c.tif",
    ]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    sheet(tmp_path / "sheet[1].tif")
    assert names(found([f"{tmp_path}/sheet[1].tif"], GRID)) == ["sheet[1].tif"]


def test_other_names_gdal_opens(tmp_path: Path) -> None:
    sheet(tmp_path / "a.tif")
    sheets = found([f"/vsisubfile/0_{(tmp_path / 'a.tif').stat().st_size},{tmp_path}/a.tif"], GRID)
    assert len(sheets) == 1
    assert list(sheets.identities()[0]) == ["path"]


@pytest.mark.parametrize(
    "beside", ["a.tif.aux.xml", "a.tfw", "a.tif.ovr", "a.tif.msk", ".hidden", "readme.txt"]
)
def test_files_beside_pictures_are_passed_over(tmp_path: Path, beside: str) -> None:
    sheet(tmp_path / "a.tif")
    (tmp_path / beside).write_text("1\n0\n0\n-1\n0\n0\n")
    assert names(found([str(tmp_path)], GRID)) == ["a.tif"]
    assert names(found([f"{tmp_path}/*"], GRID)) == ["a.tif"]


def test_identity_follows_the_file(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif")
    before = found([str(path)], GRID).identities()
    assert before == found([str(path)], GRID).identities()
    assert before[0]["bytes"] == path.stat().st_size
    os.utime(path, ns=(1, 1))
    assert before != found([str(path)], GRID).identities()


def test_sheets_outside_are_counted(tmp_path: Path) -> None:
    sheet(tmp_path / "in.tif")
    sheet(tmp_path / "out.tif", transform=Affine(1, 0, LEFT + 90_000, 0, -1, TOP))
    sheets = found([str(tmp_path)], GRID)
    assert (names(sheets), sheets.outside) == (["in.tif"], 1)
    assert sheets.understood[0] == "1 sheet (1 in colour); 1 more outside the grid"


def test_pixel_and_bounds_in_another_crs(tmp_path: Path) -> None:
    grid = grid_of_zoom(LngLatBbox(-71.02, 42.29, -70.98, 42.33), 16)
    sheets = found([str(sheet(tmp_path / "a.tif"))], grid).found[0]
    # a ground metre is 1 / cos(latitude) metres of Web Mercator, but for UTM's own scale and the ellipsoid
    assert sheets.pixel == pytest.approx(1 / np.cos(np.radians(42.31)), rel=3e-3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angle=st.floats(0, 360),
    pixel=st.floats(0.5, 300),
    crs=st.sampled_from([GRID.crs, "EPSG:32618", "EPSG:26986", "EPSG:3857"]),
)
def test_the_box_holds_every_edge_pixel(tmp_path: Path, angle: float, pixel: float, crs: str) -> None:
    middle = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(-71.0, 42.31)
    turn = np.radians(angle)
    cos, sin = pixel * np.cos(turn), pixel * np.sin(turn)
    transform = Affine(cos, sin, middle[0], sin, -cos, middle[1])
    path = sheet(tmp_path / "a.tif", transform=transform, crs=crs)
    sheets = found([str(path)], GRID).found[0]
    t = np.linspace(0, 1, 997)
    px = 60 * np.concatenate([t, t, 0 * t, 0 * t + 1])
    py = 40 * np.concatenate([0 * t, 0 * t + 1, t, t])
    edge = (
        transform.a * px + transform.b * py + transform.c,
        transform.d * px + transform.e * py + transform.f,
    )
    x, y = Transformer.from_crs(crs, GRID.crs, always_xy=True).transform(*edge)
    left, bottom, right, top = sheets.bounds
    assert left <= x.min() <= x.max() <= right
    assert bottom <= y.min() <= y.max() <= top
    # and is no wider than it must be
    assert right - left <= 1.01 * np.ptp(x)


def test_a_picture_of_the_world_meets_the_region(tmp_path: Path) -> None:
    world = Affine(20037508.34 * 2 / 60, 0, -20037508.34, 0, -20037508.34 * 2 / 40, 20037508.34)
    sheets = found([str(sheet(tmp_path / "w.tif", transform=world, crs="EPSG:3857"))], GRID)
    assert len(sheets) == 1


@pytest.mark.parametrize(
    ("count", "colours", "bands", "alpha"),
    [
        (1, (), (1,), 0),
        (2, (ColorInterp.gray, ColorInterp.alpha), (1,), 2),
        (3, (), (1, 2, 3), 0),
        (3, (ColorInterp.blue, ColorInterp.green, ColorInterp.red), (3, 2, 1), 0),
        (4, (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha), (1, 2, 3), 4),
        (4, (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined), (1, 2, 3), 0),
    ],
)
def test_bands(
    tmp_path: Path, count: int, colours: tuple[ColorInterp, ...], bands: tuple[int, ...], alpha: int
) -> None:
    path = sheet(tmp_path / "a.tif", np.zeros((count, 40, 60), np.uint8), colours=colours)
    sheets = found([str(path)], GRID).found[0].bands
    assert (sheets.colours, sheets.alpha, sheets.white) == (bands, alpha, 255)


def test_white_in_a_mask_of_one_bit(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif", np.zeros((1, 40, 60), np.uint8), nbits=1)
    assert found([str(path)], GRID).found[0].bands.white == 1


def test_no_such_file() -> None:
    assert (
        message(["/no/such.tif"])
        == "no such imagery: /no/such.tif; give a file, a folder or a quoted pattern"
    )


def test_a_pattern_without_match(tmp_path: Path) -> None:
    assert message([f"{tmp_path}/*.tif"]) == (
        f"the pattern {tmp_path}/*.tif matches no picture; check it, and quote it in the shell"
    )


@pytest.mark.parametrize("path", ["https://a.example/x.tif?key=${KEY}", "stac:https://a.example/${KEY}"])
def test_a_name_of_the_environment_in_an_address_of_no_tiles(path: str) -> None:
    said = " has a ${NAME} that only the address of a tile server is filled with; let the shell fill it in"
    assert message([path]) == path.partition("?")[0] + said


def test_an_empty_folder(tmp_path: Path) -> None:
    assert (
        message([str(tmp_path)])
        == f"the folder {tmp_path} holds no picture; for folders below it use '{tmp_path}/**/*.tif'"
    )


@pytest.mark.parametrize("by", ["file", "folder"])
def test_not_a_raster(tmp_path: Path, by: str) -> None:
    path = tmp_path / "notes.tif"
    path.write_text("not a picture")
    said = message([str(path if by == "file" else tmp_path)])
    fix = (
        "leave it out of --imagery"
        if by == "file"
        else f"move it away, or use a pattern such as '{tmp_path}/*.tif'"
    )
    assert said.startswith(f"{path} is not a raster that GDAL opens; {fix} (")


def test_a_pattern_passes_over_what_is_no_raster(tmp_path: Path) -> None:
    sheet(tmp_path / "a.tif")
    (tmp_path / "Thumbs.db").write_text("not a picture")
    assert f"use a pattern such as '{tmp_path}/*.tif'" in message([str(tmp_path)])
    assert names(found([f"{tmp_path}/*.tif"], GRID)) == ["a.tif"]


def test_no_crs(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif", crs=None)
    assert message([str(path)]) == (
        f"{path} has no CRS; write it into the file: gdal_edit.py -a_srs EPSG:26986 {path}"
    )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_no_position(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif", transform=Affine.identity())
    assert message([str(path)]) == (
        f"{path} has no position; write it into the file: gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM {path}"
    )


@pytest.mark.parametrize("dtype", ["int8", "complex64"])
def test_pixels_that_are_no_picture(tmp_path: Path, dtype: str) -> None:
    path = sheet(tmp_path / "a.tif", np.zeros((3, 40, 60), dtype))
    assert message([str(path)]) == (
        f"{path} has pixels of type {dtype}; a picture has one of uint8, uint16, int16, uint32, int32, float32, "
        f"float64: gdal_translate -ot Float32 {path} float.tif"
    )


def test_eight_bit_beside_sixteen(tmp_path: Path) -> None:
    sheet(tmp_path / "a.tif", np.zeros((3, 40, 60), np.uint16))
    sheet(tmp_path / "b.tif")
    assert message([str(tmp_path)]) == (
        f"{tmp_path}/a.tif is uint16 and {tmp_path}/b.tif is 8 bit: one stretch cannot serve both; give each "
        "its own `view` in a region file"
    )


@pytest.mark.parametrize(("bands", "colours"), [((4, 1, 2), (4, 1, 2)), ((5,), (5,)), (None, None)])
def test_bands_that_are_named(tmp_path: Path, bands: Any, colours: Any) -> None:
    kinds = (*RGB, ColorInterp.undefined, ColorInterp.undefined)
    path = sheet(tmp_path / "a.tif", scene(40, 60, bands=5), colours=kinds)
    if bands is None:
        with pytest.raises(SourceError, match="has 5 colour bands"):
            found([path])
        return
    assert found([path], bands=bands).found[0].bands.colours == colours


def test_a_named_band_that_is_not_there(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif")
    with pytest.raises(SourceError) as caught:
        found([path], bands=(4, 1, 2))
    assert str(caught.value) == f"{path} has 3 bands, and `bands` names 4; name others"


@pytest.mark.parametrize("count", [2, 5])
def test_bands_that_make_no_picture(tmp_path: Path, count: int) -> None:
    undefined = (ColorInterp.gray, *[ColorInterp.undefined] * (count - 1))
    path = sheet(tmp_path / "a.tif", np.zeros((count, 40, 60), np.uint8), colours=undefined)
    assert message([str(path)]) == (
        f"{path} has {count} colour bands, a picture has 1, 3 or 4; name three of them in a region "
        "file: bands = [4, 3, 2]"
    )


def test_a_palette(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif", np.zeros((1, 40, 60), np.uint8), photometric="palette")
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {0: (1, 2, 3, 255)})
    bands = found([path]).found[0].bands
    assert (bands.colours, bands.palette) == ((1,), True)


def test_no_overlap_prints_both_boxes(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif", transform=Affine(0.001, 0, 10, 0, -0.001, 50), crs="EPSG:4326")
    assert message([str(path)]) == (
        f"{path} lies outside the region: imagery 9.9999 49.9599 10.0601 50.0001, region -71.0115 42.2996 "
        "-70.9866 42.3225 (W S E N); check --bbox and the imagery's CRS"
    )


def test_the_boston_sheets(shared_data: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 250)
    masks = found([str(shared_data / "boston/masks/*.tif")], grid)
    assert (len(masks), masks.outside) == (44, 121)
    assert {s.bands.colours for s in masks} == {(1,)}
    assert all(s.pixel == pytest.approx(1, abs=1e-3) for s in masks)
