"""Which units are kept from which network: whole blocks of tiles, or whole pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.folds import BUFFER_TILES, Folds, block_tiles, spatial_folds
from roadrisk.learning.judging.intervals import block_of
from roadrisk.roads.scenes import RoadExamples
from roadrisk.roads.settings import RoadSettings

WATCHED_PART = 5  # one in so many units to learn from is watched instead


@dataclass(frozen=True, eq=False)
class Dealt:
    """The fold in which each of N units is tested.

    Parameters
    ----------
    fold : (N,) from 0; -1 where no fold is asked for.
    block : (N,) what is drawn together for intervals: the square block of a tile, or the picture.
    count : number of folds; 0 where none is asked for.
    rule : one sentence for people.
    key : (N,) names of the units.
    road_share : (N,) of what is known of them.
    place : (row, col) of each on the lattice; None where they are pictures that lie nowhere.
    side : of a block [tiles].
    seed : of folds, and of what is watched.
    """

    fold: IntArray
    block: IntArray
    count: int
    rule: str
    key: NDArray[np.object_]
    road_share: FloatArray
    place: tuple[IntArray, IntArray] | None
    side: int
    seed: int

    def tested(self, k: int) -> IntArray:
        """Units that fold k is judged on."""
        return self._folds.test_rows(k)

    def trained(self, k: int | None) -> IntArray:
        """Units that fold k may learn from, none next to one that it is judged on; all for None."""
        return np.arange(len(self.fold)) if k is None else self._folds.train_rows(k)

    def parts(self, k: int | None) -> tuple[IntArray, IntArray]:
        """Of the units that fold k may learn from those that it does, and those that it is only watched on.

        The latter are like all the others in how much road they show. They are blocks as wide as those of the
        folds, or narrower ones where there are too few.

        Raises
        ------
        ModelError : there are too few units to learn from some and watch others.
        """
        rows = self.trained(k)
        rows = rows[np.argsort(self.key[rows], kind="stable")]
        seed = int(np.random.SeedSequence([self.seed, 0 if k is None else k + 1]).generate_state(1)[0])
        for side in dict.fromkeys((self.side, max(1, self.side // 2), 1)):
            for count in range(WATCHED_PART, 1, -1):
                try:
                    return self._parted(rows, side, count, seed)
                except ModelError:
                    continue
        raise ModelError(
            f"{len(rows)} units to learn from are too few to watch some of them; give more tiles or pictures"
        )

    @property
    def _folds(self) -> Folds:
        row, col = self.place or (None, None)
        return Folds(self.fold, self.count, row, col, BUFFER_TILES)

    def _parted(self, rows: IntArray, side: int, count: int, seed: int) -> tuple[IntArray, IntArray]:
        """These units without one of `count` folds of them, and that fold."""
        share = self.road_share[rows]
        place = (self.place[0][rows], self.place[1][rows]) if self.place else None
        inner = _folds_of(self.key[rows], share, place, side, count, seed)
        # the fullest block is dealt first, and alone it would make a part that is like no other
        apart = [abs(share[inner.test_rows(k)].mean() - share.mean()) for k in range(count)]
        watched = int(np.argmin(apart))
        return rows[inner.train_rows(watched)], rows[inner.test_rows(watched)]


def dealt(examples: RoadExamples, settings: RoadSettings) -> Dealt:
    """Units dealt to folds: square blocks of tiles with a buffer of one, or pictures by chance.

    Folds have about as many units each, and as many with much road. Without folds (`settings.quick`) there is
    the last network alone.

    Raises
    ------
    ModelError : too few units or blocks for so many folds.
    """
    key, share, lattice = examples.key, examples.road_share, examples.lattice
    place, side, block = None, 1, np.argsort(np.argsort(key, kind="stable"))
    what = f"{len(key):,} pictures"
    if lattice is not None:
        place, side = lattice[:2], block_tiles(settings.block_m, lattice[2])
        block = block_of(*place, side)
        metres = f"{side * lattice[2]:,.0f} m"
        what = f"{len(np.unique(block)):,} blocks of {side} x {side} tiles ({metres})"
    count = 0 if settings.quick else settings.folds
    fold, rule = np.full(len(key), -1), f"{what}, no folds: judged on what the network was watched on"
    if count:
        try:
            fold = _folds_of(key, share, place, side, count, settings.seed).fold
        except ModelError:
            smaller = "a smaller --block, " if side > 1 else ""
            raise ModelError(
                f"{what} are too few for {count} folds; use {smaller}fewer --folds, --quick or more of them"
            ) from None
        rule = f"{what} dealt to {count} folds" + (f", buffer {BUFFER_TILES} tile" if place else "")
    return Dealt(fold, block, count, rule, key, share, place, side, settings.seed)


def _folds_of(
    key: NDArray[np.object_],
    road_share: FloatArray,
    place: tuple[IntArray, IntArray] | None,
    side: int,
    count: int,
    seed: int,
) -> Folds:
    """N units in so many folds.

    Raises
    ------
    ModelError : too few units or blocks.
    """
    by_share = np.lexsort((key.astype(str), road_share))
    if place is not None:
        much = np.zeros(len(key))
        much[by_share[len(key) // 2 :]] = 1
        return spatial_folds(*place, much, count, seed, side, BUFFER_TILES)
    if len(key) < count:
        raise ModelError(f"{len(key)} pictures are fewer than {count} folds; use fewer --folds")
    chance, fold = np.random.default_rng([seed, len(key)]), np.empty(len(key), np.int64)
    for first in range(0, len(key), count):
        alike = by_share[first : first + count]
        fold[alike] = chance.permutation(count)[: len(alike)]
    return Folds(fold, count)
