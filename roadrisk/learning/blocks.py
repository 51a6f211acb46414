"""The rule for blocks and folds: how wide what is held out is, and what is done where a region is small.

A block is as wide as four of the widest views, so that most of what a picture shows is held out with it, or
as the distance to which tiles are alike in what facts do not explain, whichever is more (Roberts et al. 2017,
Ecography 40:913). Twenty blocks are needed for intervals, five with a tile of high risk in each fold for
scores that are not of one place, and most of the training tiles must be left by the buffer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.correlogram import Correlogram
from roadrisk.learning.folds import (
    BLOCK_TILES,
    POSITIVE_BLOCKS,
    Folds,
    block_tiles,
    check_labels,
    spatial_folds,
)
from roadrisk.learning.judging.evaluation import FoldsTold, Points
from roadrisk.learning.judging.intervals import FEWEST_BLOCKS, block_of

FOLDS = 5
LEFT_SHARE = 0.6
FEWEST_FOLDS = 3
PERCENTILES = (0, 25, 50, 75, 95, 100)


@dataclass(frozen=True, eq=False)
class FoldPlan:
    """How tiles are held out, and why so.

    Parameters
    ----------
    block : side of a block [tiles].
    buffer : tiles around a test tile that its fold does not learn from.
    rule : one sentence, how blocks and folds were chosen.
    told : each step away from the rule, and each need that is not met.
    blocks, blocks_with_positives : their numbers.
    left_share : least share of a fold's training tiles that the buffer leaves.
    """

    folds: Folds
    block: int
    buffer: int
    rule: str
    told: tuple[str, ...]
    blocks: int
    blocks_with_positives: int
    left_share: float


@dataclass(frozen=True)
class _Blocks:
    """The blocks of one size: side [tiles], why so wide, their number and that of those with positives."""

    side: int
    why: str
    number: int
    with_positives: int

    def lacks(self, count: int | None) -> list[str]:
        """The needs of `count` folds that are not met; without it, of one for each block with positives."""
        lines = []
        if self.number < FEWEST_BLOCKS and count is not None:
            lines.append(f"there are {self.number} blocks, {FEWEST_BLOCKS} are needed for intervals")
        needed = FEWEST_FOLDS if count is None else POSITIVE_BLOCKS * count
        if self.with_positives < needed:
            lines.append(
                f"{self.with_positives} of {self.number} blocks hold a tile of high risk, {needed} are needed"
            )
        return lines


@dataclass(frozen=True, eq=False)
class _Region:
    """N tiles to be dealt to folds, which of them are of high risk, and what is the same for all blocks."""

    row: IntArray
    col: IntArray
    high: FloatArray
    cell_m: float
    buffer: int
    seed: int

    def blocks(self, side: int, why: str) -> _Blocks:
        """Those in which some tile lies."""
        block = block_of(self.row, self.col, side)
        return _Blocks(side, why, len(np.unique(block)), len(np.unique(block[self.high == 1])))

    def told(self, blocks: _Blocks) -> str:
        """For people."""
        metres = f"{blocks.side * self.cell_m:,.0f} m"
        return f"blocks of {blocks.side} x {_tiles(blocks.side)} ({metres}), {blocks.why}"


def planned_folds(
    row: IntArray,
    col: IntArray,
    high: FloatArray,
    cell_m: float,
    footprints_tiles: Sequence[int],
    buffer_tiles: int,
    correlogram: Correlogram | None = None,
    count: int | None = None,
    block_m: float | None = None,
    seed: int = 0,
) -> FoldPlan:
    """Folds by the rule, or the nearest to it that a region allows.

    Blocks are four of the widest views or the range of the correlogram, the larger. Twenty are needed, five
    with a tile of high risk in each fold, and 60 % of the tiles of other folds left by the buffer. Where that
    is not so, the next smaller of these sizes is tried: without the range, then four of a smaller view, with
    the widest's buffer. Where none does, each fold has one block with tiles of high risk, of at least three,
    and its share of the others.

    Parameters
    ----------
    row, col : (N,) absolute place on the lattice.
    high : (N,) 0 or 1.
    cell_m : ground side of a tile.
    footprints_tiles : width [tiles] of each view's picture and of each neighbourhood of facts; empty where
        a model sees a tile alone.
    buffer_tiles : tiles around a test tile that its fold does not learn from: one view at least.
    correlogram : of what facts do not explain.
    count : folds that are asked for; needs that are not met are then told, as for `block_m`.
    block_m : side of a block that is asked for [m].

    Raises
    ------
    ModelError : labels of one class, or no step meets the needs: says how many there are and are needed.

    Examples
    --------
    >>> row, col = np.divmod(np.arange(1600), 40)
    >>> plan = planned_folds(row, col, (row + col) % 3 == 0, 250.0, (1,), 1, Correlogram(1400.0, (), 1600))
    >>> plan.rule
    'blocks of 6 x 6 tiles (1,500 m), the range of what facts do not explain; 5 folds; buffer 1 tile (250 m)'
    >>> plan.blocks, plan.blocks_with_positives
    (49, 49)
    """
    region = _Region(row, col, np.asarray(high, np.float64), cell_m, buffer_tiles, seed)
    if block_m is not None:
        return _as_asked(region, region.blocks(block_tiles(block_m, cell_m), "as asked for"), count or FOLDS)
    check_labels(region.high, 1)
    sizes = [region.blocks(*size) for size in _sizes(footprints_tiles, correlogram, cell_m)]
    told: list[str] = []
    for blocks in sizes:
        found = _plan_or_lack(region, blocks, count or FOLDS)
        if isinstance(found, FoldPlan):
            return replace(found, told=tuple(told))
        told.append(f"no {count or FOLDS} folds with {region.told(blocks)}: {found}")
    if count is not None:
        found = _as_asked(region, sizes[-1], count)
        return replace(found, told=(*told[:-1], *found.told))
    for blocks in sizes:
        found = _plan_or_lack(region, blocks, None)
        if isinstance(found, FoldPlan):
            return replace(found, told=tuple(told))
    raise ModelError(
        f"no folds hold out whole places: {found}, with {region.told(blocks)}; use a larger region or views "
        "that reach less far, or say --folds and --block"
    )


def distances_to_training(row: IntArray, col: IntArray, folds: Folds, cell_m: float) -> Points:
    """How far tested tiles are from what their fold's model learned from.

    Beside `map_distances` it tells whether a map goes farther from what was learned than was tested: the two
    distributions that nearest neighbour distance matching holds together (Mila, Mateu, Pebesma and Meyer
    2022, Methods in Ecology and Evolution 13:1304).

    Parameters
    ----------
    row, col : (N,) place on the lattice.
    folds : of the same rows; a buffer's tiles are no training tiles.
    cell_m : ground side of a tile.

    Returns
    -------
    (percentile, metres) of all tested tiles.

    Examples
    --------
    >>> row, col = np.zeros(8, np.int64), np.arange(8)
    >>> folds = Folds(np.repeat([0, 1], 4), 2, row, col, buffer=1)
    >>> distances_to_training(row, col, folds, 100.0)[0], distances_to_training(row, col, folds, 100.0)[-1]
    ((0.0, 200.0), (100.0, 500.0))
    """
    apart = np.empty(len(row))
    for k in range(folds.count):
        test, train = folds.test_rows(k), folds.train_rows(k)
        apart[test] = _nearest(row[test], col[test], row[train], col[train])
    return _percentiles(apart * cell_m)


def map_distances(
    row: IntArray, col: IntArray, train_row: IntArray, train_col: IntArray, cell_m: float
) -> Points:
    """How far the tiles of a map are from those that any fold's model learned from.

    Parameters
    ----------
    row, col : (N,) place of the map's tiles on the lattice.
    train_row, train_col : (n,) of the tiles learned from.
    cell_m : ground side of a tile.

    Returns
    -------
    (percentile, metres) of the map's tiles; 0 for one that was learned from.
    """
    return _percentiles(_nearest(row, col, train_row, train_col) * cell_m)


def folds_told(
    plan: FoldPlan, correlogram: Correlogram | None, cell_m: float, map_row: IntArray, map_col: IntArray
) -> FoldsTold:
    """What an evaluation says of its folds.

    Parameters
    ----------
    cell_m : ground side of a tile.
    map_row, map_col : (N,) place of all tiles that the map scores.
    """
    folds = plan.folds
    if folds.row is None or folds.col is None:
        raise ValueError("folds of a plan have places")
    return FoldsTold(
        rule="; ".join((plan.rule, *plan.told)),
        block_m=plan.block * cell_m,
        buffer_m=plan.buffer * cell_m,
        folds=folds.count,
        blocks=plan.blocks,
        blocks_with_positives=plan.blocks_with_positives,
        left_share=plan.left_share,
        range_m=correlogram.range_m if correlogram else None,
        correlogram=correlogram.points if correlogram else (),
        sampled=correlogram.sampled if correlogram else 0,
        to_training=distances_to_training(folds.row, folds.col, folds, cell_m),
        map_to_training=map_distances(map_row, map_col, folds.row, folds.col, cell_m),
    )


def _sizes(
    footprints_tiles: Sequence[int], correlogram: Correlogram | None, cell_m: float
) -> list[tuple[int, str]]:
    """The sides of blocks to try, the widest first, and what each is: the rule's, then less and less."""
    widths = sorted(set(footprints_tiles) or {1}, reverse=True)
    whose = ["the widest view", *(f"a smaller view, {_tiles(width)} wide" for width in widths[1:])]
    sizes = {BLOCK_TILES * width: f"four of {view}" for width, view in zip(widths, whose, strict=True)}
    reach = math.ceil(correlogram.range_m / cell_m - 1e-9) if correlogram else 0
    if reach > min(sizes):
        sizes.setdefault(reach, "the range of what facts do not explain")
    return sorted(sizes.items(), reverse=True)


