"""A dataset: a tiled region on disk. It is whole when `dataset.json` is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from roadrisk.columns import Column, column_from_json
from roadrisk.errors import DatasetError, RoadriskError
from roadrisk.files import TEMPORARY, locked, remove_temporaries, whole_file, write_json
from roadrisk.geometry.columns import COVERING, COVERING_TYPE, GEOMETRY, boxes_as_wkb, covering, geo_key
from roadrisk.grid import Grid
from roadrisk.mosaic.reader import MosaicReader

FORMAT = 4
MANIFEST = "dataset.json"
RUN = "run.json"
RECORD = ("x", "y", "time", "source_file", "source_row")
FOLDERS = ("views", "events", "lines", "rejected")

TileValues = NDArray[Any] | ExtensionArray

_ROWS_AT_ONCE = 1 << 16
_GEOMETRY_FIELDS = (pa.field(GEOMETRY, pa.binary()), pa.field(COVERING, COVERING_TYPE))


@dataclass(frozen=True)
class View:
    """One picture of every tile.

    Parameters
    ----------
    name : `aerial` for the picture itself.
    tile_size : pixels along a side of a tile.
    min_coverage : a tile with less picture counts as without one.
    digest : of the parts' checksums; changes when a pixel does.
    compress : `jpeg` where pixels are not exact.
    stretch : for each colour the values that became 0 and 255; None where the sheets were of 8 bit.
    neighbourhood : tiles along a side of what the picture of a tile shows.
    plan : that its parts are of; empty for the dataset's own.
    coverage : column with the share of each tile that it covers; empty for `coverage_` and its name.
    """

    name: str
    tile_size: int
    min_coverage: float
    digest: str
    compress: str = "zstd"
    stretch: tuple[tuple[float, float], ...] | None = None
    neighbourhood: int = 1
    plan: str = ""
    coverage: str = ""

    @property
    def coverage_column(self) -> str:
        """The column with the share of each tile that it covers."""
        return self.coverage or f"coverage_{self.name}"


@dataclass(frozen=True)
class Dataset:
    """A whole dataset, as its manifest describes it.

    Parameters
    ----------
    plan : digest of what it was made from.
    manifest : `dataset.json` as plain values.
    """

    path: Path
    grid: Grid
    views: tuple[View, ...]
    columns: tuple[Column, ...]
    plan: str
    manifest: dict[str, Any]

    def tiles(self) -> pd.DataFrame:
        """A row a tile in (row, col) order: `tile_id`, `row`, `col` and the columns, without geometry."""
        names = ["tile_id", "row", "col", *(c.name for c in self.columns)]
        file = self.path / "tiles.parquet"
        try:
            return pd.read_parquet(file, columns=names)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise DatasetError(
                f"{file} is damaged ({reason}); copy the dataset again or tile again"
            ) from None

    def view(self, name: str) -> View:
        """The view of that name.

        Raises
        ------
        DatasetError : there is none.
        """
        for view in self.views:
            if view.name == name:
                return view
        there = ", ".join(v.name for v in self.views) or "none"
        raise DatasetError(f"{self.path} has no view {name!r}; its views: {there}")

    def reader(self, name: str) -> MosaicReader:
        """Pictures of single tiles from a view."""
        view = self.view(name)
        plan = view.plan or self.plan
        return MosaicReader(self.path, name, self.grid, view.tile_size, plan, view.neighbourhood)

    def events(self) -> dict[str, pd.DataFrame]:
        """By source, a row an event: `x`, `y` in the grid's CRS, `time`, `source_file` and `source_row`.

        Raises
        ------
        DatasetError : a file is missing or damaged.
        """
        names = [Path(file) for file in self.manifest["files"] if file.startswith("events/")]
        return {file.stem: self._records(file) for file in names}

    def _records(self, file: Path) -> pd.DataFrame:
        try:
            return pd.read_parquet(self.path / file, columns=list(RECORD))
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise DatasetError(
                f"{self.path / file} is damaged ({reason}); copy the dataset again or tile again"
            ) from None

    def metres_per_pixel(self, name: str) -> float:
        """Ground side of a pixel of a view [m]."""
        return self.grid.cell_m / self.view(name).tile_size


def read_dataset(path: Path) -> Dataset:
    """The dataset in a folder.

    Raises
    ------
    DatasetError : no dataset, one whose `tile` has not finished, a newer format, or a file is missing.
    """
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        if (path / RUN).is_file():
            raise DatasetError(
                f"{path} is unfinished; run the same `roadrisk tile` again, it goes on where it stopped"
            )
        raise DatasetError(f"{path} is no dataset: it holds no {MANIFEST}; make one with `roadrisk tile`")
    manifest = _parsed(manifest_path)
    known = manifest.get("format")
    if not isinstance(known, int) or isinstance(known, bool) or known < 1:
        raise DatasetError(f"{manifest_path} is not a roadrisk dataset: it has no format number")
    if known > FORMAT:
        raise DatasetError(
            f"{path} has format {known}, newer than this roadrisk reads ({FORMAT}); upgrade roadrisk"
        )
    try:
        return _described(path, manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{manifest_path} is damaged ({type(error).__name__}: {error}); tile again"
        ) from None


def _described(path: Path, manifest: dict[str, Any]) -> Dataset:
    missing = [name for name in manifest["files"] if not (path / name).is_file()]
    if missing:
        raise DatasetError(
            f"{path} lacks {missing[0]}, which its {MANIFEST} names; copy it again or tile again"
        )
    absent = {"name", "windows", "label", "sources", "rights", "summary"} - set(manifest)
    if absent:
        raise KeyError(min(absent))
    return Dataset(
        path=path,
        grid=Grid(**manifest["grid"]),
        views=tuple(_view(view) for view in manifest["views"]),
        columns=tuple(column_from_json(column) for column in manifest["columns"]),
        plan=manifest["plan"]["hash"],
        manifest=manifest,
    )


def _view(fields: dict[str, Any]) -> View:
    spans = fields.get("stretch")
    stretch = tuple((float(low), float(high)) for low, high in spans) if spans else None
    return View(**{**fields, "stretch": stretch})


def check_unfinished(path: Path, overwrite: bool) -> None:
    """Nothing, if `path` holds no finished dataset or it may be overwritten: said before anything is fetched.

    Raises
    ------
    DatasetError : it is finished.
    """
    if (path / MANIFEST).is_file() and not overwrite:
        raise DatasetError(f"{path} is a finished dataset; give --overwrite to make it anew, or another -o")


@contextmanager
def writing(path: Path, plan: dict[str, Any], overwrite: bool) -> Iterator[None]:
    """Hold `path` for making the dataset of `plan`: locked, cleaned of half-written files, resumable.

    Parameters
    ----------
    plan : plain values with their digest under `hash`.

    Raises
    ------
    DatasetError : a finished dataset is there, another plan has begun there, the folder is not ours,
        or another run holds it.
    """
    if path.exists() and not path.is_dir():
        raise DatasetError(f"{path} is a file; a dataset is a folder: choose another -o")
    made = not path.exists()
    _make_folder(path)
    with locked(path):
        _checked_folder(path, plan, overwrite)
        remove_temporaries(path)
        write_json(path / RUN, plan)
        try:
            yield
        except OSError as error:
            _remove_if_bare(path, made)
            raise DatasetError(
                f"cannot write {path} ({error.strerror or error}); mend that and run the same command again"
            ) from error
        except BaseException:
            _remove_if_bare(path, made)
            raise
        (path / RUN).unlink(missing_ok=True)


@contextmanager
def forgotten_after_error(path: Path) -> Iterator[None]:
    """Remove an unfinished run when what is inside fails: the same plan would only fail again."""
    try:
        yield
    except RoadriskError:
        _remove_dataset(path)
        raise


def write_tiles(path: Path, columns: Mapping[str, TileValues], grid: Grid) -> None:
    """Write `tiles.parquet`: GeoParquet 1.1 in the grid's CRS with bbox covering, a row a tile.

    Rows are made and written some at a time, so memory does not grow by a table of them all.

    Parameters
    ----------
    columns : name -> (size,) values in (row, col) order; arrays of objects hold text or None. `tile_id`,
        `row`, `col` and the geometry are made here.
    """
    attributes = _attributes(columns, grid, slice(0, 0))
    fields = pa.Schema.from_pandas(attributes, preserve_index=False)
    for i, field in enumerate(fields):
        if pa.types.is_null(field.type):  # of text none is there yet to tell its type from
            fields = fields.set(i, field.with_type(pa.large_string()))
    geo = geo_key(grid.crs, ["Polygon"], grid.bounds, orientation="counterclockwise")
    metadata = {**fields.metadata, b"geo": json.dumps(geo).encode()}
    schema = pa.schema([*fields, *_GEOMETRY_FIELDS], metadata)
    with (
        whole_file(path / "tiles.parquet") as temporary,
        # a dictionary of measures that hardly repeat costs twice the time and a quarter more bytes
        pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=False) as writer,
    ):
        for first in range(0, grid.size, _ROWS_AT_ONCE):
            some = slice(first, min(first + _ROWS_AT_ONCE, grid.size))
            table = pa.Table.from_pandas(_attributes(columns, grid, some), fields, preserve_index=False)
            writer.write_table(pa.table([*table.columns, *_geometry(grid, some)], schema=schema))


def _attributes(columns: Mapping[str, TileValues], grid: Grid, some: slice) -> pd.DataFrame:
    rows, cols = np.divmod(np.arange(some.start, some.stop, dtype=np.int64), grid.cols)
    made = {"tile_id": grid.tile_ids(rows, cols), "row": rows, "col": cols}
    return pd.DataFrame({**made, **{name: values[some] for name, values in columns.items()}})


def _geometry(grid: Grid, some: slice) -> tuple[pa.Array, pa.Array]:
    """Tiles as WKB, point for point those of `Grid.cells`, and their bounds."""
    rows, cols = np.divmod(np.arange(some.start, some.stop, dtype=np.int64), grid.cols)
    edges = grid.edges(rows, cols)
    return boxes_as_wkb(*edges), covering(np.stack(edges))


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a Parquet table whole, making its folder."""
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")


