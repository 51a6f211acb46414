"""What the roads in a tile are like: metres by class, lanes, speed limit and way; turning and winding."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.columns import Column, Combine, Fact, word
from roadrisk.features.ratios import ratio
from roadrisk.geometry.ground import ground_distances
from roadrisk.geometry.lines import Spread
from roadrisk.grid import FloatArray, IntArray

_SPEEDS_KMH = (30, 50, 70, 90)
_OURS = re.compile(r"lanes_.*|speed_.*|oneway")  # a class of that name would be another of our columns


@dataclass(frozen=True)
class Roads:
    """Lines spread over tiles, and the columns made of them.

    Parameters
    ----------
    source : the name of the lines.
    """

    source: str
    spread: Spread

    def metres(self, name: str, what: str, per_line: FloatArray) -> Fact:
        """A column of ground metres."""
        return self.measure(
            name, "m", "sum", f"Ground length of {what} in the tile.", self.spread.sums(per_line)
        )

    def measure(
        self, name: str, unit: str, combine: Combine, meaning: str, values: FloatArray, *by: Fact
    ) -> Fact:
        """A column with its values."""
        names = tuple(column.name for column, _ in by)
        return Column(name, "float64", unit, "feature", combine, meaning, self.source, by=names), values


def by_class(roads: Roads, road_class: pd.Series, length_m: FloatArray) -> list[Fact]:
    """Metres of each class that has a piece in the grid."""
    code, classes = pd.factorize(road_class)
    endings = np.array([*map(_ending, classes), None], dtype=object)[code]
    inside = np.zeros(len(endings), dtype=bool)
    inside[roads.spread.line] = True
    here = set(endings[inside]) - {None}
    return [
        roads.metres(f"road_m_{ending}", f"roads of class {ending}", length_m * (endings == ending))
        for ending in sorted(here)
    ]


def by_lanes(roads: Roads, lanes: FloatArray, length_m: FloatArray) -> list[Fact]:
    """Metres by number of lanes, a half counting as the next whole, and the mean; none where no line says."""
    if np.isnan(lanes).all():
        return []
    whole = np.clip(np.floor(lanes + 0.5), 1, 4)
    names = {1: "1 lane", 2: "2 lanes", 3: "3 lanes", 4: "4 or more lanes"}
    known = roads.metres("road_m_lanes_known", "roads of known lanes", length_m * (whole > 0))
    mean = ratio(roads.spread.sums(length_m * np.nan_to_num(lanes)), known[1])
    return [
        *(
            roads.metres(f"road_m_lanes_{n}{'plus' * (n == 4)}", f"roads of {said}", length_m * (whole == n))
            for n, said in names.items()
        ),
        known,
        roads.measure("road_lanes", "lanes", "mean", "Mean lanes of a metre of road.", mean, known),
    ]


def by_speed(roads: Roads, speed_kmh: FloatArray, length_m: FloatArray) -> list[Fact]:
    """Metres by speed limit, and the mean; none where no line says."""
    unknown = np.isnan(speed_kmh)
    if unknown.all():
        return []
    band = np.where(unknown, -1, np.searchsorted(_SPEEDS_KMH, speed_kmh))
    names = {
        f"to_{_SPEEDS_KMH[0]}": f"up to {_SPEEDS_KMH[0]}",
        **{f"{a + 1}_{b}": f"above {a} and up to {b}" for a, b in pairwise(_SPEEDS_KMH)},
        f"over_{_SPEEDS_KMH[-1]}": f"above {_SPEEDS_KMH[-1]}",
    }
    known = roads.metres("road_m_speed_known", "roads of a known speed limit", length_m * (band >= 0))
    mean = ratio(roads.spread.sums(length_m * np.nan_to_num(speed_kmh)), known[1])
    return [
        *(
            roads.metres(
                f"road_m_speed_{name}", f"roads with a speed limit {said} km/h", length_m * (band == i)
            )
            for i, (name, said) in enumerate(names.items())
        ),
        known,
        roads.measure("road_speed_kmh", "km/h", "mean", "Mean limit of a metre of road.", mean, known),
    ]


def by_way(roads: Roads, oneway: pd.Series, length_m: FloatArray, road_m: Fact) -> list[Fact]:
    """Metres of one-way roads and their share; none where no line says."""
    if oneway.isna().all():
        return []
    marked = oneway.fillna(False).to_numpy(dtype=bool)
    metres = roads.metres("road_m_oneway", "roads marked as one-way", length_m * marked)
    meaning = "Share of the metres of road that are marked as one-way."
    share = ratio(metres[1], road_m[1])
    return [metres, roads.measure("road_oneway_share", "share", "ratio", meaning, share, metres, road_m)]


def turning(roads: Roads, coordinates: FloatArray, offsets: IntArray, road_m: Fact) -> list[Fact]:
    """How much lines turn inside the tile; none where all are drawn straight.

    Parameters
    ----------
    coordinates, offsets : `vertices` of the lines.
    """
    moved = np.any(np.diff(coordinates, axis=0) != 0, axis=1)
    moved[offsets[1:-1] - 1] = False  # from the end of a line to the start of the next
    first = np.flatnonzero(moved)
    line = np.searchsorted(offsets, first, side="right")
    bend = np.flatnonzero(line[1:] == line[:-1])
    if not len(bend):
        return []
    dx, dy = (coordinates[first + 1] - coordinates[first]).T
    ahead = dx[bend] * dx[bend + 1] + dy[bend] * dy[bend + 1]
    aside = dx[bend] * dy[bend + 1] - dy[bend] * dx[bend + 1]
    grid = roads.spread.grid
    row, col = grid.locate(*coordinates[first[bend + 1]].T)
    inside = row >= 0
    tile, turn_deg = row[inside] * grid.cols + col[inside], np.degrees(np.arctan2(aside, ahead))[inside]
    sums = np.bincount(tile, np.abs(turn_deg), minlength=grid.size).astype(np.float64)
    meaning = "Degrees that roads turn where they bend inside the tile, left and right alike."
    turn = roads.measure("road_turn_deg", "deg", "sum", meaning, sums)
    meaning = "Degrees that a metre of road turns."
    curvature = ratio(sums, road_m[1])
    return [turn, roads.measure("road_curvature", "deg/m", "ratio", meaning, curvature, turn, road_m)]


def winding(
    roads: Roads, coordinates: FloatArray, offsets: IntArray, length_m: FloatArray, road_m: Fact
) -> list[Fact]:
    """How much longer roads are than the straight way between their ends; none where none is."""
    start, end = coordinates[offsets[:-1]], coordinates[offsets[1:] - 1]
    straight_m = ground_distances(roads.spread.grid.crs, start, end)
    if np.allclose(straight_m, length_m, rtol=1e-6):
        return []
    metres = roads.metres("road_straight_m", "the straight ways between the ends of roads", straight_m)
    meaning = "Ground length of roads over that of the straight ways between their ends."
    sinuosity = ratio(road_m[1], metres[1])
    return [metres, roads.measure("road_sinuosity", "ratio", "ratio", meaning, sinuosity, road_m, metres)]


def _ending(road_class: Any) -> str | None:
    """A road class as the end of a column name; none for null.

    >>> _ending("Principal Arterial - Other"), _ending("Oneway")
    ('principal_arterial_other', 'class_oneway')
    """
    if not isinstance(road_class, str):
        return None
    ending = word(road_class) or "blank"
    return f"class_{ending}" if _OURS.fullmatch(ending) else ending
