"""A dataset: a tiled region on disk. It is whole when `dataset.json` is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd

from roadrisk.columns import Column, column_from_json
from roadrisk.errors import DatasetError, RoadriskError
from roadrisk.files import TEMPORARY, locked, remove_temporaries, whole_file, write_json
from roadrisk.grid import Grid
from roadrisk.mosaic import MosaicReader

FORMAT = 1
MANIFEST = "dataset.json"
RUN = "run.json"
FOLDERS = ("views", "events", "lines", "rejected")


@dataclass(frozen=True)
class View:
    """One picture of every tile.

    Parameters
    ----------
    name : `aerial` for the picture itself.
    tile_size : pixels along a side of a tile.
    min_coverage : a tile with less picture counts as without one.
    digest : of the parts' checksums; changes when a pixel does.
    """

    name: str
    tile_size: int
    min_coverage: float
    digest: str


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
        return MosaicReader(self.path, name, self.grid, self.view(name).tile_size, self.plan)

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
        views=tuple(View(**view) for view in manifest["views"]),
        columns=tuple(column_from_json(column) for column in manifest["columns"]),
        plan=manifest["plan"]["hash"],
        manifest=manifest,
    )


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


def write_tiles(path: Path, frame: pd.DataFrame, grid: Grid) -> None:
    """Write `tiles.parquet`: GeoParquet 1.1 in the grid's CRS with bbox covering."""
    geometry = grid.cells(frame["row"].to_numpy(), frame["col"].to_numpy())
    tiles = geopandas.GeoDataFrame(frame, geometry=geometry, crs=grid.crs)
    with whole_file(path / "tiles.parquet") as temporary:
        tiles.to_parquet(
            temporary, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True
        )


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a Parquet table whole, making its folder."""
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")


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
    if (path / MANIFEST).is_file():
        if not overwrite:
            raise DatasetError(
                f"{path} is a finished dataset; give --overwrite to make it anew, or another -o"
            )
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
