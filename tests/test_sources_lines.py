from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import shapely.affinity
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from roadrisk.errors import SourceError
from roadrisk.features.roads import road_columns
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.region import LineSource
from roadrisk.sources import tables
from roadrisk.sources.lines import Lines, joined_lines, read_lines

GRID = grid_of_cell(LngLatBbox(-71.2, 42.3, -71.0, 42.4), 250)
AGAIN = "listed again (other direction or a copy)"
STREET = shapely.LineString([(-71.10, 42.35), (-71.10, 42.36), (-71.09, 42.36)])
AVENUE = shapely.LineString([(-71.12, 42.35), (-71.11, 42.35)])
FAR = shapely.LineString([(-72.0, 42.0), (-72.1, 42.0)])


def write(
    folder: Path, geometry: list[Any], crs: Any = 4326, name: str = "roads.gpkg", **columns: Any
) -> str:
    path = folder / name
    columns = columns or {"n": range(len(geometry))}
    frame = geopandas.GeoDataFrame(columns, geometry=geometry, crs=crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return str(path)


def ground_m(line: shapely.LineString) -> float:
    return float(Geod(ellps="WGS84").geometry_length(line))


@pytest.mark.parametrize(
    ("name", "crs"),
    [("roads.gpkg", 4326), ("roads.geojson", 4326), ("roads.shp", 26986), ("roads.parquet", 3857)],
)
def test_every_format_and_crs_gives_ground_metres(tmp_path: Path, name: str, crs: int) -> None:
    shapes = list(geopandas.GeoSeries([STREET, AVENUE, FAR], crs=4326).to_crs(crs))
    lines = read_lines(LineSource(write(tmp_path, shapes, crs, name)), GRID)
    assert (lines.account.read, lines.account.used, lines.account.outside) == (3, 2, 1)
    np.testing.assert_allclose(lines.table["length_m"], [ground_m(STREET), ground_m(AVENUE)], rtol=1e-6)
    assert lines.table["source_row"].tolist() == [0, 1]
    assert lines.table.crs == GRID.crs
    assert lines.table["road_class"].isna().all()


def test_a_street_in_both_directions_is_one(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [STREET, AVENUE, STREET.reverse(), STREET, AVENUE],
        u=[1, 3, 2, 1, 3],
        v=[2, 4, 1, 2, 4],
        osmid=["7", "8", "7", "[7, 9]", "9"],
    )
    lines = read_lines(LineSource(path), GRID)
    assert lines.account.left_out == {AGAIN: 1}
    assert lines.table["source_row"].tolist() == [0, 1, 3, 4]
    path = write(tmp_path, [STREET, AVENUE, STREET.reverse(), AVENUE], name="no_ids.gpkg")
    lines = read_lines(LineSource(path), GRID)
    assert lines.account.left_out == {AGAIN: 2}


def test_rows_without_ids_are_known_by_their_geometry(tmp_path: Path) -> None:
    path = write(
        tmp_path, [STREET, AVENUE, AVENUE.reverse()], u=[1.0, None, None], v=[2.0, 4, 5], osmid=[7.0, 8, 9]
    )
    assert read_lines(LineSource(path), GRID).account.left_out == {AGAIN: 1}


rows = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from(["7", "8"]),
        st.sampled_from([700.0, 900.0]),
        st.sampled_from(["primary", "residential", "['primary', 'trunk']", "footway"]),
        st.sampled_from(["1", "2", None]),
        st.sampled_from(["yes", "no", "-1", None]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=20, deadline=None)
@given(rows, st.randoms())
def test_the_order_of_rows_decides_nothing(
    tmp_path_factory: pytest.TempPathFactory, some: list[tuple[Any, ...]], random: Any
) -> None:
    folder = tmp_path_factory.mktemp("order")
    nodes = [(-71.10, 42.35), (-71.12, 42.36), (-71.08, 42.31)]
    some = [(u, v + (u == v), *rest) for u, v, *rest in some if u != v or u < 2]
    shuffled = random.sample(some, len(some))

    def known(some_rows: list[tuple[Any, ...]], name: str) -> list[tuple[Any, ...]] | None:
        u, v, way, length, highway, lanes, oneway = map(list, zip(*some_rows, strict=True))
        shapes = [shapely.LineString([nodes[a], nodes[b]]) for a, b in zip(u, v, strict=True)]
        columns = {"u": u, "v": v, "osmid": way, "length": length, "highway": highway}
        path = write(folder, shapes, 4326, name, **columns, lanes=lanes, oneway=oneway)
        try:
            table = read_lines(LineSource(path), GRID).table
        except SourceError:
            return None
        # a two-way street may be drawn either way
        oneway = table["oneway"].fillna(False)
        drawn = [line.wkt if marked else "" for line, marked in zip(table.geometry, oneway, strict=True)]
        said = [list(map(str, table[c])) for c in ("length_m", "road_class", "lanes", "oneway")]
        return sorted(zip(*said, drawn, strict=True))

    if some:
        assert known(some, "a.parquet") == known(shuffled, "b.parquet")


def test_each_reason_is_counted(tmp_path: Path) -> None:
    zero = shapely.LineString([(-71.1, 42.35), (-71.1, 42.35)])
    shapes = [STREET, None, shapely.LineString(), shapely.Point(-71.1, 42.35), zero, FAR, AVENUE]
    path = write(tmp_path, shapes, name="roads.parquet", highway=["primary"] * 6 + ["footway"])
    account = read_lines(LineSource(path), GRID).account
    assert (account.read, account.used, account.outside) == (7, 1, 1)
    assert account.rejected == {
        "no geometry": 2,
        "not a line": 1,
        "zero length": 1,
    }
    assert account.left_out == {"not a road for cars (footway)": 1}


def test_lines_beside_the_grid_are_outside(tmp_path: Path) -> None:
    left, bottom, right, top = GRID.bounds
    beside = shapely.LineString([(left - 100, bottom), (left - 100, top)])
    across = shapely.LineString([(left - 90, bottom), (left + 100, top)])
    # its bounds overlap the grid's, the line itself does not
    corner = shapely.LineString([(right - 500, top + 1000), (right + 1000, top - 100)])
    lines = read_lines(LineSource(write(tmp_path, [beside, across, corner], GRID.crs)), GRID)
    assert (lines.account.used, lines.account.outside) == (1, 2)
    assert lines.table["length_m"].item() == pytest.approx(across.length, rel=1e-3)


def test_classes_of_openstreetmap(tmp_path: Path) -> None:
    shapes = [shapely.affinity.translate(AVENUE, 0, 0.001 * i) for i in range(6)]
    values = [
        "residential",
        "['residential', 'tertiary']",
        "['unsurfaced', 'residential']",
        "service",
        None,
        "Primary",
    ]
    lines = read_lines(LineSource(write(tmp_path, shapes, highway=values)), GRID)
    assert lines.table["road_class"].tolist() == ["residential", "tertiary", "residential", "primary"]
    assert lines.account.left_out == {"not a road for cars (none, service)": 2}
    assert any("2 lines with several take the highest" in line for line in lines.understood)


def test_a_road_of_unknown_class_is_a_road_for_cars(tmp_path: Path) -> None:
    shapes = [shapely.affinity.translate(AVENUE, 0, 0.001 * i) for i in range(3)]
    path = write(tmp_path, shapes, highway=["road", "['road', 'residential']", "service"])
    lines = read_lines(LineSource(path), GRID)
    assert lines.table["road_class"].tolist() == ["road", "residential"]
    assert lines.account.left_out == {"not a road for cars (service)": 1}


def test_other_classes_are_all_kept(tmp_path: Path) -> None:
    shapes = [shapely.affinity.translate(AVENUE, 0, 0.001 * i) for i in range(3)]
    lines = read_lines(LineSource(write(tmp_path, shapes, F_Class=[1.0, None, 7.0])), GRID)
    assert lines.table["road_class"].fillna("none").tolist() == ["1", "none", "7"]
    source = LineSource(
        write(tmp_path, shapes, kind=["a", "b", "c"], highway=["trunk"] * 3), class_column="kind"
    )
    assert read_lines(source, GRID).table["road_class"].tolist() == ["a", "b", "c"]


def test_names_for_classes_are_refused(tmp_path: Path) -> None:
    shapes = [shapely.affinity.translate(AVENUE, 0, 0.0001 * i) for i in range(60)]
    path = write(tmp_path, shapes, **{"class": [f"Street {i}" for i in range(60)]})
    with pytest.raises(SourceError, match=r"'class' has 60 values, too many .* class_column"):
        read_lines(LineSource(path), GRID)


def length_of(lines: Lines) -> list[float]:
    return [round(metres, 3) for metres in lines.table["length_m"]]


def test_declared_lengths_are_taken_where_they_are_sound(tmp_path: Path) -> None:
    street, avenue = round(ground_m(STREET), 3), round(ground_m(AVENUE), 3)
    longer = write(tmp_path, [STREET, AVENUE], length=[street * 1.2, None])
    lines = read_lines(LineSource(longer), GRID)
    assert length_of(lines) == [pytest.approx(street * 1.2, abs=1e-3), avenue]
    assert any("1 lines without one from the geometry" in line for line in lines.understood)
    degrees = write(tmp_path, [STREET, AVENUE], length=[0.02, 0.01])
    lines = read_lines(LineSource(degrees), GRID)
    assert length_of(lines) == [street, avenue]
    assert any("not taken for metres" in line for line in lines.understood)
    with pytest.raises(SourceError, match=r"not the metres of the lines; leave length_column out"):
        read_lines(LineSource(degrees, length_column="length"), GRID)


def test_multi_lines_are_exploded_and_share_their_length(tmp_path: Path) -> None:
    multi = shapely.MultiLineString([STREET, AVENUE])
    street, avenue = ground_m(STREET), ground_m(AVENUE)
    path = write(tmp_path, [multi], length_m=[1.5 * (street + avenue)])
    lines = read_lines(LineSource(path), GRID)
    assert (lines.account.read, lines.account.used) == (1, 1)
    assert lines.table["source_row"].tolist() == [0, 0]
    np.testing.assert_allclose(lines.table["length_m"], [1.5 * street, 1.5 * avenue], rtol=1e-4)
    np.testing.assert_allclose(lines.table["length_m"].sum(), 1.5 * (street + avenue), rtol=1e-12)


def written(tmp_path: Path, **columns: Any) -> tuple[pd.DataFrame, tuple[str, ...]]:
    n = len(next(iter(columns.values())))
    shapes = [shapely.affinity.translate(AVENUE, 0, 0.0005 * i) for i in range(n)]
    lines = read_lines(LineSource(write(tmp_path, shapes, name="roads.parquet", **columns)), GRID)
    return pd.DataFrame(lines.table), lines.understood


def test_lanes_and_speeds_as_people_write_them(tmp_path: Path) -> None:
    lanes = ["2", "['3', '2']", "1; 2", "many", None, "0", "3", "2"]
    speed = [
        "25 mph",
        "['signals', '30 mph']",
        "50",
        "RO:urban",
        None,
        "none",
        "40km/h",
        "30 @ (22:00-06:00)",
    ]
    table, understood = written(tmp_path, lanes=lanes, maxspeed=speed)
    nan = np.nan
    np.testing.assert_array_equal(table["lanes"], [2, 2.5, 1.5, nan, nan, nan, 3, 2])
    mph = 1.609344
    np.testing.assert_allclose(table["speed_kmh"], [25 * mph, 30 * mph, 50, nan, nan, nan, 40, nan])
    assert table["oneway"].isna().all()
    assert "lanes from 'lanes': 5 of 8 lines; 2 cannot be read (0, many)" in understood
    assert (
        "speed from 'maxspeed', km/h where no unit is written: 4 of 8 lines; "
        "3 cannot be read (30 @ (22:00-06:00), RO:urban, none)"
    ) in understood


def test_numbers_and_their_unit(tmp_path: Path) -> None:
    shapes = [shapely.affinity.translate(AVENUE, 0, 0.0005 * i) for i in range(3)]
    path = write(tmp_path, shapes, NUM_LANES=[2.0, None, 3.0], Posted=[25, 999, 40])
    source = LineSource(path, speed_column="Posted", speed_unit="mph", name="centre")
    table = read_lines(source, GRID).table
    np.testing.assert_array_equal(table["lanes"], [2, np.nan, 3])
    np.testing.assert_allclose(table["speed_kmh"], [25 * 1.609344, np.nan, 40 * 1.609344])
    with pytest.raises(
        SourceError, match=r"no column 'Speed' \(speed_column\); its columns: 'NUM_LANES', 'Posted'"
    ):
        read_lines(LineSource(path, speed_column="Speed"), GRID)


@pytest.mark.parametrize(
    ("marks", "oneway", "turned"),
    [
        (["yes", "no", "-1", "reversible", None], [True, False, True, None, None], 2),
        ([True, False, True, True, False], [True, False, True, True, False], None),
        (["1", "0", "-1", "1", "0"], [True, False, True, True, False], 2),
        (["F", "B", "T", "B", "B"], [True, False, True, False, False], 2),
        (["T", "F", "F", "T", "F"], [True, False, False, True, False], None),
    ],
)
def test_one_way_marks(tmp_path: Path, marks: list[Any], oneway: list[Any], turned: int | None) -> None:
    table, _ = written(tmp_path, oneway=marks)
    assert [None if pd.isna(v) else v for v in table["oneway"]] == oneway
    east = [shapely.get_coordinates(g)[-1, 0] > shapely.get_coordinates(g)[0, 0] for g in table["geometry"]]
    assert [i for i, drawn_east in enumerate(east) if not drawn_east] == ([] if turned is None else [turned])


def test_ways_listed_in_another_order_are_the_same_street(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [STREET, STREET.reverse(), STREET],
        u=[1, 2, 1],
        v=[2, 1, 2],
        osmid=["[7, 9, 8]", "[8, 7, 9]", "[7, 9]"],
    )
    lines = read_lines(LineSource(path), GRID)
    assert lines.account.left_out == {AGAIN: 1}
    assert lines.table["source_row"].tolist() == [0, 2]


def test_arcs_between_the_same_nodes_are_two_streets(tmp_path: Path) -> None:
    ends = {"u": [1, 1, 2, 2], "v": [2, 2, 1, 1], "osmid": ["7"] * 4}
    straight = [AVENUE, AVENUE, AVENUE.reverse(), AVENUE.reverse()]
    path = write(tmp_path, straight, length=[900.0, 900.4, 900.4, 900.0], **ends)
    lines = read_lines(LineSource(path), GRID)
    assert lines.account.left_out == {AGAIN: 2}
    assert sorted(lines.table["length_m"]) == [900.0, 900.4]
    # two sides of a square: of one length, drawn where they are
    (x0, y0), (x1, y1) = AVENUE.coords
    arcs = [shapely.LineString([(x0, y0), ((x0 + x1) / 2, y0 + dy), (x1, y1)]) for dy in (0.002, -0.002)]
    path = write(tmp_path, [*arcs, *(arc.reverse() for arc in arcs)], name="drawn.gpkg", **ends)
    assert read_lines(LineSource(path), GRID).account.used == 2


def test_a_loop_drawn_as_a_point_needs_a_declared_length(tmp_path: Path) -> None:
    here = shapely.Point(AVENUE.coords[0])
    loop = shapely.LineString([here, here])
    away = shapely.LineString([FAR.coords[0], FAR.coords[0]])
    path = write(
        tmp_path, [AVENUE, loop, away, loop], length=[830.0, 120.0, 90.0, None], name="roads.parquet"
    )
    found = read_lines(LineSource(path), GRID)
    assert found.account.rejected == {"zero length": 3}
    declared = read_lines(LineSource(path, length_column="length"), GRID)
    assert (declared.account.used, declared.account.outside) == (2, 1)
    assert declared.account.rejected == {"zero length": 1}
    assert declared.table["length_m"].tolist() == [830.0, 120.0]
    values = {column.name: v for column, v in road_columns(declared, GRID)}
    assert values["road_m"].sum() == pytest.approx(950.0)


def test_only_rows_to_keep(tmp_path: Path) -> None:
    shapes = [STREET, AVENUE, None, FAR]
    path = write(tmp_path, shapes, name="roads.parquet", owner=["city", "state", "state", "state"])
    lines = read_lines(LineSource(path, keep={"owner": ("city",)}), GRID)
    assert lines.account.left_out == {"not owner city": 3}
    assert (lines.account.read, lines.account.used, lines.account.rejected) == (4, 1, {})
    with pytest.raises(SourceError, match=r"no column 'Owner' \(keep\); did you mean 'owner'\?"):
        read_lines(LineSource(path, keep={"Owner": ("city",)}), GRID)
    with pytest.raises(
        SourceError, match=r"no row has owner = 'nobody' \(keep\); its values: 'city', 'state'"
    ):
        read_lines(LineSource(path, keep={"owner": ("nobody",)}), GRID)


def test_several_files_are_one_source(tmp_path: Path) -> None:
    write(tmp_path, [STREET, AVENUE], name="a.gpkg", lanes=["2", "1"])
    other = list(
        geopandas.GeoSeries([shapely.affinity.translate(AVENUE, 0, 0.01), FAR], crs=4326).to_crs(26986)
    )
    write(tmp_path, other, 26986, name="b.gpkg", NumLanes=[4, 4])
    lines = read_lines(LineSource((str(tmp_path / "a.gpkg"), str(tmp_path / "b.gpkg"))), GRID)
    assert (lines.account.read, lines.account.used, lines.account.outside) == (4, 3, 1)
    assert lines.table["source_row"].tolist() == [0, 1, 2]
    assert lines.table["lanes"].tolist() == [2, 1, 4]
    assert lines.understood[:2] == ("a.gpkg: GPKG", "b.gpkg: GPKG")
    # a street that two files share counts once
    write(tmp_path, [AVENUE.reverse()], name="c.gpkg", lanes=["1"])
    pattern = read_lines(LineSource(str(tmp_path / "[ac].gpkg")), GRID)
    assert pattern.account.left_out == {AGAIN: 1}


def test_vertices_that_are_no_numbers(tmp_path: Path) -> None:
    with np.errstate(invalid="ignore"):
        bad = [shapely.LineString([(-71.1, 42.35), (-71.1, value)]) for value in (np.nan, np.inf, -np.inf)]
    mixed = [STREET, *bad, shapely.box(-71.1, 42.34, -71.09, 42.35), shapely.GeometryCollection([STREET])]
    lines = read_lines(LineSource(write(tmp_path, mixed, name="roads.parquet")), GRID)
    assert lines.account.rejected == {"not a number": 3, "not a line": 2}
    assert lines.account.used == 1


@pytest.mark.parametrize(
    ("crs", "scale", "advice"),
    [
        (26986, 1, "the file says EPSG:26986, but these are degrees: write it again as EPSG:4326"),
        (4326, 1e4, "the file says EPSG:4326, but these are no degrees: write it again with the CRS"),
    ],
)
def test_a_crs_that_is_plainly_wrong(tmp_path: Path, crs: int, scale: float, advice: str) -> None:
    shape = shapely.affinity.scale(STREET, scale, scale, origin=(0, 0))
    with pytest.raises(SourceError, match=advice) as raised:
        read_lines(LineSource(write(tmp_path, [shape], crs)), GRID)
    assert "\n" not in str(raised.value)


def test_heights_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, [shapely.force_3d(STREET, 9.0)])
    lines = read_lines(LineSource(path), GRID)
    assert not shapely.has_z(lines.table.geometry).any()
    assert length_of(lines) == [round(ground_m(STREET), 3)]


