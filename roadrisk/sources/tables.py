"""Tables of any usual format as a stream of chunks, so that memory does not grow with the file."""

from __future__ import annotations

import contextlib
import glob
import json
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
from roadrisk.source_settings import PointTable, TableSource
from roadrisk.sources.file_kinds import kind_of_any
from roadrisk.sources.text_tables import text_table

CHUNK_ROWS = 200_000
_CSV = {".csv": None, ".tsv": "\t", ".tab": "\t", ".txt": None}
_PARQUET = (".parquet", ".geoparquet", ".pq")
_OSM_OPTION = "OSM_CONFIG_FILE"
_OSM_SETTINGS = Path(__file__).with_name("osmconf.ini")

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
    delimiter : between the fields of a text file; none in other formats.
    """

    path: Path
    columns: tuple[str, ...]
    crs: CRS | None
    has_geometry: bool
    understood: str
    read: Callable[[Sequence[str]], Iterator[Chunk]]
    delimiter: str | None = None


def tables_at(source: TableSource, osm_layer: str | None = None) -> tuple[Table, ...]:
    """The tables in the files of a source, patterns expanded, in the order given and then of names.

    Parameters
    ----------
    osm_layer : the layer of an OpenStreetMap extract where the source names none: `points`, `lines` or
        `multipolygons`.

    Raises
    ------
    SourceError : a path or pattern without a file, a file given twice, and as `table_at`.
    """
    names = source.columns if isinstance(source, PointTable) else ()
    return tuple(
        table_at(str(file), source.layer or (osm_layer if _is_osm(file) else None), names)
        for file in found_files(source.paths)
    )


def table_at(path: str, layer: str | None = None, names: Sequence[str] = ()) -> Table:
    """The table in a file: CSV, Parquet, GeoParquet or whatever pyogrio opens.

    Parameters
    ----------
    layer : of a file with several.
    names : of the columns of a text file that has no header line; all its rows are data.

    Raises
    ------
    SourceError : no such file, not a table, not what its name says, damaged, or a layer has to be named.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise SourceError(f"no such file: {path}")
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
    if suffix in _CSV:
        return _text_table(file, _CSV[suffix], names)
    if names:
        raise SourceError(
            f"{path}: `columns` is for text files without a header line; this file names its columns, so "
            "leave it out"
        )
    if suffix in _PARQUET:
        return _parquet_table(file)
    return _vector_table(file, layer)


def found_files(paths: Sequence[str]) -> Iterator[Path]:
    """The files of paths and patterns, in the order given and then of names.

    Raises
    ------
    SourceError : a pattern without a file, or a file given twice.
    """
    seen: set[Path] = set()
    for path in paths:
        expanded = Path(path).expanduser()
        files = [expanded]
        if not expanded.exists() and glob.has_magic(path):
            # Path.glob takes no absolute pattern
            files = [Path(f) for f in sorted(glob.glob(str(expanded), recursive=True))]  # noqa: PTH207
        if not files:
            raise SourceError(f"no file matches {path}; check the pattern and its folder")
        for file in files:
            if file.resolve() in seen:
                raise SourceError(
                    f"{file} is given twice in one source; its rows would count twice, name it once"
                )
            seen.add(file.resolve())
            yield file


def as_text(values: pd.Series) -> NDArray[np.object_]:
    """(N,) text or null; whole numbers without the decimals that nulls give them.

    >>> as_text(pd.Series([1.0, None, 2.0])).tolist(), as_text(pd.Series(["K", None])).tolist()
    (['1', None, '2'], ['K', None])
    """
    if pd.api.types.is_float_dtype(values.dtype) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    text = values.astype("string").astype(object)
    return np.asarray(text.where(text.notna(), None), dtype=object)


def _text_table(path: Path, delimiter: str | None, names: Sequence[str]) -> Table:
    text = text_table(path, delimiter, names)
    checked_names(text.columns, path)

    def read(wanted: Sequence[str]) -> Iterator[Chunk]:
        kept = list(dict.fromkeys(wanted))
        for table in _of_rows(text.read(kept), CHUNK_ROWS):
            yield table.to_pandas()[kept], None

    return Table(path, text.columns, None, False, text.understood, read, text.delimiter)


def _of_rows(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of so many, the last one of fewer."""
    kept: list[pa.Table] = []
    for table in tables:
        kept.append(table)
        if sum(len(t) for t in kept) >= rows:
            whole = pa.concat_tables(kept)
            ends = range(rows, len(whole) + 1, rows)
            yield from (whole.slice(end - rows, rows) for end in ends)
            kept = [whole.slice(ends[-1])]
    rest = pa.concat_tables(kept) if kept else None
    if rest is not None and len(rest):
        yield rest


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


def _parquet_table(path: Path) -> Table:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unopened(path, "a Parquet file", error) from None
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
        with _osm_settings(path):
            name = _layer_of(path, layer)
            info = pyogrio.read_info(path, layer=name)
    except DataLayerError as error:
        raise SourceError(f"{path} is not a table that can be opened: {_one_line(error)}") from None
    except DataSourceError as error:
        raise _unopened(path, "a table that can be opened", error) from None

    def read(names: Sequence[str]) -> Iterator[Chunk]:
        wanted = list(dict.fromkeys(names))
        opened = open_arrow(path, layer=name, columns=wanted, batch_size=CHUNK_ROWS, use_pyarrow=True)
        with contextlib.ExitStack() as stack:
            # read when the file is opened, so another file read meanwhile is none the wiser
            with _osm_settings(path):
                meta, reader = stack.enter_context(opened)
            for batch in reader:
                yield _chunk(batch, meta["geometry_name"] or "wkb_geometry")

    crs = _crs_of_vector(info["crs"])
    has_geometry = info["geometry_type"] is not None
    return Table(path, tuple(map(str, info["fields"])), crs, has_geometry, str(info["driver"]), read)


def _layer_of(path: Path, layer: str | None) -> str:
    layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
    if not layers:
        raise SourceError(f"{path} holds no layer; export it again")
    if layer is None and len(layers) > 1:
        raise SourceError(f"{path} has layers {', '.join(layers)}; name one with `layer` in the region file")
    if layer is not None and layer not in layers:
        raise SourceError(f"{path} has no layer {layer!r}; name one of {', '.join(layers)}")
    return layers[0] if layer is None else layer


@contextlib.contextmanager
def _osm_settings(path: Path) -> Iterator[None]:
    """Our own choice of tags while an OpenStreetMap extract is opened."""
    if not _is_osm(path):
        yield
        return
    before = pyogrio.get_gdal_config_option(_OSM_OPTION)
    pyogrio.set_gdal_config_options({_OSM_OPTION: str(_OSM_SETTINGS)})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({_OSM_OPTION: before})


def _is_osm(path: Path) -> bool:
    return path.suffix.lower() == ".pbf"


def _unopened(path: Path, expected: str, error: Exception) -> SourceError:
    """The error of a file that is not what its name says, or is that but damaged."""
    if path.is_dir():
        return SourceError(f"{path} is not {expected}: {_one_line(error)}; export it again")
    with path.open("rb") as file:
        kind = kind_of_any(file.read(4096), path.suffix.lower())
    return SourceError(f"{path} is not {expected}: it looks like {kind.looks}; {kind.fix}")


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
