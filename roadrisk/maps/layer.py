"""What is written as a map file: features with their fields, places, colours and words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.grid import IntArray
from roadrisk.maps.bands import RISK_LEGEND
from roadrisk.maps.fields import fields_as_json
from roadrisk.maps.legend import Legend
from roadrisk.maps.pictures import TilePictures
from roadrisk.maps.places import Places

FEATURES_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class About:
    """What every layer says of itself.

    Parameters
    ----------
    title : of the region or table, for people.
    risk_meaning : one sentence on what a high risk means.
    label_meaning : one sentence on what `label` holds.
    licence, attribution : of the sources, as their owners ask.
    model : identity of the model.
    windows : dates [from, to) by what they bound, such as `label` and `features`.
    data : identity of the dataset or table that the features are of; empty where nothing says.
    """

    title: str
    risk_meaning: str
    label_meaning: str
    licence: str
    attribution: str
    model: str
    windows: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    data: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Layer:
    """N features: tiles, roads or places.

    Parameters
    ----------
    table : N rows.
    columns : what the columns of `table` mean, in its order.
    places : where the features lie; None when nothing says.
    name : what a file that holds several calls it; ASCII letters and underscores.
    legend : the classes that it is coloured by.
    pictures : of the tiles, by their `tile_id`; None without any.
    ranked : features that `rank` counts, more than are here when some were taken; None without ranks.
    """

    table: pd.DataFrame
    columns: tuple[Column, ...]
    places: Places | None
    about: About
    name: str = "risk"
    legend: Legend = RISK_LEGEND
    pictures: TilePictures | None = None
    ranked: int | None = None

    def __len__(self) -> int:
        return len(self.table)

    def placed(self) -> Places:
        """Where the features lie.

        Raises
        ------
        LayerError : nothing says.
        """
        if self.places is None:
            raise LayerError(
                "nothing says where the tiles are; give lon and lat columns or geometry, or write .csv"
            )
        return self.places

    def classes(self) -> NDArray[np.int16]:
        """(N,) place of each feature's class among the legend's shades; -1 without a class.

        Raises
        ------
        LayerError : a class that the legend lacks.
        """
        named = pa.array(self.table[self.legend.field], from_pandas=True).cast(pa.string())
        index = pa.compute.index_in(named, pa.array(self.legend.values, pa.string()))
        foreign = pa.compute.and_(named.is_valid(), index.is_null())
        if pa.compute.any(foreign).as_py():
            value = named.filter(foreign)[0].as_py()
            raise LayerError(
                f"{self.legend.field} holds {value!r}, which the legend lacks; "
                f"use {', '.join(self.legend.values)}"
            )
        return np.asarray(index.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int16)

    def taken(self, rows: IntArray) -> Layer:
        """These features in this order."""
        places = self.places.taken(rows) if self.places is not None else None
        return replace(self, table=self.table.iloc[rows].reset_index(drop=True), places=places)

    def parts(self, features_at_once: int = FEATURES_AT_ONCE) -> Iterator[Layer]:
        """The features in order, some at a time: what is made of them never stands whole in memory."""
        for first in range(0, len(self), features_at_once):
            yield self.taken(np.arange(first, min(first + features_at_once, len(self))))

    def as_json(self) -> dict[str, Any]:
        """What a layer's metadata holds: its name, the words about it, its legend and its columns."""
        return {
            "name": self.name,
            **self.about.as_json(),
            "ranked": self.ranked,
            "legend": self.legend.as_json(),
            "columns": fields_as_json(self.columns),
        }
