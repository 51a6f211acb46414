"""`--robustness`: what of a model's word changes with choices that nobody can say are right.

Other tiles (the modifiable areal unit problem: Openshaw 1984), another cut of the label, fewer facts, no
picture; and whether it errs alike among rich and poor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from roadrisk.coarsening import coarser
from roadrisk.errors import ModelError, RoadriskError
from roadrisk.features.events import ENFORCEMENT
from roadrisk.features.labels import EVENTS, top_fifth_threshold
from roadrisk.gathering import Gathered, gathered
from roadrisk.grid import FloatArray, IntArray
from roadrisk.inputs import Tiles
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.calibration import leave_one_fold_out, logit_of_riskiest
from roadrisk.learning.judging.changed import Said, Trial, stability, trial
from roadrisk.learning.judging.fairness import CAVEAT, Quintile, quintiles, social_amounts
from roadrisk.learning.judging.importance import groups_of
from roadrisk.learning.judging.intervals import block_of
from roadrisk.learning.judging.measures import ranked_by
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.tasks import prediction
from roadrisk.progress import Progress, silent
from roadrisk.relearning import Learner, boosted, without_columns

STAGE = "robustness"
FACTOR = 2
BOOSTING = "boosting"
WIDER, NO_PICTURE, NO_CITATIONS = "tiles twice as wide", "picture removed", "citations removed"


@dataclass(frozen=True)
class Robustness:
    """What was tried, and how it came out.

    Parameters
    ----------
    said : lines on what could not be, and on what numbers mean.
    """

    trials: tuple[Trial, ...]
    quintiles: tuple[Quintile, ...]
    said: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people."""
        return [*map(str, self.trials), *map(str, self.quintiles), *self.said]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a model says of tiles that it did not see, and what is known of them."""

    learned: Gathered
    folds: Folds
    outputs: FloatArray

    @property
    def said(self) -> Said:
        """What trials are judged by."""
        learned = self.learned
        return Said(
            ranked_by(learned.label.task, self.outputs), learned.high, self.folds.fold, _block(learned)
        )


def robustness(
    learned: Gathered,
    settings: TrainSettings,
    folds: Folds,
    learner: Learner,
    name: str,
    progress: Progress = silent,
) -> Robustness:
    """How far a model's word depends on choices that could have been others.

    The first fits are timed, and progress then says how many minutes the others will take.

    Parameters
    ----------
    learned : tiles of a dataset or several, with facts, picture and label as the model had them.
    settings : of the model, resolved; with the inputs that were chosen, where that was left to it.
    folds : of the tiles, spatial where they have places.
    learner : as `network_learner` gives.
    name : of the model, as in `metrics`.
    """
    started = time.monotonic()
    own = _Asked(learned, folds, learner(learned, settings, folds, f"{STAGE} {name}"))
    asked_s = time.monotonic() - started
    jobs = _network_jobs(own, settings, learner, name, asked_s)
    if settings.sees != "image":
        on_facts = _Asked(learned, folds, boosted(learned, settings, folds, BOOSTING))
        jobs += _facts_jobs(on_facts, settings, time.monotonic() - started - asked_s)
    trials = [trial("as it is", name, own.said, settings.seed)]
    for done, job in enumerate(jobs):
        left_s = sum(later.seconds for later in jobs[done:])
        progress(STAGE, done, len(jobs), f"{job.name}, about {left_s / 60:.1f} min left")
        trials += _tried(job)
    progress(STAGE, len(jobs), len(jobs))
    amounts, said = social_amounts(learned.tiles.frame.iloc[learned.known], learned.tiles.columns)
    fifths = [
        fifth
        for by, amount in amounts.items()
        for fifth in quintiles(by, amount, *_observed_predicted(own), _block(learned), settings.seed)
    ]
    return Robustness(tuple(trials), tuple(fifths), (*said, *([CAVEAT] if fifths else [])))


class _Job(NamedTuple):
    """One change.

    Parameters
    ----------
    seconds : that it will take, about.
    """

    name: str
    model: str
    seconds: float
    trials: Callable[[], list[Trial]]


def _tried(job: _Job) -> list[Trial]:
    try:
        return job.trials()
    except RoadriskError as error:  # too few tiles of a kind or too few blocks, after a change
        return [Trial(job.name, job.model, note=str(error))]


def _network_jobs(
    own: _Asked,
    settings: TrainSettings,
    learner: Learner,
    name: str,
    seconds: float,
) -> list[_Job]:
    """Changes after which the model itself learns anew."""

    def again(change: str, learned: Gathered, settings: TrainSettings) -> list[Trial]:
        asked = _Asked(learned, own.folds, learner(learned, settings, own.folds, f"{STAGE} {change}"))
        return [trial(change, name, asked.said, settings.seed, own.said)]

    # two lattices of a quarter of the tiles
    wide = _Job(WIDER, name, seconds / 2, lambda: _wider(own, settings, learner, name))
    jobs = [wide]
    for step, change in ((1, "label cut one event higher"), (-1, "label cut one event lower")):
        jobs.append(_Job(change, name, seconds, partial(_recut, own.learned, settings, step, change, again)))
    if settings.sees == "both":
        alone = replace(settings, inputs="facts")
        jobs.append(_Job(NO_PICTURE, name, seconds, lambda: again(NO_PICTURE, own.learned, alone)))
    if settings.sees != "image":
        facts = own.learned.examples
        cited = {c.name for c in (*facts.columns, *facts.text_columns) if c.withheld == ENFORCEMENT}
        without = partial(_without_citations, own.learned, settings, cited, again)
        jobs.append(_Job(NO_CITATIONS, name, seconds if cited else 0.0, without))
    return jobs


def _facts_jobs(on_facts: _Asked, settings: TrainSettings, seconds: float) -> list[_Job]:
    """Each source of facts removed, for boosting, since that is quick."""
    learned = on_facts.learned

    def all_facts() -> list[Trial]:
        return [trial("all facts", BOOSTING, on_facts.said, settings.seed)]

    def without(change: str, columns: tuple[str, ...]) -> list[Trial]:
        fewer = replace(learned, examples=without_columns(learned.examples, set(columns)))
        if not fewer.examples.columns and not fewer.examples.text_columns:
            raise ModelError("there are no facts besides")
        asked = _Asked(fewer, on_facts.folds, boosted(fewer, settings, on_facts.folds, change))
        return [trial(change, BOOSTING, asked.said, settings.seed, on_facts.said)]

    jobs = [_Job("all facts", BOOSTING, 0.0, all_facts)]
    for group in groups_of(replace(learned.examples, views=())):
        change = f"facts of {group.name} removed"
        jobs.append(_Job(change, BOOSTING, seconds, partial(without, change, group.columns)))
    return jobs


Again = Callable[[str, Gathered, TrainSettings], list[Trial]]


def _without_citations(
    learned: Gathered, settings: TrainSettings, cited: set[str], again: Again
) -> list[Trial]:
    if not cited:
        raise ModelError("no citations are among the facts")
    fewer = replace(learned, examples=without_columns(learned.examples, cited))
    return again(NO_CITATIONS, fewer, settings)


def _recut(learned: Gathered, settings: TrainSettings, step: int, change: str, again: Again) -> list[Trial]:
    """The label cut so many events higher."""
    label = learned.label
    if label.task.kind != "class" or label.threshold is None or label.unit != EVENTS:
        raise ModelError("what is learned was not cut from events")
    t = label.threshold + step
    if t < 1:
        raise ModelError("high risk would be tiles without any event")
    values = np.where(np.isfinite(label.values), label.events >= t, np.nan)
    if len(np.unique(values[learned.known])) < 2:
        raise ModelError(f"all tiles would be of one class from {t:g} events on")
    cut = replace(
        learned,
        label=replace(label, values=values, threshold=t),
        examples=replace(learned.examples, label=values[learned.known]),
    )
    [found] = again(change, cut, settings)
    return [replace(found, note=f"{t:g} or more, {100 * float(cut.high.mean()):.1f} % of tiles")]


def _wider(own: _Asked, settings: TrainSettings, learner: Learner, name: str) -> list[Trial]:
    """Tiles twice as wide, compared with the model's own; and the same moved, compared with those."""
    before = np.full(len(own.learned.tiles), np.nan)
    before[own.learned.known] = own.said.order
    trials = []
    for shift, change in ((0, WIDER), (1, f"{WIDER}, moved by half a tile")):
        try:
            asked, after = _asked_of_cells(own.learned, settings, learner, shift, f"{STAGE} {change}")
        except RoadriskError as error:  # too few of them
            trials.append(Trial(change, name, note=str(error)))
            continue
        both = np.isfinite(before) & np.isfinite(after)
        trials.append(
            replace(
                trial(change, name, asked.said, settings.seed),
                **stability(before[both], after[both]),
                note=f"compared on {int(both.sum()):,} tiles",
            )
        )
        before = after
    return trials


