"""Examples: tiles as a network meets them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.pictures.sources import CachedPictures


@dataclass(frozen=True, eq=False)
class Examples:
    """N tiles: what is known of each, and what is to be learned.

    Parameters
    ----------
    key : (N,) unique names of the tiles; training goes in their order, whatever the order of rows.
    label : (N,) index of the class, value or count; NaN where unknown.
    facts : (N, F) values of `columns`, NaN where missing.
    columns : F of them, numbers.
    texts : (N, T) values of `text_columns` as str, None where missing.
    text_columns : T of them.
    area_km2 : (N,) ground area [km2].
    views : V names.
    pictures : V of those that exist, of each dataset; empty where a view has none.
    picture : (N, V) index of each tile's picture in `pictures[v]`, -1 for a tile without one.
    row, col : (N,) place on the lattice, absolute; None where tiles have no place.
    exposure : (N,) what expected counts are proportional to; ones where nothing is.
    """

    key: NDArray[Any]
    label: FloatArray
    facts: FloatArray
    columns: tuple[Column, ...]
    texts: NDArray[np.object_]
    text_columns: tuple[Column, ...]
    area_km2: FloatArray
    views: tuple[str, ...]
    pictures: tuple[tuple[CachedPictures, ...], ...]
    picture: IntArray
    row: IntArray | None
    col: IntArray | None
    exposure: FloatArray

    def __len__(self) -> int:
        return len(self.key)

    @property
    def has_image(self) -> NDArray[np.bool_]:
        """(N,) whether a tile has a picture in some view."""
        return np.asarray((self.picture >= 0).any(axis=1))

    @property
    def has_facts(self) -> NDArray[np.bool_]:
        """(N,) whether anything is known of a tile."""
        numbers = np.isfinite(self.facts).any(axis=1)
        return np.asarray(numbers | (self.texts != None).any(axis=1))  # noqa: E711

    def taken(self, rows: IntArray) -> Examples:
        """These rows in this order."""
        return replace(
            self,
            key=self.key[rows],
            label=self.label[rows],
            facts=self.facts[rows],
            texts=self.texts[rows],
            area_km2=self.area_km2[rows],
            picture=self.picture[rows],
            row=None if self.row is None else self.row[rows],
            col=None if self.col is None else self.col[rows],
            exposure=self.exposure[rows],
        )
