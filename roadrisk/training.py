"""`train`: tiles with a label become a model, and a word on how good it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roadrisk import __version__
from roadrisk.assessing import Assessment, assessed
from roadrisk.comparing import Comparison, Contestant, compared, contestants
from roadrisk.errors import ModelError
from roadrisk.files import digest_of
from roadrisk.gathering import Gathered, gathered
from roadrisk.holding_out import check_judgeable, held_out, metro_to_judge
from roadrisk.inputs import tiles_at
from roadrisk.learning.facts.choosing import asked_for
from roadrisk.learning.judging.measured import legend, metrics_table
from roadrisk.learning.judging.told import evaluation_lines
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.loop.unfinished import unfinished
from roadrisk.learning.model import Model, Split, write_model
from roadrisk.learning.pictures.feeds import ImageFeed, training_feed
from roadrisk.learning.pictures.weights import State, encoder_weights, weights_identity
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.validation import Training
from roadrisk.progress import Progress, silent
from roadrisk.reporting.page import report_html
from roadrisk.reporting.pictures import place_pictures
from roadrisk.reporting.report import report_of


@dataclass(frozen=True, eq=False)
class Trained:
    """What `train` did.

    Parameters
    ----------
    first : whether this process is the one that writes and tells, of several that torchrun started.
    """

    path: Path
    model: Model
    seconds: float
    first: bool = True

    def lines(self, verbose: bool = False) -> list[str]:
        """For people: what was learned from, and how good it is on tiles it did not see."""
        about = self.model.provenance
        said = [
            about["label"]["meaning"],
            _learned_from(about),
            f"facts: {', '.join(about['facts']) or 'none'}",
            *about["warnings"],
            *(f"left out: {line}" for line in _by_reason(about["left_out"])),
            *_by_reason(about["asked_for"]),
            *about["notes"],
            *(about["choices"] if verbose else ()),
            *metrics_table(self.model.metrics, self.model.evaluation.intervals).lines(),
            legend(self.model.metrics),
            *evaluation_lines(
                self.model.metrics,
                self.model.evaluation,
                self.model.architecture.task,
                self.model.name,
                verbose,
            ),
        ]
        return [*said, f"trained in {self.seconds / 60:.1f} minutes"]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"model": str(self.path), "metrics": self.model.metrics, "provenance": self.model.provenance}


def train(
    data: Path | Sequence[Path],
    out: Path,
    settings: TrainSettings | None = None,
    holdout: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Trained:
    """Learn risk from labelled tiles and write the model.

    Spatial folds judge it and are what is saved; random folds stand beside them. A table without places
    has random folds only.

    Parameters
    ----------
    data : datasets, or a table with `image_path`.
    out : folder of the model.
    holdout : a metro that is only judged, never learned from.
    resume : go on with a training that was interrupted, to the weights that it would have had.

    Raises
    ------
    RoadriskError : one line that says what is wrong, where, and what to do.
    """
    started = time.monotonic()
    settings = resolved(settings or TrainSettings())
    if out.exists():
        raise ModelError(f"{out} exists; choose another -o, or remove it")
    fabric = fabric_of(settings)
    paths = [data] if isinstance(data, Path) else list(data)
    metros = [tiles_at(path, settings.views) for path in paths]
    unseen = metro_to_judge(holdout, metros, settings) if holdout is not None else None
    learned = gathered(metros, settings, unseen)
    if unseen is not None:
        check_judgeable(unseen, learned)
    encoder = encoder_weights(settings)
    rivals = contestants(settings, learned)
    pictures = weights_identity(encoder) if encoder else None
    plan = digest_of([[metro.identity for metro in metros], pictures])
    with unfinished(out, resume, plan, fabric) as checkpoints:
        training = Training(
            settings,
            fabric,
            learned.block,
            learned.buffer,
            encoder,
            checkpoints,
            out.with_name(out.name + ".log"),
            progress,
        )
        feeds = feeds_of(learned, rivals, encoder, training)
        comparison = compared(learned, rivals, feeds, training)
        assessment = assessed(learned, rivals, comparison, feeds, training)
        model = _model(learned, assessment, comparison, encoder, settings)
        if unseen is not None:
            model = held_out(model, learned, rivals, comparison, unseen, encoder, training)
        if fabric.is_global_zero:
            seen = place_pictures(learned.tiles, [place.key for place in model.evaluation.places])
            write_model(model, out, report_html(report_of(model, seen)))
    return Trained(out, model, time.monotonic() - started, fabric.is_global_zero)


def feeds_of(
    learned: Gathered, rivals: Sequence[Contestant], encoder: State | None, training: Training
) -> dict[bool, list[ImageFeed | None]]:
    """Feeds of the views, of a frozen encoder's features (True) and of pictures (False), as rivals need."""
    settings = training.settings
    needed = {rival.architecture.frozen for rival in rivals if rival.architecture.views}
    return {
        frozen: [
            training_feed(
                pictures,
                preparation,
                settings.encoder,
                encoder if frozen else None,
                settings.augment,
                training.fabric.device,
            )
            if pictures
            else None
            for pictures, preparation in zip(learned.examples.pictures, learned.pictures, strict=True)
        ]
        if frozen in needed
        else []
        for frozen in (False, True)
    }


