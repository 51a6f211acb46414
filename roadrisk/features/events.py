"""Events in each tile, by window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.errors import SourceError, UsageError
from roadrisk.features.counting import count_events
from roadrisk.grid import FloatArray, Grid
from roadrisk.sources.events import Events

Window = tuple[date, date]

_SLACK = timedelta(days=7)  # small places have days without a crash, at New Year too


def in_window(times: pd.Series, window: Window) -> NDArray[np.bool_]:
    """(N,) bool, whether local times fall on days of [from, to).

    >>> times = pd.Series(np.array(["2024-12-31T23:59:59", "2025-01-01T00:00:00"], dtype="datetime64[s]"))
    >>> in_window(times, (date(2024, 1, 1), date(2025, 1, 1))).tolist()
    [True, False]
    """
    start, end = (np.datetime64(day, "s") for day in window)
    moments = times.to_numpy()
    return np.asarray((moments >= start) & (moments < end))


def default_windows(first: date, last: date) -> tuple[Window, Window]:
    """The label and the feature window of events dated `first` to `last`.

    The last full calendar year is the label, all before it features. A year is full when the dates
    reach its first and last weeks.

    Raises
    ------
    UsageError : fewer than two full years.

    Examples
    --------
    >>> label, feature = default_windows(date(2015, 1, 1), date(2024, 12, 30))
    >>> [day.isoformat() for day in (*label, *feature)]
    ['2024-01-01', '2025-01-01', '2015-01-01', '2024-01-01']
    """
    full = [
        year
        for year in range(first.year, last.year + 1)
        if first <= date(year, 1, 1) + _SLACK and last >= date(year, 12, 31) - _SLACK
    ]
    if len(full) < 2:
        raise UsageError(
            f"the events are dated {first} to {last}, fewer than two full calendar years, so there is no "
            "default window; give --label-window FROM TO, and --feature-window FROM TO for features"
        )
    label = date(full[-1], 1, 1)
    return (label, date(full[-1] + 1, 1, 1)), (min(first, date(full[0], 1, 1)), label)


def chosen_windows(
    label: Window | None, feature: Window | None, first: date, last: date
) -> tuple[Window, Window | None]:
    """The windows as given, else as `default_windows` has them; a label window alone stays alone.

    Raises
    ------
    UsageError : the feature window reaches into the label window, or there is no default.
    """
    if label is None:
        label, past = default_windows(first, last)
        feature = feature or past
    if feature is not None and feature[1] > label[0]:
        raise UsageError(
            f"--feature-window ends {feature[1]}, after --label-window starts ({label[0]}), so features "
            "would know the label; end it there or before"
        )
    return label, feature


def check_label_window(sources: Sequence[Events], label: Window) -> None:
    """Nothing, if some event of some source falls in the label window.

    Raises
    ------
    SourceError : none does.
    """
    if any(in_window(events.table["time"], label).any() for events in sources):
        return
    names = ", ".join(events.name for events in sources)
    first, last = min(e.first for e in sources), max(e.last for e in sources)
    raise SourceError(
        f"{names}: no event in the grid falls in the label window {label[0]} to {label[1]}; the "
        f"file is dated {first} to {last}: give another --label-window"
    )


def event_columns(
    events: Events, grid: Grid, label: Window, feature: Window | None
) -> list[tuple[Column, FloatArray]]:
    """`<name>_label` and, with a feature window, `<name>_past`, each with its (rows * cols,) counts."""
    columns = [_counted(events, grid, f"{events.name}_label", label, "label")]
    if feature is not None:
        columns.append(_counted(events, grid, f"{events.name}_past", feature, "feature"))
    return columns


def _counted(events: Events, grid: Grid, name: str, window: Window, role: str) -> tuple[Column, FloatArray]:
    chosen = events.table[in_window(events.table["time"], window)]
    start, end = (day.isoformat() for day in window)
    column = Column(
        name=name,
        dtype="float64",
        unit="events",
        role="label" if role == "label" else "feature",
        combine="sum",
        meaning=f"Events of {events.name} in the tile from {start} to before {end}.",
        source=events.name,
        window=(start, end),
    )
    sums = count_events(grid, *(chosen[name].to_numpy() for name in ("x", "y", "weight")))
    return column, sums.ravel()
