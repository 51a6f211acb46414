"""The map page as people meet it: in a browser without a network, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import chromium
import numpy as np
import pandas as pd
import pytest
import shapely
from scored_examples import ABOUT, GRID, HOSTILE, Pictured, scored_at, scored_grid
from task_examples import COUNT, scored_by

from roadrisk.columns import Column
from roadrisk.maps.layer import Layer
from roadrisk.maps.page import page, write_page
from roadrisk.maps.places import GivenShapes, given_points

pytestmark = pytest.mark.skipif(
    chromium.EXECUTABLE is None, reason="Chromium is absent: apt-get install chromium"
)

AWAY = "Nothing of this layer lies within 100 m of there; the map shows the place."
READY = "document.documentElement?.dataset.ready === '1'"
SELECTED = "(document.querySelector('#selection:not([hidden]) .headline strong')?.textContent ?? '')"
IDLE = "roadriskViews.every(view => view.map.loaded() && !view.map.isMoving())"


PUT_BACK = """(() => {
  const found = (id) => document.getElementById(id);
  if (!found("selection").hidden) found("close").click();
  if (found("compare").getAttribute("aria-pressed") === "true") found("compare").click();
  for (let box; (box = document.querySelector(".class input:not(:checked)")); ) box.click();
  found("opacity").value = 70;
  found("opacity").dispatchEvent(new Event("input"));
  found("wanted").value = found("finder-answer").textContent = found("said").textContent = "";
  document.documentElement.dataset.ready = "1";
  document.activeElement?.blur();
  roadriskMap.resize();
  roadriskMap.jumpTo(window.camera);
})()"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.tab(tmp_path_factory.mktemp("profile")) as opened:
        opened.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}]
        )
        yield opened


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "risk.html"
    write_page(scored_grid(about=replace(ABOUT, title=HOSTILE), pictures=Pictured()), out)
    return out


@pytest.fixture
def opened(tab: chromium.Tab, html: Path) -> chromium.Tab:
    """The page as it opens; a tab that still shows it is put back by its own controls, which is quicker."""
    if tab.value("location.href") != html.as_uri():
        _opened(tab, html)
        tab.value("void (window.camera = {center: roadriskMap.getCenter(), zoom: roadriskMap.getZoom()})")
        return tab
    _sized(tab, 960, 600)
    tab.value(PUT_BACK)
    tab.wait(IDLE)
    tab.events.clear()
    return tab


def _opened(tab: chromium.Tab, path: Path) -> chromium.Tab:
    tab.events.clear()
    _sized(tab, 960, 600)
    tab.call("Page.navigate", url="about:blank")
    tab.open(path, READY)
    return tab


def _sized(tab: chromium.Tab, width: int, height: int) -> None:
    tab.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
    )


def _text(tab: chromium.Tab, selector: str) -> str:
    return str(tab.value(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))


def _on_screen(tab: chromium.Tab, lng: float, lat: float, view: int = 0) -> tuple[float, float]:
    """Where a place of the map stands in the window [css px]."""
    place = tab.value(
        f"(() => {{ const {{ map }} = roadriskViews[{view}]; const at = map.project([{lng}, {lat}]);"
        "const box = map.getCanvas().getBoundingClientRect(); return [at.x + box.x, at.y + box.y]; })()"
    )
    return place[0], place[1]


def _centre(i: int) -> tuple[float, float]:
    lng, lat = GRID.centres(*GRID.every_tile(), "EPSG:4326")
    return float(lng[i]), float(lat[i])


def _name(i: int) -> str:
    return str(scored_grid().table["tile_id"][i])


def _named(tab: chromium.Tab, name: str) -> None:
    tab.wait(f"{SELECTED} === {json.dumps(name)}")


def _sought(tab: chromium.Tab, text: str) -> None:
    tab.value("document.getElementById('wanted').value = ''; document.getElementById('wanted').focus()")
    tab.call("Input.insertText", text=text)
    tab.press("Enter", 13, "\r")


