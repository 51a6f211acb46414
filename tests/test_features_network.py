from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from roadrisk.features.network import Junctions, junctions, network_columns
from roadrisk.grid import FloatArray, Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.source_settings import LineSource
from roadrisk.sources.account import Account
from roadrisk.sources.lines import Lines, read_lines

BOX = LngLatBbox(-71.2, 42.3, -71.15, 42.33)
GRIDS = [grid_of_cell(BOX, 500), grid_of_zoom(BOX, 15)]
GRID = GRIDS[0]
Metres = list[tuple[float, float]]


def network(grid: Grid, streets: list[Metres], oneway: list[Any] | None = None, **columns: Any) -> Lines:
    """Streets whose vertices are ground metres east and north of a point 1 km inside the grid."""
    left, bottom, _, _ = grid.bounds
    scale = grid.cell / grid.cell_m
    shapes = [
        shapely.LineString([(left + (x + 1000) * scale, bottom + (y + 1000) * scale) for x, y in s])
        for s in streets
    ]
    length_m = [shape.length / scale for shape in shapes]
    n = len(streets)
    table = geopandas.GeoDataFrame(
        {
            "source_row": range(n),
            "road_class": pd.array([None] * n, dtype="string"),
            "length_m": length_m,
            "lanes": np.nan,
            "speed_kmh": np.nan,
            "oneway": pd.array(oneway or [None] * n, dtype="boolean"),
            **columns,
        },
        geometry=shapes,
        crs=grid.crs,
    )
    return Lines("roads", table, Account("roads", n, n, {}, 0), ())


def legs(found: Junctions) -> list[int]:
    return sorted(found.legs.tolist())


def at(found: Junctions, grid: Grid) -> dict[tuple[float, float], int]:
    """Legs by place, in metres as `network` takes them."""
    left, bottom, _, _ = grid.bounds
    scale = grid.cell / grid.cell_m
    x, y = (found.x - left) / scale - 1000, (found.y - bottom) / scale - 1000
    # to 5 m: ground metres of a Mercator grid change a little over it
    places = zip((np.round(x / 5) * 5).tolist(), (np.round(y / 5) * 5).tolist(), strict=True)
    return dict(zip(places, found.legs.tolist(), strict=True))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_grid_of_streets(grid: Grid, whole: bool) -> None:
    # whole: a street is one line that runs through its crossings; else one from crossing to crossing
    ticks = [0.0, 100.0, 200.0, 300.0]
    across = [[(x, y) for x in ticks] for y in ticks] + [[(x, y) for y in ticks] for x in ticks]
    streets = across if whole else [[a, b] for s in across for a, b in pairwise(s)]
    found = at(junctions(network(grid, streets), grid), grid)
    # the four corners only go on, whether by one line or by two
    inner = {(x, y): 4 for x in (100.0, 200.0) for y in (100.0, 200.0)}
    edges = {p: 3 for x in (0.0, 300.0) for y in (100.0, 200.0) for p in ((x, y), (y, x))}
    assert found == inner | edges


def test_a_street_into_the_middle_of_another() -> None:
    through = [(0.0, 0.0), (100.0, 0.0), (200.0, 0.0)]
    stem = [(100.0, 0.0), (100.0, 80.0)]
    assert at(junctions(network(GRID, [through, stem]), GRID), GRID) == {
        (100.0, 0.0): 3,
        (0.0, 0.0): 1,
        (200.0, 0.0): 1,
        (100.0, 80.0): 1,
    }
    # without a vertex there they do not meet: a bridge
    assert legs(junctions(network(GRID, [[(0, 0), (200, 0)], [(100, -50), (100, 50)]]), GRID)) == [1, 1, 1, 1]


DIVIDED = [
    [(-150.0, 5.0), (0.0, 5.0)],
    [(0.0, 5.0), (150.0, 5.0)],
    [(150.0, -5.0), (0.0, -5.0)],
    [(0.0, -5.0), (-150.0, -5.0)],
]
CROSSED = [[(0.0, -150.0), (0.0, -5.0)], [(0.0, -5.0), (0.0, 5.0)], [(0.0, 5.0), (0.0, 150.0)]]


def test_a_divided_road_crosses_a_street_once() -> None:
    found = junctions(network(GRID, DIVIDED + CROSSED, [True] * 4 + [False] * 3), GRID)
    assert at(found, GRID)[(0.0, 0.0)] == 4
    assert (found.legs >= 3).sum() == 1
    # nothing says that the carriageways are one-way
    found = junctions(network(GRID, DIVIDED + CROSSED), GRID)
    assert at(found, GRID)[(0.0, 0.0)] == 6


