"""Faults of the imagery part that are known and not mended yet; each passes when its fault is gone."""

from __future__ import annotations

import copy
import gzip
import io
import os
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from file_server import Reply
from file_server import serving as serving_files
from PIL import Image
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer
from rasterio.enums import Resampling
from sheets import GRID, PLACE, found, scene, sheet
from test_catalogues import COLLECTION, QUICK, Api, answer, item
from tile_server import body, encoded, made_up, pixels_of, redirect, serving, status

from roadrisk.errors import RoadriskError, SourceError
from roadrisk.grid import Grid, LngLatBbox, Part
from roadrisk.gridding import grid_of_zoom
from roadrisk.imagery.catalogues import catalogue_sheets
from roadrisk.imagery.finding import found_sheets
from roadrisk.imagery.manners import Manners
from roadrisk.imagery.sheets import Sheets
from roadrisk.imagery.stretching import stretched
from roadrisk.imagery.tiles.directories import Damaged, directory_of
from roadrisk.imagery.tiles.servers import SAMPLE_TILES, served_sheets
from roadrisk.mosaic.cutting import cut_view
from roadrisk.mosaic.jobs import Target
from roadrisk.mosaic.picture import Painted
from roadrisk.mosaic.warping import SheetPainter
from roadrisk.progress import silent
from roadrisk.region import region_of
from roadrisk.source_settings import ImagerySource, SheetIndex
from roadrisk.viewing import view_plans, views_plan

TILE = 64
WIDTH, HEIGHT = (
    round(n) for n in (GRID.bounds.right - GRID.bounds.left, GRID.bounds.top - GRID.bounds.bottom)
)
EAST_HALF = np.arange(WIDTH) >= WIDTH // 2
MASK = np.broadcast_to(EAST_HALF, (HEIGHT, WIDTH))
SECRET = "s3cr3t"
ONE_TILE = grid_of_zoom(LngLatBbox(-71.06, 42.35, -71.0599, 42.3501), 17)
ONCE = Manners(answer_s=5.0, tries=1, backoff_s=0.01)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ROADRISK_CONTACT", "tests@example.org")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fault(reason: str, raises: type[BaseException] | tuple[type[BaseException], ...] = AssertionError) -> Any:
    return pytest.mark.xfail(strict=True, reason=reason, raises=raises)


def painted(sheets: Sheets, grid: Grid = GRID, tile_size: int = TILE) -> Painted:
    return SheetPainter(tuple(sheets), grid, tile_size).painted(Part(0, 0, *grid.shape))


