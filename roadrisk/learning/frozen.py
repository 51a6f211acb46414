"""What the image branch of a network is fed: pictures, or a frozen encoder's features of them.

A frozen encoder gives the same features whenever it looks, so it looks once; folds, settings and later
scoring share what it saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadrisk.errors import UsageError
from roadrisk.files import digest_of
from roadrisk.grid import IntArray
from roadrisk.learning.kept import ROWS_AT_ONCE, Kept
from roadrisk.learning.pictures import PicturePreparation, Pictures, Pixels, kept_pictures
from roadrisk.learning.weights import State, weights_identity
from roadrisk.nets.image import RESNET34_FEATURES, FrozenEncoder, frozen_resnet34
from roadrisk.progress import Progress

ImageTensors = Callable[[IntArray], Tensor]


@dataclass(frozen=True)
class ImageFeed:
    """Tensors for the image branch, by index of the picture.

    Parameters
    ----------
    tensors : (n,) indices -> (n, 3, size, size) pictures or (n, 512) features, on the CPU.
    ready : makes and keeps what these indices need, telling its progress.
    """

    tensors: ImageTensors
    ready: Callable[[IntArray, Progress], None]


def training_feed(
    pictures: Pictures,
    preparation: PicturePreparation,
    encoder: State | None,
    cache: Path,
    device: torch.device,
) -> ImageFeed:
    """What feeds the image branch over many epochs: everything is made once and kept.

    Parameters
    ----------
    pictures : of `preparation.size_px`.
    encoder : weights of the frozen encoder; None where the network looks at pictures itself.
    cache : folder that keeps what is made once.
    device : where a frozen encoder runs.
    """
    if encoder is None:
        kept = kept_pictures(pictures, cache)
        return ImageFeed(lambda indices: as_tensor(kept.prepared(indices), preparation), kept.kept.fill)
    return _feature_feed(pictures, preparation, encoder, cache, device)


def scoring_feed(
    pictures: Pictures,
    preparation: PicturePreparation,
    encoder: State | None,
    cache: Path,
    device: torch.device,
) -> ImageFeed:
    """What feeds the image branch once: features are kept, pictures not, for a region may have millions."""
    if encoder is None:
        return ImageFeed(
            lambda indices: as_tensor(pictures.prepared(indices), preparation), lambda indices, progress: None
        )
    return _feature_feed(pictures, preparation, encoder, cache, device)


def frozen_features(
    pictures: Pictures, preparation: PicturePreparation, encoder: State, cache: Path, device: torch.device
) -> Kept:
    """(M, 512) features of a frozen ResNet34, each made once.

    Named by the pictures, the weights and the preparation, so that none can change unseen.
    """
    name = digest_of(
        {
            "pictures": pictures.identity,
            "weights": weights_identity(encoder),
            "preparation": [preparation.size_px, *preparation.mean, *preparation.std],
        }
    )[:24]
    network = frozen_resnet34(encoder).to(device)

    def features(indices: IntArray) -> NDArray[np.float32]:
        return _features(network, pictures.prepared(indices), preparation, device)

    path = cache / f"features-{name}.f32"
    return Kept(path, len(pictures), (RESNET34_FEATURES,), np.dtype(np.float32), features, "look at pictures")


def as_tensor(pixels: Pixels, preparation: PicturePreparation) -> Tensor:
    """(n, 3, size, size) in [0, 1], then without `mean` and over `std`."""
    tensor = torch.from_numpy(pixels).to(torch.float32, memory_format=torch.channels_last).div_(255)
    if any(preparation.mean) or preparation.std != (1.0, 1.0, 1.0):
        mean, std = (torch.tensor(bands)[:, None, None] for bands in (preparation.mean, preparation.std))
        tensor = tensor.sub_(mean).div_(std)
    return tensor


def device_of(asked: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means here.

    Raises
    ------
    UsageError : a GPU is asked for and there is none.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here; use --device cpu")
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(asked)


def _feature_feed(
    pictures: Pictures, preparation: PicturePreparation, encoder: State, cache: Path, device: torch.device
) -> ImageFeed:
    kept = frozen_features(pictures, preparation, encoder, cache, device)
    return ImageFeed(lambda indices: torch.from_numpy(kept.rows(indices)), kept.fill)


def _features(
    network: FrozenEncoder, pixels: Pixels, preparation: PicturePreparation, device: torch.device
) -> NDArray[np.float32]:
    # always a full batch: kernels are chosen by its size, and features must not depend on their company
    batch = np.zeros((ROWS_AT_ONCE, *pixels.shape[1:]), np.uint8)
    batch[: len(pixels)] = pixels
    features = network(as_tensor(batch, preparation).to(device))  # (32, 512)
    return np.asarray(features[: len(pixels)].cpu().numpy())
