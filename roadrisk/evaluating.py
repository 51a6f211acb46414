"""`evaluate`: what a model is worth, on its own training and where it never was."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from roadrisk.elsewhere import Elsewhere, judged_elsewhere, with_scores
from roadrisk.errors import LayerError, ModelError, UsageError
from roadrisk.files import whole_file
from roadrisk.gathering import Gathered, gathered
from roadrisk.inputs import Tiles, tiles_at
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.measured import legend, metrics_table
from roadrisk.learning.judging.told import evaluation_lines
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.model import Model, read_model
from roadrisk.learning.pictures.weights import encoder_weights
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.validation import Training
from roadrisk.metros import names_of
from roadrisk.progress import Progress, silent
from roadrisk.relearning import network_learner
from roadrisk.reporting.page import report_html
from roadrisk.reporting.pictures import place_pictures
from roadrisk.reporting.report import report_of
from roadrisk.reporting.robustness import robustness_tables
from roadrisk.robustness import Robustness
from roadrisk.robustness import robustness as robustness_of
from roadrisk.schema import settings_of
from roadrisk.scorable import called_as


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What `evaluate` found.

    Parameters
    ----------
    model : with the new scores among its own.
    report : the page that was written; None without one.
    robustness : None where it was not asked for.
    """

    path: Path
    model: Model
    report: Path | None
    told: tuple[str, ...] = ()
    robustness: Robustness | None = None

    @property
    def paths(self) -> list[Path]:
        """What was written."""
        return [self.report] if self.report else []

    def lines(self, verbose: bool = False) -> list[str]:
        """For people."""
        of = self.model
        return [
            of.provenance["label"]["meaning"],
            *self.told,
            *metrics_table(of.metrics, of.evaluation.intervals).lines(),
            legend(of.metrics),
            *evaluation_lines(of.metrics, of.evaluation, of.architecture.task, of.name, verbose),
            *(self.robustness.lines() if self.robustness else ()),
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "model": str(self.path),
            "metrics": self.model.metrics,
            "evaluation": asdict(self.model.evaluation),
            "told": list(self.told),
            "robustness": self.robustness.as_json() if self.robustness else None,
        }


def evaluate(
    model: Path,
    data: Sequence[Path] = (),
    report: Path | None = None,
    robustness: bool = False,
    device: str = "auto",
    progress: Progress = silent,
) -> Evaluated:
    """How good a model is: as `train` judged it and, of datasets given, on tiles that it never learned from.

    Tiles elsewhere are `metrics.metro`. The same tiles with a later label window are `metrics.temporal`: the
    same place, the next period.

    Parameters
    ----------
    data : datasets; of robustness the one that the model was trained on.
    report : HTML file to write.
    robustness : also try other choices, which trains models anew.

    Raises
    ------
    RoadriskError : one line that says what is wrong, where, and what to do.
    """
    trained = read_model(model)
    _check_report(report)
    names = [view.view for view in trained.architecture.views]
    tiles = [called_as(tiles_at(path, [name or "aerial" for name in names]), names) for path in data]
    for one, other in combinations(tiles, 2):
        if one.identity == other.identity:
            raise UsageError(f"{other.path} is {one.path} again; leave one out")
    learned_from = {one["identity"] for one in trained.provenance.get("datasets", ())}
    told: list[str] = []
    new = [one for one in tiles if one.identity not in learned_from]
    told += [
        f"{one.path} is what the model was trained on: how it scores out of fold stands below"
        for one in tiles
        if one.identity in learned_from
    ]
    if robustness and not any(one.identity in learned_from for one in tiles):
        raise UsageError("--robustness trains anew: give the DATASET that the model was trained on, too")
    found = {
        name: judged_elsewhere(trained, one, model, device, progress)
        for name, one in zip(names_of(new), new, strict=True)
    }
    told += [one.told for one in found.values()]
    trained = _with_scores(trained, found)
    tried = None
    if robustness:
        own = [one for one in tiles if one.identity in learned_from]
        tried = _robustness(trained, own, device, progress)
    if report is not None:
        keys = [place.key for place in trained.evaluation.places]
        pictures = {key: jpeg for one in tiles for key, jpeg in place_pictures(one, keys).items()}
        tables = robustness_tables(tried.trials, tried.quintiles, tried.said) if tried else ()
        _write_report(report_html(report_of(trained, pictures, tables)), report)
    return Evaluated(model, trained, report, tuple(told), tried)


def _check_report(report: Path | None) -> None:
    """Nothing, if the report can be written there; asked before the work that fills it."""
    if report is None:
        return
    if report.suffix != ".html":
        raise UsageError(f"-o {report}: the report is an .html file")
    if report.is_dir():
        raise UsageError(f"-o {report} is a folder; give the name of an .html file")
    if not report.parent.is_dir():
        raise UsageError(f"-o {report}: there is no folder {report.parent}")
    try:
        with tempfile.TemporaryFile(dir=report.parent):
            pass
    except OSError as error:
        raise _unwritable(report, error) from error


def _write_report(html: str, report: Path) -> None:
    try:
        with whole_file(report) as temporary:
            temporary.write_text(html, encoding="utf-8")
    except OSError as error:
        raise _unwritable(report, error) from error


def _unwritable(report: Path, error: OSError) -> LayerError:
    return LayerError(f"-o {report} cannot be written ({error.strerror}); free space or use another folder")


def _with_scores(model: Model, found: Mapping[str, Elsewhere]) -> Model:
    """The model with the scores on other tiles among its own; of several metros each under its name."""
    if not found:
        return model
    times = Counter(one.split for one in found.values())
    splits = {
        one.split if times[one.split] == 1 else f"{one.split} {name}": (one.outcomes, one.found)
        for name, one in found.items()
    }
    later = next((one.later for one in found.values() if one.later), None)
    return with_scores(model, splits, later)


def _robustness(model: Model, tiles: Sequence[Tiles], device: str, progress: Progress) -> Robustness:
    """What becomes of the model's scores where one choice is another; it is trained anew for each."""
    asked = {**model.provenance.get("settings", {}), "inputs": model.architecture.inputs, "device": device}
    settings = resolved(settings_of(TrainSettings, asked))
    learned = gathered(tiles, settings)
    encoder = encoder_weights(settings)
    training = Training(
        settings, fabric_of(settings), learned.block, learned.buffer, encoder, progress=progress
    )
    learner = network_learner(training)
    return robustness_of(learned, settings, _folds(learned), learner, model.name, progress)


def _folds(learned: Gathered) -> Folds:
    if learned.holding_out is None:
        raise ModelError("--robustness needs tiles whose places are known, for spatial folds")
    return learned.holding_out.plan.folds
