"""What the tiles hold of the roads, and how far points lie from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from roadrisk.columns import Fact
from roadrisk.features.road_measures import Roads, by_class, by_lanes, by_speed, by_way, turning, winding
from roadrisk.geometry.lines import spread_lines, vertices
from roadrisk.grid import FloatArray, Grid
from roadrisk.sources.lines import Lines


def road_columns(lines: Lines, grid: Grid) -> list[Fact]:
    """What the tiles hold of the roads, each column with its (rows * cols,) values in (row, col) order.

    `road_m` and `road_m_<class>`; metres by lanes, by speed limit and one-way, with their means and share,
    where some line says so; the turning of lines that are drawn with bends; how lines wind. Metres are ground
    metres and add up to those of the lines; a mean or ratio over nothing is NaN.
    """
    table = lines.table
    coordinates, offsets = vertices(table.geometry.to_numpy())
    roads = Roads(lines.name, spread_lines(grid, coordinates, offsets))
    length_m = table["length_m"].to_numpy()
    road_m = roads.metres("road_m", "all roads", length_m)
    return [
        road_m,
        *by_class(roads, table["road_class"], length_m),
        *by_lanes(roads, table["lanes"].to_numpy(), length_m),
        *by_speed(roads, table["speed_kmh"].to_numpy(), length_m),
        *by_way(roads, table["oneway"], length_m, road_m),
        *turning(roads, coordinates, offsets, road_m),
        *winding(roads, coordinates, offsets, length_m, road_m),
    ]


def share_far_from_lines(x: FloatArray, y: FloatArray, lines: Lines, grid: Grid, distance_m: float) -> float:
    """Share of points more than `distance_m` ground metres from every line; NaN without points.

    Parameters
    ----------
    x, y : (N,) in the grid's CRS.
    """
    if not len(x):
        return float("nan")
    reach = distance_m * grid.cell / grid.cell_m
    tree = shapely.STRtree(lines.table.geometry.to_numpy())
    near, _ = tree.query(shapely.points(x, y), predicate="dwithin", distance=reach)
    return 1.0 - len(np.unique(near)) / len(x)


def tiles_without(values: NDArray[Any]) -> float:
    """Share of tiles with none of a source.

    >>> tiles_without(np.array([0.0, 2.0, 0.0, 1.0]))
    0.5
    """
    return float((np.asarray(values) == 0).mean())
