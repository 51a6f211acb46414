"""The region file: one schema, errors that say where and what to write instead."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path

import pytest

from roadrisk.demonstration import COLS, ROWS
from roadrisk.errors import RegionError
from roadrisk.region import Region, read_region, region_of, with_flags
from roadrisk.sources.demo import region_toml
from roadrisk.sources.demo_city import city_plan

REGIONS = Path(__file__).parents[1] / "regions"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "metro.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("file", sorted(REGIONS.glob("*.toml")), ids=lambda f: f.name)
def test_every_region_that_ships_fits_the_schema(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADRISK_DATA", "/data")
    monkeypatch.setenv("DES_MOINES_DATA", "/data")
    monkeypatch.setenv("ROADRISK_DEMO", "/data")
    region = read_region(file)
    assert region.grid().size > 0
    assert region.crashes
    assert region.roads
    assert region.imagery


def test_paths_start_from_the_regions_folder_and_variables_from_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(
        tmp_path,
        '[[imagery]]\npath = "naip/*.tif"\n[[imagery]]\npath = "${PICTURES}/*.tif"\n'
        '[[imagery]]\npath = "https://tiles.example/cog.tif"\n[[roads]]\npath = "/abs/roads.gpkg"\n',
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PICTURES", "here")
    region = read_region(file)
    assert [s.path for s in region.imagery] == [
        str(tmp_path / "naip/*.tif"),
        str(tmp_path / "here/*.tif"),
        "https://tiles.example/cog.tif",
    ]
    assert region.roads[0].path == "/abs/roads.gpkg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cel = 250", "unknown key 'cel'; did you mean cell?"),
        (
            '[[crashes]]\npath = "a.csv"\n[[crashes]]\npath = "b.csv"\ndat = "day"',
            "unknown key 'dat' in crashes[1]; did you mean date?",
        ),
        ("[label]\nshar = 0.2", "unknown key 'shar' in label; did you mean share?"),
        (
            "[label]\nquantile = 0.2",
            "unknown key 'quantile' in label; known keys: column, share, per, path, layer, x, y, crs",
        ),
        (
            "min_coverage = 90",
            "min_coverage: input should be less than or equal to 1, not 90",
        ),
        (
            "label_window = [2025-01-01, 2024-01-01]",
            "--label-window 2025-01-01 2024-01-01 ends before it starts; dates are [from, to)",
        ),
        (
            "zoom = 'high'",
            "zoom: input should be a valid integer, unable to parse string as an integer, not 'high'",
        ),
        (
            '[[imagery]]\npath = "${NOT_SET_ANYWHERE}/x"',
            "imagery[0].path needs the folder ${NOT_SET_ANYWHERE}; set it: NOT_SET_ANYWHERE=FOLDER roadrisk ...",
        ),
    ],
)
def test_a_wrong_key_or_value_names_the_file_the_place_and_the_fix(
    tmp_path: Path, text: str, message: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(RegionError) as caught:
        read_region(file)
    assert str(caught.value) == f"{file}: {message}"


def test_a_file_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match=r"^no such region file: .*nowhere.toml$"):
        read_region(tmp_path / "nowhere.toml")
    with pytest.raises(RegionError, match=r"metro.toml is not TOML: Expected '=' after a key"):
        read_region(written(tmp_path, "bbox [1, 2]"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "no region: give --bbox W S E N, or `bbox` in the region file"),
        (
            {"bbox": [-93.7, 41.5, -93.5, 41.7]},
            "a grid needs exactly one of --zoom, --cell and --shape; none given",
        ),
        (
            {"bbox": [-93.7, 41.5, -93.5, 41.7], "zoom": 14, "cell": 100},
            "a grid needs exactly one of --zoom, --cell and --shape; zoom and cell given",
        ),
        (
            {"bbox": [-93.7, 41.5, -93.5, 41.7], "zoom": 14, "crs": "EPSG:32615"},
            "--zoom makes XYZ tiles, which are EPSG:3857; leave --crs out or use --cell",
        ),
    ],
)
def test_a_region_without_one_grid(table: dict[str, object], message: str) -> None:
    with pytest.raises(RegionError) as caught:
        region_of(table).grid()
    assert str(caught.value) == message


def test_flags_take_the_place_of_the_regions_values() -> None:
    region = region_of({"bbox": [-93.7, 41.5, -93.5, 41.7], "zoom": 14, "roads": [{"path": "a.gpkg"}]})
    changed = with_flags(
        region, {"cell": 500.0, "zoom": None, "label_window": [date(2024, 1, 1), date(2025, 1, 1)]}
    )
    assert (changed.zoom, changed.cell) == (None, 500.0)
    assert changed.roads == region.roads
    assert changed.label_window == (date(2024, 1, 1), date(2025, 1, 1))
    assert with_flags(region, {"zoom": None}) == region


def test_crash_sources_are_named_by_their_file_when_there_are_several() -> None:
    one = region_of({"crashes": [{"path": "x/City 2024.csv"}]})
    assert [s.name for s in one.event_sources()] == ["crashes"]
    two = region_of({"crashes": [{"path": "x/City 2024.csv"}, {"path": "b.csv", "name": "state"}]})
    assert [s.name for s in two.event_sources()] == ["city_2024", "state"]
    same = region_of({"crashes": [{"path": "x/a.csv"}, {"path": "y/a.csv"}]})
    with pytest.raises(
        RegionError, match=r"^two sources are called a; give each its own `name` in a region file$"
    ):
        same.table_sources()


def test_the_demos_region_is_the_one_that_demo_writes() -> None:
    shipped = tomllib.loads((REGIONS / "demo.toml").read_text())
    written = tomllib.loads(region_toml(city_plan(0, ROWS, COLS)))
    for name in ("imagery", "roads", "crashes"):
        for source in shipped[name]:
            source["path"] = source["path"].removeprefix("${ROADRISK_DEMO}/")
    assert shipped == written


def test_defaults_stand_once() -> None:
    assert region_of({}) == Region()