def vrt(path: Path, bands: str, transform: Affine = PLACE, width: int = WIDTH, height: int = HEIGHT) -> Path:
    place = ",".join(map(repr, transform.to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{GRID.crs}</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def band(number: int, file: Path, of: int, dtype: str = "Byte", more: str = "") -> str:
    return (
        f'<VRTRasterBand dataType="{dtype}" band="{number}">{more}<SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{file}</SourceFilename><SourceBand>{of}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
    )


# --- secrets and files of this computer


@fault("a remote file is opened by any driver of GDAL's: a VRT of a catalogue names files here")
def test_a_picture_of_a_catalogue_leads_to_no_file_of_this_computer(tmp_path: Path) -> None:
    private = tmp_path / "private.txt"
    private.write_text("what nobody else is to see " * 100)
    raw = (
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="0">{private}</SourceFilename><ImageOffset>0</ImageOffset>'
        "<PixelOffset>1</PixelOffset><LineOffset>40</LineOffset></VRTRasterBand>"
    )
    evil = vrt(tmp_path / "evil.vrt", raw, PLACE @ Affine.scale(50), 40, 50).read_bytes()
    with serving_files(tmp_path / "served") as served:
        served.always["/evil.tif"] = Reply(200, evil, {"ETag": '"1"'})
        one = item("a")
        Api(served, [one])
        one["assets"]["image"]["href"] = served.url("evil.tif")
        try:
            picture = painted(found_sheets([ImagerySource("stac:" + served.url("v1"))], GRID, TILE)).picture
        except RoadriskError:
            return
    assert not picture.valid.any()


@fault("dates.dated prints the source's path as it was given")
def test_an_index_of_other_sheets_does_not_show_a_signature(tmp_path: Path) -> None:
    sheet(tmp_path / "x.tif", scene(200, 200))
    (tmp_path / "index.csv").write_text("name,taken\nother,2020-01-01\n")
    index = SheetIndex(path=str(tmp_path / "index.csv"), name="name", taken="taken")
    with serving_files(tmp_path) as served, pytest.raises(SourceError) as error:
        found_sheets([ImagerySource(served.url(f"x.tif?sig={SECRET}"), index=index)], GRID, TILE)
    assert SECRET not in str(error.value)


@fault("headers.header_of passes on what GDAL says, and public_name knows no /vsicurl?")
@pytest.mark.parametrize(
    "path",
    [
        f"postgresql://me:{SECRET}@127.0.0.1:1/x",
        f"/vsicurl?header.Authorization=Bearer%20{SECRET}&max_retry=0&url=http%3A%2F%2F127.0.0.1%3A1%2Fx.tif",
    ],
)
def test_no_name_of_gdals_shows_its_secrets(path: str) -> None:
    with pytest.raises(SourceError) as error:
        found_sheets([ImagerySource(path)], GRID, TILE)
    assert SECRET not in str(error.value)


# --- wrong pixels, lost without a word


def _mask_after_overviews(path: Path, pixels: np.ndarray) -> None:
    sheet(path, pixels, tiled=True, blockxsize=256, blockysize=256)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.average)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(MASK)


def _overviews_beside(path: Path, pixels: np.ndarray) -> None:
    sheet(path, pixels, mask=MASK, tiled=True, blockxsize=256, blockysize=256)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.average)


@fault("overviews without a mask of their own are taken, and their pixels are all known")
@pytest.mark.parametrize("made", [_mask_after_overviews, _overviews_beside])
def test_a_mask_that_overviews_lack_is_respected(tmp_path: Path, made: Callable[..., None]) -> None:
    made(tmp_path / "a.tif", np.full((3, HEIGHT, WIDTH), 200, np.uint8))
    assert painted(found([tmp_path / "a.tif"])).picture.valid.mean() == pytest.approx(0.5, abs=0.01)


@fault("GDAL's MBTiles show an animated WebP as nothing, and it is kept as a picture")
def test_an_animated_tile_is_shown_or_refused() -> None:
    first, second = Image.fromarray(pixels_of(1, 2)), Image.fromarray(pixels_of(3, 4))
    written = io.BytesIO()
    first.save(written, "WEBP", save_all=True, append_images=[second], duration=10, lossless=True)
    with serving(lambda z, x, y: body(written.getvalue())) as server:
        try:
            sheets = found_sheets([ImagerySource(server.template, rate_per_s=1000.0)], ONE_TILE, 256)
        except SourceError:
            return
    assert painted(sheets, ONE_TILE, 256).picture.valid.all()


@fault("GDAL's MBTiles draw the transparent colour of an RGB PNG; only grey ones are written anew")
def test_the_transparent_colour_of_a_tile_is_a_hole() -> None:
    pixels = pixels_of(1, 2)
    pixels[:128] = (255, 255, 255)
    picture = encoded(pixels, transparency=(255, 255, 255))
    with serving(lambda z, x, y: body(picture)) as server:
        sheets = found_sheets([ImagerySource(server.template, rate_per_s=1000.0)], ONE_TILE, 256)
    assert not painted(sheets, ONE_TILE, 256).picture.valid[:128].any()


