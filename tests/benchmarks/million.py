"""A layer as large as a benchmark asks for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.grid import FloatArray, Grid
from roadrisk.maps.layer import About, Layer
from roadrisk.maps.places import GridTiles
from roadrisk.maps.scored import HAS_FACTS, HAS_IMAGE, IN_TRAINING, TILE_ID, scored_tiles

ABOUT = About(
    title="A made-up region",
    risk_meaning="Chance of a crash within the window.",
    label_meaning="Crashes within the window.",
    licence="CC0 1.0",
    attribution="nobody",
    model="0123456789abcdef",
    windows={"label": ("2024-01-01", "2025-01-01")},
)
NUMBERS = {
    "risk_low": "",
    "risk_high": "",
    "observed": "events",
    "expected": "events",
    "excess": "events",
    "road_m": "m",
    "people": "people",
}


def million(side: int = 1000) -> Layer:
    """`side` x `side` tiles of 250 m with the fields of a score by a count model; the same every time.

    Risk falls with the distance to a few middles; every hundredth tile is not scored.
    """
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 250.0, 1200, -18_900, side, side)
    rows, cols = grid.every_tile()
    chance = np.random.default_rng(0)
    risk = risk_of(rows / side, cols / side, chance)
    fields = {
        TILE_ID: pd.Series(grid.tile_ids(rows, cols), dtype="str"),
        Column("risk", "float64", "", "info", "none", "Chance of a crash, from 0 to 1."): risk,
        HAS_IMAGE: pd.Series(chance.random(grid.size) < 0.9),
        HAS_FACTS: pd.Series(np.ones(grid.size, dtype=bool)),
        IN_TRAINING: pd.Series(chance.random(grid.size) < 0.7),
        **{
            Column(name, "float64", unit, "info", "none", f"Made-up {name}."): risk
            * chance.gamma(2, 10, grid.size)
            for name, unit in NUMBERS.items()
        },
    }
    return scored_tiles(list(fields.items()), GridTiles(grid, rows, cols), ABOUT)


def risk_of(down: FloatArray, right: FloatArray, chance: np.random.Generator) -> pd.Series:
    """(N,) risks of places in the unit square, NaN at every hundredth."""
    middles = chance.random((5, 2))
    away = np.min([np.hypot(down - y, right - x) for y, x in middles], axis=0)
    risk = np.exp(-8 * away) * chance.beta(8, 2, len(away))
    risk[::100] = np.nan
    return pd.Series(risk)