def test_a_grid_at_the_antimeridian_keeps_its_roads(tmp_path: Path) -> None:
    grid = grid_of_cell(LngLatBbox(179.5, -17.0, 179.99, -16.5), 1000)
    west = shapely.LineString([(179.6, -16.8), (179.7, -16.8)])
    east = shapely.LineString([(-179.999, -16.8), (-179.998, -16.8)])
    away = shapely.LineString([(0.0, -16.8), (0.1, -16.8)])
    lines = read_lines(LineSource(write(tmp_path, [west, east, away])), grid)
    assert lines.table["source_row"].tolist() == [0, 1]
    assert lines.account.outside == 1
    np.testing.assert_allclose(lines.table["length_m"], [ground_m(west), ground_m(east)], rtol=1e-6)


def test_a_street_of_two_sources_counts_once(tmp_path: Path) -> None:
    other = shapely.affinity.translate(AVENUE, 0, 0.001)
    apart = shapely.affinity.translate(AVENUE, 0, 0.00001)  # a metre
    # shorter than a decimetre: lines all the same, and not all one street
    short = [shapely.LineString([(x, 42.35), (x + 1e-7, 42.35)]) for x in (-71.105, -71.11)]
    first = write(tmp_path, [STREET, AVENUE, short[0]], name="first.gpkg")
    shapes = list(geopandas.GeoSeries([STREET.reverse(), other, apart, short[1]], crs=4326).to_crs(26986))
    sources = tuple(
        read_lines(LineSource(path, name=name), GRID)
        for path, name in ((first, "first"), (write(tmp_path, shapes, 26986, "second.gpkg"), "second"))
    )
    joined, (one, two) = joined_lines(sources)
    assert joined.name == "roads"
    assert len(joined.table) == 6
    assert joined.table.crs == GRID.crs
    assert one.account == sources[0].account
    assert (two.account.read, two.account.used, two.account.left_out) == (4, 3, {AGAIN: 1})
    assert two.table["source_row"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(
        joined.table["length_m"].sum(), one.table["length_m"].sum() + two.table["length_m"].sum(), rtol=1e-12
    )


def test_a_source_given_twice_adds_nothing(tmp_path: Path) -> None:
    lines = read_lines(LineSource(write(tmp_path, [STREET, AVENUE, FAR])), GRID)
    joined, (one, two) = joined_lines([lines, lines])
    pd.testing.assert_frame_equal(pd.DataFrame(joined.table), pd.DataFrame(lines.table))
    assert one.account == lines.account
    assert (two.account.used, two.account.left_out, two.account.outside) == (0, {AGAIN: 2}, 1)
    assert len(two.table) == 0
    (alone, (same,)) = joined_lines([lines])
    assert same.account == lines.account
    pd.testing.assert_frame_equal(pd.DataFrame(alone.table), pd.DataFrame(lines.table))


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [STREET, FAR, AVENUE, STREET.reverse(), shapely.affinity.translate(AVENUE, 0, 0.01)]
    for name in ("roads.gpkg", "roads.parquet"):
        path = write(tmp_path, shapes, name=name)
        monkeypatch.setattr(tables, "CHUNK_ROWS", 200_000)
        whole = read_lines(LineSource(path), GRID)
        monkeypatch.setattr(tables, "CHUNK_ROWS", 2)
        cut = read_lines(LineSource(path), GRID)
        pd.testing.assert_frame_equal(pd.DataFrame(whole.table), pd.DataFrame(cut.table))
        assert (whole.account, whole.understood) == (cut.account, cut.understood)


@pytest.mark.parametrize(
    ("geometry", "crs", "message"),
    [
        ([FAR], 4326, "none of its lines is in the grid: they are in -72.1 42 -72 42, the grid in -71.2"),
        ([shapely.Point(-71.1, 42.3)], 4326, "holds no lines: not a line 1"),
        ([], 4326, "holds no lines"),
        ([STREET], None, "has no CRS; write it again"),
    ],
)
def test_sources_that_are_no_roads(tmp_path: Path, geometry: list[Any], crs: Any, message: str) -> None:
    logging.disable()
    path = write(tmp_path, geometry, crs, "roads.parquet")
    with pytest.raises(SourceError, match=message) as raised:
        read_lines(LineSource(path), GRID)
    assert "\n" not in str(raised.value)


def test_layers_and_tables_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "two.gpkg"
    for layer, shape in (("a", STREET), ("b", AVENUE)):
        geopandas.GeoDataFrame({"n": [1]}, geometry=[shape], crs=4326).to_file(path, layer=layer)
    with pytest.raises(SourceError, match=r"has layers a, b; name one with `layer`"):
        read_lines(LineSource(str(path)), GRID)
    assert length_of(read_lines(LineSource(str(path), layer="b"), GRID)) == [round(ground_m(AVENUE), 3)]
    with pytest.raises(SourceError, match=r"has no layer 'c'"):
        read_lines(LineSource(str(path), layer="c"), GRID)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match=r"is a table without lines"):
        read_lines(LineSource(str(tmp_path / "a.csv")), GRID)
    with pytest.raises(SourceError, match=r"no such file: none.gpkg"):
        read_lines(LineSource("none.gpkg"), GRID)


