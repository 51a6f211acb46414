"""The page of a road model: its numbers are those measured, its overlays tell three things apart, it runs nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import chromium
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from road_report_examples import (
    METHODS,
    bare_report,
    hostile_report,
    made_up_unit,
    road_report,
    shown,
    weak_report,
)
from scored_examples import HOSTILE

from roadrisk.reporting.roads.overlays import FOUND, MISSED, WRONG, Mark, overlay, picture_and_overlay
from roadrisk.reporting.roads.page import road_report_html
from roadrisk.reporting.roads.report import RoadReport
from roadrisk.reporting.roads.tables import fold_table, score_table
from roadrisk.reporting.roads.words import HEADS, WEAK
from roadrisk.roads.judging.measures import METRICS

LIMIT_BYTES = 5_000_000
IN_ORDER = ("summary", "good", "level", "folds", "drawn", "learning", "source", "origin", "glossary")
IN_CHROMIUM = pytest.mark.skipif(
    chromium.EXECUTABLE is None, reason="Chromium is absent: apt-get install chromium"
)
READY = "document.readyState === 'complete' && document.querySelector('#glossary') !== null"


class Page(HTMLParser):
    """The elements of a page in their order, and its text by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._section = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = str(dict(attrs)["id"])

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + f" {data}"

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def images(self) -> list[dict[str, str | None]]:
        return [of for tag, of in self.elements if tag == "img"]


@cache
def _html(report: RoadReport) -> str:
    return road_report_html(report)


def _page(report: RoadReport) -> Page:
    return Page(_html(report))


def _decoded(address: str) -> np.ndarray:
    data = base64.b64decode(address.partition(",")[2])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


@pytest.mark.parametrize(
    "report", [road_report(), weak_report(), bare_report()], ids=["whole", "weak", "bare"]
)
def test_sections_stand_in_their_order_and_nothing_is_left_blank(report: RoadReport) -> None:
    page = _page(report)
    assert tuple(of["id"] for tag, of in page.elements if tag == "section") == IN_ORDER
    links = [str(of["href"])[1:] for tag, of in page.elements if tag == "a"]
    assert tuple(links) == IN_ORDER[1:]
    assert all(page.text[name].strip() for name in IN_ORDER)
    assert not re.search(r"\b(None|nan|Undefined)\b", " ".join(page.text.values()))


def test_every_measure_has_words() -> None:
    assert tuple(HEADS) == METRICS


def test_its_numbers_are_those_that_were_measured() -> None:
    report = road_report()
    table = score_table(report.metrics, "on units", None)
    assert [row[0].below for row in table.rows] == ["model", "colour", "all_road"]
    assert table.own == {0}
    assert table.header == (
        "method",
        "IoU",
        "precision",
        "recall",
        "F1",
        "relaxed F1 at 3 pixels",
        "connectedness",
    )
    for row in table.rows:
        of = report.metrics[row[0].below]
        for cell, metric in zip(
            row[1:], ("iou", "precision", "recall", "f1", "relaxed_f1", "apls"), strict=True
        ):
            assert cell.text == f"{of[metric]['value']:.3f}"
            assert cell.below == f"{of[metric]['low']:.3f} to {of[metric]['high']:.3f}"
    page = _page(report)
    for score in (score for of in report.metrics.values() for score in of.values()):
        for value in (score["value"], *score["folds"]):
            assert value is None or f" {value:.3f} " in re.sub(r"\s+", " ", page.text["good"]) + " "
    assert f"its IoU is {report.metrics['model']['iou']['value']:.3f}" in page.text["summary"]
    assert "boston west, of which nothing was learned from" in page.text["good"]


def test_folds_stand_in_their_order_and_one_without_a_score_stays_blank() -> None:
    table = fold_table(road_report().metrics)
    assert table is not None
    assert table.header == ("method", "measure", "all", *(f"fold {n}" for n in range(1, 6)))
    assert len(table.rows) == len(METHODS) * len(METRICS)
    assert [cell.text for cell in table.rows[0]] == [
        *("the network", "IoU", "0.644", "0.624", "0.657", "", "0.651", "0.640"),
    ]


def test_what_falls_short_is_said() -> None:
    weak = _page(weak_report())
    assert WEAK in weak.text["summary"]
    assert "No interval is given: units lie in fewer than 20 blocks." in weak.text["good"]
    assert "intervals below" in _page(road_report()).text["good"].split("IoU")[0]
    assert "intervals below" not in weak.text["good"].split("IoU")[0]
    assert "12 m" in weak.text["source"]
    whole = _page(road_report())
    assert "weak" not in " ".join(whole.text.values())
    assert "No interval" not in whole.text["good"]
    assert "Do not use it" not in whole.text["summary"]
    turned = {**METHODS, "colour": 0.9}
    metrics = {name: road_report().metrics["model" if name == "colour" else "colour"] for name in turned}
    beaten = _page(replace(road_report(), metrics=metrics))
    assert "Do not use it: a simple rule draws roads as well" in beaten.text["summary"]
    assert "a colour threshold: IoU 0.644" in beaten.text["summary"]


