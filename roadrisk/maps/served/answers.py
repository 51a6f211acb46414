"""What a page may ask for, and the answer to each: nothing that is not made here can be named."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from roadrisk.maps.page import served_page
from roadrisk.maps.page.document import json_in_html
from roadrisk.maps.served.layers import ServedLayer
from roadrisk.maps.served.underlay import Underlay

HTML, JSON, MVT, WEBP, TEXT = (
    "text/html; charset=utf-8",
    "application/json",
    "application/vnd.mapbox-vector-tile",
    "image/webp",
    "text/plain; charset=utf-8",
)
LAST_ZOOM = 30
MOST_ROWS = 1000
LONGEST_TEXT = 200
_INDEX, _PLACE = r"(\d{1,2})", r"(\d{1,2})/(\d{1,10})/(\d{1,10})"
_POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')


@dataclass(frozen=True)
class Answer:
    """What is sent back.

    Parameters
    ----------
    status : of HTTP.
    policy : what a page may load and run; empty for all that is no page.
    """

    status: int
    kind: str = TEXT
    body: bytes = b""
    policy: str = ""


NOTHING = Answer(204)
UNKNOWN = Answer(404, body=b"nothing is here; open the address that `roadrisk view` printed\n")
NOT_ASKED_SO = Answer(400, body=b"this cannot be asked so\n")


@dataclass(frozen=True, eq=False)
class Site:
    """All that is answered for.

    Parameters
    ----------
    page : the one document.
    policy : what it may load and run.
    underlay : the picture below the map; None without one.
    """

    page: bytes
    policy: str
    layers: tuple[ServedLayer, ...]
    underlay: Underlay | None


def site_of(layers: Sequence[ServedLayer], underlay: Underlay | None) -> Site:
    """A page of layers, ready to be answered for."""
    views = dict.fromkeys(view for layer in layers if layer.pictures for view in layer.pictures.views)
    page = served_page([layer.config for layer in layers], list(views))
    # a page says what it may load; nobody may put it into a frame, which only a header can say
    policy = _POLICY.findall(page)[0] + "; frame-ancestors 'none'"
    return Site(page.encode(), policy, tuple(layers), underlay)


def answer(site: Site, target: str) -> Answer:
    """The answer to a path with its query, as they stand in a request."""
    try:
        asked = urlsplit(target)
        query = parse_qs(asked.query, keep_blank_values=True, max_num_fields=4, errors="strict")
    except ValueError:
        return NOT_ASKED_SO
    if asked.scheme or asked.netloc:
        return UNKNOWN
    told = {name: values[-1] for name, values in query.items()}
    for pattern, made in _ROUTES:
        found = pattern.fullmatch(asked.path)
        if found:
            return made(site, found.groups(), told)
    return UNKNOWN


def _page(site: Site, _: Sequence[str], __: dict[str, str]) -> Answer:
    return Answer(200, HTML, site.page, site.policy)


def _tile(site: Site, names: Sequence[str], _: dict[str, str]) -> Answer:
    layer, place = _layer(site, names[0]), _tile_place(names[1:])
    if layer is None or place is None:
        return UNKNOWN
    content = layer.tiles.tile(*place)
    return Answer(200, MVT, content) if content else NOTHING


def _row(site: Site, names: Sequence[str], _: dict[str, str]) -> Answer:
    layer, row = _layer(site, names[0]), int(names[1])
    return _json(layer.row(row)) if layer and row < len(layer.layer) else UNKNOWN


def _top(site: Site, names: Sequence[str], told: dict[str, str]) -> Answer:
    layer = _layer(site, names[0])
    if layer is None:
        return UNKNOWN
    first, many = (_whole(told.get(name, default)) for name, default in (("first", "0"), ("many", "10")))
    if first is None or many is None or many > MOST_ROWS:
        return NOT_ASKED_SO
    return _json(layer.top(first, many))


def _found(site: Site, names: Sequence[str], told: dict[str, str]) -> Answer:
    layer = _layer(site, names[0])
    if layer is None:
        return UNKNOWN
    text = told.get("text", "")
    return _json(layer.find(text)) if len(text) <= LONGEST_TEXT else NOT_ASKED_SO


def _picture(site: Site, names: Sequence[str], told: dict[str, str]) -> Answer:
    layer, row = _layer(site, told.get("layer", "0")), int(names[1])
    if layer is None or layer.pictures is None or row >= len(layer.layer):
        return UNKNOWN
    picture = layer.pictures.webp(layer.named(row), unquote(names[0]))
    return Answer(200, WEBP, picture) if picture else UNKNOWN


def _under(site: Site, names: Sequence[str], _: dict[str, str]) -> Answer:
    place = _tile_place(names)
    if place is None:
        return UNKNOWN
    picture = site.underlay.tile(*place) if site.underlay else b""
    return Answer(200, WEBP, picture) if picture else NOTHING


def _no_icon(_: Site, __: Sequence[str], ___: dict[str, str]) -> Answer:
    return NOTHING


_ROUTES: tuple[tuple[re.Pattern[str], Callable[[Site, Sequence[str], dict[str, str]], Answer]], ...] = tuple(
    (re.compile(pattern, re.ASCII), made)
    for pattern, made in (
        (r"/", _page),
        (rf"/layers/{_INDEX}/{_PLACE}\.mvt", _tile),
        (rf"/layers/{_INDEX}/rows/(\d{{1,10}})\.json", _row),
        (rf"/layers/{_INDEX}/top\.json", _top),
        (rf"/layers/{_INDEX}/find\.json", _found),
        (r"/pictures/([^/]{1,200})/(\d{1,10})", _picture),
        (rf"/underlay/{_PLACE}\.webp", _under),
        (r"/favicon\.ico", _no_icon),
    )
)


def _json(value: Any) -> Answer:
    return Answer(200, JSON, json_in_html(value).encode())


def _layer(site: Site, k: str) -> ServedLayer | None:
    index = _whole(k)
    return site.layers[index] if index is not None and index < len(site.layers) else None


def _tile_place(names: Sequence[str]) -> tuple[int, int, int] | None:
    """Zoom, column and row of a tile; None outside the world."""
    z, x, y = (int(name) for name in names)
    return (z, x, y) if z <= LAST_ZOOM and x < 1 << z and y < 1 << z else None


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,10}", text, re.ASCII) else None
