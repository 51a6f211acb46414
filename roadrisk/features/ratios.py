"""Ratios of what tiles hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray


def ratio(above: NDArray[Any], below: NDArray[Any]) -> FloatArray:
    """(N,) NaN over nothing.

    >>> ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    found = np.full(len(above), np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found
