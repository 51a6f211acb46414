"""What the page of a road model says, section after section."""

from __future__ import annotations

import numpy as np

from roadrisk.reporting.parts import (
    Alarm,
    Drawing,
    Drawings,
    Figures,
    Legend,
    Lines,
    Part,
    Sample,
    Section,
    Terms,
    Words,
)
from roadrisk.reporting.roads.figures import learning_figures, level_figure
from roadrisk.reporting.roads.overlays import FOUND, MISSED, WRONG, picture_and_overlay, sample, shown_px
from roadrisk.reporting.roads.report import RoadReport, UnitShown
from roadrisk.reporting.roads.tables import (
    fold_table,
    methods,
    network_table,
    score_table,
    source_tables,
    with_intervals,
)
from roadrisk.reporting.roads.words import NO_INTERVALS, WEAK, glossary, head, method_words, near_words
from roadrisk.reporting.tables import TOLD_ELSEWHERE, origin_tables
from roadrisk.reporting.words import amount, interval_words, listed, number, percent
from roadrisk.roads.judging.judged import MODEL

# of the provenance
SHOWN_ELSEWHERE = ("told", "rule", "judged_on", "holdout", "epochs")


def summary(report: RoadReport) -> list[Part]:
    """What it learned from and how good it is; first an alarm where a simple rule is as good."""
    paragraphs = [_learned(report), _quality(report)]
    if report.source.weak:
        paragraphs.append(WEAK)
    return [*_alarm(report), *(Words(text) for text in paragraphs)]


def sections(report: RoadReport) -> list[Section]:
    """All sections in their order."""
    return [
        good(report),
        level(report),
        folds(report),
        drawn(report),
        learning(report),
        source(report),
        origin(report),
        Section("glossary", "Words", (Terms(glossary(report.source.metres_per_pixel)),)),
    ]


def good(report: RoadReport) -> Section:
    """Every method by every measure."""
    title = "How good it is"
    if not report.metrics:
        return Section("good", title, (Words("How good it is was not measured."),))
    scale = report.source.metres_per_pixel
    parts: list[Part] = [score_table(report.metrics, "on units that it did not learn from", scale)]
    if not with_intervals(report.metrics):
        parts.append(Words(NO_INTERVALS))
    parts += [
        score_table(metrics, f"on {name}, of which nothing was learned from", scale)
        for name, metrics in sorted(report.holdout.items())
    ]
    table = fold_table(report.metrics)
    return Section("good", title, (*parts, *([table] if table else [])))


def level(report: RoadReport) -> Section:
    """From which level on a pixel is road."""
    words = Words(
        f"A pixel is road from level {report.level} of 255 on: where IoU of the units held out is highest."
    )
    figure = level_figure(report)
    curve: Part = Figures((figure,)) if figure else Words("How IoU depends on it was not kept.")
    return Section("level", "The level", (words, curve))


def folds(report: RoadReport) -> Section:
    """How units were held out."""
    rule: Part = Lines(report.rule) if report.rule else Words("Nothing is told of how units were held out.")
    return Section("folds", "How units were held out", (rule,))


def drawn(report: RoadReport) -> Section:
    """Units that it draws worst and best."""
    groups = (
        (f"Worst by IoU, of {report.source.unit}s with road", report.worst),
        (f"Best by IoU, of {report.source.unit}s with road", report.best),
        ("Without true road, those with most drawn first", report.without_road),
    )
    galleries = [Drawings(name, tuple(map(_drawing, units))) for name, units in groups if units]
    title = "Worst and best"
    if not galleries:
        return Section("drawn", title, (Words("No unit is shown."),))
    words = Words(
        "Each as drawn by a network that did not learn from it: the picture, and the same in grey with roads "
        "over it. What is darker there is not known and was not judged."
    )
    samples = tuple(Sample(mark.name, mark.told, sample(mark)) for mark in (FOUND, MISSED, WRONG))
    return Section("drawn", title, (words, Legend(samples), *galleries))


def learning(report: RoadReport) -> Section:
    """Loss by epoch of each network."""
    figures = learning_figures(report)
    words = (
        "Loss on the crops learned from, and on units that a network did not learn from but that say when "
        "its training ends."
    )
    parts: tuple[Part, ...] = (Words("The course of the training was not kept."),)
    if figures:
        parts = (Words(words), Figures(tuple(figures)))
    return Section("learning", "How it learned", parts)


