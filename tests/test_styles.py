"""Styles: one legend, the same colours in every program, told apart by everybody."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
from scored_examples import ABOUT, HOSTILE, scored_at, scored_grid
from skimage.color import deltaE_ciede2000, rgb2lab

from roadrisk.errors import LayerError
from roadrisk.maps.bands import RISK_LEGEND
from roadrisk.maps.changes import CHANGE_LEGEND
from roadrisk.maps.fields import field_aliases
from roadrisk.maps.layer import Layer
from roadrisk.maps.legend import ABSENT_COLOUR, Legend, Shade
from roadrisk.maps.places import GivenShapes, given_points
from roadrisk.maps.styles.drawing import geometry_of, rgb
from roadrisk.maps.styles.maplibre import style_layers
from roadrisk.maps.styles.pixels import colour_table, pixel_ranges
from roadrisk.maps.styles.qml import qml
from roadrisk.maps.styles.sld import sld

LEGENDS = {"risk": RISK_LEGEND, "change": CHANGE_LEGEND}
SE, OGC = "{http://www.opengis.net/se}", "{http://www.opengis.net/ogc}"
LINE, SQUARE = shapely.LineString([(0, 0), (9, 9)]), shapely.box(0, 0, 9, 9)

# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0; of linear RGB
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def given(*shapes: object) -> Layer:
    names = np.array([f"n{i}" for i in range(len(shapes))], dtype=object)
    return scored_at(GivenShapes(np.array(shapes, dtype=object), "EPSG:32619"), names)


LAYERS = {
    "Polygon": scored_grid(),
    "LineString": given(None, LINE),
    "Point": scored_at(given_points([-71.1], [42.3]), np.array(["a"], dtype=object)),
}


def qml_colours(layer: Layer) -> dict[str, str]:
    """The colour of each category's symbol: that of its last layer that is not hatching."""
    root = ElementTree.fromstring(qml(layer))
    colours = {}
    for category in root.iter("category"):
        (symbol,) = (s for s in root.iter("symbol") if s.get("name") == category.get("symbol"))
        values = [o.get("value") for o in symbol.iter("Option") if o.get("name") in ("color", "line_color")]
        parts = [int(part) for part in values[-1].split(",")]
        colours[category.get("label")] = "#" + "".join(f"{part:02x}" for part in parts[:3])
    return colours


def sld_colours(layer: Layer) -> dict[str, str]:
    """The first fill of each rule, or the last stroke of a line's."""
    colours = {}
    for rule in ElementTree.fromstring(sld(layer)).iter(f"{SE}Rule"):
        fills = [p.text for p in rule.iter(f"{SE}SvgParameter") if p.get("name") == "fill"]
        strokes = [p.text for p in rule.iter(f"{SE}SvgParameter") if p.get("name") == "stroke"]
        colours[rule.findtext(f"{SE}Name")] = fills[0] if fills else strokes[-1]
    return colours


def maplibre_colours(legend: Legend, geometry: str) -> dict[str, str]:
    by_id = {layer["id"]: layer["paint"] for layer in style_layers(legend, [geometry], 12)}
    name, key = {
        "Polygon": ("areas", "fill"),
        "LineString": ("lines", "line"),
        "Point": ("points", "circle"),
    }[geometry]
    colour = by_id[name][f"{key}-color"]
    if colour[0] == "case":  # hollow, with an edge of its colour, where there is no class
        *_, otherwise = by_id[name]["circle-stroke-color"]
        colour = [*colour[2][:-1], otherwise]
    _, _, *pairs, otherwise = colour
    assert pairs[::2] == list(range(len(legend.shades)))
    return {**dict(zip(legend.values, pairs[1::2], strict=True)), legend.absent: otherwise}


def raster_colours(legend: Legend) -> dict[str, str]:
    table = colour_table(legend)
    found = {legend.absent: table[:1]}
    found.update((r.shade.value, table[r.lowest : r.highest + 1]) for r in pixel_ranges(legend))
    for colours in found.values():
        assert len(np.unique(colours, axis=0)) == 1
    return {name: "#" + bytes(colours[0, :3]).hex() for name, colours in found.items()}


@pytest.mark.parametrize("geometry", LAYERS)
@pytest.mark.parametrize("legend", LEGENDS.values(), ids=LEGENDS)
def test_every_style_has_the_colours_of_the_legend(legend: Legend, geometry: str) -> None:
    layer = replace(LAYERS[geometry], legend=legend)
    expected = {**{s.value: s.colour for s in legend.shades}, legend.absent: ABSENT_COLOUR}
    assert qml_colours(layer) == expected
    assert sld_colours(layer) == expected
    assert maplibre_colours(legend, geometry) == expected
    assert raster_colours(legend) == expected


