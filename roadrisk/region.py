"""A region: one metro and its sources, from a TOML file, from flags, or both.

The dataclasses here are the schema of the region file. A key that is not a field is an error that
names the file, the place and the nearest right key. Defaults stand only here.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from roadrisk.columns import word
from roadrisk.errors import RegionError
from roadrisk.grid import Grid
from roadrisk.gridding import checked_bbox, checked_tile_size, grid_of_cell, grid_of_shape, grid_of_zoom
from roadrisk.schema import checked
from roadrisk.source_settings import (
    STRICT,
    AreaSource,
    Coverage,
    EventSource,
    ImagerySource,
    LabelSettings,
    LineSource,
    Name,
    RasterSource,
    TableSource,
    TrafficSource,
)

GRID_KEYS = ("zoom", "cell", "shape")


@dataclass(frozen=True, config=STRICT)
class Region:
    """One metro, its grid and its sources.

    Parameters
    ----------
    name : for people; else that of the dataset's folder.
    bbox : west, south, east, north in degrees.
    zoom, cell, shape : exactly one: XYZ zoom, metres, or (rows, cols).
    crs : of a `cell` or `shape` grid; else the UTM zone of the box's centre.
    tile_size : pixels along a side of a tile's picture.
    compress : of the pictures: `zstd` loses nothing, `jpeg` is smaller.
    context : tiles along a side of the neighbourhood that the view `context` shows; odd, 1 is none.
    stretch_of : a model or a dataset whose stretch of more than 8 bit is used, else it is measured.
    area : polygons, the region's outline inside the box; a tile carries the share of it inside.
    crashes, citations : events; citations measure enforcement, so models use them only when asked.
    points : places without dates, such as signals.
    label_window, feature_window : dates [from, to).
    windows : further windows by name, each a column of every dated source.
    min_coverage : a tile with less picture counts as without one.
    drop_uncovered : tiles without picture are neither trained on nor scored.
    """

    name: str | None = None
    bbox: tuple[float, ...] | None = None
    zoom: int | None = None
    cell: float | None = None
    shape: tuple[int, int] | None = None
    crs: str | None = None
    tile_size: int = 256
    compress: Literal["zstd", "jpeg"] = "zstd"
    context: int = Field(default=1, ge=1, le=31)
    stretch_of: str | None = None
    area: str | None = None
    imagery: tuple[ImagerySource, ...] = ()
    roads: tuple[LineSource, ...] = ()
    crashes: tuple[EventSource, ...] = ()
    citations: tuple[EventSource, ...] = ()
    points: tuple[EventSource, ...] = ()
    traffic: tuple[TrafficSource, ...] = ()
    areas: tuple[AreaSource, ...] = ()
    rasters: tuple[RasterSource, ...] = ()
    label_window: tuple[date, date] | None = None
    feature_window: tuple[date, date] | None = None
    windows: dict[Name, tuple[date, date]] = Field(default_factory=dict)
    min_coverage: float = Field(default=0.9, ge=0, le=1)
    drop_uncovered: bool = False
    label: LabelSettings = LabelSettings()

    def __post_init__(self) -> None:
        if self.context % 2 == 0:
            raise ValueError(f"--context {self.context} is even; the tile is in the middle of an odd number")
        if self.context > 1 and any(source.view == "context" for source in self.imagery):
            raise ValueError("--context makes the view `context`; give the source's view another name")
        flags = {"--label-window": self.label_window, "--feature-window": self.feature_window}
        for name, window in (flags | {f"windows.{name}": w for name, w in self.windows.items()}).items():
            if window is not None and window[0] >= window[1]:
                raise ValueError(
                    f"{name} {window[0]} {window[1]} ends before it starts; dates are [from, to)"
                )
        taken = {"label", "feature", "past", "count"} & set(self.windows)
        if taken:
            raise ValueError(f"windows.{min(taken)}: that end of a column name is taken; choose another name")
        if self.label.path is not None and self.label_window is None and (self.crashes or self.citations):
            raise ValueError(
                "[label] path: labels tell of dates too; give --label-window, so that no fact knows them"
            )
        for source in (*self.crashes, *self.citations):
            if source.period is not None and not source.undated:
                raise ValueError(f"{source.where}: period is for rows without dates; say undated = true, too")
            if isinstance(source.coverage, Coverage) and source.coverage.path is None and not source.undated:
                raise ValueError(
                    f"{source.where}: coverage from its own rows would know the label window; give the "
                    "coverage a `path` of its own: polygons, streets or earlier events"
                )

    def grid(self) -> Grid:
        """The region's tiles.

        Raises
        ------
        GridError : no box, or not exactly one of zoom, cell and shape.
        """
        checked_tile_size(self.tile_size)
        if self.bbox is None:
            raise RegionError("no region: give --bbox W S E N, or `bbox` in the region file")
        given = [n for n in ("zoom", "cell", "shape") if getattr(self, n) is not None]
        if len(given) != 1:
            said = f"{' and '.join(given)} given" if given else "none given"
            raise RegionError(f"a grid needs exactly one of --zoom, --cell and --shape; {said}")
        box = checked_bbox(self.bbox)
        if self.zoom is not None:
            if self.crs is not None:
                raise RegionError(
                    "--zoom makes XYZ tiles, which are EPSG:3857; leave --crs out or use --cell"
                )
            return grid_of_zoom(box, self.zoom)
        if self.cell is not None:
            return grid_of_cell(box, self.cell, self.crs)
        rows, cols = self.shape or (0, 0)
        return grid_of_shape(box, rows, cols, self.crs)

    def view_names(self) -> tuple[str, ...]:
        """The pictures of a tile that the region's sources make, in their order, then its `context`."""
        views = tuple(dict.fromkeys(source.view for source in self.imagery))
        return (*views, "context") if views and self.context > 1 else views

    def event_sources(self) -> tuple[EventSource, ...]:
        """Crashes, citations and points, each with a name of its own; points may have no dates."""
        points = tuple(replace(source, undated=source.date is None) for source in self.points)
        return (
            *named_sources(self.crashes, "crashes"),
            *named_sources(self.citations, "citations"),
            *named_sources(points, "points"),
        )

    def table_sources(self) -> tuple[TableSource | RasterSource, ...]:
        """Every source of facts, each with a name of its own, in the order of the fields.

        Raises
        ------
        RegionError : two share a name.
        """
        sources: tuple[TableSource | RasterSource, ...] = (
            *named_sources(self.roads, "roads"),
            *self.event_sources(),
            *named_sources(self.traffic, "traffic"),
            *named_sources(self.areas, "areas"),
            *named_sources(self.rasters, None),
        )
        names = [*self.view_names(), *(str(source.name) for source in sources)]
        for name in names:
            if names.count(name) > 1:
                raise RegionError(f"two sources are called {name}; give each its own `name` in a region file")
        return sources


