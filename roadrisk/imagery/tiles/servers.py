"""Tile servers: a template or an xyzservices name becomes one sheet, the cache of what the server has."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, IntArray
from roadrisk.imagery.given import Download, Given, GivenSheets
from roadrisk.imagery.manners import CONTACT, POLITE, Manners
from roadrisk.imagery.tiles.addresses import address_of, host_of, with_keys
from roadrisk.imagery.tiles.asking import Wanted
from roadrisk.imagery.tiles.covering import FINEST, TileRows, tiles_over, zoom_for
from roadrisk.imagery.tiles.downloading import Course, download
from roadrisk.imagery.tiles.leave import check_leave
from roadrisk.imagery.tiles.providers import Server, server_of
from roadrisk.imagery.tiles.tile_cache import (
    TileCache,
    being_filled,
    bytes_of_answers,
    cache_path,
    forget_damaged,
    keep,
    kept,
    opened_cache,
    unasked,
)
from roadrisk.progress import Progress, silent
from roadrisk.source_settings import ImagerySource

SAMPLE_TILES = 8


def is_server(path: str) -> bool:
    """Whether a source is a tile server.

    >>> [is_server(path) for path in ("xyz:USGS.USImagery", "https://a.example/{z}/{x}/{y}", "naip/*.tif")]
    [True, True, False]
    """
    return path.startswith("xyz:") or "{z}" in path


def served_sheets(
    source: ImagerySource, grid: Grid, tile_size: int, progress: Progress, manners: Manners = POLITE
) -> GivenSheets:
    """The tiles of a server over a grid, as one sheet. What the cache lacks is fetched first.

    The sheet is that part of the cache's file which the grid needs, so that it does not change when another
    region's tiles come into the file.

    Parameters
    ----------
    tile_size : pixels along a side of a tile of the grid.
    manners : but for `connections` and `rate_per_s`, which are the source's.

    Raises
    ------
    SourceError : see `server_of`; a key that is not set, tiles that could not be fetched, a cache that
        cannot be written, or no picture of the whole region.
    """
    server = server_of(source)
    zoom, said = _zoom(source, server, grid, tile_size)
    tiles = tiles_over(grid, tile_size, zoom, server.tile_px)
    with _cache_of(server, zoom) as cache:
        for told in _damage_told(forget_damaged(cache, tiles)):
            progress(f"fetch {source.view}", 0, tiles.count, told)
        _fill(cache, tiles, server, source, progress, manners, _all_over_first)
        have = kept(cache, tiles)
    if not have.pictures:
        raise SourceError(
            f"{server.name} has no picture of the region at zoom {zoom}; check the region or set another zoom"
            f"{_other_rows(source)}; to ask again delete {cache.path}"
        )
    without = f", {have.without:,} of them without a picture" if have.without else ""
    said = [f"{server.name}: {tiles.count:,} tiles of zoom {zoom}, {server.tile_px} px{without}", *said]
    x0, y0, cols, rows = (number * server.tile_px for number in tiles.window)
    return GivenSheets(
        found=(
            Given(
                f"vrt://{cache.path}?srcwin={x0},{y0},{cols},{rows}",
                identity={"server": server.template, "zoom": zoom, "tiles": have.digest},
            ),
        ),
        notes=(*said, *server.terms),
        attribution=server.attribution or None,
    )


def planned_download(
    source: ImagerySource, grid: Grid, tile_size: int, progress: Progress = silent, manners: Manners = POLITE
) -> Download:
    """What fetching a server's tiles over a grid would take.

    Bytes are those of the tiles that the cache has; where it has fewer than eight answers, up to eight tiles
    all over the grid are fetched and kept.

    Raises
    ------
    SourceError : as `served_sheets`.
    """
    server = server_of(source)
    zoom, said = _zoom(source, server, grid, tile_size)
    tiles = tiles_over(grid, tile_size, zoom, server.tile_px)
    with _cache_of(server, zoom) as cache:
        said += _damage_told(forget_damaged(cache, tiles))
        left = len(unasked(cache, tiles)[0])
        if left and bytes_of_answers(cache)[0] < SAMPLE_TILES:
            _fill(cache, tiles, server, source, progress, manners, _a_few)
            said.append("a few tiles all over the region were fetched to learn their bytes, and are kept")
            left = len(unasked(cache, tiles)[0])
        answers, in_all = bytes_of_answers(cache)
    return Download(
        source=server.name,
        tiles=tiles.count,
        kept=tiles.count - left,
        bytes=round(left * in_all / answers) if left else 0,
        rate_per_s=source.rate_per_s,
        terms=(*said, *filter(None, [_contact()]), *server.terms),
    )


def _damage_told(number: int) -> list[str]:
    return [f"{number:,} tiles of the cache were damaged and have to be fetched anew"] if number else []


def _cache_of(server: Server, zoom: int) -> AbstractContextManager[TileCache]:
    path = cache_path(host_of(server.template), zoom, (server.template, server.tile_px, server.tms))
    return opened_cache(path, zoom, server.name, server.attribution)


def _fill(
    cache: TileCache,
    tiles: TileRows,
    server: Server,
    source: ImagerySource,
    progress: Progress,
    manners: Manners,
    order: Callable[[int], IntArray],
) -> None:
    """Fetch what the cache lacks of `tiles`.

    Parameters
    ----------
    order : of so many tiles that are lacking, which are fetched, in turn.
    """
    stage = f"fetch {source.view}"
    if not len(unasked(cache, tiles)[0]):
        return
    with being_filled(cache, lambda note: progress(stage, 0, tiles.count, note)):
        # another run may have filled it meanwhile
        xs, ys = unasked(cache, tiles)
        if not len(xs):
            return
        # the address may come from the environment too
        check_leave(host_of(with_keys(server.template)), server.bulk_allowed)
        chosen = order(len(xs))
        wanted = (_wanted(server, cache.zoom, int(xs[i]), int(ys[i])) for i in chosen)
        manners = replace(manners, connections=source.connections, rate_per_s=source.rate_per_s)

        def heard(course: Course) -> None:
            failed = f"{course.failed.total():,} failed" if course.failed else ""
            progress(stage, course.done, course.total, "; ".join(filter(None, (failed, course.said))))

        progress(stage, 0, len(chosen), "" if os.environ.get(CONTACT) else f"no {CONTACT} is set")
        download(wanted, len(chosen), server.tile_px, lambda some: keep(cache, *some), heard, manners)


def _contact() -> str:
    """What is to be said where the server's owner could not write to who asks."""
    return (
        "" if os.environ.get(CONTACT) else f"no contact is sent; set {CONTACT} to your e-mail or web address"
    )


