"""What a region file may say of a source: where it is, how it is read, where it knows something.

Defaults stand only here. A key that is not a field is an error that names the nearest right one.
"""

from __future__ import annotations

import datetime
from dataclasses import KW_ONLY
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

# a name becomes a column and a file, so it can lead nowhere
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=64)]
Value = str | int | float | bool
Metres = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# a word, since it becomes a folder and the end of a column's name
ViewName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)]
Band = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
STRICT = ConfigDict(extra="forbid", str_strip_whitespace=True)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Coverage:
    """Where a source knows something; outside it its columns are missing, never 0.

    Parameters
    ----------
    path : polygons, or lines or points of what is covered; the source's own rows when not given.
    layer : of a file with several.
    column, values : only the rows with one of these values speak; all rows when not given.
    reach_m : how far lines and points speak for their surroundings: gaps up to twice as wide are closed.
    """

    path: str | None = None
    layer: str | None = None
    column: str | None = None
    values: tuple[Value, ...] = ()
    reach_m: Metres = 500.0

    def __post_init__(self) -> None:
        if self.values and self.column is None:
            raise ValueError("coverage: values are of a column; name it with `column`")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SheetIndex:
    """A table or a vector file with a row a sheet, which says when each was taken.

    Parameters
    ----------
    name : the column that holds a sheet's file name, with or without folder and suffix.
    taken : the column that holds its date.
    """

    path: str
    layer: str | None = None
    name: str
    taken: str


@dataclass(frozen=True, config=STRICT)
class ImagerySource:
    """Pictures: a file, a folder or a pattern of whatever GDAL opens, a tile server, or a catalogue.

    Parameters
    ----------
    path : `~` and `${NAME}` are expanded, in addresses those of tile servers alone; patterns are expanded
        here, not by the shell. A tile server is `https://.../{z}/{x}/{y}.png` or `xyz:` and its xyzservices
        name; a STAC catalogue `stac:` and its address, then
        `?collections=...&datetime=FROM/TO&cloud_cover=PERCENT&asset=...`.
    view : the picture of a tile that it goes into; several sources of a view are laid over each other.
    bands : the bands that are red, green and blue, or the one that is grey: `[4, 1, 2]` shows near
        infra-red in false colour.
    taken : first and last day it was taken, where the pictures themselves do not say.
    index : says when each sheet was taken.
    zoom : of a tile server or an archive of tiles; else the least that is as fine as the grid's pixels.
    tms : rows of the server are counted from the south.
    tile_px : side of the server's tiles; an archive's are read from it.
    rate_per_s, connections : requests a second and at a time, at most.
    bulk_allowed : you have the provider's leave to download in bulk.
    licence, attribution : as the owner asks; every layer made from it carries them.
    """

    path: str
    _: KW_ONLY
    view: ViewName = "aerial"
    bands: tuple[Band, ...] | None = None
    taken: tuple[datetime.date, datetime.date] | None = None
    index: SheetIndex | None = None
    zoom: Annotated[int, Field(ge=0, le=30)] | None = None
    tms: bool = False
    tile_px: Literal[256, 512] = 256
    rate_per_s: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 10.0
    connections: Annotated[int, Field(ge=1, le=64)] = 4
    bulk_allowed: bool = False
    licence: str | None = None
    attribution: str | None = None

    def __post_init__(self) -> None:
        if self.bands is not None and len(self.bands) not in (1, 3):
            raise ValueError(f"imagery: bands names one band or three, not {len(self.bands)}")
        if self.taken is not None and self.taken[0] > self.taken[1]:
            raise ValueError(f"imagery: taken {self.taken[0]} {self.taken[1]} ends before it starts")


