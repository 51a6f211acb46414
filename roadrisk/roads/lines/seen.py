"""Columns of what a mask of roads shows of each tile: share, centre-line, junctions, width."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from roadrisk.columns import Column, Combine, Fact, Role
from roadrisk.grid import FloatArray, Grid, IntArray, Part
from roadrisk.mosaic.parts import coverage_of
from roadrisk.mosaic.picture import Mask
from roadrisk.mosaic.reader import MosaicReader
from roadrisk.roads.lines.skeletons import halo_px, skeleton_of
from roadrisk.roads.scenes import Window
from roadrisk.roads.sources.mosaics import MaskTruths, MosaicPlane

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
    metres_per_pixel : ground side of a pixel in the middle of the grid [m]; what is too wide follows from it.
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
    grid, part = job.grid, job.part
    with closing(drawn_roads(job.dataset_dir, job.view, grid, job.tile_size, job.plan_hash)) as roads:
        facts = part_facts(roads.read, part, job.tile_size, job.metres_per_pixel)
    # metres a pixel change across a region in some projections
    rows, cols = np.indices((part.rows, part.cols)) + np.array([part.row, part.col])[:, None, None]
    side_m = np.sqrt(grid.area_km2(rows.ravel(), cols.ravel()) * 1e6).reshape(rows.shape)
    longer = side_m / (job.tile_size * job.metres_per_pixel)
    return replace(facts, road_m=facts.road_m * longer, width_m=facts.width_m * longer)


def drawn_roads(dataset_dir: Path, view: str, grid: Grid, tile_size: int, plan_hash: str) -> MaskTruths:
    """Where a view whose pixels are 0 and 255 shows roads, also before its dataset knows of it.

    Raises
    ------
    DatasetError : the view was not cut.
    """
    reader = MosaicReader(dataset_dir, view, grid, tile_size, plan_hash)
    return MaskTruths(MosaicPlane(reader, grid.shape, tile_size), _ROAD_ABOVE)


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


def _sums(tile: IntArray, values: FloatArray, part: Part) -> FloatArray:
    sums = np.bincount(tile, values, minlength=part.rows * part.cols)
    return np.asarray(sums, dtype=np.float64).reshape(part.rows, part.cols)


def _ratio(of: FloatArray, by: FloatArray) -> FloatArray:
    """NaN by 0."""
    ratio: FloatArray = np.divide(of, by, out=np.full(by.shape, np.nan), where=by > 0)
    return ratio
