"""A running server of `roadrisk view` for the tests that ask it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scored_examples import ABOUT, HOSTILE, scored_at

from roadrisk.dataset import Dataset
from roadrisk.map_site import site_at
from roadrisk.maps.layer import Layer
from roadrisk.maps.layers import write_layers
from roadrisk.maps.places import GridTiles
from roadrisk.maps.reading import layer_at
from roadrisk.maps.served.answers import Site
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


@contextmanager
def serving(site: Site) -> Iterator[MapServer]:
    """A server that answers for a site."""
    with MapServer(0) as server:
        threading.Thread(target=server.serve, args=(site,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def served_beside(dataset: Dataset, layer: Path) -> Iterator[Served]:
    """A scored layer and the dataset itself, with the dataset's pictures."""
    with serving(site_at([layer, dataset.path], dataset.path, print)) as server:
        yield Served(server, dataset, layer_at(layer))


def scored_file(dataset: Dataset, folder: Path) -> Path:
    """All tiles of a dataset, scored, with a hostile title."""
    path = folder / "risk.parquet"
    write_layers(scored_tiles_of(dataset), [path])
    return path


def scored_tiles_of(dataset: Dataset) -> Layer:
    grid = dataset.grid
    rows, cols = grid.every_tile()
    about = replace(ABOUT, title=HOSTILE)
    return scored_at(GridTiles(grid, rows, cols), grid.tile_ids(rows, cols), about)
