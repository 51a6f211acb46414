"""Tile servers: the sheet they become, which tiles they are asked for, and what is never stored."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from pathlib import Path

import mercantile
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.windows import Window
from tile_server import body, encoded, made_up, oam_tiles, pixels_of, serving, status

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_zoom
from roadrisk.imagery.manners import Manners
from roadrisk.imagery.tiles.servers import planned_download, served_sheets
from roadrisk.progress import silent
from roadrisk.source_settings import ImagerySource

BOX = LngLatBbox(-71.06, 42.35, -71.05, 42.36)
QUICK = Manners(answer_s=1.0, tries=2, backoff_s=0.01)
KEY = "s3cret-k3y"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ROADRISK_CONTACT", "tests@example.org")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


def source(path: str, **settings: object) -> ImagerySource:
    return ImagerySource(path, **{"rate_per_s": 1000.0, **settings})


def tiles_of(grid: Grid) -> set[tuple[int, int, int]]:
    return {(grid.zoom_level, grid.x0 + c, grid.y0 + r) for r in range(grid.rows) for c in range(grid.cols)}


# --- the sheet


@pytest.mark.parametrize("tms", [False, True])
def test_an_xyz_grid_at_its_own_zoom_asks_for_its_tiles_and_shows_their_pixels(tms: bool) -> None:
    grid = grid_of_zoom(BOX, 17)
    rows = 2**17 - 1
    place = (lambda y: rows - y) if tms else (lambda y: y)
    with serving(made_up()) as server:
        found = served_sheets(source(server.template, tms=tms), grid, 256, silent)
    assert set(server.asked) == {(z, x, place(y)) for z, x, y in tiles_of(grid)}
    assert set(server.asked.values()) == {1}
    with rasterio.open(found.found[0].path) as sheet:
        assert (sheet.height, sheet.width) == (grid.rows * 256, grid.cols * 256)
        assert np.allclose(sheet.transform[:6], grid.picture_transform(256)[:6], rtol=1e-12)
        whole = sheet.read()
    for row in range(grid.rows):
        for col in range(grid.cols):
            expected = pixels_of(grid.x0 + col, place(grid.y0 + row))
            seen = whole[:3, row * 256 : row * 256 + 256, col * 256 : col * 256 + 256]
            assert np.array_equal(np.moveaxis(seen, 0, -1), expected)
    assert (whole[3] == 255).all()


def test_minus_y_counts_rows_from_the_south() -> None:
    grid = grid_of_zoom(BOX, 16)
    with serving(made_up()) as server:
        served_sheets(source(f"{server.address}/{{z}}/{{x}}/{{-y}}"), grid, 256, silent)
    assert set(server.asked) == {(z, x, 2**16 - 1 - y) for z, x, y in tiles_of(grid)}


@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("JPEG", {"subsampling": 0}), ("WEBP", {"lossless": True})]
)
def test_512_px_tiles_are_of_the_zoom_above(form: str, options: dict[str, object]) -> None:
    grid = grid_of_zoom(BOX, 17)
    with serving(made_up(512, form, **options)) as server:
        found = served_sheets(source(server.template, tile_px=512), grid, 256, silent)
    assert {z for z, _, _ in server.asked} == {16}
    west, south, east, north = grid.bounds
    with rasterio.open(found.found[0].path) as sheet:
        assert sheet.res[0] == pytest.approx(grid.cell / 256, rel=1e-12)
        assert sheet.bounds.left <= west
        assert sheet.bounds.top >= north
        assert sheet.bounds.right >= east
        assert sheet.bounds.bottom <= south
        (_, x, y) = min(server.asked)
        col = round((mercantile.xy_bounds(x, y, 16).left - sheet.bounds.left) / sheet.res[0])
        row = round((sheet.bounds.top - mercantile.xy_bounds(x, y, 16).top) / sheet.res[0])
        seen = sheet.read([1, 2, 3], window=Window(col, row, 512, 512))
    sent = Image.open(io.BytesIO(encoded(pixels_of(x, y, 512), form, **options))).convert("RGB")
    difference = np.abs(np.moveaxis(seen, 0, -1).astype(int) - np.asarray(sent))
    assert difference.max() <= (2 if form == "JPEG" else 0)


def test_png_and_jpeg_may_be_mixed_and_what_is_missing_is_transparent() -> None:
    grid = grid_of_zoom(BOX, 17)
    gap = (17, grid.x0 + 1, grid.y0 + 1)

    def reply(z: int, x: int, y: int):
        if (z, x, y) == gap:
            return status(404)
        return body(encoded(pixels_of(x, y), "JPEG" if x % 2 else "PNG"))

    with serving(reply) as server:
        found = served_sheets(source(server.template), grid, 256, silent)
    with rasterio.open(found.found[0].path) as sheet:
        alpha = sheet.read(4)
        assert (sheet.dataset_mask() == alpha).all()
    expected = np.full_like(alpha, 255)
    expected[256:512, 256:512] = 0
    assert np.array_equal(alpha, expected)
    assert (
        found.notes[0]
        == f"{server.template}: {grid.size} tiles of zoom 17, 256 px, 1 of them without a picture"
    )


def test_a_finer_zoom_is_fetched_when_asked_for() -> None:
    grid = grid_of_zoom(BOX, 15)
    with serving(made_up()) as server:
        served_sheets(source(server.template, zoom=16), grid, 256, silent)
    assert set(server.asked) == {(16, x, y) for x, y, _ in children(grid)}


def children(grid: Grid) -> list[mercantile.Tile]:
    return [t for z, x, y in tiles_of(grid) for t in mercantile.children(x, y, z)]


def test_real_tiles_come_back_as_they_are(shared_data: Path) -> None:
    west, south, east, north = mercantile.bounds(309612, 261632, 19)
    grid = grid_of_zoom(LngLatBbox(west, south, east - 1e-9, north), 20)
    with serving(oam_tiles(shared_data)) as server:
        found = served_sheets(source(server.template), grid, 256, silent)
    shown = 0
    with rasterio.open(found.found[0].path) as sheet:
        for z, x, y in tiles_of(grid):
            window = Window((x - grid.x0) * 256, (y - grid.y0) * 256, 256, 256)
            file = shared_data / "tiles" / "oam" / str(z) / str(x) / f"{y}.png"
            seen = sheet.read(window=window)
            if not file.is_file():
                assert not seen[3].any()
                continue
            # GDAL on the file itself: two decoders of JPEG differ where colours were halved
            with warnings.catch_warnings(action="ignore"), rasterio.open(file) as picture:
                sent = picture.read()
            assert np.array_equal(seen[: len(sent)], sent)
            assert len(sent) == 4 or (seen[3] == 255).all()
            shown += 1
    assert shown >= 4


# --- what is fetched twice, and what makes a sheet the same


def test_nothing_is_fetched_twice_and_what_others_fetch_changes_nothing() -> None:
    small, large = grid_of_zoom(BOX, 17), grid_of_zoom(LngLatBbox(-71.07, 42.34, -71.05, 42.36), 17)
    missing = (17, small.x0, small.y0)
    with serving(lambda z, x, y: status(404) if (z, x, y) == missing else made_up()(z, x, y)) as server:
        first = served_sheets(source(server.template), small, 256, silent)
        with rasterio.open(first.found[0].path) as sheet:
            pixels = sheet.read()
        served_sheets(source(server.template), large, 256, silent)
        assert set(server.asked) == tiles_of(large)
        assert set(server.asked.values()) == {1}
        again = served_sheets(source(server.template), small, 256, silent)
    # the server is gone, and nothing is asked
    assert served_sheets(source(server.template), small, 256, silent) == first
    assert again == first
    with rasterio.open(again.found[0].path) as sheet:
        assert np.array_equal(sheet.read(), pixels)
    assert set(first.found[0].identity) == {"server", "zoom", "tiles"}


def test_another_picture_is_another_identity() -> None:
    grid = grid_of_zoom(BOX, 16)
    identities = []
    for shift in (0, 1):
        with serving(lambda z, x, y, s=shift: made_up()(z, x + s, y)) as server:
            found = served_sheets(source(server.template), grid, 256, silent)
        identities.append(found.found[0].identity["tiles"])
    assert identities[0] != identities[1]


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    grid = grid_of_zoom(LngLatBbox(-71.07, 42.34, -71.05, 42.36), 17)

    def slowly(z: int, x: int, y: int):
        time.sleep(0.02)
        return made_up()(z, x, y)

    with serving(slowly) as server:
        run = (
            "from test_servers import *\n"
            f"served_sheets(source({server.template!r}), grid_of_zoom(LngLatBbox(-71.07, 42.34, -71.05, 42.36), 17), 256, silent)"
        )
        child = subprocess.Popen([sys.executable, "-c", run], cwd=Path(__file__).parent)
        try:
            until = time.monotonic() + 60
            while len(server.asked) < 30 and time.monotonic() < until:
                time.sleep(0.005)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        assert 30 <= len(server.asked) < grid.size
        time.sleep(0.2)
        found = served_sheets(source(server.template), grid, 256, silent)
    assert set(server.asked) == tiles_of(grid)
    assert sum(number - 1 for number in server.asked.values()) <= 4
    with rasterio.open(found.found[0].path) as sheet:
        assert (sheet.read(4) == 255).all()
    assert [f.suffix for f in sorted((tmp_path / "cache" / "roadrisk" / "tiles").iterdir())] == [
        ".lock",
        ".mbtiles",
    ]


def test_two_runs_at_once_fetch_each_tile_once() -> None:
    grid = grid_of_zoom(LngLatBbox(-71.07, 42.34, -71.05, 42.36), 16)

    def slowly(z: int, x: int, y: int):
        time.sleep(0.05)
        return made_up()(z, x, y)

    with serving(slowly) as server:
        run = (
            "from test_servers import *\n"
            "def told(stage, done, total, note=''):\n"
            "    print(note)\n"
            f"print(served_sheets(source({server.template!r}), grid_of_zoom(LngLatBbox(-71.07, 42.34, -71.05, 42.36), 16), 256, told))"
        )
        command = [sys.executable, "-c", run]
        children = [
            subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)
            for _ in "ab"
        ]
        said = [child.communicate(timeout=60)[0] for child in children]
        assert [child.returncode for child in children] == [0, 0]
    assert set(server.asked) == tiles_of(grid)
    assert set(server.asked.values()) == {1}
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1]
    assert sum("waiting for another run that fetches the same tiles" in text for text in said) <= 1


def test_where_only_a_part_of_the_region_fails_the_rest_is_fetched() -> None:
    grid = grid_of_zoom(LngLatBbox(-71.07, 42.34, -71.05, 42.36), 17)

    def reply(z: int, x: int, y: int):
        return status(500) if y < grid.y0 + 4 else made_up()(z, x, y)

    with serving(reply) as server:
        with pytest.raises(
            SourceError, match=rf"^{4 * grid.cols} of {grid.size} tiles .*500 Internal"
        ) as error:
            served_sheets(source(server.template), grid, 256, silent, QUICK)
        assert "were not asked for" not in str(error.value)
        server.reply = made_up()
        served_sheets(source(server.template), grid, 256, silent, QUICK)
    assert {server.asked[z, x, y] for z, x, y in tiles_of(grid) if y >= grid.y0 + 4} == {1}


# --- names, keys, leave


def test_a_key_is_asked_with_and_never_kept(
    monkeypatch: pytest.MonkeyPatch, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("TILES_KEY", KEY)
    grid = grid_of_zoom(BOX, 16)

    def reply(z: int, x: int, y: int):
        return status(403) if (x, y) == (grid.x0, grid.y0) else made_up()(z, x, y)

    said: list[str] = []
    with serving(reply) as server:
        template = server.template + "?key=${TILES_KEY}"
        with pytest.raises(SourceError) as error:
            served_sheets(source(template), grid, 256, lambda *what: said.append(str(what)), QUICK)
        server.reply = made_up()
        found = served_sheets(source(template), grid, 256, silent)
    assert all(path.endswith(f"?key={KEY}") for path in server.paths)
    assert str(error.value) == (
        f"1 of {grid.size} tiles could not be fetched (403 Forbidden: 1; first {server.address}/16/{grid.x0}/{grid.y0}.png"
        "?key=${TILES_KEY}); check the address and its key, and run the same command again: what was fetched is kept"
    )
    stored = b"".join(file.read_bytes() for file in cache.rglob("*") if file.is_file())
    names = " ".join(str(file) for file in cache.rglob("*"))
    for text in (
        stored.decode("latin-1"),
        names,
        repr(found),
        repr(error.value),
        " ".join(said),
        caplog.text,
    ):
        assert KEY not in text


def test_a_key_that_is_not_set_is_named_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TILES_KEY", raising=False)
    with serving(made_up()) as server:
        host = server.address.removeprefix("http://")
        with pytest.raises(SourceError) as error:
            served_sheets(source(server.template + "?key=${TILES_KEY}"), grid_of_zoom(BOX, 16), 256, silent)
    assert (
        str(error.value) == f"{host} needs TILES_KEY from the environment; set it: TILES_KEY=... roadrisk ..."
    )
    assert not server.asked


def test_a_host_from_the_environment_needs_leave_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILES", "https://tile.openstreetmap.org")
    with pytest.raises(SourceError, match=r"^tile\.openstreetmap\.org: the OpenStreetMap Foundation forbids"):
        served_sheets(source("${TILES}/{z}/{x}/{y}.png"), grid_of_zoom(BOX, 16), 256, silent)


def test_what_the_environment_makes_of_an_address_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILES", "file:///etc")
    with pytest.raises(SourceError) as error:
        served_sheets(source("${TILES}/{z}/{x}/{y}.png"), grid_of_zoom(BOX, 16), 256, silent)
    assert str(error.value) == (
        "${TILES}/{z}/{x}/{y}.png, filled from the environment, is no http or https address; check its value"
    )


def test_a_zoom_that_the_server_has_not() -> None:
    grid = grid_of_zoom(BOX, 22)
    with pytest.raises(SourceError, match=r"^xyz:USGS\.USImagery has no zoom 21; set one of 0 to 20$"):
        planned_download(source("xyz:USGS.USImagery", zoom=21), grid, 256)


def test_a_server_without_any_picture_of_the_region(cache: Path) -> None:
    with serving(lambda z, x, y: status(404)) as server, pytest.raises(SourceError) as error:
        served_sheets(source(server.template), grid_of_zoom(BOX, 16), 256, silent)
    assert str(error.value) == (
        f"{server.template} has no picture of the region at zoom 16; check the region or set another zoom, "
        "or `tms`: rows may count from the other end; to ask again delete "
        f"{next(cache.rglob('*.mbtiles'))}"
    )


def test_where_the_address_says_how_rows_count_they_are_not_doubted() -> None:
    with serving(lambda z, x, y: status(404)) as server, pytest.raises(SourceError) as error:
        served_sheets(source(f"{server.address}/{{z}}/{{x}}/{{-y}}"), grid_of_zoom(BOX, 16), 256, silent)
    assert "check the region or set another zoom; to ask again delete " in str(error.value)


def test_an_address_that_is_none_is_told_without_its_secrets() -> None:
    with pytest.raises(SourceError) as error:
        served_sheets(source(f"http://[x/{{z}}/{{x}}/{{y}}?key={KEY}"), grid_of_zoom(BOX, 16), 256, silent)
    assert str(error.value) == "http://[x/{z}/{x}/{y} is no address; check its host"


def test_a_host_of_the_environment_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", f"[{KEY}")
    with pytest.raises(SourceError) as error:
        served_sheets(source("http://${HOST}/{z}/{x}/{y}"), grid_of_zoom(BOX, 16), 256, silent)
    assert str(error.value) == (
        "http://${HOST}/{z}/{x}/{y}, filled from the environment, is no http or https address; check its value"
    )


@pytest.mark.parametrize(
    "damage", ["UPDATE tiles SET tile_data = substr(tile_data, 1, 200)", "DELETE FROM tiles"]
)
def test_a_cache_whose_tiles_are_damaged_is_mended(cache: Path, damage: str) -> None:
    grid = grid_of_zoom(BOX, 16)
    told = f"{grid.size} tiles of the cache were damaged and have to be fetched anew"
    with serving(made_up()) as server:
        before = served_sheets(source(server.template), grid, 256, silent)
        (file,) = cache.rglob("*.mbtiles")
        with sqlite3.connect(file) as database:
            database.execute(damage)
        plan = planned_download(source(server.template), grid, 256)
        assert plan.kept < grid.size
        assert told in plan.terms
        with sqlite3.connect(file) as database:
            database.execute(damage)
        after = served_sheets(source(server.template), grid, 256, silent)
        assert after.found == before.found
        assert after.notes[0] == before.notes[0]
    with rasterio.open(after.found[0].path) as sheet:
        assert (sheet.read(4) == 255).all()


# --- what a download would take


def test_a_plan_counts_tiles_and_bytes_from_a_sample() -> None:
    grid = grid_of_zoom(LngLatBbox(-71.07, 42.34, -71.05, 42.36), 17)
    size = len(encoded(pixels_of(0, 0)))
    with serving(lambda z, x, y: body(encoded(pixels_of(0, 0)))) as server:
        plan = planned_download(source(server.template), grid, 256)
        assert (plan.source, plan.tiles, plan.kept) == (server.template, grid.size, 8)
        assert plan.bytes == (grid.size - 8) * size
        assert (plan.left, plan.rate_per_s) == (grid.size - 8, 1000.0)
        assert plan.minutes == pytest.approx((grid.size - 8) / 60_000)
        assert plan.terms == (
            "a few tiles all over the region were fetched to learn their bytes, and are kept",
        )
        assert server.asked.total() == 8
        assert len({x for _, x, _ in server.asked}) > 3
        assert len({y for _, _, y in server.asked}) > 3
        served_sheets(source(server.template), grid, 256, silent)
        assert server.asked.total() == grid.size
        whole = planned_download(source(server.template), grid, 256)
    assert (whole.kept, whole.left, whole.bytes, whole.minutes, whole.terms) == (grid.size, 0, 0, 0.0, ())


def test_a_plan_of_what_is_there_asks_nothing() -> None:
    grid = grid_of_zoom(LngLatBbox(-71.0600, 42.3500, -71.0599, 42.3501), 16)
    with serving(made_up()) as server:
        served_sheets(source(server.template), grid, 256, silent)
    assert planned_download(source(server.template), grid, 256).terms == ()


def test_a_plan_asks_for_leave_too() -> None:
    with pytest.raises(SourceError, match="forbids downloads in bulk"):
        planned_download(source("xyz:OpenStreetMap.Mapnik"), grid_of_zoom(BOX, 16), 256)


def test_without_a_contact_it_is_said_how_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of_zoom(BOX, 16)
    said: list[tuple[int, str]] = []
    advice = "no contact is sent; set ROADRISK_CONTACT to your e-mail or web address"
    with serving(made_up()) as server:
        found = served_sheets(
            source(server.template), grid, 256, lambda stage, done, total, note="": said.append((done, note))
        )
        assert {note for _, note in said} == {""}
        monkeypatch.delenv("ROADRISK_CONTACT")
        other = source(server.template.replace("png", "jpg"))
        assert planned_download(other, grid, 256).terms[-1] == advice
        said.clear()
        again = served_sheets(other, grid, 256, lambda stage, done, total, note="": said.append((done, note)))
    assert server.agents == {
        "roadrisk/0.1.0 (+tests@example.org)",
        "roadrisk/0.1.0 (+roadway-risk maps; no contact given)",
    }
    # beside the bar only until the first answer
    assert said[0] == (0, "no ROADRISK_CONTACT is set")
    assert {note for done, note in said if done} == {""}
    assert advice not in " ".join(again.notes)
    # what is stored of the source does not depend on who asks
    assert found.notes == (f"{server.template}: {grid.size} tiles of zoom 16, 256 px",)
