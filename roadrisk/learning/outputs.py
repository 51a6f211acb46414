"""What several networks say of the same tiles, whose pictures are read once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing

import numpy as np
import torch
from torch import Tensor

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.batches import TURNS, NetworkInputs
from roadrisk.learning.loop.fit import in_mode, repeatable
from roadrisk.learning.pictures.pixels import turned_alike
from roadrisk.learning.pictures.prefetch import prefetched
from roadrisk.nets.fusion import MultiModalNN

TILES_AT_ONCE = 64
PICTURE_AXES = 4  # of (M, 3, size, size); features have two


def raw_outputs_of_all(
    networks: Sequence[MultiModalNN], inputs: Sequence[NetworkInputs], device: torch.device, augment: bool
) -> FloatArray:
    """(networks, N, K [+ 1]) what each says of each tile, without dropout.

    The pictures of the next tiles are read while the networks look at these.

    Parameters
    ----------
    inputs : of each network; the pictures of the first are those of all.
    augment : say the mean over the eight turns of the pictures.
    """
    tiles = len(inputs[0])
    jobs = [np.arange(first, min(first + TILES_AT_ONCE, tiles)) for first in range(0, tiles, TILES_AT_ONCE)]

    def read(rows: IntArray) -> tuple[IntArray, tuple[Tensor, ...]]:
        return rows, inputs[0].pictures(rows, np.zeros(len(rows), np.int64))

    parts: list[list[FloatArray]] = [[] for _ in networks]
    with ExitStack() as modes, torch.inference_mode(), repeatable():
        for network in networks:
            modes.enter_context(in_mode(network, training=False))
        for rows, pictures in modes.enter_context(closing(prefetched(read, jobs))):
            shown = _under_each_turn(inputs[0], rows, pictures) if augment else [pictures]
            for k, (network, of_network) in enumerate(zip(networks, inputs, strict=True)):
                said = [network(of_network.batch_with(seen, rows, device)).double() for seen in shown]
                parts[k].append(torch.stack(said).mean(dim=0).cpu().numpy())
    return np.stack([np.concatenate(of_network) for of_network in parts])


def _under_each_turn(
    inputs: NetworkInputs, rows: IntArray, pictures: tuple[Tensor, ...]
) -> list[tuple[Tensor, ...]]:
    """The pictures of the views under all eight turns; features of a frozen encoder are looked up."""
    turned = [pictures]
    for turn in range(1, TURNS):
        looked_up = inputs.pictures(rows, np.full(len(rows), turn)) if _any_features(pictures) else pictures
        turned.append(
            tuple(
                turned_alike(seen, turn) if seen.ndim == PICTURE_AXES else kept
                for seen, kept in zip(pictures, looked_up, strict=True)
            )
        )
    return turned


def _any_features(pictures: tuple[Tensor, ...]) -> bool:
    return any(seen.ndim != PICTURE_AXES for seen in pictures)
