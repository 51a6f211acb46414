"""The map page as a file: what stands in it, what cannot, how large it is."""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from scored_examples import ABOUT, GRID, HOSTILE, Pictured, overview, scored_at, scored_grid
from task_examples import SAID, scored_by

from roadrisk.errors import LayerError
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.learning.tasks import Task
from roadrisk.maps.bands import RISK_LEGEND
from roadrisk.maps.layer import Layer
from roadrisk.maps.legend import Legend, Shade
from roadrisk.maps.page import PAGE_LIMIT_BYTES, layer_config, page, rows_in_order, served_page
from roadrisk.maps.page.blocks import ROWS_A_BLOCK, STEP_DEG, stepped
from roadrisk.maps.page.document import json_in_html
from roadrisk.maps.page.tile_pictures import riskiest_pictures
from roadrisk.maps.page.underlay import mercator_picture, picture_url
from roadrisk.maps.places import given_points
from roadrisk.maps.styles.maplibre import style_layers
from roadrisk.maps.vector_tiles import vector_tiles

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from([HOSTILE, "<!--", "]]>", "\u2028&amp;"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


class Elements(HTMLParser):
    """What a browser's parser makes of a page: elements with their attributes, and the text inside each."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.texts.append((self.found[-1][0], data))

    def all_of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def _data(html: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(text)


def _texts(html: str) -> dict[str, str]:
    """What the page holds, by id."""
    return dict(re.findall(r'<script type="text/plain" id="([^"]+)">([^<]*)</script>', html))


def _unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def _columns(html: str, k: int = 0) -> dict[str, list]:
    """All values of a layer of a page, by field."""
    fields, texts = _data(html)["layers"][k]["fields"], _texts(html)
    parts = [json.loads(_unpacked(text)) for id, text in texts.items() if id.startswith(f"rows-{k}-")]
    return {
        field["name"]: [value for part in parts for value in part["columns"][i]]
        for i, field in enumerate(fields)
    }


@given(json_values)
def test_json_in_html_is_the_same_json_without_markup(value: object) -> None:
    text = str(json_in_html(value))
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


def test_hostile_words_add_no_element() -> None:
    hostile = replace(
        ABOUT,
        title=HOSTILE,
        risk_meaning=HOSTILE,
        label_meaning=HOSTILE,
        licence=HOSTILE,
        attribution=HOSTILE,
        model=HOSTILE,
        windows={HOSTILE: (HOSTILE, HOSTILE)},
    )
    html = page([scored_grid(about=hostile)])
    elements = Elements(html)
    assert elements.all_of("img") == []
    assert [name for name, _ in elements.found] == [name for name, _ in Elements(page([scored_grid()])).found]
    assert ("h1", HOSTILE) in elements.texts
    assert HOSTILE in "".join(text for tag, text in elements.texts if tag == "title")


def test_the_page_asks_nobody_for_anything() -> None:
    elements = Elements(page([scored_grid(pictures=Pictured())]))
    for _, attributes in elements.found:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:,", "#"))
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "sourceMappingURL" not in page([scored_grid()])


def test_the_policy_allows_only_the_scripts_and_styles_that_are_there() -> None:
    html = page([scored_grid(pictures=Pictured())])
    policy = Elements(html).all_of("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy["content"]).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "data: blob:"
    assert rules["img-src"] == "data: blob:"
    assert rules["worker-src"] == "blob:"
    for kind in ("script", "style"):
        inside = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        hashes = [f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in inside]
        assert len(hashes) == 2
        assert rules[f"{kind}-src"].split() == hashes
    assert "unsafe" not in str(policy["content"])


def test_the_page_says_what_a_reader_must_know() -> None:
    scored = scored_grid()
    words = " ".join(text for _, text in Elements(page([scored])).texts)
    for told in (
        ABOUT.title,
        ABOUT.risk_meaning,
        ABOUT.licence,
        ABOUT.attribution,
        ABOUT.model,
        "2024-01-01",
    ):
        assert told in words
    assert "Redistribution and use in source and binary forms" in words  # MapLibre's licence asks for it
    assert "not scored" in words


def test_the_data_are_the_tables() -> None:
    scored = scored_grid()
    columns, table = _columns(page([scored])), scored.table
    assert columns["tile_id"] == table["tile_id"].tolist()
    for name in ("town", "band", "label"):
        assert columns[name] == table[name].astype(object).where(table[name].notna(), None).tolist()
    found = np.array(columns["risk"], dtype=float)
    np.testing.assert_allclose(found, table["risk"], rtol=1e-5)


def test_the_page_is_told_what_the_layer_is() -> None:
    scored = scored_grid()
    config = _data(page([scored]))["layers"][0]
    assert config["about"] == json.loads(json.dumps(ABOUT.as_json()))
    assert config["legend"] == RISK_LEGEND.as_json()
    assert config["counts"] == {
        value: int((scored.table["band"] == value).sum()) for value in RISK_LEGEND.values
    }
    assert config["absent"] == int(scored.table["band"].isna().sum())
    assert config["count"] == len(scored) == config["ranked"] + config["absent"]
    some = scored.taken(np.arange(10))
    told = layer_config(some, vector_tiles(some))
    assert told["ranked_in_all"] == config["ranked_in_all"] == config["ranked"] > told["ranked"]
    assert config["style"] == style_layers(RISK_LEGEND, ["Polygon"], config["zooms"][1])
    road = next(field for field in config["fields"] if field["name"] == "road_m")
    assert road == {
        "name": "road_m",
        "unit": "m",
        "alias": "Road (m)",
        "meaning": "length of roads. Unit: m.",
        "role": "feature",
    }
    assert (config["named"], config["listed"], config["geometry"]) == ("tile_id", "risk", "Polygon")
    lng, lat = scored.placed().centres()
    west, south, east, north = config["bounds"]
    assert west < lng.min() < lng.max() < east
    assert south < lat.min() < lat.max() < north


@pytest.mark.parametrize("task", SAID, ids=lambda task: task.kind + str(task.outputs))
def test_the_page_says_what_the_task_does(task: Task) -> None:
    scored = scored_by(task)[0]
    html = page([scored])
    config = _data(html)["layers"][0]
    meanings = {field["name"]: field["meaning"] for field in config["fields"]}
    assert all(words in meanings[name] for name, words in SAID[task].items())
    assert scored.about.risk_meaning in " ".join(text for _, text in Elements(html).texts)
    assert config["listed"] == ("expected" if task.kind == "count" else "risk")


def test_the_vector_tiles_of_the_page_are_the_layers() -> None:
    scored = scored_grid()
    tiles, held = vector_tiles(scored), _texts(page([scored]))
    low, high = tiles.zooms
    found = {id: _unpacked(text) for id, text in held.items() if id.startswith("tile-")}
    assert found == {
        f"tile-0-{z}-{x}-{y}": tiles.tile(z, x, y)
        for z in range(low, high + 1)
        for x, y in tiles.addresses(z)
    }


def test_rows_lie_in_blocks_that_are_unpacked_one_at_a_time() -> None:
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 500)
    scored = scored_grid(grid)
    assert len(scored) > ROWS_A_BLOCK
    html = page([scored])
    config, texts = _data(html)["layers"][0], _texts(html)
    last = (len(scored) - 1) // ROWS_A_BLOCK
    assert sorted(id for id in texts if id.startswith("rows-")) == [f"rows-0-{i}" for i in range(last + 1)]
    block = json.loads(_unpacked(texts[f"rows-0-{last}"]))
    ids = block["columns"][[field["name"] for field in config["fields"]].index("tile_id")]
    assert ids == scored.table["tile_id"].tolist()[last * ROWS_A_BLOCK :]
    lng, lat = scored.placed().centres()
    west, south, east, north = config["boxes"][last]
    assert ((lng[last * ROWS_A_BLOCK :] > west) & (lng[last * ROWS_A_BLOCK :] < east)).all()
    assert ((lat[last * ROWS_A_BLOCK :] > south) & (lat[last * ROWS_A_BLOCK :] < north)).all()


def test_the_order_is_by_rank_with_ties_as_the_rows_stand() -> None:
    scored = scored_grid()
    ranks = scored.table["rank"].copy()
    ranks[ranks == 3] = 2
    tied = replace(scored, table=scored.table.assign(rank=ranks))
    order = rows_in_order(tied).tolist()
    expected = ranks.dropna().astype(int).sort_values(kind="stable").index.tolist()
    held = json.loads(_unpacked(_texts(page([tied]))["order-0"]))
    assert order == expected == held["rows"]
    assert held["ranks"] == tied.table["rank"][expected].tolist()


def test_without_ranks_the_classes_and_the_listed_field_say_the_order() -> None:
    scored = scored_grid()
    columns = tuple(c for c in scored.columns if c.name != "rank")
    bare = replace(scored, table=scored.table.drop(columns="rank"), columns=columns)
    risk = bare.table["risk"].to_numpy()
    order = rows_in_order(bare)
    assert set(order.tolist()) == set(np.flatnonzero(~np.isnan(risk)).tolist())
    assert (np.diff(risk[order]) <= 0).all()  # bands follow the risk
    turned = replace(bare, legend=Legend("Risk", "band", tuple(reversed(RISK_LEGEND.shades))))
    codes = [turned.legend.values.index(turned.table["band"][row]) for row in rows_in_order(turned)]
    assert codes == sorted(codes)


def _vertices(steps: list[int], origin: list[float]) -> np.ndarray:
    return np.array(origin) + np.cumsum(np.array(steps).reshape(-1, 2), axis=0) * STEP_DEG


def test_shapes_are_where_the_tiles_are() -> None:
    html = page([scored_grid()])
    origin = _data(html)["layers"][0]["origin"]
    shapes = json.loads(_unpacked(_texts(html)["rows-0-0"]))["shapes"]
    true = GRID.cells(*GRID.every_tile(), "EPSG:4326")
    for (kind, (ring,)), square in zip(shapes, true, strict=True):
        assert kind == "Polygon"
        away = np.abs(_vertices(ring, origin) - shapely.get_coordinates(square)[:-1]).max()
        assert away <= STEP_DEG / 2 * 1.001


def test_points_lines_holes_and_nothing_have_their_shapes() -> None:
    origin = np.zeros(2)
    ring = [(0, 0), (2, 0), (2, 2), (0, 2)]
    holed = shapely.Polygon(ring, holes=[[(0.5, 0.5), (0.5, 1), (1, 1)]])
    two = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 3, 4, 4)])
    assert stepped(shapely.Point(1, 2), origin) == ["Point", [1_000_000, 2_000_000]]
    line = shapely.LineString([(1, 2), (1.5, 2), (1.5, 1)])
    assert stepped(line, origin) == ["LineString", [1_000_000, 2_000_000, 500_000, 0, 0, -1_000_000]]
    assert [len(rings) for rings in stepped(holed, origin)[1:]] == [2]
    assert [len(rings) for rings in stepped(two, origin)[1:]] == [1, 1]
    assert stepped(None, origin) is None
    mixed = shapely.GeometryCollection([line, shapely.Point(0, 0)])
    with pytest.raises(LayerError, match=r"^a map page draws points, lines and polygons, not a Geometry"):
        stepped(mixed, origin)


def test_tiles_that_lie_nowhere_make_no_page() -> None:
    nowhere = scored_at(given_points([np.nan], [np.nan]), np.array(["a"]))
    with pytest.raises(LayerError, match=r"^a map page needs tiles that lie somewhere; write \.csv$"):
        page([nowhere])


def test_a_page_shows_one_to_three_layers() -> None:
    scored = scored_grid()
    other = replace(
        scored,
        about=replace(ABOUT, title="Another"),
        legend=Legend("Town", "band", (Shade("top 5 %", "#112233"), *RISK_LEGEND.shades[1:])),
    )
    html = page([scored, other, scored])
    assert [layer["title"] for layer in _data(html)["layers"]] == [ABOUT.title, "Another", ABOUT.title]
    assert _data(html)["layers"][1]["legend"]["shades"][0] == {"value": "top 5 %", "colour": "#112233"}
    assert _columns(html, 1) == _columns(html, 0)
    for number in (0, 4):
        with pytest.raises(
            LayerError, match=rf"^a map page shows one to three layers, not {number}; write several"
        ):
            page([scored] * number)


def test_the_served_page_holds_no_row_and_asks_only_its_server() -> None:
    scored = scored_grid(about=replace(ABOUT, title=HOSTILE))
    html = served_page([layer_config(scored, vector_tiles(scored))], ["aerial", HOSTILE])
    assert _texts(html) == {}
    assert _data(html)["mode"] == "served"
    assert _data(html)["views"] == ["aerial", HOSTILE]
    assert Elements(html).all_of("img") == []
    policy = str(Elements(html).all_of("meta")[1]["content"])
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == rules["img-src"] == "'self' data: blob:"
    assert "unsafe" not in policy


def test_same_layer_same_bytes() -> None:
    assert page([scored_grid(pictures=Pictured())]) == page([scored_grid(pictures=Pictured())])


def test_the_picture_lies_where_its_region_lies() -> None:
    picture = mercator_picture(overview())
    height, width = picture.pixels.shape[:2]
    to_mercator = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    (left, top), _, (right, bottom), _ = (to_mercator.transform(*corner) for corner in picture.corners)
    to_grid = Transformer.from_crs("EPSG:3857", GRID.crs, always_xy=True)
    px, py = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = to_grid.transform(left + (right - left) * px / width, top + (bottom - top) * py / height)
    bounds = GRID.bounds
    u, v = (x - bounds.left) / (bounds.right - bounds.left), (bounds.top - y) / (bounds.top - bounds.bottom)
    margin = 0.02
    west, east = (u > margin) & (u < 0.5 - margin), (u > 0.5 + margin) & (u < 1 - margin)
    north, south = (v > margin) & (v < 0.5 - margin), (v > 0.5 + margin) & (v < 1 - margin)
    assert (picture.pixels[west & north] == [255, 0, 0, 255]).all()
    assert (picture.pixels[east & north] == [0, 0, 255, 255]).all()
    assert (picture.pixels[west & south] == [0, 0, 255, 255]).all()
    assert (picture.pixels[east & south][:, 3] == 0).all()
    assert (picture.pixels[(u < -margin) | (v > 1 + margin)][:, 3] == 0).all()


def test_what_is_clear_does_not_darken_the_picture_beside_it() -> None:
    for limit_px in (4096, 100):
        pixels = mercator_picture(overview(side_px=40), limit_px).pixels
        seen = pixels[pixels[..., 3] > 0].astype(int)
        assert (seen[:, 0] + seen[:, 2]).min() >= 253  # red and blue mix; black would lower both


def test_a_large_picture_is_shrunk_to_the_limit() -> None:
    picture = mercator_picture(overview(side_px=40), limit_px=100)
    assert max(picture.pixels.shape[:2]) == 100
    assert picture.pixels[20, 20].tolist() == [255, 0, 0, 255]


def test_a_picture_in_mercator_is_not_resampled() -> None:
    grid = grid_of_zoom(LngLatBbox(-71.15, 42.34, -71.10, 42.37), 14)
    given_picture = overview(grid, side_px=16, noise=True)
    moved = mercator_picture(given_picture).pixels
    np.testing.assert_array_equal(moved[..., :3].transpose(2, 0, 1), given_picture.pixels)
    assert (moved[..., 3] == 255).all()


@settings(max_examples=12, deadline=None)
@given(st.integers(3_000, 200_000))
def test_a_picture_gives_way_until_it_fits(limit: int) -> None:
    picture = mercator_picture(overview(noise=True))
    url = picture_url(picture, limit)
    assert len(url) <= limit
    encoded = np.frombuffer(base64.b64decode(url.split(",", 1)[1]), dtype=np.uint8)
    assert cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED).shape[2] == 4


class Noisy(Pictured):
    """Pictures that do not compress."""

    def picture(self, tile_id: str, view: str) -> np.ndarray | None:
        plain = super().picture(tile_id, view)
        if plain is None:
            return None
        rough = np.random.default_rng(zlib.crc32(f"{view} {tile_id}".encode())).integers(
            0, 256, plain.shape, dtype=np.uint8
        )
        rough[3] = 255
        return rough


def _noisy() -> Layer:
    return scored_grid(pictures=Noisy(overview(noise=True), side_px=64))


def test_the_page_holds_the_pictures_of_the_riskiest() -> None:
    pictures = Pictured(side_px=300)
    scored = scored_grid(pictures=pictures)
    html = page([scored])
    config, texts = _data(html)["layers"][0], _texts(html)
    assert config["views"] == ["aerial", "roads"]
    ids = scored.table["tile_id"]
    seen = [row for row in rows_in_order(scored).tolist() if pictures.picture(ids[row], "aerial") is not None]
    assert config["pictured"] == len(seen) > 0
    assert list(config["pictures"]) == [str(row) for row in seen]
    # the mask is the same in all tiles, and stands there once
    assert len({numbers[1] for numbers in config["pictures"].values()}) == 1
    assert {f"picture-{n}" for numbers in config["pictures"].values() for n in numbers} == {
        id for id in texts if id.startswith("picture-")
    }
    row = seen[0]
    number = config["pictures"][str(row)][0]
    picture = cv2.imdecode(
        np.frombuffer(base64.b64decode(texts[f"picture-{number}"]), np.uint8), cv2.IMREAD_COLOR
    )
    assert picture.shape == (256, 256, 3)
    assert abs(int(picture[99, 99, 2]) - int(pictures.picture(ids[row], "aerial")[0, 0, 0])) < 8


def test_pictures_give_way_until_they_fit_and_the_riskiest_keep_theirs() -> None:
    scored = _noisy()
    whole = riskiest_pictures([scored], 10_000_000)
    sizes, held = {}, {}
    for limit in (10_000_000, 300_000, 100_000, 20_000, 100):
        made = riskiest_pictures([scored], limit)
        sizes[limit] = sum(map(len, made.texts))
        assert sizes[limit] <= limit
        assert list(made.held[0]) == list(whole.held[0])[: len(made.held[0])]  # the first in rank
        held[limit] = len(made.held[0])
    assert held[100] == 0 < held[20_000] < held[300_000] == held[10_000_000]
    assert sizes[300_000] < sizes[10_000_000]


def test_layers_of_one_region_share_their_pictures() -> None:
    scored = _noisy()
    turned = scored.taken(np.arange(len(scored))[::-1])
    alone, three = (
        riskiest_pictures([scored], 10_000_000),
        riskiest_pictures([scored, turned, scored], 10_000_000),
    )
    assert sorted(three.texts) == sorted(alone.texts)
    assert three.held[0] == three.held[2]
    last = len(scored) - 1
    assert {last - row: numbers for row, numbers in three.held[1].items()} == three.held[0]
    config = _data(page([scored, turned]))["layers"]
    assert config[0]["pictured"] == config[1]["pictured"] == len(alone.held[0])


def test_the_page_stays_under_its_limit() -> None:
    bare = len(page([scored_grid()]).encode())
    for room in (30_000, 200_000):
        html = page([_noisy()], bare + room)
        assert bare + 0.5 * room < len(html.encode()) <= bare + room
        assert "underlay" in _texts(html)
    with pytest.raises(
        LayerError, match=r"leave no room for a picture of the region; write \.gpkg and open it"
    ):
        page([_noisy()], bare + 2_500)
    too_large = (
        r"^a page of 80 features takes 1\.\d MB without pictures; the most is 1\.\d+ MB: write \.gpkg and "
        r"open it by `roadrisk view`$"
    )
    with pytest.raises(LayerError, match=too_large):
        page([scored_grid()], bare - 1)


def test_a_metro_of_fifty_thousand_tiles_fits() -> None:
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 130)
    assert grid.size > 50_000
    assert len(page([scored_grid(grid)]).encode()) < PAGE_LIMIT_BYTES / 2
