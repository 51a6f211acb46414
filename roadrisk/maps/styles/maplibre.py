"""A legend as layers of MapLibre's style."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.maps.legend import ABSENT_COLOUR, Legend
from roadrisk.maps.styles.drawing import (
    CASING_MM,
    EDGE_MM,
    POINT_MM,
    VEIL_OPACITY,
    Geometry,
    edge_colour,
    line_widths_mm,
    rgb,
)

CLASS = "class"
HATCH = "absent"
HATCH_SIDE_PX = 8
PX_PER_MM = 96 / 25.4

_KINDS: dict[Geometry, str] = {"Polygon": "fill", "LineString": "line", "Point": "circle"}


def layers(
    legend: Legend, geometry: Geometry, source: str, source_layer: str, field: str | None = None
) -> list[dict[str, Any]]:
    """The layers that draw a source of vector tiles, those without a class below the others.

    Polygons without a class are filled with the image called `absent`, which `hatch` makes.

    Parameters
    ----------
    source_layer : of the vector tiles.
    field : the text field that names the class; without it `class`, the place of the class in the legend,
        -1 where a feature has none.
    """
    keys = tuple(range(len(legend.shades))) if field is None else legend.values
    by_class = _ByClass(legend, CLASS if field is None else field, keys)
    kind = _KINDS[geometry]
    paints = {"Polygon": _fills, "LineString": _lines, "Point": _circles}[geometry](by_class)
    on_top = {f"{kind}-sort-key": by_class.chosen(range(len(keys), 0, -1), 0)}
    return [
        {
            "id": f"{source}-{name}",
            "type": kind,
            "source": source,
            "source-layer": source_layer,
            "filter": ["!", by_class.known()] if name == "absent" else by_class.known(),
            "layout": on_top,
            "paint": paint,
        }
        for name, paint in paints.items()
    ]


def hatch() -> NDArray[np.uint8]:
    """(8, 8, 4) red, green, blue and opacity of a pattern for what is not known, which repeats."""
    pixels = np.zeros((HATCH_SIDE_PX, HATCH_SIDE_PX, 4), dtype=np.uint8)
    pixels[..., :3] = rgb(ABSENT_COLOUR)
    pixels[..., 3] = round(255 * VEIL_OPACITY)
    row, col = np.indices(pixels.shape[:2])
    pixels[(row + col) % HATCH_SIDE_PX < 2, 3] = 255
    return pixels


@dataclass(frozen=True)
class _ByClass:
    """Expressions that choose by the class of a feature: `keys` are what `property` holds."""

    legend: Legend
    property: str
    keys: tuple[Any, ...]

    def known(self) -> list[Any]:
        return ["in", ["get", self.property], ["literal", list(self.keys)]]

    def chosen(self, values: Iterable[Any], otherwise: Any) -> list[Any]:
        pairs = [part for pair in zip(self.keys, values, strict=True) for part in pair]
        return ["match", ["get", self.property], *pairs, otherwise]

    def colours(self) -> list[Any]:
        return self.chosen([shade.colour for shade in self.legend.shades], ABSENT_COLOUR)

    def edges(self) -> list[Any]:
        edges = [edge_colour(shade.colour) for shade in self.legend.shades]
        return self.chosen(edges, edge_colour(ABSENT_COLOUR))


def _fills(by_class: _ByClass) -> dict[str, dict[str, Any]]:
    known = {"fill-color": by_class.colours(), "fill-outline-color": by_class.edges()}
    return {"absent": {"fill-pattern": HATCH}, "classes": known}


def _lines(by_class: _ByClass) -> dict[str, dict[str, Any]]:
    widths = [round(width * PX_PER_MM, 2) for width in line_widths_mm(by_class.legend)]
    cased = [round(width + 2 * CASING_MM * PX_PER_MM, 2) for width in widths]
    return {
        "absent": {"line-color": ABSENT_COLOUR, "line-width": widths[-1], "line-dasharray": [3, 2]},
        "casings": {"line-color": by_class.edges(), "line-width": by_class.chosen(cased, cased[-1])},
        "classes": {"line-color": by_class.colours(), "line-width": by_class.chosen(widths, widths[-1])},
    }


def _circles(by_class: _ByClass) -> dict[str, dict[str, Any]]:
    radius = round(POINT_MM / 2 * PX_PER_MM, 2)
    edge = round(EDGE_MM * PX_PER_MM, 2)
    absent = {
        "circle-radius": radius,
        "circle-color": ABSENT_COLOUR,
        "circle-opacity": VEIL_OPACITY,
        "circle-stroke-color": edge_colour(ABSENT_COLOUR),
        "circle-stroke-width": edge,
    }
    known = {
        "circle-radius": radius,
        "circle-color": by_class.colours(),
        "circle-stroke-color": by_class.edges(),
        "circle-stroke-width": edge,
    }
    return {"absent": absent, "classes": known}
