from __future__ import annotations

from datetime import date
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from event_examples import GRID, events_at, read_events
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from roadrisk.errors import RoadriskError, SourceError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.source_settings import EventSource
from roadrisk.sources import tables
from roadrisk.sources.account import Account
from roadrisk.sources.dates import read_dates
from roadrisk.sources.events import Events, inside_coverage, without_others

LEFT, _, _, TOP = GRID.bounds
BOX = LngLatBbox(-71.2, 42.3, -71.0, 42.4)
HEADER = "id,lon,lat,date,time,severity"
ROWS = [
    "1,-71.10,42.35,01/02/2024,12:08 AM,K",
    "2,-71.11,42.36,02/13/2024,1:30 PM,",
    '3,-71.12,42.37,12/31/2024,,"A, or worse"',
]


@pytest.fixture(scope="module")
def grid() -> Grid:
    return grid_of_cell(BOX, 250)


def write_csv(folder: Path, rows: list[str], header: str = HEADER, name: str = "crashes.csv") -> str:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "lon": [-71.10, -71.11, -71.12],
            "lat": [42.35, 42.36, 42.37],
            "date": ["2024-01-02T00:08:00", "2024-02-13 13:30", "2024-12-31"],
            "severity": ["K", None, "A, or worse"],
        }
    )


def check_three(events: Events) -> None:
    assert events.account == Account("crashes", 3, 3, {}, 0)
    assert events.table["time"].astype(str).tolist() == [
        "2024-01-02 00:08:00",
        "2024-02-13 13:30:00",
        "2024-12-31 00:00:00",
    ]
    assert events.table["severity"].fillna("none").tolist() == ["K", "none", "A, or worse"]
    assert events.table["source_row"].tolist() == [0, 1, 2]
    assert events.table["weight"].tolist() == [1.0, 1.0, 1.0]
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32619", always_xy=True).transform(
        [-71.10, -71.11, -71.12], [42.35, 42.36, 42.37]
    )
    np.testing.assert_allclose(events.table[["x", "y"]].to_numpy(), np.array([x, y]).T, atol=1e-6)
    assert (events.first, events.last) == (date(2024, 1, 2), date(2024, 12, 31))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_any_line_end_and_delimiter(
    tmp_path: Path, grid: Grid, end: str, delimiter: str, mark: bytes
) -> None:
    text = end.join([HEADER, *ROWS]).replace(",", delimiter).replace(f"A{delimiter}", "A,") + end
    path = tmp_path / "crashes.csv"
    path.write_bytes(mark + text.encode())
    check_three(read_events(EventSource(str(path)), grid))


def test_latin_1_is_read_and_said(tmp_path: Path, grid: Grid) -> None:
    path = tmp_path / "crashes.csv"
    path.write_bytes("\n".join([HEADER, *ROWS[:2], "3,-71.12,42.37,12/31/2024,,Schäden"]).encode("latin-1"))
    events = read_events(EventSource(str(path)), grid)
    assert events.table["severity"].iloc[2] == "Schäden"
    assert "read as Latin-1" in events.understood[0]


@pytest.mark.parametrize("name", ["a.parquet", "geo.parquet", "a.gpkg", "a.geojson", "a.shp"])
def test_every_format_gives_the_same_events(tmp_path: Path, grid: Grid, name: str) -> None:
    table, path = frame(), tmp_path / name
    if name == "a.parquet":
        table.to_parquet(path)
    else:
        points = geopandas.points_from_xy(table.pop("lon"), table.pop("lat"))
        located = geopandas.GeoDataFrame(table, geometry=points, crs="EPSG:4326")
        if name == "geo.parquet":
            located.to_crs("EPSG:26986").to_parquet(path)
        else:
            located.to_file(path)
    check_three(read_events(EventSource(str(path)), grid))