@dataclass(frozen=True, config=STRICT)
class TableSource:
    """What every table of facts may say.

    Parameters
    ----------
    path : a file or a pattern, or several of them that hold the same columns.
    name : in columns and the account; else the flag's name, or the file stem when there are several.
    layer : of a file with several.
    keep : column -> the values it must have; other rows are left out, and counted.
    coverage : where the source knows something; "complete" for the whole grid.
    licence, attribution : as the owner asks; every layer made from it carries them.
    """

    path: str | tuple[str, ...]
    _: KW_ONLY
    name: Name | None = None
    layer: str | None = None
    keep: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    coverage: Literal["complete"] | Coverage | None = None
    licence: str | None = None
    attribution: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Files and patterns as given."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def where(self) -> str:
        """The source in a message."""
        return self.paths[0] if len(self.paths) == 1 else f"{self.paths[0]} and {len(self.paths) - 1} more"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PointTable(TableSource):
    """What every table of points may say.

    Parameters
    ----------
    columns : names of the columns of a text file that has no header line.
    x, y : columns; found by their usual names, or taken from the geometry, when not given.
    crs : of x and y.
    max_rejected : share of rows that may be rejected before it is an error.
    """

    columns: tuple[str, ...] = ()
    x: str | None = None
    y: str | None = None
    crs: str = "EPSG:4326"
    max_rejected: float = Field(default=0.05, ge=0, le=1)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class EventSource(PointTable):
    """Points in time, or, where the user says so, without one: crashes, citations, signals.

    Parameters
    ----------
    date, time, severity : columns; found by their usual names when not given.
    date_order : of dates such as 01/02/2024; found from the file when not given.
    timezone : instants (epoch numbers, times with an offset) become local times here; without it an
        offset is not applied.
    undated : there are no dates; `period` may say what dates [from, to) the file tells of. Points are, unless
        `date` is given.
    severities : what the file writes -> K, A, B, C, O or another key of `weights`; the usual words are known.
    weights : of a severity-weighted count: key -> weight, or the name of a preset.
    by : columns of modes or types, each of whose values is counted in a column of its own.
    kernels_m : bandwidths of kernel-smoothed counts of past events.
    nearest : whether the distance to the nearest past event is a column.
    id : column that names an event.
    drop_duplicates : rows with the same id, or the same place and time, count once.
    not_in : names of sources whose events this one must not repeat: the same id where both name theirs,
        else the same place, within a metre, and minute.
    """

    date: str | None = None
    time: str | None = None
    date_order: Literal["month first", "day first"] | None = None
    timezone: str | None = None
    undated: bool = False
    period: tuple[datetime.date, datetime.date] | None = None
    severity: str | None = None
    severities: dict[str, str] = Field(default_factory=dict)
    weights: str | dict[str, Weight] | None = None
    by: tuple[str, ...] = ()
    kernels_m: tuple[Metres, ...] = ()
    nearest: bool = False
    id: str | None = None
    drop_duplicates: Literal["id", "place and time"] | None = None
    not_in: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        if self.period is not None and self.date is not None:
            raise ValueError("period is for rows without dates, and `date` names their column; leave one out")
        if self.period is not None and self.period[0] >= self.period[1]:
            raise ValueError(f"period {self.period[0]} {self.period[1]} ends before it starts")
        if self.undated and (self.date or self.time):
            raise ValueError("undated = true, and a column of dates; leave one out")
        twice = [name for name in self.by if self.by.count(name) > 1]
        if twice:
            raise ValueError(f"by names {twice[0]!r} twice; leave one out")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LineSource(TableSource):
    """Road centre-lines.

    Parameters
    ----------
    class_column, lanes_column, speed_column, oneway_column : found by their usual names when not given.
    length_column : metres of the whole line, where the geometry is only a sketch of it.
    speed_unit : of speed limits written without one.
    """

    class_column: str | None = None
    length_column: str | None = None
    lanes_column: str | None = None
    speed_column: str | None = None
    oneway_column: str | None = None
    speed_unit: Literal["km/h", "mph"] = "km/h"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TrafficSource(PointTable):
    """Volumes (AADT, vehicles a day) on lines or at points.

    Parameters
    ----------
    aadt : column; found by its usual names, or as columns named by year, when not given.
    year : that `aadt` tells of.
    years : column -> year, where there are several; columns named by year alone are found.
    each_year : whether each year is a column of its own.
    max_distance_m : a point farther than this from every road counts on none.
    impute : roads without a count get the median of their class, and are flagged.
    """

    aadt: str | None = None
    year: int | None = None
    years: dict[str, int] = Field(default_factory=dict)
    each_year: bool = False
    max_distance_m: Metres = 30.0
    impute: Literal["class median"] | None = None

    def __post_init__(self) -> None:
        if self.aadt is not None and self.years:
            raise ValueError("aadt names one column and years several; leave one out")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AreaSource(TableSource):
    """Polygons with facts, such as census tracts.

    Parameters
    ----------
    sums : columns that are totals of a polygon (people): shared out.
    means : columns that are levels (income): averaged.
    weight : what shares them out: area, or the road inside the polygon.
    """

    sums: tuple[str, ...] = ()
    means: tuple[str, ...] = ()
    weight: Literal["area", "roads"] = "area"


@dataclass(frozen=True, config=STRICT)
class RasterSource:
    """A raster as facts: elevation, slope, land cover, night lights.

    Parameters
    ----------
    name : in columns and the account; else the file stem.
    fact : `mean` of the values, `share` of each class, or mean `slope` of an elevation.
    band : counted from 1.
    unit : of the values.
    licence, attribution : as the owner asks; every layer made from it carries them.
    """

    path: str
    _: KW_ONLY
    name: Name | None = None
    fact: Literal["mean", "share", "slope"] = "mean"
    band: int = Field(default=1, ge=1)
    unit: str = ""
    licence: str | None = None
    attribution: str | None = None

    @property
    def paths(self) -> tuple[str]:
        """The file."""
        return (self.path,)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LabelSettings:
    """What is called high risk.

    Parameters
    ----------
    column : the measure; the label-window count of the only crash source when not given. With `path`
        the column of that file.
    share : of eligible tiles that is high risk, as near as ties allow.
    per : a column of exposure; the measure becomes a rate.
    path : labels made elsewhere: a table with `tile_id`, polygons or points.
    layer : of a file with several.
    x, y, crs : of a table of points.
    """

    column: str | None = None
    share: float = Field(default=0.2, gt=0, lt=1)
    per: str | None = None
    path: str | None = None
    layer: str | None = None
    x: str | None = None
    y: str | None = None
    crs: str = "EPSG:4326"

    def __post_init__(self) -> None:
        if self.path is not None and self.column is None:
            raise ValueError("[label] path needs `column`, the column of that file that is learned")
