"""Layers of every task for the tests of layers and pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scored_examples import ABOUT, GRID, fields

from roadrisk.learning.judging.predicted import Predicted, observed_field, predicted_fields, risk_meaning
from roadrisk.learning.tasks import Task
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GridTiles
from roadrisk.maps.scored import scored_tiles

COUNT = Task("count", "negative-binomial", (), "vkm_day")
VALUE = Task("value", "mse", ())
THREE = Task("class", "cross-entropy", ("Low", "Fairly high", "high"))
ORIGIN = {
    "column": "crashes_label",
    "measure": "crashes_label",
    "threshold": None,
    "positive": None,
    "meaning": "Events counted in crashes_label, in proportion to vkm_day.",
    "unit": "events",
    "window": ["2024-01-01", "2025-01-01"],
}
SAID = {
    COUNT: {"expected": "Events of crashes_label that the model expects", "observed": "as it was observed"},
    VALUE: {"predicted": "The model's crashes_label", "observed": "as it was observed"},
    THREE: {
        "class": "The likeliest class of crashes_label",
        "probability_low": "probability of Low",
        "probability_fairly_high": "probability of Fairly high",
        "probability_high": "probability of high",
        "label": "What was observed",
    },
    Task(): {"label": "What was observed"},
}


def predicted_at(task: Task, n: int) -> tuple[Predicted, np.ndarray]:
    """What is said of N tiles, the third of them unknown, and what was observed, the second of them unknown."""
    chance = np.random.default_rng(0)
    outputs = chance.normal(size=(n, task.outputs)) * 2
    outputs[2] = np.nan
    observed = chance.integers(0, len(task.classes) or 9, n).astype(float)
    observed[1] = np.nan
    k = np.where(np.arange(n) % 2, 0.2, 3.0) if task.dispersed else None
    return Predicted(task, outputs, k, chance.normal(size=500)), observed


def scored_by(task: Task, known: bool = False) -> tuple[Layer, Predicted, np.ndarray]:
    """The layer of a model of this task, what the model says, and what was observed.

    Parameters
    ----------
    known : whether its dispersion is that of tiles which its models did not see.
    """
    rows, cols = GRID.every_tile()
    plain = fields(GRID.tile_ids(rows, cols))
    predicted, observed = predicted_at(task, len(rows))
    if known:
        predicted = replace(predicted, observed=observed)
    said = predicted_fields(predicted, ORIGIN)
    sides = [field for field in plain if field[0].name not in ("tile_id", "risk", "label")]
    carried = [plain[0], *said, observed_field(task, ORIGIN, observed), *sides]
    about = replace(ABOUT, risk_meaning=risk_meaning(task, ORIGIN))
    return scored_tiles(carried, GridTiles(GRID, rows, cols), about, predicted.order), predicted, observed
