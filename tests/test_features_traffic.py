from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from roadrisk.columns import Column
from roadrisk.errors import SourceError
from roadrisk.features.traffic import TrafficFacts, traffic_columns
from roadrisk.grid import FloatArray, Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.source_settings import LineSource, TrafficSource
from roadrisk.sources.lines import Lines, read_lines
from roadrisk.sources.traffic import read_traffic

BOX = LngLatBbox(-71.15, 42.34, -71.10, 42.37)
GRID = grid_of_cell(BOX, 500)
GRIDS = [GRID, grid_of_zoom(BOX, 15)]
GEOD = Geod(ellps="WGS84")
NEW_YEAR = date(2024, 1, 1)

Line = list[tuple[float, float]]


def placed(grid: Grid, line: Line) -> shapely.LineString:
    """A line in cells from the window's north-west corner."""
    left, _, _, top = grid.bounds
    return shapely.LineString([(left + u * grid.cell, top - v * grid.cell) for u, v in line])


@cache
def to_lnglat(crs: str) -> Transformer:
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def ground_m(grid: Grid, line: Line) -> float:
    shape = shapely.transform(placed(grid, line), to_lnglat(grid.crs).transform, interleaved=False)
    return float(GEOD.geometry_length(shape))


def frame_of(grid: Grid, lines: list[Line], **columns: Any) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(columns, geometry=[placed(grid, line) for line in lines], crs=grid.crs)


def facts_of_lines(
    folder: Path, frame: geopandas.GeoDataFrame, grid: Grid, before: date | None = NEW_YEAR, **keys: Any
) -> TrafficFacts:
    path = folder / "volumes.parquet"
    frame.to_parquet(path)
    source = TrafficSource(str(path), **keys)
    return traffic_columns(read_traffic(source, grid, before), None, grid, source)


def roads_of(folder: Path, frame: geopandas.GeoDataFrame, grid: Grid) -> Lines:
    path = folder / "roads.parquet"
    frame.to_parquet(path)
    return read_lines(LineSource(str(path)), grid)


def facts_of_points(
    folder: Path,
    points: Line,
    roads: geopandas.GeoDataFrame | None,
    volumes: dict[str, Any],
    order: Any = None,
    **keys: Any,
) -> TrafficFacts:
    """Counts at points, in cells from the window's north-west corner of GRID."""
    left, _, _, top = GRID.bounds
    xy = {"x": [left + u * GRID.cell for u, _ in points], "y": [top - v * GRID.cell for _, v in points]}
    path = folder / "counts.csv"
    table = pd.DataFrame({**xy, **volumes})
    (table if order is None else table.iloc[order]).to_csv(path, index=False)
    source = TrafficSource(str(path), crs=GRID.crs, **keys)
    lines = None if roads is None else roads_of(folder, roads, GRID)
    return traffic_columns(read_traffic(source, GRID, NEW_YEAR), lines, GRID, source)


def column_of(facts: TrafficFacts, name: str) -> Column:
    return next(column for column, _ in facts.facts if column.name == name)


def values_of(facts: TrafficFacts, name: str, grid: Grid = GRID) -> FloatArray:
    """(rows, cols) values."""
    return next(v for column, v in facts.facts if column.name == name).reshape(grid.shape)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traffic")


