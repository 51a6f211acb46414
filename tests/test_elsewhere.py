"""Every form of a source ends as the same tiles: files, patterns, VRTs, HTTP, S3, STAC, archives."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import rasterio
from file_server import Reply, Served, serving
from numpy.typing import NDArray
from PIL import Image
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer
from rasterio.shutil import copy
from sheets import scene, sheet

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_zoom
from roadrisk.imagery.finding import found_sheets
from roadrisk.imagery.sheets import Sheets
from roadrisk.mosaic.warping import cut_part
from roadrisk.source_settings import ImagerySource

TILE = 64
GRID = grid_of_cell(LngLatBbox(-71.01, 42.30, -70.995, 42.31), 250)
XYZ = grid_of_zoom(LngLatBbox(-71.02, 42.31, -71.0, 42.32), 16)
WHOLE = scene(GRID.rows * TILE, GRID.cols * TILE)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Two halves of one scene, the north one on top."""
    half = GRID.rows // 2 * TILE
    place = GRID.picture_transform(TILE)
    sheet(
        tmp_path / "bucket" / "a" / "north.tif",
        WHOLE[:, :half],
        place,
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    below = place @ rasterio.Affine.translation(0, half)
    sheet(
        tmp_path / "bucket" / "b" / "south.tif",
        WHOLE[:, half:],
        below,
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    with serving(tmp_path) as server:
        yield server


def found(*paths: str, grid: Grid = GRID, tile: int = TILE) -> Sheets:
    return found_sheets([ImagerySource(path) for path in paths], grid, tile)


def tiles(sheets: Sheets, grid: Grid = GRID, tile: int = TILE) -> NDArray[np.uint8]:
    """(3, H, W) of the region, which has a picture everywhere."""
    (part,) = grid.parts(tile)
    picture = cut_part(sheets, grid, part, tile)
    assert picture.valid.all()
    return picture.pixels


def halves(served: Served) -> tuple[Path, Path]:
    return served.folder / "bucket" / "a" / "north.tif", served.folder / "bucket" / "b" / "south.tif"


def test_a_pattern_and_a_folder(served: Served) -> None:
    assert np.array_equal(tiles(found(f"{served.folder}/bucket/**/*.tif")), WHOLE)
    assert np.array_equal(tiles(found(*(str(half.parent) for half in halves(served)))), WHOLE)


def test_a_vrt_over_two_sheets(served: Served) -> None:
    north, south = halves(served)
    sources = "".join(
        f"<SimpleSource><SourceFilename relativeToVRT='1'>{path.relative_to(served.folder)}</SourceFilename>"
        f"<SourceBand>%d</SourceBand><SrcRect xOff='0' yOff='0' xSize='{WHOLE.shape[2]}' ySize='{height}'/><DstRect xOff='0' yOff='{y}' xSize='{WHOLE.shape[2]}' ySize='{height}'/></SimpleSource>"
        for path, y, height in (
            (north, 0, GRID.rows // 2 * TILE),
            (south, GRID.rows // 2 * TILE, WHOLE.shape[1] - GRID.rows // 2 * TILE),
        )
    )
    colours = ("Red", "Green", "Blue")
    bands = "".join(
        f"<VRTRasterBand dataType='Byte' band='{n}'><ColorInterp>{c}</ColorInterp>{sources.replace('%d', str(n))}</VRTRasterBand>"
        for n, c in enumerate(colours, 1)
    )
    geo = ",".join(str(number) for number in GRID.picture_transform(TILE).to_gdal())
    vrt = served.folder / "both.vrt"
    vrt.write_text(
        f"<VRTDataset rasterXSize='{WHOLE.shape[2]}' rasterYSize='{WHOLE.shape[1]}'><SRS>{GRID.crs}</SRS>"
        f"<GeoTransform>{geo}</GeoTransform>{bands}</VRTDataset>"
    )
    assert np.array_equal(tiles(found(str(vrt))), WHOLE)


def test_cogs_by_http(served: Served) -> None:
    for half in halves(served):
        copy(half, served.folder / f"{half.stem}-cog.tif", driver="COG", compress="DEFLATE", blocksize=128)
    sheets = found(*(served.url(f"{half.stem}-cog.tif?sig=SECRET") for half in halves(served)))
    assert np.array_equal(tiles(sheets), WHOLE)
    assert {r.path.partition("?")[0] for r in served.requests} == {"/north-cog.tif", "/south-cog.tif"}
    assert all("etag" in identity for identity in sheets.identities())
    assert "SECRET" not in repr((sheets.identities(), sheets.understood, sheets.rights))


def test_s3(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_ENDPOINT", f"127.0.0.1:{served.port}")
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    # whom GDAL asks for a key
    monkeypatch.setenv("CPL_AWS_EC2_API_ROOT_URL", served.url("keys"))
    sheets = found("s3://bucket/a/north.tif", "s3://bucket/b/south.tif")
    assert np.array_equal(tiles(sheets), WHOLE)
    assert [identity["path"] for identity in sheets.identities()] == [
        "s3://bucket/a/north.tif",
        "s3://bucket/b/south.tif",
    ]
    assert {request.path for request in served.requests} == {"/bucket/a/north.tif", "/bucket/b/south.tif"}


def test_a_stac_search(served: Served) -> None:
    for name, year in (("north", 2019), ("south", 2021)):
        document = {
            "type": "Feature",
            "id": name,
            "collection": "ortho",
            "properties": {"datetime": f"{year}-06-01T00:00:00Z"},
            "links": [],
            "assets": {
                "image": {"href": f"../bucket/{'a' if name == 'north' else 'b'}/{name}.tif?sig=SECRET"}
            },
        }
        (served.folder / "stac").mkdir(exist_ok=True)
        (served.folder / "stac" / f"{name}.json").write_text(json.dumps(document))
    links = [{"rel": "item", "href": f"{name}.json"} for name in ("north", "south")]
    catalog = {"type": "Catalog", "id": "c", "links": links}
    (served.folder / "stac" / "catalog.json").write_text(json.dumps(catalog))
    sheets = found(f"stac:{served.url('stac/catalog.json')}?collections=ortho")
    assert np.array_equal(tiles(sheets), WHOLE)
    assert [one.taken for one in sheets] == [("2019-06-01", "2019-06-01"), ("2021-06-01", "2021-06-01")]
    assert "taken 2019-06-01 to 2021-06-01" in sheets.understood
    assert "SECRET" not in repr((sheets.identities(), sheets.understood))


def cut_in_tiles(whole: NDArray[np.uint8]) -> Iterator[tuple[int, int, bytes]]:
    for row in range(XYZ.rows):
        for col in range(XYZ.cols):
            pixels = whole[:, row * 256 : row * 256 + 256, col * 256 : col * 256 + 256]
            written = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1))).save(written, "PNG")
            yield XYZ.x0 + col, XYZ.y0 + row, written.getvalue()


def test_archives_of_tiles(tmp_path: Path) -> None:
    whole = scene(XYZ.rows * 256, XYZ.cols * 256)
    cut = list(cut_in_tiles(whole))
    with (tmp_path / "x.pmtiles").open("wb") as opened:
        writer = Writer(opened)
        for tile, body in sorted((zxy_to_tileid(16, x, y), body) for x, y, body in cut):
            writer.write_tile(tile, body)
        writer.finalize(
            {"tile_type": TileType.PNG, "tile_compression": Compression.NONE}, {"attribution": "A"}
        )
    with closing(sqlite3.connect(tmp_path / "x.mbtiles")) as database, database:
        database.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        database.execute(
            "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)"
        )
        rows = [(16, x, 2**16 - 1 - y, body) for x, y, body in cut]
        database.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", rows)
    with serving(tmp_path) as server:
        for path in (str(tmp_path / "x.pmtiles"), str(tmp_path / "x.mbtiles"), server.url("x.pmtiles")):
            sheets = found(path, grid=XYZ, tile=256)
            assert np.array_equal(tiles(sheets, XYZ, 256), whole)
    assert sheets.rights[0].attribution == "A"


def test_a_real_cog_by_http_has_the_pixels_of_the_file(shared_data: Path) -> None:
    folder, name = shared_data / "tiles" / "naip_cog", "usda_naip_256_lzw_z3.tif"
    with rasterio.open(folder / name) as source:
        box = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    middle = LngLatBbox(*(np.mean([box[n % 2], box[n % 2 + 2]]) + (n // 2 - 0.5) * 0.001 for n in range(4)))
    grid = grid_of_zoom(middle, 18)
    (part,) = grid.parts(256)
    with serving(folder) as server:
        there = cut_part(found(server.url(name), grid=grid, tile=256), grid, part, 256)
    here = cut_part(found(str(folder / name), grid=grid, tile=256), grid, part, 256)
    assert here.valid.any()
    assert np.array_equal(there.pixels, here.pixels)
    assert np.array_equal(there.valid, here.valid)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(404), "{path} cannot be had (404 Not Found); check the address and your leave to read it"),
        (Reply(403), "{path} cannot be had (403 Forbidden); check the address and your leave to read it"),
    ],
)
def test_a_picture_that_cannot_be_had_is_told(served: Served, reply: Reply, why: str) -> None:
    served.always["/x.tif"] = reply
    with pytest.raises(SourceError) as error:
        found(served.url("x.tif?sig=SECRET"))
    assert str(error.value) == why.format(path=served.url("x.tif"))


def test_a_page_in_place_of_a_picture_is_told(served: Served) -> None:
    served.always["/x.tif"] = Reply(200, b"<html>sign in</html>")
    with pytest.raises(SourceError) as error:
        found(served.url("x.tif?sig=SECRET"))
    assert "is not a raster that GDAL opens" in str(error.value)
    assert "SECRET" not in str(error.value)
    assert "\n" not in str(error.value)
