"""Downloading: many tiles from a server, at most so many at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from roadrisk.errors import SourceError
from roadrisk.imagery.manners import POLITE, Manners, client_of, in_own_loop
from roadrisk.imagery.tiles.addresses import host_of
from roadrisk.imagery.tiles.asking import Asking, Failure, Pace, Wanted
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

    @property
    def answered(self) -> int:
        """Number of tiles for which the server had an answer."""
        return self.done - self.failed.total()

    def is_hopeless(self, manners: Manners) -> bool:
        """Whether going on would only trouble the server."""
        alike = max(self.failed.values(), default=0)
        at_first = not self.answered and alike >= manners.alike_at_most
        return at_first or self.failed.total() >= manners.failures_at_most


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
    for at most one tile a connection. Until the first answer a tile has fewer tries, so that a server that is
    down or wrong is soon said to be.

    Parameters
    ----------
    total : number of tiles wanted.
    keep : what is done with answers; called from other threads, never twice at once.
    heard : told of each tile and of each wait, from another thread.

    Raises
    ------
    SourceError : tiles that could not be fetched, after the rest has been; or a server that fails from the
        start. Says how many, why, and where first. Tiles of another size than `tile_px`.
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
        tries_at_first = min(manners.tries, manners.tries_at_first)
        at_first = replace(asking, manners=replace(manners, tries=tries_at_first))

        async def answer(tile: Wanted) -> Answer | Failure:
            if not course.answered:
                outcome = await at_first.answer(tile)
                if isinstance(outcome, Answer) or not outcome.passing or not course.answered:
                    return outcome
            return await asking.answer(tile)

        async def connection() -> None:
            for tile in wanted:
                try:
                    outcome = await answer(tile)
                except SourceError as wrong:
                    raise SourceError(f"{host_of(tile.address)}: {wrong}") from None
                course.done += 1
                if isinstance(outcome, Answer):
                    await keeping.kept(outcome)
                else:
                    course.failed[outcome.reason] += 1
                    course.first_failed = course.first_failed or tile.address
                heard(course)
                if course.is_hopeless(manners):
                    # which ends the other connections too
                    raise _not_fetched(course)

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
