"""Leave: which providers forbid that their tiles are downloaded in bulk."""

from __future__ import annotations

import re
from typing import NamedTuple

from roadrisk.errors import SourceError


class Policy(NamedTuple):
    """A provider's rule.

    Parameters
    ----------
    host : pattern of the server's name.
    """

    host: str
    owner: str
    address: str


POLICIES = (
    Policy(
        r"(.+\.)?tile\.(openstreetmap|osm)\.org",
        "the OpenStreetMap Foundation",
        "https://operations.osmfoundation.org/policies/tiles/",
    ),
    Policy(
        r"(.+\.)?tile\.openstreetmap\.de",
        "FOSSGIS",
        "https://www.fossgis.de/arbeitsgruppen/osm-server/nutzungsbedingungen/",
    ),
    Policy(
        r"(.+\.)?google\.[a-z.]+|(tile|maps|khms\d*|mts\d*)\.googleapis\.com|(.+\.)?gstatic\.com",
        "Google",
        "https://developers.google.com/maps/documentation/tile/policies",
    ),
    # Master Agreement (E204), 3 Data: "may not otherwise scrape, download, or store Data"; agencies that have
    # tiles of their own at tiles.arcgis.com have terms of their own
    Policy(
        r"(.+\.)?arcgisonline\.com|(i?basemaps|basemapstyles|static-map-tiles)-api\.arcgis\.com",
        "Esri",
        "https://www.arcgis.com/home/termsofuse.html",
    ),
    # "may not scrape or download Map Assets in bulk for any purpose other than offline caching on a single
    # end user's device"
    Policy(
        r"(.+\.)?mapbox\.com",
        "Mapbox",
        "https://www.mapbox.com/legal/tos",
    ),
    # 6.3: "prohibited to batch or excessive bulk download of map tiles"
    Policy(
        r"(.+\.)?maptiler\.com",
        "MapTiler",
        "https://www.maptiler.com/terms/cloud/",
    ),
    # "Absolutely no bulk-downloading, scraping, pre-downloading, pre-caching or anything similar"
    Policy(
        r"(.+\.)?thunderforest\.com",
        "Thunderforest",
        "https://www.thunderforest.com/terms/",
    ),
)


def check_leave(host: str, bulk_allowed: bool) -> None:
    """Refuse a server whose owner forbids downloads in bulk.

    Parameters
    ----------
    host : the server's name, with or without port.
    bulk_allowed : the user has the owner's leave.

    Raises
    ------
    SourceError : forbidden.
    """
    name = host.rpartition("@")[2].partition(":")[0].lower().rstrip(".")
    for policy in POLICIES:
        if not bulk_allowed and re.fullmatch(policy.host, name):
            raise SourceError(
                f"{name}: {policy.owner} forbids downloads in bulk ({policy.address}); use another "
                "server, or, with their leave, set bulk_allowed = true"
            )
