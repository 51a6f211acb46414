"""Lines on three kinds of grid, for what is tested of lines and of roads."""

from __future__ import annotations

from typing import Any

import shapely
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_shape, grid_of_zoom

BOX = LngLatBbox(-71.2, 42.3, -71.15, 42.33)
GRIDS = [grid_of_cell(BOX, 500), grid_of_zoom(BOX, 15), grid_of_shape(BOX, 5, 7)]
GEOD = Geod(ellps="WGS84")


def ground_m(grid: Grid, line: Any) -> float:
    to_lnglat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    return float(GEOD.geometry_length(shapely.transform(line, to_lnglat.transform, interleaved=False)))


# vertices in cells from the window's north-west corner: on grid lines, on corners, between, outside. By
# 64ths, since a line nearly along a grid line would make the oracle's hair count for metres
sixty_fourth = st.one_of(st.integers(-3 * 64, 10 * 64).map(lambda n: n / 64), st.integers(-3, 10).map(float))
anywhere = st.one_of(st.floats(-3, 10), st.integers(-3, 10).map(float))


def lines_of(coordinate: Any) -> Any:
    line = st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=5)
    return st.lists(line, min_size=1, max_size=5)


lines = lines_of(sixty_fourth)


def placed(grid: Grid, some: list[list[tuple[float, float]]]) -> list[shapely.LineString]:
    left, _, _, top = grid.bounds
    shapes = [
        shapely.LineString([(left + u * grid.cell, top - v * grid.cell) for u, v in one]) for one in some
    ]
    return [shape for shape in shapes if shape.length > grid.cell * 1e-3]
