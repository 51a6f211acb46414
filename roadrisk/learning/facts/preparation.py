"""Facts as a network takes them: made densities, filled, scaled and standardised; texts as codes or 0 and 1.

Everything here is learned from training rows only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator

from roadrisk.columns import Column, Combine
from roadrisk.errors import ModelError, SourceError, UsageError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts.scaling import CONSTANT, EMPTY, Fact, learned_fact
from roadrisk.learning.settings import TrainSettings
from roadrisk.nets.tabular import FactsShape

MOST_TEXTS = 64  # different texts of a column
KINDS = (*get_args(Combine), "default")  # what scaling may be given for


def _iso_date(text: str) -> str:
    date.fromisoformat(text)
    return text


def _dated(column: Column) -> Column:
    for day in column.window or ():
        _iso_date(day)
    return column


# checked where a model is read
IsoDate = Annotated[str, AfterValidator(_iso_date)]
DatedColumn = Annotated[Column, AfterValidator(_dated)]


@dataclass(frozen=True)
class Category:
    """How one column of text enters a network.

    Parameters
    ----------
    column : its name.
    texts : those of the training rows, by name; code k + 1 is that of texts[k], 0 is missing or unseen.
    coded : whether it enters as codes, else as a 0/1 number for each text.

    Raises
    ------
    ValueError : texts that are not by name, or too many.
    """

    column: str
    texts: tuple[str, ...]
    coded: bool

    def __post_init__(self) -> None:
        if not 2 <= len(self.texts) <= MOST_TEXTS:
            raise ValueError(f"{len(self.texts)} texts of a column; there are 2 to {MOST_TEXTS}")
        if list(self.texts) != sorted(set(self.texts)):
            raise ValueError("texts of a column must be by name, each once")

    def codes(self, texts: NDArray[np.object_]) -> IntArray:
        """(N,) codes of (N,) texts.

        >>> Category("surface", ("gravel", "paved"), True).codes(np.array(["paved", None, "mud"], object))
        array([2, 0, 0])
        """
        code = {text: k for k, text in enumerate(self.texts, start=1)}
        return np.array([code.get(text, 0) for text in texts], np.int64)


@dataclass(frozen=True)
class Preparation:
    """How facts are prepared, learned from training rows.

    Parameters
    ----------
    facts : in the order in which they enter, by name.
    dropped : (column, reason) of those that tell nothing.
    categories : likewise.

    Raises
    ------
    ValueError : a column that enters twice.
    """

    facts: tuple[Fact, ...]
    dropped: tuple[tuple[str, str], ...]
    categories: tuple[Category, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("a column enters twice")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of those that enter."""
        return (*(fact.column for fact in self.facts), *(text.column for text in self.categories))

    @property
    def shape(self) -> FactsShape:
        """What a network is given of a tile: how many numbers, and how many codes each category has."""
        hot = sum(len(category.texts) for category in self.categories if not category.coded)
        return FactsShape(
            len(self.facts) + sum(fact.flagged for fact in self.facts) + hot,
            tuple(len(category.texts) + 1 for category in self.categories if category.coded),
        )

    def prepared(self, examples: Examples) -> tuple[NDArray[np.float32], IntArray]:
        """(N, numbers) and (N, codes) as `shape` says.

        Numbers are the facts, then the flags of those that have one, then the 0/1 numbers of texts.

        Raises
        ------
        ModelError : a column that was learned from is not there, or holds values too extreme for it.
        """
        self._check_columns(examples)
        place = {column.name: index for index, column in enumerate(examples.columns)}
        numbers, flags, hot, codes = [], [], [], []
        for fact in self.facts:
            values = examples.facts[:, place[fact.column]]
            numbers.append(fact.standardised(values, examples.area_km2))
            if fact.flagged:
                flags.append(np.isnan(values))
        for category in self.categories:
            code = category.codes(_texts_of(examples, category.column))
            if category.coded:
                codes.append(code)
            else:
                hot += [code == k for k in range(1, len(category.texts) + 1)]
        return _stacked([*numbers, *flags, *hot], len(examples), np.float32), _stacked(
            codes, len(examples), np.int64
        )

    def unseen(self, examples: Examples) -> dict[str, int]:
        """Number of tiles whose text no training row had, for each column with such."""
        self._check_columns(examples)
        counts = {}
        for category in self.categories:
            texts = _texts_of(examples, category.column)
            known = np.array([text is not None for text in texts], bool)
            counts[category.column] = int((known & (category.codes(texts) == 0)).sum())
        return {column: count for column, count in counts.items() if count}

    def _check_columns(self, examples: Examples) -> None:
        numbers = {column.name for column in examples.columns}
        texts = {column.name for column in examples.text_columns}
        lacking = [fact.column for fact in self.facts if fact.column not in numbers]
        lacking += [category.column for category in self.categories if category.column not in texts]
        if lacking:
            raise ModelError(
                f"the model learned from {', '.join(lacking)}, which the data lacks; add the same sources"
            )


