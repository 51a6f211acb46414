"""What `train` can be told, and the only place where its defaults stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from roadrisk.errors import UsageError

ENCODERS = ("basic", "resnet18", "resnet34", "resnet50", "aerial-resnet18")
TIMM = "timm:"

TaskKind = Literal["class", "value", "count"]
Inputs = Literal["both", "image", "facts"]
Tune = Literal["none", "last", "all"]
Fusion = Literal["concat", "mlp", "gate", "attention"]
FactsNetwork = Literal["dense", "embedding"]
Categories = Literal["embedding", "one-hot"]
Imputation = Literal["median", "mode", "constant"]
Scaling = Literal["standard", "quantile", "log"]
Loss = Literal["cross-entropy", "weighted", "focal", "mse", "huber", "poisson", "negative-binomial"]
Schedule = Literal["constant", "cosine", "one-cycle"]
Precision = Literal["32", "bf16", "16"]
Device = Literal["auto", "cpu", "cuda"]
Log = Literal["csv", "tensorboard"]

# the first is a task's own where nothing else is asked
LOSSES: Mapping[TaskKind, tuple[Loss, ...]] = {
    "class": ("cross-entropy", "weighted", "focal"),
    "value": ("mse", "huber"),
    "count": ("negative-binomial", "poisson"),
}


# by how tiles' values of a column are combined; others are `standard`. Sums are zero in most tiles and large
# in a few: by ranks no outlier says more than its rank (so do Gorishniy et al. 2021, arXiv:2106.11959)
SCALINGS: Mapping[str, Scaling] = {"sum": "quantile"}


class EncoderDefaults(NamedTuple):
    """What follows the encoder: `betas` are Adam's, always; the others where nothing else is asked."""

    weights: str
    tune: Tune
    epochs: int
    learning_rate: float
    betas: tuple[float, float]


# basic: the first version's Adam
BASIC = EncoderDefaults("none", "all", 30, 2e-4, (0.5, 0.999))
FROZEN = EncoderDefaults("imagenet", "none", 60, 1e-3, (0.9, 0.999))
TUNED = EncoderDefaults("imagenet", "none", 15, 1e-3, (0.9, 0.999))


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainSettings:
    """How a model is trained.

    Parameters
    ----------
    label : column to learn; without it the dataset's own label.
    positive : value of the label column that counts as high risk.
    at_least : measure from which a tile is high risk; None for the top fifth.
    classes : values of the label column from the least risk to the most, where there are more than two.
    task : `class`, `value` (regression) or `count` (expected events).
    exposure : column that expected events are proportional to, as vehicle-km; None for none.
    loss : None is the task's own, the first of `LOSSES`.
    features : facts to use; without it every column whose role is `feature`.
    exclude : facts to leave out.
    neighbourhood : sides [tiles] of neighbourhoods whose facts are added as columns; odd, 3 or more.
    facts_network : `dense` is the first version's; `embedding` has an embedding for each fact of text.
    categories : how facts of text enter the dense network or, with `embedding`, the other one.
    impute : what stands for a missing number.
    scaling : of numbers, by how tiles' values are combined (`sum`, `mean`, ..., `default` for others); for
        what is not named that of `SCALINGS`.
    facts_width : hidden units of the embedding network's first layer; the second has half of them.
    encoder : network that looks at the picture.
    weights : `imagenet` (the library's own), `aerial` (of `aerial-resnet18`), `none`, or a .pth or
        .safetensors file (of `aerial-resnet18` also geoembed's .npz); None follows the encoder.
    tune : how much of the encoder learns; None follows the encoder.
    inputs : what the network is given; `auto` keeps the simplest of facts, picture and both whose loss on
        tiles that training watched is within one standard error of the best.
    views : whose pictures it sees.
    own_encoders : whether each view has an encoder of its own, not one for all.
    augment : learn from all eight flips and quarter turns of a picture, and score their mean.
    fusion : how picture and facts are joined.
    folds : parts of the cross-validation; None is five, or as many as blocks allow.
    block_m : side of a spatial block [m]; None is four of the widest views or the range of what facts do not
        explain, the larger.
    epochs : at most so many; None follows the encoder.
    patience : epochs without a lower loss on the validation blocks before training stops.
    learning_rate : None follows the encoder.
    encoder_rate : learning rate of a tuned encoder, as a share of `learning_rate`.
    schedule : how the rate changes from step to step.
    weight_decay : of Adam (AdamW).
    clip_norm : longest gradient.
    average : decay of the moving average of weights; 0 for none.
    batch_size : tiles a step.
    dropout : share of activations dropped while training.
    modality_dropout : share of tiles with picture and facts that lose one of them in a step.
    precision : of numbers in a network; `bf16` and `16` mix them with 32 bit.
    devices, nodes : GPUs (or processes) on each machine, and machines, as `torchrun` starts them.
    seed : of folds, first weights, batches and dropout.
    device : `auto` is a GPU where there is one.
    quick : train the one model only, without those it is compared with.
    log : what every epoch is written as, beside the model; None for nothing.
    """

    label: str | None = None
    positive: str | None = None
    at_least: Annotated[float, Field(allow_inf_nan=False)] | None = None
    classes: tuple[str, ...] | None = None
    task: TaskKind = "class"
    exposure: str | None = None
    loss: Loss | None = None
    features: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    neighbourhood: tuple[Annotated[int, Field(ge=3, le=31)], ...] = ()
    facts_network: FactsNetwork = "dense"
    categories: Categories = "one-hot"
    impute: Imputation = "median"
    scaling: dict[str, Scaling] = Field(default_factory=dict)
    facts_width: Annotated[int, Field(ge=2, le=4096)] = 64
    encoder: str = "resnet34"
    weights: str | None = None
    tune: Tune | None = None
    inputs: Inputs | Literal["auto"] = "both"
    views: Annotated[tuple[str, ...], Field(min_length=1)] = ("aerial",)
    own_encoders: bool = False
    augment: bool = False
    fusion: Fusion = "concat"
    folds: Annotated[int, Field(ge=2)] | None = None
    block_m: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=1)] = 5
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    encoder_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    schedule: Schedule = "constant"
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    batch_size: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    modality_dropout: Annotated[float, Field(ge=0, le=1)] = 0.1
    precision: Precision = "32"
    devices: Annotated[int, Field(ge=1)] = 1
    nodes: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    device: Device = "auto"
    quick: bool = False
    log: Log | None = None

    @property
    def sees(self) -> Inputs:
        """What is gathered for the network: with `auto` both, since it is chosen later."""
        return "both" if self.inputs == "auto" else self.inputs

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's, which follow the encoder."""
        return follows(self.encoder, self.tune).betas


