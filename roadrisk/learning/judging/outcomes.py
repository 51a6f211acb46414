"""What is known of the tiles that models are judged on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.tasks import Task


@dataclass(frozen=True, eq=False)
class Outcomes:
    """N judged tiles: what happened in them, and what makes them hard or easy.

    Parameters
    ----------
    key : (N,) a tile's id, after its source where ids are only that source's own.
    dataset : (N,) identity of the dataset that each tile is from.
    label : (N,) index of the class, value or count.
    high : (N,) 1 where a tile is of the riskiest class, or in the top fifth of values or counts.
    events : (N,) of the label window; the label itself where there are none.
    threshold : events from which a tile is of the riskiest class; None where classes are not cut from counts.
    area_km2 : (N,) ground area.
    road_m : (N,) metres of road, NaN where unknown.
    has_image : (N,) whether a tile has a picture in some view.
    covered : (N,) whether every source of facts covers the tile.
    row, col : (N,) absolute place on the lattice; None where tiles have no place.
    block : (N,) number of the spatial block that each tile is in; None where tiles have no place.
    """

    task: Task
    key: NDArray[Any]
    dataset: NDArray[Any]
    label: FloatArray
    high: FloatArray
    events: FloatArray
    threshold: float | None
    area_km2: FloatArray
    road_m: FloatArray
    has_image: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    row: IntArray | None
    col: IntArray | None
    block: IntArray | None

    def __len__(self) -> int:
        return len(self.key)

    def taken(self, rows: IntArray) -> Outcomes:
        """These rows in this order."""
        return replace(
            self,
            key=self.key[rows],
            dataset=self.dataset[rows],
            label=self.label[rows],
            high=self.high[rows],
            events=self.events[rows],
            area_km2=self.area_km2[rows],
            road_m=self.road_m[rows],
            has_image=self.has_image[rows],
            covered=self.covered[rows],
            row=None if self.row is None else self.row[rows],
            col=None if self.col is None else self.col[rows],
            block=None if self.block is None else self.block[rows],
        )