def _a_few(number: int) -> IntArray:
    return _spread(number, SAMPLE_TILES)


def _all_over_first(number: int) -> IntArray:
    """A few from all over, then row by row: where only a part of the region fails, the first do not all."""
    first = _spread(number, POLITE.alike_at_most)
    return np.concatenate([first, np.setdiff1d(np.arange(number), first, assume_unique=True)])


def _wanted(server: Server, zoom: int, x: int, y: int) -> Wanted:
    return Wanted(x, y, address_of(server.template, zoom, x, y, server.tms, server.subdomains))


def _spread(number: int, few: int) -> IntArray:
    """Up to `few` of `number` indices, each in the middle of its share."""
    few = min(number, few)
    return (np.arange(few, dtype=np.int64) * 2 + 1) * number // (2 * few)


def _other_rows(source: ImagerySource) -> str:
    """What else may be wrong where only the user knows which way rows count."""
    known = source.path.startswith("xyz:") or "{-y}" in source.path
    return "" if known else ", or `tms`: rows may count from the other end"


def _zoom(source: ImagerySource, server: Server, grid: Grid, tile_size: int) -> tuple[int, list[str]]:
    """The zoom to ask for, and what is to be said of it."""
    if source.zoom is not None:
        if not server.min_zoom <= source.zoom <= server.max_zoom:
            raise SourceError(
                f"{server.name} has no zoom {source.zoom}; set one of {server.min_zoom} to {server.max_zoom}"
            )
        return source.zoom, []
    zoom = zoom_for(grid, tile_size, server.tile_px, server.min_zoom, server.max_zoom)
    as_fine = zoom_for(grid, tile_size, server.tile_px, zoom, FINEST[server.tile_px])
    if as_fine == zoom:
        return zoom, []
    return zoom, [f"the region's pixels are as fine as zoom {as_fine}; the server has no finer than {zoom}"]
