"""Map files as QGIS opens them: places, fields, classes, and the colours that it draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from qgis import qgis_looks
from scored_examples import ABOUT, GRID, scored_at, scored_grid

from roadrisk.maps.bands import RISK_LEGEND
from roadrisk.maps.changes import CHANGE_LEGEND
from roadrisk.maps.fields import field_aliases
from roadrisk.maps.layer import Layer
from roadrisk.maps.layers import write_layers
from roadrisk.maps.legend import ABSENT_COLOUR
from roadrisk.maps.places import WGS84, GivenShapes

HOSTILE = "<b>&\"'</qgis>\x00"
TILES = scored_grid(about=replace(ABOUT, title=HOSTILE))
COLOURS = {shade.value: shade.colour for shade in RISK_LEGEND.shades}
CATEGORIES = [[value, value, colour] for value, colour in COLOURS.items()]
CATEGORIES.append(["", "not scored", ABSENT_COLOUR])
STYLED = ("tiles.gpkg", "beside.fgb", "beside.geojson", "beside.geojsonl")
DRIVERS = {"alone.parquet": "Parquet", "alone.pmtiles": "PMTiles"}


def crossing(first: str, second: str) -> Layer:
    """A level line and an upright one that cross, by the values of their class."""
    left, bottom, _, _ = GRID.bounds
    vertices = np.add([[(0, 50), (100, 50)], [(50, 0), (50, 100)]], (left, bottom))
    places = GivenShapes(shapely.linestrings(vertices), GRID.crs)
    layer = scored_at(places, np.array(["a", "b"], dtype=object))
    return replace(layer, table=layer.table.assign(band=[first, second]))


def changed() -> Layer:
    """Tiles by classes of change, every sixth without one."""
    values = np.array([*CHANGE_LEGEND.values, None], dtype=object)
    classes = values[np.arange(len(TILES)) % len(values)]
    band = next(column for column in TILES.columns if column.name == "band")
    return replace(
        TILES,
        table=TILES.table.rename(columns={"band": CHANGE_LEGEND.field}).assign(
            **{CHANGE_LEGEND.field: classes}
        ),
        columns=tuple(replace(c, name=CHANGE_LEGEND.field) if c is band else c for c in TILES.columns),
        legend=CHANGE_LEGEND,
    )


LINES = {
    "riskier first": crossing("top 5 %", "lowest 40 %"),
    "riskier last": crossing("lowest 40 %", "top 5 %"),
    "unknown last": crossing("lowest 40 %", ""),
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What QGIS sees of every file, by its name."""
    folder = tmp_path_factory.mktemp("maps")
    folder.chmod(0o700)
    names = [*STYLED, "beside.tif", "beside.qml", "alone.tif", "alone.sld", *DRIVERS, "alone.csv"]
    write_layers(TILES, [folder / name for name in names])
    write_layers(changed(), [folder / "change.gpkg", folder / "change.tif", folder / "change.qml"])
    for name, layer in LINES.items():
        write_layers(layer, [folder / f"{name}.gpkg"])
    x, y = GRID.centres(*GRID.every_tile(), GRID.crs)
    here = np.column_stack([x, y]).tolist()
    there = np.column_stack(GRID.centres(*GRID.every_tile(), WGS84)).tolist()
    looks = {}
    for name in (*STYLED, *DRIVERS, "beside.tif", "alone.tif", "change.gpkg", "change.tif"):
        at = there if Path(name).suffix in (".geojson", ".geojsonl") else here
        provider = "gdal" if name.endswith(".tif") else "ogr"
        looks[name] = {"path": str(folder / name), "provider": provider, "at": at}
    csv = f"file://{folder}/alone.csv?xField=lon&yField=lat&crs={WGS84}"
    looks["alone.csv"] = {"path": csv, "provider": "delimitedtext"}
    looks["alone.sld"] = {**looks["beside.fgb"], "sld": str(folder / "alone.sld")}
    left, bottom, _, _ = GRID.bounds
    for name in LINES:
        at = [(left + 50, bottom + 50), (left + 20, bottom + 50), (left + 50, bottom + 20)]
        looks[name] = {"path": str(folder / f"{name}.gpkg"), "provider": "ogr", "at": at}
    for name, look in looks.items():
        look["png"] = str(folder / f"{name}.png")
    answer = qgis_looks(list(looks.values()), folder)
    beside = sorted(f.name for f in folder.iterdir() if f.name.endswith(".aux.xml"))
    by_name = dict(zip(looks, answer["looks"], strict=True))
    return {**by_name, "drivers": answer["drivers"], "beside": beside}


