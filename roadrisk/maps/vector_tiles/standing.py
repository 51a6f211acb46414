"""Which of a layer's features matter most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import IntArray
from roadrisk.maps.layer import Layer

RANK = "rank"


def standing(layer: Layer, classes: NDArray[np.int16]) -> IntArray:
    """(N,) numbers that put the features in line, the lowest matters most; modulo N they are the rows.

    By `rank` where the layer has it, then by class, then by row; without a rank or class a feature is last.
    """
    n, shades = len(layer), len(layer.legend.shades)
    rank = np.ones(n, dtype=np.int64)
    if RANK in layer.table:
        given = layer.table[RANK].to_numpy(dtype=np.float64, na_value=np.nan)
        rank = np.clip(np.nan_to_num(given, nan=n + 1), 0, n + 1).astype(np.int64)
    of_class = np.where(classes < 0, shades, classes)
    return (rank * (shades + 1) + of_class) * n + np.arange(n)
