from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.errors import SourceError
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import TrafficSource
from roadrisk.sources.lines import LISTED_AGAIN
from roadrisk.sources.traffic import Traffic, read_traffic
from roadrisk.sources.volumes import VolumeColumns, volumes_of

GRID = grid_of_cell(LngLatBbox(-71.15, 42.34, -71.05, 42.41), 250)
NEW_YEAR = date(2024, 1, 1)


def csv(folder: Path, rows: dict[str, Any], name: str = "counts.csv") -> str:
    n = max(len(v) for v in rows.values())
    place = {"lon": -71.10 - 0.001 * np.arange(n), "lat": np.full(n, 42.37)}
    path = folder / name
    pd.DataFrame({**place, **rows}).to_csv(path, index=False)
    return str(path)


def lines_file(folder: Path, lines: list[Any], crs: str | None = GRID.crs, **columns: Any) -> str:
    """Lines as lists of (cells from the west, cells from the south) edges of the grid."""
    left, bottom, _, _ = GRID.bounds
    shapes = [
        shapely.LineString([(left + GRID.cell * u, bottom + GRID.cell * v) for u, v in line])
        if isinstance(line, list)
        else line
        for line in lines
    ]
    path = folder / "lines.parquet"
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs).to_parquet(path)
    return str(path)


def error_of(source: TrafficSource, before: date | None = NEW_YEAR) -> str:
    with pytest.raises(SourceError) as error:
        read_traffic(source, GRID, before)
    message = str(error.value)
    assert "\n" not in message
    return message


def aadt_of(traffic: Traffic) -> list[float]:
    return list(traffic.table["aadt"])


@pytest.mark.parametrize("name", ["AADT", "aadt", "ADT", "Traffic", "VOLUME", "Average Daily Traffic"])
def test_usual_names_are_found(tmp_path: Path, name: str) -> None:
    traffic = read_traffic(TrafficSource(csv(tmp_path, {"id": [7, 8], name: [100, 200]})), GRID, None)
    assert aadt_of(traffic) == [100, 200]
    assert f"volumes from {name!r}; of no known year" in "\n".join(traffic.understood)


@pytest.mark.parametrize("name", ["AMPeak2015", "AADT_K", "truck_aadt_share", "12015", "speed", "AADT 1850"])
def test_other_names_are_not(tmp_path: Path, name: str) -> None:
    message = error_of(TrafficSource(csv(tmp_path, {name: [100, 200]})))
    assert "no column that looks like a traffic volume; name it with `aadt`" in message
    assert repr(name) in message


def test_of_years_the_newest_before_the_label_window_stands(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        {
            "AADT_2024": [9, 9, 9, 9],
            "2023": [8, None, None, None],
            "ADT 2001": [1, 1, None, None],
            "aadt2010": [2, 2, 2, None],
            "PMPeak2022": [5, 5, 5, 5],
        },
    )
    traffic = read_traffic(TrafficSource(path), GRID, NEW_YEAR)
    assert aadt_of(traffic) == [8, 2, 2]
    assert list(traffic.table["aadt_year"]) == [2023, 2010, 2010]
    assert traffic.account.left_out == {"no count before 2024": 1}
    assert traffic.years == ()
    assert aadt_of(read_traffic(TrafficSource(path), GRID, None)) == [9, 9, 9, 9]
    # a window that starts within a year knows nothing of that year
    assert list(read_traffic(TrafficSource(path), GRID, date(2023, 7, 1)).table["aadt_year"]) == [2010] * 3


def test_each_year_is_kept_as_it_is(tmp_path: Path) -> None:
    path = csv(tmp_path, {"2010": [1, None], "2024": [None, 4]})
    traffic = read_traffic(TrafficSource(path, each_year=True), GRID, NEW_YEAR)
    assert traffic.years == (2010, 2024)
    np.testing.assert_array_equal(traffic.table["aadt_2010"], [1, np.nan])
    np.testing.assert_array_equal(traffic.table["aadt_2024"], [np.nan, 4])
    np.testing.assert_array_equal(traffic.table["aadt"], [1, np.nan])
    assert traffic.account.used == 2


def test_columns_are_named_by_the_source(tmp_path: Path) -> None:
    path = csv(tmp_path, {"AADT": [1, 1], "now": [2, 2], "then": [3, 3]})
    one = read_traffic(TrafficSource(path, aadt="now", year=2022), GRID, NEW_YEAR)
    assert aadt_of(one) == [2, 2]
    assert set(one.table["aadt_year"]) == {2022}
    several = read_traffic(TrafficSource(path, years={"now": 2022, "then": 2024}), GRID, NEW_YEAR)
    assert aadt_of(several) == [2, 2]


