from __future__ import annotations

import logging
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
from roadrisk.grid import Grid, LngLatBbox, grid_of_cell
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
    assert lines.account.rejected == {AGAIN: 1}
    assert lines.table["source_row"].tolist() == [0, 1, 3, 4]
    path = write(tmp_path, [STREET, AVENUE, STREET.reverse(), AVENUE], name="no_ids.gpkg")
    lines = read_lines(LineSource(path), GRID)
    assert lines.account.rejected == {AGAIN: 2}


def test_rows_without_ids_are_known_by_their_geometry(tmp_path: Path) -> None:
    path = write(
        tmp_path, [STREET, AVENUE, AVENUE.reverse()], u=[1.0, None, None], v=[2.0, 4, 5], osmid=[7.0, 8, 9]
    )
    assert read_lines(LineSource(path), GRID).account.rejected == {AGAIN: 1}


rows = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from(["7", "8"]),
        st.floats(100, 3000),
        st.sampled_from(["primary", "residential", "['primary', 'trunk']", "footway"]),
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
        u, v, way, length, road_class = zip(*some_rows, strict=True)
        shapes = [shapely.LineString([nodes[a], nodes[b]]) for a, b in zip(u, v, strict=True)]
        path = write(folder, shapes, 4326, name, u=u, v=v, osmid=way, length=length, highway=road_class)
        try:
            lines = read_lines(LineSource(path), GRID)
        except SourceError:
            return None
        return sorted(zip(lines.table["length_m"].round(6), lines.table["road_class"], strict=True))

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
        "not a road for cars (footway)": 1,
    }


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
    assert lines.account.rejected == {"not a road for cars (none, service)": 2}
    assert any("2 lines with several take the highest" in line for line in lines.understood)


def test_a_road_of_unknown_class_is_a_road_for_cars(tmp_path: Path) -> None:
    shapes = [shapely.affinity.translate(AVENUE, 0, 0.001 * i) for i in range(3)]
    path = write(tmp_path, shapes, highway=["road", "['road', 'residential']", "service"])
    lines = read_lines(LineSource(path), GRID)
    assert lines.table["road_class"].tolist() == ["road", "residential"]
    assert lines.account.rejected == {"not a road for cars (service)": 1}


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
    assert (two.account.read, two.account.used, two.account.rejected) == (4, 3, {AGAIN: 1})
    assert two.table["source_row"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(
        joined.table["length_m"].sum(), one.table["length_m"].sum() + two.table["length_m"].sum(), rtol=1e-12
    )


def test_a_source_given_twice_adds_nothing(tmp_path: Path) -> None:
    lines = read_lines(LineSource(write(tmp_path, [STREET, AVENUE, FAR])), GRID)
    joined, (one, two) = joined_lines([lines, lines])
    pd.testing.assert_frame_equal(pd.DataFrame(joined.table), pd.DataFrame(lines.table))
    assert one.account == lines.account
    assert (two.account.used, two.account.rejected, two.account.outside) == (0, {AGAIN: 2}, 1)
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
    with pytest.raises(SourceError, match=r"Layer 'c'"):
        read_lines(LineSource(str(path), layer="c"), GRID)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match=r"is a table without lines"):
        read_lines(LineSource(str(tmp_path / "a.csv")), GRID)
    with pytest.raises(SourceError, match=r"no such file: none.gpkg"):
        read_lines(LineSource("none.gpkg"), GRID)


# real data


@pytest.fixture(scope="module")
def boston(shared_data: Path) -> tuple[Path, Grid]:
    return shared_data / "boston/roads.gpkg", grid_of_cell(LngLatBbox(-71.85, 42.0, -70.55, 42.8), 1000)


def test_boston_roads(boston: tuple[Path, Grid]) -> None:
    path, grid = boston
    lines = read_lines(LineSource(str(path)), grid)
    assert (lines.account.read, lines.account.outside) == (141114, 0)
    assert lines.account.rejected["zero length"] == 999
    raw = geopandas.read_file(path)
    raw = raw[raw.to_crs(grid.crs).length > 0]
    cars = r"motorway|trunk|primary|secondary|tertiary|unclassified|residential|living_street|\broad\b"
    raw = raw[raw["highway"].str.contains(cars)]
    ends = np.sort(raw[["u", "v"]].to_numpy(), axis=1)
    once = raw.assign(a=ends[:, 0], b=ends[:, 1]).groupby(["a", "b", "osmid"])["length"].max()
    assert lines.account.used == len(once)
    np.testing.assert_allclose(lines.table["length_m"].sum(), once.sum(), rtol=1e-12)
