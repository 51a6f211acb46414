"""Pixels summed by tile, each with the exact share of it that lies inside the tile.

No pixel is compared with a tile. The sum over a tile is a line integral along its edges (Green's
theorem, with the running sum of a pixel row as the function whose change along x is the pixel's value),
so the work grows with the length of the edges, an edge serves both its tiles, and any CRS, rotation and
size of pixel goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, Grid, IntArray

# columns, rows of pixels from the top left corner of a picture, as GDAL counts them
ToPixels = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class TileEdges:
    """The edges of a rectangle of R x C tiles as lines of P points, in pixels.

    Parameters
    ----------
    down : (R, C + 1, P, 2) from north to south, x and y of the picture.
    across : (R + 1, C, P, 2) from west to east.
    """

    down: FloatArray
    across: FloatArray

    def around(self, along_down: FloatArray, along_across: FloatArray) -> FloatArray:
        """(..., R, C) integrals once around each tile, from those along its edges."""
        return (
            along_down[..., :, 1:]
            - along_down[..., :, :-1]
            + along_across[..., :-1, :]
            - along_across[..., 1:, :]
        )


@dataclass(frozen=True)
class _Pieces:
    """Straight pieces: (N,) where each starts and ends, and which edge it is of."""

    x0: FloatArray
    y0: FloatArray
    x1: FloatArray
    y1: FloatArray
    edge: IntArray

    def chosen(self, which: IntArray) -> _Pieces:
        return _Pieces(self.x0[which], self.y0[which], self.x1[which], self.y1[which], self.edge[which])

    @property
    def turned(self) -> _Pieces:
        """With x and y in each other's place."""
        return _Pieces(self.y0, self.x0, self.y1, self.x1, self.edge)


def tile_edges(grid: Grid, rows: range, cols: range, pieces: int, to_pixels: ToPixels) -> TileEdges:
    """The edges of the tiles of `rows` x `cols`.

    Parameters
    ----------
    pieces : straight pieces an edge needs to follow its true course among the pixels.
    to_pixels : (N,) x and (N,) y in the grid's CRS -> (N,) columns and (N,) rows of pixels.
    """
    left, _, _, top = grid.bounds
    fine_rows = top - grid.cell * (rows.start + np.arange(len(rows) * pieces + 1) / pieces)
    fine_cols = left + grid.cell * (cols.start + np.arange(len(cols) * pieces + 1) / pieces)
    down = _points(fine_cols[::pieces], fine_rows, to_pixels)  # (R * pieces + 1, C + 1, 2)
    across = _points(fine_cols, fine_rows[::pieces], to_pixels)  # (R + 1, C * pieces + 1, 2)
    step_r, step_c = (np.arange(len(n)) * pieces for n in (rows, cols))
    along = np.arange(pieces + 1)
    return TileEdges(
        down=down[step_r[:, None] + along].transpose(0, 2, 1, 3),
        across=across[:, step_c[:, None] + along],
    )


def tile_areas(edges: TileEdges) -> FloatArray:
    """(R, C) areas of tiles in pixels; negative where the picture is mirrored, as one with south up is."""
    corner = edges.down[0, 0, 0]

    def along(points: FloatArray) -> FloatArray:
        x, y = np.moveaxis(points - corner, -1, 0)
        return np.asarray(((x[..., 1:] + x[..., :-1]) / 2 * np.diff(y)).sum(axis=-1))

    return edges.around(along(edges.down), along(edges.across))


def running_sums(layers: Sequence[NDArray[Any]]) -> FloatArray:
    """(K, H, W + 1) sums of the pixels of each row left of a column.

    Parameters
    ----------
    layers : K times (H, W) values of pixels.
    """
    height, width = layers[0].shape
    running = np.zeros((len(layers), height, width + 1))
    for sums, layer in zip(running, layers, strict=True):
        np.cumsum(layer, axis=1, dtype=np.float64, out=sums[:, 1:])
    return running


def tile_sums(edges: TileEdges, running: FloatArray) -> FloatArray:
    """(K, R, C) pixel values times their area inside each tile, of the sign of `tile_areas`.

    Parameters
    ----------
    running : (K, H, W + 1) `running_sums` of the pixels [0, W) x [0, H); there is nothing beyond.

    Examples
    --------
    Half a pixel of 4 and half a pixel of 6:

    >>> down = np.array([[[[0.5, 0], [0.5, 1]], [[1.5, 0], [1.5, 1]]]])
    >>> across = np.array([[[[0.5, 0], [1.5, 0]]], [[[0.5, 1], [1.5, 1]]]])
    >>> tile_sums(TileEdges(down, across), running_sums([np.array([[4, 6]])])).tolist()
    [[[5.0]]]
    """
    return edges.around(_along(edges.down, running), _along(edges.across, running))


