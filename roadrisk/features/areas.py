"""Facts of polygons shared out to tiles by area, or by the road inside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from roadrisk.columns import Column, Fact, word
from roadrisk.errors import SourceError, UsageError
from roadrisk.features.ratios import ratio
from roadrisk.geometry.polygons import AreaPieces, covered_shares, split_polygons
from roadrisk.grid import FloatArray, Grid, IntArray
from roadrisk.source_settings import AreaSource
from roadrisk.sources.coverage import COVERED
from roadrisk.sources.polygons import Polygons

_OVERLAP = 1.01  # borders digitised twice overlap by less
_ROUNDING = 1e-9  # a half is a half


@dataclass(frozen=True)
class AreaFacts:
    """Facts made from polygons, and what was found out on the way, a line a thing."""

    facts: tuple[Fact, ...]
    said: tuple[str, ...]


def area_columns(
    polygons: Polygons, source: AreaSource, grid: Grid, road_m: FloatArray | None = None
) -> AreaFacts:
    """`<name>_<column>` of every sum and mean, in words, and `<name>_km2`, which weights the means.

    A sum gives a tile the share of a polygon's total that the tile has of the polygon's whole area, in the
    grid's CRS: areal interpolation of an extensive variable (Goodchild and Lam, 1980). With
    `weight="roads"` what a polygon has inside the grid goes to its tiles as the road metres of a tile,
    times the polygon's share of the tile (dasymetric interpolation); means stay by area. A mean is weighted
    by the areas of the polygons that know it. A tile's mean is missing where no polygon knows one, its sum
    where less than half of what polygons cover of it does: the rest would count as nothing.

    Parameters
    ----------
    road_m : (size,) metres of road, NaN where roads are unknown; only for `weight="roads"`.

    Raises
    ------
    UsageError : `weight="roads"` without `road_m`.
    SourceError : two columns of one name.
    """
    _check_names(source, polygons.name)
    pieces = split_polygons(grid, polygons.table.geometry.to_numpy())
    share = pieces.area / polygons.area[pieces.polygon]
    covered = covered_shares(grid, pieces)
    said = list(_overlap_said(covered))
    if source.weight == "roads":
        if road_m is None:
            raise UsageError(f"{polygons.name}: weight = 'roads' needs roads; give --roads or leave it out")
        share, roadless = _by_road(grid, pieces, share, road_m)
        if roadless:
            said.append(
                f"{roadless:,} of {len(np.unique(pieces.polygon)):,} polygons have no road in the grid, or "
                "tiles whose roads are unknown; shared out by area"
            )
    km2 = np.minimum(covered, 1.0) * grid.area_km2(*grid.every_tile())
    columns = [_km2_column(polygons, f"{polygons.name}_km2", "polygons", km2)]
    for name in source.sums:
        (column, sums), lost = _sum_column(polygons, name, grid, pieces, share, source.weight)
        columns.append((column, sums))
        said += lost
    for name in source.means:
        columns += _mean_columns(polygons, name, grid, pieces, km2)
    return AreaFacts(tuple(columns), tuple(said))


def _check_names(source: AreaSource, name: str) -> None:
    """Refuse columns that would have one name among ours."""
    ours = {"km2": f"{name}_km2", **{f"{_word(c)}_km2": f"the area that knows {c!r}" for c in source.means}}
    for column in (*source.sums, *source.means):
        ending = _word(column)
        if ending in ours:
            raise SourceError(
                f"{source.where}: {column!r} would be the column {name}_{ending}, as {ours[ending]} is; "
                "rename it in the file, or leave one out"
            )
        ours[ending] = repr(column)


def _overlap_said(covered: FloatArray) -> Iterator[str]:
    several = covered > _OVERLAP
    if several.any():
        yield (
            f"polygons overlap: {int(several.sum()):,} tiles are covered up to {covered.max():.2f} times, "
            "and sums count each time; leave copies and larger areas out with `keep`"
        )


def _by_road(grid: Grid, pieces: AreaPieces, share: FloatArray, road_m: FloatArray) -> tuple[FloatArray, int]:
    """Shares in proportion to road, in total those by area; and how many polygons they were no use for."""
    road = road_m[_tile(grid, pieces)] * pieces.area / grid.cell**2
    size = int(pieces.polygon.max(initial=-1)) + 1
    total, inside = (np.bincount(pieces.polygon, a, minlength=size) for a in (road, share))
    usable = (total > 0)[pieces.polygon]  # NaN is not
    with np.errstate(invalid="ignore", divide="ignore"):
        by_road = road / total[pieces.polygon] * inside[pieces.polygon]
    return np.where(usable, by_road, share), len(np.unique(pieces.polygon[~usable]))


def _sum_column(
    polygons: Polygons, name: str, grid: Grid, pieces: AreaPieces, share: FloatArray, weight: str
) -> tuple[Fact, list[str]]:
    """The sums, and what is lost of them in tiles that are mostly unknown."""
    values = polygons.table[name].to_numpy()[pieces.polygon]
    known, tile = ~np.isnan(values), _tile(grid, pieces)
    covered, known_area, sums = (
        np.bincount(tile, a, minlength=grid.size)
        for a in (pieces.area, pieces.area * known, np.nan_to_num(values * share))
    )
    enough = (known_area > 0) & (known_area >= COVERED * (1 - _ROUNDING) * covered)
    said, little = [], (known_area > 0) & ~enough
    if little.any():
        said.append(
            f"{name!r} is missing in {int(little.sum()):,} tiles where less than half of the polygons' area "
            f"has a number; {sums[little].sum():,.9g} of {sums.sum():,.9g} lie there"
        )
    by = "area" if weight == "area" else "road"
    meaning = f"Total of {name!r} of {polygons.name} in the tile, by {by}; missing where unknown."
    column = Column(f"{polygons.name}_{_word(name)}", "float64", "", "feature", "sum", meaning, polygons.name)
    return (column, np.where(enough, sums, np.nan)), said


def _mean_columns(
    polygons: Polygons, name: str, grid: Grid, pieces: AreaPieces, km2: FloatArray
) -> list[Fact]:
    """The mean, and its weight where that is not the area of all polygons."""
    values = polygons.table[name].to_numpy()[pieces.polygon]
    known = ~np.isnan(values)
    tile, area = _tile(grid, pieces)[known], pieces.area[known]
    weight = np.bincount(tile, area, minlength=grid.size)
    mean = ratio(np.bincount(tile, values[known] * area, minlength=grid.size), weight)
    made, by = [], f"{polygons.name}_km2"
    if not known.all():
        by = f"{polygons.name}_{_word(name)}_km2"
        everything = np.bincount(_tile(grid, pieces), pieces.area, minlength=grid.size)
        known_km2 = np.nan_to_num(ratio(weight, everything)) * km2
        made.append(_km2_column(polygons, by, f"polygons that know {name!r}", known_km2))
    meaning = f"Area-weighted mean of {name!r} of {polygons.name} in the tile; missing where unknown."
    of = polygons.name
    column = Column(f"{of}_{_word(name)}", "float64", "", "feature", "mean", meaning, of, by=(by,))
    return [*made, (column, mean)]


def _km2_column(polygons: Polygons, name: str, what: str, km2: FloatArray) -> Fact:
    meaning = f"Ground area of the tile inside {what} of {polygons.name}."
    return Column(name, "float64", "km2", "info", "sum", meaning, polygons.name), km2


def _word(column: str) -> str:
    return word(column) or "blank"


def _tile(grid: Grid, pieces: AreaPieces) -> IntArray:
    return pieces.row * grid.cols + pieces.col
