"""Encoders by name: their bodies, what they expect of pictures, and which of their parameters learn.

torchvision's ResNets; any network of timm as `timm:NAME`; and `aerial-resnet18`, whose layers are those of
the package geoembed: a ResNet18 for pictures of 128 pixels that starts with a 3x3 convolution of stride 1 and
has no max pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from roadrisk.errors import UsageError
from roadrisk.nets.image import FrozenEncoder, TunedEncoder

TIMM = "timm:"
TORCHVISION = ("resnet18", "resnet34", "resnet50")
AERIAL = "aerial-resnet18"

Bands = tuple[float, float, float]


class EncoderSight(NamedTuple):
    """What an encoder's weights expect of a picture.

    Parameters
    ----------
    size_px : its side.
    mean, std : of red, green and blue in [0, 1], taken away and divided by.
    """

    size_px: int
    mean: Bands
    std: Bands


class Encoder(NamedTuple):
    """What is known of an encoder without its weights.

    Parameters
    ----------
    features : length of the vector it makes of a picture.
    sight : what it expects of a picture.
    classifier : modules of the whole network that the body lacks; files of weights may hold them.
    """

    features: int
    sight: EncoderSight
    classifier: tuple[str, ...]


class LearningParameters(NamedTuple):
    """What learns in a network: in its tuned encoders, and the rest."""

    encoder: list[nn.Parameter]
    rest: list[nn.Parameter]


# torchvision's ResNet34_Weights.IMAGENET1K_V1.transforms()
IMAGENET_SIGHT = EncoderSight(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# geoembed.preprocess: the whole picture resized to 128 px, then (pixel / 255 - 0.5) / 0.5
AERIAL_SIGHT = EncoderSight(128, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@cache
def encoder_of(name: str) -> Encoder:
    """What is known of the encoder of that name.

    Raises
    ------
    UsageError : a name that is none, or a network that takes no square pictures of three bands.

    Examples
    --------
    >>> encoder_of("resnet50").features, encoder_of("aerial-resnet18").sight.size_px
    (2048, 128)
    >>> encoder_of("timm:dla3")
    Traceback (most recent call last):
    ...
    roadrisk.errors.UsageError: --encoder timm:dla3: timm has no such network; near it is dla34, dla60, dla60x
    """
    if name.startswith(TIMM):
        return _timm_encoder(name)
    body = bare_body(name)
    return Encoder(body.inplanes, AERIAL_SIGHT if name == AERIAL else IMAGENET_SIGHT, ("fc",))


def features_of(name: str) -> int:
    """Length of the vector that an encoder makes of a picture."""
    return encoder_of(name).features


def bare_body(name: str) -> Any:
    """A body without any values: its names and shapes alone (torch's device `meta`)."""
    with torch.device("meta"):
        return _drawn_body(name)


def encoder_body(name: str, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """(B, 3, H, W) -> (B, features): an encoder without its classifier.

    Parameters
    ----------
    state : its weights, which are copied; without them they are drawn. Those of a classifier are left out.

    Raises
    ------
    UsageError : timm has none of that name.
    RuntimeError : torch's own, when a name or shape does not fit; `learning.weights` checks before.

    Examples
    --------
    >>> encoder_body("resnet18")(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 512])
    """
    if state is None:
        body: nn.Module = _drawn_body(name)
        return body
    if name.startswith(TIMM):  # its networks have constants that are not in the state
        with torch.random.fork_rng(devices=[]):
            body = _drawn_body(name)
    else:  # drawing 21 million values takes longer than reading them
        body = bare_body(name).to_empty(device="cpu")
    body.load_state_dict(without_classifier(state, name))
    return body


def frozen_encoder(name: str, state: Mapping[str, Tensor]) -> FrozenEncoder:
    """An encoder that never learns, with the errors of `encoder_body`."""
    return FrozenEncoder(encoder_body(name, state), features_of(name))


def tuned_encoder(
    name: str, tune: Literal["last", "all"], state: Mapping[str, Tensor] | None = None
) -> TunedEncoder:
    """An encoder of which the last stage or all learns.

    Parameters
    ----------
    state : weights it starts from, which stay as they are; without them they are drawn.

    Raises
    ------
    UsageError : a name that is none, or a network that does not say what its last stage is.
    """
    body = encoder_body(name, state)
    learning = last_stage(name, body) if tune == "last" else tuple(n for n, _ in body.named_parameters())
    return TunedEncoder(body, features_of(name), learning)


def last_stage(name: str, body: nn.Module) -> tuple[str, ...]:
    """Names of the parameters of an encoder's last stage, and of all that follows it.

    The last stage of a ResNet is its `layer4`. Of a network of timm it is the last that the network itself
    numbers for layer-wise learning rates (a stage of a convolutional network, a block of a transformer).

    Raises
    ------
    UsageError : the network does not say, or has one stage only.

    Examples
    --------
    >>> len(last_stage("resnet34", bare_body("resnet34")))
    21
    """
    names = [parameter for parameter, _ in body.named_parameters()]
    if not name.startswith(TIMM):
        return tuple(n for n in names if n.startswith("layer4."))
    stage = _stages(body, names)
    numbered = sorted({number for number in stage.values() if number is not None})
    if len(numbered) < 2:
        raise UsageError(
            f"--tune last: {name} does not say what its last stage is; use --tune all or --tune none"
        )
    return tuple(n for n in names if stage[n] in (numbered[-1], None))


def learning_parameters(network: nn.Module) -> LearningParameters:
    """The parameters that learn, so that those of a tuned encoder can have a lower rate.

    Each is there once, in the network's order, however many views share it.
    """
    tuned = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, TunedEncoder)
        for parameter in module.parameters()
    }
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return LearningParameters(
        [p for p in learning if id(p) in tuned], [p for p in learning if id(p) not in tuned]
    )


