"""`score`: tiles and a model become layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.files import sha256_of
from roadrisk.gathering import examples_of, has_a_side, road_metres
from roadrisk.grid import FloatArray, IntArray
from roadrisk.inputs import Tiles, tiles_at
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts.neighbourhood import neighbour_names
from roadrisk.learning.judging.calibration import logit_of_riskiest, spread_difference
from roadrisk.learning.judging.predicted import (
    Field,
    Predicted,
    observed_field,
    predicted_fields,
    risk_meaning,
)
from roadrisk.learning.labels.amounts import exposure_of
from roadrisk.learning.labels.label import observed
from roadrisk.learning.loop.devices import device_of
from roadrisk.learning.matching import Kind, column_differences, tile_differences
from roadrisk.learning.model import WEIGHTS, Model, Scores, fold_outputs, read_model, scores
from roadrisk.learning.pictures.feeds import ImageFeed, scoring_feed
from roadrisk.maps.layer import About, Layer
from roadrisk.maps.layers import check_outs, write_layers
from roadrisk.maps.scored import (
    HAS_FACTS,
    HAS_IMAGE,
    IN_TRAINING,
    TILE_ID,
    scored_tiles,
)
from roadrisk.metros import kind_of, over_windows, with_absent_classes
from roadrisk.pictured import pictures_of
from roadrisk.progress import Progress, silent

LEVEL = "out of fold the model orders tiles no better than chance: all have the same risk, ranks mean nothing"


@dataclass(frozen=True, eq=False)
class Scoring:
    """What `score` did."""

    paths: tuple[Path, ...]
    scored: Layer
    rows: int
    told: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people: how many tiles were scored and from what."""
        table = self.scored.table
        seen = int(table["in_training"].sum())
        facts_only = int((~table["has_image"] & table["has_facts"]).sum())
        image_only = int((table["has_image"] & ~table["has_facts"]).sum())
        return [
            f"{len(table):,} of {self.rows:,} tiles scored; {seen:,} by the model that did not see them, "
            "the others by the mean of all",
            f"{facts_only:,} from facts alone, {image_only:,} from the picture alone",
            *self.told,
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"layers": [str(path) for path in self.paths], "tiles": len(self.scored)}


def score(
    data: Path,
    model: Path,
    outs: Sequence[Path],
    device: str = "auto",
    progress: Progress = silent,
) -> Scoring:
    """Score tiles and write them as layers, all of them or none.

    A training tile gets the word of the fold that did not see it, any other the mean of all folds.

    Parameters
    ----------
    data : a dataset, or a table with `image_path`.
    model : folder that `train` made.
    outs : files to write; their suffixes say the formats.

    Raises
    ------
    RoadriskError : one line that says what is wrong, where, and what to do.
    """
    trained = read_model(model)
    names = [view.view for view in trained.architecture.views]
    tiles = called_as(tiles_at(data, [name or "aerial" for name in names]), names)
    check_outs(outs, tiles.places)
    tiles = with_absent_classes(tiles, trained.columns)
    check_fit(trained, tiles, model)
    examples = scored_examples(trained, tiles)
    sided = tiles.scored & has_a_side(examples, trained.architecture.inputs)
    exposed = examples.exposure > 0  # 1 everywhere where nothing is in proportion
    rows = np.flatnonzero(sided & exposed)
    if not len(rows):
        raise ModelError(
            f"no tile of {data} has what {model} looks at ({trained.architecture.inputs}); nothing to score"
        )
    shown, at = examples.taken(rows), device_of(device)
    images = feeds_of(trained, shown, at, progress)
    outputs = fold_outputs(trained.architecture, trained.fold_models, shown, images, at, progress)
    said = scores(trained, shown, outputs)
    seen = observed(tiles.frame, tiles.eligible, trained.provenance["label"], trained.architecture.task)[rows]
    predicted = _predicted(trained, said, seen, road_metres(tiles, rows))
    fields = _fields(trained, tiles, rows, shown, said, predicted, seen)
    about = _about(trained, tiles, model)
    places = tiles.places.taken(rows) if tiles.places is not None else None
    scored = scored_tiles(fields, places, about, predicted.order, pictures_of(tiles))
    written = tuple(write_layers(scored, outs))
    notes = (
        *_notes(trained, shown, int((sided & ~exposed).sum())),
        *_doubts(trained, predicted, tiles.eligible[rows] & ~said.out_of_fold),
    )
    return Scoring(written, scored, len(tiles), notes)


def called_as(tiles: Tiles, names: Sequence[str]) -> Tiles:
    """Tiles whose one view is called as the model's is, where either is a table's, which has no name."""
    if len(names) == len(tiles.views) == 1 and "" in (names[0], tiles.views[0].name):
        return replace(tiles, views=(replace(tiles.views[0], name=names[0]),))
    return tiles


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
    return examples_of(tiles, _own_columns(model, tiles), model.neighbourhood, model.pictures, exposure)


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


