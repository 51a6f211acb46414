"""`roadrisk view`: whom it refuses, what it never answers, and that nobody waits for somebody else."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_examples import Served, scored_file, served_beside, serving

from roadrisk.dataset import Dataset
from roadrisk.map_site import site_at


@pytest.fixture(scope="module")
def layer_path(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_file(dataset, tmp_path_factory.mktemp("layers"))


@pytest.fixture(scope="module")
def served(dataset: Dataset, layer_path: Path) -> Iterator[Served]:
    with served_beside(dataset, layer_path) as there:
        yield there


ASKED_WRONGLY = [
    "/layers",
    "/layers/",
    "/layers/0",
    "/layers/2/top.json",
    "/layers/-1/top.json",
    "/layers/00000/top.json",
    "/layers/0/rows/256.json",
    "/layers/0/rows/-1.json",
    "/layers/0/rows/9999999999.json",
    "/layers/0/rows/99999999999999999999.json",
    "/layers/0/rows/1.5.json",
    "/layers/0/rows/\u0661.json".encode().decode("latin-1"),
    "/layers/0/0/1/0.mvt",
    "/layers/0/-1/0/0.mvt",
    "/layers/0/31/0/0.mvt",
    "/layers/0/99/9999999999/9999999999.mvt",
    "/layers/0/0/0/0.mvt/",
    "/layers/0/top.json/../../../etc/passwd",
    "/../../../../etc/passwd",
    "/..%2f..%2fetc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/pictures/../1",
    "/pictures/%2e%2e%2f%2e%2e%2fetc%2fpasswd/1?layer=0",
    "/pictures/%00/1?layer=0",
    "/pictures/%ff%fe/1?layer=0",
    "/pictures/roads/1?layer=0",
    "/pictures/aerial/999999?layer=0",
    "/pictures/aerial/0?layer=9",
    "/pictures/aerial/0?layer=-1",
    "/pictures/aerial/0?layer=x",
    "/underlay/3/8/0.webp",
    "/dataset.json",
    "/views/aerial.vrt",
    "/page.css",
    "http://evil.example/",
    "*",
    "/" + "a" * 60_000,
    "/layers/0/top.json?many=100000",
    "/layers/0/top.json?first=-1",
    "/layers/0/top.json?many=",
    "/layers/0/find.json?text=" + "a" * 300,
    "/layers/0/find.json?text=%ff",
    "/layers/0/top.json?" + "a=1&" * 50,
]


@pytest.mark.parametrize("target", ASKED_WRONGLY, ids=lambda target: target[:40])
def test_what_is_not_there_is_one_line(served: Served, target: str) -> None:
    sent = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{served.server.port}\r\nConnection: close\r\n\r\n"
    head, _, body = served.raw(sent.encode("latin-1")).partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 40[04] ", head)
    assert b"X-Content-Type-Options: nosniff" in head
    assert body.count(b"\n") == 1
    assert b"root:" not in body
    assert b"Traceback" not in body
    assert b"<" not in body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT.evil.example\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nOrigin: https://evil.example\r\n\r\n", b"403"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nOrigin: null\r\n\r\n", b"403"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nOrigin: http://localhost:1\r\n\r\n", b"403"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nSec-Fetch-Site: cross-site\r\n\r\n", b"403"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nSec-Fetch-Site: same-site\r\n\r\n", b"403"),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n", b"405"),
        (b"OPTIONS / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n", b"405"),
        (b"DELETE / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n", b"405"),
        (b"GET /\r\n\r\n", b"421"),
        (b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n", b"404"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431"),
    ],
    ids=lambda value: value[:3].decode("latin-1") if len(value) == 3 else None,
)
def test_other_hosts_sites_and_methods_are_refused(served: Served, sent: bytes, status: bytes) -> None:
    sent = sent.replace(b"PORT", str(served.server.port).encode())
    sent = sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if b"Host" in sent else sent
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        got = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert got.startswith(b"HTTP/1.1 " + status + b" ")
    head, _, body = got.partition(b"\r\n\r\n")
    assert body.count(b"\n") == 1
    assert b"<" not in body
    assert b"Access-Control" not in head


def test_the_pages_own_requests_are_answered(served: Served) -> None:
    own = f"http://localhost:{served.server.port}"
    for headers in (
        {"Host": f"localhost:{served.server.port}", "Origin": own, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert served.asked("/", **headers).status == 200


def test_head_is_get_without_a_body(served: Served) -> None:
    for target in ("/", "/layers/0/rows/0.json"):
        head, got = served.asked(target, "HEAD"), served.asked(target)
        assert (head.status, head.content) == (200, b"")
        assert head.getheader("Content-Length") == str(len(got.content)) == got.getheader("Content-Length")


def test_every_answer_says_what_browsers_may_do_with_it(served: Served) -> None:
    for target in ("/", "/layers/0/rows/0.json", "/layers/0/0/0/0.mvt", "/pictures/aerial/0?layer=0", "/no"):
        answer = served.asked(target)
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Referrer-Policy") == "no-referrer"
        assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.getheader("Cache-Control") == "no-store"
        assert answer.getheader("Access-Control-Allow-Origin") is None
        assert "default-src 'none'" in answer.getheader("Content-Security-Policy")
    town = served.asked("/layers/0/rows/0.json").content
    assert b"<" not in town
    assert b"\\u003c/script\\u003e" in town


def test_a_body_is_no_second_request(served: Served) -> None:
    port = str(served.server.port).encode()
    inner = b"GET /layers/0/top.json HTTP/1.1\r\nHost: 127.0.0.1:" + port + b"\r\n\r\n"
    outer = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:" + port + b"\r\nContent-Length: " + str(len(inner)).encode()
    assert served.raw(outer + b"\r\n\r\n" + inner).count(b"HTTP/1.1 200") == 1


def test_it_listens_on_this_computer_only(served: Served) -> None:
    assert served.server.server_address[0] == "127.0.0.1"
    assert served.server.address == f"http://127.0.0.1:{served.server.port}/"


def test_clients_that_say_nothing_do_not_keep_others_waiting(served: Served) -> None:
    slow = [socket.create_connection(("127.0.0.1", served.server.port)) for _ in range(40)]
    for connection in slow:
        connection.sendall(b"GET / HT")
    assert served.json("/layers/0/top.json")
    for connection in slow:
        connection.close()


def test_many_ask_at_once(served: Served) -> None:
    wrong: list[Exception] = []

    def ask(first: int) -> None:
        try:
            for i in range(first, 256, 16):
                assert (
                    served.json(f"/layers/0/rows/{i}.json")["values"][0] == served.layer.table["tile_id"][i]
                )
                served.asked(f"/pictures/aerial/{i}?layer=0")
                served.asked("/underlay/12/959/1517.webp")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_damaged_picture_is_one_line_for_both(
    dataset: Dataset, layer_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(dataset.path, broken)
    site = site_at([layer_path], broken, print)
    for part in (broken / "views" / "aerial").glob("*.tif"):
        part.write_bytes(b"no picture")
    with serving(site) as server:
        there = Served(server, dataset, None)  # type: ignore[arg-type]
        answer = there.asked("/pictures/aerial/0?layer=0")
        assert answer.status == 500
        assert answer.content == b"this could not be read; the terminal of `roadrisk view` says why\n"
        assert str(broken).encode() not in answer.content
    said = capfd.readouterr().err.strip()
    assert said.startswith("roadrisk: ")
    assert "\n" not in said
