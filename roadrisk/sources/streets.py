"""Each street once: sources list it in both directions, in several cities, or in several files."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, IntArray
from roadrisk.sources.tables import as_text

_APART = 0.1  # metres: listings of one street differ by rounding, arcs between the same two nodes by more


def each_once(lines: pd.DataFrame) -> pd.DataFrame:
    """The longest row of each street, in the order they came.

    Rows are of one street when they join the same two nodes, in either direction, over the same ways, or,
    without such numbers, have the same geometry in either direction; and when their declared lengths, the
    lengths of their geometries and its centroids are the same to a decimetre: the two arcs of a crescent
    join the same nodes, and are two. Which of the rows stands does not depend on their order.

    Parameters
    ----------
    lines : `u`, `v`, `way` (all or none), `geometry`, `declared_m` (NaN where unknown), `ground_m`,
        `length_m`, `road_class`, `lanes`, `speed_kmh`, `oneway`.
    """
    street = pd.Series(_streets(lines), index=lines.index)
    several = street.duplicated(keep=False)
    if not several.any():
        return lines
    keys = ["road_class", "lanes", "speed_kmh", "oneway"]
    # two-way, the direction of the drawing says nothing
    shapes = lines["geometry"].astype(object).where(lines["oneway"].fillna(False), None)
    ranked = lines.loc[several, ["length_m", *keys]].assign(
        street=street[several], drawn=shapely.to_wkb(shapes[several].to_numpy())
    )
    ranked = ranked.sort_values(["length_m", *keys, "drawn"], ascending=[False, *[True] * 5])
    again = ranked.index[ranked.duplicated("street")]
    return lines.drop(index=again)


def exploded(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines with multi-lines in their parts, which share the length by their own."""
    parts, line = shapely.get_parts(lines["geometry"].to_numpy(), return_index=True)
    if len(parts) == len(lines):
        return lines.assign(geometry=parts)
    # a multi-line is short beside the change of scale across its CRS, so planar shares are ground shares
    planar = shapely.length(parts)
    total = np.bincount(line, planar)[line]
    alike = 1 / np.bincount(line)[line]
    share = np.divide(planar, total, out=alike, where=total > 0)
    apart = lines.iloc[line].assign(geometry=parts)
    apart["length_m"] *= share
    longer_than_zero: pd.DataFrame = apart.loc[share > 0]
    return longer_than_zero


def drawn(geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """(N,) the same bytes for lines that differ in their direction alone."""
    return np.asarray(shapely.to_wkb(shapely.normalize(geometry), byte_order=0), dtype=object)


def _streets(lines: pd.DataFrame) -> IntArray:
    """(N,) the same number for rows of the same street."""
    geometry = lines["geometry"].to_numpy()
    street = _joining(lines) if "way" in lines else np.full(len(lines), -1)
    unnamed = street < 0
    street[unnamed] = street.max(initial=-1) + 1 + pd.factorize(drawn(geometry[unnamed]))[0]
    x, y = shapely.get_coordinates(shapely.centroid(geometry)).T
    for value in (lines["declared_m"].to_numpy(), lines["ground_m"].to_numpy(), x, y):
        street = _parted(street, value)
    return street


def _joining(lines: pd.DataFrame) -> IntArray:
    """(N,) the same number for rows that join the same nodes over the same ways; -1 without their numbers."""
    nodes, _ = pd.factorize(np.concatenate([as_text(lines["u"]), as_text(lines["v"])]))
    u, v = nodes[: len(lines)], nodes[len(lines) :]
    written, unique = pd.factorize(as_text(lines["way"]))
    # the ways of a street come in another order in its other direction
    ways, _ = pd.factorize(np.array([*(" ".join(sorted(set(re.findall(r"\w+", w)))) for w in unique), ""]))
    pair, _ = pd.factorize(np.minimum(u, v) * (nodes.max(initial=0) + 1) + np.maximum(u, v))
    street = pair * (len(ways) + 1) + ways[written]
    return np.where((u < 0) | (v < 0) | (written < 0), -1, street).astype(np.int64)


def _parted(street: IntArray, value: FloatArray) -> IntArray:
    """Streets parted where sorted values leap; a missing value goes with the largest."""
    order = np.lexsort((value, street))
    leaps = np.diff(value[order], prepend=np.nan) > _APART
    leaps |= np.diff(street[order], prepend=-1) != 0
    parted = np.empty_like(street)
    parted[order] = np.cumsum(leaps)
    return parted
