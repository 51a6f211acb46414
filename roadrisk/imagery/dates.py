"""When a sheet was taken: as its item says, an index of sheets, or the region file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import PurePosixPath

import pandas as pd

from roadrisk.errors import SourceError
from roadrisk.imagery.given import Given
from roadrisk.imagery.names import public_name
from roadrisk.imagery.sheets import Dates
from roadrisk.source_settings import ImagerySource, SheetIndex
from roadrisk.sources.dates import is_month_first, order_evidence, read_dates
from roadrisk.sources.names import given_column
from roadrisk.sources.tables import as_text, table_at


def dated(source: ImagerySource, given: Sequence[Given]) -> list[Given]:
    """The same sheets with their dates: their own, else the index's, else the source's.

    Raises
    ------
    SourceError : the index cannot be read, names none of the sheets, or has rows of several sheets for one.
    """
    index = indexed_dates(source.index) if source.index else {}
    rows: dict[str, list[str]] = {}
    for name in index:
        rows.setdefault(_stem(name), []).append(name)
    whole: Dates | None = None
    if source.taken is not None:
        whole = source.taken[0].isoformat(), source.taken[1].isoformat()
    named = [_row(sheet_name(one.path), rows, source.index) for one in given]
    if source.index and given and not any(named):
        raise SourceError(
            f"{source.index.path} names none of the sheets of {public_name(source.path)}: it has "
            f"{min(index, default='none')}, they are {_stem(sheet_name(given[0].path))}; name its column of "
            "file names with index.name"
        )
    return [
        replace(one, taken=one.taken or (index[row] if row else whole))
        for one, row in zip(given, named, strict=True)
    ]


def indexed_dates(index: SheetIndex) -> dict[str, Dates]:
    """First and last date of each sheet that an index names; a sheet may stand there several times.

    Raises
    ------
    SourceError : no such file or column, or no date that can be read.
    """
    table = table_at(index.path, index.layer)
    columns = [index.name, index.taken]
    given_column(table.columns, index.name, "index.name", index.path)
    given_column(table.columns, index.taken, "index.taken", index.path)
    frame = pd.concat([attributes[columns] for attributes, _ in table.read(columns)], ignore_index=True)
    names = as_text(frame[index.name])
    days = _days(frame[index.taken], index)
    dates: dict[str, Dates] = {}
    for name, day in zip(names, days, strict=True):
        if name is None or day == "NaT":
            continue
        sheet = sheet_name(name)
        first, last = dates.get(sheet, (day, day))
        dates[sheet] = min(first, day), max(last, day)
    return dates


def sheet_name(path: str) -> str:
    r"""The name by which a sheet and its row in an index know each other: folders too, where there are any.

    >>> sheet_name("/vsicurl/https://a.example/2021/M_4209_SW.TIF"), sheet_name("2021\\m_4209_sw")
    ('https:/a.example/2021/m_4209_sw', '2021/m_4209_sw')
    """
    name = PurePosixPath(public_name(path).replace("\\", "/")).as_posix().lower()
    for suffix in (".tif", ".tiff", ".jp2", ".sid", ".jpg", ".png", ".img", ".vrt"):
        name = name.removesuffix(suffix)
    return name


def _row(sheet: str, rows: Mapping[str, list[str]], index: SheetIndex | None) -> str | None:
    """The row of a sheet: of its name, and of those the one that shares most of its folders."""
    shared = {row: _shared(sheet, row) for row in rows.get(_stem(sheet), [])}
    best = [row for row in shared if shared[row] == max(shared.values())]
    if index and len(best) > 1:
        raise SourceError(
            f"{index.path} has {best[0]} and {best[1]}, and either may be {sheet}; write the sheets' own "
            f"folders into {index.name}"
        )
    return best[0] if best else None


def _shared(a: str, b: str) -> int:
    """How many of the last parts of two names are the same."""
    pairs = zip(reversed(a.split("/")), reversed(b.split("/")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _stem(name: str) -> str:
    return name.rpartition("/")[2]


def _days(values: pd.Series, index: SheetIndex) -> list[str]:
    """ISO days, `NaT` where there is none."""
    if not pd.api.types.is_datetime64_any_dtype(values.dtype):
        # NAIP's index writes 20210615
        texts = pd.Series(as_text(values), dtype=object)
        values = texts.str.replace(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3", regex=True)
    read = read_dates(values)
    unreadable = ~read.readable & ~read.blank
    if unreadable.any():
        first = int(unreadable.argmax())
        raise SourceError(
            f"{index.path}: {int(unreadable.sum()):,} rows have no date in {index.taken}, the first is row "
            f"{first} with {values.iloc[first]!r}; mend it, or name another column with index.taken"
        )
    month_first, _ = is_month_first([order_evidence(read, values)], index.path)
    moments = read.month_first if month_first else read.day_first
    return [str(day) for day in moments.astype("datetime64[D]")]
