"""Drawn and true roads over a picture, told apart by colour and by pattern."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.mosaic.picture import Mask, Pixels

SHOWN_PX = 256  # longest side of a picture on the page
QUALITY = 80
STRIPE_PX = 6  # from one stripe to the next
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601
FADED = 0.6  # what is left of the picture's contrast below an overlay

Colour = tuple[int, int, int]
Colours = NDArray[np.uint8]


@dataclass(frozen=True)
class Mark:
    """How a kind of pixel is shown.

    Parameters
    ----------
    name : in the legend.
    colour, pattern : red, green, blue of its ground and of what is drawn over it. Of Okabe and Ito, which the
        colour-blind tell apart, from light to dark.
    """

    name: str
    told: str
    colour: Colour
    pattern: Colour


FOUND = Mark("found", "road that is there and was drawn: plain", (86, 180, 233), (86, 180, 233))
MISSED = Mark("missed", "road that is there and was not drawn: dark stripes", (240, 228, 66), (30, 30, 30))
WRONG = Mark("wrong", "drawn where no road is: white dots", (213, 94, 0), (255, 255, 255))


def overlay(picture: Pixels, road: Mask, drawn: Mask, known: Mask) -> Colours:
    """(H, W, 3) the picture in faded grey, with found, missed and wrongly drawn road; darker where not known.

    Parameters
    ----------
    picture : (3, H, W) red, green, blue.
    road, drawn, known : (H, W).
    """
    grey = np.tensordot(np.asarray(LUMA), picture.astype(np.float64), axes=1)
    faded = 255 * (1 - FADED) / 2 + FADED * grey
    ground = np.where(known, faded, faded / 3)
    shown = np.repeat(np.rint(ground)[:, :, None], 3, axis=2).astype(np.uint8)
    rows, cols = np.indices(known.shape)
    striped = (rows + cols) % STRIPE_PX < STRIPE_PX // 3
    dotted = (rows % STRIPE_PX < STRIPE_PX // 3) & (cols % STRIPE_PX < STRIPE_PX // 3)
    for mark, where, patterned in (
        (FOUND, road & drawn, np.zeros_like(striped)),
        (MISSED, road & ~drawn, striped),
        (WRONG, drawn & ~road, dotted),
    ):
        shown[where & known & ~patterned] = mark.colour
        shown[where & known & patterned] = mark.pattern
    return shown


def sample(mark: Mark, side_px: int = 24) -> str:
    """A square of a mark as a `data:` address, for a legend."""
    road = np.full((side_px, side_px), mark in (FOUND, MISSED))
    drawn = np.full((side_px, side_px), mark in (FOUND, WRONG))
    picture = np.zeros((3, side_px, side_px), np.uint8)
    return _address(".png", overlay(picture, road, drawn, np.ones_like(road)), [])


def shown_px(height: int, width: int) -> tuple[int, int]:
    """(height, width) on the page; small ones grow by a whole factor, so that patterns fit into roads.

    >>> shown_px(400, 400), shown_px(1500, 750), shown_px(96, 64)
    ((256, 256), (256, 128), (192, 128))
    """
    longest = max(height, width)
    scale = SHOWN_PX / longest if longest > SHOWN_PX else SHOWN_PX // longest
    return max(1, round(height * scale)), max(1, round(width * scale))


def picture_and_overlay(picture: Pixels, road: Mask, drawn: Mask, known: Mask) -> tuple[str, str]:
    """Both as `data:` addresses, at most 256 px along a side.

    Parameters
    ----------
    picture : (3, H, W) red, green, blue.
    road, drawn, known : (H, W); a shown pixel is road where half of it is.
    """
    small = np.stack([_resized(band) for band in picture])
    roads = (_resized(mask.astype(np.float32)) >= 0.5 for mask in (road & known, drawn & known, known))
    shown = overlay(small, *roads)
    quality = [cv2.IMWRITE_WEBP_QUALITY, QUALITY]
    plain = np.ascontiguousarray(small.transpose(1, 2, 0))
    return _address(".webp", plain, quality), _address(".webp", shown, quality)


def _resized(band: NDArray[Any]) -> NDArray[Any]:
    height, width = shown_px(*band.shape)
    how = cv2.INTER_AREA if height < band.shape[0] else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(np.ascontiguousarray(band), (width, height), interpolation=how))


def _address(suffix: str, colours: Colours, settings: list[int]) -> str:
    _, encoded = cv2.imencode(suffix, cv2.cvtColor(colours, cv2.COLOR_RGB2BGR), settings)
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(encoded.tobytes()).decode()}"
