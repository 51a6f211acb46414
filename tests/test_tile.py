"""`tile`, from sources to a whole dataset, and everything that can go wrong on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from pyproj import Geod
from rasterio.windows import from_bounds

from roadrisk.dataset import Dataset, read_dataset
from roadrisk.errors import DatasetError, RegionError
from roadrisk.files import locked
from roadrisk.region import Region, read_region, region_of
from roadrisk.sources.demo import Metro
from roadrisk.tiling import tile


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_every_crash_row_is_accounted_for(metro: Metro, dataset: Dataset) -> None:
    raw = pd.read_csv(metro.crashes)
    account = next(s["account"] for s in dataset.manifest["sources"] if s["name"] == "crashes")
    assert (
        account["read"]
        == len(raw)
        == account["used"] + account["outside"] + sum(account["rejected"].values())
    )
    assert account["rejected"] == {"no coordinates": int(raw["lon"].isna().sum())}
    rejected = pd.read_parquet(dataset.path / "rejected" / "crashes.parquet")
    assert rejected["source_row"].tolist() == np.flatnonzero(raw["lon"].isna()).tolist()
    events = pd.read_parquet(dataset.path / "events" / "crashes.parquet")
    assert len(events) == account["used"]


def test_the_crash_column_adds_up_to_the_crashes_inside(metro: Metro, dataset: Dataset) -> None:
    raw = pd.read_csv(metro.crashes).dropna(subset=["lon"])
    raw = raw[raw["crash_date"].str.startswith("2024")]
    points = geopandas.GeoSeries(geopandas.points_from_xy(raw["lon"], raw["lat"]), crs="EPSG:4326")
    inside = points.to_crs(dataset.grid.crs).within(shapely.box(*dataset.grid.bounds))
    tiles = dataset.tiles()
    assert tiles["crashes_label"].sum() == inside.sum()
    # and tile by tile, by a spatial join that knows nothing of our arithmetic
    cells = geopandas.read_parquet(dataset.path / "tiles.parquet")
    joined = geopandas.sjoin(
        geopandas.GeoDataFrame(geometry=points.to_crs(dataset.grid.crs)[inside]), cells[["geometry"]]
    )
    counts = joined["index_right"].value_counts().reindex(range(len(tiles)), fill_value=0)
    assert tiles["crashes_label"].tolist() == counts.tolist()


def test_road_metres_add_up_and_no_street_counts_twice(metro: Metro, dataset: Dataset) -> None:
    roads = geopandas.read_file(metro.roads)
    once = roads.assign(key=[frozenset(p) for p in zip(roads["u"], roads["v"], strict=True)])
    once = once.drop_duplicates(["key", "osmid"])
    assert len(once) < len(roads)
    inside = once.to_crs(dataset.grid.crs).intersection(shapely.box(*dataset.grid.bounds))
    share = inside.length / once.to_crs(dataset.grid.crs).length
    tiles = dataset.tiles()
    np.testing.assert_allclose(tiles["road_m"].sum(), (once["length"] * share).sum(), rtol=1e-6)
    classes = [f"road_m_{name}" for name in roads["highway"].unique()]
    np.testing.assert_allclose(tiles[classes].sum(axis=1), tiles["road_m"], atol=1e-6)


def test_a_tiles_id_polygon_and_picture_agree_to_the_pixel(metro: Metro, dataset: Dataset) -> None:
    cells = geopandas.read_parquet(dataset.path / "tiles.parquet")
    reader = dataset.reader("aerial")
    with rasterio.open(metro.imagery / "north_east.tif") as sheet:
        whole = [i for i, b in cells.bounds.iterrows() if shapely.box(*b).within(shapely.box(*sheet.bounds))]
        for i in whole[::7]:
            cell = cells.iloc[i]
            _, size, east, north = (int(n) for n in cell["tile_id"].split("/"))
            assert cell.geometry.bounds[:2] == (east * size, north * size)
            window = from_bounds(*cell.geometry.bounds, sheet.transform)
            np.testing.assert_array_equal(reader.read(cell["row"], cell["col"]), sheet.read(window=window))


def test_tiles_parquet_is_geoparquet_with_a_bbox_column(dataset: Dataset) -> None:
    geo = json.loads(pq.read_schema(dataset.path / "tiles.parquet").metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert "bbox" in geo["columns"]["geometry"]["covering"]
    tiles = dataset.tiles()
    rows, cols = dataset.grid.every_tile()
    assert tiles["row"].tolist() == rows.tolist()
    assert tiles["col"].tolist() == cols.tolist()
    assert tiles["tile_id"].tolist() == dataset.grid.tile_ids(rows, cols).tolist()


def test_only_what_the_manifest_names_is_there(dataset: Dataset) -> None:
    assert sorted([*dataset.manifest["files"], "dataset.json"]) == sorted(files_of(dataset.path))


def test_uncovered_tiles_are_dropped_but_stay_in_the_totals(
    metro: Metro, dataset: Dataset, tmp_path: Path
) -> None:
    region = replace(read_region(metro.region), drop_uncovered=True)
    tiles = tile(region, tmp_path / "d", workers=1).dataset.tiles()
    assert tiles["dropped"].tolist() == (tiles["coverage_aerial"] < 0.9).tolist()
    assert 0 < tiles["dropped"].sum() < len(tiles)
    assert tiles["crashes_label"].sum() == dataset.tiles()["crashes_label"].sum()
    assert not tiles.loc[tiles["dropped"], "eligible"].any()
    assert tiles.loc[~tiles["eligible"], "label"].isna().all()


def test_past_crashes_are_counted_apart(metro: Metro, tmp_path: Path) -> None:
    region = replace(read_region(metro.region), label_window=None)
    dataset = tile(region, tmp_path / "d", workers=1).dataset
    windows = {c.name: c.window for c in dataset.columns if c.name.startswith("crashes_")}
    assert windows == {
        "crashes_label": ("2024-01-01", "2025-01-01"),
        "crashes_past": ("2023-01-01", "2024-01-01"),
    }
    events = pd.read_parquet(dataset.path / "events" / "crashes.parquet")
    assert dataset.tiles()["crashes_past"].sum() == (events["time"] < "2024").sum()


def test_the_same_sources_make_the_same_bytes_with_any_number_of_workers(
    metro: Metro, tmp_path: Path
) -> None:
    region = replace(read_region(metro.region), tile_size=512)  # four parts
    tile(region, tmp_path / "a" / "d", workers=1)
    tile(region, tmp_path / "b" / "d", workers=2)
    assert len([f for f in files_of(tmp_path / "a" / "d") if f.endswith(".tif")]) == 5
    assert files_of(tmp_path / "a" / "d") == files_of(tmp_path / "b" / "d")


def killed_at_rename(region: Region, out: Path, number: int) -> bool:
    """Tile in a child that dies, as by kill -9, just before its `number`-th rename; whether it did."""
    child = os.fork()
    if child == 0:
        rename, done = os.replace, 0

        def dying(*args: Any, **kwargs: Any) -> None:
            nonlocal done
            done += 1
            if done == number:
                os._exit(9)
            rename(*args, **kwargs)

        os.replace = dying  # type: ignore[assignment]
        try:
            tile(region, out, workers=1)
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), "the child failed for another reason"
    return code == 9


def test_killed_between_any_two_renames_it_resumes_to_the_same_bytes(metro: Metro, tmp_path: Path) -> None:
    region = replace(read_region(metro.region), name="metro")
    whole = tmp_path / "whole"
    tile(region, whole, workers=1)
    number = 1
    while killed_at_rename(region, tmp_path / f"killed{number}", number):
        out = tmp_path / f"killed{number}"
        with pytest.raises(DatasetError):
            read_dataset(out)
        tile(region, out, workers=1)
        assert files_of(out) == files_of(whole), f"killed before rename {number}"
        number += 1
    assert number > 8


def test_a_finished_part_is_not_cut_again(metro: Metro, tmp_path: Path) -> None:
    region = replace(read_region(metro.region), tile_size=512)
    out = tmp_path / "d"
    assert killed_at_rename(region, out, 4)  # run.json and two parts are there
    before = {f: f.stat().st_mtime_ns for f in (out / "views" / "aerial").glob("r*.tif")}
    assert len(before) == 2
    tile(region, out, workers=1)
    assert {f: f.stat().st_mtime_ns for f in before} == before


def test_another_plan_in_an_unfinished_folder_names_what_differs(metro: Metro, tmp_path: Path) -> None:
    region = read_region(metro.region)
    out = tmp_path / "d"
    assert killed_at_rename(region, out, 3)
    with pytest.raises(DatasetError) as caught:
        tile(replace(region, min_coverage=0.5), out, workers=1)
    assert str(caught.value) == (
        f"{out} holds an unfinished run of another plan; settings.min_coverage was 0.9, now 0.5; "
        "run that plan again, give --overwrite, or another -o"
    )
    with pytest.raises(DatasetError) as caught:
        read_dataset(out)
    assert str(caught.value) == (
        f"{out} is unfinished; run the same `roadrisk tile` again, it goes on where it stopped"
    )
    tile(replace(region, min_coverage=0.5), out, overwrite=True, workers=1)
    assert read_dataset(out).view("aerial").min_coverage == 0.5


def test_overwrite_removes_only_what_is_ours(metro: Metro, tmp_path: Path) -> None:
    region = read_region(metro.region)
    out = tmp_path / "d"
    tile(region, out, workers=1)
    with pytest.raises(DatasetError) as caught:
        tile(region, out, workers=1)
    assert (
        str(caught.value) == f"{out} is a finished dataset; give --overwrite to make it anew, or another -o"
    )
    mine = out / "views" / "notes.txt"
    mine.write_text("mine")
    tile(replace(region, imagery=()), out, overwrite=True, workers=1)
    assert mine.read_text() == "mine"
    assert [f.name for f in (out / "views").rglob("*") if f.is_file()] == ["notes.txt"]


def test_a_manifest_cannot_name_a_victim_outside_its_folder(metro: Metro, tmp_path: Path) -> None:
    region = read_region(metro.region)
    out = tmp_path / "d"
    tile(region, out, workers=1)
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    manifest = json.loads((out / "dataset.json").read_text())
    manifest["files"] += ["../victim.txt", str(victim)]
    (out / "dataset.json").write_text(json.dumps(manifest))
    tile(region, out, overwrite=True, workers=1)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("folder", ["views", "events", "lines", "rejected"])
def test_a_link_in_the_dataset_is_not_followed(metro: Metro, tmp_path: Path, folder: str) -> None:
    out, outside = tmp_path / "d", tmp_path / "outside"
    tile(read_region(metro.region), out, workers=1)
    shutil.copytree(out / folder, outside)
    (outside / ".tmp-mine").write_text("mine")
    before = files_of(outside)
    shutil.rmtree(out / folder)
    (out / folder).symlink_to(outside)
    with pytest.raises(DatasetError, match="is a link, and what it points to is not ours"):
        tile(read_region(metro.region), out, overwrite=True, workers=1)
    assert files_of(outside) == before


@pytest.mark.parametrize("name", ["../../pwned", "a/b", "", "a b"])
def test_a_sources_name_leads_nowhere(metro: Metro, name: str) -> None:
    with pytest.raises(RegionError, match="name: string should match pattern"):
        region_of({"crashes": [{"path": str(metro.crashes), "name": name}]})


def test_two_sources_never_share_a_name(metro: Metro, tmp_path: Path) -> None:
    region = read_region(metro.region)
    region = replace(region, crashes=(replace(region.crashes[0], name="roads"),))
    with pytest.raises(RegionError) as caught:
        tile(region, tmp_path / "d", workers=1)
    assert str(caught.value) == "two sources are called roads; give each its own `name` in a region file"


def test_how_a_source_is_read_belongs_to_the_plan(metro: Metro, tmp_path: Path) -> None:
    region = read_region(metro.region)
    out = tmp_path / "d"
    assert killed_at_rename(region, out, 3)
    other = replace(region, crashes=(replace(region.crashes[0], severity="crash_id"),))
    with pytest.raises(DatasetError, match=r"sources\.crashes\.severity was None, now 'crash_id'"):
        tile(other, out, workers=1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.pop("files"),
        lambda m: m.pop("plan"),
        lambda m: m.update(files=[1]),
        lambda m: m["grid"].update(evil=1),
        lambda m: m["columns"][0].update(evil=1),
        lambda m: m.update(format=-5),
        lambda m: m.update(format=True),
    ],
)
def test_a_damaged_manifest_is_one_line(dataset: Dataset, tmp_path: Path, damage: Any) -> None:
    shutil.copytree(dataset.path, tmp_path / "d")
    manifest = json.loads((tmp_path / "d/dataset.json").read_text())
    damage(manifest)
    (tmp_path / "d/dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path / "d")
    assert "\n" not in str(caught.value)


def test_a_full_disk_outside_the_pictures_is_one_line(
    metro: Metro, tmp_path: Path, roadrisk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("roadrisk.tiling.write_tiles", full)
    run = roadrisk("tile", metro.region, "-o", tmp_path / "d", "--workers", 1, "--quiet")
    assert run.code == 1
    assert run.err == (
        f"roadrisk: cannot write {tmp_path / 'd'} (No space left on device); mend that and run the same "
        "command again\n"
    )


def test_ctrl_c_says_what_the_same_command_would_do(
    metro: Metro, tmp_path: Path, roadrisk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("roadrisk.tiling.cut_views", interrupted)
    run = roadrisk("tile", metro.region, "-o", tmp_path / "d", "--workers", 1)
    assert run.code == 130
    assert (
        "roadrisk: stopped; `tile`, `tune` and `roads apply` run again and `train --resume` go on where they "
        "stopped, other commands start over" in run.err
    )


def test_a_folder_that_is_not_ours_is_left_alone(metro: Metro, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(DatasetError) as caught:
        tile(read_region(metro.region), tmp_path, overwrite=True, workers=1)
    assert str(caught.value) == f"{tmp_path} is not empty and not a roadrisk dataset; choose another -o"
    assert files_of(tmp_path) == {"thesis.docx": b"mine"}


def test_two_runs_into_one_folder_at_once(metro: Metro, tmp_path: Path) -> None:
    out = tmp_path / "d"
    out.mkdir()
    with locked(out):
        run = subprocess.run(
            [sys.executable, "-m", "roadrisk", "tile", str(metro.region), "-o", str(out)],
            capture_output=True,
            text=True,
        )
    assert run.returncode == 1
    assert run.stderr.strip().endswith(
        f"roadrisk: {out} is being written by another run; wait for it or use another folder"
    )


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(
    metro: Metro, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    run = roadrisk("tile", metro.region, "--dry-run", "-o", tmp_path / "d")
    assert run.code == 0
    assert "16 x 16 = 256 tiles of 64.03 m" in run.err
    assert "1 parts, 1 with picture" in run.err
    assert list(tmp_path.iterdir()) == []


def test_the_summary_and_the_path_go_where_they_should(
    metro: Metro, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    run = roadrisk("tile", metro.region, "-o", tmp_path / "d", "--workers", 1)
    assert (run.code, run.out) == (0, f"{tmp_path / 'd'}\n")
    assert "rejected: no coordinates" in run.err
    assert "high risk: " in run.err
    run = roadrisk("tile", metro.region, "-o", tmp_path / "e", "--workers", 1, "--json")
    assert json.loads(run.out)["grid"]["rows"] == 16
    assert run.err == ""


def test_no_clock_time_is_in_the_manifest(dataset: Dataset, metro: Metro, tmp_path: Path) -> None:
    again = tile(replace(read_region(metro.region), name="again"), tmp_path / "d", workers=1)
    # the plan holds the name, and stands in every part, whose checksums the view's digest is made of
    other = {"name": None, "plan": None, "summary": None, "views": None}
    assert {**dataset.manifest, **other} == {**again.dataset.manifest, **other}


@pytest.fixture
def broken(metro: Metro, tmp_path: Path) -> Path:
    """A folder of sources, each with a fault of its own."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "not_a_raster.tif").write_text("hello")
    with rasterio.open(metro.imagery / "north_west.tif") as sheet:
        profile = {**sheet.profile, "width": 64, "height": 64}
        profile.pop("crs")
        with rasterio.open(folder / "no_crs.tif", "w", **profile) as out:
            out.write(np.zeros((3, 64, 64), np.uint8))
    crashes = pd.read_csv(metro.crashes)
    crashes.drop(columns=["lon", "lat"]).to_csv(folder / "no_coordinates.csv", index=False)
    crashes.assign(crash_date="last tuesday").to_csv(folder / "no_dates.csv", index=False)
    crashes.assign(crash_date="2024-06-01").iloc[:0].to_csv(folder / "no_rows.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--imagery", "{broken}/nowhere.tif"], "no such imagery: "),
        (["--imagery", "{broken}/not_a_raster.tif"], "not_a_raster.tif is not a"),
        (["--imagery", "{broken}/no_crs.tif"], "gdal_edit.py -a_srs"),
        (["--bbox", "10", "50", "10.1", "50.1"], "points lie outside the grid"),
        (["--crashes", "{broken}/nowhere.csv"], "no such file"),
        (["--crashes", "{broken}/no_coordinates.csv"], "its columns: 'crash_id', 'crash_date', 'severity'"),
        (["--crashes", "{broken}/no_dates.csv"], "last tuesday"),
        (["--crashes", "{broken}/no_rows.csv"], "no rows"),
        (["--roads", "{broken}/nowhere.gpkg"], "no such file"),
        (["--roads", "{broken}/no_dates.csv"], "no_dates.csv"),
        (["--label-window", "2031-01-01", "2032-01-01"], "--label-window"),
        (["--tile-size", "100"], "the nearest are 96 and 112"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    metro: Metro, broken: Path, tmp_path: Path, roadrisk: Callable[..., Any], flags: list[str], message: str
) -> None:
    out = tmp_path / "d"
    run = roadrisk("tile", metro.region, *(f.format(broken=broken) for f in flags), "-o", out)
    assert run.code == 1, run.err
    assert message in run.err
    assert run.err.strip().count("\n") == 0
    assert run.out == ""
    assert not out.exists()


