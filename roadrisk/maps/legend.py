"""The classes that a layer is coloured by: the one definition behind every style that is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# of what is not known, hatched wherever a form can hatch: it must look like no class of risk
ABSENT_COLOUR = "#7b8590"


@dataclass(frozen=True)
class Shade:
    """A class and its colour.

    Parameters
    ----------
    value : what the legend's field holds.
    colour : `#rrggbb`.
    """

    value: str
    colour: str


@dataclass(frozen=True)
class Legend:
    """How the features of a layer are coloured.

    Parameters
    ----------
    title : of the legend, for people.
    field : text column that names the class of a feature; null where it has none.
    shades : the classes, from the one that matters most; no two have the same value.
    absent : what a feature without a class is called.
    """

    title: str
    field: str
    shades: tuple[Shade, ...]
    absent: str = "not scored"

    @property
    def values(self) -> tuple[str, ...]:
        """What the field can hold."""
        return tuple(shade.value for shade in self.shades)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "title": self.title,
            "field": self.field,
            "shades": [{"value": shade.value, "colour": shade.colour} for shade in self.shades],
            "absent": {"label": self.absent, "colour": ABSENT_COLOUR},
        }
