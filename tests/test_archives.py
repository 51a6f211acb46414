"""PMTiles and MBTiles: the pictures that pmtiles' own reader gives, damaged ones told, nothing fetched twice."""

from __future__ import annotations

import gzip
import io
import os
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mercantile
import numpy as np
import pytest
import rasterio
from file_server import Reply, Served, serving
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pmtiles.reader import MmapSource, Reader
from pmtiles.tile import (
    Compression,
    Entry,
    TileType,
    deserialize_directory,
    find_tile,
    serialize_directory,
    serialize_header,
    zxy_to_tileid,
)
from pmtiles.writer import Writer

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.imagery.given import GivenSheets
from roadrisk.imagery.manners import Manners
from roadrisk.imagery.tiles.archives import archived_sheets, is_archive
from roadrisk.imagery.tiles.directories import (
    DIRECTORY_BYTES,
    UNPACKED_BYTES,
    Damaged,
    directory_of,
    unpacked,
)
from roadrisk.progress import silent
from roadrisk.source_settings import ImagerySource

QUICK = Manners(answer_s=2, tries=2, backoff_s=0.01)
BOX = LngLatBbox(-71.03, 42.31, -71.0, 42.33)
GRID = grid_of_zoom(BOX, 16)
FORMS = {TileType.PNG: "PNG", TileType.JPEG: "JPEG", TileType.WEBP: "WEBP", TileType.AVIF: "AVIF"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "roadrisk" / "tiles"


def picture(x: int, y: int, side: int = 256, form: str = "PNG") -> bytes:
    """An asymmetric tile that no other is like."""
    rng = np.random.default_rng([x, y])
    pixels = np.repeat(np.repeat(rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8), 16, 0), 16, 1)
    written = io.BytesIO()
    # colours in full: how two decoders widen them is no matter here
    Image.fromarray(pixels).save(written, form, **({"subsampling": 0} if form == "JPEG" else {}))
    return written.getvalue()


