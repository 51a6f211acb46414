"""How good models are, as a table for people."""

from __future__ import annotations

from typing import Any

from roadrisk.plain_text import TextTable

SHOWN = {
    "n": "tiles",
    "auroc": "AUROC",
    "auroc_fold_mean": "within folds",
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


def metrics_table(metrics: dict[str, dict[str, dict[str, Any]]]) -> TextTable:
    """The measures that are there, a row a split and model.

    Parameters
    ----------
    metrics : `metrics[split][model][metric]`.
    """
    found = [(split, name, of) for split, models in metrics.items() for name, of in models.items()]
    there = {key: head for key, head in SHOWN.items() if any(of.get(key) is not None for *_, of in found)}
    rows = tuple((split, name, *(_number(of.get(key)) for key in there)) for split, name, of in found)
    header = ("folds", "model", *there.values())
    return TextTable("how good it is on tiles it did not see", header, rows, header[2:])


def _number(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