def test_typed_dates_and_numbers(tmp_path: Path, grid: Grid) -> None:
    table = frame().assign(
        date=pd.to_datetime(["2024-01-02 00:08", "2024-02-13 13:30", None]).tz_localize("UTC"),
        severity=[1.0, None, 2.0],
    )
    table.to_parquet(tmp_path / "a.parquet")
    events = read_events(EventSource(str(tmp_path / "a.parquet"), max_rejected=0.5), grid)
    assert events.account.rejected == {"no date": 1}
    assert events.table["severity"].fillna("none").tolist() == ["1", "none"]
    assert events.table["time"].iloc[0] == pd.Timestamp("2024-01-02 00:08")
    assert any("not applied" in line for line in events.understood)


def test_points_without_crs_are_refused(tmp_path: Path, grid: Grid) -> None:
    table = frame()
    points = geopandas.points_from_xy(table.pop("lon"), table.pop("lat"))
    geopandas.GeoDataFrame(table, geometry=points).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"no CRS; write it again"):
        read_events(EventSource(str(tmp_path / "a.parquet")), grid)


def test_single_multipoints_are_points_and_lines_are_not(tmp_path: Path, grid: Grid) -> None:
    shapes = [
        shapely.MultiPoint([(-71.1, 42.35)]),
        shapely.Point(-71.1, 42.36),
        shapely.LineString([(-71.1, 42.35), (-71, 42)]),
        None,
    ]
    days = ["2024-01-01"] * 4
    geopandas.GeoDataFrame({"date": days}, geometry=shapes, crs=4326).to_parquet(tmp_path / "a.parquet")
    events = read_events(EventSource(str(tmp_path / "a.parquet"), max_rejected=0.5), grid)
    assert events.account.rejected == {"not a point": 1, "no geometry": 1}


@pytest.mark.parametrize(
    "header",
    [
        "n,LONGITUD,LATITUDE,Crash Date,Crash Time,Crash Severity",
        "n,lng,Lat,crash_date,CRASH_TIME,KABCO",
        "n,Start_Lng,Start_Lat,crash_date_clean,time,severity",
        "n,long,lat,Date Time,Time of Day,Injury Severity",
        "n,X,Y,timestamp,time,crash_severity_descr",
    ],
)
def test_usual_names_are_found(tmp_path: Path, grid: Grid, header: str) -> None:
    check_three(read_events(EventSource(write_csv(tmp_path, ROWS, header)), grid))


def test_projected_columns_by_crs(tmp_path: Path, grid: Grid) -> None:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:26986", always_xy=True).transform(-71.1, 42.35)
    path = write_csv(tmp_path, [f"{x},{y},0,0,2024-01-02"], "X,Y,Longitude,Latitude,date")
    events = read_events(EventSource(path, crs="EPSG:26986"), grid)
    expected = grid.locate_lnglat([-71.1], [42.35])
    assert (events.table["row"].item(), events.table["col"].item()) == (expected[0][0], expected[1][0])


def test_xyz_tiles_are_those_of_mercantile(tmp_path: Path) -> None:
    import mercantile

    zoom = grid_of_zoom(BOX, 16)
    corners = [mercantile.ul(mercantile.Tile(zoom.x0 + i, zoom.y0 + i, 16)) for i in range(1, 11)]
    rows = [f"{i},{c.lng!r},{c.lat!r},2024-01-02,," for i, c in enumerate(corners)]
    table = read_events(EventSource(write_csv(tmp_path, rows)), zoom).table
    tiles = [mercantile.tile(c.lng, c.lat, 16) for c in corners]
    assert zoom.tile_ids(table["row"].to_numpy(), table["col"].to_numpy()).tolist() == [
        f"16/{t.x}/{t.y}" for t in tiles
    ]


