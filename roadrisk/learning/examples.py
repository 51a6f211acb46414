"""Examples: tiles as a network meets them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.pictures import Pictures


@dataclass(frozen=True, eq=False)
class Examples:
    """N tiles: what is known of each, and what is to be learned.

    Parameters
    ----------
    key : (N,) unique names of the tiles; training goes in their order, whatever the order of rows.
    label : (N,) 1 for high risk, 0 for not, NaN where unknown.
    facts : (N, F) values of `columns`, NaN where missing.
    columns : F of them.
    area_km2 : (N,) ground area [km2].
    pictures : those that exist; None without any.
    picture : (N,) index of each tile's picture in `pictures`, -1 for a tile without one.
    row, col : (N,) place on the lattice, absolute; None where tiles have no place.
    """

    key: NDArray[Any]
    label: FloatArray
    facts: FloatArray
    columns: tuple[Column, ...]
    area_km2: FloatArray
    pictures: Pictures | None
    picture: IntArray
    row: IntArray | None = None
    col: IntArray | None = None

    def __len__(self) -> int:
        return len(self.key)

    @property
    def has_image(self) -> NDArray[np.bool_]:
        """(N,) whether a tile has a picture."""
        return self.picture >= 0

    @property
    def has_facts(self) -> NDArray[np.bool_]:
        """(N,) whether anything is known of a tile."""
        return np.asarray(np.isfinite(self.facts).any(axis=1))

    def taken(self, rows: IntArray) -> Examples:
        """These rows in this order."""
        return replace(
            self,
            key=self.key[rows],
            label=self.label[rows],
            facts=self.facts[rows],
            area_km2=self.area_km2[rows],
            picture=self.picture[rows],
            row=None if self.row is None else self.row[rows],
            col=None if self.col is None else self.col[rows],
        )