def _drawn(tab: chromium.Tab, layer: str, view: int = 0) -> set[int]:
    """Rows that are drawn."""
    tab.wait(IDLE)
    return set(
        tab.value(f"roadriskViews[{view}].map.queryRenderedFeatures({{layers: ['{layer}']}}).map(f => f.id)")
    )


def test_it_opens_offline_in_silence(opened: chromium.Tab) -> None:
    opened.click(*_on_screen(opened, *_centre(0)))
    _named(opened, _name(0))
    assert opened.complaints() == []
    assert {address.split(":")[0] for address in opened.requests()} <= {"file", "data", "blob", "about"}
    assert sum(address.startswith("file:") for address in opened.requests()) == 1
    assert opened.value("document.getElementById('problem').hidden")

    # and it cannot
    blocked = opened.value(
        "new Promise(done => { document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        "fetch('https://example.org/').catch(() => {}); })"
    )
    assert blocked == "connect-src"


def test_a_click_shows_the_facts_of_the_tile_under_it(opened: chromium.Tab) -> None:
    table = scored_grid().table
    for i in (0, 3, GRID.size // 2, GRID.size - 1):  # tile 3 is not scored
        opened.click(*_on_screen(opened, *_centre(i)))
        _named(opened, table["tile_id"][i])
        panel = _text(opened, "#facts")
        assert ("Not scored: unknown, not low" if i == 3 else f"rank {table['rank'][i]} of") in panel
        assert "length of roads" in panel
    opened.click(*_on_screen(opened, *_centre(2)))
    _named(opened, table["tile_id"][2])
    road = opened.value(
        "[...document.querySelectorAll('#facts dt')].map(dt => [dt.textContent, dt.nextSibling.textContent])"
    )
    assert dict(road)["Road"] == "not known"  # it is missing there


def test_a_click_shows_the_pictures_of_a_tile(opened: chromium.Tab) -> None:
    pictures, ids = Pictured(), scored_grid().table["tile_id"]
    i = next(i for i in range(GRID.size) if i % 7 != 3 and pictures.picture(ids[i], "aerial") is not None)
    opened.click(*_on_screen(opened, *_centre(i)))
    _named(opened, ids[i])
    red = (
        "(async () => { const image = document.querySelector('#facts img'); await image.decode();"
        "const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext('2d');"
        "canvas.drawImage(image, 0, 0); return [...canvas.getImageData(9, 9, 1, 1).data]; })()"
    )
    assert opened.value(red)[0] == pytest.approx(int(pictures.picture(ids[i], "aerial")[0, 0, 0]), abs=8)
    opened.value(
        "[...document.querySelectorAll('#facts .choices button')].find(b => b.textContent === 'roads').click()"
    )
    assert max(opened.value(red)[:3]) < 40  # the mask is black on its right half
    assert opened.value("document.querySelector('#facts img').alt") == "Picture of the tile: roads"


def test_hostile_words_are_shown_as_letters(tab: chromium.Tab, tmp_path: Path) -> None:
    names = np.array([HOSTILE, f"b{HOSTILE}", "c"])
    about = replace(ABOUT, title=HOSTILE, risk_meaning=HOSTILE, windows={HOSTILE: (HOSTILE, HOSTILE)})
    places = given_points([-71.1, -71.2, -71.15], [42.3, 42.4, 42.35])
    write_page(scored_at(places, names, about), tmp_path / "hostile.html")
    _opened(tab, tmp_path / "hostile.html")
    assert _text(tab, "h1") == HOSTILE
    assert tab.value("document.title").startswith(HOSTILE)
    tab.wait("document.querySelectorAll('#riskiest button').length === 3")
    assert HOSTILE in _text(tab, "#riskiest")
    x, y = _on_screen(tab, -71.1, 42.3)
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tab.wait(f"document.querySelector('#hover:not([hidden]) strong')?.textContent === {json.dumps(HOSTILE)}")
    tab.click(x, y)
    _named(tab, HOSTILE)
    assert HOSTILE in _text(tab, "#facts dd:last-of-type") + _text(tab, "#facts")
    _sought(tab, f"no {HOSTILE}")
    tab.wait("document.getElementById('finder-answer').textContent !== ''")
    assert HOSTILE in _text(tab, "#finder-answer")
    assert tab.value("document.querySelectorAll('img').length") == 0
    assert tab.complaints() == []


def test_a_hover_names_the_tile(opened: chromium.Tab) -> None:
    table = scored_grid().table
    x, y = _on_screen(opened, *_centre(0))
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    opened.wait("document.getElementById('hover').getBoundingClientRect().width > 0")
    words = _text(opened, "#hover")
    assert table["tile_id"][0] in words
    assert table["band"][0] in words.lower()
    assert f"rank {table['rank'][0]} · Risk {table['risk'][0]:.3f}" in words
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=900, y=300)
    opened.wait("document.getElementById('hover').hidden")