@pytest.mark.parametrize(
    ("header", "source", "message"),
    [
        (
            "a,b,date",
            {},
            "look like coordinates; name them with `x` and `y` .* its columns: 'a', 'b', 'date'",
        ),
        ("lon,lat,b", {}, "looks like a date; name it with `date` .* its columns: 'lon', 'lat', 'b'"),
        ("lon,lat,date", {"date": "dat"}, "no column 'dat' \\(date\\); did you mean 'date'"),
        ("lon,lat,date", {"x": "lon"}, "x and y go together"),
        ("lon,lat,date", {"crs": "EPSG:0"}, "'EPSG:0' is not a CRS"),
    ],
)
def test_columns_that_are_not_there(
    tmp_path: Path, grid: Grid, header: str, source: dict[str, str], message: str
) -> None:
    path = write_csv(tmp_path, ["-71.1,42.3,2024-01-01"], header)
    with pytest.raises(SourceError, match=message) as raised:
        read_events(EventSource(path, **source), grid)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "no such file: .*none.csv"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"lon,lat,date\n", "no rows"),
        ("a.csv", b"lon,lat,date\n1,2,3\n1,2,3,4,5\n", "not a table: .*line 3"),
        ("a.csv", b"lon,lat,date\n1,2,3,\n1,2,3,\n", "more fields than its header"),
        ("a.parquet", b"lon,lat", "not a Parquet file"),
        ("a.gpkg", b"lon,lat", "not a table that can be opened"),
    ],
)
def test_files_that_are_no_tables(
    tmp_path: Path, grid: Grid, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as raised:
        read_events(EventSource(str(tmp_path / name)), grid)
    assert "\n" not in str(raised.value)


def test_each_reason_is_counted_and_its_row_kept(tmp_path: Path, grid: Grid) -> None:
    bad = {
        "no coordinates": "1,,42.35,2024-01-01,,",
        "not a number": "1,west,42.35,2024-01-01,,",
        "zero-zero": "1,0,0.0,2024-01-01,,",
        "outside the world": "1,-711.0,42.35,2024-01-01,,",
        "swapped": "1,42.35,-71.1,2024-01-01,,",
        "no date": "1,-71.1,42.35,,,",
        "unreadable date": "1,-71.1,42.35,2024-02-30,,",
    }
    outside = "1,-80.0,42.35,2024-01-01,,"
    path = write_csv(tmp_path, [*bad.values(), outside, *ROWS])
    events = read_events(EventSource(path, max_rejected=0.7), grid)
    assert events.account == Account("crashes", 11, 3, dict.fromkeys(bad, 1), 1)
    assert dict(zip(events.rejected["reason"], events.rejected["source_row"], strict=True)) == {
        reason: row for row, reason in enumerate(bad)
    }
    assert events.rejected.set_index("reason").loc["swapped", ["x", "y"]].tolist() == [42.35, -71.1]
    assert events.table["source_row"].tolist() == [8, 9, 10]


def test_too_many_rejected_is_an_error_that_names_them(tmp_path: Path, grid: Grid) -> None:
    path = write_csv(tmp_path, ["1,,,2024-01-01,,", *ROWS * 3])
    with pytest.raises(
        SourceError, match=r"1 of 10 rows \(10.0 %\).* 5 % .*no coordinates 1; .*max_rejected = 0.1 "
    ):
        read_events(EventSource(path), grid)
    assert read_events(EventSource(path, max_rejected=0.1), grid).account.used == 9


def test_swapped_columns_are_named(tmp_path: Path, grid: Grid) -> None:
    path = write_csv(tmp_path, ROWS, "id,lat,lon,date,time,severity")
    with pytest.raises(SourceError, match=r"look swapped: give x = 'lat' and y = 'lon'"):
        read_events(EventSource(path), grid)


def test_nearly_all_outside_says_where(tmp_path: Path, grid: Grid) -> None:
    far = "1,-93.5,41.5,2024-01-01,,"
    path = write_csv(tmp_path, [far] * 198 + ROWS[:2])
    with pytest.raises(
        SourceError, match=r"198 of 200 .* they are in -93.50 41.50 -93.50 41.50, the grid in -71.21"
    ):
        read_events(EventSource(path), grid)
    path = write_csv(tmp_path, [far] * 197 + ROWS)
    assert read_events(EventSource(path), grid).account.outside == 197


def test_a_small_box_in_a_big_file_is_no_error(tmp_path: Path, grid: Grid) -> None:
    far = ["1,-72.5,42.35,2024-01-01,,"] * 9999
    path = write_csv(tmp_path, far + ROWS[:2] * 5)
    assert read_events(EventSource(path), grid).account.used == 10
    path = write_csv(tmp_path, far + ROWS[:1] * 9)
    with pytest.raises(SourceError, match="points lie outside the grid"):
        read_events(EventSource(path), grid)


@pytest.mark.parametrize("header", ["lon,lat,date,lon", '"lon",lat,date, lon'])
def test_a_name_that_stands_twice(tmp_path: Path, grid: Grid, header: str) -> None:
    path = write_csv(tmp_path, ["-71.10,42.35,2024-01-02,-71.11"], header)
    with pytest.raises(SourceError) as raised:
        read_events(EventSource(path), grid)
    assert str(raised.value) == f"{path} names the column 'lon' twice; rename one"
    parquet = tmp_path / "crashes.parquet"
    values = [pa.array([v]) for v in (-71.10, 42.35, "2024-01-02", -71.11)]
    pq.write_table(pa.Table.from_arrays(values, names=["lon", "lat", "date", "lon"]), parquet)
    with pytest.raises(SourceError, match="names the column 'lon' twice; rename one"):
        read_events(EventSource(str(parquet)), grid)


def test_names_that_are_not_the_same(tmp_path: Path, grid: Grid) -> None:
    path = write_csv(tmp_path, ["-71.10,42.35,2024-01-02,-71.11,,"], "lon,lat,date,LON,,")
    assert read_events(EventSource(path), grid).account.used == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-04", "2024-03-04T00:00:00"),
        ("2024/3/4 05:06", "2024-03-04T05:06:00"),
        ("20240304", "2024-03-04T00:00:00"),
        ("2024-03-04T23:59:59.999Z", "2024-03-04T23:59:59"),
        ("2024-03-04 06:56:00+00:00", "2024-03-04T06:56:00"),
        ("3/4/24 9:39", "2024-03-04T09:39:00"),
        ("3/4/1969 12:00:01 AM", "1969-03-04T00:00:01"),
        ("03-04-2024 12:30 p.m.", "2024-03-04T12:30:00"),
        ("13/32/2024", "NaT"),
        ("2024-03-04 25:00", "NaT"),
        ("2024-03-04 13:00 PM", "NaT"),
        ("3/4-2024", "NaT"),
        ("20240304junk", "NaT"),
        ("2024", "NaT"),
    ],
)
def test_forms_of_dates(text: str, expected: str) -> None:
    assert str(read_dates(pd.Series([text])).month_first[0]) == expected


