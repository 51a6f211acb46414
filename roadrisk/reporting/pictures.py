"""Small pictures of places, as JPEG."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.inputs import Tiles

QUALITY = 80


def place_pictures(tiles: Tiles, keys: Iterable[str], size_px: int = 192) -> dict[tuple[str, str], bytes]:
    """JPEG of each view of some tiles, by (key, view); tiles without a picture in a view are left out.

    Parameters
    ----------
    tiles : a model's training tiles, whose `keys` name them.
    size_px : side of a picture.

    Raises
    ------
    SourceError : a picture cannot be read.
    """
    wanted = set(keys)
    rows = [row for row, key in enumerate(tiles.keys.tolist()) if str(key) in wanted]
    made = {}
    for view in tiles.views:
        index = np.cumsum(view.has_image) - 1  # of a tile's picture among those of the view
        parts = view.pictures_of(size_px)
        ends = np.cumsum([len(part.pictures) for part in parts])
        for row in rows:
            if not view.has_image[row]:
                continue
            part = int(np.searchsorted(ends, index[row], side="right"))
            inside = index[row] - (ends[part] - len(parts[part].pictures))
            pixels = parts[part].pictures.prepared(np.array([inside]))[0]  # (3, size, size)
            made[str(tiles.keys[row]), view.name] = _jpeg(pixels.transpose(1, 2, 0))
    return made


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) red, green, blue."""
    bgr = np.ascontiguousarray(pixels[:, :, ::-1])
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
