"""How pixels become what a network is given, the same where it learns and where it draws."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.mosaic.picture import Picture

_VALUES = np.arange(256, dtype=np.float32)


@dataclass(frozen=True)
class Normal:
    """What makes pixels 0 on average and where nothing is known, mostly within 2.

    Parameters
    ----------
    mean, std : (bands,) of 0 to 255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def of(self, picture: Picture, gain: float = 1.0, offset: float = 0.0) -> NDArray[np.float32]:
        """(bands, H, W) of a picture.

        Parameters
        ----------
        gain, offset : contrast and brightness besides.

        Examples
        --------
        >>> picture = Picture(np.full((1, 1, 2), 140, np.uint8), np.array([[True, False]]))
        >>> Normal((100.0,), (20.0,)).of(picture).tolist()
        [[[2.0, 0.0]]]
        """
        made = np.empty(picture.pixels.shape, np.float32)
        for band, mean, std in zip(range(len(made)), self.mean, self.std, strict=True):
            scale = np.float32(gain) / np.float32(std)
            values = _VALUES * scale + (np.float32(offset) - np.float32(mean) * scale)  # (256,)
            cv2.LUT(np.ascontiguousarray(picture.pixels[band]), values, dst=made[band])
        if not picture.valid.all():
            made *= picture.valid
        return made
