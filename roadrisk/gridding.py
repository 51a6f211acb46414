"""Grids made to cover a box: XYZ tiles, square cells, or rows by columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from roadrisk.errors import GridError
from roadrisk.grid import (
    Bbox,
    Grid,
    IntArray,
    LngLatBbox,
    transformer,
    unit_square,
)

MAX_TILES = 50_000_000
MERCATOR_LIMIT_DEG = 85.0511287798066  # atan(sinh(pi)): where the square of EPSG:3857 ends
MERCATOR_HALF_M = math.pi * 6378137.0


def grid_of_zoom(bbox: LngLatBbox, zoom: int) -> Grid:
    """The XYZ tiles of a box, as `mercantile.tiles` gives them.

    Raises
    ------
    GridError : zoom outside 0 to 24, or a box that makes no grid.
    """
    if not 0 <= zoom <= 24:
        raise GridError(f"zoom {zoom} is not between 0 and 24")
    box = checked_bbox(bbox)
    if max(abs(box.south), abs(box.north)) > MERCATOR_LIMIT_DEG:
        raise GridError(
            f"latitude {max(box.south, box.north, key=abs):g} is beyond the Web Mercator limit of 85.0511; "
            "use --cell with a polar --crs"
        )
    world = 2**zoom
    # like mercantile.tiles: the box is open to the east and south by 1e-11 degrees
    u, v = unit_square(np.array([box.west, box.east - 1e-11]), np.array([box.north, box.south + 1e-11]))
    epsilon = 1e-14
    x = np.clip(np.floor((u + epsilon) * world), 0, world - 1).astype(int)
    y = np.clip(np.floor((v + epsilon) * world), 0, world - 1).astype(int)
    return _checked_size(
        Grid(
            scheme="zoom",
            crs="EPSG:3857",
            origin_x=-MERCATOR_HALF_M,
            origin_y=MERCATOR_HALF_M,
            cell=2 * MERCATOR_HALF_M / world,
            x0=int(x[0]),
            y0=int(y[0]),
            rows=int(y[1] - y[0] + 1),
            cols=int(x[1] - x[0] + 1),
            zoom=zoom,
        )
    )


def grid_of_cell(bbox: LngLatBbox, cell: float, crs: str | None = None) -> Grid:
    """Square cells whose edges are at multiples of `cell` from the CRS origin.

    Parameters
    ----------
    cell : side of a tile, CRS units.
    crs : a projected CRS; without it the UTM zone of the box's centre.
    """
    box = checked_bbox(bbox)
    if not (math.isfinite(cell) and cell > 0):
        raise GridError(f"a cell of {cell:g} metres makes no tiles; give --cell a length above 0")
    crs = _projected(crs, box)
    left, bottom, right, top = _projected_bounds(box, crs)
    x0, x1 = math.floor(left / cell + 1e-9), math.ceil(right / cell - 1e-9)
    y0, y1 = math.floor(-top / cell + 1e-9), math.ceil(-bottom / cell - 1e-9)
    return _checked_size(Grid("cell", crs, 0.0, 0.0, float(cell), x0, y0, max(1, y1 - y0), max(1, x1 - x0)))


def grid_of_shape(bbox: LngLatBbox, rows: int, cols: int, crs: str | None = None) -> Grid:
    """The box cut into `rows` x `cols` equal square tiles.

    Pixels are square, so the shorter side of the box is widened evenly on both ends.
    """
    box = checked_bbox(bbox)
    if rows < 1 or cols < 1:
        raise GridError(
            f"a shape of {rows}x{cols} makes no tiles; give --shape two numbers above 0, as in 4x4"
        )
    crs = _projected(crs, box)
    left, bottom, right, top = _projected_bounds(box, crs)
    cell = max((right - left) / cols, (top - bottom) / rows)
    west, north = (left + right - cell * cols) / 2, (top + bottom + cell * rows) / 2
    return _checked_size(Grid("shape", crs, west, north, cell, 0, 0, rows, cols))


def checked_tile_size(tile_size: int) -> int:
    """The same number of pixels, found to fit.

    Raises
    ------
    GridError : not a multiple of 16 from 64 to 1024, which GeoTIFF blocks must be.
    """
    if not (64 <= tile_size <= 1024 and tile_size % 16 == 0):
        below = min(max(tile_size // 16 * 16, 64), 1008)
        raise GridError(
            f"a tile size of {tile_size} px is not a multiple of 16 from 64 to 1024; "
            f"the nearest are {below} and {below + 16}"
        )
    return tile_size


def checked_bbox(values: Sequence[float]) -> LngLatBbox:
    """West, south, east, north in degrees, or an error that says what is wrong with them.

    >>> checked_bbox([-93.5, 41.5, -93.7, 41.7])
    Traceback (most recent call last):
    ...
    roadrisk.errors.GridError: --bbox -93.5 41.5 -93.7 41.7 has west right of east; the order is W S E N
    """
    if len(values) != 4:
        raise GridError(f"a box has four numbers, west south east north; {len(values)} given")
    west, south, east, north = box = LngLatBbox(*(float(v) for v in values))
    said = f"--bbox {west:g} {south:g} {east:g} {north:g}"
    if not all(math.isfinite(v) for v in box):
        raise GridError(f"{said} has a number that is not finite")
    if west > 180 or east > 180:
        raise GridError(
            f"{said} crosses the antimeridian; cut it in two at longitude 180 and make a dataset of each"
            if west <= 180 < east <= 540
            else f"{said} is outside the world: longitudes end at 180"
        )
    if max(abs(west), abs(east)) > 180 or max(abs(south), abs(north)) > 90:
        swapped = max(abs(south), abs(north)) <= 180 and max(abs(west), abs(east)) <= 90
        hint = "; latitude and longitude look swapped: the order is W S E N" if swapped else ""
        raise GridError(f"{said} is outside the world, -180 -90 180 90{hint}")
    if west > 0 > east and west - east > 180:
        raise GridError(
            f"{said} crosses the antimeridian; cut it in two at longitude 180 and make a dataset of each"
        )
    if west > east:
        raise GridError(f"{said} has west right of east; the order is W S E N")
    if south > north:
        raise GridError(f"{said} has south above north; the order is W S E N")
    if west == east or south == north:
        raise GridError(f"{said} is empty: it has no width or no height")
    return box


def tiles_in(grid: Grid, bbox: LngLatBbox) -> int:
    """Number of the grid's tiles whose centre lies inside the box."""
    count = 0
    for rows, cols in _row_bands(grid):
        lng, lat = grid.centres(rows, cols, "EPSG:4326")
        inside = (lng >= bbox.west) & (lng < bbox.east) & (lat >= bbox.south) & (lat < bbox.north)
        count += int(inside.sum())
    return count


