"""The windows that a plane is drawn in: where they are, and how much each counts where they overlap.

Places are absolute, so what is said of a pixel does not depend on who asks. Cores tile the plane, as many in
each part of its mosaic; a window is a core and a margin, and begins where the deepest features of the network
begin, so that every window sees the lattice of one large one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray
from roadrisk.roads.scenes import Window

STRIDE_PX = 32  # of the deepest features of a network, as it sees pixels
CORE_STRIDES = 64
# measured with a trained U-Net of a ResNet18 beside one large window: with 1, 2 and 3 the worst pixel near an
# edge differs by 17, 3 and 1 per cent, and of cores this large the overlap costs 6, 13 and 20 per cent
MARGIN_STRIDES = 2
SMALLEST_STRIDES = 4  # of a window: the deepest pooling of any decoder finds a pixel there

Weights = NDArray[np.float32]


class Span(NamedTuple):
    """Pixels [start, stop) of an axis."""

    start: int
    stop: int


class Place(NamedTuple):
    """Of a part, or of a core, counted from the top left of the plane."""

    row: int
    col: int


@dataclass(frozen=True)
class Axis:
    """One side of a plane, cut into cores.

    Parameters
    ----------
    part_px : side of a part of the mosaic; at its end one may be smaller.
    unit_px : windows begin and end at multiples of it.

    Examples
    --------
    >>> axis = Axis(length_px=5000, part_px=4096, unit_px=64)
    >>> [tuple(axis.window(core)) for core in range(axis.cores)]
    [(0, 4224), (3968, 5056)]
    """

    length_px: int
    part_px: int
    unit_px: int

    @property
    def margin_px(self) -> int:
        """That a window has around its core."""
        return MARGIN_STRIDES * self.unit_px

    @property
    def blended_px(self) -> int:
        """Half of what two windows share where both count; further out a window sees too little around."""
        return self.margin_px // 2

    @property
    def cores_a_part(self) -> int:
        """As many as keep a core within `CORE_STRIDES`."""
        return -(-self.part_px // (CORE_STRIDES * self.unit_px))

    @property
    def cores(self) -> int:
        return -(-self.cores_a_part * self.length_px // self.part_px)

    @property
    def parts(self) -> int:
        return -(-self.length_px // self.part_px)

    @property
    def end_px(self) -> int:
        """Where the last window ends: at the plane's end, or as little beyond it as a network needs."""
        return max(-(-self.length_px // self.unit_px), SMALLEST_STRIDES) * self.unit_px

    def edge(self, core: int) -> int:
        """Where a core begins."""
        if core >= self.cores:
            return self.end_px
        return core * self.part_px // self.cores_a_part // self.unit_px * self.unit_px

    def window(self, core: int) -> Span:
        """A core with its margins; before a narrow core more, which counts nothing."""
        stop = min(self.end_px, self.edge(core + 1) + self.margin_px)
        start = min(self.edge(core) - self.margin_px, stop - SMALLEST_STRIDES * self.unit_px)
        return Span(max(0, start), stop)

    def weights(self, core: int) -> Weights:
        """How much each pixel of a core's window counts: 1 in its middle; those of all cores sum to 1."""
        start, stop = self.window(core)
        middle = np.arange(start, stop, dtype=np.float64) + 0.5
        weight = self._begun(middle, core) if core else np.ones(stop - start)
        if core + 1 < self.cores:
            weight -= self._begun(middle, core + 1)
        return weight.astype(np.float32)

    def cores_of(self, part: int) -> range:
        """The cores of a part."""
        return range(part * self.cores_a_part, min((part + 1) * self.cores_a_part, self.cores))

    def reach(self, part: int) -> Span:
        """Where windows of a part count."""
        cores = self.cores_of(part)
        start, stop = self.edge(cores.start) - self.blended_px, self.edge(cores.stop) + self.blended_px
        return Span(max(0, start), min(self.end_px, stop))

    def alone(self, part: int) -> Span:
        """Where no window of another part counts."""
        cores = self.cores_of(part)
        start = self.edge(cores.start) + self.blended_px if part else 0
        stop = self.end_px if cores.stop == self.cores else self.edge(cores.stop) - self.blended_px
        return Span(start, max(start, stop))

    def parts_at(self, span: Span) -> list[int]:
        """The parts whose windows count at any of these pixels."""
        around = self.unit_px + self.blended_px
        first = max(0, (span.start - around) // self.part_px)
        last = min(self.parts - 1, (span.stop + around) // self.part_px)
        return [part for part in range(first, last + 1) if _meet(self.reach(part), span)]

    def _begun(self, middle: FloatArray, core: int) -> FloatArray:
        """From 0 to 1 where the window of the core before counts too."""
        ramp: FloatArray = (middle - self.edge(core) + self.blended_px) / (2 * self.blended_px)
        return ramp.clip(0.0, 1.0)


def _meet(one: Span, other: Span) -> bool:
    return max(one.start, other.start) < min(one.stop, other.stop)


@dataclass(frozen=True)
class Lattice:
    """The windows of a plane.

    Parameters
    ----------
    height, width : of the plane.
    part_px : side of a part of its mosaic.
    shrink : pixels along a side that the network sees as one.
    """

    height: int
    width: int
    part_px: int
    shrink: int

    @property
    def down(self) -> Axis:
        """The axis of rows."""
        return Axis(self.height, self.part_px, STRIDE_PX * self.shrink)

    @property
    def across(self) -> Axis:
        """The axis of columns."""
        return Axis(self.width, self.part_px, STRIDE_PX * self.shrink)

    def parts(self) -> Iterator[Place]:
        """Every part, in (row, col) order."""
        for row in range(self.down.parts):
            for col in range(self.across.parts):
                yield Place(row, col)

    def cores(self, part: Place) -> list[Place]:
        """The cores of a part, in (row, col) order."""
        rows, cols = self.down.cores_of(part.row), self.across.cores_of(part.col)
        return [Place(row, col) for row in rows for col in cols]

    def window(self, core: Place) -> Window:
        """What the network sees to draw a core; its sides are multiples of `STRIDE_PX * shrink`."""
        return _window(self.down.window(core.row), self.across.window(core.col))

    def weights(self, core: Place) -> tuple[Weights, Weights]:
        """(height,) and (width,) whose product says how much each pixel of a core's window counts."""
        return self.down.weights(core.row), self.across.weights(core.col)

    def reach(self, part: Place) -> Window:
        """Where windows of a part count."""
        return _window(self.down.reach(part.row), self.across.reach(part.col))

    def alone(self, part: Place) -> Window:
        """Where no window of another part counts."""
        return _window(self.down.alone(part.row), self.across.alone(part.col))

    def parts_at(self, window: Window) -> list[Place]:
        """The parts whose windows count at any pixel of a window."""
        rows = self.down.parts_at(Span(window.y, window.y + window.height))
        cols = self.across.parts_at(Span(window.x, window.x + window.width))
        return [Place(row, col) for row in rows for col in cols]


def _window(down: Span, across: Span) -> Window:
    return Window(down.start, across.start, down.stop - down.start, across.stop - across.start)
