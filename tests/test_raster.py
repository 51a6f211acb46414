"""The raster: a pixel a tile, in the tile's band, its overviews the riskiest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from scored_examples import ABOUT, GRID, HOSTILE, RISK, scored_at, scored_grid

from roadrisk.errors import LayerError
from roadrisk.grid import Grid
from roadrisk.maps.bands import RISK_LEGEND, ranked
from roadrisk.maps.changes import CHANGE_LEGEND
from roadrisk.maps.formats.raster import write_cog
from roadrisk.maps.layer import Layer
from roadrisk.maps.layers import write_layers
from roadrisk.maps.places import GridTiles, given_points
from roadrisk.maps.scored import STANDING_COLUMNS
from roadrisk.maps.styles.pixels import colour_table, pixel_ranges, pixel_values

WIDE = Grid("cell", "EPSG:32619", 0.0, 0.0, 250.0, 1290, -18774, 603, 1301)


def ranked_layer(risk: np.ndarray, grid: Grid = GRID) -> Layer:
    """Every tile of a grid by its risk alone."""
    rows, cols = grid.every_tile()
    standing = ranked(risk)
    values = (standing.rank, standing.percentile, standing.band)
    table = pd.DataFrame({"risk": risk, **{c.name: v for c, v in zip(STANDING_COLUMNS, values, strict=True)}})
    return Layer(table, (RISK, *STANDING_COLUMNS), GridTiles(grid, rows, cols), ABOUT)


@given(st.lists(st.one_of(st.just(float("nan")), st.integers(0, 12)), min_size=1, max_size=150))
def test_a_pixel_lies_in_the_band_of_its_tile(risks: list[float]) -> None:
    standing = ranked(risks)
    table = pd.DataFrame({"percentile": standing.percentile, "band": standing.band})
    pixels = pixel_values(Layer(table, (), None, ABOUT))
    bands = {r.shade.value: range(r.lowest, r.highest + 1) for r in pixel_ranges(RISK_LEGEND)}
    for pixel, band in zip(pixels, standing.band, strict=True):
        assert pixel == 0 if pd.isna(band) else pixel in bands[band]


def test_bands_end_at_whole_per_cents_for_every_number_of_tiles() -> None:
    for count in (*range(1, 240), 999, 1000, 1001, 1296):
        standing = ranked(np.arange(count))
        table = pd.DataFrame({"percentile": standing.percentile})
        pixels = pixel_values(Layer(table, (), None, ABOUT))
        rank = standing.rank.to_numpy(dtype=np.int64)
        assert (pixels == 100 - 100 * (rank - 1) // count).all()


def test_every_per_cent_belongs_to_one_class() -> None:
    numbers = [n for r in pixel_ranges(RISK_LEGEND) for n in range(r.lowest, r.highest + 1)]
    assert sorted(numbers) == list(range(1, 101))
    classes = [(r.lowest, r.highest) for r in pixel_ranges(CHANGE_LEGEND)]
    assert classes == [(5, 5), (4, 4), (3, 3), (2, 2), (1, 1)]


def test_pixels_lie_where_the_tiles_do_with_the_colours_of_their_bands(tmp_path: Path) -> None:
    layer = scored_grid()
    write_layers(layer, [tmp_path / "risk.tif"])
    with rasterio.open(tmp_path / "risk.tif") as raster:
        assert raster.crs.to_string() == GRID.crs
        assert raster.transform == GRID.transform
        assert raster.shape == GRID.shape
        assert (raster.dtypes, raster.nodata) == (("uint8",), 0)
        found = raster.read(1).ravel()
        colours = raster.colormap(1)
    percent = layer.table["percentile"]
    np.testing.assert_array_equal(found, np.ceil(percent.fillna(0)).astype(int))
    shades = {shade.value: shade.colour for shade in RISK_LEGEND.shades}
    for value, band in zip(found, layer.table["band"], strict=True):
        *seen, opacity = colours[value]
        if pd.isna(band):
            assert (value, opacity) == (0, 0)
        else:
            assert ("#" + bytes(seen).hex(), opacity) == (shades[band], 255)
    assert [f.name for f in tmp_path.iterdir()] == ["risk.tif"]


def test_overviews_keep_the_riskiest_tile(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    risk = np.where(rng.random(WIDE.size) < 0.6, np.nan, rng.random(WIDE.size))
    layer = ranked_layer(risk, WIDE)
    write_cog(layer, tmp_path / "wide")
    whole = pixel_values(layer).reshape(WIDE.shape)
    with rasterio.open(tmp_path / "wide") as raster:
        assert raster.overviews(1) == [2, 4]
        np.testing.assert_array_equal(raster.read(1), whole)
    for level, factor in enumerate((2, 4)):
        with rasterio.open(tmp_path / "wide", overview_level=level) as raster:
            found = raster.read(1)
        assert found.shape == (-(-WIDE.rows // factor), -(-WIDE.cols // factor))
        expected = [
            [whole[r : r + factor, c : c + factor].max() for c in range(0, WIDE.cols, factor)]
            for r in range(0, WIDE.rows, factor)
        ]
        np.testing.assert_array_equal(found, expected)


def test_it_says_what_its_numbers_are(tmp_path: Path) -> None:
    layer = scored_grid(about=replace(ABOUT, attribution=f"{HOSTILE} & é"))
    write_layers(layer, [tmp_path / "risk.tif"])
    with rasterio.open(tmp_path / "risk.tif") as raster:
        words, band = raster.tags(), raster.tags(1)
        pixels = raster.read(1)
        assert raster.descriptions == ("percentile of risk, rounded up; 100 is the riskiest",)
        assert raster.units == ("%",)
    assert words["ATTRIBUTION"] == f"{HOSTILE} & é"
    assert (words["TITLE"], words["LICENCE"], words["MODEL"]) == (ABOUT.title, ABOUT.licence, ABOUT.model)
    assert json.loads(words["ROADRISK"]) == json.loads(json.dumps(layer.as_json()))
    assert json.loads(band["CLASSES"])["top 5 %"] == [96, 100]
    known = pixels[pixels > 0]
    statistics = [
        float(band[f"STATISTICS_{n}"]) for n in ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV", "VALID_PERCENT")
    ]
    expected = [known.min(), known.max(), known.mean(), known.std(), 100 * known.size / pixels.size]
    np.testing.assert_allclose(statistics, expected, rtol=1e-9)
    lowest = json.loads(words["RISK_AT_PERCENT"])
    percent = np.ceil(layer.table["percentile"])
    for at in range(1, 101):
        here = layer.table["risk"][percent == at]
        assert lowest.get(str(at)) == (None if here.empty else here.min())


def test_some_tiles_keep_their_standing_among_all(tmp_path: Path) -> None:
    layer = scored_grid()
    top = layer.taken(np.argsort(layer.table["rank"].fillna(999).to_numpy())[:4])
    write_cog(top, tmp_path / "top")
    with rasterio.open(tmp_path / "top") as raster:
        found = raster.read(1)
    assert raster.shape == GRID.shape
    assert sorted(found[found > 0]) == sorted(np.ceil(top.table["percentile"]).astype(int))


def test_classes_of_another_legend_have_a_number_each(tmp_path: Path) -> None:
    layer = ranked_layer(np.arange(GRID.size, dtype=float))
    values = np.array([*CHANGE_LEGEND.values, None], dtype=object)[np.arange(GRID.size) % 6]
    column = replace(STANDING_COLUMNS[2], name=CHANGE_LEGEND.field, meaning="How the risk changed.")
    changed = replace(
        layer,
        table=pd.DataFrame({CHANGE_LEGEND.field: values}),
        columns=(column,),
        legend=CHANGE_LEGEND,
    )
    write_cog(changed, tmp_path / "change")
    with rasterio.open(tmp_path / "change") as raster:
        expected = np.array([5, 4, 3, 2, 1, 0])[np.arange(GRID.size) % 6]
        np.testing.assert_array_equal(raster.read(1).ravel(), expected)
        colours = np.array([raster.colormap(1)[i] for i in range(6)])
        np.testing.assert_array_equal(colours, colour_table(CHANGE_LEGEND)[:6])
        assert raster.descriptions == ("How the risk changed.",)
        assert "RISK_AT_PERCENT" not in raster.tags()


def test_nothing_scored_is_all_nodata(tmp_path: Path) -> None:
    write_cog(ranked_layer(np.full(GRID.size, np.nan)), tmp_path / "none")
    with rasterio.open(tmp_path / "none") as raster:
        assert not raster.read(1).any()
        assert "STATISTICS_MEAN" not in raster.tags(1)
        assert raster.tags()["RISK_AT_PERCENT"] == "{}"


def test_points_are_no_raster(tmp_path: Path) -> None:
    layer = scored_at(given_points([-71.1], [42.3]), np.array(["a"], dtype=object))
    with pytest.raises(LayerError, match=r"^a raster needs tiles of a grid; write \.gpkg$"):
        write_cog(layer, tmp_path / "risk.tif")


def test_the_same_layer_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_cog(scored_grid(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("grid", [GRID, WIDE], ids=["small", "wide"])
def test_rio_cogeo_finds_no_fault(tmp_path: Path, grid: Grid) -> None:
    rio_cogeo = pytest.importorskip(
        "rio_cogeo", reason="rio-cogeo is not installed; make test-readers installs it"
    )
    write_cog(ranked_layer(np.arange(grid.size, dtype=float), grid), tmp_path / "risk.tif")
    valid, errors, warnings = rio_cogeo.cog_validate(tmp_path / "risk.tif", strict=True)
    assert (valid, errors, warnings) == (True, [], [])
