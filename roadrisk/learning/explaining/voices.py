"""What the networks of several folds say together of tiles, with some of their sides there and others not."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.architecture import Architecture
from roadrisk.learning.batches import TURNS, NetworkInputs
from roadrisk.learning.explaining.columns import FactsNetwork, inputs, read, typical_inputs
from roadrisk.learning.model import Model, fold_network
from roadrisk.learning.tasks import Target, Task
from roadrisk.learning.validation import FoldModel
from roadrisk.nets.fusion import MultiModalNN, Sides


@dataclass(frozen=True, eq=False)
class Voice:
    """The network of a fold.

    Parameters
    ----------
    network : whose image branches are used.
    facts, fusion : its others in double precision, so that differences of scores are not rounding.
    typical : (D,) inputs of the typical tile; None of a network without facts.
    """

    fold: FoldModel
    network: MultiModalNN
    facts: FactsNetwork | None
    fusion: nn.Module
    typical: Tensor | None


@dataclass(frozen=True, eq=False)
class Heard:
    """What one voice is given of B tiles.

    Parameters
    ----------
    views : V of (T, B, length), its vectors of the pictures under T turns, zero where there is none.
    facts : (B, D) inputs of its facts network; (B, 0) without one.
    typical : (B, D) likewise of the typical tile.
    """

    voice: Voice
    views: tuple[Tensor, ...]
    facts: Tensor
    typical: Tensor


@dataclass(frozen=True, eq=False)
class Choir:
    """What all voices that speak of the same B tiles are given of them.

    Parameters
    ----------
    has_image : (B, V) bool.
    has_facts : (B,) bool.
    log_exposure : (B,) of counts, else 0.
    """

    task: Task
    heard: tuple[Heard, ...]
    has_image: Tensor
    has_facts: Tensor
    log_exposure: Tensor

    def score(self, facts: Sequence[Tensor], shown: Sequence[bool]) -> Tensor:
        """(S, B) the explained score, with these facts and those views that are shown.

        Parameters
        ----------
        facts : (S, B, D) of each voice.
        shown : (V,) whether a view counts, where a tile has it.
        """
        said = [self._said(one, given, shown) for one, given in zip(self.heard, facts, strict=True)]
        return score_of(self.task, torch.stack(said).mean(dim=0))

    def _said(self, heard: Heard, facts: Tensor, shown: Sequence[bool]) -> Tensor:
        """(S, B, K) what a voice says, as the task says it: the mean over the turns of the pictures."""
        voice, (places, tiles, _) = heard.voice, facts.shape
        has_facts = self.has_facts.repeat(places)  # (S B,)
        has_image = (self.has_image & self.has_image.new_tensor(list(shown), dtype=torch.bool)).repeat(
            places, 1
        )  # (S B, V)
        known = None
        if voice.facts is not None:
            known = read(voice.facts, facts).flatten(0, 1) * has_facts[:, None]  # (S B, length)
        turns = max((len(view) for view in heard.views), default=1) if any(shown) else 1
        said = facts.new_zeros(places * tiles, self.task.outputs)
        for turn in range(turns):
            views = tuple(
                view[turn].repeat(places, 1) if there else view.new_zeros(places * tiles, view.shape[2])
                for view, there in zip(heard.views, shown, strict=True)
            )
            said = said + voice.fusion(Sides(views, known, has_image, has_facts)) / turns  # (S B, K)
        said = said.reshape(places, tiles, self.task.outputs)  # (S, B, K)
        return in_units(self.task, voice.fold.target, said, self.log_exposure)


def in_units(task: Task, target: Target, raw: Tensor, log_exposure: Tensor) -> Tensor:
    """(..., B, K) raw outputs in the label's own terms, as `tasks.said` has them, differentiable."""
    if task.kind == "value":
        return raw * target.std + target.mean
    if task.kind == "count":
        return raw + target.mean + log_exposure[:, None]
    return raw


