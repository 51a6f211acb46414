"""One column of numbers as a network takes it: made a density, filled, scaled and standardised."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated

import numpy as np
from pydantic import Field, FiniteFloat
from scipy.special import ndtri

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray
from roadrisk.learning.settings import SCALINGS, Imputation, Scaling, TrainSettings

YEAR_DAYS = 365.25
MOST_KNOTS = 1000  # quantiles of a column
ROUNDING = 1e-12  # values that differ by so small a share are the same but for their last bits
LOWEST = 1e-7  # rank of what lies below all quantiles, as in scikit-learn: a normal has no lowest number
EMPTY, CONSTANT = "no value in any training tile", "the same in every training tile"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]  # checked where a model is read


@dataclass(frozen=True)
class Fact:
    """How one column of numbers enters a network.

    Parameters
    ----------
    column : its name.
    per_km2 : whether it is divided by the tile's area.
    years : length of its window, which it is divided by; 1 without a window.
    fill : what stands for a missing value, in density.
    mean, std : of the training rows, in density, filled and scaled.
    flagged : whether a 0/1 number tells where it is missing, as in some training row.
    scaling : of the density, before it is standardised.
    knots : quantiles of the known training values at ranks evenly from 0 to 1, where `scaling` is by them.

    Raises
    ------
    ValueError : knots that are not quantiles.
    """

    column: str
    per_km2: bool
    years: Positive
    fill: FiniteFloat
    mean: FiniteFloat
    std: Positive
    flagged: bool = False
    scaling: Scaling = "standard"
    knots: tuple[FiniteFloat, ...] = ()

    def __post_init__(self) -> None:
        if self.scaling == "quantile":
            if not 2 <= len(self.knots) <= MOST_KNOTS:
                raise ValueError(f"{len(self.knots)} quantiles; there are 2 to {MOST_KNOTS}")
            if list(self.knots) != sorted(self.knots) or self.knots[0] == self.knots[-1]:
                raise ValueError("quantiles must not fall, and the last must be above the first")
        elif self.knots:
            raise ValueError(f"quantiles, but the scaling is {self.scaling}")

    def standardised(self, values: FloatArray, area_km2: FloatArray) -> FloatArray:
        """(N,) as the network takes it, of (N,) values, NaN where missing.

        Raises
        ------
        ModelError : a value too far from those learned from.
        """
        density = _density(values, self.per_km2, self.years, area_km2)
        filled = np.where(np.isnan(density), self.fill, density)
        with np.errstate(over="ignore"):
            numbers = (_scaled(filled, self.scaling, self.knots) - self.mean) / self.std
        if not (np.abs(numbers) <= np.finfo(np.float32).max).all():
            raise ModelError(
                f"column {self.column!r} is too far from what the model learned for a number to hold; "
                "mend extreme values, or train the model again"
            )
        return np.asarray(numbers)


def density_of(column: Column, values: FloatArray, area_km2: FloatArray) -> FloatArray:
    """(N,) a sum per km2, and per year of its window where it has one; other values as they are.

    >>> roads = Column("road_m", "float64", "m", "feature", "sum", "Centre-line length.")
    >>> density_of(roads, np.array([600.0]), np.array([0.25]))
    array([2400.])
    """
    return _density(values, column.combine == "sum", _years(column), area_km2)


def learned_fact(
    column: Column, values: FloatArray, area_km2: FloatArray, settings: TrainSettings
) -> Fact | str:
    """How a column enters, or why it does not.

    Parameters
    ----------
    values : (N,) of the training rows alone, NaN where missing.
    area_km2 : (N,) ground area of the tiles [km2].

    Raises
    ------
    ModelError : values too extreme to standardise.

    Examples
    --------
    >>> roads = Column("road_m", "float64", "m", "feature", "sum", "Centre-line length.")
    >>> fact = learned_fact(roads, np.array([0.0, np.nan, 600.0]), np.full(3, 0.25), TrainSettings())
    >>> fact.fill, fact.flagged
    (1200.0, True)
    """
    density = density_of(column, values, area_km2)
    known = np.sort(density[~np.isnan(density)])
    if not len(known):
        return EMPTY
    # areas of tiles differ a little, so one count everywhere makes densities that do
    for same in (known, values[~np.isnan(values)]):
        with np.errstate(over="ignore"):
            if same.max() - same.min() <= ROUNDING * np.abs(same).max():
                return CONSTANT
    fill = _fill(known, settings.impute)
    scaling = _own_scaling(column, settings)
    # an order of rows must not change the last bit of a sum
    filled = np.sort(np.append(known, np.full(len(density) - len(known), fill)))
    with np.errstate(over="ignore", invalid="ignore"):
        knots = _knots(known) if scaling == "quantile" else ()
        scaled = _scaled(filled, scaling, knots)
        mean, std = float(scaled.mean()), float(scaled.std())
    if not 0 < std < np.inf:
        raise ModelError(
            f"column {column.name!r} holds values too extreme to standardise; mend them or leave it "
            f"out with --exclude {column.name}"
        )
    flagged = len(known) < len(density)
    per_km2 = column.combine == "sum"
    return Fact(column.name, per_km2, _years(column), fill, mean, std, flagged, scaling, knots)


def _own_scaling(column: Column, settings: TrainSettings) -> Scaling:
    asked = settings.scaling
    return asked.get(column.combine) or asked.get("default") or SCALINGS.get(column.combine, "standard")


def _fill(known: FloatArray, impute: Imputation) -> float:
    """What stands for a missing value, of the sorted known ones; of several modes the lowest."""
    if impute == "constant":
        return 0.0
    if impute == "median":
        return float(np.median(known))
    values, counts = np.unique(known, return_counts=True)
    return float(values[counts.argmax()])


def _knots(known: FloatArray) -> tuple[float, ...]:
    ranks = np.linspace(0, 1, min(MOST_KNOTS, len(known)))
    return tuple(np.percentile(known, ranks * 100).tolist())


def _scaled(values: FloatArray, scaling: Scaling, knots: tuple[float, ...]) -> FloatArray:
    """(N,) values as they are, their logarithms, or the normal numbers of their ranks among the knots.

    The last as scikit-learn's QuantileTransformer, but that equal values have the middle of their ranks at
    the ends, too: where most tiles have 0, these are not infinitely far below the others.
    """
    if scaling == "log":
        return np.asarray(np.copysign(np.log1p(np.abs(values)), values))
    if scaling == "quantile":
        at, ranks = np.array(knots), np.linspace(0, 1, len(knots))
        highest, lowest = np.interp(values, at, ranks), -np.interp(-values, -at[::-1], -ranks[::-1])
        return np.asarray(ndtri(np.clip((lowest + highest) / 2, LOWEST, 1 - LOWEST)))
    return values


def _density(values: FloatArray, per_km2: bool, years: float, area_km2: FloatArray) -> FloatArray:
    return np.asarray(values / (area_km2 if per_km2 else 1.0) / years, np.float64)


def _years(column: Column) -> float:
    """Length of a sum's window, 1 without one: a mean over two years is no larger than over one."""
    if column.window is None or column.combine != "sum":
        return 1.0
    first, end = (date.fromisoformat(day[:10]) for day in column.window)
    return max(1, (end - first).days) / YEAR_DAYS
