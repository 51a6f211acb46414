from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.source_settings import PointTable
from roadrisk.sources import tables
from roadrisk.sources.positions import (
    PositionEvidence,
    Positions,
    check_positions,
    checked_positions,
    position_columns,
)
from roadrisk.sources.tables import tables_at

BOX = LngLatBbox(-71.2, 42.3, -71.0, 42.4)
GRID = grid_of_cell(BOX, 250)


def written(folder: Path, rows: list[str], header: str = "lon,lat", name: str = "points.csv") -> str:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def located(path: str, folder: Path, shapes: list[shapely.Geometry | None], crs: str = "EPSG:4326") -> str:
    file = folder / path
    geopandas.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=crs).to_parquet(file)
    return str(file)


def read(source: PointTable, grid: Grid = GRID) -> tuple[list[Positions], str]:
    """Positions of each chunk, and how the columns were understood."""
    (table,) = tables_at(source)
    columns = position_columns(table, source)
    return [checked_positions(columns, c, grid) for c in table.read(columns.attributes)], columns.understood


def evidence(parts: list[Positions]) -> list[PositionEvidence]:
    return [p.evidence for p in parts]


def reasons(parts: list[Positions]) -> list[str]:
    return [reason for p in parts for reason in p.reason]


@pytest.mark.parametrize(
    ("crs", "kind"),
    [
        ('LOCAL_CS["x",UNIT["m",1]]', "Engineering CRS"),
        ("EPSG:5703", "Vertical CRS"),
        ("EPSG:4978", "Geocentric CRS"),
        ("IAU_2015:30100", "Geographic 2D CRS"),
    ],
)
def test_a_crs_without_places_on_the_earth(tmp_path: Path, crs: str, kind: str) -> None:
    path = written(tmp_path, ["-71.1,42.35"])
    with pytest.raises(SourceError) as raised:
        read(PointTable(path, crs=crs))
    assert str(raised.value) == (
        f"{path}: crs {crs!r} has no longitude and latitude of the earth, it is of the kind {kind!r}; name that of "
        "x and y, as in EPSG:26986"
    )


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_decimal_commas(tmp_path: Path, delimiter: str) -> None:
    rows = [f"-71,10{delimiter}42,35", f"-71.11{delimiter}42,36", f"-71,1,0{delimiter}42,36"]
    parts, understood = read(PointTable(written(tmp_path, rows, f"lon{delimiter}lat")))
    assert parts[0].raw_x[:2].tolist() == [-71.10, -71.11]
    assert parts[0].raw_y[:2].tolist() == [42.35, 42.36]
    assert reasons(parts) == ["", "", "not a number"]
    assert understood == "points from 'lon' and 'lat' in EPSG:4326, with decimal commas"


def test_no_decimal_commas_among_commas(tmp_path: Path) -> None:
    parts, understood = read(PointTable(written(tmp_path, ['"-71,10","42,35"', "-71.1,42.35"])))
    assert reasons(parts) == ["not a number", ""]
    assert "decimal" not in understood
    path = written(tmp_path, ["-71.1;42.35"], "lon;lat")
    assert "decimal" not in read(PointTable(path))[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no coordinates"),
        ("  ", "no coordinates"),
        ("NaN", "no coordinates"),
        ("nan", "no coordinates"),
        ("#N/A", "no coordinates"),
        ("-", "no coordinates"),
        ("NULL", "no coordinates"),
        ("None", "no coordinates"),
        ("inf", "not a number"),
        ("-Infinity", "not a number"),
        ("west", "not a number"),
        ("71W", "not a number"),
        ("1e400", "not a number"),
        ("-7.11e1", ""),
        ("+71.1", "outside"),
        ("-711", "outside the world"),
    ],
)
def test_what_is_written_for_a_coordinate(tmp_path: Path, text: str, reason: str) -> None:
    parts, _ = read(PointTable(written(tmp_path, [f"{text},42.35", "-71.1,42.35"])))
    assert reasons(parts)[1] == ""
    if reason == "outside":
        assert GRID.locate(parts[0].x, parts[0].y)[0].tolist()[0] == -1
    else:
        assert reasons(parts)[0] == reason


def test_typed_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"lon": [-71.1, np.nan, np.inf, 0.0, 42.35], "lat": [42.35, 42.35, 42.35, 0.0, -71.1]}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    parts, _ = read(PointTable(str(tmp_path / "a.parquet")))
    assert reasons(parts) == ["", "no coordinates", "not a number", "zero-zero", "swapped"]


@given(
    st.lists(st.floats(-1e6, 1e6).map(repr) | st.sampled_from(["", "x", "1e5", "+3", "-", "1,5"]), min_size=1)
)
def test_numbers_are_those_of_python(texts: list[str]) -> None:
    from roadrisk.sources.positions import _numbers

    numbers, blank = _numbers(pd.Series(texts, dtype="str"), may_have_commas=True)
    for text, number, is_blank in zip(texts, numbers, blank, strict=True):
        assert is_blank == (text in ("", "-"))
        try:
            assert number == float(text.replace(",", "."))
        except ValueError:
            assert np.isnan(number)


def test_shapes_that_are_not_points(tmp_path: Path) -> None:
    shapes = [
        shapely.Point(-71.1, 42.35),
        shapely.MultiPoint([(-71.1, 42.35)]),
        shapely.Point(-71.1, 42.35, 7.0),
        None,
        shapely.Point(),
        shapely.MultiPoint(),
        shapely.MultiPoint([(-71.1, 42.35), (-71.1, 42.36)]),
        shapely.LineString([(-71.1, 42.35), (-71.1, 42.36)]),
        shapely.Point(np.inf, 42.35),
        shapely.Point(0, 0),
    ]
    parts, _ = read(PointTable(located("a.parquet", tmp_path, shapes)))
    assert reasons(parts) == [
        *["", "", ""],
        *["no geometry"] * 3,
        *["not a point"] * 2,
        "not a number",
        "zero-zero",
    ]
    check_positions(evidence(parts), PointTable("a.parquet"))


