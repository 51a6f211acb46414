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


def test_people_are_not_shared_out_to_where_roads_are_known_alone(region: Region, tmp_path: Path) -> None:
    """Of a polygon whose roads are unknown in part, people go by area, not all to the part that is known."""
    west = layer(tmp_path, region, [box(region, 0, 0, 0.5, 1)], "west.gpkg")
    people = layer(tmp_path, region, [box(region, 0, 0, 1, 1)], "people.gpkg", people=[1000.0])
    roads = replace(region.roads[0], coverage=Coverage(path=west))
    records = joined(
        replace(region, roads=(roads,), areas=(AreaSource(people, sums=("people",), weight="roads"),))
    )
    shared = column(records, "areas_people")
    known = np.isfinite(column(records, "road_m"))
    assert 0 < known.sum() < known.size
    assert shared.sum() == pytest.approx(1000)
    assert shared[~known].sum() == pytest.approx(1000 * (~known).mean(), rel=0.02)


def test_no_column_takes_the_name_of_another(region: Region, tmp_path: Path) -> None:
    path = layer(tmp_path, region, [box(region, 0, 0, 1, 1)], id_=[5.0], km2=[5.0])
    for source, message in (
        (
            AreaSource(path, name="tile", sums=("id_",)),
            "two columns are called tile_id: of every dataset and of tile;",
        ),
        (AreaSource(path, sums=("km2",)), "areas_km2"),
    ):
        with pytest.raises(RoadriskError, match=message):
            joined(replace(region, areas=(source,)))
    windows = {"label_weighted": (date(2021, 1, 1), date(2022, 1, 1))}
    crashes = replace(region.crashes[0], weights={"K": 9, "A": 5, "B": 3, "C": 2, "O": 1})
    with pytest.raises(RegionError, match="two columns are called crashes_label_weighted"):
        joined(
            replace(
                region,
                crashes=(crashes,),
                windows=windows | {"label_weighted": (date(2023, 1, 1), date(2023, 6, 1))},
            )
        )


def test_an_outline_says_what_it_does_and_must_meet_the_grid(region: Region, tmp_path: Path) -> None:
    outline = layer(tmp_path, region, [box(region, 0, 0, 0.25, 1)], "in.gpkg")
    said = tile(replace(region, area=outline), tmp_path / "d").lines()
    assert any(
        line.startswith("in_area: 64 of 256 tiles lie at least half inside the outline") for line in said
    )
    off = layer(tmp_path, region, [box(region, 5, 5, 6, 6)], "off.gpkg")
    with pytest.raises(RoadriskError, match=r"off\.gpkg") as raised:
        joined(replace(region, area=off))
    assert "\n" not in str(raised.value)


def test_volumes_of_no_known_year_are_withheld(region: Region, metro: Metro, tmp_path: Path) -> None:
    geopandas.read_file(metro.roads).assign(aadt=1000).to_file(tmp_path / "aadt.gpkg")
    for year, withheld in ((None, True), (2020, False)):
        records = joined(replace(region, traffic=(TrafficSource(str(tmp_path / "aadt.gpkg"), year=year),)))
        volume = next(c for c, _ in records.facts if c.name == "traffic_aadt")
        assert bool(volume.withheld) == withheld
        assert (volume.window is None) == withheld


def test_points_may_have_dates(region: Region) -> None:
    source = region.crashes[0]
    points = EventSource(source.path, date="crash_date", x=source.x, y=source.y)
    names = [c.name for c, _ in joined(replace(region, points=(points,))).facts if c.source == "points"]
    assert "points_count" not in names
    assert "points_label" in names


def test_what_is_made_from_crashes_and_citations_is_withheld(region: Region) -> None:
    source = replace(region.crashes[0], kernels_m=(100,), nearest=True)
    windows = replace(region, feature_window=(date(2023, 1, 1), date(2024, 1, 1)), crashes=(source,))
    records = joined(replace(windows, citations=(region.crashes[0],), points=(region.crashes[0],)))
    for known, _ in records.facts:
        counted = known.source in ("crashes", "citations") and known.role == "feature"
        assert bool(known.withheld) == counted, known.name


@pytest.mark.parametrize("change", [{"undated": True}])
def test_crashes_without_dates_have_no_label_window(region: Region, change: dict[str, Any]) -> None:
    crashes = EventSource(region.crashes[0].path, **change)
    with pytest.raises(RoadriskError, match="crashes without dates fall in no label window; give dated ones"):
        joined(replace(region, crashes=(crashes,)))


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
            {"label": {"path": "labels.csv", "column": "a"}, "citations": [{"path": "c.csv"}]},
            "labels tell of dates too; give --label-window",
        ),
        (
            {"crashes": [{"path": "c.csv", "coverage": {"column": "town"}}]},
            "c.csv: coverage from its own rows would know the label window; give the coverage a `path`",
        ),
        ({"crashes": [{"path": "c.csv", "by": ["a", "a"]}]}, "by names 'a' twice"),
        (
            {"crashes": [{"path": "c.csv", "keep": {"source": "MDOT"}}]},
            "crashes[0].keep.source: should be a list in square brackets, not 'MDOT'",
        ),
        (
            {"areas": [{"path": "a", "coverage": "all"}]},
            "areas[0].coverage: should be a table, as in { key = value }, not 'all'",
        ),
        ({"crashes": [{"path": "c.csv", "period": ["2020-01-01", "2021-01-01"]}]}, "say undated = true, too"),
        (
            {"crashes": [{"path": "c.csv", "weights": {"K": float("nan")}}]},
            "crashes[0].weights.K: input should be",
        ),
        (
            {"windows": {"feature": ["2020-01-01", "2021-01-01"]}},
            "windows.feature: that end of a column name",
        ),
        ({"name": "n", "crs": "x" * 999, "zoom": "y" * 999}, "..."),
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


def test_a_value_to_keep_is_one_that_a_row_has(region: Region, metro: Metro, tmp_path: Path) -> None:
    """Of every kind of table: a mistyped value must not become columns of zeros."""
    people = layer(tmp_path, region, [box(region, 0, 0, 1, 1)], people=[1.0], kind=["tract"])
    kept = {"kind": ("Tract",)}
    for change in (
        {"areas": (AreaSource(people, sums=("people",), keep=kept),)},
        {"roads": (replace(region.roads[0], keep={"highway": ("Residential",)}),)},
        {"traffic": (TrafficSource(str(metro.roads), keep={"highway": ("Residential",)}),)},
    ):
        with pytest.raises(RoadriskError, match=r"no row has .* \(keep\); did you mean"):
            joined(replace(region, **change))
