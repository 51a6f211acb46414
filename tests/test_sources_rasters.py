from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.windows import Window

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import RasterSource
from roadrisk.sources import rasters
from roadrisk.sources.rasters import raster_columns

GRID = grid_of_cell(LngLatBbox(-71.115, 42.34, -71.10, 42.35), 200)
LEFT, BOTTOM, RIGHT, TOP = GRID.bounds


def write(path: Path, values: NDArray[Any], transform: Affine, crs: Any = GRID.crs, **options: Any) -> str:
    bands = values if values.ndim == 3 else values[None]
    scales, offsets, units, mask = (options.pop(k, None) for k in ("scales", "offsets", "units", "mask"))
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(bands),
        height=bands.shape[1],
        width=bands.shape[2],
        dtype=bands.dtype,
        crs=crs,
        transform=transform,
        **options,
    ) as raster:
        raster.write(bands)
        if scales:
            raster.scales, raster.offsets = scales, offsets
        if units:
            raster.units = units
        if mask is not None:
            raster.write_mask(mask)
    return str(path)


def facts(path: str, grid: Grid = GRID, **settings: Any) -> dict[str, NDArray[Any]]:
    found = raster_columns(RasterSource(path, name="it", **settings), grid).facts
    return {column.name: values.reshape(grid.shape) for column, values in found}


def by_hand(
    values: NDArray[Any], valid: NDArray[Any], transform: Affine, cells: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and coverage of cells in the raster's CRS, each pixel cut by each cell."""
    row, col = np.indices(values.shape).reshape(2, -1)
    corners = [transform @ (col + dx, row + dy) for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))]
    pixels = shapely.polygons(np.stack([np.stack(c, axis=-1) for c in corners], axis=1))
    area = shapely.area(shapely.intersection(pixels, np.asarray(cells)[:, None])) * valid.ravel()
    covered = area.sum(axis=1) / shapely.area(cells)
    with np.errstate(invalid="ignore"):
        mean = (area * np.where(valid, values, 0).ravel()).sum(axis=1) / area.sum(axis=1)
    covered[covered < 1e-9] = 0
    return np.where(covered > 0, mean, np.nan), covered


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([GRID.crs, "EPSG:26986", "EPSG:3857", "EPSG:2249"]),
    st.floats(20, 700),
    st.sampled_from([0.0, 0.0, 30.0, 200.0]),
    st.booleans(),
)
def test_every_pixel_counts_with_its_share_of_the_tile(
    tmp_path_factory: pytest.TempPathFactory, seed: int, crs: str, pixel: float, angle: float, mirrored: bool
) -> None:
    rng = np.random.default_rng(seed)
    box = Transformer.from_crs(GRID.crs, crs, always_xy=True).transform_bounds(*GRID.bounds)
    x, y = rng.uniform(box[0], box[2]), rng.uniform(box[1], box[3])
    pixel *= 3.28 if crs == "EPSG:2249" else 1
    height, width = rng.integers(1, 9, 2)
    transform = (
        Affine.translation(x, y)
        @ Affine.rotation(angle)
        @ Affine.scale(pixel, pixel if mirrored else -pixel)
        @ Affine.translation(-width / 2, -height / 2)
    )
    values = rng.normal(50, 20, (height, width))
    valid = rng.random((height, width)) < 0.8
    valid[0, 0] = True
    path = write(tmp_path_factory.mktemp("r") / "r.tif", np.where(valid, values, np.nan), transform, crs)
    rows, cols = GRID.every_tile()
    mean, covered = by_hand(values, valid, transform, GRID.cells(rows, cols, crs))
    if not covered.any():
        return
    found = facts(path)
    np.testing.assert_allclose(found["coverage_it"].ravel(), covered, atol=1e-8)
    clear = (covered == 0) | (covered > 1e-6)
    np.testing.assert_allclose(found["it_mean"].ravel()[clear], mean[clear], rtol=1e-6)