@given(st.datetimes(min_value=pd.Timestamp("1970-01-01"), max_value=pd.Timestamp("2068-12-31")))
def test_written_dates_are_read_back(moment: pd.Timestamp) -> None:
    expected = np.datetime64(moment.replace(microsecond=0), "s")
    forms = ["%Y-%m-%d %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%y %H:%M:%S"]
    assert (read_dates(pd.Series([moment.strftime(f) for f in forms])).month_first == expected).all()
    assert read_dates(pd.Series([moment.strftime("%d.%m.%Y %H:%M:%S")])).day_first[0] == expected


@pytest.mark.parametrize(
    ("days", "first", "said"),
    [
        (["01/02/2024", "02/13/2024"], date(2024, 1, 2), "month first (1 dates"),
        (["01/02/2024", "13/02/2024"], date(2024, 2, 1), "day first (1 dates"),
        (["01/02/2024", "03/02/2024"], date(2024, 1, 2), "month first by custom"),
        (["2024-01-02", "2024-01-03"], date(2024, 1, 2), "year first"),
    ],
)
def test_order_of_day_and_month(
    tmp_path: Path, grid: Grid, days: list[str], first: date, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 1)  # the deciding date is in another chunk
    path = write_csv(tmp_path, [f"1,-71.1,42.35,{day},," for day in days])
    events = read_events(EventSource(path), grid)
    assert events.first == first
    assert events.table["time"].iloc[0].date() == first
    assert any(said in line for line in events.understood)


