"""What a network has to beat: everything is road, and a rule on brightness and colour that is learned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from roadrisk.errors import SourceError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.mosaic.picture import Mask, Pixels
from roadrisk.roads.scenes import RoadExamples

STEP = 4  # grey levels; limits are multiples of it
BINS = 256 // STEP
PIXELS = 20_000_000  # about so many of all training units are looked at
ROWS_AT_ONCE = 1024


def all_road(valid: Mask) -> Mask:
    """Everything that is known is road.

    Parameters
    ----------
    valid : (H, W).
    """
    return valid.copy()


@dataclass(frozen=True)
class ColourRule:
    """A pixel is road where it is neither darker, nor brighter, nor more colourful than this.

    Brightness and colour are value and saturation of HSV: of red, green and blue the highest, and by what
    share of it the lowest is less. A picture of any other number of bands is taken as grey, as its mean.

    Parameters
    ----------
    darkest, brightest : [first, end) of brightness, 0 to 256.
    colourful : saturation from which on it is no road, 0 to 256; 256 of grey pictures.
    bands : of the pictures that it was learned from.
    """

    darkest: int
    brightest: int
    colourful: int
    bands: int

    def drawn(self, pixels: Pixels, valid: Mask) -> Mask:
        """(H, W) where road is, nowhere but on valid pixels.

        Parameters
        ----------
        pixels : (bands, H, W).
        valid : (H, W).
        """
        brightness, saturation = _appearance(pixels)
        bright = (brightness >= self.darkest) & (brightness < self.brightest)
        found: Mask = bright & (saturation < self.colourful) & valid
        return found

    def __str__(self) -> str:
        """One sentence for people.

        >>> print(ColourRule(96, 176, 40, 3))
        Road is where brightness is 96 to 175 and saturation below 40, each of 0 to 255.
        """
        grey = f"Road is where brightness is {self.darkest} to {self.brightest - 1}"
        if self.bands != 3:
            return f"{grey}, of 0 to 255."
        return f"{grey} and saturation below {self.colourful}, each of 0 to 255."


def colour_rule(examples: RoadExamples, rows: IntArray) -> ColourRule:
    """The rule with the highest IoU on these units, of all whose limits are multiples of 4.

    Parameters
    ----------
    rows : units to learn from, in any order. Of more than about 20 million pixels every second one along
        both sides is looked at, or every third, and so on.

    Raises
    ------
    SourceError : there is no road in them.
    """
    counts = np.zeros((2, BINS, BINS), np.int64)
    for road, brightness, saturation in _known_pixels(examples, np.sort(rows)):
        joint = (road.astype(np.int64) * BINS + brightness // STEP) * BINS + saturation // STEP
        counts += np.bincount(joint, minlength=counts.size).reshape(counts.shape)
    if not counts[1].any():
        raise SourceError(f"{examples.name} has no road in the units to learn from; give masks with roads")
    darkest, brightest, colourful = _best_limits(counts)
    return ColourRule(darkest * STEP, brightest * STEP, colourful * STEP, examples.bands)


def _known_pixels(examples: RoadExamples, rows: IntArray) -> Iterator[tuple[Mask, Pixels, Pixels]]:
    """(N,) road, brightness and saturation of the known pixels of each unit."""
    windows = [examples.window(int(row)) for row in rows]
    every = max(1, math.ceil(math.sqrt(sum(one.height * one.width for one in windows) / PIXELS)))
    for row, window in zip(rows, windows, strict=True):
        scene = examples.scenes[examples.scene[row]]
        picture, truth = scene.plane.read(window), scene.truths.read(window)
        sampled = (slice(None, None, every), slice(None, None, every))
        counted = (picture.valid & truth.known)[sampled]
        brightness, saturation = _appearance(picture.pixels[:, ::every, ::every])
        yield truth.road[sampled][counted], brightness[counted], saturation[counted]


def _appearance(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """(H, W) brightness and saturation; grey pictures have none."""
    if len(pixels) != 3:
        grey = np.rint(pixels.mean(axis=0)).astype(np.uint8)
        return grey, np.zeros_like(grey)
    hsv = cv2.cvtColor(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), cv2.COLOR_RGB2HSV)
    return np.asarray(hsv[..., 2], np.uint8), np.asarray(hsv[..., 1], np.uint8)


def _best_limits(counts: IntArray) -> tuple[int, int, int]:
    """(darkest, brightest, colourful) in steps, as [first, end) and end, by the IoU of all between.

    Parameters
    ----------
    counts : (2, BINS, BINS) pixels by truth, brightness and saturation.

    Returns
    -------
    Of equally good ones the darkest, of these the narrowest.
    """
    below = np.zeros((2, BINS + 1, BINS + 1), np.int64)
    below[:, 1:, 1:] = counts.cumsum(axis=1).cumsum(axis=2)
    # (2, darkest, brightest, colourful)
    inside = below[:, None, :, 1:] - below[:, :, None, 1:]
    inside[:, *np.tril_indices(BINS + 1)] = 0  # ends that are not above the first
    iou: FloatArray = inside[1] / (counts[1].sum() + inside[0])
    darkest, brightest, colourful = np.unravel_index(int(np.argmax(iou)), iou.shape)
    return int(darkest), int(brightest), int(colourful) + 1
