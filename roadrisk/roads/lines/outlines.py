"""Outlines of a mask as rings of cracks, the pixel edges between what is road and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import IntArray
from roadrisk.mosaic.picture import Mask

# east, south, west, north: clockwise, so that one more is a turn to the right; y grows south
_STEP_X = np.array([1, 0, -1, 0])
_STEP_Y = np.array([0, 1, 0, -1])


class Cracks(NamedTuple):
    """N pixel edges with road on their left and none on their right.

    Parameters
    ----------
    y, x : (N,) corner where each starts, in pixels from the top left of the mask.
    heading : (N,) 0 east, 1 south, 2 west, 3 north.
    """

    y: IntArray
    x: IntArray
    heading: IntArray

    def step(self) -> tuple[IntArray, IntArray]:
        """(N,) y and x from the start of each to its end."""
        return _STEP_Y[self.heading], _STEP_X[self.heading]

    def road_pixel(self) -> tuple[IntArray, IntArray]:
        """(N,) row and column of the pixel on the left."""
        return self.y - np.isin(self.heading, (0, 3)), self.x - np.isin(self.heading, (2, 3))

    def other_pixel(self) -> tuple[IntArray, IntArray]:
        """(N,) row and column of the pixel on the right."""
        return self.y - np.isin(self.heading, (2, 3)), self.x - np.isin(self.heading, (1, 2))


@dataclass(frozen=True, eq=False)
class Outlines:
    """R rings of cracks, one after the other.

    Parameters
    ----------
    cracks : in order along the rings.
    offsets : (R + 1,) ring i has the cracks [offsets[i], offsets[i + 1]).
    """

    cracks: Cracks
    offsets: IntArray


def outlines_of(road: Mask) -> Outlines:
    """The rings around the road of a mask; beyond it there is none.

    Pixels that touch in a corner only hold together if they are road, as the pixels of a centre-line do; what
    is not road falls apart there. Shells run counter-clockwise where y grows north. Each ring starts at its
    upper left corner, and rings are in the order of these.

    Parameters
    ----------
    road : (H, W).

    Examples
    --------
    >>> rings = outlines_of(np.array([[True, False], [False, True]]))
    >>> rings.offsets.tolist(), rings.cracks.heading.tolist()
    ([0, 8], [1, 0, 1, 0, 3, 2, 3, 2])
    """
    cracks, key = _cracks(road)
    order, offsets = _cycles(_successors(cracks, key, road.shape[1] + 1))
    return Outlines(Cracks(*(values[order] for values in cracks)), offsets)


def _cracks(road: Mask) -> tuple[Cracks, IntArray]:
    """All cracks, sorted by their (N,) key: start corner, then heading."""
    width = road.shape[1]
    padded = np.pad(road, 1)
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]
    left, right = padded[1:-1, :-1], padded[1:-1, 1:]
    found = []
    # of a crack that heads west or north, the start is at the far end of the pixel edge
    for towards, there, beyond_y, beyond_x in (
        (0, above & ~below, 0, 0),
        (1, right & ~left, 0, 0),
        (2, below & ~above, 0, 1),
        (3, left & ~right, 1, 0),
    ):
        y, x = np.divmod(np.flatnonzero(there), there.shape[1])
        found.append(((y + beyond_y) * (width + 1) + x + beyond_x) * 4 + towards)
    key = np.sort(np.concatenate(found))
    corner, heading = np.divmod(key, 4)
    return Cracks(*np.divmod(corner, width + 1), heading), key


def _successors(cracks: Cracks, key: IntArray, corners_per_row: int) -> IntArray:
    """(N,) index of the crack after each."""
    step_y, step_x = cracks.step()
    end = (cracks.y + step_y) * corners_per_row + cracks.x + step_x
    after = np.empty(len(key), np.int64)
    # of several ways on the right one is taken: it keeps road together at corners
    for turn in (3, 0, 1):
        wanted = end * 4 + (cracks.heading + turn) % 4
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        there = key[place] == wanted if len(key) else np.zeros(0, bool)
        after[there] = place[there]
    return after


def _cycles(after: IntArray) -> tuple[IntArray, IntArray]:
    """(N,) indices along the cycles of a permutation, and (R + 1,) offsets of these."""
    following: list[Any] = after.tolist()
    seen = bytearray(len(following))
    order: list[int] = []
    offsets = [0]
    for first in range(len(following)):
        if seen[first]:
            continue
        here = first
        while not seen[here]:
            seen[here] = 1
            order.append(here)
            here = following[here]
        offsets.append(len(order))
    return np.array(order, np.int64), np.array(offsets, np.int64)


def signed_areas(outlines: Outlines) -> NDArray[np.int64]:
    """(R,) pixels within each ring, negative for holes."""
    cracks = outlines.cracks
    _, step_x = cracks.step()
    # y grows south: a ring with road on its left runs east along its southern side
    return np.add.reduceat(cracks.y * step_x, outlines.offsets[:-1]) if len(cracks.y) else np.zeros(0, int)
