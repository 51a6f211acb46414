"""STAC: an API and a catalogue of files, searched; dates, clouds, rights; nothing of this computer, no secrets."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pystac
import pytest
from file_server import Reply, Request, Served, serving
from hypothesis import given
from hypothesis import strategies as st
from sheets import GRID

from roadrisk.errors import SourceError
from roadrisk.imagery.catalogues import Search, catalogue_sheets, search_of
from roadrisk.imagery.given import GivenSheets
from roadrisk.imagery.manners import Manners
from roadrisk.progress import silent
from roadrisk.source_settings import ImagerySource

QUICK = Manners(answer_s=2, tries=2, backoff_s=0.01)
HERE = [-71.01, 42.30, -70.99, 42.32]
ELSEWHERE = [10.0, 50.0, 10.1, 50.1]
TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def item(name: str, **properties: Any) -> dict[str, Any]:
    """A STAC item over the grid."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "naip",
        "bbox": HERE,
        "geometry": None,
        "links": [],
        "assets": {
            "image": {"href": f"https://pictures.example/{name}.tif", "type": TIFF, "roles": ["data"]}
        },
        "properties": {"datetime": "2021-06-01T16:00:00Z", **properties},
    }


COLLECTION = {
    "type": "Collection",
    "id": "naip",
    "license": "CC0-1.0",
    "providers": [{"name": "USDA", "roles": ["producer"]}, {"name": "A cloud", "roles": ["host"]}],
    "links": [],
}


class Api:
    """A search API with pages of two items, which filters as the standard says."""

    def __init__(self, served: Served, items: list[dict[str, Any]], post: bool = True) -> None:
        self.served, self.items, self.post = served, items, post
        self.asked: list[dict[str, Any]] = []
        for one in items:
            one["links"] = [
                {"rel": "self", "href": served.url(f"v1/collections/naip/items/{one['id']}")},
                {"rel": "collection", "href": served.url("v1/collections/naip")},
            ]
        served.always["/v1"] = self.root
        served.always["/v1/search"] = self.search
        served.always["/v1/collections/naip"] = answer(COLLECTION)

    def root(self, request: Request) -> Reply:
        link = {"rel": "search", "type": "application/geo+json", "href": self.served.url("v1/search")}
        links = [{**link, "method": "GET"}, *([{**link, "method": "POST"}] if self.post else [])]
        return answer({"type": "Catalog", "id": "root", "links": links, "conformsTo": []})

    def search(self, request: Request) -> Reply:
        query = dict(parse_qsl(urlsplit(request.path).query))
        asked = json.loads(request.body) if request.method == "POST" else query
        self.asked.append({"method": request.method, **asked})
        start = int(asked.get("token", 0))
        page = {"type": "FeatureCollection", "features": self.items[start : start + 2], "links": []}
        if start + 2 < len(self.items):
            following = {"rel": "next", "method": request.method, "href": self.served.url("v1/search")}
            if request.method == "POST":
                following |= {"body": {"token": start + 2}, "merge": True}
            else:
                following["href"] += f"?token={start + 2}"
            page["links"] = [following]
        return answer(page)


