"""Downloading: many tiles from a server, at most so many at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from roadrisk.errors import SourceError
from roadrisk.imagery.manners import POLITE, Manners, client_of, in_own_loop
from roadrisk.imagery.tiles.asking import Asking, Pace, Wanted
from roadrisk.imagery.tiles.tile_cache import Answer

Keep = Callable[[Sequence[Answer]], None]


@dataclass
class Course:
    """How a download goes.

    Parameters
    ----------
    failed : why -> number of tiles.
    first_failed : the masked address of one of them.
    said : what the server asked for last.
    """

    total: int
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    first_failed: str = ""
    said: str = ""

    def is_hopeless(self, manners: Manners) -> bool:
        """Whether going on would only trouble the server."""
        failures = self.failed.total()
        alike = failures == self.done >= manners.alike_at_most and len(self.failed) == 1
        return alike or failures >= manners.failures_at_most


def download(
    wanted: Iterable[Wanted],
    total: int,
    tile_px: int,
    keep: Keep,
    heard: Callable[[Course], None],
    manners: Manners = POLITE,
) -> None:
    """Ask for every tile and hand over each answer.

    A connection asks for its next tile when its answer has been kept, so that a killed run has to ask again
    for at most one tile a connection.

    Parameters
    ----------
    total : number of tiles wanted.
    keep : what is done with answers; called from other threads, never twice at once.
    heard : told of each tile and of each wait, from another thread.

    Raises
    ------
    SourceError : tiles that could not be fetched, after the rest has been; or a server that fails from the
        start. Says how many, why, and where first.
    """
    course = Course(total)
    in_own_loop(lambda: _download(iter(wanted), tile_px, keep, heard, manners, course))
    if course.failed:
        raise _not_fetched(course)


async def _download(
    wanted: Iterator[Wanted],
    tile_px: int,
    keep: Keep,
    heard: Callable[[Course], None],
    manners: Manners,
    course: Course,
) -> None:
    def said(what: str) -> None:
        course.said = what
        heard(course)

    keeping = _Keeping(keep)
    async with client_of(manners) as client:
        asking = Asking(client, tile_px, manners, Pace(manners.rate_per_s), said)

        async def connection() -> None:
            for tile in wanted:
                outcome = await asking.answer(tile)
                course.done += 1
                if isinstance(outcome, Answer):
                    await keeping.kept(outcome)
                else:
                    course.failed[outcome.reason] += 1
                    course.first_failed = course.first_failed or tile.address
                heard(course)
                if course.is_hopeless(manners):
                    return

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(manners.connections):
                    group.create_task(connection())
        except* SourceError as errors:
            raise errors.exceptions[0] from None


class _Keeping:
    """Keeps answers one batch at a time: what comes while a batch is written goes into the next."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        self.waiting: list[Answer] = []
        self.writing = asyncio.Lock()

    async def kept(self, answer: Answer) -> None:
        """Return when `answer` is kept."""
        self.waiting.append(answer)
        async with self.writing:
            # else the batch before had it
            if self.waiting:
                batch, self.waiting = self.waiting, []
                await asyncio.to_thread(self.keep, batch)


def _not_fetched(course: Course) -> SourceError:
    keyed = any(why.startswith(("401", "403")) for why in course.failed)
    reasons = ", ".join(f"{why}: {number:,}" for why, number in course.failed.most_common())
    failures, rest = course.failed.total(), course.total - course.done
    left = f", and {rest:,} were not asked for" if rest else ""
    return SourceError(
        f"{failures:,} of {course.total:,} tiles could not be fetched ({reasons}; "
        f"first {course.first_failed}){left}; check the address{' and its key' if keyed else ''}, and run "
        "the same command again: what was fetched is kept"
    )
