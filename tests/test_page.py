"""The map page as a file: what stands in it, what cannot, how large it is."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import cv2
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from scored_examples import ABOUT, GRID, HOSTILE, overview, scored_at, scored_grid
from task_examples import SAID, scored_by

from roadrisk.errors import LayerError
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.learning.tasks import Task
from roadrisk.maps.page import (
    PAGE_LIMIT_BYTES,
    STEP_DEG,
    json_in_html,
    mercator_picture,
    page,
    page_data,
    picture_url,
)
from roadrisk.maps.places import GivenShapes, given_points

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
    html = page(scored_grid(about=hostile), None)
    elements = Elements(html)
    assert elements.all_of("img") == []
    assert [name for name, _ in elements.found] == [
        name for name, _ in Elements(page(scored_grid(), None)).found
    ]
    assert ("h1", HOSTILE) in elements.texts
    assert HOSTILE in "".join(text for tag, text in elements.texts if tag == "title")


def test_the_page_asks_nobody_for_anything() -> None:
    elements = Elements(page(scored_grid(), overview()))
    for _, attributes in elements.found:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:,", "#"))
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "sourceMappingURL" not in page(scored_grid(), None)


def test_the_policy_allows_only_the_scripts_and_styles_that_are_there() -> None:
    html = page(scored_grid(), overview())
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
    words = " ".join(text for _, text in Elements(page(scored, None)).texts)
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
    data = _data(page(scored, None))
    columns = {field["name"]: values for field, values in zip(data["fields"], data["columns"], strict=True)}
    table = scored.table
    assert columns["tile_id"] == table["tile_id"].tolist()
    assert columns["town"] == [
        None if name is None else name
        for name in table["town"].astype(object).where(table["town"].notna(), None)
    ]
    found = np.array(columns["risk"], dtype=float)
    np.testing.assert_allclose(found, table["risk"], rtol=1e-5)
    names = [None if i is None else data["bands"][i]["name"] for i in columns["band"]]
    assert names == table["band"].astype(object).where(table["band"].notna(), None).tolist()
    assert sum(band["count"] for band in data["bands"]) + data["unscored"] == len(table)
    assert {field["name"]: field["unit"] for field in data["fields"]}["road_m"] == "m"


@pytest.mark.parametrize("task", SAID, ids=lambda task: task.kind + str(task.outputs))
def test_the_page_says_what_the_task_does(task: Task) -> None:
    scored = scored_by(task)[0]
    html = page(scored, None)
    data = _data(html)
    meanings = {field["name"]: field["meaning"] for field in data["fields"]}
    assert all(words in meanings[name] for name, words in SAID[task].items())
    assert scored.about.risk_meaning in " ".join(text for _, text in Elements(html).texts)
    ranks = data["columns"][[field["name"] for field in data["fields"]].index("rank")]
    assert ranks == [None if rank is pd.NA else rank for rank in scored.table["rank"].tolist()]


@pytest.mark.parametrize("task", SAID, ids=lambda task: task.kind + str(task.outputs))
def test_the_list_of_the_riskiest_shows_what_ranks_them(task: Task) -> None:
    listed = _data(page(scored_by(task)[0], None))["listed"]
    assert listed == ("expected" if task.kind == "count" else "risk")


def test_shapes_are_where_the_tiles_are() -> None:
    data = page_data(scored_grid())
    true = GRID.cells(*GRID.every_tile(), "EPSG:4326")
    for steps, square in zip(data["shapes"], true, strict=True):
        ((ring,),) = steps
        vertices = np.array(data["origin"]) + np.cumsum(np.array(ring).reshape(-1, 2), axis=0) * STEP_DEG
        away = np.abs(vertices - shapely.get_coordinates(square)[:-1]).max()
        assert away <= STEP_DEG / 2 * 1.001


def test_points_holes_and_nothing_have_their_shapes() -> None:
    ring = [(0, 0), (2, 0), (2, 2), (0, 2)]
    holed = shapely.Polygon(ring, holes=[[(0.5, 0.5), (0.5, 1), (1, 1)]])
    two = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 3, 4, 4)])
    places = GivenShapes(np.array([shapely.Point(1, 2), holed, two, None]), "EPSG:4326")
    point, with_hole, parts, nothing = page_data(scored_at(places, np.array(list("abcd"))))["shapes"]
    assert point == [1_000_000, 2_000_000]
    assert [len(polygon) for polygon in with_hole] == [2]
    assert [len(polygon) for polygon in parts] == [1, 1]
    assert nothing is None


def test_tiles_that_lie_nowhere_or_on_lines_make_no_page() -> None:
    nowhere = scored_at(given_points([np.nan], [np.nan]), np.array(["a"]))
    with pytest.raises(LayerError, match=r"needs tiles that lie somewhere; write \.csv"):
        page(nowhere, None)
    lines = GivenShapes(np.array([shapely.LineString([(0, 0), (1, 1)])]), "EPSG:4326")
    with pytest.raises(LayerError, match=r"not a LineString; write \.gpkg"):
        page(scored_at(lines, np.array(["a"])), None)


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


def test_the_page_stays_under_its_limit() -> None:
    scored = scored_grid()
    bare = len(page(scored, None).encode())
    limit = bare + 30_000
    html = page(scored, overview(noise=True), limit)
    assert bare + 3_000 < len(html.encode()) <= limit
    assert _data(html)["picture"]["url"].startswith("data:image/webp;base64,")
    with pytest.raises(LayerError, match=r"leave no room for a picture; write \.gpkg"):
        page(scored, overview(noise=True), bare + 1_100)
    with pytest.raises(
        LayerError, match=r"a page of \d+ tiles takes .* MB without a picture; the most is .* MB"
    ):
        page(scored, None, bare - 1)


def test_a_metro_of_fifty_thousand_tiles_fits() -> None:
    grid = grid_of_cell(LngLatBbox(-71.35, 42.20, -70.95, 42.42), 130)
    assert grid.size > 50_000
    assert len(page(scored_grid(grid), None).encode()) < PAGE_LIMIT_BYTES
