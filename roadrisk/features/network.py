"""Junctions by their number of legs, and dead ends: what the ends and the shared vertices of lines tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from roadrisk.columns import Column, Fact
from roadrisk.grid import FloatArray, Grid, IntArray
from roadrisk.sources.lines import Lines

_SAME_PLACE = 0.1  # CRS units
_ONE_JUNCTION_M = 20.0  # nodes as near as this, as where a divided road is crossed, are one junction
_INSIDE_M = 60.0  # a way from a junction back to itself that is no longer lies inside it: a turning circle
_SAME_WAY_DEG = 30.0
_PAIRS = 50  # pairs a node, beyond which it is no network that people drive on


@dataclass(frozen=True)
class Junctions:
    """Where streets meet or end.

    Parameters
    ----------
    x, y : (J,) in the grid's CRS; of a junction of several nodes their mean.
    legs : (J,) streets that leave it; the two carriageways of a divided street are one. 1 is a dead end.
    """

    x: FloatArray
    y: FloatArray
    legs: IntArray


@dataclass(frozen=True)
class _Segments:
    """Streets from vertex to vertex: (S,) their two vertices, one-way mark, metres; (V, 2) the vertices."""

    start: IntArray
    end: IntArray
    oneway: NDArray[np.bool_]
    length_m: FloatArray
    vertices: FloatArray

    @property
    def ends(self) -> IntArray:
        """(2 S,) all starts, then all ends."""
        return np.concatenate([self.start, self.end])


@dataclass(frozen=True)
class _Arms:
    """What leaves the nodes: (A,) which node, which chain of segments, where it heads, which way it runs."""

    node: IntArray
    chain: IntArray
    bearing_deg: FloatArray
    way: IntArray  # 1 away from the node, -1 towards it, 0 both


def network_columns(lines: Lines, grid: Grid) -> list[Fact]:
    """`road_junctions_3`, `road_junctions_4plus`, `road_dead_ends`, each with its (rows * cols,) counts."""
    found = junctions(lines, grid)
    row, col = grid.locate(found.x, found.y)
    inside = row >= 0
    tile, legs = row[inside] * grid.cols + col[inside], found.legs[inside]
    kinds = [
        ("road_junctions_3", "junctions", "Junctions of three streets.", legs == 3),
        ("road_junctions_4plus", "junctions", "Junctions of four or more streets.", legs >= 4),
        ("road_dead_ends", "dead ends", "Streets that end without meeting another.", legs == 1),
    ]
    return [
        (
            Column(name, "float64", unit, "feature", "sum", meaning, lines.name),
            np.bincount(tile[kind], minlength=grid.size).astype(np.float64),
        )
        for name, unit, meaning, kind in kinds
    ]


def junctions(lines: Lines, grid: Grid) -> Junctions:
    """The junctions and dead ends of lines, each street listed once.

    A node is where lines end or share a vertex, to a decimetre; a line that runs through has two legs there.
    Nodes of three legs or more within 20 m of each other are one junction: its legs are the streets that
    leave it, where of two one-way streets of opposite direction that head the same way, to 30 degrees, one
    is counted. Lines beyond the grid are not known, so what lies outside it is not complete.
    """
    segments = _segments(lines)
    at = segments.ends
    legs = np.bincount(at, minlength=len(segments.vertices))
    place = _junction_of(segments.vertices, legs, _ONE_JUNCTION_M * grid.cell / grid.cell_m)
    arms, chain_m = _arms(segments, legs)
    arms = _leaving(arms, place, chain_m)
    count = np.bincount(place[arms.node], minlength=place.max(initial=-1) + 1)
    count -= np.bincount(_doubled(arms, place), minlength=len(count))
    node = np.flatnonzero(place >= 0)
    nodes = np.bincount(place[node], minlength=len(count))
    x, y = (np.bincount(place[node], axis[node], len(count)) / nodes for axis in segments.vertices.T)
    kept = (count == 1) | (count >= 3)
    return Junctions(x[kept], y[kept], count[kept])


def _segments(lines: Lines) -> _Segments:
    table = lines.table
    coordinates, line = shapely.get_coordinates(table.geometry.to_numpy(), return_index=True)
    (x, xs), (y, ys) = (
        np.unique(np.round(axis / _SAME_PLACE), return_inverse=True)[::-1] for axis in coordinates.T
    )
    pair, vertex = np.unique(x * len(ys) + y, return_inverse=True)
    places = np.column_stack([xs[pair // len(ys)], ys[pair % len(ys)]]) * _SAME_PLACE
    first = np.flatnonzero(line[1:] == line[:-1])
    planar = np.hypot(*(coordinates[first + 1] - coordinates[first]).T)
    line = line[first]
    of_line = np.bincount(line, planar, minlength=len(table))[line]
    steps = np.bincount(line, minlength=len(table))[line]
    # of a loop drawn as a point there is only the length
    share = np.divide(planar, of_line, out=1 / steps, where=of_line > 0)
    length_m = share * table["length_m"].to_numpy()[line]
    start, end = vertex[first], vertex[first + 1]
    apart = (start != end) | (of_line == 0)
    oneway = table["oneway"].fillna(False).to_numpy(dtype=bool)[line]
    return _Segments(start[apart], end[apart], oneway[apart], length_m[apart], places)


def _junction_of(vertices: FloatArray, legs: IntArray, reach: float) -> IntArray:
    """(V,) the number of a vertex's junction or dead end; -1 where a street only goes on."""
    place = np.full(len(vertices), -1)
    meeting, ending = np.flatnonzero(legs >= 3), np.flatnonzero(legs == 1)
    count, place[meeting] = _connected(len(meeting), *_near(vertices[meeting], reach))
    place[ending] = count + np.arange(len(ending))
    return place