@fault("what the cache says of a tile is believed; GDAL shows one that is cut off or gone as no picture")
@pytest.mark.parametrize(
    "damage", ["UPDATE tiles SET tile_data = substr(tile_data, 1, 200)", "DELETE FROM tiles"]
)
def test_a_cache_whose_tiles_are_damaged_is_found_out(tmp_path: Path, damage: str) -> None:
    with serving(made_up()) as server:
        source = ImagerySource(server.template, rate_per_s=1000.0)
        found_sheets([source], ONE_TILE, 256)
        (cache,) = tmp_path.rglob("*.mbtiles")
        with sqlite3.connect(cache) as database:
            database.execute(damage)
        try:
            sheets = found_sheets([source], ONE_TILE, 256)
        except SourceError:
            return
        after = painted(sheets, ONE_TILE, 256)
    assert after.failed.all() or after.picture.valid.all()


@fault("a sheet of 0 to 360 degrees meets the region, and none of its pixels is found")
def test_degrees_beyond_180_are_shown_or_told(tmp_path: Path) -> None:
    place = Affine(5e-5, 0, 360 - 71.03, 0, -5e-5, 42.33)
    path = sheet(tmp_path / "a.tif", scene(1000, 1200), transform=place, crs="EPSG:4326")
    try:
        sheets = found([path], GRID, TILE)
    except SourceError:
        return
    assert painted(sheets).picture.valid.any()


@fault("pixels of which two sheets know the same 30 % are taken for known")
def test_the_same_third_of_a_pixel_twice_is_no_half(tmp_path: Path) -> None:
    pixel = GRID.cell / TILE
    place = PLACE @ Affine.scale(10.3 * pixel / 103, pixel)
    both = [sheet(tmp_path / f"{n}.tif", np.full((3, 64, 103), 50 + n, np.uint8), place) for n in (1, 2)]
    alone = painted(found(both[:1], GRID, TILE)).picture.valid
    assert painted(found(both, GRID, TILE)).picture.valid.sum() == alone.sum()


@fault("an index's folders are cut off: sheets of one name in two folders get each other's dates")
def test_dates_of_sheets_of_one_name_in_two_folders(tmp_path: Path) -> None:
    for year in ("2019", "2021"):
        sheet(tmp_path / year / "m_1.tif", np.full((3, 100, 100), 9, np.uint8))
    (tmp_path / "index.csv").write_text("name,taken\n2019/m_1.tif,2019-06-01\n2021/m_1.tif,2021-06-01\n")
    index = SheetIndex(path=str(tmp_path / "index.csv"), name="name", taken="taken")
    sheets = found([tmp_path / "*" / "m_1.tif"], index=index)
    assert [one.taken for one in sheets] == [("2019-06-01",) * 2, ("2021-06-01",) * 2]


# --- what decides the bytes is not in the plan


def _world_file(folder: Path, step: int) -> Path:
    path, left = folder / "a.tif", GRID.bounds.left + 100 * step
    if not step:
        plain = {"driver": "GTiff", "width": 200, "height": 200, "count": 3, "dtype": "uint8"}
        with rasterio.open(path, "w", crs=GRID.crs, **plain) as file:
            file.write(scene(200, 200))
    path.with_suffix(".tfw").write_text(f"1\n0\n0\n-1\n{left}\n{GRID.bounds.top}\n")
    return path


def _mask_beside(folder: Path, step: int) -> Path:
    path = folder / "a.tif"
    if not step:
        sheet(path, scene(HEIGHT, WIDTH))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
            file.write_mask(MASK)
        return path
    (folder / "a.tif.msk").unlink()
    return path


def _below_a_vrt(folder: Path, step: int) -> Path:
    below = sheet(folder / "below.tif", scene(HEIGHT, WIDTH, seed=step))
    if not step:
        vrt(folder / "a.vrt", "".join(band(n, below, n) for n in (1, 2, 3)))
    return folder / "a.vrt"


