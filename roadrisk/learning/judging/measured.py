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

# as `train` judges them, whatever the order in a file
SPLITS = ("spatial", "random", "metro")
NETWORKS = ("fused", "image", "facts", "fused_frozen", "image_frozen")
BASELINES = ("base_rate", "road_length", "logistic", "regression", "boosting")


def metrics_table(metrics: dict[str, dict[str, dict[str, Any]]]) -> TextTable:
    """The measures that are there, a row a split and model.

    Parameters
    ----------
    metrics : `metrics[split][model][metric]`.
    """
    found = [
        (split, name, models[name])
        for split, models in sorted(metrics.items(), key=lambda item: _place(item[0], SPLITS))
        for name in sorted(models, key=lambda name: _place(name, NETWORKS + BASELINES))
    ]
    there = {key: head for key, head in SHOWN.items() if any(of.get(key) is not None for *_, of in found)}
    rows = tuple((split, name, *(_number(of.get(key)) for key in there)) for split, name, of in found)
    header = ("folds", "model", *there.values())
    return TextTable("how good it is on tiles it did not see", header, rows, header[2:])


def _place(name: str, order: tuple[str, ...]) -> int:
    """Where a name stands; behind all others where it does not."""
    return order.index(name) if name in order else len(order)


def _number(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
