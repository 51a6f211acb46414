"""`score`: tiles and a model become layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from roadrisk.by_road import by_road
from roadrisk.errors import LayerError, ModelError, UsageError
from roadrisk.files import sha256_of
from roadrisk.gathering import has_a_side, road_metres
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import checked_bbox
from roadrisk.inputs import Tiles, tiles_at
from roadrisk.learning.examples import Examples
from roadrisk.learning.explaining.reasons import reasons_fields
from roadrisk.learning.judging.calibration import logit_of_riskiest, spread_difference
from roadrisk.learning.judging.predicted import Predicted, risk_meaning
from roadrisk.learning.labels.label import observed
from roadrisk.learning.loop.devices import device_of
from roadrisk.learning.model import WEIGHTS, Model, fold_outputs, read_model, scores
from roadrisk.maps.layer import About, Layer
from roadrisk.maps.layers import MapFile, check_outs, map_files, write_files
from roadrisk.maps.places import GivenShapes
from roadrisk.maps.scored import scored_tiles
from roadrisk.maps.sheets import write_sheets
from roadrisk.metros import with_absent_classes
from roadrisk.pictured import pictures_of
from roadrisk.progress import Progress, silent
from roadrisk.scorable import (
    called_as,
    check_apart,
    check_fit,
    feeds_of,
    own_rows,
    predicted_of,
    scored_examples,
)
from roadrisk.scored_fields import facts_asked, score_fields

LEVEL = "out of fold the model orders tiles no better than chance: all have the same risk, ranks mean nothing"


@dataclass(frozen=True)
class ScoreSettings:
    """What a layer shows of the scores.

    Parameters
    ----------
    facts : columns that it carries besides them, `all` or `none`; None for those the model learned from.
    reasons : also say what moved each score.
    bbox : west, south, east, north [deg]; only tiles or roads whose middle lies there are written, with the
        ranks that they have among all.
    by : what a feature is; a road has the risk of the tiles that it crosses.
    roads : centre-lines with ids of their own; None for those kept in the dataset.
    top : how many of the riskiest are written once more, as layers and printable sheets; 0 for none.
    crs : of layers whose form leaves it open; None for the grid's own.
    device : where to compute.
    """

    facts: tuple[str, ...] | None = None
    reasons: bool = False
    bbox: tuple[float, ...] | None = None
    by: Literal["tile", "road"] = "tile"
    roads: Path | None = None
    top: int = 0
    crs: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.by not in ("tile", "road"):
            raise UsageError(f"--by {self.by}: a layer is by tile or by road")
        if self.roads is not None and self.by != "road":
            raise UsageError("--roads names what is coloured by risk; add --by road")
        if self.top < 0:
            raise UsageError(f"--top {self.top}: give how many places, 1 or more")


@dataclass(frozen=True, eq=False)
class Scoring:
    """What `score` did.

    Parameters
    ----------
    scored : the tiles, as they were written or as roads took their risk from them.
    rows : tiles of the dataset or table.
    """

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
    settings: ScoreSettings | None = None,
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
    asked = settings or ScoreSettings()
    tops = top_paths(outs, asked.top)
    check_apart([*outs, *tops], [data, model, *([asked.roads] if asked.roads else [])])
    trained = read_model(model)
    names = [view.view for view in trained.architecture.views]
    tiles = called_as(tiles_at(data, [name or "aerial" for name in names]), names)
    lying = tiles.places if asked.by == "tile" else GivenShapes(np.array([]), "EPSG:4326")
    check_outs([*outs, *tops], lying, asked.crs)
    box = checked_bbox(asked.bbox) if asked.bbox is not None else None
    tiles = with_absent_classes(tiles, trained.columns)
    check_fit(trained, tiles, model)
    scored, notes = _scored(trained, tiles, model, asked, progress)
    shown = scored
    if asked.by == "road":
        shown, said = by_road(scored, data, asked.roads)
        notes += tuple(said)
    if box is not None:
        shown = within(shown, box, f"scored {asked.by} of {data}")
        notes += (f"{len(shown):,} of the {asked.by}s have their middle in --bbox and are written",)
    files = map_files(shown, outs, asked.crs)
    if tops:
        files += _top_files(riskiest(shown, asked.top), tops, asked.crs)
    return Scoring(tuple(write_files(files)), scored, len(tiles), notes)


def within(layer: Layer, box: LngLatBbox, what: str) -> Layer:
    """The features whose middle lies in [west, east) x [south, north), with the ranks that they have.

    Raises
    ------
    LayerError : there is none; `what` says of what.
    """
    lng, lat = layer.placed().centres()
    inside = (lng >= box.west) & (lng < box.east) & (lat >= box.south) & (lat < box.north)
    if not inside.any():
        reach = f"{np.nanmin(lng):.4f} {np.nanmin(lat):.4f} {np.nanmax(lng):.4f} {np.nanmax(lat):.4f}"
        raise LayerError(
            f"no {what} has its middle in --bbox {' '.join(f'{edge:g}' for edge in box)}; "
            f"the middles reach from W S to E N {reach}"
        )
    return layer.taken(np.flatnonzero(inside))


def riskiest(layer: Layer, many: int) -> Layer:
    """The first `many` features in order of rank; features without a rank are not among them."""
    rank = layer.table["rank"].to_numpy(dtype=np.float64, na_value=np.nan)
    order = np.argsort(rank, kind="stable")[: min(many, int(np.isfinite(rank).sum()))]
    return replace(layer.taken(order), name=f"top_{many}")


def top_paths(outs: Sequence[Path], many: int) -> list[Path]:
    """Files beside `outs` that hold the top places; what is a page there is the sheets here.

    >>> [str(path) for path in top_paths([Path("a/risk.gpkg"), Path("a/risk.csv")], 50)]
    ['a/risk.top50.gpkg', 'a/risk.top50.csv', 'a/risk.top50.html']
    """
    if not many:
        return []
    beside = [out.with_suffix(f".top{many}{out.suffix}") for out in outs]
    sheets = [] if any(_is_sheets(path) for path in beside) else [outs[0].with_suffix(f".top{many}.html")]
    return beside + sheets


def _is_sheets(path: Path) -> bool:
    return path.suffix.lower() == ".html"


def _top_files(top: Layer, paths: Sequence[Path], crs: str | None) -> list[MapFile]:
    """The layers of the top places, then a printable sheet of each."""
    layers = [path for path in paths if not _is_sheets(path)]
    sheets = [MapFile(path, partial(write_sheets, top)) for path in paths if _is_sheets(path)]
    return map_files(top, layers, crs) + sheets


def _scored(
    model: Model, tiles: Tiles, path: Path, asked: ScoreSettings, progress: Progress
) -> tuple[Layer, tuple[str, ...]]:
    """All scored tiles as a layer, and what must be told of them."""
    facts = facts_asked(model, tiles, asked.facts)
    examples = scored_examples(model, tiles)
    sided = tiles.scored & has_a_side(examples, model.architecture.inputs)
    exposed = examples.exposure > 0  # 1 everywhere where nothing is in proportion
    rows = np.flatnonzero(sided & exposed)
    if not len(rows):
        raise ModelError(
            f"no tile of {tiles.path} has what {path} looks at ({model.architecture.inputs}); "
            "nothing to score"
        )
    shown, at = examples.taken(rows), device_of(asked.device)
    images = feeds_of(model, shown, at, progress)
    outputs = fold_outputs(model.architecture, model.fold_models, shown, images, at, progress)
    said = scores(model, shown, outputs)
    seen = observed(tiles.frame, tiles.eligible, model.provenance["label"], model.architecture.task)[rows]
    predicted = predicted_of(model, said, seen, road_metres(tiles, rows))
    fields = score_fields(model, tiles, rows, shown, said, predicted, seen, facts)
    if asked.reasons:
        fields += reasons_fields(model, shown, images, said, at, progress)
    places = tiles.places.taken(rows) if tiles.places is not None else None
    layer = scored_tiles(fields, places, _about(model, tiles, path), predicted.order, pictures_of(tiles))
    notes = (
        *_notes(model, shown, int((sided & ~exposed).sum())),
        *_doubts(model, predicted, tiles.eligible[rows] & ~said.out_of_fold),
    )
    return layer, notes


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
        task, own = model.architecture.task, own_rows(model)
        names = ["output"] if task.outputs == 1 else [f"output_{k}" for k in range(task.outputs)]
        trained = logit_of_riskiest(task, own[names].to_numpy(dtype=float))
        differs = spread_difference(trained, logit_of_riskiest(task, predicted.outputs[new]))
        return tuple(said for said in (LEVEL if model.calibration.level else "", differs) if said)
    unknown = 0 if predicted.dispersion is None else int(np.isnan(predicted.dispersion).sum())
    if not unknown:
        return ()
    return (f"{unknown:,} tiles have no known road_m, by which counts vary: their risk is not known",)


def _about(model: Model, tiles: Tiles, path: Path) -> About:
    label = model.provenance["label"]
    return About(
        title=f"Roadway risk: {tiles.name}",
        risk_meaning=risk_meaning(model.architecture.task, label),
        label_meaning=label["meaning"],
        licence=tiles.licence,
        attribution=tiles.attribution,
        model=sha256_of(path / WEIGHTS)[:16],
        data=tiles.identity,
        windows={name: (start, end) for name, (start, end) in model.provenance["windows"].items()},
    )
