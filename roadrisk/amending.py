"""A finished dataset gains views and their columns, or loses them; all else stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.columns import Column, Fact
from roadrisk.dataset import Dataset, TileValues, View, read_dataset, write_manifest, write_tiles


def with_views(
    dataset: Dataset,
    views: Sequence[View],
    facts: Sequence[Fact],
    files: Sequence[str],
    notes: dict[str, Any],
) -> Dataset:
    """The dataset with more views.

    The table of tiles is replaced first and the manifest last: until then readers see the dataset without.

    Parameters
    ----------
    facts : the views' columns with their (size,) values.
    files : names, in the dataset, of everything the views consist of; they are there.
    notes : what the manifest keeps under each view's name in `drawn`, plain values.
    """
    columns = [*dataset.columns, *(column for column, _ in facts)]
    tiles = dataset.tiles()
    values = {column.name: stored_values(column, tiles[column.name]) for column in dataset.columns}
    values |= {column.name: np.asarray(array, dtype=column.dtype) for column, array in facts}
    write_tiles(dataset.path, values, dataset.grid)
    manifest = dataset.manifest
    told = {**notes, "columns": [column.name for column, _ in facts]}
    return _rewritten(
        dataset,
        views=[*manifest["views"], *(asdict(view) for view in views)],
        columns=[column.as_json() for column in columns],
        files=sorted({*manifest["files"], *files}),
        drawn={**manifest.get("drawn", {}), **{view.name: told for view in views}},
    )


def without_views(dataset: Dataset, names: Sequence[str], files: Sequence[str]) -> Dataset:
    """The dataset without views that `with_views` gave it; `files` go once nobody knows of them."""
    manifest = dataset.manifest
    drawn: dict[str, Any] = manifest["drawn"]
    its = {column for name in names for column in drawn[name]["columns"]}
    left = _rewritten(
        dataset,
        views=[asdict(view) for view in dataset.views if view.name not in names],
        columns=[column.as_json() for column in dataset.columns if column.name not in its],
        files=sorted({*manifest["files"]} - {*files}),
        drawn={name: notes for name, notes in drawn.items() if name not in names},
    )
    gone = [dataset.path / file for file in files]
    for file in gone:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in gone} - {dataset.path / "views"}:
        with suppress(OSError):  # others may have put something there, as QGIS does
            folder.rmdir()
    return left


def stored_values(column: Column, values: pd.Series) -> TileValues:
    """The values of a column as `tiles.parquet` was written from them."""
    if column.dtype == "boolean":
        return values.astype("boolean").array
    array = values.to_numpy()
    if column.dtype == "object":
        text = np.empty(len(values), dtype=object)
        text[:] = [None if missing else value for value, missing in zip(array, values.isna(), strict=True)]
        return text
    return np.asarray(array, dtype=column.dtype)


def _rewritten(dataset: Dataset, **changed: Any) -> Dataset:
    kept = {key: value for key, value in dataset.manifest.items() if key != "format"}
    write_manifest(dataset.path, {**kept, **changed})
    return read_dataset(dataset.path)
