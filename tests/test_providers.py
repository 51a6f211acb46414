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
            "xyz:OpenStreetMap",
            "'OpenStreetMap' is a group of xyzservices, not a server; use one of OpenStreetMap.Mapnik, OpenStreetMap.DE, OpenStreetMap.CH, OpenStreetMap.France, OpenStreetMap.HOT, OpenStreetMap.BZH, OpenStreetMap.CAT",
        ),
        (
            "xyz:thunderforest",
            "'thunderforest' is a group of xyzservices, not a server; use one of Thunderforest.OpenCycleMap, Thunderforest.Transport, Thunderforest.TransportDark, Thunderforest.SpinalMap, Thunderforest.Landscape, Thunderforest.Outdoors, Thunderforest.Pioneer, Thunderforest.MobileAtlas, Thunderforest.Neighbourhood, Thunderforest.Atlas",
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
        (
            "xyz:Esri.WorldImagery",
            "server.arcgisonline.com: Esri forbids downloads in bulk (https://www.arcgis.com/home/termsofuse.html); use another server, or, with their leave, set bulk_allowed = true",
        ),
    ],
)
def test_what_is_wrong_with_a_server_is_said_in_one_line(path: str, said: str) -> None:
    with pytest.raises(SourceError) as error:
        server_of(ImagerySource(path))
    assert str(error.value) == said
    assert "pk.123" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "key",
        "apikey",
        "apiKey",
        "subscription-key",
        "access_token",
        "token",
        "sig",
        "sas",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "appid",
        "app_id",
        "app_code",
        "client_id",
        "code",
        "auth",
        "password",
    ],
)
def test_what_servers_call_a_key_is_never_written_out(name: str) -> None:
    address = "https://t.example/{z}/{x}/{y}?style=day&" + name
    with pytest.raises(SourceError) as error:
        server_of(ImagerySource(f"{address}=pk.123"))
    assert str(error.value) == (
        f"t.example: the key {name} is written out in its address; put it into the environment and write "
        f"{name}=${{NAME}}"
    )
    assert server_of(ImagerySource(f"{address}=${{NAME}}")).template == f"{address}=${{NAME}}"


def test_no_error_of_a_template_shows_what_is_secret() -> None:
    for path in ("https://me:pk.123@t.example/{z}/{x}/{q}", "https://t.example/{z}/{x}/{q}?sig=pk.123"):
        with pytest.raises(SourceError) as error:
            server_of(ImagerySource(path))
        assert "pk.123" not in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "xyz:OpenStreetMap.Mapnik",
        "xyz:OpenStreetMap.DE",
        "https://{s}.tile.openstreetmap.org/{z}/{x}/{y}.png",
        "https://TILE.openstreetmap.org:443/{z}/{x}/{y}.png",
        "https://ibasemaps-api.arcgis.com/arcgis/rest/services/World_Imagery/MapServer/tile/{z}/{y}/{x}?token=${KEY}",
        "https://{s}.tiles.mapbox.com/v4/mapbox.satellite/{z}/{x}/{y}.jpg?access_token=${KEY}",
        "xyz:MapBox",
        "xyz:MapTiler.Satellite",
        "xyz:Thunderforest.Outdoors",
    ],
)
def test_leave_is_asked_for_by_host_and_can_be_given(path: str) -> None:
    with pytest.raises(SourceError, match="forbids downloads in bulk"):
        server_of(ImagerySource(path))
    server_of(ImagerySource(path, bulk_allowed=True))


def test_an_agencys_own_tiles_need_no_leave_of_esri() -> None:
    server_of(
        ImagerySource("https://tiles.arcgis.com/tiles/abc/arcgis/rest/services/a/MapServer/tile/{z}/{y}/{x}")
    )


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
    assert {said.partition(":")[0] for said in forbidden} == {
        "tile.openstreetmap.org",
        "tile.openstreetmap.de",
        "server.arcgisonline.com",
        "api.mapbox.com",
        "api.maptiler.com",
        "api.thunderforest.com",
    }
    assert len(forbidden) + len(other) == len(refused) < 120


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
    mapbox = server_of(ImagerySource("xyz:MapBox", bulk_allowed=True))
    assert mapbox.template == (
        "https://api.mapbox.com/styles/v1/mapbox/streets-v11/tiles/{z}/{x}/{y}?access_token=${MAPBOX_ACCESSTOKEN}"
    )
    assert mapbox.tile_px == 512
    assert "MapBox: needs MAPBOX_ACCESSTOKEN from the environment" in mapbox.terms
    here = server_of(ImagerySource("xyz:HERE.satelliteDay", tile_px=512))
    assert "size=512&apiKey=${HERE_APIKEY}" in here.template
