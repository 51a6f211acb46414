"""Tables of any usual format as a stream of chunks, so that memory does not grow with the file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyogrio.raw import open_arrow
from pyproj import CRS
from pyproj.exceptions import CRSError

from roadrisk.errors import SourceError

CHUNK_ROWS = 200_000
_CSV = {".csv": None, ".tsv": "\t", ".tab": "\t", ".txt": None}
_PARQUET = (".parquet", ".geoparquet", ".pq")
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}

Chunk = tuple[pd.DataFrame, NDArray[np.object_] | None]


@dataclass(frozen=True)
class Table:
    """A table that can be read again and again.

    Parameters
    ----------
    path : as given.
    columns : names of the attributes, without the geometry.
    crs : of the geometry; none without geometry or where the file does not say.
    has_geometry : whether chunks carry geometry.
    understood : what was guessed about the format, for people.
    read : columns -> chunks of (attributes, (N,) geometry as WKB bytes or null); attributes of text
        formats are text or null.
    """

    path: Path
    columns: tuple[str, ...]
    crs: CRS | None
    has_geometry: bool
    understood: str
    read: Callable[[Sequence[str]], Iterator[Chunk]]


def table_at(path: str, layer: str | None = None) -> Table:
    """The table in a file: CSV, Parquet, GeoParquet or whatever pyogrio opens.

    Parameters
    ----------
    layer : of a file with several.

    Raises
    ------
    SourceError : no such file, not a table, damaged, or a layer has to be named.
    """
    file = Path(path)
    if not file.exists():
        raise SourceError(f"no such file: {path}")
    suffix = file.suffix.lower()
    if suffix in _CSV:
        return _csv_table(file)
    if suffix in _PARQUET:
        return _parquet_table(file)
    return _vector_table(file, layer)


def as_text(values: pd.Series) -> NDArray[np.object_]:
    """(N,) text or null; whole numbers without the decimals that nulls give them.

    >>> as_text(pd.Series([1.0, None, 2.0])).tolist(), as_text(pd.Series(["K", None])).tolist()
    (['1', None, '2'], ['K', None])
    """
    if pd.api.types.is_float_dtype(values.dtype) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    text = values.astype("string").astype(object)
    return np.asarray(text.where(text.notna(), None), dtype=object)


def _csv_table(path: Path) -> Table:
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        head = file.read(1 << 16)
    if not head.strip():
        raise SourceError(f"{path} is empty; export it again")
    delimiter = _delimiter(head, _CSV[path.suffix.lower()])
    options: dict[str, Any] = {"sep": delimiter, "encoding": encoding, "dtype": str, "skipinitialspace": True}
    try:
        first = pd.read_csv(path, nrows=1, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise SourceError(f"{path} is not a table: {_one_line(error)}; export it again as CSV") from None
    if not isinstance(first.index, pd.RangeIndex):
        raise SourceError(
            f"{path}: its rows have more fields than its header has names; mend the header line"
        )
    columns = tuple(str(c) for c in first.columns)
    named = pd.read_csv(path, nrows=1, header=None, **options)
    checked_names(named.iloc[0].fillna("").tolist(), path)
    rows = max(1, CHUNK_ROWS // max(1, len(columns) // 10))

    def read(names: Sequence[str]) -> Iterator[Chunk]:
        wanted = list(dict.fromkeys(names))
        try:
            # all columns are parsed: with `usecols` pandas lets rows pass that have too many fields
            for chunk in pd.read_csv(path, chunksize=rows, **options):
                yield chunk[wanted], None
        except pd.errors.ParserError as error:
            raise SourceError(f"{path} is not a table: {_one_line(error)}; mend that line") from None

    said = "UTF-8" if encoding == "utf-8-sig" else "not UTF-8, so read as Latin-1"
    return Table(path, columns, None, False, f"{_DELIMITERS[delimiter]}-separated, {said}", read)


def checked_names(names: Sequence[str], path: Path) -> None:
    """Nothing, if a header names each column once: of two with a name, one would be lost or renamed.

    Raises
    ------
    SourceError : says which name stands twice.
    """
    seen: set[str] = set()
    for name in filter(None, names):
        if name in seen:
            raise SourceError(f"{path} names the column {name!r} twice; rename one")
        seen.add(name)


def _encoding(path: Path) -> str:
    """UTF-8 (with or without a byte-order mark) where every byte fits, else Latin-1, which fits any."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "latin-1"
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None
    return "utf-8-sig"