def test_dates_that_contradict(tmp_path: Path, grid: Grid) -> None:
    path = write_csv(tmp_path, [f"1,-71.1,42.35,{day},," for day in ("13/01/2024", "01/14/2024")])
    with pytest.raises(
        SourceError, match=r"contradict each other: '01/14/2024' has the month .* '13/01/2024'"
    ):
        read_events(EventSource(path), grid)


def test_dates_that_do_not_parse_show_one(tmp_path: Path, grid: Grid) -> None:
    path = write_csv(tmp_path, [f"1,-71.1,42.35,{day},," for day in ("45292.5", "45293.5", "2024-01-01")])
    with pytest.raises(SourceError, match=r"2 of 3 dates in 'date' cannot be read, such as '45292.5'"):
        read_events(EventSource(path, max_rejected=1.0), grid)


def test_chunks_change_nothing(tmp_path: Path, grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(tmp_path, [*ROWS, "1,0,0,2024-01-01,,", *ROWS, "1,-80,42,2024-01-01,,", *ROWS])
    whole = read_events(EventSource(path, max_rejected=0.2), grid)
    monkeypatch.setattr(tables, "CHUNK_ROWS", 2)
    cut = read_events(EventSource(path, max_rejected=0.2), grid)
    pd.testing.assert_frame_equal(whole.table, cut.table)
    pd.testing.assert_frame_equal(whole.rejected, cut.rejected)
    assert (whole.account, whole.understood) == (cut.account, cut.understood)


def test_an_account_must_add_up() -> None:
    with pytest.raises(RoadriskError, match=r"10 rows read are not 7"):
        Account("crashes", 10, 7, {"no date": 1}, 1)
    account = Account("crashes", 10, 7, {"no date": 1}, 2)
    assert Account(**account.as_json()) == account


# real data


def test_boston_2024(shared_data: Path) -> None:
    path = shared_data / "boston/crashes/massdot_2024_mapc.csv"
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 250)
    events = read_events(EventSource(str(path)), grid)
    assert events.account.read == 56028
    assert events.account.rejected == {"no coordinates": 2372}
    raw = pd.read_csv(path)
    points = geopandas.points_from_xy(raw["lng"], raw["lat"], crs=4326).to_crs(grid.crs)
    inside = shapely.intersects(shapely.box(*grid.bounds), points)
    assert events.account.used == inside.sum() == len(events.table)
    known = events.table["severity"].value_counts().to_dict()
    assert known == raw["severity"][inside].dropna().astype(int).astype(str).value_counts().to_dict()
    assert (events.first, events.last) == (date(2024, 1, 1), date(2024, 12, 31))
    midnight = events.table["time"].iloc[0]
    assert midnight == pd.Timestamp(f"2024-01-01 {raw['time'][events.table['source_row'].iloc[0]]}")


@pytest.mark.parametrize(
    ("name", "read", "rejected", "first"),
    [
        ("cambridge_police_2010_2016.csv", 10335, {"no coordinates": 1225}, date(2010, 1, 1)),
        (
            "massdot_2015_2024_boston.parquet",
            47689,
            {"no coordinates": 2859, "no date": 31},
            date(2015, 1, 1),
        ),
        (
            "massdot_2022_2025_northeast.csv",
            52689,
            {"no coordinates": 1851, "zero-zero": 1},
            date(2022, 1, 1),
        ),
        ("massdot_2025_malden_all_columns.csv", 829, {"no coordinates": 19}, date(2025, 1, 1)),
    ],
)
def test_every_crash_file_reads(
    shared_data: Path, name: str, read: int, rejected: dict[str, int], first: date
) -> None:
    grid = grid_of_cell(LngLatBbox(-71.8, 42.02, -70.5, 42.9), 1000)
    source = EventSource(str(shared_data / "boston/crashes" / name), max_rejected=0.12)
    account = read_events(source, grid).account
    assert (account.read, account.rejected, account.outside) == (read, rejected, 0)
    assert read_events(source, grid).first == first


