"""What a network and its rivals draw of units that they did not learn from, beside what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from roadrisk.mosaic.picture import Mask, Picture
from roadrisk.roads.judging.baselines import ColourRule, all_road
from roadrisk.roads.judging.connectedness import connected
from roadrisk.roads.judging.measures import UnitJudged, near_px, unit_counts
from roadrisk.roads.lines.skeletons import whole_skeleton
from roadrisk.roads.scenes import RoadExamples, Truth, Window

MODEL, ALL_ROAD, COLOUR = "model", "all_road", "colour"
METHODS = {MODEL: "the network", COLOUR: "a colour threshold", ALL_ROAD: "all road"}


@dataclass(frozen=True, eq=False)
class UnitSeen:
    """A unit with what lies around it, as far as it is needed to judge it.

    Parameters
    ----------
    core : rows and columns of the unit itself.
    """

    picture: Picture
    truth: Truth
    core: tuple[slice, slice]


def unit_seen(examples: RoadExamples, unit: int, halo_px: int) -> UnitSeen:
    """A unit with `halo_px` around it on each side."""
    scene, (y, x, height, width) = examples.scenes[examples.scene[unit]], examples.window(unit)
    wide = Window(y - halo_px, x - halo_px, height + 2 * halo_px, width + 2 * halo_px)
    core = slice(halo_px, halo_px + height), slice(halo_px, halo_px + width)
    return UnitSeen(scene.plane.read(wide), scene.truths.read(wide), core)


def halo_of(examples: RoadExamples) -> int:
    """Pixels around a unit in which a road is near to one inside."""
    return int(np.ceil(near_px(examples.metres_per_pixel)))


def judged(
    examples: RoadExamples, unit: int, seen: UnitSeen, drawn: Mask, rule: ColourRule, fold: int, block: int
) -> Iterator[UnitJudged]:
    """What each method drew of a unit, counted.

    Parameters
    ----------
    drawn : (H, W) of what is seen, as the network says.
    rule : learned on units that the network learned from, too.
    """
    methods = {
        MODEL: drawn,
        COLOUR: rule.drawn(seen.picture.pixels, seen.picture.valid),
        ALL_ROAD: all_road(seen.picture.valid),
    }
    valid, near = seen.picture.valid, near_px(examples.metres_per_pixel)
    known, scale = seen.truth.known & valid, examples.metres_per_pixel or 1.0
    true = whole_skeleton((seen.truth.road & known)[seen.core], scale)
    for method, mask in methods.items():
        counts = unit_counts(mask, seen.truth, valid, seen.core, near)
        linked = connected(true, whole_skeleton((mask & known)[seen.core], scale), scale)
        yield UnitJudged(method, str(examples.key[unit]), fold, block, counts, linked.value, linked.line_px)
