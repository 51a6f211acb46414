"""How wide roads are drawn: by their class and lanes, since centre-lines have no width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from roadrisk.errors import UsageError
from roadrisk.grid import FloatArray


class Build(NamedTuple):
    """How a road of a class is built.

    Parameters
    ----------
    lanes : where nothing says how many.
    lane_m : width of one [m].
    beside_m : shoulders and parked cars, of both sides together [m].
    """

    lanes: int
    lane_m: float
    beside_m: float


# Lanes as they are usual in the USA: 12 ft (3.7 m) on Interstates (FHWA, 1999 Conditions and Performance
# Report, chapter 3), 9 to 12 ft on local streets (TxDOT, Roadway Design Manual, 5.1.6), others between; what
# is beside them is a guess. Divided roads are a line a carriageway in OpenStreetMap; a two-way street is one.
BUILDS = {
    "motorway": Build(2, 3.7, 4.2),
    "trunk": Build(2, 3.6, 3.0),
    "primary": Build(2, 3.5, 2.4),
    "secondary": Build(2, 3.4, 2.0),
    "tertiary": Build(2, 3.3, 2.0),
    "unclassified": Build(2, 3.0, 1.0),
    "residential": Build(2, 3.0, 2.0),
    "living_street": Build(2, 2.5, 1.0),
    "service": Build(1, 3.0, 1.0),
    "motorway_link": Build(1, 3.7, 2.4),
    "trunk_link": Build(1, 3.6, 2.4),
    "primary_link": Build(1, 3.5, 1.5),
    "secondary_link": Build(1, 3.4, 1.0),
    "tertiary_link": Build(1, 3.3, 1.0),
}
# of any other road: 7 px of 1 m, as all are in the Massachusetts Roads set (Mnih 2013)
OTHER_M = 7.0
_MOST_LANES = 12


@dataclass(frozen=True, eq=False)
class Widths:
    """How wide lines are drawn.

    Parameters
    ----------
    width_m : (N,) of each line [m].
    told : which widths were used, a line a thing.
    """

    width_m: FloatArray
    told: tuple[str, ...]


def road_widths(road_class: pd.Series, lanes: FloatArray, widths_m: Mapping[str, float]) -> Widths:
    """How wide lines are drawn: as `widths_m` has their class, else lanes x lane width and what is beside.

    Parameters
    ----------
    road_class : (N,) text or null.
    lanes : (N,) NaN where unknown.

    Raises
    ------
    UsageError : a class of `widths_m` is neither one of OpenStreetMap's nor of a line.

    Examples
    --------
    >>> classes = pd.Series(["residential", "motorway", "motorway", "primary", None])
    >>> lanes = np.array([np.nan, np.nan, 3, 2, 2])
    >>> road_widths(classes, lanes, {"primary": 12.0}).width_m.round(1).tolist()
    [8.0, 11.6, 15.3, 12.0, 7.0]
    """
    _check_classes(road_class, widths_m)
    counted = np.isfinite(lanes) & (lanes >= 1) & (lanes <= _MOST_LANES)
    width_m = np.full(len(road_class), OTHER_M)
    unknown: list[str] = []
    used_lanes, said = 0, []
    for name, rows in _rows_by_class(road_class).items():
        if name in widths_m:
            width_m[rows] = widths_m[name]
        elif name in BUILDS:
            build = BUILDS[name]
            width_m[rows] = np.where(counted[rows], lanes[rows], build.lanes) * build.lane_m + build.beside_m
            used_lanes += int(counted[rows].sum())
        else:
            unknown.append(f"{len(rows):,} of class {name!r}" if name else f"{len(rows):,} without a class")
            continue
        said.append(f"{name} {_span(width_m[rows])}")
    told = []
    if said:
        told.append(f"widths [m] of drawn roads: {', '.join(said)}; lanes known of {used_lanes:,} lines")
    if unknown:
        told.append(f"lines of no class that has a width are drawn {OTHER_M:g} m wide: {', '.join(unknown)}")
    return Widths(width_m, tuple(told))


def _check_classes(road_class: pd.Series, widths_m: Mapping[str, float]) -> None:
    there = set(road_class.dropna().unique())
    strange = sorted(widths_m.keys() - there - BUILDS.keys())
    if strange:
        raise UsageError(
            f"no line is of class {strange[0]!r}, whose width is given; "
            f"classes: {', '.join(sorted(there)) or 'none'}"
        )


def _rows_by_class(road_class: pd.Series) -> dict[str, np.ndarray]:
    """(n,) rows of each class, the most frequent first; no class is an empty name."""
    names = road_class.astype(object).where(road_class.notna(), "").to_numpy()
    rows = {str(name): np.flatnonzero(names == name) for name in sorted(set(names))}
    return dict(sorted(rows.items(), key=lambda item: -len(item[1])))


def _span(width_m: FloatArray) -> str:
    """The middle width, and the least and most where lines differ.

    >>> _span(np.array([8.0, 8.0])), _span(np.array([5.0, 8.0, 8.0]))
    ('8', '8 (5 to 8)')
    """
    low, middle, high = width_m.min(), np.median(width_m), width_m.max()
    return f"{middle:g}" if low == high else f"{middle:g} ({low:g} to {high:g})"