def test_cambridge_is_refused_by_default(shared_data: Path) -> None:
    path = str(shared_data / "boston/crashes/cambridge_police_2010_2016.csv")
    with pytest.raises(SourceError, match=r"1,225 of 10,335 rows .*max_rejected = 0.12"):
        read_events(EventSource(path), grid_of_cell(BOX, 250))


def events_of(folder: Path, grid: Grid, rows: list[str], header: str = HEADER, **settings: Any) -> Events:
    return read_events(EventSource(write_csv(folder, rows, header), **settings), grid)


def test_rows_not_asked_for_are_left_out_and_counted(tmp_path: Path, grid: Grid) -> None:
    rows = ["1,-71.1,42.35,2024-01-01,,K", "2,-71.1,42.35,2024-01-02,,O", "3,,,2024-01-02,,O"]
    events = events_of(tmp_path, grid, rows, keep={"severity": ("K",)}, max_rejected=0.0)
    assert events.account == Account("crashes", 3, 1, {"no coordinates": 1}, 0, {"not severity K": 1})
    assert events.table["severity"].tolist() == ["K"]


def test_a_column_to_keep_by_that_is_not_there(tmp_path: Path, grid: Grid) -> None:
    with pytest.raises(SourceError, match=r"no column 'sevrity' \(keep\); did you mean 'severity'"):
        events_of(tmp_path, grid, ROWS, keep={"sevrity": ("K",)})


def test_a_value_to_keep_that_no_row_has_is_refused(tmp_path: Path, grid: Grid) -> None:
    with pytest.raises(SourceError, match=r"no row has severity = 'k' \(keep\); did you mean 'K'\?"):
        events_of(tmp_path, grid, ROWS, keep={"severity": ("k",)})


def test_files_of_one_name_are_told_apart(tmp_path: Path, grid: Grid) -> None:
    paths = []
    for folder in ("2023", "2024"):
        (tmp_path / folder).mkdir()
        paths.append(write_csv(tmp_path / folder, ROWS))
    events = read_events(EventSource(tuple(paths)), grid)
    assert events.table["source_file"].unique().tolist() == ["2023/crashes.csv", "2024/crashes.csv"]


def test_several_files_are_one_source(tmp_path: Path, grid: Grid) -> None:
    write_csv(tmp_path, ["1,-71.1,42.35,13/02/2024,,K"], name="a.csv")
    write_csv(tmp_path, ["1,-71.1,42.35,02/13/2024,,K", "2,,,02/13/2024,,K"], name="b.csv")
    events = read_events(EventSource(str(tmp_path / "?.csv"), max_rejected=0.5), grid)
    assert events.account == Account("crashes", 3, 2, {"no coordinates": 1}, 0)
    assert events.table["time"].astype(str).tolist() == ["2024-02-13"] * 2
    assert events.table["source_file"].tolist() == ["a.csv", "b.csv"]
    assert events.rejected[["source_file", "source_row"]].to_numpy().tolist() == [["b.csv", 1]]


TWICE = [
    "1,-71.10,42.35,2024-01-02,10:00,K",
    "1,-71.10,42.35,2024-01-02,10:00,O",
    "2,-71.10,42.35,2024-01-02,10:00,K",
    "3,-71.11,42.35,2024-01-02,,K",
    "4,-71.11,42.35,2024-01-02,,K",
]


