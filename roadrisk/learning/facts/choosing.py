"""Which columns enter a model as facts, and why others do not."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from roadrisk.columns import Column
from roadrisk.errors import UsageError
from roadrisk.learning.facts.preparation import no_category, text_values
from roadrisk.learning.labels.label import DEFAULT, Label
from roadrisk.learning.settings import TrainSettings
from roadrisk.sources.date_forms import UNREADABLE, written_dates

OWN_SOURCE = "made from the label's own source"
EXPOSURE = "an exposure, not a fact about the place"
DATES, NEITHER = "dates; only numbers and texts are facts", "neither numbers nor texts"
TEXT_DTYPES = ("object", "str", "string", "category")
DATE_SHARE = 0.9  # of texts that can be read as dates, from which on they are dates


class ChosenFacts(NamedTuple):
    """Which columns enter a model.

    Parameters
    ----------
    numbers, texts : in the order of the columns they were chosen from.
    left_out : the reason for each column that could be a fact and is none.
    """

    numbers: tuple[Column, ...]
    texts: tuple[Column, ...]
    left_out: dict[str, str]


def chosen_facts(columns: tuple[Column, ...], settings: TrainSettings, label: Label) -> ChosenFacts:
    """The facts, and why others are left out.

    Left out unless asked for by name: counts made from the label's own source, which answer another
    question, the same place next period; exposures; and what its source withholds.

    Raises
    ------
    UsageError : a name that is no column, one that tells what is to be learned, or a fact whose window is
        not all before the label's.
    """
    known = {column.name: column for column in columns}
    _check_names(settings, known)
    told = {label.column, label.measure, DEFAULT} | {c.name for c in columns if c.role == "label"}
    asked = settings.features
    told_names = sorted(told & set(asked or ()), key=str)
    if told_names:
        raise UsageError(f"--features {told_names[0]} is what is to be learned; leave it out")
    _check_exposure(settings, label, known, told)
    reasons = _reasons(columns, label)
    left_out: dict[str, str] = {}
    facts = []
    for column in columns:
        if column.name in settings.exclude or column.name in told:
            continue
        if asked is not None:
            if column.name in asked:
                facts.append(column)
        elif column.name in reasons:
            left_out[column.name] = f"{reasons[column.name]}; ask for it with --features"
        elif column.role == "feature":
            facts.append(column)
        elif column.role == "info" and column.withheld:
            left_out[column.name] = column.withheld.rstrip(".")
    if settings.sees == "image":
        return ChosenFacts((), (), left_out)
    _check_windows(facts, label, known)
    texts = tuple(column for column in facts if column.dtype in TEXT_DTYPES)
    return ChosenFacts(tuple(column for column in facts if column not in texts), texts, left_out)


def table_column(name: str, values: pd.Series) -> Column:
    """What is known of a column of a table: numbers and texts that are categories may be facts.

    Examples
    --------
    >>> table_column("surface", pd.Series(["paved", "gravel", "paved", "paved", None])).role
    'feature'
    >>> table_column("built", pd.Series(["2021-03-01", "2022-07-01", "2021-03-01", "2022-07-01"])).withheld
    'dates; only numbers and texts are facts'
    """
    values = values.convert_dtypes() if values.dtype == object else values
    meaning = f"Column {name} of the table."
    if values.isna().all():
        return Column(name, "float64", "", "feature", "none", meaning)
    if pd.api.types.is_numeric_dtype(values):
        return Column(name, str(values.dtype), "", "feature", "none", meaning)
    withheld = _no_texts(name, values)
    return Column(name, "object", "", "info" if withheld else "feature", "none", meaning, withheld=withheld)


def asked_for(facts: tuple[Column, ...], columns: tuple[Column, ...], label: Label) -> dict[str, str]:
    """The facts that are there only because they were asked for by name, and why they would not be."""
    reasons = _reasons(columns, label)
    return {fact.name: f"asked for: {reasons[fact.name]}" for fact in facts if fact.name in reasons}


def sources_behind(label: Label, columns: tuple[Column, ...]) -> set[str | None]:
    """The sources, and the columns, that a label was made from."""
    return {column.source for column in _behind(label, {c.name: c for c in columns})}


def _reasons(columns: tuple[Column, ...], label: Label) -> dict[str, str]:
    """Why a column that could be a fact is none unless asked for."""
    sources = sources_behind(label, columns)
    reasons = {}
    for column in columns:
        if column.role == "feature" and column.source is not None and column.source in sources:
            reasons[column.name] = OWN_SOURCE
        elif column.role in ("feature", "exposure") and column.withheld:
            reasons[column.name] = column.withheld.rstrip(".")
        elif column.role == "exposure":
            reasons[column.name] = EXPOSURE
    return reasons


def _check_names(settings: TrainSettings, known: dict[str, Column]) -> None:
    for name in (*(settings.features or ()), *settings.exclude):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"no column {name!r} for --features or --exclude; {hint}")


def _check_exposure(
    settings: TrainSettings, label: Label, known: dict[str, Column], told: set[str | None]
) -> None:
    """Nothing, if what counts are proportional to does not count the same events."""
    exposure = known.get(settings.exposure or "")
    if exposure is None:
        return
    behind = list(_behind(label, known))
    start = min((column.window[0] for column in behind if column.window), default="")
    late = exposure.window is not None and exposure.window[1] > start
    if exposure.name in told or (late and exposure.source in {column.source for column in behind}):
        raise UsageError(
            f"--exposure {exposure.name} would know what is to be learned; name an amount of travel or road"
        )


def _check_windows(facts: list[Column], label: Label, known: dict[str, Column]) -> None:
    """Nothing, if every dated fact tells of days before the label's."""
    dated = [column for column in _behind(label, known) if column.window]
    if not dated:
        return
    learned = min(dated, key=lambda column: column.window or ("", ""))
    start, end = learned.window or ("", "")
    late = [fact for fact in facts if fact.window and fact.window[1] > start]
    if late:
        names = ", ".join(f"{fact.name} ({' to before '.join(fact.window)})" for fact in late if fact.window)
        raise UsageError(
            f"a fact must tell of days before the label window, which is {start} to before {end} "
            f"({learned.name}): {names} would know what is to be learned; "
            f"give --exclude {','.join(fact.name for fact in late)}, or tile again with windows that end "
            f"by {start}"
        )


def _behind(label: Label, known: dict[str, Column]) -> Iterator[Column]:
    """The columns that the label was made from, itself first, followed from each to its source."""
    seen: set[str] = set()
    todo: list[str | None] = [label.column, label.measure]
    while todo:
        name = todo.pop(0)
        if name and name not in seen and name in known:
            seen.add(name)
            yield known[name]
            todo.append(known[name].source)


def _no_texts(name: str, values: pd.Series) -> str:
    """Why values that are not numbers are no category either; empty if they are one."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return DATES
    if not all(isinstance(value, str | bool | int | float) for value in values.dropna()):
        return NEITHER
    known = [text for text in text_values(values.to_frame(name), [name])[:, 0] if text is not None]
    written = written_dates(pa.array(known, pa.large_string()))
    is_date = (written.month_first != UNREADABLE) | (written.day_first != UNREADABLE)
    if known and np.mean(is_date) >= DATE_SHARE:
        return DATES
    return no_category(len(set(known)), len(known))
