"""Why a tile has its score, as columns of a layer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.grid import FloatArray
from roadrisk.learning.examples import Examples
from roadrisk.learning.explaining.contributions import Contributions, contributions
from roadrisk.learning.judging.calibration import logit_of_riskiest
from roadrisk.learning.judging.predicted import Field
from roadrisk.learning.model import Model, Scores
from roadrisk.learning.pictures.feeds import ImageFeed
from roadrisk.learning.tasks import Task
from roadrisk.maps.fields import field_aliases
from roadrisk.progress import Progress, silent

NAMED, LEAST_SAID = 3, 0.005  # in a sentence
SAME_SHARE, SAME = 1e-4, 1e-3  # single precision of scores beside the double precision of contributions


class Part(NamedTuple):
    """Something that moved a score.

    Parameters
    ----------
    name : `picture`, or a column as people know it.
    held : what the tile holds there, empty of a picture.
    amount : what it adds.
    """

    name: str
    held: str
    amount: float

    def words(self) -> str:
        """In a sentence.

        >>> Part("Road primary", "3,400 m", 0.8231).words(), Part("picture", "", -0.1).words()
        ('Road primary of 3,400 m +0.82', 'picture -0.10')
        """
        return f"{self.name}{' of ' if self.held else ''}{self.held} {self.amount:+.2f}"

    def titled(self) -> str:
        """Before its amount in a table."""
        return f"{self.name}, {self.held}" if self.held else self.name


def reasons_fields(
    model: Model,
    examples: Examples,
    images: list[ImageFeed | None],
    said: Scores,
    device: torch.device,
    progress: Progress = silent,
) -> list[Field]:
    """What moved each score: of the picture, of all facts and of each, and the largest three in words.

    Parameters
    ----------
    examples : N tiles that are scored.
    images : feeds of the views, ready for these tiles.
    said : what the model says of them.

    Raises
    ------
    ModelError : a column that the model learned from is not there, or contributions do not add up to a score.
    """
    found = contributions(model, examples, images, device, progress)
    check_sum(model.architecture.task, found, examples, said)
    unit = unit_of(model)
    against = "what it adds to the score against a typical tile without a picture; all reasons add up"
    fields = [
        _field("reason_picture", f"Picture: {against}", unit, found.picture),
        *_of_views(model, found, unit),
        _field("reason_facts", f"All facts together: {against}", unit, found.all_facts),
        (_why_column(), pd.Series(sentences(model, examples, found), dtype=object)),
    ]
    names = fact_names(found.columns)
    exact = "" if found.complete else f"; sums of single facts were off by up to {found.lost.max():.2g}"
    return fields + [
        _field(f"reason_{column.name}", f"{names[column.name]}: {against}{exact}", unit, amounts)
        for column, amounts in zip(found.columns, found.facts.T, strict=True)
    ]


def check_sum(task: Task, found: Contributions, examples: Examples, said: Scores) -> None:
    """Nothing, if base and contributions are the score that the layer has.

    Raises
    ------
    ModelError : of some tile they are not.
    """
    score = explained_score(task, said)
    total = found.base + found.picture + found.all_facts
    off = np.abs(total - score) > SAME + SAME_SHARE * np.abs(score)
    if off.any():
        row = int(off.argmax())
        raise ModelError(
            f"contributions to tile {examples.key[row]} add up to {total[row]:.6g}, its score is "
            f"{score[row]:.6g}; train the model again, or look for extreme values in the facts"
        )


def explained_score(task: Task, said: Scores) -> FloatArray:
    """(N,) log-odds of the riskiest class before calibration, the value, or the log of the expected count."""
    return logit_of_riskiest(task, said.outputs) if task.kind == "class" else said.outputs[:, 0]


def unit_of(model: Model) -> str:
    """Of contributions."""
    kind = model.architecture.task.kind
    if kind == "value":
        return str(model.provenance["label"].get("unit") or "")
    return "log-odds" if kind == "class" else "log"


def reference_words(model: Model, has_facts: bool = True) -> str:
    """What a tile is held against.

    Parameters
    ----------
    has_facts : whether anything is known of it.
    """
    inputs = model.architecture.inputs
    if inputs == "image":
        return "a tile without a picture"
    same = " of the same exposure" if model.architecture.task.exposure else ""
    if not has_facts:
        return f"a tile{same} of which nothing {'else ' if same else ''}is known"
    bare = f"{' and' if same else ''} without a picture" if inputs == "both" else ""
    return f"a typical tile{same}{bare}"


def parts_of(examples: Examples, found: Contributions, row: int, view_names: Sequence[str]) -> list[Part]:
    """What moved the score of one tile: the views that it has, then every fact.

    Parameters
    ----------
    view_names : what each view is called.
    """
    names, held = fact_names(found.columns), holding(examples, found.columns)
    views = [
        Part(name, "", float(amount))
        for name, amount, index in zip(view_names, found.views[row], examples.picture[row], strict=True)
        if index >= 0
    ]
    if not examples.has_facts[row]:
        return views
    return views + [
        Part(names[column.name], held(row, place), float(found.facts[row, place]))
        for place, column in enumerate(found.columns)
    ]


def largest(parts: Sequence[Part]) -> list[Part]:
    """The parts by their size, the largest first."""
    return sorted(parts, key=lambda part: (-abs(part.amount), part.name))


def sentences(model: Model, examples: Examples, found: Contributions) -> list[str]:
    """A sentence for each of N tiles: the three largest parts, and what the tile is held against."""
    views = view_words(examples.views[: found.views.shape[1]])
    names, held = list(fact_names(found.columns).values()), holding(examples, found.columns)
    amounts = np.hstack([found.views, found.facts])  # (N, V + F)
    most = np.argsort(-np.abs(amounts), axis=1, kind="stable")[:, :NAMED]
    scale = f"{unit_of(model)} ".lstrip()
    against = [f"({scale}against {reference_words(model, known)})" for known in (False, True)]

    def part(row: int, place: int) -> Part:
        amount, fact = float(amounts[row, place]), place - len(views)
        return Part(views[place], "", amount) if fact < 0 else Part(names[fact], held(row, fact), amount)

    told = []
    for row, (places, known) in enumerate(zip(most.tolist(), examples.has_facts.tolist(), strict=True)):
        parts = [part(row, place) for place in places if abs(amounts[row, place]) >= LEAST_SAID]
        said = ", ".join(one.words() for one in parts) or "nothing moves it"
        told.append(f"{said} {against[known]}")
    return told


def view_words(views: Sequence[str]) -> list[str]:
    """What each view is called: the only one is the picture.

    >>> view_words(["aerial"]), view_words(["aerial", "roads"])
    (['picture'], ['picture aerial', 'picture roads'])
    """
    return ["picture"] if len(views) == 1 else [f"picture {view}" for view in views]


def fact_names(columns: Sequence[Column]) -> dict[str, str]:
    """What people call each column, by its own name; without its unit, unless that tells it from another.

    Examples
    --------
    >>> length = Column("road_oneway_m", "float64", "m", "feature", "sum", "One-way roads.")
    >>> share = Column("road_oneway_share", "float64", "share", "feature", "mean", "One-way roads.")
    >>> fact_names([length])
    {'road_oneway_m': 'Road oneway'}
    >>> fact_names([length, share])
    {'road_oneway_m': 'Road oneway (m)', 'road_oneway_share': 'Road oneway (share)'}
    """
    aliases = field_aliases(columns)
    plain = {column.name: aliases[column.name].replace(f" ({column.unit})", "") for column in columns}
    often = Counter(plain.values())
    return {name: plain[name] if often[plain[name]] == 1 else alias for name, alias in aliases.items()}


def holding(examples: Examples, columns: Sequence[Column]) -> Callable[[int, int], str]:
    """What the tile of a row holds in the column of a place, as people read it.

    A unit that the column's name tells is not said again.
    """
    names = fact_names(columns)
    numbers = {column.name: place for place, column in enumerate(examples.columns)}
    texts = {column.name: place for place, column in enumerate(examples.text_columns)}
    units = [
        "" if re.search(rf"\b{re.escape(column.unit)}\b", names[column.name].lower()) else f" {column.unit}"
        for column in columns
    ]

    def held(row: int, place: int) -> str:
        column = columns[place]
        if column.name in texts:
            return examples.texts[row, texts[column.name]] or "unknown"
        value = float(examples.facts[row, numbers[column.name]])
        if np.isnan(value):
            return "unknown"
        if column.dtype == "bool":
            return "yes" if value else "no"
        whole = abs(value) >= 100 or value.is_integer()
        return f"{value:,.0f}{units[place]}" if whole else f"{value:.3g}{units[place]}"

    return held


def _of_views(model: Model, found: Contributions, unit: str) -> list[Field]:
    """Of each of several views, which add up to that of the picture."""
    views = model.architecture.views
    if len(views) < 2:
        return []
    return [
        _field(
            f"reason_picture_{view.view}", f"Picture {view.view}: its part of reason_picture", unit, amounts
        )
        for view, amounts in zip(views, found.views.T, strict=True)
    ]


def _why_column() -> Column:
    words = "The three reasons that moved the score most; associations that the model learned, not causes."
    return Column("why", "object", "", "info", "none", words)


def _field(name: str, words: str, unit: str, values: FloatArray) -> Field:
    return Column(name, "float64", unit, "info", "none", f"{words}."), pd.Series(values)
