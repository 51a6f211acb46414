"""A region's sources, opened, checked, read and joined to the tiles; nothing is written in the dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import Column, Fact
from roadrisk.errors import RegionError
from roadrisk.features.areas import area_columns
from roadrisk.features.events import CRASHES, ENFORCEMENT, UNDATED, event_columns, told_windows
from roadrisk.features.network import network_columns
from roadrisk.features.roads import road_columns, share_far_from_lines, tiles_without
from roadrisk.features.traffic import traffic_columns
from roadrisk.features.windows import (
    Window,
    Windows,
    check_label_window,
    check_leakage,
    chosen_windows,
    in_window,
)
from roadrisk.files import identity_of
from roadrisk.grid import FloatArray, Grid
from roadrisk.region import Region, named_sources
from roadrisk.rights import Rights
from roadrisk.source_settings import (
    AreaSource,
    Coverage,
    RasterSource,
    TableSource,
    TrafficSource,
)
from roadrisk.sources.account import Account
from roadrisk.sources.coverage import COVERED, CoveredShare, read_coverage, read_outline
from roadrisk.sources.events import Events, inside_coverage, read_events, weighted, without_others
from roadrisk.sources.lines import Lines, joined_lines, read_lines
from roadrisk.sources.polygons import read_polygons
from roadrisk.sources.rasters import raster_columns
from roadrisk.sources.tables import found_files
from roadrisk.sources.traffic import read_traffic

FAR_M = 50.0
ROADS = "roads"
UNKNOWN_YEAR = "of no known year, so it may tell of the label window; say its `year`"
VIEW_COLUMNS = ("coverage", "taken_first", "taken_last")
RESERVED = (
    *("tile_id", "row", "col", "geometry", "bbox", "eligible", "dropped"),
    *("label", "label_value", "label_rate"),
)

Facts = list[Fact]


@dataclass(frozen=True)
class Joined:
    """What one source came to.

    Parameters
    ----------
    facts : columns with their (rows * cols,) values.
    said : what people should know of it, a line a thing.
    """

    name: str
    account: Account
    understood: tuple[str, ...]
    facts: Facts = field(default_factory=list)
    said: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What a dataset keeps of it."""
        return {
            "name": self.name,
            "account": self.account.as_json(),
            "understood": list(self.understood),
            "said": list(self.said),
        }


@dataclass(frozen=True, eq=False)
class Records:
    """A region's sources as read, and as joined to its tiles.

    Parameters
    ----------
    roads : centre-lines of all sources, each street once.
    events : crashes, citations and points.
    coverage : source -> what it covers, where that is declared.
    outline : `in_area`, where the region has an outline.
    joined : what became of each source, in the order of the region file.
    """

    grid: Grid
    windows: Windows
    roads: Lines | None
    events: tuple[Events, ...]
    coverage: dict[str, CoveredShare]
    outline: Facts
    joined: tuple[Joined, ...]

    @property
    def facts(self) -> Facts:
        """The columns of every source."""
        return [*self.outline, *(fact for joined in self.joined for fact in joined.facts)]


def read_records(region: Region, grid: Grid, folder: Path) -> Records:
    """Open, check and read every table of a region, and join it to the tiles.

    Parameters
    ----------
    folder : scratch space, to stand as long as the records are used.

    Raises
    ------
    RoadriskError : a source that cannot be used, or a fact that would know the label.
    """
    coverage = {
        str(source.name): read_coverage(source.coverage, source, grid)
        for source in region.table_sources()
        if isinstance(source, TableSource) and isinstance(source.coverage, Coverage)
    }
    events = _events(region, grid, folder, coverage)
    crashes, others = events[: len(region.crashes)], events[len(region.crashes) :]
    windows = chosen_windows(region.label_window, region.feature_window, region.windows, crashes, others)
    if windows.label is not None and crashes:
        check_label_window(crashes, windows.label)
    start = windows.label[0] if windows.label else None
    events = tuple(weighted(e, s, start) for e, s in zip(events, region.event_sources(), strict=True))
    roads, lines = _joined_roads(region, grid, coverage)
    # covered first: what people are shared out by is unknown where roads are
    lines = [_covered(j, coverage.get(j.name), grid) for j in lines]
    road_m = next((values for j in lines for column, values in j.facts if column.name == "road_m"), None)
    tables = [
        *_joined_events(region, events, grid, windows, roads, coverage),
        *(_joined_traffic(s, grid, windows, roads) for s in named_sources(region.traffic, "traffic")),
        *(_joined_areas(source, grid, road_m) for source in named_sources(region.areas, "areas")),
        *(_joined_raster(source, grid) for source in named_sources(region.rasters, None)),
    ]
    joined = (*lines, *(_covered(j, coverage.get(j.name), grid) for j in tables))
    outline = _outline(region, grid)
    columns = [column for facts in (outline, *(j.facts for j in joined)) for column, _ in facts]
    check_leakage(columns, windows.label)
    _check_names(columns, region.view_names())
    return Records(grid, windows, roads, events, coverage, outline, joined)


