"""Plots of how well models rank tiles: the report's own and the best of those it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roadrisk.learning.judging.evaluation import Curves
from roadrisk.reporting.parts import Figure
from roadrisk.reporting.plots import LINE_STYLES, Axis, Line, Mark, Points, Reference, plot
from roadrisk.reporting.report import Report
from roadrisk.reporting.words import less_is_better, number, short_words

ALWAYS_COMPARED = "road_length"
ROOM = 1.06  # above the highest value
DIAGONAL = ((0.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True)
class CurveKind:
    """A plot with a curve a model.

    Parameters
    ----------
    metric : that stands behind each model's name; empty for none.
    """

    name: str
    title: str
    x: str
    y: str
    points: Callable[[Curves], Points]
    metric: str
    told: str


KINDS = (
    CurveKind(
        "roc",
        "ROC",
        "false positive rate",
        "true positive rate",
        lambda of: of.roc,
        "auroc",
        "Tiles of high risk that are found, against others that are called so. The number is the AUROC.",
    ),
    CurveKind(
        "precision-recall",
        "Precision and recall",
        "recall",
        "precision",
        lambda of: of.precision_recall,
        "auprc",
        "Of the tiles called high risk, how many are; against how many of all are found. The number is AP.",
    ),
    CurveKind(
        "lift",
        "Lift",
        "share of tiles, riskiest first",
        "events there against anywhere",
        lambda of: of.lift,
        "",
        "How many times more events the tiles called riskiest have than tiles on average.",
    ),
    CurveKind(
        "hits",
        "Hit rate by area",
        "share of area, riskiest first",
        "share of events",
        lambda of: of.hit_rate,
        "hit_rate_10",
        "Events in the part of the area called riskiest. The number is that of a tenth of the area.",
    ),
    CurveKind(
        "hits-road",
        "Hit rate by length of road",
        "share of road length, riskiest first",
        "share of events",
        lambda of: of.hit_rate_road,
        "hit_rate_10_road",
        "The same by length of road, where putting hot spots where roads are gains nothing.",
    ),
)


def compared_models(report: Report, split: str) -> list[str]:
    """The report's model, then road length and the best of the others, as many as a plot bears."""
    curves = report.evaluation.curves.get(split, {})
    own, metric = report.own(split), report.headline(split)
    sign = 1.0 if less_is_better(metric) else -1.0

    def place(model: str) -> tuple[bool, float]:
        value = report.value(split, model, metric)
        return model != ALWAYS_COMPARED, sign * value if value is not None else float("inf")

    others = [model for model in report.models(split) if model in curves and model != own]
    best = sorted(others, key=place)
    return [own] * (own in curves) + best[: LINE_STYLES - 2]


def ranking_figures(report: Report, split: str) -> list[Figure]:
    """ROC, precision and recall, lift, hit rates: those whose curves are there."""
    figures = (_curves(report, split, kind) for kind in KINDS)
    return [figure for figure in figures if figure is not None]


def high_share(report: Report, split: str) -> float | None:
    """Share of judged tiles that are of the riskiest class; None where it is not known."""
    tiles, high = report.provenance.get("tiles"), report.provenance.get("high_risk_tiles")
    if split not in ("spatial", "random") or not tiles or high is None:
        return None
    return float(high) / float(tiles)


def _curves(report: Report, split: str, kind: CurveKind) -> Figure | None:
    curves = report.evaluation.curves.get(split, {})
    models = [model for model in compared_models(report, split) if kind.points(curves[model])]
    if not models:
        return None
    first = 0 if models[0] == report.own(split) else 1  # the own style is the own model's
    lines: list[Mark] = [
        Line(_with_score(report, split, model, kind.metric), kind.points(curves[model]), first + n)
        for n, model in enumerate(models)
    ]
    y = Axis(kind.y, 0, 1, percent=True)
    if kind.name == "lift":
        y = Axis(kind.y, 0, max(1.0, *(up for model in models for _, up in curves[model].lift)) * ROOM)
    names = ", ".join(line.name for line in lines)
    drawn = plot(
        f"{kind.name}-{split}",
        kind.title,
        f"Curves of {names}. {kind.told}",
        Axis(kind.x, 0, 1, percent=True),
        y,
        [*lines, *_chance(report, split, kind.name)],
    )
    return Figure(kind.title, drawn, kind.told)


def _chance(report: Report, split: str, name: str) -> list[Mark]:
    """What a ranking by chance would give."""
    if name == "lift":
        return [Reference("as anywhere", ((0.0, 1.0), (1.0, 1.0)))]
    if name == "precision-recall":
        share = high_share(report, split)
        return [] if share is None else [Reference("by chance", ((0.0, share), (1.0, share)))]
    return [Reference("by chance", DIAGONAL)]


def _with_score(report: Report, split: str, model: str, metric: str) -> str:
    value = report.value(split, model, metric)
    return short_words(model) if value is None else f"{short_words(model)} {number(value)}"
