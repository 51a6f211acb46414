"""What a network is given of some tiles."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """B tiles, V views of each.

    Parameters
    ----------
    numbers : (B, F) facts that are numbers, prepared.
    codes : (B, C) int64, facts that are text, as rows of their embeddings; 0 is missing or unseen.
    has_facts : (B,) bool. Of other tiles `numbers` and `codes` mean nothing.
    pictures : V of (M, ...), those of the M tiles that have one in that view, in order, as the view's image
        branch takes them: pictures (M, 3, size, size) or features (M, features).
    has_image : (B, V) bool with M true in each column.
    """

    numbers: Tensor
    codes: Tensor
    has_facts: Tensor
    pictures: tuple[Tensor, ...]
    has_image: Tensor
