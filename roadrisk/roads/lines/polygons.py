"""Polygons of a mask of roads, simplified to half a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from roadrisk.grid import IntArray
from roadrisk.mosaic.picture import Mask
from roadrisk.roads.lines.outlines import Outlines, outlines_of, signed_areas

# enough to keep numpy busy, few enough to bound its memory
_AT_ONCE = 1 << 20
_MOST_MEAN_PX = 0.1


@dataclass(frozen=True, eq=False)
class _Course:
    """N places that rings may be drawn through, in half pixels so that all arithmetic is exact.

    Parameters
    ----------
    y, x : (N,) middles of cracks, and corners that must stay.
    fixed : (N,) must stay.
    offsets : (R + 1,) ring i has the places [offsets[i], offsets[i + 1]), the last of them as the first.
    """

    y: IntArray
    x: IntArray
    fixed: Mask
    offsets: IntArray


def road_polygons(road: Mask, transform: Affine) -> NDArray[Any]:
    """(P,) polygons of what holds together, in the order of their upper left pixels.

    The boundary of a mask is taken to be half-way between the centres of its pixels and of others: the line
    through the middles of pixel edges. It moves by at most half a pixel and encloses the same areas, to a
    tenth of a pixel along each of its straight parts. Holes and gaps stay, and pixels that touch in a corner
    hold together. Where the core ends the boundary is exactly that of the pixels, with the
    vertices of what lies beyond: polygons of cores side by side neither overlap nor leave gaps.

    Dropping corners of pixel edges instead, by distance (Douglas-Peucker) or by area
    (`shapely.coverage_simplify`), leaves a staircase of 45 degrees as it is: each of its corners is 0.71
    pixels off the line through its neighbours.

    Parameters
    ----------
    road : (1 + H + 1, 1 + W + 1) the core and one pixel around it.
    transform : from pixels of the core to places.

    Examples
    --------
    >>> road = np.pad(np.ones((3, 4), bool), 1)
    >>> [polygon.area for polygon in road_polygons(road, Affine.identity())]
    [12.0]
    """
    core = road[1:-1, 1:-1]
    outlines = outlines_of(core)
    if len(outlines.offsets) == 1:
        return np.empty(0, object)
    course = _course(outlines, road)
    kept = np.flatnonzero(_kept(course))
    ring = np.searchsorted(course.offsets, kept, side="right") - 1
    places = np.stack([course.x[kept], course.y[kept]], axis=1) / 2
    polygons = _assembled(shapely.linearrings(places, indices=ring), outlines, core)
    return np.asarray(
        shapely.transform(polygons, lambda at: np.stack(transform @ (at[:, 0], at[:, 1]), axis=1))
    )


def _assembled(rings: NDArray[Any], outlines: Outlines, core: Mask) -> NDArray[Any]:
    """Polygons from shells and holes: a ring belongs to the roads that it has on its left."""
    _, labels = cv2.connectedComponents(core.astype(np.uint8), connectivity=8)
    y, x = outlines.cracks.road_pixel()
    first = outlines.offsets[:-1]
    label = labels[y[first], x[first]]
    hole = signed_areas(outlines) < 0
    # a polygon's shell starts at its upper left corner, so labels are put in the order of shells
    place = np.empty(len(labels) and int(labels.max()) + 1, np.int64)
    place[label[~hole]] = np.arange((~hole).sum())
    polygon = place[label]
    order = np.lexsort((np.arange(len(hole)), hole, polygon))
    return np.asarray(shapely.polygons(rings[order], indices=polygon[order]))


def _course(outlines: Outlines, road: Mask) -> _Course:
    """Where rings may be drawn; `road` has one pixel around the core."""
    cracks, offsets = outlines.cracks, outlines.offsets
    height, width = road.shape[0] - 2, road.shape[1] - 2
    step_y, step_x = cracks.step()
    follower = np.arange(1, len(cracks.y) + 1)
    follower[offsets[1:] - 1] = offsets[:-1]
    on_edge = np.where(
        step_x == 0, (cracks.x == 0) | (cracks.x == width), (cracks.y == 0) | (cracks.y == height)
    )
    y, x = cracks.other_pixel()
    beyond = road[y + 1, x + 1]
    turns = cracks.heading != cracks.heading[follower]
    corner = on_edge != on_edge[follower]
    corner |= on_edge & on_edge[follower] & (turns | (beyond != beyond[follower]))
    # each crack gives its middle unless it lies on the edge, then the corner at its end if that must stay
    there = np.stack([~on_edge, corner], axis=1)
    middle = np.stack([2 * cracks.y + step_y, 2 * cracks.x + step_x], axis=1)
    end = np.stack([2 * (cracks.y + step_y), 2 * (cracks.x + step_x)], axis=1)
    places = np.stack([middle, end], axis=1)[there]
    fixed = np.stack([np.zeros_like(corner), corner], axis=1)[there]
    return _closed(places, fixed, np.concatenate([[0], np.cumsum(there.sum(axis=1))])[offsets])


def _closed(places: IntArray, fixed: Mask, offsets: IntArray) -> _Course:
    """Rings that end where they start, with at least two places that stay."""
    first = offsets[:-1]
    ring = np.repeat(np.arange(len(first)), np.diff(offsets))
    free = ~np.logical_or.reduceat(fixed, first)
    # rings start at their upper left corner, and bend there; the farthest place from it is the other
    apart = ((places - places[first][ring]) ** 2).sum(axis=1)
    farthest = np.flatnonzero(apart == np.maximum.reduceat(apart, first)[ring])
    farthest = farthest[np.unique(ring[farthest], return_index=True)[1]]
    fixed[first[free]] = fixed[farthest[free]] = True
    # a ring with places that stay starts at the first of them
    there = np.flatnonzero(fixed)
    start = there[np.unique(ring[there], return_index=True)[1]]
    size = np.diff(offsets) + 1
    closed = np.concatenate([[0], np.cumsum(size)])
    along = np.arange(closed[-1]) - np.repeat(closed[:-1], size)
    index = np.repeat(first, size) + (along + np.repeat(start - first, size)) % np.repeat(size - 1, size)
    y, x = places[index].T
    return _Course(y, x, fixed[index], closed)


def _kept(course: _Course) -> Mask:
    """(N,) the places that rings are drawn through; chords between them are split after Douglas and Peucker.

    No two chords meet but where one goes on as the other. Inside the core the way from place to place keeps
    0.7 px from all other places, and a chord half a pixel from its way: to come to lie across another, one of
    them would have to pass an end of the other. Chords reach the edge with their ends, or go along it.
    """
    kept = course.fixed.copy()
    first, last = _chords(course)
    while (long := last - first > 1).any():
        first, last = first[long], last[long]
        split = np.concatenate([_splits(course, first[n], last[n]) for n in _batches(last - first)])
        bad = split >= 0
        kept[split[bad]] = True
        first, last = np.concatenate([first[bad], split[bad]]), np.concatenate([split[bad], last[bad]])
    return kept


def _chords(course: _Course) -> tuple[IntArray, IntArray]:
    """(C,) first and last places of the chords between those that must stay."""
    ends = np.flatnonzero(course.fixed)
    of_a_ring = ~np.isin(ends[1:], course.offsets)
    return ends[:-1][of_a_ring], ends[1:][of_a_ring]


def _batches(lengths: IntArray) -> list[slice]:
    """Neighbours in lots of about as many places."""
    lot = np.cumsum(lengths) // _AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(lot)) + 1), len(lengths)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _splits(course: _Course, first: IntArray, last: IntArray) -> IntArray:
    """(S,) where each chord from `first` to `last` must be bent, -1 where it fits.

    It fits if no place between is farther than half a pixel, and all are as much on one side of it as on the
    other.
    """
    size = last - first + 1
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    chord = np.repeat(np.arange(len(first)), size)
    place = np.arange(len(chord)) - start[chord] + first[chord]
    dy, dx = course.y[last] - course.y[first], course.x[last] - course.x[first]
    squared = dx**2 + dy**2
    y, x = course.y[place] - course.y[first][chord], course.x[place] - course.x[first][chord]
    dy, dx = dy[chord], dx[chord]
    across, along = dx * y - dy * x, dx * x + dy * y
    # half a pixel is 1 here
    wrong = across**2 > squared[chord]
    wrong |= (along < 0) & (x**2 + y**2 > 1)
    wrong |= (along > squared[chord]) & ((x - dx) ** 2 + (y - dy) ** 2 > 1)
    bad = np.logical_or.reduceat(wrong, start)
    mean = np.abs(np.add.reduceat(across, start)) / (size - 1)
    bad |= mean > 2 * _MOST_MEAN_PX * np.sqrt(squared)
    across = np.abs(across)
    across[start] = across[start + size - 1] = -1
    farthest = np.flatnonzero(across == np.maximum.reduceat(across, start)[chord])
    split = place[farthest[np.unique(chord[farthest], return_index=True)[1]]]
    return np.where(bad, split, -1)
