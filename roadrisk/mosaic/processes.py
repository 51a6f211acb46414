"""Processes: jobs are done in several at once, and none outlives the run that it works for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

from roadrisk.errors import DatasetError

Job = TypeVar("Job")
Done = TypeVar("Done")


def finished(work: Callable[[Job], Done], jobs: Sequence[Job], workers: int) -> Generator[Done, None, None]:
    """What `work` makes of the jobs, in any order; after an error or an interrupt the rest is called off.

    Parameters
    ----------
    work : a function of a module that imports little, since every worker pays for it.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from map(work, jobs)
        return
    # spawn: GDAL does not survive a fork
    context = multiprocessing.get_context("spawn")
    until, hold = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(until,))
    # a thread where Ctrl-C does not come: workers inherit that, and none is left half-started
    starter = ThreadPoolExecutor(1, "", signal.pthread_sigmask, (signal.SIG_BLOCK, {signal.SIGINT}))
    pending: set[Future[Done]] = set()
    try:
        for job in jobs:
            pending.add(starter.submit(pool.submit, work, job).result())
            if len(pending) >= 2 * workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise DatasetError(
            "a process that cut pictures died, as when memory runs out; run the same again with --workers "
            f"{max(1, workers // 2)}: finished parts are kept; in a script, call it under "
            "`if __name__ == '__main__':`"
        ) from None
    finally:
        # first: an impatient second Ctrl-C must not leave workers that everybody waits for
        hold.close()
        starter.shutdown(wait=True)
        pool.shutdown(wait=True, cancel_futures=True)
        until.close()


def _begin_worker(until: Connection) -> None:
    """End as soon as the parent lets go of the other end, or is killed: nobody may go on writing."""
    threading.Thread(target=_end_with, args=(until,), daemon=True).start()


def _end_with(until: Connection) -> None:
    wait_for([until])
    os._exit(1)
