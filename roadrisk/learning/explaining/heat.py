"""Where in the picture the score comes from: Grad-CAM of convolutional encoders, by captum.

Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization
(arXiv:1610.02391): the encoder's last maps, each weighted by the slope of the score. Grad-CAM takes the mean
slope of a map, as is right for encoders that average their maps. `basic` looks at each place of its maps by a
weight of its own, and the mean of these may say the opposite of what is there; so each place has its own
slope, as in HiResCAM (Draelos and Carin 2020, arXiv:2011.08891). Where maps are averaged both are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roadrisk.errors import UsageError
from roadrisk.grid import FloatArray
from roadrisk.learning.batches import TURNS
from roadrisk.learning.examples import Examples
from roadrisk.learning.explaining.voices import Choir, Voice, choir_of, own_fold, voices_of
from roadrisk.learning.loop.fit import repeatable
from roadrisk.learning.model import Model
from roadrisk.learning.pictures.feeds import ImageFeed, scoring_feed
from roadrisk.learning.validation import network_inputs
from roadrisk.nets.encoders import encoder_body
from roadrisk.nets.image import PretrainedCNN

HEAT_WORDS = (
    "Grad-CAM: where what the encoder sees raises the score, from 0 to the most in this picture. What lowers "
    "the score is not shown, and the map is as coarse as the encoder's last maps."
)
NONE_RAISES = "Grad-CAM finds no part of the picture that raises the score."
NO_MAPS = "{encoder} keeps no maps of the picture up to its end, as a transformer does: there is no heat map."


@dataclass(frozen=True, eq=False)
class Heat:
    """Where a picture raises the score.

    Parameters
    ----------
    warmth : (size, size) of the prepared picture, in [0, 1]; None where the encoder has none.
    told : what it is, or why there is none.
    """

    view: str
    warmth: FloatArray | None
    told: str


def heat_maps(
    model: Model, example: Examples, images: Sequence[ImageFeed | None], device: torch.device
) -> tuple[Heat, ...]:
    """A heat map of each picture of one tile, as the folds that speak of it see it together.

    Parameters
    ----------
    example : one tile.
    images : feeds of the views, ready for it.

    Raises
    ------
    UsageError : captum is not installed.
    """
    gradcam = _captum()
    own = int(own_fold(model, example.key.tolist())[0])
    voices = [one for k, one in enumerate(voices_of(model, device)) if own in (-1, k)]
    shape = model.architecture
    given = [network_inputs(example, one.fold.preparation, shape, images) for one in voices]
    choir = choir_of(shape, voices, given, example.exposure, device)
    heats = []
    for view in np.flatnonzero(example.picture[0, : len(shape.views)] >= 0).tolist():
        pictures = _turned_pictures(model, example, view, device)
        with repeatable():
            warmth = _warmth(model, voices, choir, view, pictures, gradcam)
        heats.append(_heat(shape.views[view].view, shape.encoder, warmth))
    return tuple(heats)


def _heat(view: str, encoder: str, warmth: FloatArray | None) -> Heat:
    if warmth is None:
        return Heat(view, None, NO_MAPS.format(encoder=encoder))
    most = warmth.max()
    return Heat(view, warmth / most, HEAT_WORDS) if most > 0 else Heat(view, warmth, NONE_RAISES)


def _captum() -> Any:
    try:
        from captum import attr  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError("a heat map needs captum: pip install 'roadrisk[explain]'") from None
    return attr


def _turned_pictures(model: Model, example: Examples, view: int, device: torch.device) -> Tensor:
    """(T, 3, size, size) the picture under each turn that is looked at."""
    shape = model.architecture
    preparation = model.pictures[view]
    feed = scoring_feed(example.pictures[view], preparation, shape.encoder, None, shape.augment, device)
    turns = np.arange(TURNS if shape.augment else 1)
    return feed.tensors(np.full(len(turns), example.picture[0, view]), turns).to(device)


def _warmth(
    model: Model, voices: Sequence[Voice], choir: Choir, view: int, pictures: Tensor, attr: Any
) -> FloatArray | None:
    """(size, size) of 0 and more; None of an encoder without maps.

    What lowers the score in one fold or turn takes away from what raises it in another: it is the map of
    their mean.
    """
    maps = []
    for place in range(len(voices)):
        looked = _Looked(model, voices, choir, view, place)
        layer = last_maps(looked.body, pictures)
        if layer is None:
            return None
        weighted = attr.LayerGradientXActivation(looked, layer).attribute(pictures.clone())  # (T, C, h, w)
        found = weighted.sum(dim=1, keepdim=True)  # (T, 1, h, w)
        maps.append(attr.LayerAttribution.interpolate(found, pictures.shape[2:], "bilinear").detach())
        if looked.shared:
            break  # one encoder for all folds, whose scores are looked at together
    summed = torch.stack(maps).mean(dim=0)  # (T, 1, size, size)
    upright = [turned_back(summed[turn : turn + 1], turn) for turn in range(len(summed))]
    return torch.cat(upright).sum(dim=0)[0].clamp(min=0).cpu().numpy().astype(np.float64)


class _Looked(nn.Module):
    """(T, 3, size, size) turns of a picture -> (1,) the score, all else as it is.

    Parameters
    ----------
    place : of the voice whose encoder looks; a frozen one is shared and looks for all.
    """

    def __init__(self, model: Model, voices: Sequence[Voice], choir: Choir, view: int, place: int) -> None:
        super().__init__()
        self.voices, self.choir, self.view = list(voices), choir, view
        self.shared = model.architecture.frozen
        if self.shared:
            self.body = encoder_body(model.architecture.encoder, model.encoder).to(choir.has_image.device)
        else:
            self.voices = [voices[place]]
            self.choir = replace(choir, heard=(choir.heard[place],))
            network = voices[place].network
            branch = network.image[network.branch_of_view[view]]
            self.body = branch.encoder.body if isinstance(branch, PretrainedCNN) else branch
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        seen = self.body(pictures)
        heard = []
        for voice, one in zip(self.voices, self.choir.heard, strict=True):
            branch: Any = voice.network.image[voice.network.branch_of_view[self.view]]
            vectors = self._vectors(branch, seen).double()[:, None]  # (T, 1, length)
            views = [vectors if n == self.view else known for n, known in enumerate(one.views)]
            heard.append(replace(one, views=tuple(views)))
        choir = replace(self.choir, heard=tuple(heard))
        return choir.score([one.facts[None] for one in heard], [True] * len(views))[0]  # (1,)

    def _vectors(self, branch: Callable[[Tensor], Tensor], seen: Tensor) -> Tensor:
        if self.shared:
            return branch(seen)
        return branch.head(seen) if isinstance(branch, PretrainedCNN) else seen


def last_maps(body: nn.Module, pictures: Tensor) -> nn.Module | None:
    """The last part of an encoder that still makes maps of the picture; None if what follows them are tokens.

    Parameters
    ----------
    pictures : (T, 3, size, size) as it takes them.
    """
    made: list[tuple[nn.Module, torch.Size]] = []

    def noted(module: nn.Module, _: object, out: object) -> None:
        if isinstance(out, Tensor) and out.ndim >= 3 and max(out.shape[2:]) > 1:
            made.append((module, out.shape))

    hooks = [module.register_forward_hook(noted) for module in body.modules() if module is not body]
    try:
        with torch.no_grad():
            body(pictures[:1])
    finally:
        for hook in hooks:
            hook.remove()
    if not made:
        return None
    module, shape = made[-1]  # of a module that is used twice captum takes the last, too
    channels = getattr(body, "num_features", shape[1])  # as timm says; its others have channels last
    return module if len(shape) == 4 and shape[1] == channels else None


def turned_back(maps: Tensor, turn: int) -> Tensor:
    """(n, C, H, H) maps of turned pictures as those of the upright ones.

    >>> from roadrisk.learning.pictures.pixels import turned_alike
    >>> corner = torch.tensor([[[[1, 2], [3, 4]]]])
    >>> all(turned_back(turned_alike(corner, turn), turn).equal(corner) for turn in range(8))
    True
    """
    upright = maps.rot90(-(turn % (TURNS // 2)), (2, 3))
    return upright.flip(3) if turn >= TURNS // 2 else upright
