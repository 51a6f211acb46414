"""Which of the numbers that a network is given come from which column, and what a typical tile has there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from roadrisk.columns import Column
from roadrisk.grid import IntArray
from roadrisk.learning.facts.neighbourhood import neighbour_names
from roadrisk.learning.facts.preparation import Preparation
from roadrisk.nets.tabular import FactsNN, TabularNN

FactsNetwork = TabularNN | FactsNN


def known_by(columns: Sequence[Column], sides: Sequence[int]) -> dict[str, str]:
    """The column that each prepared fact tells of: itself, or the one whose neighbourhood it sums up.

    >>> road = Column("road_m", "float64", "m", "feature", "sum", "Centre-line length.")
    >>> known_by([road], [3])
    {'road_m_3x3': 'road_m', 'road_m': 'road_m'}
    """
    around = {name: column.name for column in columns for name in neighbour_names(column.name, sides)}
    return around | {column.name: column.name for column in columns}


def used_columns(
    preparations: Sequence[Preparation], columns: Sequence[Column], sides: Sequence[int]
) -> tuple[Column, ...]:
    """The columns that some fold learned from, in their order."""
    of = known_by(columns, sides)
    used = {of[name] for preparation in preparations for name in preparation.columns}
    return tuple(column for column in columns if column.name in used)


def inputs(network: FactsNetwork, numbers: Tensor, codes: Tensor) -> Tensor:
    """(B, D) what the first layer of a facts network takes: numbers, then the vectors of categories."""
    if isinstance(network, TabularNN):
        return numbers
    tables = _tables(network)
    vectors = [table[code] for table, code in zip(tables, codes.unbind(dim=1), strict=True)]
    return torch.cat([numbers, *vectors], dim=1)  # (B, D)


def read(network: FactsNetwork, x: Tensor) -> Tensor:
    """(..., D) of `inputs` -> (..., length): the network behind its embeddings, without dropout."""
    x = network.fc1(x).relu()  # (..., 64), or the width of the embedding network
    x = network.fc2(x)  # (..., 128), or half the width
    return network.fc3(x.relu()) if isinstance(network, TabularNN) else x.relu()  # (..., length)


def typical_inputs(network: FactsNetwork, preparation: Preparation) -> Tensor:
    """(D,) `inputs` of the typical tile.

    Numbers are the mean of the training tiles as scaled, and nothing is missing. Of a text it is the middle
    between all that training met, each as much: how often each was met is not kept.
    """
    hot = [
        1 / len(category.texts)
        for category in preparation.categories
        if not category.coded
        for _ in category.texts
    ]
    plain = preparation.shape.numbers - len(hot)
    weights = next(network.parameters())
    numbers = torch.cat([weights.new_zeros(plain), weights.new_tensor(hot)])
    if isinstance(network, TabularNN):
        return numbers
    vectors = [table[1:].mean(dim=0) for table in _tables(network)]
    return torch.cat([numbers, *vectors])  # (D,)


def owners(
    network: FactsNetwork, preparation: Preparation, of: Mapping[str, str], names: Sequence[str]
) -> IntArray:
    """(D,) place among `names` of the column that each of `inputs` tells of.

    A value and the flag of its absence, all texts of a category and the sums around a tile are of one column.

    Parameters
    ----------
    of : as `known_by` gives it.
    """
    facts, texts = preparation.facts, preparation.categories
    told = [fact.column for fact in facts] + [fact.column for fact in facts if fact.flagged]
    told += [text.column for text in texts if not text.coded for _ in text.texts]
    if isinstance(network, FactsNN):
        coded = [text.column for text in texts if text.coded]
        for name, table in zip(coded, _tables(network), strict=True):
            told += [name] * table.shape[1]
    place = {name: index for index, name in enumerate(names)}
    return np.array([place[of[name]] for name in told], np.int64)


def _tables(network: FactsNN) -> list[Tensor]:
    """C of (texts + 1, length): the vectors of each category, the unknown one first."""
    return [table.detach() for table in network.embeddings.parameters()]
