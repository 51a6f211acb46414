from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from roadrisk.errors import SourceError, UsageError
from roadrisk.features.areas import AreaFacts, area_columns
from roadrisk.grid import FloatArray, Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import AreaSource
from roadrisk.sources.account import Account
from roadrisk.sources.polygons import Polygons, read_polygons

GRID = grid_of_cell(LngLatBbox(-71.2, 42.3, -71.15, 42.33), 500)
BOSTON = LngLatBbox(-71.35, 42.20, -70.95, 42.42)
LEFT, BOTTOM, RIGHT, TOP = GRID.bounds
SOURCE = AreaSource("a.gpkg", sums=("people",), means=("income",))


def box(u0: float, v0: float, u1: float, v1: float) -> Any:
    """A box in tiles from the window's north-west corner."""
    return shapely.box(
        LEFT + u0 * GRID.cell, TOP - v1 * GRID.cell, LEFT + u1 * GRID.cell, TOP - v0 * GRID.cell
    )


def polygons(geometry: list[Any], people: list[float], income: list[float]) -> Polygons:
    table = geopandas.GeoDataFrame(
        {"source_row": range(len(geometry)), "people": people, "income": income},
        geometry=geometry,
        crs=GRID.crs,
    ).astype({"people": "float64", "income": "float64"})
    area = shapely.area(table.geometry.to_numpy())
    return Polygons("areas", table, area, Account("areas", len(geometry), len(geometry), {}, 0), ())


def values(made: AreaFacts) -> dict[str, FloatArray]:
    return {column.name: array.reshape(GRID.shape) for column, array in made.facts}


def whole_share(geometry: Any, grid: Grid) -> FloatArray:
    return shapely.area(shapely.intersection(geometry, shapely.box(*grid.bounds))) / shapely.area(geometry)


def test_sums_are_shared_out_and_means_averaged() -> None:
    made = values(
        area_columns(polygons([box(-1, 0, 1, 1), box(1, 0, 1.5, 1)], [10, 6], [20, 50]), SOURCE, GRID)
    )
    assert set(made) == {"areas_km2", "areas_people", "areas_income"}
    np.testing.assert_allclose(made["areas_people"][0, :3], [5, 6, np.nan])
    np.testing.assert_allclose(made["areas_income"][0, :3], [20, 50, np.nan])
    km2 = GRID.area_km2(*GRID.every_tile())[0]
    np.testing.assert_allclose(made["areas_km2"][0, :3], [km2, km2 / 2, 0], rtol=1e-4)
    assert np.isnan(made["areas_people"][1:]).all(), "where no polygon is, nothing is known"
    assert made["areas_km2"][1:].sum() == 0


def test_columns_say_what_they_are() -> None:
    made = area_columns(polygons([box(0, 0, 1, 1)], [1], [2]), SOURCE, GRID)
    said = {
        c.name: (c.unit, c.role, c.combine, c.by, c.source, array.shape == (GRID.size,), array.dtype)
        for c, array in made.facts
    }
    float64 = np.dtype("float64")
    assert said == {
        "areas_km2": ("km2", "info", "sum", (), "areas", True, float64),
        "areas_people": ("", "feature", "sum", (), "areas", True, float64),
        "areas_income": ("", "feature", "mean", ("areas_km2",), "areas", True, float64),
    }


def test_a_missing_value_is_missing_and_not_nothing() -> None:
    some = polygons(
        [box(0, 0, 0.5, 1), box(0.5, 0, 1, 1), box(1, 0, 2, 1)], [4, np.nan, np.nan], [np.nan, 8, np.nan]
    )
    made = values(area_columns(some, SOURCE, GRID))
    np.testing.assert_allclose(made["areas_people"][0, :2], [4, np.nan])
    np.testing.assert_allclose(made["areas_income"][0, :2], [8, np.nan])
    np.testing.assert_allclose(made["areas_income_km2"][0, :2], made["areas_km2"][0, :2] * [0.5, 0])
    by = {c.name: c.by for c, _ in area_columns(some, SOURCE, GRID).facts}
    assert by["areas_income"] == ("areas_income_km2",)


