"""The report's tables: how good each model is, differences, and what was learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from roadrisk.learning.judging.choosing import WITHIN_FOLDS
from roadrisk.learning.judging.evaluation import Difference
from roadrisk.maps.fields import field_aliases, period
from roadrisk.plain_text import TextTable
from roadrisk.reporting.parts import Cell, Table, table_of
from roadrisk.reporting.report import Report
from roadrisk.reporting.words import (
    SPLITS,
    less_is_better,
    measure_head,
    measure_place,
    model_words,
    number,
    percent,
    signed,
)

# what is read first, by task; the others stand in the table of every measure
SHOWN = {
    "class": ("auroc", "auroc_fold_mean", "auprc", "accuracy", "log_loss", "brier", "ece"),
    "count": ("deviance", "mae", "spearman"),
    "value": ("rmse", "mae", "r2", "spearman"),
}
HIT_RATES = ("hit_rate_10", "hit_rate_10_road")
DATASETS, WINDOWS = ("dataset", "identity"), ("window", "from", "to, not including")
TOLD_ELSEWHERE = (
    *("label", "windows", "datasets", "settings", "versions"),
    *("warnings", "notes", "choices", "left_out", "asked_for", "facts"),
)


def score_table(report: Report, split: str, beside: str = "") -> Table:
    """Models of a split by the measures that are read first, intervals below their numbers.

    Parameters
    ----------
    beside : a split whose headline measure stands beside that of `split`; empty for none.
    """
    models = report.models(split)
    headline = report.headline(split)
    there = [
        metric
        for metric in (*SHOWN[report.task.kind], *HIT_RATES)
        if any(report.value(split, model, metric) is not None for model in models)
    ]
    columns: list[tuple[str, list[Cell]]] = []
    for metric in there:
        columns.append((measure_head(metric), [_score(report, split, model, metric) for model in models]))
        if beside and metric == headline:
            columns.append(("at random folds", [_score(report, beside, model, metric) for model in models]))
        columns += _ceiling_columns(report, split, models, metric)
    names = [Cell(model_words(model), model) for model in models]
    return Table(
        f"How good each model is, {SPLITS.get(split, split)}; 95 % intervals below",
        ("model", *(head for head, _ in columns)),
        tuple((name, *(cells[n] for _, cells in columns)) for n, name in enumerate(names)),
        numbers=frozenset(range(1, len(columns) + 1)),
        own=frozenset(n for n, model in enumerate(models) if model == report.own(split)),
    )


def every_measure(report: Report, split: str) -> Table:
    """All that `model.json` holds of a split: a row a measure, a column a model."""
    models = report.models(split)
    metrics = sorted({name for model in models for name in report.metrics[split][model]}, key=measure_place)
    rows = [
        (
            measure_head(metric),
            *(number(report.metrics[split][model].get(metric)) for model in models),
        )
        for metric in metrics
    ]
    title = f"Every measure, {SPLITS.get(split, split)}, as model.json keeps it"
    return table_of(title, ("measure", *models), rows, tuple(range(1, len(models) + 1)))


def difference_table(differences: Sequence[Difference]) -> Table:
    """Paired differences and whether they tell two models apart; once where facts cover all tiles."""
    everywhere = {(of.split, of.a, of.b): of.n for of in differences if of.tiles == "all"}
    shown = [of for of in differences if of.tiles == "all" or of.n != everywhere.get((of.split, of.a, of.b))]
    rows = tuple(
        (
            Cell(f"{model_words(of.a)} less {model_words(of.b)}", SPLITS.get(of.split, of.split)),
            Cell(measure_head(of.metric)),
            Cell("all" if of.tiles == "all" else "every source of facts covers"),
            Cell(signed(of.value), _ends(of)),
            Cell(_verdict(of)),
            Cell(f"{of.n:,}", f"{of.positives:,} of high risk"),
            Cell(f"{of.blocks:,}"),
        )
        for of in shown
    )
    header = ("models", "measure", "tiles", "difference", "what it says", "judged", "blocks")
    title = "Differences on the same tiles, with 95 % intervals"
    return Table(title, header, rows, numbers=frozenset({3, 5, 6}))


def given_table(given: TextTable) -> Table:
    """A table of another part of the program."""
    numbers = tuple(n for n, head in enumerate(given.header) if head in given.numbers)
    return table_of(given.title, given.header, list(given.rows), numbers)


def fact_table(report: Report) -> Table:
    """Every fact that the model was offered, with its meaning, and those left out."""
    left_out: Mapping[str, str] = report.provenance.get("left_out", {})
    asked: Mapping[str, str] = report.provenance.get("asked_for", {})
    aliases = field_aliases(report.columns)
    rows = [
        (
            Cell(aliases[column.name], column.name),
            Cell(column.meaning),
            Cell(column.unit),
            Cell(period(column.window)),
            Cell(column.source or ""),
            Cell(_use(column.name, left_out, asked)),
        )
        for column in report.columns
    ]
    known = {column.name for column in report.columns}
    rows += [
        (Cell(name), Cell(""), Cell(""), Cell(""), Cell(""), Cell(f"left out: {why}"))
        for name, why in left_out.items()
        if name not in known
    ]
    return Table("Facts", ("fact", "meaning", "unit", "period", "source", "use"), tuple(rows))


def origin_tables(about: Mapping[str, Any], elsewhere: Sequence[str] = TOLD_ELSEWHERE) -> list[Table]:
    """Datasets with their identities, windows, settings, versions, and whatever else is kept.

    Parameters
    ----------
    about : provenance of a model.
    elsewhere : its parts that do not stand with the rest.
    """
    made = []
    if about.get("datasets"):
        rows = [(str(of.get("name", "")), str(of.get("identity", ""))) for of in about["datasets"]]
        made.append(table_of("Datasets", DATASETS, rows))
    if about.get("windows"):
        dates = [(name, str(start), str(end)) for name, (start, end) in about["windows"].items()]
        made.append(table_of("Windows", WINDOWS, dates))
    for title, values in (
        ("Label", about.get("label", {})),
        ("Settings", about.get("settings", {})),
        ("Versions", about.get("versions", {})),
        ("Besides", {name: value for name, value in about.items() if name not in elsewhere}),
    ):
        if values:
            pairs = [(str(name), _plain(value)) for name, value in values.items()]
            made.append(table_of(title, ("name", "value"), pairs))
    return made


def _score(report: Report, split: str, model: str, metric: str) -> Cell:
    value = report.metrics.get(split, {}).get(model, {}).get(metric)
    ends = report.ends(split, model, metric)
    return Cell(number(value), f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "")


def _ceiling_columns(
    report: Report, split: str, models: list[str], metric: str
) -> list[tuple[str, list[Cell]]]:
    """What luck leaves of a measure, and how far models are on the way there from road length."""
    made, ceiling = [], f"ceiling_{metric}"
    if any(report.value(split, model, ceiling) is not None for model in models):
        cells = [Cell(number(report.value(split, model, ceiling))) for model in models]
        made.append(("its ceiling", cells))
    shares = report.evaluation.road_to_ceiling.get(split, {})
    if shares and metric == WITHIN_FOLDS:
        cells = [Cell(percent(shares[model]) if model in shares else "") for model in models]
        made.append(("way to ceiling", cells))
    return made


def _ends(of: Difference) -> str:
    return "" if of.low is None or of.high is None else f"{signed(of.low)} to {signed(of.high)}"


def _verdict(of: Difference) -> str:
    if of.low is None or of.high is None:
        return "not known: fewer than 20 blocks"
    if of.low <= 0 <= of.high:
        return "not told apart"
    better = of.a if (of.low > 0) != less_is_better(of.metric) else of.b
    return f"{model_words(better)} is better"


def _use(name: str, left_out: Mapping[str, str], asked: Mapping[str, str]) -> str:
    if name in left_out:
        return f"left out: {left_out[name]}"
    return f"used, {asked[name]}" if name in asked else "used"


def _plain(value: Any) -> str:
    """A value as people read it; JSON where it has parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(one, str | int | float) for one in value):
        return ", ".join(str(one) for one in value) or "none"
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if not value:
        return "none"
    return json.dumps(value, ensure_ascii=False, default=str)
