"""Printable sheets: a page a place with all that is known of it, in letters, on both kinds of paper."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import chromium
import cv2
import numpy as np
import pandas as pd
import pytest
from scored_examples import ABOUT, GRID, HOSTILE, Pictured, scored_at, scored_grid
from task_examples import COUNT, scored_by

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import given_points
from roadrisk.maps.sheet_figures import picture_url, region_map, scale_bar, sides_m
from roadrisk.maps.sheets import said, sheets, write_sheets

BROWSER = pytest.mark.skipif(
    chromium.EXECUTABLE is None, reason="Chromium is absent: apt-get install chromium"
)
PAPERS = {"A4": (210 / 25.4, 297 / 25.4), "Letter": (8.5, 11)}
READY = "document.readyState === 'complete' && document.querySelector('#meanings') !== null"


class Text(HTMLParser):
    """The text of each sheet, blanks as one."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sheets: list[str] = []
        self.feed(page)
        self.sheets = [" ".join(sheet.split()) for sheet in self.sheets]

    def handle_starttag(self, tag: str, attributes: list) -> None:
        if tag == "article":
            self.sheets.append("")

    def handle_data(self, data: str) -> None:
        if self.sheets:
            self.sheets[-1] += f" {data}"


def riskiest(layer: Layer, many: int) -> Layer:
    order = layer.table["rank"].astype("float64").fillna(np.inf).to_numpy()
    return layer.taken(np.argsort(order, kind="stable")[:many])


def with_column(layer: Layer, name: str, values: list, unit: str = "") -> Layer:
    column = Column(name, "object", unit, "info", "none", "Made for a test.")
    return replace(layer, table=layer.table.assign(**{name: values}), columns=(*layer.columns, column))


def top(many: int = 5, title: str = ABOUT.title) -> Layer:
    """The riskiest tiles, with reasons."""
    layer = riskiest(scored_grid(about=replace(ABOUT, title=title), pictures=Pictured(side_px=64)), many)
    layer = with_column(layer, "why", [f"The picture of place {i} says so." for i in range(many)])
    return with_column(layer, "reason_facts", [0.25 * i for i in range(many)], "logit")


def test_a_page_each_in_the_order_of_the_layer() -> None:
    layer = top()
    found = Text(sheets(layer)).sheets
    assert len(found) == len(layer) + 1
    lng, lat = layer.placed().centres()
    for i, (text, row) in enumerate(zip(found, layer.table.to_dict("records"), strict=False)):
        assert text.startswith(f"Boston & around {i + 1} of 5 Rank {i + 1} {row['band']}")
        assert f"Tile ID {row['tile_id']} Middle (lon, lat) {lng[i]:.5f}, {lat[i]:.5f}" in text
        assert f"Risk {row['risk']:.3g} " in text
        assert f"Why The picture of place {i} says so. " in text
        assert (f"Facts: {0.25 * i:+.2f}" in text) == (i > 0)
        assert f"Road (m) {said(row['road_m'])}" in text
        assert "An association, not a cause. Model 0123456789abcdef." in text
        assert "Dates of label: 2024-01-01 to before 2025-01-01." in text
        assert "Sources: © OpenStreetMap contributors. Licence: ODbL 1.0." in text
    assert "Road (m) length of roads. Unit: m." in found[-1]


def test_a_count_says_what_was_observed_and_what_was_expected_with_their_ends() -> None:
    scored = scored_by(COUNT, known=True)[0]
    known = scored.taken(np.flatnonzero(scored.table["eb"].notna())[:1])
    (row,) = known.table.to_dict("records")
    text = Text(sheets(known)).sheets[0]
    for words, name in (("Expected", "expected"), ("Empirical Bayes", "eb")):
        ends = f"{said(row[f'{name}_low'])} to {said(row[f'{name}_high'])}"
        assert f"{words} {said(row[name])} events {ends}" in text
    assert f"Observed {said(row['observed'])} events" in text
    assert f"Excess {said(row['excess'])} events" in text
    assert f"Next count {said(row['next_low'])} to {said(row['next_high'])} events" in text
    # what is said large is not said again
    assert "Expected low" not in text


