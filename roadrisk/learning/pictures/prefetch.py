"""What is needed next, made while the last is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from os import sched_getaffinity
from typing import TypeVar

AHEAD = 2

Job = TypeVar("Job")
Made = TypeVar("Made")


def prefetched(
    make: Callable[[Job], Made], jobs: Iterable[Job], workers: int = 1
) -> Generator[Made, None, None]:
    """`make` of each job, in order, made by threads of their own a few jobs ahead.

    What `make` raises is raised where its result would have come. Closing the iterator, or leaving it
    behind, ends the threads after the jobs that they are at.

    Parameters
    ----------
    jobs : asked for in the caller's thread, at most `AHEAD` a worker before their results are.

    Examples
    --------
    >>> list(prefetched(str.upper, "abc"))
    ['A', 'B', 'C']
    """
    with ThreadPoolExecutor(workers, "prefetch") as threads:
        waiting: deque[Future[Made]] = deque()
        try:
            for job in jobs:
                waiting.append(threads.submit(make, job))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def cores() -> int:
    """How many threads may work at once here, at most eight: more have nothing left to read."""
    return min(8, len(sched_getaffinity(0)))
