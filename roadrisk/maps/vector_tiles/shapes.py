"""Points, lines and polygons in vector tiles, simplified to the unit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, IntArray
from roadrisk.maps.places import Places
from roadrisk.maps.vector_tiles.encoding import LINE, POINT, POLYGON, Drawn
from roadrisk.maps.vector_tiles.varints import zigzag
from roadrisk.maps.vector_tiles.world import (
    BUFFER,
    EXTENT,
    WEB_MERCATOR,
    WorldBox,
    tile_box,
    world_xy,
)

MOST_FEATURES = 20_000  # of a tile below the highest zoom: some 500 kB when compressed
EXACT_ZOOM = 14  # a unit is then 0.6 m at the equator
MARK_UNITS = np.array([8, 8, 32])  # a css px is 8 of them: a smaller point, line, polygon is drawn as a mark
COLLECTION = 7  # shapely's number of its type
MOVE_TO, LINE_TO, CLOSE_PATH = 1, 2, 7


class Shown(NamedTuple):
    """The shapes of a tile: (m,) which, how many each stands for, (m, 2) corners of marks; NaN where none."""

    which: IntArray
    stands_for: IntArray
    marks: FloatArray


@dataclass(frozen=True, eq=False)
class ShapeTiles:
    """Shapes at every zoom.

    Parameters
    ----------
    shapes : (n,) in the unit square, none of them empty.
    rows : (n,) of the layer.
    standing : (n,) places in line, the lowest stay where a tile holds too many.
    zooms : the lowest and the highest.
    """

    shapes: NDArray[Any]
    rows: IntArray
    standing: IntArray
    zooms: tuple[int, int]

    @cached_property
    def extent(self) -> WorldBox | None:
        """Of all shapes."""
        return WorldBox(*shapely.total_bounds(self.shapes).tolist()) if len(self.shapes) else None

    @cached_property
    def tree(self) -> shapely.STRtree:
        """The boxes of the shapes."""
        return shapely.STRtree(self.shapes)

    @cached_property
    def bounds(self) -> FloatArray:
        """(n, 4) left, top, right, bottom."""
        return np.asarray(shapely.bounds(self.shapes))

    @cached_property
    def dimensions(self) -> IntArray:
        """(n,) 0 for points, 1 for lines, 2 for polygons."""
        return np.asarray(shapely.get_dimensions(self.shapes))

    def meets(self, z: int, x: int, y: int) -> bool:
        """Whether a shape reaches into a tile or its margin."""
        return bool(self.tree.query(shapely.box(*tile_box(z, x, y)), predicate="intersects").size)

    def drawn(self, z: int, x: int, y: int) -> Drawn | None:
        """What a tile holds, the first in line last, so that it is drawn on top; None without anything."""
        which = np.sort(self.tree.query(shapely.box(*tile_box(z, x, y))))
        corner, scale = np.array([x, y]) * float(EXTENT), EXTENT * 2.0**z
        if z < self.zooms[1]:
            shown = self._thinned(which, corner, scale)
        else:
            order = np.argsort(-self.standing[which])
            shown = Shown(which[order], np.ones(len(which), np.int64), np.full((len(which), 2), np.nan))
        dimensions = self.dimensions[shown.which]
        marked = ~np.isnan(shown.marks[:, 0]) & (dimensions > 0)
        units = np.empty(len(marked), dtype=object)
        units[marked] = _marks(shown.marks[marked], dimensions[marked])
        itself = shapely.transform(self.shapes[shown.which[~marked]], lambda at: at * scale - corner)
        units[~marked] = whole_units(clipped(itself, dimensions[~marked]), dimensions[~marked])
        kept = ~shapely.is_empty(units)
        if not kept.any():
            return None
        return _drawn(units[kept], self.rows[shown.which[kept]], shown.stands_for[kept])

    def _thinned(self, which: IntArray, corner: FloatArray, scale: float) -> Shown:
        """The first in line of small ones that share a mark, and the others, as many as a tile takes."""
        box = self.bounds[which].reshape(-1, 2, 2) * scale - corner  # (m, low and high, x and y)
        side = MARK_UNITS[self.dimensions[which]]
        small = (np.ptp(box, axis=1) < side[:, None]).all(axis=1)
        square = np.floor(box.mean(axis=1) / side[:, None]).astype(np.int64)
        marks = np.where(small[:, None], square * side[:, None], np.nan)
        key = np.where(small, _key(self.dimensions[which], square), -1 - np.arange(len(which)))
        line = np.argsort(self.standing[which])
        _, first, many = np.unique(key[line], return_index=True, return_counts=True)
        order = np.argsort(first)
        chosen, many = line[first[order]], many[order]
        beyond = (marks[chosen] < -BUFFER).any(axis=1) | (marks[chosen] >= EXTENT + BUFFER).any(axis=1)
        chosen, many = chosen[~beyond][:MOST_FEATURES][::-1], many[~beyond][:MOST_FEATURES][::-1]
        return Shown(which[chosen], many, marks[chosen])


def shape_tiles(places: Places, standing: IntArray, zooms: tuple[int, int] | None) -> ShapeTiles:
    """Shapes ready for every zoom; those without a place are left out.

    Of a collection of points, lines and polygons the parts of the highest dimension are drawn.

    Parameters
    ----------
    standing : (N,) numbers that put them in line, the lowest stay where a tile holds too many.
    """
    shapes = places.shapes(WEB_MERCATOR)
    rows = np.flatnonzero(~(shapely.is_missing(shapes) | shapely.is_empty(shapes)))
    shapes = shapely.force_2d(shapes[rows])
    broken = ~shapely.is_valid(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken])
    shapes = _of_dimension(shapes, shapely.get_dimensions(shapes))
    moved = shapely.transform(shapes, lambda at: np.stack(world_xy(at[:, 0], at[:, 1], WEB_MERCATOR), axis=1))
    return ShapeTiles(moved, rows, standing[rows], zooms or (0, EXACT_ZOOM))


def clipped(shapes: NDArray[Any], dimensions: IntArray) -> NDArray[Any]:
    """(n,) shapes in units of a tile, cut off beyond its buffer; empty where only their edge touches it."""
    low, high = -BUFFER, EXTENT + BUFFER
    bounds = shapely.bounds(shapes)
    across = (bounds[:, :2] < low).any(axis=1) | (bounds[:, 2:] > high).any(axis=1)
    made = shapes.copy()
    made[across] = shapely.clip_by_rect(shapes[across], low, low, high, high)
    return _of_dimension(made, dimensions)


def whole_units(shapes: NDArray[Any], dimensions: IntArray) -> NDArray[Any]:
    """(n,) shapes on whole units; a line or polygon that vanishes there is a unit long or wide."""
    made = shapes.copy()
    made[dimensions == 0] = shapely.transform(shapes[dimensions == 0], np.rint)
    for dimension in (1, 2):
        some = np.flatnonzero((dimensions == dimension) & ~shapely.is_empty(shapes))
        simpler = shapely.simplify(shapes[some], 0.5, preserve_topology=dimension == 2)
        snapped = shapely.set_precision(simpler, 1.0)
        gone = np.flatnonzero(shapely.is_empty(snapped))
        corners = np.floor(shapely.bounds(shapes[some[gone]])[:, :2])
        snapped[gone] = _marks(corners, dimensions[some[gone]], np.ones(3))
        made[some] = snapped
    return made


def _key(dimensions: IntArray, square: IntArray) -> IntArray:
    """(n,) numbers from 0, the same where dimension and (n, 2) square are; a shape begins near a tile."""
    across = 2 * EXTENT
    return np.asarray((dimensions * across + square[:, 0] + BUFFER * 2) * across + square[:, 1] + BUFFER * 2)


def _marks(corners: FloatArray, dimensions: IntArray, side: NDArray[Any] = MARK_UNITS) -> NDArray[Any]:
    """(n,) squares, or lines along their upper side, from their (n, 2) corners."""
    left, top = corners.T
    right, bottom = left + side[dimensions], top + side[dimensions]
    ends = np.stack([np.stack([left, top], -1), np.stack([right, top], -1)], axis=1)  # (n, 2, 2)
    made = np.empty(len(corners), dtype=object)
    flat = dimensions == 1
    made[flat] = shapely.linestrings(ends[flat])
    made[~flat] = shapely.box(left[~flat], top[~flat], right[~flat], bottom[~flat])
    return made


def _of_dimension(shapes: NDArray[Any], dimensions: IntArray) -> NDArray[Any]:
    """(n,) shapes, or the parts of a collection that have a dimension; empty where nothing has it."""
    made = shapes.copy()
    for i in np.flatnonzero(shapely.get_type_id(shapes) == COLLECTION):
        parts = shapely.get_parts(shapely.get_parts(shapes[i]))
        made[i] = shapely.union_all(parts[shapely.get_dimensions(parts) == dimensions[i]])
    made[shapely.get_dimensions(made) != dimensions] = shapely.GeometryCollection()
    return made


def _drawn(shapes: NDArray[Any], rows: IntArray, stands_for: IntArray) -> Drawn:
    """Shapes on whole units as the commands that draw them."""
    kinds = np.array([POINT, LINE, POLYGON], dtype=np.uint8)[shapely.get_dimensions(shapes)]
    paths, owner = _paths(shapes, kinds)
    kind = kinds[owner]
    at, path = shapely.get_coordinates(paths, return_index=True)
    last = np.concatenate([np.diff(path) != 0, [True]])
    keep = ~(last & (kind[path] == POLYGON))  # a ring comes back by its command
    vertices = np.bincount(path[keep], minlength=len(paths))
    commands, lengths = _commands(np.rint(at[keep]).astype(np.int64), vertices, owner, kind)
    return Drawn(rows, kinds, commands, np.bincount(owner, lengths, len(rows)).astype(np.int64), stands_for)


def _paths(shapes: NDArray[Any], kinds: NDArray[np.uint8]) -> tuple[NDArray[Any], IntArray]:
    """The (p,) rings, lines and multipoints of shapes, and the shape that each belongs to."""
    polygons, lines, points = (np.flatnonzero(kinds == kind) for kind in (POLYGON, LINE, POINT))
    faces, face_of = shapely.get_parts(shapely.orient_polygons(shapes[polygons]), return_index=True)
    rings, ring_of = shapely.get_rings(faces, return_index=True)
    parts, part_of = shapely.get_parts(shapes[lines], return_index=True)
    paths = np.concatenate([rings, parts, shapes[points]])
    owner = np.concatenate([polygons[face_of[ring_of]], lines[part_of], points])
    order = np.argsort(owner, kind="stable")
    return paths[order], owner[order]


def _commands(
    at: IntArray, vertices: IntArray, owner: IntArray, kind: NDArray[np.uint8]
) -> tuple[NDArray[np.uint32], IntArray]:
    """Command and parameter integers of p paths with (v, 2) vertices, and how many each has."""
    first = np.cumsum(vertices) - vertices
    # the cursor runs on through the paths of a shape and starts anew with the next shape
    steps = np.diff(at, axis=0, prepend=0)
    fresh = first[np.concatenate([[True], np.diff(owner) != 0])]
    steps[fresh] = at[fresh]
    dots = kind == POINT
    lengths = 2 * vertices + np.where(dots, 1, np.where(kind == LINE, 2, 3))
    starts = np.cumsum(lengths) - lengths
    made = np.empty(int(lengths.sum()), dtype=np.uint32)
    made[starts] = MOVE_TO | np.where(dots, vertices, 1) << 3
    made[starts[~dots] + 3] = LINE_TO | (vertices[~dots] - 1) << 3
    made[(starts + lengths)[kind == POLYGON] - 1] = CLOSE_PATH | 1 << 3
    nth = np.arange(len(at)) - np.repeat(first, vertices)
    place = np.repeat(starts, vertices) + 1 + 2 * nth + (np.repeat(~dots, vertices) & (nth > 0))
    made[place], made[place + 1] = zigzag(steps).T
    return made, lengths
