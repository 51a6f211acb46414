"""Layers read back from map files, whoever wrote them; what a file says is checked, never trusted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely.errors import ShapelyError

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.grid import transformer
from roadrisk.maps.bands import RISK_LEGEND, ranked
from roadrisk.maps.lattices import tiles_of_squares
from roadrisk.maps.layer import FEATURES_AT_ONCE, About, Layer
from roadrisk.maps.layer_file import check_kind
from roadrisk.maps.places import WGS84, GivenShapes, Places
from roadrisk.maps.scored import STANDING_COLUMNS, TILE_ID
from roadrisk.maps.shape_types import TYPES
from roadrisk.maps.told import told_words

READ_SUFFIXES = (".parquet", ".gpkg", ".fgb", ".geojson", ".geojsonl")
INSTEAD = {
    ".csv": "holds no outlines",
    ".pmtiles": "holds simplified outlines and few fields",
    ".tif": "is a raster, which QGIS shows",
    ".html": "is a page already: open it in a browser",
}
WRITTEN_BEFORE = "as of the file"  # what a file of somebody else's does not say
HEAD_BYTES = 1 << 24  # more than the words of a layer take
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RecursionError,
    NotImplementedError,
    sqlite3.Error,
    pa.ArrowException,
    DataSourceError,
    DataLayerError,
    ShapelyError,
    CRSError,
)


def layer_at(path: Path) -> Layer:
    """The layer that a map file holds, its features in the file's order and in the file's CRS.

    A file that this project wrote gives back its columns, words and legend. Any other needs a number called
    `risk`: its features are ranked anew, and `tile_id` is the row's number where it has none. Fields that
    hold lists or bytes are left out.

    Parameters
    ----------
    path : `.parquet` (GeoParquet), `.gpkg`, `.fgb`, `.geojson` or `.geojsonl`.

    Raises
    ------
    LayerError : no such file, damaged, without outlines, CRS or risk, or with words that are none.
    """
    suffix = path.suffix.lower()
    if suffix not in READ_SUFFIXES:
        known = " ".join(READ_SUFFIXES)
        reason = INSTEAD.get(suffix, "is no map file that is read back")
        raise LayerError(f"{path} {reason}; layers are read from {known}")
    if not path.is_file():
        raise LayerError(f"{path} is not there; give a map file, as `roadrisk score` writes them")
    try:
        stored = _STORED.get(suffix, _by_gdal)(path)
        places = _places(stored)
        made = (
            _told_layer(stored, places) if stored.told is not None else _foreign_layer(stored, places, path)
        )
        _check_values(made)
    except LayerError as error:
        raise LayerError(f"{path} {error}") from None
    except UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LayerError(f"{path} cannot be read as a layer ({reason}); make it again") from None
    return made


@dataclass(frozen=True, eq=False)
class _Stored:
    """What a file holds, before any of it is believed.

    Parameters
    ----------
    fields : N rows.
    outlines : (N,) WKB.
    crs : as `EPSG:32619`.
    told : the `roadrisk` member; None in files of somebody else.
    """

    fields: pa.Table
    outlines: pa.ChunkedArray
    crs: str
    told: Any


def _parquet(path: Path) -> _Stored:
    file = pq.ParquetFile(path)
    metadata = file.schema_arrow.metadata or {}
    if b"geo" not in metadata:
        raise LayerError("holds no outlines: it is a table; give a GeoParquet file")
    geo = json.loads(metadata[b"geo"])
    primary = geo["primary_column"]
    place = geo["columns"][primary]
    if place["encoding"] != "WKB":
        raise LayerError(f"holds outlines as {place['encoding']!r}, which is not read; write it with WKB")
    names = [field.name for field in file.schema_arrow if field.name != primary]
    table = file.read([*names, primary])
    return _Stored(
        fields=table.select(names),
        outlines=table[primary],
        # OGC:CRS84, what the standard takes it to be, is WGS 84 with lon before lat
        crs=_crs(place["crs"]) if "crs" in place else WGS84,
        told=json.loads(metadata[b"roadrisk"]) if b"roadrisk" in metadata else None,
    )


def _geojson(path: Path) -> _Stored:
    check_kind(path)
    # files of this project have everything but the features in their first line
    with path.open("rb") as file:
        head = file.readline(HEAD_BYTES).rstrip()
    ours = head.endswith(b'"features": [')
    return _by_gdal(path, json.loads(head + b"]}").get("roadrisk") if ours else None)


def _by_gdal(path: Path, told: Any = None) -> _Stored:
    check_kind(path)
    own = path.suffix.lower() == ".gpkg"  # the one form with names of layers that are its maker's
    at = str(pyogrio.list_layers(path)[0, 0]) if own else None  # the first of several
    metadata = pyogrio.read_info(path, layer=at).get("layer_metadata") or {}
    if "ROADRISK" in metadata:
        told = json.loads(metadata["ROADRISK"])
    as_text = {"DATE_AS_STRING": "YES"} if path.suffix.lower().startswith(".geojson") else {}
    meta, table = pyogrio.read_arrow(path, layer=at, **as_text)
    outlines = meta["geometry_name"] or "wkb_geometry"
    if outlines not in table.column_names:
        raise LayerError("holds no outlines; give a file whose features have places")
    fields = table.select([str(field) for field in meta["fields"]])
    return _Stored(fields, table[outlines], _crs(meta["crs"]), told)


_STORED: dict[str, Callable[[Path], _Stored]] = {".parquet": _parquet, ".geojson": _geojson}


def _crs(given: Any) -> str:
    """A CRS by its authority's code, else in full."""
    if not given:
        raise LayerError("does not say in which CRS its outlines are; write it with one")
    known = CRS.from_user_input(given)
    authority = known.to_authority()
    code = ":".join(authority) if authority else known.to_wkt()
    return WGS84 if code == "OGC:CRS84" else code


