"""Providers: which server a source names, and what is wrong with it."""

from __future__ import annotations

import pytest
from xyzservices import providers

from roadrisk.errors import SourceError
from roadrisk.imagery.tiles.providers import server_of
from roadrisk.source_settings import ImagerySource


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "https://t.example/{z}/{x}/{y}?access_token=pk.123",
            "t.example: the key access_token is written out in its address; put it into the environment and write access_token=${NAME}",
        ),
        (
            "https://me:pw@t.example/{z}/{x}/{y}",
            "t.example: a user or password is written out in its address; put it into the environment and write ${NAME}@",
        ),
        (
            "https://t.example/{z}/{x}/{q}",
            "https://t.example/{z}/{x}/{q}: {q} is no field of a tile's address; use {z}, {x}, {y} or {-y}, {s}, {r}, or ${NAME} for what the environment holds",
        ),
        (
            "https://t.example/{z}/{x}",
            "https://t.example/{z}/{x} lacks a tile's place; an address has {z}, {x} and {y} or {-y}",
        ),
        (
            "ftp://t.example/{z}/{x}/{y}",
            "ftp://t.example/{z}/{x}/{y} is no tile server; its address starts with https:// or http://",
        ),
        (
            "xyz:USGS.USImagry",
            "xyzservices knows no server 'USGS.USImagry'; near it are USGS.USImagery, USGS.USImageryTopo, USGS.USTopo",
        ),
        (
            "xyz:OrdnanceSurvey.Road_27700",
            "xyz:OrdnanceSurvey.Road_27700 has tiles of another projection than Web Mercator; use another server",
        ),
        (
            "https://tile.openstreetmap.org/{z}/{x}/{y}.png",
            "tile.openstreetmap.org: the OpenStreetMap Foundation forbids downloads in bulk (https://operations.osmfoundation.org/policies/tiles/); use another server, or, with their leave, set bulk_allowed = true",
        ),
        (
            "https://mt{s}.google.com/vt?x={x}&y={y}&z={z}",
            "mt{s}.google.com: Google forbids downloads in bulk (https://developers.google.com/maps/documentation/tile/policies); use another server, or, with their leave, set bulk_allowed = true",
        ),
    ],
)
def test_what_is_wrong_with_a_server_is_said_in_one_line(path: str, said: str) -> None:
    with pytest.raises(SourceError) as error:
        server_of(ImagerySource(path))
    assert str(error.value) == said
    assert "pk.123" not in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "xyz:OpenStreetMap.Mapnik",
        "xyz:OpenStreetMap.DE",
        "https://{s}.tile.openstreetmap.org/{z}/{x}/{y}.png",
        "https://TILE.openstreetmap.org:443/{z}/{x}/{y}.png",
    ],
)
def test_leave_is_asked_for_by_host_and_can_be_given(path: str) -> None:
    with pytest.raises(SourceError, match="forbids downloads in bulk"):
        server_of(ImagerySource(path))
    server_of(ImagerySource(path, bulk_allowed=True))


def test_every_server_of_xyzservices_is_known_or_refused_in_one_line() -> None:
    refused: list[str] = []
    for name in providers.flatten():
        try:
            server = server_of(ImagerySource(f"xyz:{name}"))
        except SourceError as error:
            refused.append(str(error))
        else:
            assert "<insert" not in server.template
            assert "your_api_key" not in server.template
    forbidden = [said for said in refused if "forbids downloads in bulk" in said]
    other = [said for said in refused if "of another projection" in said]
    assert len(forbidden) == 2
    assert len(forbidden) + len(other) == len(refused) < 70


def test_what_xyzservices_knows() -> None:
    usgs = server_of(ImagerySource("xyz:USGS.USImagery"))
    assert (usgs.max_zoom, usgs.tile_px, usgs.attribution) == (
        20,
        256,
        "Tiles courtesy of the U.S. Geological Survey",
    )
    assert usgs.terms == (
        "USGS.USImagery: attribution: Tiles courtesy of the U.S. Geological Survey",
        "USGS.USImagery: terms: https://usgs.gov/",
    )
    mapbox = server_of(ImagerySource("xyz:MapBox"))
    assert mapbox.template == (
        "https://api.mapbox.com/styles/v1/mapbox/streets-v11/tiles/{z}/{x}/{y}?access_token=${MAPBOX_ACCESSTOKEN}"
    )
    assert mapbox.tile_px == 512
    assert "MapBox: needs MAPBOX_ACCESSTOKEN from the environment" in mapbox.terms
    here = server_of(ImagerySource("xyz:HERE.satelliteDay", tile_px=512))
    assert "size=512&apiKey=${HERE_APIKEY}" in here.template
