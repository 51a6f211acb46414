"""What makes sheets the same sheets: all that decides their pixels is in the plan, so that no run mixes two."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from file_server import serving
from rasterio.enums import Resampling
from sheets import GRID, PLACE, found, scene, sheet, vrt, vrt_band
from test_catalogues import Api, item

from roadrisk.imagery.finding import found_sheets
from roadrisk.source_settings import ImagerySource
from roadrisk.viewing import view_plans

SIDE = 400
MASK = np.broadcast_to(np.arange(SIDE) >= SIDE // 2, (SIDE, SIDE))


def _world_file(folder: Path, step: int) -> Path:
    path, left = folder / "a.tif", GRID.bounds.left + 100 * step
    if not step:
        plain = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8"}
        with rasterio.open(path, "w", crs=GRID.crs, **plain) as file:
            file.write(scene(SIDE, SIDE))
    path.with_suffix(".tfw").write_text(f"1\n0\n0\n-1\n{left}\n{GRID.bounds.top}\n")
    return path


def _mask_beside(folder: Path, step: int) -> Path:
    path = folder / "a.tif"
    if not step:
        sheet(path, scene(SIDE, SIDE))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
            file.write_mask(MASK)
        return path
    (folder / "a.tif.msk").unlink()
    return path


def _overviews_beside(folder: Path, step: int) -> Path:
    path = folder / "a.tif"
    if step:
        (folder / "a.tif.ovr").unlink()
    else:
        sheet(path, scene(SIDE, SIDE))
    how = Resampling.nearest if step else Resampling.average
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2], how)
    return path


def _below_a_vrt(folder: Path, step: int) -> Path:
    below = sheet(folder / "below.tif", scene(SIDE, SIDE, seed=step))
    if not step:
        vrt(folder / "a.vrt", "".join(vrt_band(n, below, n) for n in (1, 2, 3)), SIDE, SIDE)
    return folder / "a.vrt"


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("made", [_world_file, _mask_beside, _overviews_beside, _below_a_vrt])
def test_a_sheet_that_shows_otherwise_is_another_plan(
    tmp_path: Path, made: Callable[[Path, int], Path]
) -> None:
    path = made(tmp_path, 0)
    os.utime(path, ns=(1, 1))
    before = view_plans({"aerial": found([path])})
    assert before == view_plans({"aerial": found([path])})
    path = made(tmp_path, 1)
    os.utime(path, ns=(1, 1))
    assert view_plans({"aerial": found([path])}) != before


def test_a_sheet_at_another_place_is_another_plan(tmp_path: Path) -> None:
    plans = []
    for step in range(2):
        path = sheet(tmp_path / "a.tif", transform=PLACE @ rasterio.Affine.translation(step, 0))
        os.utime(path, ns=(1, 1))
        plans.append(view_plans({"aerial": found([path])}))
    assert plans[0]["aerial"]["sheets"][0]["bytes"] == plans[1]["aerial"]["sheets"][0]["bytes"]
    assert plans[0] != plans[1]


def test_what_lies_below_a_vrt_is_named_without_secrets(tmp_path: Path) -> None:
    sheet(tmp_path / "served" / "x.tif", scene(SIDE, SIDE))
    with serving(tmp_path / "served") as served:
        below = f"/vsicurl/{served.url('x.tif?sig=SECRET')}"
        bands = "".join(vrt_band(n, Path("X"), n).replace("X<", f"{below}<") for n in (1, 2, 3))
        (known,) = found([vrt(tmp_path / "a.vrt", bands, SIDE, SIDE)]).identities()
        assert known["beside"] == [{"path": served.url("x.tif")}]


def test_another_file_of_a_catalogue_is_another_plan(tmp_path: Path) -> None:
    known = []
    with serving(tmp_path) as served:
        one = item("a")
        Api(served, [one])
        one["assets"]["image"]["href"] = served.url("x.tif")
        for seed in (1, 2):
            sheet(tmp_path / "x.tif", scene(200, 200, seed=seed))
            sheets = found_sheets([ImagerySource("stac:" + served.url("v1"))], GRID, 64)
            known += sheets.identities()
    assert known[0].keys() == known[1].keys() >= {"item", "collection", "asset", "etag", "bytes"}
    assert known[0] != known[1]


def test_a_sheet_by_two_spellings_is_one(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a" / "x.tif")
    (tmp_path / "link.tif").symlink_to(path)
    (tmp_path / "b").mkdir()
    assert len(found([path, tmp_path / "b" / ".." / "a" / "x.tif", tmp_path / "link.tif"])) == 1
