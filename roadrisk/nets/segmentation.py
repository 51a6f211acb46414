"""The network that draws roads: an encoder and a decoder of segmentation-models-pytorch."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from typing import Any, cast

import httpx
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from roadrisk.errors import ModelError, UsageError

STRIDE_PX = 32  # of the deepest features; what goes in is a multiple of it
TIMM = "tu-"  # the library's mark of an encoder of timm
NAMED = 3


class RoadNN(nn.Module):
    """A logit of road for every pixel of a picture.

    Parameters
    ----------
    decoder, encoder : by their names in segmentation-models-pytorch; `tu-NAME` is an encoder of timm.
    bands : of the pictures.
    shrink : pixels along a side that the network sees as one.
    weights : of the encoder, `imagenet`; None for random ones.

    Raises
    ------
    UsageError : no such decoder or encoder, they do not fit, or the library is not installed.
    ModelError : the weights cannot be had.

    Examples
    --------
    >>> network = RoadNN("unet", "resnet18", bands=3, shrink=2).eval()
    >>> network(torch.zeros(1, 3, 64, 128)).shape
    torch.Size([1, 1, 64, 128])
    """

    def __init__(
        self, decoder: str, encoder: str, bands: int, shrink: int, weights: str | None = None
    ) -> None:
        super().__init__()
        self.shrink = shrink
        self.body = _body(decoder, encoder, bands, weights)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, bands, H, W) -> (B, 1, H, W); H and W are multiples of `STRIDE_PX * shrink`."""
        if self.shrink == 1:
            return cast(Tensor, self.body(pictures))  # (B, 1, H, W)
        seen = functional.avg_pool2d(pictures, self.shrink)  # (B, bands, h, w)
        logits = cast(Tensor, self.body(seen))  # (B, 1, h, w)
        return functional.interpolate(
            logits, scale_factor=self.shrink, mode="bilinear", align_corners=False
        )  # (B, 1, H, W)


def check_learns(network: nn.Module, bands: int, side_px: int, batch_size: int) -> None:
    """Nothing, if a network can learn from pictures of this size; nothing is computed for that.

    Raises
    ------
    UsageError : it cannot; some want larger pictures, more of them at once, or pictures of one size.

    Examples
    --------
    >>> check_learns(RoadNN("pan", "resnet18", bands=3, shrink=1), bands=3, side_px=64, batch_size=2)
    Traceback (most recent call last):
    ...
    roadrisk.errors.UsageError: the network cannot learn from crops of 64 x 64 px, 2 at once (Given input \
size: (1x1x1)); use a larger crop_px or batch_size in --settings, or another --decoder or --encoder
    """
    planned = deepcopy(network).to("meta").train()
    try:
        for side in (side_px, 2 * side_px):  # whole tiles with their margins are larger than crops
            planned(torch.zeros(batch_size, bands, side, side, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"the network cannot learn from crops of {side_px} x {side_px} px, {batch_size} at once "
            f"({_said(error)}); use a larger crop_px or batch_size in --settings, or another --decoder or "
            "--encoder"
        ) from None


def _body(decoder: str, encoder: str, bands: int, weights: str | None) -> nn.Module:
    library = _library()
    _check_names(library, decoder, encoder)
    given = {"arch": decoder, "encoder_name": encoder, "in_channels": bands, "classes": 1}
    # even where the meta device is asked for: some encoders read values while they are made
    with torch.device("cpu"), warnings.catch_warnings():
        # of names that it will drop some day, and of choices that are its own
        warnings.filterwarnings("ignore", module="segmentation_models_pytorch")
        try:
            body: nn.Module = library.create_model(**given, encoder_weights=None)
        except (ValueError, KeyError, TypeError, NotImplementedError, RuntimeError, AssertionError) as error:
            raise UsageError(
                f"--decoder {decoder} and --encoder {encoder} do not fit ({_said(error)}); choose another"
            ) from None
        if weights is None:
            return body
        return _pretrained(library, encoder, weights, given)


def _pretrained(library: Any, encoder: str, weights: str, given: dict[str, Any]) -> nn.Module:
    """The same with the weights that the library has for its encoder."""
    from huggingface_hub import constants

    try:
        with _hub_if_there():
            body: nn.Module = library.create_model(
                **given, encoder_weights=True if encoder.startswith(TIMM) else weights
            )
    except KeyError:
        raise ModelError(f"there are no {weights} weights of {encoder}; use --weights none") from None
    except (OSError, RuntimeError, ValueError, httpx.HTTPError, SafetensorError) as error:
        raise ModelError(
            f"the {weights} weights of {encoder} cannot be had ({_said(error)}); use --weights none, or let "
            f"a machine with a network fetch them and copy its {constants.HF_HUB_CACHE}"
        ) from None
    return body


@contextmanager
def _hub_if_there() -> Iterator[None]:
    """Only the hub's cache where the hub does not answer: its library asks six times and tells of each."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        if not before:
            httpx.head(constants.ENDPOINT)
    except httpx.HTTPError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _library() -> Any:
    try:
        return importlib.import_module("segmentation_models_pytorch")
    except ImportError:
        raise UsageError(
            "the road stage needs segmentation-models-pytorch, which is not installed; "
            "pip install 'roadrisk[roads]'"
        ) from None


def _check_names(library: Any, decoder: str, encoder: str) -> None:
    decoders = list(library.MODEL_ARCHITECTURES_MAPPING)
    if decoder not in decoders:
        raise UsageError(f"--decoder {decoder} is none; use one of {', '.join(decoders)}")
    if encoder.startswith(TIMM):
        import timm  # takes a second

        # hf-hub:, local-dir: and the like, which timm would fetch, are no names
        name = encoder.removeprefix(TIMM)
        if ":" not in name and "/" not in name and timm.is_model(name):
            return
        whose, known = "timm", [TIMM + known for known in timm.list_models()]
    else:
        whose, known = "segmentation-models-pytorch", library.encoders.get_encoder_names()
        if encoder in known:
            return
    near = get_close_matches(encoder, known, NAMED)
    there = f"near it is {', '.join(near)}" if near else "resnet18, mit_b0 and tu-convnext_atto are some"
    raise UsageError(f"--encoder {encoder}: {whose} has no such network; {there}")


def _said(error: Exception) -> str:
    """The first sentence of a library's error."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return (text or type(error).__name__).strip().splitlines()[0].partition(". ")[0].rstrip(".")
