"""Whether a model errs alike among rich and poor, and where minorities live."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.judging.intervals import interval

QUINTILES = 5
FLAGGED_SHARE = 0.2
CAVEAT = "crashes of some groups are reported less than those of others, which would look the same here"


@dataclass(frozen=True)
class Quintile:
    """A fifth of the tiles by one amount.

    Parameters
    ----------
    by : `income` or `minority share`.
    number : 1 is the lowest.
    low, high : least and most of the amount.
    n : tiles.
    observed, predicted : tiles of high risk, or events, in all; of values their sums.
    ratio : observed over predicted; None where nothing was predicted.
    ratio_low, ratio_high : ends of its 95 % interval by draws of blocks; None below 20 blocks.
    flagged : share of the tiles that are among the riskiest fifth of all judged.
    """

    by: str
    number: int
    low: float
    high: float
    n: int
    observed: float
    predicted: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    flagged: float

    def __str__(self) -> str:
        if self.ratio is None:
            ratio = "not known"
        else:
            sure = "" if self.ratio_low is None else f" ({self.ratio_low:.2f} to {self.ratio_high:.2f})"
            ratio = f"{self.ratio:.2f}{sure}"
        return (
            f"{self.by}, fifth {self.number} ({self.low:.4g} to {self.high:.4g}, {self.n:,} tiles): observed "
            f"/ predicted {ratio}, {100 * self.flagged:.1f} % flagged"
        )


def quintiles(
    by: str,
    amount: FloatArray,
    observed: FloatArray,
    predicted: FloatArray,
    block: IntArray | None,
    seed: int,
) -> tuple[Quintile, ...]:
    """What was observed against what was said, in each fifth of the tiles where an amount is known.

    Tiles with the same amount are in the same fifth. Flagged is the riskiest fifth of all judged tiles, ties
    in part.

    Parameters
    ----------
    amount : (N,) NaN where unknown.
    observed, predicted : (N,) of judged tiles: 1 or 0 and its calibrated chance, or counts and what was
        expected.
    block : (N,) number of each tile's block; None for no intervals.

    Examples
    --------
    >>> ten = np.arange(10.0)
    >>> found = quintiles("income", ten, np.ones(10), np.full(10, 0.5), None, 0)
    >>> [(one.n, one.ratio, round(one.flagged, 1)) for one in found][:2]
    [(2, 2.0, 0.2), (2, 2.0, 0.2)]
    """
    known = np.flatnonzero(np.isfinite(amount))
    if len(known) < QUINTILES:
        return ()
    order = np.sort(amount[known])
    starts = order[[len(order) * part // QUINTILES for part in range(1, QUINTILES)]]
    fifth = np.searchsorted(starts, amount[known], side="right")
    flagged = flagged_shares(predicted)
    found = []
    for number in range(QUINTILES):
        rows = known[fifth == number]
        if not len(rows):
            continue
        seen, said = float(np.sort(observed[rows]).sum()), float(np.sort(predicted[rows]).sum())
        sure = None
        if block is not None and said > 0:
            sure = interval(_ratio, observed[rows], predicted[rows], block[rows], seed)
        found.append(
            Quintile(
                by=by,
                number=number + 1,
                low=float(amount[rows].min()),
                high=float(amount[rows].max()),
                n=len(rows),
                observed=seen,
                predicted=said,
                ratio=seen / said if said > 0 else None,
                ratio_low=sure.low if sure else None,
                ratio_high=sure.high if sure else None,
                flagged=float(np.sort(flagged[rows]).mean()),
            )
        )
    return tuple(found)


def flagged_shares(predicted: FloatArray, share: float = FLAGGED_SHARE) -> FloatArray:
    """(N,) 1 for the riskiest tiles, a share of them in all; of tiles that tie across its end, each in part.

    >>> flagged_shares(np.array([0.9, 0.5, 0.5, 0.1, 0.1]), 0.4).tolist()
    [1.0, 0.5, 0.5, 0.0, 0.0]
    """
    _, group, tiles = np.unique(-predicted, return_inverse=True, return_counts=True)
    before = np.cumsum(tiles) - tiles
    return np.asarray(np.clip((share * len(predicted) - before) / tiles, 0.0, 1.0)[group.reshape(-1)])


def social_amounts(
    frame: pd.DataFrame, columns: Sequence[Column]
) -> tuple[dict[str, FloatArray], tuple[str, ...]]:
    """Income and share of minorities of each tile, as far as facts of areas tell, and lines on that.

    Income is a mean whose name says so; a minority is who is not counted as white, 1 - white / population of
    two sums of one source. Where nobody lives neither is known: an income of 0 is nobody's.

    Returns
    -------
    (N,) by name, NaN where unknown, and lines for people.
    """
    found: dict[str, FloatArray] = {}
    said = []
    means = [c.name for c in columns if c.combine == "mean" and "income" in c.name.lower()]
    if means:
        name = min(means, key=lambda one: (len(one), one))
        income = _numbers(frame, name)
        found["income"] = np.where(income > 0, income, np.nan)
        said.append(f"income is {name}")
    else:
        said.append("no facts of areas hold a mean income, so errors by income are not known")
    pair = _white_of_all([c for c in columns if c.combine == "sum"])
    if pair:
        white, population = (_numbers(frame, name) for name in pair)
        share = np.divide(white, population, out=np.full(len(frame), np.nan), where=population > 0)
        found["minority share"] = np.clip(1 - share, 0.0, 1.0)
        said.append(f"minority share is 1 - {pair[0]} / {pair[1]}")
    else:
        said.append(
            "no facts of areas hold sums of white people and of all, so errors by minority share are not "
            "known"
        )
    return found, tuple(said)


def _white_of_all(sums: Sequence[Column]) -> tuple[str, str] | None:
    """Names of two columns of one source."""
    for white in sorted(sums, key=lambda column: (len(column.name), column.name)):
        if re.search(r"(?<!non)(?<!non_)(?<!not_)white", white.name.lower()):
            all_of = [
                column.name
                for column in sums
                if column.source == white.source and re.search(r"population|_pop|total", column.name.lower())
            ]
            all_of = [name for name in all_of if "white" not in name.lower()]
            if all_of:
                return white.name, min(all_of, key=lambda one: (len(one), one))
    return None


def _ratio(observed: FloatArray, predicted: FloatArray, weights: FloatArray) -> FloatArray:
    """(S,) of weights (S, N)."""
    above, below = weights @ observed, weights @ predicted
    return np.asarray(np.divide(above, below, out=np.full(len(weights), np.nan), where=below > 0))


def _numbers(frame: pd.DataFrame, name: str) -> FloatArray:
    return np.asarray(frame[name].to_numpy(dtype=np.float64, na_value=np.nan))
