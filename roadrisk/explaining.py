"""`explain`: why a tile has its score."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from heapq import nlargest
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.errors import DatasetError, LayerError, ModelError, UsageError
from roadrisk.files import whole_file
from roadrisk.gathering import has_a_side, road_metres
from roadrisk.inputs import Tiles, tiles_at
from roadrisk.learning.examples import Examples
from roadrisk.learning.explaining.contributions import Contributions, contributions
from roadrisk.learning.explaining.explanation import Explanation, Like, Sum
from roadrisk.learning.explaining.heat import heat_maps
from roadrisk.learning.explaining.nearest import alike
from roadrisk.learning.explaining.reasons import (
    check_sum,
    parts_of,
    reference_words,
    unit_of,
    view_words,
)
from roadrisk.learning.judging.predicted import Field, observed_field, predicted_fields, risk_meaning
from roadrisk.learning.labels.label import observed
from roadrisk.learning.loop.devices import device_of
from roadrisk.learning.model import Model, Scores, fold_outputs, read_model, scores
from roadrisk.metros import with_absent_classes
from roadrisk.progress import Progress, silent
from roadrisk.reporting.explained import explained_page
from roadrisk.reporting.pictures import place_pictures
from roadrisk.reporting.words import amount
from roadrisk.scorable import called_as, check_apart, check_fit, feeds_of, predicted_of, scored_examples

ALIKE = 1000  # names that are looked at letter by letter
TOLD = {
    "risk": "risk",
    "class": "class",
    "predicted": "predicted",
    "expected": "expected",
    "eb": "with its own count (Empirical Bayes)",
    "label": "observed",
    "observed": "observed",
}
EXPLAINED = {
    "class": "log-odds of {riskiest} before calibration",
    "value": "value that the model says",
    "count": "log of the expected count",
}
DOUBLES = {"class": "+0.69 doubles the odds", "value": "", "count": "+0.69 doubles what is expected"}


@dataclass(frozen=True, eq=False)
class _Place:
    """Tiles and how the model meets them."""

    tiles: Tiles
    examples: Examples


def explain(
    data: Path,
    model: Path,
    tile: str,
    out: Path | None = None,
    training: Sequence[Path] = (),
    device: str = "auto",
    progress: Progress = silent,
) -> Explanation:
    """Why a tile has its score: what the picture and each fact add, and training tiles like it.

    Parameters
    ----------
    data : a dataset, or a table with `image_path`.
    model : folder that `train` made.
    tile : `tile_id` of the tile.
    out : a page to write, `.html`, with a heat map over the picture.
    training : datasets that the model was trained on, if `data` is not one of them.

    Raises
    ------
    RoadriskError : one line that says what is wrong, where, and what to do.
    """
    if out is not None:
        _check_out(out)
        check_apart([out], [data, model, *training])
    trained = read_model(model)
    here = _place(trained, data, model)
    row = _row_of(trained, here, tile, data, model)
    example, at = here.examples.taken(np.array([row])), device_of(device)
    images = feeds_of(trained, example, at, progress)
    outputs = fold_outputs(trained.architecture, trained.fold_models, example, images, at)
    said = scores(trained, example, outputs)
    found = contributions(trained, example, images, at, progress)
    check_sum(trained.architecture.task, found, example, said)
    places = [here, *(_place(trained, path, model) for path in training)]
    known = [(place.examples, place.tiles.frame["tile_id"].astype(str).tolist()) for place in places]
    like, like_told = alike(trained, known, example)
    explanation = _explanation(trained, here, row, said, found, like, like_told)
    if out is not None:
        explanation = replace(explanation, heats=heat_maps(trained, example, images, at))
        _write(out, explained_page(explanation, _pictures(trained, example), _shown(places, like)))
    return explanation


def _check_out(out: Path) -> None:
    """Nothing, if a page can be written there; asked before the work."""
    if out.suffix.lower() != ".html":
        raise UsageError(f"{out} is no page; explain writes .html")
    if out.is_dir():
        raise LayerError(f"{out} is a folder; give the name of a file")
    if not out.parent.is_dir():
        raise LayerError(
            f"{out.parent} is not a folder, so {out.name} cannot be written there; make it first"
        )
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise LayerError(
            f"{out.parent} cannot be written to: {error.strerror}; use another folder"
        ) from error


def _write(out: Path, page: str) -> None:
    try:
        with whole_file(out) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise LayerError(f"{out}: cannot be written: {error}; free space or use another folder") from error


def _place(model: Model, data: Path, path: Path) -> _Place:
    """The tiles at `data`, if they are of the model's kind."""
    names = [view.view for view in model.architecture.views]
    tiles = called_as(tiles_at(data, [name or "aerial" for name in names]), names)
    tiles = with_absent_classes(tiles, model.columns)
    check_fit(model, tiles, path)
    return _Place(tiles, scored_examples(model, tiles))


