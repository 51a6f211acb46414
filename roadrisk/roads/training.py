"""`roads train`: pictures whose roads are known become a model that draws roads, and how good it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roadrisk import __version__
from roadrisk.errors import ModelError
from roadrisk.files import digest_of
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.loop.learner import Epoch
from roadrisk.learning.loop.unfinished import unfinished
from roadrisk.progress import Progress, silent
from roadrisk.reporting.roads.page import road_report_html
from roadrisk.roads.drawing.drawn import from_level
from roadrisk.roads.judging.judged import ALL_ROAD, COLOUR, METHODS, MODEL
from roadrisk.roads.judging.measures import best_level, differences, scores, units_table
from roadrisk.roads.judging.tables import scores_table
from roadrisk.roads.learning.dealing import dealt
from roadrisk.roads.learning.fitting import loop_settings
from roadrisk.roads.learning.validating import Found, Learning, Taught, cross_validated, judge, taught
from roadrisk.roads.model import RoadArchitecture, RoadModel, write_road_model
from roadrisk.roads.scenes import RoadExamples
from roadrisk.roads.settings import RoadSettings
from roadrisk.roads.shown import road_report
from roadrisk.roads.sources.examples import examples_at

Metrics = dict[str, dict[str, Any]]
JUDGED_ON_WATCHED = "what the network was watched on, which also chose its level: too good a score"
MEASURES = ("iou", "f1", "relaxed_f1", "precision", "recall", "apls")


@dataclass(frozen=True, eq=False)
class TrainedRoads:
    """What `roads train` did."""

    path: Path
    model: RoadModel
    seconds: float

    def lines(self, verbose: bool = False) -> list[str]:
        """For people: what was learned from, and how good it is on pictures it did not see."""
        about = self.model.provenance
        said = [*about["told"], about["rule"]]
        said += scores_table(about["judged_on"], self.model.metrics, MEASURES).lines()
        said.append(_beside(self.model))
        for name, metrics in about["holdout"].items():
            said += scores_table(f"{name}, which nothing was learned from", metrics, MEASURES).lines()
        near = "3 px, as nothing says their size" if self.model.metres_per_pixel is None else "3 m"
        said.append(f"relaxed: road within {near} counts as found; apls: how well roads connect, like APLS")
        said.append(from_level(self.model.level))
        if verbose:
            said += [f"{name}: {len(epochs)} epochs" for name, epochs in about["epochs"].items()]
        return [*said, f"trained in {self.seconds / 60:.1f} minutes"]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"model": str(self.path), "metrics": self.model.metrics, "provenance": self.model.provenance}


def _beside(model: RoadModel) -> str:
    """How far the network is above the better of the two rules, on the same draws of blocks."""
    rule = max((ALL_ROAD, COLOUR), key=lambda name: model.metrics[name]["iou"]["value"] or 0.0)
    by = differences(model.units, MODEL, rule, "iou", model.provenance["settings"]["seed"])
    value, low, high = by["value"], by["low"], by["high"]
    said = "not defined" if value is None else f"{value:+.3f}"
    inside = "" if low is None else f" ({low:+.3f} to {high:+.3f})"
    return f"IoU of the network less that of {METHODS[rule]}: {said}{inside}"


def train(
    source: Path,
    out: Path,
    settings: RoadSettings | None = None,
    holdout: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> TrainedRoads:
    """Learn to draw roads and write the model.

    Networks of folds are judged on what they did not see; the one that is saved learns from all but what it
    is watched on.

    Parameters
    ----------
    source : a dataset with centre-lines or a mask view, or a folder of pictures with masks.
    out : folder of the model.
    holdout : another such source that is only judged, never learned from.
    resume : go on with a training that was interrupted, to the weights that it would have had.

    Raises
    ------
    RoadriskError : one line that says what is wrong, where, and what to do.
    """
    started, settings = time.monotonic(), settings or RoadSettings()
    if out.exists():
        raise ModelError(f"{out} exists; choose another -o, or remove it")
    fabric = fabric_of(loop_settings(settings))
    examples = examples_at(source, settings)
    unseen = examples_at(holdout, settings) if holdout is not None else None
    if unseen is not None:
        check_unseen(examples, unseen)
    units = dealt(examples, settings)
    with unfinished(out, resume, digest_of(examples.identity), fabric) as folder:
        learning = Learning(examples, units, settings, fabric, folder, progress)
        found, epochs = cross_validated(learning)
        last = taught(learning, None)
        epochs |= {last.name: last.fitted.epochs}
        level = best_level(found.histogram) if found.units else last.fitted.level
        if not found.units:
            judge(found, last, level, examples, units.parts(None)[1], 0, units.block, learning)
        model = _model(learning, last, level, found, epochs)
        if unseen is not None:
            model.provenance["holdout"][unseen.name] = _held_out(model, last, unseen, learning)
        write_road_model(model, out, road_report_html(road_report(model, examples, found, epochs)))
    examples.close()
    return TrainedRoads(out, model, time.monotonic() - started)


def _model(
    learning: Learning, last: Taught, level: int, found: Found, epochs: Mapping[str, tuple[Epoch, ...]]
) -> RoadModel:
    examples, settings = learning.examples, learning.settings
    table = units_table(found.units)
    folds = learning.dealt.count
    return RoadModel(
        architecture=RoadArchitecture(settings.decoder, settings.encoder, examples.bands, settings.shrink),
        mean=last.normal.mean,
        std=last.normal.std,
        level=level,
        metres_per_pixel=examples.metres_per_pixel,
        stretch=examples.stretch,
        state=last.fitted.state,
        metrics=scores(table, settings.seed),
        provenance={
            "source": examples.name,
            "identity": examples.identity,
            "settings": asdict(settings),
            "told": [*examples.told, f"a colour threshold: {last.rule}"],
            "rule": learning.dealt.rule,
            "judged_on": f"{folds} folds, each on what it did not see" if folds else JUDGED_ON_WATCHED,
            "holdout": {},
            "epochs": {name: [asdict(epoch) for epoch in each] for name, each in epochs.items()},
            "versions": {"roadrisk": __version__, "torch": str(torch.__version__), "numpy": np.__version__},
        },
        units=table,
    )


def check_unseen(examples: RoadExamples, unseen: RoadExamples) -> None:
    """Nothing, if nothing of it is learned from and its pictures are like those that are.

    Raises
    ------
    ModelError : it shares tiles with what is learned from or is the same, or has other bands or pixels.
    """
    wrong = unseen.kind.differences(examples.kind)
    if wrong:
        raise ModelError(
            f"--holdout {unseen.name} has other pictures than {examples.name}: {'; '.join(wrong)}; give "
            "pictures like those that are learned from"
        )
    both = set(unseen.content) & set(examples.content)
    if both or unseen.identity == examples.identity:
        count = len(both) or len(unseen)
        raise ModelError(
            f"--holdout {unseen.name}: {count:,} of its {len(unseen):,} units are learned from, too; give "
            "another place"
        )


def _held_out(model: RoadModel, last: Taught, unseen: RoadExamples, learning: Learning) -> dict[str, Metrics]:
    """How good the last network is on another source."""
    found, block = Found(), dealt(unseen, replace(learning.settings, quick=True)).block
    judge(found, last, model.level, unseen, np.arange(len(unseen)), 0, block, learning)
    unseen.close()
    return scores(units_table(found.units), learning.settings.seed)
