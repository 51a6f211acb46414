"""Pictures on their way into a network: turned, and from bytes to what it takes."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from roadrisk.grid import IntArray
from roadrisk.learning.batches import TURNS
from roadrisk.learning.pictures.sources import PicturePreparation


def turned(pixels: Tensor, turns: IntArray) -> Tensor:
    """(n, C, H, H) pictures, each turned its own way; of the eight ways 0 leaves a picture as it is.

    Parameters
    ----------
    turns : (n,) from 0 to 7. Turn t is t modulo 4 quarter turns to the left, from 4 on of the mirror image.

    Examples
    --------
    >>> turned(torch.tensor([[[[1, 2], [3, 4]]]] * 2), np.array([1, 4])).tolist()
    [[[[2, 4], [1, 3]]], [[[2, 1], [4, 3]]]]
    """
    kinds = np.unique(turns).tolist()
    if len(kinds) == 1:
        return turned_alike(pixels, kinds[0])
    out = torch.empty_like(pixels)
    for turn in kinds:
        at = torch.from_numpy(np.flatnonzero(turns == turn)).to(pixels.device)
        out[at] = turned_alike(pixels[at], turn)
    return out


def turned_alike(pixels: Tensor, turn: int) -> Tensor:
    """(n, C, H, H) pictures, all turned the same way."""
    mirrored = pixels.flip(3) if turn >= TURNS // 2 else pixels
    quarters = turn % (TURNS // 2)
    return mirrored.rot90(quarters, (2, 3)) if quarters else mirrored


def as_tensor(pixels: Tensor, preparation: PicturePreparation) -> Tensor:
    """(n, 3, size, size) of bytes -> the same in [0, 1], without `mean` and over `std`; where they are."""
    mean, std = torch.tensor(preparation.mean), torch.tensor(preparation.std)
    if pixels.device.type == "cpu" and len(pixels):
        # one look-up a byte: a third of the time of torch's conversion, subtraction and division
        known = torch.arange(256)[:, None].div(255).sub(mean).div(std)  # (256, 3)
        rows = pixels.permute(0, 2, 3, 1).contiguous().numpy()  # (n, size, size, 3)
        looked_up = cv2.LUT(rows.reshape(1, -1, 3), known[None].numpy()).reshape(rows.shape)
        return torch.from_numpy(looked_up).permute(0, 3, 1, 2)
    mean, std = (bands[:, None, None].to(pixels.device) for bands in (mean, std))
    return pixels.to(torch.float32, memory_format=torch.channels_last).div_(255).sub_(mean).div_(std)
