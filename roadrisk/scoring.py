"""`score`: tiles and a model become layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.files import sha256_of
from roadrisk.grid import FloatArray
from roadrisk.imagery.sheets import Stretch
from roadrisk.inputs import Tiles, tiles_at
from roadrisk.learning.frozen import device_of, scoring_feed
from roadrisk.learning.model import WEIGHTS, Model, fold_logits, read_model, scores
from roadrisk.maps.layers import check_outs, write_layers
from roadrisk.maps.page import Overview
from roadrisk.maps.scored import About, GivenShapes, GridTiles, Places, Scored, scored_tiles
from roadrisk.mosaic.overview import overview_path
from roadrisk.progress import Progress, silent
from roadrisk.training import examples_of

TOLERANCE = 0.2  # of cell side, pixel side and window length, between training and scoring


@dataclass(frozen=True, eq=False)
class Scoring:
    """What `score` did."""

    paths: tuple[Path, ...]
    scored: Scored
    rows: int

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
    view = trained.provenance.get("view") or "aerial"
    tiles = tiles_at(data, view)
    check_outs(outs, tiles.places)
    tiles = _with_absent_classes(tiles, trained)
    _check_fit(trained, tiles, model)
    examples = examples_of(tiles, _own_columns(trained, tiles), None, trained.picture)
    rows = np.flatnonzero(tiles.scored & _has_enough(trained, examples.has_image, examples.has_facts))
    if not len(rows):
        raise ModelError(
            f"no tile of {data} has what {model} looks at ({trained.architecture.inputs}); nothing to score"
        )
    shown = examples.taken(rows)
    torch_device = device_of(device)
    images = None
    if trained.picture is not None and examples.pictures is not None:
        images = scoring_feed(examples.pictures, trained.picture, trained.encoder, tiles.cache, torch_device)
        images.ready(shown.picture[shown.has_image], progress)
    said = scores(trained, shown, fold_logits(trained, shown, images, torch_device, progress))
    table = pd.DataFrame(
        {
            "tile_id": tiles.frame["tile_id"].to_numpy()[rows],
            "risk": said.probability,
            "has_image": shown.has_image,
            "has_facts": shown.has_facts,
            "label": pd.Series(_observed(trained, tiles)[rows], dtype="boolean"),
            "in_training": said.out_of_fold,
        }
    )
    told = (*_measure(trained, tiles), *_taken(trained, tiles), *shown.columns)
    facts = tiles.frame[[column.name for column in told]].iloc[rows].reset_index(drop=True)
    scored = scored_tiles(table, _places(tiles, rows), _about(trained, tiles, model), facts, told)
    return Scoring(tuple(write_layers(scored, outs, _overview(tiles))), scored, len(tiles))


def _with_absent_classes(tiles: Tiles, model: Model) -> Tiles:
    """Tiles with 0 metres of each road class that the model knows and no street here has.

    Classes become columns as they occur; where roads are known, one that does not occur is none, not unknown.
    """
    known = {column.name for column in tiles.columns}
    absent = [c for c in model.columns if c.name.startswith("road_m_") and c.name not in known]
    if "road_m" not in known or tiles.dataset is None or not absent:
        return tiles
    frame = tiles.frame.assign(**dict.fromkeys((column.name for column in absent), 0.0))
    return replace(tiles, frame=frame, columns=(*tiles.columns, *absent))


def _measure(model: Model, tiles: Tiles) -> tuple[Column, ...]:
    """The count behind the label, where these tiles know it."""
    name = model.provenance["label"]["measure"]
    return tuple(column for column in tiles.columns if column.name == name)


def _taken(model: Model, tiles: Tiles) -> tuple[Column, ...]:
    """When the pictures that the score looked at were taken, where these tiles know it."""
    if model.picture is None:
        return ()
    names = (f"taken_first_{tiles.view}", f"taken_last_{tiles.view}")
    return tuple(
        column for column in tiles.columns if column.name in names and tiles.frame[column.name].notna().any()
    )


def _own_columns(model: Model, tiles: Tiles) -> tuple[Column, ...]:
    """The columns that the model learned from, as these tiles know them."""
    known = {column.name: column for column in tiles.columns}
    return tuple(known[column.name] for column in model.columns if column.name in known)


def _check_fit(model: Model, tiles: Tiles, path: Path) -> None:
    """Refuse tiles that are not of the kind the model was trained on, naming each difference."""
    known = {column.name: column for column in tiles.columns}
    used = {fact.column for fold in model.fold_models for fact in fold.preparation.facts}
    about = model.provenance
    wrong = [f"no column {name}" for name in sorted(used) if name not in known]
    for column in model.columns:
        here = known.get(column.name)
        if column.name not in used or here is None:
            continue
        if here.unit != column.unit:
            wrong.append(f"{column.name} is in {here.unit or 'no unit'}, not {column.unit or 'no unit'}")
        if not _near(_days(here), _days(column)):
            wrong.append(f"{column.name} spans {_days(here)} days, not {_days(column)}")
    cell_m = tiles.dataset.grid.cell_m if tiles.dataset else None
    if not _near(cell_m, about["cell_m"]):
        wrong.append(f"tiles are {cell_m:.4g} m wide, not {about['cell_m']:.4g}")
    if model.picture is not None and not _near(tiles.metres_per_pixel, about["metres_per_pixel"]):
        wrong.append(f"a pixel is {tiles.metres_per_pixel:.3g} m, not {about['metres_per_pixel']:.3g}")
    if model.picture is not None and tiles.dataset is not None and not tiles.tile_px:
        wrong.append(f"no view {about.get('view') or 'aerial'}")
    if model.picture is not None and tiles.dataset is not None and tiles.tile_px:
        wrong += _stretch_differs(tiles.stretch, about.get("stretches", {}).get(tiles.view), path)
    if wrong:
        raise ModelError(
            f"{path} was trained on other tiles than {tiles.path} has: {'; '.join(wrong)}; "
            "tile the region as the model's was, or train a model on it"
        )


def _stretch_differs(here: Stretch | None, there: Sequence[Sequence[float]] | None, path: Path) -> list[str]:
    """In what pixels of more than 8 bit became 8 bit differently; empty when alike."""
    known = tuple((float(low), float(high)) for low, high in there) if there else None
    if here == known:
        return []
    if known is None:
        return ["its pictures are stretched from more than 8 bit, the model's were of 8 bit"]
    return [f"its pictures are stretched otherwise (tile with --stretch-of {path})"]


def _near(here: float | None, there: float | None) -> bool:
    """Whether two sizes agree, where both are known."""
    return here is None or there is None or abs(here - there) <= TOLERANCE * there


def _days(column: Column) -> int | None:
    if column.window is None:
        return None
    start, end = (date.fromisoformat(day) for day in column.window)
    return (end - start).days


def _has_enough(
    model: Model, has_image: NDArray[np.bool_], has_facts: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    if model.architecture.inputs == "image":
        return has_image
    return has_facts if model.architecture.inputs == "facts" else has_image | has_facts


def _observed(model: Model, tiles: Tiles) -> NDArray[np.object_]:
    """(N,) whether a tile was high risk by the model's own definition; None where unknown."""
    label = model.provenance["label"]
    frame = tiles.frame
    out = np.full(len(frame), None, dtype=object)
    if label["measure"] is not None and label["measure"] in frame:
        measure: FloatArray = frame[label["measure"]].to_numpy(dtype=float, na_value=np.nan)
        known = np.isfinite(measure) & tiles.eligible
        out[known] = measure[known] >= label["threshold"]
    elif label["measure"] is None and label["column"] in frame:
        values = frame[label["column"]].convert_dtypes()
        known = values.notna().to_numpy() & tiles.eligible
        out[known] = (values[known].astype(str) == label["positive"]).to_numpy()
    return out


