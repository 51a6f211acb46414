"""Which network: what is asked for, and the network that answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from roadrisk.learning.settings import (
    FactsNetwork,
    Fusion,
    Inputs,
    TrainSettings,
    Tune,
)
from roadrisk.learning.tasks import Task
from roadrisk.nets.encoders import features_of, tuned_encoder
from roadrisk.nets.fusion import ImageNetwork, MultiModalNN
from roadrisk.nets.image import BasicCNN, FeatureHead, PretrainedCNN
from roadrisk.nets.tabular import FactsNN, FactsShape, TabularNN

SMALLEST_PX = 16


@dataclass(frozen=True)
class ViewInput:
    """One view as a network takes it.

    Parameters
    ----------
    view : its name.
    size_px : side of a prepared picture.

    Raises
    ------
    ValueError : a picture too small for any network.
    """

    view: str
    size_px: Annotated[int, Field(ge=SMALLEST_PX, le=1024)]  # checked where a model is read


@dataclass(frozen=True)
class Architecture:
    """The network of a fold, but for its number of facts.

    Parameters
    ----------
    views : whose pictures it sees, in order; empty for a network of facts alone.
    encoder : what looks at them.
    tune : how much of the encoder learns; a frozen one is no part of the network, which has its features.
    own_encoders : whether each view has an encoder (or a head) of its own.
    facts : the network of facts; None for a network of pictures alone.
    facts_width : hidden units of the embedding network.
    fusion : how the sides are joined.
    task : what is said of a tile.
    dropout, modality_dropout : while training.
    augment : whether it learned from turned pictures, and scores the mean of all eight turns.
    facts_can_be_absent : False for models before format 4, to which a tile without facts is one of medians.

    Raises
    ------
    ValueError : it sees nothing.
    """

    views: tuple[ViewInput, ...]
    encoder: str
    tune: Tune
    own_encoders: bool
    facts: FactsNetwork | None
    facts_width: Annotated[int, Field(ge=2, le=4096)]
    fusion: Fusion
    task: Task
    dropout: Annotated[float, Field(ge=0, le=1)]
    modality_dropout: Annotated[float, Field(ge=0, le=1)]
    augment: bool
    facts_can_be_absent: bool = True

    def __post_init__(self) -> None:
        if not self.views and self.facts is None:
            raise ValueError("a network needs pictures, facts or both")

    @property
    def inputs(self) -> Inputs:
        """Which sides it sees."""
        if not self.views:
            return "facts"
        return "both" if self.facts else "image"

    @property
    def frozen(self) -> bool:
        """Whether pictures come to it as features of a frozen encoder."""
        return bool(self.views) and self.tune == "none"


def architecture_of(settings: TrainSettings, task: Task, views: tuple[ViewInput, ...]) -> Architecture:
    """The architecture that resolved settings ask for.

    Parameters
    ----------
    views : of the pictures that there are; none of them are used where `settings.sees` is `facts`.
    """
    if settings.tune is None:
        raise ValueError("settings that are not resolved do not say how much of the encoder learns")
    return Architecture(
        views=() if settings.sees == "facts" else views,
        encoder=settings.encoder,
        tune=settings.tune,
        own_encoders=settings.own_encoders,
        facts=None if settings.sees == "image" else settings.facts_network,
        facts_width=settings.facts_width,
        fusion=settings.fusion,
        task=task,
        dropout=settings.dropout,
        modality_dropout=settings.modality_dropout,
        augment=settings.augment,
    )


def network_of(
    architecture: Architecture, shape: FactsShape, seed: int = 0, encoder: Mapping[str, Tensor] | None = None
) -> MultiModalNN:
    """The network with its first weights.

    A frozen encoder is not part of it: it takes that encoder's features in place of pictures.

    Parameters
    ----------
    shape : of the facts, after preparation.
    seed : of the first weights; the global generator is left as it was.
    encoder : weights that a tuned encoder starts from; drawn without them.
    """
    with seeded(seed):
        image = _image_networks(architecture, encoder)
        facts: TabularNN | FactsNN | None = None
        if architecture.facts == "dense":
            facts = TabularNN(shape.numbers, dropout=architecture.dropout)
        elif architecture.facts == "embedding":
            facts = FactsNN(shape, architecture.facts_width, dropout=architecture.dropout)
        network = MultiModalNN(
            image,
            facts,
            architecture.fusion,
            architecture.task.outputs,
            dispersed=architecture.task.dispersed,
            dropout=architecture.dropout,
            modality_dropout=architecture.modality_dropout,
        )
    # twice as fast on a CPU: convolutions of `basic` have 3 to 6 bands
    return network.to(memory_format=torch.channels_last)


def _image_networks(
    architecture: Architecture, encoder: Mapping[str, Tensor] | None
) -> Sequence[ImageNetwork]:
    """One for each view; the same one for all, unless each has its own."""
    dropout = architecture.dropout

    def made(view: ViewInput) -> ImageNetwork:
        if architecture.encoder == "basic":
            return BasicCNN(view.size_px, dropout=dropout)
        if architecture.tune == "none":
            return FeatureHead(features_of(architecture.encoder), dropout=dropout)
        tuned = tuned_encoder(architecture.encoder, architecture.tune, encoder)
        return PretrainedCNN(tuned, dropout=dropout)

    if architecture.own_encoders:
        return [made(view) for view in architecture.views]
    return [made(architecture.views[0])] * len(architecture.views) if architecture.views else []


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generators seeded inside, and as they were outside."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
