"""What a comparison is worth: which model is kept, how good it is, and what there is to doubt about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from roadrisk.comparing import Comparison, Contestant, expected_events
from roadrisk.errors import ModelError
from roadrisk.gathering import Gathered
from roadrisk.grid import FloatArray
from roadrisk.learning.baselines.spf import spf_facts
from roadrisk.learning.blocks import folds_told
from roadrisk.learning.facts.choosing import sources_behind
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.calibration import Calibration, fitted_calibration, logit_of_riskiest
from roadrisk.learning.judging.ceiling import Ceiling, ceiling_auroc
from roadrisk.learning.judging.choosing import simplest
from roadrisk.learning.judging.dispersion import Dispersion, fitted_dispersion
from roadrisk.learning.judging.empirical_bayes import lasting_share
from roadrisk.learning.judging.evaluation import Evaluation, Finding, FoldsTold, Importance
from roadrisk.learning.judging.importance import importances, network_words
from roadrisk.learning.judging.judged import Metrics, judged
from roadrisk.learning.judging.leaks import leak_findings
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold, predictions_table
from roadrisk.learning.judging.told import NOT_JUDGED
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.tasks import prediction
from roadrisk.learning.validation import CrossValidation, Training
from roadrisk.next_period import NextPeriodFound, next_period
from roadrisk.notable import notable_places

AUTO, LATER = "auto", "temporal"
STAGE, STEPS = "what it is worth", ("next period", "ceilings", "intervals", "importance", "leaks")


@dataclass(frozen=True, eq=False)
class Assessment:
    """What is known of a model when all has been compared.

    Parameters
    ----------
    kept : the contestant that is saved.
    predictions : as `predictions_table` makes it.
    notes : what happened on the way that whoever reads the scores should know.
    choices : what baselines chose from what.
    """

    kept: Contestant
    metrics: Metrics
    evaluation: Evaluation
    calibration: Calibration | None
    dispersion: Dispersion | None
    predictions: pd.DataFrame
    notes: tuple[str, ...]
    choices: tuple[str, ...]


def assessed(
    learned: Gathered,
    rivals: Sequence[Contestant],
    comparison: Comparison,
    feeds: Mapping[bool, Sequence[ImageFeed | None]],
    training: Training,
) -> Assessment:
    """Everything that an evaluation says; of `--quick` only what the one model needs.

    Parameters
    ----------
    rivals : the first is asked for.
    feeds : of the views, of pictures (False) and of a frozen encoder's features (True).
    training : of the first.
    """
    settings, outcomes = training.settings, learned.outcomes
    first = next(iter(comparison.splits))
    kept, chosen = rivals[0], ""
    splits = {name: (outcomes, found) for name, found in comparison.splits.items()}
    if settings.inputs == AUTO:
        kept, chosen = _simplest(rivals, comparison.networks[first], outcomes)
        splits = {
            name: (of, _with_chosen(of, found, rivals, comparison, name))
            for name, (of, found) in splits.items()
        }
    choices = comparison.choices
    notes, ceilings, later = list[str](), dict[str, Ceiling](), None
    if not settings.quick:
        _tell(training, "next period")
        later, why = _later(learned, rivals, feeds, training)
        notes += [why] if why else []
        _tell(training, "ceilings")
        ceilings = _ceilings(learned, comparison, later, settings.seed)
    if later is not None:
        splits[LATER] = (later.outcomes, later.found)
        notes += later.told
        choices += later.choices
    _tell(training, "intervals")
    metrics, evaluation = judged(splits, ceilings, kept.name, settings.seed, _flows(learned))
    own = comparison.splits[first].outputs[kept.name]
    calibration = _calibration(outcomes, comparison.splits, kept.name, settings.seed)
    chances = calibration.probability(logit_of_riskiest(outcomes.task, own)) if calibration else None
    evaluation = replace(
        evaluation,
        chosen=chosen,
        folds=_folds_told(learned),
        next_period=later.about if later else None,
        places=notable_places(learned, own, chances),
    )
    if not settings.quick:
        _tell(training, "importance")
        importance = _importance(learned, kept, comparison, feeds, training)
        _tell(training, "leaks")
        findings = _findings(learned, comparison, ceilings.get(first), settings.seed)
        evaluation = replace(evaluation, importance=importance, findings=findings)
    training.progress(STAGE, len(STEPS), len(STEPS))
    return Assessment(
        kept,
        metrics,
        evaluation,
        calibration,
        _dispersion(outcomes, own, later.before if later else None),
        predictions_table(splits),
        tuple(notes),
        choices,
    )


def _flows(learned: Gathered) -> dict[str, FloatArray]:
    """(N,) vehicles a day, by which residuals of counts are looked at, where most of the road has one."""
    facts, _ = spf_facts(learned.tiles.frame.iloc[learned.known], learned.tiles.columns)
    return {} if facts is None or facts.aadt is None else {"aadt": facts.aadt}


def _tell(training: Training, step: str) -> None:
    training.progress(STAGE, STEPS.index(step), len(STEPS), step)


def _simplest(
    rivals: Sequence[Contestant], networks: Mapping[str, CrossValidation], outcomes: Outcomes
) -> tuple[Contestant, str]:
    """The contestant that `--inputs auto` keeps, by the tiles that the folds' training watched."""
    watched = {rival.name: _watched(networks[rival.name]) for rival in rivals[:3]}
    keys = next(iter(watched.values())).index
    if not len(keys) or any(not of.index.equals(keys) for of in watched.values()):
        return rivals[0], f"too few tiles to watch some of them, so {rivals[0].name} is kept"
    block = None
    if outcomes.block is not None:
        block = pd.Series(outcomes.block, outcomes.key.astype(str)).loc[keys].to_numpy()
    found = simplest({name: np.asarray(of, np.float64) for name, of in watched.items()}, block)
    return next(rival for rival in rivals if rival.name == found.name), found.told


