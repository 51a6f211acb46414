"""What a model says of tiles that it did not learn from: another metro, or the same place later."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.errors import ModelError
from roadrisk.gathering import counts_from, covered_by_all, has_a_side, road_metres
from roadrisk.grid import FloatArray, IntArray
from roadrisk.inputs import Tiles
from roadrisk.learning.baselines.regression import base_rate, number_outputs
from roadrisk.learning.baselines.spf import SpfFacts, spf_outputs
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import BLOCK_TILES, Folds
from roadrisk.learning.judging.ceiling import Ceiling, ceiling_auroc
from roadrisk.learning.judging.dispersion import fitted_dispersion
from roadrisk.learning.judging.evaluation import NextPeriod
from roadrisk.learning.judging.intervals import block_of
from roadrisk.learning.judging.judged import judged
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold, outcomes_of
from roadrisk.learning.labels.label import events_of, high_risk, observed
from roadrisk.learning.loop.devices import device_of
from roadrisk.learning.model import Model, fold_outputs
from roadrisk.learning.tasks import Task
from roadrisk.metros import with_absent_classes
from roadrisk.progress import Progress
from roadrisk.scorable import check_fit, feeds_of, scored_examples

METRO, LATER = "metro", "temporal"
Days = tuple[str, str]  # [from, to), ISO


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """What a model, and baselines that learned from the same tiles, say of tiles that none learned from.

    Parameters
    ----------
    split : `metro`, or `temporal` for the same tiles later.
    later : the windows of these; None of a metro.
    """

    split: str
    outcomes: Outcomes
    found: OutOfFold
    told: str
    later: NextPeriod | None


def judged_elsewhere(model: Model, tiles: Tiles, path: Path, device: str, progress: Progress) -> Elsewhere:
    """How good a model is on tiles that it did not learn from, and what is said of them.

    Parameters
    ----------
    path : of the model.

    Raises
    ------
    ModelError : tiles of another kind than the model knows, none that can be judged, or one class alone.
    """
    tiles = with_absent_classes(tiles, model.columns)
    check_fit(model, tiles, path)
    origin, task = model.provenance["label"], model.architecture.task
    label = observed(tiles.frame, tiles.eligible, origin, task)
    every = replace(scored_examples(model, tiles), label=label)
    usable = np.isfinite(label) & (every.exposure > 0) & has_a_side(every, model.architecture.inputs)
    kept, told, windows = _question(model, tiles, usable)
    rows = np.flatnonzero(kept)
    _check_judgeable(label[rows], tiles, origin)
    examples, at = every.taken(rows), device_of(device)
    images = feeds_of(model, examples, at, progress)
    said = fold_outputs(model.architecture, model.fold_models, examples, images, at, progress)
    outputs = {model.name: said.mean(axis=0)[:, : task.outputs]}
    outcomes = outcomes_elsewhere(model, tiles, rows, examples)
    outputs |= _baselines(model, outcomes, examples)
    later = None
    if windows is not None:
        later = NextPeriod(*windows, None, None, len(rows), math.fsum(outcomes.events.tolist()))
    found = OutOfFold(np.zeros(len(rows), np.int64), outputs)
    return Elsewhere(LATER if later else METRO, outcomes, found, told, later)


def _question(
    model: Model, tiles: Tiles, usable: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], str, tuple[Days, Days] | None]:
    """Which tiles are judged, what is to be said of it, and of the same tiles later both label windows."""
    origin = model.provenance["label"]
    seen = np.isin(tiles.keys.astype(str), model.out_of_fold["key"].unique())
    new, again = usable & far_from(tiles, seen, model.provenance.get("buffer_tiles") or 0), usable & seen
    if not seen.any():
        return new, f"{tiles.path}: {int(new.sum()):,} tiles that the model did not learn from", None
    name = origin["measure"] or origin["column"]
    windows = {column.name: column.window for column in tiles.columns}
    # before format 4 the label did not tell
    window, learned = windows.get(name), origin.get("window", model.provenance["windows"].get("label"))
    if again.any() and window and learned and window[0] >= learned[1]:
        said = f"{tiles.path}: {int(again.sum()):,} tiles that the model learned from, in a later period"
        unseen = int((usable & ~seen).sum())
        others = f"; {unseen:,} others are left out" if unseen else ""
        said = f"{said}: {window[0]} to before {window[1]}{others}"
        return again, said, ((learned[0], learned[1]), (window[0], window[1]))
    if not new.any():
        raise ModelError(
            f"{tiles.path} has only tiles that the model learned from or beside them, and no label of after "
            f"{learned[1] if learned else 'then'}; evaluate it on another metro or on a later label window"
        )
    said = f"{tiles.path}: {int(new.sum()):,} tiles that the model did not learn from"
    beside = int((usable & ~new).sum())
    return new, f"{said}; {beside:,} that it learned from or that lie beside them are left out", None


def far_from(tiles: Tiles, seen: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """(N,) whether a tile is neither seen nor within so many steps of a seen one, as no tested tile may be.

    Parameters
    ----------
    seen : (N,) tiles that were learned from.
    reach : width of the buffer [tiles].
    """
    if tiles.lattice is None:
        return ~seen
    row, col, _ = tiles.lattice
    far = np.zeros(len(seen), bool)
    far[Folds(np.where(seen, 0, 1), 2, row, col, reach if seen.any() else 0).train_rows(0)] = True
    return far


def _check_judgeable(label: FloatArray, tiles: Tiles, origin: dict[str, Any]) -> None:
    name = origin["measure"] or origin["column"]
    if not len(label):
        raise ModelError(
            f"{tiles.path}: no tile is eligible and has {name}, which the model learned; tile it with the "
            "same sources"
        )
    if len(np.unique(label)) < 2:
        cut = origin["threshold"]
        same = f"have the same {name}"
        if cut is not None:
            same = f"are {'at' if label[0] else 'below'} {cut:g} {name}{' or more' if label[0] else ''}"
        raise ModelError(
            f"{tiles.path}: all {len(label):,} tiles that can be judged {same}, so there is nothing to tell "
            "apart; give a metro or a window with both kinds"
        )


def with_scores(
    model: Model, splits: Mapping[str, tuple[Outcomes, OutOfFold]], later: NextPeriod | None = None
) -> Model:
    """The model with its scores on other tiles among its own.

    Parameters
    ----------
    splits : what was judged and what was said of it; a split that the model has already is replaced, and is
        no longer in its table of predictions, which are of training tiles.
    later : what `temporal` is of, where it is among the splits.
    """
    seed = int(model.provenance.get("settings", {}).get("seed", 0))
    known = {split: _ceiling(model, outcomes, seed) for split, (outcomes, _) in splits.items()}
    ceilings = {split: ceiling for split, ceiling in known.items() if ceiling is not None}
    scores, found = judged(splits, ceilings, model.name, seed)
    own = model.evaluation
    evaluation = replace(
        own,
        intervals={**own.intervals, **found.intervals},
        differences=(*(one for one in own.differences if one.split not in splits), *found.differences),
        curves={**own.curves, **found.curves},
        road_to_ceiling={**own.road_to_ceiling, **found.road_to_ceiling},
        next_period=later if LATER in splits else own.next_period,
    )
    own_rows = ~model.out_of_fold["split"].isin(splits)
    return replace(
        model,
        metrics={**model.metrics, **scores},
        evaluation=evaluation,
        out_of_fold=model.out_of_fold[own_rows].reset_index(drop=True),
    )


def _ceiling(model: Model, outcomes: Outcomes, seed: int) -> Ceiling | None:
    """What luck leaves to be known of tiles elsewhere; None without counts, lengths of road or their table.

    Means are those of length of road, as the model's training tiles teach them, times what makes their sum
    that of the events: metros differ in crashes everywhere.
    """
    table, threshold = model.out_of_fold, outcomes.threshold
    if threshold is None or "road_m" not in table or not outcomes.events.any():
        return None
    learned, _ = outcomes_of(table, model.split, outcomes.task, threshold)
    if not np.isfinite(learned.road_m).any() or not np.isfinite(outcomes.road_m).any():
        return None
    count = Task("count", "negative-binomial", ())
    said = spf_outputs(count, SpfFacts(learned.road_m), learned.events, SpfFacts(outcomes.road_m))[:, 0]
    by_key = np.argsort(outcomes.key, kind="stable")
    mean = np.exp(said) * (outcomes.events.sum() / math.fsum(np.exp(said)[by_key].tolist()))
    k = fitted_dispersion(outcomes.events, mean).of(mean)
    # one model said all of them, so all pairs are of one fold
    found = ceiling_auroc(outcomes.events, mean, k, threshold, seed)
    return Ceiling(found, found) if math.isfinite(found) else None


def outcomes_elsewhere(model: Model, tiles: Tiles, rows: IntArray, examples: Examples) -> Outcomes:
    """What is known of tiles of another metro, by the model's own label.

    Parameters
    ----------
    rows : (N,) of `tiles`.
    examples : of these rows, with labels.
    """
    task, origin = model.architecture.task, model.provenance["label"]
    road_m = road_metres(tiles, rows)
    every = observed(tiles.frame, tiles.eligible, origin, task)
    row, col = examples.row, examples.col
    side = model.provenance.get("block_tiles") or BLOCK_TILES
    return Outcomes(
        task=task,
        key=examples.key,
        dataset=tiles.source[rows],
        label=examples.label,
        high=high_risk(task, examples.label),
        events=events_of(tiles.frame, origin, task, every)[rows],
        threshold=counts_from(origin),
        area_km2=examples.area_km2,
        road_m=np.full(len(rows), np.nan) if road_m is None else road_m,
        has_image=examples.has_image,
        covered=covered_by_all(tiles.frame, [c for c in model.columns if c.name in tiles.frame])[rows],
        row=row,
        col=col,
        block=None if row is None or col is None else block_of(row, col, side),
    )


def _baselines(model: Model, outcomes: Outcomes, examples: Examples) -> dict[str, FloatArray]:
    """`base_rate` and `road_length`, as the model's own training tiles teach them; none of older models."""
    task = model.architecture.task
    if "road_m" not in model.out_of_fold:
        return {}
    learned, _ = outcomes_of(model.out_of_fold, model.split, task, outcomes.threshold)
    ones = np.ones(len(learned))
    found = {"base_rate": base_rate(task, learned.label, ones, np.ones(len(outcomes)))}
    if np.isfinite(learned.road_m).any() and np.isfinite(outcomes.road_m).any():
        train, unseen = _bare(learned, examples), _bare(outcomes, examples)
        found["road_length"] = number_outputs(task, train, unseen, (learned.road_m, outcomes.road_m))
    return found


def _bare(outcomes: Outcomes, like: Examples) -> Examples:
    """Tiles of which nothing is known but label and area."""
    n = len(outcomes)
    nothing = np.empty((n, 0))
    return replace(
        like,
        key=outcomes.key,
        label=outcomes.label,
        facts=nothing,
        columns=(),
        texts=nothing.astype(object),
        text_columns=(),
        area_km2=outcomes.area_km2,
        views=(),
        pictures=(),
        picture=np.empty((n, 0), np.int64),
        row=None,
        col=None,
        exposure=np.ones(n),
    )