def test_repeats_are_reported_and_count(tmp_path: Path, grid: Grid) -> None:
    events = events_of(tmp_path, grid, TWICE)
    assert events.account.used == 5
    assert "1 repeat another by id and count; drop_duplicates = 'id' leaves them out" in events.understood
    # without a time of day the day is the time
    assert (
        "3 repeat another by place and time and count; drop_duplicates = 'place and time' leaves them out"
        in events.understood
    )


@pytest.mark.parametrize(("by", "used"), [("id", 4), ("place and time", 2)])
def test_repeats_are_left_out_where_asked(tmp_path: Path, grid: Grid, by: str, used: int) -> None:
    events = events_of(tmp_path, grid, TWICE, drop_duplicates=by)
    assert events.account.used == used == len(events.table)
    assert events.account.left_out == {f"repeats another by {by}": 5 - used}
    turned = events_of(tmp_path, grid, TWICE[::-1], drop_duplicates=by)
    columns = ["x", "y", "time", "severity"]
    assert_same = pd.testing.assert_frame_equal
    assert_same(*(e.table[columns].sort_values(columns, ignore_index=True) for e in (events, turned)))


def test_repeats_by_id_need_ids(tmp_path: Path, grid: Grid) -> None:
    rows = [row.split(",", 1)[1] for row in TWICE]
    with pytest.raises(SourceError, match=r"drop_duplicates = 'id' needs a column of ids; name it with `id`"):
        events_of(tmp_path, grid, rows, HEADER.removeprefix("id,"), drop_duplicates="id")


def test_what_another_source_has_already_is_left_out(tmp_path: Path, grid: Grid) -> None:
    state_rows = ["7,-71.10,42.35,2024-01-02,10:00,K", "8,-71.10,42.35,2024-01-02,11:00,K"]
    state = events_of(tmp_path, grid, state_rows, id="id")
    header = HEADER.replace("id", "case_number")
    rows = ["8,-71.2,42.31,2024-01-03,,", "9,-71.10,42.35,2024-01-02,10:00,K"]
    city = events_of(tmp_path, grid, rows, header, name="city", id="case_number")
    less = without_others(city, [state])
    assert less.account == Account("city", 2, 1, {}, 0, {"in crashes already, by id": 1})
    assert less.table["source_row"].tolist() == [1]
    # numbers that nobody called ids may count from one in every file: they decide nothing
    found = events_of(tmp_path, grid, rows, header, name="city")
    by_place = without_others(found, [state])
    assert by_place.account.left_out == {"in crashes already, by place and time": 1}
    assert by_place.table["source_row"].tolist() == [0]


@given(st.floats(0, 2 * np.pi), st.floats(0, 0.9), st.integers(0, 29), st.floats(0, 1), st.floats(0, 1))
def test_places_within_a_metre_are_the_same(
    angle: float, apart_m: float, seconds: int, x0: float, y0: float
) -> None:
    """Other decimals and other CRSs move a point a little, and a minute is as exact as reports are."""
    x, y = LEFT + 5000 + 2 * x0, TOP - 5000 - 2 * y0
    moved = x + apart_m * np.cos(angle), y + apart_m * np.sin(angle)
    one = events_at(x, y, "2024-05-05 10:15:00")
    other = events_at(*moved, f"2024-05-05 10:15:{seconds:02d}")
    assert without_others(one, [other]).account.used == 0
    for far in (events_at(x + 4, y, "2024-05-05 10:15"), events_at(x, y, "2024-05-05 10:16")):
        assert without_others(one, [far]).account.used == 1


def test_dates_with_the_day_first_are_compared_as_they_are_read(tmp_path: Path, grid: Grid) -> None:
    """Read month first, days above 12 are no dates: all of them would look alike."""
    days = [f"{i},-71.1,42.35,{day:02d}/03/2021,10:00,K" for i, day in enumerate(range(1, 29))]
    events = events_of(tmp_path, grid, days, drop_duplicates="place and time")
    assert events.account.used == 28
    iso = [f"{i},-71.1,42.35,2021-03-{day:02d},10:00,K" for i, day in enumerate(range(1, 29))]
    city = events_of(tmp_path, grid, iso, name="city")
    assert without_others(city, [events]).account.used == 0


