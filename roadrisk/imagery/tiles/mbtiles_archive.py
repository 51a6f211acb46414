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
from urllib.parse import quote

from roadrisk.errors import SourceError
from roadrisk.files import identity_of
from roadrisk.grid import IntArray
from roadrisk.imagery.tiles.archived import Archive, Bodies, plain_text, side_of

TILE_BYTES = 20 << 20
TILES_AT_ONCE = 256
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
        said = dict(database.execute("SELECT name, value FROM metadata"))
        if said.get("format") in VECTOR:
            raise SourceError(
                f"{path} holds vector tiles, which are no pictures; give one of PNG, JPEG or WebP"
            )
        least, most = database.execute("SELECT MIN(zoom_level), MAX(zoom_level) FROM tiles").fetchone()
        first = database.execute("SELECT tile_data FROM tiles LIMIT 1").fetchone()
    if first is None or not isinstance(least, int) or not isinstance(most, int):
        raise SourceError(f"{path} has no tiles; check the file")
    return Archive(
        name=path,
        identity=identity_of(Path(path), hashed=False),
        zooms=(least, most),
        tile_px=side_of(first[0] if isinstance(first[0], bytes) else b"", path),
        attribution=plain_text(said.get("attribution")),
        bodies=partial(_bodies, path),
    )


def _bodies(path: str, zoom: int, xs: IntArray, ys: IntArray) -> Iterator[Bodies]:
    query = "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
    with _database(path) as database:
        for start in range(0, len(xs), TILES_AT_ONCE):
            some: Bodies = []
            for which in range(start, min(start + TILES_AT_ONCE, len(xs))):
                # rows are counted from the south
                place = (zoom, int(xs[which]), 2**zoom - 1 - int(ys[which]))
                row = database.execute(query, place).fetchone()
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
