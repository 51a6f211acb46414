"""What the page of a road model shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from roadrisk.mosaic.picture import Mask, Pixels

if TYPE_CHECKING:
    from roadrisk.roads.model import RoadArchitecture

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, eq=False)
class UnitShown:
    """A unit with what is there and what was drawn of it by a network that did not learn from it.

    Parameters
    ----------
    iou : of the unit; None where it has no true road.
    road_share : true road, of what is known of it.
    picture : (3, H, W) red, green, blue.
    road, drawn, known : (H, W) true road, drawn road, and where both picture and truth are known.
    """

    key: str
    iou: float | None
    road_share: float
    picture: Pixels
    road: Mask
    drawn: Mask
    known: Mask


@dataclass(frozen=True)
class Learned:
    """How a network learned.

    Parameters
    ----------
    name : for people, as `fold 1`.
    loss : of the crops of each epoch.
    watched : loss on the units that stop the training, of each epoch; None where it was not measured.
    kept : which of them gave the weights, from 0; None where nothing says.
    """

    name: str
    loss: Sequence[float]
    watched: Sequence[float | None]
    kept: int | None = None


@dataclass(frozen=True)
class LearnedFrom:
    """Pictures whose roads are known.

    Parameters
    ----------
    name : of the source.
    units : tiles or pictures that were learned from.
    unit : what one of them is called, as `tile`.
    pixels : known ones of all units.
    road_share : of these.
    metres_per_pixel : ground side of a pixel [m]; None where nothing says.
    weak : whether roads are centre-lines drawn with a width, not masks.
    told : what was found, a line a thing.
    """

    name: str
    units: int
    unit: str
    pixels: int
    road_share: float
    metres_per_pixel: float | None
    weak: bool
    told: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RoadReport:
    """Everything that the page shows.

    Parameters
    ----------
    metrics : `metrics[method][metric]` has `value`, `low`, `high` (95 %) and `folds`.
    level : a pixel is road from this level on, of 255.
    iou_by_level : level and pooled IoU of units held out; none where it was not kept.
    rule : how units were held out, a line a thing.
    worst, best : units by IoU, the most extreme first.
    without_road : units without true road, those with most drawn road first.
    holdout : such metrics by the name of a source that nothing was learned from.
    provenance : as `roads.json` keeps it.
    """

    source: LearnedFrom
    architecture: RoadArchitecture
    metrics: Scores
    level: int
    iou_by_level: Sequence[tuple[int, float]]
    learned: tuple[Learned, ...]
    rule: tuple[str, ...]
    worst: tuple[UnitShown, ...]
    best: tuple[UnitShown, ...]
    without_road: tuple[UnitShown, ...] = ()
    holdout: Mapping[str, Scores] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
