"""Layers and datasets as all that a served map page asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from pyproj import Transformer

from roadrisk.columns import Column
from roadrisk.dataset import Dataset, read_dataset
from roadrisk.errors import DatasetError, LayerError, UsageError
from roadrisk.maps.layer import About, Layer
from roadrisk.maps.places import WGS84, GridTiles
from roadrisk.maps.reading import layer_at
from roadrisk.maps.served.answers import Site, site_of
from roadrisk.maps.served.layers import served_layer
from roadrisk.maps.served.observed import observed_tiles
from roadrisk.maps.served.pictures import ServedPictures
from roadrisk.maps.served.underlay import Underlay, underlay_of
from roadrisk.mosaic.overview import overview_path, vrt_path
from roadrisk.pictured import dataset_pictures

MOST_LAYERS = 2
COMPARED = 1000  # tiles of a layer whose places must be those of the dataset's


def site_at(
    paths: Sequence[Path],
    data: Path | None,
    warned: Callable[[str], None],
) -> Site:
    """All that a page of these layers asks for.

    Raises
    ------
    RoadriskError : no layer, no dataset, a dataset of other tiles.
    """
    if not 1 <= len(paths) <= MOST_LAYERS:
        raise UsageError(f"one or two layers are viewed, not {len(paths)}; give one PATH, or two to compare")
    given = read_dataset(data) if data is not None else None
    pictures = served_pictures(given) if given else None
    layers, under = [], given
    for path in paths:
        if not path.exists():
            raise LayerError(f"{path} is not there; give a map file or a dataset")
        if path.is_dir():
            dataset = read_dataset(path)
            layer, own = observed_layer(dataset, warned), served_pictures(dataset)
            under = under or dataset
        else:
            layer, own = layer_at(path), None
        if given:
            check_same_tiles(layer, given, path)
        layers.append(served_layer(layer, pictures if given else own))
    return site_of(layers, underlay(under) if under else None)


def observed_layer(dataset: Dataset, warned: Callable[[str], None]) -> Layer:
    """The tiles of a dataset, coloured by what was observed in them."""
    frame = dataset.tiles()
    if "dropped" in frame:
        frame["eligible"] &= ~frame["dropped"]
    measure = _measure(dataset, frame)
    known = {column.name: column for column in dataset.columns}
    if measure is None:
        warned(f"{dataset.path} has no label of numbers: its tiles have no colour")
    meaning = f"ranked by {measure}: {known[measure].meaning}" if measure else "no label of numbers is known."
    manifest = dataset.manifest
    about = About(
        title=f"Observed: {manifest['name']}",
        risk_meaning=f"Observed, not risk; {meaning}",
        label_meaning=known["label"].meaning if "label" in known else "",
        licence=_rights(dataset, "licence") or "as of the sources",
        attribution=_rights(dataset, "attribution") or str(manifest["name"]),
        model="none: what is shown was observed",
        windows={name: (start, end) for name, (start, end) in manifest["windows"].items()},
    )
    places = GridTiles(dataset.grid, frame["row"].to_numpy(), frame["col"].to_numpy())
    return observed_tiles(frame, dataset.columns, measure, places, about)


def served_pictures(dataset: Dataset) -> ServedPictures | None:
    """The pictures of all views of a dataset; None where it has none."""
    pictures = dataset_pictures(dataset)
    return ServedPictures(pictures) if pictures else None


def underlay(dataset: Dataset) -> Underlay | None:
    """The mosaic of a dataset's first view; None where it has none."""
    if not dataset.views:
        return None
    name = dataset.views[0].name
    return underlay_of(dataset.path / vrt_path(name), dataset.path / overview_path(name))


def check_same_tiles(layer: Layer, dataset: Dataset, path: Path) -> None:
    """Nothing, if a layer has tiles of the dataset, and where the dataset has them; or has no `tile_id`.

    Raises
    ------
    DatasetError : its tiles are others.
    """
    if "tile_id" not in layer.table:
        return
    grid = dataset.grid
    frame = _named_tiles(dataset).set_index("tile_id")
    names = layer.table["tile_id"]
    shared = np.flatnonzero(names.isin(frame.index))
    shared = shared[:: max(1, len(shared) // COMPARED)]
    there = frame.loc[names.iloc[shared]]
    lng, lat = layer.placed().taken(shared).centres()
    rows, cols = grid.locate(*Transformer.from_crs(WGS84, grid.crs, always_xy=True).transform(lng, lat))
    placed = np.isfinite(lng)
    same = (rows == there["row"].to_numpy()) & (cols == there["col"].to_numpy())
    if not len(shared) or not same[placed].all():
        raise DatasetError(
            f"the tiles of {path} are not those of {dataset.path}; give the dataset that it was scored from"
        )


def _named_tiles(dataset: Dataset) -> pd.DataFrame:
    """`tile_id`, `row` and `col` of every tile, without a column more."""
    return replace(dataset, columns=()).tiles()


def _measure(dataset: Dataset, frame: pd.DataFrame) -> str | None:
    """The column that the label was cut from, or a label that is numbers or truth itself."""
    said = dataset.manifest["label"]
    names = [said["measure"] if said else None, "label"]
    known: dict[str, Column] = {column.name: column for column in dataset.columns}
    return next(
        (name for name in names if name in known and pd.api.types.is_numeric_dtype(frame[name])), None
    )


def _rights(dataset: Dataset, what: str) -> str:
    rights = dataset.manifest["rights"]
    return "; ".join(dict.fromkeys(r[what] or f"{r['source']}: not stated" for r in rights))
