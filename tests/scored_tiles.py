"""Scored tiles to write, for the tests of layers and of the page."""

from __future__ import annotations

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.grid import Grid, LngLatBbox, grid_of_cell
from roadrisk.maps.page import Overview
from roadrisk.maps.scored import About, GridTiles, Places, Scored, scored_tiles

HOSTILE = "</script><img src=x onerror=alert(1)>"
BOX = LngLatBbox(-71.12, 42.34, -71.08, 42.36)
ROAD_M = Column("road_m", "float64", "m", "feature", "sum", f"Road in the tile. {HOSTILE}")
ABOUT = About(
    title=f"Boston {HOSTILE}",
    risk_meaning="Probability of high risk.",
    label_meaning=f"3 crashes or more {HOSTILE}",
    licence="ODbL 1.0",
    attribution="© OpenStreetMap contributors",
    model="0123456789abcdef",
    windows={"label": ("2024-01-01", "2025-01-01")},
)


def made_up_scores(grid: Grid | None = None, places: Places | None = None, seed: int = 0) -> Scored:
    """A score for every tile of a small grid but the first, which is not scored; hostile names."""
    grid = grid or grid_of_cell(BOX, 250)
    rng = np.random.default_rng(seed)
    rows, cols = grid.every_tile()
    count = grid.size
    risk = rng.random(count)
    risk[0] = np.nan
    label = pd.Series(rng.random(count) < 0.2, dtype="boolean")
    label[1] = pd.NA
    scores = pd.DataFrame(
        {
            "tile_id": grid.tile_ids(rows, cols),
            "risk": risk,
            "has_image": rng.random(count) < 0.5,
            "has_facts": True,
            "label": label,
            "in_training": rng.random(count) < 0.5,
        }
    )
    scores.loc[2, "tile_id"] = HOSTILE
    facts = pd.DataFrame({"road_m": np.round(rng.gamma(2, 300, count), 3)})
    return scored_tiles(scores, places or GridTiles(grid, rows, cols), ABOUT, facts, (ROAD_M,))


def made_up_overview(grid: Grid | None = None, side: int = 400) -> Overview:
    """A picture in four colours: red is north-west, green north-east, blue south-west, white south-east."""
    grid = grid or grid_of_cell(BOX, 250)
    pixels = np.zeros((3, side, side), np.uint8)
    half = side // 2
    pixels[0, :half, :half] = pixels[1, :half, half:] = pixels[2, half:, :half] = 255
    pixels[:, half:, half:] = 255
    return Overview(pixels, grid.bounds, grid.crs)
