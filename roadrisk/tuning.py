"""`tune`: settings that do better, found by trying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from roadrisk.comparing import contestants, folds_of
from roadrisk.errors import ModelError, RoadriskError, UsageError
from roadrisk.files import digest_of, whole_file
from roadrisk.gathering import Gathered, gathered
from roadrisk.grid import IntArray
from roadrisk.inputs import tiles_at
from roadrisk.learning.folds import Folds, inner_folds
from roadrisk.learning.judging.measures import measures_of
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.pictures.weights import encoder_weights
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import Task
from roadrisk.learning.trials import Space, Tried, kept_trials
from roadrisk.learning.validation import Training, cross_validated
from roadrisk.progress import Progress, silent
from roadrisk.searching import changes, next_params, own_params, search_space
from roadrisk.training import feeds_of

INNER_FOLDS = 3


@dataclass(frozen=True)
class Tuned:
    """What `tune` found.

    Parameters
    ----------
    path : of the settings.
    trials : that were judged, those of earlier runs among them.
    failed : why others could not be judged, and how many for each reason.
    found : what differs from the settings that it started from.
    measure : that trials are judged by.
    inner, untouched : it, of the settings started from and of the best ones, on the inner folds and on tiles
        that the search never saw.
    """

    path: Path
    trials: int
    failed: Mapping[str, int]
    found: Mapping[str, Any]
    measure: str
    inner: tuple[float, float]
    untouched: tuple[float, float]

    def lines(self) -> list[str]:
        """For people: what was found, and how much it is worth."""
        best = ", ".join(f"{name} {value}" for name, value in self.found.items()) or "those it started from"
        return [
            f"{self.trials} trials judged",
            *(f"{count} failed: {why}" for why, count in self.failed.items()),
            f"best settings: {best}",
            f"{self.measure} in inner folds: {self.inner[0]:.3f} at first, {self.inner[1]:.3f} with the best "
            "(the best of many flatters itself)",
            f"{self.measure} on tiles that the search never saw: {self.untouched[0]:.3f} at first, "
            f"{self.untouched[1]:.3f} with the best",
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True, eq=False)
class Ground:
    """Tiles on which settings are tried.

    Parameters
    ----------
    paths : of the datasets or the table.
    start : settings that the search starts from.
    views : all of which pictures may be tried.
    read : what was gathered so far, by views and encoder.
    """

    paths: tuple[Path, ...]
    start: TrainSettings
    views: tuple[str, ...]
    progress: Progress
    read: dict[tuple[Any, ...], Gathered] = field(default_factory=dict)

    def gathered(self, settings: TrainSettings) -> Gathered:
        """The labelled tiles with the pictures of these views, as this encoder's are prepared."""
        which = settings.views, settings.encoder
        if which not in self.read:
            metros = [tiles_at(path, settings.views) for path in self.paths]
            self.read[which] = gathered(metros, resolved(settings))
        return self.read[which]

    @cached_property
    def known(self) -> Gathered:
        """The labelled tiles, with a buffer as wide as the widest reaching of all views needs."""
        return self.gathered(replace(self.start, views=self.views))

    @property
    def task(self) -> Task:
        """What is learned."""
        return self.known.label.task

    @cached_property
    def first(self) -> Folds:
        """The folds of `train`, whose first one's test tiles no trial sees."""
        return next(iter(folds_of(self.known, self.start).values()))

    @cached_property
    def inner(self) -> tuple[IntArray, Folds]:
        """The training rows of the first fold, and the folds among them that trials are judged on."""
        rows = self.first.train_rows(0)
        tiles, learned = self.known.examples.taken(rows), self.known
        return rows, inner_folds(
            tiles.key,
            tiles.row,
            tiles.col,
            learned.high[rows],
            INNER_FOLDS,
            self.start.seed,
            learned.block,
            learned.buffer,
        )

    @cached_property
    def untouched(self) -> tuple[IntArray, Folds]:
        """All rows; the first fold's tiles are tested, all others but for the buffer are learned from."""
        fold = np.where(self.first.fold == 0, 0, 1)
        return np.arange(len(fold)), replace(self.first, fold=fold, count=1)


