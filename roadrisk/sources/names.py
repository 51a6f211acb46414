"""The usual names of columns, and how to find them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from roadrisk.errors import SourceError

LONGITUDE = ("longitude", "lon", "lng", "long", "longitud", "decimallongitude", "startlng", "londd", "longdd")
LATITUDE = ("latitude", "lat", "latitud", "decimallatitude", "startlat", "latdd")
EAST = ("pointx", "xcoord", "xcoordinate", "coordx", "easting", "x")
NORTH = ("pointy", "ycoord", "ycoordinate", "coordy", "northing", "y")
DATE = (
    "datetime",
    "dateandtime",
    "date",
    "timestamp",
    "occurred",
    "occurredon",
    "occurredat",
    "occurreddate",
    "dateoccurred",
    "dateofcrash",
    "dateofaccident",
    "starttime",
)
TIME = ("time", "timeofday", "timeoccurred", "occurredtime", "timeofcrash")
SEVERITY = (
    "severity",
    "severitydescr",
    "severitycode",
    "severitylevel",
    "kabco",
    "injuryseverity",
    "maxseverity",
)
EVENT_ID = ("number", "numb", "casenumber", "caseid", "reportnumber", "incidentnumber", "id")
ROAD_CLASS = ("highway", "fclass", "roadclass", "functionalclass", "functionalclassification", "class")

_SHOWN = 40


def found_column(columns: Sequence[str], usual: Sequence[str]) -> str | None:
    """The first of `columns` that goes by one of the usual names, in the order of those.

    Case, blanks and punctuation do not matter, nor a leading `crash`, `accident`, `collision`,
    `incident` or `event`.

    Examples
    --------
    >>> found_column(["Crash Number", "Crash Date", "Date Entered"], DATE)
    'Crash Date'
    """
    plain = {_plain(name): name for name in reversed(columns)}
    bare = {
        re.sub("^(crash|accident|collision|incident|event)", "", key): name for key, name in plain.items()
    }
    for known in (plain, bare):
        for name in usual:
            if name in known:
                return known[name]
    return None


def date_column(columns: Sequence[str]) -> str | None:
    """The column that holds the date: by its usual names, else the only one with `date` among its words."""
    usual = found_column(columns, DATE)
    if usual is not None:
        return usual
    worded = [c for c in columns if {"date", "datetime", "timestamp"} & set(re.split(r"[\W_]+", c.lower()))]
    return worded[0] if len(worded) == 1 else None


def given_column(columns: Sequence[str], name: str, key: str, where: str) -> str:
    """`name`, if it is one of `columns`.

    Parameters
    ----------
    key : what it was given as, `date`.
    where : the file.

    Raises
    ------
    SourceError : it is not; names the nearest.
    """
    if name in columns:
        return name
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise SourceError(f"{where} has no column {name!r} ({key}); {hint}its columns: {listed(columns)}")


def listed(columns: Sequence[str]) -> str:
    """Column names for a message."""
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return ", ".join(repr(c) for c in columns[:_SHOWN]) + more


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
