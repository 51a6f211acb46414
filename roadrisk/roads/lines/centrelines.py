"""Centre-lines as lines from node to node, whole however the mask was cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from roadrisk.geometry.lines import ground_lengths, vertices
from roadrisk.grid import FloatArray, IntArray
from roadrisk.roads.lines.skeletons import Skeleton

# Two links without a pixel in common are at least 1.41 px apart unless a link joins them. So two lines that
# each move by up to half a pixel do not come to cross: no line need be looked at beside another.
TOLERANCE_PX = 0.5


class Chain(NamedTuple):
    """Pixels of a centre-line, each linked to the next.

    Parameters
    ----------
    pixels : (3, n) y, x, absolute, and how far the edge of the road is from the centre-line [px].
    goes_on : in another core, before its first and after its last pixel.
    """

    pixels: FloatArray
    goes_on: tuple[bool, bool] = (False, False)

    def reversed(self) -> Chain:
        """The same from the other end."""
        return Chain(self.pixels[:, ::-1], self.goes_on[::-1])

    def followed_by(self, other: Chain) -> Chain:
        """Both as one; the last pixel here is the first there."""
        pixels = np.concatenate([self.pixels, other.pixels[:, 1:]], axis=1)
        return Chain(pixels, (self.goes_on[0], other.goes_on[1]))

    def place(self, index: int) -> tuple[int, int]:
        """(y, x) of a pixel."""
        return int(self.pixels[0, index]), int(self.pixels[1, index])


class Lines(NamedTuple):
    """N centre-lines.

    Parameters
    ----------
    geometry : (N,) lines through middles of pixels, simplified by at most half a pixel.
    length_m : (N,) on the ground [m].
    width_m : (N,) mean width of the road [m].
    from_node, to_node : (N,) where each starts and ends: pixels of the mosaic, counted along its rows.
    """

    geometry: NDArray[Any]
    length_m: FloatArray
    width_m: FloatArray
    from_node: IntArray
    to_node: IntArray


def chains_of(skeleton: Skeleton) -> list[Chain]:
    """The links of a core as chains from node to node: ends, junctions, and where other cores go on.

    A loop without a node starts and ends at its upper left pixel. A dot is no chain.
    """
    if not len(skeleton.links):
        return []
    # 2 i is link i from its first pixel to its second, 2 i + 1 the way back
    tail = skeleton.links.ravel()
    here = np.bincount(tail, minlength=len(skeleton.y))
    through = (skeleton.degree == 2) & (here == 2)
    beyond = ((skeleton.degree == 2) & (here == 1)).tolist()
    values = np.stack([skeleton.y, skeleton.x, skeleton.half_width_px])
    chains = []
    for path in _paths(tail, through):
        pixels = tail[[*path, path[-1] ^ 1]]
        first, last = int(pixels[0]), int(pixels[-1])
        chain = Chain(values[:, pixels], (beyond[first], beyond[last]))
        chains.append(_turned(chain) if through[first] else chain)
    return chains


def _paths(tail: IntArray, through: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Ways of links one after the other, each in one direction; loops without a node come last."""
    head = tail.reshape(-1, 2)[:, ::-1].ravel()
    leaving = np.argsort(tail, kind="stable")
    place = np.searchsorted(tail[leaving], head)
    back = np.arange(len(tail)) ^ 1
    one, other = leaving[place], leaving[np.minimum(place + 1, len(tail) - 1)]
    after = np.where(through[head], np.where(one == back, other, one), -1).tolist()
    seen = bytearray(len(after))
    at_nodes = ~through[tail]
    for first in (*np.flatnonzero(at_nodes).tolist(), *np.flatnonzero(~at_nodes).tolist()):
        if seen[first]:
            continue
        path, way = [], first
        while way >= 0 and not seen[way]:
            seen[way] = seen[way ^ 1] = 1
            path.append(way)
            way = after[way]
        yield path


def _turned(loop: Chain) -> Chain:
    """A loop without a node, from its upper left pixel."""
    round_ = loop.pixels[:, :-1]
    first = int(np.lexsort((round_[1], round_[0]))[0])
    return Chain(np.concatenate([round_[:, first:], round_[:, : first + 1]], axis=1))


class OpenChains:
    """Chains that go on in cores not seen yet; all others are let go of."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], Chain] = {}

    def joined(self, chains: Sequence[Chain]) -> list[Chain]:
        """The chains of one more core that are whole, with what was waiting for them."""
        return [whole for chain in chains if (whole := self._grown(chain)) is not None]

    def rest(self) -> list[Chain]:
        """What is still waiting: chains that go on where no core was seen."""
        left = {id(chain): chain for chain in self._waiting.values()}
        self._waiting.clear()
        return list(left.values())

    def _grown(self, chain: Chain) -> Chain | None:
        for _ in range(2):
            chain = chain.reversed()
            if chain.goes_on[1] and chain.place(-1) in self._waiting:
                chain = chain.followed_by(self._taken(chain.place(-1)))
        if all(chain.goes_on) and chain.place(0) == chain.place(-1):
            return _turned(chain)
        for end in _open_ends(chain):
            self._waiting[end] = chain
        return None if any(chain.goes_on) else chain

    def _taken(self, there: tuple[int, int]) -> Chain:
        """A chain that waited, from where it waited."""
        chain = self._waiting[there]
        for end in _open_ends(chain):
            del self._waiting[end]
        return chain if chain.goes_on[0] and chain.place(0) == there else chain.reversed()


def _open_ends(chain: Chain) -> list[tuple[int, int]]:
    return [chain.place(end) for end, goes_on in zip((0, -1), chain.goes_on, strict=True) if goes_on]


def lines_of(chains: Sequence[Chain], transform: Affine, width_px: int, crs: str) -> Lines:
    """Chains as lines, each in the direction that its ends give.

    Parameters
    ----------
    transform : from pixels to `crs`, whose pixels are square.
    width_px : of the mosaic.
    """
    chains = [_directed(chain) for chain in chains]
    if not chains:
        none, nowhere = np.empty(0), np.empty(0, np.int64)
        return Lines(np.empty(0, object), none, none, nowhere, nowhere)
    sizes = np.array([chain.pixels.shape[1] for chain in chains])
    y, x, half_width_px = np.concatenate([chain.pixels for chain in chains], axis=1)
    middles = np.stack([x + 0.5, y + 0.5], axis=1)
    lines = shapely.linestrings(middles, indices=np.repeat(np.arange(len(sizes)), sizes))
    lines = shapely.simplify(lines, TOLERANCE_PX, preserve_topology=False)
    length_px = shapely.length(lines)
    lines = shapely.transform(lines, lambda at: np.stack(transform @ (at[:, 0], at[:, 1]), axis=1))
    length_m = ground_lengths(crs, *vertices(lines))
    first = np.cumsum(sizes) - sizes
    # metres a pixel are those of the place: they change across a region in some projections
    width_m = 2 * np.add.reduceat(half_width_px, first) / sizes * length_m / length_px
    node = (y * width_px + x).astype(np.int64)
    return Lines(lines, length_m, width_m, node[first], node[first + sizes - 1])


def _directed(chain: Chain) -> Chain:
    """From the upper left end; of a loop, by way of the upper left of its second pixels."""
    ends = chain.place(0), chain.place(-1)
    if ends[0] == ends[1]:
        ends = chain.place(1), chain.place(-2)
    return chain if ends[0] <= ends[1] else chain.reversed()
