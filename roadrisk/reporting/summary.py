"""The first paragraph, in plain words: what was learned, how good it is against what, what to distrust."""

from __future__ import annotations

from roadrisk.learning.judging.measured import NETWORKS
from roadrisk.maps.fields import period
from roadrisk.reporting.parts import Alarm, Part, Words
from roadrisk.reporting.report import Report
from roadrisk.reporting.words import (
    interval_words,
    less_is_better,
    listed,
    measure_head,
    metres,
    model_words,
    number,
    percent,
)

ROAD = "road_length"
AUROCS = ("auroc_fold_mean", "auroc")
NOT_A_CAUSE = (
    "It is an association, not a cause: it tells where reported events are to be expected, not what a change "
    "to a road would do."
)


def summary(report: Report) -> list[Part]:
    """What was found, whether the picture helps, what to distrust; first an alarm where there is a leak."""
    leaks = tuple(finding.text for finding in report.evaluation.findings if finding.leak)
    paragraphs = [
        [_learned(report), *_quality(report), _hits(report), _later(report)],
        [picture_words(report).split("; ")[0].rstrip(".") + "." if report.evaluation.picture else ""],
        [NOT_A_CAUSE, _distrust(report)],
    ]
    alarm: list[Part] = []
    if leaks:
        title = f"Do not quote these scores: {len(leaks)} check{'s' * (len(leaks) > 1)} found a leak"
        alarm = [Alarm(title, leaks)]
    said = [" ".join(filter(None, sentences)) for sentences in paragraphs]
    return [*alarm, *(Words(text) for text in said if text)]


def picture_words(report: Report) -> str:
    """Whether the picture helps, with models called as in the tables; empty where it is not known."""
    text = report.evaluation.picture
    for of in report.evaluation.differences:
        text = text.replace(f"{of.a} less {of.b} ", f"{model_words(of.a)} less {model_words(of.b)} ")
    return text


def gap_words(report: Report) -> str:
    """The difference of spatial and random folds; empty where one of them is not there."""
    metric = report.headline("spatial")
    spatial, random = (report.value(split, report.model, metric) for split in ("spatial", "random"))
    if spatial is None or random is None:
        return ""
    gap = (spatial - random) if less_is_better(metric) else (random - spatial)
    scores = f"At random folds {measure_head(metric)} is {number(random)}, at spatial ones {number(spatial)}"
    if gap <= 0:
        return f"{scores}: here neighbours do not flatter the model. Quote the spatial score."
    return (
        f"{scores}. The difference of {gap:.3f} is what a model gains from tiles next to those it is tested "
        "on, and would not have in a new place. Quote the spatial score."
    )


def best_other(report: Report, split: str) -> str | None:
    """The baseline with the best headline measure; None without one."""
    metric = report.headline(split)
    sign = -1.0 if less_is_better(metric) else 1.0
    scores = {
        model: sign * value
        for model in report.models(split)
        if model not in (*NETWORKS, report.own(split))
        and (value := report.value(split, model, metric)) is not None
    }
    return max(scores, key=lambda model: scores[model]) if scores else None


def _learned(report: Report) -> str:
    about = report.provenance
    label = about.get("label", {})
    task, column = report.task, label.get("column", "the label")
    if task.kind == "count":
        what = f"how many events of {label.get('measure') or column} are to be expected in a tile"
    elif task.kind == "value":
        what = f"what {column} is to be expected in a tile"
    else:
        which = "high risk" if task.outputs == 1 else f"class {task.classes[-1]}, the riskiest"
        what = f"how likely a tile is to be of {which}"
    said = [f"This model says {what}."]
    if label.get("meaning"):
        said.append(str(label["meaning"]).split(". ")[0].rstrip(".") + ".")
    if about.get("tiles"):
        high = f", {about.get('high_risk_tiles', 0):,} of them of high risk" if task.kind == "class" else ""
        size = f" of {metres(about['cell_m'])}" if about.get("cell_m") else ""
        dates = about.get("windows", {}).get("label")
        when = f", from events of {period((dates[0], dates[1]))}" if dates else ""
        alone = about.get("settings", {}).get("inputs") == "facts"
        seen = "" if alone else f", {about.get('tiles_with_image', 0):,} with a picture"
        said.append(
            f"It learned from {about['tiles']:,} tiles{size} of {report.name or 'a table'}{high}{seen}{when}."
        )
    return " ".join(said)


