"""The cache of tile servers: one file in MBTiles form for each template and zoom.

Beside `metadata` and `tiles`, which any reader of MBTiles knows, a table `asked` holds what was asked of the
server, what it answered and when; a tile and its row there are one transaction. Two processes may read one
cache while a third writes; `being_filled` lets one write.

An answer stays for ever, also that there is no picture; who wants to ask again deletes the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from roadrisk.errors import SourceError
from roadrisk.files import digest_of
from roadrisk.grid import IntArray
from roadrisk.imagery.tiles.covering import TileRows

# a reader of MBTiles knows the file by it: https://www.sqlite.org/magic.txt
_MBTILES = 0x4D504258
# of the whole world, so that where a pixel lies does not depend on which tiles were fetched
_BOUNDS = "-180,-85.0511287798066,180,85.0511287798066"
_BUSY_S = 60
_LOOK_S = 0.2
_TABLES = (
    "CREATE TABLE IF NOT EXISTS metadata (name TEXT PRIMARY KEY, value TEXT)",
    "CREATE TABLE IF NOT EXISTS tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, "
    "tile_data BLOB)",
    "CREATE UNIQUE INDEX IF NOT EXISTS tile_index ON tiles (zoom_level, tile_column, tile_row)",
    "CREATE TABLE IF NOT EXISTS asked (x INTEGER, y INTEGER, status INTEGER, asked_at TEXT, etag TEXT, "
    "bytes INTEGER, sha256 TEXT, PRIMARY KEY (y, x)) WITHOUT ROWID",
)


@dataclass(frozen=True)
class TileCache:
    """An open cache."""

    path: Path
    zoom: int
    database: sqlite3.Connection


@dataclass(frozen=True)
class Answer:
    """What a server said of a tile.

    Parameters
    ----------
    y : counted from the north.
    status : of HTTP: 200, or 404, 410 or 204 for no picture here.
    body : the encoded picture; empty without one.
    form : png, jpg or webp; empty without a picture.
    etag : empty where the server gave none.
    """

    x: int
    y: int
    status: int
    body: bytes = b""
    form: str = ""
    etag: str = ""


@dataclass(frozen=True)
class Kept:
    """What a cache has of some tiles.

    Parameters
    ----------
    pictures, without : number of tiles with a picture, and of those the server has none of.
    digest : of the pictures and their places.
    """

    pictures: int
    without: int
    digest: str


def cache_path(name: str, zoom: int, made_of: tuple[object, ...]) -> Path:
    """Where the cache of a server or an archive and a zoom lies: in `$XDG_CACHE_HOME/roadrisk/tiles`.

    Parameters
    ----------
    name : the server's or the archive's, for people.
    made_of : what makes its tiles others: the template with its keys masked, their side, ...

    Raises
    ------
    SourceError : a folder that GDAL's names cannot carry.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    folder = Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache"
    if "?" in str(folder):
        # GDAL's name for a part of a file begins there
        raise SourceError(f"the cache cannot lie in {folder}; set XDG_CACHE_HOME to a folder without '?'")
    plain = re.sub(r"[^A-Za-z0-9.-]", "_", name)
    digest = digest_of([name, zoom, *made_of])[:12]
    return folder / "roadrisk" / "tiles" / f"{plain}-z{zoom}-{digest}.mbtiles"


@contextmanager
def opened_cache(path: Path, zoom: int, name: str, attribution: str) -> Iterator[TileCache]:
    """A cache to read and to fill, made where there is none. Its writes are kept one by one.

    Parameters
    ----------
    name, attribution : for readers of MBTiles.

    Raises
    ------
    SourceError : no room, no leave to write, or a damaged file; also from what is done with it.
    """
    with _disk_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _told(path):
        # the loop that fetches has a thread of its own; the two never use it at once
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        with closing(connection) as database:
            _prepare(database, zoom, name, attribution)
            yield TileCache(path, zoom, database)


@contextmanager
def being_filled(cache: TileCache, say: Callable[[str], None]) -> Iterator[None]:
    """Hold `cache` for writing; a second run waits, and says so.

    The kernel lets go when the process ends, however it ends.
    """
    # a file beside it: closing the cache's own would drop the locks that SQLite holds on it
    with _disk_told(cache.path):
        beside = cache.path.with_suffix(".lock").open("a")
    with beside:
        while not _locked(beside.fileno()):
            say("waiting for another run that fetches the same tiles")
            time.sleep(_LOOK_S)
        yield


def forget_damaged(cache: TileCache, tiles: TileRows) -> int:
    """Forget what the cache no longer has as it came, so that it counts as unasked; how many tiles that were.

    Readers of MBTiles show a tile that is damaged or gone as if there were no picture.
    """
    forgotten = 0
    for row in _rows(tiles):
        if _damaged(cache, *row):
            with _transaction(cache.database):
                # another run may have fetched them meanwhile
                places = _damaged(cache, *row)
                cache.database.executemany("DELETE FROM asked WHERE x = ? AND y = ?", places)
                forgotten += len(places)
    return forgotten