def answer(document: Any) -> Reply:
    return Reply(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as server:
        yield server


def found(served: Served, query: str = "", path: str = "v1") -> GivenSheets:
    source = ImagerySource(f"stac:{served.url(path)}{query}")
    return catalogue_sheets(source, GRID, silent, QUICK)


def names(given: GivenSheets) -> list[str]:
    return [one.identity["item"] for one in given.found if one.identity]


@pytest.mark.parametrize("post", [True, False], ids=["POST", "GET"])
def test_an_api_is_searched_page_by_page(served: Served, post: bool) -> None:
    api = Api(served, [item(name) for name in "edcba"], post)
    given = found(served, "?collections=naip&datetime=2020/2021-06")
    assert names(given) == list("abcde")
    assert len(api.asked) == 3
    first = api.asked[0]
    assert first["method"] == ("POST" if post else "GET")
    assert first["datetime"] == "2020-01-01T00:00:00Z/2021-06-30T23:59:59Z"
    assert first["collections"] == (["naip"] if post else "naip")
    box = first["bbox"] if post else [float(number) for number in first["bbox"].split(",")]
    assert box == pytest.approx(HERE, abs=0.01)
    assert [one.path for one in given.found][:1] == ["/vsicurl/https://pictures.example/a.tif"]
    assert given.found[0].taken == ("2021-06-01", "2021-06-01")


def test_the_order_of_items_does_not_matter(served: Served) -> None:
    Api(served, [item(name) for name in "abc"])
    forwards = found(served)
    Api(served, [item(name) for name in "cab"])
    assert found(served) == forwards


def test_rights_and_notes(served: Served) -> None:
    old = item("b", start_datetime="2019-05-01T00:00:00Z", end_datetime="2019-05-03T00:00:00Z", datetime=None)
    Api(
        served,
        [
            item("a", **{"eo:cloud_cover": 7}),
            old,
            item("c", datetime=None),
            item("d", **{"eo:cloud_cover": 60}),
        ],
    )
    given = found(served, "?cloud_cover=20")
    assert names(given) == ["a", "b", "c"]
    assert [one.taken for one in given.found] == [
        ("2021-06-01", "2021-06-01"),
        ("2019-05-01", "2019-05-03"),
        None,
    ]
    assert given.notes == (
        f"{served.url('v1')}: 3 items of naip",
        "taken 2019-05-01 to 2021-06-01; 1 say no date",
        "cloud cover 7 to 7 %",
        "1 items with more than 20 % cloud are left out; 2 that do not say are kept",
    )
    assert (given.licence, given.attribution) == ("CC0-1.0", "USDA")


def test_a_licence_that_is_a_document_is_named_by_its_address(served: Served) -> None:
    Api(served, [item("a")])
    terms = {"rel": "license", "href": "https://a.example/terms"}
    served.always["/v1/collections/naip"] = answer({**COLLECTION, "license": "proprietary", "links": [terms]})
    assert found(served).licence == "https://a.example/terms"


def test_only_clouds_is_told(served: Served) -> None:
    Api(served, [item("a", **{"eo:cloud_cover": 60})])
    with pytest.raises(SourceError) as error:
        found(served, "?cloud_cover=20")
    assert str(error.value) == (
        f"{served.url('v1')} has no such item over the region, but 1 with more cloud; widen the search or check "
        "the region"
    )


def test_signed_addresses_are_used_and_not_kept(served: Served) -> None:
    one = item("a", updated="2022-01-01T00:00:00Z")
    one["assets"]["image"] |= {"href": "https://pictures.example/a.tif?sig=SECRET", "file:checksum": "1220ab"}
    Api(served, [one])
    given = found(served)
    (sheet,) = given.found
    assert sheet.path.endswith("?sig=SECRET")
    assert sheet.identity == {
        "item": "a",
        "collection": "naip",
        "asset": "https://pictures.example/a.tif",
        "checksum": "1220ab",
        "updated": "2022-01-01T00:00:00Z",
    }
    assert "SECRET" not in repr(given.notes)


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("s3://bucket/a.tif", "/vsis3/bucket/a.tif"),
        ("a.tif", "/vsicurl/http://127.0.0.1:{port}/v1/collections/naip/items/a.tif"),
        ("/data/a.tif", "/vsicurl/http://127.0.0.1:{port}/data/a.tif"),
    ],
)
def test_where_a_picture_lies(served: Served, href: str, path: str) -> None:
    one = item("a")
    one["assets"]["image"]["href"] = href
    Api(served, [one])
    assert found(served).found[0].path == path.format(port=served.port)


@pytest.mark.parametrize(
    "href", ["file:///etc/passwd", "ftp://a.example/a.tif", "vrt:///etc/passwd", None, 7]
)
def test_a_picture_off_the_web_is_refused(served: Served, href: Any) -> None:
    one = item("a")
    one["assets"]["image"]["href"] = href
    Api(served, [one])
    with pytest.raises(
        SourceError, match=r"which is no address of the web; only http, https and s3 are read$"
    ):
        found(served)