def test_a_raster_in_degrees(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (40, 50))
    valid = np.ones(values.shape, dtype=bool)
    rows, cols = GRID.every_tile()
    transform = Affine(0.0005, 0, -71.119, 0, -0.0004, 42.354)
    mean, covered = by_hand(values, valid, transform, GRID.cells(rows, cols, "EPSG:4326"))
    for turns in (0, 360):  # some rasters count longitudes from 0 to 360
        path = write(tmp_path / "r.tif", values, Affine.translation(turns, 0) @ transform, "EPSG:4326")
        found = facts(path)
        np.testing.assert_allclose(found["it_mean"].ravel(), mean, atol=1e-6)
        np.testing.assert_allclose(found["coverage_it"].ravel(), covered, atol=1e-8)


def test_edges_of_large_tiles_are_bent(tmp_path: Path) -> None:
    grid = grid_of_cell(LngLatBbox(-74.5, 41.5, -73.6, 42.2), 40_000, "EPSG:32619")
    rows, cols = grid.every_tile()
    cells = grid.cells(rows, cols, "EPSG:4326")
    assert shapely.get_num_coordinates(cells[0]) > 5
    values = np.random.default_rng(4).normal(0, 1, (30, 40))
    transform = Affine(0.05, 0, -75, 0, -0.05, 42.6)
    mean, covered = by_hand(values, np.ones(values.shape, dtype=bool), transform, cells)
    found = facts(write(tmp_path / "r.tif", values, transform, "EPSG:4326"), grid)
    np.testing.assert_allclose(found["it_mean"].ravel(), mean, atol=1e-9)
    np.testing.assert_allclose(found["coverage_it"].ravel(), covered, atol=1e-9)


def test_a_sliver_that_rounding_makes_is_nothing(tmp_path: Path) -> None:
    place = Affine(200 + 1e-8, 0, LEFT - 1e-8, 0, -200, TOP)
    found = facts(write(tmp_path / "r.tif", np.full((1, 2), 7.0), place))
    assert found["coverage_it"][0, :3].tolist() == [1, 1, 0]
    assert found["coverage_it"][1:].max() == 0
    np.testing.assert_array_equal(found["it_mean"][0, :3], [7, 7, np.nan])


def test_what_is_missing(tmp_path: Path) -> None:
    """Nodata, NaN, infinity, masks and alpha; a tile without a valid pixel is missing, never 0."""
    place = Affine(200, 0, LEFT, 0, -200, TOP)  # a pixel a tile
    values = np.array([[0, 1], [2, 3]], dtype="float32")
    expected = np.array([[0, 1], [2, np.nan]])
    mask = np.array([[255, 255], [255, 0]], dtype="uint8")
    nan, inf = values.copy(), values.copy()
    nan[1, 1], inf[1, 1] = np.nan, -np.inf
    paths = [
        write(tmp_path / "nodata.tif", values, place, nodata=3),
        write(tmp_path / "nan.tif", nan, place),
        write(tmp_path / "nan_nodata.tif", nan, place, nodata=np.nan),
        write(tmp_path / "inf.tif", inf, place),
        write(tmp_path / "mask.tif", values, place, mask=mask),
        write(
            tmp_path / "alpha.tif",
            np.stack([values.astype("uint8"), mask]),
            place,
            photometric="MINISBLACK",
            alpha="YES",
        ),
    ]
    for path in paths:
        found = facts(path)
        np.testing.assert_array_equal(found["it_mean"][:2, :2], expected)
        assert np.isnan(found["it_mean"][2:]).all()
        np.testing.assert_array_equal(found["coverage_it"][:2, :2], [[1, 1], [1, 0]])
        assert found["coverage_it"].sum() == 3


def test_class_0_is_not_nodata(tmp_path: Path) -> None:
    place = Affine(100, 0, LEFT, 0, -100, TOP)
    classes = np.array([[0, 0, 9, 9], [0, 7, 9, 9]], dtype="int16")
    found = facts(write(tmp_path / "r.tif", classes, place, nodata=9), fact="share")
    assert list(found) == ["it_share_0", "it_share_7", "coverage_it"]
    assert [found[name][0, 0] for name in found] == [0.75, 0.25, 1]
    assert np.isnan(found["it_share_0"][0, 1])
    assert found["coverage_it"].sum() == 1
    found = facts(write(tmp_path / "r.tif", classes, place, nodata=0), fact="share")
    assert [found[name][0, 0] for name in found] == [1, 0, 0.25]
    assert [found[name][0, 1] for name in found] == [0, 1, 1]