def test_labels_of_one_class_only(metro: Metro, tmp_path: Path, roadrisk: Callable[..., Any]) -> None:
    one = pd.read_csv(metro.crashes)
    one = one[one["crash_date"].str.startswith("2024")].dropna().head(3).assign(lon=0.0, lat=0.0)
    west, south, east, north = metro.bbox
    one["lon"], one["lat"] = (west + east) / 2, (south + north) / 2
    one.to_csv(tmp_path / "one.csv", index=False)
    run = roadrisk(
        "tile", metro.region, "--shape", "1x1", "--crashes", tmp_path / "one.csv", "-o", tmp_path / "d"
    )
    assert run.code == 1
    assert "labels of one class only" in run.err


def test_a_disk_too_small(
    metro: Metro, tmp_path: Path, roadrisk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    run = roadrisk("tile", metro.region, "-o", tmp_path / "d")
    assert run.code == 1
    assert "free space or use another folder" in run.err
    assert not (tmp_path / "d").exists()


def test_the_same_street_in_two_files_counts_once(metro: Metro, dataset: Dataset, tmp_path: Path) -> None:
    """Two county extracts that overlap: the second gives only what the first lacks."""
    roads = geopandas.read_file(metro.roads)
    north = roads[roads.geometry.centroid.y > roads.geometry.centroid.y.median()]
    north.assign(geometry=north.geometry.reverse()).to_file(tmp_path / "north.gpkg")
    region = read_region(metro.region)
    two = (region.roads[0], replace(region.roads[0], path=str(tmp_path / "north.gpkg")))
    joined = tile(replace(region, roads=two), tmp_path / "d", workers=1).dataset
    np.testing.assert_allclose(joined.tiles()["road_m"], dataset.tiles()["road_m"])
    account = next(s["account"] for s in joined.manifest["sources"] if s["name"] == "north")
    assert account["read"] == len(north) == sum(account["left_out"].values())
    assert account["used"] == 0


def test_a_source_has_columns_of_the_windows_it_tells_of(metro: Metro, tmp_path: Path) -> None:
    crashes = pd.read_csv(metro.crashes)
    for year in ("2023", "2024"):
        crashes[crashes["crash_date"].str.startswith(year)].to_csv(tmp_path / f"y{year}.csv", index=False)
    region = read_region(metro.region)
    two = tuple(replace(region.crashes[0], path=str(tmp_path / f"y{year}.csv")) for year in ("2023", "2024"))
    windows = {
        "label_window": (date(2024, 1, 1), date(2025, 1, 1)),
        "feature_window": (date(2023, 1, 1), date(2024, 1, 1)),
    }
    tiled = tile(replace(region, crashes=two, **windows), tmp_path / "d", workers=1)
    tiles = tiled.dataset.tiles()
    # a file of another year says nothing of a window: no column is not the same as no crash
    assert not {"y2023_label", "y2024_past"} & set(tiles)
    assert min(tiles["y2023_past"].sum(), tiles["y2024_label"].sum()) > 1000
    assert tiled.dataset.manifest["label"]["measure"] == "y2024_label"
    assert any("y2023: no column in the label window" in line for line in tiled.lines())


def test_a_column_named_twice_is_refused(metro: Metro, tmp_path: Path, roadrisk: Callable[..., Any]) -> None:
    crashes = pd.read_csv(metro.crashes)
    crashes.insert(0, "extra", crashes["lon"])
    crashes.columns = ["lon", *crashes.columns[1:]]
    crashes.to_csv(tmp_path / "twice.csv", index=False)
    run = roadrisk("tile", metro.region, "--crashes", tmp_path / "twice.csv", "-o", tmp_path / "d")
    assert run.code == 1
    assert run.err == f"roadrisk: {tmp_path / 'twice.csv'} names the column 'lon' twice; rename one\n"


def test_roads_at_the_antimeridian_are_not_lost(tmp_path: Path) -> None:
    streets = geopandas.GeoDataFrame(
        {"highway": ["primary"]},
        geometry=[shapely.LineString([(179.6, -16.8), (179.9, -16.6)])],
        crs="EPSG:4326",
    )
    streets.to_file(tmp_path / "roads.gpkg")
    region = region_of(
        {"bbox": [179.5, -17, 179.99, -16.5], "cell": 1000, "roads": [{"path": str(tmp_path / "roads.gpkg")}]}
    )
    tiles = tile(region, tmp_path / "d", workers=1).dataset.tiles()
    np.testing.assert_allclose(
        tiles["road_m"].sum(), Geod(ellps="WGS84").geometry_length(streets.geometry[0]), rtol=1e-4
    )
