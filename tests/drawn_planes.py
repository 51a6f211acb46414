"""Planes in memory, and networks to draw them with: one that sees little around, one of the real kind."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sheets import scene
from torch import Tensor, nn

from roadrisk.mosaic.picture import Picture
from roadrisk.nets.segmentation import RoadNN
from roadrisk.roads.scenes import Window, within

MEAN, STD = (100.0, 110.0, 90.0), (40.0, 50.0, 30.0)


@dataclass
class ArrayPlane:
    """A picture in memory, that tells what was read of it."""

    picture: Picture
    reads: list[Window] = field(default_factory=list)
    bands: int = 3

    @property
    def height(self) -> int:
        return self.picture.valid.shape[0]

    @property
    def width(self) -> int:
        return self.picture.valid.shape[1]

    def read(self, window: Window) -> Picture:
        self.reads.append(window)
        whole = Window(0, 0, self.height, self.width)
        there, here = within(whole, window), within(window, whole)
        pixels = np.zeros((self.bands, window.height, window.width), np.uint8)
        valid = np.zeros((window.height, window.width), bool)
        pixels[:, *there], valid[there] = self.picture.pixels[:, *here], self.picture.valid[here]
        return Picture(pixels, valid)

    def close(self) -> None:
        """Nothing is open."""


def plane_of(height: int, width: int, hole: bool = True, seed: int = 0) -> ArrayPlane:
    valid = np.ones((height, width), bool)
    if hole:
        valid = np.random.default_rng(seed).random((height, width)) > 0.001
        valid[height // 3 : height // 2, width // 5 : width // 3] = False
    return ArrayPlane(Picture(scene(height, width, seed) * valid, valid))


class Near(nn.Module):
    """A network that sees 4 pixels around, and counts what it is shown."""

    shown: ClassVar[list[tuple[int, ...]]] = []
    wait_s: ClassVar[float] = 0.0

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 6, 5, padding=2), nn.Conv2d(6, 1, 5, padding=2)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=random) * 0.3

    def forward(self, pictures: Tensor) -> Tensor:
        time.sleep(Near.wait_s)
        Near.shown.append(tuple(pictures.shape))
        return self.last(self.first(pictures).relu())


def network_of(body: nn.Module, shrink: int) -> RoadNN:
    network = RoadNN.__new__(RoadNN)
    nn.Module.__init__(network)
    network.shrink, network.body = shrink, body
    return network.eval()


def model_of(network: RoadNN) -> Any:
    """As much of a road model as drawing looks at."""
    shape = SimpleNamespace(shrink=network.shrink, bands=3)
    return SimpleNamespace(architecture=shape, mean=MEAN, std=STD, network=lambda: network)


def near_model(shrink: int = 1) -> Any:
    return model_of(network_of(Near(), shrink))


def one_window(network: RoadNN, plane: ArrayPlane, unit_px: int) -> NDArray[np.float32]:
    """(height, width) probabilities from the whole plane at once, as the definition has it."""
    height, width = (-(-side // unit_px) * unit_px for side in (plane.height, plane.width))
    picture = plane.read(Window(0, 0, height, width))
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (MEAN, STD))
    seen = (picture.pixels - mean) / std * picture.valid
    with torch.inference_mode():
        said = network(torch.from_numpy(seen.astype(np.float32))[None]).sigmoid()[0, 0].numpy()
    return (said * picture.valid)[: plane.height, : plane.width]
