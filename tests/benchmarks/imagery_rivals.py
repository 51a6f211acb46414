"""How the rivals that are libraries make tiles of sheets; worker processes import this, so it imports little."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from roadrisk.grid import Grid, Part

TILE_PX = 256
BLOCK = {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "pixel"}
# as our parts are
ZSTD = BLOCK | {"compress": "zstd", "zstd_level": 1, "predictor": 2}
CACHE_BYTES = 256 << 20


def in_two_processes(work: Callable[..., Any], jobs: Iterable[Any], *arguments: Any) -> None:
    """`work(jobs, *arguments)` on every other job in each of two fresh processes."""
    jobs = list(jobs)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(work, jobs[i::2], *arguments) for i in range(2)]:
            future.result()


def tiles_by_rio_tiler(tiles: Sequence[tuple[int, int, int]], vrt: Path, out: Path | None) -> None:
    """Tiles as PNG files, or only as pixels. (Of the sheets over each tile it takes seven times as long.)"""
    from rio_tiler.errors import NoOverviewWarning
    from rio_tiler.io import Reader

    warnings.simplefilter("ignore", NoOverviewWarning)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), Reader(str(vrt)) as reader:
        for z, x, y in tiles:
            picture = reader.tile(
                x, y, z, tilesize=TILE_PX, resampling_method="cubic", reproject_method="cubic"
            )
            if out is not None:
                path = out / str(z) / str(x) / f"{y}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture.render(img_format="PNG"))


def parts_by_warped_vrt(parts: Sequence[Part], grid: Grid, sheets: Sequence[str], out: Path) -> None:
    """Parts as we write them, each sheet over one warped by a WarpedVRT."""
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT
    from rasterio.warp import transform_bounds

    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_TIFF_INTERNAL_MASK=True), ExitStack() as stack:
        opened = [stack.enter_context(rasterio.open(name)) for name in sheets]
        boxes = [transform_bounds(source.crs, grid.crs, *source.bounds) for source in opened]
        for part in parts:
            pixels = np.zeros((3, part.rows * TILE_PX, part.cols * TILE_PX), np.uint8)
            valid = np.zeros(pixels.shape[1:], bool)
            there = grid.picture_transform(TILE_PX) @ Affine.translation(
                part.col * TILE_PX, part.row * TILE_PX
            )
            for source, (west, south, east, north) in zip(opened, boxes, strict=True):
                (left, top), (right, bottom) = ~there @ (west, north), ~there @ (east, south)
                x, y = slice(max(0, int(left)), int(right) + 1), slice(max(0, int(top)), int(bottom) + 1)
                height, width = valid[y, x].shape
                if not height or not width or right < 0 or bottom < 0:
                    continue
                warp = {"crs": grid.crs, "resampling": Resampling.cubic, "add_alpha": True}
                place = there @ Affine.translation(x.start, y.start)
                with WarpedVRT(source, transform=place, height=height, width=width, **warp) as warped:
                    found = warped.read()
                seen = found[3] >= 128
                np.copyto(pixels[:, y, x], found[:3], where=seen)
                valid[y, x] |= seen
            shape = {"count": 3, "dtype": "uint8", "height": valid.shape[0], "width": valid.shape[1]}
            path = out / f"{part.name}.tif"
            with rasterio.open(
                path, "w", crs=grid.crs, transform=there, photometric="RGB", **shape, **ZSTD
            ) as file:
                file.write(pixels)
                file.write_mask(valid)