def _plan_or_lack(region: _Region, blocks: _Blocks, count: int | None) -> FoldPlan | str:
    """Folds that meet all needs, or the first need that is not met."""
    for lack in blocks.lacks(count):
        return lack
    try:
        plan = _plan(region, blocks, count)
    except ModelError as error:
        return str(error).partition("; ")[0]
    for lack in _lacking_rows(plan):
        return lack
    return plan


def _as_asked(region: _Region, blocks: _Blocks, count: int) -> FoldPlan:
    """Folds as they are asked for; the needs that are not met are told."""
    plan = _plan(region, blocks, count)
    return replace(plan, told=(*blocks.lacks(count), *_lacking_rows(plan)))


def _plan(region: _Region, blocks: _Blocks, count: int | None) -> FoldPlan:
    """Folds, of which each has one block with positives where no count is given."""
    number = blocks.with_positives if count is None else count
    folds = spatial_folds(
        region.row, region.col, region.high, number, region.seed, blocks.side, region.buffer
    )
    dealt = f"{number} folds{', one for each block with a tile of high risk' if count is None else ''}"
    width = f"{_tiles(region.buffer)} ({region.buffer * region.cell_m:,.0f} m)"
    return FoldPlan(
        folds,
        blocks.side,
        region.buffer,
        f"{region.told(blocks)}; {dealt}; buffer {width}",
        (),
        blocks.number,
        blocks.with_positives,
        _left_share(folds),
    )