@fault("the identity of a sheet is that of its one file, and its place is not in the plan")
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("made", [_world_file, _mask_beside, _below_a_vrt])
def test_a_sheet_that_shows_otherwise_is_another_plan(
    tmp_path: Path, made: Callable[[Path, int], Path]
) -> None:
    path = made(tmp_path, 0)
    os.utime(path, ns=(1, 1))
    before = view_plans({"aerial": found([path])})
    path = made(tmp_path, 1)
    os.utime(path, ns=(1, 1))
    assert view_plans({"aerial": found([path])}) != before


@fault("the ETag of a catalogue's file is not asked for")
def test_another_file_in_its_place_is_another_plan(tmp_path: Path) -> None:
    known = []
    with serving_files(tmp_path) as served:
        one = item("a")
        Api(served, [one])
        one["assets"]["image"]["href"] = served.url("x.tif")
        for seed in (1, 2):
            sheet(tmp_path / "x.tif", scene(200, 200, seed=seed))
            sheets = found_sheets([ImagerySource("stac:" + served.url("v1"))], GRID, TILE)
            known.append(sheets.identities())
    assert known[0] != known[1]


@fault("an archive is unpacked for a plan too: what lies elsewhere is fetched")
def test_a_plan_of_an_archive_keeps_a_few_tiles(tmp_path: Path) -> None:
    header = {"tile_type": TileType.PNG, "tile_compression": Compression.NONE}
    with (tmp_path / "a.pmtiles").open("wb") as file:
        writer = Writer(file)
        for number in range(64):
            x, y = divmod(number, 8)
            writer.write_tile(zxy_to_tileid(3, x, y), encoded(pixels_of(x, y)))
        writer.finalize(header, {})
    with serving_files(tmp_path) as served:
        said = {"path": served.url("a.pmtiles")}
        region = region_of({"bbox": [-179, -84, 179, 84], "zoom": 3, "imagery": [said]})
        views_plan(region, region.grid(), 1)
    (cache,) = tmp_path.rglob("*.mbtiles")
    with sqlite3.connect(cache) as database:
        assert database.execute("SELECT COUNT(*) FROM tiles").fetchone()[0] <= SAMPLE_TILES


# --- errors that are none of ours


@fault("rasterio reads no bands of two types at once", ValueError)
def test_sixteen_bits_with_an_alpha_of_eight(tmp_path: Path) -> None:
    """What `gdalbuildvrt -addalpha` makes of sheets of 16 bits."""
    colours = sheet(tmp_path / "a.tif", scene(HEIGHT, WIDTH).astype(np.uint16) * 100)
    alpha = sheet(tmp_path / "alpha.tif", np.where(MASK, 255, 0).astype(np.uint8)[None])
    kinds = {1: "Red", 2: "Green", 3: "Blue"}
    bands = [band(n, colours, n, "UInt16", f"<ColorInterp>{kinds[n]}</ColorInterp>") for n in kinds]
    bands.append(band(4, alpha, 1, "Byte", "<ColorInterp>Alpha</ColorInterp>"))
    sheets = stretched(found([vrt(tmp_path / "a.vrt", "".join(bands))]), GRID, None)
    assert painted(sheets).picture.valid.mean() == pytest.approx(0.5, abs=0.01)


def _in_crs(wkt: str) -> Callable[[Path], Path]:
    return lambda folder: sheet(folder / "a.tif", scene(100, 100), crs=wkt)


def _placed(transform: Affine) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        below = sheet(folder / "below.tif", scene(100, 100))
        return vrt(folder / "a.vrt", "".join(band(n, below, n) for n in (1, 2, 3)), transform, 100, 100)

    return made


def _palette_of(dtype: str, number: int) -> Callable[[Path], Path]:
    table = (
        '<ColorInterp>Palette</ColorInterp><ColorTable><Entry c1="0" c2="0" c3="0" c4="255"/></ColorTable>'
    )

    def made(folder: Path) -> Path:
        below = sheet(folder / "below.tif", scene(100, 100))
        bands = [band(n, below, n, dtype, table if n == number else "") for n in range(1, 2 * number)]
        return vrt(folder / "a.vrt", "".join(bands), PLACE, 100, 100)

    return made