def same_colours(found: list[list[Any]], layer: Layer) -> None:
    """Each tile's middle has its class's colour; where it has none, it is hatched with no class's colour."""
    colours = {shade.value: shade.colour for shade in layer.legend.shades}
    for (colour, shades), value in zip(found, layer.table[layer.legend.field], strict=True):
        if value in colours:
            assert [colour, shades] == [colours[value], 1]
        else:
            assert shades > 1
            assert colour not in colours.values()


@pytest.mark.parametrize("name", STYLED)
def test_tiles_have_their_count_crs_classes_aliases_and_colours(seen: dict[str, Any], name: str) -> None:
    found = seen[name]
    assert found["valid"]
    assert found["count"] == len(TILES)
    assert found["crs"] == (WGS84 if ".geojson" in name else GRID.crs)
    assert found["renderer"] == "QgsCategorizedSymbolRenderer"
    assert found["classes"] == CATEGORIES
    aliases = field_aliases(TILES.columns)
    assert {n: a for n, a in found["aliases"].items() if n in aliases} == aliases
    same_colours(found["seen"], TILES)


@pytest.mark.parametrize("name", DRIVERS)
def test_forms_that_older_gdal_does_not_know(seen: dict[str, Any], name: str) -> None:
    if DRIVERS[name] not in seen["drivers"]:
        pytest.skip(f"the GDAL of this QGIS has no driver for {Path(name).suffix}")
    assert seen[name]["valid"]
    assert seen[name]["count"] == len(TILES)


def test_a_table_with_lon_and_lat_has_every_tile(seen: dict[str, Any]) -> None:
    assert (seen["alone.csv"]["count"], seen["alone.csv"]["crs"]) == (len(TILES), WGS84)


@pytest.mark.parametrize("name", ["beside.tif", "alone.tif"])
def test_a_raster_is_coloured_at_once_and_clear_where_nothing_is_known(
    seen: dict[str, Any], name: str
) -> None:
    found = seen[name]
    assert (found["valid"], found["crs"]) == (True, GRID.crs)
    expected = [[COLOURS.get(band, "#ffffff"), 1] for band in TILES.table["band"]]
    assert found["seen"] == expected
    if name == "beside.tif":  # the style of the same name names the bands
        assert found["classes"] == [list(pair) for pair in reversed(COLOURS.items())]
    assert seen["beside"] == []


@pytest.mark.parametrize("name", ["change.gpkg", "change.tif"])
def test_another_legend_colours_its_own_classes(seen: dict[str, Any], name: str) -> None:
    layer = changed()
    if name.endswith(".gpkg"):
        same_colours(seen[name]["seen"], layer)
        return
    colours = {shade.value: shade.colour for shade in CHANGE_LEGEND.shades}
    expected = [[colours.get(value, "#ffffff"), 1] for value in layer.table[CHANGE_LEGEND.field]]
    assert seen[name]["seen"] == expected


def test_sld_draws_the_same_colours(seen: dict[str, Any]) -> None:
    found = seen["alone.sld"]
    assert found["renderer"] == "QgsRuleBasedRenderer"
    assert found["classes"] == [["not scored", ABSENT_COLOUR], *map(list, reversed(COLOURS.items()))]
    same_colours(found["seen"], TILES)


@pytest.mark.parametrize("name", LINES)
def test_the_riskiest_line_lies_on_top(seen: dict[str, Any], name: str) -> None:
    crossing, level, _ = (colour for colour, _ in seen[name]["seen"])
    on_top = COLOURS["lowest 40 %" if name == "unknown last" else "top 5 %"]
    assert crossing == on_top
    assert level == COLOURS[LINES[name].table["band"][0]]


def test_words_about_the_layer_are_text(seen: dict[str, Any]) -> None:
    notes = seen["tiles.gpkg"]["notes"]
    assert "<p>&lt;b&gt;&amp;&quot;&#x27;&lt;/qgis&gt;\ufffd</p>" in notes
    assert f"<p>{ABOUT.attribution}</p>" in notes