def covered_tiles(coverage: CoveredShare) -> NDArray[np.bool_]:
    """(rows * cols,) bool, the tiles that a source covers."""
    return np.asarray(coverage.share >= COVERED)


def _check_names(columns: Sequence[Column], views: Sequence[str]) -> None:
    """Nothing, if no column is called as another, or as one that every dataset or one of its views has."""
    sources: dict[str, str] = dict.fromkeys(RESERVED, "every dataset")
    sources |= {f"{what}_{view}": view for view in views for what in VIEW_COLUMNS}
    for column in columns:
        if column.name in sources:
            raise RegionError(
                f"two columns are called {column.name}: of {sources[column.name]} and of {column.source}; "
                "give a source or a window another name, or leave a column out of it"
            )
        sources[column.name] = str(column.source)


def _outline(region: Region, grid: Grid) -> Facts:
    """The share of each tile inside the region's outline, where there is one."""
    if region.area is None:
        return []
    meaning = "Share of the tile inside the region's outline."
    share = read_outline(region.area, grid).share
    if not share.any():
        raise RegionError(f"{region.area} shares nothing with the grid; check --area and --bbox")
    return [(Column("in_area", "float64", "share", "info", "mean", meaning), share)]


def source_plans(region: Region) -> dict[str, Any]:
    """Each source with its settings and the identity of its files, which decide what is read."""
    plans = {}
    for source in region.table_sources():
        files = [identity_of(path, hashed=True) for path in _files(source)]
        plans[str(source.name)] = {**_plain(asdict(source)), "identity": files}
    return plans


def rights_of(region: Region) -> tuple[Rights, ...]:
    """Licence and attribution of every source of facts."""
    return tuple(Rights(Path(s.paths[0]).name, s.licence, s.attribution) for s in region.table_sources())


def _events(
    region: Region, grid: Grid, folder: Path, coverage: dict[str, CoveredShare]
) -> tuple[Events, ...]:
    """Every source of points, inside its coverage and without what another has already."""
    known: dict[str, Events] = {}
    for source in region.event_sources():
        events = read_events(source, grid, folder)
        if events.name in coverage:
            events = inside_coverage(events, covered_tiles(coverage[events.name]).reshape(grid.shape))
        known[events.name] = events
    for source in region.event_sources():
        for name in source.not_in:
            if name not in known or name == source.name:
                raise RegionError(
                    f"{source.name}: not_in names {name!r}, which is no other source of events; "
                    f"there are {', '.join(known)}"
                )
        others = [known[name] for name in dict.fromkeys(source.not_in)]
        known[str(source.name)] = without_others(known[str(source.name)], others)
    return tuple(known.values())


def _joined_roads(
    region: Region, grid: Grid, coverage: dict[str, CoveredShare]
) -> tuple[Lines | None, list[Joined]]:
    """Centre-lines of all sources as one network, whose columns go with the first source."""
    sources = named_sources(region.roads, ROADS)
    if not sources:
        return None, []
    roads, lines = joined_lines(tuple(read_lines(source, grid) for source in sources))
    facts: Facts = [*road_columns(roads, grid), *network_columns(roads, grid)]
    said = []
    known = [coverage.pop(str(source.name)) for source in sources if source.name in coverage]
    if len(known) == len(sources):
        share = np.max([one.share for one in known], axis=0)
        coverage[lines[0].name] = CoveredShare(share, tuple(line for one in known for line in one.understood))
    elif not any(source.coverage == "complete" for source in sources):
        said.append(
            f"{ROADS}: {tiles_without(facts[0][1]):.0%} of tiles have none; no coverage is declared, so "
            "these count as having no road, and get no label"
        )
    joined = [Joined(line.name, line.account, line.understood) for line in lines]
    return roads, [replace(joined[0], facts=facts, said=tuple(said)), *joined[1:]]


def _joined_events(
    region: Region,
    events: Sequence[Events],
    grid: Grid,
    windows: Windows,
    roads: Lines | None,
    coverage: dict[str, CoveredShare],
) -> list[Joined]:
    withheld = {s.name: CRASHES for s in named_sources(region.crashes, "crashes")}
    withheld |= {s.name: ENFORCEMENT for s in named_sources(region.citations, "citations")}
    joined = []
    for one, source in zip(events, region.event_sources(), strict=True):
        known = coverage.get(one.name)
        mask = None if known is None else covered_tiles(known).reshape(grid.shape)
        facts = event_columns(one, grid, windows, source, mask, withheld.get(source.name, ""))
        said = [_windows_line(one, facts, windows)]
        if roads is not None and one.first is not None:
            said.append(_far_line(one, roads, grid))
        joined.append(Joined(one.name, one.account, one.understood, [*facts], tuple(said)))
    return joined