def _delimiter(head: str, known: str | None) -> str:
    if known is not None:
        return known
    unquoted = re.sub(r'"[^"]*"', "", head).lstrip("\r\n")
    header = re.split(r"[\r\n]", unquoted, maxsplit=1)[0]
    return max(_DELIMITERS, key=header.count)


def _parquet_table(path: Path) -> Table:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path} is not a Parquet file: {_one_line(error)}; export it again") from None
    geo = json.loads((file.schema_arrow.metadata or {}).get(b"geo", b"null"))
    geometry: str | None = geo["primary_column"] if geo else None
    if geometry is not None and geo["columns"][geometry].get("encoding") != "WKB":
        raise SourceError(f"{path}: its geometry is not WKB; write it again as GeoParquet with WKB geometry")
    checked_names(file.schema_arrow.names, path)
    columns = tuple(name for name in file.schema_arrow.names if name != geometry)
    file.close()

    def read(names: Sequence[str]) -> Iterator[Chunk]:
        wanted = list(dict.fromkeys([*names, *([geometry] if geometry else [])]))
        with pq.ParquetFile(path) as opened:
            for batch in opened.iter_batches(CHUNK_ROWS, columns=wanted):
                yield _chunk(batch, geometry)

    crs = _geoparquet_crs(geo["columns"][geometry]) if geo else None
    return Table(path, columns, crs, geometry is not None, "GeoParquet" if geo else "Parquet", read)


def _geoparquet_crs(column: dict[str, Any]) -> CRS | None:
    """GeoParquet: no `crs` means longitude and latitude, a null one unknown."""
    if "crs" not in column:
        return CRS.from_user_input("OGC:CRS84")
    return CRS.from_json_dict(column["crs"]) if column["crs"] else None


def _vector_table(path: Path, layer: str | None) -> Table:
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        if layer is None and len(layers) > 1:
            raise SourceError(
                f"{path} has layers {', '.join(layers)}; name one with `layer` in the region file"
            )
        if not layers:
            raise SourceError(f"{path} holds no layer; export it again")
        name = layers[0] if layer is None else layer
        info = pyogrio.read_info(path, layer=name)
    except (DataSourceError, DataLayerError) as error:
        raise SourceError(f"{path} is not a table that can be opened: {_one_line(error)}") from None

    def read(names: Sequence[str]) -> Iterator[Chunk]:
        wanted = list(dict.fromkeys(names))
        with open_arrow(path, layer=name, columns=wanted, batch_size=CHUNK_ROWS, use_pyarrow=True) as (
            meta,
            reader,
        ):
            for batch in reader:
                yield _chunk(batch, meta["geometry_name"] or "wkb_geometry")

    crs = _crs_of_vector(info["crs"])
    has_geometry = info["geometry_type"] is not None
    return Table(path, tuple(map(str, info["fields"])), crs, has_geometry, str(info["driver"]), read)


def _crs_of_vector(text: str | None) -> CRS | None:
    if not text:
        return None
    try:
        return CRS.from_user_input(text)
    except CRSError:
        return None


def _chunk(batch: pa.RecordBatch, geometry: str | None) -> Chunk:
    table = pa.Table.from_batches([batch])
    if geometry is None or geometry not in table.column_names:
        return table.to_pandas(date_as_object=False), None
    wkb = table.column(geometry).to_numpy(zero_copy_only=False)
    return table.drop_columns([geometry]).to_pandas(date_as_object=False), wkb


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