def test_classes_are_few_whole_numbers(tmp_path: Path) -> None:
    place = Affine(10, 0, LEFT, 0, -10, TOP)
    values = np.arange(60, dtype="float32").reshape(6, 10)
    path = write(tmp_path / "r.tif", values, place)
    with pytest.raises(SourceError, match="band 1 holds more than 50 values, too many for shares of classes"):
        facts(path, fact="share")
    path = write(tmp_path / "r.tif", np.where(values == 3, 2.5, values % 50), place)
    with pytest.raises(SourceError, match=r"band 1 holds 2\.5, so no classes; use fact = 'mean'"):
        facts(path, fact="share")
    found = facts(write(tmp_path / "r.tif", values % 50, place), fact="share")
    assert len(found) == 51
    shares = np.stack([found[name][0, 0] for name in found if name != "coverage_it"])
    assert shares.sum() == pytest.approx(1)


def test_too_many_classes_in_several_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rasters._PIXELS_AT_ONCE, "share", 1)
    values = np.arange(60, dtype="int16").reshape(60, 1)
    path = write(tmp_path / "r.tif", values, Affine(10, 0, LEFT, 0, -10, TOP), blockysize=1)
    with pytest.raises(SourceError, match="more than 50 values"):
        facts(path, fact="share")


def test_scale_offset_unit_and_band(tmp_path: Path) -> None:
    values = np.stack([np.zeros((2, 2)), np.full((2, 2), 40)]).astype("int16")
    place = Affine(200, 0, LEFT, 0, -200, TOP)
    path = write(tmp_path / "r.tif", values, place, scales=(1, 0.1), offsets=(0, -3), units=("", "degC"))
    found = raster_columns(RasterSource(path, band=2), GRID)
    column, means = found.facts[0]
    assert (column.name, column.unit, column.combine, column.by) == (
        "r_mean",
        "degC",
        "mean",
        ("coverage_r",),
    )
    assert means[0] == pytest.approx(1)
    assert found.facts[-1][0].role == "info"
    assert found.understood == (
        f"r.tif: band 2 of 2, {GRID.crs}, nothing is missing, values times 0.1 plus -3, "
        f"4 of {GRID.size} tiles have a value",
    )


def test_no_scale_is_applied_to_what_is_missing(tmp_path: Path) -> None:
    values = np.array([[5, 99]], dtype="int16")
    place = Affine(100, 0, LEFT, 0, -200, TOP)
    found = facts(write(tmp_path / "r.tif", values, place, nodata=99, scales=(2,), offsets=(30,)))
    assert (found["it_mean"][0, 0], found["coverage_it"][0, 0]) == (40, 0.5)
    # classes are what the file says
    assert "it_share_5" in facts(str(tmp_path / "r.tif"), fact="share")


def plane(slope_x: float, slope_y: float, side_m: float = 25) -> NDArray[Any]:
    row, col = np.indices((70, 90))
    return np.asarray(300 + slope_x * col * side_m - slope_y * row * side_m)


def test_slope_of_a_plane(tmp_path: Path) -> None:
    expected = np.degrees(np.arctan(np.hypot(0.1, 0.2)))
    place = Affine(25, 0, LEFT - 100, 0, -25, TOP + 100)
    found = facts(write(tmp_path / "r.tif", plane(0.1, 0.2), place), fact="slope")
    # UTM metres are 0.04 % shorter than ground metres, or as much longer
    np.testing.assert_allclose(found["it_slope"], expected, rtol=1e-3)
    assert (found["coverage_it"] == 1).all()
    in_feet = write(tmp_path / "feet.tif", plane(0.1, 0.2) / 0.3048, place, units=("ft",))
    np.testing.assert_allclose(facts(in_feet, fact="slope")["it_slope"], found["it_slope"])
    np.testing.assert_allclose(facts(in_feet, fact="slope", unit="m")["it_slope"].max(), 36.3, atol=0.1)
    with pytest.raises(
        SourceError, match="a slope needs elevations in metres or feet, these are in 'fathom'"
    ):
        facts(in_feet, fact="slope", unit="fathom")


