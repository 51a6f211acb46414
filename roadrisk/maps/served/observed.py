"""What was observed in the tiles of a region, as a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.maps.bands import RISK_LEGEND, ranked
from roadrisk.maps.layer import About, Layer
from roadrisk.maps.places import Places
from roadrisk.maps.scored import STANDING_COLUMNS, TILE_ID

OBSERVED_LEGEND = replace(RISK_LEGEND, title="Observed", absent="not observed")
MEANINGS = (
    "Place among the tiles by what was observed; 1 has the most, ties share it.",
    "Tiles where this much or less was observed; 100 is the most.",
    "Slice of the tiles in order of what was observed.",
)


def observed_tiles(
    frame: pd.DataFrame, columns: Sequence[Column], measure: str | None, places: Places, about: About
) -> Layer:
    """Tiles ranked by a column of theirs; those that are not `eligible` have no rank and no class.

    Parameters
    ----------
    frame : N rows with `tile_id`, `eligible` and `columns`.
    measure : the column, of numbers or of truth; without one no tile has a rank.
    """
    known = np.full(len(frame), np.nan)
    if measure is not None:
        known = frame[measure].to_numpy(dtype=np.float64, na_value=np.nan)
    standing = ranked(np.where(frame["eligible"].to_numpy(dtype=bool), known, np.nan))
    stood = [replace(column, meaning=said) for column, said in zip(STANDING_COLUMNS, MEANINGS, strict=True)]
    first = [column for column in columns if column.name == measure]
    facts = [column for column in columns if column.name != measure]
    made = {"rank": standing.rank, "percentile": pd.Series(standing.percentile), "band": standing.band}
    ordered = (TILE_ID, *first, *stood, *(column for column in facts if column.name not in made))
    table = {column.name: made.get(column.name, frame.get(column.name)) for column in ordered}
    count = int(standing.rank.notna().sum())
    return Layer(pd.DataFrame(table), ordered, places, about, "observed", OBSERVED_LEGEND, ranked=count)
