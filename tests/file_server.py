"""A real server of files on 127.0.0.1, with ranges, answers made up on the way, and faults."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

# no test may hang on a server that waits for it
SLOWEST_S = 20.0
_PORTS: set[int] = set()


class Request(NamedTuple):
    """What was asked: `path` with the query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What is answered instead of a file.

    Parameters
    ----------
    cut : stop after so many bytes of the body and close, though more was announced.
    pause_s : wait so long after each byte.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    pause_s: float = 0.0


Answer = Callable[[Request], Reply]


@dataclass
class Served:
    """A running server.

    Parameters
    ----------
    faults : by `GET /path`, or `/path` for any method, what the next requests get instead of the file, one each.
    always : the same, what every request gets.
    """

    folder: Path
    port: int
    faults: dict[str, list[Reply]] = field(default_factory=dict)
    always: dict[str, Reply | Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    body_bytes: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def asked(self, path: str, method: str = "GET") -> int:
        """How often a path was asked for, with any query."""
        return sum(r.method == method and urlsplit(r.path).path == path for r in self.requests)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A server of the files in `folder`, stopped at the end of the block."""
    server = _on_a_new_port()
    server.daemon_threads = True
    server.block_on_close = False
    served = Served(folder, server.server_address[1])
    server.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _on_a_new_port() -> ThreadingHTTPServer:
    """A server on a port that none had before: GDAL remembers what it read of an address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    while server.server_address[1] in _PORTS:
        used, server = server, ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        used.server_close()
    _PORTS.add(server.server_address[1])
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SLOWEST_S

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        served: Served = self.server.served  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        served.requests.append(request)
        path = urlsplit(self.path).path
        names = (f"{self.command} {path}", path)
        faults = next((served.faults[name] for name in names if served.faults.get(name)), None)
        answer = next((served.always[name] for name in names if name in served.always), None)
        if faults:
            self._send(faults.pop(0))
        elif answer is not None:
            self._send(answer(request) if callable(answer) else answer)
        else:
            self._send(self._file(served.folder / unquote(path).lstrip("/")))

    def _file(self, file: Path) -> Reply:
        if not file.is_file():
            return Reply(404, b"not here")
        whole = file.read_bytes()
        headers = {"ETag": f'"{hashlib.md5(whole).hexdigest()}"', "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            return Reply(200, whole, headers)
        start, stop = int(span[1]), min(int(span[2] or len(whole)) + 1, len(whole))
        if start >= len(whole):
            return Reply(416, b"", {"Content-Range": f"bytes */{len(whole)}"})
        return Reply(
            206, whole[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(whole)}"}
        )

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = reply.body if reply.cut is None else reply.body[: reply.cut]
        try:
            self._write(sent, reply.pause_s)
        except OSError:
            self.close_connection = True
        if reply.cut is not None:
            self.close_connection = True

    def _write(self, body: bytes, pause_s: float) -> None:
        served: Served = self.server.served  # type: ignore[attr-defined]
        if not pause_s:
            # counted first: who has the last byte may look at once
            served.body_bytes += len(body)
            self.wfile.write(body)
            return
        end = time.monotonic() + SLOWEST_S
        for byte in body:
            if time.monotonic() > end:
                return
            self.wfile.write(bytes([byte]))
            served.body_bytes += 1
            time.sleep(pause_s)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are kept, not printed."""
