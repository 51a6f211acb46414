"""What a section of the report is made of; the template knows how each kind is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup


@dataclass(frozen=True)
class Words:
    """One paragraph."""

    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True)
class Alarm:
    """What must be read before anything else.

    Parameters
    ----------
    title : in one line.
    lines : what was found, each with what to do.
    """

    kind: ClassVar[str] = "alarm"
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Lines:
    """A list of sentences."""

    kind: ClassVar[str] = "lines"
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Parameters
    ----------
    below : in small letters, as an interval under its number.
    """

    text: str
    below: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers.

    Parameters
    ----------
    title : its caption.
    header : of each column.
    rows : as many cells each as `header`.
    numbers : positions of the columns that are aligned at their right.
    own : rows of the model that the report is about.
    """

    kind: ClassVar[str] = "table"
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[int] = frozenset()
    own: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A plot and what to see in it."""

    title: str
    svg: Markup
    told: str


@dataclass(frozen=True)
class Figures:
    """Plots side by side where there is room."""

    kind: ClassVar[str] = "figures"
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Sight:
    """A picture of a place as a `data:` address."""

    view: str
    url: str


@dataclass(frozen=True)
class Spot:
    """A place worth a look.

    Parameters
    ----------
    lines : what was said and what happened there.
    address : of a map of the place; empty where nothing says where it lies.
    """

    key: str
    lines: tuple[str, ...]
    address: str
    sights: tuple[Sight, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Spots:
    """Places in their order."""

    kind: ClassVar[str] = "spots"
    title: str
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class Drawing:
    """A picture beside what was drawn of it, both as `data:` addresses.

    Parameters
    ----------
    told : for who cannot see it.
    width_px, height_px : of both.
    """

    key: str
    lines: tuple[str, ...]
    told: str
    picture: str
    overlay: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Sample:
    """How a thing is shown in drawings, as a `data:` address."""

    name: str
    told: str
    url: str


@dataclass(frozen=True)
class Legend:
    """What is shown how."""

    kind: ClassVar[str] = "legend"
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Drawings:
    """Drawings in their order."""

    kind: ClassVar[str] = "drawings"
    title: str
    drawings: tuple[Drawing, ...]


@dataclass(frozen=True)
class Terms:
    """Words and what they mean."""

    kind: ClassVar[str] = "terms"
    terms: tuple[tuple[str, str], ...]


Part = Words | Alarm | Lines | Table | Figures | Spots | Legend | Drawings | Terms


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it.

    Parameters
    ----------
    name : of its address in the page.
    """

    name: str
    title: str
    parts: tuple[Part, ...]


def table_of(
    title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: tuple[int, ...] = ()
) -> Table:
    """A table of plain text."""
    return Table(title, header, tuple(tuple(Cell(text) for text in row) for row in rows), frozenset(numbers))
