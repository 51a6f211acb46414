"""The network that reads the facts."""

from __future__ import annotations

from torch import Tensor, nn


class TabularNN(nn.Module):
    """Three linear layers: the facts branch of the first version.

    Parameters
    ----------
    features : number of facts.
    dropout : share of activations dropped after each ReLU.

    Examples
    --------
    >>> sum(p.numel() for p in TabularNN(20, dropout=0.3).parameters())
    13792
    """

    def __init__(self, features: int, *, dropout: float) -> None:
        super().__init__()
        self.features, self.out = features, 32
        self.fc1 = nn.Linear(features, 64)
        self.fc2 = nn.Linear(64, 128)
        self.fc3 = nn.Linear(128, self.out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, facts: Tensor) -> Tensor:
        """(B, features), standardised -> (B, 32)."""
        x = self.dropout(self.fc1(facts).relu())  # (B, 64)
        x = self.dropout(self.fc2(x).relu())  # (B, 128)
        activations: Tensor = self.fc3(x)  # (B, 32)
        return activations
