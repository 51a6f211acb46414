"""Networks that look at a picture.

Each makes a vector of the same length from a picture: `BasicCNN` learns everything from nothing,
`PretrainedCNN` learns a head on an encoder that is frozen or learns too. The frozen body is a module of its
own, so that its features can be computed once and the head be trained on them alone. Bodies by name are in
`nets.encoders`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

import torch
from torch import Tensor, nn

RESNET34_FEATURES = 512


class BasicCNN(nn.Module):
    """Two convolutions and two linear layers: the image branch of the first version.

    Parameters
    ----------
    size : side of the picture [px], at least 16.
    out : length of the vector it makes.
    dropout : share of activations dropped before the ReLU of each linear layer.

    Examples
    --------
    >>> sum(p.numel() for p in BasicCNN(dropout=0.3).parameters())
    1024604
    """

    def __init__(self, size: int = 196, out: int = 64, *, dropout: float) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2  # two 5x5 convolutions without padding, each halved by its pool
        self.size, self.out = size, out
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 4, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(4 * side * side, 120)
        self.fc2 = nn.Linear(120, out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, size, size) in [0, 1] -> (B, out)."""
        x = self.pool(self.conv1(pictures).relu())  # (B, 6, 96, 96) at 196 px
        x = self.pool(self.conv2(x).relu())  # (B, 4, 46, 46)
        x = x.flatten(1)  # (B, 8464)
        x = self.dropout(self.fc1(x)).relu()  # (B, 120)
        activations: Tensor = self.dropout(self.fc2(x)).relu()  # (B, out)
        return activations


class FrozenEncoder(nn.Module):
    """A body that never learns: neither its parameters nor its batch-norm statistics move.

    Parameters
    ----------
    body : (B, 3, H, W) -> (B, features).
    features : length of its vectors.
    """

    def __init__(self, body: nn.Module, features: int) -> None:
        super().__init__()
        self.body = body.requires_grad_(False)
        self.features = features
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the network around it does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), normalised as the weights expect -> (B, features)."""
        return self.body(pictures)  # type: ignore[no-any-return]


class TunedEncoder(nn.Module):
    """A body of which some parameters learn; what does not learn keeps its batch-norm statistics too.

    Parameters
    ----------
    body : (B, 3, H, W) -> (B, features).
    features : length of its vectors.
    learning : names of the body's parameters that learn.
    """

    def __init__(self, body: nn.Module, features: int, learning: Collection[str]) -> None:
        super().__init__()
        self.body = body
        self.features = features
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(name in learning)
        self.learning_modules = _modules_of(body, frozenset(learning))

    def train(self, mode: bool = True) -> Self:
        """Put what learns into training mode; the rest stays in evaluation mode."""
        super().train(False)
        self.training = mode
        for name in self.learning_modules:
            self.body.get_submodule(name).train(mode)
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), normalised as the weights expect -> (B, features)."""
        return self.body(pictures)  # type: ignore[no-any-return]


class FeatureHead(nn.Module):
    """What learns on top of an encoder's features: linear, dropout, ReLU.

    Parameters
    ----------
    features : length of the encoder's vectors.
    out : length of the vector it makes.
    dropout : share of activations dropped before the ReLU.
    """

    def __init__(self, features: int = RESNET34_FEATURES, out: int = 64, *, dropout: float) -> None:
        super().__init__()
        self.features, self.out = features, out
        self.fc = nn.Linear(features, out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(B, features) -> (B, out)."""
        activations: Tensor = self.dropout(self.fc(features)).relu()  # (B, out)
        return activations


class PretrainedCNN(nn.Module):
    """An encoder, frozen or tuned, under a head that learns.

    Examples
    --------
    >>> from roadrisk.nets.encoders import encoder_body, frozen_encoder
    >>> state = encoder_body("resnet34").state_dict()
    >>> network = PretrainedCNN(frozen_encoder("resnet34", state), dropout=0.3)
    >>> sum(p.numel() for p in network.parameters())
    21317504
    >>> sum(p.numel() for p in network.parameters() if p.requires_grad)
    32832
    """

    def __init__(self, encoder: FrozenEncoder | TunedEncoder, out: int = 64, *, dropout: float) -> None:
        super().__init__()
        self.out = out
        self.encoder = encoder
        self.head = FeatureHead(encoder.features, out, dropout=dropout)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), normalised as the weights expect -> (B, out)."""
        return self.head(self.encoder(pictures))  # type: ignore[no-any-return]  # (B, out)


def _modules_of(module: nn.Module, names: frozenset[str], prefix: str = "") -> tuple[str, ...]:
    """The largest modules all of whose parameters are among these."""
    own = [f"{prefix}{name}" for name, _ in module.named_parameters()]
    if own and names.issuperset(own):
        return (prefix.removesuffix("."),)
    inner = (_modules_of(child, names, f"{prefix}{name}.") for name, child in module.named_children())
    return tuple(name for found in inner for name in found)
