"""Thinning: a mask becomes lines one pixel wide, by a rule that looks at neighbours only."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import IntArray
from roadrisk.mosaic.picture import Mask

_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # clockwise from above


def thinned(road: Mask, steps: int) -> Mask:
    """The lines in the middle of what is road: as `skimage.morphology.thin(road, steps)`.

    Guo and Hall (1989), algorithm A1. In a step every pixel is looked at twice, each time with its eight
    neighbours, so the result is that of any larger window where it lies 2 x `steps` pixels or more from the
    edge. Zhang and Suen's rule (1984) is quicker, but eats roads of some widths that run at 45 degrees,
    from their ends, however long they are. Here only pixels at an edge are looked at.

    Parameters
    ----------
    road : (H, W).
    steps : roads wider than about twice as many pixels are not thinned to the end.

    Examples
    --------
    >>> bar = np.zeros((5, 9), bool)
    >>> bar[1:4, 1:8] = True
    >>> np.argwhere(thinned(bar, 4)).tolist()
    [[2, 2], [2, 3], [2, 4], [2, 5], [2, 6]]
    """
    framed = np.pad(road, 1).view(np.uint8)
    inner = cv2.erode(framed, np.ones((3, 3), np.uint8))
    pixels, known = framed.ravel(), (framed > inner).ravel()
    edge = np.flatnonzero(known)
    around = np.array([dy * framed.shape[1] + dx for dy, dx in _AROUND])
    for _ in range(steps):
        removed = 0
        for goes in _rules():
            gone = goes[_neighbours(pixels, edge, around)]
            bare = edge[gone]
            pixels[bare] = 0
            edge = np.concatenate([edge[~gone], *_laid_bare(pixels, known, bare, around)])
            removed += len(bare)
        if not removed:
            break
    return framed[1:-1, 1:-1].astype(bool)


def _neighbours(pixels: NDArray[np.uint8], at: IntArray, around: IntArray) -> NDArray[np.uint8]:
    """(n,) a bit for each neighbour, the lowest for the one above."""
    code = np.zeros(len(at), np.uint8)
    for bit, step in enumerate(around):
        code |= pixels[at + step] << np.uint8(bit)
    return code


def _laid_bare(pixels: NDArray[np.uint8], known: Mask, bare: IntArray, around: IntArray) -> list[IntArray]:
    """Road beside pixels that are gone, each once, which from now on is known to be at an edge."""
    found = []
    for step in around:
        beside = bare + step
        beside = beside[(pixels[beside] > 0) & ~known[beside]]
        known[beside] = True
        found.append(beside)
    return found


@cache
def _rules() -> tuple[Mask, Mask]:
    """(256,) by neighbours, for either half of a step, whether a pixel goes."""
    code = np.arange(256)
    p2, p3, p4, p5, p6, p7, p8, p9 = ((code >> bit & 1).astype(bool) for bit in range(8))
    crossings = sum(
        (~a & (b | c)).astype(int) for a, b, c in ((p2, p3, p4), (p4, p5, p6), (p6, p7, p8), (p8, p9, p2))
    )
    pairs = [
        sum((a | b).astype(int) for a, b in some)
        for some in (((p9, p2), (p3, p4), (p5, p6), (p7, p8)), ((p2, p3), (p4, p5), (p6, p7), (p8, p9)))
    ]
    fewest = np.minimum(*pairs)
    simple = (crossings == 1) & (fewest >= 2) & (fewest <= 3)
    return simple & ~((p2 | p3 | ~p5) & p4), simple & ~((p6 | p7 | ~p9) & p8)