def _watched(network: CrossValidation) -> pd.Series[float]:
    """Losses of all folds' watched tiles, by key; a tile may be watched in several folds. Empty without."""
    if any(of is None for of in network.watched):
        return pd.Series(dtype=float)
    parts = [pd.Series(of.loss, of.key.astype(str)) for of in network.watched if of is not None]
    return pd.concat(parts)


def _with_chosen(
    outcomes: Outcomes, found: OutOfFold, rivals: Sequence[Contestant], comparison: Comparison, split: str
) -> OutOfFold:
    """What choosing itself is worth: each fold's tiles by the model that its own training tiles choose."""
    networks = comparison.networks[split]
    outputs = np.empty_like(found.outputs[rivals[0].name])
    for k in range(int(found.fold.max()) + 1):
        alone = {
            rival.name: replace(networks[rival.name], watched=networks[rival.name].watched[k : k + 1])
            for rival in rivals[:3]
        }
        kept, _ = _simplest(rivals, alone, outcomes)
        tested = found.fold == k
        outputs[tested] = found.outputs[kept.name][tested]
    return replace(found, outputs={AUTO: outputs, **found.outputs})


def _later(
    learned: Gathered,
    rivals: Sequence[Contestant],
    feeds: Mapping[bool, Sequence[ImageFeed | None]],
    training: Training,
) -> tuple[NextPeriodFound | None, str]:
    """The second question's answer, or why it cannot be asked here."""
    try:
        return next_period(learned, rivals, feeds, training), ""
    except ModelError as error:
        return None, f"{NOT_JUDGED}: {error}"


def _ceilings(
    learned: Gathered, comparison: Comparison, later: NextPeriodFound | None, seed: int
) -> dict[str, Ceiling]:
    """By split, where counts tell it."""
    before = later.before if later else None
    found = {name: _ceiling(learned, folds, before, seed) for name, folds in comparison.folds.items()}
    if later is not None and later.ceiling_auroc is not None:  # one fold holds all tiles
        found[LATER] = Ceiling(later.ceiling_auroc, later.ceiling_auroc)
    return {name: ceiling for name, ceiling in found.items() if ceiling is not None}


