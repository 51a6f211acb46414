"""Baselines: what is simple and well known, on the same folds as a network.

Each is learned from a fold's training rows alone and says the fold's test rows in the task's own output:
logits, values or the log of expected counts, as a network does. Whatever is chosen (how strong a penalty, how
many leaves) is chosen in spatial folds inside the training rows.

Rows are taken in the order of their keys and columns in that of their names, since trees and solvers depend
on either in the last digits; and by one thread, since some thousand rows gain little from more, and lose much
where another program keeps them waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.baselines.boosting import GROWTHS, L2, LEAVES, RATE, TREES, boosted_outputs
from roadrisk.learning.baselines.pictured import PARTS, boosted_with_pictures, has_features
from roadrisk.learning.baselines.regression import PENALTIES, base_rate, number_outputs, regressed_outputs
from roadrisk.learning.baselines.spf import SpfFacts, spf_out_of_fold
from roadrisk.learning.baselines.stacking import Member, stacked, told_of_stack, unstackable
from roadrisk.learning.baselines.tuning import INNER_FOLDS, Learner, Sample, Tuned, chosen, inner_of, or_words
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import BLOCK_TILES, Folds
from roadrisk.learning.tasks import Task
from roadrisk.progress import Progress, silent

NAMES = (
    "base_rate",
    "road_length",
    "logistic",
    "regression",
    "spf",
    "spf_length",
    "boosting",
    "boosting_with_image",
    "stack",
)


@dataclass(frozen=True, eq=False)
class Baselines:
    """What baselines say of N tiles that they did not see.

    Parameters
    ----------
    outputs : by name, (N, K) each.
    told : how each came about: what was chosen from what, and which are not there.
    """

    outputs: dict[str, FloatArray]
    told: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class KnownAmounts:
    """What is known of N tiles besides their facts; None where nothing is.

    Parameters
    ----------
    road_m : (N,) metres of road, NaN where unknown.
    events : (N,) of the label window.
    threshold : events from which a tile is of the riskiest class, where classes are cut from counts.
    aadt : (N,) vehicles a day, NaN where unknown; None where volumes are of too little of the road.
    features : (N, D) of a frozen encoder, NaN in rows of tiles without a picture.
    """

    road_m: FloatArray | None = None
    events: FloatArray | None = None
    threshold: float | None = None
    aadt: FloatArray | None = None
    features: FloatArray | None = None

    def taken(self, rows: IntArray) -> KnownAmounts:
        """These rows in this order."""
        threshold = self.threshold
        arrays = {
            name: None if values is None else values[rows]
            for name, values in vars(self).items()
            if name != "threshold"
        }
        return KnownAmounts(threshold=threshold, **arrays)


NOTHING_KNOWN = KnownAmounts()


def baselines_out_of_fold(
    examples: Examples,
    folds: Folds,
    task: Task,
    seed: int,
    known: KnownAmounts = NOTHING_KNOWN,
    block: int = BLOCK_TILES,
    progress: Progress = silent,
) -> Baselines:
    """Every baseline of the first question, what a place never seen is like; none knows past events.

    - `base_rate` knows the training labels alone; `road_length` one number.
    - `logistic` (`regression` of other tasks): a logistic regression on the logarithms of the facts, of
      counts a negative binomial and of values a ridge regression.
    - `spf` or, without volumes, `spf_length`: a safety performance function.
    - `boosting`: scikit-learn's histogram gradient boosting on the facts; `boosting_with_image` on the
      principal components of a frozen encoder's features besides.
    - `stack`: the regression, boosting and a linear probe on frozen features, joined inside the training
      folds.

    Parameters
    ----------
    examples : all with a label.
    folds : of the same rows.
    known : of the same rows.
    block : side of the blocks of inner folds [tiles].
    """
    order = np.argsort(examples.key, kind="stable")
    examples, folds, known = examples.taken(order), folds.taken(order), known.taken(order)
    with threadpool_limits(limits=1):
        parts = [
            Baselines({"base_rate": _base_rates(examples, folds, task)}, ()),
            _road_length(known.road_m, examples, folds, task),
            _spf(known, examples, folds, task),
            _learned(known.features, examples, folds, task, seed, block, progress),
        ]
    outputs = {name: said for part in parts for name, said in part.outputs.items()}
    told = tuple(line for part in parts for line in part.told)
    back = np.argsort(order)
    return Baselines({name: outputs[name][back] for name in NAMES if name in outputs}, told)


def number_out_of_fold(amount: FloatArray, examples: Examples, folds: Folds, task: Task) -> FloatArray:
    """(N, K) said from one amount alone: a regression on the logarithm of its density.

    Parameters
    ----------
    amount : (N,) of each tile, such as metres of road; NaN where unknown.
    examples : all with a label.
    """
    order = np.argsort(examples.key, kind="stable")
    said = np.empty((len(examples), task.outputs))
    with threadpool_limits(limits=1):
        said[order] = _of_number(amount[order], examples.taken(order), folds.taken(order), task)
    return said


def _base_rates(examples: Examples, folds: Folds, task: Task) -> FloatArray:
    said = np.empty((len(examples), task.outputs))
    for k in range(folds.count):
        train, test = folds.train_rows(k), folds.test_rows(k)
        exposure = examples.exposure
        said[test] = base_rate(task, examples.label[train], exposure[train], exposure[test])
    return said


def _road_length(road_m: FloatArray | None, examples: Examples, folds: Folds, task: Task) -> Baselines:
    if road_m is None or len(np.unique(road_m[np.isfinite(road_m)])) < 2:
        return Baselines({}, ("road_length is not there: no lengths of road are known that differ",))
    return Baselines({"road_length": _of_number(road_m, examples, folds, task)}, ())


def _of_number(amount: FloatArray, examples: Examples, folds: Folds, task: Task) -> FloatArray:
    said = np.empty((len(examples), task.outputs))
    for k in range(folds.count):
        train, test = folds.train_rows(k), folds.test_rows(k)
        amounts = amount[train], amount[test]
        said[test] = number_outputs(task, examples.taken(train), examples.taken(test), amounts)
    return said


def _spf(amounts: KnownAmounts, examples: Examples, folds: Folds, task: Task) -> Baselines:
    """A safety performance function, by volume where enough of the road has one."""
    facts = None if amounts.road_m is None else SpfFacts(amounts.road_m, amounts.aadt)
    # a class without events has no threshold either, which is said
    events = examples.label if amounts.events is None else amounts.events
    threshold = None if amounts.events is None else amounts.threshold
    found = spf_out_of_fold(examples, folds, task, events, threshold, facts)
    outputs = {} if found.outputs is None else {found.name: found.outputs}
    return Baselines(outputs, found.told)


def _learned(
    features: FloatArray | None,
    examples: Examples,
    folds: Folds,
    task: Task,
    seed: int,
    block: int,
    progress: Progress,
) -> Baselines:
    """What is tuned in inner folds, and what joins it."""
    tuned, told = _tuned(task), list[str]()
    if not examples.columns and not examples.text_columns:
        names = ", ".join(one.name for one in tuned)
        return Baselines({}, (f"{names} and stack are not there: there are no facts",))
    sample = Sample(examples, np.empty((len(examples), 0)) if features is None else features)
    pictured = bool(has_features(sample.features).any())
    if not pictured:
        tuned = tuned[:2]
        told.append("boosting_with_image is not there: there are no frozen features of pictures")
    rows = [(folds.train_rows(k), folds.test_rows(k)) for k in range(folds.count)]
    inner = [inner_of(examples.taken(train), task, seed, block, folds.buffer) for train, _ in rows]
    why = unstackable(task, inner)
    told += [f"{one.name}: by least loss in {INNER_FOLDS} inner folds, of {one.grid}" for one in tuned]
    told.append(f"stack is not there: {why}" if why else told_of_stack(tuned[0].name, pictured))
    outputs = {name: np.empty((len(examples), task.outputs)) for name in (one.name for one in tuned)}
    if not why:
        outputs["stack"] = np.empty((len(examples), 1))
    for k, (train, test) in enumerate(rows):
        found = _of_fold(tuned, sample.taken(train), sample.taken(test), task, inner[k], stack=not why)
        for step, (name, said, note) in enumerate(found, start=1 + k * len(outputs)):
            outputs[name][test] = said
            told.append(f"{name}, fold {k + 1}: {note}")
            progress("baselines", step, folds.count * len(outputs), name)
    return Baselines(outputs, tuple(told))


def _of_fold(
    tuned: Sequence[Tuned], train: Sample, unseen: Sample, task: Task, inner: Folds | None, stack: bool
) -> Iterator[tuple[str, FloatArray, str]]:
    """Name, (n, K) outputs of the unseen tiles, and what was chosen, one after the other."""
    members: dict[str, Member] = {}
    for one in tuned:
        choice = chosen(one, train, task, inner)
        [said] = one.learner(task, train, unseen, [choice.choice])
        yield one.name, said, f"{choice.choice}{choice.note}"
        if stack and one.learner is not boosted_with_pictures:
            members[one.name] = Member(choice.out_of_fold, said[:, 0])
    if stack and inner is not None:
        joined, note = stacked(task, train, unseen, inner, members)
        yield "stack", joined[:, None], note


def _tuned(task: Task) -> tuple[Tuned, ...]:
    """The regression, boosting, and boosting that looks at pictures too."""
    grown = f"{or_words(TREES)} trees of {or_words(LEAVES)} leaves, rate {RATE:g}, l2 {L2:g}"
    return (
        Tuned(
            "logistic" if task.kind == "class" else "regression",
            _of_facts(regressed_outputs),
            PENALTIES,
            f"a penalty of {or_words(PENALTIES)}",
        ),
        Tuned(
            "boosting",
            _of_facts(boosted_outputs),
            GROWTHS,
            grown,
        ),
        Tuned(
            "boosting_with_image",
            boosted_with_pictures,
            GROWTHS,
            f"{grown}, on the facts and {PARTS} principal components of frozen features",
        ),
    )


def _of_facts(learner: Callable[[Task, Examples, Examples, Sequence[Any]], list[FloatArray]]) -> Learner:
    """The learner that looks at no pictures."""
    return lambda task, train, unseen, choices: learner(task, train.examples, unseen.examples, choices)
