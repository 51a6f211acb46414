"""Roads with the risk of the tiles that they cross."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.geometry.lines import ground_lengths, spread_lines, vertices
from roadrisk.grid import FloatArray, Grid, IntArray
from roadrisk.maps.bands import Ranking, ranked
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GivenShapes, GridTiles

ROAD_ID = Column("road_id", "object", "", "info", "none", "Name of the road.")
SCORED_SHARE = Column(
    "scored_share",
    "float64",
    "share",
    "info",
    "none",
    "Share of the road's length in scored tiles; its risk is that of this share alone.",
)
LENGTH = Column("length_m", "float64", "m", "info", "none", "Ground length of the whole road.")
TILES = Column("tiles", "int64", "", "info", "none", "Tiles of the grid that the road crosses.")
STANDING_COLUMNS = (
    Column("rank", "int64", "", "info", "none", "Place among the scored roads; 1 is the riskiest."),
    Column(
        "percentile",
        "float64",
        "%",
        "info",
        "none",
        "Scored length of roads with this risk or less; 100 is the riskiest.",
    ),
    Column(
        "band",
        "object",
        "",
        "info",
        "none",
        "Slice of the scored length of roads in order of risk, as usRAP cuts a network: by length, not by "
        "number; roads of the same risk are never parted.",
    ),
)
ENDS = ("risk_low", "risk_high")


@dataclass(frozen=True, eq=False)
class RoadLines:
    """N roads that touch a grid.

    Parameters
    ----------
    ids : (N,) texts, no two the same.
    geometry : (N,) lines or multi-lines in the grid's CRS.
    length_m : (N,) ground metres of the whole road, inside the grid and out.
    fields : what else is known of the roads, N values each, with its meaning.
    id_meaning : one sentence on what the ids are.
    """

    ids: NDArray[np.object_]
    geometry: NDArray[Any]
    length_m: FloatArray
    fields: tuple[tuple[Column, pd.Series[Any]], ...] = ()
    id_meaning: str = ROAD_ID.meaning

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class RoadsInTiles:
    """Which roads have how much of their length in which tile: P pairs, no two the same, in order of roads.

    Parameters
    ----------
    road : (P,) ascending.
    tile : (P,) `row * cols + col`.
    metres : (P,) ground metres.
    """

    road: IntArray
    tile: IntArray
    metres: FloatArray

    def taken(self, some: NDArray[np.bool_]) -> RoadsInTiles:
        """The pairs that are chosen."""
        return RoadsInTiles(self.road[some], self.tile[some], self.metres[some])


def road_layer(roads: RoadLines, tiles: Layer) -> Layer:
    """The roads that cross the tiles with the risk of these, each tile by the road's metres in it.

    Tiles without a risk take no part; a road that crosses no other has no risk. The order of the roads is
    kept.

    Parameters
    ----------
    tiles : of a grid, with `risk`, and `risk_low` and `risk_high` where they are known.

    Raises
    ------
    LayerError : the tiles are of no grid.
    """
    grid, row = _rows_of(tiles)
    shared, count = roads_in_tiles(roads, grid), len(roads)
    of_tile = {name: _on_grid(tiles, name, row) for name in ("risk", *ENDS) if name in tiles.table}
    scored = shared.taken(np.isfinite(of_tile["risk"][shared.tile]))
    scored_m = np.bincount(scored.road, scored.metres, minlength=count).astype(np.float64)
    means = {name: mean_by_metres(scored, values, count) for name, values in of_tile.items()}
    standing = ranked_by_length(means["risk"], scored_m)
    told = {column.name: column for column in tiles.columns}
    fields: list[tuple[Column, pd.Series[Any]]] = [
        (replace(ROAD_ID, meaning=roads.id_meaning), pd.Series(roads.ids, dtype="str")),
        *((_mean_column(told[name]), pd.Series(values)) for name, values in means.items()),
        *zip(STANDING_COLUMNS, (standing.rank, pd.Series(standing.percentile), standing.band), strict=True),
        (SCORED_SHARE, pd.Series(np.minimum(scored_m / roads.length_m, 1.0))),
        (LENGTH, pd.Series(roads.length_m)),
        (TILES, pd.Series(np.bincount(shared.road, minlength=count))),
        *roads.fields,
    ]
    meaning = f"Mean over the tiles that a road crosses, by its metres in them: {tiles.about.risk_meaning}"
    every = Layer(
        pd.DataFrame({column.name: values.array for column, values in fields}),
        tuple(column for column, _ in fields),
        GivenShapes(roads.geometry, grid.crs),
        replace(tiles.about, risk_meaning=meaning),
        name="roads",
        ranked=int(standing.rank.notna().sum()),
    )
    return every.taken(np.unique(shared.road[row[shared.tile] >= 0]))


def roads_in_tiles(roads: RoadLines, grid: Grid) -> RoadsInTiles:
    """The roads cut by the grid; what lies outside is left out, every other metre is in one tile."""
    lines, road = shapely.get_parts(roads.geometry, return_index=True)
    coordinates, offsets = vertices(lines)
    drawn_m = ground_lengths(grid.crs, coordinates, offsets)
    total = np.bincount(road, drawn_m, minlength=len(roads))[road]
    alike = 1.0 / np.bincount(road, minlength=len(roads))[road]
    line_m = roads.length_m[road] * np.divide(drawn_m, total, out=alike, where=total > 0)
    pieces = spread_lines(grid, coordinates, offsets)
    pair, place = np.unique(road[pieces.line] * grid.size + pieces.tile, return_inverse=True)
    metres = np.bincount(place, pieces.share * line_m[pieces.line], minlength=len(pair))
    return RoadsInTiles(pair // grid.size, pair % grid.size, metres.astype(np.float64))


def road_lengths(geometry: NDArray[Any], crs: str) -> FloatArray:
    """(N,) ground metres of lines or multi-lines."""
    lines, road = shapely.get_parts(geometry, return_index=True)
    metres = ground_lengths(crs, *vertices(lines))
    return np.bincount(road, metres, minlength=len(geometry)).astype(np.float64)


def mean_by_metres(shared: RoadsInTiles, of_tile: FloatArray, count: int) -> FloatArray:
    """(count,) mean of what tiles have over the metres of each road; NaN of a road in none of them.

    Roads whose tiles have one value have that value to the bit, so that they tie.

    Parameters
    ----------
    of_tile : (size,) by tile.

    Examples
    --------
    >>> shared = RoadsInTiles(np.array([0, 0, 2]), np.array([0, 1, 1]), np.array([30.0, 10.0, 7.0]))
    >>> mean_by_metres(shared, np.array([0.2, 0.6]), 3).round(3).tolist()
    [0.3, nan, 0.6]
    """
    mean = np.full(count, np.nan)
    if not len(shared.road):
        return mean
    values = of_tile[shared.tile]
    first = np.flatnonzero(np.diff(shared.road, prepend=-1))
    metres = np.add.reduceat(shared.metres, first)
    lowest, highest = np.minimum.reduceat(values, first), np.maximum.reduceat(values, first)
    weighted = np.add.reduceat(values * shared.metres, first) / metres
    mean[shared.road[first]] = np.clip(weighted, lowest, highest)
    return mean


def ranked_by_length(risk: FloatArray, metres: FloatArray) -> Ranking:
    """Ranks by number; percentiles and bands by length, as usRAP's bands are shares of a network.

    A road is in the band in which its first metre lies when all roads stand in order of risk. Roads with the
    same risk are one piece, which goes whole into the riskier band.

    Parameters
    ----------
    risk : (N,) higher is riskier; NaN is not scored.
    metres : (N,) by which a scored road counts.

    Examples
    --------
    >>> standing = ranked_by_length(np.array([0.9, 0.5, 0.1, np.nan]), np.array([4.0, 20.0, 76.0, 500.0]))
    >>> standing.rank.tolist(), standing.percentile.tolist(), standing.band.tolist()[:3]
    ([1, 2, 3, <NA>], [100.0, 96.0, 76.0, nan], ['top 5 %', 'top 5 %', 'next 20 %'])
    """
    # whole numbers: no order of roads, and no rounding, puts one at a band's edge into another
    millimetres = np.maximum(np.rint(np.where(np.isnan(risk), 0.0, metres) * 1000), 1)
    return ranked(risk, millimetres.astype(np.int64))


def _rows_of(tiles: Layer) -> tuple[Grid, IntArray]:
    """The grid, and (size,) in which row of the layer each of its tiles stands; -1 in none."""
    places = tiles.placed()
    if not isinstance(places, GridTiles):
        raise LayerError("roads are cut by the tiles of a grid; score a dataset, not a table")
    row = np.full(places.grid.size, -1, dtype=np.int64)
    row[places.rows * places.grid.cols + places.cols] = np.arange(len(tiles))
    return places.grid, row


def _on_grid(tiles: Layer, name: str, row: IntArray) -> FloatArray:
    """(size,) a column of the tiles by tile of the grid; NaN where unknown."""
    values = tiles.table[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.append(values, np.nan)[row]


def _mean_column(column: Column) -> Column:
    """A tile's risk, or an end of its interval, as it is of a road."""
    words = "Mean over the scored tiles that the road crosses, by its metres in them"
    if column.name in ENDS:
        words = f"{words}, of this end: not an end of an interval of the road's own risk"
    return replace(column, meaning=f"{words}. Of a tile: {column.meaning}")