def archive(
    file: Path,
    grid: Grid = GRID,
    zooms: tuple[int, ...] = (16,),
    side: int = 256,
    kind: TileType = TileType.PNG,
    left_out: int = 0,
    metadata: dict[str, object] | None = None,
    pack: bool = False,
) -> Path:
    """An archive by pmtiles' own writer; of the last `left_out` tiles of a zoom there is none."""
    with file.open("wb") as opened:
        writer = Writer(opened)
        for zoom in sorted(zooms):
            part = 2 ** (grid.zoom - zoom) if zoom <= grid.zoom else 1
            places = {
                (int(x) // part, int(y) // part)
                for x in range(grid.x0, grid.x0 + grid.cols)
                for y in range(grid.y0, grid.y0 + grid.rows)
            }
            ids = sorted((zxy_to_tileid(zoom, x, y), x, y) for x, y in places)
            for tile, x, y in ids[: len(ids) - left_out]:
                body = picture(x, y, side, FORMS.get(kind, "PNG"))
                writer.write_tile(tile, gzip.compress(body) if pack else body)
        header = {"tile_type": kind, "tile_compression": Compression.GZIP if pack else Compression.NONE}
        writer.finalize(header, metadata or {})
    return file


def sheets(path: Path | str, grid: Grid = GRID, **settings: object) -> GivenSheets:
    return archived_sheets(ImagerySource(str(path), **settings), grid, 256, silent, QUICK)


def pixels(given: GivenSheets) -> NDArray[np.uint8]:
    """(4, H, W) red, green, blue, alpha."""
    (one,) = given.found
    with rasterio.open(one.path) as source:
        assert source.crs.to_epsg() == 3857
        return source.read()


def expected(path: Path, grid: Grid, side: int) -> NDArray[np.uint8]:
    """The same by pmtiles' reader and Pillow."""
    whole = np.zeros((4, grid.rows * side, grid.cols * side), np.uint8)
    with path.open("rb") as opened:
        reader = Reader(MmapSource(opened))
        for row in range(grid.rows):
            for col in range(grid.cols):
                body = reader.get(grid.zoom, grid.x0 + col, grid.y0 + row)
                if body is not None:
                    tile = np.asarray(Image.open(io.BytesIO(body)).convert("RGBA"))
                    whole[:, row * side : (row + 1) * side, col * side : (col + 1) * side] = np.moveaxis(
                        tile, -1, 0
                    )
    return whole


@pytest.mark.parametrize("name", ["png.pmtiles", "webp2.pmtiles"])
def test_real_archives_have_the_pixels_of_their_tiles(shared_data: Path, name: str) -> None:
    path = shared_data / "tiles" / "archives" / name
    grid = grid_of_zoom(LngLatBbox(-179, -84, 179, 84), 1)
    given = sheets(path, grid, zoom=1)
    assert np.array_equal(pixels(given), expected(path, grid, 512))
    with rasterio.open(given.found[0].path) as source:
        assert np.allclose(source.bounds, grid.bounds)


@pytest.mark.parametrize("kind", [TileType.PNG, TileType.WEBP, TileType.AVIF, TileType.JPEG])
def test_each_kind_of_picture_is_read(tmp_path: Path, kind: TileType) -> None:
    path = archive(tmp_path / "x.pmtiles", kind=kind)
    got, want = pixels(sheets(path)).astype(int), expected(path, GRID, 256).astype(int)
    # two JPEG decoders differ by a little
    assert np.abs(got - want).max() <= (8 if kind is TileType.JPEG else 0)


def test_an_archive_elsewhere_is_read_by_ranges(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pmtiles", zooms=(14, 15, 16))
    with serving(tmp_path) as server:
        given = sheets(server.url("x.pmtiles?sig=SECRET"))
        assert np.array_equal(pixels(given), expected(path, GRID, 256))
        assert all(
            "range" in {name.lower() for name in r.headers} for r in server.requests if r.method == "GET"
        )
        # head, metadata, root (twice), first tile, and the tiles, which lie together
        assert server.asked("/x.pmtiles") <= 6
    assert "SECRET" not in repr(given)
    assert given.found[0].identity["archive"]["etag"]


def test_leaf_directories_are_followed(tmp_path: Path) -> None:
    path, grid = tmp_path / "x.pmtiles", GRID
    wanted = zxy_to_tileid(16, grid.x0, grid.y0)
    body = picture(grid.x0, grid.y0)
    leaf = serialize_directory([Entry(wanted - 5, 0, len(body), 10)])
    middle = serialize_directory([Entry(wanted - 100, len(leaf) * 0, len(leaf), 0)])
    root = serialize_directory([Entry(0, len(leaf), len(middle), 0)])
    write_archive(path, root, leaf + middle, body)
    given = sheets(path)
    assert np.array_equal(pixels(given), expected(path, grid, 256))
    assert given.notes[0].startswith(f"{path}: {grid.size:,} tiles of zoom 16, ")


def write_archive(path: Path, root: bytes, leaves: bytes, tiles: bytes, **header: object) -> None:
    metadata = gzip.compress(b"{}")
    offsets = {}
    at = 127
    for name, part in (
        ("root", root),
        ("metadata", metadata),
        ("leaf_directory", leaves),
        ("tile_data", tiles),
    ):
        offsets |= {f"{name}_offset": at, f"{name}_length": len(part)}
        at += len(part)
    known = {
        "clustered": True,
        "internal_compression": Compression.GZIP,
        "tile_compression": Compression.NONE,
        "tile_type": TileType.PNG,
        "min_zoom": 16,
        "max_zoom": 16,
    }
    path.write_bytes(serialize_header({**offsets, **known, **header}) + root + metadata + leaves + tiles)


def test_tiles_of_512_px_are_known_by_the_first(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pmtiles", zooms=(15,), side=512)
    given = sheets(path)
    assert "zoom 15" in given.notes[0]
    with rasterio.open(given.found[0].path) as source:
        assert source.transform.a == pytest.approx(GRID.cell / 256)


def test_the_least_zoom_that_is_as_fine_is_taken_and_its_lack_told(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pmtiles", zooms=(14, 15, 16))
    assert "zoom 16" in sheets(path).notes[0]
    assert "zoom 15" in sheets(path, grid_of_zoom(BOX, 15)).notes[0]
    assert "zoom 14" in sheets(path, zoom=14).notes[0]
    assert "zoom 15" in sheets(path, grid_of_cell(BOX, 1200)).notes[0]
    finer = sheets(path, grid_of_zoom(BOX, 17))
    assert finer.notes[1] == "the region's pixels are as fine as zoom 17; the archive has no finer than 16"


def test_only_tiles_that_the_grid_needs_are_taken(tmp_path: Path, cache: Path) -> None:
    path = archive(tmp_path / "x.pmtiles")
    small = grid_of_zoom(LngLatBbox(-71.02, 42.32, -71.01, 42.325), 16)
    sheets(path, small)
    (file,) = cache.glob("*.mbtiles")
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT COUNT(*) FROM tiles").fetchone() == (small.size,)


def test_a_second_run_reads_no_tile_again(tmp_path: Path) -> None:
    archive(tmp_path / "x.pmtiles")
    with serving(tmp_path) as server:
        first = sheets(server.url("x.pmtiles"))
        tiles = server.body_bytes
        second = sheets(server.url("x.pmtiles"))
        assert server.body_bytes - tiles < 3_000
    assert first == second


def test_another_archive_in_its_place_is_read_anew(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pmtiles", left_out=3)
    first = sheets(path)
    archive(path)
    os.utime(path, ns=(1, 1))
    second = sheets(path)
    assert first.found[0].identity != second.found[0].identity
    assert np.array_equal(pixels(second), expected(path, GRID, 256))


def test_tiles_that_it_has_not_are_counted_and_transparent(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pmtiles", left_out=3)
    given = sheets(path)
    assert given.notes == (f"{path}: {GRID.size:,} tiles of zoom 16, 256 px, 3 of them without a picture",)
    assert (pixels(given)[3] == 0).sum() == 3 * 256 * 256


def test_damaged_tiles_are_told_each_time(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pmtiles")
    whole = bytearray(path.read_bytes())
    start = whole.index(b"IDAT", len(whole) // 2)
    whole[start + 20 : start + 60] = bytes(40)
    path.write_bytes(whole)
    for _ in range(2):
        given = sheets(path)
        assert given.notes[1] == "1 tiles are damaged and count as without a picture"
    assert (pixels(given)[3] == 0).sum() == 256 * 256


def test_more_than_a_few_damaged_tiles_are_an_error(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pmtiles")
    # all but the first, which says how wide tiles are
    path.write_bytes(path.read_bytes().replace(b"IDAT", b"IDAX").replace(b"IDAX", b"IDAT", 1))
    with pytest.raises(SourceError) as error:
        sheets(path)
    assert str(error.value) == f"{path}: {GRID.size - 1} tiles over the region are damaged; copy it anew"


def test_its_name_may_have_brackets(tmp_path: Path, cache: Path) -> None:
    for name in ("tiles[1].pmtiles", "[x#?.pmtiles"):
        assert is_archive(str(tmp_path / name))
        given = sheets(archive(tmp_path / name))
        assert np.array_equal(pixels(given), expected(tmp_path / name, GRID, 256))
    assert {file.name.partition("-z16-")[0] for file in cache.glob("*.mbtiles")} == {"tiles_1_", "_x__"}


def test_an_address_that_is_none_is_told() -> None:
    assert not is_archive("http://[x/y.tif")
    with pytest.raises(SourceError) as error:
        sheets("http://[x/y.pmtiles?sig=SECRET")
    assert str(error.value) == (
        "http://[x/y.pmtiles could not be fetched (no web address); check the address, or try again later"
    )


def test_a_tile_of_its_cache_that_is_damaged_is_unpacked_anew(tmp_path: Path, cache: Path) -> None:
    path = archive(tmp_path / "x.pmtiles")
    before = sheets(path)
    (file,) = cache.glob("*.mbtiles")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE tiles SET tile_data = substr(tile_data, 1, 200)")
    assert sheets(path) == before
    assert np.array_equal(pixels(before), expected(path, GRID, 256))


def test_gzipped_tiles_are_unpacked(tmp_path: Path) -> None:
    given = sheets(archive(tmp_path / "x.pmtiles", pack=True))
    plain = archive(tmp_path / "y.pmtiles")
    assert np.array_equal(pixels(given), expected(plain, GRID, 256))


def test_attribution_is_plain_text(tmp_path: Path) -> None:
    said = {"attribution": '<a href="https://a.example">&copy; A &amp; B</a>'}
    assert sheets(archive(tmp_path / "x.pmtiles", metadata=said)).attribution == "© A & B"


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pmtiles")

    class KilledError(Exception):
        pass

    def killing(stage: str, done: int, total: int, note: str = "") -> None:
        raise KilledError

    with pytest.raises(KilledError):
        archived_sheets(ImagerySource(str(path)), GRID, 256, killing, QUICK)
    assert np.array_equal(pixels(sheets(path)), expected(path, GRID, 256))


ONE = picture(GRID.x0, GRID.y0)
WANTED = zxy_to_tileid(16, GRID.x0, GRID.y0)
TILE = Entry(0, 0, len(ONE), WANTED + 10)
LEAF = serialize_directory([TILE])


def _circle() -> bytes:
    # as long as it says it is
    for length in range(20, 80):
        circle = serialize_directory([Entry(0, 0, length, 0)])
        if len(circle) == length:
            return circle
    raise AssertionError


@pytest.mark.parametrize(
    ("root", "leaves", "header", "why"),
    [
        (_circle(), _circle(), {}, "is damaged: its directories lead in circles; copy it anew"),
        (serialize_directory([Entry(0, 5000, 10, 0)]), LEAF, {}, "is damaged: a directory leads out of the file; copy it anew"),
        (serialize_directory([Entry(0, 0, 10**9, WANTED + 10)]), b"", {}, "is damaged: a directory leads out of the file; copy it anew"),
        (b"no gzip", b"", {}, "is damaged: damaged gzip; copy it anew"),
        (LEAF[:-9], b"", {}, "is damaged: gzip that is cut off or holds more than 4,194,304 bytes; copy it anew"),
        (gzip.compress(b"\x05\x01", mtime=0), b"", {}, "is damaged: a directory of the wrong length; copy it anew"),
        (gzip.compress(b"\xff" * 40, mtime=0), b"", {}, "is damaged: a directory that is cut off; copy it anew"),
        (LEAF, b"", {"root_offset": 10**12}, "is cut off or damaged: it names bytes beyond its end; copy it anew"),
        (LEAF, b"", {"min_zoom": 17}, "is damaged: it has zooms 17 to 16; copy it anew"),
        (LEAF, b"", {"internal_compression": Compression.ZSTD}, "is damaged: compressed by zstd, of which only gzip is read; copy it anew"),
        (serialize_directory([Entry(0, 1, 50, WANTED + 10)]), b"", {}, "is damaged: its first tile is no picture; copy it anew"),
        (LEAF, b"", {"tile_type": TileType.MVT}, "holds MVT tiles, which are no pictures; give one of PNG, JPEG, WebP or AVIF"),
    ],
)  # fmt: skip
def test_a_damaged_archive_is_told_in_one_line(
    tmp_path: Path, root: bytes, leaves: bytes, header: dict[str, object], why: str
) -> None:
    path = tmp_path / "x.pmtiles"
    write_archive(path, root, leaves, ONE, **header)
    with pytest.raises(SourceError) as error:
        sheets(path)
    assert str(error.value) == f"{path} {why}"


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.pmtiles"
    for body, why in {
        b"<html>": "is no PMTiles archive; check the file",
        b"PMTiles\x02"
        + bytes(200): "is not version 3 of PMTiles; convert it: pmtiles convert old.pmtiles new.pmtiles",
        b"PMTiles\x03" + bytes([200]) * 200: "is no PMTiles archive; check the file",
        b"\xff" * 200: "is no PMTiles archive; check the file",
    }.items():
        path.write_bytes(body)
        with pytest.raises(SourceError) as error:
            sheets(path)
        assert str(error.value) == f"{path} {why}"
    with pytest.raises(SourceError, match=r"^no such archive: .*y\.pmtiles; check the path$"):
        sheets(tmp_path / "y.pmtiles")


def test_a_region_without_a_picture_and_a_zoom_it_has_not_are_told(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pmtiles")
    elsewhere = grid_of_zoom(LngLatBbox(10, 50, 10.01, 50.01), 16)
    with pytest.raises(SourceError) as error:
        sheets(path, elsewhere)
    assert str(error.value) == (
        f"{path} has no picture of the region at zoom 16; check the region or set another zoom"
    )
    with pytest.raises(SourceError) as error:
        sheets(path, zoom=9)
    assert str(error.value) == f"{path} has no zoom 9; set one of 16 to 16"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    archive(tmp_path / "x.pmtiles")
    with serving(tmp_path) as server:
        yield server


def test_a_server_that_sends_no_parts_is_told(served: Served) -> None:
    served.always["GET /x.pmtiles"] = Reply(200, (served.folder / "x.pmtiles").read_bytes())
    with pytest.raises(SourceError) as error:
        sheets(served.url("x.pmtiles"))
    assert str(error.value) == (
        f"the server of {served.url('x.pmtiles')} sends no part of a file; download it, and give the file"
    )


def test_an_archive_that_changes_meanwhile_is_told(served: Served) -> None:
    served.always["HEAD /x.pmtiles"] = Reply(200, bytes(20_000), {"ETag": '"old"'})
    with pytest.raises(SourceError) as error:
        sheets(served.url("x.pmtiles"))
    assert str(error.value) == (
        f"{served.url('x.pmtiles')} has changed while it was read; run the same command again"
    )


def test_faults_that_pass_are_outlived(served: Served) -> None:
    served.faults["GET /x.pmtiles"] = [Reply(503), *[Reply(206, b"x" * 100, cut=50)]]
    given = archived_sheets(
        ImagerySource(served.url("x.pmtiles")),
        GRID,
        256,
        silent,
        Manners(answer_s=2, tries=3, backoff_s=0.01),
    )
    assert np.array_equal(pixels(given), expected(served.folder / "x.pmtiles", GRID, 256))


def mbtiles(file: Path, grid: Grid = GRID, zooms: tuple[int, ...] = (16,), **metadata: str) -> Path:
    """An MBTiles archive as the specification says, with the tiles of `archive`."""
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        database.execute(
            "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)"
        )
        database.executemany(
            "INSERT INTO metadata VALUES (?, ?)", {"name": "x", "format": "png", **metadata}.items()
        )
        for zoom in zooms:
            part = 2 ** (grid.zoom - zoom)
            xs, ys = (
                {n // part for n in range(start, start + count)}
                for start, count in ((grid.x0, grid.cols), (grid.y0, grid.rows))
            )
            rows = [(zoom, x, 2**zoom - 1 - y, picture(x, y)) for x in xs for y in ys]
            database.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", rows)
    return file


def test_mbtiles_have_the_pixels_of_their_tiles(tmp_path: Path) -> None:
    # bounds that end within a pixel: GDAL lays such a file 0.45 px off
    px = GRID.cell / 256
    west, north = mercantile.lnglat(GRID.bounds.left + 10.45 * px, GRID.bounds.top - 10.45 * px)
    bounds = f"{west:.9f},42.311,-71.001,{north:.9f}"
    given = sheets(mbtiles(tmp_path / "x.mbtiles", bounds=bounds, attribution="&copy; A"))
    twin = archive(tmp_path / "x.pmtiles")
    assert np.array_equal(pixels(given), expected(twin, GRID, 256))
    assert given.attribution == "© A"
    with rasterio.open(given.found[0].path) as source:
        assert np.allclose(source.bounds, GRID.bounds, atol=1e-6)


def test_a_zoom_of_mbtiles_that_is_only_begun_is_not_taken(tmp_path: Path) -> None:
    path = mbtiles(tmp_path / "x.mbtiles", zooms=(15, 16))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO tiles VALUES (20, 5, 5, x'00')")
    assert "zoom 16" in sheets(path).notes[0]
    assert "zoom 15" in sheets(path, zoom=15).notes[0]


@pytest.mark.parametrize("body", ["x'89504e470d0a1a0a01'", "x''", "NULL", "'text'", "17"])
def test_damaged_tiles_of_mbtiles_are_told(tmp_path: Path, body: str) -> None:
    path = mbtiles(tmp_path / "x.mbtiles")
    with closing(sqlite3.connect(path)) as database, database:
        place = (16, GRID.x0 + 1, 2**16 - 1 - GRID.y0)
        database.execute(
            f"UPDATE tiles SET tile_data = {body} WHERE (zoom_level, tile_column, tile_row) = (?, ?, ?)",
            place,
        )
    given = sheets(path)
    assert given.notes[1] == "1 tiles are damaged and count as without a picture"
    assert (pixels(given)[3] == 0).sum() == 256 * 256


@pytest.mark.parametrize("name", ["geography-class-jpg.mbtiles", "geography-class-png.mbtiles"])
def test_real_mbtiles_whose_tiles_are_no_pictures_are_told(shared_data: Path, name: str) -> None:
    # GDAL opens both and shows nothing
    path = shared_data / "tiles" / "archives" / name
    with pytest.raises(SourceError) as error:
        sheets(path)
    assert str(error.value) == f"{path} is damaged: its first tile is no picture; copy it anew"


def test_what_are_no_raster_mbtiles_is_told(tmp_path: Path) -> None:
    vector = mbtiles(tmp_path / "vector.mbtiles", format="pbf")
    with pytest.raises(SourceError) as error:
        sheets(vector)
    assert (
        str(error.value)
        == f"{vector} holds vector tiles, which are no pictures; give one of PNG, JPEG or WebP"
    )
    empty = mbtiles(tmp_path / "empty.mbtiles", zooms=())
    with pytest.raises(SourceError) as error:
        sheets(empty)
    assert str(error.value) == f"{empty} has no tiles; check the file"
    other = tmp_path / "other.mbtiles"
    other.write_bytes(b"no database at all" * 100)
    with pytest.raises(SourceError) as error:
        sheets(other)
    assert (
        str(error.value)
        == f"{other} is no MBTiles archive, or damaged (file is not a database); copy it anew"
    )
    with pytest.raises(SourceError, match=r"^no such archive: .*absent\.mbtiles; check the path$"):
        sheets(tmp_path / "absent.mbtiles")


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
PLAIN = {
    "metadata": "CREATE TABLE metadata (name, value)",
    "tiles": "CREATE TABLE tiles (zoom_level, tile_column, tile_row, tile_data)",
}
VIEWS = {
    "metadata": f"CREATE VIEW metadata AS {ENDLESS} SELECT i AS name, i AS value FROM n",
    "tiles": f"CREATE VIEW tiles AS {ENDLESS} SELECT i % 5 AS zoom_level, i AS tile_column, i AS tile_row, "
    "i AS tile_data FROM n",
}


@pytest.mark.parametrize("endless", ["metadata", "tiles"])
def test_an_archive_without_end_is_told(tmp_path: Path, endless: str) -> None:
    path = tmp_path / "endless.mbtiles"
    with closing(sqlite3.connect(path)) as database:
        for made in ({**PLAIN, endless: VIEWS[endless]}).values():
            database.execute(made)
    run = (
        "import sys; from test_archives import *\ntry: sheets(sys.argv[1])\nexcept SourceError as e: print(e)"
    )
    told = subprocess.run(
        [sys.executable, "-c", run, path],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stdout == (
        f"{path} has no index of its tiles, or no end; write it anew with one of (zoom_level, tile_column, "
        "tile_row)\n"
    )


def test_an_interrupt_reaches_a_query_without_end(tmp_path: Path) -> None:
    path = tmp_path / "endless.mbtiles"
    with closing(sqlite3.connect(path)) as database:
        for made in (PLAIN["metadata"], VIEWS["tiles"]):
            database.execute(made)
    run = (
        "import sys; from test_archives import *\nfrom roadrisk.imagery.tiles import mbtiles_archive as m\n"
        "m.STEPS = 10**15; print('now', flush=True); sheets(sys.argv[1])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", run, path],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "now\n"
        time.sleep(0.5)
        os.kill(child.pid, signal.SIGINT)
        said = child.communicate(timeout=30)[1]
    finally:
        child.kill()
    assert said.splitlines()[-1] == "KeyboardInterrupt"


@given(
    st.lists(
        st.tuples(st.integers(1, 2**40), st.integers(0, 300), st.integers(1, 2**31), st.integers(0, 2**40)),
        min_size=1,
        max_size=40,
    ),
    st.lists(st.integers(0, 2**45), max_size=40),
    st.booleans(),
)
def test_directories_are_those_of_pmtiles(
    rows: list[tuple[int, int, int, int]], others: list[int], packed: bool
) -> None:
    entries, last = [], -1
    for number, (step, run, length, offset) in enumerate(rows):
        last += step
        joined = offset % 2 and number
        entries.append(
            Entry(last, entries[-1].offset + entries[-1].length if joined else offset, length, run)
        )
    body = serialize_directory(entries)
    directory = directory_of(
        body if packed else gzip.decompress(body), Compression.GZIP if packed else Compression.NONE
    )
    known = deserialize_directory(body)
    ids = np.array(
        sorted({*others, *(entry.tile_id for entry in entries), *(entry.tile_id + 1 for entry in entries)})
    )
    for tile, entry in zip(ids.tolist(), directory.entries_of(ids).tolist(), strict=True):
        found = find_tile(known, tile)
        assert (entry >= 0) == (found is not None)
        if found is not None:
            values = (directory.ids, directory.offsets, directory.lengths, directory.runs)
            assert tuple(int(v[entry]) for v in values) == (
                found.tile_id,
                found.offset,
                found.length,
                found.run_length,
            )


@given(st.binary(max_size=200))
def test_any_bytes_are_a_directory_or_damaged(raw: bytes) -> None:
    try:
        directory = directory_of(raw, Compression.NONE)
    except Damaged:
        return
    assert (np.diff(directory.ids) > 0).all()
    assert (directory.lengths > 0).all()
    assert (directory.offsets >= 0).all()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("length", [DIRECTORY_BYTES - 4, DIRECTORY_BYTES + 4])
def test_a_directory_does_not_fill_the_memory(packed: bool, length: int) -> None:
    entries = length // 4
    count = bytes([entries >> shift & 127 | 128 for shift in (0, 7, 14)]) + bytes([entries >> 21])
    body = count + b"\1" * (length - 4)
    body, compression = (gzip.compress(body, 1), Compression.GZIP) if packed else (body, Compression.NONE)
    tracemalloc.start()
    try:
        with pytest.raises(Damaged) as error:
            directory_of(body, compression)
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()
    assert ("wrong length" in str(error.value)) == (length < DIRECTORY_BYTES)


def test_what_unpacks_to_far_more_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(UNPACKED_BYTES + 1))
    with pytest.raises(Damaged, match="holds more than"):
        unpacked(bomb, Compression.GZIP)
