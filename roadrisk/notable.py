"""Tiles worth a look: the riskiest, and those where much happened and little was said."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.gathering import Gathered
from roadrisk.grid import FloatArray, IntArray
from roadrisk.inputs import Tiles
from roadrisk.learning.judging.evaluation import Place
from roadrisk.learning.judging.measures import ranked_by
from roadrisk.learning.tasks import prediction

PLACES = 10


def notable_places(learned: Gathered, outputs: FloatArray, chances: FloatArray | None) -> tuple[Place, ...]:
    """The ten riskiest tiles, then the ten most underrated, each list the worst first.

    Underrated are, of counts and values, the tiles of the largest excess of what was observed; of classes the
    high-risk tiles of the lowest risk, and of two that are equal the one of more events.

    Parameters
    ----------
    outputs : (N, K) out of fold.
    chances : (N,) calibrated chance of the riskiest class; None of other tasks.
    """
    task, label = learned.label.task, learned.examples.label
    order = ranked_by(task, outputs)
    said = prediction(task, outputs) if chances is None else chances
    key = learned.examples.key
    riskiest = np.lexsort((key, -order))[:PLACES]
    if task.kind == "class":
        missed = np.flatnonzero(label == len(task.classes) - 1)
        underrated = missed[np.lexsort((key[missed], -learned.events[missed], order[missed]))][:PLACES]
    else:
        underrated = np.lexsort((key, said - label))[:PLACES]
    lists: tuple[tuple[Literal["riskiest", "underrated"], IntArray], ...] = (
        ("riskiest", riskiest),
        ("underrated", underrated),
    )
    observed = learned.events if task.kind == "class" else label
    return tuple(
        Place(
            name,
            str(key[row]),
            *_lonlat(learned.tiles, int(learned.known[row])),
            predicted=float(said[row]),
            observed=float(observed[row]),
            facts=_facts(learned, int(learned.known[row])),
        )
        for name, rows in lists
        for row in rows.tolist()
    )


def _lonlat(tiles: Tiles, row: int) -> tuple[float | None, float | None]:
    """Of the middle of a tile [deg]; None where it lies nowhere."""
    for metro in tiles.metros:
        if metro.identity == tiles.source[row]:
            return _lonlat(metro, int(np.flatnonzero(metro.keys == tiles.keys[row])[0]))
    if tiles.places is None:
        return None, None
    lon, lat = (float(of[0]) for of in tiles.places.taken(np.array([row])).centres())
    return (lon, lat) if math.isfinite(lon) else (None, None)


def _facts(learned: Gathered, row: int) -> tuple[tuple[str, str], ...]:
    """What is known of a tile, by the names of columns, with units."""
    held: list[tuple[Column, Any]] = [(c, learned.tiles.frame[c.name].iloc[row]) for c in learned.columns]
    return tuple((column.name, _told(value, column.unit)) for column, value in held if not pd.isna(value))


def _told(value: Any, unit: str) -> str:
    """A value with its unit.

    >>> _told(1234.5678, "m"), _told("paved", "")
    ('1,235 m', 'paved')
    """
    if isinstance(value, str):
        return value
    number = float(value)
    text = f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"
    return f"{text} {unit}".strip()
