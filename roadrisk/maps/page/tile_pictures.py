"""Pictures of the riskiest tiles in a number of bytes: quality gives way first, then size, then number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
REFERENCE_BYTES = 12  # to each picture of a row, and to the row


@dataclass(frozen=True)
class RiskiestPictures:
    """Pictures of the riskiest features of several layers, each picture once.

    Parameters
    ----------
    texts : base64 of WebP.
    held : of each layer, by row: the number of a view's text, None where it has none.
    """

    texts: list[str]
    held: list[dict[int, list[int | None]]]


def riskiest_pictures(layers: Sequence[Layer], limit_bytes: int) -> RiskiestPictures:
    """Pictures of the 500 riskiest features of each layer, all views, in at most `limit_bytes`."""
    orders = [rows_in_order(layer)[:MOST_TILES].tolist() for layer in layers]
    step = _step_that_fits(layers, orders, limit_bytes)
    numbers: dict[str, int] = {}
    held: list[dict[int, list[int | None]]] = [{} for _ in layers]
    used = 0
    for k, row in _in_turn(orders):
        made = _encoded(layers[k], row, step)
        new = {text for text in made if text is not None and text not in numbers}
        if all(text is None for text in made):
            continue
        used += sum(len(text) + ELEMENT_BYTES for text in new) + REFERENCE_BYTES * (1 + len(made))
        if used > limit_bytes:
            break
        held[k][row] = [None if text is None else numbers.setdefault(text, len(numbers)) for text in made]
    return RiskiestPictures(list(numbers), held)


def _in_turn(orders: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """The first of each layer, then the second of each."""
    for place in range(max(map(len, orders), default=0)):
        yield from ((k, order[place]) for k, order in enumerate(orders) if place < len(order))


def _step_that_fits(
    layers: Sequence[Layer], orders: Sequence[Sequence[int]], limit_bytes: int
) -> tuple[int, int]:
    # layers of one region share their pictures
    named = {_name(layers[k], row): (k, row) for k, row in _in_turn(orders)}
    rows = list(named.values())
    sample = rows[:: max(1, len(rows) // SAMPLED)]
    for step in STEPS:
        texts = (text for k, row in sample for text in _encoded(layers[k], row, step) if text is not None)
        if sum(len(text) + ELEMENT_BYTES for text in texts) * len(rows) <= 0.95 * limit_bytes * len(sample):
            return step
    return STEPS[-1]


def _name(layer: Layer, row: int) -> str:
    return str(layer.table[name_field(layer)].iat[row])


def _encoded(layer: Layer, row: int, step: tuple[int, int]) -> list[str | None]:
    """Of each view; None where it shows nothing."""
    if layer.pictures is None:
        return []
    side_px, quality = step
    seen = [layer.pictures.picture(_name(layer, row), view) for view in layer.pictures.views]
    return [None if pixels is None else webp(_shrunk(pixels, side_px), quality) for pixels in seen]


def _shrunk(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """(4, H, W) as (h, w, 4), its longer side at most `side_px`."""
    turned = np.ascontiguousarray(pixels.transpose(1, 2, 0))  # (H, W, 4)
    height, width = turned.shape[:2]
    shrink = min(1.0, side_px / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(cv2.resize(turned, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
