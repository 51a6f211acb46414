"""The training loop, whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.architecture import seeded
from roadrisk.learning.frozen import ImageTensors
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.weights import State
from roadrisk.nets.fusion import MultiModalNN

SCORED_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class NetworkInputs:
    """What the network is given of N tiles.

    Parameters
    ----------
    facts : (N, F) prepared; None for a network without a facts branch.
    picture : (N,) index of each tile's picture, -1 without one.
    images : tensors of pictures by index; None for a network without an image branch.
    """

    facts: NDArray[np.float32] | None
    picture: IntArray
    images: ImageTensors | None

    def __len__(self) -> int:
        return len(self.picture)

    def batch(self, rows: IntArray, device: torch.device) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """The arguments of `MultiModalNN.forward` for these rows."""
        picture = self.picture[rows]
        has_image = picture >= 0
        facts = None if self.facts is None else torch.from_numpy(self.facts[rows]).to(device)
        images = None
        if self.images is not None and has_image.any():
            images = self.images(picture[has_image]).to(device)
        return facts, images, torch.from_numpy(has_image).to(device)


def fit(
    network: MultiModalNN,
    inputs: NetworkInputs,
    label: FloatArray,
    settings: TrainSettings,
    seed: int,
    device: torch.device,
    after_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> State:
    """Weights after training.

    Parameters
    ----------
    network : trained in place.
    label : (N,) 0 or 1.
    settings : resolved.
    seed : of the order of batches and of dropout; the same gives the same weights.
    after_epoch : is told the number of epochs done and the mean loss of the last.

    Raises
    ------
    ModelError : the loss is not finite.
    """
    if settings.epochs is None or settings.learning_rate is None:
        raise ValueError("settings that are not resolved have no epochs and no learning rate")
    network.to(device)
    target = torch.from_numpy(label.astype(np.float32)).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=settings.betas)
    shuffle = np.random.default_rng(seed)
    with seeded(seed), in_mode(network, training=True), repeatable():
        for epoch in range(1, settings.epochs + 1):
            total = 0.0
            order = shuffle.permutation(len(inputs))
            for first in range(0, len(order), settings.batch_size):
                rows = order[first : first + settings.batch_size]
                facts, images, has_image = inputs.batch(rows, device)
                optimiser.zero_grad()
                logit = network(facts, images, has_image)  # (B,)
                loss = binary_cross_entropy_with_logits(logit, target[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += loss.item() * len(rows)
            if not np.isfinite(total):
                raise ModelError(
                    f"training went astray: the loss is {total:g} in epoch {epoch}; "
                    "use a smaller learning_rate, or look for extreme values in the facts"
                )
            after_epoch(epoch, total / len(order))
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


def logits(network: MultiModalNN, inputs: NetworkInputs, device: torch.device) -> FloatArray:
    """(N,) what the network says of each tile, without dropout; its mode is left as it was."""
    network.to(device)
    out = np.empty(len(inputs))
    with in_mode(network, training=False), torch.no_grad(), repeatable():
        for first in range(0, len(inputs), SCORED_AT_ONCE):
            rows = np.arange(first, min(first + SCORED_AT_ONCE, len(inputs)))
            out[rows] = network(*inputs.batch(rows, device)).cpu().numpy()
    return out


@contextmanager
def in_mode(network: torch.nn.Module, training: bool) -> Iterator[None]:
    """The network in training or evaluation mode inside, and as it was outside."""
    before = network.training
    network.train(training)
    try:
        yield
    finally:
        network.train(before)


@contextmanager
def repeatable() -> Iterator[None]:
    """The same sums in the same order on a GPU inside; torch's own choice outside."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
