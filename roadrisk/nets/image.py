"""Networks that look at a picture.

Two make a vector of the same length from a picture: `BasicCNN` learns everything from nothing,
`PretrainedCNN` learns a head on a frozen ResNet34. The frozen body is a module of its own, so that its
features can be computed once and the head be trained on them alone.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torchvision.models import resnet34

RESNET34_FEATURES = 512
# torchvision's ResNet34_Weights.IMAGENET1K_V1.transforms()
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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


class FeatureHead(nn.Module):
    """What learns on top of frozen features: linear, dropout, ReLU.

    Parameters
    ----------
    features : length of the frozen vectors.
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
    """A frozen encoder under a head that learns.

    Examples
    --------
    >>> network = PretrainedCNN(frozen_resnet34(resnet34(weights=None).state_dict()), dropout=0.3)
    >>> sum(p.numel() for p in network.parameters())
    21317504
    >>> sum(p.numel() for p in network.parameters() if p.requires_grad)
    32832
    """

    def __init__(self, encoder: FrozenEncoder, out: int = 64, *, dropout: float) -> None:
        super().__init__()
        self.out = out
        self.encoder = encoder
        self.head = FeatureHead(encoder.features, out, dropout=dropout)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), normalised as the weights expect -> (B, out)."""
        return self.head(self.encoder(pictures))  # type: ignore[no-any-return]  # (B, out)


def frozen_resnet34(state: dict[str, Tensor]) -> FrozenEncoder:
    """ResNet34 without its classifier, frozen.

    Parameters
    ----------
    state : torchvision's names; `fc.weight` and `fc.bias` may be there and are left out.

    Raises
    ------
    RuntimeError : torch's own, when a name or shape does not fit; `learning.weights` checks before.
    """
    with torch.device("meta"):  # no first weights: drawing 21 million of them takes longer than reading them
        body = resnet34(weights=None)
    body.fc = nn.Identity()
    given = {name: value for name, value in state.items() if not name.startswith("fc.")}
    body.load_state_dict(given, assign=True)
    return FrozenEncoder(body, RESNET34_FEATURES)
