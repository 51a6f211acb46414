"""A frozen encoder under a head that learns: as the first version trained it, and as roadrisk does.

The first version looks at every picture again in every epoch. Ours runs in a process of its own, which imports
this file, so that its start and its imports count.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

BATCH = 32
EPOCHS = 30
SIDE_PX = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SEED = 0


class LabelledTiles(NamedTuple):
    """What the first version reads: a picture file a tile, its facts and its label.

    Parameters
    ----------
    numbers : (N, F) float32, prepared.
    label : (N,) float32, 0 or 1.
    """

    paths: list[Path]
    numbers: Tensor
    label: Tensor


class FirstVersion(nn.Module):
    """Picture and facts side by side: torchvision's ResNet34, frozen, under a head; and three linear layers."""

    def __init__(self, weights: Path, facts: int) -> None:
        super().__init__()
        from safetensors.torch import load_file
        from torchvision.models import resnet34

        self.encoder = resnet34(weights=None)
        self.encoder.fc = nn.Identity()
        self.encoder.load_state_dict(load_file(weights))
        self.encoder.requires_grad_(False).eval()
        self.head = nn.Sequential(nn.Linear(512, 64), nn.Dropout(0.5), nn.ReLU())
        self.facts = nn.Sequential(
            nn.Sequential(nn.Linear(facts, 64), nn.ReLU(), nn.Dropout(0.5)),
            nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5)),
            nn.Linear(128, 32),
        )
        self.last = nn.Linear(96, 1)

    def forward(self, pictures: Tensor, numbers: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.encoder(pictures)  # (B, 512)
        joined = torch.cat([self.head(features), self.facts(numbers)], 1)  # (B, 96)
        logit: Tensor = self.last(joined)[:, 0]  # (B,)
        return logit


def picture(path: Path) -> Tensor:
    """(3, 224, 224), as the weights expect it."""
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    small = cv2.resize(pixels, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    return torch.from_numpy((small / 255 - MEAN) / STD).float().permute(2, 0, 1)


def learned_from(tiles: LabelledTiles, network: FirstVersion, optimiser: Any, rows: Any) -> None:
    """The first version's loop over some tiles: they are read, looked at and learned from, batch by batch."""
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        pictures = torch.stack([picture(tiles.paths[row]) for row in batch])  # (B, 3, 224, 224)
        optimiser.zero_grad()
        logit = network(pictures, tiles.numbers[batch])  # (B,)
        nn.functional.binary_cross_entropy_with_logits(logit, tiles.label[batch]).backward()
        optimiser.step()


def our_fit(dataset: Path, weights: Path) -> int:
    """30 epochs on all tiles of a dataset, the features first; how many tiles there were."""
    from roadrisk.comparing import contestants
    from roadrisk.gathering import gathered
    from roadrisk.inputs import tiles_at
    from roadrisk.learning.architecture import network_of
    from roadrisk.learning.facts.preparation import learned_preparation
    from roadrisk.learning.loop.devices import fabric_of
    from roadrisk.learning.loop.fit import fit
    from roadrisk.learning.pictures.weights import encoder_weights
    from roadrisk.learning.tasks import learned_target
    from roadrisk.learning.validation import Training, lesson_of
    from roadrisk.training import feeds_of

    settings = our_settings(weights)
    learned = gathered([tiles_at(dataset, settings.views)], settings)
    fabric, encoder = fabric_of(settings), encoder_weights(settings)
    rivals = contestants(settings, learned)
    feeds = feeds_of(learned, rivals, encoder, Training(settings, fabric, learned.block, learned.buffer))[
        True
    ]
    for view, feed in enumerate(feeds):
        seen = learned.examples.picture[:, view]
        feed.ready(seen[seen >= 0], lambda *said: None)
    preparation, shape = learned_preparation(learned.examples, settings), rivals[0].architecture
    lesson = lesson_of(learned.examples, preparation, shape, feeds)
    target = learned_target(shape.task, lesson.label, lesson.exposure)
    network = network_of(shape, preparation.shape, SEED)
    fit(network, lesson, None, shape.task, target, settings, SEED, fabric)
    return len(lesson)


def our_evaluation(dataset: Path, weights: Path, out: Path) -> int:
    """30 epochs in each of 5 spatial and 5 random folds, every tile judged out of fold; how many there were."""
    from roadrisk.training import train

    return int(train(dataset, out, our_settings(weights)).model.provenance["tiles"])


def our_settings(weights: Path) -> Any:
    """As many epochs as the rival has, none left out."""
    from roadrisk.learning.settings import TrainSettings, resolved

    asked = TrainSettings(weights=str(weights), epochs=EPOCHS, patience=EPOCHS, quick=True, device="cpu")
    return resolved(asked)


def in_a_fresh_process(work: Callable[..., int], *arguments: Any) -> int:
    """What `work` returns."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()
