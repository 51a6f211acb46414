"""Work on many tiles that is done in parts where memory does not allow all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from roadrisk.errors import ModelError
from roadrisk.grid import IntArray

T = TypeVar("T")
IN_PARTS = "out of memory: batches are taken in smaller parts from here on, which gives the same weights"


def parts(rows: IntArray, at_once: int) -> list[IntArray]:
    """Rows in parts of `at_once`."""
    return [rows[first : first + at_once] for first in range(0, len(rows), at_once)]


def as_memory_allows(work: Callable[[int], T], at_once: int, told: Callable[[str], None]) -> tuple[T, int]:
    """What `work` makes with so many tiles at once, or half as many until they fit; and how many did.

    Raises
    ------
    ModelError : one tile does not fit.
    """
    while True:
        try:
            return work(at_once), at_once
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if at_once == 1:
                raise ModelError(
                    "out of memory with one tile at a time; use a smaller encoder or smaller pictures, "
                    "or a machine with more memory"
                ) from error
        # here, where the error and all that it held are gone
        at_once = (at_once + 1) // 2
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        told(IN_PARTS)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a tensor does not fit; torch has a class of its own for GPUs only."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(error) for words in ("can't allocate memory", "_ALLOC_FAILED")
    )
