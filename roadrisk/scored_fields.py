"""What a layer of scored tiles carries: what the model says, what was observed, and facts."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import pandas as pd

from roadrisk.columns import Column
from roadrisk.errors import UsageError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.inputs import Tiles
from roadrisk.learning.examples import Examples
from roadrisk.learning.judging.predicted import Field, Predicted, observed_field, predicted_fields
from roadrisk.learning.model import Model, Scores
from roadrisk.maps.scored import HAS_FACTS, HAS_IMAGE, IN_TRAINING, TILE_ID
from roadrisk.scorable import own_columns

EVERY_FACT, NO_FACT = "all", "none"


def score_fields(
    model: Model,
    tiles: Tiles,
    rows: IntArray,
    shown: Examples,
    said: Scores,
    predicted: Predicted,
    seen: FloatArray,
    facts: Sequence[Column],
) -> list[Field]:
    """All that a layer carries of `rows`, in its order.

    Parameters
    ----------
    shown : those rows as the model met them.
    seen : (rows,) what was observed.
    facts : columns of the tiles that were asked for.
    """
    task, origin = model.architecture.task, model.provenance["label"]
    told = dict.fromkeys([*_measure(model, tiles), *_taken(model, tiles), *facts])
    fields = [
        (TILE_ID, tiles.frame["tile_id"].iloc[rows]),
        *predicted_fields(predicted, origin),
        (HAS_IMAGE, pd.Series(shown.has_image)),
        *_has_views(shown),
        (HAS_FACTS, pd.Series(shown.has_facts)),
        observed_field(task, origin, seen),
        (IN_TRAINING, pd.Series(said.out_of_fold)),
    ]
    return fields + [(column, tiles.frame[column.name].iloc[rows]) for column in told]


def facts_asked(model: Model, tiles: Tiles, asked: Sequence[str] | None) -> tuple[Column, ...]:
    """Columns of the tiles that a layer carries besides its score.

    Parameters
    ----------
    asked : names of columns, `all` or `none`; without it those that the model learned from.

    Raises
    ------
    UsageError : a name that the tiles do not have.
    """
    if asked is None:
        return own_columns(model, tiles)
    if list(asked) == [NO_FACT]:
        return ()
    known = {column.name: column for column in tiles.columns}
    if list(asked) == [EVERY_FACT]:
        return tuple(known.values())
    for name in asked:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            meant = f"; is it {' or '.join(near)}?" if near else f"; they have {', '.join(known)}"
            raise UsageError(f"--facts {name}: {tiles.path} has no such column{meant}")
    return tuple(known[name] for name in dict.fromkeys(asked))


def _has_views(shown: Examples) -> list[Field]:
    """Which of several views the score used."""
    if len(shown.views) < 2:
        return []
    return [
        (
            Column(f"has_{name}", "bool", "", "info", "none", f"Whether the score used the picture {name}."),
            pd.Series(shown.picture[:, view] >= 0),
        )
        for view, name in enumerate(shown.views)
    ]


def _measure(model: Model, tiles: Tiles) -> tuple[Column, ...]:
    """The count behind the label, where these tiles know it."""
    name = model.provenance["label"]["measure"]
    return tuple(column for column in tiles.columns if column.name == name)


def _taken(model: Model, tiles: Tiles) -> tuple[Column, ...]:
    """When the pictures that the score looked at were taken, where these tiles know it."""
    views = [view.name for view in tiles.views] if model.pictures else []
    names = [f"taken_{end}_{view}" for view in views for end in ("first", "last")]
    return tuple(
        column for column in tiles.columns if column.name in names and tiles.frame[column.name].notna().any()
    )
