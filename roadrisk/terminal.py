"""How commands speak: the options they share, progress and the summary on stderr, paths or JSON on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from roadrisk.plain_text import plain
from roadrisk.words import joined_words

if TYPE_CHECKING:
    from roadrisk.progress import Progress

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of paths.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")]


class Command(TyperCommand):
    """A command whose `--bbox W S E N` may also be written `--bbox W,S,E,N`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, joined_words(args))


def report(lines: list[str], quiet: bool) -> None:
    """The summary, on stderr."""
    if not quiet:
        for line in lines:
            typer.echo(plain(line), err=True)


def finish(paths: list[Path], result: dict[str, Any], as_json: bool) -> None:
    """What was written, on stdout: one path a line, or one JSON object."""
    if as_json:
        typer.echo(json.dumps(result))
    else:
        for path in paths:
            typer.echo(str(path))


@contextmanager
def shown(quiet: bool) -> Iterator[Progress]:
    """Progress bars on stderr, one a stage."""
    from roadrisk.progress import silent

    if quiet:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    bars = Bars(*columns, console=Console(stderr=True))
    try:
        yield stage_bars(bars)
    finally:
        if bars.tasks:
            bars.stop()


def stage_bars(bars: Any) -> Callable[..., None]:
    """A `Progress` that draws a bar for each stage it hears of."""
    tasks: dict[str, Any] = {}

    def heard(stage: str, done: int, total: int, note: str = "") -> None:
        if not tasks:
            bars.start()
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total, note=note)
        bars.update(tasks[stage], completed=done, total=total, note=note)

    return heard
