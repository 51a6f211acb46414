"""The features of two layers, matched by their ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from roadrisk.errors import LayerError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GridTiles, Places

IDS = ("tile_id", "road_id")


@dataclass(frozen=True)
class Matched:
    """N features of two layers by their ids: those of A in its order, then those of B alone in its order.

    Parameters
    ----------
    key : the field of ids.
    ids : (N,).
    a, b : (N,) row in each layer; -1 where it lacks the feature.
    """

    key: str
    ids: pd.Series[Any]
    a: IntArray
    b: IntArray

    @property
    def both(self) -> NDArray[np.bool_]:
        """(N,) whether both layers have the feature."""
        return (self.a >= 0) & (self.b >= 0)


@dataclass(frozen=True, eq=False)
class EitherPlaces:
    """Places of features of which some lie in one layer and some in another.

    Parameters
    ----------
    place : (N,) row in `first`, or, below 0, -1 less the row in `second`.
    """

    first: Places
    second: Places
    place: IntArray

    @property
    def crs(self) -> str:
        """That of the first."""
        return self.first.crs

    def shapes(self, crs: str) -> NDArray[Any]:
        """(N,) the shapes of both, in `crs`."""
        made = np.empty(len(self.place), dtype=object)
        for some, places in self._sides():
            made[some] = places.shapes(crs)
        return made

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """(N,) longitude and (N,) latitude [deg]."""
        made = np.empty((2, len(self.place)))
        for some, places in self._sides():
            made[:, some] = places.centres()
        return made[0], made[1]

    def taken(self, rows: IntArray) -> EitherPlaces:
        """These places in this order."""
        return EitherPlaces(self.first, self.second, self.place[rows])

    def _sides(self) -> Iterator[tuple[NDArray[np.bool_], Places]]:
        """Which features lie in each layer, and their places there."""
        here = self.place >= 0
        for some, places, row in (
            (here, self.first, self.place),
            (~here, self.second, -1 - self.place),
        ):
            if some.any():
                yield some, places.taken(row[some])


def matched(a: Layer, b: Layer) -> Matched:
    """The features of two layers by their ids.

    Raises
    ------
    LayerError : they have no ids in common, or an id stands twice.
    """
    key = next((key for key in IDS if key in a.table and key in b.table), None)
    if key is None:
        held = [next((key for key in IDS if key in layer.table), "no ids") for layer in (a, b)]
        raise LayerError(
            f"A has {held[0]} and B has {held[1]}; compare tiles with tiles, or roads with roads"
        )
    here, there = (_texts(layer.table[key]) for layer in (a, b))
    for which, ids in (("A", here), ("B", there)):
        counts = pc.value_counts(ids)
        if len(counts) < len(ids):
            twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0].as_py()
            raise LayerError(f"{which} has the {key} {twice!r} twice; give each feature its own")
    in_b, in_a = _rows(here, there), _rows(there, here)
    own = np.flatnonzero(in_a < 0)
    ids = pa.concat_arrays([here, there.take(pa.array(own))])
    row_a = np.concatenate([np.arange(len(here)), np.full(len(own), -1)])
    return Matched(key, pd.Series(ids.to_pandas(), dtype="str"), row_a, np.concatenate([in_b, own]))


def _texts(values: pd.Series[Any]) -> pa.LargeStringArray:
    """(N,) text, as compact as Arrow keeps it."""
    texts = pa.array(values.astype("str"), pa.large_string())
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts


def _rows(ids: pa.Array, among: pa.Array) -> IntArray:
    """(N,) where ids stand among others; -1 where they do not."""
    found = pc.fill_null(pc.index_in(ids, value_set=among), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


def places_of(a: Layer, b: Layer, match: Matched) -> Places | None:
    """Where the features of two layers lie, by A as far as it has them; None where a layer does not say.

    Tiles of one lattice stay tiles of a grid.
    """
    if a.places is None or b.places is None:
        return None
    if (match.a >= 0).all():
        return a.places
    place = np.where(match.a >= 0, match.a, -1 - match.b)
    if not (isinstance(a.places, GridTiles) and isinstance(b.places, GridTiles)):
        return EitherPlaces(a.places, b.places, place)
    here, there = a.places.grid, b.places.grid
    if replace(there, x0=here.x0, y0=here.y0, rows=here.rows, cols=here.cols) != here:
        return EitherPlaces(a.places, b.places, place)
    x0, y0 = min(here.x0, there.x0), min(here.y0, there.y0)
    rows = max(here.y0 + here.rows, there.y0 + there.rows) - y0
    cols = max(here.x0 + here.cols, there.x0 + there.cols) - x0
    row, col = (
        np.concatenate([ours, theirs])[np.where(place >= 0, place, len(ours) - 1 - place)]
        for ours, theirs in (
            (a.places.rows + here.y0 - y0, b.places.rows + there.y0 - y0),
            (a.places.cols + here.x0 - x0, b.places.cols + there.x0 - x0),
        )
    )
    return GridTiles(replace(here, x0=x0, y0=y0, rows=rows, cols=cols), row, col)