def test_two_divided_roads_cross_once() -> None:
    east = [[(-150.0, y), (-5.0, y), (5.0, y), (150.0, y)][:: 1 if y < 0 else -1] for y in (-5.0, 5.0)]
    north = [[(x, -150.0), (x, -5.0), (x, 5.0), (x, 150.0)][:: 1 if x > 0 else -1] for x in (-5.0, 5.0)]
    found = junctions(network(GRID, east + north, [True] * 4), GRID)
    assert at(found, GRID)[(0.0, 0.0)] == 4
    assert (found.legs >= 3).sum() == 1


def test_a_street_that_becomes_divided_goes_on() -> None:
    streets = [
        [(-100.0, 0.0), (0.0, 0.0)],
        [(0.0, 0.0), (60.0, -6.0), (200.0, -6.0)],
        [(200.0, 6.0), (60.0, 6.0), (0.0, 0.0)],
    ]
    assert (0.0, 0.0) not in at(junctions(network(GRID, streets, [False, True, True]), GRID), GRID)


def test_ramps() -> None:
    # a ramp leaves a carriageway and ends at a street far away
    motorway = [[(-300.0, 0.0), (0.0, 0.0)], [(0.0, 0.0), (300.0, 0.0)]]
    ramp, street = (
        [(0.0, 0.0), (100.0, 20.0), (200.0, 100.0)],
        [(200.0, 0.1 + 200), (200.0, 100.0), (250.0, 50.0)],
    )
    found = at(junctions(network(GRID, [*motorway, ramp, street], [True, True, True, False]), GRID), GRID)
    assert found[(0.0, 0.0)] == found[(200.0, 100.0)] == 3


def circle(radius: float, n: int = 24) -> Metres:
    angles = np.linspace(0, 2 * np.pi, n + 1)
    return [(round(radius * float(np.cos(a)), 6), round(radius * float(np.sin(a)), 6)) for a in angles]


def test_roundabouts() -> None:
    def crossing(radius: float) -> Lines:
        arms = [
            [(radius * x, radius * y), (200.0 * x, 200.0 * y)] for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))
        ]
        return network(GRID, [circle(radius), *arms], [True] + [False] * 4)

    # a small one is a junction, a large one is as many as it has arms
    assert at(junctions(crossing(10.0), GRID), GRID)[(0.0, 0.0)] == 4
    large = junctions(crossing(60.0), GRID).legs
    assert (large == 3).sum() == 4
    assert (large > 3).sum() == 0


def test_turning_circles_and_loops() -> None:
    stem = [(-100.0, 0.0), (9.0, 0.0)]
    assert legs(junctions(network(GRID, [stem, circle(9.0)]), GRID)) == [1, 1]
    assert legs(junctions(network(GRID, [[(-100.0, 0.0), (60.0, 0.0)], circle(60.0)]), GRID)) == [1, 3]
    # drawn as their one node, loops are known by their length
    point = [(0.0, 0.0), (0.0, 0.0)]
    stem = [(-100.0, 0.0), (0.0, 0.0)]
    assert legs(junctions(network(GRID, [stem, point], length_m=[100.0, 400.0]), GRID)) == [1, 3]
    assert legs(junctions(network(GRID, [stem, point], length_m=[100.0, 40.0]), GRID)) == [1, 1]


def test_the_two_arcs_of_a_crescent_are_two_legs() -> None:
    streets = [[(-100.0, 0.0), (0.0, 0.0)], [(0.0, 0.0), (90.0, 0.0)], [(0.0, 0.0), (90.0, 0.0)]]
    found = at(junctions(network(GRID, streets, length_m=[100.0, 90.0, 250.0]), GRID), GRID)
    assert found[(0.0, 0.0)] == 3


crowd = st.lists(
    st.lists(st.tuples(st.integers(-60, 60), st.integers(-2, 2)), min_size=2, max_size=3, unique=True),
    min_size=2,
    max_size=14,
)


