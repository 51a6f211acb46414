"""What a source of pictures comes down to: names that GDAL opens, and what is known of each beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from roadrisk.imagery.sheets import Dates


@dataclass(frozen=True)
class Given:
    """A sheet by its name.

    Parameters
    ----------
    path : what GDAL opens.
    taken : when the picture was taken; None where nothing says.
    identity : what makes it the same sheet; None where the file itself says.
    """

    path: str
    taken: Dates | None = None
    identity: dict[str, Any] | None = None


@dataclass(frozen=True)
class GivenSheets:
    """The sheets of one source.

    Parameters
    ----------
    notes : what is to be said of the source, a line a fact.
    licence, attribution : where the source itself says; None where it does not.
    """

    found: tuple[Given, ...]
    notes: tuple[str, ...] = field(default=())
    licence: str | None = None
    attribution: str | None = None


@dataclass(frozen=True)
class Download:
    """What fetching a source's pictures would take: `--dry-run`.

    Parameters
    ----------
    tiles : of the server, over the whole grid.
    kept : how many of them the cache has, samples included.
    bytes : of those that it has not, about.
    rate_per_s : tiles asked for a second, at most.
    terms : the provider's terms, a line a fact.
    """

    source: str
    tiles: int
    kept: int
    bytes: int
    rate_per_s: float
    terms: tuple[str, ...]

    @property
    def left(self) -> int:
        """Number of tiles to ask for."""
        return self.tiles - self.kept

    @property
    def minutes(self) -> float:
        """What asking for them takes at the least."""
        return self.left / self.rate_per_s / 60
