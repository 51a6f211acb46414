from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS, Geod

from roadrisk.geometry.near import NOWHERE, Near, box_around, near_grid, planar_areas
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom

BOX = LngLatBbox(-71.35, 42.20, -70.95, 42.42)
GRIDS = [grid_of_cell(BOX, 250), grid_of_zoom(BOX, 12)]


def near(grid: Grid, crs: str) -> Near:
    return near_grid(CRS.from_user_input(crs), grid)


@given(
    st.sampled_from(GRIDS),
    st.sampled_from(["EPSG:4326", "EPSG:3857", "EPSG:26986", "EPSG:5070"]),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_every_point_of_the_grid_meets_its_box(grid: Grid, crs: str, across: float, down: float) -> None:
    left, bottom, right, top = grid.bounds
    there = near(grid, crs)
    x, y = there.to_grid.transform(
        left + across * (right - left), top - down * (top - bottom), direction="INVERSE"
    )
    assert there.meets(np.array([[x, y, x, y]])).tolist() == [True]


def test_what_lies_beside_or_nowhere_does_not_meet_the_grid() -> None:
    there = near(GRIDS[0], "EPSG:4326")
    left, bottom, right, top = there.box
    beside = [
        (left - 2, bottom, left - 1, top),
        (right + 1, bottom, right + 2, top),
        (left, top + 1, right, top + 2),
        (left, bottom - 2, right, bottom - 1),
        (np.nan,) * 4,
    ]
    assert not there.meets(np.array(beside)).any()
    assert there.meets(np.array([(left - 9, bottom - 9, right + 9, top + 9)])).all()


def test_a_box_across_the_antimeridian_has_two_sides() -> None:
    there = near(grid_of_cell(LngLatBbox(179.5, -17.0, 179.99, -16.5), 1000), "EPSG:4326")
    assert there.box.left > there.box.right
    lng = np.array([179.6, -179.999, 0.0, 178.0])
    lat = np.full(4, -16.8)
    assert there.meets(np.stack([lng, lat, lng, lat], axis=1)).tolist() == [True, True, False, False]


@pytest.mark.parametrize("east", [-71.2, 179.99])
def test_what_reaches_far_beyond_is_cut_back(east: float) -> None:
    grid = grid_of_cell(LngLatBbox(east - 0.4, 42.2, east, 42.42), 250)
    there = near(grid, "EPSG:4326")
    far = shapely.box(-180, -90, 180, 90)
    town = shapely.box(east - 0.3, 42.3, east - 0.2, 42.4)
    cut = there.cut_back(np.array([far, town]))
    assert cut[1] is town, "what lies near stays as it is"
    window = shapely.box(*there.grid.bounds)
    moved = there.in_grid(cut)
    assert np.isfinite(shapely.get_coordinates(moved)).all()
    assert shapely.covers(shapely.union_all(shapely.make_valid(moved[:1])), window)
    assert shapely.area(cut[0]) < 300


def test_parts_compare_by_their_area_on_the_ground() -> None:
    whole = shapely.box(-180, -90, 180, 90)
    part = shapely.box(-71, 42, -70, 43)
    world, here = planar_areas(CRS("EPSG:4326"), np.array([whole, part]))
    km2 = Geod(ellps="WGS84").geometry_area_perimeter(part.segmentize(0.01))[0] / 1e6
    assert world / here == pytest.approx(510_065_622 / km2, rel=5e-3)


def test_the_box_around_nothing_adds_nothing() -> None:
    assert box_around(np.empty((0, 4))) == NOWHERE
    assert box_around(np.array([(1, 2, 3, 4), NOWHERE, (0, 3, 2, 9)])) == pytest.approx((0, 2, 3, 9))
    assert not near(GRIDS[0], "EPSG:4326").meets(np.array([NOWHERE])).any()