def test_a_tile_that_is_mostly_unknown_has_no_sum() -> None:
    some = polygons([box(0, 0, 0.01, 1), box(0.01, 0, 1, 1), box(1, 0, 1.5, 1)], [0, np.nan, 8], [1, 2, 3])
    made = area_columns(some, SOURCE, GRID)
    np.testing.assert_allclose(values(made)["areas_people"][0, :2], [np.nan, 8])
    assert made.said == (
        "'people' is missing in 1 tiles where less than half of the polygons' area has a number; "
        "0 of 8 lie there",
    )
    half = polygons([box(0, 0, 0.5, 1), box(0.5, 0, 1, 1)], [4, np.nan], [1, 2])
    assert values(area_columns(half, SOURCE, GRID))["areas_people"][0, 0] == pytest.approx(4)
    less = area_columns(polygons([box(0, 0, 0.4, 1), box(0.4, 0, 1, 1)], [4, np.nan], [1, 2]), SOURCE, GRID)
    assert np.isnan(values(less)["areas_people"][0, 0])
    assert less.said[0].endswith("; 4 of 4 lie there")


@pytest.mark.parametrize("box", [(-180, -90, 180, 90), (-125, 20, -60, 60)])
def test_a_polygon_larger_than_a_projection_reaches_is_shared_out(tmp_path: Path, box: Any) -> None:
    path = tmp_path / "world.geojson"
    world = shapely.box(*box)
    geopandas.GeoDataFrame({"people": [8e9], "income": [3.0]}, geometry=[world], crs=4326).to_file(path)
    source = replace(SOURCE, path=str(path))
    read = read_polygons(source, GRID)
    made = values(area_columns(read, source, GRID))
    assert (read.account.used, read.account.rejected) == (1, {})
    np.testing.assert_allclose(made["areas_income"], 3)
    km2 = GRID.area_km2(*GRID.every_tile()).sum()
    np.testing.assert_allclose(made["areas_km2"].sum(), km2, rtol=1e-9)
    west, south, east, north = box
    whole_km2 = 6371.007**2 * np.radians(east - west) * np.diff(np.sin(np.radians([south, north])))[0]
    np.testing.assert_allclose(made["areas_people"].sum(), 8e9 * km2 / whole_km2, rtol=0.01)


def named(columns: list[str], **settings: Any) -> AreaFacts:
    table = polygons([box(0, 0, 1, 1)], [1], [2])
    table = replace(table, table=table.table.assign(**dict.fromkeys(columns, 1.0)))
    return area_columns(table, AreaSource("a.gpkg", **settings), GRID)


def test_columns_are_named_in_words() -> None:
    odd = ["a\nb", "</script><script>alert(1)</script>", "=cmd|' /C calc'!A0", "x" * 300, "--"]
    made = named(odd, sums=tuple(odd[:3]), means=tuple(odd[3:]))
    assert [c.name for c, _ in made.facts] == [
        "areas_km2",
        "areas_a_b",
        "areas_script_script_alert_1_script",
        "areas_cmd_c_calc_a0",
        f"areas_{'x' * 64}",
        "areas_blank",
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["Median income", "median_INCOME"], "'median_INCOME' would be the column areas_median_income, as "),
        (["km2"], "'km2' would be the column areas_km2, as areas_km2 is"),
    ],
)
def test_two_columns_of_one_name_are_refused(columns: list[str], said: str) -> None:
    with pytest.raises(SourceError) as error:
        named(columns, sums=tuple(columns))
    assert str(error.value).startswith(f"a.gpkg: {said}")
    assert str(error.value).endswith("rename it in the file, or leave one out")


def test_overlapping_polygons_are_told() -> None:
    one = area_columns(polygons([box(0, 0, 3, 2), box(1, 0, 3, 1)], [6, 2], [1, 1]), SOURCE, GRID)
    assert one.said == (
        "polygons overlap: 2 tiles are covered up to 2.00 times, and sums count each time; "
        "leave copies and larger areas out with `keep`",
    )
    assert values(one)["areas_km2"].max() <= GRID.area_km2(*GRID.every_tile()).max()
    assert area_columns(polygons([box(0, 0, 3, 2)], [6], [1]), SOURCE, GRID).said == ()


