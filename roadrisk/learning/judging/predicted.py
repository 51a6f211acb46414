"""What a model says of tiles, as a layer carries it: each column with its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from roadrisk.columns import Column, word
from roadrisk.grid import FloatArray
from roadrisk.learning.judging.calibration import Calibration, logit_of_riskiest
from roadrisk.learning.judging.empirical_bayes import (
    Bounds,
    adjusted,
    count_interval,
    gamma_interval,
    passing_k,
)
from roadrisk.learning.tasks import Task, prediction, probabilities

Field = tuple[Column, pd.Series]  # of a layer, with its values


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model says of N tiles.

    Parameters
    ----------
    outputs : (N, K) as `tasks.said` gives them.
    dispersion : (N,) k of the negative binomial behind each expected count, NaN where unknown; None without.
    trained : (M,) what was predicted of training tiles out of fold, in any order; only values use it.
    calibration : of a class model; None where it has none.
    observed : (N,) events counted, NaN where unknown; None where the dispersion is not known out of fold, so
        that nobody can say what they are worth.
    lasting : share of the dispersion that stays with a place from one window to the next.
    """

    task: Task
    outputs: FloatArray
    dispersion: FloatArray | None
    trained: FloatArray
    calibration: Calibration | None = None
    observed: FloatArray | None = None
    lasting: float = 1.0

    @property
    def order(self) -> FloatArray:
        """(N,) by which tiles are ranked, higher is riskier; no calibration ties what the model does not."""
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
            if self.calibration is None:
                return self.order
            return self.calibration.probability(logit_of_riskiest(self.task, self.outputs))
        if self.task.kind == "count":
            return chance_of_any(self.order, 0.0 if self.dispersion is None else self.dispersion)
        below = np.searchsorted(np.sort(self.trained), self.order, side="left")
        return np.where(np.isnan(self.order), np.nan, below / max(len(self.trained), 1))


def chance_of_any(mean: FloatArray, k: ArrayLike) -> FloatArray:
    """(N,) chance of one event or more of a negative binomial, of a Poisson where k is 0.

    Parameters
    ----------
    mean : (N,) expected events.
    k : (N,) or one for all.

    Examples
    --------
    >>> chance_of_any(np.array([1.0, 1.0]), np.array([1.0, 0.0])).round(3).tolist()
    [0.5, 0.632]
    """
    k = np.broadcast_to(np.asarray(k, np.float64), mean.shape)
    fixed = k == 0
    log_none = np.where(fixed, -mean, -np.log1p(k * mean) / np.where(fixed, 1.0, k))
    return np.asarray(-np.expm1(log_none))


def predicted_fields(predicted: Predicted, origin: Mapping[str, Any]) -> list[Field]:
    """`risk` with its ends where they are known, and what else the task says.

    `predicted` of a value; `class` and a probability for each of several; of counts `expected`, and where the
    dispersion is known out of fold its ends, those of the next count, the Empirical Bayes estimate and its
    excess.

    Parameters
    ----------
    origin : what `Label.as_json` gave; of an old model without unit and window.
    """
    task, column = predicted.task, origin["column"]
    if task.kind == "count":
        return _count_fields(predicted, column, _unit(origin))
    if task.kind == "value":
        words = f"Share of the training tiles for which the model says a lower {column}, from 0 to 1"
        said = _field("predicted", f"The model's {column}", predicted.order, _unit(origin))
        return [_field("risk", words, predicted.risk), said]
    which = "high risk" if task.outputs == 1 else f"{task.classes[-1]}, the riskiest class of {column}"
    words = f"The model's probability of {which}, from 0 to 1, {_calibrated(predicted)}"
    fields = [_field("risk", words, predicted.risk), *_model_spread(predicted)]
    return fields if task.outputs == 1 else [*fields, *_class_fields(predicted, column)]


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


def _calibrated(predicted: Predicted) -> str:
    if predicted.calibration is None:
        return "not calibrated"
    how = {"platt": "Platt", "isotonic": "isotonic regression"}[predicted.calibration.method]
    return f"calibrated on tiles that its models did not see ({how})"


def _model_spread(predicted: Predicted) -> list[Field]:
    """Where other models would have put the risk."""
    calibration = predicted.calibration
    ends = calibration and calibration.model_spread(logit_of_riskiest(predicted.task, predicted.outputs))
    if not ends:
        return []
    words = (
        "end of the middle 90 % of what other draws of blocks and other fold models would say of risk: model "
        "spread, not an interval that holds the truth 9 times in 10"
    )
    return [_field("risk_low", f"Low {words}", ends[0]), _field("risk_high", f"High {words}", ends[1])]


