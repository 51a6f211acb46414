"""A legend as a Styled Layer Descriptor."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

from roadrisk.maps.layer import Layer
from roadrisk.maps.legend import ABSENT_COLOUR
from roadrisk.maps.shape_types import Kind
from roadrisk.maps.styles.drawing import (
    CASING_MM,
    EDGE_MM,
    POINT_MM,
    VEIL_OPACITY,
    edge_colour,
    geometry_of,
    line_widths_mm,
    xml_text,
)

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
NAMESPACES = {
    "xmlns": "http://www.opengis.net/sld",
    "xmlns:se": "http://www.opengis.net/se",
    "xmlns:ogc": "http://www.opengis.net/ogc",
    "version": "1.1.0",
}
MM_PER_PX = 0.28  # OGC 05-077r4, 10.2: the standardized rendering pixel
HATCH_PX = 8


def sld(layer: Layer) -> str:
    """The style of a layer in SLD 1.1.0 with Symbology Encoding 1.1.0 (OGC 05-078r4, 05-077r4).

    Rules stand from the least class to the one that matters most, as they are to be painted.

    Raises
    ------
    LayerError : no feature lies somewhere.
    """
    geometry = geometry_of(layer)
    legend, about = layer.legend, layer.about
    root = ElementTree.Element("StyledLayerDescriptor", NAMESPACES)
    named = ElementTree.SubElement(root, "NamedLayer")
    _text(named, "se:Name", layer.name)
    style = ElementTree.SubElement(named, "UserStyle")
    _text(style, "se:Name", layer.name)
    words = " ".join((about.risk_meaning, f"Licence: {about.licence}.", about.attribution))
    _described(style, about.title, words)
    painted = ElementTree.SubElement(style, "se:FeatureTypeStyle")
    _absent_rule(painted, layer, geometry)
    widths = line_widths_mm(legend)
    for shade, width in reversed(list(zip(legend.shades, widths, strict=True))):
        rule = _rule(painted, shade.value)
        condition = ElementTree.SubElement(rule, "ogc:Filter")
        _equals(condition, legend.field, shade.value)
        _known(rule, geometry, shade.colour, width)
    ElementTree.indent(root, " ")
    return f"{DECLARATION}\n{ElementTree.tostring(root, encoding='unicode')}\n"


def _absent_rule(painted: ElementTree.Element, layer: Layer, geometry: Kind) -> None:
    """Null and whatever no class holds; `ElseFilter` is not used, since a null may fall through it."""
    legend = layer.legend
    rule = _rule(painted, legend.absent)
    either = ElementTree.SubElement(ElementTree.SubElement(rule, "ogc:Filter"), "ogc:Or")
    _text(ElementTree.SubElement(either, "ogc:PropertyIsNull"), "ogc:PropertyName", legend.field)
    held = ElementTree.SubElement(ElementTree.SubElement(either, "ogc:Not"), "ogc:Or")
    for shade in legend.shades:
        _equals(held, legend.field, shade.value)
    if geometry == "Polygon":
        veil = ElementTree.SubElement(rule, "se:PolygonSymbolizer")
        _parameters(veil, "se:Fill", {"fill": ABSENT_COLOUR, "fill-opacity": str(VEIL_OPACITY)})
        _stroke(veil, edge_colour(ABSENT_COLOUR), EDGE_MM)
        fill = ElementTree.SubElement(ElementTree.SubElement(rule, "se:PolygonSymbolizer"), "se:Fill")
        # "x" is the one hatching among the marks of SE 11.3.2 that every program knows
        _mark(ElementTree.SubElement(fill, "se:GraphicFill"), "x", ABSENT_COLOUR, 1.0, HATCH_PX)
    elif geometry == "LineString":
        line = ElementTree.SubElement(rule, "se:LineSymbolizer")
        _stroke(line, ABSENT_COLOUR, line_widths_mm(legend)[-1], {"stroke-dasharray": "4 2"})
    else:
        _circle(rule, ABSENT_COLOUR, VEIL_OPACITY)


def _known(rule: ElementTree.Element, geometry: Kind, colour: str, line_width_mm: float) -> None:
    if geometry == "Polygon":
        polygon = ElementTree.SubElement(rule, "se:PolygonSymbolizer")
        _parameters(polygon, "se:Fill", {"fill": colour})
        _stroke(polygon, edge_colour(colour), EDGE_MM)
    elif geometry == "LineString":
        casing = ElementTree.SubElement(rule, "se:LineSymbolizer")
        _stroke(casing, edge_colour(colour), line_width_mm + 2 * CASING_MM)
        _stroke(ElementTree.SubElement(rule, "se:LineSymbolizer"), colour, line_width_mm)
    else:
        _circle(rule, colour, 1.0)


def _rule(painted: ElementTree.Element, name: str) -> ElementTree.Element:
    rule = ElementTree.SubElement(painted, "se:Rule")
    _text(rule, "se:Name", name)
    _described(rule, name)
    return rule


def _described(parent: ElementTree.Element, title: str, abstract: str = "") -> None:
    description = ElementTree.SubElement(parent, "se:Description")
    _text(description, "se:Title", title)
    if abstract:
        _text(description, "se:Abstract", abstract)


def _equals(parent: ElementTree.Element, field: str, value: str) -> None:
    equal = ElementTree.SubElement(parent, "ogc:PropertyIsEqualTo")
    _text(equal, "ogc:PropertyName", field)
    _text(equal, "ogc:Literal", value)


def _circle(rule: ElementTree.Element, colour: str, opacity: float) -> None:
    _mark(ElementTree.SubElement(rule, "se:PointSymbolizer"), "circle", colour, opacity, POINT_MM / MM_PER_PX)


def _mark(parent: ElementTree.Element, name: str, colour: str, opacity: float, size_px: float) -> None:
    graphic = ElementTree.SubElement(parent, "se:Graphic")
    mark = ElementTree.SubElement(graphic, "se:Mark")
    _text(mark, "se:WellKnownName", name)
    _parameters(mark, "se:Fill", {"fill": colour, "fill-opacity": str(opacity)})
    _stroke(mark, edge_colour(colour) if name == "circle" else colour, EDGE_MM)
    _text(graphic, "se:Size", f"{size_px:.2f}")


def _stroke(
    parent: ElementTree.Element, colour: str, width_mm: float, more: Mapping[str, str] | None = None
) -> None:
    width_px = f"{width_mm / MM_PER_PX:.2f}"
    _parameters(parent, "se:Stroke", {"stroke": colour, "stroke-width": width_px, **(more or {})})


def _parameters(parent: ElementTree.Element, name: str, values: Mapping[str, str]) -> None:
    element = ElementTree.SubElement(parent, name)
    for parameter, value in values.items():
        ElementTree.SubElement(element, "se:SvgParameter", name=parameter).text = value


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = xml_text(text)
