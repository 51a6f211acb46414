"""Networks that learn from some units and are judged on others, which they did not see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from roadrisk.grid import IntArray
from roadrisk.learning.architecture import seeded
from roadrisk.learning.loop.checkpoints import Checkpoints
from roadrisk.learning.loop.learner import Epoch
from roadrisk.nets.segmentation import RoadNN
from roadrisk.progress import Progress
from roadrisk.roads.drawing.drawn import LEVELS, Levels
from roadrisk.roads.judging.baselines import ColourRule, colour_rule
from roadrisk.roads.judging.judged import MODEL, halo_of, judged, unit_seen
from roadrisk.roads.judging.measures import UnitJudged, histogram
from roadrisk.roads.learning.crops import normal_of
from roadrisk.roads.learning.dealing import Dealt
from roadrisk.roads.learning.fitting import Fitted, fitted, levels_of_units
from roadrisk.roads.normal import Normal
from roadrisk.roads.scenes import RoadExamples, Truth
from roadrisk.roads.settings import RoadSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FINAL = "the last network"
SHOWN = 8  # of the worst, and of the best
SHOWN_FALSE = 4


@dataclass(frozen=True, eq=False)
class Learning:
    """What all networks of a training have in common."""

    examples: RoadExamples
    dealt: Dealt
    settings: RoadSettings
    fabric: Fabric
    checkpoints: Path
    progress: Progress


@dataclass(frozen=True, eq=False)
class Taught:
    """A network that has learned, and the rule on colours that learned from the same units."""

    name: str
    network: RoadNN
    normal: Normal
    fitted: Fitted
    rule: ColourRule


@dataclass(frozen=True, eq=False)
class UnitDrawn:
    """A unit as a network drew it that did not learn from it.

    Parameters
    ----------
    iou : None without true road.
    drawn_px : what is drawn as road.
    level : (H, W).
    road_from : level from which on it is road.
    """

    row: int
    iou: float | None
    drawn_px: int
    level: Levels
    road_from: int


@dataclass(eq=False)
class Found:
    """What judging has come to so far.

    Parameters
    ----------
    histogram : (2, 256) of pixels by truth and the network's level.
    worst, best : units with road, as the network draws them.
    false : units without road in which it draws most.
    """

    units: list[UnitJudged] = field(default_factory=list)
    histogram: IntArray = field(default_factory=lambda: np.zeros((2, LEVELS), np.int64))
    worst: list[UnitDrawn] = field(default_factory=list)
    best: list[UnitDrawn] = field(default_factory=list)
    false: list[UnitDrawn] = field(default_factory=list)

    def keep(self, unit: UnitDrawn) -> None:
        """Show this unit, if it is among the worst or the best so far."""
        if unit.iou is None:
            if unit.drawn_px:
                self.false = sorted([*self.false, unit], key=lambda u: (-u.drawn_px, u.row))[:SHOWN_FALSE]
            return
        self.worst = sorted([*self.worst, unit], key=lambda u: (u.iou, u.row))[:SHOWN]
        self.best = sorted([*self.best, unit], key=lambda u: (-(u.iou or 0.0), u.row))[:SHOWN]


def taught(learning: Learning, fold: int | None) -> Taught:
    """The network of a fold, or the last one, that learns from all but what it is watched on."""
    settings, examples = learning.settings, learning.examples
    name = FINAL if fold is None else f"fold {fold + 1} of {learning.dealt.count}"
    learned, watched = learning.dealt.parts(fold)
    seed = settings.seed + (learning.dealt.count if fold is None else fold)
    normal = normal_of(examples, learned)
    with seeded(seed):
        weights = None if settings.weights == "none" else settings.weights
        network = RoadNN(settings.decoder, settings.encoder, examples.bands, settings.shrink, weights)
    learning.progress(f"learn {name}", 0, settings.epochs)
    found = fitted(
        network,
        examples,
        learned,
        watched,
        normal,
        settings,
        seed,
        learning.fabric,
        Checkpoints(learning.checkpoints, name.replace(" ", "-")),
        _told(learning.progress, name),
    )
    network.load_state_dict(found.state)
    return Taught(name, network.eval(), normal, found, colour_rule(examples, learned))


def judge(
    found: Found,
    of: Taught,
    level: int,
    examples: RoadExamples,
    rows: IntArray,
    fold: int,
    block: IntArray,
    learning: Learning,
) -> None:
    """Add what a network and its rivals draw of units that they did not learn from.

    Parameters
    ----------
    level : from which on it is road.
    block : (N,) of all units.
    """
    shrink, device, halo = learning.settings.shrink, learning.fabric.device, halo_of(examples)
    drawn = levels_of_units(of.network, examples, rows, of.normal, shrink, device, halo)
    for number, (row, said) in enumerate(drawn, start=1):
        seen = unit_seen(examples, row, halo)
        units = list(judged(examples, row, seen, said.level >= level, of.rule, fold, int(block[row])))
        found.units += units
        core, valid = seen.core, seen.picture.valid[seen.core]
        truth = Truth(seen.truth.road[core], seen.truth.known[core])
        found.histogram += histogram(said.level[core], truth, valid)
        counts = next(unit.counts for unit in units if unit.method == MODEL)
        either = counts.road + counts.drawn - counts.both
        iou = counts.both / either if counts.road else None
        found.keep(UnitDrawn(row, iou, counts.drawn, said.level[core], level))
        learning.progress(f"judge {of.name}", number, len(rows))


def cross_validated(learning: Learning) -> tuple[Found, dict[str, tuple[Epoch, ...]]]:
    """What the networks of all folds drew of their own test units, each from the level that it chose itself.

    Beside it is how each learned.
    """
    found, epochs = Found(), {}
    for fold in range(learning.dealt.count):
        of = taught(learning, fold)
        tested = learning.dealt.tested(fold)
        judge(found, of, of.fitted.level, learning.examples, tested, fold, learning.dealt.block, learning)
        epochs[of.name] = of.fitted.epochs
    return found, epochs


def _told(progress: Progress, name: str) -> Callable[[Epoch], None]:
    def heard(epoch: Epoch) -> None:
        watched = "" if epoch.watched_score is None else f"IoU {epoch.watched_score:.3f}"
        progress(f"learn {name}", epoch.number, epoch.of, watched)

    return heard
