"""All of Boston's data as `regions/boston.toml` has it; skipped where the data is absent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from pyproj import Transformer

from roadrisk.dataset import Dataset, read_dataset
from roadrisk.joining import Records, covered_tiles, read_records
from roadrisk.region import Region, read_region
from roadrisk.sources.account import Account
from roadrisk.tiling import tile

BOX = (-71.12, 42.32, -71.02, 42.39)


@pytest.fixture(scope="module")
def region(shared_data: Path) -> Iterator[Region]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROADRISK_DATA", str(shared_data))
        yield read_region(Path(__file__).parents[1] / "regions/boston.toml")


@pytest.fixture(scope="module")
def records(region: Region) -> Iterator[Records]:
    """Every table of the whole region, joined to its 129,744 tiles."""
    with TemporaryDirectory() as scratch:
        yield read_records(region, region.grid(), Path(scratch))


@pytest.fixture(scope="module")
def boston(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Inner Boston, without the sources that lie elsewhere."""
    here = [source for source in region.crashes if source.name in ("massdot_2024", "massdot_boston")]
    inner = replace(region, bbox=BOX, crashes=tuple(here), drop_uncovered=True)
    return tile(inner, tmp_path_factory.mktemp("boston") / "boston").dataset


def accounts(records: Records) -> dict[str, Account]:
    return {joined.name: joined.account for joined in records.joined}


def values(records: Records, name: str) -> np.ndarray:
    return next(array for column, array in records.facts if column.name == name)


def located(frame: pd.DataFrame, x: str, y: str, records: Records) -> geopandas.GeoDataFrame:
    """Rows with a place, in the grid's CRS, each with its tile (-1 outside): by GEOS, not by us."""
    numbers = frame[[x, y]].apply(pd.to_numeric, errors="coerce")
    placed = frame[numbers.notna().all(axis=1) & (numbers != 0).all(axis=1)]
    points = geopandas.points_from_xy(placed[x].astype(float), placed[y].astype(float), crs=4326)
    shapes = geopandas.GeoDataFrame(placed, geometry=points).to_crs(records.grid.crs)
    left, bottom, right, top = records.grid.bounds
    inside = shapely.contains(shapely.box(left, bottom, right, top), shapes.geometry.to_numpy())
    col = np.floor((shapes.geometry.x - left) / records.grid.cell).to_numpy()
    row = np.floor((top - shapes.geometry.y) / records.grid.cell).to_numpy()
    return shapes.assign(tile=np.where(inside, row * records.grid.cols + col, -1).astype(int))


def test_every_row_is_accounted_for_with_the_figures_of_the_data(records: Records) -> None:
    known = accounts(records)
    read = {
        "roads": 141_114,
        "massdot_2024": 56_028,
        "massdot_boston": 47_689,
        "massdot_northeast": 52_689,
        "malden_2025": 829,
        "cambridge_police": 10_335,
        "parking": 83_041,
        "signals": 785,
        "intersections": 1_872,
        "speed_studies": 662,
        "counts": 313,
        "tracts": 987,
    }
    assert {name: account.read for name, account in known.items()} == read
    assert known["massdot_2024"].rejected == {"no coordinates": 2_372}
    assert known["massdot_2024"].left_out["not source MDOT"] == 56_028 - 52_478 - 50
    assert known["cambridge_police"].rejected == {"no coordinates": 1_225}
    assert known["massdot_northeast"].rejected == {"no coordinates": 1_851, "zero-zero": 1}
    assert known["massdot_boston"].rejected == {"no coordinates": 2_859, "no date": 31}
    assert known["malden_2025"].rejected == {"no coordinates": 19}
    assert known["counts"].rejected == {"no count": 1}
    for name in ("roads", "parking", "signals", "intersections", "speed_studies", "tracts"):
        assert known[name].rejected == {}


def test_label_counts_are_the_crashes_of_the_states_system(records: Records, shared_data: Path) -> None:
    raw = pd.read_csv(shared_data / "boston/crashes/massdot_2024_mapc.csv", dtype=str)
    shapes = located(raw[raw["source"] == "MDOT"], "lng", "lat", records)
    covered = covered_tiles(records.coverage["massdot_2024"])
    expected = np.bincount(shapes["tile"], minlength=records.grid.size).astype(float)
    np.testing.assert_array_equal(values(records, "massdot_2024_label"), np.where(covered, expected, np.nan))
    here = shapes[covered[shapes["tile"]]]
    for kind in ("pedestrian", "cyclist"):
        assert np.nansum(values(records, f"massdot_2024_label_{kind}")) == (here[kind] == "1").sum()
    weights = here["severity"].map({"1": 554_800 / 3_900, "2": 151_100 / 3_900}).fillna(1.0)
    assert np.nansum(values(records, "massdot_2024_label_weighted")) == pytest.approx(weights.sum())


