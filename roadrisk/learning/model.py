"""A model on disk: `model.json`, `model.safetensors`, `folds.parquet` and a report, whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from roadrisk.columns import Column
from roadrisk.errors import ModelError, UsageError
from roadrisk.files import sha256_of, whole_folder, write_json
from roadrisk.grid import FloatArray
from roadrisk.learning.architecture import Architecture, network_of
from roadrisk.learning.examples import Examples
from roadrisk.learning.judging.calibration import Calibration
from roadrisk.learning.judging.dispersion import Dispersion
from roadrisk.learning.judging.evaluation import Evaluation
from roadrisk.learning.judging.predictions import check_out_of_fold
from roadrisk.learning.manifest import Manifest
from roadrisk.learning.manifest import Split as Split
from roadrisk.learning.outputs import raw_outputs_of_all
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.pictures.sources import PicturePreparation
from roadrisk.learning.pictures.weights import State
from roadrisk.learning.tasks import dispersion, prediction, said
from roadrisk.learning.upgrading import upgraded
from roadrisk.learning.validation import FoldModel, network_inputs
from roadrisk.nets.encoders import bare_body
from roadrisk.nets.fusion import MultiModalNN
from roadrisk.progress import Progress, silent

FORMAT = 5
PREPARED_AT_ONCE = 4096  # tiles whose facts are prepared for every fold at once
MANIFEST, WEIGHTS, FOLDS = "model.json", "model.safetensors", "folds.parquet"
ROADS = "roads.json"  # a road model has it instead
REPORT = "report.html"  # for people: nothing reads it, so it has no checksum and may be missing
# what a model that sees both sides, pictures or facts alone is called beside the others it is compared with
MODEL_NAMES = {"both": "fused", "image": "image", "facts": "facts"}


@dataclass(frozen=True, eq=False)
class Model:
    """Everything needed to score a tile, and to know how good and whence the score is.

    Parameters
    ----------
    pictures : how the pictures of each view of the architecture are prepared.
    columns : facts it was offered, with units and windows.
    neighbourhood : sides [tiles] of the neighbourhoods whose facts it was offered, too.
    split : the cross-validation whose fold models these are.
    encoder : weights of the frozen encoder that all fold models share; None without one.
    metrics : `metrics[split][model][metric]`.
    provenance : datasets, versions, seed, settings, windows, cell size, metres a pixel, label.
    out_of_fold : what each compared model says of every training tile, as `predictions_table` makes it.
    calibration : of a class model; None where it is not calibrated.
    dispersion : of counts about what was expected of them out of fold; None of other tasks.
    evaluation : what was found besides `metrics`.
    """

    architecture: Architecture
    pictures: tuple[PicturePreparation, ...]
    columns: tuple[Column, ...]
    neighbourhood: tuple[int, ...]
    split: Split
    fold_models: tuple[FoldModel, ...]
    encoder: State | None
    metrics: dict[str, dict[str, dict[str, Any]]]
    provenance: dict[str, Any]
    out_of_fold: pd.DataFrame
    calibration: Calibration | None = None
    dispersion: Dispersion | None = None
    evaluation: Evaluation = field(default_factory=Evaluation)

    @property
    def name(self) -> str:
        """What it is called beside the others it is compared with."""
        return MODEL_NAMES[self.architecture.inputs]


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model says of N tiles.

    Parameters
    ----------
    outputs : (N, K) as the task says them.
    prediction : (N,) the chance of the riskiest class, the value or the expected count.
    dispersion : (N,) k of a negative binomial; zeros for other tasks.
    out_of_fold : (N,) whether it is the word of the fold that did not see the tile.
    """

    outputs: FloatArray
    prediction: FloatArray
    dispersion: FloatArray
    out_of_fold: NDArray[np.bool_]


def write_model(model: Model, out: Path, report: str | None = None) -> None:
    """Write the model's folder whole.

    Parameters
    ----------
    report : the HTML page that goes with it.

    Raises
    ------
    ModelError : `out` exists or cannot be written.
    """
    if out.exists():
        raise ModelError(f"{out} exists; choose another -o, or remove it")
    try:
        with whole_folder(out) as folder:
            # safetensors' own writing to a file lets nobody else read it
            (folder / WEIGHTS).write_bytes(save(_tensors(model), metadata={"format": "pt"}))
            model.out_of_fold.to_parquet(folder / FOLDS, index=False)
            sha256 = {name: sha256_of(folder / name) for name in (WEIGHTS, FOLDS)}
            write_json(folder / MANIFEST, _manifest(model, sha256))
            if report is not None:
                (folder / REPORT).write_text(report, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot write {out} ({_reason(error)}); free space or choose another -o") from None


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
        model = _model(*upgraded(manifest, load_file(path / WEIGHTS), pd.read_parquet(path / FOLDS)))
        _check_networks(model)
        classes = len(model.architecture.task.classes)
        check_out_of_fold(model.out_of_fold, model.split, model.name, len(model.fold_models), FOLDS, classes)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError, UsageError) as error:
        raise ModelError(f"{path} is not a whole roadrisk model ({_reason(error)}); train it again") from None
    return model


def fold_network(architecture: Architecture, fold: FoldModel) -> MultiModalNN:
    """The network of a fold with its weights, in evaluation mode."""
    network = network_of(architecture, fold.preparation.shape)
    network.load_state_dict(fold.state)
    return network.eval()


