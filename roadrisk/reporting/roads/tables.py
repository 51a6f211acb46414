"""Tables of a road model: how good each method is, what it learned from, and the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roadrisk.reporting.parts import Cell, Table, table_of
from roadrisk.reporting.roads.report import LearnedFrom, RoadReport, Scores
from roadrisk.reporting.roads.words import HEADS, SHOWN, head, method_place, method_words, near_words
from roadrisk.reporting.words import amount, number, percent
from roadrisk.roads.judging.judged import MODEL


def methods(metrics: Scores) -> list[str]:
    """The network, then what it is compared with."""
    return sorted(metrics, key=method_place)


def score_table(metrics: Scores, where: str, metres_per_pixel: float | None) -> Table:
    """A row a method, a column a measure, intervals below their numbers.

    Parameters
    ----------
    where : they were measured.
    """
    names = methods(metrics)
    shown = [metric for metric in SHOWN if any(metric in metrics[name] for name in names)]
    rows = tuple(
        (Cell(method_words(name), name), *(_score(metrics[name].get(metric, {})) for metric in shown))
        for name in names
    )
    near = near_words(metres_per_pixel)
    heads = [f"{head(metric)} at {near}" if metric == "relaxed_f1" else head(metric) for metric in shown]
    return Table(
        f"How good each method is {where}{'; 95 % intervals below' if with_intervals(metrics) else ''}",
        ("method", *heads),
        rows,
        numbers=frozenset(range(1, len(shown) + 1)),
        own=frozenset(n for n, name in enumerate(names) if name == MODEL),
    )


def with_intervals(metrics: Scores) -> bool:
    """Whether any measure has an interval."""
    return any(score.get("low") is not None for of in metrics.values() for score in of.values())


def fold_table(metrics: Scores) -> Table | None:
    """A row a measure of a method, a column a fold; None where nothing was kept of folds."""
    rows = [
        (method_words(method), head(metric), number(score.get("value")), *map(number, score["folds"]))
        for method in methods(metrics)
        for metric in (name for name in HEADS if name in metrics[method])
        if (score := metrics[method][metric]).get("folds")
    ]
    if not rows:
        return None
    longest = max(len(row) for row in rows)
    filled = [(*row, *([""] * (longest - len(row)))) for row in rows]
    folds = [f"fold {n + 1}" for n in range(longest - 3)]
    return table_of(
        "Every measure, of all folds and of each",
        ("method", "measure", "all", *folds),
        filled,
        tuple(range(2, longest)),
    )


def source_tables(source: LearnedFrom) -> list[Table]:
    """What it learned from."""
    scale = source.metres_per_pixel
    rows = [
        ("source", source.name),
        (f"{source.unit}s", f"{source.units:,}"),
        ("known pixels", f"{source.pixels:,}"),
        ("road, of known pixels", percent(source.road_share)),
        ("side of a pixel", "not known" if scale is None else f"{amount(scale)} m"),
        ("roads", "centre-lines drawn with a width: weak labels" if source.weak else "masks"),
    ]
    return [table_of("Pictures and roads", ("what", "value"), rows)]


def network_table(report: RoadReport) -> Table:
    """What the network is."""
    shape = report.architecture
    rows = [
        ("decoder", shape.decoder),
        ("encoder", shape.encoder),
        ("bands of a picture", f"{shape.bands}"),
        ("pixels along a side that it sees as one", f"{shape.shrink}"),
        ("level", f"{report.level} of 255"),
    ]
    return table_of("Network", ("what", "value"), rows)


def _score(score: Mapping[str, Any]) -> Cell:
    low, high = score.get("low"), score.get("high")
    below = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return Cell(number(score.get("value")), below)