def test_people_go_where_the_road_is() -> None:
    road = np.zeros(GRID.shape)
    road[0, 1], road[1, 1] = 300, 100
    source = replace(SOURCE, weight="roads")
    some = polygons([box(0, 0, 2, 2), box(-1, 2, 1, 3)], [80, 10], [1, 1])
    made = area_columns(some, source, GRID, road.ravel())
    people = values(made)["areas_people"]
    np.testing.assert_allclose(people[:2, :2], [[0, 60], [0, 20]])
    np.testing.assert_allclose(people[2, 0], 5)
    assert made.said == (
        "1 of 2 polygons have no road in the grid, or tiles whose roads are unknown; shared out by area",
    )
    partly = polygons([box(0, 0, 1.25, 1), box(1.25, 0, 3, 1)], [80, 10], [1, 1])
    road[0, 0] = 25
    people = values(area_columns(partly, source, GRID, road.ravel()))["areas_people"]
    np.testing.assert_allclose(people[0, :3], [20, 60 + 10, 0], err_msg="a quarter of a tile has a quarter")
    road[0, 0] = np.nan
    by_area = area_columns(some, source, GRID, road.ravel())
    np.testing.assert_allclose(values(by_area)["areas_people"][:2, :2], 20)
    assert by_area.said[0].startswith("2 of 2 polygons")


def test_weight_by_roads_needs_roads() -> None:
    with pytest.raises(UsageError) as error:
        area_columns(polygons([box(0, 0, 1, 1)], [1], [1]), replace(SOURCE, weight="roads"), GRID)
    assert str(error.value) == "areas: weight = 'roads' needs roads; give --roads or leave it out"


