"""Road centre-lines: each street once, with its class, its length on the ground and what is written of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import geopandas
import numpy as np
import pandas as pd
import shapely

from roadrisk.errors import SourceError
from roadrisk.grid import Grid
from roadrisk.source_settings import LineSource
from roadrisk.sources.account import Account
from roadrisk.sources.attributes import lanes_of, speeds_kmh, unreadable, ways
from roadrisk.sources.classes import MAX_CLASSES, is_osm, road_classes
from roadrisk.sources.line_files import (
    IDS,
    check_overlap,
    line_files,
    parts_near,
    sound_metres,
)
from roadrisk.sources.names import listed
from roadrisk.sources.parts import account_of, lost_reasons, met_of
from roadrisk.sources.rows import check_kept
from roadrisk.sources.streets import drawn, each_once, exploded
from roadrisk.sources.tables import as_text

LISTED_AGAIN = "listed again (other direction or a copy)"

_PLAUSIBLE = (0.5, 2.0)  # declared metres over geometric ones, all lines together
_KEPT = ["source_row", "road_class", "length_m", "lanes", "speed_kmh", "oneway"]


@dataclass(frozen=True)
class Lines:
    """Centre-lines that touch a grid, and what became of the rows they came from.

    Parameters
    ----------
    name : of the source.
    table : a row a line, in the grid's CRS: `source_row` (0 is the first row of the first file; the parts of
        a multi-line share it), `road_class` (text or null), `length_m` (ground metres of the whole line,
        inside the grid and out), `lanes` and `speed_kmh` (NaN where unknown), `oneway` (null where nothing is
        written), geometry, which runs with the traffic where that is one-way. A line without extent is a
        loop drawn as its one node, of a declared length.
    understood : how the files were read, one line a thing, for people.
    """

    name: str
    table: geopandas.GeoDataFrame
    account: Account
    understood: tuple[str, ...]


def read_lines(source: LineSource, grid: Grid) -> Lines:
    """The centre-lines of a source that touch the grid, each street once.

    A street listed in both directions is one street: unordered (u, v, osm id) and length, or, without these
    columns, the same geometry in either direction. Of its rows the longest stands, so that the order
    of rows decides nothing.

    Raises
    ------
    SourceError : no such file, no lines, no CRS or a wrong one, a column that is not there, or a declared
        length that contradicts the geometry.
    """
    files = line_files(source, grid)
    parts = list(parts_near(files))
    check_kept(source.keep, met_of(parts, source.keep), source.where)
    name = source.name or "roads"
    check_overlap(account_of(name, parts), parts, files[0])
    every = pd.concat([p.kept for p in parts], ignore_index=True)
    lines, length_said = _with_lengths(every, source)
    # files that lack a column do not hide that of the others
    columns = {what: name for file in reversed(files) for what, name in file.columns.items()}
    lines, class_said, not_roads = _with_classes(lines, columns, source)
    lines, written_said = _with_attributes(lines, columns, source)
    once = each_once(lines)
    account = account_of(name, parts, {**not_roads, LISTED_AGAIN: len(lines) - len(once)})
    frame = exploded(once).reset_index(drop=True)
    if not account.used:
        raise SourceError(
            f"{source.where}: no line can be used: {lost_reasons(account)}; give centre-lines of roads"
        )
    return Lines(
        name=account.source,
        table=geopandas.GeoDataFrame(frame[_KEPT], geometry=frame["geometry"].to_numpy(), crs=grid.crs),
        account=account,
        understood=(
            *(f"{f.table.path.name}: {f.table.understood}" for f in files),
            class_said,
            length_said,
            *written_said,
            _identity_said(columns),
        ),
    )


def joined_lines(sources: Sequence[Lines]) -> tuple[Lines, tuple[Lines, ...]]:
    """The centre-lines of several sources as one network, and the sources with their accounts mended.

    A line drawn as one of an earlier source is drawn, to a decimetre and in either direction, is the same
    street and counts once: extracts of neighbouring counties share the streets on their border.
    """
    mended, seen = [], pd.Index([], dtype=object)
    for lines in sources:
        # pointwise: otherwise all lines below a decimetre would become one empty line
        rounded = shapely.set_precision(lines.table.geometry.to_numpy(), 0.1, mode="pointwise")
        shapes = pd.Index(drawn(rounded))
        new = ~shapes.isin(seen)
        table = lines.table[new]
        used = int(table["source_row"].nunique())
        left_out = Counter(lines.account.left_out)
        left_out[LISTED_AGAIN] += lines.account.used - used
        account = replace(lines.account, used=used, left_out=dict(left_out))
        mended.append(replace(lines, table=table, account=account))
        seen = seen.union(shapes[new], sort=False)
    joined = pd.concat([lines.table for lines in mended], ignore_index=True)
    return replace(mended[0], name="roads", table=joined), tuple(mended)


def _with_lengths(lines: pd.DataFrame, source: LineSource) -> tuple[pd.DataFrame, str]:
    """Lines with `declared_m`, and `length_m`: as declared where that is sound, else of the geometry."""
    ground = lines["ground_m"]
    from_geometry = lines.assign(declared_m=np.nan, length_m=ground)
    if "length" not in lines:
        return from_geometry, "length from the geometry"
    declared = sound_metres(lines["length"])
    known, drawn_m = declared.notna(), ground.where(declared.notna()).sum()
    if not known.any():
        return from_geometry, "length from the geometry: the column of lengths holds none"
    # loops drawn as points alone contradict nothing
    ratio = declared[ground > 0].sum() / drawn_m if drawn_m else 1.0
    said = f"the declared length is {ratio:.3g} times that of the geometry"
    if not _PLAUSIBLE[0] <= ratio <= _PLAUSIBLE[1]:
        if source.length_column is not None:
            raise SourceError(
                f"{source.where}: {said}, so {source.length_column!r} is not the metres of the lines; "
                "leave length_column out"
            )
        return from_geometry, f"length from the geometry: {said}, so not taken for metres"
    missing = f"; {int((~known).sum()):,} lines without one from the geometry" if not known.all() else ""
    loops = int((ground == 0).sum())
    missing += f"; {loops:,} loops drawn as a point have theirs" if loops else ""
    lines = lines.assign(declared_m=declared, length_m=declared.where(known, ground))
    return lines, f"length as declared: {said}{missing}"


def _with_classes(
    lines: pd.DataFrame, columns: Mapping[str, str], source: LineSource
) -> tuple[pd.DataFrame, str, dict[str, int]]:
    """Lines with `road_class`, without those not for cars; what was understood; rows left out by reason."""
    column = columns.get("road_class")
    if column is None or "road_class" not in lines:
        lines = lines.assign(road_class=pd.array([None] * len(lines), dtype="string"))
        return lines, "no column of road class", {}
    values = pd.Series(as_text(lines["road_class"]), index=lines.index, dtype="string")
    if not is_osm(values):
        if values.nunique() > MAX_CLASSES:
            raise SourceError(
                f"{source.where}: {column!r} has {values.nunique():,} values, too many for road "
                "classes; name the right column with class_column in the region file"
            )
        said = f"class from {column!r}, all kept"
        if values.isna().any():
            said += (
                f"; {int(values.isna().sum()):,} of {len(values):,} lines have none, so no column of a class"
            )
        return lines.assign(road_class=values), said, {}
    classes = road_classes(values)
    road = classes.notna()
    left_out = Counter(values[~road].fillna("none"))
    names = sorted(left_out, key=lambda name: (-left_out[name], name))
    printable = ["".join(c for c in name[:40] if c.isprintable()) for name in names[:4]]
    shown = ", ".join([*printable, *(["..."] if len(names) > 4 else [])])
    said = f"class from {column!r}, as OpenStreetMap has it"
    several = int(values[road].str.startswith("[").sum())
    if several:
        said += f"; {several:,} lines with several take the highest"
    reasons = {f"not a road for cars ({shown})": int((~road).sum())} if not road.all() else {}
    return lines.assign(road_class=classes)[road], said, reasons


def _with_attributes(
    lines: pd.DataFrame, columns: Mapping[str, str], source: LineSource
) -> tuple[pd.DataFrame, list[str]]:
    """Lines with `lanes`, `speed_kmh` and `oneway`, drawn with the traffic; and what was understood."""
    unit, n = source.speed_unit, len(lines)
    unknown = pd.Series(np.full(n, None, dtype=object), index=lines.index)
    text = {what: lines.get(what, unknown) for what in ("lanes", "speed", "oneway")}
    read = {
        "lanes": lanes_of(text["lanes"]),
        "speed": speeds_kmh(text["speed"], unit),
        "oneway": ways(text["oneway"]),
    }
    way = read["oneway"]
    geometry = lines["geometry"].to_numpy(copy=True)
    geometry[way < 0] = shapely.reverse(geometry[way < 0])
    lines = lines.assign(
        geometry=geometry,
        lanes=read["lanes"],
        speed_kmh=read["speed"],
        oneway=pd.Series(way != 0, index=lines.index).astype("boolean").mask(np.isnan(way)),
    )
    units = {"speed": f", {unit} where no unit is written"}
    said = []
    for what in ("lanes", "speed", "oneway"):
        if what in columns:
            lost, shown = unreadable(text[what], read[what])
            unread = f"; {lost:,} cannot be read ({shown})" if lost else ""
            known = int(np.isfinite(read[what]).sum())
            name = columns[what]
            said.append(f"{what} from {name!r}{units.get(what, '')}: {known:,} of {n:,} lines{unread}")
    return lines, said


def _identity_said(columns: Mapping[str, str]) -> str:
    if "way" in columns:
        return f"a street is one unordered {listed([columns[what] for what in IDS])} of one length"
    return "a street is one geometry, in either direction"
