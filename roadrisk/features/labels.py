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

EVENTS = "events"

_DIGITS = 12  # sums of weights differ in the last ones when rows come in another order


@dataclass(frozen=True)
class Threshold:
    """Where high risk begins.

    Parameters
    ----------
    t : a tile is high risk when its measure is at least this.
    share : of eligible tiles that are high risk.
    share_one_less, share_one_more : the share if t were one event lower or higher; none where the measure
        is not in events.
    unit : of the measure.

    Examples
    --------
    >>> print(Threshold(3.0, 0.21, 0.27, 0.16))
    high risk: 3 or more, 21.0 % of eligible tiles (one event less: 27.0 %, one more: 16.0 %)
    >>> print(Threshold(0.25, 0.2, None, None, "events per vehicle-km"))
    high risk: 0.25 events per vehicle-km or more, 20.0 % of eligible tiles
    """

    t: float
    share: float
    share_one_less: float | None
    share_one_more: float | None
    unit: str = EVENTS

    def __str__(self) -> str:
        share = f"{100 * self.share:.1f} % of eligible tiles"
        if self.share_one_less is None or self.share_one_more is None:
            return f"high risk: {' '.join(filter(None, (f'{self.t:g}', self.unit)))} or more, {share}"
        less, more = (f"{100 * s:.1f} %" for s in (self.share_one_less, self.share_one_more))
        return f"high risk: {self.t:g} or more, {share} (one event less: {less}, one more: {more})"

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values; `Threshold(**fields)` gives the threshold back."""
        return asdict(self)


def eligible_tiles(
    road_m: Sequence[FloatArray], size: int, covered: Sequence[NDArray[np.bool_]] = ()
) -> NDArray[np.bool_]:
    """(size,) bool, the tiles a model is trained and judged on.

    They have road in some source and lie where every source of the label knows something.

    Parameters
    ----------
    road_m : (size,) metres from each source of roads, NaN where it knows nothing; without any source road
        is asked of no tile.
    covered : (size,) whether each source of the label knows something.

    Examples
    --------
    >>> road_m = [np.array([0.0, 5.0, np.nan, 2.0]), np.array([0.0, np.nan, 1.0, 0.0])]
    >>> eligible_tiles(road_m, 4, [np.array([True, True, True, False])]).tolist()
    [False, True, True, False]
    """
    eligible = np.all([np.ones(size, dtype=bool), *covered], axis=0)
    if road_m:
        eligible &= np.any([metres > 0 for metres in road_m], axis=0)
    return np.asarray(eligible)


def rate_measure(events: FloatArray, exposure: FloatArray) -> tuple[FloatArray, int]:
    """Events per exposure, and the number of tiles that have events but no exposure to put them on.

    Parameters
    ----------
    events : (N,) of each tile, weighted or not; NaN where unknown.
    exposure : (N,) such as vehicle-km; NaN where unknown.

    Returns
    -------
    (N,) rates, NaN (so no label) without exposure, and the number of tiles that lose their events by it.

    Raises
    ------
    SourceError : an exposure is negative.

    Examples
    --------
    >>> rates, left_out = rate_measure(np.array([4.0, 0, 1, 2]), np.array([8.0, 5, 0, np.nan]))
    >>> rates.tolist(), left_out
    ([0.5, 0.0, nan, nan], 2)
    """
    events, exposure = np.asarray(events, dtype=np.float64), np.asarray(exposure, dtype=np.float64)
    negative = exposure < 0
    if negative.any():
        raise SourceError(
            f"{int(negative.sum()):,} tiles have a negative exposure, such as {exposure[negative].min():g}; "
            "mend the source of the column named with `per`"
        )
    exposed = exposure > 0
    rates = np.full(len(events), np.nan)
    np.divide(events, exposure, out=rates, where=exposed)
    return rates, int(((events > 0) & ~exposed).sum())


def top_fifth_threshold(
    measure: FloatArray, eligible: NDArray[np.bool_], share: float = 0.2, unit: str = EVENTS
) -> Threshold:
    """The threshold whose share of eligible tiles is nearest `share`, never at zero events, ties kept whole.

    Measures that agree to 12 digits are tied.

    Parameters
    ----------
    measure : (N,) events of each tile, weighted events or events per exposure; a tile where it is NaN is
        not eligible.
    eligible : (N,) bool.
    share : wanted; of two thresholds equally near, the higher stands.
    unit : of the measure; what one event more or less would do is said of `events` alone.

    Raises
    ------
    SourceError : no threshold makes two classes.

    Examples
    --------
    >>> top_fifth_threshold(np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 5.0]), np.ones(10, dtype=bool))
    Threshold(t=2.0, share=0.2, share_one_less=0.5, share_one_more=0.1, unit='events')
    """
    values = rounded(measure)[eligible]
    ordered = np.sort(values[~np.isnan(values)])
    if not len(ordered):
        raise SourceError("no tile is eligible for a label; check that roads and the grid overlap")

    def share_from(t: Any) -> Any:
        return (len(ordered) - np.searchsorted(ordered, t, side="left")) / len(ordered)

    candidates = np.unique(ordered[ordered > 0])[::-1]
    shares = share_from(candidates)
    two_classes = shares < 1.0
    if not two_classes.any():
        what = f"all have {ordered[0]:g}" if len(candidates) else "none has an event"
        raise SourceError(
            f"labels of one class only: of {len(ordered):,} eligible tiles {what}; "
            "give a longer --label-window, a larger box or smaller tiles"
        )
    candidates, shares = candidates[two_classes], shares[two_classes]
    # rounded, so that 0.3 and 0.1 are equally near 0.2
    best = int(np.argmin(np.round(np.abs(shares - share), 12)))
    t = float(candidates[best])
    less, more = (float(share_from(t + step)) if unit == EVENTS else None for step in (-1, 1))
    return Threshold(t, float(shares[best]), less, more, unit)


def class_label(measure: FloatArray, eligible: NDArray[np.bool_], threshold: Threshold) -> pd.Series:
    """(N,) nullable booleans: whether a tile is high risk, null where it is not eligible or has no measure.

    Raises
    ------
    SourceError : the eligible tiles are of one class only.

    Examples
    --------
    >>> threshold = Threshold(2.0, 0.5, 0.5, 0.5)
    >>> class_label(np.array([0, 3.0, 9.0]), np.array([True, True, False]), threshold).tolist()
    [False, True, <NA>]
    """
    values = rounded(measure)
    eligible = eligible & ~np.isnan(values)
    high = values >= threshold.t
    classes = np.unique(high[eligible])
    if len(classes) < 2:
        which = "high" if len(classes) and classes[0] else "low"
        raise SourceError(
            f"labels of one class only: all {int(np.sum(eligible)):,} eligible tiles are {which} risk at a "
            f"threshold of {threshold.t:g}; give another --label-window or a larger box"
        )
    return pd.Series(pd.array(high, dtype="boolean")).mask(~eligible)


def rounded(measure: FloatArray) -> FloatArray:
    """To 12 significant digits.

    >>> rounded(np.array([0.1 + 0.2, 3.0, 0.0, np.nan])).tolist()
    [0.3, 3.0, 0.0, nan]
    """
    values = np.asarray(measure, dtype=np.float64)
    whole = values == np.round(values)
    with np.errstate(divide="ignore"):
        digits = np.where(whole, 0, _DIGITS - 1 - np.floor(np.log10(np.abs(values))))
    scale = 10.0 ** np.nan_to_num(digits).clip(-300, 300)
    return np.where(whole, values, np.round(values * scale) / scale)
