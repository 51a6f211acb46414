"""How good models are, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from roadrisk.plain_text import TextTable

Measures = Mapping[str, Any]
Ends = Mapping[str, tuple[float, float]]

CEILING = "ceiling_"
SHOWN = {
    "n": "tiles",
    "auroc": "AUROC",
    "auroc_fold_mean": "in folds",
    "auprc": "AP",
    "accuracy": "accuracy",
    "brier": "Brier",
    "ece": "ECE",
    "deviance": "deviance",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    "spearman": "Spearman",
    "hit_rate_10": "top 10 %",
}
MEANINGS = {
    "auroc": "how often a tile of high risk is ranked above another",
    "auroc_fold_mean": "the same among tiles of one fold",
    "auprc": "average precision",
    "accuracy": "share of tiles whose likeliest class is the observed one",
    "brier": "mean squared error of chances",
    "ece": "how far chances are from shares",
    "deviance": "mean Poisson deviance",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "share of variance that is explained",
    "spearman": "correlation of ranks",
    "hit_rate_10": "share of events in the riskiest tenth of the area",
}
CERTAIN = ("auroc", "deviance", "rmse")  # shown with an interval, the first of each task

# as `train` judges them, whatever the order in a file
SPLITS = {"spatial": "spatial", "random": "random", "temporal": "next period", "metro": "metro"}
NETWORKS = (
    "auto",
    "fused",
    "image",
    "facts",
    "fused_with_past",
    "facts_with_past",
    "fused_frozen",
    "image_frozen",
)
# from the plainest to the hardest to beat
BASELINES = (
    "base_rate",
    "road_length",
    "past_counts",
    "kernel_density",
    "logistic",
    "regression",
    "spf",
    "spf_length",
    "empirical_bayes",
    "logistic_with_past",
    "regression_with_past",
    "boosting",
    "boosting_with_past",
    "boosting_with_image",
    "stack",
)


class Shown(NamedTuple):
    """A column of the table: a metric, or the interval of one."""

    head: str
    metric: str
    interval: bool = False

    def cell(self, of: Measures, ends: Ends) -> str:
        """What stands in the row of these measures and intervals."""
        return _ends(ends.get(self.metric)) if self.interval else _number(of.get(self.metric))


def metrics_table(
    metrics: Mapping[str, Mapping[str, Measures]], intervals: Mapping[str, Mapping[str, Ends]] | None = None
) -> TextTable:
    r"""The measures that are there, a row a split and model, and last in each split its ceiling.

    The ceiling is the AUROC of the best estimate of each tile's mean: what luck leaves to be known.

    Parameters
    ----------
    metrics : `metrics[split][model][metric]`.
    intervals : of the same names, ends of the 95 % interval.

    Examples
    --------
    >>> of = {"fused": {"n": 1296, "auroc": 0.823, "ceiling_auroc": 0.9}}
    >>> ends = {"temporal": {"fused": {"auroc": (0.801, 0.845)}}}
    >>> print(*metrics_table({"temporal": of}, ends).lines(), sep="\n")
    how good it is on tiles it did not see
      folds        model    tiles  AUROC       95 %
      next period  fused    1,296  0.823  .801-.845
      next period  ceiling         0.900
    """
    intervals = intervals or {}
    columns = _columns(metrics, intervals)
    rows: list[tuple[str, ...]] = []
    for split in sorted(metrics, key=lambda name: _place(name, tuple(SPLITS))):
        models, said = metrics[split], SPLITS.get(split, split)
        for name in sorted(models, key=lambda name: _place(name, NETWORKS + BASELINES)):
            ends = intervals.get(split, {}).get(name, {})
            rows.append((said, name, *(column.cell(models[name], ends) for column in columns)))
        best = {
            name.removeprefix(CEILING): value
            for of in models.values()
            for name, value in of.items()
            if name.startswith(CEILING) and value is not None
        }
        if any(column.metric in best for column in columns):
            rows.append((said, "ceiling", *(column.cell(best, {}) for column in columns)))
    header = ("folds", "model", *(column.head for column in columns))
    return TextTable("how good it is on tiles it did not see", header, tuple(rows), header[2:])


def legend(metrics: Mapping[str, Mapping[str, Measures]]) -> str:
    """What the columns of `metrics_table` mean, in one line.

    >>> legend({"spatial": {"fused": {"n": 1296, "auprc": 0.4, "hit_rate_10": 0.2}}})
    'AP: average precision; top 10 %: share of events in the riskiest tenth of the area'
    """
    shown = [column.metric for column in _columns(metrics, {}) if column.metric in MEANINGS]
    return "; ".join(f"{SHOWN[metric]}: {MEANINGS[metric]}" for metric in shown)


def _columns(
    metrics: Mapping[str, Mapping[str, Measures]], intervals: Mapping[str, Mapping[str, Ends]]
) -> list[Shown]:
    """The metrics that are there, and after the first of a task its interval."""
    measured = [of for models in metrics.values() for of in models.values()]
    there = [key for key in SHOWN if any(of.get(key) is not None for of in measured)]
    known = {key for models in intervals.values() for ends in models.values() for key in ends}
    columns = []
    for key in there:
        # of three classes or more accuracy stands for it, that the table stays narrow
        if key != "ece" or "accuracy" not in there:
            columns.append(Shown(SHOWN[key], key))
        if key in CERTAIN and key in known:
            columns.append(Shown("95 %", key, interval=True))
    return columns


def _place(name: str, order: tuple[str, ...]) -> int:
    """Where a name stands; behind all others where it does not."""
    return order.index(name) if name in order else len(order)


def _number(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _ends(ends: tuple[float, float] | None) -> str:
    """As .801-.845: without the noughts, since there are many of them."""
    return "" if ends is None else "-".join(f"{end:.3f}".removeprefix("0") for end in ends)
