"""Lanes, speed limits and one-way marks as people write them: numbers, texts, units, lists."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.grid import FloatArray
from roadrisk.sources.tables import as_text

LANES = ("lanes", "numlanes", "numberoflanes", "nooflanes", "lanecount", "throughlanes", "thrulanes")
SPEED = ("maxspeed", "speedlimit", "postedspeed", "postedspeedlimit", "speedlim", "speed")
ONEWAY = ("oneway", "isoneway", "onewaystreet")

_MOST_LANES = 30.0
_HIGHEST_KMH = 250.0  # 999 and the like say that nobody knows
_KMH = {"mph": 1.609344, "km/h": 1.0, "kmh": 1.0, "kph": 1.0, "knots": 1.852}
_NUMBER = re.compile(r"(\d{1,4}(?:\.\d+)?) ?([a-z/]*)")
_WITH, _AGAINST, _BOTH = 1.0, -1.0, 0.0
_WAYS = {
    **dict.fromkeys(("yes", "true", "1", "1.0", "y", "ft", "forward"), _WITH),
    **dict.fromkeys(("-1", "-1.0", "reverse", "tf", "backward"), _AGAINST),
    **dict.fromkeys(("no", "false", "0", "0.0", "n", "b", "both"), _BOTH),
}


def lanes_of(values: pd.Series) -> FloatArray:
    """(N,) lanes; NaN where nothing can be read, or nothing a road could have.

    A list is of a street joined from several, each with one of the values on an unknown share of its
    length: their mean keeps the mean of many streets right, which the highest would not.

    >>> lanes_of(pd.Series(["2", "['3', '2']", "1; 2", "0", "many", None])).tolist()
    [2.0, 2.5, 1.5, nan, nan, nan]
    """
    return _by_value(values, lambda text: _mean(text, {"": 1.0}, _MOST_LANES))


def speeds_kmh(values: pd.Series, unit: Literal["km/h", "mph"]) -> FloatArray:
    """(N,) km/h, the mean of a list as for lanes; NaN where nothing can be read.

    No number is made of words: `signals` and `RO:urban` are another law in each country, `none` is none.

    Parameters
    ----------
    unit : of numbers without one.

    Examples
    --------
    >>> speeds_kmh(pd.Series(["25 mph", "['signals', '30 mph']", "50", "none"]), "km/h").round(1).tolist()
    [40.2, 48.3, 50.0, nan]
    """
    return _by_value(values, lambda text: _mean(text, {**_KMH, "": _KMH[unit]}, _HIGHEST_KMH))


def ways(values: pd.Series) -> FloatArray:
    """(N,) 1 where traffic runs one way along the line, -1 against it, 0 both ways; NaN where unknown.

    `F` and `T` are with and against the line in a column that also has `B`, as in extracts of
    OpenStreetMap; else they are false and true. A list counts where its words agree.

    >>> ways(pd.Series(["yes", "-1", "F", "[True, False]", None])).tolist()
    [1.0, -1.0, 0.0, nan, nan]
    >>> ways(pd.Series(["F", "T", "B"])).tolist()
    [1.0, -1.0, 0.0]
    """
    directed = bool((values.astype("string").str.strip().str.lower() == "b").any())
    known = {**_WAYS, "f": _WITH if directed else _BOTH, "t": _AGAINST if directed else _WITH}

    def way(text: str) -> float:
        said = {known.get(word) for word in _words(text)}
        only = said.pop() if len(said) == 1 else None
        return np.nan if only is None else only

    return _by_value(values, way)


def unreadable(values: pd.Series, read: FloatArray) -> tuple[int, str]:
    """How many values are given but could not be read, and the commonest of them for a message."""
    text = pd.Series(as_text(values))
    lost = text[text.notna().to_numpy() & np.isnan(read)].value_counts()
    # alike counts in the order of the words, so that no order of rows shows
    names = sorted(lost.index, key=lambda name: (-lost[name], name))[:3]
    shown = ["".join(c for c in name[:40] if c.isprintable()) for name in names]
    return int(lost.sum()), ", ".join([*shown, *(["..."] if len(lost) > 3 else [])])


def _by_value(values: pd.Series, read: Callable[[str], float]) -> FloatArray:
    codes, unique = pd.factorize(as_text(values))
    numbers: NDArray[np.float64] = np.array([*map(read, unique), np.nan], dtype=np.float64)
    return numbers[codes]


def _mean(text: str, units: dict[str, float], highest: float) -> float:
    numbers = []
    for word in _words(text):
        match = _NUMBER.fullmatch(word)
        if match and match[2] in units:
            numbers.append(float(match[1]) * units[match[2]])
    sound = [number for number in numbers if 0 < number <= highest]
    return sum(sound) / len(sound) if sound else np.nan


def _words(text: str) -> list[str]:
    return [word for word in (part.strip(" '\"").lower() for part in re.split(r"[\[\](),;|]", text)) if word]
