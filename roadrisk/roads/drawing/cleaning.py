"""Cleaning a mask of roads: gaps are closed and specks removed, the same however the mask is cut."""

from __future__ import annotations

import cv2
import numpy as np

from roadrisk.mosaic.picture import Mask


def cleaned(road: Mask, valid: Mask, speck_px: int, gap_px: int) -> Mask:
    """The mask with gaps closed, then without specks; nothing is road where it is not known.

    Parameters
    ----------
    road, valid : (H, W).
    speck_px : pieces of fewer pixels go; pixels that touch at a corner are one piece.
    gap_px : gaps between roads that are at most as wide are closed, where the roads are 2 px wider still.

    Examples
    --------
    >>> road = np.zeros((4, 8), bool)
    >>> road[:3, :2] = road[:3, 3:5] = road[3, 7] = True
    >>> cleaned(road, np.ones_like(road), 2, 1).astype(int)
    array([[1, 1, 0, 1, 1, 0, 0, 0],
           [1, 1, 1, 1, 1, 0, 0, 0],
           [1, 1, 0, 1, 1, 0, 0, 0],
           [0, 0, 0, 0, 0, 0, 0, 0]])
    """
    return _without_specks(_closed(road & valid, gap_px) & valid, speck_px)


def reach_px(speck_px: int, gap_px: int) -> int:
    """Pixels from the edge of a window from which `cleaned` says what it would say of any larger one.

    >>> reach_px(1, 0), reach_px(30, 4)
    (0, 34)
    """
    # a piece that leads from there to the edge has as many pixels already
    return max(0, speck_px - 1) + 2 * _radius(gap_px) + (speck_px > 1)


def cleaning_told(speck_px: int, gap_px: int, metres_per_pixel: float | None) -> str:
    """What was cleaned, for people.

    >>> cleaning_told(30, 4, 0.5)
    'cleaned: gaps up to 4 px (2 m) wide are closed, pieces of fewer than 30 px (7.5 m2) are removed'
    >>> cleaning_told(30, 0, None)
    'cleaned: pieces of fewer than 30 px are removed'
    """
    side = metres_per_pixel
    gap = f" ({gap_px * side:.3g} m)" if side else ""
    area = f" ({speck_px * side**2:.3g} m2)" if side else ""
    said = []
    if gap_px > 0:
        said.append(f"gaps up to {gap_px} px{gap} wide are closed")
    if speck_px > 1:
        said.append(f"pieces of fewer than {speck_px} px{area} are removed")
    return f"cleaned: {', '.join(said) or 'nothing'}"


def _radius(gap_px: int) -> int:
    """Of the smallest disc that is wider than the gap."""
    return (gap_px + 1) // 2


def _closed(road: Mask, gap_px: int) -> Mask:
    radius = _radius(gap_px)
    if not radius:
        return road
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    # a frame as wide as the disc: beyond the window nothing is road
    framed = np.pad(road, radius).view(np.uint8)
    closed = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, disc)
    return closed[radius:-radius, radius:-radius].astype(bool)


def _without_specks(road: Mask, speck_px: int) -> Mask:
    if speck_px <= 1 or not road.any():
        return road
    _, piece, stats, _ = cv2.connectedComponentsWithStats(road.view(np.uint8), connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= speck_px
    kept[0] = False
    return np.asarray(kept[piece])