def tune(
    data: Path | Sequence[Path],
    out: Path,
    settings: TrainSettings | None = None,
    trials: int = 30,
    search: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Tuned:
    """Search for settings and write the best as a file that `train --settings` takes.

    Trials are judged on spatial folds inside the training tiles of the first fold of `train`; the test
    tiles of that fold are never seen, and tell in the end what the search is worth. The first trial is of
    the settings started from. Each is kept beside `out` when it is done, and the best so far is in `out`, so
    a search that was stopped, or is asked for more trials, goes on as if it had not stopped.

    Parameters
    ----------
    data : datasets, or a table with `image_path`.
    trials : settings to judge, those of earlier runs among them.
    search : names of settings, `encoder` also with candidates (`encoder=basic+resnet50`); None for all that
        have a choice here.

    Raises
    ------
    RoadriskError : one line that says what is wrong, where, and what to do.
    """
    _check_installed()
    paths = (data,) if isinstance(data, Path) else tuple(data)
    start = replace(settings or TrainSettings(), quick=True, log=None)
    resolved(start)
    ground = Ground(paths, start, _views_of(paths, start), progress)
    space = search_space(start, ground.views, search)
    plan = digest_of([ground.known.tiles.identity, asdict(start), {n: repr(c) for n, c in space.items()}])
    with kept_trials(out, plan, space) as tried:
        while len(tried.all) < trials:
            tried.add(_trial(ground, space, tried.all))
            best = _best(tried.all, ground.task)
            if best is tried.all[-1]:
                _write_settings(_settings_of(best, start), out)
            progress("tune", len(tried.all), trials, f"best {best.value:.3f}")
    return _tuned(ground, out, tried.all)


def judge_of(task: Task) -> tuple[str, bool]:
    """The measure that settings are judged by, and whether more of it is better.

    >>> judge_of(Task())
    ('auroc_fold_mean', True)
    """
    if task.kind == "class":
        return ("auroc_fold_mean", True) if task.outputs == 1 else ("log_loss", False)
    return ("deviance", False) if task.kind == "count" else ("rmse", False)


def score_of(ground: Ground, settings: TrainSettings, where: tuple[IntArray, Folds]) -> float:
    """The measure of settings on the test tiles of some folds.

    Parameters
    ----------
    where : rows of the labelled tiles, and folds among them.

    Raises
    ------
    RoadriskError : they cannot be trained or judged.
    """
    rows, folds = where
    full, learned, known = resolved(settings), ground.gathered(settings), ground.known
    rival = contestants(full, learned)[0]
    encoder = encoder_weights(full)
    fabric = fabric_of(full)
    training = Training(full, fabric, known.block, known.buffer, encoder, progress=ground.progress)
    feeds = feeds_of(learned, (rival,), encoder, training)[rival.architecture.frozen]
    tiles = learned.examples.taken(rows)
    found = cross_validated(tiles, folds, rival.architecture, feeds, training, "trial")
    tested = np.flatnonzero(folds.fold < folds.count)
    measured = measures_of(learned.outcomes.taken(rows[tested]), found.outputs[tested], folds.fold[tested])
    measure = judge_of(rival.architecture.task)[0]
    value = measured[measure]
    if value is None:
        raise ModelError(
            f"{measure} is not defined on the tiles of the inner folds: they are too few or all alike, or "
            "what is said of them is without bounds; use more tiles, or start from other --settings"
        )
    return float(value)


def _trial(ground: Ground, space: Space, tried: Sequence[Tried]) -> Tried:
    """The next settings, judged; the first are those started from.

    Raises
    ------
    RoadriskError : those started from cannot be judged.
    """
    start, number = ground.start, len(tried)
    params = (
        next_params(space, tried, judge_of(ground.task)[1], start) if number else own_params(space, start)
    )
    tried_next = Tried(number, params)
    try:
        value = score_of(ground, _settings_of(tried_next, start), ground.inner)
    except RoadriskError as error:
        if number == 0:
            raise
        return replace(tried_next, failed=str(error))
    return replace(tried_next, value=value)


def _tuned(ground: Ground, out: Path, tried: Sequence[Tried]) -> Tuned:
    start, best = ground.start, _best(tried, ground.task)
    better = _settings_of(best, start)
    _write_settings(better, out)
    failed: dict[str, int] = {}
    for one in tried:
        if one.failed:
            failed[one.failed] = failed.get(one.failed, 0) + 1
    at_first = score_of(ground, start, ground.untouched)
    return Tuned(
        path=out,
        trials=len(tried) - sum(failed.values()),
        failed=failed,
        found={
            f.name: getattr(better, f.name)
            for f in fields(start)
            if getattr(better, f.name) not in (None, getattr(start, f.name))
        },
        measure=judge_of(ground.task)[0],
        inner=(_value(tried[0]), _value(best)),
        untouched=(at_first, at_first if best is tried[0] else score_of(ground, better, ground.untouched)),
    )


def _settings_of(tried: Tried, start: TrainSettings) -> TrainSettings:
    return replace(start, **changes(tried.params, start)) if tried.number else start


def _best(tried: Sequence[Tried], task: Task) -> Tried:
    """The best that was judged; the earlier one of two as good."""
    sign = -1.0 if judge_of(task)[1] else 1.0
    return min((one for one in tried if one.value is not None), key=lambda one: sign * _value(one))


def _value(tried: Tried) -> float:
    return float("nan") if tried.value is None else tried.value


def _views_of(paths: Sequence[Path], start: TrainSettings) -> tuple[str, ...]:
    """The views that are started from, then others that all datasets have."""
    if start.sees == "facts":
        return start.views
    datasets = [tiles_at(path, ()).dataset for path in paths]
    there = [[view.name for view in dataset.views] if dataset else [] for dataset in datasets]
    shared = [name for name in there[0] if all(name in names for names in there)]
    return (*start.views, *(name for name in shared if name not in start.views))


def _check_installed() -> None:
    if find_spec("optuna") is None:
        raise UsageError("tune needs the package optuna: pip install 'roadrisk[tune]'")


def _write_settings(settings: TrainSettings, out: Path) -> None:
    """Everything that is not a default, as TOML."""
    import tomli_w

    default = TrainSettings()
    told = {
        f.name: getattr(settings, f.name)
        for f in fields(settings)
        if f.name != "quick" and getattr(settings, f.name) != getattr(default, f.name)
    }
    with whole_file(out) as temporary:
        temporary.write_bytes(tomli_w.dumps(told).encode())