def test_slope_on_ground_metres(tmp_path: Path) -> None:
    """1 m a 1/3600 degree: 30.9 m on the ground north, 22.9 m east at 42 degrees north."""
    second = 1 / 3600
    row, col = np.indices((60, 90))
    place = Affine(second, 0, -71.12, 0, -second, 42.354)
    east = facts(write(tmp_path / "e.tif", col * 1.0, place, "EPSG:4326"), fact="slope")["it_slope"]
    north = facts(write(tmp_path / "n.tif", row * 1.0, place, "EPSG:4326"), fact="slope")["it_slope"]
    np.testing.assert_allclose(1 / np.tan(np.radians(east)), 22.9, atol=0.05)
    np.testing.assert_allclose(1 / np.tan(np.radians(north)), 30.86, atol=0.02)
    # EPSG:3857 metres are 1.35 times too long here
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(-71.12, 42.36)
    mercator = write(tmp_path / "m.tif", col * 1.0, Affine(50, 0, x, 0, -50, y), "EPSG:3857")
    found = facts(mercator, fact="slope")["it_slope"]
    np.testing.assert_allclose(1 / np.tan(np.radians(found)), 50 * 0.7401, rtol=1e-3)


def test_slope_needs_all_nine_pixels(tmp_path: Path) -> None:
    elevation = plane(0.1, 0.0, 200)[:6, :6].astype("float32")
    elevation[2, 2] = -9999
    found = facts(
        write(tmp_path / "r.tif", elevation, Affine(200, 0, LEFT, 0, -200, TOP), nodata=-9999), fact="slope"
    )
    known = ~np.isnan(found["it_slope"][:6, :6])
    expected = np.zeros((6, 6), dtype=bool)
    expected[1:5, 1:5] = True  # not on the rim of the raster
    expected[1:4, 1:4] = False  # not beside the missing one
    np.testing.assert_array_equal(known, expected[: known.shape[0], : known.shape[1]])


@pytest.mark.parametrize("fact", ["mean", "share", "slope"])
@pytest.mark.parametrize("crs", [GRID.crs, "EPSG:26986"])
def test_windows_and_batches_show_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fact: str, crs: str
) -> None:
    """A tile may be far larger than a window, and a window meet more tiles than a batch holds."""
    box = Transformer.from_crs(GRID.crs, crs, always_xy=True).transform_bounds(*GRID.bounds)
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4, (90, 100)).astype("uint8")
    place = Affine(20, 0, box[0] - 130, 0, -20, box[3] + 90)
    path = write(tmp_path / "r.tif", values, place, crs, nodata=3, tiled=True, blockxsize=16, blockysize=16)
    large, small = GRID.coarser(5), GRID
    whole = [facts(path, grid, fact=fact) for grid in (large, small)]
    monkeypatch.setitem(rasters._PIXELS_AT_ONCE, fact, 256)
    monkeypatch.setattr("roadrisk.sources.raster_bands._WIDTH_AT_ONCE", 16)
    monkeypatch.setattr(rasters, "_CROSSINGS_AT_ONCE", 100)
    for before, grid in zip(whole, (large, small), strict=True):
        after = facts(path, grid, fact=fact)
        assert after.keys() == before.keys()
        for name in before:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-3 if fact == "slope" else 1e-9)


def test_coarser_tiles_say_the_same(tmp_path: Path) -> None:
    """The mean by coverage of four tiles is that of the tile they make."""
    rng = np.random.default_rng(2)
    values = np.where(rng.random((60, 70)) < 0.7, rng.normal(9, 3, (60, 70)), np.nan)
    path = write(tmp_path / "r.tif", values, Affine(19, 3, LEFT + 77, 2, -23, TOP - 35))
    coarse = GRID.coarser(2)
    fine, whole = facts(path), facts(path, coarse)
    rows, cols = GRID.every_tile()
    up, across = GRID.parents(rows, cols, 2)
    parent = up * coarse.cols + across
    weight = fine["coverage_it"].ravel()
    total = np.bincount(parent, weight, minlength=coarse.size)
    sums = np.bincount(parent, weight * np.nan_to_num(fine["it_mean"].ravel()), minlength=coarse.size)
    inside = np.bincount(parent, minlength=coarse.size) == 4
    known = inside & (total > 0)
    np.testing.assert_allclose(whole["it_mean"].ravel()[known], (sums / total)[known], rtol=1e-9)
    np.testing.assert_allclose(whole["coverage_it"].ravel()[inside], (total / 4)[inside], atol=1e-9)


