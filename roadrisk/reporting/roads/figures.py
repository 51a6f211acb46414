"""Plots of a road model: IoU by level, and how its networks learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from roadrisk.reporting.parts import Figure
from roadrisk.reporting.plots import Axis, Line, Mark, Points, Reference, plot
from roadrisk.reporting.rankings import ROOM
from roadrisk.reporting.roads.report import Learned, RoadReport
from roadrisk.reporting.words import number


def level_figure(report: RoadReport) -> Figure | None:
    """IoU by the level from which a pixel is road; None where it was not kept."""
    points = [(float(level), iou) for level, iou in report.iou_by_level if math.isfinite(iou)]
    if not points:
        return None
    top = min(1.0, max(0.02, *(iou for _, iou in points)) * ROOM)
    best_level, best = max(points, key=lambda point: point[1])
    marks: list[Mark] = [
        Line("the network", points, 0),
        Reference(f"level {report.level}", ((report.level, 0.0), (report.level, top))),
    ]
    told = (
        f"IoU is highest, {number(best)}, about level {best_level:.0f}; the model draws from level "
        f"{report.level} on. A flat top means that the level matters little."
    )
    title = "IoU by level"
    x, y = Axis("a pixel is road from this level on", 0, 255, whole=True), Axis("IoU", 0, top)
    return Figure(title, plot("level", title, told, x, y, marks), told)


def learning_figures(report: RoadReport) -> list[Figure]:
    """Loss by epoch, a plot a network."""
    known = [one for one in report.learned if any(math.isfinite(value) for value in one.loss)]
    return [_learning(f"learning-{n}", one) for n, one in enumerate(known)]


def _learning(name: str, of: Learned) -> Figure:
    loss, watched = _by_epoch(of.loss), _by_epoch(of.watched)
    both = [*loss, *watched]
    most = max(1e-9, *(value for _, value in both)) * ROOM
    x = Axis("epoch", 0, max(2.0, *(epoch for epoch, _ in both)), whole=True)
    marks: list[Mark] = [Line("watched", watched, 0)] if watched else []
    marks.append(Line("learned from", loss, 1))
    if of.kept is not None:
        marks.append(Reference("weights kept", ((of.kept + 1.0, 0.0), (of.kept + 1.0, most))))
    told = f"{len(of.loss)} epochs; the loss fell from {number(loss[0][1])} to {number(loss[-1][1])}"
    if watched:
        epoch, least = min(watched, key=lambda point: point[1])
        told += f", that on watched units was least at epoch {epoch:.0f}, {number(least)}"
    figure = plot(name, of.name, f"{told}.", x, Axis("loss", 0, most), marks)
    return Figure(of.name, figure, f"{told}.")


def _by_epoch(values: Sequence[float | None]) -> Points:
    return [(n + 1.0, value) for n, value in enumerate(values) if value is not None and math.isfinite(value)]
