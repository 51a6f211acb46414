"""What the image branch of a network is fed: pictures, or a frozen encoder's features of them.

A frozen encoder gives the same features whenever it looks, so it looks once; folds, settings and later
scoring share what it saw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from roadrisk.files import digest_of
from roadrisk.grid import IntArray
from roadrisk.imagery.picture_files import Pixels
from roadrisk.learning.batches import TURNS, ImageTensors
from roadrisk.learning.loop.fit import repeatable
from roadrisk.learning.loop.memory import as_memory_allows
from roadrisk.learning.pictures.kept import ROWS_AT_ONCE, Kept, chunks_to_make
from roadrisk.learning.pictures.kept_pictures import kept_pictures
from roadrisk.learning.pictures.pixels import as_tensor, turned, turned_alike
from roadrisk.learning.pictures.prefetch import cores, prefetched
from roadrisk.learning.pictures.sources import (
    CachedPictures,
    PicturePreparation,
    Pictures,
    no_pixels_yet,
)
from roadrisk.learning.pictures.weights import State, weights_identity
from roadrisk.nets.encoders import encoder_body, features_of
from roadrisk.nets.inference import evaluation_form
from roadrisk.progress import Progress, silent

STAGE = "look at pictures"
FORM = 1  # raised whenever the same pixels and weights would give other features than before


@dataclass(frozen=True)
class ImageFeed:
    """Tensors for the image branch, by index of the picture and its turn.

    Parameters
    ----------
    tensors : (n,) indices and (n,) turns -> (n, 3, size, size) pictures or (n, features).
    ready : makes and keeps what these indices need, under every turn that will be asked for, telling its
        progress.
    """

    tensors: ImageTensors
    ready: Callable[[IntArray, Progress], None]


def training_feed(
    sources: Sequence[CachedPictures],
    preparation: PicturePreparation,
    encoder: str,
    state: State | None,
    augment: bool,
    device: torch.device,
) -> ImageFeed:
    """What feeds the image branch over many epochs: everything is made once and kept.

    Parameters
    ----------
    sources : pictures of `preparation.size_px` of each dataset; indices count through all of them.
    encoder : its name.
    state : its weights where it is frozen; None where the network looks at pictures itself.
    augment : whether other turns than 0 will be asked for.
    device : where a frozen encoder runs.
    """
    if state is None:
        return _joined_feed([_kept_picture_feed(source, preparation, device) for source in sources], sources)
    return _feature_feed(sources, preparation, encoder, state, augment, device)


def scoring_feed(
    sources: Sequence[CachedPictures],
    preparation: PicturePreparation,
    encoder: str,
    state: State | None,
    augment: bool,
    device: torch.device,
) -> ImageFeed:
    """What feeds the image branch once: features are kept, pictures not, for a region may have millions.

    Parameters
    ----------
    sources, preparation, encoder, state, augment, device : as of `training_feed`.
    """
    if state is None:
        return _joined_feed([_picture_feed(one.pictures, preparation, device) for one in sources], sources)
    return _feature_feed(sources, preparation, encoder, state, augment, device)


@dataclass(frozen=True, eq=False)
class FrozenFeatures:
    """Features of M pictures, each made once.

    Parameters
    ----------
    kept : of (M, features), one for each turn from 0 on.
    network : makes the encoder on `device` when it is first needed.
    """

    pictures: Pictures
    preparation: PicturePreparation
    kept: tuple[Kept, ...]
    network: Callable[[], nn.Module]
    device: torch.device

    def rows(self, indices: IntArray, turns: IntArray) -> NDArray[np.float32]:
        """(n, features) of these pictures, each turned so; those missing are made first."""
        self.fill(indices)
        out = np.empty((len(indices), *self.kept[0].record["row"].shape), np.float32)
        for turn in np.unique(turns).tolist():
            at = turns == turn
            out[at] = self.kept[turn].rows(indices[at])
        return out

    def fill(self, indices: IntArray, progress: Progress = silent) -> None:
        """Make those that are missing: each picture is read once, and looked at under every turn.

        Raises
        ------
        DatasetError : the disk is full or the folder cannot be written.
        """
        at_once = ROWS_AT_ONCE if self.device.type == "cpu" else 4 * ROWS_AT_ONCE
        network, fitting = cache(self.network), at_once
        made = prefetched(
            lambda job: (*job, self._whole_batch(job[0], at_once)),
            chunks_to_make(self.kept, indices, at_once),
            1 if self.device.type == "cpu" else cores(),
        )
        waiting: deque[tuple[IntArray, list[Tensor]]] = deque()
        with closing(made):
            for chunk, done, total, batch in made:
                look, told = partial(self._looked_at, network(), batch), partial(progress, STAGE, done, total)
                features, fitting = as_memory_allows(look, fitting, told)
                waiting.append((chunk, features))
                # a GPU goes on with this batch while the features of the last are fetched and written
                if len(waiting) > (self.device.type != "cpu"):
                    self._keep(*waiting.popleft())
                progress(STAGE, done, total)
        while waiting:
            self._keep(*waiting.popleft())

    def _whole_batch(self, chunk: IntArray, at_once: int) -> Tensor:
        # always a full batch: kernels are chosen by its size, and features must not depend on their company
        batch = no_pixels_yet(at_once, self.preparation.size_px)
        batch[: len(chunk)], batch[len(chunk) :] = self.pictures.prepared(chunk), 0
        tensor = torch.from_numpy(batch)
        return tensor if self.device.type == "cpu" else tensor.pin_memory()

    def _looked_at(self, network: nn.Module, batch: Tensor, at_once: int) -> list[Tensor]:
        """(batch, features) under each turn, looked at in parts of `at_once`."""
        with torch.inference_mode(), repeatable():
            pixels = batch.to(self.device, non_blocking=True)
            features = []
            for turn in range(len(self.kept)):
                pictures = as_tensor(turned_alike(pixels, turn), self.preparation)
                seen = [network(pictures[at : at + at_once]) for at in range(0, len(pictures), at_once)]
                features.append(torch.cat(seen))
        return features

    def _keep(self, chunk: IntArray, features: list[Tensor]) -> None:
        for kept, made in zip(self.kept, features, strict=True):
            kept.add(chunk, made[: len(chunk)].cpu().numpy())


def frozen_features(
    source: CachedPictures,
    preparation: PicturePreparation,
    encoder: str,
    state: State,
    augment: bool,
    device: torch.device,
) -> FrozenFeatures:
    """(M, features) of a frozen encoder, each made once, under one turn or all eight.

    Each turn has a file, named by the pictures, the weights, the preparation and the turn, so that none can
    change unseen, and so that turn 0 serves with and without the others.
    """
    known = {
        "form": FORM,
        "pictures": source.pictures.identity,
        "encoder": encoder,
        "weights": weights_identity(state),
        "preparation": asdict(preparation),
    }
    paths = [
        source.cache / f"features-{digest_of(known | {'turn': turn})[:24]}"
        for turn in range(TURNS if augment else 1)
    ]
    shape, dtype, keys = (features_of(encoder),), np.dtype(np.float32), source.pictures.keys

    def network() -> nn.Module:
        return evaluation_form(encoder_body(encoder, state).to(device))

    return FrozenFeatures(
        source.pictures,
        preparation,
        tuple(Kept(path, keys, shape, dtype) for path in paths),
        network,
        device,
    )


def by_part(lengths: Sequence[int], indices: IntArray) -> Iterator[tuple[int, IntArray, IntArray]]:
    """Which of these indices fall into each of several parts that are counted through.

    Yields
    ------
    The part's number, places in `indices`, and those indices counted from its start; no part without any.

    Examples
    --------
    >>> [(n, at.tolist(), inside.tolist()) for n, at, inside in by_part([3, 2], np.array([4, 0, 3]))]
    [(0, [1], [0]), (1, [0, 2], [1, 0])]
    """
    ends = np.cumsum(lengths)
    number = np.searchsorted(ends, indices, side="right")
    for part in np.unique(number).tolist():
        at = np.flatnonzero(number == part)
        yield part, at, np.asarray(indices)[at] - (ends[part] - lengths[part])


def _feature_feed(
    sources: Sequence[CachedPictures],
    preparation: PicturePreparation,
    encoder: str,
    state: State,
    augment: bool,
    device: torch.device,
) -> ImageFeed:
    def feed(source: CachedPictures) -> ImageFeed:
        features = frozen_features(source, preparation, encoder, state, augment, device)
        return ImageFeed(lambda i, t: torch.from_numpy(features.rows(i, t)), features.fill)

    return _joined_feed([feed(source) for source in sources], sources)


def _kept_picture_feed(
    source: CachedPictures, preparation: PicturePreparation, device: torch.device
) -> ImageFeed:
    kept = kept_pictures(source)
    return ImageFeed(lambda i, t: _as_asked(kept.prepared(i), t, preparation, device), kept.fill)


def _picture_feed(pictures: Pictures, preparation: PicturePreparation, device: torch.device) -> ImageFeed:
    return ImageFeed(
        lambda i, t: _as_asked(pictures.prepared(i), t, preparation, device), lambda indices, progress: None
    )


def _joined_feed(feeds: Sequence[ImageFeed], sources: Sequence[CachedPictures]) -> ImageFeed:
    """One feed of all parts, whose indices count through them."""
    if len(feeds) == 1:
        return feeds[0]
    lengths = [len(source.pictures) for source in sources]

    def tensors(indices: IntArray, turns: IntArray) -> Tensor:
        parts = [(at, feeds[n].tensors(inside, turns[at])) for n, at, inside in by_part(lengths, indices)]
        if not parts:
            return feeds[0].tensors(indices, turns)
        order = np.argsort(np.concatenate([at for at, _ in parts]))
        return torch.cat([tensor for _, tensor in parts])[torch.from_numpy(order)]

    def ready(indices: IntArray, progress: Progress) -> None:
        for number, _, inside in by_part(lengths, indices):
            feeds[number].ready(inside, progress)

    return ImageFeed(tensors, ready)


def _as_asked(
    pixels: Pixels, turns: IntArray, preparation: PicturePreparation, device: torch.device
) -> Tensor:
    tensor = torch.from_numpy(pixels)
    if device.type != "cpu":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return as_tensor(turned(tensor, turns), preparation)
