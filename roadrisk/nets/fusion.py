"""The network that joins picture and facts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from roadrisk.nets.image import BasicCNN, FeatureHead, PretrainedCNN
from roadrisk.nets.tabular import TabularNN

ImageNetwork = BasicCNN | PretrainedCNN | FeatureHead


class MultiModalNN(nn.Module):
    """Picture and facts side by side under one linear layer.

    Parameters
    ----------
    image : makes a vector of each picture; None for a network of facts alone.
    tabular : makes a vector of each row of facts; None for a network of pictures alone.

    Raises
    ------
    ValueError : neither is given.

    Examples
    --------
    >>> network = MultiModalNN(BasicCNN(dropout=0.3), TabularNN(20, dropout=0.3))
    >>> sum(p.numel() for p in network.parameters())
    1038493
    """

    def __init__(self, image: ImageNetwork | None, tabular: TabularNN | None) -> None:
        super().__init__()
        if image is None and tabular is None:
            raise ValueError("a network needs an image branch, a facts branch or both")
        self.image, self.tabular = image, tabular
        self.fusion = nn.Linear((image.out if image else 0) + (tabular.out if tabular else 0), 1)

    def forward(self, facts: Tensor | None, pictures: Tensor | None, has_image: Tensor) -> Tensor:
        """The logit of each tile.

        Parameters
        ----------
        facts : (B, F), standardised; None without a facts branch.
        pictures : (M, ...), those of the M tiles that have one, in order, as `image` takes them; None
            when M = 0 or without an image branch.
        has_image : (B,) bool with M true. Other tiles enter with zeros in place of the picture's
            activations, and the image branch does not run for them.

        Returns
        -------
        (B,) logits.
        """
        joined = []
        if self.image is not None:
            seen = self.fusion.weight.new_zeros(len(has_image), self.image.out)  # (B, 64)
            if pictures is not None and len(pictures):
                seen[has_image] = self.image(pictures)
            joined.append(seen)
        if self.tabular is not None:
            joined.append(self.tabular(facts))  # (B, 32)
        return self.fusion(torch.cat(joined, dim=1)).squeeze(1)  # type: ignore[no-any-return]  # (B,)
