"""Reading sheets: colours, what is known of them, and at what size they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from file_server import serving
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.shutil import copy
from sheets import GRID, PLACE, RGBA, found, scene, sheet

import roadrisk.imagery.reading as reading
from roadrisk.imagery.reading import OpenSheet, PixelBox, open_sheet, reading_environment
from roadrisk.imagery.sheets import Sheet

HOLE = np.ones((90, 120), bool)
HOLE[20:50, 30:100] = False
MOST = 11.0


def the_sheet(path: Path, **changes: Any) -> Sheet:
    return replace(found([path], GRID).found[0], **changes)


def read(path: Path, scale: float = 1.0, box: PixelBox | None = None, **changes: Any) -> NDArray[np.uint8]:
    """(H, W, 4) all of a sheet as wanted at a scale."""
    with reading_environment(), open_sheet(the_sheet(path, **changes), scale, MOST) as opened:
        return opened.read(box or PixelBox(0, 0, opened.width, opened.height))


def weighed(colours: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What reading should give: (H, W, 4) from (3, H, W) colours."""
    return np.dstack([*(colours * known), known * 255]).astype(np.uint8)


def as_vrt(path: Path, said: str, kind: str = "Gray") -> Path:
    """A VRT of a one-band sheet of 120 x 90 px of which more is said than a GeoTIFF can."""
    text = f"""<VRTDataset rasterXSize="120" rasterYSize="90"><SRS>{GRID.crs}</SRS>
    <GeoTransform>{", ".join(map(str, PLACE.to_gdal()))}</GeoTransform><VRTRasterBand dataType="Byte" band="1">
    {said}<ColorInterp>{kind}</ColorInterp><SimpleSource><SourceFilename>{path}</SourceFilename></SimpleSource>
    </VRTRasterBand></VRTDataset>"""
    path.with_suffix(".vrt").write_text(text)
    return path.with_suffix(".vrt")


# --- what is known


def test_three_colours_without_a_mask(tmp_path: Path) -> None:
    pixels = scene(90, 120)
    got = read(sheet(tmp_path / "a.tif", pixels))
    assert np.array_equal(got, weighed(pixels, np.ones((90, 120), bool)))


@pytest.mark.parametrize("bands", [1, 3])
def test_a_mask_inside_the_file(tmp_path: Path, bands: int) -> None:
    pixels = scene(90, 120, bands=bands)
    got = read(sheet(tmp_path / "a.tif", pixels, mask=HOLE))
    assert np.array_equal(got, weighed(np.broadcast_to(pixels, (3, 90, 120)), HOLE))


def test_a_mask_beside_the_file(tmp_path: Path) -> None:
    pixels = scene(90, 120)
    path = sheet(tmp_path / "a.tif", pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
        target.write_mask(HOLE)
    assert (tmp_path / "a.tif.msk").is_file()
    assert np.array_equal(read(path), weighed(pixels, HOLE))


@pytest.mark.parametrize("opaque", [128, 255])
def test_alpha_of_at_least_half(tmp_path: Path, opaque: int) -> None:
    pixels = scene(90, 120)
    alpha = np.where(HOLE, opaque, 127).astype(np.uint8)
    got = read(sheet(tmp_path / "a.tif", np.concatenate([pixels, alpha[None]]), colours=RGBA))
    assert np.array_equal(got, weighed(pixels, HOLE))


def test_alpha_of_16_bit(tmp_path: Path) -> None:
    alpha = np.where(HOLE, 32768, 32767).astype(np.uint16)
    pixels = np.concatenate([scene(90, 120).astype(np.uint16), alpha[None]])
    got = read(sheet(tmp_path / "a.tif", pixels, colours=RGBA), stretch=((0, 255),) * 3)
    assert np.array_equal(got, weighed(pixels[:3], HOLE))


def test_alpha_of_fewer_bits_than_its_pixels(tmp_path: Path) -> None:
    alpha = np.where(HOLE, 4095, 2047).astype(np.uint16)
    pixels = np.concatenate([scene(90, 120).astype(np.uint16), alpha[None]])
    path = sheet(tmp_path / "a.tif", pixels, colours=RGBA, nbits=12)
    got = read(path, stretch=((0, 255),) * 3)
    assert np.array_equal(got, weighed(pixels[:3], HOLE))


def test_sixteen_bits_with_an_alpha_of_eight(tmp_path: Path) -> None:
    """What `gdalbuildvrt -addalpha` makes of sheets of 16 bits."""
    pixels = scene(90, 120).astype(np.uint16)
    sheet(tmp_path / "a.tif", pixels)
    sheet(tmp_path / "alpha.tif", np.where(HOLE, 255, 0).astype(np.uint8)[None])
    bands = [("Red", 1, "UInt16"), ("Green", 2, "UInt16"), ("Blue", 3, "UInt16"), ("Alpha", 1, "Byte")]
    said = "".join(
        f'<VRTRasterBand dataType="{dtype}" band="{number}"><ColorInterp>{kind}</ColorInterp><SimpleSource>'
        f"<SourceFilename>{tmp_path / ('a.tif' if number < 4 else 'alpha.tif')}</SourceFilename>"
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (kind, band, dtype) in enumerate(bands, start=1)
    )
    path = tmp_path / "a.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="120" rasterYSize="90"><SRS>{GRID.crs}</SRS><GeoTransform>'
        f"{', '.join(map(str, PLACE.to_gdal()))}</GeoTransform>{said}</VRTDataset>"
    )
    assert np.array_equal(read(path, stretch=((0, 255),) * 3), weighed(pixels, HOLE))


