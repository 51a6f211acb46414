"""Facts as trees and regressions take them: sums as densities, texts as codes; columns by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from roadrisk.grid import FloatArray
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts.scaling import density_of

MOST_CATEGORIES = 60  # each has a bin of a tree


def densities(examples: Examples) -> FloatArray:
    """(N, F) facts in the order of their names: sums per km2 and year of their window, others as they are.

    NaN where missing.
    """
    by_name = sorted(range(len(examples.columns)), key=lambda index: examples.columns[index].name)
    values = np.empty((len(examples), len(by_name)))
    for place, index in enumerate(by_name):
        values[:, place] = density_of(examples.columns[index], examples.facts[:, index], examples.area_km2)
    return values


def learned_codes(train: Examples) -> Callable[[Examples], FloatArray]:
    """How texts become codes: (N, T) from 0 by column name, NaN where missing, rare or not in `train`."""
    by_name = sorted(range(len(train.text_columns)), key=lambda index: train.text_columns[index].name)
    known = [_most_frequent(train.texts[:, index].tolist()) for index in by_name]

    def codes(examples: Examples) -> FloatArray:
        coded = np.full((len(examples), len(by_name)), np.nan)
        for place, index in enumerate(by_name):
            code = {value: float(number) for number, value in enumerate(known[place])}
            coded[:, place] = [code.get(value, np.nan) for value in examples.texts[:, index].tolist()]
        return coded

    return codes


def _most_frequent(values: list[str | None]) -> list[str]:
    counts: dict[str, int] = {}
    for value in values:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    return sorted(sorted(counts, key=lambda value: (-counts[value], value))[:MOST_CATEGORIES])