def _places(stored: _Stored) -> Places:
    """Where the features lie: tiles of a grid where they are, which take less memory, else their shapes."""
    return tiles_of_squares(stored.outlines, stored.crs) or GivenShapes(
        _shapes(stored.outlines, stored.crs), stored.crs
    )


def _shapes(outlines: pa.ChunkedArray, crs: str) -> NDArray[Any]:
    """(N,) shapely shapes of two dimensions; None where there is none.

    Raises
    ------
    LayerError : no feature has one, or one is of a kind that no map draws or reaches out of the world.
    """
    shapes = np.empty(len(outlines), dtype=object)
    for first in range(0, len(shapes), FEATURES_AT_ONCE):
        some = outlines.slice(first, FEATURES_AT_ONCE).to_numpy()
        shapes[first : first + len(some)] = shapely.force_2d(shapely.from_wkb(some))
    shapes[shapely.is_empty(shapes)] = None
    kinds = np.unique(shapely.get_type_id(shapes))
    if (kinds >= len(TYPES)).any():
        raise LayerError(f"holds shapes other than {', '.join(dict.fromkeys(TYPES))}; leave them out")
    if set(kinds.tolist()) <= {-1}:
        raise LayerError("has no feature with an outline; give a file whose features have places")
    to_world = transformer(crs, WGS84)
    for first in range(0, len(shapes), FEATURES_AT_ONCE):
        x, y = shapely.get_coordinates(shapes[first : first + FEATURES_AT_ONCE]).T
        lng, lat = to_world.transform(x, y)
        if not (np.isfinite(x) & np.isfinite(y) & (np.abs(lat) <= 90) & (np.abs(lng) <= 360)).all():
            raise LayerError("has an outline beyond the world or with a vertex that is no number; mend it")
    return shapes


# ---- files of this project


def _told_layer(stored: _Stored, places: Places) -> Layer:
    """A layer as the file itself describes it."""
    told = told_words(stored.told)
    table, described = {}, []
    for name in stored.fields.column_names:
        dtype = told.columns[name].dtype if name in told.columns else "object"
        values = _values(stored.fields[name], dtype)
        if values is not None:
            table[name] = values
            described.append(told.columns.get(name) or _guessed(name, values))
    if told.legend.field not in table:
        raise LayerError(f"has no field {told.legend.field!r}, which its legend is about; make it again")
    return Layer(
        pd.DataFrame(table),
        tuple(described),
        places,
        told.about,
        told.name,
        told.legend,
        ranked=told.ranked,
    )