def read_region(path: Path) -> Region:
    """The region a TOML file describes; relative paths in it start from its folder.

    Raises
    ------
    RegionError : not TOML, an unknown key, a value that does not fit, or a `${NAME}` that is not set.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RegionError(f"no such region file: {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RegionError(f"{path} is not TOML: {error}") from None
    return region_of(_with_paths(table, path), where=str(path))


def region_of(table: dict[str, Any], where: str = "flags") -> Region:
    """A region from plain values, checked against the schema."""
    region: Region = checked(Region, table, where, RegionError)
    return region


def with_flags(region: Region, flags: dict[str, Any]) -> Region:
    """`region` with the flags that were given in place of its own values.

    A grid flag replaces the region's grid: `--cell` on a region with `zoom` is a cell grid.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    kept = {f.name: getattr(region, f.name) for f in fields(Region)}
    if any(name in given for name in GRID_KEYS):
        kept.update(dict.fromkeys(GRID_KEYS))
    return region_of({**kept, **given})


def _with_paths(table: dict[str, Any], file: Path) -> dict[str, Any]:
    """`table` with the paths of its sources expanded and made independent of the current folder."""

    def expanded(value: str, place: str) -> str:
        if _is_address(value):
            return value  # its ${NAME} may be a key, which is nobody's to keep

        def variable(match: re.Match[str]) -> str:
            name = match[1]
            if name not in os.environ:
                raise RegionError(
                    f"{file}: {place} needs the folder ${{{name}}}; set it: {name}=FOLDER roadrisk ..."
                )
            # the user typed it, so it starts from where the user stands
            return os.path.abspath(os.path.expanduser(os.environ[name]))  # noqa: PTH100, PTH111

        path = re.sub(r"\$\{(\w+)\}", variable, value)
        if _is_address(path):
            return path
        return os.path.join(file.parent, os.path.expanduser(path))  # noqa: PTH118, PTH111

    def walk(value: Any, place: str, is_path: bool) -> Any:
        if isinstance(value, dict):
            return {k: walk(v, f"{place}.{k}", is_path=k == "path") for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v, f"{place}[{i}]", is_path) for i, v in enumerate(value)]
        return expanded(value, place) if is_path and isinstance(value, str) else value

    return {k: walk(v, k, is_path=k in ("area", "stretch_of")) for k, v in table.items()}


def _is_address(path: str) -> bool:
    return "://" in path or "{z}" in path or path.startswith(("xyz:", "stac:", "/vsi"))


Source = TypeVar("Source", LineSource, EventSource, TrafficSource, AreaSource, RasterSource)


def named_sources(sources: tuple[Source, ...], kind: str | None) -> tuple[Source, ...]:
    """Sources with names: given, else their kind's, else the file stem when there are several or no kind."""
    alone = kind if len(sources) == 1 else None
    return tuple(
        s if s.name else replace(s, name=alone or word(Path(s.paths[0]).stem) or "source") for s in sources
    )