def score_of(task: Task, said: Tensor) -> Tensor:
    """(...) what is explained of (..., K) outputs: the logit of the riskiest class, the value, or the log of
    the expected count.
    """
    if task.outputs == 1:
        return said[..., 0]
    return said[..., -1] - said[..., :-1].logsumexp(dim=-1)


def voices_of(model: Model, device: torch.device) -> tuple[Voice, ...]:
    """The networks of all folds, ready to speak."""
    return tuple(_voice(model.architecture, fold, device) for fold in model.fold_models)


def own_fold(model: Model, keys: Sequence[str]) -> IntArray:
    """(N,) the fold that did not see a tile; -1 of tiles that no fold saw."""
    table = model.out_of_fold
    table = table[(table["split"] == model.split) & (table["model"] == model.name)]
    fold = pd.Series(table["fold"].to_numpy(), index=table["key"].to_numpy())
    return fold.reindex([str(key) for key in keys]).fillna(-1).to_numpy(dtype=np.int64)


def choir_of(
    architecture: Architecture,
    voices: Sequence[Voice],
    given: Sequence[NetworkInputs],
    exposure: FloatArray,
    device: torch.device,
) -> Choir:
    """What these voices are given of B tiles; their pictures are read once.

    Parameters
    ----------
    given : of each voice.
    exposure : (B,) above 0; only counts know it.
    """
    rows = np.arange(len(given[0]))
    turns = range(TURNS if architecture.augment and architecture.views else 1)
    seen = [given[0].pictures(rows, np.full(len(rows), turn)) for turn in turns]
    first = given[0]
    has_image = torch.from_numpy(first.picture >= 0).to(device)
    has_facts = torch.from_numpy(first.has_facts).to(device)
    log_exposure = np.log(exposure) if architecture.task.kind == "count" else np.zeros(len(rows))
    heard = []
    for voice, own in zip(voices, given, strict=True):
        vectors = [_vectors(voice.network, pictures, has_image, device) for pictures in seen]
        views = tuple(torch.stack(view) for view in zip(*vectors, strict=True))
        heard.append(_heard(voice, own, views, device))
    return Choir(
        architecture.task, tuple(heard), has_image, has_facts, torch.from_numpy(log_exposure).to(device)
    )


def _voice(architecture: Architecture, fold: FoldModel, device: torch.device) -> Voice:
    network = fold_network(architecture, fold).to(device)
    fusion = deepcopy(network.fusion).double()
    if network.facts is None:
        return Voice(fold, network, None, fusion, None)
    facts: FactsNetwork = deepcopy(network.facts).double()
    return Voice(fold, network, facts, fusion, typical_inputs(facts, fold.preparation))


def _heard(voice: Voice, given: NetworkInputs, views: tuple[Tensor, ...], device: torch.device) -> Heard:
    if voice.facts is None or voice.typical is None:
        none = torch.zeros(len(given), 0, dtype=torch.float64, device=device)
        return Heard(voice, views, none, none)
    numbers = torch.from_numpy(given.numbers).to(device).double()
    codes = torch.from_numpy(given.codes).to(device)
    with torch.no_grad():
        facts = inputs(voice.facts, numbers, codes)  # (B, D)
    return Heard(voice, views, facts, voice.typical.expand_as(facts))


def _vectors(
    network: MultiModalNN, pictures: tuple[Tensor, ...], has_image: Tensor, device: torch.device
) -> list[Tensor]:
    """V of (B, length) vectors of pictures, zero where there is none."""
    vectors = []
    with torch.no_grad():
        for view, (branch, shown) in enumerate(zip(network.branch_of_view, pictures, strict=True)):
            length = network.lengths.views[view]
            out = torch.zeros(len(has_image), length, dtype=torch.float64, device=device)
            if len(shown):
                out[has_image[:, view]] = network.image[branch](shown.to(device)).double()
            vectors.append(out)
    return vectors
