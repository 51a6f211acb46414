"""What roads are learned from: a dataset, or a folder of pictures with masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from roadrisk.dataset import MANIFEST, RUN, Dataset, read_dataset
from roadrisk.errors import DatasetError, SourceError, UsageError
from roadrisk.files import digest_of, sha256_of
from roadrisk.grid import FloatArray, IntArray
from roadrisk.mosaic.picture import Mask
from roadrisk.roads.scenes import RoadExamples, Scene, Truths, Window
from roadrisk.roads.settings import RoadSettings
from roadrisk.roads.sources.centre_lines import LINES, centre_lines, line_truths
from roadrisk.roads.sources.mosaics import MaskTruths, MosaicPlane, mosaic_of
from roadrisk.roads.sources.pairs import pair_examples
from roadrisk.roads.sources.widths import road_widths

WEAK = (
    "weak labels: roads are centre-lines drawn as wide as their class, so scores are agreement with drawn "
    "lines, not with pavement"
)
# a share of coverage that is whole, rounding apart
_WHOLE = 0.999


@dataclass(frozen=True, eq=False)
class Known:
    """Where the roads of a dataset are.

    Parameters
    ----------
    identity : plain values; the same only for the same roads.
    missing : why a tile with a picture has none, for people.
    empty : what to do where no tile shows a road, for people.
    """

    truths: Truths
    identity: dict[str, object]
    told: tuple[str, ...]
    missing: str
    empty: str


def examples_at(path: Path, settings: RoadSettings) -> RoadExamples:
    """The examples in a folder: a dataset's where it has a manifest, else pictures with masks.

    Raises
    ------
    SourceError : no such folder, or what `pair_examples` raises.
    DatasetError : what `dataset_examples` raises.
    UsageError : the mask view is the picture's own, widths are given with one, or a width is of no class.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "is not there"
        raise SourceError(f"{path} {what}; give a dataset, or a folder of pictures with masks")
    if (path / MANIFEST).is_file() or (path / RUN).is_file():
        return dataset_examples(read_dataset(path), settings)
    return pair_examples(path, settings)


def dataset_examples(dataset: Dataset, settings: RoadSettings) -> RoadExamples:
    """The tiles of a dataset that have a picture, if only a part of one, and known roads.

    Raises
    ------
    DatasetError : no such view, no centre-lines, a mask view of another size, or no tile, or no road in one.
    UsageError : the mask view is the picture's own, widths are given with one, or a width is of no class.
    """
    view, grid = dataset.view(settings.view), dataset.grid
    tiles = dataset.tiles()
    known = _mask_view(dataset, settings) if settings.mask else _drawn(dataset, settings, tiles)
    plane = mosaic_of(dataset, view.name)
    coverage = tiles[view.coverage_column].to_numpy(float, na_value=np.nan)
    # a part of a picture teaches as well as a whole one: pixels count, not tiles
    pictured = np.flatnonzero(coverage > 0)
    rows, cols = tiles["row"].to_numpy()[pictured], tiles["col"].to_numpy()[pictured]
    known_share, road_share = _shares(
        plane, known.truths, rows, cols, coverage[pictured] >= 1, view.tile_size
    )
    some = known_share > 0
    _check_any(dataset, view.name, known, len(pictured), some, road_share)
    rows, cols = rows[some], cols[some]
    keys = tiles["tile_id"].to_numpy(object)[pictured][some]
    identity = {
        "grid": grid.as_json(),
        "view": [view.name, view.digest],
        "roads": known.identity,
        "tiles": [len(keys), digest_of(keys.tolist())],
    }
    return RoadExamples(
        name=str(dataset.manifest["name"]),
        identity=digest_of(identity),
        scenes=(Scene(dataset.path.resolve().name, plane, known.truths, (view.tile_size, view.tile_size)),),
        scene=np.zeros(len(rows), np.int64),
        row=rows,
        col=cols,
        key=keys,
        content=keys,
        road_share=road_share[some],
        known_share=known_share[some],
        lattice=(grid.y0 + rows, grid.x0 + cols, grid.cell_m),
        bands=plane.bands,
        metres_per_pixel=dataset.metres_per_pixel(view.name),
        stretch=view.stretch,
        told=(*_tiles_said(coverage, some, known), *known.told),
    )