def _model(
    learned: Gathered,
    assessment: Assessment,
    comparison: Comparison,
    encoder: State | None,
    settings: TrainSettings,
) -> Model:
    kept = assessment.kept
    architecture, examples = kept.architecture, learned.examples
    split: Split = "spatial" if "spatial" in comparison.networks else "random"
    models = comparison.networks[split][kept.name].models
    dropped = dict(models[0].preparation.dropped)
    columns = learned.columns if architecture.facts is not None else ()
    return Model(
        architecture=architecture,
        pictures=learned.pictures if architecture.views else (),
        columns=columns,
        neighbourhood=settings.neighbourhood,
        split=split,
        fold_models=models,
        encoder=encoder if architecture.frozen else None,
        metrics=assessment.metrics,
        provenance={
            **_provenance(learned, kept.settings, encoder),
            "settings": asdict(settings),
            "notes": [*comparison.notes, *assessment.notes],
            "choices": list(assessment.choices),
            "facts": [
                c.name
                for c in (*examples.columns, *examples.text_columns)
                if columns and c.name not in dropped
            ],
            "left_out": {**learned.left_out, **dropped},
            "asked_for": {
                name: why
                for name, why in asked_for(columns, learned.tiles.columns, learned.label).items()
                if name not in dropped
            },
        },
        out_of_fold=assessment.predictions,
        calibration=assessment.calibration,
        dispersion=assessment.dispersion,
        evaluation=assessment.evaluation,
    )


def _provenance(learned: Gathered, settings: TrainSettings, encoder: State | None) -> dict[str, Any]:
    tiles, examples = learned.tiles, learned.examples
    views = tiles.views if settings.sees != "facts" else ()
    return {
        "datasets": [{"name": t.name, "identity": t.identity} for t in tiles.metros or (tiles,)],
        "tiles": len(examples),
        "high_risk_tiles": int(learned.high.sum()),
        "tiles_with_image": int(examples.has_image.sum()),
        "label": learned.label.as_json(),
        "windows": {name: list(window) for name, window in tiles.windows.items()},
        "cell_m": tiles.cell_m,
        "views": [view.name for view in views],
        "metres_per_pixel": {v.name: v.metres_per_pixel for v in views if v.metres_per_pixel is not None},
        "stretches": {v.name: v.stretch for v in views if v.stretch},
        "warnings": [
            said
            for said in (*tiles.warnings, *learned.label.told)
            if not any(said.startswith(f"{v}: ") for v in _other_views(learned))
        ],
        "block_tiles": learned.block or None,
        "buffer_tiles": learned.buffer or None,
        "settings": asdict(settings),
        "encoder_weights": weights_identity(encoder) if encoder else None,
        "versions": {"roadrisk": __version__, "torch": str(torch.__version__), "numpy": np.__version__},
    }


def _other_views(learned: Gathered) -> set[str]:
    """Views that are there and not looked at."""
    metros = learned.tiles.metros or (learned.tiles,)
    there = {view.name for t in metros if t.dataset for view in t.dataset.views}
    return there - {view.name for view in learned.tiles.views if learned.pictures}


def _learned_from(about: dict[str, Any]) -> str:
    # of values and counts nothing is high risk: that only evens folds
    high = f"{about['high_risk_tiles']:,} of them high risk, " if about["settings"]["task"] == "class" else ""
    return f"learned from {about['tiles']:,} tiles, {high}{about['tiles_with_image']:,} with picture"


def _by_reason(reasons: dict[str, str]) -> list[str]:
    """Columns with the same reason in one line.

    >>> _by_reason({"a": "text", "b": "no value", "c": "text"})
    ['a, c: text', 'b: no value']
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(several)}: {reason}" for reason, several in names.items()]