# ---- files of somebody else


def _foreign_layer(stored: _Stored, places: Places, path: Path) -> Layer:
    """The risk of any file, ranked as this project ranks."""
    made = {name: _values(stored.fields[name], "object") for name in stored.fields.column_names}
    known = {name: values for name, values in made.items() if values is not None}
    risk = known.pop("risk", None)
    if risk is None or not pd.api.types.is_numeric_dtype(risk) or pd.api.types.is_bool_dtype(risk):
        raise LayerError(
            "was not written by roadrisk and has no field `risk` that is a number; "
            "give a layer that `roadrisk score` wrote, or call its risk so"
        )
    risk = risk.astype("float64")
    ids = known.pop(TILE_ID.name, None)
    standing = ranked(risk)
    columns = [
        TILE_ID,
        Column("risk", "float64", "", "info", "none", "As the file has it."),
        *STANDING_COLUMNS,
    ]
    table = {
        TILE_ID.name: pd.Series(np.arange(len(risk)).astype(str)) if ids is None else ids.astype("str"),
        "risk": risk,
        "rank": standing.rank,
        "percentile": pd.Series(standing.percentile),
        "band": standing.band,
    }
    others = {name: values for name, values in known.items() if name not in table}
    columns += [_guessed(name, values) for name, values in others.items()]
    about = About(
        title=path.stem,
        risk_meaning="Risk as the file has it, higher is riskier.",
        label_meaning="",
        licence=WRITTEN_BEFORE,
        attribution=WRITTEN_BEFORE,
        model=WRITTEN_BEFORE,
    )
    ranks = int(standing.rank.notna().sum())
    return Layer(
        pd.DataFrame({**table, **others}),
        tuple(columns),
        places,
        about,
        legend=RISK_LEGEND,
        ranked=ranks,
    )


def _guessed(name: str, values: pd.Series[Any]) -> Column:
    """A field of which nothing is said."""
    kind = str(values.dtype).lower()
    return Column(name, "object" if kind == "str" else kind, "", "info", "none", "")


# ---- values


def _values(array: pa.ChunkedArray, dtype: str) -> pd.Series[Any] | None:
    """(N,) values as a `dtype`, those of an `object` as the file has them; None for lists and bytes."""
    kind = array.type
    if dtype == "object":
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return None
        known = {"i": "int64", "u": "int64", "f": "float64", "b": "bool"}
        plain = pa.types.is_primitive(kind) and not pa.types.is_temporal(kind)
        dtype = known[np.dtype(kind.to_pandas_dtype()).kind] if plain else "str"
    if dtype.startswith("float"):
        return pd.Series(array.cast(pa.float64(), safe=False).to_numpy())
    if dtype.lower().startswith("int"):
        whole = array.cast(pa.int64())
        return pd.Series(
            whole.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get if whole.null_count else None)
        )
    if dtype.startswith("bool"):
        truth = array.cast(pa.bool_())
        nullable = dtype == "boolean" or truth.null_count
        return pd.Series(
            truth.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get if nullable else None)
        )
    return pd.Series(array.cast(pa.large_string()).to_pandas(), dtype="str")


def _check_values(layer: Layer) -> None:
    """Nothing, if every class has a shade and every number is one.

    Raises
    ------
    LayerError : else, naming the field.
    """
    field = layer.legend.field
    unknown = sorted(set(layer.table[field].dropna().astype(str).unique()) - set(layer.legend.values))
    if unknown:
        raise LayerError(f"holds {unknown[0]!r} in {field!r}, which its legend does not name; make it again")
    for name in layer.table.select_dtypes("float64"):
        if np.isinf(layer.table[name]).any():
            raise LayerError(f"holds infinite values in {name!r}; leave them empty")