def test_the_search_finds_names_ranks_and_coordinates(opened: chromium.Tab) -> None:
    table = scored_grid().table
    by_rank = table.set_index("rank")["tile_id"]
    lng, lat = _centre(17)
    for text, name in (
        (table["tile_id"][5], table["tile_id"][5]),
        ("3", by_rank[3]),
        (f"{lng:.6f}, {lat:.6f}", table["tile_id"][17]),
        (by_rank[9], by_rank[9]),
        (f"{lat:.6f} {lng:.6f}", table["tile_id"][17]),
    ):
        _sought(opened, text)
        _named(opened, name)
    for text in ("nothing", "900", "12.5, 41.9"):
        _sought(opened, text)
        opened.wait(
            "document.getElementById('finder-answer').textContent === "
            f"'Nothing here has the name, the rank or the place “{text}”.'"
        )


def test_the_keyboard_walks_the_ranks(opened: chromium.Tab) -> None:
    by_rank = scored_grid().table.set_index("rank")["tile_id"]
    opened.wait("document.querySelectorAll('#riskiest button').length === 10")
    label = opened.value("document.querySelector('#riskiest button').getAttribute('aria-label')")
    assert re.fullmatch(rf"Rank 1: {by_rank[1]}, top 5 %, Risk 0\.\d+", label)
    opened.value("document.querySelector('#riskiest button[tabindex=\"0\"]').focus()")
    opened.press("ArrowDown", 40)
    opened.press("ArrowDown", 40)
    assert opened.value("document.querySelectorAll('#riskiest button[tabindex=\"0\"]').length") == 1
    opened.press("Enter", 13, "\r")
    _named(opened, by_rank[3])
    assert f"Selected {by_rank[3]}" in _text(opened, "#said")
    for key, rank in (("next", 4), ("previous", 3), ("previous", 2), ("previous", 1)):
        opened.value(f"document.getElementById('{key}').focus()")
        opened.press("Enter", 13, "\r")
        _named(opened, by_rank[rank])
    assert opened.value("document.getElementById('previous').disabled")
    opened.press("Escape", 27)
    assert opened.value("document.getElementById('selection').hidden")
    opened.value("document.getElementById('more').click()")
    opened.wait("document.querySelectorAll('#riskiest button').length === 20")
    assert by_rank[20] in _text(opened, "#riskiest li:last-child")


def test_the_keyboard_moves_the_map_and_selects_its_middle(opened: chromium.Tab) -> None:
    opened.value(f"void roadriskMap.jumpTo({{center: {list(_centre(22))}, zoom: 15}})")
    opened.value("roadriskMap.getCanvas().focus()")
    opened.wait(IDLE)
    opened.press("Enter", 13, "\r")
    _named(opened, _name(22))
    before = opened.value("[roadriskMap.getCenter().lng, roadriskMap.getZoom()]")
    opened.press("ArrowRight", 39)
    opened.wait(f"roadriskMap.getCenter().lng > {before[0]}")
    opened.press("+", 187)
    opened.wait(f"roadriskMap.getZoom() > {before[1]}")
    assert opened.value("document.querySelector('.skip').getAttribute('href')") == "#panel"


