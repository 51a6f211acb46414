"""Scored tiles for the tests of layers and pages."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.maps.layer import About, Layer
from roadrisk.maps.pictures import Overview, TilePictures
from roadrisk.maps.places import GridTiles, Places
from roadrisk.maps.scored import (
    HAS_FACTS,
    HAS_IMAGE,
    IN_TRAINING,
    TILE_ID,
    scored_tiles,
)

HOSTILE = "</script><img src=x onerror=alert(1)>"
GRID = grid_of_cell(LngLatBbox(-71.15, 42.34, -71.10, 42.37), 500)

ABOUT = About(
    title="Boston & around",
    risk_meaning="Chance of being among the fifth with most crashes.",
    label_meaning="true with 6 crashes or more",
    licence="ODbL 1.0",
    attribution="© OpenStreetMap contributors",
    model="0123456789abcdef",
    windows={"label": ("2024-01-01", "2025-01-01")},
)

RISK = Column("risk", "float64", "", "info", "none", "Probability of high risk.")
LABEL = Column("label", "object", "", "label", "none", "What was observed; empty where unknown.")
SCORES = (TILE_ID, RISK, HAS_IMAGE, HAS_FACTS, LABEL, IN_TRAINING)

FACTS = (
    Column("road_m", "float64", "m", "feature", "sum", "length of roads"),
    Column("town", "object", "", "info", "mode", "name of the town"),
)


def score_columns(names: np.ndarray) -> pd.DataFrame:
    """Scores of N tiles; every seventh is not scored, every fifth has no label."""
    n = len(names)
    index = np.arange(n)
    return pd.DataFrame(
        {
            "tile_id": names,
            "risk": np.where(index % 7 == 3, np.nan, np.random.default_rng(1).random(n)),
            "has_image": index % 2 == 0,
            "has_facts": index % 3 > 0,
            "label": pd.array([None if i % 5 == 0 else bool(i % 2) for i in index], dtype="boolean"),
            "in_training": index % 4 == 0,
        }
    )


def facts(n: int) -> pd.DataFrame:
    """Facts of N tiles, one number and one text, both with gaps."""
    index = np.arange(n)
    return pd.DataFrame(
        {
            "road_m": np.where(index % 6 == 2, np.nan, index * 12.5 + 1 / 3),
            "town": [None if i % 8 == 1 else f'Town "{i}", {HOSTILE}\u2028é' for i in index],
        }
    )


def fields(names: np.ndarray) -> list[tuple[Column, pd.Series]]:
    """What a layer of N tiles carries, with its meaning."""
    scores, known = score_columns(names), facts(len(names))
    return [(c, scores[c.name]) for c in SCORES] + [(c, known[c.name]) for c in FACTS]


def scored_grid(grid: Grid = GRID, about: About = ABOUT, pictures: TilePictures | None = None) -> Layer:
    """Every tile of a grid."""
    rows, cols = grid.every_tile()
    return scored_at(GridTiles(grid, rows, cols), grid.tile_ids(rows, cols), about, pictures)


def scored_at(
    places: Places | None, names: np.ndarray, about: About = ABOUT, pictures: TilePictures | None = None
) -> Layer:
    """Tiles at given places."""
    return scored_tiles(fields(names), places, about, pictures=pictures)


def overview(grid: Grid = GRID, side_px: int = 20, noise: bool = False) -> Overview:
    """Red in the north-west quarter, clear in the south-east one, blue elsewhere; or noise."""
    height, width = grid.rows * side_px, grid.cols * side_px
    if noise:
        pixels = np.random.default_rng(2).integers(0, 256, (3, height, width), dtype=np.uint8)
        return Overview(pixels, grid.bounds, grid.crs)
    pixels = np.zeros((4, height, width), dtype=np.uint8)
    pixels[2:] = 255
    pixels[:, : height // 2, : width // 2] = np.array([255, 0, 0, 255])[:, None, None]
    pixels[:, height // 2 :, width // 2 :] = 0
    return Overview(pixels, grid.bounds, grid.crs)


class Pictured:
    """A picture of the region, and of every third tile its own: a number of red, the mask half of it."""

    views = ("aerial", "roads")

    def __init__(self, seen: Overview | None = None, side_px: int = 16) -> None:
        self.seen, self.side_px = overview() if seen is None else seen, side_px

    def overview(self) -> Overview:
        return self.seen

    def picture(self, tile_id: str, view: str) -> np.ndarray | None:
        number = zlib.crc32(tile_id.encode())
        if number % 3 == 0 or view not in self.views:
            return None
        pixels = np.zeros((4, self.side_px, self.side_px), np.uint8)
        pixels[0], pixels[3] = number % 251, 255
        if view == "roads":
            pixels[:3] = 0
            pixels[:3, : self.side_px // 2] = 255
        return pixels
