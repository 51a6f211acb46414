"""Pictures from `tile` to `score`: several views, their dates, their stretch, and what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from conftest import Run
from file_server import serving
from sheets import scene, sheet

from roadrisk.dataset import Dataset
from roadrisk.errors import DatasetError, ModelError, RegionError, SourceError, UsageError
from roadrisk.learning.settings import TrainSettings
from roadrisk.region import Region, read_region, region_of
from roadrisk.scoring import score
from roadrisk.sources.demo import Metro
from roadrisk.tiling import tile, tile_plan
from roadrisk.training import train

QUICK = TrainSettings(encoder="basic", folds=2, epochs=1)


def with_imagery(metro: Metro, *imagery: dict[str, Any], **more: Any) -> Region:
    """The made-up metro's region with other pictures."""
    region = read_region(metro.region)
    sources = region_of({"imagery": list(imagery)}).imagery
    return replace(region, imagery=sources, **more)


def sixteen_bit(metro: Metro, folder: Path, factor: int) -> Path:
    """The metro's sheets with values `factor` times as large."""
    folder.mkdir()
    for path in sorted(metro.imagery.glob("*.tif")):
        with rasterio.open(path) as source:
            profile = {**source.profile, "dtype": "uint16", "count": 3}
            with rasterio.open(folder / path.name, "w", **profile) as target:
                target.write(source.read([1, 2, 3]).astype(np.uint16) * factor)
    return folder