def test_tiles_are_drawn_in_their_classes_colour_as_faint_as_asked(opened: chromium.Tab) -> None:
    drawn = opened.value(
        "roadriskMap.queryRenderedFeatures({layers: ['areas']}).map(f => [f.id, f.properties.class, "
        "roadriskMap.getPaintProperty('areas', 'fill-color').at(2 * f.properties.class + 3)])"
    )
    shades = opened.value("JSON.parse(document.getElementById('data').textContent).layers[0].legend.shades")
    band = scored_grid().table["band"]
    assert {row for row, _, _ in drawn} == set(np.flatnonzero(band.notna()).tolist())
    assert all(shades[code] == {"value": band[row], "colour": colour} for row, code, colour in drawn)
    assert _drawn(opened, "absent-areas") == set(np.flatnonzero(band.isna()).tolist())
    assert opened.value("roadriskMap.getPaintProperty('absent-areas', 'fill-pattern')") == "hatching"


def test_the_legend_hides_classes(opened: chromium.Tab) -> None:
    band = scored_grid().table["band"]
    rows = opened.value("[...document.querySelectorAll('.class')].map(row => row.textContent)")
    assert rows == [
        *(
            f"{name}{(band == name).sum()}"
            for name in dict.fromkeys(["top 5 %", "next 10 %", "next 20 %", "next 25 %", "lowest 40 %"])
        ),
        f"not scored{band.isna().sum()}",
    ]
    opened.value("document.querySelectorAll('.class input')[2].focus()")
    opened.press(" ", 32, " ")
    assert _drawn(opened, "areas") == set(np.flatnonzero(band.notna() & (band != "next 20 %")).tolist())
    assert opened.value("document.activeElement === document.querySelectorAll('.class input')[2]")
    opened.value("document.querySelectorAll('.class input')[5].click()")
    assert _drawn(opened, "absent-areas") == set()
    opened.value("for (const i of [0, 1, 3, 4]) document.querySelectorAll('.class input')[i].click()")
    assert _drawn(opened, "areas") == set()
    assert "Nothing left on the map" in _text(opened, "#legends")
    assert "Nothing left on the map" in _text(opened, "#said")  # a screen reader says it
    opened.value("document.querySelectorAll('.class input')[0].click()")
    assert _drawn(opened, "areas") == set(np.flatnonzero(band == "top 5 %").tolist())
    assert "Nothing left on the map" not in _text(opened, "#legends")
    opened.value("document.getElementById('opacity').focus()")
    opened.press("Home", 36)
    opened.wait("roadriskMap.getPaintProperty('areas', 'fill-opacity') === 0")
    assert _text(opened, "#opacity-value") == "0 %"


def test_two_maps_move_in_step(opened: chromium.Tab) -> None:
    opened.value("document.getElementById('compare').click()")
    opened.wait("document.documentElement.dataset.ready === '2'")
    assert opened.value("document.querySelectorAll('.map canvas').length") == 2
    assert opened.value("roadriskViews[1].k") is None  # the picture alone
    same = (
        "JSON.stringify([roadriskViews[0].map.getCenter(), roadriskViews[0].map.getZoom()])"
        " === JSON.stringify([roadriskViews[1].map.getCenter(), roadriskViews[1].map.getZoom()])"
    )
    for view in (0, 1):
        opened.value(
            f"void roadriskViews[{view}].map.jumpTo({{center: {list(_centre(11 + view))}, zoom: 14}})"
        )
        assert opened.value(same)
    opened.value("document.getElementById('compare').click()")
    assert opened.value("document.querySelectorAll('.map canvas').length") == 1
    assert opened.complaints() == []