def test_nodata_is_a_hole_where_all_colours_have_it(tmp_path: Path) -> None:
    pixels = scene(90, 120)
    pixels[:, ~HOLE] = 7
    pixels[0, 0, 0] = 7
    got = read(sheet(tmp_path / "a.tif", pixels, nodata=7))
    assert np.array_equal(got, weighed(pixels, HOLE))


@pytest.mark.parametrize("nodata", [-9999, 300, 0.5])
def test_a_nodata_that_no_pixel_can_have(tmp_path: Path, nodata: float) -> None:
    pixels = scene(90, 120, bands=1)
    path = sheet(tmp_path / "a.tif", pixels)
    vrt = as_vrt(path, f"<NoDataValue>{nodata}</NoDataValue>")
    assert (read(vrt)[..., 3] == 255).all()


@pytest.mark.parametrize("nodata", [None, np.nan, -3.4028234663852886e38])
def test_floats_that_are_no_numbers_are_holes(tmp_path: Path, nodata: float | None) -> None:
    pixels = scene(90, 120).astype(np.float32)
    pixels[:, ~HOLE] = np.nan if nodata is None else nodata
    options = {} if nodata is None else {"nodata": nodata}
    got = read(sheet(tmp_path / "a.tif", pixels, **options), stretch=((0, 255),) * 3)
    assert np.array_equal(got, weighed(np.where(HOLE, pixels, 0), HOLE))
    pixels[1, 0, 0], pixels[1, 0, 1] = np.nan, np.inf
    got = read(sheet(tmp_path / "b.tif", pixels, **options), stretch=((0, 255),) * 3)
    assert not got[0, :2].any()


# --- colours