def follows(encoder: str, tune: Tune | None) -> EncoderDefaults:
    """What an encoder and how much of it learns bring with them.

    >>> follows("resnet34", None).epochs, follows("resnet34", "all").epochs, follows("basic", None).weights
    (60, 15, 'none')
    """
    if encoder == "basic":
        return BASIC
    return FROZEN if tune in (None, "none") else TUNED


def resolved(settings: TrainSettings) -> TrainSettings:
    """The same with everything that follows the encoder and the task filled in.

    Raises
    ------
    UsageError : an encoder that is none, or settings that contradict each other.

    Examples
    --------
    >>> resolved(TrainSettings(encoder="basic")).learning_rate
    0.0002
    """
    if settings.inputs == "auto" and settings.quick:
        raise UsageError("--inputs auto compares models, --quick leaves them out; give one of them")
    if settings.sees != "facts":
        _check_encoder(settings)
    _check_task(settings)
    _check_neighbourhood(settings)
    default = follows(settings.encoder, settings.tune)
    own = "aerial" if settings.encoder == "aerial-resnet18" else default.weights
    return replace(
        settings,
        loss=settings.loss or LOSSES[settings.task][0],
        weights=settings.weights or own,
        tune=settings.tune or default.tune,
        epochs=settings.epochs or default.epochs,
        learning_rate=settings.learning_rate or default.learning_rate,
    )


def _check_encoder(settings: TrainSettings) -> None:
    encoder, weights, tune = settings.encoder, settings.weights, settings.tune
    if encoder not in ENCODERS and not (encoder.startswith(TIMM) and len(encoder) > len(TIMM)):
        raise UsageError(f"--encoder {encoder} is none of {', '.join(ENCODERS)}, {TIMM}NAME")
    if encoder == "basic":
        if weights not in (None, "none"):
            raise UsageError(f"--encoder basic learns from nothing; leave out --weights {weights}")
        if tune not in (None, "all"):
            raise UsageError(f"--tune {tune} with --encoder basic would freeze random weights; leave it out")
    elif weights == "none" and tune != "all":
        raise UsageError(
            f"--weights none with --encoder {encoder} would freeze random weights; "
            "use --tune all, --weights imagenet, --weights PATH, or --encoder basic"
        )
    elif encoder == "aerial-resnet18" and weights == "imagenet":
        raise UsageError("--encoder aerial-resnet18 has weights of its own; leave out --weights imagenet")
    if len(set(settings.views)) < len(settings.views):
        raise UsageError("--views names a view twice")


def _check_task(settings: TrainSettings) -> None:
    if settings.loss is not None and settings.loss not in LOSSES[settings.task]:
        own = " or ".join(LOSSES[settings.task])
        raise UsageError(f"--loss {settings.loss} is not of --task {settings.task}; use {own}")
    if settings.exposure is not None and settings.task != "count":
        raise UsageError("--exposure is an offset of --task count; leave it out")
    ways = {"--positive": settings.positive, "--at-least": settings.at_least, "--classes": settings.classes}
    given = [flag for flag, value in ways.items() if value is not None]
    if given and settings.task != "class":
        raise UsageError(f"{given[0]} is of --task class; leave it out")
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} say in different ways what is high risk; give one of them")


def _check_neighbourhood(settings: TrainSettings) -> None:
    even = [side for side in settings.neighbourhood if side % 2 == 0]
    if even:
        raise UsageError(f"--neighbourhood {even[0]} has no tile in its middle; use an odd number")