@pytest.mark.parametrize("geometry", LAYERS)
def test_on_a_page_what_is_not_known_looks_like_no_class(geometry: str) -> None:
    drawn = {layer["id"]: layer for layer in style_layers(RISK_LEGEND, [geometry], 12)}
    scored, absent = [">=", ["get", "class"], 0], ["<", ["get", "class"], 0]
    only = {name: layer["filter"][2:] for name, layer in drawn.items()}
    if geometry == "Point":
        assert drawn["points"]["paint"]["circle-color"][3] == "#00000000"
        assert only == {"points": []}
    elif geometry == "LineString":
        assert [name for name, layer in drawn.items() if "line-dasharray" in layer["paint"]] == [
            "absent-lines"
        ]
        assert only == {"absent-lines": [absent], "casing": [scored], "lines": [scored]}
    else:
        assert [name for name, layer in drawn.items() if "fill-pattern" in layer["paint"]] == ["absent-areas"]
        assert only == {"areas": [scored], "edges": [scored], "absent-areas": [absent]}
    assert {layer["filter"][1][2] for layer in drawn.values()} == {geometry}


def test_a_page_of_several_kinds_draws_each_by_its_own_layers() -> None:
    drawn = style_layers(RISK_LEGEND, ["Polygon", "Point"], 12)
    assert [layer["id"] for layer in drawn] == ["areas", "edges", "absent-areas", "points"]
    assert [layer["id"] for layer in drawn if layer.get("metadata") == {"fades": True}] == ["areas", "points"]


def test_lines_are_wider_the_riskier_and_lie_over_those_below() -> None:
    root = ElementTree.fromstring(qml(LAYERS["LineString"]))
    drawn = [
        (
            int(part.get("pass")),
            next(float(o.get("value")) for o in part.iter("Option") if o.get("name") == "line_width"),
        )
        for symbol in root.iter("symbol")
        for part in list(symbol.iter("layer"))[-1:]
    ]
    known = drawn[:-1]
    assert known == sorted(known, reverse=True)
    assert len({level for level, _ in drawn}) == len(RISK_LEGEND.shades) + 1
    assert drawn[-1][0] < min(level for level, _ in known)
    assert root.find("renderer-v2").get("symbollevels") == "1"
    # squares of a grid cannot overlap, and levels cost QGIS memory
    assert ElementTree.fromstring(qml(LAYERS["Polygon"])).find("renderer-v2").get("symbollevels") == "0"


def test_what_is_text_stays_text() -> None:
    layer = scored_grid(about=replace(ABOUT, title=f"{HOSTILE}\x00", attribution="]]> & <é>"))
    hostile = Legend(
        HOSTILE, "band", (Shade(f'{HOSTILE}"', "#112233"), Shade("low", "#445566")), absent=HOSTILE
    )
    layer = replace(layer, legend=hostile)
    root = ElementTree.fromstring(qml(layer))
    assert [c.get("value") for c in root.iter("category")] == [f'{HOSTILE}"', "low", ""]
    notes = next(o.get("value") for o in root.iter("Option") if o.get("name") == "userNotes")
    assert "<img" not in notes
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;\ufffd</p>" in notes
    assert {a.get("field"): a.get("name") for a in root.iter("alias")} == field_aliases(layer.columns)
    described = ElementTree.fromstring(sld(layer))
    assert described.get("version") == "1.1.0"
    assert next(described.iter(f"{SE}Title")).text == f"{HOSTILE}\ufffd"
    assert f'{HOSTILE}"' in [e.text for e in described.iter(f"{OGC}Literal")]


def test_a_style_is_for_the_one_kind_or_for_that_which_fills_a_map_most() -> None:
    assert geometry_of(given(None, shapely.Point(), shapely.MultiLineString([LINE.coords]))) == "LineString"
    assert geometry_of(given(shapely.Point(1, 1), LINE, shapely.MultiPolygon([SQUARE]))) == "Polygon"
    assert geometry_of(scored_grid()) == "Polygon"


@pytest.mark.parametrize("write", [qml, sld])
def test_a_layer_that_lies_nowhere_has_no_style(write: object) -> None:
    words = "^a style needs points, lines or polygons that lie somewhere; write .csv$"
    with pytest.raises(LayerError, match=words):
        write(given(None, shapely.GeometryCollection([LINE])))


def lightness_and_colour(colour: str, deficiency: str) -> np.ndarray:
    """(3,) CIE Lab of a colour as it is seen with a deficiency."""
    encoded = np.array(rgb(colour)) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(DEFICIENCIES[deficiency] @ linear, 0, 1)
    return rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("legend", LEGENDS.values(), ids=LEGENDS)
def test_classes_are_told_apart_by_every_kind_of_sight(legend: Legend, deficiency: str) -> None:
    lab = [lightness_and_colour(shade.colour, deficiency) for shade in legend.shades]
    absent = lightness_and_colour(ABSENT_COLOUR, deficiency)
    # a difference of 2.3 is just noticed side by side; the least seen here is 11.5
    assert min(deltaE_ciede2000(a, b) for a, b in pairwise(lab)) > 11
    assert min(deltaE_ciede2000(a, absent) for a in lab) > 15
    assert deltaE_ciede2000(lab[0], lab[-1]) > 38
    if legend is RISK_LEGEND:
        steps = np.diff([values[0] for values in lab])
        assert steps.min() > 10, "the riskier, the darker"