def test_the_unknown_is_neither_zero_nor_low() -> None:
    scored = scored_grid(pictures=Pictured())
    nowhere = scored.table["risk"].isna().to_numpy() & scored.table["town"].isna().to_numpy()
    page = sheets(scored.taken(np.flatnonzero(nowhere)[:1]))
    text = Text(page).sheets[0]
    assert "Place 1 not scored" in text
    assert "Risk not known" in text
    assert "Town not known" in text
    assert 'fill="url(#hatch)" stroke' in page


def test_pictures_are_those_of_the_tile_and_a_missing_one_is_said() -> None:
    layer = top(8)
    page = sheets(layer)
    articles = re.split(r"<article", page)[1:-1]
    seen = []
    for article, tile_id in zip(articles, layer.table["tile_id"], strict=True):
        urls = re.findall(r'<img src="data:image/webp;base64,([^"]+)"', article)
        pixels = layer.pictures.picture(tile_id, "aerial")
        seen.append(pixels is not None)
        if pixels is None:
            assert urls == []
            assert article.count("There is no picture of this place in the view") == 2
            continue
        aerial, mask = (
            cv2.cvtColor(
                cv2.imdecode(np.frombuffer(base64.b64decode(url), np.uint8), cv2.IMREAD_COLOR),
                cv2.COLOR_BGR2RGB,
            )
            for url in urls
        )
        assert np.abs(aerial[..., 0].astype(int) - pixels[0]).max() <= 3
        np.testing.assert_array_equal(mask, layer.pictures.picture(tile_id, "roads")[:3].transpose(1, 2, 0))
    assert set(seen) == {True, False}
    assert "There is no picture of this place." in sheets(replace(layer, pictures=None))


def test_the_opacity_of_a_picture_is_kept() -> None:
    pixels = np.zeros((4, 20, 30), np.uint8)
    pixels[0], pixels[3, :, :15] = 200, 255
    data = base64.b64decode(picture_url(pixels).partition(",")[2])
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found[..., 3], pixels[3])
    assert found.shape == (20, 30, 4)


def test_a_mask_loses_nothing() -> None:
    chance = np.random.default_rng(0)
    pixels = np.repeat(chance.choice(np.array([0, 255], np.uint8), (1, 32, 32)), 4, axis=0)
    pixels[3] = 255
    found = cv2.imdecode(
        np.frombuffer(base64.b64decode(picture_url(pixels).partition(",")[2]), np.uint8), cv2.IMREAD_COLOR
    )
    np.testing.assert_array_equal(found.transpose(2, 0, 1), pixels[:3])


@pytest.mark.parametrize(
    ("side_m", "words", "length_m"),
    [(250, "100 m", 100), (64, "20 m", 20), (500, "200 m", 200), (4_500, "2 km", 2_000), (2.4, "1 m", 1)],
)
def test_a_scale_bar_is_as_long_as_it_says(side_m: float, words: str, length_m: float) -> None:
    bar = scale_bar(side_m)
    assert bar.words == words
    assert bar.share * side_m == pytest.approx(length_m)


def test_the_scale_is_of_the_ground_and_only_where_it_is_known() -> None:
    # half a kilometre of UTM is that on the ground, within its scale of at most 0.1 %
    assert sides_m(GRID_PLACES, GRID.size) == pytest.approx([500] * GRID.size, rel=1e-3)
    assert sides_m(given_points([-71.1], [42.3]), 1) == [None]
    page = sheets(replace(top(3), places=given_points([-71.1] * 3, [42.3] * 3)))
    assert 'class="scale"' not in page
    assert 'class="scale"' in sheets(top(3))


GRID_PLACES = scored_grid().placed()


