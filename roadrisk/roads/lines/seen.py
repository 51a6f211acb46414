"""Columns of what a mask of roads shows of each tile: share, centre-line, junctions, width."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roadrisk.columns import Column, Combine, Fact, Role
from roadrisk.grid import FloatArray, Grid, IntArray, Part
from roadrisk.mosaic.parts import coverage_of
from roadrisk.mosaic.picture import Mask
from roadrisk.mosaic.reader import MosaicReader
from roadrisk.roads.lines.skeletons import halo_px, skeleton_of
from roadrisk.roads.scenes import Window

SOURCE = "seen_roads"  # centre-lines are `roads`
_ROAD_ABOVE = 127


@dataclass(frozen=True, eq=False)
class PartFacts:
    """What is seen of the tiles of a part; each array is (rows, cols).

    Parameters
    ----------
    coverage : share of the tile's pixels that are known.
    share : of the known pixels that are road; NaN where none is known.
    road_m : centre-line [m] of what is known.
    junctions : where centre-lines meet.
    width_m : mean along the centre-line [m]; NaN without one.
    """

    part: Part
    coverage: FloatArray
    share: FloatArray
    road_m: FloatArray
    junctions: FloatArray
    width_m: FloatArray


@dataclass(frozen=True)
class FactsJob:
    """All that a worker needs to tell what is seen of one part.

    Parameters
    ----------
    tile_size, plan_hash : of the view.
    metres_per_pixel : ground side of a pixel [m].
    """

    dataset_dir: Path
    view: str
    grid: Grid
    tile_size: int
    plan_hash: str
    part: Part
    metres_per_pixel: float


def facts_done(job: FactsJob) -> PartFacts:
    """What is seen of a part of a view whose pixels are 0 and 255.

    Raises
    ------
    DatasetError : a part of the view is missing or damaged.
    """
    with closing(MosaicReader(job.dataset_dir, job.view, job.grid, job.tile_size, job.plan_hash)) as reader:
        return part_facts(
            lambda window: mask_of(reader, job.grid, job.tile_size, window),
            job.part,
            job.tile_size,
            job.metres_per_pixel,
        )


def mask_of(reader: MosaicReader, grid: Grid, tile_size: int, window: Window) -> tuple[Mask, Mask]:
    """(height, width) road and known of a window of the mosaic; beyond the grid nothing is known."""
    road, valid = (np.zeros((window.height, window.width), bool) for _ in range(2))
    for row in _tiles(window.y, window.height, tile_size, grid.rows):
        for col in _tiles(window.x, window.width, tile_size, grid.cols):
            known = reader.valid(row, col)
            if not known.any():
                continue
            (to_y, of_y), (to_x, of_x) = (
                _shared(row * tile_size, tile_size, window.y, window.height),
                _shared(col * tile_size, tile_size, window.x, window.width),
            )
            road[to_y, to_x] = (reader.read(row, col)[0] > _ROAD_ABOVE)[of_y, of_x]
            valid[to_y, to_x] = known[of_y, of_x]
    return road, valid


def part_facts(
    read: Callable[[Window], tuple[Mask, Mask]], part: Part, tile_size: int, metres_per_pixel: float
) -> PartFacts:
    """What is seen of a part's tiles.

    The length of a link between pixels goes to their tiles, half to each; a junction is in the tile of its
    one pixel. So sums over tiles are those of the whole, however it is cut.

    Parameters
    ----------
    read : road and known of a window of the mosaic, which may reach beyond it.
    metres_per_pixel : ground side of a pixel [m].
    """
    halo = halo_px(metres_per_pixel)
    y, x, height, width = (tile_size * side for side in part)
    road, valid = read(Window(y - halo, x - halo, height + 2 * halo, width + 2 * halo))
    core = np.s_[halo : halo + height, halo : halo + width]
    coverage = coverage_of(valid[core], tile_size)
    skeleton = skeleton_of(road, valid, halo, (y, x))
    own = slice(skeleton.core)
    tile = (skeleton.y[own] // tile_size - part.row) * part.cols + skeleton.x[own] // tile_size - part.col
    length = skeleton.length_px[own]
    road_px = _sums(tile, length, part)
    area = _sums(tile, length * 2 * skeleton.half_width_px[own], part)
    return PartFacts(
        part,
        coverage,
        _ratio(coverage_of(road[core] & valid[core], tile_size), coverage),
        road_px * metres_per_pixel,
        _sums(tile, skeleton.junction[own].astype(np.float64), part),
        _ratio(area, road_px) * metres_per_pixel,
    )


def seen_facts(grid: Grid, parts_facts: Iterable[PartFacts], min_coverage: float) -> list[Fact]:
    """The columns of a grid; parts that are not told of have no picture.

    Parameters
    ----------
    min_coverage : of a tile's pixels that must be known; what is less is missing, not 0.
    """
    names = ("coverage", "share", "road_m", "junctions", "width_m")
    whole = {name: np.zeros(grid.shape) for name in names}
    for facts in parts_facts:
        row, col, rows, cols = facts.part
        for name in names:
            whole[name][row : row + rows, col : col + cols] = getattr(facts, name)
    coverage = whole["coverage"]
    unknown = (coverage < min_coverage) | (coverage == 0)
    for name in names[1:]:
        whole[name][unknown] = np.nan
    return [(column, whole[name].ravel()) for name, column in zip(names, _columns(), strict=True)]


def _columns() -> list[Column]:
    missing = "missing where too little of the tile has a picture"
    told: list[tuple[str, str, Role, Combine, str, tuple[str, ...]]] = [
        ("coverage_seen_roads", "share", "info", "mean", "Share of the tile in which roads were drawn.", ()),
        (
            "seen_road_share",
            "share",
            "feature",
            "mean",
            f"Share of what is seen of the tile that is drawn as road; {missing}.",
            ("coverage_seen_roads",),
        ),
        (
            "seen_road_m",
            "m",
            "feature",
            "sum",
            f"Centre-line of drawn roads, of what is seen of the tile only; {missing}.",
            (),
        ),
        (
            "seen_junctions",
            "junctions",
            "feature",
            "sum",
            f"Junctions of drawn roads, of what is seen of the tile only; {missing}.",
            (),
        ),
        (
            "seen_road_width_m",
            "m",
            "feature",
            "mean",
            f"Mean width of drawn roads along their centre-line; missing without one, and {missing}.",
            ("seen_road_m",),
        ),
    ]
    return [
        Column(name, "float64", unit, role, combine, meaning, SOURCE, by=by)
        for name, unit, role, combine, meaning, by in told
    ]


def _tiles(first: int, length: int, tile_size: int, count: int) -> range:
    """Tiles along an axis that a span of pixels touches."""
    return range(max(0, first // tile_size), min(count, -(-(first + length) // tile_size)))


def _shared(tile: int, tile_size: int, window: int, length: int) -> tuple[slice, slice]:
    """Along an axis, what a tile and a window share: in the window, and in the tile."""
    start, stop = max(tile, window), min(tile + tile_size, window + length)
    return slice(start - window, stop - window), slice(start - tile, stop - tile)


def _sums(tile: IntArray, values: FloatArray, part: Part) -> FloatArray:
    sums = np.bincount(tile, values, minlength=part.rows * part.cols)
    return np.asarray(sums, dtype=np.float64).reshape(part.rows, part.cols)


def _ratio(of: FloatArray, by: FloatArray) -> FloatArray:
    """NaN by 0."""
    ratio: FloatArray = np.divide(of, by, out=np.full(by.shape, np.nan), where=by > 0)
    return ratio
