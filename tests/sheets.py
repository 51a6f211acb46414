"""Made-up sheets, and what a region looks like when each is warped whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import reproject

from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.imagery.finding import found_sheets
from roadrisk.imagery.sheets import Sheets
from roadrisk.source_settings import ImagerySource

GRID = grid_of_cell(LngLatBbox(-71.01, 42.30, -70.99, 42.32), 250)
PLACE = Affine(1, 0, GRID.bounds.left, 0, -1, GRID.bounds.top)
RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def sheet(
    path: Path,
    pixels: NDArray[Any] | None = None,
    transform: Affine = PLACE,
    crs: str | None = GRID.crs,
    colours: tuple[ColorInterp, ...] = (),
    mask: NDArray[np.bool_] | None = None,
    **options: Any,
) -> Path:
    """Write a GeoTIFF."""
    pixels = np.zeros((3, 40, 60), np.uint8) if pixels is None else pixels
    shape = {"count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", crs=crs, transform=transform, dtype=pixels.dtype, **shape, **options
        ) as target,
    ):
        if colours:
            target.colorinterp = colours
        target.write(pixels)
        if mask is not None:
            target.write_mask(mask)
    return path


def vrt(path: Path, bands: str, width: int, height: int, transform: Affine = PLACE) -> Path:
    """Write a VRT."""
    place = ",".join(map(repr, transform.to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{GRID.crs}</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def vrt_band(number: int, file: Path, of: int, dtype: str = "Byte", more: str = "") -> str:
    """A band of a VRT: band `of` of another file."""
    return (
        f'<VRTRasterBand dataType="{dtype}" band="{number}">{more}<SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{file}</SourceFilename><SourceBand>{of}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
    )


def found(paths: Sequence[str | Path], grid: Grid = GRID, tile_size: int = 256, **said: Any) -> Sheets:
    """The sheets of one view from files, folders and patterns of which the same is said."""
    return found_sheets([ImagerySource(str(path), **said) for path in paths], grid, tile_size)


def scene(height: int, width: int, seed: int = 0, bands: int = 3) -> NDArray[np.uint8]:
    """(bands, height, width) of blotches with hard edges, like roofs and roads."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(height, width, bands)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3).reshape(height, width, bands)
    picture = np.clip(128 + 600 * smooth, 1, 255)
    picture[::17] = 250
    return np.ascontiguousarray(np.moveaxis(picture.astype(np.uint8), -1, 0))


def warped_whole(
    paths: Sequence[Path], grid: Grid, tile_size: int, resampling: Resampling
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(3, H, W) and (H, W): each sheet warped onto the whole region at once, later over earlier."""
    shape = grid.rows * tile_size, grid.cols * tile_size
    pixels, valid = np.zeros((3, *shape), np.uint8), np.zeros(shape, bool)
    for path in paths:
        with rasterio.open(path) as source:
            bands = [1, 2, 3] if source.count >= 3 else [1]
            warped = np.zeros((len(bands) + 1, *shape), np.uint8)
            reproject(
                rasterio.band(source, bands),
                warped,
                src_alpha=4 if source.colorinterp[-1] == ColorInterp.alpha else 0,
                dst_transform=grid.picture_transform(tile_size),
                dst_crs=grid.crs,
                dst_alpha=len(bands) + 1,
                resampling=resampling,
                warp_mem_limit=1000,
            )
        seen = (warped[-1] >= 128) | ((warped[-1] > 0) & ~valid)
        pixels[:, seen] = warped[:-1][:, seen]
        valid |= seen
    return pixels, valid
