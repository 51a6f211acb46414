"""The centre-lines of a mask of roads: its skeleton as a graph of pixels, the same however it is cut."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from roadrisk.grid import FloatArray, IntArray
from roadrisk.mosaic.picture import Mask
from roadrisk.roads.lines.thinning import thinned

WIDEST_M = 60.0  # what is wider is an area, such as a car park, and has no centre-line
_MOST_HALO_PX = 512
_FIXED_PX = 32  # of a halo, however wide roads are: thinning, smoothing and the links at its edge
_HALF_WIDTHS = 8  # of a halo: 2.5 find an area, 2 thin, 2 prune, 1.5 count junctions
_MORE_STEPS = 8  # than half widths, for roads whose edges are rough
_SMOOTHINGS = 8
_BEYOND_EDGE = 0.125  # that the nearest pixel beside a road is farther than its edge [px], as measured
_SPUR = 2.0  # half widths that a branch reaches beyond its junction, at least
_ONE_JUNCTION = 1.5  # half widths within which junctions are one


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The centre-lines of a core: N pixels, and the L links that belong to it.

    The first `core` pixels lie in the core, in (y, x) order; the others are the halo's ends of links. A link
    joins neighbours, and belongs to the core that holds its first pixel: the upper, of one row the left. So
    the links of all cores are those of the whole, each once, and an end in the halo is a pixel of the core
    beside it, with the same numbers.

    Parameters
    ----------
    core : how many pixels are the core's own.
    y, x : (N,) places, absolute: counted as the origin is.
    half_width_px : (N,) from the centre-line to the edge of the road.
    degree : (N,) links that end there, whosever they are. 1 is an end, 0 a dot.
    junction : (N,) whether it is where a junction is counted: one pixel a junction, whatever its legs.
    length_px : (N,) of centre-line: half of each link that ends there, whosever they are.
    links : (L, 2) from the first pixel to the second; sorted.
    link_length_px : (L,) along the centre-line without the staircase of pixels.
    """

    core: int
    y: IntArray
    x: IntArray
    half_width_px: FloatArray
    degree: IntArray
    junction: NDArray[np.bool_]
    length_px: FloatArray
    links: IntArray
    link_length_px: FloatArray


@dataclass(frozen=True, eq=False)
class _Graph:
    """(N,) rows and columns of pixels, sorted, and (L, 2) which are linked, the first before the second."""

    y: IntArray
    x: IntArray
    links: IntArray

    @property
    def degree(self) -> IntArray:
        return np.bincount(self.links.ravel(), minlength=len(self.y))


def halo_px(metres_per_pixel: float) -> int:
    """The halo with which roads of up to 60 m are seen, or of 120 px where pixels are small.

    >>> halo_px(0.1), halo_px(0.5), halo_px(1.0)
    (512, 512, 272)
    """
    return min(_MOST_HALO_PX, _FIXED_PX + _HALF_WIDTHS * math.ceil(WIDEST_M / 2 / metres_per_pixel))


