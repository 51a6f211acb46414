"""Rasters as facts: means, shares by class and slopes by tile, read once in windows of bounded size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.windows import Window

from roadrisk.columns import Column, Fact
from roadrisk.errors import SourceError
from roadrisk.geometry.pixels import (
    horn_slopes,
    running_sums,
    tile_areas,
    tile_batches,
    tile_edges,
    tile_sums,
)
from roadrisk.grid import FloatArray, Grid
from roadrisk.source_settings import RasterSource
from roadrisk.sources.raster_bands import RasterBand, opened_band

MAX_CLASSES = 50

_PIXELS_AT_ONCE = {"mean": 1 << 20, "slope": 1 << 20, "share": 1 << 18}
_CROSSINGS_AT_ONCE = 1 << 19  # of tile edges with pixel edges
_ROUNDING = 1e-9  # a share of a tile below this is none, and above 1 less this all of it
_METRES = dict.fromkeys(("", "m", "metre", "meter", "metres", "meters"), 1.0)
_METRES |= dict.fromkeys(("ft", "foot", "feet"), 0.3048)
_METRES |= dict.fromkeys(("us-ft", "us survey foot", "us survey feet"), 1200 / 3937)

# names of what is summed, and (H, W) of whether a pixel is valid and then of each name
_Layers = tuple[list[str], list[NDArray[Any]]]


@dataclass(frozen=True)
class RasterFacts:
    """What a raster says of each tile.

    Parameters
    ----------
    name : of the source.
    facts : columns, each with its (rows * cols,) values in (row, col) order; the last is `coverage_<name>`.
    understood : how the file was read, one line a thing, for people.
    """

    name: str
    facts: tuple[Fact, ...]
    understood: tuple[str, ...]


@dataclass(frozen=True)
class _Sums:
    """(size,) of every tile, in pixels: its area, the valid part of it, and sums by name."""

    area: FloatArray
    valid: FloatArray
    named: dict[str, FloatArray] = field(default_factory=dict)

    @property
    def covered(self) -> FloatArray:
        share = np.divide(self.valid, self.area, out=np.zeros(len(self.area)), where=self.area > 0)
        share[share < _ROUNDING] = 0.0
        share[share > 1 - _ROUNDING] = 1.0
        return share

    def mean(self, name: str, known: FloatArray) -> FloatArray:
        values = np.full(len(self.area), np.nan)
        np.divide(self.named[name], self.valid, out=values, where=known > 0)
        return values


def raster_columns(source: RasterSource, grid: Grid) -> RasterFacts:
    """The facts of a raster by tile, each pixel with the exact share of it that lies inside the tile.

    `<name>_mean`, `<name>_share_<class>` of each class, or `<name>_slope` in degrees; and
    `coverage_<name>`, the share of the tile with valid pixels. Where there is none a fact is missing.
    Pixels are valid where the raster says so (nodata, mask, alpha) and holds a number; a slope needs the
    eight pixels around, too. Scale and offset are applied, but not to classes. The raster is read once,
    in its own CRS, and memory does not grow with it.

    Raises
    ------
    SourceError : not a raster, no CRS, no such band, outside the grid or blank in it, more than 50 classes
        or values that are no classes, elevations in an unknown unit, values that must mean missing ones.
    """
    name = source.name or Path(source.path).stem
    with opened_band(source, grid) as band:
        layers, unit = _layers(band)
        sums = _sums(band, layers)
        share = sums.covered
        understood = (_understood(band, sums, share),)
    if not share.any():
        raise SourceError(f"{source.path}: no pixel in the grid has a value; leave it out or check --bbox")
    covered = f"coverage_{name}"
    facts = [
        (Column(f"{name}_{end}", "float64", unit, "feature", "mean", meaning, name, by=(covered,)), values)
        for end, meaning, values in _named(sums, share, name, source.fact)
    ]
    meaning = f"Share of the tile where {name} has a value."
    coverage = Column(covered, "float64", "share", "info", "mean", meaning, name)
    return RasterFacts(name, (*facts, (coverage, share)), understood)


def _named(sums: _Sums, known: FloatArray, name: str, fact: str) -> Iterator[tuple[str, str, FloatArray]]:
    if fact == "share":
        for value in sorted(sums.named, key=int):
            meaning = f"Share of {name} in the tile that is of class {value}, where it has a value."
            yield f"share_{value}", meaning, sums.mean(value, known).clip(0, 1)
    else:
        what = "slope" if fact == "slope" else "value"
        yield fact, f"Mean {what} of {name} in the tile.", sums.mean(fact, known)


def _layers(band: RasterBand) -> tuple[Callable[[Window], _Layers], str]:
    """What is summed of a window, and its unit."""
    if band.source.fact == "share":
        return lambda window: _classes(band, window), "share"
    if band.source.fact == "slope":
        unit = band.unit.strip().lower()
        if unit not in _METRES:
            raise SourceError(
                f"{band.where}: a slope needs elevations in metres or feet, these are in {band.unit!r}; "
                "name the right one with `unit`"
            )
        return lambda window: _slopes(band, window, _METRES[unit]), "degrees"
    return lambda window: _values(band, window), band.unit


def _values(band: RasterBand, window: Window) -> _Layers:
    values, valid = band.values(window)
    return ["mean"], [valid, values]


def _classes(band: RasterBand, window: Window) -> _Layers:
    stored, valid = band.stored(window)
    found = np.sort(pd.unique(stored[valid]))
    broken = found[found % 1 != 0]
    if len(broken):
        raise SourceError(f"{band.where} holds {broken[0]:g}, so no classes; use fact = 'mean'")
    if len(found) > MAX_CLASSES:
        raise _too_many(band)
    return [str(int(value)) for value in found], [valid, *(valid & (stored == value) for value in found)]


def _too_many(band: RasterBand) -> SourceError:
    return SourceError(
        f"{band.where} holds more than {MAX_CLASSES} values, too many for shares of classes; "
        "use fact = 'mean', or group them first"
    )


def _slopes(band: RasterBand, window: Window, to_metres: float) -> _Layers:
    # one pixel more on each side, where the raster has it
    left, top = max(0, window.col_off - 1), max(0, window.row_off - 1)
    right = min(band.opened.width, window.col_off + window.width + 1)
    bottom = min(band.opened.height, window.row_off + window.height + 1)
    elevation = np.full((window.height + 2, window.width + 2), np.nan)
    row, col = top - window.row_off + 1, left - window.col_off + 1
    values, valid = band.values(Window(left, top, right - left, bottom - top))
    elevation[row : row + bottom - top, col : col + right - left] = np.where(
        valid, to_metres * values, np.nan
    )
    slopes = horn_slopes(elevation, *band.pixel_sides_m(window))
    return ["slope"], [~np.isnan(slopes), np.nan_to_num(slopes)]


def _sums(band: RasterBand, layers: Callable[[Window], _Layers]) -> _Sums:
    grid = band.grid
    sums = _Sums(np.zeros(grid.size), np.zeros(grid.size))
    tiles = _tiles_at_once(band)
    for window in band.windows(_PIXELS_AT_ONCE[band.source.fact]):
        names, values = layers(window)
        if len(sums.named.keys() | set(names)) > MAX_CLASSES:
            raise _too_many(band)
        running = running_sums(values)

        def to_pixels(x: FloatArray, y: FloatArray, at: Window = window) -> tuple[FloatArray, FloatArray]:
            col, row = band.to_pixels(x, y)
            return col - at.col_off, row - at.row_off

        for rows, cols in tile_batches(*band.tiles(window), tiles):
            edges = tile_edges(grid, rows, cols, band.pieces, to_pixels)
            index = np.add.outer(np.array(rows) * grid.cols, np.array(cols))
            area = tile_areas(edges)
            found = tile_sums(edges, running) * np.sign(area)
            sums.area[index] = np.abs(area)
            sums.valid[index] += found[0]
            for name, part in zip(names, found[1:], strict=True):
                sums.named.setdefault(name, np.zeros(grid.size))[index] += part
    return sums


def _tiles_at_once(band: RasterBand) -> int:
    """Tiles whose edges cross as many pixels as fit in memory."""
    row, col = band.grid.rows // 2, band.grid.cols // 2
    edges = tile_edges(band.grid, range(row, row + 1), range(col, col + 1), band.pieces, band.to_pixels)
    pixels_a_side = math.sqrt(abs(tile_areas(edges)[0, 0]))
    return max(1, int(_CROSSINGS_AT_ONCE / (4 * (band.pieces + pixels_a_side))))


def _understood(band: RasterBand, sums: _Sums, share: FloatArray) -> str:
    said = [f"band {band.source.band} of {band.opened.count}", band.opened.crs.to_string()[:40], band.missing]
    scale, offset = band.scaled
    if band.source.fact == "share":
        said.append(f"{len(sums.named)} classes")
    elif (scale, offset) != (1.0, 0.0):
        said.append(f"values times {scale:g} plus {offset:g}")
    if band.source.fact == "slope":
        said.append(f"elevations in {band.unit or 'metres, as no unit is given'}")
    said.append(f"{int((share > 0).sum()):,} of {len(share):,} tiles have a value")
    return f"{Path(band.source.path).name}: {', '.join(said)}"
