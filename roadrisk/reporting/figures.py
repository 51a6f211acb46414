"""The report's plots besides those of rankings, from the parts of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from scipy.special import expit

from roadrisk.learning.judging.evaluation import Cure, Curves, FoldsTold, Importance, Reliability
from roadrisk.reporting.parts import Figure
from roadrisk.reporting.plots import (
    Axis,
    Bar,
    Dots,
    Line,
    Mark,
    Points,
    Reference,
    Ribbon,
    bar_plot,
    plot,
)
from roadrisk.reporting.rankings import DIAGONAL, ROOM
from roadrisk.reporting.report import Report
from roadrisk.reporting.words import measure_head, metres, percent

CALIBRATION_POINTS = 200


def reliability_figures(report: Report, split: str) -> list[Figure]:
    """Predicted beside observed: of classes by bins, of counts and values by decile."""
    own = report.own(split)
    bins = report.evaluation.curves.get(split, {}).get(own, Curves()).reliability
    if not bins:
        return []
    return [_reliability(split, bins) if report.task.kind == "class" else _deciles(split, bins)]


def cure_figures(report: Report, split: str) -> list[Figure]:
    """Cumulative residuals of the report's model, a plot an amount."""
    cures = report.evaluation.curves.get(split, {}).get(report.own(split), Curves()).cure
    units = {column.name: column.unit for column in report.columns}
    return [_cure(f"cure-{split}-{n}", cure, units.get(cure.by, "")) for n, cure in enumerate(cures)]


def fold_figures(told: FoldsTold) -> list[Figure]:
    """How far away what was learned from lies, and how far apart tiles resemble each other."""
    made = []
    if told.to_training or told.map_to_training:
        made.append(_distances(told))
    if told.correlogram:
        made.append(_correlogram(told))
    return made


def importance_figure(importance: Sequence[Importance]) -> Figure:
    """Groups of what the model sees, the most missed first."""
    ordered = sorted(importance, key=lambda of: -of.loss)
    head = measure_head(ordered[0].metric)
    low = min(0.0, *(of.low for of in ordered))
    high = max(0.0, *(of.high for of in ordered))
    axis = Axis(f"drop of {head} where the group is shuffled", low, low + (_spread(low, high)) * ROOM)
    bars = [Bar(of.group, of.loss, of.low, of.high) for of in ordered]
    told = "; ".join(f"{of.group} {of.loss:.3f}" for of in ordered)
    return Figure(
        "Importance by groups",
        bar_plot("importance", "Importance by groups", f"Drop of {head}: {told}.", axis, bars),
        f"How much {head} drops where one group is shuffled among tiles; the whisker is the least and most "
        "of the shuffles. Groups that say the same share their weight, so a short bar does not prove no use.",
    )


def calibration_figure(knots: Points) -> Figure:
    """Chances before and after calibration.

    Parameters
    ----------
    knots : (logit, calibrated logit).
    """
    points = [(_chance(before), _chance(after)) for before, after in _filled(knots)]
    marks: list[Mark] = [Reference("as it was", DIAGONAL), Line("calibrated", points, 0)]
    x, y = _share("chance before calibration"), _share("chance after calibration")
    told = f"From {percent(points[0][1])} to {percent(points[-1][1])}."
    return Figure(
        "What calibration does",
        plot("calibration", "What calibration does", told, x, y, marks),
        "Below the dashed line the network was too sure of high risk, above it too little.",
    )


def _reliability(split: str, bins: Sequence[Reliability]) -> Figure:
    most = max(max(of.predicted, of.observed, of.high or 0.0) for of in bins)
    end = min(1.0, max(most * ROOM, 0.02))
    x, y = Axis("predicted chance", 0, end, percent=True), Axis("observed share", 0, end, percent=True)
    dots = Dots("tiles of one bin", [(of.predicted, of.observed) for of in bins], _whiskers(bins), 0)
    marks: list[Mark] = [Reference("as predicted", ((0.0, 0.0), (end, end))), dots]
    worst = max(bins, key=lambda of: abs(of.observed - of.predicted))
    told = (
        f"{len(bins)} bins of about {bins[0].n:,} tiles. Furthest off: {percent(worst.predicted)} predicted, "
        f"{percent(worst.observed)} observed. Below the dashed line too much was predicted. "
        "Whiskers are 95 % intervals of the share; chances are those before calibration."
    )
    return Figure("Reliability", plot(f"reliability-{split}", "Reliability", told, x, y, marks), told)