def _mask_view(dataset: Dataset, settings: RoadSettings) -> Known:
    """Roads as a view shows them."""
    name, above = str(settings.mask), settings.mask_above
    if settings.widths_m:
        raise UsageError(
            f"widths are of centre-lines, and roads are those of view {name!r}; leave out --width or --mask"
        )
    if name == settings.view:
        raise UsageError(
            f"view {name!r} is the picture and the mask; --mask names the view that shows where roads are"
        )
    picture, mask = dataset.view(settings.view), dataset.view(name)
    if mask.tile_size != picture.tile_size:
        raise DatasetError(
            f"{dataset.path}: a tile has {picture.tile_size} px in view {picture.name!r} and "
            f"{mask.tile_size} px in {name!r}; a mask has those of the picture"
        )
    return Known(
        MaskTruths(mosaic_of(dataset, name), above),
        {"mask": [name, mask.digest], "above": above},
        (f"roads are where view {name!r} is above {above} (--mask-above)",),
        f"have nothing in view {name!r}",
        f"no pixel of view {name!r} is above {above}; lower --mask-above, or name another view with --mask",
    )


def _drawn(dataset: Dataset, settings: RoadSettings, tiles: pd.DataFrame) -> Known:
    """Roads as the centre-lines have them."""
    table = centre_lines(dataset)
    lines = table.to_pandas()
    geometry = shapely.from_wkb(lines["geometry"].to_numpy())
    extent = shapely.length(geometry) > 0
    every = lines.get("lanes", pd.Series(np.full(len(lines), np.nan)))
    lanes = every.to_numpy(float, na_value=np.nan)[extent]
    widths = road_widths(lines["road_class"][extent], lanes, settings.widths_m)
    known, partly = _known_tiles(dataset, tiles)
    truths = line_truths(dataset, settings.view, geometry[extent], widths.width_m, known)
    narrow = int((widths.width_m < dataset.metres_per_pixel(settings.view)).sum())
    counts = (
        (int((~extent).sum()), "lines are points and are not drawn"),
        (narrow, "lines are narrower than a pixel and drawn as wide as one"),
        (partly, "tiles are partly inside the coverage of the roads, so theirs are taken for unknown"),
    )
    return Known(
        truths,
        {
            "lines": sha256_of(dataset.path / LINES),
            "width_m": digest_of(widths.width_m.tolist()),
            "known": digest_of(np.flatnonzero(known).tolist()),
        },
        (WEAK, *widths.told, *(f"{count:,} {what}" for count, what in counts if count)),
        "have roads that are unknown, in a part of them at least (`road_m`)",
        "no centre-line crosses them; tile it with --roads that are there, or name a mask view with --mask",
    )


def _known_tiles(dataset: Dataset, tiles: pd.DataFrame) -> tuple[Mask, int]:
    """(rows, cols) whether the roads of a tile are known, and how many are known in a part of it only.

    Which part is not known, and no road there is not unknown: zero is not unknown.
    """
    known = tiles["road_m"].notna().to_numpy()
    source = next(column.source for column in dataset.columns if column.name == "road_m")
    covered = tiles.get(f"coverage_{source}")
    whole = known if covered is None else known & (covered.to_numpy(float) >= _WHOLE)
    return whole.reshape(dataset.grid.shape), int((known & ~whole).sum())


def _shares(
    plane: MosaicPlane, truths: Truths, rows: IntArray, cols: IntArray, whole: Mask, size: int
) -> tuple[FloatArray, FloatArray]:
    """(N,) share of each tile with a picture and known roads, and share of that which is road (else NaN)."""
    known_px, road_px = np.zeros(len(rows)), np.zeros(len(rows))
    for n, (row, col) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True)):
        truth = truths.read(Window(row * size, col * size, size, size))
        known = truth.known if whole[n] else truth.known & plane.valid(row, col)
        known_px[n], road_px[n] = np.count_nonzero(known), np.count_nonzero(known & truth.road)
    plane.close()
    truths.close()
    share = np.divide(road_px, known_px, out=np.full(len(rows), np.nan), where=known_px > 0)
    return known_px / size**2, share


def _check_any(
    dataset: Dataset, view: str, known: Known, pictured: int, some: Mask, road_share: FloatArray
) -> None:
    at = f"{dataset.path}: "
    if not pictured:
        raise DatasetError(f"{at}no tile has a picture in view {view!r}; tile with --imagery there")
    if not some.any():
        raise DatasetError(
            f"{at}none can be learned from: all {pictured:,} tiles with a picture {known.missing}"
        )
    if not road_share[some].any():
        raise DatasetError(f"{at}{int(some.sum()):,} tiles with a picture show no road: {known.empty}")


def _tiles_said(coverage: FloatArray, some: Mask, known: Known) -> list[str]:
    failed = int(np.isnan(coverage).sum())
    bare = len(coverage) - failed - len(some)
    counts = (
        (bare, "have no picture"),
        (int((~some).sum()), known.missing),
        (failed, "have a picture that could not be read"),
    )
    left_out = "; ".join(f"{count:,} {what}" for count, what in counts if count)
    used = f"{int(some.sum()):,} of {len(coverage):,} tiles to learn from"
    return [f"{used}; left out: {left_out}" if left_out else used]
