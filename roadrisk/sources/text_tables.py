"""Delimited text as a stream of columns of text, whatever the encoding, delimiter and line ends."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from roadrisk.errors import SourceError
from roadrisk.sources.file_kinds import kind_of_bytes

# `None` and `-` are not among them: severities are written so
NULL_WORDS = ("", "NULL", "null", "NaN", "nan", "NA", "N/A", "n/a", "#N/A", "<NA>")

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_ENCODINGS = {"utf-8-sig": "UTF-8", "utf-16": "UTF-16", "latin-1": "not UTF-8, so read as Latin-1"}
_HEAD_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20  # Arrow reads some dozen ahead
_ROWS = 20_000  # of the slower reader
_DAMAGED = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class TextTable:
    """A text file as a table.

    Parameters
    ----------
    delimiter : between fields.
    understood : what was guessed about the format, for people.
    read : columns -> tables of these columns of text or null, without blanks around.
    """

    columns: tuple[str, ...]
    delimiter: str
    understood: str
    read: Callable[[Sequence[str]], Iterator[pa.Table]]


@dataclass(frozen=True)
class _Text:
    """A text file and how it is written.

    Parameters
    ----------
    skipped : rows before the first of data, blank lines included.
    fields : that every row has.
    by : what says how many, for a message.
    """

    path: Path
    encoding: str
    delimiter: str
    skipped: int
    fields: int
    by: str


def text_table(path: Path, delimiter: str | None = None, names: Sequence[str] = ()) -> TextTable:
    """The table in a text file.

    Parameters
    ----------
    delimiter : found in the file when not given.
    names : of the columns, where the file has no header line.

    Raises
    ------
    SourceError : the file is empty, damaged or no text, a quote does not end, the names are not as many as
        the fields; while it is read, a row that has more or fewer fields than the others.
    """
    head, encodings = _head(path)
    delimiter = delimiter or _delimiter(head)
    encoding, spaced_quotes, odd_quotes = _scanned(path, encodings, delimiter)
    rows = [row for _, row in itertools.islice(_rows(path, encoding, delimiter), 2)]
    columns = _checked_names(path, rows, names)
    blank_lines = len(re.findall(r"\r\n|\r|\n", head[: len(head) - len(head.lstrip("\r\n"))]))
    by = "the first row" if names else "the header"
    text = _Text(path, encoding, delimiter, blank_lines + (not names), len(columns), by)
    if odd_quotes:
        _check_quotes(text)

    def read(wanted: Sequence[str]) -> Iterator[pa.Table]:
        order = [columns.index(name) for name in dict.fromkeys(wanted)]
        batches = _slow_batches(text, order) if spaced_quotes else _batches(text, order)
        for batch in batches:
            cleaned = [_without_blanks(column) for column in batch.columns]
            yield pa.Table.from_arrays(cleaned, names=[columns[i] for i in order or [0]])

    return TextTable(columns, delimiter, f"{_DELIMITERS[delimiter]}-separated, {_ENCODINGS[encoding]}", read)


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _head(path: Path) -> tuple[str, tuple[str, ...]]:
    """The beginning, and the encodings the file may have, the likeliest first."""
    try:
        with _opened(path) as file:
            head = file.read(_HEAD_BYTES)
    except _DAMAGED as error:
        raise _damaged(path, error) from None
    kind = kind_of_bytes(head)
    if kind is not None:
        raise SourceError(f"{path} is not a table of text: it looks like {kind.looks}; {kind.fix}")
    is_utf_16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encodings = ("utf-16",) if is_utf_16 else ("utf-8-sig", "latin-1")
    text = head.decode(encodings[0], errors="replace")
    if not text.strip():
        raise SourceError(f"{path} is empty; export it again")
    return text, encodings


def _delimiter(head: str) -> str:
    unquoted = re.sub(r'"[^"]*"', "", head).lstrip("\r\n")
    header = re.split(r"[\r\n]", unquoted, maxsplit=1)[0]
    return max(_DELIMITERS, key=header.count)


def _scanned(path: Path, encodings: Sequence[str], delimiter: str) -> tuple[str, bool, bool]:
    """The first encoding that fits every byte, whether quotes stand after blanks, and whether their number
    is odd.
    """
    for encoding in encodings:
        try:
            return encoding, *_quotes(path, encoding, f'{delimiter} "')
        except UnicodeDecodeError:
            continue
        except _DAMAGED as error:
            raise _damaged(path, error) from None
    raise SourceError(f"{path} is cut off or no {_ENCODINGS[encodings[-1]]}; export it again as UTF-8")


def _quotes(path: Path, encoding: str, spaced: str) -> tuple[bool, bool]:
    quotes, has_spaced, tail = 0, False, ""
    with _opened(path) as file:
        blocks = iter(lambda: file.read(_BLOCK_BYTES), b"")
        for text in codecs.iterdecode(blocks, encoding):
            quotes += text.count('"')
            has_spaced = has_spaced or spaced in text or spaced in tail + text[:2]
            tail = text[-2:]
    return has_spaced, quotes % 2 == 1


def _rows(path: Path, encoding: str, delimiter: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """The line each row ends on, counted from 1, and its fields; blank lines are no rows."""
    with _opened(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=strict)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise SourceError(
                f"{path} is not a table: line {reader.line_num}: {error}; mend its quotes"
            ) from None


def _checked_names(path: Path, rows: Sequence[list[str]], names: Sequence[str]) -> tuple[str, ...]:
    first = rows[0]
    if names:
        if len(names) != len(first):
            raise SourceError(
                f"{path}: `columns` names {len(names)} columns, but its first row has {len(first)} fields: "
                f"{', '.join(map(repr, first[:8]))}{', ...' if len(first) > 8 else ''}; name each"
            )
        return tuple(names)
    if sum(re.fullmatch(r"\s*-?\d+\.\d+\s*", field) is not None for field in first) >= 2:
        raise SourceError(
            f"{path} has no header line: it begins {', '.join(map(repr, first[:8]))}; name its {len(first)} "
            "columns with `columns` in the region file"
        )
    if len(rows) > 1 and len(rows[1]) > len(first):
        raise SourceError(
            f"{path}: its rows have more fields than its header has names; mend the header line"
        )
    return tuple(field.strip() or f"Unnamed: {i}" for i, field in enumerate(first))


def _check_quotes(text: _Text) -> None:
    """An odd number of quotes: either one stands inside a word, or one swallows the rest of the file."""
    for _ in _rows(text.path, text.encoding, text.delimiter, strict=True):
        pass


def _batches(text: _Text, order: Sequence[int]) -> Iterator[pa.RecordBatch]:
    names = [str(i) for i in range(text.fields)]
    included = [str(i) for i in order] or names[:1]
    compression = "gzip" if text.path.suffix.lower() == ".gz" else None
    try:
        with (
            pa.input_stream(str(text.path), compression=compression) as stream,
            arrow_csv.open_csv(
                stream,
                # one thread: with more, an error does not know its row
                read_options=arrow_csv.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK_BYTES,
                    column_names=names,
                    skip_rows_after_names=text.skipped,
                    encoding="utf8" if text.encoding == "utf-8-sig" else text.encoding,
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=text.delimiter, newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=included,
                    null_values=NULL_WORDS,
                    strings_can_be_null=True,
                ),
            ) as reader,
        ):
            yield from reader
    except pa.ArrowInvalid as error:
        _check_fields(text)
        raise SourceError(f"{text.path} is not a table: {_reason(error)}; export it again as CSV") from None


def _slow_batches(text: _Text, order: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """As `_batches`, for quotes after blanks, which Arrow takes for a part of the word."""
    numbered = _rows(text.path, text.encoding, text.delimiter)
    wanted = order or [0]
    for _ in range(text.skipped > 0 and text.by == "the header"):
        next(numbered)
    while rows := list(itertools.islice(numbered, _ROWS)):
        for line, row in rows:
            _check_row(text, line, row)
        yield pa.RecordBatch.from_arrays(
            [_with_nulls(pa.array([row[i] for _, row in rows], pa.string())) for i in wanted],
            names=list(map(str, wanted)),
        )


def _check_fields(text: _Text) -> None:
    for line, row in _rows(text.path, text.encoding, text.delimiter):
        _check_row(text, line, row)


def _check_row(text: _Text, line: int, row: list[str]) -> None:
    if len(row) != text.fields:
        raise SourceError(
            f"{text.path} is not a table: line {line} has {len(row)} field{'s' * (len(row) != 1)}, {text.by} "
            f"{text.fields}; mend that line"
        )


def _without_blanks(column: pa.Array) -> pa.Array:
    """Text without blanks around; null where it then stands for nothing."""
    trimmed = pc.utf8_trim_whitespace(column)
    if pc.sum(pc.binary_length(trimmed)) == pc.sum(pc.binary_length(column)):
        return column
    return _with_nulls(trimmed)


def _with_nulls(column: pa.Array) -> pa.Array:
    nothing = pc.is_in(column, value_set=pa.array(NULL_WORDS))
    return pc.if_else(nothing, pa.scalar(None, pa.string()), column)


def _damaged(path: Path, error: BaseException) -> SourceError:
    return SourceError(f"cannot read {path}: {_reason(error)}; export it again")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
