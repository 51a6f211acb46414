"""A made-up place whose risk persists from year to year: some of it the streets tell, some only the past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely

from roadrisk.dataset import Dataset
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.region import Region
from roadrisk.source_settings import EventSource, LineSource
from roadrisk.tiling import tile

CRS, CELL_M = "EPSG:26919", 500
WEST, SOUTH, SIDE = -71.2, 42.3, 0.13
MODES, SEVERITIES = ("car", "Bicycle", ""), ("O", "C", "B", "A", "K")


def place(
    folder: Path,
    years: Sequence[int] = tuple(range(2018, 2025)),
    mean: float = 2.0,
    hidden: float = 1.0,
    seed: int = 0,
    west: float = WEST,
    **source: Any,
) -> Region:
    """A region with streets and crashes, on disk.

    Parameters
    ----------
    mean : crashes of a tile and year.
    hidden : variance of what multiplies a tile's rate in every year and no fact tells.
    source : settings of the crashes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    box = (west, SOUTH, west + SIDE, SOUTH + SIDE * 0.74)
    grid = grid_of_cell(LngLatBbox(*box), CELL_M, CRS)
    chance = np.random.default_rng(seed)
    rows, cols = grid.every_tile()
    x, y = grid.centres(rows, cols)
    share = chance.uniform(0.05, 0.95, grid.size)
    half = share * CELL_M / 2
    lines = shapely.linestrings(np.stack([np.stack([x - half, y], 1), np.stack([x + half, y], 1)], axis=1))
    table = {"highway": chance.choice(["primary", "residential"], grid.size), "id": np.arange(grid.size)}
    geopandas.GeoDataFrame(table, geometry=lines, crs=CRS).to_file(folder / "roads.gpkg")
    rate = mean * 2 * share * chance.gamma(1 / hidden, hidden, grid.size) if hidden else mean * 2 * share
    crashes(folder / "crashes.csv", x, y, rate, years, chance)
    settings: dict[str, Any] = {"x": "x", "y": "y", "crs": CRS, "date": "date", **source}
    return Region(
        name="a place",
        bbox=box,
        cell=CELL_M,
        crs=CRS,
        roads=(LineSource(str(folder / "roads.gpkg"), class_column="highway"),),
        crashes=(EventSource(str(folder / "crashes.csv"), **settings),),
    )


def crashes(path: Path, x: Any, y: Any, rate: Any, years: Sequence[int], chance: np.random.Generator) -> None:
    """Crashes of each year, those of a tile at its rate."""
    tables = []
    for year in years:
        at = np.repeat(np.arange(len(rate)), chance.poisson(rate))
        days = np.datetime64(f"{year}-01-01") + chance.integers(0, 365, len(at))
        days[:2] = np.datetime64(f"{year}-01-01"), np.datetime64(f"{year}-12-31")
        scatter = chance.uniform(-0.45, 0.45, (2, len(at))) * CELL_M
        table = {"x": x[at] + scatter[0], "y": y[at] + scatter[1], "date": np.datetime_as_string(days)}
        tables.append(pd.DataFrame(table))
    every = pd.concat(tables, ignore_index=True)
    every["severity"] = chance.choice(SEVERITIES, len(every), p=[0.6, 0.2, 0.14, 0.05, 0.01])
    every["mode"] = chance.choice(MODES, len(every), p=[0.8, 0.15, 0.05])
    every.to_csv(path, index=False)


def tiled(region: Region, out: Path, **changes: Any) -> Dataset:
    """The dataset of a region that is changed so."""
    return tile(replace(region, **changes), out, workers=1).dataset