def test_numbers_as_people_write_them() -> None:
    written = [
        "12,300",
        "12 300",
        "1 000 000",
        "1 000 001",
        " 850 ",
        "1200.5",
        "12\u00a0300",
        "1,23",
        "12,3000",
        "1.5e3",
        "inf",
    ]
    read = volumes_of(pd.DataFrame({"AADT": written}), VolumeColumns(("AADT",), (), ""))
    expected = [12300, 12300, 1_000_000, np.nan, 850, 1200.5, 12300, np.nan, np.nan, 1500, np.nan]
    np.testing.assert_array_equal(read.aadt.ravel(), expected)
    assert (read.not_numbers, read.too_large) == (3, 1)
    assert read.example == "1,23"


@given(st.integers(1, 10**6), st.sampled_from([",", " ", "'", "\u202f"]))
def test_any_grouped_number_is_read(number: int, separator: str) -> None:
    frame = pd.DataFrame({"AADT": [f"{number:,}".replace(",", separator)]})
    assert volumes_of(frame, VolumeColumns(("AADT",), (), "")).aadt.tolist() == [[number]]


def test_zero_is_no_count_and_every_row_has_its_reason(tmp_path: Path) -> None:
    rows = {
        "2015": ["0", "-5", "unknown", None, "100", "0", "7", "0"],
        "2016": [None, None, None, None, "0", "10", "7", "unknown"],
        "lon": [-71.10, -71.11, -71.11, -71.11, -71.11, -71.11, None, -71.11],
    }
    traffic = read_traffic(TrafficSource(csv(tmp_path, rows), max_rejected=1), GRID, NEW_YEAR)
    assert traffic.account.rejected == {
        "count is zero or less": 2,
        "count is not a number": 2,
        "no count": 1,
        "no coordinates": 1,
    }
    assert aadt_of(traffic) == [100, 10]
    assert list(traffic.table["aadt_year"]) == [2015, 2016]
    assert traffic.account.read == 8
    assert "counts taken for missing: 5 of zero or less, 2 not numbers" in traffic.understood


def test_rows_not_asked_for_are_left_out_before_they_are_judged(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        {"AADT": [1, 2, None, None], "kind": ["a", "b", "b", "a"], "lon": [-71.1, None, -71.1, -71.1]},
    )
    traffic = read_traffic(TrafficSource(path, keep={"kind": ("a",)}, max_rejected=1), GRID, None)
    assert traffic.account.left_out == {"not kind a": 2}
    assert traffic.account.rejected == {"no count": 1}
    assert aadt_of(traffic) == [1]


def test_several_files_are_one_source(tmp_path: Path) -> None:
    paths = csv(tmp_path, {"AADT": [1, 2]}, "a.csv"), csv(tmp_path, {"AADT": [3]}, "b.csv")
    traffic = read_traffic(TrafficSource(paths, name="counts"), GRID, None)
    assert aadt_of(traffic) == [1, 2, 3]
    assert list(traffic.table["source_row"]) == [0, 1, 2]
    assert (traffic.name, traffic.account.read) == ("counts", 3)


def test_volumes_on_lines(tmp_path: Path) -> None:
    lines: list[Any] = [
        [(1, 1), (3, 1)],
        [(3, 1), (1, 1)],  # the same in the other direction
        [(1, 1), (3, 1)],  # an older count of the same
        [(-1, 2), (1, 2)],
        [(-0.8, -0.5), (-0.2, -0.1)],
        [(5, 5), (5, 5)],
        shapely.Point(GRID.bounds[:2]),
        None,
        [(2, 2), (2, 4)],
    ]
    path = lines_file(
        tmp_path,
        lines,
        AADT_2020=[5, 5, 50, 6, 7, 8, 9, 9, None],
        AADT_2021=[100, 300, None, 600, 7, 8, 9, 9, None],
        highway=["primary"] * 8 + [None],
    )
    traffic = read_traffic(TrafficSource(path, max_rejected=1), GRID, NEW_YEAR)
    assert traffic.on_lines
    assert aadt_of(traffic) == [300, 600]
    assert list(traffic.table["source_row"]) == [1, 3]
    np.testing.assert_allclose(traffic.table["length_m"], 500, rtol=5e-4)
    # nobody counted a line, which is no fault of the inventory that lists it
    assert traffic.account.left_out == {LISTED_AGAIN: 2, "no count": 1}
    assert traffic.account.outside == 1
    assert traffic.account.rejected == {"zero length": 1, "not a line": 1, "no geometry": 1}
    imputed = read_traffic(TrafficSource(path, max_rejected=1, impute="class median"), GRID, NEW_YEAR)
    assert imputed.account.used == 3
    assert imputed.account.rejected == {"zero length": 1, "not a line": 1, "no geometry": 1}