def _row_of(model: Model, place: _Place, tile: str, data: Path, path: Path) -> int:
    """The row of a tile, if there is something to explain.

    Raises
    ------
    DatasetError : no such tile.
    ModelError : the tile has nothing that the model looks at.
    """
    ids = place.tiles.frame["tile_id"].astype(str).tolist()
    if tile not in ids:
        raise DatasetError(
            f"{data} has no tile {tile!r} among its {len(ids):,}; "
            f"the nearest names are {', '.join(_nearest_names(tile, ids))}"
        )
    row = ids.index(tile)
    inputs = model.architecture.inputs
    if not place.tiles.scored[row]:
        raise ModelError(f"tile {tile} of {data} is left out of scores (--drop-uncovered); name another")
    if not has_a_side(place.examples, inputs)[row]:
        lacks = {"image": "picture", "facts": "fact", "both": "picture and no fact"}[inputs]
        raise ModelError(
            f"tile {tile} of {data} has no {lacks} for {path} to look at: there is no score to explain"
        )
    if not place.examples.exposure[row] > 0:
        exposure = model.architecture.task.exposure
        raise ModelError(f"tile {tile} of {data} has no {exposure}: nothing is expected of it")
    return row


def _nearest_names(tile: str, ids: Sequence[str]) -> list[str]:
    def same_letters(name: str) -> int:
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(name, tile, strict=False)))

    # difflib would take a minute for a million of them
    begin_alike = nlargest(ALIKE, ids, key=same_letters)
    return get_close_matches(tile, begin_alike, n=3, cutoff=0)


def _explanation(
    model: Model,
    here: _Place,
    row: int,
    said: Scores,
    found: Contributions,
    like: tuple[Like, ...],
    like_told: str,
) -> Explanation:
    task, origin = model.architecture.task, model.provenance["label"]
    rows = np.array([row])
    seen = observed(here.tiles.frame, here.tiles.eligible, origin, task)[rows]
    predicted = predicted_of(model, said, seen, road_metres(here.tiles, rows))
    fields = [*predicted_fields(predicted, origin), observed_field(task, origin, seen)]
    example = here.examples.taken(rows)
    views = [view.view for view in model.architecture.views]
    riskiest = "high risk" if task.outputs == 1 else task.classes[-1] if task.classes else ""
    parts = parts_of(example, found, 0, view_words(views))
    held = [view for view, index in zip(views, example.picture[0], strict=False) if index >= 0]
    known = [column.name for column in found.columns] if example.has_facts[0] else []
    total = Sum(
        EXPLAINED[task.kind].format(riskiest=riskiest),
        unit_of(model),
        DOUBLES[task.kind],
        reference_words(model, bool(example.has_facts[0])),
        float(found.base[0]),
        float(found.picture[0]),
        float(found.all_facts[0]),
        float(found.score[0]),
        float(found.lost[0]),
        found.complete,
    )
    return Explanation(
        tile=str(here.tiles.frame["tile_id"].iloc[row]),
        region=here.tiles.name,
        said={column.name: _plain(values.iloc[0]) for column, values in fields},
        told=_told(fields),
        voice=_voice(model, said),
        meaning=risk_meaning(task, origin),
        sum=total,
        parts=tuple(parts),
        columns=(*held, *known),
        like=like,
        like_told=like_told,
        risk_name=_risk_name(model),
    )


def _voice(model: Model, said: Scores) -> str:
    if said.out_of_fold[0]:
        return "A training tile: this is the word of the fold that did not see it."
    return f"Not a training tile: this is the mean of all {len(model.fold_models)} folds."


def _risk_name(model: Model) -> str:
    return {"class": "risk", "value": "predicted", "count": "expected"}[model.architecture.task.kind]


def _told(fields: Sequence[Field]) -> str:
    """What is said and observed in one line, with ends in brackets."""
    values = {column.name: _plain(series.iloc[0]) for column, series in fields}
    words = []
    for name in (name for name in TOLD if name in values):
        low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
        ends = f" ({_said(low)} to {_said(high)})" if low is not None and high is not None else ""
        words.append(f"{TOLD[name]} {_said(values[name])}{ends}")
    return ", ".join(words)


def _said(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "high" if value else "low"
    return amount(value) if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """For JSON: None where unknown."""
    if pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _pictures(model: Model, example: Examples) -> dict[str, Any]:
    """(3, size, size) of each view of one tile, as its encoder is given it."""
    shown = {}
    for view, name in enumerate(shape.view for shape in model.architecture.views):
        index = example.picture[0, view]
        if index < 0:
            continue
        for part in example.pictures[view]:
            if index < len(part.pictures):
                shown[name] = part.pictures.prepared(np.array([index]))[0]
                break
            index -= len(part.pictures)
    return shown


def _shown(places: Sequence[_Place], like: Sequence[Like]) -> dict[tuple[str, str], bytes]:
    """JPEG by key and view of training tiles."""
    keys = [one.key for one in like]
    return {at: jpeg for place in places for at, jpeg in place_pictures(place.tiles, keys).items()}
