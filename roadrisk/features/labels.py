"""What is called high risk: the tiles at or above a threshold of a measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray


@dataclass(frozen=True)
class Threshold:
    """Where high risk begins.

    Parameters
    ----------
    t : a tile is high risk when its measure is at least this.
    share : of eligible tiles that are high risk.
    share_one_less, share_one_more : the share if t were one event lower or higher.

    Examples
    --------
    >>> print(Threshold(3.0, 0.21, 0.27, 0.16))
    high risk: 3 or more, 21.0 % of eligible tiles (one event less: 27.0 %, one more: 16.0 %)
    """

    t: float
    share: float
    share_one_less: float
    share_one_more: float

    def __str__(self) -> str:
        share, less, more = (
            f"{100 * s:.1f} %" for s in (self.share, self.share_one_less, self.share_one_more)
        )
        return (
            f"high risk: {self.t:g} or more, {share} of eligible tiles "
            f"(one event less: {less}, one more: {more})"
        )

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values; `Threshold(**fields)` gives the threshold back."""
        return asdict(self)


def eligible_tiles(road_m: Sequence[FloatArray], size: int) -> NDArray[np.bool_]:
    """(size,) bool, the tiles a model is trained and judged on: those with road in some source.

    Parameters
    ----------
    road_m : (size,) metres from each source of roads; without any source every tile is eligible.

    Examples
    --------
    >>> eligible_tiles([np.array([0.0, 5.0, 0.0]), np.array([0.0, 0.0, 1.0])], 3).tolist()
    [False, True, True]
    """
    if not road_m:
        return np.ones(size, dtype=bool)
    return np.asarray(np.any([metres > 0 for metres in road_m], axis=0))


def top_fifth_threshold(measure: FloatArray, eligible: NDArray[np.bool_], share: float = 0.2) -> Threshold:
    """The threshold whose share of eligible tiles is nearest `share`, never at zero events, ties kept whole.

    Parameters
    ----------
    measure : (N,) events of each tile.
    eligible : (N,) bool.
    share : wanted; of two thresholds equally near, the higher stands.

    Raises
    ------
    SourceError : no threshold makes two classes.

    Examples
    --------
    >>> top_fifth_threshold(np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 5.0]), np.ones(10, dtype=bool))
    Threshold(t=2.0, share=0.2, share_one_less=0.5, share_one_more=0.1)
    """
    values = np.asarray(measure, dtype=np.float64)[eligible]
    if not len(values):
        raise SourceError("no tile is eligible for a label; check that roads and the grid overlap")
    ordered = np.sort(values)

    def share_from(t: Any) -> Any:
        return (len(ordered) - np.searchsorted(ordered, t, side="left")) / len(ordered)

    candidates = np.unique(ordered[ordered > 0])[::-1]
    shares = share_from(candidates)
    two_classes = shares < 1.0
    if not two_classes.any():
        what = f"all have {ordered[0]:g}" if len(candidates) else "none has an event"
        raise SourceError(
            f"labels of one class only: of {len(values):,} eligible tiles {what}; "
            "give a longer --label-window, a larger box or smaller tiles"
        )
    candidates, shares = candidates[two_classes], shares[two_classes]
    # rounded, so that 0.3 and 0.1 are equally near 0.2
    best = int(np.argmin(np.round(np.abs(shares - share), 12)))
    t = float(candidates[best])
    return Threshold(t, float(shares[best]), float(share_from(t - 1)), float(share_from(t + 1)))


def class_label(measure: FloatArray, eligible: NDArray[np.bool_], threshold: Threshold) -> pd.Series:
    """(N,) nullable booleans: whether a tile is high risk, null where it is not eligible.

    Raises
    ------
    SourceError : the eligible tiles are of one class only.

    Examples
    --------
    >>> threshold = Threshold(2.0, 0.5, 0.5, 0.5)
    >>> class_label(np.array([0, 3.0, 9.0]), np.array([True, True, False]), threshold).tolist()
    [False, True, <NA>]
    """
    high = np.asarray(measure, dtype=np.float64) >= threshold.t
    classes = np.unique(high[eligible])
    if len(classes) < 2:
        which = "high" if len(classes) and classes[0] else "low"
        raise SourceError(
            f"labels of one class only: all {int(np.sum(eligible)):,} eligible tiles are {which} risk at a "
            f"threshold of {threshold.t:g}; give another --label-window or a larger box"
        )
    return pd.Series(pd.array(high, dtype="boolean")).mask(~eligible)
