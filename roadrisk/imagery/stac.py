"""STAC: the items of a catalogue that lie over a box, as plain objects.

An API is searched, a catalogue of files is walked. Either comes from anywhere: how much is asked of it is
bounded, and nothing that it says leads to this computer's files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urljoin

from pystac_client.item_search import ItemSearch
from pystac_client.stac_api_io import StacApiIO

from roadrisk.errors import SourceError
from roadrisk.grid import LngLatBbox
from roadrisk.imagery.fetching import Ask, Fetched, fetched
from roadrisk.imagery.manners import Manners, named_status
from roadrisk.imagery.names import public_name

PAGE_ITEMS = 200
REQUESTS_AT_MOST = 2_000
DOCUMENTS_AT_MOST = 50_000
ITEMS_AT_MOST = 50_000
DEEPEST = 200
AT_ONCE = 64
# control characters, and those that turn the direction of writing
STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
Document = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """Which items of a catalogue are wanted.

    Parameters
    ----------
    box : in degrees.
    collections : their ids; all when empty.
    first, last : ISO dates, both included; None where open.
    """

    box: LngLatBbox
    collections: tuple[str, ...] = ()
    first: str | None = None
    last: str | None = None


@dataclass(frozen=True)
class Item:
    """An item, and where it was found: what its relative addresses start from."""

    address: str
    document: Document


@dataclass(frozen=True)
class Items:
    """The items found.

    Parameters
    ----------
    collections : what is said of each collection that was met, by its id.
    """

    found: tuple[Item, ...]
    collections: dict[str, Document] = field(default_factory=dict)


def items_over(address: str, wanted: Wanted, manners: Manners) -> Items:
    """The items of a catalogue that are wanted.

    Raises
    ------
    SourceError : no catalogue there, more than can be walked, or links that lead elsewhere than the web.
    """
    root = document_at(address, manners)
    search = [link for link in _links(root.document, "search") if isinstance(link.get("href"), str)]
    try:
        if search:
            return _searched(root, search, wanted, manners)
        if root.document.get("type") in ("Catalog", "Collection", "Feature", "FeatureCollection"):
            return _walked(root, wanted, manners)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _no_stac(address) from None
    raise _no_stac(address)


def document_at(address: str, manners: Manners) -> Item:
    """A JSON object by its address.

    Raises
    ------
    SourceError : refused, not there, or no JSON object.
    """
    (answer,) = fetched([Ask(address)], manners)
    return Item(answer.address, _document(answer))


def linked(item: Item, href: Any) -> str:
    """The address of something that a document names.

    Raises
    ------
    SourceError : neither on the web nor on S3.
    """
    try:
        address = urljoin(item.address, href) if isinstance(href, str) else ""
    except ValueError:
        address = ""
    if not address.startswith(("http://", "https://", "s3://")):
        raise SourceError(
            f"{public_name(item.address)} names {public_name(str(href))!r}, which is no address of the web; "
            "only http, https and s3 are read"
        )
    return address


def _searched(root: Item, links: Sequence[Document], wanted: Wanted, manners: Manners) -> Items:
    link = next((link for link in links if str(link.get("method", "GET")).upper() == "POST"), links[0])
    first = f"{wanted.first}T00:00:00Z" if wanted.first else ".."
    last = f"{wanted.last}T23:59:59Z" if wanted.last else ".."
    asking = _PoliteIO(manners, root.address)
    search = ItemSearch(
        linked(root, link["href"]),
        method=str(link.get("method", "GET")).upper(),
        stac_io=asking,
        limit=PAGE_ITEMS,
        bbox=wanted.box,
        collections=list(wanted.collections) or None,
        datetime=None if first == last else f"{first}/{last}",
    )
    items: dict[tuple[str, str], Item] = {}
    for document in search.items_as_dicts():
        selves = _links(document, "self")
        address = urljoin(root.address, selves[0]["href"]) if selves else root.address
        items[_name(document)] = Item(address, _item(document))
        if len(items) > ITEMS_AT_MOST:
            raise _too_much(root)
    found = tuple(items[name] for name in sorted(items))
    return Items(found, _collections_of(found, manners))


def _collections_of(items: Sequence[Item], manners: Manners) -> dict[str, Document]:
    """What is said of the collections of items."""
    addresses: dict[str, str] = {}
    for item in items:
        for link in _links(item.document, "collection"):
            addresses.setdefault(_name(item.document)[0], linked(item, link["href"]))
    return {name: _collection(document_at(addresses[name], manners).document) for name in sorted(addresses)}


def _walked(root: Item, wanted: Wanted, manners: Manners) -> Items:
    items: dict[tuple[str, str], Item] = {}
    collections: dict[str, Document] = {}
    seen = {root.address}
    level: Iterable[Item] = [root]
    for _ in range(DEEPEST):
        below: list[str] = []
        for item in level:
            document = item.document
            if document.get("type") == "Feature":
                if _is_wanted(document, wanted):
                    items[_name(document)] = Item(item.address, _item(document))
                continue
            if document.get("type") == "Collection":
                collections[str(document["id"])] = _collection(document)
                if not _may_hold(document, wanted.box):
                    continue
            for feature in document.get("features", []):
                if _is_wanted(feature, wanted):
                    items[_name(feature)] = Item(item.address, _item(feature))
            below += [
                linked(item, link["href"])
                for kind in ("child", "item", "next")
                for link in _links(document, kind)
            ]
        fresh = [address for address in dict.fromkeys(below) if address not in seen]
        seen.update(fresh)
        if len(seen) > DOCUMENTS_AT_MOST or len(items) > ITEMS_AT_MOST:
            raise _too_much(root)
        if not fresh:
            break
        level = _documents(fresh, manners)
    else:
        raise _too_much(root)
    return Items(tuple(items[name] for name in sorted(items)), collections)


def _documents(addresses: Sequence[str], manners: Manners) -> Iterator[Item]:
    for start in range(0, len(addresses), AT_ONCE):
        for answer in fetched([Ask(address) for address in addresses[start : start + AT_ONCE]], manners):
            yield Item(answer.address, _document(answer))


def _may_hold(collection: Document, box: LngLatBbox) -> bool:
    boxes = collection.get("extent", {}).get("spatial", {}).get("bbox", [])
    return not boxes or any(_meet(one, box) for one in boxes)


def _is_wanted(item: Document, wanted: Wanted) -> bool:
    if wanted.collections and item.get("collection") not in wanted.collections:
        return False
    if item.get("bbox") and not _meet(item["bbox"], wanted.box):
        return False
    taken = dates_of(item)
    if taken is None:
        return wanted.first is None and wanted.last is None
    return (wanted.first or taken[1]) <= taken[1] and taken[0] <= (wanted.last or taken[0])


def dates_of(item: Document) -> tuple[str, str] | None:
    """First and last ISO date of an item; None where it says none, or ends before it starts.

    >>> dates_of({"properties": {"datetime": "2021-06-01T17:05:00Z"}})
    ('2021-06-01', '2021-06-01')
    """
    properties = item.get("properties", {})
    first = properties.get("start_datetime") or properties.get("datetime")
    last = properties.get("end_datetime") or properties.get("datetime")
    try:
        days = date.fromisoformat(first[:10]).isoformat(), date.fromisoformat(last[:10]).isoformat()
    except (TypeError, ValueError):
        return None
    return days if days[0] <= days[1] else None


def _meet(box: Sequence[float], region: LngLatBbox) -> bool:
    half = len(box) // 2
    west, south, east, north = box[0], box[1], box[half], box[half + 1]
    over = south <= region.north and region.south <= north
    # a box that crosses the 180th meridian ends west of where it starts
    if west > east or region.west > region.east:
        return over
    return over and west <= region.east and region.west <= east


class _PoliteIO(StacApiIO):
    """How pystac-client asks: as everything else here asks, and of the web alone."""

    def __init__(self, manners: Manners, base: str) -> None:
        super().__init__(max_retries=None)
        self.manners, self.base, self.asked = manners, base, 0

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The text of an answer that is a JSON object."""
        self.asked += 1
        if self.asked > REQUESTS_AT_MOST:
            raise _too_much(Item(self.base, {}))
        address, kind, body = urljoin(self.base, href), method or "GET", b""
        sent = {name: str(value) for name, value in (headers or {}).items()}
        if kind == "POST":
            sent["Content-Type"], body = "application/json", json.dumps(parameters or {}).encode()
        elif parameters:
            address += ("&" if "?" in address else "?") + urlencode(parameters, safe=",:/.")
        (answer,) = fetched([Ask(address, kind, sent, body)], self.manners)
        return json.dumps(_document(answer))


