"""`score --by road`: the centre-lines of a dataset, or the user's own, with the risk of their tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.dataset import Dataset, read_dataset
from roadrisk.errors import DatasetError, LayerError, SourceError
from roadrisk.grid import Grid, IntArray
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GridTiles
from roadrisk.maps.road_risk import (
    ENDS,
    LENGTH,
    ROAD_ID,
    SCORED_SHARE,
    STANDING_COLUMNS,
    TILES,
    RoadLines,
    road_layer,
    road_lengths,
)
from roadrisk.roads.sources.centre_lines import LINES
from roadrisk.source_settings import LineSource
from roadrisk.sources.links import read_links
from roadrisk.sources.tables import as_text

Field = tuple[Column, "pd.Series[Any]"]

SOURCE_ENDING = "_source"
# what a layer of roads, or some form of map file, has fields of its own for
TAKEN = frozenset(
    {
        *(column.name for column in (ROAD_ID, *STANDING_COLUMNS, SCORED_SHARE, LENGTH, TILES)),
        *("risk", *ENDS, "fid", "geom", "geometry", "bbox", "lon", "lat"),
    }
)
KEPT = (
    Column("road_class", "object", "", "info", "none", "Class of the road.", "roads"),
    Column("lanes", "float64", "lanes", "info", "none", "Lanes of the road.", "roads"),
    Column("speed_kmh", "float64", "km/h", "info", "none", "Speed limit of the road.", "roads"),
)
ROW = "Row of the road in its source, counted from 0"


def by_road(scored: Layer, data: Path, roads: Path | None = None) -> tuple[Layer, list[str]]:
    """Roads coloured by the risk of the tiles that they cross, and what people should know of them.

    Parameters
    ----------
    scored : tiles of the dataset.
    data : the dataset, whose centre-lines are meant where no others are given.
    roads : file of the user's own lines; all its fields come along.

    Raises
    ------
    LayerError : the tiles are of no grid, or no road crosses them.
    DatasetError : the dataset has no centre-lines.
    SourceError : the file cannot be used.
    """
    if not isinstance(scored.places, GridTiles):
        raise LayerError(f"{data} has no grid of tiles to cut roads by; --by road is for a dataset")
    if roads is None:
        lines, told = kept_roads(read_dataset(data)), list[str]()
    else:
        lines, told = roads_at(roads, scored.places.grid)
    made = road_layer(lines, scored)
    if not len(made):
        raise LayerError(f"no road of {roads or data} crosses a tile that is shown; see where it lies")
    if roads is not None:
        unsaid = f"{roads.name}: not stated"
        licence, attribution = (f"{said}; {unsaid}" for said in (made.about.licence, made.about.attribution))
        made = replace(made, about=replace(made.about, licence=licence, attribution=attribution))
    length_km = made.table[LENGTH.name].sum() / 1000
    unscored, apart = int(made.table["risk"].isna().sum()), len(lines) - len(made)
    return made, [
        *told,
        f"{len(made):,} roads of {length_km:,.1f} km cross the tiles, {unscored:,} of them none that is "
        f"scored, so that their risk is not known; {apart:,} others cross no tile and are left out",
    ]


def kept_roads(dataset: Dataset) -> RoadLines:
    """The centre-lines that a dataset was tiled with.

    Raises
    ------
    DatasetError : it has none, or they are damaged.
    """
    if LINES not in dataset.manifest["files"]:
        raise DatasetError(
            f"{dataset.path} keeps no centre-lines; give yours with --roads SRC, or tile it with --roads SRC"
        )
    file = dataset.path / LINES
    try:
        with pq.ParquetFile(file) as stored:
            # the first format knows no lanes and speeds
            columns = [column for column in KEPT if column.name in stored.schema_arrow.names]
            names = ["source_row", LENGTH.name, "geometry", *(column.name for column in columns)]
            table = stored.read(names)
        geometry = shapely.from_wkb(table["geometry"].to_numpy())
    except (OSError, ValueError, shapely.errors.ShapelyError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{file} is damaged ({reason}); copy the dataset again or tile again") from None
    known = [(column, table[column.name].to_pandas()) for column in columns]
    return RoadLines(
        ids=ids_of_rows(table["source_row"].to_numpy()),
        geometry=geometry,
        length_m=table[LENGTH.name].to_numpy(),
        fields=tuple((column, values) for column, values in known if values.notna().any()),
        id_meaning=f"{ROW}; its further parts, and rows of further sources with the same number, have their "
        "count behind a slash.",
    )


def ids_of_rows(source_row: IntArray) -> NDArray[np.object_]:
    """(N,) the number of a row; where it stands there again, with a slash and how often it did.

    >>> ids_of_rows(np.array([3, 7, 3, 3])).tolist()
    ['3', '7', '3/2', '3/3']
    """
    rows = pd.Series(source_row)
    again = rows.groupby(rows).cumcount()
    names = rows.astype(str).where(again == 0, rows.astype(str) + "/" + (again + 1).astype(str))
    return names.to_numpy(dtype=object)


def roads_at(source: str | Path, grid: Grid) -> tuple[RoadLines, list[str]]:
    """The lines of a file that touch the grid, each row a road with all its fields, and what to say of them.

    `road_id` is the file's own where it has that field, filled and without repeats; else the row's number. A
    field that is called as one of the layer's has `_source` behind its name.

    Raises
    ------
    SourceError : no such file, no lines, no CRS, none in the grid, or an infinite value.
    """
    links = read_links(LineSource(path=str(source)), grid)
    given, where = links.attributes, Path(source).name
    own = as_text(given[ROAD_ID.name]) if ROAD_ID.name in given else np.array([None], dtype=object)
    named = pd.notna(own).all() and len(set(own)) == len(own)
    if named:
        given = given.drop(columns=ROAD_ID.name)
    called = field_names([str(name) for name in given])
    lines = RoadLines(
        ids=own if named else ids_of_rows(links.source_row),
        geometry=links.geometry,
        length_m=road_lengths(links.geometry, grid.crs),
        fields=tuple(_field(given[name], new, name, where) for name, new in called.items()),
        id_meaning=f"{ROAD_ID.name} of {where}." if named else f"{ROW}.",
    )
    renamed = ", ".join(f"{name} is called {new}" for name, new in called.items() if name != new)
    bare = ", ".join(links.left_out)
    return lines, [
        str(links.account),
        *([f"{where}: {renamed}, as the layer has a field of that name"] if renamed else []),
        *([f"{where}: {bare} hold lists, records or bytes and are left out"] if bare else []),
    ]


def field_names(given: Sequence[str]) -> dict[str, str]:
    """What the fields of a file are called in a layer: no two alike, whatever their capitals.

    >>> field_names(["link", "Risk", "LINK"])
    {'link': 'link', 'Risk': 'Risk_source', 'LINK': 'LINK_source'}
    """
    taken, called = set(TAKEN), {}
    for name in given:
        new = name
        while new.lower() in taken:
            new += SOURCE_ENDING
        taken.add(new.lower())
        called[name] = new
    return called


def _field(values: pd.Series[Any], called: str, name: str, where: str) -> Field:
    """A field of a file as layers can hold it: numbers, truths or text.

    Raises
    ------
    SourceError : an infinite value.
    """
    kept, dtype = _plain(values)
    if dtype == "float64" and np.isinf(kept).any():
        raise SourceError(f"{where}: {name} holds infinite values, which no layer can; leave them empty")
    return Column(called, dtype, "", "info", "none", f"{name} of {where}.", where), kept


def _plain(values: pd.Series[Any]) -> tuple[pd.Series[Any], str]:
    """(N,) values of one of four kinds, nothing rounded, and how a column calls it."""
    kind, unknown = values.dtype, bool(values.isna().any())
    if pd.api.types.is_bool_dtype(kind):
        return values.astype("boolean" if unknown else "bool"), "boolean" if unknown else "bool"
    if pd.api.types.is_integer_dtype(kind) and (not len(values) or values.max() < 1 << 63):
        return values.astype("Int64" if unknown else "int64"), "int64"
    if pd.api.types.is_float_dtype(kind):
        return values.astype("float64"), "float64"
    if pd.api.types.is_datetime64_any_dtype(kind):
        days = bool((values.dropna().dt.normalize() == values.dropna()).all())
        moments = values.map(lambda at: at.date().isoformat() if days else at.isoformat(), na_action="ignore")
        return moments.astype("str"), "object"
    return pd.Series(as_text(values), dtype="str"), "object"
