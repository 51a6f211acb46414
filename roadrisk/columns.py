"""A column: one fact a tile, and everything a reader must know to use it rightly."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from numpy.typing import NDArray

Role = Literal["feature", "label", "exposure", "info"]
Combine = Literal["sum", "mean", "ratio", "min", "max", "any", "mode", "none"]

MOST_CLASSES = 10  # whole numbers that are classes as they stand


@dataclass(frozen=True)
class Column:
    """One fact a tile.

    Parameters
    ----------
    name : as in `tiles.parquet`.
    dtype : numpy's name, `float64`, `int64`, `bool`, `object` for text.
    unit : of the value, `m`, `events`, `share`; empty without one.
    role : `feature` may enter a model, `label` is learned, `exposure` is an offset, `info` neither.
    combine : how the values of several tiles make that of their union.
    meaning : one sentence for the reader of a layer.
    source : the source it was made from.
    window : the dates [from, to) it tells of, ISO.
    by : the column that weights a `mean`, or the two sums of a `ratio`.
    withheld : why a model does not use it unless asked for by name; empty where it may.
    """

    name: str
    dtype: str
    unit: str
    role: Role
    combine: Combine
    meaning: str
    source: str | None = None
    window: tuple[str, str] | None = None
    by: tuple[str, ...] = ()
    withheld: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values; `column_from_json` gives the column back."""
        return asdict(self)


# a column with its (size,) values in (row, col) order
Fact = tuple[Column, NDArray[Any]]


def word(text: str) -> str:
    """Text as part of a column's name: lower case, letters, digits and _, at most 64 of them.

    >>> word("Principal Arterial - Other"), word("---")
    ('principal_arterial_other', '')
    """
    return re.sub(r"\W+", "_", text).strip("_").lower()[:64].rstrip("_")


def column_from_json(fields: dict[str, Any]) -> Column:
    """The column that `as_json` wrote."""
    window = fields.get("window")
    return Column(
        **{**fields, "window": tuple(window) if window else None, "by": tuple(fields.get("by", ()))}
    )