@fault("not asked about, and not caught", Exception)
@pytest.mark.parametrize(
    "made",
    [
        _in_crs('LOCAL_CS["arbitrary",UNIT["metre",1]]'),
        _in_crs(
            'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars",3396190,169.894]],'
            'PRIMEM["Reference_Meridian",0],UNIT["Degree",0.0174532925199433]]'
        ),
        _placed(Affine(1, 1, GRID.bounds.left, 1, 1, GRID.bounds.bottom)),
        _placed(Affine(1e300, 0, GRID.bounds.left, 0, -1e300, GRID.bounds.top)),
        _palette_of("Byte", 2),
        _palette_of("Float32", 1),
    ],
    ids=["local CRS", "Mars", "singular", "boundless", "palette of band 2", "palette of floats"],
)
def test_a_header_that_is_no_sheets_is_told(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    path = made(tmp_path)
    with suppress(SourceError):
        painted(stretched(found([path]), GRID, None))


@fault("a host, a port or a wait that Python's own parsers refuse end the run", Exception)
@pytest.mark.parametrize(
    "reply",
    [
        redirect("http://127.0.0.1:99999/"),
        redirect("http://xn--/"),
        status(429, Retry_After="Mon, 01 Jan 2026 00:00:00 +9999999999999999"),
    ],
    ids=["port", "host", "wait"],
)
def test_what_a_server_says_of_elsewhere_is_a_failure(reply: Any) -> None:
    with serving(lambda z, x, y: reply) as server, pytest.raises(SourceError):
        served_sheets(ImagerySource(server.template, rate_per_s=1000.0), ONE_TILE, 256, silent, ONCE)


@fault("addresses are split before they are checked", ValueError)
@pytest.mark.parametrize("path", ["http://[x/{z}/{x}/{y}.png", "http://[x/y.tif"])
def test_an_address_that_is_none_is_told(path: str) -> None:
    with pytest.raises(SourceError):
        found_sheets([ImagerySource(path)], GRID, TILE)


@fault("an archive's name is read as a host", ValueError)
def test_an_archive_may_have_brackets_in_its_name(tmp_path: Path, shared_data: Path) -> None:
    path = tmp_path / "tiles[1].pmtiles"
    path.write_bytes((shared_data / "tiles/archives/png.pmtiles").read_bytes())
    assert len(found_sheets([ImagerySource(str(path))], GRID, 256)) == 1


def _item_says(place: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda one, about: one["assets"]["image"].update({place: value})


def _collection_says(place: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda one, about: about.update({"license": "various", place: value})


@fault("parts of an item and of a collection are of any kind, outside of what catches that", Exception)
@pytest.mark.parametrize(
    "says",
    [
        _item_says("roles", [{}]),
        _item_says("href", "http://[::1/x.tif"),
        _collection_says("links", [1]),
        _collection_says("links", None),
        _collection_says("providers", [{"name": "x", "roles": [{}]}]),
    ],
    ids=["roles", "href", "links", "no links", "providers"],
)
def test_what_a_catalogue_may_say(tmp_path: Path, says: Callable[..., None]) -> None:
    with serving_files(tmp_path) as served:
        one, about = item("a"), copy.deepcopy(COLLECTION)
        Api(served, [one])
        says(one, about)
        served.always["/v1/collections/naip"] = answer(about)
        with suppress(SourceError):
            catalogue_sheets(ImagerySource("stac:" + served.url("v1")), GRID, silent, QUICK)


@fault("GDAL's own drivers for servers are opened like files: no rate, no contact, no leave asked")
def test_no_tile_server_is_asked_behind_our_manners(tmp_path: Path) -> None:
    with serving(made_up()) as server:
        path = tmp_path / "server.xml"
        path.write_text(
            f'<GDAL_WMS><Service name="TMS"><ServerUrl>{server.address}/${{z}}/${{x}}/${{y}}.png</ServerUrl>'
            "</Service><DataWindow><UpperLeftX>-20037508.34</UpperLeftX><UpperLeftY>20037508.34</UpperLeftY>"
            "<LowerRightX>20037508.34</LowerRightX><LowerRightY>-20037508.34</LowerRightY>"
            "<TileLevel>18</TileLevel><YOrigin>top</YOrigin></DataWindow><Projection>EPSG:3857</Projection>"
            "<BandsCount>3</BandsCount></GDAL_WMS>"
        )
        with suppress(SourceError):
            painted(found_sheets([ImagerySource(str(path))], ONE_TILE, 256), ONE_TILE, 256)
    assert all(agent.startswith("roadrisk/") for agent in server.agents)


# --- no end of it


@fault("compressed answers are unpacked without a bound: 500 bytes become 256 MB, twice as many layers all")
def test_an_answer_packed_twice_does_not_fill_the_memory() -> None:
    packed = gzip.compress(gzip.compress(bytes(256 << 20), 9), 9)

    def reply(handler: Any) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        handler.wfile.write(head.encode() + packed)
        handler.close_connection = True

    tracemalloc.start()
    try:
        with serving(lambda z, x, y: reply) as server, pytest.raises(SourceError):
            served_sheets(ImagerySource(server.template, rate_per_s=1000.0), ONE_TILE, 256, silent, ONCE)
        assert tracemalloc.get_traced_memory()[1] < 128 << 20
    finally:
        tracemalloc.stop()


@fault("a directory may unpack to 32 MB, of which 1.3 GB of arrays are made")
def test_a_directory_of_an_archive_does_not_fill_the_memory() -> None:
    entries = (31 << 20) // 4
    count = b"".join(bytes([entries >> shift & 127 | 128]) for shift in (0, 7, 14)) + bytes([entries >> 21])
    packed = gzip.compress(count + b"\1" * (4 * entries), 1)
    tracemalloc.start()
    try:
        directory_of(packed, Compression.GZIP)
    except Damaged:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 512 << 20


@fault("a view of an MBTiles that never ends is asked for all of it", subprocess.TimeoutExpired)
def test_an_archive_without_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "endless.mbtiles"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE metadata (name, value)")
        database.execute(
            "CREATE VIEW tiles AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            "SELECT i % 5 AS zoom_level, i AS tile_column, i AS tile_row, i AS tile_data FROM n"
        )
    script = (
        "import sys; from roadrisk.imagery.tiles.mbtiles_archive import mbtiles_archive\n"
        "try: mbtiles_archive(sys.argv[1])\nexcept Exception as error: print(type(error).__name__)"
    )
    command = [sys.executable, "-c", script, str(path)]
    assert subprocess.run(command, timeout=8, capture_output=True, text=True).stdout == "SourceError\n"


# --- what is said


@fault("reasons are told apart by their text, which names the first damaged pixel of each part")
def test_a_damaged_sheet_is_told_once(tmp_path: Path) -> None:
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 128.0, 2500, -36500, 1, 128)
    left, _, _, top = grid.bounds
    path = sheet(
        tmp_path / "a.tif",
        scene(128, 128 * 128),
        Affine(1, 0, left, 0, -1, top),
        grid.crs,
        tiled=True,
        blockxsize=128,
        blockysize=128,
        interleave="pixel",
        compress="zstd",
    )
    whole = bytearray(path.read_bytes())
    with rasterio.open(path) as file:
        places = [int(file.get_tag_item(f"BLOCK_OFFSET_{x}_0", "TIFF", bidx=1)) for x in (5, 60)]
    for place in places:
        whole[place : place + 40] = b"\xff" * 40
    path.write_bytes(whole)
    cut = cut_view(Target(tmp_path, "aerial", grid, 128, "plan"), found([path], grid, 128), 1)
    assert cut.failed.sum() == 2
    assert len(cut.reasons) == 1
