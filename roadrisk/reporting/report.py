"""What a report tells of, and how a model becomes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.grid import IntArray
from roadrisk.learning.judging.calibration import Calibration
from roadrisk.learning.judging.dispersion import Dispersion
from roadrisk.learning.judging.evaluation import Evaluation
from roadrisk.learning.tasks import Task
from roadrisk.plain_text import TextTable
from roadrisk.reporting.words import Measures, model_place

if TYPE_CHECKING:
    from roadrisk.learning.model import Model

SPLIT_ORDER = ("spatial", "random", "temporal", "metro")
# by which models of a task are compared
HEADLINES = {
    "class": ("auroc_fold_mean", "auroc"),
    "count": ("spearman", "deviance"),
    "value": ("spearman", "r2"),
}


@dataclass(frozen=True, eq=False)
class FoldMap:
    """Which fold tested each tile of one dataset.

    Parameters
    ----------
    name : of the dataset.
    row, col : (N,) absolute place on the lattice, row 0 north.
    fold : (N,).
    """

    name: str
    row: IntArray
    col: IntArray
    fold: IntArray


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the report shows.

    Parameters
    ----------
    name : of what was learned from.
    model : the one that the report is about, as `metrics` names it.
    metrics : `metrics[split][model][metric]`.
    provenance : as `model.json` keeps it.
    columns : facts that the model was offered.
    folds : a map for each dataset whose tiles have places.
    calibration : of a class model; None where it is not calibrated.
    dispersion : of a count model; None of others.
    pictures : JPEG of a tile's view, by (key, view).
    robustness : tables of what happens where one choice is another.
    """

    name: str
    model: str
    task: Task
    metrics: Mapping[str, Mapping[str, Measures]]
    evaluation: Evaluation
    provenance: Mapping[str, Any]
    columns: tuple[Column, ...] = ()
    folds: tuple[FoldMap, ...] = ()
    calibration: Calibration | None = None
    dispersion: Dispersion | None = None
    pictures: Mapping[tuple[str, str], bytes] = field(default_factory=dict)
    robustness: tuple[TextTable, ...] = ()

    @property
    def split(self) -> str:
        """The one whose scores are quoted: spatial folds where there are any."""
        known = [split for split in SPLIT_ORDER if self.metrics.get(split)]
        return known[0] if known else ""

    def models(self, split: str) -> list[str]:
        """Of a split: the report's own, then others in the order of tables."""
        return sorted(
            self.metrics.get(split, {}), key=lambda name: (name != self.own(split), model_place(name))
        )

    def own(self, split: str) -> str:
        """The report's model in a split; in the next period it may know the past."""
        with_past = f"{self.model}_with_past"
        return with_past if with_past in self.metrics.get(split, {}) else self.model

    def value(self, split: str, model: str, metric: str) -> float | None:
        """A measure; None where not defined."""
        found = self.metrics.get(split, {}).get(model, {}).get(metric)
        return None if found is None else float(found)

    def ends(self, split: str, model: str, metric: str) -> tuple[float, float] | None:
        """Its 95 % interval; None without one."""
        return self.evaluation.intervals.get(split, {}).get(model, {}).get(metric)

    def headline(self, split: str) -> str:
        """The measure by which the models of a split are compared; empty without one."""
        models = self.metrics.get(split, {}).values()
        for metric in HEADLINES[self.task.kind]:
            if any(of.get(metric) is not None for of in models):
                return metric
        return ""


def report_of(
    model: Model,
    pictures: Mapping[tuple[str, str], bytes] | None = None,
    robustness: Sequence[TextTable] = (),
) -> Report:
    """The report of a model.

    Parameters
    ----------
    pictures : as `place_pictures` makes them.
    robustness : tables of what happens where one choice is another.
    """
    datasets = [str(one["name"]) for one in model.provenance.get("datasets", [])]
    return Report(
        name=", ".join(datasets),
        model=model.name,
        task=model.architecture.task,
        metrics=dict(sorted(model.metrics.items(), key=lambda of: _split_place(of[0]))),
        evaluation=model.evaluation,
        provenance=model.provenance,
        columns=model.columns,
        folds=fold_maps(model.out_of_fold, model.split, model.name, model.provenance),
        calibration=model.calibration,
        dispersion=model.dispersion,
        pictures=pictures or {},
        robustness=tuple(robustness),
    )


def _split_place(split: str) -> tuple[int, str]:
    """Where a split stands among others, however a file orders them."""
    return (SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER)), split


def fold_maps(
    out_of_fold: pd.DataFrame, split: str, name: str, provenance: Mapping[str, Any]
) -> tuple[FoldMap, ...]:
    """A map of the folds of a split for each dataset; none where tiles have no place.

    Parameters
    ----------
    out_of_fold : as `predictions_table` makes it; of older formats without `row` and `col`.
    name : of the model whose rows are looked at, since all have the same folds.
    """
    if split == "random" or not {"row", "col"} <= set(out_of_fold):
        return ()
    own = out_of_fold[(out_of_fold["split"] == split) & (out_of_fold["model"] == name)]
    own = own[own["row"].notna() & own["col"].notna()]
    names = {str(one["identity"]): str(one["name"]) for one in provenance.get("datasets", [])}
    return tuple(
        FoldMap(
            names.get(str(identity), str(identity)[:16]),
            *(part[column].to_numpy(np.int64) for column in ("row", "col", "fold")),
        )
        for identity, part in own.groupby("dataset", sort=True)
    )
