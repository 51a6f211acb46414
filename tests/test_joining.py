"""Every kind of source joined to the tiles of the made-up metro, by the region file's own words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from roadrisk.dataset import read_dataset
from roadrisk.errors import RegionError, RoadriskError, UsageError
from roadrisk.joining import Records, read_records
from roadrisk.region import Region, read_region, region_of
from roadrisk.source_settings import (
    AreaSource,
    Coverage,
    EventSource,
    LabelSettings,
    RasterSource,
    TrafficSource,
)
from roadrisk.sources.demo import Metro
from roadrisk.tiling import tile


@pytest.fixture
def region(metro: Metro) -> Region:
    """Crashes and roads of the made-up metro, without its pictures."""
    return replace(read_region(metro.region), imagery=())


def joined(region: Region) -> Records:
    return read_records(region, region.grid(), Path(mkdtemp()))


def column(records: Records, name: str) -> np.ndarray:
    return next(values for known, values in records.facts if known.name == name)


def box(region: Region, *shares: float) -> shapely.Polygon:
    """West, south, east, north as shares of the grid."""
    left, bottom, right, top = region.grid().bounds
    xs, ys = left + np.array(shares[::2]) * (right - left), bottom + np.array(shares[1::2]) * (top - bottom)
    return shapely.box(xs[0], ys[0], xs[1], ys[1])


def layer(folder: Path, region: Region, shapes: list[Any], name: str = "layer.gpkg", **columns: Any) -> str:
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=region.grid().crs)
    frame.to_file(folder / name)
    return str(folder / name)


def test_every_flag_is_a_source(
    metro: Metro, region: Region, tmp_path: Path, roadrisk: Callable[..., Any]
) -> None:
    crashes = pd.read_csv(metro.crashes)
    past = crashes[crashes["crash_date"].astype(str).str[:4] < "2024"]
    past.to_csv(tmp_path / "citations.csv", index=False)
    roads = geopandas.read_file(metro.roads)
    roads.assign(aadt=1000).to_file(tmp_path / "aadt.gpkg")
    outline = layer(tmp_path, region, [box(region, 0, 0, 0.5, 1)], "outline.gpkg")
    flags = (
        "--citations",
        tmp_path / "citations.csv",
        "--traffic",
        tmp_path / "aadt.gpkg",
        "--area",
        outline,
    )
    run = roadrisk(
        *("tile", "--bbox", *region.bbox, "--cell", 64, "--roads", metro.roads, "--crashes", metro.crashes),
        *(*flags, "-o", tmp_path / "d"),
    )
    assert run.code == 0, run.err
    told = roadrisk("info", tmp_path / "d")
    assert told.code == 0
    for name in ("citations_past", "traffic_vkm_day", "in_area", "crashes_label", "road_m"):
        assert name in told.out
    assert "a measure of enforcement as well as of behaviour" in told.out
    tiles = read_dataset(tmp_path / "d").tiles()
    assert tiles["in_area"].mean() == pytest.approx(0.5)
    rows = next(line for line in run.err.splitlines() if line.split()[:1] == ["citations"])
    assert rows.split()[1] == f"{len(past):,}"


def test_outside_its_coverage_a_source_is_missing_and_nothing_is_lost(region: Region, tmp_path: Path) -> None:
    whole = joined(region)
    path = layer(tmp_path, region, [box(region, 0, 0, 0.5, 1)], town=["a"])
    source = replace(region.crashes[0], coverage=Coverage(path=path))
    part = joined(replace(region, crashes=(source,)))
    west = column(part, "coverage_crashes") >= 0.5
    assert 0 < west.sum() < west.size
    np.testing.assert_array_equal(
        column(part, "crashes_label"), np.where(west, column(whole, "crashes_label"), np.nan)
    )
    accounts = {j.name: j.account for r in (whole, part) for j in r.joined if j.name == "crashes"}
    left_out = accounts["crashes"].left_out["outside the coverage"]
    assert left_out == whole.joined[1].account.used - part.joined[1].account.used > 0
    assert any(line.startswith("crashes: ") and "inside the coverage" in line for line in part.joined[1].said)


def test_a_tile_outside_the_coverage_of_the_label_has_none(region: Region, tmp_path: Path) -> None:
    path = layer(tmp_path, region, [box(region, 0, 0, 0.5, 1)])
    source = replace(region.crashes[0], coverage=Coverage(path=path))
    tiles = tile(replace(region, crashes=(source,)), tmp_path / "d").dataset.tiles()
    west = tiles["coverage_crashes"] >= 0.5
    assert not tiles.loc[~west, "eligible"].any()
    assert tiles.loc[~west, "label"].isna().all()
    assert tiles.loc[west & (tiles["road_m"] > 0), "label"].notna().all()


def test_complete_is_a_coverage_and_is_not_asked_about(region: Region) -> None:
    said = [line for j in joined(region).joined for line in j.said]
    assert any("no coverage is declared" in line for line in said)
    declared = replace(region, roads=(replace(region.roads[0], coverage="complete"),))
    assert not any("no coverage is declared" in line for j in joined(declared).joined for line in j.said)


def test_a_fact_that_reaches_into_the_label_window_is_refused(region: Region, tmp_path: Path) -> None:
    windows = {"y2024": (date(2023, 7, 1), date(2024, 2, 1))}
    with pytest.raises(UsageError) as raised:
        tile(replace(region, windows=windows), tmp_path / "d")
    assert str(raised.value) == (
        "crashes_y2024 tells of 2023-07-01 to before 2024-02-01, which reaches into the label window (2024-01-01 "
        "to before 2025-01-01), so a model would know what it is to learn; end its window on 2024-01-01 or "
        "before, or leave it out"
    )
    assert not (tmp_path / "d").exists()
    points = EventSource(region.crashes[0].path, undated=True, period=(date(2020, 1, 1), date(2024, 6, 1)))
    with pytest.raises(UsageError, match="points_count tells of 2020-01-01 to before 2024-06-01"):
        joined(replace(region, points=(points,)))


def test_what_another_source_has_is_named_rightly(region: Region) -> None:
    source = region.crashes[0]
    two = (replace(source, name="state"), replace(source, name="city", not_in=("stat",)))
    with pytest.raises(
        RegionError, match="city: not_in names 'stat', which is no other source of events; there"
    ):
        joined(replace(region, crashes=two))
    records = joined(replace(region, crashes=(two[0], replace(two[1], not_in=("state",)))))
    state, city = (j.account for j in records.joined if j.name in ("state", "city"))
    assert city.used == 0
    assert sum(city.left_out.values()) == state.used


def test_areas_and_traffic_and_rasters_are_joined(region: Region, metro: Metro, tmp_path: Path) -> None:
    halves = [box(region, 0, 0, 0.5, 1), box(region, 0.5, 0, 1, 1)]
    tracts = layer(tmp_path, region, halves, "tracts.gpkg", people=[100.0, 300.0], income=[10.0, 20.0])
    geopandas.read_file(metro.roads).assign(aadt=1000).to_file(tmp_path / "aadt.gpkg")
    sheet = sorted(metro.imagery.glob("*.tif"))[0]
    records = joined(
        replace(
            region,
            areas=(AreaSource(tracts, sums=("people",), means=("income",)),),
            traffic=(TrafficSource(str(tmp_path / "aadt.gpkg")),),
            rasters=(RasterSource(str(sheet), name="brightness"),),
        )
    )
    assert column(records, "areas_people").sum() == pytest.approx(400)
    assert set(np.round(column(records, "areas_income"), 9)) >= {10.0, 20.0}
    vkm = np.nansum(column(records, "traffic_vkm_day"))
    assert vkm == pytest.approx(np.nansum(column(records, "traffic_m")))
    assert np.nanmax(column(records, "brightness_mean")) <= 255
    assert {j.name for j in records.joined} == {"roads", "crashes", "traffic", "areas", "brightness"}


def test_a_rate_is_per_exposure(region: Region, metro: Metro, tmp_path: Path) -> None:
    geopandas.read_file(metro.roads).assign(aadt=1000).to_file(tmp_path / "aadt.gpkg")
    rates = replace(
        region,
        traffic=(TrafficSource(str(tmp_path / "aadt.gpkg")),),
        label=LabelSettings(per="traffic_vkm_day"),
    )
    dataset = tile(rates, tmp_path / "d").dataset
    tiles = dataset.tiles()
    expected = tiles["crashes_label"] / tiles["traffic_vkm_day"]
    known = tiles["traffic_vkm_day"] > 0
    np.testing.assert_allclose(tiles.loc[known, "label_rate"], expected[known])
    assert tiles.loc[~known, "label"].isna().all()
    cut = dataset.manifest["label"]
    assert (cut["measure"], cut["unit"]) == ("label_rate", "events per vehicle-km/day")
    high = tiles.loc[known & tiles["eligible"], "label"]
    assert high.equals((tiles.loc[high.index, "label_rate"] >= cut["t"] * (1 - 1e-9)).astype("boolean"))


def test_labels_made_elsewhere(region: Region, tmp_path: Path) -> None:
    grid = region.grid()
    ids = grid.tile_ids(*grid.every_tile())
    rng = np.random.default_rng(0)
    risk = rng.uniform(0, 9, grid.size)
    table = pd.DataFrame({"tile_id": ids, "risk": risk, "high": np.where(risk > 6, "yes", "no")})
    table.iloc[5:].sample(frac=1, random_state=1).to_csv(tmp_path / "labels.csv", index=False)
    measured = tile(
        replace(region, label=LabelSettings(path=str(tmp_path / "labels.csv"), column="risk")), tmp_path / "a"
    ).dataset
    tiles = measured.tiles()
    np.testing.assert_allclose(tiles["label_value"].to_numpy()[5:], risk[5:])
    assert tiles["label"].isna().to_numpy()[:5].all()
    assert measured.manifest["label"]["measure"] == "label_value"
    assert tiles.loc[tiles["eligible"], "label"].mean() == pytest.approx(0.2, abs=0.01)
    classes = tile(
        replace(region, label=LabelSettings(path=str(tmp_path / "labels.csv"), column="high")), tmp_path / "b"
    ).dataset.tiles()
    known = classes["eligible"].to_numpy()
    assert classes.loc[known, "label"].tolist() == np.where(risk > 6, "yes", "no")[known].tolist()
    assert classes.loc[~known, "label"].isna().all()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"crashes": [{"path": "c.csv", "kep": {}}]}, "unknown key 'kep' in crashes[0]; did you mean keep?"),
        ({"traffic": [{"path": "a", "aadt": "x", "years": {"b": 2020}}]}, "leave one out"),
        (
            {"windows": {"past": ["2020-01-01", "2021-01-01"]}},
            "windows.past: that end of a column name is taken",
        ),
        (
            {"windows": {"a": ["2022-01-01", "2021-01-01"]}},
            "windows.a 2022-01-01 2021-01-01 ends before it starts",
        ),
        ({"label": {"path": "labels.csv"}}, "[label] path needs `column`"),
        (
            {"crashes": [{"path": "c.csv", "undated": True, "date": "d"}]},
            "undated = true, and a column of dates",
        ),
        (
            {"areas": [{"path": "a", "coverage": {"colum": "x"}}]},
            "unknown key 'colum' in areas[0].coverage; did you mean column?",
        ),
        ({"areas": [{"path": "a", "coverage": {"values": ["x"]}}]}, "name it with `column`"),
    ],
)
def test_settings_that_contradict_each_other(table: dict[str, Any], message: str) -> None:
    with pytest.raises(RoadriskError) as raised:
        region_of(table)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
