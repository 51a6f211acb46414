"""A running server of `roadrisk view` for the tests that ask it."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass, replace
from typing import Any

from scored_examples import ABOUT, HOSTILE, scored_at

from roadrisk.dataset import Dataset
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GridTiles
from roadrisk.maps.served.server import MapServer


@dataclass(frozen=True)
class Served:
    """A running server and what it shows."""

    server: MapServer
    dataset: Dataset
    layer: Layer

    def asked(self, target: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        connection.request(method, target, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        answer.content = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def json(self, target: str) -> Any:
        answer = self.asked(target)
        assert answer.status == 200, answer.content  # type: ignore[attr-defined]
        return json.loads(answer.content)  # type: ignore[attr-defined]

    def raw(self, sent: bytes) -> bytes:
        """All that comes back on a connection."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=60) as connection:
            connection.sendall(sent)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def scored_tiles_of(dataset: Dataset) -> Layer:
    grid = dataset.grid
    rows, cols = grid.every_tile()
    about = replace(ABOUT, title=HOSTILE)
    return scored_at(GridTiles(grid, rows, cols), grid.tile_ids(rows, cols), about)
