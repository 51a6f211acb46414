"""The second question's windows of time: one that models are fitted on, and the next, which judges them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from roadrisk.columns import Column
from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError
from roadrisk.features.windows import SLACK, Window, in_window, told_window
from roadrisk.labelling import RATE
from roadrisk.recounting import event_sources, kept_events
from roadrisk.sources.events import Events


@dataclass(frozen=True)
class Periods:
    """Dates [from, to).

    Parameters
    ----------
    source : of the events that are learned.
    fitted : as long as `judged`, and the days just before it.
    judged : the dataset's own label window.
    past_fitted : all dated days before `fitted`; None where they are fewer than one more such window.
    past_judged : all dated days before `judged`.
    """

    source: str
    fitted: Window
    judged: Window
    past_fitted: Window | None
    past_judged: Window

    @property
    def before(self) -> Window | None:
        """The window before `fitted`; None where the source does not tell all of it."""
        return None if self.past_fitted is None else window_before(self.fitted)


def periods_of(dataset: Dataset, measure: str) -> Periods:
    """The windows of a dataset whose label is cut from, or is, this column.

    Parameters
    ----------
    measure : a count of events, weighted or of a kind, or their rate.

    Raises
    ------
    ModelError : no dated events behind it, days before that the source does not tell, or a window without
        events.
    """
    column, events = _counted(dataset, measure)
    first, last = events.first, events.last
    if column.window is None or first is None or last is None:
        raise ModelError(
            f"{dataset.path}: {events.name}, which {measure} is made from, has no dates, so there is no next "
            "period to judge; tile with dated events"
        )
    judged = _dates(column.window)
    fitted = window_before(judged)
    if told_window(fitted, first, last) != fitted:
        raise ModelError(
            f"{dataset.path}: {events.name} is dated {first} to {last}, so it does not tell all of "
            f"{_words(fitted)}, which models of the next period would be fitted on; tile with earlier events"
        )
    for window, what in ((fitted, "learned"), (judged, "judged")):
        if not any(in_window(batch["time"], window).any() for batch in events.batches()):
            raise ModelError(
                f"{dataset.path}: no event of {events.name} falls in {_words(window)}, so nothing can be "
                f"{what} there; tile with another --label-window"
            )
    before = window_before(fitted)
    whole = told_window(before, first, last) == before
    # small places have days without an event at New Year
    new_year = date(first.year, 1, 1)
    start = new_year if first <= new_year + SLACK else first
    return Periods(
        source=events.name,
        fitted=fitted,
        judged=judged,
        past_fitted=(min(start, before[0]), fitted[0]) if whole else None,
        past_judged=(min(start, fitted[0]), judged[0]),
    )


def window_before(window: Window) -> Window:
    """The window as long as this one that ends where it starts: of calendar years, else of days.

    >>> [day.isoformat() for day in window_before((date(2024, 1, 1), date(2025, 1, 1)))]
    ['2023-01-01', '2024-01-01']
    >>> [day.isoformat() for day in window_before((date(2024, 1, 1), date(2024, 1, 31)))]
    ['2023-12-02', '2024-01-01']
    """
    start, end = window
    if (start.month, start.day) == (end.month, end.day) and (start.month, start.day) != (2, 29):
        return start.replace(year=start.year - (end.year - start.year)), start
    return start - (end - start), start


def _counted(dataset: Dataset, measure: str) -> tuple[Column, Events]:
    """The column, and the events that it counts."""
    sources = event_sources(dataset)
    column = next((one for one in dataset.columns if one.name == measure), None)
    if column is None or column.role != "label" or column.source not in sources:
        raise ModelError(
            f"{dataset.path}: {measure} counts no events that the dataset keeps, so there is no next period "
            f"to judge; learn a count of events, such as {_a_count(dataset)}"
        )
    return column, kept_events(dataset, column.source, sources[column.source])


def _a_count(dataset: Dataset) -> str:
    counts = [one.name for one in dataset.columns if one.role == "label" and one.unit == "events"]
    return next((name for name in counts if name != RATE), "crashes_label of `tile --crashes`")


def _dates(window: tuple[str, str]) -> Window:
    return date.fromisoformat(window[0]), date.fromisoformat(window[1])


def _words(window: Window) -> str:
    return f"{window[0]} to before {window[1]}"
