"""What `model.json` holds, checked as it is read: a model is a file from somewhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from roadrisk.learning.architecture import Architecture
from roadrisk.learning.facts.preparation import DatedColumn, IsoDate, Preparation
from roadrisk.learning.judging.calibration import Calibration
from roadrisk.learning.judging.dispersion import Dispersion
from roadrisk.learning.judging.evaluation import Evaluation
from roadrisk.learning.pictures.sources import PicturePreparation
from roadrisk.learning.tasks import Target, Task

Split = Literal["spatial", "random"]


# strict, since scoring reads the plain values that stand in the file
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Size = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Whole = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]


@dataclass(frozen=True)
class LabelOrigin:
    """How the label was made, as `Label.as_json` tells it."""

    column: str
    measure: str | None
    threshold: Number | None
    positive: str | None
    meaning: str
    unit: str = ""
    window: tuple[IsoDate, IsoDate] | None = None

    def fits(self, task: Task) -> bool:
        """Whether it says what the task needs to know of a tile's own label."""
        if task.kind != "class":
            return self.measure is not None and self.threshold is None
        cut = self.measure is not None and self.threshold is not None
        if task.outputs > 1:
            return self.measure is None and self.positive is None
        return cut or (self.measure is None and self.threshold is None and self.positive is not None)


@dataclass(frozen=True)
class LearnedFrom:
    """A dataset that a model learned from."""

    name: str
    identity: str


@dataclass(frozen=True)
class Asked:
    """What evaluating reads of the settings that a model was trained with."""

    seed: Count = 0


@dataclass(frozen=True)
class Origin:
    """What scoring, evaluating and the report read of a model's provenance.

    Parameters
    ----------
    windows : the dates [from, to) of each name.
    cell_m : None where tiles have no such size.
    metres_per_pixel : of each view of known scale.
    stretches : by view, how pixels of more than 8 bit became 8 bit.
    warnings : what was said of the sources when the tiles were made.
    notes, choices : what happened in training, a line a thing.
    left_out, asked_for : column -> why.
    block_tiles, buffer_tiles : None where folds are random.
    """

    label: LabelOrigin
    windows: dict[str, tuple[IsoDate, IsoDate]]
    cell_m: Size | None
    metres_per_pixel: dict[str, Size]
    datasets: tuple[LearnedFrom, ...] = ()
    settings: Asked = field(default_factory=Asked)
    stretches: dict[str, tuple[tuple[Number, Number], ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    asked_for: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    tiles: Count = 0
    high_risk_tiles: Count = 0
    tiles_with_image: Count = 0
    block_tiles: Count | None = None
    buffer_tiles: Count | None = None


@dataclass(frozen=True)
class Manifest:
    """What `model.json` holds besides its format and checksums.

    Raises
    ------
    ValueError : pictures are not prepared as the architecture takes them.
    """

    architecture: Architecture
    pictures: tuple[PicturePreparation, ...]
    columns: tuple[DatedColumn, ...]
    neighbourhood: tuple[Annotated[int, Field(ge=3, le=31)], ...]
    split: Split
    preparation: tuple[Preparation, ...]
    target: tuple[Target, ...]
    metrics: dict[str, dict[str, dict[str, Whole | Number | None]]]
    provenance: Origin
    calibration: Calibration | None
    dispersion: Dispersion | None
    evaluation: Evaluation

    def __post_init__(self) -> None:
        if [view.size_px for view in self.architecture.views] != [p.size_px for p in self.pictures]:
            raise ValueError("pictures are not of the size that the network takes")
        for picture in self.pictures:
            if not np.isfinite((*picture.mean, *picture.std)).all() or min(picture.std) <= 0:
                raise ValueError("mean and std of pictures must be finite, and std above 0")
        if len(self.preparation) != len(self.target):
            raise ValueError("not every fold has both, a preparation and a target")
        if not self.provenance.label.fits(self.architecture.task):
            raise ValueError(
                "provenance.label is not of the task: it needs a measure, a threshold or a class"
            )
        kind = self.architecture.task.kind
        for name, part, needs in (
            ("calibration", self.calibration, "class"),
            ("dispersion", self.dispersion, "count"),
        ):
            if part is not None and kind != needs:
                raise ValueError(f"a model of a {kind} has no {name}")