@pytest.fixture(scope="module")
def several(metro: Metro, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two views and the context of the first."""
    region = with_imagery(
        metro,
        {"path": str(metro.imagery), "taken": ["2019-04-01", "2019-05-02"]},
        {"path": str(metro.imagery), "view": "swapped", "bands": [3, 1, 2]},
        context=3,
    )
    return tile(region, tmp_path_factory.mktemp("several") / "d", workers=1).dataset


def test_every_source_goes_into_its_view(dataset: Dataset, several: Dataset) -> None:
    assert [v.name for v in several.views] == ["aerial", "swapped", "context"]
    plain, aerial, swapped = dataset.reader("aerial"), several.reader("aerial"), several.reader("swapped")
    seen = np.flatnonzero(several.tiles()["coverage_aerial"] > 0)
    for i in seen[::9]:
        row, col = divmod(int(i), several.grid.cols)
        np.testing.assert_array_equal(aerial.read(row, col), plain.read(row, col))
        np.testing.assert_array_equal(swapped.read(row, col), plain.read(row, col)[[2, 0, 1]])


def test_context_shows_the_neighbours_around_the_tile(several: Dataset) -> None:
    view = several.view("context")
    assert (view.neighbourhood, view.tile_size % 16) == (3, 0)
    reader = several.reader("context")
    row, col = 5, 6
    middle = slice(view.tile_size, 2 * view.tile_size)
    beside = slice(2 * view.tile_size, 3 * view.tile_size)
    assert reader.read(row, col).shape == (3, 3 * view.tile_size, 3 * view.tile_size)
    np.testing.assert_array_equal(
        reader.read(row, col)[:, middle, beside], reader.read(row, col + 1)[:, middle, middle]
    )
    # north of the first row there is nothing
    assert not reader.read(0, col)[:, : view.tile_size].any()


def test_a_whole_dataset_with_several_views(several: Dataset) -> None:
    there = {str(f.relative_to(several.path)) for f in several.path.rglob("*") if f.is_file()}
    assert there == {*several.manifest["files"], "dataset.json"}
    for view in several.views:
        with rasterio.open(several.path / f"views/{view.name}.vrt") as whole:
            assert whole.shape == tuple(side * view.tile_size for side in several.grid.shape)


def test_dates_are_columns_and_unknown_is_missing(several: Dataset) -> None:
    tiles = several.tiles()
    seen = tiles["coverage_aerial"] > 0
    assert seen.any()
    assert not seen.all()
    assert set(tiles.loc[seen, "taken_first_aerial"]) == {"2019-04-01"}
    assert set(tiles.loc[seen, "taken_last_aerial"]) == {"2019-05-02"}
    assert tiles.loc[~seen, ["taken_first_aerial", "taken_last_aerial"]].isna().all(axis=None)
    assert tiles[["taken_first_swapped", "taken_last_swapped"]].isna().all(axis=None)


def test_a_picture_taken_after_the_label_began_is_a_warning_that_stays(
    metro: Metro, tmp_path: Path, roadrisk: Callable[..., Run]
) -> None:
    sources = {"path": str(metro.imagery), "taken": ["2023-12-31", "2024-06-02"]}
    tiled = tile(with_imagery(metro, sources), tmp_path / "d", workers=1)
    seen = int((tiled.dataset.tiles()["coverage_aerial"] > 0).sum())
    warning = (
        f"aerial: the picture of {seen:,} tiles was taken after the label begins (2024-01-01); it may show what "
        "the crashes led to"
    )
    assert warning in tiled.lines()
    trained = train(tmp_path / "d", tmp_path / "m", QUICK)
    assert warning in trained.lines()
    score(tmp_path / "d", tmp_path / "m", [tmp_path / "risk.csv", tmp_path / "risk.gpkg"])
    layer = pd.read_csv(tmp_path / "risk.csv")
    pictured = layer["has_image"]
    assert set(layer.loc[pictured, "taken_last_aerial"]) == {"2024-06-02"}
    assert warning in roadrisk("info", tmp_path / "m").out
    before = {"path": str(metro.imagery), "taken": ["2023-12-31", "2023-12-31"]}
    assert not tile(with_imagery(metro, before), tmp_path / "b", workers=1).dataset.manifest["warnings"]


def test_the_stretch_goes_with_the_model_to_the_next_metro(metro: Metro, tmp_path: Path) -> None:
    here, there = sixteen_bit(metro, tmp_path / "here", 40), sixteen_bit(metro, tmp_path / "there", 90)
    first = tile(with_imagery(metro, {"path": str(here)}), tmp_path / "a", workers=1).dataset
    assert first.view("aerial").stretch is not None
    train(tmp_path / "a", tmp_path / "model", QUICK)
    own = tile(with_imagery(metro, {"path": str(there)}), tmp_path / "b", workers=1).dataset
    assert own.view("aerial").stretch != first.view("aerial").stretch
    with pytest.raises(ModelError) as caught:
        score(tmp_path / "b", tmp_path / "model", [tmp_path / "risk.csv"])
    assert str(caught.value) == (
        f"{tmp_path}/model was trained on other tiles than {tmp_path}/b has: its pictures are stretched "
        f"otherwise (tile with --stretch-of {tmp_path}/model); tile the region as the model's was, or train a "
        "model on it"
    )
    for known in ("model", "a"):
        region = with_imagery(metro, {"path": str(there)}, stretch_of=str(tmp_path / known))
        same = tile(region, tmp_path / f"by-{known}", workers=1).dataset
        assert same.view("aerial").stretch == first.view("aerial").stretch
        assert score(tmp_path / f"by-{known}", tmp_path / "model", [tmp_path / f"{known}.csv"])
    bright = same.reader("aerial").read(4, 4).mean()
    assert bright > first.reader("aerial").read(4, 4).mean()


def test_eight_bit_for_a_model_of_sixteen(metro: Metro, dataset: Dataset, tmp_path: Path) -> None:
    here = sixteen_bit(metro, tmp_path / "here", 40)
    tile(with_imagery(metro, {"path": str(here)}), tmp_path / "a", workers=1)
    train(tmp_path / "a", tmp_path / "model", QUICK)
    with pytest.raises(ModelError, match="its pictures are stretched otherwise"):
        score(dataset.path, tmp_path / "model", [tmp_path / "risk.csv"])
    train(dataset.path, tmp_path / "eight", QUICK)
    with pytest.raises(
        ModelError, match="its pictures are stretched from more than 8 bit, the model's were of 8"
    ):
        score(tmp_path / "a", tmp_path / "eight", [tmp_path / "risk.csv"])


def test_a_stretch_of_what_has_none(metro: Metro, dataset: Dataset, tmp_path: Path) -> None:
    region = with_imagery(metro, {"path": str(metro.imagery)}, stretch_of=str(dataset.path))
    with pytest.raises(RegionError) as caught:
        tile(region, tmp_path / "d", workers=1)
    assert str(caught.value) == (
        f"{dataset.path} knows no stretch of the view aerial; leave out --stretch-of, or name the model or dataset "
        "that was made with it"
    )


def test_training_on_a_named_view(several: Dataset, tmp_path: Path) -> None:
    for view in ("context", "swapped"):
        trained = train(several.path, tmp_path / view, replace(QUICK, views=(view,), block_m=512))
        assert trained.model.provenance["views"] == [view]
        scored = score(several.path, tmp_path / view, [tmp_path / f"{view}.csv"])
        assert scored.lines()
    with pytest.raises(DatasetError) as caught:
        train(several.path, tmp_path / "m", replace(QUICK, views=("lidar",)))
    assert str(caught.value) == f"{several.path} has no view 'lidar'; its views: aerial, swapped, context"
    with pytest.raises(UsageError, match="--views names a view twice"):
        train(several.path, tmp_path / "m", replace(QUICK, views=("aerial", "aerial")))


def test_scoring_needs_the_view_that_was_learned_from(
    dataset: Dataset, several: Dataset, tmp_path: Path
) -> None:
    train(several.path, tmp_path / "m", replace(QUICK, views=("swapped",)))
    with pytest.raises(ModelError, match="no view swapped"):
        score(dataset.path, tmp_path / "m", [tmp_path / "risk.csv"])


def test_jpeg_is_smaller_and_nearly_the_same(metro: Metro, dataset: Dataset, tmp_path: Path) -> None:
    region = replace(read_region(metro.region), compress="jpeg")
    small = tile(region, tmp_path / "d", workers=1).dataset
    assert small.view("aerial").compress == "jpeg"
    kept, exactly = (
        sum(f.stat().st_size for f in (d.path / "views/aerial").iterdir()) for d in (small, dataset)
    )
    assert kept < 0.7 * exactly
    for row, col in ((3, 3), (8, 12)):
        exact, near = (d.reader("aerial").read(row, col).astype(int) for d in (dataset, small))
        assert np.abs(exact - near).mean() < 6
        np.testing.assert_array_equal(
            dataset.reader("aerial").valid(row, col), small.reader("aerial").valid(row, col)
        )


@pytest.fixture
def damaged(metro: Metro, tmp_path: Path) -> Path:
    """The metro's sheets, one of them with a block in its middle that cannot be read."""
    folder = tmp_path / "sheets"
    folder.mkdir()
    for path in sorted(metro.imagery.glob("*.tif")):
        with rasterio.open(path) as source:
            options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
            with rasterio.open(folder / path.name, "w", **{**source.profile, **options}) as target:
                target.write(source.read())
                target.write_mask(source.read_masks(1))
    return folder


def broken_block(path: Path) -> None:
    """Overwrite a block's bytes in the middle of a sheet."""
    with rasterio.open(path) as source:
        rows, cols = (side // 64 // 2 for side in source.shape)
        offset = int(source.get_tag_item(f"BLOCK_OFFSET_{cols}_{rows}", "TIFF", bidx=1))
        size = int(source.get_tag_item(f"BLOCK_SIZE_{cols}_{rows}", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)


def test_a_damaged_block_fails_its_tiles_and_the_rest_goes_on(
    metro: Metro, dataset: Dataset, damaged: Path, tmp_path: Path
) -> None:
    broken_block(damaged / "north_east.tif")
    tiled = tile(with_imagery(metro, {"path": str(damaged)}), tmp_path / "d", workers=1)
    after, before = tiled.dataset.tiles()["coverage_aerial"], dataset.tiles()["coverage_aerial"]
    failed = np.flatnonzero(after.isna())
    # those it lies in, and those whose resampling reaches into it
    assert 1 <= len(failed) <= 9
    np.testing.assert_array_equal(after.drop(failed), before.drop(failed))
    said = next(line for line in tiled.lines() if "failed" in line)
    assert said.startswith(
        f"aerial: {len(failed)} tiles failed and count as without a picture: {damaged}/north_east.tif"
    )
    parts = pd.read_parquet(tmp_path / "d/views/aerial.parts.parquet")
    assert parts["failed_tiles"].sum() == len(failed)
    row, col = divmod(int(failed[0]), dataset.grid.cols)
    reader = tiled.dataset.reader("aerial")
    assert not reader.valid(row, col).any()
    assert not reader.read(row, col).any()
    # a tile that failed has no picture, as one that was never there
    trained = train(tmp_path / "d", tmp_path / "m", QUICK)
    assert trained.model.provenance["tiles_with_image"] < (before >= 0.9).sum()


def test_a_sheet_cut_short_is_an_error(metro: Metro, damaged: Path, tmp_path: Path) -> None:
    path = damaged / "north_east.tif"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    with pytest.raises(SourceError) as caught:
        tile(with_imagery(metro, {"path": str(damaged)}), tmp_path / "d", workers=1)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_dry_run_names_every_view(metro: Metro) -> None:
    region = with_imagery(
        metro,
        {"path": str(metro.imagery)},
        {"path": str(metro.imagery), "view": "swapped", "bands": [3, 1, 2]},
    )
    said = tile_plan(region, workers=1).lines()
    assert [line.split(":")[0] for line in said[1:]] == [
        "aerial",
        "aerial",
        "swapped",
        "swapped",
        "no dataset was written",
    ]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"context": 4}, "flags: --context 4 is even; the tile is in the middle of an odd number"),
        (
            {"context": 3, "imagery": [{"path": "x", "view": "context"}]},
            "flags: --context makes the view `context`; give the source's view another name",
        ),
        (
            {"imagery": [{"path": "x", "bands": [1, 2]}]},
            "flags: imagery: bands names one band or three, not 2",
        ),
        (
            {"imagery": [{"path": "x", "taken": ["2020-02-01", "2020-01-01"]}]},
            "flags: imagery: taken 2020-02-01 2020-01-01 ends before it starts",
        ),
    ],
)
def test_what_a_region_may_not_say(said: dict[str, Any], message: str) -> None:
    with pytest.raises(RegionError) as caught:
        region_of(said)
    assert str(caught.value) == message


