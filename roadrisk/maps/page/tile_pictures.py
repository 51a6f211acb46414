"""Pictures of the riskiest tiles in a number of bytes: quality gives way first, then size, then number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.maps.layer import Layer
from roadrisk.maps.page.described import name_field, rows_in_order
from roadrisk.maps.page.underlay import webp

MOST_TILES = 500
SAMPLED = 24
# longer side [px] and quality of WebP, from the best
STEPS = ((256, 80), (256, 60), (256, 45), (192, 45), (128, 45))
ELEMENT_BYTES = 80  # around each picture


@dataclass(frozen=True)
class RiskiestPictures:
    """Pictures of a layer's riskiest features.

    Parameters
    ----------
    texts : base64 of WebP by row and place of the view.
    tiles : how many have one.
    """

    texts: dict[tuple[int, int], str]
    tiles: int


def riskiest_pictures(layer: Layer, limit_bytes: int) -> RiskiestPictures:
    """Pictures of the 500 riskiest features, all views, in at most `limit_bytes`."""
    rows = rows_in_order(layer)[:MOST_TILES].tolist()
    step = _step_that_fits(layer, rows, limit_bytes)
    texts: dict[tuple[int, int], str] = {}
    used = 0
    for row in rows:
        made = {(row, view): text for view, text in _encoded(layer, row, step)}
        used += sum(len(text) + ELEMENT_BYTES for text in made.values())
        if used > limit_bytes:
            break
        texts.update(made)
    return RiskiestPictures(texts, len({row for row, _ in texts}))


def _step_that_fits(layer: Layer, rows: list[int], limit_bytes: int) -> tuple[int, int]:
    sample = rows[:: max(1, len(rows) // SAMPLED)]
    for step in STEPS:
        seen = sum(len(text) + ELEMENT_BYTES for row in sample for _, text in _encoded(layer, row, step))
        if seen * len(rows) <= 0.95 * limit_bytes * len(sample):
            return step
    return STEPS[-1]


def _encoded(layer: Layer, row: int, step: tuple[int, int]) -> Iterator[tuple[int, str]]:
    if layer.pictures is None:
        return
    side_px, quality = step
    name = str(layer.table[name_field(layer)].iat[row])
    for place, view in enumerate(layer.pictures.views):
        pixels = layer.pictures.picture(name, view)
        if pixels is not None:
            yield place, webp(_shrunk(pixels, side_px), quality)


def _shrunk(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """(4, H, W) as (h, w, 4), its longer side at most `side_px`."""
    turned = np.ascontiguousarray(pixels.transpose(1, 2, 0))  # (H, W, 4)
    height, width = turned.shape[:2]
    shrink = min(1.0, side_px / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(cv2.resize(turned, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
