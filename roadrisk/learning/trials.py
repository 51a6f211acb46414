"""The trials of a search, kept as they are made: a line of JSON each, beside what is found."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from roadrisk.errors import ModelError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FORMAT = 1

Param = str | int | float
Space = dict[str, "BaseDistribution"]


@dataclass(frozen=True)
class Tried:
    """Settings that were tried.

    Parameters
    ----------
    number : from 0.
    params : what was chosen, by name.
    value : of the measure; None where it failed.
    failed : why it could not be judged; empty where it could.
    """

    number: int
    params: Mapping[str, Param]
    value: FiniteFloat | None = None
    failed: str = ""


class Trials:
    """All trials so far; each new one is on disk before it is known here."""

    def __init__(self, file: IO[bytes], tried: list[Tried]) -> None:
        self.file, self.all = file, tried

    def add(self, tried: Tried) -> None:
        """Keep one."""
        _append(self.file, asdict(tried))
        self.all.append(tried)


@contextmanager
def kept_trials(out: Path, plan: str, space: Space) -> Iterator[Trials]:
    """The trials of a search whose best is written as `out`; none where it has yet to begin.

    A last line that was cut short, as by a loss of power, is dropped.

    Parameters
    ----------
    plan : what a search that goes on must have in common with the one that stopped.
    space : what each trial chose from.

    Raises
    ------
    ModelError : `out` is there and is of no search, or the trials are of another one, are not such, cannot
        be read or written, or are being written by another run.
    """
    path = out.with_name(f"{out.name}.trials")
    if out.exists() and not path.exists():
        raise ModelError(
            f"{out} exists and is of no search that could go on; choose another -o, or remove it"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise ModelError(f"{path} cannot be written ({error.strerror}); choose another -o") from None
    with file:
        _lock(file, path)
        yield Trials(file, _read(file, path, plan, space))


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ModelError(
            f"{path} is being written by another search; wait for it, or choose another -o"
        ) from None


def _read(file: IO[bytes], path: Path, plan: str, space: Space) -> list[Tried]:
    file.seek(0)
    text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    file.truncate(len(whole))
    if not whole:
        _append(file, {"kind": "roadrisk trials", "format": FORMAT, "plan": plan})
        return []
    damaged = ModelError(f"{path} is damaged, or holds no trials; remove it to start over")
    try:
        head, *lines = [json.loads(line) for line in whole.splitlines()]
        if head["kind"] != "roadrisk trials":
            raise damaged
        if head["format"] != FORMAT or head["plan"] != plan:
            raise ModelError(
                f"{path} holds a search over other data, settings or choices; choose another -o, or remove it"
            )
        tried: list[Tried] = TypeAdapter(list[Tried]).validate_python(lines)
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError):
        raise damaged from None
    for number, one in enumerate(tried):
        judged = one.value is not None
        if one.number != number or judged == bool(one.failed) or not _fits(one.params, space):
            raise damaged
    return tried


def _fits(params: Mapping[str, Param], space: Space) -> bool:
    """Whether there is one of the choices for each name."""
    return set(params) == set(space) and all(_chosen(params[name], space[name]) for name in space)


def _chosen(value: Param, choice: BaseDistribution) -> bool:
    own = getattr(choice, "choices", None)
    if own is None:
        return isinstance(value, float) and bool(choice._contains(value))
    return any(type(value) is type(one) and value == one for one in own)


def _append(file: IO[bytes], line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
