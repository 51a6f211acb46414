"""What `roads train` and `roads apply` can be told, and the only place where their defaults stand."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from roadrisk.errors import UsageError
from roadrisk.learning.settings import Device, Precision, Schedule

Decoder = Literal[
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "pan",
    "deeplabv3",
    "deeplabv3plus",
    "upernet",
    "segformer",
]
RoadLoss = Literal["dice", "cldice"]

# each part is cleaned with so much around it
MOST_SPECK_PX, MOST_GAP_PX = 4096, 256


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RoadSettings:
    """How a network that draws roads is trained.

    Parameters
    ----------
    view : of a dataset, whose pictures it learns from.
    mask : view of a dataset that shows where roads are; None draws its centre-lines.
    widths_m : width [m] of a road by its class, over the widths that are known of classes.
    mask_above : a pixel of a mask is road above this value [0 to 254].
    decoder : of segmentation-models-pytorch.
    encoder : any of its encoders by name.
    weights : of the encoder.
    shrink : pixels along a side of a picture that the network sees as one.
    loss : besides binary cross-entropy: Dice, or clDice for roads that hold together.
    crop_px : side of what it learns from at a time, as it sees it; a multiple of 32.
    batch_size : crops a step.
    epochs : at most so many; one has as many crops as cover the pictures once.
    patience : epochs without a lower loss on the validation blocks before training stops.
    learning_rate : the highest.
    schedule : how the rate changes from step to step.
    weight_decay : of Adam (AdamW).
    folds : parts of the cross-validation.
    block_m : side of a spatial block [m]; None is four tiles. Of a dataset only.
    precision : of numbers in a network; `bf16` and `16` mix them with 32 bit.
    seed : of folds, first weights, crops and turns.
    device : `auto` is a GPU where there is one.
    quick : train the one network only, judged on its validation blocks, without folds.
    """

    view: str = "aerial"
    mask: str | None = None
    widths_m: dict[str, Annotated[float, Field(gt=0, le=100)]] = Field(default_factory=dict)
    mask_above: Annotated[int, Field(ge=0, le=254)] = 127
    decoder: Decoder = "unet"
    encoder: str = "resnet18"
    weights: Literal["none", "imagenet"] = "none"
    shrink: Annotated[int, Field(ge=1, le=8)] = 2
    loss: RoadLoss = "dice"
    crop_px: Annotated[int, Field(ge=64, le=1024, multiple_of=32)] = 128
    batch_size: Annotated[int, Field(ge=1)] = 4
    epochs: Annotated[int, Field(ge=1)] = 25
    patience: Annotated[int, Field(ge=1)] = 10
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 4e-3
    schedule: Schedule = "one-cycle"
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    folds: Annotated[int, Field(ge=2)] = 5
    block_m: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    precision: Precision = "32"
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    device: Device = "auto"
    quick: bool = False


@dataclass(frozen=True)
class Cleaning:
    """What is mended of drawn roads.

    Parameters
    ----------
    specks_m2 : pieces smaller than this are removed; 0 for none.
    gaps_m : gaps up to so wide are closed; 0 for none. Of pictures of unknown scale both are in pixels.
    """

    specks_m2: float = 0.0
    gaps_m: float = 0.0

    def check(self, metres_per_pixel: float | None) -> None:
        """Nothing, if so much can be mended; asked before anything is written or removed.

        Raises
        ------
        UsageError : too many pixels to be seen around a part.
        """
        self.speck_px(metres_per_pixel)
        self.gap_px(metres_per_pixel)

    def speck_px(self, metres_per_pixel: float | None) -> int:
        """Pixels of the smallest piece that stays.

        Raises
        ------
        UsageError : too many to be seen around a part.

        Examples
        --------
        >>> Cleaning(specks_m2=10.0).speck_px(2.0)
        3
        """
        px = self.specks_m2 / (metres_per_pixel or 1.0) ** 2
        return math.ceil(_checked(px, MOST_SPECK_PX, "--specks", "removed"))

    def gap_px(self, metres_per_pixel: float | None) -> int:
        """Pixels of the widest gap that is closed.

        Raises
        ------
        UsageError : too many to be seen around a part.
        """
        px = self.gaps_m / (metres_per_pixel or 1.0)
        return round(_checked(px, MOST_GAP_PX, "--gaps", "closed"))


def _checked(px: float, most: int, flag: str, done: str) -> float:
    # what is no number is not in between
    if not 0 <= px <= most:
        raise UsageError(f"{flag} comes to {px:,.0f} px; 0 to {most:,} px are {done}")
    return px