def asset(kind: str, *roles: str, href: str = "x.tif") -> dict[str, Any]:
    return {"href": f"https://pictures.example/{kind}-{href}", "type": TIFF, "roles": list(roles)}


@pytest.mark.parametrize(
    ("assets", "query", "chosen"),
    [
        ({"anything": asset("only")}, "", "only"),
        (
            {"only": asset("only"), "thumbnail": asset("small", "thumbnail"), "meta": {"href": "x.xml"}},
            "",
            "only",
        ),
        ({"visual": asset("visual"), "B02": asset("blue"), "B03": asset("green")}, "", "visual"),
        ({"image": asset("image"), "visual": asset("visual")}, "", "image"),
        ({"rgb": asset("rgb", "visual"), "nir": asset("nir", "reflectance")}, "", "rgb"),
        ({"B02": asset("blue"), "B03": asset("green")}, "?asset=B03", "green"),
        ({"jp2": {"href": "https://pictures.example/jp2-x.jp2"}, "preview": {"href": "y.png"}}, "", "jp2"),
        ({"tif": {"href": "https://pictures.example/tif-x.tif?a#b"}, "v": {"href": "y.vrt"}}, "", "tif"),
    ],
)
def test_the_picture_of_an_item(served: Served, assets: dict[str, Any], query: str, chosen: str) -> None:
    Api(served, [item("a") | {"assets": assets}])
    assert f"/{chosen}-x." in found(served, query).found[0].path


@pytest.mark.parametrize(
    ("query", "wrong"),
    [("", "has no asset that is clearly its picture"), ("?asset=B04", "has no asset B04")],
)
def test_an_unclear_picture_is_told_with_the_choice(served: Served, query: str, wrong: str) -> None:
    Api(served, [item("a") | {"assets": {"B02": asset("blue"), "B03": asset("green")}}])
    with pytest.raises(SourceError) as error:
        found(served, query)
    assert str(error.value) == f"the item a {wrong}; add &asset=KEY to the search, of: B02, B03"


@pytest.fixture
def files(served: Served) -> Served:
    """A catalogue of files, written by pystac."""
    catalog = pystac.Catalog("root", "a catalogue", href=served.url("catalog.json"))
    below = pystac.Catalog("below", "by year")
    catalog.add_child(below)
    for name, box in (("naip", HERE), ("far", ELSEWHERE)):
        space = pystac.SpatialExtent([box])
        time = pystac.TemporalExtent([[datetime.datetime(2019, 1, 1), None]])
        provider = pystac.Provider("USDA", roles=[pystac.ProviderRole.LICENSOR])
        collection = pystac.Collection(
            name, "a", pystac.Extent(space, time), license="CC0-1.0", providers=[provider]
        )
        below.add_child(collection)
        for number in range(3):
            west, south, east, north = box if number < 2 else ELSEWHERE
            when = datetime.datetime(2020 + number, 6, 1)
            ring = [[west, south], [east, south], [east, north], [west, south]]
            shape = {"type": "Polygon", "coordinates": [ring]}
            one = pystac.Item(f"{name}{number}", shape, [west, south, 0.0, east, north, 9.0], when, {})
            one.add_asset("image", pystac.Asset("./x.tif", media_type=pystac.MediaType.COG))
            collection.add_item(one)
    catalog.normalize_hrefs(str(served.folder))
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return served


def test_a_catalogue_of_files_is_walked(files: Served) -> None:
    given = found(files, path="catalog.json")
    assert names(given) == ["naip0", "naip1"]
    assert given.found[0].path == f"/vsicurl/{files.url('below/naip/naip0/x.tif')}"
    assert given.found[0].taken == ("2020-06-01", "2020-06-01")
    assert (given.licence, given.attribution) == ("CC0-1.0", "USDA")
    # what lies elsewhere is not looked into
    assert not any("far0" in r.path for r in files.requests)


def test_a_walk_keeps_to_the_search(files: Served) -> None:
    assert names(found(files, "?datetime=2021/..", path="catalog.json")) == ["naip1"]
    assert names(found(files, "?datetime=../2020", path="catalog.json")) == ["naip0"]
    assert names(found(files, "?collections=naip", path="catalog.json")) == ["naip0", "naip1"]
    with pytest.raises(SourceError, match="has no such item over the region; widen"):
        found(files, "?collections=other", path="catalog.json")