def test_a_palette_becomes_colours_and_its_transparent_entry_a_hole(tmp_path: Path) -> None:
    index = (scene(90, 120, bands=1) // 64).astype(np.uint8)
    colours = {0: (10, 20, 30, 255), 1: (200, 0, 90, 255), 2: (5, 250, 5, 255), 3: (70, 80, 90, 0)}
    entries = "".join(
        f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{alpha}"/>' for r, g, b, alpha in colours.values()
    )
    path = as_vrt(sheet(tmp_path / "a.tif", index), f"<ColorTable>{entries}</ColorTable>", "Palette")
    table = np.array(list(colours.values()))
    wanted = np.moveaxis(table[index[0]], -1, 0)
    assert np.array_equal(read(path), weighed(wanted[:3], wanted[3] == 255))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_become_shades_up_to_white(tmp_path: Path, bits: int) -> None:
    values = (scene(90, 120, bands=1) >> (8 - bits)).astype(np.uint8)
    got = read(sheet(tmp_path / "a.tif", values, nbits=bits))
    assert np.array_equal(got[..., 1], values[0] * (255 // (2**bits - 1)))
    assert got.max() == 255


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_sheet_whose_zero_is_white(tmp_path: Path, bits: int) -> None:
    values = (scene(512, 768, bands=1) >> (8 - bits)).astype(np.uint8)
    path = sheet(tmp_path / "a.tif", values, nbits=bits, photometric="MINISWHITE")
    assert np.array_equal(read(path)[..., 1], 255 - values[0] * (255 // (2**bits - 1)))


def test_an_overview_and_a_stretch_of_a_sheet_whose_zero_is_white(tmp_path: Path) -> None:
    values = scene(512, 768, bands=1).astype(np.uint16)
    path = sheet(tmp_path / "a.tif", values, photometric="MINISWHITE")
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2], Resampling.nearest)
    stretch = ((0.0, 255.0),) * 3
    assert np.array_equal(read(path, stretch=stretch)[..., 2], 255 - values[0])
    assert np.array_equal(read(path, 2.0, stretch=stretch)[..., 2], 255 - values[0, ::2, ::2])


def test_sixteen_bits_are_stretched_each_colour_by_its_own_ends(tmp_path: Path) -> None:
    pixels = np.stack([np.linspace(0, 65535, 120 * 90).reshape(90, 120)] * 3).astype(np.uint16)
    stretch = ((100.0, 5000.0), (0.0, 65535.0), (30000.0, 30001.0))
    got = read(sheet(tmp_path / "a.tif", pixels), stretch=stretch)
    for band, (black, white) in enumerate(stretch):
        exact = np.clip((pixels[band].astype(float) - black) / (white - black), 0, 1) * 255
        assert np.abs(got[..., band] - exact).max() <= 0.5 + 1e-3


def test_thirty_two_bits_keep_their_last_digits(tmp_path: Path) -> None:
    pixels = (2**31 + np.arange(90 * 120).reshape(1, 90, 120)).astype(np.uint32)
    got = read(sheet(tmp_path / "a.tif", pixels), stretch=((2.0**31, 2.0**31 + 255),) * 3)
    assert got[0, :3, 0].tolist() == [0, 1, 2]


def test_near_infrared_as_red(tmp_path: Path) -> None:
    four = scene(90, 120, bands=4)
    path = sheet(tmp_path / "a.tif", four, colours=(*RGBA[:3], ColorInterp.undefined))
    chosen = found([path], GRID, bands=(4, 1, 2)).found[0]
    with reading_environment(), open_sheet(chosen, 1.0, MOST) as opened:
        got = opened.read(PixelBox(0, 0, 120, 90))
    assert np.array_equal(got, weighed(four[[3, 0, 1]], np.ones((90, 120), bool)))


# --- size


def planted(path: Path, ratios: list[int], external: bool = False, **options: Any) -> Path:
    """A sheet whose overviews have the value of their ratio everywhere, the whole 200."""
    sheet(path, np.full((3, 512, 768), 200, np.uint8), tiled=True, blockxsize=64, blockysize=64, **options)
    with rasterio.Env(TIFF_USE_OVR=external), rasterio.open(path, "r+") as target:
        target.build_overviews(ratios, Resampling.nearest)
    for level, ratio in enumerate(ratios):
        with rasterio.open(
            path.with_suffix(".tif.ovr") if external else path, "r+", **of_level(external, level)
        ) as o:
            o.write(np.full((3, 512 // ratio, 768 // ratio), ratio, np.uint8))
    return path


def of_level(external: bool, level: int) -> dict[str, int]:
    """How a level is opened: the first of an external file is the file itself."""
    if external:
        return {"overview_level": level - 1} if level else {}
    return {"overview_level": level}


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    ("scale", "colour", "side"),
    [(0.5, 200, 1), (1.9, 200, 1), (1.99, 2, 2), (2.0, 2, 2), (3.7, 2, 2), (4.0, 4, 4), (9.0, 4, 4)],
)
def test_the_coarsest_overview_that_is_as_fine_as_wanted(
    tmp_path: Path, external: bool, scale: float, colour: int, side: int
) -> None:
    path = planted(tmp_path / "a.tif", [2, 4], external)
    with reading_environment(), open_sheet(the_sheet(path), scale, MOST) as opened:
        assert (opened.width, opened.height) == (768 // side, 512 // side)
        assert (opened.x_scale, opened.y_scale, opened.factor) == (side, side, 1)
        assert (opened.read(PixelBox(3, 2, 9, 9))[..., :3] == colour).all()


def test_an_overview_is_shrunk_further(tmp_path: Path) -> None:
    path = planted(tmp_path / "a.tif", [2, 4])
    with reading_environment(), open_sheet(the_sheet(path), 4 * MOST + 1, MOST) as opened:
        assert (opened.factor, opened.scale, opened.width, opened.height) == (2, 8.0, 96, 64)
        assert (opened.read(PixelBox(0, 0, 96, 64))[..., :3] == 4).all()


def test_overviews_with_their_masks(tmp_path: Path) -> None:
    known = np.ones((512, 768), bool)
    known[:256] = False
    path = sheet(tmp_path / "a.tif", scene(512, 768), mask=known)
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2], Resampling.average)
    with reading_environment(), open_sheet(the_sheet(path), 2.0, MOST) as opened:
        assert opened.scale == 2
        got = opened.read(PixelBox(0, 0, 384, 256))
    assert np.array_equal(got[..., 3] == 255, known[::2, ::2])


def written_after(path: Path, known: NDArray[np.bool_], internal: bool) -> None:
    planted(path, [2])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as target:
        target.write_mask(known)


def inside_after(path: Path, known: NDArray[np.bool_]) -> None:
    written_after(path, known, internal=True)


def beside_after(path: Path, known: NDArray[np.bool_]) -> None:
    written_after(path, known, internal=False)


def with_overviews_beside(path: Path, known: NDArray[np.bool_]) -> None:
    sheet(path, np.full((3, 512, 768), 200, np.uint8), mask=known)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as target:
        target.build_overviews([2], Resampling.average)


def nodata_after(path: Path, known: NDArray[np.bool_]) -> None:
    sheet(path, weighed(np.full((3, 512, 768), 200), known)[..., :3].transpose(2, 0, 1))
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2], Resampling.average)
    with rasterio.open(path, "r+") as target:
        target.nodata = 0


@pytest.mark.parametrize("made", [inside_after, beside_after, with_overviews_beside, nodata_after])
def test_overviews_that_lack_the_mask_are_left_alone(tmp_path: Path, made: Callable[..., None]) -> None:
    known = np.ones((512, 768), bool)
    known[:256] = False
    path = tmp_path / "a & b.tif"
    made(path, known)
    with rasterio.open(path) as source:
        assert source.overviews(1) == [2]
    with reading_environment(), open_sheet(the_sheet(path), 2.0, MOST) as opened:
        got = opened.read(PixelBox(0, 0, 768, 512))
    assert np.array_equal(got, weighed(np.full((3, 512, 768), 200), known))


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("float32", np.nan), ("float32", -1e30)])
def test_overviews_that_know_of_nodata_are_taken(tmp_path: Path, dtype: str, nodata: float) -> None:
    path = sheet(tmp_path / "a.tif", np.full((3, 512, 768), 9, dtype), nodata=nodata)
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2], Resampling.average)
    shown = the_sheet(path, stretch=((0.0, 255.0),) * 3)
    with reading_environment(), open_sheet(shown, 2.0, MOST) as opened:
        assert opened.scale == 2


