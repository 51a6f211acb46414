"""The grid: a raster whose pixels are tiles.

A grid is a window on an endless lattice: an origin, a cell size and the absolute index of the
window's north-west tile. Absolute indices make ids agree between people and boxes; the window makes
(row, col). Row 0 is north; a point on a shared edge belongs to the tile right of and below it, as in
XYZ tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import ArrayLike, NDArray

from roadrisk.errors import GridError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PART_SIDE_PX = 4096
_AT_ONCE = 1 << 16  # points whose work space stays in the processor's cache

Scheme = Literal["zoom", "cell", "shape"]


class LngLatBbox(NamedTuple):
    """A box in degrees."""

    west: float
    south: float
    east: float
    north: float


class Bbox(NamedTuple):
    """A box in the units of a grid's CRS."""

    left: float
    bottom: float
    right: float
    top: float


class Part(NamedTuple):
    """A rectangle of tiles that is stored as one file: rows [row, row + rows), cols [col, col + cols)."""

    row: int
    col: int
    rows: int
    cols: int

    @property
    def name(self) -> str:
        """File stem, from its first tile.

        >>> Part(16, 32, 16, 16).name
        'r00016c00032'
        """
        return f"r{self.row:05d}c{self.col:05d}"


@dataclass(frozen=True)
class Grid:
    """A window of `rows` x `cols` square tiles on a lattice.

    Parameters
    ----------
    scheme : how tiles are named: `zoom` z/x/y, `cell` epsg/cell/E/N, `shape` r00c00.
    crs : an authority string such as `EPSG:32619`.
    origin_x, origin_y : where lattice index (0, 0) has its north-west corner, CRS units.
    cell : side of a tile, CRS units.
    x0, y0 : lattice index of the window's north-west tile; x grows east, y grows south.
    zoom : XYZ zoom of a `zoom` grid.

    Examples
    --------
    >>> from roadrisk.gridding import grid_of_zoom
    >>> grid = grid_of_zoom(LngLatBbox(-93.7, 41.5, -93.5, 41.7), 14)
    >>> grid.shape, grid.tile_id(0, 0)
    ((13, 10), '14/3927/6100')
    """

    scheme: Scheme
    crs: str
    origin_x: float
    origin_y: float
    cell: float
    x0: int
    y0: int
    rows: int
    cols: int
    zoom: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.rows, self.cols

    @property
    def size(self) -> int:
        """Number of tiles."""
        return self.rows * self.cols

    @property
    def bounds(self) -> Bbox:
        """Outer edges of the window, CRS units."""
        return Bbox(
            self._x(self.x0), self._y(self.y0 + self.rows), self._x(self.x0 + self.cols), self._y(self.y0)
        )

    @property
    def transform(self) -> Affine:
        """(col, row) -> (x, y) of a tile's north-west corner."""
        left, _, _, top = self.bounds
        return Affine(self.cell, 0.0, left, 0.0, -self.cell, top)

    def picture_transform(self, tile_size: int) -> Affine:
        """(px, py) -> (x, y) of the mosaic with `tile_size` pixels a tile."""
        return self.transform @ Affine.scale(1.0 / tile_size)

    def tile_bounds(self, row: int, col: int) -> Bbox:
        """Edges of one tile, CRS units; equal to `mercantile.xy_bounds` on a `zoom` grid."""
        x, y = self.x0 + col, self.y0 + row
        return Bbox(self._x(x), self._y(y + 1), self._x(x + 1), self._y(y))

    def edges(self, rows: IntArray, cols: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """(N,) left, bottom, right and top of tiles, CRS units."""
        x, y = self.x0 + cols, self.y0 + rows
        return self._x(x), self._y(y + 1), self._x(x + 1), self._y(y)

    def tile_id(self, row: int, col: int) -> str:
        """The absolute name of a tile."""
        return str(self.tile_ids(np.array([row]), np.array([col]))[0])

    def tile_ids(self, rows: IntArray, cols: IntArray) -> NDArray[np.object_]:
        """(N,) absolute names of tiles."""
        if self.scheme == "shape":
            width = max(2, len(str(max(self.shape) - 1)))
            names = [
                f"r{r:0{width}d}c{c:0{width}d}" for r, c in zip(rows.tolist(), cols.tolist(), strict=True)
            ]
        elif self.scheme == "zoom":
            xs, ys = (self.x0 + cols).tolist(), (self.y0 + rows).tolist()
            names = [f"{self.zoom}/{x}/{y}" for x, y in zip(xs, ys, strict=True)]
        else:
            prefix = f"{self.crs.split(':')[-1]}/{self.cell:.12g}"
            easts, norths = (self.x0 + cols).tolist(), (-(self.y0 + rows) - 1).tolist()
            names = [f"{prefix}/{e}/{n}" for e, n in zip(easts, norths, strict=True)]
        return np.array(names, dtype=object)

    def every_tile(self) -> tuple[IntArray, IntArray]:
        """(size,) rows and (size,) cols of all tiles in (row, col) order."""
        rows, cols = np.divmod(np.arange(self.size, dtype=np.int64), self.cols)
        return rows, cols

    def locate(self, x: ArrayLike, y: ArrayLike) -> tuple[IntArray, IntArray]:
        """The tile of each point: (N,) rows and (N,) cols, both -1 outside the window.

        Parameters
        ----------
        x, y : (N,) coordinates in `crs`; a coordinate that is not finite is outside.

        Examples
        --------
        >>> from roadrisk.gridding import grid_of_shape
        >>> grid = grid_of_shape(LngLatBbox(-93.7, 41.5, -93.5, 41.7), 4, 4)
        >>> left, bottom, right, top = grid.bounds
        >>> [a.tolist() for a in grid.locate([left, right], [top, bottom])]
        [[0, -1], [0, -1]]
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        rows, cols = np.empty(len(x), dtype=np.int64), np.empty(len(x), dtype=np.int64)
        for some, row, col in self._steps(x, y):
            rows[some], cols[some] = self._within(row, col)
        return rows, cols

    def framed_index(self, x: FloatArray, y: FloatArray) -> Iterator[tuple[slice, IntArray]]:
        """Points in steps of few, each with its place in the window and a frame one tile wide around it.

        Reductions over tiles need no test of who is inside: they reduce into (rows + 2) x (cols + 2) bins
        and cut the frame off. The tile is that of `locate`, by the same arithmetic.

        Yields
        ------
        which points, and their (n,) index `(row + 1) * (cols + 2) + col + 1`, in the frame when outside.
        The array is written over by the next step.

        Examples
        --------
        >>> from roadrisk.gridding import grid_of_shape
        >>> grid = grid_of_shape(LngLatBbox(-93.7, 41.5, -93.5, 41.7), 2, 2)
        >>> left, bottom, right, top = grid.bounds
        >>> [i.tolist() for _, i in grid.framed_index(np.array([left, right]), np.array([top, top]))]
        [[5, 7]]
        """
        places = np.empty(min(len(x), _AT_ONCE), dtype=np.int64)
        for some, row, col in self._steps(x, y):
            row *= self.cols + 2
            row += col
            index = places[: len(row)]
            np.copyto(index, row, casting="unsafe")
            yield some, index

    def locate_lnglat(self, lng: ArrayLike, lat: ArrayLike) -> tuple[IntArray, IntArray]:
        """The tile of each (longitude, latitude) in degrees, as `locate`."""
        lng, lat = np.asarray(lng, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        if self.scheme == "zoom":
            u, v = unit_square(lng, lat)
            u *= 2.0**self.zoom_level
            v *= 2.0**self.zoom_level
            self._enframe(u, v)
            return self._within(v, u)
        return self.locate(*transformer("EPSG:4326", self.crs).transform(lng, lat))

    @property
    def zoom_level(self) -> int:
        """XYZ zoom.

        Raises
        ------
        GridError : not a `zoom` grid.
        """
        if self.zoom is None:
            raise GridError(f"a {self.scheme} grid has no zoom; make one with --zoom")
        return self.zoom

    def cells(self, rows: IntArray, cols: IntArray, crs: str | None = None) -> NDArray[Any]:
        """(N,) shapely polygons of tiles, counter-clockwise, in `crs` (else the grid's own).

        Edges get extra vertices where a straight edge would leave the true one by more than 1e-7
        degrees or a millimetre.
        """
        import shapely

        left, bottom, right, top = self.edges(rows, cols)
        if crs is None or crs == self.crs:
            return np.asarray(shapely.box(left, bottom, right, top, ccw=True))
        pieces = self._pieces_per_edge(crs)
        t = np.arange(pieces) / pieces
        ring_u = np.concatenate([t, np.ones(pieces), 1 - t, np.zeros(pieces), [0.0]])
        ring_v = np.concatenate([np.zeros(pieces), t, np.ones(pieces), 1 - t, [0.0]])
        xs = left[:, None] + (right - left)[:, None] * ring_u
        ys = bottom[:, None] + (top - bottom)[:, None] * ring_v
        xs, ys = transformer(self.crs, crs).transform(xs.ravel(), ys.ravel())
        rings = np.stack([xs, ys], axis=-1).reshape(len(rows), -1, 2)
        return np.asarray(shapely.polygons(rings))

    def centres(
        self, rows: IntArray, cols: IntArray, crs: str | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """(N,) x and (N,) y of tile centres in `crs` (else the grid's own)."""
        x, y = self._x(self.x0 + cols + 0.5), self._y(self.y0 + rows + 0.5)
        if crs is None or crs == self.crs:
            return x, y
        return transformer(self.crs, crs).transform(x, y)  # type: ignore[no-any-return]

    def area_km2(self, rows: IntArray, cols: IntArray) -> FloatArray:
        """(N,) ground area of tiles [km2], from the projection's areal scale at their centres."""
        from pyproj import Proj

        lng, lat = self.centres(rows, cols, "EPSG:4326")
        scale = Proj(self.crs).get_factors(lng, lat).areal_scale
        return np.asarray(self.cell**2 / np.asarray(scale) / 1e6, dtype=np.float64)

    @property
    def cell_m(self) -> float:
        """Ground side of the tile in the middle of the window [m]."""
        middle = np.array([self.rows // 2]), np.array([self.cols // 2])
        return float(math.sqrt(self.area_km2(*middle)[0] * 1e6))

    def parts(self, tile_size: int) -> list[Part]:
        """The files of a mosaic, in (row, col) order: squares of 4096 // tile_size tiles.

        >>> from roadrisk.gridding import grid_of_zoom
        >>> grid = grid_of_zoom(LngLatBbox(-93.7, 41.5, -93.5, 41.7), 16)
        >>> grid.shape, len(grid.parts(256))
        ((50, 37), 12)
        """
        side = tiles_per_part(tile_size)
        return [
            Part(r, c, min(side, self.rows - r), min(side, self.cols - c))
            for r in range(0, self.rows, side)
            for c in range(0, self.cols, side)
        ]

    def part_bounds(self, part: Part) -> Bbox:
        """Outer edges of a part, CRS units."""
        left, _, _, top = self.tile_bounds(part.row, part.col)
        _, bottom, right, _ = self.tile_bounds(part.row + part.rows - 1, part.col + part.cols - 1)
        return Bbox(left, bottom, right, top)

    def neighbours(self, row: int, col: int, reach: int = 1) -> list[tuple[int, int]]:
        """(row, col) of the tiles within `reach` steps, diagonals included, the tile itself not.

        >>> from roadrisk.gridding import grid_of_zoom
        >>> grid_of_zoom(LngLatBbox(-93.7, 41.5, -93.5, 41.7), 14).neighbours(0, 0)
        [(0, 1), (1, 0), (1, 1)]
        """
        return [
            (r, c)
            for r in range(max(0, row - reach), min(self.rows, row + reach + 1))
            for c in range(max(0, col - reach), min(self.cols, col + reach + 1))
            if (r, c) != (row, col)
        ]

    def coarser(self, factor: int) -> Grid:
        """The grid of tiles `factor` times as wide that covers this one, on the same lattice.

        Raises
        ------
        GridError : XYZ tiles only have parents of 2, 4, 8 ... times their width.
        """
        zoom = None
        if self.scheme == "zoom":
            steps = factor.bit_length() - 1
            if factor < 1 or 1 << steps != factor or steps > self.zoom_level:
                raise GridError(
                    f"zoom {self.zoom} has no parents {factor} times as wide; use a power of two up to "
                    f"{2**self.zoom_level}"
                )
            zoom = self.zoom_level - steps
        elif factor < 1:
            raise GridError(f"tiles cannot be made {factor} times as wide; use 1 or more")
        x0, y0 = self.x0 // factor, self.y0 // factor
        return replace(
            self,
            cell=self.cell * factor,
            x0=x0,
            y0=y0,
            rows=(self.y0 + self.rows - 1) // factor - y0 + 1,
            cols=(self.x0 + self.cols - 1) // factor - x0 + 1,
            zoom=zoom,
        )

    def parents(self, rows: IntArray, cols: IntArray, factor: int) -> tuple[IntArray, IntArray]:
        """(N,) rows and cols, in `coarser(factor)`, of the tiles that hold these tiles."""
        coarse = self.coarser(factor)
        return (self.y0 + rows) // factor - coarse.y0, (self.x0 + cols) // factor - coarse.x0

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values; `Grid(**fields)` gives the grid back."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    # one formula for every edge, so that a tile's right edge is its neighbour's left edge to the bit
    def _x(self, index: Any) -> Any:
        return index * self.cell + self.origin_x

    def _y(self, index: Any) -> Any:
        return self.origin_y - index * self.cell

    def _steps(self, x: FloatArray, y: FloatArray) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
        """Points a few at a time, with their framed rows and cols in work space that stays in the cache."""
        size = min(len(x), _AT_ONCE)
        work = np.empty(size), np.empty(size)
        for first in range(0, len(x), _AT_ONCE):
            some = slice(first, min(first + _AT_ONCE, len(x)))
            u, v = (space[: some.stop - first] for space in work)
            with np.errstate(over="ignore", invalid="ignore"):
                np.subtract(x[some], self.origin_x, out=u)
                np.subtract(self.origin_y, y[some], out=v)
                u /= self.cell
                v /= self.cell
            self._enframe(u, v)
            yield some, v, u

    def _enframe(self, u: FloatArray, v: FloatArray) -> None:
        """Turn lattice coordinates into cols and rows counted from 1, in place; outside into the frame."""
        world = None if self.zoom is None else 2**self.zoom
        # mercantile's epsilon is of its unit square
        epsilon = 1e-9 if world is None else 1e-14 * world
        for t, first, count in ((u, self.x0, self.cols), (v, self.y0, self.rows)):
            t += epsilon
            np.floor(t, out=t)
            least, most = t.min(initial=first), t.max(initial=first)  # NaN comes through both
            if not (first <= least and most < first + count):
                unknown = None if math.isfinite(least) and math.isfinite(most) else ~np.isfinite(t)
                # the tiles at the edge of the world hold what mercantile puts there from beyond it
                lowest = first - 1 if world is None else max(first - 1, 0)
                highest = first + count if world is None else min(first + count, world - 1)
                np.clip(t, lowest, highest, out=t)
                if unknown is not None:
                    t[unknown] = first - 1
            t -= first - 1

    def _within(self, row: FloatArray, col: FloatArray) -> tuple[IntArray, IntArray]:
        """(n,) rows and cols from framed ones: counted from 0, both -1 in the frame."""
        rows, cols = row.astype(np.int64), col.astype(np.int64)
        framed = (rows == 0) | (rows > self.rows) | (cols == 0) | (cols > self.cols)
        rows[framed] = cols[framed] = 0
        rows -= 1
        cols -= 1
        return rows, cols

    def _pieces_per_edge(self, crs: str) -> int:
        """Pieces an edge needs in `crs`; bending falls with their square, so one halving tells."""
        to_crs = transformer(self.crs, crs).transform
        tolerance = 1e-7 if _is_geographic(crs) else 1e-3
        rows = np.array([0, 0, self.rows - 1, self.rows - 1, self.rows // 2])
        cols = np.array([0, self.cols - 1, 0, self.cols - 1, self.cols // 2])
        x, y = self._x(self.x0 + cols), self._y(self.y0 + rows)
        bend = 0.0
        for dx, dy in ((self.cell, 0.0), (0.0, -self.cell)):
            (ax, ay), (mx, my), (bx, by) = (to_crs(x + f * dx, y + f * dy) for f in (0.0, 0.5, 1.0))
            # distance of the true middle from the chord: an edge may be straight and yet unevenly spaced
            across = np.abs((bx - ax) * (my - ay) - (by - ay) * (mx - ax)) / np.hypot(bx - ax, by - ay)
            bend = max(bend, float(across.max()))
        return max(1, math.ceil(math.sqrt(bend / tolerance)))


def tiles_per_part(block: int) -> int:
    """Tiles along a side of a part whose tiles have `block` pixels along theirs."""
    return PART_SIDE_PX // block


def unit_square(lng: FloatArray, lat: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mercantile's `_xy`: the world as a unit square, y down."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sin_lat = np.sin(np.radians(lat))
        return lng / 360.0 + 0.5, 0.5 - 0.25 * np.log((1.0 + sin_lat) / (1.0 - sin_lat)) / math.pi


@lru_cache(maxsize=64)
def transformer(source: str, target: str) -> Any:
    """The pyproj transformer between two CRSs, x before y."""
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


@lru_cache(maxsize=64)
def _is_geographic(crs: str) -> bool:
    from pyproj import CRS

    return bool(CRS.from_user_input(crs).is_geographic)
