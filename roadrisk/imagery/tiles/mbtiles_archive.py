"""MBTiles: what an archive says of itself, and its tiles.

GDAL opens these files too. But it draws a damaged tile as if there were none, lays the picture up to half a
pixel off where the metadata's bounds end within one, and shows the highest zoom even if that is only begun.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from roadrisk.errors import SourceError
from roadrisk.files import identity_of
from roadrisk.grid import IntArray
from roadrisk.imagery.tiles.archived import Archive, Bodies, plain_text, side_of

TILE_BYTES = 20 << 20
TILES_AT_ONCE = 256
# of SQLite's machine, for one query: a view may have no end
STEPS, STEPS_A_TURN = 100_000_000, 100_000
VECTOR = ("pbf", "mvt")


def mbtiles_archive(path: str) -> Archive:
    """An MBTiles archive, https://github.com/mapbox/mbtiles-spec/blob/master/1.3/spec.md.

    Raises
    ------
    SourceError : another format, damaged, empty, or vector tiles.
    """
    if not Path(path).is_file():
        raise SourceError(f"no such archive: {path}; check the path")
    with _database(path) as database:
        if _said(database, path, "format") in VECTOR:
            raise SourceError(
                f"{path} holds vector tiles, which are no pictures; give one of PNG, JPEG or WebP"
            )
        attribution = plain_text(_said(database, path, "attribution"))
        # one by one: each by the index alone
        least = _first(database, path, "SELECT MIN(zoom_level) FROM tiles")
        most = _first(database, path, "SELECT MAX(zoom_level) FROM tiles")
        first = _first(database, path, "SELECT tile_data FROM tiles LIMIT 1")
    if not isinstance(least, int) or not isinstance(most, int):
        raise SourceError(f"{path} has no tiles; check the file")
    return Archive(
        name=path,
        identity=identity_of(Path(path), hashed=False),
        zooms=(least, most),
        tile_px=side_of(first if isinstance(first, bytes) else b"", path),
        attribution=attribution,
        bodies=partial(_bodies, path),
    )


def _said(database: sqlite3.Connection, path: str, name: str) -> object:
    return _first(database, path, "SELECT value FROM metadata WHERE name = ? LIMIT 1", (name,))


def _first(database: sqlite3.Connection, path: str, query: str, values: tuple[object, ...] = ()) -> Any:
    row = _row(database, path, query, values)
    return None if row is None else row[0]


def _row(
    database: sqlite3.Connection, path: str, query: str, values: tuple[object, ...]
) -> tuple[Any, ...] | None:
    """The first row of a query; None where it has none.

    Raises
    ------
    SourceError : one that takes too long.
    """
    turns = iter(range(STEPS // STEPS_A_TURN))
    database.set_progress_handler(lambda: next(turns, None) is None, STEPS_A_TURN)
    try:
        row: tuple[Any, ...] | None = database.execute(query, values).fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_INTERRUPT":
            raise
        if next(turns, None) is not None:
            # the user's own, which SQLite turned into its error
            raise KeyboardInterrupt from None
        raise SourceError(
            f"{path} has no index of its tiles, or no end; write it anew with one of (zoom_level, "
            "tile_column, tile_row)"
        ) from None
    return row


def _bodies(path: str, zoom: int, xs: IntArray, ys: IntArray) -> Iterator[Bodies]:
    query = "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
    with _database(path) as database:
        for start in range(0, len(xs), TILES_AT_ONCE):
            some: Bodies = []
            for which in range(start, min(start + TILES_AT_ONCE, len(xs))):
                # rows are counted from the south
                place = (zoom, int(xs[which]), 2**zoom - 1 - int(ys[which]))
                row = _row(database, path, query, place)
                some.append((which, None if row is None else row[0] if isinstance(row[0], bytes) else b""))
            yield some


@contextmanager
def _database(path: str) -> Iterator[sqlite3.Connection]:
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(Path(path).absolute()))}?mode=ro", uri=True)
        ) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, TILE_BYTES)
            # a view may call what a schema from elsewhere should not
            database.execute("PRAGMA trusted_schema = OFF")
            yield database
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is no MBTiles archive, or damaged ({error}); copy it anew") from None