def test_a_plan_with_other_bands_is_another_plan(metro: Metro, tmp_path: Path) -> None:
    tile(with_imagery(metro, {"path": str(metro.imagery)}), tmp_path / "d", workers=1)
    manifest = json.loads((tmp_path / "d/dataset.json").read_text())
    (tmp_path / "d/run.json").write_text(json.dumps(manifest["plan"]))
    (tmp_path / "d/dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"views.aerial.sheets\[0\].bands\[0\] was 1, now 3"):
        tile(with_imagery(metro, {"path": str(metro.imagery), "bands": [3, 1, 2]}), tmp_path / "d", workers=1)


def test_one_band_is_grey(metro: Metro, dataset: Dataset, tmp_path: Path) -> None:
    region = with_imagery(metro, {"path": str(metro.imagery), "bands": [2]})
    grey = tile(region, tmp_path / "d", workers=1).dataset.reader("aerial").read(4, 4)
    expected = dataset.reader("aerial").read(4, 4)[1]
    for band in grey:
        np.testing.assert_array_equal(band, expected)


def test_the_name_of_the_folder_is_no_part_of_the_plan(metro: Metro, tmp_path: Path) -> None:
    plans = [tile(read_region(metro.region), tmp_path / name, workers=1).dataset for name in ("a", "b")]
    assert plans[0].plan == plans[1].plan
    assert plans[0].view("aerial").digest == plans[1].view("aerial").digest


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"zoom": 18}, "{path} is no tile server and no archive of tiles; leave `zoom` out"),
        ({"tms": True}, "{path} is no tile server; leave `tms` out"),
    ],
)
def test_what_is_said_of_a_server_only(
    metro: Metro, tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(RegionError) as caught:
        tile(with_imagery(metro, {"path": str(metro.imagery), **said}), tmp_path / "d", workers=1)
    assert str(caught.value) == message.format(path=metro.imagery)


def test_a_stretch_of_nothing(metro: Metro, tmp_path: Path) -> None:
    region = with_imagery(metro, {"path": str(metro.imagery)}, stretch_of=f"{tmp_path}/no")
    with pytest.raises(RegionError) as caught:
        tile(region, tmp_path / "d", workers=1)
    assert str(caught.value) == (
        f"no such model or dataset: {tmp_path}/no; give --stretch-of the -o of `train` or `tile`"
    )


def test_a_finished_dataset_is_refused_before_anything_is_fetched(metro: Metro, tmp_path: Path) -> None:
    tile(read_region(metro.region), tmp_path / "d", workers=1)
    nowhere = with_imagery(metro, {"path": "http://127.0.0.1:9/{z}/{x}/{y}.png"})
    with pytest.raises(DatasetError, match="is a finished dataset; give --overwrite"):
        tile(nowhere, tmp_path / "d", workers=1)


def test_info_tells_of_dates_stretch_and_failures(
    metro: Metro, tmp_path: Path, roadrisk: Callable[..., Run]
) -> None:
    here = sixteen_bit(metro, tmp_path / "here", 40)
    sources = {"path": str(here), "taken": ["2019-04-01", "2019-05-02"]}
    tiled = tile(with_imagery(metro, sources), tmp_path / "d", workers=1)
    seen = int((tiled.dataset.tiles()["coverage_aerial"] > 0).sum())
    said = roadrisk("info", tmp_path / "d").out.splitlines()
    assert f"aerial: taken 2019-04-01 to 2019-05-02, known of {seen:,} tiles" in said
    assert any(line.startswith("aerial: stretched to 8 bit from ") for line in said)
    assert any("tiles failed" in line for line in said)


def test_a_picture_that_shows_nothing_of_the_region_is_told(metro: Metro, tmp_path: Path) -> None:
    west, south, east, north = metro.bbox
    place = Affine((east - west) / 500, 0, west + 360, 0, -(north - south) / 500, north)
    path = sheet(tmp_path / "a.tif", scene(500, 500), place, "EPSG:4326")
    tiled = tile(with_imagery(metro, {"path": str(path)}), tmp_path / "d", workers=1)
    told = "aerial: no tile shows anything: where they meet the grid, the sheets are blank or transparent"
    assert told in tiled.lines()


def test_a_dry_run_leaves_an_archive_elsewhere_alone(metro: Metro, tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        region = with_imagery(metro, {"path": served.url("a.pmtiles?sig=s3cr3t")})
        said = tile_plan(region, workers=1).lines()
    assert not served.requests
    assert said[1].endswith("a.pmtiles: what the region needs of it is fetched when it is tiled")
    assert "s3cr3t" not in "".join(said)