# real data

CARS = r"motorway|trunk|primary|secondary|tertiary|unclassified|residential|living_street|\broad\b"


@pytest.fixture(scope="module")
def boston(shared_data: Path) -> tuple[LineSource, Grid, pd.DataFrame]:
    """The roads, a grid around them all, and the rows that are roads for cars as geopandas reads them."""
    path = shared_data / "boston/roads.gpkg"
    raw = geopandas.read_file(path)
    raw["zero"] = raw.to_crs(26986).length == 0
    source = LineSource(str(path))
    grid = grid_of_cell(LngLatBbox(-71.85, 42.0, -70.55, 42.8), 1000)
    return source, grid, raw[raw["highway"].str.contains(CARS)]


def streets_of(raw: pd.DataFrame) -> list[float]:
    """The length of each street: the same two nodes, the same ways whatever their order, the same length."""
    known = {
        (frozenset((u, v)), frozenset(re.findall(r"\d+", way)), length): length
        for u, v, way, length in zip(raw["u"], raw["v"], raw["osmid"], raw["length"], strict=True)
    }
    return list(known.values())


def test_boston_roads(boston: tuple[LineSource, Grid, pd.DataFrame]) -> None:
    source, grid, raw = boston
    lines = read_lines(source, grid)
    assert (lines.account.read, lines.account.outside) == (141114, 0)
    assert lines.account.rejected == {"zero length": 999}
    once = streets_of(raw[~raw["zero"]])
    assert lines.account.used == len(once) == 78_870
    np.testing.assert_allclose(lines.table["length_m"].sum(), sum(once), rtol=1e-12)
    lanes, speed_kmh = lines.table["lanes"], lines.table["speed_kmh"]
    assert (lanes.min(), lanes.max()) == (1, 6)
    assert (speed_kmh.min(), speed_kmh.max()) == (5 * 1.609344, 65 * 1.609344)
    assert lines.table["oneway"].notna().all()
    assert "lanes from 'lanes': 126,316 of 140,021 lines" in lines.understood