def test_two_roads_of_known_volume(tmp_path: Path) -> None:
    # along the middle of row 0: through two tiles; and inside the second of them
    long, short = [(0.25, 0.5), (1.75, 0.5)], [(1.2, 0.2), (1.2, 0.4)]
    left_m, right_m = ground_m(GRID, [(0.25, 0.5), (1, 0.5)]), ground_m(GRID, [(1, 0.5), (1.75, 0.5)])
    short_m = ground_m(GRID, short)
    frame = frame_of(GRID, [long, short], AADT_2019=[20_000, 900], AADT_2022=[10_000, None])
    facts = facts_of_lines(tmp_path, frame, GRID)
    vkm, aadt, metres, year = (values_of(facts, f"traffic_{n}") for n in ("vkm_day", "aadt", "m", "year"))
    right_vkm = (10_000 * right_m + 900 * short_m) / 1000
    np.testing.assert_allclose(vkm[0, :2], [10_000 * left_m / 1000, right_vkm], rtol=1e-9)
    np.testing.assert_allclose(metres[0, :2], [left_m, right_m + short_m], rtol=1e-9)
    np.testing.assert_allclose(aadt[0, :2], [10_000, right_vkm * 1000 / (right_m + short_m)], rtol=1e-9)
    mean_year = (2022 * right_m + 2019 * short_m) / (right_m + short_m)
    np.testing.assert_allclose(year[0, :2], [2022, mean_year], rtol=1e-12)
    # elsewhere there is no volume, which is not a volume of 0
    for values in (vkm, aadt, year):
        assert np.isnan(values).sum() == GRID.size - 2
    assert (metres.ravel()[2:] == 0).all()


def test_columns_say_what_they_are(tmp_path: Path) -> None:
    frame = frame_of(
        GRID, [[(0, 0.5), (1, 0.5)], [(2, 2.5), (3, 2.5)]], AADT_2019=[1, 2], AADT_2022=[1, None]
    )
    facts = facts_of_lines(tmp_path, frame, GRID, name="counts")
    said = [(c.name, c.unit, c.role, c.combine, c.by, c.window) for c, _ in facts.facts]
    window = ("2019-01-01", "2023-01-01")
    assert said == [
        ("counts_aadt", "vehicles/day", "feature", "mean", ("counts_m",), window),
        ("counts_vkm_day", "vehicle-km/day", "exposure", "sum", (), window),
        ("counts_m", "m", "info", "sum", (), window),
        ("counts_year", "year", "info", "mean", ("counts_m",), window),
    ]
    assert {c.source for c, _ in facts.facts} == {"counts"}
    assert facts.account.used == 2
    assert facts.said == ("2 lines have a volume: 1.0 km in 2 of 80 tiles; elsewhere it is missing",)


def test_volumes_of_no_known_year_have_no_window(tmp_path: Path) -> None:
    facts = facts_of_lines(tmp_path, frame_of(GRID, [[(0, 0.5), (1, 0.5)]], AADT=[1]), GRID)
    assert [c.name for c, _ in facts.facts] == ["traffic_aadt", "traffic_vkm_day", "traffic_m"]
    assert {c.window for c, _ in facts.facts} == {None}


