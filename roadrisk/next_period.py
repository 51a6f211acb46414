"""The second question: the same places in the next period, by models fitted on the period before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from roadrisk.errors import ModelError
from roadrisk.features.windows import Window
from roadrisk.gathering import Gathered
from roadrisk.grid import FloatArray
from roadrisk.inputs import Tiles
from roadrisk.known_before import TwoWindows, periods_of_all, two_windows
from roadrisk.learning.baselines.past import (
    BOOSTING,
    REGRESSION,
    Inner,
    Prior,
    amount_outputs,
    count_outputs,
    density_outputs,
    prior,
    tuned_outputs,
)
from roadrisk.learning.baselines.regression import number_outputs
from roadrisk.learning.baselines.tuning import or_words
from roadrisk.learning.examples import Examples
from roadrisk.learning.judging.ceiling import ceiling_auroc
from roadrisk.learning.judging.empirical_bayes import consistency
from roadrisk.learning.judging.evaluation import Consistency, NextPeriod
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold
from roadrisk.learning.labels.amounts import EVENTS
from roadrisk.learning.loop.learner import Epoch
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.tasks import Task
from roadrisk.learning.validation import Training, fold_model, words_of
from roadrisk.periods import Periods

if TYPE_CHECKING:
    from roadrisk.comparing import Contestant

TOP_PERCENTS = (5, 10)  # of tiles that are called hot
WITH_PAST = "_with_past"
COMPARED_FROZEN = "_frozen"  # end of the name of a network beside the one that is asked for


@dataclass(frozen=True, eq=False)
class NextPeriodFound:
    """What models fitted on one window say of the next.

    Parameters
    ----------
    outcomes : of the judged window.
    found : every model is of fold 0: one that saw all the places, a period before.
    about : which windows.
    ceiling_auroc : of what is best known of each tile's expected count; None where counts do not tell it.
    before : (N,) the measure in the fitted window, in the order of what was learned.
    told : what whoever reads the scores should know.
    choices : what baselines chose from what.
    """

    outcomes: Outcomes
    found: OutOfFold
    about: NextPeriod
    ceiling_auroc: float | None
    before: FloatArray
    told: tuple[str, ...]
    choices: tuple[str, ...]


class _Said(NamedTuple):
    """What one model says: (N, K) of the judged window, and of the fitted one where that is compared."""

    name: str
    outputs: FloatArray
    first: FloatArray | None = None


def next_period(
    learned: Gathered,
    rivals: Sequence[Contestant],
    feeds: Mapping[bool, Sequence[ImageFeed | None]],
    training: Training,
) -> NextPeriodFound:
    """Every network and baseline fitted on the window before the label's, and judged on the label's.

    Networks and baselines without `_with_past` know nothing that is made from crashes. High risk begins at
    the same count in both windows. `past_counts` is the last window's count alone, `kernel_density` all
    earlier events smoothed, `empirical_bayes` all earlier counts of a tile with what its facts say of it.

    Parameters
    ----------
    learned : what the first question was asked of.
    rivals : the first is asked for.
    feeds : of the views, of pictures (False) and of a frozen encoder's features (True).
    training : of the first.

    Raises
    ------
    ModelError : a label that counts no dated events, too short a past, a window without events or with one
        class, or a loss that is not finite.
    """
    measure = learned.label.measure
    if measure is None:
        raise ModelError(
            f"{learned.tiles.path}: {learned.label.column} counts no events, so there is no next period to "
            "judge; learn a count of events, or classes that are cut from one"
        )
    periods = periods_of_all(learned.tiles, measure)
    order = np.argsort(learned.examples.key, kind="stable")
    back = np.argsort(order)
    windows = two_windows(learned, periods, training.settings, order)
    outcomes = learned.outcomes.taken(order)
    told = [*_told_of(periods), *windows.told, *_pictured_later(learned.tiles, rivals, periods.fitted)]
    inner = Inner(training.settings.seed, training.block, training.buffer)
    choices: list[str] = []
    expected = _expected(learned, windows, outcomes, inner, told)
    said = [
        *_of_past(learned.label.task, windows, outcomes, expected, told),
        *_of_facts(learned.label.task, windows, outcomes, inner, told, choices),
        *_of_networks(windows, rivals, feeds, training, told),
    ]
    about = NextPeriod(
        fitted=_iso(periods.fitted),
        judged=_iso(periods.judged),
        past_fitted=None if periods.past_fitted is None else _iso(periods.past_fitted),
        past_judged=_iso(periods.past_judged),
        tiles=len(outcomes),
        events=math.fsum(outcomes.events.tolist()),
        consistency=tuple(_consistencies(windows, outcomes, expected, said, rivals)),
    )
    return NextPeriodFound(
        outcomes=outcomes.taken(back),
        found=OutOfFold(np.zeros(len(back), np.int64), {one.name: one.outputs[back] for one in said}),
        about=about,
        ceiling_auroc=_ceiling(windows, outcomes, expected, training.settings.seed),
        before=windows.fitted.measure[back],
        told=tuple(dict.fromkeys(told)),
        choices=tuple(choices),
    )


class _Expected(NamedTuple):
    """What is expected of tiles by facts, and by the counts of so many periods besides."""

    alone: Prior
    known: Prior


def _expected(
    learned: Gathered, windows: TwoWindows, outcomes: Outcomes, inner: Inner, told: list[str]
) -> _Expected | None:
    """Expected counts of the judged window, as Empirical Bayes has them; None where there are none."""
    fitted, judged = windows.fitted, windows.judged
    missing = "empirical_bayes is not there: "
    if learned.label.unit != EVENTS or judged.past is None:
        told.append(f"{missing}{learned.label.measure} is no plain count of events")
        return None
    if not fitted.facts.columns and not fitted.facts.text_columns:
        told.append(f"{missing}there are no facts without crashes")
        return None
    counted = replace(fitted.facts, label=fitted.measure)
    alone = prior(counted, outcomes.road_m, inner)
    if alone is None:
        told.append(f"{missing}too few tiles or blocks to hold some out")
        return None
    # years differ in crashes everywhere: the past counts as many periods as it has times the fitted one's
    periods = math.fsum(judged.past.tolist()) / math.fsum(fitted.measure.tolist())
    told.append(
        f"empirical_bayes: {alone.told}; the events of all earlier days are {periods:.3g} times those of the "
        f"fitted window, and count as so many periods"
    )
    return _Expected(alone, alone.posterior(judged.past, periods))


def _of_past(
    task: Task, windows: TwoWindows, outcomes: Outcomes, expected: _Expected | None, told: list[str]
) -> Iterator[_Said]:
    """What the past of a place alone says."""
    fitted, judged = windows.fitted, windows.judged
    train, unseen = fitted.facts, judged.facts
    if windows.before is not None:
        said = amount_outputs(task, train, windows.before, unseen, fitted.measure)
        yield _Said("past_counts", said)
    if fitted.densities:
        said, best = density_outputs(task, train, fitted.densities, unseen, judged.densities)
        told.append(
            f"kernel_density: {windows.bandwidths[best]:g} tiles wide, of {or_words(windows.bandwidths)}"
            ", by the least loss on the fitted window"
        )
        yield _Said("kernel_density", said)
    if expected is not None:
        yield _Said("empirical_bayes", count_outputs(task, expected.known, outcomes.threshold))


def _of_facts(
    task: Task, windows: TwoWindows, outcomes: Outcomes, inner: Inner, told: list[str], choices: list[str]
) -> Iterator[_Said]:
    """Baselines on facts, with and without the past."""
    fitted, judged = windows.fitted, windows.judged
    road_m = outcomes.road_m
    if len(np.unique(road_m[np.isfinite(road_m)])) > 1:
        yield _Said("road_length", number_outputs(task, fitted.facts, judged.facts, (road_m, road_m)))
    if not any(end == "" for end, _, _ in _sides(windows)):
        told.append("models of facts without the past are not there: no fact is left that no crash made")
    for tuned in (REGRESSION, BOOSTING):
        name = "regression" if tuned is REGRESSION and task.kind != "class" else tuned.name
        for end, train, unseen in _sides(windows):
            said, choice = tuned_outputs(tuned, task, train, unseen, inner)
            choices.append(f"next period {name}{end}: {choice}")
            yield _Said(f"{name}{end}", said)


def _sides(windows: TwoWindows) -> Iterator[tuple[str, Examples, Examples]]:
    """End of a model's name, and its tiles of both windows: without the past and with it, as far as known."""
    fitted, judged = windows.fitted, windows.judged
    if fitted.facts.columns or fitted.facts.text_columns:
        yield "", fitted.facts, judged.facts
    if fitted.with_past is not None and judged.with_past is not None:
        yield WITH_PAST, fitted.with_past, judged.with_past


