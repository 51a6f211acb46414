"""Spans: some bytes of a file on disk or of one elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from roadrisk.errors import SourceError
from roadrisk.files import identity_of
from roadrisk.imagery.fetching import Ask, Fetched, fetched
from roadrisk.imagery.identities import remote_identity, web_address
from roadrisk.imagery.manners import Manners, named_status
from roadrisk.imagery.names import gdal_name, is_remote, public_name

# two spans that lie closer are asked for at once, up to a length
GAP_BYTES, RUN_BYTES = 32 << 10, 4 << 20


class Span(NamedTuple):
    """Bytes [offset, offset + length) of a file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + self.length


@dataclass(frozen=True)
class SpannedFile:
    """A file whose bytes are read in spans.

    Parameters
    ----------
    name : for people, without secrets.
    address : by HTTP; None on disk.
    bytes : how long it is; None where a server does not say.
    identity : what makes it the same file.
    """

    name: str
    path: Path
    address: str | None
    bytes: int | None
    identity: dict[str, Any]
    manners: Manners


def spanned_file(path: str, manners: Manners) -> SpannedFile:
    """A file by its path, or its address by HTTP or S3.

    Raises
    ------
    SourceError : it is not there.
    """
    name = gdal_name(path)
    if is_remote(name):
        known = remote_identity(name, manners)
        return SpannedFile(known["path"], Path(), web_address(name), known.get("bytes"), known, manners)
    if not Path(path).is_file():
        raise SourceError(f"no such archive: {path}; check the path")
    known = identity_of(Path(path), hashed=False)
    return SpannedFile(path, Path(path), None, known["bytes"], known, manners)


def bytes_at(file: SpannedFile, spans: Sequence[Span]) -> dict[Span, bytes]:
    """The bytes of each span; those that lie close together are read at once.

    Raises
    ------
    SourceError : the file ends before a span does, has changed, or its server serves no part of a file.
    """
    runs = joined(spans)
    read = _from_server(file, runs) if file.address else _from_disk(file, runs)
    within = {span: run for run, some in runs.items() for span in some}
    return {span: read[run][span.offset - run.offset :][: span.length] for span, run in within.items()}


def joined(spans: Sequence[Span]) -> dict[Span, list[Span]]:
    """Spans that lie close together, by the span around them.

    >>> joined([Span(500_000, 10), Span(0, 100), Span(200, 100)])
    {Span(offset=0, length=300): [Span(offset=0, length=100), Span(offset=200, length=100)], \
Span(offset=500000, length=10): [Span(offset=500000, length=10)]}
    """
    groups: list[tuple[Span, list[Span]]] = []
    for span in sorted(set(spans)):
        if groups:
            around, some = groups[-1]
            end = max(around.end, span.end)
            if span.offset - around.end <= GAP_BYTES and end - around.offset <= RUN_BYTES:
                groups[-1] = Span(around.offset, end - around.offset), [*some, span]
                continue
        groups.append((span, [span]))
    return dict(groups)


def _from_disk(file: SpannedFile, runs: dict[Span, list[Span]]) -> dict[Span, bytes]:
    read = {}
    try:
        with file.path.open("rb") as opened:
            for run in runs:
                read[run] = os.pread(opened.fileno(), run.length, run.offset)
    except OSError as error:
        raise SourceError(f"{file.name} cannot be read ({error.strerror}); check the file") from None
    if any(len(body) != run.length for run, body in read.items()):
        raise SourceError(f"{file.name} is cut off; copy it anew")
    return read


def _from_server(file: SpannedFile, runs: dict[Span, list[Span]]) -> dict[Span, bytes]:
    asks = [Ask(str(file.address), headers={"Range": f"bytes={run.offset}-{run.end - 1}"}) for run in runs]
    answers = fetched(asks, file.manners)
    for run, answer in zip(runs, answers, strict=True):
        _check_part(file, run, answer)
    return {run: answer.body for run, answer in zip(runs, answers, strict=True)}


def _check_part(file: SpannedFile, run: Span, answer: Fetched) -> None:
    if answer.status == HTTPStatus.OK:
        raise SourceError(
            f"the server of {file.name} sends no part of a file; download it, and give the file"
        )
    if answer.status != HTTPStatus.PARTIAL_CONTENT or len(answer.body) != run.length:
        raise SourceError(
            f"{public_name(file.name)} gave no bytes {run.offset:,} to {run.end:,} "
            f"({named_status(answer.status)}); check the address"
        )
    known = file.identity.get("etag")
    if known and answer.headers.get("etag", known) != known:
        raise SourceError(f"{file.name} has changed while it was read; run the same command again")
