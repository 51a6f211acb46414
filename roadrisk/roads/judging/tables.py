"""How good drawn roads are, as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from roadrisk.plain_text import TextTable
from roadrisk.roads.judging.judged import METHODS

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]


def scores_table(title: str, metrics: Scores, measures: Sequence[str]) -> TextTable:
    """A row a method, a column a measure with its 95 % interval."""
    known = [*(name for name in METHODS if name in metrics), *sorted(metrics.keys() - METHODS.keys())]
    header = ("method", *(measure.replace("_", " ") for measure in measures))
    rows = tuple(
        (METHODS.get(name, name), *(_score(metrics[name].get(measure, {})) for measure in measures))
        for name in known
    )
    return TextTable(title, header, rows, header[1:])


def _score(score: Mapping[str, Any]) -> str:
    value, low, high = (score.get(key) for key in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"