def widest_px(halo: int) -> int:
    """Width of the widest road that has a centre-line, given the halo; what is wider is an area.

    >>> widest_px(512), widest_px(272)
    (120, 60)
    """
    return 2 * max(0, (halo - _FIXED_PX) // _HALF_WIDTHS)


def skeleton_of(road: Mask, valid: Mask, halo: int, origin: tuple[int, int]) -> Skeleton:
    """The skeleton of the core of a window, that which lies `halo` pixels or more from its edge.

    Areas wider than `widest_px(halo)` have no centre-line. With that, and with as many steps of thinning as
    the rest needs, what is said of the core is what would be said of it in any larger window, to the bit.

    A centre-line ends half a width before its road does; its length is right to 1 % where it is straight.
    Branches no longer than the road that they leave is wide are none. Junctions within three quarters of a
    width of each other are one, in the pixel where the road is widest.

    Parameters
    ----------
    road, valid : (halo + H + halo, halo + W + halo).
    origin : (y, x) of the first pixel of the core, absolute.
    """
    return _skeleton(road & valid, widest_px(halo) // 2, halo, origin)


def whole_skeleton(road: Mask, metres_per_pixel: float) -> Skeleton:
    """The skeleton of a mask (H, W) beyond which there is no road: as `skeleton_of` in a halo of nothing."""
    return _skeleton(np.pad(road, 1), widest_px(halo_px(metres_per_pixel)) // 2, 1, (0, 0))


def _skeleton(road: Mask, reach: int, halo: int, origin: tuple[int, int]) -> Skeleton:
    """The skeleton of the core, without areas wider than 2 x `reach`."""
    distance = _distance(road)
    graph = _graph_of(thinned(_without_areas(road, distance, reach), reach + _MORE_STEPS))
    to_edge = distance[graph.y, graph.x].astype(np.float64)
    graph, to_edge = _pruned(graph, to_edge)
    return _core_of(graph, to_edge, (road.shape[0], road.shape[1]), halo, origin)


def _distance(road: Mask) -> NDArray[np.float32]:
    """(H, W) pixels to the nearest that is no road; beyond the window nothing is known to be none."""
    if not road.any():
        return np.zeros(road.shape, np.float32)
    return np.asarray(cv2.distanceTransform(road.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def _without_areas(road: Mask, distance: NDArray[np.float32], reach: int) -> Mask:
    """What is no wider than 2 x `reach`; of what is, the corners go too."""
    inside = distance > reach
    if not inside.any():
        return road
    away = cv2.distanceTransform((~inside).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return road & (np.asarray(away) > 1.5 * reach)


def _graph_of(skeleton: Mask) -> _Graph:
    """The pixels with their links; the outermost pixels of a window are left out.

    Neighbours on a diagonal are linked where no pixel beside both is: a staircase is counted once.
    """
    skeleton[[0, -1], :] = skeleton[:, [0, -1]] = False
    flat, at, width = skeleton.ravel(), np.flatnonzero(skeleton), skeleton.shape[1]
    right, below = flat[at + 1], flat[at + width]
    left = flat[at - 1]
    steps = (
        (1, right),
        (width, below),
        (width + 1, flat[at + width + 1] & ~right & ~below),
        (width - 1, flat[at + width - 1] & ~left & ~below),
    )
    first = np.concatenate([np.flatnonzero(linked) for _, linked in steps])
    second = np.concatenate([np.searchsorted(at, at[linked] + step) for step, linked in steps])
    links = np.column_stack([first, second])
    y, x = np.divmod(at, width)
    return _Graph(y, x, links[np.lexsort((second, first))])


def _pruned(graph: _Graph, to_edge: FloatArray) -> tuple[_Graph, FloatArray]:
    """The graph without branches that do not leave the road they are of."""
    degree = graph.degree
    plain = degree <= 2
    a, b = graph.links.T
    length = np.hypot(graph.y[a] - graph.y[b], graph.x[a] - graph.x[b])
    along, off = plain[a] & plain[b], plain[a] != plain[b]
    chains, chain = _connected(len(plain), a[along], b[along])
    inner, outer = np.where(plain[a], a, b)[off], np.where(plain[a], b, a)[off]
    of = np.concatenate([chain[a[along]], chain[inner]])
    chain_px = np.bincount(of, np.concatenate([length[along], length[off]]), minlength=chains)
    ends = np.bincount(chain[plain & (degree == 1)], minlength=chains)
    least = np.zeros(chains)
    np.maximum.at(least, chain[inner], _SPUR * to_edge[outer])
    spur = (ends == 1) & (chain_px < least)
    kept = ~(plain & spur[chain])
    number = np.cumsum(kept) - 1
    links = graph.links[kept[graph.links].all(axis=1)]
    return _Graph(graph.y[kept], graph.x[kept], number[links]), to_edge[kept]


def _core_of(
    graph: _Graph, to_edge: FloatArray, shape: tuple[int, int], halo: int, origin: tuple[int, int]
) -> Skeleton:
    """What of a window's graph belongs to its core."""
    degree, length = graph.degree, _link_length_px(graph)
    a, b = graph.links.T
    length_px = sum((np.bincount(end, length / 2, len(degree)) for end in (a, b)), np.zeros(len(degree)))
    inside = np.ones(len(degree), bool)
    for at, side in zip((graph.y, graph.x), shape, strict=True):
        inside &= (at >= halo) & (at < side - halo)
    own = inside[a]
    beyond = np.unique(b[own & ~inside[b]])
    chosen = np.concatenate([np.flatnonzero(inside), beyond])
    number = np.full(len(degree), -1)
    number[chosen] = np.arange(len(chosen))
    return Skeleton(
        core=int(inside.sum()),
        y=graph.y[chosen] - halo + origin[0],
        x=graph.x[chosen] - halo + origin[1],
        half_width_px=to_edge[chosen] - _BEYOND_EDGE,
        degree=degree[chosen],
        junction=_junctions(graph, degree, to_edge)[chosen],
        length_px=length_px[chosen],
        links=number[graph.links[own]],
        link_length_px=length[own],
    )


def _link_length_px(graph: _Graph) -> FloatArray:
    """(L,) lengths between pixels that were moved to the mean of themselves and their two neighbours, often.

    A chain of pixels is up to 8 % longer than the line that it was drawn from. Ends and junctions stay.
    """
    n, (a, b) = len(graph.y), graph.links.T
    moved = graph.degree == 2
    linked = csr_array((np.ones(len(a)), (a, b)), shape=(n, n))
    # quarters of whole numbers are exact, so the sum does not depend on its order
    mean = (linked + linked.T) * 0.25 + diags_array(np.full(n, 0.5))
    place = np.column_stack([graph.y, graph.x]).astype(np.float64)
    for _ in range(_SMOOTHINGS):
        place[moved] = (mean @ place)[moved]
    return np.asarray(np.hypot(*(place[a] - place[b]).T))


def _junctions(graph: _Graph, degree: IntArray, to_edge: FloatArray) -> NDArray[np.bool_]:
    """(N,) one pixel of each junction: of those near each other where the road is widest, then the first."""
    counted = np.zeros(len(degree), bool)
    meeting = np.flatnonzero(degree >= 3)
    if not len(meeting):
        return counted
    meeting = meeting[np.argsort(-to_edge[meeting], kind="stable")]
    places = np.column_stack([graph.y[meeting], graph.x[meeting]])
    near = cKDTree(places).query_ball_point(places, _ONE_JUNCTION * to_edge[meeting] + 1.0)
    counts = np.array([len(some) for some in near])
    by, of = np.repeat(np.arange(len(meeting)), counts), np.concatenate(near).astype(np.int64)
    counted[meeting] = True
    counted[meeting[of[by < of]]] = False
    return counted


def _connected(n: int, a: IntArray, b: IntArray) -> tuple[int, IntArray]:
    """How many groups `n` things fall into, and (n,) the group of each, where a[i] and b[i] go together."""
    count, group = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), directed=False)
    return int(count), group
