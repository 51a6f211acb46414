"""The mosaic for people: a VRT over the parts, and one small picture of the whole that lets it draw fast."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.files import whole_file
from roadrisk.grid import PART_SIDE_PX, Grid, Part, tiles_per_part
from roadrisk.mosaic.parts import write_picture
from roadrisk.mosaic.picture import Mask, Picture, Pixels

SOURCES_PER_FILE = 1000
NEST = 31  # 31 x 31 parts below a nested file
BLOCK = 256


class _Source(NamedTuple):
    """A file of a VRT, by its path from `views/`, and the tiles it covers."""

    path: str
    tiles: Part


def overview_path(view: str) -> str:
    """A view's picture of the whole, from the dataset's folder."""
    return f"views/{view}.overview.tif"


def vrt_path(view: str) -> str:
    """A view as one raster, from the dataset's folder."""
    return f"views/{view}.vrt"


def overview_pixels(grid: Grid, tile_size: int) -> int:
    """Pixels along the side of a tile in the overview: a power of two, the whole at most 4096 if it can.

    >>> from roadrisk.grid import LngLatBbox
    >>> from roadrisk.gridding import grid_of_zoom
    >>> overview_pixels(grid_of_zoom(LngLatBbox(-93.7, 41.5, -93.5, 41.7), 16), 256)
    64
    """
    most = min(tile_size, PART_SIDE_PX // max(grid.shape))
    return 1 << max(0, most.bit_length() - 1)


def shrunken(picture: Picture, tile_size: int, pixels: int) -> Picture:
    """A picture with `pixels` a tile: means over what is known, known where half of it is.

    A tile becomes the same whatever lies around it.
    """
    if pixels == tile_size:
        return picture
    rows, cols = picture.valid.shape[0] // tile_size, picture.valid.shape[1] // tile_size
    small = Picture(
        np.zeros((3, rows * pixels, cols * pixels), np.uint8), np.zeros((rows * pixels, cols * pixels), bool)
    )
    for row, col in np.ndindex(rows, cols):
        wide, narrow = (
            np.s_[row * side : (row + 1) * side, col * side : (col + 1) * side]
            for side in (tile_size, pixels)
        )
        valid = picture.valid[wide]
        share = np.ones((pixels, pixels), np.float32) if valid.all() else _means(valid, pixels)
        # floats may add up to a little less than the half there is
        small.valid[narrow] = known = share > 0.5 - 1e-4
        if known.any():
            for band in range(3):
                mean = _means(picture.pixels[band, *wide], pixels) / np.maximum(share, 0.25)
                small.pixels[band, *narrow] = np.where(known, np.rint(mean), 0)
    return small


def _means(tile: Pixels | Mask, pixels: int) -> NDArray[np.float32]:
    """(pixels, pixels) means over areas of (H, W)."""
    return np.asarray(cv2.resize(tile.astype(np.float32), (pixels, pixels), interpolation=cv2.INTER_AREA))


def write_overview(dataset_dir: Path, view: str, picture: Picture, grid: Grid, plan_hash: str) -> None:
    """Write the picture of the whole."""
    transform = grid.picture_transform(picture.valid.shape[0] // grid.rows)
    write_picture(dataset_dir / overview_path(view), picture, transform, grid.crs, BLOCK, plan_hash)


def vrt_files(view: str, parts: Iterable[Part], grid: Grid, tile_size: int) -> list[str]:
    """Paths of a view's VRT files, from the dataset's folder; the one to open is the last."""
    nested = [f"views/{source.path}" for source, _ in _nested(view, parts, grid, tile_size)]
    return [*([_mask_path(view)] if overview_pixels(grid, tile_size) < tile_size else []), *nested]


def write_vrt(dataset_dir: Path, view: str, parts: Iterable[Part], grid: Grid, tile_size: int) -> None:
    """Write the VRT over the written parts: at most 1,000 sources a file, nested above that.

    Paths in it are relative. Its overview is the picture of the whole.
    """
    pixels = overview_pixels(grid, tile_size)
    texts = {_mask_path(view): _mask_vrt(view, grid, pixels)} if pixels < tile_size else {}
    for source, below in _nested(view, parts, grid, tile_size):
        path = f"views/{source.path}"
        shrunk = view if path == vrt_path(view) and pixels < tile_size else None
        texts[path] = _vrt(source, below, grid, tile_size, shrunk)
    for path, text in texts.items():
        with whole_file(dataset_dir / path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _mask_path(view: str) -> str:
    return f"views/{view}.overview-mask.vrt"


def _mask_vrt(view: str, grid: Grid, pixels: int) -> str:
    """The mask of the picture of the whole as a band: a mask in a VRT can have no other overview."""
    return (
        f'<VRTDataset rasterXSize="{grid.cols * pixels}" rasterYSize="{grid.rows * pixels}">\n'
        f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource>{_file(Path(overview_path(view)).name)}'
        "<SourceBand>mask,1</SourceBand></SimpleSource></VRTRasterBand>\n</VRTDataset>\n"
    )


def _nested(
    view: str, parts: Iterable[Part], grid: Grid, tile_size: int
) -> list[tuple[_Source, list[_Source]]]:
    """Each VRT file with the files it shows, inner ones first."""
    files: list[tuple[_Source, list[_Source]]] = []
    sources = [_Source(f"{view}/{part.name}.tif", part) for part in parts]
    side, level = tiles_per_part(tile_size), 0
    while len(sources) > SOURCES_PER_FILE:
        side, level = side * NEST, level + 1
        groups: dict[tuple[int, int], list[_Source]] = defaultdict(list)
        for source in sources:
            groups[source.tiles.row // side * side, source.tiles.col // side * side].append(source)
        nested = []
        for (row, col), below in sorted(groups.items()):
            tiles = Part(row, col, min(side, grid.rows - row), min(side, grid.cols - col))
            nested.append((_Source(f"{view}/nested{level}-{tiles.name}.vrt", tiles), below))
        files += nested
        sources = [source for source, _ in nested]
    return [*files, (_Source(f"{view}.vrt", Part(0, 0, *grid.shape)), sources)]


def _vrt(source: _Source, below: list[_Source], grid: Grid, tile_size: int, shrunk: str | None) -> str:
    """A VRT file; `shrunk` is the view whose picture of the whole is its overview."""
    tiles = source.tiles
    left, _, _, top = grid.tile_bounds(tiles.row, tiles.col)
    pixel = grid.cell / tile_size
    folder = Path(source.path).parent
    bands = [_band(number, source, below, folder, tile_size, shrunk) for number in ("1", "2", "3", "mask,1")]
    return "\n".join(
        [
            f'<VRTDataset rasterXSize="{tiles.cols * tile_size}" rasterYSize="{tiles.rows * tile_size}">',
            f'<SRS dataAxisToSRSAxisMapping="1,2">{grid.crs}</SRS>',
            f"<GeoTransform>{left!r}, {pixel!r}, 0.0, {top!r}, 0.0, {-pixel!r}</GeoTransform>",
            *bands[:3],
            f"<MaskBand>\n{bands[3]}\n</MaskBand>",
            "</VRTDataset>\n",
        ]
    )


def _band(
    number: str, source: _Source, below: list[_Source], folder: Path, tile_size: int, shrunk: str | None
) -> str:
    colour = {"1": "Red", "2": "Green", "3": "Blue"}.get(number)
    head = f' band="{number}"' if colour else ""
    lines = [
        f'<VRTRasterBand dataType="Byte"{head} blockXSize="{tile_size}" blockYSize="{tile_size}">',
        *([f"<ColorInterp>{colour}</ColorInterp>"] if colour else []),
        *([_overview(shrunk, number)] if shrunk else []),
    ]
    for inner in below:
        width, height = inner.tiles.cols * tile_size, inner.tiles.rows * tile_size
        x = (inner.tiles.col - source.tiles.col) * tile_size
        y = (inner.tiles.row - source.tiles.row) * tile_size
        lines.append(
            f"<SimpleSource>{_file(Path(inner.path).relative_to(folder).as_posix())}"
            f"<SourceBand>{number}</SourceBand>"
            f'<SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType="Byte" '
            f'BlockXSize="{tile_size}" BlockYSize="{tile_size}"/>'
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
            f'<DstRect xOff="{x}" yOff="{y}" xSize="{width}" ySize="{height}"/></SimpleSource>'
        )
    return "\n".join([*lines, "</VRTRasterBand>"])


def _overview(view: str, number: str) -> str:
    path, band = (_mask_path(view), "1") if number == "mask,1" else (overview_path(view), number)
    return f"<Overview>{_file(Path(path).name)}<SourceBand>{band}</SourceBand></Overview>"


def _file(name: str) -> str:
    return f'<SourceFilename relativeToVRT="1">{name}</SourceFilename>'