def _places(tiles: Tiles, rows: NDArray[np.int64]) -> Places | None:
    if isinstance(tiles.places, GridTiles):
        return replace(tiles.places, rows=tiles.places.rows[rows], cols=tiles.places.cols[rows])
    if isinstance(tiles.places, GivenShapes):
        return replace(tiles.places, geometry=tiles.places.geometry[rows])
    return None


def _about(model: Model, tiles: Tiles, path: Path) -> About:
    label = model.provenance["label"]
    return About(
        title=f"Roadway risk: {tiles.name}",
        risk_meaning=(
            "Probability that a tile is high risk, as the model sees it; an association, not a cause. "
            f"{label['meaning']}"
        ),
        label_meaning=label["meaning"],
        licence=tiles.licence,
        attribution=tiles.attribution,
        model=sha256_of(path / WEIGHTS)[:16],
        windows={name: (start, end) for name, (start, end) in model.provenance["windows"].items()},
    )


def _overview(tiles: Tiles) -> Overview | None:
    """The picture of a dataset's region, shrunken; None for a table or without one."""
    if tiles.dataset is None or not tiles.view:
        return None
    with rasterio.open(tiles.path / overview_path(tiles.view)) as source:
        pixels = np.concatenate([source.read(), source.dataset_mask()[None]])
    return Overview(pixels, tiles.dataset.grid.bounds, tiles.dataset.grid.crs)
