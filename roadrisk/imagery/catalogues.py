"""Catalogues: a STAC search becomes sheets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from urllib.parse import parse_qs

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, LngLatBbox, transformer
from roadrisk.imagery.given import Given, GivenSheets
from roadrisk.imagery.manners import POLITE, Manners
from roadrisk.imagery.names import gdal_name, public_name
from roadrisk.imagery.stac import Document, Item, Items, Wanted, dates_of, items_over, linked
from roadrisk.progress import Progress
from roadrisk.source_settings import ImagerySource

SCHEME = "stac:"
KEYS = ("collections", "datetime", "cloud_cover", "asset")
OUTLINE_POINTS = 21
RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-geotiff")
RASTER_ENDINGS = (".tif", ".tiff", ".jp2")
BESIDE = {"thumbnail", "overview", "metadata", "cloud", "cloud-shadow", "data-mask"}
USUAL = ("image", "visual", "data")
MAKERS = {"producer", "licensor", "processor"}
_DAY = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?(?:T.*)?")


@dataclass(frozen=True)
class Search:
    """What a `stac:` source asks for.

    Parameters
    ----------
    collections : all when empty.
    first, last : ISO dates; None where open.
    cloud_cover : per cent, at most.
    asset : its key in an item.
    """

    address: str
    collections: tuple[str, ...] = ()
    first: str | None = None
    last: str | None = None
    cloud_cover: float | None = None
    asset: str | None = None


def is_catalogue(path: str) -> bool:
    """Whether a source is a catalogue.

    >>> is_catalogue("stac:https://a.example/v1?collections=naip")
    True
    """
    return path.startswith(SCHEME)


def catalogue_sheets(
    source: ImagerySource, grid: Grid, progress: Progress, manners: Manners = POLITE
) -> GivenSheets:
    """The pictures that a catalogue has over a grid: one of each item, in the order of the items' names.

    Raises
    ------
    SourceError : a search that cannot be understood, no catalogue, no item over the grid, or items whose
        picture is not clear.
    """
    search = search_of(source.path)
    stage = f"search {source.view}"
    progress(stage, 0, 1)
    wanted = Wanted(_degrees(grid), search.collections, search.first, search.last)
    items = items_over(search.address, wanted, replace(manners, connections=source.connections))
    clear = tuple(item for item in items.found if _is_clear(item.document, search.cloud_cover))
    progress(stage, 1, 1, f"{len(clear):,} items")
    name = public_name(search.address)
    if not clear:
        cloudy = f", but {len(items.found):,} with more cloud" if items.found else ""
        raise SourceError(
            f"{name} has no such item over the region{cloudy}; widen the search or check the region"
        )
    used = {str(item.document.get("collection")) for item in clear}
    about = [document for key, document in sorted(items.collections.items()) if key in used]
    return GivenSheets(
        found=tuple(_given(item, search.asset) for item in clear),
        notes=_notes(name, clear, items, search),
        licence=_joined([_licence(document) for document in about]),
        attribution=_joined([_attribution(document) for document in about]),
    )


def search_of(path: str) -> Search:
    """What a `stac:` source asks for.

    Raises
    ------
    SourceError : an unknown key, a date or a number that is none, no address.

    Examples
    --------
    >>> search_of("stac:https://a.example/v1?collections=naip&datetime=2020/2021-06&cloud_cover=20")
    Search(address='https://a.example/v1', collections=('naip',), first='2020-01-01', last='2021-06-30', \
cloud_cover=20.0, asset=None)
    """
    address, _, query = path.removeprefix(SCHEME).partition("?")
    if not address.startswith(("http://", "https://")):
        raise SourceError(f"{SCHEME}{public_name(address)} is no catalogue; write {SCHEME}https://HOST/PATH")
    given = parse_qs(query, keep_blank_values=True)
    for key, values in given.items():
        if key not in KEYS or len(values) > 1 or not values[0]:
            wrong = "is unknown" if key not in KEYS else "has not one value"
            raise SourceError(
                f"{SCHEME}{public_name(address)}: {key} {wrong}; a search has {', '.join(KEYS)}: "
                "?collections=a,b&datetime=2020-01-01/2021-12-31&cloud_cover=20&asset=image"
            )
    (interval,), (cloud,) = given.get("datetime", ["../.."]), given.get("cloud_cover", [""])
    first, last = _interval(interval)
    return Search(
        address,
        tuple(filter(None, given.get("collections", [""])[0].split(","))),
        first,
        last,
        _per_cent(cloud) if cloud else None,
        given.get("asset", [None])[0],
    )


def _interval(text: str) -> tuple[str | None, str | None]:
    start, slash, end = text.partition("/")
    first, last = _days(start, text), _days(end if slash else start, text)
    if first and last and first[0] > last[1]:
        raise SourceError(f"datetime={text} ends before it starts; write datetime=FROM/TO")
    return first and first[0], last and last[1]


def _days(text: str, whole: str) -> tuple[str, str] | None:
    """First and last day of a year, a month or a day; None where open."""
    if text in ("", ".."):
        return None
    known = _DAY.fullmatch(text)
    try:
        if known is None:
            raise ValueError
        year, month, day = (int(part) if part else None for part in known.groups())
        first = date(year or 0, month or 1, day or 1)
        december = month in (None, 12)
        after = date(first.year + 1, 1, 1) if december else date(first.year, first.month + 1, 1)
        last = first if day else date.fromordinal(after.toordinal() - 1)
    except ValueError:
        raise SourceError(
            f"datetime={whole} is no time; write datetime=2020-01-01/2021-12-31, 2020 or 2020-06/.."
        ) from None
    return first.isoformat(), last.isoformat()


def _per_cent(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise SourceError(f"cloud_cover={text} is no percentage; write cloud_cover=20")
    return number


def _degrees(grid: Grid) -> LngLatBbox:
    to_degrees = transformer(grid.crs, "EPSG:4326")
    return LngLatBbox(*to_degrees.transform_bounds(*grid.bounds, densify_pts=OUTLINE_POINTS))


def _cloud_cover(item: Document) -> float | None:
    cover = item.get("properties", {}).get("eo:cloud_cover")
    return float(cover) if isinstance(cover, (int, float)) else None


def _is_clear(item: Document, most: float | None) -> bool:
    cover = _cloud_cover(item)
    return most is None or cover is None or cover <= most


def _given(item: Item, named: str | None) -> Given:
    document = item.document
    asset = _picture(document, named)
    address = linked(item, asset.get("href"))
    identity: dict[str, Any] = {
        "item": str(document["id"]),
        "collection": str(document.get("collection") or ""),
        "asset": public_name(address),
    }
    updated = asset.get("updated") or document.get("properties", {}).get("updated")
    known = {"checksum": asset.get("file:checksum"), "bytes": asset.get("file:size"), "updated": updated}
    identity |= {name: value for name, value in known.items() if isinstance(value, (str, int))}
    return Given(gdal_name(address), dates_of(document), identity)


def _picture(item: Document, named: str | None) -> Document:
    """The asset that is an item's picture."""
    assets: dict[str, Document] = item.get("assets", {})
    rasters = [key for key in sorted(assets) if _is_raster(assets[key])]
    if named is not None:
        chosen = [key for key in assets if key == named]
    elif len(rasters) == 1:
        chosen = rasters
    else:
        usual = [key for key in USUAL if key in rasters]
        by_role = [key for role in USUAL for key in rasters if role in (assets[key].get("roles") or [])]
        chosen = usual or (by_role if len(by_role) == 1 else [])
    if not chosen:
        keys = ", ".join(sorted(assets)) or "none"
        wrong = f"has no asset {named}" if named else "has no asset that is clearly its picture"
        raise SourceError(f"the item {item['id']} {wrong}; add &asset=KEY to the search, of: {keys}")
    return assets[chosen[0]]


