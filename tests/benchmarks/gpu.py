"""Pictures a second through a frozen ResNet34 on a GPU, from a dataset and from memory: python tests/benchmarks/gpu.py

End to end is what `train` and `score` do for frozen features: read, decode, resize, move to the GPU, normalise, look,
bring back, write. The bare rate is that of the same network on batches of the same size that lie normalised on the
GPU. In 32 bit, in bfloat16, and in bfloat16 compiled by torch; the first batches, which compile, are not counted.
Without a GPU it says so and stops.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from roadrisk.inputs import tiles_at
from roadrisk.learning.loop.fit import repeatable
from roadrisk.learning.pictures.feeds import frozen_features
from roadrisk.learning.pictures.kept import ROWS_AT_ONCE
from roadrisk.learning.pictures.sources import CachedPictures, picture_preparation
from roadrisk.nets.encoders import encoder_body
from roadrisk.nets.inference import evaluation_form
from roadrisk.region import read_region
from roadrisk.sources.demo import made_up_metro
from roadrisk.tiling import tile

ENCODER, TILE_PX = "resnet34", 256
ROUNDS = 3


class Rates(NamedTuple):
    """Pictures a second."""

    end_to_end: float
    bare: float


class Narrow(nn.Module):
    """A network in bfloat16 between pictures and features in 32 bit."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.network(pictures.to(torch.bfloat16)).float()  # (B, features)
        return features


def forms(body: nn.Module, device: torch.device) -> Iterator[tuple[str, nn.Module]]:
    """The networks that are compared, by name."""
    yield "fp32", evaluation_form(body.to(device))
    narrow = Narrow(evaluation_form(body.to(device, torch.bfloat16)))
    yield "bf16", narrow
    yield "bf16 compiled", torch.compile(narrow)


def rates(
    network: nn.Module, pictures: CachedPictures, state: dict[str, Tensor], device: torch.device
) -> Rates:
    """Of one network, the best of some rounds; in each both are timed, one after the other."""
    sight, at_once = picture_preparation(ENCODER, TILE_PX), ROWS_AT_ONCE * (4 if device.type == "cuda" else 1)
    shape = at_once, 3, sight.size_px, sight.size_px
    batch = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
    rows = np.arange(len(pictures.pictures))
    batches = -(-len(rows) // at_once)

    def bare() -> None:
        with torch.inference_mode(), repeatable():
            for _ in range(batches):
                network(batch)

    def from_the_dataset(cache: Path) -> None:
        source = pictures._replace(cache=cache)
        features = frozen_features(source, sight, ENCODER, state, augment=False, device=device)
        replace(features, network=lambda: network).fill(rows)

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS + 1):  # the first compiles, and finds the files
            whole = seconds_of(lambda n=number: from_the_dataset(Path(folder) / str(n)), device)
            found.append(Rates(len(rows) / whole, batches * at_once / seconds_of(bare, device)))
    return max(found[1:])


def seconds_of(work: Callable[[], None], device: torch.device) -> float:
    """Until the GPU is done."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help="cpu runs the same without a GPU"
    )
    words.add_argument(
        "--side", default=96, type=int, help="tiles along a side of the made-up metro, 8 to 192"
    )
    asked = words.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no GPU here: nothing was measured")
        sys.exit(0)
    device = torch.device(asked.device)
    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    torch.manual_seed(0)
    body = encoder_body(ENCODER).eval()
    state = body.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        metro = made_up_metro(Path(folder) / "metro", 0, asked.side, asked.side)
        tile(replace(read_region(metro.region), tile_size=TILE_PX), Path(folder) / "dataset")
        view = tiles_at(Path(folder) / "dataset", ("aerial",)).views[0]
        (pictures,) = view.pictures_of(picture_preparation(ENCODER, TILE_PX).size_px)
        print(
            f"{ENCODER}, {len(pictures.pictures):,} tiles of {TILE_PX} px, torch {torch.__version__}, {name}"
        )
        print(f"{'':14} {'end to end':>12} {'bare':>12} {'ratio':>7}")
        for form, network in forms(body, device):
            end_to_end, bare = rates(network, pictures, state, device)
            print(f"{form:14} {end_to_end:10,.0f}/s {bare:10,.0f}/s {end_to_end / bare:7.3f}")


if __name__ == "__main__":
    main()
