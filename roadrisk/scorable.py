"""Tiles as a trained model meets them, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os.path import realpath
from pathlib import Path

import pandas as pd
import torch

from roadrisk.columns import Column
from roadrisk.errors import LayerError, ModelError
from roadrisk.gathering import examples_of
from roadrisk.grid import FloatArray
from roadrisk.inputs import Tiles
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts.neighbourhood import neighbour_names
from roadrisk.learning.judging.predicted import Predicted
from roadrisk.learning.labels.amounts import exposure_of
from roadrisk.learning.matching import Kind, column_differences, tile_differences
from roadrisk.learning.model import Model, Scores
from roadrisk.learning.pictures.feeds import ImageFeed, scoring_feed
from roadrisk.metros import kind_of, over_windows
from roadrisk.progress import Progress


def called_as(tiles: Tiles, names: Sequence[str]) -> Tiles:
    """Tiles whose one view is called as the model's is, where either is a table's, which has no name."""
    if len(names) == len(tiles.views) == 1 and "" in (names[0], tiles.views[0].name):
        return replace(tiles, views=(replace(tiles.views[0], name=names[0]),))
    return tiles


def check_apart(outs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Nothing, if no file that is written would replace what is read, by whatever link it is named.

    Parameters
    ----------
    inputs : files and folders that are read.

    Raises
    ------
    LayerError : a file that is one of `inputs` or lies in one.
    """
    for out in outs:
        for given in inputs:
            # unlike Path.resolve, a loop of links is no error here
            written, read = Path(realpath(out)), Path(realpath(given))
            if written == read:
                raise LayerError(f"{out} is what is read; give the file to write another name")
            if read in written.parents:
                raise LayerError(f"{out} lies in {given}, which is read; write it beside that folder")


def check_fit(model: Model, tiles: Tiles, path: Path) -> None:
    """Refuse tiles that are not of the kind the model was trained on, naming each difference.

    Raises
    ------
    ModelError : what differs, and what to do.
    """
    about = model.provenance
    there = Kind(
        columns=model.columns,
        cell_m=about["cell_m"],
        metres_per_pixel=about["metres_per_pixel"],
        stretches={
            view: tuple((float(low), float(high)) for low, high in spans)
            for view, spans in about.get("stretches", {}).items()
        },
        views=tuple(view.view for view in model.architecture.views),
    )
    used = {name for fold in model.fold_models for name in fold.preparation.columns}
    used = {
        column.name
        for column in model.columns
        if column.name in used or used & set(neighbour_names(column.name, model.neighbourhood))
    }
    exposure = model.architecture.task.exposure
    wrong = [*column_differences(kind_of(tiles), there, used).values()]
    wrong += [f"no column {exposure}"] if exposure and exposure not in tiles.frame else []
    wrong += tile_differences(kind_of(tiles), there, str(path))
    if wrong:
        raise ModelError(
            f"{path} was trained on other tiles than {tiles.path} has: {'; '.join(wrong)}; "
            "tile the region as the model's was, or train a model on it"
        )


def scored_examples(model: Model, tiles: Tiles) -> Examples:
    """Tiles as the model meets them, one for every row."""
    exposure = exposure_of(tiles.frame, model.architecture.task, str(tiles.path))
    known = {column.name: column for column in model.columns}
    windows = tuple(known.get(column.name, column) for column in tiles.columns)
    tiles = over_windows(replace(tiles, columns=windows), tiles.columns)
    return examples_of(tiles, own_columns(model, tiles), model.neighbourhood, model.pictures, exposure)


def feeds_of(
    model: Model, examples: Examples, device: torch.device, progress: Progress
) -> list[ImageFeed | None]:
    """Feeds of the model's views, with all features that a frozen encoder has to make."""
    feeds: list[ImageFeed | None] = []
    for view, (pictures, preparation) in enumerate(zip(examples.pictures, model.pictures, strict=True)):
        feed = None
        if pictures:
            shape = model.architecture
            feed = scoring_feed(pictures, preparation, shape.encoder, model.encoder, shape.augment, device)
            seen = examples.picture[:, view]
            feed.ready(seen[seen >= 0], progress)
        feeds.append(feed)
    return feeds


def own_columns(model: Model, tiles: Tiles) -> tuple[Column, ...]:
    """The columns that the model learned from, as these tiles know them; numbers or text as it knew them."""
    known = {column.name: column for column in tiles.columns}
    return tuple(replace(known[c.name], dtype=c.dtype) for c in model.columns if c.name in known)


def own_rows(model: Model) -> pd.DataFrame:
    """What the model's own folds say of training tiles."""
    own = model.out_of_fold
    return own[(own["split"] == model.split) & (own["model"] == model.name)]


def predicted_of(model: Model, said: Scores, seen: FloatArray, road_m: FloatArray | None) -> Predicted:
    """What the model says of N tiles.

    Parameters
    ----------
    seen : (N,) what was observed in them.
    road_m : (N,) metres of road; None where no source knows a road.
    """
    task = model.architecture.task
    plain = Predicted(
        task,
        said.outputs,
        said.dispersion if task.dispersed else None,
        own_rows(model)["prediction"].to_numpy(dtype=float),
        model.calibration,
    )
    spread = model.dispersion
    if spread is None:
        return plain
    k = spread.of(said.prediction, road_m)
    return replace(plain, dispersion=k, observed=seen, lasting=spread.lasting)