def test_places_lie_where_they_are_in_the_picture_of_the_region() -> None:
    layer = scored_grid(pictures=Pictured())
    drawn = region_map(layer.placed(), layer.pictures.overview())
    rows, cols = GRID.every_tile()
    x, y = np.array(drawn.marks).T
    np.testing.assert_allclose(x / drawn.width * GRID.cols, cols + 0.5, atol=0.02)
    np.testing.assert_allclose(y / drawn.height * GRID.rows, rows + 0.5, atol=0.02)


def test_without_a_picture_places_lie_as_on_a_map() -> None:
    drawn = region_map(given_points([10.0, 10.2, np.nan, 10.0], [60.0, 60.0, 60.0, 60.1]), None)
    (ax, ay), (bx, by), nowhere, (cx, cy) = drawn.marks
    assert nowhere is None
    assert len(drawn.dots) == 3
    assert ay == by > cy  # north is up
    assert ax == cx < bx
    # at 60 degrees a degree of longitude is half as long as one of latitude
    assert (bx - ax) / (ay - cy) == pytest.approx(1, abs=0.01)
    assert region_map(given_points([10.0], [60.0]), None) is None


def test_a_table_without_places_or_ranks_is_printed_too() -> None:
    layer = scored_at(None, np.array(["a", "b"]))
    table = layer.table.drop(columns=["rank"])
    columns = tuple(column for column in layer.columns if column.name != "rank")
    first, second, _ = Text(sheets(replace(layer, table=table, columns=columns))).sheets
    assert "Place 1" in first
    assert "Place 2" in second
    assert "Middle (lon, lat) not known" in first
    roads = Layer(
        pd.DataFrame({"link": ["A 7"], "risk": [0.5], "band": ["top 5 %"]}),
        tuple(Column(name, "object", "", "info", "none", "") for name in ("link", "risk", "band")),
        None,
        ABOUT,
    )
    assert "Link A 7" in Text(sheets(roads)).sheets[0]


def test_no_place_is_an_error_in_one_line() -> None:
    with pytest.raises(LayerError) as said:
        sheets(top().taken(np.arange(0)))
    assert str(said.value) == "there is no place to print a sheet of; ask for one place or more"


def test_the_same_layer_is_the_same_file(tmp_path: Path) -> None:
    write_sheets(top(), tmp_path / "a")
    write_sheets(top(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sheets") / "hostile.html"
    layer = top(title=HOSTILE)
    layer = replace(layer, table=layer.table.assign(why=HOSTILE * 3))
    write_sheets(layer, path)
    return path


@BROWSER
def test_it_opens_offline_in_silence_and_shows_hostile_words_as_letters(
    tab: chromium.Tab, page: Path
) -> None:
    tab.events.clear()
    tab.open(page, READY)
    assert tab.complaints() == []
    assert {address.split(":")[0] for address in tab.requests()} == {"file", "data"}
    assert tab.value("document.scripts.length") == 0
    assert tab.value("[...document.images].every(image => image.src.startsWith('data:image/webp'))")
    assert tab.value("document.querySelector('.kind span').textContent") == HOSTILE
    assert tab.value("document.title").startswith(HOSTILE)
    assert HOSTILE in tab.value("document.querySelector('.facts').textContent")


@BROWSER
@pytest.mark.parametrize("paper", PAPERS)
def test_each_place_is_one_page_of_paper(tab: chromium.Tab, page: Path, paper: str) -> None:
    tab.open(page, READY)
    width, height = PAPERS[paper]
    printed = tab.call(
        "Page.printToPDF", paperWidth=width, paperHeight=height, printBackground=False, preferCSSPageSize=True
    )
    assert base64.b64decode(printed["data"]).count(b"/Type /Page\n") == 6  # five places and the meanings


@BROWSER
@pytest.mark.parametrize("width", [320, 768])
def test_a_phone_shows_it_without_sideways_scrolling(tab: chromium.Tab, page: Path, width: int) -> None:
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    tab.open(page, READY)
    assert tab.value("document.documentElement.scrollWidth") <= width