def test_some_volumes_of_no_known_year_leave_none(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.parquet" for name in "ab"]
    frame_of(GRID, [[(0, 0.5), (1, 0.5)]], AADT_2019=[1], AADT_2020=[2]).to_parquet(paths[0])
    frame_of(GRID, [[(0, 1.5), (1, 1.5)]], AADT=[3]).to_parquet(paths[1])
    source = TrafficSource(tuple(map(str, paths)))
    traffic = read_traffic(source, GRID, NEW_YEAR)
    assert traffic.undated
    facts = traffic_columns(traffic, None, GRID, source)
    assert {c.window for c, _ in facts.facts} == {None}
    assert facts.said[0] == (
        "1 of 2 volumes are of no known year, so no dates are known of any; "
        "tell them with `year`, for each file as a source of its own"
    )
    one = TrafficSource(str(paths[0]))
    dated = read_traffic(one, GRID, NEW_YEAR)
    assert not dated.undated
    assert traffic_columns(dated, None, GRID, one).facts[0][0].window == ("2020-01-01", "2021-01-01")


# on grid lines, on corners, between, outside; by 64ths, as the oracle's hair must not count for metres
sixty_fourth = st.integers(-2 * 64, 8 * 64).map(lambda n: n / 64)
drawn_lines = st.lists(
    st.tuples(
        st.lists(st.tuples(sixty_fourth, sixty_fourth), min_size=2, max_size=4),
        st.one_of(st.none(), st.integers(1, 100_000)),
        st.one_of(st.none(), st.integers(1, 100_000)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=15)
@given(st.sampled_from(GRIDS), drawn_lines, st.randoms(use_true_random=False))
def test_vehicle_km_are_conserved(folder: Path, grid: Grid, drawn: list[Any], random: Any) -> None:
    box = shapely.box(*grid.bounds)
    drawn = [d for d in drawn if len(set(d[0])) > 1 and (d[1] or d[2])]
    # drawn alike they would be one line
    drawn = list({shapely.normalize(placed(grid, d[0])).wkb: d for d in drawn}.values())
    drawn = [d for d in drawn if placed(grid, d[0]).intersection(box).length > grid.cell * 1e-3]
    if not drawn or not any(d[1] for d in drawn):
        return
    names = {"AADT_2020": [d[1] for d in drawn], "AADT_2024": [d[2] for d in drawn]}
    frame = frame_of(grid, [d[0] for d in drawn], **{n: np.array(v, dtype=float) for n, v in names.items()})
    facts = facts_of_lines(folder, frame, grid, each_year=True)
    for name, column in (
        ("vkm_day", "AADT_2020"),
        ("vkm_day_2020", "AADT_2020"),
        ("vkm_day_2024", "AADT_2024"),
    ):
        known = frame[frame[column].notna()]
        total = np.nansum(values_of(facts, f"traffic_{name}", grid))
        np.testing.assert_allclose(total, inside_vkm(grid, known, column), rtol=1e-6, atol=1e-3)
    order = list(range(len(frame)))
    random.shuffle(order)
    again = facts_of_lines(folder, frame.iloc[order], grid, each_year=True)
    for (column, values), (same, shuffled) in zip(facts.facts, again.facts, strict=True):
        assert column == same
        np.testing.assert_allclose(shuffled, values, rtol=1e-12)


def inside_vkm(grid: Grid, frame: geopandas.GeoDataFrame, column: str) -> float:
    """Vehicle-km a day by shapely and Geod: of each segment the part in the grid's box."""
    # a hair up and left: a line along an edge belongs right of and below it
    hair = grid.cell * 2e-9
    left, bottom, right, top = grid.bounds
    box = shapely.box(left - hair, bottom + hair, right - hair, top + hair)
    total = 0.0
    for shape, aadt in zip(frame.geometry, frame[column], strict=True):
        ends = shapely.get_coordinates(shape)
        for segment in shapely.linestrings(np.stack([ends[:-1], ends[1:]], axis=1)):
            cut = shapely.intersection(segment, box)
            cut = shapely.transform(cut, to_lnglat(grid.crs).transform, interleaved=False)
            total += aadt * float(GEOD.geometry_length(cut)) / 1000
    return total


@pytest.mark.parametrize("factor", [2, 4])
def test_coarser_tiles_hold_the_same(tmp_path: Path, factor: int) -> None:
    rng = np.random.default_rng(factor)
    lines = [[tuple(a), tuple(b)] for a, b in rng.uniform(1, 6, (30, 2, 2))]
    frame = frame_of(GRID, lines, AADT=rng.integers(1, 50_000, 30))
    coarse = GRID.coarser(factor)
    fine_facts, facts = (facts_of_lines(tmp_path, frame, g) for g in (GRID, coarse))
    row, col = GRID.parents(*GRID.every_tile(), factor)
    for name in ("traffic_vkm_day", "traffic_m"):
        fine = np.nan_to_num(values_of(fine_facts, name).ravel())
        expected = np.bincount(row * coarse.cols + col, fine, minlength=coarse.size)
        found = np.nan_to_num(values_of(facts, name, coarse).ravel())
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


ROADS: list[Line] = [
    [(0.5, 1.5), (3.5, 1.5)],
    [(0.5, 3.5), (3.5, 3.5)],
    [(3.5, 3.5), (3.5, 1.5)],
    [(5.1, 3.2), (5.9, 3.2)],
]
CLASSES = ["primary", "primary", "primary", "residential"]


def test_a_count_is_carried_by_the_nearest_road(tmp_path: Path) -> None:
    roads = frame_of(GRID, ROADS, highway=CLASSES)
    # 10 m and 20 m from the first two roads, 50 m from the third
    points = [(1.2, 1.52), (1.2, 3.46), (3.6, 2.5)]
    facts = facts_of_points(tmp_path, points, roads, {"AADT": [1000, 2000, 4000]})
    np.testing.assert_allclose(
        np.nansum(values_of(facts, "traffic_vkm_day")),
        ground_m(GRID, ROADS[0]) + 2 * ground_m(GRID, ROADS[1]),
        rtol=1e-9,
    )
    assert values_of(facts, "traffic_aadt")[1, 2] == pytest.approx(1000)
    assert values_of(facts, "traffic_aadt")[3, 2] == pytest.approx(2000)
    assert str(facts.account) == (
        "traffic: 3 rows read, 2 used, 0 outside the grid, 1 left out (no road within 30 m 1), 0 rejected"
    )
    assert facts.said[0] == (
        "2 counts matched to 2 roads, 1 without a road within 30 m; distance 15.0 m (median), 20.0 m (largest)"
    )
    wider = facts_of_points(tmp_path, points, roads, {"AADT": [1000, 2000, 4000]}, max_distance_m=60)
    assert wider.account.left_out == {}
    assert values_of(wider, "traffic_aadt")[2, 3] == pytest.approx(4000)


def test_distances_are_ground_metres(tmp_path: Path) -> None:
    grid = GRIDS[1]  # whose metres are 1.35 times too long
    roads = roads_of(tmp_path, frame_of(grid, [[(1, 1.5), (2, 1.5)]], highway=["primary"]), grid)
    left, _, _, top = grid.bounds
    source = TrafficSource(str(tmp_path / "c.csv"), crs=grid.crs, max_distance_m=20)
    y = top - 1.5 * grid.cell - np.array([19.5, 20.5]) * grid.cell / grid.cell_m
    pd.DataFrame({"x": left + 1.3 * grid.cell, "y": y, "AADT": [5, 6]}).to_csv(source.paths[0], index=False)
    facts = traffic_columns(read_traffic(source, grid, None), roads, grid, source)
    assert facts.account.left_out == {"no road within 20 m": 1}
    assert np.nanmax(values_of(facts, "traffic_aadt", grid)) == pytest.approx(5)


def test_of_several_counts_on_a_road_the_mean_of_the_newest_year_stands(tmp_path: Path) -> None:
    roads = frame_of(GRID, ROADS, highway=CLASSES)
    points = [(1.0, 1.5), (2.0, 1.5), (2.2, 1.5), (1.0, 3.5)]
    volumes = {"2019": [100, 7, 8, None], "2021": [None, 200, 400, 50]}
    facts = facts_of_points(tmp_path, points, roads, volumes, each_year=True)
    assert values_of(facts, "traffic_aadt")[1, 1] == pytest.approx(300)
    assert values_of(facts, "traffic_year")[1, 1] == pytest.approx(2021)
    assert values_of(facts, "traffic_aadt_2019")[1, 1] == pytest.approx(115 / 3)
    assert np.isnan(values_of(facts, "traffic_aadt_2019")[3, 1])
    assert facts.said[1] == "2 counts share a road with another: the mean of the newest year's stands"


def test_years_of_the_label_window_are_no_features(tmp_path: Path) -> None:
    frame = frame_of(GRID, [[(0, 0.5), (1, 0.5)]], AADT_2023=[1], AADT_2024=[2])
    facts = facts_of_lines(tmp_path, frame, GRID, each_year=True)
    roles = {c.name: c.role for c, _ in facts.facts if "aadt" in c.name}
    assert roles == {"traffic_aadt": "feature", "traffic_aadt_2023": "feature", "traffic_aadt_2024": "info"}
    assert column_of(facts, "traffic_aadt").window == ("2023-01-01", "2024-01-01")
    assert column_of(facts, "traffic_vkm_day_2024").window == ("2024-01-01", "2025-01-01")
    assert column_of(facts, "traffic_aadt_2024").by == ("traffic_m_2024",)
    features = [c for c, _ in facts.facts if c.role == "feature"]
    assert all(c.window is not None and c.window[1] <= "2024-01-01" for c in features)


def test_shuffled_rows_leave_every_road_its_own_traffic(tmp_path: Path) -> None:
    # a defect of published code: features of edges looked up by a shuffled list of them
    rng = np.random.default_rng(5)
    lines = [
        [tuple(a), tuple(a + b)]
        for a, b in zip(rng.uniform(0, 6, (50, 2)), rng.uniform(-1, 1, (50, 2)), strict=True)
    ]
    roads = frame_of(GRID, lines, highway=["primary"] * 50)
    # some on the roads, some on junctions of several
    points = [tuple(rng.uniform(0.2, 0.8) * (np.array(b) - a) + a) for a, b in lines] + [lines[3][0]] * 3
    volumes = {"2020": rng.integers(1, 10**5, 53), "2022": np.where(rng.random(53) < 0.5, np.nan, 777)}
    first, *others = [
        facts_of_points(
            tmp_path,
            points,
            roads.iloc[rng.permutation(50)],
            volumes,
            order=rng.permutation(53),
            each_year=True,
        )
        for _ in range(4)
    ]
    for facts in others:
        assert facts.account == first.account
        for (column, values), (same, expected) in zip(facts.facts, first.facts, strict=True):
            assert column == same
            np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_a_count_on_a_junction_goes_to_the_longest_road(tmp_path: Path) -> None:
    directions = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    for longest in range(4):
        lines: list[Line] = [
            [(2, 2.5), (2 + x * length, 2.5 + y * length)]
            for i, (x, y) in enumerate(directions)
            for length in [0.9 if i == longest else 0.6]
        ]
        for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
            roads = frame_of(GRID, [lines[i] for i in order], highway=["primary"] * 4)
            facts = facts_of_points(tmp_path, [(2, 2.5)], roads, {"AADT": [1000]})
            total = np.nansum(values_of(facts, "traffic_vkm_day"))
            assert total == pytest.approx(ground_m(GRID, lines[longest]), rel=1e-9)


def test_imputed_volumes_are_the_median_of_the_class_and_flagged(tmp_path: Path) -> None:
    lines: list[Line] = [[(0.1, r + 0.5), (0.9, r + 0.5)] for r in range(7)]
    lines += [[(1.1, 0.5), (1.9, 0.5)], [(1.1, 1.5), (1.9, 1.5)], [(2.1, 0.5), (2.9, 0.5)]]
    classes = ["primary"] * 3 + ["residential"] * 4 + ["primary", "residential", "tertiary"]
    roads = frame_of(GRID, lines, highway=classes)
    points, volumes = [(0.5, r + 0.5) for r in range(5)], [1000, 2500, 9000, 50, 60]
    plain = facts_of_points(tmp_path, points, roads, {"AADT_2020": volumes})
    assert np.isnan(values_of(plain, "traffic_aadt")[0, 1])
    facts = facts_of_points(tmp_path, points, roads, {"AADT_2020": volumes}, impute="class median")
    aadt, imputed = values_of(facts, "traffic_aadt"), values_of(facts, "traffic_imputed")
    np.testing.assert_allclose(aadt[:5, 0], volumes)
    assert aadt[0, 1] == pytest.approx(2500)  # three primary roads
    # of residential roads two have a count, of tertiary ones none: the median of all
    np.testing.assert_allclose([aadt[5, 0], aadt[1, 1], aadt[0, 2]], 1000)
    assert (imputed[:5, 0] == 0).all()
    np.testing.assert_allclose([imputed[5, 0], imputed[0, 1]], 1)
    assert np.isnan(imputed[0, 3])
    assert column_of(facts, "traffic_imputed").by == ("traffic_imputed_m", "traffic_m")
    assert facts.said[1] == (
        "5 lines without a volume have an imputed one: 1 the median of their class, 4 that of all, 1,000, as "
        "fewer than 3 lines of their class have one"
    )
    everywhere = sum(ground_m(GRID, line) for line in lines)
    assert values_of(facts, "traffic_m").sum() == pytest.approx(everywhere, rel=1e-9)
    assert values_of(facts, "traffic_imputed_m").sum() == pytest.approx(
        sum(ground_m(GRID, line) for line in lines[5:]), rel=1e-9
    )


def test_lines_without_a_volume_are_imputed_too(tmp_path: Path) -> None:
    lines: list[Line] = [[(0.1, r + 0.5), (0.9, r + 0.5)] for r in range(4)]
    frame = frame_of(GRID, lines, AADT_2020=[10, 20, 90, None], highway=["primary"] * 4)
    facts = facts_of_lines(tmp_path, frame, GRID, impute="class median")
    assert values_of(facts, "traffic_aadt")[3, 0] == pytest.approx(20)
    assert values_of(facts, "traffic_imputed")[:4, 0].tolist() == [0, 0, 0, 1]
    assert facts.account.used == 4


def test_nothing_to_impute_from(tmp_path: Path) -> None:
    frame = frame_of(GRID, [[(0.1, 0.5), (0.9, 0.5)]], AADT_2024=[10])
    with pytest.raises(SourceError, match="impute needs a count of before the label window"):
        facts_of_lines(tmp_path, frame, GRID, impute="class median", each_year=True)


def test_counts_at_points_need_roads(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        facts_of_points(tmp_path, [(1, 1)], None, {"AADT": [1]})
    assert str(error.value) == (
        f"{tmp_path / 'counts.csv'}: counts at points need roads to stand on; give centre-lines with --roads, "
        "or volumes on lines"
    )


def test_counts_far_from_every_road(tmp_path: Path) -> None:
    roads = frame_of(GRID, ROADS, highway=CLASSES)
    with pytest.raises(SourceError) as error:
        facts_of_points(tmp_path, [(1, 2.5), (2, 2.4)], roads, {"AADT": [1, 2]})
    assert str(error.value) == (
        f"{tmp_path / 'counts.csv'}: none of its 2 counts is within 30 m of a road, the nearest is 450 m away; "
        "check the CRS of both, or give a larger max_distance_m"
    )


def test_cambridge_counts_stand_on_boston_roads(shared_data: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-71.17, 42.34, -71.05, 42.41), 250)
    boston = shared_data / "boston"
    source = TrafficSource(str(boston / "traffic/cambridge_average_daily_traffic.csv"))
    roads = read_lines(
        LineSource(str(boston / "roads.gpkg"), class_column="highway", length_column="length"), grid
    )
    traffic = read_traffic(source, grid, NEW_YEAR)
    facts = traffic_columns(traffic, roads, grid, source)
    # geopandas matches the same counts at the same distances
    to_metres = grid.cell_m / grid.cell
    matched = geopandas.sjoin_nearest(
        traffic.table.reset_index(names="count"),
        roads.table[["length_m", "geometry"]].reset_index(drop=True).reset_index(names="road"),
        max_distance=30 / to_metres,
        distance_col="far",
    )
    far = matched.drop_duplicates("count")["far"] * to_metres
    share = len(far) / 312
    assert share > 0.9
    assert facts.account.used == len(far)
    assert str(facts.account) == (
        f"traffic: 313 rows read, {len(far)} used, 0 outside the grid, {312 - len(far)} left out (no road within "
        f"30 m {312 - len(far)}), 1 rejected (no count 1)"
    )
    said = f"distance {far.median():.1f} m (median), {far.max():.1f} m (largest)"
    assert facts.said[0].endswith(said)
    assert far.median() < 2
    # every vehicle-km of the roads that carry a count is in the tiles
    longest = matched.sort_values("length_m_right").drop_duplicates("count", keep="last")
    newest = longest["aadt_year"] == longest.groupby("road")["aadt_year"].transform("max")
    carried = longest[newest].groupby("road")["aadt"].mean()
    road = roads.table.reset_index(drop=True).loc[carried.index]
    inside = shapely.length(road.geometry.intersection(shapely.box(*grid.bounds))) / road.geometry.length
    total = float((carried * road["length_m"] * inside).sum()) / 1000
    assert np.nansum(values_of(facts, "traffic_vkm_day", grid)) == pytest.approx(total, rel=1e-6)
    assert values_of(facts, "traffic_m", grid).sum() == pytest.approx(
        float((road["length_m"] * inside).sum())
    )
