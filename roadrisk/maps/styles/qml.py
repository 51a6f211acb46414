"""A legend as the style of QGIS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from xml.etree import ElementTree

from roadrisk.maps.fields import field_aliases, window_lines
from roadrisk.maps.layer import Layer
from roadrisk.maps.legend import ABSENT_COLOUR
from roadrisk.maps.places import GridTiles
from roadrisk.maps.shape_types import Kind
from roadrisk.maps.styles.drawing import (
    CASING_MM,
    EDGE_MM,
    POINT_MM,
    VEIL_OPACITY,
    edge_colour,
    geometry_of,
    line_widths_mm,
    overlap,
    rgb,
    xml_text,
)
from roadrisk.maps.styles.pixels import pixel_ranges

# the first QGIS that shows all of it: a newer one reads it, an older one is told
VERSION = "3.22.0"
DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
CATEGORIES = "Symbology|Fields|CustomProperties|Rendering"

_GEOMETRIES: dict[Kind, str] = {"Point": "0", "LineString": "1", "Polygon": "2"}
_SYMBOLS: dict[Kind, str] = {"Point": "marker", "LineString": "line", "Polygon": "fill"}

# the class and the properties of each symbol layer, by QGIS's names
_SymbolLayers = Sequence[tuple[str, Mapping[str, str]]]


def qml(layer: Layer) -> str:
    """The style of a layer for QGIS 3.22 and later: classes, names of fields, words about the layer.

    Where features may overlap, those of a class lie on those of the classes after it. Tiles of a grid may be
    a raster too: the same style colours both.

    Raises
    ------
    LayerError : no feature lies somewhere.
    """
    geometry = geometry_of(layer)
    root = ElementTree.Element("qgis", version=VERSION, styleCategories=CATEGORIES)
    root.append(_renderer(layer, geometry))
    if isinstance(layer.places, GridTiles):
        root.append(_raster_pipe(layer))
    told = ElementTree.SubElement(root, "customproperties")
    _options(told, {"userNotes": _notes(layer)})
    named = ElementTree.SubElement(root, "aliases")
    for name, alias in field_aliases(layer.columns).items():
        ElementTree.SubElement(named, "alias", field=xml_text(name), name=xml_text(alias))
    ElementTree.SubElement(root, "layerGeometryType").text = _GEOMETRIES[geometry]
    ElementTree.indent(root, " ")
    return f"{DOCTYPE}\n{ElementTree.tostring(root, encoding='unicode')}\n"


def _renderer(layer: Layer, geometry: Kind) -> ElementTree.Element:
    legend = layer.legend
    renderer = ElementTree.Element(
        "renderer-v2",
        type="categorizedSymbol",
        attr=xml_text(legend.field),
        symbollevels=str(int(overlap(layer))),
    )
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    drawn = _known(layer, geometry)
    for i, (shade, symbol) in enumerate(zip(legend.shades, drawn, strict=True)):
        value = xml_text(shade.value)
        ElementTree.SubElement(
            categories, "category", value=value, label=value, symbol=str(i), type="string", render="true"
        )
        _symbol(symbols, str(i), geometry, symbol, level=len(legend.shades) - i)
    # the empty value is QGIS's word for null and for whatever no category holds
    last = str(len(legend.shades))
    ElementTree.SubElement(
        categories, "category", value="", label=xml_text(legend.absent), symbol=last, render="true"
    )
    _symbol(symbols, last, geometry, _absent(layer, geometry), level=0)
    return renderer


def _known(layer: Layer, geometry: Kind) -> list[_SymbolLayers]:
    """The symbol of each class."""
    shades = layer.legend.shades
    if geometry == "LineString":
        widths = line_widths_mm(layer.legend)
        return [
            [_line(edge_colour(shade.colour), width + 2 * CASING_MM), _line(shade.colour, width)]
            for shade, width in zip(shades, widths, strict=True)
        ]
    if geometry == "Point":
        return [[_circle(shade.colour)] for shade in shades]
    return [[_fill(shade.colour)] for shade in shades]


def _absent(layer: Layer, geometry: Kind) -> _SymbolLayers:
    """Hatched, dashed or hollow: no class is drawn like it."""
    if geometry == "LineString":
        return [_line(ABSENT_COLOUR, line_widths_mm(layer.legend)[-1], "dash")]
    if geometry == "Point":
        return [_circle(ABSENT_COLOUR, VEIL_OPACITY)]
    hatching = {"color": _rgba(ABSENT_COLOUR), "style": "b_diagonal", "outline_style": "no"}
    return [_fill(ABSENT_COLOUR, VEIL_OPACITY), ("SimpleFill", hatching)]


def _fill(colour: str, opacity: float = 1.0) -> tuple[str, Mapping[str, str]]:
    return "SimpleFill", {
        "color": _rgba(colour, opacity),
        "style": "solid",
        "outline_color": _rgba(edge_colour(colour)),
        "outline_style": "solid",
        "outline_width": str(EDGE_MM),
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }


def _line(colour: str, width_mm: float, style: str = "solid") -> tuple[str, Mapping[str, str]]:
    return "SimpleLine", {
        "line_color": _rgba(colour),
        "line_style": style,
        "line_width": f"{width_mm:g}",
        "line_width_unit": "MM",
        "capstyle": "flat" if style == "dash" else "round",
        "joinstyle": "round",
    }


def _circle(colour: str, opacity: float = 1.0) -> tuple[str, Mapping[str, str]]:
    return "SimpleMarker", {
        "name": "circle",
        "color": _rgba(colour, opacity),
        "outline_color": _rgba(edge_colour(colour)),
        "outline_style": "solid",
        "outline_width": str(EDGE_MM),
        "outline_width_unit": "MM",
        "size": str(POINT_MM),
        "size_unit": "MM",
    }


def _symbol(
    symbols: ElementTree.Element, name: str, geometry: Kind, drawn: _SymbolLayers, level: int
) -> None:
    symbol = ElementTree.SubElement(
        symbols, "symbol", type=_SYMBOLS[geometry], name=name, alpha="1", clip_to_extent="1"
    )
    for i, (kind, properties) in enumerate(drawn):
        # who recolours a line does not mean its casing, which lies below every line of the class
        casing = geometry == "LineString" and len(drawn) > i + 1
        _options(
            ElementTree.SubElement(
                symbol,
                "layer",
                {
                    "class": kind,
                    "pass": str(2 * level + i),
                    "enabled": "1",
                    "locked": str(int(casing)),
                },
            ),
            properties,
        )


def _raster_pipe(layer: Layer) -> ElementTree.Element:
    """Classes of the raster's numbers, each up to its highest."""
    ranges = sorted(pixel_ranges(layer.legend), key=lambda numbers: numbers.highest)
    pipe = ElementTree.Element("pipe")
    renderer = ElementTree.SubElement(
        pipe,
        "rasterrenderer",
        type="singlebandpseudocolor",
        band="1",
        opacity="1",
        alphaBand="-1",
        classificationMin=str(ranges[0].lowest),
        classificationMax=str(ranges[-1].highest),
    )
    shader = ElementTree.SubElement(
        ElementTree.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="DISCRETE",
        classificationMode="1",
        clip="0",
    )
    for numbers in ranges:
        ElementTree.SubElement(
            shader,
            "item",
            value=str(numbers.highest),
            color=numbers.shade.colour,
            alpha="255",
            label=xml_text(numbers.shade.value),
        )
    return pipe


def _notes(layer: Layer) -> str:
    """The words about a layer, as the HTML that QGIS shows beside its name."""
    about = layer.about
    words = [
        about.title,
        about.risk_meaning,
        f"Licence: {about.licence}",
        about.attribution,
        f"Model: {about.model}",
        *window_lines(about.windows),
    ]
    return xml_text("".join(f"<p>{escape(line)}</p>" for line in words))


def _options(parent: ElementTree.Element, values: Mapping[str, str]) -> None:
    options = ElementTree.SubElement(parent, "Option", type="Map")
    for name, value in values.items():
        ElementTree.SubElement(options, "Option", type="QString", name=name, value=value)


def _rgba(colour: str, opacity: float = 1.0) -> str:
    return ",".join(map(str, (*rgb(colour), round(255 * opacity))))
