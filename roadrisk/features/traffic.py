"""Volumes of traffic in each tile, and exposure: vehicle-kilometres a day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import geopandas
import numpy as np
import pandas as pd
import shapely

from roadrisk.columns import Column, Combine, Fact, Role
from roadrisk.errors import SourceError
from roadrisk.features.ratios import ratio
from roadrisk.geometry.lines import Spread, spread_lines, vertices
from roadrisk.grid import FloatArray, Grid, IntArray
from roadrisk.source_settings import TrafficSource
from roadrisk.sources.account import Account
from roadrisk.sources.lines import Lines
from roadrisk.sources.streets import drawn
from roadrisk.sources.traffic import Traffic

MIN_COUNTS = 3  # roads of a class whose median stands for the rest of the class


@dataclass(frozen=True)
class TrafficFacts:
    """Facts made from volumes, what was done to make them, a line a thing, and the account after it."""

    facts: tuple[Fact, ...]
    said: tuple[str, ...]
    account: Account


@dataclass(frozen=True)
class _Carried:
    """The lines that carry volumes, spread over tiles, and their (L,) metres."""

    spread: Spread
    length_m: FloatArray

    def sums(self, values: pd.Series) -> FloatArray:
        """(size,) sums of metres x the value of the line; lines without a value add none."""
        return self.spread.sums(np.nan_to_num(self.length_m * values.to_numpy(dtype=np.float64)))

    def metres_known(self, values: pd.Series) -> FloatArray:
        """(size,) metres of the lines that have a value."""
        return self.sums(values.where(values.isna(), 1.0))


def traffic_columns(traffic: Traffic, roads: Lines | None, grid: Grid, source: TrafficSource) -> TrafficFacts:
    """Volume and exposure of each tile, each column with its (rows * cols,) values in (row, col) order.

    `<name>_vkm_day` is the sum over pieces of road in the tile of AADT x length (as in the HSM's exposure),
    `<name>_aadt` the mean volume weighted by length, `<name>_m` the metres that have a volume. A tile
    without any has neither volume nor exposure: they are missing, not 0. Where some volume is of no known
    year, the columns have no window.

    A count at a point is carried by the nearest road over its whole length; of several on one road the
    newest year's count, by their mean.

    Parameters
    ----------
    roads : centre-lines of the region; needed by counts at points.

    Raises
    ------
    SourceError : counts at points, and no road, or none near any of them; or no count to impute from.
    """
    name, account = traffic.name, traffic.account
    lines, said = traffic.table, list[str]()
    if not traffic.on_lines:
        lines, matched_said, account = _on_roads(traffic, roads, grid, source)
        said.extend(matched_said)
    if source.impute is not None:
        if lines["aadt"].isna().all():
            raise SourceError(
                f"{source.where}: impute needs a count of before the label window to take a median of, and "
                "there is none; leave impute out"
            )
        lines, imputed_said = _imputed(lines)
        said.append(imputed_said)
    volumes = ["aadt", *(f"aadt_{year}" for year in traffic.years)]
    lines = lines[lines[volumes].notna().any(axis=1)]
    carried = _Carried(spread_lines(grid, *vertices(lines.geometry.to_numpy())), lines["length_m"].to_numpy())
    window = None if traffic.undated else _window(lines["aadt_year"])
    said.extend(_undated_said(traffic))
    columns = _volume_columns(name, "", lines["aadt"], carried, window, "feature")
    said.append(_metres_said(lines["aadt"], columns[2][1]))
    if window is not None:
        columns.append(_year_column(name, lines["aadt_year"], carried, window))
    if source.impute is not None:
        columns.extend(_imputed_columns(name, lines, carried, window))
    for year in traffic.years:
        late = traffic.before is not None and year >= traffic.before.year
        volume, of_year = lines[f"aadt_{year}"], _window(pd.Series([year]))
        columns.extend(
            _volume_columns(name, f"_{year}", volume, carried, of_year, "info" if late else "feature")
        )
    return TrafficFacts(tuple(columns), tuple(said), account)


def _on_roads(
    traffic: Traffic, roads: Lines | None, grid: Grid, source: TrafficSource
) -> tuple[geopandas.GeoDataFrame, tuple[str, ...], Account]:
    """Roads with the volumes of the counts nearest them, how they were matched, and the account after it."""
    if roads is None:
        raise SourceError(
            f"{source.where}: counts at points need roads to stand on; give centre-lines with --roads, or "
            "volumes on lines"
        )
    points = traffic.table
    point, line, metres = _nearest(points, roads, grid, source.max_distance_m)
    if not len(point):
        _, _, nearest = _nearest(points, roads, grid, None)
        raise SourceError(
            f"{source.where}: none of its {len(points):,} counts is within {source.max_distance_m:g} m of a "
            f"road, the nearest is {nearest.min():,.0f} m away; check the CRS of both, "
            "or give a larger max_distance_m"
        )
    unmatched = len(points) - len(point)
    reason = f"no road within {source.max_distance_m:g} m"
    account = replace(
        traffic.account,
        used=traffic.account.used - unmatched,
        left_out={**traffic.account.left_out, reason: unmatched},
    )
    volumes = _by_road(points.iloc[point].assign(line=line), traffic.years)
    table = roads.table[["source_row", "road_class", "length_m", "geometry"]].reset_index(drop=True)
    several = len(point) - len(volumes)
    said = (
        f"{len(point):,} counts matched to {len(volumes):,} roads, {unmatched:,} without a road within "
        f"{source.max_distance_m:g} m; distance {np.median(metres):.1f} m (median), {metres.max():.1f} m "
        f"(largest)",
        f"{several:,} counts share a road with another: the mean of the newest year's stands",
    )
    return table.join(volumes), said if several else said[:1], account


def _nearest(
    points: geopandas.GeoDataFrame, roads: Lines, grid: Grid, distance_m: float | None
) -> tuple[IntArray, IntArray, FloatArray]:
    """(M,) points that have a road within a distance, (M,) which, and (M,) ground metres to it."""
    to_metres = grid.cell_m / grid.cell
    shapes = roads.table.geometry.to_numpy()
    (point, line), distance = shapely.STRtree(shapes).query_nearest(
        points.geometry.to_numpy(),
        max_distance=None if distance_m is None else distance_m / to_metres,
        return_distance=True,
    )
    matches = pd.DataFrame({"point": point, "line": line, "metres": distance * to_metres})
    # a count on a junction is as near to all its roads; the longest, and no row order, decides
    tied = matches[matches.duplicated("point", keep=False)]
    matches["length_m"] = roads.table["length_m"].to_numpy()[line]
    matches["drawn"] = b""
    matches.loc[tied.index, "drawn"] = drawn(shapes[tied["line"]])
    once = matches.sort_values(["point", "length_m", "drawn"], ascending=[True, False, True])
    once = once.drop_duplicates("point")
    return once["point"].to_numpy(), once["line"].to_numpy(), once["metres"].to_numpy()


def _by_road(counts: pd.DataFrame, years: tuple[int, ...]) -> pd.DataFrame:
    """The volumes of each road that has a count: the mean of the newest year's, and of each year's."""
    each = [f"aadt_{year}" for year in years]
    # in the same order whatever that of the rows, so that sums agree to the last bit
    counts = counts.sort_values(["line", "aadt_year", "aadt", *each])
    newest = counts.groupby("line")["aadt_year"].transform("max")
    stands = counts[newest.isna() | (counts["aadt_year"] == newest)].groupby("line")
    return pd.concat([stands[["aadt", "aadt_year"]].mean(), counts.groupby("line")[each].mean()], axis=1)


def _imputed(lines: geopandas.GeoDataFrame) -> tuple[geopandas.GeoDataFrame, str]:
    """Lines of which those without a volume have the median of their class, and its mean year."""
    known = lines[lines["aadt"].notna()]
    of_class = known.groupby("road_class").agg(
        aadt=("aadt", "median"), aadt_year=("aadt_year", "mean"), n=("aadt", "size")
    )
    of_class = of_class[of_class["n"] >= MIN_COUNTS]
    unknown = lines["aadt"].isna()
    by_class = unknown & lines["road_class"].isin(of_class.index)
    given = lines.assign(imputed=unknown)
    for column, otherwise in (("aadt", known["aadt"].median()), ("aadt_year", known["aadt_year"].mean())):
        values = lines["road_class"].map(of_class[column]).astype("float64").fillna(otherwise)
        given[column] = lines[column].where(~unknown, values)
    of_all = int(unknown.sum() - by_class.sum())
    said = (
        f"{int(unknown.sum()):,} lines without a volume have an imputed one: {int(by_class.sum()):,} the "
        f"median of their class, {of_all:,} that of all, {known['aadt'].median():,.0f}, as fewer than "
        f"{MIN_COUNTS} lines of their class have one"
    )
    return given, said


def _window(years: pd.Series) -> tuple[str, str] | None:
    """The years that volumes are of; none where they are not known."""
    known = years.dropna()
    if not len(known):
        return None
    return f"{int(known.min())}-01-01", f"{int(np.ceil(known.max())) + 1}-01-01"


def _volume_columns(
    name: str,
    suffix: str,
    aadt: pd.Series,
    carried: _Carried,
    window: tuple[str, str] | None,
    role: Role,
) -> list[Fact]:
    """`_aadt`, `_vkm_day` and `_m` of one year, or of each line's newest."""
    metres, vehicle_m = carried.metres_known(aadt), carried.sums(aadt)
    of = f"of {suffix[1:]}" if suffix else "of the newest year that counts"
    weight = f"{name}_m{suffix}"

    def column(what: str, unit: str, role: Role, combine: Combine, meaning: str) -> Column:
        by = (weight,) if combine == "mean" else ()
        return Column(f"{name}_{what}{suffix}", "float64", unit, role, combine, meaning, name, window, by)

    return [
        (
            column(
                "aadt",
                "vehicles/day",
                role,
                "mean",
                f"Mean daily traffic {of} on the roads in the tile that have a volume, weighted by length.",
            ),
            ratio(vehicle_m, metres),
        ),
        (
            column(
                "vkm_day",
                "vehicle-km/day",
                "exposure",
                "sum",
                f"Vehicle-kilometres a day {of} on the roads in the tile that have a volume.",
            ),
            np.where(metres > 0, vehicle_m / 1000.0, np.nan),
        ),
        (column("m", "m", "info", "sum", f"Ground length of road in the tile with a volume {of}."), metres),
    ]


def _year_column(name: str, year: pd.Series, carried: _Carried, window: tuple[str, str]) -> Fact:
    meaning = "Mean year of the volumes in the tile, weighted by length."
    by = (f"{name}_m",)
    column = Column(f"{name}_year", "float64", "year", "info", "mean", meaning, name, window, by)
    return column, ratio(carried.sums(year), carried.metres_known(year))


def _imputed_columns(
    name: str, lines: pd.DataFrame, carried: _Carried, window: tuple[str, str] | None
) -> list[Fact]:
    """`_imputed_m` and `_imputed`, the share of `_m` that it is."""
    metres, imputed_m = carried.metres_known(lines["aadt"]), carried.sums(lines["imputed"])
    length = "Ground length of road in the tile whose volume is the median of its class."
    share = "Share of the road with a volume in the tile whose volume is the median of its class."
    by = f"{name}_imputed_m", f"{name}_m"
    return [
        (Column(by[0], "float64", "m", "info", "sum", length, name, window), imputed_m),
        (
            Column(f"{name}_imputed", "float64", "share", "info", "ratio", share, name, window, by),
            ratio(imputed_m, metres),
        ),
    ]


def _undated_said(traffic: Traffic) -> Iterator[str]:
    year = traffic.table["aadt_year"]
    counted, unknown = traffic.table["aadt"].notna(), year.isna()
    if traffic.undated and (counted & ~unknown).any():
        yield (
            f"{int((counted & unknown).sum()):,} of {int(counted.sum()):,} volumes are of no known year, so "
            "no dates are known of any; tell them with `year`, for each file as a source of its own"
        )


def _metres_said(aadt: pd.Series, metres: FloatArray) -> str:
    km, tiles = metres.sum() / 1000, int((metres > 0).sum())
    return (
        f"{aadt.notna().sum():,} lines have a volume: {km:,.1f} km in {tiles:,} of {len(metres):,} tiles; "
        "elsewhere it is missing"
    )