def _of_networks(
    windows: TwoWindows,
    rivals: Sequence[Contestant],
    feeds: Mapping[bool, Sequence[ImageFeed | None]],
    training: Training,
    told: list[str],
) -> Iterator[_Said]:
    """What each network says that learned from all tiles of the fitted window."""
    for rival in rivals:
        if rival.name.endswith(COMPARED_FROZEN):
            continue
        own = replace(training, settings=rival.settings)
        images = feeds[rival.architecture.frozen]
        sides = list(_sides(windows))
        if rival.architecture.facts is None:
            sides = [("", windows.fitted.facts, windows.judged.facts)]
        for end, train, unseen in sides:
            _make_ready(train, images, own)
            name = f"next period {rival.name}{end}"
            model, _, notes = fold_model(
                train, rival.architecture, images, own, name, 0, _told_epochs(name, own)
            )
            told += [f"{name}: {note}" for note in notes]
            first, said = (
                words_of(model, rival.architecture, tiles, images, own.fabric.device)
                for tiles in (train, unseen)
            )
            yield _Said(f"{rival.name}{end}", said, first)


def _make_ready(examples: Examples, images: Sequence[ImageFeed | None], training: Training) -> None:
    for view, feed in enumerate(images):
        if feed is not None:
            seen = examples.picture[:, view]
            with training.fabric.rank_zero_first():
                feed.ready(seen[seen >= 0], training.progress)