def _document(answer: Fetched) -> Document:
    if answer.status != HTTPStatus.OK:
        raise SourceError(
            f"{public_name(answer.address)} cannot be had ({named_status(answer.status)}); check the address"
        )
    try:
        document = _in_one_line(json.loads(answer.body))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _no_stac(answer.address)
    return document


def _in_one_line(value: Any) -> Any:
    """The same value without characters that would steer a terminal, since ids and names are printed."""
    if isinstance(value, str):
        return STEERING.sub(" ", value)
    if isinstance(value, list):
        return [_in_one_line(part) for part in value]
    if isinstance(value, dict):
        return {_in_one_line(key): _in_one_line(part) for key, part in value.items()}
    return value


def _item(document: Document) -> Document:
    """The same item, if its parts have the kinds that the standard gives them."""
    assets = document.get("assets")
    if not isinstance(document.get("id"), str) or not isinstance(document.get("properties"), dict):
        raise TypeError
    if not isinstance(assets, dict) or not all(_has_roles(asset) for asset in assets.values()):
        raise TypeError
    return document


def _collection(document: Document) -> Document:
    """The same collection, if its parts have the kinds that the standard gives them."""
    links, providers = document.get("links") or [], document.get("providers") or []
    if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
        raise TypeError
    if not isinstance(providers, list) or not all(_has_roles(provider) for provider in providers):
        raise TypeError
    return document


def _has_roles(part: Any) -> bool:
    """Whether a part is an object whose roles, if there are any, are names."""
    roles = part.get("roles") or [] if isinstance(part, dict) else None
    return isinstance(roles, list) and all(isinstance(role, str) for role in roles)


def _links(document: Document, kind: str) -> list[Document]:
    return [link for link in document.get("links") or [] if link.get("rel") == kind]


def _name(item: Document) -> tuple[str, str]:
    return str(item.get("collection") or ""), str(item["id"])


def _no_stac(address: str) -> SourceError:
    return SourceError(
        f"{public_name(address)} answers with no STAC; give the address of the catalogue itself"
    )


def _too_much(root: Item) -> SourceError:
    return SourceError(
        f"{public_name(root.address)} has no end of items for the region; narrow the search: "
        "&collections=...&datetime=FROM/TO"
    )