def test_each_unit_shown_says_its_key_iou_and_share_of_road_in_words_too() -> None:
    report = road_report()
    page = _page(report)
    units = [*report.worst, *report.best, *report.without_road]
    pictures = [of for of in page.images() if str(of["src"]).startswith("data:image/webp")]
    assert len(pictures) == 2 * len(units) == 34
    for unit, plain, over in zip(units, pictures[::2], pictures[1::2], strict=True):
        iou = "no true road" if unit.iou is None else f"IoU {unit.iou:.3f}"
        assert plain["alt"] == f"Picture of {unit.key}"
        assert str(over["alt"]).startswith(f"Roads of {unit.key}: {iou}")
        assert unit.iou is None or f"road is {unit.road_share * 100:.0f} % of it" in str(over["alt"])
    assert "33 % of the road found; 67 % of what is drawn is wrong" in str(pictures[1]["alt"])
    assert str(pictures[-1]["alt"]).endswith("100 % of what is drawn is wrong")


def _kind(colours: np.ndarray, mark: Mark) -> np.ndarray:
    return (colours == mark.colour).all(axis=2) | (colours == mark.pattern).all(axis=2)


@given(arrays(np.bool_, (3, 13, 17)), arrays(np.uint8, (3, 13, 17), elements=st.integers(0, 254)))
def test_an_overlay_shows_every_pixel_as_what_it_is(masks: np.ndarray, picture: np.ndarray) -> None:
    road, drawn, known = masks
    colours = overlay(picture, road, drawn, known)
    assert colours.shape == (13, 17, 3)
    assert colours.dtype == np.uint8
    grey = (colours == colours[:, :, :1]).all(axis=2)
    assert _kind(colours, FOUND)[road & drawn & known].all()
    assert _kind(colours, MISSED)[road & ~drawn & known].all()
    assert _kind(colours, WRONG)[drawn & ~road & known].all()
    assert grey[~(road | drawn) | ~known].all()
    rest = known & ~road & ~drawn
    if (~known).any() and rest.any():
        faded = overlay(picture, road, drawn, np.ones_like(known)).astype(int)
        untouched = ~known & ~road & ~drawn
        assert (colours.astype(int)[untouched] <= faded[untouched] / 3 + 1).all()


def test_three_things_are_told_apart_without_colour() -> None:
    whole = np.ones((24, 24), bool)
    none, black = ~whole, np.zeros((3, 24, 24), np.uint8)
    patterns = {}
    for mark, road, drawn in ((FOUND, whole, whole), (MISSED, whole, none), (WRONG, none, whole)):
        colours = overlay(black, road, drawn, whole)
        grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY).astype(int)
        patterns[mark.name] = (np.ptp(grey), (grey == grey[0, 0]).mean(), grey.mean())
    assert patterns["found"][0] == 0
    assert patterns["missed"][0] > 100
    assert patterns["wrong"][0] > 100
    assert abs(patterns["missed"][1] - 1 / 3) < 0.01
    assert abs(patterns["wrong"][1] - 1 / 9) < 0.01
    light = {
        mark.name: cv2.cvtColor(np.array([[mark.colour]], np.uint8), cv2.COLOR_RGB2LAB)[0, 0, 0].astype(int)
        for mark in (FOUND, MISSED, WRONG)
    }
    assert light["missed"] - light["found"] > 25
    assert light["found"] - light["wrong"] > 25


@pytest.mark.parametrize(("side_px", "longest"), [(64, 256), (100, 200), (256, 256), (1500, 256)])
def test_pictures_are_at_most_256_px(side_px: int, longest: int) -> None:
    unit = made_up_unit("a", 2, side_px)
    for address in picture_and_overlay(unit.picture, unit.road, unit.drawn, unit.known):
        assert address.startswith("data:image/webp;base64,")
        assert _decoded(address).shape == (longest, longest, 3)


def test_a_picture_keeps_its_colours_and_its_shape() -> None:
    picture = np.zeros((3, 300, 600), np.uint8)
    picture[0] = 250
    none = np.zeros((300, 600), bool)
    plain, over = (_decoded(of) for of in picture_and_overlay(picture, none, none, ~none))
    assert plain.shape == over.shape == (128, 256, 3)
    assert plain[64, 128, 0] > 230
    assert plain[64, 128, 1:].max() < 20


