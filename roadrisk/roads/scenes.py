"""What roads are learned from and drawn on: pictures of any size, read by window, and their roads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, IntArray
from roadrisk.imagery.sheets import Stretch
from roadrisk.mosaic.picture import Mask, Picture

if TYPE_CHECKING:
    from roadrisk.learning.matching import Kind


class Window(NamedTuple):
    """A rectangle of pixels, counted from the top left of its plane; it may reach beyond it.

    Parameters
    ----------
    y, x : of its first pixel.
    """

    y: int
    x: int
    height: int
    width: int


def within(window: Window, outer: Window) -> tuple[slice, slice]:
    """Where the pixels that both have lie in an array of `outer`.

    >>> within(Window(0, 6, 4, 4), Window(2, 5, 8, 2))
    (slice(0, 2, None), slice(1, 2, None))
    """
    y, x = max(window.y, outer.y) - outer.y, max(window.x, outer.x) - outer.x
    bottom = min(window.y + window.height, outer.y + outer.height) - outer.y
    right = min(window.x + window.width, outer.x + outer.width) - outer.x
    return slice(y, max(y, bottom)), slice(x, max(x, right))


class Plane(Protocol):
    """A picture that may be far larger than memory.

    Threads each need their own; `close` lets go of open files, a later read opens them again.
    """

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def bands(self) -> int: ...

    def read(self, window: Window) -> Picture:
        """Pixels (bands, height, width) and where they are known; beyond the plane nothing is."""
        ...

    def close(self) -> None: ...


class PictureKind(NamedTuple):
    """What must be alike of pictures that are learned from and that are drawn.

    Parameters
    ----------
    metres_per_pixel : ground side of a pixel [m]; None where nothing says.
    stretch : how more than 8 bit became 8 bit; None where they were, or where nothing says.
    """

    bands: int
    metres_per_pixel: float | None
    stretch: Stretch | None

    def differences(self, learned: PictureKind) -> list[str]:
        """In what these differ from those that were learned from; empty when alike.

        >>> PictureKind(1, 0.5, None).differences(PictureKind(3, 1.0, None))
        ['they have 1 band, not 3', 'a pixel is 0.5 m, not 1']
        """
        # here, not above: it brings torch, which workers that paint do not need
        from roadrisk.learning.matching import tile_differences

        own, other = (_as_tiles(kind) for kind in (self, learned))
        bands = f"they have {self.bands} band{'' if self.bands == 1 else 's'}, not {learned.bands}"
        wrong = [bands] if self.bands != learned.bands else []
        return wrong + tile_differences(own, other, "the dataset that was learned from")


def _as_tiles(kind: PictureKind) -> Kind:
    """As the comparison of tiles takes pictures."""
    from roadrisk.learning.matching import Kind

    scales = {"": kind.metres_per_pixel} if kind.metres_per_pixel is not None else {}
    return Kind((), None, scales, {"": kind.stretch} if kind.stretch else {}, ("",))


class Truth(NamedTuple):
    """Where roads are.

    Parameters
    ----------
    road : (H, W).
    known : (H, W); elsewhere nothing is learned and nothing judged.
    """

    road: Mask
    known: Mask


class Truths(Protocol):
    """Where the roads of a plane are, by window; beyond it nothing is known."""

    def read(self, window: Window) -> Truth: ...

    def close(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture whose roads are known, cut into units: the tiles of a dataset, or the whole of a picture.

    Parameters
    ----------
    name : for people.
    unit_px : (height, width) of a unit.
    """

    name: str
    plane: Plane
    truths: Truths
    unit_px: tuple[int, int]


@dataclass(frozen=True, eq=False)
class RoadExamples:
    """N units to learn roads from and to be judged on.

    Parameters
    ----------
    name : of where they are from, for people.
    identity : digest; the same only for the same pictures and masks, read in the same way.
    scenes : a dataset is one, a folder one for each pair.
    scene, row, col : (N,) of each unit: its scene, and its place there in units.
    key : (N,) names of the units.
    content : (N,) what tells a unit from any other wherever it is met: a picture's digest, a tile's id.
    road_share : (N,) of what is known of it.
    known_share : (N,) of its pixels with a picture and a known mask.
    lattice : (row, col) of each unit, absolute and (N,) each, and the ground metres of a step; None where
        units do not lie on the ground.
    bands : of the pictures.
    metres_per_pixel : ground side of a pixel [m]; None where nothing says.
    stretch : how more than 8 bit became 8 bit; None where they were, or where nothing says.
    told : what was found, a line a thing.
    """

    name: str
    identity: str
    scenes: tuple[Scene, ...]
    scene: IntArray
    row: IntArray
    col: IntArray
    key: NDArray[np.object_]
    content: NDArray[np.object_]
    road_share: FloatArray
    known_share: FloatArray
    lattice: tuple[IntArray, IntArray, float] | None
    bands: int
    metres_per_pixel: float | None
    stretch: Stretch | None
    told: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def kind(self) -> PictureKind:
        """Of its pictures."""
        return PictureKind(self.bands, self.metres_per_pixel, self.stretch)

    def window(self, unit: int) -> Window:
        """Where a unit is in its scene."""
        height, width = self.scenes[self.scene[unit]].unit_px
        return Window(int(self.row[unit]) * height, int(self.col[unit]) * width, height, width)

    def close(self) -> None:
        """Let go of open files."""
        for scene in self.scenes:
            scene.plane.close()
            scene.truths.close()
