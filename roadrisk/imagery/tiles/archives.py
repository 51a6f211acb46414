"""Archives: PMTiles and MBTiles, whose tiles over a grid are checked and put into a cache that GDAL reads."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

from roadrisk.errors import SourceError
from roadrisk.grid import Grid
from roadrisk.imagery.given import Given, GivenSheets
from roadrisk.imagery.manners import POLITE, Manners
from roadrisk.imagery.names import gdal_name, is_remote
from roadrisk.imagery.tiles.archived import Archive, tile_picture
from roadrisk.imagery.tiles.covering import FINEST, TileRows, tiles_over, zoom_for
from roadrisk.imagery.tiles.encoded import NotPicture
from roadrisk.imagery.tiles.mbtiles_archive import mbtiles_archive
from roadrisk.imagery.tiles.pmtiles_archive import pmtiles_archive
from roadrisk.imagery.tiles.spans import spanned_file
from roadrisk.imagery.tiles.tile_cache import (
    Answer,
    TileCache,
    being_filled,
    cache_path,
    forget_damaged,
    keep,
    kept,
    opened_cache,
    unasked,
)
from roadrisk.progress import Progress
from roadrisk.source_settings import ImagerySource

DAMAGED_SHARE = 0.05


def is_archive(path: str) -> bool:
    """Whether a source is an archive of tiles: PMTiles anywhere, MBTiles on disk.

    >>> is_archive("https://a.example/x.pmtiles?sig=a"), is_archive("x.mbtiles"), is_archive("x.tif")
    (True, True, False)
    """
    suffix = _suffix(path)
    is_pattern = suffix == ".mbtiles" and ("*" in path or is_remote(gdal_name(path)))
    return suffix in (".pmtiles", ".mbtiles") and not is_pattern


def archived_sheets(
    source: ImagerySource, grid: Grid, tile_size: int, progress: Progress, manners: Manners = POLITE
) -> GivenSheets:
    """The tiles of an archive over a grid, as one sheet: a cache with what the grid needs of it.

    Tiles that are no whole picture count as tiles without one, and are told; they are read again each time.

    Parameters
    ----------
    tile_size : pixels along a side of a tile of the grid.
    manners : but for `connections`, which is the source's.

    Raises
    ------
    SourceError : no archive, of vector tiles, damaged, without the zoom that is asked for, or without a
        picture of the whole region.
    """
    archive = _archive(source, manners)
    zoom, said = _zoom(source, archive, grid, tile_size)
    tiles = tiles_over(grid, tile_size, zoom, archive.tile_px)
    name = PurePosixPath(archive.name)
    path = cache_path(name.stem, zoom, (archive.identity,))
    with opened_cache(path, zoom, name.name, archive.attribution) as cache:
        with being_filled(cache, lambda note: progress(f"unpack {source.view}", 0, tiles.count, note)):
            forget_damaged(cache, tiles)
            _fill(cache, archive, tiles, f"unpack {source.view}", progress)
        have = kept(cache, tiles)
    damaged = tiles.count - have.pictures - have.without
    if damaged > DAMAGED_SHARE * (have.pictures + damaged):
        raise SourceError(f"{archive.name}: {damaged:,} tiles over the region are damaged; copy it anew")
    if not have.pictures:
        raise SourceError(
            f"{archive.name} has no picture of the region at zoom {zoom}; check the region or set another "
            "zoom"
        )
    said += [f"{damaged:,} tiles are damaged and count as without a picture"] if damaged else []
    without = f", {have.without:,} of them without a picture" if have.without else ""
    x0, y0, cols, rows = (number * archive.tile_px for number in tiles.window)
    return GivenSheets(
        found=(
            Given(
                f"vrt://{cache.path}?srcwin={x0},{y0},{cols},{rows}",
                identity={"archive": archive.identity, "zoom": zoom, "tiles": have.digest},
            ),
        ),
        notes=(f"{archive.name}: {tiles.count:,} tiles of zoom {zoom}, {archive.tile_px} px{without}", *said),
        attribution=archive.attribution or None,
    )


def _suffix(path: str) -> str:
    """A file's ending in small letters, without the query of an address."""
    file = re.split(r"[?#]", path)[0] if is_remote(gdal_name(path)) else path
    return PurePosixPath(file).suffix.lower()


def _archive(source: ImagerySource, manners: Manners) -> Archive:
    if _suffix(source.path) == ".mbtiles":
        return mbtiles_archive(source.path)
    return pmtiles_archive(spanned_file(source.path, replace(manners, connections=source.connections)))


def _zoom(source: ImagerySource, archive: Archive, grid: Grid, tile_size: int) -> tuple[int, list[str]]:
    """The zoom to take, and what is to be said of it."""
    least, most = archive.zooms[0], min(archive.zooms[1], FINEST[archive.tile_px])
    if least > most:
        raise SourceError(f"{archive.name} has zooms from {least}; none beyond {most} is read")
    if source.zoom is not None:
        if not least <= source.zoom <= most:
            raise SourceError(f"{archive.name} has no zoom {source.zoom}; set one of {least} to {most}")
        return source.zoom, []
    zoom = zoom_for(grid, tile_size, archive.tile_px, least, most)
    as_fine = zoom_for(grid, tile_size, archive.tile_px, zoom, FINEST[archive.tile_px])
    if as_fine == zoom:
        return zoom, []
    return zoom, [f"the region's pixels are as fine as zoom {as_fine}; the archive has no finer than {zoom}"]


def _fill(cache: TileCache, archive: Archive, tiles: TileRows, stage: str, progress: Progress) -> None:
    xs, ys = unasked(cache, tiles)
    done = 0
    for some in archive.bodies(tiles.zoom, xs, ys):
        answers = (_answer(int(xs[i]), int(ys[i]), body, archive.tile_px) for i, body in some)
        keep(cache, *filter(None, answers))
        done += len(some)
        progress(stage, done, len(xs))


def _answer(x: int, y: int, body: bytes | None, tile_px: int) -> Answer | None:
    """What is kept of a tile; None of a damaged one."""
    if body is None:
        return Answer(x, y, 404)
    try:
        picture = tile_picture(body, tile_px)
    except NotPicture:
        return None
    return Answer(x, y, 200, picture.body, picture.form)
