"""What a network learns from at a time: crops of pictures, turned, flipped, brighter or darker."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadrisk.errors import ModelError
from roadrisk.grid import IntArray
from roadrisk.learning.pictures.prefetch import prefetched
from roadrisk.mosaic.picture import Mask
from roadrisk.roads.normal import Normal
from roadrisk.roads.scenes import RoadExamples, Window
from roadrisk.roads.settings import RoadSettings

TURNS = 8
CONTRAST, BRIGHTNESS = 0.2, 0.3  # at most, the latter in deviations of the pixels learned from
SAMPLED_UNITS = 1000


def normal_of(examples: RoadExamples, rows: IntArray) -> Normal:
    """Mean and deviation of the known pixels of these units, or of a thousand spread evenly over their names.

    Raises
    ------
    ModelError : no pixel is known.
    """
    by_key = rows[np.argsort(examples.key[rows], kind="stable")]
    if len(by_key) > SAMPLED_UNITS:
        by_key = by_key[np.linspace(0, len(by_key) - 1, SAMPLED_UNITS).round().astype(np.int64)]
    counts = np.zeros((examples.bands, 256), np.int64)
    for row in by_key.tolist():
        scene = examples.scenes[examples.scene[row]]
        window = examples.window(row)
        picture = scene.plane.read(window)
        known = picture.valid & scene.truths.read(window).known
        counts += [np.bincount(band[known], minlength=256) for band in picture.pixels]
    if not counts.any():
        raise ModelError(f"{examples.name}: no pixel that is learned from is known; check pictures and masks")
    value, share = np.arange(256), counts / counts.sum(axis=1, keepdims=True)
    mean = share @ value
    std = np.sqrt((share * (value - mean[:, None]) ** 2).sum(axis=1))
    # a band of one value tells nothing, whatever it is divided by
    return Normal(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))


class Crop(NamedTuple):
    """A square of a scene, and how it is changed.

    Parameters
    ----------
    turn : of the eight flips and quarter turns.
    gain, offset : contrast and brightness.
    """

    scene: int
    y: int
    x: int
    turn: int
    gain: float
    offset: float


def drawn_crops(
    examples: RoadExamples, rows: IntArray, settings: RoadSettings, seed: int, epoch: int
) -> list[Crop]:
    """The crops of an epoch: as many as cover what is known once, and whole batches of them.

    Each has its middle in a unit, which is drawn by what is known of it, and lies within its plane where the
    plane is large enough. They follow from seed and epoch and from nothing before.

    Parameters
    ----------
    rows : units to learn from, in any order.
    """
    chance = np.random.default_rng([seed, epoch])
    rows = rows[np.argsort(examples.key[rows], kind="stable")]
    side = settings.crop_px * settings.shrink
    windows = [examples.window(row) for row in rows.tolist()]
    known_px = examples.known_share[rows] * [window.height * window.width for window in windows]
    batches = -(-known_px.sum() // (side * side * settings.batch_size))
    count = max(1, int(batches)) * settings.batch_size
    # one in each of so many equal steps of what is known, so that no part of it is left out for long
    steps = (np.arange(count) + chance.random(count)) / count
    units = np.searchsorted(known_px.cumsum() / known_px.sum(), steps).clip(max=len(rows) - 1)
    places, turns = chance.random((count, 2)), chance.integers(TURNS, size=count)
    gains = 1 + CONTRAST * chance.uniform(-1, 1, count)
    offsets = BRIGHTNESS * chance.uniform(-1, 1, count)
    crops = []
    for n in chance.permutation(count).tolist():
        window, scene = windows[units[n]], int(examples.scene[rows[units[n]]])
        plane = examples.scenes[scene].plane
        y = _start(window.y, window.height, plane.height, side, places[n, 0])
        x = _start(window.x, window.width, plane.width, side, places[n, 1])
        crops.append(Crop(scene, y, x, int(turns[n]), float(gains[n]), float(offsets[n])))
    return crops


def _start(unit: int, unit_px: int, plane_px: int, side: int, chance: float) -> int:
    """Where a crop begins whose middle is anywhere in a unit, in [unit, unit + unit_px).

    >>> [_start(256, 256, 1024, 384, chance) for chance in (0.0, 0.999)], _start(0, 400, 400, 384, 0.999)
    ([64, 319], 16)
    """
    inside = sorted((0, plane_px - side))
    first, last = (min(max(at - side // 2, inside[0]), inside[1]) for at in (unit, unit + unit_px - 1))
    return first + int(chance * (last - first + 1))


class Batch(NamedTuple):
    """Crops as the network takes them.

    Parameters
    ----------
    pictures : (B, bands, side, side).
    road, known : (B, 1, side, side), 0 or 1; road is 0 where it is not known.
    """

    pictures: Tensor
    road: Tensor
    known: Tensor


@dataclass(frozen=True, eq=False)
class Cutting:
    """Cuts crops out of examples; nothing is known outside the units that are learned from.

    Parameters
    ----------
    learned : (scene, row, col) of these units.
    side_px : of a crop.
    """

    examples: RoadExamples
    learned: frozenset[tuple[int, int, int]]
    normal: Normal
    side_px: int

    def batch(self, crops: Sequence[Crop]) -> Batch:
        """These crops, read and changed."""
        side = self.side_px
        pictures = np.empty((len(crops), self.examples.bands, side, side), np.float32)
        road, known = (np.empty((len(crops), 1, side, side), np.float32) for _ in range(2))
        for n, crop in enumerate(crops):
            scene, window = self.examples.scenes[crop.scene], Window(crop.y, crop.x, side, side)
            picture, truth = scene.plane.read(window), scene.truths.read(window)
            seen = truth.known & picture.valid & self._learned(crop.scene, window)
            pictures[n] = turned(self.normal.of(picture, crop.gain, crop.offset), crop.turn)
            known[n, 0] = turned(seen, crop.turn)
            road[n, 0] = turned(truth.road & seen, crop.turn)
        return Batch(*(torch.from_numpy(of) for of in (pictures, road, known)))

    def _learned(self, scene: int, window: Window) -> Mask:
        """(H, W) whether a pixel is of a unit that is learned from."""
        height, width = self.examples.scenes[scene].unit_px
        rows = np.arange(window.y, window.y + window.height) // height
        cols = np.arange(window.x, window.x + window.width) // width
        units = [
            [(scene, row, col) in self.learned for col in range(cols[0], cols[-1] + 1)]
            for row in range(rows[0], rows[-1] + 1)
        ]
        return np.array(units, bool)[np.ix_(rows - rows[0], cols - cols[0])]


def cutting_of(examples: RoadExamples, rows: IntArray, normal: Normal, settings: RoadSettings) -> Cutting:
    """What cuts the crops of these units."""
    units = zip(*(of[rows].tolist() for of in (examples.scene, examples.row, examples.col)), strict=True)
    return Cutting(examples, frozenset(units), normal, settings.crop_px * settings.shrink)


def batches(cutting: Cutting, crops: Sequence[Crop], batch_size: int) -> Generator[Batch, None, None]:
    """Batch after batch, read while the one before is learned from; by one thread, as planes ask for."""
    groups = (crops[first : first + batch_size] for first in range(0, len(crops), batch_size))
    return prefetched(cutting.batch, groups)


def turned(array: NDArray[np.generic], turn: int) -> NDArray[np.generic]:
    """(..., H, W) in one of eight ways: quarter turns, from the fifth on of the mirror image.

    >>> [turned(np.array([[1, 2], [3, 4]]), turn).tolist() for turn in (1, 4)]
    [[[2, 4], [1, 3]], [[2, 1], [4, 3]]]
    """
    mirrored = array[..., ::-1] if turn >= TURNS // 2 else array
    return np.rot90(mirrored, turn % (TURNS // 2), (-2, -1))