def test_a_mask_beside_the_file_that_has_overviews_too(tmp_path: Path) -> None:
    known = np.ones((512, 768), bool)
    known[:256] = False
    path = sheet(tmp_path / "a.tif", scene(512, 768))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
        target.write_mask(known)
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2], Resampling.average)
    with reading_environment(), open_sheet(the_sheet(path), 2.0, MOST) as opened:
        assert opened.scale == 2
        got = opened.read(PixelBox(0, 0, 384, 256))
    assert np.array_equal(got[..., 3] == 255, known[::2, ::2])


@pytest.mark.parametrize("name", ["/vsicurl/http://{}/cog.tif?sig=1&x=2", "/vsis3/bucket/cog.tif"])
def test_of_a_sheet_with_a_mask_far_away_only_the_overview_is_fetched(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    known = rng.random((1024, 1024)) < 0.5
    plain = sheet(tmp_path / "bucket" / "a.tif", rng.integers(1, 255, (3, 1024, 1024), np.uint8), mask=known)
    path = plain.with_name("cog.tif")
    copy(plain, path, driver="COG", blocksize=128, overview_resampling="average")
    local = the_sheet(path)
    with serving(tmp_path) as server:
        host = f"127.0.0.1:{server.port}"
        said = {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
        for setting, value in {**said, "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(setting, value)
        remote = replace(local, path=name.format(f"{host}/bucket"))
        with reading_environment(), open_sheet(remote, 8.0, MOST) as opened:
            assert opened.scale == 8
            got = opened.read(PixelBox(0, 0, 128, 128))
        assert server.body_bytes < path.stat().st_size / 8
    with reading_environment(), open_sheet(local, 8.0, MOST) as opened:
        assert np.array_equal(got, opened.read(PixelBox(0, 0, 128, 128)))


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_what_is_shrunk_is_the_mean_of_what_is_known(
    tmp_path: Path, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SHRUNK_PX", 900)
    pixels = scene(100, 131)
    known = np.ones((100, 131), bool)
    known[22:50, 33:80] = False
    path = sheet(tmp_path / "a.tif", pixels, mask=known)
    scale = factor * MOST
    got = read(path, scale)
    height, width = -(-100 // factor), -(-131 // factor)
    assert got.shape == (height, width, 4)
    whole = np.zeros((height * factor, width * factor, 4))
    whole[:100, :131] = weighed(pixels, known)
    exact = whole.reshape(height, factor, width, factor, 4).mean(axis=(1, 3))
    assert np.abs(got - exact).max() <= 0.5 + 1e-3
    # wherever it is read from
    box = PixelBox(3, 5, width - 1, height)
    assert np.array_equal(read(path, scale, box), got[5:, 3 : width - 1])


def test_little_is_read_at_a_time_of_a_sheet_that_is_shrunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"tiled": True, "sparse_ok": True, "compress": "deflate"}
    shape = {"count": 3, "width": 20_000, "height": 20_000, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs=GRID.crs, transform=PLACE, **shape, **options):
        pass
    sizes = []
    filed = OpenSheet._as_filed

    def counted(self: OpenSheet, box: PixelBox) -> Any:
        sizes.append(box.size)
        return filed(self, box)

    monkeypatch.setattr(OpenSheet, "_as_filed", counted)
    with reading_environment(), open_sheet(the_sheet(path), 3000.0, MOST) as opened:
        assert opened.read(PixelBox(0, 0, opened.width, opened.height)).shape[0] < 100
    assert sum(sizes) == 20_000**2
    assert max(sizes) <= reading.SHRUNK_PX


def test_of_a_sheet_far_away_only_the_overview_is_fetched(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 1024, 1024), np.uint8)
    path = tmp_path / "cog.tif"
    copy(sheet(tmp_path / "a.tif", pixels), path, driver="COG", blocksize=128, overview_resampling="average")
    local = the_sheet(path)
    with serving(tmp_path) as server:
        remote = replace(local, path=f"/vsicurl/{server.url('cog.tif')}")
        with reading_environment(), open_sheet(remote, 8.0, MOST) as opened:
            got = opened.read(PixelBox(0, 0, 128, 128))
        assert server.body_bytes < path.stat().st_size / 8
    with reading_environment(), open_sheet(local, 8.0, MOST) as opened:
        assert np.array_equal(got, opened.read(PixelBox(0, 0, 128, 128)))


# --- faults


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_bytes(b"II*\0")])
def test_a_sheet_that_is_no_longer_one(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    path = sheet(tmp_path / "a.tif", scene(90, 120))
    gone = the_sheet(path)
    spoil(path)
    with reading_environment(), pytest.raises(RasterioError), open_sheet(gone, 1.0, MOST):
        pass
