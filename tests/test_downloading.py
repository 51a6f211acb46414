"""Downloading: what a server's faults become, and how politely it is asked."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import re
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tile_server import (
    Reply,
    TileServer,
    body,
    dies_halfway,
    drips,
    encoded,
    hangs_up,
    in_turn,
    made_up,
    pixels_of,
    redirect,
    serving,
    status,
)

from roadrisk.errors import SourceError
from roadrisk.imagery.manners import Manners, asked_wait_s, user_agent
from roadrisk.imagery.tiles.asking import Wanted
from roadrisk.imagery.tiles.downloading import download
from roadrisk.imagery.tiles.encoded import NotPicture, whole_picture
from roadrisk.imagery.tiles.tile_cache import Answer

QUICK = Manners(answer_s=0.5, tries=3, backoff_s=0.01, rate_per_s=1000)
PNG = encoded(pixels_of(1, 1))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fetched(
    server: TileServer, number: int = 1, manners: Manners = QUICK, tile_px: int = 256
) -> list[Answer]:
    """The answers for tiles 3/0/0, 3/1/0, ..."""
    answers: list[Answer] = []
    download(wanted(server, number), number, tile_px, answers.extend, lambda course: None, manners)
    return answers


def wanted(server: TileServer, number: int, key: str = "") -> Iterator[Wanted]:
    return (Wanted(x, 0, f"{server.address}/3/{x}/0.png{key}") for x in range(number))


def failure(
    reply: Callable[[int, int, int], Reply], number: int = 1, **settings: float
) -> tuple[str, TileServer]:
    with serving(reply) as server, pytest.raises(SourceError) as error:
        fetched(server, number, Manners(**{**vars(QUICK), **settings}))
    return str(error.value).replace(server.address, "http://host"), server


# --- faults that pass


@pytest.mark.parametrize(
    "fault",
    [
        status(429, Retry_After="0"),
        status(403),
        status(500),
        status(503, Retry_After="soon"),
        body(b"<!DOCTYPE html><html>busy</html>"),
        body(b""),
        body(PNG[:-20]),
        dies_halfway(PNG),
        hangs_up,
        drips(PNG),
        drips(PNG, in_headers=True),
    ],
)
def test_a_fault_that_passes_is_asked_again_and_costs_nothing(fault: Reply) -> None:
    with serving(in_turn(fault, body(PNG, ETag='"e"'))) as server:
        answers = fetched(server)
    assert answers == [Answer(0, 0, 200, PNG, "png", '"e"')]
    assert server.asked.total() == 2


def test_an_answer_has_one_time_for_all_of_it() -> None:
    # each byte comes in time, the answer never does: the server stops only after five seconds
    for in_headers in (False, True):
        said, server = failure(lambda z, x, y, h=in_headers: drips(PNG, h), tries=2)
        assert said.startswith("1 of 1 tiles could not be fetched (no whole answer within 0.5 s: 1;")
        assert server.asked.total() == 2
        assert server.times[1] - server.times[0] < 4


# --- faults that stay


@pytest.mark.parametrize(
    ("fault", "reason", "tries"),
    [
        (status(500), "500 Internal Server Error", 3),
        (status(403), "403 Forbidden", 3),
        (status(400), "400 Bad Request", 1),
        (status(401), "401 Unauthorized", 1),
        (status(599), "599", 3),
        (body(b"\n <html>pay</html>"), "HTML or XML in place of a picture", 3),
        (body(b'{"error": 1}'), "JSON in place of a picture", 3),
        (body(b""), "an empty answer", 3),
        (body(b"GIF89a" + bytes(40)), "no PNG, JPEG or WebP picture", 3),
        (body(PNG[:-1]), "a truncated PNG", 3),
        (body(PNG[: len(PNG) // 2]), "a truncated PNG", 3),
        (body(encoded(pixels_of(1, 1), "JPEG")[:-100]), "a truncated or damaged picture", 3),
        (body(encoded(pixels_of(1, 1), "WEBP")[:-100]), "a truncated or damaged picture", 3),
        (body(encoded(pixels_of(1, 1, 64))), "a picture of 64 x 64 px", 3),
        (body(encoded(np.zeros((256, 256), np.uint16))), "a PNG of 16 bits", 3),
        (dies_halfway(PNG), "the connection broke off", 3),
        (hangs_up, "the connection broke off", 3),
        (redirect("ftp://127.0.0.1/3/0/0.png"), "no web address", 1),
        (redirect("file:///etc/passwd"), "no web address", 1),
        (redirect("http://127.0.0.1:99999/"), "no web address", 1),
        (redirect("http://xn--/"), "no web address", 1),
        (body(PNG, Content_Encoding="deflate"), "an answer packed as 'deflate'", 3),
        (body(PNG, Content_Encoding="gzip"), "an answer of damaged gzip", 3),
        (body(gzip.compress(PNG, mtime=0)[:-9], Content_Encoding="gzip"), "an answer of damaged gzip", 3),
    ],
)
def test_a_fault_that_stays_is_named_and_nothing_is_kept(fault: Reply, reason: str, tries: int) -> None:
    said, server = failure(lambda z, x, y: fault)
    key = " and its key" if reason[:3] in ("401", "403") else ""
    assert said == (
        f"1 of 1 tiles could not be fetched ({reason}: 1; first http://host/3/0/0.png); check the address{key}, "
        "and run the same command again: what was fetched is kept"
    )
    assert server.asked.total() == tries


def test_a_circle_of_redirects_ends() -> None:
    said, server = failure(lambda z, x, y: redirect(f"/3/{1 - x}/0.png"))
    assert "(redirected again and again: 1; first http://host/3/0/0.png)" in said
    assert server.asked.total() == 4


def test_a_redirect_is_followed() -> None:
    def reply(z: int, x: int, y: int) -> Reply:
        return (
            redirect("http://127.0.0.1:PORT/9/9/9.png".replace("PORT", str(server.server_port)))
            if z == 3
            else body(PNG)
        )

    with serving(reply) as server:
        assert fetched(server) == [Answer(0, 0, 200, PNG, "png")]
    assert server.paths == ["/3/0/0.png", "/9/9/9.png"]


def test_an_answer_that_does_not_end_is_cut_off() -> None:
    said, _ = failure(lambda z, x, y: body(PNG), bytes_at_most=100)
    assert "(an answer of more than 100 bytes: 1;" in said


def test_an_answer_that_is_packed_all_the_same_is_unpacked() -> None:
    with serving(lambda z, x, y: body(gzip.compress(PNG), Content_Encoding="GZip")) as server:
        assert fetched(server) == [Answer(0, 0, 200, PNG, "png")]


@pytest.mark.parametrize(
    ("packed", "packing", "reason"),
    [
        (gzip.compress(bytes(256 << 20), 9, mtime=0), "gzip", "an answer of more than 20,971,520 bytes"),
        (
            gzip.compress(gzip.compress(bytes(256 << 20), 9, mtime=0), 9, mtime=0),
            "gzip, gzip",
            "an answer packed as 'gzip, gzip'",
        ),
    ],
)
def test_an_answer_that_unpacks_to_far_more_does_not_fill_the_memory(
    packed: bytes, packing: str, reason: str
) -> None:
    tracemalloc.start()
    try:
        said, _ = failure(lambda z, x, y: body(packed, Content_Encoding=packing), answer_s=20.0)
        assert tracemalloc.get_traced_memory()[1] < 128 << 20
    finally:
        tracemalloc.stop()
    assert f"({reason}: 1;" in said


def test_an_address_whose_port_is_none_is_told() -> None:
    with pytest.raises(SourceError, match=r"^1 of 1 tiles could not be fetched \(no web address: 1; first"):
        download(
            iter([Wanted(0, 0, "http://127.0.0.1:99999/0/0/0")]), 1, 256, print, lambda course: None, QUICK
        )


def test_nobody_there() -> None:
    with serving(made_up()) as server:
        pass
    with pytest.raises(SourceError, match=r"^1 of 1 tiles could not be fetched \(no connection: 1;"):
        fetched(server)


def test_tiles_of_another_size_end_the_run() -> None:
    with serving(made_up(512)) as server, pytest.raises(SourceError) as error:
        fetched(server, 50)
    host = server.address.removeprefix("http://")
    assert str(error.value) == f"{host}: the server's tiles are 512 px wide, not 256; set tile_px = 512"
    # the first tile's answer ends it, with those under way
    assert server.asked.total() <= QUICK.connections


@pytest.mark.parametrize("code", [204, 404, 410])
def test_no_picture_here_is_an_answer(code: int) -> None:
    with serving(lambda z, x, y: status(code)) as server:
        assert fetched(server) == [Answer(0, 0, code)]
    assert server.asked.total() == 1


def test_the_rest_is_fetched_before_failures_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = {3: status(500), 5: status(500), 7: body(b"<html>")}
    answers: list[Answer] = []
    monkeypatch.setenv("KEY", "secret")
    with serving(lambda z, x, y: faults.get(x, body(PNG))) as server, pytest.raises(SourceError) as error:
        download(wanted(server, 40, "?key=${KEY}"), 40, 256, answers.extend, lambda course: None, QUICK)
    assert {answer.x for answer in answers} == set(range(40)) - set(faults)
    assert str(error.value).startswith(
        "3 of 40 tiles could not be fetched (500 Internal Server Error: 2, HTML or XML in place of a picture: 1; "
        f"first {server.address}/3/"
    )
    assert "?key=${KEY}); check" in str(error.value)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(403), "403 Forbidden"),
        (status(503), "503 Service Unavailable"),
        (status(429), "429 Too Many Requests"),
        (body(b"<html>sign in</html>"), "HTML or XML in place of a picture"),
        (body(PNG[:-20]), "a truncated PNG"),
        (hangs_up, "the connection broke off"),
    ],
)
def test_a_server_that_fails_alike_from_the_start_is_left_alone(fault: Reply, reason: str) -> None:
    said, server = failure(lambda z, x, y: fault, number=500, tries=5)
    assert reason in said
    assert "were not asked for; check the address" in said
    # four tiles with the tries of a start, and those under way meanwhile
    assert said.startswith("4 of 500 tiles")
    assert len(server.asked) <= 7
    assert max(server.asked.values()) == 3


def test_a_server_that_fails_in_several_ways_from_the_start_is_left_alone() -> None:
    faults = (status(403), status(500), hangs_up)
    said, server = failure(lambda z, x, y: faults[x % 3], number=500)
    assert "were not asked for" in said
    # three of each way, one more, and those under way
    assert len(server.asked) <= 3 * 3 + 1 + 3
    assert int(said.split()[0]) <= 3 * 3 + 1


def test_a_server_that_only_hiccups_at_first_is_waited_for() -> None:
    # the first two answers to each tile fail; when one tile has its picture, the rest have all their tries
    with serving(in_turn(status(503), status(503), body(PNG))) as server:
        assert len(fetched(server, 20)) == 20
    assert server.asked.total() == 60


def test_a_tile_that_failed_before_the_first_answer_has_all_its_tries_after_it() -> None:
    late = in_turn(*[status(503)] * 4, body(PNG))

    def reply(z: int, x: int, y: int) -> Reply:
        if x == 0:
            return late(z, x, y)
        time.sleep(0.05)
        return body(PNG)

    with serving(reply) as server:
        manners = Manners(**{**vars(QUICK), "tries": 5, "backoff_s": 0.3})
        assert len(fetched(server, 8, manners)) == 8
    assert server.asked[3, 0, 0] == 5


def test_nobody_there_is_soon_said() -> None:
    with serving(made_up()) as server:
        pass
    with pytest.raises(SourceError) as error:
        fetched(server, 500)
    said = re.sub(r"/3/[0-3]/", "/3/X/", str(error.value))
    assert said == (
        f"4 of 500 tiles could not be fetched (no connection: 4; first {server.address}/3/X/0.png), and 496 were "
        "not asked for; check the address, and run the same command again: what was fetched is kept"
    )


def test_a_server_that_fails_too_often_is_left_alone() -> None:
    said, server = failure(
        lambda z, x, y: body(PNG) if x < 5 else status(500), number=500, failures_at_most=30
    )
    assert "were not asked for" in said
    assert len(server.asked) <= 5 + 30 + 4


def test_what_cannot_be_kept_ends_the_run() -> None:
    def keep(answers: object) -> None:
        raise SourceError("the disk is full")

    with serving(made_up()) as server, pytest.raises(SourceError, match=r"^the disk is full$"):
        download(wanted(server, 100), 100, 256, keep, lambda course: None, QUICK)
    assert server.asked.total() <= 8


# --- manners


def test_never_more_connections_than_may_be() -> None:
    def slowly(z: int, x: int, y: int) -> Reply:
        time.sleep(0.02)
        return body(PNG)

    with serving(slowly) as server:
        fetched(server, 30, Manners(**{**vars(QUICK), "connections": 3}))
    assert server.most_at_once <= 3


def test_never_more_requests_a_second_than_may_be() -> None:
    with serving(lambda z, x, y: status(404)) as server:
        fetched(server, 31, Manners(**{**vars(QUICK), "rate_per_s": 20.0}))
    # thirty gaps of a twentieth of a second; the first request may have come late
    assert server.times[-1] - server.times[0] > 1.3


@pytest.mark.parametrize("form", ["1", "date"])
def test_all_wait_as_long_as_the_server_asks(form: str) -> None:
    def reply(z: int, x: int, y: int) -> Reply:
        if len(server.times) == 1:
            in_two = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
            return status(429, Retry_After=form if form == "1" else in_two)
        return body(PNG)

    heard: list[str] = []
    answers: list[Answer] = []
    with serving(reply) as server:
        manners = Manners(**{**vars(QUICK), "rate_per_s": 20.0})
        download(wanted(server, 6), 6, 256, answers.extend, lambda course: heard.append(course.said), manners)
    assert len(answers) == 6
    # those on their way when the answer came were asked for before
    waited = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert max(waited) > 0.7
    assert next(said for said in heard if said) in (
        "the server asks to wait 1 s",
        "the server asks to wait 2 s",
    )


def test_a_wait_is_capped_and_said() -> None:
    heard: list[str] = []
    with serving(in_turn(status(429, Retry_After="86400"), body(PNG))) as server:
        manners = Manners(**{**vars(QUICK), "wait_at_most_s": 0.0})
        download(
            wanted(server, 1), 1, 256, lambda some: None, lambda course: heard.append(course.said), manners
        )
    assert heard[0] == "the server asks to wait 86400 s, and 0 s are waited"


def test_what_retry_after_says() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    assert asked_wait_s("7") == 7
    assert 55 < asked_wait_s(soon) <= 60
    beyond = "Mon, 01 Jan 2026 00:00:00 +9999999999999999"
    assert asked_wait_s(beyond) == asked_wait_s("Mon, 01 Jan 0001 00:00:00 +2359") == 0
    assert asked_wait_s(past) == asked_wait_s("") == asked_wait_s("soon") == asked_wait_s("-3") == 0


def test_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADRISK_CONTACT", "me@example.org")
    with serving(made_up()) as server:
        fetched(server, 3)
    assert server.agents == {"roadrisk/0.1.0 (+me@example.org)"} == {user_agent()}
    monkeypatch.setenv("ROADRISK_CONTACT", "me\r\nX-Evil: 1")
    with serving(made_up()) as server, pytest.raises(SourceError, match=r"^ROADRISK_CONTACT has characters"):
        fetched(server)
    assert not server.asked


def test_it_works_where_a_loop_runs_already() -> None:
    async def notebook() -> list[Answer]:
        return fetched(server, 3)

    with serving(made_up()) as server:
        assert len(asyncio.run(notebook())) == 3


def test_an_interrupt_ends_it_soon() -> None:
    with serving(lambda z, x, y: drips(PNG)) as server:
        run = (
            "from test_downloading import *\n"
            f"w = [Wanted(x, 0, f'{server.address}/3/{{x}}/0.png') for x in range(99)]\n"
            "download(iter(w), 99, 256, print, print, Manners(answer_s=60, backoff_s=60))"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", run], cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True
        )
        try:
            until = time.monotonic() + 30
            while not server.asked and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(child.pid, signal.SIGINT)
            said = child.communicate(timeout=30)[1]
        finally:
            child.kill()
    assert "KeyboardInterrupt" in said.splitlines()[-1]


# --- pictures


@settings(max_examples=200)
@given(form=st.sampled_from(["PNG", "JPEG", "WEBP"]), share=st.floats(0, 1), seed=st.integers(0, 3))
def test_a_truncated_picture_is_never_whole(form: str, share: float, seed: int) -> None:
    content = encoded(pixels_of(seed, 0), form)
    with pytest.raises(NotPicture):
        whole_picture(content[: min(int(share * len(content)), len(content) - 1)], 256)
    assert whole_picture(content, 256).body == content


def test_a_moving_picture_is_none_that_gdal_shows() -> None:
    written = io.BytesIO()
    first, second = (Image.fromarray(pixels_of(n, 0)) for n in (1, 2))
    first.save(written, "WEBP", save_all=True, append_images=[second], duration=10, lossless=True)
    with pytest.raises(NotPicture, match=r"^a moving WebP$"):
        whole_picture(written.getvalue(), 256)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_transparent_colour_becomes_alpha(mode: str) -> None:
    pixels = pixels_of(1, 2)
    pixels[:128] = 255
    sent = Image.fromarray(pixels).convert(mode)
    written = io.BytesIO()
    sent.save(written, "PNG", transparency=(255, 255, 255) if mode == "RGB" else 255)
    with Image.open(io.BytesIO(whole_picture(written.getvalue(), 256).body)) as kept:
        assert kept.mode == "RGBA"
        seen = np.asarray(kept)
    assert not seen[:128, :, 3].any()
    assert np.array_equal(seen[..., :3], np.asarray(sent.convert("RGB")))
    assert seen[16:, 64:, 3][128:].all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_becomes_what_gdal_reads(bits: int, tmp_path: Path) -> None:
    levels = 2**bits
    values = (np.indices((256, 256)).sum(0) % levels).astype(np.uint8)
    content = png_of(values, bits)
    kept = whole_picture(content, 256)
    assert kept.body != content
    file = tmp_path / "kept.png"
    file.write_bytes(kept.body)
    with warnings.catch_warnings(action="ignore"), rasterio.open(file) as picture:
        seen = picture.read()
    assert np.array_equal(seen[0], values * (255 // (levels - 1)))
    assert (seen[3] == 255).all()
    with Image.open(io.BytesIO(content)) as sent:
        assert np.array_equal(np.moveaxis(seen, 0, -1), np.asarray(sent.convert("RGBA")))


def png_of(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of fewer than 8 bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    unpacked = np.unpackbits(values[..., None], axis=-1)[..., -bits:].reshape(256, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(unpacked, axis=-1))
    header = struct.pack(">IIBBBBB", 256, 256, bits, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks
