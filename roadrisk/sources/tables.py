"""Tables of any usual format as a stream of chunks, so that memory does not grow with the file."""

from __future__ import annotations

import contextlib
import glob
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyogrio
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError
from pyogrio.raw import open_arrow
from pyproj import CRS

from roadrisk.errors import SourceError
from roadrisk.source_settings import PointTable, TableSource
from roadrisk.sources.file_kinds import UNREADABLE, check_xml, one_line, undamaged, unopened
from roadrisk.sources.frames import typed_frame
from roadrisk.sources.geoparquet import crs_of_text, geoparquet_geometry
from roadrisk.sources.row_counts import check_row_count
from roadrisk.sources.text_tables import text_table

CHUNK_ROWS = 200_000
_SHOWN = 80  # characters of a path that cannot be one
_CSV = {".csv": None, ".tsv": "\t", ".tab": "\t", ".txt": None}
_PARQUET = (".parquet", ".geoparquet", ".pq")
_XML_DRIVERS = ("GML", "GPX", "KML", "LIBKML")
_OSM_OPTION = "OSM_CONFIG_FILE"
_OSM_SETTINGS = Path(__file__).with_name("osmconf.ini")
_WHOLE = 2.0**63  # floats below, if whole, are exact 64-bit integers

Chunk = tuple[pd.DataFrame, NDArray[np.object_] | None]


@dataclass(frozen=True)
class Table:
    """A table that can be read again and again.

    Parameters
    ----------
    path : as given.
    columns : names of the attributes, without the geometry.
    crs : of the geometry; none without geometry or where the file does not say one of the earth.
    has_geometry : whether chunks carry geometry.
    understood : what was guessed about the format, for people.
    read : columns -> chunks of (attributes, (N,) geometry as WKB bytes or null); attributes of text
        formats are text or null, integers of others are exact even beside nulls.
    delimiter : between the fields of a text file; none in other formats.
    name : of the file, with as many of its folders as tell it from others of its source.
    """

    path: Path
    columns: tuple[str, ...]
    crs: CRS | None
    has_geometry: bool
    understood: str
    read: Callable[[Sequence[str]], Iterator[Chunk]]
    delimiter: str | None = None
    name: str = ""


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
    files = list(found_files(source.paths))
    tables = (
        table_at(str(file), source.layer or (osm_layer if _is_osm(file) else None), names) for file in files
    )
    return tuple(replace(table, name=name) for table, name in zip(tables, distinct_names(files), strict=True))


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
    file = _expanded(path)
    if not file.exists():
        raise SourceError(f"no such file: {path}")
    if not (file.is_file() or file.is_dir()):
        raise SourceError(f"{path} is no file but a pipe or a device; write what it gives to a file")
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
    SourceError : a pattern without a file, a file given twice, or what cannot be a path.
    """
    seen: set[Path] = set()
    for path in paths:
        expanded = _expanded(path)
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


def distinct_names(files: Sequence[Path]) -> list[str]:
    """A name for each file: its own, with the folders above it as far as they tell it from the others.

    >>> distinct_names([Path("/a/2023/c.csv"), Path("/a/2024/c.csv"), Path("/a/d.csv")])
    ['2023/c.csv', '2024/c.csv', 'd.csv']
    """
    parts = [file.absolute().parts for file in files]
    names = [file.name for file in files]
    for depth in range(2, max(map(len, parts), default=0) + 1):
        met = Counter(names)
        names = [
            name if met[name] == 1 else "/".join(p[-depth:]) for name, p in zip(names, parts, strict=True)
        ]
    return names


def as_text(values: pd.Series) -> NDArray[np.object_]:
    """(N,) text or null; a whole number without decimals, whatever the others of its column.

    >>> as_text(pd.Series([1.0, None, 2.5])).tolist(), as_text(pd.Series(["K", None])).tolist()
    (['1', None, '2.5'], ['K', None])
    """
    return np.asarray(texts_of(values).to_numpy(zero_copy_only=False), dtype=object)


def texts_of(values: pd.Series) -> pa.LargeStringArray:
    """(N,) as `as_text`, in Arrow's memory."""
    if pd.api.types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        whole = np.isfinite(numbers) & (np.abs(numbers) < _WHOLE) & (np.trunc(numbers) == numbers)
        integers = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.large_string())
        fractions = pa.array(numbers, from_pandas=True).cast(pa.large_string())
        return pc.if_else(pa.array(whole), integers, fractions)
    text = pa.array(values.astype("string"), type=pa.large_string(), from_pandas=True)
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def _expanded(path: str) -> Path:
    try:
        expanded = Path(path).expanduser()
        expanded.lstat()
    except FileNotFoundError:
        return expanded
    except (OSError, ValueError, RuntimeError) as error:
        shown = repr(path if len(path) <= _SHOWN else f"{path[:_SHOWN]}...")
        why = error.strerror if isinstance(error, OSError) else one_line(error)
        raise SourceError(f"{shown} cannot be the path of a file: {why}; mend it") from None
    return expanded


