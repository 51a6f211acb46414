"""A tile server on this computer, with the faults that tile servers have."""

from __future__ import annotations

import io
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Place = tuple[int, int, int]
Reply = Callable[[BaseHTTPRequestHandler], None]
LONGEST_S = 5.0


class TileServer(ThreadingHTTPServer):
    """Answers `/z/x/y...` by `reply(z, x, y)` and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, reply: Callable[[int, int, int], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.asked: Counter[Place] = Counter()
        self.paths: list[str] = []
        self.agents: set[str] = set()
        self.times: list[float] = []
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def template(self) -> str:
        return f"{self.address}/{{z}}/{{x}}/{{y}}.png"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TileServer

    def do_GET(self) -> None:
        server = self.server
        z, x, y = (int(number) for number in re.findall(r"\d+", self.path.split("?")[0])[:3])
        with server.lock:
            server.asked[z, x, y] += 1
            server.paths.append(self.path)
            server.times.append(time.monotonic())
            server.agents.add(self.headers["User-Agent"])
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            server.reply(z, x, y)(self)
        finally:
            with server.lock:
                server.at_once -= 1

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(reply: Callable[[int, int, int], Reply]) -> Iterator[TileServer]:
    """A server while the block runs."""
    server = TileServer(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LONGEST_S)


def body(content: bytes, status: int = 200, **headers: str) -> Reply:
    """An answer as it should be."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def status(code: int, **headers: str) -> Reply:
    """Words instead of a picture."""
    return body(b"" if code == 204 else b"<html>no</html>", code, **headers)


def redirect(location: str) -> Reply:
    return status(302, Location=location)


def dies_halfway(content: bytes) -> Reply:
    """The connection ends in the middle of the body."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2])
        handler.wfile.flush()
        handler.close_connection = True

    return reply


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    """No answer at all."""
    handler.close_connection = True


def drips(content: bytes, in_headers: bool = False) -> Reply:
    """A byte now and then: each read is in time, the answer never is."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if in_headers:
            start = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000
        else:
            start = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            handler.wfile.write(start)
            start = content
        until = time.monotonic() + LONGEST_S
        with suppress(OSError):
            for number in start:
                if time.monotonic() > until:
                    return
                handler.wfile.write(bytes([number]))
                handler.wfile.flush()
                time.sleep(0.02)

    return reply


def in_turn(*replies: Reply) -> Callable[[int, int, int], Reply]:
    """For each tile the first reply first, and the last one from then on."""
    turns: Counter[Place] = Counter()
    lock = threading.Lock()

    def reply(z: int, x: int, y: int) -> Reply:
        with lock:
            turn = min(turns[z, x, y], len(replies) - 1)
            turns[z, x, y] += 1
        return replies[turn]

    return reply


def pixels_of(x: int, y: int, side: int = 256, bands: int = 3) -> NDArray[np.uint8]:
    """(side, side, bands) of a tile that is like no other, and no flip of itself."""
    rng = np.random.default_rng((x, y))
    coarse = rng.integers(0, 256, (side // 16, side // 16, bands), np.uint8)
    pixels = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_NEAREST)
    pixels[: side // 8, : side // 4] = (255, 0, 0, 255)[:bands]
    return pixels


def encoded(pixels: NDArray[np.uint8], form: str = "PNG", **options: object) -> bytes:
    """A picture as a server sends it."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, form, **options)
    return written.getvalue()


def made_up(side: int = 256, form: str = "PNG", **options: object) -> Callable[[int, int, int], Reply]:
    """Every tile has a picture."""
    return lambda z, x, y: body(encoded(pixels_of(x, y, side), form, **options), ETag=f'"{x}-{y}"')


def oam_tiles(shared_data: Path) -> Callable[[int, int, int], Reply]:
    """The real tiles, and 404 elsewhere."""

    def reply(z: int, x: int, y: int) -> Reply:
        file = shared_data / "tiles" / "oam" / str(z) / str(x) / f"{y}.png"
        return body(file.read_bytes()) if file.is_file() else status(404)

    return reply