def test_each_year_of_lines_drawn_alike_is_kept(tmp_path: Path) -> None:
    street = [(1, 1), (3, 1)]
    path = lines_file(
        tmp_path,
        [street, street[::-1], street],
        AADT_2018=[100, None, 90],
        AADT_2019=[None, 5, 6],
        AADT_2020=[None, 700, None],
    )
    traffic = read_traffic(TrafficSource(path, each_year=True), GRID, NEW_YEAR)
    row = traffic.table.iloc[0]
    assert [row[c] for c in ("aadt", "aadt_2018", "aadt_2019", "aadt_2020")] == [700, 100, 6, 700]
    assert (len(traffic.table), row["aadt_year"]) == (1, 2020)
    assert traffic.account.left_out == {LISTED_AGAIN: 2}


def test_an_inventory_of_lines_lists_those_nobody_counted(tmp_path: Path) -> None:
    lines: list[Any] = [[(1, i / 10), (3, i / 10)] for i in range(20)]
    traffic = read_traffic(TrafficSource(lines_file(tmp_path, lines, AADT=[7] + [None] * 19)), GRID, None)
    assert traffic.account.left_out == {"no count": 19}
    assert traffic.account.rejected == {}


def test_what_no_road_carries_is_missing(tmp_path: Path) -> None:
    path = csv(tmp_path, {"2019": [1e6, 5, 1e6 + 1], "2020": [9_999_999, 1e300, None]})
    traffic = read_traffic(TrafficSource(path, max_rejected=1), GRID, None)
    assert aadt_of(traffic) == [1e6, 5]
    assert traffic.account.rejected == {"count is above 1,000,000 a day": 1}
    said = "counts taken for missing: 0 of zero or less, 0 not numbers, 3 above 1,000,000 a day"
    assert said in traffic.understood


def test_lines_are_read_alike_in_every_crs_and_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ends = rng.uniform(-30, 60, (40, 2, 2))
    lines, volumes = [[tuple(a), tuple(b)] for a, b in ends], rng.integers(1, 10**5, 40)
    frame = geopandas.read_parquet(lines_file(tmp_path, lines, AADT=volumes))
    here = read_traffic(TrafficSource(str(tmp_path / "lines.parquet")), GRID, None)
    assert 0 < here.account.outside < 40
    path = tmp_path / "shuffled.gpkg"
    frame.sample(frac=1, random_state=1).to_crs("EPSG:26986").to_file(path)
    there = read_traffic(TrafficSource(str(path)), GRID, None)
    assert there.account == here.account
    by_volume = [t.table.sort_values("aadt") for t in (here, there)]
    assert list(by_volume[0]["aadt"]) == list(by_volume[1]["aadt"])
    np.testing.assert_allclose(by_volume[0]["length_m"], by_volume[1]["length_m"], rtol=1e-6)


def test_a_multi_line_is_one_row_in_parts(tmp_path: Path) -> None:
    left, bottom, _, _ = GRID.bounds
    parts = [
        [(left + 10, bottom + 10), (left + 110, bottom + 10)],
        [(left + 800, bottom), (left + 800, bottom + 50)],
    ]
    path = lines_file(tmp_path, [shapely.MultiLineString(parts)], AADT=[4])
    traffic = read_traffic(TrafficSource(path), GRID, None)
    assert (traffic.account.used, list(traffic.table["source_row"])) == (1, [0, 0])
    np.testing.assert_allclose(traffic.table["length_m"], [100, 50], rtol=5e-4)


