"""Windows of time: which are learned, which are facts, and that no fact knows the label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.errors import SourceError, UsageError
from roadrisk.sources.events import Events

Window = tuple[date, date]

SLACK = timedelta(days=7)  # small places have days without a crash, at New Year too


@dataclass(frozen=True)
class Windows:
    """Dates [from, to) of a region.

    Parameters
    ----------
    label : whose events are learned.
    feature : whose events are facts.
    named : further windows of facts.
    """

    label: Window | None = None
    feature: Window | None = None
    named: Mapping[str, Window] = field(default_factory=dict)

    @property
    def by_suffix(self) -> dict[str, Window]:
        """End of a column's name -> its window."""
        known = {"label": self.label, "past": self.feature, **self.named}
        return {suffix: window for suffix, window in known.items() if window is not None}

    def as_json(self) -> dict[str, list[str]]:
        """The windows that are known, as ISO dates."""
        known = {"label": self.label, "feature": self.feature, **self.named}
        return {name: [day.isoformat() for day in w] for name, w in known.items() if w is not None}


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
        if first <= date(year, 1, 1) + SLACK and last >= date(year, 12, 31) - SLACK
    ]
    if len(full) < 2:
        raise UsageError(
            f"the events are dated {first} to {last}, fewer than two full calendar years, so there is no "
            "default window; give --label-window FROM TO, and --feature-window FROM TO for features"
        )
    label = date(full[-1], 1, 1)
    return (label, date(full[-1] + 1, 1, 1)), (min(first, date(full[0], 1, 1)), label)


def chosen_windows(
    label: Window | None,
    feature: Window | None,
    named: Mapping[str, Window],
    crashes: Sequence[Events],
    others: Sequence[Events] = (),
) -> Windows:
    """The windows as given, else as `default_windows` has them; a label window alone stays alone.

    Without crashes nothing is learned from events, and all dates of the others are the feature window.

    Parameters
    ----------
    label, feature, named : as given.
    crashes, others : dated sources and those without dates, which decide nothing.

    Raises
    ------
    UsageError : the feature window reaches into the label window, or there is no default.
    """
    span = _span(crashes)
    if label is None and span is not None:
        label, past = default_windows(*span)
        feature = feature or past
    beside = _span(others)
    if label is None and feature is None and beside is not None:
        feature = (beside[0], beside[1] + timedelta(days=1))
    if label is not None and feature is not None and feature[1] > label[0]:
        raise UsageError(
            f"--feature-window ends {feature[1]}, after --label-window starts ({label[0]}), so features "
            "would know the label; end it there or before"
        )
    return Windows(label, feature, named)


def _span(sources: Sequence[Events]) -> Window | None:
    """First and last date of several sources, both included."""
    dates = [(e.first, e.last) for e in sources if e.first is not None and e.last is not None]
    return (min(d[0] for d in dates), max(d[1] for d in dates)) if dates else None


def told_window(window: Window, first: date, last: date) -> Window | None:
    """The part of a window that a source dated `first` to `last` tells of; None where it tells of none.

    >>> told_window((date(2015, 1, 1), date(2024, 1, 1)), date(2022, 3, 1), date(2024, 12, 30))
    (datetime.date(2022, 3, 1), datetime.date(2024, 1, 1))
    """
    start = window[0] if first <= window[0] + SLACK else first
    end = window[1] if last + timedelta(days=1) >= window[1] - SLACK else last + timedelta(days=1)
    return (start, end) if start < end else None


def check_label_window(sources: Sequence[Events], label: Window) -> None:
    """Nothing, if some event of some source falls in the label window.

    Raises
    ------
    SourceError : none does.
    """
    if any(in_window(batch["time"], label).any() for events in sources for batch in events.batches()):
        return
    names = ", ".join(events.name for events in sources)
    if all(events.first is None for events in sources):
        raise SourceError(
            f"{names}: crashes without dates fall in no label window; give dated ones, or labels made "
            "elsewhere with [label] path"
        )
    dates = [day for e in sources for day in (e.first, e.last) if day is not None]
    raise SourceError(
        f"{names}: no event in the grid falls in the label window {label[0]} to {label[1]}; the "
        f"file is dated {min(dates)} to {max(dates)}: give another --label-window"
    )


def check_leakage(columns: Iterable[Column], label: Window | None) -> None:
    """Nothing, if every feature tells of days before the label window.

    Raises
    ------
    UsageError : one does not; names it, its window and the fix.
    """
    if label is None:
        return
    for column in columns:
        if column.role == "feature" and column.window is not None and column.window[1] > label[0].isoformat():
            raise UsageError(
                f"{column.name} tells of {column.window[0]} to before {column.window[1]}, which reaches into "
                f"the label window ({label[0]} to before {label[1]}), so a model would know what it is to "
                f"learn; end its window on {label[0]} or before, or leave it out"
            )