def _notes(model: Model, examples: Examples, unexposed: int) -> tuple[str, ...]:
    """What was met that the model does not know, and tiles of which it cannot say how much to expect."""
    exposure = model.architecture.task.exposure
    unseen = [fold.preparation.unseen(examples) for fold in model.fold_models]
    names = dict.fromkeys(name for found in unseen for name in found)
    most = {name: max(found.get(name, 0) for found in unseen) for name in names}
    lost = (f"{unexposed:,} tiles have no {exposure}: nothing is expected of them",) if unexposed else ()
    return lost + tuple(
        f"{name}: {count:,} tiles have a value that the model never met; they count as unknown there"
        for name, count in most.items()
        if count
    )


def _doubts(model: Model, predicted: Predicted, new: NDArray[np.bool_]) -> tuple[str, ...]:
    """Why a risk may not be what it is called.

    Parameters
    ----------
    new : (N,) tiles of the kind that models learn from, and that none learned from.
    """
    if model.calibration is not None:
        task, own = model.architecture.task, _own_rows(model)
        names = ["output"] if task.outputs == 1 else [f"output_{k}" for k in range(task.outputs)]
        trained = logit_of_riskiest(task, own[names].to_numpy(dtype=float))
        differs = spread_difference(trained, logit_of_riskiest(task, predicted.outputs[new]))
        return tuple(said for said in (LEVEL if model.calibration.level else "", differs) if said)
    unknown = 0 if predicted.dispersion is None else int(np.isnan(predicted.dispersion).sum())
    if not unknown:
        return ()
    return (f"{unknown:,} tiles have no known road_m, by which counts vary: their risk is not known",)


def _own_rows(model: Model) -> pd.DataFrame:
    """What the model's own folds say of training tiles."""
    own = model.out_of_fold
    return own[(own["split"] == model.split) & (own["model"] == model.name)]


def _predicted(model: Model, said: Scores, seen: FloatArray, road_m: FloatArray | None) -> Predicted:
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
        _own_rows(model)["prediction"].to_numpy(dtype=float),
        model.calibration,
    )
    spread = model.dispersion
    if spread is None:
        return plain
    k = spread.of(said.prediction, road_m)
    return replace(plain, dispersion=k, observed=seen, lasting=spread.lasting)


def _fields(
    model: Model,
    tiles: Tiles,
    rows: IntArray,
    shown: Examples,
    said: Scores,
    predicted: Predicted,
    seen: FloatArray,
) -> list[Field]:
    """All that a layer carries, in its order."""
    task, origin = model.architecture.task, model.provenance["label"]
    told = [*_measure(model, tiles), *_taken(model, tiles), *_own_columns(model, tiles)]
    fields = [
        (TILE_ID, tiles.frame["tile_id"].iloc[rows]),
        *predicted_fields(predicted, origin),
        (HAS_IMAGE, pd.Series(shown.has_image)),
        *_has_views(shown),
        (HAS_FACTS, pd.Series(shown.has_facts)),
        observed_field(task, origin, seen),
        (IN_TRAINING, pd.Series(said.out_of_fold)),
    ]
    return fields + [(column, tiles.frame[column.name].iloc[rows]) for column in told]


def _has_views(shown: Examples) -> list[Field]:
    """Which of several views the score used."""
    if len(shown.views) < 2:
        return []
    return [
        (
            Column(f"has_{name}", "bool", "", "info", "none", f"Whether the score used the picture {name}."),
            pd.Series(shown.picture[:, view] >= 0),
        )
        for view, name in enumerate(shown.views)
    ]


def _measure(model: Model, tiles: Tiles) -> tuple[Column, ...]:
    """The count behind the label, where these tiles know it."""
    name = model.provenance["label"]["measure"]
    return tuple(column for column in tiles.columns if column.name == name)


def _taken(model: Model, tiles: Tiles) -> tuple[Column, ...]:
    """When the pictures that the score looked at were taken, where these tiles know it."""
    views = [view.name for view in tiles.views] if model.pictures else []
    names = [f"taken_{end}_{view}" for view in views for end in ("first", "last")]
    return tuple(
        column for column in tiles.columns if column.name in names and tiles.frame[column.name].notna().any()
    )


def _own_columns(model: Model, tiles: Tiles) -> tuple[Column, ...]:
    """The columns that the model learned from, as these tiles know them; numbers or text as it knew them."""
    known = {column.name: column for column in tiles.columns}
    return tuple(replace(known[c.name], dtype=c.dtype) for c in model.columns if c.name in known)


def _about(model: Model, tiles: Tiles, path: Path) -> About:
    label = model.provenance["label"]
    return About(
        title=f"Roadway risk: {tiles.name}",
        risk_meaning=risk_meaning(model.architecture.task, label),
        label_meaning=label["meaning"],
        licence=tiles.licence,
        attribution=tiles.attribution,
        model=sha256_of(path / WEIGHTS)[:16],
        windows={name: (start, end) for name, (start, end) in model.provenance["windows"].items()},
    )
