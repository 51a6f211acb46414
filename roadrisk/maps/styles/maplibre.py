"""A legend as layers of MapLibre's style, for vector tiles as `vector_tiles` makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from roadrisk.maps.legend import ABSENT_COLOUR, Legend
from roadrisk.maps.shape_types import Kind
from roadrisk.maps.styles.drawing import CASING_MM, POINT_MM, line_widths_mm

PX_PER_MM = 96 / 25.4
CODE = ["get", "class"]
HATCHING = "hatching"  # the image that the page draws for areas without a class
SCORED, ABSENT = [">=", CODE, 0], ["<", CODE, 0]
RISKIEST_ON_TOP = ["-", 0, CODE]
# on pictures of streets, where a line needs more than a darker edge of its own colour
CASING_COLOUR, CASING_ZOOM = "#4a5560", 12
# by zoom, of the width that a line has on a plan
WIDER = {8: 0.2, 11: 0.5, 13: 1.0, 17: 3.2}
EDGE_COLOUR, EDGE_OPACITY, EDGE_PX = "#ffffff", 0.5, 0.8
EDGE_ZOOMS = 2  # from the highest of the tiles on, where edges are as wide as they get
FADES = {"fades": True}


def style_layers(legend: Legend, kinds: Sequence[Kind], highest_zoom: int) -> list[dict[str, Any]]:
    """The layers that draw the features, from the lowest; their source is to be added.

    Those that a reader may make clear, to see what lies below, have `fades` among their metadata.

    Parameters
    ----------
    kinds : what there is to draw.
    highest_zoom : of the tiles: edges of areas begin to show there.
    """
    drawn = {"Polygon": _areas(legend, highest_zoom), "LineString": _lines(legend), "Point": _points(legend)}
    return [
        {**layer, "filter": ["all", ["==", ["geometry-type"], kind], *layer.get("filter", [])]}
        for kind in kinds
        for layer in drawn[kind]
    ]


def _areas(legend: Legend, highest_zoom: int) -> list[dict[str, Any]]:
    edge_px = _by_zoom({highest_zoom: 0, highest_zoom + EDGE_ZOOMS: EDGE_PX})
    edges = {"line-color": EDGE_COLOUR, "line-opacity": EDGE_OPACITY, "line-width": edge_px}
    # tiles lie edge to edge: an antialiased edge would be a seam
    return [
        {
            "id": "areas",
            "type": "fill",
            "filter": [SCORED],
            "metadata": FADES,
            "paint": {"fill-color": _colours(legend), "fill-antialias": False},
        },
        {"id": "edges", "type": "line", "filter": [SCORED], "paint": edges},
        {
            "id": "absent-areas",
            "type": "fill",
            "filter": [ABSENT],
            "paint": {"fill-pattern": HATCHING, "fill-antialias": False},
        },
    ]


def _lines(legend: Legend) -> list[dict[str, Any]]:
    widths_px = [round(width * PX_PER_MM, 2) for width in line_widths_mm(legend)]
    width_px = _by_class(legend, widths_px, widths_px[-1])
    casing_px = round(2 * CASING_MM * PX_PER_MM, 2)
    round_ends = {"line-cap": "round", "line-join": "round"}
    absent = {"line-color": ABSENT_COLOUR, "line-dasharray": [2, 2]}
    return [
        {
            "id": "absent-lines",
            "type": "line",
            "filter": [ABSENT],
            "paint": {**absent, "line-width": _wider(widths_px[-1])},
        },
        {
            "id": "casing",
            "type": "line",
            "minzoom": CASING_ZOOM,
            "filter": [SCORED],
            "metadata": FADES,
            "layout": round_ends,
            "paint": {"line-color": CASING_COLOUR, "line-width": _wider(width_px, casing_px)},
        },
        {
            "id": "lines",
            "type": "line",
            "filter": [SCORED],
            "metadata": FADES,
            "layout": {**round_ends, "line-sort-key": RISKIEST_ON_TOP},
            "paint": {"line-color": _colours(legend), "line-width": _wider(width_px)},
        },
    ]


def _points(legend: Legend) -> list[dict[str, Any]]:
    """Hollow where there is no class."""
    return [
        {
            "id": "points",
            "type": "circle",
            "metadata": FADES,
            "layout": {"circle-sort-key": RISKIEST_ON_TOP},
            "paint": {
                "circle-radius": round(POINT_MM / 2 * PX_PER_MM, 2),
                "circle-color": ["case", SCORED, _colours(legend), "#00000000"],
                "circle-stroke-width": 1.5,
                "circle-stroke-color": ["case", SCORED, EDGE_COLOUR, ABSENT_COLOUR],
            },
        }
    ]


def _by_class(legend: Legend, values: Iterable[Any], otherwise: Any) -> list[Any]:
    pairs = zip(range(len(legend.shades)), values, strict=True)
    return ["match", CODE, *(part for pair in pairs for part in pair), otherwise]


def _colours(legend: Legend) -> list[Any]:
    return _by_class(legend, [shade.colour for shade in legend.shades], ABSENT_COLOUR)


def _wider(width_px: Any, more_px: float = 0.0) -> list[Any]:
    """A width that grows with the zoom, and some px that do not."""
    return _by_zoom({zoom: ["+", more_px, ["*", share, width_px]] for zoom, share in WIDER.items()}, 1.6)


def _by_zoom(stops: dict[int, Any], base: float = 1) -> list[Any]:
    pairs = (part for pair in stops.items() for part in pair)
    return ["interpolate", ["exponential", base], ["zoom"], *pairs]
