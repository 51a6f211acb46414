"""Pictures by HTTP and from S3: read in parts, in spite of faults, and without telling secrets."""

from __future__ import annotations

import gzip
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from file_server import Reply, Request, Served, serving
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window
from sheets import scene, sheet

from roadrisk.errors import SourceError
from roadrisk.imagery.fetching import Ask, fetched
from roadrisk.imagery.identities import remote_identity
from roadrisk.imagery.manners import Manners
from roadrisk.imagery.names import gdal_name, public_name
from roadrisk.imagery.remote import REMOTE_OPTIONS, opened

QUICK = Manners(answer_s=1, tries=3, backoff_s=0.01, wait_at_most_s=0.3, bytes_at_most=100_000)
NAIP = ("usda_naip_128_none_z2", "usda_naip_256_lzw_z3", "usda_naip_512_deflate_z2", "usda_naip_512_jpeg_z5")
SIGNED = "?sig=SECRET&se=2026"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REMOTE_OPTIONS, "GDAL_HTTP_RETRY_DELAY", 0.01)
    monkeypatch.setitem(REMOTE_OPTIONS, "GDAL_HTTP_LOW_SPEED_TIME", 1)


@pytest.fixture
def s3(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Served:
    for name, value in {
        "AWS_S3_ENDPOINT": f"127.0.0.1:{served.port}",
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_NO_SIGN_REQUEST"):
        monkeypatch.delenv(name, raising=False)
    return served


def tiled(path: Path, side: int = 512, **options: object) -> Path:
    """A sheet in blocks of 64 px, not compressed: 12 kB a block."""
    return sheet(path, scene(side, side), tiled=True, blockxsize=64, blockysize=64, **options)


def window(path: str, at: Window) -> np.ndarray:
    with opened(path) as source:
        return source.read(window=at)


@pytest.mark.parametrize("name", NAIP)
def test_a_window_of_a_cog_is_read_by_parts_of_the_file(shared_data: Path, name: str) -> None:
    folder = shared_data / "tiles" / "naip_cog"
    file, at = folder / f"{name}.tif", Window(60, 20, 60, 60)
    with serving(folder) as server:
        read = window(gdal_name(server.url(f"{name}.tif")), at)
        sent = server.body_bytes
    with rasterio.open(file) as source:
        assert np.array_equal(read, source.read(window=at))
    assert 0 < sent < 0.6 * file.stat().st_size


def test_far_windows_are_asked_for_by_their_ranges_alone(served: Served) -> None:
    file = tiled(served.folder / "x.tif", 1024)
    at = Window(900, 900, 64, 64)
    read = window(gdal_name(served.url("x.tif")), at)
    with rasterio.open(file) as source:
        assert np.array_equal(read, source.read(window=at))
    assert served.body_bytes < 0.1 * file.stat().st_size
    ranges = [r.headers.get("Range") for r in served.requests if r.method == "GET"]
    assert all(ranges)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("query", ["", SIGNED])
def test_nothing_is_looked_for_beside_a_remote_file(served: Served, query: str) -> None:
    tiled(served.folder / "x.tif")
    with opened(gdal_name(served.url(f"x.tif{query}"))) as source:
        source.read(window=Window(0, 0, 10, 10))
        source.read_masks(1, window=Window(0, 0, 10, 10))
        assert source.overviews(1) == []
    assert {r.path for r in served.requests} == {f"/x.tif{query}"}


def test_what_lies_beside_a_local_file_is_read(tmp_path: Path) -> None:
    file, pixels = tmp_path / "x.tif", np.zeros((1, 8, 8), np.uint8)
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(file, "w", driver="GTiff", count=1, width=8, height=8, dtype="uint8") as target,
    ):
        target.write(pixels)
    file.with_suffix(".tfw").write_text("2\n0\n0\n-2\n100\n200\n")
    with rasterio.Env(**REMOTE_OPTIONS), opened(str(file)) as source:
        assert source.transform.a == 2


def test_s3_is_read_without_a_key(s3: Served) -> None:
    file = tiled(s3.folder / "bucket" / "a b" / "x.tif")
    at = Window(100, 100, 50, 50)
    read = window(gdal_name("s3://bucket/a b/x.tif"), at)
    with rasterio.open(file) as source:
        assert np.array_equal(read, source.read(window=at))
    assert {r.path for r in s3.requests} == {"/bucket/a%20b/x.tif"}
    assert not any("Authorization" in r.headers for r in s3.requests)


def test_s3_is_read_with_the_key_of_the_environment(s3: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    tiled(s3.folder / "bucket" / "signed.tif")
    window("/vsis3/bucket/signed.tif", Window(0, 0, 10, 10))
    assert all("AKIA" in r.headers["Authorization"] for r in s3.requests)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(served: Served, status: int) -> None:
    file = tiled(served.folder / "x.tif")
    served.faults["GET /x.tif"] = [Reply(status), Reply(status)]
    read = window(gdal_name(served.url("x.tif")), Window(0, 0, 64, 64))
    with rasterio.open(file) as source:
        assert np.array_equal(read, source.read(window=Window(0, 0, 64, 64)))
    assert served.faults["GET /x.tif"] == []


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "fault",
    [
        Reply(503),
        Reply(403),
        Reply(206, bytes(32768), {"Content-Range": "bytes 0-32767/800000"}, cut=5000),
        Reply(206, bytes(32768), {"Content-Range": "bytes 0-32767/800000"}, pause_s=0.2),
        Reply(302, headers={"Location": "/x.tif"}),
        Reply(200, b"<html>sign in</html>"),
    ],
    ids=["busy", "refused", "dies halfway", "a few bytes a second", "circle", "html"],
)
def test_a_fault_that_stays_is_an_error_without_secrets(served: Served, fault: Reply) -> None:
    tiled(served.folder / "x.tif")
    served.always["GET /x.tif"] = fault
    start = time.monotonic()
    with pytest.raises(RasterioError) as error:
        window(gdal_name(served.url(f"x.tif{SIGNED}")), Window(0, 0, 64, 64))
    assert time.monotonic() - start < 15
    assert "SECRET" not in str(error.value)


@pytest.mark.usefixtures("quick")
def test_pixels_that_were_cut_off_are_no_pixels(served: Served) -> None:
    file = tiled(served.folder / "x.tif")
    whole = file.read_bytes()

    def answer(request: Request) -> Reply:
        start, stop = map(int, re.findall(r"\d+", request.headers["Range"]))
        part = whole[start : stop + 1]
        there = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(whole)}"}
        # the head is whole, what comes later is not
        return Reply(206, part, there, cut=None if start == 0 else len(part) // 2)

    served.always["GET /x.tif"] = answer
    with opened(gdal_name(served.url("x.tif"))) as source, pytest.raises(RasterioError):
        source.read(window=Window(400, 400, 64, 64))


def test_the_identity_of_a_file_by_http(served: Served) -> None:
    file = tiled(served.folder / "x.tif")
    known = remote_identity(gdal_name(served.url(f"x.tif{SIGNED}")), QUICK)
    assert known.keys() == {"path", "etag", "bytes"}
    assert known["path"] == served.url("x.tif")
    assert known["bytes"] == file.stat().st_size
    tiled(served.folder / "x.tif", 256)
    assert remote_identity(gdal_name(served.url("x.tif")), QUICK)["etag"] != known["etag"]


def test_a_server_without_head_is_asked_for_one_byte(served: Served) -> None:
    file = tiled(served.folder / "x.tif")
    served.always["HEAD /x.tif"] = Reply(405)
    known = remote_identity(gdal_name(served.url("x.tif")), QUICK)
    assert known["bytes"] == file.stat().st_size
    assert served.body_bytes == 1


def test_a_date_stands_in_for_an_etag(served: Served) -> None:
    dated = {"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    served.always["/x.tif"] = Reply(200, b"x" * 10, dated)
    known = remote_identity(gdal_name(served.url("x.tif")), QUICK)
    assert known == {"path": served.url("x.tif"), "modified": dated["Last-Modified"], "bytes": 10}


def test_the_identity_of_a_file_on_s3(s3: Served) -> None:
    file = tiled(s3.folder / "bucket" / "x.tif")
    known = remote_identity("/vsis3/bucket/x.tif", QUICK)
    assert (known["path"], known["bytes"]) == ("s3://bucket/x.tif", file.stat().st_size)
    s3.always["/bucket/x.tif"] = Reply(403)
    assert remote_identity("/vsis3/bucket/x.tif", QUICK) == {"path": "s3://bucket/x.tif"}


def test_a_file_that_is_not_there_is_told(served: Served) -> None:
    with pytest.raises(SourceError) as error:
        remote_identity(gdal_name(served.url(f"x.tif{SIGNED}")), QUICK)
    assert str(error.value) == (
        f"{served.url('x.tif')} cannot be had (404 Not Found); check the address and your leave to read it"
    )


@pytest.mark.parametrize(
    "fault",
    [
        Reply(500),
        Reply(429, headers={"Retry-After": "0"}),
        Reply(200, b"x" * 100, cut=50),
        Reply(200, b"xx", pause_s=2),
    ],
    ids=["500", "429", "dies halfway", "too slow"],
)
def test_what_may_pass_is_asked_for_again(served: Served, fault: Reply) -> None:
    served.faults["/x"] = [fault, fault]
    served.always["/x"] = Reply(200, b"whole")
    (answer,) = fetched([Ask(served.url("x"))], QUICK)
    assert answer.body == b"whole"
    assert served.asked("/x") == 3


def test_what_is_packed_all_the_same_is_unpacked(served: Served) -> None:
    served.always["/x"] = Reply(200, gzip.compress(b"whole"), {"Content-Encoding": "gzip"})
    whole, head = fetched([Ask(served.url("x")), Ask(served.url("x"), method="HEAD")], QUICK)
    assert (whole.body, head.status, head.body) == (b"whole", 200, b"")


def test_the_wait_that_a_server_asks_for_is_kept(served: Served) -> None:
    served.faults["/x"] = [Reply(429, headers={"Retry-After": "1000"})]
    served.always["/x"] = Reply(200, b"whole")
    start = time.monotonic()
    fetched([Ask(served.url("x"))], QUICK)
    assert time.monotonic() - start >= QUICK.wait_at_most_s


@pytest.mark.parametrize(
    ("fault", "why", "asked"),
    [
        (Reply(503), "503 Service Unavailable", 3),
        (Reply(200, b"x" * 100, cut=50), "the connection broke off", 3),
        (Reply(200, b"x" * 100, pause_s=0.2), "no whole answer within 1 s", 3),
        (Reply(200, b"x" * 200_000), "an answer of more than 100,000 bytes", 1),
        (Reply(302, headers={"Location": "/x"}), "redirected again and again", 4),
        (Reply(302, headers={"Location": "file:///etc/passwd"}), "no web address", 1),
        (Reply(302, headers={"Location": "http://127.0.0.1:99999/"}), "no web address", 1),
        (Reply(302, headers={"Location": "http://xn--/"}), "no web address", 1),
        (
            Reply(200, gzip.compress(bytes(200_000)), {"Content-Encoding": "gzip"}),
            "an answer of more than 100,000 bytes",
            1,
        ),
        (
            Reply(200, gzip.compress(gzip.compress(b"x")), {"Content-Encoding": "gzip, gzip"}),
            "an answer packed as 'gzip, gzip'",
            1,
        ),
    ],
)
def test_what_does_not_pass_is_told_in_one_line(served: Served, fault: Reply, why: str, asked: int) -> None:
    served.always["/x"] = fault
    with pytest.raises(SourceError) as error:
        fetched([Ask(served.url(f"x{SIGNED}"))], QUICK)
    assert str(error.value) == (
        f"{served.url('x')} could not be fetched ({why}); check the address, or try again later"
    )
    assert served.asked("/x") == asked


def test_answers_come_in_the_order_of_the_asks_and_few_at_once(served: Served) -> None:
    under_way, most = [], []

    def slow(request: Request) -> Reply:
        under_way.append(request)
        most.append(len(under_way))
        time.sleep(0.02)
        under_way.remove(request)
        return Reply(200, request.path[1:].encode())

    for number in range(20):
        served.always[f"/{number}"] = slow
    answers = fetched([Ask(served.url(str(number))) for number in range(20)], QUICK)
    assert [answer.body.decode() for answer in answers] == [str(number) for number in range(20)]
    assert 1 < max(most) <= QUICK.connections


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("https://a.example/x.tif?sig=SECRET", "https://a.example/x.tif"),
        ("https://me:SECRET@a.example/x.tif", "https://a.example/x.tif"),
        (
            "'/vsicurl/https://a.example/x.tif?sig=SECRET' not recognized",
            "'https://a.example/x.tif' not recognized",
        ),
        ("naip/what?.tif", "naip/what?.tif"),
    ],
)
def test_secrets_are_cut_out(text: str, public: str) -> None:
    assert public_name(text) == public