def test_two_layers_stand_side_by_side(tab: chromium.Tab, tmp_path: Path) -> None:
    scored = scored_grid(pictures=Pictured())
    turned = scored.taken(np.arange(len(scored))[::-1])
    other = replace(turned, about=replace(ABOUT, title="Another place"))
    (tmp_path / "two.html").write_text(page([scored, other]))
    _opened(tab, tmp_path / "two.html")
    assert tab.value("[...document.getElementById('left').options].map(o => o.textContent)") == [
        ABOUT.title,
        "Another place",
    ]
    tab.value("document.getElementById('compare').click()")
    tab.wait("document.documentElement.dataset.ready === '2'")
    assert tab.value("document.querySelectorAll('.legend').length") == 2
    tab.click(*_on_screen(tab, *_centre(4), view=1))
    _named(tab, _name(4))
    assert "Another place" in _text(tab, ".headline")
    tab.value(
        "const left = document.getElementById('left'); left.value = '1'; left.dispatchEvent(new Event('change'))"
    )
    assert tab.value("roadriskViews[0].k") == 1
    assert _drawn(tab, "areas") == set(np.flatnonzero(turned.table["band"].notna()).tolist())
    assert tab.complaints() == []


def test_a_phone_shows_it_without_sideways_scrolling(opened: chromium.Tab) -> None:
    _sized(opened, 390, 800)
    opened.value("document.querySelector('#riskiest button').click()")
    opened.wait(f"{SELECTED} !== ''")
    opened.value("document.getElementById('compare').click()")
    opened.wait("document.documentElement.dataset.ready === '2'")
    for width in (320, 390, 768):
        _sized(opened, width, 800)
        assert opened.value("document.documentElement.scrollWidth") <= width
        assert opened.value("document.getElementById('map').getBoundingClientRect().height") >= 280


def test_points_can_be_clicked(tab: chromium.Tab, tmp_path: Path) -> None:
    places = given_points([-71.1, -71.2, np.nan], [42.3, 42.4, 42.4])
    write_page(scored_at(places, np.array(["first", "second", "third"])), tmp_path / "points.html")
    _opened(tab, tmp_path / "points.html")
    tab.click(*_on_screen(tab, -71.2, 42.4))
    _named(tab, "second")
    _sought(tab, "third")  # lies nowhere, and has facts all the same
    _named(tab, "third")
    _sought(tab, "-71.1009, 42.3")  # 74 m away
    _named(tab, "first")
    _sought(tab, "-71.1013, 42.3")  # 107 m away
    tab.wait(f"document.getElementById('finder-answer').textContent === {json.dumps(AWAY)}")
    assert tab.complaints() == []


def test_lines_can_be_clicked_from_beside_them(tab: chromium.Tab, tmp_path: Path) -> None:
    lines = [
        [(-71.1, 42.3), (-71.0, 42.3)],
        [(-71.1, 42.32), (-71.0, 42.34)],
        [(-71.1, 42.36), (-71.0, 42.36)],
    ]
    places = GivenShapes(np.array([shapely.LineString(line) for line in lines]), "EPSG:4326")
    scored = scored_at(places, np.array(["south", "middle", "north"]))
    write_page(scored, tmp_path / "lines.html")
    _opened(tab, tmp_path / "lines.html")
    x, y = _on_screen(tab, -71.05, 42.33)
    tab.click(x, y + 5)
    _named(tab, "middle")
    tab.click(*_on_screen(tab, -71.03, 42.36))
    _named(tab, "north")
    _sought(tab, "42.3305, -71.05")  # 54 m from the middle of the middle one
    _named(tab, "middle")
    _sought(tab, "42.345, -71.05")
    tab.wait(f"document.getElementById('finder-answer').textContent === {json.dumps(AWAY)}")
    assert tab.complaints() == []


