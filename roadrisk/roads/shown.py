"""What the page of a road model shows, from what its training found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from roadrisk.learning.loop.learner import Epoch
from roadrisk.reporting.roads.report import Learned, LearnedFrom, RoadReport, UnitShown
from roadrisk.roads.drawing.drawn import LEVELS
from roadrisk.roads.judging.judged import unit_seen
from roadrisk.roads.judging.measures import iou_at
from roadrisk.roads.learning.validating import Found, UnitDrawn
from roadrisk.roads.model import RoadModel
from roadrisk.roads.scenes import RoadExamples


def road_report(
    model: RoadModel, examples: RoadExamples, found: Found, epochs: Mapping[str, tuple[Epoch, ...]]
) -> RoadReport:
    """The page's content.

    Parameters
    ----------
    found : of units that were held out.
    epochs : how each network learned.
    """
    curve = [(level, iou_at(found.histogram, level)) for level in range(1, LEVELS)]
    about, worst = model.provenance, {unit.row for unit in found.worst}
    return RoadReport(
        source=_source(model, examples),
        architecture=model.architecture,
        metrics=model.metrics,
        level=model.level,
        iou_by_level=[(level, iou) for level, iou in curve if iou is not None],
        learned=tuple(_learned(name, each) for name, each in epochs.items()),
        rule=(about["rule"], f"Judged on {about['judged_on']}."),
        worst=_shown(examples, found.worst),
        best=_shown(examples, [unit for unit in found.best if unit.row not in worst]),
        without_road=_shown(examples, found.false),
        holdout=about["holdout"],
        provenance=about,
    )


def _source(model: RoadModel, examples: RoadExamples) -> LearnedFrom:
    sizes = [examples.window(row) for row in range(len(examples))]
    pixels = np.array([size.height * size.width for size in sizes]) * examples.known_share
    weak = examples.lattice is not None and model.provenance["settings"]["mask"] is None
    return LearnedFrom(
        name=examples.name,
        units=len(examples),
        unit="picture" if examples.lattice is None else "tile",
        pixels=int(pixels.sum()),
        road_share=float((pixels * np.nan_to_num(examples.road_share)).sum() / pixels.sum()),
        metres_per_pixel=examples.metres_per_pixel,
        weak=weak,
        told=tuple(model.provenance["told"]),
    )


def _learned(name: str, epochs: tuple[Epoch, ...]) -> Learned:
    watched = [epoch.watched_loss for epoch in epochs]
    known = [loss for loss in watched if loss is not None]
    kept = watched.index(min(known)) if known else None
    return Learned(name, [epoch.loss for epoch in epochs], watched, kept)


def _shown(examples: RoadExamples, units: Iterable[UnitDrawn]) -> tuple[UnitShown, ...]:
    shown = []
    for unit in units:
        seen = unit_seen(examples, unit.row, 0)
        known = seen.truth.known & seen.picture.valid
        pixels = seen.picture.pixels
        shown.append(
            UnitShown(
                key=str(examples.key[unit.row]),
                iou=unit.iou,
                road_share=float(examples.road_share[unit.row]),
                picture=pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0),
                road=seen.truth.road & known,
                drawn=(unit.level >= unit.road_from) & known,
                known=known,
            )
        )
    return tuple(shown)
