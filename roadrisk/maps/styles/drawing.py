"""How features of a class are drawn, whichever program draws them."""

from __future__ import annotations

import re

import numpy as np

from roadrisk.errors import LayerError
from roadrisk.maps.layer import Layer
from roadrisk.maps.legend import Legend
from roadrisk.maps.places import GridTiles
from roadrisk.maps.shape_types import Kind, shapes_of

EDGE_MM = 0.1
POINT_MM = 2.6
WIDEST_LINE_MM, NARROWEST_LINE_MM = 1.1, 0.4
CASING_MM = 0.15  # on each side of a line, so that a pale one shows on white
# behind the hatching of what is not known
VEIL_OPACITY = 0.25

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def geometry_of(layer: Layer) -> Kind:
    """What the features of a layer are drawn as; of a layer of several kinds, the one that fills a map most.

    Raises
    ------
    LayerError : none lies somewhere.
    """
    kinds = shapes_of(layer).kinds
    if not kinds:
        raise LayerError("a style needs points, lines or polygons that lie somewhere; write .csv")
    return kinds[0]


def overlap(layer: Layer) -> bool:
    """Whether features may lie on each other, so that the order they are drawn in matters."""
    return not isinstance(layer.places, GridTiles)


def line_widths_mm(legend: Legend) -> list[float]:
    """The width of a line of each class, falling from the one that matters most [mm].

    >>> from roadrisk.maps.bands import RISK_LEGEND
    >>> line_widths_mm(RISK_LEGEND)
    [1.1, 0.925, 0.75, 0.575, 0.4]
    """
    widths = np.linspace(WIDEST_LINE_MM, NARROWEST_LINE_MM, len(legend.shades))
    return [round(float(width), 3) for width in widths]


def edge_colour(colour: str) -> str:
    """A fifth darker than what it surrounds, so that edges of many small features keep their colour.

    >>> edge_colour("#fff3b8")
    '#ccc293'
    """
    return "#" + "".join(f"{round(part * 0.8):02x}" for part in rgb(colour))


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of `#rrggbb`, 0 to 255.

    >>> rgb("#7a0b2e")
    (122, 11, 46)
    """
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def xml_text(text: str) -> str:
    r"""Text as XML can hold it: the replacement character for control characters and lone surrogates.

    >>> xml_text("a\x00b\tc")
    'a�b\tc'
    """
    return _NOT_XML.sub("\ufffd", text)
