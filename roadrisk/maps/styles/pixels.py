"""The classes of a legend as the numbers of a raster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roadrisk.maps.bands import BANDS, RISK_LEGEND
from roadrisk.maps.layer import Layer
from roadrisk.maps.legend import ABSENT_COLOUR, Legend, Shade
from roadrisk.maps.styles.drawing import rgb

UNKNOWN = 0


@dataclass(frozen=True)
class PixelRange:
    """The whole numbers of a raster, `lowest` to `highest`, that belong to a class."""

    shade: Shade
    lowest: int
    highest: int


def in_percent(legend: Legend) -> bool:
    """Whether the classes are the bands of risk, whose edges are whole per cents."""
    return legend.field == RISK_LEGEND.field and legend.values == RISK_LEGEND.values


def pixel_ranges(legend: Legend) -> list[PixelRange]:
    """The numbers of each class, from the class that matters most, which has the highest.

    Bands of risk share 1 to 100, the percentile rounded up; other classes have a number each, from 1.

    >>> [(r.shade.value, r.lowest, r.highest) for r in pixel_ranges(RISK_LEGEND)][:2]
    [('top 5 %', 96, 100), ('next 10 %', 86, 95)]
    """
    if in_percent(legend):
        ends = [100, *(100 - band.upto_percent for band in BANDS)]
    else:
        ends = list(range(len(legend.shades), -1, -1))
    return [
        PixelRange(shade, lowest + 1, highest)
        for shade, highest, lowest in zip(legend.shades, ends[:-1], ends[1:], strict=True)
    ]


def pixel_values(layer: Layer) -> NDArray[np.uint8]:
    """(N,) the number of each feature, 0 where it has no class."""
    if in_percent(layer.legend):
        # a share of n tiles is 1 / n or more away from a whole per cent, or on it to the last bit
        percent = np.ceil(layer.table["percentile"].to_numpy(dtype=np.float64, na_value=np.nan))
        return np.where(np.isnan(percent), UNKNOWN, percent).astype(np.uint8)
    index = layer.classes()
    return np.where(index < 0, UNKNOWN, len(layer.legend.shades) - index).astype(np.uint8)


def colour_table(legend: Legend) -> NDArray[np.uint8]:
    """(256, 4) red, green, blue and opacity of each number; clear where no class has it."""
    table = np.zeros((256, 4), dtype=np.uint8)
    table[UNKNOWN, :3] = rgb(ABSENT_COLOUR)
    for numbers in pixel_ranges(legend):
        table[numbers.lowest : numbers.highest + 1] = (*rgb(numbers.shade.colour), 255)
    return table
