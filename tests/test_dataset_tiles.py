"""`tiles.parquet` is written in pieces, and is the file that geopandas would have written of the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import geopandas.testing
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from pyproj import CRS

from roadrisk.dataset import write_tiles
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell, grid_of_shape, grid_of_zoom

DES_MOINES = LngLatBbox(-93.7, 41.5, -93.5, 41.7)
GRIDS = [grid_of_cell(DES_MOINES, 333.3), grid_of_zoom(DES_MOINES, 14), grid_of_shape(DES_MOINES, 4, 3)]
LARGE = Grid("cell", "EPSG:32615", 0.0, 0.0, 10.0, 40_000, -450_000, 260, 260)  # more than one piece


def columns_of(grid: Grid) -> dict[str, Any]:
    """Every kind of value a tile can have, missing ones among them, late as well as early."""
    i = np.arange(grid.size)
    late = i >= grid.size - 2
    return {
        "metres": np.where(i % 3 == 0, np.nan, i * 0.1),
        "never": np.full(grid.size, np.nan),
        "dropped": i % 2 == 0,
        "count": i,
        "label": pd.array(np.where(late, True, None), dtype="boolean"),
        "years": pd.array(np.where(i % 5 == 0, None, i % 5), dtype="Int64"),
        "mode": np.where(late, "über", None),
        "nothing": np.full(grid.size, None),
    }


def frame_of(grid: Grid, columns: dict[str, Any]) -> pd.DataFrame:
    rows, cols = grid.every_tile()
    text = {name: pd.Series(columns[name], dtype="str") for name in ("mode", "nothing")}
    ids = {"tile_id": grid.tile_ids(rows, cols), "row": rows, "col": cols}
    return pd.DataFrame({**ids, **columns, **text})


@pytest.mark.parametrize("grid", [*GRIDS, LARGE], ids=lambda g: f"{g.scheme}-{g.size}")
def test_the_file_is_what_geopandas_writes_of_the_whole(grid: Grid, tmp_path: Path) -> None:
    columns = columns_of(grid)
    frame = frame_of(grid, columns)
    geometry = grid.cells(*grid.every_tile())
    geopandas.GeoDataFrame(frame, geometry=geometry, crs=grid.crs).to_parquet(
        tmp_path / "whole.parquet", index=False, schema_version="1.1.0", write_covering_bbox=True
    )
    write_tiles(tmp_path, columns, grid)
    ours, theirs = (geopandas.read_parquet(tmp_path / f"{name}.parquet") for name in ("tiles", "whole"))
    geopandas.testing.assert_geodataframe_equal(ours, theirs, check_dtype=False)
    assert ours.crs == theirs.crs
    assert (ours.to_wkb()["geometry"] == shapely.to_wkb(geometry)).all()
    names = list(frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tiles.parquet", columns=names), frame)
    metadata = [
        json.loads(pq.read_schema(tmp_path / f"{name}.parquet").metadata[b"geo"])
        for name in ("tiles", "whole")
    ]
    for geo in metadata:
        geo.pop("creator", None)
        geo["columns"]["geometry"].pop("orientation", None)
        assert CRS.from_json_dict(geo["columns"]["geometry"].pop("crs")) == CRS(grid.crs)
        np.testing.assert_allclose(geo["columns"]["geometry"].pop("bbox"), grid.bounds, rtol=1e-15)
    assert metadata[0] == metadata[1]


def test_many_tiles_are_many_row_groups_that_a_box_selects_from(tmp_path: Path) -> None:
    write_tiles(tmp_path, {}, LARGE)
    with pq.ParquetFile(tmp_path / "tiles.parquet") as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sum(sizes) == LARGE.size == 67_600
    assert len(sizes) == 2
    left, bottom, right, top = LARGE.tile_bounds(259, 257)
    found = geopandas.read_parquet(
        tmp_path / "tiles.parquet", bbox=(left + 1, bottom + 1, right - 1, top - 1)
    )
    assert found["tile_id"].tolist() == [LARGE.tile_id(259, 257)]


def test_polygons_turn_counter_clockwise_as_the_metadata_says(tmp_path: Path) -> None:
    write_tiles(tmp_path, {}, GRIDS[0])
    geo = json.loads(pq.read_schema(tmp_path / "tiles.parquet").metadata[b"geo"])
    assert geo["columns"]["geometry"]["orientation"] == "counterclockwise"
    rings = geopandas.read_parquet(tmp_path / "tiles.parquet").exterior
    assert rings.is_ccw.all()


def test_nothing_is_left_of_a_file_that_fails(tmp_path: Path) -> None:
    columns = columns_of(LARGE)
    columns["mode"][-1] = 7  # text, but for the last row of the second piece
    with pytest.raises(Exception, match="mode"):
        write_tiles(tmp_path, columns, LARGE)
    assert list(tmp_path.iterdir()) == []