@pytest.mark.parametrize(
    ("shape", "word"),
    [(shapely.LineString([(0, 1), (1, 2)]), "lines"), (shapely.box(0, 0, 1, 1), "polygons")],
)
def test_a_file_of_other_shapes(tmp_path: Path, shape: shapely.Geometry, word: str) -> None:
    path = located("a.parquet", tmp_path, [shape, shape, shapely.Point(-71.1, 42.3)])
    with pytest.raises(SourceError) as raised:
        check_positions(evidence(read(PointTable(path))[0]), PointTable(path))
    assert str(raised.value) == f"{path} holds {word}, not points; give a file of points"


METRES = ["233000.5,899000", "234000,900000", "235000,901000"]
DEGREES = ["-71.1,42.35", "-71.2,42.36", "-71.3,42.37"]


@pytest.mark.parametrize(
    ("rows", "crs", "message"),
    [
        (
            METRES,
            "EPSG:4326",
            "{}: x and y are metres or feet, such as 233000.5 899000, but EPSG:4326 is in degrees; name their CRS "
            "with `crs` in the region file, as in crs = 'EPSG:26986'",
        ),
        (
            DEGREES,
            "EPSG:26986",
            "{}: x and y are degrees, such as -71.1 42.35, but EPSG:26986 is in metres or feet; crs = 'EPSG:26986' "
            "in the region file is wrong: leave it out, or give crs = 'EPSG:4326'",
        ),
        (
            [*DEGREES * 30, *METRES],
            "EPSG:4326",
            "{} mixes coordinates: 90 rows are degrees, such as -71.1 42.35, 3 metres or feet, such as "
            "233000.5 899000; write all in one CRS",
        ),
        (
            [*METRES * 30, *DEGREES],
            "EPSG:26986",
            "{} mixes coordinates: 3 rows are degrees, such as -71.1 42.35, 90 metres or feet, such as "
            "233000.5 899000; write all in one CRS",
        ),
    ],
)
@pytest.mark.parametrize("chunk_rows", [2, 1000])
def test_coordinates_of_another_crs(
    tmp_path: Path, rows: list[str], crs: str, message: str, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", chunk_rows)
    source = PointTable(written(tmp_path, rows, "x,y"), crs=crs)
    parts, _ = read(source)
    with pytest.raises(SourceError) as raised:
        check_positions(evidence(parts), source)
    assert str(raised.value) == message.format(source.path)


@pytest.mark.parametrize(
    ("rows", "crs"),
    [
        (DEGREES, "EPSG:4326"),
        (METRES, "EPSG:26986"),
        ([*DEGREES, METRES[0]], "EPSG:4326"),
        ([*DEGREES * 100, *METRES], "EPSG:4326"),
        ([*METRES, "0,0"] * 3, "EPSG:26986"),
        (["42.35,-71.1"] * 3, "EPSG:4326"),
        (["-711054,42.35"] * 3, "EPSG:4326"),
    ],
)
def test_coordinates_of_their_crs(tmp_path: Path, rows: list[str], crs: str) -> None:
    source = PointTable(written(tmp_path, rows, "x,y"), crs=crs)
    check_positions(evidence(read(source)[0]), source)


def test_a_geometry_of_another_crs(tmp_path: Path) -> None:
    points = [shapely.Point(-71.1, 42.35), shapely.Point(-71.2, 42.35)]
    path = located("a.parquet", tmp_path, points, "EPSG:26986")
    with pytest.raises(
        SourceError, match=r"but EPSG:26986 is in metres or feet; write the file again with the CRS"
    ):
        check_positions(evidence(read(PointTable(path))[0]), PointTable(path))


def test_each_file_is_judged_alone(tmp_path: Path) -> None:
    good, bad = written(tmp_path, DEGREES * 99, "x,y", "a.csv"), written(tmp_path, METRES[:2], "x,y", "b.csv")
    source = PointTable((good, bad))
    parts = []
    for table in tables_at(source):
        columns = position_columns(table, source)
        parts += [checked_positions(columns, c, GRID).evidence for c in table.read(columns.attributes)]
    with pytest.raises(SourceError, match=r"b.csv: x and y are metres or feet"):
        check_positions(parts, source)


@pytest.mark.parametrize("grid", [GRID, grid_of_zoom(BOX, 15)])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:26986"])
def test_points_far_away_change_nothing_near(tmp_path: Path, grid: Grid, crs: str) -> None:
    rng = np.random.default_rng(7)
    lng, lat = rng.uniform(-72.5, -70, 4000), rng.uniform(41.5, 43.5, 4000)
    xs, ys = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lng, lat)
    path = written(tmp_path, [f"{x!r},{y!r}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True)], "x,y")
    (positions,), _ = read(PointTable(path, crs=crs), grid)
    x, y = Transformer.from_crs(crs, grid.crs, always_xy=True).transform(xs, ys)
    expected, got = grid.locate(x, y), grid.locate(positions.x, positions.y)
    np.testing.assert_array_equal(got, expected)
    inside = expected[0] >= 0
    assert 0 < inside.sum() < 4000
    np.testing.assert_array_equal(positions.x[inside], x[inside])
    assert reasons([positions]) == [""] * 4000
