"""Plots as inline SVG: axes with units, lines, whiskers and bars that read the same in grey.

Colours are classes of the style sheet, so that a plot is light, dark or printed like the words
around it. No two lines differ by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from markupsafe import Markup

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 440, 330
LEFT, RIGHT, TOP, BOTTOM = 62, 22, 12, 50
ROW_PX = 19
COLUMNS = 2  # of the legend
NAME_LETTERS = 29  # that fit in one of them
TICKS = 5
LINE_STYLES = 6


@dataclass(frozen=True)
class Axis:
    """One side of a plot.

    Parameters
    ----------
    label : what is told and its unit.
    low, high : ends, which ticks do not need to meet.
    percent : whether values are shares that are shown in per cent.
    whole : whether there is nothing between two whole numbers.
    """

    label: str
    low: float
    high: float
    percent: bool = False
    whole: bool = False

    def ticks(self) -> list[float]:
        """Round values between the ends.

        >>> Axis("distance [m]", 0, 1234).ticks()
        [0.0, 250.0, 500.0, 750.0, 1000.0]
        """
        spread = self.high - self.low
        rough = spread / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= rough * 0.999)
        step = max(1.0, float(round(step))) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]

    def said(self, value: float) -> str:
        """A tick's value.

        >>> Axis("", 0, 1, percent=True).said(0.2), Axis("", 0, 5000).said(2500.0)
        ('20 %', '2,500')
        """
        if self.percent:
            return f"{value * 100:.6g} %"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value + 0.0:.6g}"


@dataclass(frozen=True)
class Frame:
    """Where values stand in a plot, in its pixels."""

    x: Axis
    y: Axis

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Place of a value."""
        across = (x - self.x.low) / (self.x.high - self.x.low)
        up = (y - self.y.low) / (self.y.high - self.y.low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


class Mark(Protocol):
    """Something that a plot shows."""

    @property
    def name(self) -> str:
        """As the legend has it; empty for none."""

    def drawn(self, frame: Frame) -> Markup:
        """Its SVG."""

    def sample(self) -> Markup:
        """What stands before its name in the legend, 26 px wide around (0, 0)."""


@dataclass(frozen=True)
class Line:
    """A curve.

    Parameters
    ----------
    style : 0 for the model that the report is about, then those it is compared with.
    """

    name: str
    points: Points
    style: int

    def drawn(self, frame: Frame) -> Markup:
        """A polyline."""
        return Markup('<polyline class="line s{}" points="{}"/>').format(
            self.style, _places(self.points, frame)
        )

    def sample(self) -> Markup:
        """A piece of it."""
        return Markup('<line class="line s{}" x1="-13" x2="13" y1="0" y2="0"/>').format(self.style)


@dataclass(frozen=True)
class Reference:
    """A line to compare others with, as that of chance."""

    name: str
    points: Points

    def drawn(self, frame: Frame) -> Markup:
        """A thin dashed polyline."""
        return Markup('<polyline class="reference" points="{}"/>').format(_places(self.points, frame))

    def sample(self) -> Markup:
        """A piece of it."""
        return Markup('<line class="reference" x1="-13" x2="13" y1="0" y2="0"/>')


@dataclass(frozen=True)
class Ribbon:
    """The space between an upper curve and its mirror at 0."""

    name: str
    points: Points

    def drawn(self, frame: Frame) -> Markup:
        """A filled polygon."""
        below = [(x, -y) for x, y in reversed(self.points)]
        return Markup('<polygon class="ribbon" points="{}"/>').format(_places([*self.points, *below], frame))

    def sample(self) -> Markup:
        """A piece of it."""
        return Markup('<rect class="ribbon" x="-13" y="-6" width="26" height="12"/>')


@dataclass(frozen=True)
class Dots:
    """Values with whiskers.

    Parameters
    ----------
    points : of the dots.
    whiskers : low and high end of each; None without.
    """

    name: str
    points: Points
    whiskers: Sequence[tuple[float, float] | None]
    style: int

    def drawn(self, frame: Frame) -> Markup:
        """Circles, or rings for what others are compared with."""
        said = Markup()
        for (x, y), ends in zip(self.points, self.whiskers, strict=True):
            across, up = frame.at(x, y)
            if ends is not None:
                said += Markup(
                    '<line class="whisker s{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>'
                ).format(self.style, across, across, frame.at(x, ends[0])[1], frame.at(x, ends[1])[1])
            said += Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(
                self.style, across, up
            )
        return said

    def sample(self) -> Markup:
        """One of them."""
        return Markup('<circle class="dot s{}" r="4"/>').format(self.style)


@dataclass(frozen=True)
class Bar:
    """A labelled amount with the ends of its spread."""

    label: str
    value: float
    low: float
    high: float


def plot(name: str, title: str, told: str, x: Axis, y: Axis, marks: Sequence[Mark]) -> Markup:
    """Marks between two axes, and their names below.

    Parameters
    ----------
    name : of the plot in its page, letters and dashes.
    title, told : for who cannot see it.
    marks : the first is on top, and first in the legend.
    """
    frame = Frame(x, y)
    named = [mark for mark in marks if mark.name]
    inside = _axes(frame) + Markup().join(mark.drawn(frame) for mark in reversed(marks)) + _legend(named)
    return picture_of(name, title, told, WIDTH, HEIGHT + ROW_PX * math.ceil(len(named) / COLUMNS), inside)


def bar_plot(name: str, title: str, told: str, x: Axis, bars: Sequence[Bar]) -> Markup:
    """Horizontal bars, each below its label, with whiskers."""
    each, top = 40, 4
    height = top + each * len(bars) + BOTTOM
    left, wide = 10, WIDTH - 10 - RIGHT

    def at(value: float) -> float:
        return left + (value - x.low) / (x.high - x.low) * wide

    said = Markup()
    for tick in x.ticks():
        said += Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
            at(tick), top, height - BOTTOM
        ) + _text(at(tick), height - BOTTOM + 17, x.said(tick), "middle")
    said += _text(left + wide / 2, height - 10, x.label, "middle", "axis")
    for n, bar in enumerate(bars):
        up = top + each * n
        start, end = sorted((at(0.0), at(bar.value)))
        said += _text(left, up + 14, shortened(bar.label, 60), "start", "name halo")
        said += Markup('<rect class="bar" x="{:.1f}" y="{}" width="{:.1f}" height="13"/>').format(
            start, up + 20, max(end - start, 0.5)
        )
        said += Markup('<line class="whisker bold" x1="{0:.1f}" x2="{1:.1f}" y1="{2}" y2="{2}"/>').format(
            at(bar.low), at(bar.high), up + 26.5
        )
    said += Markup('<line class="frame" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
        at(0.0), top, height - BOTTOM
    )
    return picture_of(name, title, told, WIDTH, height, said)


