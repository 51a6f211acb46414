"""XYZ tiles are those that rio-tiler makes of the same sheets, to less than a grey level."""

from __future__ import annotations

from pathlib import Path

import mercantile
import numpy as np
import pytest
from rio_tiler.io import Reader
from rio_tiler.mosaic import mosaic_reader
from rio_tiler.mosaic.methods import HighestMethod
from sheets import found

from roadrisk.grid import Grid, LngLatBbox, Part
from roadrisk.gridding import grid_of_zoom
from roadrisk.mosaic.warping import SheetPainter


def ours(paths: list[Path], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(3, H, W) pixels and (H, W) validity of the whole grid."""
    painted = SheetPainter(tuple(found(paths, grid)), grid, 256).painted(Part(0, 0, *grid.shape))
    assert not painted.failed.any()
    return painted.picture.pixels, painted.picture.valid


@pytest.mark.parametrize(
    ("zoom", "resampling"), [(18, "nearest"), (17, "average"), (16, "average"), (19, "cubic")]
)
def test_naip_tiles_are_those_of_rio_tiler(shared_data: Path, zoom: int, resampling: str) -> None:
    path = shared_data / "tiles/naip_cog/usda_naip_256_lzw_z3.tif"
    with Reader(str(path)) as source:
        # the picture is a strip of 60 columns, the rest is transparent
        x, y = source.dataset.xy(600, 519)
        middle = mercantile.tile(*mercantile.lnglat(x, y), zoom)
        grid = grid_of_zoom(LngLatBbox(*mercantile.bounds(middle)), zoom)
        pixels, valid = ours([path], grid)
        assert pixels[:, valid].std() > 10
        for row in range(grid.rows):
            for col in range(grid.cols):
                _, x, y = (int(n) for n in grid.tile_id(row, col).split("/"))
                theirs = source.tile(
                    x, y, zoom, indexes=(1, 2, 3), resampling_method=resampling, reproject_method=resampling
                )
                there = np.s_[row * 256 : (row + 1) * 256, col * 256 : (col + 1) * 256]
                mask = np.asarray(theirs.mask) > 0
                both = mask & valid[there]
                # of two rules for a pixel at the edge: half of it, or any
                assert (mask != valid[there]).sum() <= 4 * 256
                if not both.any():
                    continue
                difference = np.abs(theirs.data.astype(int) - pixels[:, *there])[:, both]
                assert difference.mean() < (1e-9 if zoom == 18 else 1)


def test_a_mosaic_of_boston_sheets(shared_data: Path) -> None:
    folder = shared_data / "boston/imagery"
    paths = sorted(folder.glob("*.tif"))[:6]
    compared = 0
    for path in paths:
        with Reader(str(path)) as source:
            box = source.get_geographic_bounds("EPSG:4326")
        x, y, z = mercantile.tile((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 17)
        grid = grid_of_zoom(LngLatBbox(*mercantile.bounds(x, y, z)), z)
        pixels, valid = ours(paths, grid)
        row, col = grid.rows // 2, grid.cols // 2
        _, x, y = (int(n) for n in grid.tile_id(row, col).split("/"))
        there = np.s_[row * 256 : (row + 1) * 256, col * 256 : (col + 1) * 256]

        def read(asset: str, *tile: int) -> object:
            with Reader(asset) as sheet:
                return sheet.tile(*tile, resampling_method="cubic", reproject_method="cubic")

        theirs, _ = mosaic_reader(
            [str(p) for p in paths], read, x, y, z, pixel_selection=HighestMethod, threads=0
        )
        both = (np.asarray(theirs.mask) > 0) & valid[there]
        if both.any():
            compared += 1
            assert np.abs(theirs.data.astype(int) - pixels[:, *there])[:, both].mean() < 1
    assert compared >= 3