corner = st.integers(-16, 80).map(lambda n: n / 8)
blocks = st.lists(st.tuples(corner, corner, st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6)


def drawn(some: list[Any], random: Any) -> Polygons:
    geometry = [box(u, v, u + w / 8, v + h / 8) for u, v, w, h in some]
    return polygons(geometry, [random.randint(0, 1000) for _ in some], [random.uniform(-9, 9) for _ in some])


@settings(max_examples=60)
@given(blocks, st.randoms(), st.booleans())
def test_totals_in_the_grid_are_conserved(some: list[Any], random: Any, by_road: bool) -> None:
    table = drawn(some, random)
    road = np.array([random.choice([0.0, random.uniform(0, 9)]) for _ in range(GRID.size)])
    source = replace(SOURCE, weight="roads" if by_road else "area")
    made = values(area_columns(table, source, GRID, road))
    expected = float((table.table["people"] * whole_share(table.table.geometry.to_numpy(), GRID)).sum())
    np.testing.assert_allclose(np.nansum(made["areas_people"]), expected, rtol=1e-9, atol=1e-6)


@settings(max_examples=60)
@given(blocks, st.randoms())
def test_order_of_rows_changes_nothing(some: list[Any], random: Any) -> None:
    table = drawn(some, random)
    order = random.sample(range(len(some)), len(some))
    other = replace(table, table=table.table.iloc[order].reset_index(drop=True), area=table.area[order])
    here, there = (area_columns(t, SOURCE, GRID).facts for t in (table, other))
    for (column, a), (_, b) in zip(here, there, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=column.name)


@settings(max_examples=60)
@given(blocks, st.randoms())
def test_coarser_tiles_combine_to_the_same(some: list[Any], random: Any) -> None:
    coarse, left = GRID.coarser(2), shapely.box(*GRID.bounds)
    table, apart = drawn(some, random), []
    for one in table.table.geometry:  # what lies inside the finer window, and each place once
        apart.append(shapely.intersection(left, one))
        left = shapely.difference(left, one)
    frame = table.table.set_geometry(apart, crs=GRID.crs)
    kept = frame[shapely.area(apart) > 0].reset_index(drop=True)
    table = replace(table, table=kept, area=shapely.area(kept.geometry.to_numpy()))
    fine, wide = ({c.name: a for c, a in area_columns(table, SOURCE, g).facts} for g in (GRID, coarse))
    rows, cols = GRID.parents(*GRID.every_tile(), 2)

    def combined(array: FloatArray) -> FloatArray:
        return np.bincount(rows * coarse.cols + cols, np.nan_to_num(array), minlength=coarse.size)

    people, km2 = combined(fine["areas_people"]), combined(fine["areas_km2"])
    np.testing.assert_allclose(np.nan_to_num(wide["areas_people"]), people, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(wide["areas_km2"], km2, rtol=1e-4)
    with np.errstate(invalid="ignore"):
        income = combined(fine["areas_income"] * fine["areas_km2"]) / km2
    # tiles differ by some 1e-7 in their scale
    np.testing.assert_allclose(wide["areas_income"], income, rtol=1e-4, atol=1e-4)


def test_agrees_with_tobler_on_the_tracts_of_boston(shared_data: Path) -> None:
    tobler = pytest.importorskip("tobler.area_weighted", exc_type=ImportError)
    path = shared_data / "boston/areas/boston_census_tracts.geojson"
    grid = grid_of_cell(BOSTON, 500)
    sums, means = ("population2012", "black2012"), ("income2012",)
    source = AreaSource(str(path), sums=sums, means=means)
    made = {c.name: a for c, a in area_columns(read_polygons(source, grid), source, grid).facts}
    tracts = geopandas.read_file(path).to_crs(grid.crs)
    cells = geopandas.GeoDataFrame(geometry=grid.cells(*grid.every_tile()), crs=grid.crs)
    shared = tobler.area_interpolate(tracts, cells, extensive_variables=list(sums), allocate_total=False)
    knowing = tracts[tracts["income2012"].notna()]
    averaged = tobler.area_interpolate(knowing, cells, intensive_variables=list(means))
    for name in sums:
        known = ~np.isnan(made[f"areas_{name}"])
        np.testing.assert_allclose(made[f"areas_{name}"][known], shared[name][known], rtol=1e-6, atol=1e-9)
        assert shared[name][~known].fillna(0).eq(0).all()
    known = ~np.isnan(made["areas_income2012"])
    assert known.sum() > 2500
    np.testing.assert_allclose(
        made["areas_income2012"][known], averaged["income2012"][known], rtol=1e-6, atol=1e-6
    )
    assert (averaged["income2012"][~known].fillna(0) == 0).all()


def test_people_of_boston_are_conserved(shared_data: Path) -> None:
    path = shared_data / "boston/areas/boston_census_tracts.geojson"
    tracts = geopandas.read_file(path)
    around = grid_of_cell(LngLatBbox(*tracts.total_bounds), 1000)
    source = AreaSource(str(path), sums=("population2012",))
    read = read_polygons(source, around)
    assert str(read.account) == "areas: 987 rows read, 987 used, 0 outside the grid, 0 rejected"
    people = {c.name: a for c, a in area_columns(read, source, around).facts}["areas_population2012"]
    np.testing.assert_allclose(np.nansum(people), tracts["population2012"].sum(), rtol=1e-12)


# reading


def written(folder: Path, geometry: list[Any], crs: str | None = GRID.crs, **columns: list[Any]) -> str:
    path = folder / "areas.gpkg"
    frame = pd.DataFrame({"people": range(1, len(geometry) + 1), **columns})
    geopandas.GeoDataFrame(frame, geometry=geometry, crs=crs).to_file(path, layer="areas")
    return str(path)


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([(LEFT, TOP), (LEFT + 500, TOP - 500), (LEFT + 500, TOP), (LEFT, TOP - 500)])
    flat = shapely.Polygon([(LEFT, TOP), (LEFT + 500, TOP), (LEFT + 100, TOP), (LEFT, TOP)])
    infinite = shapely.Polygon([(LEFT, TOP), (np.inf, TOP), (LEFT, BOTTOM)])
    geometry = [
        box(0, 0, 1, 1),
        None,
        shapely.Polygon(),
        shapely.Point(LEFT + 1, TOP - 1),
        bow_tie,
        flat,
        infinite,
        box(-2, 0, 0, 1),
        box(40, 0, 41, 1),
        box(1, 1, 2, 2),
    ]
    path = written(tmp_path, geometry, kind=["a"] * 9 + ["b"], size=["1", "x", None, *"4567", "8", "9", "1"])
    source = AreaSource(path, sums=("people", "size"), keep={"kind": ("a",)})
    read = read_polygons(source, GRID)
    assert read.account == Account(
        "areas",
        10,
        2,
        {"no geometry": 1, "empty geometry": 1, "not a polygon": 1, "no area": 1, "not a number": 1},
        2,
        {"not kind a": 1},
    )
    assert read.table["source_row"].tolist() == [0, 4]
    assert read.table[["people", "size"]].to_numpy().tolist() == [[1, 1], [5, 5]]
    assert "1 polygons cross themselves; repaired to what their outer rings enclose" in read.understood
    np.testing.assert_allclose(read.table.geometry.area[1], 500 * 500 / 2)
    assert str(read.table.crs) == GRID.crs


def test_values_that_are_no_numbers_are_missing_and_counted(tmp_path: Path) -> None:
    income = ["12", "n/a", " 3.5 ", None, "inf", "-666666666"]
    path = written(tmp_path, [box(i, 0, i + 1, 1) for i in range(6)], income=income)
    read = read_polygons(AreaSource(path, means=("income",), name="tracts"), GRID)
    assert read.name == "tracts"
    np.testing.assert_array_equal(read.table["income"], [12, np.nan, 3.5, np.nan, np.nan, -666666666])
    assert read.understood == (
        "areas.gpkg: GPKG",
        "'income': 3 of 6 polygons have no number",
        "'income': 1 polygons are below 0, the least -666666666",
    )


def test_several_files_are_one_source(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = written(tmp_path, [box(0, 0, 1, 1), box(1, 0, 2, 1)])
    second = written(tmp_path / "other", [box(2, 0, 3, 1)])
    read = read_polygons(AreaSource((first, second), sums=("people",)), GRID)
    assert read.table["source_row"].tolist() == [0, 1, 2]
    assert read.account.read == read.account.used == 3


def test_polygons_in_degrees_and_across_the_world(tmp_path: Path) -> None:
    to_lnglat = Transformer.from_crs(GRID.crs, "EPSG:4326", always_xy=True)
    near = shapely.transform(box(0, 0, 1, 1), to_lnglat.transform, interleaved=False)
    path = written(tmp_path, [near, shapely.box(20, -1, 21, 1)], "EPSG:4326")
    read = read_polygons(AreaSource(path, sums=("people",)), GRID)
    assert (read.account.used, read.account.outside) == (1, 1)
    np.testing.assert_allclose(read.table.geometry.area[0], GRID.cell**2, rtol=1e-9)


def message(source: AreaSource) -> str:
    with pytest.raises(SourceError) as error:
        read_polygons(source, GRID)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_errors_say_what_where_and_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path, [box(0, 0, 1, 1)], name=["x"], income=[1.5])
    assert message(AreaSource(path)) == (
        f"{path}: say which columns are totals (`sums`, such as people) and which are levels (`means`, such "
        "as income) in the region file; its columns of numbers: 'people', 'income'"
    )
    assert message(AreaSource(path, sums=("peple",))) == (
        f"{path} has no column 'peple' (sums); did you mean 'people'? its columns: 'people', 'name', 'income'"
    )
    assert message(AreaSource(path, sums=("people",), means=("people",))) == (
        f"{path}: 'people' is both in sums and in means; leave it in one"
    )
    assert message(AreaSource(path, means=("name",))) == (
        f"{path}: 'name' holds no number in the grid; name another column"
    )
    assert message(AreaSource(path, sums=("people",), keep={"kind": ("a",)})).startswith(
        f"{path} has no column 'kind' (keep)"
    )
    assert message(AreaSource(str(tmp_path / "none.gpkg"))) == f"no such file: {tmp_path / 'none.gpkg'}"


def test_what_is_no_polygon_file_is_told(tmp_path: Path) -> None:
    csv = tmp_path / "areas.csv"
    csv.write_text("people\n1\n")
    assert message(AreaSource(str(csv), sums=("people",))) == (
        f"{csv} is a table without polygons; give a file of polygons, such as a .gpkg"
    )
    path = written(tmp_path, [box(0, 0, 1, 1)], None)
    assert message(AreaSource(path, sums=("people",))) == (
        f"{path} has no CRS; write it again with one, as in EPSG:4326"
    )
    (tmp_path / "far").mkdir()
    far = written(tmp_path / "far", [box(40, 0, 41, 1)])
    said = message(AreaSource(far, sums=("people",)))
    assert said.startswith(f"{far}: none of its polygons is in the grid: they are in ")
    assert said.endswith("(left bottom right top in their CRS); check --bbox")
    (tmp_path / "points").mkdir()
    points = written(tmp_path / "points", [shapely.Point(LEFT, TOP)])
    assert message(AreaSource(points, sums=("people",))) == (
        f"{points} holds no polygons that can be used: areas: 1 rows read, 0 used, 0 outside the grid, "
        "1 rejected (not a polygon 1)"
    )