def _asked_of_cells(
    learned: Gathered, settings: TrainSettings, learner: Learner, shift: int, name: str
) -> tuple[_Asked, FloatArray]:
    """What is said of larger tiles, and for each tile what orders the one that it lies in."""
    cells = coarser(learned.tiles, _measure(learned), FACTOR, shift)
    wide = gathered([cells.tiles], _settings_of(cells.tiles, learned, settings))
    if wide.holding_out is None:
        raise ModelError("larger tiles have no places")
    folds = wide.holding_out.plan.folds
    asked = _Asked(wide, folds, learner(wide, settings, folds, name))
    order = np.full(len(cells.tiles), np.nan)
    order[wide.known] = asked.said.order
    return asked, order[cells.cell]


def _measure(learned: Gathered) -> str:
    """The column that says of larger tiles what is learned.

    Raises
    ------
    ModelError : there is none.
    """
    label = learned.label
    if label.measure is None:
        raise ModelError("classes as they stand say nothing of larger tiles")
    return label.measure


def _settings_of(cells: Tiles, learned: Gathered, settings: TrainSettings) -> TrainSettings:
    """Settings that learn the same of larger tiles: of a class the top fifth of its measure."""
    measure = _measure(learned)
    names = {column.name for column in cells.columns}
    cut = None
    if learned.label.task.kind == "class":
        values = cells.frame[measure].to_numpy(dtype=np.float64)
        cut = top_fifth_threshold(values, cells.eligible, unit=learned.label.unit).t
    return replace(
        settings,
        label=measure,
        at_least=cut,
        positive=None,
        classes=None,
        features=None if settings.features is None else tuple(n for n in settings.features if n in names),
        exclude=tuple(name for name in settings.exclude if name in names),
    )


def _observed_predicted(own: _Asked) -> tuple[FloatArray, FloatArray]:
    """(N,) each: high risk and its chance, calibrated on other folds, or what is learned and what is said."""
    task, high = own.learned.label.task, own.learned.high
    if task.kind != "class":
        return own.learned.examples.label, prediction(task, own.outputs)
    return high, leave_one_fold_out(high, logit_of_riskiest(task, own.outputs), own.folds.fold)


def _block(learned: Gathered) -> IntArray | None:
    examples = learned.examples
    if examples.row is None or examples.col is None:
        return None
    return block_of(examples.row, examples.col, learned.block)
