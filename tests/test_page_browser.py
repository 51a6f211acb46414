"""The map page as people meet it: in a browser without a network, by mouse, by keyboard, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import chromium
import numpy as np
import pytest
from scored_examples import ABOUT, GRID, HOSTILE, Pictured, scored_at, scored_grid
from task_examples import COUNT, scored_by

from roadrisk.maps.layers import write_layers
from roadrisk.maps.places import given_points

pytestmark = pytest.mark.skipif(
    chromium.EXECUTABLE is None, reason="Chromium is absent: apt-get install chromium"
)

READY = "document.documentElement?.dataset.ready === '1'"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "risk.html"
    write_layers(scored_grid(about=replace(ABOUT, title=HOSTILE), pictures=Pictured()), [out])
    return out


@pytest.fixture
def opened(tab: chromium.Tab, html: Path) -> chromium.Tab:
    tab.events.clear()
    _sized(tab, 1280, 800)
    tab.open(html, READY)
    return tab


def _sized(tab: chromium.Tab, width: int, height: int) -> None:
    tab.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
    )


def _on_screen(tab: chromium.Tab, lng: float, lat: float) -> tuple[float, float]:
    """Where a place of the map stands in the window [css px]."""
    place = tab.value(
        f"(() => {{ const at = roadriskMap.project([{lng}, {lat}]);"
        "const box = roadriskMap.getCanvas().getBoundingClientRect(); return [at.x + box.x, at.y + box.y]; })()"
    )
    return place[0], place[1]


def _headline(tab: chromium.Tab) -> str:
    return str(tab.value("document.querySelector('.headline strong')?.textContent ?? ''"))


def test_it_opens_offline_in_silence(opened: chromium.Tab) -> None:
    assert opened.complaints() == []
    assert {address.split(":")[0] for address in opened.requests()} <= {"file", "data", "blob"}
    assert sum(address.startswith("file:") for address in opened.requests()) == 1
    assert opened.value("document.getElementById('problem').hidden")


def test_the_policy_stops_a_page_that_would_call_out(opened: chromium.Tab) -> None:
    blocked = opened.value(
        "new Promise(done => { document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        "fetch('https://example.org/').catch(() => {}); })"
    )
    assert blocked == "connect-src"


def test_a_click_shows_the_facts_of_the_tile_under_it(opened: chromium.Tab) -> None:
    scored = scored_grid()
    rows, cols = GRID.every_tile()
    lng, lat = GRID.centres(rows, cols, "EPSG:4326")
    for i in (0, 3, GRID.size // 2, GRID.size - 1):  # tile 3 is not scored
        opened.click(*_on_screen(opened, lng[i], lat[i]))
        tile = GRID.tile_id(int(rows[i]), int(cols[i]))
        opened.wait(f"document.querySelector('.headline strong')?.textContent === '{tile}'")
        panel = opened.value("document.getElementById('facts').textContent")
        rank = scored.table["rank"][i]
        assert ("its risk is unknown, not low" if i == 3 else f"rank {rank} of") in panel
        assert "length of roads" in panel
        if not np.isnan(scored.table["road_m"][i]):
            assert " m" in panel


def test_what_is_unknown_is_said_to_be_unknown(opened: chromium.Tab) -> None:
    i = 2  # road_m is missing there
    lng, lat = (values[i] for values in GRID.centres(*GRID.every_tile(), "EPSG:4326"))
    opened.click(*_on_screen(opened, lng, lat))
    opened.wait("document.querySelector('.headline') !== null")
    value = opened.value(
        "[...document.querySelectorAll('#facts dt')].find(dt => dt.textContent === 'road_m').nextSibling.textContent"
    )
    assert value == "not known"


def test_hostile_words_are_shown_as_letters(opened: chromium.Tab) -> None:
    assert opened.value("document.querySelector('h1').textContent") == HOSTILE
    assert opened.value("document.title").startswith(HOSTILE)
    lng, lat = (values[0] for values in GRID.centres(*GRID.every_tile(), "EPSG:4326"))
    opened.click(*_on_screen(opened, lng, lat))
    opened.wait(f"document.querySelector('.headline strong')?.textContent === '{GRID.tile_id(0, 0)}'")
    assert HOSTILE in opened.value("document.getElementById('facts').textContent")
    assert opened.value("document.querySelectorAll('img').length") == 0
    assert opened.complaints() == []


def test_the_keyboard_finds_tiles_by_name_and_walks_down_the_ranks(opened: chromium.Tab) -> None:
    table = scored_grid().table.set_index("rank")["tile_id"]
    opened.value("document.getElementById('wanted').focus()")
    opened.call("Input.insertText", text=table[3])
    opened.press("Enter", 13, "\r")
    opened.wait(f"document.querySelector('.headline strong')?.textContent === '{table[3]}'")
    for key, rank in (("safer", 4), ("riskier", 3), ("riskier", 2), ("riskier", 1)):
        opened.value(f"document.getElementById('{key}').focus()")
        opened.press("Enter", 13, "\r")
        opened.wait(f"document.querySelector('.headline strong')?.textContent === '{table[rank]}'")
    assert opened.value("document.getElementById('riskier').disabled")
    opened.value(
        "document.getElementById('wanted').value = 'nothing'; document.getElementById('finder').requestSubmit()"
    )
    assert "No tile has the name or rank “nothing”" in opened.value(
        "document.getElementById('finder-answer').textContent"
    )


def test_tiles_are_drawn_in_their_bands_colour(opened: chromium.Tab) -> None:
    drawn = opened.value(
        "roadriskMap.queryRenderedFeatures({layers: ['tiles']}).map(f => [f.id, f.properties.band, "
        "roadriskMap.getPaintProperty('tiles', 'fill-color').at(2 * f.properties.band + 3)])"
    )
    colours = opened.value("JSON.parse(document.getElementById('data').textContent).bands.map(b => b.colour)")
    names = opened.value("JSON.parse(document.getElementById('data').textContent).bands.map(b => b.name)")
    band = scored_grid().table["band"]
    assert {tile for tile, _, _ in drawn} == set(np.flatnonzero(band.notna()).tolist())
    assert all(names[index] == band[tile] and colour == colours[index] for tile, index, colour in drawn)
    hatched = opened.value("roadriskMap.queryRenderedFeatures({layers: ['unscored']}).map(f => f.id)")
    assert set(hatched) == set(np.flatnonzero(band.isna()).tolist())


def test_the_slider_sets_the_opacity(opened: chromium.Tab) -> None:
    opened.value("document.getElementById('opacity').focus()")
    opened.press("Home", 36)
    opened.wait("roadriskMap.getPaintProperty('tiles', 'fill-opacity') === 0")
    assert opened.value("document.getElementById('opacity-value').textContent") == "0 %"


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_shows_it_without_sideways_scrolling(opened: chromium.Tab, width: int) -> None:
    _sized(opened, width, 800)
    opened.value("document.querySelector('.riskiest button').click()")
    assert _headline(opened)
    assert opened.value("document.documentElement.scrollWidth") <= width
    assert opened.value("document.getElementById('map').getBoundingClientRect().height") >= 280


def test_points_can_be_clicked(tab: chromium.Tab, tmp_path: Path) -> None:
    _sized(tab, 1280, 800)
    places = given_points([-71.1, -71.2, np.nan], [42.3, 42.4, 42.4])
    write_layers(scored_at(places, np.array(["first", "second", "third"])), [tmp_path / "points.html"])
    tab.open(tmp_path / "points.html", READY)
    tab.click(*_on_screen(tab, -71.2, 42.4))
    tab.wait("document.querySelector('.headline strong')?.textContent === 'second'")


def test_a_click_shows_what_a_model_of_counts_expects(tab: chromium.Tab, tmp_path: Path) -> None:
    write_layers(scored_by(COUNT)[0], [tmp_path / "counts.html"])
    tab.events.clear()
    tab.open(tmp_path / "counts.html", READY)
    first = tab.value("document.querySelector('.riskiest button span:last-child').textContent")
    assert first.endswith(" expected")
    most = scored_by(COUNT)[0].table["expected"].max()
    assert float(first.removesuffix(" expected").replace(",", "")) == pytest.approx(most, rel=0.01)
    lng, lat = (values[0] for values in GRID.centres(*GRID.every_tile(), "EPSG:4326"))
    tab.click(*_on_screen(tab, lng, lat))
    tab.wait(f"document.querySelector('.headline strong')?.textContent === '{GRID.tile_id(0, 0)}'")
    panel = tab.value("document.getElementById('facts').textContent")
    assert "Events of crashes_label that the model expects" in panel
    assert "chance of one event or more" in panel
    assert tab.complaints() == []
