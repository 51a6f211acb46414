"""What the chunks of a source of lines, polygons or counts come to, and its account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from roadrisk.grid import Bbox
from roadrisk.sources.account import Account


@dataclass(frozen=True)
class Part:
    """What a chunk came to.

    Parameters
    ----------
    rows : that the chunk holds.
    kept : the rows in the grid: `source_row`, what was asked of them, and `geometry` in the grid's CRS.
    rejected, left_out : rows by reason.
    outside : sound rows outside the grid.
    bounds : of all sound rows.
    met : column of `keep` -> its values in the file so far.
    """

    rows: int
    kept: pd.DataFrame
    rejected: Counter[str]
    left_out: Counter[str]
    outside: int
    bounds: Bbox
    met: dict[str, set[str]]


def account_of(source: str, parts: Sequence[Part], left_out: Mapping[str, int] | None = None) -> Account:
    """What became of the rows of all parts.

    Parameters
    ----------
    left_out : kept rows that turned out not to count, by reason.
    """
    later = Counter(left_out)
    every = sum((p.left_out for p in parts), later)
    # by name, so that no order of rows shows
    return Account(
        source=source,
        read=sum(p.rows for p in parts),
        used=sum(len(p.kept) for p in parts) - later.total(),
        rejected=dict(sorted(sum((p.rejected for p in parts), Counter[str]()).items())),
        outside=sum(p.outside for p in parts),
        left_out=dict(sorted(every.items())),
    )


def lost_reasons(account: Account) -> str:
    """`reason n` of every row rejected or left out."""
    return ", ".join(filter(None, (account.reasons, account.left_out_reasons)))


def met_of(parts: Sequence[Part], columns: Iterable[str]) -> dict[str, set[str]]:
    """Column of `keep` -> its values in all files."""
    return {column: set[str]().union(*(p.met[column] for p in parts)) for column in columns}
