"""What a map file says of itself: the noun that every reader makes, and how words become it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

HEAD_BYTES = 1024
MAGIC = {".gpkg": b"SQLite format 3\0", ".fgb": b"fgb\x03fgb"}


@dataclass(frozen=True)
class LayerField:
    """One field of a layer, with as much as the file tells of it."""

    name: str
    dtype: str
    alias: str = ""
    unit: str = ""
    window: tuple[str, str] | None = None
    source: str = ""
    description: str = ""


@dataclass(frozen=True)
class LayerFile:
    """A map file.

    Parameters
    ----------
    features : number of them; None where nothing says.
    geometry : its type, `Polygon`, or `Raster`; empty without one.
    crs : as `EPSG:32619`; empty where nothing says.
    about : title, licence, attribution, model and windows, as far as the file has them.
    """

    path: Path
    features: int | None
    geometry: str
    crs: str
    fields: tuple[LayerField, ...]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether roadrisk says that it made it."""
        return bool(self.about)


def check_kind(path: Path) -> None:
    """Nothing, if a file begins as its suffix says: GDAL would open any form, some of which name other files.

    Raises
    ------
    ValueError : it does not.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    suffix = path.suffix.lower()
    if suffix in MAGIC:
        fits = head.startswith(MAGIC[suffix])
    else:
        fits = head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n\x1e").startswith(b"{")
    if not fits:
        raise ValueError(f"it is no {suffix} file")


def words_in(value: Any) -> dict[str, Any]:
    """The words of a `roadrisk` member; nothing without one.

    Raises
    ------
    ValueError, KeyError, TypeError : they are none.
    """
    if value is None:
        return {}
    words = [value[name] for name in ("title", "licence", "attribution", "model")]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("its roadrisk member does not hold words")
    return {**value, "windows": {name: window_of(window) for name, window in value["windows"].items()}}


def window_of(value: Any) -> tuple[str, str]:
    """Dates [from, to) of JSON."""
    start, end = value
    return date.fromisoformat(start).isoformat(), date.fromisoformat(end).isoformat()


def fields_told(
    dtypes: dict[str, str], about: dict[str, Any], words: dict[str, dict[str, Any]]
) -> tuple[LayerField, ...]:
    """The fields in order, each with what `about` says of it, else what its own words do."""
    columns = {column["name"]: column for column in _columns(about)}
    return tuple(
        _field(name, dtype, columns.get(name, {}), words.get(name, {})) for name, dtype in dtypes.items()
    )


def _field(name: str, dtype: str, column: dict[str, Any], words: dict[str, Any]) -> LayerField:
    def said(key: str) -> str:
        return next((str(told[key]) for told in (column, words) if told.get(key)), "")

    return LayerField(
        name=name,
        dtype=dtype,
        alias=said("alias"),
        unit=said("unit"),
        window=window_of(column["window"]) if column.get("window") else None,
        source=said("source"),
        description=said("meaning") or said("description"),
    )


def _columns(about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    columns = about.get("columns")
    for column in columns if isinstance(columns, list) else []:
        if isinstance(column, dict) and isinstance(column.get("name"), str):
            yield column
