"""Printable sheets: a page for each place, in the order of its layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.maps.fields import field_aliases, field_description
from roadrisk.maps.layer import Layer
from roadrisk.maps.sheet_figures import RegionMap, ScaleBar, picture_url, region_map, scale_bar, sides_m
from roadrisk.pages import csp_hash, rendered, template_text

PACKAGE = "roadrisk.maps"
NOT_KNOWN = "not known"
# what is said large, with its ends `_low` and `_high` where a layer has them
FIGURES = {
    "risk": "Risk",
    "label": "Observed",
    "observed": "Observed",
    "predicted": "Predicted",
    "class": "Likeliest class",
    "expected": "Expected",
    "eb": "Empirical Bayes",
    "excess": "Excess",
    "next": "Next count",
    "difference": "Difference",
}
IN_HEADING = ("tile_id", "rank", "percentile")
WHY, REASON = "why", "reason_"
MOST_REASONS = 8


@dataclass(frozen=True)
class Figure:
    """A number that is said large: its name, its value and its ends; each empty where there is none."""

    name: str
    unit: str
    value: str
    ends: str


@dataclass(frozen=True)
class Shown:
    """A picture of a place: the view's name and its `data:` address, empty without one."""

    view: str
    url: str


@dataclass(frozen=True)
class Sheet:
    """One place.

    Parameters
    ----------
    heading : its rank, or its number where the layer has none.
    name : what it is called, under `named`.
    band, colour : its class in the layer's legend; no colour where it has none.
    where : longitude and latitude of its middle; empty without.
    pictures : one for each view.
    scale : of the pictures; None where nothing says how wide they are.
    why : one sentence; empty without.
    reasons : names and values, the largest first.
    facts : names and values.
    mark : x and y on the map of the region; None where it lies nowhere.
    """

    heading: str
    named: str
    name: str
    percentile: str
    band: str
    colour: str
    where: str
    pictures: tuple[Shown, ...]
    scale: ScaleBar | None
    figures: tuple[Figure, ...]
    why: str
    reasons: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    mark: tuple[float, float] | None


def sheets(layer: Layer) -> str:
    """A self-contained HTML document without scripts: a page of A4 or Letter for each feature, and a last one
    that says what the fields mean.

    It stands in memory whole, pictures included: give it a layer of top places.

    Raises
    ------
    LayerError : the layer has no feature.
    """
    if not len(layer):
        raise LayerError("there is no place to print a sheet of; ask for one place or more")
    overview = layer.pictures.overview() if layer.pictures else None
    region = region_map(layer.places, overview) if layer.places is not None else None
    style = template_text(PACKAGE, "sheets.css")
    aliases = field_aliases(layer.columns)
    return rendered(
        PACKAGE,
        "sheets.html.j2",
        about=layer.about,
        sheets=list(_sheets(layer, aliases, region)),
        region=region,
        meanings=[(aliases[column.name], field_description(column)) for column in layer.columns],
        style=Markup(style),  # noqa: S704 - a file of this package
        style_hash=csp_hash(style),
    )


def write_sheets(layer: Layer, path: Path) -> None:
    """The sheets of a layer, as an HTML file."""
    path.write_text(sheets(layer), encoding="utf-8", newline="\n")


def said(value: Any) -> str:
    """A value as people read it, to three digits or whole.

    >>> said(1234.5), said(0.123456), said(True), said(7.0), said(float("nan"))
    ('1,234', '0.123', 'yes', '7', 'not known')
    """
    if value is None or value != value:
        return NOT_KNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        whole = value.is_integer() or abs(value) >= 1000
        return f"{value:,.0f}" if whole else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _sheets(layer: Layer, aliases: Mapping[str, str], region: RegionMap | None) -> Iterator[Sheet]:
    count = len(layer)
    colours = {shade.value: shade.colour for shade in layer.legend.shades}
    places = _middles(layer)
    sides = sides_m(layer.places, count)
    first = str(layer.table.columns[0])
    naming = "tile_id" if "tile_id" in layer.table else first
    for i, row in enumerate(_rows(layer)):
        band = row.get(layer.legend.field)
        side_m = sides[i]
        yield Sheet(
            heading=f"Rank {said(row['rank'])}" if row.get("rank") is not None else f"Place {i + 1:,}",
            named=aliases[naming],
            name=NOT_KNOWN if row[naming] is None else str(row[naming]),
            percentile=said(row["percentile"]) if row.get("percentile") is not None else "",
            band=layer.legend.absent if band is None else str(band),
            colour=colours.get(str(band), ""),
            where=places[i],
            pictures=_pictures(layer, row.get("tile_id")),
            scale=scale_bar(side_m) if side_m else None,
            figures=tuple(_figures(layer.columns, row)),
            why=str(row.get(WHY) or ""),
            reasons=tuple(_reasons(row, aliases)),
            facts=tuple((aliases[name], said(row[name])) for name in _facts(layer, naming)),
            mark=region.marks[i] if region else None,
        )


def _rows(layer: Layer) -> Iterator[dict[str, Any]]:
    """Each feature's values as plain Python ones, None where unknown."""
    names = [str(name) for name in layer.table]
    columns = [
        layer.table[name].astype(object).where(layer.table[name].notna(), None).tolist() for name in names
    ]
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def _middles(layer: Layer) -> list[str]:
    if layer.places is None:
        return [""] * len(layer)
    lng, lat = layer.places.centres()
    return [
        f"{x:.5f}, {y:.5f}" if math.isfinite(x) and math.isfinite(y) else ""
        for x, y in zip(lng.tolist(), lat.tolist(), strict=True)
    ]


def _pictures(layer: Layer, tile_id: Any) -> tuple[Shown, ...]:
    if layer.pictures is None or tile_id is None:
        return ()
    found = [(view, layer.pictures.picture(str(tile_id), view)) for view in layer.pictures.views]
    return tuple(Shown(view, "" if pixels is None else picture_url(pixels)) for view, pixels in found)


def _figures(columns: Sequence[Column], row: Mapping[str, Any]) -> Iterator[Figure]:
    units = {column.name: column.unit for column in columns}
    for name, words in FIGURES.items():
        ends = [f"{name}_low", f"{name}_high"]
        has_ends = all(end in row and row[end] is not None for end in ends)
        between = f"{said(row[ends[0]])} to {said(row[ends[1]])}" if has_ends else ""
        unit = units.get(name, units.get(ends[0], ""))
        if name in row:
            yield Figure(words, unit, said(row[name]), between)
        elif between:
            yield Figure(words, "", between, unit)


def _reasons(row: Mapping[str, Any], aliases: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What moved the score most, under the names of the facts."""
    moved = {name: row[name] for name in row if name.startswith(REASON) and row[name]}
    for name in sorted(moved, key=lambda name: -abs(moved[name]))[:MOST_REASONS]:
        about = name.removeprefix(REASON)
        yield aliases.get(about, about.replace("_", " ").capitalize()), f"{moved[name]:+.2f}"


def _facts(layer: Layer, naming: str) -> list[str]:
    """The fields that stand nowhere else on a sheet."""
    large = {f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")}
    elsewhere = {*IN_HEADING, naming, layer.legend.field, WHY, *large}
    names = [column.name for column in layer.columns]
    return [name for name in names if name not in elsewhere and not name.startswith(REASON)]
