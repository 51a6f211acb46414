"""What became of a source's rows: nothing is lost in silence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from roadrisk.errors import RoadriskError


@dataclass(frozen=True)
class Account:
    """Rows of one source: read = used + rejected + outside + left out.

    Parameters
    ----------
    source : its name, as in column names.
    read : rows the file holds.
    used : rows that made it into the tiles.
    rejected : rows by the reason they could not be used.
    outside : sound rows outside the grid.
    left_out : sound rows by the reason they do not count, all of them as asked or as the source is meant:
        another value than those to keep, a copy, outside the coverage.

    Raises
    ------
    RoadriskError : the sum does not hold.

    Examples
    --------
    >>> print(Account("crashes", 10, 7, {"no coordinates": 1, "no date": 0}, 2))
    crashes: 10 rows read, 7 used, 2 outside the grid, 1 rejected (no coordinates 1)
    >>> print(Account("crashes", 10, 7, {}, 2, {"not source MDOT": 1}))
    crashes: 10 rows read, 7 used, 2 outside the grid, 1 left out (not source MDOT 1), 0 rejected
    """

    source: str
    read: int
    used: int
    rejected: dict[str, int]
    outside: int
    left_out: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("rejected", "left_out"):
            object.__setattr__(self, name, {reason: n for reason, n in getattr(self, name).items() if n})
        if self.read != self.used + self.rejected_rows + self.outside + self.left_out_rows:
            raise RoadriskError(
                f"{self.source}: {self.read} rows read are not {self.used} used + {self.rejected_rows} "
                f"rejected + {self.outside} outside + {self.left_out_rows} left out; "
                "please report this as a bug"
            )

    @property
    def rejected_rows(self) -> int:
        """Rows rejected for any reason."""
        return sum(self.rejected.values())

    @property
    def left_out_rows(self) -> int:
        """Rows left out for any reason."""
        return sum(self.left_out.values())

    @property
    def reasons(self) -> str:
        """`reason n` of every rejection, the commonest first."""
        return _said(self.rejected)

    @property
    def left_out_reasons(self) -> str:
        """`reason n` of every row left out, the commonest first."""
        return _said(self.left_out)

    def __str__(self) -> str:
        left_out = f"{self.left_out_rows:,} left out ({self.left_out_reasons}), " if self.left_out else ""
        reasons = f" ({self.reasons})" if self.rejected else ""
        return (
            f"{self.source}: {self.read:,} rows read, {self.used:,} used, {self.outside:,} outside the grid, "
            f"{left_out}{self.rejected_rows:,} rejected{reasons}"
        )

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values; `Account(**fields)` gives the account back."""
        return asdict(self)


def _said(reasons: dict[str, int]) -> str:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {n:,}" for reason, n in ordered)
