"""A model on disk: `model.json`, `model.safetensors` and `folds.parquet`, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from typing_extensions import TypedDict

from roadrisk.columns import Column, column_from_json
from roadrisk.errors import ModelError
from roadrisk.files import TEMPORARY, sha256_of, write_json
from roadrisk.grid import FloatArray
from roadrisk.learning.architecture import Architecture, network_of
from roadrisk.learning.evaluation import probability
from roadrisk.learning.examples import Examples
from roadrisk.learning.fit import NetworkInputs, logits
from roadrisk.learning.frozen import ImageFeed
from roadrisk.learning.pictures import PicturePreparation
from roadrisk.learning.preparation import Preparation
from roadrisk.learning.validation import CrossValidation, FoldModel
from roadrisk.learning.weights import State
from roadrisk.nets.fusion import MultiModalNN
from roadrisk.nets.image import frozen_resnet34
from roadrisk.progress import Progress, silent

FORMAT = 1
MANIFEST, WEIGHTS, FOLDS = "model.json", "model.safetensors", "folds.parquet"
SCORED_AT_ONCE = 256

Split = Literal["spatial", "random"]


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


class LabelProvenance(TypedDict):
    """What a model calls high risk, as `Label.as_json` has it."""

    column: str
    measure: str | None
    threshold: float | None
    positive: str | None
    meaning: str


class Provenance(TypedDict):
    """What scoring reads of a model's provenance; there is more in it."""

    label: LabelProvenance
    windows: dict[str, tuple[date, date]]
    cell_m: float | None
    metres_per_pixel: float | None


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
    ModelError : `out` exists.
    """
    if out.exists():
        raise ModelError(f"{out} exists; choose another -o, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f"{TEMPORARY}{out.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        save_file(_tensors(model), temporary / WEIGHTS, metadata={"format": "pt"})
        model.out_of_fold.to_parquet(temporary / FOLDS, index=False)
        sha256 = {name: sha256_of(temporary / name) for name in (WEIGHTS, FOLDS)}
        write_json(temporary / MANIFEST, _manifest(model, sha256))
        _synced(temporary)
        temporary.rename(out)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = str(error).splitlines()[0]
        raise ModelError(f"cannot write {out} ({reason}); free space or choose another -o") from None
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
    for name, sha256 in manifest["sha256"].items():
        file = path / name
        if name not in (WEIGHTS, FOLDS) or not file.is_file() or sha256_of(file) != sha256:
            raise ModelError(f"{file} is missing or not the file that was written; train the model again")
    try:
        model = _model(manifest, load_file(path / WEIGHTS), pd.read_parquet(path / FOLDS))
        _check_networks(model)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, ValidationError) as error:
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
    uses_facts, uses_images = model.architecture.inputs != "image", model.architecture.inputs != "facts"
    for first in range(0, len(examples), SCORED_AT_ONCE):
        rows = np.arange(first, min(first + SCORED_AT_ONCE, len(examples)))
        tiles = examples.taken(rows)
        seen = images.tensors(tiles.picture[tiles.has_image]) if images and uses_images else None
        place = np.where(tiles.has_image, np.cumsum(tiles.has_image) - 1, -1)
        for k, (network, fold) in enumerate(zip(networks, model.fold_models, strict=True)):
            facts = (
                fold.preparation.prepared(tiles.facts, tiles.columns, tiles.area_km2) if uses_facts else None
            )
            # pictures are read once for all folds
            inputs = NetworkInputs(facts, place, None if seen is None else seen.__getitem__)
            out[k, rows] = logits(network, inputs, device)
        progress("score", int(rows[-1]) + 1, len(examples))
    return out


def scores(model: Model, examples: Examples, logit: FloatArray) -> Scores:
    """One word for each tile: that of the fold that did not see it, for others the mean of all folds.

    Parameters
    ----------
    logit : (folds, N), as `fold_logits` gives them.
    """
    table = model.out_of_fold[model.out_of_fold["split"] == model.split]
    own_fold = pd.Series(table["fold"].to_numpy(), index=table["key"].to_numpy())
    fold = own_fold.reindex(examples.key.astype(str)).fillna(-1).to_numpy(dtype=np.int64)
    out_of_fold = fold >= 0
    joined = np.where(out_of_fold, logit[fold, np.arange(len(examples))], logit.mean(axis=0))
    if not np.isfinite(joined).all():
        raise ModelError(
            f"the model gives {int((~np.isfinite(joined)).sum()):,} tiles no finite score; look for extreme "
            "values in their facts, or train the model again"
        )
    return Scores(joined, probability(joined), out_of_fold)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _check_networks(model: Model) -> None:
    _check_folds(model)
    if not model.fold_models:
        raise ValueError("it has no fold models")
    for k in range(len(model.fold_models)):
        fold_network(model, k)
    if model.architecture.encoder != "basic" and model.architecture.inputs != "facts":
        frozen_resnet34(model.encoder or {})


def _check_folds(model: Model) -> None:
    table = model.out_of_fold
    lacking = {"split", "dataset", "key", "fold", "label", "logit", "probability"} - set(table.columns)
    if lacking:
        raise ValueError(f"{FOLDS} lacks {min(lacking)}")
    own = table[table["split"] == model.split]
    if not pd.api.types.is_integer_dtype(table["fold"]) or own["key"].duplicated().any():
        raise ValueError(f"{FOLDS} does not give every tile one fold")
    if not own["fold"].between(0, len(model.fold_models) - 1).all():
        raise ValueError(f"{FOLDS} names a fold that is not there")


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
    if not isinstance(number, int) or not 1 <= number <= FORMAT:
        raise ModelError(
            f"{path} has model format {number}, this version reads up to {FORMAT}; upgrade roadrisk"
        )
    checksums = manifest.get("sha256")
    if not isinstance(checksums, dict) or set(checksums) != {WEIGHTS, FOLDS}:
        raise ModelError(f"{file} names no checksums of {WEIGHTS} and {FOLDS}; train the model again")
    return manifest


def _model(manifest: dict[str, Any], tensors: State, out_of_fold: pd.DataFrame) -> Model:
    picture = manifest["picture"]
    preparations = [TypeAdapter(Preparation).validate_python(p) for p in manifest["preparation"]]
    TypeAdapter(Provenance).validate_python(manifest["provenance"])
    return Model(
        TypeAdapter(Architecture).validate_python(manifest["architecture"]),
        None if picture is None else TypeAdapter(PicturePreparation).validate_python(picture),
        tuple(column_from_json(column) for column in manifest["columns"]),
        TypeAdapter(Split).validate_python(manifest["split"]),
        tuple(FoldModel(p, _below(tensors, f"fold{k}.")) for k, p in enumerate(preparations)),
        _below(tensors, "encoder.") or None,
        manifest["metrics"],
        manifest["provenance"],
        out_of_fold,
    )


def _below(tensors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _synced(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner may read
        with file.open("rb+") as written:
            os.fsync(written.fileno())
