"""A network that draws roads made fast for evaluation, and what it says as probabilities."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from roadrisk.nets.inference import evaluation_form
from roadrisk.nets.segmentation import RoadNN


def drawing_form(network: RoadNN) -> nn.Module:
    """The same function as a network in evaluation mode, faster; see `evaluation_form`.

    Encoder and decoder are made fast one by one: between them stands a check of the pictures' shape, which
    cannot be written down as calls.
    """
    form = RoadNN.__new__(RoadNN)
    nn.Module.__init__(form)
    form.shrink = network.shrink
    form.body = _form_of(network.body)
    return form.eval()


def _form_of(body: nn.Module) -> nn.Module:
    from segmentation_models_pytorch.base import SegmentationModel

    # others do more between encoder and decoder than hand over features
    if type(body).forward is not SegmentationModel.forward:
        return evaluation_form(body)
    return _Parts(body)


class _Parts(nn.Module):
    """A network of segmentation-models-pytorch in two parts, each made fast."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.encoder = evaluation_form(cast(nn.Module, body.encoder))
        self.decoder = evaluation_form(_Decoder(body))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, bands, H, W) -> (B, 1, H, W)."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self.decoder(self.encoder(pictures)))


class _Decoder(nn.Module):
    """What comes after the encoder."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.count = len(cast(list[int], cast(nn.Module, body.encoder).out_channels))
        self.decoder = cast(nn.Module, body.decoder)
        self.head = cast(nn.Module, body.segmentation_head)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[(B, c, h, w)] -> (B, 1, H, W)."""
        # one by one: a list that is not there yet has no length
        return cast(Tensor, self.head(self.decoder([features[i] for i in range(self.count)])))