def test_a_part_of_a_layer_tells_the_ranks_among_all(tab: chromium.Tab, tmp_path: Path) -> None:
    whole = scored_grid()
    part = whole.taken(np.flatnonzero(whole.table["rank"].between(20, 40).fillna(value=False)))
    write_page(part, tmp_path / "part.html")
    _opened(tab, tmp_path / "part.html")
    named = dict(zip(part.table["rank"], part.table["tile_id"], strict=True))
    _sought(tab, "30")
    _named(tab, named[30])
    assert f"rank 30 of {whole.table['rank'].notna().sum()}" in _text(tab, ".headline")
    tab.value("document.getElementById('next').click()")
    _named(tab, named[31])
    _sought(tab, "20")
    _named(tab, named[20])
    assert tab.value("document.getElementById('previous').disabled")
    # the only class of all that it has
    tab.value("for (let i = 0; i < 5; i++) document.querySelectorAll('.class input')[i].click()")
    tab.value("document.querySelectorAll('.class input')[0].click()")
    assert not part.table["band"].eq("top 5 %").any()
    assert "Nothing left on the map" in _text(tab, "#legends")


def test_a_click_shows_what_a_model_of_counts_expects(tab: chromium.Tab, tmp_path: Path) -> None:
    scored = scored_by(COUNT)[0]
    write_page(scored, tmp_path / "counts.html")
    _opened(tab, tmp_path / "counts.html")
    tab.wait("document.querySelectorAll('#riskiest button').length > 0")
    first = float(_text(tab, "#riskiest .number:last-child").split()[0].replace(",", ""))
    assert first == pytest.approx(scored.table["expected"].max(), rel=0.01)
    tab.click(*_on_screen(tab, *_centre(0)))
    _named(tab, _name(0))
    panel = _text(tab, "#facts")
    assert "Events of crashes_label that the model expects" in panel
    assert "chance of one event or more" in panel
    assert tab.complaints() == []


def _reasoned() -> Layer:
    """Tiles with intervals and reasons, every value the same."""
    told = {
        "risk_low": (0.22, "", "Low end."),
        "risk_high": (0.45, "", "High end."),
        "why": ("roads of 3.4 km +0.82", "", "What moved the score."),
        "reason_picture": (0.31, "log-odds", "Picture."),
        "reason_facts": (0.5, "log-odds", "Facts."),
        "reason_road_m": (0.82, "log-odds", "Roads."),
        "reason_town": (-0.32, "log-odds", "Town."),
    }
    plain = scored_grid()
    made = {name: pd.Series([value] * len(plain)) for name, (value, _, _) in told.items()}
    columns = [
        Column(name, "object" if name == "why" else "float64", unit, "info", "none", meaning)
        for name, (_, unit, meaning) in told.items()
    ]
    table = plain.table.assign(**made).assign(
        risk=plain.table["risk"].where(plain.table["risk"].isna(), 0.31)
    )
    return replace(plain, table=table, columns=(*plain.columns, *columns))


def test_intervals_and_reasons_stand_by_what_they_belong_to(tab: chromium.Tab, tmp_path: Path) -> None:
    write_page(_reasoned(), tmp_path / "why.html")
    _opened(tab, tmp_path / "why.html")
    tab.click(*_on_screen(tab, *_centre(0)))
    _named(tab, _name(0))
    assert _text(tab, ".largest p") == "0.310 (0.220 to 0.450)"
    assert "roads of 3.4 km +0.82" in _text(tab, ".reasons")
    assert "These are associations, not causes." in _text(tab, ".reasons")
    bars = tab.value("[...document.querySelectorAll('.bars li')].map(li => li.textContent)")
    assert bars == ["Picture+0.31", "Facts+0.50", "Road (m)+0.82", "Town−0.32"]
    widths = tab.value(
        "[...document.querySelectorAll('.track span')].map(bar => parseFloat(bar.style.width))"
    )
    assert widths == pytest.approx([50 * 0.31 / 0.82, 50 * 0.5 / 0.82, 50, 50 * 0.32 / 0.82], abs=0.01)
    names = tab.value("[...document.querySelectorAll('#facts dt')].map(dt => dt.textContent)")
    assert not [name for name in names if "low" in name.lower() or "reason" in name.lower() or name == "Why"]