def write_batches(path: Path, batches: Iterator[pd.DataFrame]) -> None:
    """Write a Parquet table whole from parts of it with the same columns, making its folder."""
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as temporary, ExitStack() as until_written:
        writer: Any = None
        for batch in batches:
            table = pa.Table.from_pandas(batch, preserve_index=False)
            if writer is None:
                writer = pq.ParquetWriter(temporary, table.schema, compression="zstd")
                until_written.callback(writer.close)
            writer.write_table(table.cast(writer.schema))


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """The commit point: from here on the dataset is whole."""
    write_json(path / MANIFEST, {"format": FORMAT, **manifest})


def _parsed(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise DatasetError(f"{path} is damaged: it holds no table")
    return value


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"cannot make the folder {path}: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise DatasetError(f"{path} is read-only; choose another -o")


def _checked_folder(path: Path, plan: dict[str, Any], overwrite: bool) -> None:
    links = [f for name in FOLDERS for f in (path / name, *(path / name).rglob("*")) if f.is_symlink()]
    if links:
        raise DatasetError(
            f"{links[0]} is a link, and what it points to is not ours; remove it, or choose another -o"
        )
    check_unfinished(path, overwrite)
    if (path / MANIFEST).is_file():
        _remove_dataset(path)
    elif (path / RUN).is_file():
        begun = _parsed(path / RUN)
        if begun.get("hash") != plan["hash"]:
            if not overwrite:
                raise DatasetError(
                    f"{path} holds an unfinished run of another plan; {_difference(begun, plan)}; "
                    "run that plan again, give --overwrite, or another -o"
                )
            _remove_dataset(path)
    elif any(not f.name.startswith(TEMPORARY) for f in path.iterdir()):
        raise DatasetError(f"{path} is not empty and not a roadrisk dataset; choose another -o")


def _difference(begun: dict[str, Any], plan: dict[str, Any]) -> str:
    """The first thing in which two plans differ, in words."""

    def flat(value: Any, name: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for key, inner in value.items() for k, v in flat(inner, f"{name}.{key}").items()}
        if isinstance(value, list):
            return {k: v for i, inner in enumerate(value) for k, v in flat(inner, f"{name}[{i}]").items()}
        return {name.removeprefix("."): value}

    before, now = flat(begun, ""), flat(plan, "")
    for name in [*now, *before]:
        if name != "hash" and before.get(name) != now.get(name):
            return f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
    return "they differ"


def _owned_files(path: Path) -> list[Path]:
    """Files of a dataset or of an unfinished run: what the manifest names, else what `tile` writes."""
    if (path / MANIFEST).is_file():
        manifest = _parsed(path / MANIFEST)
        if not isinstance(manifest.get("format"), int):
            raise DatasetError(f"{path / MANIFEST} is not ours; nothing was removed: choose another -o")
        listed = manifest.get("files")
        names = (
            [*(name for name in listed if isinstance(name, str)), MANIFEST]
            if isinstance(listed, list)
            else []
        )
    else:
        names = ["tiles.parquet"]
        for folder in FOLDERS:
            names += [str(f.relative_to(path)) for f in (path / folder).rglob("*") if f.is_file()]
    root = path.resolve()
    owned = [(path / name) for name in [*names, RUN]]
    return [f for f in owned if f.is_file() and f.resolve().is_relative_to(root)]


def _remove_dataset(path: Path) -> None:
    owned = _owned_files(path)
    # the manifest goes last: killed halfway, the next --overwrite still knows what is ours
    for file in sorted(owned, key=lambda f: f.name == MANIFEST):
        file.unlink()
    for folder in sorted({f.parent for f in owned if f.parent != path}, reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    views = path / "views"
    if views.is_dir() and not any(views.iterdir()):
        views.rmdir()


def _remove_if_bare(path: Path, made: bool) -> None:
    """After an error, leave no folder that holds nothing worth resuming."""
    remove_temporaries(path)
    if not any((path / folder).is_dir() for folder in ("views", "events")):
        (path / RUN).unlink(missing_ok=True)
        if made and not any(path.iterdir()):
            path.rmdir()