def unasked(cache: TileCache, tiles: TileRows) -> tuple[IntArray, IntArray]:
    """(N,) x and (N,) y of the tiles that the server was never asked for, row by row."""
    xs, ys = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for y, first, end in _rows(tiles):
        row = cache.database.execute("SELECT x FROM asked WHERE y = ? AND x >= ? AND x < ?", (y, first, end))
        known = np.fromiter((x for (x,) in row), np.int64)
        missing = np.setdiff1d(np.arange(first, end), known, assume_unique=True)
        xs.append(missing)
        ys.append(np.full(len(missing), y))
    return np.concatenate(xs), np.concatenate(ys)


def keep(cache: TileCache, *answers: Answer) -> None:
    """Write answers and their tiles, all or none."""
    with _told(cache.path), _transaction(cache.database):
        for answer in answers:
            _keep(cache, answer)


def kept(cache: TileCache, tiles: TileRows) -> Kept:
    """What the cache has of `tiles`."""
    pictures, without, digest = 0, 0, hashlib.sha256()
    for y, first, end in _rows(tiles):
        row = cache.database.execute(
            "SELECT x, sha256 FROM asked WHERE y = ? AND x >= ? AND x < ? ORDER BY x", (y, first, end)
        ).fetchall()
        with_picture = [f"{x} {y} {sha256}\n" for x, sha256 in row if sha256]
        digest.update("".join(with_picture).encode())
        pictures += len(with_picture)
        without += len(row) - len(with_picture)
    return Kept(pictures, without, digest.hexdigest())


def bytes_of_answers(cache: TileCache) -> tuple[int, int]:
    """Number of answers, and the bytes of their pictures in all."""
    answers, in_all = cache.database.execute("SELECT COUNT(*), TOTAL(bytes) FROM asked").fetchone()
    return int(answers), int(in_all)


def _keep(cache: TileCache, answer: Answer) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    digest = _digest(answer.body or None)
    row = answer.x, answer.y, answer.status, now, answer.etag or None, len(answer.body), digest
    place = cache.zoom, answer.x, 2**cache.zoom - 1 - answer.y
    if answer.body:
        cache.database.execute("INSERT OR REPLACE INTO tiles VALUES (?, ?, ?, ?)", (*place, answer.body))
        cache.database.execute("INSERT OR IGNORE INTO metadata VALUES ('format', ?)", (answer.form,))
    else:
        cache.database.execute(
            "DELETE FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?", place
        )
    cache.database.execute("INSERT OR REPLACE INTO asked VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def _damaged(cache: TileCache, y: int, first: int, end: int) -> list[tuple[int, int]]:
    """(x, y) in a row of the tiles that are not what was kept."""
    row = cache.database.execute(
        "SELECT x, sha256, tile_data FROM asked LEFT JOIN tiles "
        "ON zoom_level = ? AND tile_column = x AND tile_row = ? WHERE y = ? AND x >= ? AND x < ?",
        (cache.zoom, 2**cache.zoom - 1 - y, y, first, end),
    )
    return [(x, y) for x, sha256, body in row if _digest(body) != sha256]


def _digest(body: object) -> str | None:
    """As it stands in `asked`: nothing where there is no picture."""
    if body is None:
        return None
    return hashlib.sha256(body).hexdigest() if isinstance(body, bytes) else ""


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rows(tiles: TileRows) -> Iterator[tuple[int, int, int]]:
    return zip(
        range(tiles.y0, tiles.y0 + len(tiles.first)), tiles.first.tolist(), tiles.end.tolist(), strict=True
    )


def _prepare(database: sqlite3.Connection, zoom: int, name: str, attribution: str) -> None:
    # a journal that is deleted, no write-ahead log: readers may have no leave to write beside the file
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = NORMAL")
    if database.execute("PRAGMA application_id").fetchone() == (_MBTILES,):
        return
    metadata = {
        "name": name,
        "type": "baselayer",
        "version": "1",
        "attribution": attribution,
        "bounds": _BOUNDS,
        "minzoom": str(zoom),
        "maxzoom": str(zoom),
    }
    with _transaction(database):
        for table in _TABLES:
            database.execute(table)
        database.executemany("INSERT OR IGNORE INTO metadata VALUES (?, ?)", metadata.items())
        database.execute(f"PRAGMA application_id = {_MBTILES}")


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        # a full disk has rolled back already
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what SQLite says into one line."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            advice = "make room, or set XDG_CACHE_HOME to another folder, and run the same command again"
        elif name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            advice = "let it be written, or set XDG_CACHE_HOME to another folder"
        elif name.startswith("SQLITE_BUSY"):
            advice = "another program holds it; close that"
        else:
            advice = "it is damaged or not ours: delete it, and its tiles are fetched anew"
        raise SourceError(f"the cache {path} fails ({error}); {advice}") from None


@contextmanager
def _disk_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"the cache {path} fails ({error.strerror}); make room, or set XDG_CACHE_HOME to another folder"
        ) from None
