"""Folds: which tiles are kept from which model.

Spatial folds hold out whole square blocks of tiles, and leave the tiles around them out of training:
neighbours share streets, pixels and crashes, so a model that saw them would be praised for memory
(Roberts et al. 2017; Mahoney et al. 2023, arXiv 2303.07334).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray

BLOCK_TILES = 4
BUFFER_TILES = 1
POSITIVE_BLOCKS = 5  # with a positive, that each fold has where there are enough of them


@dataclass(frozen=True, eq=False)
class Folds:
    """The fold in which each of N tiles is tested.

    Parameters
    ----------
    fold : (N,) from 0.
    count : number of folds.
    row, col : (N,) place on the lattice; None when folds know no places.
    buffer : tiles this near to a test tile, diagonals included, are left out of its fold's training.
    """

    fold: IntArray
    count: int
    row: IntArray | None = None
    col: IntArray | None = None
    buffer: int = 0

    def test_rows(self, k: int) -> IntArray:
        """Rows that fold k is judged on."""
        return np.flatnonzero(self.fold == k)

    def train_rows(self, k: int) -> IntArray:
        """Rows that fold k learns from: those of other folds outside the buffer."""
        test = self.fold == k
        if self.buffer == 0 or self.row is None or self.col is None:
            return np.flatnonzero(~test)
        near = _within(self.row, self.col, test, self.buffer)
        return np.flatnonzero(~test & ~near)

    def taken(self, rows: IntArray) -> Folds:
        """The folds of these rows, in this order."""
        return replace(
            self,
            fold=self.fold[rows],
            row=None if self.row is None else self.row[rows],
            col=None if self.col is None else self.col[rows],
        )


def spatial_folds(
    row: IntArray,
    col: IntArray,
    label: FloatArray,
    count: int,
    seed: int,
    block: int = BLOCK_TILES,
    buffer: int = BUFFER_TILES,
) -> Folds:
    """Square blocks of tiles dealt to folds, so that these have about equal rows and positives.

    Every fold has five blocks with positives where there are enough of them, else as many as all can have.

    Parameters
    ----------
    row, col : (N,) absolute place on the lattice, so that blocks do not depend on the box.
    label : (N,) 0 or 1.
    block : side of a block [tiles].
    buffer : tiles around a test tile that its fold does not learn from.

    Raises
    ------
    ModelError : too few tiles, positives, negatives or blocks for so many folds.

    Examples
    --------
    >>> row, col = np.divmod(np.arange(144), 12)
    >>> folds = spatial_folds(row, col, (row + col) % 2.0, count=3, seed=0)
    >>> len(folds.test_rows(0)), len(folds.train_rows(0)) < 96
    (48, True)
    """
    check_labels(label, count)
    blocks, block_of = np.unique(np.stack([row // block, col // block], axis=1), axis=0, return_inverse=True)
    block_of = block_of.reshape(-1)
    rows_in = np.bincount(block_of, minlength=len(blocks))
    positives_in = np.bincount(block_of[label == 1], minlength=len(blocks))
    fold = _dealt(rows_in, positives_in, count, seed)[block_of]
    folds = Folds(fold, count, row, col, buffer)
    _check_folds(folds, label, rows_in, positives_in, block)
    return folds


def random_folds(key: NDArray[Any], label: FloatArray, count: int, seed: int) -> Folds:
    """Tiles dealt to folds by chance, positives and negatives alike; tells how far neighbours flatter.

    Parameters
    ----------
    key : (N,) unique names, which stand for the order of rows.
    label : (N,) 0 or 1.

    Raises
    ------
    ModelError : too few tiles, positives or negatives for so many folds.
    """
    check_labels(label, count)
    chance = np.random.default_rng([seed, 1])
    by_key = np.argsort(key, kind="stable")
    shuffled = by_key[chance.permutation(len(by_key))]
    dealt = shuffled[np.argsort(label[shuffled], kind="stable")]
    fold = np.empty(len(dealt), np.int64)
    fold[dealt] = np.arange(len(dealt)) % count
    return Folds(fold, count)


def inner_folds(
    key: NDArray[Any],
    row: IntArray | None,
    col: IntArray | None,
    high: FloatArray,
    count: int,
    seed: int,
    block: int = BLOCK_TILES,
    buffer: int = BUFFER_TILES,
) -> Folds:
    """Folds inside the training rows of another fold: spatial where the rows have places, else random.

    Parameters
    ----------
    key : (N,) unique names.
    row, col : (N,) absolute place on the lattice; None where rows have none.
    high : (N,) 0 or 1.

    Raises
    ------
    ModelError : too few tiles, positives, negatives or blocks for so many folds.
    """
    if row is None or col is None:
        return random_folds(key, high, count, seed)
    return spatial_folds(row, col, high, count, seed, block, buffer)


def block_tiles(block_m: float | None, cell_m: float) -> int:
    """Side of a block [tiles] for one in metres.

    >>> block_tiles(None, 250.0), block_tiles(3000.0, 250.0), block_tiles(10.0, 250.0)
    (4, 12, 1)
    """
    return BLOCK_TILES if block_m is None else max(1, round(block_m / cell_m))


def check_labels(label: ArrayLike, count: int) -> None:
    """Nothing, if there are tiles of both classes for every fold.

    Raises
    ------
    ModelError : says how many there are and how many are needed.
    """
    label = np.asarray(label)
    positives = int((label == 1).sum())
    negatives = int((label == 0).sum())
    if positives + negatives != len(label):
        raise ModelError(
            f"{len(label) - positives - negatives} of {len(label)} tiles have no label; leave them out"
        )
    if len(label) < count:
        raise ModelError(
            f"{len(label)} labelled tiles are fewer than {count} folds; use fewer --folds or more tiles"
        )
    for name, number in (("positive", positives), ("negative", negatives)):
        if number == 0:
            other = "negative" if name == "positive" else "positive"
            raise ModelError(
                f"all {len(label)} labels are {other}: there is nothing to learn; "
                "check --label and --positive"
            )
        if number < count:
            raise ModelError(
                f"{number} {name} of {len(label)} tiles are too few: each of {count} folds needs "
                "one at least; use fewer --folds or more tiles"
            )


def _dealt(rows_in: IntArray, positives_in: IntArray, count: int, seed: int) -> IntArray:
    """(blocks,) fold of each block: the fullest first, each to the fold that has least of what it brings."""
    shuffled = np.random.default_rng([seed, 0]).permutation(len(rows_in))
    # positives first, so that every fold has some before rows are evened out
    fullest = shuffled[np.lexsort((-rows_in[shuffled], -positives_in[shuffled]))]
    row_share, positive_share = rows_in / rows_in.sum(), positives_in / positives_in.sum()
    rows, positives = np.zeros(count), np.zeros(count)
    left = int((positives_in > 0).sum())
    wanting = np.full(count, min(POSITIVE_BLOCKS, left // count))
    fold = np.empty(len(rows_in), np.int64)
    for block in fullest.tolist():
        has = rows * row_share[block] + positives * positive_share[block]
        # the last blocks with positives are for those that would have too few of them
        if positives_in[block] > 0 and wanting.sum() == left:
            has[wanting == 0] = np.inf
        k = int(np.argmin(has))
        fold[block] = k
        rows[k] += row_share[block]
        positives[k] += positive_share[block]
        if positives_in[block] > 0:
            left -= 1
            wanting[k] = max(0, wanting[k] - 1)
    return fold


def _check_folds(
    folds: Folds, label: FloatArray, rows_in: IntArray, positives_in: IntArray, block: int
) -> None:
    blocks_with = {1: int((positives_in > 0).sum()), 0: int((positives_in < rows_in).sum())}
    # smaller blocks than the view that the buffer is for would leave nothing to learn from
    advice = "a smaller --block or fewer --folds" if block > 2 * folds.buffer + 1 else "fewer --folds"
    for k in range(folds.count):
        for where, rows in (("tests", folds.test_rows(k)), ("learns from", folds.train_rows(k))):
            for value, name in ((1, "high"), (0, "low")):
                if not (label[rows] == value).any():
                    raise ModelError(
                        f"fold {k + 1} of {folds.count} {where} no tile of {name} risk: "
                        f"{blocks_with[value]} of {len(rows_in)} blocks of {block} x {block} tiles hold one, "
                        f"{folds.count} are needed, farther apart than the buffer of {folds.buffer}; "
                        f"use {advice}, or a larger region"
                    )


def _within(row: IntArray, col: IntArray, test: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """(N,) whether a tile is within `reach` steps of a test tile; a square grows one axis at a time."""
    steps = np.arange(-reach, reach + 1)
    width = int(col.max() - col.min()) + 2 * reach + 1
    key = (row - row.min()) * width + (col - col.min())
    near = np.unique(key[test][:, None] + steps)
    near = np.unique(near[:, None] + steps * width)
    return np.isin(key, near)
