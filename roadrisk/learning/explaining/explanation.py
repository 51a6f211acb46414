"""Why one tile has its score, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roadrisk.learning.explaining.heat import Heat
from roadrisk.learning.explaining.reasons import Part, largest

BAR = 20  # letters of the longest
LISTED = 15  # facts in the terminal's table
NOT_CAUSES = (
    "These are associations that the model learned, not causes: changing a fact on the ground need not "
    "change the risk, and a fact may stand for another that the model does not see."
)


@dataclass(frozen=True)
class Like:
    """A training tile that is like the explained one.

    Parameters
    ----------
    key : by which the model knows it.
    distance : root mean square difference of prepared facts [standard deviations].
    said : what the fold that did not see it says: a risk, a value or an expected count.
    observed : what was observed, as people read it.
    """

    key: str
    tile_id: str
    distance: float
    said: float
    observed: str


@dataclass(frozen=True)
class Sum:
    """How contributions add up to what is explained: base, picture and facts are the score.

    Parameters
    ----------
    what : is explained.
    unit : of all of them; empty without one.
    doubles : what some amount means; empty where nothing needs to be said.
    against : the tile that `base` is of.
    lost : how far the integrals of the facts were from their sum, before that was shared out.
    complete : whether that is within 1 %, or 0.001.
    """

    what: str
    unit: str
    doubles: str
    against: str
    base: float
    picture: float
    facts: float
    score: float
    lost: float
    complete: bool


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a tile has its score.

    Parameters
    ----------
    region : name of the dataset or table.
    said : what the model says of the tile, and what was observed, by column; None where unknown.
    told : the same in words.
    voice : which of the model's networks say so.
    meaning : what the risk is.
    parts : what moved the score: pictures, then facts; the amounts add up to `sum.picture + sum.facts`.
    columns : of each part, the column or view that it is of.
    like : training tiles with the most similar facts, the nearest first.
    like_told : how many were there to be compared.
    risk_name : what `Like.said` is.
    heats : of each picture; empty where none was asked for.
    """

    tile: str
    region: str
    said: Mapping[str, Any]
    told: str
    voice: str
    meaning: str
    sum: Sum
    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    like: tuple[Like, ...]
    like_told: str
    risk_name: str
    heats: tuple[Heat, ...] = ()

    def lines(self) -> list[str]:
        """For the terminal."""
        return [
            f"{self.tile} of {self.region}: {self.told}",
            self.voice,
            self.meaning,
            "",
            f"What moved the score {self.scale_words}:",
            *bar_lines(self.parts),
            self.adds_up,
            "",
            self.like_told,
            *(f"  {like_words(one, self.risk_name)}" for one in self.like),
            "",
            NOT_CAUSES,
        ]

    @property
    def scale_words(self) -> str:
        """What amounts are held against, and their scale."""
        scale = "; ".join(words for words in (self.sum.unit, self.sum.doubles) if words)
        return f"against {self.sum.against}{f' ({scale})' if scale else ''}"

    @property
    def adds_up(self) -> str:
        """The sum in one line."""
        of = self.sum
        amounts = f"base {of.base:+.3f}, picture {of.picture:+.3f}, facts {of.facts:+.3f}"
        settled = (
            ""
            if of.complete
            else f" Single facts may be off by {of.lost:.2g}: their integrals did not settle."
        )
        return f"They add up: {amounts} = {of.score:+.3f}, the {of.what}.{settled}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        of = self.sum
        return {
            "tile_id": self.tile,
            "region": self.region,
            "said": dict(self.said),
            "voice": self.voice,
            "meaning": self.meaning,
            "explained": {"what": of.what, "unit": of.unit, "against": of.against, "score": of.score},
            "base": of.base,
            "picture": of.picture,
            "facts": of.facts,
            "parts": [
                {"of": column, "name": part.name, "held": part.held, "amount": part.amount}
                for column, part in zip(self.columns, self.parts, strict=True)
            ],
            "lost": of.lost,
            "like": [
                {
                    "tile_id": one.tile_id,
                    "distance": one.distance,
                    self.risk_name: one.said,
                    "observed": one.observed,
                }
                for one in self.like
            ],
            "like_told": self.like_told,
            "not_causes": NOT_CAUSES,
        }


def bar_lines(parts: Sequence[Part]) -> list[str]:
    """A table of the largest parts, with bars; what is left out is summed up.

    Examples
    --------
    >>> for line in bar_lines([Part("Lanes", "2", -0.5), Part("picture", "", 1.0)]):
    ...     print(line)
      picture   +1.00  ++++++++++++++++++++
      Lanes, 2  -0.50  ----------
    """
    ordered = largest(parts)
    rows = [(part.titled(), part.amount) for part in ordered[:LISTED]]
    rest = ordered[LISTED:]
    if rest:
        rows.append((f"{len(rest)} others together", math.fsum(part.amount for part in rest)))
    most = max((abs(amount) for _, amount in rows), default=0.0) or 1.0
    wide = max((len(name) for name, _ in rows), default=0)
    bars = [("+" if amount > 0 else "-") * round(BAR * abs(amount) / most) for _, amount in rows]
    return [
        f"  {name:<{wide}}  {amount:+.2f}  {bar}".rstrip()
        for (name, amount), bar in zip(rows, bars, strict=True)
    ]


def like_words(one: Like, risk_name: str) -> str:
    """A training tile in one line."""
    return f"{one.tile_id}: distance {one.distance:.2f}, {risk_name} {one.said:.3g}, observed {one.observed}"
