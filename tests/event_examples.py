"""Events made up for tests, stored as `read_events` stores them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import EventSource
from roadrisk.sources import events as reading
from roadrisk.sources.events import Events, weighted

GRID = grid_of_cell(LngLatBbox(-71.2, 42.3, -71.0, 42.4), 1000)


def read_events(source: EventSource, grid: Grid) -> Events:
    """The events, in a scratch folder that stands as long as the tests run."""
    return reading.read_events(replace(source, name=source.name or "crashes"), grid, Path(mkdtemp()))


def events_at(
    x: Any, y: Any, times: Any = "2023-05-05", columns: dict[str, Any] | None = None, **settings: Any
) -> Events:
    """Events at coordinates of GRID, read from a file with these columns under these settings."""
    at = np.broadcast_arrays(np.atleast_1d(x), np.atleast_1d(y))
    path = Path(mkdtemp()) / "events.parquet"
    pd.DataFrame({"x": at[0], "y": at[1], "when": times, **(columns or {})}).to_parquet(path)
    dates = {} if settings.get("undated") else {"date": "when"}
    source = EventSource(str(path), x="x", y="y", crs=GRID.crs, **dates, **settings)
    return weighted(read_events(source, GRID), source, None)


def dated(times: list[str]) -> Events:
    """Events of the tile (0, 0) at these times."""
    left, _, _, top = GRID.bounds
    return events_at([left + 500.0] * len(times), [top - 500.0] * len(times), times)
