"""Events in each tile: counted by window, weight and kind, smoothed, and how far the nearest is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.spatial import cKDTree

from roadrisk.columns import Column, Fact, word
from roadrisk.errors import SourceError
from roadrisk.features.counting import count_events
from roadrisk.features.windows import Window, Windows, in_window, told_window
from roadrisk.geometry.ground import ground_distances
from roadrisk.grid import FloatArray, Grid
from roadrisk.source_settings import EventSource
from roadrisk.sources.events import Events, is_kind

ENFORCEMENT = "a measure of enforcement as well as of behaviour"
CRASHES = "made from crashes, which answers another question: the same place next period"
UNDATED = "count"  # what a column of events without dates ends in

_REACH = 4.0  # bandwidths; a Gaussian has 6e-5 of its mass beyond


@dataclass(frozen=True)
class _Tally:
    """What one column counts: all events of a window, or those of a kind, each 1 or its weight."""

    column: Column
    window: Window | None
    weighted: bool = False
    kind: tuple[str, str] | None = None


def event_columns(
    events: Events,
    grid: Grid,
    windows: Windows,
    source: EventSource,
    covered: NDArray[np.bool_] | None = None,
    withheld: str = "",
) -> list[Fact]:
    """A count for each window, weighted and by kind where asked; kernels and distances of what is past.

    Parameters
    ----------
    covered : (rows, cols) bool, the tiles that the source knows; a kernel's mass beyond them is made up for.
    withheld : why models leave these facts out unless asked.

    Returns
    -------
    Columns, each with its (rows * cols,) values in (row, col) order. Events without dates are one count.
    """
    tallies = _tallies(events, windows)
    counts = _tallied(events, grid, tallies)
    columns = list(zip((tally.column for tally in tallies), counts, strict=True))
    past = next((t for t in tallies if t.column.role == "feature"), None)
    if past is not None:
        known = np.ones(grid.shape, dtype=bool) if covered is None else covered
        counted = counts[tallies.index(past)].reshape(grid.shape)
        for bandwidth_m in source.kernels_m:
            values = smoothed(grid, counted, bandwidth_m, known)
            columns.append((_kernel_column(past.column, bandwidth_m), values.ravel()))
        if source.nearest:
            columns.append((_nearest_column(past.column), _nearest_m(events, grid, past.window)))
    return [
        (replace(column, withheld=withheld if column.role == "feature" else ""), values)
        for column, values in columns
    ]


def told_windows(events: Events, windows: Windows) -> dict[str, Window | None]:
    """End of a column's name -> the part of its window that the source tells of.

    A window that it tells nothing of is left out: no column is not the same as no events.
    """
    if events.first is None or events.last is None:
        return {UNDATED: None}
    told = {s: told_window(w, events.first, events.last) for s, w in windows.by_suffix.items()}
    return {suffix: window for suffix, window in told.items() if window is not None}


def smoothed(grid: Grid, counts: FloatArray, bandwidth_m: float, covered: NDArray[np.bool_]) -> FloatArray:
    """(rows, cols) events per km2, each spread by a Gaussian over the tiles around its own.

    The mass that falls on tiles that are not covered is made up for, so that a border is not an edge of
    risk.

    Parameters
    ----------
    counts : (rows, cols).
    bandwidth_m : standard deviation, in ground metres.
    covered : (rows, cols) bool; the result is NaN elsewhere.

    Raises
    ------
    SourceError : a bandwidth less than half a tile, which would smooth nothing, or wider than the grid.
    """
    sigma = bandwidth_m / grid.cell_m
    if bandwidth_m > grid.cell_m * max(grid.shape):
        raise SourceError(f"kernels_m {bandwidth_m:g} is wider than the grid; give a smaller one")
    if sigma < 0.5:
        raise SourceError(
            f"kernels_m {bandwidth_m:g} is less than half a tile of {grid.cell_m:.4g} m and would smooth "
            "nothing; give a larger one or smaller tiles"
        )
    edges = (np.arange(math.ceil(_REACH * sigma) + 1) + 0.5) / (sigma * math.sqrt(2))
    beyond = np.array([0.5 * math.erfc(edge) for edge in edges])
    half = np.concatenate([[1 - 2 * beyond[0]], beyond[:-1] - beyond[1:]])
    kernel = np.concatenate([half[:0:-1], half])

    def spread(values: NDArray[Any]) -> FloatArray:
        once = correlate1d(values.astype(np.float64), kernel, axis=0, mode="constant")
        return np.asarray(correlate1d(once, kernel, axis=1, mode="constant"))

    rows, cols = grid.every_tile()
    area_km2 = grid.area_km2(rows, cols).reshape(grid.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        density = spread(np.where(covered, counts, 0.0)) / spread(covered) / area_km2
    return np.where(covered, density, np.nan)


def _tallies(events: Events, windows: Windows) -> list[_Tally]:
    tallies = []
    for suffix, window in told_windows(events, windows).items():
        role = "label" if suffix == "label" else "feature"
        said = window or events.period
        dates = (said[0].isoformat(), said[1].isoformat()) if said else None
        when = f" from {dates[0]} to before {dates[1]}" if dates else ""
        unit, noun = ("events", "Events") if events.first is not None else ("points", "Points")
        name = f"{events.name}_{suffix}"

        def column(end: str, unit: str, what: str) -> Column:
            return Column(
                name=name + end,  # noqa: B023
                dtype="float64",
                unit=unit,
                role=role,  # type: ignore[arg-type]  # noqa: B023
                combine="sum",
                meaning=f"{what} of {events.name} in the tile{when}.",  # noqa: B023
                source=events.name,
                window=dates,  # noqa: B023
            )

        tallies.append(_Tally(column("", unit, noun), window))
        if events.weights is not None:
            made = column("_weighted", f"weighted {unit}", f"{noun}, weighted by severity,")
            tallies.append(_Tally(made, window, weighted=True))
        for by, kinds in events.kinds.items():
            for kind in kinds:
                what = f"{noun} with {by} {kind}" if kind else f"{noun} with {by}"
                made = column(f"_{word(by)}" + (f"_{kind}" if kind else ""), unit, what)
                tallies.append(_Tally(made, window, kind=(f"by_{by}", kind)))
    return tallies


def _tallied(events: Events, grid: Grid, tallies: list[_Tally]) -> list[FloatArray]:
    """(rows * cols,) sums of each tally, from one pass over the events."""
    sums = [np.zeros(grid.shape) for _ in tallies]
    for batch in events.batches():
        x, y, weights = (batch[name].to_numpy() for name in ("x", "y", "weight"))
        every = np.ones(len(batch), dtype=bool)
        inside = {w: every if w is None else in_window(batch["time"], w) for w in {t.window for t in tallies}}
        for tally, total in zip(tallies, sums, strict=True):
            chosen = inside[tally.window]
            if tally.kind is not None:
                chosen = chosen & is_kind(batch[tally.kind[0]], tally.kind[1])
            weight = weights[chosen] if tally.weighted else None
            total += count_events(grid, x[chosen], y[chosen], weight)
    return [total.ravel() for total in sums]


def _nearest_m(events: Events, grid: Grid, window: Window | None) -> FloatArray:
    """(rows * cols,) ground metres from the centre of each tile to the nearest event; NaN without any."""
    places = []
    for batch in events.batches():
        chosen = batch if window is None else batch[in_window(batch["time"], window)]
        places.append(np.unique(chosen[["x", "y"]].to_numpy(), axis=0))
    points = np.unique(np.concatenate(places), axis=0) if places else np.empty((0, 2))
    if not len(points):
        return np.full(grid.size, np.nan)
    centres = np.column_stack(grid.centres(*grid.every_tile()))
    _, nearest = cKDTree(points).query(centres)
    return ground_distances(grid.crs, centres, points[nearest])


def _kernel_column(past: Column, bandwidth_m: float) -> Column:
    return replace(
        past,
        name=f"{past.name}_kernel_{bandwidth_m:g}m".replace(".", "_"),
        unit=f"{past.unit}/km2",
        combine="none",
        meaning=f"{past.meaning.removesuffix('.')}, smoothed by a Gaussian of {bandwidth_m:g} m.",
    )


def _nearest_column(past: Column) -> Column:
    return replace(
        past,
        name=f"{past.name}_nearest_m",
        unit="m",
        combine="min",
        meaning=f"Ground metres from the tile's centre to the nearest of {past.source}, same dates.",
    )
