"""Plain values checked against a frozen dataclass, with errors that say where and what to write instead."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from roadrisk.errors import RoadriskError, UsageError

# the region file is TOML, whose users know no tuples
_PLAIN = {
    "tuple_type": "Should be a list in square brackets",
    "dict_type": "Should be a table, as in { key = value }",
    "dataclass_type": "Should be a table, as in { key = value }",
}
_SHOWN = 80  # characters of a value in a message
_BRANCH = re.compile(r"literal\[.*\]|tuple\[.*\]|dict\[.*\]|constrained-str|str|int|float|bool|[A-Z]\w\w+")


Settings = TypeVar("Settings")


def settings_of(schema: type[Settings], given: Mapping[str, Any], file: Path | None = None) -> Settings:
    """Settings from names and values, and from a TOML file where they say nothing.

    Parameters
    ----------
    schema : a frozen dataclass; its defaults stand for what is not said.

    Raises
    ------
    UsageError : no such file, a name that is none, or a value out of range.

    Examples
    --------
    >>> from roadrisk.learning.settings import TrainSettings
    >>> settings_of(TrainSettings, {"epoch": 3})
    Traceback (most recent call last):
    ...
    roadrisk.errors.UsageError: settings: unknown key 'epoch'; did you mean epochs?
    """
    kept: dict[str, Any] = {}
    if file is not None:
        try:
            kept = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"--settings {file} cannot be read as TOML ({reason})") from None
        checked(schema, kept, str(file), UsageError)
    settings: Settings = checked(schema, {**kept, **given}, "settings", UsageError)
    return settings


def checked(schema: Any, table: Mapping[str, Any], where: str, error: type[RoadriskError]) -> Any:
    """`table` as the dataclass `schema`, or one line that names `where`, the place and the fix."""
    try:
        return TypeAdapter(schema).validate_python(dict(table))
    except ValidationError as problems:
        # of a value that may be of several kinds, the problem that lies deepest says most
        first = max(problems.errors(include_url=False), key=_depth)
        raise error(f"{where}: {_said(schema, first)}") from None


def _depth(problem: Any) -> tuple[int, bool]:
    return len(_steps(problem)), problem["type"] != "literal_error"


def _steps(problem: Any) -> list[Any]:
    """Where a problem lies, without the kind that was tried there."""
    return [step for step in problem["loc"] if not _BRANCH.fullmatch(str(step))]


def _said(schema: Any, problem: Any) -> str:
    *above, key = _steps(problem) or [""]
    place = _place(above)
    if problem["type"] == "unexpected_keyword_argument":
        known = [f.name for f in fields(_schema_at(schema, above))]
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {key!r}{' in ' + place if place else ''}; {hint}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message
    message = _PLAIN.get(problem["type"], message)
    given = repr(problem["input"])
    shown = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}..."
    return f"{_place((*above, key))}: {message[0].lower()}{message[1:]}, not {shown}"


def _place(loc: Any) -> str:
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{step}"
    return text


def _schema_at(schema: Any, loc: Any) -> Any:
    for step in loc:
        if isinstance(step, int):
            continue
        hint = get_type_hints(schema)[step]
        schema = next((a for a in (hint, *get_args(hint)) if is_dataclass(a)), schema)
    return schema