def _count_fields(predicted: Predicted, column: str, unit: str) -> list[Field]:
    """What is expected; where the dispersion is known out of fold, how sure that is and what counts add."""
    mean, k, count = predicted.order, predicted.dispersion, predicted.observed
    window = "in a window as long as the label's"
    words = f"The model's chance of one event or more {window}, from 0 to 1"
    risk = _field("risk", f"{words}, not calibrated", predicted.risk)
    expected = _field("expected", f"Events of {column} that the model expects {window}", mean, unit)
    if count is None or k is None:
        return [risk, expected]
    stays = predicted.lasting
    prior = gamma_interval(np.full(len(mean), np.nan), mean, k, lasting=stays)
    chances = Bounds(*(chance_of_any(end, passing_k(k, stays)) for end in prior))
    found, own = adjusted(count, mean, k, lasting=stays), gamma_interval(count, mean, k, lasting=stays)
    after = count_interval(mean, k, count, lasting=stays)
    eb, low, high, excess = np.where(
        np.isfinite(count), [found.expected, own.low, own.high, found.excess], np.nan
    )
    how = "negative binomial with the dispersion of tiles that its models did not see"
    places = "of what places that the model says the same of have in the long run"
    both = f"Events {window} after the model and the count observed there (Empirical Bayes)"
    worse = "eb less expected: above 0 where a place is worse than its like"
    unseen = "not scored or not observed"
    return [
        _field("risk", f"{words}: {how}", predicted.risk),
        *_ends("risk", "of that chance, at the ends of expected", chances),
        expected,
        *_ends("expected", places, prior, unit),
        _field("eb", both, eb, unit, unseen),
        *_ends("eb", "of eb", Bounds(low, high), unit, unseen),
        _field("excess", worse, excess, unit, unseen),
        *_ends("next", f"of events that will be counted {window}", after, unit),
    ]


def _ends(
    name: str, words: str, ends: Bounds, unit: str = "", empty: str = "not scored"
) -> tuple[Field, Field]:
    said = f"end of the middle 90 % {words}"
    low = _field(f"{name}_low", f"Low {said}", ends.low, unit, empty)
    return low, _field(f"{name}_high", f"High {said}", ends.high, unit, empty)


def _class_chances(predicted: Predicted) -> FloatArray:
    """(N, classes) chance of each of several classes.

    That of the riskiest is calibrated where the model is; the others share what it leaves as the model shares
    it among them.
    """
    if predicted.calibration is None:
        return probabilities(predicted.task, predicted.outputs)
    risk = predicted.risk[:, np.newaxis]
    # anew from their logits: what the model leaves them may be too little to divide by
    others = probabilities(predicted.task, predicted.outputs[:, :-1])  # (N, classes - 1)
    return np.hstack([(1 - risk) * others, risk])


def _class_fields(predicted: Predicted, column: str) -> list[Field]:
    """The likeliest class, and the probability of each."""
    classes, chances = predicted.task.classes, _class_chances(predicted)  # (N, classes)
    known = pd.Series(np.isfinite(chances).all(axis=1))
    likeliest = _names(classes, chances.argmax(axis=1)).where(known, None)
    made = Column(
        "class", "object", "", "info", "none", f"The likeliest class of {column}; empty where not scored."
    )
    names = [word(one) for one in classes]
    if "" in names or len(set(names)) < len(names):
        names = [str(place) for place in range(len(names))]
    how = [*["not calibrated"] * (len(classes) - 1), _calibrated(predicted)]
    return [
        (made, likeliest),
        *(
            _field(f"probability_{name}", f"The model's probability of {one} in {column}, {said}", chance)
            for name, one, said, chance in zip(names, classes, how, chances.T, strict=True)
        ),
    ]


def _names(classes: tuple[str, ...], index: Any) -> pd.Series[Any]:
    return pd.Series(np.array(classes, dtype=object)[index], dtype=object)


def _field(name: str, words: str, values: FloatArray, unit: str = "", empty: str = "not scored") -> Field:
    meaning = f"{words}; empty where {empty}."
    return Column(name, "float64", unit, "info", "none", meaning), pd.Series(values)


def _unit(origin: Mapping[str, Any]) -> str:
    return str(origin.get("unit") or "")
