"""The server of `roadrisk view`: this computer only, one page, whoever asks from elsewhere is refused.

It listens on 127.0.0.1. A page of somebody else's in the same browser could still send requests here, by its
own scripts or under a name that it lets point to 127.0.0.1 (DNS rebinding): the name asked for, the origin
and what the browser says of the asking site are checked before anything is looked up.
"""

from __future__ import annotations

import gzip
import sys
import traceback
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from rasterio.errors import RasterioError

from roadrisk.errors import LayerError, RoadriskError, UsageError
from roadrisk.maps.served.answers import MVT, Answer, Site, answer

HOST = "127.0.0.1"
PATIENCE_S = 30  # with a client that says nothing
LAST_PORT = 65_535
ASKED_BY_ITSELF = ("same-origin", "none")
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
WRONG_HOST = Answer(421, body=b"only http://127.0.0.1 and http://localhost with this port are answered\n")
WRONG_SITE = Answer(403, body=b"another site may not ask here\n")
FAILED = Answer(500, body=b"this could not be read; the terminal of `roadrisk view` says why\n")


class MapServer(ThreadingMixIn, TCPServer):
    """Listens from the moment it is made; answers once it is given a site to serve.

    Parameters
    ----------
    port : 0 for a free one.

    Raises
    ------
    UsageError : a port that is none.
    LayerError : the port is taken, or may not be used.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    site: Site

    def __init__(self, port: int) -> None:
        if not 0 <= port <= LAST_PORT:
            raise UsageError(f"--port {port} is none; give one from 1 to {LAST_PORT}, or 0 for a free one")
        try:
            super().__init__((HOST, port), _Asked)
        except OSError as error:
            raise LayerError(
                f"port {port} cannot be used ({error.strerror}); give another --port, or none for a free one"
            ) from None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """To open in a browser."""
        return f"http://{HOST}:{self.port}/"

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called in a request."""
        short = (HOST, "localhost") if self.port == 80 else ()
        return (f"{HOST}:{self.port}", f"localhost:{self.port}", *short)

    def serve(self, site: Site) -> None:
        """Answer until the process is stopped."""
        self.site = site
        self.serve_forever()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what broke; a client that went away broke nothing."""
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()


class _Asked(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S
    disable_nagle_algorithm = True  # head and body are two writes; the second would wait for an answer
    server: MapServer

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer())

    def _answer(self) -> Answer:
        # a body is not read, so what follows it on the connection is not a request
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True
        refused = self._refusal()
        if refused:
            return refused
        try:
            return answer(self.server.site, self.path)
        except (RoadriskError, RasterioError, OSError) as error:
            print(f"roadrisk: {' '.join(str(error).split())}", file=sys.stderr)
            return FAILED

    def _refusal(self) -> Answer | None:
        hosts, names = self.headers.get_all("Host", []), self.server.names
        if len(hosts) != 1 or hosts[0].strip().lower() not in names:
            return WRONG_HOST
        origins = [f"http://{name}" for name in names]
        if any(origin.lower() not in origins for origin in self.headers.get_all("Origin", [])):
            return WRONG_SITE
        if any(site not in ASKED_BY_ITSELF for site in self.headers.get_all("Sec-Fetch-Site", [])):
            return WRONG_SITE
        return None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Whatever the standard library finds wrong with a request, in one line of text."""
        self.close_connection = True
        if code == 501:
            self._send(Answer(405, body=b"only GET and HEAD are answered\n"))
        else:
            self._send(Answer(code, body=b"this is no request that is answered\n"))

    def _send(self, made: Answer) -> None:
        body = made.body
        self.request_version = "HTTP/1.1"  # one without a version gets headers too
        self.send_response(made.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", made.policy or NO_PAGE)
        if made.status == 405:
            self.send_header("Allow", "GET, HEAD")
        if made.kind == MVT and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, 5, mtime=0)
            self.send_header("Content-Encoding", "gzip")
        if made.status != 204:
            self.send_header("Content-Type", made.kind)
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if made.status != 204 and self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "roadrisk"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests are not told."""