def test_it_is_small() -> None:
    html = _html(road_report(noisy=True, side_px=256))
    assert len(html.encode()) < LIMIT_BYTES


def test_it_loads_and_runs_nothing() -> None:
    html = _html(road_report())
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    addresses = [of[name] for _, of in page.elements for name in ("src", "srcset") if of.get(name)]
    addresses += [of["href"] for tag, of in page.elements if tag != "a" and of.get("href")]
    assert all(str(address).startswith("data:") for address in addresses)
    assert not any(name == "style" or name.startswith("on") for _, of in page.elements for name in of)
    assert "default-src 'none'" in html


def test_text_from_data_is_letters() -> None:
    html = _html(hostile_report())
    assert HOSTILE not in html
    harmless = html.replace("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;", "x")
    assert Page(html).tags == Page(harmless).tags
    page = Page(html)
    for section in ("summary", "good", "folds", "drawn", "learning", "source", "origin"):
        assert HOSTILE in page.text[section], section


def test_plots_say_what_they_show_and_what_is_not_kept_has_none() -> None:
    html = _html(road_report())
    assert html.count("<svg") == html.count('role="img"') == 7
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert "the model draws from level 118 on" in html
    assert html.count("that on watched units was least at epoch 40, 0.574.</figcaption>") == 6
    assert "svg" not in _page(bare_report()).tags
    one = replace(road_report().learned[0], watched=(None,) * 40, kept=None)
    alone = _html(replace(road_report(), learned=(one,)))
    assert "watched units was least" not in alone


def test_the_order_of_methods_does_not_matter() -> None:
    report = road_report()
    turned = {name: dict(reversed(of.items())) for name, of in reversed(report.metrics.items())}
    assert _html(replace(report, metrics=turned)) == _html(report)


def test_a_unit_of_which_nothing_was_drawn() -> None:
    unit = made_up_unit("a", 1)
    report = replace(
        road_report(), worst=(shown("a", unit.picture, unit.road, ~unit.road & False, unit.known),)
    )
    assert "0 % of the road found; nothing drawn" in _page(report).text["drawn"]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"whole": road_report(), "weak": weak_report(), "hostile": hostile_report()}
    for name, report in made.items():
        (folder / f"{name}.html").write_text(_html(report), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


def _opened(
    tab: chromium.Tab, path: Path, width: int = 1280, media: str = "screen", scheme: str = "light"
) -> None:
    tab.events.clear()
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    tab.call("Emulation.setEmulatedMedia", media=media, features=features)
    tab.open(path, READY)


@IN_CHROMIUM
@pytest.mark.parametrize("name", ["whole", "weak", "hostile"])
def test_it_opens_offline_in_silence_and_words_stay_words(
    tab: chromium.Tab, pages: dict[str, Path], name: str
) -> None:
    _opened(tab, pages[name])
    assert tab.complaints() == []
    assert not any(event["method"] == "Page.javascriptDialogOpening" for event in tab.events)
    addresses = [address.split(":")[0] for address in tab.requests()]
    assert set(addresses) == {"file", "data"}
    assert addresses.count("file") == 1
    assert tab.value("document.scripts.length") == 0
    assert tab.value(
        "[...document.images].every(image => image.src.startsWith('data:') && image.naturalWidth)"
    )
    if name == "hostile":
        assert tab.value("document.querySelector('h1').textContent") == HOSTILE
        assert HOSTILE in tab.value("document.getElementById('drawn').textContent")


@IN_CHROMIUM
@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("name", ["whole", "hostile"])
def test_a_phone_shows_it_without_sideways_scrolling(
    tab: chromium.Tab, pages: dict[str, Path], name: str, width: int
) -> None:
    _opened(tab, pages[name], width)
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value("[...document.querySelectorAll('.wide')].every(of => of.tabIndex === 0)")
    # a picture and its overlay stay side by side
    tops = "[...document.querySelectorAll('.drawings .sights')].every(of => of.children[0].offsetTop === of.children[1].offsetTop)"
    assert tab.value(tops)


@IN_CHROMIUM
def test_it_is_dark_where_people_ask_for_it_and_light_on_paper(
    tab: chromium.Tab, pages: dict[str, Path]
) -> None:
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    seen = []
    for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        _opened(tab, pages["whole"], media=media, scheme=scheme, width=687)
        seen.append(tab.value(paper))
        assert tab.value("document.documentElement.scrollWidth") <= 687
    assert seen[0] == seen[2] == "rgb(255, 255, 255)"
    assert seen[1] != seen[0]
