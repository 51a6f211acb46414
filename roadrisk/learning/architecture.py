"""Which network: what is asked for, and the network that answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from roadrisk.learning.settings import Encoder, Inputs, TrainSettings
from roadrisk.nets.fusion import ImageNetwork, MultiModalNN
from roadrisk.nets.image import BasicCNN, FeatureHead
from roadrisk.nets.tabular import TabularNN

SMALLEST_PX = 16


@dataclass(frozen=True)
class Architecture:
    """The network of a fold, but for its number of facts.

    Parameters
    ----------
    size_px : side of the picture it takes; 0 where it takes none.

    Raises
    ------
    ValueError : a picture too small for it.
    """

    encoder: Encoder
    inputs: Inputs
    size_px: Annotated[int, Field(ge=0, le=1024)]  # checked where a model is read
    dropout: Annotated[float, Field(ge=0, le=1)]

    def __post_init__(self) -> None:
        if self.inputs != "facts" and self.size_px < SMALLEST_PX:
            raise ValueError(f"size_px is {self.size_px}; a network of pictures takes {SMALLEST_PX} or more")


def architecture_of(settings: TrainSettings, size_px: int) -> Architecture:
    """The architecture that settings ask for."""
    return Architecture(settings.encoder, settings.inputs, size_px, settings.dropout)


def network_of(architecture: Architecture, facts: int, seed: int) -> MultiModalNN:
    """The network with its first weights.

    A frozen encoder is not part of it: it takes that encoder's features in place of pictures.

    Parameters
    ----------
    facts : number of them, after preparation.
    seed : of the first weights; the global generator is left as it was.
    """
    image: ImageNetwork | None = None
    with seeded(seed):
        if architecture.inputs != "facts":
            image = (
                BasicCNN(architecture.size_px, dropout=architecture.dropout)
                if architecture.encoder == "basic"
                else FeatureHead(dropout=architecture.dropout)
            )
        tabular = None if architecture.inputs == "image" else TabularNN(facts, dropout=architecture.dropout)
        network = MultiModalNN(image, tabular)
    # twice as fast on a CPU: its convolutions have 3 to 6 bands
    return network.to(memory_format=torch.channels_last)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generators seeded inside, and as they were outside."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
