"""What `train` can be told, and the only place where its defaults stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from roadrisk.errors import UsageError
from roadrisk.schema import checked

Encoder = Literal["basic", "resnet34"]
Inputs = Literal["both", "image", "facts"]
Device = Literal["auto", "cpu", "cuda"]


class EncoderDefaults(NamedTuple):
    """What follows the encoder: `betas` are Adam's, always; the others where nothing else is asked."""

    weights: str
    epochs: int
    learning_rate: float
    betas: tuple[float, float]


# basic: the first version's Adam. On 1,216 road masks of Boston the out-of-block AUROC of three folds is 0.81
# after 4 to 6 epochs, 0.80 after 10, and 0.63 after 30 (all five, pooled): a million weights learn tiles by
# heart. resnet34: only a head on kept features learns, which is cheap and bears Adam's own settings.
FOLLOWS: Mapping[Encoder, EncoderDefaults] = {
    "basic": EncoderDefaults("none", 6, 2e-4, (0.5, 0.999)),
    "resnet34": EncoderDefaults("imagenet", 10, 1e-3, (0.9, 0.999)),
}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainSettings:
    """How a model is trained.

    Parameters
    ----------
    label : column to learn; without it the dataset's own label.
    positive : value of the label column that counts as high risk.
    features : facts to use; without it every column whose role is `feature`.
    exclude : facts to leave out.
    encoder : network that looks at the picture.
    weights : `imagenet`, `none` or a .pth or .safetensors file; None follows the encoder.
    inputs : what the network is given.
    views : whose pictures it sees; one, for now.
    folds : parts of the cross-validation.
    block_m : side of a spatial block [m]; None is four tiles.
    epochs, learning_rate : None follows the encoder.
    batch_size : tiles a step.
    dropout : share of activations dropped while training.
    seed : of folds, first weights, batches and dropout.
    device : `auto` is a GPU where there is one.
    """

    label: str | None = None
    positive: str | None = None
    features: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    encoder: Encoder = "resnet34"
    weights: str | None = None
    inputs: Inputs = "both"
    views: tuple[str, ...] = ("aerial",)
    folds: Annotated[int, Field(ge=2)] = 5
    block_m: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    seed: Annotated[int, Field(ge=0)] = 0
    device: Device = "auto"

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's, which follow the encoder."""
        return FOLLOWS[self.encoder].betas


def settings_from(given: Mapping[str, Any]) -> TrainSettings:
    """Settings from names and values as a file or flags give them.

    Raises
    ------
    UsageError : a name that is none, or a value out of range.

    Examples
    --------
    >>> settings_from({"epoch": 3})
    Traceback (most recent call last):
    ...
    roadrisk.errors.UsageError: settings: unknown key 'epoch'; did you mean epochs?
    """
    settings: TrainSettings = checked(TrainSettings, given, "settings", UsageError)
    return settings


def resolved(settings: TrainSettings) -> TrainSettings:
    """The same with everything that follows the encoder filled in.

    Raises
    ------
    UsageError : weights that contradict the encoder, or several views.

    Examples
    --------
    >>> resolved(TrainSettings(encoder="basic")).learning_rate
    0.0002
    """
    if len(settings.views) != 1:
        raise UsageError("--views names one view; several in one model are not there yet")
    follows = FOLLOWS[settings.encoder]
    weights = settings.weights or follows.weights
    if settings.inputs != "facts":
        if settings.encoder == "basic" and weights != "none":
            raise UsageError(f"--encoder basic learns from nothing; leave out --weights {weights}")
        if settings.encoder != "basic" and weights == "none":
            raise UsageError(
                f"--weights none with --encoder {settings.encoder} would freeze random weights; "
                "use --weights imagenet, --weights PATH, or --encoder basic"
            )
    return replace(
        settings,
        weights=weights,
        epochs=settings.epochs or follows.epochs,
        learning_rate=settings.learning_rate or follows.learning_rate,
    )
