"""What a reader of a layer is told of each field: a short name and a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from roadrisk.columns import Column

ABBREVIATIONS = {"aadt": "AADT", "eb": "EB", "id": "ID"}
# the period says it better
WINDOW_WORDS = ("label", "past")


def field_aliases(columns: Sequence[Column]) -> dict[str, str]:
    """The short human name of each column, by its own; no two are the same.

    Examples
    --------
    >>> window = ("2024-01-01", "2025-01-01")
    >>> crashes = Column("crashes_label", "float64", "events", "label", "sum", "Events.", "crashes", window)
    >>> road = Column("road_m_primary", "float64", "m", "feature", "sum", "Length.")
    >>> field_aliases([crashes, road])
    {'crashes_label': 'Crashes 2024 (events)', 'road_m_primary': 'Road primary (m)'}
    >>> counts = [("junctions", "road_junctions_3"), ("dead ends", "road_dead_ends"), ("events", "eb")]
    >>> list(field_aliases([Column(name, "float64", u, "info", "sum", "") for u, name in counts]).values())
    ['Road junctions 3', 'Road (dead ends)', 'EB (events)']
    """
    made = {column.name: _alias(column) for column in columns}
    often = Counter(made.values())
    return {name: f"{alias} [{name}]" if often[alias] > 1 else alias for name, alias in made.items()}


def field_description(column: Column) -> str:
    """Meaning, unit, window, source, and why models do without it, as far as the column has them.

    Examples
    --------
    >>> field_description(Column("road_m", "float64", "m", "feature", "sum", "Length of roads.", "roads"))
    'Length of roads. Unit: m. Source: roads.'
    """
    meaning = column.meaning.strip().rstrip(".")
    said = [meaning] if meaning else []
    if column.unit:
        said.append(f"Unit: {column.unit}")
    if column.window and column.window[0] not in meaning:
        said.append(f"From {column.window[0]} to before {column.window[1]}")
    if column.source:
        said.append(f"Source: {column.source}")
    if column.withheld:
        said.append(f"Models use it only when asked to: {column.withheld.rstrip('.')}")
    return " ".join(f"{sentence}." for sentence in said)


def fields_as_json(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Each column as plain values, with its alias."""
    aliases = field_aliases(columns)
    return [{**column.as_json(), "alias": aliases[column.name]} for column in columns]


def period(window: tuple[str, str] | None) -> str:
    """The dates [from, to) in few letters, both ends belonging to it; empty without one.

    >>> period(("2024-01-01", "2025-01-01")), period(("2015-01-01", "2024-01-01"))
    ('2024', '2015-2023')
    >>> period(("2023-07-01", "2024-07-01")), period(("2024-01-15", "2024-02-15"))
    ('2023-07 to 2024-06', '2024-01-15 to 2024-02-14')
    """
    if window is None:
        return ""
    start, end = (date.fromisoformat(day) for day in window)
    last = end - timedelta(days=1)
    if (start.month, start.day, end.month, end.day) == (1, 1, 1, 1):
        return f"{start.year}" if start.year == last.year else f"{start.year}-{last.year}"
    if start.day == end.day == 1:
        first_month, last_month = f"{start:%Y-%m}", f"{last:%Y-%m}"
        return first_month if first_month == last_month else f"{first_month} to {last_month}"
    return f"{start}" if start == last else f"{start} to {last}"


def window_lines(windows: Mapping[str, tuple[str, str]]) -> list[str]:
    """Each window by what it bounds.

    >>> window_lines({"label": ("2024-01-01", "2025-01-01")})
    ['label window: 2024-01-01 to before 2025-01-01']
    """
    return [f"{name} window: {start} to before {end}" for name, (start, end) in windows.items()]


def _alias(column: Column) -> str:
    words = [word for word in column.name.split("_") if word]
    if column.window:
        words = [word for word in words if word not in WINDOW_WORDS] or words
    words, unit = _without_unit(words, column.unit)
    text = " ".join(ABBREVIATIONS.get(word.lower(), word) for word in words)
    return " ".join([text[:1].upper() + text[1:], period(column.window)]).strip() + unit


def _without_unit(words: list[str], unit: str) -> tuple[list[str], str]:
    """The words of a name without a unit among them, and the unit to be said behind them, if any."""
    said = unit.split()
    behind = f" ({unit})" if unit else ""
    if words[-len(said) :] == said and len(words) > len(said):
        return words[: -len(said)], behind
    if len(unit) == 1:  # a symbol is no word
        return [word for word in words if word != unit] or words, behind
    return words, "" if unit in words else behind
