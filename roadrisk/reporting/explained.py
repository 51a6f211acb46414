"""The page that says why one tile has its score: printable, and without scripts."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from roadrisk.learning.explaining.explanation import NOT_CAUSES, Explanation
from roadrisk.learning.explaining.heat import Heat
from roadrisk.learning.explaining.reasons import largest
from roadrisk.reporting.page import page_of
from roadrisk.reporting.parts import Figure, Figures, Part, Section, Sight, Spot, Spots, Words
from roadrisk.reporting.plots import Axis, Bar, bar_plot, picture_of

# blue to yellow, told apart by every kind of colour vision (Nunez, Anderton and Renslow 2018)
COLOURS = cv2.COLORMAP_CIVIDIS
SIDE, STRIP, ROOM = 320, 14, 46  # of a picture, of the scale beside it, and of its words
BARS = 15
BLENDED = 0.55  # of the heat's colours over the grey picture

Pixels = NDArray[np.uint8]


def explained_page(
    told: Explanation, pictures: Mapping[str, Pixels], like: Mapping[tuple[str, str], bytes]
) -> str:
    """A self-contained page.

    Parameters
    ----------
    pictures : (3, size, size) of each view of the tile.
    like : JPEG of training tiles, by key and view.
    """
    summary: list[Part] = [
        Words(told.told),
        Words(told.voice),
        Words(told.meaning),
        Words(NOT_CAUSES),
    ]
    heats = {heat.view: heat for heat in told.heats}
    figures = [
        figure for view, pixels in pictures.items() for figure in _looked_at(view, pixels, heats[view])
    ]
    sections = []
    if figures:
        sections.append(Section("picture", "Where in the picture", (Figures(tuple(figures)),)))
    sections.append(Section("contributions", "What moved the score", _moved(told)))
    sections.append(Section("like", "Training tiles like it", _like(told, like)))
    return page_of("Why this tile", f"{told.tile}, {told.region}", summary, sections)


def _looked_at(view: str, pixels: Pixels, heat: Heat) -> list[Figure]:
    """The picture, and the heat map over it."""
    name = view or "picture"
    plain = _image(pixels.transpose(1, 2, 0))
    shown = [Figure(f"Picture {view}".strip(), _framed(f"seen-{name}", name, "The picture.", plain), "")]
    if heat.warmth is None:
        return [Figure(shown[0].title, shown[0].svg, heat.told)]
    drawn = _image(blended(pixels, heat.warmth)) + _scale()
    svg = _framed(f"heat-{name}", f"Heat map over {name}", heat.told, drawn)
    return [*shown, Figure(f"Heat map {view}".strip(), svg, heat.told)]


def blended(pixels: Pixels, warmth: NDArray[np.float64]) -> Pixels:
    """(H, W, 3) colours of a heat map over a grey picture.

    Parameters
    ----------
    pixels : (3, H, W).
    warmth : (H, W) in [0, 1].
    """
    grey = pixels.mean(axis=0)[:, :, None]  # (H, W, 1)
    mixed = (1 - BLENDED) * grey + BLENDED * _coloured(warmth)  # (H, W, 3)
    return np.asarray(np.rint(mixed), np.uint8)


def _coloured(warmth: NDArray[np.float64]) -> Pixels:
    """(H, W, 3) red, green, blue of (H, W) in [0, 1]."""
    levels = np.rint(warmth * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, COLOURS)[:, :, ::-1], np.uint8)


def _framed(name: str, title: str, told: str, inside: Markup) -> Markup:
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
    return picture_of(name, title, told, SIDE + STRIP + ROOM, SIDE, inside)


def _image(rgb: Pixels, x: float = 0, wide: float = SIDE) -> Markup:
    """(H, W, 3) as an SVG image."""
    png = cv2.imencode(".png", np.ascontiguousarray(rgb[:, :, ::-1]))[1].tobytes()
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    return Markup(
        '<image x="{:g}" y="0" width="{:g}" height="{}" preserveAspectRatio="none" href="{}"/>'
    ).format(x, wide, SIDE, url)


def _scale() -> Markup:
    """Colours from none to most, beside the picture."""
    steps = np.linspace(1, 0, 64)[:, None]
    x = SIDE + STRIP + 12
    words = Markup('<text x="{}" y="12">most</text><text x="{}" y="{}">0</text>').format(x, x, SIDE - 2)
    return _image(_coloured(steps), SIDE + 6, STRIP) + words


def _moved(told: Explanation) -> tuple[Part, ...]:
    """The bars, and how they add up."""
    shown = largest(told.parts)[:BARS]
    if not shown:
        return (Words(told.adds_up),)
    unit = f" [{told.sum.unit}]" if told.sum.unit else ""
    low, high = min(0.0, *(part.amount for part in shown)), max(0.0, *(part.amount for part in shown))
    high = high if high > low else low + 1.0
    rest = len(told.parts) - len(shown)
    less = f" The {rest} smallest are not drawn." if rest else ""
    bars = [
        Bar(f"{part.titled()}: {part.amount:+.2f}", part.amount, part.amount, part.amount) for part in shown
    ]
    what = f"To the right of 0 what raises the score {told.scale_words}, to the left what lowers it.{less}"
    axis = Axis(f"contribution{unit}", low, high)
    svg = bar_plot("contributions-bars", "Contributions", what, axis, bars)
    return (Figures((Figure("Contributions", svg, what),)), Words(told.adds_up))


def _like(told: Explanation, pictures: Mapping[tuple[str, str], bytes]) -> tuple[Part, ...]:
    spots = tuple(
        Spot(
            one.tile_id,
            (f"{told.risk_name} {one.said:.3g}", f"observed {one.observed}", f"distance {one.distance:.2f}"),
            "",
            tuple(
                Sight(view or "picture", "data:image/jpeg;base64," + base64.b64encode(jpeg).decode())
                for (key, view), jpeg in sorted(pictures.items())
                if key == one.key
            ),
            (),
        )
        for one in told.like
    )
    return (Spots(told.like_told, spots),) if spots else (Words(told.like_told),)
