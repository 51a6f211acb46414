"""A sheet: one picture, where it lies on the grid, and what its bands are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from affine import Affine

from roadrisk.grid import Bbox, LngLatBbox
from roadrisk.rights import Rights

# first and last ISO date
Dates = tuple[str, str]
# for each of three colours the values that become 0 and 255
Stretch = tuple[tuple[float, float], ...]


class Bands(NamedTuple):
    """Which bands of a sheet are its picture.

    Parameters
    ----------
    colours : three, or one that is grey or an index into a palette.
    alpha : 0 when there is none.
    white : the value that is white: 255, 1 in a mask of one bit, 0 where a stretch says.
    palette : whether `colours` is an index into the file's palette.
    """

    colours: tuple[int, ...]
    alpha: int
    white: int
    palette: bool = False


@dataclass(frozen=True)
class Sheet:
    """One picture, as the grid sees it.

    Parameters
    ----------
    path : what GDAL opens.
    crs : as WKT.
    to_crs : (px, py) -> (x, y) in `crs`.
    width, height : pixels.
    dtype : of a pixel, `uint8`.
    bounds : a box around it in the grid's CRS, never too small.
    lnglat : its box in degrees.
    pixel : side of its pixel in the grid's CRS, where it meets the grid.
    identity : path, bytes and mtime; ETag when remote.
    taken : when the picture was taken; None where nothing says.
    stretch : how values of more than 8 bit become 8 bit; None for 8 bit.
    """

    path: str
    crs: str
    to_crs: Affine
    width: int
    height: int
    dtype: str
    bounds: Bbox
    lnglat: LngLatBbox
    pixel: float
    bands: Bands
    identity: dict[str, Any]
    taken: Dates | None = None
    stretch: Stretch | None = None


@dataclass(frozen=True)
class Sheets:
    """The sheets of a view that meet a grid: where two overlap, the later one is seen.

    The order is that of their dates, those without one first, then that of their names.

    Parameters
    ----------
    outside : number of sheets found that lie outside the grid.
    notes : what is to be said of the sources, a line a fact.
    rights : of each source.
    unit_m : ground metres of the grid's unit.
    """

    found: tuple[Sheet, ...]
    outside: int
    notes: tuple[str, ...] = ()
    rights: tuple[Rights, ...] = ()
    unit_m: float = 1.0

    def __iter__(self) -> Iterator[Sheet]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    @property
    def stretch(self) -> Stretch | None:
        """How values of more than 8 bit become 8 bit, the same for all sheets."""
        return self.found[0].stretch

    def identities(self) -> list[dict[str, Any]]:
        """What makes them the same sheets, in order."""
        return [sheet.identity for sheet in self.found]

    @property
    def understood(self) -> tuple[str, ...]:
        """How the sources were read, a line a fact."""
        kinds = [_kind(sheet) for sheet in self.found]
        counts = ", ".join(f"{kinds.count(kind):,} {kind}" for kind in sorted(set(kinds)))
        beside = f"; {self.outside:,} more outside the grid" if self.outside else ""
        said = [
            *self.notes,
            f"{len(self):,} {'sheets' if len(self) > 1 else 'sheet'} ({counts}){beside}",
            _said_pixels([sheet.pixel * self.unit_m for sheet in self.found]),
            _said_dates([sheet.taken for sheet in self.found]),
        ]
        if self.stretch is not None:
            spans = ", ".join(f"{low:.5g} to {high:.5g}" for low, high in self.stretch)
            said.append(f"stretched to 8 bit: {spans}")
        if len(self) > 1:
            said.append("where sheets overlap the newest is seen, else the last in name order")
        return tuple(said)


def _kind(sheet: Sheet) -> str:
    if sheet.bands.palette:
        return "with a palette"
    kind = "grey" if len(sheet.bands.colours) == 1 else "in colour"
    shown = "" if sheet.bands.colours in ((1,), (1, 2, 3)) else f", bands {_listed(sheet.bands.colours)}"
    return f"{kind}{shown}" if sheet.dtype == "uint8" else f"{kind}{shown}, {sheet.dtype}"


def _listed(bands: tuple[int, ...]) -> str:
    return ", ".join(str(band) for band in bands)


def _said_pixels(sides_m: list[float]) -> str:
    least, most = f"{min(sides_m):.3g}", f"{max(sides_m):.3g}"
    return f"pixels of {least} m" if least == most else f"pixels of {least} to {most} m"


def _said_dates(taken: list[Dates | None]) -> str:
    known = [dates for dates in taken if dates is not None]
    unknown = len(taken) - len(known)
    if not known:
        return "no sheet says when it was taken"
    said = f"taken {min(first for first, _ in known)} to {max(last for _, last in known)}"
    return f"{said}; {unknown:,} sheets do not say when" if unknown else said
