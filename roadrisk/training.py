"""`train`: tiles with a label become a model, and a word on how good it is."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roadrisk import __version__
from roadrisk.errors import ModelError
from roadrisk.inputs import Tiles, tiles_at
from roadrisk.learning.architecture import architecture_of
from roadrisk.learning.evaluation import measures
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts import asked_for, chosen_facts
from roadrisk.learning.folds import BUFFER_TILES, Folds, block_tiles, random_folds, spatial_folds
from roadrisk.learning.frozen import device_of, training_feed
from roadrisk.learning.label import Label, label_of
from roadrisk.learning.model import Model, Split, out_of_fold_table, write_model
from roadrisk.learning.pictures import PicturePreparation, picture_preparation
from roadrisk.learning.preparation import fact_values
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.validation import Clock, CrossValidation, cross_validated
from roadrisk.learning.weights import encoder_weights, weights_identity
from roadrisk.progress import Progress, silent

MODEL_NAMES = {"both": "fused", "image": "image", "facts": "facts"}


@dataclass(frozen=True, eq=False)
class Trained:
    """What `train` did."""

    path: Path
    model: Model
    seconds: float

    def lines(self) -> list[str]:
        """For people: what was learned from, and how good it is on tiles it did not see."""
        about = self.model.provenance
        n, high, pictured = about["tiles"], about["high_risk_tiles"], about["tiles_with_image"]
        said = [
            about["label"]["meaning"],
            f"learned from {n:,} tiles, {high:,} of them high risk, {pictured:,} with picture",
            f"facts: {', '.join(about['facts']) or 'none'}",
        ]
        said += about["warnings"]
        said += [f"left out: {line}" for line in _by_reason(about["left_out"])]
        said += _by_reason(about["asked_for"])
        name = MODEL_NAMES[self.model.architecture.inputs]
        found = {split: models[name] for split, models in self.model.metrics.items()}
        said += [
            _measures_line(f"{name}, {split} folds", measured, high / n) for split, measured in found.items()
        ]
        return [*said, _optimism_line(found), f"trained in {self.seconds / 60:.1f} minutes"]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"model": str(self.path), "metrics": self.model.metrics, "provenance": self.model.provenance}


def train(
    data: Path,
    out: Path,
    settings: TrainSettings | None = None,
    progress: Progress = silent,
) -> Trained:
    """Learn risk from labelled tiles and write the model.

    Spatial folds judge it and are what is saved; random folds stand beside them. A table without places
    has random folds only.

    Parameters
    ----------
    data : a dataset, or a table with `image_path`.
    out : folder of the model.

    Raises
    ------
    RoadriskError : one line that says what is wrong, where, and what to do.
    """
    started = time.monotonic()
    settings = resolved(settings or TrainSettings())
    if out.exists():
        raise ModelError(f"{out} exists; choose another -o, or remove it")
    device = device_of(settings.device)
    tiles = tiles_at(data, settings.views[0])
    encoder = encoder_weights(settings)
    label = _label(tiles, settings)
    columns, left_out = chosen_facts(tiles.columns, settings, label)
    preparation = picture_preparation(settings.encoder, tiles.tile_px) if settings.inputs != "facts" else None
    known = np.flatnonzero(np.isfinite(label.values))
    examples = examples_of(tiles, columns, label, preparation).taken(known)
    _check_sides(tiles, examples, settings)
    images = None
    if preparation is not None and examples.pictures is not None:
        images = training_feed(examples.pictures, preparation, encoder, tiles.cache, device)
    architecture = architecture_of(settings, preparation.size_px if preparation else 0)
    folds = _folds(tiles, examples, known, settings)
    validations: dict[Split, CrossValidation] = {}
    for index, (split, split_folds) in enumerate(folds.items()):
        later = (len(folds) - index - 1) * settings.folds * (settings.epochs or 0)
        clock = Clock(f"train, {split} folds", progress, later)
        validations[split] = cross_validated(
            examples, split_folds, settings, architecture, images, device, clock
        )
    split = next(iter(validations))
    dropped = dict(validations[split].models[0].preparation.dropped)
    model = Model(
        architecture=architecture,
        picture=preparation,
        columns=columns,
        split=split,
        fold_models=validations[split].models,
        encoder=encoder,
        metrics=_metrics(examples, label.events[known], validations, settings),
        provenance={
            **_provenance(tiles, examples, label, settings, encoder),
            "facts": [column.name for column in columns if column.name not in dropped],
            "left_out": {**left_out, **dropped},
            "asked_for": {
                name: why
                for name, why in asked_for(columns, tiles.columns, label).items()
                if name not in dropped
            },
        },
        out_of_fold=out_of_fold_table(examples, validations, tiles.identity),
    )
    write_model(model, out)
    return Trained(out, model, time.monotonic() - started)


def examples_of(
    tiles: Tiles, columns: tuple[Any, ...], label: Label | None, preparation: PicturePreparation | None
) -> Examples:
    """Tiles as a network meets them, one for every row.

    Parameters
    ----------
    columns : the facts.
    label : None where tiles are only scored.
    preparation : of pictures; None for a model that looks at none.
    """
    has_image = tiles.has_image if preparation else np.zeros(len(tiles), bool)
    row, col = tiles.lattice[:2] if tiles.lattice else (None, None)
    return Examples(
        key=tiles.keys,
        label=label.values if label else np.full(len(tiles), np.nan),
        facts=fact_values(tiles.frame, [column.name for column in columns]),
        columns=columns,
        area_km2=tiles.area_km2,
        pictures=tiles.pictures_of(preparation.size_px) if preparation else None,
        picture=np.where(has_image, np.cumsum(has_image) - 1, -1),
        row=row,
        col=col,
    )


def _label(tiles: Tiles, settings: TrainSettings) -> Label:
    cut = tiles.dataset.manifest["label"] if tiles.dataset else None
    return label_of(
        tiles.frame, tiles.columns, tiles.eligible, settings.label, settings.positive, str(tiles.path), cut
    )


def _check_sides(tiles: Tiles, examples: Examples, settings: TrainSettings) -> None:
    """Both sides are there, if both are asked for: a model never quietly does without one."""
    if settings.inputs != "facts" and tiles.dataset is not None and tiles.dataset.views and not tiles.view:
        tiles.dataset.view(settings.views[0])
    if settings.inputs != "facts" and not examples.has_image.any():
        raise ModelError("no labelled tile has a picture; use --inputs facts, or tile with --imagery")
    if settings.inputs != "image" and not examples.columns:
        raise ModelError("there are no facts to learn from; use --inputs image, or add sources of facts")


def _folds(tiles: Tiles, examples: Examples, known: Any, settings: TrainSettings) -> dict[Split, Folds]:
    by_chance = random_folds(examples.key, examples.label, settings.folds, settings.seed)
    if tiles.lattice is None or examples.row is None or examples.col is None:
        if tiles.places is not None:
            raise ModelError(
                f"some rows of {tiles.path} lie nowhere, so there can be no spatial folds; give every row "
                "its place, or leave lon and lat out"
            )
        return {"random": by_chance}
    block = block_tiles(settings.block_m, tiles.lattice[2])
    spatial = spatial_folds(examples.row, examples.col, examples.label, settings.folds, settings.seed, block)
    return {"spatial": spatial, "random": by_chance}


def _metrics(
    examples: Examples, events: Any, validations: dict[Split, CrossValidation], settings: TrainSettings
) -> dict[str, dict[str, dict[str, Any]]]:
    name = MODEL_NAMES[settings.inputs]
    return {
        split: {
            name: measures(examples.label, v.logit, v.fold, examples.has_image, events, examples.area_km2)
        }
        for split, v in validations.items()
    }


def _provenance(
    tiles: Tiles,
    examples: Examples,
    label: Label,
    settings: TrainSettings,
    encoder: dict[str, Any] | None,
) -> dict[str, Any]:
    return {
        "datasets": [{"name": tiles.name, "identity": tiles.identity}],
        "tiles": len(examples),
        "high_risk_tiles": int(examples.label.sum()),
        "tiles_with_image": int(examples.has_image.sum()),
        "label": label.as_json(),
        "windows": {name: list(window) for name, window in tiles.windows.items()},
        "cell_m": tiles.dataset.grid.cell_m if tiles.dataset else None,
        "metres_per_pixel": tiles.metres_per_pixel,
        "view": tiles.view if settings.inputs != "facts" else "",
        "stretches": {tiles.view: tiles.stretch} if tiles.stretch and settings.inputs != "facts" else {},
        "warnings": [said for said in tiles.warnings if said.startswith(f"{tiles.view}: ")],
        "block_tiles": block_tiles(settings.block_m, tiles.lattice[2]) if tiles.lattice else None,
        "buffer_tiles": BUFFER_TILES if tiles.lattice else None,
        "settings": asdict(settings),
        "encoder_weights": weights_identity(encoder) if encoder else None,
        "versions": {"roadrisk": __version__, "torch": str(torch.__version__), "numpy": np.__version__},
    }


def _by_reason(reasons: dict[str, str]) -> list[str]:
    """Columns with the same reason in one line.

    >>> _by_reason({"a": "text", "b": "no value", "c": "text"})
    ['a, c: text', 'b: no value']
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(several)}: {reason}" for reason, several in names.items()]


def _measures_line(what: str, found: dict[str, Any], base_rate: float) -> str:
    return (
        f"{what}: AUROC {found['auroc']:.3f} (within folds {found['auroc_fold_mean']:.3f}), "
        f"average precision {found['auprc']:.3f} where chance has {base_rate:.3f}, "
        f"Brier {found['brier']:.3f}; "
        f"the riskiest 10 % of the area hold {found['hit_rate_10']:.0%} of the events"
    )


def _optimism_line(found: dict[str, dict[str, Any]]) -> str:
    if "spatial" not in found:
        return (
            "folds are random: the table does not say where its rows lie, so neighbours may flatter the score"
        )
    gap = found["random"]["auroc_fold_mean"] - found["spatial"]["auroc_fold_mean"]
    return f"within folds, random ones score {gap:+.3f} against spatial ones: quote the spatial score"
