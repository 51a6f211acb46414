"""What an evaluation says besides `metrics`: as `model.json` keeps it and the report shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

# strict, since they are read from files, and of a size that plots can be drawn of
MOST = 1e100
Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-MOST, le=MOST)]
Points = tuple[tuple[Number, Number], ...]
Where = Literal["all", "covered"]


@dataclass(frozen=True)
class Difference:
    """The score of `a` less that of `b` on the same tiles.

    Parameters
    ----------
    tiles : `all` eligible ones, or those that every source of facts covers (`covered`).
    low, high : ends of the 95 % interval by paired draws of blocks; None below 20 blocks.
    n, positives, blocks : tiles judged, those of high risk, and spatial blocks.
    """

    split: str
    metric: str
    a: str
    b: str
    tiles: Where
    value: Number
    low: Number | None
    high: Number | None
    n: int
    positives: int
    blocks: int


@dataclass(frozen=True)
class Reliability:
    """One bin of equal count: tiles, their mean prediction, and what was observed on average.

    Parameters
    ----------
    low, high : ends of the 95 % interval of what was observed, by draws of blocks; None below 20 blocks.
    """

    n: int
    predicted: Number
    observed: Number
    low: Number | None = None
    high: Number | None = None


@dataclass(frozen=True)
class Cure:
    """Cumulative residuals of counts in the order of one amount (Hauer and Bamfo 1997).

    Parameters
    ----------
    by : the amount, as `expected` or `road_m`.
    points : (amount, cumulative residual).
    bound : (amount, two standard deviations), symmetric about 0.
    outside : share of tiles at which the curve is outside its bounds.
    """

    by: str
    points: Points
    bound: Points
    outside: Number


@dataclass(frozen=True)
class Curves:
    """What a model's predictions look like, in at most 200 points each; empty where not defined.

    Parameters
    ----------
    roc : (false positive rate, true positive rate).
    precision_recall : (recall, precision).
    reliability : of classes by 15, of counts by 10 bins of equal count.
    lift : (share of tiles, riskiest first; events there against events anywhere).
    hit_rate, hit_rate_road : (share of area or of road length, riskiest first; share of events).
    """

    roc: Points = ()
    precision_recall: Points = ()
    reliability: tuple[Reliability, ...] = ()
    lift: Points = ()
    hit_rate: Points = ()
    hit_rate_road: Points = ()
    cure: tuple[Cure, ...] = ()


@dataclass(frozen=True)
class FoldsTold:
    """How tiles were held out.

    Parameters
    ----------
    rule : in words, how blocks and folds were chosen and what was printed on the way.
    block_m, buffer_m : side of a block and width of the buffer [m].
    folds, blocks, blocks_with_positives : their numbers.
    left_share : least share of a fold's training tiles that the buffer leaves.
    range_m : range of the correlogram of what facts do not explain [m]; None without one.
    correlogram : (distance [m], correlation).
    sampled : tiles that the correlogram was made from.
    to_training : (percentile, metres) from tested tiles to the nearest training tile.
    map_to_training : the same from all tiles that the map scores.
    """

    rule: str
    block_m: Number
    buffer_m: Number
    folds: int
    blocks: int
    blocks_with_positives: int
    left_share: Number
    range_m: Number | None = None
    correlogram: Points = ()
    sampled: int = 0
    to_training: Points = ()
    map_to_training: Points = ()


@dataclass(frozen=True)
class Importance:
    """How much worse the model is where one group of what it sees is shuffled among tiles.

    Parameters
    ----------
    group : a source of facts by name, or a view.
    loss : drop of the measure; its mean over shuffles.
    low, high : least and most over shuffles.
    columns : of the group.
    """

    group: str
    metric: str
    loss: Number
    low: Number
    high: Number
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that a check for leaks found, or did not find.

    Parameters
    ----------
    check : its name, as `duplicates`.
    leak : whether whoever reads the scores should doubt them.
    text : one line: what, where, what to do.
    """

    check: str
    leak: bool
    text: str


@dataclass(frozen=True)
class Consistency:
    """How well a way to rank places holds over two periods (Guo, Wu and Lord 2020).

    Parameters
    ----------
    top_percent : of tiles called hot.
    events_later : of the second period in the tiles that the first period called hot: site consistency.
    same_places : tiles that both periods call hot: method consistency.
    rank_change : mean change of rank of the tiles called hot first.
    """

    model: str
    top_percent: int
    tiles: int
    events_later: Number
    same_places: int
    rank_change: Number


@dataclass(frozen=True)
class NextPeriod:
    """What the second question was asked of.

    Parameters
    ----------
    fitted, judged : label windows [from, to) as ISO dates.
    past : the windows of the past that each knows.
    """

    fitted: tuple[str, str]
    judged: tuple[str, str]
    past_fitted: tuple[str, str] | None
    past_judged: tuple[str, str] | None
    tiles: int
    events: Number
    consistency: tuple[Consistency, ...] = ()


@dataclass(frozen=True)
class Place:
    """A tile worth a look in the report.

    Parameters
    ----------
    list : `riskiest`, or `underrated`: much happened where little was said.
    predicted : calibrated risk, the value or the expected count.
    facts : name, value with its unit.
    """

    list: Literal["riskiest", "underrated"]
    key: str
    lon: Number | None
    lat: Number | None
    predicted: Number
    observed: Number
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything an evaluation found besides `metrics`.

    Parameters
    ----------
    intervals : by split, model and metric, the ends of the 95 % interval by draws of blocks.
    differences : paired, on the same draws.
    picture : one sentence: whether the picture helps, or why that cannot be said.
    chosen : how `--inputs auto` chose; empty without it.
    curves : by split and model.
    road_to_ceiling : by split and model, share of the way from road length alone to the ceiling.
    """

    intervals: dict[str, dict[str, dict[str, tuple[Number, Number]]]] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    picture: str = ""
    chosen: str = ""
    curves: dict[str, dict[str, Curves]] = field(default_factory=dict)
    road_to_ceiling: dict[str, dict[str, Number]] = field(default_factory=dict)
    folds: FoldsTold | None = None
    importance: tuple[Importance, ...] = ()
    findings: tuple[Finding, ...] = ()
    next_period: NextPeriod | None = None
    places: tuple[Place, ...] = ()
