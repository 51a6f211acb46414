"""What a network says of pixels: how likely road, in 255 steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.mosaic.picture import Mask

LEVELS = 256
Levels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is said of a rectangle of pixels.

    Parameters
    ----------
    level : (H, W) probability of road times 255, rounded; 0 where not `valid`.
    valid : (H, W) whether there is a picture.
    """

    level: Levels
    valid: Mask


def from_level(level: int) -> str:
    """From where on a pixel is road, for people.

    >>> from_level(102)
    'a pixel is road from a probability of 0.40 on (level 102 of 255)'
    """
    return f"a pixel is road from a probability of {level / (LEVELS - 1):.2f} on (level {level} of 255)"


def levels_of(probability: NDArray[np.float32]) -> Levels:
    """Probabilities as levels.

    >>> levels_of(np.array([0.0, 0.5, 1.0], np.float32)).tolist()
    [0, 128, 255]
    """
    return np.rint(probability * 255).astype(np.uint8)


@dataclass(frozen=True)
class Drew:
    """What drawing came to.

    Parameters
    ----------
    said : for people.
    result : the same for programs.
    """

    said: tuple[str, ...]
    result: dict[str, Any]
    paths: list[Path]
