"""Maps in unlucky hands: nothing that is read is written over, and no file leads to another."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from scored_examples import scored_at, scored_grid

from roadrisk.changing import compare
from roadrisk.errors import LayerError
from roadrisk.explaining import explain
from roadrisk.maps.layer_files import read_layer
from roadrisk.maps.layers import write_layers
from roadrisk.maps.places import given_points
from roadrisk.maps.reading import layer_at
from roadrisk.maps.vector_tiles import vector_tiles
from roadrisk.scorable import check_apart
from roadrisk.scoring import ScoreSettings, score


@pytest.fixture
def read(tmp_path: Path) -> Path:
    """A dataset, a model and roads, none of which is ever opened here."""
    for name in ("dataset/tiles.parquet", "model/report.html", "roads.gpkg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"kept")
    (tmp_path / "link").symlink_to("dataset", target_is_directory=True)
    (tmp_path / "other.gpkg").symlink_to("roads.gpkg")
    return tmp_path


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("dataset/tiles.parquet", "lies in .*dataset, which is read"),
        ("dataset/new.gpkg", "lies in .*dataset, which is read"),
        ("link/tiles.parquet", "lies in .*dataset, which is read"),
        ("dataset/../dataset/tiles.parquet", "lies in .*dataset, which is read"),
        ("model/report.html", "lies in .*model, which is read"),
        ("roads.gpkg", "roads.gpkg is what is read"),
        ("other.gpkg", "other.gpkg is what is read"),
    ],
)
def test_what_is_read_is_never_written_over(read: Path, out: str, told: str) -> None:
    with pytest.raises(LayerError, match=told):
        check_apart([read / "fine.gpkg", read / out], [read / "dataset", read / "model", read / "roads.gpkg"])


def test_files_beside_what_is_read_are_written(read: Path) -> None:
    check_apart([read / "dataset.gpkg", read / "model.html"], [read / "dataset", read / "model"])


def test_a_loop_of_links_is_no_input(read: Path) -> None:
    (read / "loop").symlink_to("loop")
    check_apart([read / "loop"], [read / "dataset"])


def test_score_looks_before_it_works(read: Path) -> None:
    data, model, roads = read / "dataset", read / "model", read / "roads.gpkg"
    with pytest.raises(LayerError, match=r"tiles\.parquet lies in"):
        score(data, model, [data / "tiles.parquet"])
    with pytest.raises(LayerError, match=r"report\.html lies in"):
        score(data, model, [model / "report.html"])
    with pytest.raises(LayerError, match=r"roads\.gpkg is what is read"):
        score(data, model, [roads], ScoreSettings(by="road", roads=roads))
    (read / "risk.top3.gpkg").symlink_to("roads.gpkg")
    with pytest.raises(LayerError, match=r"risk\.top3.gpkg is what is read"):
        score(data, model, [read / "risk.gpkg"], ScoreSettings(by="road", roads=roads, top=3))
    assert all(
        path.read_bytes() == b"kept" for path in (data / "tiles.parquet", model / "report.html", roads)
    )


def test_explain_looks_before_it_works(read: Path) -> None:
    for page in ("model/report.html", "dataset/why.html"):
        with pytest.raises(LayerError, match=r"html lies in .*, which is read; write it beside that folder"):
            explain(read / "dataset", read / "model", "1", read / page)


# files that say they are something else


@pytest.mark.parametrize("suffix", [".geojson", ".geojsonl", ".fgb", ".gpkg"])
@pytest.mark.parametrize("read", [layer_at, read_layer])
def test_a_file_that_names_another_is_not_followed(
    tmp_path: Path, suffix: str, read: Callable[[Path], object]
) -> None:
    write_layers(scored_grid(), [tmp_path / "other.gpkg"])
    path = tmp_path / f"vrt{suffix}"
    path.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="risk"><SrcDataSource>{tmp_path}/other.gpkg'
        "</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )
    with pytest.raises(LayerError, match=rf"it is no \{suffix} file"):
        read(path)


def test_a_raster_that_names_another_is_not_followed(tmp_path: Path) -> None:
    write_layers(scored_grid(), [tmp_path / "risk.tif"])
    with rasterio.open(tmp_path / "risk.tif") as raster:
        height, width = raster.shape
    path = tmp_path / "vrt.tif"
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{tmp_path}/risk.tif</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(LayerError, match=r"vrt\.tif cannot be read as a layer"):
        read_layer(path)


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".html", ".pmtiles"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    with pytest.raises(LayerError, match="is no file but a pipe or a device; write what it gives to a file"):
        read_layer(tmp_path / f"pipe{suffix}")


@pytest.mark.parametrize(
    "shape",
    [
        shapely.Point(200, 100),
        shapely.Point(1e300, 0),
        shapely.Polygon([(0, 0), (1, 0), (np.nan, 1), (0, 0)]),
    ],
)
def test_an_outline_beyond_the_world_is_refused(tmp_path: Path, shape: shapely.Geometry) -> None:
    path = tmp_path / "far.parquet"
    geopandas.GeoDataFrame({"risk": [0.5]}, geometry=[shape], crs=4326).to_parquet(path)
    with pytest.raises(
        LayerError, match="has an outline beyond the world or with a vertex that is no number"
    ):
        layer_at(path)


def test_layers_of_change_are_not_compared(tmp_path: Path) -> None:
    write_layers(scored_grid(), [tmp_path / "a.gpkg"])
    compare(tmp_path / "a.gpkg", tmp_path / "a.gpkg", [tmp_path / "c.gpkg"])
    with pytest.raises(LayerError, match="A has no risk; compare layers that `roadrisk score` wrote"):
        compare(tmp_path / "c.gpkg", tmp_path / "c.gpkg", [tmp_path / "d.gpkg"])
    assert not (tmp_path / "d.gpkg").exists()


def test_a_name_by_way_of_a_link_is_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(LayerError, match=r"is asked for twice; give every layer its own name"):
        write_layers(scored_grid(), [tmp_path / "real/a.csv", tmp_path / "link/a.csv"])
    assert not list((tmp_path / "real").iterdir())


def test_a_far_feature_does_not_make_an_archive_slow(tmp_path: Path) -> None:
    places = given_points([-71.1, 151.2], [42.3, -33.9])
    tiles = vector_tiles(scored_at(places, np.array(["a", "b"])))
    asked: list[int] = []
    meets = tiles.drawing.meets
    object.__setattr__(tiles.drawing, "meets", lambda z, x, y: asked.append(z) or meets(z, x, y))
    assert len(list(tiles.addresses(tiles.zooms[1]))) == 2
    # four children of each of two, at every zoom
    assert len(asked) <= 8 * 3 * (tiles.zooms[1] + 1)