def _deciles(split: str, bins: Sequence[Reliability]) -> Figure:
    most = max(max(of.predicted, of.observed, of.high or 0.0) for of in bins)
    least = min(0.0, *(min(of.predicted, of.observed, of.low or 0.0) for of in bins))
    count = len(bins)
    x = Axis("tenth of the tiles, most predicted last", 0, count + 1, whole=True)
    y = Axis("mean of a tile", least, least + _spread(least, most) * ROOM)
    places = range(1, count + 1)
    observed = Dots(
        "observed", [(n, of.observed) for n, of in zip(places, bins, strict=True)], _whiskers(bins), 0
    )
    predicted = Dots(
        "predicted", [(n, of.predicted) for n, of in zip(places, bins, strict=True)], [None] * count, 1
    )
    marks: list[Mark] = [observed, predicted]
    top = bins[-1]
    whiskers = ", whiskers 95 % by draws of blocks" if any(_whiskers(bins)) else ""
    told = (
        f"{count} bins of about {top.n:,} tiles{whiskers}. In the last one {top.predicted:.3g} is "
        f"predicted and {top.observed:.3g} observed."
    )
    title = "Predicted and observed"
    return Figure(title, plot(f"reliability-{split}", title, told, x, y, marks), told)


def _whiskers(bins: Sequence[Reliability]) -> list[tuple[float, float] | None]:
    return [(of.low, of.high) if of.low is not None and of.high is not None else None for of in bins]


def _cure(name: str, cure: Cure, unit: str) -> Figure:
    words = "expected count" if cure.by == "expected" else cure.by
    across = [x for x, _ in (*cure.points, *cure.bound)]
    most = max([1e-9, *(abs(y) for _, y in (*cure.points, *cure.bound))]) * ROOM
    low = min(across)
    x = Axis(f"{words} [{unit or 'events'}]" if unit or cure.by == "expected" else words, low,
             low + _spread(low, max(across)))  # fmt: skip
    y = Axis("cumulative residual [events]", -most, most)
    marks: list[Mark] = [
        Ribbon("two standard deviations", cure.bound),
        Reference("", ((low, 0.0), (x.high, 0.0))),
        Line("observed less expected", cure.points, 0),
    ]
    told = (
        f"Outside its bounds at {percent(cure.outside)} of the tiles. A steady climb is a stretch where too "
        "little is expected, a steady fall one where too much is."
    )
    title = f"CURE by {words}"
    return Figure(title, plot(name, title, told, x, y, marks), told)


def _distances(told: FoldsTold) -> Figure:
    curves = {"tested tiles": told.to_training, "tiles of the map": told.map_to_training}
    furthest = max(far for points in curves.values() for _, far in points)
    x = Axis("distance to the nearest training tile [m]", 0, max(furthest, 1.0) * ROOM)
    lines: list[Mark] = [
        Line(name, [(far, share / 100) for share, far in points], n)
        for n, (name, points) in enumerate(curves.items())
        if points
    ]
    said = "; ".join(
        f"half of the {name} are within {metres(_middle(points))}"
        for name, points in curves.items()
        if points
    )
    caption = (
        f"{said[:1].upper()}{said[1:]}. Where the map lies nearer than the tests did, scores are on the "
        "careful side; where it lies further, they flatter it."
    )
    title = "How far away what was learned from lies"
    return Figure(title, plot("distances", title, said, x, _share("share of tiles"), lines), caption)


def _correlogram(told: FoldsTold) -> Figure:
    high = max([0.1, *(y for _, y in told.correlogram)]) * ROOM
    low = min(0.0, *(y for _, y in told.correlogram)) * ROOM
    furthest = max(1.0, *(x for x, _ in told.correlogram))
    x, y = Axis("distance between tiles [m]", 0, furthest * ROOM), Axis("correlation", low, high)
    marks: list[Mark] = [Line("what facts do not explain", told.correlogram, 0)]
    if told.range_m is not None and told.range_m <= x.high:
        marks.append(Reference(f"range {metres(told.range_m)}", ((told.range_m, low), (told.range_m, high))))
    ended = (
        f"fades out at {metres(told.range_m)}"
        if told.range_m is not None
        else "has no range that could be found"
    )
    words = f"The likeness of what facts leave unexplained {ended}; from {told.sampled:,} tiles."
    title = "How far likeness reaches"
    return Figure(title, plot("correlogram", title, words, x, y, marks), words)


def _middle(points: Points) -> float:
    """The distance at the percentile nearest the half."""
    return min(points, key=lambda point: abs(point[0] - 50))[1]


def _share(label: str) -> Axis:
    return Axis(label, 0, 1, percent=True)


def _spread(low: float, high: float) -> float:
    """Never nothing, since an axis needs two ends."""
    return high - low or max(abs(high), 1.0)


def _chance(logit: float) -> float:
    return float(expit(logit))


def _filled(knots: Points) -> list[tuple[float, float]]:
    """Knots and, since a sigmoid bends between them, points between two of them."""
    steps = max(1, CALIBRATION_POINTS // len(knots))
    made = [knots[0]]
    for (x0, y0), (x1, y1) in pairwise(knots):
        made += [(x0 + (x1 - x0) * n / steps, y0 + (y1 - y0) * n / steps) for n in range(1, steps + 1)]
    return made