def fold_outputs(
    architecture: Architecture,
    folds: Sequence[FoldModel],
    examples: Examples,
    images: Sequence[ImageFeed | None],
    device: torch.device,
    progress: Progress = silent,
) -> FloatArray:
    """(folds, N, K [+ 1]) what each fold model says of each tile, as the task says it.

    The last is the log-dispersion where the task learns one. Pictures are read once for all folds, while
    the networks look at those before.

    Parameters
    ----------
    images : feeds of the views; None for one that no tile has.

    Raises
    ------
    ModelError : a column that the model learned from is not there.
    """
    task = architecture.task
    networks = [fold_network(architecture, fold).to(device) for fold in folds]
    out = np.empty((len(folds), len(examples), task.outputs + task.dispersed))
    for first in range(0, len(examples), PREPARED_AT_ONCE):
        rows = np.arange(first, min(first + PREPARED_AT_ONCE, len(examples)))
        tiles = examples.taken(rows)
        inputs = [network_inputs(tiles, fold.preparation, architecture, images) for fold in folds]
        raw = raw_outputs_of_all(networks, inputs, device, architecture.augment)
        for k, fold in enumerate(folds):
            out[k, rows, : task.outputs] = said(task, fold.target, raw[k], tiles.exposure)
            out[k, rows, task.outputs :] = raw[k][:, task.outputs :]
        progress("score", int(rows[-1]) + 1, len(examples))
    return out


def scores(model: Model, examples: Examples, outputs: FloatArray) -> Scores:
    """One word for each tile: that of the fold that did not see it, for others the mean of all folds.

    Parameters
    ----------
    outputs : (folds, N, K [+ 1]), as `fold_outputs` gives them.

    Raises
    ------
    ModelError : a prediction is not finite.
    """
    table = model.out_of_fold
    table = table[(table["split"] == model.split) & (table["model"] == model.name)]
    own_fold = pd.Series(table["fold"].to_numpy(), index=table["key"].to_numpy())
    fold = own_fold.reindex(examples.key.astype(str)).fillna(-1).to_numpy(dtype=np.int64)
    out_of_fold = fold >= 0
    own = outputs[fold, np.arange(len(examples))]
    joined = np.where(out_of_fold[:, None], own, outputs.mean(axis=0))
    lost = int((~np.isfinite(joined)).any(axis=1).sum())
    if lost:
        raise ModelError(
            f"the model has no finite prediction for {lost} of {len(examples)} tiles; train it again, "
            "or look for extreme values in the facts"
        )
    task = model.architecture.task
    said_of = joined[:, : task.outputs]
    return Scores(said_of, prediction(task, said_of), dispersion(task, joined), out_of_fold)


def _check_networks(model: Model) -> None:
    """The weights are those of the networks that the manifest names, which are not made for that."""
    if not model.fold_models:
        raise ValueError("it has no fold models")
    for fold in model.fold_models:
        with torch.device("meta"):
            wanted = network_of(model.architecture, fold.preparation.shape).state_dict()
        _check_state(fold.state, wanted)
    if model.architecture.frozen:
        _check_state(model.encoder or {}, bare_body(model.architecture.encoder).state_dict())


def _check_state(state: State, wanted: State) -> None:
    odd = sorted(state.keys() ^ wanted.keys())
    odd = odd or [n for n in wanted if (state[n].shape, state[n].dtype) != (wanted[n].shape, wanted[n].dtype)]
    if odd:
        raise ValueError(f"{odd[0]} is missing or not of the network that {MANIFEST} names")


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
        "pictures": [asdict(picture) for picture in model.pictures],
        "columns": [column.as_json() for column in model.columns],
        "neighbourhood": list(model.neighbourhood),
        "split": model.split,
        "preparation": [asdict(fold.preparation) for fold in model.fold_models],
        "target": [asdict(fold.target) for fold in model.fold_models],
        "metrics": model.metrics,
        "provenance": model.provenance,
        "calibration": asdict(model.calibration) if model.calibration else None,
        "dispersion": asdict(model.dispersion) if model.dispersion else None,
        "evaluation": asdict(model.evaluation),
        "sha256": sha256,
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder; give the folder that roadrisk train wrote")
    file = path / MANIFEST
    if not file.is_file() and (path / ROADS).is_file():
        raise ModelError(
            f"{path} is a road model, which draws roads and scores no risk; use it with "
            "`roadrisk roads apply --model`, or give the folder that roadrisk train wrote"
        )
    if not file.is_file():
        raise ModelError(
            f"{path} is not a roadrisk model: it has no {MANIFEST}; give the folder that roadrisk train wrote"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        raise ModelError(f"{file} cannot be read as JSON; train the model again") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != "roadrisk model":
        raise ModelError(f"{file} is not a roadrisk model's; give the folder that roadrisk train wrote")
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
    known = ("encoder.", *(f"fold{k}." for k in range(len(checked.preparation))))
    besides = [name for name in tensors if not name.startswith(known)]
    if besides:
        raise ValueError(f"{WEIGHTS} holds {besides[0]} besides")
    return Model(
        checked.architecture,
        checked.pictures,
        checked.columns,
        checked.neighbourhood,
        checked.split,
        tuple(
            FoldModel(preparation, target, _below(tensors, f"fold{k}."))
            for k, (preparation, target) in enumerate(zip(checked.preparation, checked.target, strict=True))
        ),
        _below(tensors, "encoder.") or None,
        checked.metrics,
        manifest["provenance"],
        out_of_fold,
        checked.calibration,
        checked.dispersion,
        checked.evaluation,
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