def _joined_traffic(source: TrafficSource, grid: Grid, windows: Windows, roads: Lines | None) -> Joined:
    traffic = read_traffic(source, grid, windows.label[0] if windows.label else None)
    made = traffic_columns(traffic, roads, grid, source)
    facts = [
        (replace(c, withheld=UNKNOWN_YEAR) if c.role == "feature" and c.window is None else c, values)
        for c, values in made.facts
    ]
    lines = tuple(f"{traffic.name}: {line}" for line in made.said)
    return Joined(traffic.name, made.account, traffic.understood, facts, lines)


def _joined_areas(source: AreaSource, grid: Grid, road_m: FloatArray | None) -> Joined:
    polygons = read_polygons(source, grid)
    made = area_columns(polygons, source, grid, road_m)
    lines = tuple(f"{polygons.name}: {line}" for line in made.said)
    return Joined(polygons.name, polygons.account, polygons.understood, [*made.facts], lines)


def _joined_raster(source: RasterSource, grid: Grid) -> Joined:
    made = raster_columns(source, grid)
    return Joined(made.name, Account(made.name, 1, 1, {}, 0), made.understood, [*made.facts])


def _covered(joined: Joined, coverage: CoveredShare | None, grid: Grid) -> Joined:
    """A source whose columns are missing, not 0, in tiles that it does not cover; what they held is said."""
    if coverage is None or not joined.facts:
        return joined
    name, covered = joined.name, covered_tiles(coverage)
    meaning = f"Share of the tile inside the coverage of {name}; below one half its columns are missing."
    column = Column(f"coverage_{name}", "float64", "share", "info", "mean", meaning, name)
    line = f"{name}: {int(covered.sum()):,} of {grid.size:,} tiles are inside the coverage"
    main, values = joined.facts[0]
    if main.combine == "sum" and not covered.all():
        total, kept = (float(np.nansum(values[mask])) for mask in (slice(None), covered))
        line += f"; {main.name} is {kept:,.0f} of {total:,.0f} {main.unit} there"
    return replace(
        joined,
        facts=[(column, coverage.share), *((c, np.where(covered, v, np.nan)) for c, v in joined.facts)],
        understood=(*joined.understood, *coverage.understood),
        said=(*joined.said, line),
    )


def _windows_line(events: Events, facts: Facts, windows: Windows) -> str:
    """How many events fall into each window, and what part of it the source tells of."""
    sums = {column.name: int(values.sum()) for column, values in facts if column.combine == "sum"}
    told = told_windows(events, windows)
    if UNDATED in told:
        return f"{events.name}: {sums[f'{events.name}_{UNDATED}']:,}, without dates"
    said = []
    for suffix, window in windows.by_suffix.items():
        which = f"in the {_WINDOWS.get(suffix, suffix)} window {window[0]} to before {window[1]}"
        part = told.get(suffix)
        if part is None:
            said.append(f"no column {which}: dated {events.first} to {events.last}")
        else:
            known = "" if part == window else f", of which it tells {part[0]} to before {part[1]}"
            said.append(f"{sums[f'{events.name}_{suffix}']:,} {which}{known}")
    told_all = [window for window in told.values() if window is not None]
    beyond = sum(int((~_in_any(batch["time"], told_all)).sum()) for batch in events.batches())
    if beyond:
        said.append(f"{beyond:,} in no window")
    return f"{events.name}: {'; '.join(said)}"


def _in_any(times: pd.Series, windows: Sequence[Window]) -> NDArray[np.bool_]:
    inside = [np.zeros(len(times), dtype=bool), *(in_window(times, window) for window in windows)]
    return np.asarray(np.any(inside, axis=0))


_WINDOWS = {"past": "feature"}


def _far_line(events: Events, roads: Lines, grid: Grid) -> str:
    far = total = 0.0
    for batch in events.batches():
        x, y = batch["x"].to_numpy(), batch["y"].to_numpy()
        if len(batch):
            far += share_far_from_lines(x, y, roads, grid, FAR_M) * len(batch)
            total += len(batch)
    return f"{events.name}: {far / max(total, 1):.0%} lie more than {FAR_M:g} m from any road"


def _files(source: TableSource | RasterSource) -> list[Path]:
    files = list(found_files(source.paths))
    coverage = source.coverage if isinstance(source, TableSource) else None
    if isinstance(coverage, Coverage) and coverage.path is not None:
        files += found_files((coverage.path,))
    return files


def _plain(value: Any) -> Any:
    """Dataclass values as JSON has them, dates as text."""
    return json.loads(json.dumps(value, default=str))