def no_crs(folder: Path) -> str:
    return write(folder / "r.tif", np.ones((2, 2)), Affine(200, 0, LEFT, 0, -200, TOP), None)


def elsewhere(folder: Path) -> str:
    return write(folder / "r.tif", np.ones((2, 2)), Affine(200, 0, LEFT - 9000, 0, -200, TOP))


def blank(folder: Path) -> str:
    return write(folder / "r.tif", np.zeros((2, 2)), Affine(200, 0, LEFT, 0, -200, TOP), nodata=0)


def undeclared(folder: Path) -> str:
    values = np.array([[1, -3.4e38]], dtype="float32")
    return write(folder / "r.tif", values, Affine(200, 0, LEFT, 0, -200, TOP))


def complex_numbers(folder: Path) -> str:
    return write(folder / "r.tif", np.ones((2, 2), dtype="complex64"), Affine(200, 0, LEFT, 0, -200, TOP))


def text(folder: Path) -> str:
    (folder / "r.tif").write_text("no raster")
    return str(folder / "r.tif")


def cut_short(folder: Path) -> str:
    rng = np.random.default_rng(0)
    path = write(folder / "r.tif", rng.random((300, 300)), Affine(10, 0, LEFT, 0, -10, TOP))
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 3])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_crs, "has no CRS; give it one with gdal_edit.py -a_srs EPSG:CODE"),
        (elsewhere, "does not meet the grid: it is in "),
        (blank, "no pixel in the grid has a value; leave it out or check --bbox"),
        (undeclared, "band 1 holds values beyond 1e+12, which can only mean that none is known"),
        (complex_numbers, "band 1 holds complex numbers; give a real one"),
        (text, "is not a raster that GDAL opens"),
        (cut_short, "is damaged: "),
        (lambda folder: str(folder / "absent.tif"), "is not a raster that GDAL opens"),
        (
            lambda folder: str(folder / "*.tif"),
            "is a pattern, and a raster is one file; join them with gdalbuildvrt",
        ),
    ],
)
def test_one_clear_line(tmp_path: Path, make: Callable[[Path], str], message: str) -> None:
    path = make(tmp_path)
    with pytest.raises(SourceError, match=re.escape(message)) as error:
        facts(path)
    assert "\n" not in str(error.value)
    assert path in str(error.value)


def test_bands_are_counted_from_1(tmp_path: Path) -> None:
    path = write(tmp_path / "r.tif", np.ones((2, 2, 2)), Affine(200, 0, LEFT, 0, -200, TOP))
    with pytest.raises(SourceError, match="has no band 3; its bands are 1 to 2"):
        facts(path, band=3)


def test_as_exactextract(tmp_path: Path) -> None:
    exactextract = pytest.importorskip("exactextract")
    geopandas = pytest.importorskip("geopandas")
    rng = np.random.default_rng(5)
    values = np.where(rng.random((80, 90)) < 0.8, rng.normal(9, 3, (80, 90)), np.nan)
    path = write(tmp_path / "r.tif", values, Affine(25, 0, LEFT - 60, 0, -25, TOP + 40))
    cells = geopandas.GeoDataFrame(geometry=GRID.cells(*GRID.every_tile()), crs=GRID.crs)
    expected = exactextract.exact_extract(path, cells, ["mean", "count"], output="pandas")
    found = facts(path)
    np.testing.assert_allclose(found["it_mean"].ravel(), expected["mean"], rtol=1e-6)
    np.testing.assert_allclose(found["coverage_it"].ravel(), expected["count"] * 25**2 / 200**2, rtol=1e-5)