def without_classifier(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of a network without those of its classifier."""
    classifier = tuple(f"{module}." for module in encoder_of(name).classifier)
    return {n: value for n, value in state.items() if not n.startswith(classifier)}


def timm_network(name: str, **given: Any) -> Any:
    """The network of timm that `timm:NAME` names, on torch's current device.

    Raises
    ------
    UsageError : timm has none of that name.
    """
    import timm  # takes a second

    asked = name.removeprefix(TIMM)
    # hf-hub:, local-dir: and the like, which timm would fetch, are no names
    known = ":" not in asked and "/" not in asked and timm.is_model(asked)
    tags = timm.list_models(f"{asked.partition('.')[0]}.*", pretrained=True) if known else []
    if not known or ("." in asked and asked not in tags):
        near = (get_close_matches(asked, tags or timm.list_models()) or tags)[:3]
        there = f"near it is {', '.join(near)}" if near else "timm.list_models() tells those it has"
        raise UsageError(f"--encoder {name}: timm has no such network; {there}")
    return timm.create_model(asked, **given)


def _drawn_body(name: str) -> Any:
    if name.startswith(TIMM):
        return timm_network(name, num_classes=0)
    # here, not above: it takes seconds, and what learns from facts alone does without
    from torchvision.models import get_model

    if name == AERIAL:
        body = get_model("resnet18", weights=None)
        body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        body.maxpool = nn.Identity()
    elif name in TORCHVISION:
        body = get_model(name, weights=None)
    else:
        raise ValueError(f"{name} has no body; use {', '.join(TORCHVISION)}, {AERIAL} or {TIMM}NAME")
    body.fc = nn.Identity()
    return body


def _timm_encoder(name: str) -> Encoder:
    body = bare_body(name)
    expects = body.pretrained_cfg
    bands, height, width = expects["input_size"]
    if bands != 3 or height != width:
        raise UsageError(
            f"--encoder {name} takes pictures of {width} x {height} pixels in {bands} bands; "
            "choose one that takes square RGB pictures"
        )
    classifier = expects.get("classifier") or ()
    return Encoder(
        int(getattr(body, "head_hidden_size", body.num_features)),
        EncoderSight(height, tuple(expects["mean"]), tuple(expects["std"])),
        (classifier,) if isinstance(classifier, str) else tuple(classifier),
    )


def _stages(body: Any, names: list[str]) -> dict[str, int | None]:
    """The number of each parameter's stage; None for what stands behind the last: norms, a last layer."""
    from timm.models._manipulate import group_with_matcher

    try:
        stages = body.group_matcher(coarse=True)
    except (AttributeError, AssertionError, NotImplementedError):  # timm's ways to say that it has none
        return dict.fromkeys(names)
    behind = "\0"  # matches no stage
    number = group_with_matcher(((name, name) for name in [*names, behind]), stages, reverse=True)
    return {name: None if number[name] == number[behind] else number[name] for name in names}
