"""What a network that draws roads loses, over the pixels whose truth is known.

Each loss is made of sums over pixels, so that it can be told of many pictures that were seen one by one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# of the soft skeleton: half the width of the widest road, in pixels of the network
THINNED = 10
SMOOTH = 1.0


def dice_sums(logits: Tensor, road: Tensor, known: Tensor) -> Tensor:
    """(4,) sums from which `dice_loss` follows; those of several pictures may be added.

    Parameters
    ----------
    logits : (B, 1, H, W).
    road, known : (B, 1, H, W), 0 or 1.
    """
    probability = logits.sigmoid() * known
    truth = road * known
    return torch.stack(
        [*_entropy(logits, road, known), (probability * truth).sum(), (probability + truth).sum()]
    )


def dice_loss(sums: Tensor) -> Tensor:
    """Binary cross-entropy and soft Dice, 1 - 2 |P T| / (|P| + |T|) (Milletari et al. 2016, V-Net).

    Parameters
    ----------
    sums : (4,) as of `dice_sums`.

    Examples
    --------
    >>> sure = torch.tensor([[[[9.0, -9.0]]]])
    >>> right, wrong = (sure > 0).float(), (sure < 0).float()
    >>> known = torch.ones_like(sure)
    >>> [round(float(dice_loss(dice_sums(sure, road, known))), 2) for road in (right, wrong)]
    [0.0, 9.67]
    """
    entropy, known, both, either = sums
    loss: Tensor = entropy / known.clamp(min=1) + 1 - (2 * both + SMOOTH) / (either + SMOOTH)
    return loss


def cldice_sums(logits: Tensor, road: Tensor, known: Tensor, shrink: int) -> Tensor:
    """(6,) sums from which `cldice_loss` follows; those of several pictures may be added.

    Parameters
    ----------
    logits : (B, 1, H, W).
    road, known : (B, 1, H, W), 0 or 1.
    shrink : pixels along a side that the network sees as one, and the skeletons too.
    """
    probability = functional.avg_pool2d(logits.sigmoid() * known, shrink)  # (B, 1, h, w)
    truth = functional.avg_pool2d(road * known, shrink)  # (B, 1, h, w)
    drawn_line, true_line = soft_skeleton(probability), soft_skeleton(truth)
    return torch.stack(
        [
            *_entropy(logits, road, known),
            (drawn_line * truth).sum(),
            drawn_line.sum(),
            (true_line * probability).sum(),
            true_line.sum(),
        ]
    )


def cldice_loss(sums: Tensor) -> Tensor:
    """Binary cross-entropy and soft clDice (Shit et al. 2021, arXiv:2003.07311, algorithm 2).

    clDice is the harmonic mean of how much of the drawn centre-lines is true road and how much of the true
    ones is drawn: a gap costs what it breaks, whatever its area.

    Parameters
    ----------
    sums : (6,) as of `cldice_sums`.
    """
    entropy, known, right, drawn, found, true = sums
    precision, sensitivity = (right + SMOOTH) / (drawn + SMOOTH), (found + SMOOTH) / (true + SMOOTH)
    shared = 2 * precision * sensitivity / (precision + sensitivity)
    loss: Tensor = entropy / known.clamp(min=1) + 1 - shared
    return loss


def soft_skeleton(mask: Tensor, iterations: int = THINNED) -> Tensor:
    """What is left of bands when they are thinned from both sides (Shit et al. 2021, algorithm 1).

    Parameters
    ----------
    mask : (B, 1, H, W) in [0, 1].
    iterations : wider bands than twice as many pixels have no line.

    Examples
    --------
    >>> band = torch.zeros(1, 1, 5, 7)
    >>> band[..., 1:4, :] = 1
    >>> soft_skeleton(band)[0, 0, :, 3].tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0]
    """
    line = functional.relu(mask - _opened(mask))
    for _ in range(iterations):
        mask = _eroded(mask)
        ridge = functional.relu(mask - _opened(mask))
        line = line + functional.relu(ridge - line * ridge)
    return line


def _entropy(logits: Tensor, road: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of cross-entropy and of known pixels."""
    each = functional.binary_cross_entropy_with_logits(logits, road, reduction="none")  # (B, 1, H, W)
    return (each * known).sum(), known.sum()


def _eroded(mask: Tensor) -> Tensor:
    down = -functional.max_pool2d(-mask, (3, 1), 1, (1, 0))  # (B, 1, H, W)
    across = -functional.max_pool2d(-mask, (1, 3), 1, (0, 1))  # (B, 1, H, W)
    return torch.minimum(down, across)


def _opened(mask: Tensor) -> Tensor:
    return functional.max_pool2d(_eroded(mask), 3, 1, 1)
