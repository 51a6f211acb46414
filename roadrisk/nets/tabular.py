"""Networks that read the facts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

LONGEST_EMBEDDING = 50


class FactsShape(NamedTuple):
    """Facts of a tile as a network takes them.

    Parameters
    ----------
    numbers : F of them.
    categories : C sizes, one for each fact that is text: its categories and code 0 (missing or unseen).
    """

    numbers: int
    categories: tuple[int, ...]


class TabularNN(nn.Module):
    """Three linear layers: the facts branch of the first version.

    Parameters
    ----------
    numbers : of facts; facts that are text come as one-hot numbers.
    dropout : share of activations dropped after each ReLU.

    Examples
    --------
    >>> sum(p.numel() for p in TabularNN(20, dropout=0.3).parameters())
    13792
    """

    def __init__(self, numbers: int, *, dropout: float) -> None:
        super().__init__()
        self.out = 32
        self.fc1 = nn.Linear(numbers, 64)
        self.fc2 = nn.Linear(64, 128)
        self.fc3 = nn.Linear(128, self.out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """(B, F) prepared and (B, 0) -> (B, 32).

        Raises
        ------
        ValueError : there are codes.
        """
        if codes.shape[1]:
            raise ValueError(f"TabularNN reads no codes, and was given {codes.shape[1]} columns of them")
        x = self.dropout(self.fc1(numbers).relu())  # (B, 64)
        x = self.dropout(self.fc2(x).relu())  # (B, 128)
        activations: Tensor = self.fc3(x)  # (B, 32)
        return activations


class FactsNN(nn.Module):
    """An embedding for each fact that is text, joined with the numbers, and two hidden layers.

    Guo and Berkhahn, Entity Embeddings of Categorical Variables (arXiv:1604.06737). The first vectors are
    short, as in fastai, so that a rare category stays near an unknown one until there is reason to leave.
    Code 0 is a fact not known: missing, or a category that training never met. Its vector is zero at first
    and learns from the missing values of the training rows. Where none was missing it stays zero, and the
    fact says nothing.

    Parameters
    ----------
    shape : of the facts.
    width : H hidden units of the first layer; the second has H // 2.
    dropout : share of activations dropped after each ReLU.

    Examples
    --------
    >>> network = FactsNN(FactsShape(numbers=20, categories=(8, 200)), width=64, dropout=0.3)
    >>> [embedding.embedding_dim for embedding in network.embeddings], network.out
    ([4, 50], 32)
    """

    def __init__(self, shape: FactsShape, width: int, *, dropout: float) -> None:
        super().__init__()
        self.out = width // 2
        self.embeddings = nn.ModuleList(nn.Embedding(n, embedding_length(n)) for n in shape.categories)
        self.fc1 = nn.Linear(shape.numbers + sum(map(embedding_length, shape.categories)), width)
        self.fc2 = nn.Linear(width, self.out)
        self.dropout = nn.Dropout(dropout)
        for table in self.embeddings.parameters():
            nn.init.trunc_normal_(table, std=0.01)
            nn.init.zeros_(table[0])

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """(B, F) prepared and (B, C) int64 -> (B, H // 2)."""
        vectors = [
            table(code) for table, code in zip(self.embeddings, codes.unbind(dim=1), strict=True)
        ]  # C of (B, length)
        x = torch.cat([numbers, *vectors], dim=1)  # (B, F + lengths)
        x = self.dropout(self.fc1(x).relu())  # (B, H)
        activations: Tensor = self.dropout(self.fc2(x).relu())  # (B, H // 2)
        return activations


def embedding_length(categories: int) -> int:
    """Length of the vector of a fact with so many categories, the unknown one included.

    Half of them, 50 at most: the rule of thumb of fast.ai's course of 2018 (lesson 3, Rossmann).

    >>> embedding_length(2), embedding_length(8), embedding_length(1116)
    (1, 4, 50)
    """
    return min(LONGEST_EMBEDDING, (categories + 1) // 2)