def _near(points: FloatArray, reach: float) -> IntArray:
    """(2, P) pairs of points within reach of each other: all of them, or enough to connect what all would."""
    if len(points) < 2:
        return np.empty((2, 0), dtype=np.int64)
    tree = cKDTree(points)
    if tree.count_neighbors(tree, reach) <= _PAIRS * len(points):
        return np.asarray(tree.query_pairs(reach, output_type="ndarray").T)
    # of many in one place the shortest way between any two runs along edges of Delaunay's triangles
    edges = shapely.delaunay_triangles(shapely.multipoints(points), only_edges=True)
    pairs = tree.query(shapely.get_coordinates(shapely.get_parts(edges)))[1].reshape(-1, 2)
    apart = points[pairs[:, 0]] - points[pairs[:, 1]]
    return np.asarray(pairs[np.hypot(*apart.T) <= reach].T)


def _arms(segments: _Segments, legs: IntArray) -> tuple[_Arms, FloatArray]:
    """The ends of chains of segments, and (C,) metres of each chain: it runs from a node to the next."""
    at, n = segments.ends, len(segments.start)
    segment = np.tile(np.arange(n), 2)
    # at a vertex of two legs a street goes on: there its two segments are joined
    through = np.flatnonzero(legs[at] == 2)
    through = through[np.argsort(at[through], kind="stable")]
    chains, chain = _connected(n, segment[through[::2]], segment[through[1::2]])
    chain_m = np.bincount(chain, segments.length_m, minlength=chains).astype(np.float64)
    node = np.flatnonzero(legs[at] != 2)
    of = segment[node]
    from_start = node < n
    here, there = at[node], np.where(from_start, segments.end[of], segments.start[of])
    dx, dy = (segments.vertices[there] - segments.vertices[here]).T
    way = np.where(segments.oneway[of], np.where(from_start, 1, -1), 0)
    return _Arms(here, chain[of], np.degrees(np.arctan2(dy, dx)), way), chain_m


def _leaving(arms: _Arms, place: IntArray, chain_m: FloatArray) -> _Arms:
    """The arms that leave their junction: not those of a short way from it back to itself."""
    at = place[arms.node]
    lowest, highest = np.full(len(chain_m), len(place)), np.full(len(chain_m), -1)
    np.minimum.at(lowest, arms.chain, at)
    np.maximum.at(highest, arms.chain, at)
    within = ((lowest == highest) & (chain_m <= _INSIDE_M))[arms.chain]
    both = np.bincount(arms.chain, minlength=len(chain_m))[arms.chain] == 2
    leaves = ~(within & both)
    return _Arms(*(values[leaves] for values in (arms.node, arms.chain, arms.bearing_deg, arms.way)))


def _doubled(arms: _Arms, place: IntArray) -> IntArray:
    """The junction of each pair of one-way arms that are the two carriageways of one street."""
    table = pd.DataFrame({"place": place[arms.node], "bearing": arms.bearing_deg.round(6), "way": arms.way})
    # so that no order of lines decides between equals
    table = table[table["way"] != 0].sort_values(["place", "bearing"], ignore_index=True)
    table["arm"] = table.index
    out, back = (table.loc[table["way"] == way, ["place", "bearing", "arm"]] for way in (1, -1))
    pairs = out.merge(back, on="place", suffixes=("_out", "_back"))
    turn = pairs["bearing_out"] - pairs["bearing_back"]
    pairs["apart"] = np.abs((turn + 180) % 360 - 180)
    pairs = pairs[pairs["apart"] <= _SAME_WAY_DEG].sort_values(["apart", "arm_out", "arm_back"])
    best = ~pairs.duplicated("arm_out") & ~pairs.duplicated("arm_back")
    return pairs.loc[best, "place"].to_numpy(dtype=np.int64)


def _connected(n: int, a: IntArray, b: IntArray) -> tuple[int, IntArray]:
    """How many groups `n` things fall into, and (n,) the group of each, where a[i] and b[i] go together."""
    count, group = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), directed=False)
    return int(count), group
