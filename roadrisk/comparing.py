"""What `train` compares, on the same folds: picture and facts together, each alone, and baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from roadrisk.errors import ModelError
from roadrisk.gathering import Gathered
from roadrisk.learning.architecture import Architecture, ViewInput, architecture_of
from roadrisk.learning.baselines.judged import baselines_out_of_fold
from roadrisk.learning.folds import Folds, random_folds, spatial_folds
from roadrisk.learning.judging.predictions import OutOfFold
from roadrisk.learning.model import MODEL_NAMES, Split
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.validation import CrossValidation, Training, cross_validated


@dataclass(frozen=True)
class Contestant:
    """A network that is trained and judged on the same folds as others.

    Parameters
    ----------
    name : as in `metrics`.
    """

    name: str
    architecture: Architecture
    settings: TrainSettings


@dataclass(frozen=True, eq=False)
class Comparison:
    """What all that was compared says of the tiles that it did not see.

    Parameters
    ----------
    splits : what the networks and baselines of each split say.
    networks : by split and name, of every network that was trained.
    notes : what happened on the way that whoever reads the scores should know.
    choices : what baselines chose from what.
    """

    splits: dict[Split, OutOfFold]
    networks: dict[Split, dict[str, CrossValidation]]
    notes: tuple[str, ...]
    choices: tuple[str, ...]


def contestants(settings: TrainSettings, gathered: Gathered) -> tuple[Contestant, ...]:
    """The network that is asked for, first, and those that it is compared with.

    Parameters
    ----------
    settings : resolved.
    """
    asked = [replace(settings, inputs=settings.sees)]
    if not settings.quick and settings.sees == "both":
        asked += [replace(settings, inputs="image"), replace(settings, inputs="facts")]
    made = [Contestant(MODEL_NAMES[s.sees], _architecture(s, gathered), s) for s in asked]
    pretrained = settings.encoder != "basic" and settings.weights != "none"
    if not settings.quick and settings.sees != "facts" and settings.tune != "none" and pretrained:
        frozen = resolved(replace(settings, tune="none", epochs=None, learning_rate=None))
        made.append(Contestant(f"{made[0].name}_frozen", _architecture(frozen, gathered), frozen))
    return tuple(made)


def compared(
    gathered: Gathered,
    rivals: Sequence[Contestant],
    feeds: Mapping[bool, Sequence[ImageFeed | None]],
    training: Training,
) -> Comparison:
    """Every contestant and baseline on the same folds.

    Parameters
    ----------
    rivals : the first is asked for.
    feeds : of the views, of pictures (False) and of a frozen encoder's features (True).
    training : of the first.

    Raises
    ------
    ModelError : too few tiles, positives or blocks, nothing to learn from, or a loss that is not finite.
    """
    settings = training.settings
    splits: dict[Split, OutOfFold] = {}
    networks: dict[Split, dict[str, CrossValidation]] = {}
    notes: dict[str, list[str]] = {}
    choices: list[str] = []
    for split, folds in folds_of(gathered, settings).items():
        networks[split] = {}
        for rival in rivals:
            networks[split][rival.name] = cross_validated(
                gathered.examples,
                folds,
                rival.architecture,
                feeds[rival.architecture.frozen],
                replace(training, settings=rival.settings),
                f"{split} {rival.name}",
            )
            for note in networks[split][rival.name].told:
                notes.setdefault(note, []).append(f"{split} {rival.name}")
        outputs = {name: found.outputs for name, found in networks[split].items()}
        if not settings.quick:
            baselines = baselines_out_of_fold(
                gathered.examples,
                folds,
                rivals[0].architecture.task,
                settings.seed,
                gathered.road_m,
                gathered.block,
                training.progress,
            )
            outputs |= baselines.outputs
            choices += [f"{split} {line}" for line in baselines.told]
        splits[split] = OutOfFold(folds.fold, outputs)
    said = tuple(f"{', '.join(names)}: {note}" for note, names in notes.items())
    return Comparison(splits, networks, said, tuple(dict.fromkeys(choices)))


def folds_of(gathered: Gathered, settings: TrainSettings) -> dict[Split, Folds]:
    """Spatial folds and random ones; of a table without places random ones alone.

    Raises
    ------
    ModelError : some rows lie nowhere, or there are too few tiles, positives or blocks.
    """
    examples, high = gathered.examples, gathered.high
    by_chance = random_folds(examples.key, high, settings.folds or 5, settings.seed)
    if examples.row is None or examples.col is None:
        if gathered.tiles.places is not None:
            raise ModelError(
                f"some rows of {gathered.tiles.path} lie nowhere, so there can be no spatial folds; give "
                "every row its place, or leave lon and lat out"
            )
        return {"random": by_chance}
    spatial = spatial_folds(
        examples.row, examples.col, high, settings.folds or 5, settings.seed, gathered.block, gathered.buffer
    )
    return {"spatial": spatial, "random": by_chance}


def _architecture(settings: TrainSettings, gathered: Gathered) -> Architecture:
    views = tuple(
        ViewInput(view, picture.size_px)
        for view, picture in zip(gathered.examples.views, gathered.pictures, strict=True)
    )
    return architecture_of(settings, gathered.label.task, views)
