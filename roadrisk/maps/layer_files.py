"""What a map file says of itself, read without its features."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from pyproj.exceptions import CRSError

from roadrisk.errors import LayerError

LAYER_SUFFIXES = (".geojson", ".gpkg", ".parquet", ".csv", ".html")


@dataclass(frozen=True)
class LayerField:
    """One field of a layer, with as much as the file tells of it."""

    name: str
    dtype: str
    alias: str = ""
    unit: str = ""
    window: tuple[str, str] | None = None
    source: str = ""
    description: str = ""


@dataclass(frozen=True)
class LayerFile:
    """A map file.

    Parameters
    ----------
    features : number of them.
    geometry : its type, `Polygon`; empty without one.
    crs : as `EPSG:32619`; empty where nothing says.
    about : title, licence, attribution, model and windows, as far as the file has them.
    """

    path: Path
    features: int
    geometry: str
    crs: str
    fields: tuple[LayerField, ...]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether roadrisk says that it made it."""
        return bool(self.about)


def read_layer(path: Path) -> LayerFile:
    """What `path` says of itself, by its suffix.

    Raises
    ------
    LayerError : it cannot be read as what its suffix says.
    """
    readers = {".parquet": _parquet, ".csv": _csv, ".html": _page, ".gpkg": _gpkg}
    try:
        return readers.get(path.suffix.lower(), _geojson)(path)
    except (
        DataSourceError,
        DataLayerError,
        OSError,
        ValueError,
        RecursionError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        sqlite3.Error,
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LayerError(f"{path} cannot be read as a layer ({reason}); make it again") from None


def _geojson(path: Path) -> LayerFile:
    # our own files have everything but the features in their first line
    with path.open(encoding="utf-8") as file:
        first = file.readline().rstrip()
    about = {}
    if first.endswith('"features": ['):
        about = _told(json.loads(first + "]}").get("roadrisk"))
    return _by_gdal(path, about, {})


def _gpkg(path: Path) -> LayerFile:
    # the first of several, as of roads, whose lines come first
    layer = str(pyogrio.list_layers(path)[0, 0])
    metadata = pyogrio.read_info(path, layer=layer).get("layer_metadata") or {}
    told = _told(json.loads(metadata["ROADRISK"])) if "ROADRISK" in metadata else {}
    words: dict[str, dict[str, Any]] = {}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_data_columns'").fetchone():
            rows = database.execute(
                "SELECT column_name, name, description FROM gpkg_data_columns WHERE table_name = ?", (layer,)
            )
            words = {
                str(name): {"alias": alias, "description": description} for name, alias, description in rows
            }
    return _by_gdal(path, told, words, layer)


def _by_gdal(
    path: Path, about: dict[str, Any], words: dict[str, dict[str, Any]], layer: str | None = None
) -> LayerFile:
    info = pyogrio.read_info(path, layer=layer, force_feature_count=True)
    dtypes = dict(zip(info["fields"].tolist(), info["dtypes"], strict=True))
    return LayerFile(
        path=path,
        features=int(info["features"]),
        geometry=info["geometry_type"] or "",
        crs=info["crs"] or "",
        fields=_fields(dtypes, about, words),
        about=about,
    )


def _parquet(path: Path) -> LayerFile:
    file = pyarrow.parquet.ParquetFile(path)
    schema = file.schema_arrow
    metadata = schema.metadata or {}
    about = _told(json.loads(metadata[b"roadrisk"])) if b"roadrisk" in metadata else {}
    geo = json.loads(metadata[b"geo"]) if b"geo" in metadata else None
    place = geo["columns"][geo["primary_column"]] if geo else {}
    covering = place.get("covering", {}).get("bbox", {}).get("xmin", [None])[0]
    unsaid = {geo["primary_column"], covering} if geo else set()
    words = {f.name: {k.decode(): v.decode() for k, v in (f.metadata or {}).items()} for f in schema}
    return LayerFile(
        path=path,
        features=file.metadata.num_rows,
        geometry=", ".join(place.get("geometry_types", [])),
        crs=_authority(place.get("crs", "OGC:CRS84")) if geo else "",
        fields=_fields({f.name: str(f.type) for f in schema if f.name not in unsaid}, about, words),
        about=about,
    )


def _csv(path: Path) -> LayerFile:
    first = pd.read_csv(path, nrows=1000)
    features = sum(len(chunk) for chunk in pd.read_csv(path, usecols=[0], chunksize=1_000_000))
    placed = {"lon", "lat"} <= set(first.columns)
    return LayerFile(
        path=path,
        features=features,
        geometry="Point" if placed else "",
        crs="EPSG:4326" if placed else "",
        fields=_fields({str(name): str(dtype) for name, dtype in first.dtypes.items()}, {}, {}),
    )


def _page(path: Path) -> LayerFile:
    reader = _PageReader()
    reader.feed(path.read_text(encoding="utf-8"))
    if not reader.data:
        raise ValueError("no map page of roadrisk: it has no data")
    data = json.loads(reader.data)
    words = {name.lower(): text for name, text in reader.words}
    about = {
        "title": reader.title,
        "licence": words.get("licence", ""),
        "attribution": words.get("sources", ""),
        "model": words.get("model", ""),
        "windows": {
            name.removeprefix("dates of "): _window(text.split(" up to, not including, "))
            for name, text in words.items()
            if name.startswith("dates of ")
        },
    }
    told = {f["name"]: {"unit": f["unit"], "description": f["meaning"]} for f in data["fields"]}
    return LayerFile(
        path=path,
        features=len(data["shapes"]),
        geometry=_shape_type(data["shapes"]),
        crs="EPSG:4326",
        fields=_fields(dict.fromkeys(told, ""), about, told),
        about=about,
    )


class _PageReader(HTMLParser):
    """Takes the heading, the words about the map and the data out of our own page; runs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.data = ""
        self.words: list[tuple[str, str]] = []
        self._open = ""
        self._name = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._open = "data" if tag == "script" and ("id", "data") in attributes else tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "h1":
            self.title += data
        elif self._open == "data":
            self.data += data
        elif self._open == "dt":
            self._name = data
        elif self._open == "dd":
            self.words.append((self._name, data))


def _shape_type(shapes: list[Any]) -> str:
    first = next((shape for shape in shapes if shape is not None), None)
    if first is None:
        return ""
    return "Polygon" if isinstance(first[0], list) else "Point"


def _told(value: Any) -> dict[str, Any]:
    """The words of a `roadrisk` member; nothing without one."""
    if value is None:
        return {}
    words = [value[name] for name in ("title", "licence", "attribution", "model")]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("its roadrisk member does not hold words")
    return {**value, "windows": {name: _window(window) for name, window in value["windows"].items()}}


def _window(value: Any) -> tuple[str, str]:
    start, end = value
    return date.fromisoformat(start).isoformat(), date.fromisoformat(end).isoformat()


def _fields(
    dtypes: dict[str, str], about: dict[str, Any], words: dict[str, dict[str, Any]]
) -> tuple[LayerField, ...]:
    columns = {column["name"]: column for column in _columns(about)}
    return tuple(
        _field(name, dtype, columns.get(name, {}), words.get(name, {})) for name, dtype in dtypes.items()
    )


def _field(name: str, dtype: str, column: dict[str, Any], words: dict[str, Any]) -> LayerField:
    def said(key: str) -> str:
        return next((str(told[key]) for told in (column, words) if told.get(key)), "")

    return LayerField(
        name=name,
        dtype=dtype,
        alias=said("alias"),
        unit=said("unit"),
        window=_window(column["window"]) if column.get("window") else None,
        source=said("source"),
        description=said("meaning") or said("description"),
    )


def _columns(about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    columns = about.get("columns")
    for column in columns if isinstance(columns, list) else []:
        if isinstance(column, dict) and isinstance(column.get("name"), str):
            yield column


def _authority(crs: Any) -> str:
    """A CRS by its authority's code, where it has one."""
    if crs is None:
        return ""
    try:
        known = CRS.from_user_input(crs)
    except CRSError:
        return ""
    authority = known.to_authority()
    return ":".join(authority) if authority else str(known.name)
