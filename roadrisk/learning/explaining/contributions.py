"""What the picture and each fact add to a score, so that all of it adds up.

The sides are players of a game whose prize is the score (Shapley 1953; Lundberg and Lee 2017,
arXiv:1705.07874): a picture that is off is the network's own "no picture", facts that are off are those of
the typical tile. What the facts have together is shared among them by integrated gradients on the way from
the typical tile to this one, with the picture there and without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from roadrisk.columns import Column
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.examples import Examples
from roadrisk.learning.explaining.columns import known_by, owners, used_columns
from roadrisk.learning.explaining.integrating import Inputs, integrated
from roadrisk.learning.explaining.voices import Choir, Heard, Voice, choir_of, own_fold, voices_of
from roadrisk.learning.loop.fit import repeatable
from roadrisk.learning.model import Model
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.validation import network_inputs
from roadrisk.progress import Progress, silent

TILES_AT_ONCE = 64
POINTS_FIRST, POINTS_MOST = 16, 1024
SHARE_LOST, LEAST_LOST = 0.01, 1e-3  # of the facts' difference, and whatever that is


@dataclass(frozen=True, eq=False)
class Contributions:
    """What moves the scores of N tiles away from that of a typical tile without a picture.

    `base + views.sum(axis=1) + facts.sum(axis=1)` is `score`.

    Parameters
    ----------
    score : (N,) what is explained: log-odds of the riskiest class before calibration, a value, or the log of
        an expected count.
    base : (N,) of the tile with no picture and with typical facts, or none where it has none; of a count
        with its own exposure.
    views : (N, V) of the picture in each view.
    facts : (N, F) of `columns`.
    lost : (N,) how far the integrals of the facts were from their known sum, before that was shared out.
    """

    score: FloatArray
    base: FloatArray
    views: FloatArray
    facts: FloatArray
    columns: tuple[Column, ...]
    lost: FloatArray

    @property
    def picture(self) -> FloatArray:
        """(N,) of all views together."""
        return np.asarray(self.views.sum(axis=1))

    @property
    def all_facts(self) -> FloatArray:
        """(N,) of all facts together."""
        return np.asarray(self.facts.sum(axis=1))

    @property
    def complete(self) -> bool:
        """Whether the integrals of each tile were within 1 % of the sum, or 0.001."""
        return bool((self.lost <= allowed(torch.from_numpy(self.all_facts)).numpy()).all())


def allowed(difference: Tensor) -> Tensor:
    """(N,) how far integrals may be from (N,) sums."""
    return (SHARE_LOST * difference.abs()).clamp(min=LEAST_LOST) + 1e-12


def contributions(
    model: Model,
    examples: Examples,
    images: Sequence[ImageFeed | None],
    device: torch.device,
    progress: Progress = silent,
) -> Contributions:
    """What moves the score of each tile: of a training tile in the fold that did not see it, of any other in
    the mean of all folds.

    Parameters
    ----------
    examples : with an exposure above 0.
    images : feeds of the views, ready for these tiles; None for one that no tile has.

    Raises
    ------
    ModelError : a column that the model learned from is not there.
    """
    voices, shape = voices_of(model, device), model.architecture
    preparations = [fold.preparation for fold in model.fold_models]
    columns = used_columns(preparations, model.columns, model.neighbourhood) if shape.facts else ()
    owner = _owners(model, voices, columns)
    n = len(examples)
    views, facts = np.empty((n, len(shape.views))), np.empty((n, len(columns)))
    made = Contributions(np.empty(n), np.empty(n), views, facts, columns, np.empty(n))
    done = 0
    for rows, speaking in _batches(own_fold(model, examples.key.tolist()), len(voices)):
        tiles = examples.taken(rows)
        speakers = [voices[k] for k in speaking]
        given = [network_inputs(tiles, preparations[k], shape, images) for k in speaking]
        choir = choir_of(shape, speakers, given, tiles.exposure, device)
        _fill(made, rows, choir, [owner[k] for k in speaking])
        done += len(rows)
        progress("explain", done, n)
    return made


def _batches(fold: IntArray, folds: int) -> Iterator[tuple[IntArray, list[int]]]:
    """Rows of tiles, and the folds that speak of all of them."""
    for own in np.unique(fold).tolist():
        rows = np.flatnonzero(fold == own)
        for first in range(0, len(rows), TILES_AT_ONCE):
            yield rows[first : first + TILES_AT_ONCE], list(range(folds)) if own < 0 else [own]


def _owners(model: Model, voices: Sequence[Voice], columns: Sequence[Column]) -> list[IntArray]:
    """Of each voice, the place among `columns` of what its facts network takes."""
    of, names = known_by(model.columns, model.neighbourhood), [column.name for column in columns]
    none = np.empty(0, np.int64)
    return [
        none if voice.facts is None else owners(voice.facts, voice.fold.preparation, of, names)
        for voice in voices
    ]


def _fill(made: Contributions, rows: IntArray, choir: Choir, owner: Sequence[IntArray]) -> None:
    """The contributions of some tiles, in their rows."""
    with repeatable():
        sides = _sides(choir)
        facts, lost = _shared(choir, sides.facts, owner, made.facts.shape[1])
    made.score[rows], made.base[rows] = sides.score.cpu(), sides.base.cpu()
    made.views[rows] = sides.views.cpu()
    made.facts[rows], made.lost[rows] = facts.cpu(), lost.cpu()


class _Played(NamedTuple):
    """The outcome of the game: (B,) score and base, (B, V) of each view, (B,) of the facts together."""

    score: Tensor
    base: Tensor
    views: Tensor
    facts: Tensor


@torch.no_grad()
def _sides(choir: Choir) -> _Played:
    """Pictures against facts, then the views among themselves."""
    count = choir.has_image.shape[1]
    every = [frozenset(some) for size in range(count + 1) for some in combinations(range(count), size)]
    here, typical = ([one.facts[None] for one in choir.heard], [one.typical[None] for one in choir.heard])

    def score(facts: list[Tensor], shown: frozenset[int]) -> Tensor:
        return choir.score(facts, [view in shown for view in range(count)])[0]  # (B,)

    with_facts = {shown: score(here, shown) for shown in every}
    without = {shown: score(typical, shown) for shown in every}
    none, seen = every[0], every[-1]
    mean = {shown: (with_facts[shown] + without[shown]) / 2 for shown in every}
    views = [with_facts[none].new_zeros(len(choir.has_facts)) for _ in range(count)]
    for view in range(count):
        for shown in every:
            if view not in shown:
                weight = 1 / (count * math.comb(count - 1, len(shown)))
                views[view] = views[view] + weight * (mean[shown | {view}] - mean[shown])
    facts = (with_facts[seen] - without[seen] + with_facts[none] - without[none]) / 2
    # a view that is not there adds 0, not the last bits of sums in other batches
    stacked = torch.stack(views, dim=1) * choir.has_image if views else facts.new_zeros(len(facts), 0)
    return _Played(with_facts[seen], without[none], stacked, facts)


def _shared(choir: Choir, difference: Tensor, owner: Sequence[IntArray], count: int) -> tuple[Tensor, Tensor]:
    """(B, count) of each column, and (B,) what the integrals lost of (B,) their sum."""
    facts = difference.new_zeros(len(difference), count)
    lost, points = difference.abs(), POINTS_FIRST
    rows = (lost > 0).nonzero().squeeze(1)
    while len(rows):
        found = _integrals(_taken(choir, rows), owner, count, points)  # (M, count)
        facts[rows] = found
        lost[rows] = (found.sum(dim=1) - difference[rows]).abs()
        points *= 2
        rows = (lost > allowed(difference)).nonzero().squeeze(1) if points <= POINTS_MOST else rows[:0]
    # what is left goes to each by its size, so that they add up
    size = facts.abs()
    share = size / size.sum(dim=1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)
    return facts + share * (difference - facts.sum(dim=1))[:, None], lost


def _integrals(choir: Choir, owner: Sequence[IntArray], count: int, points: int) -> Tensor:
    """(B, count) integrated gradients of each column, in the mean of the picture there and not there."""
    every = [True] * choir.has_image.shape[1]
    none = [False] * len(every)

    def score(facts: Inputs) -> Tensor:
        if not every:
            return choir.score(facts, none)
        return (choir.score(facts, every) + choir.score(facts, none)) / 2

    starts = tuple(one.typical for one in choir.heard)
    ends = tuple(one.facts for one in choir.heard)
    found = starts[0].new_zeros(len(choir.has_facts), count)
    for of_voice, own in zip(integrated(score, starts, ends, points), owner, strict=True):
        found = found.index_add(1, torch.from_numpy(own).to(found.device), of_voice)
    return found


def _taken(choir: Choir, rows: Tensor) -> Choir:
    def heard(one: Heard) -> Heard:
        views = tuple(view[:, rows] for view in one.views)
        return replace(one, views=views, facts=one.facts[rows], typical=one.typical[rows])

    return replace(
        choir,
        heard=tuple(heard(one) for one in choir.heard),
        has_image=choir.has_image[rows],
        has_facts=choir.has_facts[rows],
        log_exposure=choir.log_exposure[rows],
    )