def _left_share(folds: Folds) -> float:
    """Least share of the rows of other folds that the buffer leaves to a fold's training."""
    tested = np.bincount(folds.fold, minlength=folds.count)
    left = [len(folds.train_rows(k)) / (len(folds.fold) - int(tested[k])) for k in range(folds.count)]
    return min(left)


def _lacking_rows(plan: FoldPlan) -> list[str]:
    if plan.left_share >= LEFT_SHARE:
        return []
    left, needed = (f"{100 * share:.0f} %" for share in (plan.left_share, LEFT_SHARE))
    return [
        f"the buffer of {_tiles(plan.buffer)} leaves {left} of a fold's training tiles, {needed} are needed"
    ]


def _tiles(count: int) -> str:
    return f"{count} tile" if count == 1 else f"{count} tiles"


def _nearest(row: IntArray, col: IntArray, train_row: IntArray, train_col: IntArray) -> FloatArray:
    """(N,) steps of the lattice to the nearest of n others."""
    tree = cKDTree(np.stack([train_row, train_col], axis=1).astype(np.float64))
    return np.asarray(tree.query(np.stack([row, col], axis=1).astype(np.float64))[0], np.float64)


def _percentiles(metres: FloatArray) -> Points:
    found = np.percentile(metres, PERCENTILES)
    return tuple((float(p), float(value)) for p, value in zip(PERCENTILES, found, strict=True))
