"""Which columns enter a model as facts, and why others do not."""

from __future__ import annotations

import difflib

from roadrisk.columns import Column
from roadrisk.errors import UsageError
from roadrisk.learning.label import DEFAULT, Label
from roadrisk.learning.settings import TrainSettings


def chosen_facts(
    columns: tuple[Column, ...], settings: TrainSettings, label: Label
) -> tuple[tuple[Column, ...], dict[str, str]]:
    """The facts, by name, and the reason for each column that could be one and is left out.

    Counts made from the label's own source are left out unless asked for by name: they answer another
    question, the same place next period.

    Raises
    ------
    UsageError : a name that is no column, or one that tells what is to be learned.
    """
    known = {column.name: column for column in columns}
    asked = settings.features
    for name in (*(asked or ()), *settings.exclude):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"no column {name!r} for --features or --exclude; {hint}")
    told = {label.column, label.measure, DEFAULT} | {c.name for c in columns if c.role == "label"}
    told_names = sorted(told & set(asked or ()), key=str)
    if told_names:
        raise UsageError(f"--features {told_names[0]} is what is to be learned; leave it out")
    sources = _sources_of(label, known)
    left_out: dict[str, str] = {}
    facts = []
    for column in columns:
        if column.name in settings.exclude or column.name in told:
            continue
        if asked is not None:
            if column.name in asked:
                facts.append(column)
        elif column.role == "feature" and column.source is not None and column.source in sources:
            left_out[column.name] = "made from the label's own source; ask for it with --features"
        elif column.role == "feature":
            facts.append(column)
        elif column.source is None and column.dtype in ("object", "str", "string"):
            left_out[column.name] = "text; only numbers are facts"
    return tuple(facts) if settings.inputs != "image" else (), left_out


def _sources_of(label: Label, known: dict[str, Column]) -> set[str]:
    """Sources of the label, followed through the column it was cut from."""
    found: set[str] = set()
    todo: list[str | None] = [label.column, label.measure]
    while todo:
        name = todo.pop()
        source = known[name].source if name in known else None
        if source and source not in found:
            found.add(source)
            todo.append(source)
    return found
