"""From examples to what a network is given, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadrisk.grid import FloatArray, IntArray
from roadrisk.nets.batch import Batch

# indices of pictures of a view (n,), turns from 0 to 7 (n,) -> pictures (n, 3, size, size) or features (n, f)
ImageTensors = Callable[[IntArray, IntArray], Tensor]

TURNS = 8  # quarter turns of a picture and of its mirror image; 0 leaves it as it is


@dataclass(frozen=True, eq=False)
class NetworkInputs:
    """What the network is given of N tiles.

    Parameters
    ----------
    numbers : (N, F) prepared; (N, 0) for a network without a facts branch.
    codes : (N, C) prepared.
    has_facts : (N,) bool.
    picture : (N, V) index of each tile's picture, -1 without one.
    images : V of tensors of pictures by index and turn.
    """

    numbers: NDArray[np.float32]
    codes: IntArray
    has_facts: NDArray[np.bool_]
    picture: IntArray
    images: tuple[ImageTensors, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, rows: IntArray, turns: IntArray, device: torch.device) -> Batch:
        """What the network is given of these rows, each turned so."""
        return self.batch_with(self.pictures(rows, turns), rows, device)

    def pictures(self, rows: IntArray, turns: IntArray) -> tuple[Tensor, ...]:
        """V of (M, ...), of those of these rows that have a picture in the view."""
        picture = self.picture[rows]  # (B, V)
        return tuple(
            images(picture[seen, view], turns[seen])
            for view, (images, seen) in enumerate(zip(self.images, (picture >= 0).T, strict=True))
        )

    def batch_with(self, pictures: tuple[Tensor, ...], rows: IntArray, device: torch.device) -> Batch:
        """What the network is given of these rows and of their pictures, had before."""
        return Batch(
            torch.from_numpy(self.numbers[rows]).to(device),
            torch.from_numpy(self.codes[rows]).to(device),
            torch.from_numpy(self.has_facts[rows]).to(device),
            tuple(tensor.to(device) for tensor in pictures),
            torch.from_numpy(self.picture[rows] >= 0).to(device),
        )


@dataclass(frozen=True, eq=False)
class Lesson:
    """N tiles to learn from, or to watch the loss on: what the network is given, and what it should say.

    Parameters
    ----------
    key : (N,) names of the tiles, for messages.
    label : (N,) index of the class, value or count.
    exposure : (N,) what expected counts are proportional to.
    """

    inputs: NetworkInputs
    key: NDArray[Any]
    label: FloatArray
    exposure: FloatArray

    def __len__(self) -> int:
        return len(self.key)