def test_boston_road_mask(shared_data: Path) -> None:
    """Tiles of 50 m and 90 m on a road mask of 1 m: the count of its pixels, and none lost."""
    path = shared_data / "boston" / "masks" / "10078675.tif"
    with rasterio.open(path) as raster:
        mask, (left, bottom, right, top) = raster.read(1), raster.bounds
    west, south, east, north = Transformer.from_crs(26986, 4326, always_xy=True).transform_bounds(
        left, bottom, right, top
    )
    box = LngLatBbox(west - 0.01, south - 0.01, east + 0.01, north + 0.01)
    grid = grid_of_cell(box, 50, "EPSG:26986")
    row, col = np.indices(mask.shape)
    rows, cols = grid.locate((left + col + 0.5).ravel(), (top - row - 0.5).ravel())
    count = np.bincount(rows * grid.cols + cols, (mask == 255).ravel(), minlength=grid.size)
    pixels = np.bincount(rows * grid.cols + cols, minlength=grid.size)
    shares = facts(str(path), grid, fact="share")
    np.testing.assert_allclose(shares["coverage_it"].ravel(), pixels / 2500, atol=1e-9)
    known = pixels > 0
    np.testing.assert_allclose(
        shares["it_share_255"].ravel()[known], (count / pixels.clip(1))[known], atol=1e-9
    )
    assert np.isnan(shares["it_share_255"].ravel()[~known]).all()
    means = facts(str(path), grid)
    np.testing.assert_allclose(means["it_mean"], 255 * shares["it_share_255"], atol=1e-6)
    grid = grid_of_cell(box, 90, "EPSG:26986")  # not in step with the pixels
    shares = facts(str(path), grid, fact="share")
    area = np.nansum(shares["it_share_255"] * shares["coverage_it"]) * 90**2
    assert area == pytest.approx((mask == 255).sum(), rel=1e-9)


def overlaps(tiles: NDArray[Any], pixels: NDArray[Any]) -> NDArray[Any]:
    """(T, P) lengths that intervals between edges share."""
    low = np.maximum(tiles[:-1, None], pixels[None, :-1])
    return np.asarray((np.minimum(tiles[1:, None], pixels[None, 1:]) - low).clip(0))


@pytest.mark.parametrize(
    ("name", "col", "row"),
    [
        ("128_none_z2", 0, 0),
        ("256_lzw_z3", 0, 0),
        ("512_deflate_z2", 0, 0),
        ("512_jpeg_z5", 4900, 6900),
        ("512_webp_z5", 4900, 6900),
    ],
)
def test_naip(shared_data: Path, name: str, col: int, row: int) -> None:
    """Every kind of cloud-optimised GeoTIFF: rows times columns of overlaps, as the CRS is the same."""
    path = shared_data / "tiles" / "naip_cog" / f"usda_naip_{name}.tif"
    with rasterio.open(path) as raster:
        window = Window(col, row, min(1100, raster.width), min(900, raster.height))
        values, valid = raster.read(1, window=window), raster.read_masks(1, window=window) > 0
        left, top = raster.transform @ (col, row)
        pixel = raster.transform.a
    to_lnglat = Transformer.from_crs(3857, 4326, always_xy=True)
    (west, east), (north, south) = to_lnglat.transform(
        [left + 70 * (col > 0), left + 0.9 * pixel * window.width],
        [top - 70 * (row > 0), top - 0.9 * pixel * window.height],
    )
    grid = grid_of_cell(LngLatBbox(west, south, east, north), 60, "EPSG:3857")
    grid = Grid(**{**grid.as_json(), "cols": grid.cols - 1, "rows": grid.rows - 1})
    across = overlaps(
        grid.bounds.left + 60.0 * np.arange(grid.cols + 1), left + pixel * np.arange(window.width + 1)
    )
    down = overlaps(
        60.0 * np.arange(grid.rows + 1), grid.bounds.top - top + pixel * np.arange(window.height + 1)
    )
    area = down @ valid @ across.T
    assert area.any()
    assert (area == 0).any()
    found = facts(str(path), grid)
    np.testing.assert_allclose(found["coverage_it"], area / 3600, atol=1e-8)
    known = area > 1e-3
    mean = (down @ np.where(valid, values, 0.0) @ across.T)[known] / area[known]
    np.testing.assert_allclose(found["it_mean"][known], mean, atol=1e-6)
