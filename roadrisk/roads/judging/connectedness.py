"""Whether one gets along drawn roads as along the true ones: like APLS, of centre-lines of pixels.

APLS (average path length similarity) is Van Etten, Lindenbaum and Bacastow 2018, SpaceNet: A Remote Sensing
Dataset and Challenge Series, arXiv:1807.01232. As there, paths are those between control nodes: junctions,
ends, and points about every 50 m between them, each looked for in the other graph within 4 m; a path that is
not there, or whose end is not, counts as wholly wrong; and both directions are joined by the harmonic mean.

It differs in what the graphs are: skeletons of the two masks of a unit, not centre-lines of vectors. Control
nodes are found on their pixels and not between, the points along lines are counted from the nearest junction
or end, and what leaves the unit is cut off. Of more than 100 control nodes only the paths from 100 of them
are walked. So it compares methods on the same units; it is not to be set beside published APLS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import KDTree

from roadrisk.grid import FloatArray, IntArray
from roadrisk.mosaic.picture import Mask
from roadrisk.roads.lines.skeletons import Skeleton, whole_skeleton

SNAPPED_M = 4.0
APART_M = 50.0
MOST_STARTS = 100


@dataclass(frozen=True)
class Connected:
    """How well drawn roads connect.

    Parameters
    ----------
    value : 0 to 1; None where the truth has no path.
    line_px : length of the true centre-lines.
    """

    value: float | None
    line_px: float


def connectedness(road: Mask, drawn: Mask, metres_per_pixel: float | None) -> Connected:
    """How well what is drawn of a unit connects what is connected.

    Parameters
    ----------
    road, drawn : (H, W).
    metres_per_pixel : ground side of a pixel [m]; None takes a pixel for a metre.
    """
    scale = 1.0 if metres_per_pixel is None else metres_per_pixel
    return connected(whole_skeleton(road, scale), whole_skeleton(drawn, scale), scale)


def connected(true: Skeleton, drawn: Skeleton, metres_per_pixel: float) -> Connected:
    """As `connectedness`, of centre-lines that are already there.

    Parameters
    ----------
    true, drawn : each of a whole mask.
    """
    line_px = float(true.link_length_px.sum())
    there = _similarity(true, drawn, metres_per_pixel)
    if there is None:
        return Connected(None, line_px)
    back = _similarity(drawn, true, metres_per_pixel) or 0.0
    return Connected(2 * there * back / (there + back) if there and back else 0.0, line_px)


def _similarity(of: Skeleton, other: Skeleton, metres_per_pixel: float) -> float | None:
    """One less the mean share by which paths of one have another length in the other; None without paths."""
    control = _control_nodes(of, APART_M / metres_per_pixel)
    starts = np.rint(np.linspace(0, len(control) - 1, min(MOST_STARTS, len(control)))).astype(np.int64)
    length = _path_lengths(of, control, starts)
    found = _found_lengths(other, of, control, starts, SNAPPED_M / metres_per_pixel)
    paths = np.isfinite(length) & (starts[:, None] != np.arange(len(control)))
    if not paths.any():
        return None
    length, found = length[paths], found[paths]
    return float(1 - np.minimum(1, np.abs(length - found) / length).mean())


def _control_nodes(of: Skeleton, apart_px: float) -> IntArray:
    """Pixels between which paths are: junctions, ends, and points about so far from the nearest of these."""
    whole = _graph(of.links, of.link_length_px, len(of.y))
    fixed = of.junction | (of.degree == 1)
    _, part = connected_components(whole, directed=False)
    # a loop without an end starts somewhere
    _, starts = np.unique(part, return_index=True)
    fixed[starts[~np.isin(part[starts], part[fixed])]] = True
    away = dijkstra(whole, directed=False, indices=np.flatnonzero(fixed), min_only=True) if len(fixed) else []
    step = np.floor(np.asarray(away) / apart_px)
    a, b = of.links.T
    fixed[np.where(step[a] > step[b], a, b)[step[a] != step[b]]] = True
    return np.flatnonzero(fixed & (of.degree > 0))


def _found_lengths(
    other: Skeleton, of: Skeleton, control: IntArray, starts: IntArray, snapped_px: float
) -> FloatArray:
    """(S, K) lengths in another graph of paths from S of K control nodes; infinite where there is none."""
    if len(other.y) == 0:
        return np.full((len(starts), len(control)), np.inf)
    places = np.column_stack([of.y, of.x])[control]
    distance, nearest = KDTree(np.column_stack([other.y, other.x])).query(places)
    near = distance <= snapped_px
    found = _path_lengths(other, nearest, starts)
    return np.where(near[starts, None] & near, found, np.inf)


def _path_lengths(of: Skeleton, at: IntArray, starts: IntArray) -> FloatArray:
    """(S, K) lengths of the shortest paths from S of K pixels to each; infinite where there is none.

    Parameters
    ----------
    at : (K,) pixels.
    starts : (S,) of which of these.
    """
    if len(at) == 0:
        return np.zeros((0, 0))
    kept = of.degree != 2
    kept[at] = True
    number = np.cumsum(kept) - 1
    ends, length = _edges(of, kept)
    edges = _graph(*_shortest(number[ends], length), int(kept.sum()))
    return np.asarray(dijkstra(edges, directed=False, indices=number[at[starts]])[:, number[at]])


def _edges(of: Skeleton, kept: Mask) -> tuple[IntArray, FloatArray]:
    """(E, 2) kept pixels and (E,) lengths of the chains between them.

    Parameters
    ----------
    kept : (N,) all pixels where other than two links end, at least.
    """
    a, b = of.links.T
    inside, across, length = ~kept[a] & ~kept[b], kept[a] != kept[b], of.link_length_px
    _, chain = connected_components(_graph(of.links[inside], length[inside], len(kept)), directed=False)
    inner, outer = np.where(kept[a], b, a)[across], np.where(kept[a], a, b)[across]
    counted = np.concatenate([chain[a[inside]], chain[inner]])
    # of nothing numpy counts whole numbers
    chain_px = np.bincount(counted, np.concatenate([length[inside], length[across]]), len(kept)).astype(
        np.float64
    )
    # both ends of each chain; one that has none is a loop where nothing is kept
    by_chain = np.argsort(chain[inner], kind="stable")
    chains = chain[inner[by_chain]][::2]
    plain = kept[a] & kept[b]
    return (
        np.concatenate([outer[by_chain].reshape(-1, 2), of.links[plain]]),
        np.concatenate([chain_px[chains], length[plain]]),
    )


def _shortest(ends: IntArray, length: FloatArray) -> tuple[IntArray, FloatArray]:
    """Of edges between the same two the shortest, and none from a node to itself."""
    first, second = ends.min(axis=1), ends.max(axis=1)
    order = np.lexsort((length, second, first))
    first, second = first[order], second[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    new &= first != second
    return np.column_stack([first, second])[new], length[order][new]


def _graph(ends: IntArray, length: FloatArray, n: int) -> csr_array:
    """(n, n) lengths of edges, each between another two."""
    return csr_array((length, (ends[:, 0], ends[:, 1])), shape=(n, n))