def _told_epochs(name: str, training: Training) -> Callable[[Epoch], None]:
    most = training.settings.epochs or 1
    return lambda epoch: training.progress(name, epoch.number, most, f"loss {epoch.loss:.3f}")


def _consistencies(
    windows: TwoWindows,
    outcomes: Outcomes,
    expected: _Expected | None,
    said: Sequence[_Said],
    rivals: Sequence[Contestant],
) -> Iterator[Consistency]:
    """How well rankings by each window's own counts, and by the network asked for, hold."""
    fitted, judged = windows.fitted.measure, windows.judged.measure
    ranked = [("past_counts", fitted, judged)]
    if expected is not None:
        first, later = (expected.alone.posterior(counts, 1.0).mean for counts in (fitted, judged))
        ranked.append(("empirical_bayes", first, later))
    ranked += [
        (one.name, one.first[:, 0], one.outputs[:, 0])
        for one in said
        if one.name == rivals[0].name and one.first is not None
    ]
    for name, first, later in ranked:
        for percent in TOP_PERCENTS:
            yield consistency(name, first, later, outcomes.events, percent)


def _ceiling(windows: TwoWindows, outcomes: Outcomes, expected: _Expected | None, seed: int) -> float | None:
    """AUROC of the best estimate of each tile's mean on counts simulated from it; None without counts."""
    if expected is None or outcomes.threshold is None:
        return None
    known = expected.known
    found = ceiling_auroc(windows.judged.measure, known.mean, known.k, outcomes.threshold, seed)
    return found if math.isfinite(found) else None


def _told_of(periods: Periods) -> list[str]:
    line = f"next period: fitted on {_words(periods.fitted)}, judged on {_words(periods.judged)}"
    if periods.past_fitted is not None:
        return [line]
    return [
        f"{line}; {periods.source} does not tell all of a window before that, so no model learns from the "
        "past: past_counts, kernel_density and models with the past are not there"
    ]


def _pictured_later(tiles: Tiles, rivals: Sequence[Contestant], fitted: Window) -> Iterator[str]:
    """Views whose pictures may show what the fitted window brought."""
    if not any(rival.architecture.views for rival in rivals):
        return
    for view in tiles.views:
        taken = tiles.frame.get(f"taken_last_{view.name}")
        later = 0 if taken is None else int((taken.dropna().astype(str) >= fitted[0].isoformat()).sum())
        if later:
            yield (
                f"next period, {view.name}: the picture of {later:,} tiles was taken after the fitted window "
                f"begins ({fitted[0]}); it may show what its crashes led to"
            )


def _words(window: Window) -> str:
    return f"{window[0]} to before {window[1]}"


def _iso(window: Window) -> tuple[str, str]:
    return window[0].isoformat(), window[1].isoformat()
