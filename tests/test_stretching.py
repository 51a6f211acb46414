"""Pixels of more than 8 bit: the stretch is that of the region, whichever sheets it is cut into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from sheets import GRID, PLACE, RGBA, found, sheet

from roadrisk.errors import SourceError
from roadrisk.imagery.finding import found_views
from roadrisk.imagery.stretching import measured_stretch, stretched
from roadrisk.source_settings import ImagerySource

SIDE = 200


def ramp(dtype: str = "uint16", low: float = 300, high: float = 4000) -> np.ndarray:
    """(3, SIDE, SIDE): every value from low to high once, other bands at twice and three times."""
    values = np.linspace(low, high, SIDE * SIDE).reshape(SIDE, SIDE)
    shuffled = np.random.default_rng(0).permutation(values.ravel()).reshape(SIDE, SIDE)
    return np.stack([shuffled, 2 * shuffled, 3 * shuffled]).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_two_percent_are_cut_off_at_either_end(tmp_path: Path, dtype: str) -> None:
    path = sheet(tmp_path / "a.tif", ramp(dtype))
    stretch = measured_stretch(found([path]).found, GRID)
    span = 4000 - 300
    for band, (low, high) in enumerate(stretch, start=1):
        assert low == pytest.approx(band * (300 + 0.02 * span), rel=0.01)
        assert high == pytest.approx(band * (4000 - 0.02 * span), rel=0.01)


def test_it_is_measured_over_all_sheets_of_the_region(tmp_path: Path) -> None:
    sheet(tmp_path / "a.tif", np.full((1, SIDE, SIDE), 100, np.uint16))
    beside = Affine(1, 0, GRID.bounds.left + SIDE, 0, -1, GRID.bounds.top)
    sheet(tmp_path / "b.tif", np.full((1, SIDE, SIDE), 900, np.uint16), beside)
    assert measured_stretch(found([tmp_path]).found, GRID) == ((100, 900),) * 3


def test_what_lies_outside_the_region_does_not_count(tmp_path: Path) -> None:
    pixels = np.full((1, SIDE, 2 * SIDE), 100, np.uint16)
    pixels[:, :, :SIDE] = 60_000
    to_the_west = Affine(1, 0, GRID.bounds.left - SIDE, 0, -1, GRID.bounds.top)
    path = sheet(tmp_path / "a.tif", pixels, to_the_west)
    assert measured_stretch(found([path]).found, GRID) == ((100, 101),) * 3


def test_nodata_does_not_count(tmp_path: Path) -> None:
    pixels = ramp()
    pixels[:, :100] = 0
    path = sheet(tmp_path / "a.tif", pixels, nodata=0)
    assert measured_stretch(found([path]).found, GRID)[0][0] > 300


@pytest.mark.parametrize("hidden", [0, 1, 32767])
def test_what_alpha_hides_does_not_count(tmp_path: Path, hidden: int) -> None:
    pixels = np.concatenate([ramp(), np.full((1, SIDE, SIDE), 65535, np.uint16)])
    pixels[:3, :100] = 0
    pixels[3, :100] = hidden
    path = sheet(tmp_path / "a.tif", pixels, colours=RGBA)
    assert measured_stretch(found([path]).found, GRID)[0][0] > 300


@pytest.mark.parametrize(
    ("dtype", "most", "opaque"),
    [("uint16", 255, 65535), ("int16", 255, 32767), ("uint32", 1, 255), ("float32", 1, 255)],
)
def test_an_alpha_that_hides_all_is_told(tmp_path: Path, dtype: str, most: int, opaque: int) -> None:
    pixels = np.concatenate([ramp(dtype), np.full((1, SIDE, SIDE), most, dtype)])
    path = sheet(tmp_path / "a.tif", pixels, colours=RGBA)
    with pytest.raises(SourceError) as caught:
        measured_stretch(found([path]).found, GRID)
    assert str(caught.value) == (
        f"{path} has an alpha band of at most {most}, and in its pixels of {dtype} {opaque} is opaque; write "
        f"it anew: gdal_translate -scale_4 0 {most} 0 {opaque} {path} opaque.tif"
    )


def test_a_sheet_that_shows_nothing_in_the_region_is_no_fault(tmp_path: Path) -> None:
    pixels = np.concatenate([ramp(), np.zeros((1, SIDE, SIDE), np.uint16)])
    sheet(tmp_path / "a.tif", pixels, colours=RGBA)
    pixels[3] = 65535
    seen = sheet(tmp_path / "b.tif", pixels, colours=RGBA)
    assert measured_stretch(found([tmp_path]).found, GRID) == measured_stretch(found([seen]).found, GRID)


def test_nan_does_not_count(tmp_path: Path) -> None:
    pixels = ramp("float32")
    pixels[0, 0, 0] = np.nan
    path = sheet(tmp_path / "a.tif", pixels)
    assert np.isfinite(measured_stretch(found([path]).found, GRID)).all()


def test_a_known_stretch_is_not_measured_anew(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif", ramp())
    known = ((0.0, 1000.0),) * 3
    sources = [ImagerySource(str(path))]
    views = found_views(sources, GRID, 256, {"aerial": known})
    assert views["aerial"].stretch == known
    assert found_views(sources, GRID, 256, {})["aerial"].stretch not in (known, None)


def test_eight_bit_is_not_stretched(tmp_path: Path) -> None:
    sheets = found([sheet(tmp_path / "a.tif")])
    assert stretched(sheets, GRID, None).stretch is None
    with pytest.raises(SourceError) as caught:
        stretched(sheets, GRID, ((0.0, 1.0),) * 3)
    assert str(caught.value) == (
        f"{tmp_path}/a.tif is 8 bit, and the stretch is of pictures of more; leave out --stretch-of"
    )


def test_nothing_to_measure(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif", np.zeros((3, SIDE, SIDE), np.uint16), nodata=0)
    with pytest.raises(SourceError) as caught:
        measured_stretch(found([path]).found, GRID)
    assert str(caught.value) == (
        f"{path} and the others have no pixel inside the grid to measure a stretch from; check --bbox, or give "
        "--stretch-of"
    )


def test_the_order_and_the_number_of_sheets_do_not_matter(tmp_path: Path) -> None:
    pixels = ramp()
    whole = measured_stretch(found([sheet(tmp_path / "whole.tif", pixels)]).found, GRID)
    names = {"b": 0, "a": 1}
    for name, half in names.items():
        cols = slice(half * 100, half * 100 + 100)
        place: Any = PLACE @ Affine.translation(half * 100, 0)
        sheet(tmp_path / f"halves/{name}.tif", pixels[:, :, cols], place)
    np.testing.assert_allclose(measured_stretch(found([tmp_path / "halves"]).found, GRID), whole)


def test_a_damaged_sheet_does_not_stop_the_others(tmp_path: Path) -> None:
    sheet(tmp_path / "a.tif", np.full((1, SIDE, SIDE), 100, np.uint16))
    beside = Affine(1, 0, GRID.bounds.left + SIDE, 0, -1, GRID.bounds.top)
    damaged = sheet(tmp_path / "b.tif", ramp(), beside, compress="deflate")
    sheets = found([tmp_path])
    with damaged.open("r+b") as file:
        file.seek(damaged.stat().st_size // 2)
        file.write(b"\xff" * 5000)
    assert measured_stretch(sheets.found, GRID) == ((100, 101),) * 3
    with pytest.raises(SourceError) as caught:
        measured_stretch([s for s in sheets if s.path == str(damaged)], GRID)
    assert str(caught.value).startswith(
        f"{damaged} cannot be read for its stretch; replace it or leave it out of --imagery ("
    )