def test_a_walk_in_circles_ends(files: Served) -> None:
    file = files.folder / "below" / "catalog.json"
    below = json.loads(file.read_text())
    below["links"].append({"rel": "child", "href": "../catalog.json"})
    file.write_text(json.dumps(below))
    assert names(found(files, path="catalog.json")) == ["naip0", "naip1"]


def test_a_walk_without_end_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roadrisk.imagery.stac.DEEPEST", 10)

    def deeper(request: Request) -> Reply:
        return answer({"type": "Catalog", "links": [{"rel": "child", "href": f"{request.path}x"}]})

    for depth in range(30):
        served.always[f"/{'x' * depth}"] = deeper
    with pytest.raises(SourceError) as error:
        found(served, path="")
    assert str(error.value) == (
        f"{served.url('')} has no end of items for the region; narrow the search: &collections=...&datetime=FROM/TO"
    )


def test_pages_without_end_are_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roadrisk.imagery.stac.REQUESTS_AT_MOST", 20)
    Api(served, [item("a")])
    link = {"rel": "next", "href": served.url("v1/search")}
    served.always["/v1/search"] = answer(
        {"type": "FeatureCollection", "features": [item("a")], "links": [link]}
    )
    with pytest.raises(SourceError, match="has no end of items"):
        found(served)
    assert len(served.requests) < 30


def test_a_page_on_this_computer_is_not_read(served: Served, tmp_path: Path) -> None:
    (tmp_path / "page.json").write_text(
        json.dumps({"type": "FeatureCollection", "features": [item("local")]})
    )
    for href in (str(tmp_path / "page.json"), f"file://{tmp_path / 'page.json'}"):
        Api(served, [item("a")])
        link = {"rel": "next", "href": href}
        served.always["/v1/search"] = answer(
            {"type": "FeatureCollection", "features": [item("a")], "links": [link]}
        )
        with pytest.raises(SourceError):
            found(served)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(200, b"<html>maintenance</html>"), "answers with no STAC; give the address of the catalogue itself"),
        (Reply(200, b"[]"), "answers with no STAC; give the address of the catalogue itself"),
        (Reply(200, b'{"hello": 1}'), "answers with no STAC; give the address of the catalogue itself"),
        (Reply(200, b"[" * 100_000), "answers with no STAC; give the address of the catalogue itself"),
        (Reply(404, b"{}"), "cannot be had (404 Not Found); check the address"),
        (Reply(500), "could not be fetched (500 Internal Server Error); check the address, or try again later"),
        (Reply(200, b"{" * 50, cut=9), "could not be fetched (the connection broke off); check the address, or try again later"),
    ],
)  # fmt: skip
def test_no_catalogue_there_is_told_in_one_line(served: Served, reply: Reply, why: str) -> None:
    served.always["/v1"] = reply
    with pytest.raises(SourceError) as error:
        found(served)
    assert str(error.value) == f"{served.url('v1')} {why}"


@pytest.mark.parametrize(
    "broken",
    [
        {"id": None},
        {"assets": []},
        {"assets": {"a": 1}},
        {"assets": {"a": {"roles": 3}}},
        {"properties": None},
        {"links": 3},
    ],
)
def test_an_item_of_another_form_is_told_in_one_line(served: Served, broken: dict[str, Any]) -> None:
    api = Api(served, [item("a")])
    api.items[0].update(broken)
    with pytest.raises(SourceError, match=r"answers with no STAC; give the address of the catalogue itself$"):
        found(served)


@pytest.mark.parametrize(
    "said", [{"roles": [{}]}, {"roles": "data"}, {"href": "http://[::1/x.tif"}, {"href": None}]
)
def test_an_asset_of_another_form_is_told(served: Served, said: dict[str, Any]) -> None:
    one = item("a")
    one["assets"]["image"].update(said)
    Api(served, [one])
    with pytest.raises(SourceError, match=r"answers with no STAC; |which is no address of the web; "):
        found(served)