def _row_bands(grid: Grid, tiles: int = 1_000_000) -> Iterator[tuple[IntArray, IntArray]]:
    step = max(1, tiles // grid.cols)
    for first in range(0, grid.rows, step):
        index = np.arange(first * grid.cols, min(first + step, grid.rows) * grid.cols, dtype=np.int64)
        yield index // grid.cols, index % grid.cols


def _checked_size(grid: Grid) -> Grid:
    if grid.size > MAX_TILES:
        raise GridError(
            f"{grid.rows:,} x {grid.cols:,} = {grid.size:,} tiles; the most is {MAX_TILES:,}: "
            "use a smaller box or larger tiles"
        )
    return grid


def _projected(crs: str | None, box: LngLatBbox) -> str:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    if crs is None:
        lng, lat = (box.west + box.east) / 2, (box.south + box.north) / 2
        zone = min(int((lng + 180) // 6) + 1, 60)
        return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"
    try:
        parsed = CRS.from_user_input(crs)
    except CRSError:
        raise GridError(f"--crs {crs} is not a CRS that PROJ knows; write it as EPSG:32615") from None
    authority = parsed.to_authority()
    if authority is None:
        raise GridError(f"--crs {crs} has no EPSG code; give one that has, as in EPSG:32615")
    if not parsed.is_projected or abs(parsed.axis_info[0].unit_conversion_factor - 1) > 1e-12:
        raise GridError(
            f"--crs {crs} is not in metres; use a projected one such as the UTM zone (leave --crs out)"
        )
    return ":".join(authority)


def _projected_bounds(box: LngLatBbox, crs: str) -> Bbox:
    bounds = Bbox(*transformer("EPSG:4326", crs).transform_bounds(*box, densify_pts=101))
    if not all(math.isfinite(v) for v in bounds):
        raise GridError(f"the box lies outside the area where {crs} is defined; choose another --crs")
    return bounds
