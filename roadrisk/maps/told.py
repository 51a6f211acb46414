"""What a map file says of its layer, checked: whoever changed it, texts are texts and colours are colours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.maps.bands import RISK_LEGEND
from roadrisk.maps.layer import About
from roadrisk.maps.legend import Legend, Shade


def _day(text: str) -> str:
    return date.fromisoformat(text).isoformat()


_Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
_Day = Annotated[str, AfterValidator(_day)]


class _Words(BaseModel):
    """Members of a `roadrisk` object; those that are not named here are left alone."""

    model_config = ConfigDict(strict=True)


class _ShadeWords(_Words):
    value: str
    colour: _Colour


class _AbsentWords(_Words):
    label: str


class _LegendWords(_Words):
    title: str
    field: str
    shades: list[_ShadeWords]
    absent: _AbsentWords


class _LayerWords(_Words):
    # what files older than these words do not say
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")] = "risk"
    ranked: Annotated[int, Field(ge=0)] | None = None
    windows: dict[str, tuple[_Day, _Day]]
    legend: _LegendWords | None = None  # files older than legends
    columns: list[dict[str, Any]]


@dataclass(frozen=True)
class Told:
    """What `Layer.as_json` wrote; the columns by their names."""

    name: str
    about: About
    legend: Legend
    columns: dict[str, Column]
    ranked: int | None


_ABOUT, _COLUMN = TypeAdapter(About), TypeAdapter(Column)


def told_words(told: Any) -> Told:
    """What a file's `roadrisk` member says.

    Raises
    ------
    ValueError : something is missing or is of another kind.
    LayerError : a class that is there twice.
    """
    text = json.dumps(told)
    words, about = _LayerWords.model_validate_json(text), _ABOUT.validate_json(text, strict=True)
    columns = [_COLUMN.validate_json(json.dumps(column), strict=True) for column in words.columns]
    for column in columns:
        for day in column.window or ():
            _day(day)
    legend = _legend(words.legend)
    if len(set(legend.values)) < len(legend.values):
        raise LayerError("has a legend that names a class twice; make it again")
    by_name = {column.name: column for column in columns}
    return Told(words.name, about, legend, by_name, words.ranked)


def _legend(words: _LegendWords | None) -> Legend:
    if words is None:
        return RISK_LEGEND
    shades = tuple(Shade(shade.value, shade.colour.lower()) for shade in words.shades)
    return Legend(words.title, words.field, shades, words.absent.label)
