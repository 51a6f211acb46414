"""Volumes of traffic in the columns of a table: which columns, of which years, and the numbers in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.source_settings import TrafficSource
from roadrisk.sources.names import found_column, given_column, listed
from roadrisk.sources.tables import Table

# strict: a wrong column of numbers would be believed
AADT = (
    "aadt",
    "annualaveragedailytraffic",
    "averageannualdailytraffic",
    "adt",
    "averagedailytraffic",
    "avgdailytraffic",
    "aadtvn",
    "trafficvolume",
    "vehiclesperday",
    "traffic",
    "volume",
)
NO_COUNT = "no count"
NOT_A_NUMBER = "count is not a number"
NOT_POSITIVE = "count is zero or less"
TOO_LARGE = "count is above 1,000,000 a day"

_OF_A_YEAR = re.compile(r"(?:AADT|ADT)?[_ ]?((?:19|20)\d\d)", re.IGNORECASE)
_THOUSANDS = r"^(\d{1,3})(?:[, '’\u00a0\u202f]\d{3})+(?:\.\d+)?$"
_MOST = 1_000_000.0  # twice the busiest road there is; 9999999 and the like say that nobody knows
_PLAUSIBLE_YEARS = range(1900, 2101)

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class VolumeColumns:
    """The columns that hold volumes, the oldest year first.

    Parameters
    ----------
    columns : names.
    years : of each; empty for a single column whose year is not known.
    understood : what was found, for people.
    """

    columns: tuple[str, ...]
    years: tuple[int, ...]
    understood: str


@dataclass(frozen=True)
class Volumes:
    """Volumes of a chunk.

    Parameters
    ----------
    aadt : (N, C) vehicles a day, NaN where there is none: a count of zero on an open road is no count.
    reason : (N,) why a row has no volume in any column; empty where it has one.
    not_numbers, not_positive, too_large : entries that are text, zero or less, or of no road there is.
    example : one of the entries that are text; empty without.
    """

    aadt: FloatArray
    reason: NDArray[np.object_]
    not_numbers: int
    not_positive: int
    too_large: int
    example: str


def volume_columns(table: Table, source: TrafficSource) -> VolumeColumns:
    """The columns of volumes: as the source names them, else by usual names, else those named by a year.

    Raises
    ------
    SourceError : a column is not there, none looks like a volume, two are of one year, or a year cannot be.
    """
    columns, where = table.columns, str(table.path)
    if source.years:
        of_year = [(year, given_column(columns, name, "years", where)) for name, year in source.years.items()]
    elif source.aadt is not None:
        return _single(given_column(columns, source.aadt, "aadt", where), source, where)
    elif (usual := found_column(columns, AADT)) is not None:
        return _single(usual, source, where)
    else:
        of_year = [(int(m[1]), name) for name in columns if (m := _OF_A_YEAR.fullmatch(name.strip()))]
    if not of_year:
        raise SourceError(
            f"{where} has no column that looks like a traffic volume; name it with `aadt` in the region "
            f"file; its columns: {listed(columns)}"
        )
    if source.year is not None:
        raise SourceError(
            f"{where}: year = {source.year} is of one column, and here are {len(of_year)}, each of its year; "
            "leave year out, or name one column with `aadt`"
        )
    of_year.sort()
    years, names = tuple(year for year, _ in of_year), tuple(name for _, name in of_year)
    _check_years(years, names, where)
    return VolumeColumns(names, years, f"volumes from {_said(names)}, each of its year")


def volumes_of(frame: pd.DataFrame, columns: VolumeColumns) -> Volumes:
    """The volumes of a chunk; `12,300` and `12 300` are numbers.

    Examples
    --------
    >>> frame = pd.DataFrame({"AADT": ["12,300", "0", "n/a", None]})
    >>> found = volumes_of(frame, VolumeColumns(("AADT",), (), ""))
    >>> found.aadt.ravel().tolist(), found.reason.tolist()
    ([12300.0, nan, nan, nan], ['', 'count is zero or less', 'count is not a number', 'no count'])
    """
    read = [_numbers(frame[name]) for name in columns.columns]
    aadt, blank = np.stack([n for n, _ in read], axis=1), np.stack([b for _, b in read], axis=1)
    not_number = ~blank & ~np.isfinite(aadt)
    not_positive = ~blank & ~not_number & ~(aadt > 0)
    too_large = ~blank & ~not_number & (aadt > _MOST)
    aadt[not_number | not_positive | too_large] = np.nan
    reason = np.full(len(frame), NO_COUNT, dtype=object)
    reason[not_positive.any(axis=1)] = NOT_POSITIVE
    reason[too_large.any(axis=1)] = TOO_LARGE
    reason[not_number.any(axis=1)] = NOT_A_NUMBER
    reason[~np.isnan(aadt).all(axis=1)] = ""
    example = ""
    if not_number.any():
        row, column = np.argwhere(not_number)[0]
        example = str(frame[columns.columns[column]].iloc[row])
    found = int(not_number.sum()), int(not_positive.sum()), int(too_large.sum())
    return Volumes(aadt, reason, *found, example)


def newest_volumes(
    aadt: FloatArray, years: tuple[int, ...], before: int | None
) -> tuple[FloatArray, FloatArray]:
    """(N,) volume of the newest year that has one, and (N,) that year; NaN without.

    Parameters
    ----------
    aadt : (N, Y) volumes of `years`, which ascend; without years of the one column that there is.
    before : only years before this one count.

    Examples
    --------
    >>> newest_volumes(np.array([[5.0, 6.0, 7.0], [5.0, np.nan, 7.0]]), (2014, 2015, 2016), 2016)
    (array([6., 5.]), array([2015., 2014.]))
    """
    if not years:
        return aadt[:, 0], np.full(len(aadt), np.nan)
    allowed = np.array([before is None or year < before for year in years])
    known = ~np.isnan(aadt) & allowed
    newest: IntArray = len(years) - 1 - np.argmax(known[:, ::-1], axis=1)
    found = known.any(axis=1)
    volume = np.where(found, aadt[np.arange(len(aadt)), newest], np.nan)
    return volume, np.where(found, np.array(years, dtype=np.float64)[newest], np.nan)


def _single(name: str, source: TrafficSource, where: str) -> VolumeColumns:
    if (year := source.year) is None:
        if source.each_year:
            raise SourceError(
                f"{where}: each_year asks for a column of each year, and the year of {name!r} is not known; "
                "tell it with `year`, or name the columns with `years`"
            )
        said = f"volumes from {name!r}; of no known year, which `year` in the region file can tell"
        return VolumeColumns((name,), (), said)
    _check_years((year,), (name,), where)
    return VolumeColumns((name,), (year,), f"volumes of {year} from {name!r}")


def _check_years(years: tuple[int, ...], names: tuple[str, ...], where: str) -> None:
    for i, (year, name) in enumerate(zip(years, names, strict=True)):
        if year not in _PLAUSIBLE_YEARS:
            raise SourceError(f"{where}: {name!r} cannot be of the year {year}; write it as 2024")
        if i and year == years[i - 1]:
            raise SourceError(
                f"{where} has two columns of volumes for {year}, {names[i - 1]!r} and {name!r}; say which "
                "with `years` in the region file"
            )


def _said(names: tuple[str, ...]) -> str:
    return (
        listed(names) if len(names) <= 3 else f"{names[0]!r}, {names[1]!r} ... {names[-1]!r} ({len(names)})"
    )


def _numbers(values: pd.Series) -> tuple[FloatArray, BoolArray]:
    """(N,) numbers, NaN where there is none, and (N,) whether an entry is blank."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan).copy()
        return numbers, np.isnan(numbers)
    text = values.astype("string").str.strip()
    blank = (text.isna() | (text == "")).to_numpy(dtype=bool, na_value=True)
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan).copy()
    # most columns have no such entry, and most entries of a column are blank
    index = np.flatnonzero(~blank & np.isnan(numbers))
    written = text.iloc[index]
    grouped = written.str.match(_THOUSANDS).to_numpy(dtype=bool)
    digits = written[grouped].str.replace(r"[^\d.]", "", regex=True)
    numbers[index[grouped]] = digits.to_numpy(dtype=np.float64)
    return numbers, blank