def _is_raster(asset: Document) -> bool:
    if BESIDE & set(asset.get("roles") or []):
        return False
    kind = str(asset.get("type") or "").lower()
    path = re.split(r"[?#]", str(asset.get("href")))[0].lower()
    return kind.startswith(RASTER_TYPES) or path.endswith(RASTER_ENDINGS)


def _notes(name: str, clear: Sequence[Item], items: Items, search: Search) -> tuple[str, ...]:
    collections = sorted({str(item.document.get("collection") or "no collection") for item in clear})
    dates = [taken for item in clear if (taken := dates_of(item.document))]
    said = [f"{name}: {len(clear):,} items of {', '.join(collections)}"]
    if dates:
        undated = len(clear) - len(dates)
        more = f"; {undated:,} say no date" if undated else ""
        said.append(f"taken {min(first for first, _ in dates)} to {max(last for _, last in dates)}{more}")
    else:
        said.append("the items say no date")
    covers = [cover for item in clear if (cover := _cloud_cover(item.document)) is not None]
    if covers:
        said.append(f"cloud cover {min(covers):g} to {max(covers):g} %")
    if search.cloud_cover is not None:
        left_out, unknown = len(items.found) - len(clear), len(clear) - len(covers)
        said.append(
            f"{left_out:,} items with more than {search.cloud_cover:g} % cloud are left out; "
            f"{unknown:,} that do not say are kept"
        )
    return tuple(said)


def _licence(collection: Document) -> str:
    links = [link.get("href") for link in collection.get("links") or [] if link.get("rel") == "license"]
    name = str(collection.get("license") or "")
    # these names only say that the terms stand elsewhere
    return str(links[0]) if links and name in ("", "proprietary", "various", "other") else name


def _attribution(collection: Document) -> str:
    providers = collection.get("providers") or []
    return ", ".join(
        str(provider.get("name"))
        for provider in providers
        if MAKERS & set(provider.get("roles") or []) or not provider.get("roles")
    )


def _joined(texts: Sequence[str]) -> str | None:
    return "; ".join(dict.fromkeys(filter(None, texts))) or None