def test_no_crash_counts_in_two_files(records: Records, shared_data: Path) -> None:
    """Every crash that the city's file shares with the state's is left out of the city's, by its number."""
    folder = shared_data / "boston/crashes"
    city = pd.read_parquet(folder / "massdot_2015_2024_boston.parquet")
    state = pd.read_csv(folder / "massdot_2024_mapc.csv", dtype=str)
    used = located(state[state["source"] == "MDOT"], "lng", "lat", records)
    used = used[covered_tiles(records.coverage["massdot_2024"])[used["tile"]]]
    inside = located(city[city["crash_datetime_clean"].notna()], "lon", "lat", records)
    inside = inside[covered_tiles(records.coverage["massdot_boston"])[inside["tile"]]]
    shared = inside["crash_numb"].astype(str).isin(set(used["id"]))
    account = accounts(records)["massdot_boston"]
    assert account.left_out["in massdot_2024 already, by id"] == shared.sum() > 4_500
    assert account.used == len(inside) - shared.sum()
    past = inside[~shared & (inside["crash_datetime_clean"].str[:4] < "2024")]
    assert np.nansum(values(records, "massdot_boston_past")) == len(past)


def test_past_crashes_and_citations_are_missing_outside_their_city(records: Records) -> None:
    for name in ("massdot_boston_past", "massdot_boston_past_kernel_500m", "parking_count", "signals_count"):
        source = next(column.source for column, _ in records.facts if column.name == name)
        covered = covered_tiles(records.coverage[str(source)])
        assert np.isnan(values(records, name)[~covered]).all()
        assert np.isfinite(values(records, name)[covered]).all()
        assert 200 < covered.sum() < 2_500
    # what is made from crashes answers another question; citations measure enforcement
    for column, _ in records.facts:
        counted = column.source in {
            "parking",
            *(s for s in records.coverage if "massdot" in s or "police" in s),
        }
        assert bool(column.withheld) == (counted and column.role == "feature"), column


def test_kinds_of_citations_are_the_rows_of_their_files(records: Records, shared_data: Path) -> None:
    covered = covered_tiles(records.coverage["parking"])
    for file in sorted((shared_data / "boston/citations").glob("*.csv")):
        rows = pd.read_csv(file, header=None, names=["kind", "text", "meter", "lat", "lon"])
        shapes = located(rows, "lon", "lat", records)
        kind = rows["kind"].iloc[0]
        counted = np.nansum(values(records, f"parking_count_kind_{kind}"))
        assert counted == covered[shapes["tile"]].sum() > 0


def test_people_are_those_of_the_tracts_inside(records: Records, shared_data: Path) -> None:
    tracts = geopandas.read_file(shared_data / "boston/areas/boston_census_tracts.geojson")
    tracts = tracts.to_crs(records.grid.crs)
    share = tracts.geometry.intersection(shapely.box(*records.grid.bounds)).area / tracts.geometry.area
    for name in ("population2012", "black2012"):
        total = float((tracts[name] * share).sum())
        assert np.nansum(values(records, f"tracts_{name}")) == pytest.approx(total, rel=1e-9)


def test_vehicle_kilometres_are_those_of_the_counted_streets(records: Records) -> None:
    """What tiles hold is mean volume times metres, tile by tile."""
    vkm, aadt, metres = (values(records, f"counts_{name}") for name in ("vkm_day", "aadt", "m"))
    known = np.isfinite(vkm)
    np.testing.assert_array_equal(known, metres > 0)
    np.testing.assert_allclose(vkm[known], aadt[known] * metres[known] / 1000, rtol=1e-9)


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


def test_streets_in_both_directions_count_once(records: Records, shared_data: Path) -> None:
    """Metres as pandas and GEOS have them, before the coverage is asked."""
    roads = geopandas.read_file(shared_data / "boston/roads.gpkg").to_crs(records.grid.crs)
    # the ways of a street are listed in another order in its other direction
    ways = ["/".join(sorted(re.findall(r"\d+", way))) for way in roads["osmid"].astype(str)]
    ends = roads.assign(a=roads[["u", "v"]].min(axis=1), b=roads[["u", "v"]].max(axis=1), osmid=ways)
    once = ends.sort_values("length").drop_duplicates(["a", "b", "osmid"], keep="last")
    assert records.roads is not None
    total = float(records.roads.table["length_m"].sum())
    # a few classes are no roads for cars, and arcs between the same two nodes may be two
    assert total == pytest.approx(once["length"].sum(), rel=0.002)
    assert total < 0.75 * roads["length"].sum()


@pytest.mark.parametrize(
    "judged", [("--quick", "--folds", 2), pytest.param((), marks=pytest.mark.slow, id="all that is compared")]
)
def test_from_tiles_to_layers(
    boston: Dataset, tmp_path: Path, roadrisk: Callable[..., Any], judged: tuple[object, ...]
) -> None:
    model, outs = tmp_path / "model", [tmp_path / f"risk.{s}" for s in ("geojson", "gpkg", "html")]
    run = roadrisk("train", boston.path, "--encoder", "basic", "--epochs", 1, *judged, "-o", model)
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
