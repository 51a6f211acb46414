"""What became of a source's rows: nothing is lost in silence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from roadrisk.errors import RoadriskError


@dataclass(frozen=True)
class Account:
    """Rows of one source: read = used + rejected + outside.

    Parameters
    ----------
    source : its name, as in column names.
    read : rows the file holds.
    used : rows that made it into the tiles.
    rejected : rows by the reason they could not be used.
    outside : sound rows outside the grid.

    Raises
    ------
    RoadriskError : the sum does not hold.

    Examples
    --------
    >>> print(Account("crashes", 10, 7, {"no coordinates": 1, "no date": 0}, 2))
    crashes: 10 rows read, 7 used, 2 outside the grid, 1 rejected (no coordinates 1)
    """

    source: str
    read: int
    used: int
    rejected: dict[str, int]
    outside: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "rejected", {reason: n for reason, n in self.rejected.items() if n})
        if self.read != self.used + self.rejected_rows + self.outside:
            raise RoadriskError(
                f"{self.source}: {self.read} rows read are not {self.used} used + {self.rejected_rows} "
                f"rejected + {self.outside} outside; please report this as a bug"
            )

    @property
    def rejected_rows(self) -> int:
        """Rows rejected for any reason."""
        return sum(self.rejected.values())

    @property
    def reasons(self) -> str:
        """`reason n` of every rejection, the commonest first."""
        ordered = sorted(self.rejected.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{reason} {n:,}" for reason, n in ordered)

    def __str__(self) -> str:
        reasons = f" ({self.reasons})" if self.rejected else ""
        return (
            f"{self.source}: {self.read:,} rows read, {self.used:,} used, {self.outside:,} outside the grid, "
            f"{self.rejected_rows:,} rejected{reasons}"
        )

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values; `Account(**fields)` gives the account back."""
        return asdict(self)