def horn_slopes(elevation: FloatArray, pixel_x_m: FloatArray, pixel_y_m: FloatArray) -> FloatArray:
    """(H, W) steepest slope of each pixel in degrees; NaN where one of the nine around it is missing.

    Horn, B.K.P. (1981), Hill shading and the reflectance map, Proceedings of the IEEE 69(1), 14-47: the
    differences of the columns, and of the rows, beside a pixel, the middle one counted twice.

    Parameters
    ----------
    elevation : (H + 2, W + 2) metres, with the pixels around; NaN where missing.
    pixel_x_m, pixel_y_m : (H,) ground sides of the pixels of each row.

    Examples
    --------
    >>> horn_slopes(np.tile([0.0, 1, 2], (3, 1)), np.ones(1), np.ones(1)).round(6).tolist()
    [[45.0]]
    """
    down = elevation[:-2] + 2 * elevation[1:-1] + elevation[2:]
    right = elevation[:, :-2] + 2 * elevation[:, 1:-1] + elevation[:, 2:]
    along_x = (down[:, 2:] - down[:, :-2]) / (8 * pixel_x_m[:, None])
    along_y = (right[2:] - right[:-2]) / (8 * pixel_y_m[:, None])
    slopes = np.degrees(np.arctan(np.hypot(along_x, along_y)))
    return np.where(np.isnan(elevation[1:-1, 1:-1]), np.nan, slopes)


def tile_batches(rows: range, cols: range, tiles: int) -> Iterator[tuple[range, range]]:
    """A rectangle of tiles cut into rectangles of about as many tiles as given.

    >>> list(tile_batches(range(2, 7), range(3), 8))
    [(range(2, 4), range(0, 3)), (range(4, 6), range(0, 3)), (range(6, 7), range(0, 3))]
    """
    step_c = max(1, min(len(cols), tiles))
    step_r = max(1, tiles // step_c)
    for r in range(rows.start, rows.stop, step_r):
        for c in range(cols.start, cols.stop, step_c):
            yield range(r, min(r + step_r, rows.stop)), range(c, min(c + step_c, cols.stop))


def _points(x: FloatArray, y: FloatArray, to_pixels: ToPixels) -> FloatArray:
    """(len(y), len(x), 2) places of a lattice among the pixels."""
    xs, ys = np.meshgrid(x, y)
    px, py = to_pixels(xs.ravel(), ys.ravel())
    return np.stack([px, py], axis=-1).reshape(len(y), len(x), 2)


def _along(points: FloatArray, running: FloatArray) -> FloatArray:
    """(K, ...) integrals of running sums over y along edges.

    Parameters
    ----------
    points : (..., P, 2) edges.
    running : (K, H, W + 1) sums of each pixel row left of a column.
    """
    layers, height, width = running.shape[0], running.shape[1], running.shape[2] - 1
    shape = points.shape[:-2]
    start, end = points[..., :-1, :].reshape(-1, 2), points[..., 1:, :].reshape(-1, 2)
    # an edge along a pixel row adds nothing, nor does one left, above or below of all pixels
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    right_of_left = np.maximum(start[:, 0], end[:, 0]) > 0
    met = np.flatnonzero((low < high) & (low < height) & (high > 0) & right_of_left)
    edge = met // (points.shape[-2] - 1)
    pieces = _Pieces(start[met, 0], start[met, 1], end[met, 0], end[met, 1], edge)
    pieces = _cut(pieces.turned, height).turned
    row = np.floor((pieces.y0 + pieces.y1) / 2).astype(np.int64)
    inside = np.flatnonzero((row >= 0) & (row < height))
    pieces = _cut(pieces.chosen(inside), width)
    # inside one pixel the running sum is straight, so its middle is its mean
    row = np.floor((pieces.y0 + pieces.y1) / 2).astype(np.int64).clip(0, height - 1)
    x = ((pieces.x0 + pieces.x1) / 2).clip(0, width)
    col = np.minimum(x.astype(np.int64), width - 1)
    part, dy = x - col, pieces.y1 - pieces.y0
    sums = np.empty((layers, int(np.prod(shape))))
    for k in range(layers):
        before, after = running[k, row, col], running[k, row, col + 1]
        sums[k] = np.bincount(pieces.edge, (before + part * (after - before)) * dy, minlength=sums.shape[1])
    return sums.reshape(layers, *shape)


def _cut(pieces: _Pieces, last: int) -> _Pieces:
    """Pieces cut where x is a whole number from 0 to `last`."""
    low, high = np.minimum(pieces.x0, pieces.x1), np.maximum(pieces.x0, pieces.x1)
    first = np.clip(np.floor(low) + 1, 0, last + 1)
    cuts = np.clip(np.ceil(high).clip(0, last + 1) - first, 0, None).astype(np.int64)
    if not cuts.any():
        return pieces
    of = np.repeat(np.arange(len(cuts)), cuts + 1)
    # position within each piece's run of smaller ones, from low to high
    run = np.arange(len(of)) - np.repeat(np.cumsum(cuts + 1) - cuts - 1, cuts + 1)
    line = first[of] + run
    lower = np.where(run == 0, low[of], line - 1)
    upper = np.where(run == cuts[of], high[of], line)
    x0, x1, y0, y1 = pieces.x0[of], pieces.x1[of], pieces.y0[of], pieces.y1[of]
    forward = x1 >= x0
    start, end = np.where(forward, lower, upper), np.where(forward, upper, lower)
    width = np.where(x1 == x0, 1.0, x1 - x0)

    def y_at(x: FloatArray) -> FloatArray:
        # ends as they were, to the bit, so that pieces meet
        return np.where(x == x1, y1, np.where(x == x0, y0, y0 + (x - x0) / width * (y1 - y0)))

    return _Pieces(start, np.where(x1 == x0, y0, y_at(start)), end, y_at(end), pieces.edge[of])
