"""`roadrisk view`: what it is given and what it answers."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import geopandas
import mercantile
import numpy as np
import pandas as pd
import pytest
import shapely
from metro_examples import changed
from scored_examples import HOSTILE, scored_at
from served_examples import Served, scored_file, served_beside, serving

from roadrisk.dataset import Dataset
from roadrisk.errors import DatasetError, LayerError, UsageError
from roadrisk.grid import Grid
from roadrisk.map_site import site_at
from roadrisk.maps.layers import write_layers
from roadrisk.maps.places import GivenShapes, GridTiles
from roadrisk.maps.reading import layer_at
from roadrisk.maps.served.answers import site_of
from roadrisk.maps.served.layers import served_layer
from roadrisk.maps.served.server import MapServer
from roadrisk.maps.vector_tiles import vector_tiles
from roadrisk.serving import view


@pytest.fixture(scope="module")
def layer_path(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored_file(dataset, tmp_path_factory.mktemp("layers"))


@pytest.fixture(scope="module")
def served(dataset: Dataset, layer_path: Path) -> Iterator[Served]:
    with served_beside(dataset, layer_path) as there:
        yield there


# ---- answers


def test_the_page_is_the_one_document(served: Served) -> None:
    answer = served.asked("/")
    page = answer.content.decode()
    assert answer.getheader("Content-Type") == "text/html; charset=utf-8"
    policy = answer.getheader("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert policy.endswith("; frame-ancestors 'none'")
    assert "unsafe" not in policy
    assert HOSTILE not in page
    config = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])
    assert config["mode"] == "served"
    assert config["views"] == ["aerial"]
    assert [layer["title"] for layer in config["layers"]] == [
        HOSTILE,
        f"Observed: {served.dataset.manifest['name']}",
    ]


def test_a_row_has_its_values_place_and_pictures(served: Served) -> None:
    grid, table = served.dataset.grid, served.layer.table
    for i in (0, 3, 100, 255):
        row = served.json(f"/layers/0/rows/{i}.json")
        known = [table[name].iloc[i] for name in table]
        assert row["values"] == [None if pd.isna(value) else value for value in known]
        square = grid.cells(*(np.array([at]) for at in divmod(i, grid.cols)), "EPSG:4326")[0]
        shown = shapely.from_geojson(json.dumps(row["geometry"]))
        assert shapely.hausdorff_distance(shown, square) < 2e-7
        assert square.contains(shapely.Point(row["centre"]))
        seen = served.dataset.reader("aerial").valid(*divmod(i, grid.cols)).any()
        assert row["pictures"] == (["aerial"] if seen else [])


def test_the_riskiest_come_in_order(served: Served) -> None:
    ranked = served.layer.table.dropna(subset="rank").sort_values("rank", kind="stable")
    first, later = (
        served.json("/layers/0/top.json?first=0&many=10"),
        served.json("/layers/0/top.json?first=10&many=300"),
    )
    assert [one["tile_id"] for one in first + later] == ranked["tile_id"].tolist()
    assert [one["rank"] for one in first] == list(range(1, 11))
    assert [one["value"] for one in first] == ranked["risk"].head(10).tolist()
    assert first[0]["class"] == 0
    assert served.json("/layers/0/top.json?first=9999") == []


def test_things_are_found_by_name_rank_and_place(served: Served) -> None:
    table = served.layer.table
    row = 77
    assert served.json(f"/layers/0/find.json?text={table['tile_id'][row]}") == {"row": row}
    third = int(np.flatnonzero(table["rank"].eq(3).fillna(value=False))[0])
    assert served.json("/layers/0/find.json?text=3") == {"row": third}
    lng, lat = served.json(f"/layers/0/rows/{row}.json")["centre"]
    for text in (f"{lng}, {lat}", f"{lat}, {lng}", f"%20{lat}%20{lng}"):
        found = served.json(f"/layers/0/find.json?text={text.replace(' ', '%20')}")
        assert found == {"point": [lng, lat], "row": row}
    for text in ("", "nowhere", "0,0", "99999", "1e3,4", HOSTILE.replace("<", "%3C").replace(" ", "%20")):
        assert served.json(f"/layers/0/find.json?text={text}") == {"row": None}


def test_a_layer_without_ranks_or_squares_is_asked_the_same_way() -> None:
    shapes = np.array(
        [
            shapely.box(0, 0, 2, 2) - shapely.box(0.5, 0.5, 1.5, 1.5),
            None,
            shapely.LineString([(3, 3), (4, 4)]),
        ]
    )
    made = scored_at(GivenShapes(shapes, "EPSG:4326"), np.array(["ring", "nowhere", "line"]))
    bare = replace(
        made,
        table=made.table.drop(columns=["rank", "tile_id"]),
        columns=tuple(c for c in made.columns if c.name not in ("rank", "tile_id")),
    )
    there = served_layer(bare)
    order = [one["row"] for one in there.top(0, 9)]
    assert [one["rank"] for one in there.top(0, 9)] == [1, 2, 3]
    assert order == made.table["rank"].sort_values().index.tolist()
    assert there.row(1)["centre"] is None
    assert there.row(1)["geometry"] is None
    assert there.find("0.2, 0.2") == {"point": [0.2, 0.2], "row": 0}
    assert there.find("1, 1") == {"point": [1.0, 1.0], "row": None}  # in the hole


def test_lines_and_points_are_found_from_beside_them() -> None:
    shapes = [
        shapely.LineString([(0, 0), (1, 0)]),
        shapely.Point(0.5, 0.002),
        shapely.box(0.5, 0.0031, 0.6, 1),
    ]
    for crs in ("EPSG:4326", "EPSG:3857"):
        placed = geopandas.GeoSeries(shapes, crs="EPSG:4326").to_crs(crs).to_numpy()
        there = served_layer(scored_at(GivenShapes(placed, crs), np.array(["line", "point", "area"])))
        for place, row in (
            ((0.3, 0.0008), 0),  # 89 m
            ((0.3, -0.0008), 0),
            ((0.3, 0.001), None),  # 111 m
            ((0.5, 0.0012), 1),  # nearer to the point
            ((0.55, 0.003), None),  # 11 m from the area, which is not there
            ((0.55, 0.0032), 2),
            ((1.0005, 0.0), 0),
        ):
            assert there.find(f"{place[0]}, {place[1]}") == {"point": [*place], "row": row}
        assert there.find("-0.0015, 0.5") == {"row": None}  # 167 m outside all


def test_a_part_of_a_layer_is_asked_by_the_ranks_among_all(served: Served) -> None:
    rank = served.layer.table["rank"]
    part = served_layer(served.layer.taken(np.flatnonzero(rank.between(20, 40).fillna(value=False))))
    row = part.find("30")["row"]
    assert part.layer.table["rank"][row] == 30
    assert part.row(row)["place"] == 10
    assert part.top(10, 1)[0]["row"] == row
    assert part.find("19") == {"row": None}
    unranked = int(np.flatnonzero(rank.isna())[0])
    assert served.json(f"/layers/0/rows/{unranked}.json")["place"] is None


def test_vector_tiles_are_the_layers_own(served: Served) -> None:
    own = vector_tiles(served.layer)
    zoom = own.zooms[1]
    for tile in mercantile.tiles(*own.bounds, zoom):
        path = f"/layers/0/{zoom}/{tile.x}/{tile.y}.mvt"
        packed, plain = served.asked(path, Accept_Encoding="gzip"), served.asked(path)
        assert packed.getheader("Content-Encoding") == "gzip"
        assert plain.getheader("Content-Encoding") is None
        assert gzip.decompress(packed.content) == plain.content == own.tile(zoom, tile.x, tile.y)
    away = served.asked(f"/layers/0/{zoom}/0/0.mvt")
    assert (away.status, away.content) == (204, b"")


def _decoded(answer: Any) -> np.ndarray:
    assert (answer.status, answer.getheader("Content-Type")) == (200, "image/webp")
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_pictures_are_the_datasets(served: Served) -> None:
    reader, grid = served.dataset.reader("aerial"), served.dataset.grid
    shown = 0
    for i in range(0, grid.size, 17):
        answer = served.asked(f"/pictures/aerial/{i}?layer={i % 2}")
        seen = reader.valid(*divmod(i, grid.cols))
        if not seen.any():
            assert answer.status == 404
            continue
        found = _decoded(answer)
        assert found.shape[:2] == seen.shape
        away = np.abs(found[..., 2::-1].astype(int) - reader.read(*divmod(i, grid.cols)).transpose(1, 2, 0))
        assert away[seen].mean() < 8  # WebP is not exact
        shown += 1
    assert shown > 5


def test_the_underlay_is_the_mosaic_where_it_lies(served: Served) -> None:
    """The colour of each tile of the grid, seen through the raster tiles at its middle."""
    grid, reader = served.dataset.grid, served.dataset.reader("aerial")
    lng, lat = grid.centres(*grid.every_tile(), "EPSG:4326")
    compared = 0
    for zoom in (14, 17):
        for i in range(5, grid.size, 29):
            if not reader.valid(*divmod(i, grid.cols)).all():
                continue
            tile = mercantile.tile(lng[i], lat[i], zoom)
            found = _decoded(served.asked(f"/underlay/{zoom}/{tile.x}/{tile.y}.webp"))
            assert found.shape[:2] == (256, 256)
            x, y = mercantile.xy(lng[i], lat[i])
            box = mercantile.xy_bounds(tile)
            px, py = (
                256 * (x - box.left) / (box.right - box.left),
                256 * (box.top - y) / (box.top - box.bottom),
            )
            reach = max(1, round(0.3 * 256 * grid.cell / (box.right - box.left)))
            left, top = int(px), int(py)
            part = found[max(0, top - reach) : top + reach, max(0, left - reach) : left + reach]
            side = reader.read(0, 0).shape[1]
            middle = np.s_[:, int(0.2 * side) : int(0.8 * side), int(0.2 * side) : int(0.8 * side)]
            there = reader.read(*divmod(i, grid.cols))[middle].mean(axis=(1, 2))
            assert np.abs(part[..., 2::-1].mean(axis=(0, 1)) - there).max() < 30
            compared += 1
    assert compared > 8
    away = served.asked("/underlay/14/0/0.webp")
    assert (away.status, away.content) == (204, b"")


def test_a_layer_without_pictures_has_none(layer_path: Path) -> None:
    site = site_of([served_layer(layer_at(layer_path))], None)
    with serving(site) as server:
        there = Served(server, None, None)  # type: ignore[arg-type]
        assert there.asked("/pictures/aerial/0?layer=0").status == 404
        assert there.asked("/underlay/0/0/0.webp").status == 204
        assert there.json("/layers/0/rows/0.json")["pictures"] == []


# ---- what it is given


def test_a_dataset_shows_what_was_observed(dataset: Dataset) -> None:
    (there,) = site_at([dataset.path], None, print).layers
    table, frame = there.layer.table, dataset.tiles()
    measure = dataset.manifest["label"]["measure"]
    eligible = frame["eligible"].to_numpy()
    assert there.layer.legend.title == "Observed"
    assert there.layer.legend.absent == "not observed"
    assert table["rank"].notna().tolist() == eligible.tolist()
    assert table["band"].notna().tolist() == eligible.tolist()
    most = frame[measure].where(eligible).max()
    assert table[measure][table["rank"] == 1].eq(most).all()
    assert "risk" not in table
    assert there.layer.about.risk_meaning.startswith(f"Observed, not risk; ranked by {measure}: ")
    assert set(frame.columns) - {"row", "col"} <= set(table.columns)
    assert there.pictures is not None


def test_a_dataset_without_a_label_has_no_colours(dataset: Dataset, tmp_path: Path) -> None:
    said: list[str] = []
    bare = changed(
        dataset,
        tmp_path / "bare",
        lambda manifest: manifest.update(
            label=None, columns=[c for c in manifest["columns"] if c["role"] != "label"]
        ),
    )
    (there,) = site_at([bare], None, said.append).layers
    assert there.config["absent"] == len(there.layer)
    assert said == [f"{bare} has no label of numbers: its tiles have no colour"]


def test_what_cannot_be_viewed_is_told(dataset: Dataset, layer_path: Path, tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"a\.gpkg is not there; give a map file or a dataset$"):
        view([tmp_path / "a.gpkg"], open_browser=False)
    with pytest.raises(DatasetError, match=r"is no dataset: it holds no dataset\.json"):
        view([tmp_path], open_browser=False)
    with pytest.raises(UsageError, match=r"^one or two layers are viewed, not 3"):
        view([layer_path] * 3, open_browser=False)
    with pytest.raises(UsageError, match=r"^--port 70000 is none; give one from 1 to 65535"):
        view([layer_path], port=70_000, open_browser=False)
    with MapServer(0) as taken, pytest.raises(LayerError, match=rf"^port {taken.port} cannot be used \("):
        view([layer_path], port=taken.port, open_browser=False)


@pytest.mark.parametrize("moved", [False, True], ids=["other names", "same names elsewhere"])
def test_a_dataset_of_another_region_is_refused(dataset: Dataset, tmp_path: Path, moved: bool) -> None:
    grid = dataset.grid
    away = replace(grid, x0=grid.x0 + 1000)
    names: Grid = grid if moved else away
    rows, cols = grid.every_tile()
    path = tmp_path / "a.gpkg"
    write_layers(scored_at(GridTiles(away, rows, cols), names.tile_ids(rows, cols)), [path])
    with pytest.raises(DatasetError) as caught:
        site_at([path], dataset.path, print)
    assert str(caught.value) == (
        f"the tiles of {path} are not those of {dataset.path}; give the dataset that it was scored from"
    )
