"""`view`: layers and datasets as a map page that this computer serves to itself."""

from __future__ import annotations

import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path


def _on_stdout(line: str) -> None:
    print(line, flush=True)


def _on_stderr(line: str) -> None:
    print(f"roadrisk: {line}", file=sys.stderr, flush=True)


def view(
    paths: Sequence[Path],
    data: Path | None = None,
    port: int = 0,
    open_browser: bool = True,
    told: Callable[[str], None] = _on_stdout,
    warned: Callable[[str], None] = _on_stderr,
) -> None:
    """Serve a map page on 127.0.0.1 until Ctrl-C.

    Parameters
    ----------
    paths : one or two map files or datasets; two are compared side by side.
    data : the dataset whose pictures are shown; a dataset in `paths` shows its own without it.
    port : 0 for a free one.
    told : is given the page's address once it can be opened.
    warned : is given what else there is to say.

    Raises
    ------
    RoadriskError : no layer, no dataset, a dataset of other tiles, a port that cannot be used.
    """
    try:
        # inside, so that Ctrl-C while they load ends as well as later
        from roadrisk.map_site import site_at
        from roadrisk.maps.served.server import MapServer

        with MapServer(port) as server:
            site = site_at(paths, data, warned)
            told(server.address)
            if open_browser:
                threading.Thread(target=_open, args=(server.address, warned), daemon=True).start()
            server.serve(site)
    except KeyboardInterrupt:
        warned("stopped; the page shows nothing more")


def _open(address: str, warned: Callable[[str], None]) -> None:
    try:
        opened = webbrowser.open(address)
    except webbrowser.Error:
        opened = False
    if not opened:
        warned(f"no browser could be opened; open {address} yourself")