def learned_preparation(examples: Examples, settings: TrainSettings) -> Preparation:
    """The preparation that training rows teach; a row of which nothing is known teaches nothing.

    Parameters
    ----------
    examples : the training rows alone.

    Raises
    ------
    ModelError : a column whose values are too extreme to standardise.
    UsageError : a scaling for a kind of column that is none.
    """
    check_scaling(settings)
    examples = examples.taken(np.flatnonzero(examples.has_facts))
    facts: list[Fact] = []
    categories: list[Category] = []
    dropped: list[tuple[str, str]] = []
    for column, values in sorted(zip(examples.columns, examples.facts.T, strict=True), key=_name):
        fact = learned_fact(column, values, examples.area_km2, settings)
        if isinstance(fact, str):
            dropped.append((column.name, fact))
        else:
            facts.append(fact)
    coded = settings.facts_network == "embedding" and settings.categories == "embedding"
    for column, texts in sorted(zip(examples.text_columns, examples.texts.T, strict=True), key=_name):
        known = [text for text in texts if text is not None]
        reason = no_category(len(set(known)), len(known))
        if reason:
            dropped.append((column.name, reason))
        else:
            categories.append(Category(column.name, tuple(sorted(set(known))), coded))
    return Preparation(tuple(facts), tuple(dropped), tuple(categories))


def check_scaling(settings: TrainSettings) -> None:
    """Nothing, if scalings are given for kinds of column that there are.

    Raises
    ------
    UsageError : for another.

    Examples
    --------
    >>> check_scaling(TrainSettings(scaling={"summ": "log"}))
    Traceback (most recent call last):
    ...
    roadrisk.errors.UsageError: --scaling summ is none of sum, mean, ratio, min, max, any, mode, none, default
    """
    for kind in settings.scaling:
        if kind not in KINDS:
            raise UsageError(f"--scaling {kind} is none of {', '.join(KINDS)}")


def no_category(different: int, known: int) -> str:
    """Why `known` texts, so many of them different, are no category; empty if they are one.

    >>> no_category(3, 1000), no_category(3, 4), no_category(65, 1000)
    ('', 'nearly every tile has a text of its own', '65 different texts, more than 64')
    """
    if known == 0:
        return EMPTY
    if different == 1:
        return CONSTANT
    if different > known / 2:
        return "nearly every tile has a text of its own"
    return f"{different:,} different texts, more than {MOST_TEXTS}" if different > MOST_TEXTS else ""


def fact_values(table: pd.DataFrame, names: list[str]) -> FloatArray:
    """(N, F) numbers of a table's columns, booleans as 0 and 1, NaN where missing.

    Raises
    ------
    SourceError : a column of text or dates, or with infinite values.

    Examples
    --------
    >>> fact_values(pd.DataFrame({"lanes": [2, None], "lit": [True, False]}), ["lanes", "lit"]).tolist()
    [[2.0, 1.0], [nan, 0.0]]
    """
    values = np.empty((len(table), len(names)))
    for index, name in enumerate(names):
        column = table[name].convert_dtypes() if table[name].dtype == object else table[name]
        if not (pd.api.types.is_numeric_dtype(column) or column.isna().all()):
            texts = column.dropna().astype(str)
            odd = texts[pd.to_numeric(texts, errors="coerce").isna()]
            example = (odd if len(odd) else texts).iloc[0][:30]
            raise SourceError(
                f"column {name!r} is not numbers (it holds {example!r}); leave it out with --exclude {name} "
                "or name the facts to use with --features"
            )
        values[:, index] = pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isinf(values[:, index]).any():
            raise SourceError(
                f"column {name!r} holds infinite values; mend them or leave it out with --exclude {name}"
            )
    return values


def text_values(table: pd.DataFrame, names: list[str]) -> NDArray[np.object_]:
    """(N, T) texts of a table's columns, None where missing or empty; a whole number is its digits.

    Raises
    ------
    SourceError : a column that holds something else, as dates or lists.

    Examples
    --------
    >>> text_values(pd.DataFrame({"surface": ["paved", None], "route": [9.0, 20.0]}), ["surface", "route"])
    array([['paved', '9'],
           [None, '20']], dtype=object)
    """
    texts = np.empty((len(table), len(names)), object)
    for index, name in enumerate(names):
        values = table[name].astype(object).where(table[name].notna(), None)
        texts[:, index] = [_text(value, name) for value in values]
    return texts


def _text(value: Any, name: str) -> str | None:
    """A table without types, as CSV, has a text of digits as a number, and as 9.0 where others miss."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | bool | int | float):
        return str(value)
    raise SourceError(
        f"column {name!r} is not text (it holds {str(value)[:30]!r}); leave it out with --exclude {name} "
        "or name the facts to use with --features"
    )


def _texts_of(examples: Examples, column: str) -> NDArray[np.object_]:
    return examples.texts[:, [known.name for known in examples.text_columns].index(column)]


def _stacked(arrays: list[Any], rows: int, dtype: Any) -> NDArray[Any]:
    out = np.empty((rows, len(arrays)), dtype)
    for index, array in enumerate(arrays):
        out[:, index] = array
    return out


def _name(pair: tuple[Column, Any]) -> str:
    return pair[0].name
