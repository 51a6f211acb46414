"""The cache of tile servers: a file of MBTiles that remembers what was asked."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from tile_server import encoded, pixels_of

from roadrisk.errors import SourceError
from roadrisk.imagery.tiles.covering import TileRows
from roadrisk.imagery.tiles.tile_cache import (
    Answer,
    Kept,
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

ZOOM = 5


def answer(x: int, y: int) -> Answer:
    return Answer(x, y, 200, encoded(pixels_of(x, y)), "png", f'"{x}"')


def rows(y0: int, *spans: tuple[int, int]) -> TileRows:
    first, end = np.array(spans, np.int64).reshape(-1, 2).T
    return TileRows(ZOOM, y0, first, end)


def opened(path: Path):
    return opened_cache(path, ZOOM, "tiles.example", "by nobody")


def integrity(path: Path) -> str:
    with sqlite3.connect(path) as database:
        return str(database.execute("PRAGMA integrity_check").fetchone()[0])


# --- what it is


def test_it_is_mbtiles_with_a_table_of_what_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.mbtiles"
    with opened(path) as cache:
        keep(cache, answer(3, 2), Answer(4, 2, 404))
    assert [file.name for file in path.parent.iterdir()] == ["a.mbtiles"]
    with rasterio.open(path) as sheet:
        assert (sheet.driver, sheet.crs.to_epsg(), sheet.count) == ("MBTiles", 3857, 4)
        assert sheet.shape == (256 * 2**ZOOM, 256 * 2**ZOOM)
        seen = sheet.read(window=((512, 768), (768, 1280)))
    assert np.array_equal(np.moveaxis(seen[:3, :, :256], 0, -1), pixels_of(3, 2))
    assert (seen[3, :, :256] == 255).all()
    assert not seen[:, :, 256:].any()
    with sqlite3.connect(path) as database:
        metadata = dict(database.execute("SELECT name, value FROM metadata"))
        assert database.execute("SELECT zoom_level, tile_column, tile_row FROM tiles").fetchall() == [
            (5, 3, 29)
        ]
        asked = database.execute("SELECT x, y, status, etag, bytes, length(sha256) FROM asked").fetchall()
        when = [at for (at,) in database.execute("SELECT asked_at FROM asked")]
        assert database.execute("PRAGMA application_id").fetchone() == (0x4D504258,)
    assert metadata == {
        "name": "tiles.example",
        "attribution": "by nobody",
        "type": "baselayer",
        "version": "1",
        "format": "png",
        "bounds": "-180,-85.0511287798066,180,85.0511287798066",
        "minzoom": "5",
        "maxzoom": "5",
    }
    assert asked == [(3, 2, 200, '"3"', len(answer(3, 2).body), 64), (4, 2, 404, None, 0, None)]
    assert all(len(at) == 25 and at.endswith("+00:00") for at in when)


def test_its_place_says_the_host_and_never_more_than_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    name, template = "tiles.example:8080", "https://{s}.tiles.example:8080/{z}/{x}/{y}.png?key=${KEY}"
    path = cache_path(name, 17, (template, 256, False))
    assert path.parent == Path("/somewhere/roadrisk/tiles")
    assert path.name.startswith("tiles.example_8080-z17-")
    assert path.suffix == ".mbtiles"
    monkeypatch.setenv("KEY", "secret")
    assert cache_path(name, 17, (template, 256, False)) == path
    others = [
        (name, 18, (template, 256, False)),
        (name, 17, (template + "&v=2", 256, False)),
        (name, 17, (template, 512, False)),
    ]
    assert len({path, *(cache_path(*other) for other in others)}) == 4
    # the standard says a relative one counts as none
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_path(name, 17, ()).parent == Path("/home/me/.cache/roadrisk/tiles")
    monkeypatch.setenv("XDG_CACHE_HOME", "/what?")
    with pytest.raises(
        SourceError, match=r"^the cache cannot lie in /what\?; set XDG_CACHE_HOME to a folder"
    ):
        cache_path(name, 17, ())


spans = st.lists(
    st.tuples(st.integers(0, 31), st.integers(0, 31)).map(lambda t: (min(t), max(t))), min_size=1, max_size=8
)


@given(
    spans=spans,
    asked=st.sets(st.tuples(st.integers(0, 31), st.integers(0, 12)), max_size=60),
    y0=st.integers(0, 5),
)
def test_what_was_not_asked(
    tmp_path_factory: pytest.TempPathFactory,
    spans: list[tuple[int, int]],
    asked: set[tuple[int, int]],
    y0: int,
) -> None:
    with opened(tmp_path_factory.mktemp("c") / "a.mbtiles") as cache:
        keep(cache, *(Answer(x, y, 404) for x, y in asked))
        xs, ys = unasked(cache, rows(y0, *spans))
    wanted = [(x, y0 + i) for i, (first, end) in enumerate(spans) for x in range(first, end)]
    assert list(zip(xs.tolist(), ys.tolist(), strict=True)) == [
        place for place in wanted if place not in asked
    ]


def test_what_is_kept_does_not_change_with_order_or_with_other_tiles(tmp_path: Path) -> None:
    tiles = rows(2, (3, 5), (4, 5))
    needed = [answer(3, 2), Answer(4, 2, 404), answer(4, 3)]
    said = []
    for number, answers in enumerate((needed, [answer(9, 2), *reversed(needed), answer(3, 3)])):
        with opened(tmp_path / f"{number}.mbtiles") as cache:
            for one in answers:
                keep(cache, one)
            said.append(kept(cache, tiles))
    assert said[0] == said[1] == Kept(2, 1, said[0].digest)
    with opened(tmp_path / "0.mbtiles") as cache:
        keep(cache, Answer(4, 3, 200, answer(5, 5).body, "png"))
        assert kept(cache, tiles).digest != said[0].digest
        assert bytes_of_answers(cache) == (3, len(answer(3, 2).body) + len(answer(5, 5).body))


# --- faults


def test_a_tile_and_what_was_asked_are_kept_both_or_none(tmp_path: Path) -> None:
    with opened(tmp_path / "a.mbtiles") as cache:
        keep(cache, answer(1, 1))
        cache.database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON asked WHEN new.x = 3 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        with pytest.raises(SourceError, match="no"):
            keep(cache, answer(2, 1), answer(3, 1))
        assert cache.database.execute("SELECT COUNT(*) FROM tiles").fetchone() == (1,)
        assert kept(cache, rows(1, (0, 9))).pictures == 1


def test_a_full_disk_is_one_line_and_keeps_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.mbtiles"
    with opened(path) as cache:
        keep(cache, answer(1, 1))
        (pages,) = cache.database.execute("PRAGMA page_count").fetchone()
        cache.database.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(SourceError) as error:
            keep(cache, Answer(2, 1, 200, bytes(100_000), "png"))
        assert str(error.value) == (
            f"the cache {path} fails (database or disk is full); make room, or set XDG_CACHE_HOME to another folder, "
            "and run the same command again"
        )
    assert integrity(path) == "ok"
    with opened(path) as cache:
        assert kept(cache, rows(1, (0, 9))).pictures == 1
        keep(cache, answer(2, 1))
    assert [file.name for file in tmp_path.iterdir()] == ["a.mbtiles"]


def test_a_file_that_may_not_grow_is_one_line(tmp_path: Path) -> None:
    # the limit of a process on its files is met as a full disk is: in the middle of a write
    run = (
        "import resource\nfrom test_tile_cache import *\n"
        f"with opened(Path({str(tmp_path)!r}) / 'a.mbtiles') as cache:\n"
        "    keep(cache, answer(1, 1))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "    try:\n"
        "        keep(cache, Answer(2, 1, 200, bytes(500_000), 'png'))\n"
        "    except SourceError as error:\n"
        "        print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", run], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith(f"the cache {tmp_path}/a.mbtiles fails (")
    assert "make room" in told.stdout
    assert integrity(tmp_path / "a.mbtiles") == "ok"
    with opened(tmp_path / "a.mbtiles") as cache:
        assert kept(cache, rows(1, (0, 9))).pictures == 1


@pytest.mark.parametrize("content", [b"no database, but long enough to be taken for one" * 100, b"<html>"])
def test_a_file_that_is_no_cache_is_to_be_deleted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mbtiles"
    path.write_bytes(content)
    with pytest.raises(SourceError) as error, opened(path):
        pass
    assert str(error.value) == (
        f"the cache {path} fails (file is not a database); it is damaged or not ours: delete it, and its tiles are "
        "fetched anew"
    )
    assert path.read_bytes() == content


def test_a_damaged_page_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mbtiles"
    with opened(path) as cache:
        keep(
            cache,
            *(answer(x, y) for x in range(8) for y in range(8)),
            *(Answer(x, 20, 404) for x in range(999)),
        )
    content = bytearray(path.read_bytes())
    with sqlite3.connect(path) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'asked'").fetchone()
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with (
        pytest.raises(SourceError, match=r"delete it, and its tiles are fetched anew$"),
        opened(path) as cache,
    ):
        unasked(cache, rows(0, (0, 9)))


def test_another_mbtiles_is_not_taken_for_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "a.mbtiles"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE tiles (a INTEGER)")
        database.execute("PRAGMA application_id = 0x4D504258")
    with pytest.raises(SourceError, match="not ours: delete it"), opened(path) as cache:
        unasked(cache, rows(0, (0, 9)))


def test_a_cache_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError) as error, opened(tmp_path / "file" / "tiles" / "a.mbtiles"):
        pass
    assert str(error.value) == (
        f"the cache {tmp_path}/file/tiles/a.mbtiles fails (Not a directory); make room, or set XDG_CACHE_HOME to "
        "another folder"
    )


@pytest.mark.parametrize(
    ("damage", "places"),
    [
        ("UPDATE tiles SET tile_data = substr(tile_data, 1, 200) WHERE tile_column = 3", [(3, 2), (3, 3)]),
        ("UPDATE tiles SET tile_data = zeroblob(length(tile_data)) WHERE tile_row = 29", [(3, 2), (4, 2)]),
        ("UPDATE tiles SET tile_data = 'text' WHERE tile_column = 3", [(3, 2), (3, 3)]),
        ("DELETE FROM tiles WHERE tile_column = 4", [(4, 2)]),
        # where the server has none
        ("UPDATE tiles SET tile_column = 5 WHERE tile_column = 3", [(3, 2), (5, 2), (3, 3)]),
    ],
)
def test_what_is_damaged_is_asked_for_again(
    tmp_path: Path, damage: str, places: list[tuple[int, int]]
) -> None:
    answers, tiles = [answer(3, 2), answer(4, 2), Answer(5, 2, 404), answer(3, 3)], rows(2, (3, 6), (3, 4))
    with opened(tmp_path / "a.mbtiles") as cache:
        keep(cache, *answers, answer(9, 2))
        assert forget_damaged(cache, tiles) == 0
        before = kept(cache, tiles)
        cache.database.execute(damage)
        cache.database.execute("UPDATE tiles SET tile_data = x'00' WHERE tile_column = 9")
        assert forget_damaged(cache, tiles) == len(places)
        xs, ys = unasked(cache, tiles)
        assert list(zip(xs.tolist(), ys.tolist(), strict=True)) == places
        keep(cache, *(one for one in answers if (one.x, one.y) in places))
        assert forget_damaged(cache, tiles) == 0
        assert kept(cache, tiles) == before


# --- several runs


def test_a_second_run_waits_and_says_so(tmp_path: Path) -> None:
    path, said, order = tmp_path / "a.mbtiles", threading.Event(), []

    def second() -> None:
        with opened(path) as cache, being_filled(cache, lambda note: (order.append(note), said.set())):
            order.append("second")

    with opened(path) as cache, being_filled(cache, order.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert said.wait(20)
        order.append("first")
    thread.join(20)
    assert order[0] == "waiting for another run that fetches the same tiles"
    assert order[-2:] == ["first", "second"]


def test_it_is_read_while_another_run_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.mbtiles"
    with opened(path) as cache:
        keep(cache, answer(0, 0))
    run = (
        "from test_tile_cache import *\n"
        f"with opened(Path({str(path)!r})) as cache:\n"
        "    for x in range(1, 10_000):\n"
        "        keep(cache, Answer(x % 30 + 1, x % 31 + 1, 200, bytes(50_000), 'png'))\n"
        "        time.sleep(0.02)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", run], cwd=Path(__file__).parent)
    try:
        until, seen_growing, size = time.monotonic() + 30, 0, path.stat().st_size
        while seen_growing < 30 and time.monotonic() < until:
            with rasterio.Env(SQLITE_BUSY_TIMEOUT=60_000), rasterio.open(path) as sheet:
                seen = sheet.read([1, 2, 3], window=((0, 256), (0, 256)))
            assert np.array_equal(np.moveaxis(seen, 0, -1), pixels_of(0, 0))
            seen_growing += path.stat().st_size > size
        assert seen_growing == 30
    finally:
        child.kill()
        child.wait()


def test_a_killed_writer_leaves_a_whole_cache(tmp_path: Path) -> None:
    path = tmp_path / "a.mbtiles"
    run = (
        "from test_tile_cache import *\n"
        f"with opened(Path({str(path)!r})) as cache:\n"
        "    for x in range(10_000):\n"
        "        keep(cache, Answer(x % 32, x // 32, 200, bytes([x % 256]) * 300_000, 'png'))\n"
    )
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", run], cwd=Path(__file__).parent)
        size = path.stat().st_size if path.exists() else 0
        until = time.monotonic() + 30
        while (not path.exists() or path.stat().st_size <= size) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.03)
        child.kill()
        child.wait()
        with opened(path) as cache:
            whole = cache.database.execute(
                "SELECT COUNT(*) FROM asked JOIN tiles ON tile_column = x AND tile_row = 31 - y "
                "WHERE length(tile_data) = bytes"
            ).fetchone()
            assert whole == cache.database.execute("SELECT COUNT(*) FROM asked").fetchone()
            assert whole == cache.database.execute("SELECT COUNT(*) FROM tiles").fetchone()
            assert whole[0] > 0
            cache.database.execute("DELETE FROM tiles")
            cache.database.execute("DELETE FROM asked")
        assert integrity(path) == "ok"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mbtiles"]


def test_the_cache_is_a_plain_value(tmp_path: Path) -> None:
    with opened(tmp_path / "a.mbtiles") as cache:
        assert isinstance(cache, TileCache)
        assert (cache.path, cache.zoom) == (tmp_path / "a.mbtiles", ZOOM)