def _text_table(path: Path, delimiter: str | None, names: Sequence[str]) -> Table:
    text = text_table(path, delimiter, names)
    checked_names(text.columns, path)

    def read(wanted: Sequence[str]) -> Iterator[Chunk]:
        kept = list(dict.fromkeys(wanted))
        for table in _of_rows(text.read(kept), CHUNK_ROWS):
            yield table.to_pandas()[kept], None

    return Table(path, text.columns, None, False, text.understood, read, text.delimiter, path.name)


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
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
    except UNREADABLE as error:
        raise unopened(path, "a Parquet file", error) from None
    checked_names(schema.names, path)
    geometry, crs = geoparquet_geometry(schema, path)
    columns = tuple(name for name in schema.names if name != geometry)

    def read(names: Sequence[str]) -> Iterator[Chunk]:
        wanted = list(dict.fromkeys([*names, *([geometry] if geometry else [])]))
        rows = 0
        with undamaged(path), pq.ParquetFile(path, page_checksum_verification=True) as opened:
            # of no column Arrow does not say how many rows there are
            for batch in opened.iter_batches(CHUNK_ROWS, columns=wanted or list(columns[:1])):
                yield _chunk(batch.select(wanted) if wanted else batch, geometry, path)
                rows += len(batch)
            check_row_count(path, rows, opened.metadata.num_rows)

    understood = "GeoParquet" if geometry is not None else "Parquet"
    return Table(path, columns, crs, geometry is not None, understood, read, name=path.name)


def _vector_table(path: Path, layer: str | None) -> Table:
    try:
        with _osm_settings(path):
            name = _layer_of(path, layer)
            info = pyogrio.read_info(path, layer=name)
    except DataLayerError as error:
        raise SourceError(
            f"{path} is not a table that can be opened: {one_line(error)}; export it again"
        ) from None
    except UnboundLocalError:  # pyogrio's own, where the text of a CRS is not UTF-8
        raise SourceError(f"{path}: the name of its CRS is not UTF-8; write it again, its .prj too") from None
    except UNREADABLE as error:
        raise unopened(path, "a table that can be opened", error) from None
    if info["driver"] in _XML_DRIVERS:
        check_xml(path)

    def read(names: Sequence[str]) -> Iterator[Chunk]:
        wanted = list(dict.fromkeys(names))
        rows = 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(undamaged(path))
            # read when the file is opened, so another file read meanwhile is none the wiser
            with _osm_settings(path):
                opened = open_arrow(path, layer=name, columns=wanted, batch_size=CHUNK_ROWS, use_pyarrow=True)
                meta, reader = stack.enter_context(opened)
            for batch in reader:
                yield _chunk(batch, meta["geometry_name"] or "wkb_geometry", path)
                rows += len(batch)
            check_row_count(path, rows, info["features"])

    crs = crs_of_text(info["crs"])
    has_geometry = info["geometry_type"] is not None
    fields = tuple(map(str, info["fields"]))
    return Table(path, fields, crs, has_geometry, str(info["driver"]), read, name=path.name)


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


def _chunk(batch: pa.RecordBatch, geometry: str | None, path: Path) -> Chunk:
    if geometry is None or geometry not in batch.schema.names:
        return typed_frame(batch, path), None
    wkb = batch.column(geometry).to_numpy(zero_copy_only=False)
    return typed_frame(batch.drop_columns([geometry]), path), wkb