def test_boston_loops_count_where_their_length_is_declared(
    boston: tuple[LineSource, Grid, pd.DataFrame],
) -> None:
    source, grid, raw = boston
    lines = read_lines(replace(source, length_column="length"), grid)
    assert lines.account.rejected == {}
    assert any("999 loops drawn as a point have theirs" in line for line in lines.understood)
    once = streets_of(raw)
    assert lines.account.used == len(once) == 79_385
    np.testing.assert_allclose(lines.table["length_m"].sum(), sum(once), rtol=1e-12)
    total = {column.name: values.sum() for column, values in road_columns(lines, grid)}["road_m"]
    np.testing.assert_allclose(total, sum(once), rtol=1e-12)


def test_an_extract_of_openstreetmap(shared_data: Path) -> None:
    grid = grid_of_cell(LngLatBbox(24.93, 60.16, 24.96, 60.18), 250)
    lines = read_lines(LineSource(str(shared_data / "osm/Helsinki.osm.pbf")), grid)
    assert (lines.account.read, lines.account.used, lines.account.outside) == (3887, 727, 0)
    # everything that is no road is in the same layer
    assert lines.account.left_out == {"not a road for cars (none, footway, service, trail, ...)": 3159}
    assert lines.account.rejected == {"zero length": 1}
    known = lines.table[["lanes", "speed_kmh", "oneway"]].notna().sum().to_dict()
    assert known == {"lanes": 511, "speed_kmh": 726, "oneway": 385}
    names = [column.name for column, _ in road_columns(lines, grid)]
    assert {"road_m_residential", "road_m_lanes_2", "road_m_speed_to_30", "road_turn_deg"} <= set(names)


def test_lines_without_a_class_are_said(tmp_path: Path) -> None:
    """Their metres are in `road_m` and in no column of a class."""
    path = write(tmp_path, [STREET, AVENUE], name="roads.parquet", functional_class=["1", None])
    lines = read_lines(LineSource(path), GRID)
    said = "class from 'functional_class', all kept; 1 of 2 lines have none, so no column of a class"
    assert said in "; ".join(lines.understood)
