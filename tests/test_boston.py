"""The issue's own commands on real data, on a smaller box; skipped where the data is absent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from pyproj import Transformer

from roadrisk.dataset import Dataset, read_dataset
from roadrisk.region import read_region, with_flags
from roadrisk.tiling import tile

BOX = (-71.12, 42.32, -71.02, 42.39)


@pytest.fixture(scope="module")
def boston(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Inner Boston, as `regions/boston.toml` has it."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ROADRISK_DATA", str(shared_data))
    region = with_flags(read_region(Path(__file__).parents[1] / "regions/boston.toml"), {"bbox": BOX})
    patch.undo()
    return tile(region, tmp_path_factory.mktemp("boston") / "boston").dataset


def test_the_crash_column_is_the_crashes_inside(boston: Dataset, shared_data: Path) -> None:
    raw = pd.read_csv(shared_data / "boston/crashes/massdot_2024_mapc.csv")
    account = next(s["account"] for s in boston.manifest["sources"] if s["name"] == "crashes")
    assert account["read"] == len(raw) == 56_028
    assert account["rejected"] == {"no coordinates": 2_372}
    placed = raw.dropna(subset=["lat", "lng"])
    points = geopandas.points_from_xy(placed["lng"], placed["lat"], crs="EPSG:4326").to_crs(boston.grid.crs)
    inside = shapely.contains(shapely.box(*boston.grid.bounds), points)
    assert boston.tiles()["crashes_label"].sum() == inside.sum() == account["used"]


def test_a_tiles_picture_is_the_ground_under_its_polygon(boston: Dataset, shared_data: Path) -> None:
    """To the metre: each pixel's centre, taken back to the sheet, has the sheet's value there."""
    sheets = [rasterio.open(f) for f in sorted((shared_data / "boston/masks").glob("*.tif"))]
    to_sheet = Transformer.from_crs(boston.grid.crs, sheets[0].crs, always_xy=True).transform
    tiles = boston.tiles()
    covered = tiles[tiles["coverage_aerial"] == 1].iloc[::9]
    assert len(covered) > 10
    reader = boston.reader("aerial")
    for r, c in zip(covered["row"], covered["col"], strict=True):
        left, bottom, right, top = boston.grid.tile_bounds(r, c)
        sheet = next(
            s for s in sheets if shapely.box(*s.bounds).contains(shapely.Point(to_sheet(left, bottom)))
        )
        x = left + (np.arange(256) + 0.5) / 256 * (right - left)
        y = top - (np.arange(256) + 0.5) / 256 * (top - bottom)
        px, py = to_sheet(*np.meshgrid(x, y))
        col, row = ~sheet.transform @ (px, py)
        inside = (col >= 0) & (col < sheet.width) & (row >= 0) & (row < sheet.height)
        expected = sheet.read(1)[row[inside].astype(int), col[inside].astype(int)]
        got = reader.read(r, c)[0][inside]
        # cubic differs from nearest at a road's edge only; a metre of shift flips three times as many
        assert ((got > 127) != (expected > 127)).mean() < 0.02
    for sheet in sheets:
        sheet.close()


def test_streets_in_both_directions_count_once(boston: Dataset, shared_data: Path) -> None:
    roads = geopandas.read_file(shared_data / "boston/roads.gpkg").to_crs(boston.grid.crs)
    roads = roads[(roads.geometry.length > 0) & roads.intersects(shapely.box(*boston.grid.bounds))]
    ends = roads.assign(a=roads[["u", "v"]].min(axis=1), b=roads[["u", "v"]].max(axis=1))
    once = ends.drop_duplicates(["a", "b", "osmid"])

    def metres(lines: geopandas.GeoDataFrame) -> float:
        inside = lines.intersection(shapely.box(*boston.grid.bounds)).length / lines.length
        return float((lines["length"] * inside).sum())

    # a few classes are no roads for cars, and of a pair with two lengths the longer stands
    assert boston.tiles()["road_m"].sum() == pytest.approx(metres(once), rel=0.005)
    assert metres(once) < 0.75 * metres(roads)


def test_from_tiles_to_layers(boston: Dataset, tmp_path: Path, roadrisk: Callable[..., Any]) -> None:
    model, outs = tmp_path / "model", [tmp_path / f"risk.{s}" for s in ("geojson", "gpkg", "html")]
    run = roadrisk("train", boston.path, "--encoder", "basic", "--epochs", 1, "-o", model)
    assert run.code == 0, run.err
    run = roadrisk("score", boston.path, "--model", model, *(w for out in outs for w in ("-o", out)))
    assert run.code == 0, run.err
    assert run.out.split() == [str(out) for out in outs]
    kept = read_dataset(boston.path).tiles().query("not dropped")
    layer = json.loads(outs[0].read_text())
    assert len(layer["features"]) == len(kept) == len(geopandas.read_file(outs[1]))
    assert "© OpenStreetMap contributors" in layer["attribution"]
    assert "ODbL" in layer["licence"]
    assert outs[2].stat().st_size < 20_000_000
