"""Where tiles were held out: blocks in the colours of their folds."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from roadrisk.grid import IntArray
from roadrisk.reporting.plots import picture_of
from roadrisk.reporting.report import FoldMap
from roadrisk.reporting.words import metres

WIDTH, HIGHEST = 440, 440
FOOT = 66
SWATCH_PX = 84  # of each fold in the legend
LONGEST_CELLS = 400  # of a side; more are not seen
COLOURS = 8
NO_TILE = -1


def fold_map_svg(name: str, folds: FoldMap, cell_m: float | None, block_m: float, buffer_m: float) -> Markup:
    """Tiles coloured by the fold that tested them, with the block and the buffer as scale bars.

    Parameters
    ----------
    name : of the plot in its page, letters and dashes.
    cell_m : ground side of a tile [m]; None where it is not known, and no scale is drawn.
    """
    raster, step = fold_raster(folds)
    rows, cols = raster.shape
    scale = min(WIDTH / cols, HIGHEST / rows)
    numbers = [int(k) for k in np.unique(folds.fold)]
    cells = Markup('<g transform="translate({:.2f} 0) scale({:.4f})">{}</g>').format(
        (WIDTH - cols * scale) / 2,
        scale,
        Markup().join(
            Markup('<path class="fold f{}" d="{}"/>').format(k % COLOURS, fold_path(raster, k))
            for k in numbers
        ),
    )
    top = rows * scale
    metre = scale / (cell_m * step) if cell_m else 0.0
    foot = _legend(top + 14, folds) if len(numbers) <= COLOURS else Markup()
    foot += _scale_bars(top + 42, metre, block_m, buffer_m) if metre else Markup()
    told = (
        f"Map of {len(folds.fold):,} tiles of {folds.name} in {len(numbers)} folds; blocks of "
        f"{metres(block_m)}, buffer {metres(buffer_m)}."
    )
    return picture_of(name, f"Folds of {folds.name}", told, WIDTH, top + FOOT, cells + foot)


def fold_raster(folds: FoldMap) -> tuple[NDArray[np.int64], int]:
    """(rows, cols) number of the fold, -1 without a tile, and how many tiles a side one of its cells is.

    Where several tiles share a cell, the last of them in (row, col) order is shown.
    """
    row, col = folds.row - folds.row.min(), folds.col - folds.col.min()
    step = max(1, math.ceil((max(int(row.max()), int(col.max())) + 1) / LONGEST_CELLS))
    order = np.lexsort((col, row))
    row, col = row[order] // step, col[order] // step
    raster = np.full((int(row.max()) + 1, int(col.max()) + 1), NO_TILE, dtype=np.int64)
    raster[row, col] = folds.fold[order]
    return raster, step


def fold_path(raster: IntArray, fold: int) -> str:
    """The cells of a fold as rectangles, each as wide and then as high as it can be.

    >>> fold_path(np.array([[0, 0, 1], [0, 0, 0]]), 0)
    'M0 0h2v1h-2zM0 1h3v1h-3z'
    >>> fold_path(np.array([[0, 0, 1], [0, 0, 1]]), 0)
    'M0 0h2v2h-2z'
    """
    done: list[tuple[int, int, int, int]] = []
    growing: dict[tuple[int, int], int] = {}  # (first, past the last column) -> its first row
    for r in range(len(raster) + 1):
        inside = raster[r] == fold if r < len(raster) else np.zeros(raster.shape[1], bool)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
        runs = {(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)}
        for run in [run for run in growing if run not in runs]:
            done.append((growing.pop(run), run[0], r, run[1]))
        for run in runs:
            growing.setdefault(run, r)
    return "".join(
        f"M{left} {top}h{right - left}v{bottom - top}h{left - right}z"
        for top, left, bottom, right in sorted(done)
    )


def _legend(top: float, folds: FoldMap) -> Markup:
    said = Markup()
    numbers, tiles = np.unique(folds.fold, return_counts=True)
    step = min(SWATCH_PX, WIDTH / len(numbers))
    for n, (k, count) in enumerate(zip(numbers.tolist(), tiles.tolist(), strict=True)):
        left = step * n
        said += Markup('<rect class="f{}" x="{:.1f}" y="{:.1f}" width="14" height="14"/>').format(
            k % COLOURS, left, top
        )
        said += Markup('<text class="tick" x="{:.1f}" y="{:.1f}">{}: {:,}</text>').format(
            left + 19, top + 11, k + 1, count
        )
    return said


def _scale_bars(top: float, metre: float, block_m: float, buffer_m: float) -> Markup:
    said, left = Markup(), 4.0
    for words, length in (("block", block_m), ("buffer", buffer_m)):
        long = min(max(length * metre, 1.0), WIDTH / 3)
        said += Markup(
            '<path class="scale" d="M{0:.1f} {1:.1f}v8h{2:.1f}v-8"/>'
            '<text class="tick" x="{3:.1f}" y="{4:.1f}">{5}</text>'
        ).format(left, top, long, left + long + 8, top + 9, f"{words} {metres(length)}")
        left = WIDTH / 2
    return said
