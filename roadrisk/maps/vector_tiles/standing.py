"""Which of a layer's features matter most: their places in line, and their classes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from roadrisk.errors import LayerError
from roadrisk.grid import IntArray
from roadrisk.maps.layer import Layer

ABSENT = -1
RANK = "rank"


def class_index(layer: Layer) -> NDArray[np.int16]:
    """(N,) place of each feature's class among the legend's shades; -1 without a class.

    Raises
    ------
    LayerError : a class that the legend lacks.
    """
    named = pa.array(layer.table[layer.legend.field], from_pandas=True).cast(pa.string())
    index = pa.compute.index_in(named, pa.array(layer.legend.values, pa.string()))
    foreign = pa.compute.and_(named.is_valid(), index.is_null())
    if pa.compute.any(foreign).as_py():
        value = named.filter(foreign)[0].as_py()
        raise LayerError(
            f"{layer.legend.field} holds {value!r}, which the legend lacks; "
            f"use {', '.join(layer.legend.values)}"
        )
    return np.asarray(index.fill_null(ABSENT).to_numpy(zero_copy_only=False), dtype=np.int16)


def standing(layer: Layer, classes: NDArray[np.int16]) -> IntArray:
    """(N,) numbers that put the features in line, the lowest matters most; modulo N they are the rows.

    By `rank` where the layer has it, then by class, then by row; without a rank or class a feature is last.
    """
    n, shades = len(layer), len(layer.legend.shades)
    rank = np.ones(n, dtype=np.int64)
    if RANK in layer.table:
        given = layer.table[RANK].to_numpy(dtype=np.float64, na_value=np.nan)
        rank = np.clip(np.nan_to_num(given, nan=n + 1), 0, n + 1).astype(np.int64)
    of_class = np.where(classes == ABSENT, shades, classes)
    return (rank * (shades + 1) + of_class) * n + np.arange(n)