class TestBadInput:
    def test_a_column_that_is_not_there(self, tmp_path: Path) -> None:
        path = csv(tmp_path, {"AADT_all": [1]})
        assert "has no column 'AADT_al' (aadt); did you mean 'AADT_all'?" in error_of(
            TrafficSource(path, aadt="AADT_al")
        )
        assert "has no column '2015' (years)" in error_of(TrafficSource(path, years={"2015": 2015}))
        assert "(keep)" in error_of(TrafficSource(path, aadt="AADT_all", keep={"kind": ("a",)}))

    def test_a_column_of_text(self, tmp_path: Path) -> None:
        path = csv(tmp_path, {"AADT": ["Main Street", "Elm Street"]})
        assert error_of(TrafficSource(path)) == (
            f"{path}: none of its 2 rows has a volume in 'AADT', such as 'Main Street'; "
            "name the column of volumes with `aadt` in the region file"
        )

    def test_nothing_but_blanks_and_zeros(self, tmp_path: Path) -> None:
        path = csv(tmp_path, {"AADT": [None, 0]})
        assert "2 rows has a volume in 'AADT', every entry is blank, zero or less" in error_of(
            TrafficSource(path)
        )

    def test_more_rejected_than_allowed(self, tmp_path: Path) -> None:
        path = csv(tmp_path, {"AADT": [1, 2, None]})
        assert error_of(TrafficSource(path)) == (
            f"{path}: 1 of 3 rows (33.3 %) cannot be used, more than the 5 % allowed: no count 1; mend them, or "
            "allow it with max_rejected = 0.34 for this source in the region file"
        )
        assert read_traffic(TrafficSource(path, max_rejected=0.34), GRID, None).account.used == 2

    def test_all_outside(self, tmp_path: Path) -> None:
        path = csv(tmp_path, {"AADT": [1, 2], "lat": [41.0, 41.0]})
        assert "all 2 counts lie outside the grid: they are in -71.10 41.00 -71.10 41.00" in error_of(
            TrafficSource(path)
        )
        lines = lines_file(tmp_path, [[(-5, -5), (-4, -4)]], AADT=[1])
        assert "all 1 counts lie outside the grid" in error_of(TrafficSource(lines))

    def test_lines_without_crs(self, tmp_path: Path) -> None:
        path = lines_file(tmp_path, [[(1, 1), (2, 2)]], crs=None, AADT=[1])
        assert error_of(TrafficSource(path)) == (
            f"{path} has no CRS; write it again with one, as in EPSG:4326"
        )

    def test_all_counts_too_late(self, tmp_path: Path) -> None:
        path = csv(tmp_path, {"2024": [1, 2]})
        assert "no count in the grid is of a year before 2024, when the label window starts" in error_of(
            TrafficSource(path)
        )

    def test_years_that_cannot_be(self, tmp_path: Path) -> None:
        path = csv(tmp_path, {"2015": [1], "AADT_2015": [2]})
        assert "two columns of volumes for 2015, '2015' and 'AADT_2015'; say which with `years`" in error_of(
            TrafficSource(path)
        )
        assert "'2015' cannot be of the year 20155" in error_of(TrafficSource(path, years={"2015": 20155}))
        assert "year = 2015 is of one column, and here are 2" in error_of(TrafficSource(path, year=2015))
        assert "the year of '2015' is not known" in error_of(TrafficSource(path, aadt="2015", each_year=True))

    def test_no_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.csv"
        path.write_text("lon,lat,AADT\n")
        assert error_of(TrafficSource(str(path))).endswith("has columns but no rows; export it again")


def test_cambridge_counts_are_read(shared_data: Path) -> None:
    path = shared_data / "boston/traffic/cambridge_average_daily_traffic.csv"
    grid = grid_of_cell(LngLatBbox(-71.17, 42.34, -71.05, 42.41), 250)
    traffic = read_traffic(TrafficSource(str(path), each_year=True), grid, NEW_YEAR)
    assert str(traffic.account) == (
        "traffic: 313 rows read, 312 used, 0 outside the grid, 1 rejected (no count 1)"
    )
    raw = pd.read_csv(path)
    years = [c for c in raw.columns if c.isdigit()]
    assert traffic.years == tuple(map(int, years))
    assert len(years) == 28
    counted = raw[years].where(raw[years] > 0)
    assert counted.count().sum() == traffic.table[[f"aadt_{y}" for y in years]].count().sum() == 661
    np.testing.assert_array_equal(
        counted.ffill(axis=1)[years[-1]][traffic.table["source_row"]], traffic.table["aadt"]
    )
    assert "counts taken for missing: 29 of zero or less, 0 not numbers" in traffic.understood