def _ceiling(learned: Gathered, folds: Folds, before: FloatArray | None, seed: int) -> Ceiling | None:
    """AUROC of what is best known of each tile's mean, on labels drawn from it; None without a count.

    Parameters
    ----------
    before : (N,) counts of the window before, which tell how much of the scatter stays with a place.
    """
    outcomes = learned.outcomes
    if outcomes.threshold is None:
        return None
    mean, road_m = expected_events(learned, folds), _known(outcomes.road_m)
    k = fitted_dispersion(outcomes.events, mean, road_m).of(mean, road_m)
    lasting = 1.0 if before is None else lasting_share(outcomes.events, mean, k, before)
    found = Ceiling(
        *(
            ceiling_auroc(outcomes.events, mean, k, outcomes.threshold, seed, lasting=lasting, fold=fold)
            for fold in (None, folds.fold)
        )
    )
    return found if all(math.isfinite(one) for one in found) else None


def _known(road_m: FloatArray) -> FloatArray | None:
    return road_m if np.isfinite(road_m).all() else None


def _folds_told(learned: Gathered) -> FoldsTold | None:
    """How tiles were held out, and how far the map is from what was learned."""
    tiles, held = learned.tiles, learned.holding_out
    if held is None or tiles.lattice is None:
        return None
    row, col, cell_m = tiles.lattice
    return folds_told(held.plan, held.correlogram, cell_m, row[tiles.scored], col[tiles.scored])


def _importance(
    learned: Gathered,
    kept: Contestant,
    comparison: Comparison,
    feeds: Mapping[bool, Sequence[ImageFeed | None]],
    training: Training,
) -> tuple[Importance, ...]:
    split = next(iter(comparison.networks))
    models = comparison.networks[split][kept.name].models
    shape = kept.architecture
    words = network_words(models, shape, feeds[shape.frozen] if shape.views else (), training.fabric.device)
    examples = learned.examples
    if not shape.views:
        examples = replace(examples, views=(), pictures=(), picture=examples.picture[:, :0])
    if shape.facts is None:
        none = np.empty((len(examples), 0))
        examples = replace(examples, columns=(), facts=none, text_columns=(), texts=none.astype(object))
    return importances(words, examples, comparison.folds[split], shape.task, training.settings.seed)


def _findings(
    learned: Gathered, comparison: Comparison, ceiling: Ceiling | None, seed: int
) -> tuple[Finding, ...]:
    tiles, label = learned.tiles, learned.label
    names = {f"taken_last_{view}": view for view in learned.examples.views}
    taken = {
        view: tiles.frame[name].to_numpy(dtype=object)[learned.known]
        for name, view in names.items()
        if name in tiles.frame
    }
    datasets = [one.dataset for one in (tiles.metros or (tiles,)) if one.dataset is not None]
    sources = {source for source in sources_behind(label, tiles.columns) if source is not None}
    return leak_findings(
        learned.examples,
        learned.outcomes,
        next(iter(comparison.folds.values())),
        label.window,
        sources,
        taken,
        [dataset.events() for dataset in datasets],
        seed,
        ceiling.auroc if ceiling else None,
    )


def _calibration(
    outcomes: Outcomes, splits: Mapping[str, OutOfFold], name: str, seed: int
) -> Calibration | None:
    """Of a class model's out-of-fold logits; None of other tasks."""
    task = outcomes.task
    if task.kind != "class":
        return None
    logits: dict[str, FloatArray] = {
        split: logit_of_riskiest(task, found.outputs[name]) for split, found in splits.items()
    }
    split = next(iter(splits))
    riskiest = np.asarray(outcomes.label == len(task.classes) - 1, np.float64)
    other = logits["random"] if split == "spatial" and "random" in logits else None
    return fitted_calibration(riskiest, logits[split], outcomes.block, seed, other)


def _dispersion(outcomes: Outcomes, outputs: FloatArray, before: FloatArray | None) -> Dispersion | None:
    """Of counts about what was expected of them out of fold; None of other tasks.

    Parameters
    ----------
    before : (N,) counts of the window before, which tell how much of the scatter stays with a place.
    """
    if outcomes.task.kind != "count":
        return None
    mean, road_m = prediction(outcomes.task, outputs), _known(outcomes.road_m)
    found = fitted_dispersion(outcomes.label, mean, road_m)
    if before is None:
        return found
    return replace(found, lasting=lasting_share(outcomes.label, mean, found.of(mean, road_m), before))
