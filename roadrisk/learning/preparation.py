"""Facts as a network takes them: chosen, made densities, filled and standardised.

Everything here is learned from training rows only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, FiniteFloat

from roadrisk.columns import Column
from roadrisk.errors import ModelError, SourceError
from roadrisk.grid import FloatArray

YEAR_DAYS = 365.25


def _iso_date(text: str) -> str:
    date.fromisoformat(text)
    return text


def _dated(column: Column) -> Column:
    for day in column.window or ():
        _iso_date(day)
    return column


# checked where a model is read
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
IsoDate = Annotated[str, AfterValidator(_iso_date)]
DatedColumn = Annotated[Column, AfterValidator(_dated)]


@dataclass(frozen=True)
class Fact:
    """How one column enters a network.

    Parameters
    ----------
    column : its name.
    per_km2 : whether it is divided by the tile's area.
    years : length of its window, which it is divided by; 1 without a window.
    fill : what stands for a missing value, in density: the training rows' median.
    mean, std : of the training rows, filled, in density.
    """

    column: str
    per_km2: bool
    years: Positive
    fill: FiniteFloat
    mean: FiniteFloat
    std: Positive


@dataclass(frozen=True)
class Preparation:
    """How facts are prepared, learned from training rows.

    Parameters
    ----------
    facts : in the order in which they enter, by name.
    dropped : (column, reason) of those that tell nothing.
    """

    facts: tuple[Fact, ...]
    dropped: tuple[tuple[str, str], ...]

    def prepared(
        self, values: FloatArray, columns: tuple[Column, ...], area_km2: FloatArray
    ) -> NDArray[np.float32]:
        """(N, len(facts)) standardised.

        Parameters
        ----------
        values : (N, F) of `columns`, in any order, NaN where missing.
        area_km2 : (N,) ground area of the tiles [km2].

        Raises
        ------
        ModelError : a column that was learned from is not there, or holds values too extreme for it.
        """
        place = {column.name: index for index, column in enumerate(columns)}
        lacking = [fact.column for fact in self.facts if fact.column not in place]
        if lacking:
            raise ModelError(
                f"the model learned from {', '.join(lacking)}, which the data lacks; add the same sources"
            )
        out = np.empty((len(values), len(self.facts)), np.float32)
        for index, fact in enumerate(self.facts):
            density = _density(values[:, place[fact.column]], fact.per_km2, fact.years, area_km2)
            with np.errstate(over="ignore"):
                out[:, index] = (np.where(np.isnan(density), fact.fill, density) - fact.mean) / fact.std
            if not np.isfinite(out[:, index]).all():
                raise ModelError(
                    f"column {fact.column!r} is too far from what the model learned for a number to hold; "
                    "mend extreme values, or train the model again"
                )
        return out


def learned_preparation(values: FloatArray, columns: tuple[Column, ...], area_km2: FloatArray) -> Preparation:
    """The preparation that training rows teach.

    Parameters
    ----------
    values : (N, F) of the training rows alone, NaN where missing.
    area_km2 : (N,) ground area of the tiles [km2].

    Examples
    --------
    >>> roads = Column("road_m", "float64", "m", "feature", "sum", "Centre-line length.")
    >>> learned_preparation(np.array([[0.0], [np.nan], [600.0]]), (roads,), np.full(3, 0.25)).facts[0].fill
    1200.0
    """
    facts, dropped = [], []
    for index in sorted(range(len(columns)), key=lambda index: columns[index].name):
        column = columns[index]
        per_km2, years = column.combine == "sum", _years(column)
        density = _density(values[:, index], per_km2, years, area_km2)
        known = density[~np.isnan(density)]
        if not len(known):
            dropped.append((column.name, "no value in any training tile"))
        elif known.min() == known.max():
            dropped.append((column.name, "the same in every training tile"))
        else:
            fill = float(np.median(known))
            filled = np.where(np.isnan(density), fill, density)
            # an order of rows must not change the last bit of a sum
            filled = np.sort(filled)
            with np.errstate(over="ignore", invalid="ignore"):
                mean, std = float(filled.mean()), float(filled.std())
            if not 0 < std < np.inf:
                raise ModelError(
                    f"column {column.name!r} holds values too extreme to standardise; mend them or leave it "
                    f"out with --exclude {column.name}"
                )
            facts.append(Fact(column.name, per_km2, years, fill, mean, std))
    return Preparation(tuple(facts), tuple(dropped))


def fact_values(table: pd.DataFrame, names: list[str]) -> FloatArray:
    """(N, F) numbers of a table's columns, booleans as 0 and 1, NaN where missing.

    Raises
    ------
    SourceError : a column of text or dates, or with infinite values.

    Examples
    --------
    >>> fact_values(pd.DataFrame({"lanes": [2, None], "lit": [True, False]}), ["lanes", "lit"]).tolist()
    [[2.0, 1.0], [nan, 0.0]]
    """
    values = np.empty((len(table), len(names)))
    for index, name in enumerate(names):
        column = table[name].convert_dtypes() if table[name].dtype == object else table[name]
        if not (pd.api.types.is_numeric_dtype(column) or column.isna().all()):
            example = str(column.dropna().iloc[0])[:30]
            raise SourceError(
                f"column {name!r} is not numbers (it holds {example!r}); leave it out with --exclude {name} "
                "or name the facts to use with --features"
            )
        values[:, index] = pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isinf(values[:, index]).any():
            raise SourceError(
                f"column {name!r} holds infinite values; mend them or leave it out with --exclude {name}"
            )
    return values


def _density(values: FloatArray, per_km2: bool, years: float, area_km2: FloatArray) -> FloatArray:
    return np.asarray(values / (area_km2 if per_km2 else 1.0) / years, np.float64)


def _years(column: Column) -> float:
    """Length of a sum's window, 1 without one: a mean over two years is no larger than over one."""
    if column.window is None or column.combine != "sum":
        return 1.0
    first, end = (date.fromisoformat(day[:10]) for day in column.window)
    return max(1, (end - first).days) / YEAR_DAYS