def source(report: RoadReport) -> Section:
    """Pictures and roads."""
    of = report.source
    weak = [Words(WEAK)] if of.weak else []
    told = [Lines(of.told)] if of.told else []
    return Section("source", "What it learned from", (*weak, *source_tables(of), *told))


def origin(report: RoadReport) -> Section:
    """The network, settings, versions, and whatever else is kept."""
    tables = origin_tables(report.provenance, (*TOLD_ELSEWHERE, *SHOWN_ELSEWHERE))
    return Section("origin", "Network and settings", (network_table(report), *tables))


def _alarm(report: RoadReport) -> list[Part]:
    own = report.metrics.get(MODEL, {}).get("iou", {}).get("value")
    better = [
        f"{method_words(name)}: IoU {number(value)}"
        for name in methods(report.metrics)
        if name != MODEL
        and own is not None
        and (value := report.metrics[name].get("iou", {}).get("value")) is not None
        and value >= own
    ]
    title = f"Do not use it: a simple rule draws roads as well as this network, whose IoU is {number(own)}"
    return [Alarm(title, tuple(better))] if better else []


def _learned(report: RoadReport) -> str:
    of, shape = report.source, report.architecture
    scale = (
        f"a pixel is {amount(of.metres_per_pixel)} m"
        if of.metres_per_pixel is not None
        else "nothing says how long a pixel is on the ground"
    )
    return (
        f"This model draws roads on pictures of {shape.bands} band{'s' * (shape.bands != 1)}. Its network "
        f"({shape.decoder} on {shape.encoder}) learned from {of.units:,} {of.unit}s of "
        f"{of.name or 'an unnamed source'}: "
        f"{_pixels(of.pixels)} known pixels, {percent(of.road_share)} of them road; {scale}."
    )


def _quality(report: RoadReport) -> str:
    iou = {name: report.metrics[name].get("iou", {}) for name in methods(report.metrics)}
    own = iou.pop(MODEL, {})
    if own.get("value") is None:
        return "How good it is was not measured."
    rivals = [f"{method_words(name)} {number(of['value'])}" for name, of in iou.items() if of.get("value")]
    ends = (own["low"], own["high"]) if own.get("low") is not None else None
    beside = f"; {listed(rivals)}" if rivals else ""
    near = near_words(report.source.metres_per_pixel)
    more = [
        f"{head(metric)}{f' at {near}' if metric == 'relaxed_f1' else ''} {number(value)}"
        for metric in ("f1", "relaxed_f1", "apls")
        if (value := report.metrics[MODEL].get(metric, {}).get("value")) is not None
    ]
    score = f"{number(own['value'])}{interval_words(ends)}{beside}"
    said = f"On units that it did not learn from, its IoU is {score}."
    return f"{said} Its {listed(more)}." if more else said


def _pixels(count: int) -> str:
    return f"{count / 1e6:,.1f} million" if count >= 1_000_000 else f"{count:,}"


def _drawing(unit: UnitShown) -> Drawing:
    picture, shown = picture_and_overlay(unit.picture, unit.road, unit.drawn, unit.known)
    height, width = shown_px(*unit.road.shape)
    iou = "no true road" if unit.iou is None else f"IoU {number(unit.iou)}"
    share = f"; road is {percent(unit.road_share)} of it" if unit.road_share else ""
    return Drawing(
        key=unit.key,
        lines=(f"{iou}{share}", _parts(unit)),
        told=f"{iou}{share}; {_parts(unit)}",
        picture=picture,
        overlay=shown,
        width_px=width,
        height_px=height,
    )


def _parts(unit: UnitShown) -> str:
    """How much of the true road was found, and of the drawn is wrong."""
    road, said = unit.road & unit.known, unit.drawn & unit.known
    right = int(np.count_nonzero(road & said))
    lines = []
    if road.any():
        lines.append(f"{percent(right / int(road.sum()))} of the road found")
    wrong = (
        f"{percent(1 - right / int(said.sum()))} of what is drawn is wrong" if said.any() else "nothing drawn"
    )
    return "; ".join([*lines, wrong])
