"""A model on disk: `model.json`, `model.safetensors` and `folds.parquet`, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.files import TEMPORARY, sha256_of, write_json
from roadrisk.grid import FloatArray
from roadrisk.learning.architecture import Architecture, network_of
from roadrisk.learning.evaluation import probability
from roadrisk.learning.examples import Examples
from roadrisk.learning.fit import SCORED_AT_ONCE, logits
from roadrisk.learning.frozen import ImageFeed
from roadrisk.learning.pictures import PicturePreparation
from roadrisk.learning.preparation import DatedColumn, IsoDate, Preparation
from roadrisk.learning.validation import CrossValidation, FoldModel, check_out_of_fold, network_inputs
from roadrisk.learning.weights import State
from roadrisk.nets.fusion import MultiModalNN
from roadrisk.nets.image import frozen_resnet34
from roadrisk.progress import Progress, silent

FORMAT = 3
MANIFEST, WEIGHTS, FOLDS = "model.json", "model.safetensors", "folds.parquet"

Split = Literal["spatial", "random"]


# strict, since scoring reads the plain values that stand in the file
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Size = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]


@dataclass(frozen=True)
class LabelOrigin:
    """How the label was cut, as `Label.as_json` tells it.

    Raises
    ------
    ValueError : neither a measure with its threshold nor a class.
    """

    column: str
    measure: str | None
    threshold: Number | None
    positive: str | None
    meaning: str

    def __post_init__(self) -> None:
        if (self.measure is None) != (self.threshold is None) or (
            self.measure is None and self.positive is None
        ):
            raise ValueError("needs a measure and its threshold, or the positive class")


@dataclass(frozen=True)
class Origin:
    """What scoring reads of a model's provenance.

    Parameters
    ----------
    windows : the dates [from, to) of each name.
    cell_m, metres_per_pixel : None where tiles have no such size.
    view : whose pictures were learned from; empty without any, or where a table named them.
    stretches : by view, how pixels of more than 8 bit became 8 bit.
    warnings : what was said of the sources when the tiles were made.
    """

    label: LabelOrigin
    windows: dict[str, tuple[IsoDate, IsoDate]]
    cell_m: Size | None
    metres_per_pixel: Size | None
    view: str = "aerial"
    stretches: dict[str, tuple[tuple[Number, Number], ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What `model.json` holds besides its format and checksums.

    Raises
    ------
    ValueError : pictures are not prepared as the architecture takes them.
    """

    architecture: Architecture
    picture: PicturePreparation | None
    columns: tuple[DatedColumn, ...]
    split: Split
    preparation: tuple[Preparation, ...]
    metrics: dict[str, dict[str, dict[str, Any]]]
    provenance: Origin

    def __post_init__(self) -> None:
        if (self.picture is None) != (self.architecture.inputs == "facts"):
            raise ValueError("picture and inputs do not fit")
        if self.picture is not None:
            if self.picture.size_px != self.architecture.size_px:
                raise ValueError("pictures are not of the size that the network takes")
            if not np.isfinite((*self.picture.mean, *self.picture.std)).all() or min(self.picture.std) <= 0:
                raise ValueError("mean and std of pictures must be finite, and std above 0")


