"""A road model on disk: `roads.json`, `roads.safetensors`, `units.parquet` and a report, or nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from roadrisk.errors import ModelError, UsageError
from roadrisk.files import sha256_of, whole_folder, write_json
from roadrisk.imagery.sheets import Stretch
from roadrisk.learning.pictures.weights import State
from roadrisk.nets.segmentation import RoadNN
from roadrisk.roads.scenes import PictureKind
from roadrisk.roads.settings import Decoder

FORMAT = 1
KIND = "roadrisk road model"
MANIFEST, WEIGHTS, UNITS, REPORT = "roads.json", "roads.safetensors", "units.parquet", "report.html"

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Size = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Metrics = dict[str, dict[str, dict[str, Number | list[Number | None] | None]]]


@dataclass(frozen=True)
class RoadArchitecture:
    """The network that draws roads.

    Parameters
    ----------
    bands : of the pictures.
    shrink : pixels along a side of a picture that the network sees as one.
    """

    decoder: Decoder
    encoder: Annotated[str, Field(max_length=100)]
    bands: Annotated[int, Field(ge=1, le=16)]
    shrink: Annotated[int, Field(ge=1, le=8)]


@dataclass(frozen=True, eq=False)
class RoadModel:
    """Everything needed to draw roads, and to know how good and whence the drawing is.

    Parameters
    ----------
    mean, std : (bands,) of known pixels learned from, of 0 to 255.
    level : a pixel is road from this level on.
    metres_per_pixel : ground side of a pixel [m]; None where nothing says.
    stretch : how more than 8 bit became 8 bit; None where they were, or where nothing says.
    metrics : `metrics[method][metric]` has `value`, `low`, `high` (95 %; None where there are too few
        blocks) and `folds`; methods `model`, `all_road`, `colour`.
    provenance : source, its identity, settings, versions, what was told.
    units : what each method said of each unit that was held out, as `measures.units_table` makes it.
    """

    architecture: RoadArchitecture
    mean: tuple[float, ...]
    std: tuple[float, ...]
    level: int
    metres_per_pixel: float | None
    stretch: Stretch | None
    state: State
    metrics: dict[str, dict[str, dict[str, Any]]]
    provenance: dict[str, Any]
    units: pd.DataFrame

    @property
    def view(self) -> str:
        """The view of datasets that it looks at where nobody says another."""
        return str(self.provenance["settings"]["view"])

    @property
    def kind(self) -> PictureKind:
        """Of the pictures that it learned from."""
        return PictureKind(self.architecture.bands, self.metres_per_pixel, self.stretch)

    def network(self) -> RoadNN:
        """The network with its weights, in evaluation mode."""
        shape = self.architecture
        network = RoadNN(shape.decoder, shape.encoder, shape.bands, shape.shrink)
        network.load_state_dict(self.state)
        return network.eval()


@dataclass(frozen=True)
class Asked:
    """What applying reads of the settings that a model was trained with."""

    view: str


@dataclass(frozen=True)
class Origin:
    """What is read of a model's provenance; the rest is for people.

    Parameters
    ----------
    told : what was found of the source and in training, a line a thing.
    """

    source: str
    settings: Asked
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoadManifest:
    """What `roads.json` holds besides its format and checksums.

    Raises
    ------
    ValueError : a mean or a deviation is not that of the bands.
    """

    architecture: RoadArchitecture
    mean: tuple[Annotated[Number, Field(ge=0, le=255)], ...]
    std: tuple[Annotated[Number, Field(ge=1e-3, le=255)], ...]
    level: Annotated[int, Field(strict=True, ge=1, le=255)]
    metres_per_pixel: Size | None
    stretch: tuple[tuple[Number, Number], ...] | None
    metrics: Metrics
    provenance: Origin
    kind: Literal["roadrisk road model"]

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.architecture.bands:
            raise ValueError("mean and std are not of as many bands as the network has")


def write_road_model(model: RoadModel, out: Path, report: str) -> None:
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
            (folder / WEIGHTS).write_bytes(save(dict(model.state), metadata={"format": "pt"}))
            model.units.to_parquet(folder / UNITS, index=False)
            sha256 = {name: sha256_of(folder / name) for name in (WEIGHTS, UNITS)}
            write_json(folder / MANIFEST, {**_manifest(model), "sha256": sha256})
            (folder / REPORT).write_text(report, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(f"cannot write {out} ({reason}); free space or choose another -o") from None


def read_road_model(path: Path) -> RoadModel:
    """The road model in a folder, checked: format, checksums, names and shapes.

    Raises
    ------
    ModelError : not a road model, not whole, changed since it was written, or of a newer format.
    """
    manifest = _read_manifest(path)
    try:
        for name in (WEIGHTS, UNITS):
            file = path / name
            if not file.is_file() or sha256_of(file) != manifest["sha256"][name]:
                raise ModelError(f"{file} is missing or not the file that was written; train the model again")
        checked: RoadManifest = TypeAdapter(RoadManifest).validate_python(manifest)
        model = RoadModel(
            checked.architecture,
            checked.mean,
            checked.std,
            checked.level,
            checked.metres_per_pixel,
            checked.stretch,
            load_file(path / WEIGHTS),
            manifest["metrics"],
            manifest["provenance"],
            pd.read_parquet(path / UNITS),
        )
        _check_weights(model)
    except ValidationError as problems:
        first = problems.errors(include_url=False, include_context=False, include_input=False)[0]
        said = f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}".removeprefix(": ")
        raise ModelError(f"{path} is not a whole road model ({said}); train it again") from None
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"{path} is not a whole road model ({reason}); train it again") from None
    return model


def _manifest(model: RoadModel) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": KIND,
        "architecture": asdict(model.architecture),
        "mean": list(model.mean),
        "std": list(model.std),
        "level": model.level,
        "metres_per_pixel": model.metres_per_pixel,
        "stretch": [list(span) for span in model.stretch] if model.stretch else None,
        "metrics": model.metrics,
        "provenance": model.provenance,
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        what = "it is a model of risk" if (path / "model.json").is_file() else f"it has no {MANIFEST}"
        if not path.is_dir():
            what = "there is no such folder"
        raise ModelError(
            f"{path} is no road model: {what}; give the folder that `roadrisk roads train` wrote"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        raise ModelError(f"{file} cannot be read as JSON; train the model again") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise ModelError(f"{file} is not a road model's; give the folder that `roadrisk roads train` wrote")
    number = manifest.get("format")
    if type(number) is not int or number < 1:
        raise ModelError(f"{file} names no format; train the model again")
    if number > FORMAT:
        raise ModelError(
            f"{path} has road model format {number}, this version reads up to {FORMAT}; upgrade roadrisk"
        )
    return manifest


def _check_weights(model: RoadModel) -> None:
    """Nothing, if the weights are those of the network that the manifest names."""
    shape = model.architecture
    try:
        wanted = RoadNN(shape.decoder, shape.encoder, shape.bands, shape.shrink).state_dict()
    except UsageError as error:
        if find_spec("segmentation_models_pytorch") is None:
            raise
        raise ValueError(f"there is no network {shape.decoder} on {shape.encoder}") from error
    there = {name: (value.shape, value.dtype) for name, value in model.state.items()}
    for name in sorted(there.keys() | wanted.keys()):
        if name not in wanted or there.get(name) != (wanted[name].shape, wanted[name].dtype):
            raise ValueError(f"{name} is missing or not of the network that {MANIFEST} names")
    if not all(np.isfinite(value.numpy()).all() for value in model.state.values()):
        raise ValueError(f"{WEIGHTS} holds numbers that are not finite")
