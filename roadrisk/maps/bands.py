"""Ranks and the five bands of risk, after the bands of usRAP's risk maps.

The one place that says where bands end and what colour they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from roadrisk.maps.legend import Legend, Shade


@dataclass(frozen=True)
class Band:
    """A slice of the tiles in order of risk.

    Parameters
    ----------
    name : as layers carry it.
    upto_percent : the share of scored tiles, from the riskiest, at which the band ends.
    colour : `#rrggbb`.
    """

    name: str
    upto_percent: int
    colour: str


# lightness falls steadily from the lowest band to the top one, so the order holds in grey and for
# every kind of colour vision
BANDS = (
    Band("top 5 %", 5, "#7a0b2e"),
    Band("next 10 %", 15, "#d7301f"),
    Band("next 20 %", 35, "#f57f2c"),
    Band("next 25 %", 60, "#fdc863"),
    Band("lowest 40 %", 100, "#fff3b8"),
)
_NAMES = np.array([band.name for band in BANDS], dtype=object)
RISK_LEGEND = Legend("Risk", "band", tuple(Shade(band.name, band.colour) for band in BANDS))


@dataclass(frozen=True)
class Ranking:
    """Where each of N tiles stands among the scored ones; null where a tile is not scored.

    Parameters
    ----------
    rank : (N,) 1 is the riskiest; tiles with the same risk share the smallest rank.
    percentile : (N,) share of scored tiles with this risk or less [%]; 100 is the riskiest.
    band : (N,) name of a band; a tie is never split, it goes whole into the riskier band.
    """

    rank: pd.Series[Any]
    percentile: NDArray[np.float64]
    band: pd.Series[Any]


def ranked(risk: ArrayLike, sizes: NDArray[np.int64] | None = None) -> Ranking:
    """Ranks, percentiles and bands of (N,) risks, higher is riskier; NaN is not scored.

    Parameters
    ----------
    sizes : (N,) by which a feature counts for percentiles and bands, above 0; 1 without them. A feature is in
        the band in which its first part lies when all stand in order of risk.

    Examples
    --------
    >>> standing = ranked([0.1, 0.9, float("nan"), 0.9])
    >>> standing.rank.tolist(), standing.percentile.round(1).tolist()
    ([3, 1, <NA>, 1], [33.3, 100.0, nan, 100.0])
    >>> standing.band.tolist()
    ['lowest 40 %', 'top 5 %', nan, 'top 5 %']
    """
    values = np.asarray(risk, dtype=np.float64)
    scored = ~np.isnan(values)
    falling, place, alike = np.unique(-values[scored], return_inverse=True, return_counts=True)
    size = alike
    if sizes is not None:
        size = np.zeros(len(falling), dtype=np.int64)
        np.add.at(size, place, sizes[scored])
    rank = np.zeros(len(values), dtype=np.int64)
    rank[scored] = (np.cumsum(alike) - alike)[place] + 1
    # in whole numbers: a float would put the feature on a band's edge into either
    before, total = (np.cumsum(size) - size)[place], int(size.sum())
    percentile = np.full(len(values), np.nan)
    percentile[scored] = 100.0 * (total - before) / max(total, 1)
    edges = np.array([band.upto_percent for band in BANDS]) * total
    names = np.full(len(values), None, dtype=object)
    names[scored] = _NAMES[np.searchsorted(edges, before * 100, side="right")]
    return Ranking(
        rank=pd.Series(rank, dtype="Int64").where(pd.Series(scored)),
        percentile=percentile,
        band=pd.Series(names, dtype="str"),
    )
