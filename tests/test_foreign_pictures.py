"""Pictures are data from anywhere: they lead to no file here, to no server, to no secret, and to no traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from file_server import Reply, Served
from file_server import serving as serving_files
from rasterio.errors import RasterioError
from sheets import GRID, PLACE, found, scene, sheet, vrt, vrt_band
from test_catalogues import Api, item
from tile_server import made_up, serving

from roadrisk.errors import SourceError
from roadrisk.imagery.finding import found_sheets
from roadrisk.imagery.names import gdal_name, public_name
from roadrisk.imagery.remote import REMOTE_OPTIONS, opened
from roadrisk.source_settings import ImagerySource, SheetIndex

TILE = 64
SECRET = "s3cr3t"
NO_POSITION = "has no position; write it into the file: gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM"
NO_WAY = "has a CRS from which nothing leads to the region's; write the right one into the file"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "served").mkdir()
    with serving_files(tmp_path / "served") as server:
        yield server


def message(path: str | Path, **said: object) -> str:
    with pytest.raises(SourceError) as caught:
        found_sheets([ImagerySource(str(path), **said)], GRID, TILE)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _of_a_file_here(folder: Path) -> bytes:
    """A VRT whose pixels are the bytes of a private file."""
    private = folder / "private.txt"
    private.write_text("what nobody else is to see " * 100)
    raw = (
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="0">{private}</SourceFilename><ImageOffset>0</ImageOffset>'
        "<PixelOffset>1</PixelOffset><LineOffset>40</LineOffset></VRTRasterBand>"
    )
    path = vrt(folder / "evil.vrt", raw, 40, 50, PLACE @ Affine.scale(50))
    assert found([path], GRID, TILE)
    return path.read_bytes()


@pytest.mark.parametrize("form", ["stac", "https"])
def test_a_vrt_from_elsewhere_is_no_picture(served: Served, tmp_path: Path, form: str) -> None:
    served.always["/evil.tif"] = Reply(200, _of_a_file_here(tmp_path), {"ETag": '"1"'})
    one = item("a")
    Api(served, [one])
    one["assets"]["image"]["href"] = served.url("evil.tif")
    said = message(f"stac:{served.url('v1')}" if form == "stac" else served.url("evil.tif"))
    assert said.startswith(f"{served.url('evil.tif')} is not a raster that GDAL opens; ")


def test_a_picture_from_elsewhere_keeps_to_itself(served: Served, tmp_path: Path) -> None:
    private = sheet(tmp_path / "private.tif", np.full((3, 200, 200), 77, np.uint8))
    evil = sheet(served.folder / "evil.tif", scene(400, 400))
    with rasterio.open(evil, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(private))
    with opened(str(evil), overview_level=0) as here:
        assert (here.read(1) == 77).all()
    with (
        pytest.raises(RasterioError, match="names another file for its overviews"),
        opened(gdal_name(served.url("evil.tif"))),
    ):
        pass
    assert "(it names another file for its overviews)" in message(served.url("evil.tif"))


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
        assert message(path) == (
            f"{path} describes a server, which is asked in our own manners alone; give the address of its "
            "tiles: https://HOST/{z}/{x}/{y}.png"
        )
        # nor does what is not found out beforehand get through
        with pytest.raises(RasterioError), opened(str(path)):
            pass
    assert not server.agents


@pytest.mark.parametrize(
    "name", ["WMTS:http://127.0.0.1:1/x?key=s3cr3t", "WMS:http://127.0.0.1:1/?SERVICE=WMS&token=s3cr3t"]
)
def test_a_server_by_its_name_of_gdals(name: str) -> None:
    said = message(name)
    assert " describes a server, which is asked in our own manners alone; " in said
    assert SECRET not in said


def test_an_index_of_other_sheets_does_not_show_a_signature(served: Served, tmp_path: Path) -> None:
    sheet(served.folder / "x.tif", scene(200, 200))
    (tmp_path / "index.csv").write_text("name,taken\nother,2020-01-01\n")
    index = SheetIndex(path=str(tmp_path / "index.csv"), name="name", taken="taken")
    assert message(served.url(f"x.tif?sig={SECRET}"), index=index) == (
        f"{tmp_path}/index.csv names none of the sheets of {served.url('x.tif')}: it has other, they are x; name "
        "its column of file names with index.name"
    )


@pytest.mark.parametrize(
    "path",
    [
        f"postgresql://me:{SECRET}@127.0.0.1:1/x",
        f"/vsicurl?header.Authorization=Bearer%20{SECRET}&max_retry=0&url=http%3A%2F%2F127.0.0.1%3A1%2Fx.tif",
        f"/vsicurl_streaming/http://me:{SECRET}@127.0.0.1:1/x.tif",
        f"/vsizip//vsicurl/http://127.0.0.1:1/x.zip?sig={SECRET}/a.tif",
    ],
)
def test_no_name_of_gdals_shows_its_secrets(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REMOTE_OPTIONS, "GDAL_HTTP_MAX_RETRY", 0)
    assert SECRET not in message(path)


@pytest.mark.parametrize(
    ("name", "public"),
    [
        (f"/vsicurl?header.X=Bearer {SECRET}&url=http%3A%2F%2Fa.example%2Fx.tif%3Fsig%3D{SECRET}", "http://a.example/x.tif"),
        (f"/vsicurl?header.X=Bearer {SECRET}", "/vsicurl"),
        (f"cannot open /vsiaz/c/x.tif?sig={SECRET} (403)", "cannot open /vsiaz/c/x.tif (403)"),
        ("/vsizip/naip/x.zip/what?.tif", "/vsizip/naip/x.zip/what?.tif"),
    ],
)  # fmt: skip
def test_names_of_gdals_as_anybody_may_see_them(name: str, public: str) -> None:
    assert public_name(name) == public


def _in_crs(wkt: str) -> Callable[[Path], Path]:
    return lambda folder: sheet(folder / "a.tif", scene(100, 100), crs=wkt)


def _placed(transform: Affine) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        below = sheet(folder / "below.tif", scene(100, 100))
        return vrt(folder / "a.vrt", "".join(vrt_band(n, below, n) for n in (1, 2, 3)), 100, 100, transform)

    return made


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (_in_crs('LOCAL_CS["arbitrary",UNIT["metre",1]]'), NO_WAY),
        (
            _in_crs(
                'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars",3396190,169.894]],'
                'PRIMEM["Reference_Meridian",0],UNIT["Degree",0.0174532925199433]]'
            ),
            NO_WAY,
        ),
        (_placed(Affine(1, 1, GRID.bounds.left, 1, 1, GRID.bounds.bottom)), NO_POSITION),
        (_placed(Affine(1e300, 0, GRID.bounds.left, 0, -1e300, GRID.bounds.top)), NO_POSITION),
    ],
    ids=["local CRS", "Mars", "singular", "boundless"],
)
def test_a_place_that_is_none_is_told(tmp_path: Path, made: Callable[[Path], Path], why: str) -> None:
    path = made(tmp_path)
    assert message(path).startswith(f"{path} {why}")


@pytest.mark.parametrize(("dtype", "number", "count"), [("Byte", 2, 3), ("Byte", 1, 3), ("Float32", 1, 1)])
def test_a_palette_of_what_is_no_index_is_passed_over(
    tmp_path: Path, dtype: str, number: int, count: int
) -> None:
    table = (
        '<ColorInterp>Palette</ColorInterp><ColorTable><Entry c1="0" c2="0" c3="0" c4="255"/></ColorTable>'
    )
    below = sheet(tmp_path / "below.tif", scene(100, 100))
    bands = [vrt_band(n, below, n, dtype, table if n == number else "") for n in range(1, count + 1)]
    (one,) = found([vrt(tmp_path / "a.vrt", "".join(bands), 100, 100)])
    assert (one.bands.colours, one.bands.palette) == (tuple(range(1, count + 1)), False)