def shortened(text: str, letters: int) -> str:
    """The text, or its start and an ellipsis.

    >>> shortened("principal arterial", 10)
    'principal…'
    """
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def picture_of(name: str, title: str, told: str, width: float, height: float, inside: Markup) -> Markup:
    """An SVG element that says what it shows."""
    return Markup(
        '<svg class="plot" viewBox="0 0 {:g} {:g}" role="img" aria-labelledby="{}-title {}-told">'
        '<title id="{}-title">{}</title><desc id="{}-told">{}</desc>{}</svg>'
    ).format(width, height, name, name, name, title, name, told, inside)


def _axes(frame: Frame) -> Markup:
    left, bottom = frame.at(frame.x.low, frame.y.low)
    right, top = frame.at(frame.x.high, frame.y.high)
    said = Markup()
    for tick in frame.x.ticks():
        x, _ = frame.at(tick, frame.y.low)
        said += Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
            x, top, bottom
        )
        said += _text(x, bottom + 17, frame.x.said(tick), "middle")
    for tick in frame.y.ticks():
        _, y = frame.at(frame.x.low, tick)
        said += Markup('<line class="grid" x1="{1}" x2="{2}" y1="{0:.1f}" y2="{0:.1f}"/>').format(
            y, left, right
        )
        said += _text(left - 6, y + 4, frame.y.said(tick), "end")
    said += Markup('<path class="frame" d="M{0} {1}V{2}H{3}"/>').format(left, top, bottom, right)
    said += _text((left + right) / 2, HEIGHT - 10, frame.x.label, "middle", "axis")
    return said + Markup(
        '<text class="axis" text-anchor="middle" transform="translate(14 {}) rotate(-90)">{}</text>'
    ).format((top + bottom) / 2, frame.y.label)


def _legend(marks: Sequence[Mark]) -> Markup:
    """Below the axes, where it hides nothing: rows of two."""
    said = Markup()
    for n, mark in enumerate(marks):
        left, up = 12 + WIDTH / COLUMNS * (n % COLUMNS), HEIGHT + ROW_PX * (n // COLUMNS) + 6
        said += Markup('<g transform="translate({:.1f} {:.1f})">{}</g>').format(left + 13, up, mark.sample())
        said += _text(left + 33, up + 4, shortened(mark.name, NAME_LETTERS), "start", "name")
    return said


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, text
    )


def _places(points: Points, frame: Frame) -> str:
    return " ".join("{:.1f},{:.1f}".format(*frame.at(x, y)) for x, y in points)
