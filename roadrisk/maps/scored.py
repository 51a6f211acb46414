"""Scored tiles: where they lie, what they carry and what their reader must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.grid import FloatArray
from roadrisk.maps.bands import ranked
from roadrisk.maps.layer import About, Layer
from roadrisk.maps.pictures import TilePictures
from roadrisk.maps.places import Places

TILE_ID = Column("tile_id", "object", "", "info", "none", "Name of the tile, the same for everybody.")
STANDING_COLUMNS = (
    Column(
        "rank", "int64", "", "info", "none", "Place among the scored tiles; 1 is the riskiest, ties share it."
    ),
    Column(
        "percentile",
        "float64",
        "%",
        "info",
        "none",
        "Scored tiles with this risk or less; 100 is the riskiest.",
    ),
    Column("band", "object", "", "info", "none", "Slice of the scored tiles in order of risk."),
)
HAS_IMAGE = Column("has_image", "bool", "", "info", "none", "Whether the score used a picture of the tile.")
HAS_FACTS = Column("has_facts", "bool", "", "info", "none", "Whether the score used facts about the tile.")
IN_TRAINING = Column(
    "in_training",
    "bool",
    "",
    "info",
    "none",
    "Whether models learned from the tile; its score comes from others.",
)
EVERY_LAYER_HAS = (TILE_ID.name, "risk", HAS_IMAGE.name, HAS_FACTS.name, IN_TRAINING.name)


def scored_tiles(
    fields: Sequence[tuple[Column, pd.Series[Any]]],
    places: Places | None,
    about: About,
    order: FloatArray | None = None,
    pictures: TilePictures | None = None,
) -> Layer:
    """What is known of scored tiles with their ranks and bands, ready to be written.

    Parameters
    ----------
    fields : what a layer carries, N values each, with its meaning. Among them are `tile_id`, `risk` (NaN
        where not scored), `has_image`, `has_facts` and `in_training`; rank, percentile and band follow risk.
    order : (N,) by which tiles are ranked, higher is riskier; the risk without it.
    pictures : of the tiles, by their `tile_id`.

    Raises
    ------
    LayerError : two fields have the same name, one of every layer's is missing, a value is infinite, or the
        numbers of rows differ.
    """
    lengths = {len(values) for _, values in fields}
    if len(lengths) > 1:
        raise LayerError(
            f"scores and facts differ in rows, {sorted(lengths)}; give the same tiles in the same order"
        )
    known = {column.name: values.array for column, values in fields}
    missing = [name for name in EVERY_LAYER_HAS if name not in known]
    if missing:
        raise LayerError(f"scores lack {', '.join(missing)}; a layer has each of these fields")
    risk = known["risk"].to_numpy(dtype=np.float64, na_value=np.nan)
    standing = ranked(risk if order is None else np.where(np.isnan(risk), np.nan, order))
    made = zip(STANDING_COLUMNS, (standing.rank, pd.Series(standing.percentile), standing.band), strict=True)
    after_risk = 1 + [column.name for column, _ in fields].index("risk")
    every = [*fields[:after_risk], *made, *fields[after_risk:]]
    often = Counter(column.name for column, _ in every)
    taken = sorted(name for name, times in often.items() if times > 1)
    if taken:
        raise LayerError(f"facts are called {', '.join(taken)}, as fields of a score are; rename them")
    # of the same memory: a million tiles have no room for a second copy
    table = pd.DataFrame({column.name: values.array for column, values in every}, copy=False)
    endless = [
        str(name) for name in table.select_dtypes("number") if np.isinf(table[name].astype(float)).any()
    ]
    if endless:
        raise LayerError(f"{', '.join(endless)} holds infinite values, which no layer can; leave them empty")
    columns, count = tuple(column for column, _ in every), int(standing.rank.notna().sum())
    return Layer(table, columns, places, about, pictures=pictures, ranked=count)
