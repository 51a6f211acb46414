"""What columns hold: how much is missing, and where the rest lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.maps.fields import period
from roadrisk.plain_text import TextTable


@dataclass(frozen=True)
class Tally:
    """What a column holds: the share of tiles without a value, and where the others lie.

    Parameters
    ----------
    low, middle, high : least, median and most; None for text and where nothing is known.
    """

    missing: float
    low: float | None = None
    middle: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, float | None]:
        """Plain values."""
        return {"missing": self.missing, "min": self.low, "median": self.middle, "max": self.high}


def tally_of(values: pd.Series[Any]) -> Tally:
    """The tally of a column.

    >>> tally_of(pd.Series([1.0, 5.0, None, 3.0]))
    Tally(missing=0.25, low=1.0, middle=3.0, high=5.0)
    """
    known = values.dropna()
    missing = 1 - len(known) / len(values) if len(values) else 0.0
    numeric = pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)
    if not numeric or known.empty:
        return Tally(missing)
    numbers = known.to_numpy(dtype=np.float64)
    return Tally(missing, float(numbers.min()), float(np.median(numbers)), float(numbers.max()))


def columns_table(columns: Sequence[Column], tallies: Sequence[Tally]) -> TextTable:
    """Every column: what it is, what it holds and what it means."""
    header = ("column", "unit", "role", "combine", "window", "source", "missing", "min", "median", "max")
    rows = tuple(
        (
            c.name,
            c.unit,
            c.role,
            c.combine,
            period(c.window),
            c.source or "",
            f"{tally.missing:.1%}",
            *(number(value) for value in (tally.low, tally.middle, tally.high)),
            _meaning(c),
        )
        for c, tally in zip(columns, tallies, strict=True)
    )
    return TextTable("columns", (*header, "meaning"), rows, header[6:])


def _meaning(column: Column) -> str:
    by = f" ({column.combine} by {', '.join(column.by)})" if column.by else ""
    withheld = f" Withheld from models: {column.withheld}." if column.withheld else ""
    return column.meaning + by + withheld


def number(value: float | None) -> str:
    """A number in few digits, with thousands separators; empty for None.

    >>> number(1234567.0), number(1234.56), number(0.123456), number(None)
    ('1,234,567', '1,235', '0.1235', '')
    """
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.4g}"