def test_an_address_that_nobody_asks_for_does_no_harm(served: Served) -> None:
    one = item("a")
    one["assets"]["notes"] = {"href": "http://[::1/x.txt"}
    Api(served, [one])
    assert names(found(served)) == ["a"]


@pytest.mark.parametrize(
    "said", [{"links": [1]}, {"links": "x"}, {"providers": [{"roles": [{}]}]}, {"providers": 1}]
)
def test_a_collection_of_another_form_is_told(served: Served, said: dict[str, Any]) -> None:
    Api(served, [item("a")])
    served.always["/v1/collections/naip"] = answer({**COLLECTION, "license": "various", **said})
    with pytest.raises(SourceError, match=r"answers with no STAC; "):
        found(served)


def test_a_collection_without_links(served: Served) -> None:
    Api(served, [item("a")])
    served.always["/v1/collections/naip"] = answer({**COLLECTION, "license": "various", "links": None})
    assert found(served).licence == "various"


def test_an_item_that_ends_before_it_starts_says_no_date(served: Served) -> None:
    Api(served, [item("a", start_datetime="2022-01-01T00:00:00Z", end_datetime="2020-01-01T00:00:00Z")])
    given = found(served)
    assert given.found[0].taken is None
    assert "the items say no date" in given.notes


def test_no_name_steers_a_terminal(served: Served) -> None:
    one = item("a\n\x1b[31m\u202eb") | {"collection": "n\rx", "assets": {"k\x07": asset("k")}}
    Api(served, [one])
    with pytest.raises(SourceError) as error:
        found(served, "?asset=none")
    assert str(error.value) == ("the item a  [31m b has no asset none; add &asset=KEY to the search, of: k ")
    assert found(served).notes[0].endswith(": 1 items of n x")


def test_a_busy_catalogue_is_asked_again(served: Served) -> None:
    Api(served, [item("a")])
    for path in ("/v1", "/v1/search", "/v1/collections/naip"):
        served.faults[path] = [Reply(503, headers={"Retry-After": "0"})]
    assert names(found(served)) == ["a"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (
            "stac:https://a.example/v1?collection=SECRET",
            "stac:https://a.example/v1: collection is unknown; a search has collections, datetime, cloud_cover, asset: "
            "?collections=a,b&datetime=2020-01-01/2021-12-31&cloud_cover=20&asset=image",
        ),
        (
            "stac:/home/me/catalog.json",
            "stac:/home/me/catalog.json is no catalogue; write stac:https://HOST/PATH",
        ),
        (
            "stac:https://a.example/v1?datetime=June",
            "datetime=June is no time; write datetime=2020-01-01/2021-12-31, 2020 or 2020-06/..",
        ),
        (
            "stac:https://a.example/v1?datetime=2020-13",
            "datetime=2020-13 is no time; write datetime=2020-01-01/2021-12-31, 2020 or 2020-06/..",
        ),
        (
            "stac:https://a.example/v1?datetime=2021/2020",
            "datetime=2021/2020 ends before it starts; write datetime=FROM/TO",
        ),
        (
            "stac:https://a.example/v1?cloud_cover=few",
            "cloud_cover=few is no percentage; write cloud_cover=20",
        ),
    ],
)
def test_a_search_that_is_none_is_told(path: str, why: str) -> None:
    with pytest.raises(SourceError) as error:
        search_of(path)
    assert str(error.value) == why


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 12, 31)), st.sampled_from([4, 7, 10]))
def test_a_year_a_month_and_a_day_are_all_of_their_days(day: datetime.date, length: int) -> None:
    text = day.isoformat()[:length]
    search = search_of(f"stac:https://a.example?datetime={text}")
    assert search.first is not None
    assert search.last is not None
    assert search.first <= day.isoformat() <= search.last
    assert search.first[:length] == search.last[:length] == text
    after = datetime.date.fromisoformat(search.last) + datetime.timedelta(1)
    assert after.isoformat()[:length] != text


def test_a_search_asks_for_everything_without_a_query() -> None:
    assert search_of("stac:https://a.example/v1") == Search("https://a.example/v1")
