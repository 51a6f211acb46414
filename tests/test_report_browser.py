"""The report as people meet it: in a browser without a network, in the dark, on a phone, on paper."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from report_examples import CLASS, COUNT, VALUE, full_report, hostile_report
from scored_examples import HOSTILE

from roadrisk.reporting.page import report_html

pytestmark = pytest.mark.skipif(
    chromium.EXECUTABLE is None, reason="Chromium is absent: apt-get install chromium"
)

READY = "document.readyState === 'complete' && document.querySelector('#glossary') !== null"
PAPER = "getComputedStyle(document.documentElement).backgroundColor"
LIGHT = "rgb(255, 255, 255)"
# text that leaves its plot, or overlaps other text in it
MISPLACED = """(() => {
  const wrong = [];
  for (const svg of document.querySelectorAll('svg.plot')) {
    const [, , width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
    const to = svg.getScreenCTM().inverse();
    const boxes = [...svg.querySelectorAll('text')].map(text => {
      const box = text.getBoundingClientRect();
      const [a, b] = [[box.left, box.top], [box.right, box.bottom]].map(([x, y]) => new DOMPoint(x, y).matrixTransform(to));
      return {said: text.textContent, left: a.x, top: a.y, right: b.x, bottom: b.y};
    });
    boxes.forEach((one, n) => {
      if (one.left < -1 || one.top < -1 || one.right > width + 1 || one.bottom > height + 1) wrong.push('outside: ' + one.said);
      for (const other of boxes.slice(n + 1))
        if (one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 3 && other.top < one.bottom - 3)
          wrong.push(one.said + ' on ' + other.said);
    });
  }
  return wrong;
})()"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    made = {task.kind: full_report(task) for task in (CLASS, COUNT, VALUE)} | {"hostile": hostile_report()}
    for name, report in made.items():
        (folder / f"{name}.html").write_text(report_html(report), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


def _opened(
    tab: chromium.Tab, path: Path, width: int = 1280, media: str = "screen", scheme: str = "light"
) -> None:
    tab.events.clear()
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    tab.call("Emulation.setEmulatedMedia", media=media, features=features)
    tab.open(path, READY)


@pytest.mark.parametrize("name", ["class", "count", "value"])
def test_it_opens_offline_in_silence(tab: chromium.Tab, pages: dict[str, Path], name: str) -> None:
    _opened(tab, pages[name])
    assert tab.complaints() == []
    addresses = [address.split(":")[0] for address in tab.requests()]
    assert set(addresses) == {"file", "data"}
    assert addresses.count("file") == 1
    shown = tab.value("[...document.images].filter(image => image.naturalWidth === 192).length")
    assert shown == 20


def test_its_policy_stops_what_would_be_loaded_or_run(tab: chromium.Tab, pages: dict[str, Path]) -> None:
    _opened(tab, pages["class"])
    for element, address, directive in (
        ("img", "https://example.org/x.png", "img-src"),
        ("script", "https://example.org/x.js", "script-src-elem"),
    ):
        blocked = tab.value(
            "new Promise(done => { setTimeout(() => done('not stopped'), 5000);"
            "document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective), {once: true});"
            f"const made = document.createElement('{element}'); made.src = '{address}'; document.body.append(made); }})"
        )
        assert blocked == directive


def test_hostile_words_are_shown_as_letters(tab: chromium.Tab, pages: dict[str, Path]) -> None:
    _opened(tab, pages["hostile"])
    assert tab.complaints() == []
    assert not any(event["method"] == "Page.javascriptDialogOpening" for event in tab.events)
    assert tab.value("document.querySelector('h1').textContent") == HOSTILE
    assert tab.value("document.title").startswith(HOSTILE)
    for section in (
        "summary",
        "picture",
        "folds",
        "ranking",
        "importance",
        "places",
        "leaks",
        "robustness",
        "origin",
    ):
        assert HOSTILE in tab.value(f"document.getElementById('{section}').textContent"), section
    assert tab.value("[...document.images].every(image => image.src.startsWith('data:image/jpeg'))")
    assert tab.value("document.scripts.length") == 0


@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("name", ["class", "count", "hostile"])
def test_a_phone_shows_it_without_sideways_scrolling(
    tab: chromium.Tab, pages: dict[str, Path], name: str, width: int
) -> None:
    _opened(tab, pages[name], width)
    assert tab.value("document.documentElement.scrollWidth") <= width
    # a wide table scrolls by itself, by keyboard too
    assert tab.value("[...document.querySelectorAll('.wide')].every(of => of.tabIndex === 0)")


@pytest.mark.parametrize("name", ["class", "count", "value"])
def test_the_words_of_a_plot_have_room(tab: chromium.Tab, pages: dict[str, Path], name: str) -> None:
    _opened(tab, pages[name])
    assert tab.value("document.querySelectorAll('svg.plot text').length") > 100
    assert tab.value(MISPLACED) == []


def test_it_is_dark_where_people_ask_for_it(tab: chromium.Tab, pages: dict[str, Path]) -> None:
    line = "getComputedStyle(document.querySelector('.line.s0')).stroke"
    seen = {}
    for scheme in ("light", "dark"):
        _opened(tab, pages["class"], scheme=scheme)
        seen[scheme] = (
            tab.value(PAPER),
            tab.value("getComputedStyle(document.documentElement).color"),
            tab.value(line),
        )
    assert seen["light"][0] == LIGHT
    assert all(a != b for a, b in zip(seen["light"], seen["dark"], strict=True))


def test_paper_is_light(tab: chromium.Tab, pages: dict[str, Path]) -> None:
    _opened(tab, pages["class"], media="print", scheme="dark")
    assert tab.value(PAPER) == LIGHT
    assert tab.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    tab.call("Emulation.setEmulatedMedia", media="", features=[])
    printed = base64.b64decode(tab.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert printed.startswith(b"%PDF")
    assert 8 <= printed.count(b"/Type /Page\n") <= 25


def test_tables_fit_on_paper(tab: chromium.Tab, pages: dict[str, Path]) -> None:
    inside_px = round((210 - 2 * 14) / 25.4 * 96)  # A4 between its margins
    for name in ("class", "count", "value"):
        _opened(tab, pages[name], width=inside_px, media="print")
        assert tab.value("document.documentElement.scrollWidth") <= inside_px
