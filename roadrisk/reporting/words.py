"""What the report calls models, measures and folds, and how it writes numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roadrisk.learning.judging.measured import BASELINES, NETWORKS

Measures = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """How the report speaks of a measure.

    Parameters
    ----------
    head : of its column in tables.
    less_is_better : whether a lower number is the better one.
    meaning : one or two sentences of the glossary.
    """

    head: str
    meaning: str
    less_is_better: bool = False


MODELS = {
    "auto": "whichever --inputs auto chooses",
    "fused": "picture and facts",
    "image": "picture alone",
    "facts": "facts alone",
    "fused_frozen": "picture and facts, encoder frozen",
    "image_frozen": "picture alone, encoder frozen",
    "fused_with_past": "picture, facts and past crashes",
    "facts_with_past": "facts and past crashes",
    "base_rate": "the same everywhere",
    "road_length": "length of roads alone",
    "logistic": "logistic regression on facts",
    "regression": "regression on facts",
    "logistic_with_past": "logistic regression on facts and past crashes",
    "regression_with_past": "regression on facts and past crashes",
    "spf": "safety performance function",
    "spf_length": "safety performance function, without traffic volumes",
    "boosting": "boosting on facts",
    "boosting_with_image": "boosting on facts and picture features",
    "boosting_with_past": "boosting on facts and past crashes",
    "stack": "stack of regression, boosting and probe",
    "past_counts": "counts of the past",
    "kernel_density": "kernel density of past events",
    "empirical_bayes": "Empirical Bayes",
}
# in plots, where there is less room
SHORT = {
    "auto": "inputs auto",
    "fused_with_past": "picture, facts, past",
    "facts_with_past": "facts and past",
    "fused_frozen": "picture, facts, frozen",
    "image_frozen": "picture, frozen",
    "road_length": "length of roads",
    "logistic": "logistic regression",
    "regression": "regression",
    "logistic_with_past": "regression, with past",
    "regression_with_past": "regression, with past",
    "spf": "SPF",
    "spf_length": "SPF without traffic",
    "boosting": "boosting",
    "boosting_with_image": "boosting, with picture",
    "boosting_with_past": "boosting, with past",
    "stack": "stack",
    "kernel_density": "kernel density",
}
MODEL_ORDER = NETWORKS + BASELINES

MEASURES = {
    "n": Measure("tiles", "Tiles that were judged."),
    "n_with_image": Measure("with picture", "Judged tiles that have a picture."),
    "auroc": Measure(
        "AUROC",
        "Chance that a tile of the riskiest class is ranked above another: 0.5 is a coin, 1 is perfect.",
    ),
    "auroc_fold_mean": Measure(
        "AUROC within folds",
        "The same, comparing only tiles that one fold's model scored. Use it to compare models: scores of "
        "several fold models are not on one scale.",
    ),
    "ceiling_auroc": Measure(
        "ceiling",
        "The AUROC that a perfect estimate of each tile's mean would reach. Below 1, since which tiles have "
        "events in one window is partly luck.",
    ),
    "ceiling_auroc_fold_mean": Measure("ceiling within folds", "The same, of pairs of tiles of one fold."),
    "auprc": Measure(
        "AP",
        "Average precision: the area under the curve of precision and recall. Chance reaches the share of "
        "high-risk tiles.",
    ),
    "accuracy": Measure("accuracy", "Share of tiles whose likeliest class is the observed one."),
    "log_loss": Measure("log loss", "Mean -log probability of the observed class.", less_is_better=True),
    "brier": Measure("Brier", "Mean squared distance of probability and outcome.", less_is_better=True),
    "ece": Measure(
        "ECE",
        "Expected calibration error: mean distance of probability and outcome in 15 bins of equal count.",
        less_is_better=True,
    ),
    "deviance": Measure(
        "deviance", "Mean Poisson deviance of counts: 0 where every count was expected.", less_is_better=True
    ),
    "mae": Measure("MAE", "Mean absolute error, in the unit of what is predicted.", less_is_better=True),
    "rmse": Measure("RMSE", "Root of the mean squared error, in the same unit.", less_is_better=True),
    "r2": Measure("R2", "Share of the variance that is explained; below 0 is worse than the mean."),
    "spearman": Measure("Spearman", "Correlation of the ranks of what was predicted and observed."),
    "ndcg": Measure(
        "NDCG", "Events at the top of the ranking, each place counting less than the one above it; 1 is best."
    ),
}

SPLITS = {
    "spatial": "new place",
    "random": "random folds",
    "temporal": "same place, next period",
    "metro": "a metro never seen",
}


def model_words(name: str) -> str:
    """What the report calls a model.

    >>> model_words("road_length"), model_words("mine")
    ('length of roads alone', 'mine')
    """
    return MODELS.get(name, name)


def short_words(name: str) -> str:
    """What plots call a model.

    >>> short_words("road_length"), short_words("facts")
    ('length of roads', 'facts alone')
    """
    return SHORT.get(name, model_words(name))


def model_place(name: str) -> tuple[int, str]:
    """Where a model stands among others; those nobody knows come last, by name."""
    return (MODEL_ORDER.index(name) if name in MODEL_ORDER else len(MODEL_ORDER)), name


def measure_head(name: str) -> str:
    """Head of a measure's column.

    >>> measure_head("auroc"), measure_head("hit_rate_10"), measure_head("pai_5_road"), measure_head("mine")
    ('AUROC', 'hit rate 10 % of area', 'PAI 5 % of road', 'mine')
    """
    if name in MEASURES:
        return MEASURES[name].head
    for start, words in (("hit_rate_", "hit rate"), ("pai_", "PAI"), ("pei_", "PEI")):
        percent, _, road = name.removeprefix(start).partition("_")
        if name.startswith(start) and percent.isdigit() and road in ("", "road"):
            return f"{words} {percent} % of {road or 'area'}"
    if name.endswith("_calibrated"):
        return f"{measure_head(name.removesuffix('_calibrated'))}, calibrated"
    return name


def measure_place(name: str) -> tuple[int, str]:
    """Where a measure stands among others; those by share of area or road last, the smallest share first.

    >>> sorted(["hit_rate_10", "ece_calibrated", "hit_rate_5", "ece", "n"], key=measure_place)
    ['n', 'ece', 'ece_calibrated', 'hit_rate_5', 'hit_rate_10']
    """
    plain = name.removesuffix("_calibrated")
    place = list(MEASURES).index(plain) if plain in MEASURES else len(MEASURES)
    return place, re.sub(r"\d+", lambda found: found[0].zfill(3), name)


def less_is_better(name: str) -> bool:
    """Whether a lower number is the better one."""
    return (of := MEASURES.get(name.removesuffix("_calibrated"))) is not None and of.less_is_better


def number(value: float | int | None) -> str:
    """As the console writes measures; empty where not defined.

    >>> number(0.81249), number(1296), number(None)
    ('0.812', '1,296', '')
    """
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def signed(value: float) -> str:
    """A difference.

    >>> signed(0.0213), signed(-0.0001)
    ('+0.021', '0.000')
    """
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}"


def percent(share: float) -> str:
    """A share in whole per cent.

    >>> percent(0.4149)
    '41 %'
    """
    return f"{share * 100:.0f} %"


def chance(share: float) -> str:
    """A probability in whole per cent, never as a certainty, which no model has.

    >>> chance(0.414), chance(1.0), chance(0.001)
    ('41 %', 'over 99 %', 'under 1 %')
    """
    if share > 0.99:
        return "over 99 %"
    return "under 1 %" if share < 0.01 else percent(share)


def amount(value: float) -> str:
    """An amount of any size in few digits.

    >>> amount(1234.5), amount(0.12345), amount(3.0)
    ('1,234', '0.123', '3')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def metres(value: float) -> str:
    """A distance.

    >>> metres(250.01), metres(1500)
    ('250 m', '1.5 km')
    """
    return f"{value:,.0f} m" if value < 1000 else f"{value / 1000:.3g} km"


def listed(words: list[str]) -> str:
    """Words as a sentence lists them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def interval_words(ends: tuple[float, float] | None) -> str:
    """The 95 % interval in brackets; empty without one.

    >>> interval_words((0.78, 0.84))
    ' (95 % 0.780 to 0.840)'
    """
    return "" if ends is None else f" (95 % {ends[0]:.3f} to {ends[1]:.3f})"