@dataclass(frozen=True, eq=False)
class Model:
    """Everything needed to score a tile, and to know how good and whence the score is.

    Parameters
    ----------
    picture : how pictures are prepared; None for a model of facts alone.
    columns : facts it was offered, with units and windows.
    split : the cross-validation whose fold models these are.
    encoder : weights of the frozen encoder that all fold models share; None without one.
    metrics : `metrics[split][model][metric]`.
    provenance : datasets, versions, seed, settings, windows, cell size, metres a pixel, label.
    out_of_fold : `split, dataset, key, fold, label, logit, probability` of every training tile; `key` is
        its id, after its source where ids are only that source's own.
    """

    architecture: Architecture
    picture: PicturePreparation | None
    columns: tuple[Column, ...]
    split: Split
    fold_models: tuple[FoldModel, ...]
    encoder: State | None
    metrics: dict[str, dict[str, dict[str, Any]]]
    provenance: dict[str, Any]
    out_of_fold: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model says of N tiles.

    Parameters
    ----------
    logit, probability : (N,).
    out_of_fold : (N,) whether it is the word of the fold that did not see the tile.
    """

    logit: FloatArray
    probability: FloatArray
    out_of_fold: NDArray[np.bool_]


def out_of_fold_table(
    examples: Examples, validations: dict[Split, CrossValidation], dataset: str
) -> pd.DataFrame:
    """A row for each split and training tile, in the order of splits and keys.

    Parameters
    ----------
    dataset : id of the dataset that the tiles are from.
    """
    order = np.argsort(examples.key, kind="stable")
    tables = [
        pd.DataFrame(
            {
                "split": split,
                "dataset": dataset,
                "key": examples.key[order].astype(str),
                "fold": validation.fold[order],
                "label": examples.label[order],
                "logit": validation.logit[order],
                "probability": probability(validation.logit[order]),
            }
        )
        for split, validation in validations.items()
    ]
    return pd.concat(tables, ignore_index=True)


def write_model(model: Model, out: Path) -> None:
    """Write the model's folder whole.

    Raises
    ------
    ModelError : `out` exists or cannot be written.
    """
    if out.exists():
        raise ModelError(f"{out} exists; choose another -o, or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(model, out)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot write {out} ({_reason(error)}); free space or choose another -o") from None


def _write_whole(model: Model, out: Path) -> None:
    temporary = out.parent / f"{TEMPORARY}{out.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        # safetensors' own writing to a file lets nobody else read it
        (temporary / WEIGHTS).write_bytes(save(_tensors(model), metadata={"format": "pt"}))
        model.out_of_fold.to_parquet(temporary / FOLDS, index=False)
        sha256 = {name: sha256_of(temporary / name) for name in (WEIGHTS, FOLDS)}
        write_json(temporary / MANIFEST, _manifest(model, sha256))
        _synced(temporary)
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_model(path: Path) -> Model:
    """The model in a folder, checked: format, checksums, names and shapes.

    Raises
    ------
    ModelError : not a model, not whole, changed since it was written, or of a newer format.
    """
    manifest = _read_manifest(path)
    try:
        for name in (WEIGHTS, FOLDS):
            file = path / name
            if not file.is_file() or sha256_of(file) != manifest["sha256"][name]:
                raise ModelError(f"{file} is missing or not the file that was written; train the model again")
        model = _model(manifest, load_file(path / WEIGHTS), pd.read_parquet(path / FOLDS))
        _check_networks(model)
        check_out_of_fold(model.out_of_fold, model.split, len(model.fold_models), FOLDS)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not a whole roadrisk model ({_reason(error)}); train it again") from None
    return model


def fold_network(model: Model, k: int) -> MultiModalNN:
    """The network of fold k with its weights, in evaluation mode."""
    fold = model.fold_models[k]
    network = network_of(model.architecture, len(fold.preparation.facts), seed=0)
    network.load_state_dict(fold.state)
    return network.eval()


def fold_logits(
    model: Model,
    examples: Examples,
    images: ImageFeed | None,
    device: torch.device,
    progress: Progress = silent,
) -> FloatArray:
    """(folds, N) what each fold model says of each tile.

    Parameters
    ----------
    images : feeds the image branch; None where no tile has a picture.

    Raises
    ------
    ModelError : a column that the model learned from is not there.
    """
    networks = [fold_network(model, k) for k in range(len(model.fold_models))]
    out = np.empty((len(networks), len(examples)))
    for first in range(0, len(examples), SCORED_AT_ONCE):
        rows = np.arange(first, min(first + SCORED_AT_ONCE, len(examples)))
        tiles = examples.taken(rows)
        seen = None
        if images and model.architecture.inputs != "facts":
            # pictures are read once for all folds
            seen = images.tensors(tiles.picture[tiles.has_image]).__getitem__
            place = np.where(tiles.has_image, np.cumsum(tiles.has_image) - 1, -1)
            tiles = replace(tiles, picture=place)
        for k, (network, fold) in enumerate(zip(networks, model.fold_models, strict=True)):
            inputs = network_inputs(tiles, fold.preparation, model.architecture, seen)
            out[k, rows] = logits(network, inputs, device)
        progress("score", int(rows[-1]) + 1, len(examples))
    return out


def scores(model: Model, examples: Examples, logit: FloatArray) -> Scores:
    """One word for each tile: that of the fold that did not see it, for others the mean of all folds.

    Parameters
    ----------
    logit : (folds, N), as `fold_logits` gives them.

    Raises
    ------
    ModelError : a probability is not finite.
    """
    table = model.out_of_fold[model.out_of_fold["split"] == model.split]
    own_fold = pd.Series(table["fold"].to_numpy(), index=table["key"].to_numpy())
    fold = own_fold.reindex(examples.key.astype(str)).fillna(-1).to_numpy(dtype=np.int64)
    out_of_fold = fold >= 0
    joined = np.where(out_of_fold, logit[fold, np.arange(len(examples))], logit.mean(axis=0))
    lost = int((~np.isfinite(joined)).sum())
    if lost:
        raise ModelError(
            f"the model has no finite probability for {lost} of {len(examples)} tiles; train it again, "
            "or look for extreme values in the facts"
        )
    return Scores(joined, probability(joined), out_of_fold)


def _check_networks(model: Model) -> None:
    if not model.fold_models:
        raise ValueError("it has no fold models")
    for k in range(len(model.fold_models)):
        fold_network(model, k)
    if model.architecture.encoder != "basic" and model.architecture.inputs != "facts":
        frozen_resnet34(model.encoder or {})


def _tensors(model: Model) -> State:
    tensors = {
        f"fold{k}.{name}": value
        for k, fold in enumerate(model.fold_models)
        for name, value in fold.state.items()
    }
    encoder = {f"encoder.{name}": value.contiguous() for name, value in (model.encoder or {}).items()}
    return tensors | encoder


def _manifest(model: Model, sha256: dict[str, str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": "roadrisk model",
        "architecture": asdict(model.architecture),
        "picture": asdict(model.picture) if model.picture else None,
        "columns": [column.as_json() for column in model.columns],
        "split": model.split,
        "preparation": [asdict(fold.preparation) for fold in model.fold_models],
        "metrics": model.metrics,
        "provenance": model.provenance,
        "sha256": sha256,
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder; give --model the -o of roadrisk train")
    file = path / MANIFEST
    if not file.is_file():
        raise ModelError(f"{path} is not a roadrisk model: it has no {MANIFEST}")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        raise ModelError(f"{file} cannot be read as JSON; train the model again") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != "roadrisk model":
        raise ModelError(f"{file} is not a roadrisk model's; give --model the -o of roadrisk train")
    number = manifest.get("format")
    if type(number) is not int:
        raise ModelError(f"{file} names no model format; train the model again")
    if not 1 <= number <= FORMAT:
        raise ModelError(
            f"{path} has model format {number}, this version reads up to {FORMAT}; upgrade roadrisk"
        )
    sha256 = manifest.get("sha256")
    if not isinstance(sha256, dict) or set(sha256) != {WEIGHTS, FOLDS}:
        raise ModelError(f"{file} names no checksums of {WEIGHTS} and {FOLDS}; train the model again")
    return manifest


def _model(manifest: dict[str, Any], tensors: State, out_of_fold: pd.DataFrame) -> Model:
    checked: Manifest = TypeAdapter(Manifest).validate_python(manifest)
    return Model(
        checked.architecture,
        checked.picture,
        checked.columns,
        checked.split,
        tuple(FoldModel(p, _below(tensors, f"fold{k}.")) for k, p in enumerate(checked.preparation)),
        _below(tensors, "encoder.") or None,
        checked.metrics,
        manifest["provenance"],
        out_of_fold,
    )


def _reason(error: Exception) -> str:
    """Why, in one line."""
    text = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        text = f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}".removeprefix(": ")
    elif isinstance(error, OSError) and error.errno:
        text = os.strerror(error.errno).lower()
    return text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__


def _below(tensors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _synced(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb+") as written:
            os.fsync(written.fileno())
