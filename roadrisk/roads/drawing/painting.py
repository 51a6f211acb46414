"""Painting: what a network says of pixels becomes the parts of a view."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roadrisk.grid import Grid, Part
from roadrisk.mosaic.parts import Known
from roadrisk.mosaic.picture import Mask, Painted, Picture, Pixels, Spent, undated
from roadrisk.mosaic.reader import MosaicReader
from roadrisk.roads.drawing.cleaning import cleaned, reach_px
from roadrisk.roads.drawing.levels import LevelsReader
from roadrisk.roads.scenes import Window

ROAD = 255


@dataclass(frozen=True)
class Below:
    """The view that was drawn from: its tiles have the same size, dates and failures.

    Parameters
    ----------
    plan_hash : of its parts.
    """

    dataset_dir: Path
    view: str
    grid: Grid
    tile_size: int
    plan_hash: str

    def known(self, part: Part) -> Known:
        """What is known of the tiles of a part besides their picture.

        Raises
        ------
        DatasetError : the part is missing or damaged.
        """
        with closing(
            MosaicReader(self.dataset_dir, self.view, self.grid, self.tile_size, self.plan_hash)
        ) as reader:
            nothing = Known(undated(part), undated(part), np.zeros((part.rows, part.cols), bool), ())
            return reader.known(part) or nothing

    def window(self, part: Part, halo_px: int = 0) -> Window:
        """The pixels of a part and as many around."""
        size = self.tile_size
        y, x = part.row * size - halo_px, part.col * size - halo_px
        return Window(y, x, part.rows * size + 2 * halo_px, part.cols * size + 2 * halo_px)


@dataclass(frozen=True)
class RoadPainter:
    """Paints roads white and all else black.

    Parameters
    ----------
    level : a pixel is road from this level on.
    speck_px : pieces of road smaller than this [px, area] go; 0 keeps all.
    gap_px : gaps up to this long [px] are closed; 0 keeps all.
    """

    levels: LevelsReader
    below: Below
    level: int
    speck_px: int = 0
    gap_px: int = 0

    def painted(self, part: Part) -> Painted:
        """The picture of a part: red, green and blue are 255 on a road and 0 elsewhere.

        Raises
        ------
        DatasetError : the levels, or a part of the view below, are missing or damaged.
        """
        began = time.perf_counter()
        halo = reach_px(self.speck_px, self.gap_px)
        drawn = self.levels.read(self.below.window(part, halo))
        road = cleaned((drawn.level >= self.level) & drawn.valid, drawn.valid, self.speck_px, self.gap_px)
        inside = np.s_[halo : road.shape[0] - halo, halo : road.shape[1] - halo]
        return _painted(road[inside] * np.uint8(ROAD), drawn.valid[inside], self.below.known(part), began)


@dataclass(frozen=True)
class LevelPainter:
    """Paints how likely a pixel is road: red, green and blue are its level."""

    levels: LevelsReader
    below: Below

    def painted(self, part: Part) -> Painted:
        """The picture of a part.

        Raises
        ------
        DatasetError : the levels, or a part of the view below, are missing or damaged.
        """
        began = time.perf_counter()
        drawn = self.levels.read(self.below.window(part))
        return _painted(drawn.level, drawn.valid, self.below.known(part), began)


def _painted(values: Pixels, valid: Mask, known: Known, began: float) -> Painted:
    """The same values in all three colours."""
    pixels = np.broadcast_to(values * valid, (3, *values.shape))
    return Painted(Picture(pixels, valid), *known, Spent(time.perf_counter() - began, 0.0, 0.0))
