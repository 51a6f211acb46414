"""Providers: which server a source names, by its template or as xyzservices knows it."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from roadrisk.errors import SourceError
from roadrisk.imagery.tiles.addresses import filled_template, host_of, variables
from roadrisk.imagery.tiles.covering import FINEST
from roadrisk.imagery.tiles.leave import check_leave
from roadrisk.source_settings import ImagerySource

# as Leaflet has them
SUBDOMAINS = "abc"
# of a group of servers, those that are named
MEMBERS = 10
# what xyzservices writes where a key goes
PLACEHOLDERS = ("<insert", "your_api_key")


@dataclass(frozen=True)
class Server:
    """A server of XYZ tiles.

    Parameters
    ----------
    name : as the user wrote it.
    template : address of a tile; keys are `${NAME}`, never their values.
    subdomains : one character each, for `{s}`.
    tms : rows are counted from the south.
    min_zoom, max_zoom : what it has, as far as is known.
    attribution : empty where nothing says.
    terms : the provider's, a line a fact.
    bulk_allowed : the user has the owner's leave.
    """

    name: str
    template: str
    subdomains: str
    tile_px: int
    tms: bool
    min_zoom: int
    max_zoom: int
    attribution: str
    terms: tuple[str, ...]
    bulk_allowed: bool


def server_of(source: ImagerySource) -> Server:
    """The server that a source names.

    Raises
    ------
    SourceError : an unknown name, tiles that are not of Web Mercator, a template that is none, or an owner
        who forbids downloads in bulk.
    """
    if source.path.startswith("xyz:"):
        server = _provided(source)
    else:
        known = {"r": "@2x" if source.tile_px == 512 else ""}
        template = filled_template(source.path, known, source.path)
        server = Server(
            name=template,
            template=template,
            subdomains=SUBDOMAINS,
            tile_px=source.tile_px,
            tms=source.tms,
            min_zoom=0,
            max_zoom=FINEST[source.tile_px],
            attribution="",
            terms=(),
            bulk_allowed=source.bulk_allowed,
        )
    check_leave(host_of(server.template), source.bulk_allowed)
    return server


def _provided(source: ImagerySource) -> Server:
    """A server by its xyzservices name."""
    name = source.path.removeprefix("xyz:")
    provider = _provider(name)
    grid = provider.get("crs", "EPSG:3857"), provider.get("TileMatrixSet", "PM").split("_")[0]
    if grid[0] != "EPSG:3857" or grid[1] not in ("PM", "GoogleMapsCompatible"):
        raise SourceError(
            f"{source.path} has tiles of another projection than Web Mercator; use another server"
        )
    tile_px = int(provider.get("tileSize", source.tile_px))
    known = {key: _field(provider, key) for key in provider if key != "url"}
    known["r"] = "@2x" if tile_px == 512 and "tileSize" not in provider else ""
    known["size"] = str(tile_px)
    template = filled_template(provider["url"], known, source.path)
    return Server(
        name=source.path,
        template=template,
        subdomains=provider.get("subdomains", SUBDOMAINS),
        tile_px=tile_px,
        tms=source.tms or bool(provider.get("tms", False)),
        min_zoom=int(provider.get("min_zoom", 0)),
        max_zoom=min(int(provider.get("max_zoom", FINEST[tile_px])), FINEST[tile_px]),
        attribution=provider.get("attribution", ""),
        terms=_terms(provider, template),
        bulk_allowed=source.bulk_allowed,
    )


def _provider(name: str) -> dict[str, Any]:
    from xyzservices import providers

    try:
        return dict(providers.query_name(name))
    except ValueError:
        members = [full for full in providers.flatten() if full.lower().startswith(f"{name.lower()}.")]
        if members:
            more = f" and {len(members) - MEMBERS:,} more" if len(members) > MEMBERS else ""
            raise SourceError(
                f"{name!r} is a group of xyzservices, not a server; use one of "
                f"{', '.join(members[:MEMBERS])}{more}"
            ) from None
        near = get_close_matches(name, providers.flatten(), n=3, cutoff=0.5)
        hint = f"near it are {', '.join(near)}" if near else "see https://xyzservices.readthedocs.io"
        raise SourceError(f"xyzservices knows no server {name!r}; {hint}") from None


def _field(provider: dict[str, Any], key: str) -> str:
    """A field's value; a key is a variable named for provider and field, such as MAPBOX_ACCESSTOKEN."""
    value = str(provider[key])
    if not value.startswith(PLACEHOLDERS):
        return value
    owner = re.sub(r"\W", "_", provider["name"].split(".")[0])
    return f"${{{owner.upper()}_{key.upper()}}}"


def _terms(provider: dict[str, Any], template: str) -> tuple[str, ...]:
    """What xyzservices knows of the provider's terms."""
    links = re.findall(r'href="(https?://[^"]+)"', provider.get("html_attribution", ""))
    keys = variables(template)
    lines = (
        f"attribution: {html.unescape(provider['attribution'])}" if provider.get("attribution") else "",
        f"terms: {', '.join(dict.fromkeys(links))}" if links else "",
        f"needs {' and '.join(keys)} from the environment" if keys else "",
        f"xyzservices calls it {provider['status']}" if provider.get("status") else "",
    )
    return tuple(f"{provider['name']}: {line}" for line in lines if line)