@settings(max_examples=80)
@given(crowd, st.booleans())
def test_crowded_nodes_are_joined_as_all_pairs_would(some: list[Any], flat: bool) -> None:
    # every street twice is a node of many legs; on one line there are no triangles
    streets = [[(9.0 * x, 0.0 if flat else 9.0 * y) for x, y in one] for one in some]
    streets = [[a, b] for one in streets for a, b in pairwise(one) if a != b]
    spokes = [[a, (a[0] + 3.0 * k, a[1] + 500.0)] for street in streets for a in street for k in (-1, 1, 2)]
    lines = network(GRID, streets + spokes)
    found = []
    for pairs in (-1, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("roadrisk.features.network._PAIRS", pairs)
            found.append(junctions(lines, GRID))
    for name in ("x", "y", "legs"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


def test_a_crowd_of_nodes_is_one_junction() -> None:
    rng = np.random.default_rng(0)
    at = [tuple(xy) for xy in rng.uniform(0, 15, (10_000, 2)).tolist()]  # 50 million pairs
    streets = [[at[i], at[(7 * i + 1) % len(at)]] for i in range(len(at))]
    tracemalloc.start()
    found = junctions(network(GRID, [*streets, [at[0], at[5]], [at[0], (900.0, 0.0)]]), GRID)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert len(found.legs) <= 2


def test_dead_ends_at_the_edge_are_not_invented() -> None:
    left, bottom, right, _ = GRID.bounds
    width = right - left - 1000
    found = network_columns(network(GRID, [[(-1500.0, 0.0), (width + 500, 0.0)]]), GRID)
    assert {column.name: values.sum() for column, values in found} == {
        "road_junctions_3": 0,
        "road_junctions_4plus": 0,
        "road_dead_ends": 0,
    }
    found = network_columns(network(GRID, [[(-1500.0, 0.0), (250.0, 0.0)]]), GRID)
    ends = found[2][1].reshape(GRID.shape)
    assert ends.sum() == 1
    row, col = GRID.locate(np.array([left + 1250.0]), np.array([bottom + 1000.0]))
    assert ends[row[0], col[0]] == 1
    assert {(c.combine, c.role, c.source) for c, _ in found} == {("sum", "feature", "roads")}


def test_a_street_listed_in_both_directions_has_one_leg(tmp_path: Path) -> None:
    west, south, east, north = BOX
    mid = (west + east) / 2, (south + north) / 2
    ends = [(mid[0] + 0.003, mid[1]), (mid[0], mid[1] + 0.003), (mid[0] - 0.003, mid[1])]
    shapes = [shapely.LineString([mid, end]) for end in ends]
    twice = geopandas.GeoDataFrame(geometry=shapes + [s.reverse() for s in shapes], crs=4326)
    twice.to_file(tmp_path / "twice.gpkg")
    lines = read_lines(LineSource(str(tmp_path / "twice.gpkg")), GRID)
    assert legs(junctions(lines, GRID)) == [1, 1, 1, 3]


place = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda p: (p[0] * 60.0, p[1] * 60.0))
street = st.lists(place, min_size=2, max_size=4, unique=True)


@settings(max_examples=60)
@given(st.lists(st.tuples(street, st.booleans()), min_size=1, max_size=12), st.randoms())
def test_the_order_of_streets_decides_nothing(some: list[tuple[Metres, bool]], random: Any) -> None:
    other = random.sample(some, len(some))
    # two-way streets may be drawn either way
    other = [(s if oneway or random.random() < 0.5 else s[::-1], oneway) for s, oneway in other]
    first, second = (
        at(junctions(network(GRID, [s for s, _ in streets], [o for _, o in streets]), GRID), GRID)
        for streets in (some, other)
    )
    assert first == second


@settings(max_examples=60)
@given(st.lists(street, min_size=1, max_size=12))
def test_legs_are_counted_as_at_each_vertex(some: list[Metres]) -> None:
    # the vertices are too far apart to be one junction, so a plain count by hand is the truth
    count: dict[tuple[float, float], int] = {}
    for s in some:
        for i, p in enumerate(s):
            count[p] = count.get(p, 0) + (1 if i in (0, len(s) - 1) else 2)
    found = at(junctions(network(GRID, some), GRID), GRID)
    assert found == {p: n for p, n in count.items() if n != 2}


def near(points: FloatArray, others: FloatArray) -> float:
    return float((cKDTree(others).query(points)[0] <= 25.0).mean())


def test_cambridge_agrees_on_where_its_junctions_are(shared_data: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-71.17, 42.34, -71.05, 42.41), 250)
    folder = shared_data / "boston/traffic"
    lines = read_lines(LineSource(str(folder / "cambridge_street_centerlines.geojson")), grid)
    found = junctions(lines, grid)
    ours = np.column_stack([found.x, found.y])[found.legs >= 3]
    theirs = geopandas.read_file(folder / "cambridge_intersections.geojson").to_crs(grid.crs)
    assert len(theirs) == 1872
    points = np.column_stack([theirs.geometry.x, theirs.geometry.y])
    of_streets = points[(theirs["IntersectingStreetCount"] >= 2).to_numpy()]
    # what is missing are corners, where one street goes on under another name
    assert near(of_streets, ours) >= 0.96
    assert near(ours, points) >= 0.99
