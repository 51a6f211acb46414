"""A finished dataset gains a view and its columns, or loses them, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import roadrisk.dataset
from roadrisk.amending import with_views, without_views
from roadrisk.columns import Column
from roadrisk.dataset import Dataset, View, read_dataset

SEEN = Column("seen_road_m", "float64", "m", "feature", "sum", "Metres.", "seen_roads")
VIEW = View("roads", 256, 0.9, "d1", plan="p1", coverage="coverage_seen_roads")


@pytest.fixture
def copied(dataset: Dataset, tmp_path: Path) -> Dataset:
    shutil.copytree(dataset.path, tmp_path / "d")
    return read_dataset(tmp_path / "d")


def amended(copied: Dataset) -> Dataset:
    (copied.path / "views/roads.parts.parquet").write_bytes(b"parts")
    values = np.arange(copied.grid.size) * 0.5
    return with_views(copied, [VIEW], [(SEEN, values)], ["views/roads.parts.parquet"], {"model": "m"})


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_view_comes_and_all_else_stays(copied: Dataset) -> None:
    before, table = copied.tiles(), pq.read_table(copied.path / "tiles.parquet")
    after = amended(copied)
    assert after.view("roads") == VIEW
    assert after.manifest["drawn"] == {"roads": {"model": "m", "columns": ["seen_road_m"]}}
    pd.testing.assert_frame_equal(after.tiles()[before.columns], before)
    assert after.tiles()["seen_road_m"].tolist() == (np.arange(copied.grid.size) * 0.5).tolist()
    # to the type and the geometry: what a GIS reads is as it was
    now = pq.read_table(copied.path / "tiles.parquet").select(table.column_names)
    assert now.schema.remove_metadata().equals(table.schema.remove_metadata())
    assert now.equals(table)
    kept = {
        key: value
        for key, value in after.manifest.items()
        if key not in ("views", "columns", "files", "drawn")
    }
    assert kept == {key: copied.manifest[key] for key in kept}


def test_it_goes_as_it_came(copied: Dataset) -> None:
    before = bytes_of(copied.path)
    left = without_views(amended(copied), ["roads"], ["views/roads.parts.parquet"])
    assert [view.name for view in left.views] == [view.name for view in copied.views]
    after = bytes_of(copied.path)
    assert after.keys() == before.keys()
    assert json.loads(after["dataset.json"]) == {**json.loads(before["dataset.json"]), "drawn": {}}
    # the table of tiles may hold columns that nobody names any more
    assert {k: v for k, v in after.items() if k not in ("dataset.json", "tiles.parquet")} == {
        k: v for k, v in before.items() if k not in ("dataset.json", "tiles.parquet")
    }
    pd.testing.assert_frame_equal(left.tiles(), copied.tiles())


def test_what_others_put_beside_its_parts_stays(copied: Dataset) -> None:
    view = amended(copied)
    (copied.path / "views/roads").mkdir()
    for name in ("r00000c00000.tif", "r00000c00000.tif.aux.xml"):
        (copied.path / "views/roads" / name).write_bytes(b"")
    without_views(view, ["roads"], ["views/roads.parts.parquet", "views/roads/r00000c00000.tif"])
    assert [f.name for f in (copied.path / "views/roads").iterdir()] == ["r00000c00000.tif.aux.xml"]


def test_stopped_before_the_manifest_the_dataset_is_as_it_was(
    copied: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(roadrisk.dataset, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        amended(copied)
    again = read_dataset(copied.path)
    assert again.manifest == copied.manifest
    pd.testing.assert_frame_equal(again.tiles(), copied.tiles())
