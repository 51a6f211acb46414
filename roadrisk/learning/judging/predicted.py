"""What a model says of tiles, as a layer carries it: each column with its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.columns import Column, word
from roadrisk.grid import FloatArray
from roadrisk.learning.tasks import Task, prediction, probabilities

Field = tuple[Column, pd.Series]  # of a layer, with its values


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model says of N tiles.

    Parameters
    ----------
    outputs : (N, K) as `tasks.said` gives them.
    dispersion : (N,) k of the negative binomial behind each expected count; None without one.
    trained : (M,) what was predicted of training tiles out of fold, in any order; only values use it.
    """

    task: Task
    outputs: FloatArray
    dispersion: FloatArray | None
    trained: FloatArray

    @property
    def order(self) -> FloatArray:
        """(N,) by which tiles are ranked, higher is riskier."""
        return prediction(self.task, self.outputs)

    @property
    def risk(self) -> FloatArray:
        """(N,) in [0, 1].

        Of classes the probability of the riskiest; of counts the chance of one event or more, 1 - exp(-mu) or
        1 - (1 + k mu)^(-1/k); of values the share of training tiles that are predicted to have less.

        >>> counted = Task("count", "negative-binomial", ())
        >>> Predicted(counted, np.zeros((1, 1)), np.ones(1), np.empty(0)).risk.tolist()
        [0.5]
        """
        if self.task.kind == "class":
            return self.order
        if self.task.kind == "count":
            log_none = -self.order
            if self.dispersion is not None:
                log_none = -np.log1p(self.dispersion * self.order) / self.dispersion
            return np.asarray(-np.expm1(log_none))
        below = np.searchsorted(np.sort(self.trained), self.order, side="left")
        return np.where(np.isnan(self.order), np.nan, below / max(len(self.trained), 1))


def predicted_fields(predicted: Predicted, origin: Mapping[str, Any]) -> list[Field]:
    """`risk`, and what else the task says: `expected`, `predicted`, or `class` and a probability for each.

    Parameters
    ----------
    origin : what `Label.as_json` gave; of an old model without unit and window.
    """
    task, column = predicted.task, origin["column"]
    if task.kind == "count":
        words = "The model's chance of one event or more in a window as long as the label's, from 0 to 1"
        expected = f"Events of {column} that the model expects in a window as long as the label's"
        more = [_field("expected", expected, predicted.order, _unit(origin))]
    elif task.kind == "value":
        words = f"Share of the training tiles for which the model says a lower {column}, from 0 to 1"
        more = [_field("predicted", f"The model's {column}", predicted.order, _unit(origin))]
    elif task.outputs == 1:
        words, more = "The model's probability of high risk, from 0 to 1", []
    else:
        words = f"The model's probability of {task.classes[-1]}, the riskiest class of {column}, from 0 to 1"
        more = _class_fields(task, column, predicted.outputs)
    calibrated = "" if task.kind == "value" else ", not calibrated"
    return [_field("risk", words + calibrated, predicted.risk), *more]


def risk_meaning(task: Task, origin: Mapping[str, Any]) -> str:
    """Two sentences for the reader of a layer: what its risk is, and what was learned."""
    if task.kind == "count":
        what = "Chance of one event or more in a window as long as the label's, as the model sees it"
    elif task.kind == "value":
        what = "Share of the training tiles for which the model says less"
    else:
        which = "high risk" if task.outputs == 1 else f"of class {task.classes[-1]}, the riskiest"
        what = f"Probability that a tile is {which}, as the model sees it"
    return f"{what}; an association, not a cause. {origin['meaning']}"


def observed_field(task: Task, origin: Mapping[str, Any], observed: FloatArray) -> Field:
    """`label` of classes, a boolean of two; `observed` of values and counts.

    Parameters
    ----------
    observed : (N,) index of the class, value or count; NaN where unknown.
    """
    known = np.isfinite(observed)
    if task.kind != "class":
        meaning = f"{origin['column']} as it was observed; empty where unknown."
        dates = tuple(origin["window"]) if origin.get("window") else None
        column = Column("observed", "float64", _unit(origin), "label", "none", meaning, window=dates)
        return column, pd.Series(np.where(known, observed, np.nan))
    column = Column("label", "object", "", "label", "none", "What was observed; empty where unknown.")
    index = np.where(known, observed, 0).astype(np.int64)
    if task.outputs == 1:
        return column, pd.Series(index == 1, dtype="boolean").where(pd.Series(known))
    return column, _names(task.classes, index).where(pd.Series(known), None)


def _class_fields(task: Task, column: str, outputs: FloatArray) -> list[Field]:
    """The likeliest class, and the probability of each."""
    chances = probabilities(task, outputs)  # (N, classes)
    known = pd.Series(np.isfinite(chances).all(axis=1))
    likeliest = _names(task.classes, chances.argmax(axis=1)).where(known, None)
    made = Column(
        "class", "object", "", "info", "none", f"The likeliest class of {column}; empty where not scored."
    )
    names = [word(one) for one in task.classes]
    if "" in names or len(set(names)) < len(names):
        names = [str(place) for place in range(len(names))]
    return [
        (made, likeliest),
        *(
            _field(
                f"probability_{name}", f"The model's probability of {one} in {column}, not calibrated", chance
            )
            for name, one, chance in zip(names, task.classes, chances.T, strict=True)
        ),
    ]


def _names(classes: tuple[str, ...], index: Any) -> pd.Series[Any]:
    return pd.Series(np.array(classes, dtype=object)[index], dtype=object)


def _field(name: str, words: str, values: FloatArray, unit: str = "") -> Field:
    meaning = f"{words}; empty where not scored."
    return Column(name, "float64", unit, "info", "none", meaning), pd.Series(values)


def _unit(origin: Mapping[str, Any]) -> str:
    return str(origin.get("unit") or "")