def test_dates_are_those_of_the_rows_that_count(tmp_path: Path, grid: Grid) -> None:
    rows = [
        "1,-71.1,42.35,2021-02-03,,K",
        "2,-71.1,42.35,2021-11-30,,K",
        "3,,,2030-01-01,,K",
        "4,-71.1,42.35,2024-05-05,,other",
    ]
    events = events_of(tmp_path, grid, rows, keep={"severity": ("K",)}, max_rejected=0.5)
    assert (events.first, events.last) == (date(2021, 2, 3), date(2021, 11, 30))


def test_a_kind_may_be_called_as_a_field_of_events(tmp_path: Path, grid: Grid) -> None:
    events = events_of(tmp_path, grid, ROWS, by=("severity", "time"))
    assert events.kinds["severity"] == ("a_or_worse", "k")
    assert events.table["by_severity"].fillna("none").tolist() == ["K", "none", "A, or worse"]
    assert events.table["time"].dtype.kind == "M"


def test_events_outside_the_coverage_are_left_out_and_counted(tmp_path: Path, grid: Grid) -> None:
    events = events_of(tmp_path, grid, ROWS)
    covered = np.ones(grid.shape, bool)
    covered[events.table["row"].iloc[0], events.table["col"].iloc[0]] = False
    less = inside_coverage(events, covered)
    assert less.account == Account("crashes", 3, 2, {}, 0, {"outside the coverage": 1})
    assert less.table["source_row"].tolist() == [1, 2]


def test_times_that_cannot_be_read_are_counted_and_said(tmp_path: Path, grid: Grid) -> None:
    rows = [
        "1,-71.1,42.35,2024-01-01,noon,K",
        "2,-71.1,42.35,2024-01-01,9:99,K",
        "3,-71.1,42.35,2024-01-01,,K",
    ]
    events = events_of(tmp_path, grid, rows)
    assert "2 times of day cannot be read, such as 'noon': taken as midnight" in events.understood
    assert "3 events have no time of day" in events.understood


@pytest.mark.parametrize(
    ("times", "read"),
    [(["8", "14"], ["08:00:00", "14:00:00"]), (["8", "1530"], ["00:08:00", "15:30:00"])],
)
def test_bare_times_are_hours_where_the_whole_file_says_so(
    tmp_path: Path, grid: Grid, times: list[str], read: list[str]
) -> None:
    rows = [f"{i},-71.1,42.35,2024-01-01,{time},K" for i, time in enumerate(times)]
    events = events_of(tmp_path, grid, rows)
    assert [str(time)[11:] for time in events.table["time"]] == read


def test_events_without_dates_where_the_user_says_so(tmp_path: Path, grid: Grid) -> None:
    events = events_of(tmp_path, grid, ["-71.1,42.35,x"], "lon,lat,kind", undated=True)
    assert (events.first, events.last, events.account.used) == (None, None, 1)
    with pytest.raises(SourceError, match=r"no column that looks like a date; .* or say undated = true; its"):
        events_of(tmp_path, grid, ["-71.1,42.35,x"], "lon,lat,kind")


@given(st.permutations(range(len(TWICE))))
def test_no_order_of_rows_changes_what_stays(order: list[int]) -> None:
    grid = grid_of_cell(BOX, 250)
    folder = Path(mkdtemp())
    events = events_of(folder, grid, [TWICE[i] for i in order], drop_duplicates="place and time")
    assert sorted(events.table["severity"].tolist()) == sorted(
        events_of(folder, grid, TWICE, drop_duplicates="place and time").table["severity"].tolist()
    )