def _quality(report: Report) -> list[str]:
    split = report.split
    metric = report.headline(split)
    own = report.value(split, report.own(split), metric)
    if own is None:
        return ["How good it is was not measured."]
    where = "places that it had not seen" if split == "spatial" else "tiles that it had not seen"
    ends = report.ends(split, report.own(split), metric)
    said = [f"Asked about {where}, it {_claim(metric, own, ends)}{_rivals(report, split)}."]
    ceiling = report.value(split, report.own(split), f"ceiling_{metric}")
    if ceiling is not None:
        said.append(
            f"Nobody could be right more than {ceiling * 100:.0f} times in 100, since which tiles have "
            "events in one window is partly luck."
        )
    return said


def _rivals(report: Report, split: str) -> str:
    """How road length and the best of the other baselines do."""
    metric, best = report.headline(split), best_other(report, split)
    words = {ROAD: model_words(ROAD)}
    if best is not None:
        words.setdefault(best, f"the best baseline, {model_words(best)},")
    said = [
        f"{name} {_score(metric, value)}"
        for model, name in words.items()
        if (value := report.value(split, model, metric)) is not None
    ]
    return f"; {listed(said)}" if said else ""


def _claim(metric: str, value: float, ends: tuple[float, float] | None) -> str:
    if metric in AUROCS:
        between = f" (95 % {ends[0] * 100:.0f} to {ends[1] * 100:.0f})" if ends else ""
        return (
            f"ranks a tile of high risk above another one {value * 100:.0f} times in 100{between}, where a "
            "coin would do so 50 times"
        )
    if metric == "spearman":
        return (
            f"ranks tiles as they turned out with a rank correlation of {value:.2f}{interval_words(ends)}: "
            "1 is perfect, 0 is chance"
        )
    return f"has a {measure_head(metric)} of {number(value)}{interval_words(ends)}"


def _score(metric: str, value: float) -> str:
    return f"{value * 100:.0f} times" if metric in AUROCS else f"{value:.2f}"


def _hits(report: Report) -> str:
    split = report.split
    own = report.value(split, report.own(split), "hit_rate_10")
    road = report.value(split, ROAD, "hit_rate_10")
    if own is None:
        return ""
    beside = (
        f"; ranked by the length of roads alone it would hold {percent(road)}" if road is not None else ""
    )
    return f"The tenth of the area that it calls riskiest holds {percent(own)} of the events{beside}."


def _later(report: Report) -> str:
    """The second question in one sentence."""
    own, metric = report.own("temporal"), report.headline("temporal")
    value, best = report.value("temporal", own, metric), best_other(report, "temporal")
    if value is None:
        return ""
    score = report.value("temporal", best, metric) if best else None
    beside = f", {model_words(best)} {_score(metric, score)}" if best and score is not None else ""
    name = "" if metric in AUROCS else f" ({measure_head(metric)})"
    reached = f"{model_words(own)} {_score(metric, value)}{name}"
    return f"For the same places in the next period: {reached}{beside}."


def _distrust(report: Report) -> str:
    about = report.provenance
    said = []
    leaks = sum(finding.leak for finding in report.evaluation.findings)
    if leaks:
        said.append("every score here until the leak above is mended")
    if report.split == "random":
        said.append("scores of random folds (neighbouring tiles may flatter them; there are no spatial ones)")
    elif "random" in report.metrics:
        said.append("the scores of random folds (they stand here only to show how far they flatter)")
    if not report.evaluation.intervals.get(report.split):
        said.append("small differences (there are no intervals)")
    if about.get("warnings"):
        count = len(about["warnings"])
        said.append(f"what {count} warning{'s' * (count > 1)} under “Settings and inputs” name")
    said.append("differences between places that report events differently")
    return f"Distrust {listed(said)}."
